// SPDX-License-Identifier: GPL-2.0

//! Device memory is not mapped as memory that the CPU caches.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, Mapping, MmioPhys, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, range: MmioPhys<'_>) -> Result {
    Mapping::<Cpu<_>, ToDevice>::new(dev, range)?;
    //~^ ERROR E0277 `MmioPhys<'_>` is not memory that a DMA mapping can own
    Ok(())
}

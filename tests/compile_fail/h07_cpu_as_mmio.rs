// SPDX-License-Identifier: GPL-2.0

//! Memory that the CPU caches is not mapped as device memory.

use kernel::{
    device::{Bound, Device},
    dma::phys::{CpuPhys, Mapping, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, range: CpuPhys) -> Result {
    Mapping::<_, ToDevice>::new_mmio(dev, range)?;
    //~^ ERROR E0308 expected `MmioPhys<'_>`, found `CpuPhys`
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Memory of many ranges is not mapped as one range.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, Mapping, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, buffer: VVec<u8>) -> Result {
    Mapping::<Cpu<_>, ToDevice>::new(dev, buffer)?;
    //~^ ERROR E0277 is not memory that a DMA mapping can own
    Ok(())
}

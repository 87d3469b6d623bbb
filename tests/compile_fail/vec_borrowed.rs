// SPDX-License-Identifier: GPL-2.0

//! A vector that somebody else owns is not mapped: forgetting the mapping would leave it dangling.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, ToDevice, VecMapping},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, buffer: &mut VVec<u8>) -> Result {
    VecMapping::<Cpu<_>, ToDevice>::new(dev, buffer, GFP_KERNEL)?;
    //~^ ERROR E0277 is not memory of many ranges that a DMA mapping can own
    Ok(())
}

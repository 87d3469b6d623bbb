// SPDX-License-Identifier: GPL-2.0

//! A borrowed vector is not mapped: if the mapping is forgotten, the owner frees it while it is
//! mapped.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, Prepared, SgMapping, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, buffer: &mut VVec<u8>) -> Result {
    SgMapping::<Cpu<_>, ToDevice>::new(dev, buffer, GFP_KERNEL)?;
    //~^ ERROR E0277 is not memory of many ranges that a DMA mapping can own
    Ok(())
}

pub fn prepare(dev: &Device<Bound>, buffer: &mut VVec<u8>) -> Result {
    Prepared::new(dev, buffer, GFP_KERNEL)?;
    //~^ ERROR E0277 is not memory of many ranges that a DMA mapping can own
    Ok(())
}

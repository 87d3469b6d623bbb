// SPDX-License-Identifier: GPL-2.0

//! Borrowed memory is not mapped: if the mapping is forgotten, the owner frees it while it is
//! mapped.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, InFlight, Mapping, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, buffer: &mut KVec<u8>) -> Result {
    Mapping::<Cpu<_>, ToDevice>::new(dev, buffer)?;
    //~^ ERROR E0277 `&mut Vec<u8, Kmalloc>` is not memory that a DMA mapping can own
    Ok(())
}

pub fn submit(dev: &Device<Bound>, buffer: &[u8; 64]) -> Result<usize> {
    let map = InFlight::<Cpu<_>, ToDevice>::map(dev, buffer)?;
    //~^ ERROR E0277 `&[u8; 64]` is not memory that a DMA mapping can own
    Ok(map.size())
}

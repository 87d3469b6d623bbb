// SPDX-License-Identifier: GPL-2.0

//! Borrowed memory is not mapped: a forgotten mapping would outlive it.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, Mapping, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, buffer: &mut KVec<u8>) -> Result {
    Mapping::<Cpu<_>, ToDevice>::new(dev, buffer)?;
    //~^ ERROR E0277 `&mut Vec<u8, Kmalloc>` is not memory that a DMA mapping can own
    Ok(())
}

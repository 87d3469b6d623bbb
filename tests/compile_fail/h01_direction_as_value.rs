// SPDX-License-Identifier: GPL-2.0

//! `DMA_NONE` is not a direction of a mapping.

use kernel::{
    device::{Bound, Device},
    dma::{
        phys::{Cpu, Mapping},
        DataDirection,
    },
    prelude::*,
};

pub fn map(dev: &Device<Bound>, memory: KVec<u8>) -> Result {
    Mapping::<Cpu<_>, { DataDirection::None }>::new(dev, memory)?;
    //~^ ERROR E0747 constant provided when a type was expected
    Ok(())
}

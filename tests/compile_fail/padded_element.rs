// SPDX-License-Identifier: GPL-2.0

//! The device does not get padding bytes, which are uninitialised.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, Mapping, ToDevice},
    prelude::*,
    transmute::FromBytes,
};

#[repr(C)]
pub struct Padded {
    pub small: u8,
    pub large: u64,
}

// SAFETY: Any bytes are a `u8` and a `u64`.
unsafe impl FromBytes for Padded {}

pub fn map(dev: &Device<Bound>, memory: KVec<Padded>) -> Result {
    Mapping::<Cpu<_>, ToDevice>::new(dev, memory)?;
    //~^ ERROR E0277 AsBytes` is not implemented for `Padded`
    Ok(())
}

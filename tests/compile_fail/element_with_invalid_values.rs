// SPDX-License-Identifier: GPL-2.0

//! The device does not write values of a type that has invalid ones.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, FromDevice, Mapping},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, memory: KVec<bool>) -> Result {
    Mapping::<Cpu<_>, FromDevice>::new(dev, memory)?;
    //~^ ERROR E0277 FromBytes` is not implemented for `bool`
    Ok(())
}

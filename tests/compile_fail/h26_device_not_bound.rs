// SPDX-License-Identifier: GPL-2.0

//! Nothing is mapped for a device that may have no driver.

use kernel::{
    device::Device,
    dma::phys::{Cpu, Mapping, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device, memory: KVec<u8>) -> Result {
    Mapping::<Cpu<_>, ToDevice>::new(dev, memory)?;
    //~^ ERROR E0308 expected `&Device<Bound>`, found `&Device`
    Ok(())
}

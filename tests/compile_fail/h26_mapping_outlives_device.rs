// SPDX-License-Identifier: GPL-2.0

//! A mapping does not outlive the binding of its device.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, Mapping, ToDevice},
    faux,
    prelude::*,
};

pub fn map(owner: faux::Registration, memory: KVec<u8>) -> Result<usize> {
    let faux: &faux::Device<Bound> = owner.as_ref();
    let dev: &Device<Bound> = faux.as_ref();
    let map = Mapping::<Cpu<_>, ToDevice>::new(dev, memory)?;
    drop(owner);
    //~^ ERROR E0505 cannot move out of `owner` because it is borrowed
    Ok(map.size())
}

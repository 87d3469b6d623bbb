// SPDX-License-Identifier: GPL-2.0

//! Dropping a mapping uses the device.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, InFlight, Mapping, ToDevice},
    faux,
    prelude::*,
};

fn device(owner: &faux::Registration) -> &Device<Bound> {
    let faux: &faux::Device<Bound> = owner.as_ref();
    faux.as_ref()
}

pub fn map(memory: KVec<u8>) -> Result {
    let _map;
    let owner = faux::Registration::new(c"late", None)?;
    _map = Mapping::<Cpu<_>, ToDevice>::new(device(&owner), memory)?;
    //~^ ERROR E0597 `owner` does not live long enough
    Ok(())
}

pub fn submit(memory: KVec<u8>) -> Result {
    let _map;
    let owner = faux::Registration::new(c"late", None)?;
    _map = InFlight::<Cpu<_>, ToDevice>::map(device(&owner), memory)?;
    //~^ ERROR E0597 `owner` does not live long enough
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! What is mapped does not outlive the binding of its device.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, InFlight, Mapping, Part, ToDevice},
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

pub fn submit(
    dev: &Device<Bound>,
    memory: KVec<u8>,
) -> Result<InFlight<'static, Cpu<KVec<u8>>, ToDevice>> {
    Ok(InFlight::<Cpu<_>, _>::map(dev, memory)?)
    //~^ ERROR lifetime may not live long enough
}

pub fn part<'a>(
    map: &'a mut InFlight<'_, Cpu<KVec<u8>>, ToDevice>,
) -> Result<Part<'static, [u8], ToDevice>> {
    // SAFETY: The device does not access the bytes.
    unsafe { map.part(0..64) }
    //~^ ERROR lifetime may not live long enough
}

/// A state change keeps the device.
pub fn complete<'a>(
    map: InFlight<'a, Cpu<KVec<u8>>, ToDevice>,
) -> Mapping<'static, Cpu<KVec<u8>>, ToDevice> {
    // SAFETY: The device has finished.
    unsafe { map.complete() }
    //~^ ERROR lifetime may not live long enough
}

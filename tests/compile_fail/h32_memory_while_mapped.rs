// SPDX-License-Identifier: GPL-2.0

//! A mapping owns its memory: the memory is neither accessed nor freed beside it.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, FromDevice, InFlight, Mapping, Prepared, SgInFlight},
    prelude::*,
};

pub fn read(dev: &Device<Bound>, buffer: KVec<u8>) -> Result<u8> {
    let map = Mapping::<Cpu<_>, FromDevice>::new(dev, buffer)?;
    let first = buffer[0];
    //~^ ERROR E0382 borrow of moved value: `buffer`
    drop(map);
    Ok(first)
}

pub fn free(dev: &Device<Bound>, buffer: KVec<u8>) -> Result<usize> {
    let in_flight = InFlight::<Cpu<_>, FromDevice>::map(dev, buffer)?;
    drop(buffer);
    //~^ ERROR E0382 use of moved value: `buffer`
    Ok(in_flight.size())
}

pub fn read_list(dev: &Device<Bound>, buffer: VVec<u8>) -> Result<u8> {
    let buffer = Prepared::new(dev, buffer, GFP_KERNEL)?;
    let in_flight = SgInFlight::<Cpu<_>, FromDevice>::map_prepared(dev, buffer)?;
    let first = buffer[0];
    //~^ ERROR E0382 borrow of moved value: `buffer`
    assert_ne!(in_flight.size(), 0);
    Ok(first)
}

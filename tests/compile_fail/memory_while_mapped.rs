// SPDX-License-Identifier: GPL-2.0

//! The CPU has no access to memory while it is mapped.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, FromDevice, Mapping},
    prelude::*,
};

pub fn read(dev: &Device<Bound>, buffer: KVec<u8>) -> Result<u8> {
    let map = Mapping::<Cpu<_>, FromDevice>::new(dev, buffer)?;
    let first = buffer[0];
    //~^ ERROR E0382 borrow of moved value: `buffer`
    drop(map);
    Ok(first)
}

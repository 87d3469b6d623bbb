// SPDX-License-Identifier: GPL-2.0

//! The CPU has no access to a vector while it is mapped.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, FromDevice, SgMapping},
    prelude::*,
};

pub fn read(dev: &Device<Bound>, buffer: VVec<u8>) -> Result<u8> {
    let map = SgMapping::<Cpu<_>, FromDevice>::new(dev, buffer, GFP_KERNEL)?;
    let first = buffer[0];
    //~^ ERROR E0382 borrow of moved value: `buffer`
    drop(map);
    Ok(first)
}

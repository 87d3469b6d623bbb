// SPDX-License-Identifier: GPL-2.0

//! In a scope the memory is accessed only through the mapping.

use kernel::{
    device::{Bound, Device},
    dma::phys::{scope, FromDevice},
    prelude::*,
};

pub fn read(dev: &Device<Bound>, buffer: &mut KVec<u8>) -> Result<u8> {
    scope::<FromDevice, _, _>(dev, buffer, |_| Ok(buffer[0]))
    //~^ ERROR E0502 cannot borrow `*buffer` as immutable because it is also borrowed as mutable
}

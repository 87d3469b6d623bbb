// SPDX-License-Identifier: GPL-2.0

//! The CPU does not write to memory that only the device writes.

use kernel::{
    dma::phys::{Cpu, FromDevice, Mapping},
    prelude::*,
};

pub fn write(map: &mut Mapping<'_, Cpu<KVec<u8>>, FromDevice>) -> Result {
    map.cpu()?[0] = 1;
    //~^ ERROR E0594 trait `DerefMut` is required to modify through a dereference
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! The CPU does not write to memory if the direction may be that of the device.

use kernel::{
    dma::phys::{Cpu, Direction, Mapping},
    prelude::*,
};

pub fn write<D: Direction>(map: &mut Mapping<'_, Cpu<KVec<u8>>, D>) {
    map.fill(1);
    //~^ ERROR E0596 trait `DerefMut` is required to modify through a dereference
}

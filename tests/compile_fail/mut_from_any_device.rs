// SPDX-License-Identifier: GPL-2.0

//! Nor does it in a function that is generic over the direction.

use kernel::{
    dma::phys::{Cpu, Direction, Mapping},
    prelude::*,
};

pub fn write<D: Direction>(map: &mut Mapping<'_, Cpu<KVec<u8>>, D>) -> Result {
    map.cpu()?.fill(1);
    //~^ ERROR E0596 trait `DerefMut` is required to modify through a dereference
    Ok(())
}

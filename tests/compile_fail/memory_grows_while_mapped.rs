// SPDX-License-Identifier: GPL-2.0

//! A vector does not move its elements while they are mapped.

use kernel::{
    dma::phys::{Cpu, Mapping, ToDevice},
    prelude::*,
};

pub fn grow(map: &mut Mapping<'_, Cpu<KVec<u8>>, ToDevice>) -> Result {
    map.cpu()?.push(1, GFP_KERNEL)?;
    //~^ ERROR E0599 no method named `push` found
    Ok(())
}

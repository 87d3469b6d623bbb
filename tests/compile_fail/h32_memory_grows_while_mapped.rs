// SPDX-License-Identifier: GPL-2.0

//! A vector does not move its elements while they are mapped or prepared.

use kernel::{
    dma::phys::{Cpu, Mapping, Prepared, SgMapping, ToDevice},
    prelude::*,
};

pub fn grow(map: &mut Mapping<'_, Cpu<KVec<u8>>, ToDevice>) -> Result {
    map.push(1, GFP_KERNEL)?;
    //~^ ERROR E0599 no method named `push` found
    Ok(())
}

pub fn grow_list(map: &mut SgMapping<'_, Cpu<VVec<u8>>, ToDevice>) -> Result {
    map.push(1, GFP_KERNEL)?;
    //~^ ERROR E0599 no method named `push` found
    Ok(())
}

pub fn shrink_prepared(prepared: &mut Prepared<VVec<u8>>) {
    prepared.truncate(1);
    //~^ ERROR E0599 no method named `truncate` found
}

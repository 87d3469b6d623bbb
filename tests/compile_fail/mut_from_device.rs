// SPDX-License-Identifier: GPL-2.0

//! The CPU does not write to memory that only the device writes.

use kernel::{
    dma::phys::{Cpu, FromDevice, Mapping, PageBytes, Part, SgMapping},
    prelude::*,
};

pub fn write(map: &mut Mapping<'_, Cpu<KVec<u8>>, FromDevice>) {
    map[0] = 1;
    //~^ ERROR E0594 trait `DerefMut` is required to modify through a dereference
}

pub fn write_all(map: &mut Mapping<'_, Cpu<KBox<[u8; 64]>>, FromDevice>) {
    map.fill(1);
    //~^ ERROR E0596 trait `DerefMut` is required to modify through a dereference
}

pub fn write_list(map: &mut SgMapping<'_, Cpu<VVec<u8>>, FromDevice>) {
    map[0] = 1;
    //~^ ERROR E0594 trait `DerefMut` is required to modify through a dereference
}

pub fn write_page(map: &mut SgMapping<'_, Cpu<KVec<PageBytes>>, FromDevice>) -> Result {
    map.page_mut(0)?[0] = 1;
    //~^ ERROR E0599 `page_mut` exists for mutable reference
    Ok(())
}

pub fn write_part(part: &mut Part<'_, [u8], FromDevice>) {
    part[0] = 1;
    //~^ ERROR E0594 trait `DerefMut` is required to modify through a dereference
}

// SPDX-License-Identifier: GPL-2.0

//! A page in a mapped list of pages is not exchanged: the device would access one that was freed.

use core::mem::swap;
use kernel::{
    dma::phys::{Bidirectional, Cpu, PageBytes, Prepared, SgMapping},
    prelude::*,
};

pub type Pages<'a> = SgMapping<'a, Cpu<KVec<PageBytes>>, Bidirectional>;

pub fn exchange(map: &mut Pages<'_>, other: &mut PageBytes) {
    swap(&mut map[0], other);
    //~^ ERROR E0596 trait `DerefMut` is required to modify through a dereference
}

pub fn exchange_prepared(pages: &mut Prepared<KVec<PageBytes>>, other: &mut PageBytes) {
    swap(&mut pages[0], other);
    //~^ ERROR E0596 trait `DerefMut` is required to modify through a dereference
}

pub fn all<'a>(map: &'a mut Pages<'_>) -> &'a mut [PageBytes] {
    &mut *map
    //~^ ERROR E0596 trait `DerefMut` is required to modify through a dereference
}

pub fn write(map: &mut Pages<'_>) {
    map[0][0] = 1;
    //~^ ERROR E0596 trait `DerefMut` is required to modify through a dereference
}

pub fn exchange_bytes(map: &mut Pages<'_>, other: &mut PageBytes) -> Result {
    swap(map.page_mut(0)?, other);
    //~^ ERROR E0277 the size for values of type `[u8]` cannot be known
    Ok(())
}

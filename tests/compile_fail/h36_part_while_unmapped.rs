// SPDX-License-Identifier: GPL-2.0

//! Memory is not transferred to the CPU while the CPU owns a part of it: what the CPU has written
//! there would be lost.

use kernel::{
    dma::phys::{Bidirectional, Cpu, InFlight, PageBytes, SgInFlight},
    prelude::*,
};

pub fn complete(mut map: InFlight<'_, Cpu<KVec<u8>>, Bidirectional>) -> Result<u8> {
    // SAFETY: The device does not access these bytes.
    let mut part = unsafe { map.part(0..64) }?;
    // SAFETY: The device has finished.
    let all = unsafe { map.complete() };
    //~^ ERROR E0505 cannot move out of `map` because it is borrowed
    part[0] = 1;
    Ok(all[0])
}

pub fn unmap(mut map: SgInFlight<'_, Cpu<KVec<PageBytes>>, Bidirectional>) -> Result<u8> {
    // SAFETY: The device does not access the page.
    let mut page = unsafe { map.part(0) }?;
    page[0] = 1;
    // SAFETY: The device has finished.
    let pages = unsafe { map.unmap() };
    //~^ ERROR E0505 cannot move out of `map` because it is borrowed
    drop(page);
    Ok(pages[0][0])
}

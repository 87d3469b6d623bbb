// SPDX-License-Identifier: GPL-2.0

//! Only one part of a mapping exists at a time.

use kernel::{
    dma::phys::{Bidirectional, Cpu, InFlight, PageBytes, SgInFlight},
    prelude::*,
};

pub fn overlap(map: &mut InFlight<'_, Cpu<KVec<u8>>, Bidirectional>) -> Result<u8> {
    // SAFETY: The device does not access these bytes.
    let mut one = unsafe { map.part(0..128) }?;
    // SAFETY: See above.
    let two = unsafe { map.part(64..192) }?;
    //~^ ERROR E0499 cannot borrow `*map` as mutable more than once
    one[64] = 1;
    Ok(two[0])
}

pub fn same_page(map: &mut SgInFlight<'_, Cpu<KVec<PageBytes>>, Bidirectional>) -> Result<u8> {
    // SAFETY: The device does not access the page.
    let mut one = unsafe { map.part(0) }?;
    // SAFETY: See above.
    let two = unsafe { map.part(0) }?;
    //~^ ERROR E0499 cannot borrow `*map` as mutable more than once
    one[0] = 1;
    Ok(two[0])
}

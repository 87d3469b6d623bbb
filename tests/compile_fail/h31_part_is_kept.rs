// SPDX-License-Identifier: GPL-2.0

//! The CPU accesses a part only until it is dropped.

use kernel::{
    dma::phys::{Bidirectional, Cpu, InFlight, Part},
    prelude::*,
};

pub fn keep_reference(part: Part<'_, [u8], Bidirectional>) -> u8 {
    let first = &part[0];
    drop(part);
    //~^ ERROR E0505 cannot move out of `part` because it is borrowed
    *first
}

pub fn return_reference<'a>(
    map: &'a mut InFlight<'_, Cpu<KVec<u8>>, Bidirectional>,
) -> Result<&'a mut [u8]> {
    // SAFETY: The device does not access these bytes.
    let mut part = unsafe { map.part(0..64) }?;
    Ok(&mut part)
    //~^ ERROR E0515 cannot return value referencing local variable `part`
}

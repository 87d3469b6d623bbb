// SPDX-License-Identifier: GPL-2.0

//! The segments of a list are not used after it was unmapped.

use kernel::{
    dma::phys::{Cpu, FromDevice, Segment, SgInFlight},
    prelude::*,
};

pub fn keep(map: SgInFlight<'_, Cpu<VVec<u8>>, FromDevice>) -> usize {
    let segments = map.segments();
    // SAFETY: The device has finished.
    let data = unsafe { map.unmap() };
    //~^ ERROR E0505 cannot move out of `map` because it is borrowed
    segments.len() + data.len()
}

pub fn next_segment(map: SgInFlight<'_, Cpu<VVec<u8>>, FromDevice>) -> Option<usize> {
    let mut segments = map.segments().iter();
    // SAFETY: The device has finished.
    let data = unsafe { map.complete() };
    //~^ ERROR E0505 cannot move out of `map` because it is borrowed
    drop(data);
    segments.next().map(Segment::dma_len)
}

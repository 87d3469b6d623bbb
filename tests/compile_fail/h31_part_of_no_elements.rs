// SPDX-License-Identifier: GPL-2.0

//! A part consists of whole elements of a slice or an array.

use kernel::{
    dma::phys::{Cpu, FromDevice, InFlight},
    prelude::*,
};

pub fn part(map: &mut InFlight<'_, Cpu<KBox<u64>>, FromDevice>) {
    // SAFETY: The device does not access these bytes.
    let _ = unsafe { map.part(0..4) };
    //~^ ERROR E0277 `u64` has no elements to select a range of
}

// SPDX-License-Identifier: GPL-2.0

//! The device gives memory to the CPU once for each submit.

use kernel::{
    dma::phys::{Bidirectional, Cpu, InFlight, SgInFlight},
    prelude::*,
};

pub fn complete(map: InFlight<'_, Cpu<KVec<u8>>, Bidirectional>) -> u8 {
    // SAFETY: The device has finished.
    let (one, two) = unsafe { (map.complete(), map.complete()) };
    //~^ ERROR E0382 use of moved value: `map`
    one[0] + two[0]
}

pub fn complete_list(map: SgInFlight<'_, Cpu<VVec<u8>>, Bidirectional>) -> u8 {
    // SAFETY: The device has finished.
    let (one, two) = unsafe { (map.complete(), map.unmap()) };
    //~^ ERROR E0382 use of moved value: `map`
    one[0] + two[0]
}

/// Nor is the address used after that.
pub fn address(map: InFlight<'_, Cpu<KVec<u8>>, Bidirectional>) -> bool {
    // SAFETY: The device has finished.
    let data = unsafe { map.complete() };
    map.dma_address() == 0 && data[0] == 0
    //~^ ERROR E0382 borrow of moved value: `map`
}

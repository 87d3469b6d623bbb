// SPDX-License-Identifier: GPL-2.0

//! What is mapped is not copied: a copy could be unmapped as well.

use kernel::{
    dma::phys::{Cpu, FromDevice, InFlight, MapsRequests, RequestMapping, SgInFlight},
    prelude::*,
};

pub fn copy<'a>(
    map: &InFlight<'a, Cpu<KVec<u8>>, FromDevice>,
) -> InFlight<'a, Cpu<KVec<u8>>, FromDevice> {
    *map
    //~^ ERROR E0507 cannot move out of `*map` which is behind a shared reference
}

pub fn clone_list(map: &SgInFlight<'_, Cpu<VVec<u8>>, FromDevice>) -> usize {
    let map: SgInFlight<'_, Cpu<VVec<u8>>, FromDevice> = map.clone();
    //~^ ERROR E0308 does not implement `Clone`
    map.size()
}

pub fn copy_request<'a, T: MapsRequests>(map: &RequestMapping<'a, T>) -> RequestMapping<'a, T> {
    *map
    //~^ ERROR E0507 cannot move out of `*map` which is behind a shared reference
}

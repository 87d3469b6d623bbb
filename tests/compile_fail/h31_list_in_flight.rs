// SPDX-License-Identifier: GPL-2.0

//! A list that the device owns has no data, and a request never has.

use kernel::{
    dma::phys::{Cpu, FromDevice, MapsRequests, PageBytes, RequestMapping, SgInFlight, ToDevice},
    prelude::*,
};

pub fn read(map: &SgInFlight<'_, Cpu<VVec<u8>>, FromDevice>) -> u8 {
    map[0]
    //~^ ERROR E0608 cannot index into a value of type
}

pub fn write(map: &mut SgInFlight<'_, Cpu<VVec<u8>>, ToDevice>) {
    map.fill(1);
    //~^ ERROR E0599 no method named `fill` found
}

pub fn borrow<'a>(map: &'a SgInFlight<'_, Cpu<KVec<PageBytes>>, FromDevice>) -> &'a [PageBytes] {
    &**map
    //~^ ERROR E0614 cannot be dereferenced
}

pub fn page<'a>(
    map: &'a mut SgInFlight<'_, Cpu<KVec<PageBytes>>, ToDevice>,
) -> Result<&'a mut [u8]> {
    map.page_mut(0)
    //~^ ERROR E0599 no method named `page_mut` found
}

pub fn request<T: MapsRequests>(map: &RequestMapping<'_, T>) -> u8 {
    map[0]
    //~^ ERROR E0608 cannot index into a value of type
}

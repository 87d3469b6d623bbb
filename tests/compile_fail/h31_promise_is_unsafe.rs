// SPDX-License-Identifier: GPL-2.0

//! That the device has finished is a promise of the driver.

use kernel::{
    block::mq::Request,
    dma::phys::{
        Bidirectional, Cpu, InFlight, MapsRequests, Mmio, PageBytes, RequestMapping, SgInFlight,
    },
    prelude::*,
};

pub type One<'a> = InFlight<'a, Cpu<KVec<u8>>, Bidirectional>;
pub type Many<'a> = SgInFlight<'a, Cpu<KVec<PageBytes>>, Bidirectional>;

pub fn complete(map: One<'_>) -> u8 {
    map.complete()[0]
    //~^ ERROR E0133 call to unsafe function
}

pub fn unmap(map: One<'_>) -> KVec<u8> {
    map.unmap()
    //~^ ERROR E0133 call to unsafe function
}

pub fn part(map: &mut One<'_>) -> Result<u8> {
    Ok(map.part(0..1)?[0])
    //~^ ERROR E0133 call to unsafe function
}

pub fn unmap_peer(map: InFlight<'_, Mmio<'_>, Bidirectional>) {
    map.unmap()
    //~^ ERROR E0133 call to unsafe function
}

pub fn complete_list(map: Many<'_>) -> u8 {
    map.complete()[0][0]
    //~^ ERROR E0133 call to unsafe function
}

pub fn unmap_list(map: Many<'_>) -> KVec<PageBytes> {
    map.unmap()
    //~^ ERROR E0133 call to unsafe function
}

pub fn unmap_prepared(map: Many<'_>) -> KVec<PageBytes> {
    map.unmap_prepared().into_memory()
    //~^ ERROR E0133 call to unsafe function
}

pub fn part_of_list(map: &mut Many<'_>) -> Result<u8> {
    Ok(map.part(0)?[0])
    //~^ ERROR E0133 call to unsafe function
}

pub fn part_of_vector(map: &mut SgInFlight<'_, Cpu<VVec<u8>>, Bidirectional>) -> Result<u8> {
    Ok(map.part(0..1)?[0])
    //~^ ERROR E0133 call to unsafe function
}

pub fn unmap_list_of_peer(map: SgInFlight<'_, Mmio<'_>, Bidirectional>) {
    map.unmap()
    //~^ ERROR E0133 call to unsafe function
}

pub fn unmap_request<T: MapsRequests>(map: RequestMapping<'_, T>) {
    Request::complete(map.unmap());
    //~^ ERROR E0133 call to unsafe function
}

// SPDX-License-Identifier: GPL-2.0

//! Unmap takes no address, length, number of segments or direction: the mapping has them.

use kernel::{
    block::mq::Request,
    dma::{
        phys::{
            Cpu, FromDevice, InFlight, Mapping, MapsRequests, RequestMapping, SgInFlight, ToDevice,
        },
        DataDirection, DmaAddress,
    },
    prelude::*,
};

pub fn swapped(map: InFlight<'_, Cpu<KVec<u8>>, FromDevice>, addr: DmaAddress, len: usize) {
    // SAFETY: The device has finished.
    drop(unsafe { map.unmap(len, addr) });
    //~^ ERROR E0061 this method takes 0 arguments but 2 arguments were supplied
}

pub fn length(map: Mapping<'_, Cpu<KVec<u8>>, ToDevice>) {
    drop(map.unmap(0));
    //~^ ERROR E0061 this method takes 0 arguments but 1 argument was supplied
}

pub fn segments(map: SgInFlight<'_, Cpu<VVec<u8>>, FromDevice>) {
    let count = map.segments().len();
    // SAFETY: The device has finished.
    drop(unsafe { map.unmap(count) });
    //~^ ERROR E0061 this method takes 0 arguments but 1 argument was supplied
}

pub fn direction<T: MapsRequests>(map: RequestMapping<'_, T>) {
    // SAFETY: The device has finished.
    Request::complete(unsafe { map.unmap(DataDirection::ToDevice) });
    //~^ ERROR E0061 this method takes 0 arguments but 1 argument was supplied
}

pub fn other_direction(
    map: InFlight<'_, Cpu<KVec<u8>>, FromDevice>,
) -> Mapping<'_, Cpu<KVec<u8>>, ToDevice> {
    // SAFETY: The device has finished.
    unsafe { map.complete() }
    //~^ ERROR E0308 ToDevice`, found `
}

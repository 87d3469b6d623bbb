// SPDX-License-Identifier: GPL-2.0

//! What is mapped is unmapped once.

use kernel::{
    block::mq::Request,
    dma::phys::{
        Cpu, FromDevice, InFlight, Mapping, MapsRequests, Mmio, RequestMapping, SgInFlight,
    },
    prelude::*,
};

pub fn unmap(map: Mapping<'_, Cpu<KVec<u8>>, FromDevice>) {
    map.unmap();
    map.unmap();
    //~^ ERROR E0382 use of moved value: `map`
}

pub fn unmap_in_flight(map: InFlight<'_, Cpu<KVec<u8>>, FromDevice>) {
    // SAFETY: The device has finished.
    unsafe {
        map.unmap();
        map.unmap();
        //~^ ERROR E0382 use of moved value: `map`
    }
}

pub fn unmap_list(map: SgInFlight<'_, Cpu<VVec<u8>>, FromDevice>) {
    // SAFETY: The device has finished.
    unsafe {
        map.unmap();
        map.unmap_prepared();
        //~^ ERROR E0382 use of moved value: `map`
    }
}

pub fn unmap_peer(map: InFlight<'_, Mmio<'_>, FromDevice>) {
    // SAFETY: The device has finished.
    unsafe {
        map.unmap();
        map.unmap();
        //~^ ERROR E0382 use of moved value: `map`
    }
}

pub fn unmap_request<T: MapsRequests>(map: RequestMapping<'_, T>) {
    // SAFETY: The device has finished.
    unsafe {
        Request::complete(map.unmap());
        Request::complete(map.unmap());
        //~^ ERROR E0382 use of moved value: `map`
    }
}

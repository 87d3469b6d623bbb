// SPDX-License-Identifier: GPL-2.0

//! After a submit the CPU has neither the mapping nor a reference into it.

use kernel::{
    dma::{
        phys::{Cpu, Mapping, SgMapping, ToDevice},
        DmaAddress,
    },
    prelude::*,
};

pub fn write(mut map: Mapping<'_, Cpu<KVec<u8>>, ToDevice>) -> DmaAddress {
    let in_flight = map.submit();
    map[0] = 1;
    //~^ ERROR E0382 borrow of moved value: `map`
    in_flight.dma_address()
}

pub fn submit_twice(map: SgMapping<'_, Cpu<VVec<u8>>, ToDevice>) -> usize {
    let one = map.submit();
    let two = map.submit();
    //~^ ERROR E0382 use of moved value: `map`
    one.size() + two.size()
}

pub fn keep(mut map: Mapping<'_, Cpu<KVec<u8>>, ToDevice>) -> DmaAddress {
    let header = &mut map[0..16];
    let in_flight = map.submit();
    //~^ ERROR E0505 cannot move out of `map` because it is borrowed
    header.fill(1);
    in_flight.dma_address()
}

pub fn keep_of_list(map: SgMapping<'_, Cpu<VVec<u8>>, ToDevice>) -> (usize, u8) {
    let first = &map[0];
    let in_flight = map.submit();
    //~^ ERROR E0505 cannot move out of `map` because it is borrowed
    (in_flight.size(), *first)
}

// SPDX-License-Identifier: GPL-2.0

//! The device gets no address of memory that the CPU owns.

use kernel::{
    dma::{
        phys::{Cpu, Mapping, Prepared, Segment, SgMapping, ToDevice},
        DmaAddress,
    },
    prelude::*,
};

pub fn address(map: &Mapping<'_, Cpu<KVec<u8>>, ToDevice>) -> DmaAddress {
    map.dma_address()
    //~^ ERROR E0599 no method named `dma_address` found
}

pub fn segments<'a>(map: &'a SgMapping<'_, Cpu<VVec<u8>>, ToDevice>) -> &'a [Segment] {
    map.segments()
    //~^ ERROR E0599 no method named `segments` found
}

pub fn prepared(prepared: &Prepared<VVec<u8>>) -> &[Segment] {
    prepared.segments()
    //~^ ERROR E0599 no method named `segments` found
}

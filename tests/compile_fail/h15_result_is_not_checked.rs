// SPDX-License-Identifier: GPL-2.0

//! There is no address before the result was checked.

use kernel::{
    device::{Bound, Device},
    dma::{
        phys::{Cpu, InFlight, Mmio, MmioPhys, ToDevice},
        DmaAddress,
    },
    prelude::*,
};

pub fn address(dev: &Device<Bound>, buffer: KVec<u8>) -> DmaAddress {
    InFlight::<Cpu<_>, ToDevice>::map(dev, buffer).dma_address()
    //~^ ERROR E0599 no method named `dma_address` found for enum `Result`
}

pub fn address_of_peer(dev: &Device<Bound>, range: MmioPhys<'_>) -> DmaAddress {
    InFlight::<Mmio<'_>, ToDevice>::map(dev, range).dma_address()
    //~^ ERROR E0599 no method named `dma_address` found for enum `Result`
}

// SPDX-License-Identifier: GPL-2.0

//! What the device owns has no data: it is not read, written or borrowed.

use kernel::{
    dma::phys::{Cpu, FromDevice, InFlight, Mapping, ToDevice, Unowned},
    prelude::*,
};

pub fn read(map: &InFlight<'_, Cpu<KVec<u8>>, FromDevice>) -> u8 {
    map[0]
    //~^ ERROR E0608 cannot index into a value of type
}

pub fn write(map: &mut InFlight<'_, Cpu<KVec<u8>>, ToDevice>) {
    map[0] = 1;
    //~^ ERROR E0608 cannot index into a value of type
}

pub fn borrow(map: InFlight<'_, Cpu<KBox<u64>>, FromDevice>) -> u64 {
    *map
    //~^ ERROR E0614 cannot be dereferenced
}

pub fn first<'a>(map: &'a InFlight<'_, Cpu<KVec<u8>>, FromDevice>) -> Option<&'a u8> {
    map.first()
    //~^ ERROR E0599 no method named `first` found
}

pub fn as_slice<'a>(map: &'a InFlight<'_, Cpu<KVec<u8>>, FromDevice>) -> &'a [u8] {
    map
    //~^ ERROR E0308 expected `&[u8]`, found `&InFlight
}

/// Nor has memory that the mapping does not own.
pub fn unowned(map: &Mapping<'_, Cpu<Unowned>, FromDevice>) -> u8 {
    map[0]
    //~^ ERROR E0608 cannot index into a value of type
}

// SPDX-License-Identifier: GPL-2.0

//! A mapping is unmapped once.

use kernel::dma::phys::{Cpu, FromDevice, Mapping};
use kernel::prelude::*;

pub fn unmap(map: Mapping<'_, Cpu<KVec<u8>>, FromDevice>) {
    map.unmap();
    map.unmap();
    //~^ ERROR E0382 use of moved value: `map`
}

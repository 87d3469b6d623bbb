// SPDX-License-Identifier: GPL-2.0

//! Only one guard exists at a time, even if the ranges differ.

use kernel::{
    dma::phys::{Bidirectional, Cpu, Mapping},
    prelude::*,
};

pub fn guards(map: &mut Mapping<'_, Cpu<KVec<u8>>, Bidirectional>) -> Result<u8> {
    let mut one = map.cpu_range(0..128)?;
    let two = map.cpu_range(64..192)?;
    //~^ ERROR E0499 cannot borrow `*map` as mutable more than once
    one[64] = 1;
    Ok(two[0])
}

// SPDX-License-Identifier: GPL-2.0

//! Only one guard exists at a time.

use kernel::{
    dma::phys::{Bidirectional, Cpu, Mapping},
    prelude::*,
};

pub fn guards(map: &mut Mapping<'_, Cpu<KVec<u8>>, Bidirectional>) -> Result<u8> {
    let mut one = map.cpu()?;
    let two = map.cpu()?;
    //~^ ERROR E0499 cannot borrow `*map` as mutable more than once
    one[0] = 1;
    Ok(two[0])
}

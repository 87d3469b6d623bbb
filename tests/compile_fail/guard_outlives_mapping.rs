// SPDX-License-Identifier: GPL-2.0

//! A mapping is not unmapped while a guard exists.

use kernel::{
    dma::phys::{Cpu, FromDevice, Mapping},
    prelude::*,
};

pub fn unmap(mut map: Mapping<'_, Cpu<KVec<u8>>, FromDevice>) -> Result<u8> {
    let bytes = map.cpu()?;
    map.unmap();
    //~^ ERROR E0505 cannot move out of `map` because it is borrowed
    Ok(bytes[0])
}

// SPDX-License-Identifier: GPL-2.0

//! The CPU does not write what only the device may, also not a part of it.

use kernel::{
    dma::phys::{Cpu, FromDevice, VecMapping},
    prelude::*,
};

pub fn write(map: &mut VecMapping<'_, Cpu<VVec<u8>>, FromDevice>) -> Result {
    map.cpu_range(0..1)?[0] = 1;
    //~^ ERROR E0594 trait `DerefMut` is required to modify through a dereference
    Ok(())
}

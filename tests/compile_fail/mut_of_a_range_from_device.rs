// SPDX-License-Identifier: GPL-2.0

//! The CPU does not write to a range of memory that only the device writes.

use kernel::{
    dma::phys::{Cpu, FromDevice, SgMapping},
    prelude::*,
};

pub fn write(map: &mut SgMapping<'_, Cpu<VVec<u8>>, FromDevice>) -> Result {
    map.cpu_range(0..1)?[0] = 1;
    //~^ ERROR E0594 trait `DerefMut` is required to modify through a dereference
    Ok(())
}

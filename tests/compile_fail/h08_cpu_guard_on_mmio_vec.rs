// SPDX-License-Identifier: GPL-2.0

//! The CPU has no access to device memory through a vec of it.

use kernel::{
    dma::phys::{FromDevice, Mmio, VecMapping},
    prelude::*,
};

pub fn read(map: &mut VecMapping<'_, Mmio<'_>, FromDevice>) -> Result {
    map.cpu()?;
    //~^ ERROR E0599 no method named `cpu` found
    Ok(())
}

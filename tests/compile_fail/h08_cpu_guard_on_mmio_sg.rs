// SPDX-License-Identifier: GPL-2.0

//! The CPU has no access to device memory that is mapped as segments.

use kernel::{
    dma::phys::{FromDevice, Mmio, SgMapping},
    prelude::*,
};

pub fn read(map: &mut SgMapping<'_, Mmio<'_>, FromDevice>) -> Result {
    map.cpu()?;
    //~^ ERROR E0599 no method named `cpu` found
    Ok(())
}

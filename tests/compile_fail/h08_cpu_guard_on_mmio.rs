// SPDX-License-Identifier: GPL-2.0

//! The CPU has no access to mapped device memory.

use kernel::{
    dma::phys::{FromDevice, Mapping, Mmio},
    prelude::*,
};

pub fn read(map: &mut Mapping<'_, Mmio<'_>, FromDevice>) -> Result {
    map.cpu()?;
    //~^ ERROR E0599 no method named `cpu` found
    Ok(())
}

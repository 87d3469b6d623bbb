// SPDX-License-Identifier: GPL-2.0

//! The mapping of a scope is not moved out, and so not forgotten.

use kernel::{
    device::{Bound, Device},
    dma::phys::{scope, FromDevice},
    prelude::*,
};

pub fn forget(dev: &Device<Bound>, buffer: &mut [u8]) -> Result {
    scope::<FromDevice, _, _>(dev, buffer, |map| {
        core::mem::forget(*map);
        //~^ ERROR E0507 cannot move out of `*map`
        Ok(())
    })
}

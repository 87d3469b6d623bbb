// SPDX-License-Identifier: GPL-2.0

//! What a scope has mapped, it unmaps: `f` has no mapping to give away, or to forget.

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

// SPDX-License-Identifier: GPL-2.0

//! The mappings of two scopes are not exchanged: one would be unmapped too late.

use kernel::{
    device::{Bound, Device},
    dma::phys::{scope, FromDevice},
    prelude::*,
};

pub fn exchange(dev: &Device<Bound>, one: &mut [u8], two: &mut [u8]) -> Result {
    scope::<FromDevice, _, _>(dev, one, |outer| {
        scope::<FromDevice, _, _>(dev, two, |inner| {
            core::mem::swap(outer, inner);
            //~^ ERROR E0521 borrowed data escapes outside of closure
            Ok(())
        })
    })
}

// SPDX-License-Identifier: GPL-2.0

//! Shared memory is not written.

use kernel::{
    device::{Bound, Device},
    dma::phys::scope_shared,
    prelude::*,
};

pub fn write(dev: &Device<Bound>, buffer: &[u8]) -> Result {
    scope_shared(dev, buffer, |map| {
        map.cpu()?[0] = 1;
        //~^ ERROR E0277 DerefMut
        Ok(())
    })
}

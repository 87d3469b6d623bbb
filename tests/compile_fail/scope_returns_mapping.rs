// SPDX-License-Identifier: GPL-2.0

//! A scope does not return its mapping.

use kernel::{
    device::{Bound, Device},
    dma::phys::{scope, FromDevice},
    prelude::*,
};

pub fn keep(dev: &Device<Bound>, buffer: &mut [u8]) -> Result<usize> {
    let map = scope::<FromDevice, _, _>(dev, buffer, |map| Ok(map))?;
    //~^ ERROR lifetime may not live long enough
    Ok(map.size())
}

// SPDX-License-Identifier: GPL-2.0

//! Neither the mapping of a scope nor its guard escapes.

use kernel::{
    device::{Bound, Device},
    dma::phys::{scope, Bidirectional},
    prelude::*,
};

pub fn keep(dev: &Device<Bound>, buffer: &mut [u8]) -> Result {
    let mut kept = None;

    scope::<Bidirectional, _, _>(dev, buffer, |map| {
        kept = Some(map.cpu()?);
        //~^ ERROR E0521 borrowed data escapes outside of closure
        Ok(())
    })?;
    drop(kept);
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! A page that may be shared is not memory of a mapping.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, FromDevice, Mapping},
    page::Page,
    prelude::*,
};

pub fn map(dev: &Device<Bound>, page: Page) -> Result {
    Mapping::<Cpu<_>, FromDevice>::new(dev, page)?;
    //~^ ERROR E0277 `Page` is not memory that a DMA mapping can own
    Ok(())
}

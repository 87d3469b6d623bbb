// SPDX-License-Identifier: GPL-2.0

//! Memory that a mapping does not own may be freed while it is mapped: the driver vouches for it.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, CpuPhys, Mapping, PageBytes, Prepared, ToDevice, Unowned},
    page::Page,
    prelude::*,
};

pub fn map(dev: &Device<Bound>, range: CpuPhys) -> Result<Mapping<'_, Cpu<Unowned>, ToDevice>> {
    Mapping::from_range(dev, range)
    //~^ ERROR E0133 call to unsafe function
}

pub fn prepare(dev: &Device<Bound>, range: CpuPhys) -> Result<Prepared<Unowned>> {
    Prepared::from_ranges(dev, &[range], GFP_KERNEL)
    //~^ ERROR E0133 call to unsafe function
}

pub fn page(page: Page) -> PageBytes {
    PageBytes::from_page(page)
    //~^ ERROR E0133 call to unsafe function
}

// SPDX-License-Identifier: GPL-2.0

//! A mapping of many ranges does not outlive the binding of its device.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, SgMapping, ToDevice},
    prelude::*,
};

pub fn map(
    dev: &Device<Bound>,
    memory: VVec<u8>,
) -> Result<SgMapping<'static, Cpu<VVec<u8>>, ToDevice>> {
    Ok(SgMapping::new(dev, memory, GFP_KERNEL)?)
    //~^ ERROR lifetime may not live long enough
}

// SPDX-License-Identifier: GPL-2.0

//! A vec is not kept when its device may be gone.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, ToDevice, VecMapping},
    prelude::*,
};

pub fn map(
    dev: &Device<Bound>,
    memory: VVec<u8>,
) -> Result<VecMapping<'static, Cpu<VVec<u8>>, ToDevice>> {
    Ok(VecMapping::new(dev, memory, GFP_KERNEL)?)
    //~^ ERROR lifetime may not live long enough
}

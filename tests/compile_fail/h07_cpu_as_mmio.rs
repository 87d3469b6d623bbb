// SPDX-License-Identifier: GPL-2.0

//! Memory that the CPU caches is not mapped as device memory.

use kernel::{
    device::{Bound, Device},
    dma::phys::{CpuPhys, InFlight, Mmio, SgInFlight, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, range: CpuPhys) -> Result<usize> {
    let map = InFlight::<Mmio<'_>, ToDevice>::map(dev, range)?;
    //~^ ERROR E0308 expected `MmioPhys<'_>`, found `CpuPhys`
    Ok(map.size())
}

pub fn map_list(dev: &Device<Bound>, range: CpuPhys) -> Result<usize> {
    let map = SgInFlight::<Mmio<'_>, ToDevice>::map(dev, &[range], GFP_KERNEL)?;
    //~^ ERROR E0308 expected `MmioPhys<'_>`, found `CpuPhys`
    Ok(map.size())
}

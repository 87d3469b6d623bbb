// SPDX-License-Identifier: GPL-2.0

//! Device memory is not mapped as memory that the CPU caches.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, InFlight, Mapping, MmioPhys, Prepared, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, range: MmioPhys<'_>) -> Result<usize> {
    let map = InFlight::<Cpu<_>, ToDevice>::map(dev, range)?;
    //~^ ERROR E0277 `MmioPhys<'_>` is not memory that a DMA mapping can own
    Ok(map.size())
}

/// # Safety
///
/// It does not compile.
pub unsafe fn map_range(dev: &Device<Bound>, range: MmioPhys<'_>) -> Result {
    // SAFETY: See above.
    unsafe {
        Mapping::<Cpu<_>, ToDevice>::from_range(dev, range)?;
        //~^ ERROR E0308 expected `CpuPhys`, found `MmioPhys<'_>`
        Prepared::from_ranges(dev, &[range], GFP_KERNEL)?;
        //~^ ERROR E0308 expected `CpuPhys`, found `MmioPhys<'_>`
    }
    Ok(())
}

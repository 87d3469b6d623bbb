// SPDX-License-Identifier: GPL-2.0

//! A mapping of many ranges does not outlive the binding of its device.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, Prepared, SgInFlight, SgMapping, ToDevice},
    faux,
    prelude::*,
};

pub fn map(
    dev: &Device<Bound>,
    memory: VVec<u8>,
) -> Result<SgMapping<'static, Cpu<VVec<u8>>, ToDevice>> {
    Ok(SgMapping::new(dev, memory, GFP_KERNEL)?)
    //~^ ERROR lifetime may not live long enough
}

pub fn submit(owner: faux::Registration, prepared: Prepared<VVec<u8>>) -> Result<usize> {
    let faux: &faux::Device<Bound> = owner.as_ref();
    let dev: &Device<Bound> = faux.as_ref();
    let map = SgInFlight::<Cpu<_>, ToDevice>::map_prepared(dev, prepared)?;
    drop(owner);
    //~^ ERROR E0505 cannot move out of `owner` because it is borrowed
    Ok(map.size())
}

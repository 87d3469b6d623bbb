// SPDX-License-Identifier: GPL-2.0

//! A prepared list is mapped once at a time.

use kernel::{
    device::{Bound, Device},
    dma::phys::{Cpu, Prepared, SgInFlight, SgMapping, ToDevice},
    prelude::*,
};

pub fn map(dev: &Device<Bound>, prepared: Prepared<VVec<u8>>) -> Result<usize> {
    let one = SgMapping::<Cpu<_>, ToDevice>::from_prepared(dev, prepared)?;
    let two = SgInFlight::<Cpu<_>, ToDevice>::map_prepared(dev, prepared)?;
    //~^ ERROR E0382 use of moved value: `prepared`
    Ok(one.size() + two.size())
}

// SPDX-License-Identifier: GPL-2.0

//! The mapping of a request does not outlive the binding of its device.

use kernel::{
    block::mq::Request,
    device::{Bound, Device},
    dma::phys::{MapsRequests, RequestMapping},
    prelude::*,
    sync::aref::ARef,
};

pub fn map<T: MapsRequests>(
    dev: &Device<Bound>,
    rq: ARef<Request<T>>,
) -> Result<RequestMapping<'static, T>> {
    let (map, ()) = RequestMapping::map(dev, rq, |_| Ok(()))?;
    Ok(map)
    //~^ ERROR lifetime may not live long enough
}

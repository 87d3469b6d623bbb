// SPDX-License-Identifier: GPL-2.0

//! The mapping of a request does not outlive the binding of its device.

use kernel::{
    block::mq::{Operations, Request},
    device::{Bound, Device},
    dma::phys::{RequestMapping, SgStorage},
    prelude::*,
    sync::aref::ARef,
};

pub fn map<T: Operations>(
    dev: &Device<Bound>,
    rq: ARef<Request<T>>,
    storage: SgStorage,
) -> Result<RequestMapping<'static, T>> {
    Ok(RequestMapping::new(dev, rq, storage)?)
    //~^ ERROR lifetime may not live long enough
}

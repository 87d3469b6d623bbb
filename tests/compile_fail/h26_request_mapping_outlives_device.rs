// SPDX-License-Identifier: GPL-2.0

//! The mapping of a request is not kept when its device may be gone.

use kernel::{
    block::mq::{Operations, Request},
    device::{Bound, Device},
    dma::phys::{RequestMapping, VecStorage},
    prelude::*,
    sync::aref::ARef,
};

pub fn map<T: Operations>(
    dev: &Device<Bound>,
    rq: ARef<Request<T>>,
    storage: VecStorage,
) -> Result<RequestMapping<'static, T>> {
    Ok(RequestMapping::new(dev, rq, storage)?)
    //~^ ERROR lifetime may not live long enough
}

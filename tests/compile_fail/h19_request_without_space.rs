// SPDX-License-Identifier: GPL-2.0

//! A request is mapped only if there is space for the state of its mapping.

use kernel::{
    block::mq::{Operations, Request},
    device::{Bound, Device},
    dma::phys::RequestMapping,
    sync::aref::ARef,
};

pub fn map<T: Operations<RequestData = u32>>(dev: &Device<Bound>, rq: ARef<Request<T>>) {
    drop(RequestMapping::map(dev, rq, |_| Ok(())));
    //~^ ERROR E0277 `u32` has no space for the mapping of a request
}

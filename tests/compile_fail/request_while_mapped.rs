// SPDX-License-Identifier: GPL-2.0

//! A request is not completed while it is mapped.

use kernel::{
    block::mq::{Operations, Request},
    device::{Bound, Device},
    dma::phys::{RequestMapping, SgStorage},
    prelude::*,
    sync::aref::ARef,
};

pub fn complete<T: Operations>(
    dev: &Device<Bound>,
    rq: ARef<Request<T>>,
    storage: SgStorage,
) -> Result {
    let map = RequestMapping::new(dev, rq, storage)?;
    Request::complete(rq);
    //~^ ERROR E0382 use of moved value: `rq`
    drop(map);
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Who maps a request has it: it is completed when it has come back.

use kernel::{
    block::mq::{Operations, Request},
    device::{Bound, Device},
    dma::phys::{RequestMapping, VecStorage},
    prelude::*,
    sync::aref::ARef,
};

pub fn complete<T: Operations>(
    dev: &Device<Bound>,
    rq: ARef<Request<T>>,
    storage: VecStorage,
) -> Result {
    let map = RequestMapping::new(dev, rq, storage)?;
    Request::complete(rq);
    //~^ ERROR E0382 use of moved value: `rq`
    drop(map);
    Ok(())
}

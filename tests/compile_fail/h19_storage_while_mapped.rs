// SPDX-License-Identifier: GPL-2.0

//! Storage is one request's at a time.

use kernel::{
    block::mq::{Operations, Request},
    device::{Bound, Device},
    dma::phys::{RequestMapping, VecStorage},
    prelude::*,
    sync::aref::ARef,
};

pub fn share<T: Operations>(
    dev: &Device<Bound>,
    one: ARef<Request<T>>,
    two: ARef<Request<T>>,
    storage: VecStorage,
) -> Result {
    let one = RequestMapping::new(dev, one, storage)?;
    let two = RequestMapping::new(dev, two, storage)?;
    //~^ ERROR E0382 use of moved value: `storage`
    drop((one, two));
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Storage is used by one request at a time.

use kernel::{
    block::mq::{Operations, Request},
    device::{Bound, Device},
    dma::phys::{RequestMapping, SgStorage},
    prelude::*,
    sync::aref::ARef,
};

pub fn reuse<T: Operations>(
    dev: &Device<Bound>,
    one: ARef<Request<T>>,
    two: ARef<Request<T>>,
    storage: SgStorage,
) -> Result {
    let one = RequestMapping::new(dev, one, storage)?;
    let two = RequestMapping::new(dev, two, storage)?;
    //~^ ERROR E0382 use of moved value: `storage`
    drop((one, two));
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! A request is neither completed, ended nor queued again while it is mapped: the block layer would
//! free its pages.

use kernel::{
    block::mq::{Batch, Request},
    device::{Bound, Device},
    dma::phys::{MapsRequests, RequestMapping},
    prelude::*,
    sync::aref::ARef,
};

pub fn complete<T: MapsRequests>(dev: &Device<Bound>, rq: ARef<Request<T>>) -> Result<usize> {
    let (map, ()) = RequestMapping::map(dev, rq, |_| Ok(()))?;
    Request::complete(rq);
    //~^ ERROR E0382 use of moved value: `rq`
    Ok(map.size())
}

pub fn end<T: MapsRequests>(dev: &Device<Bound>, rq: ARef<Request<T>>) -> Result<usize> {
    let (map, ()) = RequestMapping::map(dev, rq, |_| Ok(()))?;
    let _ = Request::end(rq, Ok(()));
    //~^ ERROR E0382 use of moved value: `rq`
    Ok(map.size())
}

pub fn end_while_described<T: MapsRequests>(dev: &Device<Bound>, rq: ARef<Request<T>>) -> bool {
    RequestMapping::map(dev, rq, |_| Ok(Request::end(rq, Ok(())).is_ok())).is_ok()
    //~^ ERROR E0382 use of moved value: `rq`
}

pub fn requeue_mapped<T: MapsRequests>(map: &RequestMapping<'_, T>) {
    let _ = Request::requeue(map.request());
    //~^ ERROR E0308 expected `ARef<Request<_>>`, found `&Request<T>`
}

pub fn complete_and_unmap<T: MapsRequests>(map: RequestMapping<'_, T>, batch: &mut Batch<T>) {
    // SAFETY: The device has finished.
    let rq = unsafe { map.unmap() };
    batch.complete(rq, true);
    assert_ne!(map.size(), 0);
    //~^ ERROR E0382 borrow of moved value: `map`
}

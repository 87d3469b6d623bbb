// SPDX-License-Identifier: GPL-2.0

//! Queue data is borrowed from a request, which does not end meanwhile.

use kernel::{
    block::mq::{Operations, Request},
    prelude::*,
    sync::aref::ARef,
};

pub fn end<T>(rq: ARef<Request<T>>) -> u32
where
    T: Operations<QueueData = KBox<u32>>,
{
    let count = rq.queue_data();
    let _ = Request::end(rq, Ok(()));
    //~^ ERROR E0505 cannot move out of `rq` because it is borrowed
    *count
}

// SPDX-License-Identifier: GPL-2.0

//! Data is borrowed from a request, which does not end meanwhile.

use kernel::{
    block::mq::{Operations, Request, RequestList},
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

pub fn complete<T>(rq: ARef<Request<T>>) -> u32
where
    T: Operations<RequestData = u32>,
{
    let status = rq.data();
    Request::complete(rq);
    //~^ ERROR E0505 cannot move out of `rq` because it is borrowed
    *status
}

pub fn put_back<T>(requests: &mut RequestList<T>, rq: ARef<Request<T>>) -> u32
where
    T: Operations<RequestData = u32>,
{
    let status = rq.data();
    let _ = requests.put_back(rq);
    //~^ ERROR E0505 cannot move out of `rq` because it is borrowed
    *status
}

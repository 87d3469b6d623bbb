// SPDX-License-Identifier: GPL-2.0

//! A reference to a request completes it once.

use kernel::{
    block::mq::{Batch, Operations, Request, RequestList},
    sync::aref::ARef,
};

pub fn complete<T: Operations>(rq: ARef<Request<T>>, batch: &mut Batch<T>) {
    batch.complete(rq, true);
    Request::complete(rq);
    //~^ ERROR E0382 use of moved value: `rq`
}

pub fn end<T: Operations>(rq: ARef<Request<T>>) -> bool {
    Request::end(rq, Ok(())).is_ok() && Request::end_ok(rq).is_ok()
    //~^ ERROR E0382 use of moved value: `rq`
}

pub fn put_back<T: Operations>(requests: &mut RequestList<T>, rq: ARef<Request<T>>) -> bool {
    let result = requests.put_back(rq);
    Request::complete(rq);
    //~^ ERROR E0382 use of moved value: `rq`
    result.is_ok()
}

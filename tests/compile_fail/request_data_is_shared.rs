// SPDX-License-Identifier: GPL-2.0

//! The data in a request is shared: it is not changed through a reference to the request, and
//! is `Sync`.

use core::cell::Cell;
use kernel::{
    block::mq::{Operations, Request},
    prelude::*,
    str::CStr,
    sync::aref::ARef,
    ModuleMetadata, ThisModule,
};

pub fn write<T: Operations<RequestData = u32>>(rq: ARef<Request<T>>) {
    *rq.data() = 1;
    //~^ ERROR E0594 cannot assign to data in dereference of `Pin<&u32>`
}

pub struct Drive;

#[vtable]
impl Operations for Drive {
    type QueueData = ();
    type RequestData = Cell<u32>;
    //~^ ERROR E0277 `Cell<u32>` cannot be shared between threads safely

    fn new_request_data() -> impl PinInit<Cell<u32>, Error> {
        Ok(Cell::new(0))
    }

    fn queue_rq(_queue_data: (), _rq: ARef<Request<Self>>, _is_last: bool) -> Result {
        Ok(())
    }

    fn commit_rqs(_queue_data: ()) {}

    fn complete(_rq: ARef<Request<Self>>) {}
}

pub struct LocalModule;

impl ModuleMetadata for LocalModule {
    const NAME: &'static CStr = c"program";
    // SAFETY: A null pointer stands for the kernel.
    const THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };
}

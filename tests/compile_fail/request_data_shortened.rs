// SPDX-License-Identifier: GPL-2.0

//! What may be stored in a request, or in the data of its queue, stays valid for as long as they
//! do: their types are not converted to ones with a shorter lifetime.

use core::marker::PhantomData;
use kernel::{
    block::mq::{Operations, Request, TagSet},
    prelude::*,
    str::CStr,
    sync::{aref::ARef, Arc, AtomicSlot},
    ModuleMetadata, ThisModule,
};

pub struct Drive<'a>(PhantomData<&'a u32>);

#[vtable]
impl<'a> Operations for Drive<'a> {
    type QueueData = KBox<AtomicSlot<&'a u32>>;
    type RequestData = AtomicSlot<&'a u32>;

    fn new_request_data() -> impl PinInit<AtomicSlot<&'a u32>, Error> {
        Ok(AtomicSlot::empty())
    }

    fn queue_rq(
        _queue_data: &AtomicSlot<&'a u32>,
        rq: ARef<Request<Self>>,
        _is_last: bool,
    ) -> Result {
        core::hint::black_box(rq.data().take());
        Ok(())
    }

    fn commit_rqs(_queue_data: &AtomicSlot<&'a u32>) {}

    fn complete(_rq: ARef<Request<Self>>) {}
}

pub fn shorten<'a>(rq: ARef<Request<Drive<'static>>>) -> ARef<Request<Drive<'a>>> {
    rq
    //~^ ERROR lifetime may not live long enough
}

pub fn shorten_tags<'a>(tags: Arc<TagSet<Drive<'static>>>) -> Arc<TagSet<Drive<'a>>> {
    tags
    //~^ ERROR lifetime may not live long enough
}

pub fn store(rq: &Request<Drive<'static>>, number: u32) {
    let _ = rq.data().put(&number);
    //~^ ERROR E0597 `number` does not live long enough
}

pub struct LocalModule;

impl ModuleMetadata for LocalModule {
    const NAME: &'static CStr = c"program";
    // SAFETY: A null pointer stands for the kernel.
    const THIS_MODULE: ThisModule = unsafe { ThisModule::from_ptr(core::ptr::null_mut()) };
}

// SPDX-License-Identifier: GPL-2.0

//! Requests that are completed together.

use super::Request;
use crate::{
    bindings,
    block::mq::Operations,
    sync::{
        aref::ARef,
        atomic::Relaxed, //
    }, //
};
use core::marker::PhantomData;

/// Requests that are completed together, when this is dropped.
///
/// An interrupt's handler gathers in it what a device has done, under a lock of the queue, and
/// drops it without: the block layer then gives back the tags of many requests at once, and wakes
/// those who wait. Nothing is allocated.
///
/// # Invariants
///
/// - The requests of `ended` are the block layer's: nothing refers to them.
/// - Those of `rest` have an [`ARef`] each, which is in the list.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::mq::{Batch, Operations, Request},
///     sync::{aref::ARef, SpinLock}, //
/// };
///
/// /// What a device has done, and whether it went well.
/// type Done<T> = KVec<(ARef<Request<T>>, bool)>;
///
/// fn handle<T: Operations>(done: &SpinLock<Done<T>>) {
///     let mut batch = Batch::new();
///     let mut done = done.lock();
///
///     while let Some((rq, good)) = done.pop() {
///         batch.complete(rq, good);
///     }
///     drop(done);
///     drop(batch);
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Batch<T: Operations> {
    ended: bindings::io_comp_batch,
    rest: bindings::rq_list,
    _requests: PhantomData<ARef<Request<T>>>,
}

impl<T: Operations> Batch<T> {
    /// No requests.
    #[inline]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        // INVARIANT: There are none.
        Self {
            ended: pin_init::zeroed(),
            rest: pin_init::zeroed(),
            _requests: PhantomData,
        }
    }

    /// Completes `rq`, as [`Request::complete`] does, but not before this is dropped.
    ///
    /// One that is `good` is ended as a success, together with others: where that can be,
    /// [`Operations::complete`] is not called for it. One to which someone else refers is completed
    /// at once.
    #[inline]
    pub fn complete(&mut self, rq: ARef<Request<T>>, good: bool) {
        let raw = ARef::into_raw(rq).cast::<bindings::request>().as_ptr();

        // SAFETY: It is valid, and by the type invariant of `ARef` the driver's.
        if unsafe { bindings::blk_mq_complete_request_remote(raw) } {
            // The reference goes on to `Operations::complete()`.
            return;
        }
        if good && self.end(raw) {
            return;
        }
        if Self::references(raw) > 2 {
            // SAFETY: The reference was made raw above. Who has another could put the request into
            // a second list: so it comes into none.
            T::complete(unsafe { Request::aref_from_raw(raw) });
            return;
        }
        // INVARIANT: Its reference is the one that was made raw above.
        // SAFETY: It is valid, and in no list: nobody else has a reference with which to put it
        // into one.
        unsafe { bindings::rq_list_add_tail(&raw mut self.rest, raw) };
    }

    /// How many refer to a request that is being completed, the block layer counted.
    #[inline]
    fn references(raw: *mut bindings::request) -> i32 {
        // SAFETY: The caller has a reference.
        let request = unsafe { &*raw.cast::<Request<T>>() };

        request.wrapper_ref().refcount().as_atomic().load(Relaxed)
    }

    /// Ends a request that is being completed, where nothing refers to it but `raw`.
    #[inline]
    fn end(&mut self, raw: *mut bindings::request) -> bool {
        // SAFETY: The caller has a reference, which is given away below only.
        let refcount = unsafe { &*raw.cast::<Request<T>>() }
            .wrapper_ref()
            .refcount();

        if refcount.as_atomic().cmpxchg(2, 0, Relaxed).is_err() {
            return false;
        }
        // INVARIANT: Nothing refers to it now.
        // SAFETY: It is valid, in no list, and the block layer's now. The batch is ended by us, so
        // that it needs no function for it.
        if unsafe { bindings::blk_mq_add_to_batch(raw, &raw mut self.ended, false, None) } {
            return true;
        }
        // It is not for a batch: as it was.
        refcount.set(2);
        false
    }
}

impl<T: Operations> Drop for Batch<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.ended.req_list.head.is_null() {
            // SAFETY: By the type invariant the requests are the block layer's.
            unsafe { bindings::blk_mq_end_request_batch(&raw mut self.ended) };
        }
        loop {
            // SAFETY: The requests of the list are valid.
            let raw = unsafe { bindings::rq_list_pop(&raw mut self.rest) };
            if raw.is_null() {
                break;
            }
            // SAFETY: By the type invariant its reference was in the list, which it has left.
            T::complete(unsafe { Request::aref_from_raw(raw) });
        }
    }
}

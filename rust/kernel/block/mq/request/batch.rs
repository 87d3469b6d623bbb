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

/// Requests that are completed together when this is dropped.
///
/// An interrupt handler adds the requests that a device has completed, holding the lock of the
/// queue, and drops the batch without the lock. The block layer then frees the tags of many
/// requests at once. Nothing is allocated.
///
/// # Invariants
///
/// The completion of each request in both lists was taken when no other [`ARef`] referred to it. It
/// is in no other list.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::mq::{Batch, Operations, Request},
///     sync::{aref::ARef, SpinLock}, //
/// };
///
/// /// Completed requests, and whether they succeeded.
/// type Done<T> = KVec<(ARef<Request<T>>, bool)>;
///
/// fn handle<T: Operations>(done: &SpinLock<Done<T>>) {
///     let mut batch = Batch::new();
///     let mut done = done.lock();
///
///     while let Some((rq, success)) = done.pop() {
///         batch.complete(rq, success);
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
    /// Creates an empty batch.
    #[inline]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        // INVARIANT: Both lists are empty.
        Self {
            ended: pin_init::zeroed(),
            rest: pin_init::zeroed(),
            _requests: PhantomData,
        }
    }

    /// Completes `rq`, same as [`Request::complete`], when this is dropped.
    ///
    /// If `success`, the request is ended as successful, together with others if possible;
    /// [`Operations::complete`] is not called then. A request with another [`ARef`] is completed at
    /// once. If the request was completed before, this only drops the reference.
    #[inline]
    pub fn complete(&mut self, rq: ARef<Request<T>>, success: bool) {
        let Some(raw) = Request::take_completion(rq) else {
            return;
        };

        // SAFETY: The completion of the request was taken, so it belongs to the driver and has not
        // ended.
        if unsafe { bindings::blk_mq_complete_request_remote(raw) } {
            // `Operations::complete()` gets the request.
            return;
        }
        if Self::is_shared(raw) {
            // SAFETY: The completion was taken, and the block layer did not get it.
            T::complete(unsafe { Request::completed_from_raw(raw) });
            return;
        }
        if success {
            // SAFETY: The request is valid, in no list, and no `ARef` refers to it. `drop()` ends
            // the batch, so it needs no callback for that.
            if unsafe { bindings::blk_mq_add_to_batch(raw, &raw mut self.ended, false, None) } {
                return;
            }
        }
        // SAFETY: See above. The block layer has not added it to the other list.
        unsafe { bindings::rq_list_add_tail(&raw mut self.rest, raw) };
    }

    /// Returns whether there was another reference when the completion was taken. Through it the
    /// request could be put into a second list, so it is not put into one.
    #[inline]
    fn is_shared(raw: *mut bindings::request) -> bool {
        // SAFETY: The caller has taken the completion of the request, which has not ended.
        let wrapper = unsafe { Request::<T>::wrapper_ptr(raw.cast()).as_ref() };

        wrapper.refcount().as_atomic().load(Relaxed) != 0
    }
}

impl<T: Operations> Drop for Batch<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.ended.req_list.head.is_null() {
            // SAFETY: By the type invariant no `ARef` refers to the requests.
            unsafe { bindings::blk_mq_end_request_batch(&raw mut self.ended) };
        }
        loop {
            // SAFETY: By the type invariant the requests in the list are valid.
            let raw = unsafe { bindings::rq_list_pop(&raw mut self.rest) };
            if raw.is_null() {
                break;
            }
            // SAFETY: By the type invariant the completion was taken. The request was removed from
            // the list.
            T::complete(unsafe { Request::completed_from_raw(raw) });
        }
    }
}

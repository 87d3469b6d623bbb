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
/// - The requests in `ended` belong to the block layer: no [`ARef`] refers to them.
/// - Each request in `rest` has one [`ARef`], which the list owns.
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
    /// once.
    #[inline]
    pub fn complete(&mut self, rq: ARef<Request<T>>, success: bool) {
        let raw = ARef::into_raw(rq).cast::<bindings::request>().as_ptr();

        // SAFETY: The request is valid, and by the type invariant of `ARef` it belongs to the
        // driver.
        if unsafe { bindings::blk_mq_complete_request_remote(raw) } {
            // `Operations::complete()` gets the reference.
            return;
        }
        if success && self.end(raw) {
            return;
        }
        if Self::references(raw) > 2 {
            // With another reference the request could be put into a second list, so it is not put
            // into one.
            // SAFETY: `raw` is from `ARef::into_raw()`.
            T::complete(unsafe { Request::aref_from_raw(raw) });
            return;
        }
        // INVARIANT: The list owns the reference from `ARef::into_raw()`.
        // SAFETY: The request is valid. There is no other reference through which it could have
        // been put into a list.
        unsafe { bindings::rq_list_add_tail(&raw mut self.rest, raw) };
    }

    /// Returns the reference count of a request that is being completed. The block layer has one.
    #[inline]
    fn references(raw: *mut bindings::request) -> i32 {
        // SAFETY: The caller owns a reference.
        let request = unsafe { &*raw.cast::<Request<T>>() };

        request.wrapper_ref().refcount().as_atomic().load(Relaxed)
    }

    /// Ends a request that is being completed if `raw` is the only reference.
    #[inline]
    fn end(&mut self, raw: *mut bindings::request) -> bool {
        // SAFETY: The caller owns a reference, which is given to the block layer only below.
        let refcount = unsafe { &*raw.cast::<Request<T>>() }
            .wrapper_ref()
            .refcount();

        if refcount.as_atomic().cmpxchg(2, 0, Relaxed).is_err() {
            return false;
        }
        // INVARIANT: The reference count is 0, so no `ARef` refers to the request.
        // SAFETY: The request is valid, in no list, and belongs to the block layer. `drop()` ends
        // the batch, so it needs no callback for that.
        if unsafe { bindings::blk_mq_add_to_batch(raw, &raw mut self.ended, false, None) } {
            return true;
        }
        // The block layer does not batch it, so the reference remains.
        refcount.set(2);
        false
    }
}

impl<T: Operations> Drop for Batch<T> {
    #[inline]
    fn drop(&mut self) {
        if !self.ended.req_list.head.is_null() {
            // SAFETY: By the type invariant the requests belong to the block layer.
            unsafe { bindings::blk_mq_end_request_batch(&raw mut self.ended) };
        }
        loop {
            // SAFETY: The requests of the list are valid.
            let raw = unsafe { bindings::rq_list_pop(&raw mut self.rest) };
            if raw.is_null() {
                break;
            }
            // SAFETY: By the type invariant the list owned a reference to the request, which was
            // removed from the list.
            T::complete(unsafe { Request::aref_from_raw(raw) });
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Requests that are queued together.

use super::Request;
use crate::{
    bindings,
    block::mq::{
        operations::OperationsVTable,
        Operations, //
    },
    sync::aref::ARef,
    types::ForeignOwnable, //
};
use core::marker::PhantomData;

/// The request flag of a timeout that the driver has handled.
const TIMED_OUT: bindings::req_flags_t = 1 << bindings::rqf_flags___RQF_TIMED_OUT;

/// Requests of one disk that the block layer queues together, see [`Operations::queue_rqs`].
///
/// They may belong to several hardware queues, but those of one queue mostly follow each other.
/// Requests that remain in the list, and those that were put back, are passed to
/// [`Operations::queue_rq`] one by one.
///
/// # Invariants
///
/// The requests in both lists are valid, with tags and initialized private data, and their queue is
/// `queue`. They are not started and belong to the block layer: no [`ARef`] refers to them.
///
/// # Examples
///
/// The lock of each hardware queue is taken once for its requests, and its doorbell is rung once:
///
/// ```
/// use kernel::{
///     block::mq::{Operations, Request, RequestList},
///     sync::{aref::ARef, SpinLock}, //
/// };
///
/// /// A hardware queue.
/// struct Submissions<T: Operations> {
///     requests: KVec<ARef<Request<T>>>,
///     doorbell: usize,
/// }
///
/// /// Called by `Operations::queue_rqs()`.
/// fn submit<T: Operations>(
///     queues: &[SpinLock<Submissions<T>>],
///     requests: &mut RequestList<T>,
/// ) -> Result {
///     while let Some(index) = requests.front_queue_index() {
///         let mut queue = queues.get(index as usize).ok_or(EINVAL)?.lock();
///
///         while requests.front_queue_index() == Some(index) {
///             let Some(rq) = requests.pop_front() else { break };
///             if let Err(error) = queue.requests.push_within_capacity(rq) {
///                 // The queue is full: `queue_rq()` returns an error for it.
///                 let _ = requests.put_back(error.0);
///             }
///         }
///         queue.doorbell = queue.requests.len();
///     }
///     Ok(())
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct RequestList<T: Operations> {
    queued: bindings::rq_list,
    returned: bindings::rq_list,
    queue: *mut bindings::request_queue,
    _requests: PhantomData<ARef<Request<T>>>,
}

impl<T: Operations> RequestList<T> {
    /// Removes the first request from the list, starts it, and returns it.
    ///
    /// It belongs to the driver then, same as in [`Operations::queue_rq`].
    #[inline]
    pub fn pop_front(&mut self) -> Option<ARef<Request<T>>> {
        // SAFETY: By the type invariant the requests in the list are valid.
        let raw = unsafe { bindings::rq_list_pop(&raw mut self.queued) };

        // SAFETY: By the type invariant the request is valid, belongs to the block layer, and is
        // not started. It is no longer in a list.
        (!raw.is_null()).then(|| unsafe { Request::dispatch(raw) })
    }

    /// Returns the index of the hardware queue of the request that
    /// [`pop_front()`](Self::pop_front) returns next, or [`None`] if there is none.
    #[inline]
    pub fn front_queue_index(&self) -> Option<u32> {
        let front = self.queued.head;

        // SAFETY: By the type invariant the request is valid and has a tag, and so a hardware
        // queue.
        (!front.is_null()).then(|| unsafe { (*(*front).mq_hctx).queue_num })
    }

    /// Puts a request back that the driver cannot submit now. It is not started any longer, and
    /// [`pop_front()`](Self::pop_front) does not return it again.
    ///
    /// # Errors
    ///
    /// If there is another [`ARef`] to the request, or it belongs to another disk, `rq` is
    /// returned.
    #[inline]
    pub fn put_back(&mut self, rq: ARef<Request<T>>) -> Result<(), ARef<Request<T>>> {
        // SAFETY: By its type invariant the request is valid. Its queue does not change.
        if unsafe { (*rq.0.get()).q } != self.queue {
            return Err(rq);
        }
        let raw = Request::try_set_end(rq)?;

        // INVARIANT: No `ARef` refers to the request. It belongs to `queue`, has the tag with which
        // it was started, and is reset to the state before that.
        // SAFETY: The request is valid, and in no list as it belonged to the driver. The timeout
        // handler may read the state concurrently, so the write is volatile.
        unsafe {
            (&raw mut (*raw).state).write_volatile(bindings::mq_rq_state_MQ_RQ_IDLE);
            (*raw).rq_flags &= !TIMED_OUT;
            bindings::rq_list_add_tail(&raw mut self.returned, raw);
        }
        Ok(())
    }

    /// Returns all requests that are still in the list.
    #[inline]
    fn into_remaining(mut self) -> bindings::rq_list {
        // Usually one of the lists is empty.
        if self.returned.head.is_null() {
            return self.queued;
        }
        loop {
            // SAFETY: By the type invariant the requests in the list are valid.
            let raw = unsafe { bindings::rq_list_pop(&raw mut self.queued) };
            if raw.is_null() {
                return self.returned;
            }
            // SAFETY: The request is valid, and was just removed from the other list.
            unsafe { bindings::rq_list_add_tail(&raw mut self.returned, raw) };
        }
    }
}

impl<T: Operations> OperationsVTable<T> {
    /// This function is called by the C kernel. A pointer to this function is installed in the
    /// `blk_mq_ops` vtable for the driver.
    ///
    /// # Safety
    ///
    /// Only blk-mq may call this, when it dispatches requests. `rqs` must be a list of at least
    /// one request, all with tags and of the same queue, which belongs to a disk of `T`. For each
    /// of them the safety requirements of `queue_rq_callback()` must hold.
    pub(in crate::block::mq) unsafe extern "C" fn queue_rqs_callback(rqs: *mut bindings::rq_list) {
        // SAFETY: The list is valid, and not empty.
        let (queued, queue) = unsafe { (*rqs, (*(*rqs).head).q) };

        // SAFETY: The disk has stored the result of `into_foreign()` there. It converts it back
        // after it has waited for all dispatches, of which this is one.
        let queue_data = unsafe { T::QueueData::borrow((*queue).queuedata) };

        // INVARIANT: The requests in the list are those of the caller, and the other list is empty.
        let mut requests = RequestList {
            queued,
            returned: pin_init::zeroed(),
            queue,
            _requests: PhantomData,
        };
        T::queue_rqs(queue_data, &mut requests);

        // SAFETY: The list is valid. The requests that it still refers to belong to the block layer
        // by the type invariant of `RequestList`, or were removed.
        unsafe { rqs.write(requests.into_remaining()) };
    }
}

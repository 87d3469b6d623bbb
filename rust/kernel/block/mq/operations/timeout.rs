// SPDX-License-Identifier: GPL-2.0

//! Requests that a device does not end in time.

use super::{
    ForeignBorrowed,
    Operations,
    OperationsVTable, //
};
use crate::{
    bindings,
    block::mq::{
        tag_set::QueueVectors,
        Request, //
    },
    sync::atomic::Relaxed,
    types::ForeignOwnable, //
};
use core::marker::PhantomData;

const OK: bindings::blk_status_t = bindings::BLK_STS_OK as bindings::blk_status_t;

/// What a driver did about a request that did not end in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// It gave the request back, or it will without being asked again.
    Done,
    /// It waits for as long again.
    Restart,
}

/// Implemented by a driver that is asked about requests that do not end in time.
///
/// How long they have is the block layer's: 30 seconds where user space does not say otherwise, in
/// `queue/io_timeout` of the disk.
pub trait TimeoutOperations: Operations {
    /// The request that has `tag` in hardware queue `queue` did not end in time.
    ///
    /// It names the request and lends no reference to it: the driver has that, or had it. While
    /// this runs the request may end, or be given back and come again, at any moment that the
    /// driver's own locks do not exclude. Where it was given back, and there is an I/O scheduler,
    /// its tag may be another request's by then: the driver looks whether it is the one that it
    /// had.
    ///
    /// May sleep. It must not wait for a disk of this driver to be dropped: that waits for this.
    fn timeout(queue_data: ForeignBorrowed<'_, Self::QueueData>, queue: u32, tag: u32) -> Timeout;
}

/// As [`OperationsVTable`], for drivers that are asked about timeouts. They are given many requests
/// at once where there are.
pub(crate) struct TimeoutVTable<T: TimeoutOperations>(PhantomData<T>);

impl<T: TimeoutOperations> TimeoutVTable<T> {
    /// A driver that keeps a reference to a request, or has ended it, still has its way when it
    /// returns an error: only a request that nothing refers to goes back with it.
    ///
    /// # Safety
    ///
    /// As for `OperationsVTable::queue_rq_callback()`.
    // All that a driver does with a request is in it: once, for one and for many.
    #[inline(never)]
    unsafe extern "C" fn queue_rq_callback(
        hctx: *mut bindings::blk_mq_hw_ctx,
        bd: *const bindings::blk_mq_queue_data,
    ) -> bindings::blk_status_t {
        // SAFETY: By the safety requirements, which are the same. The memory of a request stays as
        // long as its hardware queue, which is in use.
        let request = unsafe { &*(*bd).rq.cast::<Request<T>>() };

        // SAFETY: As above.
        let status = unsafe { OperationsVTable::<T>::queue_rq_callback(hctx, bd) };
        if status == OK {
            return OK;
        }

        let refcount = request.wrapper_ref().refcount().as_atomic();
        match refcount.cmpxchg(1, 0, Relaxed) {
            Ok(_) => status,
            Err(_) => OK,
        }
    }

    /// The driver is given one after the other, and told which is the last of its hardware queue.
    /// What it refuses comes again by itself, when the block layer does what the error says.
    ///
    /// # Safety
    ///
    /// This is called by blk-mq alone, with requests that have tags, of one queue of `T`. For each
    /// of them the safety requirements of `queue_rq_callback()` hold.
    unsafe extern "C" fn queue_rqs_callback(rqs: *mut bindings::rq_list) {
        // SAFETY: By the safety requirements the requests of the list are valid.
        let pop = || unsafe { bindings::rq_list_pop(rqs) };
        let mut next = pop();

        while !next.is_null() {
            let rq = next;
            next = pop();

            // SAFETY: As above; and a request with a tag has a hardware queue.
            let hctx = unsafe { (*rq).mq_hctx };
            // SAFETY: As above.
            let last = next.is_null() || unsafe { (*next).mq_hctx } != hctx;
            let bd = bindings::blk_mq_queue_data { rq, last };

            // SAFETY: By the safety requirements.
            if unsafe { Self::queue_rq_callback(hctx, &bd) } == OK {
                continue;
            }
            // SAFETY: The driver has refused it, so that nothing refers to it.
            unsafe { bindings::blk_mq_requeue_request(rq, true) };
            if last {
                // SAFETY: The hardware queue is valid, and its queue is one of `T`.
                unsafe { OperationsVTable::<T>::commit_rqs_callback(hctx) };
            }
        }
    }

    /// # Safety
    ///
    /// This is called by blk-mq alone, for a request of a queue of `T` that it keeps from being
    /// used again until this returns.
    unsafe extern "C" fn timeout_callback(
        rq: *mut bindings::request,
    ) -> bindings::blk_eh_timer_return {
        // SAFETY: `rq` is valid, with a queue and a hardware queue. Where the driver gives the
        // request back just now and there is an I/O scheduler, the tag may change.
        let (queue, tag, data) = unsafe {
            (
                (*(*rq).mq_hctx).queue_num,
                (&raw const (*rq).tag).read_volatile(),
                (*(*rq).q).queuedata,
            )
        };
        let Ok(tag) = u32::try_from(tag) else {
            return bindings::blk_eh_timer_return_BLK_EH_DONE;
        };

        // SAFETY: Each disk for `T` puts there what `into_foreign()` gave it. It takes it back when
        // the disk has been deleted, which waits until the queue is not in use: this call uses it.
        let data = unsafe { T::QueueData::borrow(data) };

        match T::timeout(data, queue, tag) {
            Timeout::Done => bindings::blk_eh_timer_return_BLK_EH_DONE,
            Timeout::Restart => bindings::blk_eh_timer_return_BLK_EH_RESET_TIMER,
        }
    }

    /// # Safety
    ///
    /// `set` must be a tag set that [`TagSet`](crate::block::mq::TagSet) is just allocating.
    unsafe extern "C" fn map_queues_callback(set: *mut bindings::blk_mq_tag_set) {
        // SAFETY: `set` is valid, and has one map. Its data is null or valid as long as it is being
        // allocated.
        unsafe {
            let map = &raw mut (*set).map[0];

            match (*set).driver_data.cast::<QueueVectors<'_>>().as_ref() {
                Some(vectors) => {
                    bindings::blk_mq_map_hw_queues(map, vectors.dev.as_raw(), vectors.first)
                }
                None => bindings::blk_mq_map_queues(map),
            }
        }
    }

    const VTABLE: bindings::blk_mq_ops = bindings::blk_mq_ops {
        queue_rq: Some(Self::queue_rq_callback),
        queue_rqs: Some(Self::queue_rqs_callback),
        timeout: Some(Self::timeout_callback),
        map_queues: Some(Self::map_queues_callback),
        ..OperationsVTable::<T>::VTABLE
    };

    pub(crate) const fn build() -> &'static bindings::blk_mq_ops {
        &Self::VTABLE
    }
}

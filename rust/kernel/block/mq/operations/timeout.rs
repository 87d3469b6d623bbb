// SPDX-License-Identifier: GPL-2.0

//! Timeouts of requests.

use super::{
    ForeignBorrowed,
    Operations,
    OperationsVTable, //
};
use crate::{
    bindings,
    block::mq::tag_set::QueueVectors,
    types::ForeignOwnable, //
};
use core::marker::PhantomData;

/// What a driver has done about a request that timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// The driver has ended the request, or will end it without another timeout.
    Done,
    /// The timer of the request is restarted.
    Restart,
}

/// A driver that handles timeouts.
///
/// The timeout is 30 seconds unless user space changes it in `queue/io_timeout` of the disk.
pub trait TimeoutOperations: Operations {
    /// Called when the request with `tag` in hardware queue `queue` has timed out.
    ///
    /// This passes no reference to the request, as the driver has or had it. While this runs, the
    /// request may end, or be requeued and dispatched again, unless a lock of the driver excludes
    /// that. With an I/O scheduler another request may then have the tag, so the driver checks
    /// whether the tag still belongs to the same request.
    ///
    /// May sleep. Must not wait for a disk of this driver to be dropped, which waits for this.
    fn timeout(queue_data: ForeignBorrowed<'_, Self::QueueData>, queue: u32, tag: u32) -> Timeout;
}

/// Same as [`OperationsVTable`], for drivers that handle timeouts.
pub(crate) struct TimeoutVTable<T: TimeoutOperations>(PhantomData<T>);

impl<T: TimeoutOperations> TimeoutVTable<T> {
    /// # Safety
    ///
    /// Only blk-mq may call this, for a request of a queue of `T` that is not reused until this
    /// returns.
    unsafe extern "C" fn timeout_callback(
        rq: *mut bindings::request,
    ) -> bindings::blk_eh_timer_return {
        // SAFETY: `rq` is valid, with a queue and a hardware queue. The read of the tag is
        // volatile, as the tag changes if the driver requeues the request concurrently and there is
        // an I/O scheduler.
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

        // SAFETY: Each disk of `T` stores the result of `into_foreign()` there. It converts it back
        // after the disk was deleted, which waits until the queue is not in use. This call uses it.
        let data = unsafe { T::QueueData::borrow(data) };

        match T::timeout(data, queue, tag) {
            Timeout::Done => bindings::blk_eh_timer_return_BLK_EH_DONE,
            Timeout::Restart => bindings::blk_eh_timer_return_BLK_EH_RESET_TIMER,
        }
    }

    /// # Safety
    ///
    /// `set` must be a tag set that a [`TagSet`](crate::block::mq::TagSet) is allocating.
    unsafe extern "C" fn map_queues_callback(set: *mut bindings::blk_mq_tag_set) {
        // SAFETY: `set` is valid and has one map. Its `driver_data` is null, or valid during the
        // allocation.
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
        timeout: Some(Self::timeout_callback),
        map_queues: Some(Self::map_queues_callback),
        ..OperationsVTable::<T>::VTABLE
    };

    pub(crate) const fn build() -> &'static bindings::blk_mq_ops {
        &Self::VTABLE
    }
}

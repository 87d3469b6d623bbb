// SPDX-License-Identifier: GPL-2.0

//! Timeouts of requests.

use super::{
    ForeignBorrowed,
    Operations,
    OperationsVTable, //
};
use crate::{
    bindings,
    block::mq::tag_set::QueueMaps,
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
    /// that. With an I/O scheduler another request may then have the tag. So the driver first looks
    /// up the command that it executes with this tag, then calls `is_expired`. That returns true
    /// only if the command is that of the request, and the request is late.
    ///
    /// May sleep. Must not wait for a disk of this driver to be dropped, which waits for this.
    fn timeout(
        queue_data: ForeignBorrowed<'_, Self::QueueData>,
        queue: u32,
        tag: u32,
        is_expired: impl Fn() -> bool,
    ) -> Timeout;
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
        // SAFETY: `rq` is valid. The read is volatile, as the tag changes if the driver requeues
        // the request concurrently and there is an I/O scheduler.
        let read_tag = || unsafe { (&raw const (*rq).tag).read_volatile() };
        let raw_tag = read_tag();
        let Ok(tag) = u32::try_from(raw_tag) else {
            return bindings::blk_eh_timer_return_BLK_EH_DONE;
        };
        // SAFETY: `rq` is valid, with a queue and a hardware queue.
        let (queue, data) = unsafe { ((*(*rq).mq_hctx).queue_num, (*(*rq).q).queuedata) };
        let is_expired = || {
            // SAFETY: `rq` is valid. The reads are volatile, as the block layer writes the fields,
            // and the timer interrupt the time.
            let (state, late) = unsafe {
                let now = (&raw const bindings::jiffies).read_volatile();

                (
                    (&raw const (*rq).state).read_volatile(),
                    now.wrapping_sub((&raw const (*rq).deadline).read_volatile()),
                )
            };

            // CAST: A deadline in the future is negative.
            state == bindings::mq_rq_state_MQ_RQ_IN_FLIGHT
                && late as isize >= 0
                && read_tag() == raw_tag
        };

        // SAFETY: Each disk of `T` stores the result of `into_foreign()` there. It converts it back
        // after the disk was deleted, which waits until the queue is not in use. This call uses it.
        let data = unsafe { T::QueueData::borrow(data) };

        match T::timeout(data, queue, tag, is_expired) {
            Timeout::Done => bindings::blk_eh_timer_return_BLK_EH_DONE,
            Timeout::Restart => bindings::blk_eh_timer_return_BLK_EH_RESET_TIMER,
        }
    }

    /// # Safety
    ///
    /// `set` must be a tag set that a [`TagSet`](crate::block::mq::TagSet) is allocating.
    unsafe extern "C" fn map_queues_callback(set: *mut bindings::blk_mq_tag_set) {
        // SAFETY: `set` is valid, and nothing else accesses it. Its `driver_data` is valid during
        // the allocation.
        let (maps, default, read, poll, has_poll) = unsafe {
            let [default, read, poll] = &mut (*set).map;

            (
                &*(*set).driver_data.cast::<QueueMaps<'_>>(),
                default,
                read,
                poll,
                (*set).nr_maps > bindings::hctx_type_HCTX_TYPE_POLL,
            )
        };

        // If there is one map, the block layer has set its number of queues, and limited it to that
        // of CPUs.
        if has_poll {
            default.nr_queues = maps.counts.default;
            // Reads use the queues of the first map.
            read.nr_queues = 0;
        }
        // SAFETY: The map is that of a valid tag set, and the device is bound.
        unsafe {
            match &maps.vectors {
                Some(vectors) => {
                    bindings::blk_mq_map_hw_queues(default, vectors.dev.as_raw(), vectors.first)
                }
                None => bindings::blk_mq_map_queues(default),
            }
        }
        if has_poll {
            poll.queue_offset = maps.counts.default;
            poll.nr_queues = maps.counts.poll;
            // SAFETY: See above.
            unsafe { bindings::blk_mq_map_queues(poll) };
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

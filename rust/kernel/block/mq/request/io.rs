// SPDX-License-Identifier: GPL-2.0

//! Operation, data and completion of a request.

use super::{
    Request,
    RequestDataWrapper, //
};
use crate::{
    bindings,
    block::mq::Operations,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Relaxed, //
        },
        Refcount, //
    },
    time::Delta,
    types::ForeignOwnable, //
};

/// The request flag that marks the count of requeues as valid. The block layer clears all flags of
/// a new request, and does not merge a request with this flag.
const COUNTED: bindings::req_flags_t = 1 << bindings::rqf_flags___RQF_DONTPREP;

/// The flags of a request that is not to be retried.
const FAILFAST: bindings::blk_opf_t = 1 << bindings::req_flag_bits___REQ_FAILFAST_DEV
    | 1 << bindings::req_flag_bits___REQ_FAILFAST_TRANSPORT
    | 1 << bindings::req_flag_bits___REQ_FAILFAST_DRIVER;

/// The operation of a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Read from the device.
    Read,
    /// Write to the device.
    Write,
    /// Flush the volatile write cache. It has no data.
    Flush,
    /// Discard blocks. It has no data.
    Discard,
    /// Write zeroes to blocks. It has no data.
    WriteZeroes,
    /// What the driver itself has submitted, see [`DriverRequest`](super::super::DriverRequest).
    Driver,
    /// Any other operation. Only drivers that announce support for one get it.
    Other,
}

/// What the device checks in the protection information of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegrityChecks {
    /// The checksum of the data.
    pub guard: bool,
    /// The reference tag.
    pub ref_tag: bool,
    /// The application tag, which has this value.
    pub app_tag: Option<u16>,
}

impl<T: Operations> Request<T> {
    /// Returns the operation.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::block::mq::{Op, Operations, Request};
    ///
    /// /// Returns the range of the disk, in bytes.
    /// fn range<T: Operations>(rq: &Request<T>) -> Result<core::ops::Range<u64>> {
    ///     if matches!(rq.op(), Op::Flush | Op::Driver | Op::Other) {
    ///         return Err(EOPNOTSUPP);
    ///     }
    ///     let start = rq.sector() << kernel::block::SECTOR_SHIFT;
    ///     Ok(start..start + u64::from(rq.bytes()))
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn op(&self) -> Op {
        match self.flags() & ((1 << bindings::REQ_OP_BITS) - 1) {
            bindings::req_op_REQ_OP_READ => Op::Read,
            bindings::req_op_REQ_OP_WRITE => Op::Write,
            bindings::req_op_REQ_OP_FLUSH => Op::Flush,
            bindings::req_op_REQ_OP_DISCARD => Op::Discard,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Op::WriteZeroes,
            bindings::req_op_REQ_OP_DRV_IN | bindings::req_op_REQ_OP_DRV_OUT => Op::Driver,
            _ => Op::Other,
        }
    }

    /// Returns whether the data must be on stable storage when the request ends (FUA).
    #[inline]
    pub fn fua(&self) -> bool {
        self.flags() & (1 << bindings::req_flag_bits___REQ_FUA) != 0
    }

    /// Returns whether zeroed blocks must stay allocated.
    #[inline]
    pub fn no_unmap(&self) -> bool {
        self.flags() & (1 << bindings::req_flag_bits___REQ_NOUNMAP) != 0
    }

    /// Returns whether the submitter wants an error at once, and no retries: it has read ahead, or
    /// retries the request itself.
    #[inline]
    pub fn no_retry(&self) -> bool {
        self.flags() & FAILFAST != 0
    }

    /// Returns what the device checks in the metadata of the request, or [`None`] if there is no
    /// metadata.
    pub fn integrity_checks(&self) -> Option<IntegrityChecks> {
        if self.flags() & (1 << bindings::req_flag_bits___REQ_INTEGRITY) == 0 {
            return None;
        }
        // SAFETY: See `flags()`. A request with metadata has a bio. The helper allows for a bio
        // that has none.
        let (flags, app_tag) = unsafe {
            let bio = (*self.0.get()).bio;

            (
                bindings::bio_integrity_flags(bio),
                bindings::bio_integrity_app_tag(bio),
            )
        };
        let has = |flag| flags & flag != 0;

        Some(IntegrityChecks {
            guard: has(bindings::bip_flags_BIP_CHECK_GUARD),
            ref_tag: has(bindings::bip_flags_BIP_CHECK_REFTAG),
            app_tag: has(bindings::bip_flags_BIP_CHECK_APPTAG).then_some(app_tag),
        })
    }

    #[inline]
    fn flags(&self) -> bindings::blk_opf_t {
        // SAFETY: By the type invariant this is a valid `struct request`. The block layer does not
        // change this field while the request belongs to the driver.
        unsafe { (*self.0.get()).cmd_flags }
    }

    /// Returns the start on the disk, in sectors of 512 bytes.
    #[inline]
    pub fn sector(&self) -> u64 {
        // SAFETY: See `flags()`.
        unsafe { (*self.0.get()).__sector }
    }

    /// Returns the length of the range on the disk, in bytes.
    #[inline]
    pub fn bytes(&self) -> u32 {
        // SAFETY: See `flags()`.
        unsafe { (*self.0.get()).__data_len }
    }

    /// Returns the tag, which is less than the number of tags of the
    /// [`TagSet`](super::super::TagSet) and unique among the requests that the driver has from one
    /// hardware queue.
    #[inline]
    pub fn tag(&self) -> u32 {
        // SAFETY: See `flags()`.
        let tag = unsafe { (*self.0.get()).tag };

        // CAST: A request that the driver has been given has a tag, which is not negative.
        tag as u32
    }

    /// Returns the index of the hardware queue.
    #[inline]
    pub fn queue_index(&self) -> u32 {
        // SAFETY: See `flags()`. A request that the driver has been given has a hardware queue,
        // which is valid for as long as the request queue.
        unsafe { (*(*self.0.get()).mq_hctx).queue_num }
    }

    /// Returns the data of the request queue, same as in [`Operations::queue_rq`].
    ///
    /// It is valid for as long as there is an [`ARef`]: dropping the disk waits for it.
    #[inline]
    pub fn queue_data(&self) -> <T::QueueData as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: See `flags()`. Each request has a request queue.
        let data = unsafe { (*(*self.0.get()).q).queuedata };

        // SAFETY: Each disk of `T` stores the result of `into_foreign()` there. It converts it back
        // after `del_gendisk()`, which waits until all requests have ended. This one does not end
        // while `self` is borrowed: a reference outside of this module comes from an `ARef`, and a
        // request with an `ARef` is never given to the block layer. `end()`, `end_ok()`,
        // `requeue()` and `RequestList::put_back()` fail if another `ARef` exists, a `Batch`
        // ends only what has none, and an error of `queue_rq()` is ignored if one exists.
        unsafe { T::QueueData::borrow(data) }
    }

    /// Returns the data of the driver in the request.
    ///
    /// [`Operations::new_request_data`] has initialized it when the request was allocated. It is
    /// still what the driver made of it in an earlier use of the same `struct request`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     block::mq::{Operations, Request},
    ///     sync::{aref::ARef, atomic::{Atomic, Relaxed}}, //
    /// };
    ///
    /// /// The status that the device has reported.
    /// struct Status(Atomic<u32>);
    ///
    /// struct Drive;
    ///
    /// impl Drive {
    ///     /// Called by the interrupt handler.
    ///     fn report(rq: ARef<Request<Self>>, status: u32) {
    ///         rq.data().0.store(status, Relaxed);
    ///         Request::complete(rq);
    ///     }
    /// }
    ///
    /// #[vtable]
    /// impl Operations for Drive {
    ///     type QueueData = ();
    ///     type RequestData = Status;
    ///
    ///     fn new_request_data() -> impl PinInit<Status, Error> {
    ///         Ok(Status(Atomic::new(0)))
    ///     }
    ///
    ///     fn queue_rq(_queue_data: (), rq: ARef<Request<Self>>, _is_last: bool) -> Result {
    ///         Self::report(rq, 0);
    ///         Ok(())
    ///     }
    ///
    ///     fn commit_rqs(_queue_data: ()) {}
    ///
    ///     fn complete(rq: ARef<Request<Self>>) {
    ///         let result = if rq.data().0.load(Relaxed) == 0 { Ok(()) } else { Err(EIO) };
    ///         let _ = Request::end(rq, result);
    ///     }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn data(&self) -> Pin<&T::RequestData> {
        // SAFETY: `init_request_callback()` has initialized the data in place. It is not moved
        // before `exit_request_callback()` drops it in place.
        unsafe { Pin::new_unchecked(&self.wrapper_ref().data) }
    }

    /// Gives a request that the block layer dispatches to the driver, and starts it.
    ///
    /// # Safety
    ///
    /// `raw` must be a valid request with initialized private data that belongs to the block layer.
    /// It must belong to the driver from now on, and must not be started.
    #[inline]
    pub(super) unsafe fn dispatch(raw: *mut bindings::request) -> ARef<Self> {
        // SAFETY: The caller guarantees that the request and its private data are valid.
        let wrapper = unsafe { Self::wrapper_ptr(raw.cast()).as_ref() };

        // One for the returned reference, one for being in flight.
        wrapper.refcount.set(2);
        // SAFETY: The request is valid, and the count includes this reference.
        let rq = unsafe { Self::aref_from_raw(raw) };
        // SAFETY: This is the only reference.
        unsafe { Self::start_unchecked(&rq) };
        rq
    }

    /// Takes the completion of a request, which succeeds once after each start. If it was taken
    /// before, this drops `this`.
    ///
    /// If `this` is the only reference, the count of the result is 0, so that nothing refers to the
    /// request. Else the result owns the reference.
    #[inline]
    pub(super) fn take_completion(this: ARef<Self>) -> Option<*mut bindings::request> {
        let wrapper = this.wrapper_ref();

        // Without another reference nobody else can take it, and no atomic exchange is needed.
        // `Acquire` is for the flag, which the last user of another reference may have set.
        if wrapper.refcount.as_atomic().cmpxchg(2, 0, Acquire).is_ok() {
            if wrapper.completed.load(Relaxed) {
                wrapper.refcount.set(2);
                return None;
            }
        } else if wrapper.completed.xchg(true, Relaxed) {
            return None;
        }
        Some(ARef::into_raw(this).cast().as_ptr())
    }

    /// Returns the reference to a request whose completion was taken.
    ///
    /// # Safety
    ///
    /// `raw` must be a result of [`take_completion()`](Self::take_completion) from which nothing
    /// else makes a reference.
    #[inline]
    pub(crate) unsafe fn completed_from_raw(raw: *mut bindings::request) -> ARef<Self> {
        // SAFETY: A request whose completion was taken has not ended, so it is valid.
        let wrapper = unsafe { Self::wrapper_ptr(raw.cast()).as_ref() };

        if wrapper.refcount.as_atomic().load(Relaxed) == 0 {
            wrapper.completed.store(true, Relaxed);
            wrapper.refcount.set(2);
        }
        // SAFETY: The request is valid. The count includes a reference: it was just set, or `raw`
        // owns one.
        unsafe { Self::aref_from_raw(raw) }
    }

    /// Ends the request with success or an error.
    ///
    /// The submitter gets the error, or [`EIO`](crate::error::code::EIO) if the block layer has no
    /// status for it. May be called in any context.
    ///
    /// # Errors
    ///
    /// If there is another [`ARef`] to the request, it is not ended, and `this` is returned.
    pub fn end(this: ARef<Self>, result: Result) -> Result<(), ARef<Self>> {
        let rq = Self::try_set_end(this)?;
        let status = match result {
            Ok(()) => bindings::BLK_STS_OK as bindings::blk_status_t,
            Err(error) => error.to_blk_status(),
        };

        // SAFETY: By the type invariant this is a valid `struct request`. It belonged to the
        // driver, and `try_set_end()` has consumed the last reference.
        unsafe { bindings::blk_mq_end_request(rq, status) };
        Ok(())
    }

    /// Returns how often the request was [requeued](Self::requeue).
    #[inline]
    pub fn tries(&self) -> u32 {
        // SAFETY: See `flags()`.
        if unsafe { (*self.0.get()).rq_flags } & COUNTED == 0 {
            return 0;
        }
        self.wrapper_ref().tries.load(Relaxed)
    }

    /// Requeues the request: [`Operations::queue_rq`] is called with it again, soon or when its
    /// queue is no longer [quiesced](super::super::TagSet::quiesce).
    ///
    /// May be called in any context.
    ///
    /// # Errors
    ///
    /// If there is another [`ARef`] to the request, it is not requeued, and `this` is returned.
    pub fn requeue(this: ARef<Self>) -> Result<(), ARef<Self>> {
        Self::requeue_after(this, Delta::ZERO)
    }

    /// Same as [`requeue()`](Self::requeue), after `delay`. If another request of the disk is
    /// requeued meanwhile, the delay of that one applies to both, from then on.
    ///
    /// # Errors
    ///
    /// Same as for [`requeue()`](Self::requeue).
    pub fn requeue_after(this: ARef<Self>, delay: Delta) -> Result<(), ARef<Self>> {
        // A negative delay is none.
        let msecs = delay.as_millis_ceil().try_into().unwrap_or(0);
        let rq = Self::try_set_end(this)?;
        // SAFETY: By the type invariant this is a valid `struct request` with private data. Only
        // this function accesses it until it is requeued.
        let this = unsafe { &*rq.cast::<Self>() };

        this.wrapper_ref()
            .tries
            .store(this.tries().saturating_add(1), Relaxed);
        // SAFETY: See above. The request may end as soon as it is in the list. The reference to the
        // queue makes the removal of the disk wait, which then cancels the work that is started
        // here. It can be taken: the queue is in use as long as the request has not ended.
        unsafe {
            let queue = (*rq).q;

            (*rq).rq_flags |= COUNTED;
            bindings::percpu_ref_get(&raw mut (*queue).q_usage_counter);
            bindings::blk_mq_requeue_request(rq, false);
            bindings::blk_mq_delay_kick_requeue_list(queue, msecs);
            bindings::percpu_ref_put(&raw mut (*queue).q_usage_counter);
        }
        Ok(())
    }
}

impl<T: Operations> RequestDataWrapper<T> {
    /// Returns a pointer to the data of the driver.
    ///
    /// # Safety
    ///
    /// `this` must point to a live allocation of at least the size of `Self`.
    pub(crate) unsafe fn data_ptr(this: *mut Self) -> *mut T::RequestData {
        // SAFETY: The caller guarantees that the allocation has this field.
        unsafe { &raw mut (*this).data }
    }

    /// Initializes the private data of a request that belongs to the block layer.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        const {
            // The private data follows the `struct request`.
            assert!(
                align_of::<Self>() <= align_of::<bindings::request>(),
                "alignment of `Operations::RequestData` is too large"
            );
        }

        try_pin_init!(Self {
            refcount: Refcount::new(0),
            tries: Atomic::new(0),
            completed: Atomic::new(false),
            data <- T::new_request_data(),
        })
    }
}

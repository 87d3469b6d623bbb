// SPDX-License-Identifier: GPL-2.0

//! Operation, data and completion of a request.

use super::Request;
use crate::{
    bindings,
    block::mq::Operations,
    error::Result,
    sync::{
        aref::ARef,
        atomic::Relaxed, //
    },
    types::ForeignOwnable, //
};

/// The request flag that marks the count of requeues as valid. The block layer clears all flags of
/// a new request, and does not merge a request with this flag.
const COUNTED: bindings::req_flags_t = 1 << bindings::rqf_flags___RQF_DONTPREP;

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
    /// Any other operation. Only drivers that announce support for one get it.
    Other,
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
    ///     if matches!(rq.op(), Op::Flush | Op::Other) {
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
    #[inline]
    pub fn queue_data(&self) -> <T::QueueData as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: See `flags()`. Each request has a request queue.
        let data = unsafe { (*(*self.0.get()).q).queuedata };

        // SAFETY: Each disk of `T` stores the result of `into_foreign()` there. It converts it back
        // after the disk was deleted. That waits until the driver has ended all requests, and so
        // not before the borrow of `self` ends.
        unsafe { T::QueueData::borrow(data) }
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

    /// Stores a word for the driver in the request, see [`note()`](Self::note).
    #[inline]
    pub fn set_note(&self, note: u32) {
        self.wrapper_ref().note.store(note, Relaxed);
    }

    /// Returns the word that [`set_note()`](Self::set_note) stored last, for example the status
    /// that the device has reported. Without a `set_note()` it is any number.
    #[inline]
    pub fn note(&self) -> u32 {
        self.wrapper_ref().note.load(Relaxed)
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
        let tries = this.tries().saturating_add(1);
        this.wrapper_ref().tries.store(tries, Relaxed);

        let rq = Self::try_set_end(this)?;
        // SAFETY: See `end()`. Only this function accesses the flags until the request is requeued.
        unsafe {
            (*rq).rq_flags |= COUNTED;
            bindings::blk_mq_requeue_request(rq, true);
        }
        Ok(())
    }
}

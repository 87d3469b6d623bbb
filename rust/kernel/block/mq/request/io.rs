// SPDX-License-Identifier: GPL-2.0

//! What a request asks for, and how it ends.

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

/// Set while the count of tries is this request's. The block layer clears it, with all other flags,
/// in a new request, and does not merge a request that has it.
const COUNTED: bindings::req_flags_t = 1 << bindings::rqf_flags___RQF_DONTPREP;

/// What a [`Request`] asks a device to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Move bytes from the device into memory.
    Read,
    /// Move bytes from memory to the device.
    Write,
    /// Make what was written before stay, whatever happens. It has no data.
    Flush,
    /// Forget what is there. It has no data.
    Discard,
    /// Write zeroes. It has no data.
    WriteZeroes,
    /// Something else, which comes only to drivers that say that they can do it.
    Other,
}

impl<T: Operations> Request<T> {
    /// What to do.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::block::mq::{Command, Operations, Request};
    ///
    /// /// The bytes of the disk that a request is about.
    /// fn range<T: Operations>(rq: &Request<T>) -> Result<core::ops::Range<u64>> {
    ///     if matches!(rq.command(), Command::Flush | Command::Other) {
    ///         return Err(EOPNOTSUPP);
    ///     }
    ///     let start = rq.sector() << kernel::block::SECTOR_SHIFT;
    ///     Ok(start..start + u64::from(rq.bytes()))
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn command(&self) -> Command {
        match self.flags() & ((1 << bindings::REQ_OP_BITS) - 1) {
            bindings::req_op_REQ_OP_READ => Command::Read,
            bindings::req_op_REQ_OP_WRITE => Command::Write,
            bindings::req_op_REQ_OP_FLUSH => Command::Flush,
            bindings::req_op_REQ_OP_DISCARD => Command::Discard,
            bindings::req_op_REQ_OP_WRITE_ZEROES => Command::WriteZeroes,
            _ => Command::Other,
        }
    }

    /// Whether what it writes must stay once it has ended, whatever happens then.
    #[inline]
    pub fn fua(&self) -> bool {
        self.flags() & (1 << bindings::req_flag_bits___REQ_FUA) != 0
    }

    /// Whether blocks that it writes zeroes to must stay allocated.
    #[inline]
    pub fn no_unmap(&self) -> bool {
        self.flags() & (1 << bindings::req_flag_bits___REQ_NOUNMAP) != 0
    }

    #[inline]
    fn flags(&self) -> bindings::blk_opf_t {
        // SAFETY: By the type invariant this is a valid `struct request`. It is the driver's, and
        // the block layer does not change this field while it is.
        unsafe { (*self.0.get()).cmd_flags }
    }

    /// Where on the disk it starts, in sectors of 512 bytes.
    #[inline]
    pub fn sector(&self) -> u64 {
        // SAFETY: As in `flags()`.
        unsafe { (*self.0.get()).__sector }
    }

    /// How many bytes of the disk it is about.
    #[inline]
    pub fn bytes(&self) -> u32 {
        // SAFETY: As in `flags()`.
        unsafe { (*self.0.get()).__data_len }
    }

    /// Its number, below the number of tags of the [`TagSet`](super::super::TagSet): of all
    /// requests that the driver has from one hardware queue it alone has this one.
    #[inline]
    pub fn tag(&self) -> u32 {
        // SAFETY: As in `flags()`.
        let tag = unsafe { (*self.0.get()).tag };

        // CAST: A request that was given to a driver has a tag, and tags are not negative.
        tag as u32
    }

    /// The hardware queue that it came from, from 0 on.
    #[inline]
    pub fn queue_index(&self) -> u32 {
        // SAFETY: As in `flags()`; and a request that was given to a driver has a hardware queue,
        // which stays as long as the request queue.
        unsafe { (*(*self.0.get()).mq_hctx).queue_num }
    }

    /// The data of the request queue that it came from, as in [`Operations::queue_rq`].
    #[inline]
    pub fn queue_data(&self) -> <T::QueueData as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: As in `flags()`; and a request has a request queue.
        let data = unsafe { (*(*self.0.get()).q).queuedata };

        // SAFETY: Each disk for `T` puts there what `into_foreign()` gave it. It takes it back when
        // the disk has been deleted, which waits until the driver has given back all requests: not
        // before `self` is gone.
        unsafe { T::QueueData::borrow(data) }
    }

    /// Gives the request back to the block layer: it was done, or it failed.
    ///
    /// An error reaches who submitted it, as `EIO` where the block layer has no status for it. May
    /// be called in any context.
    ///
    /// # Errors
    ///
    /// Where there is another [`ARef`] to the request it is not given back, and `this` is returned.
    pub fn end(this: ARef<Self>, result: Result) -> Result<(), ARef<Self>> {
        let rq = Self::try_set_end(this)?;
        let status = match result {
            Ok(()) => bindings::BLK_STS_OK as bindings::blk_status_t,
            Err(error) => error.to_blk_status(),
        };

        // SAFETY: By the type invariant it was a valid `struct request`. It was the driver's, and
        // as `try_set_end()` has succeeded nothing refers to it any more.
        unsafe { bindings::blk_mq_end_request(rq, status) };
        Ok(())
    }

    /// Keeps a word with the request, for who completes it: see [`note()`](Self::note).
    #[inline]
    pub fn set_note(&self, note: u32) {
        self.wrapper_ref().note.store(note, Relaxed);
    }

    /// What was last kept with [`set_note()`](Self::set_note), such as what the device said of it;
    /// else any number.
    #[inline]
    pub fn note(&self) -> u32 {
        self.wrapper_ref().note.load(Relaxed)
    }

    /// How often it was given back with [`requeue()`](Self::requeue).
    #[inline]
    pub fn tries(&self) -> u32 {
        // SAFETY: As in `flags()`.
        if unsafe { (*self.0.get()).rq_flags } & COUNTED == 0 {
            return 0;
        }
        self.wrapper_ref().tries.load(Relaxed)
    }

    /// Gives the request back to the block layer for it to come again, through
    /// [`Operations::queue_rq`]: soon, or once its queue is not
    /// [quiesced](super::super::TagSet::quiesce) any more.
    ///
    /// May be called in any context.
    ///
    /// # Errors
    ///
    /// Where there is another [`ARef`] to the request it is not given back, and `this` is returned.
    pub fn requeue(this: ARef<Self>) -> Result<(), ARef<Self>> {
        let tries = this.tries().saturating_add(1);
        this.wrapper_ref().tries.store(tries, Relaxed);

        let rq = Self::try_set_end(this)?;
        // SAFETY: As in `end()`. Until it is given back nobody else has access to its flags.
        unsafe {
            (*rq).rq_flags |= COUNTED;
            bindings::blk_mq_requeue_request(rq, true);
        }
        Ok(())
    }
}

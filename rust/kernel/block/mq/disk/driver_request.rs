// SPDX-License-Identifier: GPL-2.0

//! Requests of the driver itself, for a program that has the disk open.

use super::DiskOperations;
use crate::{
    bindings,
    block::mq::{
        request::RequestDataWrapper,
        Request, //
    },
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    time::{
        msecs_to_jiffies,
        Delta, //
    },
    uaccess::UserPtr, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};

/// A disk that a program has open, in [`DiskOperations::ioctl`].
///
/// # Invariants
///
/// `bdev` is open, and belongs to a disk of `T` whose queue data is not dropped before `'a` ends.
pub struct OpenDisk<'a, T: DiskOperations> {
    bdev: *mut bindings::block_device,
    _disk: PhantomData<&'a T>,
}

impl<T: DiskOperations> OpenDisk<'_, T> {
    /// # Safety
    ///
    /// `bdev` must be open, and belong to a disk of `T`, whose queue data must be valid for as long
    /// as the returned value.
    pub(super) unsafe fn new(bdev: *mut bindings::block_device) -> Self {
        // INVARIANT: The safety requirements are the invariants.
        Self {
            bdev,
            _disk: PhantomData,
        }
    }

    fn queue(&self) -> *mut bindings::request_queue {
        // SAFETY: By the type invariant the device is open, so it is valid and has a disk.
        unsafe { (*(*self.bdev).bd_disk).queue }
    }
}

/// A request of the driver itself, see [`Op::Driver`](crate::block::mq::Op::Driver).
///
/// The driver stores what is to be done in the [data](Self::data) of the request, where
/// [`Operations::queue_rq`](crate::block::mq::Operations::queue_rq) finds it. The request is not
/// retried: [`Request::no_retry`] is true.
///
/// # Invariants
///
/// - `raw` is a valid request of a queue of `T`, with initialized private data, which belongs to
///   this value. The queue is that of a disk that is open for `'a`.
/// - `bio` is null, or the first of the bios of memory of the current process, which are not yet
///   unmapped.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::mq::{DiskOperations, DriverRequest, OpenDisk},
///     sync::atomic::{Atomic, Relaxed},
///     time::Delta,
///     uaccess::UserPtr, //
/// };
///
/// /// Called by `ioctl()`. Reads `len` bytes with a command of the device.
/// fn read<T: DiskOperations<RequestData = Atomic<u32>>>(
///     disk: &OpenDisk<'_, T>,
///     command: u32,
///     addr: UserPtr,
///     len: usize,
/// ) -> Result {
///     let mut rq = DriverRequest::new(disk, false)?;
///
///     rq.data().store(command, Relaxed);
///     rq.map_user(addr, len)?;
///     rq.execute(Some(Delta::from_secs(5)))
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct DriverRequest<'a, T: DiskOperations> {
    raw: NonNull<bindings::request>,
    bio: *mut bindings::bio,
    executed: bool,
    _disk: PhantomData<&'a T>,
}

impl<'a, T: DiskOperations> DriverRequest<'a, T> {
    /// Allocates a request without data. If `write`, it is one that writes to the device, else one
    /// that reads.
    ///
    /// May sleep: it waits for a tag, and while the queue is frozen.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the disk is dead or is being removed.
    pub fn new(disk: &'a OpenDisk<'_, T>, write: bool) -> Result<Self> {
        let op = if write {
            bindings::req_op_REQ_OP_DRV_OUT
        } else {
            bindings::req_op_REQ_OP_DRV_IN
        };
        let flags = op | 1 << bindings::req_flag_bits___REQ_FAILFAST_DRIVER;

        // SAFETY: The disk is open, so its queue is valid.
        let raw = from_err_ptr(unsafe { bindings::blk_mq_alloc_request(disk.queue(), flags, 0) })?;

        // INVARIANT: The request was just allocated, and the block layer has initialized its
        // private data with the tag set. It has no bios.
        Ok(Self {
            // SAFETY: The pointer is not an error and not null.
            raw: unsafe { NonNull::new_unchecked(raw) },
            bio: ptr::null_mut(),
            executed: false,
            _disk: PhantomData,
        })
    }

    /// Returns the data of the driver in the request, same as [`Request::data`].
    pub fn data(&self) -> Pin<&T::RequestData> {
        // SAFETY: By the type invariant the request has initialized private data, which is not
        // moved. `Request` is transparent.
        unsafe {
            let wrapper = Request::<T>::wrapper_ptr(self.raw.as_ptr().cast()).as_ptr();

            Pin::new_unchecked(&*RequestDataWrapper::data_ptr(wrapper))
        }
    }

    /// Makes `len` bytes of the memory of the current process the data of the request. The data is
    /// copied only if the limits of the disk require that.
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `len` is 0, the data exceeds the limits of the disk, or the request has data
    ///   or was executed.
    /// - [`EFAULT`] if the memory cannot be accessed.
    /// - [`ENOMEM`] if there is not enough memory.
    pub fn map_user(&mut self, addr: UserPtr, len: usize) -> Result {
        let raw = self.raw.as_ptr();

        if len == 0 || self.executed || !self.bio.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant the request is valid and belongs to this value. It has no
        // bios, and is not executed. The address is checked.
        to_result(unsafe {
            bindings::blk_rq_map_user(
                (*raw).q,
                raw,
                ptr::null_mut(),
                addr.as_const_ptr().cast_mut().cast(),
                len,
                bindings::GFP_KERNEL,
            )
        })
        .inspect_err(|_| {
            // The length may include data that was mapped before the failure, and unmapped again.
            // SAFETY: See above.
            unsafe { (*raw).__data_len = 0 };
        })?;

        // INVARIANT: The bios were just mapped. They are stored here: the request has none when it
        // ends.
        // SAFETY: See above.
        self.bio = unsafe { (*raw).bio };
        Ok(())
    }

    /// Executes the request and waits until it ends. Afterwards the data is unmapped.
    ///
    /// May sleep. The wait cannot be interrupted. If the request takes longer than `timeout`, by
    /// default that of the disk,
    /// [`TimeoutOperations::timeout`](crate::block::mq::TimeoutOperations::timeout) is called.
    ///
    /// # Errors
    ///
    /// - The error with which the driver has ended the request, see [`Request::end`].
    /// - [`EBUSY`] if this was called before.
    /// - [`EFAULT`] if data was copied, and the memory of the process cannot be accessed any more.
    pub fn execute(&mut self, timeout: Option<Delta>) -> Result {
        let raw = self.raw.as_ptr();
        // 0 is the default of the disk. The upper limit is for the arithmetic of timers.
        let jiffies = timeout.map_or(0, |timeout| {
            let msecs = timeout.as_millis_ceil().try_into().unwrap_or(u32::MAX);

            u32::try_from(msecs_to_jiffies(msecs))
                .unwrap_or(u32::MAX)
                .clamp(1, u32::MAX >> 2)
        });

        if core::mem::replace(&mut self.executed, true) {
            return Err(EBUSY);
        }
        // SAFETY: By the type invariant the request is valid and belongs to this value. It was not
        // executed. Until it ends it belongs to the driver, and nothing here accesses it. Then it
        // is not freed, and belongs to this value again.
        let status = unsafe {
            (*raw).timeout = jiffies;
            bindings::blk_execute_rq(raw, false)
        };
        let unmapped = self.unmap_user();

        // SAFETY: This has no requirements.
        to_result(unsafe { bindings::blk_status_to_errno(status) })?;
        unmapped
    }

    /// Unmaps the data, if there is any.
    fn unmap_user(&mut self) -> Result {
        // INVARIANT: The bios are unmapped below.
        let bio = core::mem::replace(&mut self.bio, ptr::null_mut());

        // SAFETY: By the type invariant the bios are not yet unmapped, or there are none. The
        // current process is that of `map_user()`, as `OpenDisk` is not `Send`.
        to_result(unsafe { bindings::blk_rq_unmap_user(bio) })
    }
}

impl<T: DiskOperations> Drop for DriverRequest<'_, T> {
    fn drop(&mut self) {
        let _ = self.unmap_user();

        // SAFETY: By the type invariant the request is valid and belongs to this value. It was not
        // executed, or has ended.
        unsafe { bindings::blk_mq_free_request(self.raw.as_ptr()) };
    }
}

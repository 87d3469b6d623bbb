// SPDX-License-Identifier: GPL-2.0

//! Disks of a device.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

mod disk_private;
mod driver_request;
mod limits;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests;

pub use self::{
    driver_request::{
        DriverRequest,
        OpenDisk, //
    },
    limits::{
        Checksum,
        Integrity,
        Limits, //
    }, //
};

use self::disk_private::DiskPrivate;
use crate::{
    bindings,
    block::{
        mq::{
            Operations,
            TagSet, //
        },
        SECTOR_SHIFT, //
    },
    device::{
        Bound,
        Device, //
    },
    error::{
        from_err_ptr,
        to_result, //
    },
    fmt,
    prelude::*,
    static_lock_class,
    str::NullTerminatedFormatter,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        msecs_to_jiffies,
        Delta, //
    },
    types::{
        ForeignOwnable,
        ScopeGuard, //
    },
};
use core::{
    fmt::Write,
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};

// CAST: The value is not negative.
/// The maximum capacity: the offset of each byte fits into a `loff_t`.
const MAX_SECTORS: u64 = (i64::MAX >> SECTOR_SHIFT) as u64;

/// Operations of a [`Disk`] besides requests.
pub trait DiskOperations: Operations {
    /// Handles an ioctl of the disk or of a partition that the block layer does not handle.
    ///
    /// Several may run at the same time. Dropping the disk waits for running calls, and later
    /// calls fail with [`ENODEV`]. Depending on `cmd`, `arg` is a number or an address in user
    /// space. May sleep. The driver checks the permissions of the caller, see
    /// [`Capability`](crate::cred::Capability).
    ///
    /// # Errors
    ///
    /// [`ENOTTY`] if there is no such ioctl, and others that the driver returns.
    fn ioctl(
        queue_data: <Self::QueueData as ForeignOwnable>::Borrowed<'_>,
        disk: &OpenDisk<'_, Self>,
        cmd: u32,
        arg: usize,
    ) -> Result<c_int> {
        let _ = (queue_data, disk, cmd, arg);
        Err(ENOTTY)
    }
}

/// A disk of a device that is bound to a driver.
///
/// Dropping it removes the disk from the system: file systems on it are notified, new requests
/// fail, and the drop waits until the driver has ended all requests. Then the queue data is
/// dropped. User space may keep a file of the disk open for longer, and gets only errors from it.
/// The module of [`Operations`] is not unloaded before the file is closed.
///
/// # Invariants
///
/// - `gendisk` is valid; this value owns a reference to it, and its queue belongs to `tagset`.
/// - Its `private_data` is a `DiskPrivate`. This value owns it until the disk is added; then the
///   disk owns it.
/// - If `frozen`, this value has frozen the queue once more than it has unfrozen it.
/// - The `queuedata` of the queue came from `into_foreign()` and is valid for as long as this
///   value.
///
/// # Examples
///
/// A drive without hardware and without a medium:
///
/// ```
/// # use kernel::faux;
/// use kernel::{
///     block::mq::{
///         Disk, DiskOperations, Limits, OpenDisk, Operations, Request, TagSet, Timeout,
///         TimeoutOperations,
///     },
///     device::{Bound, Device},
///     sync::{aref::ARef, Arc}, //
/// };
///
/// struct Drive;
///
/// #[vtable]
/// impl Operations for Drive {
///     type QueueData = KBox<i32>;
///     type RequestData = ();
///
///     fn new_request_data() -> impl PinInit<(), Error> {
///         Ok(())
///     }
///
///     fn queue_rq(_serial: &i32, _rq: ARef<Request<Self>>, _is_last: bool) -> Result {
///         // The error ends the request.
///         Err(EIO)
///     }
///
///     fn commit_rqs(_serial: &i32) {}
///
///     fn complete(rq: ARef<Request<Self>>) {
///         let _ = Request::end(rq, Ok(()));
///     }
/// }
///
/// impl TimeoutOperations for Drive {
///     fn timeout(_: &i32, _queue: u32, _tag: u32, _is_expired: impl Fn() -> bool) -> Timeout {
///         Timeout::Restart
///     }
/// }
///
/// impl DiskOperations for Drive {
///     fn ioctl(serial: &i32, _disk: &OpenDisk<'_, Self>, cmd: u32, _arg: usize) -> Result<c_int> {
///         if cmd == 0x5a00 { Ok(*serial) } else { Err(ENOTTY) }
///     }
/// }
///
/// fn drive(dev: &Device<Bound>) -> Result<Disk<'_, Drive>> {
///     let tags = Arc::pin_init(TagSet::with_timeout(1, 16), GFP_KERNEL)?;
///     let limits = Limits { logical_block_size: 4096, ..Limits::default() };
///     let serial = KBox::new(42, GFP_KERNEL)?;
///
///     // SAFETY: The caller does not forget the disk.
///     unsafe { Disk::new(dev, fmt!("drive0n1"), &limits, 0, tags, serial) }
/// }
///
/// # let faux = faux::Registration::new(c"rust_disk_doc", None)?;
/// # let faux: &faux::Device<Bound> = faux.as_ref();
/// let drive = drive(faux.as_ref())?;
/// drive.add()?;
/// assert_eq!(*drive.queue_data(), 42);
/// # Ok::<(), Error>(())
/// ```
pub struct Disk<'bound, T: DiskOperations> {
    gendisk: NonNull<bindings::gendisk>,
    tagset: Arc<TagSet<T>>,
    parent: &'bound Device<Bound>,
    added: Atomic<bool>,
    frozen: Atomic<bool>,
    _queue_data: PhantomData<T::QueueData>,
}

// SAFETY: Any thread that may sleep may delete a disk. It then drops the queue data, which is
// `Send`.
unsafe impl<T: DiskOperations> Send for Disk<'_, T> where T::QueueData: Send {}

// SAFETY: The block layer synchronises what a shared reference can do, and `add()` adds the disk
// only once. The queue data, of which it gives out shared references, is `Sync`.
unsafe impl<T: DiskOperations> Sync for Disk<'_, T> {}

impl<'bound, T: DiskOperations> Disk<'bound, T> {
    /// Creates a disk of `capacity` sectors of 512 bytes. It is not yet added to the system.
    ///
    /// There are no requests before [`add()`](Self::add). May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the name is too long, or the block layer does not support `limits` or
    ///   `capacity`.
    /// - [`ENOMEM`] if there is no memory for the disk, or [`Operations::new_request_data`] fails.
    ///
    /// # Safety
    ///
    /// The disk must be dropped before `'bound` ends. It must not be forgotten, as the driver would
    /// get requests after its device was unbound.
    pub unsafe fn new(
        parent: &'bound Device<Bound>,
        name: fmt::Arguments<'_>,
        limits: &Limits,
        capacity: u64,
        tagset: Arc<TagSet<T>>,
        queue_data: T::QueueData,
    ) -> Result<Self> {
        let mut limits = limits.to_raw()?;
        if capacity > MAX_SECTORS {
            return Err(EINVAL);
        }

        let data = queue_data.into_foreign();
        let drop_data = ScopeGuard::new(|| {
            // SAFETY: The data came from `into_foreign()`. There was no request, so it is not
            // borrowed.
            drop(unsafe { T::QueueData::from_foreign(data) });
        });

        let private = DiskPrivate::new::<T>(data)?;

        // SAFETY: Tag set and limits are initialized and valid.
        let gendisk = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                tagset.raw_tag_set(),
                &mut limits,
                data,
                static_lock_class!().as_ptr(),
            )
        })?;
        let put_disk = ScopeGuard::new(move || {
            // SAFETY: The disk was not added, so this is the only reference.
            unsafe { bindings::put_disk(gendisk) };
        });

        // SAFETY: The disk is valid, and nothing else refers to it.
        let disk_name = unsafe { &mut (*gendisk).disk_name };
        NullTerminatedFormatter::new(disk_name)
            .ok_or(EINVAL)?
            .write_fmt(name)?;

        // SAFETY: See above. If the disk is not added, `drop()` calls `DiskPrivate::free()`.
        unsafe {
            bindings::set_capacity(gendisk, capacity);
            private.install(gendisk);
        }
        put_disk.dismiss();
        drop_data.dismiss();

        // INVARIANT: The disk was just allocated for `tagset` with the queue data. It is not
        // frozen, and its private data was just installed.
        Ok(Self {
            // SAFETY: The pointer is not an error and not null.
            gendisk: unsafe { NonNull::new_unchecked(gendisk) },
            tagset,
            parent,
            added: Atomic::new(false),
            frozen: Atomic::new(false),
            _queue_data: PhantomData,
        })
    }

    /// Adds the disk to the system.
    ///
    /// This reads the partition table, so there are requests before it returns. A driver must not
    /// hold locks that they or their timeouts take. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if this was called before.
    /// - [`EEXIST`] if there is a disk of the same name.
    /// - [`ENOMEM`] if there is not enough memory.
    pub fn add(&self) -> Result {
        if self.added.xchg(true, Relaxed) {
            return Err(EBUSY);
        }

        // SAFETY: By the type invariant the disk is valid, and it was not added before. Its parent
        // is bound, so it is valid.
        to_result(unsafe {
            bindings::device_add_disk(self.parent.as_raw(), self.raw(), ptr::null_mut())
        })
    }

    /// Sets whether the disk is read-only, usually before [`add()`](Self::add). May sleep.
    pub fn set_read_only(&self, read_only: bool) {
        // SAFETY: By the type invariant the disk is valid.
        unsafe { bindings::set_disk_ro(self.raw(), read_only) };
    }

    /// Marks the device as gone: new requests fail, and file systems are notified.
    ///
    /// Does not wait for requests that the driver has. Those that were [requeued with a
    /// delay](crate::block::mq::Request::requeue_after) are dispatched at once. May sleep, for the
    /// file systems, which may wait for requests.
    pub fn mark_dead(&self) {
        // SAFETY: By the type invariant the disk is valid. `drop()` removes it, which is not
        // possible while `self` is borrowed.
        unsafe { disk_private::mark_dead(self.raw()) };
    }

    /// Calls [`mark_dead()`](Self::mark_dead) in a work item, or not at all if the disk is dropped
    /// before.
    ///
    /// May be called in any context, also where requests cannot make progress, such as
    /// [`TimeoutOperations::timeout`](super::TimeoutOperations::timeout).
    pub fn mark_dead_later(&self) {
        self.private().mark_dead_later();
    }

    /// Freezes the queue: blocks submitters of new requests, and waits until all requests have
    /// ended.
    ///
    /// A driver does this before system suspend: taking a CPU offline waits for requests, also for
    /// those that were not dispatched to the driver. The caller must not hold locks that requests
    /// or their timeouts take. Another task may call [`unfreeze()`](Self::unfreeze). May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] if the queue is already frozen.
    /// - [`ETIMEDOUT`] if there are still requests after `timeout`. The queue is not frozen then.
    pub fn freeze(&self, timeout: Delta) -> Result {
        self.start_freeze()?;
        if !self.wait_frozen(timeout) {
            self.unfreeze();
            return Err(ETIMEDOUT);
        }
        Ok(())
    }

    /// The first half of [`freeze()`](Self::freeze): blocks submitters of new requests.
    ///
    /// The driver checks with [`is_frozen()`](Self::is_frozen) whether all requests have ended.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if the queue is already frozen.
    pub fn start_freeze(&self) -> Result {
        // SAFETY: By the type invariant the disk is valid, and so is its queue.
        unsafe { bindings::blk_freeze_queue_start_non_owner(self.queue()) };
        // INVARIANT: The queue was just frozen; if it was already frozen, that is reverted.
        if self.frozen.xchg(true, Full) {
            // SAFETY: See above. The queue was just frozen.
            unsafe { bindings::blk_mq_unfreeze_queue_non_owner(self.queue()) };
            return Err(EBUSY);
        }
        Ok(())
    }

    /// Returns whether the queue is frozen and all requests have ended. May sleep.
    pub fn is_frozen(&self) -> bool {
        self.wait_frozen(Delta::ZERO)
    }

    fn wait_frozen(&self, timeout: Delta) -> bool {
        let jiffies = msecs_to_jiffies(timeout.as_millis().try_into().unwrap_or(0));

        // SAFETY: By the type invariant the disk is valid, and so is its queue.
        unsafe { bindings::blk_mq_freeze_queue_wait_timeout(self.queue(), jiffies) != 0 }
    }

    /// Unfreezes the queue if [`freeze()`](Self::freeze) or [`start_freeze()`](Self::start_freeze)
    /// has frozen it.
    pub fn unfreeze(&self) {
        // INVARIANT: The caller that clears `frozen` unfreezes the queue.
        if self.frozen.xchg(false, Full) {
            // SAFETY: By the type invariants the disk and its queue are valid, and the queue is
            // frozen.
            unsafe { bindings::blk_mq_unfreeze_queue_non_owner(self.queue()) };
        }
    }

    /// Returns the queue data, same as in [`Operations::queue_rq`].
    pub fn queue_data(&self) -> <T::QueueData as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: By the type invariant the data came from `into_foreign()` and is valid for as
        // long as `self`.
        unsafe { T::QueueData::borrow((*self.queue()).queuedata) }
    }

    fn private(&self) -> &DiskPrivate {
        // SAFETY: By the type invariant the private data is a `DiskPrivate`, which is freed with
        // the disk. It is only ever shared.
        unsafe { &*(*self.raw()).private_data.cast::<DiskPrivate>() }
    }

    fn queue(&self) -> *mut bindings::request_queue {
        // SAFETY: By the type invariant the disk is valid.
        unsafe { (*self.raw()).queue }
    }

    fn raw(&self) -> *mut bindings::gendisk {
        self.gendisk.as_ptr()
    }

    /// Returns whether [`add()`](Self::add) was successful.
    fn is_live(&self) -> bool {
        // Other bits change concurrently; this one is set only in `add()`.
        // SAFETY: By the type invariant the disk is valid.
        let state = unsafe { (&raw const (*self.raw()).state).read_volatile() };

        state & (1 << bindings::GD_ADDED) != 0
    }
}

impl<T: DiskOperations> Drop for Disk<'_, T> {
    fn drop(&mut self) {
        let gendisk = self.raw();
        // SAFETY: By the type invariants disk and queue are valid.
        let (data, private) = unsafe { ((*(*gendisk).queue).queuedata, (*gendisk).private_data) };
        let private = private.cast::<DiskPrivate>();

        // File systems may still write back, so requests must reach the driver.
        self.unfreeze();

        self.private().close();

        let added = self.is_live();
        if added {
            // SAFETY: The disk is valid and was added. This waits for all requests.
            unsafe { bindings::del_gendisk(gendisk) };
            // `queue_rq()` may still run for a request that has already ended.
            // SAFETY: By its type invariant the tag set is valid.
            unsafe { bindings::blk_mq_wait_quiesce_done(self.tagset.raw_tag_set()) };
        }

        // SAFETY: By the type invariants this value owns the reference. If the disk was added, the
        // last `put_disk()` frees its private data.
        unsafe { bindings::put_disk(gendisk) };
        if !added {
            // SAFETY: By the type invariants this value owns the private data of a disk that was
            // not added. The disk was freed, as this value owned its only reference.
            unsafe { DiskPrivate::free(private) };
        }

        // SAFETY: By the type invariants the data came from `into_foreign()`. There are no requests
        // and ioctls any more, so it is not borrowed.
        drop(unsafe { T::QueueData::from_foreign(data) });
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Disks of a device.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

mod gate;
mod limits;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests;

pub use self::limits::Limits;

use self::gate::Gate;
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

// CAST: It is not negative.
/// The largest disk that the block layer works with: its bytes have a number.
const MAX_SECTORS: u64 = (i64::MAX >> SECTOR_SHIFT) as u64;

/// What a driver does for its [`Disk`]s besides requests.
pub trait DiskOperations: Operations {
    /// Answers an ioctl of the disk, or of one of its partitions, that the block layer does not.
    ///
    /// One at a time for each disk; dropping the disk waits for it, and later ones are answered
    /// with [`ENODEV`]. `arg` is the address of something in the caller's memory, or a number, as
    /// `cmd` says. May sleep. Who may do this is for the driver to ask; see
    /// [`Capability`](crate::cred::Capability).
    ///
    /// # Errors
    ///
    /// [`ENOTTY`] where there is no such ioctl, and what else the driver says.
    fn ioctl(
        queue_data: <Self::QueueData as ForeignOwnable>::Borrowed<'_>,
        cmd: u32,
        arg: usize,
    ) -> Result<c_int> {
        let _ = (queue_data, cmd, arg);
        Err(ENOTTY)
    }
}

/// A disk of a device that is bound to a driver.
///
/// Dropping it takes the disk from the system: file systems on it are told, new requests are
/// refused, and the drop waits until the driver has given back all that it has. Then the queue data
/// is dropped. User space may keep a file of the disk open for longer, and only gets errors from
/// it; so long the module of [`Operations`] stays.
///
/// # Invariants
///
/// - `gendisk` is valid, with a reference that is this value's, and its queue is of `tagset`.
/// - Its `private_data` is a [`Gate`] that this value owns unless the disk is added: then it lives
///   as long as the disk.
/// - Where `frozen`, its queue was frozen once more than it was unfrozen by this value.
/// - Its queue's `queuedata` came from `into_foreign()` and is valid as long as this value.
///
/// # Examples
///
/// A drive without hardware, and without a medium: there is nothing to read.
///
/// ```
/// # use kernel::faux;
/// use kernel::{
///     block::mq::{
///         Disk, DiskOperations, Limits, Operations, Request, TagSet, Timeout, TimeoutOperations,
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
///
///     fn queue_rq(_serial: &i32, _rq: ARef<Request<Self>>, _is_last: bool) -> Result {
///         // The request goes back with the error.
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
///     fn timeout(_serial: &i32, _queue: u32, _tag: u32) -> Timeout {
///         Timeout::Restart
///     }
/// }
///
/// impl DiskOperations for Drive {
///     fn ioctl(serial: &i32, cmd: u32, _arg: usize) -> Result<c_int> {
///         if cmd == 0x5a00 { Ok(*serial) } else { Err(ENOTTY) }
///     }
/// }
///
/// fn drive(dev: &Device<Bound>) -> Result<Disk<'_, Drive>> {
///     let tags = Arc::pin_init(TagSet::with_timeout(1, 16), GFP_KERNEL)?;
///     let limits = Limits { logical_block_size: 4096, ..Limits::default() };
///     let serial = KBox::new(42, GFP_KERNEL)?;
///
///     // SAFETY: Who calls this does not forget it.
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

// SAFETY: A disk may be deleted by any thread that may sleep. What is dropped then besides is the
// queue data.
unsafe impl<T: DiskOperations> Send for Disk<'_, T> where T::QueueData: Send {}

// SAFETY: What is done through a shared reference is synchronised by the block layer, and `add()`
// does its work once. The queue data, which it lends, is `Sync`.
unsafe impl<T: DiskOperations> Sync for Disk<'_, T> {}

impl<'bound, T: DiskOperations> Disk<'bound, T> {
    /// Makes a disk of `capacity` sectors of 512 bytes, which is not yet added to the system.
    ///
    /// No request comes before [`add()`](Self::add). May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where the name is too long, or the block layer cannot work with `limits` or
    ///   `capacity`.
    /// - [`ENOMEM`] where there is no memory for it.
    ///
    /// # Safety
    ///
    /// The result must not be forgotten, or its drop prevented in another way: requests would come
    /// after `'bound` has ended.
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
            // SAFETY: It came from `into_foreign()`, and nobody has borrowed it: no request came.
            drop(unsafe { T::QueueData::from_foreign(data) });
        });

        let gate = Gate::new::<T>(data)?;

        // SAFETY: The tag set is initialized and valid, and so are the limits.
        let gendisk = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                tagset.raw_tag_set(),
                &mut limits,
                data,
                static_lock_class!().as_ptr(),
            )
        })?;
        let put_disk = ScopeGuard::new(move || {
            // SAFETY: It was not added to the system, so that this is the only reference.
            unsafe { bindings::put_disk(gendisk) };
        });

        // SAFETY: The disk is valid, and nobody else knows of it.
        let disk_name = unsafe { &mut (*gendisk).disk_name };
        NullTerminatedFormatter::new(disk_name)
            .ok_or(EINVAL)?
            .write_fmt(name)?;

        // SAFETY: As above.
        unsafe {
            bindings::set_capacity(gendisk, capacity);
            gate.install(gendisk);
        }
        put_disk.dismiss();
        drop_data.dismiss();

        // INVARIANT: All this was just done.
        Ok(Self {
            // SAFETY: A pointer to a disk is not null.
            gendisk: unsafe { NonNull::new_unchecked(gendisk) },
            tagset,
            parent,
            added: Atomic::new(false),
            frozen: Atomic::new(false),
            _queue_data: PhantomData,
        })
    }

    /// Adds the disk to the system, where it is found as the name that it has.
    ///
    /// Requests come before this returns, as it looks for partitions: a driver must not hold what
    /// they, or their timeouts, need. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] where this was called before.
    /// - [`EEXIST`] where there is a disk of that name.
    /// - [`ENOMEM`] where there is no memory for it.
    pub fn add(&self) -> Result {
        if self.added.xchg(true, Relaxed) {
            return Err(EBUSY);
        }

        // SAFETY: By the type invariant the disk is valid, and it was not added before. Its parent
        // is bound, and so it is valid.
        to_result(unsafe {
            bindings::device_add_disk(self.parent.as_raw(), self.raw(), ptr::null_mut())
        })
    }

    /// Says that the device is gone: requests are refused from now on, and file systems are told.
    ///
    /// It does not wait for requests that the driver has. May sleep, for file systems.
    pub fn mark_dead(&self) {
        // SAFETY: By the type invariant the disk is valid.
        unsafe { bindings::blk_mark_disk_dead(self.raw()) };
    }

    /// Keeps new requests waiting where they come from, and waits for the others until no request
    /// is left anywhere between the disk and its users.
    ///
    /// So it is before a system sleeps: a processor that goes offline waits for requests, also for
    /// those that the driver was not given. Who waits must not hold what requests, or their
    /// timeouts, need. Another task may call [`unfreeze()`](Self::unfreeze). May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBUSY`] where it is frozen already.
    /// - [`ETIMEDOUT`] where requests are left after `timeout`. It is not frozen then.
    pub fn freeze(&self, timeout: Delta) -> Result {
        let jiffies = msecs_to_jiffies(timeout.as_millis().try_into().unwrap_or(0));

        // SAFETY: By the type invariant the disk is valid, and so is its queue.
        unsafe { bindings::blk_freeze_queue_start_non_owner(self.queue()) };
        // INVARIANT: It was just frozen, or is unfrozen again.
        if self.frozen.xchg(true, Full) {
            // SAFETY: As above, and it was just frozen.
            unsafe { bindings::blk_mq_unfreeze_queue_non_owner(self.queue()) };
            return Err(EBUSY);
        }

        // SAFETY: As above.
        let left = unsafe { bindings::blk_mq_freeze_queue_wait_timeout(self.queue(), jiffies) };
        if left == 0 {
            self.unfreeze();
            return Err(ETIMEDOUT);
        }
        Ok(())
    }

    /// Lets requests come again, where [`freeze()`](Self::freeze) keeps them away.
    pub fn unfreeze(&self) {
        // INVARIANT: Who takes the mark away unfreezes it.
        if self.frozen.xchg(false, Full) {
            // SAFETY: By the type invariants the disk is valid, and so is its queue, which is
            // frozen.
            unsafe { bindings::blk_mq_unfreeze_queue_non_owner(self.queue()) };
        }
    }

    /// What [`Operations::queue_rq`] is given.
    pub fn queue_data(&self) -> <T::QueueData as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: By the type invariant this came from `into_foreign()`, and is valid as long as
        // `self`, which has not taken it back.
        unsafe { T::QueueData::borrow((*self.queue()).queuedata) }
    }

    fn queue(&self) -> *mut bindings::request_queue {
        // SAFETY: By the type invariant the disk is valid.
        unsafe { (*self.raw()).queue }
    }

    fn raw(&self) -> *mut bindings::gendisk {
        self.gendisk.as_ptr()
    }

    /// Whether [`add()`](Self::add) was successful.
    fn is_live(&self) -> bool {
        // Other bits change; this one was set by our call, or never is.
        // SAFETY: By the type invariant the disk is valid.
        let state = unsafe { (&raw const (*self.raw()).state).read_volatile() };

        state & (1 << bindings::GD_ADDED) != 0
    }
}

impl<T: DiskOperations> Drop for Disk<'_, T> {
    fn drop(&mut self) {
        let gendisk = self.raw();
        // SAFETY: By the type invariants.
        let (data, gate) = unsafe { ((*(*gendisk).queue).queuedata, (*gendisk).private_data) };
        let gate = gate.cast::<Gate>();

        // What file systems still write is to come to the driver.
        self.unfreeze();

        // SAFETY: By the type invariants the gate lives as long as this reference to the disk.
        unsafe { (*gate).close() };

        let added = self.is_live();
        if added {
            // SAFETY: The disk is valid and was added. This waits for all requests.
            unsafe { bindings::del_gendisk(gendisk) };
            // A request may have been given back while the call of `queue_rq()` that brought it has
            // not returned.
            // SAFETY: By its type invariant the tag set is valid.
            unsafe { bindings::blk_mq_wait_quiesce_done(self.tagset.raw_tag_set()) };
        }

        // SAFETY: This is our reference. Where it is the last one, and the disk was added, it is
        // now that the gate is freed.
        unsafe { bindings::put_disk(gendisk) };
        if !added {
            // SAFETY: By the type invariants the gate is ours, and with the disk its last user has
            // gone.
            unsafe { Gate::free(gate) };
        }

        // SAFETY: By the type invariants it came from `into_foreign()`. No request comes any more,
        // and no ioctl: nobody has it borrowed.
        drop(unsafe { T::QueueData::from_foreign(data) });
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The private data of a disk, which may outlive the driver.

use super::{
    DiskOperations,
    OpenDisk, //
};
use crate::{
    bindings,
    container_of,
    error::from_result,
    module::this_module,
    new_condvar,
    new_mutex,
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        CondVar,
        Mutex, //
    },
    types::{
        ForeignOwnable,
        Opaque,
        ScopeGuard, //
    }, //
};
use core::ptr;

/// The private data of a disk: its operations, and the queue data of the driver until it is closed.
///
/// It is freed with the disk, which may outlive the queue data and, after the last file was closed,
/// the module of the driver. So its type does not depend on the driver, it contains the table of
/// operations, and a function of this crate frees it.
///
/// # Invariants
///
/// `dead_work` is initialized with `dead_callback()`. It is queued only while the disk in `disk`
/// exists, and [`close()`](Self::close) cancels it.
#[pin_data]
pub(super) struct DiskPrivate {
    operations: bindings::block_device_operations,
    /// Null before [`install()`](Self::install).
    disk: Atomic<*mut bindings::gendisk>,
    /// Marks the disk dead.
    #[pin]
    dead_work: Opaque<bindings::work_struct>,
    #[pin]
    users: Mutex<Users>,
    /// The last ioctl has returned.
    #[pin]
    idle: CondVar,
}

/// The queue data, and the ioctls that use it.
///
/// # Invariants
///
/// `data` is [`None`], or came from `into_foreign()` and is valid. It stays valid while `count` is
/// not 0.
struct Users {
    data: Option<*mut c_void>,
    count: usize,
}

impl DiskPrivate {
    /// Creates the private data of a disk whose queue data is `data`, which came from
    /// `T::QueueData::into_foreign()`.
    pub(super) fn new<T: DiskOperations>(data: *mut c_void) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                operations: bindings::block_device_operations {
                    ioctl: Some(ioctl_callback::<T>),
                    #[cfg(CONFIG_COMPAT)]
                    compat_ioctl: Some(bindings::blkdev_compat_ptr_ioctl),
                    free_disk: Some(free_disk_callback),
                    owner: this_module::<T::OwnerModule>().as_ptr(),
                    ..pin_init::zeroed()
                },
                disk: Atomic::new(ptr::null_mut()),
                // INVARIANT: It is initialized, and not queued.
                dead_work <- new_dead_work(),
                // INVARIANT: The caller guarantees that the data came from `into_foreign()`.
                users <- new_mutex!(Users {
                    data: Some(data),
                    count: 0,
                }),
                idle <- new_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes this the private data of `disk`.
    ///
    /// # Safety
    ///
    /// `disk` must be valid, and nothing else may refer to it. If it is never added,
    /// [`DiskPrivate::free`] must be called on its `private_data` after the last `put_disk()`.
    pub(super) unsafe fn install(self: Pin<KBox<Self>>, disk: *mut bindings::gendisk) {
        // SAFETY: The allocation is not moved: `free()` drops it in place.
        let private = KBox::into_raw(unsafe { Pin::into_inner_unchecked(self) });

        // SAFETY: `disk` is valid, and nothing else accesses it.
        unsafe {
            (*private).disk.store(disk, Relaxed);
            (*disk).fops = &raw const (*private).operations;
            (*disk).private_data = private.cast();
        }
    }

    /// Queues the work that marks the disk dead. Only the [`Disk`](super::Disk) calls this, which
    /// calls [`close()`](Self::close) before it drops its reference to the disk.
    pub(super) fn mark_dead_later(&self) {
        // INVARIANT: The disk exists, as the caller refers to it.
        // SAFETY: By the type invariant the work is initialized. It is not freed while it is
        // queued: see above.
        unsafe {
            bindings::queue_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                bindings::system_dfl_wq,
                self.dead_work.get(),
            )
        };
    }

    /// Starts to use the queue data, for an ioctl.
    ///
    /// # Errors
    ///
    /// [`ENODEV`] if the disk is being dropped.
    fn enter(&self) -> Result<*mut c_void> {
        let mut users = self.users.lock();
        let data = users.data.ok_or(ENODEV)?;

        users.count += 1;
        Ok(data)
    }

    /// Ends the use of the queue data after [`enter()`](Self::enter).
    fn leave(&self) {
        let mut users = self.users.lock();

        users.count -= 1;
        if users.count == 0 {
            // With the lock, after which `close()` may return.
            self.idle.notify_all();
        }
    }

    /// Waits for running ioctls, and makes all later ones fail. Then cancels the work that marks
    /// the disk dead, or waits for it.
    ///
    /// Afterwards the queue data is not used any longer.
    pub(super) fn close(&self) {
        let mut users = self.users.lock();

        users.data = None;
        while users.count != 0 {
            self.idle.wait(&mut users);
        }
        drop(users);
        // SAFETY: By the type invariant the work is initialized.
        unsafe { bindings::cancel_work_sync(self.dead_work.get()) };
    }

    /// Frees what [`DiskPrivate::install`] consumed.
    ///
    /// # Safety
    ///
    /// `private` must have been the `private_data` of a disk that is freed or being freed. It must
    /// not have been freed.
    pub(super) unsafe fn free(private: *mut Self) {
        // SAFETY: `install()` has stored the result of `into_raw()`. Only the disk referred to it,
        // which is freed.
        drop(unsafe { KBox::from_raw(private) });
    }
}

/// # Safety
///
/// Only the block layer may call this, for an open block device whose disk has a [`DiskPrivate`]
/// for the queue data of `T`.
unsafe extern "C" fn ioctl_callback<T: DiskOperations>(
    bdev: *mut bindings::block_device,
    _mode: bindings::blk_mode_t,
    cmd: c_uint,
    arg: c_ulong,
) -> c_int {
    // SAFETY: The open file holds a reference to the disk, and so to its private data.
    let private = unsafe { &*(*(*bdev).bd_disk).private_data.cast::<DiskPrivate>() };

    from_result(|| {
        let data = private.enter()?;
        let _leave = ScopeGuard::new(|| private.leave());

        // SAFETY: The data came from `into_foreign()`. It is converted back only after `close()`,
        // which waits until this has left.
        let queue_data = unsafe { T::QueueData::borrow(data) };
        // SAFETY: The block layer has opened the device, and the caller guarantees that its disk is
        // one of `T`. The queue data is valid, see above.
        let disk = unsafe { OpenDisk::new(bdev) };

        T::ioctl(queue_data, &disk, cmd, arg)
    })
}

/// Name and lock class are those of this crate, as the work may outlive the module of the driver.
fn new_dead_work() -> impl PinInit<Opaque<bindings::work_struct>> {
    Opaque::ffi_init(|work: *mut bindings::work_struct| {
        // SAFETY: `work` is valid for writes, and stays where it is.
        unsafe {
            bindings::init_work_with_key(
                work,
                Some(dead_callback),
                false,
                c"DiskPrivate::dead_work".as_char_ptr(),
                static_lock_class!().as_ptr(),
            )
        }
    })
}

/// # Safety
///
/// Only a workqueue may call this, for the work of a [`DiskPrivate`].
unsafe extern "C" fn dead_callback(work: *mut bindings::work_struct) {
    // CAST: `Opaque` is transparent.
    let work = work.cast::<Opaque<bindings::work_struct>>();
    // SAFETY: `work` is that of a `DiskPrivate`, whose disk exists by the type invariant. It is
    // removed after the work was cancelled, which waits for this.
    unsafe {
        let private = container_of!(work, DiskPrivate, dead_work);

        mark_dead((*private).disk.load(Relaxed));
    }
}

/// Marks a disk dead. Requests that are requeued with a delay do not wait for it.
///
/// # Safety
///
/// `disk` must be valid, and must not be removed before this returns.
pub(super) unsafe fn mark_dead(disk: *mut bindings::gendisk) {
    // SAFETY: The disk is valid, and so is its queue.
    unsafe {
        bindings::blk_mark_disk_dead(disk);
        bindings::blk_mq_kick_requeue_list((*disk).queue);
    }
}

/// # Safety
///
/// Only the block layer may call this, when it frees a disk that was added and has a
/// [`DiskPrivate`].
unsafe extern "C" fn free_disk_callback(disk: *mut bindings::gendisk) {
    // SAFETY: The disk is being freed. The block layer does not access the operations of the disk
    // afterwards.
    unsafe { DiskPrivate::free((*disk).private_data.cast()) };
}

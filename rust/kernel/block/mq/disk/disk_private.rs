// SPDX-License-Identifier: GPL-2.0

//! The private data of a disk, which may outlive the driver.

use super::DiskOperations;
use crate::{
    bindings,
    error::from_result,
    module::this_module,
    new_mutex,
    prelude::*,
    sync::Mutex,
    types::ForeignOwnable, //
};

/// The private data of a disk: its operations, and the queue data of the driver until it is closed.
///
/// It is freed with the disk, which may outlive the queue data and, after the last file was closed,
/// the module of the driver. So its type does not depend on the driver, it contains the table of
/// operations, and a function of this crate frees it.
#[pin_data]
pub(super) struct DiskPrivate {
    operations: bindings::block_device_operations,
    /// From `into_foreign()`. It is valid while the lock is held and it is not [`None`].
    #[pin]
    data: Mutex<Option<*mut c_void>>,
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
                data <- new_mutex!(Some(data)),
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
            (*disk).fops = &raw const (*private).operations;
            (*disk).private_data = private.cast();
        }
    }

    /// Waits for a running ioctl, and makes all later ones fail.
    pub(super) fn close(&self) {
        *self.data.lock() = None;
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
        let data = private.data.lock();

        // SAFETY: The data came from `into_foreign()`. It is converted back only after `close()`,
        // which waits for the lock that is held here.
        let queue_data = unsafe { T::QueueData::borrow((*data).ok_or(ENODEV)?) };

        T::ioctl(queue_data, cmd, arg)
    })
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

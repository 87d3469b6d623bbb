// SPDX-License-Identifier: GPL-2.0

//! What user space reaches through a disk that may have lost its driver.

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

/// The way from a disk to its driver's data, until the driver closes it.
///
/// It lives as long as the disk, which may be longer than the driver's data and, when the last file
/// was closed, than the driver's module. So it is of no type that is the driver's, has the table of
/// operations in it, and is freed by a function of ours.
#[pin_data]
pub(super) struct Gate {
    operations: bindings::block_device_operations,
    /// From `into_foreign()`; under the lock it stays what it is.
    #[pin]
    data: Mutex<Option<*mut c_void>>,
}

impl Gate {
    /// A gate to `data`, which came from `T::QueueData::into_foreign()`.
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

    /// Makes this the gate of `disk`.
    ///
    /// # Safety
    ///
    /// `disk` must be valid, and known to nobody else. Where it is never added,
    /// [`Gate::free`] must be called on its `private_data` after it has gone.
    pub(super) unsafe fn install(self: Pin<KBox<Self>>, disk: *mut bindings::gendisk) {
        // SAFETY: It is not moved from where it is.
        let gate = KBox::into_raw(unsafe { Pin::into_inner_unchecked(self) });

        // SAFETY: By the safety requirements.
        unsafe {
            (*disk).fops = &raw const (*gate).operations;
            (*disk).private_data = gate.cast();
        }
    }

    /// Waits for an ioctl that runs, and refuses all later ones.
    pub(super) fn close(&self) {
        *self.data.lock() = None;
    }

    /// Frees what [`Gate::install`] took.
    ///
    /// # Safety
    ///
    /// `gate` must have been the `private_data` of a disk that has gone, and not be freed before.
    pub(super) unsafe fn free(gate: *mut Self) {
        // SAFETY: By the safety requirements it came from `into_raw()`, and nobody refers to it.
        drop(unsafe { KBox::from_raw(gate) });
    }
}

/// # Safety
///
/// This is called by the block layer alone, for an open block device whose disk has a gate to the
/// queue data of `T`.
unsafe extern "C" fn ioctl_callback<T: DiskOperations>(
    bdev: *mut bindings::block_device,
    _mode: bindings::blk_mode_t,
    cmd: c_uint,
    arg: c_ulong,
) -> c_int {
    // SAFETY: Who has it open keeps the disk, and with it the gate.
    let gate = unsafe { &*(*(*bdev).bd_disk).private_data.cast::<Gate>() };

    from_result(|| {
        let data = gate.data.lock();

        // SAFETY: It came from `into_foreign()`, and is taken back after the gate was closed only:
        // not while we hold the lock.
        let queue_data = unsafe { T::QueueData::borrow((*data).ok_or(ENODEV)?) };

        T::ioctl(queue_data, cmd, arg)
    })
}

/// # Safety
///
/// This is called by the block layer alone, when nothing refers any more to a disk that was added
/// and has a gate.
unsafe extern "C" fn free_disk_callback(disk: *mut bindings::gendisk) {
    // SAFETY: By the safety requirements. The block layer does not look at the disk's operations
    // afterwards.
    unsafe { Gate::free((*disk).private_data.cast()) };
}

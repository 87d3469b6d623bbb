// SPDX-License-Identifier: GPL-2.0

//! Queue data is borrowed from a disk, which is not dropped meanwhile.

use kernel::{
    block::mq::{Disk, DiskOperations},
    prelude::*,
};

pub fn remove<T: DiskOperations<QueueData = KBox<u32>>>(disk: Disk<'_, T>) -> u32 {
    let count = disk.queue_data();
    drop(disk);
    //~^ ERROR E0505 cannot move out of `disk` because it is borrowed
    *count
}

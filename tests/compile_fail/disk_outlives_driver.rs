// SPDX-License-Identifier: GPL-2.0

//! A disk does not outlive the binding of its device.

use kernel::{
    block::mq::{Disk, DiskOperations, Limits, TagSet},
    device::{Bound, Device},
    prelude::*,
    sync::Arc,
};

pub fn disk<T: DiskOperations>(
    parent: &Device<Bound>,
    tags: Arc<TagSet<T>>,
    data: T::QueueData,
) -> Result<Disk<'static, T>> {
    // SAFETY: It is not forgotten.
    unsafe { Disk::new(parent, fmt!("disk"), &Limits::default(), 0, tags, data) }
    //~^ ERROR lifetime may not live long enough
}

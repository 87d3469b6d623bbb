// SPDX-License-Identifier: GPL-2.0

//! DMA limits of a device.

use crate::{
    bindings,
    device::{
        Bound,
        Device, //
    },
};

/// Returns the maximum size in bytes of a mapping of `dev`.
///
/// It is less than `usize::MAX` if data may bounce. A driver that maps no more at once, for example
/// through the limits of its disks, gets no [`E2BIG`](crate::error::code::E2BIG).
///
/// # Examples
///
/// ```
/// # use kernel::{dma::DmaMask, dma::phys::testing::TestDevice};
/// use kernel::dma::phys::max_mapping_size;
///
/// # let dev = TestDevice::new(c"rust_limits_doc", DmaMask::new::<64>())?;
/// # let dev = dev.device();
/// let max_hw_bytes = max_mapping_size(dev).min(1 << 20);
/// assert!(max_hw_bytes >= 4096);
/// # Ok::<(), Error>(())
/// ```
pub fn max_mapping_size(dev: &Device<Bound>) -> usize {
    // SAFETY: `dev` is a reference to a device, so the pointer is valid.
    unsafe { bindings::dma_max_mapping_size(dev.as_raw()) }
}

/// Sets the low address bits that mappings of `dev` preserve, also if they bounce.
///
/// With a mask of the page size minus 1, an offset in a page is the same for the CPU and for the
/// device.
///
/// This changes [`max_mapping_size()`] and the capacity that a [`SgStorage`](super::SgStorage)
/// needs.
///
/// # Safety
///
/// Nothing is mapped or allocated for `dev` concurrently.
pub unsafe fn set_min_align_mask(dev: &Device<Bound>, mask: u32) {
    // SAFETY: `dev` is a reference to a device, so the pointer is valid. By the safety requirements
    // nothing is mapped or allocated, so nothing reads the mask concurrently.
    unsafe { bindings::dma_set_min_align_mask(dev.as_raw(), mask) };
}

// SPDX-License-Identifier: GPL-2.0

//! What a device's mappings cannot be larger than.

use crate::{
    bindings,
    device::{
        Bound,
        Device, //
    },
};

/// The most bytes of one mapping, or of one block request, of `dev` that are always mapped at once.
///
/// It is less than `usize::MAX` where data may bounce, and then much: a driver that knows it asks
/// for no more, and need not handle [`E2BIG`](crate::error::code::E2BIG).
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
    // SAFETY: `dev` is a reference, so that the pointer is to a valid device.
    unsafe { bindings::dma_max_mapping_size(dev.as_raw()) }
}

/// Has the mappings of `dev` keep the bits of `mask` of an address, also where they bounce, so that
/// what starts at a multiple of a page does so for the device.
///
/// It changes [`max_mapping_size()`], and what a [`VecStorage`](super::VecStorage) must hold.
///
/// # Safety
///
/// Nothing is mapped or allocated for `dev` at the same time.
pub unsafe fn set_min_align_mask(dev: &Device<Bound>, mask: u32) {
    // SAFETY: `dev` is a reference, so that the pointer is to a valid device; by the safety
    // requirements nobody reads what is written.
    unsafe { bindings::dma_set_min_align_mask(dev.as_raw(), mask) };
}

// SPDX-License-Identifier: GPL-2.0

//! Storage for the segments of a vec.

use crate::{
    alloc::{
        flags::__GFP_NOWARN,
        AllocError,
        Flags, //
    },
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};

/// Storage for the segments of a vec.
///
/// A [`VecMapping`](super::VecMapping) brings its own. A driver that must not allocate makes it
/// ahead: one for each request that its device works on at a time, see
/// [`RequestMapping`](super::RequestMapping).
///
/// It may be large, and then be memory that must not be freed in atomic context.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::VecStorage;
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_storage", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// // For up to 32 ranges, 1 MiB all together.
/// let storage = VecStorage::new(dev, 32, 1 << 20, GFP_KERNEL)?;
/// assert!(storage.room() >= 32);
/// # Ok::<(), Error>(())
/// ```
pub struct VecStorage(KVVec<bindings::dma_phys_segment>);

impl VecStorage {
    /// Allocates what `ranges` ranges of `size` bytes, all together, may need to be mapped for
    /// `dev`.
    ///
    /// The device's limits, such as its largest segment, are set before.
    ///
    /// # Errors
    ///
    /// [`AllocError`] where there is no such memory.
    pub fn new(
        dev: &Device<Bound>,
        ranges: usize,
        size: usize,
        flags: Flags,
    ) -> Result<Self, AllocError> {
        // SAFETY: `dev` is a bound device.
        let room = unsafe { bindings::dma_phys_vec_room(dev.as_raw(), ranges, size) };

        // Room for more than there can be is refused, and nothing to warn of.
        KVVec::from_elem(pin_init::zeroed(), room, flags | __GFP_NOWARN).map(Self)
    }

    /// How many segments it holds, at most.
    #[inline]
    pub fn room(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn as_mut_ptr(&mut self) -> *mut bindings::dma_phys_segment {
        self.0.as_mut_ptr()
    }

    /// The first `count` segments, fewer where there are fewer.
    #[inline]
    pub(super) fn first(&self, count: usize) -> &[bindings::dma_phys_segment] {
        &self.0[..count.min(self.0.len())]
    }
}

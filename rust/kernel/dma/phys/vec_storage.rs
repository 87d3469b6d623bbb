// SPDX-License-Identifier: GPL-2.0

//! Storage for the segments of a vec.

use super::{
    handle::Raw,
    CpuPhys, //
};
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
pub struct VecStorage(
    // One pointer: a mapping is moved often, on its way from a request to its end.
    KBox<Inner>,
);

/// # Invariants
///
/// `vec` knows all of `segments`, to which nobody else writes. Outside of a handle it is empty.
struct Inner {
    vec: bindings::dma_phys_vec,
    segments: KVVec<bindings::dma_phys_segment>,
    /// Ranges for the C core to read, while it maps.
    ranges: KVVec<CpuPhys>,
}

// SAFETY: It is plain data, and owns what it points to.
unsafe impl Send for Inner {}

// SAFETY: A shared reference reads plain data, which only an exclusive one changes.
unsafe impl Sync for Inner {}

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
        let mut segments = KVVec::from_elem(pin_init::zeroed(), room, flags | __GFP_NOWARN)?;
        let vec = bindings::dma_phys_vec {
            segments: segments.as_mut_ptr(),
            room,
            ..pin_init::zeroed()
        };

        // INVARIANT: The segments stay where they are when `segments` is moved.
        let inner = Inner {
            vec,
            segments,
            ranges: KVVec::new(),
        };
        KBox::new(inner, flags).map(Self)
    }

    /// As [`new`](Self::new), for `ranges`, which it then has; their size is `size`.
    pub(super) fn with_ranges(
        dev: &Device<Bound>,
        ranges: KVVec<CpuPhys>,
        size: usize,
        flags: Flags,
    ) -> Result<Self, AllocError> {
        let mut this = Self::new(dev, ranges.len(), size, flags)?;

        this.0.ranges = ranges;
        Ok(this)
    }

    /// Has `ranges`, and no others. Allocates where it never had as many.
    ///
    /// # Errors
    ///
    /// As `ranges`, and [`ENOMEM`].
    #[inline]
    pub(super) fn set_ranges(
        &mut self,
        ranges: impl Iterator<Item = Result<CpuPhys>>,
        flags: Flags,
    ) -> Result {
        self.0.ranges.clear();
        for range in ranges {
            self.0.ranges.push(range?, flags)?;
        }
        Ok(())
    }

    /// For the C core to fill in, and the ranges for it to read.
    #[inline]
    pub(super) fn parts(&mut self) -> (*mut bindings::dma_phys_vec, &[CpuPhys]) {
        let inner = &mut *self.0;

        (&raw mut inner.vec, &inner.ranges)
    }

    /// How many segments it holds, at most.
    #[inline]
    pub fn room(&self) -> usize {
        self.0.segments.len()
    }

    /// For the C core to fill in.
    #[inline]
    pub(super) fn as_mut_ptr(&mut self) -> *mut bindings::dma_phys_vec {
        &raw mut self.0.vec
    }

    /// The segments in use.
    #[inline]
    pub(super) fn segments(&self) -> &[bindings::dma_phys_segment] {
        // No more than there are: the C core never says so, and the compiler wants to know.
        let count = self.0.vec.count.min(self.room());

        &self.0.segments[..count]
    }
}

impl Raw for VecStorage {
    #[inline]
    fn size(&self) -> usize {
        self.0.vec.size
    }

    #[inline]
    fn route(&self) -> u8 {
        self.0.vec.route
    }

    #[inline]
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: By the safety requirements; by the type invariant the segments are there.
        unsafe { bindings::dma_phys_vec_sync_for_cpu(self.as_mut_ptr(), offset, len) }
    }

    #[inline]
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: By the safety requirements; by the type invariant the segments are there.
        unsafe { bindings::dma_phys_vec_sync_for_device(self.as_mut_ptr(), offset, len) }
    }

    #[inline]
    unsafe fn unmap(&mut self) {
        // SAFETY: By the safety requirements; by the type invariant the segments are there.
        unsafe { bindings::dma_phys_vec_unmap(self.as_mut_ptr()) }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Storage for the segments of many ranges.

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

/// Storage for the segments of many ranges.
///
/// An [`SgMapping`](super::SgMapping) allocates its own. A driver that maps without allocating
/// segments creates storage in advance, one for each request that the device processes at a time;
/// see [`RequestMapping`](super::RequestMapping).
///
/// Large storage comes from `vmalloc()` and must not be freed in atomic context.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::SgStorage;
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_storage", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// // For up to 32 ranges of 1 MiB in all.
/// let storage = SgStorage::new(dev, 32, 1 << 20, GFP_KERNEL)?;
/// assert!(storage.capacity() >= 32);
/// # Ok::<(), Error>(())
/// ```
pub struct SgStorage(
    // One pointer: a mapping is moved several times between submission and completion.
    KBox<Inner>,
);

/// # Invariants
///
/// - `sg` is empty unless the storage is part of a [`Handle`](super::handle::Handle), and uses no
///   pool of unmap records.
/// - `count` is at most the length of `segments`. While `sg` is mapped, the first `count` of them
///   are its segments.
struct Inner {
    sg: bindings::dma_phys_sg,
    segments: KVVec<bindings::dma_phys_segment>,
    count: usize,
    /// Ranges that the C core reads while it maps.
    ranges: KVVec<CpuPhys>,
}

// SAFETY: It is plain data. What `sg` points to while it is mapped belongs to `sg` alone, or is the
// device, and may be used by any task.
unsafe impl Send for Inner {}

// SAFETY: A shared reference only reads plain data, which only an exclusive reference changes.
unsafe impl Sync for Inner {}

impl SgStorage {
    /// Allocates the segments that `ranges` ranges of `size` bytes in all may become for `dev`.
    ///
    /// The limits of the device, such as its maximum segment size, must be set before.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if there is not enough memory.
    pub fn new(
        dev: &Device<Bound>,
        ranges: usize,
        size: usize,
        flags: Flags,
    ) -> Result<Self, AllocError> {
        // SAFETY: `dev` is a reference to a device, so the pointer is valid.
        let capacity = unsafe { bindings::dma_phys_sg_max_segments(dev.as_raw(), ranges, size) };

        Self::with_capacity(capacity, flags)
    }

    /// Allocates `capacity` segments.
    pub(super) fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        // A capacity that is too large is an error and needs no warning.
        let segments = KVVec::from_elem(pin_init::zeroed(), capacity, flags | __GFP_NOWARN)?;

        // INVARIANT: A zeroed list is empty and has no pool; `count` is 0.
        let inner = Inner {
            sg: pin_init::zeroed(),
            segments,
            count: 0,
            ranges: KVVec::new(),
        };
        KBox::new(inner, flags).map(Self)
    }

    /// Same as [`new`](Self::new), for the ranges in `ranges`, which it stores. `size` is their
    /// total size.
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

    /// Replaces the stored ranges. Allocates only if there are more than ever before.
    ///
    /// # Errors
    ///
    /// Those in `ranges`, and [`ENOMEM`].
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

    /// Calls `map` with the stored ranges, the segments, their number and the list. Returns 0, or
    /// the negative errno that `map` returns.
    ///
    /// `map` passes the last three to a function of the C core and returns its result, which is the
    /// number of segments or a negative errno.
    #[inline]
    pub(super) fn map_with(
        &mut self,
        map: impl FnOnce(
            &[CpuPhys],
            *mut bindings::dma_phys_segment,
            usize,
            *mut bindings::dma_phys_sg,
        ) -> c_int,
    ) -> c_int {
        let inner = &mut *self.0;
        let capacity = inner.segments.len();
        let segments = inner.segments.as_mut_ptr();
        let result = map(&inner.ranges, segments, capacity, &raw mut inner.sg);

        match usize::try_from(result) {
            Ok(count) => {
                // INVARIANT: The C core has written `count` segments, which is no more than the
                // capacity; `min()` lets the compiler rely on that as well.
                inner.count = count.min(capacity);
                0
            }
            Err(_) => result,
        }
    }

    /// Returns the maximum number of segments.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.0.segments.len()
    }

    /// Returns the segments of the last mapping.
    #[inline]
    pub(super) fn segments(&self) -> &[bindings::dma_phys_segment] {
        &self.0.segments[..self.0.count]
    }

    #[inline]
    fn as_mut_ptr(&mut self) -> *mut bindings::dma_phys_sg {
        &raw mut self.0.sg
    }
}

impl Raw for SgStorage {
    #[inline]
    fn size(&self) -> usize {
        self.0.sg.size
    }

    #[inline]
    fn route(&self) -> u8 {
        self.0.sg.route
    }

    #[inline]
    unsafe fn sync_for_cpu(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: The list is empty, or live for a bound device, and nothing else uses it during
        // the call, as the storage is borrowed exclusively.
        unsafe { bindings::dma_phys_sg_sync_for_cpu(self.as_mut_ptr(), offset, len) }
    }

    #[inline]
    unsafe fn sync_for_device(&mut self, offset: usize, len: usize) -> c_int {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_sg_sync_for_device(self.as_mut_ptr(), offset, len) }
    }

    #[inline]
    unsafe fn unmap(&mut self) {
        // SAFETY: See `sync_for_cpu()`.
        unsafe { bindings::dma_phys_sg_unmap(self.as_mut_ptr()) }
    }
}

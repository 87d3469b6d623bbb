// SPDX-License-Identifier: GPL-2.0

//! Many ranges mapped for one device.

use super::{
    guard::bytes_of,
    handle::Handle,
    Cpu,
    CpuGuard,
    Direction,
    Kind,
    MapError,
    Mmio,
    MmioPhys,
    Route,
    SgMemory,
    SgStorage, //
};
use crate::{
    alloc::Flags,
    bindings,
    device::{
        Bound,
        Device, //
    },
    dma::DmaAddress,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};

/// Many ranges mapped for one device, as segments.
///
/// Same as a [`Mapping`](super::Mapping), for memory that need not be physically contiguous. The
/// segments obey the maximum segment size and the segment boundary of the device.
///
/// # Invariants
///
/// `handle` maps the ranges that `kind` owns or borrows, in direction `D`.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, FromDevice, SgMapping};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_sg", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// // Too large for one physically contiguous allocation.
/// let frame = VVec::from_elem(0u16, 640 * 480, GFP_KERNEL)?;
/// let mut map = SgMapping::<Cpu<_>, FromDevice>::new(dev, frame, GFP_KERNEL)?;
///
/// for (addr, len) in map.segments() {
///     // Write one descriptor.
/// #   assert!(addr != 0 && len != 0);
/// }
/// # assert_eq!(map.segments().map(|(_, len)| len).sum::<usize>(), map.size());
///
/// // The device writes the frame and reports completion. Read the first line only:
/// let line = map.cpu_range(0..640)?;
/// assert!(line.iter().all(|&dot| dot == 0));
/// drop(line);
///
/// let frame = map.unmap();
/// assert_eq!(frame.len(), 640 * 480);
/// # Ok::<(), Error>(())
/// ```
pub struct SgMapping<'bound, K: Kind, D: Direction> {
    // Dropped first: the ranges are unmapped before their memory is freed.
    pub(super) handle: Handle<'bound, SgStorage, K>,
    pub(super) kind: K,
    _direction: PhantomData<D>,
}

impl<K: Kind, D: Direction> SgMapping<'_, K, D> {
    /// Returns DMA address and length of each segment, in the order of the ranges.
    #[inline]
    pub fn segments(&self) -> impl ExactSizeIterator<Item = (DmaAddress, usize)> + '_ {
        segments(self.handle.raw())
    }

    /// Returns the length of all segments in bytes, which is never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.handle.size()
    }

    /// Returns how the device reaches the ranges: [`Route::Bounce`] if any of them bounces.
    #[inline]
    pub fn route(&self) -> Route {
        self.handle.route()
    }
}

#[inline]
pub(super) fn segments(
    storage: &SgStorage,
) -> impl ExactSizeIterator<Item = (DmaAddress, usize)> + '_ {
    storage
        .segments()
        .iter()
        .map(|segment| (segment.addr, segment.len))
}

impl<'bound, M, D: Direction> SgMapping<'bound, Cpu<M>, D> {
    /// Maps `memory` for `dev`, and gives it to the device.
    ///
    /// Allocates the segments with `flags`, and may sleep if `flags` allow it.
    ///
    /// # Errors
    ///
    /// An error returns `memory`.
    ///
    /// - [`EINVAL`] if the memory has no bytes, or the device has no DMA mask.
    /// - [`ERANGE`] if the device cannot address the memory, and it cannot be bounced.
    /// - [`E2BIG`] if the memory is larger than all IOVA space, or a range of it is larger than one
    ///   mapping of the device can be.
    /// - [`EAGAIN`] if bounce buffers are in use; it may work later.
    /// - [`ENOMEM`] if there is no memory for the segments or for unmap records; or, behind an
    ///   IOMMU, if IOVA space, page tables or bounce buffers are exhausted. It may work later.
    /// - [`EOPNOTSUPP`] if the alignment that the device needs cannot be preserved; for a [`VVec`]
    ///   also if the CPU caches are virtually indexed and alias.
    /// - [`EIO`] if the legacy DMA ops of the device refuse it.
    ///
    /// # Examples
    ///
    /// A list of pages:
    ///
    /// ```
    /// use kernel::{
    ///     dma::phys::{Cpu, PageBytes, SgMapping, ToDevice},
    ///     page::PAGE_SIZE, //
    /// };
    /// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
    /// # let owner = TestDevice::new(c"rust_phys_doc_pages", DmaMask::new::<64>())?;
    /// # let dev = owner.device();
    ///
    /// let mut pages = KVec::new();
    /// for _ in 0..4 {
    ///     pages.push(PageBytes::zeroed(GFP_KERNEL)?, GFP_KERNEL)?;
    /// }
    ///
    /// let mut map = SgMapping::<Cpu<_>, ToDevice>::new(dev, pages, GFP_KERNEL)?;
    /// assert_eq!(map.size(), 4 * PAGE_SIZE);
    /// map.cpu_page(3)?[0] = 1;
    /// assert_eq!(map.unmap()[3][0], 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(dev: &'bound Device<Bound>, mut memory: M, flags: Flags) -> Result<Self, MapError<M>>
    where
        M: SgMemory,
    {
        match Self::storage(dev, &mut memory, flags) {
            Ok(storage) => Self::map(dev, memory, storage).map_err(|error| {
                let (error, (memory, _)) = error.into_parts();
                MapError::new(error, memory)
            }),
            Err(error) => Err(MapError::new(error, memory)),
        }
    }

    /// Same as [`new`](Self::new), with storage of the caller, which
    /// [`unmap_in`](Self::unmap_in) returns.
    ///
    /// Nothing is allocated for ranges and segments once the storage has held as many ranges.
    ///
    /// # Errors
    ///
    /// Same as [`new`](Self::new), and [`ENOSPC`] if `storage` is too small.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::dma::phys::{Cpu, FromDevice, SgMapping, SgStorage};
    /// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
    /// # let owner = TestDevice::new(c"rust_phys_doc_sg_in", DmaMask::new::<64>())?;
    /// # let dev = owner.device();
    ///
    /// let mut line = VVec::from_elem(0u16, 640, GFP_KERNEL)?;
    /// let mut storage = SgStorage::new(dev, 1, 1280, GFP_KERNEL)?;
    ///
    /// for _ in 0..480 {
    ///     let map = SgMapping::<Cpu<_>, FromDevice>::new_in(dev, line, storage, GFP_KERNEL)?;
    ///     // The device writes the line and reports completion.
    ///     (line, storage) = map.unmap_in();
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn new_in(
        dev: &'bound Device<Bound>,
        mut memory: M,
        mut storage: SgStorage,
        flags: Flags,
    ) -> Result<Self, MapError<(M, SgStorage)>>
    where
        M: SgMemory,
    {
        match storage.set_ranges(memory.ranges(), flags) {
            Ok(()) => Self::map(dev, memory, storage),
            Err(error) => Err(MapError::new(error, (memory, storage))),
        }
    }

    /// Allocates storage for the ranges of `memory`, and stores them in it.
    fn storage(dev: &'bound Device<Bound>, memory: &mut M, flags: Flags) -> Result<SgStorage>
    where
        M: SgMemory,
    {
        let mut ranges = KVVec::new();
        let mut size = 0usize;
        for range in memory.ranges() {
            let range = range?;

            size = size.checked_add(range.len()).ok_or(EINVAL)?;
            ranges.push(range, flags)?;
        }
        Ok(SgStorage::with_ranges(dev, ranges, size, flags)?)
    }

    /// Maps the ranges stored in `storage`, which are those of `memory`.
    #[inline]
    fn map(
        dev: &'bound Device<Bound>,
        memory: M,
        storage: SgStorage,
    ) -> Result<Self, MapError<(M, SgStorage)>>
    where
        M: SgMemory,
    {
        // SAFETY: Storage outside of a handle holds an empty list, by its type invariant. The
        // ranges were validated; a `CpuPhys` is a transparent `struct cpu_phys`. The handle becomes
        // part of an `SgMapping` together with the memory. An `SgMapping` drops the handle first,
        // and gives access to the memory only in a `CpuGuard`, between the two syncs. Forgetting
        // the mapping forgets the memory, which by the safety requirements of `SgMemory` leaks it.
        let handle = unsafe {
            Handle::new(dev, storage, |dev, storage| {
                storage.map_with(|ranges, segments, max_segments, sg| {
                    bindings::dma_phys_sg_map_cpu(
                        dev,
                        ranges.as_ptr().cast(),
                        ranges.len(),
                        D::DIRECTION.into(),
                        0,
                        segments,
                        max_segments,
                        sg,
                    )
                })
            })
        };

        match handle {
            // INVARIANT: The handle maps the ranges of `memory`. By the safety requirements of
            // `SgMemory` they do not change when it is moved.
            Ok(handle) => Ok(Self {
                handle,
                kind: Cpu(memory),
                _direction: PhantomData,
            }),
            Err(error) => {
                let (error, storage) = error.into_parts();
                Err(MapError::new(error, (memory, storage)))
            }
        }
    }

    /// Unmaps the memory and returns it.
    ///
    /// # Examples
    ///
    /// See [`SgMapping::new`].
    pub fn unmap(self) -> M {
        self.unmap_in().0
    }

    /// Unmaps the memory and returns it together with the storage.
    ///
    /// # Examples
    ///
    /// See [`SgMapping::new_in`].
    #[inline]
    pub fn unmap_in(self) -> (M, SgStorage) {
        let Self { handle, kind, .. } = self;

        (kind.0, handle.unmap())
    }
}

impl<T, D: Direction> SgMapping<'_, Cpu<VVec<T>>, D> {
    /// Gives the memory to the CPU until the guard is dropped.
    ///
    /// # Errors
    ///
    /// None is expected: the C core refuses only bytes that are not mapped.
    ///
    /// # Examples
    ///
    /// See [`Mapping::cpu`](super::Mapping::cpu).
    pub fn cpu(&mut self) -> Result<CpuGuard<'_, [T], D>> {
        let size = self.handle.size();
        let bytes = self.handle.cpu(0, size)?;

        // SAFETY: By the type invariant the handle maps exactly the elements, and `bytes` are all
        // of them.
        Ok(unsafe { CpuGuard::new(bytes, &mut self.kind.0) })
    }

    /// Gives some elements to the CPU until the guard is dropped.
    ///
    /// Same as [`Mapping::cpu_range`](super::Mapping::cpu_range).
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `range` is empty.
    /// - [`ERANGE`] if it ends beyond the last element.
    ///
    /// # Examples
    ///
    /// See [`SgMapping`].
    pub fn cpu_range(&mut self, range: Range<usize>) -> Result<CpuGuard<'_, [T], D>> {
        let (offset, len) = bytes_of::<T>(&range, self.handle.size())?;
        let bytes = self.handle.cpu(offset, len)?;

        // SAFETY: By the type invariant the handle maps exactly the elements, in order, so `bytes`
        // are those of `range`.
        Ok(unsafe { CpuGuard::new(bytes, &mut self.kind.0[range]) })
    }
}

impl<'bound, 'peer, D: Direction> SgMapping<'bound, Mmio<'peer>, D> {
    /// Maps ranges of another device's memory for `dev`.
    ///
    /// The ranges belong to one peer. Its removal waits until they are unmapped. Allocates the
    /// segments with `flags`, and may sleep if `flags` allow it. Must not be called in hard
    /// interrupt context.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if there is no range, the ranges belong to different peers, or `dev` has no DMA
    ///   mask.
    /// - [`ENODEV`] if the peer was removed.
    /// - [`EAGAIN`] if the peer is suspended; it may work later.
    /// - [`EREMOTEIO`] if there is no P2P path between the device and the peer.
    /// - [`ERANGE`] if the device cannot address the ranges.
    /// - [`E2BIG`] if the ranges are larger than all IOVA space.
    /// - [`ENOMEM`] if there is no memory for the segments or for unmap records, or if IOVA space
    ///   or page tables are exhausted; it may work later.
    /// - [`EOPNOTSUPP`] if device memory cannot be mapped for the device, for example because all
    ///   its DMA is forced to bounce.
    /// - [`EIO`] if the legacy DMA ops of the device refuse it.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::phys::{FromDevice, Mmio, MmioPhys, SgMapping},
    ///     pci, //
    /// };
    ///
    /// /// Maps two ranges of BAR 4 of `peer` for `dev` to write.
    /// fn map_bar<'a>(
    ///     dev: &'a Device<Bound>,
    ///     peer: &'a pci::Device,
    /// ) -> Result<SgMapping<'a, Mmio<'a>, FromDevice>> {
    ///     let ranges = [
    ///         MmioPhys::from_bar(peer, 4, 0, 4096)?,
    ///         MmioPhys::from_bar(peer, 4, 65536, 4096)?,
    ///     ];
    ///     SgMapping::new_mmio(dev, &ranges, GFP_KERNEL)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new_mmio(
        dev: &'bound Device<Bound>,
        ranges: &[MmioPhys<'peer>],
        flags: Flags,
    ) -> Result<Self> {
        let size = ranges
            .iter()
            .try_fold(0usize, |size, range| size.checked_add(range.len()))
            .ok_or(EINVAL)?;
        let storage = SgStorage::new(dev, ranges.len(), size, flags)?;

        // SAFETY: Storage outside of a handle holds an empty list, by its type invariant. The
        // ranges were validated; an `MmioPhys` is a transparent `struct mmio_phys`. The C core
        // holds a reference to the peer until the ranges are unmapped, so the device memory stays.
        let handle = unsafe {
            Handle::new(dev, storage, |dev, storage| {
                storage.map_with(|_, segments, max_segments, sg| {
                    bindings::dma_phys_sg_map_mmio(
                        dev,
                        ranges.as_ptr().cast(),
                        ranges.len(),
                        D::DIRECTION.into(),
                        0,
                        segments,
                        max_segments,
                        sg,
                    )
                })
            })
        };

        // INVARIANT: The handle maps `ranges`, which `kind` borrows for `'peer`.
        Ok(Self {
            handle: handle?,
            kind: Mmio::new(),
            _direction: PhantomData,
        })
    }
}

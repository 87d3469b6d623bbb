// SPDX-License-Identifier: GPL-2.0

//! Many ranges made reachable for one device.

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
    VecMemory,
    VecStorage, //
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

/// Many ranges made reachable for one device, as segments.
///
/// As a [`Mapping`](super::Mapping), but what it maps need not be in one place, and the device may
/// find it in several. A segment is never longer than the device's largest one, and crosses none of
/// its boundaries.
///
/// # Invariants
///
/// `handle` maps the ranges that `kind` owns, or has borrowed, in direction `D`.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, FromDevice, VecMapping};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_vec", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// // Too large to be asked for in one piece.
/// let frame = VVec::from_elem(0u16, 640 * 480, GFP_KERNEL)?;
/// let mut map = VecMapping::<Cpu<_>, FromDevice>::new(dev, frame, GFP_KERNEL)?;
///
/// for (addr, len) in map.segments() {
///     // One descriptor of the device for each.
/// #   assert!(addr != 0 && len != 0);
/// }
/// # assert_eq!(map.segments().map(|(_, len)| len).sum::<usize>(), map.size());
///
/// // The device writes there, and says so. Look at the first line alone:
/// let line = map.cpu_range(0..640)?;
/// assert!(line.iter().all(|&dot| dot == 0));
/// drop(line);
///
/// let frame = map.unmap();
/// assert_eq!(frame.len(), 640 * 480);
/// # Ok::<(), Error>(())
/// ```
pub struct VecMapping<'bound, K: Kind, D: Direction> {
    // Dropped first: the ranges are unmapped before their memory is freed.
    pub(super) handle: Handle<'bound, VecStorage, K>,
    pub(super) kind: K,
    _direction: PhantomData<D>,
}

impl<K: Kind, D: Direction> VecMapping<'_, K, D> {
    /// Where the device finds the bytes: address and length of each segment.
    ///
    /// They are in the order in which the ranges were given.
    #[inline]
    pub fn segments(&self) -> impl ExactSizeIterator<Item = (DmaAddress, usize)> + '_ {
        segments(self.handle.raw())
    }

    /// Length of all segments in bytes, never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.handle.size()
    }

    /// How the device reaches the ranges; where some of them bounce, [`Route::Bounce`].
    #[inline]
    pub fn route(&self) -> Route {
        self.handle.route()
    }
}

#[inline]
pub(super) fn segments(
    vec: &VecStorage,
) -> impl ExactSizeIterator<Item = (DmaAddress, usize)> + '_ {
    vec.segments()
        .iter()
        .map(|segment| (segment.addr, segment.len))
}

impl<'bound, M, D: Direction> VecMapping<'bound, Cpu<M>, D> {
    /// Makes `memory` reachable for `dev`, and takes it from the CPU.
    ///
    /// Allocates what the segments need; sleeps where `flags` let it.
    ///
    /// # Errors
    ///
    /// They give `memory` back.
    ///
    /// - [`EINVAL`] where the memory has no bytes, or the device has no DMA mask.
    /// - [`ERANGE`] where the device cannot address it, and it cannot be bounced.
    /// - [`E2BIG`] where one of the ranges is larger than one mapping can be.
    /// - [`EAGAIN`] where bounce slots or DMA addresses are used up: it may work later.
    /// - [`ENOMEM`] where there is no memory for the segments, or for page tables.
    /// - [`EOPNOTSUPP`] where the device's route cannot map memory; for a [`VVec`] also where the
    ///   CPU caches a page by its virtual address.
    ///
    /// # Examples
    ///
    /// A list of pages:
    ///
    /// ```
    /// use kernel::{
    ///     dma::phys::{Cpu, PageBytes, ToDevice, VecMapping},
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
    /// let mut map = VecMapping::<Cpu<_>, ToDevice>::new(dev, pages, GFP_KERNEL)?;
    /// assert_eq!(map.size(), 4 * PAGE_SIZE);
    /// map.cpu_page(3)?[0] = 1;
    /// assert_eq!(map.unmap()[3][0], 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(dev: &'bound Device<Bound>, mut memory: M, flags: Flags) -> Result<Self, MapError<M>>
    where
        M: VecMemory,
    {
        match Self::storage(dev, &mut memory, flags) {
            Ok(storage) => Self::map(dev, memory, storage).map_err(|error| {
                let (error, (memory, _)) = error.into_parts();
                MapError::new(error, memory)
            }),
            Err(error) => Err(MapError::new(error, memory)),
        }
    }

    /// As [`new`](Self::new), with storage of the caller's, which
    /// [`unmap_in`](Self::unmap_in) gives back.
    ///
    /// Who maps again and again allocates nothing more, once the storage has had as many ranges.
    ///
    /// # Errors
    ///
    /// As of [`new`](Self::new), and [`ENOSPC`] where `storage` is too small.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::dma::phys::{Cpu, FromDevice, VecMapping, VecStorage};
    /// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
    /// # let owner = TestDevice::new(c"rust_phys_doc_vec_in", DmaMask::new::<64>())?;
    /// # let dev = owner.device();
    ///
    /// let mut line = VVec::from_elem(0u16, 640, GFP_KERNEL)?;
    /// let mut storage = VecStorage::new(dev, 1, 1280, GFP_KERNEL)?;
    ///
    /// for _ in 0..480 {
    ///     let map = VecMapping::<Cpu<_>, FromDevice>::new_in(dev, line, storage, GFP_KERNEL)?;
    ///     // The device writes there, and says so.
    ///     (line, storage) = map.unmap_in();
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn new_in(
        dev: &'bound Device<Bound>,
        mut memory: M,
        mut storage: VecStorage,
        flags: Flags,
    ) -> Result<Self, MapError<(M, VecStorage)>>
    where
        M: VecMemory,
    {
        match storage.set_ranges(memory.ranges(), flags) {
            Ok(()) => Self::map(dev, memory, storage),
            Err(error) => Err(MapError::new(error, (memory, storage))),
        }
    }

    /// Storage that has the ranges of `memory`.
    fn storage(dev: &'bound Device<Bound>, memory: &mut M, flags: Flags) -> Result<VecStorage>
    where
        M: VecMemory,
    {
        let mut ranges = KVVec::new();
        let mut size = 0usize;
        for range in memory.ranges() {
            let range = range?;

            size = size.checked_add(range.len()).ok_or(EINVAL)?;
            ranges.push(range, flags)?;
        }
        Ok(VecStorage::with_ranges(dev, ranges, size, flags)?)
    }

    /// Maps the ranges that `storage` has, which are those of `memory`.
    #[inline]
    fn map(
        dev: &'bound Device<Bound>,
        memory: M,
        storage: VecStorage,
    ) -> Result<Self, MapError<(M, VecStorage)>>
    where
        M: VecMemory,
    {
        // SAFETY: The ranges were proved; a `CpuPhys` is a transparent `struct cpu_phys`. Handle
        // and memory are put into one `VecMapping`, which drops the handle first and lends the
        // memory in a `CpuGuard` only. A mapping that is forgotten forgets the memory too, which by
        // the safety requirements of `VecMemory` leaks it.
        let handle = unsafe {
            Handle::new(dev, storage, |dev, storage| {
                let (vec, ranges) = storage.parts();

                bindings::dma_phys_vec_map_cpu(
                    dev,
                    ranges.as_ptr().cast(),
                    ranges.len(),
                    D::DIRECTION.into(),
                    0,
                    vec,
                )
            })
        };

        match handle {
            // INVARIANT: The handle maps the ranges of `memory`. By the safety requirements of
            // `VecMemory` they stay where they are when it is moved.
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

    /// Unmaps the memory, and gives it back.
    ///
    /// # Examples
    ///
    /// See [`VecMapping::new`].
    pub fn unmap(self) -> M {
        self.unmap_in().0
    }

    /// Unmaps the memory, and gives it and the storage back.
    ///
    /// # Examples
    ///
    /// See [`VecMapping::new_in`].
    #[inline]
    pub fn unmap_in(self) -> (M, VecStorage) {
        let Self { handle, kind, .. } = self;

        (kind.0, handle.unmap())
    }
}

impl<T, D: Direction> VecMapping<'_, Cpu<VVec<T>>, D> {
    /// Takes the memory from the device, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// None that is known of: a mapping is always live, and all of it lies within it.
    ///
    /// # Examples
    ///
    /// See [`Mapping::cpu`](super::Mapping::cpu).
    pub fn cpu(&mut self) -> Result<CpuGuard<'_, [T], D>> {
        let size = self.handle.size();
        let bytes = self.handle.cpu(0, size)?;

        // SAFETY: By the type invariant all elements are mapped, and nothing else is.
        Ok(unsafe { CpuGuard::new(bytes, &mut self.kind.0) })
    }

    /// Takes some elements from the device, until the guard is dropped.
    ///
    /// As [`Mapping::cpu_range`](super::Mapping::cpu_range).
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where `range` is empty.
    /// - [`ERANGE`] where it ends beyond the last element.
    ///
    /// # Examples
    ///
    /// See [`VecMapping`].
    pub fn cpu_range(&mut self, range: Range<usize>) -> Result<CpuGuard<'_, [T], D>> {
        let (offset, len) = bytes_of::<T>(&range, self.handle.size())?;
        let bytes = self.handle.cpu(offset, len)?;

        // SAFETY: By the type invariant the elements are mapped in a row, so that these bytes are
        // those of this range.
        Ok(unsafe { CpuGuard::new(bytes, &mut self.kind.0[range]) })
    }
}

impl<'bound, 'peer, D: Direction> VecMapping<'bound, Mmio<'peer>, D> {
    /// Makes ranges of another device's memory reachable for `dev`.
    ///
    /// They belong to one peer, which stays while they are mapped. Allocates what the segments
    /// need; sleeps where `flags` let it. Not for hard interrupts.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where there is no range, they do not all belong to one peer, or `dev` has no
    ///   DMA mask.
    /// - [`ENODEV`] where the peer has gone.
    /// - [`EREMOTEIO`] where there is no route between the device and the peer.
    /// - [`ERANGE`] where the device cannot address them.
    /// - [`E2BIG`] where they are larger than all DMA addresses.
    /// - [`EAGAIN`] where DMA addresses are used up: it may work later.
    /// - [`ENOMEM`] where there is no memory for the segments, or for page tables.
    /// - [`EOPNOTSUPP`] where the device's route cannot map device memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::phys::{FromDevice, Mmio, MmioPhys, VecMapping},
    ///     pci, //
    /// };
    ///
    /// /// Lets `dev` write into two places in BAR 4 of `peer`.
    /// fn write_into<'a>(
    ///     dev: &'a Device<Bound>,
    ///     peer: &'a pci::Device,
    /// ) -> Result<VecMapping<'a, Mmio<'a>, FromDevice>> {
    ///     let places = [
    ///         MmioPhys::from_bar(peer, 4, 0, 4096)?,
    ///         MmioPhys::from_bar(peer, 4, 65536, 4096)?,
    ///     ];
    ///     VecMapping::new_mmio(dev, &places, GFP_KERNEL)
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
        let storage = VecStorage::new(dev, ranges.len(), size, flags)?;

        // SAFETY: The ranges were proved; an `MmioPhys` is a transparent `struct mmio_phys`. The C
        // core holds the peer for as long as they are mapped.
        let handle = unsafe {
            Handle::new(dev, storage, |dev, vec| {
                bindings::dma_phys_vec_map_mmio(
                    dev,
                    ranges.as_ptr().cast(),
                    ranges.len(),
                    D::DIRECTION.into(),
                    0,
                    vec.as_mut_ptr(),
                )
            })
        };

        // INVARIANT: The handle maps the ranges that were borrowed.
        Ok(Self {
            handle: handle?,
            kind: Mmio::new(),
            _direction: PhantomData,
        })
    }
}

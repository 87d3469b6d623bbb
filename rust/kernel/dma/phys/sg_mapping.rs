// SPDX-License-Identifier: GPL-2.0

//! Many ranges mapped for one device.

use super::{
    handle::RawSg,
    mapped::{
        CpuOwned,
        DeviceOwned,
        Mapped, //
    },
    part::elements_to_bytes,
    prepared::List,
    Cpu,
    Direction,
    Kind,
    MapError,
    Mmio,
    MmioPhys,
    Part,
    Prepared,
    Route,
    Segment,
    SgMemory,
    Writable, //
};
use crate::{
    alloc::Flags,
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ops::{
        Deref,
        DerefMut,
        Range, //
    },
    ptr, //
};

/// Many ranges, mapped for a device and owned by the CPU.
///
/// Same as a [`Mapping`](super::Mapping), for memory that need not be physically contiguous.
///
/// The ranges and segments of large memory come from `vmalloc()`. So dropping or unmapping it may
/// sleep; [`unmap_prepared`](Self::unmap_prepared) does not.
///
/// # Invariants
///
/// The device accesses no byte of the memory: it has got no address since it was mapped or last
/// [completed](SgInFlight::complete).
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, SgMapping, ToDevice};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_sg", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// // Too large for one physically contiguous allocation.
/// let frame = VVec::from_elem(0u16, 640 * 480, GFP_KERNEL)?;
/// let mut frame = SgMapping::<Cpu<_>, ToDevice>::new(dev, frame, GFP_KERNEL)?;
///
/// for round in 0..3 {
///     frame.fill(round);
///     let in_flight = frame.submit();
///
///     for segment in in_flight.segments() {
///         // Write one descriptor.
/// #       assert!(segment.dma_address() != 0 && segment.dma_len() != 0);
///     }
///     // The device reads the frame and reports completion.
///
///     // SAFETY: The device has finished.
///     frame = unsafe { in_flight.complete() };
/// }
/// assert_eq!(frame.unmap()[640 * 480 - 1], 2);
/// # Ok::<(), Error>(())
/// ```
pub struct SgMapping<'bound, K: Kind, D: Direction> {
    mapped: CpuOwned<'bound, List, K>,
    _direction: PhantomData<D>,
}

/// Many ranges, mapped for a device and owned by the device.
///
/// Same as an [`InFlight`](super::InFlight), for memory that need not be physically contiguous. It
/// has segments instead of one DMA address.
///
/// # Drop
///
/// Dropping it leaks the memory together with its mapping, same as [`InFlight`](super::InFlight).
/// Unmapping it may sleep, see [`SgMapping`].
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, FromDevice, SgInFlight};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_sg_in_flight", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let frame = VVec::from_elem(0u16, 640 * 480, GFP_KERNEL)?;
/// let in_flight = SgInFlight::<Cpu<_>, FromDevice>::map(dev, frame, GFP_KERNEL)?;
///
/// let bytes: usize = in_flight.segments().iter().map(|segment| segment.dma_len()).sum();
/// assert_eq!(bytes, in_flight.size());
/// // The device writes the frame and reports completion.
///
/// // SAFETY: The device has finished.
/// let frame = unsafe { in_flight.unmap() };
/// assert_eq!(frame.len(), 640 * 480);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it leaks the memory and its mapping"]
pub struct SgInFlight<'bound, K: Kind, D: Direction> {
    mapped: DeviceOwned<'bound, List, K>,
    _direction: PhantomData<D>,
}

impl<'bound, K: Kind, D: Direction> SgMapping<'bound, K, D> {
    #[inline]
    fn new_owned(mapped: CpuOwned<'bound, List, K>) -> Self {
        Self {
            mapped,
            _direction: PhantomData,
        }
    }

    /// Returns the length of all ranges in bytes, which is never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.mapped.raw.sg().size
    }

    /// Returns how the device reaches the ranges: [`Route::Bounce`] if any of them bounces.
    #[inline]
    pub fn route(&self) -> Route {
        self.mapped.route()
    }

    /// Hands the memory to the device, same as [`Mapping::submit`](super::Mapping::submit).
    #[inline]
    pub fn submit(self) -> SgInFlight<'bound, K, D> {
        SgInFlight::new_owned(self.mapped.submit())
    }
}

impl<'bound, K: Kind, D: Direction> SgInFlight<'bound, K, D> {
    #[inline]
    fn new_owned(mapped: DeviceOwned<'bound, List, K>) -> Self {
        Self {
            mapped,
            _direction: PhantomData,
        }
    }

    /// Returns the segments, in the order of the ranges.
    ///
    /// Adjacent ranges share a segment. Segments obey the maximum segment size and the segment
    /// boundary of the device, so there may be more of them than ranges.
    #[inline]
    pub fn segments(&self) -> &[Segment] {
        self.mapped.raw.segments()
    }

    /// Returns the length of all segments in bytes, which is never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.mapped.raw.sg().size
    }

    /// Returns how the device reaches the ranges: [`Route::Bounce`] if any of them bounces.
    #[inline]
    pub fn route(&self) -> Route {
        self.mapped.route()
    }
}

impl<'bound, M, D: Direction> SgMapping<'bound, Cpu<M>, D> {
    /// Maps `memory` for `dev`. The CPU still owns it.
    ///
    /// It makes one allocation, with `flags`, and may sleep if they allow it.
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
    /// let mut pages = SgMapping::<Cpu<_>, ToDevice>::new(dev, pages, GFP_KERNEL)?;
    /// assert_eq!(pages.size(), 4 * PAGE_SIZE);
    /// pages.page_mut(3)?[0] = 1;
    /// assert_eq!(pages.unmap()[3][0], 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn new(dev: &'bound Device<Bound>, memory: M, flags: Flags) -> Result<Self, MapError<M>>
    where
        M: SgMemory,
    {
        Self::from_prepared(dev, Prepared::new(dev, memory, flags)?).map_err(MapError::unprepared)
    }

    /// Maps prepared memory for `dev`, without an allocation.
    ///
    /// # Errors
    ///
    /// Same as [`new`](Self::new), and [`ENOSPC`] if the memory was prepared for a device with
    /// other limits. An error returns `prepared`.
    ///
    /// # Examples
    ///
    /// See [`Prepared`].
    #[inline]
    pub fn from_prepared(
        dev: &'bound Device<Bound>,
        prepared: Prepared<M>,
    ) -> Result<Self, MapError<Prepared<M>>> {
        let flags = bindings::DMA_PHYS_SKIP_CPU_SYNC;

        Ok(Self::new_owned(CpuOwned::new(map_list::<M, D>(
            dev, prepared, flags,
        )?)))
    }

    /// Unmaps the memory and returns it, same as [`Mapping::unmap`](super::Mapping::unmap).
    pub fn unmap(self) -> M {
        self.unmap_prepared().memory
    }

    /// Unmaps the memory and returns it, prepared to be mapped again.
    #[inline]
    pub fn unmap_prepared(self) -> Prepared<M> {
        let (list, kind) = self.mapped.unmap();

        Prepared {
            list,
            memory: kind.0,
        }
    }
}

impl<'bound, M, D: Direction> SgInFlight<'bound, Cpu<M>, D> {
    /// Maps `memory` for `dev` and hands it to the device.
    ///
    /// It makes one allocation, with `flags`, and may sleep if they allow it.
    ///
    /// # Errors
    ///
    /// Same as [`SgMapping::new`]. An error returns `memory`.
    ///
    /// # Examples
    ///
    /// See [`SgInFlight`].
    pub fn map(dev: &'bound Device<Bound>, memory: M, flags: Flags) -> Result<Self, MapError<M>>
    where
        M: SgMemory,
    {
        Self::map_prepared(dev, Prepared::new(dev, memory, flags)?).map_err(MapError::unprepared)
    }

    /// Maps prepared memory for `dev` and hands it to the device, without an allocation.
    ///
    /// # Errors
    ///
    /// Same as [`SgMapping::from_prepared`]. An error returns `prepared`.
    ///
    /// # Examples
    ///
    /// See [`Prepared`].
    #[inline]
    pub fn map_prepared(
        dev: &'bound Device<Bound>,
        prepared: Prepared<M>,
    ) -> Result<Self, MapError<Prepared<M>>> {
        Ok(Self::new_owned(DeviceOwned::new(map_list::<M, D>(
            dev, prepared, 0,
        )?)))
    }

    /// Takes the memory back from the device. It stays mapped.
    ///
    /// # Safety
    ///
    /// From now until the next [`submit`](SgMapping::submit) the device accesses no byte of the
    /// memory, because it never got the addresses, or has finished and holds no descriptor for it,
    /// or was stopped.
    ///
    /// # Examples
    ///
    /// See [`SgMapping`].
    #[inline]
    pub unsafe fn complete(self) -> SgMapping<'bound, Cpu<M>, D> {
        // INVARIANT: The caller guarantees that the device accesses no byte.
        SgMapping::new_owned(self.mapped.complete())
    }

    /// Takes the memory back from the device, unmaps it and returns it.
    ///
    /// # Safety
    ///
    /// From now on the device accesses no byte of the memory through this mapping, because it never
    /// got the addresses, or has finished and holds no descriptor for it, or was stopped.
    pub unsafe fn unmap(self) -> M {
        // SAFETY: The caller guarantees it.
        unsafe { self.unmap_prepared() }.memory
    }

    /// Same as [`unmap`](Self::unmap), and returns the memory prepared to be mapped again.
    ///
    /// # Safety
    ///
    /// Same as for [`unmap`](Self::unmap).
    ///
    /// # Examples
    ///
    /// See [`Prepared`].
    #[inline]
    pub unsafe fn unmap_prepared(self) -> Prepared<M> {
        let (list, kind) = self.mapped.unmap();

        Prepared {
            list,
            memory: kind.0,
        }
    }

    /// Gives the CPU what is at `len` bytes from `offset`.
    ///
    /// # Safety
    ///
    /// - `memory` returns the part of the memory that the list has at these bytes.
    /// - The requirement of [`part`](Self::part).
    pub(super) unsafe fn share<'a, T: ?Sized>(
        &'a mut self,
        offset: usize,
        len: usize,
        memory: impl FnOnce(&mut M) -> Result<*mut T>,
    ) -> Result<Part<'a, T, D>> {
        // SAFETY: The caller guarantees it.
        unsafe { self.mapped.share(offset, len, |kind| memory(&mut kind.0)) }
    }
}

impl<T, D: Direction> SgInFlight<'_, Cpu<VVec<T>>, D> {
    /// Gives some elements to the CPU while the device keeps the others.
    ///
    /// Same as [`InFlight::part`](super::InFlight::part).
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `range` is empty.
    /// - [`ERANGE`] if it ends beyond the last element.
    ///
    /// # Safety
    ///
    /// While the returned value exists, or a borrow from it, the device accesses no byte of the
    /// cache lines that contain the elements.
    pub unsafe fn part(&mut self, range: Range<usize>) -> Result<Part<'_, [T], D>> {
        let (offset, len) = elements_to_bytes::<T>(&range, self.size())?;

        // SAFETY: The list maps exactly the elements of the vector, in order, so the bytes are
        // those of `range`. The caller guarantees the rest.
        unsafe {
            self.share(offset, len, |vec| {
                let first = vec.as_mut_ptr().wrapping_add(range.start);

                Ok(ptr::slice_from_raw_parts_mut(first, range.len()))
            })
        }
    }
}

impl<'bound, 'peer, D: Direction> SgInFlight<'bound, Mmio<'peer>, D> {
    /// Maps ranges of another device's memory for `dev`.
    ///
    /// The ranges belong to one peer. Its removal waits until they are unmapped. It makes one
    /// allocation, with `flags`, and may sleep if they allow it. Must not be called in hard
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
    ///     dma::phys::{FromDevice, Mmio, MmioPhys, SgInFlight},
    ///     pci, //
    /// };
    ///
    /// /// Maps two ranges of BAR 4 of `peer` for `dev` to write.
    /// fn map_bar<'a>(
    ///     dev: &'a Device<Bound>,
    ///     peer: &'a pci::Device,
    /// ) -> Result<SgInFlight<'a, Mmio<'a>, FromDevice>> {
    ///     let ranges = [
    ///         MmioPhys::from_bar(peer, 4, 0, 4096)?,
    ///         MmioPhys::from_bar(peer, 4, 65536, 4096)?,
    ///     ];
    ///     SgInFlight::<Mmio<'_>, _>::map(dev, &ranges, GFP_KERNEL)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn map(
        dev: &'bound Device<Bound>,
        ranges: &[MmioPhys<'peer>],
        flags: Flags,
    ) -> Result<Self> {
        let size = ranges
            .iter()
            .try_fold(0usize, |size, range| size.checked_add(range.len()))
            .ok_or(EINVAL)?;
        let mut list = List::with_space(dev, 0, ranges.len(), size, flags)?;

        // SAFETY: `dev` is a reference to a device. The ranges were validated; an `MmioPhys` is a
        // transparent `struct mmio_phys`. `sg` is empty, as the list is in no `Mapped`.
        list.map_with(|_, _, segments, capacity, sg| unsafe {
            bindings::dma_phys_sg_map_mmio(
                dev.as_raw(),
                ranges.as_ptr().cast(),
                ranges.len(),
                D::DIRECTION.into(),
                0,
                segments,
                capacity,
                sg,
            )
        })?;

        // SAFETY: The list was just mapped for `dev`, which is bound for `'bound`. The C core holds
        // the peer until it is unmapped, so the device memory stays.
        Ok(Self::new_owned(DeviceOwned::new(unsafe {
            Mapped::new(list, Mmio::new())
        })))
    }

    /// Unmaps the ranges.
    ///
    /// # Safety
    ///
    /// From now on the device accesses no byte of the ranges through this mapping, because it never
    /// got the addresses, or has finished and holds no descriptor for it, or was stopped.
    pub unsafe fn unmap(self) {
        self.mapped.unmap();
    }
}

/// Maps the ranges of `prepared`, and takes its memory.
#[inline]
fn map_list<'bound, M, D: Direction>(
    dev: &'bound Device<Bound>,
    mut prepared: Prepared<M>,
    flags: u32,
) -> Result<Mapped<'bound, List, Cpu<M>>, MapError<Prepared<M>>> {
    let result = prepared
        .list
        .map_with(|ranges, count, segments, capacity, sg| {
            // SAFETY: `dev` is a reference to a device. The ranges were validated; a `CpuPhys` is a
            // transparent `struct cpu_phys`. `sg` is empty, as the list is in no `Mapped`.
            unsafe {
                bindings::dma_phys_sg_map_cpu(
                    dev.as_raw(),
                    ranges,
                    count,
                    D::DIRECTION.into(),
                    flags,
                    segments,
                    capacity,
                    sg,
                )
            }
        });

    match result {
        // SAFETY: The list was just mapped for `dev`, which is bound for `'bound`. By the type
        // invariant of `Prepared` the ranges are those of the memory. By the safety requirements of
        // `SgMemory`, or of `Prepared::from_ranges()`, it stays where it is when it is moved, and
        // it is leaked when it is forgotten.
        Ok(()) => Ok(unsafe { Mapped::new(prepared.list, Cpu(prepared.memory)) }),
        Err(error) => Err(MapError::new(error, prepared)),
    }
}

impl<M: Deref, D: Direction> Deref for SgMapping<'_, Cpu<M>, D> {
    type Target = M::Target;

    #[inline]
    fn deref(&self) -> &M::Target {
        &self.mapped.kind.0
    }
}

// Only for a vector, whose elements are the mapped bytes. With a list of buffers a mutable
// reference would suffice to exchange them.
impl<T, D: Writable> DerefMut for SgMapping<'_, Cpu<VVec<T>>, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.mapped.kind.0
    }
}

impl<M, D: Writable> SgMapping<'_, Cpu<M>, D> {
    /// The memory, to write into what is mapped.
    #[inline]
    pub(super) fn memory_mut(&mut self) -> &mut M {
        &mut self.mapped.kind.0
    }
}

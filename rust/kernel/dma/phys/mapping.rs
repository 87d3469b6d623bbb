// SPDX-License-Identifier: GPL-2.0

//! One range mapped for one device.

use super::{
    handle::{
        Handle,
        Raw, //
    },
    mapped::{
        CpuOwned,
        DeviceOwned,
        Mapped, //
    },
    part::elements_to_bytes,
    CpuPhys,
    Direction,
    Elements,
    MapError,
    Memory,
    MmioPhys,
    Part,
    Route,
    Writable, //
};
use crate::{
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
    ops::{
        Deref,
        DerefMut,
        Range, //
    },
    ptr, //
};

mod private {
    pub trait Sealed {}
}

/// What is mapped: [`Cpu`] or [`Mmio`].
pub trait Kind: private::Sealed {}

/// Memory that the CPU caches, owned by what maps it.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, FromDevice, InFlight, Mapping, PageBytes, ToDevice};
///
/// /// Mapped while the driver is bound.
/// struct Buffers<'bound> {
///     /// Idle: the CPU may fill it.
///     request: Mapping<'bound, Cpu<KBox<[u32; 16]>>, ToDevice>,
///     /// The device writes into it.
///     response: InFlight<'bound, Cpu<PageBytes>, FromDevice>,
/// }
/// # fn size(buffers: &Buffers<'_>) -> usize {
/// #     buffers.request.size() + buffers.response.size()
/// # }
/// # Ok::<(), Error>(())
/// ```
pub struct Cpu<M>(pub(super) M);

/// Device memory that a peer shares.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{InFlight, Mmio, ToDevice};
///
/// /// One transfer that reads another device's memory. The removal of the peer waits for it.
/// struct Source<'bound> {
///     frames: InFlight<'bound, Mmio<'bound>, ToDevice>,
/// }
/// # fn size(source: &Source<'_>) -> usize {
/// #     source.frames.size()
/// # }
/// # Ok::<(), Error>(())
/// ```
pub struct Mmio<'peer>(PhantomData<MmioPhys<'peer>>);

/// Memory that a mapping does not own: the caller of an `unsafe` function vouches for it.
///
/// # Examples
///
/// See [`Mapping::from_range`].
pub struct Unowned(());

impl<M> private::Sealed for Cpu<M> {}
impl private::Sealed for Mmio<'_> {}

impl<M> Kind for Cpu<M> {}
impl Kind for Mmio<'_> {}

impl Mmio<'_> {
    #[inline]
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl Unowned {
    #[inline]
    pub(super) fn new() -> Self {
        Self(())
    }
}

/// One range, mapped for a device and owned by the CPU.
///
/// It dereferences to the data of its memory. It has no DMA address: [`submit`](Self::submit) hands
/// the memory to the device and returns an [`InFlight`], which has.
///
/// The memory is mapped and unmapped without a transfer, so what the CPU has written stays. A
/// driver keeps a mapping and submits it again and again: behind an IOMMU that is much faster than
/// mapping for each transfer. For a single transfer use [`InFlight::map`].
///
/// Dropping it unmaps and frees the memory. It may be dropped in atomic context if its memory may
/// be.
///
/// # Invariants
///
/// The device accesses no byte of the memory: it has got no address since it was mapped or last
/// [completed](InFlight::complete).
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Bidirectional, Cpu, Mapping};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_mapping", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let buffer = KVec::from_elem(0u8, 4096, GFP_KERNEL)?;
/// let mut mapping = Mapping::<Cpu<_>, Bidirectional>::new(dev, buffer)?;
///
/// for round in 0..3 {
///     mapping[0] = round;
///     let in_flight = mapping.submit();
///
///     // The device works on `in_flight.dma_address()` and reports completion.
///
///     // SAFETY: The device has finished.
///     mapping = unsafe { in_flight.complete() };
///     assert_eq!(mapping[0], round);
/// }
/// assert_eq!(mapping.unmap().len(), 4096);
/// # Ok::<(), Error>(())
/// ```
pub struct Mapping<'bound, K: Kind, D: Direction> {
    mapped: CpuOwned<'bound, Handle, K>,
    _direction: PhantomData<D>,
}

/// One range, mapped for a device and owned by the device.
///
/// It has the DMA address and no data. It comes from [`Mapping::submit`], or from
/// [`map`](Self::map) for a single transfer. Ranges of another device's memory exist in this state
/// only.
///
/// [`complete`](Self::complete) and [`unmap`](Self::unmap) take it back. They are `unsafe`, since
/// only the driver knows when the device has finished.
///
/// # Drop
///
/// Dropping it leaks the memory together with its mapping, since the device may access both. It is
/// reported in the log, ratelimited, and counted in the file `dma_phys/counters` of debugfs. So a
/// driver takes what is in flight out of its data when it is unbound, after it has stopped the
/// device. A leaked mapping of device memory blocks the removal of its peer indefinitely.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, FromDevice, InFlight};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_in_flight", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let buffer = KBox::new([0u32; 128], GFP_KERNEL)?;
/// let in_flight = InFlight::<Cpu<_>, FromDevice>::map(dev, buffer)?;
/// assert_eq!(in_flight.size(), 512);
///
/// // The device writes 512 bytes to `in_flight.dma_address()` and reports completion.
///
/// // SAFETY: The device has finished.
/// let buffer = unsafe { in_flight.unmap() };
/// assert_eq!(buffer[127], 0);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it leaks the memory and its mapping"]
pub struct InFlight<'bound, K: Kind, D: Direction> {
    mapped: DeviceOwned<'bound, Handle, K>,
    _direction: PhantomData<D>,
}

impl<'bound, K: Kind, D: Direction> Mapping<'bound, K, D> {
    #[inline]
    fn new_owned(mapped: CpuOwned<'bound, Handle, K>) -> Self {
        Self {
            mapped,
            _direction: PhantomData,
        }
    }

    /// Returns the length in bytes, which is never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.mapped.raw.size()
    }

    /// Returns how the device reaches the range.
    #[inline]
    pub fn route(&self) -> Route {
        self.mapped.route()
    }

    /// Hands the memory to the device.
    ///
    /// The device then reads what the CPU has written: bounce buffers are copied and caches written
    /// back, if there are any. It is no barrier: a register write that starts the device has its
    /// own, as always.
    ///
    /// May be called in any context.
    #[inline]
    pub fn submit(self) -> InFlight<'bound, K, D> {
        InFlight::new_owned(self.mapped.submit())
    }
}

impl<'bound, K: Kind, D: Direction> InFlight<'bound, K, D> {
    #[inline]
    fn new_owned(mapped: DeviceOwned<'bound, Handle, K>) -> Self {
        Self {
            mapped,
            _direction: PhantomData,
        }
    }

    /// Returns the DMA address of the first byte.
    ///
    /// All bytes follow it without a gap. The device may use it until this is completed or
    /// unmapped.
    #[inline]
    pub fn dma_address(&self) -> DmaAddress {
        self.mapped.raw.addr()
    }

    /// Returns the length in bytes, which is never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.mapped.raw.size()
    }

    /// Returns how the device reaches the range.
    #[inline]
    pub fn route(&self) -> Route {
        self.mapped.route()
    }
}

impl<'bound, M, D: Direction> Mapping<'bound, Cpu<M>, D> {
    /// Maps `memory` for `dev`. The CPU still owns it.
    ///
    /// Does not sleep.
    ///
    /// # Errors
    ///
    /// An error returns `memory`.
    ///
    /// - [`EINVAL`] if the memory has no bytes, or the device has no DMA mask.
    /// - [`ERANGE`] if the device cannot address the memory, and it cannot be bounced.
    /// - [`E2BIG`] if the memory is larger than one mapping of the device can be.
    /// - [`EAGAIN`] if bounce buffers are in use; it may work later.
    /// - [`ENOMEM`] if IOVA space, page tables or bounce buffers are exhausted behind an IOMMU; it
    ///   may work later.
    /// - [`EOPNOTSUPP`] if the alignment that the device needs cannot be preserved.
    /// - [`EIO`] if the legacy DMA ops of the device refuse it.
    ///
    /// # Examples
    ///
    /// Nothing is mapped for a device without a DMA mask:
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::phys::{Cpu, Mapping, ToDevice},
    ///     faux, //
    /// };
    ///
    /// let owner = faux::Registration::new(c"rust_phys_doc_no_mask", None)?;
    /// let faux: &faux::Device<Bound> = owner.as_ref();
    /// let dev: &Device<Bound> = faux.as_ref();
    ///
    /// let mapping = Mapping::<Cpu<_>, ToDevice>::new(dev, KBox::new([1u8; 64], GFP_KERNEL)?);
    /// let error = mapping.err().ok_or(EIO)?;
    /// assert_eq!(error.error(), EINVAL);
    /// assert_eq!(error.into_memory()[63], 1);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn new(dev: &'bound Device<Bound>, memory: M) -> Result<Self, MapError<M>>
    where
        M: Memory,
    {
        Ok(Self::new_owned(CpuOwned::new(map_memory::<M, D>(
            dev,
            memory,
            bindings::DMA_PHYS_SKIP_CPU_SYNC,
        )?)))
    }

    /// Unmaps the memory and returns it.
    ///
    /// No bytes are transferred: the CPU has owned the memory.
    ///
    /// # Examples
    ///
    /// The same memory can be mapped again, for another direction or another device:
    ///
    /// ```
    /// use kernel::dma::phys::{Cpu, FromDevice, Mapping, ToDevice};
    /// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
    /// # let owner = TestDevice::new(c"rust_phys_doc_unmap", DmaMask::new::<64>())?;
    /// # let dev = owner.device();
    ///
    /// let request = KBox::new([1u8; 64], GFP_KERNEL)?;
    /// let mapping = Mapping::<Cpu<_>, ToDevice>::new(dev, request)?;
    /// let mapping = Mapping::<Cpu<_>, FromDevice>::new(dev, mapping.unmap())?;
    /// let response = mapping.unmap();
    /// # assert_eq!(*response, [1u8; 64]);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn unmap(self) -> M {
        self.mapped.unmap().1 .0
    }
}

impl<'bound, D: Direction> Mapping<'bound, Cpu<Unowned>, D> {
    /// Maps a range that the mapping does not own: of a page pool, of reserved memory, of pinned
    /// user pages, or borrowed.
    ///
    /// # Errors
    ///
    /// Same as [`new`](Self::new). A range from [`CpuPhys::from_raw`] is refused with
    /// [`EOPNOTSUPP`] if it would have to be bounced, or its caches maintained.
    ///
    /// # Safety
    ///
    /// Until the returned value is unmapped or dropped, and indefinitely if it or an [`InFlight`]
    /// made from it is forgotten or leaked:
    ///
    /// - the range is memory, and it stays allocated to the caller;
    /// - while an [`InFlight`] made from it exists, no code accesses a byte of it that the device
    ///   writes, and none writes a byte that the device reads.
    ///
    /// # Examples
    ///
    /// A page that several owners share is mapped for a device to read:
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::phys::{Cpu, CpuPhys, Mapping, ToDevice, Unowned},
    ///     page::{Page, PAGE_SIZE}, //
    /// };
    ///
    /// /// # Safety
    /// ///
    /// /// The page stays allocated until the mapping is dropped. It is not written meanwhile.
    /// unsafe fn map_page<'bound>(
    ///     dev: &'bound Device<Bound>,
    ///     page: &Page,
    /// ) -> Result<Mapping<'bound, Cpu<Unowned>, ToDevice>> {
    ///     let range = CpuPhys::from_page(page, 0, PAGE_SIZE)?;
    ///
    ///     // SAFETY: The caller guarantees it.
    ///     unsafe { Mapping::from_range(dev, range) }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub unsafe fn from_range(dev: &'bound Device<Bound>, range: CpuPhys) -> Result<Self> {
        let flags = bindings::DMA_PHYS_SKIP_CPU_SYNC;
        let raw = map_range::<D>(dev, &range, flags)?;

        // SAFETY: The handle was just mapped for `dev`, which is bound for `'bound`. The caller
        // guarantees for the memory.
        Ok(Self::new_owned(CpuOwned::new(unsafe {
            Mapped::new(raw, Cpu(Unowned::new()))
        })))
    }
}

impl<'bound, M, D: Direction> InFlight<'bound, Cpu<M>, D> {
    /// Maps `memory` for `dev` and hands it to the device, in one call.
    ///
    /// Does not sleep.
    ///
    /// # Errors
    ///
    /// Same as [`Mapping::new`]. An error returns `memory`.
    ///
    /// # Examples
    ///
    /// See [`InFlight`].
    #[inline]
    pub fn map(dev: &'bound Device<Bound>, memory: M) -> Result<Self, MapError<M>>
    where
        M: Memory,
    {
        Ok(Self::new_owned(DeviceOwned::new(map_memory::<M, D>(
            dev, memory, 0,
        )?)))
    }

    /// Takes the memory back from the device. It stays mapped.
    ///
    /// The CPU then reads what the device has written: bounce buffers are copied and caches
    /// invalidated, if there are any.
    ///
    /// May be called in any context.
    ///
    /// # Safety
    ///
    /// From now until the next [`submit`](Mapping::submit) the device accesses no byte of the
    /// memory, because it never got the address, or has finished and holds no descriptor for it, or
    /// was stopped.
    ///
    /// # Examples
    ///
    /// See [`Mapping`].
    #[inline]
    pub unsafe fn complete(self) -> Mapping<'bound, Cpu<M>, D> {
        // INVARIANT: The caller guarantees that the device accesses no byte.
        Mapping::new_owned(self.mapped.complete())
    }

    /// Takes the memory back from the device, unmaps it and returns it.
    ///
    /// Same as [`complete`](Self::complete) and [`Mapping::unmap`], in one call.
    ///
    /// # Safety
    ///
    /// From now on the device accesses no byte of the memory through this mapping, because it never
    /// got the address, or has finished and holds no descriptor for it, or was stopped.
    ///
    /// # Examples
    ///
    /// See [`InFlight`].
    #[inline]
    pub unsafe fn unmap(self) -> M {
        self.mapped.unmap().1 .0
    }

    /// Gives some elements to the CPU while the device keeps the others.
    ///
    /// The elements are transferred to the CPU now, and to the device when the returned value is
    /// dropped. No other byte is transferred.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `range` is empty.
    /// - [`ERANGE`] if it ends beyond the last element.
    ///
    /// # Safety
    ///
    /// While the returned value exists, or a borrow from it, the device accesses no byte of the
    /// cache lines that contain the elements. If the device is not coherent these are whole lines,
    /// so `range` should start and end at multiples of `dma_get_cache_alignment()` bytes.
    ///
    /// # Examples
    ///
    /// A ring of 16 messages, of which the device has written one:
    ///
    /// ```
    /// use kernel::dma::phys::{Cpu, FromDevice, InFlight};
    /// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
    /// # let owner = TestDevice::new(c"rust_phys_doc_part", DmaMask::new::<64>())?;
    /// # let dev = owner.device();
    ///
    /// let ring = KVec::from_elem(0u32, 16 * 64, GFP_KERNEL)?;
    /// let mut ring = InFlight::<Cpu<_>, FromDevice>::map(dev, ring)?;
    /// # let index = 3;
    ///
    /// // SAFETY: The device has finished with this message. A message fills whole cache lines.
    /// let message = unsafe { ring.part(index * 64..(index + 1) * 64) }?;
    /// assert_eq!(message.len(), 64);
    /// assert_eq!(message[0], 0);
    /// drop(message);
    ///
    /// // SAFETY: The device does not access it.
    /// let refused = unsafe { ring.part(0..16 * 64 + 1) }.err();
    /// assert_eq!(refused, Some(ERANGE));
    ///
    /// // SAFETY: The device was stopped.
    /// drop(unsafe { ring.unmap() });
    /// # Ok::<(), Error>(())
    /// ```
    pub unsafe fn part<T>(&mut self, range: Range<usize>) -> Result<Part<'_, [T], D>>
    where
        M: Memory<Target: Elements<Element = T>>,
    {
        let (offset, len) = elements_to_bytes::<T>(&range, self.size())?;

        // SAFETY: By the type invariant of `Mapped` the handle maps exactly the elements of the
        // memory, so the bytes are those of `range`. The caller guarantees the rest.
        unsafe {
            self.mapped.share(offset, len, |kind| {
                let first = kind.0.as_mut_ptr().wrapping_add(offset).cast();

                Ok(ptr::slice_from_raw_parts_mut(first, range.len()))
            })
        }
    }
}

impl<'bound, 'peer, D: Direction> InFlight<'bound, Mmio<'peer>, D> {
    /// Maps a range of another device's memory for `dev`.
    ///
    /// The removal of the peer waits until the range is unmapped. Does not sleep; must not be
    /// called in hard interrupt context.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `dev` has no DMA mask.
    /// - [`ENODEV`] if the peer was removed.
    /// - [`EAGAIN`] if the peer is suspended; it may work later.
    /// - [`EREMOTEIO`] if there is no P2P path between the device and the peer.
    /// - [`ERANGE`] if the device cannot address the range.
    /// - [`E2BIG`] if the range is larger than one mapping of the device can be.
    /// - [`ENOMEM`] if IOVA space or page tables are exhausted; it may work later.
    /// - [`EOPNOTSUPP`] if device memory cannot be mapped for the device, for example because all
    ///   its DMA is forced to bounce.
    /// - [`EIO`] if the legacy DMA ops of the device refuse it.
    ///
    /// # Examples
    ///
    /// See [`MmioPhys::from_bar`].
    pub fn map(dev: &'bound Device<Bound>, range: MmioPhys<'peer>) -> Result<Self> {
        let dir = D::DIRECTION.into();
        // SAFETY: `dev` is a reference to a device; the range was validated.
        let raw = Handle::map_with(|raw| unsafe {
            bindings::dma_phys_map_mmio(dev.as_raw(), range.as_raw(), dir, 0, raw)
        })?;

        // SAFETY: The handle was just mapped for `dev`, which is bound for `'bound`. The C core
        // holds the peer until it is unmapped, so the device memory stays.
        Ok(Self::new_owned(DeviceOwned::new(unsafe {
            Mapped::new(raw, Mmio::new())
        })))
    }

    /// Unmaps the range.
    ///
    /// # Safety
    ///
    /// From now on the device accesses no byte of the range through this mapping, because it never
    /// got the address, or has finished and holds no descriptor for it, or was stopped.
    #[inline]
    pub unsafe fn unmap(self) {
        self.mapped.unmap();
    }
}

/// Maps `memory`, and takes it.
#[inline]
fn map_memory<'bound, M: Memory, D: Direction>(
    dev: &'bound Device<Bound>,
    mut memory: M,
    flags: u32,
) -> Result<Mapped<'bound, Handle, Cpu<M>>, MapError<M>> {
    let raw = memory
        .range()
        .and_then(|range| map_range::<D>(dev, &range, flags));

    match raw {
        // SAFETY: The handle was just mapped for `dev`, which is bound for `'bound`. By the safety
        // requirements of `Memory` the range is that of the bytes of `memory`. They stay where they
        // are when it is moved, and they are leaked when it is.
        Ok(raw) => Ok(unsafe { Mapped::new(raw, Cpu(memory)) }),
        Err(error) => Err(MapError::new(error, memory)),
    }
}

/// Maps `range`.
#[inline]
fn map_range<D: Direction>(dev: &Device<Bound>, range: &CpuPhys, flags: u32) -> Result<Handle> {
    let dir = D::DIRECTION.into();

    // SAFETY: `dev` is a reference to a device; the range was validated.
    Handle::map_with(|raw| unsafe {
        bindings::dma_phys_map_cpu(dev.as_raw(), range.as_raw(), dir, flags, raw)
    })
}

impl<M: Deref, D: Direction> Deref for Mapping<'_, Cpu<M>, D> {
    type Target = M::Target;

    #[inline]
    fn deref(&self) -> &M::Target {
        &self.mapped.kind.0
    }
}

impl<M: DerefMut, D: Writable> DerefMut for Mapping<'_, Cpu<M>, D> {
    #[inline]
    fn deref_mut(&mut self) -> &mut M::Target {
        &mut self.mapped.kind.0
    }
}

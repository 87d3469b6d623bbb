// SPDX-License-Identifier: GPL-2.0

//! One range mapped for one device.

use super::{
    guard::bytes_of,
    handle::Handle,
    CpuGuard,
    CpuPhys,
    Direction,
    Elements,
    MapError,
    Memory,
    MmioPhys,
    Route, //
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
        DerefMut,
        Range, //
    }, //
};

mod private {
    pub trait Sealed {}
}

/// What a [`Mapping`] or an [`SgMapping`](super::SgMapping) maps: [`Cpu`] or [`Mmio`].
pub trait Kind: private::Sealed {}

/// Memory that the CPU caches, owned by its [`Mapping`].
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Bidirectional, Cpu, FromDevice, Mapping, PageBytes};
///
/// /// Mapped while the driver is bound.
/// struct Buffers<'bound> {
///     status: Mapping<'bound, Cpu<KBox<[u32; 16]>>, FromDevice>,
///     ring: Mapping<'bound, Cpu<PageBytes>, Bidirectional>,
/// }
/// # fn size(buffers: &Buffers<'_>) -> usize {
/// #     buffers.status.size() + buffers.ring.size()
/// # }
/// # Ok::<(), Error>(())
/// ```
pub struct Cpu<M>(pub(super) M);

/// Device memory that a peer shares.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Mapping, Mmio, ToDevice};
///
/// /// One transfer that reads another device's memory. The removal of the peer waits for it.
/// struct Source<'bound> {
///     frames: Mapping<'bound, Mmio<'bound>, ToDevice>,
/// }
/// # fn size(source: &Source<'_>) -> usize {
/// #     source.frames.size()
/// # }
/// # Ok::<(), Error>(())
/// ```
pub struct Mmio<'peer>(PhantomData<MmioPhys<'peer>>);

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

/// One range mapped for one device.
///
/// `K` is what the range consists of, [`Cpu`] or [`Mmio`], and `D` is the direction of the
/// transfer; see the [module](super). Dropping a mapping unmaps the range. It may be dropped in
/// atomic context if its memory may be.
///
/// # Invariants
///
/// `handle` maps the range that `kind` owns or borrows, in direction `D`.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Cpu, FromDevice, Mapping};
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_mapping", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let buffer = KVec::from_elem(0u8, 4096, GFP_KERNEL)?;
/// let mut map = Mapping::<Cpu<_>, FromDevice>::new(dev, buffer)?;
///
/// // The device writes 4096 bytes to `map.dma_address()` and reports completion.
///
/// let first = map.cpu()?[0];
/// let buffer = map.unmap();
/// assert_eq!(buffer[0], first);
/// # Ok::<(), Error>(())
/// ```
pub struct Mapping<'bound, K: Kind, D: Direction> {
    // Dropped first: the range is unmapped before its memory is freed.
    handle: Handle<'bound, bindings::dma_phys_map, K>,
    kind: K,
    _direction: PhantomData<D>,
}

impl<K: Kind, D: Direction> Mapping<'_, K, D> {
    /// Returns the DMA address of the first byte.
    ///
    /// All bytes follow it without a gap.
    #[inline]
    pub fn dma_address(&self) -> DmaAddress {
        self.handle.raw().addr
    }

    /// Returns the length in bytes, which is never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.handle.size()
    }

    /// Returns how the device reaches the range.
    #[inline]
    pub fn route(&self) -> Route {
        self.handle.route()
    }
}

impl<'bound, M, D: Direction> Mapping<'bound, Cpu<M>, D> {
    /// Maps `memory` for `dev`, and gives it to the device.
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
    /// let map = Mapping::<Cpu<_>, ToDevice>::new(dev, KBox::new([1u8; 64], GFP_KERNEL)?);
    /// let error = map.err().ok_or(EIO)?;
    /// assert_eq!(error.error(), EINVAL);
    /// assert_eq!(error.into_memory()[63], 1);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn new(dev: &'bound Device<Bound>, mut memory: M) -> Result<Self, MapError<M>>
    where
        M: Memory,
    {
        let range = memory.range();

        // SAFETY: `range` covers the bytes that `memory` dereferences to. Forgetting the mapping
        // forgets `memory`. By the safety requirements of `Memory` the bytes are then leaked, they
        // do not move, and they are read and written only through a borrow of `memory`.
        unsafe { Self::map(dev, memory, range) }
    }

    /// Maps `range` of `memory`.
    ///
    /// # Safety
    ///
    /// Until the mapping is dropped, or indefinitely if it is forgotten, and as long as `memory` is
    /// only moved:
    ///
    /// - `range` covers the bytes that `memory` dereferences to, and they stay allocated;
    /// - they are written only through a borrow of `memory`, and read only through one unless `D`
    ///   is [`ToDevice`](super::ToDevice).
    #[inline]
    pub(super) unsafe fn map(
        dev: &'bound Device<Bound>,
        memory: M,
        range: Result<CpuPhys>,
    ) -> Result<Self, MapError<M>> {
        let range = match range {
            Ok(range) => range,
            Err(error) => return Err(MapError::new(error, memory)),
        };

        // SAFETY: The handle is zeroed, so it is empty; the range was validated. The handle becomes
        // part of a `Mapping` together with the memory. A `Mapping` drops the handle first, and
        // gives access to the memory only in a `CpuGuard`, between the two syncs.
        let handle = unsafe {
            Handle::new(dev, pin_init::zeroed(), |dev, map| {
                bindings::dma_phys_map_cpu(dev, range.as_raw(), D::DIRECTION.into(), 0, map)
            })
        };

        match handle {
            // INVARIANT: The handle maps the bytes of `memory`, which do not move with it.
            Ok(handle) => Ok(Self {
                handle,
                kind: Cpu(memory),
                _direction: PhantomData,
            }),
            Err(error) => Err(MapError::new(error.error(), memory)),
        }
    }

    /// Gives the memory to the CPU until the guard is dropped.
    ///
    /// # Errors
    ///
    /// None is expected: the C core refuses only bytes that are not mapped.
    ///
    /// # Examples
    ///
    /// See [`CpuGuard`].
    pub fn cpu(&mut self) -> Result<CpuGuard<'_, M::Target, D>>
    where
        M: DerefMut,
    {
        let size = self.handle.size();
        let bytes = self.handle.cpu(0, size)?;

        // SAFETY: By the type invariant the handle maps exactly the bytes of the memory, and
        // `bytes` are all of them.
        Ok(unsafe { CpuGuard::new(bytes, &mut *self.kind.0) })
    }

    /// Gives some elements to the CPU until the guard is dropped.
    ///
    /// No other byte is synced, or copied if the mapping bounces.
    ///
    /// # Cache lines
    ///
    /// For a device that is not coherent, a sync covers whole cache lines. If the device writes
    /// into a line that the guard covers in part, either write may be lost. While a guard exists,
    /// let the device write only into lines that the guard does not cover: choose ranges that start
    /// and end at multiples of `dma_get_cache_alignment()`.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if `range` is empty.
    /// - [`ERANGE`] if it ends beyond the last element.
    ///
    /// # Examples
    ///
    /// A ring of 16 messages, of which the device has written one:
    ///
    /// ```
    /// use kernel::dma::phys::{Cpu, FromDevice, Mapping};
    /// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
    /// # let owner = TestDevice::new(c"rust_phys_doc_range", DmaMask::new::<64>())?;
    /// # let dev = owner.device();
    ///
    /// let ring = KVec::from_elem(0u32, 16 * 64, GFP_KERNEL)?;
    /// let mut ring = Mapping::<Cpu<_>, FromDevice>::new(dev, ring)?;
    /// # let index = 3;
    ///
    /// let message = ring.cpu_range(index * 64..(index + 1) * 64)?;
    /// assert_eq!(message.len(), 64);
    /// assert_eq!(message[0], 0);
    /// drop(message);
    ///
    /// assert_eq!(ring.cpu_range(0..16 * 64 + 1).err(), Some(ERANGE));
    /// assert_eq!(ring.cpu_range(8..8).err(), Some(EINVAL));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cpu_range<T>(&mut self, range: Range<usize>) -> Result<CpuGuard<'_, [T], D>>
    where
        M: DerefMut<Target: Elements<Element = T>>,
    {
        let (offset, len) = bytes_of::<T>(&range, self.handle.size())?;
        let bytes = self.handle.cpu(offset, len)?;

        // SAFETY: By the type invariant the handle maps exactly the elements of the memory, so
        // `bytes` are those of `range`.
        Ok(unsafe { CpuGuard::new(bytes, &mut self.kind.0.elements()[range]) })
    }

    /// Unmaps the memory and returns it.
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
    /// let map = Mapping::<Cpu<_>, ToDevice>::new(dev, request)?;
    /// let map = Mapping::<Cpu<_>, FromDevice>::new(dev, map.unmap())?;
    /// let response = map.unmap();
    /// # assert_eq!(*response, [1u8; 64]);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn unmap(self) -> M {
        let Self { handle, kind, .. } = self;
        drop(handle);
        kind.0
    }
}

impl<'bound, 'peer, D: Direction> Mapping<'bound, Mmio<'peer>, D> {
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
    pub fn new_mmio(dev: &'bound Device<Bound>, range: MmioPhys<'peer>) -> Result<Self> {
        // SAFETY: The handle is zeroed, so it is empty; the range was validated. The C core holds a
        // reference to the peer until the range is unmapped, so the device memory stays.
        let handle = unsafe {
            Handle::new(dev, pin_init::zeroed(), |dev, map| {
                bindings::dma_phys_map_mmio(dev, range.as_raw(), D::DIRECTION.into(), 0, map)
            })
        };

        // INVARIANT: The handle maps `range`, which `kind` borrows for `'peer`.
        Ok(Self {
            handle: handle?,
            kind: Mmio::new(),
            _direction: PhantomData,
        })
    }
}

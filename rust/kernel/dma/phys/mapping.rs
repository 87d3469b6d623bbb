// SPDX-License-Identifier: GPL-2.0

//! One range made reachable for one device.

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

/// What a [`Mapping`] or a [`VecMapping`](super::VecMapping) is made of: [`Cpu`] or [`Mmio`].
pub trait Kind: private::Sealed {}

/// Memory that the CPU caches, owned by its [`Mapping`].
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Bidirectional, Cpu, FromDevice, Mapping, PageBytes};
///
/// /// What a driver keeps mapped while it is bound.
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

/// Device memory that a peer lends.
///
/// # Examples
///
/// ```
/// use kernel::dma::phys::{Mapping, Mmio, ToDevice};
///
/// /// One transfer that reads what another device has. It ends before either device leaves: the
/// /// peer's removal waits for it.
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

/// One range made reachable for one device.
///
/// `K` says what the range is made of, [`Cpu`] or [`Mmio`], and `D` which way the bytes go. See the
/// [module](super) for how they play together. Dropping a mapping unmaps the range; it may be
/// dropped in atomic context where its memory may be.
///
/// # Invariants
///
/// `handle` maps the range that `kind` owns, or has borrowed, in direction `D`.
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
/// // The device writes 4096 bytes to `map.dma_address()`, and says so.
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
    /// Where the device finds the first byte.
    ///
    /// All bytes follow it without a gap.
    #[inline]
    pub fn dma_address(&self) -> DmaAddress {
        self.handle.raw().addr
    }

    /// Length in bytes, never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.handle.size()
    }

    /// How the device reaches the range.
    #[inline]
    pub fn route(&self) -> Route {
        self.handle.route()
    }
}

impl<'bound, M, D: Direction> Mapping<'bound, Cpu<M>, D> {
    /// Makes `memory` reachable for `dev`, and takes it from the CPU.
    ///
    /// Does not sleep.
    ///
    /// # Errors
    ///
    /// They give `memory` back.
    ///
    /// - [`EINVAL`] where the memory has no bytes, or the device has no DMA mask.
    /// - [`ERANGE`] where the device cannot address it, and it cannot be bounced.
    /// - [`E2BIG`] where it is larger than one mapping can be.
    /// - [`EAGAIN`] where bounce slots or DMA addresses are used up: it may work later.
    /// - [`ENOMEM`] where there is no memory for page tables.
    /// - [`EOPNOTSUPP`] where the device's route cannot map memory.
    ///
    /// # Examples
    ///
    /// A device that never said what it can address is not given an address:
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

        // SAFETY: These are the bytes of `memory`. A mapping that is forgotten forgets it too,
        // which by the safety requirements of `Memory` leaks it. So by these as well does nobody
        // else read or write it, and it stays where it is.
        unsafe { Self::map(dev, memory, range) }
    }

    /// Maps `range` of `memory`.
    ///
    /// # Safety
    ///
    /// As long as nothing but a move happens to `memory`, until the mapping is dropped or, where it
    /// is forgotten, for good:
    ///
    /// - `range` is what it dereferences to, and is allocated;
    /// - nobody writes there who does not borrow `memory`, or reads there unless `D` is
    ///   [`ToDevice`](super::ToDevice).
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

        // SAFETY: The range was proved, and the handle is new. It is put into one `Mapping` with
        // the memory, which drops the handle first and lends the memory in a `CpuGuard` only.
        let handle = unsafe {
            Handle::new(dev, pin_init::zeroed(), |dev, map| {
                bindings::dma_phys_map_cpu(dev, range.as_raw(), D::DIRECTION.into(), 0, map)
            })
        };

        match handle {
            // INVARIANT: The handle maps the bytes of `memory`, which stay where they are when it
            // is moved.
            Ok(handle) => Ok(Self {
                handle,
                kind: Cpu(memory),
                _direction: PhantomData,
            }),
            Err(error) => Err(MapError::new(error.error(), memory)),
        }
    }

    /// Takes the memory from the device, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// None that is known of: a mapping is always live, and all of it lies within it.
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

        // SAFETY: By the type invariant these are all bytes of the memory.
        Ok(unsafe { CpuGuard::new(bytes, &mut *self.kind.0) })
    }

    /// Takes some elements from the device, until the guard is dropped.
    ///
    /// No other byte is handed over, or copied where the mapping bounces.
    ///
    /// # Cache lines
    ///
    /// Where a device is not coherent, what is handed over is whole lines of the cache. A device
    /// that writes into a line of which the CPU has a part may lose what it writes there, and the
    /// CPU what it wrote. So while a guard lives let the device write only into lines that the
    /// guard has no part of: choose ranges that start and end at multiples of
    /// `dma_get_cache_alignment()`.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where `range` is empty.
    /// - [`ERANGE`] where it ends beyond the last element.
    ///
    /// # Examples
    ///
    /// A ring of 16 slots, of which the device has filled one:
    ///
    /// ```
    /// use kernel::dma::phys::{Cpu, FromDevice, Mapping};
    /// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
    /// # let owner = TestDevice::new(c"rust_phys_doc_range", DmaMask::new::<64>())?;
    /// # let dev = owner.device();
    ///
    /// let ring = KVec::from_elem(0u32, 16 * 64, GFP_KERNEL)?;
    /// let mut ring = Mapping::<Cpu<_>, FromDevice>::new(dev, ring)?;
    /// # let slot = 3;
    ///
    /// let message = ring.cpu_range(slot * 64..(slot + 1) * 64)?;
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

        // SAFETY: By the type invariant all elements are mapped, and nothing else is, so that these
        // bytes are those of this range.
        Ok(unsafe { CpuGuard::new(bytes, &mut self.kind.0.elements()[range]) })
    }

    /// Unmaps the memory, and gives it back.
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
    /// let question = KBox::new([1u8; 64], GFP_KERNEL)?;
    /// let map = Mapping::<Cpu<_>, ToDevice>::new(dev, question)?;
    /// let map = Mapping::<Cpu<_>, FromDevice>::new(dev, map.unmap())?;
    /// let answer = map.unmap();
    /// # assert_eq!(*answer, [1u8; 64]);
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
    /// Makes a range of another device's memory reachable for `dev`.
    ///
    /// The peer stays while it is mapped: its driver's removal waits for this mapping to go.
    /// Does not sleep; not for hard interrupts.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where `dev` has no DMA mask.
    /// - [`ENODEV`] where the peer has gone.
    /// - [`EREMOTEIO`] where there is no route between the device and the peer.
    /// - [`ERANGE`] where the device cannot address it.
    /// - [`E2BIG`] where it is larger than one mapping can be.
    /// - [`EAGAIN`] where DMA addresses are used up: it may work later.
    /// - [`ENOMEM`] where there is no memory for page tables.
    /// - [`EOPNOTSUPP`] where the device's route cannot map device memory.
    ///
    /// # Examples
    ///
    /// See [`MmioPhys::from_bar`].
    pub fn new_mmio(dev: &'bound Device<Bound>, range: MmioPhys<'peer>) -> Result<Self> {
        // SAFETY: The range was proved, and the handle is new. The C core holds the peer for as
        // long as it is mapped.
        let handle = unsafe {
            Handle::new(dev, pin_init::zeroed(), |dev, map| {
                bindings::dma_phys_map_mmio(dev, range.as_raw(), D::DIRECTION.into(), 0, map)
            })
        };

        // INVARIANT: The handle maps the range that was borrowed.
        Ok(Self {
            handle: handle?,
            kind: Mmio::new(),
            _direction: PhantomData,
        })
    }
}

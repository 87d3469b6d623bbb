// SPDX-License-Identifier: GPL-2.0

//! One range made reachable for one device.

use super::{
    CpuGuard,
    CpuPhys,
    Direction,
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
    error::to_result,
    prelude::*, //
};
use core::{
    marker::PhantomData,
    ptr, //
};

mod private {
    pub trait Sealed {}
}

/// What the range of a [`Mapping`] is made of: [`Cpu`] or [`Mmio`].
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
pub struct Cpu<M: Memory>(M);

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

impl<M: Memory> private::Sealed for Cpu<M> {}
impl private::Sealed for Mmio<'_> {}

impl<M: Memory> Kind for Cpu<M> {}
impl Kind for Mmio<'_> {}

/// A range that is mapped, until it is dropped.
///
/// The lifetimes in `'bound` and `K` are here, beside the `Drop`, so that they must still be valid
/// when it runs.
///
/// # Invariants
///
/// `map` is a live map: it was filled in by a call of the C core that succeeded, for a device that
/// is bound for `'bound`, and has not been unmapped. `route` is its route.
struct Handle<'bound, K> {
    map: bindings::dma_phys_map,
    route: Route,
    _bound: PhantomData<&'bound Device<Bound>>,
    _kind: PhantomData<K>,
}

// SAFETY: `map` is plain data, which any task may sync and unmap. Its device is bound for `'bound`
// wherever the handle is. There is no `K` in a handle.
unsafe impl<K> Send for Handle<'_, K> {}

// SAFETY: A shared reference to a handle reads plain data which only an exclusive one changes.
unsafe impl<K> Sync for Handle<'_, K> {}

impl<'bound, K> Handle<'bound, K> {
    /// # Safety
    ///
    /// `map` was filled in by a call of the C core that succeeded, for a device that is bound for
    /// `'bound`. It is not used elsewhere.
    unsafe fn new(map: bindings::dma_phys_map) -> Result<Self> {
        // INVARIANT: By the safety requirements the map is live.
        let mut handle = Self {
            map,
            route: Route::Direct,
            _bound: PhantomData,
            _kind: PhantomData,
        };
        // INVARIANT: Here the route becomes that of the map; an error drops the handle.
        handle.route = Route::from_raw(handle.map.route)?;
        Ok(handle)
    }

    /// # Safety
    ///
    /// Until the handle is dropped the memory in `range` stays allocated, and is not accessed but
    /// between a sync for the CPU and one for the device.
    unsafe fn map_cpu<D: Direction>(dev: &'bound Device<Bound>, range: CpuPhys) -> Result<Self> {
        let mut map = pin_init::zeroed();
        // SAFETY: `dev` is a bound device, the other pointers are to a range that was proved and to
        // a local variable. The memory may be used as the caller promises.
        to_result(unsafe {
            bindings::dma_phys_map_cpu(
                dev.as_raw(),
                range.as_raw(),
                D::DIRECTION.into(),
                0,
                &raw mut map,
            )
        })?;

        // SAFETY: Mapped just now, for `dev`.
        unsafe { Self::new(map) }
    }

    fn map_mmio<D: Direction>(dev: &'bound Device<Bound>, range: MmioPhys<'_>) -> Result<Self> {
        let mut map = pin_init::zeroed();
        // SAFETY: `dev` is a bound device, the other pointers are to a range that was proved and to
        // a local variable. The C core holds the peer for as long as it is mapped.
        to_result(unsafe {
            bindings::dma_phys_map_mmio(
                dev.as_raw(),
                range.as_raw(),
                D::DIRECTION.into(),
                0,
                &raw mut map,
            )
        })?;

        // SAFETY: Mapped just now, for `dev`.
        unsafe { Self::new(map) }
    }

    fn sync_for_cpu(&mut self) -> Result {
        let size = self.map.size;
        // SAFETY: By the type invariant the map is live.
        to_result(unsafe { bindings::dma_phys_sync_for_cpu(&raw mut self.map, 0, size) })
    }
}

impl<K> Drop for Handle<'_, K> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the map is live, and its device still bound.
        unsafe { bindings::dma_phys_unmap(&raw mut self.map) };
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
    handle: Handle<'bound, K>,
    kind: K,
    _direction: PhantomData<D>,
}

impl<K: Kind, D: Direction> Mapping<'_, K, D> {
    /// Where the device finds the first byte.
    ///
    /// All bytes follow it without a gap.
    #[inline]
    pub fn dma_address(&self) -> DmaAddress {
        self.handle.map.addr
    }

    /// Length in bytes, never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.handle.map.size
    }

    /// How the device reaches the range.
    #[inline]
    pub fn route(&self) -> Route {
        self.handle.route
    }
}

impl<'bound, M: Memory, D: Direction> Mapping<'bound, Cpu<M>, D> {
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
    pub fn new(dev: &'bound Device<Bound>, mut memory: M) -> Result<Self, MapError<M>> {
        match Self::map(dev, &mut memory) {
            // INVARIANT: The handle maps the bytes of `memory`. By the safety requirements of
            // `Memory` they stay where they are when it is moved.
            Ok(handle) => Ok(Self {
                handle,
                kind: Cpu(memory),
                _direction: PhantomData,
            }),
            Err(error) => Err(MapError::new(error, memory)),
        }
    }

    fn map(dev: &'bound Device<Bound>, memory: &mut M) -> Result<Handle<'bound, Cpu<M>>> {
        // The device may write there: the pointer must not come from a shared reference.
        let bytes = &mut **memory;
        let len = size_of_val(bytes);
        let addr = ptr::from_mut(bytes);

        // SAFETY: The two are of one reference.
        let range = unsafe { CpuPhys::from_raw(addr.cast(), len) }?;

        // SAFETY: The only caller puts handle and memory into one `Mapping`, which drops the
        // handle first and lends the memory in a `CpuGuard` only. A mapping that is forgotten
        // forgets the memory too, which by the safety requirements of `Memory` leaks it.
        unsafe { Handle::map_cpu::<D>(dev, range) }
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
    pub fn cpu(&mut self) -> Result<CpuGuard<'_, M, D>> {
        self.handle.sync_for_cpu()?;

        // SAFETY: By the type invariants the map is live, and one of all bytes of the memory. They
        // were handed to the CPU just now.
        Ok(unsafe { CpuGuard::new(&mut self.handle.map, &mut self.kind.0) })
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
        // INVARIANT: The handle maps the range that was borrowed.
        Ok(Self {
            handle: Handle::map_mmio::<D>(dev, range)?,
            kind: Mmio(PhantomData),
            _direction: PhantomData,
        })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Block requests mapped for a device.

mod integrity;

pub use integrity::IntegrityMapping;

use super::{
    handle::RawSg,
    mapped::{
        DeviceOwned,
        Mapped, //
    },
    MapError,
    Route,
    Segment, //
};
use crate::{
    bindings,
    block::mq::{
        Operations,
        Request, //
    },
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Release, //
        }, //
    },
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ops::Deref,
    ptr, //
};

mod private {
    use crate::{
        bindings,
        sync::atomic::Atomic, //
    };

    /// [`Operations::RequestData`](crate::block::mq::Operations::RequestData) in which a mapping
    /// can be stored.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` has no space for the mapping of a request",
        note = "use `MappableData` as `Operations::RequestData`"
    )]
    pub trait Sealed {
        /// A list, and whether it is in use.
        ///
        /// # Safety
        ///
        /// Only `RequestMapping` calls this, and keeps the invariant of `MappableData`. Any code
        /// can name a method of a bound.
        unsafe fn list(&self) -> (*mut bindings::dma_phys_sg, &Atomic<bool>);

        /// Same as [`list`](Self::list), for the metadata of the request.
        ///
        /// # Safety
        ///
        /// Only `IntegrityMapping` calls this, and keeps the invariant of `MappableData`.
        unsafe fn integrity_list(&self) -> (*mut bindings::dma_phys_sg, &Atomic<bool>);
    }
}

use private::Sealed as _;

/// Data of the driver in a request, together with space for its [`RequestMapping`], and for the
/// [`IntegrityMapping`] of its metadata.
///
/// It dereferences to the data.
///
/// # Invariants
///
/// - `list` is empty unless `mapped`, and then belongs to one [`RequestMapping`].
/// - `integrity_list` is empty unless `integrity_mapped`, and then belongs to one
///   [`IntegrityMapping`].
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::mq::{Operations, Request},
///     dma::phys::MappableData,
///     sync::{aref::ARef, atomic::{Atomic, Relaxed}}, //
/// };
///
/// struct Drive;
///
/// #[vtable]
/// impl Operations for Drive {
///     type QueueData = ();
///     /// The status that the device reports.
///     type RequestData = MappableData<Atomic<u32>>;
///
///     fn new_request_data() -> impl PinInit<Self::RequestData, Error> {
///         Ok(MappableData::new(Atomic::new(0)))
///     }
/// #
/// #   fn queue_rq(_queue_data: (), rq: ARef<Request<Self>>, _is_last: bool) -> Result {
/// #       rq.data().store(1, Relaxed);
/// #       Ok(())
/// #   }
/// #
/// #   fn commit_rqs(_queue_data: ()) {}
/// #
/// #   fn complete(_rq: ARef<Request<Self>>) {}
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct MappableData<D> {
    list: Opaque<bindings::dma_phys_sg>,
    mapped: Atomic<bool>,
    data: D,
    // Not in a type of its own, so that the fast path, which has no metadata, passes one pointer.
    integrity_list: Opaque<bindings::dma_phys_sg>,
    integrity_mapped: Atomic<bool>,
}

// SAFETY: The lists are plain data, which any task may use.
unsafe impl<D: Send> Send for MappableData<D> {}

// SAFETY: A shared reference gives access to a `&D`. Each list is accessed only by the one mapping
// that it belongs to.
unsafe impl<D: Sync> Sync for MappableData<D> {}

impl<D> MappableData<D> {
    /// Adds space for a mapping to `data`.
    #[inline]
    pub fn new(data: D) -> Self {
        // INVARIANT: A zeroed list is empty.
        Self {
            list: Opaque::new(pin_init::zeroed()),
            mapped: Atomic::new(false),
            data,
            integrity_list: Opaque::new(pin_init::zeroed()),
            integrity_mapped: Atomic::new(false),
        }
    }
}

impl<D> Deref for MappableData<D> {
    type Target = D;

    #[inline]
    fn deref(&self) -> &D {
        &self.data
    }
}

impl<D> private::Sealed for MappableData<D> {
    #[inline]
    unsafe fn list(&self) -> (*mut bindings::dma_phys_sg, &Atomic<bool>) {
        (self.list.get(), &self.mapped)
    }

    #[inline]
    unsafe fn integrity_list(&self) -> (*mut bindings::dma_phys_sg, &Atomic<bool>) {
        (self.integrity_list.get(), &self.integrity_mapped)
    }
}

/// [`Operations`] of a driver that maps requests: its `RequestData` is a [`MappableData`].
pub trait MapsRequests: Operations<RequestData: private::Sealed> {}

impl<T: Operations<RequestData: private::Sealed>> MapsRequests for T {}

/// The data of a block request, mapped for a device and owned by the device.
///
/// It holds a reference to the request, so that the request is not completed while it is mapped.
/// [`unmap`](Self::unmap) returns it. The direction is that of the request. If its pages are
/// another device's memory, they are mapped as such.
///
/// What is kept until it is unmapped is in the request, see [`MappableData`]. This is only a
/// reference to it.
///
/// # Drop
///
/// Dropping it leaks the mapping together with the request, which then never ends, same as
/// [`InFlight`](super::InFlight). A timeout handler unmaps only after the abort of the command has
/// completed or the device was reset.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::mq::Request,
///     device::{Bound, Device},
///     dma::phys::{MapsRequests, RequestMapping},
///     sync::aref::ARef, //
/// };
///
/// /// Called in `queue_rq()`. Writes descriptors of an address and a length.
/// fn map<'bound, T: MapsRequests>(
///     dev: &'bound Device<Bound>,
///     rq: ARef<Request<T>>,
///     descriptors: &mut [[u64; 2]],
/// ) -> Result<RequestMapping<'bound, T>> {
///     let (mapping, ()) = RequestMapping::map(dev, rq, |segments| {
///         for segment in segments {
///             let (free, _) = descriptors.split_first_mut().ok_or(ENOSPC)?;
///
///             *free = [segment.dma_address().into(), segment.dma_len() as u64];
/// #           break;
///         }
///         Ok(())
///     })?;
///     Ok(mapping)
/// }
///
/// /// Called when the device has completed the request.
/// fn complete<T: MapsRequests>(mapping: RequestMapping<'_, T>) {
///     // SAFETY: The device has finished.
///     Request::complete(unsafe { mapping.unmap() });
/// }
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it leaks the request and its mapping"]
pub struct RequestMapping<'bound, T: MapsRequests> {
    mapped: DeviceOwned<'bound, InRequest<T>, ()>,
}

impl<'bound, T: MapsRequests> RequestMapping<'bound, T> {
    /// Maps the data of `rq` for `dev`, and hands it to the device.
    ///
    /// Calls `describe` with the segments while they are mapped, and returns its result. It takes
    /// all segments and writes what the device needs to find them; nothing else stores them. Most
    /// requests have one segment or two. The addresses belong to no mapping before this returns:
    /// the device must not get them from `describe`, which may fail.
    ///
    /// Does not sleep. It allocates only page tables behind an IOMMU, and unmap records if the
    /// route needs them.
    ///
    /// # Errors
    ///
    /// An error returns `rq`, with nothing mapped.
    ///
    /// - [`EINVAL`] if the request has no data, its pages are neither all memory nor all of one
    ///   other device, `dev` has no DMA mask, or `describe` has not taken all segments.
    /// - [`EBUSY`] if the request is mapped already.
    /// - [`ERANGE`] if the device cannot address the data, and it cannot be bounced.
    /// - [`E2BIG`] if the data is larger than all IOVA space, or a range of it is larger than one
    ///   mapping of the device can be.
    /// - [`EAGAIN`] if bounce buffers are in use; it may work later.
    /// - [`ENOMEM`] if there is no memory for unmap records; or, behind an IOMMU, if IOVA space,
    ///   page tables or bounce buffers are exhausted. It may work later.
    /// - [`EREMOTEIO`] if there is no P2P path to the device that owns the pages.
    /// - [`EOPNOTSUPP`] if device memory cannot be mapped for the device, or the alignment that it
    ///   needs cannot be preserved.
    /// - [`EIO`] if the legacy DMA ops of the device refuse it.
    /// - The error of `describe`, unless mapping has failed before.
    ///
    /// # Examples
    ///
    /// See [`RequestMapping`].
    #[inline]
    pub fn map<R>(
        dev: &'bound Device<Bound>,
        rq: ARef<Request<T>>,
        describe: impl FnOnce(&mut Segments<'_>) -> Result<R>,
    ) -> Result<(Self, R), MapError<ARef<Request<T>>>> {
        // A `Request` is a transparent `struct request`.
        let request = ptr::from_ref(&*rq).cast::<bindings::request>().cast_mut();
        let mut iter = MaybeUninit::uninit();
        // SAFETY: This is `RequestMapping`.
        let (list, is_mapped) = unsafe { rq.data().get_ref().list() };

        // INVARIANT: The list was not in use, and belongs to this function.
        if is_mapped.xchg(true, Acquire) {
            return Err(MapError::new(EBUSY, rq));
        }
        // SAFETY: `dev` is a reference to a device. By the type invariant of `Request` the request
        // is valid, and as there is an `ARef` it belongs to the driver, so that its bio vectors do
        // not change. By the type invariant of `MappableData` the list is empty. The C core
        // initialises the iterator.
        let more = unsafe {
            bindings::blk_rq_dma_phys_map_start(dev.as_raw(), request, 0, list, iter.as_mut_ptr())
        };
        if more < 0 {
            is_mapped.store(false, Release);
            return Err(MapError::new(Error::from_errno(more), rq));
        }

        // SAFETY: The list is being mapped, and the iterator has its first segment.
        let result = match unsafe { Segments::describe(list, iter.as_mut_ptr(), more, describe) } {
            Ok(result) => result,
            Err(error) => {
                // The C core has unmapped all.
                is_mapped.store(false, Release);
                return Err(MapError::new(error, rq));
            }
        };

        // SAFETY: The list was just mapped for `dev`, which is bound for `'bound`. The pages of a
        // request stay allocated until it is completed. That takes the last `ARef`, and this one is
        // returned only after the list is unmapped.
        let mapped = unsafe { Mapped::new(InRequest(rq), ()) };
        let error = match result {
            Ok(described) => {
                let mapped = DeviceOwned::new(mapped);
                return Ok((Self { mapped }, described));
            }
            Err(error) => error,
        };

        // The device has got no address, so there is nothing to transfer.
        let (raw, ()) = mapped.unmap_from_cpu();
        Err(MapError::new(error, raw.into_request()))
    }

    /// Returns the request.
    #[inline]
    pub fn request(&self) -> &Request<T> {
        &self.mapped.raw.0
    }

    /// Returns the length of the data in bytes, which is never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.mapped.raw.sg().size
    }

    /// Returns how the device reaches the data: [`Route::Bounce`] if any of it bounces.
    #[inline]
    pub fn route(&self) -> Route {
        self.mapped.route()
    }

    /// Takes the data back from the device, unmaps it, and returns the request.
    ///
    /// May be called in any context.
    ///
    /// # Safety
    ///
    /// From now on the device accesses no byte of the data through this mapping, because it never
    /// got the addresses, or has finished and holds no descriptor for it, or was stopped.
    ///
    /// # Examples
    ///
    /// See [`RequestMapping`].
    #[inline]
    pub unsafe fn unmap(self) -> ARef<Request<T>> {
        self.mapped.unmap().0.into_request()
    }
}

/// The segments of a request that is being mapped, see [`RequestMapping::map`].
///
/// If mapping fails the iterator ends early, and [`RequestMapping::map`] returns the error.
///
/// # Invariants
///
/// `list` is being mapped with `iter`, and `taken` bytes of it were returned, unless `more` is
/// below 0: then that is the errno, and nothing is mapped.
///
/// # Examples
///
/// See [`RequestMapping`].
pub struct Segments<'a> {
    list: *mut bindings::dma_phys_sg,
    iter: *mut bindings::blk_dma_phys_iter,
    taken: usize,
    more: c_int,
    _borrows: PhantomData<&'a mut bindings::dma_phys_sg>,
}

impl Segments<'_> {
    /// Calls `describe` with the segments of `list`. Returns its result, or [`EINVAL`] if it has
    /// not taken all of them.
    ///
    /// # Errors
    ///
    /// The outer error is that of mapping. Then nothing is mapped, else all is.
    ///
    /// # Safety
    ///
    /// `list` is being mapped with `iter`, which has the first segment. `more` is the result of the
    /// start.
    #[inline(always)]
    unsafe fn describe<R>(
        list: *mut bindings::dma_phys_sg,
        iter: *mut bindings::blk_dma_phys_iter,
        more: c_int,
        describe: impl FnOnce(&mut Segments<'_>) -> Result<R>,
    ) -> Result<Result<R>> {
        // INVARIANT: The caller guarantees it.
        let mut segments = Segments {
            list,
            iter,
            taken: 0,
            more,
            _borrows: PhantomData,
        };
        let result = describe(&mut segments);

        if segments.more < 0 {
            return Err(Error::from_errno(segments.more));
        }
        Ok(match result {
            Ok(_) if segments.taken != segments.size() => Err(EINVAL),
            result => result,
        })
    }

    /// Returns the length of all segments in bytes, including those that were taken.
    #[inline]
    pub fn size(&self) -> usize {
        // SAFETY: The list is that of the request, which `RequestMapping::map()` holds meanwhile.
        unsafe { (*self.list).size }
    }
}

impl Iterator for Segments<'_> {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        if self.more < 0 || self.taken == self.size() {
            return None;
        }
        // The iterator begins with the first segment.
        if self.taken != 0 {
            // INVARIANT: The result is an errno if nothing is mapped any longer.
            // SAFETY: By the type invariant the list is being mapped with the iterator.
            self.more = unsafe { bindings::blk_rq_dma_phys_map_next(self.list, self.iter) };
            if self.more <= 0 {
                return None;
            }
        }

        // SAFETY: The C core has just stored a segment in the iterator.
        let (addr, len) = unsafe { ((*self.iter).sg.addr, (*self.iter).sg.len) };
        // INVARIANT: This segment is returned.
        self.taken += len;
        Some(Segment(bindings::dma_phys_segment { addr, len }))
    }
}

/// The list in the data of a request.
///
/// # Invariants
///
/// The list is in use, and belongs to this value.
struct InRequest<T: MapsRequests>(ARef<Request<T>>);

impl<T: MapsRequests> InRequest<T> {
    /// Returns the request, with its list unmapped.
    #[inline]
    fn into_request(self) -> ARef<Request<T>> {
        // INVARIANT: The list is not in use any longer.
        // SAFETY: This is a part of `RequestMapping`.
        let (_, is_mapped) = unsafe { self.0.data().get_ref().list() };

        is_mapped.store(false, Release);
        self.0
    }
}

impl<T: MapsRequests> RawSg for InRequest<T> {
    #[inline]
    fn sg(&self) -> &bindings::dma_phys_sg {
        // SAFETY: The request is valid. By the type invariant the list belongs to this value.
        unsafe { &*self.0.data().get_ref().list().0 }
    }

    #[inline]
    fn sg_mut(&mut self) -> &mut bindings::dma_phys_sg {
        // SAFETY: See `sg()`.
        unsafe { &mut *self.0.data().get_ref().list().0 }
    }
}

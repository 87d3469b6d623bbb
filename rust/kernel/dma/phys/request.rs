// SPDX-License-Identifier: GPL-2.0

//! Block requests made reachable for a device.

use super::{
    handle::Handle,
    vec_mapping::segments,
    MapError,
    Route,
    VecStorage, //
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
    dma::DmaAddress,
    prelude::*,
    sync::aref::ARef, //
};
use core::ptr;

/// The data of a block request made reachable for one device, as segments.
///
/// It holds the request for as long as it maps it, and so long
/// [`Request::end_ok`](crate::block::mq::Request::end_ok) refuses to complete it. Unmapping gives
/// the request back, together with the [`VecStorage`] that the driver brought. A driver keeps as
/// many of these as its queue is deep: none is allocated when a request comes.
///
/// The direction is the request's. Where all its pages belong to one other device, they are mapped
/// as that device's memory.
///
/// # What the types cannot see
///
/// A driver that returns an error from [`Operations::queue_rq`] gives the request back that way,
/// whoever still holds it: unmap it before. When a device is done with it only the driver knows, as
/// with each mapping.
///
/// # Invariants
///
/// `handle` maps the data of `rq`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::mq::{Operations, Request},
///     device::{Bound, Device},
///     dma::phys::{RequestMapping, VecStorage},
///     new_spinlock,
///     sync::{aref::ARef, SpinLock}, //
/// };
///
/// /// The part of a queue that knows what the device has.
/// #[pin_data]
/// struct InFlight<'bound, T: Operations> {
///     dev: &'bound Device<Bound>,
///     /// One for each tag.
///     #[pin]
///     idle: SpinLock<KVec<VecStorage>>,
/// #   _mapping: core::marker::PhantomData<RequestMapping<'bound, T>>,
/// }
///
/// impl<'bound, T: Operations> InFlight<'bound, T> {
///     /// In `queue_rq()`: what comes back goes into a slot of its own, and to the device.
///     fn map(&self, rq: ARef<Request<T>>) -> Result<RequestMapping<'bound, T>> {
///         let storage = self.idle.lock().pop().ok_or(EBUSY)?;
///
///         RequestMapping::new(self.dev, rq, storage).map_err(|error| {
///             let (error, (_, storage)) = error.into_parts();
///             self.put(storage);
///             error
///         })
///     }
///
///     /// When the device is done.
///     fn complete(&self, mapping: RequestMapping<'bound, T>) {
///         let (rq, storage) = mapping.unmap();
///
///         self.put(storage);
///         Request::complete(rq);
///     }
///
///     fn put(&self, storage: VecStorage) {
///         // There is room: it came from there.
///         let _ = self.idle.lock().push_within_capacity(storage);
///     }
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct RequestMapping<'bound, T: Operations> {
    // Dropped first: the data is unmapped before the request is given away.
    handle: Handle<'bound, VecStorage, ()>,
    rq: ARef<Request<T>>,
}

impl<'bound, T: Operations> RequestMapping<'bound, T> {
    /// Makes the data of `rq` reachable for `dev`.
    ///
    /// Does not sleep and allocates nothing but, under an IOMMU, page tables.
    ///
    /// # Errors
    ///
    /// They give `rq` and `storage` back.
    ///
    /// - [`EINVAL`] where the request has no data, its pages are neither all memory nor all of one
    ///   other device, or `dev` has no DMA mask.
    /// - [`ENOSPC`] where `storage` is too small for this request.
    /// - [`ERANGE`] where the device cannot address the data, and it cannot be bounced.
    /// - [`E2BIG`] where a part of it is larger than one mapping can be.
    /// - [`EAGAIN`] where bounce slots or DMA addresses are used up: it may work later.
    /// - [`ENOMEM`] where there is no memory for page tables.
    /// - [`EREMOTEIO`] where there is no route between the device and the one that has the pages.
    /// - [`EOPNOTSUPP`] where the device's route cannot map memory of that kind.
    ///
    /// # Examples
    ///
    /// See [`RequestMapping`].
    #[expect(clippy::type_complexity)]
    pub fn new(
        dev: &'bound Device<Bound>,
        rq: ARef<Request<T>>,
        storage: VecStorage,
    ) -> Result<Self, MapError<(ARef<Request<T>>, VecStorage)>> {
        // A `Request` is a transparent `struct request`.
        let raw = ptr::from_ref(&*rq).cast::<bindings::request>().cast_mut();

        // SAFETY: By the type invariant of `Request` it is valid, and as there is an `ARef` it is
        // the driver's, so that its bio vectors stay. Its pages stay until it is completed: that
        // takes the last `ARef`, and one is dropped or given away after the handle only. Nobody has
        // access to its pages through it.
        let handle = unsafe {
            Handle::new(dev, storage, |dev, vec| {
                bindings::dma_phys_vec_map_request(dev, raw, 0, vec.as_mut_ptr())
            })
        };

        match handle {
            // INVARIANT: Mapped just now.
            Ok(handle) => Ok(Self { handle, rq }),
            Err(error) => {
                let (error, storage) = error.into_parts();
                Err(MapError::new(error, (rq, storage)))
            }
        }
    }

    /// The request.
    #[inline]
    pub fn request(&self) -> &Request<T> {
        &self.rq
    }

    /// Where the device finds the bytes: address and length of each segment.
    #[inline]
    pub fn segments(&self) -> impl ExactSizeIterator<Item = (DmaAddress, usize)> + '_ {
        segments(self.handle.raw())
    }

    /// Length of all segments in bytes, never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.handle.size()
    }

    /// How the device reaches the data; where some of it bounces, [`Route::Bounce`].
    #[inline]
    pub fn route(&self) -> Route {
        self.handle.route()
    }

    /// Unmaps the data, and gives the request and the storage back.
    ///
    /// # Examples
    ///
    /// See [`RequestMapping`].
    #[inline]
    pub fn unmap(self) -> (ARef<Request<T>>, VecStorage) {
        let Self { handle, rq } = self;

        (rq, handle.unmap())
    }
}

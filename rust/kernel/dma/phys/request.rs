// SPDX-License-Identifier: GPL-2.0

//! Block requests mapped for a device.

use super::{
    handle::Handle,
    sg_mapping::segments,
    MapError,
    Route,
    SgStorage, //
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

/// The data of a block request mapped for one device, as segments.
///
/// It holds a reference to the request, so that
/// [`Request::end_ok`](crate::block::mq::Request::end_ok) refuses to complete the request while it
/// is mapped. Unmapping returns the request and the [`SgStorage`] of the driver. A driver allocates
/// one `SgStorage` for each tag in advance, and none when a request is submitted.
///
/// The direction is that of the request. If its pages are another device's memory, they are mapped
/// as such.
///
/// # What the types do not check
///
/// A driver that returns an error from [`Operations::queue_rq`] gives the request back to the block
/// layer even if a mapping holds it. Drop the mapping before. As with every mapping, only the
/// driver knows when the device is done with it.
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
///     dma::phys::{RequestMapping, SgStorage},
///     new_spinlock,
///     sync::{aref::ARef, SpinLock}, //
/// };
///
/// /// The part of a queue that maps requests.
/// #[pin_data]
/// struct Mapper<'bound, T: Operations> {
///     dev: &'bound Device<Bound>,
///     /// One for each tag that is not in use.
///     #[pin]
///     idle: SpinLock<KVec<SgStorage>>,
/// #   _mapping: core::marker::PhantomData<RequestMapping<'bound, T>>,
/// }
///
/// impl<'bound, T: Operations> Mapper<'bound, T> {
///     /// Called in `queue_rq()`, which stores the mapping by its tag and submits its segments.
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
///     /// Called when the device has completed the request.
///     fn complete(&self, mapping: RequestMapping<'bound, T>) {
///         let (rq, storage) = mapping.unmap();
///
///         self.put(storage);
///         Request::complete(rq);
///     }
///
///     fn put(&self, storage: SgStorage) {
///         // The capacity suffices for all storage.
///         let _ = self.idle.lock().push_within_capacity(storage);
///     }
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct RequestMapping<'bound, T: Operations> {
    // Dropped first: the data is unmapped before the request is given away.
    handle: Handle<'bound, SgStorage, ()>,
    rq: ARef<Request<T>>,
}

impl<'bound, T: Operations> RequestMapping<'bound, T> {
    /// Maps the data of `rq` for `dev`.
    ///
    /// Does not sleep. It allocates only page tables behind an IOMMU, and unmap records if the
    /// route needs them.
    ///
    /// # Errors
    ///
    /// An error returns `rq` and `storage`.
    ///
    /// - [`EINVAL`] if the request has no data, its pages are neither all memory nor all of one
    ///   other device, `storage` has no capacity, or `dev` has no DMA mask.
    /// - [`ENOSPC`] if `storage` is too small for this request.
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
    ///
    /// # Examples
    ///
    /// See [`RequestMapping`].
    #[expect(clippy::type_complexity)]
    pub fn new(
        dev: &'bound Device<Bound>,
        rq: ARef<Request<T>>,
        storage: SgStorage,
    ) -> Result<Self, MapError<(ARef<Request<T>>, SgStorage)>> {
        // A `Request` is a transparent `struct request`.
        let raw = ptr::from_ref(&*rq).cast::<bindings::request>().cast_mut();

        // SAFETY: Storage outside of a handle holds an empty list, by its type invariant. By the
        // type invariant of `Request` the request is valid, and as there is an `ARef` it belongs to
        // the driver, so that its bio vectors do not change. Its pages stay allocated until it is
        // completed. Completion takes the last `ARef`, and this one is dropped or returned only
        // after the handle. A `Request` gives no access to its pages.
        let handle = unsafe {
            Handle::new(dev, storage, |dev, storage| {
                storage.map_with(|_, segments, max_segments, sg| {
                    bindings::blk_rq_dma_phys_map(dev, raw, 0, segments, max_segments, sg)
                })
            })
        };

        match handle {
            // INVARIANT: The handle maps the data of `rq`.
            Ok(handle) => Ok(Self { handle, rq }),
            Err(error) => {
                let (error, storage) = error.into_parts();
                Err(MapError::new(error, (rq, storage)))
            }
        }
    }

    /// Returns the request.
    #[inline]
    pub fn request(&self) -> &Request<T> {
        &self.rq
    }

    /// Returns DMA address and length of each segment.
    #[inline]
    pub fn segments(&self) -> impl ExactSizeIterator<Item = (DmaAddress, usize)> + '_ {
        segments(self.handle.raw())
    }

    /// Returns the length of all segments in bytes, which is never 0.
    #[inline]
    pub fn size(&self) -> usize {
        self.handle.size()
    }

    /// Returns how the device reaches the data: [`Route::Bounce`] if any of it bounces.
    #[inline]
    pub fn route(&self) -> Route {
        self.handle.route()
    }

    /// Unmaps the data, and returns the request and the storage.
    ///
    /// # Examples
    ///
    /// See [`RequestMapping`].
    #[inline]
    pub fn unmap(self) -> (ARef<Request<T>>, SgStorage) {
        let Self { handle, rq } = self;

        (rq, handle.unmap())
    }
}

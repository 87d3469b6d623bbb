// SPDX-License-Identifier: GPL-2.0

//! The metadata of block requests.

use super::{
    private::Sealed as _,
    MapsRequests,
    RequestMapping,
    Segments, //
};
use crate::{
    bindings,
    block::mq::Request,
    device::{
        Bound,
        Device, //
    },
    dma::phys::{
        handle::RawSg,
        mapped::{
            DeviceOwned,
            Mapped, //
        },
        MapError, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Release, //
        }, //
    }, //
};
use core::{
    mem::MaybeUninit,
    ptr::{
        self,
        NonNull, //
    },
};

/// The data and the metadata of a block request, mapped for a device and owned by the device.
///
/// # Drop
///
/// Same as for [`RequestMapping`]: dropping it leaks both mappings together with the request.
///
/// # Invariants
///
/// The metadata of the request is mapped, for a device that is bound for `'bound`, and its list
/// belongs to this value.
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::mq::Request,
///     device::{Bound, Device},
///     dma::phys::{IntegrityMapping, MapError, MapsRequests, RequestMapping},
///     sync::aref::ARef, //
/// };
///
/// /// Called in `queue_rq()` after the data was mapped. Returns the address of the metadata.
/// fn map<'bound, T: MapsRequests>(
///     dev: &'bound Device<Bound>,
///     data: RequestMapping<'bound, T>,
/// ) -> Result<(IntegrityMapping<'bound, T>, u64), MapError<ARef<Request<T>>>> {
///     // SAFETY: The device has not got an address.
///     unsafe {
///         IntegrityMapping::map(dev, data, |segments| {
///             let segment = segments.next().ok_or(EINVAL)?;
///
///             Ok(segment.dma_address().into())
///         })
///     }
/// }
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping it leaks the request and its mappings"]
pub struct IntegrityMapping<'bound, T: MapsRequests> {
    // It has the request, so that this is one pointer.
    data: RequestMapping<'bound, T>,
}

impl<'bound, T: MapsRequests> IntegrityMapping<'bound, T> {
    /// Maps the metadata of a request whose data is mapped, and hands it to the device.
    ///
    /// See [`RequestMapping::map`], also for `describe`.
    ///
    /// # Errors
    ///
    /// Those of [`RequestMapping::map`], and [`EINVAL`] if the request has no metadata. The error
    /// has the request, whose data is unmapped.
    ///
    /// # Safety
    ///
    /// The device has not got an address of `data`, nor gets one if this fails.
    ///
    /// # Examples
    ///
    /// See [`IntegrityMapping`].
    pub unsafe fn map<R>(
        dev: &'bound Device<Bound>,
        data: RequestMapping<'bound, T>,
        describe: impl FnOnce(&mut Segments<'_>) -> Result<R>,
    ) -> Result<(Self, R), MapError<ARef<Request<T>>>> {
        match Self::map_list(dev, data.request(), describe) {
            // INVARIANT: The metadata was just mapped.
            Ok(described) => Ok((Self { data }, described)),
            Err(error) => {
                // SAFETY: The caller guarantees that the device accesses nothing.
                Err(MapError::new(error, unsafe { data.unmap() }))
            }
        }
    }

    /// Maps the metadata of a request whose data is mapped.
    fn map_list<R>(
        dev: &'bound Device<Bound>,
        rq: &Request<T>,
        describe: impl FnOnce(&mut Segments<'_>) -> Result<R>,
    ) -> Result<R> {
        // A `Request` is a transparent `struct request`.
        let request = ptr::from_ref(rq).cast::<bindings::request>().cast_mut();
        let mut iter = MaybeUninit::uninit();
        // SAFETY: This is `IntegrityMapping`.
        let (list, is_mapped) = unsafe { rq.data().get_ref().integrity_list() };

        // INVARIANT: The list was not in use, and belongs to this function.
        if is_mapped.xchg(true, Acquire) {
            return Err(EBUSY);
        }
        // SAFETY: `dev` is a reference to a device. The request is valid and belongs to the driver,
        // as it is mapped, so that its metadata does not change. By the type invariant of
        // `MappableData` the list is empty. The C core initialises the iterator.
        let more = unsafe {
            bindings::blk_rq_integrity_dma_phys_map_start(
                dev.as_raw(),
                request,
                0,
                list,
                iter.as_mut_ptr(),
            )
        };
        let result = if more < 0 {
            Err(Error::from_errno(more))
        } else {
            // SAFETY: The list is being mapped, and the iterator has its first segment.
            unsafe { Segments::describe(list, iter.as_mut_ptr(), more, describe) }
        };
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                // The C core has unmapped all.
                is_mapped.store(false, Release);
                return Err(error);
            }
        };

        result.inspect_err(|_| {
            // SAFETY: The list was just mapped for `dev`, which is bound for `'bound`. The request
            // has not ended.
            let mapped = unsafe { Mapped::new(IntegrityList(NonNull::from(rq)), ()) };
            // The device has got no address, so there is nothing to transfer.
            let (list, ()) = mapped.unmap_from_cpu();

            list.release();
        })
    }

    /// Returns the request.
    pub fn request(&self) -> &Request<T> {
        self.data.request()
    }

    /// Takes data and metadata back from the device, unmaps them, and returns the request.
    ///
    /// May be called in any context.
    ///
    /// # Safety
    ///
    /// Same as for [`RequestMapping::unmap`], and also for the metadata.
    pub unsafe fn unmap(self) -> ARef<Request<T>> {
        // SAFETY: By the type invariant the metadata is mapped, for a device that is bound. It
        // stays allocated until the request ends, which is not before the data is unmapped.
        let mapped = unsafe { Mapped::new(IntegrityList(NonNull::from(self.request())), ()) };
        let (list, ()) = DeviceOwned::<'bound, _, _>::new(mapped).unmap();

        list.release();
        // SAFETY: The caller guarantees that the device accesses the data no longer.
        unsafe { self.data.unmap() }
    }
}

/// The list for metadata, which is part of the driver's data in a request.
///
/// # Invariants
///
/// The request does not end before this is released. The list is in use, and belongs to this value.
struct IntegrityList<T: MapsRequests>(NonNull<Request<T>>);

impl<T: MapsRequests> IntegrityList<T> {
    fn request(&self) -> &Request<T> {
        // SAFETY: By the type invariant the request has not ended, so it is valid.
        unsafe { self.0.as_ref() }
    }

    /// Releases the list, which is unmapped.
    fn release(self) {
        // INVARIANT: The list is not in use any longer.
        // SAFETY: This is a part of `IntegrityMapping`.
        let (_, is_mapped) = unsafe { self.request().data().get_ref().integrity_list() };

        is_mapped.store(false, Release);
    }
}

impl<T: MapsRequests> RawSg for IntegrityList<T> {
    fn sg(&self) -> &bindings::dma_phys_sg {
        // SAFETY: The request is valid. By the type invariant the list belongs to this value.
        unsafe { &*self.request().data().get_ref().integrity_list().0 }
    }

    fn sg_mut(&mut self) -> &mut bindings::dma_phys_sg {
        // SAFETY: See `sg()`.
        unsafe { &mut *self.request().data().get_ref().integrity_list().0 }
    }
}

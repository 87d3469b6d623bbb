// SPDX-License-Identifier: GPL-2.0

//! Hardware queues: mapping to CPUs, timeouts, and quiescing.

use super::TagSet;
use crate::{
    bindings,
    block::mq::{
        operations::TimeoutVTable,
        request::RequestDataWrapper,
        Operations,
        TimeoutOperations, //
    },
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    prelude::*,
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    ptr, //
};

#[cfg(CONFIG_PCI)]
use crate::pci::IrqVectorRegistration;

/// Numbers of hardware queues.
///
/// The first `default` queues have an interrupt. The polled ones follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueCounts {
    /// Queues with an interrupt.
    pub default: u32,
    /// Queues whose submitters poll for completions, see [`Operations::poll`].
    pub poll: u32,
}

impl QueueCounts {
    /// Returns the number of all queues.
    fn total(&self) -> Result<u32> {
        self.default.checked_add(self.poll).ok_or(EINVAL)
    }
}

impl From<u32> for QueueCounts {
    /// No queue is polled.
    fn from(default: u32) -> Self {
        Self { default, poll: 0 }
    }
}

/// How the hardware queues are mapped to CPUs. Used only while a tag set is allocated.
pub(crate) struct QueueMaps<'a> {
    pub(crate) counts: QueueCounts,
    /// The vectors of the queues that are not polled, if they have their own.
    pub(crate) vectors: Option<QueueVectors<'a>>,
}

/// The interrupt vectors of the hardware queues.
pub(crate) struct QueueVectors<'a> {
    pub(crate) dev: &'a Device<Bound>,
    pub(crate) first: u32,
    /// Number of vectors of the device.
    pub(crate) count: usize,
}

impl QueueVectors<'_> {
    /// Returns whether each of `queues` queues has a vector.
    fn suffice_for(&self, queues: u32) -> bool {
        self.first
            .checked_add(queues)
            .is_some_and(|end| end as usize <= self.count)
    }
}

// SAFETY: A tag set may be freed by another thread than the one that allocated it. Of `T` it
// contains only request data, which is `Send`.
unsafe impl<T: Operations> Send for TagSet<T> {}

// SAFETY: The block layer synchronises everything that a shared reference can do. Request data is
// `Sync`.
unsafe impl<T: Operations> Sync for TagSet<T> {}

impl<T: TimeoutOperations> TagSet<T> {
    /// Same as [`TagSet::new`], with one queue map, for a driver that handles timeouts.
    ///
    /// The number of queues is limited to the number of CPUs.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the number of queues or tags is 0.
    /// - [`ENOMEM`] if there is no memory for the requests, or [`Operations::new_request_data`]
    ///   fails.
    pub fn with_timeout(nr_hw_queues: u32, num_tags: u32) -> impl PinInit<Self, Error> {
        Self::alloc(None, nr_hw_queues.into(), num_tags, None)
    }

    /// Same as [`TagSet::with_timeout`], with the requests on the NUMA node of `dev`, and queues
    /// that are polled.
    ///
    /// # Errors
    ///
    /// Same as [`TagSet::with_timeout`], and [`EINVAL`] if queues are polled but there is no
    /// [`Operations::poll`].
    pub fn for_device(
        dev: &Device<Bound>,
        queues: QueueCounts,
        num_tags: u32,
    ) -> impl PinInit<Self, Error> + use<'_, T> {
        Self::alloc(Some(dev), queues, num_tags, None)
    }

    /// Same as [`TagSet::for_device`] for the device of the vectors, with queue `i` mapped to the
    /// CPUs of the interrupt vector `first_vector + i`, unless it is polled.
    ///
    /// If one of the vectors has no affinity, the queues are spread over all CPUs.
    ///
    /// # Errors
    ///
    /// Same as [`TagSet::for_device`], and [`EINVAL`] if one of the vectors does not exist.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     block::mq::{TagSet, TimeoutOperations},
    ///     pci,
    ///     sync::Arc, //
    /// };
    ///
    /// /// Creates a queue for each vector but the first, which is for the device.
    /// fn tags<T: TimeoutOperations>(
    ///     vectors: &pci::IrqVectorRegistration<'_>,
    /// ) -> Result<Arc<TagSet<T>>> {
    ///     let queues = u32::try_from(vectors.len() - 1)?;
    ///
    ///     Arc::pin_init(TagSet::for_vectors(vectors, 1, queues.into(), 64), GFP_KERNEL)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    #[cfg(CONFIG_PCI)]
    pub fn for_vectors<'a>(
        vectors: &IrqVectorRegistration<'a>,
        first_vector: u32,
        queues: QueueCounts,
        num_tags: u32,
    ) -> impl PinInit<Self, Error> + use<'a, T> {
        let vectors = QueueVectors {
            dev: vectors.device().as_ref(),
            first: first_vector,
            count: vectors.len(),
        };

        Self::alloc(Some(vectors.dev), queues, num_tags, Some(vectors))
    }

    pub(crate) fn alloc<'a>(
        dev: Option<&'a Device<Bound>>,
        counts: QueueCounts,
        queue_depth: u32,
        vectors: Option<QueueVectors<'a>>,
    ) -> impl PinInit<Self, Error> + use<'a, T> {
        try_pin_init!(Self {
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::blk_mq_tag_set| {
                let maps = QueueMaps { counts, vectors };
                // The block layer would warn about a vector that does not exist.
                let too_few = |vectors: &QueueVectors<'_>| !vectors.suffice_for(counts.default);
                if maps.vectors.as_ref().is_some_and(too_few) {
                    return Err(EINVAL);
                }
                // The block layer polls such a queue without a check.
                if counts.default == 0 || (counts.poll != 0 && !T::HAS_POLL) {
                    return Err(EINVAL);
                }

                let numa_node = dev.map_or(bindings::NUMA_NO_NODE, |dev| {
                    // SAFETY: `dev` is a reference to a device, so the pointer is valid.
                    unsafe { bindings::dev_to_node(dev.as_raw()) }
                });
                let set = bindings::blk_mq_tag_set {
                    ops: TimeoutVTable::<T>::build(),
                    nr_hw_queues: counts.total()?,
                    queue_depth,
                    numa_node,
                    cmd_size: size_of::<RequestDataWrapper<T>>().try_into()?,
                    nr_maps: if counts.poll == 0 { 1 } else { bindings::hctx_type_HCTX_MAX_TYPES },
                    driver_data: ptr::from_ref(&maps).cast_mut().cast(),
                    ..pin_init::zeroed()
                };

                // SAFETY: `slot` is valid for writes.
                unsafe { slot.write(set) };
                // SAFETY: The tag set was just initialized. The callbacks that run during the
                // allocation use `driver_data`, which points to `maps`.
                to_result(unsafe { bindings::blk_mq_alloc_tag_set(slot) })?;
                // The number of queues does not change, so they are mapped only during the
                // allocation, and `maps` is not used any longer.
                // SAFETY: See above.
                unsafe { (*slot).driver_data = ptr::null_mut() };
                Ok::<(), Error>(())
            }),
            _p: PhantomData,
        })
    }
}

impl<T: Operations> TagSet<T> {
    /// Quiesces all queues: when this returns no [`Operations::queue_rq`] runs, and none is called
    /// until [`unquiesce()`](Self::unquiesce). Requests that the driver already has are not
    /// affected.
    ///
    /// May sleep, so it must not be called in `queue_rq`. Calls nest, also of different tasks. A
    /// disk that is created in between is not quiesced.
    pub fn quiesce(&self) {
        // SAFETY: By the type invariant the tag set is initialized and valid.
        unsafe { bindings::blk_mq_quiesce_tagset(self.raw_tag_set()) };
    }

    /// Reverts one [`quiesce()`](Self::quiesce). After the last one requests are dispatched again,
    /// first those that were [requeued](crate::block::mq::Request::requeue).
    ///
    /// The kernel warns about a queue that is not quiesced, such as that of a disk that was created
    /// after [`quiesce()`](Self::quiesce). To exclude that, a driver holds a lock from quiesce to
    /// unquiesce and around [`Disk::new`](crate::block::mq::Disk::new), which starts no request.
    pub fn unquiesce(&self) {
        // SAFETY: By the type invariant the tag set is initialized and valid.
        unsafe { bindings::blk_mq_unquiesce_tagset(self.raw_tag_set()) };
    }
}

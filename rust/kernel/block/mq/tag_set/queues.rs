// SPDX-License-Identifier: GPL-2.0

//! Hardware queues: whose CPUs they serve, who is asked when one of them stalls, and how they are
//! held.

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

/// Which interrupt vectors the hardware queues have.
pub(crate) struct QueueVectors<'a> {
    pub(crate) dev: &'a Device<Bound>,
    pub(crate) first: u32,
}

// SAFETY: A tag set may be freed by another thread than the one that allocated it, and holds
// nothing of type `T`.
unsafe impl<T: Operations> Send for TagSet<T> {}

// SAFETY: All that is done through a shared reference is synchronised by the block layer.
unsafe impl<T: Operations> Sync for TagSet<T> {}

impl<T: TimeoutOperations> TagSet<T> {
    /// As [`TagSet::new`], with one map, for a driver that is asked about requests that do not end
    /// in time.
    ///
    /// There are no more queues than CPUs.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where there are no queues or no tags.
    /// - [`ENOMEM`] where there is no memory for the requests.
    pub fn with_timeout(nr_hw_queues: u32, num_tags: u32) -> impl PinInit<Self, Error> {
        Self::alloc(nr_hw_queues, num_tags, None)
    }

    /// As [`TagSet::with_timeout`], where queue `i` serves the CPUs that the interrupt vector
    /// `first_vector + i` is bound to.
    ///
    /// Where one of them is bound to no CPUs, or is not there, the queues are spread over all CPUs
    /// as without vectors.
    ///
    /// # Errors
    ///
    /// As [`TagSet::with_timeout`].
    #[cfg(CONFIG_PCI)]
    pub fn for_vectors<'a>(
        vectors: &IrqVectorRegistration<'a>,
        first_vector: u32,
        nr_hw_queues: u32,
        num_tags: u32,
    ) -> impl PinInit<Self, Error> + use<'a, T> {
        let vectors = QueueVectors {
            dev: vectors.device().as_ref(),
            first: first_vector,
        };

        Self::alloc(nr_hw_queues, num_tags, Some(vectors))
    }

    fn alloc<'a>(
        nr_hw_queues: u32,
        queue_depth: u32,
        vectors: Option<QueueVectors<'a>>,
    ) -> impl PinInit<Self, Error> + use<'a, T> {
        try_pin_init!(Self {
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::blk_mq_tag_set| {
                let driver_data = vectors.as_ref().map_or(ptr::null(), ptr::from_ref);
                let set = bindings::blk_mq_tag_set {
                    ops: TimeoutVTable::<T>::build(),
                    nr_hw_queues,
                    queue_depth,
                    numa_node: bindings::NUMA_NO_NODE,
                    cmd_size: size_of::<RequestDataWrapper>().try_into()?,
                    nr_maps: 1,
                    driver_data: driver_data.cast_mut().cast(),
                    ..pin_init::zeroed()
                };

                // SAFETY: The slot is valid for writes.
                unsafe { slot.write(set) };
                // SAFETY: The slot was just initialized. What it needs of the driver, in its
                // callbacks, it has: `vectors` live until the end of this closure.
                to_result(unsafe { bindings::blk_mq_alloc_tag_set(slot) })?;
                // Queues are mapped while they are allocated, and this number of them is for good.
                // SAFETY: As above.
                unsafe { (*slot).driver_data = ptr::null_mut() };
                Ok::<(), Error>(())
            }),
            _p: PhantomData,
        })
    }
}

impl<T: Operations> TagSet<T> {
    /// Holds all queues: no request comes any more, and when this returns no
    /// [`Operations::queue_rq`] runs. Requests that came before are not touched.
    ///
    /// May sleep, and so must not be called in `queue_rq`. It may be called more than once, also by
    /// different tasks. A disk that is made meanwhile is not held.
    pub fn quiesce(&self) {
        // SAFETY: By the type invariant the tag set is initialized and valid.
        unsafe { bindings::blk_mq_quiesce_tagset(self.raw_tag_set()) };
    }

    /// Undoes one [`quiesce()`](Self::quiesce): after as many, requests come again, first those
    /// that were [requeued](crate::block::mq::Request::requeue).
    ///
    /// The kernel warns of a call that undoes nothing, which one is also for a disk that was made
    /// between the two. A driver holds the same lock from one to the other and around
    /// [`Disk::new`](crate::block::mq::Disk::new), which starts no request.
    pub fn unquiesce(&self) {
        // SAFETY: By the type invariant the tag set is initialized and valid.
        unsafe { bindings::blk_mq_unquiesce_tagset(self.raw_tag_set()) };
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Interrupt vectors that are bound to CPUs.

use super::{
    IrqTypes,
    IrqVectorRegistration, //
};
use crate::{
    bindings,
    device::Bound,
    error::to_result,
    pci::Device,
    prelude::*, //
};
use core::num::NonZero;

impl Device<Bound> {
    /// As [`Device::alloc_irq_vectors`], but the first `pre_vectors` serve no CPU in particular,
    /// and the others are spread over all CPUs: each is bound to a set of them, and comes to one of
    /// these.
    ///
    /// Which CPUs those are a [`TagSet`](crate::block::mq::TagSet) knows, where it is made
    /// [for these vectors](crate::block::mq::TagSet::for_vectors). `pre_vectors` count for
    /// `min_vecs` and `max_vecs`.
    ///
    /// # Errors
    ///
    /// As [`Device::alloc_irq_vectors`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::{device::Bound, pci};
    /// // One for the device, and as many as it can have, up to 64, for queues.
    /// fn vectors(dev: &pci::Device<Bound>) -> Result<pci::IrqVectorRegistration<'_>> {
    ///     let msix = pci::IrqTypes::default().with(pci::IrqType::MsiX);
    ///     dev.alloc_irq_vectors_spread(2, 65, msix, 1)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn alloc_irq_vectors_spread(
        &self,
        min_vecs: u32,
        max_vecs: u32,
        irq_types: IrqTypes,
        pre_vectors: u32,
    ) -> Result<IrqVectorRegistration<'_>> {
        let mut affinity = bindings::irq_affinity {
            pre_vectors,
            ..pin_init::zeroed()
        };

        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`; the affinity is read during the call
        // only, and the other arguments are checked by it.
        let count = unsafe {
            bindings::pci_alloc_irq_vectors_affinity(
                self.as_raw(),
                min_vecs,
                max_vecs,
                irq_types.as_raw() | bindings::PCI_IRQ_AFFINITY,
                &mut affinity,
            )
        };
        to_result(count)?;

        // INVARIANT: They were just allocated.
        Ok(IrqVectorRegistration {
            dev: self,
            len: NonZero::new(count as usize).ok_or(EINVAL)?,
        })
    }
}

impl<'a> IrqVectorRegistration<'a> {
    /// The device that has the vectors.
    #[inline]
    pub fn device(&self) -> &'a Device<Bound> {
        self.dev
    }
}

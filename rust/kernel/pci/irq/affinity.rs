// SPDX-License-Identifier: GPL-2.0

//! Interrupt vectors with CPU affinity.

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
    /// Same as [`Device::alloc_irq_vectors`], with managed affinity: all vectors but the first
    /// `pre_vectors` are spread over the CPUs.
    ///
    /// A [`TagSet`](crate::block::mq::TagSet) that is created
    /// [for these vectors](crate::block::mq::TagSet::for_vectors) maps its queues to the CPUs of
    /// the vectors. `min_vecs` and `max_vecs` include `pre_vectors`.
    ///
    /// # Errors
    ///
    /// Same as [`Device::alloc_irq_vectors`], and [`EBUSY`] if the device has MSI or MSI-X vectors
    /// already.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::{device::Bound, pci};
    /// // One for the device, and up to 64 for its queues.
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

        // The release of one registration would free the vectors of another.
        if self.has_msi_vectors() {
            return Err(EBUSY);
        }
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`; `affinity` is accessed only during
        // the call, which checks the other arguments.
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

        // INVARIANT: The vectors were just allocated.
        Ok(IrqVectorRegistration {
            dev: self,
            len: NonZero::new(count as usize).ok_or(EINVAL)?,
        })
    }
}

impl<'a> IrqVectorRegistration<'a> {
    /// Returns the device of the vectors.
    #[inline]
    pub fn device(&self) -> &'a Device<Bound> {
        self.dev
    }
}

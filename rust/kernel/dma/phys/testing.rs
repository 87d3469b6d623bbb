// SPDX-License-Identifier: GPL-2.0

//! A device that examples and tests can map for.

use crate::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    dma::DmaMask,
    error::to_result,
    faux,
    prelude::*, //
};

/// A device without hardware, which addresses as many bits as its mask has.
pub struct TestDevice(faux::Registration);

impl TestDevice {
    /// Registers a device with that name and mask.
    pub fn new(name: &CStr, mask: DmaMask) -> Result<Self> {
        let this = Self(faux::Registration::new(name, None)?);
        let raw = this.device().as_raw();

        // SAFETY: The device is registered, and valid as long as `this`. It is new: nobody maps for
        // it yet, or reads its mask. The mask is stored in the device itself.
        unsafe { (*raw).dma_mask = &raw mut (*raw).coherent_dma_mask };
        // SAFETY: As above.
        to_result(unsafe { bindings::dma_set_mask_and_coherent(raw, mask.value()) })?;

        Ok(this)
    }

    /// The device, which is bound as long as it is registered.
    pub fn device(&self) -> &Device<Bound> {
        let faux: &faux::Device<Bound> = self.0.as_ref();
        faux.as_ref()
    }
}

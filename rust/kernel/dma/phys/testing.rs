// SPDX-License-Identifier: GPL-2.0

//! A device for examples and tests.

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

/// A device without hardware, with a DMA mask.
pub struct TestDevice(faux::Registration);

impl TestDevice {
    /// Registers a device named `name` with the DMA mask `mask`.
    pub fn new(name: &CStr, mask: DmaMask) -> Result<Self> {
        let this = Self(faux::Registration::new(name, None)?);
        let raw = this.device().as_raw();

        // SAFETY: The device is registered, so it is valid for as long as `this`. It is new, so
        // nothing is mapped for it and nothing reads its mask. The mask is stored in the device.
        unsafe { (*raw).dma_mask = &raw mut (*raw).coherent_dma_mask };
        // SAFETY: See above.
        to_result(unsafe { bindings::dma_set_mask_and_coherent(raw, mask.value()) })?;

        Ok(this)
    }

    /// Returns the device, which is bound for as long as it is registered.
    pub fn device(&self) -> &Device<Bound> {
        let faux: &faux::Device<Bound> = self.0.as_ref();
        faux.as_ref()
    }
}

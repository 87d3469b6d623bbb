// SPDX-License-Identifier: GPL-2.0

//! Bus mastering.

use super::Device;
use crate::{
    bindings,
    device::Bound, //
};

impl Device<Bound> {
    /// Enables bus mastering: DMA, and interrupts as messages.
    ///
    /// Must not run concurrently with [`clear_master()`](Self::clear_master).
    pub fn set_master(&self) {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`.
        unsafe { bindings::pci_set_master(self.as_raw()) };
    }

    /// Disables bus mastering, also of a device that does not respond to its driver, and waits for
    /// pending transactions.
    ///
    /// May sleep. Returns whether no transaction is pending: true also if the device is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::{device::Bound, pci};
    /// fn stop_dma(dev: &pci::Device<Bound>) {
    ///     if !dev.clear_master() {
    ///         dev_err!(dev, "transactions are pending\n");
    ///     }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn clear_master(&self) -> bool {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`.
        unsafe {
            bindings::pci_clear_master(self.as_raw());
            !bindings::pci_device_is_present(self.as_raw())
                || bindings::pci_wait_for_pending_transaction(self.as_raw()) != 0
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Whether a device may reach memory.

use super::Device;
use crate::{
    bindings,
    device::Bound, //
};

impl Device<Bound> {
    /// Lets the device reach memory, and send interrupts as messages, as
    /// [`set_master()`](Device::set_master) does when it is probed.
    ///
    /// Not at the same time as [`stop_master()`](Self::stop_master).
    pub fn start_master(&self) {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`.
        unsafe { bindings::pci_set_master(self.as_raw()) };
    }

    /// Keeps the device from reaching memory, whether it obeys otherwise or not, and waits for what
    /// it has begun.
    ///
    /// May sleep. Returns whether nothing is under way any more: true also where the device is
    /// gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::{device::Bound, pci};
    /// fn give_up(dev: &pci::Device<Bound>) {
    ///     if !dev.stop_master() {
    ///         dev_err!(dev, "memory may still be written\n");
    ///     }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn stop_master(&self) -> bool {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`.
        unsafe {
            bindings::pci_clear_master(self.as_raw());
            !bindings::pci_device_is_present(self.as_raw())
                || bindings::pci_wait_for_pending_transaction(self.as_raw()) != 0
        }
    }
}

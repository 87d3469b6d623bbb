// SPDX-License-Identifier: GPL-2.0

//! Bus mastering, and the interrupt line.

use super::Device;
use crate::{
    bindings,
    device::Bound, //
};

impl Device<Bound> {
    /// Enables bus mastering: DMA, and interrupts as messages.
    ///
    /// May be called in any context.
    ///
    /// # Safety
    ///
    /// While this runs, nothing else may write the command register of the device, or change the
    /// bits of `struct pci_dev` beside `is_busmaster`. There is no lock for them. So these must not
    /// run concurrently with it, for the same device:
    ///
    /// - another `set_master()`, [`clear_master()`](Self::clear_master) or
    ///   [`set_intx()`](Self::set_intx);
    /// - the allocation or release of interrupt vectors;
    /// - the PCI core enabling, disabling, resetting, suspending or resuming the device. It does
    ///   not do so during a callback of the driver.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{device::Bound, pci, sync::Mutex};
    ///
    /// /// All calls are made with this lock held.
    /// struct Control<'bound>(Mutex<&'bound pci::Device<Bound>>);
    ///
    /// impl Control<'_> {
    ///     /// Called only while the driver is being probed.
    ///     fn start(&self) {
    ///         let dev = self.0.lock();
    ///
    ///         // SAFETY: The lock excludes other calls, and the probe excludes the PCI core.
    ///         unsafe { dev.set_master() };
    ///     }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub unsafe fn set_master(&self) {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`, and the caller excludes concurrent
        // changes of its command register.
        unsafe { bindings::pci_set_master(self.as_raw()) };
    }

    /// Disables bus mastering, also of a device that does not respond to its driver, and waits for
    /// pending transactions.
    ///
    /// May sleep. Returns whether no transaction is pending: true also if the device is gone.
    ///
    /// # Safety
    ///
    /// Same as for [`set_master()`](Self::set_master).
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::{device::Bound, pci};
    /// /// Called only in the callbacks of the driver, which exclude each other.
    /// fn stop_dma(dev: &pci::Device<Bound>) {
    ///     // SAFETY: Nothing else changes the command register during a callback.
    ///     if !unsafe { dev.clear_master() } {
    ///         dev_err!(dev, "transactions are pending\n");
    ///     }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub unsafe fn clear_master(&self) -> bool {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`, and the caller excludes concurrent
        // changes of its command register.
        unsafe {
            bindings::pci_clear_master(self.as_raw());
            !bindings::pci_device_is_present(self.as_raw())
                || bindings::pci_wait_for_pending_transaction(self.as_raw()) != 0
        }
    }

    /// Enables or disables the interrupt line (INTx). It stays disabled if the device has MSI or
    /// MSI-X vectors.
    ///
    /// May be called in any context.
    ///
    /// # Safety
    ///
    /// Same as for [`set_master()`](Self::set_master).
    pub unsafe fn set_intx(&self, enable: bool) {
        let enable = enable && !self.has_msi_vectors();

        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`, and the caller excludes concurrent
        // changes of its command register.
        unsafe { bindings::pci_intx(self.as_raw(), enable.into()) };
    }

    /// Returns whether the device has MSI or MSI-X vectors.
    pub(super) fn has_msi_vectors(&self) -> bool {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`.
        unsafe {
            bindings::pci_dev::msi_enabled_raw(self.as_raw()) != 0
                || bindings::pci_dev::msix_enabled_raw(self.as_raw()) != 0
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A device on its bus: addresses, errors, and a last register write.

use super::{
    Bar,
    Device, //
};
use crate::{
    bindings,
    device::Bound,
    devres,
    prelude::*,
    sync::aref::ARef, //
};
use core::ptr::NonNull;

impl Device<Bound> {
    /// Returns the address of BAR `bar` on the bus, at which the device itself knows it.
    ///
    /// It differs from the physical address if the host bridge translates.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if there is no such BAR.
    pub fn bus_address(&self, bar: u32) -> Result<u64> {
        if !Bar::index_is_valid(bar) {
            return Err(EINVAL);
        }
        let bar = c_int::try_from(bar)?;

        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`, which has a resource `bar`.
        Ok(unsafe { bindings::pci_bus_address(self.as_raw(), bar) })
    }

    /// Returns whether the device cannot be used because of a PCI error, or because it was
    /// disconnected.
    pub fn is_channel_offline(&self) -> bool {
        self.channel_state() != bindings::pci_channel_io_normal
    }

    /// Returns whether the PCI core recovers the device from an error of the bus. Reads of the
    /// device may return ones then.
    ///
    /// It is false for a device that is disconnected, which nobody recovers.
    pub fn is_channel_frozen(&self) -> bool {
        self.channel_state() == bindings::pci_channel_io_frozen
    }

    fn channel_state(&self) -> bindings::pci_channel_state_t {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`. The field is an integer, which the
        // PCI core may write concurrently.
        unsafe { (&raw const (*self.as_raw()).error_state).read_volatile() }
    }

    /// Returns whether the pages of a request to the device may be another device's memory.
    pub fn supports_p2p(&self) -> bool {
        // SAFETY: `self.as_ref()` is a valid `struct device`.
        unsafe { bindings::dma_pci_p2pdma_supported(self.as_ref().as_raw()) }
    }

    /// Writes `value` to the 32-bit register at `offset` of BAR `bar` when the device is unbound,
    /// after everything that devres has got later was released.
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if there is no such register.
    /// - [`ENOMEM`] if there is no memory for it. The register may have been written then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use kernel::{device::Bound, dma::phys::Peer, pci};
    /// /// Publishes a buffer in BAR 4, which is disabled after its pages are removed.
    /// fn publish(dev: &pci::Device<Bound>) -> Result<Peer<'_>> {
    ///     dev.write32_at_unbind(0, 0x50, 0)?;
    ///
    ///     let peer = Peer::register(dev, 4)?;
    ///     peer.publish()?;
    ///     Ok(peer)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn write32_at_unbind(&self, bar: u32, offset: usize, value: u32) -> Result {
        const SIZE: usize = size_of::<u32>();

        let end = offset.checked_add(SIZE).ok_or(EINVAL)?;
        let len = usize::try_from(self.resource_len(bar)?).unwrap_or(usize::MAX);
        if offset % SIZE != 0 || end > len {
            return Err(EINVAL);
        }
        let bar = c_int::try_from(bar)?;

        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`, which has a resource `bar`. The
        // register is inside of it.
        let io = unsafe { bindings::pci_iomap_range(self.as_raw(), bar, offset, SIZE) };
        let write = LastWrite {
            dev: self.into(),
            io: NonNull::new(io).ok_or(ENOMEM)?,
            value,
        };

        devres::register(self.as_ref(), write, GFP_KERNEL)
    }
}

/// A write of a register, made when this is dropped.
///
/// # Invariants
///
/// `io` is a mapping of a 32-bit register of `dev`, which this value owns.
struct LastWrite {
    dev: ARef<Device>,
    io: NonNull<c_void>,
    value: u32,
}

// SAFETY: A mapping of a register is the same for all threads, and any of them may unmap it.
unsafe impl Send for LastWrite {}

impl Drop for LastWrite {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `io` is a mapping of four bytes of the device, and nothing
        // else uses or unmaps it.
        unsafe {
            bindings::iowrite32(self.value, self.io.as_ptr());
            bindings::pci_iounmap(self.dev.as_raw(), self.io.as_ptr());
        }
    }
}

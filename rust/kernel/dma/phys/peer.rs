// SPDX-License-Identifier: GPL-2.0

//! BARs lent to other devices.

use super::{
    mmio_phys::pci_raw,
    MmioPhys, //
};
use crate::{
    bindings,
    device::Bound,
    error::to_result,
    pci,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// A BAR that its owner lends to other devices.
///
/// Dropping it takes the BAR back: new mappings answer [`ENODEV`] from then on, each
/// [`PeerUser`](super::PeerUser) is told, and the drop waits until the last mapping has gone. So a
/// driver must not drop its peer before mappings of it that only the same task can drop: keep them
/// above it in the same struct. A peer that is forgotten is taken back when the driver detaches
/// from the owner.
///
/// # Invariants
///
/// BAR `bar` of `owner` is registered, and by this value.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::Bound,
///     dma::phys::Peer,
///     pci, //
/// };
///
/// /// Part of a driver's data.
/// struct Lent<'bound> {
///     peer: Peer<'bound>,
/// }
///
/// fn lend(pdev: &pci::Device<Bound>) -> Result<Lent<'_>> {
///     Ok(Lent { peer: Peer::register(pdev, 4)? })
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Peer<'bound> {
    owner: &'bound pci::Device<Bound>,
    bar: i32,
    /// It has pages, or is just given them.
    published: Atomic<bool>,
}

impl<'bound> Peer<'bound> {
    /// Lends BAR `bar` of `owner` to other devices.
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where there is no such BAR, or it is not memory with an address.
    /// - [`EEXIST`] where it is lent already.
    /// - [`EOPNOTSUPP`] where the device's BARs cannot be mapped.
    /// - [`ENOMEM`] where there is no memory for the registration.
    pub fn register(owner: &'bound pci::Device<Bound>, bar: u32) -> Result<Self> {
        let bar = i32::try_from(bar)?;
        // SAFETY: `owner` is a reference, so that the pointer is to a valid device.
        to_result(unsafe { bindings::dma_phys_peer_register(pci_raw(owner), bar) })?;

        // INVARIANT: Registered just now.
        Ok(Self {
            owner,
            bar,
            published: Atomic::new(false),
        })
    }

    /// Gives the whole BAR pages, and publishes it: user space allocates them in the sysfs folder
    /// `p2pmem` of the owner, and gives them to other devices as memory of its own.
    ///
    /// They stay until the driver detaches from the owner, which waits until nobody uses them. From
    /// now on the driver must not use bytes of the BAR itself: it does not know which are free.
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] where this was called before.
    /// - [`ENOMEM`] where there is no memory for the pages.
    /// - Others of `pci_p2pdma_add_resource()`.
    pub fn publish(&self) -> Result {
        let pdev = pci_raw(self.owner);

        if self.published.xchg(true, Relaxed) {
            return Err(EEXIST);
        }

        // SAFETY: `owner` is a reference, so that the pointer is to a valid device; it is bound, so
        // that the pages are taken back when it is not any more. The BAR is memory with an address,
        // as it is registered.
        to_result(unsafe { bindings::pci_p2pdma_add_resource(pdev, self.bar, 0, 0) })?;
        // SAFETY: As above.
        unsafe { bindings::pci_p2pmem_publish(pdev, true) };
        Ok(())
    }

    /// The range of `len` bytes that starts `offset` bytes into the BAR.
    ///
    /// As [`MmioPhys::from_bar`], for the owner: a mapping of this range cannot be there any more
    /// when the peer is dropped.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where `len` is 0 or the range leaves the BAR.
    pub fn range(&self, offset: u64, len: usize) -> Result<MmioPhys<'_>> {
        MmioPhys::from_bar(self.owner, self.bar.try_into()?, offset, len)
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        // SAFETY: `owner` is a reference, so that the pointer is to a valid device. By the type
        // invariant its BAR is registered.
        unsafe { bindings::dma_phys_peer_unregister(pci_raw(self.owner), self.bar) };
    }
}

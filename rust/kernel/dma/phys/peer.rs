// SPDX-License-Identifier: GPL-2.0

//! BARs that are shared with other devices.

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
    },
    time::Delta, //
};

/// A BAR that its owner shares with other devices.
///
/// Dropping it unregisters the BAR: new mappings fail with [`ENODEV`], each
/// [`PeerClient`](super::PeerClient) is revoked, and the drop waits for the last unmap. A task must
/// not drop a peer while it holds mappings of the peer itself; in a struct, declare them before the
/// peer. If a peer is forgotten, the BAR is unregistered when the driver is unbound from the owner.
///
/// # Invariants
///
/// BAR `bar` of `owner` is registered by this value.
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
/// struct SharedBar<'bound> {
///     peer: Peer<'bound>,
/// }
///
/// fn share(pdev: &pci::Device<Bound>) -> Result<SharedBar<'_>> {
///     Ok(SharedBar { peer: Peer::register(pdev, 4)? })
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Peer<'bound> {
    owner: &'bound pci::Device<Bound>,
    bar: i32,
    /// [`publish()`](Self::publish) was called.
    published: Atomic<bool>,
}

impl<'bound> Peer<'bound> {
    /// Shares BAR `bar` of `owner` with other devices.
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if there is no such BAR, or it is not memory with an address.
    /// - [`EEXIST`] if it is already shared.
    /// - [`EOPNOTSUPP`] if the BARs of the device cannot be mapped.
    /// - [`ENOMEM`] if there is no memory for the registration.
    pub fn register(owner: &'bound pci::Device<Bound>, bar: u32) -> Result<Self> {
        let bar = i32::try_from(bar)?;
        // SAFETY: `owner` is a reference to a device, so the pointer is valid.
        to_result(unsafe { bindings::dma_phys_peer_register(pci_raw(owner), bar) })?;

        // INVARIANT: The BAR was just registered.
        Ok(Self {
            owner,
            bar,
            published: Atomic::new(false),
        })
    }

    /// Creates struct pages for the whole BAR and publishes them as P2P memory.
    ///
    /// User space allocates the pages in the sysfs directory `p2pmem` of the owner, and uses them
    /// as buffers for other devices. The pages stay until the driver is unbound from the owner,
    /// which waits for the last user. The driver itself must not use the memory of the BAR any
    /// longer, as it does not know which pages are allocated.
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// - [`EEXIST`] if this was called before.
    /// - [`EINVAL`] if the address or the length of the BAR is not a multiple of the unit in which
    ///   the kernel adds pages, 2 MiB on x86.
    /// - [`ENOMEM`] if there is no memory for the pages; it may work later.
    /// - Other errors of `pci_p2pdma_add_resource()`.
    pub fn publish(&self) -> Result {
        let pdev = pci_raw(self.owner);

        // Memory hotplug warns about such a range, and refuses it.
        if !self.is_aligned()? {
            return Err(EINVAL);
        }
        if self.published.xchg(true, Relaxed) {
            return Err(EEXIST);
        }

        // SAFETY: `owner` is a reference to a device, so the pointer is valid. The device is bound,
        // so devres removes the pages when it is unbound. By the type invariant the BAR is
        // registered, so it is memory with an address.
        to_result(unsafe { bindings::pci_p2pdma_add_resource(pdev, self.bar, 0, 0) })
            .inspect_err(|_| self.published.store(false, Relaxed))?;
        // SAFETY: See above.
        unsafe { bindings::pci_p2pmem_publish(pdev, true) };
        Ok(())
    }

    /// Returns whether pages can be added for exactly the BAR.
    fn is_aligned(&self) -> Result<bool> {
        let bar = u32::try_from(self.bar)?;
        let bits = self.owner.resource_start(bar)? | self.owner.resource_len(bar)?;
        // SAFETY: This has no requirements.
        let align = unsafe { bindings::memremap_compat_align() } as u64;

        Ok(bits % align == 0)
    }

    /// Revokes each [`PeerClient`](super::PeerClient), and waits for the last unmap, up to
    /// `timeout`. The owner does this before it is reset.
    ///
    /// New mappings fail with [`EAGAIN`] until [`resume()`](Self::resume), even if this fails. The
    /// [published](Self::publish) pages are not revoked. May sleep. The caller must not hold locks
    /// that the callbacks of clients take. A peer that is suspended may be suspended again.
    ///
    /// # Errors
    ///
    /// [`ETIMEDOUT`] if the BAR is still mapped.
    pub fn suspend(&self, timeout: Delta) -> Result {
        let msecs = timeout.as_millis_ceil().try_into().unwrap_or(0);

        // SAFETY: `owner` is a reference to a device, so the pointer is valid. By the type
        // invariant this value has registered the BAR.
        to_result(unsafe { bindings::dma_phys_peer_suspend(pci_raw(self.owner), self.bar, msecs) })
    }

    /// Allows new mappings after [`suspend()`](Self::suspend).
    pub fn resume(&self) {
        // SAFETY: See `suspend()`.
        unsafe { bindings::dma_phys_peer_resume(pci_raw(self.owner), self.bar) };
    }

    /// Returns the range of `len` bytes at `offset` in the BAR.
    ///
    /// Same as [`MmioPhys::from_bar`], for the owner: the range borrows the peer, so its mappings
    /// must be dropped before the peer.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if `len` is 0 or the range exceeds the BAR.
    pub fn range(&self, offset: u64, len: usize) -> Result<MmioPhys<'_>> {
        MmioPhys::from_bar(self.owner, self.bar.try_into()?, offset, len)
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        // SAFETY: `owner` is a reference to a device, so the pointer is valid. By the type
        // invariant this value has registered the BAR.
        unsafe { bindings::dma_phys_peer_unregister(pci_raw(self.owner), self.bar) };
    }
}

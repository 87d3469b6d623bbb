// SPDX-License-Identifier: GPL-2.0

//! Clients of a peer that are revoked before the peer goes away.

use super::MmioPhys;
use crate::{
    alloc::Flags,
    bindings,
    container_of,
    error::to_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};
use core::{
    mem::ManuallyDrop,
    ops::Deref, //
};

/// The callback of a [`PeerClient`].
///
/// # Examples
///
/// See [`PeerClient`].
pub trait Revoke: Send + Sync {
    /// Drops all mappings of the peer, or causes them to be dropped soon.
    ///
    /// Called at most once, when the peer is being removed or suspended and new mappings of it
    /// fail. The removal of the peer waits for this callback and then for the last mapping. May
    /// sleep, but must not take the lock of a device.
    fn revoke(&self);
}

#[pin_data]
struct Node<T> {
    #[pin]
    client: Opaque<bindings::dma_phys_peer_client>,
    /// The callback runs.
    revoking: Atomic<bool>,
    #[pin]
    data: T,
}

/// A client of a peer, which is revoked before the peer is removed or suspended.
///
/// It is for drivers that keep mappings of a peer for longer than a transfer: without it the
/// removal of the peer waits for as long as they are mapped. Attach first, then map.
///
/// Dropping it waits for a callback that runs on another CPU. So the drop may sleep, and the
/// callback must not wait for it. A client that is dropped by its own callback is leaked with its
/// data, as the callback still uses both.
///
/// # Invariants
///
/// `node` was attached. It is not moved or freed until it was detached and its callback has
/// returned.
///
/// # Examples
///
/// A driver that keeps another device's memory mapped until that device is removed:
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     dma::phys::{FromDevice, Mapping, Mmio, MmioPhys, PeerClient, Revoke},
///     new_mutex,
///     pci,
///     sync::Mutex, //
/// };
///
/// #[pin_data]
/// struct Target<'bound> {
///     #[pin]
///     map: Mutex<Option<Mapping<'bound, Mmio<'bound>, FromDevice>>>,
/// }
///
/// impl Revoke for Target<'_> {
///     fn revoke(&self) {
///         // First stop the device, then:
///         *self.map.lock() = None;
///     }
/// }
///
/// /// Part of a driver's data, which is dropped when the driver is unbound.
/// struct Data<'bound> {
///     target: PeerClient<Target<'bound>>,
/// }
///
/// fn probe<'bound>(
///     dev: &'bound Device<Bound>,
///     peer: &'bound pci::Device,
/// ) -> Result<Data<'bound>> {
///     let range = MmioPhys::from_bar(peer, 4, 0, 4096)?;
///     let target = pin_init!(Target { map <- new_mutex!(None) });
///     // SAFETY: The client is part of the driver's data, which is never forgotten.
///     let target = unsafe { PeerClient::attach_with_lt(&range, target, GFP_KERNEL) }?;
///
///     *target.map.lock() = Some(Mapping::new_mmio(dev, range)?);
///     Ok(Data { target })
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct PeerClient<T: Revoke> {
    node: ManuallyDrop<Pin<KBox<Node<T>>>>,
}

// SAFETY: The node is boxed, so it does not move with the client. The C core accesses it under a
// lock. `T` is `Send` and `Sync`.
unsafe impl<T: Revoke> Send for PeerClient<T> {}

// SAFETY: A shared reference gives access to a `&T`, and `T` is `Sync`.
unsafe impl<T: Revoke> Sync for PeerClient<T> {}

impl<T: Revoke> PeerClient<T> {
    /// Attaches a client to the peer of `range`.
    ///
    /// The callback of `data` may run before this returns. For data that borrows, use
    /// [`attach_with_lt`](Self::attach_with_lt).
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the range belongs to no peer.
    /// - [`ENODEV`] if the peer was removed or is being removed.
    /// - [`EAGAIN`] if the peer is suspended; it may work later.
    /// - [`ENOMEM`] if there is no memory for the client.
    ///
    /// Also the errors of the initializer `data`.
    ///
    /// # Examples
    ///
    /// The callback need not drop the mappings itself. Here it wakes a thread that drops them:
    ///
    /// ```
    /// use kernel::{
    ///     dma::phys::{MmioPhys, PeerClient, Revoke},
    ///     sync::{Arc, Completion}, //
    /// };
    ///
    /// struct Revoked(Arc<Completion>);
    ///
    /// impl Revoke for Revoked {
    ///     fn revoke(&self) {
    ///         self.0.complete_all();
    ///     }
    /// }
    ///
    /// fn attach(range: &MmioPhys<'_>, revoked: Arc<Completion>) -> Result<PeerClient<Revoked>> {
    ///     PeerClient::attach(range, Revoked(revoked), GFP_KERNEL)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn attach<E>(range: &MmioPhys<'_>, data: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        T: 'static,
        Error: From<E>,
    {
        // SAFETY: `T` is `'static`, so what it borrows stays valid even if the client is forgotten.
        unsafe { Self::attach_with_lt(range, data, flags) }
    }

    /// Same as [`attach`](Self::attach), for data that borrows, such as mappings.
    ///
    /// # Safety
    ///
    /// The returned value is dropped, not forgotten, before what `T` borrows becomes invalid.
    /// Otherwise the callback would access it.
    pub unsafe fn attach_with_lt<E>(
        range: &MmioPhys<'_>,
        data: impl PinInit<T, E>,
        flags: Flags,
    ) -> Result<Self>
    where
        Error: From<E>,
    {
        let node = KBox::try_pin_init(
            try_pin_init!(Node {
                client: Opaque::new(bindings::dma_phys_peer_client {
                    revoke: Some(Node::<T>::revoke),
                    ..pin_init::zeroed()
                }),
                revoking: Atomic::new(false),
                data <- data,
            }? Error),
            flags,
        )?;

        // SAFETY: The range was validated. The client is zeroed memory with a callback. It is
        // pinned in `node`, which is freed only after dropping the `PeerClient` has detached it.
        to_result(unsafe { bindings::dma_phys_peer_attach(range.as_raw(), node.client.get()) })?;

        // INVARIANT: The node was just attached, and is pinned.
        Ok(Self {
            node: ManuallyDrop::new(node),
        })
    }
}

impl<T: Revoke> Node<T> {
    /// # Safety
    ///
    /// `client` is the field of a valid node, which stays valid until this returns.
    unsafe extern "C" fn revoke(client: *mut bindings::dma_phys_peer_client) {
        let client = client.cast::<Opaque<bindings::dma_phys_peer_client>>();
        // SAFETY: `client` is the field of a valid node, which is only borrowed as shared.
        let node = unsafe { &*container_of!(client, Self, client) };

        node.revoking.store(true, Relaxed);
        node.data.revoke();
        node.revoking.store(false, Relaxed);
    }
}

impl<T: Revoke> Deref for PeerClient<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.node.data
    }
}

impl<T: Revoke> Drop for PeerClient<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the node was attached, and is not moved or freed yet.
        unsafe { bindings::dma_phys_peer_detach(self.node.client.get()) };

        // Detaching has waited for the callback unless it is the caller.
        if !self.node.revoking.load(Relaxed) {
            // SAFETY: `node` is not used again, and dropped only here.
            unsafe { ManuallyDrop::drop(&mut self.node) };
        }
    }
}

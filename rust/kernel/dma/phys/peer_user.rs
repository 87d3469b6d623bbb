// SPDX-License-Identifier: GPL-2.0

//! Who is told when a peer leaves.

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

/// What a [`PeerUser`] does when its peer leaves.
///
/// # Examples
///
/// See [`PeerUser`].
pub trait Revoke: Send + Sync {
    /// Gives up all mappings of the peer, or sees to it that they are given up soon.
    ///
    /// Called at most once, when new mappings fail already. The peer's removal waits for it, and
    /// then for the last mapping. May sleep.
    fn revoke(&self);
}

#[pin_data]
struct Node<T> {
    #[pin]
    user: Opaque<bindings::dma_phys_peer_user>,
    /// The callback runs.
    telling: Atomic<bool>,
    #[pin]
    data: T,
}

/// Who is told when a peer leaves, until it is dropped.
///
/// For who holds mappings of a peer's memory for longer than a transfer: without it the peer's
/// removal waits for as long as they are held. Attach first, then map.
///
/// The drop waits for the callback where that runs on another CPU. So it may sleep, and must not be
/// what the callback waits for. A user that its own callback drops is leaked with its data: the
/// callback still needs both.
///
/// # Invariants
///
/// `node` was attached, and is in place until it has been detached and its callback has returned.
///
/// # Examples
///
/// A driver that keeps another device's memory mapped, and gives it up when that device leaves:
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     dma::phys::{FromDevice, Mapping, Mmio, MmioPhys, PeerUser, Revoke},
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
///     target: PeerUser<Target<'bound>>,
/// }
///
/// fn probe<'bound>(
///     dev: &'bound Device<Bound>,
///     peer: &'bound pci::Device,
/// ) -> Result<Data<'bound>> {
///     let range = MmioPhys::from_bar(peer, 4, 0, 4096)?;
///     let target = pin_init!(Target { map <- new_mutex!(None) });
///     // SAFETY: It is part of the driver's data, which is never forgotten.
///     let target = unsafe { PeerUser::attach_with_lt(&range, target, GFP_KERNEL) }?;
///
///     *target.map.lock() = Some(Mapping::new_mmio(dev, range)?);
///     Ok(Data { target })
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct PeerUser<T: Revoke> {
    node: ManuallyDrop<Pin<KBox<Node<T>>>>,
}

// SAFETY: The node moves with its box, and is told and detached under a lock of the C core. `T` is
// `Send` and `Sync`.
unsafe impl<T: Revoke> Send for PeerUser<T> {}

// SAFETY: A shared reference gives access to a `&T`, and `T` is `Sync`.
unsafe impl<T: Revoke> Sync for PeerUser<T> {}

impl<T: Revoke> PeerUser<T> {
    /// Asks to be told when the peer of `range` leaves.
    ///
    /// `data` is told. May be told before this returns. For data that borrows something there is
    /// [`attach_with_lt`](Self::attach_with_lt).
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where the range belongs to no peer.
    /// - [`ENODEV`] where the peer has gone, or is leaving.
    /// - [`ENOMEM`] where there is no memory for it.
    ///
    /// And what `data` fails with.
    ///
    /// # Examples
    ///
    /// The callback need not give the mappings up itself. Here a thread waits to do so:
    ///
    /// ```
    /// use kernel::{
    ///     dma::phys::{MmioPhys, PeerUser, Revoke},
    ///     sync::{Arc, Completion}, //
    /// };
    ///
    /// struct Leaving(Arc<Completion>);
    ///
    /// impl Revoke for Leaving {
    ///     fn revoke(&self) {
    ///         self.0.complete_all();
    ///     }
    /// }
    ///
    /// fn watch(range: &MmioPhys<'_>, leaving: Arc<Completion>) -> Result<PeerUser<Leaving>> {
    ///     PeerUser::attach(range, Leaving(leaving), GFP_KERNEL)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn attach<E>(range: &MmioPhys<'_>, data: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        T: 'static,
        Error: From<E>,
    {
        // SAFETY: What is valid for good may be forgotten.
        unsafe { Self::attach_with_lt(range, data, flags) }
    }

    /// As [`attach`](Self::attach), for data that borrows something, such as mappings.
    ///
    /// # Safety
    ///
    /// The returned value is dropped, and not forgotten, as long as what `T` borrows is valid: else
    /// the callback would find it gone.
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
                user: Opaque::new(bindings::dma_phys_peer_user {
                    revoke: Some(Node::<T>::revoke),
                    ..pin_init::zeroed()
                }),
                telling: Atomic::new(false),
                data <- data,
            }? Error),
            flags,
        )?;

        // SAFETY: The range was proved. The user is zeroed memory with a callback, and pinned in
        // `node`, which is in place until `PeerUser` is dropped: that detaches it.
        to_result(unsafe { bindings::dma_phys_peer_attach(range.as_raw(), node.user.get()) })?;

        // INVARIANT: Attached just now.
        Ok(Self {
            node: ManuallyDrop::new(node),
        })
    }
}

impl<T: Revoke> Node<T> {
    /// # Safety
    ///
    /// `user` is the field of a valid node, which stays valid until this returns.
    unsafe extern "C" fn revoke(user: *mut bindings::dma_phys_peer_user) {
        let user = user.cast::<Opaque<bindings::dma_phys_peer_user>>();
        // SAFETY: By the safety requirements.
        let node = unsafe { &*container_of!(user, Self, user) };

        node.telling.store(true, Relaxed);
        node.data.revoke();
        node.telling.store(false, Relaxed);
    }
}

impl<T: Revoke> Deref for PeerUser<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.node.data
    }
}

impl<T: Revoke> Drop for PeerUser<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it was attached, and is in place.
        unsafe { bindings::dma_phys_peer_detach(self.node.user.get()) };

        // Detaching has waited for the callback, unless this is its task.
        if !self.node.telling.load(Relaxed) {
            // SAFETY: Neither used again nor dropped elsewhere.
            unsafe { ManuallyDrop::drop(&mut self.node) };
        }
    }
}

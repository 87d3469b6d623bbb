// SPDX-License-Identifier: GPL-2.0

//! Clients of a peer that are revoked before the peer goes away.

use super::MmioPhys;
use crate::{
    alloc::Flags,
    bindings,
    container_of,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref, //
};

/// The callback of a [`PeerClient`].
///
/// # Examples
///
/// See [`PeerClient`].
pub trait Revoke: Send + Sync {
    /// Unmaps all that is mapped of the peer, or causes it to be unmapped soon.
    ///
    /// Called at most once between two resumes of the peer, when it is being removed or suspended
    /// and new maps of it fail. The removal of the peer waits for this callback and then for the
    /// last unmap. May sleep, but must not take the lock of a device.
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
/// It is for drivers that keep a peer mapped for longer than a transfer: without it the removal of
/// the peer waits for as long as it is mapped. Attach first, then map.
///
/// Dropping it waits for a callback that runs on another CPU. So the drop may sleep, and the
/// callback must not wait for it. A client that is dropped by its own callback, or by devres, is
/// leaked with its data, as they still use it. One that is forgotten is detached by devres when the
/// driver is unbound.
///
/// # Invariants
///
/// `node` was attached, and devres detaches it if it was not detached before. It is not moved or
/// freed until it was detached and its callback has returned.
///
/// # Examples
///
/// A driver that keeps another device's memory mapped until that device is removed:
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     dma::phys::{FromDevice, InFlight, Mmio, MmioPhys, PeerClient, Revoke},
///     new_mutex,
///     pci,
///     sync::Mutex, //
/// };
///
/// #[pin_data]
/// struct Client<'bound> {
///     #[pin]
///     state: Mutex<State<'bound>>,
/// }
///
/// struct State<'bound> {
///     target: Option<InFlight<'bound, Mmio<'bound>, FromDevice>>,
///     revoked: bool,
/// }
///
/// impl Revoke for Client<'_> {
///     fn revoke(&self) {
///         let mut state = self.state.lock();
///
///         state.revoked = true;
///         // First stop the device, then:
///         if let Some(target) = state.target.take() {
///             // SAFETY: The device was stopped.
///             unsafe { target.unmap() };
///         }
///     }
/// }
///
/// /// Part of a driver's data. The driver calls `revoke()` when it is unbound.
/// struct Data<'bound> {
///     client: PeerClient<'bound, Client<'bound>>,
/// }
///
/// fn probe<'bound>(
///     dev: &'bound Device<Bound>,
///     peer: &'bound pci::Device,
/// ) -> Result<Data<'bound>> {
///     let range = MmioPhys::from_bar(peer, 4, 0, 4096)?;
///     let client = pin_init!(Client {
///         state <- new_mutex!(State { target: None, revoked: false }),
///     });
///     // SAFETY: The client borrows what is valid until the driver is unbound.
///     let client = unsafe { PeerClient::attach_with_lt(dev, &range, client, GFP_KERNEL) }?;
///
///     // The callback runs once. What is mapped after it, when the peer has resumed, would not be
///     // revoked.
///     let mut state = client.state.lock();
///     if state.revoked {
///         return Err(ENODEV);
///     }
///     state.target = Some(InFlight::<Mmio<'_>, _>::map(dev, range)?);
///     drop(state);
///     Ok(Data { client })
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct PeerClient<'bound, T: Revoke + 'bound> {
    node: ManuallyDrop<Pin<KBox<Node<T>>>>,
    dev: &'bound Device<Bound>,
    _data: PhantomData<T>,
}

// SAFETY: The node is boxed, so it does not move with the client. The C core accesses it under a
// lock. `T` is `Send` and `Sync`.
unsafe impl<T: Revoke> Send for PeerClient<'_, T> {}

// SAFETY: A shared reference gives access to a `&T`, and `T` is `Sync`.
unsafe impl<T: Revoke> Sync for PeerClient<'_, T> {}

impl<'bound, T: Revoke + 'bound> PeerClient<'bound, T> {
    /// Attaches a client of `dev` to the peer of `range`.
    ///
    /// The callback of `data` may run before this returns. May sleep. For data that borrows, such
    /// as what is mapped, use [`attach_with_lt`](Self::attach_with_lt).
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if the range belongs to no peer, or the code of `T` to another module than the
    ///   driver of `dev`: that could be unloaded before the driver is unbound.
    /// - [`ENODEV`] if the peer was removed or is being removed.
    /// - [`EAGAIN`] if the peer is suspended; it may work later.
    /// - [`ENOMEM`] if there is no memory for the client.
    ///
    /// Also the errors of the initializer `data`.
    ///
    /// # Examples
    ///
    /// The callback need not unmap itself. Here it wakes a thread that unmaps:
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
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
    /// fn attach<'bound>(
    ///     dev: &'bound Device<Bound>,
    ///     range: &MmioPhys<'_>,
    ///     revoked: Arc<Completion>,
    /// ) -> Result<PeerClient<'bound, Revoked>> {
    ///     PeerClient::attach(dev, range, Revoked(revoked), GFP_KERNEL)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn attach<E>(
        dev: &'bound Device<Bound>,
        range: &MmioPhys<'_>,
        data: impl PinInit<T, E>,
        flags: Flags,
    ) -> Result<Self>
    where
        T: 'static,
        Error: From<E>,
    {
        if !outlives_binding(dev, Node::<T>::revoke as *const () as usize) {
            return Err(EINVAL);
        }
        // SAFETY: `T` is `'static`, so it borrows nothing that becomes invalid. The code of its
        // callback stays until the driver is unbound.
        unsafe { Self::attach_with_lt(dev, range, data, flags) }
    }

    /// Same as [`attach`](Self::attach), for data that borrows.
    ///
    /// # Errors
    ///
    /// Same as [`attach`](Self::attach).
    ///
    /// # Safety
    ///
    /// What `T` borrows, and the code of its callback, is valid until the returned value is
    /// dropped. If it is forgotten, it is valid until devres of `dev` is released, which is after
    /// the driver data was dropped. The compiler cannot check this, as it may choose a shorter
    /// lifetime for `dev`.
    ///
    /// # Examples
    ///
    /// See [`PeerClient`].
    pub unsafe fn attach_with_lt<E>(
        dev: &'bound Device<Bound>,
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
        let client = node.client.get();

        // Detaching a client that is not attached does nothing, so devres is first.
        //
        // SAFETY: `dev` is bound. The node stays where it is until `drop()` has removed the action,
        // indefinitely if that does not happen.
        to_result(unsafe { bindings::devm_add_action(dev.as_raw(), Some(detach), client.cast()) })?;
        // INVARIANT: Devres detaches the node. It is attached below, else dropped.
        let this = Self {
            node: ManuallyDrop::new(node),
            dev,
            _data: PhantomData,
        };

        // SAFETY: The range was validated. The client is zeroed memory with a callback. It is
        // pinned in `node`, which is freed only after it was detached. The callback uses what `T`
        // borrows: the caller guarantees that it is valid until then, and devres detaches the
        // client when the driver is unbound.
        to_result(unsafe { bindings::dma_phys_peer_attach(range.as_raw(), client) })?;
        Ok(this)
    }
}

/// Returns whether `code` stays at least until the driver is unbound from `dev`.
#[inline(never)]
fn outlives_binding(dev: &Device<Bound>, code: usize) -> bool {
    #[cfg(CONFIG_MODULES)]
    {
        let _guard = crate::sync::rcu::read_lock();
        // SAFETY: RCU is locked. The result is only compared.
        let module = unsafe { bindings::__module_text_address(code) };

        // SAFETY: A device that is bound has a driver.
        module.is_null() || module == unsafe { (*(*dev.as_raw()).driver).owner }
    }

    #[cfg(not(CONFIG_MODULES))]
    {
        let _ = (dev, code);
        true
    }
}

/// # Safety
///
/// `client` is the `client` of a node that was not freed.
unsafe extern "C" fn detach(client: *mut c_void) {
    // SAFETY: The client is valid. It does nothing for one that is not attached.
    unsafe { bindings::dma_phys_peer_detach(client.cast()) };
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

impl<'bound, T: Revoke + 'bound> Deref for PeerClient<'bound, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.node.data
    }
}

impl<'bound, T: Revoke + 'bound> Drop for PeerClient<'bound, T> {
    fn drop(&mut self) {
        let client = self.node.client.get();

        // SAFETY: By the type invariant the node was attached, and is not moved or freed yet.
        unsafe { bindings::dma_phys_peer_detach(client) };
        // Not found if devres is what drops this: it will detach the client again.
        //
        // SAFETY: The device is bound, so it is valid.
        let found = unsafe {
            bindings::devm_remove_action_nowarn(self.dev.as_raw(), Some(detach), client.cast())
        };

        // Detaching has waited for the callback unless it is the caller.
        if found == 0 && !self.node.revoking.load(Relaxed) {
            // SAFETY: `node` is not used again, and dropped only here.
            unsafe { ManuallyDrop::drop(&mut self.node) };
        }
    }
}

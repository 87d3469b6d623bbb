// SPDX-License-Identifier: GPL-2.0

//! IRQ handlers with names from run time.

use super::{
    Flags,
    Handler,
    IrqRequest,
    Registration, //
};
use crate::{
    prelude::*,
    str::CString, //
};
use core::ptr;

/// Same as [`Registration`], with a name that is made at run time.
///
/// User space finds the name in `/proc/interrupts`, so a driver makes one for each device and
/// queue.
///
/// # Examples
///
/// ```
/// use kernel::{
///     irq::{Flags, Handler, IrqRequest, NamedRegistration},
///     str::CString, //
/// };
///
/// /// Registers the handler of queue `id`.
/// fn register<'a, T: Handler + 'a>(
///     request: IrqRequest<'a>,
///     id: u32,
///     handler: T,
/// ) -> Result<Pin<KBox<NamedRegistration<'a, T>>>> {
///     let name = CString::try_from_fmt(fmt!("my_device_q{id}"))?;
///
///     // SAFETY: The caller does not forget the registration.
///     let registration = unsafe {
///         NamedRegistration::new(request, Flags::SHARED, name, Ok(handler))
///     };
///     KBox::pin_init(registration, GFP_KERNEL)
/// }
/// # Ok::<(), Error>(())
/// ```
#[pin_data]
pub struct NamedRegistration<'a, T: Handler> {
    // Dropped first: the interrupt uses the name until it is freed.
    #[pin]
    registration: Registration<'a, T>,
    _name: CString,
}

impl<'a, T: Handler> NamedRegistration<'a, T> {
    /// Registers the IRQ handler, same as [`Registration::new`].
    ///
    /// # Safety
    ///
    /// Same as for [`Registration::new`].
    pub unsafe fn new(
        request: IrqRequest<'a>,
        flags: Flags,
        name: CString,
        handler: impl PinInit<T, Error> + 'a,
    ) -> impl PinInit<Self, Error> + 'a
    where
        T: 'a,
    {
        let text = ptr::from_ref::<CStr>(&name);

        // SAFETY: The bytes are in an allocation of `name`, which does not move with it and is not
        // changed. Only the registration refers to them, which is dropped before `name`: as the
        // first field of `Self`, or if its initialization fails.
        let text = unsafe { &*text };
        // SAFETY: The caller guarantees that the registration is dropped.
        let registration = unsafe { Registration::new(request, flags, text, handler) };

        try_pin_init!(Self {
            registration <- registration,
            _name: name,
        })
    }

    /// Returns a reference to the handler that was registered with the system.
    pub fn handler(&self) -> &T {
        self.registration.handler()
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Drivers that take part in resets and in the recovery from errors of the bus.
//!
//! See `Documentation/PCI/pci-error-recovery.rst`.

use super::{
    power::{
        Callback,
        PowerAdapter,
        PowerDriver, //
    },
    Device, //
};
use crate::{
    bindings,
    device::Core,
    driver::{
        DriverLayout,
        RegistrationOps, //
    },
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// The connection to a device on which the bus has detected an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// The device can be accessed.
    Normal,
    /// Accesses are blocked until the slot is reset.
    Frozen,
    /// The device is lost.
    Failed,
}

/// What a driver needs for the recovery of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The device can go on, if the other devices on the bus agree.
    CanRecover,
    /// The slot must be reset.
    NeedReset,
    /// The device works again.
    Recovered,
    /// The driver has given the device up.
    Disconnect,
}

impl Recovery {
    fn into_raw(self) -> bindings::pci_ers_result_t {
        match self {
            Self::CanRecover => bindings::pci_ers_result_PCI_ERS_RESULT_CAN_RECOVER,
            Self::NeedReset => bindings::pci_ers_result_PCI_ERS_RESULT_NEED_RESET,
            Self::Recovered => bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED,
            Self::Disconnect => bindings::pci_ers_result_PCI_ERS_RESULT_DISCONNECT,
        }
    }
}

/// A [`PowerDriver`] with callbacks for resets of the device and for errors of the bus.
///
/// The callbacks are serialised for each device with each other and with those of [`PowerDriver`].
/// They may sleep. In a guest of Xen with the PCI frontend, those for errors are not called.
///
/// # Examples
///
/// ```ignore
/// kernel::module_driver!(<T>, pci::RecoveryAdapter<T>, {
///     type: MyDriver,
///     name: "my_driver",
///     authors: ["Author name"],
///     description: "Description",
///     license: "GPL v2",
/// });
/// ```
pub trait RecoveryDriver: PowerDriver {
    /// Called before the PCI core resets the device. The device must not do DMA afterwards, and the
    /// driver does not access it until [`reset_done()`](Self::reset_done).
    fn reset_prepare<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>);

    /// Called after the PCI core has reset the device and restored its configuration space.
    fn reset_done<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>);

    /// Called when the bus has detected an error.
    fn error_detected<'bound>(
        dev: &'bound Device<Core<'_>>,
        this: Pin<&Self::Data<'bound>>,
        state: ChannelState,
    ) -> Recovery;

    /// Called after the slot was reset. The configuration space is that of the last
    /// [`Device::save_state`], or of a later suspend or reset.
    fn slot_reset<'bound>(
        dev: &'bound Device<Core<'_>>,
        this: Pin<&Self::Data<'bound>>,
    ) -> Recovery;

    /// Called when all devices on the bus have recovered.
    fn recovered<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) {
        let _ = (dev, this);
    }
}

impl Device<Core<'_>> {
    /// Saves the configuration space, which is restored before
    /// [`slot_reset()`](RecoveryDriver::slot_reset). A driver calls this at the end of its probe.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory for the state of a capability.
    pub fn save_state(&self) -> Result {
        // SAFETY: `self.as_raw()` is a valid `struct pci_dev`. The context is a callback of the
        // bus, so the device lock is held, which protects the saved state.
        to_result(unsafe { bindings::pci_save_state(self.as_raw()) })
    }
}

/// Same as [`PowerAdapter`], for a [`RecoveryDriver`].
pub struct RecoveryAdapter<T: RecoveryDriver>(T);

// SAFETY: The driver structure and the private data of its devices are those of `PowerAdapter`,
// which implements this trait.
unsafe impl<T: RecoveryDriver> DriverLayout for RecoveryAdapter<T> {
    type DriverType = <PowerAdapter<T> as DriverLayout>::DriverType;
    type DriverData<'bound> = <PowerAdapter<T> as DriverLayout>::DriverData<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = <PowerAdapter<T> as DriverLayout>::DEVICE_DRIVER_OFFSET;
}

// SAFETY: `register()` and `unregister()` call those of `PowerAdapter`, which implements this
// trait.
unsafe impl<T: RecoveryDriver> RegistrationOps for RecoveryAdapter<T> {
    unsafe fn register(
        pdrv: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: The driver is not registered yet, so nothing else accesses it.
        unsafe { (*pdrv.get()).err_handler = &Self::HANDLERS };

        // SAFETY: The safety requirements are those of this function.
        unsafe { PowerAdapter::<T>::register(pdrv, name, module) }
    }

    unsafe fn unregister(pdrv: &Opaque<Self::DriverType>) {
        // SAFETY: The safety requirements are those of this function.
        unsafe { PowerAdapter::<T>::unregister(pdrv) }
    }
}

impl<T: RecoveryDriver> RecoveryAdapter<T> {
    const HANDLERS: bindings::pci_error_handlers = bindings::pci_error_handlers {
        error_detected: Some(Self::error_detected_callback),
        slot_reset: Some(Self::slot_reset_callback),
        reset_prepare: Some(Self::reset_prepare_callback),
        reset_done: Some(Self::reset_done_callback),
        resume: Some(Self::recovered_callback),
        ..pin_init::zeroed()
    };

    /// Returns whether the device lock is held in the callbacks for errors.
    ///
    /// All callers hold it but one: the PCI frontend of a Xen guest, which is the only one there.
    fn errors_are_locked() -> bool {
        // SAFETY: This has no requirements.
        !unsafe { bindings::xen_pci_frontend() }
    }

    extern "C" fn reset_prepare_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this for a device that is bound to this driver, and asserts
        // that its lock is held.
        unsafe { PowerAdapter::<T>::with(pdev, T::reset_prepare) }
    }

    extern "C" fn reset_done_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: See `reset_prepare_callback()`. The lock is held from one to the other.
        unsafe { PowerAdapter::<T>::with(pdev, T::reset_done) }
    }

    extern "C" fn error_detected_callback(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        if !Self::errors_are_locked() {
            return bindings::pci_ers_result_PCI_ERS_RESULT_NONE;
        }
        let call: Callback<T, Recovery> = match state {
            bindings::pci_channel_io_normal => {
                |dev, this| T::error_detected(dev, this, ChannelState::Normal)
            }
            bindings::pci_channel_io_frozen => {
                |dev, this| T::error_detected(dev, this, ChannelState::Frozen)
            }
            _ => |dev, this| T::error_detected(dev, this, ChannelState::Failed),
        };

        // SAFETY: The recovery from errors calls this for a device that is bound to this driver,
        // with its lock held, which was checked.
        unsafe { PowerAdapter::<T>::with(pdev, call) }.into_raw()
    }

    extern "C" fn slot_reset_callback(pdev: *mut bindings::pci_dev) -> bindings::pci_ers_result_t {
        if !Self::errors_are_locked() {
            return bindings::pci_ers_result_PCI_ERS_RESULT_NONE;
        }

        // SAFETY: The device is valid, and its lock is held, which protects the saved state.
        unsafe { bindings::pci_restore_state(pdev) };
        // SAFETY: See `error_detected_callback()`.
        unsafe { PowerAdapter::<T>::with(pdev, T::slot_reset) }.into_raw()
    }

    extern "C" fn recovered_callback(pdev: *mut bindings::pci_dev) {
        if Self::errors_are_locked() {
            // SAFETY: See `error_detected_callback()`.
            unsafe { PowerAdapter::<T>::with(pdev, T::recovered) }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Drivers that are told when the system stops.

use super::{
    Adapter,
    Device,
    Driver, //
};
use crate::{
    bindings,
    container_of,
    device::{
        Core,
        CoreInternal, //
    },
    driver::{
        DriverLayout,
        RegistrationOps, //
    },
    error::from_result,
    prelude::*,
    types::Opaque, //
};

/// A [`Driver`] that is told when the system shuts down, is suspended, and is resumed.
///
/// These come one at a time for each device, and not while it is probed or unbound. They may sleep.
///
/// # Examples
///
/// ```ignore
/// kernel::module_driver!(<T>, pci::PowerAdapter<T>, {
///     type: MyDriver,
///     name: "my_driver",
///     authors: ["Author name"],
///     description: "Description",
///     license: "GPL v2",
/// });
/// ```
pub trait PowerDriver: Driver {
    /// The system goes down, or starts another kernel: the device must not reach memory any more.
    ///
    /// Nothing can stop it, so there is no error. [`Driver::unbind`] may still follow.
    fn shutdown<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>);

    /// The system is suspended: the device may lose all of its state, and must not reach memory any
    /// more. The PCI core saves its configuration afterwards.
    ///
    /// # Errors
    ///
    /// With an error the system is not suspended.
    fn suspend<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) -> Result;

    /// The system goes on. The PCI core has restored the device's configuration.
    ///
    /// # Errors
    ///
    /// An error is logged; the driver stays bound.
    fn resume<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) -> Result;
}

type Callback<T, R> = for<'bound, 'core, 'data> fn(
    &'bound Device<Core<'core>>,
    Pin<&'data <T as Driver>::Data<'bound>>,
) -> R;

/// As [`Adapter`], for a [`PowerDriver`].
pub struct PowerAdapter<T: PowerDriver>(T);

// SAFETY: The driver structure, and what its devices have as private data, are those of `Adapter`.
unsafe impl<T: PowerDriver> DriverLayout for PowerAdapter<T> {
    type DriverType = <Adapter<T> as DriverLayout>::DriverType;
    type DriverData<'bound> = <Adapter<T> as DriverLayout>::DriverData<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = <Adapter<T> as DriverLayout>::DEVICE_DRIVER_OFFSET;
}

// SAFETY: `Adapter` registers and unregisters.
unsafe impl<T: PowerDriver> RegistrationOps for PowerAdapter<T> {
    unsafe fn register(
        pdrv: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: The driver is not registered yet, so that nobody else has access to it.
        unsafe {
            (*pdrv.get()).shutdown = Some(Self::shutdown_callback);
            (*pdrv.get()).driver.pm = &Self::PM;
        }

        // SAFETY: By the safety requirements, which are the same.
        unsafe { Adapter::<T>::register(pdrv, name, module) }
    }

    unsafe fn unregister(pdrv: &Opaque<Self::DriverType>) {
        // SAFETY: By the safety requirements, which are the same.
        unsafe { Adapter::<T>::unregister(pdrv) }
    }
}

impl<T: PowerDriver> PowerAdapter<T> {
    /// Suspended to disk is like suspended to memory.
    const PM: bindings::dev_pm_ops = bindings::dev_pm_ops {
        suspend: Some(Self::suspend_callback),
        resume: Some(Self::resume_callback),
        freeze: Some(Self::suspend_callback),
        thaw: Some(Self::resume_callback),
        poweroff: Some(Self::suspend_callback),
        restore: Some(Self::resume_callback),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `pdev` must be a device that is bound to this driver, and stay so, locked, during this call.
    unsafe fn with<R>(pdev: *mut bindings::pci_dev, call: Callback<T, R>) -> R {
        // SAFETY: By the safety requirements it is valid, and in the context of a bus callback.
        let pdev = unsafe { &*pdev.cast::<Device<CoreInternal<'_>>>() };

        // SAFETY: A device is bound, and not locked for that any more, once `Adapter` has set its
        // data, which is of this type, and until it drops it.
        let data = unsafe { pdev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        call(pdev, data)
    }

    /// # Safety
    ///
    /// As for `with()`, for the device that `dev` is embedded in.
    unsafe fn with_dev(dev: *mut bindings::device, call: Callback<T, Result>) -> c_int {
        // SAFETY: By the safety requirements.
        let result = unsafe { Self::with(container_of!(dev, bindings::pci_dev, dev), call) };

        from_result(|| result.map(|()| 0))
    }

    extern "C" fn shutdown_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The driver core calls this for a device that is bound to this driver, and locked.
        unsafe { Self::with(pdev, T::shutdown) }
    }

    extern "C" fn suspend_callback(dev: *mut bindings::device) -> c_int {
        // SAFETY: The PCI bus calls this for a device that is bound to this driver, and locked.
        unsafe { Self::with_dev(dev, T::suspend) }
    }

    extern "C" fn resume_callback(dev: *mut bindings::device) -> c_int {
        // SAFETY: The PCI bus calls this for a device that is bound to this driver, and locked.
        unsafe { Self::with_dev(dev, T::resume) }
    }
}

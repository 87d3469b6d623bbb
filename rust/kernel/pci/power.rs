// SPDX-License-Identifier: GPL-2.0

//! Drivers with callbacks for system sleep and shutdown.

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

/// A [`Driver`] with callbacks for shutdown, suspend and resume of the system.
///
/// The callbacks are serialised for each device, also with probe and unbind. They may sleep.
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
    /// Called before the system is shut down or starts another kernel. The device must not do DMA
    /// afterwards.
    ///
    /// Shutdown cannot fail, so there is no error. [`Driver::unbind`] may still follow.
    fn shutdown<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>);

    /// Called before the system is suspended. The device must not do DMA afterwards, and may lose
    /// all of its state. The PCI core saves its configuration space afterwards.
    ///
    /// # Errors
    ///
    /// An error aborts the suspend.
    fn suspend<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) -> Result;

    /// Called when the system resumes. The PCI core has restored the configuration space.
    ///
    /// # Errors
    ///
    /// An error is logged. The driver stays bound.
    fn resume<'bound>(dev: &'bound Device<Core<'_>>, this: Pin<&Self::Data<'bound>>) -> Result;
}

pub(super) type Callback<T, R> = for<'bound, 'core, 'data> fn(
    &'bound Device<Core<'core>>,
    Pin<&'data <T as Driver>::Data<'bound>>,
) -> R;

/// Same as [`Adapter`], for a [`PowerDriver`].
pub struct PowerAdapter<T: PowerDriver>(T);

// SAFETY: The driver structure and the private data of its devices are those of `Adapter`, which
// implements this trait.
unsafe impl<T: PowerDriver> DriverLayout for PowerAdapter<T> {
    type DriverType = <Adapter<T> as DriverLayout>::DriverType;
    type DriverData<'bound> = <Adapter<T> as DriverLayout>::DriverData<'bound>;
    const DEVICE_DRIVER_OFFSET: usize = <Adapter<T> as DriverLayout>::DEVICE_DRIVER_OFFSET;
}

// SAFETY: `register()` and `unregister()` call those of `Adapter`, which implements this trait.
unsafe impl<T: PowerDriver> RegistrationOps for PowerAdapter<T> {
    unsafe fn register(
        pdrv: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        // SAFETY: The driver is not registered yet, so nothing else accesses it.
        unsafe {
            (*pdrv.get()).shutdown = Some(Self::shutdown_callback);
            (*pdrv.get()).driver.pm = &Self::PM;
        }

        // SAFETY: The safety requirements are those of this function.
        unsafe { Adapter::<T>::register(pdrv, name, module) }
    }

    unsafe fn unregister(pdrv: &Opaque<Self::DriverType>) {
        // SAFETY: The safety requirements are those of this function.
        unsafe { Adapter::<T>::unregister(pdrv) }
    }
}

impl<T: PowerDriver> PowerAdapter<T> {
    /// Suspend to disk uses the callbacks of suspend to memory.
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
    /// `pdev` must be bound to this driver, and its device lock held during this call.
    pub(super) unsafe fn with<R>(pdev: *mut bindings::pci_dev, call: Callback<T, R>) -> R {
        // SAFETY: The device is bound, so it is valid, and its lock is held, as in a bus callback.
        let pdev = unsafe { &*pdev.cast::<Device<CoreInternal<'_>>>() };

        // SAFETY: `Adapter` sets the data, which has this type, before the device is bound, and
        // drops it after the device was unbound; both under the device lock, which is held.
        let data = unsafe { pdev.as_ref().drvdata_borrow::<T::Data<'_>>() };

        call(pdev, data)
    }

    /// # Safety
    ///
    /// Same as for `with()`, for the PCI device that contains `dev`.
    unsafe fn with_dev(dev: *mut bindings::device, call: Callback<T, Result>) -> c_int {
        // SAFETY: `dev` is part of a PCI device that fulfils the requirements of `with()`.
        let result = unsafe { Self::with(container_of!(dev, bindings::pci_dev, dev), call) };

        from_result(|| result.map(|()| 0))
    }

    extern "C" fn shutdown_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The driver core calls this for a device that is bound to this driver, with its
        // lock held.
        unsafe { Self::with(pdev, T::shutdown) }
    }

    extern "C" fn suspend_callback(dev: *mut bindings::device) -> c_int {
        // SAFETY: The PCI bus calls this for a device that is bound to this driver, with its lock
        // held.
        unsafe { Self::with_dev(dev, T::suspend) }
    }

    extern "C" fn resume_callback(dev: *mut bindings::device) -> c_int {
        // SAFETY: The PCI bus calls this for a device that is bound to this driver, with its lock
        // held.
        unsafe { Self::with_dev(dev, T::resume) }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Shutdown, suspend, resets of the function, and PCI errors.
//!
//! The device lock is held in all of them, so that they follow each other.

use kernel::{
    device::Core,
    pci::{
        self,
        ChannelState,
        Recovery, //
    },
    prelude::*,
    time::Delta, //
};

use crate::{
    recovery::{
        Controller,
        DRAIN_TIMEOUT, //
    },
    Binding,
    NvmeDriver, //
};

/// Time limit for requests before a shutdown: that of a request.
const SHUTDOWN_TIMEOUT: Delta = Delta::from_secs(30);

impl Controller<'_> {
    /// Shuts the controller down with the machine.
    ///
    /// Requests complete first, and later ones wait. A request fails only if it takes longer than
    /// its time limit.
    fn shutdown(&self) {
        if self.has_failed() {
            return;
        }
        let _ = self.freeze(SHUTDOWN_TIMEOUT);
        self.with_state(|state| {
            if !self.has_failed() {
                self.stop(state, true);
                self.set_failed();
                self.unquiesce(state);
            }
        });
    }

    /// Stops the controller. New requests wait until [`resume_ctrl()`](Self::resume_ctrl).
    fn suspend_ctrl(&self, shutdown: bool) {
        self.with_state(|state| {
            if !self.has_failed() {
                self.suspend_cmb(state);
                self.stop(state, shutdown);
            }
        });
    }

    fn resume_ctrl(&self) {
        self.with_state(|state| {
            if !self.has_failed() && self.restart(state).is_err() {
                self.fail(state);
            }
            self.unquiesce(state);
        });
    }

    /// Stops the controller before the system is suspended.
    ///
    /// # Errors
    ///
    /// `EBUSY` if requests do not complete in time.
    fn suspend(&self) -> Result {
        if let Err(error) = self.freeze(DRAIN_TIMEOUT) {
            dev_warn!(self.dev(), "requests still in flight, cannot suspend\n");
            self.unfreeze();
            return Err(error);
        }
        self.suspend_ctrl(true);
        Ok(())
    }

    /// Restarts the controller after the system was suspended.
    fn resume(&self) {
        self.resume_ctrl();
        self.unfreeze();
    }

    /// Handles a PCI error (AER, DPC). After a fatal one the device is reset.
    ///
    /// If recovery fails, this is called again with [`ChannelState::Failed`]. Not so on s390: then
    /// requests wait until the driver is unbound.
    fn error_detected(&self, channel: ChannelState) -> Recovery {
        self.with_state(|state| state.recovering = !self.has_failed());
        match channel {
            ChannelState::Normal => Recovery::CanRecover,
            ChannelState::Frozen => {
                self.suspend_ctrl(false);
                self.recovery(Recovery::NeedReset)
            }
            ChannelState::Failed => {
                self.with_state(|state| self.fail(state));
                Recovery::Disconnect
            }
        }
    }

    /// Restarts the controller after a PCI error and a reset. Requests wait until
    /// [`recovered()`](Self::recovered).
    fn slot_reset(&self) -> Recovery {
        // It still runs if the reset is due to the error of another device.
        self.suspend_ctrl(false);
        self.with_state(|state| {
            if !self.has_failed() && self.restart(state).is_err() {
                self.fail(state);
            }
        });
        self.recovery(Recovery::Recovered)
    }

    /// Allows the submission of requests again. Not before: recovery fails if that of another
    /// device below the port does.
    fn recovered(&self) {
        self.with_state(|state| {
            state.recovering = false;
            if state.admin.is_running() {
                self.unquiesce(state);
            }
        });
    }

    fn recovery(&self, recovery: Recovery) -> Recovery {
        if self.has_failed() {
            Recovery::Disconnect
        } else {
            recovery
        }
    }
}

impl pci::PowerDriver for NvmeDriver {
    fn shutdown<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        this.ctrl().shutdown();
    }

    fn suspend<'bound>(
        _pdev: &'bound pci::Device<Core<'_>>,
        this: Pin<&Binding<'bound>>,
    ) -> Result {
        this.ctrl().suspend()
    }

    fn resume<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) -> Result {
        this.ctrl().resume();
        Ok(())
    }
}

impl pci::RecoveryDriver for NvmeDriver {
    // A function, slot or bus reset, for example through sysfs.
    fn reset_prepare<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        this.ctrl().suspend_ctrl(false);
    }

    fn reset_done<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        this.ctrl().resume_ctrl();
    }

    fn error_detected<'bound>(
        _pdev: &'bound pci::Device<Core<'_>>,
        this: Pin<&Binding<'bound>>,
        channel: ChannelState,
    ) -> Recovery {
        this.ctrl().error_detected(channel)
    }

    fn slot_reset<'bound>(
        _pdev: &'bound pci::Device<Core<'_>>,
        this: Pin<&Binding<'bound>>,
    ) -> Recovery {
        this.ctrl().slot_reset()
    }

    fn recovered<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        this.ctrl().recovered();
    }
}

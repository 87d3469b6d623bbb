// SPDX-License-Identifier: GPL-2.0

//! The driver vouches that nothing else changes the command register.

use kernel::{device::Bound, pci};

pub fn start(pdev: &pci::Device<Bound>) {
    pdev.set_master();
    //~^ ERROR E0133 call to unsafe function
}

pub fn stop(pdev: &pci::Device<Bound>) -> bool {
    pdev.clear_master()
    //~^ ERROR E0133 call to unsafe function
}

// SPDX-License-Identifier: GPL-2.0

//! A BAR is shared only by the driver that is bound to its device.

use kernel::{dma::phys::Peer, pci, prelude::*};

pub fn share(owner: &pci::Device) -> Result<Peer<'_>> {
    Peer::register(owner, 0)
    //~^ ERROR E0308 expected `&Device<Bound>`, found `&Device`
}

// SPDX-License-Identifier: GPL-2.0

//! A BAR is lent by the driver that is bound to its device, and no longer.

use kernel::{dma::phys::Peer, pci, prelude::*};

pub fn lend(owner: &pci::Device) -> Result<Peer<'_>> {
    Peer::register(owner, 0)
    //~^ ERROR E0308 expected `&Device<Bound>`, found `&Device`
}

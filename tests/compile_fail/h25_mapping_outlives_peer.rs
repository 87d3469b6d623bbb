// SPDX-License-Identifier: GPL-2.0

//! A mapping of a peer does not outlive the reference to the peer.

use kernel::{
    device::{Bound, Device},
    dma::phys::{FromDevice, InFlight, Mmio, MmioPhys, SgInFlight},
    pci,
    prelude::*,
    sync::aref::ARef,
};

pub fn map(dev: &Device<Bound>, peer: ARef<pci::Device>) -> Result<usize> {
    let range = MmioPhys::from_bar(&*peer, 0, 0, 4096)?;
    let map = InFlight::<Mmio<'_>, FromDevice>::map(dev, range)?;
    drop(peer);
    //~^ ERROR E0505 cannot move out of `peer` because it is borrowed
    Ok(map.size())
}

pub fn keep<'bound, 'peer>(
    dev: &'bound Device<Bound>,
    ranges: &[MmioPhys<'peer>],
) -> Result<SgInFlight<'bound, Mmio<'bound>, FromDevice>> {
    SgInFlight::<Mmio<'_>, _>::map(dev, ranges, GFP_KERNEL)
    //~^ ERROR lifetime may not live long enough
}

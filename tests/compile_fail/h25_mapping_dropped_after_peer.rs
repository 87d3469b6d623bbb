// SPDX-License-Identifier: GPL-2.0

//! A mapping is unmapped before its peer is dropped, which waits for it.

use kernel::{
    device::{Bound, Device},
    dma::phys::{FromDevice, InFlight, Mmio, Peer, SgInFlight},
    pci,
    prelude::*,
};

pub fn map(dev: &Device<Bound>, owner: &pci::Device<Bound>) -> Result {
    let _map;
    let peer = Peer::register(owner, 0)?;
    _map = InFlight::<Mmio<'_>, FromDevice>::map(dev, peer.range(0, 4096)?)?;
    //~^ ERROR E0597 `peer` does not live long enough
    Ok(())
}

pub fn map_list(dev: &Device<Bound>, owner: &pci::Device<Bound>) -> Result {
    let _map;
    let peer = Peer::register(owner, 0)?;
    let ranges = [peer.range(0, 4096)?];
    //~^ ERROR E0597 `peer` does not live long enough
    _map = SgInFlight::<Mmio<'_>, FromDevice>::map(dev, &ranges, GFP_KERNEL)?;
    Ok(())
}

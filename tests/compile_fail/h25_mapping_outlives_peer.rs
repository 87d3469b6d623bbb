// SPDX-License-Identifier: GPL-2.0

//! A mapping of a peer does not outlive the reference to the peer.

use kernel::{
    device::{Bound, Device},
    dma::phys::{FromDevice, Mapping, MmioPhys},
    pci,
    prelude::*,
    sync::aref::ARef,
};

pub fn map(dev: &Device<Bound>, peer: ARef<pci::Device>) -> Result<usize> {
    let range = MmioPhys::from_bar(&*peer, 0, 0, 4096)?;
    let map = Mapping::<_, FromDevice>::new_mmio(dev, range)?;
    drop(peer);
    //~^ ERROR E0505 cannot move out of `peer` because it is borrowed
    Ok(map.size())
}

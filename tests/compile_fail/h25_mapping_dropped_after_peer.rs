// SPDX-License-Identifier: GPL-2.0

//! A mapping is dropped before its peer, as dropping the peer waits for it.

use kernel::{
    device::{Bound, Device},
    dma::phys::{FromDevice, Mapping, Peer},
    pci,
    prelude::*,
};

pub fn map(dev: &Device<Bound>, owner: &pci::Device<Bound>) -> Result {
    let _map;
    let peer = Peer::register(owner, 0)?;
    _map = Mapping::<_, FromDevice>::new_mmio(dev, peer.range(0, 4096)?)?;
    //~^ ERROR E0597 `peer` does not live long enough
    Ok(())
}

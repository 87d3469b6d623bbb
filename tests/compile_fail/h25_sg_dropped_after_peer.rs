// SPDX-License-Identifier: GPL-2.0

//! A mapping of many ranges is dropped before its peer.

use kernel::{
    device::{Bound, Device},
    dma::phys::{FromDevice, Peer, SgMapping},
    pci,
    prelude::*,
};

pub fn map(dev: &Device<Bound>, owner: &pci::Device<Bound>) -> Result {
    let _map;
    let peer = Peer::register(owner, 0)?;
    let ranges = [peer.range(0, 4096)?];
    //~^ ERROR E0597 `peer` does not live long enough
    _map = SgMapping::<_, FromDevice>::new_mmio(dev, &ranges, GFP_KERNEL)?;
    Ok(())
}

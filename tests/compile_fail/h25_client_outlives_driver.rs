// SPDX-License-Identifier: GPL-2.0

//! A client does not outlive the binding of the device that is its own.

use kernel::{
    device::{Bound, Device},
    dma::phys::{MmioPhys, PeerClient, Revoke},
    faux,
    prelude::*,
};

pub struct Client;

impl Revoke for Client {
    fn revoke(&self) {}
}

pub fn attach(owner: faux::Registration, range: &MmioPhys<'_>) -> Result {
    let faux: &faux::Device<Bound> = owner.as_ref();
    let dev: &Device<Bound> = faux.as_ref();
    let client = PeerClient::attach(dev, range, Client, GFP_KERNEL)?;
    drop(owner);
    //~^ ERROR E0505 cannot move out of `owner` because it is borrowed
    drop(client);
    Ok(())
}

pub fn keep(dev: &Device<Bound>, range: &MmioPhys<'_>) -> Result<PeerClient<'static, Client>> {
    PeerClient::attach(dev, range, Client, GFP_KERNEL)
    //~^ ERROR lifetime may not live long enough
}

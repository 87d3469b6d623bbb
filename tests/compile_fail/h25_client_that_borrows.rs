// SPDX-License-Identifier: GPL-2.0

//! A client may be forgotten, so it does not borrow unless the driver vouches for it.

use kernel::{
    device::{Bound, Device},
    dma::phys::{MmioPhys, PeerClient, Revoke},
    prelude::*,
};

struct Name<'a>(&'a [u8]);

impl Revoke for Name<'_> {
    fn revoke(&self) {
        core::hint::black_box(self.0.len());
    }
}

pub fn attach(dev: &Device<Bound>, range: &MmioPhys<'_>, name: &[u8]) -> Result {
    core::mem::forget(PeerClient::attach(dev, range, Name(name), GFP_KERNEL)?);
    //~^ ERROR E0521 borrowed data escapes outside of function
    Ok(())
}

pub fn attach_with_lt(dev: &Device<Bound>, range: &MmioPhys<'_>, name: &[u8]) -> Result {
    PeerClient::attach_with_lt(dev, range, Name(name), GFP_KERNEL)?;
    //~^ ERROR E0133 call to unsafe function
    Ok(())
}

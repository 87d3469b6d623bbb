// SPDX-License-Identifier: GPL-2.0

//! A client that may be forgotten does not borrow.

use kernel::{
    dma::phys::{MmioPhys, PeerClient, Revoke},
    prelude::*,
};

struct Name<'a>(&'a [u8]);

impl Revoke for Name<'_> {
    fn revoke(&self) {
        core::hint::black_box(self.0.len());
    }
}

pub fn attach(range: &MmioPhys<'_>, name: &[u8]) -> Result {
    core::mem::forget(PeerClient::attach(range, Name(name), GFP_KERNEL)?);
    //~^ ERROR E0521 borrowed data escapes outside of function
    Ok(())
}

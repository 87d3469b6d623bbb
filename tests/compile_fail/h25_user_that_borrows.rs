// SPDX-License-Identifier: GPL-2.0

//! Who is told when a peer leaves may be forgotten, and must then find what it needs.

use kernel::{
    dma::phys::{MmioPhys, PeerUser, Revoke},
    prelude::*,
};

struct Name<'a>(&'a [u8]);

impl Revoke for Name<'_> {
    fn revoke(&self) {
        core::hint::black_box(self.0.len());
    }
}

pub fn attach(range: &MmioPhys<'_>, name: &[u8]) -> Result {
    core::mem::forget(PeerUser::attach(range, Name(name), GFP_KERNEL)?);
    //~^ ERROR E0521 borrowed data escapes outside of function
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! A page in a mapped list of pages is not exchanged.

use kernel::{
    dma::phys::{Bidirectional, Cpu, PageBytes, SgMapping},
    prelude::*,
};

pub fn exchange(
    map: &mut SgMapping<'_, Cpu<KVec<PageBytes>>, Bidirectional>,
    other: &mut PageBytes,
) -> Result {
    core::mem::swap(&mut map.cpu()?[0], other);
    //~^ ERROR E0599 no method named `cpu` found
    Ok(())
}

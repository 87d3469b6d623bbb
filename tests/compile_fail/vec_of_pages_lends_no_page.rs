// SPDX-License-Identifier: GPL-2.0

//! A list of pages that is mapped is not lent as a list: a page of it could be exchanged.

use kernel::{
    dma::phys::{Bidirectional, Cpu, PageBytes, VecMapping},
    prelude::*,
};

pub fn exchange(
    map: &mut VecMapping<'_, Cpu<KVec<PageBytes>>, Bidirectional>,
    other: &mut PageBytes,
) -> Result {
    core::mem::swap(&mut map.cpu()?[0], other);
    //~^ ERROR E0599 no method named `cpu` found
    Ok(())
}

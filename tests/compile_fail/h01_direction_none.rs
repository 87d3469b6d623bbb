// SPDX-License-Identifier: GPL-2.0

//! A mapping has a direction.

use kernel::{
    dma::phys::{Cpu, InFlight},
    prelude::*,
};

pub struct None;

pub fn address(_: &InFlight<'_, Cpu<KVec<u8>>, None>) {}
//~^ ERROR E0277 `None` is not a direction of a DMA mapping

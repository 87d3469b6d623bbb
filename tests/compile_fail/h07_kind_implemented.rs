// SPDX-License-Identifier: GPL-2.0

//! A driver cannot implement a kind of mapping.

use kernel::dma::phys::Kind;

pub struct Carveout;

impl Kind for Carveout {}
//~^ ERROR E0277 Sealed` is not satisfied

// SPDX-License-Identifier: GPL-2.0

//! A driver cannot implement a direction.

use kernel::dma::{phys::Direction, DataDirection};

pub struct Nowhere;

impl Direction for Nowhere {
    //~^ ERROR E0277 Sealed` is not satisfied
    const DIRECTION: DataDirection = DataDirection::None;
}

// SPDX-License-Identifier: GPL-2.0

//! A driver does not decide in which directions the CPU writes.

use kernel::dma::phys::{FromDevice, Writable};

impl Writable for FromDevice {}
//~^ ERROR E0117 only traits defined in the current crate can be implemented

// SPDX-License-Identifier: GPL-2.0

//! A driver vouches for memory of a type of its own.

use core::ops::{Deref, DerefMut};
use kernel::{
    dma::phys::{CpuPhys, Memory, SgMemory},
    prelude::*,
};

pub struct Buffer([u8; 64]);

impl Deref for Buffer {
    type Target = [u8; 64];

    fn deref(&self) -> &[u8; 64] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8; 64] {
        &mut self.0
    }
}

impl Memory for Buffer {}
//~^ ERROR E0200 requires an `unsafe impl` declaration

impl SgMemory for Buffer {
    //~^ ERROR E0200 requires an `unsafe impl` declaration
    fn extent(&self) -> (usize, usize) {
        (1, 64)
    }

    fn ranges(&mut self) -> impl Iterator<Item = Result<CpuPhys>> {
        core::iter::once(CpuPhys::from_slice(&self.0))
    }
}

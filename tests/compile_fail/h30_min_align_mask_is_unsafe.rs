// SPDX-License-Identifier: GPL-2.0

//! The driver vouches that nothing is mapped while the alignment of its mappings changes.

use kernel::{device::Core, dma::Device, pci};

pub fn align(pdev: &pci::Device<Core<'_>>) {
    pdev.dma_set_min_align_mask(4095);
    //~^ ERROR E0133 call to unsafe
}

// SPDX-License-Identifier: GPL-2.0

//! How a device reaches a range.

use crate::{
    bindings,
    fmt,
    prelude::*, //
};

/// How the device reaches the range of a [`Mapping`](super::Mapping).
///
/// Decided once, when the range is mapped. It explains speed and numbers in a log; nothing needs to
/// be done differently because of it.
///
/// # Examples
///
/// ```
/// use kernel::{
///     dma::phys::{Cpu, Mapping, Route, ToDevice},
///     prelude::*, //
/// };
/// # use kernel::dma::{phys::testing::TestDevice, DmaMask};
/// # let owner = TestDevice::new(c"rust_phys_doc_route", DmaMask::new::<64>())?;
/// # let dev = owner.device();
///
/// let map = Mapping::<Cpu<_>, ToDevice>::new(dev, KBox::new([0u8; 64], GFP_KERNEL)?)?;
///
/// dev_info!(dev, "by the {} route\n", map.route());
/// # // No IOMMU translates for a device that is not on a bus of hardware.
/// # assert!(matches!(map.route(), Route::Direct | Route::Bounce));
/// # assert_eq!(Route::Bounce.as_str(), "bounce");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// At its physical address, translated by arithmetic.
    Direct,
    /// Through a copy in a bounce slot.
    Bounce,
    /// Through an address that an IOMMU translates.
    Iommu,
    /// Through the device's legacy `dma_map_ops`.
    Ops,
    /// At the peer's PCI bus address, below the host bridge.
    Bus,
}

impl Route {
    /// The route's name, one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bounce => "bounce",
            Self::Iommu => "iommu",
            Self::Ops => "ops",
            Self::Bus => "bus",
        }
    }

    /// The route in a handle, [`EINVAL`] where it is none.
    #[inline]
    pub(super) fn from_raw(route: u8) -> Result<Self> {
        match bindings::dma_phys_route::from(route) {
            bindings::dma_phys_route_DMA_PHYS_DIRECT => Ok(Self::Direct),
            bindings::dma_phys_route_DMA_PHYS_BOUNCE => Ok(Self::Bounce),
            bindings::dma_phys_route_DMA_PHYS_IOMMU => Ok(Self::Iommu),
            bindings::dma_phys_route_DMA_PHYS_OPS => Ok(Self::Ops),
            bindings::dma_phys_route_DMA_PHYS_BUS => Ok(Self::Bus),
            _ => Err(EINVAL),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

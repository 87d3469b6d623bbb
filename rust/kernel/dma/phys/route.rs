// SPDX-License-Identifier: GPL-2.0

//! How a device reaches a range.

use crate::{
    bindings,
    fmt,
    prelude::*, //
};

/// How the device reaches the range of a [`Mapping`](super::Mapping).
///
/// It is decided when the range is mapped. It explains speed and log messages; a driver needs to do
/// nothing different because of it.
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
/// let mapping = Mapping::<Cpu<_>, ToDevice>::new(dev, KBox::new([0u8; 64], GFP_KERNEL)?)?;
///
/// dev_info!(dev, "route: {}\n", mapping.route());
/// # // No IOMMU translates for a device that is not on a hardware bus.
/// # assert!(matches!(mapping.route(), Route::Direct | Route::Bounce));
/// # assert_eq!(Route::Bounce.as_str(), "bounce");
/// # Ok::<(), Error>(())
/// ```
// CAST: The values of `enum dma_phys_route` fit into the `u8` that a handle stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Route {
    /// At its physical address, translated by arithmetic.
    Direct = bindings::dma_phys_route_DMA_PHYS_DIRECT as u8,
    /// Through a bounce buffer.
    Bounce = bindings::dma_phys_route_DMA_PHYS_BOUNCE as u8,
    /// Through an IOVA.
    Iommu = bindings::dma_phys_route_DMA_PHYS_IOMMU as u8,
    /// Through the legacy `dma_map_ops` of the device.
    Ops = bindings::dma_phys_route_DMA_PHYS_OPS as u8,
    /// At the PCI bus address of the peer, below the host bridge.
    Bus = bindings::dma_phys_route_DMA_PHYS_BUS as u8,
}

impl Route {
    /// Returns the name that debugfs, tracing and the log use for the route.
    pub fn as_str(self) -> &'static str {
        // SAFETY: For any argument the function returns a NUL-terminated string that is never
        // freed.
        let name = unsafe { CStr::from_char_ptr(bindings::dma_phys_route_name(self as u8)) };

        // The names are ASCII.
        name.to_str().unwrap_or_default()
    }

    /// Converts the route in a live handle. The C core knows no other routes.
    #[inline]
    pub(super) fn from_raw(route: u8) -> Self {
        match bindings::dma_phys_route::from(route) {
            bindings::dma_phys_route_DMA_PHYS_DIRECT => Self::Direct,
            bindings::dma_phys_route_DMA_PHYS_BOUNCE => Self::Bounce,
            bindings::dma_phys_route_DMA_PHYS_IOMMU => Self::Iommu,
            bindings::dma_phys_route_DMA_PHYS_OPS => Self::Ops,
            _ => Self::Bus,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

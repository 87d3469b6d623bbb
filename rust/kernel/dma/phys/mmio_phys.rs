// SPDX-License-Identifier: GPL-2.0

//! Ranges of device memory.

use crate::{
    bindings,
    error::to_result,
    io::{
        resource::Resource,
        PhysAddr, //
    },
    prelude::*, //
};
#[cfg(CONFIG_PCI)]
use crate::{
    container_of,
    device,
    pci, //
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// A range of device memory: of a BAR that a [`Peer`](super::Peer) shares, or of a resource.
///
/// It is a plain value, and holds no reference to the peer. It may be kept after the peer was
/// removed; mapping it then fails with `ENODEV`.
///
/// # Invariants
///
/// The range is not empty, it is part of the BAR or the resource that it was made from, and none of
/// it is RAM.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct MmioPhys<'peer> {
    range: bindings::mmio_phys,
    _peer: PhantomData<&'peer ()>,
}

impl<'peer> MmioPhys<'peer> {
    /// Returns the range of `len` bytes at `offset` in BAR `bar` of `owner`.
    ///
    /// Any reference to the owner suffices. Its driver need not be the caller, and may be unbound.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] if there is no such BAR, it is not memory, `len` is 0 or the range exceeds the
    ///   BAR.
    /// - [`ENODEV`] if the BAR is not registered as a [`Peer`](super::Peer), or is no longer.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::phys::{FromDevice, InFlight, Mmio, MmioPhys},
    ///     pci, //
    /// };
    ///
    /// /// Maps the first 4 KiB of BAR 4 of `peer` for `dev` to write.
    /// fn map_bar<'a>(
    ///     dev: &'a Device<Bound>,
    ///     peer: &'a pci::Device,
    /// ) -> Result<InFlight<'a, Mmio<'a>, FromDevice>> {
    ///     InFlight::<Mmio<'_>, _>::map(dev, MmioPhys::from_bar(peer, 4, 0, 4096)?)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    #[cfg(CONFIG_PCI)]
    pub fn from_bar<Ctx: device::DeviceContext>(
        owner: &'peer pci::Device<Ctx>,
        bar: u32,
        offset: u64,
        len: usize,
    ) -> Result<Self> {
        let bar = i32::try_from(bar)?;
        let mut range = pin_init::zeroed();
        // SAFETY: `owner` is a reference to a device, so the first pointer is valid. The last one
        // points to a local variable.
        to_result(unsafe {
            bindings::mmio_phys_from_bar(pci_raw(owner), bar, offset, len, &raw mut range)
        })?;

        // INVARIANT: `mmio_phys_from_bar()` succeeds only for a range of a memory BAR, and never
        // for 0 bytes.
        Ok(Self {
            range,
            _peer: PhantomData,
        })
    }

    /// Returns the range of `len` bytes at `offset` in `resource`.
    ///
    /// This is for device memory that every device reaches at its physical address, such as the
    /// FIFO that a DMA engine serves. It is not for a BAR: mapping the range neither checks for a
    /// P2P path nor holds the owner of the BAR.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if the resource is not memory with an address, `len` is 0, or the range exceeds
    /// the resource or contains RAM.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::phys::{InFlight, Mmio, MmioPhys, ToDevice},
    ///     platform, //
    /// };
    ///
    /// /// Maps the FIFO at offset 8 of a device's registers for the DMA engine `dma` to read.
    /// fn fifo<'a>(
    ///     dma: &'a Device<Bound>,
    ///     owner: &'a platform::Device<Bound>,
    /// ) -> Result<InFlight<'a, Mmio<'a>, ToDevice>> {
    ///     let registers = owner.resource_by_index(0).ok_or(ENXIO)?;
    ///     InFlight::<Mmio<'_>, _>::map(dma, MmioPhys::from_resource(registers, 8, 4)?)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn from_resource(resource: &'peer Resource, offset: u64, len: usize) -> Result<Self> {
        // A `Resource` is a transparent `struct resource`.
        let resource = ptr::from_ref(resource).cast::<bindings::resource>();
        let mut range = pin_init::zeroed();
        // SAFETY: The first pointer comes from a reference, the last one points to a local
        // variable.
        to_result(unsafe {
            bindings::mmio_phys_from_resource(resource, offset, len, &raw mut range)
        })?;

        // INVARIANT: `mmio_phys_from_resource()` succeeds only for a range of the resource that
        // contains no RAM, and never for 0 bytes.
        Ok(Self {
            range,
            _peer: PhantomData,
        })
    }

    /// Returns the physical address of the first byte, as the CPU sees it.
    #[inline]
    pub fn addr(&self) -> PhysAddr {
        self.range.addr
    }

    /// Returns the length in bytes, which is never 0.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.range.len
    }

    #[inline]
    pub(super) fn as_raw(&self) -> &bindings::mmio_phys {
        &self.range
    }
}

/// Returns the `struct pci_dev` of a PCI device.
#[cfg(CONFIG_PCI)]
pub(super) fn pci_raw<Ctx: device::DeviceContext>(
    pdev: &pci::Device<Ctx>,
) -> *mut bindings::pci_dev {
    let dev: &device::Device<Ctx> = pdev.as_ref();

    // SAFETY: The `struct device` of a `pci::Device` is the field `dev` of its `struct pci_dev`.
    unsafe { container_of!(dev.as_raw(), bindings::pci_dev, dev) }
}

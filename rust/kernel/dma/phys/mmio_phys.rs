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

/// A range of device memory: part of a BAR that a [`Peer`](super::Peer) lends, or of a resource.
///
/// It is a fact about an address, not a claim on the device: it may be kept when the peer's driver
/// has gone, and mapping it answers `ENODEV` from then on.
///
/// # Invariants
///
/// Every byte of the range belongs to the BAR or the resource it was made from, none is RAM, and
/// there is at least one.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct MmioPhys<'peer> {
    range: bindings::mmio_phys,
    _peer: PhantomData<&'peer ()>,
}

impl<'peer> MmioPhys<'peer> {
    /// The range of `len` bytes that starts `offset` bytes into BAR `bar` of `owner`.
    ///
    /// Any reference to the owner will do; its driver need not be the caller, and may go away.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`] where there is no such BAR, it is not memory, `len` is 0 or the range leaves
    ///   the BAR.
    /// - [`ENODEV`] where the owner has not registered the BAR as a [`Peer`](super::Peer), or has
    ///   gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::phys::{FromDevice, Mapping, Mmio, MmioPhys},
    ///     pci, //
    /// };
    ///
    /// /// Lets `dev` write into the first 4 KiB of BAR 4 of `peer`.
    /// fn write_into<'a>(
    ///     dev: &'a Device<Bound>,
    ///     peer: &'a pci::Device,
    /// ) -> Result<Mapping<'a, Mmio<'a>, FromDevice>> {
    ///     Mapping::new_mmio(dev, MmioPhys::from_bar(peer, 4, 0, 4096)?)
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
        // SAFETY: `owner` is a reference, so that the first pointer is to a valid device. The last
        // one is to a local variable.
        to_result(unsafe {
            bindings::mmio_phys_from_bar(pci_raw(owner), bar, offset, len, &raw mut range)
        })?;

        // INVARIANT: `mmio_phys_from_bar()` succeeds within a BAR of memory only, and never for 0
        // bytes.
        Ok(Self {
            range,
            _peer: PhantomData,
        })
    }

    /// The range of `len` bytes that starts `offset` bytes into `resource`.
    ///
    /// For device memory that each device reaches at its physical address, such as the FIFO that a
    /// DMA engine feeds. Not for a BAR: nothing here asks whether it can be reached, or holds its
    /// owner.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] where the resource is not memory with an address, `len` is 0, or the range leaves
    /// the resource or holds RAM.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::phys::{Mapping, Mmio, MmioPhys, ToDevice},
    ///     platform, //
    /// };
    ///
    /// /// Lets the DMA engine `dma` read a device's FIFO, which is 8 bytes into its registers.
    /// fn fifo<'a>(
    ///     dma: &'a Device<Bound>,
    ///     owner: &'a platform::Device<Bound>,
    /// ) -> Result<Mapping<'a, Mmio<'a>, ToDevice>> {
    ///     let registers = owner.resource_by_index(0).ok_or(ENXIO)?;
    ///     Mapping::new_mmio(dma, MmioPhys::from_resource(registers, 8, 4)?)
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn from_resource(resource: &'peer Resource, offset: u64, len: usize) -> Result<Self> {
        // A `Resource` is a transparent `struct resource`.
        let resource = ptr::from_ref(resource).cast::<bindings::resource>();
        let mut range = pin_init::zeroed();
        // SAFETY: The first pointer is of a reference, the last one to a local variable.
        to_result(unsafe {
            bindings::mmio_phys_from_resource(resource, offset, len, &raw mut range)
        })?;

        // INVARIANT: `mmio_phys_from_resource()` succeeds within a resource without RAM only, and
        // never for 0 bytes.
        Ok(Self {
            range,
            _peer: PhantomData,
        })
    }

    /// Physical address of the first byte, as the CPU sees it.
    #[inline]
    pub fn addr(&self) -> PhysAddr {
        self.range.addr
    }

    /// Length in bytes, never 0.
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

/// The `struct pci_dev` of a PCI device.
#[cfg(CONFIG_PCI)]
pub(super) fn pci_raw<Ctx: device::DeviceContext>(
    pdev: &pci::Device<Ctx>,
) -> *mut bindings::pci_dev {
    let dev: &device::Device<Ctx> = pdev.as_ref();

    // SAFETY: The device of a `pci::Device` is the field `dev` of its `struct pci_dev`.
    unsafe { container_of!(dev.as_raw(), bindings::pci_dev, dev) }
}

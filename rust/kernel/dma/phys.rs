// SPDX-License-Identifier: GPL-2.0

//! Typed mapping of physical addresses for DMA.
//!
//! The owner of the memory is in the type:
//!
//! - A [`Mapping`] is mapped memory that **the CPU owns**. It dereferences to the data, and has no
//!   DMA address.
//! - An [`InFlight`] is mapped memory that **the device owns**. It has the DMA address, and no data.
//!
//! [`Mapping::submit`] hands the memory to the device. [`InFlight::complete`] takes it back, and is
//! `unsafe`: only the driver knows when the device has finished. That is the one promise that a
//! driver makes. What the range consists of ([`Cpu`] or [`Mmio`]) and the [`Direction`] of the
//! transfer are in the type, too.
//!
//! | memory | CPU owns | device owns | DMA addresses |
//! | --- | --- | --- | --- |
//! | one range: `KBox`, `KVec`, [`PageBytes`] | [`Mapping`] | [`InFlight`] | one |
//! | many ranges: `VVec`, `KVec<PageBytes>` | [`SgMapping`] | [`SgInFlight`] | segments |
//! | another device's memory | - | [`InFlight`], [`SgInFlight`] | one, or segments |
//! | the data of a block request | - | [`RequestMapping`] | segments, once |
//! | memory of others, by its [`CpuPhys`] | [`Mapping`], [`SgMapping`] of [`Unowned`] | the same | one, or segments |
//!
//! Memory that CPU and device access at the same time, such as a ring of descriptors, is
//! [`Coherent`](crate::dma::Coherent).
//!
//! # Lifetimes
//!
//! A mapping does not outlive the binding of its device to the driver (`'bound`). A mapping of
//! device memory does not outlive the reference to the device that shares it (`'peer`). The removal
//! of a peer waits until all of its memory is unmapped. A driver that keeps it mapped for longer
//! than a transfer attaches a [`PeerClient`], which is revoked before the peer is removed.
//!
//! Dropping a [`Mapping`] unmaps and frees its memory. Dropping or forgetting an [`InFlight`] leaks
//! its memory together with the mapping, so that the device never accesses memory that was freed.
//!
//! Documentation/rust/dma-phys.rst has a chapter *Soundness*: the promises of a driver, the
//! invariants of this layer, and why safe code cannot break them.
//!
//! # Examples
//!
//! A driver maps a buffer once, and lets the device work on it again and again:
//!
//! ```
//! use kernel::{
//!     device::{Bound, Device},
//!     dma::{
//!         phys::{Bidirectional, Cpu, Mapping},
//!         DmaAddress, //
//!     }, //
//! };
//! # use kernel::dma::{phys::testing::TestDevice, DmaMask};
//!
//! /// Runs the device on 512 bytes. Returns when it has finished.
//! fn work(run: impl Fn(DmaAddress, usize), dev: &Device<Bound>) -> Result<u32> {
//!     let buffer = KVec::from_elem(0u32, 128, GFP_KERNEL)?;
//!     let mut buffer = Mapping::<Cpu<_>, Bidirectional>::new(dev, buffer)?;
//!
//!     for question in 0..8 {
//!         buffer[0] = question;
//!
//!         let in_flight = buffer.submit();
//!         run(in_flight.dma_address(), in_flight.size());
//!         // SAFETY: The device has finished.
//!         buffer = unsafe { in_flight.complete() };
//!     }
//!     Ok(buffer[0])
//! }
//!
//! # let owner = TestDevice::new(c"rust_phys_doc", DmaMask::new::<64>())?;
//! # assert_eq!(work(|_, size| assert_eq!(size, 512), owner.device())?, 7);
//! # Ok::<(), Error>(())
//! ```
//!
//! C header: [`include/linux/dma-phys.h`](srctree/include/linux/dma-phys.h)

mod cpu_phys;
mod direction;
mod handle;
mod map_error;
mod mapped;
mod mapping;
mod memory;
mod mmio_phys;
#[cfg(not(CONFIG_HIGHMEM))]
mod page_bytes;
mod part;
#[cfg(CONFIG_PCI_P2PDMA)]
mod peer;
#[cfg(CONFIG_PCI_P2PDMA)]
mod peer_client;
mod prepared;
#[cfg(CONFIG_BLOCK)]
mod request;
mod route;
mod sg_mapping;
mod sg_memory;
#[cfg(CONFIG_KUNIT)]
#[doc(hidden)]
pub mod testing;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests_owner;
#[cfg(all(CONFIG_DMA_PHYS_KUNIT_TEST, CONFIG_PCI_P2PDMA))]
mod tests_peer;
#[cfg(all(CONFIG_DMA_PHYS_KUNIT_TEST, CONFIG_BLOCK))]
mod tests_request;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests_sg;
#[cfg(all(
    CONFIG_DMA_PHYS_KUNIT_TEST,
    CONFIG_PCI,
    CONFIG_IOMMU_API,
    not(CONFIG_HIGHMEM)
))]
mod tests_unbind;

pub use self::{
    cpu_phys::CpuPhys,
    direction::{
        Bidirectional,
        Direction,
        FromDevice,
        ToDevice,
        Writable, //
    },
    map_error::MapError,
    mapping::{
        Cpu,
        InFlight,
        Kind,
        Mapping,
        Mmio,
        Unowned, //
    },
    memory::{
        Elements,
        Memory, //
    },
    mmio_phys::MmioPhys,
    part::Part,
    prepared::{
        Prepared,
        Segment, //
    },
    route::Route,
    sg_mapping::{
        SgInFlight,
        SgMapping, //
    },
    sg_memory::SgMemory, //
};

#[cfg(not(CONFIG_HIGHMEM))]
pub use self::page_bytes::PageBytes;
#[cfg(CONFIG_BLOCK)]
pub use self::request::{
    IntegrityMapping,
    MappableData,
    MapsRequests,
    RequestMapping,
    Segments, //
};
#[cfg(CONFIG_PCI_P2PDMA)]
pub use self::{
    peer::Peer,
    peer_client::{
        PeerClient,
        Revoke, //
    }, //
};

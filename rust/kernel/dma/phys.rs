// SPDX-License-Identifier: GPL-2.0

//! Typed mapping of physical addresses for DMA.
//!
//! A [`Mapping`] maps one range for one device. What the range consists of and the direction of the
//! transfer are in its type:
//!
//! - `Mapping<'bound, Cpu<M>, D>` owns the [`Memory`] `M` that it maps and returns it at
//!   [`unmap`](Mapping::unmap). While the memory is mapped, the CPU accesses it only through
//!   [`cpu`](Mapping::cpu), which syncs it for the CPU for the lifetime of a [`CpuGuard`].
//! - `Mapping<'bound, Mmio<'peer>, D>` maps a range of another device's memory. No method of it
//!   gives the CPU access.
//!
//! The [`Direction`] `D` is [`ToDevice`], [`FromDevice`] or [`Bidirectional`]; there is no other.
//!
//! Everything that is not one range owned by a driver has a type of its own:
//!
//! | memory | mapped by | DMA addresses |
//! | --- | --- | --- |
//! | one range: `KBox`, `KVec`, `PageBytes`, a range of a BAR | [`Mapping`] | one |
//! | many ranges: `VVec`, a list of pages, ranges of a BAR | [`SgMapping`] | segments |
//! | the data of a block request | [`RequestMapping`] | segments |
//! | borrowed memory | [`scope()`], [`scope_shared()`] | one, in a closure |
//!
//! # Lifetimes
//!
//! A mapping does not outlive the binding of its device to the driver (`'bound`). A mapping of
//! device memory does not outlive the reference to the device that shares it (`'peer`). Forgetting
//! a mapping leaks its memory together with the mapping, so the device never accesses memory that
//! was freed. Forgetting a mapping of device memory also blocks the removal of its [`Peer`].
//! Borrowed memory cannot be leaked: the scope that maps it always unmaps it.
//!
//! The removal of a peer waits for all mappings of its memory. A driver that keeps such a mapping
//! for longer than a transfer attaches a [`PeerClient`], which is revoked before the peer is
//! removed.
//!
//! # What the types do not check
//!
//! Only the driver knows when a device is done with a mapping. It takes a [`CpuGuard`], unmaps or
//! drops a mapping only after the device has reported completion or has been stopped.
//!
//! # Examples
//!
//! A driver fills a buffer, starts the device on it, and reads the result:
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
//! fn compute(dev: &Device<Bound>, start: impl Fn(DmaAddress, usize)) -> Result<u32> {
//!     let buffer = KVec::from_elem(0u32, 128, GFP_KERNEL)?;
//!     let mut map = Mapping::<Cpu<_>, Bidirectional>::new(dev, buffer)?;
//!
//!     map.cpu()?[0] = 42;
//!     start(map.dma_address(), map.size());
//!
//!     let result = map.cpu()?[0];
//!     Ok(result)
//! }
//!
//! # let owner = TestDevice::new(c"rust_phys_doc", DmaMask::new::<64>())?;
//! # let start = |_, size| assert_eq!(size, 512);
//! # assert_eq!(compute(owner.device(), start)?, 42);
//! # Ok::<(), Error>(())
//! ```
//!
//! C header: [`include/linux/dma-phys.h`](srctree/include/linux/dma-phys.h)

mod cpu_phys;
mod direction;
mod guard;
mod handle;
mod limits;
mod map_error;
mod mapping;
mod memory;
mod mmio_phys;
#[cfg(not(CONFIG_HIGHMEM))]
mod page_bytes;
#[cfg(CONFIG_PCI_P2PDMA)]
mod peer;
#[cfg(CONFIG_PCI_P2PDMA)]
mod peer_client;
#[cfg(CONFIG_BLOCK)]
mod request;
mod route;
mod scope;
mod sg_mapping;
mod sg_memory;
mod sg_storage;
#[cfg(CONFIG_KUNIT)]
#[doc(hidden)]
pub mod testing;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests_cpu_access;
#[cfg(all(CONFIG_DMA_PHYS_KUNIT_TEST, CONFIG_PCI_P2PDMA))]
mod tests_peer;
#[cfg(all(CONFIG_DMA_PHYS_KUNIT_TEST, CONFIG_BLOCK))]
mod tests_request;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests_sg;

pub use self::{
    cpu_phys::CpuPhys,
    direction::{
        Bidirectional,
        Direction,
        FromDevice,
        ToDevice,
        Writable, //
    },
    guard::CpuGuard,
    limits::{
        max_mapping_size,
        set_min_align_mask, //
    },
    map_error::MapError,
    mapping::{
        Cpu,
        Kind,
        Mapping,
        Mmio, //
    },
    memory::{
        Elements,
        Memory, //
    },
    mmio_phys::MmioPhys,
    route::Route,
    scope::{
        scope,
        scope_shared,
        Borrowed,
        Shared, //
    },
    sg_mapping::SgMapping,
    sg_memory::SgMemory,
    sg_storage::SgStorage, //
};

#[cfg(not(CONFIG_HIGHMEM))]
pub use self::page_bytes::PageBytes;
#[cfg(CONFIG_BLOCK)]
pub use self::request::RequestMapping;
#[cfg(CONFIG_PCI_P2PDMA)]
pub use self::{
    peer::Peer,
    peer_client::{
        PeerClient,
        Revoke, //
    }, //
};

// SPDX-License-Identifier: GPL-2.0

//! Give a device a physical address, so that its misuse does not compile.
//!
//! A [`Mapping`] makes one range reachable for one device. What the range is made of and which way
//! the bytes go are in its type:
//!
//! - `Mapping<'bound, Cpu<M>, D>` owns the [`Memory`] `M` it maps and gives it back at
//!   [`unmap`](Mapping::unmap). In between the CPU reaches the bytes through
//!   [`cpu`](Mapping::cpu) alone, which takes them back from the device for the life of a
//!   [`CpuGuard`].
//! - `Mapping<'bound, Mmio<'peer>, D>` is a range of another device's memory. There is nothing in
//!   it for the CPU to touch, and no method that would.
//!
//! The [`Direction`] `D` is [`ToDevice`], [`FromDevice`] or [`Bidirectional`]; there is no other.
//!
//! What is not one range that a driver owns has a type of its own:
//!
//! | what | mapped by | the device finds |
//! | --- | --- | --- |
//! | one range: `KBox`, `KVec`, `PageBytes`, part of a BAR | [`Mapping`] | one address |
//! | many ranges: `VVec`, a list of pages, parts of a BAR | [`VecMapping`] | segments |
//! | the data of a block request | [`RequestMapping`] | segments |
//! | memory that is borrowed | [`scope()`], [`scope_shared()`] | one address, in a closure |
//!
//! # Lifetimes
//!
//! A mapping lives no longer than its device is bound (`'bound`), and one of device memory no
//! longer than the device that lends it is referenced (`'peer`). Forgetting a mapping leaks the
//! memory together with the mapping, so that the device never reaches memory which belongs to
//! someone else. Forgetting one of device memory also keeps its [`Peer`] from being taken back.
//! Memory that is only borrowed cannot be leaked: it is mapped in a scope that nobody can skip.
//!
//! A peer's removal waits for all mappings of its memory. Who keeps one for longer than a transfer
//! is a [`PeerUser`], which is told when the peer leaves.
//!
//! # What the types cannot see
//!
//! When a device is done with a mapping, only its driver knows. Take a [`CpuGuard`], unmap or drop
//! a mapping after the device has said that it is done, or has been stopped.
//!
//! # Examples
//!
//! A driver fills a buffer, tells the device where to find it, and reads the answer:
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
//! fn ask(dev: &Device<Bound>, start: impl Fn(DmaAddress, usize)) -> Result<u32> {
//!     let buffer = KVec::from_elem(0u32, 128, GFP_KERNEL)?;
//!     let mut map = Mapping::<Cpu<_>, Bidirectional>::new(dev, buffer)?;
//!
//!     map.cpu()?[0] = 42;
//!     start(map.dma_address(), map.size());
//!
//!     let answer = map.cpu()?[0];
//!     Ok(answer)
//! }
//!
//! # let owner = TestDevice::new(c"rust_phys_doc", DmaMask::new::<64>())?;
//! # let start = |_, size| assert_eq!(size, 512);
//! # assert_eq!(ask(owner.device(), start)?, 42);
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
mod peer_user;
#[cfg(CONFIG_BLOCK)]
mod request;
mod route;
mod scope;
#[cfg(CONFIG_KUNIT)]
#[doc(hidden)]
pub mod testing;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests_lend;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests_peer;
#[cfg(all(CONFIG_DMA_PHYS_KUNIT_TEST, CONFIG_BLOCK))]
mod tests_request;
#[cfg(CONFIG_DMA_PHYS_KUNIT_TEST)]
mod tests_vec;
mod vec_mapping;
mod vec_memory;
mod vec_storage;

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
    vec_mapping::VecMapping,
    vec_memory::VecMemory,
    vec_storage::VecStorage, //
};

#[cfg(not(CONFIG_HIGHMEM))]
pub use self::page_bytes::PageBytes;
#[cfg(CONFIG_BLOCK)]
pub use self::request::RequestMapping;
#[cfg(CONFIG_PCI_P2PDMA)]
pub use self::{
    peer::Peer,
    peer_user::{
        PeerUser,
        Revoke, //
    }, //
};

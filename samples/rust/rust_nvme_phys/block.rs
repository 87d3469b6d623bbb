// SPDX-License-Identifier: GPL-2.0

//! Namespaces, and their disks.

use kernel::{
    block::{
        mq::{
            Disk,
            DiskOperations,
            Limits,
            OpenDisk, //
        },
        SECTOR_SHIFT, //
    },
    prelude::*,
    sync::Arc, //
};

use crate::{
    admin::{
        data_memory,
        ADMIN_BYTES, //
    },
    controller::{
        Admin,
        MAX_SEGMENTS, //
    },
    identify::{
        bytes,
        CNS_ACTIVE,
        CNS_NAMESPACE, //
    },
    ioctl,
    metadata::Format,
    queue::QueueConfig,
    recovery::Controller,
    regs,
    rings::RateLimit, //
};

/// Maximum number of namespaces to check. A controller may report up to 2^32 - 2.
const MAX_SCAN: u32 = 1024;

/// A namespace of a controller, which is a disk.
pub(crate) struct Namespace<'bound> {
    pub(crate) ctrl: Arc<Controller<'bound>>,
    pub(crate) id: u32,
    /// Binary logarithm of the block size in bytes.
    pub(crate) shift: u32,
    pub(crate) format: Format,
    /// Write Zeroes may deallocate blocks.
    pub(crate) deallocate: bool,
}

impl DiskOperations for Namespace<'_> {
    fn ioctl(ns: &Self, disk: &OpenDisk<'_, Self>, cmd: u32, arg: usize) -> Result<c_int> {
        ioctl::ioctl(ns, disk, cmd, arg)
    }
}

/// Identify data of a namespace.
struct Identity {
    blocks: u64,
    shift: u32,
    format: Format,
    deallocate: bool,
    read_only: bool,
}

impl Identity {
    fn read(data: &[u8]) -> Result<Self> {
        let [flbas] = bytes(data, 26)?;
        let [dlfeat] = bytes(data, 33)?;
        let [nsattr] = bytes(data, 99)?;
        // Bits 6 and 5 are the upper ones of the index.
        let index = usize::from(flbas & 0xf | flbas >> 1 & 0x30);
        let [low, high, shift, _] = bytes(data, 128 + 4 * index)?;

        Ok(Self {
            blocks: u64::from_le_bytes(bytes(data, 0)?),
            shift: shift.into(),
            format: Format::read(data, index, u16::from_le_bytes([low, high]))?,
            // DLFEAT: deallocated blocks read as zeroes, and Write Zeroes may deallocate.
            deallocate: dlfeat & 0x7 == 1 && dlfeat & 1 << 3 != 0,
            read_only: nsattr & 1 << 0 != 0,
        })
    }

    /// Returns whether the namespace can be a disk.
    fn is_supported(&self, max_transfer: usize) -> bool {
        self.shift >= SECTOR_SHIFT
            && 1usize
                .checked_shl(self.shift)
                .is_some_and(|block| block <= max_transfer.min(Limits::MAX_BLOCK_SIZE as usize))
            && self.format.is_supported()
            && self.blocks <= (i64::MAX as u64) >> self.shift
    }
}

/// Returns the maximum number of sectors in one discard. One of the block layer has less than 4
/// GiB.
fn discard_sectors(max_blocks: u32, shift: u32) -> u32 {
    let max = u32::MAX >> shift;
    let blocks = if max_blocks == 0 {
        max
    } else {
        max.min(max_blocks)
    };

    blocks << (shift - SECTOR_SHIFT)
}

/// Returns the maximum number of sectors in one Write Zeroes. It has its own limit (WZSL), and 16
/// bits for the number of blocks. Without that limit MDTS does not apply, but a command should not
/// take long.
fn zeroes_sectors(max_bytes: u32, max_transfer: u32, shift: u32) -> u32 {
    let bytes = if max_bytes == 0 {
        max_transfer
    } else {
        max_bytes
    };
    let blocks = (bytes >> shift).min(1 << 16);

    blocks << (shift - SECTOR_SHIFT)
}

/// Returns whether an SGL may describe the metadata of a request. If memory for the SGLs cannot be
/// allocated, the metadata of a request is one segment.
fn has_metadata_lists(ctrl: &Controller<'_>, config: &QueueConfig, identity: &Identity) -> bool {
    let allocate = || {
        ctrl.queues()
            .iter()
            .try_for_each(|queue| queue.allocate_metadata_lists())
    };

    identity.format.has_buffers() && config.sgl && ctrl.info.metadata_sgl && allocate().is_ok()
}

fn limits(
    ctrl: &Controller<'_>,
    config: &QueueConfig,
    page_size: usize,
    identity: &Identity,
) -> Result<Limits> {
    let shift = identity.shift;
    let info = &ctrl.info;
    let block = 1 << shift;
    let max_hw_bytes = u32::try_from(config.max_transfer)?;

    Ok(Limits {
        logical_block_size: block,
        max_hw_bytes,
        max_segments: u16::try_from(MAX_SEGMENTS)?,
        max_segment_size: u32::MAX,
        virt_boundary: if config.sgl {
            None
        } else {
            Some(u32::try_from(page_size)?)
        },
        dma_alignment: 3,
        max_discard_sectors: if info.discard {
            discard_sectors(info.max_discard, shift)
        } else {
            0
        },
        discard_granularity: if info.discard { block } else { 0 },
        max_write_zeroes_sectors: if info.write_zeroes {
            zeroes_sectors(info.max_zeroes, max_hw_bytes, shift)
        } else {
            0
        },
        write_cache: info.write_cache,
        fua: info.write_cache,
        p2p: ctrl.pdev.supports_p2p(),
        integrity: identity
            .format
            .integrity(has_metadata_lists(ctrl, config, identity)),
    })
}

/// Creates the disk of namespace `nsid`. Returns [`None`] if the namespace is not supported, or not
/// attached to this controller.
fn new_disk<'bound>(
    ctrl: &Arc<Controller<'bound>>,
    admin: &mut Admin<'bound>,
    config: &QueueConfig,
    nsid: u32,
    limit: &mut RateLimit,
) -> Result<Option<Disk<'bound, Namespace<'bound>>>> {
    let (status, data) = admin.identify(CNS_NAMESPACE, nsid)?;
    if !status.is_success() {
        if limit.allow() {
            dev_warn!(
                ctrl.dev(),
                "namespace {}: status {:#x}\n",
                nsid,
                status.raw()
            );
        }
        return Ok(None);
    }
    let mut identity = Identity::read(data)?;
    if identity.blocks == 0 {
        return Ok(None);
    }
    identity
        .format
        .identify_protection(admin, &ctrl.info, nsid)?;
    if !identity.is_supported(config.max_transfer) {
        if limit.allow() {
            dev_warn!(
                ctrl.dev(),
                "namespace {} not supported: {} blocks of 2^{} bytes and {} of metadata\n",
                nsid,
                identity.blocks,
                identity.shift,
                identity.format.size
            );
        }
        return Ok(None);
    }

    let limits = limits(ctrl, config, admin.caps.page_size(), &identity)?;
    let ns = KBox::new(
        Namespace {
            ctrl: ctrl.clone(),
            id: nsid,
            shift: identity.shift,
            format: identity.format,
            deallocate: identity.deallocate,
        },
        GFP_KERNEL,
    )?;

    // SAFETY: The disk is dropped on failure. Else it is stored in the controller, and dropped
    // before the device is unbound.
    let disk = unsafe {
        Disk::new(
            ctrl.dev(),
            fmt!("rnvme{}n{}", ctrl.index, nsid),
            &limits,
            identity.blocks << (identity.shift - SECTOR_SHIFT),
            ctrl.tags.clone(),
            ns,
        )
    };
    let disk = match disk {
        // The block layer may refuse other limits.
        Err(error) if error == EINVAL => {
            dev_warn!(ctrl.dev(), "namespace {} not supported\n", nsid);
            return Ok(None);
        }
        disk => disk?,
    };

    disk.set_read_only(identity.read_only);
    Ok(Some(disk))
}

/// Calls `f` with the id of each possible namespace, up to a limit.
fn for_each_nsid<'bound>(
    admin: &mut Admin<'bound>,
    max_nsid: u32,
    mut f: impl FnMut(&mut Admin<'bound>, u32) -> Result,
) -> Result {
    if max_nsid > MAX_SCAN {
        dev_warn!(
            admin.pdev,
            "no list of namespaces, only the first {MAX_SCAN} of {max_nsid} are scanned\n"
        );
    }
    (1..=max_nsid.min(MAX_SCAN)).try_for_each(|nsid| f(admin, nsid))
}

/// Calls `f` with the id of each namespace.
///
/// Identify returns ids in ascending order, and 0 at the end. Version 1.0 and some controllers
/// since have no list: then ids that are not in use have no blocks. Only the first list is read. It
/// has up to [`MAX_SCAN`] ids.
fn for_each_namespace<'bound>(
    admin: &mut Admin<'bound>,
    max_nsid: u32,
    mut f: impl FnMut(&mut Admin<'bound>, u32) -> Result,
) -> Result {
    let mut list = data_memory()?;
    let mut nsid = 0;

    const { assert!(MAX_SCAN as usize * size_of::<u32>() == ADMIN_BYTES) };
    if admin.caps.version < regs::VERSION_1_1 {
        return for_each_nsid(admin, max_nsid, f);
    }
    let (status, data) = admin.identify(CNS_ACTIVE, 0)?;
    if !status.is_success() {
        return for_each_nsid(admin, max_nsid, f);
    }
    list.copy_from_slice(data);
    for entry in list.chunks_exact(size_of::<u32>()) {
        let next = u32::from_le_bytes(bytes(entry, 0)?);

        if next == 0 {
            return Ok(());
        }
        if next <= nsid {
            return Err(EPROTO);
        }
        nsid = next;
        f(admin, nsid)?;
    }
    dev_warn!(
        admin.pdev,
        "no more than {MAX_SCAN} namespaces are scanned\n"
    );
    Ok(())
}

/// Creates and adds the disks of all namespaces.
///
/// All disks are created before the first one is added. Adding one may reset the controller, which
/// must not see a disk appear between quiesce and unquiesce.
///
/// # Errors
///
/// Disks that were created are removed with the controller.
pub(crate) fn add_disks(ctrl: &Arc<Controller<'_>>, config: &QueueConfig) -> Result {
    let mut disks = KVec::new();
    let mut limit = RateLimit::new();

    ctrl.with_state(|state| {
        for_each_namespace(&mut state.admin, ctrl.info.max_nsid, |admin, nsid| {
            if let Some(disk) = new_disk(ctrl, admin, config, nsid, &mut limit)? {
                disks.push(disk, GFP_KERNEL)?;
            }
            Ok(())
        })
    })?;
    let added = disks.iter().try_for_each(|disk| disk.add());

    // Also on failure: a disk that was added may have a program that waits for a command.
    ctrl.set_disks(disks);
    added
}

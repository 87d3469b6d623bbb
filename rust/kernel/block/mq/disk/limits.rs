// SPDX-License-Identifier: GPL-2.0

//! What a disk can do.

use crate::{
    bindings,
    block::{
        mq::gen_disk::GenDiskBuilder,
        SECTOR_SHIFT, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

/// What a [`Disk`](super::Disk) can do, and so which requests its driver is given.
///
/// The default is a disk of 512-byte blocks that can read and write, 128 KiB and 128 segments at
/// once, each of any size, and keeps what was written.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What each request is a multiple of, in bytes: a power of two from 512 to a page.
    pub logical_block_size: u32,
    /// The largest transfer, in bytes: a page or more.
    pub max_hw_bytes: u32,
    /// The most segments of a transfer, not 0.
    pub max_segments: u16,
    /// The largest of them, in bytes: a page or more.
    pub max_segment_size: u32,
    /// What all segments but the first start at a multiple of, and all but the last end at, in
    /// bytes: a power of two.
    pub virt_boundary: Option<u32>,
    /// The bits of an address in memory, and of a length there, that must be 0: a mask, less than a
    /// block.
    pub dma_alignment: u32,
    /// The most sectors of 512 bytes to discard at once; 0 where it cannot.
    pub max_discard_sectors: u32,
    /// How many bytes it discards, or not, together.
    pub discard_granularity: u32,
    /// The most sectors of 512 bytes to write zeroes to at once; 0 where it cannot.
    pub max_write_zeroes_sectors: u32,
    /// Whether what was written may be lost before it was flushed.
    pub write_cache: bool,
    /// Whether it can do [FUA](crate::block::mq::Request::fua), where it has a write cache.
    pub fua: bool,
    /// Whether the pages of a request may be another device's memory.
    pub p2p: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            logical_block_size: 512,
            max_hw_bytes: 128 << 10,
            max_segments: 128,
            max_segment_size: u32::MAX,
            virt_boundary: None,
            dma_alignment: 511,
            max_discard_sectors: 0,
            discard_granularity: 0,
            max_write_zeroes_sectors: 0,
            write_cache: false,
            fua: false,
            p2p: false,
        }
    }
}

impl Limits {
    /// Looks for what the block layer would warn of.
    fn check(&self) -> Result {
        let boundary = self.virt_boundary.unwrap_or(1);

        GenDiskBuilder::validate_block_size(self.logical_block_size)?;
        if (self.max_hw_bytes.min(self.max_segment_size) as usize) < PAGE_SIZE
            || self.max_segments == 0
            || !boundary.is_power_of_two()
            || self.dma_alignment >= self.logical_block_size
        {
            return Err(EINVAL);
        }
        Ok(())
    }

    pub(super) fn to_raw(&self) -> Result<bindings::queue_limits> {
        self.check()?;

        let features = [
            (self.write_cache, bindings::BLK_FEAT_WRITE_CACHE),
            (self.fua, bindings::BLK_FEAT_FUA),
            (self.p2p, bindings::BLK_FEAT_PCI_P2PDMA),
        ];

        Ok(bindings::queue_limits {
            features: features
                .iter()
                .filter(|(has, _)| *has)
                .fold(0, |features, (_, feature)| features | feature),
            logical_block_size: self.logical_block_size,
            max_hw_sectors: self.max_hw_bytes >> SECTOR_SHIFT,
            max_segments: self.max_segments,
            max_segment_size: self.max_segment_size,
            virt_boundary_mask: self
                .virt_boundary
                .map_or(0, |boundary| boundary as usize - 1),
            dma_alignment: self.dma_alignment,
            max_hw_discard_sectors: self.max_discard_sectors,
            discard_granularity: self.discard_granularity,
            max_write_zeroes_sectors: self.max_write_zeroes_sectors,
            ..pin_init::zeroed()
        })
    }
}

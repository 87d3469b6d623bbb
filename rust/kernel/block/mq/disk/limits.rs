// SPDX-License-Identifier: GPL-2.0

//! Limits and features of a disk.

use crate::{
    bindings,
    block::SECTOR_SHIFT,
    page::PAGE_SIZE,
    prelude::*, //
};

/// The checksum in the protection information of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// CRC-16 of T10. The protection information has 8 bytes.
    Crc,
    /// CRC-64 of NVM Express. The protection information has 16 bytes.
    Crc64,
}

impl Checksum {
    /// Returns the size of the protection information in bytes.
    pub const fn tuple_size(self) -> u8 {
        match self {
            Self::Crc => 8,
            Self::Crc64 => 16,
        }
    }

    fn to_raw(self) -> bindings::blk_integrity_checksum {
        match self {
            Self::Crc => bindings::blk_integrity_checksum_BLK_INTEGRITY_CSUM_CRC,
            Self::Crc64 => bindings::blk_integrity_checksum_BLK_INTEGRITY_CSUM_CRC64,
        }
    }
}

/// The metadata of a block, which is transferred from or to memory of its own.
///
/// If the metadata has protection information, the block layer generates and verifies it. If not,
/// the block layer writes zeroes, unless the submitter provides metadata.
#[derive(Debug, Clone)]
pub struct Integrity {
    /// Length of the metadata in bytes, not 0.
    pub metadata_size: u8,
    /// What is in the protection information, if there is any.
    pub checksum: Option<Checksum>,
    /// Offset of the protection information in the metadata, in bytes.
    pub pi_offset: u8,
    /// Length of the application tag in bytes.
    pub tag_size: u8,
    /// The protection information has a reference tag: the number of the block.
    pub ref_tag: bool,
    /// Maximum number of segments of the metadata of a transfer.
    pub max_segments: u16,
}

impl Integrity {
    /// The block layer supports metadata.
    pub const SUPPORTED: bool = cfg!(CONFIG_BLK_DEV_INTEGRITY);

    /// Checks for limits that the block layer would warn about.
    fn check(&self) -> Result {
        let pi = self.checksum.map_or(0, Checksum::tuple_size);

        if !Self::SUPPORTED
            || self.metadata_size == 0
            || self.max_segments == 0
            || u32::from(self.pi_offset) + u32::from(pi) > u32::from(self.metadata_size)
            || (self.checksum.is_none() && self.ref_tag)
        {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn to_raw(&self) -> bindings::blk_integrity {
        let mut flags = bindings::blk_integrity_flags_BLK_SPLIT_INTERVAL_CAPABLE;

        if self.checksum.is_some() {
            flags |= bindings::blk_integrity_flags_BLK_INTEGRITY_DEVICE_CAPABLE;
        }
        if self.ref_tag {
            flags |= bindings::blk_integrity_flags_BLK_INTEGRITY_REF_TAG;
        }
        bindings::blk_integrity {
            // CAST: There are fewer than 8 flags.
            flags: flags as u8,
            csum_type: self.checksum.map_or(
                bindings::blk_integrity_checksum_BLK_INTEGRITY_CSUM_NONE,
                Checksum::to_raw,
            ),
            metadata_size: self.metadata_size,
            pi_offset: self.pi_offset,
            tag_size: self.tag_size,
            pi_tuple_size: self.checksum.map_or(0, Checksum::tuple_size),
            ..pin_init::zeroed()
        }
    }
}

/// Limits and features of a [`Disk`](super::Disk), which the requests to its driver obey.
///
/// The default is a disk with blocks of 512 bytes and without a volatile write cache. It reads and
/// writes up to 128 KiB in up to 128 segments of any size.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Logical block size in bytes: a power of two, at least 512 and at most
    /// [`MAX_BLOCK_SIZE`](Self::MAX_BLOCK_SIZE).
    pub logical_block_size: u32,
    /// Maximum transfer in bytes: at least a page, and at least a block. It is rounded down to
    /// blocks.
    pub max_hw_bytes: u32,
    /// Maximum number of segments of a transfer, not 0.
    pub max_segments: u16,
    /// Maximum segment size in bytes: at least a page.
    pub max_segment_size: u32,
    /// A power of two in bytes: all segments but the first start at a multiple of it, and all but
    /// the last end at one.
    pub virt_boundary: Option<u32>,
    /// Mask of the bits that are 0 in the address and the length of a buffer; less than the logical
    /// block size.
    pub dma_alignment: u32,
    /// Maximum number of sectors of 512 bytes in one discard; 0 if discard is not supported.
    pub max_discard_sectors: u32,
    /// Discard granularity in bytes.
    pub discard_granularity: u32,
    /// Maximum number of sectors of 512 bytes in one write of zeroes; 0 if it is not supported.
    pub max_write_zeroes_sectors: u32,
    /// The disk has a volatile write cache.
    pub write_cache: bool,
    /// The disk supports [FUA](crate::block::mq::Request::fua), if it has a volatile write cache.
    pub fua: bool,
    /// The pages of a request may be another device's memory.
    pub p2p: bool,
    /// The metadata of the blocks, if there is any.
    pub integrity: Option<Integrity>,
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
            integrity: None,
        }
    }
}

impl Limits {
    /// Maximum logical block size in bytes: a page, or more if the block layer supports it.
    pub const MAX_BLOCK_SIZE: u32 = bindings::BLK_MAX_BLOCK_BYTES;

    /// Checks for limits that the block layer would warn about.
    fn check(&self) -> Result {
        let boundary = self.virt_boundary.unwrap_or(1);
        let block = self.logical_block_size;

        if !block.is_power_of_two()
            || !(512..=Self::MAX_BLOCK_SIZE).contains(&block)
            || block > self.max_hw_bytes
            || (self.max_hw_bytes.min(self.max_segment_size) as usize) < PAGE_SIZE
            || self.max_segments == 0
            || !boundary.is_power_of_two()
            || self.dma_alignment >= block
        {
            return Err(EINVAL);
        }
        self.integrity.as_ref().map_or(Ok(()), Integrity::check)
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
                .filter(|(supported, _)| *supported)
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
            max_integrity_segments: self.integrity.as_ref().map_or(0, |data| data.max_segments),
            integrity: self
                .integrity
                .as_ref()
                .map_or_else(pin_init::zeroed, Integrity::to_raw),
            ..pin_init::zeroed()
        })
    }
}

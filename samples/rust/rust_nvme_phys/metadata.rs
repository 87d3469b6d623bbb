// SPDX-License-Identifier: GPL-2.0

//! Metadata of blocks, and protection information in it (NVM Express 1.4, sections 5.15.2.1, 8.3;
//! NVM Command Set 1.0, section 5.3).
//!
//! Metadata is in a buffer of its own, which the block layer provides. Without one, the controller
//! inserts and strips protection information, if that is all the metadata.
//!
//! It is one segment, or several if the controller supports an SGL for it.

use kernel::{
    block::mq::{
        Checksum,
        Integrity,
        Request, //
    },
    prelude::*, //
};

use crate::{
    block::Namespace,
    command::{
        nvm,
        Command, //
    },
    controller::Admin,
    identify::{
        bytes,
        Info,
        CNS_COMMAND_SET_NAMESPACE, //
    },
    regs::{
        high,
        low, //
    },
    request::Payload, //
};

/// Bits of the number of a block in a reference tag of 48 bits.
const REF_TAG_48: u64 = (1 << 48) - 1;

/// Maximum number of segments of metadata that an SGL describes.
const MAX_SEGMENTS: u16 = 8;

/// Protection information of blocks.
#[derive(Clone, Copy)]
struct Protection {
    /// Its type: 1 to 3. Types 1 and 2 have a reference tag.
    kind: u8,
    checksum: Checksum,
    /// Offset in the metadata.
    offset: u8,
}

impl Protection {
    fn has_ref_tag(&self) -> bool {
        self.kind != 3
    }

    /// Returns the length of the application tag, to which type 3 adds the reference tag.
    fn tag_size(&self) -> u8 {
        match (self.has_ref_tag(), self.checksum) {
            (true, _) => 2,
            (false, Checksum::Crc) => 2 + 4,
            (false, Checksum::Crc64) => 2 + 6,
        }
    }
}

/// The metadata of the blocks of a namespace.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Length in bytes, 0 if there is none.
    pub(crate) size: u16,
    /// It follows the data of each block.
    extended: bool,
    /// Index of the format of blocks.
    index: usize,
    /// DPS: type and place of protection information.
    settings: u8,
    protection: Option<Protection>,
}

/// Returns the checksum of format `index` from the Identify data of a namespace for the NVM command
/// set; [`None`] if it is another one, or if a part of the reference tag is a storage tag.
fn read_checksum(data: &[u8], index: usize) -> Result<Option<Checksum>> {
    let [pic] = bytes(data, 8)?;
    let format = u32::from_le_bytes(bytes(data, 12 + 4 * index)?);
    // PIF, or QPIF if PIF refers to that.
    let guard = match format >> 7 & 0x3 {
        3 if pic & 1 << 3 != 0 => format >> 9 & 0xf,
        guard => guard,
    };

    Ok(match guard {
        _ if format & 0x7f != 0 => None,
        0 => Some(Checksum::Crc),
        2 => Some(Checksum::Crc64),
        _ => None,
    })
}

impl Format {
    /// Derives the format from the Identify data of a namespace, with format `index` of blocks that
    /// have `size` bytes of metadata. There is no protection information yet.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the data is too short.
    pub(crate) fn read(data: &[u8], index: usize, size: u16) -> Result<Self> {
        let [flbas] = bytes(data, 26)?;
        let [dps] = bytes(data, 29)?;

        Ok(Self {
            size,
            extended: flbas & 1 << 4 != 0,
            index,
            settings: dps,
            protection: None,
        })
    }

    /// Adds the protection information of namespace `nsid`.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::identify`].
    pub(crate) fn identify_protection(
        &mut self,
        admin: &mut Admin<'_>,
        info: &Info,
        nsid: u32,
    ) -> Result {
        let mut checksum = Some(Checksum::Crc);

        if self.size != 0 && info.extended_formats {
            let (status, data) = admin.identify(CNS_COMMAND_SET_NAMESPACE, nsid)?;

            if status.is_success() {
                checksum = read_checksum(data, self.index)?;
            }
        }
        self.protection = checksum.and_then(|checksum| self.protection_with(checksum));
        Ok(())
    }

    /// Returns the protection information with `checksum`, if it is enabled and fits.
    fn protection_with(&self, checksum: Checksum) -> Option<Protection> {
        let kind = self.settings & 0x7;
        let rest = self.size.checked_sub(checksum.tuple_size().into())?;
        // It is at the start or at the end of the metadata.
        let offset = match self.settings & 1 << 3 {
            0 => rest,
            _ => 0,
        };

        (1..=3).contains(&kind).then_some(Protection {
            kind,
            checksum,
            // Larger metadata is not supported.
            offset: offset.try_into().ok()?,
        })
    }

    /// Returns the protection information if it is all the metadata.
    fn only_protection(&self) -> Option<Protection> {
        self.protection
            .filter(|pi| u16::from(pi.checksum.tuple_size()) == self.size)
    }

    /// Returns whether the block layer provides buffers for the metadata.
    pub(crate) fn has_buffers(&self) -> bool {
        self.size != 0 && !self.extended && Integrity::SUPPORTED
    }

    /// Returns whether the namespace can be a disk.
    pub(crate) fn is_supported(&self) -> bool {
        // The address of metadata is aligned to 4 bytes. A profile has 8 bits for the size.
        let has_valid_buffers = self.has_buffers() && self.size % 4 == 0 && self.size <= 0xff;

        self.size == 0 || has_valid_buffers || self.only_protection().is_some()
    }

    /// Returns the integrity profile of the disk. If `sgl`, an SGL may describe the metadata of a
    /// request.
    pub(crate) fn integrity(&self, sgl: bool) -> Option<Integrity> {
        if !self.has_buffers() {
            return None;
        }
        Some(Integrity {
            metadata_size: self.size.try_into().ok()?,
            checksum: self.protection.map(|pi| pi.checksum),
            pi_offset: self.protection.map_or(0, |pi| pi.offset),
            tag_size: self.protection.map_or(0, |pi| pi.tag_size()),
            ref_tag: self.protection.is_some_and(|pi| pi.has_ref_tag()),
            max_segments: if sgl { MAX_SEGMENTS } else { 1 },
        })
    }
}

impl<'bound> Namespace<'bound> {
    /// Sets the reference tag of the first block, if there is one.
    fn set_ref_tag(&self, rq: &Request<Self>, command: &mut Command) {
        let (first, _) = self.blocks(rq);

        match self.format.protection.filter(Protection::has_ref_tag) {
            Some(pi) if pi.checksum == Checksum::Crc64 => {
                command.dwords[4] = low(first & REF_TAG_48);
                command.dword3 = high(first & REF_TAG_48);
            }
            Some(_) => command.dwords[4] = low(first),
            None => {}
        }
    }

    /// Makes the controller insert or strip protection information. Returns whether it can.
    pub(crate) fn set_protection_action(&self, rq: &Request<Self>, command: &mut Command) -> bool {
        if self.format.only_protection().is_none() {
            return false;
        }
        command.dwords[2] |= nvm::PRACT;
        self.set_ref_tag(rq, command);
        true
    }

    /// Adds the fields for metadata to a Read or Write command.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the request has no metadata, and the controller cannot insert it.
    #[cold]
    pub(crate) fn set_metadata(
        &self,
        rq: &Request<Self>,
        command: &mut Command,
    ) -> Result<Payload> {
        let Some(checks) = rq.integrity_checks() else {
            if !self.set_protection_action(rq, command) {
                return Err(EOPNOTSUPP);
            }
            return Ok(Payload::Data);
        };

        if checks.guard {
            command.dwords[2] |= nvm::CHECK_GUARD;
        }
        if checks.ref_tag {
            command.dwords[2] |= nvm::CHECK_REF_TAG;
            self.set_ref_tag(rq, command);
        }
        if let Some(tag) = checks.app_tag {
            command.dwords[2] |= nvm::CHECK_APP_TAG;
            // The upper half is the mask of the bits to check.
            command.dwords[5] = 0xffff << 16 | u32::from(tag);
        }
        Ok(Payload::DataAndMetadata)
    }
}

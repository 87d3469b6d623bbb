// SPDX-License-Identifier: GPL-2.0

//! Commands and completions (NVM Express 1.4, sections 4.2, 4.6).

use kernel::prelude::*;

/// Opcodes of admin commands.
pub(crate) mod admin {
    pub(crate) const CREATE_SQ: u8 = 0x01;
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const CREATE_CQ: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const GET_FEATURES: u8 = 0x0a;
}

/// Opcodes of the NVM command set.
pub(crate) mod nvm {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const WRITE_UNCORRECTABLE: u8 = 0x04;
    pub(crate) const COMPARE: u8 = 0x05;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;
    pub(crate) const VERIFY: u8 = 0x0c;

    /// In dword 12: force unit access.
    pub(crate) const FUA: u32 = 1 << 30;
    /// In dword 12: the controller inserts and strips protection information.
    pub(crate) const PRACT: u32 = 1 << 29;
    /// In dword 12: the controller checks the guard.
    pub(crate) const CHECK_GUARD: u32 = 1 << 28;
    /// In dword 12: the controller checks the application tag.
    pub(crate) const CHECK_APP_TAG: u32 = 1 << 27;
    /// In dword 12: the controller checks the reference tag.
    pub(crate) const CHECK_REF_TAG: u32 = 1 << 26;
    /// In dword 12 of Write Zeroes: the blocks may be deallocated.
    pub(crate) const DEALLOCATE: u32 = 1 << 25;
    /// In dword 11 of Dataset Management: deallocate the ranges.
    pub(crate) const ATTRIBUTE_DEALLOCATE: u32 = 1 << 2;
}

/// The data pointer of a command.
#[derive(Clone, Copy, Default)]
pub(crate) struct Data {
    /// Two PRP entries, or one SGL descriptor.
    pub(crate) words: [u64; 2],
    pub(crate) kind: Psdt,
}

/// What the data pointer of a command and its metadata pointer are.
#[derive(Clone, Copy, Default)]
#[repr(u8)]
pub(crate) enum Psdt {
    /// PRP entries, and an address.
    #[default]
    Prp = 0,
    /// An SGL descriptor, and an address.
    Sgl = 1,
    /// An SGL descriptor, and the address of one.
    SglMetadata = 2,
}

impl Data {
    /// Creates a data pointer of PRP entries. `second` is the next page or a list of further pages.
    pub(crate) fn prps(first: u64, second: u64) -> Self {
        Self {
            words: [first, second],
            kind: Psdt::Prp,
        }
    }
}

/// A submission queue entry without its command id.
#[derive(Clone, Copy, Default)]
pub(crate) struct Command {
    pub(crate) opcode: u8,
    pub(crate) nsid: u32,
    pub(crate) dword3: u32,
    /// DMA address of the metadata, or of an SGL for it.
    pub(crate) metadata: u64,
    pub(crate) data: Data,
    /// Dwords 10 to 15.
    pub(crate) dwords: [u32; 6],
}

impl Command {
    /// Returns the entry as little-endian words.
    pub(crate) fn entry(&self, cid: u16) -> [u64; 8] {
        // PSDT, bits 15:14.
        let flags = (self.data.kind as u32) << 14;
        let first = u32::from(self.opcode) | flags | u32::from(cid) << 16;
        let [dptr_lo, dptr_hi] = self.data.words;
        let [dw10, dw11, dw12, dw13, dw14, dw15] = self.dwords;

        [
            join(first, self.nsid),
            join(0, self.dword3),
            self.metadata,
            dptr_lo,
            dptr_hi,
            join(dw10, dw11),
            join(dw12, dw13),
            join(dw14, dw15),
        ]
        .map(u64::to_le)
    }
}

/// Joins two successive dwords.
fn join(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

/// Status codes for which the block layer has an error.
mod status {
    pub(super) const INVALID_OPCODE: u16 = 0x001;
    pub(super) const INVALID_FIELD: u16 = 0x002;
    pub(super) const INVALID_NS: u16 = 0x00b;
    pub(super) const CMD_INTERRUPTED: u16 = 0x021;
    pub(super) const LBA_RANGE: u16 = 0x080;
    pub(super) const CAP_EXCEEDED: u16 = 0x081;
    pub(super) const NS_NOT_READY: u16 = 0x082;
    pub(super) const RESERVATION_CONFLICT: u16 = 0x083;
    pub(super) const BAD_ATTRIBUTES: u16 = 0x180;
    pub(super) const INVALID_PI: u16 = 0x181;
    pub(super) const READ_ONLY: u16 = 0x182;
    pub(super) const WRITE_FAULT: u16 = 0x280;
    pub(super) const READ_ERROR: u16 = 0x281;
    pub(super) const GUARD_CHECK: u16 = 0x282;
    pub(super) const APPTAG_CHECK: u16 = 0x283;
    pub(super) const REFTAG_CHECK: u16 = 0x284;
    pub(super) const COMPARE_FAILED: u16 = 0x285;
    pub(super) const ACCESS_DENIED: u16 = 0x286;
    pub(super) const UNWRITTEN_BLOCK: u16 = 0x287;
    pub(super) const HOST_PATH_ERROR: u16 = 0x370;
}

/// The status field of a completion, without the phase bit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u16);

impl Status {
    pub(crate) const SUCCESS: Self = Self(0);
    /// The driver has cancelled the command; no controller reports this.
    pub(crate) const HOST_ABORTED: Self = Self(0x371);

    const CODE: u16 = 0x7ff;
    const DO_NOT_RETRY: u16 = 0x4000;
    const RETRY_DELAY_SHIFT: u32 = 11;

    /// Returns whether the command succeeded.
    pub(crate) fn is_success(self) -> bool {
        self.0 & Self::CODE == 0
    }

    /// Extracts the status from dword 3 of a completion. Other fields of it have a meaning only if
    /// there is an error.
    pub(crate) fn from_completion(word: u32) -> Self {
        // CAST: The value has 15 bits.
        let status = Self((word >> 17) as u16);

        match status.is_success() {
            true => Self::SUCCESS,
            false => status,
        }
    }

    pub(crate) fn from_raw(raw: u32) -> Self {
        // CAST: The value is from `raw()`.
        Self(raw as u16)
    }

    pub(crate) fn raw(self) -> u32 {
        self.0.into()
    }

    /// Returns whether the command may succeed if it is retried. DNR is set for permanent errors.
    pub(crate) fn is_retryable(self) -> bool {
        self.0 & Self::DO_NOT_RETRY == 0
    }

    /// Returns which of the delays of the controller a retry needs (CRD): 1 to 3, or 0 for none.
    pub(crate) fn retry_delay(self) -> usize {
        usize::from(self.0 >> Self::RETRY_DELAY_SHIFT & 0x3)
    }

    /// Converts the status into an error for the block layer.
    pub(crate) fn to_result(self) -> Result {
        match self.0 & Self::CODE {
            0 => Ok(()),
            status::UNWRITTEN_BLOCK
            | status::WRITE_FAULT
            | status::READ_ERROR
            | status::COMPARE_FAILED
            | status::ACCESS_DENIED
            | status::READ_ONLY => Err(ENODATA),
            status::GUARD_CHECK
            | status::APPTAG_CHECK
            | status::REFTAG_CHECK
            | status::INVALID_PI => Err(EILSEQ),
            status::LBA_RANGE | status::CMD_INTERRUPTED | status::NS_NOT_READY => Err(EREMOTEIO),
            status::INVALID_OPCODE
            | status::INVALID_FIELD
            | status::INVALID_NS
            | status::BAD_ATTRIBUTES => Err(EOPNOTSUPP),
            status::RESERVATION_CONFLICT => Err(EBADE),
            status::CAP_EXCEEDED => Err(ENOSPC),
            status::HOST_PATH_ERROR => Err(ENOLINK),
            _ => Err(EIO),
        }
    }
}

/// A completion queue entry.
pub(crate) struct Completion {
    pub(crate) cid: u16,
    pub(crate) status: Status,
    /// Dword 0.
    pub(crate) result: u32,
}

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
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;

    /// In dword 12: force unit access.
    pub(crate) const FUA: u32 = 1 << 30;
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
    /// It is an SGL descriptor.
    pub(crate) sgl: bool,
}

impl Data {
    /// Creates a data pointer of PRP entries. `second` is the next page or a list of further pages.
    pub(crate) fn prps(first: u64, second: u64) -> Self {
        Self {
            words: [first, second],
            sgl: false,
        }
    }
}

/// A submission queue entry without its command id.
#[derive(Clone, Copy, Default)]
pub(crate) struct Command {
    pub(crate) opcode: u8,
    pub(crate) nsid: u32,
    pub(crate) data: Data,
    /// Dwords 10 to 15.
    pub(crate) dwords: [u32; 6],
}

impl Command {
    /// Returns the entry as little-endian words.
    pub(crate) fn entry(&self, cid: u16) -> [u64; 8] {
        // PSDT, bits 15:14: the data pointer is an SGL.
        let flags = u32::from(self.data.sgl) << 14;
        let first = u32::from(self.opcode) | flags | u32::from(cid) << 16;
        let [dptr_lo, dptr_hi] = self.data.words;
        let [dw10, dw11, dw12, dw13, dw14, dw15] = self.dwords;

        [
            join(first, self.nsid),
            0,
            0,
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

/// The status field of a completion, without the phase bit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u16);

impl Status {
    pub(crate) const SUCCESS: Self = Self(0);
    /// The driver has cancelled the command; no controller reports this.
    pub(crate) const HOST_ABORTED: Self = Self(0x371);

    const INVALID_OPCODE: u16 = 0x001;
    const INVALID_FIELD: u16 = 0x002;
    const LBA_RANGE: u16 = 0x080;
    const CAPACITY_EXCEEDED: u16 = 0x081;
    const WRITE_FAULT: u16 = 0x280;
    const READ_ERROR: u16 = 0x281;

    const CODE: u16 = 0x7ff;
    const DO_NOT_RETRY: u16 = 0x4000;

    /// Returns whether the command succeeded.
    pub(crate) fn is_success(self) -> bool {
        self.0 & Self::CODE == 0
    }

    /// Extracts the status from dword 3 of a completion.
    pub(crate) fn from_completion(word: u32) -> Self {
        // CAST: The value has 15 bits.
        Self((word >> 17) as u16)
    }

    pub(crate) fn from_raw(raw: u32) -> Self {
        // CAST: The value is from `raw()`.
        Self(raw as u16)
    }

    pub(crate) fn raw(self) -> u32 {
        self.0.into()
    }

    /// Returns whether the command may succeed if it is retried. Media errors are permanent.
    pub(crate) fn is_retryable(self) -> bool {
        self.0 & Self::DO_NOT_RETRY == 0
            && !matches!(self.0 & Self::CODE, Self::WRITE_FAULT | Self::READ_ERROR)
    }

    /// Converts the status into an error for the block layer.
    pub(crate) fn to_result(self) -> Result {
        match self.0 & Self::CODE {
            0 => Ok(()),
            Self::INVALID_OPCODE | Self::INVALID_FIELD => Err(EOPNOTSUPP),
            Self::CAPACITY_EXCEEDED => Err(ENOSPC),
            Self::LBA_RANGE => Err(EREMOTEIO),
            _ if self == Self::HOST_ABORTED => Err(ETIMEDOUT),
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

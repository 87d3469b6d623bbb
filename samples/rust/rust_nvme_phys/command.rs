// SPDX-License-Identifier: GPL-2.0

//! Entries of the queues: commands and how they end (NVM Express 1.4, sections 4.2, 4.6).

use kernel::prelude::*;

/// Commands of the admin queue.
pub(crate) mod admin {
    pub(crate) const CREATE_SQ: u8 = 0x01;
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const CREATE_CQ: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const GET_FEATURES: u8 = 0x0a;
}

/// Commands of the NVM command set.
pub(crate) mod nvm {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;

    /// In the third double word of a command that writes: what it writes stays.
    pub(crate) const FUA: u32 = 1 << 30;
    /// The same for Write Zeroes: the blocks may be deallocated.
    pub(crate) const DEALLOCATE: u32 = 1 << 25;
    /// In the second double word of Dataset Management: the ranges are not needed any more.
    pub(crate) const ATTRIBUTE_DEALLOCATE: u32 = 1 << 2;
}

/// What a command points at.
#[derive(Clone, Copy, Default)]
pub(crate) struct Data {
    /// Two PRP entries, or one SGL descriptor.
    pub(crate) words: [u64; 2],
    /// Which of them.
    pub(crate) sgl: bool,
}

impl Data {
    /// Data that starts at `first`; `second` is its next page, or the list of its other pages.
    pub(crate) fn prps(first: u64, second: u64) -> Self {
        Self {
            words: [first, second],
            sgl: false,
        }
    }
}

/// One submission queue entry, before it is given an identifier.
#[derive(Clone, Copy, Default)]
pub(crate) struct Command {
    pub(crate) opcode: u8,
    pub(crate) nsid: u32,
    pub(crate) data: Data,
    /// Double words 10 to 15.
    pub(crate) dwords: [u32; 6],
}

impl Command {
    /// The entry as it lies in memory.
    pub(crate) fn entry(&self, cid: u16) -> [u64; 8] {
        // Bits 15 and 14: SGL descriptors for the data.
        let flags = u32::from(self.data.sgl) << 14;
        let first = u32::from(self.opcode) | flags | u32::from(cid) << 16;
        let [data, more] = self.data.words;
        let [dw10, dw11, dw12, dw13, dw14, dw15] = self.dwords;

        [
            both(first, self.nsid),
            0,
            0,
            data,
            more,
            both(dw10, dw11),
            both(dw12, dw13),
            both(dw14, dw15),
        ]
        .map(u64::to_le)
    }
}

/// Two double words that follow each other.
fn both(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

/// How a command ended: status code and its type, and what else is in that word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u16);

impl Status {
    pub(crate) const SUCCESS: Self = Self(0);
    /// The driver has taken the command back; the controller says something else.
    pub(crate) const TAKEN_BACK: Self = Self(0x371);

    const INVALID_OPCODE: u16 = 0x001;
    const INVALID_FIELD: u16 = 0x002;
    const LBA_RANGE: u16 = 0x080;
    const CAPACITY_EXCEEDED: u16 = 0x081;
    const WRITE_FAULT: u16 = 0x280;
    const READ_ERROR: u16 = 0x281;

    const CODE: u16 = 0x7ff;
    const DO_NOT_RETRY: u16 = 0x4000;

    /// Whether all went well.
    pub(crate) fn is_success(self) -> bool {
        self.0 & Self::CODE == 0
    }

    /// From the last double word of a completion; its lowest bit above the identifier is the phase.
    pub(crate) fn from_completion(word: u32) -> Self {
        // CAST: 15 bits are left.
        Self((word >> 17) as u16)
    }

    pub(crate) fn from_raw(raw: u32) -> Self {
        // CAST: It came from `raw()`.
        Self(raw as u16)
    }

    pub(crate) fn raw(self) -> u32 {
        self.0.into()
    }

    /// Whether it may go better another time. What the medium has lost does not come back.
    pub(crate) fn is_worth_a_try(self) -> bool {
        self.0 & Self::DO_NOT_RETRY == 0
            && !matches!(self.0 & Self::CODE, Self::WRITE_FAULT | Self::READ_ERROR)
    }

    /// As the block layer knows it.
    pub(crate) fn to_result(self) -> Result {
        match self.0 & Self::CODE {
            0 => Ok(()),
            Self::INVALID_OPCODE | Self::INVALID_FIELD => Err(EOPNOTSUPP),
            Self::CAPACITY_EXCEEDED => Err(ENOSPC),
            Self::LBA_RANGE => Err(EREMOTEIO),
            _ if self == Self::TAKEN_BACK => Err(ETIMEDOUT),
            _ => Err(EIO),
        }
    }
}

/// One completion queue entry.
pub(crate) struct Completion {
    pub(crate) cid: u16,
    pub(crate) status: Status,
    /// What the command returns.
    pub(crate) result: u32,
}

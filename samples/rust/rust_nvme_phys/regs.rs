// SPDX-License-Identifier: GPL-2.0

//! The controller's registers (NVM Express 1.4, section 3.1).
//!
//! 64-bit registers are accessed as two halves, which the specification allows and which also works
//! on 32-bit machines.

use kernel::{
    io::{
        register,
        Io, //
    },
    pci,
    prelude::*, //
};

/// Offset where the fixed registers end and the doorbells start.
pub(crate) const END: usize = 0x1000;

/// BAR 0 of the controller.
pub(crate) type Regs<'a> = pci::Bar<'a, END>;

/// Value of every register if the device was removed.
pub(crate) const ALL_ONES: u32 = !0;

register! {
    /// Controller capabilities, low half.
    pub(crate) CAP_LO(u32) @ 0x00 {
        /// Time limit for enabling and disabling, in units of 500 ms.
        31:24 to;
        /// Maximum queue depth, minus one.
        15:0 mqes;
    }

    /// Controller capabilities, high half.
    pub(crate) CAP_HI(u32) @ 0x04 {
        /// `CRTO` has the time limit for enabling.
        27:27 crwms => bool;
        /// `CMBMSC` enables the controller memory buffer and its registers.
        25:25 cmbs => bool;
        /// Minimum memory page size, as a power of two above 4 KiB.
        19:16 mpsmin;
        /// The NVM command set is supported.
        5:5 css_nvm => bool;
        /// Distance between doorbells, as a power of two above 4 bytes.
        3:0 dstrd;
    }

    /// Version.
    pub(crate) VS(u32) @ 0x08 {}

    /// Controller configuration.
    pub(crate) CC(u32) @ 0x14 {
        /// Completion queue entry size, as a power of two.
        23:20 iocqes;
        /// Submission queue entry size, as a power of two.
        19:16 iosqes;
        /// Shutdown notification.
        15:14 shn;
        /// Memory page size, as a power of two above 4 KiB.
        10:7 mps;
        /// Enable.
        0:0 en => bool;
    }

    /// Controller status.
    pub(crate) CSTS(u32) @ 0x1c {
        /// Shutdown status.
        3:2 shst;
        /// Fatal error.
        1:1 cfs => bool;
        /// Ready.
        0:0 rdy => bool;
    }

    /// Admin queue attributes: depth of both queues, minus one.
    pub(crate) AQA(u32) @ 0x24 {
        27:16 acqs;
        11:0 asqs;
    }

    /// Admin submission queue address, low half.
    pub(crate) ASQ_LO(u32) @ 0x28 {}

    /// Admin submission queue address, high half.
    pub(crate) ASQ_HI(u32) @ 0x2c {}

    /// Admin completion queue address, low half.
    pub(crate) ACQ_LO(u32) @ 0x30 {}

    /// Admin completion queue address, high half.
    pub(crate) ACQ_HI(u32) @ 0x34 {}

    /// Controller memory buffer location.
    pub(crate) CMBLOC(u32) @ 0x38 {
        /// Offset in the BAR, in units of `CMBSZ.szu`.
        31:12 ofst;
        /// Index of the BAR.
        2:0 bir;
    }

    /// Controller memory buffer size.
    pub(crate) CMBSZ(u32) @ 0x3c {
        /// Size, in units of `szu`.
        31:12 sz;
        /// Unit, as a power of 16 above 4 KiB.
        11:8 szu;
        /// Supports data that the controller reads, such as that of writes.
        4:4 wds => bool;
        /// Supports data that the controller writes, such as that of reads.
        3:3 rds => bool;
    }

    /// Controller memory buffer memory space control, low half.
    pub(crate) CMBMSC_LO(u32) @ 0x50 {
        /// Bus address of the buffer, bits 31 to 12.
        31:12 cba;
        /// The controller recognises addresses in its own buffer.
        1:1 cmse => bool;
        /// `CMBLOC` and `CMBSZ` are valid.
        0:0 cre => bool;
    }

    /// Controller memory buffer memory space control, high half: the rest of the bus address.
    pub(crate) CMBMSC_HI(u32) @ 0x54 {}

    /// Controller ready timeouts.
    pub(crate) CRTO(u32) @ 0x68 {
        /// Time limit for enabling, in units of 500 ms.
        15:0 crwmt;
    }
}

/// Returns the low half of a 64-bit value.
pub(crate) fn low(value: u64) -> u32 {
    // CAST: The upper half is dropped.
    value as u32
}

/// Returns the high half of a 64-bit value.
pub(crate) fn high(value: u64) -> u32 {
    // CAST: The value has 32 bits.
    (value >> 32) as u32
}

/// Offset of `CMBMSC_LO`.
pub(crate) const CMBMSC: usize = 0x50;

/// `VS` of version 1.1.
pub(crate) const VERSION_1_1: u32 = 1 << 16 | 1 << 8;

/// `VS` of version 1.2.
pub(crate) const VERSION_1_2: u32 = 1 << 16 | 2 << 8;

/// `CC.SHN`: a normal shutdown.
pub(crate) const SHN_NORMAL: u32 = 1;

/// `CSTS.SHST`: the shutdown is complete.
pub(crate) const SHST_COMPLETE: u32 = 2;

/// Returns the offset of the tail doorbell of submission queue `qid`.
pub(crate) fn sq_doorbell(qid: u16, dstrd: u32) -> usize {
    END + ((2 * usize::from(qid)) << (2 + dstrd))
}

/// Returns the offset of the head doorbell of completion queue `qid`.
pub(crate) fn cq_doorbell(qid: u16, dstrd: u32) -> usize {
    END + ((2 * usize::from(qid) + 1) << (2 + dstrd))
}

/// Returns the controller status; [`ENODEV`] if the device was removed.
pub(crate) fn status(regs: &Regs<'_>) -> Result<CSTS> {
    let csts = regs.read(CSTS);

    if csts.into_raw() == ALL_ONES {
        return Err(ENODEV);
    }
    Ok(csts)
}

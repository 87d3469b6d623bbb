// SPDX-License-Identifier: GPL-2.0

//! Identification of a controller: its limits and features.

use kernel::{
    prelude::*,
    sizes::SZ_1M,
    time::Delta, //
};

use crate::{
    command::{
        admin,
        Command,
        Status, //
    },
    controller::{
        Admin,
        Caps, //
    },
    regs, //
};

/// Maximum length of the data of a request, in bytes.
const MAX_TRANSFER: usize = SZ_1M;

/// `CNS` of Identify: a namespace.
pub(crate) const CNS_NAMESPACE: u32 = 0;
/// `CNS` of Identify: the controller.
const CNS_CONTROLLER: u32 = 1;
/// `CNS` of Identify: ids of active namespaces above the given one.
pub(crate) const CNS_ACTIVE: u32 = 2;
/// `CNS` of Identify: limits of the controller for a command set. That of NVM has identifier 0.
const CNS_COMMAND_SET: u32 = 6;
/// `CNS` of Identify: a namespace, for a command set.
pub(crate) const CNS_COMMAND_SET_NAMESPACE: u32 = 5;
/// Maximum delay of a retry, in units of 100 ms.
const MAX_DELAY_UNITS: u16 = 100;
/// Feature id of Host Behavior Support.
const FEATURE_HOST_BEHAVIOR: u32 = 0x16;

/// Limits and features of a controller, from its Identify data.
#[derive(Clone, Copy)]
pub(crate) struct Info {
    /// Maximum transfer in bytes.
    pub(crate) max_transfer: usize,
    /// SGL descriptors are supported.
    pub(crate) sgl: bool,
    /// There is a volatile write cache.
    pub(crate) write_cache: bool,
    /// Dataset Management is supported.
    pub(crate) discard: bool,
    /// Write Zeroes is supported.
    pub(crate) write_zeroes: bool,
    /// Maximum number of blocks of a discard, 0 if there is no limit.
    pub(crate) max_discard: u32,
    /// Maximum number of bytes of Write Zeroes, 0 if there is no limit.
    pub(crate) max_zeroes: u32,
    /// An SGL may describe metadata.
    pub(crate) metadata_sgl: bool,
    /// Formats of namespaces may have other protection information than that with a 16-bit guard.
    pub(crate) extended_formats: bool,
    /// The highest namespace id.
    pub(crate) max_nsid: u32,
    /// Delays of retries, indexed by the CRD of a status.
    pub(crate) retry_delays: [Delta; 4],
    /// Time limit for a shutdown.
    pub(crate) shutdown_timeout: Delta,
}

impl Info {
    /// Derives the limits from the Identify data of the controller.
    fn read(caps: &Caps, data: &[u8]) -> Result<Self> {
        let [mdts] = bytes(data, 77)?;
        let [vwc] = bytes(data, 525)?;
        let ctratt = u32::from_le_bytes(bytes(data, 96)?);
        let oncs = u16::from_le_bytes(bytes(data, 520)?);
        let sgls = u32::from_le_bytes(bytes(data, 536)?);
        // RTD3E is in microseconds, 0 if not reported.
        let shutdown_ms = i64::from(u32::from_le_bytes(bytes(data, 88)?) / 1000);
        // In units of 100 ms. CRD is 0 if there is no delay. The removal of a disk waits for it.
        let delay = |offset| {
            let units = u16::from_le_bytes(bytes(data, offset)?);
            Ok::<_, Error>(Delta::from_millis(
                100 * i64::from(units.min(MAX_DELAY_UNITS)),
            ))
        };

        Ok(Self {
            // 0 is no limit.
            max_transfer: match mdts {
                0 => MAX_TRANSFER,
                _ => MAX_TRANSFER.min(caps.page_units(mdts) as usize),
            },
            // Data is aligned to 4 bytes, so either kind of support suffices.
            sgl: matches!(sgls & 3, 1 | 2),
            write_cache: vwc & 1 << 0 != 0,
            discard: oncs & 1 << 2 != 0,
            write_zeroes: oncs & 1 << 3 != 0,
            max_discard: 0,
            max_zeroes: 0,
            metadata_sgl: sgls & 1 << 19 != 0,
            extended_formats: ctratt & 1 << 15 != 0,
            max_nsid: u32::from_le_bytes(bytes(data, 516)?),
            retry_delays: [Delta::ZERO, delay(128)?, delay(130)?, delay(132)?],
            shutdown_timeout: Delta::from_millis(shutdown_ms.clamp(5_000, 60_000)),
        })
    }

    /// Clears the delays of retries unless the controller uses them.
    pub(crate) fn set_delays_used(&mut self, used: bool) {
        if !used {
            self.retry_delays = [Delta::ZERO; 4];
        }
    }

    /// Derives the limits of the NVM command set from its Identify data. That of the number of
    /// ranges (DMRL) does not matter: a command has one range.
    fn read_nvm(&mut self, caps: &Caps, data: &[u8]) -> Result {
        let [wzsl] = bytes(data, 1)?;

        self.max_discard = u32::from_le_bytes(bytes(data, 4)?);
        if wzsl != 0 {
            self.max_zeroes = caps.page_units(wzsl);
        }
        Ok(())
    }
}

impl Admin<'_> {
    /// Executes an Identify command. Returns its status and data.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], with the controller disabled.
    pub(crate) fn identify(&mut self, cns: u32, nsid: u32) -> Result<(Status, &[u8])> {
        let command = Command {
            opcode: admin::IDENTIFY,
            nsid,
            dwords: [cns, 0, 0, 0, 0, 0],
            ..Command::default()
        };

        self.transfer(command, &[])
    }

    /// Identifies the controller, and derives its limits.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::identify`], and `EIO` if the status is not success.
    pub(crate) fn identify_controller(&mut self) -> Result<Info> {
        let caps = self.caps;
        let (status, data) = self.identify(CNS_CONTROLLER, 0)?;
        if !status.is_success() {
            return Err(EIO);
        }
        let mut info = Info::read(&caps, data)?;

        // Until version 1.2 CNS was a smaller field.
        if caps.version >= regs::VERSION_1_2 {
            let (status, data) = self.identify(CNS_COMMAND_SET, 0)?;

            // A controller that is older than this data structure has no limits.
            if status.is_success() {
                info.read_nvm(&caps, data)?;
            }
        }
        Ok(info)
    }

    /// Enables delays of retries, which the controller does not keep over a reset. It uses them
    /// only then. Returns whether it does: it may have none, or refuse.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], with the controller disabled.
    pub(crate) fn set_host_behavior(&mut self, info: &Info) -> Result<bool> {
        if info.retry_delays.iter().all(|delay| delay.is_zero()) {
            return Ok(false);
        }
        let command = Command {
            opcode: admin::SET_FEATURES,
            dwords: [FEATURE_HOST_BEHAVIOR, 0, 0, 0, 0, 0],
            ..Command::default()
        };

        // The first byte is ACRE.
        let (status, _) = self.transfer(command, &[1])?;
        Ok(status.is_success())
    }
}

/// Returns `N` bytes of Identify data.
pub(crate) fn bytes<const N: usize>(data: &[u8], offset: usize) -> Result<[u8; N]> {
    let end = offset.checked_add(N).ok_or(EINVAL)?;

    data.get(offset..end)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(EINVAL)
}

// SPDX-License-Identifier: GPL-2.0

//! ioctl(2) on a disk: what nvme-cli asks a controller.
//!
//! Only commands that read, and whose length of data is known: it must be the caller's. The
//! controller gets a whole buffer of the kernel's in any case.

use kernel::{
    cred::Capability,
    ioctl::{
        _IO,
        _IOWR, //
    },
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use crate::{
    block::Namespace,
    command::{
        admin,
        Command,
        Status, //
    },
    controller::{
        data_memory,
        Answer,
        ADMIN_BYTES, //
    }, //
};

/// A command, as user space gives it: the part that is in all kinds.
#[repr(C)]
#[derive(Clone, Copy)]
struct PassthruCmd {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    addr: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    /// The result where that has 32 bits.
    last: u32,
}

// SAFETY: It is made of numbers.
unsafe impl FromBytes for PassthruCmd {}
// SAFETY: It is made of numbers, and has no padding: its size is the sum of theirs.
unsafe impl AsBytes for PassthruCmd {}

/// The same, where the result has 64 bits, which follow.
#[repr(C)]
#[derive(Clone, Copy)]
struct PassthruCmd64 {
    cmd: PassthruCmd,
    result: u64,
}

const ID: u32 = _IO(b'N' as u32, 0x40);
const ADMIN_CMD: u32 = _IOWR::<PassthruCmd>(b'N' as u32, 0x41);
const ADMIN64_CMD: u32 = _IOWR::<PassthruCmd64>(b'N' as u32, 0x47);

/// Offset of the 32-bit result.
const RESULT: usize = core::mem::offset_of!(PassthruCmd, last);
/// Offset of the 64-bit result.
const RESULT64: usize = core::mem::offset_of!(PassthruCmd64, result);

impl PassthruCmd {
    /// How much data it returns, or why it is not done.
    fn data_bytes(&self) -> Result<usize> {
        match self.opcode {
            admin::IDENTIFY => Ok(ADMIN_BYTES),
            admin::GET_LOG_PAGE => {
                let last = u64::from(self.cdw11 & 0xffff) << 16 | u64::from(self.cdw10 >> 16);
                let bytes = usize::try_from(4 * (last + 1))?;

                if bytes > ADMIN_BYTES {
                    return Err(EINVAL);
                }
                Ok(bytes)
            }
            admin::GET_FEATURES => self.feature_bytes(),
            _ => Err(EPERM),
        }
    }

    /// Some features have data; others are not for us.
    fn feature_bytes(&self) -> Result<usize> {
        // What can be done with a feature is told without data.
        if self.cdw10 >> 8 & 0x7 == 3 {
            return Ok(0);
        }
        match self.cdw10 & 0xff {
            // LBA ranges, host memory buffer.
            0x03 | 0x0d => Ok(4096),
            // Autonomous power states.
            0x0c => Ok(256),
            // Timestamp.
            0x0e => Ok(8),
            // Host behaviour.
            0x16 => Ok(512),
            // Arbitration to events, keep alive to recovery level, sanitize, software progress.
            0x01 | 0x02 | 0x04..=0x0b | 0x0f..=0x12 | 0x17 | 0x80 => Ok(0),
            _ => Err(EPERM),
        }
    }

    fn check(&self) -> Result {
        let bytes = self.data_bytes()?;

        if self.flags != 0
            || self.cdw2 != 0
            || self.cdw3 != 0
            || self.metadata != 0
            || self.metadata_len != 0
            || self.data_len as usize != bytes
        {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn command(&self) -> Command {
        Command {
            opcode: self.opcode,
            nsid: self.nsid,
            dwords: [
                self.cdw10, self.cdw11, self.cdw12, self.cdw13, self.cdw14, self.cdw15,
            ],
            ..Command::default()
        }
    }

    /// Has the controller do it; a controller that does not answer is reset, as its requests need
    /// it.
    fn run(&self, ns: &Namespace<'_>) -> Result<Answer> {
        let memory = data_memory()?;
        let (answer, data) = ns.ctrl.with_life(|life| {
            if !life.admin.is_running() {
                return Err(ENODEV);
            }
            let answer = life.admin.read(self.command(), memory);
            if !life.admin.is_running() {
                ns.ctrl.reset(life);
            }
            answer
        })?;

        if answer.status == Status::SUCCESS {
            let data = data.get(..self.data_len as usize).ok_or(EINVAL)?;
            let addr = usize::try_from(self.addr)?;

            UserSlice::new(UserPtr::from_addr(addr), data.len())
                .writer()
                .write_slice(data)?;
        }
        Ok(answer)
    }
}

/// An admin command, whose result of `bytes` bytes is at offset `result` of what `arg` points at.
fn admin_command(ns: &Namespace<'_>, arg: usize, result: usize, bytes: usize) -> Result<c_int> {
    let user = UserPtr::from_addr(arg);

    if !Capability::SysAdmin.of_current() {
        return Err(EACCES);
    }
    let cmd: PassthruCmd = UserSlice::new(user, size_of::<PassthruCmd>())
        .reader()
        .read()?;
    cmd.check()?;
    let answer = cmd.run(ns)?;

    let value = u64::from(answer.result).to_ne_bytes();
    let value32 = answer.result.to_ne_bytes();
    UserSlice::new(user.wrapping_byte_add(result), bytes)
        .writer()
        .write_slice(if bytes == value.len() {
            &value
        } else {
            &value32
        })?;
    Ok(c_int::try_from(answer.status.raw())?)
}

/// Answers an ioctl: with 0, the number of the namespace, or the status of the command.
///
/// # Errors
///
/// - `ENOTTY` where there is no such command;
/// - `EACCES` where the caller is not privileged;
/// - `EPERM` for an opcode or a feature that is not offered;
/// - `EINVAL` for a length that is not the command's, or where other fields are not 0;
/// - `EFAULT` for bad memory of the caller's;
/// - `ENODEV` where the device is gone, or does not run;
/// - `EIO`, `ETIMEDOUT` where it failed, and was reset.
pub(crate) fn ioctl(ns: &Namespace<'_>, cmd: u32, arg: usize) -> Result<c_int> {
    match cmd {
        ID if ns.ctrl.is_dead() => Err(ENODEV),
        ID => Ok(c_int::try_from(ns.id)?),
        ADMIN_CMD => admin_command(ns, arg, RESULT, size_of::<u32>()),
        ADMIN64_CMD => admin_command(ns, arg, RESULT64, size_of::<u64>()),
        _ => Err(ENOTTY),
    }
}

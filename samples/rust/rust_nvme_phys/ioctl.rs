// SPDX-License-Identifier: GPL-2.0

//! ioctl(2) on a disk: admin commands of nvme-cli. Its I/O commands are in `passthru.rs`.
//!
//! Only admin commands that return data of known length are passed through, and the caller must
//! pass that length. The controller always writes to a whole buffer of the kernel.

use kernel::{
    block::mq::OpenDisk,
    cred::Capability,
    ioctl::{
        _IO,
        _IOW,
        _IOWR, //
    },
    prelude::*,
    time::Delta,
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
    admin::{
        admin_timeout,
        data_memory,
        AdminResult,
        ADMIN_BYTES, //
    },
    block::Namespace,
    command::{
        admin,
        Command,
        Status, //
    },
    passthru,
    regs::{
        high,
        low, //
    }, //
};

/// `struct nvme_passthru_cmd`, which is also the start of `struct nvme_passthru_cmd64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PassthruCmd {
    pub(crate) opcode: u8,
    flags: u8,
    reserved: u16,
    pub(crate) nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    pub(crate) addr: u64,
    metadata_len: u32,
    pub(crate) data_len: u32,
    pub(crate) cdw10: u32,
    cdw11: u32,
    pub(crate) cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    pub(crate) timeout_ms: u32,
    /// The result if it has 32 bits, else reserved.
    result: u32,
}

// SAFETY: All fields are integers, for which any bytes are valid.
unsafe impl FromBytes for PassthruCmd {}
// SAFETY: All fields are integers. Their sizes add up to that of the struct, so there is no
// padding.
unsafe impl AsBytes for PassthruCmd {}

/// `struct nvme_passthru_cmd64`: the result has 64 bits.
#[repr(C)]
#[derive(Clone, Copy)]
struct PassthruCmd64 {
    cmd: PassthruCmd,
    result: u64,
}

/// `struct nvme_user_io`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct UserIo {
    pub(crate) opcode: u8,
    flags: u8,
    control: u16,
    nblocks: u16,
    reserved: u16,
    metadata: u64,
    addr: u64,
    slba: u64,
    dsmgmt: u32,
    reftag: u32,
    apptag: u16,
    appmask: u16,
}

// SAFETY: All fields are integers, for which any bytes are valid.
unsafe impl FromBytes for UserIo {}

impl UserIo {
    /// Converts it into the other structure, with the length of the data of its blocks.
    pub(crate) fn into_passthru(self, ns: &Namespace<'_>) -> PassthruCmd {
        PassthruCmd {
            opcode: self.opcode,
            flags: self.flags,
            reserved: 0,
            nsid: ns.id,
            cdw2: 0,
            cdw3: 0,
            metadata: self.metadata,
            addr: self.addr,
            metadata_len: 0,
            // A length that does not fit is more than a command can transfer, and is refused.
            data_len: (u32::from(self.nblocks) + 1)
                .checked_mul(1 << ns.shift)
                .unwrap_or(0),
            cdw10: low(self.slba),
            cdw11: high(self.slba),
            cdw12: u32::from(self.nblocks) | u32::from(self.control) << 16,
            cdw13: self.dsmgmt,
            cdw14: self.reftag,
            cdw15: u32::from(self.apptag) | u32::from(self.appmask) << 16,
            timeout_ms: 0,
            result: 0,
        }
    }
}

const ID: u32 = _IO(b'N' as u32, 0x40);
const ADMIN_CMD: u32 = _IOWR::<PassthruCmd>(b'N' as u32, 0x41);
const SUBMIT_IO: u32 = _IOW::<UserIo>(b'N' as u32, 0x42);
const IO_CMD: u32 = _IOWR::<PassthruCmd>(b'N' as u32, 0x43);
const ADMIN64_CMD: u32 = _IOWR::<PassthruCmd64>(b'N' as u32, 0x47);
const IO64_CMD: u32 = _IOWR::<PassthruCmd64>(b'N' as u32, 0x48);

/// Offset of the 32-bit result.
const RESULT: usize = core::mem::offset_of!(PassthruCmd, result);
/// Offset of the 64-bit result.
const RESULT64: usize = core::mem::offset_of!(PassthruCmd64, result);

impl PassthruCmd {
    /// Returns the length of the data, or why the command is refused.
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

    /// Returns the length of the data of Get Features.
    fn feature_bytes(&self) -> Result<usize> {
        // Supported capabilities (SEL is 3) are returned in dword 0.
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
            // Arbitration to asynchronous events, keep alive to read recovery level, sanitize
            // config, software progress.
            0x01 | 0x02 | 0x04..=0x0b | 0x0f..=0x12 | 0x17 | 0x80 => Ok(0),
            _ => Err(EPERM),
        }
    }

    /// Returns whether a field is set that is reserved, or not supported.
    pub(crate) fn has_reserved(&self) -> bool {
        self.flags != 0
            || self.cdw2 != 0
            || self.cdw3 != 0
            || self.metadata != 0
            || self.metadata_len != 0
    }

    fn check(&self) -> Result {
        let bytes = self.data_bytes()?;

        if self.has_reserved() || self.data_len as usize != bytes {
            return Err(EINVAL);
        }
        Ok(())
    }

    pub(crate) fn command(&self) -> Command {
        Command {
            opcode: self.opcode,
            nsid: self.nsid,
            dwords: [
                self.cdw10, self.cdw11, self.cdw12, self.cdw13, self.cdw14, self.cdw15,
            ],
            ..Command::default()
        }
    }

    /// Returns the time limit of the caller, or else the usual one.
    fn timeout(&self) -> Delta {
        match self.timeout_ms {
            0 => admin_timeout(),
            timeout_ms => Delta::from_millis(timeout_ms.into()),
        }
    }

    /// Executes the command.
    fn run(&self, ns: &Namespace<'_>) -> Result<AdminResult> {
        let mut memory = data_memory()?;
        let result = ns
            .ctrl
            .admin_user(self.command(), self.timeout(), &mut memory)?;

        if result.status == Status::SUCCESS {
            let data = memory.get(..self.data_len as usize).ok_or(EINVAL)?;
            let addr = usize::try_from(self.addr)?;

            UserSlice::new(UserPtr::from_addr(addr), data.len())
                .writer()
                .write_slice(data)?;
        }
        Ok(result)
    }
}

/// Reads the command at address `arg`, executes it with `run`, and writes its result. That has
/// `bytes` bytes at `offset`.
fn command(
    arg: usize,
    offset: usize,
    bytes: usize,
    run: impl FnOnce(&PassthruCmd) -> Result<AdminResult>,
) -> Result<c_int> {
    let user = UserPtr::from_addr(arg);
    let cmd: PassthruCmd = UserSlice::new(user, size_of::<PassthruCmd>())
        .reader()
        .read()?;
    let result = run(&cmd)?;

    let value = u64::from(result.result).to_ne_bytes();
    let value32 = result.result.to_ne_bytes();
    UserSlice::new(user.wrapping_byte_add(offset), bytes)
        .writer()
        .write_slice(if bytes == value.len() {
            &value
        } else {
            &value32
        })?;
    Ok(c_int::try_from(result.status.raw())?)
}

fn admin_command(ns: &Namespace<'_>, cmd: &PassthruCmd) -> Result<AdminResult> {
    cmd.check()?;
    cmd.run(ns)
}

/// The commands of the NVM command set that are passed through have no result.
fn io_command<'bound>(
    ns: &Namespace<'bound>,
    disk: &OpenDisk<'_, Namespace<'bound>>,
    cmd: &PassthruCmd,
) -> Result<AdminResult> {
    Ok(AdminResult {
        status: passthru::io_command(ns, disk, cmd)?,
        result: 0,
    })
}

/// Handles an ioctl. Returns the namespace id, or the status of the command.
///
/// # Errors
///
/// - `ENOTTY` if there is no such ioctl;
/// - `EACCES` if the caller is not privileged;
/// - `EPERM` if the opcode or the feature is not passed through;
/// - `EINVAL` if the length is not that of the command, or reserved fields are not 0;
/// - `EFAULT` if the address is invalid;
/// - `EINTR` if it was interrupted while another command was executed;
/// - `ENODEV` if the controller is gone or does not run;
/// - `EIO`, `ETIMEDOUT` if the controller failed and was reset, or it was stopped.
pub(crate) fn ioctl<'bound>(
    ns: &Namespace<'bound>,
    disk: &OpenDisk<'_, Namespace<'bound>>,
    cmd: u32,
    arg: usize,
) -> Result<c_int> {
    match cmd {
        ID if ns.ctrl.has_failed() => return Err(ENODEV),
        ID => return Ok(c_int::try_from(ns.id)?),
        SUBMIT_IO | IO_CMD | IO64_CMD | ADMIN_CMD | ADMIN64_CMD => {}
        _ => return Err(ENOTTY),
    }
    if !Capability::SysAdmin.of_current() {
        return Err(EACCES);
    }

    let admin = |cmd: &PassthruCmd| admin_command(ns, cmd);
    let io = |cmd: &PassthruCmd| io_command(ns, disk, cmd);
    match cmd {
        SUBMIT_IO => Ok(passthru::submit_io(ns, disk, arg)?.raw().try_into()?),
        IO_CMD => command(arg, RESULT, size_of::<u32>(), io),
        IO64_CMD => command(arg, RESULT64, size_of::<u64>(), io),
        ADMIN_CMD => command(arg, RESULT, size_of::<u32>(), admin),
        _ => command(arg, RESULT64, size_of::<u64>(), admin),
    }
}

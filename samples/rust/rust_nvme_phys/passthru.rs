// SPDX-License-Identifier: GPL-2.0

//! ioctl(2) on a disk: I/O commands of nvme-cli.
//!
//! Only commands whose data has a known length are passed through, and the caller must pass that
//! length: the controller transfers to the memory of the caller, and to nothing else.

use kernel::{
    block::mq::{
        DriverRequest,
        OpenDisk,
        Request, //
    },
    prelude::*,
    sync::atomic::Relaxed,
    time::Delta,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

use crate::{
    block::Namespace,
    command::{
        nvm,
        Command,
        Status, //
    },
    ioctl::{
        PassthruCmd,
        UserIo, //
    },
    request::Payload, //
};

/// Returns the length of the data of the command, or why it is refused.
fn data_bytes(ns: &Namespace<'_>, cmd: &PassthruCmd) -> Result<u64> {
    match cmd.opcode {
        // The number of blocks is 0's based.
        nvm::READ | nvm::WRITE | nvm::COMPARE => {
            Ok((u64::from(cmd.cdw12 & 0xffff) + 1) << ns.shift)
        }
        nvm::FLUSH | nvm::WRITE_ZEROES | nvm::VERIFY | nvm::WRITE_UNCORRECTABLE => Ok(0),
        // Ranges of 16 bytes, the number of which is 0's based.
        nvm::DATASET_MANAGEMENT => Ok((u64::from(cmd.cdw10 & 0xff) + 1) * 16),
        _ => Err(EPERM),
    }
}

fn check(ns: &Namespace<'_>, cmd: &PassthruCmd) -> Result {
    let bytes = data_bytes(ns, cmd)?;
    let transfers_blocks = matches!(cmd.opcode, nvm::READ | nvm::WRITE | nvm::COMPARE);

    // The controller would transfer the metadata of blocks, too.
    if transfers_blocks && ns.format.size != 0 {
        return Err(EINVAL);
    }
    if cmd.has_reserved() || u64::from(cmd.data_len) != bytes || cmd.nsid != ns.id {
        return Err(EINVAL);
    }
    Ok(())
}

/// Executes the I/O command of a program, and returns its status.
///
/// # Errors
///
/// - `ENODEV` if the controller has failed, or the disk is being removed;
/// - `EPERM` if the opcode is not passed through;
/// - `EINVAL` if the command is invalid, see [`check`], or its data exceeds the limits of the disk;
/// - `EFAULT`, `ENOMEM` if the data cannot be mapped;
/// - `EIO` if the controller has failed and was reset, or was stopped.
pub(crate) fn io_command<'bound>(
    ns: &Namespace<'bound>,
    disk: &OpenDisk<'_, Namespace<'bound>>,
    cmd: &PassthruCmd,
) -> Result<Status> {
    if ns.ctrl.has_failed() {
        return Err(ENODEV);
    }
    check(ns, cmd)?;

    let command = KBox::new(cmd.command(), GFP_KERNEL)?;
    // Bit 0 of an opcode: data from host to controller.
    let mut rq = DriverRequest::new(disk, cmd.opcode & 1 << 0 != 0)?;
    if cmd.data_len != 0 {
        let addr = UserPtr::from_addr(usize::try_from(cmd.addr)?);

        rq.map_user(addr, cmd.data_len as usize)?;
    }

    let data = rq.data();
    data.status.store(Status::SUCCESS.raw(), Relaxed);
    // The command of an earlier request was taken out, so this is not expected.
    data.command.put(command).map_err(|_| EBUSY)?;
    let timeout = (cmd.timeout_ms != 0).then(|| Delta::from_millis(cmd.timeout_ms.into()));
    let result = rq.execute(timeout);

    let data = rq.data();
    drop(data.command.take());
    match Status::from_raw(data.status.load(Relaxed)) {
        Status::SUCCESS => result.map(|()| Status::SUCCESS),
        Status::HOST_ABORTED => Err(EIO),
        status => Ok(status),
    }
}

/// Executes the command at address `arg`, of `NVME_IOCTL_SUBMIT_IO`.
///
/// # Errors
///
/// Those of [`io_command`], and `EINVAL` if it does not transfer blocks.
pub(crate) fn submit_io<'bound>(
    ns: &Namespace<'bound>,
    disk: &OpenDisk<'_, Namespace<'bound>>,
    arg: usize,
) -> Result<Status> {
    let io: UserIo = UserSlice::new(UserPtr::from_addr(arg), size_of::<UserIo>())
        .reader()
        .read()?;

    if !matches!(io.opcode, nvm::READ | nvm::WRITE | nvm::COMPARE) {
        return Err(EINVAL);
    }
    io_command(ns, disk, &io.into_passthru(ns))
}

impl<'bound> Namespace<'bound> {
    /// Returns the command of a program, which it has stored in the data of its request.
    pub(crate) fn user_command(
        &self,
        rq: &Request<Self>,
        command: &mut Command,
    ) -> Result<Payload> {
        let stored = rq.data().command.take().ok_or(EIO)?;

        *command = *stored;
        // It stays there: the request may be queued again. The slot was just emptied.
        let _ = rq.data().command.put(stored);
        Ok(match rq.bytes() {
            0 => Payload::None,
            _ => Payload::Data,
        })
    }
}

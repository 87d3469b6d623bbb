// SPDX-License-Identifier: GPL-2.0

//! Disks, and what becomes of their requests.
//!
//! A request is mapped, described and submitted in `queue_rq()`. It is unmapped and then completed
//! when the controller is done with it, or by who took the controller its memory away.

use kernel::{
    block::{
        mq::{
            self,
            Disk,
            DiskOperations,
            Limits,
            Operations,
            Request,
            Timeout,
            TimeoutOperations, //
        },
        SECTOR_SHIFT, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

use crate::{
    command::{
        nvm,
        Command,
        Data,
        Status, //
    },
    controller::{
        bytes,
        Admin,
        CNS_ACTIVE,
        CNS_NAMESPACE,
        MAX_SEGMENTS, //
    },
    ioctl,
    life::Controller,
    queue::{
        List,
        Queue,
        Shape, //
    },
    regs::{
        high,
        low, //
    }, //
};

/// How often a request is tried again.
const TRIES: u32 = 3;

/// The largest number that there is a namespace after.
const NSID_LAST: u32 = u32::MAX - 2;

/// A namespace of a controller, which is a disk.
pub(crate) struct Namespace<'bound> {
    pub(crate) ctrl: Arc<Controller<'bound>>,
    pub(crate) id: u32,
    /// A block has so many bits of bytes.
    shift: u32,
    /// Blocks that are zeroed may be deallocated.
    deallocate: bool,
}

type Rq<'bound> = ARef<Request<Namespace<'bound>>>;

impl<'bound> Namespace<'bound> {
    /// The blocks of a request: the first one and their number.
    fn blocks(&self, rq: &Request<Self>) -> (u64, u32) {
        (
            rq.sector() >> (self.shift - SECTOR_SHIFT),
            rq.bytes() >> self.shift,
        )
    }

    /// A command on the blocks of a request.
    fn on_blocks(&self, rq: &Request<Self>, opcode: u8) -> Command {
        let (first, count) = self.blocks(rq);
        let fua = if rq.fua() { nvm::FUA } else { 0 };

        Command {
            opcode,
            nsid: self.id,
            // The count starts at 0, and has 16 bits: a transfer is no larger.
            dwords: [
                low(first),
                high(first),
                count.wrapping_sub(1) & 0xffff | fua,
                0,
                0,
                0,
            ],
            ..Command::default()
        }
    }

    fn flush(&self) -> Command {
        Command {
            opcode: nvm::FLUSH,
            nsid: self.id,
            ..Command::default()
        }
    }

    fn write_zeroes(&self, rq: &Request<Self>) -> Command {
        let mut command = self.on_blocks(rq, nvm::WRITE_ZEROES);

        if self.deallocate && !rq.no_unmap() {
            command.dwords[2] |= nvm::DEALLOCATE;
        }
        command
    }

    fn discard(&self, rq: &Request<Self>, list: List<'_>) -> Result<Command> {
        let (first, count) = self.blocks(rq);

        // One range: attributes, length and start.
        list.set(0, u64::from(count) << 32)?;
        list.set(1, first)?;
        Ok(Command {
            opcode: nvm::DATASET_MANAGEMENT,
            nsid: self.id,
            data: Data::prps(list.address(), 0),
            // The number of ranges starts at 0.
            dwords: [0, nvm::ATTRIBUTE_DEALLOCATE, 0, 0, 0, 0],
        })
    }

    /// The command for `rq`, and whether that has data.
    fn command(&self, queue: &Queue<'bound>, rq: &Request<Self>) -> Result<(Command, bool)> {
        Ok(match rq.command() {
            mq::Command::Read => (self.on_blocks(rq, nvm::READ), true),
            mq::Command::Write => (self.on_blocks(rq, nvm::WRITE), true),
            mq::Command::Flush => (self.flush(), false),
            mq::Command::Discard => (self.discard(rq, queue.list(rq.tag())?)?, false),
            mq::Command::WriteZeroes => (self.write_zeroes(rq), false),
            mq::Command::Other => return Err(EOPNOTSUPP),
        })
    }
}

#[vtable]
impl<'bound> Operations for Namespace<'bound> {
    type QueueData = KBox<Self>;

    // An error gives the request back: whoever holds it lets go of it first.
    #[inline]
    fn queue_rq(ns: &Self, rq: Rq<'bound>, is_last: bool) -> Result {
        if ns.ctrl.is_dead() {
            return Err(EIO);
        }

        let queue = ns.ctrl.queue(rq.queue_index()).ok_or(EIO)?;
        let (command, has_data) = ns.command(queue, &rq)?;

        queue.submit(rq, command, has_data, is_last)
    }

    fn commit_rqs(ns: &Self) {
        // It is not told which queue it is: rarely called, and quick where there is nothing to do.
        for queue in ns.ctrl.queues() {
            queue.ring();
        }
    }

    fn complete(rq: Rq<'bound>) {
        completed(rq);
    }
}

/// Ends a request, or has it tried again. The controller is done with it, and its data unmapped.
pub(crate) fn completed(rq: Rq<'_>) {
    let ns = rq.queue_data();
    let status = Status::from_raw(rq.note());

    // Nobody else refers to the request, so that these do not fail.
    let _ = match status.to_result() {
        Ok(()) => Request::end(rq, Ok(())),
        Err(_) if ns.ctrl.is_dead() => Request::end(rq, Err(EIO)),
        Err(_) if status.is_worth_a_try() && rq.tries() < TRIES => Request::requeue(rq),
        error => Request::end(rq, error),
    };
}

impl TimeoutOperations for Namespace<'_> {
    fn timeout(ns: &Self, queue: u32, tag: u32) -> Timeout {
        ns.ctrl.timeout(queue, tag)
    }
}

impl DiskOperations for Namespace<'_> {
    fn ioctl(ns: &Self, cmd: u32, arg: usize) -> Result<c_int> {
        ioctl::ioctl(ns, cmd, arg)
    }
}

/// What a namespace says about itself.
struct Identity {
    blocks: u64,
    shift: u32,
    metadata: u16,
    deallocate: bool,
}

impl Identity {
    fn read(admin: &mut Admin<'_>, nsid: u32) -> Result<Self> {
        let data = admin.identify(CNS_NAMESPACE, nsid)?;
        let [flbas] = bytes(&data, 26)?;
        let [dlfeat] = bytes(&data, 33)?;
        let [low, high, shift, _] = bytes(&data, 128 + 4 * usize::from(flbas & 0xf))?;

        Ok(Self {
            blocks: u64::from_le_bytes(bytes(&data, 0)?),
            shift: shift.into(),
            metadata: u16::from_le_bytes([low, high]),
            // Deallocated blocks read as zeroes, and Write Zeroes may make them.
            deallocate: dlfeat & 0x7 == 1 && dlfeat & 1 << 3 != 0,
        })
    }

    /// Whether it can be a disk: the block layer has blocks of a page at most, and transfers of a
    /// page at least.
    fn is_usable(&self, max_transfer: usize) -> bool {
        self.shift >= SECTOR_SHIFT
            && 1usize
                .checked_shl(self.shift)
                .is_some_and(|block| block <= PAGE_SIZE)
            && max_transfer >= PAGE_SIZE
            && self.metadata == 0
            && self.blocks != 0
            && self.blocks <= (i64::MAX as u64) >> self.shift
    }
}

fn limits(ctrl: &Controller<'_>, shape: &Shape, page_size: usize, shift: u32) -> Result<Limits> {
    let block = 1 << shift;
    let max_hw_bytes = u32::try_from(shape.max_transfer)?;
    // What has no data is told in blocks.
    let most = (u32::MAX >> shift) << (shift - SECTOR_SHIFT);

    Ok(Limits {
        logical_block_size: block,
        max_hw_bytes,
        max_segments: u16::try_from(MAX_SEGMENTS)?,
        max_segment_size: u32::MAX,
        virt_boundary: if shape.sgl {
            None
        } else {
            Some(u32::try_from(page_size)?)
        },
        dma_alignment: 3,
        max_discard_sectors: if ctrl.info.discard { most } else { 0 },
        discard_granularity: if ctrl.info.discard { block } else { 0 },
        // The largest transfer is no limit here, but a command should not take long.
        max_write_zeroes_sectors: if ctrl.info.write_zeroes {
            max_hw_bytes >> SECTOR_SHIFT
        } else {
            0
        },
        write_cache: ctrl.info.write_cache,
        fua: ctrl.info.write_cache,
        p2p: true,
    })
}

/// Makes a disk of namespace `nsid`. One that is of no use to us is no failure.
fn new_disk<'bound>(
    ctrl: &Arc<Controller<'bound>>,
    admin: &mut Admin<'bound>,
    shape: &Shape,
    nsid: u32,
) -> Result<Option<Disk<'bound, Namespace<'bound>>>> {
    let identity = match Identity::read(admin, nsid) {
        // The controller works, and does not know it.
        Err(error) if error == EIO && admin.is_running() => return Ok(None),
        identity => identity?,
    };
    if !identity.is_usable(shape.max_transfer) {
        dev_warn!(
            ctrl.dev(),
            "namespace {} is no disk: {} blocks of 2^{} bytes and {} of metadata\n",
            nsid,
            identity.blocks,
            identity.shift,
            identity.metadata
        );
        return Ok(None);
    }

    let limits = limits(ctrl, shape, admin.caps.page_size(), identity.shift)?;
    let ns = KBox::new(
        Namespace {
            ctrl: ctrl.clone(),
            id: nsid,
            shift: identity.shift,
            deallocate: identity.deallocate,
        },
        GFP_KERNEL,
    )?;

    // SAFETY: It is kept by the controller until that is unbound, or dropped before.
    let disk = unsafe {
        Disk::new(
            ctrl.dev(),
            fmt!("rnvme{}n{}", ctrl.index, nsid),
            &limits,
            identity.blocks << (identity.shift - SECTOR_SHIFT),
            ctrl.tags.clone(),
            ns,
        )
    };
    match disk {
        // There may be more that the block layer does not work with.
        Err(error) if error == EINVAL => {
            dev_warn!(ctrl.dev(), "namespace {} is no disk\n", nsid);
            Ok(None)
        }
        disk => disk.map(Some),
    }
}

/// Calls `f` with the number of each namespace.
///
/// The list has the numbers above the one asked for, and ends with 0.
fn for_each_namespace<'bound>(
    admin: &mut Admin<'bound>,
    mut f: impl FnMut(&mut Admin<'bound>, u32) -> Result,
) -> Result {
    let mut nsid = 0;

    loop {
        let list = admin.identify(CNS_ACTIVE, nsid)?;
        for entry in list.chunks_exact(4) {
            let next = u32::from_le_bytes(bytes(entry, 0)?);

            if next == 0 {
                return Ok(());
            }
            if next <= nsid {
                return Err(EPROTO);
            }
            nsid = next;
            f(admin, nsid)?;
        }
        if nsid >= NSID_LAST {
            return Ok(());
        }
    }
}

/// Finds the namespaces, and makes a disk of each.
///
/// All are made before the first one is added, and may cause a reset: that finds the same disks at
/// its begin and its end.
pub(crate) fn add_disks(ctrl: &Arc<Controller<'_>>, shape: &Shape) -> Result {
    let mut disks = KVec::new();

    ctrl.with_life(|life| {
        for_each_namespace(&mut life.admin, |admin, nsid| {
            if let Some(disk) = new_disk(ctrl, admin, shape, nsid)? {
                disks.push(disk, GFP_KERNEL)?;
            }
            Ok(())
        })
    })?;
    for disk in &disks {
        disk.add()?;
    }
    ctrl.has_disks(disks);
    Ok(())
}

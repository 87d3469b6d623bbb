// SPDX-License-Identifier: GPL-2.0

//! Disks and their requests.
//!
//! `queue_rq()` maps a request, writes its command and submits it. The request is unmapped and
//! completed when the controller has completed it, or after the controller was disabled.

use kernel::{
    block::{
        mq::{
            self,
            Disk,
            DiskOperations,
            Limits,
            Operations,
            Request,
            RequestList,
            Timeout,
            TimeoutOperations, //
        },
        SECTOR_SHIFT, //
    },
    dma::phys::MappableData,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
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
    queue::{
        List,
        Queue,
        QueueConfig, //
    },
    recovery::Controller,
    regs::{
        high,
        low, //
    }, //
};

/// Maximum number of retries of a request.
const MAX_RETRIES: u32 = 3;

/// The last namespace id for which Identify returns the following ones.
const NSID_LAST: u32 = u32::MAX - 2;

/// A namespace of a controller, which is a disk.
pub(crate) struct Namespace<'bound> {
    pub(crate) ctrl: Arc<Controller<'bound>>,
    pub(crate) id: u32,
    /// Binary logarithm of the block size in bytes.
    shift: u32,
    /// Write Zeroes may deallocate blocks.
    deallocate: bool,
}

type Rq<'bound> = ARef<Request<Namespace<'bound>>>;

impl<'bound> Namespace<'bound> {
    /// Returns the first block of a request, and the number of blocks.
    fn blocks(&self, rq: &Request<Self>) -> (u64, u32) {
        (
            rq.sector() >> (self.shift - SECTOR_SHIFT),
            rq.bytes() >> self.shift,
        )
    }

    /// Writes a command for the blocks of a request.
    #[inline]
    fn block_command(&self, rq: &Request<Self>, opcode: u8, command: &mut Command) {
        let (first, count) = self.blocks(rq);
        let fua = if rq.fua() { nvm::FUA } else { 0 };

        command.opcode = opcode;
        command.dwords[0] = low(first);
        command.dwords[1] = high(first);
        // The count is 0's based. It has 16 bits, which limit the transfer.
        command.dwords[2] = count.wrapping_sub(1) & 0xffff | fua;
    }

    fn write_zeroes(&self, rq: &Request<Self>, command: &mut Command) {
        self.block_command(rq, nvm::WRITE_ZEROES, command);
        if self.deallocate && !rq.no_unmap() {
            command.dwords[2] |= nvm::DEALLOCATE;
        }
    }

    fn discard(&self, rq: &Request<Self>, list: List<'_>, command: &mut Command) -> Result {
        let (first, count) = self.blocks(rq);

        // One range: attributes, length, start.
        list.set(0, u64::from(count) << 32)?;
        list.set(1, first)?;
        command.opcode = nvm::DATASET_MANAGEMENT;
        command.data = Data::prps(list.address(), 0);
        // The number of ranges, in dword 10, is 0's based.
        command.dwords[1] = nvm::ATTRIBUTE_DEALLOCATE;
        Ok(())
    }

    /// Writes the command for `rq`, which is zeroed. Returns whether it transfers data.
    #[inline]
    pub(crate) fn command(
        &self,
        queue: &Queue<'bound>,
        rq: &Request<Self>,
        command: &mut Command,
    ) -> Result<bool> {
        command.nsid = self.id;
        match rq.op() {
            mq::Op::Read => {
                self.block_command(rq, nvm::READ, command);
                return Ok(true);
            }
            mq::Op::Write => {
                self.block_command(rq, nvm::WRITE, command);
                return Ok(true);
            }
            mq::Op::Flush => command.opcode = nvm::FLUSH,
            mq::Op::Discard => self.discard(rq, queue.list(rq.tag())?, command)?,
            mq::Op::WriteZeroes => self.write_zeroes(rq, command),
            mq::Op::Other => return Err(EOPNOTSUPP),
        }
        Ok(false)
    }
}

#[vtable]
impl<'bound> Operations for Namespace<'bound> {
    type QueueData = KBox<Self>;
    /// The status that the controller has reported.
    type RequestData = MappableData<Atomic<u32>>;

    fn new_request_data() -> impl PinInit<Self::RequestData, Error> {
        Ok(MappableData::new(Atomic::new(0)))
    }

    // An error gives the request back, so no reference is kept then.
    #[inline]
    fn queue_rq(ns: &Self, rq: Rq<'bound>, is_last: bool) -> Result {
        if ns.ctrl.has_failed() {
            return Err(EIO);
        }
        let queue = ns.ctrl.queue(rq.queue_index()).ok_or(EIO)?;

        queue.submit(ns, rq, is_last)
    }

    // What remains in the list is passed to `queue_rq()`, which returns an error.
    fn queue_rqs(ns: &Self, requests: &mut RequestList<Self>) {
        if ns.ctrl.has_failed() {
            return;
        }
        while let Some(index) = requests.front_queue_index() {
            let Some(queue) = ns.ctrl.queue(index) else {
                return;
            };
            queue.submit_list(ns, requests);
        }
    }

    fn commit_rqs(ns: &Self) {
        // The queue is not passed. This is called rarely, and ringing without new commands is
        // cheap.
        for queue in ns.ctrl.queues() {
            queue.ring();
        }
    }

    fn complete(rq: Rq<'bound>) {
        complete_rq(rq);
    }
}

/// Ends a request, or retries it. The controller no longer has it, and its data is unmapped.
pub(crate) fn complete_rq(rq: Rq<'_>) {
    let ns = rq.queue_data();
    let status = Status::from_raw(rq.data().load(Relaxed));

    // There is no other reference to the request, so these do not fail.
    let _ = match status.to_result() {
        Ok(()) => Request::end(rq, Ok(())),
        Err(_) if ns.ctrl.has_failed() => Request::end(rq, Err(EIO)),
        Err(_) if status.is_retryable() && rq.tries() < MAX_RETRIES => Request::requeue(rq),
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

/// Identify data of a namespace.
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
            // DLFEAT: deallocated blocks read as zeroes, and Write Zeroes may deallocate.
            deallocate: dlfeat & 0x7 == 1 && dlfeat & 1 << 3 != 0,
        })
    }

    /// Returns whether the namespace can be a disk. The block layer needs blocks of at most a page,
    /// and transfers of at least a page.
    fn is_supported(&self, max_transfer: usize) -> bool {
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

fn limits(
    ctrl: &Controller<'_>,
    config: &QueueConfig,
    page_size: usize,
    shift: u32,
) -> Result<Limits> {
    let block = 1 << shift;
    let max_hw_bytes = u32::try_from(config.max_transfer)?;
    // The length of a request in bytes has 32 bits.
    let max_discard_sectors = (u32::MAX >> shift) << (shift - SECTOR_SHIFT);

    Ok(Limits {
        logical_block_size: block,
        max_hw_bytes,
        max_segments: u16::try_from(MAX_SEGMENTS)?,
        max_segment_size: u32::MAX,
        virt_boundary: if config.sgl {
            None
        } else {
            Some(u32::try_from(page_size)?)
        },
        dma_alignment: 3,
        max_discard_sectors: if ctrl.info.discard {
            max_discard_sectors
        } else {
            0
        },
        discard_granularity: if ctrl.info.discard { block } else { 0 },
        // Not a limit of the controller, but a command should not take long.
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

/// Creates the disk of namespace `nsid`. Returns [`None`] if the namespace is not supported.
fn new_disk<'bound>(
    ctrl: &Arc<Controller<'bound>>,
    admin: &mut Admin<'bound>,
    config: &QueueConfig,
    nsid: u32,
) -> Result<Option<Disk<'bound, Namespace<'bound>>>> {
    let identity = match Identity::read(admin, nsid) {
        // The controller runs, and reports an error for this namespace.
        Err(error) if error == EIO && admin.is_running() => return Ok(None),
        identity => identity?,
    };
    if !identity.is_supported(config.max_transfer) {
        dev_warn!(
            ctrl.dev(),
            "namespace {} not supported: {} blocks of 2^{} bytes and {} of metadata\n",
            nsid,
            identity.blocks,
            identity.shift,
            identity.metadata
        );
        return Ok(None);
    }

    let limits = limits(ctrl, config, admin.caps.page_size(), identity.shift)?;
    let ns = KBox::new(
        Namespace {
            ctrl: ctrl.clone(),
            id: nsid,
            shift: identity.shift,
            deallocate: identity.deallocate,
        },
        GFP_KERNEL,
    )?;

    // SAFETY: The disk is dropped on failure. Else it is stored in the controller, and dropped
    // before the device is unbound.
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
        // The block layer may refuse other limits.
        Err(error) if error == EINVAL => {
            dev_warn!(ctrl.dev(), "namespace {} not supported\n", nsid);
            Ok(None)
        }
        disk => disk.map(Some),
    }
}

/// Calls `f` with the id of each namespace.
///
/// Identify returns the ids above the given one in ascending order, and 0 at the end.
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

/// Creates and adds the disks of all namespaces.
///
/// All disks are created before the first one is added. Adding one may reset the controller, which
/// must not see a disk appear between quiesce and unquiesce.
pub(crate) fn add_disks(ctrl: &Arc<Controller<'_>>, config: &QueueConfig) -> Result {
    let mut disks = KVec::new();

    ctrl.with_state(|state| {
        for_each_namespace(&mut state.admin, |admin, nsid| {
            if let Some(disk) = new_disk(ctrl, admin, config, nsid)? {
                disks.push(disk, GFP_KERNEL)?;
            }
            Ok(())
        })
    })?;
    for disk in &disks {
        disk.add()?;
    }
    ctrl.set_disks(disks);
    Ok(())
}

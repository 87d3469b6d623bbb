// SPDX-License-Identifier: GPL-2.0

//! Requests of disks.
//!
//! `queue_rq()` maps a request, writes its command and submits it. The request is unmapped and
//! completed when the controller has completed it, or after the controller was disabled.

use kernel::{
    block::{
        mq::{
            self,
            Operations,
            Request,
            RequestList,
            Timeout,
            TimeoutOperations, //
        },
        SECTOR_SHIFT, //
    },
    dma::phys::MappableData,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        AtomicSlot, //
    }, //
};

use crate::{
    block::Namespace,
    command::{
        nvm,
        Command,
        Data,
        Status, //
    },
    queue::{
        List,
        Queue, //
    },
    regs::{
        high,
        low, //
    }, //
};

/// Maximum number of retries of a request, also after it was aborted.
const MAX_RETRIES: u32 = 3;

/// Data of the driver in a request.
pub(crate) struct RequestState {
    /// The status that the controller has reported.
    pub(crate) status: Atomic<u32>,
    /// The command of a program, see `passthru.rs`.
    pub(crate) command: AtomicSlot<KBox<Command>>,
}

/// What a command transfers.
pub(crate) enum Payload {
    None,
    Data,
    DataAndMetadata,
}

type Rq<'bound> = ARef<Request<Namespace<'bound>>>;

impl<'bound> Namespace<'bound> {
    /// Returns the first block of a request, and the number of blocks.
    #[inline]
    pub(crate) fn blocks(&self, rq: &Request<Self>) -> (u64, u32) {
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

    /// Writes a command that transfers the blocks of a request.
    #[inline]
    fn transfer(&self, rq: &Request<Self>, opcode: u8, command: &mut Command) -> Result<Payload> {
        self.block_command(rq, opcode, command);
        if self.format.size == 0 {
            return Ok(Payload::Data);
        }
        self.set_metadata(rq, command)
    }

    fn write_zeroes(&self, rq: &Request<Self>, command: &mut Command) {
        self.block_command(rq, nvm::WRITE_ZEROES, command);
        self.set_protection_action(rq, command);
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

    /// Writes the command for `rq`, which is zeroed.
    #[inline]
    pub(crate) fn command(
        &self,
        queue: &Queue<'bound>,
        rq: &Request<Self>,
        command: &mut Command,
    ) -> Result<Payload> {
        command.nsid = self.id;
        match rq.op() {
            mq::Op::Read => return self.transfer(rq, nvm::READ, command),
            mq::Op::Write => return self.transfer(rq, nvm::WRITE, command),
            mq::Op::Flush => command.opcode = nvm::FLUSH,
            mq::Op::Discard => self.discard(rq, queue.list(rq.tag())?, command)?,
            mq::Op::WriteZeroes => self.write_zeroes(rq, command),
            mq::Op::Driver => return self.user_command(rq, command),
            mq::Op::Other => return Err(EOPNOTSUPP),
        }
        Ok(Payload::None)
    }
}

#[vtable]
impl<'bound> Operations for Namespace<'bound> {
    type QueueData = KBox<Self>;
    type RequestData = MappableData<RequestState>;

    fn new_request_data() -> impl PinInit<Self::RequestData, Error> {
        Ok(MappableData::new(RequestState {
            status: Atomic::new(0),
            command: AtomicSlot::empty(),
        }))
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

    fn poll(ns: &Self, queue: u32) -> bool {
        ns.ctrl.queue(queue).is_some_and(|queue| queue.poll())
    }

    fn complete(rq: Rq<'bound>) {
        complete_rq(rq);
    }
}

fn should_retry(rq: &Rq<'_>, status: Status) -> bool {
    !rq.no_retry() && status.is_retryable() && rq.tries() < MAX_RETRIES
}

/// Ends a request, or retries it. The controller no longer has it, and its data is unmapped.
pub(crate) fn complete_rq(rq: Rq<'_>) {
    let ns = rq.queue_data();
    let status = Status::from_raw(rq.data().status.load(Relaxed));

    // There is no other reference to the request, so these do not fail.
    let _ = match status.to_result() {
        Ok(()) => Request::end(rq, Ok(())),
        Err(_) if ns.ctrl.has_failed() => Request::end(rq, Err(EIO)),
        Err(_) if should_retry(&rq, status) => {
            let delay = ns.ctrl.retry_delay(status);

            Request::requeue_after(rq, delay)
        }
        error => Request::end(rq, error),
    };
}

impl TimeoutOperations for Namespace<'_> {
    fn timeout(ns: &Self, queue: u32, tag: u32, is_expired: impl Fn() -> bool) -> Timeout {
        ns.ctrl.timeout(queue, tag, is_expired)
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A submission and a completion queue, and the interrupt that says one has moved.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::{
        io_project,
        io_read,
        Io, //
    },
    irq,
    new_condvar,
    prelude::*,
    sync::{
        barrier::{
            dma_mb,
            Read, //
        },
        new_spinlock_irq,
        Arc,
        CondVar,
        CondVarTimeoutResult,
        SpinLockIrq, //
    },
    time::{
        delay::fsleep,
        msecs_to_jiffies,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

use crate::regs::{
    self,
    status,
    Regs, //
};

/// Entries in a queue, unless the controller allows fewer: one command is in flight at a time.
const DEPTH: u16 = 16;

/// How long a command waits before it looks whether there still is a controller.
const SLICE: Delta = Delta::from_secs(1);

/// One submission queue entry, before it is given an identifier.
#[derive(Clone, Copy, Default)]
pub(crate) struct Command {
    pub(crate) opcode: u8,
    pub(crate) nsid: u32,
    pub(crate) prp1: u64,
    pub(crate) prp2: u64,
    pub(crate) cdw10: u32,
    pub(crate) cdw11: u32,
    pub(crate) cdw12: u32,
}

impl Command {
    /// The entry as it lies in memory.
    fn entry(&self, cid: u16) -> [u32; 16] {
        let mut entry = [0; 16];

        entry[0] = u32::from(self.opcode) | u32::from(cid) << 16;
        entry[1] = self.nsid;
        // CAST: the halves of a 64-bit address.
        entry[6] = self.prp1 as u32;
        entry[7] = (self.prp1 >> 32) as u32;
        entry[8] = self.prp2 as u32;
        entry[9] = (self.prp2 >> 32) as u32;
        entry[10] = self.cdw10;
        entry[11] = self.cdw11;
        entry[12] = self.cdw12;

        entry.map(u32::to_le)
    }
}

/// What the controller says about a command it has carried out.
pub(crate) struct Completion {
    /// Status code and its type; 0 is success.
    pub(crate) status: u16,
}

/// A submission and a completion queue of one identifier.
///
/// The device reads and writes this memory while the queue exists for it: see
/// [`Controller::close`](crate::controller::Controller::close).
pub(crate) struct Queue {
    qid: u16,
    depth: u16,
    submissions: Coherent<[[u32; 16]]>,
    completions: Coherent<[[u32; 4]]>,
    tail: u16,
    head: u16,
    /// What the phase bit of a new completion is; it flips with each round.
    phase: bool,
    cid: u16,
    sq_doorbell: usize,
    cq_doorbell: usize,
}

impl Queue {
    /// Allocates queue `qid`, on a controller of these capabilities.
    pub(crate) fn new(
        dev: &Device<Bound>,
        qid: u16,
        cap_lo: regs::CAP_LO,
        cap_hi: regs::CAP_HI,
    ) -> Result<Self> {
        // `mqes` is the largest size minus one, and 0 is not allowed.
        let depth = u32::from(DEPTH).min(cap_lo.mqes().get() + 1).max(2);

        Ok(Self {
            qid,
            // CAST: at most `DEPTH`.
            depth: depth as u16,
            submissions: Coherent::zeroed_slice(dev, depth as usize, GFP_KERNEL)?,
            completions: Coherent::zeroed_slice(dev, depth as usize, GFP_KERNEL)?,
            tail: 0,
            head: 0,
            phase: true,
            cid: 0,
            sq_doorbell: regs::sq_doorbell(qid, cap_hi.dstrd().get()),
            cq_doorbell: regs::cq_doorbell(qid, cap_hi.dstrd().get()),
        })
    }

    /// The number of entries, minus one, as registers and commands want it.
    pub(crate) fn last(&self) -> u16 {
        self.depth - 1
    }

    /// Where the device finds the submission queue.
    pub(crate) fn submissions(&self) -> u64 {
        self.submissions.dma_address()
    }

    /// Where the device finds the completion queue.
    pub(crate) fn completions(&self) -> u64 {
        self.completions.dma_address()
    }

    /// Hands `command` to the controller and waits until it is done.
    ///
    /// # Errors
    ///
    /// With any error the controller may still be at work on the command, and on its memory.
    ///
    /// - `ETIMEDOUT` where it has not answered within `timeout`;
    /// - `ENODEV` where it has gone, `EIO` where it says that it does not work any more;
    /// - `EPROTO` where its answer is to no question of ours.
    pub(crate) fn execute(
        &mut self,
        regs: &Regs<'_>,
        event: &Event,
        command: &Command,
        timeout: Delta,
    ) -> Result<Completion> {
        self.submit(regs, command)?;

        let start: Instant<Monotonic> = Instant::now();
        loop {
            // Looked at before the clock, so that a lost interrupt or a late wake-up costs time
            // and nothing else.
            let late = start.elapsed() > timeout;
            if let Some(completion) = self.completed(regs)? {
                return Ok(completion);
            }
            if late {
                return Err(ETIMEDOUT);
            }
            if !event.wait(SLICE) {
                let csts = status(regs)?;
                if csts.cfs() || !csts.rdy() {
                    return Err(EIO);
                }
            }
        }
    }

    fn submit(&mut self, regs: &Regs<'_>, command: &Command) -> Result {
        self.cid = self.cid.wrapping_add(1);
        io_project!(self.submissions, [try: usize::from(self.tail)])
            .copy_write(command.entry(self.cid));
        self.tail = self.next(self.tail);

        // The write of a register is ordered after the writes to memory before it.
        regs.try_write32(self.tail.into(), self.sq_doorbell)
    }

    /// The entry after `entry`.
    fn next(&self, entry: u16) -> u16 {
        if entry < self.last() {
            entry + 1
        } else {
            0
        }
    }

    fn completed(&mut self, regs: &Regs<'_>) -> Result<Option<Completion>> {
        let head = usize::from(self.head);
        let word3 = u32::from_le(io_read!(self.completions, [try: head][try: 3]));
        if (word3 & 1 << 16 != 0) != self.phase {
            return Ok(None);
        }

        // The phase bit is written last: the rest must not be read before it.
        dma_mb(Read);
        let word2 = u32::from_le(io_read!(self.completions, [try: head][try: 2]));

        self.head = self.next(self.head);
        self.phase ^= self.head == 0;
        regs.try_write32(self.head.into(), self.cq_doorbell)?;

        // CAST: the identifier of the command, then of its queue.
        if word3 as u16 != self.cid || word2 >> 16 != u32::from(self.qid) {
            return Err(EPROTO);
        }
        Ok(Some(Completion {
            // CAST: 15 bits are left.
            status: (word3 >> 17) as u16,
        }))
    }
}

/// Something a command waits for: the controller's interrupt.
#[pin_data]
pub(crate) struct Event {
    #[pin]
    fired: SpinLockIrq<bool>,
    #[pin]
    wake: CondVar,
}

impl Event {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            fired <- new_spinlock_irq!(false),
            wake <- new_condvar!(),
        })
    }

    /// Sleeps until the interrupt has come since the last call, at most `timeout`; tells whether it
    /// has.
    fn wait(&self, timeout: Delta) -> bool {
        let jiffies = msecs_to_jiffies(timeout.as_millis().try_into().unwrap_or(0));
        let mut fired = self.fired.lock();
        let mut signal = false;

        if !*fired {
            signal = matches!(
                self.wake.wait_interruptible_timeout(&mut fired, jiffies),
                CondVarTimeoutResult::Signal { .. }
            );
        }
        let came = core::mem::take(&mut *fired);
        drop(fired);

        // A command that the device may carry out is never abandoned to a signal, and with one
        // pending nothing sleeps interruptibly: look again soon instead.
        if signal {
            fsleep(Delta::from_millis(1));
        }
        came
    }
}

/// The handler of the interrupt that all queues share.
pub(crate) struct Handler(pub(crate) Arc<Event>);

impl irq::Handler for Handler {
    fn handle(&self) -> irq::IrqReturn {
        *self.0.fired.lock() = true;
        self.0.wake.notify_all();
        irq::IrqReturn::Handled
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Submission and completion queues in memory, for all queue pairs (NVM Express 1.4, section 4.1).

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::{
        io_project,
        io_read,
        io_write,
        Io, //
    },
    prelude::*,
    sync::{
        barrier::{
            dma_mb,
            Read, //
        },
        Arc, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

use crate::{
    command::{
        Command,
        Completion,
        Status, //
    },
    controller::Caps,
    regs::{
        self,
        Regs, //
    }, //
};

/// A command id has the tag in its low bits, and above it the generation: the number of the
/// submission with this tag. So a late completion is not taken for that of the next command.
const TAG_BITS: u32 = 12;
/// Maximum number of entries in a queue, which has fewer commands.
pub(crate) const MAX_DEPTH: u32 = 1 << TAG_BITS;

/// Returns the id of submission `serial` with `tag`, which is less than [`MAX_DEPTH`].
pub(crate) fn command_id(tag: u32, serial: u32) -> u16 {
    // CAST: The upper bits of the serial number are dropped.
    (tag | serial << TAG_BITS) as u16
}

/// Returns the tag in a command id.
pub(crate) fn command_tag(id: u16) -> u32 {
    u32::from(id) % MAX_DEPTH
}

/// A limit for log lines, the same as that of `dev_warn_ratelimited()`.
pub(crate) struct RateLimit {
    start: Instant<Monotonic>,
    lines: u32,
}

impl RateLimit {
    const INTERVAL: Delta = Delta::from_secs(5);
    const BURST: u32 = 10;

    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            lines: 0,
        }
    }

    /// Returns whether another line may be logged.
    pub(crate) fn allow(&mut self) -> bool {
        if self.start.elapsed() > Self::INTERVAL {
            *self = Self::new();
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= Self::BURST
    }
}

/// A submission queue.
///
/// The controller reads this memory until it is disabled.
pub(crate) struct Submissions<'bound> {
    bar: Arc<Regs<'bound>>,
    depth: u32,
    entries: Coherent<[[u64; 8]]>,
    doorbell: usize,
    /// Next entry to fill.
    tail: u32,
    /// Value last written to the doorbell.
    last_tail: u32,
}

/// A completion queue.
///
/// The controller writes this memory until it is disabled.
pub(crate) struct Completions<'bound> {
    bar: Arc<Regs<'bound>>,
    depth: u32,
    entries: Coherent<[[u32; 4]]>,
    doorbell: usize,
    /// Next entry to check.
    head: u32,
    /// Phase bit of the next new entry. It is inverted at each wrap-around.
    phase: bool,
    /// Value last written to the doorbell.
    last_head: u32,
    /// Queue id.
    id: u16,
    /// Number of completions of unknown commands.
    ignored: u32,
    limit: RateLimit,
}

/// Returns the index after `entry`.
fn next(entry: u32, depth: u32) -> u32 {
    if entry + 1 < depth {
        entry + 1
    } else {
        0
    }
}

impl<'bound> Submissions<'bound> {
    /// Allocates the queue with id `id` and `depth` entries.
    pub(crate) fn new(
        dev: &Device<Bound>,
        bar: Arc<Regs<'bound>>,
        caps: &Caps,
        id: u16,
        depth: u32,
    ) -> Result<Self> {
        // CAST: The number of entries fits into `usize`. Coherent memory is page aligned, as queues
        // must be.
        Ok(Self {
            bar,
            depth,
            entries: Coherent::zeroed_slice(dev, depth as usize, GFP_KERNEL)?,
            doorbell: regs::sq_doorbell(id, caps.doorbell_stride()),
            tail: 0,
            last_tail: 0,
        })
    }

    /// Returns the DMA address of the queue.
    pub(crate) fn address(&self) -> u64 {
        self.entries.dma_address()
    }

    /// Empties the queue. The controller must not access it.
    pub(crate) fn reset(&mut self) {
        self.tail = 0;
        self.last_tail = 0;
    }

    /// Adds `command`. The queue is never full: there are fewer commands than entries.
    pub(crate) fn push(&mut self, command: &Command, cid: u16) -> Result {
        let entry = io_project!(self.entries, [try: self.tail as usize]);

        for (i, word) in command.entry(cid).into_iter().enumerate() {
            io_write!(entry, [try: i], word);
        }
        self.tail = next(self.tail, self.depth);
        Ok(())
    }

    /// Rings the doorbell if there are new commands.
    #[inline]
    pub(crate) fn ring(&mut self) -> Result {
        if self.last_tail == self.tail {
            return Ok(());
        }
        self.last_tail = self.tail;
        // The register write is ordered after the preceding writes to memory.
        self.bar.try_write32(self.tail, self.doorbell)
    }
}

impl<'bound> Completions<'bound> {
    /// Allocates the queue with id `id` and `depth` entries.
    pub(crate) fn new(
        dev: &Device<Bound>,
        bar: Arc<Regs<'bound>>,
        caps: &Caps,
        id: u16,
        depth: u32,
    ) -> Result<Self> {
        // CAST: See `Submissions`.
        Ok(Self {
            bar,
            depth,
            entries: Coherent::zeroed_slice(dev, depth as usize, GFP_KERNEL)?,
            doorbell: regs::cq_doorbell(id, caps.doorbell_stride()),
            head: 0,
            phase: true,
            last_head: 0,
            id,
            ignored: 0,
            limit: RateLimit::new(),
        })
    }

    /// Returns the DMA address of the queue.
    pub(crate) fn address(&self) -> u64 {
        self.entries.dma_address()
    }

    /// Empties the queue. The controller must not access it.
    pub(crate) fn reset(&mut self) -> Result {
        for entry in 0..self.depth as usize {
            io_project!(self.entries, [try: entry]).copy_write([0; 4]);
        }
        self.head = 0;
        self.phase = true;
        self.last_head = 0;
        Ok(())
    }

    /// Reads the next completion, if there is a new one.
    pub(crate) fn pop(&mut self) -> Result<Option<Completion>> {
        let head = self.head as usize;
        let word3 = u32::from_le(io_read!(self.entries, [try: head][try: 3]));
        if (word3 & 1 << 16 != 0) != self.phase {
            return Ok(None);
        }

        // Read the rest of the entry after its phase bit.
        dma_mb(Read);
        let result = u32::from_le(io_read!(self.entries, [try: head][try: 0]));

        self.head = next(self.head, self.depth);
        self.phase ^= self.head == 0;
        Ok(Some(Completion {
            // CAST: The command id is the low half.
            cid: word3 as u16,
            status: Status::from_completion(word3),
            result,
        }))
    }

    /// Counts a completion of a command that the controller does not have: of an old command, or of
    /// none.
    #[cold]
    pub(crate) fn ignore(&mut self, dev: &Device<Bound>, completion: &Completion) {
        self.ignored = self.ignored.wrapping_add(1);
        if self.limit.allow() {
            dev_warn!(
                dev,
                "queue {}: completion of unknown command {:#x} ignored ({} so far)\n",
                self.id,
                completion.cid,
                self.ignored
            );
        }
    }

    /// Rings the doorbell if entries were read, which may be reused then.
    pub(crate) fn ring(&mut self) -> Result {
        if self.last_head == self.head {
            return Ok(());
        }
        self.last_head = self.head;
        self.bar.try_write32(self.head, self.doorbell)
    }
}

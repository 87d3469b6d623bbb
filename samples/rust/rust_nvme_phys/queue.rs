// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: submission of commands, handling of completions (NVM Express 1.4, section 4.1).

use kernel::{
    block::mq::{
        Batch,
        Request,
        RequestList, //
    },
    device::{
        Bound,
        Device, //
    },
    dma::{
        phys::RequestMapping,
        Coherent, //
    },
    io::{
        io_project,
        io_read,
        io_write,
        Io, //
    },
    irq,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        barrier::{
            dma_mb,
            Read, //
        },
        new_spinlock_irq,
        Arc,
        AtomicSlot,
        SpinLock,
        SpinLockIrq, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

use crate::{
    block::Namespace,
    command::{
        Command,
        Completion,
        Status, //
    },
    controller::Caps,
    data,
    regs::{
        self,
        Regs, //
    }, //
};

type Rq<'bound> = ARef<Request<Namespace<'bound>>>;

/// Words of a list: 512 PRP entries or 256 SGL descriptors, in one page.
const LIST_WORDS: usize = 512;
/// Number of lists in one allocation.
const LISTS: usize = 8;

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
struct RateLimit {
    start: Instant<Monotonic>,
    lines: u32,
}

impl RateLimit {
    const INTERVAL: Delta = Delta::from_secs(5);
    const BURST: u32 = 10;

    fn new() -> Self {
        Self {
            start: Instant::now(),
            lines: 0,
        }
    }

    /// Returns whether another line may be logged.
    fn allow(&mut self) -> bool {
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

/// A request that the controller has.
enum InFlight<'bound> {
    /// With data.
    Mapped(RequestMapping<'bound, Namespace<'bound>>),
    /// Without data.
    Plain(Rq<'bound>),
}

impl<'bound> InFlight<'bound> {
    fn request(&self) -> &Request<Namespace<'bound>> {
        match self {
            Self::Mapped(mapping) => mapping.request(),
            Self::Plain(rq) => rq,
        }
    }

    /// Unmaps the data, and returns the request.
    ///
    /// # Safety
    ///
    /// The controller has completed the command, has not got it, or was disabled.
    #[inline]
    unsafe fn unmap(self) -> Rq<'bound> {
        match self {
            // SAFETY: The caller guarantees that the controller accesses the data no longer.
            Self::Mapped(mapping) => unsafe { mapping.unmap() },
            Self::Plain(rq) => rq,
        }
    }
}

/// A tag. Taking the request out of it gives exclusive access, so that only one task completes it.
struct Tag<'bound> {
    in_flight: AtomicSlot<InFlight<'bound>>,
    /// Number of the submission in flight.
    serial: Atomic<u32>,
    /// Number of the submission that was last aborted.
    aborted: Atomic<u32>,
}

impl Tag<'_> {
    fn new() -> Self {
        Self {
            in_flight: AtomicSlot::empty(),
            serial: Atomic::new(0),
            aborted: Atomic::new(0),
        }
    }
}

/// Number of completions that are taken with one lock.
const CHUNK: usize = 4;

/// Requests that the controller has completed, the first ones of the array. Their data has the
/// status that it has reported.
type Done<'bound> = [Option<InFlight<'bound>>; CHUNK];

/// A queue pair for the requests of disks.
#[pin_data]
pub(crate) struct Queue<'bound> {
    dev: &'bound Device<Bound>,
    /// Queue id, at least 1; 0 is the admin queue.
    pub(crate) id: u16,
    pub(crate) depth: u32,
    sgl: bool,
    page_size: u64,
    tags: KVec<Tag<'bound>>,
    lists: KVec<Coherent<[u64]>>,
    /// DMA addresses of the two queues.
    pub(crate) sq_address: u64,
    pub(crate) cq_address: u64,
    #[pin]
    submissions: SpinLock<Submissions<'bound>>,
    #[pin]
    completions: SpinLockIrq<Completions<'bound>>,
}

/// The configuration of all I/O queues of a controller.
#[derive(Clone, Copy)]
pub(crate) struct QueueConfig {
    /// Entries in each queue.
    pub(crate) depth: u32,
    /// Maximum transfer in bytes.
    pub(crate) max_transfer: usize,
    /// SGL descriptors are used.
    pub(crate) sgl: bool,
}

impl QueueConfig {
    /// Returns the number of requests in flight. One entry is unused, as a full queue would look
    /// empty.
    pub(crate) fn tags(&self) -> u32 {
        self.depth - 1
    }
}

impl<'bound> Queue<'bound> {
    /// Allocates I/O queue `id`, with lists for all of its requests.
    pub(crate) fn new(
        dev: &'bound Device<Bound>,
        bar: Arc<Regs<'bound>>,
        caps: &Caps,
        id: u16,
        config: QueueConfig,
    ) -> Result<Arc<Self>> {
        let count = config.tags() as usize;
        let mut tags = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut lists = KVec::with_capacity(count.div_ceil(LISTS), GFP_KERNEL)?;

        for tag in 0..count {
            if tag % LISTS == 0 {
                let list = Coherent::zeroed_slice(dev, LISTS * LIST_WORDS, GFP_KERNEL)?;
                lists.push(list, GFP_KERNEL)?;
            }
            tags.push(Tag::new(), GFP_KERNEL)?;
        }

        let submissions = Submissions::new(dev, bar.clone(), caps, id, config.depth)?;
        let completions = Completions::new(dev, bar, caps, id, config.depth)?;
        Arc::pin_init(
            pin_init!(Self {
                dev,
                id,
                depth: config.depth,
                sgl: config.sgl,
                page_size: caps.page_size() as u64,
                tags,
                lists,
                sq_address: submissions.address(),
                cq_address: completions.address(),
                submissions <- new_spinlock!(submissions),
                completions <- new_spinlock_irq!(completions),
            }),
            GFP_KERNEL,
        )
    }

    /// Empties the queue pair. The controller must not access it.
    pub(crate) fn reset(&self) -> Result {
        self.submissions.lock().reset();
        self.completions.lock().reset()
    }

    fn tag(&self, tag: u32) -> Option<&Tag<'bound>> {
        self.tags.get(tag as usize)
    }

    /// Returns the list of `tag`.
    pub(crate) fn list(&self, tag: u32) -> Result<List<'_>> {
        let tag = tag as usize;

        Ok(List {
            memory: self.lists.get(tag / LISTS).ok_or(EINVAL)?,
            first: tag % LISTS * LIST_WORDS,
        })
    }

    /// Maps the data of `rq`, and writes its command.
    ///
    /// # Errors
    ///
    /// Errors are those for the block layer, with the request.
    #[inline]
    fn prepare(
        &self,
        ns: &Namespace<'bound>,
        rq: Rq<'bound>,
        command: &mut Command,
    ) -> Result<InFlight<'bound>, (Error, Rq<'bound>)> {
        let tag = rq.tag();

        match ns.command(self, &rq, command) {
            Ok(true) => {}
            Ok(false) => return Ok(InFlight::Plain(rq)),
            Err(error) => return Err((error, rq)),
        }
        match RequestMapping::map(self.dev, rq, |segments| {
            data::describe(segments, || self.list(tag), self.page_size, self.sgl)
        }) {
            Ok((mapping, data)) => {
                command.data = data;
                Ok(InFlight::Mapped(mapping))
            }
            Err(error) => {
                let (error, rq) = error.into_parts();
                Err((map_error(ns, error), rq))
            }
        }
    }

    /// Adds the command of a request to the submission queue.
    ///
    /// # Errors
    ///
    /// `EIO`, with the request. It is not expected.
    #[inline]
    fn push(
        &self,
        submissions: &mut Submissions<'bound>,
        tag: u32,
        command: &Command,
        in_flight: InFlight<'bound>,
    ) -> Result<(), (Error, Rq<'bound>)> {
        // SAFETY: The controller has not got the command.
        let refuse = |in_flight: InFlight<'bound>| (EIO, unsafe { in_flight.unmap() });

        let Some(slot) = self.tag(tag) else {
            return Err(refuse(in_flight));
        };
        // Only the owner of the tag writes the number.
        let serial = slot.serial.load(Relaxed).wrapping_add(1);
        slot.serial.store(serial, Relaxed);
        // The controller may complete the command as soon as it is in the queue.
        slot.in_flight.put(in_flight).map_err(refuse)?;
        if submissions.push(command, command_id(tag, serial)).is_err() {
            if let Some(in_flight) = slot.in_flight.take() {
                return Err(refuse(in_flight));
            }
        }
        Ok(())
    }

    /// Submits `rq`. Rings the doorbell if it is the `last` one; else a later `submit()` or
    /// [`Queue::ring`] does.
    ///
    /// # Errors
    ///
    /// Errors are those for the block layer, which ends or requeues `rq`. No reference to it is
    /// kept.
    #[inline]
    pub(crate) fn submit(&self, ns: &Namespace<'bound>, rq: Rq<'bound>, last: bool) -> Result {
        let tag = rq.tag();
        let mut command = Command::default();
        let in_flight = self
            .prepare(ns, rq, &mut command)
            .map_err(|(error, _)| error)?;
        let mut submissions = self.submissions.lock();

        self.push(&mut submissions, tag, &command, in_flight)
            .map_err(|(error, _)| error)?;
        if last {
            // The request is in flight: an error of the doorbell becomes a timeout.
            let _ = submissions.ring();
        }
        Ok(())
    }

    /// Submits the requests of this queue at the start of a list, with one lock, and rings the
    /// doorbell. Those that cannot be submitted are put back.
    pub(crate) fn submit_list(
        &self,
        ns: &Namespace<'bound>,
        requests: &mut RequestList<Namespace<'bound>>,
    ) {
        let mut submissions = self.submissions.lock();

        while requests.front_queue_index() == Some(u32::from(self.id) - 1) {
            let Some(rq) = requests.pop_front() else {
                break;
            };
            let tag = rq.tag();
            let mut command = Command::default();
            let submitted = self
                .prepare(ns, rq, &mut command)
                .and_then(|in_flight| self.push(&mut submissions, tag, &command, in_flight));
            if let Err((_, rq)) = submitted {
                // There is no other reference, so this does not fail.
                let _ = requests.put_back(rq);
            }
        }
        let _ = submissions.ring();
    }

    /// Rings the doorbell if there are new commands.
    pub(crate) fn ring(&self) {
        // The doorbell is inside the BAR, so this does not fail.
        let _ = self.submissions.lock().ring();
    }

    /// Handles completions without an interrupt; returns whether there were any.
    pub(crate) fn poll(&self) -> bool {
        let mut done = [const { None }; CHUNK];
        // Requests end when the batch is dropped.
        let mut batch = Batch::new();
        let mut total = 0;

        // About as many as the queue has, even if the controller adds entries without end.
        while total <= self.depth as usize {
            let count = self.take_completions(&mut done);

            // Unmapping may take long, so it is done without the lock.
            for in_flight in done.iter_mut().map_while(Option::take) {
                // SAFETY: The controller has completed the command.
                let rq = unsafe { in_flight.unmap() };
                let status = Status::from_raw(rq.data().load(Relaxed));

                batch.complete(rq, status.is_success());
            }
            total += count;
            if count < CHUNK {
                break;
            }
        }
        total != 0
    }

    /// Takes the requests of the next completions, and returns the number of these. If there are no
    /// more, rings the doorbell for all that were read since it was rung.
    ///
    /// With the lock held: afterwards a command id may belong to another request.
    #[inline]
    fn take_completions(&self, done: &mut Done<'bound>) -> usize {
        let mut completions = self.completions.lock();
        let mut spaces = done.iter_mut();
        let mut count = 0;

        while count < CHUNK {
            let Ok(Some(completion)) = completions.pop() else {
                break;
            };

            count += 1;
            let Some(in_flight) = self.take(completion.cid) else {
                completions.ignore(self.dev, &completion);
                continue;
            };
            in_flight
                .request()
                .data()
                .store(completion.status.raw(), Relaxed);
            if let Some(space) = spaces.next() {
                *space = Some(in_flight);
            }
        }
        if count < CHUNK {
            let _ = completions.ring();
        }
        count
    }

    /// Takes the request whose command has id `cid`, if the controller has it.
    #[inline]
    fn take(&self, cid: u16) -> Option<InFlight<'bound>> {
        let tag = command_tag(cid);
        // It does not change meanwhile: a later submission follows a reset of the queue, which
        // locks the completions, or the completion of this one.
        let serial = self.serial(tag)?;

        if command_id(tag, serial) != cid {
            return None;
        }
        self.tag(tag)?.in_flight.take()
    }

    /// Cancels all requests in flight.
    ///
    /// # Safety
    ///
    /// The controller was disabled.
    pub(crate) unsafe fn cancel_requests(&self, complete: impl Fn(Rq<'bound>)) {
        for in_flight in self.tags.iter().filter_map(|tag| tag.in_flight.take()) {
            // SAFETY: The caller guarantees it.
            let rq = unsafe { in_flight.unmap() };

            rq.data().store(Status::HOST_ABORTED.raw(), Relaxed);
            complete(rq);
        }
    }

    /// Returns the number of requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        let in_flight = |tag: &&Tag<'bound>| !tag.in_flight.is_empty();

        self.tags.iter().filter(in_flight).count()
    }

    /// Returns the number of the submission if `tag` is in flight.
    pub(crate) fn serial(&self, tag: u32) -> Option<u32> {
        let tag = self.tag(tag)?;

        (!tag.in_flight.is_empty()).then(|| tag.serial.load(Relaxed))
    }

    /// Records that submission `serial` of `tag` is being aborted. Returns whether this is its
    /// first abort, or [`None`] if it is no longer in flight.
    pub(crate) fn note_abort(&self, tag: u32, serial: u32) -> Option<bool> {
        if self.serial(tag)? != serial {
            return None;
        }
        Some(self.tag(tag)?.aborted.xchg(serial, Relaxed) != serial)
    }
}

/// Converts an error of [`RequestMapping::map`] for the block layer.
fn map_error(ns: &Namespace<'_>, error: Error) -> Error {
    if error == EREMOTEIO {
        ns.ctrl.warn_no_path();
    }
    // Legacy `dma_map_ops` do not tell why they refuse: that is `EIO`.
    if error == EAGAIN || error == EIO || error == ENOMEM {
        // The block layer dispatches the request again.
        ENOMEM
    } else if error == EREMOTEIO || error == EINVAL {
        // The request is at fault, not the disk: md keeps its member.
        EINVAL
    } else {
        EIO
    }
}

/// Memory that a command points to: a PRP list, an SGL segment or a DSM range.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    memory: &'a Coherent<[u64]>,
    first: usize,
}

impl List<'_> {
    /// Returns the DMA address.
    pub(crate) fn address(&self) -> u64 {
        self.memory.dma_address() + (self.first * size_of::<u64>()) as u64
    }

    /// Sets the word at `index`.
    pub(crate) fn set(&self, index: usize, word: u64) -> Result {
        if index >= LIST_WORDS {
            return Err(E2BIG);
        }
        io_write!(*self.memory, [try: self.first + index], word.to_le());
        Ok(())
    }
}

/// The interrupt handler of an I/O queue.
pub(crate) struct Handler<'bound>(pub(crate) Arc<Queue<'bound>>);

impl irq::Handler for Handler<'_> {
    fn handle(&self) -> irq::IrqReturn {
        if self.0.poll() {
            irq::IrqReturn::Handled
        } else {
            irq::IrqReturn::None
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: entries go in, completions come out (NVM Express 1.4, section 4.1).

use kernel::{
    block::mq::{
        Batch,
        Request, //
    },
    device::{
        Bound,
        Device, //
    },
    dma::{
        phys::{
            RequestMapping,
            VecStorage, //
        },
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
        Place,
        SpinLock,
        SpinLockIrq, //
    }, //
};

use crate::{
    block::Namespace,
    command::{
        Command,
        Completion,
        Data,
        Status, //
    },
    controller::{
        Caps,
        MAX_SEGMENTS, //
    },
    data,
    regs::{
        self,
        Regs, //
    }, //
};

type Rq<'bound> = ARef<Request<Namespace<'bound>>>;

/// Words of a tag's list: 512 PRP entries or 256 SGL descriptors, in one page.
const LIST_WORDS: usize = 512;
/// Lists that are allocated together.
const LISTS: usize = 8;

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
    /// What the doorbell was told last.
    rung: u32,
}

/// A completion queue.
///
/// The controller writes this memory until it is disabled.
pub(crate) struct Completions<'bound> {
    bar: Arc<Regs<'bound>>,
    depth: u32,
    entries: Coherent<[[u32; 4]]>,
    doorbell: usize,
    /// Next completion to look at.
    head: u32,
    /// What the phase bit of a new completion is; it flips with each round.
    phase: bool,
}

/// The entry after `entry`.
fn next(entry: u32, depth: u32) -> u32 {
    if entry + 1 < depth {
        entry + 1
    } else {
        0
    }
}

impl<'bound> Submissions<'bound> {
    /// Allocates queue number `id`, with `depth` entries.
    pub(crate) fn new(
        dev: &Device<Bound>,
        bar: Arc<Regs<'bound>>,
        caps: &Caps,
        id: u16,
        depth: u32,
    ) -> Result<Self> {
        // CAST: A number of entries is far below 2^32. Coherent memory is aligned to a page, as
        // queues must be.
        Ok(Self {
            bar,
            depth,
            entries: Coherent::zeroed_slice(dev, depth as usize, GFP_KERNEL)?,
            doorbell: regs::sq_doorbell(id, caps.doorbell_stride()),
            tail: 0,
            rung: 0,
        })
    }

    /// Where the controller finds it.
    pub(crate) fn address(&self) -> u64 {
        self.entries.dma_address()
    }

    /// Empties it, as a new one is. The controller must not reach it.
    pub(crate) fn reset(&mut self) {
        self.tail = 0;
        self.rung = 0;
    }

    /// Puts `command` in; there is room, as there are fewer commands than entries.
    pub(crate) fn push(&mut self, command: &Command, cid: u16) -> Result {
        let entry = io_project!(self.entries, [try: self.tail as usize]);

        for (i, word) in command.entry(cid).into_iter().enumerate() {
            io_write!(entry, [try: i], word);
        }
        self.tail = next(self.tail, self.depth);
        Ok(())
    }

    /// Tells the controller of commands that it was not told of.
    #[inline]
    pub(crate) fn ring(&mut self) -> Result {
        if self.rung == self.tail {
            return Ok(());
        }
        self.rung = self.tail;
        // The write of a register is ordered after the writes to memory before it.
        self.bar.try_write32(self.tail, self.doorbell)
    }
}

impl<'bound> Completions<'bound> {
    /// Allocates queue number `id`, with `depth` entries.
    pub(crate) fn new(
        dev: &Device<Bound>,
        bar: Arc<Regs<'bound>>,
        caps: &Caps,
        id: u16,
        depth: u32,
    ) -> Result<Self> {
        // CAST: As of `Submissions`.
        Ok(Self {
            bar,
            depth,
            entries: Coherent::zeroed_slice(dev, depth as usize, GFP_KERNEL)?,
            doorbell: regs::cq_doorbell(id, caps.doorbell_stride()),
            head: 0,
            phase: true,
        })
    }

    /// Where the controller finds it.
    pub(crate) fn address(&self) -> u64 {
        self.entries.dma_address()
    }

    /// Empties it, as a new one is. The controller must not reach it.
    pub(crate) fn reset(&mut self) -> Result {
        for entry in 0..self.depth as usize {
            io_project!(self.entries, [try: entry]).copy_write([0; 4]);
        }
        self.head = 0;
        self.phase = true;
        Ok(())
    }

    /// Takes the next completion, where there is a new one.
    pub(crate) fn pop(&mut self) -> Result<Option<Completion>> {
        let head = self.head as usize;
        let word3 = u32::from_le(io_read!(self.entries, [try: head][try: 3]));
        if (word3 & 1 << 16 != 0) != self.phase {
            return Ok(None);
        }

        // The phase bit is written last: the rest must not be read before it.
        dma_mb(Read);
        let result = u32::from_le(io_read!(self.entries, [try: head][try: 0]));

        self.head = next(self.head, self.depth);
        self.phase ^= self.head == 0;
        Ok(Some(Completion {
            // CAST: The lower half.
            cid: word3 as u16,
            status: Status::from_completion(word3),
            result,
        }))
    }

    /// Gives the entries of completions that were taken back to the controller.
    pub(crate) fn popped(&mut self) -> Result {
        self.bar.try_write32(self.head, self.doorbell)
    }
}

/// What a request needs while the controller has it, or is about to.
struct Slot<'bound> {
    /// There, unless `mapping` is.
    storage: Option<VecStorage>,
    /// The request, where it has data.
    mapping: Option<RequestMapping<'bound, Namespace<'bound>>>,
    /// The request, where it has none.
    bare: Option<Rq<'bound>>,
}

impl<'bound> Slot<'bound> {
    /// Lets go of the request, its data unmapped.
    #[inline]
    fn empty(&mut self) -> Option<Rq<'bound>> {
        match self.mapping.take() {
            Some(mapping) => {
                let (rq, storage) = mapping.unmap();

                self.storage = Some(storage);
                Some(rq)
            }
            None => self.bare.take(),
        }
    }
}

/// A tag. Its slot goes from hand to hand: who takes it out of its place has it alone, and who
/// takes a request out of its flight completes it: nobody else can.
struct Tag<'bound> {
    /// The slot, where no request is in it.
    idle: Place<KBox<Slot<'bound>>>,
    /// The slot, where the controller has its request.
    flight: Place<KBox<Slot<'bound>>>,
    /// Which of the tag's submissions that is.
    serial: Atomic<u32>,
    /// Which of them the controller was last asked to abort.
    aborted: Atomic<u32>,
}

impl<'bound> Tag<'bound> {
    fn new(storage: VecStorage) -> Result<Self> {
        let slot = Slot {
            storage: Some(storage),
            mapping: None,
            bare: None,
        };

        Ok(Self {
            idle: Place::new(KBox::new(slot, GFP_KERNEL)?),
            flight: Place::empty(),
            serial: Atomic::new(0),
            aborted: Atomic::new(0),
        })
    }

    /// Empties its slot, and puts that back.
    #[inline]
    fn release(&self, mut slot: KBox<Slot<'bound>>) -> Option<Rq<'bound>> {
        let rq = slot.empty();

        // Nothing is there: a tag has one slot.
        self.idle.put(slot);
        rq
    }

    /// Takes back the request that the controller has.
    #[inline]
    fn land(&self) -> Option<Rq<'bound>> {
        self.flight.take().and_then(|slot| self.release(slot))
    }
}

/// A queue pair for the requests of disks.
#[pin_data]
pub(crate) struct Queue<'bound> {
    dev: &'bound Device<Bound>,
    /// From 1 on: 0 is the admin queue.
    pub(crate) id: u16,
    pub(crate) depth: u32,
    sgl: bool,
    page_size: u64,
    /// That the controller completes what it does not have was said, since it was enabled.
    complained: Atomic<bool>,
    tags: KVec<Tag<'bound>>,
    lists: KVec<Coherent<[u64]>>,
    /// Where the controller finds the two queues.
    pub(crate) sq_address: u64,
    pub(crate) cq_address: u64,
    #[pin]
    submissions: SpinLock<Submissions<'bound>>,
    #[pin]
    completions: SpinLockIrq<Completions<'bound>>,
}

/// What all queues of a controller have in common.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Entries in each.
    pub(crate) depth: u32,
    /// Bytes of the largest transfer.
    pub(crate) max_transfer: usize,
    /// Whether SGL descriptors are used.
    pub(crate) sgl: bool,
}

impl Shape {
    /// Requests at a time: a queue with all entries used would look empty.
    pub(crate) fn tags(&self) -> u32 {
        self.depth - 1
    }
}

impl<'bound> Queue<'bound> {
    /// Allocates I/O queue `id`, and all that its requests need: none of them allocates anything.
    pub(crate) fn new(
        dev: &'bound Device<Bound>,
        bar: Arc<Regs<'bound>>,
        caps: &Caps,
        id: u16,
        shape: Shape,
    ) -> Result<Arc<Self>> {
        let count = shape.tags() as usize;
        let mut tags = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut lists = KVec::with_capacity(count.div_ceil(LISTS), GFP_KERNEL)?;

        for tag in 0..count {
            let storage = VecStorage::new(dev, MAX_SEGMENTS, shape.max_transfer, GFP_KERNEL)?;
            if tag % LISTS == 0 {
                let list = Coherent::zeroed_slice(dev, LISTS * LIST_WORDS, GFP_KERNEL)?;
                lists.push(list, GFP_KERNEL)?;
            }
            tags.push(Tag::new(storage)?, GFP_KERNEL)?;
        }

        let submissions = Submissions::new(dev, bar.clone(), caps, id, shape.depth)?;
        let completions = Completions::new(dev, bar, caps, id, shape.depth)?;
        Arc::pin_init(
            pin_init!(Self {
                dev,
                id,
                depth: shape.depth,
                sgl: shape.sgl,
                page_size: caps.page_size() as u64,
                complained: Atomic::new(false),
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

    /// Empties the queue. The controller must not reach it.
    pub(crate) fn reset(&self) -> Result {
        self.complained.store(false, Relaxed);
        self.submissions.lock().reset();
        self.completions.lock().reset()
    }

    fn tag(&self, tag: u32) -> Option<&Tag<'bound>> {
        self.tags.get(tag as usize)
    }

    /// Memory of `tag` for what its command points at.
    pub(crate) fn list(&self, tag: u32) -> Result<List<'_>> {
        let tag = tag as usize;

        Ok(List {
            memory: self.lists.get(tag / LISTS).ok_or(EINVAL)?,
            first: tag % LISTS * LIST_WORDS,
        })
    }

    /// Maps the data of `rq`, and tells where the controller finds it.
    ///
    /// # Errors
    ///
    /// As the block layer knows them, and `slot` is empty.
    fn map(&self, slot: &mut Slot<'bound>, rq: Rq<'bound>) -> Result<Data> {
        let tag = rq.tag();
        let storage = slot.storage.take().ok_or(ENOMEM)?;

        match RequestMapping::new(self.dev, rq, storage) {
            Ok(mapping) => {
                let data = data::describe(&mapping, || self.list(tag), self.page_size, self.sgl);

                // Nothing is there, as the storage was.
                core::mem::forget(slot.mapping.replace(mapping));
                data.ok_or_else(|| {
                    slot.empty();
                    EIO
                })
            }
            Err(error) => {
                let (error, (_, storage)) = error.into_parts();
                slot.storage = Some(storage);
                Err(map_error(error))
            }
        }
    }

    /// Gives `command`, which is for `rq`, to the controller, with the data of `rq` where it
    /// `has_data`: at once where `now`, else with the next one or [`Queue::ring`].
    ///
    /// # Errors
    ///
    /// As the block layer knows them: `rq` goes back to it, and nobody else has it.
    pub(crate) fn submit(
        &self,
        rq: Rq<'bound>,
        mut command: Command,
        has_data: bool,
        now: bool,
    ) -> Result {
        let cid = u16::try_from(rq.tag())?;
        let tag = self.tag(cid.into()).ok_or(EIO)?;
        let mut slot = tag.idle.take().ok_or(ENOMEM)?;

        if has_data {
            match self.map(&mut slot, rq) {
                Ok(data) => command.data = data,
                Err(error) => {
                    tag.idle.put(slot);
                    return Err(error);
                }
            }
        } else {
            slot.bare = Some(rq);
        }

        let mut submissions = self.submissions.lock();
        if let Err(error) = submissions.push(&command, cid) {
            drop(submissions);
            tag.release(slot);
            return Err(error);
        }
        // By who has the slot alone.
        tag.serial
            .store(tag.serial.load(Relaxed).wrapping_add(1), Relaxed);
        tag.flight.put(slot);
        if now {
            // The request is in its place: from now on it fails with a timeout, if it fails.
            let _ = submissions.ring();
        }
        Ok(())
    }

    /// Tells the controller of commands that it was not told of.
    pub(crate) fn ring(&self) {
        // There is such a doorbell, so that this does not fail.
        let _ = self.submissions.lock().ring();
    }

    /// Completes what the controller has completed; tells whether that was anything.
    pub(crate) fn poll(&self) -> bool {
        // Ended outside of the lock, as it may take long.
        let mut batch = Batch::new();

        self.take(&mut batch)
    }

    /// Takes back the requests that the controller has completed, their data unmapped; tells
    /// whether there were any.
    fn take(&self, batch: &mut Batch<Namespace<'bound>>) -> bool {
        let mut completions = self.completions.lock();
        let mut taken = 0;
        let mut unknown = false;

        // A controller that completes without end does not keep us here.
        while taken < self.depth {
            let Ok(Some(completion)) = completions.pop() else {
                break;
            };
            taken += 1;
            match self.tag(completion.cid.into()).and_then(Tag::land) {
                Some(rq) => {
                    rq.set_note(completion.status.raw());
                    batch.complete(rq, completion.status.is_success());
                }
                // It completes what it was not given, or the same thing twice: not believed.
                None => unknown = true,
            }
        }
        if taken != 0 {
            let _ = completions.popped();
        }
        drop(completions);

        // Once: in an interrupt's handler nothing may take long.
        if unknown && !self.complained.xchg(true, Relaxed) {
            dev_warn!(self.dev, "queue {}: unknown completion\n", self.id);
        }
        taken != 0
    }

    /// Takes back all requests that the controller has, which reaches no memory any more.
    pub(crate) fn take_back(&self, complete: impl Fn(Rq<'bound>)) {
        for rq in self.tags.iter().filter_map(Tag::land) {
            rq.set_note(Status::TAKEN_BACK.raw());
            complete(rq);
        }
    }

    /// How many requests the controller has.
    pub(crate) fn in_flight(&self) -> usize {
        let has = |tag: &&Tag<'bound>| !tag.flight.is_empty();

        self.tags.iter().filter(has).count()
    }

    /// Which submission the request of `tag` is, where the controller has it.
    pub(crate) fn serial(&self, tag: u32) -> Option<u32> {
        let tag = self.tag(tag)?;

        (!tag.flight.is_empty()).then(|| tag.serial.load(Relaxed))
    }

    /// Notes that submission `serial`, the request of `tag`, is to be aborted; tells whether this
    /// is the first time, or nothing where the controller does not have it any more.
    pub(crate) fn note_abort(&self, tag: u32, serial: u32) -> Option<bool> {
        if self.serial(tag)? != serial {
            return None;
        }
        Some(self.tag(tag)?.aborted.xchg(serial, Relaxed) != serial)
    }
}

/// What the block layer makes of an error of [`RequestMapping::new`].
fn map_error(error: Error) -> Error {
    if error == EAGAIN || error == ENOMEM {
        // It comes again.
        ENOMEM
    } else if error == EREMOTEIO {
        EREMOTEIO
    } else {
        EIO
    }
}

/// Memory for what a command points at: PRP list, SGL segment or range.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    memory: &'a Coherent<[u64]>,
    first: usize,
}

impl List<'_> {
    /// Where the controller finds it.
    pub(crate) fn address(&self) -> u64 {
        self.memory.dma_address() + (self.first * size_of::<u64>()) as u64
    }

    /// Sets one word of it.
    pub(crate) fn set(&self, index: usize, word: u64) -> Result {
        if index >= LIST_WORDS {
            return Err(E2BIG);
        }
        io_write!(*self.memory, [try: self.first + index], word.to_le());
        Ok(())
    }
}

/// The handler of an I/O queue's interrupt.
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

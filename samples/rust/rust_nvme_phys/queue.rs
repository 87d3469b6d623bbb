// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: entries go in, completions come out (NVM Express 1.4, section 4.1).

use kernel::{
    block::mq::Request,
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

/// Completions that are taken off a queue at once.
const BATCH: usize = 16;

/// Words of a tag's list: 512 PRP entries or 256 SGL descriptors, in one page.
const LIST_WORDS: usize = 512;
/// Lists that are allocated together.
const LISTS: usize = 8;

/// A submission queue and its completion queue.
///
/// The controller reads and writes this memory until it is disabled.
pub(crate) struct Ring<'bound> {
    bar: Arc<Regs<'bound>>,
    depth: u32,
    submissions: Coherent<[[u32; 16]]>,
    completions: Coherent<[[u32; 4]]>,
    sq_doorbell: usize,
    cq_doorbell: usize,
    /// Next entry to fill.
    tail: u32,
    /// What the doorbell was told last.
    rung: u32,
    /// Next completion to look at.
    head: u32,
    /// What the phase bit of a new completion is; it flips with each round.
    phase: bool,
}

impl<'bound> Ring<'bound> {
    /// Allocates the pair number `id`, with `depth` entries in each queue.
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
            submissions: Coherent::zeroed_slice(dev, depth as usize, GFP_KERNEL)?,
            completions: Coherent::zeroed_slice(dev, depth as usize, GFP_KERNEL)?,
            sq_doorbell: regs::sq_doorbell(id, caps.doorbell_stride()),
            cq_doorbell: regs::cq_doorbell(id, caps.doorbell_stride()),
            tail: 0,
            rung: 0,
            head: 0,
            phase: true,
        })
    }

    /// Where the controller finds the submission queue.
    pub(crate) fn submissions(&self) -> u64 {
        self.submissions.dma_address()
    }

    /// Where the controller finds the completion queue.
    pub(crate) fn completions(&self) -> u64 {
        self.completions.dma_address()
    }

    /// Empties the pair, as a new one is. The controller must not reach it.
    pub(crate) fn reset(&mut self) -> Result {
        for entry in 0..self.depth as usize {
            io_project!(self.completions, [try: entry]).copy_write([0; 4]);
        }
        self.head = 0;
        self.phase = true;
        self.tail = 0;
        self.rung = 0;
        Ok(())
    }

    /// Puts `command` in; there is room, as there are fewer commands than entries.
    pub(crate) fn push(&mut self, command: &Command, cid: u16) -> Result {
        io_project!(self.submissions, [try: self.tail as usize]).copy_write(command.entry(cid));
        self.tail = self.next(self.tail);
        Ok(())
    }

    /// Tells the controller of commands that it was not told of.
    pub(crate) fn ring(&mut self) -> Result {
        if self.rung == self.tail {
            return Ok(());
        }
        self.rung = self.tail;
        // The write of a register is ordered after the writes to memory before it.
        self.bar.try_write32(self.tail, self.sq_doorbell)
    }

    /// The entry after `entry`.
    fn next(&self, entry: u32) -> u32 {
        if entry + 1 < self.depth {
            entry + 1
        } else {
            0
        }
    }

    /// Takes the next completion, where there is a new one.
    pub(crate) fn pop(&mut self) -> Result<Option<Completion>> {
        let head = self.head as usize;
        let word3 = u32::from_le(io_read!(self.completions, [try: head][try: 3]));
        if (word3 & 1 << 16 != 0) != self.phase {
            return Ok(None);
        }

        // The phase bit is written last: the rest must not be read before it.
        dma_mb(Read);
        let result = u32::from_le(io_read!(self.completions, [try: head][try: 0]));

        self.head = self.next(self.head);
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
        self.bar.try_write32(self.head, self.cq_doorbell)
    }
}

/// A request that the controller has.
///
/// Whoever takes it out of its place completes it: nobody else can.
struct Flight<'bound> {
    rq: ARef<Request<Namespace<'bound>>>,
    /// Which submission of the queue it was.
    serial: u32,
    /// The controller was asked to abort it.
    aborted: bool,
}

/// What the interrupt and those who submit share.
struct State<'bound> {
    ring: Ring<'bound>,
    /// One place for each tag.
    flights: KVec<Option<Flight<'bound>>>,
    in_flight: u32,
    serial: u32,
}

/// What the data of a tag's request needs.
///
/// It belongs to who has the request, so that the lock is always free: it says so to the compiler.
#[pin_data]
struct Slot<'bound> {
    #[pin]
    held: SpinLock<Held<'bound>>,
    /// How the controller, or who took the request back, says that it ended.
    status: Atomic<u32>,
}

struct Held<'bound> {
    /// There, unless `mapping` is.
    storage: Option<VecStorage>,
    mapping: Option<RequestMapping<'bound, Namespace<'bound>>>,
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
    /// One for each tag.
    slots: KVec<Pin<KBox<Slot<'bound>>>>,
    lists: KVec<Coherent<[u64]>>,
    /// Where the controller finds the two queues.
    pub(crate) submissions: u64,
    pub(crate) completions: u64,
    #[pin]
    state: SpinLockIrq<State<'bound>>,
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
        let tags = shape.tags() as usize;
        let mut slots = KVec::with_capacity(tags, GFP_KERNEL)?;
        let mut lists = KVec::with_capacity(tags.div_ceil(LISTS), GFP_KERNEL)?;
        let mut flights = KVec::with_capacity(tags, GFP_KERNEL)?;

        for tag in 0..tags {
            let storage = VecStorage::new(dev, MAX_SEGMENTS, shape.max_transfer, GFP_KERNEL)?;
            if tag % LISTS == 0 {
                let list = Coherent::zeroed_slice(dev, LISTS * LIST_WORDS, GFP_KERNEL)?;
                lists.push(list, GFP_KERNEL)?;
            }
            slots.push(KBox::pin_init(Slot::new(storage), GFP_KERNEL)?, GFP_KERNEL)?;
            flights.push(None, GFP_KERNEL)?;
        }

        let ring = Ring::new(dev, bar, caps, id, shape.depth)?;
        Arc::pin_init(
            pin_init!(Self {
                dev,
                id,
                depth: shape.depth,
                sgl: shape.sgl,
                page_size: caps.page_size() as u64,
                complained: Atomic::new(false),
                slots,
                lists,
                submissions: ring.submissions(),
                completions: ring.completions(),
                state <- new_spinlock_irq!(State {
                    ring,
                    flights,
                    in_flight: 0,
                    serial: 0,
                }),
            }),
            GFP_KERNEL,
        )
    }

    /// Empties the queue. The controller must not reach it.
    pub(crate) fn reset(&self) -> Result {
        self.complained.store(false, Relaxed);
        self.state.lock().ring.reset()
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
    /// As the block layer knows them, and `rq` goes back to it.
    pub(crate) fn map(
        &self,
        rq: ARef<Request<Namespace<'bound>>>,
    ) -> Result<(ARef<Request<Namespace<'bound>>>, Data)> {
        let list = self.list(rq.tag())?;
        let slot = self.slots.get(rq.tag() as usize).ok_or(EIO)?;
        let mut held = slot.held.try_lock().ok_or(ENOMEM)?;
        let storage = held.storage.take().ok_or(ENOMEM)?;

        match RequestMapping::new(self.dev, rq, storage) {
            Ok(mapping) => {
                let data = data::describe(&mapping, list, self.page_size, self.sgl);
                let rq = mapping.request().into();

                held.mapping = Some(mapping);
                data.map(|data| (rq, data)).ok_or_else(|| {
                    held.unmap();
                    EIO
                })
            }
            Err(error) => {
                let (error, (_, storage)) = error.into_parts();
                held.storage = Some(storage);
                Err(map_error(error))
            }
        }
    }

    /// Gives `command`, which is for `rq`, to the controller: at once where `now`, else with the
    /// next one or [`Queue::ring`].
    pub(crate) fn submit(
        &self,
        rq: ARef<Request<Namespace<'bound>>>,
        command: &Command,
        now: bool,
    ) -> Result {
        let tag = u16::try_from(rq.tag())?;
        let mut state = self.state.lock();
        let state = &mut *state;
        let place = state.flights.get_mut(usize::from(tag)).ok_or(EIO)?;

        state.ring.push(command, tag)?;
        *place = Some(Flight {
            rq,
            serial: state.serial,
            aborted: false,
        });
        state.serial = state.serial.wrapping_add(1);
        state.in_flight += 1;
        if now {
            // The request is in its place: from now on it fails with a timeout, if it fails.
            let _ = state.ring.ring();
        }
        Ok(())
    }

    /// Tells the controller of commands that it was not told of.
    pub(crate) fn ring(&self) {
        // There is such a doorbell, so that this does not fail.
        let _ = self.state.lock().ring.ring();
    }

    /// Unmaps the data of `tag`'s request, where it has any, and tells how it ended.
    ///
    /// By who has the request.
    pub(crate) fn release(&self, tag: u32) -> Status {
        let Some(slot) = self.slots.get(tag as usize) else {
            return Status::TAKEN_BACK;
        };

        if let Some(mut held) = slot.held.try_lock() {
            held.unmap();
        }
        Status::from_raw(slot.status.load(Relaxed))
    }

    /// Completes what the controller has completed; tells whether that was anything.
    pub(crate) fn poll(&self) -> bool {
        let mut found = 0;

        // A controller that completes without end does not keep us here.
        while found < self.depth as usize {
            let mut done = [const { None }; BATCH];
            let taken = self.take(&mut done);

            // Outside of the lock, as it may take long.
            for rq in done.into_iter().flatten() {
                Request::complete(rq);
            }
            found += taken;
            if taken < BATCH {
                break;
            }
        }
        found != 0
    }

    /// Takes completed requests out of their places; tells how many completions there were.
    fn take(&self, done: &mut [Option<ARef<Request<Namespace<'bound>>>>]) -> usize {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut taken = 0;
        let mut unknown = false;

        for place in done {
            let Ok(Some(completion)) = state.ring.pop() else {
                break;
            };
            taken += 1;
            *place = state.land(completion.cid.into());
            match self.slots.get(usize::from(completion.cid)) {
                Some(slot) if place.is_some() => {
                    slot.status.store(completion.status.raw(), Relaxed);
                }
                // It completes what it was not given, or the same thing twice: not believed.
                _ => unknown = true,
            }
        }
        if taken != 0 {
            let _ = state.ring.popped();
        }
        drop(guard);

        // Once: in an interrupt's handler nothing may take long.
        if unknown && !self.complained.xchg(true, Relaxed) {
            dev_warn!(self.dev, "queue {}: unknown completion\n", self.id);
        }
        taken
    }

    /// Takes back all requests that the controller has, which reaches no memory any more.
    pub(crate) fn take_back(&self, complete: impl Fn(ARef<Request<Namespace<'bound>>>)) {
        for (tag, slot) in self.slots.iter().enumerate() {
            let rq = self.state.lock().land(tag);

            if let Some(rq) = rq {
                slot.status.store(Status::TAKEN_BACK.raw(), Relaxed);
                complete(rq);
            }
        }
    }

    /// How many requests the controller has.
    pub(crate) fn in_flight(&self) -> u32 {
        self.state.lock().in_flight
    }

    /// Which submission the request of `tag` is, where the controller has it.
    pub(crate) fn serial(&self, tag: u32) -> Option<u32> {
        let state = self.state.lock();
        let flight = state.flights.get(tag as usize)?.as_ref()?;

        Some(flight.serial)
    }

    /// Notes that submission `serial`, the request of `tag`, is to be aborted; tells whether this
    /// is the first time, or nothing where the controller does not have it any more.
    pub(crate) fn note_abort(&self, tag: u32, serial: u32) -> Option<bool> {
        let mut state = self.state.lock();
        let flight = state.flights.get_mut(tag as usize)?.as_mut()?;

        (flight.serial == serial).then(|| !core::mem::replace(&mut flight.aborted, true))
    }
}

impl<'bound> State<'bound> {
    /// Takes the request of `tag` out of its place.
    fn land(&mut self, tag: usize) -> Option<ARef<Request<Namespace<'bound>>>> {
        let flight = self.flights.get_mut(tag)?.take()?;

        self.in_flight -= 1;
        Some(flight.rq)
    }
}

impl<'bound> Slot<'bound> {
    fn new(storage: VecStorage) -> impl PinInit<Self> + use<'bound> {
        pin_init!(Self {
            held <- new_spinlock!(Held {
                storage: Some(storage),
                mapping: None,
            }),
            status: Atomic::new(0),
        })
    }
}

impl Held<'_> {
    fn unmap(&mut self) {
        if let Some(mapping) = self.mapping.take() {
            let (_, storage) = mapping.unmap();
            self.storage = Some(storage);
        }
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

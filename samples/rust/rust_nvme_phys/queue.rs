// SPDX-License-Identifier: GPL-2.0

//! Queue pairs of requests: submission of commands, handling of completions.

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
        phys::{
            IntegrityMapping,
            MapError,
            RequestMapping, //
        },
        Coherent, //
    },
    io::io_write,
    irq,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        new_spinlock_irq,
        Arc,
        AtomicSlot,
        SetOnce,
        SpinLock,
        SpinLockIrq, //
    }, //
};

use crate::{
    block::Namespace,
    command::{
        Command,
        Psdt,
        Status, //
    },
    controller::Caps,
    data,
    regs::Regs,
    request::Payload,
    rings::{
        command_id,
        command_tag,
        Completions,
        Submissions, //
    }, //
};

type Rq<'bound> = ARef<Request<Namespace<'bound>>>;

/// Words of a list: 512 PRP entries or 256 SGL descriptors, in one page.
const LIST_WORDS: usize = 512;
/// Number of lists in one allocation.
const LISTS: usize = 8;
/// Words of a list for metadata: 16 SGL descriptors.
const METADATA_WORDS: usize = 32;

/// A request that the controller has.
enum InFlight<'bound> {
    /// With data.
    Mapped(RequestMapping<'bound, Namespace<'bound>>),
    /// With data and metadata.
    WithMetadata(IntegrityMapping<'bound, Namespace<'bound>>),
    /// Without data.
    Plain(Rq<'bound>),
}

impl<'bound> InFlight<'bound> {
    fn request(&self) -> &Request<Namespace<'bound>> {
        match self {
            Self::Mapped(mapping) => mapping.request(),
            Self::WithMetadata(mapping) => mapping.request(),
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
            // SAFETY: See above.
            Self::WithMetadata(mapping) => unsafe { mapping.unmap() },
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
    /// It has no interrupt: submitters poll.
    pub(crate) polled: bool,
    sgl: bool,
    page_size: u64,
    tags: KVec<Tag<'bound>>,
    lists: KVec<Coherent<[u64]>>,
    /// Lists for metadata, if it may have more than one segment.
    metadata_lists: SetOnce<Coherent<[u64]>>,
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
        polled: bool,
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
                polled,
                sgl: config.sgl,
                page_size: caps.page_size() as u64,
                tags,
                lists,
                metadata_lists: SetOnce::new(),
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
            words: LIST_WORDS,
        })
    }

    /// Allocates lists for metadata, if there are none. The disks are not yet added.
    pub(crate) fn allocate_metadata_lists(&self) -> Result {
        if self.metadata_lists.as_ref().is_none() {
            let words = self.tags.len() * METADATA_WORDS;

            self.metadata_lists
                .populate(Coherent::zeroed_slice(self.dev, words, GFP_KERNEL)?);
        }
        Ok(())
    }

    /// Returns the list for metadata of `tag`, if there are any.
    fn metadata_list(&self, tag: u32) -> Option<List<'_>> {
        Some(List {
            memory: self.metadata_lists.as_ref()?,
            first: tag as usize * METADATA_WORDS,
            words: METADATA_WORDS,
        })
    }

    /// Maps data and metadata of `rq`, and describes them in its command. The rest of the command
    /// is written before.
    ///
    /// # Errors
    ///
    /// Same as for [`Queue::prepare`].
    #[cold]
    fn prepare_with_metadata(
        &self,
        ns: &Namespace<'bound>,
        rq: Rq<'bound>,
        command: &mut Command,
    ) -> Result<InFlight<'bound>, (Error, Rq<'bound>)> {
        let tag = rq.tag();
        let metadata_list = self.metadata_list(tag);
        let failed = |error: MapError<Rq<'bound>>| {
            let (error, rq) = error.into_parts();
            (map_error(ns, error), rq)
        };

        let (mapping, data) = RequestMapping::map(self.dev, rq, |segments| {
            let list = || self.list(tag);

            match metadata_list {
                Some(_) => data::describe_sgl(segments, list),
                None => data::describe(segments, list, self.page_size, self.sgl),
            }
        })
        .map_err(failed)?;
        // The block layer has stored reference tags when it started the request, before this.
        // SAFETY: The command is not yet submitted, and is not if this fails.
        let (mapping, (metadata, is_sgl)) = unsafe {
            IntegrityMapping::map(self.dev, mapping, |segments| {
                data::describe_metadata(segments, metadata_list)
            })
        }
        .map_err(failed)?;

        command.data = data;
        command.metadata = metadata;
        if is_sgl {
            command.data.kind = Psdt::SglMetadata;
        }
        Ok(InFlight::WithMetadata(mapping))
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
            Ok(Payload::Data) => {}
            Ok(Payload::DataAndMetadata) => return self.prepare_with_metadata(ns, rq, command),
            Ok(Payload::None) => return Ok(InFlight::Plain(rq)),
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
                let status = Status::from_raw(rq.data().status.load(Relaxed));

                batch.complete(rq, status.is_success());
            }
            total += count;
            if count < CHUNK {
                return total != 0;
            }
        }
        // `take_completions()` rings only when there are no more.
        let _ = self.completions.lock().ring();
        true
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
                .status
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

            rq.data().status.store(Status::HOST_ABORTED.raw(), Relaxed);
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

/// Memory that a command points to: a PRP list, SGL segments or a DSM range.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    memory: &'a Coherent<[u64]>,
    first: usize,
    words: usize,
}

impl List<'_> {
    /// Returns the DMA address.
    pub(crate) fn address(&self) -> u64 {
        self.memory.dma_address() + (self.first * size_of::<u64>()) as u64
    }

    /// Sets the word at `index`.
    pub(crate) fn set(&self, index: usize, word: u64) -> Result {
        if index >= self.words {
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

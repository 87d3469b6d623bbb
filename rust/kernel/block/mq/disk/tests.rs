// SPDX-License-Identifier: GPL-2.0

//! Disks without hardware. A test scripts what the driver does with each request.

use super::*;
use crate::{
    block::mq::{
        gen_disk::{
            GenDisk,
            GenDiskBuilder, //
        },
        tag_set::{
            QueueCounts,
            QueueVectors, //
        },
        Batch,
        Op,
        Request,
        RequestList,
        Timeout,
        TimeoutOperations, //
    },
    faux,
    new_spinlock,
    page::PAGE_SIZE,
    sync::{
        aref::ARef,
        Completion,
        SpinLock, //
    },
    time::{
        delay::{
            fsleep,
            udelay, //
        },
        Delta,
        Instant,
        Monotonic, //
    },
    types::Opaque,
    workqueue, //
};

const SECTORS: u64 = 2048;
const DEPTH: u32 = 8;
const IOCTL: u32 = 0x5a00;
/// Executes a request of the driver; writes if the argument is not 0.
const IOCTL_EXECUTE: u32 = IOCTL + 2;

/// Number in the name of the next disk.
static NUMBER: Atomic<u32> = Atomic::new(0);

/// Number of requests with initialized data.
static INITIALIZED: Atomic<u32> = Atomic::new(0);

/// The maximum of [`INITIALIZED`]. More cannot be initialized.
static MAX_INITIALIZED: Atomic<u32> = Atomic::new(u32::MAX);

/// What the driver does with a request.
#[derive(Clone, Copy)]
enum Step {
    End(Result),
    /// Same as `End`, through [`Operations::complete`].
    Complete(Result),
    Requeue,
    /// Keep it.
    Hold,
    /// Keep it, and return an error.
    HoldAndFail,
    /// End it, and return an error.
    EndAndFail,
    Fail(Error),
    /// Complete it, and return an error.
    CompleteAndFail,
    /// Try to end it while there is another reference.
    Share,
    /// End it, and use the queue data for a while.
    EndAndLinger,
    /// Put it back into the list that it came from.
    PutBack,
    /// Try to put it back while there is another reference.
    PutBackShared,
    /// Put it back, and leave all others in the list.
    Leave,
}

/// A request, as the driver got it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Record {
    op: Op,
    fua: bool,
    sector: u64,
    bytes: u32,
    tag: u32,
    queue: u32,
    tries: u32,
    /// It is the last one of its hardware queue.
    is_last: bool,
    /// It is from a list.
    in_list: bool,
}

#[derive(Default)]
struct Log {
    /// What to do, in reverse order; further requests succeed, unless all `fail`.
    steps: KVec<Step>,
    fail: bool,
    requests: KVec<Record>,
    held: KVec<Rq>,
    /// Queue and tag of each timeout.
    timeouts: KVec<(u32, u32)>,
    /// After this number of timeouts, end the held requests with this result.
    after_timeouts: Option<(usize, Result)>,
    /// For each request that could not be ended as there was another reference, whether this did
    /// not change the number of tries.
    shared: KVec<bool>,
    /// For each request that was put back into a list, whether it is not started.
    put_back: KVec<bool>,
    /// A request of another disk, to be put into the next list.
    foreign: Option<Rq>,
    /// Number of calls of [`Operations::commit_rqs`].
    commits: usize,
    dropped: bool,
    /// The queue data was dropped while `queue_rq()` could use it.
    dropped_in_use: bool,
}

#[pin_data]
struct State {
    #[pin]
    log: SpinLock<Log>,
    /// The errno with which [`Operations::complete`] ends a request, in any context; 0 for success.
    result: Atomic<i32>,
    /// Number of calls of [`Operations::complete`].
    completions: Atomic<u32>,
    /// [`Operations::complete`] completes the request again, this number of times.
    complete_again: Atomic<u32>,
    /// `queue_rq()` uses the queue data.
    in_use: Atomic<bool>,
    /// Address of the `struct gendisk`, set by each request.
    disk: Atomic<usize>,
}

impl State {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                log <- new_spinlock!(Log::default()),
                result: Atomic::new(0),
                completions: Atomic::new(0),
                complete_again: Atomic::new(0),
                in_use: Atomic::new(false),
                disk: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Ends the held requests.
    fn end_held(&self, result: Result) {
        while let Some(rq) = self.take_held() {
            assert!(Request::end(rq, result).is_ok());
        }
    }

    fn take_held(&self) -> Option<Rq> {
        self.log.lock().held.pop()
    }

    fn wait_until(&self, condition: impl Fn(&Log) -> bool) {
        wait_until(|| condition(&self.log.lock()));
    }

    /// Sets what the driver does with the next requests.
    fn script(&self, steps: &[Step]) -> Result {
        let mut log = self.log.lock();

        log.requests.clear();
        for step in steps.iter().rev() {
            log.steps.push(*step, GFP_ATOMIC)?;
        }
        Ok(())
    }

    /// Starts a write that the driver holds.
    fn hold(&self, part: Part) -> Result<(Arc<Background>, Rq)> {
        self.script(&[Step::Hold])?;
        let write = Background::write(part)?;
        self.wait_until(|log| log.held.len() == 1);
        Ok((write, self.take_held().ok_or(ENOENT)?))
    }
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        fsleep(Delta::from_millis(10));
    }
    panic!("timeout");
}

type Rq = ARef<Request<Scripted>>;

/// Calls `f` for a request until there is no other reference.
fn retry(rq: Rq, f: impl Fn(Rq) -> Result<(), Rq>) {
    let mut last = Some(rq);

    wait_until(|| {
        last = last.take().and_then(|rq| f(rq).err());
        last.is_none()
    });
}

/// The data of a request.
#[pin_data(PinnedDrop)]
struct RequestData {
    /// Where it was initialized.
    address: usize,
    #[pin]
    word: SpinLock<u32>,
}

#[pinned_drop]
impl PinnedDrop for RequestData {
    fn drop(self: Pin<&mut Self>) {
        INITIALIZED.fetch_sub(1, Relaxed);
    }
}

/// The queue data, which records its drop.
struct Queue(Arc<State>);

impl Drop for Queue {
    fn drop(&mut self) {
        let mut log = self.0.log.lock();

        log.dropped = true;
        log.dropped_in_use = self.0.in_use.load(Relaxed);
    }
}

struct Scripted;

fn record(rq: &Request<Scripted>, is_last: bool) -> Record {
    Record {
        op: rq.op(),
        fua: rq.fua(),
        sector: rq.sector(),
        bytes: rq.bytes(),
        tag: rq.tag(),
        queue: rq.queue_index(),
        tries: rq.tries(),
        is_last,
        in_list: false,
    }
}

fn raw(rq: &Request<Scripted>) -> *mut bindings::request {
    ptr::from_ref(rq).cast_mut().cast()
}

/// Returns whether `rq` can be neither ended nor requeued.
fn is_shared(rq: Rq) -> bool {
    let Err(rq) = Request::end(rq, Err(EIO)) else {
        return false;
    };

    Request::requeue(rq).is_err()
}

#[vtable]
impl Operations for Scripted {
    type QueueData = KBox<Queue>;
    type RequestData = RequestData;

    fn new_request_data() -> impl PinInit<RequestData, Error> {
        try_pin_init!(&this in RequestData {
            address: {
                let count = INITIALIZED.fetch_add(1, Relaxed);
                if count >= MAX_INITIALIZED.load(Relaxed) {
                    INITIALIZED.fetch_sub(1, Relaxed);
                    return Err(EBUSY);
                }
                this.as_ptr() as usize
            },
            word <- new_spinlock!(0),
        })
    }

    fn queue_rq(queue: &Queue, rq: ARef<Request<Self>>, is_last: bool) -> Result {
        assert!(ptr::eq(rq.queue_data(), queue));
        // SAFETY: The request is valid, and its queue has a disk.
        let disk = unsafe { (*(*raw(&rq)).q).disk };
        queue.0.disk.store(disk as usize, Relaxed);

        let mut log = queue.0.log.lock();
        log.requests.push(record(&rq, is_last), GFP_ATOMIC)?;
        let step = match log.steps.pop() {
            Some(step) => step,
            None if log.fail => Step::Fail(EIO),
            None => Step::End(Ok(())),
        };

        match step {
            Step::Fail(error) => return Err(error),
            Step::Hold | Step::HoldAndFail => log.held.push(rq, GFP_ATOMIC)?,
            Step::Complete(result) => {
                drop(log);
                let errno = result.map_or_else(Error::to_errno, |()| 0);
                queue.0.result.store(errno, Relaxed);
                Request::complete(rq);
                return Ok(());
            }
            Step::Share => {
                let other = rq.clone();
                let tries = other.tries();
                assert!(is_shared(rq));
                log.shared.push(other.tries() == tries, GFP_ATOMIC)?;
                drop(log);
                assert!(Request::end(other, Ok(())).is_ok());
                return Ok(());
            }
            Step::Requeue => {
                drop(log);
                assert!(Request::requeue(rq).is_ok());
                return Ok(());
            }
            Step::End(result) => {
                drop(log);
                assert!(Request::end(rq, result).is_ok());
                return Ok(());
            }
            Step::EndAndFail => {
                drop(log);
                assert!(Request::end(rq, Ok(())).is_ok());
            }
            Step::CompleteAndFail => {
                drop(log);
                queue.0.result.store(0, Relaxed);
                Request::complete(rq);
            }
            Step::EndAndLinger => {
                drop(log);
                let state = queue.0.clone();
                state.in_use.store(true, Relaxed);
                assert!(Request::end(rq, Ok(())).is_ok());
                for _ in 0..100 {
                    udelay(Delta::from_millis(1));
                }
                state.in_use.store(false, Relaxed);
                return Ok(());
            }
            // These are for lists.
            Step::PutBack | Step::PutBackShared | Step::Leave => return Err(EINVAL),
        }
        match step {
            Step::Hold => Ok(()),
            _ => Err(EIO),
        }
    }

    fn commit_rqs(queue: &Queue) {
        queue.0.log.lock().commits += 1;
    }

    fn queue_rqs(queue: &Queue, requests: &mut RequestList<Self>) {
        let state = &queue.0;

        let foreign = state.log.lock().foreign.take();
        if let Some(rq) = foreign {
            let Err(rq) = requests.put_back(rq) else {
                panic!("request of another disk");
            };
            assert!(state.log.lock().held.push(rq, GFP_ATOMIC).is_ok());
        }

        while let Some(rq) = requests.pop_front() {
            let is_last = requests.front_queue_index() != Some(rq.queue_index());
            let step = state.log.lock().steps.last().copied();
            let raw = raw(&rq);

            match step {
                Some(Step::PutBack | Step::PutBackShared | Step::Leave) => {
                    let _ = state.log.lock().steps.pop();
                }
                _ => {
                    let count = state.log.lock().requests.len();
                    assert!(Self::queue_rq(queue, rq, is_last).is_ok());
                    state.log.lock().requests[count].in_list = true;
                    continue;
                }
            }

            if matches!(step, Some(Step::PutBackShared)) {
                let other = rq.clone();
                let Err(rq) = requests.put_back(rq) else {
                    panic!("request with another reference");
                };
                drop(rq);
                assert!(requests.put_back(other).is_ok());
            } else {
                assert!(requests.put_back(rq).is_ok());
            }
            // SAFETY: The request is valid, and in the list.
            let is_idle = unsafe { (*raw).state } == bindings::mq_rq_state_MQ_RQ_IDLE;
            assert!(state.log.lock().put_back.push(is_idle, GFP_ATOMIC).is_ok());
            if matches!(step, Some(Step::Leave)) {
                return;
            }
        }
    }

    // If there is another reference, that one ends the request.
    fn complete(rq: ARef<Request<Self>>) {
        let state = rq.queue_data().0.clone();
        let result = to_result(state.result.load(Relaxed));

        state.completions.fetch_add(1, Relaxed);
        if state.complete_again.load(Relaxed) != 0 {
            state.complete_again.fetch_sub(1, Relaxed);
            Request::complete(rq);
            return;
        }
        drop(Request::end(rq, result));
    }
}

impl TimeoutOperations for Scripted {
    fn timeout(queue: &Queue, hw_queue: u32, tag: u32, is_expired: impl Fn() -> bool) -> Timeout {
        assert!(is_expired());
        let mut log = queue.0.log.lock();
        let _ = log.timeouts.push((hw_queue, tag), GFP_ATOMIC);
        let count = log.timeouts.len();
        let end = log.after_timeouts.filter(|(times, _)| *times == count);
        drop(log);

        let Some((_, result)) = end else {
            return Timeout::Restart;
        };
        queue.0.end_held(result);
        Timeout::Done
    }
}

impl DiskOperations for Scripted {
    fn ioctl(queue: &Queue, disk: &OpenDisk<'_, Self>, cmd: u32, arg: usize) -> Result<c_int> {
        match cmd {
            IOCTL_EXECUTE => {
                let mut rq = DriverRequest::new(disk, arg != 0)?;

                assert!(rq.data().address != 0);
                rq.execute(None)?;
                assert_eq!(rq.execute(None), Err(EBUSY));
                Ok(0)
            }
            IOCTL => Ok(c_int::try_from(arg)? + queue.0.log.lock().requests.len() as c_int),
            _ => Err(ENOTTY),
        }
    }
}

/// A driver with queues that are polled.
struct Polled;

#[vtable]
impl Operations for Polled {
    type QueueData = ();
    type RequestData = ();

    fn new_request_data() -> impl PinInit<(), Error> {
        Ok(())
    }

    fn queue_rq(_queue: (), _rq: ARef<Request<Self>>, _is_last: bool) -> Result {
        Err(EIO)
    }

    fn commit_rqs(_queue: ()) {}

    fn complete(_rq: ARef<Request<Self>>) {}

    fn poll(_queue: (), _index: u32) -> bool {
        false
    }
}

impl TimeoutOperations for Polled {
    fn timeout((): (), _index: u32, _tag: u32, _is_expired: impl Fn() -> bool) -> Timeout {
        Timeout::Restart
    }
}

/// A disk, and the state of its driver.
struct Bench<'bound> {
    disk: Disk<'bound, Scripted>,
    tags: Arc<TagSet<Scripted>>,
    state: Arc<State>,
}

impl<'bound> Bench<'bound> {
    fn not_added(faux: &'bound faux::Registration) -> Result<Self> {
        let state = State::new()?;
        let tags = Arc::pin_init(TagSet::with_timeout(2, DEPTH), GFP_KERNEL)?;
        let limits = Limits {
            max_discard_sectors: 64,
            max_write_zeroes_sectors: 64,
            write_cache: true,
            fua: true,
            ..Limits::default()
        };
        let queue = KBox::new(Queue(state.clone()), GFP_KERNEL)?;
        let number = NUMBER.fetch_add(1, Relaxed);
        let faux: &'bound faux::Device<Bound> = faux.as_ref();

        // SAFETY: No test forgets the disk.
        let disk = unsafe {
            Disk::new(
                faux.as_ref(),
                fmt!("rust_disk{number}"),
                &limits,
                SECTORS,
                tags.clone(),
                queue,
            )?
        };
        // The disk has no partition table and no I/O scheduler, which would prevent lists.
        // SAFETY: The disk was not added, so nothing else accesses it and its tag set.
        unsafe {
            (*disk.raw()).flags |= bindings::GENHD_FL_NO_PART as c_int;
            (*tags.raw_tag_set()).flags |= bindings::BLK_MQ_F_NO_SCHED_BY_DEFAULT;
        }

        Ok(Self { disk, tags, state })
    }

    fn new(faux: &'bound faux::Registration) -> Result<Self> {
        let bench = Self::not_added(faux)?;

        bench.disk.add()?;
        Ok(bench)
    }

    fn script(&self, steps: &[Step]) -> Result {
        self.state.script(steps)
    }

    fn part(&self) -> Part {
        // SAFETY: The disk is valid.
        Part(unsafe { (*self.disk.raw()).part0 })
    }

    /// Returns the only request that the driver got.
    fn only(&self) -> Record {
        let log = self.state.log.lock();

        assert_eq!(log.requests.len(), 1);
        log.requests[0]
    }
}

/// A disk whose driver does not handle timeouts, and the state of its driver.
fn gen_disk() -> Result<(Arc<State>, GenDisk<Scripted>, Part)> {
    let state = State::new()?;
    let tags = Arc::pin_init(TagSet::new(1, DEPTH, 1), GFP_KERNEL)?;
    let queue = KBox::new(Queue(state.clone()), GFP_KERNEL)?;
    let number = NUMBER.fetch_add(1, Relaxed);

    // Adding the disk tries to read a partition table.
    state.log.lock().fail = true;
    let disk = GenDiskBuilder::new().capacity_sectors(SECTORS).build(
        fmt!("rust_disk{number}"),
        tags,
        queue,
    )?;
    state.log.lock().fail = false;

    let raw = state.disk.load(Relaxed) as *mut bindings::gendisk;
    if raw.is_null() {
        return Err(ENXIO);
    }
    // SAFETY: The disk is valid.
    let part = Part(unsafe { (*raw).part0 });
    Ok((state, disk, part))
}

/// A block device to submit requests to; valid for as long as the disk.
#[derive(Clone, Copy)]
struct Part(*mut bindings::block_device);

// SAFETY: Requests may be submitted by any thread.
unsafe impl Send for Part {}

impl Part {
    /// Reads or writes a page at `sector`, and waits for completion.
    fn transfer(self, sector: u64, op: bindings::blk_opf_t) -> Result {
        let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;

        // SAFETY: The test keeps the disk, and the page stays allocated until this returns.
        to_result(unsafe {
            bindings::bdev_rw_virt(self.0, sector, page.as_mut_ptr().cast(), PAGE_SIZE, op)
        })
    }

    fn write(self) -> Result {
        self.transfer(0, bindings::req_op_REQ_OP_WRITE)
    }

    fn flush(self) -> Result {
        // SAFETY: The test keeps the disk.
        to_result(unsafe { bindings::blkdev_issue_flush(self.0) })
    }

    fn discard(self, sector: u64, count: u64) -> Result {
        // SAFETY: See above.
        to_result(unsafe {
            bindings::blkdev_issue_discard(self.0, sector, count, GFP_KERNEL.as_raw())
        })
    }

    fn write_zeroes(self, sector: u64, count: u64) -> Result {
        // SAFETY: See above.
        to_result(unsafe {
            bindings::blkdev_issue_zeroout(
                self.0,
                sector,
                count,
                GFP_KERNEL.as_raw(),
                bindings::BLKDEV_ZERO_NOFALLBACK,
            )
        })
    }
}

/// A write in another task.
#[pin_data]
struct Background {
    #[pin]
    done: Completion,
    #[pin]
    result: SpinLock<Option<Result>>,
}

impl Background {
    fn write(part: Part) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                done <- Completion::new(),
                result <- new_spinlock!(None),
            }),
            GFP_KERNEL,
        )?;
        let task = this.clone();

        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            // Captures the whole `Part`, which is `Send`.
            let part = part;
            *task.result.lock() = Some(part.write());
            task.done.complete_all();
        })?;
        Ok(this)
    }

    fn is_done(&self) -> bool {
        self.result.lock().is_some()
    }

    fn wait(&self) -> Result {
        self.done.wait_for_completion();
        self.result.lock().take().unwrap_or(Err(EINVAL))
    }
}

/// A read of a page, to be submitted together with others.
#[pin_data]
struct Read {
    bio: Opaque<bindings::bio>,
    bvec: Opaque<bindings::bio_vec>,
    _page: KVec<u8>,
    #[pin]
    done: Completion,
}

// SAFETY: The block layer synchronises accesses to the bio. Only a page that belongs to it is
// changed otherwise.
unsafe impl Send for Read {}

// SAFETY: See above.
unsafe impl Sync for Read {}

impl Read {
    fn new(part: Part, sector: u64) -> Result<Arc<Self>> {
        let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
        let addr = page.as_mut_ptr().cast();
        let this = Arc::pin_init(
            pin_init!(Self {
                bio: Opaque::uninit(),
                bvec: Opaque::uninit(),
                _page: page,
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let bio = this.bio.get();

        // SAFETY: The test keeps the disk. The rest belongs to `this`, which nothing else refers
        // to.
        unsafe {
            let op = bindings::req_op_REQ_OP_READ;
            bindings::bio_init(bio, part.0, this.bvec.get(), 1, op);
            bindings::bio_add_virt_nofail(bio, addr, PAGE_SIZE as u32);
            (*bio).bi_iter.bi_sector = sector;
            (*bio).bi_private = Arc::as_ptr(&this).cast_mut().cast();
            (*bio).bi_end_io = Some(Self::ended);
        }
        Ok(this)
    }

    /// # Safety
    ///
    /// `bio` belongs to a `Read` that is valid until its completion was waited for.
    unsafe extern "C" fn ended(bio: *mut bindings::bio) {
        // SAFETY: `bi_private` points to the `Read`, which is valid.
        let this = unsafe { &*(*bio).bi_private.cast::<Self>() };

        this.done.complete_all();
    }

    /// Submits all reads at once and waits for them; returns how many failed.
    fn together(reads: &[Arc<Self>]) -> usize {
        let mut plug = pin_init::zeroed();

        // SAFETY: The plug is a local variable, and finished here. Each bio is submitted once, and
        // stays valid until it has completed.
        unsafe {
            bindings::blk_start_plug(&raw mut plug);
            for read in reads {
                bindings::submit_bio(read.bio.get());
            }
            bindings::blk_finish_plug(&raw mut plug);
        }
        for read in reads {
            read.done.wait_for_completion();
        }
        // SAFETY: The bio has completed.
        let failed = |read: &&Arc<Self>| unsafe { (*read.bio.get()).bi_status } != 0;
        reads.iter().filter(failed).count()
    }
}

/// An open file of the disk.
struct Opened(*mut bindings::file);

impl Opened {
    fn new(part: Part) -> Result<Self> {
        /// `BLK_OPEN_READ`
        const READ: bindings::blk_mode_t = 1;

        // SAFETY: The test keeps the disk. There is no exclusive holder.
        let file = unsafe {
            bindings::bdev_file_open_by_dev((*part.0).bd_dev, READ, ptr::null_mut(), ptr::null())
        };
        Ok(Self(from_err_ptr(file)?))
    }

    fn ioctl(&self, cmd: u32, arg: usize) -> Result<c_long> {
        // SAFETY: The file is open.
        let ioctl = unsafe { (*(*self.0).f_op).unlocked_ioctl }.ok_or(ENXIO)?;

        // SAFETY: See above. No argument in these tests is an address.
        let result = unsafe { ioctl(self.0, cmd, arg) };
        to_result(result as c_int)?;
        Ok(result)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: `self` owns the only reference to the file.
        unsafe { bindings::__fput_sync(self.0) };
    }
}

/// Registers a device named `name`. Each test has its own, so that a failure affects no other test.
fn faux(name: &CStr) -> Result<faux::Registration> {
    faux::Registration::new(name, None)
}

/// Sets the shortest timeout, which is about a second.
fn shorten_timeout(bench: &Bench<'_>) {
    // SAFETY: The disk and so its queue are valid.
    unsafe { bindings::blk_queue_rq_timeout((*bench.disk.raw()).queue, 1) };
}

#[macros::kunit_tests(rust_block_mq_disk)]
mod suite {
    use super::*;

    #[test]
    fn request_has_its_fields() -> Result {
        let faux = faux(c"rust_disk_fields")?;
        let bench = Bench::new(&faux)?;
        let part = bench.part();
        let check = |op, fua, sector, bytes| {
            let request = bench.only();
            assert!(request.tag < DEPTH && request.queue < 2);
            let expected = Record {
                op,
                fua,
                sector,
                bytes,
                ..request
            };
            assert_eq!(request, expected);
        };
        let page = PAGE_SIZE as u32;

        bench.script(&[])?;
        part.transfer(8, bindings::req_op_REQ_OP_READ)?;
        check(Op::Read, false, 8, page);

        bench.script(&[])?;
        part.transfer(16, bindings::req_op_REQ_OP_WRITE)?;
        check(Op::Write, false, 16, page);

        bench.script(&[])?;
        let fua = 1 << bindings::req_flag_bits___REQ_FUA;
        part.transfer(24, bindings::req_op_REQ_OP_WRITE | fua)?;
        check(Op::Write, true, 24, page);

        bench.script(&[])?;
        part.flush()?;
        check(Op::Flush, false, bench.only().sector, 0);

        bench.script(&[])?;
        part.discard(32, 64)?;
        check(Op::Discard, false, 32, 64 << 9);

        bench.script(&[])?;
        part.write_zeroes(40, 16)?;
        check(Op::WriteZeroes, false, 40, 16 << 9);
        Ok(())
    }

    #[test]
    fn error_reaches_the_submitter() -> Result {
        let faux = faux(c"rust_disk_errors")?;
        let bench = Bench::new(&faux)?;

        for error in [EIO, ENOSPC, EOPNOTSUPP, EREMOTEIO, ETIMEDOUT, ENODEV] {
            for step in [
                Step::End(Err(error)),
                Step::Complete(Err(error)),
                Step::Fail(error),
            ] {
                bench.script(&[step])?;
                assert_eq!(bench.part().write(), Err(error));
            }
        }
        // The block layer has no status for EEXIST.
        bench.script(&[Step::End(Err(EEXIST))])?;
        assert_eq!(bench.part().write(), Err(EIO));
        // ENOMEM makes the block layer dispatch it again.
        bench.script(&[Step::Fail(ENOMEM), Step::Complete(Ok(()))])?;
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(bench.state.log.lock().requests.len(), 2);
        Ok(())
    }

    #[test]
    fn requeued_request_is_dispatched_again() -> Result {
        let faux = faux(c"rust_disk_requeue")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::Requeue, Step::Requeue, Step::End(Err(ENOSPC))])?;
        assert_eq!(
            bench.part().transfer(48, bindings::req_op_REQ_OP_READ),
            Err(ENOSPC)
        );

        {
            let log = bench.state.log.lock();
            assert_eq!(log.requests.len(), 3);
            for (tries, request) in (0..).zip(log.requests.iter()) {
                assert_eq!((request.op, request.sector), (Op::Read, 48));
                assert_eq!(request.tries, tries);
            }
        }

        // The next request has the same tag, and starts to count anew.
        bench.script(&[])?;
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(bench.only().tries, 0);
        Ok(())
    }

    #[test]
    fn requeued_request_is_delayed() -> Result {
        let faux = faux(c"rust_disk_delay")?;
        let bench = Bench::new(&faux)?;

        let (write, rq) = bench.state.hold(bench.part())?;
        let start: Instant<Monotonic> = Instant::now();
        retry(rq, |rq| Request::requeue_after(rq, Delta::from_millis(200)));
        assert_eq!(write.wait(), Ok(()));
        // A delay in jiffies may be less by one.
        assert!(start.elapsed() > Delta::from_millis(150));
        let tries = |log: &Log| log.requests.last().map(|last| last.tries);
        assert_eq!(tries(&bench.state.log.lock()), Some(1));

        // The delay of a dead disk ends at once.
        let (write, rq) = bench.state.hold(bench.part())?;
        let start: Instant<Monotonic> = Instant::now();
        retry(rq, |rq| Request::requeue_after(rq, Delta::from_secs(60)));
        bench.disk.mark_dead_later();
        let _ = write.wait();
        assert!(start.elapsed() < Delta::from_secs(30));
        Ok(())
    }

    #[test]
    fn shared_request_is_not_ended() -> Result {
        let faux = faux(c"rust_disk_shared")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::Share])?;
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(&bench.state.log.lock().shared[..], [true]);

        // A requeue that fails is not counted.
        bench.script(&[Step::Requeue, Step::Share])?;
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(&bench.state.log.lock().shared[..], [true; 2]);
        assert_eq!(bench.state.log.lock().requests.len(), 2);
        Ok(())
    }

    /// Three reads that are not merged.
    fn reads(bench: &Bench<'_>) -> Result<[Arc<Read>; 3]> {
        Ok([
            Read::new(bench.part(), 0)?,
            Read::new(bench.part(), 64)?,
            Read::new(bench.part(), 128)?,
        ])
    }

    /// Returns sector, and whether it was in a list, of each request that the driver got.
    fn queued(bench: &Bench<'_>) -> Result<KVec<(u64, bool)>> {
        let log = bench.state.log.lock();
        let mut queued = KVec::with_capacity(log.requests.len(), GFP_ATOMIC)?;

        for request in &log.requests {
            queued.push((request.sector, request.in_list), GFP_ATOMIC)?;
        }
        Ok(queued)
    }

    #[test]
    fn plugged_requests_are_in_a_list() -> Result {
        let faux = faux(c"rust_disk_plug")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[])?;
        assert_eq!(Read::together(&reads(&bench)?), 0);
        assert_eq!(&queued(&bench)?[..], [(0, true), (64, true), (128, true)]);

        let log = bench.state.log.lock();
        let [first, second, third] = log.requests[..] else {
            panic!("{:?}", &log.requests[..]);
        };
        assert_eq!(first.is_last, first.queue != second.queue);
        assert_eq!(second.is_last, second.queue != third.queue);
        assert!(third.is_last);
        assert_eq!(log.commits, 0);
        Ok(())
    }

    #[test]
    fn request_that_was_put_back_is_queued_alone() -> Result {
        let faux = faux(c"rust_disk_put_back")?;
        let bench = Bench::new(&faux)?;

        for step in [Step::PutBack, Step::PutBackShared] {
            bench.script(&[Step::End(Ok(())), step, Step::End(Ok(())), Step::Share])?;
            assert_eq!(Read::together(&reads(&bench)?), 0);
            assert_eq!(&queued(&bench)?[..], [(0, true), (128, true), (64, false)]);
        }
        let log = bench.state.log.lock();
        assert_eq!(&log.put_back[..], [true; 2]);
        // It had one reference then, and was not requeued.
        assert_eq!(&log.shared[..], [true; 2]);
        assert!(log.requests.iter().all(|request| request.tries == 0));
        Ok(())
    }

    #[test]
    fn requests_that_remain_in_a_list_are_queued_alone() -> Result {
        let faux = faux(c"rust_disk_remain")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::End(Ok(())), Step::Leave])?;
        assert_eq!(Read::together(&reads(&bench)?), 0);
        assert_eq!(&queued(&bench)?[..], [(0, true), (64, false), (128, false)]);

        // Their errors are handled same as without a list.
        let steps = [
            Step::Leave,
            Step::End(Ok(())),
            Step::Fail(ENOSPC),
            Step::End(Err(EIO)),
        ];
        bench.script(&steps)?;
        assert_eq!(Read::together(&reads(&bench)?), 2);
        assert_eq!(
            &queued(&bench)?[..],
            [(0, false), (64, false), (128, false)]
        );
        Ok(())
    }

    #[test]
    fn request_that_is_refused_temporarily_is_queued_again() -> Result {
        let faux = faux(c"rust_disk_again")?;
        let bench = Bench::new(&faux)?;

        // The others do not wait for it.
        let steps = [
            Step::End(Ok(())),
            Step::PutBack,
            Step::End(Ok(())),
            Step::Fail(ENOMEM),
        ];
        bench.script(&steps)?;
        assert_eq!(Read::together(&reads(&bench)?), 0);
        let again = [(0, true), (128, true), (64, false), (64, false)];
        assert_eq!(&queued(&bench)?[..], again);

        // If the last one of several is refused, the driver gets `commit_rqs()`.
        let steps = [
            Step::Leave,
            Step::End(Ok(())),
            Step::End(Ok(())),
            Step::Fail(ENOMEM),
            Step::Fail(ENOSPC),
        ];
        bench.script(&steps)?;
        bench.state.log.lock().commits = 0;
        assert_eq!(Read::together(&reads(&bench)?), 1);
        assert_eq!(bench.state.log.lock().requests.len(), 4);
        assert!(bench.state.log.lock().commits >= 1);
        Ok(())
    }

    #[test]
    fn request_of_another_disk_is_not_put_back() -> Result {
        let faux = faux(c"rust_disk_foreign")?;
        let bench = Bench::new(&faux)?;
        let other = Bench::new(&faux)?;

        let (write, rq) = other.state.hold(other.part())?;
        bench.script(&[])?;
        bench.state.log.lock().foreign = Some(rq);
        assert_eq!(Read::together(&reads(&bench)?), 0);
        assert_eq!(bench.state.log.lock().requests.len(), 3);
        assert!(!write.is_done());

        let rq = bench.state.take_held().ok_or(ENOENT)?;
        assert!(Request::end(rq, Err(ENOSPC)).is_ok());
        assert_eq!(write.wait(), Err(ENOSPC));
        Ok(())
    }

    #[test]
    fn batch_completes_its_requests() -> Result {
        let faux = faux(c"rust_disk_batch")?;
        let bench = Bench::new(&faux)?;

        for (success, result) in [(true, Ok(())), (false, Ok(())), (false, Err(ENOSPC))] {
            bench.script(&[Step::Hold; 3])?;
            let writes = [
                Background::write(bench.part())?,
                Background::write(bench.part())?,
                Background::write(bench.part())?,
            ];
            bench.state.wait_until(|log| log.held.len() == 3);
            let errno = result.map_or_else(Error::to_errno, |()| 0);
            bench.state.result.store(errno, Relaxed);

            let mut batch = Batch::new();
            while let Some(rq) = bench.state.take_held() {
                batch.complete(rq, success);
            }
            drop(batch);
            for write in writes {
                assert_eq!(write.wait(), result);
            }
        }
        Ok(())
    }

    /// Ways to complete a request twice, through two references.
    const COMPLETIONS: [fn(Rq, Rq); 6] = [
        |first, second| {
            Request::complete(first);
            Request::complete(second);
        },
        |first, second| {
            let mut batch = Batch::new();
            batch.complete(first, true);
            batch.complete(second, true);
        },
        |first, second| {
            let mut batch = Batch::new();
            batch.complete(first, false);
            batch.complete(second, false);
        },
        |first, second| {
            let mut batches = [Batch::new(), Batch::new()];
            batches[0].complete(first, true);
            batches[1].complete(second, false);
        },
        |first, second| {
            let mut batch = Batch::new();
            Request::complete(first);
            batch.complete(second, true);
        },
        |first, second| {
            let mut batch = Batch::new();
            batch.complete(first, false);
            Request::complete(second);
        },
    ];

    #[test]
    fn request_is_completed_once() -> Result {
        let faux = faux(c"rust_disk_completed")?;
        let bench = Bench::new(&faux)?;
        let completions = &bench.state.completions;

        for (again, complete) in COMPLETIONS.into_iter().enumerate() {
            let (write, rq) = bench.state.hold(bench.part())?;
            completions.store(0, Relaxed);
            // `complete()` completes the request once more.
            bench.state.complete_again.store(again as u32 & 1, Relaxed);

            complete(rq.clone(), rq.clone());
            wait_until(|| completions.load(Relaxed) != 0);
            fsleep(Delta::from_millis(50));
            assert_eq!(completions.load(Relaxed), 1);
            assert!(!write.is_done());

            // The last reference still ends it.
            retry(rq, |rq| Request::end(rq, Err(ENOSPC)));
            assert_eq!(write.wait(), Err(ENOSPC));
        }
        Ok(())
    }

    #[test]
    fn last_reference_completes_once() -> Result {
        let faux = faux(c"rust_disk_completed_last")?;
        let bench = Bench::new(&faux)?;
        let completions = &bench.state.completions;

        for batched in [false, true] {
            let (write, rq) = bench.state.hold(bench.part())?;
            let raw = raw(&rq);
            let refcount = || {
                // SAFETY: The request has not ended.
                let rq = unsafe { &*raw.cast::<Request<Scripted>>() };
                rq.wrapper_ref().refcount()
            };
            completions.store(0, Relaxed);

            Request::complete(rq.clone());
            wait_until(|| completions.load(Relaxed) == 1);
            wait_until(|| refcount().as_atomic().load(Relaxed) == 2);
            if batched {
                Batch::new().complete(rq, true);
            } else {
                Request::complete(rq);
            }
            fsleep(Delta::from_millis(50));
            assert_eq!(completions.load(Relaxed), 1);
            assert!(!write.is_done());

            // The reference was dropped, and the request belongs to the driver.
            assert_eq!(refcount().as_atomic().load(Relaxed), 1);
            refcount().inc();
            // SAFETY: The request is valid, and the reference was just counted.
            let rq = unsafe { Request::<Scripted>::aref_from_raw(raw) };
            assert!(Request::end(rq, Err(ENOSPC)).is_ok());
            assert_eq!(write.wait(), Err(ENOSPC));
        }
        Ok(())
    }

    #[test]
    fn completed_request_is_requeued() -> Result {
        let faux = faux(c"rust_disk_completed_requeue")?;
        let bench = Bench::new(&faux)?;
        let state = &bench.state;

        let (write, rq) = state.hold(bench.part())?;
        Request::complete(rq.clone());
        wait_until(|| state.completions.load(Relaxed) == 1);

        // It is completed again after the next start.
        state.script(&[Step::Complete(Err(ENOSPC))])?;
        retry(rq, Request::requeue);
        assert_eq!(write.wait(), Err(ENOSPC));
        assert_eq!(bench.only().tries, 1);
        assert_eq!(state.completions.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn request_data_stays_with_the_request() -> Result {
        let faux = faux(c"rust_disk_data")?;
        let bench = Bench::new(&faux)?;

        let (write, rq) = bench.state.hold(bench.part())?;
        let data = rq.data();
        assert_eq!(data.address, ptr::from_ref(&*data) as usize);
        *data.word.lock() = 0x4711;
        assert_eq!(*rq.clone().data().word.lock(), 0x4711);

        bench.script(&[Step::Hold])?;
        assert!(Request::requeue(rq).is_ok());
        bench.state.wait_until(|log| log.held.len() == 1);
        let rq = bench.state.take_held().ok_or(ENOENT)?;
        assert_eq!(*rq.data().word.lock(), 0x4711);

        // Another request has other data.
        let (other_write, other) = bench.state.hold(bench.part())?;
        assert_ne!(other.data().address, rq.data().address);
        for rq in [rq, other] {
            assert!(Request::end(rq, Ok(())).is_ok());
        }
        write.wait()?;
        other_write.wait()
    }

    #[test]
    fn request_data_is_dropped() -> Result {
        let faux = faux(c"rust_disk_data_drop")?;
        let before = INITIALIZED.load(Relaxed);
        let bench = Bench::new(&faux)?;
        let with_disk = INITIALIZED.load(Relaxed);

        assert!(with_disk >= before + DEPTH);
        // That of flush requests belongs to the disk, all other to the tag set.
        let Bench { disk, tags, .. } = bench;
        drop(disk);
        let with_tags = INITIALIZED.load(Relaxed);
        assert!(with_tags < with_disk && with_tags >= before + DEPTH);
        drop(tags);
        assert_eq!(INITIALIZED.load(Relaxed), before);
        Ok(())
    }

    #[test]
    fn request_data_that_fails_makes_the_allocation_fail() -> Result {
        let faux = faux(c"rust_disk_data_fail")?;
        let before = INITIALIZED.load(Relaxed);
        let with_tags = {
            let bench = Bench::not_added(&faux)?;
            let Bench { disk, tags, .. } = bench;
            drop(disk);
            let count = INITIALIZED.load(Relaxed);
            drop(tags);
            count
        };

        // None of the flush requests of the disk. A tag set without any request is not tested: in
        // 7.3 `blk_mq_alloc_tag_set()` warns then, as it does not wait for SRCU callbacks.
        MAX_INITIALIZED.store(with_tags, Relaxed);
        let result = Bench::not_added(&faux).map(drop);
        MAX_INITIALIZED.store(u32::MAX, Relaxed);
        assert_eq!(result, Err(ENOMEM));
        assert_eq!(INITIALIZED.load(Relaxed), before);

        // With fewer requests than wanted there is a tag set of less depth.
        MAX_INITIALIZED.store(with_tags - 1, Relaxed);
        let tags = Arc::pin_init(TagSet::<Scripted>::with_timeout(2, DEPTH), GFP_KERNEL);
        MAX_INITIALIZED.store(u32::MAX, Relaxed);
        let count = INITIALIZED.load(Relaxed);
        assert!(count > before && count < with_tags);
        drop(tags?);
        assert_eq!(INITIALIZED.load(Relaxed), before);
        Ok(())
    }

    /// Checks that an error does not end a request that is in use.
    fn check_errors(state: &State, part: Part) -> Result {
        state.script(&[Step::HoldAndFail])?;
        let write = Background::write(part)?;
        state.wait_until(|log| log.held.len() == 1);
        fsleep(Delta::from_millis(50));
        assert!(!write.is_done());
        state.end_held(Err(ENOSPC));
        assert_eq!(write.wait(), Err(ENOSPC));

        // Nor does it end a request twice.
        for step in [Step::EndAndFail, Step::CompleteAndFail] {
            state.script(&[step])?;
            assert_eq!(part.write(), Ok(()));
            state.script(&[])?;
            assert_eq!(part.write(), Ok(()));
        }
        // It ends a request that is not in use.
        state.script(&[Step::Fail(ENOSPC)])?;
        assert_eq!(part.write(), Err(ENOSPC));
        Ok(())
    }

    #[test]
    fn error_does_not_end_a_request_in_use() -> Result {
        let faux = faux(c"rust_disk_kept")?;
        let bench = Bench::new(&faux)?;
        check_errors(&bench.state, bench.part())?;

        let (state, _disk, part) = gen_disk()?;
        check_errors(&state, part)
    }

    /// Checks that dropping a disk waits for a `queue_rq()` whose request has ended.
    fn check_drop(state: &State, part: Part, drop_disk: impl FnOnce()) -> Result {
        state.script(&[Step::EndAndLinger])?;
        let read = Read::new(part, 0)?;
        let task = read.clone();
        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            Read::together(&[task]);
        })?;
        read.done.wait_for_completion();
        assert!(state.in_use.load(Relaxed));

        drop_disk();
        let log = state.log.lock();
        assert!(log.dropped && !log.dropped_in_use);
        Ok(())
    }

    #[test]
    fn queue_data_is_valid_in_queue_rq() -> Result {
        let faux = faux(c"rust_disk_linger")?;
        let bench = Bench::new(&faux)?;
        let part = bench.part();
        check_drop(&bench.state, part, || drop(bench.disk))?;

        let (state, disk, part) = gen_disk()?;
        check_drop(&state, part, || drop(disk))
    }

    #[test]
    fn drop_of_a_disk_waits_for_references() -> Result {
        let (state, disk, part) = gen_disk()?;

        // The error does not end the request, so its queue data stays valid.
        state.script(&[Step::HoldAndFail])?;
        let write = Background::write(part)?;
        state.wait_until(|log| log.held.len() == 1);
        let rq = state.take_held().ok_or(ENOENT)?;
        let holder = state.clone();
        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            fsleep(Delta::from_millis(100));
            assert!(!holder.log.lock().dropped);
            assert!(ptr::eq(&*rq.queue_data().0, &*holder));
            assert!(Request::end(rq, Ok(())).is_ok());
        })?;
        drop(disk);
        assert!(state.log.lock().dropped);
        assert_eq!(write.wait(), Ok(()));
        Ok(())
    }

    #[test]
    fn timeout_names_queue_and_tag() -> Result {
        let faux = faux(c"rust_disk_timeout")?;
        let bench = Bench::new(&faux)?;
        shorten_timeout(&bench);

        // The first timeout restarts the timer, the second one ends the request.
        bench.state.log.lock().after_timeouts = Some((2, Err(ETIMEDOUT)));
        bench.script(&[Step::Hold])?;
        assert_eq!(bench.part().write(), Err(ETIMEDOUT));

        let Record { queue, tag, .. } = bench.only();
        assert_eq!(&bench.state.log.lock().timeouts[..], [(queue, tag); 2]);
        Ok(())
    }

    #[test]
    fn flush_times_out() -> Result {
        let faux = faux(c"rust_disk_flush")?;
        let bench = Bench::new(&faux)?;
        shorten_timeout(&bench);

        bench.state.log.lock().after_timeouts = Some((1, Ok(())));
        bench.script(&[Step::Hold])?;
        assert_eq!(bench.part().flush(), Ok(()));

        let Record { queue, tag, .. } = bench.only();
        assert_eq!(&bench.state.log.lock().timeouts[..], [(queue, tag)]);
        Ok(())
    }

    #[test]
    fn quiesced_queues_dispatch_no_request() -> Result {
        let faux = faux(c"rust_disk_quiesce")?;
        let bench = Bench::new(&faux)?;

        // A requeued request is dispatched after as many calls of `unquiesce()` as of `quiesce()`.
        bench.script(&[Step::Hold])?;
        let write = Background::write(bench.part())?;
        bench.state.wait_until(|log| log.held.len() == 1);
        bench.tags.quiesce();
        bench.tags.quiesce();
        let rq = bench.state.take_held().ok_or(ENOENT)?;
        assert!(Request::requeue(rq).is_ok());
        bench.tags.unquiesce();
        fsleep(Delta::from_millis(50));
        assert_eq!(bench.state.log.lock().requests.len(), 1);

        bench.tags.unquiesce();
        assert_eq!(write.wait(), Ok(()));
        assert_eq!(bench.state.log.lock().requests.len(), 2);
        Ok(())
    }

    #[test]
    fn frozen_disk_has_no_request() -> Result {
        let faux = faux(c"rust_disk_freeze")?;
        let bench = Bench::new(&faux)?;

        // The wait for a held request ends with the timeout.
        bench.script(&[Step::Hold])?;
        let write = Background::write(bench.part())?;
        bench.state.wait_until(|log| log.held.len() == 1);
        assert_eq!(bench.disk.freeze(Delta::from_millis(50)), Err(ETIMEDOUT));
        bench.state.end_held(Ok(()));
        assert_eq!(write.wait(), Ok(()));

        // The queue was not frozen then. While it is, no request is dispatched.
        assert_eq!(bench.part().write(), Ok(()));
        assert!(!bench.disk.is_frozen());
        assert_eq!(bench.disk.freeze(Delta::from_secs(5)), Ok(()));
        assert!(bench.disk.is_frozen());
        assert_eq!(bench.disk.freeze(Delta::from_secs(5)), Err(EBUSY));
        let write = Background::write(bench.part())?;
        fsleep(Delta::from_millis(50));
        assert_eq!(bench.state.log.lock().requests.len(), 2);

        bench.disk.unfreeze();
        bench.disk.unfreeze();
        assert_eq!(write.wait(), Ok(()));

        // A frozen disk can be dropped.
        bench.disk.freeze(Delta::from_secs(5))
    }

    #[test]
    fn driver_requests_reach_the_driver() -> Result {
        let faux = faux(c"rust_disk_driver_request")?;
        let bench = Bench::new(&faux)?;
        let file = Opened::new(bench.part())?;

        for (write, result) in [
            (0, Ok(())),
            (1, Ok(())),
            (0, Err(EOPNOTSUPP)),
            (1, Err(EIO)),
        ] {
            bench.script(&[Step::End(result)])?;
            assert_eq!(file.ioctl(IOCTL_EXECUTE, write), result.map(|()| 0));
            let record = bench.only();
            assert_eq!((record.op, record.bytes), (Op::Driver, 0));
        }
        Ok(())
    }

    #[test]
    fn dead_disk_refuses_driver_requests() -> Result {
        let faux = faux(c"rust_disk_driver_dead")?;
        let bench = Bench::new(&faux)?;
        let file = Opened::new(bench.part())?;

        bench.disk.mark_dead();
        assert_eq!(file.ioctl(IOCTL_EXECUTE, 0), Err(ENODEV));
        Ok(())
    }

    #[test]
    fn ioctl_after_drop_fails() -> Result {
        let faux = faux(c"rust_disk_ioctl")?;
        let Bench { disk, state, .. } = Bench::new(&faux)?;
        // SAFETY: The disk is valid.
        let file = Opened::new(Part(unsafe { (*disk.raw()).part0 }))?;
        let count = state.log.lock().requests.len() as c_long;

        assert_eq!(file.ioctl(IOCTL, 7), Ok(7 + count));
        assert_eq!(file.ioctl(IOCTL + 1, 7), Err(ENOTTY));
        drop(disk);
        assert!(state.log.lock().dropped);
        assert_eq!(file.ioctl(IOCTL, 7), Err(ENODEV));
        assert_eq!(file.ioctl(IOCTL + 1, 7), Err(ENODEV));
        // No request reaches the driver.
        let queued = state.log.lock().requests.len();
        // SAFETY: The open file holds a reference to the disk.
        let part = Part(unsafe { bindings::file_bdev(file.0) });
        assert_eq!(part.write(), Err(EIO));
        assert_eq!(state.log.lock().requests.len(), queued);
        Ok(())
    }

    #[test]
    fn drop_waits_for_requests() -> Result {
        let faux = faux(c"rust_disk_in_flight")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::Hold])?;
        let write = Background::write(bench.part())?;
        bench.state.wait_until(|log| log.held.len() == 1);
        let state = bench.state.clone();
        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            fsleep(Delta::from_millis(100));
            assert!(!state.log.lock().dropped);
            state.end_held(Ok(()));
        })?;
        drop(bench.disk);

        assert!(bench.state.log.lock().held.is_empty());
        assert!(bench.state.log.lock().dropped);
        assert_eq!(write.wait(), Ok(()));
        Ok(())
    }

    #[test]
    fn dead_disk_fails_requests() -> Result {
        let faux = faux(c"rust_disk_dead")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[])?;
        bench.disk.mark_dead();
        bench.disk.mark_dead();
        assert_eq!(bench.part().write(), Err(EIO));
        assert!(bench.state.log.lock().requests.is_empty());

        let bench = Bench::new(&faux)?;
        bench.disk.mark_dead_later();
        bench.disk.mark_dead_later();
        wait_until(|| bench.part().write() == Err(EIO));
        Ok(())
    }

    #[test]
    fn disk_is_dropped_before_it_is_marked_dead() -> Result {
        let faux = faux(c"rust_disk_dead_later")?;

        for _ in 0..100 {
            Bench::not_added(&faux)?.disk.mark_dead_later();
        }
        Ok(())
    }

    #[test]
    fn disk_is_read_only() -> Result {
        let faux = faux(c"rust_disk_read_only")?;
        let bench = Bench::not_added(&faux)?;
        // SAFETY: The disk is valid.
        let state = || unsafe { (&raw const (*bench.disk.raw()).state).read_volatile() };
        let is_read_only = || state() & (1 << bindings::GD_READ_ONLY) != 0;

        bench.disk.set_read_only(true);
        assert!(is_read_only());
        bench.disk.add()?;
        assert!(is_read_only());
        bench.disk.set_read_only(false);
        assert!(!is_read_only());
        Ok(())
    }

    #[test]
    fn disk_that_was_not_added_is_dropped() -> Result {
        let faux = faux(c"rust_disk_not_added")?;
        let bench = Bench::not_added(&faux)?;
        drop(bench.disk);
        assert!(bench.state.log.lock().dropped);

        // The same after its device was marked as gone.
        let bench = Bench::not_added(&faux)?;
        bench.disk.mark_dead();
        drop(bench.disk);
        assert!(bench.state.log.lock().dropped);

        let bench = Bench::not_added(&faux)?;
        bench.disk.mark_dead();
        bench.disk.add()?;
        assert_eq!(bench.part().write(), Err(EIO));
        drop(bench.disk);
        assert!(bench.state.log.lock().dropped);
        Ok(())
    }

    #[test]
    fn disk_is_added_once() -> Result {
        let faux = faux(c"rust_disk_once")?;
        let bench = Bench::new(&faux)?;

        assert_eq!(bench.disk.add(), Err(EBUSY));
        assert_eq!(bench.part().write(), Ok(()));
        Ok(())
    }

    #[test]
    fn vectors_must_exist() -> Result {
        let faux = faux(c"rust_disk_vectors")?;
        let faux: &faux::Device<Bound> = faux.as_ref();

        for (first, queues, result) in [
            (0, 2, Ok(())),
            (1, 1, Ok(())),
            (1, 2, Err(EINVAL)),
            (2, 1, Err(EINVAL)),
            (u32::MAX, 2, Err(EINVAL)),
        ] {
            let vectors = QueueVectors {
                dev: faux.as_ref(),
                first,
                count: 2,
            };
            let tags = TagSet::<Scripted>::alloc(None, queues.into(), DEPTH, Some(vectors));
            assert_eq!(Arc::pin_init(tags, GFP_KERNEL).map(drop), result);
        }
        Ok(())
    }

    #[test]
    fn polled_queues_need_poll() {
        let queues = QueueCounts {
            default: 1,
            poll: 1,
        };
        let tags = TagSet::<Scripted>::alloc(None, queues, DEPTH, None);

        assert_eq!(
            Arc::pin_init(tags, GFP_KERNEL).map(drop).err(),
            Some(EINVAL)
        );
    }

    #[test]
    fn polled_queues_follow_the_others() -> Result {
        let queues = QueueCounts {
            default: 1,
            poll: 2,
        };
        let tags = TagSet::<Polled>::alloc(None, queues, DEPTH, None);
        let tags = Arc::pin_init(tags, GFP_KERNEL)?;
        // SAFETY: The tag set is valid, and does not change.
        let raw = unsafe { &*tags.raw_tag_set() };
        let counts = raw.map.map(|map| map.nr_queues);

        assert_eq!((raw.nr_hw_queues, raw.nr_maps), (3, 3));
        assert_eq!(counts, [1, 0, 2]);
        assert_eq!(raw.map[2].queue_offset, 1);
        Ok(())
    }

    #[test]
    fn invalid_metadata_is_refused() {
        let invalidate: [fn(&mut Integrity); 4] = [
            |data| data.metadata_size = 0,
            |data| data.metadata_size = 15,
            |data| data.checksum = None,
            |data| data.max_segments = 0,
        ];
        let integrity = Integrity {
            metadata_size: 16,
            checksum: Some(Checksum::Crc),
            pi_offset: 8,
            tag_size: 2,
            ref_tag: true,
            max_segments: 1,
        };
        let limits = |integrity| Limits {
            integrity: Some(integrity),
            ..Limits::default()
        };

        assert_eq!(
            limits(integrity.clone()).to_raw().is_ok(),
            Integrity::SUPPORTED
        );
        for invalidate in invalidate {
            let mut integrity = integrity.clone();
            invalidate(&mut integrity);
            assert_eq!(limits(integrity).to_raw().err(), Some(EINVAL));
        }
    }

    #[test]
    fn invalid_limits_are_refused() {
        let invalidate: [fn(&mut Limits); 10] = [
            |limits| limits.logical_block_size = 0,
            |limits| limits.logical_block_size = 1000,
            |limits| limits.logical_block_size = 1 << 17,
            |limits| limits.max_hw_bytes = 2048,
            |limits| limits.logical_block_size = 2 * limits.max_hw_bytes,
            |limits| limits.max_segments = 0,
            |limits| limits.max_segment_size = 512,
            |limits| limits.virt_boundary = Some(0),
            |limits| limits.virt_boundary = Some(4095),
            |limits| limits.dma_alignment = 512,
        ];

        assert!(Limits::default().to_raw().is_ok());
        for invalidate in invalidate {
            let mut limits = Limits::default();
            invalidate(&mut limits);
            assert_eq!(limits.to_raw().err(), Some(EINVAL));
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Disks without hardware. A test scripts what the driver does with each request.

use super::*;
use crate::{
    block::mq::{
        Batch,
        Op,
        Request,
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
        delay::fsleep,
        Delta, //
    },
    types::Opaque,
    workqueue, //
};

const SECTORS: u64 = 2048;
const DEPTH: u32 = 8;
const IOCTL: u32 = 0x5a00;

/// Number in the name of the next disk.
static NUMBER: Atomic<u32> = Atomic::new(0);

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
    /// Try to end it while there is another reference.
    Share,
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
}

#[derive(Default)]
struct Log {
    /// What to do, in reverse order; further requests succeed.
    steps: KVec<Step>,
    requests: KVec<Record>,
    held: KVec<ARef<Request<Scripted>>>,
    /// Queue and tag of each timeout.
    timeouts: KVec<(u32, u32)>,
    /// After this number of timeouts, end the held requests with this result.
    after_timeouts: Option<(usize, Result)>,
    /// Number of requests that could not be ended as there was another reference.
    shared: usize,
    /// Number of calls of [`Operations::commit_rqs`].
    commits: usize,
    dropped: bool,
}

#[pin_data]
struct State {
    #[pin]
    log: SpinLock<Log>,
    /// The errno with which [`Operations::complete`] ends a request, in any context; 0 for success.
    result: Atomic<i32>,
}

impl State {
    /// Ends the held requests.
    fn end_held(&self, result: Result) {
        while let Some(rq) = self.take_held() {
            assert!(Request::end(rq, result).is_ok());
        }
    }

    fn take_held(&self) -> Option<ARef<Request<Scripted>>> {
        self.log.lock().held.pop()
    }

    fn wait_until(&self, condition: impl Fn(&Log) -> bool) {
        for _ in 0..1000 {
            if condition(&self.log.lock()) {
                return;
            }
            fsleep(Delta::from_millis(10));
        }
        panic!("timeout");
    }
}

/// The queue data, which records its drop.
struct Queue(Arc<State>);

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.log.lock().dropped = true;
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
    }
}

/// Returns whether `rq` can be neither ended nor requeued.
fn is_shared(rq: ARef<Request<Scripted>>) -> bool {
    let Err(rq) = Request::end(rq, Err(EIO)) else {
        return false;
    };

    Request::requeue(rq).is_err()
}

#[vtable]
impl Operations for Scripted {
    type QueueData = KBox<Queue>;

    fn queue_rq(queue: &Queue, rq: ARef<Request<Self>>, is_last: bool) -> Result {
        assert!(ptr::eq(rq.queue_data(), queue));

        let mut log = queue.0.log.lock();
        log.requests.push(record(&rq, is_last), GFP_ATOMIC)?;
        let step = log.steps.pop().unwrap_or(Step::End(Ok(())));

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
                log.shared += usize::from(is_shared(rq));
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
        }
        match step {
            Step::Hold => Ok(()),
            _ => Err(EIO),
        }
    }

    fn commit_rqs(queue: &Queue) {
        queue.0.log.lock().commits += 1;
    }

    fn complete(rq: ARef<Request<Self>>) {
        let result = to_result(rq.queue_data().0.result.load(Relaxed));

        assert!(Request::end(rq, result).is_ok());
    }
}

impl TimeoutOperations for Scripted {
    fn timeout(queue: &Queue, hw_queue: u32, tag: u32) -> Timeout {
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
    fn ioctl(queue: &Queue, cmd: u32, arg: usize) -> Result<c_int> {
        match cmd {
            IOCTL => Ok(c_int::try_from(arg)? + queue.0.log.lock().requests.len() as c_int),
            _ => Err(ENOTTY),
        }
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
        let state = Arc::pin_init(
            pin_init!(State {
                log <- new_spinlock!(Log::default()),
                result: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
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
        // The disk has no partition table.
        // SAFETY: The disk was not added, so nothing else accesses it.
        unsafe { (*disk.raw()).flags |= bindings::GENHD_FL_NO_PART as c_int };

        Ok(Self { disk, tags, state })
    }

    fn new(faux: &'bound faux::Registration) -> Result<Self> {
        let bench = Self::not_added(faux)?;

        bench.disk.add()?;
        Ok(bench)
    }

    /// Sets what the driver does with the next requests.
    fn script(&self, steps: &[Step]) -> Result {
        let mut log = self.state.log.lock();

        log.requests.clear();
        for step in steps.iter().rev() {
            log.steps.push(*step, GFP_ATOMIC)?;
        }
        Ok(())
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
    fn shared_request_is_not_ended() -> Result {
        let faux = faux(c"rust_disk_shared")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::Share])?;
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(bench.state.log.lock().shared, 1);
        Ok(())
    }

    #[test]
    fn plugged_requests_are_dispatched_together() -> Result {
        let faux = faux(c"rust_disk_plug")?;
        let bench = Bench::new(&faux)?;
        let reads = || -> Result<[Arc<Read>; 3]> {
            Ok([
                Read::new(bench.part(), 0)?,
                Read::new(bench.part(), 64)?,
                Read::new(bench.part(), 128)?,
            ])
        };

        bench.script(&[])?;
        assert_eq!(Read::together(&reads()?), 0);
        {
            let log = bench.state.log.lock();
            let [first, second, third] = log.requests[..] else {
                panic!("{:?}", &log.requests[..]);
            };
            assert_eq!(first.is_last, first.queue != second.queue);
            assert_eq!(second.is_last, second.queue != third.queue);
            assert!(third.is_last);
            assert_eq!(log.commits, 0);
        }

        // One that is refused temporarily is dispatched again, and the others do not wait for it.
        bench.script(&[Step::End(Ok(())), Step::Fail(ENOMEM)])?;
        assert_eq!(Read::together(&reads()?), 0);
        {
            let log = bench.state.log.lock();
            let sectors = log.requests.iter().map(|request| request.sector);
            assert!(sectors.eq([0, 64, 128, 64]));
        }

        // If the last one is refused, the driver gets `commit_rqs()`. A request that is dispatched
        // again is alone, so its error reaches the submitter.
        let steps = [
            Step::End(Ok(())),
            Step::End(Ok(())),
            Step::Fail(ENOMEM),
            Step::Fail(ENOSPC),
        ];
        bench.script(&steps)?;
        bench.state.log.lock().commits = 0;
        assert_eq!(Read::together(&reads()?), 1);
        assert_eq!(bench.state.log.lock().requests.len(), 4);
        assert!(bench.state.log.lock().commits >= 1);
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

    #[test]
    fn note_stays_with_the_request() -> Result {
        let faux = faux(c"rust_disk_note")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::Hold])?;
        let write = Background::write(bench.part())?;
        bench.state.wait_until(|log| log.held.len() == 1);
        let rq = bench.state.take_held().ok_or(ENOENT)?;
        rq.set_note(0x4711);
        assert_eq!(rq.clone().note(), 0x4711);
        assert!(Request::end(rq, Ok(())).is_ok());
        write.wait()
    }

    #[test]
    fn error_does_not_end_a_held_request() -> Result {
        let faux = faux(c"rust_disk_kept")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::HoldAndFail])?;
        let write = Background::write(bench.part())?;
        bench.state.wait_until(|log| log.held.len() == 1);
        fsleep(Delta::from_millis(50));
        assert!(!write.is_done());
        bench.state.end_held(Err(ENOSPC));
        assert_eq!(write.wait(), Err(ENOSPC));

        // Nor does it end a request twice.
        bench.script(&[Step::EndAndFail])?;
        assert_eq!(bench.part().write(), Ok(()));
        bench.script(&[])?;
        assert_eq!(bench.part().write(), Ok(()));
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
        assert_eq!(bench.disk.freeze(Delta::from_secs(5)), Ok(()));
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
    fn invalid_limits_are_refused() {
        let invalidate: [fn(&mut Limits); 9] = [
            |limits| limits.logical_block_size = 0,
            |limits| limits.logical_block_size = 1000,
            |limits| limits.logical_block_size = 1 << 17,
            |limits| limits.max_hw_bytes = 2048,
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

// SPDX-License-Identifier: GPL-2.0

//! Disks without hardware, whose driver does with each request what a test has said.

use super::*;
use crate::{
    block::mq::{
        Batch,
        Command,
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

/// Of the next disk, so that no two have the same name.
static NUMBER: Atomic<u32> = Atomic::new(0);

/// What the driver does with a request.
#[derive(Clone, Copy)]
enum Step {
    End(Result),
    /// As `End`, through [`Operations::complete`].
    Complete(Result),
    Requeue,
    /// Keep it.
    Hold,
    /// Keep it, and return an error all the same.
    HoldAndFail,
    /// End it, and return an error all the same.
    EndAndFail,
    Fail(Error),
    /// Try to give it back while there is another reference.
    Share,
}

/// What the driver saw of one.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Seen {
    command: Command,
    fua: bool,
    sector: u64,
    bytes: u32,
    tag: u32,
    queue: u32,
    tries: u32,
    /// No other comes with it.
    is_last: bool,
}

#[derive(Default)]
struct Log {
    /// What to do, the last one first; then requests end well.
    steps: KVec<Step>,
    seen: KVec<Seen>,
    held: KVec<ARef<Request<Scripted>>>,
    /// What the driver was asked about, by queue and tag.
    timeouts: KVec<(u32, u32)>,
    /// How it ends what it holds when it is asked, after as many times.
    after_timeouts: Option<(usize, Result)>,
    /// How many times a request that had another reference was not given back.
    kept: usize,
    /// How many times it was told that no other comes with those that it has.
    commits: usize,
    dropped: bool,
}

#[pin_data]
struct State {
    #[pin]
    log: SpinLock<Log>,
    /// The errno with which [`Operations::complete`], in any context, ends a request; 0 for none.
    result: Atomic<i32>,
}

impl State {
    /// Ends what the driver holds.
    fn end_held(&self, result: Result) {
        while let Some(rq) = self.take_held() {
            assert!(Request::end(rq, result).is_ok());
        }
    }

    fn take_held(&self) -> Option<ARef<Request<Scripted>>> {
        self.log.lock().held.pop()
    }

    fn wait_until(&self, is_so: impl Fn(&Log) -> bool) {
        for _ in 0..1000 {
            if is_so(&self.log.lock()) {
                return;
            }
            fsleep(Delta::from_millis(10));
        }
        panic!("it did not happen");
    }
}

/// The queue data, which says when it is dropped.
struct Queue(Arc<State>);

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.log.lock().dropped = true;
    }
}

struct Scripted;

fn seen(rq: &Request<Scripted>, is_last: bool) -> Seen {
    Seen {
        command: rq.command(),
        fua: rq.fua(),
        sector: rq.sector(),
        bytes: rq.bytes(),
        tag: rq.tag(),
        queue: rq.queue_index(),
        tries: rq.tries(),
        is_last,
    }
}

/// Whether neither way gives `rq` back.
fn is_kept(rq: ARef<Request<Scripted>>) -> bool {
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
        log.seen.push(seen(&rq, is_last), GFP_ATOMIC)?;
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
                log.kept += usize::from(is_kept(rq));
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
        let asked = log.timeouts.len();
        let end = log.after_timeouts.filter(|(times, _)| *times == asked);
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
            IOCTL => Ok(c_int::try_from(arg)? + queue.0.log.lock().seen.len() as c_int),
            _ => Err(ENOTTY),
        }
    }
}

/// A disk, and what its driver does and sees.
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

        // SAFETY: No test forgets it.
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
        // There is nothing on it: that is not a partition table.
        // SAFETY: Nobody else knows of the disk.
        unsafe { (*disk.raw()).flags |= bindings::GENHD_FL_NO_PART as c_int };

        Ok(Self { disk, tags, state })
    }

    fn new(faux: &'bound faux::Registration) -> Result<Self> {
        let bench = Self::not_added(faux)?;

        bench.disk.add()?;
        Ok(bench)
    }

    /// What the driver does with the next requests.
    fn script(&self, steps: &[Step]) -> Result {
        let mut log = self.state.log.lock();

        log.seen.clear();
        for step in steps.iter().rev() {
            log.steps.push(*step, GFP_ATOMIC)?;
        }
        Ok(())
    }

    fn part(&self) -> Part {
        // SAFETY: The disk is valid.
        Part(unsafe { (*self.disk.raw()).part0 })
    }

    /// The only request that the driver saw.
    fn only(&self) -> Seen {
        let log = self.state.log.lock();

        assert_eq!(log.seen.len(), 1);
        log.seen[0]
    }
}

/// Where requests are submitted to; good as long as the disk.
#[derive(Clone, Copy)]
struct Part(*mut bindings::block_device);

// SAFETY: Anybody may submit requests.
unsafe impl Send for Part {}

impl Part {
    /// Reads or writes a page at `sector`, and waits until that was done.
    fn transfer(self, sector: u64, op: bindings::blk_opf_t) -> Result {
        let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;

        // SAFETY: The disk is there as long as a test uses it, and the page until this returns.
        to_result(unsafe {
            bindings::bdev_rw_virt(self.0, sector, page.as_mut_ptr().cast(), PAGE_SIZE, op)
        })
    }

    fn write(self) -> Result {
        self.transfer(0, bindings::req_op_REQ_OP_WRITE)
    }

    fn flush(self) -> Result {
        // SAFETY: The disk is there as long as a test uses it.
        to_result(unsafe { bindings::blkdev_issue_flush(self.0) })
    }

    fn discard(self, sector: u64, count: u64) -> Result {
        // SAFETY: As above.
        to_result(unsafe {
            bindings::blkdev_issue_discard(self.0, sector, count, GFP_KERNEL.as_raw())
        })
    }

    fn write_zeroes(self, sector: u64, count: u64) -> Result {
        // SAFETY: As above.
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

/// A write that somebody else waits for.
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
        let its = this.clone();

        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            // All of it, which may be sent.
            let part = part;
            *its.result.lock() = Some(part.write());
            its.done.complete_all();
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

/// A read of a page that is submitted with others, and waited for later.
#[pin_data]
struct Read {
    bio: Opaque<bindings::bio>,
    vec: Opaque<bindings::bio_vec>,
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
                vec: Opaque::uninit(),
                _page: page,
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let bio = this.bio.get();

        // SAFETY: The disk is there as long as a test uses it, and the rest as long as `this`,
        // which nobody else has.
        unsafe {
            let op = bindings::req_op_REQ_OP_READ;
            bindings::bio_init(bio, part.0, this.vec.get(), 1, op);
            bindings::bio_add_virt_nofail(bio, addr, PAGE_SIZE as u32);
            (*bio).bi_iter.bi_sector = sector;
            (*bio).bi_private = Arc::as_ptr(&this).cast_mut().cast();
            (*bio).bi_end_io = Some(Self::ended);
        }
        Ok(this)
    }

    /// # Safety
    ///
    /// `bio` is that of a `Read` which is waited for.
    unsafe extern "C" fn ended(bio: *mut bindings::bio) {
        // SAFETY: By the safety requirements.
        let this = unsafe { &*(*bio).bi_private.cast::<Self>() };

        this.done.complete_all();
    }

    /// Submits them at once, and waits for all; tells how many failed.
    fn together(reads: &[Arc<Self>]) -> usize {
        let mut plug = pin_init::zeroed();

        // SAFETY: The plug is ours, and gone when this returns. Each of them is submitted once, and
        // stays until it was done.
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
        // SAFETY: It is done.
        let failed = |read: &&Arc<Self>| unsafe { (*read.bio.get()).bi_status } != 0;
        reads.iter().filter(failed).count()
    }
}

/// The disk as a program has it that has opened its file.
struct Opened(*mut bindings::file);

impl Opened {
    fn new(part: Part) -> Result<Self> {
        /// `BLK_OPEN_READ`
        const READ: bindings::blk_mode_t = 1;

        // SAFETY: The disk is there, and nobody holds it.
        let file = unsafe {
            bindings::bdev_file_open_by_dev((*part.0).bd_dev, READ, ptr::null_mut(), ptr::null())
        };
        Ok(Self(from_err_ptr(file)?))
    }

    fn ioctl(&self, cmd: u32, arg: usize) -> Result<c_long> {
        // SAFETY: The file is open.
        let ioctl = unsafe { (*(*self.0).f_op).unlocked_ioctl }.ok_or(ENXIO)?;

        // SAFETY: As above; no argument of these tests is an address.
        let answer = unsafe { ioctl(self.0, cmd, arg) };
        to_result(answer as c_int)?;
        Ok(answer)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: This is its only user.
        unsafe { bindings::__fput_sync(self.0) };
    }
}

/// A device of that name, which is the test's alone: one that fails takes nothing from the others.
fn faux(name: &CStr) -> Result<faux::Registration> {
    faux::Registration::new(name, None)
}

/// Lets requests have as little time as there can be: about a second.
fn hurry(bench: &Bench<'_>) {
    // SAFETY: The disk is valid, and so its queue.
    unsafe { bindings::blk_queue_rq_timeout((*bench.disk.raw()).queue, 1) };
}

#[macros::kunit_tests(rust_block_mq_disk)]
mod suite {
    use super::*;

    #[test]
    fn request_says_what_it_asks_for() -> Result {
        let faux = faux(c"rust_disk_fields")?;
        let bench = Bench::new(&faux)?;
        let part = bench.part();
        let all = |command, fua, sector, bytes| {
            let seen = bench.only();
            assert!(seen.tag < DEPTH && seen.queue < 2);
            let expected = Seen {
                command,
                fua,
                sector,
                bytes,
                ..seen
            };
            assert_eq!(seen, expected);
        };
        let page = PAGE_SIZE as u32;

        bench.script(&[])?;
        part.transfer(8, bindings::req_op_REQ_OP_READ)?;
        all(Command::Read, false, 8, page);

        bench.script(&[])?;
        part.transfer(16, bindings::req_op_REQ_OP_WRITE)?;
        all(Command::Write, false, 16, page);

        bench.script(&[])?;
        let fua = 1 << bindings::req_flag_bits___REQ_FUA;
        part.transfer(24, bindings::req_op_REQ_OP_WRITE | fua)?;
        all(Command::Write, true, 24, page);

        bench.script(&[])?;
        part.flush()?;
        all(Command::Flush, false, bench.only().sector, 0);

        bench.script(&[])?;
        part.discard(32, 64)?;
        all(Command::Discard, false, 32, 64 << 9);

        bench.script(&[])?;
        part.write_zeroes(40, 16)?;
        all(Command::WriteZeroes, false, 40, 16 << 9);
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
        // There is no status for it.
        bench.script(&[Step::End(Err(EEXIST))])?;
        assert_eq!(bench.part().write(), Err(EIO));
        // It is only that there is no memory just now.
        bench.script(&[Step::Fail(ENOMEM), Step::Complete(Ok(()))])?;
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(bench.state.log.lock().seen.len(), 2);
        Ok(())
    }

    #[test]
    fn requeued_request_comes_again() -> Result {
        let faux = faux(c"rust_disk_requeue")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::Requeue, Step::Requeue, Step::End(Err(ENOSPC))])?;
        assert_eq!(
            bench.part().transfer(48, bindings::req_op_REQ_OP_READ),
            Err(ENOSPC)
        );

        {
            let log = bench.state.log.lock();
            assert_eq!(log.seen.len(), 3);
            for (tries, seen) in (0..).zip(log.seen.iter()) {
                assert_eq!((seen.command, seen.sector), (Command::Read, 48));
                assert_eq!(seen.tries, tries);
            }
        }

        // The next request has its tag, and none of its tries.
        bench.script(&[])?;
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(bench.only().tries, 0);
        Ok(())
    }

    #[test]
    fn shared_request_is_not_given_back() -> Result {
        let faux = faux(c"rust_disk_shared")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::Share])?;
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(bench.state.log.lock().kept, 1);
        Ok(())
    }

    #[test]
    fn many_requests_come_at_once() -> Result {
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
            let [first, second, third] = log.seen[..] else {
                panic!("{:?}", &log.seen[..]);
            };
            assert_eq!(first.is_last, first.queue != second.queue);
            assert_eq!(second.is_last, second.queue != third.queue);
            assert!(third.is_last);
            assert_eq!(log.commits, 0);
        }

        // One that is refused for now comes again, and the others do not wait for it.
        bench.script(&[Step::End(Ok(())), Step::Fail(ENOMEM)])?;
        assert_eq!(Read::together(&reads()?), 0);
        {
            let log = bench.state.log.lock();
            let sectors = log.seen.iter().map(|seen| seen.sector);
            assert!(sectors.eq([0, 64, 128, 64]));
        }

        // Where it is the last one the driver is told that it was. An error reaches the submitter
        // when it comes alone.
        let steps = [
            Step::End(Ok(())),
            Step::End(Ok(())),
            Step::Fail(ENOMEM),
            Step::Fail(ENOSPC),
        ];
        bench.script(&steps)?;
        bench.state.log.lock().commits = 0;
        assert_eq!(Read::together(&reads()?), 1);
        assert_eq!(bench.state.log.lock().seen.len(), 4);
        assert!(bench.state.log.lock().commits >= 1);
        Ok(())
    }

    #[test]
    fn batch_completes_all() -> Result {
        let faux = faux(c"rust_disk_batch")?;
        let bench = Bench::new(&faux)?;

        for (good, result) in [(true, Ok(())), (false, Ok(())), (false, Err(ENOSPC))] {
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
                batch.complete(rq, good);
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
    fn error_does_not_give_back_what_the_driver_has() -> Result {
        let faux = faux(c"rust_disk_kept")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[Step::HoldAndFail])?;
        let write = Background::write(bench.part())?;
        bench.state.wait_until(|log| log.held.len() == 1);
        fsleep(Delta::from_millis(50));
        assert!(!write.is_done());
        bench.state.end_held(Err(ENOSPC));
        assert_eq!(write.wait(), Err(ENOSPC));

        // Nor twice what it has ended.
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
        hurry(&bench);

        // It waits once, and then gives up.
        bench.state.log.lock().after_timeouts = Some((2, Err(ETIMEDOUT)));
        bench.script(&[Step::Hold])?;
        assert_eq!(bench.part().write(), Err(ETIMEDOUT));

        let Seen { queue, tag, .. } = bench.only();
        assert_eq!(&bench.state.log.lock().timeouts[..], [(queue, tag); 2]);
        Ok(())
    }

    #[test]
    fn flush_times_out_too() -> Result {
        let faux = faux(c"rust_disk_flush")?;
        let bench = Bench::new(&faux)?;
        hurry(&bench);

        bench.state.log.lock().after_timeouts = Some((1, Ok(())));
        bench.script(&[Step::Hold])?;
        assert_eq!(bench.part().flush(), Ok(()));

        let Seen { queue, tag, .. } = bench.only();
        assert_eq!(&bench.state.log.lock().timeouts[..], [(queue, tag)]);
        Ok(())
    }

    #[test]
    fn held_queues_bring_no_request() -> Result {
        let faux = faux(c"rust_disk_quiesce")?;
        let bench = Bench::new(&faux)?;

        // One that is there already comes again only when they are let go as often as held.
        bench.script(&[Step::Hold])?;
        let write = Background::write(bench.part())?;
        bench.state.wait_until(|log| log.held.len() == 1);
        bench.tags.quiesce();
        bench.tags.quiesce();
        let rq = bench.state.take_held().ok_or(ENOENT)?;
        assert!(Request::requeue(rq).is_ok());
        bench.tags.unquiesce();
        fsleep(Delta::from_millis(50));
        assert_eq!(bench.state.log.lock().seen.len(), 1);

        bench.tags.unquiesce();
        assert_eq!(write.wait(), Ok(()));
        assert_eq!(bench.state.log.lock().seen.len(), 2);
        Ok(())
    }

    #[test]
    fn frozen_disk_has_no_request() -> Result {
        let faux = faux(c"rust_disk_freeze")?;
        let bench = Bench::new(&faux)?;

        // One that the driver keeps is waited for, and not for ever.
        bench.script(&[Step::Hold])?;
        let write = Background::write(bench.part())?;
        bench.state.wait_until(|log| log.held.len() == 1);
        assert_eq!(bench.disk.freeze(Delta::from_millis(50)), Err(ETIMEDOUT));
        bench.state.end_held(Ok(()));
        assert_eq!(write.wait(), Ok(()));

        // It was not frozen then: one comes. None does where it is.
        assert_eq!(bench.part().write(), Ok(()));
        assert_eq!(bench.disk.freeze(Delta::from_secs(5)), Ok(()));
        assert_eq!(bench.disk.freeze(Delta::from_secs(5)), Err(EBUSY));
        let write = Background::write(bench.part())?;
        fsleep(Delta::from_millis(50));
        assert_eq!(bench.state.log.lock().seen.len(), 2);

        bench.disk.unfreeze();
        bench.disk.unfreeze();
        assert_eq!(write.wait(), Ok(()));

        // One that is frozen goes.
        bench.disk.freeze(Delta::from_secs(5))
    }

    #[test]
    fn ioctl_after_drop_is_refused() -> Result {
        let faux = faux(c"rust_disk_ioctl")?;
        let Bench { disk, state, .. } = Bench::new(&faux)?;
        // SAFETY: The disk is valid.
        let file = Opened::new(Part(unsafe { (*disk.raw()).part0 }))?;
        let seen = state.log.lock().seen.len() as c_long;

        assert_eq!(file.ioctl(IOCTL, 7), Ok(7 + seen));
        assert_eq!(file.ioctl(IOCTL + 1, 7), Err(ENOTTY));
        drop(disk);
        assert!(state.log.lock().dropped);
        assert_eq!(file.ioctl(IOCTL, 7), Err(ENODEV));
        assert_eq!(file.ioctl(IOCTL + 1, 7), Err(ENODEV));
        // Nor does a request reach the driver.
        let queued = state.log.lock().seen.len();
        // SAFETY: Who has it open keeps the disk.
        let part = Part(unsafe { bindings::file_bdev(file.0) });
        assert_eq!(part.write(), Err(EIO));
        assert_eq!(state.log.lock().seen.len(), queued);
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
    fn dead_disk_refuses_requests() -> Result {
        let faux = faux(c"rust_disk_dead")?;
        let bench = Bench::new(&faux)?;

        bench.script(&[])?;
        bench.disk.mark_dead();
        bench.disk.mark_dead();
        assert_eq!(bench.part().write(), Err(EIO));
        assert!(bench.state.log.lock().seen.is_empty());
        Ok(())
    }

    #[test]
    fn disk_that_was_not_added_goes() -> Result {
        let faux = faux(c"rust_disk_not_added")?;
        let bench = Bench::not_added(&faux)?;
        drop(bench.disk);
        assert!(bench.state.log.lock().dropped);

        // Nor when its device died before that.
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
    fn limits_that_cannot_be_are_refused() {
        let spoil: [fn(&mut Limits); 9] = [
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
        for spoil in spoil {
            let mut limits = Limits::default();
            spoil(&mut limits);
            assert_eq!(limits.to_raw().err(), Some(EINVAL));
        }
    }
}

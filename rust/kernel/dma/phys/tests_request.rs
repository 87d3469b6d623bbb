// SPDX-License-Identifier: GPL-2.0

//! A disk in memory that accesses the data of requests at its DMA addresses.

use super::{
    tests::{
        device,
        DeviceView, //
    },
    *, //
};
use crate::{
    bindings,
    block::{
        mq::{
            gen_disk::{
                GenDisk,
                GenDiskBuilder, //
            },
            Operations,
            Request,
            TagSet, //
        },
        SECTOR_SHIFT, //
    },
    device::{
        Bound,
        Device, //
    },
    dma::DmaAddress,
    error::to_result,
    new_spinlock,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    },
};
use core::marker::PhantomData;

const PAGES: usize = 32;
const DEPTH: u32 = 4;

/// The queue data of the disk.
struct Queue<'bound> {
    dev: &'bound Device<Bound>,
    state: Arc<State>,
}

#[pin_data]
struct State {
    /// The contents of the disk.
    #[pin]
    bytes: SpinLock<KVec<u8>>,
    /// Address of the `struct gendisk`, set by the first request.
    disk: Atomic<usize>,
    /// Number of requests that could be completed while they were mapped.
    completed_early: Atomic<usize>,
    /// Number of requests that were not mapped at first.
    refused: Atomic<usize>,
    /// The maximum number of segments of one request.
    max_segments: Atomic<usize>,
}

struct Disk<'bound>(PhantomData<&'bound Device<Bound>>);

fn raw(rq: &Request<Disk<'_>>) -> *mut bindings::request {
    core::ptr::from_ref(rq).cast_mut().cast()
}

type Segments = KVec<(DmaAddress, usize)>;
type Map<'bound> = RequestMapping<'bound, Disk<'bound>>;

impl<'bound> Queue<'bound> {
    /// Maps a request, and returns its segments. Refuses each first time.
    fn map(&self, rq: ARef<Request<Disk<'bound>>>) -> Result<(Map<'bound>, Segments)> {
        let state = &self.state;

        let (map, _) = RequestMapping::map(self.dev, rq, |segments| Ok(segments.count()))?;
        // SAFETY: Nothing accesses it.
        let refused = unsafe { IntegrityMapping::map(self.dev, map, |_| Ok(())) };
        let (error, rq) = refused.err().ok_or(EIO)?.into_parts();
        // It has no metadata.
        if error != EINVAL {
            return Err(EPROTO);
        }

        // The first segment only.
        let refused = RequestMapping::map(self.dev, rq, |segments| Ok(segments.next().is_some()));
        let rq = match refused {
            // It is the only one.
            // SAFETY: Nothing accesses it.
            Ok((map, _)) => unsafe { map.unmap() },
            Err(error) => {
                let (error, rq) = error.into_parts();
                if error != EINVAL {
                    return Err(error);
                }
                state
                    .refused
                    .store(state.refused.load(Relaxed) + 1, Relaxed);
                rq
            }
        };
        let refused: Result<_, _> =
            RequestMapping::map(self.dev, rq, |segments| match segments.next() {
                Some(_) => Err::<(), _>(EPROTO),
                None => Ok(()),
            });
        let (error, rq) = refused.err().ok_or(EIO)?.into_parts();
        if error != EPROTO {
            return Err(error);
        }

        Ok(RequestMapping::map(self.dev, rq, |segments| {
            let mut list = KVec::with_capacity(128, GFP_ATOMIC)?;

            for segment in &mut *segments {
                list.push_within_capacity((segment.dma_address(), segment.dma_len()))
                    .map_err(|_| ENOSPC)?;
            }
            Ok(list)
        })?)
    }

    /// Copies between the disk and the DMA addresses of a request.
    fn transfer(&self, map: &Map<'bound>, segments: Segments) -> Result {
        let rq = raw(map.request());
        // SAFETY: The request belongs to the driver.
        let (sector, flags) = unsafe { ((*rq).__sector, (*rq).cmd_flags) };
        let start = usize::try_from(sector)? << SECTOR_SHIFT;
        let count = segments.len();
        let view = DeviceView::of_segments(segments)?;
        let mut disk = self.state.bytes.lock();
        let disk = disk.get_mut(start..start + map.size()).ok_or(EIO)?;

        if view.len() != map.size() {
            return Err(EPROTO);
        }
        for (offset, byte) in disk.iter_mut().enumerate() {
            if flags & 1 == bindings::req_op_REQ_OP_WRITE {
                *byte = view.read(offset);
            } else {
                view.write(offset, *byte);
            }
        }

        let max_segments = self.state.max_segments.load(Relaxed);
        self.state
            .max_segments
            .store(max_segments.max(count), Relaxed);
        Ok(())
    }
}

#[vtable]
impl<'bound> Operations for Disk<'bound> {
    type QueueData = KBox<Queue<'bound>>;
    type RequestData = MappableData<()>;

    fn new_request_data() -> impl PinInit<Self::RequestData, Error> {
        Ok(MappableData::new(()))
    }

    fn queue_rq(queue: &Queue<'bound>, rq: ARef<Request<Self>>, _is_last: bool) -> Result {
        let state = &queue.state;
        // SAFETY: The request belongs to the driver, and its queue has a disk.
        let disk = unsafe { (*(*raw(&rq)).q).disk };
        state.disk.store(disk as usize, Relaxed);

        let (map, segments) = queue.map(rq)?;
        let transferred = queue.transfer(&map, segments);

        if Request::end_ok(map.request().into()).is_ok() {
            state.completed_early.store(1, Relaxed);
        }
        // SAFETY: Nothing accesses it any longer.
        let rq = unsafe { map.unmap() };
        transferred?;
        Request::complete(rq);
        Ok(())
    }

    fn commit_rqs(_queue: &Queue<'bound>) {}

    fn complete(rq: ARef<Request<Self>>) {
        let _ = Request::end_ok(rq);
    }
}

fn disk(dev: &Device<Bound>) -> Result<(Arc<State>, GenDisk<Disk<'_>>)> {
    let bytes = KVec::from_elem(0u8, PAGES * PAGE_SIZE, GFP_KERNEL)?;
    let state = Arc::pin_init(
        pin_init!(State {
            bytes <- new_spinlock!(bytes),
            disk: Atomic::new(0),
            completed_early: Atomic::new(0),
            refused: Atomic::new(0),
            max_segments: Atomic::new(0),
        }),
        GFP_KERNEL,
    )?;

    let queue = KBox::new(
        Queue {
            dev,
            state: state.clone(),
        },
        GFP_KERNEL,
    )?;
    let tags = Arc::pin_init(TagSet::new(1, DEPTH, 1), GFP_KERNEL)?;
    let disk = GenDiskBuilder::new()
        .capacity_sectors(((PAGES * PAGE_SIZE) >> SECTOR_SHIFT) as u64)
        .build(fmt!("rust_phys"), tags, queue)?;
    Ok((state, disk))
}

/// Reads or writes `pages` in order, starting at page `start` of the disk.
fn transfer(state: &State, op: bindings::req_op, start: usize, pages: &[Page]) -> Result {
    // Adding the disk has read the partition table.
    let disk = state.disk.load(Relaxed) as *mut bindings::gendisk;
    if disk.is_null() {
        return Err(ENXIO);
    }

    // SAFETY: The caller keeps the disk, and the pages until the bio has completed. The bio has
    // capacity for all of them.
    unsafe {
        let bio = bindings::bio_alloc_bioset(
            (*disk).part0,
            pages.len().try_into()?,
            op,
            GFP_KERNEL.as_raw(),
            &raw mut bindings::fs_bio_set,
        );
        if bio.is_null() {
            return Err(ENOMEM);
        }

        (*bio).bi_iter.bi_sector = ((start * PAGE_SIZE) >> SECTOR_SHIFT) as u64;
        for page in pages {
            bindings::__bio_add_page(bio, page.as_ptr(), PAGE_SIZE as u32, 0);
        }
        let done = to_result(bindings::submit_bio_wait(bio));
        bindings::bio_put(bio);
        done
    }
}

fn pages(count: usize, byte: impl Fn(usize) -> u8) -> Result<KVec<Page>> {
    let mut pages = KVec::new();

    for index in 0..count {
        let page = Page::alloc_page(GFP_KERNEL)?;
        let bytes = [byte(index); 64];
        for offset in (0..PAGE_SIZE).step_by(bytes.len()) {
            // SAFETY: Nothing else refers to the page.
            unsafe { page.write_raw(bytes.as_ptr(), offset, bytes.len()) }?;
        }
        pages.push(page, GFP_KERNEL)?;
    }
    Ok(pages)
}

/// Returns whether all bytes of `page` are `byte`.
fn is_all(page: &Page, byte: u8) -> Result<bool> {
    let mut bytes = [0u8; 64];

    for offset in (0..PAGE_SIZE).step_by(bytes.len()) {
        // SAFETY: No request is in flight, so the page is not written.
        unsafe { page.read_raw(bytes.as_mut_ptr(), offset, bytes.len()) }?;
        if bytes != [byte; 64] {
            return Ok(false);
        }
    }
    Ok(true)
}

#[macros::kunit_tests(rust_dma_phys_request)]
mod suite {
    use super::*;

    #[test]
    fn data_is_written_and_read() -> Result {
        let owner = device(c"rust_phys_request")?;
        let (state, disk) = disk(owner.device())?;

        // In descending order, so that they are more than one range.
        let mut out = pages(16, |index| index as u8 + 1)?;
        out.reverse();
        transfer(&state, bindings::req_op_REQ_OP_WRITE, 8, &out)?;
        assert_eq!(state.bytes.lock()[8 * PAGE_SIZE - 1], 0);
        assert_eq!(state.bytes.lock()[8 * PAGE_SIZE], 16);
        assert_eq!(state.bytes.lock()[24 * PAGE_SIZE - 1], 1);

        let back = pages(3, |_| 0xff)?;
        transfer(&state, bindings::req_op_REQ_OP_READ, 22, &back)?;
        assert!(is_all(&back[0], 2)?);
        assert!(is_all(&back[1], 1)?);
        assert!(is_all(&back[2], 0)?);
        // Pages in descending order are not merged, but their bounce buffers may be.
        let one =
            Mapping::<Cpu<_>, ToDevice>::new(owner.device(), KBox::new([0u8; 64], GFP_KERNEL)?)?;
        assert!(one.route() == Route::Bounce || state.max_segments.load(Relaxed) > 1);

        drop(disk);
        Ok(())
    }

    #[test]
    fn requests_of_many_lengths() -> Result {
        let owner = device(c"rust_phys_lengths")?;
        let (state, disk) = disk(owner.device())?;

        for round in 0..20usize {
            let count = 1 + round % 7;
            let out = pages(count, |index| (round * 8 + index) as u8)?;
            let back = pages(count, |_| 0xff)?;

            transfer(&state, bindings::req_op_REQ_OP_WRITE, round, &out)?;
            transfer(&state, bindings::req_op_REQ_OP_READ, round, &back)?;
            for (index, page) in back.iter().enumerate() {
                assert!(is_all(page, (round * 8 + index) as u8)?);
            }
        }
        drop(disk);
        Ok(())
    }

    #[test]
    fn mapped_request_is_not_completed() -> Result {
        let owner = device(c"rust_phys_early")?;
        let (state, disk) = disk(owner.device())?;

        let one = pages(1, |_| 0xff)?;
        transfer(&state, bindings::req_op_REQ_OP_READ, 0, &one)?;
        assert_eq!(state.completed_early.load(Relaxed), 0);
        drop(disk);
        Ok(())
    }

    #[test]
    fn refused_request_is_returned() -> Result {
        let owner = device(c"rust_phys_refused")?;
        let (state, disk) = disk(owner.device())?;

        // Not all segments were taken: the request was returned, and mapped then. Pages in
        // descending order are not merged, but their bounce buffers may be.
        let mut list = pages(16, |_| 0xff)?;
        list.reverse();
        transfer(&state, bindings::req_op_REQ_OP_READ, 0, &list)?;
        let one = KBox::new([0u8; 64], GFP_KERNEL)?;
        let one = Mapping::<Cpu<_>, ToDevice>::new(owner.device(), one)?;
        assert!(one.route() == Route::Bounce || state.refused.load(Relaxed) == 1);
        drop(disk);
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Valid uses of what the other programs misuse. This must compile.

use kernel::{
    block::mq::{Batch, Disk, DiskOperations, Operations, Request, RequestList},
    device::{Bound, Core, Device},
    dma::{
        phys::{
            Bidirectional, Cpu, CpuPhys, FromDevice, InFlight, MapError, MappableData, Mapping,
            MapsRequests, Memory, Mmio, MmioPhys, PageBytes, Part, Peer, PeerClient, Prepared,
            RequestMapping, Revoke, Segment, SgInFlight, SgMapping, ToDevice, Unowned, Writable,
        },
        Device as _, DmaAddress,
    },
    new_mutex,
    page::Page,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};

/// Driver data with memory in each state.
pub struct Data<'bound> {
    buffer: Mapping<'bound, Cpu<KVec<u32>>, Bidirectional>,
    running: Option<InFlight<'bound, Cpu<KBox<[u8; 64]>>, FromDevice>>,
    register: InFlight<'bound, Mmio<'bound>, ToDevice>,
    peer: Peer<'bound>,
}

impl<'bound> Data<'bound> {
    pub fn new(pdev: &'bound pci::Device<Bound>, other: &'bound pci::Device) -> Result<Self> {
        let dev: &'bound Device<Bound> = pdev.as_ref();
        let running = KBox::new([0; 64], GFP_KERNEL)?;

        Ok(Self {
            buffer: Mapping::new(dev, KVec::from_elem(0, 16, GFP_KERNEL)?)?,
            running: Some(InFlight::<Cpu<_>, _>::map(dev, running)?),
            register: InFlight::<Mmio<'_>, _>::map(dev, MmioPhys::from_bar(other, 0, 0, 4)?)?,
            peer: Peer::register(pdev, 2)?,
        })
    }

    pub fn use_them(&mut self, dev: &Device<Bound>) -> Result<u8> {
        self.buffer[0] = 1;
        let source = InFlight::<Mmio<'_>, ToDevice>::map(dev, self.peer.range(0, 4096)?)?;
        assert_eq!(source.size() + self.register.size(), 4100);
        // SAFETY: The device has got no address.
        unsafe { source.unmap() };

        let running = self.running.take().ok_or(EINVAL)?;
        // SAFETY: The device has finished.
        let running = unsafe { running.complete() };
        Ok(running[63])
    }
}

/// The data of a mapping, between two transfers.
pub fn one_range(dev: &Device<Bound>, run: impl Fn(DmaAddress, usize)) -> Result<u8> {
    let mut map = Mapping::<Cpu<_>, ToDevice>::new(dev, PageBytes::zeroed(GFP_KERNEL)?)?;
    map[0] = 1;
    map.fill(2);

    let in_flight = map.submit();
    run(in_flight.dma_address(), in_flight.size());
    // SAFETY: The device has finished.
    let map = unsafe { in_flight.complete() };
    let first: &u8 = &map[0];
    assert_eq!(*first, 2);

    let in_flight = InFlight::<Cpu<_>, FromDevice>::map(dev, map.unmap())?;
    // SAFETY: The device has got no address.
    let page = unsafe { in_flight.unmap() };
    Ok(page[1])
}

/// Any direction in which the CPU writes.
pub fn write<D: Writable>(map: &mut Mapping<'_, Cpu<KVec<u8>>, D>) {
    map.fill(1);
}

pub fn parts(map: &mut InFlight<'_, Cpu<KVec<u8>>, Bidirectional>) -> Result<u8> {
    // SAFETY: The device does not access these bytes.
    let mut part = unsafe { map.part(0..128) }?;
    part[0] = 1;
    drop(part);

    // SAFETY: See above.
    let part = unsafe { map.part(128..256) }?;
    Ok(part[0])
}

pub fn list(dev: &Device<Bound>, mut pages: KVec<PageBytes>) -> Result<usize> {
    pages[0][0] = 1;
    let mut pages = Prepared::new(dev, pages, GFP_KERNEL)?;
    pages.page_mut(1)?.fill(1);
    let mut map = SgMapping::<Cpu<_>, ToDevice>::from_prepared(dev, pages)?;
    map.page_mut(1)?[0] = map[0][0];

    let mut in_flight = map.submit();
    let kept: Option<Segment> = in_flight.segments().first().copied();
    // SAFETY: The device does not access the page.
    let page = unsafe { in_flight.part(0) }?;
    assert_eq!(page[0], 1);
    drop(page);
    // SAFETY: The device has finished.
    let prepared = unsafe { in_flight.unmap_prepared() };
    let in_flight = SgInFlight::<Cpu<_>, FromDevice>::map_prepared(dev, prepared)?;
    // SAFETY: The device has finished.
    drop(unsafe { in_flight.unmap() });

    let words = VVec::from_elem(0u16, 100_000, GFP_KERNEL)?;
    let mut words = SgMapping::<Cpu<_>, Bidirectional>::new(dev, words, GFP_KERNEL)?;
    words[0] = 1;
    // SAFETY: The device has got no address.
    let words = unsafe { words.submit().complete() };
    assert_eq!(words.unmap()[0], 1);
    Ok(kept.map_or(0, |segment| segment.dma_len()))
}

/// What was prepared does not refer to the device.
pub fn prepare(dev: &Device<Bound>, memory: VVec<u8>) -> Result<Prepared<VVec<u8>>> {
    let mut prepared = Prepared::new(dev, memory, GFP_KERNEL)?;
    prepared[0] = 1;
    Ok(prepared)
}

/// # Safety
///
/// The pages are allocated until both mappings are dropped. Only the device accesses them.
pub unsafe fn unowned<'a>(
    dev: &'a Device<Bound>,
    page: &Page,
    carveout: CpuPhys,
) -> Result<[InFlight<'a, Cpu<Unowned>, FromDevice>; 2]> {
    let page = CpuPhys::from_page(page, 0, 4096)?;
    // SAFETY: The caller guarantees it.
    let list = unsafe { Prepared::from_ranges(dev, &[page, carveout], GFP_KERNEL) }?;
    drop(SgMapping::<Cpu<_>, ToDevice>::from_prepared(dev, list)?);

    // SAFETY: The caller guarantees it.
    unsafe {
        Ok([
            Mapping::from_range(dev, page)?.submit(),
            Mapping::from_range(dev, carveout)?.submit(),
        ])
    }
}

/// An error returns the memory.
pub fn try_map(dev: &Device<Bound>, memory: KVec<u8>) -> Result<u8, KVec<u8>> {
    let map = Mapping::<Cpu<_>, ToDevice>::new(dev, memory).map_err(MapError::into_memory)?;
    Ok(map[0])
}

pub fn request<'bound, T: MapsRequests>(
    dev: &'bound Device<Bound>,
    rq: ARef<Request<T>>,
    descriptors: &mut KVec<Segment>,
) -> Result<RequestMapping<'bound, T>> {
    let (map, first) = RequestMapping::map(dev, rq, |segments| {
        let size = segments.size();
        for segment in segments {
            descriptors.push(segment, GFP_ATOMIC)?;
        }
        Ok(size)
    })?;
    assert_eq!(map.size(), first);
    Ok(map)
}

pub fn complete<T: MapsRequests>(map: RequestMapping<'_, T>, batch: &mut Batch<T>) {
    assert!(map.request().tag() < 64);
    // SAFETY: The device has finished.
    let rq = unsafe { map.unmap() };
    batch.complete(rq, true);
}

pub fn end<T>(rq: ARef<Request<T>>) -> u32
where
    T: Operations<QueueData = KBox<u32>, RequestData = MappableData<Atomic<u32>>>,
{
    let count = *rq.queue_data() + rq.data().load(Relaxed);
    if let Err(rq) = Request::end(rq, Ok(())) {
        Request::complete(rq);
    }
    count
}

pub fn put_back<T: Operations>(requests: &mut RequestList<T>) {
    if let Some(rq) = requests.pop_front() {
        if let Err(rq) = requests.put_back(rq) {
            Request::complete(rq);
        }
    }
}

pub fn remove<T: DiskOperations<QueueData = KBox<u32>>>(disk: Disk<'_, T>) -> u32 {
    let count = *disk.queue_data();
    drop(disk);
    count
}

pub struct Client;

impl Revoke for Client {
    fn revoke(&self) {}
}

#[pin_data]
pub struct Target<'bound> {
    #[pin]
    map: Mutex<Option<InFlight<'bound, Mmio<'bound>, FromDevice>>>,
}

impl Revoke for Target<'_> {
    fn revoke(&self) {
        if let Some(map) = self.map.lock().take() {
            // SAFETY: The device was stopped.
            unsafe { map.unmap() };
        }
    }
}

/// A client that is forgotten is detached when the driver is unbound.
pub fn attach<'a>(dev: &'a Device<Bound>, range: MmioPhys<'a>) -> Result {
    core::mem::forget(PeerClient::attach(dev, &range, Client, GFP_KERNEL)?);

    let target = pin_init!(Target { map <- new_mutex!(None) });
    // SAFETY: What it borrows is valid until it is dropped below.
    let client = unsafe { PeerClient::attach_with_lt(dev, &range, target, GFP_KERNEL) }?;
    *client.map.lock() = Some(InFlight::<Mmio<'_>, _>::map(dev, range)?);
    client.revoke();
    Ok(())
}

pub fn many_of_a_peer(dev: &Device<Bound>, range: MmioPhys<'_>) -> Result<usize> {
    let map = SgInFlight::<Mmio<'_>, ToDevice>::map(dev, &[range], GFP_KERNEL)?;
    let count = map.segments().len();
    // SAFETY: The device has got no address.
    unsafe { map.unmap() };
    Ok(count)
}

/// # Safety
///
/// Called only while the driver is probed.
pub unsafe fn start(pdev: &pci::Device<Core<'_>>) -> bool {
    let bound: &pci::Device<Bound> = pdev;

    // SAFETY: The driver is being probed: nothing is mapped, and nothing else changes the device.
    unsafe {
        pdev.dma_set_min_align_mask(4095);
        bound.set_master();
        bound.clear_master()
    }
}

/// # Safety
///
/// No other value refers to the page, and it is initialised.
pub unsafe fn page(page: Page) -> PageBytes {
    // SAFETY: The caller guarantees it.
    unsafe { PageBytes::from_page(page) }
}

fn is_send_and_sync<T: Send + Sync>() {}

/// One range of memory, in both states.
pub fn memory_is_send<M: Memory + Send + Sync>() {
    is_send_and_sync::<Mapping<'_, Cpu<M>, ToDevice>>();
    is_send_and_sync::<InFlight<'_, Cpu<M>, FromDevice>>();
}

pub fn mappings_are_send() {
    memory_is_send::<KBox<[u8; 64]>>();
    memory_is_send::<KVec<u64>>();
    memory_is_send::<PageBytes>();
    is_send_and_sync::<Data<'_>>();
    is_send_and_sync::<Mapping<'_, Cpu<Unowned>, Bidirectional>>();
    is_send_and_sync::<InFlight<'_, Cpu<Unowned>, Bidirectional>>();
    is_send_and_sync::<InFlight<'_, Mmio<'_>, Bidirectional>>();
    is_send_and_sync::<SgMapping<'_, Cpu<VVec<u8>>, ToDevice>>();
    is_send_and_sync::<SgMapping<'_, Cpu<KVec<PageBytes>>, FromDevice>>();
    is_send_and_sync::<SgInFlight<'_, Cpu<VVec<u8>>, ToDevice>>();
    is_send_and_sync::<SgInFlight<'_, Cpu<KVec<PageBytes>>, FromDevice>>();
    is_send_and_sync::<SgInFlight<'_, Mmio<'_>, ToDevice>>();
    is_send_and_sync::<Prepared<VVec<u8>>>();
    is_send_and_sync::<Prepared<Unowned>>();
    is_send_and_sync::<Part<'_, [u8], ToDevice>>();
    is_send_and_sync::<MapError<KVec<u8>>>();
    is_send_and_sync::<CpuPhys>();
    is_send_and_sync::<MmioPhys<'_>>();
    is_send_and_sync::<Segment>();
    is_send_and_sync::<PeerClient<'_, Client>>();
    is_send_and_sync::<PeerClient<'_, Target<'_>>>();
    is_send_and_sync::<MappableData<u32>>();
}

pub fn requests_are_send<T: MapsRequests>() {
    is_send_and_sync::<RequestMapping<'_, T>>();
}

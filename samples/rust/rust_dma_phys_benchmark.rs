// SPDX-License-Identifier: GPL-2.0

//! Benchmark of mapping in Rust: [`kernel::dma::phys`] compared with the scatter-gather tables of
//! [`kernel::scatterlist`], for the same device.
//!
//! `kernel/dma/phys/tests/benchmark.c` is the same in C, compared with the raw DMA API. Both are
//! bound through `driver_override`, to any PCI device, one after the other, and read the same
//! lines:
//!
//! ```text
//! cd /sys/kernel/debug/rust_dma_phys_benchmark
//! echo typed_sg ranges=32 layout=scattered loops=20000 > run; cat run
//! ```
//!
//! The methods are:
//!
//! - `empty`: nothing is mapped. This is the cost of the loop.
//! - `typed_map`: each range is an [`InFlight`] of a [`KVec`] of `size` bytes.
//! - `typed_page`: the same for one page, a [`PageBytes`], which knows its range.
//! - `typed_kept`: a page stays a [`Mapping`]; it is submitted and completed.
//! - `typed_sg`: all ranges are one [`SgInFlight`] of a list of [`PageBytes`], which was prepared;
//!   `size` must be that of a page.
//! - `sgtable`: the same number of bytes is an [`SGTable`]. It owns a [`VVec`], whose pages are
//!   where `vmalloc()` allocates them, in any layout. The table is allocated and filled each time.
//!   It returns no memory, so the memory passes through a lock and an [`Option`]. It cannot be
//!   synced.
//! - `typed_svec`: the same [`VVec`] is an [`SgInFlight`]. Its ranges are computed, and its
//!   segments allocated, each time.
//!
//! With `sync=1` what is mapped is completed and submitted once before it is unmapped.
//!
//! Other parameters of the benchmark in C are refused: memory other than `memory=cpu`, and several
//! CPUs. Cycles are not counted, and preemption is not disabled, which makes no difference on an
//! idle CPU.

use core::{
    hint::black_box,
    ops::Deref,
    str::FromStr, //
};
use kernel::{
    alloc::allocator::VmallocPageIter,
    debugfs::{
        Dir,
        File,
        Reader,
        Writer, //
    },
    device::{
        Bound,
        Core,
        Device, //
    },
    dma::{
        phys::{
            Bidirectional,
            Cpu,
            Direction,
            FromDevice,
            InFlight,
            Mapping,
            PageBytes,
            Prepared,
            Route,
            SgInFlight,
            ToDevice, //
        },
        DataDirection,
        Device as _,
        DmaMask, //
    },
    fmt,
    new_mutex,
    page::{
        AsPageIter,
        PAGE_SIZE, //
    },
    pci,
    prelude::*,
    scatterlist::{
        Owned,
        SGTable, //
    },
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
    time::{
        Instant,
        Monotonic, //
    },
    uaccess::UserSliceReader, //
};

/// How memory is mapped.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    Empty,
    SgTable,
    TypedMap,
    TypedPage,
    TypedKept,
    TypedSg,
    TypedSvec,
}

const METHODS: [(&str, Method); 7] = [
    ("empty", Method::Empty),
    ("sgtable", Method::SgTable),
    ("typed_map", Method::TypedMap),
    ("typed_page", Method::TypedPage),
    ("typed_kept", Method::TypedKept),
    ("typed_sg", Method::TypedSg),
    ("typed_svec", Method::TypedSvec),
];
const LAYOUTS: [(&str, bool); 2] = [("contiguous", false), ("scattered", true)];
const DIRECTIONS: [(&str, DataDirection); 3] = [
    ("to-device", DataDirection::ToDevice),
    ("from-device", DataDirection::FromDevice),
    ("bidirectional", DataDirection::Bidirectional),
];

/// Returns the value of `word`.
fn value_of<T: Copy>(words: &[(&str, T)], word: &str) -> Result<T> {
    let found = words.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or(EINVAL)
}

/// Returns the word for `value`.
fn word_for<'a, T: PartialEq>(words: &[(&'a str, T)], value: T) -> &'a str {
    let found = words.iter().find(|(_, candidate)| *candidate == value);
    found.map_or("", |(name, _)| name)
}

fn number(word: &str, min: usize, max: usize) -> Result<usize> {
    let number = word.parse().map_err(|_| EINVAL)?;

    if (min..=max).contains(&number) {
        Ok(number)
    } else {
        Err(EINVAL)
    }
}

/// Number, size and layout of the ranges.
#[derive(Clone, Copy, PartialEq)]
struct Shape {
    ranges: usize,
    size: usize,
    scattered: bool,
}

/// The parameters of a run.
#[derive(Clone, Copy)]
struct Order {
    method: Method,
    shape: Shape,
    direction: DataDirection,
    sync: bool,
    loops: usize,
    live: usize,
    cpus: usize,
    cpu_memory: bool,
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let mut order = Self {
            method: value_of(&METHODS, words.next().ok_or(EINVAL)?)?,
            shape: Shape {
                ranges: 1,
                size: 4096,
                scattered: false,
            },
            direction: DataDirection::ToDevice,
            sync: false,
            loops: 1000,
            live: 0,
            cpus: 1,
            cpu_memory: true,
        };

        for word in words {
            let (key, value) = word.split_once('=').ok_or(EINVAL)?;

            match key {
                "ranges" => order.shape.ranges = number(value, 1, 1024)?,
                "size" => order.shape.size = number(value, 1, 4 << 20)?,
                "layout" => order.shape.scattered = value_of(&LAYOUTS, value)?,
                "direction" => order.direction = value_of(&DIRECTIONS, value)?,
                "sync" => order.sync = number(value, 0, 1)? == 1,
                "loops" => order.loops = number(value, 1, 10_000_000)?,
                "live" => order.live = number(value, 0, 1_000_000)?,
                "cpus" => order.cpus = number(value, 1, 1024)?,
                "memory" => {
                    order.cpu_memory =
                        value_of(&[("cpu", true), ("mmio", false), ("peer", false)], value)?
                }
                _ => return Err(EINVAL),
            }
        }
        Ok(order)
    }
}

/// The results of a run.
struct Outcome {
    order: Order,
    ns: i64,
    segments: usize,
    route: Route,
}

/// Memory of a shape, cached for the next run of the same shape.
struct Cached<M>(Option<(Shape, M)>);

impl<M> Cached<M> {
    fn take(&mut self, shape: Shape, make: impl FnOnce() -> Result<M>) -> Result<M> {
        match self.0.take() {
            Some((cached, memory)) if cached == shape => Ok(memory),
            _ => make(),
        }
    }

    fn put(&mut self, shape: Shape, memory: M) {
        self.0 = Some((shape, memory));
    }
}

/// Maximum memory to allocate in a search for contiguous ranges, in bytes.
const MAX_SEARCHED: usize = 32 << 20;

/// Allocates ranges with the layout of `shape`, in ascending order.
///
/// # Errors
///
/// [`ENOMEM`] if none are found.
fn find<M: Deref<Target = [u8]>>(
    shape: Shape,
    make: impl Fn() -> Result<M, kernel::alloc::AllocError>,
) -> Result<KVec<M>> {
    let addr = |one: &M| one.as_ptr().addr();
    let follows = |one: &M, next: &M| addr(next) == addr(one) + shape.size;
    let mut all = KVec::new();

    // For scattered ranges, every second one of twice as many suffices. For contiguous ones it may
    // take more: a fragmented allocator returns single pages first.
    while all.is_empty() || all.len() * shape.size < MAX_SEARCHED {
        for _ in 0..2 * shape.ranges {
            all.push(make()?, GFP_KERNEL)?;
        }
        for i in 1..all.len() {
            let mut at = i;
            while at > 0 && addr(&all[at - 1]) > addr(&all[at]) {
                all.swap(at - 1, at);
                at -= 1;
            }
        }

        let mut first = 0;
        if shape.scattered {
            let mut end = 0;
            all.retain(|one| {
                let separate = addr(one) != end;
                if separate {
                    end = addr(one) + shape.size;
                }
                separate
            });
        } else {
            let contiguous = |some: &[M]| some.windows(2).all(|two| follows(&two[0], &two[1]));
            let Some(found) = all.windows(shape.ranges).position(contiguous) else {
                continue;
            };
            first = found;
        }

        let mut found = KVec::with_capacity(shape.ranges, GFP_KERNEL)?;
        for one in all.into_iter().skip(first).take(shape.ranges) {
            found.push(one, GFP_KERNEL)?;
        }
        return Ok(found);
    }
    Err(ENOMEM)
}

fn buffers(shape: Shape) -> Result<KVec<KVec<u8>>> {
    find(shape, || KVec::from_elem(0, shape.size, GFP_KERNEL))
}

fn pages(shape: Shape) -> Result<KVec<PageBytes>> {
    if shape.size != PAGE_SIZE {
        return Err(EOPNOTSUPP);
    }
    find(shape, || PageBytes::zeroed(GFP_KERNEL))
}

fn one_page(order: &Order) -> Result<PageBytes> {
    if order.shape.ranges != 1 || order.shape.size != PAGE_SIZE || order.sync {
        return Err(EOPNOTSUPP);
    }
    Ok(PageBytes::zeroed(GFP_KERNEL)?)
}

fn vvec(shape: Shape) -> Result<VVec<u8>> {
    let bytes = shape.ranges * shape.size;

    // The SGTable maps whole pages.
    if bytes % PAGE_SIZE != 0 {
        return Err(EOPNOTSUPP);
    }
    Ok(VVec::from_elem(0, bytes, GFP_KERNEL)?)
}

/// Calls `run` `loops` times, each time with the memory that it has returned. Returns the memory
/// and the time in nanoseconds.
#[inline(always)]
fn measure<M>(loops: usize, mut memory: M, run: impl Fn(M) -> Result<M>) -> Result<(M, i64)> {
    let mut start = Instant::<Monotonic>::now();

    // One call, so that it is inlined. The first time warms up.
    for round in 0..=loops {
        if round == 1 {
            start = Instant::now();
        }
        memory = run(memory)?;
        black_box(());
    }
    Ok((memory, start.elapsed().as_nanos()))
}

/// Submits and completes `mapping` `loops` times. Returns it, and the time in nanoseconds.
#[inline(never)]
fn submit_often<'bound, M, D: Direction>(
    loops: usize,
    mut mapping: Mapping<'bound, Cpu<M>, D>,
) -> (Mapping<'bound, Cpu<M>, D>, i64) {
    let start = Instant::<Monotonic>::now();

    for _ in 0..loops {
        let in_flight = mapping.submit();

        black_box(in_flight.dma_address());
        // SAFETY: No device uses the address.
        mapping = unsafe { in_flight.complete() };
        black_box(());
    }
    (mapping, start.elapsed().as_nanos())
}

/// Memory that an [`SGTable`] owns, and that is returned to `owner` when the table is dropped.
struct Returned {
    memory: Option<VVec<u8>>,
    owner: Arc<Mutex<Option<VVec<u8>>>>,
}

impl Returned {
    fn new(owner: &Arc<Mutex<Option<VVec<u8>>>>) -> Self {
        Self {
            memory: owner.lock().take(),
            owner: owner.clone(),
        }
    }
}

impl AsPageIter for Returned {
    type Iter<'a> = VmallocPageIter<'a>;

    fn page_iter(&mut self) -> VmallocPageIter<'_> {
        self.memory.get_or_insert_with(VVec::new).page_iter()
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        *self.owner.lock() = self.memory.take();
    }
}

/// A page that stays mapped during a run.
enum Live<'bound> {
    Typed {
        _map: Mapping<'bound, Cpu<PageBytes>, ToDevice>,
    },
    Raw {
        _table: Pin<KBox<SGTable<Owned<VVec<u8>>>>>,
    },
}

impl<'bound> Live<'bound> {
    fn new(dev: &'bound Device<Bound>, method: Method) -> Result<Self> {
        if method != Method::SgTable {
            return Ok(Self::Typed {
                _map: Mapping::new(dev, PageBytes::zeroed(GFP_KERNEL)?)?,
            });
        }

        let page = VVec::from_elem(0, PAGE_SIZE, GFP_KERNEL)?;
        let table = SGTable::new(dev, page, DataDirection::ToDevice, GFP_KERNEL);
        Ok(Self::Raw {
            _table: KBox::pin_init(table, GFP_KERNEL)?,
        })
    }
}

/// The memory of all methods, and the results of the last run.
struct Bench {
    buffers: Cached<KVec<KVec<u8>>>,
    pages: Cached<KVec<PageBytes>>,
    vvec: Cached<VVec<u8>>,
    outcome: Option<Outcome>,
}

impl Bench {
    fn new() -> Self {
        Self {
            buffers: Cached(None),
            pages: Cached(None),
            vvec: Cached(None),
            outcome: None,
        }
    }

    fn run(&mut self, dev: &Device<Bound>, order: &Order) -> Result {
        self.outcome = None;
        if order.cpus > 1 || !order.cpu_memory {
            return Err(EOPNOTSUPP);
        }

        self.outcome = Some(match order.direction {
            DataDirection::Bidirectional => self.run_in::<Bidirectional>(dev, order),
            DataDirection::FromDevice => self.run_in::<FromDevice>(dev, order),
            _ => self.run_in::<ToDevice>(dev, order),
        }?);
        Ok(())
    }

    fn run_in<D: Direction>(&mut self, dev: &Device<Bound>, order: &Order) -> Result<Outcome> {
        let page = PageBytes::zeroed(GFP_KERNEL)?;
        let route = Mapping::<Cpu<_>, D>::new(dev, page)?.route();

        let mut live = KVVec::with_capacity(order.live, GFP_KERNEL)?;
        for _ in 0..order.live {
            live.push(Live::new(dev, order.method)?, GFP_KERNEL)?;
        }

        let (ns, segments) = match order.method {
            Method::Empty => (measure(order.loops, (), Ok)?.1, 0),
            Method::SgTable => self.sgtable(dev, order)?,
            Method::TypedMap if order.shape.ranges == 1 => self.typed_map_one::<D>(dev, order)?,
            Method::TypedMap => self.typed_map::<D>(dev, order)?,
            Method::TypedPage => self.typed_page::<D>(dev, order)?,
            Method::TypedKept => self.typed_kept::<D>(dev, order)?,
            Method::TypedSg => self.typed_sg::<D>(dev, order)?,
            Method::TypedSvec => self.typed_svec::<D>(dev, order)?,
        };

        Ok(Outcome {
            order: *order,
            ns,
            segments,
            route,
        })
    }

    fn typed_map_one<D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        order: &Order,
    ) -> Result<(i64, usize)> {
        let mut list = self.buffers.take(order.shape, || buffers(order.shape))?;
        let buffer = list.pop().ok_or(EINVAL)?;

        let (buffer, ns) = if order.sync {
            measure(order.loops, buffer, |buffer| {
                let in_flight = InFlight::<Cpu<_>, D>::map(dev, buffer)?;

                // SAFETY: No device uses the address, here and in all methods.
                let in_flight = unsafe { in_flight.complete() }.submit();
                black_box(in_flight.dma_address());
                // SAFETY: See above.
                Ok(unsafe { in_flight.unmap() })
            })
        } else {
            measure(order.loops, buffer, |buffer| {
                let in_flight = InFlight::<Cpu<_>, D>::map(dev, buffer)?;

                black_box(in_flight.dma_address());
                // SAFETY: See above.
                Ok(unsafe { in_flight.unmap() })
            })
        }?;

        list.push(buffer, GFP_KERNEL)?;
        self.buffers.put(order.shape, list);
        Ok((ns, 1))
    }

    fn typed_kept<D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        order: &Order,
    ) -> Result<(i64, usize)> {
        let page = one_page(order)?;
        let mapping = Mapping::<Cpu<_>, D>::new(dev, page)?;
        let (mapping, ns) = submit_often(order.loops, mapping);

        drop(mapping);
        Ok((ns, 1))
    }

    fn typed_page<D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        order: &Order,
    ) -> Result<(i64, usize)> {
        let (_, ns) = measure(order.loops, one_page(order)?, |page| {
            let in_flight = InFlight::<Cpu<_>, D>::map(dev, page)?;

            black_box(in_flight.dma_address());
            // SAFETY: No device uses the address.
            Ok(unsafe { in_flight.unmap() })
        })?;

        Ok((ns, 1))
    }

    fn typed_map<D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        order: &Order,
    ) -> Result<(i64, usize)> {
        let list = self.buffers.take(order.shape, || buffers(order.shape))?;
        let maps = KVec::with_capacity(order.shape.ranges, GFP_KERNEL)?;

        let ((list, _), ns) = measure(order.loops, (list, maps), |(mut list, mut maps)| {
            while let Some(buffer) = list.pop() {
                let mut in_flight = InFlight::<Cpu<_>, D>::map(dev, buffer)?;

                if order.sync {
                    // SAFETY: No device uses the address.
                    in_flight = unsafe { in_flight.complete() }.submit();
                }
                maps.push_within_capacity(in_flight).map_err(|_| ENOSPC)?;
            }
            while let Some(in_flight) = maps.pop() {
                // SAFETY: No device uses the address.
                let buffer = unsafe { in_flight.unmap() };
                list.push_within_capacity(buffer).map_err(|_| ENOSPC)?;
            }
            Ok((list, maps))
        })?;

        self.buffers.put(order.shape, list);
        Ok((ns, order.shape.ranges))
    }

    fn typed_sg<D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        order: &Order,
    ) -> Result<(i64, usize)> {
        let pages = self.pages.take(order.shape, || pages(order.shape))?;
        let pages = Prepared::new(dev, pages, GFP_KERNEL)?;

        let in_flight = SgInFlight::<Cpu<_>, D>::map_prepared(dev, pages)?;
        let segments = in_flight.segments().len();
        // SAFETY: No device uses the addresses, here and below.
        let pages = unsafe { in_flight.unmap_prepared() };

        let (pages, ns) = measure(order.loops, pages, |pages| {
            let mut in_flight = SgInFlight::<Cpu<_>, D>::map_prepared(dev, pages)?;

            if order.sync {
                // SAFETY: See above.
                in_flight = unsafe { in_flight.complete() }.submit();
            }
            black_box(in_flight.segments());
            // SAFETY: See above.
            Ok(unsafe { in_flight.unmap_prepared() })
        })?;

        self.pages.put(order.shape, pages.into_memory());
        Ok((ns, segments))
    }

    fn typed_svec<D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        order: &Order,
    ) -> Result<(i64, usize)> {
        let memory = self.vvec.take(order.shape, || vvec(order.shape))?;

        let in_flight = SgInFlight::<Cpu<_>, D>::map(dev, memory, GFP_KERNEL)?;
        let segments = in_flight.segments().len();
        // SAFETY: No device uses the addresses, here and below.
        let memory = unsafe { in_flight.unmap() };

        let (memory, ns) = measure(order.loops, memory, |memory| {
            let mut in_flight = SgInFlight::<Cpu<_>, D>::map(dev, memory, GFP_KERNEL)?;

            if order.sync {
                // SAFETY: See above.
                in_flight = unsafe { in_flight.complete() }.submit();
            }
            black_box(in_flight.segments());
            // SAFETY: See above.
            Ok(unsafe { in_flight.unmap() })
        })?;

        self.vvec.put(order.shape, memory);
        Ok((ns, segments))
    }

    fn sgtable(&mut self, dev: &Device<Bound>, order: &Order) -> Result<(i64, usize)> {
        if order.sync {
            return Err(EOPNOTSUPP);
        }
        let memory = self.vvec.take(order.shape, || vvec(order.shape))?;
        let owner = Arc::pin_init(new_mutex!(Some(memory)), GFP_KERNEL)?;

        let table = SGTable::new(dev, Returned::new(&owner), order.direction, GFP_KERNEL);
        let segments = KBox::pin_init(table, GFP_KERNEL)?.iter().count();

        let ((), ns) = measure(order.loops, (), |()| {
            pin_init::stack_try_pin_init!(
                let table = SGTable::new(dev, Returned::new(&owner), order.direction, GFP_KERNEL)
            );
            table.map(|_| ())
        })?;

        let memory = owner.lock().take().ok_or(EINVAL)?;
        self.vvec.put(order.shape, memory);
        Ok((ns, segments))
    }
}

/// The file `run`.
#[pin_data]
struct Run {
    pdev: ARef<pci::Device>,
    #[pin]
    bench: Mutex<Bench>,
}

impl Reader for Run {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let mut line = [0; 256];
        let line = line.get_mut(..reader.len()).ok_or(EINVAL)?;

        reader.read_slice(line)?;
        let order = core::str::from_utf8(line).map_err(|_| EINVAL)?.parse()?;

        let dev: &Device = self.pdev.as_ref();
        // SAFETY: The file is part of the driver data, which is dropped before the device is
        // unbound. Removing the file waits for a write to end.
        let dev = unsafe { dev.as_bound() };
        self.bench.lock().run(dev, &order)
    }
}

impl Writer for Run {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bench = self.bench.lock();
        let Some(Outcome {
            order,
            ns,
            segments,
            route,
        }) = &bench.outcome
        else {
            return Ok(());
        };

        write!(
            f,
            "method={} ranges={} size={} layout={} direction={} ",
            word_for(&METHODS, order.method),
            order.shape.ranges,
            order.shape.size,
            word_for(&LAYOUTS, order.shape.scattered),
            word_for(&DIRECTIONS, order.direction),
        )?;
        writeln!(
            f,
            "sync={} loops={} live={} cpus=1 memory=cpu ns={ns} cycles=0 segments={segments} \
             route={}",
            u8::from(order.sync),
            order.loops,
            order.live,
            route.as_str(),
        )
    }
}

#[pin_data]
struct Benchmark {
    #[pin]
    _run: File<Run>,
    _dir: Dir,
}

// No device matches: `driver_override` binds the driver to any.
kernel::pci_device_table!(PCI_TABLE, <Benchmark as pci::Driver>::IdInfo, []);

impl pci::Driver for Benchmark {
    type IdInfo = ();
    type Data<'bound> = Self;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            pdev.enable_device_mem()?;
            // SAFETY: The device is being probed, and nothing is mapped or allocated for it.
            unsafe {
                pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())?;
                // So that no method splits ranges.
                pdev.dma_set_max_seg_size(u32::MAX);
            }

            let dir = Dir::new(c"rust_dma_phys_benchmark");
            Ok(try_pin_init!(Self {
                _run <- dir.read_write_file(
                    c"run",
                    pin_init!(Run {
                        pdev: pdev.into(),
                        bench <- new_mutex!(Bench::new()),
                    }),
                ),
                _dir: dir,
            }))
        })
    }
}

kernel::module_pci_driver! {
    type: Benchmark,
    name: "rust_dma_phys_benchmark",
    authors: ["The dma-phys project"],
    description: "Benchmark of typed maps of physical addresses, in Rust",
    license: "GPL v2",
}

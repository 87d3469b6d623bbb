// SPDX-License-Identifier: GPL-2.0

//! What mapping costs in Rust: [`kernel::dma::phys`] beside the scatter-gather tables of
//! [`kernel::scatterlist`], for the same device.
//!
//! `kernel/dma/phys/benchmark.c` is the same in C, beside the raw DMA API. Both are bound through
//! `driver_override` alone, to any PCI device, one after the other, and take the same lines:
//!
//! ```text
//! cd /sys/kernel/debug/rust_dma_phys_benchmark
//! echo typed_vec ranges=32 layout=scattered loops=20000 > run; cat run
//! ```
//!
//! The methods, and what they map:
//!
//! - `empty`: nothing. It is what a loop takes itself.
//! - `typed_map`: each range by itself, as a [`Mapping`] of a [`KVec`] of `size` bytes.
//! - `typed_vec`: all of them, as a [`VecMapping`] of a list of [`PageBytes`]; `size` is that of a
//!   page. Room for the segments is allocated each time.
//! - `sgtable`: the same number of bytes, as an [`SGTable`]. It owns a [`VVec`], whose pages are
//!   where `vmalloc()` finds them; where the layout is not the one that is asked for, it cannot be
//!   measured. The table is allocated and filled each time. It is given its memory by a lock and an
//!   [`Option`], as it gives none back, and cannot be synced.
//! - `typed_vvec`: the same [`VVec`], as a [`VecMapping`].
//!
//! What the C one has beyond that is refused: other memory than `memory=cpu`, several CPUs, as
//! there are no threads in Rust, and the counter of cycles. Nor can preemption be disabled here: on
//! a CPU that has nothing else to do that is no difference.

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
            Mapping,
            PageBytes,
            Route,
            ToDevice,
            VecMapping, //
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

/// What is mapped, and how.
#[derive(Clone, Copy, PartialEq)]
enum Method {
    Empty,
    SgTable,
    TypedMap,
    TypedVec,
    TypedVVec,
}

const METHODS: [(&str, Method); 5] = [
    ("empty", Method::Empty),
    ("sgtable", Method::SgTable),
    ("typed_map", Method::TypedMap),
    ("typed_vec", Method::TypedVec),
    ("typed_vvec", Method::TypedVVec),
];
const LAYOUTS: [(&str, bool); 2] = [("contiguous", false), ("scattered", true)];
const DIRECTIONS: [(&str, DataDirection); 3] = [
    ("to", DataDirection::ToDevice),
    ("from", DataDirection::FromDevice),
    ("both", DataDirection::Bidirectional),
];

/// The value of a word.
fn value_of<T: Copy>(words: &[(&str, T)], word: &str) -> Result<T> {
    let found = words.iter().find(|(name, _)| *name == word);
    found.map(|(_, value)| *value).ok_or(EINVAL)
}

/// The word for a value.
fn word_for<'a, T: PartialEq>(words: &[(&'a str, T)], value: T) -> &'a str {
    let found = words.iter().find(|(_, its)| *its == value);
    found.map_or("", |(name, _)| name)
}

fn number(word: &str, least: usize, most: usize) -> Result<usize> {
    let number = word.parse().map_err(|_| EINVAL)?;

    if (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(EINVAL)
    }
}

/// Ranges of memory.
#[derive(Clone, Copy, PartialEq)]
struct Shape {
    ranges: usize,
    size: usize,
    scattered: bool,
}

/// What a line asks for.
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

/// What came of it.
struct Outcome {
    order: Order,
    ns: i64,
    segments: usize,
    route: Route,
}

/// Memory of some shape, kept for the next run of that shape.
struct Kept<M>(Option<(Shape, M)>);

impl<M> Kept<M> {
    fn take(&mut self, shape: Shape, make: impl FnOnce() -> Result<M>) -> Result<M> {
        match self.0.take() {
            Some((its, memory)) if its == shape => Ok(memory),
            _ => make(),
        }
    }

    fn put(&mut self, shape: Shape, memory: M) {
        self.0 = Some((shape, memory));
    }
}

/// Bytes among which a row is looked for.
const MOST_SEARCHED: usize = 32 << 20;

/// Ranges of memory that lie as `shape` says, in the order of their addresses.
///
/// # Errors
///
/// [`ENOMEM`] where there are none.
fn find<M: Deref<Target = [u8]>>(
    shape: Shape,
    make: impl Fn() -> Result<M, kernel::alloc::AllocError>,
) -> Result<KVec<M>> {
    let addr = |one: &M| one.as_ptr().addr();
    let follows = |one: &M, next: &M| addr(next) == addr(one) + shape.size;
    let mut all = KVec::new();

    // Of twice as many each second one will do. For a row it may take more: the first pages to be
    // had are those that are left over.
    while all.is_empty() || all.len() * shape.size < MOST_SEARCHED {
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
                let apart = addr(one) != end;
                if apart {
                    end = addr(one) + shape.size;
                }
                apart
            });
        } else {
            let row = |some: &[M]| some.windows(2).all(|two| follows(&two[0], &two[1]));
            let Some(found) = all.windows(shape.ranges).position(row) else {
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

fn vvec(shape: Shape) -> Result<VVec<u8>> {
    let bytes = shape.ranges * shape.size;

    // A part of a page would be mapped as all of it.
    if bytes % PAGE_SIZE != 0 {
        return Err(EOPNOTSUPP);
    }
    Ok(VVec::from_elem(0, bytes, GFP_KERNEL)?)
}

/// Calls `one` so many times, with the memory that it gave back the last time.
#[inline(always)]
fn measure<M>(loops: usize, mut memory: M, one: impl Fn(M) -> Result<M>) -> Result<(M, i64)> {
    // For what is done once.
    memory = one(memory)?;

    let start = Instant::<Monotonic>::now();
    for _ in 0..loops {
        memory = one(memory)?;
        black_box(());
    }
    Ok((memory, start.elapsed().as_nanos()))
}

/// Memory that is lent to an [`SGTable`], and comes back when that is dropped.
struct Lent {
    memory: Option<VVec<u8>>,
    home: Arc<Mutex<Option<VVec<u8>>>>,
}

impl Lent {
    fn new(home: &Arc<Mutex<Option<VVec<u8>>>>) -> Self {
        Self {
            memory: home.lock().take(),
            home: home.clone(),
        }
    }
}

impl AsPageIter for Lent {
    type Iter<'a> = VmallocPageIter<'a>;

    fn page_iter(&mut self) -> VmallocPageIter<'_> {
        self.memory.get_or_insert_with(VVec::new).page_iter()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.home.lock() = self.memory.take();
    }
}

/// One page, on each of the two ways.
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

/// The memory of all methods.
struct Bench {
    buffers: Kept<KVec<KVec<u8>>>,
    pages: Kept<KVec<PageBytes>>,
    vvec: Kept<VVec<u8>>,
    outcome: Option<Outcome>,
}

impl Bench {
    fn new() -> Self {
        Self {
            buffers: Kept(None),
            pages: Kept(None),
            vvec: Kept(None),
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
        let route = Mapping::<_, D>::new(dev, page)?.route();

        let mut live = KVVec::with_capacity(order.live, GFP_KERNEL)?;
        for _ in 0..order.live {
            live.push(Live::new(dev, order.method)?, GFP_KERNEL)?;
        }

        let (ns, segments) = match order.method {
            Method::Empty => (measure(order.loops, (), Ok)?.1, 0),
            Method::SgTable => self.sgtable(dev, order)?,
            Method::TypedMap if order.shape.ranges == 1 => self.typed_map_one::<D>(dev, order)?,
            Method::TypedMap => self.typed_map::<D>(dev, order)?,
            Method::TypedVec => self.typed_vec::<D>(dev, order)?,
            Method::TypedVVec => self.typed_vvec::<D>(dev, order)?,
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

        let (buffer, ns) = measure(order.loops, buffer, |buffer| {
            let mut map = Mapping::<Cpu<_>, D>::new(dev, buffer)?;

            if order.sync {
                drop(map.cpu()?);
            }
            Ok(map.unmap())
        })?;

        list.push(buffer, GFP_KERNEL)?;
        self.buffers.put(order.shape, list);
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
                let map = Mapping::<Cpu<_>, D>::new(dev, buffer)?;
                maps.push_within_capacity(map).map_err(|_| ENOSPC)?;
            }
            if order.sync {
                for map in &mut maps {
                    drop(map.cpu()?);
                }
            }
            while let Some(map) = maps.pop() {
                list.push_within_capacity(map.unmap()).map_err(|_| ENOSPC)?;
            }
            Ok((list, maps))
        })?;

        self.buffers.put(order.shape, list);
        Ok((ns, order.shape.ranges))
    }

    fn typed_vec<D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        order: &Order,
    ) -> Result<(i64, usize)> {
        let pages = self.pages.take(order.shape, || pages(order.shape))?;

        let map = VecMapping::<Cpu<_>, D>::new(dev, pages, GFP_KERNEL)?;
        let segments = map.segments().len();

        let (pages, ns) = measure(order.loops, map.unmap(), |pages| {
            let mut map = VecMapping::<Cpu<_>, D>::new(dev, pages, GFP_KERNEL)?;

            if order.sync {
                for index in 0..order.shape.ranges {
                    drop(map.cpu_page(index)?);
                }
            }
            Ok(map.unmap())
        })?;

        self.pages.put(order.shape, pages);
        Ok((ns, segments))
    }

    fn typed_vvec<D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        order: &Order,
    ) -> Result<(i64, usize)> {
        let memory = self.vvec.take(order.shape, || vvec(order.shape))?;

        let map = VecMapping::<Cpu<_>, D>::new(dev, memory, GFP_KERNEL)?;
        let segments = map.segments().len();

        let (memory, ns) = measure(order.loops, map.unmap(), |memory| {
            let mut map = VecMapping::<Cpu<_>, D>::new(dev, memory, GFP_KERNEL)?;

            if order.sync {
                drop(map.cpu()?);
            }
            Ok(map.unmap())
        })?;

        self.vvec.put(order.shape, memory);
        Ok((ns, segments))
    }

    fn sgtable(&mut self, dev: &Device<Bound>, order: &Order) -> Result<(i64, usize)> {
        if order.sync {
            return Err(EOPNOTSUPP);
        }
        let memory = self.vvec.take(order.shape, || vvec(order.shape))?;
        let home = Arc::pin_init(new_mutex!(Some(memory)), GFP_KERNEL)?;

        let table = SGTable::new(dev, Lent::new(&home), order.direction, GFP_KERNEL);
        let segments = KBox::pin_init(table, GFP_KERNEL)?.iter().count();

        let ((), ns) = measure(order.loops, (), |()| {
            pin_init::stack_try_pin_init!(
                let table = SGTable::new(dev, Lent::new(&home), order.direction, GFP_KERNEL)
            );
            table.map(|_| ())
        })?;

        let memory = home.lock().take().ok_or(EINVAL)?;
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
        // SAFETY: The file is part of the driver's data, and with that is removed before the device
        // is unbound. Its removal waits for a write to end.
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

// There is no device that it is for: `driver_override` binds it to any.
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
            // SAFETY: The device is being probed: nothing of it is allocated or mapped yet.
            unsafe {
                pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())?;
                // No method splits what another one does not.
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

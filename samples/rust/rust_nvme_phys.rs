// SPDX-License-Identifier: GPL-2.0

//! An NVMe driver that uses typed DMA mapping, [`kernel::dma::phys`].
//!
//! This is the second lesson. The first is `samples/rust/rust_edu_phys.rs`.
//!
//! Read the 250 lines that map requests:
//!
//! - in `queue.rs`, `Queue::prepare()` maps a request, `InFlight` keeps the mapping, and
//!   `Queue::poll()` and `Queue::cancel_requests()` unmap it: once the controller has finished, or
//!   was disabled;
//! - `data.rs` writes PRP entries or SGL descriptors from the segments, while they are mapped.
//!
//! Also of interest are `Namespace::RequestData` in `block.rs`, which has space for the mapping;
//! `Admin::read()` in `controller.rs`, which maps one range; and `cmb.rs`, which shares a BAR with
//! other devices.
//!
//! Skip the rest, which is what any NVMe driver does. This file is the PCI driver, which sets a
//! controller up and removes it. The modules are `recovery`, `cmb`, `block`, `ioctl`, `controller`,
//! `queue` and `data`; each uses those that follow it in this list.
//!
//! Each namespace of a controller is a disk, `/dev/rnvme<controller>n<namespace>`.
//! `samples/dma-phys/nvme_phys` is the same driver in C, with the same steps in the same order. It
//! also suspends the sharing of its CMB around a reset.
//!
//! QEMU provides a device with `-device nvme`, for example:
//!
//! ```text
//! -drive if=none,id=disk,format=raw,file=disk.img -device nvme,serial=a,drive=disk,cmb_size_mb=16
//! ```

use kernel::{
    block::mq::TagSet,
    cpu::nr_cpu_ids,
    device::{
        Bound,
        Core,
        Device, //
    },
    dma::{
        Device as _,
        DmaMask, //
    },
    driver,
    io::Io,
    irq,
    pci,
    prelude::*,
    sync::{
        Arc,
        AtomicSlot, //
    },
    InPlaceModule, //
};

#[path = "rust_nvme_phys/block.rs"]
mod block;
#[path = "rust_nvme_phys/cmb.rs"]
mod cmb;
#[path = "rust_nvme_phys/command.rs"]
mod command;
#[path = "rust_nvme_phys/controller.rs"]
mod controller;
#[path = "rust_nvme_phys/data.rs"]
mod data;
#[path = "rust_nvme_phys/ioctl.rs"]
mod ioctl;
#[path = "rust_nvme_phys/queue.rs"]
mod queue;
#[path = "rust_nvme_phys/recovery.rs"]
mod recovery;
#[path = "rust_nvme_phys/regs.rs"]
mod regs;

use cmb::{
    Cmb,
    SharedCmb, //
};
use controller::{
    Admin,
    AdminHandler,
    Caps,
    Event,
    Info, //
};
use queue::{
    Handler,
    Queue,
    QueueConfig, //
};
use recovery::Controller;
use regs::Regs;

const NAME: &CStr = <NvmeModule as kernel::ModuleMetadata>::NAME;

/// Limit of the block layer.
const MAX_TAGS: u32 = 10240;

kernel::sync::global_lock! {
    // SAFETY: Initialised by the module's `init`, before the driver is registered.
    unsafe(uninit) static INDICES: Mutex<KVec<u32>> = KVec::new();
}

/// The number of a controller, the lowest one that is free.
struct Index(u32);

impl Index {
    fn new() -> Result<Self> {
        let mut taken = INDICES.lock();
        let free = (0..).find(|index| !taken.contains(index)).ok_or(ENOSPC)?;

        taken.push(free, GFP_KERNEL)?;
        Ok(Self(free))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let mut taken = INDICES.lock();

        taken.retain(|index| *index != self.0);
        if taken.is_empty() {
            // A static is not dropped when the module is unloaded.
            *taken = KVec::new();
        }
    }
}

fn msix() -> pci::IrqTypes {
    pci::IrqTypes::default().with(pci::IrqType::MsiX)
}

/// Interrupt handlers and vectors of a controller.
struct Interrupts<'bound> {
    _io: KVec<Pin<KBox<irq::Registration<'bound, Handler<'bound>>>>>,
    _admin: Pin<KBox<irq::Registration<'bound, AdminHandler>>>,
    // Dropped last: the handlers borrow it.
    _vectors: Pin<KBox<pci::IrqVectorRegistration<'bound>>>,
}

impl<'bound> Interrupts<'bound> {
    fn new(
        vectors: Pin<KBox<pci::IrqVectorRegistration<'bound>>>,
        event: Arc<Event>,
        queues: &[Arc<Queue<'bound>>],
    ) -> Result<Self> {
        let last = vectors.len() - 1;
        let mut io = KVec::with_capacity(queues.len(), GFP_KERNEL)?;

        for queue in queues {
            let vector = usize::from(queue.id).min(last);
            io.push(
                Self::register(&vectors, vector, Handler(queue.clone()))?,
                GFP_KERNEL,
            )?;
        }
        Ok(Self {
            _io: io,
            _admin: Self::register(&vectors, 0, AdminHandler(event))?,
            _vectors: vectors,
        })
    }

    fn register<T: irq::Handler + 'bound>(
        vectors: &Pin<KBox<pci::IrqVectorRegistration<'bound>>>,
        index: usize,
        handler: T,
    ) -> Result<Pin<KBox<irq::Registration<'bound, T>>>> {
        let vectors: *const pci::IrqVectorRegistration<'bound> = &**vectors;

        // SAFETY: Registrations are stored next to the vectors, which are boxed, and dropped before
        // them. Both are part of the driver data, which is dropped when the device is unbound.
        let registration = unsafe {
            irq::Registration::new(
                (*vectors).index(index)?.into(),
                irq::Flags::SHARED,
                NAME,
                Ok(handler),
            )
        };
        KBox::pin_init(registration, GFP_KERNEL)
    }
}

/// The disks of a controller. Dropping it removes them.
struct Disks<'bound>(Arc<Controller<'bound>>);

impl Drop for Disks<'_> {
    fn drop(&mut self) {
        self.0.remove_disks();
    }
}

/// A controller that runs. Dropping it disables the controller.
struct Running<'bound>(Arc<Controller<'bound>>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.tear_down();
    }
}

/// The driver data of a bound device. It is dropped in the order of the fields, which is that of
/// [`bring_down`](Self::bring_down).
struct Binding<'bound> {
    disks: Disks<'bound>,
    shared_cmb: AtomicSlot<KBox<SharedCmb<'bound>>>,
    running: Running<'bound>,
    _interrupts: Interrupts<'bound>,
    _index: Index,
}

impl Binding<'_> {
    /// Removes the disks, which completes all requests, then unregisters the CMB, then disables the
    /// controller. Afterwards nothing is in flight.
    fn bring_down(&self) {
        self.disks.0.remove_disks();
        drop(self.shared_cmb.take());
        self.running.0.tear_down();
    }
}

/// A controller with its admin queue only.
struct Setup<'bound> {
    pdev: &'bound pci::Device<Bound>,
    admin: Admin<'bound>,
    event: Arc<Event>,
    info: Info,
    /// Number of I/O queues that the controller grants.
    queues: u16,
}

impl<'bound> Setup<'bound> {
    /// Sets up the admin queue.
    fn new(pdev: &'bound pci::Device<Bound>) -> Result<Self> {
        let bar = Arc::new(pdev.iomap_region_sized(0, NAME)?, GFP_KERNEL)?;
        let event = Arc::pin_init(Event::new(), GFP_KERNEL)?;
        let mut admin = Admin::new(pdev, bar.clone(), event.clone())?;
        let want = max_queues(&bar, &admin.caps)?;

        // Only the admin queue: the number of I/O queues is not known yet.
        let vectors = pdev.alloc_irq_vectors(1, 1, msix())?;
        // SAFETY: The registration is dropped at the end of this function, before the vectors.
        let handler = unsafe {
            irq::Registration::new(
                vectors.index(0)?.into(),
                irq::Flags::TRIGGER_NONE,
                NAME,
                Ok(AdminHandler(event.clone())),
            )
        };
        let _handler = KBox::pin_init(handler, GFP_KERNEL)?;

        admin.disable()?;
        admin.enable()?;
        let info = admin.identify_controller()?;
        let queues = admin.set_queue_count(want)?;

        Ok(Self {
            pdev,
            admin,
            event,
            info,
            queues,
        })
    }

    fn dev(&self) -> &'bound Device<Bound> {
        self.pdev.as_ref()
    }

    /// Returns the configuration of the I/O queues, and sets the limits of the device for it.
    fn queue_config(&self, pdev: &pci::Device<Core<'_>>) -> QueueConfig {
        let depth = module_parameters::depth.value();
        let sgl = self.info.sgl && module_parameters::sgl.value();
        // With PRP entries a bounce buffer must keep the offset in the page.
        let mask = match sgl {
            true => 0,
            false => self.admin.caps.page_size() as u32 - 1,
        };

        // SAFETY: The device is being probed, and nothing is mapped or allocated for it
        // concurrently.
        unsafe { pdev.dma_set_min_align_mask(mask) };
        QueueConfig {
            depth: depth
                .min(self.admin.caps.max_depth())
                .clamp(2, MAX_TAGS + 1),
            max_transfer: self.info.max_transfer.min(pdev.dma_opt_mapping_size()),
            sgl,
        }
    }

    /// Sets up everything else.
    fn finish(self, config: QueueConfig) -> Result<Binding<'bound>> {
        let pdev = self.pdev;
        let bar = self.admin.bar.clone();
        let index = Index::new()?;

        // The first one is for the admin queue, the others are spread over the CPUs.
        let vectors = pdev.alloc_irq_vectors_spread(1, 1 + u32::from(self.queues), msix(), 1)?;
        let vectors = KBox::pin(vectors, GFP_KERNEL)?;
        let count = u16::try_from(vectors.len())?;
        let has_io_vectors = count > 1;
        let queues = self.queues.min(count - 1).max(1);

        let mut io = KVec::with_capacity(queues.into(), GFP_KERNEL)?;
        for id in 1..=queues {
            let queue = Queue::new(self.dev(), bar.clone(), &self.admin.caps, id, config)?;
            io.push(queue, GFP_KERNEL)?;
        }
        let tags = if has_io_vectors {
            let tags = TagSet::for_vectors(&vectors, 1, queues.into(), config.tags());
            Arc::pin_init(tags, GFP_KERNEL)?
        } else {
            let tags = TagSet::with_timeout(queues.into(), config.tags());
            Arc::pin_init(tags, GFP_KERNEL)?
        };

        let cmb = Cmb::find(pdev, &bar, &self.admin.caps);
        let interrupts = Interrupts::new(vectors, self.event, &io)?;
        let ctrl = Controller::new(self.admin, index.0, self.info, cmb, io, count, tags)?;
        let running = Running(ctrl.clone());

        ctrl.with_state(|state| ctrl.create_queues(state))?;
        let shared_cmb = match cmb.and_then(|cmb| SharedCmb::new(pdev, bar, cmb)) {
            Some(shared) => AtomicSlot::new(KBox::new(shared, GFP_KERNEL)?),
            None => AtomicSlot::empty(),
        };
        let disks = Disks(ctrl.clone());
        block::add_disks(&ctrl, &config)?;

        Ok(Binding {
            disks,
            shared_cmb,
            running,
            _interrupts: interrupts,
            _index: index,
        })
    }
}

/// Returns the number of I/O queues: one for each CPU if there are doorbells for them.
fn max_queues(bar: &Regs<'_>, caps: &Caps) -> Result<u16> {
    let pair = 8usize << caps.doorbell_stride();
    let pairs = bar.size().saturating_sub(regs::END) / pair;

    if pairs < 2 {
        return Err(ENODEV);
    }
    let max = (pairs - 1).min(nr_cpu_ids() as usize);
    Ok(u16::try_from(max).unwrap_or(u16::MAX))
}

struct NvmeDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <NvmeDriver as pci::Driver>::IdInfo,
    // QEMU
    [(pci::DeviceId::from_id(pci::Vendor::REDHAT, 0x10), ())]
);

impl pci::Driver for NvmeDriver {
    type IdInfo = ();
    type Data<'bound> = Binding<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Binding<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            pdev.enable_device_mem()?;
            pdev.set_master();
            // SAFETY: The device is being probed, and nothing is mapped or allocated for it.
            unsafe {
                pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())?;
                // A PRP list or an SGL descriptor describes a segment of any size.
                pdev.dma_set_max_seg_size(u32::MAX);
            }

            let setup = Setup::new(pdev)?;
            let config = setup.queue_config(pdev);
            Ok(setup.finish(config))
        })
    }

    /// Takes all that is in flight back. Dropping `this` frees memory and interrupts; the pages of
    /// the CMB are removed after that.
    fn unbind<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        this.bring_down();
    }
}

impl pci::PowerDriver for NvmeDriver {
    fn shutdown<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        this.disks.0.shutdown();
    }

    fn suspend<'bound>(
        _pdev: &'bound pci::Device<Core<'_>>,
        this: Pin<&Binding<'bound>>,
    ) -> Result {
        this.disks.0.suspend()
    }

    fn resume<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) -> Result {
        this.disks.0.resume();
        Ok(())
    }
}

#[pin_data]
struct NvmeModule {
    #[pin]
    _driver: driver::Registration<pci::PowerAdapter<NvmeDriver>>,
}

impl InPlaceModule for NvmeModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: A module is initialised once, and its driver is not registered yet.
        unsafe { INDICES.init() };

        try_pin_init!(Self {
            _driver <- driver::Registration::new(NAME, module),
        })
    }
}

module! {
    type: NvmeModule,
    name: "rust_nvme_phys",
    authors: ["The dma-phys project"],
    description: "NVMe on typed physical-address mapping, in Rust",
    license: "GPL v2",
    params: {
        sgl: bool {
            default: true,
            description: "use SGL descriptors if the controller supports them, else PRP lists only",
        },
        depth: u32 {
            default: 1024,
            description: "entries in each I/O queue, limited by the controller",
        },
    },
}

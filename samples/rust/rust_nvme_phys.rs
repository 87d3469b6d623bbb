// SPDX-License-Identifier: GPL-2.0

//! NVMe on typed physical-address mapping, in Rust: a block driver.
//!
//! Each namespace of a controller is a disk, `/dev/rnvme<controller>n<namespace>`. Requests are
//! mapped by [`kernel::dma::phys`] and described to the controller by PRP entries or SGL
//! descriptors, straight from the segments. `samples/dma-phys/nvme_phys` is the same in C: the same
//! steps in the same order.
//!
//! To make this driver probe, QEMU must be run with `-device nvme`, for instance:
//!
//! ```text
//! -drive if=none,id=disk,format=raw,file=disk.img -device nvme,serial=a,drive=disk,cmb_size_mb=16
//! ```
//!
//! This room: the PCI driver, which brings a controller up and down. The others: `life`, `cmb`,
//! `block`, `ioctl`, `controller`, `queue` and `data`, each of which uses what follows it here.

use kernel::{
    block::mq::TagSet,
    cpu::nr_cpu_ids,
    device::{
        Bound,
        Core,
        Device, //
    },
    dma::{
        phys::{
            max_mapping_size,
            set_min_align_mask, //
        },
        Device as _,
        DmaMask, //
    },
    driver,
    io::Io,
    irq,
    pci,
    prelude::*,
    sync::Arc,
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
#[path = "rust_nvme_phys/life.rs"]
mod life;
#[path = "rust_nvme_phys/queue.rs"]
mod queue;
#[path = "rust_nvme_phys/regs.rs"]
mod regs;

use cmb::{
    Cmb,
    Lending, //
};
use controller::{
    Admin,
    AdminHandler,
    Caps,
    Event,
    Info, //
};
use life::Controller;
use queue::{
    Handler,
    Queue,
    Shape, //
};
use regs::Regs;

const NAME: &CStr = <NvmeModule as kernel::ModuleMetadata>::NAME;

/// The block layer's limit.
const MAX_TAGS: u32 = 10240;

kernel::sync::global_lock! {
    // SAFETY: Initialised by the module's `init`, before the driver is registered.
    unsafe(uninit) static INDICES: Mutex<KVec<u32>> = KVec::new();
}

/// A number for a controller, the lowest that is free.
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
            // Nothing frees a static when the module goes.
            *taken = KVec::new();
        }
    }
}

fn msix() -> pci::IrqTypes {
    pci::IrqTypes::default().with(pci::IrqType::MsiX)
}

/// The handlers of a controller's interrupts, and its vectors.
struct Interrupts<'bound> {
    _io: KVec<Pin<KBox<irq::Registration<'bound, Handler<'bound>>>>>,
    _admin: Pin<KBox<irq::Registration<'bound, AdminHandler>>>,
    // Dropped last: the handlers borrow from it.
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

        // SAFETY: Registrations are kept beside the vectors, which are boxed: dropped before these
        // are, here and by the driver's data, and so when the device is unbound.
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

/// The disks of a controller; dropping it removes them.
struct Disks<'bound>(Arc<Controller<'bound>>);

impl Drop for Disks<'_> {
    fn drop(&mut self) {
        self.0.remove_disks();
    }
}

/// The time in which a controller works; dropping it stops the controller.
struct Running<'bound>(Arc<Controller<'bound>>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.bring_down();
    }
}

/// All that belongs to a bound device, in the order in which it is taken down: no disks, so that no
/// request is under way or comes; no range of the CMB mapped; the controller stopped; its
/// interrupts, and its memory freed.
struct Binding<'bound> {
    disks: Disks<'bound>,
    _lending: Option<Lending<'bound>>,
    _running: Running<'bound>,
    _interrupts: Interrupts<'bound>,
    _index: Index,
}

/// What is known of a controller before it has its queues.
struct Start<'bound> {
    pdev: &'bound pci::Device<Bound>,
    admin: Admin<'bound>,
    event: Arc<Event>,
    info: Info,
    /// I/O queues that it can have.
    queues: u16,
}

impl<'bound> Start<'bound> {
    /// Brings up the admin queue.
    fn new(pdev: &'bound pci::Device<Bound>) -> Result<Self> {
        let bar = Arc::new(pdev.iomap_region_sized(0, NAME)?, GFP_KERNEL)?;
        let event = Arc::pin_init(Event::new(), GFP_KERNEL)?;
        let mut admin = Admin::new(pdev, bar.clone(), event.clone())?;
        let want = most_queues(&bar, &admin.caps)?;

        // For now: how many are needed, and how they are spread, is known after this.
        let vectors = pdev.alloc_irq_vectors(1, 1, msix())?;
        // SAFETY: It is dropped at the end of this function, before the vectors are.
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
        let queues = admin.count_queues(want)?;

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

    /// What the I/O queues are like.
    fn shape(&self) -> Shape {
        let depth = module_parameters::depth.value();
        let sgl = self.info.sgl && module_parameters::sgl.value();
        // PRP entries are whole pages: a bounce slot must not shift them.
        let mask = match sgl {
            true => 0,
            false => self.admin.caps.page_size() as u32 - 1,
        };

        // SAFETY: The device is being probed, and nothing is mapped for it now.
        unsafe { set_min_align_mask(self.dev(), mask) };
        Shape {
            depth: depth
                .min(self.admin.caps.max_depth())
                .clamp(2, MAX_TAGS + 1),
            max_transfer: self.info.max_transfer.min(max_mapping_size(self.dev())),
            sgl,
        }
    }

    /// Brings up everything else.
    fn finish(self) -> Result<Binding<'bound>> {
        let shape = self.shape();
        let pdev = self.pdev;
        let bar = self.admin.bar.clone();
        let index = Index::new()?;

        // The first one is the admin queue's, the others follow the CPUs.
        let vectors = pdev.alloc_irq_vectors_spread(1, 1 + u32::from(self.queues), msix(), 1)?;
        let vectors = KBox::pin(vectors, GFP_KERNEL)?;
        let count = u16::try_from(vectors.len())?;
        let has_own = count > 1;
        let queues = self.queues.min(count - 1).max(1);

        let mut io = KVec::with_capacity(queues.into(), GFP_KERNEL)?;
        for id in 1..=queues {
            let queue = Queue::new(self.dev(), bar.clone(), &self.admin.caps, id, shape)?;
            io.push(queue, GFP_KERNEL)?;
        }
        let tags = if has_own {
            let tags = TagSet::for_vectors(&vectors, 1, queues.into(), shape.tags());
            Arc::pin_init(tags, GFP_KERNEL)?
        } else {
            let tags = TagSet::with_timeout(queues.into(), shape.tags());
            Arc::pin_init(tags, GFP_KERNEL)?
        };

        let cmb = Cmb::find(pdev, &bar, &self.admin.caps);
        let interrupts = Interrupts::new(vectors, self.event, &io)?;
        let ctrl = Controller::new(self.admin, index.0, self.info, cmb, io, count, tags)?;
        let running = Running(ctrl.clone());

        ctrl.with_life(|life| ctrl.create_queues(life))?;
        let lending = cmb.and_then(|cmb| Lending::new(pdev, bar, cmb));
        let disks = Disks(ctrl.clone());
        block::add_disks(&ctrl, &shape)?;

        Ok(Binding {
            disks,
            _lending: lending,
            _running: running,
            _interrupts: interrupts,
            _index: index,
        })
    }
}

/// One queue for each CPU, if there are doorbells for them.
fn most_queues(bar: &Regs<'_>, caps: &Caps) -> Result<u16> {
    let pair = 8usize << caps.doorbell_stride();
    let pairs = bar.size().saturating_sub(regs::END) / pair;

    if pairs < 2 {
        return Err(ENODEV);
    }
    let most = (pairs - 1).min(nr_cpu_ids() as usize);
    Ok(u16::try_from(most).unwrap_or(u16::MAX))
}

struct NvmeDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <NvmeDriver as pci::Driver>::IdInfo,
    // QEMU's.
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
            // SAFETY: The device is being probed: nothing of it is allocated or mapped yet.
            unsafe {
                pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())?;
                // A PRP list or an SGL descriptor takes any segment.
                pdev.dma_set_max_seg_size(u32::MAX);
            }

            Ok(Start::new(pdev)?.finish())
        })
    }

    /// The disks go first, while all else is there. That goes when `this` is dropped; the pages of
    /// the CMB are taken back after that.
    fn unbind<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        this.disks.0.remove_disks();
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
        // SAFETY: A module is initialised once, and its driver does not exist yet.
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
            description: "use SGL descriptors where the controller has them (else PRP lists alone)",
        },
        depth: u32 {
            default: 1024,
            description: "entries in each I/O queue, at most what the controller takes",
        },
    },
}

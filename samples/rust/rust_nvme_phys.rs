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
//! Also of interest are `Namespace::RequestData` in `request.rs`, which has space for the mapping;
//! `AdminData` in `admin.rs`, which keeps one range mapped; and `cmb.rs`, which shares a BAR with
//! other devices.
//!
//! Skip the rest, which is what any NVMe driver does. This file is the PCI driver, which sets a
//! controller up and removes it. The modules are `power`, `recovery`, `cmb`, `block`, `ioctl`,
//! `request`, `identify`, `controller`, `admin`, `interrupts`, `queue` and `data`.
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
        phys::Peer,
        Device as _,
        DmaMask, //
    },
    driver,
    io::Io,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        Arc,
        AtomicSlot, //
    },
    InPlaceModule, //
};

#[path = "rust_nvme_phys/admin.rs"]
mod admin;
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
#[path = "rust_nvme_phys/identify.rs"]
mod identify;
#[path = "rust_nvme_phys/interrupts.rs"]
mod interrupts;
#[path = "rust_nvme_phys/ioctl.rs"]
mod ioctl;
#[path = "rust_nvme_phys/power.rs"]
mod power;
#[path = "rust_nvme_phys/queue.rs"]
mod queue;
#[path = "rust_nvme_phys/recovery.rs"]
mod recovery;
#[path = "rust_nvme_phys/regs.rs"]
mod regs;
#[path = "rust_nvme_phys/request.rs"]
mod request;

use cmb::Cmb;
use controller::{
    Admin,
    Caps, //
};
use identify::Info;
use interrupts::Interrupts;
use queue::{
    Queue,
    QueueConfig,
    MAX_DEPTH, //
};
use recovery::Controller;
use regs::Regs;

pub(crate) const NAME: &CStr = <NvmeModule as kernel::ModuleMetadata>::NAME;

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
    shared_cmb: AtomicSlot<Peer<'bound>>,
    running: Running<'bound>,
    _interrupts: Interrupts<'bound>,
    _index: Index,
}

impl<'bound> Binding<'bound> {
    fn ctrl(&self) -> &Controller<'bound> {
        &self.disks.0
    }

    /// Removes the disks, which completes all requests, then unregisters the CMB, then disables the
    /// controller. Afterwards nothing is in flight.
    fn bring_down(&self) {
        self.disks.0.remove_disks();
        drop(self.shared_cmb.take());
        self.running.0.tear_down();
    }
}

type Queues<'bound> = KVec<Arc<Queue<'bound>>>;

/// A controller with its admin queue only.
struct Setup<'bound> {
    pdev: &'bound pci::Device<Bound>,
    // Dropped first, which disables the controller.
    admin: Admin<'bound>,
    info: Info,
    /// Number of I/O queues that the controller grants.
    granted: u16,
    index: Index,
}

impl<'bound> Setup<'bound> {
    /// Sets up the admin queue.
    fn new(pdev: &'bound pci::Device<Bound>) -> Result<Self> {
        let index = Index::new()?;
        let bar = Arc::new(pdev.iomap_region_sized(0, NAME)?, GFP_KERNEL)?;
        let mut admin = Admin::new(pdev, bar.clone())?;
        let want = max_queues(&bar, &admin.caps)?;

        admin.disable()?;
        // Only now: firmware or an old kernel may have left INTx asserted. Only the admin queue:
        // the number of I/O queues is not known yet.
        let vectors = interrupts::allocate(pdev, 0)?;
        let _interrupts = Interrupts::new(vectors, index.0, admin.event.clone(), &[])?;
        admin.enable()?;
        let mut info = admin.identify_controller()?;
        admin.set_host_behavior(&mut info)?;
        let granted = admin.set_queue_count(want)?;

        Ok(Self {
            pdev,
            admin,
            info,
            granted,
            index,
        })
    }

    fn dev(&self) -> &'bound Device<Bound> {
        self.pdev.as_ref()
    }

    /// Returns the configuration of the I/O queues, and sets the limits of the device for it.
    fn queue_config(&mut self, pdev: &pci::Device<Core<'_>>) -> Result<QueueConfig> {
        let depth = module_parameters::depth.value();
        let sgl = self.info.sgl && module_parameters::sgl.value();
        // With PRP entries a bounce buffer must keep the offset in the page.
        let mask = match sgl {
            true => 0,
            false => self.admin.caps.page_size() as u32 - 1,
        };

        self.admin.with_data_unmapped(|| {
            // SAFETY: The device is being probed, and nothing is mapped or allocated for it
            // concurrently.
            unsafe { pdev.dma_set_min_align_mask(mask) }
        })?;
        let max_transfer = self.info.max_transfer.min(pdev.dma_opt_mapping_size());
        // The block layer transfers whole pages of the CPU.
        if max_transfer < PAGE_SIZE {
            dev_err!(self.dev(), "commands transfer less than a page\n");
            return Err(EOPNOTSUPP);
        }
        Ok(QueueConfig {
            depth: depth.clamp(2, self.admin.caps.max_depth().min(MAX_DEPTH)),
            max_transfer,
            sgl,
        })
    }

    /// Allocates up to `count` I/O queues. The first one is necessary.
    fn allocate_queues(&self, count: usize, config: QueueConfig) -> Result<Queues<'bound>> {
        let mut queues = KVec::with_capacity(count, GFP_KERNEL)?;

        for id in 1..=u16::try_from(count)? {
            let bar = self.admin.bar.clone();

            match Queue::new(self.dev(), bar, &self.admin.caps, id, config) {
                Ok(queue) => queues.push(queue, GFP_KERNEL)?,
                Err(error) if id == 1 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(queues)
    }

    /// Allocates vectors for `queues`, so that they are spread over all CPUs, and registers
    /// handlers.
    fn register_handlers(&mut self, queues: &Queues<'bound>) -> Result<Interrupts<'bound>> {
        let vectors = interrupts::allocate(self.pdev, queues.len())?;
        let event = self.admin.event.clone();

        self.admin.set_queues(queues)?;
        Interrupts::new(vectors, self.index.0, event, queues)
    }

    /// Goes on with the first I/O queues only, as there is no memory for the others, or the
    /// controller refuses them.
    fn keep_queues(&self, queues: &mut Queues<'bound>, of: usize, count: usize) {
        dev_warn!(self.dev(), "going on with {count} of {of} I/O queues\n");
        queues.truncate(count);
    }

    /// Sets up the I/O queues: as many as the controller grants, if there are vectors for them.
    fn start_queues(
        &mut self,
        config: QueueConfig,
    ) -> Result<(Queues<'bound>, Interrupts<'bound>)> {
        let vectors = interrupts::allocate(self.pdev, self.granted.into())?.len();
        let want = usize::from(self.granted).min(vectors - 1).max(1);
        let mut queues = self.allocate_queues(want, config)?;
        let count = queues.len();
        if count < want {
            self.keep_queues(&mut queues, want, count);
        }

        let mut interrupts = self.register_handlers(&queues)?;
        let created = self.admin.create_queues(interrupts.count())?;
        if created == 0 {
            return Err(EIO);
        }
        if created < count {
            // A queue that is refused may exist in part: start again without it.
            self.admin.disable()?;
            drop(interrupts);
            self.keep_queues(&mut queues, count, created);
            interrupts = self.register_handlers(&queues)?;
            self.admin.enable()?;
            self.admin.restart_queues(self.info, interrupts.count())?;
        }
        Ok((queues, interrupts))
    }

    /// Sets up everything else.
    fn finish(mut self, config: QueueConfig) -> Result<Binding<'bound>> {
        let pdev = self.pdev;
        let (queues, interrupts) = self.start_queues(config)?;
        let tags = allocate_tags(pdev, interrupts.vectors(), queues.len(), config)?;
        let vectors = interrupts.count();

        let bar = self.admin.bar.clone();
        let cmb = Cmb::find(pdev, &bar, &self.admin.caps);
        let ctrl = Controller::new(
            self.admin,
            self.index.0,
            self.info,
            cmb,
            queues,
            vectors,
            tags,
        )?;
        let running = Running(ctrl.clone());

        let shared_cmb = match cmb.and_then(|cmb| cmb::share(pdev, &bar, cmb)) {
            Some(peer) => AtomicSlot::new(peer),
            None => AtomicSlot::empty(),
        };
        let disks = Disks(ctrl.clone());
        block::add_disks(&ctrl, &config)?;

        Ok(Binding {
            disks,
            shared_cmb,
            running,
            _interrupts: interrupts,
            _index: self.index,
        })
    }
}

/// Allocates the tag set that all disks share. A queue serves the CPUs to which its interrupt is
/// bound, if it has one of its own.
fn allocate_tags<'bound>(
    pdev: &pci::Device<Bound>,
    vectors: &pci::IrqVectorRegistration<'_>,
    queues: usize,
    config: QueueConfig,
) -> Result<Arc<TagSet<block::Namespace<'bound>>>> {
    let count = u32::try_from(queues)?;

    if vectors.len() > queues {
        let tags = TagSet::for_vectors(vectors, 1, count, config.tags());
        Arc::pin_init(tags, GFP_KERNEL)
    } else {
        let tags = TagSet::for_device(pdev.as_ref(), count, config.tags());
        Arc::pin_init(tags, GFP_KERNEL)
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
            // SAFETY: The device is being probed, and nothing is mapped or allocated for it.
            unsafe {
                pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())?;
                // A PRP list or an SGL descriptor describes a segment of any size.
                pdev.dma_set_max_seg_size(u32::MAX);
            }

            let mut setup = Setup::new(pdev)?;
            let config = setup.queue_config(pdev)?;
            let binding = setup.finish(config)?;
            // For error recovery: now memory decoding and vectors are enabled. Without it only that
            // fails.
            let _ = pdev.save_state();
            Ok(Ok::<_, Error>(binding))
        })
    }

    /// Takes all that is in flight back. Dropping `this` frees memory and interrupts; the pages of
    /// the CMB are removed after that.
    fn unbind<'bound>(_pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        this.bring_down();
    }
}

#[pin_data]
struct NvmeModule {
    #[pin]
    _driver: driver::Registration<pci::RecoveryAdapter<NvmeDriver>>,
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
        admin_timeout: u32 {
            default: 60,
            description: "time limit of an admin command in seconds",
        },
    },
}

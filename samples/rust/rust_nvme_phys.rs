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
//! `passthru`, `request`, `metadata`, `command`, `identify`, `controller`, `regs`, `admin`,
//! `interrupts`, `queue`, `rings` and `data`.
//!
//! Each namespace of a controller is a disk, `/dev/rnvme<controller>n<namespace>`.
//! `samples/dma-phys/nvme_phys` is the same driver in C, with the same steps in the same order.
//! `Documentation/core-api/dma-phys-nvme.rst` lists what both support.
//!
//! QEMU provides a device with `-device nvme`, for example:
//!
//! ```text
//! -drive if=none,id=disk,format=raw,file=disk.img -device nvme,serial=a,drive=disk,cmb_size_mb=16
//! ```

use kernel::{
    block::mq::{
        QueueCounts,
        TagSet, //
    },
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
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::Arc,
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
#[path = "rust_nvme_phys/metadata.rs"]
mod metadata;
#[path = "rust_nvme_phys/passthru.rs"]
mod passthru;
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
#[path = "rust_nvme_phys/rings.rs"]
mod rings;

use cmb::Cmb;
use controller::{
    Admin,
    Caps, //
};
use identify::Info;
use interrupts::Interrupts;
use queue::{
    Queue,
    QueueConfig, //
};
use recovery::Controller;
use regs::Regs;
use rings::MAX_DEPTH;

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

/// The shared CMB of a controller. Dropping it unregisters the CMB.
struct SharedCmb<'bound>(Arc<Controller<'bound>>);

impl Drop for SharedCmb<'_> {
    fn drop(&mut self) {
        self.0.unshare_cmb();
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
    _shared_cmb: SharedCmb<'bound>,
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
        self.disks.0.unshare_cmb();
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
        // The vectors are released only after a failure has disabled the controller.
        let (info, granted) = admin.or_disable(|admin| {
            admin.enable()?;
            let mut info = admin.identify_controller()?;
            let has_delays = admin.set_host_behavior(&info)?;

            info.set_delays_used(has_delays);
            Ok((info, admin.set_queue_count(want)?))
        })?;

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

    /// Allocates up to `count` I/O queues. The first one is necessary. Those after the first
    /// `with_interrupt` ones are polled.
    fn allocate_queues(
        &self,
        count: usize,
        with_interrupt: usize,
        config: QueueConfig,
    ) -> Result<Queues<'bound>> {
        let mut queues = KVec::with_capacity(count, GFP_KERNEL)?;

        for id in 1..=u16::try_from(count)? {
            let bar = self.admin.bar.clone();
            let polled = usize::from(id) > with_interrupt;

            match Queue::new(self.dev(), bar, &self.admin.caps, id, polled, config) {
                Ok(queue) => queues.push(queue, GFP_KERNEL)?,
                Err(error) if id == 1 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(queues)
    }

    /// Allocates vectors for `queues`, so that they are spread over all CPUs, and registers
    /// handlers. Goes on with fewer queues if that fails for one of them.
    fn register_handlers(&mut self, queues: &mut Queues<'bound>) -> Result<Interrupts<'bound>> {
        loop {
            let want = queues.iter().filter(|queue| !queue.polled).count();
            let vectors = interrupts::allocate(self.pdev, want)?;
            let event = self.admin.event.clone();

            self.admin.set_queues(queues)?;
            let interrupts = Interrupts::new(vectors, self.index.0, event, queues)?;
            let count = interrupts.queues();
            if count == want {
                return Ok(interrupts);
            }
            drop(interrupts);
            let of = queues.len();
            self.keep_queues(queues, of, count);
        }
    }

    /// Goes on with the first I/O queues only, as there is no memory or no interrupt for the
    /// others, or the controller refuses them.
    fn keep_queues(&self, queues: &mut Queues<'bound>, of: usize, count: usize) {
        dev_warn!(self.dev(), "going on with {count} of {of} I/O queues\n");
        queues.truncate(count);
    }

    /// Sets up the I/O queues that the controller grants, as far as there are vectors. The last
    /// ones are polled, if `poll_queues` is set.
    fn start_queues(
        &mut self,
        config: QueueConfig,
    ) -> Result<(Queues<'bound>, Interrupts<'bound>)> {
        let granted = usize::from(self.granted);
        let polled = poll_queues().min(granted - 1);
        let vectors = interrupts::allocate(self.pdev, granted - polled)?.len();
        let with_interrupt = (granted - polled).min(vectors - 1).max(1);
        let want = with_interrupt + polled;
        let mut queues = self.allocate_queues(want, with_interrupt, config)?;
        if queues.len() < want {
            let count = queues.len();
            self.keep_queues(&mut queues, want, count);
        }

        let mut interrupts = self.register_handlers(&mut queues)?;
        let count = queues.len();
        // See `new()`.
        let created =
            self.admin
                .or_disable(|admin| match admin.create_queues(interrupts.count())? {
                    0 => Err(EIO),
                    created => Ok(created),
                })?;
        if created < count {
            // A queue that is refused may exist in part: start again without it.
            self.admin.disable()?;
            drop(interrupts);
            self.keep_queues(&mut queues, count, created);
            interrupts = self.register_handlers(&mut queues)?;
            let has_delays = self.admin.or_disable(|admin| {
                admin.enable()?;
                admin.restart_queues(&self.info, interrupts.count())
            })?;
            self.info.set_delays_used(has_delays);
        }
        Ok((queues, interrupts))
    }

    /// Sets up everything else.
    fn finish(mut self, config: QueueConfig) -> Result<Binding<'bound>> {
        let (queues, interrupts) = self.start_queues(config)?;
        // After a failure it is dropped, which disables the controller, before the interrupts are.
        let Self {
            pdev,
            admin,
            info,
            index,
            ..
        } = self;
        let tags = allocate_tags(pdev, &interrupts, queues.len(), config)?;
        let vectors = interrupts.count();

        let bar = admin.bar.clone();
        let cmb = Cmb::find(pdev, &bar, &admin.caps);
        let ctrl = Controller::new(admin, index.0, info, cmb, queues, vectors, tags)?;
        let running = Running(ctrl.clone());

        if let Some(cmb) = cmb {
            ctrl.set_shared_cmb(cmb::share(pdev, &bar, cmb));
        }
        let shared_cmb = SharedCmb(ctrl.clone());
        let disks = Disks(ctrl.clone());
        block::add_disks(&ctrl, &config)?;

        Ok(Binding {
            disks,
            _shared_cmb: shared_cmb,
            running,
            _interrupts: interrupts,
            _index: index,
        })
    }
}

/// Allocates the tag set that all disks share, with `count` queues. A queue with an interrupt of
/// its own serves the CPUs to which that is bound.
fn allocate_tags<'bound>(
    pdev: &pci::Device<Bound>,
    interrupts: &Interrupts<'_>,
    count: usize,
    config: QueueConfig,
) -> Result<Arc<TagSet<block::Namespace<'bound>>>> {
    let vectors = interrupts.vectors();
    let queues = QueueCounts {
        default: u32::try_from(interrupts.queues())?,
        poll: u32::try_from(count - interrupts.queues())?,
    };

    if vectors.len() > interrupts.queues() {
        let tags = TagSet::for_vectors(vectors, 1, queues, config.tags());
        Arc::pin_init(tags, GFP_KERNEL)
    } else {
        let tags = TagSet::for_device(pdev.as_ref(), queues, config.tags());
        Arc::pin_init(tags, GFP_KERNEL)
    }
}

/// Returns how many I/O queues are to be polled, if the controller grants them.
fn poll_queues() -> usize {
    module_parameters::poll_queues.value().min(nr_cpu_ids()) as usize
}

/// Returns the number of I/O queues to request: one for each CPU, and the polled ones, limited by
/// the number of doorbells.
fn max_queues(bar: &Regs<'_>, caps: &Caps) -> Result<u16> {
    let pair = 8usize << caps.doorbell_stride();
    let pairs = bar.size().saturating_sub(regs::END) / pair;

    if pairs < 2 {
        return Err(ENODEV);
    }
    let max = (pairs - 1).min(nr_cpu_ids() as usize + poll_queues());
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
            // It cannot be accessed. Recovery waits for the device lock, which probe holds.
            if pdev.is_channel_offline() {
                dev_err!(pdev, "PCI error recovery has not ended\n");
                return Err(EIO);
            }
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
        poll_queues: u32 {
            default: 0,
            description:
                "I/O queues without an interrupt, for polled requests, limited by the controller",
        },
    },
}

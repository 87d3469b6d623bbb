// SPDX-License-Identifier: GPL-2.0

//! Rust NVMe driver sample: real I/O with physical-address DMA mappings.
//!
//! It drives one namespace with one command at a time, told by a line in a debugfs file, and moves
//! data between the disk and memory, or the disk and another controller's memory, through
//! [`Mapping`](kernel::dma::phys::Mapping). `samples/dma-phys/nvme_phys.c` is the same in C.
//!
//! To make this driver probe, QEMU must be run with `-device nvme`, for instance:
//!
//! ```text
//! -drive if=none,id=disk,format=raw,file=disk.img -device nvme,serial=a,drive=disk,cmb_size_mb=16
//! ```
//!
//! Then `echo "write 0 8 1" > /sys/kernel/debug/rust_nvme_phys/0000:00:04.0/command` writes eight
//! blocks of a pattern to the disk, and `result` beside it tells what came of it.

use kernel::{
    debugfs::{
        Dir,
        File, //
    },
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
    irq,
    new_mutex,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    },
    InPlaceModule, //
};

#[path = "rust_nvme_phys/command.rs"]
mod command;
#[path = "rust_nvme_phys/controller.rs"]
mod controller;
#[path = "rust_nvme_phys/queue.rs"]
mod queue;
#[path = "rust_nvme_phys/regs.rs"]
mod regs;

use command::Outcome;
use controller::{
    Cmb,
    Controller, //
};
use queue::{
    Event,
    Handler, //
};

const NAME: &CStr = <NvmeModule as kernel::ModuleMetadata>::NAME;

/// A controller of this driver that lends its memory.
struct Lender {
    pdev: ARef<pci::Device>,
    bar: u32,
}

/// What the controllers of this driver share.
struct Common {
    /// Directory of the controllers' own directories.
    dir: Option<Dir>,
    lenders: KVec<Lender>,
}

kernel::sync::global_lock! {
    // SAFETY: Initialised by the module's `init`, before the driver is registered.
    unsafe(uninit) static COMMON: Mutex<Common> = Common {
        dir: None,
        lenders: KVec::new(),
    };
}

/// The controller called `name`, and the BAR it lends.
fn find_peer(name: &str) -> Result<(ARef<pci::Device>, u32)> {
    let common = COMMON.lock();
    let lender = common
        .lenders
        .iter()
        .find(|lender| name_of(&lender.pdev).to_bytes() == name.as_bytes())
        .ok_or(ENODEV)?;

    Ok((lender.pdev.clone(), lender.bar))
}

fn name_of(pdev: &pci::Device) -> &CStr {
    let dev: &Device = pdev.as_ref();

    dev.name()
}

/// A controller, as its debugfs files see it.
///
/// # Invariants
///
/// `state` holds a controller only while `pdev` is bound to this driver.
#[pin_data]
struct Shared {
    pdev: ARef<pci::Device>,
    #[pin]
    state: Mutex<Option<Controller>>,
    #[pin]
    outcome: Mutex<Outcome>,
}

impl Shared {
    /// Calls `f` with the controller; unbinding waits until it returns.
    fn with<R>(&self, f: impl FnOnce(&mut Controller, &Device<Bound>) -> Result<R>) -> Result<R> {
        let mut state = self.state.lock();
        let ctrl = (*state).as_mut().ok_or(ENODEV)?;
        let dev: &Device = (*self.pdev).as_ref();

        // SAFETY: By the type invariant, `pdev` is bound while `state` holds a controller, and it
        // does so until the lock, which is held, is released. `f` cannot keep the reference.
        f(ctrl, unsafe { dev.as_bound() })
    }
}

/// The time in which a controller works; dropping it shuts the controller down.
struct Running<'bound> {
    shared: Arc<Shared>,
    dev: &'bound Device<Bound>,
}

impl<'bound> Running<'bound> {
    fn start(
        pdev: &'bound pci::Device<Bound>,
        bar: pci::DevresBar<{ regs::END }>,
        event: Arc<Event>,
    ) -> Result<Self> {
        let shared = Arc::pin_init(
            pin_init!(Shared {
                pdev: pdev.into(),
                state <- new_mutex!(None),
                outcome <- new_mutex!(Outcome::Nothing),
            }),
            GFP_KERNEL,
        )?;
        let running = Self {
            shared,
            dev: pdev.as_ref(),
        };

        // INVARIANT: `drop` takes the controller out again, and `'bound` outlives `running`.
        *running.shared.state.lock() = Some(Controller::start(pdev, bar, event)?);
        Ok(running)
    }

    /// Lends the controller's memory to other devices, where it has some.
    fn lend(&self, pdev: &'bound pci::Device<Bound>) -> Result<Option<Lending<'bound>>> {
        let Some(cmb) = self.shared.with(|ctrl, _| Ok(ctrl.info.cmb))? else {
            return Ok(None);
        };

        match Lending::new(pdev, cmb) {
            Ok(lending) => Ok(Some(lending)),
            Err(e) => {
                dev_warn!(pdev, "does not lend its memory ({:?})\n", e);
                self.shared.with(|ctrl, _| {
                    ctrl.info.cmb = None;
                    Ok(None)
                })
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(ctrl) = self.shared.state.lock().take() {
            ctrl.shutdown(self.dev);
        }
    }
}

/// A controller's memory, lent to other devices; dropping it waits until none uses it.
struct Lending<'bound> {
    pdev: ARef<pci::Device>,
    _peer: Peer<'bound>,
}

impl<'bound> Lending<'bound> {
    fn new(pdev: &'bound pci::Device<Bound>, cmb: Cmb) -> Result<Self> {
        let lending = Self {
            pdev: pdev.into(),
            _peer: Peer::register(pdev, cmb.bar)?,
        };
        let lender = Lender {
            pdev: pdev.into(),
            bar: cmb.bar,
        };

        COMMON.lock().lenders.push(lender, GFP_KERNEL)?;
        Ok(lending)
    }
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        let mut common = COMMON.lock();

        common
            .lenders
            .retain(|lender| !core::ptr::eq(&*lender.pdev, &*self.pdev));
        if common.lenders.is_empty() {
            // Nothing frees a static when the module goes.
            common.lenders = KVec::new();
        }
    }
}

/// All that belongs to a bound device, in the order in which it is taken down.
#[pin_data]
struct Binding<'bound> {
    /// Removing a file waits for those who use it.
    #[pin]
    _command: File<Arc<Shared>>,
    #[pin]
    _result: File<Arc<Shared>>,
    #[pin]
    _info: File<Arc<Shared>>,
    _dir: Dir,
    _lending: Option<Lending<'bound>>,
    /// Shutting down takes commands, and those take the interrupt.
    running: Running<'bound>,
    #[pin]
    _irq: irq::Registration<'bound, Handler>,
    /// The interrupt borrows its vector.
    vectors: pci::IrqVectorRegistration<'bound>,
}

struct NvmeDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <NvmeDriver as pci::Driver>::IdInfo,
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
            unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())? };

            let pdev: &'bound pci::Device<Bound> = pdev;
            let bar = pdev.iomap_region_sized(0, NAME)?.into_devres()?;
            let event = Arc::pin_init(Event::new(), GFP_KERNEL)?;
            let handler = Handler(event.clone());
            let msix = pci::IrqTypes::default().with(pci::IrqType::MsiX);
            let common = COMMON.lock().dir.clone().ok_or(ENODEV)?;
            let dir = common.subdir(name_of(pdev));

            Ok(try_pin_init!(Binding {
                vectors: pdev.alloc_irq_vectors(1, 1, msix)?,
                // SAFETY: The registration lives in the driver's data, which is dropped when the
                // device is unbound. `vectors` is initialised by now, lives at a pinned address,
                // and is dropped after the registration: fields are dropped in their order.
                _irq <- unsafe {
                    irq::Registration::new(
                        (*core::ptr::from_ref(vectors)).index(0)?.into(),
                        irq::Flags::TRIGGER_NONE,
                        NAME,
                        Ok(handler),
                    )
                },
                running: Running::start(pdev, bar, event)?,
                _lending: running.lend(pdev)?,
                _info <- dir.read_callback_file(
                    c"info",
                    running.shared.clone(),
                    &|shared: &Arc<Shared>, f| command::info(shared, f),
                ),
                _result <- dir.read_callback_file(
                    c"result",
                    running.shared.clone(),
                    &|shared: &Arc<Shared>, f| command::result(shared, f),
                ),
                _command <- dir.write_callback_file(
                    c"command",
                    running.shared.clone(),
                    &|shared: &Arc<Shared>, reader| command::write(shared, reader),
                ),
                _dir: dir,
            }? Error))
        })
    }
}

/// The directory that all controllers share, while the module is loaded.
struct CommonDir;

impl CommonDir {
    fn new() -> Self {
        // SAFETY: A module is initialised once, and its driver does not exist yet.
        unsafe { COMMON.init() };
        COMMON.lock().dir = Some(Dir::new(NAME));
        Self
    }
}

impl Drop for CommonDir {
    fn drop(&mut self) {
        // Nothing drops a static when the module goes.
        COMMON.lock().dir = None;
    }
}

#[pin_data]
struct NvmeModule {
    #[pin]
    _driver: driver::Registration<pci::Adapter<NvmeDriver>>,
    // Dropped last: each controller has a directory in it.
    _dir: CommonDir,
}

impl InPlaceModule for NvmeModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _dir: CommonDir::new(),
            _driver <- driver::Registration::new(NAME, module),
        })
    }
}

module! {
    type: NvmeModule,
    name: "rust_nvme_phys",
    authors: ["The dma-phys project"],
    description: "Rust NVMe sample on physical-address DMA mappings",
    license: "GPL v2",
}

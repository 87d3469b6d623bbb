// SPDX-License-Identifier: GPL-2.0

//! A minimal driver for QEMU's "edu" that copies bytes in the memory of another device.
//! `rust_edu_phys.rs` copies in the memory of the machine: read it first.
//!
//! The driver binds to two devices. "ivshmem-plain" has memory in BAR 2, and the driver shares it
//! as a peer. When edu is bound, it copies the first half of this memory to the second half, and
//! the result is logged. [`EduBinding::new`] attaches to the peer, and [`Edu::submit`] maps both
//! halves as one range. The interrupt of the last transfer unmaps it. If the peer is removed before
//! that, [`Edu::revoke`] unmaps it; if edu is removed, `unbind` does. If there is no P2P path
//! between the devices, the probe of edu fails with `EREMOTEIO`.
//!
//! edu must reach all addresses: `-device edu,dma_mask=0xffffffffffffffff`.
//!
//! `samples/dma-phys/edu_peer_phys.c` is the same driver in C.

use core::ptr;
use kernel::{
    device::{
        Bound,
        Core, //
    },
    dma::{
        phys::{
            Bidirectional,
            InFlight,
            Mmio,
            MmioPhys,
            Peer,
            PeerClient,
            Revoke, //
        },
        Device as _,
        DmaMask, //
    },
    driver,
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    irq::{
        self,
        IrqReturn,
        ThreadedRegistration, //
    },
    new_mutex,
    pci,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
    time::Delta,
    InPlaceModule, //
};

// Registers of edu in BAR 0.
const IRQ_STATUS: usize = 0x24;
const IRQ_ACK: usize = 0x64;
const DMA_SRC: usize = 0x80;
const DMA_DST: usize = 0x88;
const DMA_LEN: usize = 0x90;
const DMA_CMD: usize = 0x98;
const CMD_RUN: u64 = 1 << 0;
/// From the buffer to the peer.
const CMD_WRITE: u64 = 1 << 1;
const CMD_IRQ: u64 = 1 << 2;

/// The device's address of its buffer.
const BUF: u64 = 0x40000;
/// The maximum size of a transfer.
const BUF_SIZE: usize = 4096;

/// The BAR of the peer that is memory.
const PEER_BAR: u32 = 2;
/// The bytes to copy. The copy follows the source.
const SIZE: usize = 4 * BUF_SIZE;

const NAME: &CStr = <EduModule as kernel::ModuleMetadata>::NAME;

type Regs<'bound> = pci::Bar<'bound, 0xa0>;
type Memory = pci::DevresBar<{ 2 * SIZE }>;

kernel::sync::global_lock! {
    // SAFETY: Initialised by the module's `init`, before the driver is registered.
    unsafe(uninit) static MEMORY: Mutex<Option<Arc<Memory>>> = None;
}

/// Writes the source, and clears the copy.
fn fill(memory: &Memory) -> Result {
    let memory = memory.try_access().ok_or(ENODEV)?;

    for i in 0..SIZE {
        memory.try_write8((i * 7 + i / 256) as u8, i)?;
        memory.try_write8(0, SIZE + i)?;
    }
    // The bytes have arrived when one of them can be read.
    memory.try_read8(0)?;
    Ok(())
}

fn verify(memory: &Memory) -> Result<bool> {
    let memory = memory.try_access().ok_or(ENODEV)?;

    for i in 0..SIZE {
        if memory.try_read8(i)? != memory.try_read8(SIZE + i)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is in flight.
struct Transfer<'bound> {
    /// The source and the copy.
    range: InFlight<'bound, Mmio<'bound>, Bidirectional>,
    /// The same for the CPU, which can access it while the range is mapped.
    memory: Arc<Memory>,
    /// Transfers so far, two per `BUF_SIZE`.
    step: usize,
}

impl Transfer<'_> {
    /// Starts the next transfer: from the source to the buffer, or from there to the copy. Returns
    /// false if there is none.
    fn start_next(&mut self, regs: &Regs<'_>) -> bool {
        let offset = self.step / 2 * BUF_SIZE;
        let source = self.range.dma_address() + offset as u64;
        let (src, dst, flags) = match self.step % 2 == 1 {
            true => (BUF, source + SIZE as u64, CMD_WRITE),
            false => (source, BUF, 0),
        };

        if offset == SIZE {
            return false;
        }
        // Registers of 64 bits are checked at run time. These are inside the BAR.
        let words = [
            (DMA_SRC, src),
            (DMA_DST, dst),
            (DMA_LEN, BUF_SIZE as u64),
            (DMA_CMD, CMD_RUN | CMD_IRQ | flags),
        ];
        for (register, word) in words {
            let _ = regs.try_write64(word, register);
        }
        self.step += 1;
        true
    }
}

#[pin_data]
struct Edu<'bound> {
    pdev: &'bound pci::Device<Bound>,
    regs: Regs<'bound>,
    #[pin]
    in_flight: Mutex<Option<Transfer<'bound>>>,
}

impl<'bound> Edu<'bound> {
    /// A device that was unplugged does not run. Its registers read as all ones.
    fn is_running(&self) -> bool {
        let cmd = self.regs.try_read64(DMA_CMD).unwrap_or(u64::MAX);

        cmd != u64::MAX && cmd & CMD_RUN != 0
    }

    /// A transfer ends by itself. Returns false if it takes too long.
    fn wait(&self) -> bool {
        read_poll_timeout(
            || Ok(self.is_running()),
            |running| !running,
            Delta::from_millis(1),
            Delta::from_secs(5),
        )
        .is_ok()
    }

    fn submit(&self, range: MmioPhys<'bound>, memory: Arc<Memory>) -> Result {
        let mut in_flight = self.in_flight.lock();
        let range = InFlight::<Mmio<'_>, _>::map(self.pdev.as_ref(), range)?;
        let transfer = Transfer {
            range,
            memory,
            step: 0,
        };

        in_flight.insert(transfer).start_next(&self.regs);
        Ok(())
    }
}

impl Revoke for Edu<'_> {
    /// The peer is being removed. It waits until the range is unmapped.
    fn revoke(&self) {
        let mut in_flight = self.in_flight.lock();

        // If it still runs, the last interrupt of the copy unmaps.
        if self.wait() {
            if let Some(transfer) = in_flight.take() {
                // SAFETY: The device does not run, and is started only under the lock.
                unsafe { transfer.range.unmap() };
            }
        }
    }
}

struct Handler<'bound>(PeerClient<'bound, Edu<'bound>>);

impl irq::ThreadedHandler for Handler<'_> {
    fn handle_threaded(&self) -> IrqReturn {
        let edu = &*self.0;
        let status = edu.regs.read32(IRQ_STATUS);
        let mut in_flight = edu.in_flight.lock();

        edu.regs.write32(status, IRQ_ACK);
        let done =
            in_flight.take_if(|transfer| !edu.is_running() && !transfer.start_next(&edu.regs));
        if let Some(Transfer { range, memory, .. }) = done {
            let result = match verify(&memory) {
                Ok(true) => "verified",
                _ => "WRONG",
            };

            dev_info!(
                edu.pdev,
                "copied {} bytes, route {}: {}\n",
                SIZE,
                range.route(),
                result
            );
            // SAFETY: The device has finished: it does not run, and there is no next transfer.
            unsafe { range.unmap() };
        }
        match status {
            0 => IrqReturn::None,
            _ => IrqReturn::Handled,
        }
    }
}

/// The data of edu. The interrupt, which borrows its vector, is freed first.
struct EduBinding<'bound> {
    irq: Pin<KBox<ThreadedRegistration<'bound, Handler<'bound>>>>,
    _vectors: pci::IrqVectorRegistration<'bound>,
}

impl<'bound> EduBinding<'bound> {
    fn new(pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        // SAFETY: The device is being probed, and nothing is mapped or allocated for it.
        unsafe { pdev.dma_set_mask_and_coherent(DmaMask::new::<64>())? };
        let regs = pdev.iomap_region_sized(0, NAME)?;
        let vectors = pdev.alloc_irq_vectors(1, 1, pci::IrqTypes::all())?;
        // SAFETY: The request keeps no reference, and `vectors` is dropped after `irq`.
        let request = unsafe { &*ptr::from_ref(&vectors) }.index(0)?.into();

        // The owner locks this before it unregisters the peer.
        let memory = MEMORY.lock();
        let memory = memory.as_ref().ok_or(EPROBE_DEFER)?;
        let owner: &pci::Device = memory.device().try_into()?;
        // SAFETY: The range is a plain value that keeps no reference.
        let owner = unsafe { &*ptr::from_ref(owner) };
        let range = MmioPhys::from_bar(owner, PEER_BAR, 0, 2 * SIZE)?;
        let edu = try_pin_init!(Edu {
            pdev,
            regs,
            in_flight <- new_mutex!(None),
        }? Error);
        // SAFETY: The client borrows `pdev`, which is bound until after the driver data is dropped.
        // So is its code: it is that of the driver.
        let client = unsafe { PeerClient::attach_with_lt(pdev.as_ref(), &range, edu, GFP_KERNEL)? };

        // SAFETY: It is part of the driver data, which is dropped.
        let irq = unsafe {
            ThreadedRegistration::new(request, irq::Flags::ONESHOT, NAME, Ok(Handler(client)))
        };
        let irq = KBox::pin_init(irq, GFP_KERNEL)?;

        pdev.set_master();
        fill(memory)?;
        irq.handler().0.submit(range, memory.clone())?;
        Ok(Self {
            irq,
            _vectors: vectors,
        })
    }

    fn stop(&self, pdev: &pci::Device<Core<'_>>) {
        let edu = &*self.irq.handler().0;
        let mut in_flight = edu.in_flight.lock();

        // Stop it: without bus mastering it accesses no memory.
        // SAFETY: The driver is being unbound, so nothing else changes the command register.
        unsafe { pdev.clear_master() };
        // The next driver must not continue its transfer.
        edu.wait();
        if let Some(transfer) = in_flight.take() {
            // SAFETY: The device was stopped.
            unsafe { transfer.range.unmap() };
        }
    }
}

/// The data of the peer.
struct Owner<'bound> {
    /// Dropping it revokes edu, and waits until edu has unmapped the memory.
    _peer: Peer<'bound>,
}

impl Drop for Owner<'_> {
    fn drop(&mut self) {
        *MEMORY.lock() = None;
    }
}

impl<'bound> Owner<'bound> {
    fn new(pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let bar = pdev.iomap_region_sized(PEER_BAR, NAME)?.into_devres()?;
        let mut memory = MEMORY.lock();

        if memory.is_some() {
            return Err(EBUSY);
        }
        let bar = Arc::new(bar, GFP_KERNEL)?;
        let peer = Peer::register(pdev, PEER_BAR)?;
        *memory = Some(bar);
        Ok(Self { _peer: peer })
    }
}

enum Binding<'bound> {
    Edu(EduBinding<'bound>),
    Owner { _owner: Owner<'bound> },
}

enum Kind {
    Edu,
    Owner,
}

struct EduDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <EduDriver as pci::Driver>::IdInfo,
    [
        // QEMU's edu
        (
            pci::DeviceId::from_id(pci::Vendor::from_raw(0x1234), 0x11e8),
            Kind::Edu
        ),
        // QEMU's ivshmem-plain
        (
            pci::DeviceId::from_id(pci::Vendor::REDHAT_QUMRANET, 0x1110),
            Kind::Owner
        )
    ]
);

impl pci::Driver for EduDriver {
    type IdInfo = Kind;
    type Data<'bound> = Binding<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Binding<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            pdev.enable_device_mem()?;
            Ok(Ok(match info.ok_or(ENODEV)? {
                Kind::Edu => Binding::Edu(EduBinding::new(pdev)?),
                Kind::Owner => Binding::Owner {
                    _owner: Owner::new(pdev)?,
                },
            }))
        })
    }

    fn unbind<'bound>(pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        if let Binding::Edu(edu) = this.get_ref() {
            edu.stop(pdev);
        }
    }
}

#[pin_data]
struct EduModule {
    #[pin]
    _driver: driver::Registration<pci::Adapter<EduDriver>>,
}

impl InPlaceModule for EduModule {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: A module is initialised once, and its driver is not registered yet.
        unsafe { MEMORY.init() };

        try_pin_init!(Self {
            _driver <- driver::Registration::new(NAME, module),
        })
    }
}

module! {
    type: EduModule,
    name: "rust_edu_peer_phys",
    authors: ["The dma-phys project"],
    description: "QEMU's edu on the memory of a peer, in Rust",
    license: "GPL v2",
}

// SPDX-License-Identifier: GPL-2.0

//! A minimal driver for QEMU's "edu": a device that copies bytes between memory and a buffer of its
//! own.
//!
//! When it is bound, it copies a source to a target and logs the result. The source is a [`VVec`],
//! and is mapped as a list of ranges. The target is a [`KVec`], and is mapped as one range.
//! [`Edu::submit`] maps both, and the interrupt of the last transfer unmaps them. `unbind` stops
//! the device and unmaps what is in flight.
//!
//! "./run demo" starts it, and `samples/dma-phys/edu_phys.c`, the same driver in C.
//! `rust_edu_peer_phys.rs` copies in the memory of another device. The second lesson is the NVMe
//! driver, see `rust_nvme_phys.rs`.

use core::ptr;
use kernel::{
    device::{
        Bound,
        Core, //
    },
    dma::{
        phys::{
            Cpu,
            FromDevice,
            InFlight,
            Mapping,
            SgInFlight,
            SgMapping,
            ToDevice, //
        },
        Device as _,
        DmaMask, //
    },
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
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::Mutex,
    time::Delta, //
};

// Registers in BAR 0.
const IRQ_STATUS: usize = 0x24;
const IRQ_ACK: usize = 0x64;
const DMA_SRC: usize = 0x80;
const DMA_DST: usize = 0x88;
const DMA_LEN: usize = 0x90;
const DMA_CMD: usize = 0x98;
const CMD_RUN: u64 = 1 << 0;
/// From the buffer to memory.
const CMD_WRITE: u64 = 1 << 1;
const CMD_IRQ: u64 = 1 << 2;

/// The device's address of its buffer.
const BUF: u64 = 0x40000;
/// The maximum size of a transfer.
const BUF_SIZE: u32 = 4096;

const SIZE: usize = 4 * PAGE_SIZE;

const NAME: &CStr = <DriverModule as kernel::ModuleMetadata>::NAME;

type Regs<'bound> = pci::Bar<'bound, 0xa0>;

fn is_running(regs: &Regs<'_>) -> bool {
    regs.try_read64(DMA_CMD).is_ok_and(|cmd| cmd & CMD_RUN != 0)
}

/// What is in flight.
struct Transfer<'bound> {
    list: SgInFlight<'bound, Cpu<VVec<u8>>, ToDevice>,
    range: InFlight<'bound, Cpu<KVec<u8>>, FromDevice>,
    /// Transfers so far, two per segment.
    step: usize,
    /// Bytes copied so far.
    copied: usize,
}

impl Transfer<'_> {
    /// Starts the next transfer: from a segment to the buffer, or from there to the range. Returns
    /// false if there is none.
    fn start_next(&mut self, regs: &Regs<'_>) -> bool {
        let Some(segment) = self.list.segments().get(self.step / 2) else {
            return false;
        };
        let target = self.range.dma_address() + self.copied as u64;
        let write = self.step % 2 == 1;
        let (src, dst, flags) = match write {
            true => (BUF, target, CMD_WRITE),
            false => (segment.dma_address(), BUF, 0),
        };

        // Registers of 64 bits are checked at run time. These are inside the BAR.
        let words = [
            (DMA_SRC, src),
            (DMA_DST, dst),
            (DMA_LEN, segment.dma_len() as u64),
            (DMA_CMD, CMD_RUN | CMD_IRQ | flags),
        ];
        for (register, word) in words {
            let _ = regs.try_write64(word, register);
        }
        self.step += 1;
        self.copied += if write { segment.dma_len() } else { 0 };
        true
    }

    /// # Safety
    ///
    /// The device has finished, was stopped, or was not started.
    unsafe fn unmap(self) -> (VVec<u8>, KVec<u8>) {
        // SAFETY: The caller guarantees it.
        unsafe { (self.list.unmap(), self.range.unmap()) }
    }
}

#[pin_data]
struct Edu<'bound> {
    pdev: &'bound pci::Device<Bound>,
    regs: Regs<'bound>,
    #[pin]
    in_flight: Mutex<Option<Transfer<'bound>>>,
    /// The copy, kept while the driver is bound.
    #[pin]
    target: Mutex<KVec<u8>>,
}

impl<'bound> Edu<'bound> {
    fn submit(&self, source: VVec<u8>, target: KVec<u8>) -> Result {
        let dev = self.pdev.as_ref();
        // The CPU owns these: an error drops them. After `submit()` the device does.
        let range = Mapping::<Cpu<_>, FromDevice>::new(dev, target)?;
        let list = SgMapping::<Cpu<_>, ToDevice>::new(dev, source, GFP_KERNEL)?;
        let transfer = Transfer {
            list: list.submit(),
            range: range.submit(),
            step: 0,
            copied: 0,
        };

        self.in_flight
            .lock()
            .insert(transfer)
            .start_next(&self.regs);
        Ok(())
    }
}

impl irq::ThreadedHandler for Edu<'_> {
    fn handle_threaded(&self) -> IrqReturn {
        let status = self.regs.read32(IRQ_STATUS);
        let mut in_flight = self.in_flight.lock();

        self.regs.write32(status, IRQ_ACK);
        let done = in_flight
            .take_if(|transfer| !is_running(&self.regs) && !transfer.start_next(&self.regs));
        if let Some(transfer) = done {
            let route = transfer.range.route();
            let (copied, count) = (transfer.copied, transfer.list.segments().len());
            // SAFETY: The device has finished: it does not run, and there is no next transfer.
            let (source, target) = unsafe { transfer.unmap() };
            let result = match source[..] == target[..] {
                true => "verified",
                false => "WRONG",
            };

            dev_info!(
                self.pdev,
                "copied {} bytes, {} segments, route {}: {}\n",
                copied,
                count,
                route,
                result
            );
            *self.target.lock() = target;
        }
        match status {
            0 => IrqReturn::None,
            _ => IrqReturn::Handled,
        }
    }
}

/// The data of a bound device. The interrupt, which borrows its vector, is freed first.
#[pin_data]
struct Binding<'bound> {
    #[pin]
    irq: ThreadedRegistration<'bound, Edu<'bound>>,
    vectors: pci::IrqVectorRegistration<'bound>,
}

struct EduDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <EduDriver as pci::Driver>::IdInfo,
    // QEMU
    [(
        pci::DeviceId::from_id(pci::Vendor::from_raw(0x1234), 0x11e8),
        ()
    )]
);

impl pci::Driver for EduDriver {
    type IdInfo = ();
    type Data<'bound> = Binding<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Binding<'bound>, Error> + 'bound {
        pin_init::pin_init_scope(move || {
            let mut source = VVec::from_elem(0u8, SIZE, GFP_KERNEL)?;
            let target = KVec::from_elem(0u8, SIZE, GFP_KERNEL)?;

            for (i, byte) in source.iter_mut().enumerate() {
                *byte = (i * 7 + i / 256) as u8;
            }

            pdev.enable_device_mem()?;
            // SAFETY: The device is being probed, and nothing is mapped or allocated for it.
            unsafe {
                let mask = DmaMask::try_new(module_parameters::dma_bits.value())?;
                pdev.dma_set_mask_and_coherent(mask)?;
                pdev.dma_set_max_seg_size(BUF_SIZE);
            }
            let regs = pdev.iomap_region_sized(0, NAME)?;
            let vectors = pdev.alloc_irq_vectors(1, 1, pci::IrqTypes::all())?;
            // SAFETY: The request keeps no reference, and `vectors` is dropped after `irq`.
            let request = unsafe { &*ptr::from_ref(&vectors) }.index(0)?.into();
            let edu = try_pin_init!(Edu {
                pdev,
                regs,
                in_flight <- new_mutex!(None),
                target <- new_mutex!(KVec::new()),
            }? Error);

            pdev.set_master();
            Ok(try_pin_init!(Binding {
                // SAFETY: It is part of the driver data, which is dropped.
                irq <- unsafe {
                    ThreadedRegistration::new(request, irq::Flags::ONESHOT, NAME, edu)
                },
                vectors,
            }? Error)
            .pin_chain(|this| this.irq.handler().submit(source, target)))
        })
    }

    fn unbind<'bound>(pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Binding<'bound>>) {
        let edu = this.irq.handler();
        let mut in_flight = edu.in_flight.lock();

        // Stop it: without bus mastering it accesses no memory.
        // SAFETY: The driver is being unbound, so nothing else changes the command register.
        unsafe { pdev.clear_master() };
        // Its transfer ends by itself. The next driver must not continue it.
        let _ = read_poll_timeout(
            || Ok(is_running(&edu.regs)),
            |running| !running,
            Delta::from_millis(1),
            Delta::from_secs(5),
        );
        if let Some(transfer) = in_flight.take() {
            // SAFETY: The device was stopped.
            drop(unsafe { transfer.unmap() });
        }
    }
}

kernel::module_pci_driver! {
    type: EduDriver,
    name: "rust_edu_phys",
    authors: ["The dma-phys project"],
    description: "QEMU's edu on typed physical-address mapping, in Rust",
    license: "GPL v2",
    params: {
        dma_bits: u32 {
            default: 28,
            description: "bits in dma_mask, a property of the device in QEMU",
        },
    },
}

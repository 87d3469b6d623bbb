// SPDX-License-Identifier: GPL-2.0

//! One controller: reset, admin queue, identify, I/O queue, commands.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::{
        phys::{
            Bidirectional,
            Cpu,
            Direction,
            FromDevice,
            Kind,
            Mapping,
            Writable, //
        },
        Coherent, //
    },
    io::{
        io_project,
        poll::read_poll_timeout,
        Io, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sizes::{
        SZ_1M,
        SZ_4K, //
    },
    sync::Arc,
    time::Delta, //
};

use crate::{
    queue::{
        Command,
        Event,
        Queue, //
    },
    regs, //
};

/// The namespace this driver works on.
pub(crate) const NSID: u32 = 1;

/// The I/O queue pair.
const IO_QID: u16 = 1;

/// Largest transfer: what one PRP list can describe, and one allocation provide.
const MAX_TRANSFER: usize = SZ_1M;

/// Entries of the PRP list. It fills 4 KiB, so it lies in one page of any size.
const LIST_ENTRIES: usize = SZ_4K / size_of::<u64>();

const ADMIN_TIMEOUT: Delta = Delta::from_secs(60);
const IO_TIMEOUT: Delta = Delta::from_secs(30);

// Admin commands.
const DELETE_SQ: u8 = 0x00;
const CREATE_SQ: u8 = 0x01;
const DELETE_CQ: u8 = 0x04;
const CREATE_CQ: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const SET_FEATURES: u8 = 0x09;

// Commands of the NVM command set.
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;

/// `CNS` of Identify: a namespace.
const CNS_NAMESPACE: u32 = 0;
/// `CNS` of Identify: the controller.
const CNS_CONTROLLER: u32 = 1;
/// The feature that sets how many I/O queues there are.
const FEATURE_QUEUES: u32 = 7;
/// In Create I/O Queue: the queue is physically contiguous.
const QUEUE_CONTIGUOUS: u32 = 1 << 0;
/// In Create I/O Completion Queue: it raises interrupts.
const QUEUE_INTERRUPTS: u32 = 1 << 1;

/// A direction in which the device writes, so that the disk can be read into a mapping of it.
pub(crate) trait Filled: Direction {}

impl Filled for FromDevice {}
impl Filled for Bidirectional {}

/// Which of the two queue pairs.
#[derive(Clone, Copy)]
enum Pair {
    Admin,
    Io,
}

/// What is left of the controller.
#[derive(Clone, Copy, PartialEq)]
enum Health {
    /// It works.
    Live,
    /// It failed and has been stopped: it no longer uses our memory.
    Dead,
    /// It failed and did not stop: memory it was given is never freed.
    Runaway,
}

/// The controller memory buffer: a BAR.
#[derive(Clone, Copy)]
pub(crate) struct Cmb {
    pub(crate) bar: u32,
    pub(crate) size: u64,
}

/// What the controller and its namespace say about themselves.
pub(crate) struct Info {
    pub(crate) model: [u8; 40],
    pub(crate) serial: [u8; 20],
    pub(crate) blocks: u64,
    pub(crate) block_size: usize,
    pub(crate) max_transfer: usize,
    pub(crate) cmb: Option<Cmb>,
}

/// A controller that has been enabled.
///
/// It is let go of with [`Controller::shutdown`], never by a plain drop: the device reads and
/// writes its queues until it is disabled.
pub(crate) struct Controller {
    bar: pci::DevresBar<{ regs::END }>,
    event: Arc<Event>,
    cap_lo: regs::CAP_LO,
    cap_hi: regs::CAP_HI,
    admin: Queue,
    io: Queue,
    list: Coherent<[u64]>,
    /// How long a shutdown may take.
    shutdown: Delta,
    health: Health,
    pub(crate) info: Info,
}

impl Controller {
    /// Brings the controller behind `bar` to life.
    pub(crate) fn start(
        pdev: &pci::Device<Bound>,
        bar: pci::DevresBar<{ regs::END }>,
        event: Arc<Event>,
    ) -> Result<Self> {
        let dev: &Device<Bound> = pdev.as_ref();
        let regs = bar.access(dev)?;
        let (cap_lo, cap_hi) = (regs.read(regs::CAP_LO), regs.read(regs::CAP_HI));

        if cap_lo.into_raw() == regs::ALL_ONES {
            return Err(ENODEV);
        }
        if !cap_hi.css_nvm() {
            return refuse(dev, "no NVM command set");
        }
        // Queues are aligned to the kernel's pages, and must be to the controller's.
        if SZ_4K << cap_hi.mpsmin().get() > PAGE_SIZE {
            return refuse(dev, "pages are too large");
        }

        let mut ctrl = Self {
            bar,
            event,
            cap_lo,
            cap_hi,
            admin: Queue::new(dev, 0, cap_lo, cap_hi)?,
            io: Queue::new(dev, IO_QID, cap_lo, cap_hi)?,
            list: Coherent::zeroed_slice(dev, LIST_ENTRIES, GFP_KERNEL)?,
            shutdown: Delta::from_secs(5),
            health: Health::Live,
            info: Info {
                model: [0; 40],
                serial: [0; 20],
                blocks: 0,
                block_size: 0,
                max_transfer: 0,
                cmb: None,
            },
        };

        match ctrl.bring_up(pdev) {
            Ok(()) => Ok(ctrl),
            Err(e) => {
                ctrl.close(dev);
                Err(e)
            }
        }
    }

    fn bring_up(&mut self, pdev: &pci::Device<Bound>) -> Result {
        let dev: &Device<Bound> = pdev.as_ref();

        self.disable(dev)?;
        self.enable(dev)?;
        self.identify_controller(dev)?;
        self.identify_namespace(dev)?;
        self.create_io_queue(dev)?;
        self.info.cmb = self.find_cmb(pdev)?;
        Ok(())
    }

    /// Stops the controller, and with it all its use of memory.
    fn disable(&self, dev: &Device<Bound>) -> Result {
        let regs = self.bar.access(dev)?;

        // `EN` may fall only after `RDY` rose, which it never does where the controller failed.
        if regs.read(regs::CC).en() {
            let _ = self.wait_ready(regs, true);
            // The rest may change only while it is stopped, except for a shutdown notice.
            regs.update(regs::CC, |cc| cc.with_en(false).with_const_shn::<0>());
        }
        self.wait_ready(regs, false)?;

        // Where nobody answers a read, zeroes may come back, and they promise nothing.
        if regs.read(regs::CAP_LO) != self.cap_lo {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Gives the controller its admin queue and starts it.
    fn enable(&self, dev: &Device<Bound>) -> Result {
        let regs = self.bar.access(dev)?;
        let (asq, acq) = (self.admin.submissions(), self.admin.completions());
        let last = u32::from(self.admin.last());

        regs.write_reg(
            regs::AQA::zeroed()
                .try_with_acqs(last)?
                .try_with_asqs(last)?,
        );
        // CAST: the halves of a 64-bit address.
        regs.write_reg(regs::ASQ_LO::from_raw(asq as u32));
        regs.write_reg(regs::ASQ_HI::from_raw((asq >> 32) as u32));
        regs.write_reg(regs::ACQ_LO::from_raw(acq as u32));
        regs.write_reg(regs::ACQ_HI::from_raw((acq >> 32) as u32));

        let cc = regs::CC::zeroed()
            .with_const_iosqes::<6>()
            .with_const_iocqes::<4>()
            .with_mps(self.cap_hi.mpsmin());
        regs.write_reg(cc);
        regs.write_reg(cc.with_en(true));
        self.wait_ready(regs, true)
    }

    /// Waits for `CSTS.RDY` as long as `CAP.TO` allows.
    fn wait_ready(&self, regs: &regs::Regs<'_>, ready: bool) -> Result {
        let units = i64::from(self.cap_lo.to().get()) + 1;
        let csts = read_poll_timeout(
            || regs::status(regs),
            |csts| csts.rdy() == ready || (ready && csts.cfs()),
            Delta::from_millis(1),
            Delta::from_millis(500 * units),
        )?;

        if csts.rdy() != ready {
            return Err(EIO);
        }
        Ok(())
    }

    fn identify_controller(&mut self, dev: &Device<Bound>) -> Result {
        let data = self.identify(dev, CNS_CONTROLLER, 0)?;

        self.info.serial = bytes(&data, 4)?;
        self.info.model = bytes(&data, 24)?;

        // In microseconds, 0 where it is not told.
        let shutdown = u32::from_le_bytes(bytes(&data, 88)?);
        self.shutdown = Delta::from_millis((i64::from(shutdown) / 1000).clamp(5_000, 60_000));

        // `MDTS` is a power of two of pages; 0 is no limit.
        let [mdts] = bytes(&data, 77)?;
        self.info.max_transfer = match self.page_size().checked_shl(mdts.into()) {
            Some(limit) if mdts != 0 && limit != 0 => limit.min(MAX_TRANSFER),
            _ => MAX_TRANSFER,
        };
        Ok(())
    }

    fn identify_namespace(&mut self, dev: &Device<Bound>) -> Result {
        let data = self.identify(dev, CNS_NAMESPACE, NSID)?;
        let [flbas] = bytes(&data, 26)?;
        let format: [u8; 4] = bytes(&data, 128 + 4 * usize::from(flbas & 0xf))?;
        let metadata = u16::from_le_bytes([format[0], format[1]]);

        self.info.blocks = u64::from_le_bytes(bytes(&data, 0)?);
        if self.info.blocks == 0 {
            return Err(ENODEV);
        }
        match 1usize.checked_shl(format[2].into()) {
            Some(size) if metadata == 0 && (512..=self.info.max_transfer).contains(&size) => {
                self.info.block_size = size;
                Ok(())
            }
            _ => refuse(dev, "block format not supported"),
        }
    }

    /// One page of identify data.
    fn identify(&mut self, dev: &Device<Bound>, cns: u32, nsid: u32) -> Result<KVec<u8>> {
        let memory = KVec::zeroed(SZ_4K, GFP_KERNEL)?;
        let map = Mapping::<Cpu<KVec<u8>>, FromDevice>::new(dev, memory)?;
        let command = Command {
            opcode: IDENTIFY,
            nsid,
            cdw10: cns,
            ..Command::default()
        };

        Ok(self.run(dev, Pair::Admin, command, map)?.unmap())
    }

    /// Makes one I/O queue pair, on the same interrupt as the admin queue.
    fn create_io_queue(&mut self, dev: &Device<Bound>) -> Result {
        let queue = u32::from(self.io.last()) << 16 | u32::from(IO_QID);
        // One pair: both counts are zero-based.
        let count = Command {
            opcode: SET_FEATURES,
            cdw10: FEATURE_QUEUES,
            ..Command::default()
        };
        let completions = Command {
            opcode: CREATE_CQ,
            prp1: self.io.completions(),
            cdw10: queue,
            cdw11: QUEUE_CONTIGUOUS | QUEUE_INTERRUPTS,
            ..Command::default()
        };
        let submissions = Command {
            opcode: CREATE_SQ,
            prp1: self.io.submissions(),
            cdw10: queue,
            cdw11: QUEUE_CONTIGUOUS | u32::from(IO_QID) << 16,
            ..Command::default()
        };

        self.execute(dev, Pair::Admin, &count)?;
        self.execute(dev, Pair::Admin, &completions)?;
        self.execute(dev, Pair::Admin, &submissions)
    }

    /// Finds the controller memory buffer, and makes the controller know it.
    fn find_cmb(&self, pdev: &pci::Device<Bound>) -> Result<Option<Cmb>> {
        let dev: &Device<Bound> = pdev.as_ref();
        let regs = self.bar.access(dev)?;
        let enable = regs::CMBMSC_LO::zeroed().with_cre(true);

        if self.cap_hi.cmbs() {
            regs.write_reg(enable);
        }
        let Some(cmb) = whole_bar(pdev, regs.read(regs::CMBLOC), regs.read(regs::CMBSZ)) else {
            return Ok(None);
        };
        if self.cap_hi.cmbs() {
            // The address that a device on the bus uses, which the CPU's may differ from.
            let base = bus_address(pdev, cmb.bar)?;
            let low = regs::CMBMSC_LO::from_raw(base as u32);

            // CAST: the halves of a 64-bit address.
            regs.write_reg(regs::CMBMSC_HI::from_raw((base >> 32) as u32));
            regs.write_reg(enable.with_cba(low.cba()).with_cmse(true));
        }
        Ok(Some(cmb))
    }

    fn page_size(&self) -> usize {
        SZ_4K << self.cap_hi.mpsmin().get()
    }

    /// Reads `blocks` blocks at `lba` from the disk into what is mapped.
    ///
    /// # Errors
    ///
    /// - `EINVAL` where the namespace, a transfer, or what is mapped is smaller or larger;
    /// - `EIO` where the controller reports a failure;
    /// - those of [`Queue::execute`] where it does not report;
    /// - `ENODEV` after that.
    pub(crate) fn read<'a, K: Kind, D: Filled>(
        &mut self,
        dev: &Device<Bound>,
        lba: u64,
        blocks: usize,
        map: Mapping<'a, K, D>,
    ) -> Result<Mapping<'a, K, D>> {
        self.transfer(dev, READ, lba, blocks, map)
    }

    /// Writes what is mapped to `blocks` blocks at `lba` of the disk.
    ///
    /// # Errors
    ///
    /// Those of [`Controller::read`].
    pub(crate) fn write<'a, K: Kind, D: Writable>(
        &mut self,
        dev: &Device<Bound>,
        lba: u64,
        blocks: usize,
        map: Mapping<'a, K, D>,
    ) -> Result<Mapping<'a, K, D>> {
        self.transfer(dev, WRITE, lba, blocks, map)
    }

    fn transfer<'a, K: Kind, D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        opcode: u8,
        lba: u64,
        blocks: usize,
        map: Mapping<'a, K, D>,
    ) -> Result<Mapping<'a, K, D>> {
        if self.size_of(lba, blocks)? != map.size() {
            return Err(EINVAL);
        }

        let command = Command {
            opcode,
            nsid: NSID,
            // CAST: the halves of a 64-bit block number.
            cdw10: lba as u32,
            cdw11: (lba >> 32) as u32,
            // Zero-based.
            cdw12: u32::from(u16::try_from(blocks - 1)?),
            ..Command::default()
        };
        self.run(dev, Pair::Io, command, map)
    }

    /// How many bytes `blocks` blocks at `lba` are, where one transfer can be made of them.
    pub(crate) fn size_of(&self, lba: u64, blocks: usize) -> Result<usize> {
        let end = lba.checked_add(blocks as u64).ok_or(EINVAL)?;
        if blocks == 0 || end > self.info.blocks {
            return Err(EINVAL);
        }

        let size = blocks.checked_mul(self.info.block_size).ok_or(EINVAL)?;
        if size > self.info.max_transfer {
            return Err(EINVAL);
        }
        Ok(size)
    }

    /// Runs `command` on the memory of `map`, and gives it back once the controller is done.
    fn run<'a, K: Kind, D: Direction>(
        &mut self,
        dev: &Device<Bound>,
        pair: Pair,
        mut command: Command,
        map: Mapping<'a, K, D>,
    ) -> Result<Mapping<'a, K, D>> {
        if self.health != Health::Live {
            return Err(ENODEV);
        }
        (command.prp1, command.prp2) = self.prps(map.dma_address(), map.size())?;

        if let Err(e) = self.execute(dev, pair, &command) {
            if self.health == Health::Runaway {
                // It may write there at any time: leaked memory is better than that, and a peer
                // that is never taken back as well.
                core::mem::forget(map);
            }
            return Err(e);
        }
        Ok(map)
    }

    /// Describes `size` bytes at `addr` in pages: PRP1, and PRP2 or the PRP list.
    fn prps(&self, addr: u64, size: usize) -> Result<(u64, u64)> {
        let page = self.page_size();
        // CAST: smaller than a page.
        let first = page - (addr & (page as u64 - 1)) as usize;

        if addr % 4 != 0 {
            return Err(EINVAL);
        }
        if size <= first {
            return Ok((addr, 0));
        }

        let rest = size - first;
        let second = addr + first as u64;
        if rest <= page {
            return Ok((addr, second));
        }

        for i in 0..rest.div_ceil(page) {
            let entry = second + (i * page) as u64;
            io_project!(self.list, [try: i]).copy_write(entry.to_le());
        }
        Ok((addr, self.list.dma_address()))
    }

    /// Runs `command`; a controller that loses one is stopped.
    fn execute(&mut self, dev: &Device<Bound>, pair: Pair, command: &Command) -> Result {
        if self.health != Health::Live {
            return Err(ENODEV);
        }

        let regs = self.bar.access(dev)?;
        let (queue, timeout) = match pair {
            Pair::Admin => (&mut self.admin, ADMIN_TIMEOUT),
            Pair::Io => (&mut self.io, IO_TIMEOUT),
        };
        match queue.execute(regs, &self.event, command, timeout) {
            Ok(completion) if completion.status == 0 => Ok(()),
            Ok(completion) => {
                let (opcode, status) = (command.opcode, completion.status);
                dev_warn!(
                    dev,
                    "command {:#04x} failed with status {:#06x}\n",
                    opcode,
                    status
                );
                Err(EIO)
            }
            Err(e) => {
                dev_err!(dev, "command {:#04x} lost ({:?})\n", command.opcode, e);
                self.stop(dev);
                Err(e)
            }
        }
    }

    /// Stops a controller that has failed.
    fn stop(&mut self, dev: &Device<Bound>) {
        self.health = match self.disable(dev) {
            Ok(()) => Health::Dead,
            Err(e) => {
                dev_err!(dev, "does not stop ({:?}), its memory is lost\n", e);
                Health::Runaway
            }
        };
    }

    /// Shuts the controller down, as before a power-off, and lets go of it.
    ///
    /// Nobody uses its memory buffer any more.
    pub(crate) fn shutdown(mut self, dev: &Device<Bound>) {
        if self.health == Health::Live {
            if let Err(e) = self.notify_shutdown(dev) {
                dev_warn!(dev, "no clean shutdown ({:?})\n", e);
            }
        }
        self.close(dev);
    }

    fn notify_shutdown(&mut self, dev: &Device<Bound>) -> Result {
        for opcode in [DELETE_SQ, DELETE_CQ] {
            let command = Command {
                opcode,
                cdw10: IO_QID.into(),
                ..Command::default()
            };
            self.execute(dev, Pair::Admin, &command)?;
        }

        let regs = self.bar.access(dev)?;
        if self.cap_hi.cmbs() {
            regs.write_reg(regs::CMBMSC_LO::zeroed());
        }
        regs.update(regs::CC, |cc| cc.with_const_shn::<{ regs::SHN_NORMAL }>());
        read_poll_timeout(
            || regs::status(regs),
            |csts| csts.shst().get() == regs::SHST_COMPLETE,
            Delta::from_millis(1),
            self.shutdown,
        )?;
        Ok(())
    }

    /// Stops the controller and frees what it was given, unless it does not stop.
    fn close(mut self, dev: &Device<Bound>) {
        if self.health == Health::Live {
            self.stop(dev);
        }
        if self.health == Health::Runaway {
            core::mem::forget(self);
        }
    }
}

/// Says why the driver cannot work with a controller.
fn refuse<T>(dev: &Device<Bound>, why: &str) -> Result<T> {
    dev_err!(dev, "{why}\n");
    Err(EOPNOTSUPP)
}

/// The BAR that the controller memory buffer fills.
///
/// A peer lends a whole BAR. One that holds registers as well is no business of others.
fn whole_bar(pdev: &pci::Device, loc: regs::CMBLOC, cmbsz: regs::CMBSZ) -> Option<Cmb> {
    let bar = loc.bir().get();
    let szu = cmbsz.szu().get();
    if !(1..=5).contains(&bar) || loc.ofst() != 0 || szu > 6 || !cmbsz.rds() || !cmbsz.wds() {
        return None;
    }

    // It may be announced larger than its BAR.
    let bytes = u64::from(cmbsz.sz().get()) << (12 + 4 * szu);
    let size = pdev.resource_len(bar).ok()?;
    (size != 0 && bytes >= size).then_some(Cmb { bar, size })
}

/// Where BAR `bar` is on the bus.
fn bus_address(pdev: &pci::Device<Bound>, bar: u32) -> Result<u64> {
    let config = pdev.config_space();
    // CAST: one of six.
    let offset = 0x10 + 4 * bar as usize;
    let low = config.try_read32(offset)?;

    // Bits 2 and 1 are 2 where the next register holds the upper half; bits 3 to 0 are flags.
    let high = match low & 0x6 {
        0x4 => config.try_read32(offset + 4)?,
        _ => 0,
    };
    Ok(u64::from(high) << 32 | u64::from(low & !0xf))
}

/// `N` bytes of identify data.
fn bytes<const N: usize>(data: &[u8], offset: usize) -> Result<[u8; N]> {
    let end = offset.checked_add(N).ok_or(EINVAL)?;

    data.get(offset..end)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(EINVAL)
}

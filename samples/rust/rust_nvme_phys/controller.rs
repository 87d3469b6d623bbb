// SPDX-License-Identifier: GPL-2.0

//! A controller: registers, and admin commands.
//!
//! The rule that keeps memory safe: none is unmapped or freed while the controller may still reach
//! it. A command completes, or the controller is disabled first.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::phys::{
        Cpu,
        FromDevice,
        Mapping, //
    },
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    irq,
    new_condvar,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sizes::{
        SZ_1M,
        SZ_4K, //
    },
    sync::{
        new_spinlock_irq,
        Arc,
        CondVar,
        CondVarTimeoutResult,
        SpinLockIrq, //
    },
    time::{
        delay::fsleep,
        msecs_to_jiffies,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

use crate::{
    command::{
        admin,
        Command,
        Completion,
        Data,
        Status, //
    },
    queue::{
        Completions,
        Queue,
        Submissions, //
    },
    regs::{
        self,
        high,
        low,
        Regs, //
    }, //
};

const ADMIN_DEPTH: u32 = 32;
/// Most data of one admin command.
pub(crate) const ADMIN_BYTES: usize = SZ_4K;
/// How long one admin command may take.
const ADMIN_TIMEOUT: Delta = Delta::from_secs(5);
/// How long a controller that does not obey may take for what it has begun on the bus.
const PENDING_TIMEOUT: Delta = Delta::from_secs(5);
/// How long a command waits before it looks whether there still is a controller.
const SLICE: Delta = Delta::from_secs(1);

pub(crate) const MAX_TRANSFER: usize = SZ_1M;
pub(crate) const MAX_SEGMENTS: usize = 128;

/// `CNS` of Identify: a namespace.
pub(crate) const CNS_NAMESPACE: u32 = 0;
/// `CNS` of Identify: the controller.
const CNS_CONTROLLER: u32 = 1;
/// `CNS` of Identify: the ids of namespaces above the one asked for.
pub(crate) const CNS_ACTIVE: u32 = 2;
/// The feature that sets how many I/O queues there are.
const FEATURE_QUEUES: u32 = 7;
/// In Create I/O Queue: the queue is physically contiguous.
const QUEUE_CONTIGUOUS: u32 = 1 << 0;
/// In Create I/O Completion Queue: it raises interrupts.
const QUEUE_INTERRUPTS: u32 = 1 << 1;

/// What the registers say that a controller can do.
#[derive(Clone, Copy)]
pub(crate) struct Caps {
    low: regs::CAP_LO,
    high: regs::CAP_HI,
}

impl Caps {
    /// # Errors
    ///
    /// - `ENODEV` where the controller is gone;
    /// - `EOPNOTSUPP` where it is not for us.
    fn read(dev: &Device<Bound>, bar: &Regs<'_>) -> Result<Self> {
        let caps = Self {
            low: bar.read(regs::CAP_LO),
            high: bar.read(regs::CAP_HI),
        };

        if caps.low.into_raw() == regs::ALL_ONES {
            return Err(ENODEV);
        }
        if caps.page_size() > PAGE_SIZE {
            dev_err!(dev, "wants pages of {}\n", caps.page_size());
            return Err(EOPNOTSUPP);
        }
        if !caps.high.css_nvm() {
            dev_err!(dev, "no NVM command set\n");
            return Err(EOPNOTSUPP);
        }
        if caps.max_depth() < ADMIN_DEPTH {
            dev_err!(dev, "queues too short\n");
            return Err(EOPNOTSUPP);
        }
        Ok(caps)
    }

    /// The page that PRP entries count in, as the controller is set to.
    pub(crate) fn page_size(&self) -> usize {
        SZ_4K << self.high.mpsmin().get()
    }

    /// Distance between doorbells, as a power of two above 4 bytes.
    pub(crate) fn doorbell_stride(&self) -> u32 {
        self.high.dstrd().get()
    }

    /// Most entries in a queue.
    pub(crate) fn max_depth(&self) -> u32 {
        self.low.mqes().get() + 1
    }

    /// How long the controller may take to become ready, or not: counted in half seconds, and 0
    /// would leave no time at all.
    fn ready(&self) -> Delta {
        Delta::from_millis(500 * (i64::from(self.low.to().get()) + 1))
    }

    /// Whether the CMB is enabled by its own register.
    pub(crate) fn has_cmb_control(&self) -> bool {
        self.high.cmbs()
    }
}

/// What a controller says about itself.
#[derive(Clone, Copy)]
pub(crate) struct Info {
    /// Bytes of the largest transfer that it takes.
    pub(crate) max_transfer: usize,
    /// It has SGL descriptors.
    pub(crate) sgl: bool,
    /// It has a write cache that may be lost.
    pub(crate) write_cache: bool,
    /// It knows Dataset Management.
    pub(crate) discard: bool,
    /// It knows Write Zeroes.
    pub(crate) write_zeroes: bool,
    /// How long it may take to shut down.
    pub(crate) shutdown: Delta,
}

/// How a command ended, and what it returns.
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) result: u32,
}

impl Answer {
    /// What the command returns, where it did not fail.
    fn result(self, dev: &Device<Bound>, opcode: u8) -> Result<u32> {
        if self.status != Status::SUCCESS {
            dev_warn!(
                dev,
                "admin command {:#x}: status {:#x}\n",
                opcode,
                self.status.raw()
            );
            return Err(EIO);
        }
        Ok(self.result)
    }
}

/// The registers and the admin queue of a controller.
///
/// Dropping it disables the controller, so that memory which that knows can be freed then.
pub(crate) struct Admin<'bound> {
    pub(crate) pdev: &'bound pci::Device<Bound>,
    pub(crate) bar: Arc<Regs<'bound>>,
    pub(crate) caps: Caps,
    submissions: Submissions<'bound>,
    completions: Completions<'bound>,
    event: Arc<Event>,
    cid: u16,
    /// It is enabled.
    running: bool,
}

impl Drop for Admin<'_> {
    fn drop(&mut self) {
        if self.running {
            let _ = self.disable();
        }
    }
}

impl<'bound> Admin<'bound> {
    /// Allocates the admin queue of the controller behind `bar`. It must be disabled before it is
    /// enabled: who had it may have left it running.
    pub(crate) fn new(
        pdev: &'bound pci::Device<Bound>,
        bar: Arc<Regs<'bound>>,
        event: Arc<Event>,
    ) -> Result<Self> {
        let dev = pdev.as_ref();
        let caps = Caps::read(dev, &bar)?;

        Ok(Self {
            pdev,
            submissions: Submissions::new(dev, bar.clone(), &caps, 0, ADMIN_DEPTH)?,
            completions: Completions::new(dev, bar.clone(), &caps, 0, ADMIN_DEPTH)?,
            bar,
            caps,
            event,
            cid: 0,
            running: false,
        })
    }

    fn dev(&self) -> &'bound Device<Bound> {
        self.pdev.as_ref()
    }

    /// Whether it is enabled, and answers.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Waits until `done`. A fatal status ends each wait but the one for a disabled controller,
    /// which is its cure.
    fn wait(&self, timeout: Delta, curable: bool, done: impl Fn(regs::CSTS) -> bool) -> Result {
        let csts = read_poll_timeout(
            || regs::status(&self.bar),
            |csts| done(*csts) || (!curable && csts.cfs()),
            Delta::from_millis(1),
            timeout,
        )?;

        if !done(csts) {
            return Err(EIO);
        }
        Ok(())
    }

    fn wait_disabled(&self) -> Result {
        let cc = self.bar.read(regs::CC);

        if cc.en() {
            // `EN` may fall only after `RDY` rose, which it never does where the controller failed.
            let _ = self.wait(self.caps.ready(), false, |csts| csts.rdy());
            self.bar.write_reg(cc.with_en(false).with_const_shn::<0>());
        }
        self.wait(self.caps.ready(), true, |csts| !csts.rdy())?;

        // Where nobody answers a read, zeroes may come back, and they promise nothing.
        if self.bar.read(regs::CAP_LO) != self.caps.low {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Takes the memory away from the controller.
    ///
    /// Afterwards it reaches none: it says that it is disabled, or it may not master the bus any
    /// more.
    ///
    /// # Errors
    ///
    /// - `ENODEV` where it is gone;
    /// - `ETIMEDOUT` where it does not obey.
    pub(crate) fn disable(&mut self) -> Result {
        self.running = false;
        self.wait_disabled().inspect_err(|error| {
            dev_err!(self.dev(), "cannot be disabled ({:?})\n", error);
            self.stop_master();
        })
    }

    /// Waits, but not for ever, for what the controller has begun, and lets it begin nothing more.
    ///
    /// What may be left then are its reads: what it wrote needs no answer.
    fn stop_master(&self) {
        let start: Instant<Monotonic> = Instant::now();

        while !self.pdev.stop_master() {
            if start.elapsed() > PENDING_TIMEOUT {
                dev_err!(self.dev(), "transactions still pending\n");
                return;
            }
        }
    }

    /// Has the controller, which is disabled, take admin commands.
    ///
    /// # Errors
    ///
    /// - `ENODEV` where it is gone;
    /// - `EIO` where it failed;
    /// - `ETIMEDOUT` where it does not become ready.
    pub(crate) fn enable(&mut self) -> Result {
        let (asq, acq) = (self.submissions.address(), self.completions.address());
        let aqa = regs::AQA::zeroed()
            .try_with_acqs(ADMIN_DEPTH - 1)?
            .try_with_asqs(ADMIN_DEPTH - 1)?;
        let cc = regs::CC::zeroed()
            .with_const_iosqes::<6>()
            .with_const_iocqes::<4>()
            .with_mps(self.caps.high.mpsmin());

        self.submissions.reset();
        self.completions.reset()?;
        self.pdev.start_master();
        self.bar.write_reg(aqa);
        self.bar.write_reg(regs::ASQ_LO::from_raw(low(asq)));
        self.bar.write_reg(regs::ASQ_HI::from_raw(high(asq)));
        self.bar.write_reg(regs::ACQ_LO::from_raw(low(acq)));
        self.bar.write_reg(regs::ACQ_HI::from_raw(high(acq)));
        self.bar.write_reg(cc);
        // Whatever comes of it, it is to be disabled now.
        self.running = true;
        self.bar.write_reg(cc.with_en(true));
        self.wait(self.caps.ready(), false, |csts| csts.rdy())
            .inspect_err(|_| {
                let _ = self.disable();
            })
    }

    /// Has the controller save what it has. It is given no more commands.
    pub(crate) fn notify_shutdown(&mut self, timeout: Delta) {
        self.bar
            .update(regs::CC, |cc| cc.with_const_shn::<{ regs::SHN_NORMAL }>());
        let done = self.wait(timeout, false, |csts| {
            csts.shst().get() == regs::SHST_COMPLETE
        });

        if let Err(error) = done {
            dev_warn!(self.dev(), "did not shut down ({:?})\n", error);
        }
    }

    /// Waits for the answer to the last command, in slices, so that it is soon noticed that the
    /// controller is gone or failed.
    fn wait_answer(&mut self) -> Result<Completion> {
        let start: Instant<Monotonic> = Instant::now();
        let mut woken = Woken::Interrupt;
        let mut unknown = 0u32;

        loop {
            // Looked at before the queue, so that a late wake-up costs time and nothing else.
            let late = start.elapsed() > ADMIN_TIMEOUT;

            // A controller that completes without end does not keep us here.
            for _ in 0..ADMIN_DEPTH {
                let Some(completion) = self.completions.pop()? else {
                    break;
                };
                self.completions.popped()?;
                if completion.cid != self.cid {
                    unknown += 1;
                    if unknown == 1 {
                        dev_warn!(self.dev(), "admin: unknown completion\n");
                    }
                    continue;
                }
                if woken == Woken::Clock {
                    dev_warn!(self.dev(), "admin: completion without interrupt\n");
                }
                return Ok(completion);
            }
            if late {
                return Err(ETIMEDOUT);
            }
            woken = self.event.wait(SLICE);
            if woken == Woken::Clock {
                let csts = regs::status(&self.bar)?;
                if csts.cfs() || !csts.rdy() {
                    return Err(EIO);
                }
            }
        }
    }

    /// Has the controller do an admin command.
    ///
    /// # Errors
    ///
    /// With any error the controller may still be at it: reset it, or disable it before memory that
    /// the command names is unmapped.
    ///
    /// - `ENODEV` where the controller does not run, or is gone;
    /// - `EIO` where it failed;
    /// - `ETIMEDOUT` where it does not answer.
    pub(crate) fn run(&mut self, command: &Command) -> Result<Answer> {
        if !self.running {
            return Err(ENODEV);
        }

        self.cid = self.cid.wrapping_add(1);
        self.submissions.push(command, self.cid)?;
        self.submissions.ring()?;
        match self.wait_answer() {
            Ok(completion) => Ok(Answer {
                status: completion.status,
                result: completion.result,
            }),
            Err(error) => {
                dev_err!(
                    self.dev(),
                    "admin command {:#x} failed ({:?})\n",
                    command.opcode,
                    error
                );
                Err(error)
            }
        }
    }

    /// The same for a command that returns data: all of `memory`, from [`data_memory`], is the
    /// controller's to write, whatever the command says.
    ///
    /// # Errors
    ///
    /// As [`Admin::run`]; where the controller fails it is disabled. And as [`Mapping::new`].
    pub(crate) fn read(
        &mut self,
        mut command: Command,
        memory: KVec<u8>,
    ) -> Result<(Answer, KVec<u8>)> {
        let map = Mapping::<Cpu<KVec<u8>>, FromDevice>::new(self.dev(), memory)?;

        command.data = self.two_prps(map.dma_address(), map.size());
        match self.run(&command) {
            Ok(answer) => Ok((answer, map.unmap())),
            Err(error) => {
                if self.running {
                    let _ = self.disable();
                }
                // Unmapped from here on only.
                drop(map);
                Err(error)
            }
        }
    }

    /// Data of no more than a page, wherever it starts.
    fn two_prps(&self, addr: u64, size: usize) -> Data {
        let next = (addr | (self.caps.page_size() as u64 - 1)) + 1;

        if next < addr + size as u64 {
            Data::prps(addr, next)
        } else {
            Data::prps(addr, 0)
        }
    }

    /// Asks the controller about itself or a namespace.
    ///
    /// # Errors
    ///
    /// As [`Admin::read`], and `EIO` where the controller reports a failure.
    pub(crate) fn identify(&mut self, cns: u32, nsid: u32) -> Result<KVec<u8>> {
        let command = Command {
            opcode: admin::IDENTIFY,
            nsid,
            dwords: [cns, 0, 0, 0, 0, 0],
            ..Command::default()
        };
        let (answer, data) = self.read(command, data_memory()?)?;

        answer.result(self.dev(), admin::IDENTIFY)?;
        Ok(data)
    }

    /// Learns what the controller can do.
    ///
    /// # Errors
    ///
    /// As [`Admin::identify`].
    pub(crate) fn identify_controller(&mut self) -> Result<Info> {
        let data = self.identify(CNS_CONTROLLER, 0)?;
        let [mdts] = bytes(&data, 77)?;
        let [vwc] = bytes(&data, 525)?;
        let oncs = u16::from_le_bytes(bytes(&data, 520)?);
        let sgls = u32::from_le_bytes(bytes(&data, 536)?);
        // In microseconds, 0 where it is not told.
        let shutdown = i64::from(u32::from_le_bytes(bytes(&data, 88)?) / 1000);

        // `MDTS` is a power of two of pages; 0 is no limit.
        let max_transfer = match self.caps.page_size().checked_shl(mdts.into()) {
            Some(limit) if mdts != 0 && limit != 0 => limit.min(MAX_TRANSFER),
            _ => MAX_TRANSFER,
        };
        Ok(Info {
            max_transfer,
            // Both of the supported kinds of alignment are ours: four bytes.
            sgl: matches!(sgls & 3, 1 | 2),
            write_cache: vwc & 1 << 0 != 0,
            discard: oncs & 1 << 2 != 0,
            write_zeroes: oncs & 1 << 3 != 0,
            shutdown: Delta::from_millis(shutdown.clamp(5_000, 60_000)),
        })
    }

    /// Agrees on the number of I/O queues, of which there are none: `want` or fewer.
    ///
    /// # Errors
    ///
    /// As [`Admin::run`], and `EIO` where the controller reports a failure.
    pub(crate) fn count_queues(&mut self, want: u16) -> Result<u16> {
        // All four counts start at 0.
        let last = u32::from(want) - 1;
        let result = self
            .run(&Command {
                opcode: admin::SET_FEATURES,
                dwords: [FEATURE_QUEUES, last << 16 | last, 0, 0, 0, 0],
                ..Command::default()
            })?
            .result(self.dev(), admin::SET_FEATURES)?;

        let most = (result & 0xffff).min(result >> 16).min(last) + 1;
        Ok(u16::try_from(most)?)
    }

    /// Has the controller use `queue`, which is not in use, with an interrupt vector.
    ///
    /// # Errors
    ///
    /// As [`Admin::count_queues`].
    pub(crate) fn create_queue(&mut self, queue: &Queue<'_>, vector: u16) -> Result {
        let id = u32::from(queue.id);
        let size = (queue.depth - 1) << 16 | id;

        queue.reset()?;
        let vector = u32::from(vector) << 16;
        self.create(
            admin::CREATE_CQ,
            queue.cq_address,
            [size, vector | QUEUE_INTERRUPTS | QUEUE_CONTIGUOUS],
        )?;
        self.create(
            admin::CREATE_SQ,
            queue.sq_address,
            [size, id << 16 | QUEUE_CONTIGUOUS],
        )
    }

    fn create(&mut self, opcode: u8, memory: u64, [size, flags]: [u32; 2]) -> Result {
        self.run(&Command {
            opcode,
            data: Data::prps(memory, 0),
            dwords: [size, flags, 0, 0, 0, 0],
            ..Command::default()
        })?
        .result(self.dev(), opcode)?;
        Ok(())
    }

    /// Asks the controller to abort a command. That it could not is no failure.
    ///
    /// # Errors
    ///
    /// As [`Admin::run`], and `EIO` where the controller reports a failure.
    pub(crate) fn abort(&mut self, queue: u16, tag: u32) -> Result {
        self.run(&Command {
            opcode: admin::ABORT,
            dwords: [u32::from(queue) | tag << 16, 0, 0, 0, 0, 0],
            ..Command::default()
        })?
        .result(self.dev(), admin::ABORT)?;
        Ok(())
    }
}

/// Memory for the data of an admin command.
///
/// To allocate it may wait for a disk. So it is not for those who hold the life of a controller
/// that has disks: their timeouts wait for that.
pub(crate) fn data_memory() -> Result<KVec<u8>> {
    Ok(KVec::zeroed(ADMIN_BYTES, GFP_KERNEL)?)
}

/// `N` bytes of identify data.
pub(crate) fn bytes<const N: usize>(data: &[u8], offset: usize) -> Result<[u8; N]> {
    let end = offset.checked_add(N).ok_or(EINVAL)?;

    data.get(offset..end)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(EINVAL)
}

/// What an admin command waits for: the interrupt of its queue.
#[pin_data]
pub(crate) struct Event {
    #[pin]
    fired: SpinLockIrq<bool>,
    #[pin]
    wake: CondVar,
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Interrupt,
    Clock,
    Signal,
}

impl Event {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            fired <- new_spinlock_irq!(false),
            wake <- new_condvar!(),
        })
    }

    /// Sleeps until the interrupt has come since the last call, at most `timeout`.
    fn wait(&self, timeout: Delta) -> Woken {
        let jiffies = msecs_to_jiffies(timeout.as_millis().try_into().unwrap_or(0));
        let mut fired = self.fired.lock();
        let mut woken = Woken::Interrupt;

        if !*fired {
            woken = match self.wake.wait_interruptible_timeout(&mut fired, jiffies) {
                CondVarTimeoutResult::Woken { .. } => Woken::Interrupt,
                CondVarTimeoutResult::Timeout => Woken::Clock,
                CondVarTimeoutResult::Signal { .. } => Woken::Signal,
            };
        }
        if core::mem::take(&mut *fired) {
            woken = Woken::Interrupt;
        }
        drop(fired);

        // A command that the controller may carry out is never abandoned to a signal, and with one
        // pending nothing sleeps interruptibly: look again soon instead.
        if woken == Woken::Signal {
            fsleep(Delta::from_millis(1));
        }
        woken
    }
}

/// The handler of the admin queue's interrupt.
pub(crate) struct AdminHandler(pub(crate) Arc<Event>);

impl irq::Handler for AdminHandler {
    fn handle(&self) -> irq::IrqReturn {
        *self.0.fired.lock() = true;
        self.0.wake.notify_all();
        irq::IrqReturn::Handled
    }
}

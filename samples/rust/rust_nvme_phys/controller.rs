// SPDX-License-Identifier: GPL-2.0

//! Registers and admin commands of a controller.
//!
//! Memory is unmapped or freed only when the controller no longer accesses it: after the command
//! has completed, or after the controller was disabled.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::phys::{
        Cpu,
        FromDevice,
        InFlight, //
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
/// Maximum data of an admin command, in bytes.
pub(crate) const ADMIN_BYTES: usize = SZ_4K;
/// Time limit for an admin command.
const ADMIN_TIMEOUT: Delta = Delta::from_secs(5);
/// Time limit for pending transactions of a controller that could not be disabled.
const PENDING_TIMEOUT: Delta = Delta::from_secs(5);
/// How often a wait for an admin command checks whether the controller is gone or has failed.
const POLL_INTERVAL: Delta = Delta::from_secs(1);

pub(crate) const MAX_TRANSFER: usize = SZ_1M;
pub(crate) const MAX_SEGMENTS: usize = 128;

/// `CNS` of Identify: a namespace.
pub(crate) const CNS_NAMESPACE: u32 = 0;
/// `CNS` of Identify: the controller.
const CNS_CONTROLLER: u32 = 1;
/// `CNS` of Identify: ids of active namespaces above the given one.
pub(crate) const CNS_ACTIVE: u32 = 2;
/// Feature id of Number of Queues.
const FEATURE_QUEUES: u32 = 7;
/// In Create I/O Queue: the queue is physically contiguous.
const QUEUE_CONTIGUOUS: u32 = 1 << 0;
/// In Create I/O Completion Queue: interrupts are enabled.
const QUEUE_INTERRUPTS: u32 = 1 << 1;

/// Capabilities of a controller, from the CAP register.
#[derive(Clone, Copy)]
pub(crate) struct Caps {
    low: regs::CAP_LO,
    high: regs::CAP_HI,
}

impl Caps {
    /// # Errors
    ///
    /// - `ENODEV` if the controller is gone;
    /// - `EOPNOTSUPP` if it is not supported.
    fn read(dev: &Device<Bound>, bar: &Regs<'_>) -> Result<Self> {
        let caps = Self {
            low: bar.read(regs::CAP_LO),
            high: bar.read(regs::CAP_HI),
        };

        if caps.low.into_raw() == regs::ALL_ONES {
            return Err(ENODEV);
        }
        if caps.page_size() > PAGE_SIZE {
            dev_err!(dev, "minimum page size is {}\n", caps.page_size());
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

    /// Returns the memory page size that the controller is set to, in bytes.
    pub(crate) fn page_size(&self) -> usize {
        SZ_4K << self.high.mpsmin().get()
    }

    /// Returns the distance between doorbells, as a power of two above 4 bytes.
    pub(crate) fn doorbell_stride(&self) -> u32 {
        self.high.dstrd().get()
    }

    /// Returns the maximum number of entries in a queue.
    pub(crate) fn max_depth(&self) -> u32 {
        self.low.mqes().get() + 1
    }

    /// Returns the time limit for enabling and disabling. TO is in units of 500 ms, and may be 0.
    fn ready_timeout(&self) -> Delta {
        Delta::from_millis(500 * (i64::from(self.low.to().get()) + 1))
    }

    /// Returns whether `CMBMSC` enables the CMB.
    pub(crate) fn has_cmbmsc(&self) -> bool {
        self.high.cmbs()
    }
}

/// Limits and features of a controller, from its Identify data.
#[derive(Clone, Copy)]
pub(crate) struct Info {
    /// Maximum transfer in bytes.
    pub(crate) max_transfer: usize,
    /// SGL descriptors are supported.
    pub(crate) sgl: bool,
    /// There is a volatile write cache.
    pub(crate) write_cache: bool,
    /// Dataset Management is supported.
    pub(crate) discard: bool,
    /// Write Zeroes is supported.
    pub(crate) write_zeroes: bool,
    /// Time limit for a shutdown.
    pub(crate) shutdown_timeout: Delta,
}

/// Status and result of an admin command.
pub(crate) struct AdminResult {
    pub(crate) status: Status,
    pub(crate) result: u32,
}

impl AdminResult {
    /// Returns the result; [`EIO`] if the status is not success.
    fn into_result(self, dev: &Device<Bound>, opcode: u8) -> Result<u32> {
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
/// Dropping it disables the controller, so that memory that the controller accesses can be freed.
pub(crate) struct Admin<'bound> {
    pub(crate) pdev: &'bound pci::Device<Bound>,
    pub(crate) bar: Arc<Regs<'bound>>,
    pub(crate) caps: Caps,
    submissions: Submissions<'bound>,
    completions: Completions<'bound>,
    event: Arc<Event>,
    cid: u16,
    /// The controller is enabled.
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
    /// Allocates the admin queue. The controller must be disabled before it is enabled, as a
    /// previous driver or firmware may have left it enabled.
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

    /// Returns whether the controller is enabled and responds.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Waits until `done`. A fatal status ends the wait unless `ignore_fatal`: disabling recovers
    /// the controller.
    fn wait(
        &self,
        timeout: Delta,
        ignore_fatal: bool,
        done: impl Fn(regs::CSTS) -> bool,
    ) -> Result {
        let csts = read_poll_timeout(
            || regs::status(&self.bar),
            |csts| done(*csts) || (!ignore_fatal && csts.cfs()),
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
            // `EN` may be cleared only after `RDY` is set, or if the controller has failed.
            let _ = self.wait(self.caps.ready_timeout(), false, |csts| csts.rdy());
            self.bar.write_reg(cc.with_en(false).with_const_shn::<0>());
        }
        self.wait(self.caps.ready_timeout(), true, |csts| !csts.rdy())?;

        // The read of a device that is gone may return zeroes, so `RDY` alone proves nothing.
        if self.bar.read(regs::CAP_LO) != self.caps.low {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Disables the controller.
    ///
    /// Afterwards it accesses no memory, even if this fails: it has reported that it is disabled,
    /// or it is no bus master.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if it is gone;
    /// - `ETIMEDOUT` if it does not clear `RDY`.
    pub(crate) fn disable(&mut self) -> Result {
        self.running = false;
        self.wait_disabled().inspect_err(|error| {
            dev_err!(self.dev(), "disable failed ({:?})\n", error);
            self.clear_master();
        })
    }

    /// Disables bus mastering, and waits for pending transactions, up to a time limit.
    ///
    /// Only reads can be pending after that, as writes are posted.
    fn clear_master(&self) {
        let start: Instant<Monotonic> = Instant::now();

        // SAFETY: The driver changes the command register with the state of the controller locked,
        // or in a probe, and releases its vectors after the last of these. A function reset through
        // sysfs is not excluded: the driver does not take part in it.
        while !unsafe { self.pdev.clear_master() } {
            if start.elapsed() > PENDING_TIMEOUT {
                dev_err!(self.dev(), "transactions still pending\n");
                return;
            }
        }
    }

    /// Enables the controller, which is disabled, for admin commands.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if it is gone;
    /// - `EIO` on a fatal status;
    /// - `ETIMEDOUT` if it does not become ready.
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
        // SAFETY: See `clear_master()`.
        unsafe { self.pdev.set_master() };
        self.bar.write_reg(aqa);
        self.bar.write_reg(regs::ASQ_LO::from_raw(low(asq)));
        self.bar.write_reg(regs::ASQ_HI::from_raw(high(asq)));
        self.bar.write_reg(regs::ACQ_LO::from_raw(low(acq)));
        self.bar.write_reg(regs::ACQ_HI::from_raw(high(acq)));
        self.bar.write_reg(cc);
        // From now on it has to be disabled, even if enabling fails.
        self.running = true;
        self.bar.write_reg(cc.with_en(true));
        self.wait(self.caps.ready_timeout(), false, |csts| csts.rdy())
            .inspect_err(|_| {
                let _ = self.disable();
            })
    }

    /// Shuts the controller down: it flushes its volatile write cache. It gets no more commands.
    pub(crate) fn notify_shutdown(&mut self, timeout: Delta) {
        self.bar
            .update(regs::CC, |cc| cc.with_const_shn::<{ regs::SHN_NORMAL }>());
        let done = self.wait(timeout, false, |csts| {
            csts.shst().get() == regs::SHST_COMPLETE
        });

        if let Err(error) = done {
            dev_warn!(self.dev(), "shutdown failed ({:?})\n", error);
        }
    }

    /// Waits for the completion of the last command. Checks regularly whether the controller is
    /// gone or has failed.
    fn wait_completion(&mut self) -> Result<Completion> {
        let start: Instant<Monotonic> = Instant::now();
        let mut woken = Woken::Interrupt;
        let mut unknown = 0u32;

        loop {
            // Checked before the queue, so that a late wake-up causes no timeout.
            let late = start.elapsed() > ADMIN_TIMEOUT;

            // No more than the queue has, even if the controller adds entries without end.
            for _ in 0..ADMIN_DEPTH {
                let Some(completion) = self.completions.pop()? else {
                    break;
                };
                self.completions.ring()?;
                if completion.cid != self.cid {
                    unknown += 1;
                    if unknown == 1 {
                        dev_warn!(self.dev(), "admin queue: completion of unknown command\n");
                    }
                    continue;
                }
                if woken == Woken::Timeout {
                    dev_warn!(self.dev(), "admin: completion without interrupt\n");
                }
                return Ok(completion);
            }
            if late {
                return Err(ETIMEDOUT);
            }
            woken = self.event.wait(POLL_INTERVAL);
            if woken == Woken::Timeout {
                let csts = regs::status(&self.bar)?;
                if csts.cfs() || !csts.rdy() {
                    return Err(EIO);
                }
            }
        }
    }

    /// Executes an admin command.
    ///
    /// # Errors
    ///
    /// After an error the controller may still execute the command: disable or reset it before
    /// unmapping memory that the command points to.
    ///
    /// - `ENODEV` if the controller does not run or is gone;
    /// - `EIO` on a fatal status;
    /// - `ETIMEDOUT` if the command does not complete.
    pub(crate) fn run(&mut self, command: &Command) -> Result<AdminResult> {
        if !self.running {
            return Err(ENODEV);
        }

        self.cid = self.cid.wrapping_add(1);
        self.submissions.push(command, self.cid)?;
        self.submissions.ring()?;
        match self.wait_completion() {
            Ok(completion) => Ok(AdminResult {
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

    /// Executes an admin command that returns data. `memory` is from [`data_memory`]; the
    /// controller may write all of it, whatever the command says.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], with the controller disabled, and those of [`InFlight::map`].
    pub(crate) fn read(
        &mut self,
        mut command: Command,
        memory: KVec<u8>,
    ) -> Result<(AdminResult, KVec<u8>)> {
        let in_flight = InFlight::<Cpu<_>, FromDevice>::map(self.dev(), memory)?;

        command.data = self.two_prps(in_flight.dma_address(), in_flight.size());
        let result = self.run(&command);
        if result.is_err() && self.running {
            // Afterwards it accesses no memory, even if this fails.
            let _ = self.disable();
        }

        // SAFETY: The controller has completed the command, or was disabled.
        let memory = unsafe { in_flight.unmap() };
        Ok((result?, memory))
    }

    /// Returns a data pointer for at most a page of data, which may start anywhere.
    fn two_prps(&self, addr: u64, size: usize) -> Data {
        let next = (addr | (self.caps.page_size() as u64 - 1)) + 1;

        if next < addr + size as u64 {
            Data::prps(addr, next)
        } else {
            Data::prps(addr, 0)
        }
    }

    /// Executes an Identify command.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::read`], and `EIO` if the status is not success.
    pub(crate) fn identify(&mut self, cns: u32, nsid: u32) -> Result<KVec<u8>> {
        let command = Command {
            opcode: admin::IDENTIFY,
            nsid,
            dwords: [cns, 0, 0, 0, 0, 0],
            ..Command::default()
        };
        let (result, data) = self.read(command, data_memory()?)?;

        result.into_result(self.dev(), admin::IDENTIFY)?;
        Ok(data)
    }

    /// Identifies the controller, and derives its limits.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::identify`].
    pub(crate) fn identify_controller(&mut self) -> Result<Info> {
        let data = self.identify(CNS_CONTROLLER, 0)?;
        let [mdts] = bytes(&data, 77)?;
        let [vwc] = bytes(&data, 525)?;
        let oncs = u16::from_le_bytes(bytes(&data, 520)?);
        let sgls = u32::from_le_bytes(bytes(&data, 536)?);
        // RTD3E is in microseconds, 0 if not reported.
        let shutdown_ms = i64::from(u32::from_le_bytes(bytes(&data, 88)?) / 1000);

        // MDTS is a power of two in units of the minimum page; 0 is no limit.
        let max_transfer = match self.caps.page_size().checked_shl(mdts.into()) {
            Some(limit) if mdts != 0 && limit != 0 => limit.min(MAX_TRANSFER),
            _ => MAX_TRANSFER,
        };
        Ok(Info {
            max_transfer,
            // Data is aligned to 4 bytes, so either kind of support suffices.
            sgl: matches!(sgls & 3, 1 | 2),
            write_cache: vwc & 1 << 0 != 0,
            discard: oncs & 1 << 2 != 0,
            write_zeroes: oncs & 1 << 3 != 0,
            shutdown_timeout: Delta::from_millis(shutdown_ms.clamp(5_000, 60_000)),
        })
    }

    /// Requests `want` I/O queues, before any is created. Returns the number that the controller
    /// grants, which is at most `want`.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], and `EIO` if the status is not success.
    pub(crate) fn set_queue_count(&mut self, want: u16) -> Result<u16> {
        // All four numbers are 0's based.
        let last = u32::from(want) - 1;
        let result = self
            .run(&Command {
                opcode: admin::SET_FEATURES,
                dwords: [FEATURE_QUEUES, last << 16 | last, 0, 0, 0, 0],
                ..Command::default()
            })?
            .into_result(self.dev(), admin::SET_FEATURES)?;

        let count = (result & 0xffff).min(result >> 16).min(last) + 1;
        Ok(u16::try_from(count)?)
    }

    /// Creates `queue` in the controller, with an interrupt vector.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::set_queue_count`].
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
        .into_result(self.dev(), opcode)?;
        Ok(())
    }

    /// Executes an Abort command. It is a success even if it has aborted nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], and `EIO` if the status is not success.
    pub(crate) fn abort(&mut self, queue: u16, tag: u32) -> Result {
        self.run(&Command {
            opcode: admin::ABORT,
            dwords: [u32::from(queue) | tag << 16, 0, 0, 0, 0, 0],
            ..Command::default()
        })?
        .into_result(self.dev(), admin::ABORT)?;
        Ok(())
    }
}

/// Allocates memory for the data of an admin command.
///
/// The allocation may wait for I/O. So it must not be done with the state of a controller locked
/// that has disks: the timeouts of their requests take that lock.
pub(crate) fn data_memory() -> Result<KVec<u8>> {
    Ok(KVec::zeroed(ADMIN_BYTES, GFP_KERNEL)?)
}

/// Returns `N` bytes of Identify data.
pub(crate) fn bytes<const N: usize>(data: &[u8], offset: usize) -> Result<[u8; N]> {
    let end = offset.checked_add(N).ok_or(EINVAL)?;

    data.get(offset..end)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(EINVAL)
}

/// The interrupt of the admin queue, for a task that waits for it.
#[pin_data]
pub(crate) struct Event {
    #[pin]
    pending: SpinLockIrq<bool>,
    #[pin]
    wake: CondVar,
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Interrupt,
    Timeout,
    Signal,
}

impl Event {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pending <- new_spinlock_irq!(false),
            wake <- new_condvar!(),
        })
    }

    /// Sleeps until there was an interrupt since the last call, up to `timeout`.
    fn wait(&self, timeout: Delta) -> Woken {
        let jiffies = msecs_to_jiffies(timeout.as_millis().try_into().unwrap_or(0));
        let mut pending = self.pending.lock();
        let mut woken = Woken::Interrupt;

        if !*pending {
            woken = match self.wake.wait_interruptible_timeout(&mut pending, jiffies) {
                CondVarTimeoutResult::Woken { .. } => Woken::Interrupt,
                CondVarTimeoutResult::Timeout => Woken::Timeout,
                CondVarTimeoutResult::Signal { .. } => Woken::Signal,
            };
        }
        if core::mem::take(&mut *pending) {
            woken = Woken::Interrupt;
        }
        drop(pending);

        // A signal must not end the wait, as the controller may execute the command. While a signal
        // is pending no interruptible sleep is possible, so poll.
        if woken == Woken::Signal {
            fsleep(Delta::from_millis(1));
        }
        woken
    }
}

/// The interrupt handler of the admin queue.
pub(crate) struct AdminHandler(pub(crate) Arc<Event>);

impl irq::Handler for AdminHandler {
    fn handle(&self) -> irq::IrqReturn {
        *self.0.pending.lock() = true;
        self.0.wake.notify_all();
        irq::IrqReturn::Handled
    }
}

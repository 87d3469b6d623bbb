// SPDX-License-Identifier: GPL-2.0

//! Registers of a controller, and its I/O queues.
//!
//! Memory is unmapped or freed only when the controller no longer accesses it: after the command
//! has completed, or after the controller was disabled.

use kernel::{
    device::{
        Bound,
        Device, //
    },
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sizes::SZ_4K,
    sync::Arc,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

use crate::{
    admin::{
        admin_timeout,
        data_memory,
        AdminData,
        AdminResult,
        Event,
        Slot,
        ADMIN_DEPTH, //
    },
    command::{
        admin,
        Command,
        Data,
        Status, //
    },
    identify::Info,
    queue::Queue,
    regs::{
        self,
        high,
        low,
        Regs, //
    },
    rings::{
        Completions,
        Submissions, //
    }, //
};

/// Time limit for an Abort command. Not that of other admin commands: timeouts and resets wait for
/// the state of the controller meanwhile, and a controller that executes no Abort is reset anyway.
const ABORT_TIMEOUT: Delta = Delta::from_secs(5);
/// Time limit for pending transactions of a controller that could not be disabled.
const PENDING_TIMEOUT: Delta = Delta::from_secs(5);
/// Maximum of CAP.TO, and so of CRTO, in units of 500 ms.
const MAX_READY_UNITS: u32 = 255;

pub(crate) const MAX_SEGMENTS: usize = 128;

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
    /// Value of `VS`.
    pub(crate) version: u32,
    /// Time limit for enabling and disabling.
    ready_timeout: Delta,
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
            version: bar.read(regs::VS).into_raw(),
            ready_timeout: ready_timeout(bar)?,
        };

        if caps.page_size() > PAGE_SIZE {
            dev_err!(dev, "minimum page size is {}\n", caps.page_size());
            return Err(EOPNOTSUPP);
        }
        if !caps.high.css_nvm() {
            dev_err!(dev, "no NVM command set\n");
            return Err(EOPNOTSUPP);
        }
        // One entry of a queue is unused.
        if caps.max_depth() < 2 {
            dev_err!(dev, "queues too short\n");
            return Err(EOPNOTSUPP);
        }
        Ok(caps)
    }

    /// Returns the memory page size that the controller is set to, in bytes.
    pub(crate) fn page_size(&self) -> usize {
        SZ_4K << self.high.mpsmin().get()
    }

    /// Returns a power of two in units of the minimum page, in bytes.
    pub(crate) fn page_units(&self, exponent: u8) -> u32 {
        1 << (12 + self.high.mpsmin().get() + u32::from(exponent)).min(31)
    }

    /// Returns the distance between doorbells, as a power of two above 4 bytes.
    pub(crate) fn doorbell_stride(&self) -> u32 {
        self.high.dstrd().get()
    }

    /// Returns the maximum number of entries in a queue.
    pub(crate) fn max_depth(&self) -> u32 {
        self.low.mqes().get() + 1
    }

    /// Returns whether `CMBMSC` enables the CMB.
    pub(crate) fn has_cmbmsc(&self) -> bool {
        self.high.cmbs()
    }
}

/// Returns the time limit for `RDY` to follow `EN`. TO is in units of 500 ms and may be 0. CRTO has
/// more bits. It is limited to the maximum of TO.
///
/// # Errors
///
/// `ENODEV` if the controller is gone.
fn ready_timeout(bar: &Regs<'_>) -> Result<Delta> {
    let low = bar.read(regs::CAP_LO);
    let mut units = low.to().get();

    if low.into_raw() == regs::ALL_ONES {
        return Err(ENODEV);
    }
    if bar.read(regs::CAP_HI).crwms() {
        units = units
            .max(bar.read(regs::CRTO).crwmt().get())
            .min(MAX_READY_UNITS);
    }
    Ok(Delta::from_millis(500 * (i64::from(units) + 1)))
}

/// The registers and the admin queue of a controller.
///
/// Dropping it disables the controller, so that memory that the controller accesses can be freed.
pub(crate) struct Admin<'bound> {
    pub(crate) pdev: &'bound pci::Device<Bound>,
    pub(crate) bar: Arc<Regs<'bound>>,
    pub(crate) caps: Caps,
    pub(crate) event: Arc<Event<'bound>>,
    submissions: Submissions<'bound>,
    /// DMA address of the completion queue.
    acq: u64,
    /// Data of the commands of the driver.
    data: Option<AdminData<'bound>>,
    /// A copy of what the last of them has returned, which the controller cannot change.
    copy: KVec<u8>,
    /// The I/O queues that it may access until it is disabled.
    queues: KVec<Arc<Queue<'bound>>>,
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
    pub(crate) fn new(pdev: &'bound pci::Device<Bound>, bar: Arc<Regs<'bound>>) -> Result<Self> {
        let dev = pdev.as_ref();
        let caps = Caps::read(dev, &bar)?;
        let completions = Completions::new(dev, bar.clone(), &caps, 0, ADMIN_DEPTH)?;

        Ok(Self {
            pdev,
            submissions: Submissions::new(dev, bar.clone(), &caps, 0, ADMIN_DEPTH)?,
            acq: completions.address(),
            event: Arc::pin_init(Event::new(pdev, bar.clone(), completions), GFP_KERNEL)?,
            bar,
            caps,
            data: Some(AdminData::new(dev)?),
            copy: data_memory()?,
            queues: KVec::new(),
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

    /// Calls `f`. If it fails, disables the controller.
    pub(crate) fn or_disable<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let result = f(self);

        if result.is_err() && self.running {
            let _ = self.disable();
        }
        result
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
            let _ = self.wait(self.caps.ready_timeout, false, |csts| csts.rdy());
            self.bar.write_reg(cc.with_en(false).with_const_shn::<0>());
        }
        self.wait(self.caps.ready_timeout, true, |csts| !csts.rdy())?;

        // The read of a device that is gone may return zeroes, so `RDY` alone proves nothing. TO
        // may depend on CC.
        if self.bar.read(regs::CAP_LO).mqes() != self.caps.low.mqes() {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Disables the controller, and its bus mastering. Gives its admin commands up.
    ///
    /// Afterwards it accesses no memory, even if this fails: it is no bus master.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if it is gone;
    /// - `ETIMEDOUT` if it does not clear `RDY`.
    pub(crate) fn disable(&mut self) -> Result {
        self.running = false;
        let result = self
            .wait_disabled()
            .inspect_err(|error| dev_err!(self.dev(), "disable failed ({:?})\n", error));

        self.clear_master(result.is_err());
        self.event.cancel();
        result
    }

    /// Disables bus mastering. If the controller has `failed` to be disabled, also disables its
    /// interrupt line, and waits for pending transactions, up to a time limit.
    ///
    /// Only reads can be pending after that, as writes are posted.
    fn clear_master(&self, failed: bool) {
        let start: Instant<Monotonic> = Instant::now();

        if failed {
            // The controller may assert it with no handler. Other devices may share it.
            // SAFETY: See below.
            unsafe { self.pdev.set_intx(false) };
        }
        // SAFETY: The driver changes the command register with the state of the controller locked,
        // or in a probe, where no other task has it, and allocates and releases vectors in a probe
        // and after the last of these. The PCI core suspends or resets the device between two
        // callbacks. The first of them locks the state, and stops the controller if it has not
        // failed; the second starts it again. In between there is no request that may time out, and
        // admin commands of programs are refused. In the recovery from an error that is not fatal
        // the controller runs on, but nothing resets it: see `Controller::in_recovery()`.
        while !unsafe { self.pdev.clear_master() } {
            // A controller that was disabled has no pending transactions.
            if !failed {
                return;
            }
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
        let (asq, acq) = (self.submissions.address(), self.acq);
        let aqa = regs::AQA::zeroed()
            .try_with_acqs(ADMIN_DEPTH - 1)?
            .try_with_asqs(ADMIN_DEPTH - 1)?;
        let cc = regs::CC::zeroed()
            .with_const_iosqes::<6>()
            .with_const_iocqes::<4>()
            .with_mps(self.caps.high.mpsmin());

        self.submissions.reset();
        self.event.reset()?;
        // SAFETY: See `clear_master()`.
        unsafe {
            self.pdev.set_master();
            self.pdev.set_intx(true);
        }
        self.bar.write_reg(aqa);
        self.bar.write_reg(regs::ASQ_LO::from_raw(low(asq)));
        self.bar.write_reg(regs::ASQ_HI::from_raw(high(asq)));
        self.bar.write_reg(regs::ACQ_LO::from_raw(low(acq)));
        self.bar.write_reg(regs::ACQ_HI::from_raw(high(acq)));
        self.bar.write_reg(cc);
        // It may depend on CC.
        if let Ok(timeout) = ready_timeout(&self.bar) {
            self.caps.ready_timeout = timeout;
        }
        // From now on it has to be disabled, even if enabling fails.
        self.running = true;
        self.bar.write_reg(cc.with_en(true));
        self.wait(self.caps.ready_timeout, false, |csts| csts.rdy())
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

    fn submit(&mut self, slot: Slot, command: &Command) -> Result {
        if !self.running {
            return Err(ENODEV);
        }
        let id = self.event.begin(slot);

        self.submissions.push(command, id)?;
        // The doorbell is inside the BAR, so this does not fail.
        let _ = self.submissions.ring();
        Ok(())
    }

    /// Submits an admin command of a program, which waits for it without the state locked.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the controller does not run. Then it has not got the command.
    pub(crate) fn submit_user(&mut self, command: &Command) -> Result {
        self.submit(Slot::User, command)
    }

    /// Executes an admin command of the driver.
    ///
    /// # Errors
    ///
    /// After an error the controller may still execute the command: disable or reset it before
    /// unmapping memory that the command points to.
    ///
    /// - `ENODEV` if the controller does not run or is gone;
    /// - `EIO` on a fatal status;
    /// - `ETIMEDOUT` if the command does not complete.
    pub(crate) fn run(&mut self, command: &Command, timeout: Delta) -> Result<AdminResult> {
        self.submit(Slot::Driver, command)?;
        self.event.wait(Slot::Driver, command, timeout)
    }

    /// Executes an admin command of the driver with data, which starts with `start`. Returns a copy
    /// of the data afterwards.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], with the controller disabled.
    pub(crate) fn transfer(
        &mut self,
        mut command: Command,
        start: &[u8],
    ) -> Result<(Status, &[u8])> {
        let mut data = self.data.take().ok_or(EINVAL)?;

        // SAFETY: The controller has completed the command, or is disabled: afterwards it accesses
        // no memory, even if that fails.
        let result = unsafe {
            data.transfer(self.caps.page_size(), start, |pointer| {
                command.data = pointer;
                let result = self.run(&command, admin_timeout());
                if result.is_err() && self.running {
                    let _ = self.disable();
                }
                Ok(result)
            })
        };

        let data = self.data.insert(data);
        let status = result??.status;
        self.copy.copy_from_slice(data.bytes()?);
        Ok((status, &self.copy))
    }

    /// Calls `f`, which changes how the device may be mapped for, while nothing is mapped.
    ///
    /// # Errors
    ///
    /// Those of [`AdminData::remap`].
    pub(crate) fn with_data_unmapped(&mut self, f: impl FnOnce()) -> Result {
        let dev = self.dev();

        self.data.as_mut().ok_or(EINVAL)?.remap(dev, f)
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
            .run(
                &Command {
                    opcode: admin::SET_FEATURES,
                    dwords: [FEATURE_QUEUES, last << 16 | last, 0, 0, 0, 0],
                    ..Command::default()
                },
                admin_timeout(),
            )?
            .into_result(self.dev(), admin::SET_FEATURES)?;

        let count = (result & 0xffff).min(result >> 16).min(last) + 1;
        Ok(u16::try_from(count)?)
    }

    /// Creates `queue` in the controller, with an interrupt vector. Returns whether it has not
    /// refused.
    fn create_queue(&mut self, queue: &Queue<'_>, vector: u16) -> Result<bool> {
        let id = u32::from(queue.id);
        let size = (queue.depth - 1) << 16 | id;

        queue.reset()?;
        let interrupt = match queue.polled {
            true => 0,
            false => u32::from(vector) << 16 | QUEUE_INTERRUPTS,
        };
        let created = self.create(
            admin::CREATE_CQ,
            queue.cq_address,
            [size, interrupt | QUEUE_CONTIGUOUS],
        )?;
        if !created {
            return Ok(false);
        }
        self.create(
            admin::CREATE_SQ,
            queue.sq_address,
            [size, id << 16 | QUEUE_CONTIGUOUS],
        )
    }

    fn create(&mut self, opcode: u8, memory: u64, [size, flags]: [u32; 2]) -> Result<bool> {
        let command = Command {
            opcode,
            data: Data::prps(memory, 0),
            dwords: [size, flags, 0, 0, 0, 0],
            ..Command::default()
        };
        let result = self.run(&command, admin_timeout())?;

        // The status is only logged.
        Ok(result.into_result(self.dev(), opcode).is_ok())
    }

    /// Sets the I/O queues to create. The controller must have none, or be disabled.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, with the queues that it had before.
    pub(crate) fn set_queues(&mut self, queues: &[Arc<Queue<'bound>>]) -> Result {
        let mut list = KVec::with_capacity(queues.len(), GFP_KERNEL)?;

        for queue in queues {
            list.push(queue.clone(), GFP_KERNEL)?;
        }
        self.queues = list;
        Ok(())
    }

    /// Creates I/O queues in the controller, which has `vectors` interrupt vectors, until it
    /// refuses one. Returns the number of those that it has created.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`].
    pub(crate) fn create_queues(&mut self, vectors: u16) -> Result<usize> {
        let mut count = 0;

        while let Some(queue) = self.queues.get(count).cloned() {
            // If there are too few vectors, queues share the last one.
            if !self.create_queue(&queue, queue.id.min(vectors - 1))? {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Does all that the controller needs for requests after it was enabled again. Returns whether
    /// it uses delays of retries.
    ///
    /// # Errors
    ///
    /// - those of [`Admin::set_queue_count`];
    /// - `ENOSPC` if it grants less than its I/O queues;
    /// - `EIO` if it refuses one.
    pub(crate) fn restart_queues(&mut self, info: &Info, vectors: u16) -> Result<bool> {
        let count = u16::try_from(self.queues.len())?;
        let has_delays = self.set_host_behavior(info)?;

        if self.set_queue_count(count)? < count {
            return Err(ENOSPC);
        }
        if self.create_queues(vectors)? < self.queues.len() {
            return Err(EIO);
        }
        Ok(has_delays)
    }

    /// Executes an Abort command for the command with id `cid`. It is a success even if it has
    /// aborted nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], and `EIO` if the status is not success.
    pub(crate) fn abort(&mut self, queue: u16, cid: u16) -> Result {
        self.run(
            &Command {
                opcode: admin::ABORT,
                dwords: [u32::from(queue) | u32::from(cid) << 16, 0, 0, 0, 0, 0],
                ..Command::default()
            },
            ABORT_TIMEOUT,
        )?
        .into_result(self.dev(), admin::ABORT)?;
        Ok(())
    }
}

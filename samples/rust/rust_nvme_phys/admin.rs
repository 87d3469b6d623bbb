// SPDX-License-Identifier: GPL-2.0

//! Admin commands, and their data.
//!
//! The driver executes one at a time, with the state of the controller locked. A program executes
//! another one meanwhile: see [`Controller::admin_user`].

use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::phys::{
        Bidirectional,
        Cpu,
        InFlight,
        Mapping, //
    },
    irq,
    new_condvar,
    new_mutex,
    pci,
    prelude::*,
    sizes::SZ_4K,
    sync::{
        new_spinlock_irq,
        Arc,
        CondVar,
        CondVarTimeoutResult,
        Mutex,
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
        Command,
        Completion,
        Data,
        Status, //
    },
    module_parameters,
    recovery::Controller,
    regs::{
        self,
        Regs, //
    },
    rings::{
        command_id,
        command_tag,
        Completions, //
    }, //
};

/// Entries of the admin queue.
pub(crate) const ADMIN_DEPTH: u32 = 32;
/// Maximum data of an admin command, in bytes.
pub(crate) const ADMIN_BYTES: usize = SZ_4K;
/// How often a wait for an admin command checks whether the controller is gone or has failed.
const POLL_INTERVAL: Delta = Delta::from_secs(1);

/// Returns the usual time limit for an admin command.
pub(crate) fn admin_timeout() -> Delta {
    Delta::from_secs(i64::from(module_parameters::admin_timeout.value()).max(1))
}

/// Allocates memory for the data of an admin command, or for a copy.
///
/// The allocation may wait for I/O. So it must not be done with the state of a controller locked
/// that has disks: the timeouts of their requests take that lock.
pub(crate) fn data_memory() -> Result<KVec<u8>> {
    Ok(KVec::zeroed(ADMIN_BYTES, GFP_KERNEL)?)
}

/// Data of an admin command, which stays mapped. The zeroes that the CPU writes before each command
/// reach the device, so that it leaves no data of another command.
pub(crate) struct AdminData<'bound> {
    /// [`None`] if the controller has the data.
    mapping: Option<Mapping<'bound, Cpu<KVec<u8>>, Bidirectional>>,
    abandoned: Option<InFlight<'bound, Cpu<KVec<u8>>, Bidirectional>>,
}

/// The controller still has a command for which nobody waits any longer.
pub(crate) struct Abandoned;

impl<'bound> AdminData<'bound> {
    pub(crate) fn new(dev: &'bound Device<Bound>) -> Result<Self> {
        Ok(Self {
            mapping: Some(Mapping::new(dev, data_memory()?)?),
            abandoned: None,
        })
    }

    /// Calls `f`, which executes a command, with the data pointer for that. The data is `start`,
    /// and zeroes after it.
    ///
    /// # Errors
    ///
    /// - `EIO` if the command is abandoned;
    /// - `ENODEV` if one was abandoned before: its data is not [reclaimed](Self::reclaim).
    ///
    /// # Safety
    ///
    /// When `f` returns, the controller has completed the command, has not got it, or was disabled;
    /// unless it returns [`Abandoned`].
    pub(crate) unsafe fn transfer<R>(
        &mut self,
        page_size: usize,
        start: &[u8],
        f: impl FnOnce(Data) -> Result<R, Abandoned>,
    ) -> Result<R> {
        if start.len() > ADMIN_BYTES {
            return Err(EINVAL);
        }
        let mut data = self.mapping.take().ok_or(ENODEV)?;

        data.fill(0);
        for (byte, value) in data.iter_mut().zip(start) {
            *byte = *value;
        }
        let in_flight = data.submit();
        let result = f(two_prps(
            in_flight.dma_address(),
            in_flight.size(),
            page_size,
        ));

        let Ok(result) = result else {
            self.abandoned = Some(in_flight);
            return Err(EIO);
        };
        // SAFETY: The caller guarantees that the controller accesses the data no longer.
        self.mapping = Some(unsafe { in_flight.complete() });
        Ok(result)
    }

    /// Reclaims the data of an abandoned command.
    ///
    /// # Safety
    ///
    /// The controller was disabled.
    unsafe fn reclaim(&mut self) {
        if let Some(in_flight) = self.abandoned.take() {
            // SAFETY: The caller guarantees that the controller accesses the data no longer.
            self.mapping = Some(unsafe { in_flight.complete() });
        }
    }

    /// Returns the data after a [`transfer()`](Self::transfer).
    pub(crate) fn bytes(&self) -> Result<&[u8]> {
        Ok(self.mapping.as_ref().ok_or(EINVAL)?)
    }

    /// Calls `f`, which changes how the device may be mapped for, while the data is not mapped.
    ///
    /// # Errors
    ///
    /// Those of [`Mapping::new`].
    pub(crate) fn remap(&mut self, dev: &'bound Device<Bound>, f: impl FnOnce()) -> Result {
        let data = self.mapping.take().ok_or(EINVAL)?.unmap();

        f();
        self.mapping = Some(Mapping::new(dev, data)?);
        Ok(())
    }
}

/// The data of the admin commands of programs. One task at a time has it.
#[pin_data]
pub(crate) struct UserData<'bound> {
    /// [`None`] while a task has it.
    #[pin]
    data: Mutex<Option<AdminData<'bound>>>,
    #[pin]
    free: CondVar,
}

impl<'bound> UserData<'bound> {
    pub(crate) fn new(data: AdminData<'bound>) -> impl PinInit<Self> + 'bound {
        pin_init!(Self {
            data <- new_mutex!(Some(data)),
            free <- new_condvar!(),
        })
    }

    /// Calls `f` with the data, once no other task has it.
    ///
    /// # Errors
    ///
    /// `EINTR` if a signal interrupts the wait for it.
    fn with<R>(&self, f: impl FnOnce(&mut AdminData<'bound>) -> R) -> Result<R> {
        let mut slot = self.data.lock();
        let mut interrupted = false;
        let mut data = loop {
            // Even if interrupted: no other task may have been notified.
            if let Some(data) = slot.take() {
                break data;
            }
            if interrupted {
                return Err(EINTR);
            }
            interrupted = self.free.wait_interruptible(&mut slot);
        };
        drop(slot);

        let result = f(&mut data);
        *self.data.lock() = Some(data);
        self.free.notify_one();
        Ok(result)
    }

    /// Reclaims the data of an abandoned command. The disks were removed, so no task has the data.
    ///
    /// # Safety
    ///
    /// The controller was disabled.
    pub(crate) unsafe fn reclaim(&self) {
        if let Some(data) = &mut *self.data.lock() {
            // SAFETY: The caller guarantees that the controller was disabled.
            unsafe { data.reclaim() };
        }
    }
}

/// Returns a data pointer for at most a page of data, which may start anywhere.
fn two_prps(addr: u64, size: usize, page_size: usize) -> Data {
    let next = (addr | (page_size as u64 - 1)) + 1;

    if next < addr + size as u64 {
        Data::prps(addr, next)
    } else {
        Data::prps(addr, 0)
    }
}

/// Status and result of an admin command.
#[derive(Clone, Copy)]
pub(crate) struct AdminResult {
    pub(crate) status: Status,
    pub(crate) result: u32,
}

impl AdminResult {
    /// Returns the result; [`EIO`] if the status is not success.
    pub(crate) fn into_result(self, dev: &Device<Bound>, opcode: u8) -> Result<u32> {
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

/// The source of an admin command. Each has at most one, whose tag this is.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    /// The driver, with the state of the controller locked.
    Driver,
    /// A program, with `admin_lock` held.
    User,
}

/// An admin command.
#[derive(Clone, Copy)]
enum Progress {
    /// The controller has it.
    Pending,
    Done(AdminResult),
    /// It was given up.
    Cancelled,
    /// The controller has it, but nobody waits for it.
    Abandoned,
}

/// The last command of a slot.
struct Last {
    /// Number of the command.
    serial: u32,
    progress: Progress,
}

/// The completion queue and the commands.
struct Commands<'bound> {
    completions: Completions<'bound>,
    last: [Last; 2],
}

impl Commands<'_> {
    fn last(&mut self, slot: Slot) -> &mut Last {
        let [driver, user] = &mut self.last;

        match slot {
            Slot::Driver => driver,
            Slot::User => user,
        }
    }

    /// Completes a command. One that the controller does not have is ignored.
    fn complete(&mut self, dev: &Device<Bound>, completion: &Completion) {
        let tag = command_tag(completion.cid);

        match self.last.get_mut(tag as usize) {
            Some(last)
                if matches!(last.progress, Progress::Pending)
                    && command_id(tag, last.serial) == completion.cid =>
            {
                last.progress = Progress::Done(AdminResult {
                    status: completion.status,
                    result: completion.result,
                });
            }
            Some(last)
                if matches!(last.progress, Progress::Abandoned)
                    && command_id(tag, last.serial) == completion.cid => {}
            _ => self.completions.ignore(dev, completion),
        }
    }
}

/// The completions of admin commands, for the tasks that wait for them.
#[pin_data]
pub(crate) struct Event<'bound> {
    pdev: &'bound pci::Device<Bound>,
    bar: Arc<Regs<'bound>>,
    #[pin]
    commands: SpinLockIrq<Commands<'bound>>,
    #[pin]
    wake: CondVar,
}

impl<'bound> Event<'bound> {
    pub(crate) fn new(
        pdev: &'bound pci::Device<Bound>,
        bar: Arc<Regs<'bound>>,
        completions: Completions<'bound>,
    ) -> impl PinInit<Self> + 'bound {
        let last = || Last {
            serial: 0,
            progress: Progress::Cancelled,
        };

        pin_init!(Self {
            pdev,
            bar,
            commands <- new_spinlock_irq!(Commands {
                completions,
                last: [last(), last()],
            }),
            wake <- new_condvar!(),
        })
    }

    fn dev(&self) -> &'bound Device<Bound> {
        self.pdev.as_ref()
    }

    /// Empties the completion queue. The controller must not access it.
    pub(crate) fn reset(&self) -> Result {
        self.commands.lock().completions.reset()
    }

    /// Returns the id of a new command of `slot`. If it has one already that is given up: its id is
    /// unknown now.
    pub(crate) fn begin(&self, slot: Slot) -> u16 {
        let mut commands = self.commands.lock();
        let last = commands.last(slot);

        last.serial = last.serial.wrapping_add(1);
        last.progress = Progress::Pending;
        command_id(slot as u32, last.serial)
    }

    /// Returns the result of the command in `slot`, unless the controller has it; [`EIO`] if it was
    /// cancelled.
    fn result(&self, slot: Slot) -> Option<Result<AdminResult>> {
        match self.commands.lock().last(slot).progress {
            Progress::Pending => None,
            Progress::Done(result) => Some(Ok(result)),
            Progress::Cancelled | Progress::Abandoned => Some(Err(EIO)),
        }
    }

    /// Wakes the task that waits for the command in `slot`. The controller keeps it.
    pub(crate) fn abandon(&self, slot: Slot) {
        let mut commands = self.commands.lock();
        let last = commands.last(slot);

        if matches!(last.progress, Progress::Pending) {
            last.progress = Progress::Abandoned;
        }
        drop(commands);
        self.wake.notify_all();
    }

    /// Returns whether the command in `slot` was abandoned.
    fn is_abandoned(&self, slot: Slot) -> bool {
        matches!(
            self.commands.lock().last(slot).progress,
            Progress::Abandoned
        )
    }

    /// Returns whether the controller has the command in `slot`, and a task waits for it.
    pub(crate) fn is_pending(&self, slot: Slot) -> bool {
        self.result(slot).is_none()
    }

    /// Handles completions; returns whether there were any.
    fn poll(&self) -> bool {
        let mut guard = self.commands.lock();
        let commands = &mut *guard;
        let mut found = false;

        // No more than the queue has, even if the controller adds entries without end.
        for _ in 0..ADMIN_DEPTH {
            let Ok(Some(completion)) = commands.completions.pop() else {
                break;
            };
            found = true;
            commands.complete(self.dev(), &completion);
        }
        // The doorbell is inside the BAR, so this does not fail.
        let _ = commands.completions.ring();
        drop(guard);

        if found {
            self.wake.notify_all();
        }
        found
    }

    /// Gives all commands up. The controller was disabled.
    pub(crate) fn cancel(&self) {
        // It may have written the completions.
        self.poll();
        for last in &mut self.commands.lock().last {
            if matches!(last.progress, Progress::Pending) {
                last.progress = Progress::Cancelled;
            }
        }
        self.wake.notify_all();
    }

    /// Sleeps until the controller no longer has the command in `slot`, up to `timeout`. May return
    /// earlier.
    fn sleep(&self, slot: Slot, timeout: Delta) {
        // A timeout of 0 would be no sleep.
        let msecs = timeout.as_millis_ceil().max(1).try_into().unwrap_or(1);
        let mut commands = self.commands.lock();

        if !matches!(commands.last(slot).progress, Progress::Pending) {
            return;
        }
        let woken = self
            .wake
            .wait_interruptible_timeout(&mut commands, msecs_to_jiffies(msecs));
        drop(commands);

        // A signal must not end the wait, as the controller may execute the command. While a signal
        // is pending no interruptible sleep is possible, so poll.
        if matches!(woken, CondVarTimeoutResult::Signal { .. }) {
            fsleep(Delta::from_millis(1));
        }
    }

    /// Returns why a command may not complete.
    fn check(&self) -> Result {
        let csts = regs::status(&self.bar)?;

        if csts.cfs() || !csts.rdy() {
            return Err(EIO);
        }
        Ok(())
    }

    /// Waits for the command in `slot`. Polls once a second, to detect a removed or failed
    /// controller early.
    ///
    /// # Errors
    ///
    /// The outer ones are those of [`Event::wait`]; the inner one is [`EIO`] if the command was
    /// cancelled.
    fn poll_result(&self, slot: Slot, timeout: Delta) -> Result<Result<AdminResult>> {
        let start: Instant<Monotonic> = Instant::now();
        let mut checked = start;

        loop {
            let left = timeout - start.elapsed();
            let is_late = left <= Delta::ZERO;

            if !is_late {
                self.sleep(slot, left.min(POLL_INTERVAL - checked.elapsed()));
            }
            if let Some(result) = self.result(slot) {
                return Ok(result);
            }
            if !is_late && checked.elapsed() < POLL_INTERVAL {
                continue;
            }

            checked = Instant::now();
            let found = self.poll();
            if let Some(result) = self.result(slot) {
                if found {
                    dev_warn!(self.dev(), "admin: completion without interrupt\n");
                }
                return Ok(result);
            }
            self.check()?;
            if is_late {
                return Err(ETIMEDOUT);
            }
        }
    }

    /// Waits for `command`, which is in `slot`.
    ///
    /// # Errors
    ///
    /// After an error the controller may still execute the command.
    ///
    /// - `ENODEV` if the controller is gone;
    /// - `EIO` on a fatal status, or if the controller was stopped;
    /// - `ETIMEDOUT` if the command does not complete.
    pub(crate) fn wait(
        &self,
        slot: Slot,
        command: &Command,
        timeout: Delta,
    ) -> Result<AdminResult> {
        self.poll_result(slot, timeout).inspect_err(|error| {
            dev_err!(
                self.dev(),
                "admin command {:#x} failed ({:?})\n",
                command.opcode,
                error
            );
        })?
    }
}

/// The interrupt handler of the admin queue.
pub(crate) struct AdminHandler<'bound>(pub(crate) Arc<Event<'bound>>);

impl irq::Handler for AdminHandler<'_> {
    fn handle(&self) -> irq::IrqReturn {
        if self.0.poll() {
            irq::IrqReturn::Handled
        } else {
            irq::IrqReturn::None
        }
    }
}

impl Controller<'_> {
    /// Executes an admin command of a program, and copies its data to `data`, of [`ADMIN_BYTES`].
    ///
    /// A command that does not complete resets the controller, for the sake of its requests. While
    /// this waits, only `admin_lock` is held.
    ///
    /// # Errors
    ///
    /// - `EINTR` if a signal interrupts the wait for the command of another program;
    /// - `ENODEV` if the controller does not run or is gone;
    /// - `EIO` on a fatal status, or if the controller was stopped or is being removed;
    /// - `ETIMEDOUT` if the command does not complete.
    pub(crate) fn admin_user(
        &self,
        mut command: Command,
        timeout: Delta,
        data: &mut [u8],
    ) -> Result<AdminResult> {
        self.admin_lock.with(|memory| {
            // SAFETY: When `run_user()` returns, the controller does not have the command, or it is
            // abandoned.
            let result = unsafe {
                memory.transfer(self.page_size, &[], |pointer| {
                    command.data = pointer;
                    self.run_user(&command, timeout)
                })
            }??;

            for (byte, value) in data.iter_mut().zip(memory.bytes()?) {
                *byte = *value;
            }
            Ok(result)
        })?
    }

    /// Executes an admin command of a program. When this returns, the controller has completed it,
    /// has not got it, or was disabled; unless it is abandoned, because the disks are removed.
    fn run_user(
        &self,
        command: &Command,
        timeout: Delta,
    ) -> Result<Result<AdminResult>, Abandoned> {
        if let Err(error) = self.submit_user(command) {
            return Ok(Err(error));
        }
        let result = self
            .event
            .wait(Slot::User, command, timeout)
            .or_else(|error| self.wait_until_ended(error));

        // There is no later command in the slot: this task has `admin_lock`.
        if self.event.is_abandoned(Slot::User) {
            return Err(Abandoned);
        }
        Ok(result)
    }

    /// Ends an admin command of a program: a reset does. If the controller was stopped meanwhile,
    /// or if PCI error recovery stops it, that does.
    fn wait_until_ended(&self, error: Error) -> Result<AdminResult> {
        loop {
            self.end_user();
            if let Some(result) = self.event.result(Slot::User) {
                return result.or(Err(error));
            }
            self.event.sleep(Slot::User, POLL_INTERVAL);
        }
    }
}

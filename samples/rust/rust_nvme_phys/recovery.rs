// SPDX-License-Identifier: GPL-2.0

//! Stop and restart of a controller: timeout, reset, failure.
//!
//! Every change of state locks the state of the controller. No request is lost: once the controller
//! is disabled, the driver completes what it had. None is completed twice: only the task that takes
//! a request out of its slot in the queue completes it.

use kernel::{
    block::mq::{
        Disk,
        TagSet,
        Timeout, //
    },
    device::{
        Bound,
        Device, //
    },
    dma::phys::Peer,
    new_mutex,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

use crate::{
    admin::{
        AdminData,
        Event,
        Slot,
        UserData, //
    },
    block::Namespace,
    cmb::Cmb,
    command::{
        Command,
        Status, //
    },
    controller::Admin,
    identify::Info,
    queue::Queue,
    regs,
    request::complete_rq,
    rings::command_id, //
};

/// Time limit for requests in flight before a stop, or a suspend.
pub(crate) const DRAIN_TIMEOUT: Delta = Delta::from_secs(5);
/// Time limit for the report of a PCI error of a controller that does not respond.
const DETECTION_TIMEOUT: Delta = Delta::from_secs(1);

/// The state of a controller. Its lock also serializes the admin commands of the driver.
pub(crate) struct State<'bound> {
    pub(crate) admin: Admin<'bound>,
    /// The CMB, if it is shared.
    shared_cmb: Option<Peer<'bound>>,
    /// No request reaches the I/O queues.
    quiesced: bool,
    /// The disks were added, and are not being removed.
    disks_added: bool,
    /// The disks are being removed: programs get no more admin commands.
    removing: bool,
    /// From a PCI error until the end of the recovery from it.
    pub(crate) recovering: bool,
    /// The controller has failed, and its disks are not yet marked dead.
    newly_failed: bool,
}

/// A controller.
#[pin_data]
pub(crate) struct Controller<'bound> {
    pub(crate) pdev: &'bound pci::Device<Bound>,
    /// Number in the names of the disks.
    pub(crate) index: u32,
    pub(crate) info: Info,
    pub(crate) cmb: Option<Cmb>,
    // Dropped before the queues: it disables the controller.
    #[pin]
    state: Mutex<State<'bound>>,
    /// Serializes the admin commands of programs, and has their data. It is taken before the lock
    /// of the state, which is not held while a command waits.
    #[pin]
    pub(crate) admin_lock: UserData<'bound>,
    pub(crate) event: Arc<Event<'bound>>,
    /// Memory page size of the controller, in bytes.
    pub(crate) page_size: usize,
    /// A request was refused because there is no P2P path.
    path_warned: Atomic<bool>,
    /// The controller uses the delays of retries in `info`.
    has_delays: Atomic<bool>,
    /// The controller will not run again, and requests fail. Written with the state locked.
    failed: Atomic<bool>,
    queues: KVec<Arc<Queue<'bound>>>,
    /// Number of interrupt vectors. The first one is for the admin queue.
    vectors: u16,
    pub(crate) tags: Arc<TagSet<Namespace<'bound>>>,
    /// From the end of `probe()` until the disks are removed.
    #[pin]
    disks: Mutex<KVec<Disk<'bound, Namespace<'bound>>>>,
}

impl<'bound> Controller<'bound> {
    /// Creates a controller. Its I/O queues were created in the device.
    pub(crate) fn new(
        admin: Admin<'bound>,
        index: u32,
        info: Info,
        cmb: Option<Cmb>,
        queues: KVec<Arc<Queue<'bound>>>,
        vectors: u16,
        tags: Arc<TagSet<Namespace<'bound>>>,
    ) -> Result<Arc<Self>> {
        let data = AdminData::new(admin.pdev.as_ref())?;

        Arc::pin_init(
            pin_init!(Self {
                pdev: admin.pdev,
                event: admin.event.clone(),
                page_size: admin.caps.page_size(),
                index,
                info,
                cmb,
                state <- new_mutex!(State {
                    admin,
                    shared_cmb: None,
                    quiesced: false,
                    disks_added: false,
                    removing: false,
                    recovering: false,
                    newly_failed: false,
                }),
                admin_lock <- UserData::new(data),
                path_warned: Atomic::new(false),
                has_delays: Atomic::new(true),
                failed: Atomic::new(false),
                queues,
                vectors,
                tags,
                disks <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn dev(&self) -> &'bound Device<Bound> {
        self.pdev.as_ref()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Returns the delay that the controller asks for before a retry.
    pub(crate) fn retry_delay(&self, status: Status) -> Delta {
        match self.has_delays.load(Relaxed) {
            true => self.info.retry_delays[status.retry_delay()],
            false => Delta::ZERO,
        }
    }

    /// Says once why a request is refused.
    pub(crate) fn warn_no_path(&self) {
        if !self.path_warned.xchg(true, Relaxed) {
            dev_warn!(self.dev(), "no P2P path to a peer, request refused\n");
        }
    }

    /// Makes all requests fail from now on. The caller has locked the state.
    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Relaxed);
    }

    /// Returns the I/O queue that is hardware queue `index` of the block layer.
    pub(crate) fn queue(&self, index: u32) -> Option<&Queue<'bound>> {
        self.queues.get(index as usize).map(|queue| &**queue)
    }

    /// Returns all I/O queues.
    pub(crate) fn queues(&self) -> &[Arc<Queue<'bound>>] {
        &self.queues
    }

    /// Calls `f` with the state locked. If the controller fails in `f`, marks its disks dead
    /// afterwards.
    pub(crate) fn with_state<R>(&self, f: impl FnOnce(&mut State<'bound>) -> R) -> R {
        let mut state = self.state.lock();
        let result = f(&mut state);
        let newly_failed = core::mem::take(&mut state.newly_failed);
        drop(state);

        // Without the lock: the disks have another one.
        if newly_failed {
            self.mark_disks_dead();
        }
        result
    }

    /// Stops the submission of requests. When this returns, none is being submitted.
    fn quiesce(&self, state: &mut State<'bound>) {
        if !state.quiesced {
            self.tags.quiesce();
            state.quiesced = true;
        }
    }

    /// Allows the submission of requests again. The controller runs, or has failed.
    pub(crate) fn unquiesce(&self, state: &mut State<'bound>) {
        if state.quiesced {
            self.tags.unquiesce();
            state.quiesced = false;
        }
    }

    /// Returns whether PCI error recovery restarts the controller, fails it or lets it go on. It
    /// accesses its configuration space meanwhile, so nobody else may reset the controller.
    ///
    /// There is no recovery of a device that is disconnected. Recovery and removal hold the device
    /// lock: a request must not wait for recovery if removal, or the scan of partitions, waits for
    /// the request.
    fn in_recovery(&self, state: &State<'bound>) -> bool {
        state.disks_added
            && (self.pdev.is_channel_frozen()
                || (state.recovering && !self.pdev.is_channel_offline()))
    }

    /// Same as [`in_recovery()`](Self::in_recovery). A PCI error has effects before it is reported:
    /// waits for the report, up to a time limit.
    fn enters_recovery(&self, state: &State<'bound>) -> bool {
        let start: Instant<Monotonic> = Instant::now();

        while state.disks_added
            && regs::status(&state.admin.bar).is_err()
            && !self.in_recovery(state)
            && !self.pdev.is_channel_offline()
            && start.elapsed() < DETECTION_TIMEOUT
        {
            fsleep(Delta::from_millis(10));
        }
        self.in_recovery(state)
    }

    /// Polls for requests whose submitters may not poll any longer: they are frozen in suspend.
    fn poll_all(&self) {
        for queue in self.queues.iter().filter(|queue| queue.polled) {
            queue.poll();
        }
    }

    /// Waits for the requests in flight, up to a time limit.
    fn drain(&self) {
        let start: Instant<Monotonic> = Instant::now();

        loop {
            let late = start.elapsed() > DRAIN_TIMEOUT;
            let count: usize = self.queues.iter().map(|queue| queue.in_flight()).sum();

            if count == 0 {
                return;
            }
            self.poll_all();
            if late {
                dev_warn!(self.dev(), "{count} requests still in flight\n");
                return;
            }
            fsleep(Delta::from_millis(10));
        }
    }

    /// Disables the controller, and cancels its requests. If `shutdown`, lets it complete them and
    /// shut down first.
    ///
    /// Its requests are completed or requeued, and the admin command of a program ends. The queues
    /// stay quiesced.
    pub(crate) fn stop(&self, state: &mut State<'bound>, shutdown: bool) {
        self.quiesce(state);
        if shutdown && state.admin.is_running() {
            self.drain();
            state.admin.notify_shutdown(self.info.shutdown_timeout);
        }
        // Afterwards it accesses no memory, even if this fails.
        let _ = state.admin.disable();

        for queue in &self.queues {
            // Handle the completions that it has written.
            queue.poll();
            // SAFETY: The controller was disabled.
            unsafe { queue.cancel_requests(complete_rq) };
        }
    }

    /// Enables a controller that was stopped.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::disable`], [`Admin::enable`] and [`Admin::restart_queues`], with the
    /// controller disabled.
    pub(crate) fn restart(&self, state: &mut State<'bound>) -> Result {
        self.try_restart(state).inspect_err(|error| {
            dev_err!(self.dev(), "restart failed ({:?})\n", error);
            let _ = state.admin.disable();
        })?;
        if let Some(cmb) = &state.shared_cmb {
            cmb.resume();
        }
        Ok(())
    }

    /// Revokes the clients of the CMB before the controller stops. New mappings fail until it was
    /// restarted. Programs keep their pages: those cannot be revoked without removing them.
    pub(crate) fn suspend_cmb(&self, state: &State<'bound>) {
        if let Some(cmb) = &state.shared_cmb {
            let _ = cmb
                .suspend(DRAIN_TIMEOUT)
                .inspect_err(|error| dev_warn!(self.dev(), "CMB is still mapped ({:?})\n", error));
        }
    }

    /// Stores the CMB, if it is shared.
    pub(crate) fn set_shared_cmb(&self, cmb: Option<Peer<'bound>>) {
        self.with_state(|state| state.shared_cmb = cmb);
    }

    /// Unregisters the CMB, and waits until it is not mapped. The controller runs, or is gone.
    pub(crate) fn unshare_cmb(&self) {
        // Dropped without the lock.
        let cmb = self.with_state(|state| state.shared_cmb.take());

        drop(cmb);
    }

    fn try_restart(&self, state: &mut State<'bound>) -> Result {
        // If it was not disabled when it was stopped, or if firmware has enabled it since, it has
        // commands whose memory is freed by now. So bus mastering stays disabled until the
        // controller is.
        state.admin.disable()?;
        state.admin.enable()?;
        if let Some(cmb) = self.cmb {
            cmb.enable(&state.admin.bar);
        }
        let has_delays = state.admin.restart_queues(&self.info, self.vectors)?;
        self.has_delays.store(has_delays, Relaxed);
        Ok(())
    }

    /// Stops and restarts the controller. Its requests are retried. If it cannot be restarted it
    /// has failed. If that is due to a PCI error, requests wait: error recovery restarts it or
    /// fails it.
    pub(crate) fn reset(&self, state: &mut State<'bound>) {
        dev_warn!(self.dev(), "resetting\n");
        self.suspend_cmb(state);
        self.stop(state, false);
        if self.restart(state).is_err() {
            if !self.enters_recovery(state) {
                self.fail(state);
            }
            return;
        }
        self.unquiesce(state);
        dev_info!(self.dev(), "reset done\n");
    }

    /// Gives the controller up. From now on all requests fail, and the CMB cannot be mapped.
    pub(crate) fn fail(&self, state: &mut State<'bound>) {
        if self.has_failed() {
            return;
        }
        dev_err!(self.dev(), "controller failed\n");
        self.set_failed();
        state.recovering = false;
        self.suspend_cmb(state);
        self.stop(state, false);
        self.unquiesce(state);
        state.newly_failed = true;
    }

    /// Marks all disks of a failed controller dead, in work items: that calls into file systems,
    /// which may wait for requests and their timeouts.
    fn mark_disks_dead(&self) {
        // File systems may wait for requests, which fail now.
        self.unfreeze();
        for disk in &*self.disks.lock() {
            disk.mark_dead_later();
        }
    }

    /// Freezes the queues of all disks, and waits until they have no requests, up to `timeout`.
    ///
    /// New requests wait until [`Controller::unfreeze`], also if this fails. Before suspend: a
    /// quiesced queue may still hold requests, and CPU hotplug waits for those. Before a shutdown:
    /// no request gets an error. The caller must not lock the state, which the timeout of a request
    /// does.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there are still requests.
    pub(crate) fn freeze(&self, timeout: Delta) -> Result {
        let start: Instant<Monotonic> = Instant::now();

        for disk in &*self.disks.lock() {
            disk.start_freeze()?;
        }
        loop {
            let is_late = start.elapsed() > timeout;

            // The lock is not held meanwhile: if the controller fails, the timeout of a request
            // takes it, and unfreezes the disks.
            if self.has_failed() || self.disks.lock().iter().all(|disk| disk.is_frozen()) {
                return Ok(());
            }
            if is_late {
                return Err(EBUSY);
            }
            self.poll_all();
            fsleep(Delta::from_millis(10));
        }
    }

    /// The reverse of [`Controller::freeze`].
    pub(crate) fn unfreeze(&self) {
        for disk in &*self.disks.lock() {
            disk.unfreeze();
        }
    }

    /// Stores the disks of the controller, which were added.
    pub(crate) fn set_disks(&self, disks: KVec<Disk<'bound, Namespace<'bound>>>) {
        *self.disks.lock() = disks;
        self.with_state(|state| state.disks_added = true);
        // The controller may have failed while the disks were added.
        if self.has_failed() {
            self.mark_disks_dead();
        }
    }

    /// Resets the controller to end the admin command of a program, except in PCI error recovery,
    /// which may reset it.
    pub(crate) fn end_user(&self) {
        self.with_state(|state| {
            if self.event.is_pending(Slot::User) && !self.in_recovery(state) {
                self.reset(state);
            }
        });
    }

    /// Submits an admin command of a program.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the controller does not run, or its disks are being removed.
    pub(crate) fn submit_user(&self, command: &Command) -> Result {
        self.with_state(|state| {
            if state.removing {
                return Err(ENODEV);
            }
            state.admin.submit_user(command)
        })
    }

    /// Removes all disks. If the device is gone or stopped the controller fails first, as it cannot
    /// complete requests.
    pub(crate) fn remove_disks(&self) {
        self.with_state(|state| {
            state.disks_added = false;
            state.removing = true;
            // A disk waits for its ioctls. In C it does not: its data has another lifetime. The
            // controller keeps the command until it is stopped.
            self.event.abandon(Slot::User);
            let is_stopped = state.quiesced && !state.admin.is_running();
            if is_stopped || regs::status(&state.admin.bar).is_err() {
                self.fail(state);
            } else {
                // PCI error recovery may have restarted it, and not yet ended.
                self.unquiesce(state);
            }
        });

        let disks = core::mem::take(&mut *self.disks.lock());
        if self.has_failed() {
            for disk in &disks {
                disk.mark_dead();
            }
        }
        drop(disks);
    }

    /// Stops the controller before its memory is freed. The disks were removed.
    pub(crate) fn tear_down(&self) {
        self.with_state(|state| {
            if !self.has_failed() {
                self.stop(state, true);
                self.set_failed();
            }
        });
        // SAFETY: The controller was disabled.
        unsafe { self.admin_lock.reclaim() };
    }

    /// Handles a request that timed out.
    pub(crate) fn timeout(&self, index: u32, tag: u32, is_expired: impl Fn() -> bool) -> Timeout {
        let Some(queue) = self.queue(index) else {
            return Timeout::Restart;
        };
        // A request that is not in flight is being submitted or completed, and needs no recovery.
        let Some(serial) = queue.serial(tag) else {
            return Timeout::Restart;
        };

        self.with_state(|state| {
            // The request may have been completed, or restarted, while this waited.
            if queue.serial(tag) != Some(serial) || !is_expired() {
                return Timeout::Restart;
            }
            // If recovery stops the controller, that completes the request.
            if self.in_recovery(state) {
                return Timeout::Restart;
            }
            let found = queue.poll();
            if queue.serial(tag) != Some(serial) {
                if !found {
                    // The interrupt handler has completed it meanwhile.
                    return Timeout::Restart;
                }
                if !queue.polled {
                    dev_warn!(
                        self.dev(),
                        "queue {}: completion without interrupt\n",
                        queue.id
                    );
                }
                return Timeout::Done;
            }
            self.abort_or_reset(state, queue, tag, serial)
        })
    }

    fn abort_or_reset(
        &self,
        state: &mut State<'bound>,
        queue: &Queue<'bound>,
        tag: u32,
        serial: u32,
    ) -> Timeout {
        let Ok(csts) = regs::status(&state.admin.bar) else {
            if self.enters_recovery(state) {
                return Timeout::Restart;
            }
            self.fail(state);
            return Timeout::Done;
        };

        if !csts.cfs() && csts.rdy() {
            let Some(is_first) = queue.note_abort(tag, serial) else {
                // The request was just completed.
                return Timeout::Restart;
            };
            if is_first {
                dev_warn!(
                    self.dev(),
                    "queue {}: request {} timed out, aborting\n",
                    queue.id,
                    tag
                );
                let cid = command_id(tag, serial);
                if state.admin.abort(queue.id, cid).is_ok() {
                    return Timeout::Restart;
                }
            }
        }
        self.reset(state);
        Timeout::Done
    }
}

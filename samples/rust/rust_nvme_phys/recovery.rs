// SPDX-License-Identifier: GPL-2.0

//! Stop and restart of a controller: timeout, reset, failure, suspend.
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
    block::{
        self,
        Namespace, //
    },
    cmb::Cmb,
    controller::{
        Admin,
        Info, //
    },
    queue::Queue,
    regs, //
};

/// Time limit for requests in flight before a shutdown or suspend.
const DRAIN_TIMEOUT: Delta = Delta::from_secs(5);

/// The state of a controller. Its lock also serializes admin commands.
pub(crate) struct State<'bound> {
    pub(crate) admin: Admin<'bound>,
    /// No request reaches the I/O queues.
    quiesced: bool,
    /// The controller has failed, and its disks are not yet marked dead.
    newly_failed: bool,
}

/// A controller.
#[pin_data]
pub(crate) struct Controller<'bound> {
    pdev: &'bound pci::Device<Bound>,
    /// Number in the names of the disks.
    pub(crate) index: u32,
    pub(crate) info: Info,
    pub(crate) cmb: Option<Cmb>,
    // Dropped before the queues: it disables the controller.
    #[pin]
    state: Mutex<State<'bound>>,
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
    /// Creates a controller whose I/O queues are not created in the device yet.
    pub(crate) fn new(
        admin: Admin<'bound>,
        index: u32,
        info: Info,
        cmb: Option<Cmb>,
        queues: KVec<Arc<Queue<'bound>>>,
        vectors: u16,
        tags: Arc<TagSet<Namespace<'bound>>>,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                pdev: admin.pdev,
                index,
                info,
                cmb,
                state <- new_mutex!(State {
                    admin,
                    quiesced: false,
                    newly_failed: false,
                }),
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

        // Without the lock: file systems are notified, and may wait for requests and their
        // timeouts.
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
    fn unquiesce(&self, state: &mut State<'bound>) {
        if state.quiesced {
            self.tags.unquiesce();
            state.quiesced = false;
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
    /// Its requests are completed or requeued. The queues stay quiesced.
    fn stop(&self, state: &mut State<'bound>, shutdown: bool) {
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
            unsafe { queue.cancel_requests(block::complete_rq) };
        }
    }

    /// Creates all I/O queues in the controller, which is enabled.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::set_queue_count`].
    pub(crate) fn create_queues(&self, state: &mut State<'bound>) -> Result {
        for queue in &self.queues {
            // If there are too few vectors, queues share the last one.
            state
                .admin
                .create_queue(queue, queue.id.min(self.vectors - 1))?;
        }
        Ok(())
    }

    /// Enables a controller that was stopped.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::disable`], [`Admin::enable`] and [`Admin::set_queue_count`], with the
    /// controller disabled.
    fn restart(&self, state: &mut State<'bound>) -> Result {
        self.try_restart(state).inspect_err(|error| {
            dev_err!(self.dev(), "restart failed ({:?})\n", error);
            let _ = state.admin.disable();
        })
    }

    fn try_restart(&self, state: &mut State<'bound>) -> Result {
        let count = u16::try_from(self.queues.len())?;

        // If it was not disabled when it was stopped, or if firmware has enabled it since, it has
        // commands whose memory is freed by now. So bus mastering stays disabled until the
        // controller is.
        state.admin.disable()?;
        state.admin.enable()?;
        if let Some(cmb) = self.cmb {
            cmb.enable(&state.admin.bar);
        }
        if state.admin.set_queue_count(count)? < count {
            return Err(ENOSPC);
        }
        self.create_queues(state)
    }

    /// Stops and restarts the controller. Its requests are retried. If it cannot be restarted it
    /// has failed.
    pub(crate) fn reset(&self, state: &mut State<'bound>) {
        dev_warn!(self.dev(), "resetting\n");
        self.stop(state, false);
        if self.restart(state).is_err() {
            self.fail(state);
            return;
        }
        self.unquiesce(state);
        dev_info!(self.dev(), "reset done\n");
    }

    /// Gives the controller up. From now on all requests fail.
    fn fail(&self, state: &mut State<'bound>) {
        if self.has_failed() {
            return;
        }
        dev_err!(self.dev(), "controller failed\n");
        self.failed.store(true, Relaxed);
        self.stop(state, false);
        self.unquiesce(state);
        state.newly_failed = true;
    }

    /// Marks all disks of a failed controller dead.
    fn mark_disks_dead(&self) {
        // File systems may wait for requests, which fail now.
        self.unfreeze();
        for disk in &*self.disks.lock() {
            disk.mark_dead();
        }
    }

    /// Freezes the queues of all disks. On failure none is frozen.
    ///
    /// Before suspend: a quiesced queue may still hold requests, and CPU hotplug waits for those.
    /// The caller must not lock the state, which the timeout of a request does.
    fn freeze(&self) -> Result {
        let start: Instant<Monotonic> = Instant::now();
        let frozen = self.disks.lock().iter().try_for_each(|disk| {
            let remaining = DRAIN_TIMEOUT - start.elapsed();
            disk.freeze(Delta::from_millis(remaining.as_millis().max(0)))
        });

        frozen.inspect_err(|_| self.unfreeze())
    }

    /// The reverse of [`Controller::freeze`].
    fn unfreeze(&self) {
        for disk in &*self.disks.lock() {
            disk.unfreeze();
        }
    }

    /// Stores the disks of the controller, which were added.
    pub(crate) fn set_disks(&self, disks: KVec<Disk<'bound, Namespace<'bound>>>) {
        *self.disks.lock() = disks;
        // The controller may have failed while the disks were added.
        if self.has_failed() {
            self.mark_disks_dead();
        }
    }

    /// Removes all disks. If the device is gone the controller fails first, as it cannot complete
    /// requests.
    pub(crate) fn remove_disks(&self) {
        self.with_state(|state| {
            if !self.has_failed() && regs::status(&state.admin.bar).is_err() {
                self.fail(state);
            }
        });

        let disks = core::mem::take(&mut *self.disks.lock());
        drop(disks);
    }

    /// Shuts the controller down before a power-off or reboot. Later requests fail.
    pub(crate) fn shutdown(&self) {
        self.with_state(|state| {
            if !self.has_failed() {
                self.stop(state, true);
                self.failed.store(true, Relaxed);
                self.unquiesce(state);
            }
        });
    }

    /// Stops the controller before its memory is freed. The disks were removed.
    pub(crate) fn tear_down(&self) {
        self.with_state(|state| {
            if !self.has_failed() {
                self.stop(state, true);
                self.failed.store(true, Relaxed);
            }
        });
    }

    /// Stops the controller before the system is suspended. New requests wait.
    ///
    /// # Errors
    ///
    /// `EBUSY` if requests do not complete in time.
    pub(crate) fn suspend(&self) -> Result {
        // If the controller fails later, that unfreezes the disks.
        if !self.has_failed() && self.freeze().is_err() {
            dev_warn!(self.dev(), "requests still in flight, cannot suspend\n");
            return Err(EBUSY);
        }

        self.with_state(|state| {
            if !self.has_failed() {
                self.stop(state, true);
            }
        });
        Ok(())
    }

    /// Restarts the controller after the system was suspended.
    pub(crate) fn resume(&self) {
        self.with_state(|state| {
            if self.has_failed() {
                return;
            }
            match self.restart(state) {
                Ok(()) => self.unquiesce(state),
                Err(_) => self.fail(state),
            }
        });
        self.unfreeze();
    }

    /// Handles a request that timed out.
    pub(crate) fn timeout(&self, index: u32, tag: u32) -> Timeout {
        let Some(queue) = self.queue(index) else {
            return Timeout::Restart;
        };
        // A request that is not in flight is being submitted or completed, and needs no recovery.
        let Some(serial) = queue.serial(tag) else {
            return Timeout::Restart;
        };

        self.with_state(|state| {
            // The request may have been completed, or restarted, while this waited.
            if queue.serial(tag) != Some(serial) {
                return Timeout::Restart;
            }
            let found = queue.poll();
            if queue.serial(tag) != Some(serial) {
                if !found {
                    // The interrupt handler has completed it meanwhile.
                    return Timeout::Restart;
                }
                dev_warn!(
                    self.dev(),
                    "queue {}: completion without interrupt\n",
                    queue.id
                );
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
                if state.admin.abort(queue.id, tag).is_ok() {
                    return Timeout::Restart;
                }
            }
        }
        self.reset(state);
        Timeout::Done
    }
}

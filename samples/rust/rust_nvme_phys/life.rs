// SPDX-License-Identifier: GPL-2.0

//! What happens to a controller while it has requests: it is slow, is reset, sleeps or dies. All of
//! it under its life.
//!
//! No request is lost: who takes a controller its memory away completes what it had. None is
//! completed twice: it is completed by who took it out of its place in the queue.

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

/// How long a controller that is stopped in order may take to finish.
const DRAIN: Delta = Delta::from_secs(5);

/// Admin commands one at a time, and whether the controller lives.
pub(crate) struct Life<'bound> {
    pub(crate) admin: Admin<'bound>,
    /// No request reaches the I/O queues.
    quiesced: bool,
    /// It died, and the disks have not been told.
    news: bool,
}

/// A controller.
#[pin_data]
pub(crate) struct Controller<'bound> {
    pdev: &'bound pci::Device<Bound>,
    /// Number in the names of its disks.
    pub(crate) index: u32,
    pub(crate) info: Info,
    pub(crate) cmb: Option<Cmb>,
    // Dropped before the queues: it disables the controller.
    #[pin]
    life: Mutex<Life<'bound>>,
    /// It will not run again: requests fail.
    dead: Atomic<bool>,
    queues: KVec<Arc<Queue<'bound>>>,
    /// Interrupt vectors, of which the first is the admin queue's.
    vectors: u16,
    pub(crate) tags: Arc<TagSet<Namespace<'bound>>>,
    /// From the end of `probe()` until the disks are removed.
    #[pin]
    disks: Mutex<KVec<Disk<'bound, Namespace<'bound>>>>,
}

impl<'bound> Controller<'bound> {
    /// Puts the parts together; the controller does not know the I/O queues yet.
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
                life <- new_mutex!(Life {
                    admin,
                    quiesced: false,
                    news: false,
                }),
                dead: Atomic::new(false),
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

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// The I/O queue that is hardware queue `index` of the block layer.
    pub(crate) fn queue(&self, index: u32) -> Option<&Queue<'bound>> {
        self.queues.get(index as usize).map(|queue| &**queue)
    }

    /// All I/O queues.
    pub(crate) fn queues(&self) -> &[Arc<Queue<'bound>>] {
        &self.queues
    }

    /// Calls `f` under the controller's life. Where it dies in there, its disks are told.
    pub(crate) fn with_life<R>(&self, f: impl FnOnce(&mut Life<'bound>) -> R) -> R {
        let mut life = self.life.lock();
        let result = f(&mut life);
        let news = core::mem::take(&mut life.news);
        drop(life);

        // File systems have their say in it, and may wait for requests, or their timeouts.
        if news {
            self.mark_dead();
        }
        result
    }

    /// Keeps requests away from the I/O queues. When this returns none is being submitted.
    fn quiesce(&self, life: &mut Life<'bound>) {
        if !life.quiesced {
            self.tags.quiesce();
            life.quiesced = true;
        }
    }

    /// Lets them come again: the controller runs, or is dead.
    fn unquiesce(&self, life: &mut Life<'bound>) {
        if life.quiesced {
            self.tags.unquiesce();
            life.quiesced = false;
        }
    }

    /// Waits for what the controller has, but not for ever.
    fn drain(&self) {
        let start: Instant<Monotonic> = Instant::now();

        loop {
            let late = start.elapsed() > DRAIN;
            let count: usize = self.queues.iter().map(|queue| queue.in_flight()).sum();

            if count == 0 {
                return;
            }
            if late {
                dev_warn!(self.dev(), "{count} requests are not done\n");
                return;
            }
            fsleep(Delta::from_millis(10));
        }
    }

    /// Disables the controller, and takes back what it has. Where `in_order`, it finishes first,
    /// and saves what it has.
    ///
    /// Its requests are completed or wait to be tried again. The queues stay quiesced.
    fn stop(&self, life: &mut Life<'bound>, in_order: bool) {
        self.quiesce(life);
        if in_order && life.admin.is_running() {
            self.drain();
            life.admin.notify_shutdown(self.info.shutdown);
        }
        // Whether it obeys or not, it reaches no memory then.
        let _ = life.admin.disable();

        for queue in &self.queues {
            // What it has completed, is.
            queue.poll();
            queue.take_back(block::completed);
        }
    }

    /// Has the controller, which is enabled, use all I/O queues.
    ///
    /// # Errors
    ///
    /// As [`Admin::count_queues`].
    pub(crate) fn create_queues(&self, life: &mut Life<'bound>) -> Result {
        for queue in &self.queues {
            // The last vector is shared where there are too few.
            life.admin
                .create_queue(queue, queue.id.min(self.vectors - 1))?;
        }
        Ok(())
    }

    /// Enables the controller, which was stopped.
    ///
    /// # Errors
    ///
    /// As [`Admin::disable`], [`Admin::enable`] and [`Admin::count_queues`], with the controller
    /// disabled.
    fn restart(&self, life: &mut Life<'bound>) -> Result {
        self.try_restart(life).inspect_err(|error| {
            dev_err!(self.dev(), "cannot be started again ({:?})\n", error);
            let _ = life.admin.disable();
        })
    }

    fn try_restart(&self, life: &mut Life<'bound>) -> Result {
        let count = u16::try_from(self.queues.len())?;

        // One that did not obey when it was stopped, or that firmware has enabled since, may not
        // master the bus until it says that it is disabled: it would go on with commands whose
        // memory is somebody else's by now.
        life.admin.disable()?;
        life.admin.enable()?;
        if let Some(cmb) = self.cmb {
            cmb.enable(&life.admin.bar);
        }
        if life.admin.count_queues(count)? < count {
            return Err(ENOSPC);
        }
        self.create_queues(life)
    }

    /// Stops the controller and starts it again. What it had is tried again. Where it cannot be
    /// started it is dead.
    pub(crate) fn reset(&self, life: &mut Life<'bound>) {
        dev_warn!(self.dev(), "resetting\n");
        self.stop(life, false);
        if self.restart(life).is_err() {
            self.die(life);
            return;
        }
        self.unquiesce(life);
        dev_info!(self.dev(), "reset done\n");
    }

    /// Gives the controller up: all its requests fail, from now on.
    fn die(&self, life: &mut Life<'bound>) {
        if self.is_dead() {
            return;
        }
        dev_err!(self.dev(), "is dead\n");
        self.dead.store(true, Relaxed);
        self.stop(life, false);
        self.unquiesce(life);
        life.news = true;
    }

    /// Tells the disks of a dead controller.
    fn mark_dead(&self) {
        // What comes fails, and may be waited for by those who are told.
        self.unfreeze();
        for disk in &*self.disks.lock() {
            disk.mark_dead();
        }
    }

    /// Has no request anywhere between a disk and its users, or nothing frozen.
    ///
    /// Quiesced queues may still hold requests, and a processor that goes offline waits for those.
    /// Not under the controller's life, which a request that takes too long needs.
    fn freeze(&self) -> Result {
        let start: Instant<Monotonic> = Instant::now();
        let frozen = self.disks.lock().iter().try_for_each(|disk| {
            let left = DRAIN - start.elapsed();
            disk.freeze(Delta::from_millis(left.as_millis().max(0)))
        });

        frozen.inspect_err(|_| self.unfreeze())
    }

    /// The reverse of [`Controller::freeze`].
    fn unfreeze(&self) {
        for disk in &*self.disks.lock() {
            disk.unfreeze();
        }
    }

    /// From now on `disks`, which are added, are those of the controller.
    pub(crate) fn has_disks(&self, disks: KVec<Disk<'bound, Namespace<'bound>>>) {
        *self.disks.lock() = disks;
        // It may have died while they were added.
        if self.is_dead() {
            self.mark_dead();
        }
    }

    /// Removes all disks. The controller still does what they are busy with, or is dead: a device
    /// that was pulled out is not waited for.
    pub(crate) fn remove_disks(&self) {
        self.with_life(|life| {
            if regs::status(&life.admin.bar).is_err() {
                self.die(life);
            }
        });

        let disks = core::mem::take(&mut *self.disks.lock());
        drop(disks);
    }

    /// Shuts the controller down, as before a power-off. Requests that come later fail: nobody is
    /// there to do them.
    pub(crate) fn shutdown(&self) {
        self.with_life(|life| {
            if !self.is_dead() {
                self.stop(life, true);
                self.dead.store(true, Relaxed);
                self.unquiesce(life);
            }
        });
    }

    /// Stops the controller for good. Nobody has a disk of it.
    pub(crate) fn bring_down(&self) {
        self.with_life(|life| {
            if !self.is_dead() {
                self.stop(life, true);
            }
        });
    }

    /// The system is suspended. Requests that come meanwhile wait.
    ///
    /// # Errors
    ///
    /// `EBUSY` where those that came before are not done in time.
    pub(crate) fn suspend(&self) -> Result {
        // Where it dies later, this is undone.
        if !self.is_dead() && self.freeze().is_err() {
            dev_warn!(self.dev(), "has requests, and cannot sleep\n");
            return Err(EBUSY);
        }

        self.with_life(|life| {
            if !self.is_dead() {
                self.stop(life, true);
            }
        });
        Ok(())
    }

    /// The system goes on.
    pub(crate) fn resume(&self) {
        self.with_life(|life| {
            if self.is_dead() {
                return;
            }
            match self.restart(life) {
                Ok(()) => self.unquiesce(life),
                Err(_) => self.die(life),
            }
        });
        self.unfreeze();
    }

    /// A request takes too long.
    pub(crate) fn timeout(&self, index: u32, tag: u32) -> Timeout {
        let Some(queue) = self.queue(index) else {
            return Timeout::Restart;
        };
        // Where the controller does not have it, it is not submitted yet, or completed just now:
        // then a timer does no harm.
        let Some(serial) = queue.serial(tag) else {
            return Timeout::Restart;
        };

        self.with_life(|life| {
            // While this waited it may have been completed, or begun anew.
            if queue.serial(tag) != Some(serial) {
                return Timeout::Restart;
            }
            let found = queue.poll();
            if queue.serial(tag) != Some(serial) {
                if !found {
                    // Its interrupt came meanwhile.
                    return Timeout::Restart;
                }
                dev_warn!(
                    self.dev(),
                    "queue {}: completion without interrupt\n",
                    queue.id
                );
                return Timeout::Done;
            }
            self.abort_or_reset(life, queue, tag, serial)
        })
    }

    fn abort_or_reset(
        &self,
        life: &mut Life<'bound>,
        queue: &Queue<'bound>,
        tag: u32,
        serial: u32,
    ) -> Timeout {
        let Ok(csts) = regs::status(&life.admin.bar) else {
            self.die(life);
            return Timeout::Done;
        };

        if !csts.cfs() && csts.rdy() {
            let Some(is_first) = queue.note_abort(tag, serial) else {
                // It was completed just now.
                return Timeout::Restart;
            };
            if is_first {
                dev_warn!(
                    self.dev(),
                    "queue {}: request {} timed out, aborting\n",
                    queue.id,
                    tag
                );
                if life.admin.abort(queue.id, tag).is_ok() {
                    return Timeout::Restart;
                }
            }
        }
        self.reset(life);
        Timeout::Done
    }
}

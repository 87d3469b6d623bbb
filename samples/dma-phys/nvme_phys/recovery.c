// SPDX-License-Identifier: GPL-2.0
/*
 * Stop and restart of a controller: timeout, reset, failure, suspend.
 *
 * Every change of state holds the lock of the controller. No request is lost:
 * once the controller is disabled, the driver completes what it had. None is
 * completed twice: the state of a request says whether the controller has it,
 * and changes once.
 */
#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/jiffies.h>

#include "nvme_phys.h"

/**
 * nvme_phys_in_recovery() - check for PCI error recovery
 * @ctrl: the controller
 *
 * Recovery restarts the controller or fails it, and accesses its configuration
 * space meanwhile. There is no recovery of a device that is disconnected.
 * Recovery and removal hold the device lock: a request must not wait for
 * recovery if removal, or the scan of partitions, waits for the request.
 *
 * Return: true if only recovery may reset or fail the controller.
 */
bool nvme_phys_in_recovery(const struct nvme_phys *ctrl)
{
	pci_channel_state_t state = READ_ONCE(ctrl->pdev->error_state);

	lockdep_assert_held(&ctrl->lock);
	return ctrl->disks_added && state != pci_channel_io_perm_failure &&
	       (ctrl->in_recovery || state == pci_channel_io_frozen);
}

/* A PCI error has effects before it is reported: wait up to a second. */
static bool nvme_phys_await_recovery(struct nvme_phys *ctrl)
{
	for (int i = 0; i < 100 && !nvme_phys_in_recovery(ctrl); i++) {
		if (!ctrl->disks_added || !nvme_phys_is_gone(ctrl) ||
		    pci_channel_offline(ctrl->pdev))
			return false;
		fsleep(10 * USEC_PER_MSEC);
	}
	return nvme_phys_in_recovery(ctrl);
}

/**
 * nvme_phys_quiesce() - stop the submission of requests
 * @ctrl: the controller
 *
 * When this returns, no request is being submitted.
 */
void nvme_phys_quiesce(struct nvme_phys *ctrl)
{
	lockdep_assert_held(&ctrl->lock);
	if (ctrl->quiesced || !ctrl->tags.tags)
		return;
	blk_mq_quiesce_tagset(&ctrl->tags);
	ctrl->quiesced = true;
}

/**
 * nvme_phys_unquiesce() - allow the submission of requests again
 * @ctrl: the controller; it runs, or has failed
 */
void nvme_phys_unquiesce(struct nvme_phys *ctrl)
{
	lockdep_assert_held(&ctrl->lock);
	if (ctrl->quiesced)
		blk_mq_unquiesce_tagset(&ctrl->tags);
	ctrl->quiesced = false;
}

static bool nvme_phys_count_rq(struct request *rq, void *data)
{
	unsigned int *count = data;

	*count += blk_mq_rq_state(rq) == MQ_RQ_IN_FLIGHT;
	return true;
}

/*
 * The tasks that have submitted polled requests may not poll any longer: they
 * are frozen in suspend.
 */
static void nvme_phys_poll_all(struct nvme_phys *ctrl)
{
	for (unsigned int i = ctrl->queues - ctrl->polled; i < ctrl->queues; i++)
		nvme_phys_queue_poll(&ctrl->io[i]);
}

/* Wait for the requests that the controller has, up to NVME_PHYS_DRAIN_MS. */
static void nvme_phys_drain(struct nvme_phys *ctrl)
{
	unsigned long end = jiffies + msecs_to_jiffies(NVME_PHYS_DRAIN_MS);
	unsigned int count;

	do {
		count = 0;
		nvme_phys_poll_all(ctrl);
		blk_mq_tagset_busy_iter(&ctrl->tags, nvme_phys_count_rq,
					&count);
		if (!count)
			return;
		fsleep(10 * USEC_PER_MSEC);
	} while (time_before(jiffies, end));
	dev_warn(&ctrl->pdev->dev, "%u requests still in flight\n", count);
}

/* Nobody else completes it: queues are quiesced, polled and disabled. */
static bool nvme_phys_cancel_rq(struct request *rq, void *unused)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	if (blk_mq_rq_state(rq) == MQ_RQ_IN_FLIGHT) {
		nreq->status = NVME_SC_HOST_ABORTED_CMD;
		blk_mq_set_request_complete(rq);
		nvme_phys_complete_rq(rq);
	}
	return true;
}

/**
 * nvme_phys_unfreeze() - the reverse of nvme_phys_freeze()
 * @ctrl: the controller
 */
void nvme_phys_unfreeze(struct nvme_phys *ctrl)
{
	struct nvme_phys_ns *ns;

	list_for_each_entry(ns, &ctrl->namespaces, node)
		blk_mq_unfreeze_queue_non_owner(ns->disk->queue);
}

/**
 * nvme_phys_freeze() - freeze the queues of all disks
 * @ctrl: the controller, with its disks
 * @ms: how long to wait for their requests, in milliseconds
 *
 * New requests wait until nvme_phys_unfreeze(), also if this fails. Before
 * suspend: a quiesced queue may still hold requests, and CPU hotplug waits for
 * those. Before a shutdown: no request gets an error. The caller does not hold
 * the lock of the controller, which the timeout of a request takes.
 *
 * Return: 0, or -EBUSY if requests do not complete in time.
 */
int nvme_phys_freeze(struct nvme_phys *ctrl, unsigned int ms)
{
	unsigned long end = jiffies + msecs_to_jiffies(ms);
	struct nvme_phys_ns *ns;

	list_for_each_entry(ns, &ctrl->namespaces, node)
		blk_freeze_queue_start_non_owner(ns->disk->queue);
	list_for_each_entry(ns, &ctrl->namespaces, node) {
		while (!blk_mq_freeze_queue_wait_timeout(ns->disk->queue,
							 HZ / 10)) {
			if (time_after(jiffies, end))
				return -EBUSY;
			nvme_phys_poll_all(ctrl);
		}
	}
	return 0;
}

/**
 * nvme_phys_stop() - disable a controller, and cancel its requests
 * @ctrl: the controller
 * @shutdown: let it complete its requests and shut down first
 *
 * Its requests are completed or requeued, and the admin command of a program
 * ends. The queues stay quiesced.
 */
void nvme_phys_stop(struct nvme_phys *ctrl, bool shutdown)
{
	nvme_phys_quiesce(ctrl);
	if (shutdown && ctrl->running) {
		if (ctrl->tags.tags)
			nvme_phys_drain(ctrl);
		nvme_phys_notify_shutdown(ctrl);
	}
	nvme_phys_disable(ctrl);
	if (!ctrl->tags.tags)
		return;

	/* Handle the completions that it has written. */
	for (unsigned int i = 0; i < ctrl->queues; i++)
		nvme_phys_queue_poll(&ctrl->io[i]);
	blk_mq_tagset_busy_iter(&ctrl->tags, nvme_phys_cancel_rq, NULL);
	nvme_phys_cancel_admin_user(ctrl);
}

/**
 * nvme_phys_restart() - enable a controller that was stopped
 * @ctrl: the controller
 *
 * If it was not disabled when it was stopped, or if firmware has enabled it
 * since, it has commands whose memory is freed by now. So bus mastering stays
 * disabled until the controller is.
 *
 * Return: 0, or an error; then the controller is disabled.
 */
int nvme_phys_restart(struct nvme_phys *ctrl)
{
	unsigned int count;
	int err;

	err = nvme_phys_disable(ctrl);
	err = err ?: nvme_phys_enable(ctrl);
	if (!err)
		nvme_phys_enable_cmb(ctrl);
	err = err ?: nvme_phys_set_host_behavior(ctrl);
	err = err ?: nvme_phys_set_queue_count(ctrl, ctrl->queues, &count);
	if (!err && count < ctrl->queues)
		err = -ENOSPC;
	err = err ?: nvme_phys_create_queues(ctrl, &count);
	if (err) {
		dev_err(&ctrl->pdev->dev, "restart failed: %d\n", err);
		nvme_phys_disable(ctrl);
		return err;
	}
	nvme_phys_resume_cmb(ctrl);
	return 0;
}

/**
 * nvme_phys_reset() - stop and restart a controller
 * @ctrl: the controller
 *
 * Its requests are retried. If it cannot be restarted it has failed. If that is
 * due to a PCI error, requests wait: error recovery restarts it or fails it.
 */
void nvme_phys_reset(struct nvme_phys *ctrl)
{
	dev_warn(&ctrl->pdev->dev, "resetting\n");
	nvme_phys_suspend_cmb(ctrl);
	nvme_phys_stop(ctrl, false);
	if (nvme_phys_restart(ctrl)) {
		if (!nvme_phys_await_recovery(ctrl))
			nvme_phys_fail(ctrl);
		return;
	}
	nvme_phys_unquiesce(ctrl);
	dev_info(&ctrl->pdev->dev, "reset done\n");
}

/**
 * nvme_phys_fail() - give up a controller
 * @ctrl: the controller
 *
 * From now on all requests fail, and the CMB cannot be mapped.
 */
void nvme_phys_fail(struct nvme_phys *ctrl)
{
	if (ctrl->failed)
		return;
	dev_err(&ctrl->pdev->dev, "controller failed\n");
	WRITE_ONCE(ctrl->failed, true);
	ctrl->in_recovery = false;
	nvme_phys_suspend_cmb(ctrl);
	nvme_phys_stop(ctrl, false);
	nvme_phys_unquiesce(ctrl);
	/* In a work item: it calls into file systems, which may do I/O. */
	if (ctrl->disks_added)
		schedule_work(&ctrl->failed_work);
}

/**
 * nvme_phys_mark_disks_dead() - mark all disks of a failed controller dead
 * @ctrl: the controller, with its disks added
 */
void nvme_phys_mark_disks_dead(struct nvme_phys *ctrl)
{
	struct nvme_phys_ns *ns;

	list_for_each_entry(ns, &ctrl->namespaces, node) {
		blk_mark_disk_dead(ns->disk);
		/* Do not wait for the delay of a retry. */
		blk_mq_kick_requeue_list(ns->disk->queue);
	}
}

/* ---- Timeout [5.1] ---- */

/*
 * Not the time limit of other admin commands: timeouts and resets wait for the
 * lock meanwhile, and a controller that executes no Abort is reset anyway.
 */
#define NVME_PHYS_ABORT_MS	5000

/* An Abort that completes is a success, even if it has aborted nothing. */
static int nvme_phys_abort(struct nvme_phys_queue *q, struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	struct nvme_command cmd = {};

	cmd.abort.opcode = nvme_admin_abort_cmd;
	cmd.abort.sqid = cpu_to_le16(q->id);
	cmd.abort.cid = nreq->cmd.common.command_id;
	return nvme_phys_admin(q->ctrl, &cmd, NVME_PHYS_ABORT_MS, NULL);
}

static enum blk_eh_timer_return
nvme_phys_abort_or_reset(struct nvme_phys_queue *q, struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	struct nvme_phys *ctrl = q->ctrl;
	u32 csts = readl(ctrl->regs + NVME_REG_CSTS);

	if (csts == U32_MAX) {
		if (nvme_phys_await_recovery(ctrl))
			return BLK_EH_RESET_TIMER;
		nvme_phys_fail(ctrl);
		return BLK_EH_DONE;
	}
	if (!(csts & NVME_CSTS_CFS) && csts & NVME_CSTS_RDY && !nreq->aborted) {
		nreq->aborted = true;
		dev_warn(&ctrl->pdev->dev,
			 "queue %u: request %u timed out, aborting\n", q->id,
			 rq->tag);
		if (!nvme_phys_abort(q, rq))
			return BLK_EH_RESET_TIMER;
	}
	nvme_phys_reset(ctrl);
	return BLK_EH_DONE;
}

/**
 * nvme_phys_timeout() - handle a request that timed out
 * @rq: the request, which is not freed meanwhile
 *
 * Context: Process, sleeps.
 * Return: BLK_EH_DONE if it is completed, BLK_EH_RESET_TIMER if it has more
 * time.
 */
enum blk_eh_timer_return nvme_phys_timeout(struct request *rq)
{
	struct nvme_phys_queue *q = rq->mq_hctx->driver_data;
	struct nvme_phys *ctrl = q->ctrl;
	bool found;

	guard(mutex)(&ctrl->lock);
	/* It may have been completed, or restarted, while this waited. */
	if (blk_mq_rq_state(rq) != MQ_RQ_IN_FLIGHT)
		return BLK_EH_DONE;
	if (time_before(jiffies, READ_ONCE(rq->deadline)))
		return BLK_EH_RESET_TIMER;
	/* PCI error recovery stops the controller, or lets it go on. */
	if (nvme_phys_in_recovery(ctrl))
		return BLK_EH_RESET_TIMER;

	found = nvme_phys_queue_poll(q);
	if (blk_mq_rq_state(rq) != MQ_RQ_IN_FLIGHT) {
		if (found && !q->polled)
			dev_warn(&ctrl->pdev->dev,
				 "queue %u: completion without interrupt\n",
				 q->id);
		return BLK_EH_DONE;
	}
	return nvme_phys_abort_or_reset(q, rq);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What happens to a controller while it has requests: it is slow, is reset, sleeps
 * or dies. What the controller is told, it is told under its life.
 *
 * No request is lost: who takes a controller its memory away completes what it
 * had. None is completed twice: the state of a request says whether the
 * controller has it, and changes once.
 */
#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/jiffies.h>

#include "nvme_phys.h"

/**
 * nvme_phys_quiesce() - keep requests away from the I/O queues
 * @ctrl: the controller
 *
 * When this returns none is being submitted.
 */
void nvme_phys_quiesce(struct nvme_phys *ctrl)
{
	lockdep_assert_held(&ctrl->life);
	if (ctrl->quiesced || !ctrl->tags.tags)
		return;
	blk_mq_quiesce_tagset(&ctrl->tags);
	ctrl->quiesced = true;
}

/**
 * nvme_phys_unquiesce() - let them come again
 * @ctrl: the controller; it runs, or is dead
 */
void nvme_phys_unquiesce(struct nvme_phys *ctrl)
{
	lockdep_assert_held(&ctrl->life);
	if (ctrl->quiesced)
		blk_mq_unquiesce_tagset(&ctrl->tags);
	ctrl->quiesced = false;
}

static bool count_in_flight(struct request *rq, void *data)
{
	unsigned int *count = data;

	*count += blk_mq_rq_state(rq) == MQ_RQ_IN_FLIGHT;
	return true;
}

/* Wait for what the controller has, but not for ever. */
static void drain(struct nvme_phys *ctrl)
{
	unsigned long end = jiffies + msecs_to_jiffies(NVME_PHYS_DRAIN_MS);
	unsigned int count;

	do {
		count = 0;
		blk_mq_tagset_busy_iter(&ctrl->tags, count_in_flight, &count);
		if (!count)
			return;
		fsleep(10 * USEC_PER_MSEC);
	} while (time_before(jiffies, end));
	dev_warn(&ctrl->pdev->dev, "%u requests are not done\n", count);
}

/* Nobody else completes it: the queues are quiesced, polled and out of reach. */
static bool take_back(struct request *rq, void *unused)
{
	struct nvme_phys_request *its = blk_mq_rq_to_pdu(rq);

	if (blk_mq_rq_state(rq) == MQ_RQ_IN_FLIGHT) {
		its->status = NVME_SC_HOST_ABORTED_CMD;
		blk_mq_set_request_complete(rq);
		nvme_phys_completed(rq);
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
 * nvme_phys_freeze() - have no request anywhere between a disk and its users
 * @ctrl: the controller, with its disks
 *
 * Quiesced queues may still hold requests, and a processor that goes offline
 * waits for those. Not under the controller's life, which a request that takes
 * too long needs.
 *
 * Return: 0, or -EBUSY where they are not done in time, and nothing is frozen.
 */
int nvme_phys_freeze(struct nvme_phys *ctrl)
{
	unsigned long left = msecs_to_jiffies(NVME_PHYS_DRAIN_MS);
	struct nvme_phys_ns *ns;

	list_for_each_entry(ns, &ctrl->namespaces, node)
		blk_freeze_queue_start_non_owner(ns->disk->queue);
	list_for_each_entry(ns, &ctrl->namespaces, node) {
		left = blk_mq_freeze_queue_wait_timeout(ns->disk->queue, left);
		if (!left) {
			nvme_phys_unfreeze(ctrl);
			return -EBUSY;
		}
	}
	return 0;
}

/**
 * nvme_phys_stop() - disable a controller, and take back what it has
 * @ctrl: the controller
 * @in_order: let it finish first, and save what it has
 *
 * Its requests are completed or wait to be tried again. The queues stay
 * quiesced.
 */
void nvme_phys_stop(struct nvme_phys *ctrl, bool in_order)
{
	nvme_phys_quiesce(ctrl);
	if (in_order && ctrl->running) {
		if (ctrl->tags.tags)
			drain(ctrl);
		nvme_phys_notify_shutdown(ctrl);
	}
	nvme_phys_disable(ctrl);
	if (!ctrl->tags.tags)
		return;

	/* What it has completed, is. */
	for (unsigned int i = 0; i < ctrl->queues; i++)
		nvme_phys_queue_poll(&ctrl->io[i]);
	blk_mq_tagset_busy_iter(&ctrl->tags, take_back, NULL);
}

/**
 * nvme_phys_restart() - enable a controller that was stopped
 * @ctrl: the controller
 *
 * One that did not obey when it was stopped, or that firmware has enabled since,
 * may not master the bus until it says that it is disabled: it would go on with
 * commands whose memory is somebody else's by now.
 *
 * Return: 0, or an error, with the controller disabled.
 */
int nvme_phys_restart(struct nvme_phys *ctrl)
{
	unsigned int count;
	int err;

	err = nvme_phys_disable(ctrl);
	err = err ?: nvme_phys_enable(ctrl);
	if (!err)
		nvme_phys_enable_cmb(ctrl);
	err = err ?: nvme_phys_count_queues(ctrl, ctrl->queues, &count);
	if (!err && count < ctrl->queues)
		err = -ENOSPC;
	err = err ?: nvme_phys_create_queues(ctrl);
	if (err) {
		dev_err(&ctrl->pdev->dev, "cannot be started again: %d\n", err);
		nvme_phys_disable(ctrl);
	}
	return err;
}

/**
 * nvme_phys_reset() - stop a controller, and start it again
 * @ctrl: the controller
 *
 * What it had is tried again. Where it cannot be started it is dead.
 */
void nvme_phys_reset(struct nvme_phys *ctrl)
{
	dev_warn(&ctrl->pdev->dev, "resetting\n");
	nvme_phys_stop(ctrl, false);
	if (nvme_phys_restart(ctrl)) {
		nvme_phys_die(ctrl);
		return;
	}
	nvme_phys_unquiesce(ctrl);
	dev_info(&ctrl->pdev->dev, "reset done\n");
}

/**
 * nvme_phys_die() - give a controller up
 * @ctrl: the controller
 *
 * All its requests fail, from now on.
 */
void nvme_phys_die(struct nvme_phys *ctrl)
{
	if (ctrl->dead)
		return;
	dev_err(&ctrl->pdev->dev, "is dead\n");
	WRITE_ONCE(ctrl->dead, true);
	nvme_phys_stop(ctrl, false);
	nvme_phys_unquiesce(ctrl);
	/* In a context of its own: file systems have their say in it. */
	if (ctrl->live)
		schedule_work(&ctrl->dead_work);
}

/**
 * nvme_phys_mark_dead() - tell the disks of a dead controller
 * @ctrl: the controller, its list of namespaces complete
 */
void nvme_phys_mark_dead(struct nvme_phys *ctrl)
{
	struct nvme_phys_ns *ns;

	list_for_each_entry(ns, &ctrl->namespaces, node)
		blk_mark_disk_dead(ns->disk);
}

/* ---- A request that takes too long [5.1] ---- */

/* Zero where the controller has answered; that it could not is no failure. */
static int abort_command(struct nvme_phys_queue *q, struct request *rq)
{
	struct nvme_command cmd = {};

	cmd.abort.opcode = nvme_admin_abort_cmd;
	cmd.abort.sqid = cpu_to_le16(q->id);
	cmd.abort.cid = rq->tag;
	return nvme_phys_admin(q->ctrl, &cmd, NULL);
}

static enum blk_eh_timer_return abort_or_reset(struct nvme_phys_queue *q,
					       struct request *rq)
{
	struct nvme_phys_request *its = blk_mq_rq_to_pdu(rq);
	struct nvme_phys *ctrl = q->ctrl;
	u32 csts = readl(ctrl->regs + NVME_REG_CSTS);

	if (csts == U32_MAX) {
		nvme_phys_die(ctrl);
		return BLK_EH_DONE;
	}
	if (!(csts & NVME_CSTS_CFS) && csts & NVME_CSTS_RDY && !its->aborted) {
		its->aborted = true;
		dev_warn(&ctrl->pdev->dev,
			 "queue %u: request %u timed out, aborting\n", q->id,
			 rq->tag);
		if (!abort_command(q, rq))
			return BLK_EH_RESET_TIMER;
	}
	nvme_phys_reset(ctrl);
	return BLK_EH_DONE;
}

/**
 * nvme_phys_timeout() - a request takes too long
 * @rq: the request, which cannot be freed meanwhile
 *
 * Context: Process, sleeps.
 * Return: BLK_EH_DONE where it was completed, now or by somebody else,
 * BLK_EH_RESET_TIMER where it has more time.
 */
enum blk_eh_timer_return nvme_phys_timeout(struct request *rq)
{
	struct nvme_phys_queue *q = rq->mq_hctx->driver_data;
	struct nvme_phys *ctrl = q->ctrl;
	bool found;

	guard(mutex)(&ctrl->life);
	/* While this waited it may have been completed, or begun anew. */
	if (blk_mq_rq_state(rq) != MQ_RQ_IN_FLIGHT)
		return BLK_EH_DONE;
	if (time_before(jiffies, READ_ONCE(rq->deadline)))
		return BLK_EH_RESET_TIMER;

	found = nvme_phys_queue_poll(q);
	if (blk_mq_rq_state(rq) != MQ_RQ_IN_FLIGHT) {
		if (found)
			dev_warn(&ctrl->pdev->dev,
				 "queue %u: completion without interrupt\n",
				 q->id);
		return BLK_EH_DONE;
	}
	return abort_or_reset(q, rq);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Queue pairs [4.1]: entries go in, completions come out.
 */
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/slab.h>

#include "nvme_phys.h"

/**
 * struct done - completions that were taken off a queue
 * @batch: requests that succeeded, to be ended together
 * @rest: requests that are looked at one by one
 */
struct done {
	struct io_comp_batch batch;
	struct rq_list rest;
};

/* ---- Memory ---- */

/**
 * nvme_phys_queue_alloc() - get the memory of a queue pair
 * @ctrl: the controller, with its doorbells mapped
 * @q: the queue, zeroed
 * @id: its number
 * @depth: entries in each queue
 *
 * What was allocated before a failure goes with nvme_phys_queue_free().
 *
 * Return: 0 or -ENOMEM.
 */
int nvme_phys_queue_alloc(struct nvme_phys *ctrl, struct nvme_phys_queue *q,
			  unsigned int id, u32 depth)
{
	struct device *dev = &ctrl->pdev->dev;
	size_t stride = 4 << NVME_CAP_STRIDE(ctrl->cap);

	q->ctrl = ctrl;
	q->id = id;
	q->depth = depth;
	q->sq_db = ctrl->regs + NVME_REG_DBS + 2 * id * stride;
	q->cq_db = ctrl->regs + NVME_REG_DBS + (2 * id + 1) * stride;
	spin_lock_init(&q->sq_lock);
	spin_lock_init(&q->cq_lock);

	/* Coherent memory is aligned to a page, as queues must be. */
	q->sq = dma_alloc_coherent(dev, depth * sizeof(*q->sq), &q->sq_dma,
				   GFP_KERNEL);
	q->cq = dma_alloc_coherent(dev, depth * sizeof(*q->cq), &q->cq_dma,
				   GFP_KERNEL);
	return q->sq && q->cq ? 0 : -ENOMEM;
}

static int alloc_lists(struct nvme_phys_queue *q, u32 tags)
{
	struct device *dev = &q->ctrl->pdev->dev;
	struct nvme_phys_list first;

	for (u32 i = 0; i < tags; i += NVME_PHYS_LISTS) {
		first.addr = dma_alloc_coherent(dev, NVME_PHYS_LISTS *
						NVME_PHYS_LIST_BYTES,
						&first.dma, GFP_KERNEL);
		if (!first.addr)
			return -ENOMEM;

		for (u32 k = 0; k < NVME_PHYS_LISTS && i + k < tags; k++) {
			q->lists[i + k].addr = first.addr +
					       k * NVME_PHYS_LIST_BYTES;
			q->lists[i + k].dma = first.dma +
					      k * NVME_PHYS_LIST_BYTES;
		}
	}
	return 0;
}

/**
 * nvme_phys_queue_alloc_tags() - get what the requests of a queue need
 * @q: an I/O queue; the controller's limits are known
 *
 * All of it, so that no request allocates anything.
 *
 * Return: 0 or -ENOMEM; what was allocated goes with nvme_phys_queue_free().
 */
int nvme_phys_queue_alloc_tags(struct nvme_phys_queue *q)
{
	u32 tags = q->depth - 1;

	q->room = dma_phys_vec_room(&q->ctrl->pdev->dev, NVME_PHYS_MAX_SEGMENTS,
				    q->ctrl->max_transfer);
	q->segments = kvmalloc_array(tags, array_size(q->room,
						      sizeof(*q->segments)),
				     GFP_KERNEL);
	q->lists = kvzalloc_objs(*q->lists, tags);
	if (!q->segments || !q->lists)
		return -ENOMEM;
	return alloc_lists(q, tags);
}

static void free_lists(struct nvme_phys_queue *q)
{
	for (u32 i = 0; i < q->depth - 1 && q->lists[i].addr;
	     i += NVME_PHYS_LISTS)
		dma_free_coherent(&q->ctrl->pdev->dev,
				  NVME_PHYS_LISTS * NVME_PHYS_LIST_BYTES,
				  q->lists[i].addr, q->lists[i].dma);
}

/**
 * nvme_phys_queue_free() - give back the memory of a queue pair
 * @q: the queue, which the controller does not reach any more
 */
void nvme_phys_queue_free(struct nvme_phys_queue *q)
{
	struct device *dev;

	if (!q->ctrl)
		return;

	dev = &q->ctrl->pdev->dev;
	if (q->lists)
		free_lists(q);
	kvfree(q->lists);
	kvfree(q->segments);
	if (q->cq)
		dma_free_coherent(dev, q->depth * sizeof(*q->cq), q->cq,
				  q->cq_dma);
	if (q->sq)
		dma_free_coherent(dev, q->depth * sizeof(*q->sq), q->sq,
				  q->sq_dma);
}

/**
 * nvme_phys_queue_reset() - empty a queue pair, as a new one is
 * @q: the queue, which the controller does not reach
 */
void nvme_phys_queue_reset(struct nvme_phys_queue *q)
{
	/* An interrupt may still be on its way. */
	guard(spinlock_irq)(&q->cq_lock);
	memset(q->cq, 0, q->depth * sizeof(*q->cq));
	q->cq_head = 0;
	q->phase = 1;
	q->sq_tail = 0;
	q->sq_rung = 0;
}

/* ---- Submission ---- */

/* It has room: there are fewer commands than entries. */
static void push(struct nvme_phys_queue *q, const struct nvme_command *cmd)
{
	q->sq[q->sq_tail] = *cmd;
	if (++q->sq_tail == q->depth)
		q->sq_tail = 0;
}

static void ring(struct nvme_phys_queue *q)
{
	if (q->sq_rung == q->sq_tail)
		return;
	writel(q->sq_tail, q->sq_db);
	q->sq_rung = q->sq_tail;
}

/**
 * nvme_phys_queue_submit() - put a command into a queue
 * @q: the queue
 * @cmd: the command
 * @now: tell the controller; else nvme_phys_queue_ring() will
 */
void nvme_phys_queue_submit(struct nvme_phys_queue *q,
			    const struct nvme_command *cmd, bool now)
{
	guard(spinlock)(&q->sq_lock);
	push(q, cmd);
	if (now)
		ring(q);
}

/**
 * nvme_phys_queue_submit_all() - put many in, and tell the controller once
 * @q: the queue
 * @list: requests with their commands; empty afterwards
 */
void nvme_phys_queue_submit_all(struct nvme_phys_queue *q, struct rq_list *list)
{
	struct nvme_phys_request *its;
	struct request *rq;

	guard(spinlock)(&q->sq_lock);
	while ((rq = rq_list_pop(list))) {
		its = blk_mq_rq_to_pdu(rq);
		push(q, &its->cmd);
	}
	ring(q);
}

/**
 * nvme_phys_queue_ring() - tell the controller of commands it was not told of
 * @q: the queue
 */
void nvme_phys_queue_ring(struct nvme_phys_queue *q)
{
	guard(spinlock)(&q->sq_lock);
	ring(q);
}

/* ---- Completion ---- */

/*
 * A controller that completes what it was not given, or the same thing twice, is
 * not believed.
 */
static void take_request(struct nvme_phys_queue *q,
			 const struct nvme_completion *cqe, struct done *done)
{
	struct blk_mq_tags *tags = q->ctrl->tags.tags[q->id - 1];
	struct request *rq;
	struct nvme_phys_request *its;

	/* A queue that no processor uses has no tags. */
	rq = tags ? blk_mq_tag_to_rq(tags, cqe->command_id) : NULL;
	if (!rq || blk_mq_rq_state(rq) != MQ_RQ_IN_FLIGHT) {
		dev_warn_ratelimited(&q->ctrl->pdev->dev,
				     "queue %u completed %#x, which it has not\n",
				     q->id, cqe->command_id);
		return;
	}

	its = blk_mq_rq_to_pdu(rq);
	its->status = le16_to_cpu(cqe->status) >> 1;
	if (blk_mq_complete_request_remote(rq))
		return;
	if (!blk_mq_add_to_batch(rq, &done->batch, its->status,
				 nvme_phys_completed_batch))
		rq_list_add_tail(&done->rest, rq);
}

static void take_admin(struct nvme_phys *ctrl,
		       const struct nvme_completion *cqe)
{
	if (cqe->command_id != READ_ONCE(ctrl->admin_id)) {
		dev_warn_ratelimited(&ctrl->pdev->dev,
				     "admin queue completed %#x, which it has not\n",
				     cqe->command_id);
		return;
	}
	ctrl->admin_status = le16_to_cpu(cqe->status) >> 1;
	ctrl->admin_result = le32_to_cpu(cqe->result.u32);
	complete(&ctrl->admin_done);
}

static bool is_new(const struct nvme_phys_queue *q)
{
	u16 status = le16_to_cpu(READ_ONCE(q->cq[q->cq_head].status));

	return (status & 1) == q->phase;
}

/* All that is new, but no more than the queue holds. */
static bool take_all(struct nvme_phys_queue *q, struct done *done)
{
	u32 taken = 0;

	while (taken < q->depth && is_new(q)) {
		dma_rmb();	/* the entry is as new as its phase bit */
		if (q->id)
			take_request(q, &q->cq[q->cq_head], done);
		else
			take_admin(q->ctrl, &q->cq[q->cq_head]);
		if (++q->cq_head == q->depth) {
			q->cq_head = 0;
			q->phase ^= 1;
		}
		taken++;
	}
	if (taken)
		writel(q->cq_head, q->cq_db);
	return taken;
}

/* Outside of the lock, as it may take long. */
static void end_all(struct done *done)
{
	struct request *rq;

	if (!rq_list_empty(&done->batch.req_list))
		nvme_phys_completed_batch(&done->batch);
	while ((rq = rq_list_pop(&done->rest)))
		nvme_phys_completed(rq);
}

/**
 * nvme_phys_queue_poll() - look for completions without an interrupt
 * @q: the queue
 *
 * Context: Process, interrupts on.
 * Return: whether there were any.
 */
bool nvme_phys_queue_poll(struct nvme_phys_queue *q)
{
	struct done done = {};
	bool found;

	scoped_guard(spinlock_irq, &q->cq_lock)
		found = take_all(q, &done);
	end_all(&done);
	return found;
}

static irqreturn_t interrupt(int irq, void *data)
{
	struct nvme_phys_queue *q = data;
	struct done done = {};
	bool found;

	scoped_guard(spinlock, &q->cq_lock)
		found = take_all(q, &done);
	end_all(&done);
	return found ? IRQ_HANDLED : IRQ_NONE;
}

/**
 * nvme_phys_queue_irq() - have the interrupt of a queue handled
 * @q: the queue, empty
 *
 * Return: 0 or what pci_request_irq() returns.
 */
int nvme_phys_queue_irq(struct nvme_phys_queue *q)
{
	struct nvme_phys *ctrl = q->ctrl;
	int err;

	/* The last vector is shared where there are too few. */
	q->vector = min_t(u32, q->id, ctrl->vectors - 1);
	err = pci_request_irq(ctrl->pdev, q->vector, interrupt, NULL, q,
			      "%s%dq%u", KBUILD_MODNAME, ctrl->index, q->id);
	q->has_irq = !err;
	return err;
}

/**
 * nvme_phys_queue_free_irq() - the reverse
 * @q: the queue
 *
 * When this returns the handler runs no more.
 */
void nvme_phys_queue_free_irq(struct nvme_phys_queue *q)
{
	if (q->has_irq)
		pci_free_irq(q->ctrl->pdev, q->vector, q);
	q->has_irq = false;
}

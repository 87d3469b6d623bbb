// SPDX-License-Identifier: GPL-2.0
/*
 * Queue pairs [4.1]: submission of commands, handling of completions.
 */
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/slab.h>

#include "nvme_phys.h"

/**
 * struct nvme_phys_done - requests whose completions were read from a queue
 * @batch: requests that succeeded, to be ended together
 * @others: requests to be ended one by one
 */
struct nvme_phys_done {
	struct io_comp_batch batch;
	struct rq_list others;
};

/* ---- Memory ---- */

/**
 * nvme_phys_queue_alloc() - allocate a queue pair
 * @ctrl: the controller, with its doorbells mapped
 * @q: the queue, zeroed
 * @id: queue id
 * @depth: entries in each of the two queues
 *
 * What was allocated before a failure is freed by nvme_phys_queue_free().
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

	q->generations = kzalloc(depth, GFP_KERNEL);
	/* Coherent memory is page aligned, as queues must be. */
	q->sq = dma_alloc_coherent(dev, depth * sizeof(*q->sq), &q->sq_dma,
				   GFP_KERNEL);
	q->cq = dma_alloc_coherent(dev, depth * sizeof(*q->cq), &q->cq_dma,
				   GFP_KERNEL);
	if (!q->generations || !q->sq || !q->cq)
		return -ENOMEM;
	q->bytes = PAGE_ALIGN(depth * sizeof(*q->sq)) +
		   PAGE_ALIGN(depth * sizeof(*q->cq)) + depth;
	return 0;
}

/**
 * nvme_phys_queue_free() - free a queue pair
 * @q: the queue, which the controller no longer accesses
 */
void nvme_phys_queue_free(struct nvme_phys_queue *q)
{
	struct device *dev;

	if (!q->ctrl)
		return;

	dev = &q->ctrl->pdev->dev;
	nvme_phys_free_lists(q);
	if (q->cq)
		dma_free_coherent(dev, q->depth * sizeof(*q->cq), q->cq,
				  q->cq_dma);
	if (q->sq)
		dma_free_coherent(dev, q->depth * sizeof(*q->sq), q->sq,
				  q->sq_dma);
	kfree(q->generations);
}

/**
 * nvme_phys_queue_reset() - empty a queue pair
 * @q: the queue, which the controller does not access
 */
void nvme_phys_queue_reset(struct nvme_phys_queue *q)
{
	/* The interrupt handler may still run. */
	guard(spinlock_irq)(&q->cq_lock);
	memset(q->cq, 0, q->depth * sizeof(*q->cq));
	q->cq_head = 0;
	q->phase = 1;
	q->sq_tail = 0;
	q->last_sq_tail = 0;
}

/* ---- Submission ---- */

/**
 * nvme_phys_queue_next_id() - choose the id of a new command
 * @q: the queue
 * @tag: tag of the command, which no other command of the queue has
 *
 * Return: the id, see NVME_PHYS_TAG_BITS.
 */
u16 nvme_phys_queue_next_id(struct nvme_phys_queue *q, u32 tag)
{
	u16 generation = ++q->generations[tag] % NVME_PHYS_GENERATIONS;

	return tag | generation << NVME_PHYS_TAG_BITS;
}

/* The queue is never full: there are fewer tags than entries. */
static void nvme_phys_queue_push(struct nvme_phys_queue *q,
				 const struct nvme_command *cmd)
{
	q->sq[q->sq_tail] = *cmd;
	if (++q->sq_tail == q->depth)
		q->sq_tail = 0;
}

static void nvme_phys_queue_write_sq_db(struct nvme_phys_queue *q)
{
	if (q->last_sq_tail == q->sq_tail)
		return;
	writel(q->sq_tail, q->sq_db);
	q->last_sq_tail = q->sq_tail;
}

/**
 * nvme_phys_queue_submit() - queue a command
 * @q: the queue
 * @cmd: the command
 * @last: ring the doorbell; else nvme_phys_queue_ring() does it later
 */
void nvme_phys_queue_submit(struct nvme_phys_queue *q,
			    const struct nvme_command *cmd, bool last)
{
	guard(spinlock)(&q->sq_lock);
	nvme_phys_queue_push(q, cmd);
	if (last)
		nvme_phys_queue_write_sq_db(q);
}

/**
 * nvme_phys_queue_submit_list() - queue many commands, and ring the doorbell
 * @q: the queue
 * @list: requests with their commands, not started; empty afterwards
 *
 * A completion may end a request once it is started, so it is removed from the
 * list before that.
 */
void nvme_phys_queue_submit_list(struct nvme_phys_queue *q,
				 struct rq_list *list)
{
	struct nvme_phys_request *nreq;
	struct request *rq;

	guard(spinlock)(&q->sq_lock);
	while ((rq = rq_list_pop(list))) {
		nreq = blk_mq_rq_to_pdu(rq);
		nvme_phys_start_rq(q, rq);
		nvme_phys_queue_push(q, &nreq->cmd);
	}
	nvme_phys_queue_write_sq_db(q);
}

/**
 * nvme_phys_queue_ring() - ring the doorbell if there are new commands
 * @q: the queue
 */
void nvme_phys_queue_ring(struct nvme_phys_queue *q)
{
	guard(spinlock)(&q->sq_lock);
	nvme_phys_queue_write_sq_db(q);
}

/* ---- Completion ---- */

/* The controller does not have the command: an old one, or none of this id. */
static void nvme_phys_queue_ignore_cqe(struct nvme_phys_queue *q,
				       const struct nvme_completion *cqe)
{
	q->ignored++;
	dev_warn_ratelimited(&q->ctrl->pdev->dev,
			     "queue %u: completion of unknown command %#x ignored (%u so far)\n",
			     q->id, cqe->command_id, q->ignored);
}

static u32 nvme_phys_queue_cqe_tag(const struct nvme_completion *cqe)
{
	return cqe->command_id % NVME_PHYS_MAX_DEPTH;
}

/* Other fields of the status have a meaning only if there is an error. */
static u16 nvme_phys_queue_cqe_status(const struct nvme_completion *cqe)
{
	u16 status = le16_to_cpu(cqe->status) >> 1;

	return status & NVME_SCT_SC_MASK ? status : NVME_SC_SUCCESS;
}

/* The request of a completion, or NULL if it is not in flight. */
static struct request *nvme_phys_queue_find_rq(struct nvme_phys_queue *q,
					       const struct nvme_completion *cqe)
{
	struct blk_mq_tags **tags = q->ctrl->tags.tags;
	struct nvme_phys_request *nreq;
	struct request *rq;

	/* No tags yet, or a queue to which no CPU is mapped. */
	if (!tags || !tags[q->id - 1])
		return NULL;
	rq = blk_mq_tag_to_rq(tags[q->id - 1], nvme_phys_queue_cqe_tag(cqe));
	if (!rq || blk_mq_rq_state(rq) != MQ_RQ_IN_FLIGHT)
		return NULL;
	nreq = blk_mq_rq_to_pdu(rq);
	return nreq->cmd.common.command_id == cqe->command_id ? rq : NULL;
}

static void nvme_phys_queue_handle_cqe(struct nvme_phys_queue *q,
				       const struct nvme_completion *cqe,
				       struct nvme_phys_done *done)
{
	struct request *rq = nvme_phys_queue_find_rq(q, cqe);
	struct nvme_phys_request *nreq;

	if (unlikely(!rq)) {
		nvme_phys_queue_ignore_cqe(q, cqe);
		return;
	}

	nreq = blk_mq_rq_to_pdu(rq);
	nreq->status = nvme_phys_queue_cqe_status(cqe);
	if (blk_mq_complete_request_remote(rq))
		return;
	if (!blk_mq_add_to_batch(rq, &done->batch, nreq->status,
				 nvme_phys_complete_batch))
		rq_list_add_tail(&done->others, rq);
}

static void nvme_phys_queue_handle_admin_cqe(struct nvme_phys_queue *q,
					     const struct nvme_completion *cqe)
{
	u32 tag = nvme_phys_queue_cqe_tag(cqe);
	struct nvme_phys_slot *slot = NULL;

	if (tag < NVME_PHYS_SLOTS)
		slot = &q->ctrl->slots[tag];
	if (!slot || !slot->pending || slot->id != cqe->command_id) {
		nvme_phys_queue_ignore_cqe(q, cqe);
		return;
	}
	slot->pending = false;
	slot->status = nvme_phys_queue_cqe_status(cqe);
	slot->result = le32_to_cpu(cqe->result.u32);
	complete(&slot->done);
}

static bool nvme_phys_queue_cqe_pending(const struct nvme_phys_queue *q)
{
	u16 status = le16_to_cpu(READ_ONCE(q->cq[q->cq_head].status));

	return (status & 1) == q->phase;
}

/* Handle all new entries, but no more than the queue has. */
static bool nvme_phys_queue_poll_cq(struct nvme_phys_queue *q,
				    struct nvme_phys_done *done)
{
	u32 count = 0;

	while (count < q->depth && nvme_phys_queue_cqe_pending(q)) {
		dma_rmb();	/* read the entry after its phase bit */
		if (q->id)
			nvme_phys_queue_handle_cqe(q, &q->cq[q->cq_head], done);
		else
			nvme_phys_queue_handle_admin_cqe(q, &q->cq[q->cq_head]);
		if (++q->cq_head == q->depth) {
			q->cq_head = 0;
			q->phase ^= 1;
		}
		count++;
	}
	if (count)
		writel(q->cq_head, q->cq_db);
	return count;
}

/* Called without the lock, since ending requests may take long. */
static void nvme_phys_queue_end_done(struct nvme_phys_done *done)
{
	struct request *rq;

	if (!rq_list_empty(&done->batch.req_list))
		nvme_phys_complete_batch(&done->batch);
	while ((rq = rq_list_pop(&done->others)))
		nvme_phys_complete_rq(rq);
}

/**
 * nvme_phys_queue_poll() - handle completions without an interrupt
 * @q: the queue
 *
 * Context: Process, interrupts on.
 * Return: true if there were any.
 */
bool nvme_phys_queue_poll(struct nvme_phys_queue *q)
{
	struct nvme_phys_done done = {};
	bool found;

	scoped_guard(spinlock_irq, &q->cq_lock)
		found = nvme_phys_queue_poll_cq(q, &done);
	nvme_phys_queue_end_done(&done);
	return found;
}

static irqreturn_t nvme_phys_queue_irq(int irq, void *data)
{
	struct nvme_phys_queue *q = data;
	struct nvme_phys_done done = {};
	bool found;

	scoped_guard(spinlock, &q->cq_lock)
		found = nvme_phys_queue_poll_cq(q, &done);
	nvme_phys_queue_end_done(&done);
	return found ? IRQ_HANDLED : IRQ_NONE;
}

/**
 * nvme_phys_queue_request_irq() - request the interrupt of a queue
 * @q: the queue, empty
 *
 * A queue that is polled has none.
 *
 * Return: 0 or an error of pci_request_irq().
 */
int nvme_phys_queue_request_irq(struct nvme_phys_queue *q)
{
	struct nvme_phys *ctrl = q->ctrl;
	int err;

	if (q->polled)
		return 0;
	/* If there are too few vectors, queues share the last one. */
	q->vector = min_t(u32, q->id, ctrl->vectors - 1);
	err = pci_request_irq(ctrl->pdev, q->vector, nvme_phys_queue_irq, NULL,
			      q, "%s%dq%u", KBUILD_MODNAME, ctrl->index, q->id);
	q->has_irq = !err;
	return err;
}

/**
 * nvme_phys_queue_free_irq() - the reverse of nvme_phys_queue_request_irq()
 * @q: the queue
 *
 * When this returns the handler no longer runs.
 */
void nvme_phys_queue_free_irq(struct nvme_phys_queue *q)
{
	if (q->has_irq)
		pci_free_irq(q->ctrl->pdev, q->vector, q);
	q->has_irq = false;
}

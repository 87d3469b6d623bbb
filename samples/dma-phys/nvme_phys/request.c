// SPDX-License-Identifier: GPL-2.0
/*
 * Requests of disks.
 *
 * queue_rq() maps the data of a request and submits a command. The data is
 * unmapped when the request is completed: by the controller, or by the driver
 * after it has disabled the controller.
 */
#include <linux/bitfield.h>

#include "nvme_phys.h"

/* ---- Commands [6] ---- */

static u64 nvme_phys_lba(const struct nvme_phys_ns *ns,
			 const struct request *rq)
{
	return blk_rq_pos(rq) >> (ns->shift - SECTOR_SHIFT);
}

static u32 nvme_phys_blocks(const struct nvme_phys_ns *ns,
			    const struct request *rq)
{
	return blk_rq_bytes(rq) >> ns->shift;
}

static void nvme_phys_set_rw(const struct nvme_phys_ns *ns,
			     const struct request *rq, u8 opcode,
			     struct nvme_command *cmd)
{
	u16 control = rq->cmd_flags & REQ_FUA ? NVME_RW_FUA : 0;

	cmd->rw = (struct nvme_rw_command){
		.opcode = opcode,
		.nsid = cpu_to_le32(ns->id),
		.slba = cpu_to_le64(nvme_phys_lba(ns, rq)),
		.length = cpu_to_le16(nvme_phys_blocks(ns, rq) - 1),
		.control = cpu_to_le16(control),
	};
}

static void nvme_phys_set_write_zeroes(const struct nvme_phys_ns *ns,
				       struct request *rq,
				       struct nvme_command *cmd)
{
	nvme_phys_set_rw(ns, rq, nvme_cmd_write_zeroes, cmd);
	if (ns->deallocate && !(rq->cmd_flags & REQ_NOUNMAP))
		cmd->write_zeroes.control |= cpu_to_le16(NVME_WZ_DEAC);
	if (ns->metadata)
		nvme_phys_set_pi_zeroes(ns, rq, cmd);
}

static void nvme_phys_set_flush(const struct nvme_phys_ns *ns,
				const struct request *rq,
				struct nvme_command *cmd)
{
	cmd->common = (struct nvme_common_command){
		.opcode = nvme_cmd_flush,
		.nsid = cpu_to_le32(ns->id),
	};
}

static blk_status_t nvme_phys_set_discard(const struct nvme_phys_ns *ns,
					  struct nvme_phys_queue *q,
					  const struct request *rq,
					  struct nvme_phys_request *nreq)
{
	struct nvme_dsm_range *range;

	if (nvme_phys_get_list(q, &nreq->list, sizeof(*range)))
		return BLK_STS_RESOURCE;
	range = nreq->list.addr;
	range->cattr = 0;
	range->nlb = cpu_to_le32(nvme_phys_blocks(ns, rq));
	range->slba = cpu_to_le64(nvme_phys_lba(ns, rq));
	nreq->cmd.dsm = (struct nvme_dsm_cmd){
		.opcode = nvme_cmd_dsm,
		.nsid = cpu_to_le32(ns->id),
		.dptr.prp1 = cpu_to_le64(nreq->list.dma),
		.attributes = cpu_to_le32(NVME_DSMGMT_AD),
	};
	return BLK_STS_OK;
}

/* passthru.c has set the command of a program, except for its data. */
static noinline blk_status_t nvme_phys_set_io_cmd(struct nvme_phys_queue *q,
						  struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	/* An earlier map with SGL descriptors has set it. */
	nreq->cmd.common.flags = 0;
	return rq->bio ? nvme_phys_map_data(q, rq) : BLK_STS_OK;
}

static blk_status_t nvme_phys_set_command(struct nvme_phys_queue *q,
					  struct request *rq)
{
	const struct nvme_phys_ns *ns = rq->q->queuedata;
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	switch (req_op(rq)) {
	case REQ_OP_READ:
		nvme_phys_set_rw(ns, rq, nvme_cmd_read, &nreq->cmd);
		if (unlikely(ns->metadata))
			return nvme_phys_map_with_metadata(ns, q, rq);
		return nvme_phys_map_data(q, rq);
	case REQ_OP_WRITE:
		nvme_phys_set_rw(ns, rq, nvme_cmd_write, &nreq->cmd);
		if (unlikely(ns->metadata))
			return nvme_phys_map_with_metadata(ns, q, rq);
		return nvme_phys_map_data(q, rq);
	case REQ_OP_FLUSH:
		nvme_phys_set_flush(ns, rq, &nreq->cmd);
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
		return nvme_phys_set_discard(ns, q, rq, nreq);
	case REQ_OP_WRITE_ZEROES:
		nvme_phys_set_write_zeroes(ns, rq, &nreq->cmd);
		return BLK_STS_OK;
	case REQ_OP_DRV_IN:
	case REQ_OP_DRV_OUT:
		return nvme_phys_set_io_cmd(q, rq);
	default:
		return BLK_STS_NOTSUPP;
	}
}

/* ---- Submission ---- */

/* All that is done for a request before it is started and its command queued. */
static blk_status_t nvme_phys_prep_rq(struct nvme_phys_queue *q,
				      struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	blk_status_t status;

	if (unlikely(nvme_phys_has_failed(q->ctrl)))
		return BLK_STS_IOERR;

	/* The flag stays set if the request is requeued. */
	if (!(rq->rq_flags & RQF_DONTPREP)) {
		rq->rq_flags |= RQF_DONTPREP;
		nreq->attempts = 0;
	}
	nreq->aborted = false;

	status = nvme_phys_set_command(q, rq);
	if (unlikely(status))
		return status;
	nreq->cmd.common.command_id = nvme_phys_queue_next_id(q, rq->tag);
	return BLK_STS_OK;
}

static blk_status_t nvme_phys_queue_rq(struct blk_mq_hw_ctx *hctx,
				       const struct blk_mq_queue_data *bd)
{
	struct nvme_phys_queue *q = hctx->driver_data;
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(bd->rq);
	blk_status_t status = nvme_phys_prep_rq(q, bd->rq);

	if (likely(!status)) {
		nvme_phys_start_rq(q, bd->rq);
		nvme_phys_queue_submit(q, &nreq->cmd, bd->last);
	}
	return status;
}

/*
 * The requests of a plug. Those that cannot be submitted stay in the list: the
 * block layer passes them to queue_rq() one by one.
 */
static void nvme_phys_queue_rqs(struct rq_list *list)
{
	struct rq_list ready = {}, failed = {};
	struct nvme_phys_queue *q = NULL;
	struct request *rq;

	while ((rq = rq_list_pop(list))) {
		struct nvme_phys_queue *next = rq->mq_hctx->driver_data;

		if (q && q != next)
			nvme_phys_queue_submit_list(q, &ready);
		q = next;
		rq_list_add_tail(nvme_phys_prep_rq(q, rq) ? &failed : &ready,
				 rq);
	}
	if (q)
		nvme_phys_queue_submit_list(q, &ready);
	*list = failed;
}

static void nvme_phys_commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	nvme_phys_queue_ring(hctx->driver_data);
}

/* ---- Completion ---- */

static blk_status_t nvme_phys_error_status(u16 status)
{
	switch (status & NVME_SCT_SC_MASK) {
	case NVME_SC_SUCCESS:
		return BLK_STS_OK;
	case NVME_SC_UNWRITTEN_BLOCK:
	case NVME_SC_WRITE_FAULT:
	case NVME_SC_READ_ERROR:
	case NVME_SC_COMPARE_FAILED:
	case NVME_SC_ACCESS_DENIED:
	case NVME_SC_READ_ONLY:
		return BLK_STS_MEDIUM;
	case NVME_SC_GUARD_CHECK:
	case NVME_SC_APPTAG_CHECK:
	case NVME_SC_REFTAG_CHECK:
	case NVME_SC_INVALID_PI:
		return BLK_STS_PROTECTION;
	case NVME_SC_LBA_RANGE:
	case NVME_SC_CMD_INTERRUPTED:
	case NVME_SC_NS_NOT_READY:
		return BLK_STS_TARGET;
	case NVME_SC_INVALID_OPCODE:
	case NVME_SC_INVALID_FIELD:
	case NVME_SC_INVALID_NS:
	case NVME_SC_BAD_ATTRIBUTES:
		return BLK_STS_NOTSUPP;
	case NVME_SC_RESERVATION_CONFLICT:
		return BLK_STS_RESV_CONFLICT;
	case NVME_SC_CAP_EXCEEDED:
		return BLK_STS_NOSPC;
	case NVME_SC_HOST_PATH_ERROR:
		return BLK_STS_TRANSPORT;
	default:
		return BLK_STS_IOERR;
	}
}

/* DNR is set for permanent errors. */
static bool nvme_phys_should_retry(struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	if (blk_noretry_request(rq) || nreq->status & NVME_STATUS_DNR)
		return false;
	return ++nreq->attempts <= NVME_PHYS_MAX_RETRIES;
}

/*
 * The controller may ask for a delay. Once the request is in the list it may be
 * queued again and end. A reference to the queue makes the removal of the disk
 * wait until the work is started here. Removal then cancels it.
 */
static void nvme_phys_retry_rq(struct nvme_phys *ctrl, struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	u16 crd = FIELD_GET(NVME_STATUS_CRD, nreq->status);
	struct request_queue *queue = rq->q;

	percpu_ref_get(&queue->q_usage_counter);
	blk_mq_requeue_request(rq, false);
	blk_mq_delay_kick_requeue_list(queue, ctrl->retry_ms[crd]);
	percpu_ref_put(&queue->q_usage_counter);
}

static void nvme_phys_unmap_rq(struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	dma_phys_sg_unmap(&nreq->sg);
	if (unlikely(blk_integrity_rq(rq)))
		nvme_phys_unmap_metadata(rq->mq_hctx->driver_data, rq);
	if (nreq->list.addr)
		nvme_phys_put_list(rq->mq_hctx->driver_data, &nreq->list);
}

/**
 * nvme_phys_complete_rq() - end a request, or retry it
 * @rq: the request, with its status; the controller no longer has the command
 */
void nvme_phys_complete_rq(struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	struct nvme_phys_queue *q = rq->mq_hctx->driver_data;

	nvme_phys_unmap_rq(rq);
	if (likely(!nreq->status))
		blk_mq_end_request(rq, BLK_STS_OK);
	else if (nvme_phys_has_failed(q->ctrl))
		blk_mq_end_request(rq, BLK_STS_IOERR);
	else if (nvme_phys_should_retry(rq))
		nvme_phys_retry_rq(q->ctrl, rq);
	else
		blk_mq_end_request(rq, nvme_phys_error_status(nreq->status));
}

/**
 * nvme_phys_complete_batch() - end requests that succeeded
 * @batch: the requests
 */
void nvme_phys_complete_batch(struct io_comp_batch *batch)
{
	struct request *rq;

	rq_list_for_each(&batch->req_list, rq)
		nvme_phys_unmap_rq(rq);
	blk_mq_end_request_batch(batch);
}

/* ---- Tags ---- */

static int nvme_phys_init_hctx(struct blk_mq_hw_ctx *hctx, void *data,
			       unsigned int i)
{
	struct nvme_phys *ctrl = data;

	hctx->driver_data = &ctrl->io[i];
	return 0;
}

static int nvme_phys_init_request(struct blk_mq_tag_set *set,
				  struct request *rq, unsigned int hctx_idx,
				  int numa_node)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	struct nvme_phys *ctrl = set->driver_data;

	nreq->sg.pool = ctrl->io[hctx_idx].pool;
	return 0;
}

static int nvme_phys_poll(struct blk_mq_hw_ctx *hctx,
			  struct io_comp_batch *batch)
{
	return nvme_phys_queue_poll(hctx->driver_data);
}

/*
 * A queue serves the CPUs to which its interrupt is bound. Polled queues have
 * no interrupt: all CPUs are spread over them.
 */
static void nvme_phys_map_queues(struct blk_mq_tag_set *set)
{
	struct nvme_phys *ctrl = set->driver_data;
	struct blk_mq_queue_map *map = &set->map[HCTX_TYPE_DEFAULT];

	map->nr_queues = ctrl->queues - ctrl->polled;
	if (ctrl->vectors > map->nr_queues)
		blk_mq_map_hw_queues(map, &ctrl->pdev->dev, 1);
	else
		blk_mq_map_queues(map);
	if (!ctrl->polled)
		return;
	/* Reads have no queues of their own. */
	set->map[HCTX_TYPE_READ].nr_queues = 0;
	map = &set->map[HCTX_TYPE_POLL];
	map->queue_offset = ctrl->queues - ctrl->polled;
	map->nr_queues = ctrl->polled;
	blk_mq_map_queues(map);
}

static const struct blk_mq_ops nvme_phys_mq_ops = {
	.queue_rq = nvme_phys_queue_rq,
	.queue_rqs = nvme_phys_queue_rqs,
	.commit_rqs = nvme_phys_commit_rqs,
	.complete = nvme_phys_complete_rq,
	.timeout = nvme_phys_timeout,
	.init_hctx = nvme_phys_init_hctx,
	.init_request = nvme_phys_init_request,
	.map_queues = nvme_phys_map_queues,
	.poll = nvme_phys_poll,
};

/**
 * nvme_phys_alloc_tags() - allocate the tag set that all disks share
 * @ctrl: the controller, with its I/O queues
 *
 * Return: 0 or an error of blk_mq_alloc_tag_set().
 */
int nvme_phys_alloc_tags(struct nvme_phys *ctrl)
{
	struct blk_mq_tag_set *set = &ctrl->tags;

	set->ops = &nvme_phys_mq_ops;
	set->nr_hw_queues = ctrl->queues;
	/* A map for polled queues sets BLK_FEAT_POLL of the disks. */
	set->nr_maps = ctrl->polled ? HCTX_MAX_TYPES : 1;
	/* A queue with all entries in use would look empty. */
	set->queue_depth = ctrl->io[0].depth - 1;
	set->cmd_size = sizeof(struct nvme_phys_request);
	set->numa_node = dev_to_node(&ctrl->pdev->dev);
	set->timeout = NVME_PHYS_IO_SECONDS * HZ;
	set->driver_data = ctrl;
	return blk_mq_alloc_tag_set(set);
}

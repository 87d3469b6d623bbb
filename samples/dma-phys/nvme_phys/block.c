// SPDX-License-Identifier: GPL-2.0
/*
 * Disks and their requests.
 *
 * queue_rq() maps the data of a request and submits a command. The data is
 * unmapped when the request is completed: by the controller, or by the driver
 * after it has disabled the controller.
 */
#include <linux/blkdev.h>
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>

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
		.command_id = rq->tag,
		.nsid = cpu_to_le32(ns->id),
		.slba = cpu_to_le64(nvme_phys_lba(ns, rq)),
		.length = cpu_to_le16(nvme_phys_blocks(ns, rq) - 1),
		.control = cpu_to_le16(control),
	};
}

static void nvme_phys_set_write_zeroes(const struct nvme_phys_ns *ns,
				       const struct request *rq,
				       struct nvme_command *cmd)
{
	nvme_phys_set_rw(ns, rq, nvme_cmd_write_zeroes, cmd);
	if (ns->deallocate && !(rq->cmd_flags & REQ_NOUNMAP))
		cmd->write_zeroes.control |= cpu_to_le16(NVME_WZ_DEAC);
}

static void nvme_phys_set_flush(const struct nvme_phys_ns *ns,
				const struct request *rq,
				struct nvme_command *cmd)
{
	cmd->common = (struct nvme_common_command){
		.opcode = nvme_cmd_flush,
		.command_id = rq->tag,
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
		.command_id = rq->tag,
		.nsid = cpu_to_le32(ns->id),
		.dptr.prp1 = cpu_to_le64(nreq->list.dma),
		.attributes = cpu_to_le32(NVME_DSMGMT_AD),
	};
	return BLK_STS_OK;
}

static blk_status_t nvme_phys_set_command(struct nvme_phys_queue *q,
					  struct request *rq)
{
	const struct nvme_phys_ns *ns = rq->q->queuedata;
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	switch (req_op(rq)) {
	case REQ_OP_READ:
		nvme_phys_set_rw(ns, rq, nvme_cmd_read, &nreq->cmd);
		return nvme_phys_map_data(q, rq);
	case REQ_OP_WRITE:
		nvme_phys_set_rw(ns, rq, nvme_cmd_write, &nreq->cmd);
		return nvme_phys_map_data(q, rq);
	case REQ_OP_FLUSH:
		nvme_phys_set_flush(ns, rq, &nreq->cmd);
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
		return nvme_phys_set_discard(ns, q, rq, nreq);
	case REQ_OP_WRITE_ZEROES:
		nvme_phys_set_write_zeroes(ns, rq, &nreq->cmd);
		return BLK_STS_OK;
	default:
		return BLK_STS_NOTSUPP;
	}
}

/* ---- Submission ---- */

/* All that is done for a request before its command is queued. */
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
	if (likely(!status))
		blk_mq_start_request(rq);
	return status;
}

static blk_status_t nvme_phys_queue_rq(struct blk_mq_hw_ctx *hctx,
				       const struct blk_mq_queue_data *bd)
{
	struct nvme_phys_queue *q = hctx->driver_data;
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(bd->rq);
	blk_status_t status = nvme_phys_prep_rq(q, bd->rq);

	if (likely(!status))
		nvme_phys_queue_submit(q, &nreq->cmd, bd->last);
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
	case NVME_SC_INVALID_OPCODE:
	case NVME_SC_INVALID_FIELD:
		return BLK_STS_NOTSUPP;
	case NVME_SC_CAP_EXCEEDED:
		return BLK_STS_NOSPC;
	case NVME_SC_LBA_RANGE:
		return BLK_STS_TARGET;
	case NVME_SC_HOST_ABORTED_CMD:
		return BLK_STS_TIMEOUT;
	default:
		return BLK_STS_IOERR;
	}
}

static bool nvme_phys_should_retry(struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	if (nreq->status & NVME_STATUS_DNR)
		return false;
	nreq->attempts++;
	switch (nreq->status & NVME_SCT_SC_MASK) {
	case NVME_SC_WRITE_FAULT:
	case NVME_SC_READ_ERROR:
		/* Media errors are permanent. */
		return false;
	case NVME_SC_HOST_ABORTED_CMD:
		return nreq->attempts < NVME_PHYS_MAX_ABORTS;
	default:
		return nreq->attempts <= NVME_PHYS_MAX_RETRIES;
	}
}

static void nvme_phys_unmap_rq(struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	dma_phys_sg_unmap(&nreq->sg);
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
		blk_mq_requeue_request(rq, true);
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

/* A queue serves the CPUs to which its interrupt is bound. */
static void nvme_phys_map_queues(struct blk_mq_tag_set *set)
{
	struct nvme_phys *ctrl = set->driver_data;
	struct blk_mq_queue_map *map = &set->map[HCTX_TYPE_DEFAULT];

	if (ctrl->vectors > ctrl->queues)
		blk_mq_map_hw_queues(map, &ctrl->pdev->dev, 1);
	else
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
	/* A queue with all entries in use would look empty. */
	set->queue_depth = ctrl->io[0].depth - 1;
	set->cmd_size = sizeof(struct nvme_phys_request);
	set->numa_node = dev_to_node(&ctrl->pdev->dev);
	set->timeout = NVME_PHYS_IO_SECONDS * HZ;
	set->driver_data = ctrl;
	return blk_mq_alloc_tag_set(set);
}

/* ---- Disks ---- */

static void nvme_phys_free_disk(struct gendisk *disk)
{
	struct nvme_phys_ns *ns = disk->private_data;

	nvme_phys_put(ns->ctrl);
	kfree(ns);
}

static const struct block_device_operations nvme_phys_disk_ops = {
	.owner = THIS_MODULE,
	.ioctl = nvme_phys_ioctl,
	.compat_ioctl = blkdev_compat_ptr_ioctl,
	.free_disk = nvme_phys_free_disk,
};

static struct queue_limits nvme_phys_limits(const struct nvme_phys *ctrl,
					    u8 shift)
{
	struct queue_limits lim = {
		.logical_block_size = 1U << shift,
		.dma_alignment = 3,
		.max_hw_sectors = round_down(ctrl->max_transfer, 1U << shift) >>
				  SECTOR_SHIFT,
		.max_segments = NVME_PHYS_MAX_SEGMENTS,
		.max_segment_size = UINT_MAX,
		.virt_boundary_mask = ctrl->sgl ? 0 : ctrl->page_size - 1,
	};

	if (ctrl->write_cache)
		lim.features |= BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA;
	if (dma_pci_p2pdma_supported(&ctrl->pdev->dev))
		lim.features |= BLK_FEAT_PCI_P2PDMA;
	if (ctrl->discard) {
		lim.max_hw_discard_sectors = UINT_MAX >> SECTOR_SHIFT;
		lim.max_discard_segments = 1;
		lim.discard_granularity = 1U << shift;
	}
	/* MDTS does not apply, but a command should not take long. */
	if (ctrl->write_zeroes)
		lim.max_write_zeroes_sectors = lim.max_hw_sectors;
	return lim;
}

static bool nvme_phys_ns_is_supported(const struct nvme_phys *ctrl, u32 nsid,
				      const struct nvme_id_ns *id, u8 shift,
				      u16 metadata)
{
	u64 size = le64_to_cpu(id->nsze);

	if (shift <= ilog2(ctrl->max_transfer) &&
	    !blk_validate_block_size(1UL << shift) &&
	    !metadata && size && size <= LLONG_MAX >> shift)
		return true;
	dev_warn(&ctrl->pdev->dev,
		 "namespace %u: %llu blocks of 2^%u bytes and %u of metadata\n",
		 nsid, size, shift, metadata);
	return false;
}

static void nvme_phys_init_disk(struct nvme_phys_ns *ns,
				const struct nvme_id_ns *id)
{
	struct gendisk *disk = ns->disk;

	/* Deallocated blocks read as 0, and Write Zeroes may deallocate. */
	ns->deallocate = (id->dlfeat & 7) == 1 && id->dlfeat & BIT(3);
	snprintf(disk->disk_name, sizeof(disk->disk_name), "cnvme%dn%u",
		 ns->ctrl->index, ns->id);
	disk->fops = &nvme_phys_disk_ops;
	disk->private_data = ns;
	set_capacity(disk, le64_to_cpu(id->nsze) <<
			   (ns->shift - SECTOR_SHIFT));
	if (id->nsattr & NVME_NS_ATTR_RO)
		set_disk_ro(disk, true);
}

/* A namespace that is not supported is skipped. */
static int nvme_phys_alloc_ns(struct nvme_phys *ctrl, u32 nsid,
			      const struct nvme_id_ns *id)
{
	const struct nvme_lbaf *lbaf = &id->lbaf[nvme_lbaf_index(id->flbas)];
	struct queue_limits lim;
	struct nvme_phys_ns *ns;

	if (!nvme_phys_ns_is_supported(ctrl, nsid, id, lbaf->ds,
				       le16_to_cpu(lbaf->ms)))
		return 0;
	ns = kzalloc_obj(*ns);
	if (!ns)
		return -ENOMEM;

	lim = nvme_phys_limits(ctrl, lbaf->ds);
	ns->id = nsid;
	ns->shift = lbaf->ds;
	ns->disk = blk_mq_alloc_disk(&ctrl->tags, &lim, ns);
	if (IS_ERR(ns->disk)) {
		int err = PTR_ERR(ns->disk);

		kfree(ns);
		return err;
	}
	kref_get(&ctrl->ref);
	ns->ctrl = ctrl;
	nvme_phys_init_disk(ns, id);
	list_add_tail(&ns->node, &ctrl->namespaces);
	return 0;
}

static int nvme_phys_scan_ns(struct nvme_phys *ctrl, u32 nsid)
{
	struct nvme_id_ns *id __free(kfree) = kmalloc(NVME_PHYS_ADMIN_BYTES,
						      GFP_KERNEL);
	int err;

	if (!id)
		return -ENOMEM;
	scoped_guard(mutex, &ctrl->lock)
		err = nvme_phys_identify(ctrl, NVME_ID_CNS_NS, nsid, id);
	if (err > 0) {
		dev_warn(&ctrl->pdev->dev, "namespace %u: status %#x\n", nsid,
			 err);
		return 0;
	}
	return err ?: nvme_phys_alloc_ns(ctrl, nsid, id);
}

/* A list has the ids above the given one in order, and ends with 0. */
static int nvme_phys_scan(struct nvme_phys *ctrl)
{
	__le32 *list __free(kfree) = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
	const size_t max = NVME_IDENTIFY_DATA_SIZE / sizeof(*list);
	u32 nsid = 0;
	size_t i;
	int err;

	if (!list)
		return -ENOMEM;
	do {
		scoped_guard(mutex, &ctrl->lock)
			err = nvme_phys_identify(ctrl,
						 NVME_ID_CNS_NS_ACTIVE_LIST,
						 nsid, list);
		for (i = 0; !err && i < max && list[i]; i++) {
			if (le32_to_cpu(list[i]) <= nsid)
				return -EPROTO;
			nsid = le32_to_cpu(list[i]);
			err = nvme_phys_scan_ns(ctrl, nsid);
		}
	} while (!err && i == max && nsid < NVME_NSID_ALL - 1);
	return err > 0 ? -EIO : err;
}

/**
 * nvme_phys_add_disks() - add a disk for each namespace
 * @ctrl: the controller, with its queues
 *
 * All disks are allocated before the first one is added. The requests of a disk
 * may cause a reset, and a reset walks the list of namespaces.
 *
 * Return: 0, or an error of nvme_phys_admin_read() or device_add_disk(): then
 * remove the disks.
 */
int nvme_phys_add_disks(struct nvme_phys *ctrl)
{
	struct nvme_phys_ns *ns;
	int err;

	err = nvme_phys_scan(ctrl);
	list_for_each_entry(ns, &ctrl->namespaces, node)
		err = err ?: device_add_disk(&ctrl->pdev->dev, ns->disk, NULL);
	return err;
}

/**
 * nvme_phys_remove_disks() - remove all disks of a controller
 * @ctrl: the controller; it runs, so that requests complete, or has failed
 */
void nvme_phys_remove_disks(struct nvme_phys *ctrl)
{
	struct nvme_phys_ns *ns, *next;

	list_for_each_entry_safe(ns, next, &ctrl->namespaces, node) {
		struct gendisk *disk = ns->disk;
		bool added = disk_live(disk);

		list_del(&ns->node);
		if (added)
			del_gendisk(disk);
		put_disk(disk);
		/* free_disk() is not called for a disk that was not added. */
		if (!added) {
			nvme_phys_put(ns->ctrl);
			kfree(ns);
		}
	}
}

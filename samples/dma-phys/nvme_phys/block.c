// SPDX-License-Identifier: GPL-2.0
/*
 * Disks, and what becomes of their requests.
 *
 * A request is mapped, described and submitted in queue_rq(), and unmapped when
 * it is completed, by the controller or by who took the controller its memory
 * away.
 */
#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>

#include "nvme_phys.h"

/* ---- Where the data is [4.3, 4.4] ---- */

/* Two entries do for data that lies in two pages: a part, and the next. */
static bool two_prps(const struct nvme_phys *ctrl,
		     const struct dma_phys_vec *vec, union nvme_data_ptr *dptr)
{
	u32 page = ctrl->page_size;
	const struct dma_phys_segment *first = &vec->segments[0];
	size_t part = page - (first->addr & (page - 1));
	u64 second = 0;

	if (first->addr & 3)	/* the last two bits are not address */
		return false;
	if (vec->count == 1) {
		if (first->len > part + page)
			return false;
		if (first->len > part)
			second = first->addr + part;
	} else {
		const struct dma_phys_segment *next = &vec->segments[1];

		if (vec->count != 2 || first->len != part ||
		    next->addr & (page - 1) || next->len > page)
			return false;
		second = next->addr;
	}
	dptr->prp1 = cpu_to_le64(first->addr);
	dptr->prp2 = cpu_to_le64(second);
	return true;
}

static struct nvme_sgl_desc sgl_desc(u64 addr, u32 len, u8 type)
{
	return (struct nvme_sgl_desc){
		.addr = cpu_to_le64(addr),
		.length = cpu_to_le32(len),
		.type = type << 4,
	};
}

static bool set_sgl(const struct dma_phys_vec *vec,
		    const struct nvme_phys_list *list, struct nvme_command *cmd)
{
	struct nvme_sgl_desc *descs = list->addr;
	size_t bytes = vec->count * sizeof(*descs);

	cmd->common.flags = NVME_CMD_SGL_METABUF;
	if (vec->count == 1) {
		cmd->common.dptr.sgl = sgl_desc(vec->segments[0].addr,
						vec->segments[0].len,
						NVME_SGL_FMT_DATA_DESC);
		return true;
	}
	if (bytes > NVME_PHYS_LIST_BYTES)
		return false;
	for (size_t i = 0; i < vec->count; i++)
		descs[i] = sgl_desc(vec->segments[i].addr,
				    vec->segments[i].len,
				    NVME_SGL_FMT_DATA_DESC);
	cmd->common.dptr.sgl = sgl_desc(list->dma, bytes,
					NVME_SGL_FMT_LAST_SEG_DESC);
	return true;
}

/*
 * The first entry may start inside a page, and the last page need not be filled.
 * That the pages between them are whole was promised by the queue's limits and
 * the device's, and is looked at all the same.
 */
static bool set_prps(const struct nvme_phys *ctrl,
		     const struct dma_phys_vec *vec,
		     const struct nvme_phys_list *list,
		     union nvme_data_ptr *dptr)
{
	u32 page = ctrl->page_size;
	__le64 *prps = list->addr;
	size_t n = 0;

	if (vec->segments[0].addr & 3)
		return false;
	for (size_t i = 0; i < vec->count; i++) {
		u64 addr = vec->segments[i].addr;
		u64 end = addr + vec->segments[i].len;

		if (i && addr & (page - 1))
			return false;
		if (i + 1 < vec->count && end & (page - 1))
			return false;
		if (!i) {
			dptr->prp1 = cpu_to_le64(addr);
			addr = ALIGN_DOWN(addr, page) + page;
		}
		for (; addr < end; addr += page) {
			if (n == NVME_PHYS_LIST_BYTES / sizeof(*prps))
				return false;
			prps[n++] = cpu_to_le64(addr);
		}
	}
	dptr->prp2 = cpu_to_le64(list->dma);
	return true;
}

static blk_status_t status_of_map(int err)
{
	switch (err) {
	case 0:
		return BLK_STS_OK;
	case -EAGAIN:
	case -ENOMEM:
		return BLK_STS_RESOURCE;
	case -EREMOTEIO:
		return BLK_STS_TARGET;
	default:
		return BLK_STS_IOERR;
	}
}

static blk_status_t map_data(struct nvme_phys_queue *q, struct request *rq)
{
	struct nvme_phys_request *its = blk_mq_rq_to_pdu(rq);
	const struct nvme_phys_list *list = &q->lists[rq->tag];
	struct nvme_command *cmd = &its->cmd;
	struct nvme_phys *ctrl = q->ctrl;
	int err;

	its->vec.segments = q->segments + rq->tag * q->room;
	its->vec.room = q->room;
	err = dma_phys_vec_map_request(&ctrl->pdev->dev, rq, 0, &its->vec);
	if (err)
		return status_of_map(err);

	if (two_prps(ctrl, &its->vec, &cmd->common.dptr) ||
	    (ctrl->sgl ? set_sgl(&its->vec, list, cmd) :
			 set_prps(ctrl, &its->vec, list, &cmd->common.dptr)))
		return BLK_STS_OK;

	dma_phys_vec_unmap(&its->vec);
	return BLK_STS_IOERR;
}

/* ---- Commands [6] ---- */

static u64 first_block(const struct nvme_phys_ns *ns, const struct request *rq)
{
	return blk_rq_pos(rq) >> (ns->shift - SECTOR_SHIFT);
}

static u32 blocks(const struct nvme_phys_ns *ns, const struct request *rq)
{
	return blk_rq_bytes(rq) >> ns->shift;
}

static void set_blocks(const struct nvme_phys_ns *ns, const struct request *rq,
		       u8 opcode, struct nvme_command *cmd)
{
	u16 control = rq->cmd_flags & REQ_FUA ? NVME_RW_FUA : 0;

	cmd->rw = (struct nvme_rw_command){
		.opcode = opcode,
		.command_id = rq->tag,
		.nsid = cpu_to_le32(ns->id),
		.slba = cpu_to_le64(first_block(ns, rq)),
		.length = cpu_to_le16(blocks(ns, rq) - 1),
		.control = cpu_to_le16(control),
	};
}

static void set_write_zeroes(const struct nvme_phys_ns *ns,
			     const struct request *rq, struct nvme_command *cmd)
{
	set_blocks(ns, rq, nvme_cmd_write_zeroes, cmd);
	if (ns->deallocate && !(rq->cmd_flags & REQ_NOUNMAP))
		cmd->write_zeroes.control |= cpu_to_le16(NVME_WZ_DEAC);
}

static void set_flush(const struct nvme_phys_ns *ns, const struct request *rq,
		      struct nvme_command *cmd)
{
	cmd->common = (struct nvme_common_command){
		.opcode = nvme_cmd_flush,
		.command_id = rq->tag,
		.nsid = cpu_to_le32(ns->id),
	};
}

static void set_discard(const struct nvme_phys_ns *ns, const struct request *rq,
			const struct nvme_phys_list *list,
			struct nvme_command *cmd)
{
	struct nvme_dsm_range *range = list->addr;

	range->cattr = 0;
	range->nlb = cpu_to_le32(blocks(ns, rq));
	range->slba = cpu_to_le64(first_block(ns, rq));
	cmd->dsm = (struct nvme_dsm_cmd){
		.opcode = nvme_cmd_dsm,
		.command_id = rq->tag,
		.nsid = cpu_to_le32(ns->id),
		.dptr.prp1 = cpu_to_le64(list->dma),
		.attributes = cpu_to_le32(NVME_DSMGMT_AD),
	};
}

static blk_status_t set_command(struct nvme_phys_queue *q, struct request *rq)
{
	const struct nvme_phys_ns *ns = rq->q->queuedata;
	struct nvme_phys_request *its = blk_mq_rq_to_pdu(rq);

	switch (req_op(rq)) {
	case REQ_OP_READ:
		set_blocks(ns, rq, nvme_cmd_read, &its->cmd);
		return map_data(q, rq);
	case REQ_OP_WRITE:
		set_blocks(ns, rq, nvme_cmd_write, &its->cmd);
		return map_data(q, rq);
	case REQ_OP_FLUSH:
		set_flush(ns, rq, &its->cmd);
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
		set_discard(ns, rq, &q->lists[rq->tag], &its->cmd);
		return BLK_STS_OK;
	case REQ_OP_WRITE_ZEROES:
		set_write_zeroes(ns, rq, &its->cmd);
		return BLK_STS_OK;
	default:
		return BLK_STS_NOTSUPP;
	}
}

/* ---- Requests in ---- */

/* All that a request needs before its command goes to the queue. */
static blk_status_t prepare(struct nvme_phys_queue *q, struct request *rq)
{
	struct nvme_phys_request *its = blk_mq_rq_to_pdu(rq);
	blk_status_t status;

	if (unlikely(nvme_phys_is_dead(q->ctrl)))
		return BLK_STS_IOERR;

	/* The flag stays with a request that is queued again. */
	if (!(rq->rq_flags & RQF_DONTPREP)) {
		rq->rq_flags |= RQF_DONTPREP;
		its->tries = 0;
	}
	its->aborted = false;

	status = set_command(q, rq);
	if (likely(!status))
		blk_mq_start_request(rq);
	return status;
}

static blk_status_t queue_rq(struct blk_mq_hw_ctx *hctx,
			     const struct blk_mq_queue_data *bd)
{
	struct nvme_phys_queue *q = hctx->driver_data;
	struct nvme_phys_request *its = blk_mq_rq_to_pdu(bd->rq);
	blk_status_t status = prepare(q, bd->rq);

	if (likely(!status))
		nvme_phys_queue_submit(q, &its->cmd, bd->last);
	return status;
}

/*
 * A plug's worth of requests of one disk. What is left in the list the block
 * layer gives to queue_rq(), one by one, to be told why.
 */
static void queue_rqs(struct rq_list *list)
{
	struct rq_list ready = {}, left = {};
	struct nvme_phys_queue *q = NULL;
	struct request *rq;

	while ((rq = rq_list_pop(list))) {
		struct nvme_phys_queue *its = rq->mq_hctx->driver_data;

		if (q && q != its)
			nvme_phys_queue_submit_all(q, &ready);
		q = its;
		rq_list_add_tail(prepare(q, rq) ? &left : &ready, rq);
	}
	if (q)
		nvme_phys_queue_submit_all(q, &ready);
	*list = left;
}

static void commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	nvme_phys_queue_ring(hctx->driver_data);
}

/* ---- Requests out ---- */

static blk_status_t status_of_command(u16 status)
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

static bool is_worth_a_try(struct request *rq)
{
	struct nvme_phys_request *its = blk_mq_rq_to_pdu(rq);

	if (its->status & NVME_STATUS_DNR)
		return false;
	its->tries++;
	switch (its->status & NVME_SCT_SC_MASK) {
	case NVME_SC_WRITE_FAULT:
	case NVME_SC_READ_ERROR:
		/* What the medium has lost does not come back. */
		return false;
	case NVME_SC_HOST_ABORTED_CMD:
		return its->tries < NVME_PHYS_TRIES;
	default:
		return its->tries <= NVME_PHYS_RETRIES;
	}
}

static struct nvme_phys *ctrl_of(struct request *rq)
{
	struct nvme_phys_queue *q = rq->mq_hctx->driver_data;

	return q->ctrl;
}

/**
 * nvme_phys_completed() - end a request, or have it tried again
 * @rq: the request, with its status; the controller is done with it
 */
void nvme_phys_completed(struct request *rq)
{
	struct nvme_phys_request *its = blk_mq_rq_to_pdu(rq);

	dma_phys_vec_unmap(&its->vec);
	if (likely(!its->status))
		blk_mq_end_request(rq, BLK_STS_OK);
	else if (nvme_phys_is_dead(ctrl_of(rq)))
		blk_mq_end_request(rq, BLK_STS_IOERR);
	else if (is_worth_a_try(rq))
		blk_mq_requeue_request(rq, true);
	else
		blk_mq_end_request(rq, status_of_command(its->status));
}

/**
 * nvme_phys_completed_batch() - end requests that succeeded
 * @batch: the requests
 */
void nvme_phys_completed_batch(struct io_comp_batch *batch)
{
	struct nvme_phys_request *its;
	struct request *rq;

	rq_list_for_each(&batch->req_list, rq) {
		its = blk_mq_rq_to_pdu(rq);
		dma_phys_vec_unmap(&its->vec);
	}
	blk_mq_end_request_batch(batch);
}

/* ---- Tags ---- */

static int init_hctx(struct blk_mq_hw_ctx *hctx, void *data, unsigned int i)
{
	struct nvme_phys *ctrl = data;

	hctx->driver_data = &ctrl->io[i];
	return 0;
}

/* A queue serves the CPUs that its interrupt is bound to. */
static void map_queues(struct blk_mq_tag_set *set)
{
	struct nvme_phys *ctrl = set->driver_data;
	struct blk_mq_queue_map *map = &set->map[HCTX_TYPE_DEFAULT];

	if (ctrl->vectors > ctrl->queues)
		blk_mq_map_hw_queues(map, &ctrl->pdev->dev, 1);
	else
		blk_mq_map_queues(map);
}

static const struct blk_mq_ops mq_ops = {
	.queue_rq = queue_rq,
	.queue_rqs = queue_rqs,
	.commit_rqs = commit_rqs,
	.complete = nvme_phys_completed,
	.timeout = nvme_phys_timeout,
	.init_hctx = init_hctx,
	.map_queues = map_queues,
};

/**
 * nvme_phys_alloc_tags() - get what all disks of a controller share
 * @ctrl: the controller, with its I/O queues
 *
 * Return: 0 or as blk_mq_alloc_tag_set().
 */
int nvme_phys_alloc_tags(struct nvme_phys *ctrl)
{
	struct blk_mq_tag_set *set = &ctrl->tags;

	set->ops = &mq_ops;
	set->nr_hw_queues = ctrl->queues;
	/* A queue with all entries used would look empty. */
	set->queue_depth = ctrl->io[0].depth - 1;
	set->cmd_size = sizeof(struct nvme_phys_request);
	set->numa_node = dev_to_node(&ctrl->pdev->dev);
	set->timeout = NVME_PHYS_IO_SECONDS * HZ;
	set->driver_data = ctrl;
	return blk_mq_alloc_tag_set(set);
}

/* ---- Disks ---- */

static void free_disk(struct gendisk *disk)
{
	struct nvme_phys_ns *ns = disk->private_data;

	nvme_phys_put(ns->ctrl);
	kfree(ns);
}

static const struct block_device_operations disk_ops = {
	.owner = THIS_MODULE,
	.ioctl = nvme_phys_ioctl,
	.compat_ioctl = blkdev_compat_ptr_ioctl,
	.free_disk = free_disk,
};

static struct queue_limits limits(const struct nvme_phys *ctrl, u8 shift)
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
	/* MDTS is no limit here, but a command should not take long. */
	if (ctrl->write_zeroes)
		lim.max_write_zeroes_sectors = lim.max_hw_sectors;
	return lim;
}

static bool is_usable(const struct nvme_phys *ctrl, u32 nsid,
		      const struct nvme_id_ns *id, u8 shift, u16 metadata)
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

static void use_namespace(struct nvme_phys_ns *ns, const struct nvme_id_ns *id)
{
	struct gendisk *disk = ns->disk;

	/* Deallocated blocks read as zeroes, and Write Zeroes may make them. */
	ns->deallocate = (id->dlfeat & 7) == 1 && id->dlfeat & BIT(3);
	snprintf(disk->disk_name, sizeof(disk->disk_name), "cnvme%dn%u",
		 ns->ctrl->index, ns->id);
	disk->fops = &disk_ops;
	disk->private_data = ns;
	set_capacity(disk, le64_to_cpu(id->nsze) <<
			   (ns->shift - SECTOR_SHIFT));
	if (id->nsattr & NVME_NS_ATTR_RO)
		set_disk_ro(disk, true);
}

/* One that is of no use to us is no failure. */
static int alloc_namespace(struct nvme_phys *ctrl, u32 nsid,
			   const struct nvme_id_ns *id)
{
	const struct nvme_lbaf *lbaf = &id->lbaf[nvme_lbaf_index(id->flbas)];
	struct queue_limits lim;
	struct nvme_phys_ns *ns;

	if (!is_usable(ctrl, nsid, id, lbaf->ds, le16_to_cpu(lbaf->ms)))
		return 0;
	ns = kzalloc_obj(*ns);
	if (!ns)
		return -ENOMEM;

	lim = limits(ctrl, lbaf->ds);
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
	use_namespace(ns, id);
	list_add_tail(&ns->node, &ctrl->namespaces);
	return 0;
}

static int scan_namespace(struct nvme_phys *ctrl, u32 nsid)
{
	struct nvme_id_ns *id __free(kfree) = kmalloc(NVME_PHYS_ADMIN_BYTES,
						      GFP_KERNEL);
	int err;

	if (!id)
		return -ENOMEM;
	scoped_guard(mutex, &ctrl->life)
		err = nvme_phys_identify(ctrl, NVME_ID_CNS_NS, nsid, id);
	if (err > 0) {
		dev_warn(&ctrl->pdev->dev, "namespace %u: status %#x\n", nsid,
			 err);
		return 0;
	}
	return err ?: alloc_namespace(ctrl, nsid, id);
}

/* The list has the ids above the one asked for, and ends with 0. */
static int scan(struct nvme_phys *ctrl)
{
	__le32 *list __free(kfree) = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
	const size_t most = NVME_IDENTIFY_DATA_SIZE / sizeof(*list);
	u32 nsid = 0;
	size_t i;
	int err;

	if (!list)
		return -ENOMEM;
	do {
		scoped_guard(mutex, &ctrl->life)
			err = nvme_phys_identify(ctrl,
						 NVME_ID_CNS_NS_ACTIVE_LIST,
						 nsid, list);
		for (i = 0; !err && i < most && list[i]; i++) {
			if (le32_to_cpu(list[i]) <= nsid)
				return -EPROTO;
			nsid = le32_to_cpu(list[i]);
			err = scan_namespace(ctrl, nsid);
		}
	} while (!err && i == most && nsid < NVME_NSID_ALL - 1);
	return err > 0 ? -EIO : err;
}

/**
 * nvme_phys_add_disks() - find the namespaces, and make a disk of each
 * @ctrl: the controller, with its queues
 *
 * All are allocated before the first one is added, and may cause a reset: that
 * finds the same disks at its begin and its end.
 *
 * Return: 0, as nvme_phys_admin_read() or as device_add_disk(); then remove the
 * disks.
 */
int nvme_phys_add_disks(struct nvme_phys *ctrl)
{
	struct nvme_phys_ns *ns;
	int err;

	err = scan(ctrl);
	list_for_each_entry(ns, &ctrl->namespaces, node)
		err = err ?: device_add_disk(&ctrl->pdev->dev, ns->disk, NULL);
	return err;
}

/**
 * nvme_phys_remove_disks() - remove all disks of a controller
 * @ctrl: the controller, which still does what they are busy with, or is dead
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
		/* free_disk() is for those that were added. */
		if (!added) {
			nvme_phys_put(ns->ctrl);
			kfree(ns);
		}
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Mapping of the data of requests, and its description for the controller [4.3,
 * 4.4].
 *
 * The command itself describes data in two pages and, with SGL descriptors, any
 * single segment. Other requests have a list of descriptors. It is allocated
 * while the command is built, and freed at completion: 256 bytes for up to 16
 * segments or 32 pages, else 4 KiB. A dma_pool keeps its memory for later lists.
 */
#include <linux/blk-mq-dma-phys.h>
#include <linux/dma-mapping.h>

#include "nvme_phys.h"

/* ---- Descriptor lists ---- */

/**
 * nvme_phys_alloc_lists() - prepare an I/O queue for requests with data
 * @q: the queue; the limits of the controller are known
 *
 * What was allocated before a failure is freed by nvme_phys_free_lists().
 *
 * Return: 0 or -ENOMEM.
 */
int nvme_phys_alloc_lists(struct nvme_phys_queue *q)
{
	struct device *dev = &q->ctrl->pdev->dev;

	q->pool = dma_phys_pool_create(dev, NVME_PHYS_MAX_SEGMENTS,
				       q->ctrl->max_transfer);
	/* A list is aligned to its size: PRP lists may not cross a page. */
	q->small_lists = dma_pool_create("nvme_phys small", dev,
					 NVME_PHYS_SMALL_LIST,
					 NVME_PHYS_SMALL_LIST, 0);
	q->large_lists = dma_pool_create("nvme_phys large", dev,
					 NVME_PHYS_LARGE_LIST,
					 NVME_PHYS_LARGE_LIST, 0);
	if (!q->pool || !q->small_lists || !q->large_lists)
		return -ENOMEM;

	q->reserve.size = NVME_PHYS_LARGE_LIST;
	q->reserve.addr = dma_pool_alloc(q->large_lists, GFP_KERNEL,
					 &q->reserve.dma);
	if (!q->reserve.addr)
		return -ENOMEM;
	q->bytes += PAGE_SIZE;
	return 0;
}

/**
 * nvme_phys_free_lists() - the reverse of nvme_phys_alloc_lists()
 * @q: the queue; all its requests are completed
 */
void nvme_phys_free_lists(struct nvme_phys_queue *q)
{
	nvme_phys_free_metadata(q);
	if (q->reserve.addr)
		dma_pool_free(q->large_lists, q->reserve.addr, q->reserve.dma);
	dma_pool_destroy(q->large_lists);
	dma_pool_destroy(q->small_lists);
	dma_phys_pool_destroy(q->pool);
}

/**
 * nvme_phys_get_list() - allocate a descriptor list
 * @q: the I/O queue of the command
 * @list: the list; its size is as large as needed or larger
 * @size: length in bytes that is needed
 *
 * One request of a queue may use the reserve, so that requests are always
 * completed and others retried.
 *
 * Return: 0, -ENOMEM, or -E2BIG if no list is that large.
 */
int nvme_phys_get_list(struct nvme_phys_queue *q, struct nvme_phys_list *list,
		       size_t size)
{
	bool small = size <= NVME_PHYS_SMALL_LIST;

	if (size > NVME_PHYS_LARGE_LIST)
		return -E2BIG;

	list->size = small ? NVME_PHYS_SMALL_LIST : NVME_PHYS_LARGE_LIST;
	list->addr = dma_pool_alloc(small ? q->small_lists : q->large_lists,
				    GFP_ATOMIC | __GFP_NOWARN, &list->dma);
	if (likely(list->addr))
		return 0;
	if (test_and_set_bit_lock(NVME_PHYS_RESERVE_BUSY, &q->flags))
		return -ENOMEM;
	*list = q->reserve;
	return 0;
}

/**
 * nvme_phys_put_list() - free a descriptor list
 * @q: the I/O queue of the command, which the controller has completed or has
 *	not got
 * @list: the list; empty afterwards
 */
void nvme_phys_put_list(struct nvme_phys_queue *q, struct nvme_phys_list *list)
{
	if (unlikely(list->addr == q->reserve.addr))
		clear_bit_unlock(NVME_PHYS_RESERVE_BUSY, &q->flags);
	else
		dma_pool_free(list->size == NVME_PHYS_SMALL_LIST ?
			      q->small_lists : q->large_lists, list->addr,
			      list->dma);
	list->addr = NULL;
}

/* Move descriptors to a larger list. */
static int nvme_phys_grow_list(struct nvme_phys_queue *q,
			       struct nvme_phys_list *list)
{
	struct nvme_phys_list larger;
	int err;

	err = nvme_phys_get_list(q, &larger, list->size + 1);
	if (err)
		return err;
	memcpy(larger.addr, list->addr, list->size);
	nvme_phys_put_list(q, list);
	*list = larger;
	return 0;
}

/* ---- SGL descriptors [4.4] ---- */

/*
 * Mapping splits segments at the limits of the device and of bounce buffers, so
 * that there may be more of them than the block layer has counted.
 */
static int nvme_phys_set_sgl(struct nvme_phys_queue *q, struct request *rq,
			     const struct dma_phys_segment segments[2],
			     struct blk_dma_phys_iter *iter, int more)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	union nvme_data_ptr *dptr = &nreq->cmd.common.dptr;
	struct nvme_sgl_desc *descs;
	size_t count = 2;
	int err;

	nreq->cmd.common.flags = NVME_CMD_SGL_METABUF;
	if (segments[0].len == nreq->sg.size) {
		dptr->sgl = nvme_phys_sgl_data(segments[0].addr,
					       segments[0].len);
		return 0;
	}

	err = nvme_phys_get_list(q, &nreq->list, blk_rq_nr_phys_segments(rq) *
						 sizeof(*descs));
	if (err)
		return err;
	descs = nreq->list.addr;
	for (size_t i = 0; i < count; i++)
		descs[i] = nvme_phys_sgl_data(segments[i].addr,
					      segments[i].len);
	while (more > 0) {
		if (count * sizeof(*descs) == nreq->list.size) {
			err = nvme_phys_grow_list(q, &nreq->list);
			if (err)
				return err;
			descs = nreq->list.addr;
		}
		descs[count++] = nvme_phys_sgl_data(iter->sg.addr,
						    iter->sg.len);
		more = blk_rq_dma_phys_map_next(&nreq->sg, iter);
	}
	dptr->sgl = nvme_phys_sgl_desc(nreq->list.dma, count * sizeof(*descs),
				       NVME_SGL_FMT_LAST_SEG_DESC);
	return more;
}

/* ---- PRP entries [4.3] ---- */

/* PRP1 and PRP2 describe data in two pages: the rest of one, and another. */
static __always_inline bool
nvme_phys_set_two_prps(const struct nvme_phys *ctrl,
		       const struct dma_phys_segment segments[2], size_t size,
		       union nvme_data_ptr *dptr)
{
	u64 mask = ctrl->page_size - 1;
	u64 addr = segments[0].addr;
	u64 rest = ctrl->page_size - (addr & mask);
	u64 second = 0;

	/* Bits 0 and 1 of an entry are reserved. */
	if (addr & 3 || size > rest + ctrl->page_size)
		return false;
	if (segments[0].len == size) {
		if (size > rest)
			second = addr + rest;
	} else {
		second = segments[1].addr;
		if (segments[0].len != rest || second & mask ||
		    segments[1].len != size - rest)
			return false;
	}
	dptr->prp1 = cpu_to_le64(addr);
	dptr->prp2 = cpu_to_le64(second);
	return true;
}

/**
 * struct nvme_phys_prp_list - a PRP list that is being written
 * @entries: the list
 * @count: entries that are written
 * @max: entries that it holds
 * @end: DMA address after the last byte that is described
 * @page_size: bytes that an entry describes
 */
struct nvme_phys_prp_list {
	__le64 *entries;
	size_t count;
	size_t max;
	u64 end;
	u32 page_size;
};

/*
 * Pages between the first and the last one are whole: the limits of the queue
 * and of the device ensure that. Check it anyway, or the wrong bytes move.
 */
static int nvme_phys_add_prps(struct nvme_phys_prp_list *list, u64 addr,
			      u64 len)
{
	if ((list->end | addr) & (list->page_size - 1))
		return -EINVAL;
	list->end = addr + len;
	for (; addr < list->end; addr += list->page_size) {
		if (list->count == list->max)
			return -E2BIG;
		list->entries[list->count++] = cpu_to_le64(addr);
	}
	return 0;
}

static int nvme_phys_set_prps(struct nvme_phys_queue *q,
			      struct nvme_phys_request *nreq,
			      const struct dma_phys_segment segments[2],
			      struct blk_dma_phys_iter *iter, int more)
{
	u32 page_size = q->ctrl->page_size;
	u64 addr = segments[0].addr;
	u64 rest = min(page_size - (addr & (page_size - 1)), segments[0].len);
	struct nvme_phys_prp_list list = {
		.max = DIV_ROUND_UP(nreq->sg.size - rest, page_size),
		.end = addr + rest,
		.page_size = page_size,
	};
	int err;

	if (addr & 3)
		return -EINVAL;
	err = nvme_phys_get_list(q, &nreq->list,
				 list.max * sizeof(*list.entries));
	if (err)
		return err;
	list.entries = nreq->list.addr;

	if (segments[0].len > rest)
		err = nvme_phys_add_prps(&list, list.end,
					 segments[0].len - rest);
	if (!err && segments[0].len < nreq->sg.size)
		err = nvme_phys_add_prps(&list, segments[1].addr,
					 segments[1].len);
	while (!err && more > 0) {
		err = nvme_phys_add_prps(&list, iter->sg.addr, iter->sg.len);
		if (!err)
			more = blk_rq_dma_phys_map_next(&nreq->sg, iter);
	}
	nreq->cmd.common.dptr.prp1 = cpu_to_le64(addr);
	nreq->cmd.common.dptr.prp2 = cpu_to_le64(nreq->list.dma);
	return err ?: more;
}

/* ---- Requests ---- */

static void nvme_phys_warn_no_path(struct nvme_phys *ctrl)
{
	if (!atomic_xchg(&ctrl->path_warned, 1))
		dev_warn(&ctrl->pdev->dev,
			 "no P2P path to a peer, request refused\n");
}

/**
 * nvme_phys_map_status() - the block status for the result of a map
 * @ctrl: the controller
 * @err: 0 or an errno
 *
 * Return: the status, see nvme_phys_map_data().
 */
blk_status_t nvme_phys_map_status(struct nvme_phys *ctrl, int err)
{
	switch (err) {
	case 0:
		return BLK_STS_OK;
	case -EAGAIN:
	case -EIO:	/* Legacy ops do not tell why. */
	case -ENOMEM:
		/* blk-mq runs the queue again, if need be after a delay. */
		return BLK_STS_RESOURCE;
	case -EREMOTEIO:
		nvme_phys_warn_no_path(ctrl);
		fallthrough;
	case -EINVAL:
		/* The request is at fault, not the disk: md keeps its member. */
		return BLK_STS_INVAL;
	default:
		return BLK_STS_IOERR;
	}
}

/*
 * Map the first two segments, or the only one. Return 1 if the iterator has a
 * third one, 0 if that is all, or -errno.
 */
static __always_inline int
nvme_phys_first_segments(struct nvme_phys_queue *q, struct request *rq,
			 struct dma_phys_segment segments[2],
			 struct blk_dma_phys_iter *iter)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	int more;

	more = blk_rq_dma_phys_map_start(&q->ctrl->pdev->dev, rq, 0, &nreq->sg,
					 iter);
	if (unlikely(more < 0))
		return more;
	segments[0].addr = iter->sg.addr;
	segments[0].len = iter->sg.len;
	if (segments[0].len == nreq->sg.size)
		return 0;

	more = blk_rq_dma_phys_map_next(&nreq->sg, iter);
	if (more < 0)
		return more;
	segments[1].addr = iter->sg.addr;
	segments[1].len = iter->sg.len;
	if (segments[0].len + segments[1].len == nreq->sg.size)
		return 0;
	return blk_rq_dma_phys_map_next(&nreq->sg, iter);
}

/**
 * nvme_phys_unmap_data() - unmap data of a command that was not submitted
 * @q: the I/O queue
 * @nreq: the request; its list is freed
 */
void nvme_phys_unmap_data(struct nvme_phys_queue *q,
			  struct nvme_phys_request *nreq)
{
	if (nreq->list.addr)
		nvme_phys_put_list(q, &nreq->list);
	/* The controller has not got the command. */
	dma_phys_sg_unmap_nosync(&nreq->sg);
}

/* Inline, so that @only_sgl is constant: the common case does not check it. */
static __always_inline blk_status_t
nvme_phys_map_data_as(struct nvme_phys_queue *q, struct request *rq,
		      bool only_sgl)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	struct dma_phys_segment segments[2];
	struct blk_dma_phys_iter iter __uninitialized;
	int more, err;

	more = nvme_phys_first_segments(q, rq, segments, &iter);
	if (unlikely(more < 0))
		return nvme_phys_map_status(q->ctrl, more);
	if (!only_sgl &&
	    likely(nvme_phys_set_two_prps(q->ctrl, segments, nreq->sg.size,
					  &nreq->cmd.common.dptr)))
		return BLK_STS_OK;

	/*
	 * SGL descriptors for everything else. Behind an IOMMU a request is one
	 * segment, so that its one descriptor is in the command, while a PRP list
	 * has an entry for each page. PRP lists are for controllers without SGLs.
	 */
	if (only_sgl || q->ctrl->sgl)
		err = nvme_phys_set_sgl(q, rq, segments, &iter, more);
	else
		err = nvme_phys_set_prps(q, nreq, segments, &iter, more);
	if (likely(!err))
		return BLK_STS_OK;
	nvme_phys_unmap_data(q, nreq);
	return nvme_phys_map_status(q->ctrl, err);
}

/**
 * nvme_phys_map_data() - map the data of a request, and describe it
 * @q: the I/O queue
 * @rq: a request with data; its command is set but for flags and data pointer
 *
 * On failure nothing is mapped, and the request has no list.
 *
 * Return: BLK_STS_OK, BLK_STS_RESOURCE if it may work later, BLK_STS_INVAL if
 * there is no P2P path, BLK_STS_IOERR.
 */
blk_status_t nvme_phys_map_data(struct nvme_phys_queue *q, struct request *rq)
{
	return nvme_phys_map_data_as(q, rq, false);
}

/**
 * nvme_phys_map_data_sgl() - map the data of a request, and describe it by an SGL
 * @q: the I/O queue of a controller that uses SGLs
 * @rq: see nvme_phys_map_data()
 *
 * Return: see nvme_phys_map_data().
 */
blk_status_t nvme_phys_map_data_sgl(struct nvme_phys_queue *q,
				    struct request *rq)
{
	return nvme_phys_map_data_as(q, rq, true);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer maps block requests: of bios, or with a special payload, on a queue
 * that has other limits for each request. The ranges of a call are its bio
 * vectors.
 */
#include <linux/blk-mq-dma-phys.h>
#include <linux/mm.h>
#include <linux/pfn.h>

#include "fuzz.h"
#include "request.h"

static struct blk_mq_tag_set fuzz_tags;
static struct gendisk *fuzz_disk;

int fuzz_queue_start(void)
{
	static const struct queue_limits limits = {
		.dma_alignment = 1,
		.max_segments = FUZZ_SEGMENTS,
		.max_hw_sectors = FUZZ_SHARED >> SECTOR_SHIFT,
	};
	struct gendisk *disk = dma_phys_test_disk_alloc(&fuzz_tags,
							FUZZ_HANDLES, limits);

	if (IS_ERR(disk))
		return PTR_ERR(disk);
	fuzz_disk = disk;
	return 0;
}

void fuzz_queue_end(void)
{
	if (fuzz_disk)
		dma_phys_test_disk_free(fuzz_disk, &fuzz_tags);
	fuzz_disk = NULL;
}

void fuzz_put_request(struct request *rq)
{
	if (rq)
		dma_phys_test_request_free(rq);
}

/* ---- Choose ---- */

/*
 * dma_phys_sg_max_segments() does not know the virt boundary. With that of a page
 * it is enough for all limits of fuzz_step_configure().
 */
static void fuzz_choose_queue(struct fuzz *fuzz, struct fuzz_call *call)
{
	static const u32 maxes[] = { U32_MAX, U32_MAX, SZ_64K, 5000, SZ_4K };
	static const u32 boundaries[] = {
		U32_MAX, U32_MAX, SZ_64K - 1, SZ_16K - 1, SZ_4K - 1,
	};
	struct request_queue *queue = fuzz_disk->queue;
	struct queue_limits limits = queue_limits_start_update(queue);

	limits.max_segment_size = fuzz_any(fuzz, maxes);
	limits.seg_boundary_mask = fuzz_any(fuzz, boundaries);
	limits.virt_boundary_mask = fuzz_one_in(fuzz, 4) ? SZ_4K - 1 : 0;
	call->limits = (struct dma_phys_limits){
		.max = limits.max_segment_size,
		.boundary = limits.seg_boundary_mask,
		.align = limits.virt_boundary_mask,
	};
	if (queue_limits_commit_update(queue, &limits))
		fuzz_error(fuzz, "the queue refuses its limits");
}

/*
 * The block layer wants even addresses, and with a virt boundary only the first
 * bio vector to start, and the last to end, within a unit. Ranges that become
 * empty are left out.
 */
static void fuzz_align_ranges(struct fuzz *fuzz, struct fuzz_call *call)
{
	struct dma_phys_range *first = &call->ranges[0], *last = first;
	u64 unit = max(call->limits.align + 1, 2), cut;
	size_t n = 0;

	for (size_t i = 0; i < call->count; i++) {
		struct dma_phys_range range = call->ranges[i];
		u64 end = round_down(range.addr + range.len, unit);

		range.addr = round_down(range.addr, unit);
		range.len = end - range.addr;
		range.raw = false;
		if (!range.len)
			continue;
		last = &call->ranges[n];
		*last = range;
		call->areas[n++] = call->areas[i];
	}
	call->count = n;
	if (!n || fuzz_one_in(fuzz, 2))
		return;

	cut = fuzz_below(fuzz, min(unit, first->len)) & ~1ULL;
	first->addr += cut;
	first->len -= cut;
	last->len -= fuzz_below(fuzz, min(unit, last->len));
}

static struct page *fuzz_range_page(const struct dma_phys_range *range)
{
	return pfn_to_page(PHYS_PFN(range->addr));
}

/* A bio of the next ranges. Adjacent ones are not merged to one bio vector. */
static struct bio *fuzz_make_bio(struct fuzz *fuzz,
				 const struct fuzz_call *call, size_t *next)
{
	struct bio *bio = bio_alloc(fuzz_disk->part0, FUZZ_RANGES,
				    req_op(call->rq), GFP_KERNEL);

	do {
		const struct dma_phys_range *range = &call->ranges[(*next)++];

		__bio_add_page(bio, fuzz_range_page(range), range->len,
			       offset_in_page(range->addr));
	} while (*next < call->count && !fuzz_one_in(fuzz, 3));
	return bio;
}

/* The request ends before the first bio that the limits do not allow. */
static void fuzz_fill_request(struct fuzz *fuzz, struct fuzz_call *call)
{
	size_t next = 0;

	while (next < call->count) {
		size_t first = next;
		struct bio *bio = fuzz_make_bio(fuzz, call, &next);

		if (blk_rq_append_bio(call->rq, bio)) {
			bio_put(bio);
			call->count = first;
		}
	}
}

/* As drivers do for a discard: less than a page that no bio holds. */
static void fuzz_attach_payload(struct fuzz_call *call)
{
	struct dma_phys_range *range = &call->ranges[0];
	size_t offset = offset_in_page(range->addr);

	range->len = min(range->len, PAGE_SIZE - offset);
	call->count = 1;
	bvec_set_page(&call->rq->special_vec, fuzz_range_page(range),
		      range->len, offset);
	call->rq->rq_flags |= RQF_SPECIAL_PAYLOAD;
}

void fuzz_choose_request(struct fuzz *fuzz, struct fuzz_call *call)
{
	static const enum req_op writes[] = {
		REQ_OP_WRITE, REQ_OP_DRV_OUT, REQ_OP_ZONE_APPEND,
		REQ_OP_DISCARD,
	};
	static const enum req_op reads[] = { REQ_OP_READ, REQ_OP_DRV_IN };
	enum req_op op = call->dir == DMA_TO_DEVICE ? fuzz_any(fuzz, writes) :
						      fuzz_any(fuzz, reads);
	struct request *rq;

	fuzz_choose_queue(fuzz, call);
	fuzz_align_ranges(fuzz, call);
	if (call->no_ranges)
		return;
	rq = blk_mq_alloc_request(fuzz_disk->queue, op, BLK_MQ_REQ_NOWAIT);
	if (IS_ERR(rq)) {
		fuzz_error(fuzz, "no request: %pe", rq);
		return;
	}

	call->rq = rq;
	if (op != REQ_OP_DISCARD)
		fuzz_fill_request(fuzz, call);
	else if (call->count)
		fuzz_attach_payload(call);
	call->max_ranges = blk_rq_nr_phys_segments(rq);
}

/* ---- Map ---- */

static int fuzz_iterate_request(const struct fuzz_call *call,
				struct fuzz_handle *handle, struct device *dev,
				struct dma_phys_sg *sg)
{
	struct blk_dma_phys_iter iter;
	int more, n = 0;

	more = blk_rq_dma_phys_map_start(dev, call->rq, call->flags, sg, &iter);
	while (more > 0) {
		if (n == FUZZ_SEGMENTS) {
			dma_phys_sg_unmap_nosync(sg);
			return -ENOSPC;
		}
		handle->segments[n++] = (struct dma_phys_segment){
			iter.sg.addr, iter.sg.len,
		};
		if (n == call->stop)
			break;
		more = blk_rq_dma_phys_map_next(sg, &iter);
	}
	if (more < 0)
		return more;
	if (call->stop)
		dma_phys_sg_unmap_nosync(sg);
	return n;
}

int fuzz_map_request(const struct fuzz_call *call, struct fuzz_handle *handle)
{
	struct dma_phys_sg *sg = call->no_handle ? NULL : &handle->sg;
	struct device *dev = call->dev ? call->dev->dev : NULL;

	if (call->op != FUZZ_RQ_MAP)
		return fuzz_iterate_request(call, handle, dev, sg);
	return blk_rq_dma_phys_map(dev, call->rq, call->flags,
				   handle->segments, call->max_segments, sg);
}

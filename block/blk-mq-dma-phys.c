// SPDX-License-Identifier: GPL-2.0
/*
 * Block requests and their integrity data as sources of ranges for the typed
 * mapping of physical addresses.
 */
#include <linux/bio-integrity.h>
#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/blk-mq-dma-phys.h>
#include <linux/export.h>
#include <linux/instruction_pointer.h>
#include <linux/pci-p2pdma.h>
#include <linux/sizes.h>

#include "../kernel/dma/phys/fastpath.h"

static void blk_dma_phys_set_bio(struct blk_map_iter *iter, struct bio *bio)
{
	iter->bio = bio;
	if (iter->is_integrity) {
		iter->iter = bio_integrity(bio)->bip_iter;
		iter->bvecs = bio_integrity(bio)->bip_vec;
	} else {
		iter->iter = bio->bi_iter;
		iter->bvecs = bio->bi_io_vec;
	}
}

/* Go to the next bio that has data left. */
static bool blk_dma_phys_next_bio(struct blk_map_iter *iter)
{
	while (!iter->iter.bi_size) {
		if (!iter->bio || !iter->bio->bi_next)
			return false;
		blk_dma_phys_set_bio(iter, iter->bio->bi_next);
	}
	return true;
}

static bool blk_dma_phys_next(struct dma_phys_source *source,
			      struct dma_phys_range *range);

/* Out of line, so that the common case needs no stack. */
static noinline bool blk_dma_phys_next_slow(struct dma_phys_source *source,
					    struct dma_phys_range *range)
{
	struct blk_dma_phys_iter *iter = container_of(source, typeof(*iter),
						      source);

	return blk_dma_phys_next_bio(&iter->iter) &&
	       blk_dma_phys_next(source, range);
}

/* All pages of a request are memory, or all are one device's: else end here. */
static bool blk_dma_phys_next(struct dma_phys_source *source,
			      struct dma_phys_range *range)
{
	struct blk_dma_phys_iter *iter = container_of(source, typeof(*iter),
						      source);
	struct bvec_iter *at = &iter->iter.iter;
	bool p2p = iter->pgmap;
	struct bio_vec bv;

	if (unlikely(!at->bi_size))
		return blk_dma_phys_next_slow(source, range);
	bv = mp_bvec_iter_bvec(iter->iter.bvecs, *at);
	if (unlikely(is_pci_p2pdma_page(bv.bv_page) != p2p) ||
	    unlikely(p2p && page_pgmap(bv.bv_page) != iter->pgmap))
		return false;
	bvec_iter_advance_single(iter->iter.bvecs, at, bv.bv_len);
	range->addr = bvec_phys(&bv);
	range->len = bv.bv_len;
	range->peer = 0;
	range->kind = p2p ? DMA_PHYS_MMIO : DMA_PHYS_CPU;
	range->raw = false;
	return true;
}

static int blk_dma_phys_set_p2p(struct device *dev,
				struct blk_dma_phys_iter *iter,
				struct page *page)
{
	struct pci_p2pdma_map_state state = {};

	iter->pgmap = page_pgmap(page);
	iter->source.kinds = BIT(DMA_PHYS_MMIO);
	iter->source.path = &iter->path;
	switch (pci_p2pdma_state(&state, dev, page)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		iter->path.route = DMA_PHYS_BUS;
		iter->path.bus_offset = pci_p2pdma_bus_addr_map(state.mem, 0);
		return 0;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		iter->path.route = DMA_PHYS_DIRECT;
		return 0;
	default:
		return -EREMOTEIO;
	}
}

/* The first page says whether the request is of another device's memory. */
static int
blk_dma_phys_check_page(struct device *dev, struct blk_dma_phys_iter *iter)
{
	struct page *page;

	iter->pgmap = NULL;
	if (unlikely(!iter->iter.iter.bi_size))
		return -EINVAL;
	page = mp_bvec_iter_page(iter->iter.bvecs, iter->iter.iter);
	return likely(!is_pci_p2pdma_page(page)) ? 0 :
	       blk_dma_phys_set_p2p(dev, iter, page);
}

static noinline int blk_dma_phys_start_source(struct device *dev,
					      struct request *rq, u32 flags,
					      struct dma_phys_sg *sg,
					      struct blk_dma_phys_iter *iter)
{
	int err;

	err = blk_dma_phys_check_page(dev, iter);
	return unlikely(err) ? err :
	       dma_phys_sg_map_start(dev, &iter->source, rq_dma_dir(rq), flags,
				     sg, &iter->sg);
}

/* What the block layer promised of the segments is kept when they are merged. */
static struct dma_phys_limits blk_dma_phys_limits(const struct request_queue *q)
{
	return (struct dma_phys_limits){
		.max = q->limits.max_segment_size,
		.boundary = q->limits.seg_boundary_mask,
		.align = q->limits.virt_boundary_mask,
	};
}

static noinline int blk_dma_phys_start_any(struct device *dev,
					   struct request *rq, u32 flags,
					   struct dma_phys_sg *sg,
					   struct blk_dma_phys_iter *iter,
					   unsigned long caller)
{
	if (unlikely(rq->rq_flags & RQF_SPECIAL_PAYLOAD)) {
		iter->iter = (struct blk_map_iter){
			.bvecs = &rq->special_vec,
			.iter.bi_size = rq->special_vec.bv_len,
		};
	} else if (likely(rq->bio && bio_has_data(rq->bio))) {
		iter->iter.is_integrity = false;
		blk_dma_phys_set_bio(&iter->iter, rq->bio);
	} else {
		return -EINVAL;
	}

	iter->source = (struct dma_phys_source){
		.next = blk_dma_phys_next,
		.size = blk_rq_payload_bytes(rq),
		.count = blk_rq_nr_phys_segments(rq),
		/* The block layer has merged shorter ones as well. */
		.min_len = SECTOR_SIZE,
		.gaps = req_phys_gap_mask(rq),
		.limits = blk_dma_phys_limits(rq->q),
		.kinds = BIT(DMA_PHYS_CPU),
		.caller = caller,
	};
	return blk_dma_phys_start_source(dev, rq, flags, sg, iter);
}

/* A request of one bio vector, which obeys the limits of the queue. */
static __always_inline bool blk_dma_phys_one(struct device *dev,
					     struct request *rq, u32 flags,
					     struct dma_phys_sg *sg,
					     struct blk_dma_phys_iter *iter)
{
	struct bio *bio = rq->bio;
	struct bio_vec bv;

	if (rq->nr_phys_segments != 1 ||
	    unlikely(rq->rq_flags & RQF_SPECIAL_PAYLOAD) ||
	    unlikely(!bio) || unlikely(!bio_has_data(bio)))
		return false;
	bv = mp_bvec_iter_bvec(bio->bi_io_vec, bio->bi_iter);
	return bv.bv_len == blk_rq_bytes(rq) &&
	       likely(!is_pci_p2pdma_page(bv.bv_page)) &&
	       dma_phys_sg_map_one(dev, bvec_phys(&bv), bv.bv_len,
				   rq_dma_dir(rq), flags, sg, &iter->sg);
}

/*
 * Memory behind an IOMMU, as one. False if that fails: @sg is still empty, and
 * blk_dma_phys_start_any() maps the request, or says why not.
 */
static noinline bool blk_dma_phys_linked(struct device *dev, struct request *rq,
					 u32 flags, struct dma_phys_sg *sg,
					 struct dma_phys_sg_iter *iter)
{
	struct dma_phys_limits limits = dma_phys_sg_limits(dev);
	struct dma_phys_limits more = blk_dma_phys_limits(rq->q);
	/* 128 KiB, for which an IOVA is cached, and an offset in the first page */
	struct phys_vec vecs[SZ_128K / SZ_4K + 1] __uninitialized;
	struct phys_vec *vec = vecs - 1;
	size_t size = 0;
	u64 end = ~0ULL;

	if (!dma_phys_fast_use(dev, rq_dma_dir(rq)) ||
	    !dev_is_dma_coherent(dev) || sg->dev ||
	    flags & ~DMA_PHYS_SKIP_CPU_SYNC ||
	    rq->rq_flags & RQF_SPECIAL_PAYLOAD ||
	    req_phys_gap_mask(rq) & dma_get_merge_boundary(dev))
		return false;

	for (struct bio *bio = rq->bio; bio; bio = bio->bi_next) {
		struct bvec_iter at = bio->bi_iter;

		if (!bio_has_data(bio))
			return false;
		while (at.bi_size) {
			struct bio_vec bv = mp_bvec_iter_bvec(bio->bi_io_vec, at);
			phys_addr_t phys = bvec_phys(&bv);

			if (unlikely(is_pci_p2pdma_page(bv.bv_page)))
				return false;
			if (phys == end) {
				vec->len += bv.bv_len;
			} else {
				if (++vec == vecs + ARRAY_SIZE(vecs))
					return false;
				*vec = (struct phys_vec){ phys, bv.bv_len };
			}
			end = phys + bv.bv_len;
			size += bv.bv_len;
			bvec_iter_advance_single(bio->bi_io_vec, &at, bv.bv_len);
		}
	}

	if (!size || !dma_phys_links_memory(dev, vecs->paddr, size) ||
	    !dma_phys_sg_link_memory(dev, vecs, vec + 1 - vecs, size,
				     rq_dma_dir(rq), flags, sg))
		return false;
	iter->limits = dma_phys_both_limits(&limits, &more);
	iter->rest = (struct dma_phys_segment){ sg->addr, size };
	iter->mapped = size;
	return dma_phys_sg_map_next(sg, iter);
}

static noinline int blk_dma_phys_start(struct device *dev, struct request *rq,
				       u32 flags, struct dma_phys_sg *sg,
				       struct blk_dma_phys_iter *iter,
				       unsigned long caller)
{
	if (unlikely(!dev) || unlikely(!rq) || unlikely(!sg) || unlikely(!iter))
		return -EINVAL;
	if (blk_dma_phys_one(dev, rq, flags, sg, iter) ||
	    (use_dma_iommu(dev) &&
	     blk_dma_phys_linked(dev, rq, flags, sg, &iter->sg)))
		return 1;
	return blk_dma_phys_start_any(dev, rq, flags, sg, iter, caller);
}

/**
 * blk_rq_dma_phys_map_start() - start to map the data of a request
 * @dev: the device; its driver has set a DMA mask
 * @rq: the request; it holds its pages until it is completed
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC
 * @sg: an empty list
 * @iter: the iterator; need not be initialized
 *
 * Maps what the bio vectors or the special payload of the request name, in the
 * direction of the request. Pages of another PCI device's memory are mapped as
 * device memory. Segments also obey the limits of the request queue. See
 * dma_phys_sg_map_start().
 *
 * Context: Any for memory, as dma_phys_map_mmio() for device memory.
 * Return:
 * * 1 - the first segment is mapped
 * * -EINVAL - the request has no data, or its pages are neither all memory nor
 *   all of one device
 * * others - as dma_phys_sg_map_start()
 */
int blk_rq_dma_phys_map_start(struct device *dev, struct request *rq, u32 flags,
			      struct dma_phys_sg *sg,
			      struct blk_dma_phys_iter *iter)
{
	return blk_dma_phys_start(dev, rq, flags, sg, iter, _RET_IP_);
}
EXPORT_SYMBOL_GPL(blk_rq_dma_phys_map_start);

/**
 * blk_rq_dma_phys_map_next() - map the next segment of a request
 * @sg: the list, which a start function started to map
 * @iter: its iterator
 *
 * Context: As blk_rq_dma_phys_map_start().
 * Return: as dma_phys_sg_map_next().
 */
int blk_rq_dma_phys_map_next(struct dma_phys_sg *sg,
			     struct blk_dma_phys_iter *iter)
{
	return dma_phys_sg_map_next(sg, &iter->sg);
}
EXPORT_SYMBOL_GPL(blk_rq_dma_phys_map_next);

/**
 * blk_rq_dma_phys_map() - map the data of a request
 * @dev: the device; its driver has set a DMA mask
 * @rq: the request; it holds its pages until it is completed
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC
 * @segments: where the segments are written
 * @max_segments: how many it holds, see dma_phys_sg_max_segments()
 * @sg: an empty list
 *
 * Context: As blk_rq_dma_phys_map_start().
 * Return: the number of segments; or an errno as blk_rq_dma_phys_map_start(), or
 * -ENOSPC if @max_segments is too small.
 */
int blk_rq_dma_phys_map(struct device *dev, struct request *rq, u32 flags,
			struct dma_phys_segment *segments, size_t max_segments,
			struct dma_phys_sg *sg)
{
	struct blk_dma_phys_iter iter __uninitialized;
	int more;

	if (!segments || !max_segments)
		return -EINVAL;
	more = blk_dma_phys_start(dev, rq, flags, sg, &iter, _RET_IP_);
	return dma_phys_sg_map_rest(sg, &iter.sg, more, segments, max_segments);
}
EXPORT_SYMBOL_GPL(blk_rq_dma_phys_map);

/* Gaps, length and count of a request are those of its data: compute them. */
static noinline int
blk_dma_phys_start_integrity(struct device *dev, struct request *rq, u32 flags,
			     struct dma_phys_sg *sg,
			     struct blk_dma_phys_iter *iter,
			     unsigned long caller)
{
	struct blk_map_iter pages;
	phys_addr_t end = 0;
	struct bio_vec bv;

	if (!dev || !rq || !iter || !rq->bio || !blk_integrity_rq(rq) ||
	    !bio_integrity(rq->bio))
		return -EINVAL;
	iter->iter.is_integrity = true;
	blk_dma_phys_set_bio(&iter->iter, rq->bio);
	/* The metadata of a block may be short: the least length is not known. */
	iter->source = (struct dma_phys_source){
		.next = blk_dma_phys_next,
		.limits = blk_dma_phys_limits(rq->q),
		.kinds = BIT(DMA_PHYS_CPU),
		.caller = caller,
	};

	pages = iter->iter;
	while (blk_dma_phys_next_bio(&pages)) {
		bv = mp_bvec_iter_bvec(pages.bvecs, pages.iter);
		bvec_iter_advance_single(pages.bvecs, &pages.iter, bv.bv_len);
		if (iter->source.count && bvec_phys(&bv) != end)
			iter->source.gaps |= bvec_phys(&bv) | end;
		end = bvec_phys(&bv) + bv.bv_len;
		iter->source.size += bv.bv_len;
		iter->source.count++;
	}
	return blk_dma_phys_start_source(dev, rq, flags, sg, iter);
}

/**
 * blk_rq_integrity_dma_phys_map_start() - start to map a request's integrity data
 * @dev: the device; its driver has set a DMA mask
 * @rq: the request; it holds its integrity data until it is completed
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC
 * @sg: an empty list
 * @iter: the iterator; need not be initialized
 *
 * Continue with blk_rq_dma_phys_map_next().
 *
 * Context: As blk_rq_dma_phys_map_start().
 * Return: as blk_rq_dma_phys_map_start(); -EINVAL if there is no integrity data.
 */
int blk_rq_integrity_dma_phys_map_start(struct device *dev, struct request *rq,
					u32 flags, struct dma_phys_sg *sg,
					struct blk_dma_phys_iter *iter)
{
	return blk_dma_phys_start_integrity(dev, rq, flags, sg, iter, _RET_IP_);
}
EXPORT_SYMBOL_GPL(blk_rq_integrity_dma_phys_map_start);

/**
 * blk_rq_integrity_dma_phys_map() - map a request's integrity data
 * @dev: the device; its driver has set a DMA mask
 * @rq: the request; it holds its integrity data until it is completed
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC
 * @segments: where the segments are written
 * @max_segments: how many it holds
 * @sg: an empty list
 *
 * Context: As blk_rq_dma_phys_map_start().
 * Return: as blk_rq_dma_phys_map(); -EINVAL if there is no integrity data.
 */
int blk_rq_integrity_dma_phys_map(struct device *dev, struct request *rq,
				  u32 flags, struct dma_phys_segment *segments,
				  size_t max_segments, struct dma_phys_sg *sg)
{
	struct blk_dma_phys_iter iter __uninitialized;
	int more;

	if (!segments || !max_segments)
		return -EINVAL;
	more = blk_dma_phys_start_integrity(dev, rq, flags, sg, &iter, _RET_IP_);
	return dma_phys_sg_map_rest(sg, &iter.sg, more, segments, max_segments);
}
EXPORT_SYMBOL_GPL(blk_rq_integrity_dma_phys_map);

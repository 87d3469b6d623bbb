// SPDX-License-Identifier: GPL-2.0
/*
 * Many ranges, to segments.
 *
 * Adjacent ranges are merged into runs. Behind an IOMMU all runs are linked at
 * one IOVA if its granule allows it; else each run is mapped like a single
 * range, one after the other, as the iterator advances. What unmap needs is one
 * address for a list that is linked or is one run, and nothing for runs that the
 * device accesses directly; else a record is kept for each run.
 */
#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/instruction_pointer.h>

#include "fastpath.h"
#include "internal.h"

#define DMA_PHYS_BOTH_KINDS	(BIT(DMA_PHYS_CPU) | BIT(DMA_PHYS_MMIO))

static_assert(!IS_ENABLED(CONFIG_64BIT) || sizeof(struct dma_phys_sg) == 64);

/* All is mapped, or mapping failed: report it. A failed list is empty. */
static noinline int dma_phys_sg_finish(struct dma_phys_sg *sg,
				       const struct dma_phys_sg_iter *iter,
				       int err)
{
	if (trace_dma_phys_sg_map_enabled())
		dma_phys_sg_trace_map(sg, err);
	if (dma_phys_debug_on()) {
		sg->flags &= ~DMA_PHYS_FAST;
		dma_phys_debug_sg(sg, iter->phys, err, iter->caller);
	}
	if (err) {
		/* The device has not seen the data: do not copy it back. */
		sg->flags |= DMA_PHYS_SKIP_CPU_SYNC;
		dma_phys_sg_ask_unmap(sg);
		dma_phys_sg_clear(sg);
	}
	return err;
}

static __always_inline int dma_phys_sg_emit(struct dma_phys_sg_iter *iter)
{
	size_t n = dma_phys_split(&iter->limits, iter->rest.addr,
				  iter->rest.len);

	iter->addr = iter->rest.addr;
	iter->len = n;
	iter->rest.addr += n;
	iter->rest.len -= n;
	return 1;
}

static int dma_phys_sg_get_path(struct dma_phys_sg *sg,
				struct dma_phys_sg_iter *iter)
{
	struct dma_phys_peer *peer;
	int err;

	if (!iter->source->peer || sg->peer)
		return 0;
	peer = dma_phys_peer_get(iter->source->peer);
	if (IS_ERR(peer))
		return PTR_ERR(peer);
	err = dma_phys_peer_path(peer, sg->dev, &iter->peer_path);
	if (err) {
		dma_phys_peer_put(peer);
		return err;
	}
	sg->peer = peer;
	iter->path = &iter->peer_path;
	return 0;
}

/* The first run, and if possible all of them at one IOVA. */
static noinline int dma_phys_sg_start(struct dma_phys_sg *sg,
				      struct dma_phys_sg_iter *iter)
{
	int err;

	if (iter->source->kinds == BIT(DMA_PHYS_MMIO))
		sg->kind = DMA_PHYS_MMIO;
	sg->target = dma_phys_target(sg->dev);
	err = dma_phys_sg_get_path(sg, iter) ?: dma_phys_sg_take_run(sg, iter);
	if (!err && use_dma_iommu(sg->dev) &&
	    !(iter->path && iter->path->route == DMA_PHYS_BUS) &&
	    sg->size > dma_phys_iova_space(sg->dev)) {
		sg->route = DMA_PHYS_IOMMU;
		err = -E2BIG;
	}
	if (!err)
		err = dma_phys_sg_links(sg, iter) ?
		      dma_phys_sg_link(sg, iter) :
		      dma_phys_sg_map_run(sg, iter);
	if (err || iter->mapped == sg->size)
		err = dma_phys_sg_finish(sg, iter, err);
	return err ?: dma_phys_sg_emit(iter);
}

static noinline int dma_phys_sg_next(struct dma_phys_sg *sg,
				     struct dma_phys_sg_iter *iter)
{
	int err;

	if (!iter->mapped)
		return dma_phys_sg_start(sg, iter);
	err = dma_phys_sg_map_run(sg, iter);
	if (err || iter->mapped == sg->size)
		err = dma_phys_sg_finish(sg, iter, err);
	return err ?: dma_phys_sg_emit(iter);
}

/* The fast path maps device memory at its address on the bus. */
static noinline bool dma_phys_sg_is_bus(struct dma_phys_sg *sg,
					struct dma_phys_sg_iter *iter)
{
	/* The slow path finds the reason again. */
	if (iter->source->kinds != BIT(DMA_PHYS_MMIO) ||
	    dma_phys_sg_get_path(sg, iter) || !iter->path ||
	    iter->path->route != DMA_PHYS_BUS)
		return false;

	iter->fast_end = dma_phys_fast_end(sg->dev);
	iter->fast_offset = iter->path->bus_offset;
	iter->fast_peer = iter->source->peer;
	iter->fast_kind = DMA_PHYS_MMIO;
	dma_phys_set_tail(sg, sg->dir, sg->flags, DMA_PHYS_MMIO, DMA_PHYS_BUS,
			  DMA_PHYS_FAST);
	return true;
}

/*
 * The next run by the fast path. If that cannot map it, false, and the run is
 * left to the slow path.
 */
static __always_inline bool dma_phys_sg_fast(struct dma_phys_sg *sg,
					     struct dma_phys_sg_iter *iter)
{
	struct dma_phys_range *run = &iter->run;
	size_t left = sg->size - iter->mapped;
	u64 addr, last;

	if (unlikely(run->len) ||
	    unlikely(!dma_phys_next_run(run, &iter->ahead, left,
					iter->source->next, iter->source)))
		return false;
	addr = run->addr + iter->fast_offset;
	if (unlikely(!dma_phys_last(addr, run->len, &last)) ||
	    (unlikely(iter->fast_offset) &&
	     !dma_phys_range_ok(run->addr, run->len)) ||
	    unlikely(last >= iter->fast_end) || unlikely(run->len > left) ||
	    unlikely(run->kind != iter->fast_kind) ||
	    unlikely(run->peer != iter->fast_peer))
		return false;

	iter->rest = (struct dma_phys_segment){ addr, run->len };
	iter->mapped += run->len;
	run->len = 0;
	return !trace_dma_phys_sg_map_enabled() || iter->mapped != sg->size ||
	       !dma_phys_sg_finish(sg, iter, 0);
}

/* Map a run, and return its first segment. */
static noinline int dma_phys_sg_advance(struct dma_phys_sg *sg,
					struct dma_phys_sg_iter *iter)
{
	if (likely(sg->flags & DMA_PHYS_FAST) &&
	    likely(dma_phys_sg_fast(sg, iter)))
		return dma_phys_sg_emit(iter);
	return dma_phys_sg_next(sg, iter);
}

/**
 * dma_phys_sg_map_start() - start to map many ranges
 * @dev: the device; its driver has set a DMA mask
 * @source: the ranges, which must stay allocated until they are unmapped
 * @dir: DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC
 * @sg: an empty list
 * @iter: the iterator; need not be initialized
 *
 * The segments, in the order of the ranges, are @iter->addr and @iter->len after
 * this and after each dma_phys_sg_map_next() that returns 1. Each obeys the
 * device's maximum segment size, segment boundary and alignment. The device owns
 * the memory when all have been returned. dma_phys_sg_unmap_nosync() ends an
 * iteration early.
 *
 * Context: Any, as for the single map of each range. Does not sleep. Allocates
 * unmap records if the route needs them.
 * Return:
 * * 1 - the first segment is mapped
 * * -EINVAL - as dma_phys_map_cpu(); there are no ranges, they are not as @source
 *   describes them, or the pool of @sg was made for smaller lists
 * * -ENOMEM - as dma_phys_map_cpu(); or no memory for unmap records
 * * others - as dma_phys_map_cpu() and dma_phys_map_mmio(). On failure @sg is
 *   empty.
 */
int dma_phys_sg_map_start(struct device *dev, struct dma_phys_source *source,
			  enum dma_data_direction dir, u32 flags,
			  struct dma_phys_sg *sg,
			  struct dma_phys_sg_iter *iter)
{
	struct dma_phys_limits limits;
	bool fast;

	if (unlikely(!source) || unlikely(!iter) || unlikely(!sg) ||
	    unlikely(sg->dev) || unlikely(!source->next) ||
	    unlikely(!source->size) || unlikely(!source->count) ||
	    unlikely((u8)(source->kinds - 1) >= DMA_PHYS_BOTH_KINDS) ||
	    dma_phys_check(dev, dir, flags))
		return -EINVAL;

	fast = dma_phys_fast_use(dev, dir);
	limits = dma_phys_sg_limits(dev);
	iter->source = source;
	iter->limits = dma_phys_both_limits(&limits, &source->limits);
	iter->path = source->path;
	iter->run.len = 0;
	iter->ahead.len = 0;
	iter->rest.len = 0;
	iter->mapped = 0;
	iter->phys = 0;
	iter->fast_end = 0;
	iter->caller = source->caller ?: _RET_IP_;
	sg->dev = dev;
	sg->size = source->size;
	dma_phys_set_tail(sg, dir, flags, DMA_PHYS_CPU, DMA_PHYS_NONE, 0);
	if (unlikely(!fast))
		return dma_phys_sg_start(sg, iter);

	if (likely(source->kinds == BIT(DMA_PHYS_CPU)) && !use_dma_iommu(dev) &&
	    dma_phys_fast_device(dev) && likely(!dma_phys_fast_offset(dev))) {
		iter->fast_end = dma_phys_fast_end(dev);
		iter->fast_offset = 0;
		iter->fast_peer = 0;
		iter->fast_kind = DMA_PHYS_CPU;
		dma_phys_set_tail(sg, dir, flags, DMA_PHYS_CPU, DMA_PHYS_DIRECT,
				  DMA_PHYS_FAST);
	} else if (!dma_phys_sg_is_bus(sg, iter)) {
		return dma_phys_sg_start(sg, iter);
	}
	return dma_phys_sg_advance(sg, iter);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_map_start);

/**
 * dma_phys_sg_map_next() - map the next segment
 * @sg: the list, which dma_phys_sg_map_start() started to map
 * @iter: its iterator
 *
 * Context: As dma_phys_sg_map_start().
 * Return: 1 if there is a segment, 0 if all are mapped, or an errno as
 * dma_phys_sg_map_start(): then @sg is empty.
 */
int dma_phys_sg_map_next(struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter)
{
	if (unlikely(!sg) || unlikely(!iter) || unlikely(!sg->dev))
		return -EINVAL;
	if (iter->rest.len)
		return dma_phys_sg_emit(iter);
	if (iter->mapped == sg->size)
		return 0;
	return dma_phys_sg_advance(sg, iter);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_map_next);

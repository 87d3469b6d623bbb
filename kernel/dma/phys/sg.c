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

static_assert(!IS_ENABLED(CONFIG_64BIT) || sizeof(struct dma_phys_sg) == 64);

/* A handle for @len bytes of the list. */
static struct dma_phys_map dma_phys_sg_part(const struct dma_phys_sg *sg,
					    u8 kind, size_t len)
{
	return (struct dma_phys_map){
		.dev = sg->dev,
		.size = len,
		.dir = sg->dir,
		.kind = kind,
		.flags = sg->flags & DMA_PHYS_SKIP_CPU_SYNC,
	};
}

/* ---- Map: run by run ---- */

/* dma-debug expects that all is unmapped. */
static bool dma_phys_sg_needs_record(const struct dma_phys_map *map)
{
	switch (map->route) {
	case DMA_PHYS_BUS:
		return false;
	case DMA_PHYS_DIRECT:
		return IS_ENABLED(CONFIG_DMA_API_DEBUG) ||
		       (map->kind == DMA_PHYS_CPU &&
			!dev_is_dma_coherent(map->dev));
	default:
		return true;
	}
}

/* Remember how to unmap @map, which starts at @offset of the list. */
static int dma_phys_sg_record(struct dma_phys_sg *sg,
			      const struct dma_phys_sg_iter *iter,
			      const struct dma_phys_map *map, size_t offset)
{
	if (map->size == sg->size) {
		sg->addr = map->addr;
		sg->kind = map->kind;
		sg->flags |= DMA_PHYS_ONE | (map->flags & DMA_PHYS_COHERENT);
		return 0;
	}

	if (!sg->records)
		sg->records = dma_phys_records_alloc(sg->dev, sg->pool,
						     iter->source->count,
						     sg->size);
	if (!sg->records)
		return -ENOMEM;
	/* More ranges than the source, or the pool, was made for. */
	if (sg->records->count == sg->records->max)
		return -EINVAL;
	sg->records->record[sg->records->count++] = (struct dma_phys_record){
		.addr = map->addr,
		.size = map->size,
		.offset = offset,
		.kind = map->kind,
		.route = map->route,
		.flags = map->flags,
	};
	return 0;
}

/*
 * Map the start of a run: as much as one dma_map_phys() takes. What exceeds a
 * bounce buffer takes several.
 */
static int dma_phys_sg_map_part(struct dma_phys_sg *sg,
				struct dma_phys_sg_iter *iter,
				struct dma_phys_map *map)
{
	const struct dma_phys_range *run = &iter->run;
	struct dma_phys_limits bounce;
	int err;

	err = dma_phys_map_range(map, run->addr, run->raw,
				 run->kind == DMA_PHYS_MMIO ? iter->path :
							      NULL);
	if (likely(err != -E2BIG) || run->kind == DMA_PHYS_MMIO)
		return err;

	bounce = dma_phys_bounce_limits(sg->dev);
	if (!bounce.max)
		return err;
	map->size = dma_phys_split(&bounce, run->addr, run->len);
	if (map->size == run->len)
		return err;
	return dma_phys_map_range(map, run->addr, run->raw, NULL);
}

/* The list bounces more than there are bounce buffers. */
static bool dma_phys_sg_exceeds_pool(const struct dma_phys_sg *sg, size_t more)
{
	u64 bytes = more;

	for (size_t i = 0; sg->records && i < sg->records->count; i++)
		if (sg->records->record[i].route == DMA_PHYS_BOUNCE)
			bytes += sg->records->record[i].size;
	return bytes > dma_phys_bounce_total(sg->dev);
}

static int dma_phys_sg_map_slow(struct dma_phys_sg *sg,
				struct dma_phys_sg_iter *iter)
{
	struct dma_phys_map map = dma_phys_sg_part(sg, iter->run.kind,
						   iter->run.len);
	int err;

	if (sg->flags & DMA_PHYS_FAST) {
		sg->flags &= ~DMA_PHYS_FAST;
		sg->target = dma_phys_target(sg->dev);
	}
	err = dma_phys_sg_map_part(sg, iter, &map);
	if (sg->route != DMA_PHYS_BOUNCE && map.kind == sg->kind)
		sg->route = map.route;
	if (err == -EAGAIN && map.route == DMA_PHYS_BOUNCE &&
	    dma_phys_sg_exceeds_pool(sg, map.size))
		return -E2BIG;
	if (err)
		return err;

	if (dma_phys_sg_needs_record(&map))
		err = dma_phys_sg_record(sg, iter, &map, iter->mapped);
	if (err) {
		map.flags |= DMA_PHYS_SKIP_CPU_SYNC;
		dma_unmap_phys(map.dev, map.addr, map.size, map.dir,
			       dma_phys_attrs(map.kind, map.flags));
		return err;
	}
	iter->rest = (struct dma_phys_segment){ map.addr, map.size };
	return 0;
}

/* Take the next run, unless a part of one is left. The source kept its promise. */
static noinline int dma_phys_sg_take_run(struct dma_phys_sg *sg,
				struct dma_phys_sg_iter *iter)
{
	const struct dma_phys_source *source = iter->source;
	struct dma_phys_range *run = &iter->run;
	size_t left = sg->size - iter->mapped;

	if (!run->len && !dma_phys_next_run(run, &iter->ahead, left,
					    source->next, iter->source))
		return -EINVAL;
	if (!dma_phys_range_ok(run->addr, run->len) || run->len > left ||
	    !(source->kinds & BIT(run->kind)) ||
	    run->peer != (run->kind == DMA_PHYS_MMIO ? source->peer : 0))
		return -EINVAL;
	if (!iter->mapped)
		iter->phys = run->addr;
	if (dma_phys_debug_on())
		dma_phys_debug_range(sg->dev, run, sg->dir, iter->caller);
	return 0;
}

/* Map the next run, or a part of it, as iter->rest. */
static int dma_phys_sg_map_run(struct dma_phys_sg *sg,
			       struct dma_phys_sg_iter *iter)
{
	struct dma_phys_range *run = &iter->run;
	int err;

	err = dma_phys_sg_take_run(sg, iter);
	if (err)
		return err;

	if (run->kind == DMA_PHYS_CPU &&
	    run->addr + (run->len - 1) < iter->fast_end) {
		if (sg->route == DMA_PHYS_NONE)
			sg->route = DMA_PHYS_DIRECT;
		iter->rest = (struct dma_phys_segment){ run->addr, run->len };
	} else {
		err = dma_phys_sg_map_slow(sg, iter);
		if (err)
			return err;
	}

	iter->mapped += iter->rest.len;
	run->addr += iter->rest.len;
	run->len -= iter->rest.len;
	return 0;
}

/* ---- Map: all runs at one IOVA ---- */

/*
 * A single range of a trusted device is mapped as one: that is cheaper. On a
 * device that is not coherent, unmap treats all of an IOVA alike. A bounce buffer
 * for the start of a list must keep its offset in the granule. dma-debug does not
 * know linked ranges, and must not see them synced.
 */
static bool dma_phys_sg_links(const struct dma_phys_sg *sg,
			      const struct dma_phys_sg_iter *iter)
{
	const struct dma_phys_source *source = iter->source;
	struct device *dev = sg->dev;
	bool coherent = dev_is_dma_coherent(dev);
	bool bounces = dma_phys_untrusted(dev);
	u64 mask;

	if (!use_dma_iommu(dev) ||
	    (iter->path && iter->path->route == DMA_PHYS_BUS))
		return false;
	if (source->count == 1 && !bounces)
		return false;
	if (!coherent && hweight8(source->kinds) > 1)
		return false;
	if (IS_ENABLED(CONFIG_DMA_API_DEBUG) && (!coherent || bounces))
		return false;

	mask = dma_get_merge_boundary(dev);
	bounces |= dma_kmalloc_needs_bounce(dev, iter->run.len, sg->dir);
	if (bounces && iter->run.addr & mask & ~dma_get_min_align_mask(dev))
		return false;
	return !(source->gaps & mask);
}

static int dma_phys_sg_link_run(struct dma_phys_sg *sg,
				const struct dma_phys_range *run,
				struct dma_iova_state *state, size_t linked)
{
	u64 mask = dma_get_merge_boundary(sg->dev);
	struct dma_phys_map map = dma_phys_sg_part(sg, run->kind, run->len);
	int err;

	/* The source understated its gaps. */
	if (linked && (run->addr | (state->addr + linked)) & mask)
		return -EINVAL;
	err = dma_phys_precheck_link(&map, run->addr, run->raw);
	if (err)
		return err;

	err = dma_phys_fail() ? -ENOMEM :
	      dma_iova_link(sg->dev, state, run->addr, linked, run->len,
			    sg->dir, dma_phys_attrs(run->kind, sg->flags));
	switch (err) {
	case 0:
		return 0;
	case -ERANGE:
	case -EINVAL:
		return -ERANGE;		/* the IOMMU cannot output the address */
	default:
		return dma_phys_explain_link(&map, run->addr);
	}
}

static int dma_phys_sg_link_runs(struct dma_phys_sg *sg,
				 struct dma_phys_sg_iter *iter,
				 struct dma_iova_state *state)
{
	int err = 0;

	while (!err) {
		err = dma_phys_sg_link_run(sg, &iter->run, state,
					   iter->mapped);
		if (err)
			break;
		iter->mapped += iter->run.len;
		iter->run.len = 0;
		if (iter->mapped == sg->size)
			break;
		err = dma_phys_sg_take_run(sg, iter);
	}
	if (!err && (dma_phys_fail() ||
		     dma_iova_sync(sg->dev, state, 0, sg->size)))
		err = -ENOMEM;
	return err;
}

static int dma_phys_sg_link(struct dma_phys_sg *sg,
			    struct dma_phys_sg_iter *iter)
{
	struct device *dev = sg->dev;
	struct dma_iova_state state;
	int err;

	sg->flags &= ~DMA_PHYS_FAST;
	sg->route = DMA_PHYS_IOMMU;
	if (dma_phys_fail())
		return -ENOMEM;
	/* The IOVA space may be fragmented: each run has an IOVA of its own. */
	if (!dma_iova_try_alloc(dev, &state, iter->run.addr, sg->size))
		return dma_phys_sg_map_run(sg, iter);

	err = dma_phys_sg_link_runs(sg, iter, &state);
	sg->addr = state.addr;
	if (state.__size & DMA_IOVA_USE_SWIOTLB)
		sg->flags |= DMA_PHYS_LINK_BOUNCED;
	if (err) {
		sg->flags |= DMA_PHYS_SKIP_CPU_SYNC;
		dma_phys_sg_unmap_linked(sg, iter->mapped);
		return err;
	}
	sg->flags |= DMA_PHYS_LINKED;
	iter->rest = (struct dma_phys_segment){ sg->addr, sg->size };
	return 0;
}

/* ---- Iterator ---- */

/* All is mapped, or mapping failed: report it. A failed list is empty. */
static noinline int dma_phys_sg_finish(struct dma_phys_sg *sg,
			      const struct dma_phys_sg_iter *iter, int err)
{
	if (trace_dma_phys_sg_map_enabled()) {
		struct dma_phys_map map = dma_phys_sg_handle(sg);

		trace_dma_phys_sg_map(&map, 0, err);
	}
	if (dma_phys_debug_on()) {
		sg->flags &= ~DMA_PHYS_FAST;
		dma_phys_debug_sg(sg, iter->phys, err, iter->caller);
	}
	if (err) {
		/* The device has not seen the data: leave it as it was. */
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

	if (!iter->source->peer)
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

	sg->target = dma_phys_target(sg->dev);
	err = dma_phys_sg_get_path(sg, iter) ?: dma_phys_sg_take_run(sg, iter);
	if (!err && use_dma_iommu(sg->dev) &&
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

	err = dma_phys_sg_map_run(sg, iter);
	if (err || iter->mapped == sg->size)
		err = dma_phys_sg_finish(sg, iter, err);
	return err ?: dma_phys_sg_emit(iter);
}

/*
 * The next run by the direct fast path. If that cannot map it, false, and the run
 * is left to the slow path.
 */
static __always_inline bool dma_phys_sg_fast(struct dma_phys_sg *sg,
					     struct dma_phys_sg_iter *iter)
{
	struct dma_phys_range *run = &iter->run;
	size_t left = sg->size - iter->mapped;
	u64 last;

	if (unlikely(run->len) ||
	    unlikely(!dma_phys_next_run(run, &iter->ahead, left,
					iter->source->next, iter->source)) ||
	    unlikely(!dma_phys_last(run->addr, run->len, &last)) ||
	    unlikely(last >= iter->fast_end) || unlikely(run->len > left) ||
	    unlikely(run->kind != DMA_PHYS_CPU) || unlikely(run->peer))
		return false;

	iter->rest = (struct dma_phys_segment){ run->addr, run->len };
	iter->mapped += run->len;
	run->len = 0;
	return !trace_dma_phys_sg_map_enabled() || iter->mapped != sg->size ||
	       !dma_phys_sg_finish(sg, iter, 0);
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

	if (unlikely(!source) || unlikely(!iter) || unlikely(!sg) ||
	    unlikely(sg->dev) || unlikely(!source->next) ||
	    unlikely(!source->size) || unlikely(!source->count) ||
	    unlikely(!source->kinds) || dma_phys_check(dev, dir, flags))
		return -EINVAL;

	limits = dma_phys_sg_limits(dev);
	iter->source = source;
	iter->limits = dma_phys_both_limits(&limits, &source->limits);
	iter->path = source->path;
	iter->run.len = 0;
	iter->ahead.len = 0;
	iter->mapped = 0;
	iter->fast_end = 0;
	iter->caller = source->caller ?: _RET_IP_;
	sg->dev = dev;
	sg->size = source->size;
	if (dma_phys_fast_use(dev, dir) && !use_dma_iommu(dev) &&
	    dma_phys_fast_device(dev) && likely(!dma_phys_fast_offset(dev))) {
		iter->fast_end = dma_phys_fast_end(dev);
		dma_phys_set_tail(sg, dir, flags, DMA_PHYS_DIRECT,
				  DMA_PHYS_FAST);
		if (likely(source->kinds == BIT(DMA_PHYS_CPU)) &&
		    likely(dma_phys_sg_fast(sg, iter)))
			return dma_phys_sg_emit(iter);
	} else {
		dma_phys_set_tail(sg, dir, flags, DMA_PHYS_NONE, 0);
	}
	if (source->kinds == BIT(DMA_PHYS_MMIO))
		sg->kind = DMA_PHYS_MMIO;
	return dma_phys_sg_start(sg, iter);
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
	if (likely(sg->flags & DMA_PHYS_FAST) &&
	    likely(dma_phys_sg_fast(sg, iter)))
		return dma_phys_sg_emit(iter);
	return dma_phys_sg_next(sg, iter);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_map_next);

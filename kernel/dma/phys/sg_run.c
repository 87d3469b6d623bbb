// SPDX-License-Identifier: GPL-2.0
/*
 * Many ranges, run by run: each run is mapped like a single range. A record is
 * kept of each run that has to be unmapped.
 */
#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/iommu-dma.h>
#include <linux/swiotlb.h>

#include "internal.h"

/* A handle for @len bytes of the list. */
struct dma_phys_map dma_phys_sg_part(const struct dma_phys_sg *sg, u8 kind,
				     size_t len)
{
	return (struct dma_phys_map){
		.dev = sg->dev,
		.size = len,
		.dir = sg->dir,
		.kind = kind,
		.flags = sg->flags & DMA_PHYS_SKIP_CPU_SYNC,
	};
}

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
		sg->flags |= DMA_PHYS_ONE;
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
 * bounce buffer, or a segment of a device with legacy ops, takes several.
 */
static int dma_phys_sg_map_part(struct dma_phys_sg *sg,
				struct dma_phys_sg_iter *iter,
				struct dma_phys_map *map)
{
	const struct dma_phys_range *run = &iter->run;
	struct dma_phys_limits limits;
	int err;

	if (get_dma_ops(sg->dev)) {
		limits = dma_phys_part_limits(sg->dev);
		map->size = dma_phys_split(&limits, run->addr, run->len);
	}
	err = dma_phys_map_range(map, run->addr, run->raw,
				 run->kind == DMA_PHYS_MMIO ? iter->path :
							      NULL);
	if (likely(err != -E2BIG) || run->kind == DMA_PHYS_MMIO ||
	    map->route == DMA_PHYS_OPS)
		return err;

	limits = dma_phys_part_limits(sg->dev);
	/* All parts bounce at a time. */
	if (!limits.max || run->len > dma_phys_bounce_total(sg->dev))
		return err;
	map->size = dma_phys_split(&limits, run->addr, run->len);
	if (map->size == run->len)
		return err;
	return dma_phys_map_range(map, run->addr, run->raw, NULL);
}

/* The list bounces more than there are bounce buffers. */
static bool dma_phys_sg_exceeds_pool(const struct dma_phys_sg *sg, size_t more)
{
	u64 bytes = round_up(more, IO_TLB_SIZE);

	for (size_t i = 0; sg->records && i < sg->records->count; i++)
		if (sg->records->record[i].route == DMA_PHYS_BOUNCE)
			bytes += round_up(sg->records->record[i].size,
					  IO_TLB_SIZE);
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
noinline int dma_phys_sg_take_run(struct dma_phys_sg *sg,
				  struct dma_phys_sg_iter *iter)
{
	const struct dma_phys_source *source = iter->source;
	struct dma_phys_range *run = &iter->run;
	size_t left = sg->size - iter->mapped;
	bool is_new = !run->len;
	/* A range lies in one window of the bus, or is one that ops map. */
	bool merge = (use_dma_iommu(sg->dev) ||
		      (!sg->dev->dma_range_map && !get_dma_ops(sg->dev))) &&
		     !dma_phys_sg_keeps_short(sg, source);

	if (is_new && !dma_phys_next_run(run, &iter->ahead, merge ? left : 0,
					 source->next, iter->source))
		return -EINVAL;
	if (!dma_phys_range_ok(run->addr, run->len) || run->len > left ||
	    !(source->kinds & BIT(run->kind)) ||
	    run->peer != (run->kind == DMA_PHYS_MMIO ? source->peer : 0))
		return -EINVAL;
	if (!iter->mapped)
		iter->phys = run->addr;
	if (is_new && dma_phys_debug_on())
		dma_phys_debug_range(sg->dev, run, sg->dir, iter->caller);
	return 0;
}

/* Map the next run, or a part of it, as iter->rest. */
int dma_phys_sg_map_run(struct dma_phys_sg *sg,
			struct dma_phys_sg_iter *iter)
{
	struct dma_phys_range *run = &iter->run;
	int err;

	err = dma_phys_sg_take_run(sg, iter);
	if (err)
		return err;

	if (run->kind == DMA_PHYS_CPU &&
	    run->addr + (run->len - 1) < iter->fast_end) {
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

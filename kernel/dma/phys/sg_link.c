// SPDX-License-Identifier: GPL-2.0
/*
 * Many ranges, linked at one IOVA.
 */
#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/iommu.h>

#include "fastpath.h"
#include "internal.h"

/*
 * A single range of a trusted device is mapped as one: that is cheaper. On a
 * device that is not coherent, unmap treats all of an IOVA alike. A bounce buffer
 * for the start of a list must keep its offset in the granule. dma-debug does not
 * know linked ranges, and must not see them synced.
 */
bool dma_phys_sg_links(const struct dma_phys_sg *sg,
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
	if (source->count > 1 && dma_phys_sg_keeps_short(sg, source))
		return false;
	if (IS_ENABLED(CONFIG_DMA_API_DEBUG) && (!coherent || bounces))
		return false;

	mask = dma_get_merge_boundary(dev);
	bounces |= dma_kmalloc_needs_bounce(dev, iter->run.len, sg->dir);
	if (bounces && iter->run.addr & mask & ~dma_get_min_align_mask(dev))
		return false;
	return !(source->gaps & mask);
}

static int dma_phys_sg_link_vecs(struct dma_phys_sg *sg,
				 struct dma_phys_sg_iter *iter,
				 struct dma_iova_state *state,
				 struct phys_vec *vecs, unsigned int count,
				 size_t len, u8 kind)
{
	int err = dma_phys_fail() ? -ENOMEM :
		  dma_iova_link_vecs(sg->dev, state, vecs, count, iter->mapped,
				     sg->dir, dma_phys_attrs(kind, sg->flags));

	if (err == -ERANGE || err == -EINVAL)
		return -ERANGE;		/* the IOMMU cannot output the address */
	if (err)
		return -ENOMEM;
	iter->mapped += len;
	return 0;
}

/* Run by run. */
static int dma_phys_sg_link_runs(struct dma_phys_sg *sg,
				 struct dma_phys_sg_iter *iter,
				 struct dma_iova_state *state)
{
	u64 mask = dma_get_merge_boundary(sg->dev);
	struct dma_phys_range *run = &iter->run;
	int err;

	do {
		struct dma_phys_map map = dma_phys_sg_part(sg, run->kind,
							   run->len);
		struct phys_vec vec = { run->addr, run->len };

		/* The source understated its gaps. */
		if (iter->mapped &&
		    (run->addr | (state->addr + iter->mapped)) & mask)
			return -EINVAL;
		err = dma_phys_precheck_link(&map, run->addr, run->raw) ?:
		      dma_phys_sg_link_vecs(sg, iter, state, &vec, 1, run->len,
					    run->kind);
		if (err == -ENOMEM)
			err = dma_phys_explain_link(&map, run->addr);
		if (err)
			return err;
		run->len = 0;
	} while (iter->mapped < sg->size &&
		 !(err = dma_phys_sg_take_run(sg, iter)));
	return err;
}

/* Many at once, of memory that is not bounced, nor flushed from caches. */
static int dma_phys_sg_link_plain(struct dma_phys_sg *sg,
				  struct dma_phys_sg_iter *iter,
				  struct dma_iova_state *state)
{
	u64 mask = dma_get_merge_boundary(sg->dev), before, last = (u64)-1;
	struct dma_phys_source *source = iter->source;
	struct dma_phys_range *range = &iter->run;
	size_t left = sg->size, len = 0;
	struct phys_vec vecs[32] __uninitialized;
	unsigned int count = 0;
	int err;

	for (;;) {
		u64 prev = last;

		before = (u64)range->addr - 1;
		last = before + range->len;
		if (last <= before || range->len > left || range->kind ||
		    range->peer)
			return -EINVAL;
		if (before == prev) {
			vecs[count - 1].len += range->len;
		} else {
			if (left != sg->size && ~(before & prev) & mask)
				return -EINVAL;
			if (count == ARRAY_SIZE(vecs)) {
				err = dma_phys_sg_link_vecs(sg, iter, state,
							    vecs, count, len,
							    DMA_PHYS_CPU);
				if (err)
					return err;
				count = 0;
				len = 0;
			}
			vecs[count++] = (struct phys_vec){ range->addr, range->len };
		}
		len += range->len;
		left -= range->len;
		range->len = 0;
		if (!left)
			return dma_phys_sg_link_vecs(sg, iter, state, vecs,
						     count, len, DMA_PHYS_CPU);
		range = &iter->ahead;
		if (!range->len && !source->next(source, range))
			return -EINVAL;
	}
}

static int dma_phys_sg_link_all(struct dma_phys_sg *sg,
				struct dma_phys_sg_iter *iter,
				struct dma_iova_state *state)
{
	struct device *dev = sg->dev;
	int err;

	if (iter->source->kinds == BIT(DMA_PHYS_CPU) &&
	    dev_is_dma_coherent(dev) && !dma_phys_untrusted(dev) &&
	    dma_get_min_align_mask(dev) <= dma_get_merge_boundary(dev))
		err = dma_phys_sg_link_plain(sg, iter, state);
	else
		err = dma_phys_sg_link_runs(sg, iter, state);
	if (!err && (dma_phys_fail() || dma_iova_sync(dev, state, 0, sg->size)))
		err = -ENOMEM;
	return err;
}

int dma_phys_sg_link(struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter)
{
	struct device *dev = sg->dev;
	struct dma_iova_state state;
	int err;

	sg->route = DMA_PHYS_IOMMU;
	if (dma_phys_fail())
		return -ENOMEM;
	/* The IOVA space may be fragmented: each run has an IOVA of its own. */
	if (!dma_iova_try_alloc(dev, &state, iter->run.addr, sg->size))
		return dma_phys_sg_map_run(sg, iter);

	err = dma_phys_sg_link_all(sg, iter, &state);
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

bool dma_phys_sg_link_memory(struct device *dev, struct phys_vec *vecs,
			     unsigned int count, size_t size,
			     enum dma_data_direction dir, u32 flags,
			     struct dma_phys_sg *sg)
{
	dma_addr_t addr = dma_iova_map_vecs(dev, vecs, count, size, dir);

	if (addr == DMA_MAPPING_ERROR)
		return false;
	sg->dev = dev;
	sg->addr = addr;
	sg->size = size;
	sg->target = iommu_get_domain_for_dev(dev);
	dma_phys_set_tail(sg, dir, flags, DMA_PHYS_CPU, DMA_PHYS_IOMMU,
			  DMA_PHYS_ONE | DMA_PHYS_COHERENT);
	if (trace_dma_phys_sg_map_enabled())
		dma_phys_sg_trace_map(sg, 0);
	return true;
}

noinline bool dma_phys_sg_link_one(struct device *dev, phys_addr_t phys,
				   enum dma_data_direction dir, u32 flags,
				   struct dma_phys_sg *sg,
				   struct dma_phys_sg_iter *iter)
{
	struct phys_vec vec = { phys, iter->len };

	if (!dma_phys_links_memory(dev, phys, iter->len) ||
	    !dma_phys_sg_link_memory(dev, &vec, 1, iter->len, dir, flags, sg))
		return false;
	iter->addr = sg->addr;
	return true;
}

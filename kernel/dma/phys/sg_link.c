// SPDX-License-Identifier: GPL-2.0
/*
 * Many ranges, linked at one IOVA.
 */
#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/iommu-dma.h>

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
		err = dma_phys_sg_link_run(sg, &iter->run, state, iter->mapped);
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

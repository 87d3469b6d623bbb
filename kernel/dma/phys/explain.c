// SPDX-License-Identifier: GPL-2.0
/*
 * Why a range cannot be mapped.
 *
 * Two questions are answered from struct fields and inline functions only.
 * Before the kernel is asked: would it crash, warn or overflow? After it has
 * refused: for which reason? A reason that will not pass is never -EAGAIN or
 * -ENOMEM.
 */
#include <linux/cc_platform.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-phys.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/pci.h>
#include <linux/swiotlb.h>

#include "internal.h"

noinline bool dma_phys_untrusted(struct device *dev)
{
	return dev_is_pci(dev) && to_pci_dev(dev)->untrusted;
}

/* ---- Bounce buffers ---- */

/* The pool that bounces for @dev, NULL if there is none. */
static noinline struct io_tlb_mem *dma_phys_bounce_pool(struct device *dev)
{
#ifdef CONFIG_SWIOTLB
	struct io_tlb_mem *mem = dev->dma_io_tlb_mem;

	/* swiotlb_exit() clears one of the two only. */
	if (mem && READ_ONCE(mem->nslabs) && mem->defpool.nslabs)
		return mem;
#endif
	return NULL;
}

/* Memory can be added to the pool while the system runs. */
static bool __maybe_unused dma_phys_pool_grows(const struct io_tlb_mem *mem)
{
#ifdef CONFIG_SWIOTLB_DYNAMIC
	return mem->can_grow;
#else
	return false;
#endif
}

/* Bits of an address that the start of a bounce buffer has in common with it. */
static u64 dma_phys_bounce_kept(struct device *dev, u64 align_mask)
{
	return dma_get_min_align_mask(dev) & ~(align_mask | (IO_TLB_SIZE - 1));
}

/* Bytes of slots for a range if buffers are multiples of @align_mask + 1. */
static u64 dma_phys_bounce_bytes(struct device *dev, phys_addr_t phys,
				 u64 size, u64 align_mask)
{
	u64 offset = phys & dma_get_min_align_mask(dev) &
		     (align_mask | (IO_TLB_SIZE - 1));

	return ALIGN(size + offset, align_mask + 1);
}

/*
 * Can a buffer be large enough if all of them are free? kernel/dma/swiotlb.c,
 * swiotlb_search_pool_area(): a buffer lies in one group of slots and in one
 * area, keeps address bits, and does not cross the segment boundary.
 */
static noinline int dma_phys_bounce_fits(struct device *dev, phys_addr_t phys,
					 u64 size, u64 align_mask)
{
	const struct io_tlb_mem __maybe_unused *mem = dma_phys_bounce_pool(dev);
	u64 kept = dma_phys_bounce_kept(dev, align_mask);
	u64 boundary = dma_get_seg_boundary(dev);
	u64 bytes = dma_phys_bounce_bytes(dev, phys, size, align_mask);
	u64 skipped = 0, area = BOUNCE_GROUP, pool = dma_phys_bounce_total(dev);

	if (kept & ~boundary)
		return -EOPNOTSUPP;

#ifdef CONFIG_SWIOTLB
	/* The first slots of the pool that have these bits. */
	skipped = (phys - mem->defpool.start) & kept;
	if (!dma_phys_pool_grows(mem))
		area = (u64)mem->defpool.area_nslabs << IO_TLB_SHIFT;
#endif
	if (bytes > area || bytes - 1 > boundary - (phys & kept) ||
	    (skipped & (BOUNCE_GROUP - 1)) + bytes > BOUNCE_GROUP)
		return -E2BIG;
	return skipped + bytes > pool ? -EOPNOTSUPP : 0;
}

static struct dma_phys_limits dma_phys_bounce_limits(struct device *dev)
{
	const struct io_tlb_mem *mem = dma_phys_bounce_pool(dev);
	struct dma_phys_limits limits = {
		.boundary = dma_get_seg_boundary(dev),
		.align = dma_get_min_align_mask(dev),
	};
	u64 align = limits.align ? roundup(limits.align, IO_TLB_SIZE) : 0;
	u64 max = BOUNCE_GROUP, granule = 0;

	if (!mem || limits.align & ~limits.boundary)
		return limits;
	if (use_dma_iommu(dev))
		granule = dma_get_merge_boundary(dev) + 1;
#ifdef CONFIG_SWIOTLB
	if (!dma_phys_pool_grows(mem))
		max = min(max, (u64)mem->defpool.area_nslabs << IO_TLB_SHIFT);
#endif
	/* What is lost to alignment, at any address. */
	if (align + granule < max)
		limits.max = max - align - granule;
	return limits;
}

/*
 * Ops may refuse more than a segment. They keep the offset in a page, so parts end
 * at pages. What bypasses them may bounce.
 */
struct dma_phys_limits dma_phys_part_limits(struct device *dev)
{
	struct dma_phys_limits bounce = dma_phys_bounce_limits(dev), ops;

	if (!get_dma_ops(dev))
		return bounce;
	ops = dma_phys_sg_limits(dev);
	if (ops.max >= PAGE_SIZE)
		ops.align |= PAGE_SIZE - 1;
	return dma_phys_both_limits(&ops, &bounce);
}

u64 dma_phys_bounce_total(struct device *dev)
{
#ifdef CONFIG_SWIOTLB
	const struct io_tlb_mem *mem = dma_phys_bounce_pool(dev);

	if (mem && !dma_phys_pool_grows(mem))
		return (u64)mem->defpool.nslabs << IO_TLB_SHIFT;
#endif
	return U64_MAX;
}

/* ---- The direct route ---- */

static u64 dma_phys_reach(struct device *dev)
{
	return min_not_zero(*dev->dma_mask, dev->bus_dma_limit);
}

/* Both ends of the range are translated by the same offset. */
static noinline bool dma_phys_one_window(struct device *dev, phys_addr_t phys,
					 size_t size)
{
	/* An architecture's own phys_to_dma() does not know windows. */
	return IS_ENABLED(CONFIG_ARCH_HAS_PHYS_TO_DMA) ||
	       likely(!dev->dma_range_map) ||
	       translate_phys_to_dma(dev, phys + size - 1) -
	       translate_phys_to_dma(dev, phys) == size - 1;
}

/*
 * dma_capable() without what it needs of symbols that modules do not have, and
 * without its wrap-around. With memory encryption the kernel may still say no.
 */
static noinline bool dma_phys_reaches(struct device *dev, phys_addr_t phys,
				      size_t size)
{
	dma_addr_t addr = phys_to_dma_unencrypted(dev, phys);
	dma_addr_t last = addr + size - 1;

	return addr != DMA_MAPPING_ERROR && last >= addr &&
	       last <= dma_phys_reach(dev);
}

noinline bool dma_phys_must_bounce(struct device *dev, phys_addr_t phys,
				   size_t size)
{
	return is_swiotlb_force_bounce(dev) ||
	       !dma_phys_reaches(dev, phys, size);
}

/* All of the pool lies beyond what the device addresses. */
static bool dma_phys_pool_out_of_reach(struct device *dev,
				       const struct io_tlb_mem *mem,
				       size_t size)
{
#ifdef CONFIG_SWIOTLB
	return !dma_phys_pool_grows(mem) && mem->defpool.nslabs &&
	       !dma_phys_reaches(dev, mem->defpool.start, size);
#else
	return false;
#endif
}

static int dma_phys_precheck_bounce(struct device *dev, phys_addr_t phys,
				    size_t size, u64 align_mask)
{
	const struct io_tlb_mem *mem = dma_phys_bounce_pool(dev);

	if (!mem)
		return -ERANGE;
	/* Beyond this the number of slots is truncated to 32 bits. */
	if (size > BOUNCE_GROUP ||
	    dma_phys_bounce_bytes(dev, phys, size, align_mask) > BOUNCE_GROUP)
		return -E2BIG;
	if (!use_dma_iommu(dev) && dma_phys_pool_out_of_reach(dev, mem, size))
		return -ERANGE;
	return 0;
}

static int dma_phys_precheck_direct(const struct dma_phys_map *map,
				    phys_addr_t phys, bool raw)
{
	struct device *dev = map->dev;

	if (map->kind == DMA_PHYS_MMIO) {
		/* A forced bounce is refused without a warning. */
		if (is_swiotlb_force_bounce(dev))
			return -EOPNOTSUPP;
		return dma_phys_reaches(dev, phys, map->size) &&
		       dma_phys_one_window(dev, phys, map->size) ? 0 : -ERANGE;
	}

	/*
	 * Cache maintenance and copies go through the linear map. With memory
	 * encryption it is not known whether the kernel bounces.
	 */
	if (raw && (!dev_is_dma_coherent(dev) ||
		    cc_platform_has(CC_ATTR_MEM_ENCRYPT)))
		return -EOPNOTSUPP;
	if (map->route == DMA_PHYS_DIRECT)
		return dma_phys_one_window(dev, phys, map->size) ? 0 : -ERANGE;
	if (raw)
		return -EOPNOTSUPP;
	return dma_phys_precheck_bounce(dev, phys, map->size, 0);
}

static int dma_phys_explain_direct(const struct dma_phys_map *map,
				   phys_addr_t phys)
{
	if (map->kind == DMA_PHYS_MMIO || !dma_phys_bounce_pool(map->dev))
		return -EIO;
	return dma_phys_bounce_fits(map->dev, phys, map->size, 0) ?: -EAGAIN;
}

/* ---- Behind an IOMMU ---- */

u64 dma_phys_iova_space(struct device *dev)
{
	u64 limit = min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
	u64 granule = dma_get_merge_boundary(dev) + 1;
#ifdef CONFIG_IOMMU_API
	const struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	if (domain && domain->geometry.force_aperture)
		limit = min_t(u64, limit, domain->geometry.aperture_end);
#endif
	/*
	 * A size is rounded up to granules. The top bit of the size of an IOVA
	 * allocation is a flag, DMA_IOVA_USE_SWIOTLB.
	 */
	return min3(limit, (u64)S64_MAX, (u64)SIZE_MAX - 2 * granule);
}

/* An IOVA is aligned to its size, rounded up to a power of 2, and not 0. */
static u64 dma_phys_iova_limit(struct device *dev)
{
	u64 space = dma_phys_iova_space(dev) + 1;
	u64 top = 1ULL << ilog2(space);

	return max(top / 2, space - top);
}

static bool dma_phys_iommu_bounces(const struct dma_phys_map *map,
				   phys_addr_t phys, u64 mask)
{
	return IS_ENABLED(CONFIG_SWIOTLB) && (phys | map->size) & mask &&
	       (dma_phys_untrusted(map->dev) ||
		dma_kmalloc_needs_bounce(map->dev, map->size, map->dir));
}

/* The kernel bounces no more of a linked range than a granule at each end. */
int dma_phys_precheck_link(const struct dma_phys_map *map, phys_addr_t phys,
			   bool raw)
{
	struct device *dev = map->dev;
	u64 mask = dma_get_merge_boundary(dev);

	/* Unmap could not tell this address from "not mapped". */
	if (!phys)
		return -EINVAL;
	if (dma_get_min_align_mask(dev) > mask)
		return -EOPNOTSUPP;
	if (raw && !dev_is_dma_coherent(dev))
		return -EOPNOTSUPP;

	if (map->kind == DMA_PHYS_MMIO)
		/* The rest of the granule would be exposed. */
		return dma_phys_untrusted(dev) && (phys | map->size) & mask ?
		       -EOPNOTSUPP : 0;
	if (!dma_phys_iommu_bounces(map, phys, mask))
		return 0;
	if (raw)
		return -EOPNOTSUPP;
	return dma_phys_bounce_pool(dev) ? 0 : -ERANGE;
}

int dma_phys_explain_link(const struct dma_phys_map *map, phys_addr_t phys)
{
	u64 mask = dma_get_merge_boundary(map->dev);
	u64 head = min_t(u64, map->size, mask + 1 - (phys & mask));
	u64 tail = (phys + map->size) & mask;
	int err = 0;

	if (map->kind == DMA_PHYS_MMIO ||
	    !dma_phys_iommu_bounces(map, phys, mask))
		return -ENOMEM;
	if (phys & mask)
		err = dma_phys_bounce_fits(map->dev, phys, head, mask);
	if (!err && tail && map->size > head)
		err = dma_phys_bounce_fits(map->dev, phys + map->size - tail,
					   tail, mask);
	return err ?: -ENOMEM;
}

static int dma_phys_precheck_iommu(const struct dma_phys_map *map,
				   phys_addr_t phys, bool raw)
{
	struct device *dev = map->dev;
	u64 mask = dma_get_merge_boundary(dev);
	int err;

	err = dma_phys_precheck_link(map, phys, raw);
	if (err)
		return err;
	if (ALIGN((phys & mask) + map->size, mask + 1) >
	    dma_phys_iova_limit(dev))
		return -E2BIG;
	if (map->kind == DMA_PHYS_MMIO ||
	    !dma_phys_iommu_bounces(map, phys, mask))
		return 0;
	return dma_phys_precheck_bounce(dev, phys, map->size, mask);
}

static int dma_phys_explain_iommu(const struct dma_phys_map *map,
				  phys_addr_t phys)
{
	u64 mask = dma_get_merge_boundary(map->dev);

	if (map->kind == DMA_PHYS_CPU &&
	    dma_phys_iommu_bounces(map, phys, mask))
		return dma_phys_bounce_fits(map->dev, phys, map->size, mask) ?:
		       -ENOMEM;
	return -ENOMEM;
}

/* ---- All routes ---- */

enum dma_phys_route dma_phys_route(const struct dma_phys_map *map,
				   phys_addr_t phys)
{
	struct device *dev = map->dev;
	bool ops = get_dma_ops(dev);

	if (use_dma_iommu(dev))
		return DMA_PHYS_IOMMU;
	/* The kernel leaves some maps of a device with ops to the direct route. */
	if (IS_ENABLED(CONFIG_DMA_OPS_BYPASS) && dev_dma_ops_bypass(dev))
		ops &= dma_phys_reach(dev) < dma_direct_get_required_mask(dev);
	if (ops && (map->kind == DMA_PHYS_MMIO ||
		    !arch_dma_map_phys_direct(dev, phys + map->size)))
		return DMA_PHYS_OPS;
	if (map->kind == DMA_PHYS_CPU &&
	    (dma_phys_must_bounce(dev, phys, map->size) ||
	     dma_kmalloc_needs_bounce(dev, map->size, map->dir)))
		return DMA_PHYS_BOUNCE;
	return DMA_PHYS_DIRECT;
}

int dma_phys_precheck(const struct dma_phys_map *map, phys_addr_t phys,
		      bool raw)
{
	switch (map->route) {
	case DMA_PHYS_IOMMU:
		return dma_phys_precheck_iommu(map, phys, raw);
	case DMA_PHYS_OPS:
		/* Unknown: what they do with memory that has no linear map. */
		if (raw)
			return -EOPNOTSUPP;
		/* They count pages in 32 bits. */
		return (u64)map->size >> 43 ? -E2BIG : 0;
	default:
		return dma_phys_precheck_direct(map, phys, raw);
	}
}

int dma_phys_explain(const struct dma_phys_map *map, phys_addr_t phys)
{
	switch (map->route) {
	case DMA_PHYS_IOMMU:
		return dma_phys_explain_iommu(map, phys);
	case DMA_PHYS_OPS:
		return map->size > dma_max_mapping_size(map->dev) ? -E2BIG :
		       -EIO;
	default:
		return dma_phys_explain_direct(map, phys);
	}
}

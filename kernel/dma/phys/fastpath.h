/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The direct fast path: a coherent device whose DMA addresses are the physical
 * ones, with no IOMMU, legacy ops or forced bounce. Mapping is a check;
 * unmapping is a no-op. On false, fall back to the slow path, which asks the
 * kernel. Memory behind an IOMMU has a fast path as well.
 *
 * The fast path is off under instrumentation: the slow path reports to tracing,
 * KMSAN and dma-debug as the kernel does.
 */
#ifndef _KERNEL_DMA_PHYS_FASTPATH_H
#define _KERNEL_DMA_PHYS_FASTPATH_H

#include <linux/dma-map-ops.h>
#include <linux/iommu-dma.h>
#include <linux/swiotlb.h>
#include <trace/events/dma.h>
#include <trace/events/dma_phys.h>

#include "internal.h"

/* On unless memory is encrypted: an address is then more than a number. */
DECLARE_STATIC_KEY_FALSE(dma_phys_fast_key);

/* No instrumentation is on, and the arguments are those of dma_phys_check(). */
static __always_inline bool dma_phys_fast_use(struct device *dev,
					      enum dma_data_direction dir)
{
	return IS_ENABLED(CONFIG_64BIT) && likely(dev) &&
	       likely(valid_dma_direction(dir)) &&
	       likely(dev->dma_mask) && !dma_phys_debug_on() &&
	       !(IS_ENABLED(CONFIG_FAIL_DMA_PHYS) && dma_phys_may_fail()) &&
	       !IS_ENABLED(CONFIG_DMA_API_DEBUG) &&
	       !IS_ENABLED(CONFIG_KMSAN) && !trace_dma_map_phys_enabled();
}

/*
 * The device needs nothing for memory below dma_phys_fast_end(), if no IOMMU
 * translates for it and dma_phys_fast_offset() is 0.
 */
static __always_inline bool dma_phys_fast_device(struct device *dev)
{
	if (IS_ENABLED(CONFIG_ARCH_HAS_PHYS_TO_DMA) ||
	    !IS_ENABLED(CONFIG_ARCH_DMA_ADDR_T_64BIT))
		return false;
	return static_branch_likely(&dma_phys_fast_key) &&
	       likely(!get_dma_ops(dev)) && likely(dev_is_dma_coherent(dev)) &&
	       likely(!is_swiotlb_force_bounce(dev));
}

/* Not 0 if the bus translates addresses. */
static __always_inline uintptr_t dma_phys_fast_offset(struct device *dev)
{
	return (uintptr_t)dev->dma_range_map;
}

/* The first byte that the device does not reach; DMA_MAPPING_ERROR is none. */
static __always_inline u64 dma_phys_fast_end(struct device *dev)
{
	u64 limit = dev->bus_dma_limit, mask = *dev->dma_mask;

	return limit && limit < mask ? limit : mask;
}

/*
 * The direct route of a device for which nothing has to be checked before, if
 * @rare is 0: all bounce buffers are within reach, and any is large enough. What
 * is mapped at another address than its own bounces.
 */
static __always_inline bool dma_phys_fast_bounce(struct device *dev,
						 phys_addr_t phys, size_t size,
						 uintptr_t rare)
{
#ifdef CONFIG_SWIOTLB
	const struct io_tlb_mem *mem = dev->dma_io_tlb_mem;
	u64 last;

	if (IS_ENABLED(CONFIG_ARCH_HAS_PHYS_TO_DMA))
		return false;
	return static_branch_likely(&dma_phys_fast_key) && !get_dma_ops(dev) &&
	       mem && READ_ONCE(mem->nslabs) &&
	       mem->defpool.end - 1 <= *dev->dma_mask &&
	       size - 1 < BOUNCE_GROUP && dma_phys_last(phys, size, &last) &&
	       !(rare | dma_phys_fast_offset(dev) | dev->bus_dma_limit) &&
	       !dma_get_min_align_mask(dev);
#else
	return false;
#endif
}

/*
 * Behind an IOMMU, memory for dma_iova_map_vecs(): nothing that can make the kernel
 * warn, such as address 0, a wrap-around, or a size that IOVA allocation has another
 * use for. The IOVA keeps the offset in the granule.
 */
static __always_inline bool dma_phys_links_memory(struct device *dev,
						  phys_addr_t phys, size_t size)
{
	u64 align = dma_get_min_align_mask(dev);

	return likely(phys) && likely(size) &&
	       likely(!((phys | size) & DMA_IOVA_USE_SWIOTLB)) &&
	       (likely(!align) || align <= dma_get_merge_boundary(dev));
}

/*
 * The tail of a handle, from @dir to @id, is written in one store on 64 bits. Both handles
 * end alike.
 */
#define DMA_PHYS_TAIL(type)						\
	static_assert(offsetof(type, dir) % sizeof(u64) == 0 ||		\
		      !IS_ENABLED(CONFIG_64BIT));			\
	static_assert(offsetof(type, kind) == offsetof(type, dir) + 1);	\
	static_assert(offsetof(type, route) == offsetof(type, dir) + 2);	\
	static_assert(offsetof(type, flags) == offsetof(type, dir) + 3);	\
	static_assert(offsetof(type, id) == offsetof(type, dir) + 4)

DMA_PHYS_TAIL(struct dma_phys_map);
DMA_PHYS_TAIL(struct dma_phys_sg);

#ifdef CONFIG_64BIT
#define dma_phys_set_tail(handle, direction, user_flags, new_kind,	\
			  new_route, new_flags)				\
	(*(__force __le64 *)&(handle)->dir = cpu_to_le64(		\
		((u64)(direction) | (u64)(user_flags) << 24) +		\
		((new_kind) << 8 | (new_route) << 16 |			\
		 (u64)(new_flags) << 24)))
#else
#define dma_phys_set_tail(handle, direction, user_flags, new_kind,	\
			  new_route, new_flags)				\
do {									\
	typeof(handle) to = (handle);					\
									\
	to->dir = (direction);						\
	to->kind = (new_kind);						\
	to->route = (new_route);					\
	to->flags = (user_flags) | (new_flags);				\
	to->id = 0;							\
} while (0)
#endif

/*
 * Map memory that is one segment, for sources that know that they are one range.
 * @sg is an empty list. On false it still is: dma_phys_sg_map_start()
 * maps it, or says why not.
 */
static __always_inline bool
dma_phys_sg_map_one(struct device *dev, phys_addr_t phys, size_t size,
		    enum dma_data_direction dir, u32 flags,
		    struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter)
{
	u64 last;

	if (unlikely(!dma_phys_fast_use(dev, dir)) ||
	    unlikely(!dma_phys_last(phys, size, &last)) ||
	    unlikely(size > dma_get_max_seg_size(dev)) ||
	    unlikely((phys ^ last) > dma_get_seg_boundary(dev)) ||
	    unlikely(flags & ~DMA_PHYS_SKIP_CPU_SYNC) || unlikely(sg->dev))
		return false;

	iter->len = size;
	iter->rest.len = 0;
	iter->mapped = size;
	/* An IOVA is aligned to its size: it crosses no more than the range does. */
	if (use_dma_iommu(dev))
		return dma_phys_sg_link_one(dev, phys, dir, flags, sg, iter);
	if (!dma_phys_fast_device(dev) || unlikely(dma_phys_fast_offset(dev)) ||
	    unlikely(last >= dma_phys_fast_end(dev)) ||
	    trace_dma_phys_sg_map_enabled())
		return false;

	sg->dev = dev;
	sg->size = size;
	dma_phys_set_tail(sg, dir, flags, DMA_PHYS_CPU, DMA_PHYS_DIRECT,
			  DMA_PHYS_FAST);
	iter->addr = phys;
	return true;
}

#endif /* _KERNEL_DMA_PHYS_FASTPATH_H */

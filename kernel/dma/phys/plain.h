/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The device that needs nothing: it is coherent, nothing translates what it
 * asks for, nothing copies, and its DMA addresses are the physical ones. Most
 * devices are so for most memory. To map for one is to look, and to unmap is
 * nothing at all. And the device that needs a page table and nothing else.
 *
 * Here is only what says yes. Who is told no takes route.c, which decides from
 * the same facts in full, and knows the errno.
 */
#ifndef _KERNEL_DMA_PHYS_PLAIN_H
#define _KERNEL_DMA_PHYS_PLAIN_H

#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/swiotlb.h>

#include "internal.h"

/*
 * What dma_phys_check() would say, but for the flags; and nobody wants to see
 * each step.
 */
static __always_inline bool
dma_phys_plain_use(struct device *dev, enum dma_data_direction dir)
{
	return likely(dev) && likely(valid_dma_direction(dir)) &&
	       likely(dev->dma_mask) && likely(dev->driver) &&
	       !dma_phys_debug_on() && !dma_phys_may_fail();
}

static __always_inline bool dma_phys_plain_flags(u32 flags)
{
	return likely(!(flags & ~DMA_PHYS_MANUAL_SYNC));
}

/*
 * For memory below dma_phys_plain_end() the device needs nothing: if no IOMMU
 * serves it, and dma_phys_plain_bus() is 0.
 */
static __always_inline bool dma_phys_plain_device(struct device *dev)
{
	if (IS_ENABLED(CONFIG_ARCH_HAS_PHYS_TO_DMA) ||
	    !IS_ENABLED(CONFIG_ARCH_DMA_ADDR_T_64BIT))
		return false;
	/* With memory encryption an address is more than a number. */
	return likely(!get_dma_ops(dev)) && likely(dev_is_dma_coherent(dev)) &&
	       likely(!is_swiotlb_force_bounce(dev)) &&
	       !dma_addr_encrypted(0) && !force_dma_unencrypted(dev);
}

/* Not 0 where the bus changes addresses. */
static __always_inline uintptr_t dma_phys_plain_bus(struct device *dev)
{
	return (uintptr_t)dev->dma_range_map;
}

/*
 * Where the memory ends that such a device reaches: not even the byte there.
 * An address of ~0 would be the raw API's sentinel.
 */
static __always_inline u64 dma_phys_plain_end(struct device *dev)
{
	u64 limit = dev->bus_dma_limit, mask = *dev->dma_mask;

	return limit && limit < mask ? limit : mask;
}

/* What they end with is the same: they are written in one store. */
#define PLAIN_TAIL(type)						\
	static_assert(offsetof(type, dir) % sizeof(u64) == 0 ||		\
		      !IS_ENABLED(CONFIG_64BIT));			\
	static_assert(offsetof(type, kind) == offsetof(type, dir) + 1);	\
	static_assert(offsetof(type, route) == offsetof(type, dir) + 2);	\
	static_assert(offsetof(type, flags) == offsetof(type, dir) + 3);	\
	static_assert(offsetof(type, id) == offsetof(type, dir) + 4)

PLAIN_TAIL(struct dma_phys_map);
PLAIN_TAIL(struct dma_phys_vec);

/* Of a handle of memory, that was empty, from @dir to @id. */
#define dma_phys_plain_tail(handle, direction, its_route, its_flags)	\
	(*(__force __le64 *)&(handle)->dir = cpu_to_le64(		\
		(u64)(direction) | DMA_PHYS_CPU << 8 |			\
		(its_route) << 16 | (u64)(its_flags) << 24))

#ifdef CONFIG_IOMMU_DMA
/*
 * The kernel's own short way through an IOMMU, for memory that needs no slot and
 * no cache maintenance: the address, or DMA_MAPPING_ERROR and nothing done. The
 * attribute keeps it away from slots: it fails where the range needs one, and
 * looks for none when it fails.
 */
static __always_inline dma_addr_t
dma_phys_quick_map(struct device *dev, phys_addr_t phys, size_t len,
		   enum dma_data_direction dir)
{
	return iommu_dma_map_phys(dev, phys, len, dir,
				  DMA_ATTR_REQUIRE_COHERENT);
}

/*
 * It may be tried. Address 0 could not be told from none at unmap; the top bit
 * of a length means something else there, and without it no sum wraps around.
 */
static __always_inline bool dma_phys_quick_range(struct device *dev,
						 phys_addr_t phys, size_t len)
{
	return likely(phys) && likely(len) &&
	       likely(!((phys | len) & DMA_IOVA_USE_SWIOTLB)) &&
	       likely(dev_is_dma_coherent(dev)) &&
	       likely(!dma_get_min_align_mask(dev));
}

/*
 * And back. False where the device has lost it, or the handle is empty or a copy
 * of one: then nothing is touched.
 */
static __always_inline bool
dma_phys_quick_unmap(const struct dma_phys_map *map)
{
	struct device *dev = map->dev;

	if (unlikely(!dev) || unlikely(!use_dma_iommu(dev)) ||
	    unlikely(iommu_iova_to_phys(iommu_get_dma_domain(dev),
					map->addr) != map->undo))
		return false;
	iommu_dma_unmap_phys(dev, map->addr, map->size, map->dir,
			     DMA_ATTR_MMIO);
	return true;
}
#else
static __always_inline dma_addr_t
dma_phys_quick_map(struct device *dev, phys_addr_t phys, size_t len,
		   enum dma_data_direction dir)
{
	return DMA_MAPPING_ERROR;
}

static __always_inline bool dma_phys_quick_range(struct device *dev,
						 phys_addr_t phys, size_t len)
{
	return false;
}

static __always_inline bool
dma_phys_quick_unmap(const struct dma_phys_map *map)
{
	return false;
}
#endif

#endif /* _KERNEL_DMA_PHYS_PLAIN_H */

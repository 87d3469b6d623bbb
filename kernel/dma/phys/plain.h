/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The device that needs nothing: it is coherent, nothing translates what it
 * asks for, nothing copies, and its DMA addresses are the physical ones. Most
 * devices are so for most memory. To map for one is to look, and to unmap is
 * nothing at all.
 *
 * Here is only what says yes. Who is told no takes route.c, which decides from
 * the same facts in full, and knows the errno.
 */
#ifndef _KERNEL_DMA_PHYS_PLAIN_H
#define _KERNEL_DMA_PHYS_PLAIN_H

#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu-dma.h>
#include <linux/swiotlb.h>

#include "internal.h"

/* What dma_phys_check() would say; and nobody wants to see each step. */
static __always_inline bool
dma_phys_plain_use(struct device *dev, enum dma_data_direction dir, u32 flags)
{
	return likely(dev) && likely(valid_dma_direction(dir)) &&
	       likely(!(flags & ~DMA_PHYS_MANUAL_SYNC)) &&
	       likely(dev->dma_mask) && likely(dev->driver) &&
	       !dma_phys_debug_on() && !dma_phys_may_fail();
}

/* For memory below dma_phys_plain_end() the device needs nothing. */
static __always_inline bool dma_phys_plain_device(struct device *dev)
{
	if (IS_ENABLED(CONFIG_ARCH_HAS_PHYS_TO_DMA) ||
	    !IS_ENABLED(CONFIG_ARCH_DMA_ADDR_T_64BIT))
		return false;
	/* With memory encryption an address is more than a number. */
	return !use_dma_iommu(dev) && likely(!get_dma_ops(dev)) &&
	       likely(dev_is_dma_coherent(dev)) &&
	       likely(!dev->dma_range_map) &&
	       likely(!is_swiotlb_force_bounce(dev)) &&
	       !dma_addr_encrypted(0) && !force_dma_unencrypted(dev);
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

/* It reaches all of a range, which is one. */
static __always_inline bool dma_phys_plain_range(struct device *dev, u64 addr,
						 u64 len)
{
	u64 last = dma_phys_last(addr, len);

	/* A limit of 0 is none. */
	return likely(last >= addr) && likely(last < *dev->dma_mask) &&
	       likely(last <= dev->bus_dma_limit - 1);
}

#endif /* _KERNEL_DMA_PHYS_PLAIN_H */

/* SPDX-License-Identifier: GPL-2.0 */
/* Records of live maps: debug.c keeps them, leak.c reports them. */
#ifndef _KERNEL_DMA_PHYS_DEBUG_H
#define _KERNEL_DMA_PHYS_DEBUG_H

#include <linux/types.h>

struct device;

/**
 * struct dma_phys_debug_record - a live map or list
 * @dev: the device, for comparison: not held. NULL after it was removed
 * @name: name of the device
 * @phys: physical address of the first byte
 * @addr: DMA address of the first byte, DMA_MAPPING_ERROR if a list keeps none
 * @size: length in bytes
 * @mapped_at: in jiffies
 * @caller: return address of the map
 * @kind: enum dma_phys_kind
 * @route: enum dma_phys_route
 * @dir: enum dma_data_direction
 * @is_sg: it is a list; @phys and @addr are of its first range
 * @unmapping: an unmap is in progress
 * @stale: its unmap was refused, as the device had changed
 * @leaked: its driver was unbound
 */
struct dma_phys_debug_record {
	const struct device *dev;
	char name[32];
	phys_addr_t phys;
	dma_addr_t addr;
	size_t size;
	u64 mapped_at;
	unsigned long caller;
	u8 kind;
	u8 route;
	u8 dir;
	bool is_sg;
	bool unmapping;
	bool stale;
	bool leaked;
};

u64 dma_phys_debug_age_ms(const struct dma_phys_debug_record *rec);

/*
 * Mark the next record of @dev as leaked and copy it. @id is 0 before the first
 * call. False if there is no other that is not marked yet.
 */
bool dma_phys_debug_next_leak(const struct device *dev, unsigned long *id,
			      struct dma_phys_debug_record *leak);

/* @dev was removed: its address may become that of another device. */
void dma_phys_debug_forget(const struct device *dev);

#endif /* _KERNEL_DMA_PHYS_DEBUG_H */

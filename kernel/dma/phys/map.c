// SPDX-License-Identifier: GPL-2.0
/*
 * One range: map, sync, unmap. Arguments are checked here, the route does the
 * work, and everyone who watches DMA is told.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/instruction_pointer.h>
#include <linux/kmsan.h>
#include <trace/events/dma.h>

#include "../debug.h"
#include "internal.h"
#include "plain.h"

#define CREATE_TRACE_POINTS
#include <trace/events/dma_phys.h>

int dma_phys_check(struct device *dev, enum dma_data_direction dir, u32 flags)
{
	if (!dev || !valid_dma_direction(dir) || flags & ~DMA_PHYS_MANUAL_SYNC)
		return -EINVAL;
	if (!dev->dma_mask)
		return -EINVAL;
	if (!dev->driver)
		return -ENODEV;
	return 0;
}

static int check(struct device *dev, phys_addr_t addr, size_t len,
		 enum dma_data_direction dir, u32 flags,
		 const struct dma_phys_map *map)
{
	/* A live handle would be lost by writing over it. */
	if (map->dev || !dma_phys_range_ok(addr, len))
		return -EINVAL;
	return dma_phys_check(dev, dir, flags);
}

/* Everyone who watches is told how it went. */
static noinline int tell_mapped(const struct dma_phys_map *map,
				phys_addr_t phys, int err)
{
	unsigned long attrs = dma_phys_attrs(map);

	trace_dma_phys_map(map, phys, err);
	if (err)
		return err;

	if (map->kind == DMA_PHYS_CPU)
		kmsan_handle_dma(phys, map->size, map->dir);
	trace_dma_map_phys(map->dev, phys, map->addr, map->size, map->dir,
			   attrs);
	debug_dma_map_phys(map->dev, phys, map->size, map->dir, map->addr,
			   attrs);
	/* The error was checked: nobody else ever sees the sentinel. */
	debug_dma_mapping_error(map->dev, map->addr);
	return 0;
}

static void tell_unmapped(const struct dma_phys_map *map)
{
	unsigned long attrs = dma_phys_attrs(map);

	trace_dma_unmap_phys(map->dev, map->addr, map->size, map->dir, attrs);
	debug_dma_unmap_phys(map->dev, map->addr, map->size, map->dir, attrs);
}

static bool quick_watched(void)
{
	return IS_ENABLED(CONFIG_DMA_API_DEBUG) || IS_ENABLED(CONFIG_KMSAN) ||
	       trace_dma_phys_map_enabled() || trace_dma_map_phys_enabled();
}

/* Where it went well, the handle is the caller's. */
static int finish(struct dma_phys_map *new, phys_addr_t phys, int err,
		  struct dma_phys_map *map, unsigned long caller)
{
	if (dma_phys_debug_on())
		dma_phys_debug_map(new, phys, err, caller);
	err = tell_mapped(new, phys, err);
	if (!err)
		*map = *new;
	return err;
}

static noinline int map_cpu_routed(struct device *dev,
				   const struct cpu_phys *range,
				   enum dma_data_direction dir, u32 flags,
				   struct dma_phys_map *map,
				   unsigned long caller)
{
	struct dma_phys_map new = {};
	int err;

	if (!range || !map)
		return -EINVAL;
	err = check(dev, range->addr, range->len, dir, flags, map);
	if (err)
		return err;

	new.dev = dev;
	new.size = range->len;
	new.dir = dir;
	new.kind = DMA_PHYS_CPU;
	new.flags = flags;

	err = dma_phys_route_cpu(&new, range->addr);
	return finish(&new, range->addr, err, map, caller);
}

static noinline int map_cpu_iommu(struct device *dev,
				  const struct cpu_phys *range,
				  enum dma_data_direction dir, u32 flags,
				  struct dma_phys_map *map,
				  unsigned long caller)
{
	phys_addr_t phys = range->addr;
	size_t len = range->len;

	if (unlikely((uintptr_t)map->dev | (flags & ~DMA_PHYS_MANUAL_SYNC)))
		return map_cpu_routed(dev, range, dir, flags, map, caller);
	if (unlikely(!dma_phys_quick_range(dev, phys, len)))
		return map_cpu_routed(dev, range, dir, flags, map, caller);

	/* Written first: what the handle keeps need not be kept elsewhere. */
	map->size = len;
	map->undo = phys;
	dma_phys_plain_tail(map, dir, DMA_PHYS_IOMMU, flags | DMA_PHYS_QUICK);
	map->addr = dma_phys_quick_map(dev, phys, len, dir);
	if (unlikely(map->addr == DMA_MAPPING_ERROR)) {
		dir = map->dir;
		flags = map->flags & ~DMA_PHYS_QUICK;
		*map = (struct dma_phys_map){};
		return map_cpu_routed(dev, range, dir, flags, map, caller);
	}
	map->dev = dev;
	return quick_watched() ? tell_mapped(map, map->undo, 0) : 0;
}

/* Nothing will be undone, so that nothing is noted for it. */
static __always_inline int map_cpu_plain(struct device *dev, u64 addr, u64 len,
					 enum dma_data_direction dir, u32 flags,
					 struct dma_phys_map *map)
{
	map->dev = dev;
	map->addr = addr;
	map->size = len;
	dma_phys_plain_tail(map, dir, DMA_PHYS_DIRECT,
			    flags | DMA_PHYS_PLAIN);
	return quick_watched() ? tell_mapped(map, addr, 0) : 0;
}

/* With flags, or where the bus reaches less than the device's mask. */
static noinline int map_cpu_limited(struct device *dev,
				    const struct cpu_phys *range,
				    enum dma_data_direction dir, u32 flags,
				    struct dma_phys_map *map,
				    unsigned long caller)
{
	u64 last;

	if (map->dev || !dma_phys_plain_flags(flags) ||
	    dma_phys_plain_bus(dev) ||
	    !dma_phys_last(range->addr, range->len, &last) ||
	    last >= dma_phys_plain_end(dev))
		return map_cpu_routed(dev, range, dir, flags, map, caller);
	return map_cpu_plain(dev, range->addr, range->len, dir, flags, map);
}

/**
 * dma_phys_map_cpu() - let a device reach memory that the CPU caches
 * @dev: the device; its driver is bound and has set a DMA mask
 * @range: the memory, which must stay allocated until the map is undone
 * @dir: who writes: DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL
 * @flags: 0 or DMA_PHYS_MANUAL_SYNC
 * @map: an empty handle
 *
 * On success the device owns the memory, and finds it at @map->addr, all
 * @map->size bytes in a row. The CPU must not touch it before
 * dma_phys_sync_for_cpu() or dma_phys_unmap().
 *
 * Context: Any. Does not sleep and allocates nothing but, with GFP_ATOMIC, page
 * tables under an IOMMU and what a growing pool of bounce slots takes.
 * Return:
 * * 0 - the range is mapped; on failure @map stays empty
 * * -EINVAL - a pointer is NULL; @map is not empty; no such direction or flag;
 *   the range is empty or wraps around; the device has no DMA mask; physical
 *   address 0 under an IOMMU; the device writes, is not coherent, and the range
 *   shares a cache line with what lies beside it
 * * -ENODEV - no driver is bound to the device
 * * -ERANGE - the device cannot address the range, and it cannot be bounced:
 *   there are no slots, or the range is not in the kernel's direct map
 * * -E2BIG - the range is larger than one bounce slot, or than all IOVA space
 * * -EAGAIN - bounce slots or IOVA space are used up
 * * -ENOMEM - no memory for IOMMU page tables
 * * -EOPNOTSUPP - the device's route cannot map memory, or not with the
 *   alignment that the device asks for; or the device is not coherent, and the
 *   range not in the kernel's direct map
 */
int dma_phys_map_cpu(struct device *dev, const struct cpu_phys *range,
		     enum dma_data_direction dir, u32 flags,
		     struct dma_phys_map *map)
{
	u64 addr, len, last;

	if (unlikely(!range) || unlikely(!map) ||
	    unlikely(!dma_phys_plain_use(dev, dir)))
		return map_cpu_routed(dev, range, dir, flags, map, _RET_IP_);
	if (use_dma_iommu(dev))
		return map_cpu_iommu(dev, range, dir, flags, map, _RET_IP_);

	addr = range->addr;
	len = range->len;
	if (unlikely(!dma_phys_plain_device(dev)) ||
	    unlikely(!dma_phys_last(addr, len, &last)) ||
	    unlikely(last >= *dev->dma_mask))
		return map_cpu_routed(dev, range, dir, flags, map, _RET_IP_);
	/* None of them is the rule: they are asked together. */
	if (unlikely((uintptr_t)map->dev | dma_phys_plain_bus(dev) |
		     dev->bus_dma_limit | flags))
		return map_cpu_limited(dev, range, dir, flags, map, _RET_IP_);

	return map_cpu_plain(dev, addr, len, dir, 0, map);
}
EXPORT_SYMBOL_GPL(dma_phys_map_cpu);

/**
 * dma_phys_map_mmio() - let a device reach device memory
 * @dev: the device; its driver is bound and has set a DMA mask
 * @range: the device memory
 * @dir: who writes: DMA_TO_DEVICE means that @dev reads the device memory
 * @flags: 0 or DMA_PHYS_MANUAL_SYNC, which changes nothing here
 * @map: an empty handle
 *
 * The memory is never bounced, never in a CPU cache, and never given a kernel
 * address. Where the range belongs to a peer, the map holds the peer: its
 * driver cannot finish detaching before dma_phys_unmap(). So map it for a
 * transfer, not for the life of a driver: one thread that detaches two devices
 * would wait for a map that only itself can undo.
 *
 * Context: Any, but for a peer's range process, atomic or not. Does not sleep and
 * allocates nothing but, under an IOMMU, page tables with GFP_ATOMIC, and at the
 * first map between two peers a note of how they are connected.
 * Return:
 * * 0 - the range is mapped; on failure @map stays empty
 * * -EINVAL - a pointer is NULL; @map is not empty; no such direction or flag;
 *   the range is empty or wraps around; the device has no DMA mask; physical
 *   address 0 under an IOMMU
 * * -ENODEV - no driver is bound to the device, or the peer is gone
 * * -ERANGE - the device cannot address the range
 * * -EREMOTEIO - nothing connects the device and the peer
 * * -EOPNOTSUPP - the device's route cannot map device memory: bouncing is
 *   forced, the legacy operations cannot, or the device is untrusted and the
 *   range not aligned to the IOMMU's granule
 * * -E2BIG - the range is larger than all IOVA space
 * * -EAGAIN - IOVA space is used up
 * * -ENOMEM - no memory for IOMMU page tables
 */
int dma_phys_map_mmio(struct device *dev, const struct mmio_phys *range,
		      enum dma_data_direction dir, u32 flags,
		      struct dma_phys_map *map)
{
	struct dma_phys_map new = {};
	int err;

	if (!range || !map)
		return -EINVAL;
	err = check(dev, range->addr, range->len, dir, flags, map);
	if (err)
		return err;

	new.dev = dev;
	new.size = range->len;
	new.dir = dir;
	new.kind = DMA_PHYS_MMIO;
	new.flags = flags;

	err = dma_phys_route_mmio(&new, range->addr, range->peer);
	return finish(&new, range->addr, err, map, _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_map_mmio);

static bool has(const struct dma_phys_map *map, size_t offset, size_t len)
{
	return map && map->dev && len &&
	       dma_phys_within(offset, len, map->size);
}

/**
 * dma_phys_sync_for_cpu() - give part of a range back to the CPU
 * @map: the handle
 * @offset: bytes from the start of the map
 * @len: length in bytes
 *
 * Afterwards the CPU may read what the device wrote. Does nothing for device
 * memory.
 *
 * Context: Any.
 * Return: 0, or -EINVAL where @map is empty, or @len is 0 or leaves it.
 */
int dma_phys_sync_for_cpu(struct dma_phys_map *map, size_t offset, size_t len)
{
	if (!has(map, offset, len))
		return -EINVAL;
	if (map->kind == DMA_PHYS_MMIO)
		return 0;

	if (!(map->flags & (DMA_PHYS_PLAIN | DMA_PHYS_QUICK)))
		dma_phys_route_sync_for_cpu(map, offset, len);
	trace_dma_phys_sync(map, offset, len, true);
	trace_dma_sync_single_for_cpu(map->dev, map->addr + offset, len,
				      map->dir);
	debug_dma_sync_single_for_cpu(map->dev, map->addr + offset, len,
				      map->dir);
	return 0;
}
EXPORT_SYMBOL_GPL(dma_phys_sync_for_cpu);

/**
 * dma_phys_sync_for_device() - give part of a range to the device again
 * @map: the handle
 * @offset: bytes from the start of the map
 * @len: length in bytes
 *
 * Afterwards the device may read what the CPU wrote, and the CPU must not touch
 * it. Does nothing for device memory.
 *
 * Context: Any.
 * Return: 0, or -EINVAL where @map is empty, or @len is 0 or leaves it.
 */
int dma_phys_sync_for_device(struct dma_phys_map *map, size_t offset,
			     size_t len)
{
	if (!has(map, offset, len))
		return -EINVAL;
	if (map->kind == DMA_PHYS_MMIO)
		return 0;

	if (!(map->flags & (DMA_PHYS_PLAIN | DMA_PHYS_QUICK)))
		dma_phys_route_sync_for_device(map, offset, len);
	trace_dma_phys_sync(map, offset, len, false);
	trace_dma_sync_single_for_device(map->dev, map->addr + offset, len,
					 map->dir);
	debug_dma_sync_single_for_device(map->dev, map->addr + offset, len,
					 map->dir);
	return 0;
}
EXPORT_SYMBOL_GPL(dma_phys_sync_for_device);

static bool unmap_watched(void)
{
	return IS_ENABLED(CONFIG_DMA_API_DEBUG) ||
	       trace_dma_phys_unmap_enabled() || trace_dma_unmap_phys_enabled();
}

static noinline void unmap_told(struct dma_phys_map *map, unsigned long caller)
{
	bool undone;

	if (!map->dev)
		return;
	if (dma_phys_debug_unmap(map->id, caller)) {
		undone = map->flags & DMA_PHYS_PLAIN ||
			 dma_phys_route_undo(map);
		trace_dma_phys_unmap(map, 0, undone ? 0 : -ENODEV);
		if (undone)
			tell_unmapped(map);
		dma_phys_debug_unmapped(map->id, undone);
	}
	*map = (struct dma_phys_map){};
}

static noinline void unmap_quick(struct dma_phys_map *map, unsigned long caller)
{
	if (likely(dma_phys_quick_unmap(map)))
		*map = (struct dma_phys_map){};
	else
		unmap_told(map, caller);
}

/**
 * dma_phys_unmap() - undo a map
 * @map: the handle; empty afterwards
 *
 * The device must be done with the range. Does nothing for an empty handle or
 * for NULL. A handle is not copied: it is one map's, and undone once. Where the
 * device has lost the DMA domain or the legacy operations that it was mapped
 * with, nothing is touched: what was mapped is lost, as dma-debug will tell.
 *
 * Context: Any.
 */
void dma_phys_unmap(struct dma_phys_map *map)
{
	if (unlikely(!map))
		return;

	if (likely(map->flags & DMA_PHYS_PLAIN) && !unmap_watched())
		/* It has noted nothing in @undo. */
		*map = (struct dma_phys_map){ .undo = map->undo };
	else if (likely(map->flags & DMA_PHYS_QUICK) && !unmap_watched())
		unmap_quick(map, _RET_IP_);
	else
		unmap_told(map, _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_unmap);

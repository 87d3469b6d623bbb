// SPDX-License-Identifier: GPL-2.0
/*
 * One range: sync, unmap.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/instruction_pointer.h>
#include <linux/iommu.h>

#include "fastpath.h"
#include "internal.h"

void dma_phys_report_stale(struct device *dev)
{
	dev_err_once(dev, "dma-phys: driver %s unmaps what was mapped through another IOMMU domain or other DMA ops: not unmapped\n",
		     dev_driver_string(dev));
}

/* ---- Sync ---- */

/* The device still maps through what it mapped through then. */
static __always_inline bool dma_phys_fits(const struct dma_phys_map *map)
{
	bool is_dma = map->flags & DMA_PHYS_COHERENT && use_dma_iommu(map->dev);
	const void *target = likely(is_dma) ? iommu_get_domain_for_dev(map->dev) :
					      dma_phys_target(map->dev);

	return target == map->target || map->route == DMA_PHYS_BUS;
}

static noinline int dma_phys_check_fits(const struct dma_phys_map *map)
{
	if (likely(dma_phys_fits(map)))
		return 0;
	dma_phys_report_stale(map->dev);
	return -EINVAL;
}

static noinline int dma_phys_sync_ask(const struct dma_phys_map *map,
				      size_t offset, size_t len, bool for_cpu)
{
	if (dma_phys_check_fits(map))
		return -EINVAL;
	(for_cpu ? dma_sync_single_for_cpu : dma_sync_single_for_device)
		(map->dev, map->addr + offset, len, map->dir);
	return 0;
}

static __always_inline int dma_phys_sync(const struct dma_phys_map *map,
					 size_t offset, size_t len,
					 bool for_cpu)
{
	if (!map || !map->dev || !len ||
	    !dma_phys_within(offset, len, map->size))
		return -EINVAL;
	if (map->kind == DMA_PHYS_MMIO || map->flags & DMA_PHYS_FAST)
		return 0;
	return map->flags & DMA_PHYS_COHERENT ? dma_phys_check_fits(map) :
		dma_phys_sync_ask(map, offset, len, for_cpu);
}

/**
 * dma_phys_sync_for_cpu() - transfer a part of a range to the CPU
 * @map: the handle
 * @offset: bytes from the start of the map
 * @len: length in bytes
 *
 * Afterwards the CPU reads what the device wrote. A no-op for device memory.
 *
 * Context: Any.
 * Return: 0, or -EINVAL if @map is empty or stale, @len is 0, or the part
 * exceeds the map.
 */
int dma_phys_sync_for_cpu(struct dma_phys_map *map, size_t offset, size_t len)
{
	return dma_phys_sync(map, offset, len, true);
}
EXPORT_SYMBOL_GPL(dma_phys_sync_for_cpu);

/**
 * dma_phys_sync_for_device() - transfer a part of a range to the device again
 * @map: the handle
 * @offset: bytes from the start of the map
 * @len: length in bytes
 *
 * Afterwards the device reads what the CPU wrote, and the CPU must not access
 * the part. A no-op for device memory.
 *
 * Context: Any.
 * Return: 0, or -EINVAL if @map is empty or stale, @len is 0, or the part
 * exceeds the map.
 */
int dma_phys_sync_for_device(struct dma_phys_map *map, size_t offset,
			     size_t len)
{
	return dma_phys_sync(map, offset, len, false);
}
EXPORT_SYMBOL_GPL(dma_phys_sync_for_device);

/* ---- Unmap ---- */

/* False if the device has changed: then nothing is touched. */
static bool dma_phys_ask_unmap(struct dma_phys_map *map)
{
	if (map->flags & DMA_PHYS_FAST)
		return true;
	if (dma_phys_check_fits(map))
		return false;

	if (map->route != DMA_PHYS_BUS)
		dma_unmap_phys(map->dev, map->addr, map->size, map->dir,
			       dma_phys_attrs(map->kind, map->flags));
	if (map->peer)
		dma_phys_peer_put(map->peer);
	return true;
}

static noinline void dma_phys_unmap_slow(struct dma_phys_map *map,
					 unsigned long caller)
{
	bool unmapped;

	if (!map->dev)
		return;
	if (dma_phys_debug_unmap(map->id, caller)) {
		unmapped = dma_phys_ask_unmap(map);
		trace_dma_phys_unmap(map, 0, unmapped ? 0 : -ENODEV);
		dma_phys_debug_unmapped(map->id, unmapped);
	}
	*map = (struct dma_phys_map){};
}

/* What dma_map_phys() has mapped, with nothing to report and no peer to put. */
static noinline void dma_phys_unmap_ask(struct dma_phys_map *map,
					unsigned long caller)
{
	unsigned long attrs = DMA_ATTR_REQUIRE_COHERENT | DMA_ATTR_NO_WARN;

	if (map->route == DMA_PHYS_BUS && !map->id &&
	    !trace_dma_phys_unmap_enabled()) {
		dma_phys_peer_put(map->peer);
		*map = (struct dma_phys_map){};
		return;
	}
	if (unlikely(map->id) || trace_dma_phys_unmap_enabled() ||
	    (!(map->flags & DMA_PHYS_COHERENT) &&
	     (unlikely(!map->dev) || unlikely(map->peer))) ||
	    unlikely(!dma_phys_fits(map)))
		return dma_phys_unmap_slow(map, caller);

	if (!(map->flags & DMA_PHYS_COHERENT))
		attrs = dma_phys_attrs(map->kind, map->flags);
	dma_unmap_phys(map->dev, map->addr, map->size, map->dir, attrs);
	*map = (struct dma_phys_map){};
}

/**
 * dma_phys_unmap() - unmap a range
 * @map: the handle; empty afterwards
 *
 * The device has finished with the range. The CPU owns it afterwards. A no-op
 * for an empty handle and for NULL. A handle must not be copied: it stands for
 * one map and is unmapped once. If the IOMMU domain or the DMA ops of the device
 * have changed since it was mapped, nothing is touched, and this is reported
 * once.
 *
 * Context: Any.
 */
void dma_phys_unmap(struct dma_phys_map *map)
{
	if (unlikely(!map))
		return;

	if (likely(map->flags & DMA_PHYS_FAST) &&
	    !trace_dma_phys_unmap_enabled()) {
		/* It has stored nothing in @target and @peer. */
		map->dev = NULL;
		map->addr = 0;
		map->size = 0;
		dma_phys_set_tail(map, 0, 0, DMA_PHYS_CPU, DMA_PHYS_NONE, 0);
	} else {
		dma_phys_unmap_ask(map, _RET_IP_);
	}
}
EXPORT_SYMBOL_GPL(dma_phys_unmap);

/**
 * dma_phys_unmap_nosync() - unmap a range that the CPU owns already
 * @map: the handle; empty afterwards
 *
 * Like dma_phys_unmap(), but the data is not transferred to the CPU: for memory
 * that the CPU has owned since the last dma_phys_sync_for_cpu(), or that was
 * never given to the device. What the CPU has written stays.
 *
 * Context: Any.
 */
void dma_phys_unmap_nosync(struct dma_phys_map *map)
{
	if (unlikely(!map) || unlikely(!map->dev))
		return;

	map->flags |= DMA_PHYS_SKIP_CPU_SYNC;
	dma_phys_unmap_slow(map, _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_unmap_nosync);

/**
 * dma_phys_leak() - report memory that is leaked together with its map
 * @dev: the device that may access it indefinitely
 * @size: length in bytes
 *
 * For owners that lose a handle while the device owns the memory: the map and the
 * memory stay, so that the device does not write into memory of others. Counted
 * in debugfs, and reported, ratelimited.
 *
 * Context: Any.
 */
void __cold dma_phys_leak(struct device *dev, size_t size)
{
	if (IS_ENABLED(CONFIG_DMA_PHYS_DEBUG))
		dma_phys_debug_count_lost();
	dev_err_ratelimited(dev, "dma-phys: driver %s lost %zu bytes that the device owns: they stay mapped, and are never freed\n",
			    dev_driver_string(dev), size);
}
EXPORT_SYMBOL_GPL(dma_phys_leak);

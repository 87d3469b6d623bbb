// SPDX-License-Identifier: GPL-2.0
/*
 * One range: map.
 *
 * The kernel's own entry points do the mapping. The handle remembers device,
 * address, size, direction and attributes, and what the device mapped through,
 * and unmap brings exactly that back.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/instruction_pointer.h>
#include <linux/cc_platform.h>
#include <linux/iommu.h>

#include "fastpath.h"
#include "internal.h"

DEFINE_STATIC_KEY_FALSE(dma_phys_fast_key);

static int __init dma_phys_map_init(void)
{
	if (!cc_platform_has(CC_ATTR_MEM_ENCRYPT))
		static_branch_enable(&dma_phys_fast_key);
	return 0;
}
core_initcall(dma_phys_map_init);

/* ---- Asking the kernel ---- */

const void *dma_phys_target(struct device *dev)
{
	if (use_dma_iommu(dev))
		return iommu_get_domain_for_dev(dev) ?: ERR_PTR(-ENODEV);
	return get_dma_ops(dev);
}

static dma_addr_t dma_phys_ask(struct dma_phys_map *map, phys_addr_t phys)
{
	dma_addr_t addr;

	if (dma_phys_fail())
		return DMA_MAPPING_ERROR;
	addr = dma_map_phys(map->dev, phys, map->size, map->dir,
			    dma_phys_attrs(map->kind, map->flags));
	return dma_mapping_error(map->dev, addr) ? DMA_MAPPING_ERROR : addr;
}

static noinline int dma_phys_map_bus(struct dma_phys_map *map, phys_addr_t phys,
				     const struct dma_phys_p2p_path *path)
{
	dma_addr_t addr = phys + path->bus_offset;
	dma_addr_t last = addr + map->size - 1;

	map->route = DMA_PHYS_BUS;
	if (last < addr ||
	    last > min_not_zero(*map->dev->dma_mask, map->dev->bus_dma_limit))
		return -ERANGE;
	map->addr = addr;
	return 0;
}

int dma_phys_map_range(struct dma_phys_map *map, phys_addr_t phys, bool raw,
		       const struct dma_phys_p2p_path *path)
{
	int err;

	if (path && path->route == DMA_PHYS_BUS)
		return dma_phys_map_bus(map, phys, path);

	map->route = dma_phys_route(map, phys);
	/* No legacy ops know peers, not even those that are bypassed. */
	if (path && get_dma_ops(map->dev))
		return -EOPNOTSUPP;
	err = dma_phys_precheck(map, phys, raw);
	if (err)
		return err;

	map->target = dma_phys_target(map->dev);
	map->addr = dma_phys_ask(map, phys);
	if (map->addr == DMA_MAPPING_ERROR)
		return dma_phys_explain(map, phys);

	/*
	 * On a coherent device only a bounce buffer has to be synced. Of a device
	 * with ops the kernel says so of all maps.
	 */
	if (map->route == DMA_PHYS_DIRECT && map->kind == DMA_PHYS_CPU &&
	    dev_is_dma_coherent(map->dev) && !get_dma_ops(map->dev) &&
	    dma_need_sync(map->dev, map->addr))
		map->route = DMA_PHYS_BOUNCE;
	return 0;
}

/* ---- Map ---- */

/* Out of line, so that the fast path needs no stack. */
static noinline void __dma_phys_trace_map(const struct dma_phys_map *map,
					  phys_addr_t phys, int err)
{
	trace_dma_phys_map(map, phys, err);
}

static __always_inline void dma_phys_trace_map(const struct dma_phys_map *map,
					       phys_addr_t phys, int err)
{
	if (trace_dma_phys_map_enabled())
		__dma_phys_trace_map(map, phys, err);
}

static int dma_phys_map_peer(struct dma_phys_map *map, phys_addr_t phys,
			     u32 id)
{
	struct dma_phys_p2p_path path;
	struct dma_phys_peer *peer;
	int err;

	peer = dma_phys_peer_get(id);
	if (IS_ERR(peer))
		return PTR_ERR(peer);

	err = dma_phys_peer_path(peer, map->dev, &path);
	if (!err)
		err = dma_phys_map_range(map, phys, false, &path);
	if (err)
		dma_phys_peer_put(peer);
	else
		map->peer = peer;
	return err;
}

static int dma_phys_map_slow(struct device *dev,
			     const struct dma_phys_range *range,
			     enum dma_data_direction dir, u32 flags,
			     struct dma_phys_map *map, unsigned long caller)
{
	int err;

	/* A live handle would be lost by writing over it. */
	if (!map || map->dev || !dma_phys_range_ok(range->addr, range->len))
		return -EINVAL;
	err = dma_phys_check(dev, dir, flags);
	if (err)
		return err;

	*map = (struct dma_phys_map){
		.dev = dev,
		.size = range->len,
		.dir = dir,
		.kind = range->kind,
		.flags = flags,
	};
	if (range->peer)
		err = dma_phys_map_peer(map, range->addr, range->peer);
	else
		err = dma_phys_map_range(map, range->addr, range->raw, NULL);
	if (dma_phys_debug_on())
		dma_phys_debug_map(map, range->addr, err, caller);
	dma_phys_trace_map(map, range->addr, err);
	if (err)
		*map = (struct dma_phys_map){};
	return err;
}

static noinline int dma_phys_map_cpu_slow(struct device *dev,
					  const struct cpu_phys *cpu,
					  enum dma_data_direction dir,
					  u32 flags, struct dma_phys_map *map,
					  unsigned long caller)
{
	struct dma_phys_range range;

	if (!cpu)
		return -EINVAL;
	range = (struct dma_phys_range){
		.addr = cpu->addr,
		.len = cpu->len,
		.kind = DMA_PHYS_CPU,
		.raw = cpu->raw,
	};
	return dma_phys_map_slow(dev, &range, dir, flags, map, caller);
}

/* Behind an IOMMU, without a bounce. dma-debug would not know it. */
static noinline int dma_phys_map_cpu_iommu(struct device *dev,
					   const struct cpu_phys *range,
					   enum dma_data_direction dir,
					   u32 flags, struct dma_phys_map *map,
					   unsigned long caller)
{
	struct phys_vec vec = { range->addr, range->len };

	if (unlikely(map->dev) || unlikely(flags > DMA_PHYS_SKIP_CPU_SYNC) ||
	    unlikely(!dma_phys_links_memory(dev, vec.paddr, vec.len)))
		return dma_phys_map_cpu_slow(dev, range, dir, flags, map,
					     caller);

	/* What the handle holds needs no register. */
	map->dev = dev;
	map->size = vec.len;
	dma_phys_set_tail(map, dir, flags, DMA_PHYS_CPU, DMA_PHYS_IOMMU,
			  DMA_PHYS_COHERENT);
	map->target = iommu_get_domain_for_dev(dev);
	map->addr = dma_iova_map_vecs(dev, &vec, 1, vec.len, dir);
	if (unlikely(map->addr == DMA_MAPPING_ERROR)) {
		struct dma_phys_map tried = *map;

		/* Try again with a bounce. */
		*map = (struct dma_phys_map){};
		return dma_phys_map_cpu_slow(tried.dev, range, tried.dir,
					     tried.flags &
					     DMA_PHYS_SKIP_CPU_SYNC,
					     map, caller);
	}
	dma_phys_trace_map(map, range->addr, 0);
	return 0;
}

static noinline int dma_phys_map_cpu_refused(struct dma_phys_map *map,
					     phys_addr_t phys)
{
	int err = dma_phys_explain(map, phys);

	dma_phys_trace_map(map, phys, err);
	*map = (struct dma_phys_map){};
	return err;
}

/* On the direct route, through a bounce buffer or not. */
static noinline int dma_phys_map_cpu_bounce(struct device *dev,
					    const struct cpu_phys *range,
					    enum dma_data_direction dir,
					    u32 flags, struct dma_phys_map *map,
					    unsigned long caller)
{
	phys_addr_t phys = range->addr;
	size_t len = range->len;

	if (unlikely(flags > DMA_PHYS_SKIP_CPU_SYNC) || unlikely(range->raw) ||
	    !dma_phys_fast_bounce(dev, phys, len, (uintptr_t)map->dev))
		return dma_phys_map_cpu_slow(dev, range, dir, flags, map,
					     caller);

	map->dev = dev;
	map->size = len;
	dma_phys_set_tail(map, dir, flags, DMA_PHYS_CPU, DMA_PHYS_BOUNCE, 0);
	map->addr = dma_map_phys(dev, phys, len, dir,
				 dma_phys_attrs(DMA_PHYS_CPU, flags));
	if (unlikely(map->addr == DMA_MAPPING_ERROR))
		return dma_phys_map_cpu_refused(map, phys);
	if (unlikely(map->addr == phys))
		map->route = DMA_PHYS_DIRECT;
	dma_phys_trace_map(map, phys, 0);
	return 0;
}

/**
 * dma_phys_map_cpu() - map memory that the CPU caches for a device
 * @dev: the device; its driver has set a DMA mask
 * @range: the memory, which must stay allocated until it is unmapped
 * @dir: DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC
 * @map: an empty handle
 *
 * On success the device owns the memory and finds all @map->size bytes at
 * @map->addr. The CPU must not access it before dma_phys_sync_for_cpu() or
 * dma_phys_unmap().
 *
 * Context: Any. Does not sleep. The kernel allocates, with GFP_ATOMIC, page
 * tables behind an IOMMU and what a growing pool of bounce buffers takes.
 * Return:
 * * 0 - the range is mapped; on failure @map stays empty
 * * -EINVAL - a pointer is NULL; @map is not empty; invalid direction or flag;
 *   the range is empty or wraps around; the device has no DMA mask; physical
 *   address 0 behind an IOMMU
 * * -ERANGE - the device cannot address the range, and it cannot be bounced:
 *   there is no pool, or the device does not reach it; or the range straddles
 *   two windows of the bus
 * * -E2BIG - larger than one bounce buffer, than all IOVA space, or than the
 *   legacy ops can map
 * * -EAGAIN - all bounce buffers are in use
 * * -ENOMEM - behind an IOMMU: no IOVA space, page table or bounce buffer
 * * -EOPNOTSUPP - the route cannot obey the alignment that the device asks for;
 *   or a raw range would have to be flushed or bounced
 * * -EIO - the kernel refused, legacy ops for example, for a reason that cannot
 *   be determined
 */
int dma_phys_map_cpu(struct device *dev, const struct cpu_phys *range,
		     enum dma_data_direction dir, u32 flags,
		     struct dma_phys_map *map)
{
	u64 addr, len, last;

	if (unlikely(!range) || unlikely(!map) ||
	    unlikely(!dma_phys_fast_use(dev, dir)))
		return dma_phys_map_cpu_slow(dev, range, dir, flags, map,
					     _RET_IP_);
	if (use_dma_iommu(dev))
		return dma_phys_map_cpu_iommu(dev, range, dir, flags, map,
					      _RET_IP_);

	addr = range->addr;
	len = range->len;
	if (unlikely(!dma_phys_fast_device(dev)) ||
	    unlikely(!dma_phys_last(addr, len, &last)) ||
	    unlikely(last >= *dev->dma_mask))
		return dma_phys_map_cpu_bounce(dev, range, dir, flags, map,
					       _RET_IP_);
	/* All of them are rare: check them together. */
	if (unlikely((uintptr_t)map->dev | dma_phys_fast_offset(dev) |
		     dev->bus_dma_limit) ||
	    unlikely(flags > DMA_PHYS_SKIP_CPU_SYNC))
		return dma_phys_map_cpu_slow(dev, range, dir, flags, map,
					     _RET_IP_);

	/* Nothing has to be unmapped, so nothing else is stored. */
	map->dev = dev;
	map->addr = addr;
	map->size = len;
	dma_phys_set_tail(map, dir, flags, DMA_PHYS_CPU, DMA_PHYS_DIRECT,
			  DMA_PHYS_FAST);
	dma_phys_trace_map(map, addr, 0);
	return 0;
}
EXPORT_SYMBOL_GPL(dma_phys_map_cpu);

/*
 * Device memory of a peer, at its address on the bus. False if it is reached in
 * another way, or if anything is wrong: the slow path says what.
 */
static bool dma_phys_map_mmio_bus(struct device *dev,
				  const struct mmio_phys *range,
				  enum dma_data_direction dir, u32 flags,
				  struct dma_phys_map *map)
{
	struct dma_phys_p2p_path path;

	if (!range->peer || !dma_phys_fast_use(dev, dir) || !map || map->dev ||
	    flags > DMA_PHYS_SKIP_CPU_SYNC ||
	    !dma_phys_range_ok(range->addr, range->len))
		return false;

	map->peer = dma_phys_peer_get(range->peer);
	if (IS_ERR(map->peer)) {
		map->peer = NULL;
		return false;
	}
	map->dev = dev;
	map->size = range->len;
	dma_phys_set_tail(map, dir, flags, DMA_PHYS_MMIO, DMA_PHYS_BUS, 0);
	if (!dma_phys_peer_path(map->peer, dev, &path) &&
	    path.route == DMA_PHYS_BUS &&
	    !dma_phys_map_bus(map, range->addr, &path)) {
		dma_phys_trace_map(map, range->addr, 0);
		return true;
	}
	dma_phys_peer_put(map->peer);
	*map = (struct dma_phys_map){};
	return false;
}

/**
 * dma_phys_map_mmio() - map device memory for a device
 * @dev: the device; its driver has set a DMA mask
 * @range: the device memory
 * @dir: DMA_TO_DEVICE means that @dev reads the device memory
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC, which changes nothing here
 * @map: an empty handle
 *
 * Device memory is never bounced, never flushed, and never mapped into the
 * kernel. The map of a peer's range holds the peer: the owner's driver cannot
 * finish detaching before dma_phys_unmap(). A client that maps for longer than a
 * transfer attaches to the peer, see dma_phys_peer_attach(). Two devices that are
 * detached by one thread must not hold maps of each other.
 *
 * Context: Any; process, atomic or not, for the range of a peer. Does not sleep.
 * The kernel allocates, with GFP_ATOMIC, page tables behind an IOMMU, and at the
 * first map between two peers a note of how they are connected.
 * Return:
 * * 0 - the range is mapped; on failure @map stays empty
 * * -EINVAL - a pointer is NULL; @map is not empty; invalid direction or flag;
 *   the range is empty or wraps around; the device has no DMA mask; physical
 *   address 0 behind an IOMMU
 * * -ENODEV - the peer is gone
 * * -EAGAIN - the peer is suspended
 * * -EREMOTEIO - the device cannot reach the peer
 * * -ERANGE - the device cannot address the range
 * * -EOPNOTSUPP - bouncing is forced; the device is untrusted and the range not
 *   aligned to the granule of its IOMMU; or a peer's range on legacy ops
 * * -E2BIG - larger than all IOVA space, or than the legacy ops can map
 * * -ENOMEM - behind an IOMMU: no IOVA space or page table
 * * -EIO - the kernel refused, legacy ops for example, for a reason that cannot
 *   be determined
 */
int dma_phys_map_mmio(struct device *dev, const struct mmio_phys *range,
		      enum dma_data_direction dir, u32 flags,
		      struct dma_phys_map *map)
{
	struct dma_phys_range both;

	if (!range)
		return -EINVAL;
	if (dma_phys_map_mmio_bus(dev, range, dir, flags, map))
		return 0;
	both = (struct dma_phys_range){
		.addr = range->addr,
		.len = range->len,
		.kind = DMA_PHYS_MMIO,
		.peer = range->peer,
	};
	return dma_phys_map_slow(dev, &both, dir, flags, map, _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_map_mmio);

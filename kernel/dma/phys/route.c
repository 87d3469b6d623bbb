// SPDX-License-Identifier: GPL-2.0
/*
 * Which way does the device reach it?
 *
 * The route is decided once, when a range is mapped, from the same facts that
 * dma_map_phys() uses, and written into the handle. Undoing and syncing follow
 * the handle, never the device's present state.
 */
#include <linux/cc_platform.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-phys.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/pci.h>
#include <linux/swiotlb.h>
#include <trace/events/swiotlb.h>

#include "internal.h"

static enum dma_phys_route route_of(struct device *dev,
				    const struct dma_map_ops *ops)
{
	if (use_dma_iommu(dev))
		return DMA_PHYS_IOMMU;
	if (likely(!ops))
		return DMA_PHYS_DIRECT;
	if (IS_ENABLED(CONFIG_DMA_OPS_BYPASS) && dev_dma_ops_bypass(dev) &&
	    min_not_zero(*dev->dma_mask, dev->bus_dma_limit) >=
	    dma_direct_get_required_mask(dev))
		return DMA_PHYS_DIRECT;
	return DMA_PHYS_OPS;
}

/* dma_capable() takes an address that wraps around for a small one. */
static bool reaches(struct device *dev, dma_addr_t addr, size_t size,
		    bool is_ram, unsigned long attrs)
{
	return addr + size - 1 >= addr && !dma_phys_fail() &&
	       dma_capable(dev, addr, size, is_ram, attrs);
}

/* One offset serves the whole range, not just its first byte. */
static bool one_window(struct device *dev, phys_addr_t phys, size_t size)
{
	return likely(!dev->dma_range_map) ||
	       translate_phys_to_dma(dev, phys + size - 1) -
	       translate_phys_to_dma(dev, phys) == size - 1;
}

/* Cache maintenance: only ever of memory that the CPU caches. */

static bool needs_cache_sync(const struct dma_phys_map *map)
{
	return map->kind == DMA_PHYS_CPU && !dev_is_dma_coherent(map->dev);
}

bool dma_phys_route_records(const struct dma_phys_map *map)
{
	return needs_cache_sync(map);
}

/* Whether the cache can be kept right for a range: 0 or -errno. */
static int cache_check(const struct dma_phys_map *map, phys_addr_t phys,
		       size_t len)
{
	/* A slot has its lines for itself. */
	if (!needs_cache_sync(map) || map->flags & DMA_PHYS_BOUNCED)
		return 0;
	if (map->dir != DMA_TO_DEVICE &&
	    dma_phys_shares_line(phys, len, dma_get_cache_alignment()))
		return -EINVAL;
	return dma_phys_in_direct_map(phys, len) ? 0 : -EOPNOTSUPP;
}

static void cache_for_device(const struct dma_phys_map *map, phys_addr_t phys,
			     size_t len)
{
	if (!needs_cache_sync(map))
		return;
	arch_sync_dma_for_device(phys, len, map->dir);
	arch_sync_dma_flush();
}

static void cache_for_cpu(const struct dma_phys_map *map, phys_addr_t phys,
			  size_t len)
{
	if (!needs_cache_sync(map))
		return;
	arch_sync_dma_for_cpu(phys, len, map->dir);
	arch_sync_dma_flush();
	arch_sync_dma_for_cpu_all();
}

static void cache_at_map(const struct dma_phys_map *map, phys_addr_t phys,
			 size_t len)
{
	if (!(map->flags & DMA_PHYS_MANUAL_SYNC))
		cache_for_device(map, phys, len);
}

static void cache_at_unmap(const struct dma_phys_map *map)
{
	if (!(map->flags & DMA_PHYS_MANUAL_SYNC))
		cache_for_cpu(map, map->undo, map->size);
}

/* Bounce slots. */

/*
 * Most bytes of a slot, 0 where none can be aligned as the device needs it:
 * swiotlb keeps no bits above the segment boundary.
 */
static size_t slot_max(struct device *dev)
{
	unsigned int align = dma_get_min_align_mask(dev);

	if (align > IO_TLB_SIZE * (IO_TLB_SEGSIZE - 1) ||
	    align & ~dma_get_seg_boundary(dev))
		return 0;
	return swiotlb_max_mapping_size(dev);
}

/*
 * Whether a slot can take the range, were all of them free: of the address bits
 * that the device needs kept, those within @align_mask cost room in the slot,
 * the others say how far from a segment boundary it starts.
 */
static int slot_fits(const struct dma_phys_map *map, phys_addr_t phys,
		     unsigned int align_mask)
{
	u64 boundary = dma_get_seg_boundary(map->dev);
	u64 kept = phys & dma_get_min_align_mask(map->dev);
	size_t max = slot_max(map->dev), size;

	if (!max)
		return -EOPNOTSUPP;
	if (map->size > max)
		return -E2BIG;
	size = ALIGN(map->size + (kept & align_mask), align_mask + 1);
	if (size > max || size - 1 > boundary - (kept & ~align_mask))
		return -E2BIG;
	return 0;
}

/* On success @map->undo is a slot that holds a copy of the range. */
static int slot_get(struct dma_phys_map *map, phys_addr_t phys,
		    unsigned int align_mask, unsigned long *attrs)
{
	struct device *dev = map->dev;
	phys_addr_t slot;
	int err;

	if (!is_swiotlb_active(dev))
		return -ERANGE;
	err = slot_fits(map, phys, align_mask);
	if (err)
		return err;
	if (!dma_phys_in_direct_map(phys, map->size))
		return -ERANGE;

	trace_swiotlb_bounced(dev, phys_to_dma(dev, phys), map->size);
	*attrs = dma_phys_attrs(map) | DMA_ATTR_NO_WARN;
	slot = dma_phys_fail() ? (phys_addr_t)DMA_MAPPING_ERROR :
	       swiotlb_tbl_map_single(dev, phys, map->size, align_mask,
				      map->dir, attrs);
	if (slot == (phys_addr_t)DMA_MAPPING_ERROR)
		return -EAGAIN;

	map->undo = slot;
	map->flags |= DMA_PHYS_BOUNCED;
	return 0;
}

struct dma_phys_limits dma_phys_slot_limits(struct device *dev)
{
	return (struct dma_phys_limits){
		.max = slot_max(dev),
		.boundary = dma_get_seg_boundary(dev),
		.align = dma_get_min_align_mask(dev),
	};
}

static noinline void slot_put(struct dma_phys_map *map, unsigned long attrs)
{
	swiotlb_tbl_unmap_single(map->dev, map->undo, map->size, map->dir,
				 attrs);
	map->flags &= ~DMA_PHYS_BOUNCED;
}

static int bounce_cpu(struct dma_phys_map *map, phys_addr_t phys)
{
	unsigned long attrs;
	int err;

	map->route = DMA_PHYS_BOUNCE;
	err = slot_get(map, phys, 0, &attrs);
	if (err)
		return err;

	if (attrs & DMA_ATTR_CC_SHARED)
		map->addr = phys_to_dma_unencrypted(map->dev, map->undo);
	else
		map->addr = phys_to_dma_encrypted(map->dev, map->undo);

	if (unlikely(!reaches(map->dev, map->addr, map->size, true, attrs))) {
		slot_put(map, DMA_ATTR_SKIP_CPU_SYNC);
		return -ERANGE;
	}

	cache_at_map(map, map->undo, map->size);
	return 0;
}

/* At the physical address. */

static int direct_cpu(struct dma_phys_map *map, phys_addr_t phys)
{
	struct device *dev = map->dev;
	dma_addr_t addr = phys_to_dma(dev, phys);
	int err;

	map->route = DMA_PHYS_DIRECT;
	if (unlikely(is_swiotlb_force_bounce(dev) ||
		     !reaches(dev, addr, map->size, true, 0) ||
		     !one_window(dev, phys, map->size) ||
		     dma_kmalloc_needs_bounce(dev, map->size, map->dir)))
		return bounce_cpu(map, phys);

	err = cache_check(map, phys, map->size);
	if (err)
		return err;

	map->addr = addr;
	map->undo = phys;
	cache_at_map(map, phys, map->size);
	return 0;
}

static int direct_mmio(struct dma_phys_map *map, phys_addr_t phys)
{
	struct device *dev = map->dev;
	unsigned long attrs = DMA_ATTR_MMIO;
	dma_addr_t addr;

	map->route = DMA_PHYS_DIRECT;
	/* Forced bouncing keeps devices to the slots: no other way is left. */
	if (is_swiotlb_force_bounce(dev))
		return -EOPNOTSUPP;

	/* Memory encryption of the host ends where device memory begins. */
	if (cc_platform_has(CC_ATTR_HOST_MEM_ENCRYPT)) {
		attrs |= DMA_ATTR_CC_SHARED;
		addr = phys_to_dma_unencrypted(dev, phys);
	} else {
		addr = phys_to_dma(dev, phys);
	}

	if (!reaches(dev, addr, map->size, false, attrs) ||
	    !one_window(dev, phys, map->size))
		return -ERANGE;

	map->addr = addr;
	return 0;
}

/* Through an IOVA. */

#ifdef CONFIG_IOMMU_DMA
static bool untrusted(struct device *dev)
{
	return dev_is_pci(dev) && to_pci_dev(dev)->untrusted;
}

static size_t iommu_granule(struct iommu_domain *domain)
{
	return 1UL << __ffs(domain->pgsize_bitmap);
}

static int iommu_prot(const struct dma_phys_map *map)
{
	int prot = 0;

	if (map->kind == DMA_PHYS_MMIO)
		prot = IOMMU_MMIO;
	else if (dev_is_dma_coherent(map->dev))
		prot = IOMMU_CACHE;

	if (map->dir != DMA_FROM_DEVICE)
		prot |= IOMMU_READ;
	if (map->dir != DMA_TO_DEVICE)
		prot |= IOMMU_WRITE;
	return prot;
}

/* The most that one IOVA allocation of this device can ever be. */
static u64 iommu_limit(struct device *dev, struct iommu_domain *domain)
{
	u64 limit = min_not_zero(*dev->dma_mask, dev->bus_dma_limit);

	if (domain->geometry.force_aperture)
		limit = min_t(u64, limit, domain->geometry.aperture_end);

	/*
	 * The top bit of an IOVA allocation's size is not the caller's, and a
	 * size is rounded up to whole granules.
	 */
	return min3(limit, (u64)DMA_IOVA_USE_SWIOTLB - 1,
		    (u64)SIZE_MAX - 2 * iommu_granule(domain));
}

static int iommu_errno(int err)
{
	switch (err) {
	case -ERANGE:
	case -EINVAL:
		return -ERANGE;		/* the IOMMU cannot put it out */
	default:
		return -ENOMEM;
	}
}

int dma_phys_link_start(struct dma_phys_map *map, phys_addr_t phys,
			struct dma_phys_link *link)
{
	struct device *dev = map->dev;
	struct iommu_domain *domain = iommu_get_dma_domain(dev);

	link->linked = 0;
	link->domain = domain;
	link->mask = iommu_granule(domain) - 1;
	link->prot = iommu_prot(map);

	if (dma_get_min_align_mask(dev) > link->mask)
		return -EOPNOTSUPP;
	if (map->size > iommu_limit(dev, domain))
		return -E2BIG;
	if (dma_phys_fail() ||
	    !dma_iova_try_alloc(dev, &link->state, phys, map->size))
		return -EAGAIN;
	return 0;
}

/* A run goes on where the last one ended, in granules that are its own. */
static bool link_fits(const struct dma_phys_map *map,
		      const struct dma_phys_link *link, phys_addr_t phys,
		      size_t len)
{
	dma_addr_t addr = link->state.addr + link->linked;
	u64 astray = link->linked ? addr | phys : addr ^ phys;

	return len && dma_phys_within(link->linked, len, map->size) &&
	       !(astray & link->mask);
}

int dma_phys_link_run(struct dma_phys_map *map, struct dma_phys_link *link,
		      phys_addr_t phys, size_t len)
{
	size_t pad = phys & link->mask;
	int err;

	/* Address 0 cannot be told from «nothing is mapped» at unmap. */
	if (!phys || !link_fits(map, link, phys, len))
		return -EINVAL;

	err = cache_check(map, phys, len);
	if (err)
		return err;
	cache_at_map(map, phys, len);
	err = dma_phys_fail() ? -ENOMEM :
	      iommu_map_nosync(link->domain,
			       link->state.addr + link->linked - pad,
			       phys - pad, ALIGN(len + pad, link->mask + 1),
			       link->prot, GFP_ATOMIC);
	if (err)
		return iommu_errno(err);
	link->linked += len;
	return 0;
}

/* The granules that hold what is linked. */
static void link_span(const struct dma_phys_link *link, dma_addr_t *start,
		      size_t *size)
{
	size_t pad = link->state.addr & link->mask;

	*start = link->state.addr - pad;
	*size = ALIGN(link->linked + pad, link->mask + 1);
}

int dma_phys_link_end(struct dma_phys_map *map, struct dma_phys_link *link)
{
	dma_addr_t start;
	size_t size;
	int err;

	/* Nothing is mapped at what is left of the IOVA. */
	if (link->linked != map->size)
		return -EINVAL;

	link_span(link, &start, &size);
	err = dma_phys_fail() ? -ENOMEM :
	      iommu_sync_map(link->domain, start, size);
	if (err)
		return iommu_errno(err);

	map->addr = link->state.addr;
	map->route = DMA_PHYS_IOMMU;
	return 0;
}

void dma_phys_link_undo(struct dma_phys_map *map, struct dma_phys_link *link)
{
	dma_addr_t start;
	size_t size;

	if (!dma_use_iova(&link->state))
		return;

	link_span(link, &start, &size);
	if (link->linked)
		iommu_unmap(link->domain, start, size);
	dma_iova_free(map->dev, &link->state);
	*link = (struct dma_phys_link){};
}

bool dma_phys_can_link(const struct dma_phys_map *map, size_t *mask,
		       bool *whole)
{
	struct device *dev = map->dev;

	if (!use_dma_iommu(dev))
		return false;
	*mask = iommu_granule(iommu_get_dma_domain(dev)) - 1;
	*whole = untrusted(dev) ||
		 (map->kind == DMA_PHYS_CPU &&
		  !dma_kmalloc_safe(dev, map->dir));
	return true;
}

static int iommu_link(struct dma_phys_map *map, phys_addr_t phys)
{
	struct dma_phys_link link;
	int err;

	err = dma_phys_link_start(map, phys, &link);
	if (err)
		return err;
	err = dma_phys_link_run(map, &link, phys, map->size);
	if (!err)
		err = dma_phys_link_end(map, &link);
	if (err)
		dma_phys_link_undo(map, &link);
	return err;
}

/* What surrounds a slot in its granule is shown to the device as well. */
static void slot_wipe_pads(const struct dma_phys_map *map, size_t granule)
{
	u8 *start = phys_to_virt(map->undo);
	u8 *end = start + map->size;

	memset(PTR_ALIGN_DOWN(start, granule), 0,
	       start - PTR_ALIGN_DOWN(start, granule));
	memset(end, 0, PTR_ALIGN(end, granule) - end);
}

static int iommu_cpu(struct dma_phys_map *map, phys_addr_t phys)
{
	struct device *dev = map->dev;
	struct iommu_domain *domain = iommu_get_dma_domain(dev);
	size_t granule = iommu_granule(domain);
	unsigned long attrs;
	int err;

	map->route = DMA_PHYS_IOMMU;
	/* Not even through a slot, which has another address. */
	if (!phys)
		return -EINVAL;
	if (likely(!((phys | map->size) & (granule - 1))) ||
	    (!untrusted(dev) &&
	     !dma_kmalloc_needs_bounce(dev, map->size, map->dir))) {
		map->undo = phys;
		return iommu_link(map, phys);
	}

	err = slot_get(map, phys, granule - 1, &attrs);
	if (err)
		return err;
	if (untrusted(dev))
		slot_wipe_pads(map, granule);

	err = iommu_link(map, map->undo);
	if (err)
		slot_put(map, DMA_ATTR_SKIP_CPU_SYNC);
	return err;
}

static int iommu_mmio(struct dma_phys_map *map, phys_addr_t phys)
{
	struct iommu_domain *domain = iommu_get_dma_domain(map->dev);

	map->route = DMA_PHYS_IOMMU;
	/* Nothing can bounce, and the whole granule would be exposed. */
	if (untrusted(map->dev) &&
	    (phys | map->size) & (iommu_granule(domain) - 1))
		return -EOPNOTSUPP;

	return iommu_link(map, phys);
}

phys_addr_t dma_phys_route_phys(const struct dma_phys_map *map)
{
	if (!use_dma_iommu(map->dev))
		return 0;
	return iommu_iova_to_phys(iommu_get_dma_domain(map->dev), map->addr);
}

/*
 * The handle still describes this device's page table. A copy of a handle that
 * was unmapped does not, nor one from before the domain was changed.
 */
static bool iommu_linked(const struct dma_phys_map *map)
{
	phys_addr_t phys = dma_phys_route_phys(map);

	return map->kind == DMA_PHYS_CPU ? phys && phys == map->undo : phys;
}

static bool iommu_undo(struct dma_phys_map *map)
{
	if (!iommu_linked(map))
		return false;

	/*
	 * Cache and slot are ours to undo, from the record; for the rest the
	 * attribute says «page table only».
	 */
	cache_at_unmap(map);
	iommu_dma_unmap_phys(map->dev, map->addr, map->size, map->dir,
			     DMA_ATTR_MMIO);
	if (map->flags & DMA_PHYS_BOUNCED)
		slot_put(map, dma_phys_attrs(map));
	return true;
}
#else
static int iommu_cpu(struct dma_phys_map *map, phys_addr_t phys)
{
	return -EOPNOTSUPP;
}

static int iommu_mmio(struct dma_phys_map *map, phys_addr_t phys)
{
	return -EOPNOTSUPP;
}

static bool iommu_undo(struct dma_phys_map *map)
{
	return false;
}

bool dma_phys_can_link(const struct dma_phys_map *map, size_t *mask,
		       bool *whole)
{
	return false;
}

int dma_phys_link_start(struct dma_phys_map *map, phys_addr_t phys,
			struct dma_phys_link *link)
{
	return -EOPNOTSUPP;
}

int dma_phys_link_run(struct dma_phys_map *map, struct dma_phys_link *link,
		      phys_addr_t phys, size_t len)
{
	return -EOPNOTSUPP;
}

int dma_phys_link_end(struct dma_phys_map *map, struct dma_phys_link *link)
{
	return -EOPNOTSUPP;
}

void dma_phys_link_undo(struct dma_phys_map *map, struct dma_phys_link *link)
{
}

phys_addr_t dma_phys_route_phys(const struct dma_phys_map *map)
{
	return 0;
}
#endif /* CONFIG_IOMMU_DMA */

/* Through legacy dma_map_ops, which say that they fail, but never why. */

static int ops_map(struct dma_phys_map *map, const struct dma_map_ops *ops,
		   phys_addr_t phys)
{
	map->route = DMA_PHYS_OPS;
	if (!ops->map_phys)
		return -EOPNOTSUPP;

	map->addr = dma_phys_fail() ? DMA_MAPPING_ERROR :
		    ops->map_phys(map->dev, phys, map->size, map->dir,
				  dma_phys_attrs(map) | DMA_ATTR_NO_WARN);
	if (map->addr == DMA_MAPPING_ERROR)
		return map->kind == DMA_PHYS_MMIO ? -EOPNOTSUPP : -EAGAIN;
	return 0;
}

static const struct dma_map_ops *ops_recorded(const struct dma_phys_map *map)
{
	return use_dma_iommu(map->dev) ? NULL : get_dma_ops(map->dev);
}

static bool ops_undo(const struct dma_phys_map *map)
{
	const struct dma_map_ops *ops = ops_recorded(map);

	if (!ops)
		return false;

	if (ops->unmap_phys)
		ops->unmap_phys(map->dev, map->addr, map->size, map->dir,
				dma_phys_attrs(map));
	return true;
}

/* The router. */

int dma_phys_route_cpu(struct dma_phys_map *map, phys_addr_t phys)
{
	const struct dma_map_ops *ops = get_dma_ops(map->dev);

	switch (route_of(map->dev, ops)) {
	case DMA_PHYS_DIRECT:
		return direct_cpu(map, phys);
	case DMA_PHYS_IOMMU:
		return iommu_cpu(map, phys);
	default:
		if (arch_dma_map_phys_direct(map->dev, phys + map->size))
			return direct_cpu(map, phys);
		map->undo = phys;
		return ops_map(map, ops, phys);
	}
}

static int bus_mmio(struct dma_phys_map *map, dma_addr_t addr)
{
	map->route = DMA_PHYS_BUS;
	if (!reaches(map->dev, addr, map->size, false,
		     DMA_ATTR_MMIO | DMA_ATTR_CC_SHARED))
		return -ERANGE;

	map->addr = addr;
	return 0;
}

int dma_phys_route_via(struct dma_phys_map *map, phys_addr_t phys,
		       const struct dma_phys_way *way)
{
	const struct dma_map_ops *ops = get_dma_ops(map->dev);

	if (way->route == DMA_PHYS_BUS)
		return bus_mmio(map, phys + way->bus_offset);

	switch (route_of(map->dev, ops)) {
	case DMA_PHYS_DIRECT:
		return direct_mmio(map, phys);
	case DMA_PHYS_IOMMU:
		return iommu_mmio(map, phys);
	default:
		/* No table of legacy ops knows peers. */
		return way->peer ? -EOPNOTSUPP : ops_map(map, ops, phys);
	}
}

int dma_phys_route_mmio(struct dma_phys_map *map, phys_addr_t phys, u32 id)
{
	struct dma_phys_way way = {};
	struct dma_phys_peer *peer;
	int err;

	if (!id)
		return dma_phys_route_via(map, phys, &way);

	peer = dma_phys_peer_get(id);
	if (!peer)
		return -ENODEV;

	err = dma_phys_peer_way(peer, map->dev, &way);
	if (!err)
		err = dma_phys_route_via(map, phys, &way);

	if (err)
		dma_phys_peer_put(peer);
	else
		map->undo = (uintptr_t)peer;
	return err;
}

bool dma_phys_route_undo(struct dma_phys_map *map)
{
	bool undone = true;

	switch (map->route) {
	case DMA_PHYS_DIRECT:
		cache_at_unmap(map);
		break;
	case DMA_PHYS_BOUNCE:
		cache_at_unmap(map);
		slot_put(map, dma_phys_attrs(map));
		break;
	case DMA_PHYS_IOMMU:
		undone = iommu_undo(map);
		break;
	case DMA_PHYS_OPS:
		undone = ops_undo(map);
		break;
	}

	if (map->kind == DMA_PHYS_MMIO && map->undo)
		dma_phys_peer_put((void *)(uintptr_t)map->undo);
	return undone;
}

void dma_phys_route_sync_for_cpu(const struct dma_phys_map *map, size_t offset,
				 size_t len)
{
	if (map->route == DMA_PHYS_OPS) {
		const struct dma_map_ops *ops = ops_recorded(map);

		if (ops && ops->sync_single_for_cpu)
			ops->sync_single_for_cpu(map->dev, map->addr + offset,
						 len, map->dir);
		return;
	}

	cache_for_cpu(map, map->undo + offset, len);
	if (map->flags & DMA_PHYS_BOUNCED)
		swiotlb_sync_single_for_cpu(map->dev, map->undo + offset, len,
					    map->dir);
}

void dma_phys_route_sync_for_device(const struct dma_phys_map *map,
				    size_t offset, size_t len)
{
	if (map->route == DMA_PHYS_OPS) {
		const struct dma_map_ops *ops = ops_recorded(map);

		if (ops && ops->sync_single_for_device)
			ops->sync_single_for_device(map->dev,
						    map->addr + offset, len,
						    map->dir);
		return;
	}

	if (map->flags & DMA_PHYS_BOUNCED)
		swiotlb_sync_single_for_device(map->dev, map->undo + offset,
					       len, map->dir);
	cache_for_device(map, map->undo + offset, len);
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the rooms of the core tell each other. Arrows go one way:
 * map, vec -> route -> peer, and vec, range -> peer.
 */
#ifndef _KERNEL_DMA_PHYS_INTERNAL_H
#define _KERNEL_DMA_PHYS_INTERNAL_H

#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/errno.h>
#include <linux/jump_label.h>

#include "tile.h"

struct dma_phys_peer;
struct fault_attr;
struct iommu_domain;
struct page;
struct seq_file;

/* In dma_phys_map.flags, beside the caller's: @undo is a bounce slot. */
#define DMA_PHYS_BOUNCED	BIT(7)
/* In dma_phys_vec.flags: under an IOMMU, each piece has an IOVA of its own. */
#define DMA_PHYS_APART		BIT(6)
/* In both: nothing has to be undone. */
#define DMA_PHYS_PLAIN		BIT(5)
/* In dma_phys_map.flags: only an IOMMU's page table; and nothing to sync. */
#define DMA_PHYS_QUICK		BIT(4)

/**
 * struct dma_phys_way - how a device reaches device memory
 * @route: DMA_PHYS_BUS, or DMA_PHYS_DIRECT where the host bridge forwards it as
 *	any other address
 * @peer: it belongs to a peer
 * @bus_offset: for DMA_PHYS_BUS: from the physical to the bus address
 */
struct dma_phys_way {
	u8 route;
	bool peer;
	u64 bus_offset;
};

/**
 * struct dma_phys_link - many runs of addresses at one IOVA
 * @state: the IOVA
 * @linked: bytes that are linked
 * @domain: the device's
 * @mask: address bits within a granule of the domain
 * @prot: who may do what there
 */
struct dma_phys_link {
	struct dma_iova_state state;
	size_t linked;
	struct iommu_domain *domain;
	size_t mask;
	unsigned long prot;
};

/* Attributes that dma-debug, tracing and legacy ops know a map by. */
static inline unsigned long dma_phys_attrs(const struct dma_phys_map *map)
{
	unsigned long attrs = 0;

	if (map->kind == DMA_PHYS_MMIO)
		attrs |= DMA_ATTR_MMIO;
	if (map->flags & DMA_PHYS_MANUAL_SYNC)
		attrs |= DMA_ATTR_SKIP_CPU_SYNC;
	return attrs;
}

/*
 * Reach a range of map->size bytes at @phys: choose the route, do what it
 * takes, and fill in addr, undo, route and flags. All else in @map is set. On
 * failure its route is the one that was tried, for who watches.
 */
int dma_phys_route_cpu(struct dma_phys_map *map, phys_addr_t phys);
int dma_phys_route_mmio(struct dma_phys_map *map, phys_addr_t phys, u32 peer);
int dma_phys_route_via(struct dma_phys_map *map, phys_addr_t phys,
		       const struct dma_phys_way *way);

/* The CPU has an address, or can make one, for every byte of this memory. */
bool dma_phys_in_direct_map(phys_addr_t phys, size_t len);

/* Who may map for @dev, with which direction and flags: 0 or -errno. */
int dma_phys_check(struct device *dev, enum dma_data_direction dir, u32 flags);

/*
 * Whether runs can be put at one IOVA: false without an IOMMU. Each but the
 * first starts, and each but the last ends, where none of @mask is set; with
 * @whole the first starts and the last ends there as well.
 */
bool dma_phys_can_link(const struct dma_phys_map *map, size_t *mask,
		       bool *whole);

/* @map->size bytes in runs, the first at @phys; then each run; then the end. */
int dma_phys_link_start(struct dma_phys_map *map, phys_addr_t phys,
			struct dma_phys_link *link);
int dma_phys_link_run(struct dma_phys_map *map, struct dma_phys_link *link,
		      phys_addr_t phys, size_t len);
int dma_phys_link_end(struct dma_phys_map *map, struct dma_phys_link *link);
void dma_phys_link_undo(struct dma_phys_map *map, struct dma_phys_link *link);

/*
 * Most bytes of a bounce slot, 0 where the device can have none, and where a
 * range may be cut into slots.
 */
struct dma_phys_limits dma_phys_slot_limits(struct device *dev);

/* Where @addr of the device leads, 0 where that cannot be known. */
phys_addr_t dma_phys_route_phys(const struct dma_phys_map *map);

/* Cache maintenance at unmap is owed for each piece of memory. */
bool dma_phys_route_records(const struct dma_phys_map *map);

/*
 * Undo what the map's record says was done, whatever the device is now. False
 * where the device has lost what was done: then nothing is touched.
 */
bool dma_phys_route_undo(struct dma_phys_map *map);

/* Give @len bytes at @offset to one side. The bounds are checked. */
void dma_phys_route_sync_for_cpu(const struct dma_phys_map *map, size_t offset,
				 size_t len);
void dma_phys_route_sync_for_device(const struct dma_phys_map *map,
				    size_t offset, size_t len);

/* Peer with @id, held until dma_phys_peer_put(), NULL where it is gone. */
struct dma_phys_peer *dma_phys_peer_get(u32 id);
void dma_phys_peer_put(struct dma_phys_peer *peer);
int dma_phys_peer_find(struct pci_dev *owner, int bar, u32 *id);

/* How @dev reaches a peer, or a page of one: 0, or -EREMOTEIO if not at all. */
int dma_phys_peer_way(struct dma_phys_peer *peer, struct device *dev,
		      struct dma_phys_way *way);
int dma_phys_page_way(struct page *page, struct device *dev,
		      struct dma_phys_way *way);

/*
 * debug.c is told: of what was mapped, or failed to be, while it is on; then it
 * gives the handle an id. Of what is unmapped where the handle has one.
 */
#ifdef CONFIG_DMA_PHYS_DEBUG
DECLARE_STATIC_KEY_FALSE(dma_phys_debug_key);

static inline bool dma_phys_debug_on(void)
{
	return static_branch_unlikely(&dma_phys_debug_key);
}

bool __dma_phys_debug_unmap(u32 id, unsigned long caller);
void __dma_phys_debug_unmapped(u32 id, bool undone);
#else
static inline bool dma_phys_debug_on(void)
{
	return false;
}

static inline bool __dma_phys_debug_unmap(u32 id, unsigned long caller)
{
	return true;
}

static inline void __dma_phys_debug_unmapped(u32 id, bool undone)
{
}
#endif

void dma_phys_debug_map(struct dma_phys_map *map, phys_addr_t phys, int err,
			unsigned long caller);
void dma_phys_debug_vec(struct dma_phys_vec *vec, phys_addr_t phys, int err,
			unsigned long caller);

/*
 * Whether what has this id is still to be undone: not by a copy of its handle,
 * nor after its driver has gone. If so, it is told how that ended.
 */
static inline bool dma_phys_debug_unmap(u32 id, unsigned long caller)
{
	return likely(!id) || __dma_phys_debug_unmap(id, caller);
}

static inline void dma_phys_debug_unmapped(u32 id, bool undone)
{
	if (unlikely(id))
		__dma_phys_debug_unmapped(id, undone);
}

/* As its files in debugfs. */
void dma_phys_debug_enable(bool enable);
int dma_phys_debug_maps_show(struct seq_file *m, void *unused);
int dma_phys_debug_counters_show(struct seq_file *m, void *unused);

/* Whether the step that comes next is to fail, instead of being done. */
#ifdef CONFIG_FAIL_DMA_PHYS
extern struct fault_attr dma_phys_fault;

bool dma_phys_fail(void);
/* Whether any step may. */
bool dma_phys_may_fail(void);
#else
static inline bool dma_phys_fail(void)
{
	return false;
}

static inline bool dma_phys_may_fail(void)
{
	return false;
}
#endif

#endif /* _KERNEL_DMA_PHYS_INTERNAL_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the files of the core. Each calls only those after it: sg_array, sg,
 * sg_link, sg_run, sg_unmap, pool, unmap, map, range, peer, explain. Instrumentation
 * (debug, fault, trace) is called through the hooks at the end.
 */
#ifndef _KERNEL_DMA_PHYS_INTERNAL_H
#define _KERNEL_DMA_PHYS_INTERNAL_H

#include <linux/dma-map-ops.h>
#include <linux/dma-phys.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/jump_label.h>

#include "segment.h"

struct fault_attr;
struct seq_file;

/* Flags of the core in dma_phys_map.flags and dma_phys_sg.flags: */
/* The direct fast path mapped it: unmap and sync are no-ops. */
#define DMA_PHYS_FAST		BIT(1)
/* Mapped by dma_iova_map_vecs(), unmapped with DMA_ATTR_REQUIRE_COHERENT. */
#define DMA_PHYS_COHERENT	BIT(2)
static_assert(DMA_PHYS_NO_UNMAP == DMA_PHYS_FAST);
static_assert(DMA_PHYS_NO_SYNC == (DMA_PHYS_FAST | DMA_PHYS_COHERENT));
/* Lists only: all ranges are linked at one IOVA, at @addr. */
#define DMA_PHYS_LINKED		BIT(3)
/* Lists only: a part of the IOVA leads to a bounce buffer. */
#define DMA_PHYS_LINK_BOUNCED	BIT(4)
/* Lists only: one dma_unmap_phys() unmaps all ranges, at @addr. */
#define DMA_PHYS_ONE		BIT(5)

/* They are factors here, and DMA_PHYS_SKIP_CPU_SYNC is the only user's flag. */
static_assert(DMA_PHYS_CPU == 0 && DMA_PHYS_MMIO == 1);
static_assert(DMA_PHYS_SKIP_CPU_SYNC == 1);

/* The attributes that the kernel was given, and is given again at unmap. */
static inline unsigned long dma_phys_attrs(u8 kind, u8 flags)
{
	unsigned long attrs = DMA_ATTR_NO_WARN | kind * DMA_ATTR_MMIO |
		(flags & DMA_PHYS_SKIP_CPU_SYNC) * DMA_ATTR_SKIP_CPU_SYNC;

	if (flags & DMA_PHYS_COHERENT)
		attrs |= DMA_ATTR_REQUIRE_COHERENT;
	return attrs;
}

/* Arguments that are valid for any map: 0 or -errno. */
static inline int dma_phys_check(struct device *dev,
				 enum dma_data_direction dir, u32 flags)
{
	if (!dev || !dev->dma_mask || !valid_dma_direction(dir) ||
	    flags & ~DMA_PHYS_SKIP_CPU_SYNC)
		return -EINVAL;
	return 0;
}

/*
 * map.c: map @map->size bytes at @phys. dev, size, dir, kind and flags of @map
 * are set; addr, target, route and flags are filled in. @path is NULL unless the
 * range belongs to a peer. On failure route is the one that was tried.
 */
int dma_phys_map_range(struct dma_phys_map *map, phys_addr_t phys, bool raw,
		       const struct dma_phys_p2p_path *path);
/* map.c: what @dev maps through now: its IOMMU domain or its legacy ops. */
const void *dma_phys_target(struct device *dev);
/* unmap.c: report, once, an unmap that was refused as @dev has changed. */
void dma_phys_report_stale(struct device *dev);

/* A group of slots of which one bounce buffer is made. */
#define BOUNCE_GROUP	((u64)IO_TLB_SEGSIZE << IO_TLB_SHIFT)

/* explain.c: will the direct route certainly bounce this range? */
bool dma_phys_must_bounce(struct device *dev, phys_addr_t phys, size_t size);
/*
 * explain.c: limits of a part of a run that is mapped by itself: of a bounce
 * buffer, max is 0 if there is none; or of what legacy ops map.
 */
struct dma_phys_limits dma_phys_part_limits(struct device *dev);
/* explain.c: the route that a range will take. */
enum dma_phys_route dma_phys_route(const struct dma_phys_map *map,
				   phys_addr_t phys);
/* explain.c: 0, or why mapping on @map->route would crash, warn or overflow. */
int dma_phys_precheck(const struct dma_phys_map *map, phys_addr_t phys,
		      bool raw);
/* explain.c: the same for a range that is linked at the IOVA of a list. */
int dma_phys_precheck_link(const struct dma_phys_map *map, phys_addr_t phys,
			   bool raw);
/* explain.c: why the kernel refused to link a range. */
int dma_phys_explain_link(const struct dma_phys_map *map, phys_addr_t phys);
/* explain.c: bytes of all bounce buffers of @dev, U64_MAX if not known. */
u64 dma_phys_bounce_total(struct device *dev);
/* explain.c: the IOMMU bounces what is not aligned to its granule. */
bool dma_phys_untrusted(struct device *dev);
/* explain.c: why the kernel refused to map. */
int dma_phys_explain(const struct dma_phys_map *map, phys_addr_t phys);
/* explain.c: the IOVA space of @dev in bytes. */
u64 dma_phys_iova_space(struct device *dev);

/**
 * struct dma_phys_record - one dma_map_phys() of a list
 * @addr: DMA address
 * @size: length in bytes
 * @offset: bytes of the list that precede it
 * @kind: enum dma_phys_kind
 * @route: enum dma_phys_route
 * @flags: as in struct dma_phys_map
 */
struct dma_phys_record {
	dma_addr_t addr;
	size_t size;
	size_t offset;
	u8 kind;
	u8 route;
	u8 flags;
};

/**
 * struct dma_phys_records - unmap records of a list
 * @count: records in use
 * @max: records allocated
 * @record: the records
 */
struct dma_phys_records {
	size_t count;
	size_t max;
	struct dma_phys_record record[] __counted_by(max);
};

/* sg_run.c: a handle for @len bytes of a list. */
struct dma_phys_map dma_phys_sg_part(const struct dma_phys_sg *sg, u8 kind,
				     size_t len);
/* sg_run.c: take the next run, unless a part of one is left: 0 or -errno. */
int dma_phys_sg_take_run(struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter);
/* sg_run.c: map the next run, or a part of it, as iter->rest. */
int dma_phys_sg_map_run(struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter);
/* sg_link.c: can all runs be linked at one IOVA? */
bool dma_phys_sg_links(const struct dma_phys_sg *sg,
		       const struct dma_phys_sg_iter *iter);
/*
 * sg_link.c: map runs of memory, the first of which dma_phys_links_memory(), as
 * one. False if that fails: @sg is still empty.
 */
bool dma_phys_sg_link_memory(struct device *dev, struct phys_vec *vecs,
			     unsigned int count, size_t size,
			     enum dma_data_direction dir, u32 flags,
			     struct dma_phys_sg *sg);
/* sg_link.c: the same for iter->len bytes, which become one segment. */
bool dma_phys_sg_link_one(struct device *dev, phys_addr_t phys,
			  enum dma_data_direction dir, u32 flags,
			  struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter);
/* sg_link.c: link all runs; if there is no IOVA for all, map the first one. */
int dma_phys_sg_link(struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter);
/* sg_unmap.c: unmap the first @linked bytes of a list that is linked. */
void dma_phys_sg_unmap_linked(struct dma_phys_sg *sg, size_t linked);
/* sg_unmap.c: unmap; false if the device has changed: nothing is touched. */
bool dma_phys_sg_ask_unmap(struct dma_phys_sg *sg);
/* sg_unmap.c: trace a list that was mapped, or not. */
void dma_phys_sg_trace_map(const struct dma_phys_sg *sg, int err);
/* sg_unmap.c: make a list empty, with its pool. */
void dma_phys_sg_clear(struct dma_phys_sg *sg);
/* Constraints of @dev on segments. */
static inline struct dma_phys_limits dma_phys_sg_limits(struct device *dev)
{
	return (struct dma_phys_limits){
		.max = dma_get_max_seg_size(dev),
		.boundary = dma_get_seg_boundary(dev),
		.align = dma_get_min_align_mask(dev),
	};
}

/*
 * The device is not coherent, and a short range may be an object of kmalloc()
 * that shares cache lines with others. The kernel bounces such a range by its
 * length, so it must not become part of a longer one.
 */
static inline bool dma_phys_sg_keeps_short(const struct dma_phys_sg *sg,
					   const struct dma_phys_source *source)
{
	return source->kinds != BIT(DMA_PHYS_MMIO) &&
	       source->min_len < 2 * ARCH_DMA_MINALIGN &&
	       !dma_kmalloc_safe(sg->dev, sg->dir);
}

/* What trace events show of a list. */
static inline struct dma_phys_map dma_phys_sg_handle(const struct dma_phys_sg *sg)
{
	return (struct dma_phys_map){
		.dev = sg->dev,
		.addr = sg->addr,
		.size = sg->size,
		.dir = sg->dir,
		.kind = sg->kind,
		.route = sg->route,
		.flags = sg->flags,
	};
}

/* pool.c: a range that is mapped in parts takes a record for each. */
size_t dma_phys_max_records(struct device *dev, size_t count, size_t size);
/* pool.c: records for @count ranges of @size bytes in all, NULL if no memory. */
struct dma_phys_records *dma_phys_records_alloc(struct device *dev,
						struct dma_phys_pool *pool,
						size_t count, size_t size);
void dma_phys_records_free(struct dma_phys_pool *pool,
			   struct dma_phys_records *records);

#ifdef CONFIG_PCI_P2PDMA
/* peer.c: the peer, held until the put; -ENODEV, or -EAGAIN if suspended. */
struct dma_phys_peer *dma_phys_peer_get(u32 id);
void dma_phys_peer_put(struct dma_phys_peer *peer);
int dma_phys_peer_find(struct pci_dev *owner, int bar, u32 *id);
/* peer.c: how @dev reaches the peer: 0, or -EREMOTEIO if it does not. */
int dma_phys_peer_path(struct dma_phys_peer *peer, struct device *dev,
		       struct dma_phys_p2p_path *path);
#else
static inline struct dma_phys_peer *dma_phys_peer_get(u32 id)
{
	return ERR_PTR(-ENODEV);
}

static inline void dma_phys_peer_put(struct dma_phys_peer *peer)
{
}

static inline int dma_phys_peer_find(struct pci_dev *owner, int bar, u32 *id)
{
	return -ENODEV;
}

static inline int dma_phys_peer_path(struct dma_phys_peer *peer,
				     struct device *dev,
				     struct dma_phys_p2p_path *path)
{
	return -EREMOTEIO;
}
#endif

/*
 * debug.c: while it is on, each map and each failure is reported to it, and the
 * handle gets an id; each unmap of a handle with an id is reported.
 */
DECLARE_STATIC_KEY_FALSE(dma_phys_debug_key);

static inline bool dma_phys_debug_on(void)
{
	return IS_ENABLED(CONFIG_DMA_PHYS_DEBUG) &&
	       static_branch_unlikely(&dma_phys_debug_key);
}

bool __dma_phys_debug_unmap(u32 id, unsigned long caller);
void __dma_phys_debug_unmapped(u32 id, bool unmapped);
void dma_phys_debug_count_lost(void);
void dma_phys_debug_map(struct dma_phys_map *map, phys_addr_t phys, int err,
			unsigned long caller);
void dma_phys_debug_sg(struct dma_phys_sg *sg, phys_addr_t phys, int err,
		       unsigned long caller);
/* For each range of a list: dma_phys_debug_map() does it for single maps. */
void dma_phys_debug_range(struct device *dev,
			  const struct dma_phys_range *range,
			  enum dma_data_direction dir, unsigned long caller);

/*
 * May the map with this id be unmapped? Not through a copy of a handle that was
 * unmapped, nor after its device was removed. If so, report the result with
 * dma_phys_debug_unmapped().
 */
static inline bool dma_phys_debug_unmap(u32 id, unsigned long caller)
{
	return !IS_ENABLED(CONFIG_DMA_PHYS_DEBUG) || likely(!id) ||
	       __dma_phys_debug_unmap(id, caller);
}

static inline void dma_phys_debug_unmapped(u32 id, bool unmapped)
{
	if (IS_ENABLED(CONFIG_DMA_PHYS_DEBUG) && unlikely(id))
		__dma_phys_debug_unmapped(id, unmapped);
}

/* For tests: what the files in debugfs do. */
void dma_phys_debug_enable(bool enable);
int dma_phys_debug_maps_show(struct seq_file *m, void *unused);
int dma_phys_debug_counters_show(struct seq_file *m, void *unused);

/* fault.c: must the next step fail instead of being done? */
#ifdef CONFIG_FAIL_DMA_PHYS
extern struct fault_attr dma_phys_fault;

bool dma_phys_fail(void);
#else
static inline bool dma_phys_fail(void)
{
	return false;
}
#endif
/* fault.c: may any step fail? Only with CONFIG_FAIL_DMA_PHYS. */
bool dma_phys_may_fail(void);

#endif /* _KERNEL_DMA_PHYS_INTERNAL_H */

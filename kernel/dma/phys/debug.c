// SPDX-License-Identifier: GPL-2.0
/*
 * Records of live maps and lists, counters, and reports of what is likely a bug.
 *
 * map.c and sg.c report each map and unmap here while this is on. A handle names
 * its record by an id. A record is kept until its handle is unmapped, so a copy
 * of a handle that was unmapped names no record: the core then leaves the copy
 * alone. Nothing else that the core does depends on this file.
 */
#define pr_fmt(fmt) "dma-phys: " fmt

#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-phys-names.h>
#include <linux/dma-phys.h>
#include <linux/init.h>
#include <linux/iommu-dma.h>
#include <linux/jiffies.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/page-flags.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/xarray.h>

#include "debug.h"
#include "internal.h"

#define DEBUG_KINDS	(DMA_PHYS_MMIO + 1)
#define DEBUG_ROUTES	(DMA_PHYS_BUS + 1)

static const struct {
	int err;
	const char *name;
} debug_errors[] = {
	{ -EINVAL, "EINVAL" },
	{ -ENODEV, "ENODEV" },
	{ -EAGAIN, "EAGAIN" },
	{ -ERANGE, "ERANGE" },
	{ -E2BIG, "E2BIG" },
	{ -ENOMEM, "ENOMEM" },
	{ -EOPNOTSUPP, "EOPNOTSUPP" },
	{ -EREMOTEIO, "EREMOTEIO" },
	{ -EIO, "EIO" },
};

/**
 * struct debug_results - results of maps of one kind on one route
 * @maps: successful ones
 * @failures: failed ones, by errno
 */
struct debug_results {
	u64 maps;
	u64 failures[ARRAY_SIZE(debug_errors)];
};

/**
 * struct debug_counters - since boot, while this was on
 * @results: by kind and route
 * @unmaps: records that were unmapped
 * @live: records
 * @unrecorded: maps that have no record, as there was no memory for it
 * @refused: unmaps that were refused, as the handle has no record or its device
 *	was removed
 * @leaked: records whose driver was unbound
 * @lost: calls of dma_phys_leak(), also while this was off
 */
struct debug_counters {
	struct debug_results results[DEBUG_KINDS][DEBUG_ROUTES];
	u64 unmaps;
	u64 live;
	u64 unrecorded;
	u64 refused;
	u64 leaked;
	u64 lost;
};

DEFINE_STATIC_KEY_FALSE(dma_phys_debug_key);

/* Its lock protects all that follows, and is taken in any context. */
static DEFINE_XARRAY_FLAGS(debug_records, XA_FLAGS_ALLOC1 | XA_FLAGS_LOCK_IRQ);
static u32 debug_next_id;
static struct debug_counters debug_counters;

/* The last device that was reported as mapped without a driver. */
static const struct device *debug_driverless;

/* ---- Reports ---- */

static void debug_check_driver(struct device *dev, unsigned long caller)
{
	if (READ_ONCE(dev->driver) || READ_ONCE(debug_driverless) == dev)
		return;
	WRITE_ONCE(debug_driverless, dev);
	dev_warn_ratelimited(dev, "dma-phys: mapped without a driver: by %pS\n",
			     (void *)caller);
}

static bool debug_is_kmalloc(phys_addr_t phys)
{
	struct page *page;

	if (!pfn_valid(PHYS_PFN(phys)))
		return false;
	page = compound_head(pfn_to_page(PHYS_PFN(phys)));
	return PageSlab(page) || PageLargeKmalloc(page);
}

/*
 * Does cache maintenance of the range affect other data? A bounce buffer has its
 * cache lines for itself. If only the end of the range is not aligned, in memory
 * from kmalloc(), then what shares its last line is most likely padding.
 */
static bool debug_shares_line(struct device *dev,
			      const struct dma_phys_range *range,
			      enum dma_data_direction dir)
{
	u64 line = dma_get_cache_alignment();

	if (range->kind != DMA_PHYS_CPU || dir == DMA_TO_DEVICE ||
	    dev_is_dma_coherent(dev) ||
	    !dma_phys_shares_line(range->addr, range->len, line))
		return false;
	if (dma_kmalloc_needs_bounce(dev, range->len, dir) ||
	    (!use_dma_iommu(dev) &&
	     dma_phys_must_bounce(dev, range->addr, range->len)))
		return false;
	return range->addr & (line - 1) || !debug_is_kmalloc(range->addr);
}

void dma_phys_debug_range(struct device *dev,
			  const struct dma_phys_range *range,
			  enum dma_data_direction dir, unsigned long caller)
{
	if (debug_shares_line(dev, range, dir))
		dev_warn_ratelimited(dev, "dma-phys: shares a cache line of %d bytes with other data: %zu bytes at %pap %s: by %pS\n",
				     dma_get_cache_alignment(), range->len,
				     &range->addr, dma_phys_dir_name(dir),
				     (void *)caller);
}

/* ---- Map ---- */

static void debug_count(u8 kind, u8 route, int err)
{
	struct debug_results *results = &debug_counters.results[kind][route];

	if (!err)
		results->maps++;
	for (size_t i = 0; i < ARRAY_SIZE(debug_errors); i++)
		if (err == debug_errors[i].err)
			results->failures[i]++;
}

static void debug_failed(u8 kind, u8 route, int err)
{
	unsigned long flags;

	xa_lock_irqsave(&debug_records, flags);
	debug_count(kind, route, err);
	xa_unlock_irqrestore(&debug_records, flags);
}

/* Add a copy of @new: its id, or 0 if there is no memory for it. */
static u32 debug_add(const struct dma_phys_debug_record *new)
{
	struct dma_phys_debug_record *rec;
	unsigned long flags;
	u32 id = 0;

	rec = kmemdup(new, sizeof(*new), GFP_ATOMIC | __GFP_NOWARN);
	xa_lock_irqsave(&debug_records, flags);
	debug_count(new->kind, new->route, 0);
	if (rec && __xa_alloc_cyclic(&debug_records, &id, rec, xa_limit_32b,
				     &debug_next_id,
				     GFP_ATOMIC | __GFP_NOWARN) >= 0) {
		debug_counters.live++;
	} else {
		debug_counters.unrecorded++;
		kfree(rec);
		id = 0;
	}
	xa_unlock_irqrestore(&debug_records, flags);
	return id;
}

void dma_phys_debug_map(struct dma_phys_map *map, phys_addr_t phys, int err,
			unsigned long caller)
{
	struct dma_phys_range range = {
		.addr = phys,
		.len = map->size,
		.kind = map->kind,
	};
	struct dma_phys_debug_record rec = {
		.dev = map->dev,
		.phys = phys,
		.addr = map->addr,
		.size = map->size,
		.mapped_at = get_jiffies_64(),
		.caller = caller,
		.kind = map->kind,
		.route = map->route,
		.dir = map->dir,
	};

	if (err) {
		debug_failed(map->kind, map->route, err);
		return;
	}

	debug_check_driver(map->dev, caller);
	dma_phys_debug_range(map->dev, &range, map->dir, caller);
	strscpy(rec.name, dev_name(map->dev));
	map->id = debug_add(&rec);
}

/* DMA address of the first byte, if it is kept for unmap. */
static dma_addr_t debug_sg_addr(const struct dma_phys_sg *sg)
{
	if (sg->flags & (DMA_PHYS_LINKED | DMA_PHYS_ONE))
		return sg->addr;
	if (sg->records && !sg->records->record[0].offset)
		return sg->records->record[0].addr;
	return DMA_MAPPING_ERROR;
}

void dma_phys_debug_sg(struct dma_phys_sg *sg, phys_addr_t phys, int err,
		       unsigned long caller)
{
	struct dma_phys_debug_record rec = {
		.dev = sg->dev,
		.phys = phys,
		.size = sg->size,
		.mapped_at = get_jiffies_64(),
		.caller = caller,
		.kind = sg->kind,
		.route = sg->route,
		.dir = sg->dir,
		.is_sg = true,
	};

	if (err) {
		debug_failed(sg->kind, sg->route, err);
		return;
	}

	debug_check_driver(sg->dev, caller);
	strscpy(rec.name, dev_name(sg->dev));
	rec.addr = debug_sg_addr(sg);
	sg->id = debug_add(&rec);
}

/* ---- Unmap ---- */

/* The caller holds the lock. @rec is no longer in use afterwards. */
static void debug_remove(u32 id, struct dma_phys_debug_record *rec)
{
	__xa_erase(&debug_records, id);
	debug_counters.live--;
	kfree(rec);
}

bool __dma_phys_debug_unmap(u32 id, unsigned long caller)
{
	struct dma_phys_debug_record *rec;
	unsigned long flags;
	bool may_unmap;

	xa_lock_irqsave(&debug_records, flags);
	rec = xa_load(&debug_records, id);
	may_unmap = rec && !rec->unmapping && rec->dev;
	if (may_unmap) {
		rec->unmapping = true;
	} else {
		debug_counters.refused++;
		if (rec && !rec->dev)
			debug_remove(id, rec);
	}
	xa_unlock_irqrestore(&debug_records, flags);

	/* The device may be gone, so that it cannot be named. */
	if (!may_unmap)
		pr_err_ratelimited("unmapped twice, or after the device was removed: by %pS\n",
				   (void *)caller);
	return may_unmap;
}

void __dma_phys_debug_unmapped(u32 id, bool unmapped)
{
	struct dma_phys_debug_record *rec;
	unsigned long flags;

	xa_lock_irqsave(&debug_records, flags);
	rec = xa_load(&debug_records, id);
	if (unmapped) {
		debug_remove(id, rec);
		debug_counters.unmaps++;
	} else {
		rec->unmapping = false;
		rec->stale = true;
	}
	xa_unlock_irqrestore(&debug_records, flags);
}

/* ---- For leak.c ---- */

bool dma_phys_debug_next_leak(const struct device *dev, unsigned long *id,
			      struct dma_phys_debug_record *leak)
{
	struct dma_phys_debug_record *rec;
	bool found = false;
	unsigned long flags;

	/* The lock is held for one record at a time. */
	do {
		xa_lock_irqsave(&debug_records, flags);
		rec = xa_find_after(&debug_records, id, ULONG_MAX, XA_PRESENT);
		if (rec && rec->dev == dev && !rec->leaked && !rec->unmapping) {
			rec->leaked = true;
			debug_counters.leaked++;
			*leak = *rec;
			found = true;
		}
		xa_unlock_irqrestore(&debug_records, flags);
	} while (rec && !found);
	return found;
}

void dma_phys_debug_count_lost(void)
{
	unsigned long flags;

	xa_lock_irqsave(&debug_records, flags);
	debug_counters.lost++;
	xa_unlock_irqrestore(&debug_records, flags);
}

void dma_phys_debug_forget(const struct device *dev)
{
	struct dma_phys_debug_record *rec;
	unsigned long id, flags;

	xa_lock_irqsave(&debug_records, flags);
	xa_for_each(&debug_records, id, rec)
		if (rec->dev == dev)
			rec->dev = NULL;
	xa_unlock_irqrestore(&debug_records, flags);
	cmpxchg(&debug_driverless, dev, NULL);
}

u64 dma_phys_debug_age_ms(const struct dma_phys_debug_record *rec)
{
	return jiffies64_to_msecs(get_jiffies_64() - rec->mapped_at);
}

/* ---- debugfs ---- */

static void debug_show_record(struct seq_file *m,
			      const struct dma_phys_debug_record *rec)
{
	u32 ms;
	u64 seconds = div_u64_rem(dma_phys_debug_age_ms(rec), MSEC_PER_SEC, &ms);

	seq_printf(m, "%s %s %s %s phys=%pap ", rec->name,
		   dma_phys_kind_name(rec->kind),
		   dma_phys_route_name(rec->route),
		   dma_phys_dir_name(rec->dir), &rec->phys);
	if (rec->addr == DMA_MAPPING_ERROR)
		seq_puts(m, "addr=-");
	else
		seq_printf(m, "addr=%pad", &rec->addr);
	seq_printf(m, " size=%zu%s age=%llu.%03u %pS%s%s\n", rec->size,
		   rec->is_sg ? " sg" : "", seconds, ms, (void *)rec->caller,
		   rec->stale ? " stale" : "", rec->leaked ? " leaked" : "");
}

/* The lock is held for one line at a time. */
int dma_phys_debug_maps_show(struct seq_file *m, void *unused)
{
	struct dma_phys_debug_record *rec;
	unsigned long id = 0, flags;

	do {
		xa_lock_irqsave(&debug_records, flags);
		rec = xa_find_after(&debug_records, &id, ULONG_MAX, XA_PRESENT);
		if (rec)
			debug_show_record(m, rec);
		xa_unlock_irqrestore(&debug_records, flags);
	} while (rec && !seq_has_overflowed(m));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dma_phys_debug_maps);

static void debug_show_results(struct seq_file *m, u8 kind, u8 route)
{
	const struct debug_results *results =
		&debug_counters.results[kind][route];

	if (results->maps)
		seq_printf(m, "maps %s %s %llu\n", dma_phys_kind_name(kind),
			   dma_phys_route_name(route), results->maps);
	for (size_t i = 0; i < ARRAY_SIZE(debug_errors); i++)
		if (results->failures[i])
			seq_printf(m, "failures %s %s %s %llu\n",
				   dma_phys_kind_name(kind),
				   dma_phys_route_name(route),
				   debug_errors[i].name, results->failures[i]);
}

int dma_phys_debug_counters_show(struct seq_file *m, void *unused)
{
	for (u8 kind = 0; kind < DEBUG_KINDS; kind++)
		for (u8 route = 0; route < DEBUG_ROUTES; route++)
			debug_show_results(m, kind, route);

	seq_printf(m, "unmaps %llu\nlive %llu\nunrecorded %llu\nrefused %llu\nleaked %llu\nlost %llu\n",
		   debug_counters.unmaps, debug_counters.live,
		   debug_counters.unrecorded, debug_counters.refused,
		   debug_counters.leaked, debug_counters.lost);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dma_phys_debug_counters);

void dma_phys_debug_enable(bool enable)
{
	if (enable)
		static_branch_enable(&dma_phys_debug_key);
	else
		static_branch_disable(&dma_phys_debug_key);
}

static int debug_enable_get(void *unused, u64 *value)
{
	*value = dma_phys_debug_on();
	return 0;
}

static int debug_enable_set(void *unused, u64 value)
{
	if (value > 1)
		return -EINVAL;
	dma_phys_debug_enable(value);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(debug_enable_fops, debug_enable_get, debug_enable_set,
			 "%llu\n");

/* dma_phys.debug=1: on before the first driver is probed. */
#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys."
static bool debug_at_boot;
module_param_named(debug, debug_at_boot, bool, 0);
MODULE_PARM_DESC(debug, "Record typed maps of physical addresses");

static int __init dma_phys_debug_init(void)
{
	struct dentry *dir = debugfs_create_dir("dma_phys", NULL);

	debugfs_create_file("maps", 0400, dir, NULL, &dma_phys_debug_maps_fops);
	debugfs_create_file("counters", 0400, dir, NULL,
			    &dma_phys_debug_counters_fops);
	debugfs_create_file_unsafe("enable", 0600, dir, NULL,
				   &debug_enable_fops);
	dma_phys_debug_enable(debug_at_boot);
	return 0;
}
subsys_initcall(dma_phys_debug_init);

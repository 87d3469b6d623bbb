// SPDX-License-Identifier: GPL-2.0
/*
 * Seeing it: live maps and vecs, counters, and what a driver left mapped.
 *
 * map.c and vec.c tell what they did; nothing here changes what they do, but
 * that a handle whose map is gone is not undone again. For each live map there
 * is a record, which its handle names by an id. The record holds a copy of the
 * handle, and for a vec its segments and pieces, so that what a driver left
 * mapped can be undone when the driver and its memory are gone.
 */
#define pr_fmt(fmt) "dma_phys: " fmt

#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/device/bus.h>
#include <linux/dma-phys.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/xarray.h>

#include "internal.h"

/* Lines of a report, for a driver that left many maps. */
#define REPORT_MOST	16

/**
 * struct record - a live map, or a live vec
 * @dev: whose, for comparing: not held
 * @name: its name
 * @phys: physical address of the first byte
 * @born: when it was mapped, in jiffies
 * @caller: who mapped it
 * @is_vec: it is a vec
 * @leaving: it is being undone
 * @lost: its device lost what was mapped, so that it cannot be undone
 * @map: copy of the handle
 * @vec: copy of the vec, with @segments as its storage
 * @segments: what the vec's storage holds
 */
struct record {
	const struct device *dev;
	char name[32];
	phys_addr_t phys;
	u64 born;
	unsigned long caller;
	bool is_vec;
	bool leaving;
	bool lost;
	union {
		struct dma_phys_map map;
		struct dma_phys_vec vec;
	};
	struct dma_phys_segment segments[];
};

static const char *const kinds[] = {
	[DMA_PHYS_CPU] = "cpu",
	[DMA_PHYS_MMIO] = "mmio",
};

static const char *const routes[] = {
	[DMA_PHYS_NONE] = "none",
	[DMA_PHYS_DIRECT] = "direct",
	[DMA_PHYS_BOUNCE] = "bounce",
	[DMA_PHYS_IOMMU] = "iommu",
	[DMA_PHYS_OPS] = "ops",
	[DMA_PHYS_BUS] = "bus",
};

static const char *const dirs[] = {
	[DMA_BIDIRECTIONAL] = "both-ways",
	[DMA_TO_DEVICE] = "to-device",
	[DMA_FROM_DEVICE] = "from-device",
};

static const struct {
	int err;
	const char *name;
} errors[] = {
	{ -EINVAL, "EINVAL" },
	{ -ERANGE, "ERANGE" },
	{ -E2BIG, "E2BIG" },
	{ -EAGAIN, "EAGAIN" },
	{ -ENOMEM, "ENOMEM" },
	{ -ENOSPC, "ENOSPC" },
	{ -EREMOTEIO, "EREMOTEIO" },
	{ -ENODEV, "ENODEV" },
	{ -EOPNOTSUPP, "EOPNOTSUPP" },
};

/**
 * struct of_route - what became of maps of one kind on one route
 * @maps: done
 * @failures: not done, by errno
 */
struct of_route {
	u64 maps;
	u64 failures[ARRAY_SIZE(errors)];
};

/**
 * struct counters - since boot, while on
 * @of: by kind and route
 * @unmaps: records that were unmapped
 * @live: records
 * @unrecorded: maps without a record, for want of memory
 * @refused: handles unmapped whose record was gone
 * @left: records whose driver had gone
 */
struct counters {
	struct of_route of[ARRAY_SIZE(kinds)][ARRAY_SIZE(routes)];
	u64 unmaps;
	u64 live;
	u64 unrecorded;
	u64 refused;
	u64 left;
};

DEFINE_STATIC_KEY_FALSE(dma_phys_debug_key);

/* Its lock, taken in any context, is that of all below. */
static DEFINE_XARRAY_FLAGS(records, XA_FLAGS_ALLOC1 | XA_FLAGS_LOCK_IRQ);
static u32 next_id;
static struct counters counters;

static void count(u8 kind, u8 route, int err)
{
	struct of_route *of = &counters.of[kind][route];

	if (!err)
		of->maps++;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (err == errors[i].err)
			of->failures[i]++;
}

/* Its id, or 0 where there is no memory for it, or @rec is NULL. */
static u32 record_add(struct record *rec, u8 kind, u8 route)
{
	unsigned long flags;
	u32 id = 0;

	xa_lock_irqsave(&records, flags);
	count(kind, route, 0);
	if (rec && __xa_alloc_cyclic(&records, &id, rec, xa_limit_32b, &next_id,
				     GFP_ATOMIC | __GFP_NOWARN) >= 0) {
		counters.live++;
	} else {
		counters.unrecorded++;
		kfree(rec);
		id = 0;
	}
	xa_unlock_irqrestore(&records, flags);
	return id;
}

static struct record *record_new(struct device *dev, size_t segments,
				 phys_addr_t phys, unsigned long caller)
{
	struct record *rec = kzalloc_flex(*rec, segments, segments,
					  GFP_ATOMIC | __GFP_NOWARN);

	if (!rec)
		return NULL;
	rec->dev = dev;
	strscpy(rec->name, dev_name(dev));
	rec->phys = phys;
	rec->born = get_jiffies_64();
	rec->caller = caller;
	return rec;
}

static void failed(u8 kind, u8 route, int err)
{
	unsigned long flags;

	xa_lock_irqsave(&records, flags);
	count(kind, route, err);
	xa_unlock_irqrestore(&records, flags);
}

void dma_phys_debug_map(struct dma_phys_map *map, phys_addr_t phys, int err,
			unsigned long caller)
{
	struct record *rec;

	if (err) {
		failed(map->kind, map->route, err);
		return;
	}

	rec = record_new(map->dev, 0, phys, caller);
	if (rec)
		rec->map = *map;
	map->id = record_add(rec, map->kind, map->route);
}

void dma_phys_debug_vec(struct dma_phys_vec *vec, phys_addr_t phys, int err,
			unsigned long caller)
{
	size_t room = vec->count + vec->pieces;
	struct record *rec;

	if (err) {
		failed(vec->kind, vec->route, err);
		return;
	}

	rec = record_new(vec->dev, room, phys, caller);
	if (rec) {
		rec->is_vec = true;
		rec->vec = *vec;
		rec->vec.segments = rec->segments;
		rec->vec.room = room;
		memcpy(rec->segments, vec->segments,
		       vec->count * sizeof(*vec->segments));
		memcpy(rec->segments + vec->count,
		       vec->segments + vec->room - vec->pieces,
		       vec->pieces * sizeof(*vec->segments));
	}
	vec->id = record_add(rec, vec->kind, vec->route);
}

bool __dma_phys_debug_unmap(u32 id, unsigned long caller)
{
	struct record *rec;
	unsigned long flags;
	bool known;

	xa_lock_irqsave(&records, flags);
	rec = xa_load(&records, id);
	known = rec && !rec->leaving;
	if (known)
		rec->leaving = true;
	else
		counters.refused++;
	xa_unlock_irqrestore(&records, flags);

	/* Of the device nothing is known: it may be gone. */
	if (!known)
		pr_err_ratelimited("unmapped again, or after its driver had gone: by %pS\n",
				   (void *)caller);
	return known;
}

void __dma_phys_debug_unmapped(u32 id, bool undone)
{
	struct record *rec;
	unsigned long flags;

	xa_lock_irqsave(&records, flags);
	if (undone) {
		rec = __xa_erase(&records, id);
		counters.unmaps++;
		counters.live--;
	} else {
		rec = xa_load(&records, id);
		rec->leaving = false;
		rec->lost = true;
	}
	xa_unlock_irqrestore(&records, flags);
	if (undone)
		kfree(rec);
}

/* What a driver left mapped. */

/* A record of @dev that is now the caller's, or NULL. */
static struct record *take_left(const struct device *dev)
{
	struct record *rec;
	unsigned long id, flags;

	xa_lock_irqsave(&records, flags);
	xa_for_each(&records, id, rec)
		if (rec->dev == dev && !rec->leaving) {
			__xa_erase(&records, id);
			counters.live--;
			counters.left++;
			break;
		}
	xa_unlock_irqrestore(&records, flags);
	return rec;
}

static u64 age_ms(const struct record *rec)
{
	return jiffies64_to_msecs(get_jiffies_64() - rec->born);
}

/* The memory may be another's by now: nothing is copied into it. */
static void undo_left(struct record *rec)
{
	if (rec->lost)
		return;
	if (rec->is_vec) {
		rec->vec.flags |= DMA_PHYS_MANUAL_SYNC;
		dma_phys_vec_unmap(&rec->vec);
	} else {
		rec->map.flags |= DMA_PHYS_MANUAL_SYNC;
		dma_phys_unmap(&rec->map);
	}
}

static void report_left(struct device *dev, const struct record *rec)
{
	u8 kind = rec->is_vec ? rec->vec.kind : rec->map.kind;
	u8 route = rec->is_vec ? rec->vec.route : rec->map.route;
	size_t size = rec->is_vec ? rec->vec.size : rec->map.size;

	dev_err(dev, "dma_phys: left mapped: %s %s, %zu bytes, %llu ms ago by %pS%s\n",
		kinds[kind], routes[route], size, age_ms(rec),
		(void *)rec->caller, rec->lost ? ", and lost" : "");
}

static void driver_gone(struct device *dev)
{
	unsigned int left = 0;
	struct record *rec;

	while ((rec = take_left(dev))) {
		if (left++ < REPORT_MOST)
			report_left(dev, rec);
		undo_left(rec);
		kfree(rec);
	}
	if (left > REPORT_MOST)
		dev_err(dev, "dma_phys: left mapped: %u more\n",
			left - REPORT_MOST);
}

/*
 * A driver has gone when devres has, which may undo maps: nobody says so of one
 * whose probe failed, before the next is bound or the device is removed.
 */
static int on_bus_event(struct notifier_block *nb, unsigned long event,
			void *dev)
{
	switch (event) {
	case BUS_NOTIFY_BIND_DRIVER:
	case BUS_NOTIFY_UNBOUND_DRIVER:
	case BUS_NOTIFY_REMOVED_DEVICE:
		driver_gone(dev);
	}
	return NOTIFY_DONE;
}

static const struct bus_type *const buses[] __initconst = {
	&platform_bus_type,
#ifdef CONFIG_PCI
	&pci_bus_type,
#endif
};

static void __init watch_buses(void)
{
	static struct notifier_block blocks[ARRAY_SIZE(buses)];

	for (size_t i = 0; i < ARRAY_SIZE(buses); i++) {
		blocks[i].notifier_call = on_bus_event;
		/* Before dma-debug, which need not warn of what was undone. */
		blocks[i].priority = 1;
		bus_register_notifier(buses[i], &blocks[i]);
	}
}

/* What debugfs shows. */

static void show_record(struct seq_file *m, const struct record *rec)
{
	const struct dma_phys_vec *vec = &rec->vec;
	const struct dma_phys_map *map = &rec->map;
	u64 age = age_ms(rec);

	seq_printf(m, "%s %s %s %s phys=%pap addr=%pad len=%zu segments=%zu age=%llu.%03u %pS%s\n",
		   rec->name, kinds[rec->is_vec ? vec->kind : map->kind],
		   routes[rec->is_vec ? vec->route : map->route],
		   dirs[rec->is_vec ? vec->dir : map->dir], &rec->phys,
		   rec->is_vec ? &rec->segments[0].addr : &map->addr,
		   rec->is_vec ? vec->size : map->size,
		   rec->is_vec ? vec->count : 1, age / MSEC_PER_SEC,
		   (u32)(age % MSEC_PER_SEC), (void *)rec->caller,
		   rec->lost ? " lost" : "");
}

/* The lock is given back between lines: interrupts wait for one at most. */
int dma_phys_debug_maps_show(struct seq_file *m, void *unused)
{
	unsigned long id = 0, flags;
	struct record *rec;

	do {
		xa_lock_irqsave(&records, flags);
		rec = xa_find_after(&records, &id, ULONG_MAX, XA_PRESENT);
		if (rec)
			show_record(m, rec);
		xa_unlock_irqrestore(&records, flags);
	} while (rec && !seq_has_overflowed(m));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(dma_phys_debug_maps);

static void show_route(struct seq_file *m, size_t kind, size_t route,
		       const struct of_route *of)
{
	if (of->maps)
		seq_printf(m, "maps %s %s %llu\n", kinds[kind], routes[route],
			   of->maps);
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (of->failures[i])
			seq_printf(m, "failures %s %s %s %llu\n", kinds[kind],
				   routes[route], errors[i].name,
				   of->failures[i]);
}

int dma_phys_debug_counters_show(struct seq_file *m, void *unused)
{
	for (size_t kind = 0; kind < ARRAY_SIZE(kinds); kind++)
		for (size_t route = 0; route < ARRAY_SIZE(routes); route++)
			show_route(m, kind, route, &counters.of[kind][route]);

	seq_printf(m, "unmaps %llu\nlive %llu\nunrecorded %llu\nrefused %llu\nleft %llu\n",
		   counters.unmaps, counters.live, counters.unrecorded,
		   counters.refused, counters.left);
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

static int enable_get(void *unused, u64 *value)
{
	*value = dma_phys_debug_on();
	return 0;
}

static int enable_set(void *unused, u64 value)
{
	if (value > 1)
		return -EINVAL;
	dma_phys_debug_enable(value);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(enable_fops, enable_get, enable_set, "%llu\n");

/* dma_phys.debug=1: on from the first driver on. */
#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys."
static bool debug;
module_param(debug, bool, 0);
MODULE_PARM_DESC(debug, "Watch typed maps of physical addresses");

static int __init dma_phys_debug_init(void)
{
	struct dentry *dir = debugfs_create_dir("dma_phys", NULL);

	debugfs_create_file("maps", 0400, dir, NULL, &dma_phys_debug_maps_fops);
	debugfs_create_file("counters", 0400, dir, NULL,
			    &dma_phys_debug_counters_fops);
	debugfs_create_file_unsafe("enable", 0600, dir, NULL, &enable_fops);

	watch_buses();
	dma_phys_debug_enable(debug);
	return 0;
}
subsys_initcall(dma_phys_debug_init);

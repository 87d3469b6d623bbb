// SPDX-License-Identifier: GPL-2.0
/*
 * The methods of the benchmark, each with a loop of its own: what one does with the
 * ranges of a worker is inlined there.
 */
#include <linux/array_size.h>
#include <linux/errno.h>
#include <linux/mm.h>
#include <linux/cleanup.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/timex.h>

#include "benchmark.h"

/* What is done with @n ranges. Where map() fails nothing is mapped. */
struct steps {
	int (*map)(struct bench_worker *w, u32 n);
	void (*sync)(struct bench_worker *w, u32 n);
	void (*unmap)(struct bench_worker *w, u32 n);
	u32 (*segments)(struct bench_worker *w, u32 n);
};

static void arrive(struct bench_worker *w)
{
	atomic_inc(w->ready);
}

static void wait_for_others(struct bench_worker *w)
{
	while (atomic_read(w->ready) < w->order->cpus)
		cpu_relax();
}

static __always_inline int measure(struct bench_worker *w, const struct steps *steps,
				   u32 n)
{
	u32 loops = w->order->loops, sync = w->order->sync;
	u64 cycles;
	int err;

	/* For what is done once, and to look at what the device is given. */
	err = steps->map(w, n);
	if (err) {
		arrive(w);
		return err;
	}
	w->segments = steps->segments(w, n);
	steps->unmap(w, n);

	preempt_disable();
	arrive(w);
	wait_for_others(w);
	w->start = ktime_get_ns();
	cycles = get_cycles();

	while (loops--) {
		err = steps->map(w, n);
		if (unlikely(err))
			break;
		if (sync)
			steps->sync(w, n);
		steps->unmap(w, n);
		barrier();
	}

	w->cycles = get_cycles() - cycles;
	w->end = ktime_get_ns();
	preempt_enable();
	return err;
}

/* One range is mapped without a loop over ranges, by all methods. */
#define DEFINE_METHOD(name)						\
	static noinline int name(struct bench_worker *w)			\
	{								\
		if (w->order->ranges == 1)				\
			return measure(w, &name##_steps, 1);		\
		return measure(w, &name##_steps, w->order->ranges);	\
	}

static __always_inline u32 segment_each(struct bench_worker *w, u32 n)
{
	return n;
}

/* empty: what the loop takes itself. */

static __always_inline int map_nothing(struct bench_worker *w, u32 n)
{
	return 0;
}

static __always_inline void do_nothing(struct bench_worker *w, u32 n)
{
}

static __always_inline u32 no_segment(struct bench_worker *w, u32 n)
{
	return 0;
}

static const struct steps empty_steps = {
	map_nothing, do_nothing, do_nothing, no_segment
};

DEFINE_METHOD(empty);

/* dma_map_phys, dma_map_page, dma_map_resource: each range by itself. */

#define DEFINE_RAW_STEPS(name, map_one, unmap_one, sync_too)		\
	static __always_inline void name##_unmap(struct bench_worker *w, u32 n) \
	{								\
		const struct bench_order *o = w->order;			\
									\
		for (u32 i = 0; i < n; i++)				\
			unmap_one;					\
	}								\
									\
	static __always_inline int name##_map(struct bench_worker *w, u32 n)	\
	{								\
		const struct bench_order *o = w->order;			\
									\
		for (u32 i = 0; i < n; i++) {				\
			w->addrs[i] = map_one;				\
			if (dma_mapping_error(w->dev, w->addrs[i])) {	\
				name##_unmap(w, i);			\
				return -ENOMEM;				\
			}						\
		}							\
		return 0;						\
	}								\
									\
	static const struct steps name##_steps = {			\
		name##_map, sync_too, name##_unmap, segment_each	\
	}

static __always_inline void sync_addrs(struct bench_worker *w, u32 n)
{
	const struct bench_order *o = w->order;

	for (u32 i = 0; i < n; i++)
		dma_sync_single_for_cpu(w->dev, w->addrs[i], o->size, o->dir);
	for (u32 i = 0; i < n; i++)
		dma_sync_single_for_device(w->dev, w->addrs[i], o->size,
					   o->dir);
}

DEFINE_RAW_STEPS(map_phys,
		 dma_map_phys(w->dev, w->ranges[i].addr, o->size, o->dir, 0),
		 dma_unmap_phys(w->dev, w->addrs[i], o->size, o->dir, 0),
		 sync_addrs);
DEFINE_METHOD(map_phys);

DEFINE_RAW_STEPS(map_phys_mmio,
		 dma_map_phys(w->dev, w->mmio[i].addr, o->size, o->dir,
			      DMA_ATTR_MMIO),
		 dma_unmap_phys(w->dev, w->addrs[i], o->size, o->dir,
				DMA_ATTR_MMIO),
		 do_nothing);
DEFINE_METHOD(map_phys_mmio);

DEFINE_RAW_STEPS(map_page,
		 dma_map_page(w->dev, w->pages[i].bv_page,
			      w->pages[i].bv_offset, o->size, o->dir),
		 dma_unmap_page(w->dev, w->addrs[i], o->size, o->dir),
		 sync_addrs);
DEFINE_METHOD(map_page);

DEFINE_RAW_STEPS(map_resource,
		 dma_map_resource(w->dev, w->mmio[i].addr, o->size, o->dir, 0),
		 dma_unmap_resource(w->dev, w->addrs[i], o->size, o->dir, 0),
		 do_nothing);
DEFINE_METHOD(map_resource);

/* dma_map_sgtable */

static __always_inline int map_sgtable_map(struct bench_worker *w, u32 n)
{
	return dma_map_sgtable(w->dev, &w->table, w->order->dir, 0);
}

static __always_inline void map_sgtable_sync(struct bench_worker *w, u32 n)
{
	dma_sync_sgtable_for_cpu(w->dev, &w->table, w->order->dir);
	dma_sync_sgtable_for_device(w->dev, &w->table, w->order->dir);
}

static __always_inline void map_sgtable_unmap(struct bench_worker *w, u32 n)
{
	dma_unmap_sgtable(w->dev, &w->table, w->order->dir, 0);
}

static __always_inline u32 map_sgtable_segments(struct bench_worker *w, u32 n)
{
	return w->table.nents;
}

static const struct steps map_sgtable_steps = {
	map_sgtable_map, map_sgtable_sync, map_sgtable_unmap,
	map_sgtable_segments
};

DEFINE_METHOD(map_sgtable);

/* dma_iova_link: all ranges at one IOVA, made visible to the IOMMU at once. */

static __always_inline void iova_link_undo(struct bench_worker *w, u32 n)
{
	dma_iova_destroy(w->dev, &w->iova, (size_t)n * w->order->size,
			 w->order->dir, 0);
}

static __always_inline int iova_link_map(struct bench_worker *w, u32 n)
{
	const struct bench_order *o = w->order;
	size_t linked = 0;
	int err;

	if (!dma_iova_try_alloc(w->dev, &w->iova, w->ranges[0].addr,
				(size_t)n * o->size))
		return -EOPNOTSUPP;
	for (u32 i = 0; i < n; i++) {
		err = dma_iova_link(w->dev, &w->iova, w->ranges[i].addr, linked,
				    o->size, o->dir, 0);
		if (err) {
			iova_link_undo(w, i);
			return err;
		}
		linked += o->size;
	}
	err = dma_iova_sync(w->dev, &w->iova, 0, linked);
	if (err)
		iova_link_undo(w, n);
	return err;
}

static __always_inline void iova_link_sync(struct bench_worker *w, u32 n)
{
	const struct bench_order *o = w->order;

	for (u32 i = 0; i < n; i++)
		dma_sync_single_for_cpu(w->dev, w->iova.addr + i * o->size,
					o->size, o->dir);
	for (u32 i = 0; i < n; i++)
		dma_sync_single_for_device(w->dev, w->iova.addr + i * o->size,
					   o->size, o->dir);
}

static __always_inline u32 iova_link_segments(struct bench_worker *w, u32 n)
{
	return 1;
}

static const struct steps iova_link_steps = {
	iova_link_map, iova_link_sync, iova_link_undo, iova_link_segments
};

DEFINE_METHOD(iova_link);

/* Only whole pages can follow each other at one IOVA. */
static int iova_link_pages(struct bench_worker *w)
{
	if (w->order->ranges > 1 && !PAGE_ALIGNED(w->order->size))
		return -EOPNOTSUPP;
	return iova_link(w);
}

/* typed_map: each range by itself; typed_virt: what there is, is an address. */

#define DEFINE_TYPED_STEPS(name, map_one)				\
	static __always_inline int name##_map(struct bench_worker *w, u32 n)	\
	{								\
		const struct bench_order *o = w->order;			\
		int err;						\
									\
		for (u32 i = 0; i < n; i++) {				\
			err = map_one;					\
			if (unlikely(err)) {				\
				typed_unmap(w, i);			\
				return err;				\
			}						\
		}							\
		return 0;						\
	}								\
									\
	static const struct steps name##_steps = {			\
		name##_map, typed_sync, typed_unmap, segment_each	\
	}

static __always_inline void typed_unmap(struct bench_worker *w, u32 n)
{
	for (u32 i = 0; i < n; i++)
		dma_phys_unmap(&w->maps[i]);
}

static __always_inline void typed_sync(struct bench_worker *w, u32 n)
{
	for (u32 i = 0; i < n; i++)
		dma_phys_sync_for_cpu(&w->maps[i], 0, w->order->size);
	for (u32 i = 0; i < n; i++)
		dma_phys_sync_for_device(&w->maps[i], 0, w->order->size);
}

DEFINE_TYPED_STEPS(typed_map,
		   dma_phys_map_cpu(w->dev, &w->ranges[i], o->dir, 0,
				    &w->maps[i]));
DEFINE_METHOD(typed_map);

static __always_inline int map_virt(struct device *dev, void *virt,
				    const struct bench_order *o,
				    struct dma_phys_map *map)
{
	struct cpu_phys range;
	int err;

	err = cpu_phys_from_virt(virt, o->size, &range);
	if (unlikely(err))
		return err;
	return dma_phys_map_cpu(dev, &range, o->dir, 0, map);
}

DEFINE_TYPED_STEPS(typed_virt, map_virt(w->dev, w->virts[i], o, &w->maps[i]));
DEFINE_METHOD(typed_virt);

/* typed_locked: as if all CPUs shared a lock, to see what that would look like. */

static DEFINE_SPINLOCK(shared_lock);

static __always_inline int map_locked(struct bench_worker *w, u32 i)
{
	guard(spinlock)(&shared_lock);
	return dma_phys_map_cpu(w->dev, &w->ranges[i], w->order->dir, 0,
				&w->maps[i]);
}

static __always_inline int typed_locked_map(struct bench_worker *w, u32 n)
{
	int err;

	for (u32 i = 0; i < n; i++) {
		err = map_locked(w, i);
		if (unlikely(err)) {
			typed_unmap(w, i);
			return err;
		}
	}
	return 0;
}

static __always_inline void typed_locked_unmap(struct bench_worker *w, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		guard(spinlock)(&shared_lock);
		dma_phys_unmap(&w->maps[i]);
	}
}

static const struct steps typed_locked_steps = {
	typed_locked_map, typed_sync, typed_locked_unmap, segment_each
};

DEFINE_METHOD(typed_locked);

DEFINE_TYPED_STEPS(typed_map_mmio,
		   dma_phys_map_mmio(w->dev, &w->mmio[i], o->dir, 0,
				     &w->maps[i]));
DEFINE_METHOD(typed_map_mmio);

/* typed_vec: all ranges together. */

static __always_inline int typed_vec_map(struct bench_worker *w, u32 n)
{
	return dma_phys_vec_map_cpu(w->dev, w->ranges, n, w->order->dir, 0,
				    &w->vec);
}

static __always_inline int typed_vec_mmio_map(struct bench_worker *w, u32 n)
{
	return dma_phys_vec_map_mmio(w->dev, w->mmio, n, w->order->dir, 0,
				     &w->vec);
}

static __always_inline void typed_vec_sync(struct bench_worker *w, u32 n)
{
	dma_phys_vec_sync_for_cpu(&w->vec, 0, w->vec.size);
	dma_phys_vec_sync_for_device(&w->vec, 0, w->vec.size);
}

static __always_inline void typed_vec_unmap(struct bench_worker *w, u32 n)
{
	dma_phys_vec_unmap(&w->vec);
}

static __always_inline u32 typed_vec_segments(struct bench_worker *w, u32 n)
{
	return w->vec.count;
}

static const struct steps typed_vec_steps = {
	typed_vec_map, typed_vec_sync, typed_vec_unmap, typed_vec_segments
};

DEFINE_METHOD(typed_vec);

static const struct steps typed_vec_mmio_steps = {
	typed_vec_mmio_map, typed_vec_sync, typed_vec_unmap, typed_vec_segments
};

DEFINE_METHOD(typed_vec_mmio);

const struct bench_method bench_methods[] = {
	{ "empty", false, { empty, empty, empty } },
	{ "dma_map_phys", false, { map_phys, map_phys_mmio } },
	{ "dma_map_page", false, { map_page } },
	{ "dma_map_resource", false, { NULL, map_resource } },
	{ "dma_map_sgtable", false, { map_sgtable, NULL, map_sgtable } },
	{ "dma_iova_link", false, { iova_link_pages } },
	{ "typed_map", true, { typed_map, typed_map_mmio, typed_map_mmio } },
	{ "typed_virt", true, { typed_virt } },
	{ "typed_locked", true, { typed_locked } },
	{ "typed_vec", true, { typed_vec, typed_vec_mmio, typed_vec_mmio } },
};

const u32 bench_method_count = ARRAY_SIZE(bench_methods);

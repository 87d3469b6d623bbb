// SPDX-License-Identifier: GPL-2.0
/*
 * The methods of the benchmark. The steps of a method are inlined into a loop of
 * its own.
 */
#include <linux/array_size.h>
#include <linux/cleanup.h>
#include <linux/errno.h>
#include <linux/iommu.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/timex.h>

#include "benchmark.h"

/**
 * struct bench_steps - the steps of a method for @n ranges
 * @map: returns the number of segments, or an error with nothing mapped
 * @sync: syncs all ranges for the CPU, then for the device
 * @unmap: unmaps all ranges
 */
struct bench_steps {
	int (*map)(struct bench_worker *w, u32 n);
	void (*sync)(struct bench_worker *w, u32 n);
	void (*unmap)(struct bench_worker *w, u32 n);
};

static void bench_set_ready(struct bench_worker *w)
{
	atomic_inc(w->ready);
}

static void bench_wait_for_workers(struct bench_worker *w)
{
	while (atomic_read(w->ready) < w->params->cpus)
		cpu_relax();
}

static __always_inline int bench_measure(struct bench_worker *w,
					 const struct bench_steps *steps, u32 n)
{
	u32 loops = w->params->loops, sync = w->params->sync;
	u64 cycles;
	int count;

	/* Not measured: it includes what is done only once. */
	count = steps->map(w, n);
	if (count < 0) {
		bench_set_ready(w);
		return count;
	}
	w->segment_count = count;
	steps->unmap(w, n);

	preempt_disable();
	bench_set_ready(w);
	bench_wait_for_workers(w);
	w->start = ktime_get_ns();
	cycles = get_cycles();

	while (loops--) {
		count = steps->map(w, n);
		if (unlikely(count < 0))
			break;
		if (sync)
			steps->sync(w, n);
		steps->unmap(w, n);
		barrier();
	}

	w->cycles = get_cycles() - cycles;
	w->end = ktime_get_ns();
	preempt_enable();
	return min(count, 0);
}

/* All methods map a single range without a loop over ranges. */
#define BENCH_DEFINE_METHOD(name)					\
	static noinline int bench_##name(struct bench_worker *w)	\
	{								\
		if (w->params->ranges == 1)				\
			return bench_measure(w, &name##_steps, 1);	\
		return bench_measure(w, &name##_steps,			\
				     w->params->ranges);		\
	}

/* ---- empty: the loop itself ---- */

static __always_inline int bench_map_nothing(struct bench_worker *w, u32 n)
{
	return 0;
}

static __always_inline void bench_do_nothing(struct bench_worker *w, u32 n)
{
}

static const struct bench_steps empty_steps = {
	bench_map_nothing, bench_do_nothing, bench_do_nothing
};

BENCH_DEFINE_METHOD(empty);

/* ---- dma_map_phys, dma_map_page, dma_map_resource: range by range ---- */

#define BENCH_DEFINE_RAW_STEPS(name, map_one, unmap_one, sync_all)	\
	static __always_inline void name##_unmap(struct bench_worker *w, \
						 u32 n)			\
	{								\
		const struct bench_params *p = w->params;		\
									\
		for (u32 i = 0; i < n; i++)				\
			unmap_one;					\
	}								\
									\
	static __always_inline int name##_map(struct bench_worker *w, u32 n) \
	{								\
		const struct bench_params *p = w->params;		\
									\
		for (u32 i = 0; i < n; i++) {				\
			w->addrs[i] = map_one;				\
			if (dma_mapping_error(w->dev, w->addrs[i])) {	\
				name##_unmap(w, i);			\
				return -ENOMEM;				\
			}						\
		}							\
		return n;						\
	}								\
									\
	static const struct bench_steps name##_steps = {		\
		name##_map, sync_all, name##_unmap			\
	}

static __always_inline void bench_sync_addrs(struct bench_worker *w, u32 n)
{
	const struct bench_params *p = w->params;

	for (u32 i = 0; i < n; i++)
		dma_sync_single_for_cpu(w->dev, w->addrs[i], p->size, p->dir);
	for (u32 i = 0; i < n; i++)
		dma_sync_single_for_device(w->dev, w->addrs[i], p->size,
					   p->dir);
}

BENCH_DEFINE_RAW_STEPS(map_phys,
		       dma_map_phys(w->dev, w->ranges[i].addr, p->size, p->dir,
				    0),
		       dma_unmap_phys(w->dev, w->addrs[i], p->size, p->dir, 0),
		       bench_sync_addrs);
BENCH_DEFINE_METHOD(map_phys);

BENCH_DEFINE_RAW_STEPS(map_phys_mmio,
		       dma_map_phys(w->dev, w->mmio[i].addr, p->size, p->dir,
				    DMA_ATTR_MMIO),
		       dma_unmap_phys(w->dev, w->addrs[i], p->size, p->dir,
				      DMA_ATTR_MMIO),
		       bench_do_nothing);
BENCH_DEFINE_METHOD(map_phys_mmio);

BENCH_DEFINE_RAW_STEPS(map_page,
		       dma_map_page(w->dev, w->pages[i].bv_page,
				    w->pages[i].bv_offset, p->size, p->dir),
		       dma_unmap_page(w->dev, w->addrs[i], p->size, p->dir),
		       bench_sync_addrs);
BENCH_DEFINE_METHOD(map_page);

BENCH_DEFINE_RAW_STEPS(map_resource,
		       dma_map_resource(w->dev, w->mmio[i].addr, p->size,
					p->dir, 0),
		       dma_unmap_resource(w->dev, w->addrs[i], p->size, p->dir,
					  0),
		       bench_do_nothing);
BENCH_DEFINE_METHOD(map_resource);

/* ---- dma_map_sgtable ---- */

static __always_inline int map_sgtable_map(struct bench_worker *w, u32 n)
{
	int err = dma_map_sgtable(w->dev, &w->table, w->params->dir, 0);

	return err ?: w->table.nents;
}

static __always_inline void map_sgtable_sync(struct bench_worker *w, u32 n)
{
	dma_sync_sgtable_for_cpu(w->dev, &w->table, w->params->dir);
	dma_sync_sgtable_for_device(w->dev, &w->table, w->params->dir);
}

static __always_inline void map_sgtable_unmap(struct bench_worker *w, u32 n)
{
	dma_unmap_sgtable(w->dev, &w->table, w->params->dir, 0);
}

static const struct bench_steps map_sgtable_steps = {
	map_sgtable_map, map_sgtable_sync, map_sgtable_unmap
};

BENCH_DEFINE_METHOD(map_sgtable);

/* ---- dma_iova_link: all ranges at one IOVA, with one sync of the IOTLB ---- */

static __always_inline void iova_link_unmap(struct bench_worker *w, u32 n)
{
	dma_iova_destroy(w->dev, &w->iova, (size_t)n * w->params->size,
			 w->params->dir, 0);
}

static __always_inline int iova_link_map(struct bench_worker *w, u32 n)
{
	const struct bench_params *p = w->params;
	size_t linked = 0;
	int err;

	if (!dma_iova_try_alloc(w->dev, &w->iova, w->ranges[0].addr,
				(size_t)n * p->size))
		return -EOPNOTSUPP;
	for (u32 i = 0; i < n; i++) {
		err = dma_iova_link(w->dev, &w->iova, w->ranges[i].addr, linked,
				    p->size, p->dir, 0);
		if (err) {
			iova_link_unmap(w, i);
			return err;
		}
		linked += p->size;
	}
	err = dma_iova_sync(w->dev, &w->iova, 0, linked);
	if (err) {
		iova_link_unmap(w, n);
		return err;
	}
	return 1;
}

static __always_inline void iova_link_sync(struct bench_worker *w, u32 n)
{
	const struct bench_params *p = w->params;

	for (u32 i = 0; i < n; i++)
		dma_sync_single_for_cpu(w->dev, w->iova.addr + i * p->size,
					p->size, p->dir);
	for (u32 i = 0; i < n; i++)
		dma_sync_single_for_device(w->dev, w->iova.addr + i * p->size,
					   p->size, p->dir);
}

static const struct bench_steps iova_link_steps = {
	iova_link_map, iova_link_sync, iova_link_unmap
};

BENCH_DEFINE_METHOD(iova_link);

/* Only ranges of whole pages can be adjacent at one IOVA. */
static int bench_iova_link_pages(struct bench_worker *w)
{
	if (w->params->ranges > 1 && !PAGE_ALIGNED(w->params->size))
		return -EOPNOTSUPP;
	return bench_iova_link(w);
}

/*
 * ---- iommu_map_sg, iommu_map_sg_vecs: the table, at one IOVA ----
 *
 * The second is what iommu_map_sg() would be with dma_iova_link_vecs().
 */

static int bench_link_sg(struct bench_worker *w, u32 n)
{
	struct phys_vec vecs[64];
	unsigned int count = 0;
	struct scatterlist *sg;
	size_t linked = 0, len = 0;
	int err, i;

	for_each_sg(w->table.sgl, sg, n, i) {
		if (count && vecs[count - 1].paddr + vecs[count - 1].len ==
			     sg_phys(sg))
			vecs[count - 1].len += sg->length;
		else
			vecs[count++] = (struct phys_vec){ sg_phys(sg), sg->length };
		len += sg->length;
		if (count < ARRAY_SIZE(vecs) && !sg_is_last(sg))
			continue;

		err = dma_iova_link_vecs(w->dev, &w->iova, vecs, count, linked,
					 w->params->dir, 0);
		if (err) {
			if (linked)
				dma_iova_unlink(w->dev, &w->iova, 0, linked,
						w->params->dir, 0);
			return err;
		}
		linked += len;
		len = 0;
		count = 0;
	}
	return 0;
}

static int bench_iommu_map_sg(struct bench_worker *w, u32 n)
{
	size_t size = (size_t)n * w->params->size;
	ssize_t mapped;

	mapped = iommu_map_sg(iommu_get_domain_for_dev(w->dev), w->iova.addr,
			      w->table.sgl, n,
			      IOMMU_READ | IOMMU_WRITE | IOMMU_CACHE, GFP_ATOMIC);
	return mapped == size ? 0 : -ENOMEM;
}

static __always_inline int bench_at_one_iova(struct bench_worker *w, u32 n,
					     int (*map)(struct bench_worker *w,
							u32 n))
{
	const struct bench_params *p = w->params;
	size_t size = (size_t)n * p->size;
	int err;

	if (!PAGE_ALIGNED(p->size) ||
	    !dma_iova_try_alloc(w->dev, &w->iova, w->ranges[0].addr, size))
		return -EOPNOTSUPP;
	err = map(w, n);
	if (err) {
		/* It has unmapped what it had mapped. */
		dma_iova_free(w->dev, &w->iova);
		return err;
	}
	err = dma_iova_sync(w->dev, &w->iova, 0, size);
	if (err) {
		iova_link_unmap(w, n);
		return err;
	}
	return 1;
}

static __always_inline int map_sg_map(struct bench_worker *w, u32 n)
{
	return bench_at_one_iova(w, n, bench_iommu_map_sg);
}

static const struct bench_steps map_sg_steps = {
	map_sg_map, iova_link_sync, iova_link_unmap
};

BENCH_DEFINE_METHOD(map_sg);

static __always_inline int map_sg_vecs_map(struct bench_worker *w, u32 n)
{
	return bench_at_one_iova(w, n, bench_link_sg);
}

static const struct bench_steps map_sg_vecs_steps = {
	map_sg_vecs_map, iova_link_sync, iova_link_unmap
};

BENCH_DEFINE_METHOD(map_sg_vecs);

/* ---- typed_map, typed_virt, typed_locked, typed_kept: range by range ---- */

static __always_inline void typed_unmap(struct bench_worker *w, u32 n)
{
	for (u32 i = 0; i < n; i++)
		dma_phys_unmap(&w->maps[i]);
}

static __always_inline void typed_sync(struct bench_worker *w, u32 n)
{
	for (u32 i = 0; i < n; i++)
		dma_phys_sync_for_cpu(&w->maps[i], 0, w->params->size);
	for (u32 i = 0; i < n; i++)
		dma_phys_sync_for_device(&w->maps[i], 0, w->params->size);
}

/* @map_one maps the range with an index. */
#define BENCH_DEFINE_TYPED_MAP(name, map_one)				\
	static __always_inline int name##_map(struct bench_worker *w, u32 n) \
	{								\
		int err;						\
									\
		for (u32 i = 0; i < n; i++) {				\
			err = map_one(w, i);				\
			if (unlikely(err)) {				\
				typed_unmap(w, i);			\
				return err;				\
			}						\
		}							\
		return n;						\
	}

static __always_inline int bench_map_cpu(struct bench_worker *w, u32 i)
{
	return dma_phys_map_cpu(w->dev, &w->ranges[i], w->params->dir, 0,
				&w->maps[i]);
}

BENCH_DEFINE_TYPED_MAP(typed_map, bench_map_cpu);

static const struct bench_steps typed_map_steps = {
	typed_map_map, typed_sync, typed_unmap
};

BENCH_DEFINE_METHOD(typed_map);

static __always_inline int bench_map_mmio(struct bench_worker *w, u32 i)
{
	return dma_phys_map_mmio(w->dev, &w->mmio[i], w->params->dir, 0,
				 &w->maps[i]);
}

BENCH_DEFINE_TYPED_MAP(typed_map_mmio, bench_map_mmio);

static const struct bench_steps typed_map_mmio_steps = {
	typed_map_mmio_map, typed_sync, typed_unmap
};

BENCH_DEFINE_METHOD(typed_map_mmio);

static __always_inline int bench_map_virt(struct bench_worker *w, u32 i)
{
	const struct bench_params *p = w->params;
	struct cpu_phys range;
	int err;

	err = cpu_phys_from_virt(w->virts[i], p->size, &range);
	if (unlikely(err))
		return err;
	return dma_phys_map_cpu(w->dev, &range, p->dir, 0, &w->maps[i]);
}

BENCH_DEFINE_TYPED_MAP(typed_virt, bench_map_virt);

static const struct bench_steps typed_virt_steps = {
	typed_virt_map, typed_sync, typed_unmap
};

BENCH_DEFINE_METHOD(typed_virt);

/* What a lock that all CPUs share would cost. */
static DEFINE_SPINLOCK(bench_shared_lock);

static __always_inline int bench_map_locked(struct bench_worker *w, u32 i)
{
	guard(spinlock)(&bench_shared_lock);
	return bench_map_cpu(w, i);
}

BENCH_DEFINE_TYPED_MAP(typed_locked, bench_map_locked);

static __always_inline void typed_locked_unmap(struct bench_worker *w, u32 n)
{
	for (u32 i = 0; i < n; i++) {
		guard(spinlock)(&bench_shared_lock);
		dma_phys_unmap(&w->maps[i]);
	}
}

static const struct bench_steps typed_locked_steps = {
	typed_locked_map, typed_sync, typed_locked_unmap
};

BENCH_DEFINE_METHOD(typed_locked);

/* Mapped the first time, and synced for the device since. */
static __always_inline int bench_map_kept(struct bench_worker *w, u32 i)
{
	if (unlikely(!w->maps[i].dev))
		return bench_map_cpu(w, i);
	return dma_phys_sync_for_device(&w->maps[i], 0, w->params->size);
}

BENCH_DEFINE_TYPED_MAP(typed_kept, bench_map_kept);

static __always_inline void typed_kept_sync(struct bench_worker *w, u32 n)
{
	for (u32 i = 0; i < n; i++)
		dma_phys_sync_for_cpu(&w->maps[i], 0, w->params->size);
}

static const struct bench_steps typed_kept_steps = {
	typed_kept_map, typed_sync, typed_kept_sync
};

static noinline int bench_typed_kept(struct bench_worker *w)
{
	u32 n = w->params->ranges;
	int err = n == 1 ? bench_measure(w, &typed_kept_steps, 1) :
			   bench_measure(w, &typed_kept_steps, n);

	typed_unmap(w, n);
	return err;
}

/* ---- typed_sg, typed_sg_iter: all ranges together ---- */

static __always_inline void typed_sg_sync(struct bench_worker *w, u32 n)
{
	dma_phys_sg_sync_for_cpu(&w->sg, 0, w->sg.size);
	dma_phys_sg_sync_for_device(&w->sg, 0, w->sg.size);
}

static __always_inline void typed_sg_unmap(struct bench_worker *w, u32 n)
{
	dma_phys_sg_unmap(&w->sg);
}

static __always_inline int typed_sg_map(struct bench_worker *w, u32 n)
{
	return dma_phys_sg_map_cpu(w->dev, w->ranges, n, w->params->dir, 0,
				   w->segments, w->max_segments, &w->sg);
}

static const struct bench_steps typed_sg_steps = {
	typed_sg_map, typed_sg_sync, typed_sg_unmap
};

BENCH_DEFINE_METHOD(typed_sg);

static __always_inline int typed_sg_mmio_map(struct bench_worker *w, u32 n)
{
	return dma_phys_sg_map_mmio(w->dev, w->mmio, n, w->params->dir, 0,
				    w->segments, w->max_segments, &w->sg);
}

static const struct bench_steps typed_sg_mmio_steps = {
	typed_sg_mmio_map, typed_sg_sync, typed_sg_unmap
};

BENCH_DEFINE_METHOD(typed_sg_mmio);

/* Like a driver that writes each segment as a descriptor. */
static __always_inline int typed_sg_iter_map(struct bench_worker *w, u32 n)
{
	struct bench_source ranges = w->source;
	struct dma_phys_sg_iter iter __uninitialized;
	int count = 0, more;

	more = dma_phys_sg_map_start(w->dev, &ranges.source, w->params->dir, 0,
				     &w->sg, &iter);
	while (more > 0) {
		w->segments[count].addr = iter.addr;
		w->segments[count++].len = iter.len;
		more = dma_phys_sg_map_next(&w->sg, &iter);
	}
	return more ?: count;
}

static const struct bench_steps typed_sg_iter_steps = {
	typed_sg_iter_map, typed_sg_sync, typed_sg_unmap
};

BENCH_DEFINE_METHOD(typed_sg_iter);

const struct bench_method bench_methods[] = {
	{ "empty", false, { bench_empty, bench_empty, bench_empty } },
	{ "dma_map_phys", false, { bench_map_phys, bench_map_phys_mmio } },
	{ "dma_map_page", false, { bench_map_page } },
	{ "dma_map_resource", false, { NULL, bench_map_resource } },
	{ "dma_map_sgtable", false, {
		bench_map_sgtable, NULL, bench_map_sgtable } },
	{ "dma_iova_link", false, { bench_iova_link_pages } },
	{ "iommu_map_sg", false, { bench_map_sg } },
	{ "iommu_map_sg_vecs", false, { bench_map_sg_vecs } },
	{ "typed_map", true, {
		bench_typed_map, bench_typed_map_mmio, bench_typed_map_mmio } },
	{ "typed_virt", true, { bench_typed_virt } },
	{ "typed_locked", true, { bench_typed_locked } },
	{ "typed_kept", true, { bench_typed_kept } },
	{ "typed_sg", true, {
		bench_typed_sg, bench_typed_sg_mmio, bench_typed_sg_mmio } },
	{ "typed_sg_iter", true, {
		bench_typed_sg_iter, bench_typed_sg_iter,
		bench_typed_sg_iter } },
};

const u32 bench_method_count = ARRAY_SIZE(bench_methods);

// SPDX-License-Identifier: GPL-2.0
/*
 * The typed API does what the raw API does: each range is mapped through both,
 * and must get the same kind of DMA address, and take the same number of bounce
 * slots, bytes of IOVA space and cache operations. The typed API logs nothing.
 * A range that the raw API maps and the typed one refuses is a failure, as is
 * the reverse unless the raw API warned.
 *
 * Ranges that make the raw API crash or warn are mapped through the typed API
 * only, which must refuse them: see equivalence_hazard().
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-names.h>
#include <linux/iommu-dma.h>
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/swiotlb.h>

#include "edu_kunit.h"
#include "equivalence.h"
#include "internal.h"

#define EQUIVALENCE_SEED	20260U
#define EQUIVALENCE_POINTS	2000
/* Points of a case that changes the device. */
#define EQUIVALENCE_FEW		300
#define EQUIVALENCE_BYTES	SZ_1M
/* A case ends after so many failures. */
#define EQUIVALENCE_FAILURES	10
/* Other devices may take or free slots meanwhile. */
#define EQUIVALENCE_TRIES	3

/* The largest bounce buffer. */
#define BOUNCE_MAX		(IO_TLB_SEGSIZE << IO_TLB_SHIFT)

/**
 * struct equivalence - a case
 * @test: its test
 * @base: of DMA_PHYS_CPU and DMA_PHYS_MMIO, EQUIVALENCE_BYTES each
 * @points: points that were compared
 * @hazards: points that the raw API cannot be given
 * @failures: points that differed
 * @start: when it started
 */
struct equivalence {
	struct kunit *test;
	phys_addr_t base[2];
	unsigned int points;
	unsigned int hazards;
	unsigned int failures;
	ktime_t start;
};

/* ---- What the raw API cannot be given ---- */

/**
 * struct equivalence_row - a row of the hazards of the raw API
 * @name: its number, NULL if the point is none
 * @err: what the typed API returns, 0 if this depends on which slot is free
 */
struct equivalence_row {
	const char *name;
	int err;
};

static u64 equivalence_limit(void)
{
	return min_not_zero(dma_get_mask(edu.dev), edu.dev->bus_dma_limit);
}

/* The point bounces on the direct route. */
static struct equivalence_row
equivalence_bounce_hazard(const struct dma_phys_test_point *point)
{
	phys_addr_t start, end;

	if (!is_swiotlb_active(edu.dev))
		return (struct equivalence_row){ "H06", -ERANGE };
	/* The raw API finds no buffer and says nothing. */
	if (point->len > BOUNCE_MAX)
		return (struct equivalence_row){};
	if (!edu_get_pool(&start, &end))
		return (struct equivalence_row){};
	if ((u64)phys_to_dma(edu.dev, start) + point->len - 1 >
	    equivalence_limit())
		return (struct equivalence_row){ "H06", -ERANGE };
	if ((u64)phys_to_dma(edu.dev, end - 1) > equivalence_limit())
		return (struct equivalence_row){ "H06", 0 };
	return (struct equivalence_row){};
}

static struct equivalence_row
equivalence_direct_hazard(const struct dma_phys_test_point *point)
{
	bool reached = edu_route(point->phys, point->len) == DMA_PHYS_DIRECT;

	if (point->kind == DMA_PHYS_CPU)
		return reached && !dma_kmalloc_needs_bounce(edu.dev, point->len,
							    point->dir) ?
		       (struct equivalence_row){} :
		       equivalence_bounce_hazard(point);
	/* Refused without a warning if bouncing is forced. */
	if (!reached && !is_swiotlb_force_bounce(edu.dev))
		return (struct equivalence_row){ "H06", -ERANGE };
	return (struct equivalence_row){};
}

static struct equivalence_row
equivalence_iommu_hazard(const struct dma_phys_test_point *point)
{
	u64 mask = dma_get_merge_boundary(edu.dev);
	bool unaligned = (point->phys | point->len) & mask;

	if (!point->phys)
		return (struct equivalence_row){ "H16", -EINVAL };
	if (dma_get_min_align_mask(edu.dev) > mask)
		return (struct equivalence_row){ "H30", -EOPNOTSUPP };
	if (!unaligned)
		return (struct equivalence_row){};
	if (point->kind == DMA_PHYS_MMIO && edu.pdev->untrusted)
		return (struct equivalence_row){ "H17", -EOPNOTSUPP };
	if (point->kind == DMA_PHYS_CPU && !is_swiotlb_active(edu.dev) &&
	    IS_ENABLED(CONFIG_SWIOTLB) &&
	    (edu.pdev->untrusted ||
	     dma_kmalloc_needs_bounce(edu.dev, point->len, point->dir)))
		return (struct equivalence_row){ "H06", -ERANGE };
	return (struct equivalence_row){};
}

/*
 * The hazards that points can be. Not among them are H01 and H05, which are about
 * other arguments, and H04, which is about larger ranges: see map_kunit.c and
 * bounce_kunit.c.
 */
static struct equivalence_row
equivalence_hazard(const struct dma_phys_test_point *point)
{
	if (!point->len)
		return (struct equivalence_row){ "H02", -EINVAL };
	if (point->len - 1 > PHYS_ADDR_MAX - point->phys)
		return (struct equivalence_row){ "H03", -EINVAL };
	if (use_dma_iommu(edu.dev))
		return equivalence_iommu_hazard(point);
	if (edu_route(point->phys, point->len) == DMA_PHYS_OPS)
		return (struct equivalence_row){};
	return equivalence_direct_hazard(point);
}

/* ---- Comparison ---- */

static void equivalence_describe(const struct dma_phys_test_outcome *o,
				 char *text, size_t size)
{
	scnprintf(text, size,
		  "err %d route %s addr %llx target %llx bounced %d slots %ld leaked %ld map iova %zu flushes %u/%zu unmap iova %zu flushes %u/%zu log %u \"%s\"",
		  o->err, dma_phys_route_name(o->route), (u64)o->addr,
		  (u64)o->target, o->bounced, o->slots, o->leaked, o->map.iova,
		  o->map.flushes, o->map.flushed, o->unmap.iova,
		  o->unmap.flushes, o->unmap.flushed, o->lines, o->text);
}

static void equivalence_fail(struct equivalence *eq, const char *what,
			     const struct dma_phys_test_point *point,
			     const struct dma_phys_test_outcome *raw,
			     const struct dma_phys_test_outcome *typed)
{
	static char raw_text[320], typed_text[320];

	raw_text[0] = '\0';
	if (raw)
		equivalence_describe(raw, raw_text, sizeof(raw_text));
	equivalence_describe(typed, typed_text, sizeof(typed_text));
	eq->failures++;
	KUNIT_FAIL(eq->test,
		   "%s: %s %s phys %pa+%zu (base %pa), mask %llx limit %llx min_align %x boundary %lx coherent %d untrusted %d forced %d iommu %d\nraw:   %s\ntyped: %s",
		   what, dma_phys_kind_name(point->kind),
		   dma_phys_dir_name(point->dir), &point->phys, point->len,
		   &eq->base[point->kind], dma_get_mask(edu.dev),
		   edu.dev->bus_dma_limit, dma_get_min_align_mask(edu.dev),
		   dma_get_seg_boundary(edu.dev), dev_is_dma_coherent(edu.dev),
		   edu.pdev->untrusted, is_swiotlb_force_bounce(edu.dev),
		   use_dma_iommu(edu.dev), raw_text, typed_text);
}

/* CONFIG_DMA_PHYS_DEBUG reports ranges that share cache lines. */
static bool equivalence_logs(const struct dma_phys_test_outcome *typed)
{
	return typed->lines &&
	       (dev_is_dma_coherent(edu.dev) || !dma_phys_debug_on());
}

/* Both map: is the address of the same class? */
static const char *
equivalence_addr_differs(const struct dma_phys_test_point *point,
			 const struct dma_phys_test_outcome *raw,
			 const struct dma_phys_test_outcome *typed)
{
	dma_addr_t diff = raw->addr ^ typed->addr;

	if (raw->bounced != typed->bounced)
		return "one bounces";
	if (use_dma_iommu(edu.dev)) {
		if (typed->route != DMA_PHYS_IOMMU)
			return "route";
		if (diff & dma_get_merge_boundary(edu.dev))
			return "offset in the granule";
		if (typed->addr + point->len - 1 > dma_get_mask(edu.dev))
			return "beyond the mask";
		if (!typed->bounced && typed->target != raw->target)
			return "target";
		return NULL;
	}
	if (get_dma_ops(edu.dev))
		return diff & ~PAGE_MASK ? "offset in the page" : NULL;
	if (typed->bounced)
		return diff & (IO_TLB_SIZE - 1) ? "offset in the slot" : NULL;
	return diff ? "address" : NULL;
}

static const char *
equivalence_route_differs(const struct dma_phys_test_outcome *typed)
{
	u8 route = typed->bounced ? DMA_PHYS_BOUNCE : DMA_PHYS_DIRECT;

	/* Whether a device that is not coherent bounces is not recorded. */
	if (use_dma_iommu(edu.dev) || get_dma_ops(edu.dev) ||
	    !dev_is_dma_coherent(edu.dev))
		return NULL;
	return typed->route != route ? "route" : NULL;
}

static bool equivalence_cost_differs(const struct dma_phys_test_cost *a,
				     const struct dma_phys_test_cost *b)
{
	return a->iova != b->iova || a->flushes != b->flushes ||
	       a->flushed != b->flushed;
}

/* What differs, NULL if nothing does. */
static const char *
equivalence_differs(const struct dma_phys_test_point *point,
		    const struct dma_phys_test_outcome *raw,
		    const struct dma_phys_test_outcome *typed)
{
	const char *what;

	if (equivalence_logs(typed))
		return "typed logs";
	if (typed->leaked)
		return "slots are leaked";
	if (raw->err && typed->err)
		/* Nothing else maps: no resource is used up. */
		return typed->err == -EAGAIN || typed->err == -ENOMEM ?
		       "the reason is not that resources are in use" : NULL;
	if (raw->err)
		return raw->lines ? NULL : "raw refuses, typed maps";
	if (typed->err)
		return "raw maps, typed refuses";

	what = equivalence_addr_differs(point, raw, typed);
	what = what ?: equivalence_route_differs(typed);
	if (what)
		return what;
	if (raw->slots != typed->slots)
		return "slots";
	if (equivalence_cost_differs(&raw->map, &typed->map))
		return "cost of map";
	if (equivalence_cost_differs(&raw->unmap, &typed->unmap))
		return "cost of unmap";
	if (point->kind == DMA_PHYS_MMIO &&
	    typed->map.flushes + typed->unmap.flushes)
		return "device memory is flushed";
	return NULL;
}

/* The typed API is first: what the raw API logs once is not attributed to it. */
static void equivalence_try(struct equivalence *eq,
			    const struct dma_phys_test_point *point)
{
	struct equivalence_row row = equivalence_hazard(point);
	struct dma_phys_test_outcome raw, typed;
	const char *what = NULL;

	if (row.name) {
		eq->hazards++;
		if (!row.err)
			return;
		dma_phys_test_try_typed(point, &typed);
		if (typed.err != row.err || equivalence_logs(&typed))
			equivalence_fail(eq, row.name, point, NULL, &typed);
		return;
	}

	eq->points++;
	for (int i = 0; i < EQUIVALENCE_TRIES; i++) {
		dma_phys_test_try_typed(point, &typed);
		dma_phys_test_try_raw(point, &raw);
		what = equivalence_differs(point, &raw, &typed);
		if (!what)
			return;
	}
	equivalence_fail(eq, what, point, &raw, &typed);
}

/* All directions, both kinds. */
static void equivalence_try_all(struct equivalence *eq, size_t offset,
				size_t len)
{
	struct dma_phys_test_point point = { .len = len };

	for (int kind = DMA_PHYS_CPU; kind <= DMA_PHYS_MMIO; kind++)
		for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE;
		     dir++) {
			point.kind = kind;
			point.dir = dir;
			point.phys = eq->base[kind] + offset;
			if (eq->failures < EQUIVALENCE_FAILURES)
				equivalence_try(eq, &point);
		}
	cond_resched();
}

/* ---- Points ---- */

static void equivalence_boundaries(struct equivalence *eq)
{
	size_t granule = use_dma_iommu(edu.dev) ?
			 dma_get_merge_boundary(edu.dev) + 1 : IO_TLB_SIZE;
	const size_t lens[] = {
		0, 1, granule - 1, granule, granule + 1, PAGE_SIZE - 1,
		PAGE_SIZE, PAGE_SIZE + 1, SZ_128K, BOUNCE_MAX - PAGE_SIZE,
		BOUNCE_MAX - 1, BOUNCE_MAX, BOUNCE_MAX + 1, SZ_512K,
	};
	const size_t offsets[] = {
		0, 1, granule, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1,
		SZ_128K, BOUNCE_MAX - 1, BOUNCE_MAX,
	};

	for (int i = 0; i < ARRAY_SIZE(lens); i++)
		for (int k = 0; k < ARRAY_SIZE(offsets); k++)
			equivalence_try_all(eq, offsets[k], lens[i]);
}

/* Up to 512 KiB, but mostly small: a bounce copies all of it. */
static size_t equivalence_random_size(struct rnd_state *state)
{
	u32 random = prandom_u32_state(state);
	unsigned int bits = min(random % 20, (random >> 8) % 20);

	return prandom_u32_state(state) % (1U << bits) + 1;
}

/* A quarter of the offsets, and of the lengths, is a multiple of pages. */
static void equivalence_random(struct equivalence *eq, unsigned int points)
{
	struct rnd_state state;

	prandom_seed_state(&state, EQUIVALENCE_SEED);
	for (unsigned int i = 0; i < points; i++) {
		size_t offset = prandom_u32_state(&state) % SZ_256K;
		size_t len = equivalence_random_size(&state);
		u32 random = prandom_u32_state(&state);

		if (random % 4 == 0)
			offset = round_down(offset, PAGE_SIZE);
		if (random / 4 % 4 == 0)
			len = round_up(len, PAGE_SIZE);
		equivalence_try_all(eq, offset, len);
	}
}

static struct equivalence equivalence_start(struct kunit *test)
{
	u8 *ram = edu_pages(test, get_order(EQUIVALENCE_BYTES));
	struct equivalence eq = {
		.test = test,
		.base = {
			[DMA_PHYS_CPU] = virt_to_phys(ram),
			[DMA_PHYS_MMIO] = pci_resource_start(edu.pdev, EDU_BAR),
		},
		.start = ktime_get(),
	};

	/* A flush queue holds many IOVAs that are not in use. */
	if (use_dma_iommu(edu.dev))
		edu_set_mask(DMA_BIT_MASK(32));
	return eq;
}

static void equivalence_end(struct equivalence *eq)
{
	kunit_info(eq->test,
		   "seed %u: %u ranges compared, %u hazards in %lld ms; not counted:%s",
		   EQUIVALENCE_SEED, eq->points, eq->hazards,
		   ktime_ms_delta(ktime_get(), eq->start),
		   dma_phys_test_not_counted());
	KUNIT_EXPECT_GT(eq->test, eq->points, 0);
}

static void equivalence_run(struct kunit *test, unsigned int points)
{
	struct equivalence eq = equivalence_start(test);

	equivalence_boundaries(&eq);
	equivalence_random(&eq, points);
	equivalence_end(&eq);
}

/* ---- Cases ---- */

static void equivalence_natural(struct kunit *test)
{
	equivalence_run(test, EQUIVALENCE_POINTS);
}

static void equivalence_forced_bounce(struct kunit *test)
{
	edu_force_bounce(test);
	equivalence_run(test, EQUIVALENCE_FEW);
}

static void equivalence_untrusted(struct kunit *test)
{
	edu_need_iommu(test);
	edu.pdev->untrusted = true;
	equivalence_run(test, EQUIVALENCE_FEW);
}

/* A device that keeps the low 12 bits of addresses, and bounces if it can. */
static void equivalence_min_align(struct kunit *test)
{
	dma_set_min_align_mask(edu.dev, SZ_4K - 1);
	if (use_dma_iommu(edu.dev))
		edu.pdev->untrusted = true;
	else if (is_swiotlb_active(edu.dev))
		edu_force_bounce(test);
	equivalence_run(test, EQUIVALENCE_FEW);
}

/* The device reaches as far as the last byte of the range, less or more. */
static void equivalence_edge(struct equivalence *eq, size_t len)
{
	static const int steps[] = { 0, -1, 1, -SZ_4K, SZ_4K };

	for (int kind = DMA_PHYS_CPU; kind <= DMA_PHYS_MMIO; kind++)
		for (int i = 0; i < ARRAY_SIZE(steps); i++) {
			u64 last = phys_to_dma(edu.dev, eq->base[kind]) + len -
				   1 + steps[i];

			edu.dev->bus_dma_limit = last;
			equivalence_try_all(eq, 0, len);
			edu.dev->bus_dma_limit = 0;
			edu_set_mask(last);
			equivalence_try_all(eq, 0, len);
			edu_set_mask(DMA_BIT_MASK(64));
		}
}

static void equivalence_mask_edges(struct kunit *test)
{
	static const unsigned int bits[] = { 28, 31, 32, 33, 40, 64 };
	static const size_t lens[] = { 1, SZ_4K, SZ_64K + 1 };
	struct equivalence eq = equivalence_start(test);

	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		for (int k = 0; k < ARRAY_SIZE(bits); k++) {
			edu_set_mask(DMA_BIT_MASK(bits[k]));
			equivalence_try_all(&eq, 0, lens[i]);
			equivalence_try_all(&eq, 100, lens[i]);
		}
		edu_set_mask(DMA_BIT_MASK(64));
		/* With a limit the kernel takes addresses of ops for direct ones. */
		if (!use_dma_iommu(edu.dev) && !get_dma_ops(edu.dev))
			equivalence_edge(&eq, lens[i]);
	}
	equivalence_end(&eq);
}

static int equivalence_suite_init(struct kunit_suite *suite)
{
	int err = edu_suite_init(suite);

	if (!err)
		dma_phys_test_count_init();
	return err;
}

static void equivalence_suite_exit(struct kunit_suite *suite)
{
	dma_phys_test_count_exit();
	edu_suite_exit(suite);
}

static struct kunit_case equivalence_cases[] = {
	KUNIT_CASE_SLOW(equivalence_natural),
	KUNIT_CASE_SLOW(equivalence_forced_bounce),
	KUNIT_CASE_SLOW(equivalence_untrusted),
	KUNIT_CASE_SLOW(equivalence_min_align),
	KUNIT_CASE(equivalence_mask_edges),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite equivalence_suite = {
	.name = "dma_phys_equivalence",
	.suite_init = equivalence_suite_init,
	.suite_exit = equivalence_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = equivalence_cases,
};

kunit_test_suite(equivalence_suite);

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of sg.c, sg_unmap.c and pool.c: unmap records, ranges that take different
 * routes, the capacity of arrays, the iterator, failures, sync and unmap.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/fault-inject.h>
#include <linux/iommu-dma.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "internal.h"
#include "sg_kunit.h"

#define SG_UNMAP_TEST_BYTES	(8 * PAGE_SIZE)

static int sg_unmap_test_map(struct dma_phys_test_list *list,
			     const struct cpu_phys *ranges, size_t count)
{
	return dma_phys_test_list_map(list, ranges, count, DMA_BIDIRECTIONAL,
				      0);
}

static void sg_unmap_test_free_pages(void *page)
{
	__free_pages(page, compound_order(page));
}

static u8 *sg_unmap_test_pages(struct kunit *test, gfp_t gfp,
			       unsigned int order)
{
	struct page *page = alloc_pages(gfp | __GFP_COMP | __GFP_ZERO, order);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, page);
	err = kunit_add_action_or_reset(test, sg_unmap_test_free_pages, page);
	KUNIT_ASSERT_EQ(test, err, 0);
	return page_address(page);
}

/* Unmap records. */

/* @count pages that are not adjacent, in a buffer of twice as many. */
static void sg_unmap_test_every_other_page(struct kunit *test, u8 *buf,
					   struct cpu_phys *ranges,
					   size_t count)
{
	for (size_t i = 0; i < count; i++)
		ranges[i] = edu_range(test, buf + 2 * i * PAGE_SIZE, PAGE_SIZE);
}

/* No records for a list that is direct or linked at one IOVA, of any length. */
static void sg_unmap_test_records_if_needed(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 256);
	u8 *buf = edu_pages(test, 9);
	struct cpu_phys *ranges;

	ranges = kunit_kcalloc(test, 256, sizeof(*ranges), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ranges);
	sg_unmap_test_every_other_page(test, buf, ranges, 256);
	for (size_t count = 1; count <= 256; count *= 16) {
		bool records;

		KUNIT_ASSERT_GT(test, sg_unmap_test_map(list, ranges, count), 0);
		dma_phys_test_list_check(test, list, count * PAGE_SIZE);
		records = list->sg.records;
		switch (list->sg.route) {
		case DMA_PHYS_DIRECT:
			/* dma-debug expects that all is unmapped. */
			KUNIT_EXPECT_EQ(test, records, count > 1 &&
					(!dev_is_dma_coherent(edu.dev) ||
					 IS_ENABLED(CONFIG_DMA_API_DEBUG)));
			break;
		case DMA_PHYS_IOMMU:
			KUNIT_EXPECT_EQ(test, records,
					count > 1 && !edu_links());
			break;
		default:
			KUNIT_EXPECT_EQ(test, records, count > 1);
		}
		dma_phys_sg_unmap(&list->sg);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	}
}

static void sg_unmap_test_destroy_pool(void *pool)
{
	dma_phys_pool_destroy(pool);
}

static struct dma_phys_pool *sg_unmap_test_pool(struct kunit *test,
						size_t count, size_t size)
{
	struct dma_phys_pool *pool = dma_phys_pool_create(edu.dev, count, size);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, pool);
	err = kunit_add_action_or_reset(test, sg_unmap_test_destroy_pool, pool);
	KUNIT_ASSERT_EQ(test, err, 0);
	return pool;
}

/* Lists that take their records from one pool; unmap keeps the pool. */
static void sg_unmap_test_pool_is_shared(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct dma_phys_test_list *lists[4];
	struct cpu_phys ranges[SCATTERED];
	struct dma_phys_pool *pool;
	size_t size;

	size = dma_phys_test_ranges(test, buf, dma_phys_test_scattered,
				    SCATTERED, ranges);
	pool = sg_unmap_test_pool(test, SCATTERED, size);
	for (int i = 0; i < ARRAY_SIZE(lists); i++) {
		lists[i] = dma_phys_test_list(test, MAX_SEGMENTS);
		lists[i]->sg.pool = pool;
		dma_phys_test_list_map(lists[i], ranges, SCATTERED,
				       DMA_TO_DEVICE, 0);
		dma_phys_test_list_check(test, lists[i], size);
	}
	for (int i = 0; i < ARRAY_SIZE(lists); i++) {
		dma_phys_sg_unmap(&lists[i]->sg);
		KUNIT_EXPECT_TRUE(test,
				  dma_phys_test_sg_is_empty(&lists[i]->sg));
		KUNIT_EXPECT_PTR_EQ(test, lists[i]->sg.pool, pool);
	}
}

static void sg_unmap_test_bad_pools(struct kunit *test)
{
	KUNIT_EXPECT_NULL(test, dma_phys_pool_create(NULL, 1, 1));
	KUNIT_EXPECT_NULL(test, dma_phys_pool_create(edu.dev, 0, 1));
	KUNIT_EXPECT_NULL(test, dma_phys_pool_create(edu.dev, 1, 0));
	dma_phys_pool_destroy(NULL);
}

/* Failures of the memory allocator. */

/* More allocations and steps than mapping a list takes. */
#define SG_UNMAP_TEST_STEPS	200

#ifdef CONFIG_FAULT_INJECTION
static void sg_unmap_test_need_faults(struct kunit *test)
{
	/* A trace of each injected failure is no help here. */
#ifdef CONFIG_FAIL_DMA_PHYS
	dma_phys_fault.verbose = 0;
#endif
}

/* The @nth allocation, or step of the core, fails; 0: none. */
static void sg_unmap_test_fail(unsigned int nth)
{
	current->fail_nth = nth;
}

/* Has it failed? */
static bool sg_unmap_test_failed(void)
{
	return !current->fail_nth;
}
#else
static void sg_unmap_test_need_faults(struct kunit *test)
{
	kunit_skip(test, "built without CONFIG_FAULT_INJECTION");
}

static void sg_unmap_test_fail(unsigned int nth)
{
}

static bool sg_unmap_test_failed(void)
{
	return false;
}
#endif

/*
 * Allocate the records of a list while one step fails. @hit: there is such a
 * step. Nothing else runs then: dma-debug gives up if its own allocation fails.
 */
static struct dma_phys_records *
sg_unmap_test_records_failing(struct dma_phys_pool *pool, unsigned int nth,
			      bool *hit)
{
	struct dma_phys_records *records;

	sg_unmap_test_fail(nth);
	records = dma_phys_records_alloc(edu.dev, pool, SCATTERED,
					 SCATTERED * PAGE_SIZE);
	*hit = sg_unmap_test_failed();
	sg_unmap_test_fail(0);
	return records;
}

/* The number of steps whose failure leaves a list without records. */
static unsigned int sg_unmap_test_no_records(struct kunit *test,
					     struct dma_phys_pool *pool)
{
	struct dma_phys_records *records;
	unsigned int failed = 0, nth;
	bool hit = true;

	for (nth = 1; hit && nth < SG_UNMAP_TEST_STEPS; nth++) {
		records = sg_unmap_test_records_failing(pool, nth, &hit);
		failed += !records;
		KUNIT_EXPECT_TRUE(test, hit || records);
		dma_phys_records_free(pool, records);
	}
	KUNIT_EXPECT_FALSE(test, hit);
	return failed;
}

/* With a pool, no failure of the memory allocator stops a list. */
static void sg_unmap_test_progress_without_memory(struct kunit *test)
{
	unsigned int without, with;

	sg_unmap_test_need_faults(test);
	without = sg_unmap_test_no_records(test, NULL);
	with = sg_unmap_test_no_records(test,
					sg_unmap_test_pool(test, SCATTERED,
							   SCATTERED *
							   PAGE_SIZE));
	KUNIT_EXPECT_GT(test, without, with);
	/* The step of the core that fail_dma_phys lets fail. */
	KUNIT_EXPECT_EQ(test, with, IS_ENABLED(CONFIG_FAIL_DMA_PHYS));
}

/* The reserve serves one list; the next gets it when that one is unmapped. */
static void sg_unmap_test_one_reserve(struct kunit *test)
{
	struct dma_phys_records *first, *second;
	struct dma_phys_pool *pool;
	bool hit = true, found = false;

	sg_unmap_test_need_faults(test);
	pool = sg_unmap_test_pool(test, SCATTERED, SCATTERED * PAGE_SIZE);

	/* Which step is the allocation is for the core to decide: try all. */
	for (unsigned int nth = 1; hit && !found; nth++) {
		first = sg_unmap_test_records_failing(pool, nth, &hit);
		if (!hit || !first) {
			dma_phys_records_free(pool, first);
			continue;
		}
		second = sg_unmap_test_records_failing(pool, nth, &hit);
		found = !second;
		dma_phys_records_free(pool, second);
		dma_phys_records_free(pool, first);
		if (!found)
			continue;
		second = sg_unmap_test_records_failing(pool, nth, &hit);
		KUNIT_EXPECT_TRUE(test, hit);
		KUNIT_EXPECT_NOT_NULL(test, second);
		dma_phys_records_free(pool, second);
	}
	KUNIT_EXPECT_TRUE(test, found);
}

/* The device changes under a list. */

/* An unmap touches nothing. @list is mapped as before. */
static void sg_unmap_test_stale(struct kunit *test,
				const struct dma_phys_test_list *list)
{
	const struct dma_phys_records *records = list->sg.records;
	struct dma_phys_sg copy = list->sg;
	long slots = edu_slots_used();

	/* The unmap frees its records, and the record of debugging is @list's. */
	if (records)
		copy.records = kmemdup(records,
				       struct_size(records, record,
						   records->max), GFP_KERNEL);
	copy.id = 0;
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&copy, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_device(&copy, 0, 1),
			-EINVAL);
	dma_phys_sg_unmap(&copy);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&copy));
	KUNIT_EXPECT_EQ(test, edu_slots_used(), slots);
	if (edu_stale_reports() >= 0)
		KUNIT_EXPECT_EQ(test, edu_stale_reports(), 1);
}

/* A list with records, and one that a single unmap covers. */
static void h11_list_bounce_then_iommu(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 8);
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[2];

	edu_force_bounce(test);
	for (size_t count = 1; count <= 2; count++) {
		ranges[0] = edu_range(test, buf, PAGE_SIZE);
		ranges[1] = edu_range(test, buf + 3 * PAGE_SIZE, PAGE_SIZE);
		KUNIT_ASSERT_EQ(test, sg_unmap_test_map(list, ranges, count),
				count);
		dev_set_dma_iommu(edu.dev);
		if (!use_dma_iommu(edu.dev))
			kunit_skip(test, "built without CONFIG_IOMMU_DMA");
		sg_unmap_test_stale(test, list);
		dev_clear_dma_iommu(edu.dev);
		dma_phys_sg_unmap(&list->sg);
	}
}

/* A list that is linked at one IOVA, which stays mapped. */
static void h11_list_iommu_then_direct(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 8);
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[] = {
		edu_range(test, buf, PAGE_SIZE),
		edu_range(test, buf + 3 * PAGE_SIZE, PAGE_SIZE),
	};
	dma_addr_t addr;

	edu_need_iommu(test);
	KUNIT_ASSERT_GT(test, sg_unmap_test_map(list, ranges, 2), 0);
	addr = list->segments[0].addr;
	dev_clear_dma_iommu(edu.dev);
	sg_unmap_test_stale(test, list);
	dev_set_dma_iommu(edu.dev);
	KUNIT_EXPECT_EQ(test, edu_translate(addr), ranges[0].addr);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);
}

/* Only the granule that an untrusted device would get too much of bounces. */
static void sg_unmap_test_untrusted_tail(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 8);
	u8 *out = edu_pages(test, 0), *buf = edu_pages(test, 2);
	u8 *tail = buf + 2 * PAGE_SIZE;
	struct cpu_phys ranges[] = {
		edu_range(test, buf, PAGE_SIZE),
		edu_range(test, tail, 700),
	};
	size_t rest;

	edu_need_iommu(test);
	if (!is_swiotlb_active(edu.dev))
		kunit_skip(test, "no bounce buffers on this boot");
	edu.pdev->untrusted = true;
	edu_load(test, out, EDU_BUF);
	memset(buf, POISON, 4 * PAGE_SIZE);
	list->count = dma_phys_test_list_map(list, ranges, 2, DMA_FROM_DEVICE,
					     0);
	KUNIT_ASSERT_GT(test, list->count, 0);
	/* dma-debug does not know linked ranges. */
	KUNIT_EXPECT_EQ(test, !!(list->sg.flags & DMA_PHYS_LINK_BOUNCED),
			!IS_ENABLED(CONFIG_DMA_API_DEBUG));
	edu_push(test, dma_phys_test_list_addr(list, PAGE_SIZE, &rest), 700);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&list->sg, PAGE_SIZE,
						       100), 0);
	KUNIT_EXPECT_MEMEQ(test, tail, out, 100);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_MEMEQ(test, tail, out, 700);
	KUNIT_EXPECT_TRUE(test, edu_untouched(tail + 700, PAGE_SIZE - 700));
}

/* Ranges of one list that take different routes. */

/*
 * @ranges[0] is memory that the device reaches, @ranges[1] a page that it does
 * not reach. Its bus ends in between, and behind the bounce buffers.
 */
static void sg_unmap_test_limit_bus(struct kunit *test, unsigned int order,
				    struct cpu_phys *ranges)
{
	u8 *low = sg_unmap_test_pages(test, GFP_KERNEL | GFP_DMA32, order);
	u8 *high = sg_unmap_test_pages(test, GFP_KERNEL, 0);
	phys_addr_t start, end;

	if (!edu_get_pool(&start, &end))
		kunit_skip(test, "no bounce buffers at constant addresses");
	ranges[0] = edu_range(test, low, PAGE_SIZE << order);
	ranges[1] = edu_range(test, high, PAGE_SIZE);
	end = max(end, ranges[0].addr + ranges[0].len);
	edu.dev->bus_dma_limit = end - 1;
	if (edu_route(ranges[0].addr, ranges[0].len) != DMA_PHYS_DIRECT ||
	    edu_route(ranges[1].addr, PAGE_SIZE) != DMA_PHYS_BOUNCE)
		kunit_skip(test, "no memory above and below a limit of the bus");
}

/*
 * Two pages of different routes in one list, in both orders. The device copies
 * the second to the first.
 */
static void sg_unmap_test_both_orders(struct kunit *test,
				      struct cpu_phys ranges[2],
				      enum dma_phys_route routes[2])
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 8);
	u8 *copy = edu_pages(test, 1), *at[2];
	size_t rest;

	for (int i = 0; i < 2; i++) {
		swap(ranges[0], ranges[1]);
		swap(routes[0], routes[1]);
		for (int k = 0; k < 2; k++) {
			KUNIT_ASSERT_EQ(test, edu_route(ranges[k].addr, PAGE_SIZE),
					routes[k]);
			at[k] = phys_to_virt(ranges[k].addr);
			get_random_bytes(at[k], PAGE_SIZE);
			memcpy(copy + k * PAGE_SIZE, at[k], PAGE_SIZE);
		}

		KUNIT_ASSERT_EQ(test, sg_unmap_test_map(list, ranges, 2), 2);
		dma_phys_test_list_check(test, list, 2 * PAGE_SIZE);
		for (int k = 0; k < 2; k++)
			KUNIT_EXPECT_EQ(test, list->segments[k].addr ==
					phys_to_dma(edu.dev, ranges[k].addr),
					routes[k] == DMA_PHYS_DIRECT);
		if (routes[0] == DMA_PHYS_BOUNCE || routes[1] == DMA_PHYS_BOUNCE)
			KUNIT_EXPECT_EQ(test, list->sg.route, DMA_PHYS_BOUNCE);

		edu_pull(test, dma_phys_test_list_addr(list, PAGE_SIZE, &rest),
			 EDU_BUF);
		edu_push(test, list->segments[0].addr, EDU_BUF);
		dma_phys_sg_unmap(&list->sg);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
		KUNIT_EXPECT_MEMEQ(test, at[0], copy + PAGE_SIZE, EDU_BUF);
		KUNIT_EXPECT_MEMEQ(test, at[1], copy + PAGE_SIZE, EDU_BUF);
	}
}

static void sg_unmap_test_direct_and_bounce(struct kunit *test)
{
	enum dma_phys_route routes[] = { DMA_PHYS_DIRECT, DMA_PHYS_BOUNCE };
	struct cpu_phys ranges[2];

	sg_unmap_test_limit_bus(test, 0, ranges);
	sg_unmap_test_both_orders(test, ranges, routes);
}

/*
 * Only on PowerPC: memory below bus_dma_limit is mapped in advance, and bypasses
 * legacy ops.
 */
static void sg_unmap_test_direct_and_ops(struct kunit *test)
{
	enum dma_phys_route routes[] = { DMA_PHYS_DIRECT, DMA_PHYS_OPS };
	struct cpu_phys ranges[2];
	u8 *pages;

	if (!IS_ENABLED(CONFIG_ARCH_HAS_DMA_MAP_DIRECT) ||
	    !dev_dma_ops_bypass(edu.dev))
		kunit_skip(test, "no legacy ops that are bypassed on this boot");
	pages = edu_pages(test, 2);
	ranges[0] = edu_range(test, pages, PAGE_SIZE);
	ranges[1] = edu_range(test, pages + 2 * PAGE_SIZE, PAGE_SIZE);
	edu.dev->bus_dma_limit = phys_to_dma(edu.dev, ranges[1].addr);
	sg_unmap_test_both_orders(test, ranges, routes);
}

/* Capacity of the segment array. */

static void sg_unmap_test_fits(struct kunit *test,
			       const struct cpu_phys *ranges, size_t count)
{
	size_t size = 0, max;
	struct dma_phys_test_list *list;

	for (size_t i = 0; i < count; i++)
		size += ranges[i].len;
	max = dma_phys_sg_max_segments(edu.dev, count, size);
	KUNIT_ASSERT_LE(test, max, SZ_64K);
	list = dma_phys_test_list(test, max);
	dma_phys_test_list_map(list, ranges, count, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_GT_MSG(test, list->count, 0,
			    "%zu ranges, %zu segments of %u, boundary %lx, align %x",
			    count, max, dma_get_max_seg_size(edu.dev),
			    dma_get_seg_boundary(edu.dev),
			    dma_get_min_align_mask(edu.dev));
	if (list->count > 0)
		dma_phys_test_list_check(test, list, size);
	dma_phys_sg_unmap(&list->sg);
}

/* A direct range of @size bytes in segments of @max, then a bounced page. */
static void sg_unmap_test_direct_then_bounced(struct kunit *test, size_t size,
					      u32 max)
{
	struct cpu_phys ranges[2];

	sg_unmap_test_limit_bus(test, get_order(size), ranges);
	dma_set_max_seg_size(edu.dev, max);
	sg_unmap_test_fits(test, ranges, 2);
}

static void sg_unmap_test_capacity_4m_of_64k(struct kunit *test)
{
	sg_unmap_test_direct_then_bounced(test, SZ_4M, SZ_64K);
}

static void sg_unmap_test_capacity_64k_of_4k(struct kunit *test)
{
	sg_unmap_test_direct_then_bounced(test, SZ_64K, SZ_4K);
}

/* dma_phys_sg_max_segments() is enough for any ranges and limits. */
static void sg_unmap_test_capacity_random(struct kunit *test)
{
	static const unsigned long boundaries[] = {
		U32_MAX, SZ_64K - 1, SZ_4K - 1,
	};
	static const u32 aligns[] = { 0, 0, SZ_512 - 1, SZ_2K - 1, SZ_4K - 1 };
	struct cpu_phys *ranges;
	u8 *buf = edu_pages(test, 6);

	ranges = kunit_kcalloc(test, 16, sizeof(*ranges), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ranges);
	for (int i = 0; i < 200; i++) {
		size_t count = 1 + get_random_u32_below(16);

		dma_set_max_seg_size(edu.dev,
				     SZ_512 + get_random_u32_below(SZ_64K));
		dma_set_seg_boundary(edu.dev,
				     boundaries[get_random_u32_below(3)]);
		dma_set_min_align_mask(edu.dev,
				       aligns[get_random_u32_below(5)]);
		for (size_t k = 0; k < count; k++) {
			size_t at = get_random_u32_below(63 * PAGE_SIZE);
			size_t len = 1 + get_random_u32_below(3 * PAGE_SIZE);

			len = min(len, 64 * PAGE_SIZE - at);
			ranges[k] = edu_range(test, buf + at, len);
		}
		sg_unmap_test_fits(test, ranges, count);
	}
}

/* Lists that fail. */

/*
 * Each capacity that is too small: mapping stops at each position. Per-range
 * IOVAs may happen to be adjacent and then need fewer segments.
 */
static void sg_unmap_test_each_capacity(struct kunit *test,
					const struct cpu_phys *ranges,
					size_t count)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	size_t needed, failed = 0;

	KUNIT_ASSERT_GT(test, sg_unmap_test_map(list, ranges, count), 0);
	needed = list->count;
	dma_phys_sg_unmap(&list->sg);

	for (size_t max = 1; max < needed; max++) {
		list->max_segments = max;
		if (sg_unmap_test_map(list, ranges, count) < 0) {
			KUNIT_EXPECT_EQ(test, list->count, -ENOSPC);
			KUNIT_EXPECT_TRUE(test,
					  dma_phys_test_sg_is_empty(&list->sg));
			failed++;
		}
		dma_phys_sg_unmap(&list->sg);
	}
	KUNIT_EXPECT_GE(test, 2 * failed, needed - 1);

	list->max_segments = MAX_SEGMENTS;
	KUNIT_EXPECT_GT(test, sg_unmap_test_map(list, ranges, count), 0);
	dma_phys_sg_unmap(&list->sg);
}

static void sg_unmap_test_capacity_too_small(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[SCATTERED];

	dma_phys_test_ranges(test, buf, dma_phys_test_scattered, SCATTERED,
			     ranges);
	sg_unmap_test_each_capacity(test, ranges, SCATTERED);
	sg_unmap_test_every_other_page(test, buf, ranges, 4);
	dma_set_max_seg_size(edu.dev, SZ_1K);
	sg_unmap_test_each_capacity(test, ranges, 4);
}

/* Behind an IOMMU each range in turn cannot be mapped. */
static void sg_unmap_test_failure_of_each(struct kunit *test)
{
	static const size_t lens[] = { PAGE_SIZE, 1000 };
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[8], good;

	edu_need_iommu(test);
	for (int i = 0; i < 2 * 8; i++) {
		int k = i % 8;

		/* Whole pages are linked, others have IOVAs of their own. */
		for (int n = 0; n < 8; n++)
			ranges[n] = edu_range(test,
					      buf + (n * 5 % 8) * PAGE_SIZE,
					      lens[i / 8]);
		good = ranges[k];
		ranges[k].addr = 0;
		KUNIT_EXPECT_EQ(test, sg_unmap_test_map(list, ranges, 8),
				-EINVAL);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
		ranges[k] = good;
		KUNIT_EXPECT_GT(test, sg_unmap_test_map(list, ranges, 8), 0);
		dma_phys_sg_unmap(&list->sg);
	}
}

/* Iterator. */

/* A source of ranges, as a subsystem would have one. */
struct sg_unmap_test_source {
	struct dma_phys_source source;
	const struct cpu_phys *ranges;
	size_t left;
};

static bool sg_unmap_test_next(struct dma_phys_source *source,
			       struct dma_phys_range *range)
{
	struct sg_unmap_test_source *test_source =
		container_of(source, struct sg_unmap_test_source, source);

	if (!test_source->left)
		return false;
	test_source->left--;
	*range = (struct dma_phys_range){
		.addr = test_source->ranges->addr,
		.len = test_source->ranges->len,
		.kind = DMA_PHYS_CPU,
	};
	test_source->ranges++;
	return true;
}

static struct sg_unmap_test_source
sg_unmap_test_source(const struct cpu_phys *ranges, size_t count)
{
	struct sg_unmap_test_source source = {
		.source = {
			.next = sg_unmap_test_next,
			.count = count,
			.kinds = BIT(DMA_PHYS_CPU),
		},
		.ranges = ranges,
		.left = count,
	};

	for (size_t i = 0; i < count; i++) {
		source.source.size += ranges[i].len;
		if (i && ranges[i - 1].addr + ranges[i - 1].len !=
			 ranges[i].addr)
			source.source.gaps |= ranges[i].addr |
				(ranges[i - 1].addr + ranges[i - 1].len);
	}
	return source;
}

/* Map up to @max segments with the iterator: their count or -errno. */
static int sg_unmap_test_iterate(struct dma_phys_test_list *list,
				 struct dma_phys_source *source,
				 enum dma_data_direction dir, int max)
{
	struct dma_phys_sg_iter iter;
	int err, n = 0;

	err = dma_phys_sg_map_start(edu.dev, source, dir, 0, &list->sg, &iter);
	while (err > 0) {
		list->segments[n++] = (struct dma_phys_segment){
			iter.addr, iter.len,
		};
		if (n == max)
			break;
		err = dma_phys_sg_map_next(&list->sg, &iter);
	}
	list->count = err < 0 ? err : n;
	return list->count;
}

static void sg_unmap_test_iterator_bytes(struct kunit *test)
{
	struct dma_phys_test_list *from = dma_phys_test_list(test, MAX_SEGMENTS);
	struct dma_phys_test_list *to = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *out = edu_pages(test, 3), *in = edu_pages(test, 3);
	struct sg_unmap_test_source source;
	struct cpu_phys ranges[SCATTERED];
	size_t size;

	dma_set_max_seg_size(edu.dev, 3000);
	get_random_bytes(out, SG_UNMAP_TEST_BYTES);
	size = dma_phys_test_ranges(test, out, dma_phys_test_scattered,
				    SCATTERED, ranges);
	dma_phys_test_list_map(from, ranges, SCATTERED, DMA_TO_DEVICE, 0);
	dma_phys_test_list_check(test, from, size);
	dma_phys_test_ranges(test, in, dma_phys_test_scattered, SCATTERED,
			     ranges);
	source = sg_unmap_test_source(ranges, SCATTERED);
	sg_unmap_test_iterate(to, &source.source, DMA_FROM_DEVICE,
			      MAX_SEGMENTS);
	dma_phys_test_list_check(test, to, size);

	dma_phys_test_list_copy(test, from, to);
	dma_phys_sg_unmap(&to->sg);
	dma_phys_sg_unmap(&from->sg);
	for (int i = 0; i < SCATTERED; i++) {
		size_t offset = dma_phys_test_scattered[i].offset;

		KUNIT_EXPECT_MEMEQ(test, in + offset, out + offset,
				   dma_phys_test_scattered[i].len);
	}
}

/* The segments obey the limits of the source as well as those of the device. */
static void sg_unmap_test_source_limits(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct cpu_phys range = edu_range(test, edu_pages(test, 1) + 100,
					  PAGE_SIZE + 1000);
	struct sg_unmap_test_source source = sg_unmap_test_source(&range, 1);

	source.source.limits = (struct dma_phys_limits){
		.max = 900, .boundary = SZ_2K - 1,
	};
	sg_unmap_test_iterate(list, &source.source, DMA_TO_DEVICE,
			      MAX_SEGMENTS);
	dma_phys_test_list_check(test, list, PAGE_SIZE + 1000);
	for (int i = 0; i < list->count; i++) {
		struct dma_phys_segment seg = list->segments[i];

		KUNIT_EXPECT_LE(test, seg.len, 900);
		KUNIT_EXPECT_EQ(test, seg.addr / SZ_2K,
				(seg.addr + seg.len - 1) / SZ_2K);
	}
	dma_phys_sg_unmap(&list->sg);
}

/*
 * A driver that ran out of descriptors after each number of segments: what is
 * mapped so far is unmapped, and no data is copied back.
 */
static void sg_unmap_test_iterator_stops(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[SCATTERED];
	struct sg_unmap_test_source source;
	int needed, n;

	dma_phys_test_ranges(test, buf, dma_phys_test_scattered, SCATTERED,
			     ranges);
	dma_set_max_seg_size(edu.dev, SZ_1K);
	source = sg_unmap_test_source(ranges, SCATTERED);
	needed = sg_unmap_test_iterate(list, &source.source, DMA_FROM_DEVICE,
				       MAX_SEGMENTS);
	KUNIT_ASSERT_GT(test, needed, 0);
	dma_phys_sg_unmap(&list->sg);

	for (int max = 1; max <= needed; max++) {
		source = sg_unmap_test_source(ranges, SCATTERED);
		memset(buf, POISON, SG_UNMAP_TEST_BYTES);
		n = sg_unmap_test_iterate(list, &source.source, DMA_FROM_DEVICE,
					  max);
		KUNIT_EXPECT_EQ(test, n, max);
		memset(buf, ~POISON, SG_UNMAP_TEST_BYTES);
		dma_phys_sg_unmap_nosync(&list->sg);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
		KUNIT_EXPECT_NULL(test, memchr_inv(buf, (u8)~POISON,
						   SG_UNMAP_TEST_BYTES));
	}
}

/* A source that does not keep to its description is refused. */
static void sg_unmap_test_source_is_checked(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[SCATTERED];

	dma_phys_test_ranges(test, buf, dma_phys_test_scattered, SCATTERED,
			     ranges);
	for (int i = 0; i < 6; i++) {
		struct sg_unmap_test_source source =
			sg_unmap_test_source(ranges, SCATTERED);
		int err;

		switch (i) {
		case 0:
			source.source.size += 1;
			break;
		case 1:
			source.left--;
			break;
		case 2:
			source.source.kinds = BIT(DMA_PHYS_MMIO);
			break;
		case 3:
			source.source.next = NULL;
			break;
		case 4:
			source.source.size = 0;
			break;
		case 5:
			/* Only linking depends on the gaps. */
			if (!edu_links())
				continue;
			source.source.gaps = 0;
		}
		err = sg_unmap_test_iterate(list, &source.source, DMA_TO_DEVICE,
					    MAX_SEGMENTS);
		KUNIT_EXPECT_EQ_MSG(test, err, -EINVAL, "source %d", i);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	}
}

/* Ownership of the data. */

/* Sync of sub-ranges that start and end within ranges. */
static void sg_unmap_test_h12_sync_sub_ranges(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3), *copy = edu_pages(test, 3);
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct dma_phys_sg *sg = &list->sg;
	struct cpu_phys ranges[SCATTERED];
	size_t size, at, rest, n;
	bool bounces;

	memset(buf, POISON, SG_UNMAP_TEST_BYTES);
	size = dma_phys_test_ranges(test, buf, dma_phys_test_scattered,
				    SCATTERED, ranges);
	dma_phys_test_list_map(list, ranges, SCATTERED, DMA_BIDIRECTIONAL,
			       DMA_PHYS_SKIP_CPU_SYNC);
	dma_phys_test_list_check(test, list, size);

	get_random_bytes(buf, SG_UNMAP_TEST_BYTES);
	memcpy(copy, buf, SG_UNMAP_TEST_BYTES);
	for (at = 0; at < size; at += n) {
		n = min_t(size_t, 777, size - at);
		KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_device(sg, at, n),
				0);
	}
	memset(buf, POISON, SG_UNMAP_TEST_BYTES);

	/* The device writes back what it has read. */
	for (at = 0; at < size; at += n) {
		dma_addr_t addr = dma_phys_test_list_addr(list, at, &rest);

		n = min_t(size_t, rest, EDU_BUF);
		edu_pull(test, addr, n);
		edu_push(test, addr, n);
	}
	for (at = 0; at < size; at += n) {
		n = min_t(size_t, 333, size - at);
		KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(sg, at, n), 0);
	}

	/*
	 * Only a bounce buffer still holds what was synced for the device. Where
	 * whole pages are not bounced, only ranges with shared cache lines are.
	 */
	bounces = edu_route(virt_to_phys(buf), PAGE_SIZE) == DMA_PHYS_BOUNCE;
	for (int i = 0; i < SCATTERED && bounces; i++)
		KUNIT_EXPECT_MEMEQ(test,
				   buf + dma_phys_test_scattered[i].offset,
				   copy + dma_phys_test_scattered[i].offset,
				   dma_phys_test_scattered[i].len);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(sg, size, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(sg, 0, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_device(sg, 1, size),
			-EINVAL);
}

/* unmap_nosync() does not overwrite what the CPU has written. */
static void sg_unmap_test_h36_nosync(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3), *copy = edu_pages(test, 3);
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct cpu_phys ranges[SCATTERED];
	size_t size, rest;

	size = dma_phys_test_ranges(test, buf, dma_phys_test_scattered,
				    SCATTERED, ranges);
	dma_phys_test_list_map(list, ranges, SCATTERED, DMA_BIDIRECTIONAL, 0);
	dma_phys_test_list_check(test, list, size);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&list->sg, 0, size), 0);
	get_random_bytes(buf, SG_UNMAP_TEST_BYTES);
	memcpy(copy, buf, SG_UNMAP_TEST_BYTES);
	dma_phys_sg_unmap_nosync(&list->sg);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	KUNIT_EXPECT_MEMEQ(test, buf, copy, SG_UNMAP_TEST_BYTES);

	/* unmap() gives back what the device wrote. */
	dma_phys_test_list_map(list, ranges, SCATTERED, DMA_BIDIRECTIONAL, 0);
	dma_phys_test_list_check(test, list, size);
	edu_pull(test, dma_phys_test_list_addr(list, 0, &rest), 1000);
	edu_push(test, dma_phys_test_list_addr(list, 1000, &rest), 1000);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_MEMEQ(test, buf, copy + dma_phys_test_scattered[0].offset,
			   1000);
}

static struct kunit_case sg_unmap_test_cases[] = {
	KUNIT_CASE(sg_unmap_test_records_if_needed),
	KUNIT_CASE(sg_unmap_test_pool_is_shared),
	KUNIT_CASE(sg_unmap_test_bad_pools),
	KUNIT_CASE(sg_unmap_test_progress_without_memory),
	KUNIT_CASE(sg_unmap_test_one_reserve),
	KUNIT_CASE(h11_list_bounce_then_iommu),
	KUNIT_CASE(h11_list_iommu_then_direct),
	KUNIT_CASE(sg_unmap_test_untrusted_tail),
	KUNIT_CASE(sg_unmap_test_direct_and_bounce),
	KUNIT_CASE(sg_unmap_test_direct_and_ops),
	KUNIT_CASE(sg_unmap_test_capacity_4m_of_64k),
	KUNIT_CASE(sg_unmap_test_capacity_64k_of_4k),
	KUNIT_CASE_SLOW(sg_unmap_test_capacity_random),
	KUNIT_CASE(sg_unmap_test_capacity_too_small),
	KUNIT_CASE(sg_unmap_test_failure_of_each),
	KUNIT_CASE(sg_unmap_test_iterator_bytes),
	KUNIT_CASE(sg_unmap_test_source_limits),
	KUNIT_CASE(sg_unmap_test_iterator_stops),
	KUNIT_CASE(sg_unmap_test_source_is_checked),
	KUNIT_CASE(sg_unmap_test_h12_sync_sub_ranges),
	KUNIT_CASE(sg_unmap_test_h36_nosync),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite sg_unmap_test_suite = {
	.name = "dma_phys_sg_unmap",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = sg_unmap_test_cases,
};

kunit_test_suite(sg_unmap_test_suite);

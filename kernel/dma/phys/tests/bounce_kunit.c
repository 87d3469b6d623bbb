// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of ranges that bounce: on the direct route if the device is forced to or
 * does not reach them, behind an IOMMU if it is untrusted.
 */
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/minmax.h>
#include <linux/random.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "edu_kunit.h"

/* The largest bounce buffer. */
#define BOUNCE_MAX	(IO_TLB_SEGSIZE << IO_TLB_SHIFT)

/* An untrusted device behind an IOMMU: parts of pages bounce. */
static void bounce_need_untrusted(struct kunit *test)
{
	edu_need_iommu(test);
	if (!is_swiotlb_active(edu.dev))
		kunit_skip(test, "no bounce buffers on this boot");
	edu.pdev->untrusted = true;
}

static void bounce_forced(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	edu_load(test, out, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_expect_addr(test, map, virt_to_phys(in));
	edu_expect_arrives(test, map, in, out);
}

/* A page above @limit, NULL if there is none. */
static u8 *bounce_page_above(struct kunit *test, phys_addr_t limit)
{
	for (int i = 0; i < 2000; i++) {
		u8 *page = edu_pages(test, 0);

		if (virt_to_phys(page) >= limit)
			return page;
	}
	return NULL;
}

/* Bouncing is not forced. */
static void bounce_out_of_reach(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in;
	struct dma_phys_map *map;
	phys_addr_t start, end;

	if (use_dma_iommu(edu.dev) || !edu_get_pool(&start, &end))
		kunit_skip(test, "no bounce buffers for the device on this boot");
	in = bounce_page_above(test, end);
	if (!in)
		kunit_skip(test, "no memory above the bounce buffers");

	edu_load(test, out, EDU_BUF);
	edu.dev->bus_dma_limit = end - 1;
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_expect_addr(test, map, virt_to_phys(in));
	edu_expect_arrives(test, map, in, out);
}

/* ---- Limits ---- */

static void h04_larger_than_swiotlb(struct kunit *test)
{
	static const size_t lens[] = {
		BOUNCE_MAX + 1, SZ_1M, SZ_1G,
#ifdef CONFIG_64BIT
		SZ_4G, SZ_4G + IO_TLB_SIZE, SZ_8G, 8ULL << 40,
		(8ULL << 40) + IO_TLB_SIZE, 1ULL << 62,
#endif
	};
	u8 *buf = edu_pages(test, get_order(BOUNCE_MAX));
	size_t last = BOUNCE_MAX - EDU_BUF;
	struct cpu_phys range = edu_range(test, buf, BOUNCE_MAX);
	struct dma_phys_map *map;
	u8 *out = edu_pages(test, 0);

	edu_force_bounce(test);
	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		range.len = lens[i];
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
		edu_refuses(test, &range, DMA_FROM_DEVICE,
			    DMA_PHYS_SKIP_CPU_SYNC, -E2BIG);
	}

	/* The largest one works up to its end. */
	edu_load(test, out, EDU_BUF);
	map = edu_map(test, buf, BOUNCE_MAX, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr + last, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, buf + last, out, EDU_BUF);
}

/* There is a pool, but the device does not reach it. */
static void h06_pool_out_of_reach(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);

	edu_force_bounce(test);
	edu_set_mask(SZ_64K - 1);
	for (int i = 0; i < 100; i++)
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

static void h06_pool_empty(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);

	edu_set_pool(test, 0);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
	range.len = SZ_1M;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

/* A restricted pool is often smaller than one bounce buffer can be. */
static void bounce_larger_than_pool(struct kunit *test)
{
	static const size_t lens[] = { SZ_32K + 1, SZ_64K, BOUNCE_MAX };
	u8 *buf = edu_pages(test, get_order(BOUNCE_MAX));
	struct cpu_phys range = edu_range(test, buf, 1);

	edu_set_pool(test, SZ_32K);
	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		range.len = lens[i];
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
		edu_refuses(test, &range, DMA_FROM_DEVICE, 0, -E2BIG);
	}
}

static void bounce_used_up(struct kunit *test)
{
	struct cpu_phys range = edu_range(test,
					  edu_pages(test, get_order(BOUNCE_MAX)),
					  BOUNCE_MAX);
	phys_addr_t start, end;

	edu_force_bounce(test);
	if (edu_get_pool(&start, &end))
		edu_use_up(test, &range, (size_t)(end - start) / BOUNCE_MAX + 1,
			   -EAGAIN);
}

/* ---- Alignment and boundary ---- */

static void bounce_keeps_alignment(struct kunit *test)
{
	u8 *buf = edu_pages(test, 1);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	dma_set_min_align_mask(edu.dev, PAGE_SIZE - 1);
	map = edu_map(test, buf + 0x123, PAGE_SIZE, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, offset_in_page(map->addr), 0x123);
	dma_phys_unmap(map);
}

/* Does the raw API map the range? */
static bool bounce_raw_maps(const struct cpu_phys *range)
{
	dma_addr_t addr = dma_map_phys(edu.dev, range->addr, range->len,
				       DMA_TO_DEVICE, DMA_ATTR_NO_WARN);

	if (dma_mapping_error(edu.dev, addr))
		return false;
	dma_unmap_phys(edu.dev, addr, range->len, DMA_TO_DEVICE, 0);
	return true;
}

/* The largest ranges that the raw API maps are mapped, and no larger ones. */
static void bounce_expect_limit(struct kunit *test, size_t offset)
{
	u8 *buf = edu_pages(test, get_order(2 * BOUNCE_MAX));
	unsigned int mapped = 0, refused = 0;
	struct cpu_phys range;

	for (size_t len = BOUNCE_MAX - 4 * SZ_4K; len < BOUNCE_MAX + SZ_4K;
	     len += 511) {
		range = edu_range(test, buf + offset, len);
		if (bounce_raw_maps(&range)) {
			dma_phys_unmap(edu_map(test, buf + offset, len,
					       DMA_TO_DEVICE, 0));
			mapped++;
		} else {
			edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
			refused++;
		}
	}
	KUNIT_EXPECT_GT(test, mapped, 0);
	KUNIT_EXPECT_GT(test, refused, 0);
}

static void bounce_limit_with_alignment(struct kunit *test)
{
	edu_force_bounce(test);
	dma_set_min_align_mask(edu.dev, SZ_4K - 1);
	bounce_expect_limit(test, 0);
	bounce_expect_limit(test, 100);
	bounce_expect_limit(test, 2148);
}

static void bounce_limit_untrusted(struct kunit *test)
{
	bounce_need_untrusted(test);
	/* A flush queue holds many IOVAs that are not in use. */
	edu_set_mask(DMA_BIT_MASK(32));
	bounce_expect_limit(test, 100);
	dma_set_min_align_mask(edu.dev, SZ_4K - 1);
	bounce_expect_limit(test, 100);
	bounce_expect_limit(test, 2148);
}

/* No bounce buffer has the low 32 bits of another address. */
static void h30_more_alignment_than_pool(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);

	edu_force_bounce(test);
	dma_set_min_align_mask(edu.dev, U32_MAX);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
	range.len = 1;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);

	dma_set_min_align_mask(edu.dev, SZ_128K - 1);
	dma_phys_unmap(edu_map(test, phys_to_virt(range.addr), PAGE_SIZE,
			       DMA_TO_DEVICE, 0));
}

/*
 * A range that keeps its offset between segment boundaries and crosses one never
 * has a bounce buffer.
 */
static void bounce_across_boundary(struct kunit *test)
{
	u8 *buf = edu_pages(test, 1);
	struct cpu_phys range = edu_range(test, buf + 2048, PAGE_SIZE);

	edu_force_bounce(test);
	dma_set_min_align_mask(edu.dev, PAGE_SIZE - 1);
	dma_set_seg_boundary(edu.dev, PAGE_SIZE - 1);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
	dma_phys_unmap(edu_map(test, buf + 2048, 2048, DMA_TO_DEVICE, 0));
}

/* ---- Sync ---- */

/* Only what is synced arrives. */
static void h12_skip_cpu_sync_from_device(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *out = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	edu_load(test, out, EDU_BUF);
	memset(buf, POISON, EDU_BUF);
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE,
		      DMA_PHYS_SKIP_CPU_SYNC);
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, EDU_BUF));

	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 100, 1000), 0);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, 100));
	KUNIT_EXPECT_MEMEQ(test, buf + 100, out + 100, 1000);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf + 1100, EDU_BUF - 1100));

	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	KUNIT_EXPECT_MEMEQ(test, buf, out, EDU_BUF);

	/* The CPU owns the memory: unmap copies nothing. */
	memset(buf, POISON, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, EDU_BUF));
}

static void h12_skip_cpu_sync_to_device(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	memset(buf, POISON, EDU_BUF);
	map = edu_map(test, buf, EDU_BUF, DMA_TO_DEVICE,
		      DMA_PHYS_SKIP_CPU_SYNC);
	memset(buf, 0x11, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 1000, 500), 0);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);

	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_untouched(in, 1000));
	KUNIT_EXPECT_MEMEQ(test, in + 1000, buf, 500);
	KUNIT_EXPECT_TRUE(test, edu_untouched(in + 1500, EDU_BUF - 1500));
}

/* Sync copies in the direction of the map only. */
static void h14_sync_other_direction(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *out = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	edu_load(test, out, EDU_BUF);
	memset(buf, POISON, EDU_BUF);

	/* The device writes, though it should only read: no byte arrives. */
	map = edu_map(test, buf, EDU_BUF, DMA_TO_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, EDU_BUF));

	/* The CPU does not overwrite what the device wrote. */
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, EDU_BUF), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, buf, out, EDU_BUF);
}

/* ---- Untrusted devices behind an IOMMU ---- */

/* A part of a page cannot be mapped without its rest, but for a bounce. */
static void untrusted_without_pool(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0) + 1000,
					  1000);

	if (!IS_ENABLED(CONFIG_SWIOTLB))
		kunit_skip(test, "built without CONFIG_SWIOTLB");
	edu_need_iommu(test);
	edu.pdev->untrusted = true;
	edu_forbid_bounce();
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

/* Use up all bounce buffers, and leave random bytes in them. */
static void untrusted_used_up(struct kunit *test)
{
	size_t len = BOUNCE_MAX - PAGE_SIZE - 1;
	u8 *buf = edu_pages(test, get_order(len));
	struct cpu_phys range = edu_range(test, buf, len);
	phys_addr_t start, end;

	bounce_need_untrusted(test);
	get_random_bytes(buf, len);
	edu_set_mask(DMA_BIT_MASK(32));
	if (edu_get_pool(&start, &end))
		edu_use_up(test, &range, (size_t)(end - start) / BOUNCE_MAX + 1,
			   -ENOMEM);
}

/* The device sees zeroes in the rest of the page. */
static void untrusted_part_of_page(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;
	size_t offset;

	untrusted_used_up(test);
	edu_set_mask(DMA_BIT_MASK(EDU_DEFAULT_BITS));
	get_random_bytes(buf, EDU_BUF);
	map = edu_map(test, buf + 1000, 1000, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_NE(test, round_down(edu_translate(map->addr), PAGE_SIZE),
			virt_to_phys(buf));
	offset = map->addr % EDU_BUF;
	edu_pull(test, map->addr - offset, EDU_BUF);
	dma_phys_unmap(map);

	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, in + offset, buf + 1000, 1000);
	KUNIT_EXPECT_NULL(test, memchr_inv(in, 0, offset));
	KUNIT_EXPECT_NULL(test, memchr_inv(in + offset + 1000, 0,
					   EDU_BUF - offset - 1000));
}

/* What it writes arrives, and changes nothing else. */
static void untrusted_writes_part_of_page(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *out = edu_pages(test, 0);
	struct dma_phys_map *map;

	bounce_need_untrusted(test);
	edu_load(test, out, EDU_BUF);
	memset(buf, POISON, EDU_BUF);
	map = edu_map(test, buf + 100, 100, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, 100);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 50), 0);
	KUNIT_EXPECT_MEMEQ(test, buf + 100, out, 50);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf + 150, 50));
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, buf + 100, out, 100);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, 100));
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf + 200, EDU_BUF - 200));
}

/* No IOVA is as large as a granule, since none is 0. */
static void untrusted_without_iova(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), 1000);

	bounce_need_untrusted(test);
	edu_set_mask(SZ_4K - 1);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
}

static struct kunit_case bounce_cases[] = {
	KUNIT_CASE(bounce_forced),
	KUNIT_CASE(bounce_out_of_reach),
	KUNIT_CASE(bounce_larger_than_pool),
	KUNIT_CASE(bounce_used_up),
	KUNIT_CASE(bounce_keeps_alignment),
	KUNIT_CASE(bounce_limit_with_alignment),
	KUNIT_CASE(bounce_limit_untrusted),
	KUNIT_CASE(bounce_across_boundary),
	KUNIT_CASE(untrusted_without_pool),
	KUNIT_CASE(untrusted_used_up),
	KUNIT_CASE(untrusted_part_of_page),
	KUNIT_CASE(untrusted_writes_part_of_page),
	KUNIT_CASE(untrusted_without_iova),
	KUNIT_CASE(h04_larger_than_swiotlb),
	KUNIT_CASE(h06_pool_out_of_reach),
	KUNIT_CASE(h06_pool_empty),
	KUNIT_CASE(h12_skip_cpu_sync_from_device),
	KUNIT_CASE(h12_skip_cpu_sync_to_device),
	KUNIT_CASE(h14_sync_other_direction),
	KUNIT_CASE(h30_more_alignment_than_pool),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite bounce_suite = {
	.name = "dma_phys_bounce",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = bounce_cases,
};

kunit_test_suite(bounce_suite);

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests with memory that has no kernel address, made from pages and from physical
 * addresses. What the kernel does for it is observed in observe_kunit.c.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/random.h>

#include "sg_kunit.h"

/* Bytes that a test moves: they cross a page. */
#define HIGHMEM_TEST_AT		(PAGE_SIZE - 1000)
#define HIGHMEM_TEST_BYTES	3000

/* The CPU copies bytes at @at of two pages. */
static void highmem_test_copy(struct page *page, size_t at, u8 *buf, size_t len,
			      bool to_page)
{
	while (len) {
		size_t n = min(len, PAGE_SIZE - at % PAGE_SIZE);

		if (to_page)
			memcpy_to_page(page + at / PAGE_SIZE, at % PAGE_SIZE,
				       buf, n);
		else
			memcpy_from_page(buf, page + at / PAGE_SIZE,
					 at % PAGE_SIZE, n);
		at += n;
		buf += n;
		len -= n;
	}
}

static struct cpu_phys highmem_test_range(struct kunit *test, struct page *page,
					  bool by_address)
{
	struct cpu_phys range;
	int err;

	if (by_address)
		err = cpu_phys_from_addr(page_to_phys(page) + HIGHMEM_TEST_AT,
					 HIGHMEM_TEST_BYTES, &range);
	else
		err = cpu_phys_from_page(page, HIGHMEM_TEST_AT,
					 HIGHMEM_TEST_BYTES, &range);
	KUNIT_ASSERT_EQ(test, err, 0);
	KUNIT_ASSERT_EQ(test, range.addr,
			page_to_phys(page) + HIGHMEM_TEST_AT);
	return range;
}

/* A map of highmem, and one of a buffer with a kernel address. */
static void highmem_test_round_trip(struct kunit *test, struct page *page,
				    bool by_address)
{
	struct cpu_phys range = highmem_test_range(test, page, by_address);
	enum dma_phys_route route = edu_route(range.addr, range.len);
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map = edu_handle(test), *low;

	/* From memory to the device, and back to where the CPU sees it. */
	get_random_bytes(out, HIGHMEM_TEST_BYTES);
	highmem_test_copy(page, HIGHMEM_TEST_AT, out, HIGHMEM_TEST_BYTES, true);
	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE,
					       0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, route);
	edu_expect_addr(test, map, range.addr);
	edu_pull(test, map->addr, HIGHMEM_TEST_BYTES);
	dma_phys_unmap(map);
	low = edu_map(test, in, HIGHMEM_TEST_BYTES, DMA_FROM_DEVICE, 0);
	edu_expect_arrives(test, low, in, out);

	/* From the device to memory, looked at while it is mapped, and after. */
	edu_load(test, out, HIGHMEM_TEST_BYTES);
	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range,
					       DMA_BIDIRECTIONAL, 0, map), 0);
	edu_push(test, map->addr, HIGHMEM_TEST_BYTES);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 500, 1500), 0);
	highmem_test_copy(page, HIGHMEM_TEST_AT + 500, in, 1500, false);
	KUNIT_EXPECT_MEMEQ(test, in, out + 500, 1500);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 500, 1500), 0);
	dma_phys_unmap(map);
	highmem_test_copy(page, HIGHMEM_TEST_AT, in, HIGHMEM_TEST_BYTES, false);
	KUNIT_EXPECT_MEMEQ(test, in, out, HIGHMEM_TEST_BYTES);
}

static void highmem_moves_bytes(struct kunit *test)
{
	struct page *page = edu_high_pages(test);

	highmem_test_round_trip(test, page, false);
	highmem_test_round_trip(test, page, true);
}

static void highmem_bounces(struct kunit *test)
{
	struct page *page = edu_high_pages(test);

	edu_set_mask(page_to_phys(page) - 1);
	if (edu_route(page_to_phys(page), PAGE_SIZE) != DMA_PHYS_BOUNCE)
		kunit_skip(test, "nothing bounces on this boot");
	highmem_test_round_trip(test, page, false);
	highmem_test_round_trip(test, page, true);
}

/* Its neighbours are low memory. Beyond the mask it alone bounces. */
static void highmem_in_list(struct kunit *test)
{
	struct dma_phys_test_list *from = dma_phys_test_list(test, MAX_SEGMENTS);
	struct dma_phys_test_list *to = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *low = edu_pages(test, 0), *in = edu_pages(test, 2);
	struct page *page = edu_high_pages(test);
	struct cpu_phys ranges[] = {
		edu_range(test, low, 100),
		highmem_test_range(test, page, false),
		edu_range(test, low + 2000, 1000),
	};
	size_t size = HIGHMEM_TEST_BYTES + 1100;
	struct cpu_phys target = edu_range(test, in, size);
	u8 *copy = edu_pages(test, 0);

	for (int beyond = 0; beyond < 2; beyond++) {
		if (beyond)
			edu_set_mask(page_to_phys(page) - 1);
		get_random_bytes(low, PAGE_SIZE);
		get_random_bytes(copy, HIGHMEM_TEST_BYTES);
		highmem_test_copy(page, HIGHMEM_TEST_AT, copy,
				  HIGHMEM_TEST_BYTES, true);
		from->count = dma_phys_test_list_map(from, ranges, 3,
						     DMA_TO_DEVICE, 0);
		dma_phys_test_list_check(test, from, size);
		to->count = dma_phys_test_list_map(to, &target, 1,
						   DMA_FROM_DEVICE, 0);
		dma_phys_test_list_check(test, to, size);
		dma_phys_test_list_copy(test, from, to);
		dma_phys_sg_unmap(&from->sg);
		dma_phys_sg_unmap(&to->sg);
		KUNIT_EXPECT_MEMEQ(test, in, low, 100);
		KUNIT_EXPECT_MEMEQ(test, in + 100, copy, HIGHMEM_TEST_BYTES);
		KUNIT_EXPECT_MEMEQ(test, in + 100 + HIGHMEM_TEST_BYTES,
				   low + 2000, 1000);
	}
}

/* There is no kernel address. */
static void highmem_has_no_address(struct kunit *test)
{
	struct page *page = edu_high_pages(test);
	struct cpu_phys range;
	u8 *end = high_memory;

	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(end - 1, 1, &range), 0);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(end - 1, 2, &range), -EINVAL);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(end, 1, &range), -EINVAL);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_raw(page_to_phys(page), PAGE_SIZE,
						&range), 0);
	if (dev_is_dma_coherent(edu.dev) &&
	    edu_route(range.addr, range.len) == DMA_PHYS_DIRECT) {
		struct dma_phys_map *map = edu_handle(test);

		KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(edu.dev, &range,
						       DMA_FROM_DEVICE, 0, map),
				0);
		edu_expect_addr(test, map, range.addr);
		dma_phys_unmap(map);
	} else {
		edu_refuses(test, &range, DMA_FROM_DEVICE, 0, -EOPNOTSUPP);
	}
}

static struct kunit_case highmem_cases[] = {
	KUNIT_CASE(highmem_moves_bytes),
	KUNIT_CASE(highmem_bounces),
	KUNIT_CASE(highmem_in_list),
	KUNIT_CASE(highmem_has_no_address),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite highmem_suite = {
	.name = "dma_phys_highmem",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = highmem_cases,
};

kunit_test_suite(highmem_suite);

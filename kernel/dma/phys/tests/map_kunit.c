// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of map.c: one range is mapped, the device moves bytes through it, and
 * arguments are checked. handle_kunit.c tests sync and unmap.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "edu_kunit.h"

/* ---- Bytes ---- */

static void map_round_trip(struct kunit *test, size_t offset, size_t len)
{
	u8 *out = edu_pages(test, 1), *in = edu_pages(test, 1);
	size_t rest = 2 * PAGE_SIZE - offset - len;
	struct dma_phys_map *map;

	edu_load(test, out + offset, len);
	memset(in, POISON, 2 * PAGE_SIZE);
	map = edu_map(test, in + offset, len, DMA_FROM_DEVICE, 0);
	edu_expect_arrives(test, map, in + offset, out + offset);
	KUNIT_EXPECT_TRUE(test, edu_untouched(in, offset));
	KUNIT_EXPECT_TRUE(test, edu_untouched(in + offset + len, rest));
}

static void map_moves_bytes(struct kunit *test)
{
	map_round_trip(test, 0, 1);
	map_round_trip(test, 0, EDU_BUF);
	map_round_trip(test, 1, 511);
	map_round_trip(test, 64, 64);
	map_round_trip(test, PAGE_SIZE - 1, 2);
	map_round_trip(test, 2047, 4000);
}

/* One map, written by CPU and device in turn. */
static void map_bidirectional(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *copy = edu_pages(test, 0);
	struct dma_phys_map *map;

	get_random_bytes(buf, EDU_BUF);
	memcpy(copy, buf, EDU_BUF);
	map = edu_map(test, buf, EDU_BUF, DMA_BIDIRECTIONAL, 0);
	edu_pull(test, map->addr, EDU_BUF);

	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	KUNIT_EXPECT_MEMEQ(test, buf, copy, EDU_BUF);
	memset(buf, POISON, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, EDU_BUF), 0);

	/* The device writes the second half; the CPU wrote the first. */
	edu_push(test, map->addr + EDU_BUF / 2, EDU_BUF / 2);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, EDU_BUF / 2));
	KUNIT_EXPECT_MEMEQ(test, buf + EDU_BUF / 2, copy, EDU_BUF / 2);
}

/* Parts of a map that is larger than a transfer. */
static void map_moves_parts(struct kunit *test)
{
	static const size_t parts[] = { 15, 0, 7 };
	size_t len = 16 * EDU_BUF;
	u8 *out = edu_pages(test, get_order(len));
	u8 *in = edu_pages(test, get_order(len));
	struct dma_phys_map *from, *to;

	get_random_bytes(out, len);
	memset(in, POISON, len);
	from = edu_map(test, out, len, DMA_TO_DEVICE, 0);
	to = edu_map(test, in, len, DMA_FROM_DEVICE, 0);

	for (int i = 0; i < ARRAY_SIZE(parts); i++) {
		size_t at = parts[i] * EDU_BUF;

		edu_pull(test, from->addr + at, EDU_BUF);
		edu_push(test, to->addr + at, EDU_BUF);
		KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(to, at, EDU_BUF), 0);
		KUNIT_EXPECT_MEMEQ(test, in + at, out + at, EDU_BUF);
	}

	dma_phys_unmap(from);
	dma_phys_unmap(to);
	KUNIT_EXPECT_MEMEQ(test, in, out, EDU_BUF);
	KUNIT_EXPECT_MEMEQ(test, in + len - EDU_BUF, out + len - EDU_BUF,
			   EDU_BUF);
	KUNIT_EXPECT_TRUE(test, edu_untouched(in + EDU_BUF, EDU_BUF));
}

static void map_skip_cpu_sync(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *copy = edu_pages(test, 0);
	struct dma_phys_map *map;

	map = edu_map(test, buf, EDU_BUF, DMA_BIDIRECTIONAL,
		      DMA_PHYS_SKIP_CPU_SYNC);
	get_random_bytes(buf, EDU_BUF);
	memcpy(copy, buf, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, EDU_BUF), 0);
	edu_pull(test, map->addr, EDU_BUF);

	memset(buf, POISON, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, EDU_BUF), 0);
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	KUNIT_EXPECT_MEMEQ(test, buf, copy, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, buf, copy, EDU_BUF);
}

/* No step sleeps: CONFIG_DEBUG_ATOMIC_SLEEP would report it. */
static void map_in_atomic_context(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);
	int map_err, cpu_err, dev_err;
	unsigned long flags;

	local_irq_save(flags);
	map_err = dma_phys_map_cpu(edu.dev, &range, DMA_BIDIRECTIONAL, 0, map);
	cpu_err = dma_phys_sync_for_cpu(map, 0, PAGE_SIZE);
	dev_err = dma_phys_sync_for_device(map, 0, PAGE_SIZE);
	dma_phys_unmap(map);
	local_irq_restore(flags);

	KUNIT_EXPECT_EQ(test, map_err, 0);
	KUNIT_EXPECT_EQ(test, cpu_err, 0);
	KUNIT_EXPECT_EQ(test, dev_err, 0);
}

/* ---- Arguments ---- */

static void map_null_arguments(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };
	enum dma_data_direction dir = DMA_TO_DEVICE;
	struct dma_phys_map map = {};

	KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(NULL, &range, dir, 0, &map),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(edu.dev, NULL, dir, 0, &map),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(edu.dev, &range, dir, 0, NULL),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(NULL, NULL, dir, 0, NULL),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(NULL, &mmio, dir, 0, &map),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, NULL, dir, 0, &map),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, dir, 0, NULL),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(NULL, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(NULL, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(&map, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(&map, 0, 1), -EINVAL);
	dma_phys_unmap(NULL);
	dma_phys_unmap_nosync(NULL);
	dma_phys_unmap(&map);
	KUNIT_EXPECT_TRUE(test, edu_empty(&map));
}

/* The flags of the core are not for callers. */
static void map_unknown_flags(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);

	for (int bit = 0; bit < 32; bit++)
		if (BIT(bit) != DMA_PHYS_SKIP_CPU_SYNC)
			edu_refuses(test, &range, DMA_TO_DEVICE, BIT(bit),
				    -EINVAL);
	edu_refuses(test, &range, DMA_TO_DEVICE, U32_MAX, -EINVAL);
}

static void map_keeps_live_handle(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *out = edu_pages(test, 0);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };
	struct cpu_phys range = edu_range(test, out, PAGE_SIZE);
	struct dma_phys_map *map, before;

	edu_load(test, out, EDU_BUF);
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE, 0);
	before = *map;

	KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE,
					       0, map), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE,
						0, map), -EINVAL);
	KUNIT_EXPECT_MEMEQ(test, map, &before, sizeof(before));
	edu_expect_arrives(test, map, buf, out);
}

/* A device without a driver can do DMA, as with the raw API. */
static void map_without_driver(struct kunit *test)
{
	struct mmio_phys mmio = edu_own_mmio(test, 0, PAGE_SIZE);
	int route = edu_mmio_route(mmio.addr, mmio.len);
	struct dma_phys_map *map;

	edu_unbind();
	dma_phys_unmap(edu_map(test, edu_pages(test, 0), PAGE_SIZE,
			       DMA_TO_DEVICE, 0));
	map = edu_handle(test);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE,
						0, map), min(route, 0));
	dma_phys_unmap(map);
	edu_bind(test);
}

static void h01_no_such_direction(struct kunit *test)
{
	/* The last three are directions if they are truncated to 8 bits. */
	static const int dirs[] = {
		DMA_NONE, -1, 4, 255, INT_MAX, INT_MIN, 0x100, 0x101, 0x102,
	};
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };

	for (int i = 0; i < ARRAY_SIZE(dirs); i++) {
		edu_refuses(test, &range, dirs[i], 0, -EINVAL);
		edu_refuses_mmio(test, &mmio, dirs[i], -EINVAL);
	}
}

static void h02_map_zero_length(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G };

	range.len = 0;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EINVAL);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EINVAL);

	range.addr = 0;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EINVAL);
	edu_refuses(test, &range, DMA_TO_DEVICE, DMA_PHYS_SKIP_CPU_SYNC,
		    -EINVAL);
}

static void h03_map_wraps_around(struct kunit *test)
{
	phys_addr_t phys = edu_range(test, edu_pages(test, 0), 1).addr;
	const struct { phys_addr_t addr; size_t len; } cases[] = {
		{ PHYS_ADDR_MAX, 2 },
		{ PHYS_ADDR_MAX - PAGE_SIZE + 1, PAGE_SIZE + 1 },
		{ PHYS_ADDR_MAX, SIZE_MAX },
		{ phys, SIZE_MAX },
		{ phys, SIZE_MAX - phys + 2 },
		{ 2, SIZE_MAX },
	};
	/* A length of 32 bits does not reach the end of 64-bit addresses. */
	int count = sizeof(size_t) < sizeof(phys_addr_t) ? 3 :
							   ARRAY_SIZE(cases);

	for (int i = 0; i < count; i++) {
		struct mmio_phys mmio = { cases[i].addr, cases[i].len };
		struct cpu_phys range = { cases[i].addr, cases[i].len };

		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EINVAL);
		edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EINVAL);
	}
}

static void h05_no_dma_mask(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };

	edu.dev->dma_mask = NULL;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EINVAL);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EINVAL);
}

/* One cause after the other. */
static void h15_errno_says_why(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct cpu_phys large = { .addr = range.addr, .len = SZ_256M };
	phys_addr_t start, end;

	edu_refuses(test, &range, DMA_NONE, 0, -EINVAL);
	/* Of a device with ops, bus_dma_limit selects the route. */
	if (get_dma_ops(edu.dev))
		return;
	if (use_dma_iommu(edu.dev)) {
		edu_set_mask(DMA_BIT_MASK(28));
		edu_refuses(test, &large, DMA_TO_DEVICE, 0, -E2BIG);
		return;
	}

	edu.dev->bus_dma_limit = SZ_64K;
	if (edu_get_pool(&start, &end))
		edu_refuses(test, &large, DMA_TO_DEVICE, 0, -E2BIG);
	edu_forbid_bounce();
	edu_refuses(test, &large, DMA_TO_DEVICE, 0, -ERANGE);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

/* Memory that shares its cache lines is mapped; the driver knows best. */
static void h28_shared_cache_lines(struct kunit *test)
{
	static const size_t lens[] = { 1, 100, 1518 };
	u8 *out = edu_pages(test, 0);

	edu_load(test, out, EDU_BUF);
	edu_make_incoherent();
	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		u8 *in = kunit_kmalloc(test, lens[i], GFP_KERNEL);

		KUNIT_ASSERT_NOT_NULL(test, in);
		edu_expect_arrives(test, edu_map(test, in, lens[i],
						 DMA_FROM_DEVICE, 0), in, out);
		edu_expect_arrives(test, edu_map(test, in, lens[i],
						 DMA_BIDIRECTIONAL, 0), in, out);
	}
}

static struct kunit_case map_cases[] = {
	KUNIT_CASE(map_moves_bytes),
	KUNIT_CASE(map_bidirectional),
	KUNIT_CASE(map_moves_parts),
	KUNIT_CASE(map_skip_cpu_sync),
	KUNIT_CASE(map_in_atomic_context),
	KUNIT_CASE(map_null_arguments),
	KUNIT_CASE(map_unknown_flags),
	KUNIT_CASE(map_keeps_live_handle),
	KUNIT_CASE(map_without_driver),
	KUNIT_CASE(h01_no_such_direction),
	KUNIT_CASE(h02_map_zero_length),
	KUNIT_CASE(h03_map_wraps_around),
	KUNIT_CASE(h05_no_dma_mask),
	KUNIT_CASE(h15_errno_says_why),
	KUNIT_CASE(h28_shared_cache_lines),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite map_suite = {
	.name = "dma_phys_map",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = map_cases,
};

kunit_test_suite(map_suite);

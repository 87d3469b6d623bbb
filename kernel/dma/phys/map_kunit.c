// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of map.c: one range mapped, synced and unmapped, with bytes that
 * really move; and all that may be asked for wrongly.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/moduleparam.h>
#include <linux/panic.h>
#include <linux/random.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "vec_kunit.h"

/* For the suite dma_phys_leak: set dma_phys_kunit.leak=1 to run it. */
#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys_kunit."
static bool leak;
module_param(leak, bool, 0);
MODULE_PARM_DESC(leak, "Leak a map on purpose, for dma-debug to report");

static bool untouched(const u8 *p, size_t len)
{
	return !memchr_inv(p, POISON, len);
}

/* Random bytes at @p, and in the device's buffer. */
static void load(struct kunit *test, u8 *p, size_t len)
{
	struct dma_phys_map *map;

	get_random_bytes(p, len);
	map = edu_map(test, p, len, DMA_TO_DEVICE, 0);
	edu_pull(test, map->addr, len);
	dma_phys_unmap(map);
}

static void round_trip(struct kunit *test, size_t offset, size_t len)
{
	u8 *out = edu_pages(test, 1), *in = edu_pages(test, 1);
	struct dma_phys_map *map;

	load(test, out + offset, len);
	memset(in, POISON, 2 * PAGE_SIZE);

	map = edu_map(test, in + offset, len, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, len);
	dma_phys_unmap(map);

	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_MEMEQ_MSG(test, in + offset, out + offset, len,
			       "%zu bytes at %zu; does edu reach all memory, see edu_kunit.c?",
			       len, offset);
	KUNIT_EXPECT_TRUE(test, untouched(in, offset));
	KUNIT_EXPECT_TRUE(test, untouched(in + offset + len,
					  2 * PAGE_SIZE - offset - len));
}

static void bytes_move(struct kunit *test)
{
	round_trip(test, 0, 1);
	round_trip(test, 0, EDU_BUF);
	round_trip(test, 1, 511);
	round_trip(test, 64, 64);
	round_trip(test, PAGE_SIZE - 1, 2);
	round_trip(test, 2047, 4000);
}

/* One map, written by one side and the other in turn. */
static void bidirectional(struct kunit *test)
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

	/* The second half comes back, the first is what the CPU wrote. */
	edu_push(test, map->addr + EDU_BUF / 2, EDU_BUF / 2);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, untouched(buf, EDU_BUF / 2));
	KUNIT_EXPECT_MEMEQ(test, buf + EDU_BUF / 2, copy, EDU_BUF / 2);
}

/* More than the device moves at once: every part is where it should be. */
static void many_pages(struct kunit *test)
{
	static const size_t parts[] = { 15, 0, 7 };
	u8 *out = edu_pages(test, 4), *in = edu_pages(test, 4);
	struct dma_phys_map *from, *to;
	size_t len = 16 * PAGE_SIZE;

	get_random_bytes(out, len);
	memset(in, POISON, len);
	from = edu_map(test, out, len, DMA_TO_DEVICE, 0);
	to = edu_map(test, in, len, DMA_FROM_DEVICE, 0);

	for (int i = 0; i < ARRAY_SIZE(parts); i++) {
		size_t at = parts[i] * PAGE_SIZE;

		edu_pull(test, from->addr + at, EDU_BUF);
		edu_push(test, to->addr + at, EDU_BUF);
		KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(to, at, EDU_BUF), 0);
		KUNIT_EXPECT_MEMEQ(test, in + at, out + at, EDU_BUF);
	}

	dma_phys_unmap(from);
	dma_phys_unmap(to);
	KUNIT_EXPECT_MEMEQ(test, in, out, PAGE_SIZE);
	KUNIT_EXPECT_MEMEQ(test, in + len - PAGE_SIZE, out + len - PAGE_SIZE,
			   PAGE_SIZE);
	KUNIT_EXPECT_TRUE(test, untouched(in + PAGE_SIZE, PAGE_SIZE));
}

/* Sync by hand, on the route that the device has on this boot. */
static void manual_sync(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *copy = edu_pages(test, 0);
	struct dma_phys_map *map;

	map = edu_map(test, buf, EDU_BUF, DMA_BIDIRECTIONAL,
		      DMA_PHYS_MANUAL_SYNC);
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

/* Nothing in a map's life sleeps, by the word of DEBUG_ATOMIC_SLEEP. */
static void atomic_context(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	struct cpu_phys range = edu_range(test, buf, PAGE_SIZE);
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

static void null_arguments(struct kunit *test)
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
	KUNIT_EXPECT_TRUE(test, edu_empty(&map));
	dma_phys_unmap(NULL);
	dma_phys_unmap(&map);
}

/* A flag of the core's own is none of the caller's. */
static void unknown_flags(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);

	for (int bit = 0; bit < 32; bit++)
		if (BIT(bit) != DMA_PHYS_MANUAL_SYNC)
			edu_refuses(test, &range, DMA_TO_DEVICE, BIT(bit),
				    -EINVAL);
	edu_refuses(test, &range, DMA_TO_DEVICE, U32_MAX, -EINVAL);
}

static void live_handle_is_kept(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *out = edu_pages(test, 0);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };
	struct cpu_phys range = edu_range(test, out, PAGE_SIZE);
	struct dma_phys_map *map, before;

	load(test, out, EDU_BUF);
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE, 0);
	before = *map;

	KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE,
					       0, map), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE,
						0, map), -EINVAL);
	KUNIT_EXPECT_MEMEQ(test, map, &before, sizeof(before));

	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, buf, out, EDU_BUF);
}

static void unmap_empties(struct kunit *test)
{
	static const struct dma_phys_map nothing;
	u8 *buf = edu_pages(test, 0);
	struct dma_phys_map *map;

	map = edu_map(test, buf, PAGE_SIZE, DMA_FROM_DEVICE, 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, map, &nothing, sizeof(nothing));
	memset(buf, POISON, PAGE_SIZE);

	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, untouched(buf, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, 1), -EINVAL);
}

static void no_driver(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };

	edu_unbind();
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ENODEV);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -ENODEV);
	edu_bind(test);
	dma_phys_unmap(edu_map(test, phys_to_virt(range.addr), range.len,
			       DMA_TO_DEVICE, 0));
}

static void h01_no_such_direction(struct kunit *test)
{
	/* The last three become directions where they are cut to 8 bits. */
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

static void h02_zero_length(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G };

	range.len = 0;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EINVAL);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EINVAL);

	range.addr = 0;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EINVAL);
	edu_refuses(test, &range, DMA_TO_DEVICE, DMA_PHYS_MANUAL_SYNC, -EINVAL);
}

static void h03_wraps_around(struct kunit *test)
{
	phys_addr_t phys = edu_range(test, edu_pages(test, 0), 1).addr;
	const struct { phys_addr_t addr; size_t len; } cases[] = {
		{ phys, SIZE_MAX },
		{ phys, SIZE_MAX - phys + 2 },
		{ PHYS_ADDR_MAX, 2 },
		{ PHYS_ADDR_MAX - PAGE_SIZE + 1, PAGE_SIZE + 1 },
		{ PHYS_ADDR_MAX, SIZE_MAX },
		{ 2, SIZE_MAX },
	};

	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
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

/* A flush queue gives IOVAs back late; what has leaked never comes back. */
static int map_patiently(const struct mmio_phys *mmio, struct dma_phys_map *map)
{
	int err;

	for (int i = 0; i < 50; i++) {
		err = dma_phys_map_mmio(edu.dev, mmio, DMA_FROM_DEVICE, 0, map);
		if (err != -EAGAIN)
			break;
		msleep(20);
	}
	return err;
}

/*
 * What unmapping needs is in the handle: a bounced map copies back and frees
 * its slot, a map of device memory gives its IOVA back, and no more is said.
 */
static void h09_unmap_takes_no_attributes(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map = edu_handle(test);
	struct mmio_phys mmio;
	int err;

	load(test, out, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, in, out, EDU_BUF);

	/* Twice what 28 bits of IOVA hold. */
	mmio = edu_mmio(test, 0, SZ_1M);
	edu_set_mask(use_dma_iommu(edu.dev) ? DMA_BIT_MASK(28) :
					      DMA_BIT_MASK(64));
	for (int i = 0; i < SZ_512M / SZ_1M; i++) {
		err = map_patiently(&mmio, map);
		if (err)
			break;
		dma_phys_unmap(map);
	}
	KUNIT_EXPECT_EQ(test, err, min(edu_mmio_route(mmio.addr, mmio.len), 0));
}

/* Unmapped in another order, while all that they were mapped from is gone. */
static void h10_unmap_takes_the_handle(struct kunit *test)
{
	static const size_t lens[] = { 1, PAGE_SIZE, 100, 3 * PAGE_SIZE };
	u8 *bufs[ARRAY_SIZE(lens)], *out = edu_pages(test, 0);
	struct dma_phys_map *maps[ARRAY_SIZE(lens)];
	struct cpu_phys range;

	load(test, out, EDU_BUF);
	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		bufs[i] = edu_pages(test, 2);
		memset(bufs[i], POISON, 4 * PAGE_SIZE);
		range = edu_range(test, bufs[i] + i, lens[i]);
		maps[i] = edu_handle(test);
		KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range,
						       i % 2 ? DMA_FROM_DEVICE :
							       DMA_BIDIRECTIONAL,
						       0, maps[i]), 0);
	}
	memset(&range, 0xff, sizeof(range));

	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		size_t len = min(lens[i], EDU_BUF);

		edu_push(test, maps[i]->addr, len);
		dma_phys_unmap(maps[i]);
		KUNIT_EXPECT_MEMEQ(test, bufs[i] + i, out, len);
		KUNIT_EXPECT_TRUE(test, untouched(bufs[i] + i + len,
						  4 * PAGE_SIZE - i - len));
	}
}

/* What is not synced stays in the slot; what is synced arrives. */
static void h12_manual_sync_from_device(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *out = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	load(test, out, EDU_BUF);
	memset(buf, POISON, EDU_BUF);
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE,
		      DMA_PHYS_MANUAL_SYNC);
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_TRUE(test, untouched(buf, EDU_BUF));

	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 100, 1000), 0);
	KUNIT_EXPECT_TRUE(test, untouched(buf, 100));
	KUNIT_EXPECT_MEMEQ(test, buf + 100, out + 100, 1000);
	KUNIT_EXPECT_TRUE(test, untouched(buf + 1100, EDU_BUF - 1100));

	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	KUNIT_EXPECT_MEMEQ(test, buf, out, EDU_BUF);

	/* Unmapping moves nothing: the CPU has the memory already. */
	memset(buf, POISON, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, untouched(buf, EDU_BUF));
}

static void h12_manual_sync_to_device(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	memset(buf, POISON, EDU_BUF);
	map = edu_map(test, buf, EDU_BUF, DMA_TO_DEVICE, DMA_PHYS_MANUAL_SYNC);
	memset(buf, 0x11, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 1000, 500), 0);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);

	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, untouched(in, 1000));
	KUNIT_EXPECT_MEMEQ(test, in + 1000, buf, 500);
	KUNIT_EXPECT_TRUE(test, untouched(in + 1500, EDU_BUF - 1500));
}

/* Bounds are checked, and nothing is done: even where caches need care. */
static void h13_sync_of_mmio(struct kunit *test)
{
	struct mmio_phys mmio = edu_mmio(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);

	edu_set_mask(DMA_BIT_MASK(64));
	if (edu_mmio_route(mmio.addr, mmio.len) < 0)
		kunit_skip(test, "no route to device memory on this boot");

	dev_clear_dma_coherent(edu.dev);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio,
						DMA_BIDIRECTIONAL, 0, map), 0);
	memset_io(edu.shmem, POISON, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 1, PAGE_SIZE), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, PAGE_SIZE, 1),
			-EINVAL);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, readb(edu.shmem), POISON);
	KUNIT_EXPECT_EQ(test, readb(edu.shmem + PAGE_SIZE - 1), POISON);
}

static void sync_gives(struct kunit *test, struct dma_phys_map *map,
		       size_t offset, size_t len, int err)
{
	KUNIT_EXPECT_EQ_MSG(test, dma_phys_sync_for_cpu(map, offset, len), err,
			    "%zu+%zu", offset, len);
	KUNIT_EXPECT_EQ_MSG(test, dma_phys_sync_for_device(map, offset, len),
			    err, "%zu+%zu", offset, len);
}

static void h14_sync_outside(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);

	for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
		struct dma_phys_map *map = edu_map(test, buf, 100, dir, 0);

		sync_gives(test, map, 0, 100, 0);
		sync_gives(test, map, 99, 1, 0);
		sync_gives(test, map, 0, 0, -EINVAL);
		sync_gives(test, map, 100, 0, -EINVAL);
		sync_gives(test, map, 0, 101, -EINVAL);
		sync_gives(test, map, 1, 100, -EINVAL);
		sync_gives(test, map, 100, 1, -EINVAL);
		sync_gives(test, map, 101, 1, -EINVAL);
		sync_gives(test, map, SIZE_MAX, 1, -EINVAL);
		sync_gives(test, map, SIZE_MAX, 2, -EINVAL);
		sync_gives(test, map, 1, SIZE_MAX, -EINVAL);
		sync_gives(test, map, 0, SIZE_MAX, -EINVAL);
		sync_gives(test, map, SIZE_MAX, SIZE_MAX, -EINVAL);
		dma_phys_unmap(map);
	}
}

/* The map's direction decides, so that no data goes the other way. */
static void h14_sync_other_direction(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *out = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	load(test, out, EDU_BUF);
	memset(buf, POISON, EDU_BUF);

	/* The device writes where it should only read: the CPU never sees it. */
	map = edu_map(test, buf, EDU_BUF, DMA_TO_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, untouched(buf, EDU_BUF));

	/* What the device wrote is not written over from the CPU's side. */
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, EDU_BUF), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, buf, out, EDU_BUF);
}

/* One cause after the other; edu_refuses() sees that no sentinel comes out. */
static void h15_errno_says_why(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct cpu_phys huge = { .addr = range.addr, .len = SZ_8G };

	edu_refuses(test, &range, DMA_NONE, 0, -EINVAL);

	edu.dev->bus_dma_limit = SZ_64K;
	if (use_dma_iommu(edu.dev)) {
		edu_refuses(test, &huge, DMA_TO_DEVICE, 0, -E2BIG);
	} else {
		struct io_tlb_mem *tlb = edu.dev->dma_io_tlb_mem;

		edu_forbid_bounce();
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
		edu.dev->dma_io_tlb_mem = tlb;
		edu_refuses(test, &huge, DMA_TO_DEVICE, 0,
			    is_swiotlb_active(edu.dev) ? -E2BIG : -ERANGE);
	}

	edu_unbind();
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ENODEV);
}

/*
 * The first bounce of a device turns dma_need_unmap() and dma_skip_sync over,
 * with a direct map alive; setting the mask turns them back, with a bounced
 * map alive. Nothing is lost either time.
 */
static void h20_first_bounce(struct kunit *test)
{
	u8 *a = edu_low_page(test), *b = edu_low_page(test);
	u8 *out = edu_low_page(test);
	struct dma_phys_map *direct, *bounced;

	if (edu_route(virt_to_phys(a), EDU_BUF) != DMA_PHYS_DIRECT)
		kunit_skip(test, "no direct route on this boot: there is no first bounce");

	load(test, out, EDU_BUF);
	memset(b, POISON, EDU_BUF);
	dev_set_dma_skip_sync(edu.dev);
	direct = edu_map(test, a, EDU_BUF, DMA_FROM_DEVICE, 0);

	edu_force_bounce(test);
	bounced = edu_map(test, b, EDU_BUF, DMA_FROM_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, direct->route, DMA_PHYS_DIRECT);
	KUNIT_EXPECT_EQ(test, bounced->route, DMA_PHYS_BOUNCE);

	/* As dma_set_mask() does, which may refuse the mask we have. */
	dev_set_dma_skip_sync(edu.dev);
	edu_push(test, direct->addr, EDU_BUF);
	edu_push(test, bounced->addr, EDU_BUF);
	KUNIT_EXPECT_TRUE(test, untouched(b, EDU_BUF));
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(bounced, 0, 8), 0);
	KUNIT_EXPECT_MEMEQ(test, b, out, 8);

	dma_phys_unmap(direct);
	dma_phys_unmap(bounced);
	KUNIT_EXPECT_MEMEQ(test, a, out, EDU_BUF);
	KUNIT_EXPECT_MEMEQ(test, b, out, EDU_BUF);
}

static struct kunit_case map_cases[] = {
	KUNIT_CASE(bytes_move),
	KUNIT_CASE(bidirectional),
	KUNIT_CASE(many_pages),
	KUNIT_CASE(manual_sync),
	KUNIT_CASE(atomic_context),
	KUNIT_CASE(null_arguments),
	KUNIT_CASE(unknown_flags),
	KUNIT_CASE(live_handle_is_kept),
	KUNIT_CASE(unmap_empties),
	KUNIT_CASE(no_driver),
	KUNIT_CASE(h01_no_such_direction),
	KUNIT_CASE(h02_zero_length),
	KUNIT_CASE(h03_wraps_around),
	KUNIT_CASE(h05_no_dma_mask),
	KUNIT_CASE(h09_unmap_takes_no_attributes),
	KUNIT_CASE(h10_unmap_takes_the_handle),
	KUNIT_CASE(h12_manual_sync_from_device),
	KUNIT_CASE(h12_manual_sync_to_device),
	KUNIT_CASE(h13_sync_of_mmio),
	KUNIT_CASE(h14_sync_outside),
	KUNIT_CASE(h14_sync_other_direction),
	KUNIT_CASE(h15_errno_says_why),
	KUNIT_CASE(h20_first_bounce),
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

/*
 * The driver detaches with a map alive, and a vec of two segments, which an
 * IOMMU has at one IOVA: dma-debug must know of all three, and say so. The
 * kernel warns then, as it should, so no ordinary boot runs this.
 */
static void leak_is_reported(struct kunit *test)
{
	unsigned int max = dma_get_max_seg_size(edu.dev);
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	u8 *buf = edu_pages(test, 2);
	struct cpu_phys ranges[] = {
		edu_range(test, buf + 2 * PAGE_SIZE, PAGE_SIZE),
		edu_range(test, buf, PAGE_SIZE),
	};
	struct dma_phys_map *map;

	if (!leak)
		kunit_skip(test, "only with dma_phys_kunit.leak=1");
	if (!IS_ENABLED(CONFIG_DMA_API_DEBUG))
		kunit_skip(test, "built without CONFIG_DMA_API_DEBUG");
	KUNIT_ASSERT_FALSE_MSG(test, test_taint(TAINT_WARN),
			       "the kernel has warned before: boot with this suite alone");

	map = edu_map(test, edu_pages(test, 0), 1234, DMA_FROM_DEVICE, 0);
	dma_set_max_seg_size(edu.dev, PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, dma_phys_vec_map_cpu(edu.dev, ranges, 2,
						   DMA_FROM_DEVICE, 0, vec), 0);
	dma_set_max_seg_size(edu.dev, max);
	KUNIT_ASSERT_EQ(test, vec->count, 2);
	if (vec->route == DMA_PHYS_IOMMU)
		KUNIT_EXPECT_EQ(test, vec->segments[1].addr,
				vec->segments[0].addr + PAGE_SIZE);

	edu_unbind();
	KUNIT_EXPECT_TRUE(test, test_taint(TAINT_WARN));
	edu_expect_warning();
	dma_phys_unmap(map);
	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	edu_bind(test);
}

static struct kunit_case leak_cases[] = {
	KUNIT_CASE(leak_is_reported),
	{ }
};

static struct kunit_suite leak_suite = {
	.name = "dma_phys_leak",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = leak_cases,
};

kunit_test_suites(&map_suite, &leak_suite);

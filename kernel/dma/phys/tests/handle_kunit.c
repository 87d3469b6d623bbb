// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of map.c: sync and unmap take the handle, and what it remembers is what
 * they do, even if the device has changed.
 */
#include <linux/delay.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/moduleparam.h>
#include <linux/panic.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "edu_kunit.h"

/* For the suite dma_phys_leak: set dma_phys_kunit.leak=1 to run it. */
#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys_kunit."
static bool leak;
module_param(leak, bool, 0);
MODULE_PARM_DESC(leak, "Leak maps on purpose, for dma-debug to report");

/* A flush queue frees IOVAs late. */
static int handle_map_retry(const struct mmio_phys *mmio,
			    struct dma_phys_map *map)
{
	int err;

	for (int i = 0; i < 50; i++) {
		err = dma_phys_map_mmio(edu.dev, mmio, DMA_FROM_DEVICE, 0, map);
		if (err != -ENOMEM)
			break;
		msleep(20);
	}
	return err;
}

/* Device memory gives its IOVA back: twice what 28 bits hold is mapped. */
static void h09_unmap_takes_no_attributes(struct kunit *test)
{
	struct mmio_phys mmio = edu_own_mmio(test, 0, SZ_1M);
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;
	int err;

	edu_load(test, out, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_expect_arrives(test, map, in, out);

	edu_set_mask(use_dma_iommu(edu.dev) ? DMA_BIT_MASK(28) :
					      DMA_BIT_MASK(64));
	for (int i = 0; i < SZ_512M / SZ_1M; i++) {
		err = handle_map_retry(&mmio, map);
		if (err)
			break;
		dma_phys_unmap(map);
	}
	KUNIT_EXPECT_EQ(test, err, min(edu_mmio_route(mmio.addr, mmio.len), 0));
}

/* In another order, after the ranges were overwritten. */
static void h10_unmap_takes_the_handle(struct kunit *test)
{
	static const size_t lens[] = { 1, PAGE_SIZE, 100, 3 * PAGE_SIZE };
	u8 *bufs[ARRAY_SIZE(lens)], *out = edu_pages(test, 0);
	struct dma_phys_map *maps[ARRAY_SIZE(lens)];
	struct cpu_phys range;

	edu_load(test, out, EDU_BUF);
	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		enum dma_data_direction dir = i % 2 ? DMA_FROM_DEVICE :
						      DMA_BIDIRECTIONAL;

		bufs[i] = edu_pages(test, 2);
		memset(bufs[i], POISON, 4 * PAGE_SIZE);
		range = edu_range(test, bufs[i] + i, lens[i]);
		maps[i] = edu_handle(test);
		KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range, dir, 0,
						       maps[i]), 0);
	}
	memset(&range, 0xff, sizeof(range));

	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		size_t len = min_t(size_t, lens[i], EDU_BUF);

		edu_push(test, maps[i]->addr, len);
		dma_phys_unmap(maps[i]);
		KUNIT_EXPECT_MEMEQ(test, bufs[i] + i, out, len);
		KUNIT_EXPECT_TRUE(test, edu_untouched(bufs[i] + i + len,
						      4 * PAGE_SIZE - i - len));
	}
}

static void handle_expect_sync(struct kunit *test, struct dma_phys_map *map,
			       size_t offset, size_t len, int err)
{
	KUNIT_EXPECT_EQ_MSG(test, dma_phys_sync_for_cpu(map, offset, len), err,
			    "%zu+%zu", offset, len);
	KUNIT_EXPECT_EQ_MSG(test, dma_phys_sync_for_device(map, offset, len),
			    err, "%zu+%zu", offset, len);
}

/* Bounds are checked; nothing else is done, on a non-coherent device neither. */
static void h13_sync_of_mmio(struct kunit *test)
{
	struct mmio_phys mmio = edu_mmio(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);

	edu_set_mask(DMA_BIT_MASK(64));
	if (edu_mmio_route(mmio.addr, mmio.len) < 0)
		kunit_skip(test, "no route to device memory on this boot");

	edu_make_incoherent();
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio,
						DMA_BIDIRECTIONAL, 0, map), 0);
	memset_io(edu.shmem, POISON, PAGE_SIZE);
	handle_expect_sync(test, map, 0, PAGE_SIZE, 0);
	handle_expect_sync(test, map, 1, PAGE_SIZE, -EINVAL);
	handle_expect_sync(test, map, PAGE_SIZE, 1, -EINVAL);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, readb(edu.shmem), POISON);
	KUNIT_EXPECT_EQ(test, readb(edu.shmem + PAGE_SIZE - 1), POISON);
}

static void h14_sync_outside(struct kunit *test)
{
	static const struct { size_t offset, len; int err; } cases[] = {
		{ 0, 100, 0 }, { 99, 1, 0 },
		{ 0, 0, -EINVAL }, { 100, 0, -EINVAL }, { 0, 101, -EINVAL },
		{ 1, 100, -EINVAL }, { 100, 1, -EINVAL }, { 101, 1, -EINVAL },
		{ SIZE_MAX, 1, -EINVAL }, { SIZE_MAX, 2, -EINVAL },
		{ 1, SIZE_MAX, -EINVAL }, { 0, SIZE_MAX, -EINVAL },
		{ SIZE_MAX, SIZE_MAX, -EINVAL },
	};
	u8 *buf = edu_pages(test, 0);

	for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
		struct dma_phys_map *map = edu_map(test, buf, 100, dir, 0);

		for (int i = 0; i < ARRAY_SIZE(cases); i++)
			handle_expect_sync(test, map, cases[i].offset,
					   cases[i].len, cases[i].err);
		dma_phys_unmap(map);
	}
}

/* An unmapped handle is empty: it can be unmapped again, and mapped. */
static void h18_unmap_twice(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	struct cpu_phys range = edu_range(test, buf, PAGE_SIZE);
	struct dma_phys_map *map;

	for (int i = 0; i < 2; i++) {
		map = edu_map(test, buf, PAGE_SIZE, DMA_TO_DEVICE, 0);
		dma_phys_unmap(map);
		KUNIT_EXPECT_TRUE(test, edu_empty(map));
		dma_phys_unmap(map);
		dma_phys_unmap_nosync(map);
		KUNIT_EXPECT_TRUE(test, edu_empty(map));
		KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 1),
				-EINVAL);
		KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(edu.dev, &range,
						       DMA_TO_DEVICE, 0, map),
				0);
		dma_phys_unmap(map);
	}
}

/* ---- The device changes under a map ---- */

static void h11_bounce_then_direct(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	edu_load(test, out, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_end_force_bounce();
	edu_set_mask(DMA_BIT_MASK(64));
	edu_expect_arrives(test, map, in, out);
}

static void handle_need_direct(struct kunit *test, u8 *virt)
{
	if (edu_route(virt_to_phys(virt), EDU_BUF) != DMA_PHYS_DIRECT)
		kunit_skip(test, "no direct route on this boot");
}

static void h11_direct_then_bounce(struct kunit *test)
{
	u8 *out = edu_low_page(test), *in = edu_low_page(test);
	struct dma_phys_map *map;

	handle_need_direct(test, in);
	edu_load(test, out, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	if (is_swiotlb_active(edu.dev))
		edu_force_bounce(test);
	edu_set_mask(SZ_64K - 1);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	edu_expect_arrives(test, map, in, out);
}

/* The IOMMU's unmap never gets an address that is not an IOVA. */
static void handle_then_iommu(struct kunit *test, struct dma_phys_map *map,
			      const u8 *in, const u8 *out)
{
	dev_set_dma_iommu(edu.dev);
	if (!use_dma_iommu(edu.dev))
		kunit_skip(test, "built without CONFIG_IOMMU_DMA");
	edu_unmap_stale(test, map);
	dev_clear_dma_iommu(edu.dev);
	edu_expect_arrives(test, map, in, out);
}

static void h11_direct_then_iommu(struct kunit *test)
{
	u8 *out = edu_low_page(test), *in = edu_low_page(test);

	handle_need_direct(test, in);
	edu_load(test, out, EDU_BUF);
	handle_then_iommu(test, edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0),
			  in, out);
}

static void h11_bounce_then_iommu(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);

	edu_force_bounce(test);
	edu_load(test, out, EDU_BUF);
	handle_then_iommu(test, edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0),
			  in, out);
}

static void h11_iommu_then_direct(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_need_iommu(test);
	edu_load(test, out, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	dev_clear_dma_iommu(edu.dev);
	edu_unmap_stale(test, map);
	dev_set_dma_iommu(edu.dev);

	KUNIT_EXPECT_EQ(test, edu_translate(map->addr), virt_to_phys(in));
	edu_expect_arrives(test, map, in, out);
}

/* Another domain may use the same IOVA for something else. */
static void h11_iommu_domain_changed(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;
	const void *domain;

	edu_need_iommu(test);
	edu_load(test, out, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	domain = map->target;
	map->target = in;
	edu_unmap_stale(test, map);
	map->target = domain;
	edu_expect_arrives(test, map, in, out);
}

/*
 * The first bounce of a device changes dma_need_unmap(), and setting its mask
 * changes it back. Maps that are live then lose nothing.
 */
static void h20_first_bounce(struct kunit *test)
{
	u8 *a = edu_low_page(test), *b = edu_low_page(test);
	u8 *out = edu_low_page(test);
	struct dma_phys_map *direct, *bounced;

	handle_need_direct(test, a);
	edu_load(test, out, EDU_BUF);
	memset(b, POISON, EDU_BUF);
	dev_assign_dma_skip_sync(edu.dev, dev_is_dma_coherent(edu.dev));
	direct = edu_map(test, a, EDU_BUF, DMA_FROM_DEVICE, 0);

	edu_force_bounce(test);
	bounced = edu_map(test, b, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, direct->addr, EDU_BUF);
	edu_push(test, bounced->addr, EDU_BUF);
	KUNIT_EXPECT_TRUE(test, edu_untouched(b, EDU_BUF));
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(bounced, 0, 8), 0);
	KUNIT_EXPECT_MEMEQ(test, b, out, 8);

	/* What dma_set_mask() does. */
	dev_assign_dma_skip_sync(edu.dev, dev_is_dma_coherent(edu.dev));
	dma_phys_unmap(direct);
	dma_phys_unmap(bounced);
	KUNIT_EXPECT_MEMEQ(test, a, out, EDU_BUF);
	KUNIT_EXPECT_MEMEQ(test, b, out, EDU_BUF);
}

/* ---- Unmap without sync ---- */

/* The device wrote @out; then the CPU, which owned the buffer, wrote to it. */
static void handle_cpu_data_survives(struct kunit *test, const u8 *out, u8 *buf,
				     size_t len, enum dma_data_direction dir)
{
	struct dma_phys_map *map;

	memset(buf, POISON, len);
	map = edu_map(test, buf, len, dir, 0);
	edu_push(test, map->addr, len);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, len), 0);
	KUNIT_EXPECT_MEMEQ(test, buf, out, len);
	memset(buf, POISON, len);
	dma_phys_unmap_nosync(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, len));
}

/* The device never owned the buffer. */
static void handle_unused_map(struct kunit *test, u8 *buf, size_t len,
			      enum dma_data_direction dir)
{
	struct dma_phys_map *map;

	memset(buf, 0x11, len);
	map = edu_map(test, buf, len, dir, DMA_PHYS_SKIP_CPU_SYNC);
	memset(buf, POISON, len);
	dma_phys_unmap_nosync(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, len));
}

static void handle_unmap_nosync(struct kunit *test, size_t offset, size_t len)
{
	u8 *out = edu_pages(test, 0), *buf = edu_pages(test, 0);

	edu_load(test, out, EDU_BUF);
	handle_cpu_data_survives(test, out, buf + offset, len, DMA_FROM_DEVICE);
	handle_cpu_data_survives(test, out, buf + offset, len,
				 DMA_BIDIRECTIONAL);
	for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++)
		handle_unused_map(test, buf + offset, len, dir);
}

static void h36_unmap_nosync(struct kunit *test)
{
	handle_unmap_nosync(test, 0, EDU_BUF);
	handle_unmap_nosync(test, 100, 1000);
}

static void h36_unmap_nosync_bounce(struct kunit *test)
{
	edu_force_bounce(test);
	handle_unmap_nosync(test, 0, EDU_BUF);
	handle_unmap_nosync(test, 100, 1000);
}

/* A part of a page bounces behind an IOMMU too. */
static void h36_unmap_nosync_untrusted(struct kunit *test)
{
	edu_need_iommu(test);
	if (!is_swiotlb_active(edu.dev))
		kunit_skip(test, "no bounce buffers on this boot");
	edu.pdev->untrusted = true;
	handle_unmap_nosync(test, 100, 1000);
}

static struct kunit_case handle_cases[] = {
	KUNIT_CASE(h09_unmap_takes_no_attributes),
	KUNIT_CASE(h10_unmap_takes_the_handle),
	KUNIT_CASE(h11_bounce_then_direct),
	KUNIT_CASE(h11_direct_then_bounce),
	KUNIT_CASE(h11_direct_then_iommu),
	KUNIT_CASE(h11_bounce_then_iommu),
	KUNIT_CASE(h11_iommu_then_direct),
	KUNIT_CASE(h11_iommu_domain_changed),
	KUNIT_CASE(h13_sync_of_mmio),
	KUNIT_CASE(h14_sync_outside),
	KUNIT_CASE(h18_unmap_twice),
	KUNIT_CASE(h20_first_bounce),
	KUNIT_CASE(h36_unmap_nosync),
	KUNIT_CASE(h36_unmap_nosync_bounce),
	KUNIT_CASE(h36_unmap_nosync_untrusted),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite handle_suite = {
	.name = "dma_phys_handle",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = handle_cases,
};

/*
 * The driver detaches with three live maps, and dma-debug reports them all. The
 * kernel warns, so this suite does not run unless the command line asks for it.
 */
static void leak_is_reported(struct kunit *test)
{
	struct mmio_phys mmio = edu_own_mmio(test, 0, PAGE_SIZE);
	struct dma_phys_map *maps[3];

	if (!leak)
		kunit_skip(test, "only with dma_phys_kunit.leak=1");
	if (!IS_ENABLED(CONFIG_DMA_API_DEBUG))
		kunit_skip(test, "built without CONFIG_DMA_API_DEBUG");
	KUNIT_ASSERT_FALSE_MSG(test, test_taint(TAINT_WARN),
			       "the kernel has warned before: boot with this suite alone");

	maps[0] = edu_map(test, edu_pages(test, 0), 1234, DMA_FROM_DEVICE, 0);
	maps[1] = edu_map(test, edu_pages(test, 0), PAGE_SIZE, DMA_TO_DEVICE,
			  0);
	maps[2] = edu_handle(test);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE,
						0, maps[2]), 0);

	edu_unbind();
	KUNIT_EXPECT_TRUE(test, test_taint(TAINT_WARN));
	edu_expect_warning();
	for (int i = 0; i < ARRAY_SIZE(maps); i++) {
		dma_phys_unmap(maps[i]);
		KUNIT_EXPECT_TRUE(test, edu_empty(maps[i]));
	}
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

kunit_test_suites(&handle_suite, &leak_suite);

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the route through legacy dma_map_ops, with ops that record their
 * arguments and map nothing.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/string.h>

#include "sg_kunit.h"

/* DMA addresses are physical addresses plus this. */
#define OPS_OFFSET	((dma_addr_t)1 << (sizeof(dma_addr_t) * 8 - 4))

/* The largest range that the ops map. */
#define OPS_MAX		SZ_64K

/* What the ops were called with last, and how often. */
static struct {
	struct device *dev;
	dma_addr_t addr;
	size_t size;
	enum dma_data_direction dir;
	unsigned long attrs;
	unsigned int maps, unmaps, for_cpu, for_device;
	bool fail;
} ops_calls;

static void ops_record(struct device *dev, dma_addr_t addr, size_t size,
		       enum dma_data_direction dir, unsigned long attrs)
{
	ops_calls.dev = dev;
	ops_calls.addr = addr;
	ops_calls.size = size;
	ops_calls.dir = dir;
	ops_calls.attrs = attrs;
}

static dma_addr_t ops_map_phys(struct device *dev, phys_addr_t phys,
			       size_t size, enum dma_data_direction dir,
			       unsigned long attrs)
{
	ops_calls.maps++;
	ops_record(dev, phys + OPS_OFFSET, size, dir, attrs);
	return ops_calls.fail || size > OPS_MAX ? DMA_MAPPING_ERROR :
						  phys + OPS_OFFSET;
}

static void ops_unmap_phys(struct device *dev, dma_addr_t addr, size_t size,
			   enum dma_data_direction dir, unsigned long attrs)
{
	ops_calls.unmaps++;
	ops_record(dev, addr, size, dir, attrs);
}

static void ops_sync_for_cpu(struct device *dev, dma_addr_t addr, size_t size,
			     enum dma_data_direction dir)
{
	ops_calls.for_cpu++;
	ops_record(dev, addr, size, dir, 0);
}

static void ops_sync_for_device(struct device *dev, dma_addr_t addr,
				size_t size, enum dma_data_direction dir)
{
	ops_calls.for_device++;
	ops_record(dev, addr, size, dir, 0);
}

static size_t ops_max_mapping_size(struct device *dev)
{
	return OPS_MAX;
}

static const struct dma_map_ops ops_all = {
	.map_phys = ops_map_phys,
	.unmap_phys = ops_unmap_phys,
	.sync_single_for_cpu = ops_sync_for_cpu,
	.sync_single_for_device = ops_sync_for_device,
	.max_mapping_size = ops_max_mapping_size,
};

/* Nothing has to be unmapped or synced. */
static const struct dma_map_ops ops_map_only = { .map_phys = ops_map_phys };

static const struct dma_map_ops ops_none;

static void ops_set(struct kunit *test, const struct dma_map_ops *ops)
{
	if (!IS_ENABLED(CONFIG_ARCH_HAS_DMA_OPS))
		kunit_skip(test, "built without legacy dma_map_ops");
	if (use_dma_iommu(edu.dev))
		kunit_skip(test, "an IOMMU translates for the device");
	memset(&ops_calls, 0, sizeof(ops_calls));
	edu_set_ops(ops);
}

static void ops_expect_call(struct kunit *test, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir, unsigned long attrs)
{
	KUNIT_EXPECT_PTR_EQ(test, ops_calls.dev, edu.dev);
	KUNIT_EXPECT_EQ(test, ops_calls.addr, addr);
	KUNIT_EXPECT_EQ(test, ops_calls.size, size);
	KUNIT_EXPECT_EQ(test, ops_calls.dir, dir);
	KUNIT_EXPECT_EQ(test, ops_calls.attrs & ~DMA_ATTR_NO_WARN, attrs);
}

static void ops_are_called(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	dma_addr_t addr = virt_to_phys(buf) + OPS_OFFSET;
	struct dma_phys_map *map;

	ops_set(test, &ops_all);
	dev_assign_dma_skip_sync(edu.dev, false);
	map = edu_map(test, buf, 1000, DMA_BIDIRECTIONAL, 0);
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_OPS);
	KUNIT_EXPECT_EQ(test, map->addr, addr);
	ops_expect_call(test, addr, 1000, DMA_BIDIRECTIONAL, 0);

	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 10, 20), 0);
	ops_expect_call(test, addr + 10, 20, DMA_BIDIRECTIONAL, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 30, 40), 0);
	ops_expect_call(test, addr + 30, 40, DMA_BIDIRECTIONAL, 0);
	dma_phys_unmap(map);
	ops_expect_call(test, addr, 1000, DMA_BIDIRECTIONAL, 0);

	KUNIT_EXPECT_EQ(test, ops_calls.maps, 1);
	KUNIT_EXPECT_EQ(test, ops_calls.for_cpu, 1);
	KUNIT_EXPECT_EQ(test, ops_calls.for_device, 1);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 1);
}

/* Unmap has the attributes of map. */
static void ops_get_attributes(struct kunit *test)
{
	struct mmio_phys mmio = edu_own_mmio(test, 16, 32);
	struct dma_phys_map *map = edu_handle(test);
	u8 *buf = edu_pages(test, 0);

	ops_set(test, &ops_all);
	dma_phys_unmap(edu_map(test, buf, 8, DMA_TO_DEVICE,
			       DMA_PHYS_SKIP_CPU_SYNC));
	ops_expect_call(test, virt_to_phys(buf) + OPS_OFFSET, 8, DMA_TO_DEVICE,
			DMA_ATTR_SKIP_CPU_SYNC);
	dma_phys_unmap_nosync(edu_map(test, buf, 8, DMA_FROM_DEVICE, 0));
	ops_expect_call(test, virt_to_phys(buf) + OPS_OFFSET, 8,
			DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);

	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE,
						0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_OPS);
	ops_expect_call(test, mmio.addr + OPS_OFFSET, 32, DMA_TO_DEVICE,
			DMA_ATTR_MMIO);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 32), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, 32), 0);
	KUNIT_EXPECT_EQ(test, ops_calls.for_cpu + ops_calls.for_device, 0);
	dma_phys_unmap(map);
	ops_expect_call(test, mmio.addr + OPS_OFFSET, 32, DMA_TO_DEVICE,
			DMA_ATTR_MMIO);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 3);
}

/* The ops give no reason. */
static void ops_refuse(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = edu_own_mmio(test, 0, PAGE_SIZE);

	ops_set(test, &ops_all);
	ops_calls.fail = true;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EIO);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EIO);
	KUNIT_EXPECT_EQ(test, ops_calls.maps, 2);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 0);

	set_dma_ops(edu.dev, &ops_none);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EIO);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EIO);
}

static void ops_refuse_size(struct kunit *test)
{
	u8 *buf = edu_pages(test, get_order(2 * OPS_MAX));
	struct cpu_phys range = edu_range(test, buf, OPS_MAX + 1);
	struct mmio_phys mmio = edu_own_mmio(test, 0, 2 * OPS_MAX);

	ops_set(test, &ops_all);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -E2BIG);
	dma_phys_unmap(edu_map(test, buf, OPS_MAX, DMA_TO_DEVICE, 0));

	/* It is not the reason for other refusals. */
	ops_calls.fail = true;
	range.len = OPS_MAX;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EIO);
}

/* Ranges that the ops can map are not merged to one that they cannot. */
static void ops_map_each_range(struct kunit *test)
{
	u8 *buf = edu_pages(test, get_order(2 * OPS_MAX + 1));
	struct cpu_phys ranges[] = {
		edu_range(test, buf, OPS_MAX),
		edu_range(test, buf + OPS_MAX, OPS_MAX - 1),
	};
	struct dma_phys_test_list *list = dma_phys_test_list(test, 4);

	ops_set(test, &ops_all);
	list->count = dma_phys_test_list_map(list, ranges, 2, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, list->count, 2);
	KUNIT_EXPECT_EQ(test, list->sg.route, DMA_PHYS_OPS);
	KUNIT_EXPECT_EQ(test, ops_calls.maps, 2);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 2);

	/* What no segment of the device can be is mapped in parts. */
	dma_set_max_seg_size(edu.dev, OPS_MAX);
	ranges[1].len += 2;
	list->count = dma_phys_test_list_map(list, ranges, 2, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, list->count, 3);
	KUNIT_EXPECT_EQ(test, ops_calls.maps, 5);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 5);

	/* One of them fails: the other is unmapped. */
	dma_set_max_seg_size(edu.dev, 2 * OPS_MAX);
	KUNIT_EXPECT_EQ(test, dma_phys_test_list_map(list, ranges, 2,
						     DMA_TO_DEVICE, 0), -E2BIG);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 6);
}

static void h35_ops_refuse_raw_range(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);

	ops_set(test, &ops_all);
	range.raw = true;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, ops_calls.maps, 0);
}

static void ops_may_be_missing(struct kunit *test)
{
	struct dma_phys_map *map;

	ops_set(test, &ops_map_only);
	map = edu_map(test, edu_pages(test, 0), 100, DMA_BIDIRECTIONAL, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 100), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, 100), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_EQ(test, ops_calls.maps, 1);
}

/* No other unmap is called: that of the new ops did not map it. */
static void h11_ops_changed(struct kunit *test)
{
	struct dma_phys_map *map;

	ops_set(test, &ops_all);
	map = edu_map(test, edu_pages(test, 0), 100, DMA_FROM_DEVICE, 0);

	set_dma_ops(edu.dev, NULL);
	edu_unmap_stale(test, map);
	set_dma_ops(edu.dev, &ops_map_only);
	edu_unmap_stale(test, map);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 0);
	KUNIT_EXPECT_EQ(test, ops_calls.for_cpu + ops_calls.for_device, 0);

	set_dma_ops(edu.dev, &ops_all);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 1);
}

static void h11_bounce_then_ops(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	edu_load(test, out, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	ops_set(test, &ops_all);
	edu_unmap_stale(test, map);
	KUNIT_EXPECT_EQ(test, ops_calls.unmaps, 0);
	KUNIT_EXPECT_EQ(test, ops_calls.for_cpu + ops_calls.for_device, 0);
	set_dma_ops(edu.dev, NULL);
	edu_expect_arrives(test, map, in, out);
}

static struct kunit_case ops_cases[] = {
	KUNIT_CASE(ops_are_called),
	KUNIT_CASE(ops_get_attributes),
	KUNIT_CASE(ops_refuse),
	KUNIT_CASE(ops_refuse_size),
	KUNIT_CASE(ops_map_each_range),
	KUNIT_CASE(ops_may_be_missing),
	KUNIT_CASE(h11_ops_changed),
	KUNIT_CASE(h11_bounce_then_ops),
	KUNIT_CASE(h35_ops_refuse_raw_range),
	{ }
};

static struct kunit_suite ops_suite = {
	.name = "dma_phys_ops",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = ops_cases,
};

kunit_test_suite(ops_suite);

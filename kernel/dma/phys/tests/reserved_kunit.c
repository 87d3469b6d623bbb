// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of memory that is not System RAM, or has no place in the linear map. Its
 * user vouches for it with cpu_phys_from_raw(); a device that needs neither
 * cache maintenance nor bounce buffers accesses it, for any other it is refused.
 *
 * dma_phys_kunit.reserved= and dma_phys_kunit.persistent= name what memmap= and
 * mem= left out. Nothing else uses that memory.
 */
#include <linux/dma-map-ops.h>
#include <linux/io.h>
#include <linux/iommu-dma.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/set_memory.h>
#include <linux/swiotlb.h>
#include <linux/uaccess.h>

#include <asm/tlbflush.h>

#include "sg_kunit.h"

#define RESERVED_BYTES	SZ_4M

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys_kunit."
static u64 reserved[4];
static unsigned int reserved_count;
module_param_array(reserved, ullong, &reserved_count, 0);
MODULE_PARM_DESC(reserved, "Addresses of 4 MiB of memory each that is not System RAM");
static u64 persistent;
module_param(persistent, ullong, 0);
MODULE_PARM_DESC(persistent, "Address of 4 MiB of persistent memory");

static void need_reserved(struct kunit *test)
{
	if (!reserved_count)
		kunit_skip(test, "no memory is reserved on this boot");
}

static struct cpu_phys raw_range(struct kunit *test, phys_addr_t addr,
				 size_t len)
{
	struct cpu_phys range = {};

	KUNIT_ASSERT_EQ(test, cpu_phys_from_raw(addr, len, &range), 0);
	KUNIT_EXPECT_EQ(test, range.addr, addr);
	KUNIT_EXPECT_EQ(test, range.len, len);
	KUNIT_EXPECT_TRUE(test, range.raw);
	return range;
}

static void not_system_ram(struct kunit *test, phys_addr_t addr, size_t len)
{
	struct cpu_phys range;

	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_addr(addr, len, &range),
			    -EINVAL, "%pa+%zu", &addr, len);
}

static void reserved_unmap_view(void *view)
{
	memunmap(view);
}

/* A mapping of two pages for the CPU, until the test ends. */
static u8 *reserved_view(struct kunit *test, phys_addr_t addr)
{
	u8 *view = memremap(addr, 2 * PAGE_SIZE, MEMREMAP_WB);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, view);
	err = kunit_add_action_or_reset(test, reserved_unmap_view, view);
	KUNIT_ASSERT_EQ(test, err, 0);
	return view;
}

/* ---- Making ranges ---- */

static void reserved_needs_raw(struct kunit *test)
{
	need_reserved(test);
	for (unsigned int i = 0; i < reserved_count; i++) {
		u64 addr = reserved[i];
		struct resource res = DEFINE_RES_MEM(addr - SZ_1M, SZ_8M);
		struct mmio_phys mmio;
		struct cpu_phys range;
		struct page *page;

		raw_range(test, addr, RESERVED_BYTES);
		raw_range(test, addr + 123, 4567);
		not_system_ram(test, addr, 1);
		not_system_ram(test, addr, RESERVED_BYTES);
		not_system_ram(test, addr + RESERVED_BYTES - 1, 1);

		/* With one byte of the System RAM before it. */
		KUNIT_EXPECT_EQ(test, cpu_phys_from_addr(addr - 1, 1, &range),
				0);
		not_system_ram(test, addr - 1, 2);
		KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(__va(addr - 1), 2,
							 &range), -EINVAL);
		KUNIT_EXPECT_EQ(test, mmio_phys_from_resource(&res, SZ_1M - 1,
							      2, &mmio),
				-EINVAL);

		/* It may have struct pages, and is not System RAM for that. */
		KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(__va(addr), 1, &range),
				-EINVAL);
		if (!pfn_valid(PHYS_PFN(addr)))
			continue;
		page = pfn_to_page(PHYS_PFN(addr));
		KUNIT_EXPECT_EQ(test, cpu_phys_from_page(page, 8, SZ_64K,
							 &range), -EINVAL);
	}
}

static void need_persistent(struct kunit *test)
{
	if (!persistent)
		kunit_skip(test, "no memory is persistent on this boot");
}

static void persistent_is_not_system_ram(struct kunit *test)
{
	need_persistent(test);
	not_system_ram(test, persistent, 1);
	not_system_ram(test, persistent, RESERVED_BYTES);
	not_system_ram(test, persistent - 1, 2);
	not_system_ram(test, persistent + RESERVED_BYTES - 1, 2);
}

/* ---- ZONE_DEVICE ---- */

#ifdef CONFIG_ZONE_DEVICE
static void persistent_remove_pages(void *pgmap)
{
	memunmap_pages(pgmap);
}

/* Add struct pages, same as the driver of a DAX device, until the test ends. */
static struct dev_pagemap *persistent_add_pages(struct kunit *test)
{
	struct dev_pagemap *pgmap = kunit_kzalloc(test, sizeof(*pgmap),
						  GFP_KERNEL);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, pgmap);
	pgmap->type = MEMORY_DEVICE_GENERIC;
	pgmap->nr_range = 1;
	pgmap->range.start = persistent;
	pgmap->range.end = persistent + RESERVED_BYTES - 1;
	err = PTR_ERR_OR_ZERO(memremap_pages(pgmap, NUMA_NO_NODE));
	KUNIT_ASSERT_EQ(test, err, 0);
	err = kunit_add_action_or_reset(test, persistent_remove_pages, pgmap);
	KUNIT_ASSERT_EQ(test, err, 0);
	return pgmap;
}

static void zone_device_page_refused(struct kunit *test, size_t offset,
				     size_t len)
{
	struct page *page = pfn_to_page(PHYS_PFN(persistent));
	struct cpu_phys range;

	KUNIT_EXPECT_EQ(test, cpu_phys_from_page(page, offset, len, &range),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(__va(persistent) + offset, len,
						 &range), -EINVAL);
}

static void zone_device_range(struct kunit *test, size_t offset, size_t len)
{
	struct page *page = pfn_to_page(PHYS_PFN(persistent));
	struct cpu_phys range = {};

	KUNIT_EXPECT_EQ(test, cpu_phys_from_page(page, offset, len, &range), 0);
	KUNIT_EXPECT_EQ(test, range.addr, persistent + offset);
	KUNIT_EXPECT_EQ(test, range.len, len);
	KUNIT_EXPECT_FALSE(test, range.raw);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(__va(persistent) + offset, len,
						 &range), 0);
	KUNIT_EXPECT_EQ(test, range.addr, persistent + offset);
}

/* A range does not leave the struct dev_pagemap. */
static void zone_device_bounds(struct kunit *test)
{
	need_persistent(test);
	persistent_add_pages(test);
	zone_device_range(test, 0, 1);
	zone_device_range(test, 8, SZ_64K);
	zone_device_range(test, 0, RESERVED_BYTES);
	zone_device_range(test, RESERVED_BYTES - 1, 1);
	zone_device_page_refused(test, 0, RESERVED_BYTES + 1);
	zone_device_page_refused(test, RESERVED_BYTES - 1, 2);
	zone_device_page_refused(test, 0, 0);
	zone_device_page_refused(test, 1, SIZE_MAX);
	not_system_ram(test, persistent, 1);
}

/* Pages of a BAR, and pages that the CPU cannot access, are refused. */
static void h08_zone_device_types(struct kunit *test)
{
	static const enum memory_type types[] = {
		MEMORY_DEVICE_PRIVATE, MEMORY_DEVICE_PCI_P2PDMA,
	};
	struct dev_pagemap *pgmap;
	struct cpu_phys range;

	need_persistent(test);
	pgmap = persistent_add_pages(test);
	raw_range(test, persistent, PAGE_SIZE);
	for (int i = 0; i < ARRAY_SIZE(types); i++) {
		pgmap->type = types[i];
		zone_device_page_refused(test, 0, 1);
		KUNIT_EXPECT_EQ(test, cpu_phys_from_raw(persistent, 1, &range),
				-EINVAL);
	}
	pgmap->type = MEMORY_DEVICE_GENERIC;
	zone_device_range(test, 0, 1);
}

/* In both directions and on each route: it has a linear map. */
static void zone_device_bytes_move(struct kunit *test)
{
	u8 *buf = edu_low_page(test), *memory;
	struct dma_phys_map *map;

	need_persistent(test);
	persistent_add_pages(test);
	memory = __va(persistent);
	edu_load(test, memory + 512, EDU_BUF);
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_expect_arrives(test, map, buf, memory + 512);

	memset(memory, POISON, 2 * PAGE_SIZE);
	map = edu_map(test, memory, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_expect_arrives(test, map, memory, buf);
	KUNIT_EXPECT_TRUE(test, edu_untouched(memory + EDU_BUF, 512));
}
#else
static void zone_device_bounds(struct kunit *test)
{
	kunit_skip(test, "built without CONFIG_ZONE_DEVICE");
}

#define h08_zone_device_types	zone_device_bounds
#define zone_device_bytes_move	zone_device_bounds
#endif /* CONFIG_ZONE_DEVICE */

/* ---- Mapping raw ranges ---- */

/* The device accesses a raw range without help of the linear map. */
static bool raw_range_mappable(const struct cpu_phys *range)
{
	enum dma_phys_route route = edu_route(range->addr, range->len);

	return dev_is_dma_coherent(edu.dev) &&
	       (route == DMA_PHYS_DIRECT || route == DMA_PHYS_IOMMU);
}

static struct dma_phys_map *raw_range_map(struct kunit *test,
					  const struct cpu_phys *range,
					  enum dma_data_direction dir,
					  u32 flags)
{
	struct dma_phys_map *map = edu_handle(test);

	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, range, dir, flags, map),
			0);
	KUNIT_EXPECT_EQ(test, map->route, edu_route(range->addr, range->len));
	KUNIT_EXPECT_EQ(test, map->kind, DMA_PHYS_CPU);
	KUNIT_EXPECT_EQ(test, map->size, range->len);
	return map;
}

static void raw_range_refused(struct kunit *test, const struct cpu_phys *range)
{
	edu_refuses(test, range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
	edu_refuses(test, range, DMA_FROM_DEVICE, 0, -EOPNOTSUPP);
	edu_refuses(test, range, DMA_BIDIRECTIONAL, DMA_PHYS_SKIP_CPU_SYNC,
		    -EOPNOTSUPP);
}

/* Map it if the device needs no help, else see it refused. */
static void raw_range_try(struct kunit *test, const struct cpu_phys *range)
{
	if (raw_range_mappable(range))
		dma_phys_unmap(raw_range_map(test, range, DMA_TO_DEVICE, 0));
	else
		raw_range_refused(test, range);
}

static void raw_move_bytes(struct kunit *test, phys_addr_t addr)
{
	struct cpu_phys range = raw_range(test, addr + 512, EDU_BUF);
	u8 *buf = edu_low_page(test), *view = reserved_view(test, addr);
	struct dma_phys_map *map;

	if (!raw_range_mappable(&range)) {
		raw_range_refused(test, &range);
		return;
	}

	edu_load(test, buf, EDU_BUF);
	memset(view, POISON, 2 * PAGE_SIZE);
	map = raw_range_map(test, &range, DMA_FROM_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 1, 1000), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 1, 1000), 0);
	edu_expect_arrives(test, map, view + 512, buf);
	KUNIT_EXPECT_TRUE(test, edu_untouched(view, 512));
	KUNIT_EXPECT_TRUE(test, edu_untouched(view + 512 + EDU_BUF, 512));

	get_random_bytes(view + 512, EDU_BUF);
	map = raw_range_map(test, &range, DMA_TO_DEVICE,
			    DMA_PHYS_SKIP_CPU_SYNC);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap_nosync(map);
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_expect_arrives(test, map, buf, view + 512);
}

static void raw_bytes_move(struct kunit *test)
{
	need_reserved(test);
	for (unsigned int i = 0; i < reserved_count; i++)
		raw_move_bytes(test, reserved[i]);
}

/* A raw range in the middle of a list, the rest of which is System RAM. */
static void raw_bytes_move_in_list(struct kunit *test)
{
	u8 *buf = edu_low_page(test), *in = edu_low_page(test), *view;
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct dma_phys_test_list *to = dma_phys_test_list(test, MAX_SEGMENTS);
	struct cpu_phys ranges[3], dest = edu_range(test, in, 4000);

	need_reserved(test);
	view = reserved_view(test, reserved[0]);
	ranges[0] = edu_range(test, buf, 1000);
	ranges[1] = raw_range(test, reserved[0] + 64, 2000);
	ranges[2] = edu_range(test, buf + 2000, 1000);
	if (!raw_range_mappable(&ranges[1])) {
		KUNIT_EXPECT_EQ(test, dma_phys_test_list_map(list, ranges, 3,
							     DMA_TO_DEVICE, 0),
				-EOPNOTSUPP);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
		return;
	}

	get_random_bytes(buf, PAGE_SIZE);
	get_random_bytes(view + 64, 2000);
	KUNIT_ASSERT_GT(test, dma_phys_test_list_map(list, ranges, 3,
						     DMA_TO_DEVICE, 0), 0);
	dma_phys_test_list_check(test, list, 4000);
	KUNIT_ASSERT_GT(test, dma_phys_test_list_map(to, &dest, 1,
						     DMA_FROM_DEVICE, 0), 0);
	dma_phys_test_list_copy(test, list, to);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&list->sg, 0, 4000), 0);
	dma_phys_sg_unmap(&to->sg);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_MEMEQ(test, in, buf, 1000);
	KUNIT_EXPECT_MEMEQ(test, in + 1000, view + 64, 2000);
	KUNIT_EXPECT_MEMEQ(test, in + 3000, buf + 2000, 1000);
}

static void h35_forced_bounce(struct kunit *test)
{
	u8 *buf = edu_low_page(test);
	struct cpu_phys range = raw_range(test, virt_to_phys(buf), 100);

	edu_force_bounce(test);
	for (unsigned int i = 0; i < reserved_count; i++) {
		struct cpu_phys ranges[] = {
			raw_range(test, reserved[i], PAGE_SIZE),
			raw_range(test, reserved[i] - 1, 2),
			raw_range(test, reserved[i] + RESERVED_BYTES - 1, 1),
		};

		for (int k = 0; k < ARRAY_SIZE(ranges); k++)
			raw_range_refused(test, &ranges[k]);
	}

	/* System RAM is bounced, unless its range is raw. */
	raw_range_refused(test, &range);
	dma_phys_unmap(edu_map(test, buf, 100, DMA_TO_DEVICE, 0));
}

/* Cache maintenance would need the linear map. */
static void h35_not_coherent(struct kunit *test)
{
	struct cpu_phys range;

	need_reserved(test);
	edu_make_incoherent();
	for (unsigned int i = 0; i < reserved_count; i++) {
		range = raw_range(test, reserved[i] + 64, PAGE_SIZE);
		raw_range_try(test, &range);
	}
}

/* The mask is one byte short of the range, then covers it. */
static void h35_out_of_reach(struct kunit *test)
{
	if (use_dma_iommu(edu.dev))
		kunit_skip(test, "an IOMMU serves the device: it reaches all memory");

	need_reserved(test);
	for (unsigned int i = 0; i < reserved_count; i++) {
		struct cpu_phys range = raw_range(test, reserved[i], PAGE_SIZE);

		edu_set_mask(reserved[i] + PAGE_SIZE - 2);
		raw_range_refused(test, &range);
		edu_set_mask(reserved[i] + PAGE_SIZE - 1);
		raw_range_try(test, &range);
	}
}

/* An untrusted device accesses a part of a page in a bounce buffer only. */
static void h35_untrusted_part_of_page(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct cpu_phys range;

	need_reserved(test);
	edu_need_iommu(test);
	edu.pdev->untrusted = true;
	for (unsigned int i = 0; i < reserved_count; i++) {
		range = raw_range(test, reserved[i] + 100, PAGE_SIZE);
		raw_range_refused(test, &range);
		KUNIT_EXPECT_EQ(test, dma_phys_test_list_map(list, &range, 1,
							     DMA_TO_DEVICE, 0),
				-EOPNOTSUPP);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
		range = raw_range(test, reserved[i], PAGE_SIZE);
		dma_phys_unmap(raw_range_map(test, &range, DMA_TO_DEVICE, 0));
	}
}

/* The ranges before the raw one are unmapped again. */
static void h35_list_with_raw_range(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	phys_addr_t phys = virt_to_phys(edu_low_page(test));
	struct dma_phys_range mixed[] = {
		{ .addr = phys, .len = 100 },
		{ .addr = phys + 200, .len = 100, .raw = true },
		{ .addr = phys + 400, .len = 100 },
	};
	struct cpu_phys ranges[3] = {};

	edu_force_bounce(test);
	for (int i = 0; i < ARRAY_SIZE(mixed); i++) {
		ranges[i].addr = mixed[i].addr;
		ranges[i].len = mixed[i].len;
		ranges[i].raw = mixed[i].raw;
	}
	KUNIT_EXPECT_EQ(test, dma_phys_test_list_map(list, ranges, 3,
						     DMA_FROM_DEVICE, 0),
			-EOPNOTSUPP);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	KUNIT_EXPECT_EQ(test, dma_phys_sg_map_ranges(edu.dev, mixed, 3,
						     DMA_TO_DEVICE, 0,
						     list->segments,
						     list->max_segments,
						     &list->sg), -EOPNOTSUPP);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));

	/* The flag of one range is the only obstacle. */
	ranges[1].raw = false;
	KUNIT_EXPECT_EQ(test, dma_phys_test_list_map(list, ranges, 3,
						     DMA_FROM_DEVICE, 0), 3);
	dma_phys_sg_unmap(&list->sg);
}

/* ---- The linear map is never read ---- */

static void linear_map_show(void *page)
{
	set_direct_map_default_noflush(page);
}

/* Until linear_map_show(), each access by the CPU faults. */
static void linear_map_hide(struct kunit *test, struct page *page)
{
	unsigned long virt = (unsigned long)page_address(page);
	bool can_hide = false;
	u8 byte;
	int err;

#ifdef CONFIG_ARCH_HAS_SET_DIRECT_MAP
	can_hide = can_set_direct_map();
#endif
	if (!can_hide)
		kunit_skip(test, "pages cannot be hidden from the linear map");

	err = set_direct_map_invalid_noflush(page);
	KUNIT_ASSERT_EQ(test, err, 0);
	err = kunit_add_action_or_reset(test, linear_map_show, page);
	KUNIT_ASSERT_EQ(test, err, 0);
	flush_tlb_kernel_range(virt, virt + PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, copy_from_kernel_nofault(&byte, (void *)virt, 1),
			-EFAULT);
}

static void linear_map_is_not_read(struct kunit *test)
{
	u8 *buf = edu_low_page(test), *hidden = edu_low_page(test);
	struct page *page = virt_to_page(hidden);
	struct cpu_phys range, raw;
	struct dma_phys_map *map;

	edu_load(test, buf, EDU_BUF);
	linear_map_hide(test, page);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_page(page, 0, EDU_BUF, &range), 0);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_addr(page_to_phys(page), EDU_BUF,
						 &range), 0);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(hidden, EDU_BUF, &range), 0);
	raw = raw_range(test, page_to_phys(page), EDU_BUF);
	if (!raw_range_mappable(&raw))
		return;

	dma_phys_unmap(raw_range_map(test, &raw, DMA_BIDIRECTIONAL, 0));
	map = raw_range_map(test, &range, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	dma_phys_unmap(map);
	kunit_release_action(test, linear_map_show, page);
	KUNIT_EXPECT_MEMEQ(test, hidden, buf, EDU_BUF);
}

/* Reserved pages of System RAM have a linear map: they can be bounced. */
static void zero_page_bounces(struct kunit *test)
{
	phys_addr_t zeroes = page_to_phys(ZERO_PAGE(0));
	struct dma_phys_map *map = edu_handle(test);
	u8 *in = edu_low_page(test);
	struct cpu_phys range;

	KUNIT_EXPECT_TRUE(test, PageReserved(ZERO_PAGE(0)));
	KUNIT_ASSERT_EQ(test, cpu_phys_from_page(ZERO_PAGE(0), 0, PAGE_SIZE,
						 &range), 0);
	KUNIT_EXPECT_FALSE(test, range.raw);
	if (is_swiotlb_active(edu.dev) && !use_dma_iommu(edu.dev))
		edu_force_bounce(test);
	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE,
					       0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, edu_route(zeroes, PAGE_SIZE));
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);

	memset(in, POISON, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_expect_arrives(test, map, in, page_address(ZERO_PAGE(0)));
}

static struct kunit_case reserved_cases[] = {
	KUNIT_CASE(reserved_needs_raw),
	KUNIT_CASE(persistent_is_not_system_ram),
	KUNIT_CASE(zone_device_bounds),
	KUNIT_CASE(h08_zone_device_types),
	KUNIT_CASE(zone_device_bytes_move),
	KUNIT_CASE(raw_bytes_move),
	KUNIT_CASE(raw_bytes_move_in_list),
	KUNIT_CASE(h35_forced_bounce),
	KUNIT_CASE(h35_not_coherent),
	KUNIT_CASE(h35_out_of_reach),
	KUNIT_CASE(h35_untrusted_part_of_page),
	KUNIT_CASE(h35_list_with_raw_range),
	KUNIT_CASE(linear_map_is_not_read),
	KUNIT_CASE(zero_page_bounces),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite reserved_suite = {
	.name = "dma_phys_reserved",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = reserved_cases,
};

kunit_test_suite(reserved_suite);

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of RAM that the command line keeps from the kernel: it is RAM, the
 * device reaches it where nothing has to touch it by a kernel address, and
 * nothing does.
 *
 * dma_phys_kunit.kept= says where it is; nobody else uses it then.
 */
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/iommu-dma.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/swiotlb.h>

#ifdef CONFIG_X86
#include <asm/e820/api.h>
#endif

#include "internal.h"
#include "vec_kunit.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys_kunit."
static unsigned long long taken;
module_param(taken, ullong, 0);
MODULE_PARM_DESC(taken, "Where the command line makes 4 MiB of RAM persistent");

static void need_kept(struct kunit *test)
{
	if (!edu_kept_count)
		kunit_skip(test, "no memory is kept from the kernel on this boot");
}

static struct cpu_phys range_at(struct kunit *test, phys_addr_t addr,
				size_t len)
{
	struct cpu_phys range = {};

	KUNIT_ASSERT_EQ_MSG(test, cpu_phys_from_addr(addr, len, &range), 0,
			    "%pa+%zu", &addr, len);
	KUNIT_EXPECT_EQ(test, range.addr, addr);
	KUNIT_EXPECT_EQ(test, range.len, len);
	return range;
}

static void refused(struct kunit *test, phys_addr_t addr, size_t len)
{
	struct cpu_phys range;

	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_addr(addr, len, &range),
			    -EINVAL, "%pa+%zu", &addr, len);
}

static void put_view(void *view)
{
	memunmap(view);
}

/* What the CPU sees of it, until the test ends. */
static u8 *view(struct kunit *test, phys_addr_t addr)
{
	u8 *p = memremap(addr, 2 * PAGE_SIZE, MEMREMAP_WB);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, p);
	err = kunit_add_action_or_reset(test, put_view, p);
	KUNIT_ASSERT_EQ(test, err, 0);
	return p;
}

static void kept_is_memory(struct kunit *test)
{
	need_kept(test);
	for (unsigned int i = 0; i < edu_kept_count; i++) {
		u64 at = edu_kept[i];

		range_at(test, at, 1);
		range_at(test, at, EDU_KEPT_BYTES);
		range_at(test, at + 123, 4567);
		range_at(test, at + EDU_KEPT_BYTES - 1, 1);

		/* Together with RAM that the kernel has. */
		range_at(test, at - 1, 2);
		range_at(test, at - PAGE_SIZE, 3 * PAGE_SIZE);

		KUNIT_EXPECT_FALSE(test, dma_phys_in_direct_map(at, 1));
		KUNIT_EXPECT_TRUE(test, dma_phys_in_direct_map(at - 1, 1));
		KUNIT_EXPECT_FALSE(test, dma_phys_in_direct_map(at - 1, 2));
	}
}

/* It may have pages, but no kernel address, and is no device memory. */
static void kept_is_nothing_else(struct kunit *test)
{
	need_kept(test);
	for (unsigned int i = 0; i < edu_kept_count; i++) {
		u64 at = edu_kept[i];
		struct resource res = DEFINE_RES_MEM(at - SZ_1M, SZ_8M);
		struct mmio_phys mmio;
		struct cpu_phys range;

		KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(__va(at), 1, &range),
				-EINVAL);
		KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(__va(at - 1), 2,
							 &range), -EINVAL);
		KUNIT_EXPECT_EQ(test, mmio_phys_from_resource(&res, SZ_1M, 1,
							      &mmio), -EINVAL);
		KUNIT_EXPECT_EQ(test, mmio_phys_from_resource(&res, 0, SZ_8M,
							      &mmio), -EINVAL);
		if (!pfn_valid(PHYS_PFN(at)))
			continue;
		KUNIT_EXPECT_EQ(test, cpu_phys_from_page(phys_to_page(at), 8,
							 SZ_64K, &range), 0);
		KUNIT_EXPECT_EQ(test, range.addr, at + 8);
	}
}

/* What the command line makes of RAM, besides keeping it. */
static void persistent_memory_is_refused(struct kunit *test)
{
	if (!taken)
		kunit_skip(test, "no memory is made persistent on this boot");

	refused(test, taken, 1);
	refused(test, taken, SZ_4M);
	refused(test, taken - 1, 2);
	refused(test, taken + SZ_4M - 1, 2);
}

/* All that the firmware has for itself, and what begins or ends there. */
static void firmware_is_refused(struct kunit *test)
{
#ifdef CONFIG_X86
	unsigned int found = 0;

	for (u32 i = 0; i < e820_table_firmware->nr_entries; i++) {
		struct e820_entry *entry = &e820_table_firmware->entries[i];

		if (entry->type == E820_TYPE_RAM || !entry->size)
			continue;
		found++;
		refused(test, entry->addr, 1);
		refused(test, entry->addr, entry->size);
		refused(test, entry->addr - 1, 2);
		refused(test, entry->addr + entry->size - 1, 2);
	}
	KUNIT_EXPECT_GT(test, found, 0);
	refused(test, 0, PAGE_SIZE);
#else
	kunit_skip(test, "no firmware's map is known");
#endif
}

/* Where the kernel was told of no RAM it may put a device. */
static void device_is_refused(struct kunit *test)
{
	need_kept(test);
	for (unsigned int i = 0; i < edu_kept_count; i++) {
		struct resource res = DEFINE_RES_MEM_NAMED(edu_kept[i],
							   EDU_KEPT_BYTES,
							   "dma_phys_kunit");

		KUNIT_ASSERT_EQ(test, insert_resource(&iomem_resource, &res),
				0);
		/* Where more is reserved, it is below that, and not seen. */
		if (res.parent == &iomem_resource) {
			refused(test, edu_kept[i], 1);
			refused(test, edu_kept[i] - 1, 2);
			refused(test, edu_kept[i] + 100, PAGE_SIZE);
		}
		remove_resource(&res);
		range_at(test, edu_kept[i], EDU_KEPT_BYTES);
	}
}

/* Who uses it may say so, as drivers do. */
static void claim_is_no_device(struct kunit *test)
{
	need_kept(test);
	for (unsigned int i = 0; i < edu_kept_count; i++) {
		u64 at = edu_kept[i] + PAGE_SIZE;

		if (!request_mem_region(at, PAGE_SIZE, "dma_phys_kunit"))
			continue;
		range_at(test, at, PAGE_SIZE);
		range_at(test, at - 1, PAGE_SIZE + 2);
		release_mem_region(at, PAGE_SIZE);
	}
}

/* The range mapped as the machine can; NULL where it must be, and is refused. */
static struct dma_phys_map *map_kept(struct kunit *test,
				     const struct cpu_phys *range,
				     enum dma_data_direction dir, u32 flags)
{
	struct dma_phys_map *map = edu_handle(test);
	enum dma_phys_route route = edu_route(range->addr, range->len);

	if (route == DMA_PHYS_BOUNCE) {
		edu_refuses(test, range, dir, flags, -ERANGE);
		return NULL;
	}

	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, range, dir, flags, map),
			0);
	KUNIT_EXPECT_EQ(test, map->route, route);
	return map;
}

static void move_bytes(struct kunit *test, phys_addr_t at)
{
	struct cpu_phys range = range_at(test, at + 512, EDU_BUF);
	u8 *out = edu_low_page(test), *p = view(test, at);
	struct dma_phys_map *map, *ram;

	get_random_bytes(out, EDU_BUF);
	ram = edu_map(test, out, EDU_BUF, DMA_TO_DEVICE, 0);
	edu_pull(test, ram->addr, EDU_BUF);
	dma_phys_unmap(ram);

	memset(p, POISON, 2 * PAGE_SIZE);
	map = map_kept(test, &range, DMA_FROM_DEVICE, 0);
	if (!map)
		return;
	edu_push(test, map->addr, EDU_BUF);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 1, 1000), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 1, 1000), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, p + 512, out, EDU_BUF);
	KUNIT_EXPECT_EQ(test, p[511], POISON);
	KUNIT_EXPECT_EQ(test, p[512 + EDU_BUF], POISON);

	/* And out of it. */
	get_random_bytes(p + 512, EDU_BUF);
	map = map_kept(test, &range, DMA_TO_DEVICE, DMA_PHYS_MANUAL_SYNC);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	ram = edu_map(test, out, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, ram->addr, EDU_BUF);
	dma_phys_unmap(ram);
	KUNIT_EXPECT_MEMEQ(test, out, p + 512, EDU_BUF);
}

static void bytes_move(struct kunit *test)
{
	need_kept(test);
	for (unsigned int i = 0; i < edu_kept_count; i++)
		move_bytes(test, edu_kept[i]);
}

/* One that is forced to bounce, or does not reach that far. */
static void never_bounced(struct kunit *test)
{
	u8 *buf = edu_low_page(test);

	need_kept(test);
	edu_force_bounce(test);
	for (unsigned int i = 0; i < edu_kept_count; i++) {
		struct cpu_phys all[] = {
			range_at(test, edu_kept[i], PAGE_SIZE),
			range_at(test, edu_kept[i] - 1, 2),
			range_at(test, edu_kept[i] + EDU_KEPT_BYTES - 1, 1),
		};

		for (int k = 0; k < ARRAY_SIZE(all); k++) {
			edu_refuses(test, &all[k], DMA_TO_DEVICE, 0, -ERANGE);
			edu_refuses(test, &all[k], DMA_FROM_DEVICE,
				    DMA_PHYS_MANUAL_SYNC, -ERANGE);
		}
	}

	/* Memory that the kernel has does bounce. */
	dma_phys_unmap(edu_map(test, buf, PAGE_SIZE, DMA_TO_DEVICE, 0));
}

/* An untrusted device sees parts of pages through slots only. */
static void untrusted_part_of_page(struct kunit *test)
{
	struct cpu_phys range;

	need_kept(test);
	edu_need_iommu(test);
	edu.pdev->untrusted = true;
	for (unsigned int i = 0; i < edu_kept_count; i++) {
		range = range_at(test, edu_kept[i] + 100, PAGE_SIZE);
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
		range = range_at(test, edu_kept[i], PAGE_SIZE);
		dma_phys_unmap(map_kept(test, &range, DMA_TO_DEVICE, 0));
	}
}

/* In a vec, with memory that the kernel has. */
static void vec_bytes_move(struct kunit *test)
{
	u8 *low = edu_low_page(test), *in = edu_low_page(test), *p;
	struct dma_phys_vec *vec = vec_empty(test, ROOM), *to;
	struct cpu_phys ranges[2], back;
	int err;

	need_kept(test);
	p = view(test, edu_kept[0]);
	ranges[0] = edu_range(test, low, 1000);
	ranges[1] = range_at(test, edu_kept[0] + 64, 2000);
	get_random_bytes(low, 1000);
	get_random_bytes(p + 64, 2000);

	err = dma_phys_vec_map_cpu(edu.dev, ranges, 2, DMA_TO_DEVICE, 0, vec);
	if (edu_route(ranges[1].addr, 2000) == DMA_PHYS_BOUNCE) {
		KUNIT_EXPECT_EQ(test, err, -ERANGE);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
		return;
	}
	KUNIT_ASSERT_EQ(test, err, 0);
	vec_check(test, vec, 3000);

	back = edu_range(test, in, 3000);
	to = vec_empty(test, ROOM);
	KUNIT_ASSERT_EQ(test, dma_phys_vec_map_cpu(edu.dev, &back, 1,
						   DMA_FROM_DEVICE, 0, to), 0);
	vec_carry(test, vec, to);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_cpu(vec, 0, 3000), 0);
	dma_phys_vec_unmap(to);
	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_MEMEQ(test, in, low, 1000);
	KUNIT_EXPECT_MEMEQ(test, in + 1000, p + 64, 2000);
}

/* Pages that the page allocator never had, in the direct map: copied as any. */
static void reserved_pages_bounce(struct kunit *test)
{
	phys_addr_t zeroes = page_to_phys(ZERO_PAGE(0));
	struct cpu_phys range = range_at(test, zeroes, PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);
	u8 *in = edu_low_page(test);

	KUNIT_EXPECT_TRUE(test, PageReserved(ZERO_PAGE(0)));
	if (is_swiotlb_active(edu.dev) && !use_dma_iommu(edu.dev))
		edu_force_bounce(test);
	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE,
					       0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, edu_route(zeroes, PAGE_SIZE));
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);

	memset(in, POISON, EDU_BUF);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_NULL(test, memchr_inv(in, 0, EDU_BUF));
}

static struct kunit_case kept_cases[] = {
	KUNIT_CASE(kept_is_memory),
	KUNIT_CASE(kept_is_nothing_else),
	KUNIT_CASE(persistent_memory_is_refused),
	KUNIT_CASE(firmware_is_refused),
	KUNIT_CASE(device_is_refused),
	KUNIT_CASE(claim_is_no_device),
	KUNIT_CASE(bytes_move),
	KUNIT_CASE(never_bounced),
	KUNIT_CASE(untrusted_part_of_page),
	KUNIT_CASE(vec_bytes_move),
	KUNIT_CASE(reserved_pages_bounce),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite kept_suite = {
	.name = "dma_phys_kept",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = kept_cases,
};

kunit_test_suite(kept_suite);

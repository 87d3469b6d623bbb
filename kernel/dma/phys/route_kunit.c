// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of route.c: the route follows from facts, is written down, and is
 * undone from what was written.
 */
#include <kunit/device.h>
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/platform_device.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>

#include "edu_kunit.h"
#include "internal.h"

#define POISON	0x5a

/* The handle's address and its route tell the same story. */
static void expect_address(struct kunit *test, const struct dma_phys_map *map,
			   phys_addr_t phys)
{
	phys_addr_t at = dma_to_phys(map->dev, map->addr);

	switch (map->route) {
	case DMA_PHYS_DIRECT:
		KUNIT_EXPECT_EQ(test, at, phys);
		break;
	case DMA_PHYS_BOUNCE:
		KUNIT_EXPECT_NE(test, at, phys);
		KUNIT_EXPECT_NOT_NULL(test, swiotlb_find_pool(map->dev, at));
		break;
	case DMA_PHYS_IOMMU:
		KUNIT_EXPECT_EQ(test, edu_translate(map->addr), phys);
		KUNIT_EXPECT_EQ(test, edu_translate(map->addr + map->size - 1),
				phys + map->size - 1);
		KUNIT_EXPECT_LE(test, map->addr + map->size - 1,
				dma_get_mask(map->dev));
		break;
	default:
		KUNIT_FAIL(test, "route %d", map->route);
	}
}

/* Bytes of @out, which the device has, arrive at @in through @map. */
static void expect_arrives(struct kunit *test, struct dma_phys_map *map,
			   const u8 *in, const u8 *out)
{
	edu_push(test, map->addr, map->size);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_MEMEQ(test, in, out, EDU_BUF);
}

/* Random bytes for the device; @p has them too. */
static void load(struct kunit *test, u8 *p)
{
	struct dma_phys_map *map;

	get_random_bytes(p, EDU_BUF);
	map = edu_map(test, p, EDU_BUF, DMA_TO_DEVICE, 0);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
}

static void natural_route(struct kunit *test)
{
	u8 *buf = edu_pages(test, 1);
	struct dma_phys_map *map;
	dma_addr_t addr;

	map = edu_map(test, buf, 2 * PAGE_SIZE, DMA_FROM_DEVICE, 0);
	expect_address(test, map, virt_to_phys(buf));
	addr = map->addr;
	dma_phys_unmap(map);

	/* The page table is empty at once; only caches of it may lag. */
	if (use_dma_iommu(edu.dev))
		KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);

	map = edu_map(test, buf + 100, 1000, DMA_TO_DEVICE, 0);
	expect_address(test, map, virt_to_phys(buf) + 100);
	dma_phys_unmap(map);
}

static void forced_bounce(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	load(test, out);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_BOUNCE);
	expect_address(test, map, virt_to_phys(in));
	expect_arrives(test, map, in, out);
}

/* A page that lies above the bounce slots, NULL where there is none. */
static u8 *page_above_slots(struct kunit *test)
{
	for (int i = 0; i < 2000; i++) {
		u8 *page = edu_pages(test, 0);

		if (virt_to_phys(page) >= edu.dev->dma_io_tlb_mem->defpool.end)
			return page;
	}
	return NULL;
}

/* Nothing is forced: the device just does not reach that far. */
static void bounce_where_out_of_reach(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in;
	struct dma_phys_map *map;

	if (use_dma_iommu(edu.dev) || !is_swiotlb_active(edu.dev))
		kunit_skip(test, "no bounce slots for the device on this boot");
	in = page_above_slots(test);
	if (!in)
		kunit_skip(test, "no memory above the bounce slots");

	load(test, out);
	edu.dev->bus_dma_limit = edu.dev->dma_io_tlb_mem->defpool.end - 1;
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_BOUNCE);
	expect_address(test, map, virt_to_phys(in));
	expect_arrives(test, map, in, out);
}

/* The last byte decides, not the first. */
static void direct_up_to_the_limit(struct kunit *test)
{
	u8 *buf = edu_low_page(test);
	struct cpu_phys range = edu_range(test, buf, PAGE_SIZE);
	struct dma_phys_map *map;

	if (edu_route(range.addr, range.len) != DMA_PHYS_DIRECT)
		kunit_skip(test, "no direct route on this boot");

	edu_forbid_bounce();
	edu.dev->bus_dma_limit = phys_to_dma(edu.dev, range.addr) + 99;
	map = edu_map(test, buf, 100, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_DIRECT);
	dma_phys_unmap(map);
	range.len = 101;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

/* The device asked for these address bits to stay as they are. */
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

/* More alignment than the IOMMU has: refused, where the kernel would warn. */
static void h30_more_alignment_than_granule(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);

	edu_need_iommu(test);
	dma_set_min_align_mask(edu.dev, SZ_2M - 1);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
}

/* More than any slot keeps: the kernel would search all slots, in vain. */
static void h30_more_alignment_than_slot(struct kunit *test)
{
	static const unsigned int masks[] = {
		SZ_256K - 1, SZ_512K - 1, SZ_2M - 1, U32_MAX,
	};
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	size_t room;

	edu_force_bounce(test);
	for (int i = 0; i < ARRAY_SIZE(masks); i++) {
		dma_set_min_align_mask(edu.dev, masks[i]);
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
		room = dma_phys_vec_room(edu.dev, 3, PAGE_SIZE);
		KUNIT_EXPECT_GE(test, room, 6);
	}

	/* The last one that works. */
	dma_set_min_align_mask(edu.dev, SZ_128K - 1);
	dma_phys_unmap(edu_map(test, phys_to_virt(range.addr), PAGE_SIZE,
			       DMA_TO_DEVICE, 0));
}

/* As many maps of @len bytes as there is room for, then what comes of one more. */
static void use_up(struct kunit *test, size_t len, unsigned int most)
{
	u8 *buf = edu_pages(test, get_order(len));
	struct cpu_phys range = edu_range(test, buf, len);
	struct dma_phys_map *maps;
	unsigned int n;
	int err = 0;

	maps = kunit_kcalloc(test, most, sizeof(*maps), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, maps);
	for (n = 0; n < most; n++) {
		err = dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE, 0,
				       &maps[n]);
		if (err)
			break;
	}
	KUNIT_EXPECT_EQ(test, err, -EAGAIN);
	KUNIT_EXPECT_GT(test, n, 1);
	if (n < most)
		KUNIT_EXPECT_TRUE(test, edu_empty(&maps[n]));
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EAGAIN);

	while (n)
		dma_phys_unmap(&maps[--n]);
	msleep(50);
	dma_phys_unmap(edu_map(test, buf, len, DMA_TO_DEVICE, 0));
}

static void slots_used_up(struct kunit *test)
{
	edu_force_bounce(test);
	use_up(test, SZ_256K,
	       edu.dev->dma_io_tlb_mem->nslabs / IO_TLB_SEGSIZE + 1);
}

static void iova_used_up(struct kunit *test)
{
	edu_need_iommu(test);
	edu_set_mask(DMA_BIT_MASK(28));
	use_up(test, SZ_4M, SZ_256M / SZ_4M + 1);
}

static void h04_larger_than_swiotlb(struct kunit *test)
{
	size_t max = swiotlb_max_mapping_size(edu.dev);
	const size_t too_long[] = {
		max + 1, SZ_1M, SZ_1G, SZ_4G, SZ_4G + IO_TLB_SIZE, SZ_8G,
		8ULL << 40, (8ULL << 40) + IO_TLB_SIZE, 1ULL << 43, 1ULL << 62,
	};
	u8 *buf = edu_pages(test, get_order(max));
	struct cpu_phys range = edu_range(test, buf, max);
	struct dma_phys_map *map;
	u8 *out = edu_pages(test, 0);

	edu_force_bounce(test);
	for (int i = 0; i < ARRAY_SIZE(too_long); i++) {
		range.len = too_long[i];
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
		edu_refuses(test, &range, DMA_FROM_DEVICE, DMA_PHYS_MANUAL_SYNC,
			    -E2BIG);
	}

	/* The longest one works, up to its end. */
	load(test, out);
	map = edu_map(test, buf, max, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr + max - EDU_BUF, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, buf + max - EDU_BUF, out, EDU_BUF);
}

/* No slot keeps so many address bits: refused, and no arithmetic goes wrong. */
static void h30_slots_cannot_align(struct kunit *test)
{
	static const struct { u64 align; u64 boundary; } cases[] = {
		{ SZ_256K - 1, U32_MAX }, { SZ_1M - 1, U32_MAX },
		{ SZ_2G - 1, U32_MAX }, { U32_MAX, U32_MAX },
		{ SZ_64K - 1, SZ_4K - 1 },
	};
	unsigned long boundary = dma_get_seg_boundary(edu.dev);
	const size_t lens[] = { 1, PAGE_SIZE, SZ_1M, 1ULL << 43 };
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), 1);

	edu_force_bounce(test);
	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		dma_set_min_align_mask(edu.dev, cases[i].align);
		dma_set_seg_boundary(edu.dev, cases[i].boundary);
		KUNIT_EXPECT_GE(test, dma_phys_vec_room(edu.dev, 1, PAGE_SIZE),
				1);
		for (int k = 0; k < ARRAY_SIZE(lens); k++) {
			range.len = lens[k];
			edu_refuses(test, &range, DMA_TO_DEVICE, 0,
				    -EOPNOTSUPP);
		}
	}
	dma_set_seg_boundary(edu.dev, boundary);
}

/*
 * What keeps its place between segment boundaries and crosses one has no slot,
 * ever: that is not for want of slots, and a vec cuts it.
 */
static void bounce_across_boundary(struct kunit *test)
{
	unsigned long boundary = dma_get_seg_boundary(edu.dev);
	struct dma_phys_segment segments[8];
	struct dma_phys_vec vec = { .segments = segments,
				    .room = ARRAY_SIZE(segments) };
	u8 *buf = edu_pages(test, 1);
	struct cpu_phys range = edu_range(test, buf + 2048, PAGE_SIZE);
	int err;

	edu_force_bounce(test);
	dma_set_min_align_mask(edu.dev, PAGE_SIZE - 1);
	dma_set_seg_boundary(edu.dev, PAGE_SIZE - 1);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
	dma_phys_unmap(edu_map(test, buf + 2048, 2048, DMA_TO_DEVICE, 0));

	err = dma_phys_vec_map_cpu(edu.dev, &range, 1, DMA_TO_DEVICE, 0, &vec);
	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, vec.size, PAGE_SIZE);
	dma_phys_vec_unmap(&vec);
	dma_set_seg_boundary(edu.dev, boundary);
}

static void h04_larger_than_iova_space(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	const size_t too_long[] = { SZ_256M, SZ_4G, SZ_8G, 1ULL << 62 };

	edu_need_iommu(test);
	edu_set_mask(DMA_BIT_MASK(28));
	for (int i = 0; i < ARRAY_SIZE(too_long); i++) {
		range.len = too_long[i];
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
	}
}

static void h06_beyond_mask(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };
	u64 addr = phys_to_dma(edu.dev, range.addr);

	if (use_dma_iommu(edu.dev))
		kunit_skip(test, "an IOMMU puts everything within the mask");

	edu_forbid_bounce();
	edu_set_mask(SZ_64K - 1);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -ERANGE);
	edu_set_mask(addr - 1);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
	edu_set_mask(addr + PAGE_SIZE - 2);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
	edu_set_mask(DMA_BIT_MASK(64));
	edu.dev->bus_dma_limit = addr - 1;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);

	/* Where the machine's memory ends, whatever the mask. */
	range.addr = PHYS_ADDR_MAX - PAGE_SIZE + 1;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

/* There are slots, but the device does not reach them either. */
static void h06_slots_beyond_mask(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);

	edu_force_bounce(test);
	edu_set_mask(SZ_64K - 1);
	for (int i = 0; i < 100; i++)
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

/* A bounced map is undone as one when the device no longer bounces. */
static void h11_bounce_then_direct(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	edu_force_bounce(test);
	load(test, out);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu.dev->dma_io_tlb_mem->force_bounce = false;
	edu_set_mask(DMA_BIT_MASK(64));
	expect_arrives(test, map, in, out);
}

/* A direct map is undone as one when the device no longer reaches that far. */
static void h11_direct_then_bounce(struct kunit *test)
{
	u8 *out = edu_low_page(test), *in = edu_low_page(test);
	struct dma_phys_map *map;

	if (edu_route(virt_to_phys(in), EDU_BUF) != DMA_PHYS_DIRECT)
		kunit_skip(test, "no direct route on this boot");

	load(test, out);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	if (is_swiotlb_active(edu.dev))
		edu_force_bounce(test);
	edu_set_mask(SZ_64K - 1);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	expect_arrives(test, map, in, out);
}

/* No IOMMU's unmap ever sees an address that is not its own. */
static void h11_direct_then_iommu(struct kunit *test)
{
	u8 *buf = edu_low_page(test);
	struct dma_phys_map *map;

	if (edu_route(virt_to_phys(buf), EDU_BUF) != DMA_PHYS_DIRECT)
		kunit_skip(test, "no direct route on this boot");

	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE, 0);
	dev_set_dma_iommu(edu.dev);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, EDU_BUF), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
}

/*
 * The IOMMU is gone from under a map: it is not undone by another route, and
 * the handle is empty. The IOVA is then still there, which a second handle,
 * kept for that, shows and gives back.
 */
static void h11_iommu_then_direct(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	struct dma_phys_map *map, copy;
	dma_addr_t addr;

	edu_need_iommu(test);
	map = edu_map(test, buf, EDU_BUF, DMA_FROM_DEVICE, 0);
	addr = map->addr;
	copy = *map;

	dev_clear_dma_iommu(edu.dev);
	dma_phys_unmap(&copy);
	KUNIT_EXPECT_TRUE(test, edu_empty(&copy));
	dev_set_dma_iommu(edu.dev);

	KUNIT_EXPECT_EQ(test, edu_translate(addr), virt_to_phys(buf));
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);
}

static void h16_address_zero(struct kunit *test)
{
	struct cpu_phys range = { .addr = 0, .len = PAGE_SIZE };
	struct mmio_phys mmio = { .addr = 0, .len = PAGE_SIZE };

	edu_need_iommu(test);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EINVAL);
	edu_refuses_mmio(test, &mmio, DMA_FROM_DEVICE, -EINVAL);
	range.len = 1;
	edu_refuses(test, &range, DMA_BIDIRECTIONAL, 0, -EINVAL);

	/* Nor in part, which an untrusted device sees through a slot. */
	edu.pdev->untrusted = true;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EINVAL);
}

static void h17_untrusted_mmio(struct kunit *test)
{
	static const struct { u64 offset; size_t len; } cases[] = {
		{ 0, 1 }, { 0, PAGE_SIZE - 1 }, { 1, PAGE_SIZE },
		{ PAGE_SIZE - 1, 1 }, { 512, PAGE_SIZE }, { 0, PAGE_SIZE + 1 },
	};
	struct dma_phys_map *map = edu_handle(test);
	struct mmio_phys mmio;

	edu_need_iommu(test);
	edu.pdev->untrusted = true;
	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		mmio = edu_mmio(test, cases[i].offset, cases[i].len);
		edu_refuses_mmio(test, &mmio, DMA_FROM_DEVICE, -EOPNOTSUPP);
	}

	mmio = edu_mmio(test, PAGE_SIZE, 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_FROM_DEVICE,
						0, map), 0);
	dma_phys_unmap(map);

	/* One that is trusted sees the whole granule, and may. */
	edu.pdev->untrusted = false;
	mmio = edu_mmio(test, 1, 1);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_FROM_DEVICE,
						0, map), 0);
	dma_phys_unmap(map);
}

/* An IOVA for two pages at @phys, in which nothing is linked yet. */
static struct dma_phys_map link_start(struct kunit *test, phys_addr_t phys,
				      struct dma_phys_link *link)
{
	struct dma_phys_map map = {
		.dev = edu.dev,
		.size = 2 * PAGE_SIZE,
		.dir = DMA_TO_DEVICE,
	};

	edu_need_iommu(test);
	KUNIT_ASSERT_EQ(test, dma_phys_link_start(&map, phys, link), 0);
	return map;
}

/* A run has its place in the allocation: no other, none twice, none beyond. */
static void h18_link_stays_inside(struct kunit *test)
{
	phys_addr_t phys = virt_to_phys(edu_pages(test, 3));
	struct dma_phys_link link;
	struct dma_phys_map map = link_start(test, phys, &link);
	dma_addr_t addr = link.state.addr;

#define REFUSED(phys, len) \
	KUNIT_EXPECT_EQ(test, dma_phys_link_run(&map, &link, phys, len), -EINVAL)
	REFUSED(phys, 2 * PAGE_SIZE + 1);
	REFUSED(phys, SIZE_MAX);
	REFUSED(phys, 0);
	REFUSED(phys + 1, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);

	KUNIT_EXPECT_EQ(test, dma_phys_link_run(&map, &link, phys, PAGE_SIZE),
			0);
	KUNIT_EXPECT_EQ(test, dma_phys_link_end(&map, &link), -EINVAL);
	REFUSED(phys + 4 * PAGE_SIZE, PAGE_SIZE + 1);
	REFUSED(phys + 4 * PAGE_SIZE, SIZE_MAX);
	REFUSED(phys + 4 * PAGE_SIZE + 512, 512);
	KUNIT_EXPECT_EQ(test, edu_translate(addr + PAGE_SIZE), 0);

	/* Half a granule is the last run: the other half is not its own. */
	KUNIT_EXPECT_EQ(test, dma_phys_link_run(&map, &link,
						phys + 4 * PAGE_SIZE, 512), 0);
	REFUSED(phys + 6 * PAGE_SIZE, 512);
	REFUSED(phys + 6 * PAGE_SIZE + 512, 512);
#undef REFUSED
	KUNIT_EXPECT_EQ(test, edu_translate(addr), phys);
	KUNIT_EXPECT_EQ(test, edu_translate(addr + PAGE_SIZE),
			phys + 4 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, edu_translate(addr + 2 * PAGE_SIZE), 0);
	dma_phys_link_undo(&map, &link);
	KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);
	KUNIT_EXPECT_EQ(test, edu_translate(addr + PAGE_SIZE), 0);
}

/* What is undone has no state, and is not undone again. */
static void h18_link_undone_twice(struct kunit *test)
{
	static const struct dma_phys_link nothing;
	phys_addr_t phys = virt_to_phys(edu_pages(test, 1));
	struct dma_phys_link link, other;
	struct dma_phys_map map = link_start(test, phys, &link);

	KUNIT_EXPECT_EQ(test, dma_phys_link_run(&map, &link, phys,
						2 * PAGE_SIZE), 0);
	dma_phys_link_undo(&map, &link);
	KUNIT_EXPECT_MEMEQ(test, &link, &nothing, sizeof(link));

	/* The next one may get the same IOVA: it is not its predecessor's. */
	map = link_start(test, phys, &other);
	KUNIT_EXPECT_EQ(test, dma_phys_link_run(&map, &other, phys,
						2 * PAGE_SIZE), 0);
	dma_phys_link_undo(&map, &link);
	KUNIT_EXPECT_EQ(test, edu_translate(other.state.addr), phys);
	dma_phys_link_undo(&map, &other);
}

/* A copy of a handle is found out, as long as nobody else has its IOVA. */
static void h18_unmapped_twice(struct kunit *test)
{
	u8 *buf = edu_pages(test, 1);
	struct dma_phys_map *map, copy;

	edu_need_iommu(test);
	map = edu_map(test, buf, 2 * PAGE_SIZE, DMA_TO_DEVICE, 0);
	copy = *map;
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	dma_phys_unmap(map);
	dma_phys_unmap(&copy);
	KUNIT_EXPECT_TRUE(test, edu_empty(&copy));
}

/*
 * Beside what the device writes must be nothing in its cache lines. Where the
 * architecture has no device but coherent ones, the rule is all there is.
 */
static void h28_shared_cache_lines(struct kunit *test)
{
	static const struct { u64 addr, len; bool shares; } cases[] = {
		{ 0, 64, false }, { 0, 128, false }, { 4096, 4096, false },
		{ 64, 64, false }, { 0, 63, true }, { 1, 64, true },
		{ 1, 63, true }, { 32, 64, true }, { 32, 32, true },
		{ 0, 96, true }, { U64_MAX - 63, 64, false },
	};
	struct cpu_phys range = edu_range(test, edu_low_page(test), PAGE_SIZE);

	for (int i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ_MSG(test,
				    dma_phys_shares_line(cases[i].addr,
							 cases[i].len, 64),
				    cases[i].shares, "%llx+%llx",
				    cases[i].addr, cases[i].len);
	KUNIT_EXPECT_FALSE(test, dma_phys_shares_line(7, 7, 1));

	dev_assign_dma_coherent(edu.dev, false);
	if (dev_is_dma_coherent(edu.dev) ||
	    edu_route(range.addr, range.len) == DMA_PHYS_BOUNCE)
		return;
	range.len--;
	edu_refuses(test, &range, DMA_FROM_DEVICE, 0, -EINVAL);
	edu_refuses(test, &range, DMA_BIDIRECTIONAL, DMA_PHYS_MANUAL_SYNC,
		    -EINVAL);
	range.addr++;
	edu_refuses(test, &range, DMA_FROM_DEVICE, 0, -EINVAL);
	dma_phys_unmap(edu_map(test, phys_to_virt(range.addr), range.len,
			       DMA_TO_DEVICE, 0));
}

/* Random bytes in all slots that are free, as a busy machine has there. */
static void soil_slots(struct kunit *test)
{
	size_t len = IO_TLB_SIZE * IO_TLB_SEGSIZE;
	u8 *random = edu_pages(test, get_order(len));
	unsigned long n, most = edu.dev->dma_io_tlb_mem->nslabs / IO_TLB_SEGSIZE;
	unsigned long attrs = DMA_ATTR_NO_WARN;
	phys_addr_t *slots;

	slots = kunit_kmalloc_array(test, most, sizeof(*slots), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, slots);
	get_random_bytes(random, len);
	for (n = 0; n < most; n++) {
		slots[n] = swiotlb_tbl_map_single(edu.dev, virt_to_phys(random),
						  len, 0, DMA_TO_DEVICE, &attrs);
		if (slots[n] == (phys_addr_t)DMA_MAPPING_ERROR)
			break;
	}
	while (n)
		swiotlb_tbl_unmap_single(edu.dev, slots[--n], len,
					 DMA_TO_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
}

/*
 * An untrusted device sees a part of a page through a slot, with nothing of
 * what surrounds it.
 */
static void untrusted_part_of_page(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct cpu_phys range = edu_range(test, buf + 1000, 1000);
	struct dma_phys_map *map;

	edu_need_iommu(test);
	edu.pdev->untrusted = true;
	if (!is_swiotlb_active(edu.dev)) {
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
		return;
	}

	soil_slots(test);
	get_random_bytes(buf, EDU_BUF);
	map = edu_map(test, buf + 1000, 1000, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_NOT_NULL(test, swiotlb_find_pool(edu.dev,
						      edu_translate(map->addr)));
	edu_pull(test, round_down(map->addr, PAGE_SIZE), EDU_BUF);
	range.addr = offset_in_page(map->addr);
	dma_phys_unmap(map);

	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, in + range.addr, buf + 1000, 1000);
	KUNIT_EXPECT_NULL(test, memchr_inv(in, 0, range.addr));
	KUNIT_EXPECT_NULL(test, memchr_inv(in + range.addr + 1000, 0,
					   EDU_BUF - range.addr - 1000));

	/* And what it writes comes back, where it belongs only. */
	memset(buf, POISON, EDU_BUF);
	map = edu_map(test, buf + 100, 100, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, 100);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 50), 0);
	KUNIT_EXPECT_MEMEQ(test, buf + 100, in, 50);
	dma_phys_unmap(map);
	KUNIT_EXPECT_MEMEQ(test, buf + 100, in, 100);
	KUNIT_EXPECT_NULL(test, memchr_inv(buf, POISON, 100));
	KUNIT_EXPECT_NULL(test, memchr_inv(buf + 200, POISON, EDU_BUF - 200));
}

/* The slot is there, the IOVA is not: the slot goes back. */
static void untrusted_failure_keeps_no_slot(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), 1000);

	edu_need_iommu(test);
	if (!is_swiotlb_active(edu.dev))
		kunit_skip(test, "no bounce slots on this boot");

	edu.pdev->untrusted = true;
	edu_set_mask(SZ_512 - 1);
	for (int i = 0; i < 100; i++)
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
}

/*
 * A physical address that no machine has. An IOMMU may take it (a virtual one
 * does), or say that it cannot put it out; nothing else comes of it.
 */
static void iommu_beyond_physical(struct kunit *test)
{
	struct cpu_phys range = { .addr = 1ULL << 60, .len = PAGE_SIZE };
	struct mmio_phys mmio = { .addr = 1ULL << 60, .len = PAGE_SIZE };
	struct dma_phys_map *map = edu_handle(test);
	int err;

	edu_need_iommu(test);
	err = dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE, 0, map);
	KUNIT_EXPECT_TRUE_MSG(test, !err || err == -ERANGE, "%d", err);
	KUNIT_EXPECT_EQ(test, edu_empty(map), !!err);
	dma_phys_unmap(map);

	err = dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE, 0, map);
	KUNIT_EXPECT_TRUE_MSG(test, !err || err == -ERANGE, "%d", err);
	KUNIT_EXPECT_EQ(test, edu_empty(map), !!err);
	dma_phys_unmap(map);
}

/*
 * Device memory that is no peer's, at 0x2000 of the lender's, read and written
 * by the device.
 */
static void move_mmio(struct kunit *test, struct mmio_phys mmio)
{
	struct dma_phys_map *map = edu_handle(test);
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	int route = edu_mmio_route(mmio.addr, mmio.len);

	if (route < 0) {
		edu_refuses_mmio(test, &mmio, DMA_FROM_DEVICE, route);
		return;
	}

	load(test, out);
	memset_io(edu.shmem + 0x1000, POISON, 3 * PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_FROM_DEVICE,
						0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, route);
	KUNIT_EXPECT_EQ(test, map->kind, DMA_PHYS_MMIO);
	expect_address(test, map, mmio.addr);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	memcpy_fromio(in, edu.shmem + 0x2000, EDU_BUF);
	KUNIT_EXPECT_MEMEQ(test, in, out, EDU_BUF);
	KUNIT_EXPECT_EQ(test, readb(edu.shmem + 0x1fff), POISON);
	KUNIT_EXPECT_EQ(test, readb(edu.shmem + 0x3000), POISON);

	/* And out of it, into memory. */
	get_random_bytes(out, EDU_BUF);
	memcpy_toio(edu.shmem + 0x2000, out, EDU_BUF);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE,
						0, map), 0);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	expect_arrives(test, map, in, out);
}

static void mmio_bytes_move(struct kunit *test)
{
	move_mmio(test, edu_mmio(test, 0x2000, EDU_BUF));
}

static void put_platform_device(void *pdev)
{
	platform_device_unregister(pdev);
}

/*
 * What dma_map_resource() is for: a DMA engine feeds the FIFO of a device that
 * is on no bus, and of which it knows a resource.
 */
static void platform_fifo(struct kunit *test)
{
	struct resource res = DEFINE_RES_MEM_NAMED(0, EDU_BUF, "fifo");
	struct platform_device *pdev;
	struct mmio_phys range;
	int err;

	edu_need_lender(test);
	res.start = pci_resource_start(edu.lender, EDU_LENDER_BAR) + 0x2000;
	res.end = res.start + EDU_BUF - 1;
	pdev = platform_device_register_simple("dma_phys_fifo",
					       PLATFORM_DEVID_NONE, &res, 1);
	KUNIT_ASSERT_FALSE(test, IS_ERR(pdev));
	err = kunit_add_action_or_reset(test, put_platform_device, pdev);
	KUNIT_ASSERT_EQ(test, err, 0);

	err = mmio_phys_from_resource(platform_get_resource(pdev, IORESOURCE_MEM,
							    0),
				      0, EDU_BUF, &range);
	KUNIT_ASSERT_EQ(test, err, 0);
	move_mmio(test, range);
}

/* The same for a device that no bus, and so no IOMMU, serves. */
static void mmio_without_iommu(struct kunit *test)
{
	struct device *dev = kunit_device_register(test, "dma-phys-engine");
	struct mmio_phys range = edu_mmio(test, 0x2000, EDU_BUF);
	struct dma_phys_map *map = edu_handle(test);
	u64 mask = DMA_BIT_MASK(64);
	int err;

	KUNIT_ASSERT_FALSE(test, IS_ERR(dev));
	dev->dma_mask = &mask;
	err = dma_phys_map_mmio(dev, &range, DMA_TO_DEVICE, 0, map);
	if (is_swiotlb_force_bounce(dev)) {
		KUNIT_EXPECT_EQ(test, err, -EOPNOTSUPP);
	} else {
		KUNIT_EXPECT_EQ(test, err, 0);
		KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_DIRECT);
		KUNIT_EXPECT_EQ(test, map->addr, range.addr);
		dma_phys_unmap(map);

		mask = DMA_BIT_MASK(20);
		err = dma_phys_map_mmio(dev, &range, DMA_TO_DEVICE, 0, map);
		KUNIT_EXPECT_EQ(test, err, -ERANGE);
	}
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	dev->dma_mask = NULL;
}

/* Forced bouncing leaves device memory no way. */
static void mmio_is_never_bounced(struct kunit *test)
{
	struct mmio_phys mmio = edu_mmio(test, 0, PAGE_SIZE);

	edu_force_bounce(test);
	edu_set_mask(DMA_BIT_MASK(64));
	edu_refuses_mmio(test, &mmio, DMA_FROM_DEVICE, -EOPNOTSUPP);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EOPNOTSUPP);
}

/* Legacy dma_map_ops: ours only write down what they are called with. */

#define FAKE_OFFSET	BIT_ULL(44)

static struct {
	struct dma_phys_map last;
	unsigned long attrs;
	unsigned int maps, unmaps, for_cpu, for_device;
	bool fail;
} fake;

static void fake_saw(struct device *dev, dma_addr_t addr, size_t size,
		     enum dma_data_direction dir, unsigned long attrs)
{
	fake.last.dev = dev;
	fake.last.addr = addr;
	fake.last.size = size;
	fake.last.dir = dir;
	fake.attrs = attrs;
}

static dma_addr_t fake_map(struct device *dev, phys_addr_t phys, size_t size,
			   enum dma_data_direction dir, unsigned long attrs)
{
	fake.maps++;
	fake_saw(dev, phys + FAKE_OFFSET, size, dir, attrs);
	return fake.fail ? DMA_MAPPING_ERROR : phys + FAKE_OFFSET;
}

static void fake_unmap(struct device *dev, dma_addr_t addr, size_t size,
		       enum dma_data_direction dir, unsigned long attrs)
{
	fake.unmaps++;
	fake_saw(dev, addr, size, dir, attrs);
}

static void fake_for_cpu(struct device *dev, dma_addr_t addr, size_t size,
			 enum dma_data_direction dir)
{
	fake.for_cpu++;
	fake_saw(dev, addr, size, dir, 0);
}

static void fake_for_device(struct device *dev, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir)
{
	fake.for_device++;
	fake_saw(dev, addr, size, dir, 0);
}

static const struct dma_map_ops fake_ops = {
	.map_phys = fake_map,
	.unmap_phys = fake_unmap,
	.sync_single_for_cpu = fake_for_cpu,
	.sync_single_for_device = fake_for_device,
};

static const struct dma_map_ops empty_ops;

static void need_ops(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_ARCH_HAS_DMA_OPS))
		kunit_skip(test, "built without legacy dma_map_ops");
	if (use_dma_iommu(edu.dev))
		kunit_skip(test, "an IOMMU serves the device: its legacy ops are not asked");
	memset(&fake, 0, sizeof(fake));
}

/* The ops were last called with this part of this map. */
static void expect_saw(struct kunit *test, dma_addr_t addr, size_t size,
		       enum dma_data_direction dir, unsigned long attrs)
{
	KUNIT_EXPECT_PTR_EQ(test, fake.last.dev, edu.dev);
	KUNIT_EXPECT_EQ(test, fake.last.addr, addr);
	KUNIT_EXPECT_EQ(test, fake.last.size, size);
	KUNIT_EXPECT_EQ(test, fake.last.dir, dir);
	KUNIT_EXPECT_EQ(test, fake.attrs & ~DMA_ATTR_NO_WARN, attrs);
}

static void ops_are_called(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	struct dma_phys_map *map;
	dma_addr_t addr;

	need_ops(test);
	set_dma_ops(edu.dev, &fake_ops);
	map = edu_map(test, buf, 1000, DMA_BIDIRECTIONAL, 0);
	addr = virt_to_phys(buf) + FAKE_OFFSET;
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_OPS);
	KUNIT_EXPECT_EQ(test, map->addr, addr);
	expect_saw(test, addr, 1000, DMA_BIDIRECTIONAL, 0);

	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 10, 20), 0);
	expect_saw(test, addr + 10, 20, DMA_BIDIRECTIONAL, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 30, 40), 0);
	expect_saw(test, addr + 30, 40, DMA_BIDIRECTIONAL, 0);
	dma_phys_unmap(map);
	expect_saw(test, addr, 1000, DMA_BIDIRECTIONAL, 0);

	KUNIT_EXPECT_EQ(test, fake.maps, 1);
	KUNIT_EXPECT_EQ(test, fake.for_cpu, 1);
	KUNIT_EXPECT_EQ(test, fake.for_device, 1);
	KUNIT_EXPECT_EQ(test, fake.unmaps, 1);
}

/* The attributes of the map are there again at its end. */
static void ops_are_told_attributes(struct kunit *test)
{
	struct dma_phys_map *map = edu_handle(test);
	u8 *buf = edu_pages(test, 0);
	struct mmio_phys mmio;

	need_ops(test);
	set_dma_ops(edu.dev, &fake_ops);
	dma_phys_unmap(edu_map(test, buf, 8, DMA_TO_DEVICE,
			       DMA_PHYS_MANUAL_SYNC));
	expect_saw(test, virt_to_phys(buf) + FAKE_OFFSET, 8, DMA_TO_DEVICE,
		   DMA_ATTR_SKIP_CPU_SYNC);

	mmio = edu_mmio(test, 16, 32);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE,
						0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_OPS);
	expect_saw(test, mmio.addr + FAKE_OFFSET, 32, DMA_TO_DEVICE,
		   DMA_ATTR_MMIO);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 32), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, 32), 0);
	KUNIT_EXPECT_EQ(test, fake.for_cpu + fake.for_device, 0);
	dma_phys_unmap(map);
	expect_saw(test, mmio.addr + FAKE_OFFSET, 32, DMA_TO_DEVICE,
		   DMA_ATTR_MMIO);
	KUNIT_EXPECT_EQ(test, fake.unmaps, 2);
}

static void ops_fail(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };

	need_ops(test);
	set_dma_ops(edu.dev, &fake_ops);
	fake.fail = true;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EAGAIN);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, fake.maps, 2);
	KUNIT_EXPECT_EQ(test, fake.unmaps, 0);

	set_dma_ops(edu.dev, &empty_ops);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EOPNOTSUPP);
}

/* A table that has nothing to undo or to sync, and says so by its gaps. */
static void ops_may_have_gaps(struct kunit *test)
{
	static const struct dma_map_ops ops = { .map_phys = fake_map };
	struct dma_phys_map *map;

	need_ops(test);
	set_dma_ops(edu.dev, &ops);
	map = edu_map(test, edu_pages(test, 0), 100, DMA_BIDIRECTIONAL, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 100), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, 100), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_EQ(test, fake.maps, 1);
}

/*
 * The ops are gone: nobody else's unmap is called. What was mapped then still
 * is, which a second handle, kept for that, gives back.
 */
static void h11_ops_then_none(struct kunit *test)
{
	struct dma_phys_map *map, copy;

	need_ops(test);
	set_dma_ops(edu.dev, &fake_ops);
	map = edu_map(test, edu_pages(test, 0), 100, DMA_FROM_DEVICE, 0);
	copy = *map;

	set_dma_ops(edu.dev, NULL);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(&copy, 0, 100), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(&copy, 0, 100), 0);
	dma_phys_unmap(&copy);
	KUNIT_EXPECT_TRUE(test, edu_empty(&copy));
	KUNIT_EXPECT_EQ(test, fake.unmaps + fake.for_cpu + fake.for_device, 0);

	set_dma_ops(edu.dev, &fake_ops);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, fake.unmaps, 1);
}

static void h11_bounce_then_ops(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;

	need_ops(test);
	edu_force_bounce(test);
	load(test, out);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	set_dma_ops(edu.dev, &fake_ops);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, EDU_BUF), 0);
	expect_arrives(test, map, in, out);
	KUNIT_EXPECT_EQ(test, fake.for_device + fake.unmaps, 0);
}

static struct kunit_case route_cases[] = {
	KUNIT_CASE(natural_route),
	KUNIT_CASE(forced_bounce),
	KUNIT_CASE(bounce_where_out_of_reach),
	KUNIT_CASE(direct_up_to_the_limit),
	KUNIT_CASE(bounce_keeps_alignment),
	KUNIT_CASE(slots_used_up),
	KUNIT_CASE(iova_used_up),
	KUNIT_CASE(iommu_beyond_physical),
	KUNIT_CASE(untrusted_part_of_page),
	KUNIT_CASE(untrusted_failure_keeps_no_slot),
	KUNIT_CASE(mmio_bytes_move),
	KUNIT_CASE(platform_fifo),
	KUNIT_CASE(mmio_without_iommu),
	KUNIT_CASE(mmio_is_never_bounced),
	KUNIT_CASE(ops_are_called),
	KUNIT_CASE(ops_are_told_attributes),
	KUNIT_CASE(ops_fail),
	KUNIT_CASE(ops_may_have_gaps),
	KUNIT_CASE(h04_larger_than_swiotlb),
	KUNIT_CASE(h04_larger_than_iova_space),
	KUNIT_CASE(h30_slots_cannot_align),
	KUNIT_CASE(bounce_across_boundary),
	KUNIT_CASE(h06_beyond_mask),
	KUNIT_CASE(h06_slots_beyond_mask),
	KUNIT_CASE(h11_bounce_then_direct),
	KUNIT_CASE(h11_direct_then_bounce),
	KUNIT_CASE(h11_direct_then_iommu),
	KUNIT_CASE(h11_iommu_then_direct),
	KUNIT_CASE(h11_ops_then_none),
	KUNIT_CASE(h11_bounce_then_ops),
	KUNIT_CASE(h16_address_zero),
	KUNIT_CASE(h17_untrusted_mmio),
	KUNIT_CASE(h18_link_stays_inside),
	KUNIT_CASE(h18_link_undone_twice),
	KUNIT_CASE(h18_unmapped_twice),
	KUNIT_CASE(h28_shared_cache_lines),
	KUNIT_CASE(h30_more_alignment_than_granule),
	KUNIT_CASE(h30_more_alignment_than_slot),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite route_suite = {
	.name = "dma_phys_route",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = route_cases,
};

kunit_test_suite(route_suite);

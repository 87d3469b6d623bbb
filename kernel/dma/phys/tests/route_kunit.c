// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of routes: direct, through an IOMMU, and both for device memory. Bounce
 * buffers are in bounce_kunit.c, legacy ops in ops_kunit.c.
 */
#include <kunit/device.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/platform_device.h>
#include <linux/random.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "sg_kunit.h"

static void route_natural(struct kunit *test)
{
	u8 *buf = edu_pages(test, 1);
	struct dma_phys_map *map;

	map = edu_map(test, buf, 2 * PAGE_SIZE, DMA_FROM_DEVICE, 0);
	edu_expect_addr(test, map, virt_to_phys(buf));
	dma_phys_unmap(map);

	map = edu_map(test, buf + 100, 1000, DMA_TO_DEVICE, 0);
	edu_expect_addr(test, map, virt_to_phys(buf) + 100);
	dma_phys_unmap(map);
}

/* ---- Direct ---- */

static void route_need_direct_device(struct kunit *test)
{
	if (use_dma_iommu(edu.dev) || get_dma_ops(edu.dev))
		kunit_skip(test, "no direct route on this boot");
}

/* The last byte decides. */
static void direct_up_to_the_limit(struct kunit *test)
{
	u8 *buf = edu_low_page(test);
	struct cpu_phys range = edu_range(test, buf, PAGE_SIZE);
	struct dma_phys_map *map;

	route_need_direct_device(test);
	edu_forbid_bounce();
	edu_set_mask(DMA_BIT_MASK(64));
	edu.dev->bus_dma_limit = phys_to_dma(edu.dev, range.addr) + 99;
	map = edu_map(test, buf, 100, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_DIRECT);
	dma_phys_unmap(map);
	range.len = 101;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

static void h06_beyond_mask(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = { .addr = SZ_1G, .len = PAGE_SIZE };
	u64 addr = phys_to_dma(edu.dev, range.addr);

	route_need_direct_device(test);
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

	range.addr = PHYS_ADDR_MAX - PAGE_SIZE + 1;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -ERANGE);
}

/* A range of either kind is at @addr, or out of reach. */
static void direct_expect(struct kunit *test, enum dma_phys_kind kind,
			  phys_addr_t phys, size_t len, dma_addr_t addr)
{
	struct cpu_phys cpu = { .addr = phys, .len = len };
	struct mmio_phys mmio = { .addr = phys, .len = len };
	struct dma_phys_map *map = edu_handle(test);
	int err;

	if (addr == DMA_MAPPING_ERROR) {
		if (kind == DMA_PHYS_CPU)
			edu_refuses(test, &cpu, DMA_TO_DEVICE, 0, -ERANGE);
		else
			edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -ERANGE);
		return;
	}

	err = kind == DMA_PHYS_CPU ?
	      dma_phys_map_cpu(edu.dev, &cpu, DMA_TO_DEVICE, 0, map) :
	      dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE, 0, map);
	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, map->addr, addr);
	dma_phys_unmap(map);
}

/* The bus translates by windows: of three, the first two are adjacent on it. */
static void direct_windows(struct kunit *test, enum dma_phys_kind kind,
			   phys_addr_t base)
{
	const dma_addr_t none = DMA_MAPPING_ERROR;
	const size_t page = PAGE_SIZE;
	const struct bus_dma_region windows[] = {
		{ base, SZ_16M, page },
		{ base + page, SZ_16M + page, page },
		{ base + 2 * page, SZ_64M, page },
		{ }
	};

	edu.dev->dma_range_map = windows;
	direct_expect(test, kind, base, page, SZ_16M);
	direct_expect(test, kind, base + 100, page - 100, SZ_16M + 100);
	direct_expect(test, kind, base + 2 * page, page, SZ_64M);
	direct_expect(test, kind, base + 1, 2 * page - 1, SZ_16M + 1);
	direct_expect(test, kind, base + page, page + 1, none);
	direct_expect(test, kind, base + 2 * page - 1, 2, none);
	direct_expect(test, kind, base + 2 * page, page + 1, none);
	direct_expect(test, kind, base, 4 * page, none);
	direct_expect(test, kind, base + 3 * page, 1, none);
	edu.dev->dma_range_map = NULL;
}

static void direct_range_straddles_windows(struct kunit *test)
{
	route_need_direct_device(test);
	if (IS_ENABLED(CONFIG_ARCH_HAS_PHYS_TO_DMA))
		kunit_skip(test, "this architecture has no windows");
	edu_forbid_bounce();
	edu_set_mask(DMA_BIT_MASK(64));
	direct_windows(test, DMA_PHYS_CPU, virt_to_phys(edu_pages(test, 2)));
	direct_windows(test, DMA_PHYS_MMIO,
		       pci_resource_start(edu.pdev, EDU_BAR));
}

/* Adjacent ranges in different windows are not adjacent for the device. */
static void direct_list_windows(struct kunit *test, enum dma_phys_kind kind,
				phys_addr_t base)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 4);
	const struct bus_dma_region windows[] = {
		{ base, SZ_16M, PAGE_SIZE },
		{ base + PAGE_SIZE, SZ_64M, PAGE_SIZE },
		{ }
	};

	edu.dev->dma_range_map = windows;
	/* The second time the first range leaves its window. */
	for (int more = 0; more < 2; more++) {
		size_t len = PAGE_SIZE + more;
		struct cpu_phys cpu[] = {
			{ base, len }, { base + PAGE_SIZE, PAGE_SIZE },
		};
		struct mmio_phys mmio[] = {
			{ base, len }, { base + PAGE_SIZE, PAGE_SIZE },
		};

		if (kind == DMA_PHYS_CPU)
			list->count = dma_phys_test_list_map(list, cpu, 2,
							     DMA_TO_DEVICE, 0);
		else
			list->count = dma_phys_sg_map_mmio(edu.dev, mmio, 2,
							   DMA_TO_DEVICE, 0,
							   list->segments, 4,
							   &list->sg);
		KUNIT_EXPECT_EQ(test, list->count, more ? -ERANGE : 2);
		if (list->count == 2) {
			KUNIT_EXPECT_EQ(test, list->segments[0].addr, SZ_16M);
			KUNIT_EXPECT_EQ(test, list->segments[1].addr, SZ_64M);
		}
		dma_phys_sg_unmap(&list->sg);
	}
	edu.dev->dma_range_map = NULL;
}

static void direct_list_in_windows(struct kunit *test)
{
	route_need_direct_device(test);
	if (IS_ENABLED(CONFIG_ARCH_HAS_PHYS_TO_DMA))
		kunit_skip(test, "this architecture has no windows");
	edu_forbid_bounce();
	edu_set_mask(DMA_BIT_MASK(64));
	direct_list_windows(test, DMA_PHYS_CPU, virt_to_phys(edu_pages(test, 1)));
	direct_list_windows(test, DMA_PHYS_MMIO,
			    pci_resource_start(edu.pdev, EDU_BAR));
}

/* ---- IOMMU ---- */

/* No byte of the granules that the range was in stays mapped. */
static void h18_nothing_stays_mapped(struct kunit *test)
{
	static const size_t lens[] = { 1, 100, PAGE_SIZE, PAGE_SIZE + 1 };
	u8 *buf = edu_pages(test, 2);
	struct dma_phys_map *map;
	dma_addr_t start, end;
	size_t granule;

	edu_need_iommu(test);
	granule = dma_get_merge_boundary(edu.dev) + 1;
	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		map = edu_map(test, buf + 50, lens[i], DMA_BIDIRECTIONAL, 0);
		start = round_down(map->addr, granule);
		end = round_up(map->addr + map->size, granule);
		KUNIT_EXPECT_NE(test, edu_translate(start), 0);
		dma_phys_unmap(map);
		for (dma_addr_t addr = start; addr < end; addr += granule)
			KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);
	}
}

static void h04_larger_than_iova_space(struct kunit *test)
{
	static const size_t lens[] = {
		SZ_256M, SZ_1G,
#ifdef CONFIG_64BIT
		SZ_4G, SZ_8G, 1ULL << 62, 1ULL << 63,
#endif
	};
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = edu_own_mmio(test, 0, PAGE_SIZE);

	edu_need_iommu(test);
	edu_set_mask(DMA_BIT_MASK(28));
	for (int i = 0; i < ARRAY_SIZE(lens); i++) {
		range.len = lens[i];
		mmio.len = lens[i];
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -E2BIG);
		edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -E2BIG);
	}
}

static void iova_used_up(struct kunit *test)
{
	struct cpu_phys range = edu_range(test,
					  edu_pages(test, get_order(SZ_4M)),
					  SZ_4M);

	edu_need_iommu(test);
	edu_set_mask(DMA_BIT_MASK(28));
	edu_use_up(test, &range, SZ_256M / SZ_4M + 1, -ENOMEM);
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
		mmio = edu_own_mmio(test, cases[i].offset, cases[i].len);
		edu_refuses_mmio(test, &mmio, DMA_FROM_DEVICE, -EOPNOTSUPP);
	}

	mmio = edu_own_mmio(test, PAGE_SIZE, 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_FROM_DEVICE,
						0, map), 0);
	dma_phys_unmap(map);

	/* A trusted device may access the whole granule. */
	edu.pdev->untrusted = false;
	mmio = edu_own_mmio(test, 1, 1);
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_FROM_DEVICE,
						0, map), 0);
	dma_phys_unmap(map);
}

static void h30_more_alignment_than_granule(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct mmio_phys mmio = edu_own_mmio(test, 0, PAGE_SIZE);

	edu_need_iommu(test);
	dma_set_min_align_mask(edu.dev, SZ_2M - 1);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EOPNOTSUPP);
}

/*
 * A physical address that no machine has. A virtual IOMMU may map it; a hardware
 * one cannot put it into a page table, which is not distinguished from a lack of
 * memory for one.
 */
static void iommu_beyond_physical(struct kunit *test)
{
	phys_addr_t addr = (phys_addr_t)1 << (sizeof(phys_addr_t) * 8 - 4);
	struct cpu_phys range = { .addr = addr, .len = PAGE_SIZE };
	struct mmio_phys mmio = { .addr = addr, .len = PAGE_SIZE };
	struct dma_phys_map *map = edu_handle(test);
	int err;

	edu_need_iommu(test);
	/* No interface tells how large physical addresses can be. */
	if (IS_ENABLED(CONFIG_ARM_SMMU_V3))
		kunit_skip(test, "the page table code warns of such an address");
	err = dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE, 0, map);
	KUNIT_EXPECT_TRUE_MSG(test, !err || err == -ENOMEM, "%d", err);
	KUNIT_EXPECT_EQ(test, edu_empty(map), !!err);
	dma_phys_unmap(map);

	err = dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE, 0, map);
	KUNIT_EXPECT_TRUE_MSG(test, !err || err == -ENOMEM, "%d", err);
	KUNIT_EXPECT_EQ(test, edu_empty(map), !!err);
	dma_phys_unmap(map);
}

/* ---- Memory without linear map ---- */

/* It is refused if anything would go through the linear map. */
static void h35_raw_range(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_low_page(test) + 100, 1000);
	struct dma_phys_map *map = edu_handle(test);
	enum dma_phys_route route = edu_route(range.addr, range.len);
	bool mapped = dev_is_dma_coherent(edu.dev) &&
		      (route == DMA_PHYS_DIRECT || route == DMA_PHYS_IOMMU);

	range.raw = true;
	if (mapped) {
		KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(edu.dev, &range,
						       DMA_BIDIRECTIONAL, 0,
						       map), 0);
		edu_expect_addr(test, map, range.addr);
		KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 1000), 0);
		dma_phys_unmap(map);
	} else {
		edu_refuses(test, &range, DMA_BIDIRECTIONAL, 0, -EOPNOTSUPP);
	}

	edu.pdev->untrusted = true;
	if (route == DMA_PHYS_IOMMU && IS_ENABLED(CONFIG_SWIOTLB))
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
	if (edu_make_incoherent())
		edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
}

static void h35_raw_range_never_bounces(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_low_page(test), PAGE_SIZE);

	range.raw = true;
	edu_force_bounce(test);
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
	edu_refuses(test, &range, DMA_FROM_DEVICE, DMA_PHYS_SKIP_CPU_SYNC,
		    -EOPNOTSUPP);
	edu_end_force_bounce();
	edu.dev->bus_dma_limit = SZ_64K;
	edu_refuses(test, &range, DMA_TO_DEVICE, 0, -EOPNOTSUPP);
}

/* ---- Device memory ---- */

/* Device memory of no peer, at 0x2000 of edu.owner: both directions. */
static void mmio_copy(struct kunit *test, struct mmio_phys mmio)
{
	struct dma_phys_map *map = edu_handle(test);
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	int route = edu_mmio_route(mmio.addr, mmio.len);

	if (route < 0) {
		edu_refuses_mmio(test, &mmio, DMA_FROM_DEVICE, route);
		return;
	}

	edu_load(test, out, EDU_BUF);
	memset_io(edu.shmem + 0x1000, POISON, 3 * SZ_4K);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_FROM_DEVICE,
						0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, route);
	KUNIT_EXPECT_EQ(test, map->kind, DMA_PHYS_MMIO);
	edu_expect_addr(test, map, mmio.addr);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	memcpy_fromio(in, edu.shmem + 0x2000, EDU_BUF);
	KUNIT_EXPECT_MEMEQ(test, in, out, EDU_BUF);
	KUNIT_EXPECT_EQ(test, readb(edu.shmem + 0x1fff), POISON);
	KUNIT_EXPECT_EQ(test, readb(edu.shmem + 0x3000), POISON);

	get_random_bytes(out, EDU_BUF);
	memcpy_toio(edu.shmem + 0x2000, out, EDU_BUF);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &mmio, DMA_TO_DEVICE,
						0, map), 0);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_expect_arrives(test, map, in, out);
}

static void mmio_moves_bytes(struct kunit *test)
{
	mmio_copy(test, edu_mmio(test, 0x2000, EDU_BUF));
}

static void mmio_unregister_platform_device(void *pdev)
{
	platform_device_unregister(pdev);
}

/* A DMA engine feeds the FIFO of a device on no bus, which has a resource. */
static void mmio_of_platform_device(struct kunit *test)
{
	struct resource res = DEFINE_RES_MEM_NAMED(0, EDU_BUF, "fifo");
	struct platform_device *pdev;
	struct mmio_phys range;
	int err;

	edu_need_owner(test);
	res.start = pci_resource_start(edu.owner, IVSHMEM_BAR) + 0x2000;
	res.end = res.start + EDU_BUF - 1;
	pdev = platform_device_register_simple("dma_phys_fifo",
					       PLATFORM_DEVID_NONE, &res, 1);
	KUNIT_ASSERT_FALSE(test, IS_ERR(pdev));
	err = kunit_add_action_or_reset(test, mmio_unregister_platform_device,
					pdev);
	KUNIT_ASSERT_EQ(test, err, 0);

	err = mmio_phys_from_resource(platform_get_resource(pdev,
							    IORESOURCE_MEM, 0),
				      0, EDU_BUF, &range);
	KUNIT_ASSERT_EQ(test, err, 0);
	mmio_copy(test, range);
}

/* The device that maps is on no bus, and so behind no IOMMU. */
static void mmio_for_device_without_bus(struct kunit *test)
{
	struct device *dev = kunit_device_register(test, "dma-phys-engine");
	struct mmio_phys range = edu_own_mmio(test, 0x2000, EDU_BUF);
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

static void mmio_is_never_bounced(struct kunit *test)
{
	struct mmio_phys mmio = edu_own_mmio(test, 0, PAGE_SIZE);

	edu_force_bounce(test);
	edu_set_mask(DMA_BIT_MASK(64));
	edu_refuses_mmio(test, &mmio, DMA_FROM_DEVICE, -EOPNOTSUPP);
	edu_refuses_mmio(test, &mmio, DMA_TO_DEVICE, -EOPNOTSUPP);
}

static struct kunit_case route_cases[] = {
	KUNIT_CASE(route_natural),
	KUNIT_CASE(direct_up_to_the_limit),
	KUNIT_CASE(direct_range_straddles_windows),
	KUNIT_CASE(direct_list_in_windows),
	KUNIT_CASE(iova_used_up),
	KUNIT_CASE(iommu_beyond_physical),
	KUNIT_CASE(mmio_moves_bytes),
	KUNIT_CASE(mmio_of_platform_device),
	KUNIT_CASE(mmio_for_device_without_bus),
	KUNIT_CASE(mmio_is_never_bounced),
	KUNIT_CASE(h04_larger_than_iova_space),
	KUNIT_CASE(h06_beyond_mask),
	KUNIT_CASE(h16_address_zero),
	KUNIT_CASE(h17_untrusted_mmio),
	KUNIT_CASE(h18_nothing_stays_mapped),
	KUNIT_CASE(h30_more_alignment_than_granule),
	KUNIT_CASE(h35_raw_range),
	KUNIT_CASE(h35_raw_range_never_bounces),
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

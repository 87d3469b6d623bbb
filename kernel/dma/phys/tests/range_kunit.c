// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of range.c: a range of memory holds only memory, and a range of device
 * memory only device memory.
 */
#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/limits.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "edu_kunit.h"

/* Each byte of a range before a call that must not write it. */
#define UNWRITTEN	0x5a

static void addr_refused(struct kunit *test, phys_addr_t addr, size_t len)
{
	struct cpu_phys range;

	memset(&range, UNWRITTEN, sizeof(range));
	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_addr(addr, len, &range),
			    -EINVAL, "%pa+%zu", &addr, len);
	KUNIT_EXPECT_NULL(test, memchr_inv(&range, UNWRITTEN, sizeof(range)));
}

static void raw_refused(struct kunit *test, phys_addr_t addr, size_t len)
{
	struct cpu_phys range;

	memset(&range, UNWRITTEN, sizeof(range));
	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_raw(addr, len, &range),
			    -EINVAL, "%pa+%zu", &addr, len);
	KUNIT_EXPECT_NULL(test, memchr_inv(&range, UNWRITTEN, sizeof(range)));
}

static void virt_refused(struct kunit *test, const void *virt, size_t len)
{
	struct cpu_phys range;

	memset(&range, UNWRITTEN, sizeof(range));
	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_virt(virt, len, &range),
			    -EINVAL, "%p+%zu", virt, len);
	KUNIT_EXPECT_NULL(test, memchr_inv(&range, UNWRITTEN, sizeof(range)));
}

static void page_refused(struct kunit *test, struct page *page, size_t offset,
			 size_t len)
{
	struct cpu_phys range;

	memset(&range, UNWRITTEN, sizeof(range));
	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_page(page, offset, len, &range),
			    -EINVAL, "%zu+%zu", offset, len);
	KUNIT_EXPECT_NULL(test, memchr_inv(&range, UNWRITTEN, sizeof(range)));
}

static void resource_refused(struct kunit *test, const struct resource *res,
			     u64 offset, size_t len)
{
	struct mmio_phys range;

	memset(&range, UNWRITTEN, sizeof(range));
	KUNIT_EXPECT_EQ_MSG(test,
			    mmio_phys_from_resource(res, offset, len, &range),
			    -EINVAL, "%pR: %llu+%zu", res, offset, len);
	KUNIT_EXPECT_NULL(test, memchr_inv(&range, UNWRITTEN, sizeof(range)));
}

static void bar_fails(struct kunit *test, struct pci_dev *pdev, int bar,
		      u64 offset, size_t len, int err)
{
	struct mmio_phys range;

	memset(&range, UNWRITTEN, sizeof(range));
	KUNIT_EXPECT_EQ_MSG(test,
			    mmio_phys_from_bar(pdev, bar, offset, len, &range),
			    err, "BAR %d: %llu+%zu", bar, offset, len);
	KUNIT_EXPECT_NULL(test, memchr_inv(&range, UNWRITTEN, sizeof(range)));
}

static void expect_range(struct kunit *test, const struct cpu_phys *range,
			 phys_addr_t addr, size_t len, bool raw)
{
	KUNIT_EXPECT_EQ(test, range->addr, addr);
	KUNIT_EXPECT_EQ(test, range->len, len);
	KUNIT_EXPECT_EQ(test, range->raw, raw);
}

static int store_end(unsigned long pfn, unsigned long count, void *end)
{
	*(phys_addr_t *)end = PFN_PHYS(pfn + count);
	return 0;
}

/* The first byte after the last page of System RAM. */
static phys_addr_t end_of_ram(struct kunit *test)
{
	phys_addr_t end = 0;

	walk_system_ram_range(0, max_pfn, &end, store_end);
	KUNIT_ASSERT_GT(test, end, 2 * PAGE_SIZE);
	return end;
}

static void page_virt_addr_agree(struct kunit *test)
{
	static const struct { size_t offset, len; } cases[] = {
		{ 0, 1 }, { 0, PAGE_SIZE }, { 1, PAGE_SIZE - 1 },
		{ PAGE_SIZE - 1, 1 }, { PAGE_SIZE - 1, 2 },
		{ 100, 3 * PAGE_SIZE }, { 0, 4 * PAGE_SIZE },
		{ 4 * PAGE_SIZE - 1, 1 },
	};
	u8 *virt = edu_pages(test, 2);
	struct page *page = virt_to_page(virt);

	for (int i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t offset = cases[i].offset, len = cases[i].len;
		phys_addr_t addr = virt_to_phys(virt) + offset;
		struct cpu_phys range = {};

		KUNIT_EXPECT_EQ(test,
				cpu_phys_from_page(page, offset, len, &range),
				0);
		expect_range(test, &range, addr, len, false);

		range = (struct cpu_phys){};
		KUNIT_EXPECT_EQ(test,
				cpu_phys_from_virt(virt + offset, len, &range),
				0);
		expect_range(test, &range, addr, len, false);

		range = (struct cpu_phys){};
		KUNIT_EXPECT_EQ(test, cpu_phys_from_addr(addr, len, &range), 0);
		expect_range(test, &range, addr, len, false);

		range = (struct cpu_phys){};
		KUNIT_EXPECT_EQ(test, cpu_phys_from_raw(addr, len, &range), 0);
		expect_range(test, &range, addr, len, true);
	}
}

/* The caller vouches: neither a struct page nor a resource is needed. */
static void raw_without_page(struct kunit *test)
{
	phys_addr_t addr = end_of_ram(test) + SZ_1G;
	struct cpu_phys range = {};

	KUNIT_EXPECT_FALSE(test, pfn_valid(PHYS_PFN(addr)));
	KUNIT_EXPECT_EQ(test, cpu_phys_from_raw(addr + 1, PAGE_SIZE, &range),
			0);
	expect_range(test, &range, addr + 1, PAGE_SIZE, true);

	range = (struct cpu_phys){};
	KUNIT_EXPECT_EQ(test, cpu_phys_from_raw(PHYS_ADDR_MAX, 1, &range), 0);
	expect_range(test, &range, PHYS_ADDR_MAX, 1, true);
}

/* A page in the middle of a folio, up to the end of the folio and beyond. */
static void page_inside_folio(struct kunit *test)
{
	u8 *virt = edu_pages(test, 2);
	struct page *page = virt_to_page(virt) + 3;
	phys_addr_t addr = virt_to_phys(virt) + 3 * PAGE_SIZE;
	size_t end = min_t(phys_addr_t, end_of_ram(test), SIZE_MAX);
	struct cpu_phys range = {};

	KUNIT_EXPECT_EQ(test, cpu_phys_from_page(page, 0, PAGE_SIZE, &range), 0);
	expect_range(test, &range, addr, PAGE_SIZE, false);

	if (page_is_ram(PHYS_PFN(addr) + 1)) {
		KUNIT_EXPECT_EQ(test,
				cpu_phys_from_page(page, 1, PAGE_SIZE, &range),
				0);
		expect_range(test, &range, addr + 1, PAGE_SIZE, false);
	} else {
		page_refused(test, page, 1, PAGE_SIZE);
	}

	page_refused(test, page, 0, end);
	page_refused(test, page, end, 1);
}

/* The pointer carries a tag if KASAN uses tags. */
static void slab_memory(struct kunit *test)
{
	u8 *p = kunit_kmalloc(test, 200, GFP_KERNEL);
	struct cpu_phys range = {};

	KUNIT_ASSERT_NOT_NULL(test, p);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(p + 1, 199, &range), 0);
	expect_range(test, &range, virt_to_phys(p + 1), 199, false);
}

static void virt_outside_linear_map(struct kunit *test)
{
	static u8 image;
	u8 stack = 0;
	u8 *v = vmalloc(PAGE_SIZE);

	KUNIT_ASSERT_NOT_NULL(test, v);
	virt_refused(test, v, 1);
	vfree(v);

	virt_refused(test, &stack, 1);
	/* On some architectures the kernel image is in the linear map. */
	if (lm_alias(&image) != &image) {
		virt_refused(test, &image, 1);
		virt_refused(test, (void *)virt_refused, 1);
		virt_refused(test, "rodata", 1);
	}
	virt_refused(test, (void *)PAGE_SIZE, 1);
	virt_refused(test, (void *)ULONG_MAX, 1);
	if (edu.regs)
		virt_refused(test, (void __force *)edu.regs, 1);

	/* The linear map ends with RAM, or where highmem starts. */
	virt_refused(test, high_memory - 1, 2);
	if (!IS_ENABLED(CONFIG_HIGHMEM))
		virt_refused(test, phys_to_virt(end_of_ram(test)), 1);
}

static void null_arguments(struct kunit *test)
{
	u8 *virt = edu_pages(test, 0);
	const struct resource *res = &iomem_resource;

	page_refused(test, NULL, 0, 1);
	virt_refused(test, NULL, 1);
	resource_refused(test, NULL, 0, 1);
	bar_fails(test, NULL, 0, 0, 1, -EINVAL);

	KUNIT_EXPECT_EQ(test, cpu_phys_from_page(virt_to_page(virt), 0, 1, NULL),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(virt, 1, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_addr(virt_to_phys(virt), 1, NULL),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_raw(virt_to_phys(virt), 1, NULL),
			-EINVAL);
	if (edu.owner)
		res = &edu.owner->resource[IVSHMEM_BAR];
	KUNIT_EXPECT_EQ(test, mmio_phys_from_resource(res, 0, 1, NULL), -EINVAL);
}

static void h02_zero_length(struct kunit *test)
{
	u8 *virt = edu_pages(test, 0);

	page_refused(test, virt_to_page(virt), 0, 0);
	page_refused(test, virt_to_page(virt), PAGE_SIZE, 0);
	virt_refused(test, virt, 0);
	addr_refused(test, virt_to_phys(virt), 0);
	addr_refused(test, 0, 0);
	raw_refused(test, virt_to_phys(virt), 0);
	raw_refused(test, 0, 0);

	edu_need_owner(test);
	resource_refused(test, &edu.owner->resource[IVSHMEM_BAR], 0, 0);
}

static void h03_wraps_around(struct kunit *test)
{
	u8 *virt = edu_pages(test, 0);
	struct resource res = DEFINE_RES_MEM(0, 0);
	phys_addr_t phys = virt_to_phys(virt);

	addr_refused(test, phys, SIZE_MAX);
	if (sizeof(size_t) == sizeof(phys))
		addr_refused(test, phys, SIZE_MAX - phys + 2);
	addr_refused(test, PHYS_ADDR_MAX, 2);
	addr_refused(test, PHYS_ADDR_MAX - PAGE_SIZE + 1, PAGE_SIZE);
	addr_refused(test, PHYS_ADDR_MAX - PAGE_SIZE + 1, PAGE_SIZE + 1);
	raw_refused(test, PHYS_ADDR_MAX, 2);
	raw_refused(test, PHYS_ADDR_MAX - PAGE_SIZE + 1, PAGE_SIZE + 1);
	raw_refused(test, PHYS_ADDR_MAX, SIZE_MAX);
	page_refused(test, virt_to_page(virt), SIZE_MAX, 1);
	page_refused(test, virt_to_page(virt), SIZE_MAX, SIZE_MAX);
	page_refused(test, virt_to_page(virt), 1, SIZE_MAX);
	virt_refused(test, virt, SIZE_MAX);

	/* The top of the address space: its length does not fit in 64 bits. */
	res.start = RESOURCE_SIZE_MAX - PAGE_SIZE + 1;
	res.end = RESOURCE_SIZE_MAX;
	resource_refused(test, &res, 0, PAGE_SIZE + 1);
	resource_refused(test, &res, 1, PAGE_SIZE);
	resource_refused(test, &res, U64_MAX, 2);
	resource_refused(test, &res, U64_MAX, SIZE_MAX);
	res.start = 0;
	resource_refused(test, &res, U64_MAX, SIZE_MAX);
	resource_refused(test, &res, 1, SIZE_MAX);
}

/* A resource of a driver that has the address of RAM in it. */
static void h07_ram_as_mmio(struct kunit *test)
{
	phys_addr_t ram = virt_to_phys(edu_pages(test, 1)), end;
	struct resource res = DEFINE_RES_MEM(ram, 2 * PAGE_SIZE);

	resource_refused(test, &res, 0, 2 * PAGE_SIZE);
	resource_refused(test, &res, 0, 1);
	resource_refused(test, &res, PAGE_SIZE, PAGE_SIZE);
	resource_refused(test, &iomem_resource, ram, 1);

	/* Only the first byte is RAM; then only the last. */
	end = end_of_ram(test);
	res = DEFINE_RES_MEM(end - 1, PAGE_SIZE);
	resource_refused(test, &res, 0, PAGE_SIZE);

	/* From device memory to RAM, whichever comes first. */
	edu_need_owner(test);
	res.start = pci_resource_start(edu.owner, IVSHMEM_BAR);
	res.end = max(res.start, end) + PAGE_SIZE;
	res.start = min(res.start, end - 1);
	resource_refused(test, &res, 0, resource_size(&res));
}

/* A range of memory never reaches into device memory or into a hole. */
static void h08_mmio_as_ram(struct kunit *test)
{
	phys_addr_t end = end_of_ram(test), bar, start;
	struct cpu_phys range;

	KUNIT_EXPECT_EQ(test, cpu_phys_from_addr(end - PAGE_SIZE, PAGE_SIZE,
						 &range), 0);
	addr_refused(test, end - PAGE_SIZE, PAGE_SIZE + 1);
	addr_refused(test, end - 1, 2);
	addr_refused(test, end, 1);
	addr_refused(test, end, PAGE_SIZE);

	if (edu.pdev) {
		bar = pci_resource_start(edu.pdev, 0);
		addr_refused(test, bar, 1);
		addr_refused(test, bar, PAGE_SIZE);
		addr_refused(test, bar + PAGE_SIZE - 1, 1);
	}

	edu_need_owner(test);
	bar = pci_resource_start(edu.owner, IVSHMEM_BAR);
	addr_refused(test, bar, PAGE_SIZE);

	/* From RAM to device memory, whichever comes first. */
	start = min(bar, end - PAGE_SIZE);
	addr_refused(test, start, max(bar + PAGE_SIZE, end) - start);
}

struct resource_check {
	struct kunit *test;
	unsigned int count;
};

static int resource_not_ram(struct resource *res, void *data)
{
	struct resource_check *check = data;
	size_t size = min_t(u64, resource_size(res), SIZE_MAX);

	if (region_intersects(res->start, size, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT)
		return 0;

	check->count++;
	addr_refused(check->test, res->start, 1);
	addr_refused(check->test, res->start, size);
	addr_refused(check->test, res->end, 1);
	addr_refused(check->test, res->end, 2);
	if (res->start)
		addr_refused(check->test, res->start - 1, 2);
	return 0;
}

/* What the firmware reserved, and all windows and registers of devices. */
static void h08_all_other_resources(struct kunit *test)
{
	struct resource_check check = { .test = test };

	walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM, 0,
			    iomem_resource.end - 1, &check, resource_not_ram);
	KUNIT_EXPECT_GT(test, check.count, 0);
}

static int resource_partial_page(struct resource *res, void *data)
{
	struct resource_check *check = data;

	if (!page_is_ram(PHYS_PFN(res->start))) {
		addr_refused(check->test, res->start, 1);
		check->count++;
	}
	if (!page_is_ram(PHYS_PFN(res->end))) {
		addr_refused(check->test, res->end, 1);
		check->count++;
	}
	return 0;
}

/* A page of which only a part is System RAM has no place in the linear map. */
static void partial_page_of_ram(struct kunit *test)
{
	struct resource_check check = { .test = test };

	walk_iomem_res_desc(IORES_DESC_NONE,
			    IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY, 0,
			    iomem_resource.end - 1, &check,
			    resource_partial_page);
	if (!check.count)
		kunit_skip(test, "all System RAM ends at pages on this machine");
}

/* Pages of a BAR have a linear-map address, and are device memory. */
static void h08_mmio_with_pages(struct kunit *test)
{
	void *virt;
	int err;

	edu_need_owner(test);
	err = pci_p2pdma_add_resource(edu.owner, IVSHMEM_BAR, 0, 0);
	if (err)
		kunit_skip(test, "no pages for the BAR (%d): smaller than 2 MiB, or no P2PDMA?",
			   err);

	virt = pci_alloc_p2pmem(edu.owner, PAGE_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, virt);
	page_refused(test, virt_to_page(virt), 0, PAGE_SIZE);
	page_refused(test, virt_to_page(virt), 0, 1);
	virt_refused(test, virt, PAGE_SIZE);
	addr_refused(test, virt_to_phys(virt), PAGE_SIZE);
	raw_refused(test, virt_to_phys(virt), PAGE_SIZE);
	pci_free_p2pmem(edu.owner, virt, PAGE_SIZE);

	/* This frees the pages; the driver is bound again after the test. */
	device_release_driver(&edu.owner->dev);
}

static void resource_bounds(struct kunit *test)
{
	const struct resource *res;
	struct mmio_phys range;
	u64 size;

	edu_need_owner(test);
	res = &edu.owner->resource[IVSHMEM_BAR];
	size = resource_size(res);

	KUNIT_EXPECT_EQ(test, mmio_phys_from_resource(res, 0, size, &range), 0);
	KUNIT_EXPECT_EQ(test, range.addr, res->start);
	KUNIT_EXPECT_EQ(test, range.len, size);
	KUNIT_EXPECT_EQ(test, range.peer, 0);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_resource(res, size - 1, 1, &range),
			0);
	KUNIT_EXPECT_EQ(test, range.addr, res->end);

	resource_refused(test, res, 0, size + 1);
	resource_refused(test, res, 1, size);
	resource_refused(test, res, size, 1);
	resource_refused(test, res, U64_MAX, 1);
	resource_refused(test, res, 1, SIZE_MAX);
	resource_refused(test, res, 0, SIZE_MAX);
}

static void resource_of_other_types(struct kunit *test)
{
	struct resource res = DEFINE_RES_IO(0x60, 1);

	resource_refused(test, &res, 0, 1);
	res = DEFINE_RES_IRQ(1);
	resource_refused(test, &res, 0, 1);
	res = (struct resource){};
	resource_refused(test, &res, 0, 1);

	/* An empty resource ends before it starts. */
	res = DEFINE_RES_MEM(SZ_1G, 0);
	resource_refused(test, &res, 0, 1);
}

static void bar_not_shared(struct kunit *test)
{
	edu_need_owner(test);
	bar_fails(test, edu.owner, IVSHMEM_BAR, 0, 1, -ENODEV);
}

/* Share the BAR until the test ends. Returns its size. */
static u64 share_bar(struct kunit *test)
{
	edu_need_owner(test);
	if (!IS_ENABLED(CONFIG_PCI_P2PDMA))
		kunit_skip(test, "no BAR can be shared without CONFIG_PCI_P2PDMA");
	KUNIT_ASSERT_EQ(test, edu_share(test, edu.owner, IVSHMEM_BAR), 0);
	return pci_resource_len(edu.owner, IVSHMEM_BAR);
}

static void h23_no_such_bar(struct kunit *test)
{
	static const int bars[] = {
		-1, PCI_ROM_RESOURCE, PCI_ROM_RESOURCE + 1, PCI_NUM_RESOURCES,
		1000, INT_MIN, INT_MAX,
	};
	struct pci_dev *pdev = NULL;

	share_bar(test);
	for (int i = 0; i < ARRAY_SIZE(bars); i++)
		bar_fails(test, edu.owner, bars[i], 0, 1, -EINVAL);

	/* BARs of all devices that are not memory. */
	for_each_pci_dev(pdev)
		for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
			if (!(pci_resource_flags(pdev, bar) & IORESOURCE_MEM))
				bar_fails(test, pdev, bar, 0, 1, -EINVAL);
}

static void h24_bar_bounds(struct kunit *test)
{
	struct pci_dev *pdev = edu.owner;
	u64 size = share_bar(test);
	struct mmio_phys range;
	int bar = IVSHMEM_BAR;

	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(pdev, bar, 0, size, &range), 0);
	KUNIT_EXPECT_EQ(test, range.addr, pci_resource_start(pdev, bar));
	KUNIT_EXPECT_EQ(test, range.len, size);
	KUNIT_EXPECT_NE(test, range.peer, 0);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(pdev, bar, size - 1, 1, &range),
			0);
	KUNIT_EXPECT_EQ(test, range.addr, pci_resource_end(pdev, bar));

	bar_fails(test, pdev, bar, 0, 0, -EINVAL);
	bar_fails(test, pdev, bar, 0, size + 1, -EINVAL);
	bar_fails(test, pdev, bar, 1, size, -EINVAL);
	bar_fails(test, pdev, bar, size - 1, 2, -EINVAL);
	bar_fails(test, pdev, bar, size, 1, -EINVAL);
	bar_fails(test, pdev, bar, size, 0, -EINVAL);
	bar_fails(test, pdev, bar, U64_MAX, 1, -EINVAL);
	bar_fails(test, pdev, bar, U64_MAX, 2, -EINVAL);
	bar_fails(test, pdev, bar, 1, SIZE_MAX, -EINVAL);
	bar_fails(test, pdev, bar, U64_MAX - size + 2, size, -EINVAL);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(pdev, bar, 0, 1, NULL),
			-EINVAL);
}

static struct kunit_case range_cases[] = {
	KUNIT_CASE(page_virt_addr_agree),
	KUNIT_CASE(raw_without_page),
	KUNIT_CASE(page_inside_folio),
	KUNIT_CASE(slab_memory),
	KUNIT_CASE(virt_outside_linear_map),
	KUNIT_CASE(null_arguments),
	KUNIT_CASE(h02_zero_length),
	KUNIT_CASE(h03_wraps_around),
	KUNIT_CASE(h07_ram_as_mmio),
	KUNIT_CASE(h08_mmio_as_ram),
	KUNIT_CASE(h08_all_other_resources),
	KUNIT_CASE(partial_page_of_ram),
	KUNIT_CASE(h08_mmio_with_pages),
	KUNIT_CASE(resource_bounds),
	KUNIT_CASE(resource_of_other_types),
	KUNIT_CASE(bar_not_shared),
	KUNIT_CASE(h23_no_such_bar),
	KUNIT_CASE(h24_bar_bounds),
	{ }
};

static struct kunit_suite range_suite = {
	.name = "dma_phys_range",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_test_init,
	.exit = edu_test_exit,
	.test_cases = range_cases,
};

kunit_test_suite(range_suite);

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of range.c: nothing but RAM is ever a range of RAM, and nothing but
 * device memory a range of device memory.
 */
#include <linux/ioport.h>
#include <linux/limits.h>
#include <linux/mm.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "edu_kunit.h"

/* What a range looks like before a call that must not write it. */
static const struct cpu_phys cpu_before = { .addr = 0x5a5a, .len = 0xa5a5 };
static const struct mmio_phys mmio_before = { .addr = 0x5a5a, .len = 0xa5a5 };

static void addr_refused(struct kunit *test, phys_addr_t addr, size_t len)
{
	struct cpu_phys range = cpu_before;

	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_addr(addr, len, &range),
			    -EINVAL, "%pa+%zu", &addr, len);
	KUNIT_EXPECT_MEMEQ(test, &range, &cpu_before, sizeof(range));
}

static void virt_refused(struct kunit *test, const void *virt, size_t len)
{
	struct cpu_phys range = cpu_before;

	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_virt(virt, len, &range),
			    -EINVAL, "%p+%zu", virt, len);
	KUNIT_EXPECT_MEMEQ(test, &range, &cpu_before, sizeof(range));
}

static void page_refused(struct kunit *test, struct page *page, size_t offset,
			 size_t len)
{
	struct cpu_phys range = cpu_before;

	KUNIT_EXPECT_EQ_MSG(test, cpu_phys_from_page(page, offset, len, &range),
			    -EINVAL, "%zu+%zu", offset, len);
	KUNIT_EXPECT_MEMEQ(test, &range, &cpu_before, sizeof(range));
}

static void resource_refused(struct kunit *test, const struct resource *res,
			     u64 offset, size_t len)
{
	struct mmio_phys range = mmio_before;

	KUNIT_EXPECT_EQ_MSG(test,
			    mmio_phys_from_resource(res, offset, len, &range),
			    -EINVAL, "%pR: %llu+%zu", res, offset, len);
	KUNIT_EXPECT_MEMEQ(test, &range, &mmio_before, sizeof(range));
}

static void bar_fails(struct kunit *test, struct pci_dev *pdev, int bar,
		      u64 offset, size_t len, int err)
{
	struct mmio_phys range = mmio_before;

	KUNIT_EXPECT_EQ_MSG(test,
			    mmio_phys_from_bar(pdev, bar, offset, len, &range),
			    err, "BAR %d: %llu+%zu", bar, offset, len);
	KUNIT_EXPECT_MEMEQ(test, &range, &mmio_before, sizeof(range));
}

static int keep_end(unsigned long pfn, unsigned long count, void *end)
{
	*(phys_addr_t *)end = PFN_PHYS(pfn + count);
	return 0;
}

/* The first byte after the last RAM of the machine, kept or not. */
static phys_addr_t end_of_ram(struct kunit *test)
{
	phys_addr_t end = 0;

	walk_system_ram_range(0, max_pfn, &end, keep_end);
	for (unsigned int i = 0; i < edu_kept_count; i++)
		end = max(end, edu_kept[i] + EDU_KEPT_BYTES);
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
		struct cpu_phys want = { virt_to_phys(virt) + offset, len };
		struct cpu_phys got = {};

		KUNIT_EXPECT_EQ(test,
				cpu_phys_from_page(page, offset, len, &got), 0);
		KUNIT_EXPECT_MEMEQ(test, &got, &want, sizeof(got));

		got = (struct cpu_phys){};
		KUNIT_EXPECT_EQ(test,
				cpu_phys_from_virt(virt + offset, len, &got), 0);
		KUNIT_EXPECT_MEMEQ(test, &got, &want, sizeof(got));

		got = (struct cpu_phys){};
		KUNIT_EXPECT_EQ(test, cpu_phys_from_addr(want.addr, len, &got),
				0);
		KUNIT_EXPECT_MEMEQ(test, &got, &want, sizeof(got));
	}
}

/* A page in the middle of a folio, up to the end of the folio and beyond. */
static void page_inside_folio(struct kunit *test)
{
	u8 *virt = edu_pages(test, 2);
	struct page *page = virt_to_page(virt) + 3;
	struct cpu_phys range;

	KUNIT_EXPECT_EQ(test, cpu_phys_from_page(page, 0, PAGE_SIZE, &range), 0);
	KUNIT_EXPECT_EQ(test, range.addr, virt_to_phys(virt) + 3 * PAGE_SIZE);

	page_refused(test, page, 0, end_of_ram(test));
	page_refused(test, page, end_of_ram(test), 1);
}

static void slab_memory(struct kunit *test)
{
	u8 *p = kunit_kmalloc(test, 200, GFP_KERNEL);
	struct cpu_phys range;

	KUNIT_ASSERT_NOT_NULL(test, p);
	KUNIT_EXPECT_EQ(test, cpu_phys_from_virt(p + 1, 199, &range), 0);
	KUNIT_EXPECT_EQ(test, range.addr, virt_to_phys(p + 1));
	KUNIT_EXPECT_EQ(test, range.len, 199);
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
	virt_refused(test, &image, 1);
	virt_refused(test, (void *)virt_refused, 1);
	virt_refused(test, "rodata", 1);
	virt_refused(test, (void *)PAGE_SIZE, 1);
	virt_refused(test, (void *)ULONG_MAX, 1);
	virt_refused(test, phys_to_virt(end_of_ram(test)), 1);
	if (edu.regs)
		virt_refused(test, (void __force *)edu.regs, 1);
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
	if (edu.lender)
		res = &edu.lender->resource[EDU_LENDER_BAR];
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

	edu_need_lender(test);
	resource_refused(test, &edu.lender->resource[EDU_LENDER_BAR], 0, 0);
}

static void h03_wraps_around(struct kunit *test)
{
	u8 *virt = edu_pages(test, 0);
	struct resource res = DEFINE_RES_MEM(0, 0);
	phys_addr_t phys = virt_to_phys(virt);

	addr_refused(test, phys, SIZE_MAX);
	addr_refused(test, phys, SIZE_MAX - phys + 2);
	addr_refused(test, PHYS_ADDR_MAX, 2);
	addr_refused(test, PHYS_ADDR_MAX - PAGE_SIZE + 1, PAGE_SIZE + 1);
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

/* RAM, as a whole, in part, and hidden in a resource, is no device memory. */
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
	edu_need_lender(test);
	res.start = pci_resource_start(edu.lender, EDU_LENDER_BAR);
	res.end = max(res.start, end) + PAGE_SIZE;
	res.start = min(res.start, end - 1);
	resource_refused(test, &res, 0, resource_size(&res));
}

/* Device memory, as a whole or in part, is no RAM. */
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

	edu_need_lender(test);
	bar = pci_resource_start(edu.lender, EDU_LENDER_BAR);
	addr_refused(test, bar, PAGE_SIZE);

	/* From RAM to device memory, whichever comes first. */
	start = min(bar, end - PAGE_SIZE);
	addr_refused(test, start, max(bar + PAGE_SIZE, end) - start);
}

/* That it has pages and a linear address makes RAM of no device memory. */
static void h08_mmio_with_pages(struct kunit *test)
{
	void *virt;
	int err;

	edu_need_lender(test);
	err = pci_p2pdma_add_resource(edu.lender, EDU_LENDER_BAR, 0, 0);
	if (err)
		kunit_skip(test, "the lender's BAR cannot have pages (%d): has it 2 MiB?",
			   err);

	virt = pci_alloc_p2pmem(edu.lender, PAGE_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, virt);
	page_refused(test, virt_to_page(virt), 0, PAGE_SIZE);
	page_refused(test, virt_to_page(virt), 0, 1);
	virt_refused(test, virt, PAGE_SIZE);
	addr_refused(test, virt_to_phys(virt), PAGE_SIZE);
	pci_free_p2pmem(edu.lender, virt, PAGE_SIZE);

	/* The pages go with the driver; the exit of the test brings it back. */
	device_release_driver(&edu.lender->dev);
}

static void resource_bounds(struct kunit *test)
{
	const struct resource *res;
	struct mmio_phys range;
	u64 size;

	edu_need_lender(test);
	res = &edu.lender->resource[EDU_LENDER_BAR];
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

	/* Ends before it starts: how a resource of no bytes is written. */
	res = DEFINE_RES_MEM(SZ_1G, 0);
	resource_refused(test, &res, 0, 1);
}

static void bar_not_lent(struct kunit *test)
{
	edu_need_lender(test);
	bar_fails(test, edu.lender, EDU_LENDER_BAR, 0, 1, -ENODEV);
}

/* The lender's memory, lent for the rest of the test, and its length. */
static u64 lend(struct kunit *test)
{
	edu_need_lender(test);
	KUNIT_ASSERT_EQ(test, edu_lend(test, edu.lender, EDU_LENDER_BAR), 0);
	return pci_resource_len(edu.lender, EDU_LENDER_BAR);
}

static void h23_no_such_bar(struct kunit *test)
{
	static const int bars[] = {
		-1, PCI_ROM_RESOURCE, PCI_ROM_RESOURCE + 1, PCI_NUM_RESOURCES,
		1000, INT_MIN, INT_MAX,
	};
	struct pci_dev *pdev = NULL;

	lend(test);
	for (int i = 0; i < ARRAY_SIZE(bars); i++)
		bar_fails(test, edu.lender, bars[i], 0, 1, -EINVAL);

	/* All that is no memory, in all devices there are. */
	for_each_pci_dev(pdev)
		for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
			if (!(pci_resource_flags(pdev, bar) & IORESOURCE_MEM))
				bar_fails(test, pdev, bar, 0, 1, -EINVAL);
}

static void h24_bar_bounds(struct kunit *test)
{
	struct pci_dev *pdev = edu.lender;
	u64 size = lend(test);
	struct mmio_phys range;
	int bar = EDU_LENDER_BAR;

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
	KUNIT_CASE(page_inside_folio),
	KUNIT_CASE(slab_memory),
	KUNIT_CASE(virt_outside_linear_map),
	KUNIT_CASE(null_arguments),
	KUNIT_CASE(h02_zero_length),
	KUNIT_CASE(h03_wraps_around),
	KUNIT_CASE(h07_ram_as_mmio),
	KUNIT_CASE(h08_mmio_as_ram),
	KUNIT_CASE(h08_mmio_with_pages),
	KUNIT_CASE(resource_bounds),
	KUNIT_CASE(resource_of_other_types),
	KUNIT_CASE(bar_not_lent),
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

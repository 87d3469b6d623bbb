// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel does for maps, syncs and unmaps, seen by kprobes: cache
 * maintenance, kernel mappings of pages, and prot of page table entries. For
 * memory it is what it does for the raw API. Device memory is not touched.
 *
 * Single maps of memory are compared in equivalence_kunit.c.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/generic_pt/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/swiotlb.h>

#include "sg_kunit.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys_kunit."

static bool observe_emulated;
module_param_named(emulated, observe_emulated, bool, 0);
MODULE_PARM_DESC(emulated, "cache maintenance by address does not fault");

/**
 * struct observe_sums - what a task did
 * @flushes: calls for cache maintenance
 * @flushed: bytes of these calls
 * @kmaps: kernel mappings of a page
 * @entries: calls that write page table entries
 * @mmio: those of them with IOMMU_MMIO
 */
struct observe_sums {
	unsigned int flushes;
	size_t flushed;
	unsigned int kmaps;
	unsigned int entries;
	unsigned int mmio;
};

/* The task that is observed, and the physical addresses that count. */
static struct {
	struct task_struct *task;
	phys_addr_t start;
	phys_addr_t last;
	struct observe_sums sums;
} observe;

static void observe_start(phys_addr_t start, phys_addr_t last)
{
	observe.start = start;
	observe.last = last;
	observe.sums = (struct observe_sums){};
	WRITE_ONCE(observe.task, current);
}

static struct observe_sums observe_end(void)
{
	WRITE_ONCE(observe.task, NULL);
	return observe.sums;
}

static bool observe_counts(phys_addr_t phys)
{
	return current == READ_ONCE(observe.task) && phys >= observe.start &&
	       phys <= observe.last;
}

/* ---- Probes ---- */

/* The first argument is a physical address, which may take two words. */
static int observe_flush(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned int words = sizeof(phys_addr_t) / sizeof(long);
	u64 phys = edu_argument(regs, 0);

	if (words == 2)
		phys |= (u64)edu_argument(regs, 1) << 32;
	if (observe_counts(phys)) {
		observe.sums.flushes++;
		observe.sums.flushed += edu_argument(regs, words);
	}
	return 0;
}

static int observe_kmap_page(struct kprobe *probe, struct pt_regs *regs)
{
	struct page *page = (struct page *)edu_argument(regs, 0);

	if (observe_counts(page_to_phys(page)))
		observe.sums.kmaps++;
	return 0;
}

static int observe_kmap_pfn(struct kprobe *probe, struct pt_regs *regs)
{
	if (observe_counts(PFN_PHYS((phys_addr_t)edu_argument(regs, 0))))
		observe.sums.kmaps++;
	return 0;
}

/* Of an IOMMU that is used here, a physical address takes one word. */
static int observe_entry(struct kprobe *probe, struct pt_regs *regs)
{
	if (observe_counts(edu_argument(regs, 2))) {
		observe.sums.entries++;
		observe.sums.mmio += !!(edu_argument(regs, 4) & IOMMU_MMIO);
	}
	return 0;
}

/* Without such a page table iommu_map_nosync() is called for each range. */
static int observe_entries(struct kprobe *probe, struct pt_regs *regs)
{
	struct iommu_domain *domain = (void *)edu_argument(regs, 0);
	const struct phys_vec *vecs = (void *)edu_argument(regs, 2);

	if (!iommupt_from_domain(domain))
		return 0;
	for (unsigned int i = 0; i < edu_argument(regs, 3); i++)
		if (observe_counts(vecs[i].paddr)) {
			observe.sums.entries++;
			observe.sums.mmio += !!(edu_argument(regs, 4) &
						IOMMU_MMIO);
		}
	return 0;
}

/**
 * struct observe_probe - a function to observe
 * @symbol: its name
 * @handler: called before it
 * @exists: the kernel has it
 * @probe: the probe
 */
struct observe_probe {
	const char *symbol;
	kprobe_pre_handler_t handler;
	bool exists;
	struct kprobe probe;
};

static struct observe_probe observe_probes[] = {
	{
		.symbol = "arch_sync_dma_for_device",
		.handler = observe_flush,
		.exists = IS_ENABLED(CONFIG_ARCH_HAS_SYNC_DMA_FOR_DEVICE),
	},
	{
		.symbol = "arch_sync_dma_for_cpu",
		.handler = observe_flush,
		.exists = IS_ENABLED(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU),
	},
	{
		.symbol = "__kmap_local_page_prot",
		.handler = observe_kmap_page,
		.exists = IS_ENABLED(CONFIG_HIGHMEM),
	},
	{
		.symbol = "__kmap_local_pfn_prot",
		.handler = observe_kmap_pfn,
		.exists = IS_ENABLED(CONFIG_KMAP_LOCAL),
	},
	{
		.symbol = "iommu_map_nosync",
		.handler = observe_entry,
		.exists = IS_ENABLED(CONFIG_IOMMU_DMA),
	},
	{
		.symbol = "iommu_map_vecs_nosync",
		.handler = observe_entries,
		.exists = IS_ENABLED(CONFIG_IOMMU_DMA),
	},
};

static void observe_suite_exit(struct kunit_suite *suite)
{
	for (int i = 0; i < ARRAY_SIZE(observe_probes); i++)
		if (observe_probes[i].probe.pre_handler)
			unregister_kprobe(&observe_probes[i].probe);
	edu_suite_exit(suite);
}

/* Without one of its probes the suite would see nothing: then it fails. */
static int observe_suite_init(struct kunit_suite *suite)
{
	int err = edu_suite_init(suite);

	for (int i = 0; !err && i < ARRAY_SIZE(observe_probes); i++) {
		struct observe_probe *each = &observe_probes[i];

		if (!each->exists)
			continue;
		each->probe = (struct kprobe){
			.symbol_name = each->symbol,
			.pre_handler = each->handler,
		};
		err = register_kprobe(&each->probe);
		if (err) {
			pr_err("%s: no probe: %d\n", each->symbol, err);
			each->probe.pre_handler = NULL;
		}
	}
	return err;
}

/* ---- Memory ---- */

static void observe_raw(const struct cpu_phys *ranges, size_t count,
			enum dma_data_direction dir)
{
	dma_addr_t addrs[SCATTERED];
	size_t done = 0;

	for (; done < count; done++) {
		addrs[done] = dma_map_phys(edu.dev, ranges[done].addr,
					   ranges[done].len, dir, 0);
		if (dma_mapping_error(edu.dev, addrs[done]))
			break;
	}
	for (size_t i = 0; i < done; i++)
		dma_sync_single_for_cpu(edu.dev, addrs[i], ranges[i].len, dir);
	for (size_t i = 0; i < done; i++)
		dma_sync_single_for_device(edu.dev, addrs[i], ranges[i].len,
					   dir);
	for (size_t i = 0; i < done; i++)
		dma_unmap_phys(edu.dev, addrs[i], ranges[i].len, dir, 0);
}

/* A list: as many bytes, in fewer calls where ranges are adjacent. */
static struct observe_sums observe_compare(struct kunit *test,
					   const struct cpu_phys *ranges,
					   size_t count, size_t size)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct observe_sums raw;

	for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
		struct observe_sums typed;

		observe_start(0, PHYS_ADDR_MAX);
		observe_raw(ranges, count, dir);
		raw = observe_end();

		observe_start(0, PHYS_ADDR_MAX);
		list->count = dma_phys_test_list_map(list, ranges, count, dir,
						     0);
		KUNIT_EXPECT_GT(test, list->count, 0);
		KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&list->sg, 0,
							       size), 0);
		KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_device(&list->sg, 0,
								  size), 0);
		dma_phys_sg_unmap(&list->sg);
		typed = observe_end();

		KUNIT_EXPECT_EQ(test, typed.flushed, raw.flushed);
		KUNIT_EXPECT_LE(test, typed.flushes, raw.flushes);
		KUNIT_EXPECT_EQ(test, typed.kmaps, raw.kmaps);
		KUNIT_EXPECT_EQ(test, typed.mmio, 0);
		if (dev_is_dma_coherent(edu.dev))
			KUNIT_EXPECT_EQ(test, typed.flushed, 0);
		else
			KUNIT_EXPECT_GE(test, typed.flushed, size);
	}
	return raw;
}

static void list_is_flushed_like_raw(struct kunit *test)
{
	struct cpu_phys ranges[SCATTERED];
	size_t size;

	size = dma_phys_test_ranges(test, edu_pages(test, 3),
				    dma_phys_test_scattered, SCATTERED, ranges);
	observe_compare(test, ranges, SCATTERED, size);
}

#ifdef CONFIG_HIGHMEM
/* Only the kernel maps it for the CPU: to flush, and to copy a bounce. */
static void highmem_is_mapped_like_raw(struct kunit *test)
{
	struct page *page = edu_high_pages(test);
	struct cpu_phys range;
	struct observe_sums raw;

	KUNIT_ASSERT_EQ(test, cpu_phys_from_page(page, 100, 5000, &range), 0);
	raw = observe_compare(test, &range, 1, range.len);
	if (edu_route(range.addr, range.len) == DMA_PHYS_DIRECT &&
	    dev_is_dma_coherent(edu.dev))
		KUNIT_EXPECT_EQ(test, raw.kmaps, 0);

	edu_set_mask(range.addr - 1);
	raw = observe_compare(test, &range, 1, range.len);
	KUNIT_EXPECT_GT(test, raw.kmaps, 0);
}
#else
static void highmem_is_mapped_like_raw(struct kunit *test)
{
	kunit_skip(test, "all memory has a kernel address");
}
#endif

/* ---- Device memory ---- */

static void observe_start_bar(void)
{
	const struct resource *bar = &edu.pdev->resource[EDU_BAR];

	observe_start(bar->start, bar->end);
}

static void observe_nothing(struct kunit *test, struct observe_sums sums)
{
	KUNIT_EXPECT_EQ(test, sums.flushes, 0);
	KUNIT_EXPECT_EQ(test, sums.kmaps, 0);
	KUNIT_EXPECT_EQ(test, sums.mmio, sums.entries);
	if (use_dma_iommu(edu.dev))
		KUNIT_EXPECT_GT(test, sums.entries, 0);
}

static void device_memory_is_not_touched(struct kunit *test)
{
	struct mmio_phys range = edu_own_mmio(test, 0, 2 * PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);

	if (edu_mmio_route(range.addr, range.len) < 0)
		kunit_skip(test, "no route to device memory on this boot");
	for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
		observe_start_bar();
		KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(edu.dev, &range, dir, 0,
							map), 0);
		KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, range.len),
				0);
		KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0,
							       range.len), 0);
		dma_phys_unmap(map);
		observe_nothing(test, observe_end());
	}
}

static void list_of_device_memory_is_not_touched(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct mmio_phys ranges[] = {
		edu_own_mmio(test, 4 * PAGE_SIZE, PAGE_SIZE),
		edu_own_mmio(test, 0, 2 * PAGE_SIZE),
	};
	size_t size = 3 * PAGE_SIZE;

	if (edu_mmio_route(ranges[0].addr, ranges[0].len) < 0)
		kunit_skip(test, "no route to device memory on this boot");
	for (int dir = DMA_BIDIRECTIONAL; dir <= DMA_FROM_DEVICE; dir++) {
		observe_start_bar();
		list->count = dma_phys_sg_map_mmio(edu.dev, ranges, 2, dir, 0,
						   list->segments,
						   list->max_segments,
						   &list->sg);
		/* Behind an IOMMU they may be one segment. */
		KUNIT_EXPECT_GT(test, list->count, 0);
		KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&list->sg, 0,
							       size), 0);
		KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_device(&list->sg, 0,
								  size), 0);
		dma_phys_sg_unmap(&list->sg);
		observe_nothing(test, observe_end());
	}
}

/*
 * What the raw API does wrong. It also shows that the probes do see flushes of
 * device memory.
 */
static void observe_need_flushes(struct kunit *test)
{
	if (!observe_emulated)
		kunit_skip(test, "a processor may fault");
	if (dev_is_dma_coherent(edu.dev))
		kunit_skip(test, "the device is coherent");
	if (get_dma_ops(edu.dev) || is_swiotlb_force_bounce(edu.dev))
		kunit_skip(test, "the kernel would copy device memory");
}

/* Mapped as memory. */
static void h08_raw_map_flushes_device_memory(struct kunit *test)
{
	struct mmio_phys range = edu_own_mmio(test, 0, PAGE_SIZE);
	struct observe_sums sums;
	dma_addr_t addr;

	observe_need_flushes(test);
	observe_start_bar();
	addr = dma_map_phys(edu.dev, range.addr, range.len, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_FALSE(test, dma_mapping_error(edu.dev, addr));
	if (!dma_mapping_error(edu.dev, addr))
		dma_unmap_phys(edu.dev, addr, range.len, DMA_TO_DEVICE, 0);
	sums = observe_end();

	/* At map, and on some architectures at unmap. */
	KUNIT_EXPECT_GE(test, sums.flushes, 1);
	KUNIT_EXPECT_GE(test, sums.flushed, range.len);
	KUNIT_EXPECT_EQ(test, sums.mmio, 0);
}

/* Mapped with DMA_ATTR_MMIO, which syncs do not know. */
static void h13_raw_sync_flushes_device_memory(struct kunit *test)
{
	struct mmio_phys range = edu_own_mmio(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);
	struct observe_sums sums;
	dma_addr_t addr;

	observe_need_flushes(test);
	observe_start_bar();
	addr = dma_map_phys(edu.dev, range.addr, range.len, DMA_TO_DEVICE,
			    DMA_ATTR_MMIO);
	sums = observe_end();
	KUNIT_ASSERT_FALSE(test, dma_mapping_error(edu.dev, addr));
	observe_nothing(test, sums);

	observe_start_bar();
	dma_sync_single_for_device(edu.dev, addr, range.len, DMA_TO_DEVICE);
	sums = observe_end();
	dma_unmap_phys(edu.dev, addr, range.len, DMA_TO_DEVICE, DMA_ATTR_MMIO);
	KUNIT_EXPECT_EQ(test, sums.flushes, 1);
	KUNIT_EXPECT_EQ(test, sums.flushed, range.len);

	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &range, DMA_TO_DEVICE,
						0, map), 0);
	observe_start_bar();
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, range.len), 0);
	sums = observe_end();
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, sums.flushes, 0);
}

/* The line in which it ends holds other data as well. */
static void h28_raw_unmap_drops_shared_line(struct kunit *test)
{
	size_t len = 4 * dma_get_cache_alignment() + 1;
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), len);
	struct observe_sums sums;
	dma_addr_t addr;

	observe_need_flushes(test);
	if (!IS_ENABLED(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU) || len < 5)
		kunit_skip(test, "nothing is dropped at unmap");
	addr = dma_map_phys(edu.dev, range.addr, len, DMA_FROM_DEVICE, 0);
	KUNIT_ASSERT_FALSE(test, dma_mapping_error(edu.dev, addr));
	observe_start(range.addr, range.addr);
	dma_unmap_phys(edu.dev, addr, len, DMA_FROM_DEVICE, 0);
	sums = observe_end();
	KUNIT_EXPECT_EQ(test, sums.flushes, 1);
	KUNIT_EXPECT_EQ(test, sums.flushed, len);
}

static struct kunit_case observe_cases[] = {
	KUNIT_CASE(list_is_flushed_like_raw),
	KUNIT_CASE(highmem_is_mapped_like_raw),
	KUNIT_CASE(device_memory_is_not_touched),
	KUNIT_CASE(list_of_device_memory_is_not_touched),
	KUNIT_CASE(h08_raw_map_flushes_device_memory),
	KUNIT_CASE(h13_raw_sync_flushes_device_memory),
	KUNIT_CASE(h28_raw_unmap_drops_shared_line),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite observe_suite = {
	.name = "dma_phys_observe",
	.suite_init = observe_suite_init,
	.suite_exit = observe_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = observe_cases,
};

kunit_test_suite(observe_suite);

// SPDX-License-Identifier: GPL-2.0
/*
 * Every step of a map fails in turn: the errno is the step's, nothing stays
 * behind, and the next map works.
 *
 * With dma_phys_kunit.fail_nth=1 every allocation below the core fails in turn
 * as well: of slab, and of pages where debugfs lets fail_page_alloc have its
 * way. That wants dma_debug=off, which gives up where an allocation fails.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/fault-inject.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "internal.h"
#include "vec_kunit.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys_kunit."
static bool fail_nth;
module_param(fail_nth, bool, 0);
MODULE_PARM_DESC(fail_nth, "Let allocations fail, too, in the suite dma_phys_fault");

/* More steps than any map takes. */
#define MOST_STEPS	200

/* More rounds than it takes to see each step fail. */
#define MOST_ROUNDS	10

#define RANGES		3

/* What is mapped, again and again. */
static struct {
	struct dma_phys_map *map;
	struct dma_phys_vec *vec;
	struct cpu_phys cpu[RANGES];
	struct mmio_phys mmio[RANGES];
	size_t count;
	u8 *in, *out;
} at;

/* How often each errno came, 0 for a fault that was got over. */
static struct {
	int err;
	unsigned int times;
	bool expected;
} seen[16];

static void arm(unsigned int nth)
{
	if (fail_nth) {
		current->fail_nth = nth;
		return;
	}
	dma_phys_fault.count = 0;
	dma_phys_fault.interval = nth;
	atomic_set(&dma_phys_fault.times, 1);
	dma_phys_fault.task_filter = true;
	current->make_it_fail = true;
	dma_phys_fault.probability = 100;
}

/* Whether the fault came. */
static bool disarm(void)
{
	bool hit;

	if (fail_nth) {
		hit = !current->fail_nth;
		current->fail_nth = 0;
		return hit;
	}
	hit = !atomic_read(&dma_phys_fault.times);
	dma_phys_fault.probability = 0;
	current->make_it_fail = false;
	return hit;
}

static void note(struct kunit *test, int err)
{
	for (int i = 0; i < ARRAY_SIZE(seen); i++) {
		if (seen[i].times && seen[i].err != err)
			continue;
		seen[i].err = err;
		seen[i].times++;
		return;
	}
	KUNIT_FAIL(test, "more errnos than there are");
}

/* Let each step of @go fail in turn; after each, @works. */
static void fail_each(struct kunit *test, int (*go)(struct kunit *test),
		      void (*works)(struct kunit *test))
{
	int nth, err;

	memset(seen, 0, sizeof(seen));
	for (nth = 1; nth < MOST_STEPS; nth++) {
		bool hit;

		arm(nth);
		err = go(test);
		hit = disarm();
		if (!hit)
			break;
		note(test, err);
		works(test);
	}
	KUNIT_EXPECT_LT(test, nth, MOST_STEPS);
	KUNIT_EXPECT_EQ(test, err, 0);
}

/* How many steps have failed with @err, which is expected from now on. */
static unsigned int failed_with(int err)
{
	for (int i = 0; i < ARRAY_SIZE(seen); i++)
		if (seen[i].times && seen[i].err == err) {
			seen[i].expected = true;
			return seen[i].times;
		}
	return 0;
}

/* As many steps as there are have failed with @err, or more. */
static void expect(struct kunit *test, int err, unsigned int least)
{
	KUNIT_EXPECT_GE_MSG(test, failed_with(err), least, "errno %d", err);
}

/* And with no other. Allocations may be got over, or cost a page table. */
static void expect_no_other(struct kunit *test)
{
	if (fail_nth) {
		expect(test, 0, 0);
		expect(test, -ENOMEM, 0);
		expect(test, -EAGAIN, 0);
	}
	for (int i = 0; i < ARRAY_SIZE(seen) && seen[i].times; i++) {
		kunit_info(test, "errno %d: %u times", seen[i].err,
			   seen[i].times);
		KUNIT_EXPECT_TRUE_MSG(test, seen[i].expected, "errno %d",
				      seen[i].err);
	}
}

/* What a failed check of the device's reach ends in, for memory. */
static int unreached(void)
{
	return is_swiotlb_active(edu.dev) ? 0 : -ERANGE;
}

static int go_map_cpu(struct kunit *test)
{
	static const struct dma_phys_map nothing;
	int err = dma_phys_map_cpu(edu.dev, at.cpu, DMA_FROM_DEVICE, 0, at.map);

	if (err)
		KUNIT_EXPECT_MEMEQ(test, at.map, &nothing, sizeof(nothing));
	dma_phys_unmap(at.map);
	return err;
}

static int go_map_mmio(struct kunit *test)
{
	static const struct dma_phys_map nothing;
	int err = dma_phys_map_mmio(edu.dev, at.mmio, DMA_FROM_DEVICE, 0,
				    at.map);

	if (err)
		KUNIT_EXPECT_MEMEQ(test, at.map, &nothing, sizeof(nothing));
	dma_phys_unmap(at.map);
	return err;
}

static int go_vec_cpu(struct kunit *test)
{
	int err = dma_phys_vec_map_cpu(edu.dev, at.cpu, at.count,
				       DMA_FROM_DEVICE, 0, at.vec);

	if (err)
		KUNIT_EXPECT_TRUE(test, vec_is_empty(at.vec));
	dma_phys_vec_unmap(at.vec);
	return err;
}

static int go_vec_mmio(struct kunit *test)
{
	int err = dma_phys_vec_map_mmio(edu.dev, at.mmio, at.count,
					DMA_FROM_DEVICE, 0, at.vec);

	if (err)
		KUNIT_EXPECT_TRUE(test, vec_is_empty(at.vec));
	dma_phys_vec_unmap(at.vec);
	return err;
}

/* Random bytes go to the device's buffer. */
static void load(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, at.out, EDU_BUF);
	struct dma_phys_map map = {};

	get_random_bytes(at.out, EDU_BUF);
	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE,
					       0, &map), 0);
	edu_pull(test, map.addr, EDU_BUF);
	dma_phys_unmap(&map);
}

static void works_map_cpu(struct kunit *test)
{
	size_t len = min(at.cpu[0].len, EDU_BUF);

	load(test);
	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, at.cpu, DMA_FROM_DEVICE,
					       0, at.map), 0);
	edu_push(test, at.map->addr, len);
	dma_phys_unmap(at.map);
	KUNIT_EXPECT_MEMEQ(test, phys_to_virt(at.cpu[0].addr), at.out, len);
}

static u8 __iomem *shmem(const struct mmio_phys *range)
{
	return edu.shmem + (range->addr -
			    pci_resource_start(edu.lender, EDU_LENDER_BAR));
}

static void works_map_mmio(struct kunit *test)
{
	size_t len = at.mmio[0].len;

	load(test);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, at.mmio,
						DMA_FROM_DEVICE, 0, at.map), 0);
	edu_push(test, at.map->addr, len);
	dma_phys_unmap(at.map);
	memcpy_fromio(at.in, shmem(at.mmio), len);
	KUNIT_EXPECT_MEMEQ(test, at.in, at.out, len);
}

/* All segments get the same bytes. */
static void fill_segments(struct kunit *test)
{
	for (size_t i = 0; i < at.vec->count; i++)
		for (size_t n, done = 0; done < at.vec->segments[i].len;
		     done += n) {
			n = min(at.vec->segments[i].len - done, EDU_BUF);
			edu_push(test, at.vec->segments[i].addr + done, n);
		}
}

static void works_vec_cpu(struct kunit *test)
{
	size_t size = 0;

	for (size_t i = 0; i < at.count; i++)
		size += at.cpu[i].len;
	load(test);
	KUNIT_ASSERT_EQ(test, dma_phys_vec_map_cpu(edu.dev, at.cpu, at.count,
						   DMA_FROM_DEVICE, 0, at.vec),
			0);
	vec_check(test, at.vec, size);
	fill_segments(test);
	dma_phys_vec_unmap(at.vec);
	for (size_t i = 0; i < at.count; i++)
		KUNIT_EXPECT_MEMEQ(test, phys_to_virt(at.cpu[i].addr), at.out,
				   at.cpu[i].len);
}

static void works_vec_mmio(struct kunit *test)
{
	load(test);
	KUNIT_ASSERT_EQ(test, dma_phys_vec_map_mmio(edu.dev, at.mmio, at.count,
						    DMA_FROM_DEVICE, 0, at.vec),
			0);
	fill_segments(test);
	dma_phys_vec_unmap(at.vec);
	for (size_t i = 0; i < at.count; i++) {
		memcpy_fromio(at.in, shmem(&at.mmio[i]), at.mmio[i].len);
		KUNIT_EXPECT_MEMEQ(test, at.in, at.out, at.mmio[i].len);
	}
}

/* Pages that follow each other in no order, in whole or in part. */
static void take_ranges(struct kunit *test, size_t len)
{
	u8 *buf = edu_pages(test, 3);

	for (int i = 0; i < RANGES; i++)
		at.cpu[i] = edu_range(test, buf + (6 - 2 * i) * PAGE_SIZE, len);
	at.count = RANGES;
}

static void take_mmio(struct kunit *test, u32 peer)
{
	for (int i = 0; i < RANGES; i++) {
		at.mmio[i] = edu_mmio(test, (6 - 2 * i) * PAGE_SIZE, EDU_BUF);
		at.mmio[i].peer = peer;
	}
	at.count = RANGES;
}

static void map_cpu_steps(struct kunit *test)
{
	take_ranges(test, EDU_BUF);
	fail_each(test, go_map_cpu, works_map_cpu);

	switch (edu_route(at.cpu[0].addr, at.cpu[0].len)) {
	case DMA_PHYS_IOMMU:
		expect(test, -EAGAIN, 1);		/* IOVA */
		expect(test, -ENOMEM, 2);		/* page table, sync */
		break;
	case DMA_PHYS_BOUNCE:
		expect(test, -EAGAIN, 1);		/* slot */
		expect(test, -ERANGE, 1);		/* the slot's reach */
		break;
	default:
		expect(test, unreached(), 1);
	}
	expect_no_other(test);
}

/*
 * Page tables come and go with it, so that their allocation can fail. What is
 * allocated for debugging comes and goes as it likes: it can be the one that
 * fails where a table was the turn before. Another round then finds the table.
 */
static void map_large_steps(struct kunit *test)
{
	unsigned int least = fail_nth ? 3 : 2;	/* page table, sync; a table */
	int rounds = MOST_ROUNDS;

	edu_need_iommu(test);
	at.cpu[0] = edu_range(test, edu_pages(test, get_order(SZ_4M)) + SZ_4K,
			      SZ_4M - SZ_4K);
	do {
		fail_each(test, go_map_cpu, works_map_cpu);
	} while (failed_with(-ENOMEM) < least && --rounds);
	expect(test, -EAGAIN, 1);			/* IOVA */
	expect(test, -ENOMEM, least);
	expect_no_other(test);
}

/* Under an IOMMU: a slot, then what a map takes. */
static void map_untrusted_steps(struct kunit *test)
{
	edu_need_iommu(test);
	take_ranges(test, 1000);
	edu.pdev->untrusted = true;
	if (!is_swiotlb_active(edu.dev)) {
		edu_refuses(test, at.cpu, DMA_FROM_DEVICE, 0, -ERANGE);
		return;
	}
	fail_each(test, go_map_cpu, works_map_cpu);
	expect(test, -EAGAIN, 2);			/* slot, IOVA */
	expect(test, -ENOMEM, 2);			/* page table, sync */
	expect_no_other(test);
}

static void map_mmio_steps(struct kunit *test)
{
	int route;

	take_mmio(test, 0);
	route = edu_mmio_route(at.mmio[0].addr, EDU_BUF);
	if (route < 0)
		kunit_skip(test, "no route to device memory on this boot");
	fail_each(test, go_map_mmio, works_map_mmio);

	if (route == DMA_PHYS_IOMMU) {
		expect(test, -EAGAIN, 1);		/* IOVA */
		expect(test, -ENOMEM, 2);		/* page table, sync */
	} else {
		expect(test, -ERANGE, 1);		/* reach */
	}
	expect_no_other(test);
}

static void vec_cpu_steps(struct kunit *test)
{
	take_ranges(test, 700);
	fail_each(test, go_vec_cpu, works_vec_cpu);

	switch (edu_route(at.cpu[0].addr, at.cpu[0].len)) {
	case DMA_PHYS_IOMMU:
		expect(test, -EAGAIN, RANGES);		/* IOVA */
		expect(test, -ENOMEM, 2 * RANGES);	/* page table, sync */
		expect(test, -ENOSPC, 2 * RANGES);	/* piece, segment */
		break;
	case DMA_PHYS_BOUNCE:
		expect(test, -EAGAIN, RANGES);		/* slot */
		expect(test, -ERANGE, RANGES);		/* the slot's reach */
		expect(test, -ENOSPC, 2 * RANGES);	/* piece, segment */
		break;
	default:
		expect(test, unreached(), RANGES);
		expect(test, -ENOSPC, RANGES);		/* segment */
	}
	expect_no_other(test);
}

/* Whole pages: one IOVA for all. */
static void vec_linked_steps(struct kunit *test)
{
	edu_need_iommu(test);
	take_ranges(test, PAGE_SIZE);
	fail_each(test, go_vec_cpu, works_vec_cpu);
	expect(test, -EAGAIN, 1);			/* IOVA */
	expect(test, -ENOMEM, RANGES + 1);		/* page table, sync */
	expect(test, -ENOSPC, 1);			/* segment */
	expect_no_other(test);
}

static void vec_mmio_steps(struct kunit *test)
{
	int route;

	take_mmio(test, 0);
	route = edu_mmio_route(at.mmio[0].addr, EDU_BUF);
	if (route < 0)
		kunit_skip(test, "no route to device memory on this boot");
	fail_each(test, go_vec_mmio, works_vec_mmio);

	if (route == DMA_PHYS_IOMMU) {
		expect(test, -EAGAIN, 1);		/* IOVA */
		expect(test, -ENOMEM, RANGES + 1);	/* page table, sync */
		expect(test, -ENOSPC, 1);		/* segment */
	} else {
		expect(test, -ERANGE, RANGES);		/* reach */
		expect(test, -ENOSPC, RANGES);		/* segment */
	}
	expect_no_other(test);
}

static void peer_steps(struct kunit *test)
{
	struct mmio_phys range;
	int err;

	edu_need_lender(test);
	KUNIT_ASSERT_EQ(test, edu_lend(test, edu.lender, EDU_LENDER_BAR), 0);
	KUNIT_ASSERT_EQ(test, mmio_phys_from_bar(edu.lender, EDU_LENDER_BAR, 0,
						 PAGE_SIZE, &range), 0);
	err = dma_phys_map_mmio(edu.dev, &range, DMA_FROM_DEVICE, 0, at.map);
	if (err)
		kunit_skip(test, "no route to the peer on this boot (%d)", err);
	KUNIT_EXPECT_EQ(test, at.map->route, DMA_PHYS_BUS);
	dma_phys_unmap(at.map);
	take_mmio(test, range.peer);

	fail_each(test, go_map_mmio, works_map_mmio);
	expect(test, -ENODEV, 1);			/* peer */
	expect(test, -EREMOTEIO, 1);			/* way */
	expect(test, -ERANGE, 1);			/* reach */
	expect_no_other(test);

	fail_each(test, go_vec_mmio, works_vec_mmio);
	expect(test, -ENODEV, 1);			/* peer */
	expect(test, -EREMOTEIO, 1);			/* way */
	expect(test, -ERANGE, RANGES);			/* reach */
	expect(test, -ENOSPC, RANGES);			/* segment */
	expect_no_other(test);
}

static int go_lend(struct kunit *test)
{
	int err = dma_phys_peer_register(edu.lender, EDU_LENDER_BAR);
	struct mmio_phys range;

	if (err)
		KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(edu.lender,
							 EDU_LENDER_BAR, 0, 1,
							 &range), -ENODEV);
	dma_phys_peer_unregister(edu.lender, EDU_LENDER_BAR);
	return err;
}

/* Bound anew, the device has to be prepared for its peers anew as well. */
static void works_lend(struct kunit *test)
{
	device_release_driver(&edu.lender->dev);
	KUNIT_ASSERT_EQ(test, device_attach(&edu.lender->dev), 1);
	KUNIT_EXPECT_EQ(test, edu_lend(test, edu.lender, EDU_LENDER_BAR), 0);
	device_release_driver(&edu.lender->dev);
	KUNIT_ASSERT_EQ(test, device_attach(&edu.lender->dev), 1);
}

static void lend_steps(struct kunit *test)
{
	edu_need_lender(test);
	fail_each(test, go_lend, works_lend);
	/* The peer, its reference, its id; and what goes before. */
	expect(test, -ENOMEM, fail_nth ? 4 : 3);
	expect_no_other(test);
}

/* Legacy ops, which put memory where it is. */

static int mapped_by_ops;

static dma_addr_t ops_map(struct device *dev, phys_addr_t phys, size_t size,
			  enum dma_data_direction dir, unsigned long attrs)
{
	mapped_by_ops++;
	return phys;
}

static void ops_unmap(struct device *dev, dma_addr_t addr, size_t size,
		      enum dma_data_direction dir, unsigned long attrs)
{
	mapped_by_ops--;
}

static void ops_steps(struct kunit *test)
{
	static const struct dma_map_ops ops = {
		.map_phys = ops_map,
		.unmap_phys = ops_unmap,
	};

	if (!IS_ENABLED(CONFIG_ARCH_HAS_DMA_OPS))
		kunit_skip(test, "built without legacy dma_map_ops");
	if (use_dma_iommu(edu.dev))
		kunit_skip(test, "an IOMMU serves the device: its legacy ops are not asked");

	mapped_by_ops = 0;
	set_dma_ops(edu.dev, &ops);
	take_ranges(test, 700);
	fail_each(test, go_map_cpu, works_map_cpu);
	expect(test, -EAGAIN, 1);			/* map_phys */
	expect_no_other(test);

	fail_each(test, go_vec_cpu, works_vec_cpu);
	expect(test, -EAGAIN, RANGES);			/* map_phys */
	expect(test, -ENOSPC, 2 * RANGES);		/* piece, segment */
	expect_no_other(test);

	if (edu.lender) {
		take_mmio(test, 0);
		fail_each(test, go_map_mmio, works_map_mmio);
		expect(test, -EOPNOTSUPP, 1);		/* map_phys */
		expect_no_other(test);
	}
	KUNIT_EXPECT_EQ(test, mapped_by_ops, 0);
}

/* The device reaches nothing through its IOMMU, when nothing is mapped. */
static void no_translation_is_left(struct kunit *test)
{
	unsigned int left = 0;

	edu_need_iommu(test);
	for (dma_addr_t addr = 0; addr < SZ_256M; addr += PAGE_SIZE)
		left += !!edu_translate(addr);
	KUNIT_EXPECT_EQ(test, left, 0);
}

static int fault_test_init(struct kunit *test)
{
	int err = edu_device_init(test);

	if (err)
		return err;
	dma_phys_fault.verbose = 0;
	at.map = edu_handle(test);
	at.vec = vec_empty(test, ROOM);
	at.in = edu_pages(test, 0);
	at.out = edu_pages(test, 0);
	return 0;
}

static struct kunit_case fault_cases[] = {
	KUNIT_CASE(map_cpu_steps),
	KUNIT_CASE(map_large_steps),
	KUNIT_CASE(map_untrusted_steps),
	KUNIT_CASE(map_mmio_steps),
	KUNIT_CASE(vec_cpu_steps),
	KUNIT_CASE(vec_linked_steps),
	KUNIT_CASE(vec_mmio_steps),
	KUNIT_CASE(peer_steps),
	KUNIT_CASE(lend_steps),
	KUNIT_CASE(ops_steps),
	KUNIT_CASE(no_translation_is_left),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite fault_suite = {
	.name = "dma_phys_fault",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = fault_test_init,
	.exit = edu_test_exit,
	.test_cases = fault_cases,
};

kunit_test_suite(fault_suite);

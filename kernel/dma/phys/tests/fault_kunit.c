// SPDX-License-Identifier: GPL-2.0
/*
 * Tests with fault injection: each step of a map fails in turn, with the errno
 * of that step. Nothing stays mapped, and the next map works.
 *
 * With dma_phys_kunit.fail_nth=1 each allocation below the core fails in turn as
 * well, from slab, and of pages as far as fail_page_alloc/ in debugfs allows it.
 * That needs dma_debug=off: dma-debug disables itself if an allocation fails.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-peer.h>
#include <linux/fault-inject.h>
#include <linux/iommu-dma.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "internal.h"
#include "sg_kunit.h"

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys_kunit."
static bool fail_nth;
module_param(fail_nth, bool, 0);
MODULE_PARM_DESC(fail_nth, "Fail allocations as well in the suite dma_phys_fault");

/* No map has as many steps. */
#define FAULT_TEST_MAX_STEPS	200

/* Rounds after which each step has failed. */
#define FAULT_TEST_MAX_ROUNDS	10

#define FAULT_TEST_RANGES	3

/* The core links 32 ranges of memory at once: so many are three links. */
#define FAULT_TEST_MANY		65

/* How often a later link fails. */
#define FAULT_TEST_FAILURES	10000

/* What a test maps. */
static struct {
	struct dma_phys_map *map;
	struct dma_phys_test_list *list;
	struct cpu_phys cpu[FAULT_TEST_RANGES];
	struct cpu_phys many[FAULT_TEST_MANY];
	struct mmio_phys mmio[FAULT_TEST_RANGES];
	u8 *in, *out;
} fault_test;

/* How often each errno was returned; 0 if the map worked despite the fault. */
static struct {
	int err;
	unsigned int count;
	bool expected;
} fault_test_results[16];

/* ---- Fault injection ---- */

static void fault_test_arm(unsigned int nth)
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

/* Returns whether a fault was injected. */
static bool fault_test_disarm(void)
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

static void fault_test_count(struct kunit *test, int err)
{
	for (int i = 0; i < ARRAY_SIZE(fault_test_results); i++) {
		if (fault_test_results[i].count &&
		    fault_test_results[i].err != err)
			continue;
		fault_test_results[i].err = err;
		fault_test_results[i].count++;
		return;
	}
	KUNIT_FAIL(test, "too many errnos");
}

/* Let each step of @map_unmap fail in turn. After each, @verify that it works. */
static void fault_test_each(struct kunit *test,
			    int (*map_unmap)(struct kunit *test),
			    void (*verify)(struct kunit *test))
{
	int nth, err;

	memset(fault_test_results, 0, sizeof(fault_test_results));
	for (nth = 1; nth < FAULT_TEST_MAX_STEPS; nth++) {
		bool hit;

		fault_test_arm(nth);
		err = map_unmap(test);
		hit = fault_test_disarm();
		if (!hit)
			break;
		fault_test_count(test, err);
		verify(test);
	}
	KUNIT_EXPECT_LT(test, nth, FAULT_TEST_MAX_STEPS);
	KUNIT_EXPECT_EQ(test, err, 0);
}

/* How many steps failed with @err, which is expected from now on. */
static unsigned int fault_test_failures(int err)
{
	for (int i = 0; i < ARRAY_SIZE(fault_test_results); i++)
		if (fault_test_results[i].count &&
		    fault_test_results[i].err == err) {
			fault_test_results[i].expected = true;
			return fault_test_results[i].count;
		}
	return 0;
}

static void fault_test_expect(struct kunit *test, int err, unsigned int min)
{
	KUNIT_EXPECT_GE_MSG(test, fault_test_failures(err), min, "errno %d",
			    err);
}

/*
 * At least @min steps fail with @err. In a round, an allocation of something else
 * may fail in place of a step: try again.
 */
static void fault_test_all(struct kunit *test,
			   int (*map_unmap)(struct kunit *test),
			   void (*verify)(struct kunit *test), int err,
			   unsigned int min)
{
	int rounds = FAULT_TEST_MAX_ROUNDS;

	do {
		fault_test_each(test, map_unmap, verify);
	} while (fault_test_failures(err) < min && --rounds);
	fault_test_expect(test, err, min);
}

/* No step failed otherwise. An allocation may have a fallback, or be -ENOMEM. */
static void fault_test_expect_no_other(struct kunit *test)
{
	if (fail_nth) {
		fault_test_expect(test, 0, 0);
		fault_test_expect(test, -ENOMEM, 0);
		fault_test_expect(test, -EAGAIN, 0);
	}
	for (int i = 0; i < ARRAY_SIZE(fault_test_results); i++) {
		if (!fault_test_results[i].count)
			break;
		kunit_info(test, "errno %d: %u times",
			   fault_test_results[i].err,
			   fault_test_results[i].count);
		KUNIT_EXPECT_TRUE_MSG(test, fault_test_results[i].expected,
				      "errno %d", fault_test_results[i].err);
	}
}

/* ---- What the steps end in ---- */

/* The IOMMU fast path has a fallback, so that a fault in it is no failure. */
static int fault_test_iommu_err(void)
{
	return IS_ENABLED(CONFIG_DMA_API_DEBUG) ||
	       !dev_is_dma_coherent(edu.dev) ? -ENOMEM : 0;
}

/* A refusal without another reason is taken for a lack of bounce buffers. */
static int fault_test_direct_err(void)
{
	return is_swiotlb_active(edu.dev) ? -EAGAIN : -EIO;
}

/* The errno of a dma_map_phys() that is refused, for memory. */
static int fault_test_cpu_err(void)
{
	switch (edu_route(fault_test.cpu[0].addr, fault_test.cpu[0].len)) {
	case DMA_PHYS_IOMMU:
		return fault_test_iommu_err();
	case DMA_PHYS_OPS:
		return -EIO;
	default:
		return fault_test_direct_err();
	}
}

/* ---- Map and unmap ---- */

static int fault_test_map_cpu(struct kunit *test)
{
	static const struct dma_phys_map empty;
	int err = dma_phys_map_cpu(edu.dev, fault_test.cpu, DMA_FROM_DEVICE, 0,
				   fault_test.map);

	if (err)
		KUNIT_EXPECT_MEMEQ(test, fault_test.map, &empty, sizeof(empty));
	dma_phys_unmap(fault_test.map);
	return err;
}

static int fault_test_map_mmio(struct kunit *test)
{
	static const struct dma_phys_map empty;
	int err = dma_phys_map_mmio(edu.dev, fault_test.mmio, DMA_FROM_DEVICE,
				    0, fault_test.map);

	if (err)
		KUNIT_EXPECT_MEMEQ(test, fault_test.map, &empty, sizeof(empty));
	dma_phys_unmap(fault_test.map);
	return err;
}

static int fault_test_unmap_list(struct kunit *test)
{
	struct dma_phys_test_list *list = fault_test.list;

	if (list->count < 0)
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	dma_phys_sg_unmap(&list->sg);
	return min(list->count, 0);
}

static int fault_test_map_sg_cpu(struct kunit *test)
{
	dma_phys_test_list_map(fault_test.list, fault_test.cpu,
			       FAULT_TEST_RANGES, DMA_FROM_DEVICE, 0);
	return fault_test_unmap_list(test);
}

static int fault_test_map_sg_many(struct kunit *test)
{
	dma_phys_test_list_map(fault_test.list, fault_test.many,
			       FAULT_TEST_MANY, DMA_FROM_DEVICE, 0);
	return fault_test_unmap_list(test);
}

static int fault_test_do_map_sg_mmio(void)
{
	struct dma_phys_test_list *list = fault_test.list;

	list->count = dma_phys_sg_map_mmio(edu.dev, fault_test.mmio,
					   FAULT_TEST_RANGES, DMA_FROM_DEVICE,
					   0, list->segments,
					   list->max_segments, &list->sg);
	return list->count;
}

static int fault_test_map_sg_mmio(struct kunit *test)
{
	fault_test_do_map_sg_mmio();
	return fault_test_unmap_list(test);
}

/* ---- Verify with the device ---- */

static void fault_test_verify_cpu(struct kunit *test)
{
	size_t len = min(fault_test.cpu[0].len, EDU_BUF);

	edu_load(test, fault_test.out, EDU_BUF);
	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, fault_test.cpu,
					       DMA_FROM_DEVICE, 0,
					       fault_test.map), 0);
	edu_push(test, fault_test.map->addr, len);
	dma_phys_unmap(fault_test.map);
	KUNIT_EXPECT_MEMEQ(test, phys_to_virt(fault_test.cpu[0].addr),
			   fault_test.out, len);
}

static void fault_test_expect_shmem(struct kunit *test,
				    const struct mmio_phys *range)
{
	size_t offset = range->addr -
			pci_resource_start(edu.owner, IVSHMEM_BAR);

	memcpy_fromio(fault_test.in, edu.shmem + offset, range->len);
	KUNIT_EXPECT_MEMEQ(test, fault_test.in, fault_test.out, range->len);
}

static void fault_test_verify_mmio(struct kunit *test)
{
	edu_load(test, fault_test.out, EDU_BUF);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, fault_test.mmio,
						DMA_FROM_DEVICE, 0,
						fault_test.map), 0);
	edu_push(test, fault_test.map->addr, fault_test.mmio[0].len);
	dma_phys_unmap(fault_test.map);
	fault_test_expect_shmem(test, fault_test.mmio);
}

/* The device writes the same bytes at the start of each range. */
static void fault_test_push_list(struct kunit *test, size_t len)
{
	size_t rest;

	for (int i = 0; i < FAULT_TEST_RANGES; i++) {
		dma_addr_t addr = dma_phys_test_list_addr(fault_test.list,
							  i * len, &rest);

		KUNIT_ASSERT_GE(test, rest, len);
		edu_push(test, addr, len);
	}
}

static void fault_test_verify_sg_cpu(struct kunit *test)
{
	size_t len = fault_test.cpu[0].len;

	edu_load(test, fault_test.out, EDU_BUF);
	KUNIT_ASSERT_GT(test, dma_phys_test_list_map(fault_test.list,
						     fault_test.cpu,
						     FAULT_TEST_RANGES,
						     DMA_FROM_DEVICE, 0), 0);
	dma_phys_test_list_check(test, fault_test.list,
				 FAULT_TEST_RANGES * len);
	fault_test_push_list(test, len);
	dma_phys_sg_unmap(&fault_test.list->sg);
	for (int i = 0; i < FAULT_TEST_RANGES; i++)
		KUNIT_EXPECT_MEMEQ(test, phys_to_virt(fault_test.cpu[i].addr),
				   fault_test.out, len);
}

/* The device writes to the last range. */
static void fault_test_verify_sg_many(struct kunit *test)
{
	const struct cpu_phys *last = &fault_test.many[FAULT_TEST_MANY - 1];
	size_t offset = (FAULT_TEST_MANY - 1) * last->len;
	dma_addr_t addr;
	size_t rest;

	edu_load(test, fault_test.out, EDU_BUF);
	KUNIT_ASSERT_GT(test, dma_phys_test_list_map(fault_test.list,
						     fault_test.many,
						     FAULT_TEST_MANY,
						     DMA_FROM_DEVICE, 0), 0);
	addr = dma_phys_test_list_addr(fault_test.list, offset, &rest);
	KUNIT_EXPECT_GE(test, rest, last->len);
	edu_push(test, addr, last->len);
	dma_phys_sg_unmap(&fault_test.list->sg);
	KUNIT_EXPECT_MEMEQ(test, phys_to_virt(last->addr), fault_test.out,
			   last->len);
}

static void fault_test_verify_sg_mmio(struct kunit *test)
{
	edu_load(test, fault_test.out, EDU_BUF);
	KUNIT_ASSERT_GT(test, fault_test_do_map_sg_mmio(), 0);
	fault_test_push_list(test, fault_test.mmio[0].len);
	dma_phys_sg_unmap(&fault_test.list->sg);
	for (int i = 0; i < FAULT_TEST_RANGES; i++)
		fault_test_expect_shmem(test, &fault_test.mmio[i]);
}

/* ---- Ranges ---- */

/* At the start of pages that are not adjacent. */
static void fault_test_cpu_ranges(struct kunit *test, size_t len)
{
	u8 *buf = edu_pages(test, 3);

	for (int i = 0; i < FAULT_TEST_RANGES; i++)
		fault_test.cpu[i] = edu_range(test,
					      buf + (6 - 2 * i) * PAGE_SIZE,
					      len);
}

static void fault_test_mmio_ranges(struct kunit *test, u32 peer)
{
	for (int i = 0; i < FAULT_TEST_RANGES; i++) {
		fault_test.mmio[i] = edu_mmio(test, (6 - 2 * i) * PAGE_SIZE,
					      EDU_BUF);
		fault_test.mmio[i].peer = peer;
	}
}

/* ---- Tests ---- */

static void map_cpu_steps(struct kunit *test)
{
	fault_test_cpu_ranges(test, EDU_BUF);
	fault_test_all(test, fault_test_map_cpu, fault_test_verify_cpu,
		       fault_test_cpu_err(), 1);	/* map */
	fault_test_expect_no_other(test);
}

/*
 * The map needs page tables of its own, so that their allocation can fail. Other
 * allocations, for debugging, may take place in any round and fail instead: the
 * page table then fails in another round.
 */
static void map_large_steps(struct kunit *test)
{
	unsigned int min = fail_nth ? 2 : 1;	/* map; page table */

	edu_need_iommu(test);
	fault_test.cpu[0] = edu_range(test,
				      edu_pages(test, get_order(SZ_4M)) + SZ_4K,
				      SZ_4M - SZ_4K);
	fault_test_all(test, fault_test_map_cpu, fault_test_verify_cpu,
		       fault_test_iommu_err(), min);
	fault_test_expect_no_other(test);
}

/* An unaligned range of an untrusted device bounces, on the fallback only. */
static void map_untrusted_steps(struct kunit *test)
{
	edu_need_iommu(test);
	fault_test_cpu_ranges(test, 1000);
	edu.pdev->untrusted = true;
	if (!is_swiotlb_active(edu.dev)) {
		edu_refuses(test, fault_test.cpu, DMA_FROM_DEVICE, 0, -ERANGE);
		return;
	}
	fault_test_all(test, fault_test_map_cpu, fault_test_verify_cpu,
		       -ENOMEM, 1);			/* map */
	fault_test_expect(test, fault_test_iommu_err(), 1);
	fault_test_expect_no_other(test);
}

static void map_mmio_steps(struct kunit *test)
{
	int route;

	fault_test_mmio_ranges(test, 0);
	route = edu_mmio_route(fault_test.mmio[0].addr, EDU_BUF);
	if (route < 0)
		kunit_skip(test, "device memory cannot be mapped on this boot");
	fault_test_all(test, fault_test_map_mmio, fault_test_verify_mmio,
		       route == DMA_PHYS_IOMMU ? -ENOMEM : -EIO, 1);
	fault_test_expect_no_other(test);
}

/* Range by range, with unmap records if the route needs them. */
static void sg_cpu_steps(struct kunit *test)
{
	enum dma_phys_route route;

	fault_test_cpu_ranges(test, 700);
	route = edu_route(fault_test.cpu[0].addr, 700);
	fault_test_all(test, fault_test_map_sg_cpu, fault_test_verify_sg_cpu,
		       fault_test_cpu_err(), FAULT_TEST_RANGES);
	fault_test_expect(test, -ENOMEM, route != DMA_PHYS_DIRECT);
	fault_test_expect_no_other(test);
}

/* Whole pages: one IOVA. */
static void sg_linked_steps(struct kunit *test)
{
	edu_need_links(test);
	if (PAGE_SHIFT > 12)
		kunit_skip(test, "a page exceeds a transfer of the device");
	fault_test_cpu_ranges(test, PAGE_SIZE);
	/* IOVA, link, sync */
	fault_test_all(test, fault_test_map_sg_cpu, fault_test_verify_sg_cpu,
		       -ENOMEM, 3);
	fault_test_expect_no_other(test);
}

/*
 * The second and the third of three links fail in turn, so often that the IOVAs, if
 * each failure leaked one, would be a large part of the device's 256 MiB. The last
 * case of the suite finds a single one.
 */
static void fault_test_later_links(struct kunit *test,
				   int (*map_unmap)(struct kunit *test),
				   void (*verify)(struct kunit *test))
{
	/* The steps: IOVA, three links, sync. */
	const int steps = 5, second = 3;
	bool hit;
	int err;

	for (int nth = steps; nth <= steps + 1; nth++) {
		fault_test_arm(nth);
		err = map_unmap(test);
		hit = fault_test_disarm();
		KUNIT_ASSERT_EQ(test, hit, nth == steps);
		KUNIT_ASSERT_EQ(test, err, hit ? -ENOMEM : 0);
	}
	for (int i = 0; i < FAULT_TEST_FAILURES; i++) {
		fault_test_arm(second + i % 2);
		err = map_unmap(test);
		hit = fault_test_disarm();
		KUNIT_ASSERT_TRUE(test, hit);
		KUNIT_ASSERT_EQ(test, err, -ENOMEM);
		cond_resched();
	}
	verify(test);
}

static void fault_test_need_later_links(struct kunit *test)
{
	edu_need_links(test);
	if (PAGE_SHIFT > 12)
		kunit_skip(test, "a page exceeds a transfer of the device");
	if (fail_nth)
		kunit_skip(test, "allocations would be counted as links");
}

static void sg_later_links_fail(struct kunit *test)
{
	u8 *buf;

	fault_test_need_later_links(test);
	/* At every second page. */
	buf = edu_pages(test, get_order(2 * FAULT_TEST_MANY * PAGE_SIZE));
	for (int i = 0; i < FAULT_TEST_MANY; i++)
		fault_test.many[i] = edu_range(test, buf + 2 * i * PAGE_SIZE,
					       PAGE_SIZE);
	fault_test_later_links(test, fault_test_map_sg_many,
			       fault_test_verify_sg_many);
}

static void sg_mmio_later_links_fail(struct kunit *test)
{
	fault_test_need_later_links(test);
	fault_test_mmio_ranges(test, 0);
	if (edu_mmio_route(fault_test.mmio[0].addr, EDU_BUF) != DMA_PHYS_IOMMU)
		kunit_skip(test, "device memory is not linked on this boot");
	fault_test_later_links(test, fault_test_map_sg_mmio,
			       fault_test_verify_sg_mmio);
}

static void sg_mmio_steps(struct kunit *test)
{
	int route;

	fault_test_mmio_ranges(test, 0);
	route = edu_mmio_route(fault_test.mmio[0].addr, EDU_BUF);
	if (route < 0)
		kunit_skip(test, "device memory cannot be mapped on this boot");
	if (route == DMA_PHYS_IOMMU)
		/* IOVA, links, sync; or if they are not linked: maps, records */
		fault_test_all(test, fault_test_map_sg_mmio,
			       fault_test_verify_sg_mmio, -ENOMEM,
			       FAULT_TEST_RANGES +
			       (PAGE_SHIFT > 12 || !edu_links() ? 1 : 2));
	else
		fault_test_all(test, fault_test_map_sg_mmio,
			       fault_test_verify_sg_mmio, -EIO,
			       FAULT_TEST_RANGES);
	if (route != DMA_PHYS_IOMMU && IS_ENABLED(CONFIG_DMA_API_DEBUG))
		fault_test_expect(test, -ENOMEM, 1);	/* records */
	fault_test_expect_no_other(test);
}

#ifdef CONFIG_PCI_P2PDMA
/* At its bus address a peer is mapped without the kernel. */
static void fault_test_expect_peer(struct kunit *test, u8 route)
{
	fault_test_expect(test, -ENODEV, 1);		/* peer */
	if (route == DMA_PHYS_IOMMU)
		fault_test_expect(test, -ENOMEM, 1);	/* map */
	else if (route == DMA_PHYS_DIRECT)
		fault_test_expect(test, -EIO, 1);	/* map */
	fault_test_expect_no_other(test);
}

static void peer_steps(struct kunit *test)
{
	struct mmio_phys range;
	u8 route;
	int err;

	edu_need_owner(test);
	KUNIT_ASSERT_EQ(test, edu_share(test, edu.owner, IVSHMEM_BAR), 0);
	KUNIT_ASSERT_EQ(test, mmio_phys_from_bar(edu.owner, IVSHMEM_BAR, 0,
						 PAGE_SIZE, &range), 0);
	err = dma_phys_map_mmio(edu.dev, &range, DMA_FROM_DEVICE, 0,
				fault_test.map);
	if (err == -EREMOTEIO)
		kunit_skip(test, "no P2P path to the peer on this boot");
	KUNIT_ASSERT_EQ(test, err, 0);
	route = fault_test.map->route;
	dma_phys_unmap(fault_test.map);

	fault_test_mmio_ranges(test, range.peer);
	fault_test_all(test, fault_test_map_mmio, fault_test_verify_mmio,
		       -EREMOTEIO, 1);			/* P2P path */
	fault_test_expect_peer(test, route);
	fault_test_all(test, fault_test_map_sg_mmio, fault_test_verify_sg_mmio,
		       -EREMOTEIO, 1);			/* P2P path */
	fault_test_expect_peer(test, route);
}

static int fault_test_register(struct kunit *test)
{
	int err = dma_phys_peer_register(edu.owner, IVSHMEM_BAR);
	struct mmio_phys range;

	if (err)
		KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(edu.owner, IVSHMEM_BAR,
							 0, 1, &range),
				-ENODEV);
	dma_phys_peer_unregister(edu.owner, IVSHMEM_BAR);
	return err;
}

static void fault_test_rebind_owner(struct kunit *test)
{
	device_release_driver(&edu.owner->dev);
	KUNIT_ASSERT_EQ(test, device_attach(&edu.owner->dev), 1);
}

/* Bound again, the device is set up for P2P again. */
static void fault_test_verify_register(struct kunit *test)
{
	fault_test_rebind_owner(test);
	KUNIT_EXPECT_EQ(test, edu_share(test, edu.owner, IVSHMEM_BAR), 0);
	fault_test_rebind_owner(test);
}

static void peer_register_steps(struct kunit *test)
{
	edu_need_owner(test);
	/* The peer, its reference counter, its id; and P2P before them. */
	fault_test_all(test, fault_test_register, fault_test_verify_register,
		       -ENOMEM, fail_nth ? 4 : 3);
	fault_test_expect_no_other(test);
}
#endif

/* ---- Legacy ops ---- */

static int fault_test_ops_maps;

static dma_addr_t fault_test_ops_map(struct device *dev, phys_addr_t phys,
				     size_t size, enum dma_data_direction dir,
				     unsigned long attrs)
{
	fault_test_ops_maps++;
	return phys;
}

static void fault_test_ops_unmap(struct device *dev, dma_addr_t addr,
				 size_t size, enum dma_data_direction dir,
				 unsigned long attrs)
{
	fault_test_ops_maps--;
}

/* Ops whose DMA addresses are physical addresses. */
static void ops_steps(struct kunit *test)
{
	static const struct dma_map_ops ops = {
		.map_phys = fault_test_ops_map,
		.unmap_phys = fault_test_ops_unmap,
	};

	if (!IS_ENABLED(CONFIG_ARCH_HAS_DMA_OPS))
		kunit_skip(test, "built without legacy dma_map_ops");
	if (use_dma_iommu(edu.dev))
		kunit_skip(test, "the device is behind an IOMMU: its ops are not used");

	fault_test_ops_maps = 0;
	edu_set_ops(&ops);
	fault_test_cpu_ranges(test, 700);
	fault_test_all(test, fault_test_map_cpu, fault_test_verify_cpu, -EIO,
		       1);
	fault_test_expect_no_other(test);

	fault_test_all(test, fault_test_map_sg_cpu, fault_test_verify_sg_cpu,
		       -EIO, FAULT_TEST_RANGES);
	fault_test_expect(test, -ENOMEM, 1);		/* records */
	fault_test_expect_no_other(test);

	if (edu.owner) {
		fault_test_mmio_ranges(test, 0);
		fault_test_all(test, fault_test_map_mmio,
			       fault_test_verify_mmio, -EIO, 1);
		fault_test_expect_no_other(test);
	}
	KUNIT_EXPECT_EQ(test, fault_test_ops_maps, 0);
}

/* The IOMMU of the device translates nothing if nothing is mapped. */
static void nothing_is_translated(struct kunit *test)
{
	unsigned int translated = 0;

	edu_need_iommu(test);
	for (dma_addr_t addr = 0; addr < SZ_256M; addr += PAGE_SIZE)
		translated += !!edu_translate(addr);
	KUNIT_EXPECT_EQ(test, translated, 0);
}

static int fault_test_init(struct kunit *test)
{
	int err = edu_device_init(test);

	if (err)
		return err;
	dma_phys_fault.verbose = 0;
	fault_test.map = edu_handle(test);
	fault_test.list = dma_phys_test_list(test, MAX_SEGMENTS);
	fault_test.in = edu_pages(test, 0);
	fault_test.out = edu_pages(test, 0);
	return 0;
}

static struct kunit_case fault_cases[] = {
	KUNIT_CASE(map_cpu_steps),
	KUNIT_CASE(map_large_steps),
	KUNIT_CASE(map_untrusted_steps),
	KUNIT_CASE(map_mmio_steps),
	KUNIT_CASE(sg_cpu_steps),
	KUNIT_CASE(sg_linked_steps),
	KUNIT_CASE(sg_later_links_fail),
	KUNIT_CASE(sg_mmio_later_links_fail),
	KUNIT_CASE(sg_mmio_steps),
#ifdef CONFIG_PCI_P2PDMA
	KUNIT_CASE(peer_steps),
	KUNIT_CASE(peer_register_steps),
#endif
	KUNIT_CASE(ops_steps),
	KUNIT_CASE(nothing_is_translated),
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

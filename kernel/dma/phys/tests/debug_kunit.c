// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of debug.c and leak.c: live maps are listed, results are counted, and
 * likely bugs are reported with their caller.
 *
 * Most leaks are tested with platform devices: of PCI devices dma-debug reports
 * them as well, with a warning.
 */
#include <kunit/platform_device.h>
#include <linux/delay.h>
#include <linux/device/driver.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-names.h>
#include <linux/dma-phys-peer.h>
#include <linux/fault-inject.h>
#include <linux/iommu-dma.h>
#include <linux/kmsg_dump.h>
#include <linux/platform_device.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "internal.h"
#include "sg_kunit.h"

/* A buffer for scattered ranges, and a page in it that they spare. */
#define DEBUG_TEST_ORDER	3
#define DEBUG_TEST_BYTES	(PAGE_SIZE << DEBUG_TEST_ORDER)
#define DEBUG_TEST_SPARED	(6 * PAGE_SIZE)

/* The end of the kernel's log when the test started. */
static struct kmsg_dump_iter debug_test_log;

/* Instrumentation is on during a test; this is how it was before. */
static bool debug_test_was_on;

static int debug_test_init(struct kunit *test)
{
	static char line[256];
	int err = edu_test_init(test);

	if (err)
		return err;
	kmsg_dump_rewind(&debug_test_log);
	do {
	} while (kmsg_dump_get_line(&debug_test_log, false, line, sizeof(line),
				    NULL));
	debug_test_was_on = dma_phys_debug_on();
	dma_phys_debug_enable(true);
	return 0;
}

static void debug_test_exit(struct kunit *test)
{
	dma_phys_debug_enable(debug_test_was_on);
	edu_test_exit(test);
}

static void debug_test_need_edu(struct kunit *test)
{
	if (!edu.pdev)
		kunit_skip(test, "no edu device (1234:11e8) in this machine");
}

/* Lines logged since the test started that contain both strings. */
static int debug_test_logged(struct kunit *test, const char *a, const char *b)
{
	struct kmsg_dump_iter iter = debug_test_log;
	char *line = kunit_kzalloc(test, SZ_1K, GFP_KERNEL);
	int count = 0;
	size_t len;

	KUNIT_ASSERT_NOT_NULL(test, line);
	while (kmsg_dump_get_line(&iter, false, line, SZ_1K - 1, &len)) {
		line[len] = '\0';
		if (strstr(line, a) && strstr(line, b))
			count++;
	}
	return count;
}

/* ---- debugfs ---- */

static char *debug_test_read(struct kunit *test,
			     int (*show)(struct seq_file *m, void *unused))
{
	struct seq_file m = { .size = SZ_64K };

	m.buf = kunit_kzalloc(test, m.size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);
	KUNIT_ASSERT_EQ(test, show(&m, NULL), 0);
	KUNIT_ASSERT_FALSE(test, seq_has_overflowed(&m));
	m.buf[m.count] = '\0';
	return m.buf;
}

static char *debug_test_maps(struct kunit *test)
{
	return debug_test_read(test, dma_phys_debug_maps_show);
}

/* The number after @name, 0 if there is no such line. */
static u64 debug_test_counter(struct kunit *test, const char *name)
{
	char *lines = debug_test_read(test, dma_phys_debug_counters_show);
	size_t len = strlen(name);
	u64 value = 0;
	char *line;

	while ((line = strsep(&lines, "\n")))
		if (!strncmp(line, name, len) && line[len] == ' ')
			KUNIT_EXPECT_EQ(test, kstrtou64(line + len + 1, 10,
							&value), 0);
	return value;
}

static u64 debug_test_maps_on(struct kunit *test, u8 route)
{
	char name[64];

	snprintf(name, sizeof(name), "maps cpu %s", dma_phys_route_name(route));
	return debug_test_counter(test, name);
}

static u64 debug_test_failures(struct kunit *test, u8 kind, u8 route,
			       const char *err)
{
	char name[64];

	snprintf(name, sizeof(name), "failures %s %s %s",
		 dma_phys_kind_name(kind), dma_phys_route_name(route), err);
	return debug_test_counter(test, name);
}

/* ---- Maps ---- */

/* The caller is the test that this is inlined into. */
static __always_inline struct dma_phys_map *
debug_test_map(struct kunit *test, struct device *dev, const void *virt,
	       size_t len)
{
	struct dma_phys_map *map = edu_handle(test);
	struct cpu_phys range = edu_range(test, virt, len);

	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(dev, &range, DMA_FROM_DEVICE, 0,
					       map), 0);
	return map;
}

/* Whole pages: behind an IOMMU they are linked at one IOVA. */
static const struct dma_phys_test_span debug_test_pages[] = {
	{ 5 * PAGE_SIZE, PAGE_SIZE },
	{ 2 * PAGE_SIZE, PAGE_SIZE },
};

static __always_inline struct dma_phys_test_list *
debug_test_sg(struct kunit *test, struct device *dev, u8 *buf,
	      const struct dma_phys_test_span *spans, size_t count)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test,
							     MAX_SEGMENTS);
	struct cpu_phys ranges[SCATTERED];

	dma_phys_test_ranges(test, buf, spans, count, ranges);
	list->count = dma_phys_sg_map_cpu(dev, ranges, count, DMA_FROM_DEVICE,
					  0, list->segments,
					  list->max_segments, &list->sg);
	KUNIT_ASSERT_GT(test, list->count, 0);
	return list;
}

static __always_inline struct dma_phys_test_list *
debug_test_scattered(struct kunit *test, u8 *buf)
{
	return debug_test_sg(test, edu.dev, buf, dma_phys_test_scattered,
			     SCATTERED);
}

/* ---- The list and the counters ---- */

static void list_shows_map(struct kunit *test)
{
	u8 *buf;
	char line[256], *list;
	struct dma_phys_map *map;
	phys_addr_t phys;

	debug_test_need_edu(test);
	buf = edu_pages(test, 0);
	phys = virt_to_phys(buf) + 12;
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");

	map = debug_test_map(test, edu.dev, buf + 12, 1234);
	KUNIT_EXPECT_NE(test, map->id, 0);
	snprintf(line, sizeof(line),
		 "%s cpu %s from-device phys=%pap addr=%pad size=1234 age=",
		 dev_name(edu.dev), dma_phys_route_name(map->route), &phys,
		 &map->addr);
	list = debug_test_maps(test);
	KUNIT_EXPECT_PTR_EQ_MSG(test, strstr(list, line), list, "%s", list);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(list, __func__), "%s", list);
	KUNIT_EXPECT_EQ(test, strchr(list, '\n') - list, strlen(list) - 1);

	dma_phys_unmap(map);
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");
}

/* A list that keeps no DMA address shows none. */
static void list_shows_sg(struct kunit *test)
{
	char line[256], addr[32] = "-", *maps;
	struct dma_phys_test_list *list;
	struct dma_phys_sg *sg;
	phys_addr_t phys;
	u8 *buf;

	debug_test_need_edu(test);
	buf = edu_pages(test, DEBUG_TEST_ORDER);
	list = debug_test_scattered(test, buf);
	sg = &list->sg;
	phys = virt_to_phys(buf) + dma_phys_test_scattered[0].offset;
	if (sg->flags & DMA_PHYS_LINKED ||
	    (sg->records && !sg->records->record[0].offset))
		snprintf(addr, sizeof(addr), "%pad", &list->segments[0].addr);

	KUNIT_EXPECT_NE(test, sg->id, 0);
	snprintf(line, sizeof(line),
		 "%s cpu %s from-device phys=%pap addr=%s size=%zu sg age=",
		 dev_name(edu.dev), dma_phys_route_name(sg->route), &phys,
		 addr, sg->size);
	maps = debug_test_maps(test);
	KUNIT_EXPECT_PTR_EQ_MSG(test, strstr(maps, line), maps, "%s", maps);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(maps, __func__), "%s", maps);

	dma_phys_sg_unmap(sg);
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");
	KUNIT_EXPECT_EQ(test, sg->id, 0);
}

static void results_are_counted(struct kunit *test)
{
	u64 map_count, sg_count, unmaps;
	struct dma_phys_test_list *list;
	struct dma_phys_map *map;
	u8 map_route, sg_route;
	u8 *buf;

	debug_test_need_edu(test);
	buf = edu_pages(test, DEBUG_TEST_ORDER);
	map = debug_test_map(test, edu.dev, buf + DEBUG_TEST_SPARED, 100);
	list = debug_test_scattered(test, buf);
	map_route = map->route;
	sg_route = list->sg.route;
	map_count = debug_test_maps_on(test, map_route);
	sg_count = debug_test_maps_on(test, sg_route);
	unmaps = debug_test_counter(test, "unmaps");

	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 2);
	dma_phys_sg_unmap(&list->sg);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 0);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "unmaps"), unmaps + 2);

	dma_phys_unmap(debug_test_map(test, edu.dev, buf, 100));
	KUNIT_EXPECT_EQ(test, debug_test_maps_on(test, map_route),
			map_count + 1);
	dma_phys_sg_unmap(&debug_test_scattered(test, buf)->sg);
	KUNIT_EXPECT_EQ(test, debug_test_maps_on(test, sg_route),
			sg_count + (map_route == sg_route) + 1);
}

/* Fails as a single map and as a list: both are counted under @route, @name. */
static void debug_test_counts_failure(struct kunit *test,
				      const struct cpu_phys *range, u8 route,
				      int err, const char *name)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 2);
	u64 before = debug_test_failures(test, DMA_PHYS_CPU, route, name);

	edu_refuses(test, range, DMA_TO_DEVICE, 0, err);
	KUNIT_EXPECT_EQ(test, debug_test_failures(test, DMA_PHYS_CPU, route,
						  name), before + 1);
	KUNIT_EXPECT_EQ(test, dma_phys_test_list_map(list, range, 1,
						     DMA_TO_DEVICE, 0), err);
	KUNIT_EXPECT_EQ(test, debug_test_failures(test, DMA_PHYS_CPU, route,
						  name), before + 2);
}

static void failures_are_counted_by_errno(struct kunit *test)
{
	struct cpu_phys zero = { .len = PAGE_SIZE }, range;
	struct cpu_phys huge = { .addr = SZ_4K, .len = SIZE_MAX / 2 };

	debug_test_need_edu(test);
	if (edu_route(huge.addr, huge.len) == DMA_PHYS_OPS) {
		u64 before = debug_test_failures(test, DMA_PHYS_CPU,
						 DMA_PHYS_OPS, "E2BIG");

		/* A list is mapped in parts. */
		edu_refuses(test, &huge, DMA_TO_DEVICE, 0, -E2BIG);
		KUNIT_EXPECT_EQ(test, debug_test_failures(test, DMA_PHYS_CPU,
							  DMA_PHYS_OPS,
							  "E2BIG"), before + 1);
		return;
	}
	if (get_dma_ops(edu.dev))
		kunit_skip(test, "legacy ops are bypassed, or map what is not");
	if (use_dma_iommu(edu.dev)) {
		debug_test_counts_failure(test, &huge, DMA_PHYS_IOMMU, -E2BIG,
					  "E2BIG");
		debug_test_counts_failure(test, &zero, DMA_PHYS_IOMMU, -EINVAL,
					  "EINVAL");
		return;
	}
	range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	edu.dev->bus_dma_limit = SZ_2K;
	edu_forbid_bounce();
	debug_test_counts_failure(test, &range, DMA_PHYS_BOUNCE, -ERANGE,
				  "ERANGE");
}

/* No route is known before the peer is found. */
static void failures_of_peers_are_counted(struct kunit *test)
{
	struct mmio_phys gone = { .addr = SZ_1G, .len = SZ_4K, .peer = ~0U };
	struct dma_phys_test_list *list = dma_phys_test_list(test, 2);
	u64 before = debug_test_failures(test, DMA_PHYS_MMIO, DMA_PHYS_NONE,
					 "ENODEV");

	debug_test_need_edu(test);
	edu_refuses_mmio(test, &gone, DMA_TO_DEVICE, -ENODEV);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_map_mmio(edu.dev, &gone, 1,
						   DMA_TO_DEVICE, 0,
						   list->segments, 2,
						   &list->sg), -ENODEV);
	KUNIT_EXPECT_EQ(test, debug_test_failures(test, DMA_PHYS_MMIO,
						  DMA_PHYS_NONE, "ENODEV"),
			before + 2);
}

/* What was mapped while instrumentation was off has no record. */
static void off_then_on(struct kunit *test)
{
	struct dma_phys_test_list *list;
	struct dma_phys_map *map;
	u64 unmaps;
	u8 *buf;

	debug_test_need_edu(test);
	buf = edu_pages(test, DEBUG_TEST_ORDER);
	dma_phys_debug_enable(false);
	map = debug_test_map(test, edu.dev, buf + DEBUG_TEST_SPARED, 100);
	list = debug_test_scattered(test, buf);
	KUNIT_EXPECT_EQ(test, map->id, 0);
	KUNIT_EXPECT_EQ(test, list->sg.id, 0);

	dma_phys_debug_enable(true);
	unmaps = debug_test_counter(test, "unmaps");
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");
	dma_phys_unmap(map);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "unmaps"), unmaps);
}

/* What was mapped while it was on keeps its record until it is unmapped. */
static void on_then_off(struct kunit *test)
{
	struct dma_phys_test_list *list;
	struct dma_phys_map *map;
	u8 *buf;

	debug_test_need_edu(test);
	buf = edu_pages(test, DEBUG_TEST_ORDER);
	map = debug_test_map(test, edu.dev, buf + DEBUG_TEST_SPARED, 100);
	list = debug_test_scattered(test, buf);
	dma_phys_debug_enable(false);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 2);
	dma_phys_unmap(map);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 0);
}

static void ids_are_not_reused(struct kunit *test)
{
	u32 last = 0;
	u8 *buf;

	debug_test_need_edu(test);
	buf = edu_pages(test, 0);
	for (int i = 0; i < 100; i++) {
		struct dma_phys_map *map = debug_test_map(test, edu.dev, buf,
							  100);

		KUNIT_EXPECT_NE(test, map->id, 0);
		KUNIT_EXPECT_NE(test, map->id, last);
		last = map->id;
		dma_phys_unmap(map);
	}
}

/* Checked by lockdep and DEBUG_ATOMIC_SLEEP. */
static void maps_with_interrupts_off(struct kunit *test)
{
	struct dma_phys_map *map = edu_handle(test);
	struct cpu_phys range;
	unsigned long flags;
	u32 id;
	int err;

	debug_test_need_edu(test);
	range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	local_irq_save(flags);
	err = dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE, 0, map);
	id = map->id;
	dma_phys_unmap(map);
	local_irq_restore(flags);
	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_NE(test, id, 0);
}

/*
 * The record alone is allocated while allocations fail: dma-debug gives up if one
 * of its own fails.
 */
static void no_memory_for_record(struct kunit *test)
{
#if IS_ENABLED(CONFIG_FAILSLAB) && IS_ENABLED(CONFIG_FAIL_DMA_PHYS)
	unsigned long verbose = dma_phys_fault.verbose;
	struct dma_phys_map *map = edu_handle(test);
	struct cpu_phys range;
	u64 unrecorded;
	int err, left;

	debug_test_need_edu(test);
	range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	unrecorded = debug_test_counter(test, "unrecorded");
	dma_phys_debug_enable(false);
	err = dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE, 0, map);
	dma_phys_debug_enable(true);
	KUNIT_ASSERT_EQ(test, err, 0);

	dma_phys_fault.verbose = 0;
	current->fail_nth = 1;
	dma_phys_debug_map(map, range.addr, 0, _THIS_IP_);
	left = current->fail_nth;
	current->fail_nth = 0;
	dma_phys_fault.verbose = verbose;

	KUNIT_EXPECT_EQ(test, left, 0);
	KUNIT_EXPECT_EQ(test, map->id, 0);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "unrecorded"),
			unrecorded + 1);
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
#else
	kunit_skip(test, "built without CONFIG_FAILSLAB or CONFIG_FAIL_DMA_PHYS");
#endif
}

/* ---- Refused unmaps ---- */

static void h33_copied_map_is_refused(struct kunit *test)
{
	struct dma_phys_map *map, copy;
	u64 refused, unmaps;
	u8 *buf;

	debug_test_need_edu(test);
	buf = edu_pages(test, 0);
	refused = debug_test_counter(test, "refused");
	map = debug_test_map(test, edu.dev, buf, PAGE_SIZE);
	copy = *map;
	dma_phys_unmap(map);
	unmaps = debug_test_counter(test, "unmaps");
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "refused"), refused);
	memset(buf, POISON, PAGE_SIZE);

	dma_phys_unmap(&copy);
	KUNIT_EXPECT_TRUE(test, edu_empty(&copy));
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "refused"), refused + 1);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "unmaps"), unmaps);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, debug_test_logged(test,
						"dma-phys: unmapped twice",
						__func__), 1);
}

/* The next map may have the same address: only the id tells them apart. */
static void h33_copy_spares_the_next_map(struct kunit *test)
{
	struct dma_phys_map *map, *next, copy;
	u8 *buf, *out;

	debug_test_need_edu(test);
	buf = edu_pages(test, 0);
	out = edu_pages(test, 0);
	map = debug_test_map(test, edu.dev, buf, EDU_BUF);
	copy = *map;
	dma_phys_unmap(map);
	edu_load(test, out, EDU_BUF);
	next = debug_test_map(test, edu.dev, buf, EDU_BUF);

	dma_phys_unmap(&copy);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 1);
	edu_push(test, next->addr, EDU_BUF);
	dma_phys_unmap(next);
	KUNIT_EXPECT_MEMEQ(test, buf, out, EDU_BUF);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 0);
}

static void h33_copied_sg_is_refused(struct kunit *test)
{
	struct dma_phys_test_list *list;
	struct dma_phys_sg copy;
	u64 refused;
	u8 *buf;

	debug_test_need_edu(test);
	buf = edu_pages(test, DEBUG_TEST_ORDER);
	refused = debug_test_counter(test, "refused");
	list = debug_test_scattered(test, buf);
	copy = list->sg;
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "refused"), refused);
	memset(buf, POISON, DEBUG_TEST_BYTES);

	dma_phys_sg_unmap(&copy);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&copy));
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "refused"), refused + 1);
	KUNIT_EXPECT_TRUE(test, edu_untouched(buf, DEBUG_TEST_BYTES));
	KUNIT_EXPECT_EQ(test, debug_test_logged(test,
						"dma-phys: unmapped twice",
						__func__), 1);
}

/* The copy that was kept is the only handle that can still unmap it. */
static void stale_map_is_shown(struct kunit *test)
{
	struct dma_phys_map *map, copy;
	dma_addr_t addr;

	debug_test_need_edu(test);
	edu_need_iommu(test);
	map = debug_test_map(test, edu.dev, edu_pages(test, 0), 100);
	addr = map->addr;
	copy = *map;
	dev_clear_dma_iommu(edu.dev);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_NOT_NULL(test, strstr(debug_test_maps(test), " stale\n"));
	KUNIT_EXPECT_NE(test, edu_translate(addr), 0);

	dev_set_dma_iommu(edu.dev);
	dma_phys_unmap(&copy);
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");
	KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);
}

/* ---- Platform devices ---- */

/* Handles of a driver whose probe maps, and then fails. */
static struct dma_phys_map debug_test_failing_maps[2];
static struct cpu_phys debug_test_failing_range;
static unsigned int debug_test_failing_probes;

static int debug_test_probe(struct platform_device *pdev)
{
	return 0;
}

static struct platform_driver debug_test_driver = {
	.driver.name = "dma_phys_debug_test",
	.probe = debug_test_probe,
};

static int debug_test_failing_probe(struct platform_device *pdev)
{
	unsigned int i = debug_test_failing_probes++;

	if (i >= ARRAY_SIZE(debug_test_failing_maps))
		return -ENODEV;
#ifdef CONFIG_SWIOTLB
	/* It is never unmapped: it must not keep a bounce buffer. */
	pdev->dev.dma_io_tlb_mem = NULL;
#endif
	return dma_phys_map_cpu(&pdev->dev, &debug_test_failing_range,
				DMA_TO_DEVICE, 0,
				&debug_test_failing_maps[i]) ?: -EIO;
}

static struct platform_driver debug_test_failing_driver = {
	.driver.name = "dma_phys_debug_test",
	.probe = debug_test_failing_probe,
};

/* A device that reaches 32 bits, with @driver unless that is NULL. */
static struct platform_device *debug_test_device(struct kunit *test,
						 struct platform_driver *driver)
{
	struct platform_device *pdev =
		kunit_platform_device_alloc(test, "dma_phys_debug_test",
					    PLATFORM_DEVID_NONE);

	KUNIT_ASSERT_NOT_NULL(test, pdev);
	KUNIT_ASSERT_EQ(test, kunit_platform_device_add(test, pdev), 0);
	if (driver)
		KUNIT_ASSERT_EQ(test,
				kunit_platform_driver_register(test, driver),
				0);
	return pdev;
}

/* ---- Leaks ---- */

static void debug_test_expect_leak(struct kunit *test, struct device *dev,
				   const char *kind, u8 route, size_t size,
				   const char *text)
{
	char line[128];

	snprintf(line, sizeof(line),
		 "%s: dma-phys: leaked: %s %s from-device, %zu bytes",
		 dev_name(dev), kind, dma_phys_route_name(route), size);
	KUNIT_EXPECT_EQ_MSG(test, debug_test_logged(test, line, text), 1,
			    "%s ... %s", line, text);
}

/* Once, at unbind: not again when the next driver is bound. */
static void h26_leak_is_reported(struct kunit *test)
{
	static const struct dma_phys_test_span spans[] = {
		{ 2048, 100 }, { 0, 300 },
	};
	struct platform_device *pdev = debug_test_device(test,
							 &debug_test_driver);
	struct device *dev = &pdev->dev;
	u64 leaked = debug_test_counter(test, "leaked");
	struct dma_phys_test_list *list;
	struct dma_phys_map *map;

	map = debug_test_map(test, dev, edu_low_page(test), 1234);
	list = debug_test_sg(test, dev, edu_low_page(test), spans,
			     ARRAY_SIZE(spans));
	device_release_driver(dev);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "leaked"), leaked + 2);
	debug_test_expect_leak(test, dev, "cpu", map->route, 1234, __func__);
	debug_test_expect_leak(test, dev, "cpu", list->sg.route, 400, __func__);
	KUNIT_EXPECT_NOT_NULL(test, strstr(debug_test_maps(test), " leaked\n"));

	KUNIT_EXPECT_EQ(test, device_attach(dev), 1);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "leaked"), leaked + 2);
	dma_phys_unmap(map);
	dma_phys_sg_unmap(&list->sg);
	device_release_driver(dev);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "leaked"), leaked + 2);
	KUNIT_EXPECT_EQ(test, debug_test_logged(test, dev_name(dev),
						"dma-phys: leaked: "), 2);
}

/*
 * The device writes after its driver was unbound, and a late owner unmaps: the
 * data arrives, through a bounce buffer as well.
 */
static void h37_leak_is_unmapped_late(struct kunit *test)
{
	struct platform_device *pdev = debug_test_device(test,
							 &debug_test_driver);
	u64 refused = debug_test_counter(test, "refused");
	u64 unmaps = debug_test_counter(test, "unmaps");
	struct device *dev = &pdev->dev;
	u8 *buf = edu_low_page(test), *written;
	struct dma_phys_map *map;

	memset(buf, POISON, PAGE_SIZE);
	map = debug_test_map(test, dev, buf, PAGE_SIZE);
	written = phys_to_virt(dma_to_phys(dev, map->addr));
	device_release_driver(dev);
	debug_test_expect_leak(test, dev, "cpu", map->route, PAGE_SIZE,
			       __func__);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "unmaps"), unmaps);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 1);

	/* A CPU stands in for the device: only if both see the same. */
	if (dev_is_dma_coherent(dev))
		memset(written, 0xa5, PAGE_SIZE);
	if (written != buf)
		KUNIT_EXPECT_TRUE(test, edu_untouched(buf, PAGE_SIZE));
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	if (dev_is_dma_coherent(dev))
		KUNIT_EXPECT_NULL(test, memchr_inv(buf, 0xa5, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "refused"), refused);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "unmaps"), unmaps + 1);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 0);
}

/* The IOVA of a leaked list works until the list is unmapped. */
static void h32_leaked_iova_stays_mapped(struct kunit *test)
{
	struct dma_phys_test_list *list;
	dma_addr_t addr;
	u8 *buf, *out;

	debug_test_need_edu(test);
	edu_need_links(test);
	buf = edu_pages(test, DEBUG_TEST_ORDER);
	out = edu_pages(test, 0);
	list = debug_test_sg(test, edu.dev, buf, debug_test_pages,
			     ARRAY_SIZE(debug_test_pages));
	addr = list->segments[0].addr;
	/* dma-debug does not see it. */
	KUNIT_ASSERT_TRUE(test, list->sg.flags & DMA_PHYS_LINKED);

	edu_unbind();
	debug_test_expect_leak(test, edu.dev, "cpu", DMA_PHYS_IOMMU,
			       2 * PAGE_SIZE, __func__);
	KUNIT_EXPECT_EQ(test, edu_translate(addr),
			virt_to_phys(buf + debug_test_pages[0].offset));

	edu_bind(test);
	edu_load(test, out, EDU_BUF);
	edu_push(test, addr, EDU_BUF);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_MEMEQ(test, buf + debug_test_pages[0].offset, out,
			   EDU_BUF);
	KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 0);
}

static void h26_report_is_limited(struct kunit *test)
{
	struct platform_device *pdev = debug_test_device(test,
							 &debug_test_driver);
	u64 leaked = debug_test_counter(test, "leaked");
	struct device *dev = &pdev->dev;
	u8 *buf = edu_low_page(test);
	struct dma_phys_map *maps[20];

	for (int i = 0; i < ARRAY_SIZE(maps); i++)
		maps[i] = debug_test_map(test, dev, buf + i * 64, 10 + i);
	device_release_driver(dev);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "leaked"), leaked + 20);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 20);
	KUNIT_EXPECT_EQ(test, debug_test_logged(test, " 25 bytes, ",
						"dma-phys: leaked: "), 1);
	KUNIT_EXPECT_EQ(test, debug_test_logged(test, " 26 bytes, ",
						"dma-phys: leaked: "), 0);
	KUNIT_EXPECT_EQ(test, debug_test_logged(test, dev_name(dev),
						"dma-phys: leaked: 4 more"), 1);
	for (int i = 0; i < ARRAY_SIZE(maps); i++)
		dma_phys_unmap(maps[i]);
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");
}

/* The map holds the peer as long as it is leaked: the report names the owner. */
static void h26_leaked_peer_is_named(struct kunit *test)
{
#ifdef CONFIG_PCI_P2PDMA
	struct dma_phys_map *map = edu_handle(test);
	struct mmio_phys range;
	char owner[64];
	int err;

	debug_test_need_edu(test);
	edu_need_owner(test);
	KUNIT_ASSERT_EQ(test, edu_share(test, edu.owner, IVSHMEM_BAR), 0);
	KUNIT_ASSERT_EQ(test, mmio_phys_from_bar(edu.owner, IVSHMEM_BAR, 0,
						 SZ_4K, &range), 0);
	err = dma_phys_map_mmio(edu.dev, &range, DMA_FROM_DEVICE, 0, map);
	if (err == -EREMOTEIO)
		kunit_skip(test, "no P2P path to the peer on this boot");
	KUNIT_ASSERT_EQ(test, err, 0);
	if (map->route != DMA_PHYS_BUS)
		kunit_skip(test, "on this route dma-debug would warn as well");

	edu_unbind();
	snprintf(owner, sizeof(owner), " of %s, mapped ", pci_name(edu.owner));
	debug_test_expect_leak(test, edu.dev, "mmio", DMA_PHYS_BUS, SZ_4K,
			       owner);
	debug_test_expect_leak(test, edu.dev, "mmio", DMA_PHYS_BUS, SZ_4K,
			       __func__);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(edu.owner, IVSHMEM_BAR, 1),
			-ETIMEDOUT);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(edu.owner, IVSHMEM_BAR, 1),
			0);
	dma_phys_peer_resume(edu.owner, IVSHMEM_BAR);
	edu_bind(test);
#else
	kunit_skip(test, "built without CONFIG_PCI_P2PDMA");
#endif
}

/*
 * No notification follows a probe that failed: the leak is reported before the
 * next probe, and when the device is removed. After that an unmap is refused, as
 * the device may have been freed.
 */
static void h26_failed_probe_is_reported(struct kunit *test)
{
	u64 leaked = debug_test_counter(test, "leaked");
	u64 refused = debug_test_counter(test, "refused");
	struct platform_device *pdev;
	const char *name;

	debug_test_failing_range = edu_range(test, edu_low_page(test), 100);
	debug_test_failing_probes = 0;
	pdev = debug_test_device(test, &debug_test_failing_driver);
	name = kunit_kstrdup(test, dev_name(&pdev->dev), GFP_KERNEL);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "leaked"), leaked);
	KUNIT_EXPECT_NOT_NULL(test, strstr(debug_test_maps(test),
					   " debug_test_failing_probe+"));

	KUNIT_EXPECT_EQ(test, device_attach(&pdev->dev), 0);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "leaked"), leaked + 1);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 2);

	kunit_platform_device_unregister(test, pdev);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "leaked"), leaked + 2);
	KUNIT_EXPECT_EQ(test, debug_test_logged(test, name,
						" debug_test_failing_probe+"),
			2);

	for (int i = 0; i < ARRAY_SIZE(debug_test_failing_maps); i++)
		dma_phys_unmap(&debug_test_failing_maps[i]);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "refused"), refused + 2);
	KUNIT_EXPECT_STREQ(test, debug_test_maps(test), "");
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "live"), 0);
}

/* Each is counted, also while this is off; the log is limited. */
static void h32_lost_handles_are_counted(struct kunit *test)
{
	struct platform_device *pdev = debug_test_device(test,
							 &debug_test_driver);
	u64 lost = debug_test_counter(test, "lost");
	int logged;

	dma_phys_debug_enable(false);
	for (int i = 0; i < 20; i++)
		dma_phys_leak(&pdev->dev, 4321);
	dma_phys_debug_enable(true);
	KUNIT_EXPECT_EQ(test, debug_test_counter(test, "lost"), lost + 20);

	logged = debug_test_logged(test, dev_name(&pdev->dev),
				   " lost 4321 bytes that the device owns");
	KUNIT_EXPECT_GT(test, logged, 0);
	KUNIT_EXPECT_LT(test, logged, 20);
}

/* ---- Other reports ---- */

static void map_without_driver_is_reported_once(struct kunit *test)
{
	struct platform_device *pdev = debug_test_device(test, NULL);
	u8 *buf = edu_low_page(test);

	for (int i = 0; i < 3; i++)
		dma_phys_unmap(debug_test_map(test, &pdev->dev, buf, 100));
	KUNIT_EXPECT_EQ(test, debug_test_logged(test, dev_name(&pdev->dev),
						"mapped without a driver"), 1);
	KUNIT_EXPECT_EQ(test, debug_test_logged(test, "mapped without a driver",
						__func__), 1);
}

static int debug_test_shared_lines(struct kunit *test)
{
	return debug_test_logged(test, dev_name(edu.dev),
				 "shares a cache line");
}

/* It is mapped all the same, as the raw API does. */
static void h28_shared_line_is_reported(struct kunit *test)
{
	size_t line = dma_get_cache_alignment();
	struct dma_phys_map *map = edu_handle(test);
	struct dma_phys_test_span spans[2];
	struct dma_phys_test_list *list;
	struct cpu_phys range;
	u8 *buf, *allocated;

	debug_test_need_edu(test);
	buf = edu_pages(test, DEBUG_TEST_ORDER);
	if (!edu_make_incoherent() || line == 1) {
		/* A coherent device has nothing to report. */
		dma_phys_unmap(debug_test_map(test, edu.dev, buf + line / 2,
					      4 * line));
		KUNIT_EXPECT_EQ(test, debug_test_shared_lines(test), 0);
		return;
	}
	if (edu_route(virt_to_phys(buf), PAGE_SIZE) == DMA_PHYS_BOUNCE)
		kunit_skip(test, "bounce buffers share no cache lines");

	/* The suites before have used up what the log takes in this interval. */
	msleep(jiffies_to_msecs(DEFAULT_RATELIMIT_INTERVAL) + 1);

	/* Whole lines, and what the device only reads, share nothing. */
	dma_phys_unmap(debug_test_map(test, edu.dev, buf, 4 * line));
	range = edu_range(test, buf + line / 2, 4 * line);
	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE,
					       0, map), 0);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, debug_test_shared_lines(test), 0);

	dma_phys_unmap(debug_test_map(test, edu.dev, buf + line / 2,
				      4 * line));
	KUNIT_EXPECT_EQ(test, debug_test_shared_lines(test), 1);
	dma_phys_unmap(debug_test_map(test, edu.dev, buf, 4 * line + 1));
	KUNIT_EXPECT_EQ(test, debug_test_shared_lines(test), 2);
	KUNIT_EXPECT_EQ(test, debug_test_logged(test, "shares a cache line",
						__func__), 2);

	spans[0] = (struct dma_phys_test_span){ PAGE_SIZE, 4 * line };
	spans[1] = (struct dma_phys_test_span){ 3 * PAGE_SIZE, 4 * line + 1 };
	list = debug_test_sg(test, edu.dev, buf, spans, 2);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_EQ(test, debug_test_shared_lines(test), 3);

	/* kmalloc() pads: a frame of 1518 bytes has its last line for itself. */
	allocated = kunit_kmalloc(test, 1518, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, allocated);
	dma_phys_unmap(debug_test_map(test, edu.dev, allocated, 1518));
	KUNIT_EXPECT_EQ(test, debug_test_shared_lines(test), 3);
}

static struct kunit_case debug_cases[] = {
	KUNIT_CASE(list_shows_map),
	KUNIT_CASE(list_shows_sg),
	KUNIT_CASE(results_are_counted),
	KUNIT_CASE(failures_are_counted_by_errno),
	KUNIT_CASE(failures_of_peers_are_counted),
	KUNIT_CASE(off_then_on),
	KUNIT_CASE(on_then_off),
	KUNIT_CASE(ids_are_not_reused),
	KUNIT_CASE(maps_with_interrupts_off),
	KUNIT_CASE(no_memory_for_record),
	KUNIT_CASE(h33_copied_map_is_refused),
	KUNIT_CASE(h33_copy_spares_the_next_map),
	KUNIT_CASE(h33_copied_sg_is_refused),
	KUNIT_CASE(stale_map_is_shown),
	KUNIT_CASE(h26_leak_is_reported),
	KUNIT_CASE(h26_report_is_limited),
	KUNIT_CASE(h26_leaked_peer_is_named),
	KUNIT_CASE(h26_failed_probe_is_reported),
	KUNIT_CASE(h37_leak_is_unmapped_late),
	KUNIT_CASE(h32_leaked_iova_stays_mapped),
	KUNIT_CASE(h32_lost_handles_are_counted),
	KUNIT_CASE(map_without_driver_is_reported_once),
	KUNIT_CASE_SLOW(h28_shared_line_is_reported),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite debug_suite = {
	.name = "dma_phys_debug",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = debug_test_init,
	.exit = debug_test_exit,
	.test_cases = debug_cases,
};

kunit_test_suite(debug_suite);

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of debug.c: what is live is shown, what fails is counted, and what a
 * driver leaves behind is reported and undone.
 */
#include <kunit/platform_device.h>
#include <linux/device/driver.h>
#include <linux/dma-mapping.h>
#include <linux/fault-inject.h>
#include <linux/iommu-dma.h>
#include <linux/kmsg_dump.h>
#include <linux/platform_device.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "internal.h"
#include "vec_kunit.h"

static const char *const routes[] = {
	[DMA_PHYS_NONE] = "none", [DMA_PHYS_DIRECT] = "direct",
	[DMA_PHYS_BOUNCE] = "bounce", [DMA_PHYS_IOMMU] = "iommu",
	[DMA_PHYS_OPS] = "ops", [DMA_PHYS_BUS] = "bus",
};

/* The kernel's log, from where the test began. */
static struct kmsg_dump_iter log_start;

/* On, as long as a test runs, whatever the machine was told. */
static bool was_on;

static int debug_init(struct kunit *test)
{
	static char line[256];
	int err = edu_device_init(test);

	if (err)
		return err;
	kmsg_dump_rewind(&log_start);
	do {
	} while (kmsg_dump_get_line(&log_start, false, line, sizeof(line),
				    NULL));
	was_on = dma_phys_debug_on();
	dma_phys_debug_enable(true);
	return 0;
}

static void debug_exit(struct kunit *test)
{
	dma_phys_debug_enable(was_on);
	edu_test_exit(test);
}

/* Whether a line that was logged since the test began has all of these. */
static bool logged(struct kunit *test, const char *a, const char *b)
{
	struct kmsg_dump_iter at = log_start;
	char *line = kunit_kzalloc(test, SZ_1K, GFP_KERNEL);
	bool found = false;
	size_t len;

	KUNIT_ASSERT_NOT_NULL(test, line);
	while (kmsg_dump_get_line(&at, false, line, SZ_1K - 1, &len)) {
		line[len] = '\0';
		found |= strstr(line, a) && strstr(line, b);
	}
	return found;
}

/* What a file in debugfs says. */
static char *shown(struct kunit *test, int (*show)(struct seq_file *m, void *v))
{
	struct seq_file m = { .size = SZ_64K };

	m.buf = kunit_kzalloc(test, m.size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, m.buf);
	KUNIT_ASSERT_EQ(test, show(&m, NULL), 0);
	KUNIT_ASSERT_FALSE(test, seq_has_overflowed(&m));
	m.buf[m.count] = '\0';
	return m.buf;
}

static char *maps(struct kunit *test)
{
	return shown(test, dma_phys_debug_maps_show);
}

/* The number behind @name, 0 where the line is missing. */
static u64 counter(struct kunit *test, const char *name)
{
	char *lines = shown(test, dma_phys_debug_counters_show);
	char *line;
	size_t len = strlen(name);
	u64 value = 0;

	while ((line = strsep(&lines, "\n")))
		if (!strncmp(line, name, len) && line[len] == ' ')
			KUNIT_EXPECT_EQ(test, kstrtou64(line + len + 1, 10,
							&value), 0);
	return value;
}

static u64 of_route(struct kunit *test, const char *what, const char *kind,
		    u8 route, const char *err)
{
	char name[64];

	snprintf(name, sizeof(name), "%s %s %s%s%s", what, kind, routes[route],
		 err ? " " : "", err ?: "");
	return counter(test, name);
}

/* Mapped by the function that calls this, as the record will say. */
static __always_inline struct dma_phys_map *map_here(struct kunit *test,
						     const void *virt,
						     size_t len)
{
	struct dma_phys_map *map = edu_handle(test);
	struct cpu_phys range = edu_range(test, virt, len);

	KUNIT_ASSERT_EQ(test, dma_phys_map_cpu(edu.dev, &range, DMA_FROM_DEVICE,
					       0, map), 0);
	return map;
}

static size_t scatter(struct kunit *test, u8 *buf, struct cpu_phys *ranges)
{
	size_t size = 0;

	for (int i = 0; i < SCATTERED; i++) {
		ranges[i] = edu_range(test, buf + scattered[i].offset,
				      scattered[i].len);
		size += scattered[i].len;
	}
	return size;
}

/* A vec of SCATTERED ranges, likewise. */
static __always_inline struct dma_phys_vec *vec_here(struct kunit *test,
						     u8 *buf)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	struct cpu_phys ranges[SCATTERED];

	scatter(test, buf, ranges);
	KUNIT_ASSERT_EQ(test, dma_phys_vec_map_cpu(edu.dev, ranges, SCATTERED,
						   DMA_FROM_DEVICE, 0, vec), 0);
	return vec;
}

static void list_shows_map(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	phys_addr_t phys = virt_to_phys(buf) + 12;
	struct dma_phys_map *map;
	char line[256], *said;

	KUNIT_EXPECT_STREQ(test, maps(test), "");
	map = map_here(test, buf + 12, 1234);
	KUNIT_EXPECT_NE(test, map->id, 0);
	snprintf(line, sizeof(line),
		 "%s cpu %s from-device phys=%pap addr=%pad len=1234 segments=1 age=",
		 dev_name(edu.dev), routes[map->route], &phys, &map->addr);
	said = maps(test);
	KUNIT_EXPECT_PTR_EQ_MSG(test, strstr(said, line), said, "%s", said);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(said, __func__), "%s", said);
	KUNIT_EXPECT_EQ(test, strchr(said, '\n') - said, strlen(said) - 1);

	dma_phys_unmap(map);
	KUNIT_EXPECT_STREQ(test, maps(test), "");
}

static void list_shows_vec(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	phys_addr_t phys = virt_to_phys(buf) + scattered[0].offset;
	struct cpu_phys ranges[SCATTERED];
	size_t size = scatter(test, buf, ranges);
	struct dma_phys_vec *vec = vec_here(test, buf);
	char line[256], *said = maps(test);

	snprintf(line, sizeof(line),
		 "%s cpu %s from-device phys=%pap addr=%pad len=%zu segments=%zu age=",
		 dev_name(edu.dev), routes[vec->route], &phys,
		 &vec->segments[0].addr, size, vec->count);
	KUNIT_EXPECT_PTR_EQ_MSG(test, strstr(said, line), said, "%s", said);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(said, __func__), "%s", said);

	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_STREQ(test, maps(test), "");
	KUNIT_EXPECT_EQ(test, vec->id, 0);
}

static void counters_count(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct dma_phys_map *map = map_here(test, buf, 100);
	struct dma_phys_vec *vec = vec_here(test, buf);
	u8 of_map = map->route, of_vec = vec->route;
	u64 by_map = of_route(test, "maps", "cpu", of_map, NULL);
	u64 by_vec = of_route(test, "maps", "cpu", of_vec, NULL);
	u64 unmaps = counter(test, "unmaps");

	KUNIT_EXPECT_EQ(test, counter(test, "live"), 2);
	dma_phys_vec_unmap(vec);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, counter(test, "live"), 0);
	KUNIT_EXPECT_EQ(test, counter(test, "unmaps"), unmaps + 2);

	dma_phys_unmap(map_here(test, buf, 100));
	KUNIT_EXPECT_EQ(test, of_route(test, "maps", "cpu", of_map, NULL),
			by_map + 1);
	dma_phys_vec_unmap(vec_here(test, buf));
	KUNIT_EXPECT_EQ(test, of_route(test, "maps", "cpu", of_vec, NULL),
			by_vec + (of_map == of_vec) + 1);
}

/* One failure is one more, under what was tried and what came of it. */
static void counts_failure(struct kunit *test, const struct cpu_phys *range,
			   u8 route, int err, const char *name)
{
	struct dma_phys_vec *vec = vec_empty(test, 2);
	u64 before = of_route(test, "failures", "cpu", route, name);

	edu_refuses(test, range, DMA_TO_DEVICE, 0, err);
	KUNIT_EXPECT_EQ(test, of_route(test, "failures", "cpu", route, name),
			before + 1);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_map_cpu(edu.dev, range, 1,
						   DMA_TO_DEVICE, 0, vec), err);
	KUNIT_EXPECT_EQ(test, of_route(test, "failures", "cpu", route, name),
			before + 2);
}

static void counters_by_errno(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct cpu_phys huge = { .addr = SZ_4K, .len = SZ_8G };
	struct cpu_phys zero = { .len = PAGE_SIZE };
	struct mmio_phys gone = { .addr = SZ_1G, .len = SZ_4K, .peer = ~0U };
	u64 before = of_route(test, "failures", "mmio", DMA_PHYS_NONE,
			      "ENODEV");

	edu_refuses_mmio(test, &gone, DMA_TO_DEVICE, -ENODEV);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_map_mmio(edu.dev, &gone, 1,
						    DMA_TO_DEVICE, 0,
						    vec_empty(test, 2)),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, of_route(test, "failures", "mmio", DMA_PHYS_NONE,
				       "ENODEV"), before + 2);

	if (use_dma_iommu(edu.dev)) {
		counts_failure(test, &huge, DMA_PHYS_IOMMU, -E2BIG, "E2BIG");
		counts_failure(test, &zero, DMA_PHYS_IOMMU, -EINVAL, "EINVAL");
		return;
	}
	edu.dev->bus_dma_limit = SZ_2K;
	edu_forbid_bounce();
	counts_failure(test, &range, DMA_PHYS_BOUNCE, -ERANGE, "ERANGE");
}

/* Mapped while off: nothing is known of it, and nothing is asked for. */
static void off_then_on(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct dma_phys_map *map;
	struct dma_phys_vec *vec;
	u64 unmaps;

	dma_phys_debug_enable(false);
	map = map_here(test, buf, 100);
	vec = vec_here(test, buf);
	KUNIT_EXPECT_EQ(test, map->id, 0);
	KUNIT_EXPECT_EQ(test, vec->id, 0);

	dma_phys_debug_enable(true);
	unmaps = counter(test, "unmaps");
	KUNIT_EXPECT_STREQ(test, maps(test), "");
	dma_phys_unmap(map);
	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	KUNIT_EXPECT_EQ(test, counter(test, "unmaps"), unmaps);
}

/* Mapped while on: its record goes with it, not before. */
static void on_then_off(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct dma_phys_map *map = map_here(test, buf, 100);
	struct dma_phys_vec *vec = vec_here(test, buf);

	dma_phys_debug_enable(false);
	KUNIT_EXPECT_EQ(test, counter(test, "live"), 2);
	dma_phys_unmap(map);
	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_STREQ(test, maps(test), "");
	KUNIT_EXPECT_EQ(test, counter(test, "live"), 0);
	dma_phys_debug_enable(true);
	dma_phys_unmap(map);
	KUNIT_EXPECT_EQ(test, counter(test, "live"), 0);
}

static void ids_are_not_used_again(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	u32 last = 0;

	for (int i = 0; i < 100; i++) {
		struct dma_phys_map *map = map_here(test, buf, 100);

		KUNIT_EXPECT_NE(test, map->id, 0);
		KUNIT_EXPECT_NE(test, map->id, last);
		last = map->id;
		dma_phys_unmap(map);
	}
}

/* The second of two handles finds the map undone, and leaves it at that. */
static void copy_is_refused(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct dma_phys_map *map = map_here(test, buf, PAGE_SIZE), copy = *map;
	struct dma_phys_vec *vec = vec_here(test, buf), copied = *vec;
	u64 refused = counter(test, "refused");

	dma_phys_unmap(map);
	dma_phys_vec_unmap(vec);
	memset(buf, POISON, 8 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, counter(test, "refused"), refused);

	dma_phys_unmap(&copy);
	dma_phys_vec_unmap(&copied);
	KUNIT_EXPECT_TRUE(test, edu_empty(&copy));
	KUNIT_EXPECT_TRUE(test, vec_is_empty(&copied));
	KUNIT_EXPECT_EQ(test, counter(test, "refused"), refused + 2);
	KUNIT_EXPECT_NULL(test, memchr_inv(buf, POISON, 8 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, logged(test, "dma_phys: unmapped again",
				       __func__));
}

/* Any context, by the word of lockdep and DEBUG_ATOMIC_SLEEP. */
static void atomic_context(struct kunit *test)
{
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);
	unsigned long flags;
	u32 id;
	int err;

	local_irq_save(flags);
	err = dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE, 0, map);
	id = map->id;
	dma_phys_unmap(map);
	local_irq_restore(flags);
	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_NE(test, id, 0);
}

/* Lines of the report name all that finds the bug. */
static void expect_report(struct kunit *test, const char *kind, u8 route,
			  size_t size, const char *caller)
{
	char what[128];

	snprintf(what, sizeof(what), "%s: dma_phys: left mapped: %s %s, %zu bytes, ",
		 dev_name(edu.dev), kind, routes[route], size);
	KUNIT_EXPECT_TRUE_MSG(test, logged(test, what, caller), "%s", what);
}

/*
 * The driver goes with a map and a vec alive. All is said, and all is undone,
 * with nothing copied to memory that may be another's by then; what the driver
 * had kept of it is good for nothing.
 */
static void h26_unbound_while_mapped(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct dma_phys_map *map = map_here(test, buf + 6 * PAGE_SIZE, 1234);
	struct dma_phys_vec *vec = vec_here(test, buf);
	u64 left = counter(test, "left"), refused = counter(test, "refused");
	u8 of_map = map->route, of_vec = vec->route;
	struct cpu_phys ranges[SCATTERED];
	size_t size = scatter(test, buf, ranges);
	dma_addr_t addr = map->addr;

	memset(buf, POISON, 8 * PAGE_SIZE);
	edu_push(test, map->addr, 1234);
	memset(buf, POISON, 8 * PAGE_SIZE);
	/* Where a vec's storage was, something else may be. */
	memset(vec->segments, 0xff, ROOM * sizeof(*vec->segments));
	edu_unbind();

	KUNIT_EXPECT_EQ(test, counter(test, "left"), left + 2);
	KUNIT_EXPECT_STREQ(test, maps(test), "");
	expect_report(test, "cpu", of_map, 1234, __func__);
	expect_report(test, "cpu", of_vec, size, __func__);
	if (of_map == DMA_PHYS_IOMMU)
		KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);

	dma_phys_unmap(map);
	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_EQ(test, counter(test, "refused"), refused + 2);
	KUNIT_EXPECT_NULL(test, memchr_inv(buf, POISON, 8 * PAGE_SIZE));
	edu_bind(test);
	dma_phys_unmap(map_here(test, buf, 100));
}

/* More than a person wants to read. */
static void h26_many_left(struct kunit *test)
{
	u8 *buf = edu_pages(test, 4);
	u64 left = counter(test, "left");

	for (int i = 0; i < 20; i++)
		map_here(test, buf + i * SZ_2K, 100 + i);
	edu_unbind();
	KUNIT_EXPECT_EQ(test, counter(test, "left"), left + 20);
	KUNIT_EXPECT_STREQ(test, maps(test), "");
	KUNIT_EXPECT_TRUE(test, logged(test, " 115 bytes, ", "left mapped: "));
	KUNIT_EXPECT_FALSE(test, logged(test, " 116 bytes, ", "left mapped: "));
	KUNIT_EXPECT_TRUE(test, logged(test, dev_name(edu.dev),
				       "dma_phys: left mapped: 4 more"));
}

/* Nor does a peer wait for ever for what a driver forgot. */
static void h26_peer_is_let_go(struct kunit *test)
{
	struct dma_phys_map *map = edu_handle(test);
	struct mmio_phys range;
	int err;

	edu_need_lender(test);
	KUNIT_ASSERT_EQ(test, edu_lend(test, edu.lender, EDU_LENDER_BAR), 0);
	KUNIT_ASSERT_EQ(test, mmio_phys_from_bar(edu.lender, EDU_LENDER_BAR, 0,
						 SZ_4K, &range), 0);
	err = dma_phys_map_mmio(edu.dev, &range, DMA_TO_DEVICE, 0, map);
	if (err == -EREMOTEIO)
		kunit_skip(test, "no route to the peer on this boot");
	KUNIT_ASSERT_EQ(test, err, 0);

	edu_unbind();
	expect_report(test, "mmio", map->route, SZ_4K, __func__);
	dma_phys_peer_unregister(edu.lender, EDU_LENDER_BAR);
	edu_bind(test);
}

/* Of a driver whose probe fails nobody says that it has gone. */
static struct cpu_phys probe_range;

static int clumsy_probe(struct platform_device *pdev)
{
	struct dma_phys_map map = {};

	return dma_phys_map_cpu(&pdev->dev, &probe_range, DMA_TO_DEVICE, 0,
				&map) ?: -EIO;
}

static void h26_probe_that_fails(struct kunit *test)
{
	static struct platform_driver driver = {
		.driver.name = "dma_phys_clumsy",
		.probe = clumsy_probe,
	};
	u64 left = counter(test, "left");
	struct platform_device *pdev;
	const char *name;

	probe_range = edu_range(test, edu_low_page(test), 100);
	pdev = kunit_platform_device_alloc(test, driver.driver.name,
					   PLATFORM_DEVID_NONE);
	KUNIT_ASSERT_NOT_NULL(test, pdev);
	KUNIT_ASSERT_EQ(test, kunit_platform_device_add(test, pdev), 0);
	name = kunit_kstrdup(test, dev_name(&pdev->dev), GFP_KERNEL);
	KUNIT_ASSERT_EQ(test, kunit_platform_driver_register(test, &driver), 0);
	KUNIT_EXPECT_EQ(test, counter(test, "left"), left);
	KUNIT_EXPECT_NOT_NULL(test, strstr(maps(test), " clumsy_probe+"));

	/* The next to be bound finds the device as it should be. */
	KUNIT_EXPECT_EQ(test, device_attach(&pdev->dev), 0);
	KUNIT_EXPECT_EQ(test, counter(test, "left"), left + 1);
	KUNIT_EXPECT_EQ(test, counter(test, "live"), 1);

	kunit_platform_device_unregister(test, pdev);
	KUNIT_EXPECT_EQ(test, counter(test, "left"), left + 2);
	KUNIT_EXPECT_STREQ(test, maps(test), "");
	KUNIT_EXPECT_TRUE(test, logged(test, name, " clumsy_probe+"));
}

/*
 * A device that has lost its IOMMU: nothing is undone, and the map is shown as
 * what it is. A copy of the handle, kept for that, gives it back.
 */
static void lost_is_shown(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	struct dma_phys_map *map, copy;
	dma_addr_t addr;

	edu_need_iommu(test);
	map = map_here(test, buf, 100);
	addr = map->addr;
	copy = *map;
	dev_clear_dma_iommu(edu.dev);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_NOT_NULL(test, strstr(maps(test), " lost\n"));

	dev_set_dma_iommu(edu.dev);
	dma_phys_unmap(&copy);
	KUNIT_EXPECT_STREQ(test, maps(test), "");
	KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);
}

/* Each allocation of a map fails in turn, until it is the record's. */
static void no_memory_for_record(struct kunit *test)
{
#if IS_ENABLED(CONFIG_FAILSLAB) && IS_ENABLED(CONFIG_FAIL_DMA_PHYS)
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	u64 unrecorded = counter(test, "unrecorded");
	struct dma_phys_map *map = edu_handle(test);
	unsigned long verbose = dma_phys_fault.verbose;
	int err = -ENOMEM, nth;

	dma_phys_fault.verbose = 0;
	for (nth = 1; nth < 20 && err; nth++) {
		current->fail_nth = nth;
		err = dma_phys_map_cpu(edu.dev, &range, DMA_TO_DEVICE, 0, map);
		current->fail_nth = 0;
		if (!err && map->id) {
			dma_phys_unmap(map);
			err = -ENOMEM;
		}
	}
	dma_phys_fault.verbose = verbose;

	KUNIT_EXPECT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, map->id, 0);
	KUNIT_EXPECT_EQ(test, counter(test, "unrecorded"), unrecorded + 1);
	KUNIT_EXPECT_STREQ(test, maps(test), "");
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
#else
	kunit_skip(test, "built without CONFIG_FAILSLAB or CONFIG_FAIL_DMA_PHYS");
#endif
}

static struct kunit_case debug_cases[] = {
	KUNIT_CASE(list_shows_map),
	KUNIT_CASE(list_shows_vec),
	KUNIT_CASE(counters_count),
	KUNIT_CASE(counters_by_errno),
	KUNIT_CASE(off_then_on),
	KUNIT_CASE(on_then_off),
	KUNIT_CASE(ids_are_not_used_again),
	KUNIT_CASE(copy_is_refused),
	KUNIT_CASE(atomic_context),
	KUNIT_CASE(h26_unbound_while_mapped),
	KUNIT_CASE(h26_many_left),
	KUNIT_CASE(h26_peer_is_let_go),
	KUNIT_CASE(h26_probe_that_fails),
	KUNIT_CASE(lost_is_shown),
	KUNIT_CASE(no_memory_for_record),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite debug_suite = {
	.name = "dma_phys_debug",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = debug_init,
	.exit = debug_exit,
	.test_cases = debug_cases,
};

kunit_test_suite(debug_suite);

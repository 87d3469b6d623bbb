// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of sg.c and sg_array.c: ranges become segments. The device transfers
 * data through them, and they obey its limits. See also sg_unmap_kunit.c.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/random.h>
#include <linux/string.h>

#include "sg_kunit.h"

#ifdef CONFIG_64BIT
static_assert(sizeof(struct dma_phys_sg) == 64);
#endif

#define SG_TEST_BYTES	(8 * PAGE_SIZE)

const struct dma_phys_test_span dma_phys_test_scattered[SCATTERED] = {
	{ 5 * PAGE_SIZE + 100, 1000 },
	{ 0, PAGE_SIZE },
	{ PAGE_SIZE, 512 },
	{ 3 * PAGE_SIZE - 1, 2 },
	{ 7 * PAGE_SIZE, PAGE_SIZE },
	{ 4 * PAGE_SIZE, 3 },
};

/* Whole pages between the first and the last byte: they fit one IOVA. */
static const struct dma_phys_test_span sg_test_paged[] = {
	{ 5 * PAGE_SIZE + 512, PAGE_SIZE - 512 },
	{ 0, PAGE_SIZE },
	{ 7 * PAGE_SIZE, PAGE_SIZE },
	{ 2 * PAGE_SIZE, 2 * PAGE_SIZE },
	{ 6 * PAGE_SIZE, 700 },
};

size_t dma_phys_test_ranges(struct kunit *test, u8 *buf,
			    const struct dma_phys_test_span *spans,
			    size_t count, struct cpu_phys *ranges)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++) {
		ranges[i] = edu_range(test, buf + spans[i].offset,
				      spans[i].len);
		size += spans[i].len;
	}
	return size;
}

static void sg_test_unmap_action(void *list)
{
	dma_phys_sg_unmap(&((struct dma_phys_test_list *)list)->sg);
}

struct dma_phys_test_list *dma_phys_test_list(struct kunit *test,
					      size_t max_segments)
{
	struct dma_phys_test_list *list;
	int err;

	list = kunit_kzalloc(test, sizeof(*list), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, list);
	list->max_segments = max_segments;
	list->segments = kunit_kcalloc(test, max_segments,
				       sizeof(*list->segments), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, list->segments);
	err = kunit_add_action(test, sg_test_unmap_action, list);
	KUNIT_ASSERT_EQ(test, err, 0);
	return list;
}

int dma_phys_test_list_map(struct dma_phys_test_list *list,
			   const struct cpu_phys *ranges, size_t count,
			   enum dma_data_direction dir, u32 flags)
{
	list->count = dma_phys_sg_map_cpu(edu.dev, ranges, count, dir, flags,
					  list->segments, list->max_segments,
					  &list->sg);
	return list->count;
}

bool dma_phys_test_sg_is_empty(const struct dma_phys_sg *sg)
{
	const struct dma_phys_sg empty = { .pool = sg->pool };

	return !memcmp(sg, &empty, sizeof(empty));
}

void dma_phys_test_list_check(struct kunit *test,
			      const struct dma_phys_test_list *list,
			      size_t size)
{
	u64 boundary = dma_get_seg_boundary(edu.dev);
	u64 max = dma_get_max_seg_size(edu.dev);
	size_t sum = 0;

	KUNIT_ASSERT_GT(test, list->count, 0);
	KUNIT_ASSERT_LE(test, list->count, list->max_segments);
	for (int i = 0; i < list->count; i++) {
		const struct dma_phys_segment *seg = &list->segments[i];

		KUNIT_EXPECT_GT(test, seg->len, 0);
		KUNIT_EXPECT_LE(test, seg->len, max);
		KUNIT_EXPECT_EQ(test, seg->addr & ~boundary,
				(seg->addr + seg->len - 1) & ~boundary);
		sum += seg->len;
	}
	KUNIT_EXPECT_EQ(test, sum, size);
	KUNIT_EXPECT_EQ(test, list->sg.size, size);
	KUNIT_EXPECT_PTR_EQ(test, list->sg.dev, edu.dev);
}

dma_addr_t dma_phys_test_list_addr(const struct dma_phys_test_list *list,
				   size_t offset, size_t *rest)
{
	const struct dma_phys_segment *seg = list->segments;

	for (; offset >= seg->len; seg++)
		offset -= seg->len;
	*rest = seg->len - offset;
	return seg->addr + offset;
}

void dma_phys_test_list_copy(struct kunit *test,
			     const struct dma_phys_test_list *from,
			     const struct dma_phys_test_list *to)
{
	size_t n, rest;

	for (size_t at = 0; at < from->sg.size; at += n) {
		dma_addr_t src = dma_phys_test_list_addr(from, at, &n);
		dma_addr_t dst = dma_phys_test_list_addr(to, at, &rest);

		n = min3(n, rest, (size_t)EDU_BUF);
		edu_pull(test, src, n);
		edu_push(test, dst, n);
	}
}

static struct dma_phys_test_list *sg_test_map(struct kunit *test,
					      const struct cpu_phys *ranges,
					      size_t count,
					      enum dma_data_direction dir)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	int n = dma_phys_test_list_map(list, ranges, count, dir, 0);

	KUNIT_ASSERT_GT(test, n, 0);
	return list;
}

/* Spans of one buffer are read, the same spans of another are written. */
static void sg_test_round_trip(struct kunit *test,
			       const struct dma_phys_test_span *spans,
			       size_t count)
{
	u8 *out = edu_pages(test, 3), *in = edu_pages(test, 3);
	u8 *expected = edu_pages(test, 3);
	struct dma_phys_test_list *from, *to;
	struct cpu_phys ranges[8];
	size_t size;

	get_random_bytes(out, SG_TEST_BYTES);
	memset(in, POISON, SG_TEST_BYTES);
	memset(expected, POISON, SG_TEST_BYTES);
	for (size_t i = 0; i < count; i++)
		memcpy(expected + spans[i].offset, out + spans[i].offset,
		       spans[i].len);

	size = dma_phys_test_ranges(test, out, spans, count, ranges);
	from = sg_test_map(test, ranges, count, DMA_TO_DEVICE);
	dma_phys_test_list_check(test, from, size);
	dma_phys_test_ranges(test, in, spans, count, ranges);
	to = sg_test_map(test, ranges, count, DMA_FROM_DEVICE);
	dma_phys_test_list_check(test, to, size);

	dma_phys_test_list_copy(test, from, to);
	dma_phys_sg_unmap(&to->sg);
	dma_phys_sg_unmap(&from->sg);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&to->sg));
	KUNIT_EXPECT_MEMEQ(test, in, expected, SG_TEST_BYTES);
}

static void sg_test_bytes_scattered(struct kunit *test)
{
	sg_test_round_trip(test, dma_phys_test_scattered, SCATTERED);
}

static void sg_test_bytes_paged(struct kunit *test)
{
	sg_test_round_trip(test, sg_test_paged, ARRAY_SIZE(sg_test_paged));
}

/* Fields of a live list. */
static void sg_test_fields(struct kunit *test)
{
	u8 *buf = edu_pages(test, 0);
	struct cpu_phys range = edu_range(test, buf, PAGE_SIZE);
	struct dma_phys_test_list *list = dma_phys_test_list(test, 16);
	struct dma_phys_sg *sg = &list->sg;

	KUNIT_ASSERT_EQ(test,
			dma_phys_test_list_map(list, &range, 1,
					       DMA_BIDIRECTIONAL,
					       DMA_PHYS_SKIP_CPU_SYNC), 1);
	dma_phys_test_list_check(test, list, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, sg->dir, DMA_BIDIRECTIONAL);
	KUNIT_EXPECT_EQ(test, sg->kind, DMA_PHYS_CPU);
	KUNIT_EXPECT_EQ(test, sg->route, edu_route(range.addr, PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, sg->flags & DMA_PHYS_SKIP_CPU_SYNC);
}

/* Adjacent ranges are one segment. */
static void sg_test_adjacent_ranges_merge(struct kunit *test)
{
	u8 *buf = edu_pages(test, 2);
	struct dma_phys_test_list *list;
	struct cpu_phys ranges[4];

	for (size_t i = 0; i < 4; i++)
		ranges[i] = edu_range(test, buf + i * 1000, 1000);
	list = sg_test_map(test, ranges, 4, DMA_TO_DEVICE);
	if (get_dma_ops(edu.dev)) {
		/* Legacy ops map each range, and know where. */
		dma_phys_test_list_check(test, list, 4000);
		return;
	}
	KUNIT_EXPECT_EQ(test, list->count, 1);
	KUNIT_EXPECT_EQ(test, list->segments[0].len, 4000);
}

/*
 * Adjacent objects of kmalloc() whose cache lines hold parts of their neighbours:
 * each is bounced, as if it were alone.
 */
static void sg_test_h28_short_neighbours_bounce(struct kunit *test)
{
	enum { OBJECT = 96, OBJECTS = 3 };
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *buf = edu_pages(test, 0);
	struct cpu_phys ranges[OBJECTS];

	if (!IS_ENABLED(CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC) ||
	    dev_is_dma_coherent(edu.dev))
		kunit_skip(test, "kmalloc() shares no cache lines with this device");
	for (size_t i = 0; i < OBJECTS; i++)
		ranges[i] = edu_range(test, buf + i * OBJECT, OBJECT);
	list->count = dma_phys_test_list_map(list, ranges, OBJECTS,
					     DMA_FROM_DEVICE, 0);
	dma_phys_test_list_check(test, list, OBJECTS * OBJECT);
	for (int i = 0; i < list->count; i++) {
		dma_addr_t addr = list->segments[i].addr;
		phys_addr_t phys = use_dma_iommu(edu.dev) ?
				   edu_translate(addr) :
				   dma_to_phys(edu.dev, addr);

		KUNIT_EXPECT_TRUE(test, phys < ranges[0].addr ||
				  phys >= ranges[0].addr + OBJECTS * OBJECT);
	}
	dma_phys_sg_unmap(&list->sg);

	/* Neither the kernel nor the core bounces what the device reads. */
	list->count = dma_phys_test_list_map(list, ranges, OBJECTS,
					     DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, list->count, 1);
}

/* Whole pages are contiguous for the device, in the order of the ranges. */
static void sg_test_one_iova(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct dma_phys_test_list *list;
	struct cpu_phys ranges[8];
	size_t at = 0;

	edu_need_links(test);
	dma_phys_test_ranges(test, buf, sg_test_paged,
			     ARRAY_SIZE(sg_test_paged), ranges);
	list = sg_test_map(test, ranges, ARRAY_SIZE(sg_test_paged),
			   DMA_BIDIRECTIONAL);
	KUNIT_EXPECT_EQ(test, list->count, 1);
	for (size_t i = 0; i < ARRAY_SIZE(sg_test_paged); i++) {
		KUNIT_EXPECT_EQ(test,
				edu_translate(list->segments[0].addr + at),
				ranges[i].addr);
		at += ranges[i].len;
	}
}

static void sg_test_limit(u32 max, unsigned long boundary)
{
	dma_set_max_seg_size(edu.dev, max);
	dma_set_seg_boundary(edu.dev, boundary);
}

/* No segment is longer than the device takes or crosses its boundary. */
static void sg_test_h29_limits(struct kunit *test)
{
	static const struct {
		u32 max;
		unsigned long boundary;
	} limits[] = {
		{ SZ_4K, U32_MAX }, { 3000, U32_MAX }, { SZ_64K, SZ_4K - 1 },
		{ 1500, SZ_4K - 1 },
	};

	for (int i = 0; i < ARRAY_SIZE(limits); i++) {
		sg_test_limit(limits[i].max, limits[i].boundary);
		sg_test_round_trip(test, dma_phys_test_scattered, SCATTERED);
		sg_test_round_trip(test, sg_test_paged,
				   ARRAY_SIZE(sg_test_paged));
	}
}

/* A split leaves the low bits of the address clear that the device asks for. */
static void sg_test_split_is_aligned(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys range = edu_range(test, buf + 100, 7 * PAGE_SIZE);
	struct dma_phys_test_list *list;

	sg_test_limit(3000, U32_MAX);
	dma_set_min_align_mask(edu.dev, SZ_1K - 1);
	list = sg_test_map(test, &range, 1, DMA_TO_DEVICE);
	dma_phys_test_list_check(test, list, 7 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, list->segments[0].addr % SZ_1K, range.addr % SZ_1K);
	for (int i = 1; i < list->count; i++)
		KUNIT_EXPECT_EQ(test, list->segments[i].addr % SZ_1K, 0);
	dma_phys_sg_unmap(&list->sg);
}

#ifdef CONFIG_64BIT
/* Lengths that do not fit 32 bits: one range of 4 GiB, one of 8 GiB, both. */
static void sg_test_h22_lengths(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct cpu_phys ranges[2];
	int n;

	KUNIT_ASSERT_EQ(test, cpu_phys_from_raw(SZ_4G, SZ_4G, &ranges[0]), 0);
	KUNIT_ASSERT_EQ(test, cpu_phys_from_raw(4ULL * SZ_4G, 2ULL * SZ_4G,
						&ranges[1]), 0);
	if (edu_route(ranges[1].addr, ranges[1].len) == DMA_PHYS_BOUNCE)
		kunit_skip(test, "ranges of 4 GiB would bounce");
	if (get_dma_ops(edu.dev))
		kunit_skip(test, "legacy ops are not asked for raw ranges");
	if (edu_route(ranges[0].addr, SZ_4G) == DMA_PHYS_IOMMU) {
		/* The IOVA space of the mask is smaller. */
		n = dma_phys_test_list_map(list, ranges, 1, DMA_TO_DEVICE, 0);
		KUNIT_EXPECT_EQ(test, n, -E2BIG);
		edu_set_mask(DMA_BIT_MASK(64));
	}
	if (!dev_is_dma_coherent(edu.dev)) {
		/* There is no memory whose cache could be maintained. */
		n = dma_phys_test_list_map(list, ranges, 2, DMA_TO_DEVICE, 0);
		KUNIT_EXPECT_EQ(test, n, -EOPNOTSUPP);
		return;
	}

	sg_test_limit(SZ_2G, ULONG_MAX);
	for (size_t first = 0; first < 2; first++)
		for (size_t count = 1; first + count <= 2; count++) {
			size_t size = ranges[first].len +
				      (count == 2 ? ranges[1].len : 0);

			n = dma_phys_test_list_map(list, &ranges[first], count,
						   DMA_TO_DEVICE, 0);
			KUNIT_EXPECT_GE(test, n, size / SZ_2G);
			dma_phys_test_list_check(test, list, size);
			dma_phys_sg_unmap(&list->sg);
		}
}
#else
static void sg_test_h22_lengths(struct kunit *test)
{
	kunit_skip(test, "lengths have 32 bits");
}
#endif

/* Two ranges of device memory: each has its own place behind an IOMMU. */
static void sg_test_h21_two_mmio_ranges(struct kunit *test)
{
	struct mmio_phys ranges[] = {
		edu_mmio(test, 4 * PAGE_SIZE, PAGE_SIZE),
		edu_mmio(test, 0, PAGE_SIZE),
	};
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	int route = edu_mmio_route(ranges[0].addr, PAGE_SIZE);
	u8 *out = edu_pages(test, 1), *in = edu_pages(test, 1);
	struct cpu_phys back = edu_range(test, in, 2 * PAGE_SIZE);
	struct dma_phys_test_list *to;

	get_random_bytes(out, 2 * PAGE_SIZE);
	memcpy_toio(edu.shmem + 4 * PAGE_SIZE, out, PAGE_SIZE);
	memcpy_toio(edu.shmem, out + PAGE_SIZE, PAGE_SIZE);

	list->count = dma_phys_sg_map_mmio(edu.dev, ranges, 2, DMA_TO_DEVICE, 0,
					   list->segments, list->max_segments,
					   &list->sg);
	if (route < 0) {
		KUNIT_EXPECT_EQ(test, list->count, route);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
		return;
	}
	dma_phys_test_list_check(test, list, 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, list->sg.route, route);
	KUNIT_EXPECT_EQ(test, list->sg.kind, DMA_PHYS_MMIO);

	to = sg_test_map(test, &back, 1, DMA_FROM_DEVICE);
	dma_phys_test_list_copy(test, list, to);
	dma_phys_sg_unmap(&to->sg);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_MEMEQ(test, in, out, 2 * PAGE_SIZE);
}

/* Lists of both kinds. */

/* Offsets of the memory and of the device memory of a mixed list. */
struct sg_test_mixed_span {
	u8 kind;
	size_t offset;
	size_t len;
};

static const struct sg_test_mixed_span sg_test_mixed_pages[] = {
	{ DMA_PHYS_CPU, 2 * PAGE_SIZE, PAGE_SIZE },
	{ DMA_PHYS_MMIO, 4 * PAGE_SIZE, PAGE_SIZE },
	{ DMA_PHYS_MMIO, 0, PAGE_SIZE },
	{ DMA_PHYS_CPU, 6 * PAGE_SIZE, 2 * PAGE_SIZE },
};

static const struct sg_test_mixed_span sg_test_mixed_bytes[] = {
	{ DMA_PHYS_MMIO, 3 * PAGE_SIZE + 64, 1000 },
	{ DMA_PHYS_CPU, 100, 300 },
	{ DMA_PHYS_MMIO, PAGE_SIZE, 64 },
	{ DMA_PHYS_CPU, 5 * PAGE_SIZE, PAGE_SIZE },
};

#define SG_TEST_MIXED	4
static_assert(ARRAY_SIZE(sg_test_mixed_pages) == SG_TEST_MIXED);
static_assert(ARRAY_SIZE(sg_test_mixed_bytes) == SG_TEST_MIXED);

/* The ranges of @spans, device memory of @peer. Returns the length of all. */
static size_t sg_test_mixed_ranges(struct kunit *test, u8 *buf,
				   const struct sg_test_mixed_span *spans,
				   u32 peer, struct dma_phys_range *ranges)
{
	size_t size = 0;

	for (int i = 0; i < SG_TEST_MIXED; i++) {
		bool mmio = spans[i].kind == DMA_PHYS_MMIO;
		u8 *mem = buf + spans[i].offset;

		ranges[i] = (struct dma_phys_range){
			.addr = mmio ? edu_mmio(test, spans[i].offset,
						spans[i].len).addr :
				edu_range(test, mem, spans[i].len).addr,
			.len = spans[i].len,
			.peer = mmio ? peer : 0,
			.kind = spans[i].kind,
		};
		size += spans[i].len;
	}
	return size;
}

/* The CPU copies @bytes to the spans of a mixed list, or back. */
static void sg_test_mixed_copy(u8 *buf, u8 *bytes, bool to_spans,
			       const struct sg_test_mixed_span *spans)
{
	for (int i = 0; i < SG_TEST_MIXED; i++) {
		u8 __iomem *io = edu.shmem + spans[i].offset;
		u8 *mem = buf + spans[i].offset;

		if (spans[i].kind == DMA_PHYS_MMIO && to_spans)
			memcpy_toio(io, bytes, spans[i].len);
		else if (spans[i].kind == DMA_PHYS_MMIO)
			memcpy_fromio(bytes, io, spans[i].len);
		else if (to_spans)
			memcpy(mem, bytes, spans[i].len);
		else
			memcpy(bytes, mem, spans[i].len);
		bytes += spans[i].len;
	}
}

static int sg_test_mixed_map(struct dma_phys_test_list *list,
			     const struct dma_phys_range *ranges,
			     enum dma_data_direction dir)
{
	list->count = dma_phys_sg_map_ranges(edu.dev, ranges, SG_TEST_MIXED,
					     dir, 0, list->segments,
					     list->max_segments, &list->sg);
	return list->count;
}

/*
 * The device reads a mixed list, or writes it; the other end is memory. @path is
 * the route to the device memory, or the error if there is none.
 */
static void sg_test_mixed_bytes_move(struct kunit *test,
				     const struct sg_test_mixed_span *spans,
				     u32 peer, int path, bool device_reads)
{
	struct dma_phys_test_list *mixed, *memory;
	u8 *buf = edu_pages(test, 3), *other = edu_pages(test, 3);
	u8 *bytes = edu_pages(test, 3);
	struct dma_phys_range ranges[SG_TEST_MIXED];
	struct cpu_phys range;
	size_t size;

	size = sg_test_mixed_ranges(test, buf, spans, peer, ranges);
	get_random_bytes(bytes, size);
	if (device_reads)
		sg_test_mixed_copy(buf, bytes, true, spans);
	else
		memcpy(other, bytes, size);

	mixed = dma_phys_test_list(test, MAX_SEGMENTS);
	sg_test_mixed_map(mixed, ranges,
			  device_reads ? DMA_TO_DEVICE : DMA_FROM_DEVICE);
	if (path < 0) {
		KUNIT_EXPECT_EQ(test, mixed->count, path);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&mixed->sg));
		return;
	}
	dma_phys_test_list_check(test, mixed, size);
	KUNIT_EXPECT_EQ(test, mixed->sg.kind, DMA_PHYS_CPU);

	range = edu_range(test, other, size);
	memory = sg_test_map(test, &range, 1,
			     device_reads ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
	dma_phys_test_list_copy(test, device_reads ? mixed : memory,
				device_reads ? memory : mixed);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&mixed->sg, 0, size), 0);
	dma_phys_sg_unmap(&mixed->sg);
	dma_phys_sg_unmap(&memory->sg);
	if (!device_reads)
		sg_test_mixed_copy(buf, other, false, spans);
	KUNIT_EXPECT_MEMEQ(test, other, bytes, size);
}

static void sg_test_mixed_bidirectional(struct kunit *test, u32 peer, int path)
{
	for (int device_reads = 0; device_reads < 2; device_reads++) {
		sg_test_mixed_bytes_move(test, sg_test_mixed_pages, peer, path,
					 device_reads);
		sg_test_mixed_bytes_move(test, sg_test_mixed_bytes, peer, path,
					 device_reads);
	}
}

static void sg_test_memory_and_mmio(struct kunit *test)
{
	struct mmio_phys mmio = edu_mmio(test, 0, 8 * PAGE_SIZE);

	sg_test_mixed_bidirectional(test, 0, edu_mmio_route(mmio.addr, mmio.len));
}

/* How the peer is reached: the route of a map, or the error. */
static int sg_test_peer_path(struct kunit *test, const struct mmio_phys *range)
{
	struct dma_phys_map *map = edu_handle(test);
	int err = dma_phys_map_mmio(edu.dev, range, DMA_TO_DEVICE, 0, map);
	int route = map->route;

	dma_phys_unmap(map);
	return err ?: route;
}

static void sg_test_memory_and_peer(struct kunit *test)
{
	struct mmio_phys mmio;
	int err;

	if (!IS_ENABLED(CONFIG_PCI_P2PDMA))
		kunit_skip(test, "built without CONFIG_PCI_P2PDMA");
	edu_need_owner(test);
	err = edu_share(test, edu.owner, IVSHMEM_BAR);
	KUNIT_ASSERT_EQ(test, err, 0);
	err = mmio_phys_from_bar(edu.owner, IVSHMEM_BAR, 0, 8 * PAGE_SIZE,
				 &mmio);
	KUNIT_ASSERT_EQ(test, err, 0);
	sg_test_mixed_bidirectional(test, mmio.peer, sg_test_peer_path(test, &mmio));
}

/* Device memory of two peers, or of one peer and none, is not one list. */
static void sg_test_two_peers_are_refused(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 8);
	struct mmio_phys peers[] = {
		{ SZ_1G, PAGE_SIZE, 0 }, { SZ_2G, PAGE_SIZE, 7 },
		{ SZ_2G + SZ_64K, PAGE_SIZE, 8 },
	};
	int err;

	for (int i = 0; i < 2; i++) {
		err = dma_phys_sg_map_mmio(edu.dev, &peers[i], 2, DMA_TO_DEVICE,
					   0, list->segments, 8, &list->sg);
		KUNIT_EXPECT_EQ(test, err, -EINVAL);
	}
	/* No peer has this id. */
	err = dma_phys_sg_map_mmio(edu.dev, &peers[1], 1, DMA_TO_DEVICE, 0,
				   list->segments, 8, &list->sg);
	KUNIT_EXPECT_EQ(test, err, -ENODEV);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
}

/* A range longer than one bounce buffer is split into several. */
static void sg_test_larger_than_bounce_buffer(struct kunit *test)
{
	u8 *buf = edu_pages(test, 8), *copy = edu_pages(test, 0);
	struct cpu_phys range = edu_range(test, buf, SZ_1M);
	struct cpu_phys out = edu_range(test, copy, EDU_BUF);
	struct dma_phys_test_list *list, *from;

	memset(buf, POISON, SZ_1M);
	get_random_bytes(copy, EDU_BUF);
	from = sg_test_map(test, &out, 1, DMA_TO_DEVICE);
	list = sg_test_map(test, &range, 1, DMA_FROM_DEVICE);
	dma_phys_test_list_check(test, list, SZ_1M);

	for (size_t at = 0; at < SZ_1M; at += SZ_128K) {
		size_t rest;
		dma_addr_t addr = dma_phys_test_list_addr(list, at, &rest);

		KUNIT_ASSERT_GE(test, rest, EDU_BUF);
		edu_pull(test, from->segments[0].addr, EDU_BUF);
		edu_push(test, addr, EDU_BUF);
	}
	dma_phys_sg_unmap(&list->sg);
	for (size_t at = 0; at < SZ_1M; at += SZ_128K) {
		KUNIT_EXPECT_MEMEQ(test, buf + at, copy, EDU_BUF);
		KUNIT_EXPECT_EQ(test, buf[at + EDU_BUF], POISON);
	}
}

static void sg_test_bad_arguments(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 8);
	struct cpu_phys range = edu_range(test, edu_pages(test, 0), PAGE_SIZE);
	struct cpu_phys bad[] = { range, range };
	struct dma_phys_segment *segments = list->segments;
	struct dma_phys_sg *sg = &list->sg;

#define REFUSED(...)							\
	do {								\
		KUNIT_EXPECT_EQ(test, dma_phys_sg_map_cpu(__VA_ARGS__),	\
				-EINVAL);				\
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(sg));	\
	} while (0)
	REFUSED(NULL, &range, 1, DMA_TO_DEVICE, 0, segments, 8, sg);
	REFUSED(edu.dev, NULL, 1, DMA_TO_DEVICE, 0, segments, 8, sg);
	REFUSED(edu.dev, &range, 0, DMA_TO_DEVICE, 0, segments, 8, sg);
	REFUSED(edu.dev, &range, 1, DMA_NONE, 0, segments, 8, sg);
	REFUSED(edu.dev, &range, 1, 17, 0, segments, 8, sg);
	REFUSED(edu.dev, &range, 1, DMA_TO_DEVICE, BIT(7), segments, 8, sg);
	REFUSED(edu.dev, &range, 1, DMA_TO_DEVICE, 0, NULL, 8, sg);
	REFUSED(edu.dev, &range, 1, DMA_TO_DEVICE, 0, segments, 8, NULL);
	bad[1].len = 0;
	REFUSED(edu.dev, bad, 2, DMA_TO_DEVICE, 0, segments, 8, sg);
	bad[1] = (struct cpu_phys){ PHYS_ADDR_MAX, 2 };
	REFUSED(edu.dev, bad, 2, DMA_TO_DEVICE, 0, segments, 8, sg);
	bad[1] = (struct cpu_phys){ SZ_4K, SIZE_MAX - SZ_4K + 1 };
	REFUSED(edu.dev, bad, 2, DMA_TO_DEVICE, 0, segments, 8, sg);
#undef REFUSED

	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(sg, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_device(NULL, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_max_segments(NULL, 1, 1), 0);
	dma_phys_sg_unmap(NULL);
	dma_phys_sg_unmap_nosync(NULL);
}

/* A live list is not overwritten. Unmapping twice is unmapping once. */
static void sg_test_h18_unmapped_twice(struct kunit *test)
{
	u8 *buf = edu_pages(test, 1);
	struct cpu_phys first = edu_range(test, buf, PAGE_SIZE);
	struct cpu_phys second = edu_range(test, buf + PAGE_SIZE, PAGE_SIZE);
	struct dma_phys_test_list *list, *other;
	struct dma_phys_sg saved;
	int err;

	list = sg_test_map(test, &first, 1, DMA_TO_DEVICE);
	saved = list->sg;
	err = dma_phys_test_list_map(list, &second, 1, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, err, -EINVAL);
	KUNIT_EXPECT_MEMEQ(test, &list->sg, &saved, sizeof(saved));
	dma_phys_sg_unmap(&list->sg);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));

	list = sg_test_map(test, &first, 1, DMA_TO_DEVICE);
	other = sg_test_map(test, &second, 1, DMA_TO_DEVICE);
	KUNIT_EXPECT_NE(test, list->segments[0].addr, other->segments[0].addr);
}

/* Nothing of the last map is in the next one. */
static void sg_test_h19_state_is_new(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[8];

	for (int i = 0; i < 3; i++) {
		const struct dma_phys_test_span *spans =
			i & 1 ? dma_phys_test_scattered : sg_test_paged;
		size_t count = i & 1 ? SCATTERED : ARRAY_SIZE(sg_test_paged);
		size_t size = dma_phys_test_ranges(test, buf, spans, count,
						   ranges);

		memset(list->segments, 0xff,
		       MAX_SEGMENTS * sizeof(*list->segments));
		dma_phys_test_list_map(list, ranges, count, DMA_TO_DEVICE, 0);
		dma_phys_test_list_check(test, list, size);
		dma_phys_sg_unmap(&list->sg);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	}
}

static struct kunit_case sg_test_cases[] = {
	KUNIT_CASE(sg_test_h21_two_mmio_ranges),
	KUNIT_CASE(sg_test_bytes_scattered),
	KUNIT_CASE(sg_test_bytes_paged),
	KUNIT_CASE(sg_test_fields),
	KUNIT_CASE(sg_test_adjacent_ranges_merge),
	KUNIT_CASE(sg_test_h28_short_neighbours_bounce),
	KUNIT_CASE(sg_test_one_iova),
	KUNIT_CASE(sg_test_h29_limits),
	KUNIT_CASE(sg_test_split_is_aligned),
	KUNIT_CASE(sg_test_h22_lengths),
	KUNIT_CASE(sg_test_memory_and_mmio),
	KUNIT_CASE(sg_test_memory_and_peer),
	KUNIT_CASE(sg_test_two_peers_are_refused),
	KUNIT_CASE(sg_test_larger_than_bounce_buffer),
	KUNIT_CASE(sg_test_bad_arguments),
	KUNIT_CASE(sg_test_h18_unmapped_twice),
	KUNIT_CASE(sg_test_h19_state_is_new),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite sg_test_suite = {
	.name = "dma_phys_sg",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = sg_test_cases,
};

kunit_test_suite(sg_test_suite);

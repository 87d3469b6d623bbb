// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of vec.c: many ranges to segments, with bytes that really move, and
 * every failure undone.
 */
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/random.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "vec_kunit.h"

static void put_vec(void *vec)
{
	dma_phys_vec_unmap(vec);
}

struct dma_phys_vec *vec_empty(struct kunit *test, size_t room)
{
	struct dma_phys_vec *vec = kunit_kzalloc(test, sizeof(*vec), GFP_KERNEL);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, vec);
	vec->room = room;
	vec->segments = kunit_kcalloc(test, room, sizeof(*vec->segments),
				      GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vec->segments);
	err = kunit_add_action(test, put_vec, vec);
	KUNIT_ASSERT_EQ(test, err, 0);
	return vec;
}

bool vec_is_empty(const struct dma_phys_vec *vec)
{
	return !vec->dev && !vec->count && !vec->pieces && !vec->size &&
	       !vec->undo && !vec->route && !vec->flags;
}

void vec_check(struct kunit *test, const struct dma_phys_vec *vec, size_t size)
{
	u64 boundary = dma_get_seg_boundary(edu.dev);
	size_t sum = 0;

	for (size_t i = 0; i < vec->count; i++) {
		const struct dma_phys_segment *seg = &vec->segments[i];

		KUNIT_EXPECT_GT(test, seg->len, 0);
		KUNIT_EXPECT_LE(test, seg->len, dma_get_max_seg_size(edu.dev));
		KUNIT_EXPECT_EQ(test, seg->addr & ~boundary,
				(seg->addr + seg->len - 1) & ~boundary);
		sum += seg->len;
	}
	KUNIT_EXPECT_EQ(test, sum, size);
	KUNIT_EXPECT_EQ(test, vec->size, size);
}

/* The device's address of byte @at of the vec, and how many follow there. */
static dma_addr_t find(const struct dma_phys_vec *vec, size_t at, size_t *left)
{
	size_t i = 0;

	while (at >= vec->segments[i].len)
		at -= vec->segments[i++].len;
	*left = vec->segments[i].len - at;
	return vec->segments[i].addr + at;
}

void vec_carry(struct kunit *test, const struct dma_phys_vec *from,
	       const struct dma_phys_vec *to)
{
	size_t n, left, at = 0;

	for (; at < from->size; at += n) {
		dma_addr_t src = find(from, at, &n);
		dma_addr_t dst = find(to, at, &left);

		n = min3(n, left, (size_t)EDU_BUF);
		edu_pull(test, src, n);
		edu_push(test, dst, n);
	}
}

const struct piece scattered[SCATTERED] = {
	{ 5 * PAGE_SIZE + 100, 1000 },
	{ 0, PAGE_SIZE },
	{ PAGE_SIZE, 512 },
	{ 3 * PAGE_SIZE - 1, 2 },
	{ 7 * PAGE_SIZE, PAGE_SIZE },
	{ 4 * PAGE_SIZE, 3 },
};

/* Whole pages: what goes to one IOVA. */
static const struct piece paged[] = {
	{ 5 * PAGE_SIZE + 512, PAGE_SIZE - 512 },
	{ 0, PAGE_SIZE },
	{ 7 * PAGE_SIZE, PAGE_SIZE },
	{ 2 * PAGE_SIZE, 2 * PAGE_SIZE },
	{ 6 * PAGE_SIZE, 700 },
};

static size_t cut(struct kunit *test, u8 *buf, const struct piece *pieces,
		  size_t count, struct cpu_phys *ranges)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++) {
		ranges[i] = edu_range(test, buf + pieces[i].offset,
				      pieces[i].len);
		size += pieces[i].len;
	}
	return size;
}

static struct dma_phys_vec *map(struct kunit *test,
				const struct cpu_phys *ranges, size_t count,
				enum dma_data_direction dir, u32 flags)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM);

	KUNIT_ASSERT_EQ(test, dma_phys_vec_map_cpu(edu.dev, ranges, count, dir,
						   flags, vec), 0);
	return vec;
}

static int try_map(const struct cpu_phys *ranges, size_t count,
		   struct dma_phys_vec *vec)
{
	return dma_phys_vec_map_cpu(edu.dev, ranges, count, DMA_TO_DEVICE, 0,
				    vec);
}

/* The same pieces of two buffers: one is read, the other written. */
static void round_trip(struct kunit *test, const struct piece *pieces,
		       size_t count)
{
	u8 *out = edu_pages(test, 3), *in = edu_pages(test, 3);
	u8 *expected = edu_pages(test, 3);
	struct dma_phys_vec *from, *to;
	struct cpu_phys ranges[8];
	size_t size;

	get_random_bytes(out, 8 * PAGE_SIZE);
	memset(in, POISON, 8 * PAGE_SIZE);
	memset(expected, POISON, 8 * PAGE_SIZE);
	for (size_t i = 0; i < count; i++)
		memcpy(expected + pieces[i].offset, out + pieces[i].offset,
		       pieces[i].len);

	size = cut(test, out, pieces, count, ranges);
	from = map(test, ranges, count, DMA_TO_DEVICE, 0);
	vec_check(test, from, size);
	cut(test, in, pieces, count, ranges);
	to = map(test, ranges, count, DMA_FROM_DEVICE, 0);
	vec_check(test, to, size);

	vec_carry(test, from, to);
	dma_phys_vec_unmap(to);
	dma_phys_vec_unmap(from);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(to));
	KUNIT_EXPECT_MEMEQ(test, in, expected, 8 * PAGE_SIZE);
}

static void bytes_move_scattered(struct kunit *test)
{
	round_trip(test, scattered, SCATTERED);
}

static void bytes_move_paged(struct kunit *test)
{
	round_trip(test, paged, ARRAY_SIZE(paged));
}

/* Two ranges, which the raw API's users have put at the same IOVA. */
static void h21_two_mmio_ranges(struct kunit *test)
{
	struct mmio_phys ranges[] = {
		edu_mmio(test, 4 * PAGE_SIZE, PAGE_SIZE),
		edu_mmio(test, 0, PAGE_SIZE),
	};
	struct dma_phys_vec *vec = vec_empty(test, ROOM), *to;
	int route = edu_mmio_route(ranges[0].addr, PAGE_SIZE);
	u8 *out = edu_pages(test, 1), *in = edu_pages(test, 1);
	struct cpu_phys back = edu_range(test, in, 2 * PAGE_SIZE);
	int err;

	get_random_bytes(out, 2 * PAGE_SIZE);
	memcpy_toio(edu.shmem + 4 * PAGE_SIZE, out, PAGE_SIZE);
	memcpy_toio(edu.shmem, out + PAGE_SIZE, PAGE_SIZE);

	err = dma_phys_vec_map_mmio(edu.dev, ranges, 2, DMA_TO_DEVICE, 0, vec);
	if (route < 0) {
		KUNIT_EXPECT_EQ(test, err, route);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
		return;
	}
	KUNIT_ASSERT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, vec->route, route);
	vec_check(test, vec, 2 * PAGE_SIZE);

	to = map(test, &back, 1, DMA_FROM_DEVICE, 0);
	vec_carry(test, vec, to);
	dma_phys_vec_unmap(to);
	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_MEMEQ(test, in, out, 2 * PAGE_SIZE);
}

/* Ranges that follow each other are one segment. */
static void merged(struct kunit *test)
{
	u8 *buf = edu_pages(test, 2);
	struct cpu_phys ranges[4];
	struct dma_phys_vec *vec;

	for (size_t i = 0; i < 4; i++)
		ranges[i] = edu_range(test, buf + i * 1000, 1000);
	vec = map(test, ranges, 4, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_EQ(test, vec->count, 1);
	KUNIT_EXPECT_EQ(test, vec->segments[0].len, 4000);
}

/* Whole pages in no order: one run of addresses, each page where it belongs. */
static void one_iova(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[8];
	struct dma_phys_vec *vec;
	size_t at = 0;

	edu_need_iommu(test);
	cut(test, buf, paged, ARRAY_SIZE(paged), ranges);
	vec = map(test, ranges, ARRAY_SIZE(paged), DMA_BIDIRECTIONAL, 0);
	KUNIT_EXPECT_EQ(test, vec->count, 1);
	for (size_t i = 0; i < ARRAY_SIZE(paged); i++) {
		KUNIT_EXPECT_EQ(test, edu_translate(vec->segments[0].addr + at),
				ranges[i].addr);
		at += ranges[i].len;
	}
}

/* h29: as long as the device takes, and no boundary crossed. */
static void h29_limits(struct kunit *test)
{
	static const struct {
		unsigned int max;
		unsigned long boundary;
	} limits[] = {
		{ SZ_4K, U32_MAX }, { 3000, U32_MAX }, { SZ_64K, SZ_4K - 1 },
		{ 1500, SZ_4K - 1 },
	};
	unsigned int max = dma_get_max_seg_size(edu.dev);
	unsigned long boundary = dma_get_seg_boundary(edu.dev);

	for (int i = 0; i < ARRAY_SIZE(limits); i++) {
		dma_set_max_seg_size(edu.dev, limits[i].max);
		dma_set_seg_boundary(edu.dev, limits[i].boundary);
		round_trip(test, scattered, SCATTERED);
		round_trip(test, paged, ARRAY_SIZE(paged));
	}
	dma_set_max_seg_size(edu.dev, max);
	dma_set_seg_boundary(edu.dev, boundary);
}

/* h22: more than 32 bits can count, in one range and in all of them. */
static void h22_lengths(struct kunit *test)
{
	struct cpu_phys ranges[] = {
		{ SZ_4G, SZ_4G }, { 4ULL * SZ_4G, 2ULL * SZ_4G },
	};
	unsigned int max = dma_get_max_seg_size(edu.dev);
	unsigned long boundary = dma_get_seg_boundary(edu.dev);
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	int err;

	if (edu_route(ranges[0].addr, SZ_4G) == DMA_PHYS_BOUNCE)
		kunit_skip(test, "such ranges would bounce");
	/* Page tables for 12 GiB are large: 4 KiB pages only where they must. */
	dma_set_max_seg_size(edu.dev, SZ_2G);
	dma_set_seg_boundary(edu.dev, ULONG_MAX);
	for (size_t n = 1; n <= 2; n++) {
		size_t size = n == 1 ? SZ_4G : 3ULL * SZ_4G;

		err = dma_phys_vec_map_cpu(edu.dev, ranges, n, DMA_TO_DEVICE, 0,
					   vec);
		if (err == -EAGAIN || err == -E2BIG)
			continue;	/* the IOVA space is smaller */
		KUNIT_EXPECT_EQ(test, err, 0);
		vec_check(test, vec, size);
		KUNIT_EXPECT_GE(test, vec->count, n * 2);
		dma_phys_vec_unmap(vec);
	}
	dma_set_max_seg_size(edu.dev, max);
	dma_set_seg_boundary(edu.dev, boundary);
}

/*
 * Storage for k records: every place where mapping can stop is tried. Ranges
 * with IOVAs of their own are one segment where the IOVAs happen to meet, so
 * that less may do at the next try.
 */
static void stops_everywhere(struct kunit *test, const struct piece *pieces,
			     size_t count, struct dma_phys_vec *vec)
{
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[8];
	size_t need, failed = 0;
	int err;

	cut(test, buf, pieces, count, ranges);
	err = dma_phys_vec_map_cpu(edu.dev, ranges, count, DMA_BIDIRECTIONAL, 0,
				   vec);
	KUNIT_ASSERT_EQ(test, err, 0);
	need = vec->count + vec->pieces;
	dma_phys_vec_unmap(vec);

	for (vec->room = 1; vec->room < need; vec->room++) {
		err = dma_phys_vec_map_cpu(edu.dev, ranges, count,
					   DMA_BIDIRECTIONAL, 0, vec);
		if (err) {
			KUNIT_EXPECT_EQ(test, err, -ENOSPC);
			failed++;
		}
		dma_phys_vec_unmap(vec);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	}
	KUNIT_EXPECT_GE(test, 2 * failed, need - 1);

	vec->room = ROOM;
	err = dma_phys_vec_map_cpu(edu.dev, ranges, count, DMA_BIDIRECTIONAL, 0,
				   vec);
	KUNIT_EXPECT_EQ(test, err, 0);
	dma_phys_vec_unmap(vec);
}

static void failure_undoes_all(struct kunit *test)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM);

	stops_everywhere(test, scattered, SCATTERED, vec);
	stops_everywhere(test, paged, ARRAY_SIZE(paged), vec);
}

/* Under an IOMMU each range in turn is one that cannot be mapped. */
static void failure_of_each(struct kunit *test)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[8], good;

	edu_need_iommu(test);
	for (int i = 0; i < 8; i++)
		ranges[i] = edu_range(test, buf + (i * 5 % 8) * PAGE_SIZE,
				      PAGE_SIZE);
	for (int k = 0; k < 8; k++) {
		good = ranges[k];
		ranges[k].addr = 0;
		KUNIT_EXPECT_EQ(test, try_map(ranges, 8, vec), -EINVAL);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
		ranges[k] = good;
	}
}

/* More than one bounce slot takes: several, cut as the device needs. */
static void larger_than_a_slot(struct kunit *test)
{
	u8 *buf = edu_pages(test, 8);
	struct cpu_phys range = edu_range(test, buf, SZ_1M);
	struct dma_phys_vec *vec, *from;
	struct cpu_phys out;
	u8 *copy = edu_pages(test, 0);

	memset(buf, POISON, SZ_1M);
	get_random_bytes(copy, EDU_BUF);
	out = edu_range(test, copy, EDU_BUF);
	from = map(test, &out, 1, DMA_TO_DEVICE, 0);
	vec = map(test, &range, 1, DMA_FROM_DEVICE, 0);
	vec_check(test, vec, SZ_1M);

	for (size_t at = 0; at < SZ_1M; at += SZ_128K) {
		size_t left;
		dma_addr_t addr = find(vec, at, &left);

		KUNIT_ASSERT_GE(test, left, EDU_BUF);
		edu_pull(test, from->segments[0].addr, EDU_BUF);
		edu_push(test, addr, EDU_BUF);
	}
	dma_phys_vec_unmap(vec);
	for (size_t at = 0; at < SZ_1M; at += SZ_128K) {
		KUNIT_EXPECT_MEMEQ(test, buf + at, copy, EDU_BUF);
		KUNIT_EXPECT_EQ(test, buf[at + EDU_BUF], POISON);
	}
}

/* h12: by hand, in parts that begin and end within ranges. */
static void h12_manual_sync_of_parts(struct kunit *test)
{
	u8 *buf = edu_pages(test, 3), *copy = edu_pages(test, 3);
	struct dma_phys_vec *vec;
	struct cpu_phys ranges[8];
	size_t size, at, left, n;

	memset(buf, POISON, 8 * PAGE_SIZE);
	size = cut(test, buf, scattered, SCATTERED, ranges);
	vec = map(test, ranges, SCATTERED, DMA_BIDIRECTIONAL,
		  DMA_PHYS_MANUAL_SYNC);

	get_random_bytes(buf, 8 * PAGE_SIZE);
	memcpy(copy, buf, 8 * PAGE_SIZE);
	for (at = 0; at < size; at += n) {
		n = min_t(size_t, 777, size - at);
		KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_device(vec, at, n),
				0);
	}
	memset(buf, POISON, 8 * PAGE_SIZE);

	/* The device gives back what it was shown. */
	for (at = 0; at < size; at += n) {
		dma_addr_t addr = find(vec, at, &left);

		n = min_t(size_t, left, EDU_BUF);
		edu_pull(test, addr, n);
		edu_push(test, addr, n);
	}
	for (at = 0; at < size; at += n) {
		n = min_t(size_t, 333, size - at);
		KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_cpu(vec, at, n), 0);
	}

	/* Only a bounced range has kept what the device was shown. */
	if (vec->route == DMA_PHYS_BOUNCE)
		for (int i = 0; i < SCATTERED; i++)
			KUNIT_EXPECT_MEMEQ(test, buf + scattered[i].offset,
					   copy + scattered[i].offset,
					   scattered[i].len);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_cpu(vec, size, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_cpu(vec, 0, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_device(vec, 1, size),
			-EINVAL);
}

/* What is asked for wrongly. */
static void arguments(struct kunit *test)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM), none = {};
	u8 *buf = edu_pages(test, 0);
	struct cpu_phys range = edu_range(test, buf, PAGE_SIZE);
	struct cpu_phys bad[] = { range, range };
	struct mmio_phys peers[] = {
		{ SZ_1G, PAGE_SIZE, 0 }, { SZ_2G, PAGE_SIZE, 7 },
	};
	int err;

#define REFUSED(err, ...)						\
	do {								\
		KUNIT_EXPECT_EQ(test, dma_phys_vec_map_cpu(__VA_ARGS__), err); \
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));			\
	} while (0)
	REFUSED(-EINVAL, NULL, &range, 1, DMA_TO_DEVICE, 0, vec);
	REFUSED(-EINVAL, edu.dev, NULL, 1, DMA_TO_DEVICE, 0, vec);
	REFUSED(-EINVAL, edu.dev, &range, 0, DMA_TO_DEVICE, 0, vec);
	REFUSED(-EINVAL, edu.dev, &range, 1, DMA_NONE, 0, vec);
	REFUSED(-EINVAL, edu.dev, &range, 1, 17, 0, vec);
	REFUSED(-EINVAL, edu.dev, &range, 1, DMA_TO_DEVICE, BIT(7), vec);
	REFUSED(-EINVAL, edu.dev, &range, 1, DMA_TO_DEVICE, 0, NULL);
	REFUSED(-EINVAL, edu.dev, &range, 1, DMA_TO_DEVICE, 0, &none);
	bad[1].len = 0;
	REFUSED(-EINVAL, edu.dev, bad, 2, DMA_TO_DEVICE, 0, vec);
	bad[1] = (struct cpu_phys){ PHYS_ADDR_MAX, 2 };
	REFUSED(-EINVAL, edu.dev, bad, 2, DMA_TO_DEVICE, 0, vec);
	bad[1] = (struct cpu_phys){ SZ_4K, SIZE_MAX - SZ_4K + 1 };
	REFUSED(-EINVAL, edu.dev, bad, 2, DMA_TO_DEVICE, 0, vec);
#undef REFUSED

	err = dma_phys_vec_map_mmio(edu.dev, peers, 2, DMA_TO_DEVICE, 0, vec);
	KUNIT_EXPECT_EQ(test, err, -EINVAL);
	err = dma_phys_vec_map_mmio(edu.dev, peers + 1, 1, DMA_TO_DEVICE, 0,
				    vec);
	KUNIT_EXPECT_EQ(test, err, -ENODEV);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));

	/* A live vec is not written over, and is unmapped once. */
	KUNIT_EXPECT_EQ(test, try_map(&range, 1, vec), 0);
	KUNIT_EXPECT_EQ(test, try_map(&range, 1, vec), -EINVAL);
	dma_phys_vec_unmap(vec);
	dma_phys_vec_unmap(vec);
	dma_phys_vec_unmap(NULL);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_cpu(vec, 0, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_room(NULL, 1, 1), 0);
}

/* A vec that was unmapped owns no addresses that it could give back again. */
static void h18_unmapped_twice(struct kunit *test)
{
	u8 *buf = edu_pages(test, 1);
	struct cpu_phys first = edu_range(test, buf, PAGE_SIZE);
	struct cpu_phys second = edu_range(test, buf + PAGE_SIZE, PAGE_SIZE);
	struct dma_phys_vec *vec = map(test, &first, 1, DMA_TO_DEVICE, 0);

	dma_phys_vec_unmap(vec);
	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));

	vec = map(test, &first, 1, DMA_TO_DEVICE, 0);
	KUNIT_EXPECT_NE(test, vec->segments[0].addr,
			map(test, &second, 1, DMA_TO_DEVICE, 0)->segments[0].addr);
}

/* h19: what the last map left behind is nothing to the next. */
static void h19_state_is_new(struct kunit *test)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	u8 *buf = edu_pages(test, 3);
	struct cpu_phys ranges[8];

	for (int i = 0; i < 3; i++) {
		const struct piece *pieces = i & 1 ? scattered : paged;
		size_t count = i & 1 ? SCATTERED : ARRAY_SIZE(paged);
		size_t size = cut(test, buf, pieces, count, ranges);

		memset(vec->segments, 0xff, ROOM * sizeof(*vec->segments));
		KUNIT_ASSERT_EQ(test, try_map(ranges, count, vec), 0);
		vec_check(test, vec, size);
		dma_phys_vec_unmap(vec);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	}
}

/* What dma_phys_vec_room() says is enough, whatever the ranges are. */
static void room_is_enough(struct kunit *test)
{
	struct cpu_phys *ranges = kunit_kcalloc(test, 16, sizeof(*ranges),
						GFP_KERNEL);
	unsigned int max = dma_get_max_seg_size(edu.dev);
	struct dma_phys_vec *vec = vec_empty(test, 4096);
	u8 *buf = edu_pages(test, 6);

	KUNIT_ASSERT_NOT_NULL(test, ranges);
	for (int i = 0; i < 200; i++) {
		size_t count = 1 + get_random_u32_below(16), size = 0;

		dma_set_max_seg_size(edu.dev, 512 + get_random_u32_below(SZ_64K));
		for (size_t k = 0; k < count; k++) {
			size_t at = get_random_u32_below(63 * PAGE_SIZE);
			size_t len = 1 + get_random_u32_below(3 * PAGE_SIZE);

			len = min(len, 64 * PAGE_SIZE - at);
			ranges[k] = edu_range(test, buf + at, len);
			size += len;
		}
		vec->room = dma_phys_vec_room(edu.dev, count, size);
		KUNIT_ASSERT_LE(test, vec->room, 4096);
		KUNIT_ASSERT_EQ(test, try_map(ranges, count, vec), 0);
		vec_check(test, vec, size);
		dma_phys_vec_unmap(vec);
	}
	dma_set_max_seg_size(edu.dev, max);
}

static struct kunit_case vec_cases[] = {
	KUNIT_CASE(h21_two_mmio_ranges),
	KUNIT_CASE(bytes_move_scattered),
	KUNIT_CASE(bytes_move_paged),
	KUNIT_CASE(merged),
	KUNIT_CASE(one_iova),
	KUNIT_CASE(h29_limits),
	KUNIT_CASE(h22_lengths),
	KUNIT_CASE(failure_undoes_all),
	KUNIT_CASE(failure_of_each),
	KUNIT_CASE(larger_than_a_slot),
	KUNIT_CASE(h12_manual_sync_of_parts),
	KUNIT_CASE(arguments),
	KUNIT_CASE(h18_unmapped_twice),
	KUNIT_CASE(h19_state_is_new),
	KUNIT_CASE(room_is_enough),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite vec_suite = {
	.name = "dma_phys_vec",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = vec_cases,
};

kunit_test_suite(vec_suite);

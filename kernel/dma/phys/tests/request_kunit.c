// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of block/blk-mq-dma-phys.c: the data of block requests and their
 * integrity data, to segments.
 */
#include <linux/bio-integrity.h>
#include <linux/blk-mq-dma-phys.h>
#include <linux/blk-mq.h>
#include <linux/dma-mapping.h>
#include <linux/pci-p2pdma.h>
#include <linux/random.h>
#include <linux/string.h>

#include "internal.h"
#include "request.h"
#include "sg_kunit.h"

#define REQUEST_TEST_BYTES	(8 * PAGE_SIZE)

static struct blk_mq_tag_set request_test_tags;
static struct gendisk *request_test_disk;

/* Limits that no request of a test meets. */
static const struct queue_limits request_test_limits = {
	.dma_alignment = 1,
	.max_segments = 128,
	.max_integrity_segments = 128,
	.max_segment_size = SZ_1M,
	.max_hw_sectors = SZ_1M >> SECTOR_SHIFT,
};

static int request_test_suite_init(struct kunit_suite *suite)
{
	request_test_disk = dma_phys_test_disk_alloc(&request_test_tags, 16,
						     request_test_limits);
	return PTR_ERR_OR_ZERO(request_test_disk) ?: edu_suite_init(suite);
}

static void request_test_suite_exit(struct kunit_suite *suite)
{
	edu_suite_exit(suite);
	dma_phys_test_disk_free(request_test_disk, &request_test_tags);
}

static void request_test_put_disk(void *disk)
{
	put_disk(disk);
}

/* Another queue, until the test ends. */
static struct gendisk *request_test_limited_disk(struct kunit *test,
						 struct queue_limits limits)
{
	struct gendisk *disk = blk_mq_alloc_disk(&request_test_tags, &limits,
						 NULL);
	int err;

	KUNIT_ASSERT_FALSE(test, IS_ERR(disk));
	err = kunit_add_action_or_reset(test, request_test_put_disk, disk);
	KUNIT_ASSERT_EQ(test, err, 0);
	return disk;
}

static void request_test_put(void *data)
{
	dma_phys_test_request_free(data);
}

/* A request without data, freed after the test. */
static struct request *request_test_new(struct kunit *test,
					struct gendisk *disk, enum req_op op)
{
	struct request *rq = blk_mq_alloc_request(disk->queue, op, 0);
	int err;

	KUNIT_ASSERT_FALSE(test, IS_ERR(rq));
	err = kunit_add_action(test, request_test_put, rq);
	KUNIT_ASSERT_EQ(test, err, 0);
	return rq;
}

static struct bio *request_test_bio(struct kunit *test, struct request *rq)
{
	struct bio *bio = bio_alloc(rq->q->disk->part0, 8, req_op(rq),
				    GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, bio);
	return bio;
}

/* Add a bio with spans of the memory at @buf. */
static struct bio *request_test_add(struct kunit *test, struct request *rq,
				    u8 *buf,
				    const struct dma_phys_test_span *spans,
				    size_t count)
{
	struct bio *bio = request_test_bio(test, rq);
	int err;

	for (size_t i = 0; i < count; i++) {
		u8 *at = buf + spans[i].offset;
		int n = bio_add_page(bio, virt_to_page(at), spans[i].len,
				     offset_in_page(at));

		KUNIT_EXPECT_EQ(test, n, spans[i].len);
	}

	err = blk_rq_append_bio(rq, bio);
	if (err)
		bio_put(bio);
	KUNIT_ASSERT_EQ(test, err, 0);
	return bio;
}

/* The data of a request of two bios, at even addresses. */
static const struct dma_phys_test_span request_test_first[] = {
	{ 5 * PAGE_SIZE + 100, 1000 },
	{ 0, PAGE_SIZE },
	{ PAGE_SIZE, 512 },
};

static const struct dma_phys_test_span request_test_second[] = {
	{ 3 * PAGE_SIZE - 2, 4 },
	{ 7 * PAGE_SIZE, PAGE_SIZE },
	{ 4 * PAGE_SIZE, 3 },
};

#define REQUEST_TEST_FIRST	ARRAY_SIZE(request_test_first)
#define REQUEST_TEST_SECOND	ARRAY_SIZE(request_test_second)

static size_t request_test_size(const struct dma_phys_test_span *spans,
				size_t count)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++)
		size += spans[i].len;
	return size;
}

#define REQUEST_TEST_SIZE						\
	(request_test_size(request_test_first, REQUEST_TEST_FIRST) +	\
	 request_test_size(request_test_second, REQUEST_TEST_SECOND))

static struct request *request_test_filled(struct kunit *test, enum req_op op,
					   u8 *buf)
{
	struct request *rq = request_test_new(test, request_test_disk, op);

	request_test_add(test, rq, buf, request_test_first, REQUEST_TEST_FIRST);
	request_test_add(test, rq, buf, request_test_second,
			 REQUEST_TEST_SECOND);
	return rq;
}

/* blk_rq_dma_phys_map() for the edu device: count of segments or -errno. */
static int request_test_try(struct dma_phys_test_list *list,
			    struct request *rq)
{
	list->count = blk_rq_dma_phys_map(edu.dev, rq, 0, list->segments,
					  list->max_segments, &list->sg);
	return list->count;
}

/* Map to an array of the capacity that is always enough. */
static struct dma_phys_test_list *request_test_map(struct kunit *test,
						   struct request *rq)
{
	size_t max = dma_phys_sg_max_segments(edu.dev,
					      blk_rq_nr_phys_segments(rq),
					      blk_rq_payload_bytes(rq));
	struct dma_phys_test_list *list = dma_phys_test_list(test, max);

	KUNIT_ASSERT_GT(test, request_test_try(list, rq), 0);
	KUNIT_EXPECT_EQ(test, list->sg.dir, rq_dma_dir(rq));
	dma_phys_test_list_check(test, list, blk_rq_payload_bytes(rq));
	return list;
}

static void request_test_copy_spans(u8 *to, const u8 *from,
				    const struct dma_phys_test_span *spans,
				    size_t count)
{
	for (size_t i = 0; i < count; i++)
		memcpy(to + spans[i].offset, from + spans[i].offset,
		       spans[i].len);
}

/* The device reads the data of @write and writes that of @read. */
static void request_test_transfer(struct kunit *test, enum req_op write,
				  enum req_op read)
{
	u8 *out = edu_pages(test, 3), *in = edu_pages(test, 3);
	u8 *expected = edu_pages(test, 3);
	struct dma_phys_test_list *from, *to;

	get_random_bytes(out, REQUEST_TEST_BYTES);
	memset(in, POISON, REQUEST_TEST_BYTES);
	memset(expected, POISON, REQUEST_TEST_BYTES);
	request_test_copy_spans(expected, out, request_test_first,
				REQUEST_TEST_FIRST);
	request_test_copy_spans(expected, out, request_test_second,
				REQUEST_TEST_SECOND);

	from = request_test_map(test, request_test_filled(test, write, out));
	to = request_test_map(test, request_test_filled(test, read, in));
	dma_phys_test_list_copy(test, from, to);
	dma_phys_sg_unmap(&to->sg);
	dma_phys_sg_unmap(&from->sg);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&to->sg));
	KUNIT_EXPECT_MEMEQ(test, in, expected, REQUEST_TEST_BYTES);
}

static void request_test_bytes_move(struct kunit *test)
{
	request_test_transfer(test, REQ_OP_DRV_OUT, REQ_OP_DRV_IN);
}

/* All requests with data take the same path: passthrough and zone append too. */
static void request_test_all_operations(struct kunit *test)
{
	static const enum req_op ops[] = {
		REQ_OP_WRITE, REQ_OP_DRV_OUT, REQ_OP_ZONE_APPEND,
		REQ_OP_READ, REQ_OP_DRV_IN,
	};
	u8 *buf = edu_pages(test, 3);
	int route = -1, flags = -1;

	for (int i = 0; i < ARRAY_SIZE(ops); i++) {
		struct request *rq = request_test_new(test, request_test_disk,
						      ops[i]);
		struct dma_phys_test_list *list;

		request_test_add(test, rq, buf, request_test_first,
				 REQUEST_TEST_FIRST);
		list = request_test_map(test, rq);
		if (route < 0) {
			route = list->sg.route;
			flags = list->sg.flags;
		}
		KUNIT_EXPECT_EQ(test, list->sg.route, route);
		KUNIT_EXPECT_EQ(test, list->sg.flags, flags);
		dma_phys_sg_unmap(&list->sg);
	}
	if (route == DMA_PHYS_DIRECT && !IS_ENABLED(CONFIG_DMA_API_DEBUG) &&
	    !IS_ENABLED(CONFIG_KMSAN) && !dma_phys_debug_on())
		KUNIT_EXPECT_TRUE(test, flags & DMA_PHYS_FAST);
}

/* Segments obey the limits of the device. */
static void request_test_h29_limits(struct kunit *test)
{
	dma_set_max_seg_size(edu.dev, 700);
	request_test_bytes_move(test);
}

/* The end of a bio is no end of a segment. */
static void request_test_bios_merge(struct kunit *test)
{
	static const struct dma_phys_test_span halves[] = {
		{ 0, 3000 }, { 3000, 3000 },
	};
	struct request *rq = request_test_new(test, request_test_disk,
					      REQ_OP_DRV_OUT);
	u8 *buf = edu_pages(test, 1);
	struct dma_phys_test_list *list;

	request_test_add(test, rq, buf, &halves[0], 1);
	request_test_add(test, rq, buf, &halves[1], 1);
	list = request_test_map(test, rq);
	if (get_dma_ops(edu.dev))
		kunit_skip(test, "legacy ops map each range, and know where");
	KUNIT_EXPECT_EQ(test, list->count, 1);
	KUNIT_EXPECT_EQ(test, list->segments[0].len, 6000);
}

/* Limits of the queue. */

/* 64 KiB and two bytes at each end, in one bio. */
static struct dma_phys_test_list *
request_test_map_limited(struct kunit *test, struct queue_limits limits)
{
	static const struct dma_phys_test_span span = {
		SZ_4K - 2, SZ_64K + 4,
	};
	struct gendisk *disk = request_test_limited_disk(test, limits);
	struct request *rq = request_test_new(test, disk, REQ_OP_DRV_OUT);

	request_test_add(test, rq, edu_pages(test, 5), &span, 1);
	return request_test_map(test, rq);
}

static void request_test_queue_segment_size(struct kunit *test)
{
	struct queue_limits limits = request_test_limits;
	struct dma_phys_test_list *list;

	limits.max_segment_size = SZ_8K;
	list = request_test_map_limited(test, limits);
	KUNIT_EXPECT_GE(test, list->count, 9);
	for (int i = 0; i < list->count; i++)
		KUNIT_EXPECT_LE(test, list->segments[i].len, SZ_8K);
}

static void request_test_queue_boundary(struct kunit *test)
{
	struct queue_limits limits = request_test_limits;
	struct dma_phys_test_list *list;

	limits.seg_boundary_mask = SZ_16K - 1;
	list = request_test_map_limited(test, limits);
	for (int i = 0; i < list->count; i++) {
		struct dma_phys_segment seg = list->segments[i];

		KUNIT_EXPECT_EQ(test, seg.addr / SZ_16K,
				(seg.addr + seg.len - 1) / SZ_16K);
	}
}

/* Like NVMe: only the first segment starts within a page, the last ends in one. */
static void request_test_virt_boundary(struct kunit *test)
{
	struct queue_limits limits = request_test_limits;
	struct dma_phys_test_list *list;
	int last;

	limits.max_segment_size = 0;
	limits.virt_boundary_mask = SZ_4K - 1;
	dma_set_max_seg_size(edu.dev, 10000);
	list = request_test_map_limited(test, limits);
	last = list->count - 1;
	KUNIT_EXPECT_GE(test, last, 7);
	for (int i = 0; i <= last; i++) {
		struct dma_phys_segment seg = list->segments[i];

		if (i > 0)
			KUNIT_EXPECT_EQ(test, seg.addr % SZ_4K, 0);
		if (i < last)
			KUNIT_EXPECT_EQ(test, (seg.addr + seg.len) % SZ_4K, 0);
	}
	dma_phys_sg_unmap(&list->sg);
}

/* A discard has no data but what the driver attached to it. */
static void request_test_special_payload(struct kunit *test)
{
	struct request *rq = request_test_new(test, request_test_disk,
					      REQ_OP_DISCARD);
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct bio *bio = request_test_bio(test, rq);
	struct dma_phys_test_list *list;
	struct dma_phys_map *back;

	/* The length of a discard is that of the discarded blocks. */
	bio->bi_iter.bi_size = SZ_64K;
	rq->bio = bio;
	list = dma_phys_test_list(test, 8);
	KUNIT_EXPECT_EQ(test, request_test_try(list, rq), -EINVAL);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));

	get_random_bytes(out, PAGE_SIZE);
	bvec_set_virt(&rq->special_vec, out + 64, 256);
	rq->rq_flags |= RQF_SPECIAL_PAYLOAD;
	list = request_test_map(test, rq);
	KUNIT_EXPECT_EQ(test, list->sg.dir, DMA_TO_DEVICE);

	edu_pull(test, list->segments[0].addr, 256);
	back = edu_map(test, in, 256, DMA_FROM_DEVICE, 0);
	edu_push(test, back->addr, 256);
	dma_phys_unmap(back);
	KUNIT_EXPECT_MEMEQ(test, in, out + 64, 256);
	dma_phys_sg_unmap(&list->sg);
	rq->rq_flags &= ~RQF_SPECIAL_PAYLOAD;
}

/* Integrity data. */

static void request_test_add_integrity(struct kunit *test, struct request *rq,
				       struct bio *bio, u8 *buf,
				       const struct dma_phys_test_span *spans,
				       size_t count)
{
	struct bio_integrity_payload *bip;

	bip = bio_integrity_alloc(bio, GFP_KERNEL, count);
	KUNIT_ASSERT_FALSE(test, IS_ERR(bip));
	for (size_t i = 0; i < count; i++) {
		u8 *at = buf + spans[i].offset;
		int n = bio_integrity_add_page(bio, virt_to_page(at),
					       spans[i].len,
					       offset_in_page(at));

		KUNIT_ASSERT_EQ(test, n, spans[i].len);
	}
	rq->cmd_flags |= REQ_INTEGRITY;
}

static int request_test_try_integrity(struct dma_phys_test_list *list,
				      struct request *rq)
{
	list->count = blk_rq_integrity_dma_phys_map(edu.dev, rq, 0,
						    list->segments,
						    list->max_segments,
						    &list->sg);
	return list->count;
}

/* A request of two bios with data at @page and integrity data at @buf. */
static struct request *request_test_protected(struct kunit *test,
					      enum req_op op, u8 *buf)
{
	static const struct dma_phys_test_span data = { 0, 512 };
	struct request *rq = request_test_new(test, request_test_disk, op);
	u8 *page = edu_pages(test, 0);
	struct bio *bios[2];

	if (!IS_ENABLED(CONFIG_BLK_DEV_INTEGRITY))
		kunit_skip(test, "built without CONFIG_BLK_DEV_INTEGRITY");
	bios[0] = request_test_add(test, rq, page, &data, 1);
	bios[1] = request_test_add(test, rq, page + 1024, &data, 1);
	request_test_add_integrity(test, rq, bios[0], buf, request_test_first,
				   REQUEST_TEST_FIRST);
	request_test_add_integrity(test, rq, bios[1], buf, request_test_second,
				   REQUEST_TEST_SECOND);
	return rq;
}

static struct dma_phys_test_list *
request_test_map_integrity(struct kunit *test, enum req_op op, u8 *buf)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct request *rq = request_test_protected(test, op, buf);

	KUNIT_ASSERT_GT(test, request_test_try_integrity(list, rq), 0);
	dma_phys_test_list_check(test, list, REQUEST_TEST_SIZE);
	KUNIT_EXPECT_EQ(test, list->sg.dir, rq_dma_dir(rq));
	return list;
}

static void request_test_integrity_bytes_move(struct kunit *test)
{
	u8 *out = edu_pages(test, 3), *in = edu_pages(test, 3);
	u8 *expected = edu_pages(test, 3);
	struct dma_phys_test_list *from, *to;

	get_random_bytes(out, REQUEST_TEST_BYTES);
	request_test_copy_spans(expected, out, request_test_first,
				REQUEST_TEST_FIRST);
	request_test_copy_spans(expected, out, request_test_second,
				REQUEST_TEST_SECOND);
	from = request_test_map_integrity(test, REQ_OP_DRV_OUT, out);
	to = request_test_map_integrity(test, REQ_OP_DRV_IN, in);
	dma_phys_test_list_copy(test, from, to);
	dma_phys_sg_unmap(&to->sg);
	dma_phys_sg_unmap(&from->sg);
	KUNIT_EXPECT_MEMEQ(test, in, expected, REQUEST_TEST_BYTES);
}

/* Data and integrity data of one request are two lists. */
static void request_test_data_and_integrity(struct kunit *test)
{
	struct dma_phys_test_list *data = dma_phys_test_list(test, MAX_SEGMENTS);
	struct dma_phys_test_list *more = dma_phys_test_list(test, MAX_SEGMENTS);
	struct request *rq;

	rq = request_test_protected(test, REQ_OP_DRV_OUT, edu_pages(test, 3));
	KUNIT_ASSERT_GT(test, request_test_try(data, rq), 0);
	KUNIT_ASSERT_GT(test, request_test_try_integrity(more, rq), 0);
	dma_phys_test_list_check(test, data, 1024);
	dma_phys_test_list_check(test, more, REQUEST_TEST_SIZE);
}

/* Requests without data, and invalid arguments. */
static void request_test_bad_arguments(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, 8);
	struct request *rq = request_test_new(test, request_test_disk,
					      REQ_OP_DRV_OUT);
	struct request *flush = request_test_new(test, request_test_disk,
						 REQ_OP_FLUSH);
	struct dma_phys_segment *segments = list->segments;
	struct dma_phys_sg *sg = &list->sg;
	struct blk_dma_phys_iter iter;
	int err;

#define REFUSED(...)							\
	do {								\
		KUNIT_EXPECT_EQ(test, blk_rq_dma_phys_map(__VA_ARGS__),	\
				-EINVAL);				\
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(sg));	\
	} while (0)
	REFUSED(edu.dev, flush, 0, segments, 8, sg);
	REFUSED(edu.dev, rq, 0, segments, 8, sg);
	REFUSED(edu.dev, NULL, 0, segments, 8, sg);
	request_test_add(test, rq, edu_pages(test, 3), request_test_first,
			 REQUEST_TEST_FIRST);
	REFUSED(NULL, rq, 0, segments, 8, sg);
	REFUSED(edu.dev, rq, BIT(5), segments, 8, sg);
	REFUSED(edu.dev, rq, 0, NULL, 8, sg);
	REFUSED(edu.dev, rq, 0, segments, 8, NULL);
#undef REFUSED

	err = blk_rq_dma_phys_map_start(edu.dev, NULL, 0, sg, &iter);
	KUNIT_EXPECT_EQ(test, err, -EINVAL);
	err = blk_rq_dma_phys_map_start(edu.dev, rq, 0, sg, NULL);
	KUNIT_EXPECT_EQ(test, err, -EINVAL);
	KUNIT_EXPECT_EQ(test, request_test_try_integrity(list, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, request_test_try_integrity(list, rq), -EINVAL);
	KUNIT_EXPECT_GT(test, request_test_try(list, rq), 0);
	KUNIT_EXPECT_EQ(test, request_test_try(list, rq), -EINVAL);
}

/* Each capacity that is too small, then each early end of the iterator. */
static void request_test_ends_early(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *buf = edu_pages(test, 3);
	struct blk_dma_phys_iter iter;
	struct request *rq;
	size_t needed, failed = 0;

	rq = request_test_filled(test, REQ_OP_DRV_IN, buf);
	KUNIT_ASSERT_GT(test, request_test_try(list, rq), 0);
	needed = list->count;
	dma_phys_sg_unmap(&list->sg);
	for (size_t max = 1; max < needed; max++) {
		list->max_segments = max;
		if (request_test_try(list, rq) < 0) {
			KUNIT_EXPECT_EQ(test, list->count, -ENOSPC);
			failed++;
		}
		dma_phys_sg_unmap(&list->sg);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	}
	/* Per-range IOVAs may happen to be adjacent. */
	KUNIT_EXPECT_GE(test, 2 * failed, needed - 1);

	for (size_t max = 1; max <= needed; max++) {
		int more = blk_rq_dma_phys_map_start(edu.dev, rq, 0, &list->sg,
						     &iter);

		for (size_t i = 1; more == 1 && i < max; i++)
			more = blk_rq_dma_phys_map_next(&list->sg, &iter);
		KUNIT_EXPECT_GE(test, more, 0);
		dma_phys_sg_unmap_nosync(&list->sg);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	}
}

/* The iterator returns what the array function writes. */
static void request_test_iterator(struct kunit *test)
{
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct request *rq = request_test_filled(test, REQ_OP_DRV_OUT,
						 edu_pages(test, 3));
	struct blk_dma_phys_iter iter;
	int err;

	err = blk_rq_dma_phys_map_start(edu.dev, rq, 0, &list->sg, &iter);
	while (err > 0) {
		list->segments[list->count++] = (struct dma_phys_segment){
			iter.sg.addr, iter.sg.len,
		};
		err = blk_rq_dma_phys_map_next(&list->sg, &iter);
	}
	KUNIT_EXPECT_EQ(test, err, 0);
	dma_phys_test_list_check(test, list, REQUEST_TEST_SIZE);
}

/* One list for one request after the other. */
static void request_test_h19_state_is_new(struct kunit *test)
{
	static const struct dma_phys_test_span page = { 0, PAGE_SIZE };
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	u8 *buf = edu_pages(test, 3);
	struct request *large, *small;

	large = request_test_filled(test, REQ_OP_DRV_OUT, buf);
	small = request_test_new(test, request_test_disk, REQ_OP_DRV_IN);
	request_test_add(test, small, buf, &page, 1);
	for (int i = 0; i < 4; i++) {
		struct request *rq = i & 1 ? small : large;

		memset(list->segments, 0xff,
		       MAX_SEGMENTS * sizeof(*list->segments));
		KUNIT_ASSERT_GT(test, request_test_try(list, rq), 0);
		dma_phys_test_list_check(test, list, i & 1 ? PAGE_SIZE :
							     REQUEST_TEST_SIZE);
		KUNIT_EXPECT_EQ(test, list->sg.dir, rq_dma_dir(rq));
		dma_phys_sg_unmap(&list->sg);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	}
}

/* A driver may hold a spinlock when it starts a request. */
static void request_test_atomic_context(struct kunit *test)
{
	static DEFINE_SPINLOCK(request_test_lock);
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct dma_phys_sg *sg = &list->sg;
	unsigned long flags;
	struct request *rq;

	rq = request_test_filled(test, REQ_OP_DRV_OUT, edu_pages(test, 3));
	spin_lock_irqsave(&request_test_lock, flags);
	if (request_test_try(list, rq) > 0) {
		dma_phys_sg_sync_for_cpu(sg, 0, sg->size);
		dma_phys_sg_sync_for_device(sg, 0, sg->size);
		dma_phys_sg_unmap(sg);
	}
	spin_unlock_irqrestore(&request_test_lock, flags);
	KUNIT_EXPECT_GT(test, list->count, 0);
}

/* Pages of another device's BAR. */

#define REQUEST_TEST_PEER_BYTES	(4 * PAGE_SIZE)

static void request_test_free_peer_pages(void *pages)
{
	pci_free_p2pmem(edu.owner, pages, REQUEST_TEST_PEER_BYTES);
}

/* The pages exist until the driver of the owner is unbound. */
static void request_test_reprobe_owner(void *owner)
{
	if (device_reprobe(owner))
		dev_err(owner, "not bound again\n");
}

static u8 *request_test_peer_pages(struct kunit *test)
{
	u8 *pages;
	int err;

	if (!IS_ENABLED(CONFIG_PCI_P2PDMA))
		kunit_skip(test, "built without CONFIG_PCI_P2PDMA");
	edu_need_owner(test);
	err = pci_p2pdma_add_resource(edu.owner, IVSHMEM_BAR, 0, 0);
	KUNIT_ASSERT_EQ(test, err, 0);
	err = kunit_add_action_or_reset(test, request_test_reprobe_owner,
					&edu.owner->dev);
	KUNIT_ASSERT_EQ(test, err, 0);
	pages = pci_alloc_p2pmem(edu.owner, REQUEST_TEST_PEER_BYTES);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	err = kunit_add_action_or_reset(test, request_test_free_peer_pages,
					pages);
	KUNIT_ASSERT_EQ(test, err, 0);
	return pages;
}

/* The route that the PCI core allows to these pages, or -errno. */
static int request_test_peer_route(u8 *pages)
{
	struct pci_p2pdma_map_state state = {};

	switch (pci_p2pdma_state(&state, edu.dev, virt_to_page(pages))) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		return DMA_PHYS_BUS;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		return edu_mmio_route(page_to_phys(virt_to_page(pages)),
				      REQUEST_TEST_PEER_BYTES);
	default:
		return -EREMOTEIO;
	}
}

static const struct dma_phys_test_span request_test_peer_spans[] = {
	{ PAGE_SIZE + 64, 1000 },
	{ 3 * PAGE_SIZE, PAGE_SIZE },
};

#define REQUEST_TEST_PEER_SPANS	ARRAY_SIZE(request_test_peer_spans)

static void request_test_peer_bytes_move(struct kunit *test)
{
	size_t size = request_test_size(request_test_peer_spans,
					REQUEST_TEST_PEER_SPANS);
	u8 *pages = request_test_peer_pages(test), *in = edu_pages(test, 1);
	u8 *copy = edu_pages(test, 2), *at = in;
	struct dma_phys_test_span all = { 0, size };
	struct dma_phys_test_list *list, *to;
	int route = request_test_peer_route(pages);
	struct request *rq;

	get_random_bytes(copy, REQUEST_TEST_PEER_BYTES);
	memcpy_toio((void __iomem *)pages, copy, REQUEST_TEST_PEER_BYTES);
	rq = request_test_new(test, request_test_disk, REQ_OP_DRV_OUT);
	request_test_add(test, rq, pages, request_test_peer_spans,
			 REQUEST_TEST_PEER_SPANS);
	list = dma_phys_test_list(test, MAX_SEGMENTS);
	request_test_try(list, rq);
	if (route < 0) {
		KUNIT_EXPECT_EQ(test, list->count, route);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
		return;
	}
	dma_phys_test_list_check(test, list, size);
	KUNIT_EXPECT_EQ(test, list->sg.route, route);
	KUNIT_EXPECT_EQ(test, list->sg.kind, DMA_PHYS_MMIO);

	rq = request_test_new(test, request_test_disk, REQ_OP_DRV_IN);
	request_test_add(test, rq, in, &all, 1);
	to = request_test_map(test, rq);
	dma_phys_test_list_copy(test, list, to);
	dma_phys_sg_unmap(&to->sg);
	dma_phys_sg_unmap(&list->sg);
	for (size_t i = 0; i < REQUEST_TEST_PEER_SPANS; i++) {
		KUNIT_EXPECT_MEMEQ(test, at,
				   copy + request_test_peer_spans[i].offset,
				   request_test_peer_spans[i].len);
		at += request_test_peer_spans[i].len;
	}
}

/*
 * The list remembers the kind of its pages: at unmap the request may have memory
 * instead of device memory, or device memory instead of memory.
 */
static void request_test_h27_kind_is_remembered(struct kunit *test)
{
	u8 *pages = request_test_peer_pages(test), *buf = edu_pages(test, 3);
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	int route = request_test_peer_route(pages);
	struct dma_phys_test_list *memory;
	struct request *rq;
	struct bio *bio;
	dma_addr_t addr;

	if (route < 0)
		kunit_skip(test, "no route to the peer on this boot (%d)", route);

	rq = request_test_new(test, request_test_disk, REQ_OP_DRV_OUT);
	bio = request_test_add(test, rq, pages, request_test_peer_spans,
			       REQUEST_TEST_PEER_SPANS);
	KUNIT_ASSERT_GT(test, request_test_try(list, rq), 0);
	addr = list->segments[0].addr;

	for (int i = 0; i < REQUEST_TEST_PEER_SPANS; i++)
		bio->bi_io_vec[i].bv_page = virt_to_page(buf + i * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, list->sg.kind, DMA_PHYS_MMIO);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&list->sg, 0,
						       list->sg.size), 0);
	dma_phys_sg_unmap(&list->sg);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	if (route == DMA_PHYS_IOMMU)
		KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);

	memory = request_test_map(test, rq);
	KUNIT_EXPECT_EQ(test, memory->sg.kind, DMA_PHYS_CPU);
	for (int i = 0; i < REQUEST_TEST_PEER_SPANS; i++)
		bio->bi_io_vec[i].bv_page = virt_to_page(pages);
	KUNIT_EXPECT_EQ(test, dma_phys_sg_sync_for_cpu(&memory->sg, 0,
						       memory->sg.size), 0);
	dma_phys_sg_unmap(&memory->sg);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&memory->sg));
}

/* The pages of a request are all memory, or all of one device. */
static void request_test_mixed_pages_are_refused(struct kunit *test)
{
	u8 *pages = request_test_peer_pages(test), *buf = edu_pages(test, 3);
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	int route = request_test_peer_route(pages);

	for (int peer_first = 0; peer_first < 2; peer_first++) {
		struct request *rq = request_test_new(test, request_test_disk,
						      REQ_OP_DRV_OUT);

		request_test_add(test, rq, peer_first ? pages : buf,
				 request_test_peer_spans, 1);
		request_test_add(test, rq, peer_first ? buf : pages,
				 request_test_peer_spans, 1);
		KUNIT_EXPECT_EQ(test, request_test_try(list, rq),
				peer_first && route < 0 ? route : -EINVAL);
		KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&list->sg));
	}
}

static struct kunit_case request_test_cases[] = {
	KUNIT_CASE(request_test_bytes_move),
	KUNIT_CASE(request_test_all_operations),
	KUNIT_CASE(request_test_h29_limits),
	KUNIT_CASE(request_test_bios_merge),
	KUNIT_CASE(request_test_queue_segment_size),
	KUNIT_CASE(request_test_queue_boundary),
	KUNIT_CASE(request_test_virt_boundary),
	KUNIT_CASE(request_test_special_payload),
	KUNIT_CASE(request_test_integrity_bytes_move),
	KUNIT_CASE(request_test_data_and_integrity),
	KUNIT_CASE(request_test_bad_arguments),
	KUNIT_CASE(request_test_ends_early),
	KUNIT_CASE(request_test_iterator),
	KUNIT_CASE(request_test_h19_state_is_new),
	KUNIT_CASE(request_test_atomic_context),
	KUNIT_CASE(request_test_peer_bytes_move),
	KUNIT_CASE(request_test_h27_kind_is_remembered),
	KUNIT_CASE(request_test_mixed_pages_are_refused),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite request_test_suite = {
	.name = "dma_phys_request",
	.suite_init = request_test_suite_init,
	.suite_exit = request_test_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = request_test_cases,
};

kunit_test_suite(request_test_suite);

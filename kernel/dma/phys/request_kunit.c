// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of vec.c: requests of the block layer, their data and their integrity
 * data, to segments.
 */
#include <linux/bio-integrity.h>
#include <linux/blk-mq.h>
#include <linux/dma-mapping.h>
#include <linux/pci-p2pdma.h>
#include <linux/random.h>
#include <linux/string.h>

#include "vec_kunit.h"

/* A queue whose requests are made and mapped, but never started. */
static struct blk_mq_tag_set tags;
static struct gendisk *disk;

static blk_status_t never(struct blk_mq_hw_ctx *hctx,
			  const struct blk_mq_queue_data *data)
{
	return BLK_STS_IOERR;
}

static const struct blk_mq_ops queue_ops = {
	.queue_rq = never,
};

static int suite_init(struct kunit_suite *suite)
{
	struct queue_limits lim = {
		.dma_alignment = 1,
		.max_segments = 128,
		.max_integrity_segments = 128,
		.max_hw_sectors = SZ_1M >> SECTOR_SHIFT,
	};
	int err;

	tags = (struct blk_mq_tag_set){
		.ops = &queue_ops,
		.nr_hw_queues = 1,
		.queue_depth = 16,
	};
	err = blk_mq_alloc_tag_set(&tags);
	if (err)
		return err;

	disk = blk_mq_alloc_disk(&tags, &lim, NULL);
	if (IS_ERR(disk)) {
		blk_mq_free_tag_set(&tags);
		return PTR_ERR(disk);
	}
	return edu_suite_init(suite);
}

static void suite_exit(struct kunit_suite *suite)
{
	edu_suite_exit(suite);
	put_disk(disk);
	blk_mq_free_tag_set(&tags);
}

static void put_request(void *data)
{
	struct request *rq = data;
	struct bio *bio;

	while ((bio = rq->bio)) {
		rq->bio = bio->bi_next;
		bio_put(bio);
	}
	blk_mq_free_request(rq);
}

/* A request without data, given back after the test. */
static struct request *request(struct kunit *test, enum req_op op)
{
	struct request *rq = blk_mq_alloc_request(disk->queue, op, 0);
	int err;

	KUNIT_ASSERT_FALSE(test, IS_ERR(rq));
	err = kunit_add_action(test, put_request, rq);
	KUNIT_ASSERT_EQ(test, err, 0);
	return rq;
}

static struct bio *new_bio(struct kunit *test, struct request *rq)
{
	struct bio *bio = bio_alloc(disk->part0, 8, req_op(rq), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, bio);
	return bio;
}

/* One more bio, with these pieces of the memory at @buf. */
static struct bio *add(struct kunit *test, struct request *rq, u8 *buf,
		       const struct piece *pieces, size_t count)
{
	struct bio *bio = new_bio(test, rq);
	int err;

	for (size_t i = 0; i < count; i++) {
		u8 *at = buf + pieces[i].offset;
		int n = bio_add_page(bio, virt_to_page(at), pieces[i].len,
				     offset_in_page(at));

		KUNIT_EXPECT_EQ(test, n, pieces[i].len);
	}

	err = blk_rq_append_bio(rq, bio);
	if (err)
		bio_put(bio);
	KUNIT_ASSERT_EQ(test, err, 0);
	return bio;
}

/* The bytes of a request that spread over two bios: no odd address in them. */
static const struct piece first[] = {
	{ 5 * PAGE_SIZE + 100, 1000 },
	{ 0, PAGE_SIZE },
	{ PAGE_SIZE, 512 },
};

static const struct piece second[] = {
	{ 3 * PAGE_SIZE - 2, 4 },
	{ 7 * PAGE_SIZE, PAGE_SIZE },
	{ 4 * PAGE_SIZE, 3 },
};

static size_t size_of(const struct piece *pieces, size_t count)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++)
		size += pieces[i].len;
	return size;
}

#define SIZE	(size_of(first, ARRAY_SIZE(first)) + \
		 size_of(second, ARRAY_SIZE(second)))

static struct request *filled(struct kunit *test, enum req_op op, u8 *buf)
{
	struct request *rq = request(test, op);

	add(test, rq, buf, first, ARRAY_SIZE(first));
	add(test, rq, buf, second, ARRAY_SIZE(second));
	return rq;
}

static struct dma_phys_vec *map(struct kunit *test, struct request *rq)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM);

	KUNIT_ASSERT_EQ(test, dma_phys_vec_map_request(edu.dev, rq, 0, vec), 0);
	KUNIT_EXPECT_EQ(test, vec->dir, rq_dma_dir(rq));
	return vec;
}

static void copy_pieces(u8 *to, const u8 *from, const struct piece *pieces,
			size_t count)
{
	for (size_t i = 0; i < count; i++)
		memcpy(to + pieces[i].offset, from + pieces[i].offset,
		       pieces[i].len);
}

/* What a write's pages hold comes to the pages of a read, and nowhere else. */
static void bytes_move(struct kunit *test)
{
	u8 *out = edu_pages(test, 3), *in = edu_pages(test, 3);
	u8 *expected = edu_pages(test, 3);
	struct dma_phys_vec *from, *to;

	get_random_bytes(out, 8 * PAGE_SIZE);
	memset(in, POISON, 8 * PAGE_SIZE);
	memset(expected, POISON, 8 * PAGE_SIZE);
	copy_pieces(expected, out, first, ARRAY_SIZE(first));
	copy_pieces(expected, out, second, ARRAY_SIZE(second));

	from = map(test, filled(test, REQ_OP_DRV_OUT, out));
	vec_check(test, from, SIZE);
	to = map(test, filled(test, REQ_OP_DRV_IN, in));
	vec_check(test, to, SIZE);

	vec_carry(test, from, to);
	dma_phys_vec_unmap(to);
	dma_phys_vec_unmap(from);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(to));
	KUNIT_EXPECT_MEMEQ(test, in, expected, 8 * PAGE_SIZE);
}

/* h29: the device's limits, not those of the queue, are what segments obey. */
static void h29_limits(struct kunit *test)
{
	unsigned int max = dma_get_max_seg_size(edu.dev);

	dma_set_max_seg_size(edu.dev, 700);
	bytes_move(test);
	dma_set_max_seg_size(edu.dev, max);
}

/* A bio that goes on where the last one ended is no reason for a segment. */
static void merged_across_bios(struct kunit *test)
{
	static const struct piece halves[] = { { 0, 3000 }, { 3000, 3000 } };
	u8 *buf = edu_pages(test, 1);
	struct request *rq = request(test, REQ_OP_DRV_OUT);
	struct dma_phys_vec *vec;

	add(test, rq, buf, &halves[0], 1);
	add(test, rq, buf, &halves[1], 1);
	vec = map(test, rq);
	KUNIT_EXPECT_EQ(test, vec->count, 1);
	KUNIT_EXPECT_EQ(test, vec->segments[0].len, 6000);
}

/* What the driver made of a discard: the ranges, for the device to read. */
static void special_payload(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct request *rq = request(test, REQ_OP_DISCARD);
	struct bio *bio = new_bio(test, rq);
	struct dma_phys_map *back;
	struct dma_phys_vec *vec;

	/* A discard has a length, and no bytes. */
	bio->bi_iter.bi_size = SZ_64K;
	rq->bio = bio;
	vec = vec_empty(test, ROOM);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_map_request(edu.dev, rq, 0, vec),
			-EINVAL);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));

	get_random_bytes(out, PAGE_SIZE);
	bvec_set_virt(&rq->special_vec, out + 64, 256);
	rq->rq_flags |= RQF_SPECIAL_PAYLOAD;
	vec = map(test, rq);
	vec_check(test, vec, 256);
	KUNIT_EXPECT_EQ(test, vec->dir, DMA_TO_DEVICE);

	edu_pull(test, vec->segments[0].addr, 256);
	back = edu_map(test, in, 256, DMA_FROM_DEVICE, 0);
	edu_push(test, back->addr, 256);
	dma_phys_unmap(back);
	KUNIT_EXPECT_MEMEQ(test, in, out + 64, 256);
	dma_phys_vec_unmap(vec);
	rq->rq_flags &= ~RQF_SPECIAL_PAYLOAD;
}

/* A bio's integrity data: the same pieces, of other memory. */
static void protect(struct kunit *test, struct request *rq, struct bio *bio,
		    u8 *buf, const struct piece *pieces, size_t count)
{
	struct bio_integrity_payload *bip;

	bip = bio_integrity_alloc(bio, GFP_KERNEL, count);
	KUNIT_ASSERT_FALSE(test, IS_ERR(bip));
	for (size_t i = 0; i < count; i++) {
		u8 *at = buf + pieces[i].offset;
		int n = bio_integrity_add_page(bio, virt_to_page(at),
					       pieces[i].len,
					       offset_in_page(at));

		KUNIT_ASSERT_EQ(test, n, pieces[i].len);
	}
	rq->cmd_flags |= REQ_INTEGRITY;
}

static struct dma_phys_vec *map_integrity(struct kunit *test, enum req_op op,
					  u8 *buf)
{
	static const struct piece data = { 0, 512 };
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	struct request *rq = request(test, op);
	u8 *page = edu_pages(test, 0);
	struct bio *bios[2];
	int err;

	bios[0] = add(test, rq, page, &data, 1);
	bios[1] = add(test, rq, page + 1024, &data, 1);
	err = dma_phys_vec_map_integrity(edu.dev, rq, 0, vec);
	KUNIT_EXPECT_EQ(test, err, -EINVAL);

	protect(test, rq, bios[0], buf, first, ARRAY_SIZE(first));
	protect(test, rq, bios[1], buf, second, ARRAY_SIZE(second));
	err = dma_phys_vec_map_integrity(edu.dev, rq, 0, vec);
	KUNIT_ASSERT_EQ(test, err, 0);
	vec_check(test, vec, SIZE);
	KUNIT_EXPECT_EQ(test, vec->dir, rq_dma_dir(rq));
	return vec;
}

static void integrity_moves(struct kunit *test)
{
	u8 *out = edu_pages(test, 3), *in = edu_pages(test, 3);
	u8 *expected = edu_pages(test, 3);
	struct dma_phys_vec *from, *to;

	get_random_bytes(out, 8 * PAGE_SIZE);
	copy_pieces(expected, out, first, ARRAY_SIZE(first));
	copy_pieces(expected, out, second, ARRAY_SIZE(second));
	from = map_integrity(test, REQ_OP_DRV_OUT, out);
	to = map_integrity(test, REQ_OP_DRV_IN, in);
	vec_carry(test, from, to);
	dma_phys_vec_unmap(to);
	dma_phys_vec_unmap(from);
	KUNIT_EXPECT_MEMEQ(test, in, expected, 8 * PAGE_SIZE);
}

/* Requests in which nothing can be mapped, and calls without one. */
static void arguments(struct kunit *test)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM), none = {};
	struct request *rq = request(test, REQ_OP_DRV_OUT), *flush;
	u8 *buf = edu_pages(test, 3);

#define REFUSED(err, ...)						\
	do {								\
		KUNIT_EXPECT_EQ(test, dma_phys_vec_map_request(__VA_ARGS__), \
				err);					\
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));		\
	} while (0)
	flush = request(test, REQ_OP_FLUSH);
	REFUSED(-EINVAL, edu.dev, flush, 0, vec);
	REFUSED(-EINVAL, edu.dev, rq, 0, vec);
	REFUSED(-EINVAL, edu.dev, NULL, 0, vec);
	add(test, rq, buf, first, ARRAY_SIZE(first));
	REFUSED(-EINVAL, NULL, rq, 0, vec);
	REFUSED(-EINVAL, edu.dev, rq, BIT(5), vec);
	REFUSED(-EINVAL, edu.dev, rq, 0, NULL);
	REFUSED(-EINVAL, edu.dev, rq, 0, &none);
#undef REFUSED
	KUNIT_EXPECT_EQ(test, dma_phys_vec_map_integrity(edu.dev, NULL, 0, vec),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_map_integrity(edu.dev, rq, 0, vec),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_map_request(edu.dev, rq, 0, vec), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_map_request(edu.dev, rq, 0, vec),
			-EINVAL);
}

/* Storage for k records: every place where mapping can stop is tried. */
static void failure_undoes_all(struct kunit *test)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	u8 *buf = edu_pages(test, 3);
	struct request *rq = filled(test, REQ_OP_DRV_IN, buf);
	size_t need, failed = 0;
	int err;

	err = dma_phys_vec_map_request(edu.dev, rq, 0, vec);
	KUNIT_ASSERT_EQ(test, err, 0);
	need = vec->count + vec->pieces;
	dma_phys_vec_unmap(vec);
	for (vec->room = 1; vec->room < need; vec->room++) {
		err = dma_phys_vec_map_request(edu.dev, rq, 0, vec);
		if (err) {
			KUNIT_EXPECT_EQ(test, err, -ENOSPC);
			failed++;
		}
		dma_phys_vec_unmap(vec);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	}
	/* Where ranges have IOVAs of their own, these may happen to meet. */
	KUNIT_EXPECT_GE(test, 2 * failed, need - 1);
	vec->room = ROOM;
}

/* h19: one vec for one request after the other, whatever it held before. */
static void h19_state_is_new(struct kunit *test)
{
	static const struct piece page = { 0, PAGE_SIZE };
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	u8 *buf = edu_pages(test, 3);
	struct request *large, *small;

	large = filled(test, REQ_OP_DRV_OUT, buf);
	small = request(test, REQ_OP_DRV_IN);
	add(test, small, buf, &page, 1);
	for (int i = 0; i < 4; i++) {
		struct request *rq = i & 1 ? small : large;
		int err;

		memset(vec->segments, 0xff, ROOM * sizeof(*vec->segments));
		err = dma_phys_vec_map_request(edu.dev, rq, 0, vec);
		KUNIT_ASSERT_EQ(test, err, 0);
		vec_check(test, vec, i & 1 ? PAGE_SIZE : SIZE);
		KUNIT_EXPECT_EQ(test, vec->dir, rq_dma_dir(rq));
		dma_phys_vec_unmap(vec);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	}
}

/* Where a driver is told to start a request, it may hold a lock. */
static void atomic_context(struct kunit *test)
{
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	struct request *rq = filled(test, REQ_OP_DRV_OUT, edu_pages(test, 3));
	static DEFINE_SPINLOCK(lock);
	unsigned long flags;
	int err;

	spin_lock_irqsave(&lock, flags);
	err = dma_phys_vec_map_request(edu.dev, rq, DMA_PHYS_MANUAL_SYNC, vec);
	if (!err) {
		dma_phys_vec_sync_for_device(vec, 0, vec->size);
		dma_phys_vec_sync_for_cpu(vec, 0, vec->size);
		dma_phys_vec_unmap(vec);
	}
	spin_unlock_irqrestore(&lock, flags);
	KUNIT_EXPECT_EQ(test, err, 0);
}

/* Pages of the lender's BAR, as the PCI core lends them. */

#define PEER_BYTES	(4 * PAGE_SIZE)

static void free_peer_pages(void *pages)
{
	pci_free_p2pmem(edu.lender, pages, PEER_BYTES);
}

/* The pages live as long as the lender's driver is bound. */
static void end_peer_pages(void *lender)
{
	if (device_reprobe(lender))
		dev_err(lender, "not bound again\n");
}

static u8 *peer_pages(struct kunit *test)
{
	u8 *pages;
	int err;

	edu_need_lender(test);
	err = pci_p2pdma_add_resource(edu.lender, EDU_LENDER_BAR, 0, 0);
	KUNIT_ASSERT_EQ(test, err, 0);
	err = kunit_add_action_or_reset(test, end_peer_pages, &edu.lender->dev);
	KUNIT_ASSERT_EQ(test, err, 0);
	pages = pci_alloc_p2pmem(edu.lender, PEER_BYTES);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	err = kunit_add_action_or_reset(test, free_peer_pages, pages);
	KUNIT_ASSERT_EQ(test, err, 0);
	return pages;
}

/* The route to the lender's pages that the PCI core leaves, or -errno. */
static int peer_route(u8 *pages)
{
	struct pci_p2pdma_map_state state = {};

	switch (pci_p2pdma_state(&state, edu.dev, virt_to_page(pages))) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		return DMA_PHYS_BUS;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		return edu_mmio_route(page_to_phys(virt_to_page(pages)),
				      PEER_BYTES);
	default:
		return -EREMOTEIO;
	}
}

static const struct piece peer_pieces[] = {
	{ PAGE_SIZE + 64, 1000 },
	{ 3 * PAGE_SIZE, PAGE_SIZE },
};

static void peer_bytes_move(struct kunit *test)
{
	size_t size = size_of(peer_pieces, ARRAY_SIZE(peer_pieces));
	u8 *peer = peer_pages(test), *in = edu_pages(test, 1);
	struct dma_phys_vec *vec = vec_empty(test, ROOM), *to;
	u8 *copy = edu_pages(test, 2), *at = in;
	struct piece all = { 0, size };
	int route = peer_route(peer), err;
	struct request *rq;

	get_random_bytes(copy, PEER_BYTES);
	memcpy_toio((void __iomem *)peer, copy, PEER_BYTES);
	rq = request(test, REQ_OP_DRV_OUT);
	add(test, rq, peer, peer_pieces, ARRAY_SIZE(peer_pieces));
	err = dma_phys_vec_map_request(edu.dev, rq, 0, vec);
	if (route < 0) {
		KUNIT_EXPECT_EQ(test, err, route);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
		return;
	}
	KUNIT_ASSERT_EQ(test, err, 0);
	KUNIT_EXPECT_EQ(test, vec->route, route);
	KUNIT_EXPECT_EQ(test, vec->kind, DMA_PHYS_MMIO);
	vec_check(test, vec, size);

	rq = request(test, REQ_OP_DRV_IN);
	add(test, rq, in, &all, 1);
	to = map(test, rq);
	vec_carry(test, vec, to);
	dma_phys_vec_unmap(to);
	dma_phys_vec_unmap(vec);
	for (size_t i = 0; i < ARRAY_SIZE(peer_pieces); i++) {
		KUNIT_EXPECT_MEMEQ(test, at, copy + peer_pieces[i].offset,
				   peer_pieces[i].len);
		at += peer_pieces[i].len;
	}
}

/*
 * h27: what the pages were is in the vec. The request has other pages when it
 * is unmapped, and the peer's are gone.
 */
static void h27_kind_is_kept(struct kunit *test)
{
	u8 *peer = peer_pages(test), *buf = edu_pages(test, 3);
	struct dma_phys_vec *vec = vec_empty(test, ROOM), *old;
	int route = peer_route(peer), err;
	struct request *rq;
	struct bio *bio;
	dma_addr_t addr;

	if (route < 0)
		kunit_skip(test, "no route to the peer on this boot (%d)", route);

	rq = request(test, REQ_OP_DRV_OUT);
	bio = add(test, rq, peer, peer_pieces, ARRAY_SIZE(peer_pieces));
	err = dma_phys_vec_map_request(edu.dev, rq, 0, vec);
	KUNIT_ASSERT_EQ(test, err, 0);
	addr = vec->segments[0].addr;

	/* Memory where the peer's pages were, and the other way round. */
	for (int i = 0; i < ARRAY_SIZE(peer_pieces); i++)
		bio->bi_io_vec[i].bv_page = virt_to_page(buf);
	KUNIT_EXPECT_EQ(test, vec->kind, DMA_PHYS_MMIO);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_cpu(vec, 0, vec->size), 0);
	dma_phys_vec_unmap(vec);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	if (route == DMA_PHYS_IOMMU)
		KUNIT_EXPECT_EQ(test, edu_translate(addr), 0);

	old = map(test, rq);
	KUNIT_EXPECT_EQ(test, old->kind, DMA_PHYS_CPU);
	for (int i = 0; i < ARRAY_SIZE(peer_pieces); i++)
		bio->bi_io_vec[i].bv_page = virt_to_page(peer);
	KUNIT_EXPECT_EQ(test, dma_phys_vec_sync_for_cpu(old, 0, old->size), 0);
	dma_phys_vec_unmap(old);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(old));
}

/* Half of it in memory, half in a peer: no one route. */
static void memory_and_peer_are_refused(struct kunit *test)
{
	u8 *peer = peer_pages(test), *buf = edu_pages(test, 3);
	struct dma_phys_vec *vec = vec_empty(test, ROOM);
	struct request *rq;

	for (int i = 0; i < 2; i++) {
		rq = request(test, REQ_OP_DRV_OUT);
		add(test, rq, i ? peer : buf, peer_pieces, 1);
		add(test, rq, i ? buf : peer, peer_pieces, 1);
		KUNIT_EXPECT_EQ(test,
				dma_phys_vec_map_request(edu.dev, rq, 0, vec),
				-EINVAL);
		KUNIT_EXPECT_TRUE(test, vec_is_empty(vec));
	}
}

static struct kunit_case request_cases[] = {
	KUNIT_CASE(bytes_move),
	KUNIT_CASE(h29_limits),
	KUNIT_CASE(merged_across_bios),
	KUNIT_CASE(special_payload),
	KUNIT_CASE(integrity_moves),
	KUNIT_CASE(arguments),
	KUNIT_CASE(failure_undoes_all),
	KUNIT_CASE(h19_state_is_new),
	KUNIT_CASE(atomic_context),
	KUNIT_CASE(peer_bytes_move),
	KUNIT_CASE(h27_kind_is_kept),
	KUNIT_CASE(memory_and_peer_are_refused),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite request_suite = {
	.name = "dma_phys_request",
	.suite_init = suite_init,
	.suite_exit = suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = request_cases,
};

kunit_test_suite(request_suite);

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A queue for tests, whose requests are allocated and mapped, but never started.
 */
#ifndef _KERNEL_DMA_PHYS_TESTS_REQUEST_H
#define _KERNEL_DMA_PHYS_TESTS_REQUEST_H

#include <linux/bio.h>
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/err.h>

static inline blk_status_t
dma_phys_test_queue_rq(struct blk_mq_hw_ctx *hctx,
		       const struct blk_mq_queue_data *data)
{
	return BLK_STS_IOERR;
}

static const struct blk_mq_ops dma_phys_test_queue_ops = {
	.queue_rq = dma_phys_test_queue_rq,
};

/* The disk of a queue for @depth requests, or an errno as a pointer. */
static inline struct gendisk *
dma_phys_test_disk_alloc(struct blk_mq_tag_set *tags, unsigned int depth,
			 struct queue_limits limits)
{
	struct gendisk *disk;
	int err;

	*tags = (struct blk_mq_tag_set){
		.ops = &dma_phys_test_queue_ops,
		.nr_hw_queues = 1,
		.queue_depth = depth,
	};
	err = blk_mq_alloc_tag_set(tags);
	if (err)
		return ERR_PTR(err);
	disk = blk_mq_alloc_disk(tags, &limits, NULL);
	if (IS_ERR(disk))
		blk_mq_free_tag_set(tags);
	return disk;
}

static inline void dma_phys_test_disk_free(struct gendisk *disk,
					   struct blk_mq_tag_set *tags)
{
	put_disk(disk);
	blk_mq_free_tag_set(tags);
}

/* Free a request and its bios. */
static inline void dma_phys_test_request_free(struct request *rq)
{
	struct bio *bio;

	while ((bio = rq->bio)) {
		rq->bio = bio->bi_next;
		bio_put(bio);
	}
	blk_mq_free_request(rq);
}

#endif /* _KERNEL_DMA_PHYS_TESTS_REQUEST_H */

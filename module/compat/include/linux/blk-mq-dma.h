/* SPDX-License-Identifier: GPL-2.0 */
/* For kernels that have no such header: what blk-mq-dma-phys.h needs of it. */
#ifndef BLK_MQ_DMA_H
#define BLK_MQ_DMA_H

#include <linux/blk-mq.h>

struct blk_map_iter {
	struct bvec_iter iter;
	struct bio *bio;
	struct bio_vec *bvecs;
	bool is_integrity;
};

#endif /* BLK_MQ_DMA_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Typed mapping of the data of block requests.
 *
 *	err = blk_rq_dma_phys_map_start(dev, rq, 0, &sg, &iter);
 *	while (err > 0) {
 *		...			one segment at iter.sg.addr, iter.sg.len
 *		err = blk_rq_dma_phys_map_next(&sg, &iter);
 *	}
 *	...				at completion: dma_phys_sg_unmap(&sg)
 */
#ifndef _LINUX_BLK_MQ_DMA_PHYS_H
#define _LINUX_BLK_MQ_DMA_PHYS_H

#include <linux/blk-mq-dma.h>
#include <linux/dma-phys.h>

/**
 * struct blk_dma_phys_iter - iterator over the segments of a request
 * @sg: the segment: @sg.addr, @sg.len
 * @source: for the core, as all that follows
 * @iter: position in the bios of the request
 * @pgmap: whose pages they are, if they are another device's memory
 * @path: how the device reaches them then
 *
 * Needed while mapping only.
 */
struct blk_dma_phys_iter {
	struct dma_phys_sg_iter sg;
	struct dma_phys_source source;
	struct blk_map_iter iter;
	struct dev_pagemap *pgmap;
	struct dma_phys_p2p_path path;
};

int blk_rq_dma_phys_map_start(struct device *dev, struct request *rq, u32 flags,
			      struct dma_phys_sg *sg,
			      struct blk_dma_phys_iter *iter);
int blk_rq_integrity_dma_phys_map_start(struct device *dev, struct request *rq,
					u32 flags, struct dma_phys_sg *sg,
					struct blk_dma_phys_iter *iter);
int blk_rq_dma_phys_map_next(struct dma_phys_sg *sg,
			     struct blk_dma_phys_iter *iter);
int blk_rq_dma_phys_map(struct device *dev, struct request *rq, u32 flags,
			struct dma_phys_segment *segments, size_t max_segments,
			struct dma_phys_sg *sg);
int blk_rq_integrity_dma_phys_map(struct device *dev, struct request *rq,
				  u32 flags, struct dma_phys_segment *segments,
				  size_t max_segments, struct dma_phys_sg *sg);

#endif /* _LINUX_BLK_MQ_DMA_PHYS_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One range mapped and unmapped through the raw or the typed API, and what the
 * kernel did for it. See equivalence_kunit.c.
 */
#ifndef _KERNEL_DMA_PHYS_TESTS_EQUIVALENCE_H
#define _KERNEL_DMA_PHYS_TESTS_EQUIVALENCE_H

#include <linux/dma-direction.h>
#include <linux/dma-phys.h>
#include <linux/types.h>

/**
 * struct dma_phys_test_point - a range to map
 * @phys: physical address of the first byte
 * @len: length in bytes
 * @dir: direction
 * @kind: memory or device memory
 */
struct dma_phys_test_point {
	phys_addr_t phys;
	size_t len;
	enum dma_data_direction dir;
	enum dma_phys_kind kind;
};

/**
 * struct dma_phys_test_cost - what the kernel did for a map or an unmap
 * @iova: bytes of IOVA space mapped or unmapped
 * @flushes: calls for cache maintenance
 * @flushed: bytes of these calls
 */
struct dma_phys_test_cost {
	size_t iova;
	unsigned int flushes;
	size_t flushed;
};

/**
 * struct dma_phys_test_outcome - what came of mapping and unmapping a point
 * @err: 0 if it was mapped; of the raw API -EIO for any failure
 * @route: enum dma_phys_route, of the typed API
 * @addr: DMA address
 * @target: what an IOMMU translated @addr to
 * @bounced: a bounce buffer was used
 * @slots: slots that were in use while it was mapped and not before
 * @leaked: slots that were in use after unmap and not before
 * @map: for map
 * @unmap: for unmap
 * @lines: lines logged by map and unmap
 * @text: the first of them
 */
struct dma_phys_test_outcome {
	int err;
	u8 route;
	dma_addr_t addr;
	phys_addr_t target;
	bool bounced;
	long slots;
	long leaked;
	struct dma_phys_test_cost map;
	struct dma_phys_test_cost unmap;
	unsigned int lines;
	char text[80];
};

/* Hooks for IOVAs and cache maintenance; without them the counts are 0. */
void dma_phys_test_count_init(void);
void dma_phys_test_count_exit(void);
/* Names of what is not counted, for the log. */
const char *dma_phys_test_not_counted(void);

void dma_phys_test_try_raw(const struct dma_phys_test_point *point,
			   struct dma_phys_test_outcome *outcome);
void dma_phys_test_try_typed(const struct dma_phys_test_point *point,
			     struct dma_phys_test_outcome *outcome);

#endif /* _KERNEL_DMA_PHYS_TESTS_EQUIVALENCE_H */

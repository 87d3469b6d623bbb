/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers for tests of lists of ranges and of block requests. */
#ifndef _KERNEL_DMA_PHYS_TESTS_SG_KUNIT_H
#define _KERNEL_DMA_PHYS_TESTS_SG_KUNIT_H

#include "edu_kunit.h"

/* Capacity of the segment arrays. */
#define MAX_SEGMENTS	512

/**
 * struct dma_phys_test_span - bytes of a buffer that a test maps
 * @offset: from the start of the buffer
 * @len: length in bytes
 */
struct dma_phys_test_span {
	size_t offset;
	size_t len;
};

/**
 * struct dma_phys_test_list - a list, and its segments
 * @sg: the list
 * @segments: array for the segments
 * @max_segments: capacity of @segments
 * @count: segments in use, what the last map returned
 */
struct dma_phys_test_list {
	struct dma_phys_sg sg;
	struct dma_phys_segment *segments;
	size_t max_segments;
	int count;
};

/* Not in order and not aligned, in a buffer of 8 pages. */
#define SCATTERED	6
extern const struct dma_phys_test_span dma_phys_test_scattered[SCATTERED];

/* Ranges of the buffer at @buf. Returns the length of all. */
size_t dma_phys_test_ranges(struct kunit *test, u8 *buf,
			    const struct dma_phys_test_span *spans,
			    size_t count, struct cpu_phys *ranges);

/* An empty list, unmapped and freed after the test. */
struct dma_phys_test_list *dma_phys_test_list(struct kunit *test,
					      size_t max_segments);

/* dma_phys_sg_map_cpu() for the edu device: the count of segments or -errno. */
int dma_phys_test_list_map(struct dma_phys_test_list *list,
			   const struct cpu_phys *ranges, size_t count,
			   enum dma_data_direction dir, u32 flags);

/* Nothing is left in the list but its pool. */
bool dma_phys_test_sg_is_empty(const struct dma_phys_sg *sg);

/* The segments have @size bytes in all and obey the limits of the device. */
void dma_phys_test_list_check(struct kunit *test,
			      const struct dma_phys_test_list *list,
			      size_t size);

/* DMA address of byte @offset; @rest: bytes that follow in its segment. */
dma_addr_t dma_phys_test_list_addr(const struct dma_phys_test_list *list,
				   size_t offset, size_t *rest);

/* The device copies all bytes of @from to @to. */
void dma_phys_test_list_copy(struct kunit *test,
			     const struct dma_phys_test_list *from,
			     const struct dma_phys_test_list *to);

#endif /* _KERNEL_DMA_PHYS_TESTS_SG_KUNIT_H */

/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of vecs, and of block requests mapped to vecs, share. */
#ifndef _KERNEL_DMA_PHYS_VEC_KUNIT_H
#define _KERNEL_DMA_PHYS_VEC_KUNIT_H

#include "edu_kunit.h"

/* Segments of the storage that tests have. */
#define ROOM	512

/* In memory that nobody has written yet. */
#define POISON	0x5a

/* Bytes of a buffer that a test maps. */
struct piece {
	size_t offset;
	size_t len;
};

/* In no order, in a buffer of 8 pages. */
#define SCATTERED	6
extern const struct piece scattered[SCATTERED];

/* A vec that maps nothing, unmapped after the test. */
struct dma_phys_vec *vec_empty(struct kunit *test, size_t room);

/* Nothing is left in it but its storage. */
bool vec_is_empty(const struct dma_phys_vec *vec);

/* The segments are as long as the ranges, and obey the device. */
void vec_check(struct kunit *test, const struct dma_phys_vec *vec, size_t size);

/* The device moves the bytes, segment by segment. */
void vec_carry(struct kunit *test, const struct dma_phys_vec *from,
	       const struct dma_phys_vec *to);

#endif /* _KERNEL_DMA_PHYS_VEC_KUNIT_H */

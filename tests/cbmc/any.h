/* SPDX-License-Identifier: GPL-2.0 */
/* Nondeterministic arguments for the proofs. */
#ifndef _TESTS_CBMC_ANY_H
#define _TESTS_CBMC_ANY_H

#include "segment.h"

#define assume(what)	__CPROVER_assume(what)
#define prove(what)	__CPROVER_assert(what, #what)

u64 nondet_u64(void);
u8 nondet_u8(void);

/* All ones at the low end, as boundary and alignment masks are. */
static inline bool is_mask(u64 mask)
{
	return mask == (u64)-1 || !(mask & (mask + 1));
}

static inline struct dma_phys_limits any_limits(void)
{
	struct dma_phys_limits limits = { nondet_u64(), nondet_u64(), nondet_u64() };

	assume(limits.max && is_mask(limits.boundary) && is_mask(limits.align));
	return limits;
}

/* So small that a handful of bytes is split in every possible way. */
static inline struct dma_phys_limits any_small_limits(void)
{
	u8 max = nondet_u8(), boundary = nondet_u8(), align = nondet_u8();
	struct dma_phys_limits limits;

	assume(max >= 1 && max <= 5);
	assume(boundary == 1 || boundary == 3 || boundary == 7);
	assume(align == 0 || align == 1 || align == 3);
	limits.max = max;
	limits.boundary = boundary == 7 ? (u64)-1 : boundary;
	limits.align = align;
	return limits;
}

#endif /* _TESTS_CBMC_ANY_H */

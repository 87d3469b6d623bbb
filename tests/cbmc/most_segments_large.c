// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers that have no sum: the count is never less than what it is made of,
 * and nothing wraps around, whatever is asked.
 */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	u64 pieces = nondet_u64(), size = nondet_u64(), most;

	most = dma_phys_most_segments(&limits, pieces, size);
	prove(most >= pieces);
	prove(pieces <= (u64)-1 / 2 ? most >= 2 * pieces : most == (u64)-1);
	prove(dma_phys_sum(pieces, size) >= size);
}

// SPDX-License-Identifier: GPL-2.0
/* Saturated sums: the count is never less than its parts, and nothing wraps. */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	u64 ranges = nondet_u64(), size = nondet_u64(), most;

	most = dma_phys_most_segments(&limits, ranges, size);
	prove(most >= ranges);
	prove(ranges <= (u64)-1 / 2 ? most >= 2 * ranges : most == (u64)-1);
	prove(dma_phys_sum(ranges, size) >= size);
}

// SPDX-License-Identifier: GPL-2.0
/* Saturated sums: the count is never less than its parts, and nothing wraps. */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	u64 ranges = nondet_u64(), size = nondet_u64(), max;

	max = dma_phys_max_segments(&limits, ranges, size);
	prove(max >= ranges);
	prove(ranges <= (u64)-1 / 2 ? max >= 2 * ranges : max == (u64)-1);
	prove(dma_phys_sum(ranges, size) >= size);
}

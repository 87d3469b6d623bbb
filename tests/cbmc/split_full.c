// SPDX-License-Identifier: GPL-2.0
/*
 * A segment that is not the last of its range is full, ends at a boundary, or
 * ends aligned and short of full by less than the alignment. The maximum number
 * of segments relies on this.
 */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	u64 addr = nondet_u64(), len = nondet_u64(), n;

	assume(dma_phys_range_ok(addr, len));
	n = dma_phys_split(&limits, addr, len);
	if (n < len && ((addr + n) & limits.boundary)) {
		prove(n <= limits.max);
		prove(limits.align < limits.max ?
		      n >= limits.max - limits.align : n == limits.max);
	}
}

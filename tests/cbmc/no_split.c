// SPDX-License-Identifier: GPL-2.0
/* A range that need not be split is not split, whatever the limits are. */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	u64 addr = nondet_u64(), len = nondet_u64();

	assume(dma_phys_range_ok(addr, len));
	if ((addr ^ (addr + (len - 1))) <= dma_phys_no_split(&limits))
		prove(dma_phys_split(&limits, addr, len) == len);
}

// SPDX-License-Identifier: GPL-2.0
/* A split makes progress, and its segment obeys the limits. */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	u64 addr = nondet_u64(), len = nondet_u64(), n;

	assume(dma_phys_range_ok(addr, len));
	n = dma_phys_split(&limits, addr, len);
	prove(n >= 1);
	prove(n <= len);
	prove(n <= limits.max);
	prove((addr & ~limits.boundary) ==
	      ((addr + (n - 1)) & ~limits.boundary));
}

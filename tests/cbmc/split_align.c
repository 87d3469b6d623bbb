// SPDX-License-Identifier: GPL-2.0
/*
 * If a range can be split at an aligned address, it is split at one, and at the
 * last one that the limits allow.
 */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	u64 addr = nondet_u64(), len = nondet_u64(), other = nondet_u64(), n;

	assume(dma_phys_range_ok(addr, len) && limits.align < limits.max);
	n = dma_phys_split(&limits, addr, len);
	if (n < len) {
		/* Any other split that obeys the limits. */
		assume(other && other < len && other <= limits.max);
		assume((addr & ~limits.boundary) ==
		       ((addr + (other - 1)) & ~limits.boundary));
		assume(!((addr + other) & limits.align));
		prove(!((addr + n) & limits.align));
		prove(n >= other);
	}
}

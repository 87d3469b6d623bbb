// SPDX-License-Identifier: GPL-2.0
/*
 * Where there is an aligned place at which the range could be cut, it is cut at
 * one, and at no other place before the last such one.
 */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	u64 addr = nondet_u64(), len = nondet_u64(), other = nondet_u64(), n;

	assume(dma_phys_range_ok(addr, len) && limits.align < limits.max);
	n = dma_phys_cut(&limits, addr, len);
	if (n < len) {
		/* Any other cut that would obey the device. */
		assume(other && other < len && other <= limits.max);
		assume((addr & ~limits.boundary) ==
		       ((addr + (other - 1)) & ~limits.boundary));
		assume(!((addr + other) & limits.align));
		prove(!((addr + n) & limits.align));
		prove(n >= other);
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * A segment that obeys combined limits obeys both of them. What is 0 in the second
 * is no limit.
 */
#include "any.h"

int main(void)
{
	struct dma_phys_limits a = any_limits(), b = any_limits(), both;
	u64 addr = nondet_u64(), len = nondet_u64(), n;

	if (nondet_u8())
		b.max = 0;
	both = dma_phys_both_limits(&a, &b);
	assume(dma_phys_range_ok(addr, len));
	n = dma_phys_split(&both, addr, len);
	prove(n <= a.max && (!b.max || n <= b.max));
	prove((addr & ~a.boundary) == ((addr + (n - 1)) & ~a.boundary));
	prove(!b.boundary ||
	      (addr & ~b.boundary) == ((addr + (n - 1)) & ~b.boundary));
	prove(both.align == (a.align > b.align ? a.align : b.align));
}

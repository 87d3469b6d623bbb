// SPDX-License-Identifier: GPL-2.0
/*
 * A range shares no cache line if and only if no byte outside of it lies in a
 * line with a byte of it.
 */
#include "any.h"

int main(void)
{
	u64 addr = nondet_u64(), len = nondet_u64(), line = nondet_u64();
	u64 inside = nondet_u64(), beside = nondet_u64();

	assume(line && is_mask(line - 1) && dma_phys_range_ok(addr, len));
	assume(inside >= addr && inside - addr < len);
	assume(beside < addr || beside - addr >= len);
	if (!dma_phys_shares_line(addr, len, line)) {
		prove((inside & ~(line - 1)) != (beside & ~(line - 1)));
	} else {
		/* The byte before the first, or the one after the last. */
		u64 first = addr & (line - 1) ? addr : addr + (len - 1);
		u64 other = addr & (line - 1) ? addr - 1 : addr + len;

		prove((first & ~(line - 1)) == (other & ~(line - 1)));
	}
}

// SPDX-License-Identifier: GPL-2.0
/* Split repeatedly, a range is covered: each byte is in exactly one segment. */
#include "any.h"

#define MOST 6

int main(void)
{
	struct dma_phys_limits limits = any_small_limits();
	u64 addr = nondet_u8(), len = nondet_u8(), at, left;
	u64 byte = nondet_u8();
	unsigned int found = 0;

	assume(len <= MOST && dma_phys_range_ok(addr, len));
	for (at = addr, left = len; left;) {
		u64 n = dma_phys_split(&limits, at, left);

		prove(n && n <= left);
		if (byte >= at && byte - at < n)
			found++;
		left -= n;
		/* The last may end at the end of all addresses. */
		if (left)
			at += n;
	}
	prove(found == (byte >= addr && byte - addr < len));
}

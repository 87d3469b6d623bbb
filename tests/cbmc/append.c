// SPDX-License-Identifier: GPL-2.0
/*
 * Segments cover their ranges in order, each byte once, and each obeys the
 * limits. Nothing beyond the storage is accessed (checked by --bounds-check).
 */
#include "any.h"

#define RANGES	2
#define MOST	4
#define MAX	6

int main(void)
{
	struct dma_phys_limits limits = any_small_limits();
	struct dma_phys_segment segments[MAX];
	u64 total = 0, done = 0, byte = nondet_u8(), expected = 0;
	size_t count = 0, max = nondet_u8();
	bool fits = true;

	assume(max <= MAX);
	for (int i = 0; i < RANGES && fits; i++) {
		u64 addr = nondet_u8(), len = nondet_u8();

		assume(len <= MOST);
		if (byte >= total && byte - total < len)
			expected = addr + (byte - total);
		total += len;
		fits = dma_phys_append(segments, &count, max, &limits, addr,
				       len);
		prove(count <= max);
		prove(fits || count == max);
	}
	assume(byte < total);

	for (size_t i = 0; i < count; i++) {
		u64 addr = segments[i].addr, len = segments[i].len;

		prove(len && len <= limits.max);
		prove((addr & ~limits.boundary) ==
		      ((addr + (len - 1)) & ~limits.boundary));
		if (byte >= done && byte - done < len)
			prove(addr + (byte - done) == expected);
		done += len;
	}
	prove(!fits || done == total);
}

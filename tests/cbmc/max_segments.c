// SPDX-License-Identifier: GPL-2.0
/* The maximum number of segments is always enough. */
#include "any.h"

#define RANGES	2
#define MOST	4

int main(void)
{
	struct dma_phys_limits limits = any_small_limits();
	struct dma_phys_segment segments[RANGES * MOST];
	u8 total = 0, ranges = nondet_u8();
	size_t count = 0;

	assume(ranges <= RANGES);
	for (u8 i = 0; i < ranges; i++) {
		u8 addr = nondet_u8(), len = nondet_u8();

		assume(len && len <= MOST);
		total += len;
		prove(dma_phys_append(segments, &count, RANGES * MOST, &limits,
				      addr, len));
	}
	prove(count <= dma_phys_max_segments(&limits, ranges, total));
}

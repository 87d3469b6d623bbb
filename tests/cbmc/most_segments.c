// SPDX-License-Identifier: GPL-2.0
/* As many segments as are said to be enough are enough. */
#include "any.h"

#define PIECES	2
#define MOST	4

int main(void)
{
	struct dma_phys_limits limits = any_small_limits();
	struct dma_phys_segment segments[PIECES * MOST];
	u8 total = 0, pieces = nondet_u8();
	size_t count = 0;

	assume(pieces <= PIECES);
	for (u8 i = 0; i < pieces; i++) {
		u8 addr = nondet_u8(), len = nondet_u8();

		assume(len && len <= MOST);
		total += len;
		prove(dma_phys_append(segments, &count, PIECES * MOST, &limits,
				      addr, len));
	}
	prove(count <= dma_phys_most_segments(&limits, pieces, total));
}

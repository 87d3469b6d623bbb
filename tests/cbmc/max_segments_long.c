// SPDX-License-Identifier: GPL-2.0
/* The same for one long range of which no segment can be full. */
#include "any.h"

#define MOST	16

int main(void)
{
	const struct dma_phys_limits limits = { 3, (u64)-1, 1 };
	u64 at = nondet_u8(), len = nondet_u8(), left;
	u64 count = 0;

	assume(len <= MOST);
	for (left = len; left; count++) {
		u64 n = dma_phys_split(&limits, at, left);

		at += n;
		left -= n;
	}
	prove(count <= dma_phys_max_segments(&limits, 1, len));
}

// SPDX-License-Identifier: GPL-2.0
/* A range of any size: it is good, or it is refused; and no sum wraps around. */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	struct dma_phys_segment segment = {};
	struct dma_phys_tiles tiles = {
		.segments = &segment,
		.at = &segment,
		.stop = &segment + 1,
		.limits = &limits,
		.easy = (u64)-1,
		.end = nondet_u64(),
		.size = nondet_u64(),
		.next = (u64)-1,
	};
	u64 addr = nondet_u64(), len = nondet_u64(), size = tiles.size;
	bool good = dma_phys_range_ok(addr, len) &&
		    addr + (len - 1) < tiles.end && size <= (u64)-1 - len;

	prove(dma_phys_tile(&tiles, addr, len) == good);
	if (good)
		prove(tiles.size == size + len && tiles.next > addr &&
		      tiles.next - addr == len && segment.addr == addr &&
		      segment.len == len && tiles.at == tiles.stop);
}

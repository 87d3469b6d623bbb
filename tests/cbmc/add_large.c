// SPDX-License-Identifier: GPL-2.0
/* A range of any size is valid or refused, and no sum wraps around. */
#include "any.h"

int main(void)
{
	struct dma_phys_limits limits = any_limits();
	struct dma_phys_segment segment = {};
	struct dma_phys_segments list = {
		.segments = &segment,
		.at = &segment,
		.stop = &segment + 1,
		.limits = &limits,
		.no_split = (u64)-1,
		.end = nondet_u64(),
		.size = nondet_u64(),
		.next = (u64)-1,
	};
	u64 addr = nondet_u64(), len = nondet_u64(), size = list.size;
	bool good = dma_phys_range_ok(addr, len) &&
		    addr + (len - 1) < list.end && size <= (u64)-1 - len;

	prove(dma_phys_segment_add(&list, addr, len) == good);
	if (good)
		prove(list.size == size + len && list.next > addr &&
		      list.next - addr == len && segment.addr == addr &&
		      segment.len == len && list.at == list.stop);
}

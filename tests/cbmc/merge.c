// SPDX-License-Identifier: GPL-2.0
/*
 * Merging moves and loses no byte and leaves nothing to merge: the runs are the
 * ranges, byte for byte and in order.
 */
#include "any.h"

#define MOST 3

/* One byte: at offset @byte of all ranges, and at @addr in memory. */
static struct {
	unsigned int left;
	u64 total, byte, addr;
} src;

static bool next(struct dma_phys_source *source, struct dma_phys_range *range)
{
	u8 addr = nondet_u8(), len = nondet_u8();

	if (!src.left)
		return false;
	src.left--;
	assume(len);
	if (src.byte >= src.total && src.byte - src.total < len)
		src.addr = addr + (src.byte - src.total);
	src.total += len;
	*range = (struct dma_phys_range){ .addr = addr, .len = len };
	return true;
}

int main(void)
{
	struct dma_phys_range run, ahead = { 0 };
	u64 done = 0, end = 0;

	src.byte = nondet_u8();
	src.left = nondet_u8();
	assume(src.left <= MOST);

	while (dma_phys_next_run(&run, &ahead, (u64)-1, next, NULL)) {
		prove(!done || run.addr != end);
		if (src.byte >= done && src.byte - done < run.len)
			prove(run.addr + (src.byte - done) == src.addr);
		done += run.len;
		end = run.addr + run.len;
	}
	prove(done == src.total && !ahead.len && !src.left);
}

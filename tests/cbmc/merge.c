// SPDX-License-Identifier: GPL-2.0
/*
 * Merging moves no byte, loses none, and leaves nothing to merge: the runs are
 * the ranges, byte for byte and in order.
 */
#include "any.h"

#define MOST 3

/* A byte of all ranges, at @byte of them and at @addr in memory. */
static struct {
	unsigned int left;
	u64 total, byte, addr;
} src;

static bool next(void *from, struct dma_phys_run *range)
{
	u8 addr = nondet_u8(), len = nondet_u8();

	if (!src.left)
		return false;
	src.left--;
	assume(len);
	if (src.byte >= src.total && src.byte - src.total < len)
		src.addr = addr + (src.byte - src.total);
	src.total += len;
	range->addr = addr;
	range->len = len;
	return true;
}

int main(void)
{
	struct dma_phys_run run, ahead = { 0 };
	u64 done = 0, end = 0;

	src.byte = nondet_u8();
	src.left = nondet_u8();
	assume(src.left <= MOST);

	while (dma_phys_next_run(&run, &ahead, next, &src)) {
		prove(!done || run.addr != end);
		if (src.byte >= done && src.byte - done < run.len)
			prove(run.addr + (src.byte - done) == src.addr);
		done += run.len;
		end = run.addr + run.len;
	}
	prove(done == src.total && !ahead.len && !src.left);
}

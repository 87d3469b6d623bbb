// SPDX-License-Identifier: GPL-2.0
/*
 * Runs of good ranges are good, up to the end of all addresses, as long as the
 * ranges have a length together.
 */
#include "any.h"

#define MOST 3

static unsigned int left;
static u64 total;

static bool next(void *from, struct dma_phys_run *range)
{
	u64 addr = nondet_u64(), len = nondet_u64();

	if (!left)
		return false;
	left--;
	assume(dma_phys_range_ok(addr, len) && len <= (u64)-1 - total);
	total += len;
	range->addr = addr;
	range->len = len;
	return true;
}

int main(void)
{
	struct dma_phys_run run, ahead = { 0 };

	left = nondet_u8();
	assume(left <= MOST);
	while (dma_phys_next_run(&run, &ahead, next, NULL))
		prove(dma_phys_range_ok(run.addr, run.len));
}

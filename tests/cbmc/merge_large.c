// SPDX-License-Identifier: GPL-2.0
/*
 * Runs of valid ranges are valid, up to the end of all addresses, if the sum of
 * their lengths does not overflow.
 */
#include "any.h"

#define MOST 3

static unsigned int left;
static u64 total;

static bool next(struct dma_phys_source *source, struct dma_phys_range *range)
{
	u64 addr = nondet_u64(), len = nondet_u64();

	if (!left)
		return false;
	left--;
	assume(dma_phys_range_ok(addr, len) && len <= (u64)-1 - total);
	total += len;
	*range = (struct dma_phys_range){ .addr = addr, .len = len };
	return true;
}

int main(void)
{
	struct dma_phys_range run, ahead = { 0 };

	left = nondet_u8();
	assume(left <= MOST);
	while (dma_phys_next_run(&run, &ahead, (u64)-1, next, NULL))
		prove(dma_phys_range_ok(run.addr, run.len));
}

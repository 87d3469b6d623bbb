// SPDX-License-Identifier: GPL-2.0
/* A last byte below ~0 is that of a valid range. */
#include "any.h"

int main(void)
{
	u64 addr = nondet_u64(), len = nondet_u64(), last;
	bool good = dma_phys_last(addr, len, &last) && last != (u64)-1;

	prove(good == (dma_phys_range_ok(addr, len) &&
		       addr + (len - 1) != (u64)-1));
	prove(!good || last == addr + (len - 1));
}

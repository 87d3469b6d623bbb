// SPDX-License-Identifier: GPL-2.0
/* Who asks for a last byte before ~0 has a range, and that is its last byte. */
#include "any.h"

int main(void)
{
	u64 addr = nondet_u64(), len = nondet_u64(), last;
	bool good = dma_phys_last(addr, len, &last) && last != (u64)-1;

	prove(good == (dma_phys_range_ok(addr, len) &&
		       addr + (len - 1) != (u64)-1));
	prove(!good || last == addr + (len - 1));
}

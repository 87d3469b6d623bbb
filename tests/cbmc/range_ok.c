// SPDX-License-Identifier: GPL-2.0
/* A range is valid if and only if it is not empty and ends within 64 bits. */
#include "any.h"

int main(void)
{
	u64 addr = nondet_u64(), len = nondet_u64();
	unsigned __int128 end = (unsigned __int128)addr + len;

	prove(dma_phys_range_ok(addr, len) ==
	      (len && end <= (unsigned __int128)1 << 64));
}

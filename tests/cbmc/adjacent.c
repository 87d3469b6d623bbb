// SPDX-License-Identifier: GPL-2.0
/* A range follows another if and only if it starts where that ends. */
#include "any.h"

int main(void)
{
	u64 addr = nondet_u64(), len = nondet_u64(), next = nondet_u64();
	unsigned __int128 end = (unsigned __int128)addr + len;

	assume(len);
	prove(dma_phys_adjacent(addr, len, next) == (end == next));
}

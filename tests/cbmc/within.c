// SPDX-License-Identifier: GPL-2.0
/* A part lies within a size if and only if its end does. */
#include "any.h"

int main(void)
{
	u64 offset = nondet_u64(), len = nondet_u64(), size = nondet_u64();
	unsigned __int128 end = (unsigned __int128)offset + len;

	prove(dma_phys_within(offset, len, size) == (end <= size));
}

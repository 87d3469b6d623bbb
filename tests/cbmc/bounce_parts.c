// SPDX-License-Identifier: GPL-2.0
/*
 * The capacity of an array: ranges that are split for bounce buffers, and each
 * part of them again for segments, at any DMA address, never exceed what
 * dma_phys_sg_max_segments() computes.
 */
#include "any.h"

#define MAX_LEN	4

int main(void)
{
	struct dma_phys_limits bounce = any_small_limits();
	struct dma_phys_limits limits = any_small_limits();
	u64 addr = nondet_u8(), left = nondet_u8(), size, count = 0;

	assume(left && left <= MAX_LEN);
	size = left;
	while (left) {
		u64 part = dma_phys_split(&bounce, addr, left), rest = part;
		u64 dma = nondet_u8();

		while (rest) {
			u64 n = dma_phys_split(&limits, dma, rest);

			dma += n;
			rest -= n;
			count++;
		}
		addr += part;
		left -= part;
	}
	prove(count <= dma_phys_max_segments(&limits,
			dma_phys_max_segments(&bounce, 1, size), size));
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Segments tile the pieces that they were made of: in order, each byte once,
 * each segment within the device's limits; and nothing beyond the storage is
 * touched, of which the checks of array bounds see to.
 */
#include "any.h"

#define PIECES	2
#define MOST	4
#define ROOM	6

int main(void)
{
	struct dma_phys_limits limits = any_small_limits();
	struct dma_phys_segment segments[ROOM];
	u64 total = 0, done = 0, byte = nondet_u8(), expected = 0;
	size_t count = 0, room = nondet_u8();
	bool fits = true;

	assume(room <= ROOM);
	for (int i = 0; i < PIECES && fits; i++) {
		u64 addr = nondet_u8(), len = nondet_u8();

		assume(len <= MOST);
		if (byte >= total && byte - total < len)
			expected = addr + (byte - total);
		total += len;
		fits = dma_phys_append(segments, &count, room, &limits, addr,
				       len);
		prove(count <= room);
		prove(fits || count == room);
	}
	assume(byte < total);

	for (size_t i = 0; i < count; i++) {
		u64 addr = segments[i].addr, len = segments[i].len;

		prove(len && len <= limits.max);
		prove((addr & ~limits.boundary) ==
		      ((addr + (len - 1)) & ~limits.boundary));
		if (byte >= done && byte - done < len)
			prove(addr + (byte - done) == expected);
		done += len;
	}
	prove(!fits || done == total);
}

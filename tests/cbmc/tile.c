// SPDX-License-Identifier: GPL-2.0
/*
 * Ranges that become segments one by one become the same as those that are
 * merged to runs first; and what is refused is none, or not before the end, or
 * would not have fitted.
 */
#include "any.h"

#define RANGES	2
#define MOST	3
#define ROOM	4
#define END	20

struct ranges {
	struct dma_phys_run range[RANGES];
	int given;
};

static bool next_range(void *from, struct dma_phys_run *run)
{
	struct ranges *ranges = from;

	if (ranges->given == RANGES)
		return false;
	*run = ranges->range[ranges->given++];
	return true;
}

int main(void)
{
	struct dma_phys_limits limits = any_small_limits();
	struct dma_phys_segment segments[ROOM], expected[ROOM];
	size_t room = nondet_u8(), count = 0;
	struct dma_phys_tiles tiles = {
		.segments = segments,
		.at = segments,
		.limits = &limits,
		.easy = dma_phys_easy(&limits),
		.end = END,
		.next = (u64)-1,
	};
	struct dma_phys_run run, ahead = {};
	struct ranges ranges = {};
	bool tiled = true, good = true, fits = true;
	u64 size = 0;

	assume(room <= ROOM);
	tiles.stop = segments + room;
	for (int i = 0; i < RANGES; i++) {
		u64 addr = nondet_u8(), len = nondet_u8();

		assume(len <= MOST);
		good = good && len && addr + len <= END;
		size += len;
		ranges.range[i] = (struct dma_phys_run){ addr, len };
		tiled = tiled && dma_phys_tile(&tiles, addr, len);
	}

	while (good && fits &&
	       dma_phys_next_run(&run, &ahead, next_range, &ranges))
		fits = dma_phys_append(expected, &count, room, &limits,
				       run.addr, run.len);

	prove(tiled == (good && fits));
	if (!tiled)
		return 0;
	prove(tiles.size == size);
	prove(tiles.at == segments + count);
	for (size_t i = 0; i < ROOM; i++)
		prove(i >= count || (segments[i].addr == expected[i].addr &&
				     segments[i].len == expected[i].len));
}

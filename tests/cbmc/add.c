// SPDX-License-Identifier: GPL-2.0
/*
 * Adding ranges one by one gives the same segments as merging them into runs
 * first. A range is refused only if it is empty, wraps around, exceeds the end,
 * or does not fit.
 */
#include "any.h"

#define RANGES	2
#define MOST	3
#define MAX	4
#define END	20

static struct dma_phys_range ranges[RANGES];
static int given;

static bool next_range(struct dma_phys_source *source,
		       struct dma_phys_range *range)
{
	if (given == RANGES)
		return false;
	*range = ranges[given++];
	return true;
}

int main(void)
{
	struct dma_phys_limits limits = any_small_limits();
	struct dma_phys_segment segments[MAX], expected[MAX];
	size_t max = nondet_u8(), count = 0;
	struct dma_phys_segments list = {
		.segments = segments,
		.at = segments,
		.limits = &limits,
		.no_split = dma_phys_no_split(&limits),
		.end = END,
		.next = (u64)-1,
	};
	struct dma_phys_range run, ahead = {};
	bool added = true, good = true, fits = true;
	u64 size = 0;

	assume(max <= MAX);
	list.stop = segments + max;
	for (int i = 0; i < RANGES; i++) {
		u64 addr = nondet_u8(), len = nondet_u8();

		assume(len <= MOST);
		good = good && len && addr + len <= END;
		size += len;
		ranges[i] = (struct dma_phys_range){ .addr = addr, .len = len };
		added = added && dma_phys_segment_add(&list, addr, len);
	}

	while (good && fits &&
	       dma_phys_next_run(&run, &ahead, (u64)-1, next_range, NULL))
		fits = dma_phys_append(expected, &count, max, &limits,
				       run.addr, run.len);

	prove(added == (good && fits));
	if (!added)
		return 0;
	prove(list.size == size);
	prove(list.at == segments + count);
	for (size_t i = 0; i < MAX; i++)
		prove(i >= count || (segments[i].addr == expected[i].addr &&
				     segments[i].len == expected[i].len));
}

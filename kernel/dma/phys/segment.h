/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arithmetic of ranges and segments, free of other kernel interfaces, so that
 * tests/cbmc can check it against its properties. No sum wraps around.
 */
#ifndef _KERNEL_DMA_PHYS_SEGMENT_H
#define _KERNEL_DMA_PHYS_SEGMENT_H

#include <linux/dma-phys.h>
#include <linux/math64.h>

/* The sum, saturated. */
static inline u64 dma_phys_sum(u64 a, u64 b)
{
	return b > (u64)-1 - a ? (u64)-1 : a + b;
}

/* A range is not empty and does not wrap around. */
static inline bool dma_phys_range_ok(u64 addr, u64 len)
{
	return len && len - 1 <= (phys_addr_t)-1 - addr;
}

/* Bytes [@offset, @offset + @len) lie within @size bytes. */
static inline bool dma_phys_within(u64 offset, u64 len, u64 size)
{
	return offset <= size && len <= size - offset;
}

/* @next is the byte after a range, and the range does not wrap around. */
static inline bool dma_phys_adjacent(u64 addr, u64 len, u64 next)
{
	return next > addr && next - addr == len;
}

/*
 * A range does not fill its cache lines: cache maintenance affects other data
 * in the first or last line. @line is a power of 2.
 */
static inline bool dma_phys_shares_line(u64 addr, u64 len, u64 line)
{
	return (addr | len) & (line - 1);
}

/* Length of the first segment of a range that starts at @addr. */
static inline u64 dma_phys_split(const struct dma_phys_limits *limits,
				 u64 addr, u64 len)
{
	u64 n = len < limits->max ? len : limits->max;
	u64 left = limits->boundary - (addr & limits->boundary);
	u64 end;

	if (n - 1 > left)
		n = left + 1;
	if (n == len || limits->align >= limits->max)
		return n;

	end = (addr + n) & ~limits->align;
	return end > addr ? end - addr : n;
}

/*
 * The maximum number of segments that @ranges ranges of @size bytes in all are
 * split into: for each range one that ends with it and one that begins with it,
 * beside those that are full and those that end at a boundary.
 */
static inline u64 dma_phys_max_segments(const struct dma_phys_limits *limits,
					u64 ranges, u64 size)
{
	u64 full = (limits->max & ~limits->align) ?: limits->max;
	u64 max = div64_u64(size, full);

	if (limits->boundary != (u64)-1)
		max = dma_phys_sum(max, div64_u64(size, limits->boundary + 1));
	return dma_phys_sum(max, dma_phys_sum(ranges, ranges));
}

/* Constraints that obey both. @a must be valid; @b may be {}. */
static inline struct dma_phys_limits
dma_phys_both_limits(const struct dma_phys_limits *a,
		     const struct dma_phys_limits *b)
{
	struct dma_phys_limits both = *a;

	if (b->max && b->max < both.max)
		both.max = b->max;
	if (b->boundary && b->boundary < both.boundary)
		both.boundary = b->boundary;
	both.align |= b->align;
	return both;
}

/* Ranges that can be mapped as one if they are adjacent. */
static inline bool dma_phys_alike(const struct dma_phys_range *a,
				  const struct dma_phys_range *b)
{
	return a->kind == b->kind && a->raw == b->raw && a->peer == b->peer;
}

/*
 * The next run: adjacent ranges merged. False at the end. @next is asked for
 * ranges while the run has less than @left bytes; one that does not follow waits
 * in @ahead, which is empty before the first call.
 */
static __always_inline bool
dma_phys_next_run(struct dma_phys_range *run, struct dma_phys_range *ahead,
		  u64 left, bool (*next)(struct dma_phys_source *source,
					 struct dma_phys_range *range),
		  struct dma_phys_source *source)
{
	*run = *ahead;
	ahead->len = 0;
	if (!run->len && !next(source, run))
		return false;

	while (run->len < left && next(source, ahead)) {
		if (!dma_phys_adjacent(run->addr, run->len, ahead->addr) ||
		    !dma_phys_alike(run, ahead))
			return true;
		run->len += ahead->len;
		ahead->len = 0;
	}
	return true;
}

/*
 * Append a range to @count segments in storage for @max. Bytes that follow the
 * last segment extend it, as far as the limits allow. False if it is full.
 */
static inline bool dma_phys_append(struct dma_phys_segment *segments,
				   size_t *count, size_t max,
				   const struct dma_phys_limits *limits,
				   u64 addr, u64 len)
{
	if (*count && dma_phys_adjacent(segments[*count - 1].addr,
					segments[*count - 1].len, addr)) {
		(*count)--;
		addr = segments[*count].addr;
		len += segments[*count].len;
	}

	while (len) {
		u64 n = dma_phys_split(limits, addr, len);

		if (*count >= max)
			return false;
		segments[(*count)++] = (struct dma_phys_segment){ addr, n };
		addr += n;
		len -= n;
	}
	return true;
}

/**
 * struct dma_phys_segments - ranges being turned into segments, one by one
 * @segments: storage
 * @at: the next segment
 * @stop: the end of the storage
 * @limits: constraints of the device
 * @no_split: dma_phys_no_split() of the limits
 * @end: all ranges lie below this address
 * @size: length of all segments
 * @next: the byte after the last segment; ~0, where no range begins, if there is
 *	none
 */
struct dma_phys_segments {
	struct dma_phys_segment *segments;
	struct dma_phys_segment *at;
	struct dma_phys_segment *stop;
	const struct dma_phys_limits *limits;
	u64 no_split;
	u64 end;
	u64 size;
	u64 next;
};

/*
 * A range need not be split if its first and its last byte differ in none but
 * these bits: it lies in a block whose size is a power of 2 and not larger than
 * the largest segment.
 */
static inline u64 dma_phys_no_split(const struct dma_phys_limits *limits)
{
	u64 block = (u64)-1 >> __builtin_clzll(limits->max) >> 1;

	return block < limits->boundary ? block : limits->boundary;
}

/*
 * The last byte of a range; false if it wraps around. For an empty range at 0
 * it is ~0, which exceeds any limit that the caller compares with.
 */
static inline bool dma_phys_last(u64 addr, u64 len, u64 *last)
{
	u64 more;

	(void)__builtin_sub_overflow(len, 1, &more);
	return !__builtin_add_overflow(addr, more, last);
}

/* The next segment after a range that has to be split, NULL if it is full. */
static noinline __maybe_unused struct dma_phys_segment *
dma_phys_segment_split(struct dma_phys_segment *segments,
		       struct dma_phys_segment *at,
		       struct dma_phys_segment *stop,
		       const struct dma_phys_limits *limits, u64 addr, u64 len)
{
	size_t count = at - segments;

	if (!dma_phys_append(segments, &count, stop - segments, limits, addr,
			     len))
		return NULL;
	return segments + count;
}

/*
 * Add a range; it extends the last segment if it follows. False if it is empty,
 * not below the end, or the storage is full.
 */
static __always_inline bool
dma_phys_segment_add(struct dma_phys_segments *list, u64 addr, u64 len)
{
	struct dma_phys_segment *at = list->at;
	u64 last;

	if (unlikely(!dma_phys_last(addr, len, &last)) ||
	    unlikely(last >= list->end) ||
	    __builtin_add_overflow(list->size, len, &list->size))
		return false;

	if (addr == list->next && (at[-1].addr ^ last) <= list->no_split) {
		at[-1].len += len;
	} else if (likely(addr != list->next &&
			  (addr ^ last) <= list->no_split)) {
		if (unlikely(at == list->stop))
			return false;
		*list->at++ = (struct dma_phys_segment){ addr, len };
	} else {
		list->at = dma_phys_segment_split(list->segments, at,
						  list->stop, list->limits,
						  addr, len);
		if (!list->at)
			return false;
	}

	list->next = last + 1;
	return true;
}

#endif /* _KERNEL_DMA_PHYS_SEGMENT_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The arithmetic of ranges and segments, and nothing of the kernel's: so that
 * tests/cbmc can prove it. No sum here is meant to wrap around.
 */
#ifndef _KERNEL_DMA_PHYS_TILE_H
#define _KERNEL_DMA_PHYS_TILE_H

#include <linux/dma-phys.h>

/**
 * struct dma_phys_limits - what a device asks of a segment
 * @max: most bytes in one, not 0
 * @boundary: no segment crosses a multiple of this plus 1, a power of 2
 * @align: cuts are made where the address has none of these low bits, as long
 *	as @max leaves the choice
 */
struct dma_phys_limits {
	u64 max;
	u64 boundary;
	u64 align;
};

/* Ranges that follow each other, as one. */
struct dma_phys_run {
	u64 addr;
	u64 len;
};

/* The sum, or the largest number where there is none. */
static inline u64 dma_phys_sum(u64 a, u64 b)
{
	return b > (u64)-1 - a ? (u64)-1 : a + b;
}

/* A range has a first byte, a last byte, and no wrap between them. */
static inline bool dma_phys_range_ok(u64 addr, u64 len)
{
	return len && len - 1 <= (u64)-1 - addr;
}

/* Bytes [@offset, @offset + @len) lie in @size bytes. */
static inline bool dma_phys_within(u64 offset, u64 len, u64 size)
{
	return offset <= size && len <= size - offset;
}

/* @next is the byte after the last of a range, not the first of all. */
static inline bool dma_phys_adjacent(u64 addr, u64 len, u64 next)
{
	return next > addr && next - addr == len;
}

/*
 * A range does not fill its cache lines: what lies beside it in one would be
 * lost when the line is, or written over it. @line is a power of 2.
 */
static inline bool dma_phys_shares_line(u64 addr, u64 len, u64 line)
{
	return (addr | len) & (line - 1);
}

/* Length of the first segment of a range, which is at @addr. */
static inline u64 dma_phys_cut(const struct dma_phys_limits *limits, u64 addr,
			       u64 len)
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
 * Most segments that @pieces pieces of @size bytes in all are cut into: in each
 * piece one that ends with it and one that begins with it, besides those that
 * are full and those that end at a boundary.
 */
static inline u64 dma_phys_most_segments(const struct dma_phys_limits *limits,
					 u64 pieces, u64 size)
{
	u64 full = limits->align < limits->max ? limits->max - limits->align :
						 limits->max;
	u64 most = size / full;

	if (limits->boundary != (u64)-1)
		most = dma_phys_sum(most, size / (limits->boundary + 1));
	return dma_phys_sum(most, dma_phys_sum(pieces, pieces));
}

/*
 * The next run, false where nothing is left. @next is asked for ranges, of
 * which one that does not follow waits in @ahead, empty before the first call.
 */
static __always_inline bool
dma_phys_next_run(struct dma_phys_run *run, struct dma_phys_run *ahead,
		  bool (*next)(void *from, struct dma_phys_run *range),
		  void *from)
{
	*run = *ahead;
	ahead->len = 0;
	if (!run->len && !next(from, run))
		return false;

	while (next(from, ahead)) {
		if (!dma_phys_adjacent(run->addr, run->len, ahead->addr))
			return true;
		run->len += ahead->len;
		ahead->len = 0;
	}
	return true;
}

/*
 * Append a range to @count segments in storage for @room. Bytes that follow the
 * last segment make it longer, as far as it may be. False where it is full.
 */
static inline bool dma_phys_append(struct dma_phys_segment *segments,
				   size_t *count, size_t room,
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
		u64 n = dma_phys_cut(limits, addr, len);

		if (*count >= room)
			return false;
		segments[(*count)++] = (struct dma_phys_segment){ addr, n };
		addr += n;
		len -= n;
	}
	return true;
}

/**
 * struct dma_phys_tiles - ranges becoming segments, one by one
 * @segments: storage
 * @at: the segment that comes next
 * @stop: where the storage ends
 * @limits: what the device asks of a segment
 * @easy: dma_phys_easy() of the limits
 * @end: all ranges lie before this address
 * @size: length of all segments
 * @next: the byte after the last segment, ~0 where there is none: no range
 *	begins there
 */
struct dma_phys_tiles {
	struct dma_phys_segment *segments;
	struct dma_phys_segment *at;
	struct dma_phys_segment *stop;
	const struct dma_phys_limits *limits;
	u64 easy;
	u64 end;
	u64 size;
	u64 next;
};

/*
 * A range need not be cut where its first and its last byte differ in none but
 * these bits: it lies in one block of a size that is a power of 2, and not
 * larger than the largest segment.
 */
static inline u64 dma_phys_easy(const struct dma_phys_limits *limits)
{
	u64 block = (u64)-1 >> __builtin_clzll(limits->max) >> 1;

	return block < limits->boundary ? block : limits->boundary;
}

/*
 * The last byte of a range, false where that would wrap around. It is ~0 where
 * no bytes begin at 0, so who calls asks for less.
 */
static inline bool dma_phys_last(u64 addr, u64 len, u64 *last)
{
	u64 more;

	(void)__builtin_sub_overflow(len, 1, &more);
	return !__builtin_add_overflow(addr, more, last);
}

/* The segment that comes next when a range was cut, NULL where it is full. */
static noinline __maybe_unused struct dma_phys_segment *
dma_phys_tile_cut(struct dma_phys_segment *segments,
		  struct dma_phys_segment *at, struct dma_phys_segment *stop,
		  const struct dma_phys_limits *limits, u64 addr, u64 len)
{
	size_t count = at - segments;

	if (!dma_phys_append(segments, &count, stop - segments, limits, addr,
			     len))
		return NULL;
	return segments + count;
}

/*
 * One more range. It makes the last segment longer where it follows. False
 * where it is none, does not lie before the end, or the storage is full.
 */
static __always_inline bool dma_phys_tile(struct dma_phys_tiles *tiles,
					  u64 addr, u64 len)
{
	struct dma_phys_segment *at = tiles->at;
	u64 last;

	if (unlikely(!dma_phys_last(addr, len, &last)) ||
	    unlikely(last >= tiles->end) ||
	    __builtin_add_overflow(tiles->size, len, &tiles->size))
		return false;

	if (addr == tiles->next && (at[-1].addr ^ last) <= tiles->easy) {
		at[-1].len += len;
	} else if (likely(addr != tiles->next &&
			  (addr ^ last) <= tiles->easy)) {
		if (unlikely(at == tiles->stop))
			return false;
		*tiles->at++ = (struct dma_phys_segment){ addr, len };
	} else {
		tiles->at = dma_phys_tile_cut(tiles->segments, at, tiles->stop,
					      tiles->limits, addr, len);
		if (!tiles->at)
			return false;
	}

	tiles->next = last + 1;
	return true;
}

#endif /* _KERNEL_DMA_PHYS_TILE_H */

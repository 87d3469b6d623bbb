/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The arithmetic of ranges and segments, and nothing of the kernel's: so that
 * tests/cbmc can prove it.
 */
#ifndef _KERNEL_DMA_PHYS_TILE_H
#define _KERNEL_DMA_PHYS_TILE_H

/**
 * struct dma_phys_limits - what a device asks of a segment
 * @max: most bytes in one, not 0
 * @boundary: no segment crosses a multiple of this plus 1
 * @align: cuts are made where the address has none of these bits, as long as
 *	@max leaves the choice
 */
struct dma_phys_limits {
	u64 max;
	u64 boundary;
	u64 align;
};

/* A range has a first byte, a last byte, and no wrap between them. */
static inline bool dma_phys_range_ok(u64 addr, u64 len)
{
	return len && addr + (len - 1) >= addr;
}

/* Bytes [@offset, @offset + @len) lie in @size bytes. */
static inline bool dma_phys_within(u64 offset, u64 len, u64 size)
{
	return offset <= size && len <= size - offset;
}

/* @next is the byte after the last of a range, not the first of all. */
static inline bool dma_phys_adjacent(u64 addr, u64 len, u64 next)
{
	return next && addr + len == next;
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
	u64 most = size / full, more = 2 * pieces;

	if (pieces > (u64)-1 / 2)
		return (u64)-1;
	if (limits->boundary != (u64)-1)
		more += size / (limits->boundary + 1);
	if (more < 2 * pieces || most + more < more)
		return (u64)-1;
	return most + more;
}

#endif /* _KERNEL_DMA_PHYS_TILE_H */

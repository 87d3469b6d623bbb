// SPDX-License-Identifier: GPL-2.0
/*
 * Many ranges in an array, to an array of segments: a convenience on top of the
 * iterator in sg.c, with a fast path of its own.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/instruction_pointer.h>
#include <linux/overflow.h>

#include "fastpath.h"
#include "internal.h"

enum dma_phys_array_type {
	DMA_PHYS_ARRAY_CPU,
	DMA_PHYS_ARRAY_MMIO,
	DMA_PHYS_ARRAY_BOTH,
};

/**
 * struct dma_phys_array - an array as a source of ranges
 * @source: the source
 * @type: what @at points to
 * @at: the next struct cpu_phys, struct mmio_phys or struct dma_phys_range
 * @left: ranges that are left
 */
struct dma_phys_array {
	struct dma_phys_source source;
	enum dma_phys_array_type type;
	const void *at;
	size_t left;
};

static bool dma_phys_array_next(struct dma_phys_source *source,
				struct dma_phys_range *range)
{
	struct dma_phys_array *array = container_of(source, typeof(*array),
						    source);
	const struct dma_phys_range *both = array->at;
	const struct mmio_phys *mmio = array->at;
	const struct cpu_phys *cpu = array->at;

	if (!array->left)
		return false;
	array->left--;
	switch (array->type) {
	case DMA_PHYS_ARRAY_CPU:
		*range = (struct dma_phys_range){
			.addr = cpu->addr,
			.len = cpu->len,
			.raw = cpu->raw,
		};
		array->at = cpu + 1;
		break;
	case DMA_PHYS_ARRAY_MMIO:
		*range = (struct dma_phys_range){
			.addr = mmio->addr,
			.len = mmio->len,
			.kind = DMA_PHYS_MMIO,
			.peer = mmio->peer,
		};
		array->at = mmio + 1;
		break;
	default:
		*range = *both;
		array->at = both + 1;
	}
	return true;
}

/* Validate the ranges, and describe them to the iterator. */
static int dma_phys_array_init(struct dma_phys_array *array, const void *ranges,
			       size_t count)
{
	struct dma_phys_source *source = &array->source;
	struct dma_phys_range range, last = {};
	phys_addr_t end = 0;

	array->at = ranges;
	array->left = count;
	source->min_len = SIZE_MAX;
	while (dma_phys_array_next(source, &range)) {
		if (!dma_phys_range_ok(range.addr, range.len) ||
		    range.kind > DMA_PHYS_MMIO ||
		    check_add_overflow(source->size, range.len, &source->size))
			return -EINVAL;
		if (range.kind == DMA_PHYS_MMIO) {
			if (source->kinds & BIT(DMA_PHYS_MMIO) &&
			    range.peer != source->peer)
				return -EINVAL;
			source->peer = range.peer;
		}
		if (source->kinds &&
		    (range.addr != end || !dma_phys_alike(&range, &last)))
			source->gaps |= end | range.addr;
		if (IS_ENABLED(CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC) &&
		    range.kind == DMA_PHYS_CPU)
			source->min_len = min(source->min_len, range.len);
		source->kinds |= BIT(range.kind);
		end = range.addr + range.len;
		last = range;
	}
	array->at = ranges;
	array->left = count;
	return 0;
}

/* No segments yet, for ranges that the fast path adds one by one. */
static __always_inline struct dma_phys_segments
dma_phys_array_segments(struct device *dev,
			const struct dma_phys_limits *limits,
			struct dma_phys_segment *segments, size_t max_segments)
{
	return (struct dma_phys_segments){
		.segments = segments,
		.at = segments,
		.stop = segments + max_segments,
		.limits = limits,
		.no_split = dma_phys_no_split(limits),
		.end = dma_phys_fast_end(dev),
		.next = (u64)-1,
	};
}

static noinline int dma_phys_sg_map_array(struct device *dev,
					  enum dma_phys_array_type type,
					  const void *ranges, size_t count,
					  enum dma_data_direction dir,
					  u32 flags,
					  struct dma_phys_segment *segments,
					  size_t max_segments,
					  struct dma_phys_sg *sg,
					  unsigned long caller)
{
	struct dma_phys_array array = {
		.source = {
			.next = dma_phys_array_next,
			.count = count,
			.caller = caller,
		},
		.type = type,
	};
	struct dma_phys_sg_iter iter __uninitialized;
	int more;

	if (!segments || !max_segments || !ranges ||
	    dma_phys_array_init(&array, ranges, count))
		return -EINVAL;
	more = dma_phys_sg_map_start(dev, &array.source, dir, flags, sg, &iter);
	return dma_phys_sg_map_rest(sg, &iter, more, segments, max_segments);
}

/*
 * Memory behind an IOMMU, linked as one segment. 0 on failure. The storage of the
 * segments holds the runs before.
 */
static noinline int
dma_phys_array_iommu(struct device *dev, const struct cpu_phys *ranges,
		     size_t count, enum dma_data_direction dir, u32 flags,
		     struct dma_phys_segment *segments, size_t max_segments,
		     struct dma_phys_sg *sg)
{
	struct phys_vec *vecs = (struct phys_vec *)segments, *vec = vecs;
	u64 mask, end = ranges->addr + ranges->len, gaps = 0, starts = 0;
	size_t size = ranges->len;

	if (sizeof(*vecs) != sizeof(*segments) || count > max_segments || !size)
		return 0;
	*vec = (struct phys_vec){ ranges->addr, size };
	while (--count) {
		u64 addr = (++ranges)->addr;
		size_t len = ranges->len;

		if (unlikely(check_add_overflow(size, len, &size)))
			return 0;
		end ^= addr;
		if (end) {
			gaps |= end;
			starts |= addr - 1;
			*++vec = (struct phys_vec){ addr, len };
		} else if (likely(len && vec->len)) {
			vec->len += len;
		} else {
			return 0;
		}
		end = addr + len;
	}

	mask = dma_get_merge_boundary(dev);
	/* An IOVA keeps the offset in the granule, and is aligned to its size. */
	end = (vecs->paddr & mask) + size - 1;
	/*
	 * Linking refuses what gaps of the same offset hide, ranges that wrap around,
	 * and empty ones. It would map address 0.
	 */
	if (gaps & mask || (s64)starts < 0 || size > dma_get_max_seg_size(dev) ||
	    unlikely(((vecs->paddr & mask) ^ end) > dma_get_seg_boundary(dev)) ||
	    !dma_phys_links_memory(dev, vecs->paddr, size) ||
	    !dma_phys_sg_link_memory(dev, vecs, vec + 1 - vecs, size, dir, flags,
				     sg))
		return 0;
	*segments = (struct dma_phys_segment){ sg->addr, size };
	return 1;
}

/**
 * dma_phys_sg_map_rest() - map what is left, to an array of segments
 * @sg: the list
 * @iter: its iterator
 * @more: what dma_phys_sg_map_start() or dma_phys_sg_map_next() returned
 * @segments: where the segment of @iter and those after it are written
 * @max_segments: how many it holds
 *
 * Context: As dma_phys_sg_map_start().
 * Return: the number of segments, @more if it is an errno, or an errno as
 * dma_phys_sg_map_cpu().
 */
int dma_phys_sg_map_rest(struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter,
			 int more, struct dma_phys_segment *segments,
			 size_t max_segments)
{
	size_t count = 0;

	while (more > 0) {
		if (count == max_segments || count == INT_MAX) {
			dma_phys_sg_unmap_nosync(sg);
			return -ENOSPC;
		}
		segments[count].addr = iter->addr;
		segments[count++].len = iter->len;
		more = dma_phys_sg_map_next(sg, iter);
	}
	return more ?: count;
}
EXPORT_SYMBOL_GPL(dma_phys_sg_map_rest);

/**
 * dma_phys_sg_max_segments() - the number of segments that ranges may become
 * @dev: the device, with its limits set. For requests, the maximum segment size
 *	is a multiple of the queue's virtual boundary, or the alignment mask
 *	contains it
 * @count: number of ranges; of a request, blk_rq_nr_phys_segments()
 * @size: length of all ranges in bytes; of a request, blk_rq_payload_bytes()
 *
 * Context: Any.
 * Return: a number of segments that is always enough, SIZE_MAX if there is no
 * such number, 0 if @dev is NULL.
 */
size_t dma_phys_sg_max_segments(struct device *dev, size_t count, size_t size)
{
	struct dma_phys_limits limits;
	u64 parts;

	if (!dev)
		return 0;

	limits = dma_phys_sg_limits(dev);
	parts = dma_phys_max_records(dev, count, size);
	return min_t(u64, dma_phys_max_segments(&limits, parts, size),
		     SIZE_MAX);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_max_segments);

/**
 * dma_phys_sg_map_cpu() - map many ranges of memory for a device
 * @dev: the device; its driver has set a DMA mask
 * @ranges: the memory, which must stay allocated until it is unmapped
 * @count: number of ranges
 * @dir: DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC
 * @segments: where the segments are written; not needed by the core afterwards
 * @max_segments: how many it holds, see dma_phys_sg_max_segments()
 * @sg: an empty list
 *
 * The device finds all bytes, in the order of @ranges, in the segments. @ranges
 * is not needed afterwards.
 *
 * Context: As dma_phys_sg_map_start().
 * Return: the number of segments, at least 1; or, with @sg empty, an errno as
 * dma_phys_sg_map_start(), or -ENOSPC if @max_segments is too small.
 */
int dma_phys_sg_map_cpu(struct device *dev, const struct cpu_phys *ranges,
			size_t count, enum dma_data_direction dir, u32 flags,
			struct dma_phys_segment *segments, size_t max_segments,
			struct dma_phys_sg *sg)
{
	struct dma_phys_segments list;
	struct dma_phys_limits limits;
	int n;

	if (unlikely(!ranges) || unlikely(!count) || unlikely(count > INT_MAX) ||
	    unlikely(!segments) || unlikely(!sg) || unlikely(sg->dev) ||
	    unlikely(!dma_phys_fast_use(dev, dir)) ||
	    unlikely(flags > DMA_PHYS_SKIP_CPU_SYNC))
		goto slow;
	if (use_dma_iommu(dev)) {
		n = dma_phys_array_iommu(dev, ranges, count, dir, flags,
					 segments, max_segments, sg);
		if (n)
			return n;
		goto slow;
	}
	if (!dma_phys_fast_device(dev) || unlikely(dma_phys_fast_offset(dev)))
		goto slow;

	limits = dma_phys_sg_limits(dev);
	list = dma_phys_array_segments(dev, &limits, segments, max_segments);
	for (size_t i = 0; i < count; i++)
		if (unlikely(!dma_phys_segment_add(&list, ranges[i].addr,
						   ranges[i].len)))
			goto slow;

	sg->dev = dev;
	sg->size = list.size;
	dma_phys_set_tail(sg, dir, flags, DMA_PHYS_CPU, DMA_PHYS_DIRECT,
			  DMA_PHYS_FAST);
	if (trace_dma_phys_sg_map_enabled())
		dma_phys_sg_trace_map(sg, 0);
	return list.at - segments;
slow:
	return dma_phys_sg_map_array(dev, DMA_PHYS_ARRAY_CPU, ranges, count,
				     dir, flags, segments, max_segments, sg,
				     _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_map_cpu);

/*
 * Device memory of one peer, at its addresses on the bus: the end of the segments.
 * NULL if it is reached in another way, or if anything is wrong: the slow path
 * says what.
 */
static struct dma_phys_segment *
dma_phys_array_bus(struct dma_phys_sg *sg, const struct mmio_phys *ranges,
		   size_t count, struct dma_phys_segment *segments,
		   size_t max_segments)
{
	struct dma_phys_limits limits = dma_phys_sg_limits(sg->dev);
	struct dma_phys_segments list =
		dma_phys_array_segments(sg->dev, &limits, segments,
					max_segments);
	struct dma_phys_p2p_path path;

	if (dma_phys_peer_path(sg->peer, sg->dev, &path) ||
	    path.route != DMA_PHYS_BUS)
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (ranges[i].peer != ranges->peer ||
		    !dma_phys_range_ok(ranges[i].addr, ranges[i].len) ||
		    !dma_phys_segment_add(&list,
					  ranges[i].addr + path.bus_offset,
					  ranges[i].len))
			return NULL;
	sg->size = list.size;
	return list.at;
}

/**
 * dma_phys_sg_map_mmio() - map many ranges of device memory for a device
 * @dev: the device; its driver has set a DMA mask
 * @ranges: the device memory, all of one peer or all of none
 * @count: number of ranges
 * @dir: DMA_TO_DEVICE means that @dev reads the device memory
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC, which changes nothing here
 * @segments: where the segments are written
 * @max_segments: how many it holds, see dma_phys_sg_max_segments()
 * @sg: an empty list
 *
 * Like dma_phys_sg_map_cpu(), and like dma_phys_map_mmio() for each range.
 *
 * Context: As dma_phys_map_mmio().
 * Return: as dma_phys_sg_map_cpu(); -EINVAL if the ranges belong to different
 * peers.
 */
int dma_phys_sg_map_mmio(struct device *dev, const struct mmio_phys *ranges,
			 size_t count, enum dma_data_direction dir, u32 flags,
			 struct dma_phys_segment *segments, size_t max_segments,
			 struct dma_phys_sg *sg)
{
	struct dma_phys_segment *end;

	if (!ranges || !count || count > INT_MAX || !segments || !sg ||
	    sg->dev || !dma_phys_fast_use(dev, dir) ||
	    flags > DMA_PHYS_SKIP_CPU_SYNC || !ranges->peer)
		goto slow;

	sg->peer = dma_phys_peer_get(ranges->peer);
	if (IS_ERR(sg->peer))
		goto slow_empty;
	sg->dev = dev;
	dma_phys_set_tail(sg, dir, flags, DMA_PHYS_MMIO, DMA_PHYS_BUS,
			  DMA_PHYS_FAST);
	end = dma_phys_array_bus(sg, ranges, count, segments, max_segments);
	if (end) {
		if (trace_dma_phys_sg_map_enabled())
			dma_phys_sg_trace_map(sg, 0);
		return end - segments;
	}
	dma_phys_peer_put(sg->peer);
slow_empty:
	dma_phys_sg_clear(sg);
slow:
	return dma_phys_sg_map_array(dev, DMA_PHYS_ARRAY_MMIO, ranges, count,
				     dir, flags, segments, max_segments, sg,
				     _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_map_mmio);

/**
 * dma_phys_sg_map_ranges() - map ranges of both kinds for a device
 * @dev: the device; its driver has set a DMA mask
 * @ranges: memory and device memory; the latter all of one peer or all of none
 * @count: number of ranges
 * @dir: DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL
 * @flags: 0 or DMA_PHYS_SKIP_CPU_SYNC
 * @segments: where the segments are written
 * @max_segments: how many it holds, see dma_phys_sg_max_segments()
 * @sg: an empty list
 *
 * Like dma_phys_sg_map_cpu() and dma_phys_sg_map_mmio().
 *
 * Context: As dma_phys_map_mmio().
 * Return: as dma_phys_sg_map_mmio().
 */
int dma_phys_sg_map_ranges(struct device *dev,
			   const struct dma_phys_range *ranges, size_t count,
			   enum dma_data_direction dir, u32 flags,
			   struct dma_phys_segment *segments,
			   size_t max_segments, struct dma_phys_sg *sg)
{
	return dma_phys_sg_map_array(dev, DMA_PHYS_ARRAY_BOTH, ranges, count,
				     dir, flags, segments, max_segments, sg,
				     _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_map_ranges);

// SPDX-License-Identifier: GPL-2.0
/*
 * Many ranges, and block requests, to segments.
 *
 * Ranges come from a source and are merged into runs first. Under an IOMMU all
 * runs go to one IOVA where granule and alignment allow it; else each run is
 * mapped as one range is. What the device finds becomes segments, at the front
 * of the caller's storage; what undoing needs to know becomes pieces, at its
 * end. Where nothing has to be undone there are none.
 */
#include <linux/bio-integrity.h>
#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/bvec.h>
#include <linux/device.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/instruction_pointer.h>
#include <linux/kmsan.h>
#include <linux/overflow.h>
#include <linux/pci-p2pdma.h>
#include <linux/swiotlb.h>
#include <trace/events/dma_phys.h>

#include "../debug.h"
#include "internal.h"
#include "plain.h"

/* A piece is an address and a length, as a segment is. */
static_assert(sizeof(dma_addr_t) >= sizeof(phys_addr_t));

/* In the length of a piece: its address is a bounce slot, or leads to one. */
#define PIECE_BOUNCED	(SIZE_MAX ^ (SIZE_MAX >> 1))

/**
 * struct source - where runs come from
 * @cpu: ranges of memory, or NULL
 * @mmio: ranges of device memory, or NULL
 * @left: ranges that are left
 * @bvecs: without ranges: vectors of the request, or of the present bio
 * @iter: place in @bvecs
 * @bio: whose vectors they are, NULL for a special payload
 * @integrity: the vectors are those of the integrity data
 * @ahead: a range that was taken, and may be merged with the next
 */
struct source {
	const struct cpu_phys *cpu;
	const struct mmio_phys *mmio;
	size_t left;
#ifdef CONFIG_BLOCK
	const struct bio_vec *bvecs;
	struct bvec_iter iter;
	struct bio *bio;
	bool integrity;
#endif
	struct dma_phys_run ahead;
};

#ifdef CONFIG_BLOCK
static void source_bio(struct source *src, struct bio *bio)
{
	src->bio = bio;
	if (src->integrity) {
		src->bvecs = bio_integrity(bio)->bip_vec;
		src->iter = bio_integrity(bio)->bip_iter;
	} else {
		src->bvecs = bio->bi_io_vec;
		src->iter = bio->bi_iter;
	}
}

static bool source_bvec(struct source *src, struct bio_vec *bv)
{
	while (!src->iter.bi_size) {
		if (!src->bio || !src->bio->bi_next)
			return false;
		source_bio(src, src->bio->bi_next);
	}

	*bv = mp_bvec_iter_bvec(src->bvecs, src->iter);
	bvec_iter_advance_single(src->bvecs, &src->iter, bv->bv_len);
	return true;
}

static bool source_block(struct source *src, struct dma_phys_run *run)
{
	struct bio_vec bv;

	if (!src->bvecs || !source_bvec(src, &bv))
		return false;
	*run = (struct dma_phys_run){ bvec_phys(&bv), bv.bv_len };
	return true;
}
#else
static bool source_block(struct source *src, struct dma_phys_run *run)
{
	return false;
}
#endif

/* The next range as it was given. */
static noinline bool source_range(void *from, struct dma_phys_run *run)
{
	struct source *src = from;

	if (src->left) {
		src->left--;
		if (src->cpu) {
			run->addr = src->cpu->addr;
			run->len = src->cpu->len;
			src->cpu++;
		} else {
			run->addr = src->mmio->addr;
			run->len = src->mmio->len;
			src->mmio++;
		}
		return true;
	}
	return source_block(src, run);
}

/* The next run: ranges that follow each other are one. */
static bool source_run(struct source *src, struct dma_phys_run *run)
{
	return dma_phys_next_run(run, &src->ahead, source_range, src);
}

/* Segments and pieces, from both ends of the storage. */

static bool full(const struct dma_phys_vec *vec)
{
	return vec->count + vec->pieces >= vec->room || dma_phys_fail();
}

static struct dma_phys_segment *piece(const struct dma_phys_vec *vec, size_t i)
{
	return &vec->segments[vec->room - 1 - i];
}

static int add_piece(struct dma_phys_vec *vec, u64 addr, size_t len)
{
	if (full(vec))
		return -ENOSPC;
	*piece(vec, vec->pieces++) = (struct dma_phys_segment){ addr, len };
	return 0;
}

/* Pieces keep what they have of the storage. */
static int add_segments(struct dma_phys_vec *vec,
			const struct dma_phys_limits *limits, dma_addr_t addr,
			size_t len)
{
	if (dma_phys_fail())
		return -ENOSPC;
	return dma_phys_append(vec->segments, &vec->count,
			       vec->room - vec->pieces, limits, addr, len) ?
	       0 : -ENOSPC;
}

static struct dma_phys_limits limits_of(struct device *dev)
{
	return (struct dma_phys_limits){
		.max = dma_get_max_seg_size(dev),
		.boundary = dma_get_seg_boundary(dev),
		.align = dma_get_min_align_mask(dev),
	};
}

/* A handle for @len bytes of the vec: what route.c works with. */
static struct dma_phys_map part(const struct dma_phys_vec *vec, size_t len)
{
	return (struct dma_phys_map){
		.dev = vec->dev,
		.size = len,
		.dir = vec->dir,
		.kind = vec->kind,
		.route = vec->route,
		.flags = vec->flags & DMA_PHYS_MANUAL_SYNC,
	};
}

/* The handle of a piece. False where its device has lost it. */
static bool part_of_piece(const struct dma_phys_vec *vec,
			  const struct dma_phys_segment *its,
			  struct dma_phys_map *map)
{
	*map = part(vec, its->len & ~PIECE_BOUNCED);
	if (its->len & PIECE_BOUNCED)
		map->flags |= DMA_PHYS_BOUNCED;

	switch (vec->route) {
	case DMA_PHYS_DIRECT:
	case DMA_PHYS_BOUNCE:
		map->undo = its->addr;
		if (!(its->len & PIECE_BOUNCED))
			map->route = DMA_PHYS_DIRECT;
		return true;
	case DMA_PHYS_IOMMU:
		if (!(vec->flags & DMA_PHYS_APART)) {
			map->undo = its->addr;
			return true;
		}
		map->addr = its->addr;
		if (vec->kind == DMA_PHYS_CPU)
			map->undo = dma_phys_route_phys(map);
		return vec->kind == DMA_PHYS_MMIO || map->undo;
	default:
		map->addr = its->addr;
		return true;
	}
}

/* Piece by piece: what each holds, and its IOVA where it has one. */
static bool undo_pieces(struct dma_phys_vec *vec)
{
	struct dma_phys_map map;
	bool undone = true;

	for (size_t i = 0; i < vec->pieces; i++)
		if (!part_of_piece(vec, piece(vec, i), &map) ||
		    !dma_phys_route_undo(&map))
			undone = false;
	return undone;
}

/* Map: each run by itself. */

/*
 * The direct route keeps no records until a first run bounces. From then on
 * pieces tell all of the vec, so that it is known where in it each lies.
 */
static int catch_up(struct dma_phys_vec *vec)
{
	int err = 0;

	if (vec->pieces)
		return 0;
	for (size_t i = 0; i < vec->count && !err; i++)
		err = add_piece(vec, dma_to_phys(vec->dev,
						 vec->segments[i].addr),
				vec->segments[i].len);
	return err;
}

/* Whether unmap must know more of this run than the segments say. */
static bool recorded(const struct dma_phys_vec *vec,
		     const struct dma_phys_map *map)
{
	switch (map->route) {
	case DMA_PHYS_DIRECT:
		return vec->pieces || dma_phys_route_records(map);
	case DMA_PHYS_BUS:
		return false;
	default:
		return true;
	}
}

static int record(struct dma_phys_vec *vec, const struct dma_phys_map *map)
{
	bool bounced = map->flags & DMA_PHYS_BOUNCED;
	bool by_addr = map->route == DMA_PHYS_IOMMU ||
		       map->route == DMA_PHYS_OPS;
	int err;

	if (map->route == DMA_PHYS_BOUNCE) {
		err = catch_up(vec);
		if (err)
			return err;
	}
	return add_piece(vec, by_addr ? map->addr : map->undo,
			 map->size | (bounced ? PIECE_BOUNCED : 0));
}

static int add_part(struct dma_phys_vec *vec,
		    const struct dma_phys_limits *limits,
		    struct dma_phys_map *map)
{
	int err = 0;

	if (recorded(vec, map))
		err = record(vec, map);
	if (err) {
		map->flags |= DMA_PHYS_MANUAL_SYNC;
		dma_phys_route_undo(map);
		return err;
	}

	/* A bounce anywhere is a bounce of the whole. */
	if (vec->route != DMA_PHYS_BOUNCE)
		vec->route = map->route;
	if (map->route == DMA_PHYS_IOMMU)
		vec->flags |= DMA_PHYS_APART;
	return add_segments(vec, limits, map->addr, map->size);
}

static int map_part(struct dma_phys_vec *vec,
		    const struct dma_phys_limits *limits, phys_addr_t addr,
		    size_t len, const struct dma_phys_way *way)
{
	struct dma_phys_map map = part(vec, len);
	int err;

	map.route = DMA_PHYS_NONE;
	err = way ? dma_phys_route_via(&map, addr, way) :
		    dma_phys_route_cpu(&map, addr);
	if (!err)
		return add_part(vec, limits, &map);

	/* For who watches: a vec that failed has the route that was tried. */
	if (vec->route == DMA_PHYS_NONE)
		vec->route = map.route;
	return err;
}

/* A run that is too large for one bounce slot takes several. */
static int map_run(struct dma_phys_vec *vec,
		   const struct dma_phys_limits *limits,
		   struct dma_phys_run run, const struct dma_phys_way *way)
{
	struct dma_phys_limits slot;
	u8 route = vec->route;
	int err;

	if (run.len & PIECE_BOUNCED)
		return -E2BIG;
	err = map_part(vec, limits, run.addr, run.len, way);
	if (err != -E2BIG || way)
		return err;

	slot = dma_phys_slot_limits(vec->dev);
	if (!slot.max || dma_phys_cut(&slot, run.addr, run.len) == run.len ||
	    dma_phys_most_segments(&slot, 0, run.len) > vec->room)
		return err;

	vec->route = route;
	do {
		size_t n = dma_phys_cut(&slot, run.addr, run.len);

		err = map_part(vec, limits, run.addr, n, way);
		run.addr += n;
		run.len -= n;
	} while (run.len && !err);
	return err;
}

static int map_runs(struct dma_phys_vec *vec, struct source src,
		    const struct dma_phys_limits *limits,
		    const struct dma_phys_way *way)
{
	struct dma_phys_run run;
	int err = 0;

	while (!err && source_run(&src, &run))
		err = map_run(vec, limits, run, way);
	if (err) {
		/* Nobody has seen the data: leave the ranges as they were. */
		vec->flags |= DMA_PHYS_MANUAL_SYNC;
		undo_pieces(vec);
	}
	return err;
}

/* Map: all runs at one IOVA. */

/*
 * All runs fill whole granules, but at the start of the first and the end. Runs
 * are ranges that follow each other: they need not be made to know that.
 */
static bool links(const struct dma_phys_map *map, struct source src)
{
	struct dma_phys_run range;
	phys_addr_t start, end;
	size_t mask;
	bool whole;

	if (!dma_phys_can_link(map, &mask, &whole) ||
	    !source_range(&src, &range))
		return false;

	start = range.addr;
	end = range.addr + range.len;
	while (source_range(&src, &range)) {
		if (range.addr != end && (end | range.addr) & mask)
			return false;
		end = range.addr + range.len;
	}
	return !whole || !((start | end) & mask);
}

static int link_runs(struct dma_phys_vec *vec, struct source src,
		     const struct dma_phys_limits *limits,
		     struct dma_phys_map *map)
{
	struct dma_phys_link link;
	struct dma_phys_run run;
	int err = 0;

	if (!source_run(&src, &run))
		return -EINVAL;
	vec->route = DMA_PHYS_IOMMU;
	err = dma_phys_link_start(map, run.addr, &link);
	if (err)
		return err;

	do {
		err = dma_phys_link_run(map, &link, run.addr, run.len);
		if (!err && dma_phys_route_records(map))
			err = add_piece(vec, run.addr, run.len);
	} while (!err && source_run(&src, &run));

	if (!err)
		err = add_segments(vec, limits, link.state.addr, map->size);
	if (!err)
		err = dma_phys_link_end(map, &link);
	if (err)
		dma_phys_link_undo(map, &link);
	return err;
}

/* Unmap. */

static bool undo_link(struct dma_phys_vec *vec)
{
	struct dma_phys_map map = part(vec, vec->size), one;

	map.addr = vec->segments[0].addr;
	map.undo = dma_phys_route_phys(&map);
	if (!map.undo)
		return false;
	if (vec->pieces && vec->kind == DMA_PHYS_CPU) {
		if (piece(vec, 0)->addr != map.undo)
			return false;
		if (!(vec->flags & DMA_PHYS_MANUAL_SYNC))
			for (size_t i = 0; i < vec->pieces; i++)
				if (part_of_piece(vec, piece(vec, i), &one))
					dma_phys_route_sync_for_cpu(&one, 0,
								    one.size);
	}
	/* The cache was seen to, for memory that is not one run. */
	map.flags |= DMA_PHYS_MANUAL_SYNC;
	if (vec->kind == DMA_PHYS_MMIO)
		map.undo = 0;
	return dma_phys_route_undo(&map);
}

static bool undo(struct dma_phys_vec *vec)
{
	if (vec->route == DMA_PHYS_IOMMU && !(vec->flags & DMA_PHYS_APART))
		return undo_link(vec);
	return undo_pieces(vec);
}

/* dma-debug knows a vec by its segments. */

static unsigned long attrs_of(const struct dma_phys_vec *vec)
{
	struct dma_phys_map map = part(vec, vec->size);

	return dma_phys_attrs(&map);
}

static phys_addr_t segment_phys(const struct dma_phys_vec *vec,
				const struct dma_phys_segment *segment,
				const struct dma_phys_way *way)
{
	struct dma_phys_map map = part(vec, segment->len);

	map.addr = segment->addr;
	switch (vec->route) {
	case DMA_PHYS_IOMMU:
		return dma_phys_route_phys(&map);
	case DMA_PHYS_BUS:
		return segment->addr - way->bus_offset;
	default:
		return dma_to_phys(vec->dev, segment->addr);
	}
}

static void tell_mapped(const struct dma_phys_vec *vec,
			const struct dma_phys_way *way)
{
	if (!IS_ENABLED(CONFIG_DMA_API_DEBUG))
		return;

	for (size_t i = 0; i < vec->count; i++) {
		struct dma_phys_segment *segment = &vec->segments[i];

		debug_dma_map_phys(vec->dev, segment_phys(vec, segment, way),
				   segment->len, vec->dir, segment->addr,
				   attrs_of(vec));
		debug_dma_mapping_error(vec->dev, segment->addr);
	}
}

static noinline void trace_mapped(const struct dma_phys_vec *vec, int err)
{
	trace_dma_phys_vec_map(vec, err);
}

static void tell_unmapped(const struct dma_phys_vec *vec)
{
	if (!IS_ENABLED(CONFIG_DMA_API_DEBUG))
		return;

	for (size_t i = 0; i < vec->count; i++)
		debug_dma_unmap_phys(vec->dev, vec->segments[i].addr,
				     vec->segments[i].len, vec->dir,
				     attrs_of(vec));
}

static void tell_kmsan(struct source src, enum dma_data_direction dir)
{
	struct dma_phys_run run;

	if (!IS_ENABLED(CONFIG_KMSAN))
		return;

	while (source_run(&src, &run))
		kmsan_handle_dma(run.addr, run.len, dir);
}

static phys_addr_t first_byte(struct source src)
{
	struct dma_phys_run run = {};

	source_run(&src, &run);
	return run.addr;
}

/* All that mapping is, once the ranges are known to be good. */
static int vec_map(struct dma_phys_vec *new, const struct source *src,
		   const struct dma_phys_way *way, struct dma_phys_vec *vec,
		   unsigned long caller)
{
	struct dma_phys_limits limits = limits_of(new->dev);
	struct dma_phys_map all = part(new, new->size);
	bool on_bus = way && way->route == DMA_PHYS_BUS;
	int err;

	if (!on_bus && links(&all, *src))
		err = link_runs(new, *src, &limits, &all);
	else
		err = map_runs(new, *src, &limits, way);

	trace_mapped(new, err);
	if (dma_phys_debug_on())
		dma_phys_debug_vec(new, first_byte(*src), err, caller);
	if (err)
		return err;
	if (new->kind == DMA_PHYS_CPU)
		tell_kmsan(*src, new->dir);
	tell_mapped(new, way);
	*vec = *new;
	return 0;
}

/* Ranges that are good, but to which there is no way. */
static int no_way(struct dma_phys_vec *new, int err)
{
	trace_mapped(new, err);
	if (dma_phys_debug_on())
		dma_phys_debug_vec(new, 0, err, 0);
	return err;
}

/* It maps nothing, and has storage. */
static __always_inline bool empty(const struct dma_phys_vec *vec)
{
	return likely(vec) && likely(!vec->dev) && likely(vec->segments) &&
	       likely(vec->room);
}

static int check(struct device *dev, enum dma_data_direction dir, u32 flags,
		 const struct dma_phys_vec *vec)
{
	return empty(vec) ? dma_phys_check(dev, dir, flags) : -EINVAL;
}

static struct dma_phys_vec vec_new(struct device *dev,
				   const struct dma_phys_vec *storage,
				   enum dma_phys_kind kind,
				   enum dma_data_direction dir, u32 flags)
{
	return (struct dma_phys_vec){
		.dev = dev,
		.segments = storage->segments,
		.room = storage->room,
		.kind = kind,
		.dir = dir,
		.flags = flags,
	};
}

/* Map: on a device that needs nothing, in one pass and with no pieces. */

static __always_inline bool plain(struct device *dev,
				  enum dma_data_direction dir, u32 flags,
				  const struct dma_phys_vec *vec)
{
	return empty(vec) && dma_phys_plain_use(dev, dir) &&
	       dma_phys_plain_flags(flags) && !use_dma_iommu(dev) &&
	       dma_phys_plain_device(dev) && likely(!dma_phys_plain_bus(dev));
}

static __always_inline struct dma_phys_tiles
tiles_of(const struct dma_phys_vec *vec, const struct dma_phys_limits *limits,
	 u64 end)
{
	return (struct dma_phys_tiles){
		.segments = vec->segments,
		.at = vec->segments,
		.stop = vec->segments + vec->room,
		.limits = limits,
		.easy = dma_phys_easy(limits),
		.end = end,
		.next = (u64)-1,
	};
}

/* The caller's vec, which is empty but for its storage, is one that maps. */
static __always_inline int plain_done(struct device *dev,
				      const struct dma_phys_tiles *tiles,
				      enum dma_data_direction dir, u32 flags,
				      struct dma_phys_vec *vec)
{
	vec->dev = dev;
	vec->count = tiles->at - tiles->segments;
	vec->size = tiles->size;
	vec->pieces = 0;
	vec->undo = 0;
	dma_phys_plain_tail(vec, dir, DMA_PHYS_DIRECT, flags | DMA_PHYS_PLAIN);
	if (trace_dma_phys_vec_map_enabled())
		trace_mapped(vec, 0);
	tell_mapped(vec, NULL);
	return 0;
}

/**
 * dma_phys_vec_room() - how much storage a vec may need
 * @dev: the device that is mapped for, with its limits set
 * @count: number of ranges; of a request blk_rq_nr_phys_segments()
 * @size: length of all ranges in bytes; of a request blk_rq_payload_bytes()
 *
 * Mapping may do with less, and fails with -ENOSPC where it does not.
 *
 * Context: Any.
 * Return: a number of struct dma_phys_segment that is always enough, SIZE_MAX
 * where there is no such number, 0 where @dev is NULL.
 */
size_t dma_phys_vec_room(struct device *dev, size_t count, size_t size)
{
	struct dma_phys_limits limits, slot;
	u64 pieces = count, segments;

	if (!dev)
		return 0;

	limits = limits_of(dev);
	slot = dma_phys_slot_limits(dev);
	if (is_swiotlb_active(dev) && slot.max)
		pieces = dma_phys_most_segments(&slot, count, size);
	segments = dma_phys_most_segments(&limits, pieces, size);
	return min_t(u64, size_add(segments, pieces), SIZE_MAX);
}
EXPORT_SYMBOL_GPL(dma_phys_vec_room);

static noinline int map_cpu_routed(struct device *dev,
				   const struct cpu_phys *ranges, size_t count,
				   enum dma_data_direction dir, u32 flags,
				   struct dma_phys_vec *vec,
				   unsigned long caller)
{
	struct source src = { .cpu = ranges, .left = count };
	struct dma_phys_vec new;
	int err;

	err = check(dev, dir, flags, vec);
	if (err)
		return err;
	if (!ranges || !count)
		return -EINVAL;

	new = vec_new(dev, vec, DMA_PHYS_CPU, dir, flags);
	for (size_t i = 0; i < count; i++)
		if (!dma_phys_range_ok(ranges[i].addr, ranges[i].len) ||
		    check_add_overflow(new.size, ranges[i].len, &new.size))
			return -EINVAL;

	return vec_map(&new, &src, NULL, vec, caller);
}

/**
 * dma_phys_vec_map_cpu() - let a device reach many ranges of memory
 * @dev: the device; its driver is bound and has set a DMA mask
 * @ranges: the memory, which must stay allocated until the vec is unmapped
 * @count: number of ranges
 * @dir: who writes: DMA_TO_DEVICE, DMA_FROM_DEVICE or DMA_BIDIRECTIONAL
 * @flags: 0 or DMA_PHYS_MANUAL_SYNC
 * @vec: an empty vec, with its storage
 *
 * On success the device finds all bytes, in the order of @ranges, in the
 * @vec->count segments at @vec->segments. Each segment obeys the device's
 * largest segment, segment boundary and alignment. @ranges is not needed
 * afterwards. On failure all that was done is undone.
 *
 * Context: Any. Does not sleep, and allocates what dma_phys_map_cpu() does.
 * Return:
 * * 0 - all ranges are mapped; on failure @vec stays empty
 * * -EINVAL - as of dma_phys_map_cpu(); and where there are no ranges, or @vec
 *   has no storage
 * * -ENOSPC - the storage is too small, see dma_phys_vec_room()
 * * others - as of dma_phys_map_cpu()
 */
int dma_phys_vec_map_cpu(struct device *dev, const struct cpu_phys *ranges,
			 size_t count, enum dma_data_direction dir, u32 flags,
			 struct dma_phys_vec *vec)
{
	struct dma_phys_limits limits;
	struct dma_phys_tiles tiles;

	if (unlikely(!ranges) || unlikely(!count) ||
	    unlikely(!plain(dev, dir, flags, vec)))
		return map_cpu_routed(dev, ranges, count, dir, flags, vec,
				      _RET_IP_);

	limits = limits_of(dev);
	tiles = tiles_of(vec, &limits, dma_phys_plain_end(dev));
	for (size_t i = 0; i < count; i++)
		if (unlikely(!dma_phys_tile(&tiles, ranges[i].addr,
					    ranges[i].len)))
			return map_cpu_routed(dev, ranges, count, dir, flags,
					      vec, _RET_IP_);

	tell_kmsan((struct source){ .cpu = ranges, .left = count }, dir);
	return plain_done(dev, &tiles, dir, flags, vec);
}
EXPORT_SYMBOL_GPL(dma_phys_vec_map_cpu);

/**
 * dma_phys_vec_map_mmio() - let a device reach many ranges of device memory
 * @dev: the device; its driver is bound and has set a DMA mask
 * @ranges: the device memory, all of one peer or all of none
 * @count: number of ranges
 * @dir: who writes: DMA_TO_DEVICE means that @dev reads the device memory
 * @flags: 0 or DMA_PHYS_MANUAL_SYNC, which changes nothing here
 * @vec: an empty vec, with its storage
 *
 * As dma_phys_vec_map_cpu() for memory, and as dma_phys_map_mmio() for each
 * range.
 *
 * Context: As dma_phys_map_mmio().
 * Return:
 * * 0 - all ranges are mapped; on failure @vec stays empty
 * * -EINVAL - as of dma_phys_map_mmio(); and where there are no ranges, @vec has
 *   no storage, or the ranges belong to different peers
 * * -ENOSPC - the storage is too small, see dma_phys_vec_room()
 * * others - as of dma_phys_map_mmio()
 */
int dma_phys_vec_map_mmio(struct device *dev, const struct mmio_phys *ranges,
			  size_t count, enum dma_data_direction dir, u32 flags,
			  struct dma_phys_vec *vec)
{
	struct source src = { .mmio = ranges, .left = count };
	struct dma_phys_peer *peer = NULL;
	struct dma_phys_way way = {};
	struct dma_phys_vec new;
	int err;

	err = check(dev, dir, flags, vec);
	if (err)
		return err;
	if (!ranges || !count)
		return -EINVAL;

	new = vec_new(dev, vec, DMA_PHYS_MMIO, dir, flags);
	for (size_t i = 0; i < count; i++)
		if (ranges[i].peer != ranges[0].peer ||
		    !dma_phys_range_ok(ranges[i].addr, ranges[i].len) ||
		    check_add_overflow(new.size, ranges[i].len, &new.size))
			return -EINVAL;

	if (ranges[0].peer) {
		peer = dma_phys_peer_get(ranges[0].peer);
		err = peer ? dma_phys_peer_way(peer, dev, &way) : -ENODEV;
	}

	new.undo = (uintptr_t)peer;
	err = err ? no_way(&new, err) :
		    vec_map(&new, &src, &way, vec, _RET_IP_);
	if (err && peer)
		dma_phys_peer_put(peer);
	return err;
}
EXPORT_SYMBOL_GPL(dma_phys_vec_map_mmio);

#ifdef CONFIG_BLOCK
/* All pages of a request are memory, or all are one peer's. */
static int request_kind(struct device *dev, struct source src,
			struct dma_phys_vec *new, struct dma_phys_way *way)
{
	struct dev_pagemap *pagemap = NULL;
	struct page *page = NULL;
	struct bio_vec bv;

	while (source_bvec(&src, &bv)) {
		bool p2p = is_pci_p2pdma_page(bv.bv_page);
		struct dev_pagemap *its = p2p ? page_pgmap(bv.bv_page) : NULL;

		if (page && its != pagemap)
			return -EINVAL;
		page = bv.bv_page;
		pagemap = its;
		if (!bv.bv_len ||
		    check_add_overflow(new->size, (size_t)bv.bv_len,
				       &new->size))
			return -EINVAL;
	}
	if (!page)
		return -EINVAL;
	if (!pagemap)
		return 0;

	new->kind = DMA_PHYS_MMIO;
	return dma_phys_page_way(page, dev, way);
}

static int map_block(struct device *dev, struct request *rq, u32 flags,
		     const struct source *src, struct dma_phys_vec *vec,
		     unsigned long caller)
{
	struct dma_phys_way way = {};
	struct dma_phys_vec new;
	int err;

	err = check(dev, rq_dma_dir(rq), flags, vec);
	if (err)
		return err;

	new = vec_new(dev, vec, DMA_PHYS_CPU, rq_dma_dir(rq), flags);
	err = request_kind(dev, *src, &new, &way);
	return err ? no_way(&new, err) :
		     vec_map(&new, src,
			     new.kind == DMA_PHYS_MMIO ? &way : NULL, vec,
			     caller);
}

static noinline int map_request_routed(struct device *dev, struct request *rq,
				       u32 flags, struct dma_phys_vec *vec,
				       unsigned long caller)
{
	struct source src = {};

	if (rq->rq_flags & RQF_SPECIAL_PAYLOAD) {
		src.bvecs = &rq->special_vec;
		src.iter.bi_size = rq->special_vec.bv_len;
	} else if (rq->bio && bio_has_data(rq->bio)) {
		source_bio(&src, rq->bio);
	} else {
		return -EINVAL;
	}
	return map_block(dev, rq, flags, &src, vec, caller);
}

/* As the bios lie there: most requests have one, with one vector. */
static __always_inline bool tile_request(struct dma_phys_tiles *tiles,
					 const struct request *rq)
{
	struct bvec_iter iter;
	struct bio_vec bv;
	struct bio *bio;

	/* Of other operations the bios may have a size, and no vectors. */
	if (unlikely(req_op(rq) != REQ_OP_READ && req_op(rq) != REQ_OP_WRITE) ||
	    unlikely(rq->rq_flags & RQF_SPECIAL_PAYLOAD))
		return false;
	__rq_for_each_bio(bio, rq)
		for_each_mp_bvec(bv, bio->bi_io_vec, iter, bio->bi_iter) {
			phys_addr_t addr = bvec_phys(&bv);

			if (unlikely(is_pci_p2pdma_page(bv.bv_page)) ||
			    unlikely(!dma_phys_tile(tiles, addr, bv.bv_len)))
				return false;
			kmsan_handle_dma(addr, bv.bv_len, rq_dma_dir(rq));
		}
	return tiles->size;
}

/**
 * dma_phys_vec_map_request() - let a device reach the data of a block request
 * @dev: the device; its driver is bound and has set a DMA mask
 * @rq: the request; it holds its pages until it is completed
 * @flags: 0 or DMA_PHYS_MANUAL_SYNC
 * @vec: an empty vec, with its storage
 *
 * Maps what the request's bio vectors, or its special payload, name, in the
 * direction of the request. Pages of another device's memory are mapped as
 * such, where all pages of the request belong to one.
 *
 * Context: Any for memory, as dma_phys_map_mmio() for that of a device.
 * Return:
 * * 0 - the data is mapped; on failure @vec stays empty
 * * -EINVAL - as of dma_phys_vec_map_cpu(); and where the request has no data, or
 *   its pages are not all memory, or all of one other device
 * * others - as of dma_phys_vec_map_cpu() or, for device memory,
 *   dma_phys_vec_map_mmio()
 */
int dma_phys_vec_map_request(struct device *dev, struct request *rq, u32 flags,
			     struct dma_phys_vec *vec)
{
	struct dma_phys_limits limits;
	struct dma_phys_tiles tiles;

	if (!rq)
		return -EINVAL;
	if (unlikely(!plain(dev, rq_dma_dir(rq), flags, vec)))
		return map_request_routed(dev, rq, flags, vec, _RET_IP_);

	limits = limits_of(dev);
	tiles = tiles_of(vec, &limits, dma_phys_plain_end(dev));
	if (unlikely(!tile_request(&tiles, rq)))
		return map_request_routed(dev, rq, flags, vec, _RET_IP_);

	return plain_done(dev, &tiles, rq_dma_dir(rq), flags, vec);
}
EXPORT_SYMBOL_GPL(dma_phys_vec_map_request);

/**
 * dma_phys_vec_map_integrity() - let a device reach a request's integrity data
 * @dev: the device; its driver is bound and has set a DMA mask
 * @rq: the request; it holds its integrity data until it is completed
 * @flags: 0 or DMA_PHYS_MANUAL_SYNC
 * @vec: an empty vec, with its storage
 *
 * As dma_phys_vec_map_request(), for the integrity data.
 *
 * Context: As dma_phys_vec_map_request().
 * Return: as dma_phys_vec_map_request(), -EINVAL where there is no such data.
 */
int dma_phys_vec_map_integrity(struct device *dev, struct request *rq,
			       u32 flags, struct dma_phys_vec *vec)
{
	struct source src = { .integrity = true };

	if (!rq || !rq->bio || !blk_integrity_rq(rq) || !bio_integrity(rq->bio))
		return -EINVAL;
	source_bio(&src, rq->bio);
	return map_block(dev, rq, flags, &src, vec, _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_vec_map_integrity);
#endif /* CONFIG_BLOCK */

static bool has(const struct dma_phys_vec *vec, size_t offset, size_t len)
{
	return vec && vec->dev && len &&
	       dma_phys_within(offset, len, vec->size);
}

/* Sync the pieces that [@offset, @offset + @len) of the vec lies in. */
static int sync(const struct dma_phys_vec *vec, size_t offset, size_t len,
		bool for_cpu)
{
	struct dma_phys_map map;
	size_t at = 0;

	if (!has(vec, offset, len))
		return -EINVAL;
	if (vec->kind == DMA_PHYS_MMIO)
		return 0;

	for (size_t i = 0; i < vec->pieces && len; i++) {
		size_t size = piece(vec, i)->len & ~PIECE_BOUNCED;
		size_t skip = offset - at, n;

		at += size;
		if (at <= offset)
			continue;
		n = min(len, size - skip);
		if (part_of_piece(vec, piece(vec, i), &map)) {
			if (for_cpu)
				dma_phys_route_sync_for_cpu(&map, skip, n);
			else
				dma_phys_route_sync_for_device(&map, skip, n);
		}
		offset += n;
		len -= n;
	}
	return 0;
}

/**
 * dma_phys_vec_sync_for_cpu() - give part of a vec back to the CPU
 * @vec: the vec
 * @offset: bytes from the start of the first range
 * @len: length in bytes
 *
 * As dma_phys_sync_for_cpu(), for bytes that may lie in several ranges.
 *
 * Context: Any.
 * Return: 0, or -EINVAL where @vec is empty, or @len is 0 or leaves it.
 */
int dma_phys_vec_sync_for_cpu(struct dma_phys_vec *vec, size_t offset,
			      size_t len)
{
	return sync(vec, offset, len, true);
}
EXPORT_SYMBOL_GPL(dma_phys_vec_sync_for_cpu);

/**
 * dma_phys_vec_sync_for_device() - give part of a vec to the device again
 * @vec: the vec
 * @offset: bytes from the start of the first range
 * @len: length in bytes
 *
 * As dma_phys_sync_for_device(), for bytes that may lie in several ranges.
 *
 * Context: Any.
 * Return: 0, or -EINVAL where @vec is empty, or @len is 0 or leaves it.
 */
int dma_phys_vec_sync_for_device(struct dma_phys_vec *vec, size_t offset,
				 size_t len)
{
	return sync(vec, offset, len, false);
}
EXPORT_SYMBOL_GPL(dma_phys_vec_sync_for_device);

static __always_inline void clear(struct dma_phys_vec *vec)
{
	*vec = (struct dma_phys_vec){
		.segments = vec->segments,
		.room = vec->room,
	};
}

static noinline void unmap_told(struct dma_phys_vec *vec, unsigned long caller)
{
	bool undone;

	if (dma_phys_debug_unmap(vec->id, caller)) {
		undone = vec->flags & DMA_PHYS_PLAIN || undo(vec);
		if (undone)
			tell_unmapped(vec);
		trace_dma_phys_vec_unmap(vec, undone ? 0 : -ENODEV);
		if (vec->undo)
			dma_phys_peer_put((void *)(uintptr_t)vec->undo);
		dma_phys_debug_unmapped(vec->id, undone);
	}
	clear(vec);
}

/**
 * dma_phys_vec_unmap() - undo a vec
 * @vec: the vec; empty afterwards, with its storage
 *
 * As dma_phys_unmap(), for all ranges.
 *
 * Context: Any.
 */
void dma_phys_vec_unmap(struct dma_phys_vec *vec)
{
	if (unlikely(!vec) || unlikely(!vec->dev))
		return;

	if (likely(vec->flags & DMA_PHYS_PLAIN) &&
	    !IS_ENABLED(CONFIG_DMA_API_DEBUG) &&
	    !trace_dma_phys_vec_unmap_enabled())
		clear(vec);
	else
		unmap_told(vec, _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_vec_unmap);

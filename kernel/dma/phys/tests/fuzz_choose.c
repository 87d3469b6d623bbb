// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer chooses the arguments of a call that maps.
 */
#include <linux/dma-map-ops.h>

#include "fuzz.h"

static bool fuzz_may_mix(const struct fuzz_call *call)
{
	return call->op == FUZZ_SG_MAP_RANGES || call->op == FUZZ_SG_ITERATE ||
	       call->op == FUZZ_SG_STOP;
}

/* Ranges of one area, which do not overlap. */
struct fuzz_layout {
	enum { FUZZ_ADJACENT, FUZZ_PAGES, FUZZ_SCATTERED, FUZZ_LAYOUTS } style;
	size_t cell;
	size_t count;
	size_t first;
	size_t at;
};

static struct fuzz_layout fuzz_choose_layout(struct fuzz *fuzz,
					     const struct fuzz_area *area,
					     size_t count)
{
	struct fuzz_layout layout = {
		.style = fuzz_below(fuzz, FUZZ_LAYOUTS),
		.count = count,
		.cell = area->len / count,
		.first = fuzz_below(fuzz, FUZZ_RANGES),
		.at = fuzz_below(fuzz, 256),
	};

	if (layout.style == FUZZ_PAGES && layout.cell < PAGE_SIZE)
		layout.style = FUZZ_SCATTERED;
	if (layout.style == FUZZ_PAGES)
		layout.cell = round_down(layout.cell, PAGE_SIZE);
	return layout;
}

static void fuzz_choose_part(struct fuzz *fuzz, struct fuzz_layout *layout,
			     size_t i, size_t *offset, size_t *len)
{
	*offset = (layout->first + i) % layout->count * layout->cell;
	switch (layout->style) {
	case FUZZ_ADJACENT:
		*offset = layout->at;
		*len = 1 + fuzz_below(fuzz, layout->cell - 256);
		layout->at += *len;
		break;
	case FUZZ_PAGES:
		*len = PAGE_SIZE *
		       (1 + fuzz_below(fuzz, layout->cell / PAGE_SIZE));
		break;
	default:
		*len = fuzz_below(fuzz, layout->cell);
		*offset += *len;
		*len = 1 + fuzz_below(fuzz, layout->cell - *len);
	}
}

/* Ranges of @area for all ranges of its kind. */
static void fuzz_choose_parts(struct fuzz *fuzz, struct fuzz_call *call,
			      struct fuzz_area *area)
{
	u8 kind = area->mem ? DMA_PHYS_CPU : DMA_PHYS_MMIO;
	size_t count = 0, n = 0, offset, len;
	struct fuzz_layout layout;

	for (size_t i = 0; i < call->count; i++)
		count += call->ranges[i].kind == kind;
	if (!count)
		return;
	layout = fuzz_choose_layout(fuzz, area, count);

	for (size_t i = 0; i < call->count; i++) {
		if (call->ranges[i].kind != kind)
			continue;
		fuzz_choose_part(fuzz, &layout, n++, &offset, &len);
		if (kind == DMA_PHYS_CPU)
			fuzz_make_cpu(fuzz, area, offset, len,
				      &call->ranges[i]);
		else
			fuzz_make_mmio(fuzz, call->peer, area, offset, len,
				       &call->ranges[i]);
		call->areas[i] = area;
	}
}

/* Device memory that is not accessed: registers of edu, or nothing at all. */
static void fuzz_choose_untouched(struct fuzz *fuzz, struct fuzz_call *call)
{
	struct fuzz_peer *edu = &fuzz->peer[FUZZ_EDU];

	for (size_t i = 0; i < call->count; i++) {
		u64 at = (2 * i + 1) * SZ_64K + fuzz_below(fuzz, PAGE_SIZE);
		size_t len = 1 + fuzz_below(fuzz, SZ_16K);
		struct mmio_phys mmio = { BIT_ULL(39) + at, len, 0 };

		if (call->ranges[i].kind != DMA_PHYS_MMIO)
			continue;
		if (call->peer)
			fuzz_try_bar(fuzz, edu->owner, edu->bar, at % SZ_512K,
				     len, &mmio);
		call->ranges[i].addr = mmio.addr;
		call->ranges[i].len = mmio.len;
		call->ranges[i].peer = mmio.peer;
	}
}

static struct dma_phys_range *fuzz_first_mmio(struct fuzz_call *call)
{
	for (size_t i = 0; i < call->count; i++)
		if (call->ranges[i].kind == DMA_PHYS_MMIO)
			return &call->ranges[i];
	return NULL;
}

static void fuzz_set_peer(struct fuzz_call *call, u32 id)
{
	call->peer = NULL;
	for (size_t i = 0; i < call->count; i++)
		if (call->ranges[i].kind == DMA_PHYS_MMIO)
			call->ranges[i].peer = id;
}

static void fuzz_choose_mmio(struct fuzz *fuzz, struct fuzz_call *call,
			     struct fuzz_handle *handle)
{
	bool of_edu = fuzz_one_in(fuzz, 4) && !fuzz_may_mix(call);
	struct fuzz_peer *peer = &fuzz->peer[of_edu ? FUZZ_EDU : FUZZ_IVSHMEM];
	struct dma_phys_range *first = fuzz_first_mmio(call);

	if (!first)
		return;
	call->peer = peer->shared && fuzz_one_in(fuzz, 2) ? peer : NULL;
	if (of_edu)
		fuzz_choose_untouched(fuzz, call);
	else
		fuzz_choose_parts(fuzz, call, &handle->own[DMA_PHYS_MMIO]);

	/* One range of no peer; all of a peer that never was, or is gone. */
	if (fuzz_one_in(fuzz, 12))
		first->peer = 0;
	else if (fuzz_one_in(fuzz, 12))
		fuzz_set_peer(call, peer->id + 1000);
	else if (!peer->shared && fuzz_one_in(fuzz, 2))
		fuzz_set_peer(call, peer->id);
	if (!first->peer)
		call->peer = NULL;
}

/* Make one range invalid, or longer than anything that exists. */
static void fuzz_spoil_range(struct fuzz *fuzz, struct fuzz_call *call)
{
	struct dma_phys_range *range = &call->ranges[fuzz_below(fuzz,
								call->count)];
	bool iommu = call->dev && call->dev->iommu;

	memset(call->areas, 0, sizeof(call->areas));
	switch (fuzz_below(fuzz, 4)) {
	case 0:
		range->len = 0;
		break;
	case 1:
		range->len = U64_MAX - range->addr + 2 + fuzz_below(fuzz, 100);
		break;
	case 2:
		/* Without an IOMMU 0 is an address like any other. */
		if (iommu)
			range->addr = 0;
		else
			range->len = 0;
		break;
	default:
		range->len = 1ULL << (fuzz_one_in(fuzz, 2) ? 43 :
				      32 + fuzz_below(fuzz, 11));
		/* dma-debug confuses maps at the same address. */
		range->addr = (1ULL << 44) +
			      (fuzz_below(fuzz, SZ_16M) << PAGE_SHIFT);
		/* No IOVA: the page tables of less would take all memory. */
		if (iommu)
			range->len = 1ULL << 63;
		/* The kernel would clean its cache lines, which takes hours. */
		else if (range->kind == DMA_PHYS_CPU && call->dev &&
			 call->dev->dev && !dev_is_dma_coherent(call->dev->dev))
			range->len = 0;
		if (valid_dma_direction(call->dir))
			call->dir = DMA_TO_DEVICE;
	}
}

/* An iterator needs storage for all segments, of what may be 1 MiB. */
static bool fuzz_may_be_long(const struct fuzz_call *call)
{
	const struct fuzz_dev *dev = call->dev;

	return (!fuzz_is_source(call->op) && !fuzz_is_request(call->op)) ||
	       (dev && dev->limits.max >= SZ_16K &&
		dev->limits.boundary >= SZ_16K - 1);
}

static void fuzz_choose_ranges(struct fuzz *fuzz, struct fuzz_call *call,
			       struct fuzz_handle *handle)
{
	bool mmio = call->op == FUZZ_MAP_MMIO || call->op == FUZZ_SG_MAP_MMIO;

	call->count = handle->is_sg ? 1 + fuzz_below(fuzz, FUZZ_RANGES) : 1;
	for (size_t i = 0; i < call->count; i++)
		call->ranges[i].kind = fuzz_may_mix(call) ?
				       fuzz_one_in(fuzz, 3) : mmio;
	fuzz_choose_mmio(fuzz, call, handle);
	if (!fuzz_first_mmio(call) && valid_dma_direction(call->dir) &&
	    fuzz_may_be_long(call) && fuzz_one_in(fuzz, 24)) {
		call->dir = DMA_TO_DEVICE;
		fuzz_choose_parts(fuzz, call, &fuzz->shared);
	} else {
		fuzz_choose_parts(fuzz, call, &handle->own[DMA_PHYS_CPU]);
	}

	/*
	 * What is wrong in a source is found when it is reached, if ever. The
	 * block layer makes no such requests.
	 */
	if (fuzz_one_in(fuzz, 16) && !fuzz_is_source(call->op) &&
	    !fuzz_is_request(call->op))
		fuzz_spoil_range(fuzz, call);
	if (fuzz_one_in(fuzz, 64))
		call->no_ranges = true;
	if (handle->is_sg && fuzz_one_in(fuzz, 64))
		call->count = 0;
	call->max_ranges = call->count;
}

static enum fuzz_op fuzz_choose_op(struct fuzz *fuzz, bool is_sg)
{
	static const enum fuzz_op maps[] = {
		FUZZ_MAP_CPU, FUZZ_MAP_CPU, FUZZ_MAP_MMIO,
	};
	static const enum fuzz_op lists[] = {
		FUZZ_SG_MAP_CPU, FUZZ_SG_MAP_CPU, FUZZ_SG_MAP_MMIO,
		FUZZ_SG_MAP_RANGES, FUZZ_SG_ITERATE, FUZZ_SG_STOP,
	};
	static const enum fuzz_op requests[] = {
		FUZZ_RQ_MAP, FUZZ_RQ_MAP, FUZZ_RQ_ITERATE, FUZZ_RQ_STOP,
	};

	if (IS_ENABLED(CONFIG_BLOCK) && is_sg && fuzz_one_in(fuzz, 4))
		return fuzz_any(fuzz, requests);
	return is_sg ? fuzz_any(fuzz, lists) : fuzz_any(fuzz, maps);
}

/* The capacity that is always enough, or one that may not be. */
static void fuzz_choose_capacity(struct fuzz *fuzz, struct fuzz_call *call)
{
	size_t size = fuzz_size(call), max;

	call->max_segments = FUZZ_SEGMENTS;
	if (!call->dev || !fuzz_one_in(fuzz, 4))
		return;
	max = dma_phys_sg_max_segments(call->dev->dev, call->max_ranges, size);
	fuzz_done(fuzz, FUZZ_SG_MAX_SEGMENTS,
		  size && max < call->max_ranges ? -EINVAL : 0, FUZZ_OK);
	call->max_segments = fuzz_below(fuzz, 8);
	if (fuzz_one_in(fuzz, 2) && max <= FUZZ_SEGMENTS)
		call->max_segments = max;
}

static void fuzz_choose_limits(struct fuzz *fuzz, struct fuzz_call *call)
{
	u64 least;

	/* The segments have to fit in the storage, whatever they are split by. */
	least = roundup_pow_of_two(fuzz_size(call) / (FUZZ_SEGMENTS / 4) + 1);
	if (fuzz_one_in(fuzz, 2))
		call->limits.max = max(SZ_512, least) + fuzz_below(fuzz, SZ_8K);
	if (fuzz_one_in(fuzz, 2))
		call->limits.boundary = max(SZ_1K, least) *
					BIT(fuzz_below(fuzz, 5)) - 1;
	if (fuzz_one_in(fuzz, 4))
		call->limits.align = BIT(fuzz_below(fuzz, 13)) - 1;
}

void fuzz_choose_call(struct fuzz *fuzz, struct fuzz_call *call,
		      struct fuzz_handle *handle)
{
	static const int dirs[] = {
		DMA_BIDIRECTIONAL, DMA_TO_DEVICE, DMA_FROM_DEVICE,
	};
	static const int bad_dirs[] = {
		DMA_NONE, -1, 4, 255, 256, 257, INT_MAX, INT_MIN,
	};

	*call = (struct fuzz_call){
		.op = fuzz_choose_op(fuzz, handle->is_sg),
		.dev = fuzz_any_dev(fuzz),
		.dir = fuzz_any(fuzz, dirs),
		.flags = fuzz_one_in(fuzz, 3) ? DMA_PHYS_SKIP_CPU_SYNC : 0,
		.live = handle->dev,
	};
	if (fuzz_one_in(fuzz, 32))
		call->dev = fuzz_one_in(fuzz, 4) ? NULL :
						   &fuzz->dev[FUZZ_NO_MASK];
	if (fuzz_one_in(fuzz, 32))
		call->dir = fuzz_any(fuzz, bad_dirs);
	if (fuzz_is_request(call->op))
		call->dir = fuzz_one_in(fuzz, 2) ? DMA_TO_DEVICE :
						   DMA_FROM_DEVICE;
	if (fuzz_one_in(fuzz, 32))
		call->flags = fuzz_one_in(fuzz, 2) ?
			      BIT(1 + fuzz_below(fuzz, 31)) :
			      fuzz_random(fuzz);
	call->no_handle = fuzz_one_in(fuzz, 64);
	fuzz_choose_ranges(fuzz, call, handle);
	if (fuzz_is_request(call->op))
		fuzz_choose_request(fuzz, call);
	if (call->op == FUZZ_SG_STOP || call->op == FUZZ_RQ_STOP)
		call->stop = 1 + fuzz_below(fuzz, 4);
	if (fuzz_is_source(call->op))
		fuzz_choose_limits(fuzz, call);
	else if (fuzz_has_array(call->op))
		fuzz_choose_capacity(fuzz, call);
}

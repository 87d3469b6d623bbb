// SPDX-License-Identifier: GPL-2.0
/*
 * The model of the fuzzer: which results of a call are right, from what is known
 * of the device. Of several faults any one may be returned. If success is not
 * certain, the set contains FUZZ_OK and errors.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/minmax.h>
#include <linux/pci-p2pdma.h>
#include <linux/swiotlb.h>

#include "fuzz.h"

/* ---- Ranges ---- */

static bool fuzz_range_ok(u64 addr, u64 len)
{
	return len && len - 1 <= U64_MAX - addr;
}

/* Bytes of [@addr, @last] that are System RAM. */
static u64 fuzz_ram_bytes(const struct fuzz *fuzz, u64 addr, u64 last)
{
	u64 bytes = 0;

	for (unsigned int i = 0; i < fuzz->ram_count; i++) {
		u64 first_common = max(addr, fuzz->rams[i].start);
		u64 last_common = min(last, fuzz->rams[i].end);

		if (first_common <= last_common)
			bytes += last_common - first_common + 1;
	}
	return bytes;
}

u32 fuzz_expect_cpu(const struct fuzz *fuzz, phys_addr_t addr, u64 len)
{
	u64 start = round_down(addr, PAGE_SIZE), last;

	if (!fuzz_range_ok(addr, len))
		return FUZZ_EINVAL;
	/* A page that is partly RAM has no place in the linear map. */
	last = (addr + len - 1) | (PAGE_SIZE - 1);
	return last != U64_MAX &&
	       fuzz_ram_bytes(fuzz, start, last) == last - start + 1 ?
	       FUZZ_OK : FUZZ_EINVAL;
}

u32 fuzz_expect_mmio(const struct fuzz *fuzz, u64 start, u64 last_offset,
		     u64 offset, u64 len)
{
	if (!len || offset > last_offset || len - 1 > last_offset - offset)
		return FUZZ_EINVAL;
	return fuzz_ram_bytes(fuzz, start + offset, start + offset + len - 1) ?
	       FUZZ_EINVAL : FUZZ_OK;
}

/* ---- Sets of results ---- */

/* Both must succeed; the errors of either are right. */
static u32 fuzz_both(u32 a, u32 b)
{
	u32 all = a | b;

	return a & b & FUZZ_OK ? all : all & ~FUZZ_OK;
}

/* It fails with one of these errors, or succeeds if there is none. */
static u32 fuzz_unless(u32 faults)
{
	return faults ?: FUZZ_OK;
}

/* ---- Peers ---- */

static const struct dma_phys_range *
fuzz_first_of_peer(const struct fuzz_call *call)
{
	for (size_t i = 0; i < call->count; i++)
		if (call->ranges[i].kind == DMA_PHYS_MMIO &&
		    call->ranges[i].peer)
			return &call->ranges[i];
	return NULL;
}

static const struct fuzz_peer *fuzz_find_shared(const struct fuzz *fuzz, u32 id)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(fuzz->peer); i++)
		if (fuzz->peer[i].shared && fuzz->peer[i].id == id)
			return &fuzz->peer[i];
	return NULL;
}

/* How the device reaches the peer of a call, if it has one: see the PCI core. */
static u32 fuzz_expect_peer(const struct fuzz *fuzz,
			    const struct fuzz_call *call, bool *bus,
			    u64 *bus_offset)
{
	const struct dma_phys_range *range = fuzz_first_of_peer(call);
	struct p2pdma_provider *provider;
	const struct fuzz_peer *peer;

	*bus = false;
	*bus_offset = 0;
	if (!range)
		return FUZZ_OK;
	peer = fuzz_find_shared(fuzz, range->peer);
	if (!peer)
		return fuzz_bit(-ENODEV);
	provider = pcim_p2pdma_provider(peer->owner, peer->bar);
	switch (pci_p2pdma_map_type(provider, call->dev->dev)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		*bus = true;
		*bus_offset = pci_p2pdma_bus_addr_map(provider, 0);
		break;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		break;
	default:
		return fuzz_bit(-EREMOTEIO) |
		       (peer->suspended ? fuzz_bit(-EAGAIN) : 0);
	}
	return fuzz_unless(peer->suspended ? fuzz_bit(-EAGAIN) : 0);
}

/* ---- Runs ---- */

static bool fuzz_reached(const struct fuzz_dev *dev, u64 addr, u64 len)
{
	return fuzz_range_ok(addr, len) && addr + (len - 1) <= dev->reach;
}

static bool fuzz_is_partial(const struct fuzz_dev *dev,
			    const struct fuzz_run *run)
{
	return (run->phys | run->len) & (dev->granule - 1);
}

static enum fuzz_bounce fuzz_run_bounces(const struct fuzz_dev *dev,
					 const struct fuzz_run *run,
					 enum dma_data_direction dir)
{
	/* The device is not coherent, and the run may share cache lines. */
	bool shares = dma_kmalloc_needs_bounce(dev->dev, run->len, dir);

	if (run->kind == DMA_PHYS_MMIO)
		return FUZZ_NEVER_BOUNCES;
	if (dev->iommu)
		return (dev->untrusted || shares) && fuzz_is_partial(dev, run) ?
		       FUZZ_MAY_BOUNCE : FUZZ_NEVER_BOUNCES;
	if (dev->forced || shares)
		return FUZZ_BOUNCES;
	return fuzz_reached(dev, phys_to_dma(dev->dev, run->phys), run->len) ?
	       FUZZ_NEVER_BOUNCES : FUZZ_MAY_BOUNCE;
}

/* Adjacent ranges are not merged, as a short one may have to bounce. */
static bool fuzz_keeps_short(const struct fuzz_call *call)
{
	size_t min_len = SIZE_MAX;

	/* The block layer merges them as well. */
	if (fuzz_is_request(call->op) ||
	    dma_kmalloc_safe(call->dev->dev, call->dir))
		return false;
	for (size_t i = 0; i < call->count; i++)
		if (call->ranges[i].kind == DMA_PHYS_CPU)
			min_len = min(min_len, call->ranges[i].len);
	if (min_len == SIZE_MAX)
		return false;
	/* A source does not say how short its ranges are. */
	return fuzz_is_source(call->op) || min_len < 2 * ARCH_DMA_MINALIGN;
}

size_t fuzz_make_runs(const struct fuzz *fuzz, const struct fuzz_call *call,
		      struct fuzz_run *runs, u64 *bus_offset)
{
	bool bus, apart = fuzz_keeps_short(call);
	size_t n = 0;

	fuzz_expect_peer(fuzz, call, &bus, bus_offset);
	for (size_t i = 0; i < call->count; i++) {
		const struct dma_phys_range *range = &call->ranges[i];
		struct fuzz_run *last = n ? &runs[n - 1] : NULL;

		if (last && !apart && range->addr &&
		    last->phys + last->len == range->addr &&
		    last->kind == range->kind && last->raw == range->raw) {
			last->len += range->len;
			continue;
		}
		runs[n++] = (struct fuzz_run){
			.phys = range->addr,
			.len = range->len,
			.kind = range->kind,
			.raw = range->raw,
			.bus = bus && range->kind == DMA_PHYS_MMIO,
			.area = call->areas[i],
		};
	}
	for (size_t i = 0; i < n; i++)
		runs[i].bounce = fuzz_run_bounces(call->dev, &runs[i],
						  call->dir);
	return n;
}

size_t fuzz_size(const struct fuzz_call *call)
{
	size_t size = 0;

	for (size_t i = 0; i < call->count; i++)
		size += call->ranges[i].len;
	return size;
}

/* ---- Bounce buffers ---- */

/* Address bits that the first slot has in common with the range. */
static u64 fuzz_kept_bits(const struct fuzz_dev *dev)
{
	return dev->limits.align & ~((dev->granule - 1) | (IO_TLB_SIZE - 1));
}

/*
 * An alignment beyond a group of slots, or beyond the segment boundary. Whether
 * slots are found depends on their addresses and on what else is mapped.
 */
static bool fuzz_align_is_excessive(const struct fuzz_dev *dev)
{
	u64 kept = fuzz_kept_bits(dev);

	return kept >= FUZZ_BOUNCE || kept & ~dev->limits.boundary;
}

static u32 fuzz_expect_anything(void)
{
	return FUZZ_OK | fuzz_bit(-E2BIG) | fuzz_bit(-EOPNOTSUPP) |
	       fuzz_bit(-EAGAIN);
}

/*
 * One bounce buffer: adjacent slots of 2 KiB in a group of 256 KiB, within the
 * segment boundary. Behind an IOMMU it consists of whole granules.
 */
static u32 fuzz_expect_one_buffer(const struct fuzz_dev *dev,
				  const struct fuzz_run *run)
{
	u64 kept = fuzz_kept_bits(dev), boundary = dev->limits.boundary;
	u64 offset = run->phys & dev->limits.align & ~kept;
	u64 bytes, slots, first, skipped;

	if (fuzz_align_is_excessive(dev))
		return run->len > FUZZ_BOUNCE ? fuzz_expect_anything() & ~FUZZ_OK :
						fuzz_expect_anything();
	if (run->len > FUZZ_BOUNCE)
		return fuzz_bit(-E2BIG);
	bytes = round_up(run->len + offset, dev->granule);
	slots = DIV_ROUND_UP_ULL(bytes, IO_TLB_SIZE);
	first = (run->phys & kept) / IO_TLB_SIZE;
	skipped = (run->phys - dev->pool_start) & kept;
	return skipped + bytes > FUZZ_BOUNCE ||
	       first + slots > boundary / IO_TLB_SIZE + 1 ?
	       fuzz_bit(-E2BIG) : FUZZ_OK;
}

/* A list is split into bounce buffers. */
static u32 fuzz_expect_buffers(const struct fuzz_dev *dev,
			       const struct fuzz_run *run)
{
	u64 align = dev->limits.align, boundary = dev->limits.boundary;

	if (run->len > dev->pool_end - dev->pool_start)
		return fuzz_bit(-E2BIG) | fuzz_bit(-ENOSPC);
	/* A granule does not fit. */
	if (dev->iommu && boundary < dev->granule - 1)
		return fuzz_bit(-E2BIG);
	if (fuzz_expect_one_buffer(dev, run) == FUZZ_OK)
		return FUZZ_OK;
	return align >= FUZZ_BOUNCE / 2 || align & ~boundary ?
	       fuzz_expect_anything() : FUZZ_OK;
}

static u32 fuzz_expect_bounce(const struct fuzz_dev *dev,
			      const struct fuzz_run *run, bool is_sg)
{
	u32 faults = 0;

	if (run->raw)
		faults |= fuzz_bit(-EOPNOTSUPP);
	if (!dev->pool_end)
		return faults | fuzz_bit(-ERANGE);
	if (!dev->iommu && dev->pool_start > dev->reach)
		faults |= fuzz_bit(-ERANGE);
	return fuzz_both(fuzz_unless(faults),
			 is_sg ? fuzz_expect_buffers(dev, run) :
				 fuzz_expect_one_buffer(dev, run));
}

/* ---- Routes ---- */

static u32 fuzz_expect_iommu(const struct fuzz_dev *dev,
			     const struct fuzz_run *run, bool is_sg)
{
	u32 faults = 0;

	if (!run->phys)
		faults |= FUZZ_EINVAL;
	if (run->raw && !dev_is_dma_coherent(dev->dev))
		faults |= fuzz_bit(-EOPNOTSUPP);
	if (dev->limits.align >= dev->granule)
		faults |= fuzz_bit(-EOPNOTSUPP);
	if (run->kind == DMA_PHYS_MMIO && dev->untrusted &&
	    fuzz_is_partial(dev, run))
		faults |= fuzz_bit(-EOPNOTSUPP);
	if (run->len > min3(dev->reach, dev->aperture, (u64)S64_MAX))
		faults |= fuzz_bit(-E2BIG);
	return run->bounce == FUZZ_NEVER_BOUNCES ? fuzz_unless(faults) :
	       fuzz_both(fuzz_unless(faults),
			 fuzz_expect_bounce(dev, run, is_sg));
}

static u32 fuzz_expect_direct(const struct fuzz_dev *dev,
			      const struct fuzz_run *run, bool is_sg)
{
	u32 faults = 0;

	if (run->raw && !dev_is_dma_coherent(dev->dev))
		faults |= fuzz_bit(-EOPNOTSUPP);
	if (run->bounce != FUZZ_NEVER_BOUNCES)
		return fuzz_both(fuzz_unless(faults),
				 fuzz_expect_bounce(dev, run, is_sg));
	if (run->kind == DMA_PHYS_CPU)
		return fuzz_unless(faults);
	if (dev->forced)
		faults |= fuzz_bit(-EOPNOTSUPP);
	if (!fuzz_reached(dev, phys_to_dma(dev->dev, run->phys), run->len))
		faults |= fuzz_bit(-ERANGE);
	return fuzz_unless(faults);
}

static u32 fuzz_expect_run(const struct fuzz_dev *dev,
			   const struct fuzz_run *run, u64 bus_offset,
			   bool is_sg)
{
	if (run->bus)
		return fuzz_reached(dev, run->phys + bus_offset, run->len) ?
		       FUZZ_OK : fuzz_bit(-ERANGE);
	return dev->iommu ? fuzz_expect_iommu(dev, run, is_sg) :
			    fuzz_expect_direct(dev, run, is_sg);
}

/* ---- Calls ---- */

static bool fuzz_is_list(enum fuzz_op op)
{
	return op != FUZZ_MAP_CPU && op != FUZZ_MAP_MMIO;
}

static bool fuzz_ranges_ok(const struct fuzz_call *call)
{
	const struct dma_phys_range *peer = fuzz_first_of_peer(call);
	u64 size = 0;

	if (call->no_ranges || !call->count)
		return false;
	for (size_t i = 0; i < call->count; i++) {
		const struct dma_phys_range *range = &call->ranges[i];

		if (!fuzz_range_ok(range->addr, range->len) ||
		    range->len > U64_MAX - size)
			return false;
		if (range->kind == DMA_PHYS_MMIO && peer &&
		    range->peer != peer->peer)
			return false;
		size += range->len;
	}
	return true;
}

static u32 fuzz_expect_arguments(const struct fuzz *fuzz,
				 const struct fuzz_call *call)
{
	bool invalid = !call->dev || !call->dev->pdev || call->no_handle ||
		       call->live || !fuzz_ranges_ok(call) ||
		       call->flags & ~DMA_PHYS_SKIP_CPU_SYNC ||
		       (fuzz_has_array(call->op) && !call->max_segments);

	if (!valid_dma_direction(call->dir) && fuzz->lie != FUZZ_LIE_ERRNO)
		invalid = true;
	return invalid ? FUZZ_EINVAL : FUZZ_OK;
}

struct dma_phys_limits fuzz_limits(const struct fuzz_call *call)
{
	struct dma_phys_limits limits = call->dev->limits;

	/* 0 in those of a source is no limit. */
	limits.max = min_not_zero(limits.max, call->limits.max);
	limits.boundary = min_not_zero(limits.boundary, call->limits.boundary);
	limits.align |= call->limits.align;
	return limits;
}

/* dma_phys_sg_max_segments() is always enough. */
static u32 fuzz_expect_capacity(const struct fuzz_call *call,
				const struct fuzz_run *runs, size_t count)
{
	struct fuzz_dev *dev = call->dev;
	size_t size = fuzz_size(call);
	u64 least = 0;

	if (!fuzz_has_array(call->op))
		return FUZZ_OK;
	for (size_t i = 0; i < count; i++)
		least += !dev->iommu && runs[i].bounce == FUZZ_NEVER_BOUNCES;
	least = max(least, DIV_ROUND_UP_ULL(size, fuzz_limits(call).max));
	if (call->max_segments < least)
		return fuzz_bit(-ENOSPC);
	if (call->max_segments < dma_phys_sg_max_segments(dev->dev,
							  call->max_ranges,
							  size))
		return FUZZ_OK | fuzz_bit(-ENOSPC);
	return FUZZ_OK;
}

u32 fuzz_expect_map(const struct fuzz *fuzz, const struct fuzz_call *call)
{
	u32 arguments = fuzz_expect_arguments(fuzz, call), peer, result = FUZZ_OK;
	struct fuzz_run runs[FUZZ_RANGES];
	u64 bus_offset;
	size_t count;
	bool bus;

	if (!call->dev || !call->dev->pdev)
		return arguments;
	/* An iterator fails at the first range that it cannot map. */
	if (!fuzz_ranges_ok(call))
		return !fuzz_is_source(call->op) ? arguments :
		       arguments | fuzz_bit(-ERANGE) | fuzz_bit(-E2BIG) |
		       fuzz_bit(-EAGAIN) | fuzz_bit(-ENOMEM) |
		       fuzz_bit(-EOPNOTSUPP) | fuzz_bit(-EIO) |
		       fuzz_bit(-ENODEV) | fuzz_bit(-EREMOTEIO) |
		       (call->stop ? FUZZ_OK : 0);
	peer = fuzz_expect_peer(fuzz, call, &bus, &bus_offset);
	count = fuzz_make_runs(fuzz, call, runs, &bus_offset);
	for (size_t i = 0; i < count; i++)
		result = fuzz_both(result,
				   fuzz_expect_run(call->dev, &runs[i],
						   bus_offset,
						   fuzz_is_list(call->op)));
	result = fuzz_both(result, fuzz_expect_capacity(call, runs, count));
	/* It may stop before a range that cannot be mapped. */
	if (call->stop)
		result |= FUZZ_OK;
	return fuzz_both(fuzz_both(arguments, peer), result);
}

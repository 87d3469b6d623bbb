// SPDX-License-Identifier: GPL-2.0
/*
 * What must be true of a live map: its segments, the addresses that they are
 * translated to, and the content that the CPU and the device find.
 */
#include <linux/bitmap.h>
#include <linux/dma-direct.h>
#include <linux/dma-phys-names.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/minmax.h>
#include <linux/string.h>

#include "fuzz.h"

static struct dma_phys_segment fuzz_segment(const struct fuzz_handle *handle,
					    int i)
{
	if (handle->is_sg)
		return handle->segments[i];
	return (struct dma_phys_segment){ handle->map.addr, handle->map.size };
}

dma_addr_t fuzz_dma_addr(const struct fuzz_handle *handle, size_t at,
			 size_t *rest)
{
	struct dma_phys_segment segment = fuzz_segment(handle, 0);

	for (int i = 1; at >= segment.len; i++) {
		at -= segment.len;
		segment = fuzz_segment(handle, i);
	}
	*rest = segment.len - at;
	return segment.addr + at;
}

/* The run of byte @at of the handle, which is made an offset in the run. */
static const struct fuzz_run *fuzz_run_at(const struct fuzz_handle *handle,
					  size_t *at)
{
	const struct fuzz_run *run = handle->runs;

	while (*at >= run->len)
		*at -= run++->len;
	return run;
}

static phys_addr_t fuzz_translate(const struct fuzz_handle *handle,
				  const struct fuzz_run *run, dma_addr_t addr)
{
	if (run->bus)
		return addr - handle->bus_offset;
	if (handle->dev->iommu)
		return iommu_iova_to_phys(handle->dev->domain, addr);
	return dma_to_phys(handle->dev->dev, addr);
}

/* ---- Segments ---- */

/*
 * Does a segment end because it may not be longer? Then at an aligned address,
 * if there is one in it.
 */
static bool fuzz_may_end(const struct dma_phys_limits *limits,
			 const struct dma_phys_segment *segment)
{
	u64 rest = limits->boundary - (segment->addr & limits->boundary);
	u64 longest = rest < limits->max ? rest + 1 : limits->max;
	u64 end = segment->addr + segment->len;
	bool aligned = limits->align < limits->max;

	if (aligned && end & limits->align)
		aligned = (end & ~limits->align) > segment->addr;
	else if (aligned)
		return (end | limits->align) + 1 > segment->addr + longest;
	return !aligned && segment->len == longest;
}

/* Segment @i, which ends at byte @end of the list, is followed by its run. */
static bool fuzz_ends_within_run(const struct fuzz_handle *handle, int i,
				 size_t end)
{
	struct dma_phys_segment segment = fuzz_segment(handle, i);
	const struct fuzz_run *run;

	if (i + 1 == handle->segment_count ||
	    handle->segments[i + 1].addr != segment.addr + segment.len)
		return false;
	run = fuzz_run_at(handle, &end);
	return end && run->bounce == FUZZ_NEVER_BOUNCES;
}

static void fuzz_check_segments(struct fuzz *fuzz,
				const struct fuzz_handle *handle)
{
	const struct dma_phys_limits *limits = &handle->limits;
	u64 max = fuzz->lie == FUZZ_LIE_SEGMENT ? limits->max / 2 : limits->max;
	size_t sum = 0;

	for (int i = 0; i < handle->segment_count; i++) {
		struct dma_phys_segment segment = fuzz_segment(handle, i);
		u64 last = segment.addr + segment.len - 1;

		sum += segment.len;
		if (sum > handle->size)
			break;
		if (!segment.len || segment.len > max ||
		    (segment.addr ^ last) & ~limits->boundary ||
		    (fuzz_ends_within_run(handle, i, sum) &&
		     !fuzz_may_end(limits, &segment)))
			fuzz_error(fuzz, "segment %d of %d: %pad+%zu; limits %llx %llx %llx",
				   i, handle->segment_count, &segment.addr,
				   segment.len, max, limits->boundary,
				   limits->align);
	}
	if (sum != handle->size)
		fuzz_error(fuzz, "segments of %zu bytes for %zu", sum,
			   handle->size);
}

/* ---- Addresses ---- */

/* The granule of the IOMMU that holds @phys is not all of the run. */
static bool fuzz_exposes_more(const struct fuzz_dev *dev,
			      const struct fuzz_run *run, phys_addr_t phys)
{
	u64 granule = round_down(phys, dev->granule);

	return granule < run->phys ||
	       granule + dev->granule > run->phys + run->len;
}

/* Must the device access a copy of the byte at @phys? */
static bool fuzz_must_bounce(const struct fuzz_dev *dev,
			     const struct fuzz_run *run, phys_addr_t phys)
{
	if (run->bounce == FUZZ_MAY_BOUNCE && dev->iommu)
		return fuzz_exposes_more(dev, run, phys);
	return run->bounce == FUZZ_BOUNCES;
}

/* @len bytes at @offset of @run are at @addr for the device: is it a copy? */
static bool fuzz_check_addr(struct fuzz *fuzz, const struct fuzz_handle *handle,
			    const struct fuzz_run *run, size_t offset,
			    dma_addr_t addr, size_t len)
{
	const struct fuzz_dev *dev = handle->dev;
	phys_addr_t phys = fuzz_translate(handle, run, addr);
	phys_addr_t expected = run->phys + offset;
	u64 kept = dev->limits.align & dev->limits.boundary;
	bool bounced = run->bounce != FUZZ_NEVER_BOUNCES &&
		       phys >= dev->pool_start && phys + len <= dev->pool_end;

	if (addr + len - 1 > dev->reach)
		fuzz_error(fuzz, "%pad+%zu is beyond %llx", &addr, len,
			   dev->reach);
	if (!run->bus && (addr ^ expected) & kept)
		fuzz_error(fuzz, "%pad for %pa: the bits %llx differ", &addr,
			   &expected, kept);
	if (!bounced && fuzz_must_bounce(dev, run, expected))
		fuzz_error(fuzz, "%pad leads to %pa, which is no bounce buffer",
			   &addr, &phys);
	if (fuzz->lie == FUZZ_LIE_ADDRESS)
		expected++;
	if (!bounced && phys != expected)
		fuzz_error(fuzz, "%pad leads to %pa, expected %pa", &addr,
			   &phys, &expected);
	return bounced;
}

/* The segments, whose lengths are known to be right, are the runs in order. */
static void fuzz_check_addrs(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	size_t granule = handle->dev->granule, at = 0, rest, n;

	for (size_t k = 0; k < handle->count; k++) {
		const struct fuzz_run *run = &handle->runs[k];

		for (size_t offset = 0; offset < run->len && fuzz_good(fuzz);
		     offset += n, at += n) {
			dma_addr_t addr = fuzz_dma_addr(handle, at, &rest);

			n = min(rest, run->len - offset);
			if (handle->dev->iommu)
				n = min(n, granule - (addr & (granule - 1)));
			if (!fuzz_check_addr(fuzz, handle, run, offset, addr,
					     n))
				continue;
			handle->any_bounced = true;
			if (handle->checked && !handle->constant)
				bitmap_set(handle->bounced, at, n);
		}
	}
}

static enum dma_phys_route fuzz_route(const struct fuzz_handle *handle)
{
	if (handle->kind == DMA_PHYS_MMIO && handle->runs[0].bus)
		return DMA_PHYS_BUS;
	if (handle->dev->iommu)
		return DMA_PHYS_IOMMU;
	return handle->any_bounced ? DMA_PHYS_BOUNCE : DMA_PHYS_DIRECT;
}

static void fuzz_check_fields(struct fuzz *fuzz,
			      const struct fuzz_handle *handle)
{
	const struct dma_phys_map *map = &handle->map;
	const struct dma_phys_sg *sg = &handle->sg;
	enum dma_phys_route route = fuzz_route(handle);
	bool right;

	if (handle->is_sg)
		right = sg->dev == handle->dev->dev && sg->dir == handle->dir &&
			sg->size == handle->size && sg->kind == handle->kind &&
			sg->route == route &&
			(sg->flags & DMA_PHYS_SKIP_CPU_SYNC) == handle->flags;
	else
		right = map->dev == handle->dev->dev &&
			map->dir == handle->dir &&
			map->size == handle->size &&
			map->kind == handle->kind && map->route == route &&
			(map->flags & DMA_PHYS_SKIP_CPU_SYNC) == handle->flags;
	if (!right)
		fuzz_error(fuzz, "the handle has route %s, %zu bytes; expected %s, %zu",
			   dma_phys_route_name(handle->is_sg ? sg->route :
							       map->route),
			   handle->is_sg ? sg->size : map->size,
			   dma_phys_route_name(route), handle->size);
}

/* ---- Content ---- */

/* Byte @at as the CPU sees it, and how many bytes follow there. */
static u8 *fuzz_cpu_side(const struct fuzz_handle *handle, size_t at,
			 size_t *rest)
{
	const struct fuzz_run *run = fuzz_run_at(handle, &at);

	*rest = run->len - at;
	return run->area->shadow + (run->phys + at - run->area->phys);
}

/* The same as the device sees it, which may be a copy. */
static u8 *fuzz_device_side(const struct fuzz_handle *handle, size_t at,
			    size_t *rest)
{
	size_t end;
	u8 *bytes;

	if (!handle->constant && test_bit(at, handle->bounced)) {
		end = find_next_zero_bit(handle->bounced, handle->size, at);
		*rest = end - at;
		return handle->device_view + at;
	}
	bytes = fuzz_cpu_side(handle, at, rest);
	if (!handle->constant) {
		end = find_next_bit(handle->bounced, handle->size, at);
		*rest = min(*rest, end - at);
	}
	return bytes;
}

void fuzz_device_bytes(const struct fuzz_handle *handle, size_t at, u8 *data,
		       size_t len, bool write)
{
	size_t n;

	for (; len; len -= n) {
		u8 *bytes = fuzz_device_side(handle, at, &n);

		n = min(n, len);
		memcpy(write ? bytes : data, write ? data : bytes, n);
		at += n;
		data += n;
	}
}

/* What is in a bounce buffer goes to the CPU, or to the device. */
static void fuzz_copy_sides(struct fuzz_handle *handle, size_t at, size_t len,
			    bool for_cpu)
{
	size_t n, rest;

	for (; len; len -= n, at += n) {
		u8 *cpu = fuzz_cpu_side(handle, at, &n);
		u8 *device = fuzz_device_side(handle, at, &rest);

		n = min3(n, rest, len);
		if (cpu != device)
			memcpy(for_cpu ? cpu : device, for_cpu ? device : cpu,
			       n);
	}
}

void fuzz_synced(struct fuzz_handle *handle, size_t at, size_t len,
		 bool for_cpu)
{
	if (handle->checked && !handle->constant &&
	    handle->dir != (for_cpu ? DMA_TO_DEVICE : DMA_FROM_DEVICE))
		fuzz_copy_sides(handle, at, len, for_cpu);
}

static void fuzz_compare(struct fuzz *fuzz, const u8 *found,
			 const u8 *expected, size_t len, const char *reader,
			 size_t at)
{
	size_t i = 0;

	if (!memcmp(found, expected, len))
		return;
	while (found[i] == expected[i])
		i++;
	fuzz_error(fuzz, "%s finds %02x at byte %zu, expected %02x", reader,
		   found[i], at + i, expected[i]);
}

/* ---- Accesses ---- */

/* Do what the device would: follow its addresses. */
static void fuzz_device_moves(struct fuzz *fuzz,
			      const struct fuzz_handle *handle, size_t at,
			      u8 *data, size_t len, bool write)
{
	size_t n;

	for (; len; len -= n, at += n, data += n) {
		size_t offset = at;
		const struct fuzz_run *run = fuzz_run_at(handle, &offset);
		dma_addr_t addr = fuzz_dma_addr(handle, at, &n);
		phys_addr_t phys = fuzz_translate(handle, run, addr);
		const struct fuzz_area *area = run->area;

		n = min3(n, len, run->len - offset);
		n = min(n, PAGE_SIZE - offset_in_page(addr));
		if (!area->io) {
			u8 *mem = phys_to_virt(phys);

			memcpy(write ? mem : data, write ? data : mem, n);
		} else if (phys < area->phys ||
			   phys - area->phys > area->len - n) {
			fuzz_error(fuzz, "%pad is outside of the area", &addr);
			return;
		} else if (write) {
			memcpy_toio(area->io + (phys - area->phys), data, n);
		} else {
			memcpy_fromio(data, area->io + (phys - area->phys), n);
		}
	}
}

void fuzz_device_reads(struct fuzz *fuzz, struct fuzz_handle *handle,
		       size_t at, size_t len)
{
	u8 found[128], expected[128];
	size_t n;

	if (!handle->checked)
		return;
	for (; len && fuzz_good(fuzz); len -= n, at += n) {
		n = min(len, sizeof(found));
		fuzz_device_moves(fuzz, handle, at, found, n, false);
		fuzz_device_bytes(handle, at, expected, n, false);
		fuzz_compare(fuzz, found, expected, n, "the device", at);
	}
}

void fuzz_device_writes(struct fuzz *fuzz, struct fuzz_handle *handle,
			size_t at, const u8 *data, size_t len)
{
	fuzz_device_moves(fuzz, handle, at, (u8 *)data, len, true);
	if (fuzz->lie == FUZZ_LIE_DATA)
		len--;
	fuzz_device_bytes(handle, at, (u8 *)data, len, true);
}

/* The CPU finds what it must in @len bytes at @at of an area. */
static void fuzz_check_area(struct fuzz *fuzz, const struct fuzz_area *area,
			    size_t at, size_t len)
{
	u8 found[128];
	size_t n;

	if (area->mem) {
		fuzz_compare(fuzz, area->mem + at, area->shadow + at, len,
			     "the CPU", at);
		return;
	}
	for (; len; len -= n, at += n) {
		n = min(len, sizeof(found));
		memcpy_fromio(found, area->io + at, n);
		fuzz_compare(fuzz, found, area->shadow + at, n, "the CPU", at);
	}
}

void fuzz_cpu_reads(struct fuzz *fuzz, const struct fuzz_handle *handle,
		    size_t at, size_t len)
{
	size_t n;

	if (!handle->checked)
		return;
	for (; len; len -= n, at += n) {
		size_t offset = at;
		const struct fuzz_run *run = fuzz_run_at(handle, &offset);

		n = min(run->len - offset, len);
		fuzz_check_area(fuzz, run->area,
				run->phys + offset - run->area->phys, n);
	}
}

void fuzz_check_own(struct fuzz *fuzz, const struct fuzz_handle *handle)
{
	const struct fuzz_area *area = &handle->own[DMA_PHYS_CPU];

	fuzz_check_area(fuzz, area, 0, area->len);
}

/* ---- Map and unmap ---- */

static void fuzz_learn(struct fuzz *fuzz, struct fuzz_handle *handle,
		       const struct fuzz_call *call)
{
	handle->limits = fuzz_limits(call);
	handle->dev = call->dev;
	handle->dir = call->dir;
	handle->flags = call->flags;
	handle->peer = call->peer;
	handle->size = fuzz_size(call);
	handle->count = fuzz_make_runs(fuzz, call, handle->runs,
				       &handle->bus_offset);
	handle->kind = DMA_PHYS_MMIO;
	handle->checked = true;
	handle->constant = false;
	handle->any_bounced = false;
	for (size_t i = 0; i < handle->count; i++) {
		const struct fuzz_run *run = &handle->runs[i];

		if (run->kind == DMA_PHYS_CPU)
			handle->kind = DMA_PHYS_CPU;
		if (!run->area)
			handle->checked = false;
		else if (run->area->constant)
			handle->constant = true;
	}
	bitmap_zero(handle->bounced, 2 * FUZZ_OWN);
}

void fuzz_mapped(struct fuzz *fuzz, struct fuzz_handle *handle,
		 const struct fuzz_call *call)
{
	fuzz_learn(fuzz, handle, call);
	if (handle->is_sg)
		fuzz_check_segments(fuzz, handle);
	if (fuzz_good(fuzz))
		fuzz_check_addrs(fuzz, handle);
	if (fuzz_good(fuzz))
		fuzz_check_fields(fuzz, handle);
	fuzz->routes[fuzz_route(handle)]++;

	/* The kernel fills a bounce buffer in each direction. */
	if (fuzz_good(fuzz) && handle->checked && !handle->constant)
		fuzz_copy_sides(handle, 0, handle->size, false);
}

void fuzz_unmapped(struct fuzz *fuzz, struct fuzz_handle *handle, bool sync)
{
	if (sync && !(handle->flags & DMA_PHYS_SKIP_CPU_SYNC))
		fuzz_synced(handle, 0, handle->size, true);
	/* Nothing around the ranges was written either. */
	for (int kind = DMA_PHYS_CPU; kind <= DMA_PHYS_MMIO; kind++)
		for (size_t i = 0; i < handle->count; i++)
			if (handle->runs[i].area == &handle->own[kind]) {
				fuzz_check_area(fuzz, &handle->own[kind], 0,
						FUZZ_OWN);
				break;
			}
	handle->dev = NULL;
	handle->peer = NULL;
}

void fuzz_check_empty(struct fuzz *fuzz, const struct fuzz_handle *handle)
{
	const struct dma_phys_sg no_sg = { .pool = handle->sg.pool };
	static const struct dma_phys_map no_map;

	if (memcmp(&handle->map, &no_map, sizeof(no_map)))
		fuzz_error(fuzz, "a map is not empty");
	if (memcmp(&handle->sg, &no_sg, sizeof(no_sg)))
		fuzz_error(fuzz, "a list is not empty");
}

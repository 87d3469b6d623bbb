// SPDX-License-Identifier: GPL-2.0
/*
 * Many ranges: sync and unmap.
 *
 * A list was linked at one IOVA, mapped by one dma_map_phys(), or mapped run by
 * run with a record of each run that needs one.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/instruction_pointer.h>

#include "fastpath.h"
#include "internal.h"

/* ---- Unmap ---- */

noinline void dma_phys_sg_unmap_linked(struct dma_phys_sg *sg, size_t linked)
{
	struct dma_iova_state state = {
		.addr = sg->addr,
		.__size = sg->size,
	};

	if (sg->flags & DMA_PHYS_LINK_BOUNCED)
		state.__size |= DMA_IOVA_USE_SWIOTLB;
	/* The owner of a peer waits for this: the kernel must flush at once. */
	dma_iova_destroy(sg->dev, &state, linked, sg->dir,
			 dma_phys_attrs(sg->peer ? DMA_PHYS_MMIO : sg->kind,
					sg->flags));
}

static void dma_phys_sg_unmap_records(struct dma_phys_sg *sg)
{
	for (size_t i = 0; i < sg->records->count; i++) {
		const struct dma_phys_record *record = &sg->records->record[i];
		u8 flags = record->flags | (sg->flags & DMA_PHYS_SKIP_CPU_SYNC);

		dma_unmap_phys(sg->dev, record->addr, record->size, sg->dir,
			       dma_phys_attrs(record->kind, flags));
	}
}

static bool dma_phys_sg_fits(const struct dma_phys_sg *sg)
{
	if (!sg->records && !(sg->flags & (DMA_PHYS_LINKED | DMA_PHYS_ONE)))
		return true;
	return sg->target == dma_phys_target(sg->dev);
}

/* False if the device has changed: then nothing is touched. */
bool dma_phys_sg_ask_unmap(struct dma_phys_sg *sg)
{
	if (unlikely(!dma_phys_sg_fits(sg))) {
		dma_phys_report_stale(sg->dev);
		return false;
	}

	if (sg->flags & DMA_PHYS_LINKED)
		dma_phys_sg_unmap_linked(sg, sg->size);
	else if (sg->flags & DMA_PHYS_ONE)
		dma_unmap_phys(sg->dev, sg->addr, sg->size, sg->dir,
			       dma_phys_attrs(sg->kind, sg->flags));
	else if (sg->records)
		dma_phys_sg_unmap_records(sg);
	if (sg->peer)
		dma_phys_peer_put(sg->peer);
	return true;
}

noinline void dma_phys_sg_trace_map(const struct dma_phys_sg *sg, int err)
{
	struct dma_phys_map map = dma_phys_sg_handle(sg);

	trace_dma_phys_sg_map(&map, 0, err);
}

/* Empty again, with its pool. */
void dma_phys_sg_clear(struct dma_phys_sg *sg)
{
	dma_phys_records_free(sg->pool, sg->records);
	*sg = (struct dma_phys_sg){ .pool = sg->pool };
}

static noinline void dma_phys_sg_unmap_slow(struct dma_phys_sg *sg,
					    unsigned long caller)
{
	bool unmapped;

	if (!sg->dev)
		return;
	if (dma_phys_debug_unmap(sg->id, caller)) {
		unmapped = dma_phys_sg_ask_unmap(sg);
		if (trace_dma_phys_sg_unmap_enabled()) {
			struct dma_phys_map map = dma_phys_sg_handle(sg);

			trace_dma_phys_sg_unmap(&map, 0, unmapped ? 0 : -ENODEV);
		}
		dma_phys_debug_unmapped(sg->id, unmapped);
	} else {
		sg->records = NULL;	/* those of another list */
	}
	dma_phys_sg_clear(sg);
}

/**
 * dma_phys_sg_unmap() - unmap a list
 * @sg: the list; empty afterwards, with its pool
 *
 * Like dma_phys_unmap(), for all ranges.
 *
 * Context: Any.
 */
void dma_phys_sg_unmap(struct dma_phys_sg *sg)
{
	if (unlikely(!sg))
		return;

	if (likely(sg->flags & DMA_PHYS_FAST) &&
	    !trace_dma_phys_sg_unmap_enabled()) {
		if (unlikely(sg->peer))
			dma_phys_peer_put(sg->peer);
		sg->peer = NULL;
		sg->dev = NULL;
		sg->size = 0;
		dma_phys_set_tail(sg, 0, 0, DMA_PHYS_CPU, DMA_PHYS_NONE, 0);
	} else {
		dma_phys_sg_unmap_slow(sg, _RET_IP_);
	}
}
EXPORT_SYMBOL_GPL(dma_phys_sg_unmap);

/**
 * dma_phys_sg_unmap_nosync() - unmap a list that the CPU owns already
 * @sg: the list; empty afterwards, with its pool
 *
 * Like dma_phys_unmap_nosync(), for all ranges. Also ends an iteration early.
 *
 * Context: Any.
 */
void dma_phys_sg_unmap_nosync(struct dma_phys_sg *sg)
{
	if (unlikely(!sg) || unlikely(!sg->dev))
		return;

	sg->flags |= DMA_PHYS_SKIP_CPU_SYNC;
	dma_phys_sg_unmap_slow(sg, _RET_IP_);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_unmap_nosync);

/* ---- Sync ---- */

static void dma_phys_sg_sync_part(const struct dma_phys_sg *sg,
				  dma_addr_t addr, size_t len, bool for_cpu)
{
	if (for_cpu)
		dma_sync_single_for_cpu(sg->dev, addr, len, sg->dir);
	else
		dma_sync_single_for_device(sg->dev, addr, len, sg->dir);
}

/* The kernel syncs what is physically contiguous: no more than a granule. */
static void dma_phys_sg_sync_linked(const struct dma_phys_sg *sg,
				    size_t offset, size_t len, bool for_cpu)
{
	u64 mask = dma_get_merge_boundary(sg->dev);
	dma_addr_t addr = sg->addr + offset;

	/* dma-debug does not know linked ranges. */
	if (dev_is_dma_coherent(sg->dev) &&
	    !(sg->flags & DMA_PHYS_LINK_BOUNCED))
		return;
	while (len) {
		size_t n = min_t(u64, len, mask + 1 - (addr & mask));

		dma_phys_sg_sync_part(sg, addr, n, for_cpu);
		addr += n;
		len -= n;
	}
}

static void dma_phys_sg_sync_records(const struct dma_phys_sg *sg,
				     size_t offset, size_t len, bool for_cpu)
{
	for (size_t i = 0; i < sg->records->count; i++) {
		const struct dma_phys_record *record = &sg->records->record[i];
		size_t start = max(offset, record->offset);
		size_t end = min(offset + len, record->offset + record->size);

		if (record->kind == DMA_PHYS_CPU && start < end)
			dma_phys_sg_sync_part(sg, record->addr + start -
					      record->offset, end - start,
					      for_cpu);
	}
}

static int dma_phys_sg_sync(struct dma_phys_sg *sg, size_t offset, size_t len,
			    bool for_cpu)
{
	if (!sg || !sg->dev || !len || !dma_phys_within(offset, len, sg->size))
		return -EINVAL;
	if (sg->kind == DMA_PHYS_MMIO || sg->flags & DMA_PHYS_FAST)
		return 0;
	if (unlikely(!dma_phys_sg_fits(sg))) {
		dma_phys_report_stale(sg->dev);
		return -EINVAL;
	}
	if (!dma_dev_need_sync(sg->dev))
		return 0;

	if (sg->flags & DMA_PHYS_LINKED)
		dma_phys_sg_sync_linked(sg, offset, len, for_cpu);
	else if (sg->flags & DMA_PHYS_ONE)
		dma_phys_sg_sync_part(sg, sg->addr + offset, len, for_cpu);
	else if (sg->records)
		dma_phys_sg_sync_records(sg, offset, len, for_cpu);
	return 0;
}

/**
 * dma_phys_sg_sync_for_cpu() - transfer a part of a list to the CPU
 * @sg: the list
 * @offset: bytes from the start of the first range
 * @len: length in bytes; the part may span ranges
 *
 * Context: Any.
 * Return: 0, or -EINVAL if @sg is empty or stale, @len is 0, or the part exceeds
 * the list.
 */
int dma_phys_sg_sync_for_cpu(struct dma_phys_sg *sg, size_t offset, size_t len)
{
	return dma_phys_sg_sync(sg, offset, len, true);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_sync_for_cpu);

/**
 * dma_phys_sg_sync_for_device() - transfer a part of a list to the device again
 * @sg: the list
 * @offset: bytes from the start of the first range
 * @len: length in bytes; the part may span ranges
 *
 * Context: Any.
 * Return: 0, or -EINVAL if @sg is empty or stale, @len is 0, or the part exceeds
 * the list.
 */
int dma_phys_sg_sync_for_device(struct dma_phys_sg *sg, size_t offset,
				size_t len)
{
	return dma_phys_sg_sync(sg, offset, len, false);
}
EXPORT_SYMBOL_GPL(dma_phys_sg_sync_for_device);

// SPDX-License-Identifier: GPL-2.0
/*
 * What the fuzzer does with a handle: sync, unmap, and accesses by the CPU and
 * by the device.
 */
#include <linux/dma-phys-names.h>
#include <linux/string.h>

#include "fuzz.h"

/* Operations during a transfer of edu. */
#define FUZZ_EDU_OPS	256

/* ---- Sync ---- */

static int fuzz_do_sync(struct fuzz_handle *handle, u64 offset, u64 len,
			bool for_cpu)
{
	if (handle->is_sg)
		return for_cpu ?
		       dma_phys_sg_sync_for_cpu(&handle->sg, offset, len) :
		       dma_phys_sg_sync_for_device(&handle->sg, offset, len);
	return for_cpu ? dma_phys_sync_for_cpu(&handle->map, offset, len) :
			 dma_phys_sync_for_device(&handle->map, offset, len);
}

static void fuzz_step_sync(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	static const enum fuzz_op ops[2][2] = {
		{ FUZZ_SYNC_FOR_DEVICE, FUZZ_SYNC_FOR_CPU },
		{ FUZZ_SG_SYNC_FOR_DEVICE, FUZZ_SG_SYNC_FOR_CPU },
	};
	u64 size = handle->dev ? handle->size : 0, offset, len;
	bool for_cpu = fuzz_one_in(fuzz, 2), valid;
	int err;

	offset = size ? fuzz_below(fuzz, size) : 0;
	len = size ? 1 + fuzz_below(fuzz, size - offset) : 1;
	if (fuzz_one_in(fuzz, 4))
		len = fuzz_one_in(fuzz, 2) ? size - offset + 1 : fuzz_odd(fuzz);
	if (fuzz_one_in(fuzz, 8))
		offset = fuzz_one_in(fuzz, 2) ? size : fuzz_odd(fuzz);
	valid = handle->dev && len && offset < size && len <= size - offset;
	/* dma-debug confuses maps of one address. */
	if (valid && (!handle->checked || handle->constant))
		return;

	err = fuzz_do_sync(handle, offset, len, for_cpu);
	fuzz_done(fuzz, ops[handle->is_sg][for_cpu], err,
		  valid ? FUZZ_OK : FUZZ_EINVAL);
	if (!valid)
		return;
	fuzz_synced(handle, offset, len, for_cpu);
	if (for_cpu)
		fuzz_cpu_reads(fuzz, handle, offset, min(len, 128));
	else
		fuzz_device_reads(fuzz, handle, offset, min(len, 128));
}

/* ---- Accesses ---- */

void fuzz_read_some(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	size_t at = fuzz_below(fuzz, handle->size);

	fuzz_device_reads(fuzz, handle, at, min(128, handle->size - at));
	fuzz_done(fuzz, FUZZ_DEVICE_READS, 0, FUZZ_OK);
}

/* Also while the device owns the memory: the model knows what that does. */
static void fuzz_step_cpu_writes(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	struct fuzz_area *area = &handle->own[fuzz_below(fuzz, 2)];
	size_t at = fuzz_below(fuzz, area->len);
	size_t len = 1 + fuzz_below(fuzz, min(64, area->len - at));

	fuzz_fill(fuzz, area->shadow + at, len);
	if (area->mem)
		memcpy(area->mem + at, area->shadow + at, len);
	else
		memcpy_toio(area->io + at, area->shadow + at, len);
	fuzz_done(fuzz, FUZZ_CPU_WRITES, 0, FUZZ_OK);
}

static bool fuzz_device_may_write(const struct fuzz_handle *handle)
{
	return handle->dir != DMA_TO_DEVICE && handle->checked &&
	       !handle->constant;
}

static void fuzz_step_device(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	size_t at = fuzz_below(fuzz, handle->size), len;
	u8 data[64];

	if (fuzz_one_in(fuzz, 2) || !fuzz_device_may_write(handle)) {
		fuzz_read_some(fuzz, handle);
		return;
	}
	len = 1 + fuzz_below(fuzz, min(sizeof(data), handle->size - at));
	fuzz_fill(fuzz, data, len);
	fuzz_device_writes(fuzz, handle, at, data, len);
	fuzz_done(fuzz, FUZZ_DEVICE_WRITES, 0, FUZZ_OK);
}

/* Start a transfer of edu, or wait for its end. */
void fuzz_step_edu(struct fuzz *fuzz)
{
	struct fuzz_handle *handle =
		&fuzz->handle[fuzz_below(fuzz, FUZZ_HANDLES)];
	bool to_memory = fuzz_one_in(fuzz, 2);
	size_t at, len = 1 + fuzz_below(fuzz, SZ_4K);

	if (fuzz->edu.busy) {
		if (fuzz->ops - fuzz->edu.since >= FUZZ_EDU_OPS)
			fuzz_edu_finish(fuzz);
		return;
	}
	if (handle->dev != &fuzz->dev[FUZZ_EDU] || !handle->checked)
		return;
	to_memory = to_memory && fuzz_device_may_write(handle) &&
		    fuzz->edu.known;
	if (!to_memory && handle->dir == DMA_FROM_DEVICE)
		return;
	at = fuzz_below(fuzz, handle->size);
	len = min3(len, handle->size - at, to_memory ? fuzz->edu.known : len);
	fuzz_edu_start(fuzz, handle, at, len, to_memory);
}

/* ---- Steps ---- */

static void fuzz_step_live(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	switch (fuzz_below(fuzz, 12)) {
	case 0 ... 4:
		fuzz_step_sync(fuzz, handle);
		break;
	case 5 ... 7:
		fuzz_step_device(fuzz, handle);
		break;
	case 8:
		fuzz_step_cpu_writes(fuzz, handle);
		break;
	case 9:
		if (fuzz_one_in(fuzz, 4))
			fuzz_step_map(fuzz, handle);
		break;
	default:
		fuzz_unmap(fuzz, handle);
		if (fuzz_one_in(fuzz, 4))
			fuzz_unmap(fuzz, handle);
	}
}

static void fuzz_step_empty(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	switch (fuzz_below(fuzz, 8)) {
	case 0:
		fuzz_step_sync(fuzz, handle);
		break;
	case 1:
		fuzz_unmap(fuzz, handle);
		break;
	case 2:
		fuzz_step_cpu_writes(fuzz, handle);
		break;
	default:
		fuzz_step_map(fuzz, handle);
	}
}

/* Append to an error the handle, and what it maps. */
static void fuzz_explain_handle(struct fuzz *fuzz,
				const struct fuzz_handle *handle)
{
	fuzz_append(fuzz, "; handle %zu %s, route %s, dir %d, flags %x",
		    (size_t)(handle - fuzz->handle),
		    dma_phys_kind_name(handle->kind),
		    dma_phys_route_name(handle->is_sg ? handle->sg.route :
							handle->map.route),
		    handle->dir, handle->flags);
	for (size_t i = 0; i < handle->count; i++)
		fuzz_append(fuzz, ", %pa+%zx", &handle->runs[i].phys,
			    handle->runs[i].len);
}

void fuzz_step_handle(struct fuzz *fuzz)
{
	struct fuzz_handle *handle =
		&fuzz->handle[fuzz_below(fuzz, FUZZ_HANDLES)];

	if (fuzz->edu.busy == handle)
		fuzz_edu_finish(fuzz);
	if (handle->dev)
		fuzz_step_live(fuzz, handle);
	else
		fuzz_step_empty(fuzz, handle);
	if (!fuzz_good(fuzz))
		fuzz_explain_handle(fuzz, handle);
}

/* NULL instead of a handle, or of a device. */
void fuzz_step_null(struct fuzz *fuzz)
{
	fuzz_done(fuzz, FUZZ_SYNC_FOR_CPU, dma_phys_sync_for_cpu(NULL, 0, 1),
		  FUZZ_EINVAL);
	fuzz_done(fuzz, FUZZ_SG_SYNC_FOR_DEVICE,
		  dma_phys_sg_sync_for_device(NULL, 0, 1), FUZZ_EINVAL);
	dma_phys_unmap(NULL);
	fuzz_done(fuzz, FUZZ_UNMAP, 0, FUZZ_OK);
	dma_phys_unmap_nosync(NULL);
	fuzz_done(fuzz, FUZZ_UNMAP_NOSYNC, 0, FUZZ_OK);
	dma_phys_sg_unmap(NULL);
	fuzz_done(fuzz, FUZZ_SG_UNMAP, 0, FUZZ_OK);
	dma_phys_sg_unmap_nosync(NULL);
	fuzz_done(fuzz, FUZZ_SG_UNMAP_NOSYNC, 0, FUZZ_OK);
	fuzz_done(fuzz, FUZZ_SG_MAX_SEGMENTS,
		  dma_phys_sg_max_segments(NULL, 1, 1) ? -EINVAL : 0, FUZZ_OK);
	dma_phys_pool_destroy(NULL);
	fuzz_done(fuzz, FUZZ_POOL_CREATE,
		  dma_phys_pool_create(NULL, 1, 1) ? 0 : -EINVAL, FUZZ_EINVAL);
}

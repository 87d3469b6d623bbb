// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer maps and unmaps, and compares the results with the model.
 */
#include <linux/iommu.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/string.h>

#include "fuzz.h"
#include "segment.h"

/* ---- Unmap ---- */

static void fuzz_sync_for_cpu_part(struct fuzz *fuzz,
				   struct fuzz_handle *handle, bool sync)
{
	struct iommu_domain *domain = NULL;
	dma_addr_t first = 0;
	size_t rest;

	/* Device memory at its PCI bus address is not in the page table. */
	if (handle->dev && handle->dev->iommu && !handle->runs[0].bus) {
		domain = handle->dev->domain;
		first = fuzz_dma_addr(handle, 0, &rest);
	}

	if (handle->is_sg && sync)
		dma_phys_sg_unmap(&handle->sg);
	else if (handle->is_sg)
		dma_phys_sg_unmap_nosync(&handle->sg);
	else if (sync)
		dma_phys_unmap(&handle->map);
	else
		dma_phys_unmap_nosync(&handle->map);

	if (handle->dev)
		fuzz_unmapped(fuzz, handle, sync);
	fuzz_check_empty(fuzz, handle);
	if (domain && iommu_iova_to_phys(domain, first))
		fuzz_error(fuzz, "%pad is still mapped", &first);
	dma_phys_pool_destroy(handle->sg.pool);
	handle->sg.pool = NULL;
	if (IS_ENABLED(CONFIG_BLOCK))
		fuzz_put_request(handle->rq);
	handle->rq = NULL;
}

void fuzz_unmap(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	static const enum fuzz_op ops[2][2] = {
		{ FUZZ_UNMAP_NOSYNC, FUZZ_UNMAP },
		{ FUZZ_SG_UNMAP_NOSYNC, FUZZ_SG_UNMAP },
	};
	bool sync = !fuzz_one_in(fuzz, 4);

	fuzz_sync_for_cpu_part(fuzz, handle, sync);
	fuzz_done(fuzz, ops[handle->is_sg][sync], 0, FUZZ_OK);
}

void fuzz_drain(struct fuzz *fuzz, const struct fuzz_dev *dev)
{
	fuzz_edu_finish(fuzz);
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++)
		if (!dev || fuzz->handle[i].dev == dev)
			fuzz_unmap(fuzz, &fuzz->handle[i]);
}

/* ---- Iterate ---- */

struct fuzz_source {
	struct dma_phys_source source;
	const struct dma_phys_range *range;
	size_t left;
};

static bool fuzz_source_next(struct dma_phys_source *source,
			     struct dma_phys_range *range)
{
	struct fuzz_source *ranges = container_of(source, struct fuzz_source,
						  source);

	if (!ranges->left)
		return false;
	ranges->left--;
	*range = *ranges->range++;
	return true;
}

static void fuzz_source_init(struct fuzz_source *source,
			     const struct fuzz_call *call)
{
	phys_addr_t end = 0;

	*source = (struct fuzz_source){
		.source = {
			.next = fuzz_source_next,
			.count = call->count,
			.limits = call->limits,
		},
		.range = call->ranges,
		.left = call->count,
	};
	for (size_t i = 0; i < call->count; i++) {
		const struct dma_phys_range *range = &call->ranges[i];

		if (range->kind == DMA_PHYS_MMIO &&
		    !(source->source.kinds & BIT(DMA_PHYS_MMIO)))
			source->source.peer = range->peer;
		if (i && (range->addr != end ||
			  !dma_phys_alike(range, range - 1)))
			source->source.gaps |= range->addr | end;
		source->source.kinds |= BIT(range->kind);
		source->source.size += range->len;
		end = range->addr + range->len;
	}
}

/* The count of segments or -errno; on a stop the list is unmapped again. */
static int fuzz_iterate(const struct fuzz_call *call,
			struct fuzz_handle *handle)
{
	struct dma_phys_sg *sg = call->no_handle ? NULL : &handle->sg;
	struct device *dev = call->dev ? call->dev->dev : NULL;
	struct dma_phys_sg_iter iter;
	struct fuzz_source source;
	int more, n = 0;

	fuzz_source_init(&source, call);
	more = dma_phys_sg_map_start(dev, call->no_ranges ? NULL :
							    &source.source,
				     call->dir, call->flags, sg, &iter);
	while (more > 0) {
		if (n == FUZZ_SEGMENTS) {
			dma_phys_sg_unmap_nosync(sg);
			return -ENOSPC;
		}
		handle->segments[n++] = (struct dma_phys_segment){
			iter.addr, iter.len,
		};
		if (n == call->stop)
			break;
		more = dma_phys_sg_map_next(sg, &iter);
	}
	if (more < 0)
		return more;
	if (call->stop)
		dma_phys_sg_unmap_nosync(sg);
	return n;
}

/* ---- Map ---- */

/* 0, the count of segments, or -errno */
static int fuzz_do_call(struct fuzz_call *call, struct fuzz_handle *handle)
{
	struct dma_phys_map *map = call->no_handle ? NULL : &handle->map;
	struct dma_phys_sg *sg = call->no_handle ? NULL : &handle->sg;
	struct device *dev = call->dev ? call->dev->dev : NULL;
	struct mmio_phys mmio[FUZZ_RANGES];
	struct cpu_phys cpu[FUZZ_RANGES];
	bool none = call->no_ranges;

	if (fuzz_is_request(call->op))
		return fuzz_map_request(call, handle);
	for (size_t i = 0; i < call->count; i++) {
		const struct dma_phys_range *range = &call->ranges[i];

		cpu[i] = (struct cpu_phys){ range->addr, range->len,
					    range->raw };
		mmio[i] = (struct mmio_phys){ range->addr, range->len,
					      range->peer };
	}

	switch (call->op) {
	case FUZZ_MAP_CPU:
		return dma_phys_map_cpu(dev, none ? NULL : cpu, call->dir,
					call->flags, map);
	case FUZZ_MAP_MMIO:
		return dma_phys_map_mmio(dev, none ? NULL : mmio, call->dir,
					 call->flags, map);
	case FUZZ_SG_MAP_CPU:
		return dma_phys_sg_map_cpu(dev, none ? NULL : cpu, call->count,
					   call->dir, call->flags,
					   handle->segments,
					   call->max_segments, sg);
	case FUZZ_SG_MAP_MMIO:
		return dma_phys_sg_map_mmio(dev, none ? NULL : mmio,
					    call->count, call->dir,
					    call->flags, handle->segments,
					    call->max_segments, sg);
	case FUZZ_SG_MAP_RANGES:
		return dma_phys_sg_map_ranges(dev,
					      none ? NULL : call->ranges,
					      call->count, call->dir,
					      call->flags, handle->segments,
					      call->max_segments, sg);
	default:
		return fuzz_iterate(call, handle);
	}
}

/* Memory is mapped in any context, device memory not in interrupts. */
static int fuzz_do_call_somewhere(struct fuzz *fuzz, struct fuzz_call *call,
				  struct fuzz_handle *handle)
{
	unsigned long flags;
	int err;

	if (!fuzz_one_in(fuzz, 8))
		return fuzz_do_call(call, handle);
	if (call->op != FUZZ_MAP_CPU && call->op != FUZZ_SG_MAP_CPU &&
	    !fuzz_is_request(call->op)) {
		preempt_disable();
		err = fuzz_do_call(call, handle);
		preempt_enable();
		return err;
	}
	local_irq_save(flags);
	err = fuzz_do_call(call, handle);
	local_irq_restore(flags);
	return err;
}

/* Append to an error all that the result may depend on. */
static void fuzz_explain_call(struct fuzz *fuzz, const struct fuzz_call *call)
{
	const struct fuzz_dev *dev = call->dev;

	fuzz_append(fuzz, "; %s of %zu ranges, dir %d, flags %x, capacity %zu%s%s%s, dev %d",
		    fuzz_op_names[call->op], call->count, call->dir,
		    call->flags, call->max_segments,
		    call->live ? ", live" : "",
		    call->no_handle ? ", no handle" : "",
		    call->no_ranges ? ", no ranges" : "",
		    dev ? (int)(dev - fuzz->dev) : -1);
	for (size_t i = 0; i < call->count; i++) {
		const struct dma_phys_range *range = &call->ranges[i];

		fuzz_append(fuzz, ", %s %pa+%zx", range->raw ? "raw" :
			    range->kind == DMA_PHYS_CPU ? "cpu" : "mmio",
			    &range->addr, range->len);
	}
	if (dev && dev->pdev)
		fuzz_append(fuzz, "; reach %llx, limits %llx %llx %llx and %llx %llx %llx%s%s%s",
			    dev->reach, dev->limits.max, dev->limits.boundary,
			    dev->limits.align, call->limits.max,
			    call->limits.boundary, call->limits.align,
			    dev->forced ? ", forced" : "",
			    dev->untrusted ? ", untrusted" : "",
			    dev->iommu ? ", iommu" : "");
}

/* A pool for the records of one list, made for the limits of its device. */
static void fuzz_make_pool(struct fuzz *fuzz, const struct fuzz_call *call,
			   struct fuzz_handle *handle)
{
	size_t size = fuzz_size(call);
	bool valid = call->count && size;

	if (!handle->is_sg || call->live || !call->dev || size >= FUZZ_HUGE ||
	    !fuzz_one_in(fuzz, 4))
		return;
	handle->sg.pool = dma_phys_pool_create(call->dev->dev,
					       call->max_ranges, size);
	fuzz_done(fuzz, FUZZ_POOL_CREATE, handle->sg.pool ? 0 : -EINVAL,
		  valid ? FUZZ_OK : FUZZ_EINVAL);
}

static void fuzz_call_and_check(struct fuzz *fuzz, struct fuzz_call *call,
				struct fuzz_handle *handle)
{
	struct dma_phys_map map = handle->map;
	struct dma_phys_sg sg = handle->sg;
	u32 allowed;
	int n, err;

	allowed = fuzz_expect_map(fuzz, call);
	n = fuzz_do_call_somewhere(fuzz, call, handle);
	err = min(n, 0);
	/* A request that is mapped, rightly or not, is freed after unmap. */
	if (handle->sg.dev && !call->live)
		swap(handle->rq, call->rq);
	fuzz_done(fuzz, call->op, err, allowed);
	if (!fuzz_good(fuzz))
		return;

	if (err || call->stop) {
		if (memcmp(&map, &handle->map, sizeof(map)) ||
		    memcmp(&sg, &handle->sg, sizeof(sg)))
			fuzz_error(fuzz, "nothing is mapped, but the handle was written");
		if (!call->live)
			fuzz_check_own(fuzz, handle);
		return;
	}
	handle->segment_count = n;
	fuzz_mapped(fuzz, handle, call);
	if (!fuzz_good(fuzz))
		return;
	/* What follows must not depend on whether it succeeded. */
	if (allowed == FUZZ_OK)
		fuzz_read_some(fuzz, handle);
	else
		fuzz_sync_for_cpu_part(fuzz, handle, true);
}

void fuzz_step_map(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	struct fuzz_call call;

	fuzz_choose_call(fuzz, &call, handle);
	if (fuzz_good(fuzz)) {
		fuzz_make_pool(fuzz, &call, handle);
		fuzz_call_and_check(fuzz, &call, handle);
		if (!fuzz_good(fuzz))
			fuzz_explain_call(fuzz, &call);
	}
	if (!handle->dev) {
		dma_phys_pool_destroy(handle->sg.pool);
		handle->sg.pool = NULL;
	}
	if (IS_ENABLED(CONFIG_BLOCK))
		fuzz_put_request(call.rq);
}

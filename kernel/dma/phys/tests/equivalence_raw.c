// SPDX-License-Identifier: GPL-2.0
/*
 * Map and unmap a range through the raw or the typed API, and count what the
 * kernel does: bounce slots, bytes of IOVA space, cache maintenance, log lines.
 */
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/iommu-dma.h>
#include <linux/kprobes.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#ifdef CONFIG_IOMMU_API
#include <trace/events/iommu.h>
#endif

#include "edu_kunit.h"
#include "equivalence.h"

/* What the hooks count for one task: @cost, unless it is NULL. */
static struct {
	struct task_struct *task;
	struct dma_phys_test_cost *cost;
	bool no_iova;
	bool no_cache;
} count;

static void count_start(struct dma_phys_test_cost *cost)
{
	count.cost = cost;
	WRITE_ONCE(count.task, current);
}

static void count_end(void)
{
	WRITE_ONCE(count.task, NULL);
}

/* ---- IOVAs: tracepoints of the IOMMU core ---- */

#ifdef CONFIG_IOMMU_API
static void count_iommu_map(void *unused, unsigned long iova,
			    phys_addr_t phys, size_t size)
{
	if (current == READ_ONCE(count.task))
		count.cost->iova += size;
}

static void count_iommu_unmap(void *unused, unsigned long iova, size_t size,
			      size_t unmapped)
{
	if (current == READ_ONCE(count.task))
		count.cost->iova += unmapped;
}

static bool count_iova_init(void)
{
	int err = register_trace_map(count_iommu_map, NULL);

	return !(err ?: register_trace_unmap(count_iommu_unmap, NULL));
}

static void count_iova_exit(void)
{
	unregister_trace_map(count_iommu_map, NULL);
	unregister_trace_unmap(count_iommu_unmap, NULL);
	tracepoint_synchronize_unregister();
}
#else
static bool count_iova_init(void)
{
	return true;
}

static void count_iova_exit(void)
{
}
#endif

/* ---- Cache maintenance: kprobes, if the architecture has any ---- */

#if defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_DEVICE) || \
	defined(CONFIG_ARCH_HAS_SYNC_DMA_FOR_CPU)
#define COUNT_CACHE_EXISTS	1
#else
#define COUNT_CACHE_EXISTS	0
#endif

#if COUNT_CACHE_EXISTS && defined(CONFIG_KPROBES)
static const char *const count_flush_symbols[] = {
	"arch_sync_dma_for_device",
	"arch_sync_dma_for_cpu",
};

static struct kprobe count_flush_probes[ARRAY_SIZE(count_flush_symbols)];

static int count_flush(struct kprobe *probe, struct pt_regs *regs)
{
	if (current == READ_ONCE(count.task)) {
		count.cost->flushes++;
		/* The first argument may take two words. */
		count.cost->flushed += edu_argument(regs, sizeof(phys_addr_t) /
						    sizeof(long));
	}
	return 0;
}

/* An architecture may have one of the functions only. */
static bool count_cache_init(void)
{
	bool found = false;

	for (int i = 0; i < ARRAY_SIZE(count_flush_probes); i++) {
		struct kprobe *probe = &count_flush_probes[i];

		*probe = (struct kprobe){
			.symbol_name = count_flush_symbols[i],
			.pre_handler = count_flush,
		};
		if (!register_kprobe(probe))
			found = true;
		else
			probe->pre_handler = NULL;
	}
	return found;
}

static void count_cache_exit(void)
{
	for (int i = 0; i < ARRAY_SIZE(count_flush_probes); i++)
		if (count_flush_probes[i].pre_handler)
			unregister_kprobe(&count_flush_probes[i]);
}
#else
static bool count_cache_init(void)
{
	return !COUNT_CACHE_EXISTS;
}

static void count_cache_exit(void)
{
}
#endif

void dma_phys_test_count_init(void)
{
	count.no_iova = !count_iova_init();
	count.no_cache = !count_cache_init();
}

void dma_phys_test_count_exit(void)
{
	count_cache_exit();
	count_iova_exit();
}

const char *dma_phys_test_not_counted(void)
{
	static char names[64];

	snprintf(names, sizeof(names), "%s%s%s",
		 edu_slots_used() < 0 ? " slots" : "",
		 count.no_iova ? " iova" : "",
		 count.no_cache ? " cache-maintenance" : "");
	return names;
}

/* ---- Map and unmap ---- */

/* Between map and unmap: slots in use, and what the address leads to. */
static void count_mapped(const struct dma_phys_test_point *point,
			 struct dma_phys_test_outcome *outcome, long before)
{
	outcome->slots = edu_slots_used() - before;
	if (use_dma_iommu(edu.dev)) {
		outcome->target = edu_translate(outcome->addr);
		outcome->bounced = outcome->target != point->phys;
	} else if (!get_dma_ops(edu.dev)) {
		outcome->bounced = edu_in_pool(outcome->addr);
	}
}

static void count_done(struct dma_phys_test_outcome *outcome, long before)
{
	outcome->lines = edu_log_end();
	strscpy(outcome->text, edu_log_text());
	outcome->leaked = edu_slots_used() - before;
}

void dma_phys_test_try_raw(const struct dma_phys_test_point *point,
			   struct dma_phys_test_outcome *outcome)
{
	unsigned long attrs = point->kind == DMA_PHYS_MMIO ? DMA_ATTR_MMIO : 0;
	long before = edu_slots_used();

	*outcome = (struct dma_phys_test_outcome){};
	edu_log_start();
	count_start(&outcome->map);
	outcome->addr = dma_map_phys(edu.dev, point->phys, point->len,
				     point->dir, attrs | DMA_ATTR_NO_WARN);
	count_end();
	if (dma_mapping_error(edu.dev, outcome->addr)) {
		outcome->err = -EIO;
	} else {
		count_mapped(point, outcome, before);
		count_start(&outcome->unmap);
		dma_unmap_phys(edu.dev, outcome->addr, point->len, point->dir,
			       attrs);
		count_end();
	}
	count_done(outcome, before);
}

static int count_map_typed(const struct dma_phys_test_point *point,
			   struct dma_phys_map *map)
{
	struct mmio_phys mmio = { .addr = point->phys, .len = point->len };
	struct cpu_phys cpu = { .addr = point->phys, .len = point->len };

	if (point->kind == DMA_PHYS_MMIO)
		return dma_phys_map_mmio(edu.dev, &mmio, point->dir, 0, map);
	return dma_phys_map_cpu(edu.dev, &cpu, point->dir, 0, map);
}

void dma_phys_test_try_typed(const struct dma_phys_test_point *point,
			     struct dma_phys_test_outcome *outcome)
{
	struct dma_phys_map map = {};
	long before = edu_slots_used();

	*outcome = (struct dma_phys_test_outcome){};
	edu_log_start();
	count_start(&outcome->map);
	outcome->err = count_map_typed(point, &map);
	count_end();
	if (!outcome->err) {
		outcome->addr = map.addr;
		outcome->route = map.route;
		count_mapped(point, outcome, before);
		count_start(&outcome->unmap);
		dma_phys_unmap(&map);
		count_end();
	}
	count_done(outcome, before);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Checks of what a test leaves behind: bounce buffers and IOVAs that are not
 * free again, and lines in the log.
 */
#include <linux/delay.h>
#include <linux/dma-map-ops.h>
#include <linux/gfp.h>
#include <linux/iommu-dma.h>
#include <linux/kallsyms.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/swiotlb.h>
#include <trace/events/printk.h>

#include "edu_kunit.h"

/* ---- Bounce buffers and IOVAs ---- */

/* A leaked slot, or page of IOVA space, costs a whole unit. */
#define EDU_UNIT	(IO_TLB_SIZE * IO_TLB_SEGSIZE)
#define EDU_MAX_UNITS	1024

/* Free units; 0 of what the device does not use. */
struct edu_units {
	unsigned int slots;
	unsigned int iova;
};

static struct edu_units edu_units_before;

/*
 * The number of units that the device can have at once, through the kernel's own
 * calls: @get one at a physical address, @put it.
 */
static unsigned int edu_count_units(u64 (*get)(phys_addr_t phys),
				    void (*put)(u64 unit))
{
	struct page *page = alloc_pages(GFP_KERNEL, get_order(EDU_UNIT));
	u64 *units = kvmalloc_array(EDU_MAX_UNITS, sizeof(*units), GFP_KERNEL);
	unsigned int n = 0;

	if (page && units) {
		/* Wait until the flush queue has freed its IOVAs. */
		msleep(50);
		for (; n < EDU_MAX_UNITS; n++) {
			units[n] = get(page_to_phys(page));
			if (units[n] == DMA_MAPPING_ERROR)
				break;
		}
		for (unsigned int i = 0; i < n; i++)
			put(units[i]);
	}

	kvfree(units);
	if (page)
		__free_pages(page, get_order(EDU_UNIT));
	return n;
}

#ifdef CONFIG_SWIOTLB
static u64 edu_get_slots(phys_addr_t phys)
{
	unsigned long attrs = DMA_ATTR_NO_WARN;
	phys_addr_t slots = swiotlb_tbl_map_single(edu.dev, phys, EDU_UNIT, 0,
						   DMA_TO_DEVICE, &attrs);

	return slots == (phys_addr_t)DMA_MAPPING_ERROR ? DMA_MAPPING_ERROR :
							 slots;
}

static void edu_put_slots(u64 unit)
{
	swiotlb_tbl_unmap_single(edu.dev, unit, EDU_UNIT, DMA_TO_DEVICE,
				 DMA_ATTR_SKIP_CPU_SYNC);
}

static unsigned int edu_count_slots(void)
{
	return is_swiotlb_active(edu.dev) ?
	       edu_count_units(edu_get_slots, edu_put_slots) : 0;
}

/*
 * The number is static in kernel/dma/swiotlb.c, behind a file in debugfs, which
 * this function of its serves.
 */
long edu_slots_used(void)
{
	static int (*get)(void *mem, u64 *used);
	u64 used;

	if (!get)
		get = (void *)kallsyms_lookup_name("io_tlb_used_get");
	if (!get || !edu.dev->dma_io_tlb_mem ||
	    get(edu.dev->dma_io_tlb_mem, &used))
		return -1;
	return used;
}
#else
static unsigned int edu_count_slots(void)
{
	return 0;
}

long edu_slots_used(void)
{
	return 0;
}
#endif

static u64 edu_get_iova(phys_addr_t phys)
{
	dma_addr_t addr = dma_map_phys(edu.dev, phys, EDU_UNIT, DMA_TO_DEVICE,
				       DMA_ATTR_NO_WARN);

	/* dma-debug reports an address that was not checked. */
	return dma_mapping_error(edu.dev, addr) ? DMA_MAPPING_ERROR : addr;
}

static void edu_put_iova(u64 unit)
{
	dma_unmap_phys(edu.dev, unit, EDU_UNIT, DMA_TO_DEVICE, 0);
}

static struct edu_units edu_free_units(void)
{
	return (struct edu_units){
		.slots = edu_count_slots(),
		.iova = use_dma_iommu(edu.dev) ?
			edu_count_units(edu_get_iova, edu_put_iova) : 0,
	};
}

void edu_units_init(void)
{
	edu_units_before = (struct edu_units){};
	if (edu.pdev)
		edu_units_before = edu_free_units();
}

void nothing_leaked(struct kunit *test)
{
	struct edu_units units = edu_free_units();

	KUNIT_EXPECT_EQ(test, units.slots, edu_units_before.slots);
	KUNIT_EXPECT_EQ(test, units.iova, edu_units_before.iova);
	if (!edu_units_before.slots && !edu_units_before.iova)
		kunit_skip(test, "neither bounce buffers nor an IOMMU on this boot");
}

/* ---- The log ---- */

#define EDU_LOG_TEXT	160

/* Lines of one task. */
static struct {
	struct task_struct *task;
	unsigned int lines;
	char text[EDU_LOG_TEXT];
} edu_log;

/* Reports of dma_phys_report_stale(), of any task. */
static struct {
	int reports;
	char text[EDU_LOG_TEXT];
} edu_stale = { .reports = -1 };

/* Called in the context that logs; @text is not terminated. */
static void edu_log_probe(void *unused, const char *text, size_t len)
{
	size_t size = min(len + 1, (size_t)EDU_LOG_TEXT);

	if (strnstr(text, "dma-phys: driver ", len) &&
	    strnstr(text, "not unmapped", len)) {
		edu_stale.reports++;
		strscpy(edu_stale.text, text, size);
	}
	if (current == READ_ONCE(edu_log.task) && in_task() &&
	    !edu_log.lines++)
		strscpy(edu_log.text, text, size);
}

void edu_log_init(void)
{
	if (!register_trace_console(edu_log_probe, NULL) &&
	    edu_stale.reports < 0)
		edu_stale.reports = 0;
}

void edu_log_exit(void)
{
	unregister_trace_console(edu_log_probe, NULL);
	tracepoint_synchronize_unregister();
}

void edu_log_start(void)
{
	edu_log.lines = 0;
	edu_log.text[0] = '\0';
	WRITE_ONCE(edu_log.task, current);
}

unsigned int edu_log_end(void)
{
	WRITE_ONCE(edu_log.task, NULL);
	return edu_log.lines;
}

const char *edu_log_text(void)
{
	return edu_log.text;
}

int edu_stale_reports(void)
{
	return edu_stale.reports;
}

const char *edu_stale_text(void)
{
	return edu_stale.text;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * The memory that the benchmark maps. All methods map the same ranges.
 */
#include <linux/align.h>
#include <linux/cache.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>

#include "benchmark.h"

/* Bytes from the start of a range to the start of the next one. */
static u32 bench_stride(const struct bench_params *p)
{
	return p->scattered ? 2 * p->size : p->size;
}

/*
 * Contiguous ranges share one allocation. A scattered range has an allocation of
 * twice its size, so that no other range follows it.
 */
static int bench_alloc_blocks(struct bench_worker *w)
{
	const struct bench_params *p = w->params;
	u32 count = p->scattered ? p->ranges : 1;
	size_t size = p->scattered ? 2 * (size_t)p->size :
				     (size_t)p->ranges * p->size;

	w->blocks = kvcalloc(count, sizeof(*w->blocks), GFP_KERNEL);
	if (!w->blocks)
		return -ENOMEM;
	for (; w->count < count; w->count++) {
		w->blocks[w->count] = kzalloc(size, GFP_KERNEL | __GFP_NOWARN);
		if (!w->blocks[w->count])
			return -ENOMEM;
	}
	return 0;
}

static int bench_alloc_memory(struct bench_worker *w)
{
	const struct bench_params *p = w->params;
	int err;

	err = bench_alloc_blocks(w);
	for (u32 i = 0; !err && i < p->ranges; i++) {
		void *virt = p->scattered ? w->blocks[i] :
					    w->blocks[0] + i * (size_t)p->size;

		w->virts[i] = virt;
		bvec_set_virt(&w->pages[i], virt, p->size);
		err = cpu_phys_from_virt(virt, p->size, &w->ranges[i]);
	}
	return err;
}

/* The device's own memory, in its largest BAR. */
static int bench_find_mmio(struct bench_worker *w)
{
	struct pci_dev *pdev = to_pci_dev(w->dev);
	const struct bench_params *p = w->params;
	int bar = 0, err = 0;

	for (int i = 1; i < PCI_STD_NUM_BARS; i++)
		if (pci_resource_flags(pdev, i) & IORESOURCE_MEM &&
		    pci_resource_len(pdev, i) > pci_resource_len(pdev, bar))
			bar = i;
	for (u32 i = 0; !err && i < p->ranges; i++)
		err = mmio_phys_from_resource(pci_resource_n(pdev, bar),
					      (u64)i * bench_stride(p), p->size,
					      &w->mmio[i]);
	/* The BAR is too small. */
	return err ? -ENOMEM : 0;
}

static int bench_bar_of(struct pci_dev *pdev, phys_addr_t phys)
{
	for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		if (phys >= pci_resource_start(pdev, bar) &&
		    phys <= pci_resource_end(pdev, bar))
			return bar;
	return -EINVAL;
}

/* Memory that the driver of another device has published and registered. */
static int bench_alloc_peer(struct bench_worker *w)
{
	const struct bench_params *p = w->params;
	int err = 0;

	w->peer = pci_p2pmem_find(w->dev);
	if (!w->peer)
		return -EOPNOTSUPP;

	w->blocks = kvcalloc(1, sizeof(*w->blocks), GFP_KERNEL);
	if (!w->blocks)
		return -ENOMEM;
	w->blocks[0] = pci_alloc_p2pmem(w->peer, (size_t)p->ranges *
					bench_stride(p));
	if (!w->blocks[0])
		return -ENOMEM;
	w->count = 1;

	for (u32 i = 0; !err && i < p->ranges; i++) {
		void *virt = w->blocks[0] + i * (size_t)bench_stride(p);
		phys_addr_t phys = page_to_phys(virt_to_page(virt)) +
				   offset_in_page(virt);
		int bar = bench_bar_of(w->peer, phys);

		bvec_set_virt(&w->pages[i], virt, p->size);
		err = mmio_phys_from_bar(w->peer, bar, phys -
					 pci_resource_start(w->peer, bar),
					 p->size, &w->mmio[i]);
	}
	return err;
}

static void bench_free_peer_block(struct bench_worker *w)
{
	pci_free_p2pmem(w->peer, w->blocks[0],
			(size_t)w->params->ranges * bench_stride(w->params));
}

/* What a worker writes must not share a cache line with other workers. */
static void *bench_alloc_lines(size_t count, size_t size)
{
	return kvzalloc(ALIGN(size_mul(count, size), SMP_CACHE_BYTES),
			GFP_KERNEL);
}

static int bench_alloc_arrays(struct bench_worker *w)
{
	u32 n = w->params->ranges;

	w->max_segments = dma_phys_sg_max_segments(w->dev, n, (size_t)n *
						   w->params->size);
	w->segments = bench_alloc_lines(w->max_segments, sizeof(*w->segments));
	w->virts = bench_alloc_lines(n, sizeof(*w->virts));
	w->ranges = bench_alloc_lines(n, sizeof(*w->ranges));
	w->mmio = bench_alloc_lines(n, sizeof(*w->mmio));
	w->pages = bench_alloc_lines(n, sizeof(*w->pages));
	w->table.sgl = bench_alloc_lines(n, sizeof(*w->table.sgl));
	w->addrs = bench_alloc_lines(n, sizeof(*w->addrs));
	w->maps = bench_alloc_lines(n, sizeof(*w->maps));
	return w->segments && w->virts && w->ranges && w->mmio && w->pages &&
	       w->table.sgl && w->addrs && w->maps ? 0 : -ENOMEM;
}

static void bench_init_table(struct bench_worker *w)
{
	u32 n = w->params->ranges;

	sg_init_table(w->table.sgl, n);
	w->table.nents = n;
	w->table.orig_nents = n;
	for (u32 i = 0; i < n; i++)
		sg_set_page(&w->table.sgl[i], w->pages[i].bv_page,
			    w->pages[i].bv_len, w->pages[i].bv_offset);
}

static bool bench_next_cpu(struct dma_phys_source *source,
			   struct dma_phys_range *range)
{
	struct bench_source *s = container_of(source, struct bench_source,
					      source);

	*range = (struct dma_phys_range){
		.addr = s->cpu->addr,
		.len = s->cpu->len,
	};
	s->cpu++;
	return true;
}

static bool bench_next_mmio(struct dma_phys_source *source,
			    struct dma_phys_range *range)
{
	struct bench_source *s = container_of(source, struct bench_source,
					      source);

	*range = (struct dma_phys_range){
		.addr = s->mmio->addr,
		.len = s->mmio->len,
		.peer = s->mmio->peer,
		.kind = DMA_PHYS_MMIO,
	};
	s->mmio++;
	return true;
}

static void bench_init_source(struct bench_worker *w)
{
	const struct bench_params *p = w->params;
	bool is_cpu = p->memory == BENCH_CPU;
	struct dma_phys_source *source = &w->source.source;
	struct bench_source ranges;
	struct dma_phys_range range;
	phys_addr_t end = 0;

	*source = (struct dma_phys_source){
		.next = is_cpu ? bench_next_cpu : bench_next_mmio,
		.size = (size_t)p->ranges * p->size,
		.count = p->ranges,
		.peer = is_cpu ? 0 : w->mmio->peer,
		.kinds = BIT(is_cpu ? DMA_PHYS_CPU : DMA_PHYS_MMIO),
	};
	w->source.cpu = w->ranges;
	w->source.mmio = w->mmio;

	ranges = w->source;
	for (u32 i = 0; i < p->ranges; i++) {
		source->next(&ranges.source, &range);
		if (i && range.addr != end)
			source->gaps |= end | range.addr;
		end = range.addr + range.len;
	}
}

/**
 * bench_worker_init() - allocate ranges, and all that mapping them needs
 * @w: zeroed memory with @w->dev and @w->params
 *
 * Return: 0; -EOPNOTSUPP if there is no such memory, -ENOMEM if there is not
 * enough. The caller calls bench_worker_free() in any case.
 */
int bench_worker_init(struct bench_worker *w)
{
	int err = bench_alloc_arrays(w);

	if (err)
		return err;
	switch (w->params->memory) {
	case BENCH_MMIO:
		err = bench_find_mmio(w);
		break;
	case BENCH_PEER:
		err = bench_alloc_peer(w);
		break;
	default:
		err = bench_alloc_memory(w);
	}
	if (err)
		return err;

	/* Device memory without a peer has no struct pages. */
	if (w->params->memory != BENCH_MMIO)
		bench_init_table(w);
	bench_init_source(w);
	return 0;
}

/**
 * bench_worker_free() - free what bench_worker_init() has allocated
 * @w: the worker, with the parameters it was initialized with
 */
void bench_worker_free(struct bench_worker *w)
{
	if (w->params->memory == BENCH_PEER && w->count)
		bench_free_peer_block(w);
	else
		while (w->count)
			kfree(w->blocks[--w->count]);
	kvfree(w->blocks);
	kvfree(w->virts);
	kvfree(w->ranges);
	kvfree(w->mmio);
	kvfree(w->pages);
	kvfree(w->table.sgl);
	kvfree(w->addrs);
	kvfree(w->maps);
	kvfree(w->segments);
	pci_dev_put(w->peer);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What the benchmark maps. All methods of one shape get the same ranges.
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

static u32 bytes_apart(const struct bench_order *o)
{
	return o->scattered ? 2 * o->size : o->size;
}

/*
 * Contiguous ranges fill one block. Each of the scattered ones has a block of twice
 * its size, so that what follows it is nobody's.
 */
static int alloc_blocks(struct bench_worker *w)
{
	const struct bench_order *o = w->order;
	u32 count = o->scattered ? o->ranges : 1;
	size_t size = o->scattered ? 2 * (size_t)o->size :
				     (size_t)o->ranges * o->size;

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

static int find_memory(struct bench_worker *w)
{
	const struct bench_order *o = w->order;
	int err;

	err = alloc_blocks(w);
	for (u32 i = 0; !err && i < o->ranges; i++) {
		void *at = o->scattered ? w->blocks[i] :
					  w->blocks[0] + i * (size_t)o->size;

		w->virts[i] = at;
		bvec_set_virt(&w->pages[i], at, o->size);
		err = cpu_phys_from_virt(at, o->size, &w->ranges[i]);
	}
	return err;
}

/* The device's own memory, in its largest BAR. */
static int find_mmio(struct bench_worker *w)
{
	struct pci_dev *pdev = to_pci_dev(w->dev);
	const struct bench_order *o = w->order;
	int bar = 0, err = 0;

	for (int i = 1; i < PCI_STD_NUM_BARS; i++)
		if (pci_resource_flags(pdev, i) & IORESOURCE_MEM &&
		    pci_resource_len(pdev, i) > pci_resource_len(pdev, bar))
			bar = i;
	for (u32 i = 0; !err && i < o->ranges; i++)
		err = mmio_phys_from_resource(pci_resource_n(pdev, bar),
					      (u64)i * bytes_apart(o), o->size,
					      &w->mmio[i]);
	/* The BAR has no room for as many. */
	return err ? -ENOMEM : 0;
}

static int bar_of(struct pci_dev *pdev, phys_addr_t phys)
{
	for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		if (phys >= pci_resource_start(pdev, bar) &&
		    phys <= pci_resource_end(pdev, bar))
			return bar;
	return -EINVAL;
}

/* Memory that another device's driver has published, and lent as a peer's. */
static int find_peer(struct bench_worker *w)
{
	const struct bench_order *o = w->order;
	int err = 0;

	w->peer = pci_p2pmem_find(w->dev);
	if (!w->peer)
		return -EOPNOTSUPP;

	w->blocks = kvcalloc(1, sizeof(*w->blocks), GFP_KERNEL);
	if (!w->blocks)
		return -ENOMEM;
	w->blocks[0] = pci_alloc_p2pmem(w->peer, (size_t)o->ranges *
					bytes_apart(o));
	if (!w->blocks[0])
		return -ENOMEM;
	w->count = 1;

	for (u32 i = 0; !err && i < o->ranges; i++) {
		void *at = w->blocks[0] + i * (size_t)bytes_apart(o);
		phys_addr_t phys = page_to_phys(virt_to_page(at)) +
				   offset_in_page(at);
		int bar = bar_of(w->peer, phys);

		bvec_set_virt(&w->pages[i], at, o->size);
		err = mmio_phys_from_bar(w->peer, bar, phys -
					 pci_resource_start(w->peer, bar),
					 o->size, &w->mmio[i]);
	}
	return err;
}

static void free_peer_block(struct bench_worker *w)
{
	pci_free_p2pmem(w->peer, w->blocks[0],
			(size_t)w->order->ranges * bytes_apart(w->order));
}

/* Nothing that a worker writes may share a cache line with another's. */
static void *alloc_lines(size_t count, size_t size)
{
	return kvzalloc(ALIGN(size_mul(count, size), SMP_CACHE_BYTES),
			GFP_KERNEL);
}

/**
 * bench_worker_init() - find ranges, and make all that they are mapped with
 * @w: zeroed but for its device and its order
 *
 * Return: 0; -EOPNOTSUPP where there is no such memory, -ENOMEM where there is not
 * enough. bench_worker_free() is owed in any case.
 */
int bench_worker_init(struct bench_worker *w)
{
	u32 n = w->order->ranges;
	int err;

	w->vec.room = dma_phys_vec_room(w->dev, n, (size_t)n * w->order->size);
	w->vec.segments = alloc_lines(w->vec.room, sizeof(*w->vec.segments));
	w->virts = alloc_lines(n, sizeof(*w->virts));
	w->ranges = alloc_lines(n, sizeof(*w->ranges));
	w->mmio = alloc_lines(n, sizeof(*w->mmio));
	w->pages = alloc_lines(n, sizeof(*w->pages));
	w->table.sgl = alloc_lines(n, sizeof(*w->table.sgl));
	w->addrs = alloc_lines(n, sizeof(*w->addrs));
	w->maps = alloc_lines(n, sizeof(*w->maps));
	if (!w->vec.segments || !w->virts || !w->ranges || !w->mmio ||
	    !w->pages || !w->table.sgl || !w->addrs || !w->maps)
		return -ENOMEM;

	if (w->order->memory == BENCH_MMIO)
		return find_mmio(w);
	err = w->order->memory == BENCH_PEER ? find_peer(w) : find_memory(w);
	if (err)
		return err;

	sg_init_table(w->table.sgl, n);
	w->table.nents = n;
	w->table.orig_nents = n;
	for (u32 i = 0; i < n; i++)
		sg_set_page(&w->table.sgl[i], w->pages[i].bv_page,
			    w->pages[i].bv_len, w->pages[i].bv_offset);
	return 0;
}

/**
 * bench_worker_free() - free what bench_worker_init() has made
 * @w: the worker, with the order it was made for
 */
void bench_worker_free(struct bench_worker *w)
{
	if (w->order->memory == BENCH_PEER && w->count)
		free_peer_block(w);
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
	kvfree(w->vec.segments);
	pci_dev_put(w->peer);
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The benchmark: benchmark.c knows what is asked for, benchmark_memory.c what is
 * mapped, benchmark_methods.c the ways to map it.
 */
#ifndef _KERNEL_DMA_PHYS_BENCHMARK_H
#define _KERNEL_DMA_PHYS_BENCHMARK_H

#include <linux/atomic.h>
#include <linux/bvec.h>
#include <linux/cache.h>
#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>

enum bench_memory {
	BENCH_CPU,
	BENCH_MMIO,
	BENCH_PEER,
	BENCH_MEMORIES,
};

/* What a line asks for: all but the method are keys. */
struct bench_order {
	u32 method;
	u32 ranges;
	u32 size;
	u32 scattered;
	u32 dir;
	u32 sync;
	u32 loops;
	u32 live;
	u32 cpus;
	u32 memory;
};

/**
 * struct bench_worker - ranges, all that they are mapped with, and what it took
 * @dev: the device, on a PCI bus
 * @order: of what shape they are; how often, and which way, they are mapped
 * @ready: workers that begin together, see @order
 * @peer: whose memory the ranges are, or NULL
 * @blocks: the memory that they lie in
 * @count: of blocks
 * @virts: where they are, for the CPU
 * @ranges: where they are memory
 * @mmio: where they are device memory
 * @pages: the same, where it has pages
 * @table: the same, one entry for each
 * @addrs: handles of the raw API
 * @iova: the same, for all ranges
 * @maps: handles
 * @vec: the same, for all ranges
 * @done: where it is a thread
 * @start: in ns, when the loops began
 * @end: in ns, when they ended
 * @cycles: in between
 * @segments: what the device was given
 * @err: why there is no such result
 */
struct bench_worker {
	struct device *dev;
	const struct bench_order *order;
	atomic_t *ready;
	struct pci_dev *peer;
	void **blocks;
	u32 count;
	void **virts;
	struct cpu_phys *ranges;
	struct mmio_phys *mmio;
	struct bio_vec *pages;
	struct sg_table table;
	dma_addr_t *addrs;
	struct dma_iova_state iova;
	struct dma_phys_map *maps;
	struct dma_phys_vec vec;
	struct completion done;
	u64 start;
	u64 end;
	u64 cycles;
	u32 segments;
	int err;
} ____cacheline_aligned_in_smp;

/* A way to map ranges: by the memory that they are, NULL where it cannot. */
struct bench_method {
	const char *name;
	bool typed;
	int (*run[BENCH_MEMORIES])(struct bench_worker *w);
};

extern const struct bench_method bench_methods[];
extern const u32 bench_method_count;

int bench_worker_init(struct bench_worker *w);
void bench_worker_free(struct bench_worker *w);

#endif /* _KERNEL_DMA_PHYS_BENCHMARK_H */

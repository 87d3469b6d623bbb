/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The benchmark. benchmark.c parses and runs commands, benchmark_memory.c
 * provides the memory that is mapped, benchmark_methods.c has the methods.
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

/* A command: the index of a method, and the values of all keys. */
struct bench_params {
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
 * struct bench_source - the ranges of a worker, for the iterator
 * @source: its size and gaps are known in advance, as those of a block request
 * @cpu: next range of memory
 * @mmio: next range of device memory
 */
struct bench_source {
	struct dma_phys_source source;
	const struct cpu_phys *cpu;
	const struct mmio_phys *mmio;
};

/**
 * struct bench_worker - ranges, all that mapping them needs, and the result
 * @dev: the device, on a PCI bus
 * @params: the command
 * @ready: number of workers that are ready to start
 * @peer: owner of the ranges if they are a peer's, else NULL
 * @blocks: allocations that contain the ranges
 * @count: number of @blocks
 * @virts: linear-map addresses of the ranges
 * @ranges: the ranges if they are memory
 * @mmio: the ranges if they are device memory
 * @pages: the ranges if they have struct pages
 * @table: the same, one entry for each range
 * @source: the ranges, at their start
 * @addrs: DMA addresses of the raw API
 * @iova: state of the raw API for all ranges at one IOVA
 * @maps: a handle for each range
 * @sg: a list for all ranges
 * @segments: segments of @sg
 * @max_segments: capacity of @segments
 * @done: completed if the worker is a thread that has ended
 * @start: time before the loop, in ns
 * @end: time after the loop, in ns
 * @cycles: cycles of the loop
 * @segment_count: number of segments that the ranges became
 * @err: 0, or the error of the method
 */
struct bench_worker {
	struct device *dev;
	const struct bench_params *params;
	atomic_t *ready;
	struct pci_dev *peer;
	void **blocks;
	u32 count;
	void **virts;
	struct cpu_phys *ranges;
	struct mmio_phys *mmio;
	struct bio_vec *pages;
	struct sg_table table;
	struct bench_source source;
	dma_addr_t *addrs;
	struct dma_iova_state iova;
	struct dma_phys_map *maps;
	struct dma_phys_sg sg;
	struct dma_phys_segment *segments;
	size_t max_segments;
	struct completion done;
	u64 start;
	u64 end;
	u64 cycles;
	u32 segment_count;
	int err;
} ____cacheline_aligned_in_smp;

/**
 * struct bench_method - a method of mapping ranges
 * @name: its name in commands
 * @typed: it uses typed maps
 * @run: runs it on each kind of memory; NULL if it does not support the kind
 */
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

// SPDX-License-Identifier: GPL-2.0
/*
 * Benchmark of typed maps beside the raw DMA API, for the same device and the
 * same memory. A driver that binds by driver_override only, to any PCI device.
 * The device transfers nothing.
 *
 *	cd /sys/kernel/debug/dma_phys_benchmark
 *	echo typed_sg ranges=32 layout=scattered loops=20000 > run; cat run
 *
 * An iteration of the loop maps all ranges, syncs them for the CPU and for the
 * device if sync=1, and unmaps them. Memory, handles and the table for
 * dma_map_sgtable() are prepared before the loop.
 * samples/rust/rust_dma_phys_benchmark.rs has the same for Rust.
 *
 * A command is a method, one of
 *	empty		an empty loop
 *	dma_map_phys, dma_map_page, dma_map_resource, dma_map_sgtable
 *	dma_iova_link	all ranges at one IOVA
 *	iommu_map_sg	the same, with a scatterlist
 *	iommu_map_sg_vecs
 *			the same, with one page-table walk for many ranges
 *	typed_map	range by range
 *	typed_virt	the same, and each range is made from a pointer
 *	typed_locked	the same as typed_map, under a lock that all CPUs share
 *	typed_kept	mapped before the loop, which syncs for the device and the CPU
 *	typed_sg	all ranges together, to an array of segments
 *	typed_sg_iter	all ranges together, with the iterator
 * and keys, any of
 *	ranges=		number of ranges
 *	size=		of each, in bytes
 *	layout=		contiguous; scattered: no two ranges are adjacent
 *	direction=	to-device, from-device, bidirectional
 *	sync=		0, 1
 *	loops=		number of iterations
 *	live=		number of other live maps of one page each, with the same API
 *	cpus=		number of CPUs that run the loop, each with its own ranges
 *	memory=		cpu; mmio: a BAR of the device; peer: a BAR of another device
 */
#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-names.h>
#include <linux/dma-phys.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/kstrtox.h>
#include <linux/kthread.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "benchmark.h"

/* A live map of the raw API or, if @map is not empty, a typed one. */
struct bench_live {
	struct page *page;
	dma_addr_t addr;
	struct dma_phys_map map;
};

/**
 * struct bench - the benchmark on one device
 * @pdev: the device
 * @lock: protects all that follows
 * @worker_params: parameters that @workers use
 * @workers: one for each CPU; kept for the next command with the same ranges
 * @params: parameters of the result
 * @ready: number of workers that are ready to start
 * @ns: result: time of all iterations
 * @cycles: result: cycles of all iterations, of the slowest CPU
 * @segments: result: number of segments
 * @route: result: route of the first range
 * @has_result: there is a result
 * @debugfs: the directory
 */
struct bench {
	struct pci_dev *pdev;
	struct mutex lock;	/* see above */
	struct bench_params worker_params;
	struct bench_worker *workers;
	struct bench_params params;
	atomic_t ready;
	u64 ns;
	u64 cycles;
	u32 segments;
	u8 route;
	bool has_result;
	struct dentry *debugfs;
};

/* ---- Workers ---- */

static void bench_free_workers(struct bench *b)
{
	if (b->workers)
		for (u32 i = 0; i < b->worker_params.cpus; i++)
			bench_worker_free(&b->workers[i]);
	kvfree(b->workers);
	b->workers = NULL;
}

static bool bench_same_ranges(const struct bench_params *a,
			      const struct bench_params *b)
{
	return a->ranges == b->ranges && a->size == b->size &&
	       a->scattered == b->scattered && a->cpus == b->cpus &&
	       a->memory == b->memory;
}

/* All methods map the same ranges if they come one after the other. */
static int bench_get_workers(struct bench *b, const struct bench_params *p)
{
	int err = 0;

	if (b->workers && bench_same_ranges(p, &b->worker_params)) {
		b->worker_params = *p;
		return 0;
	}

	bench_free_workers(b);
	b->worker_params = *p;
	b->workers = kvcalloc(p->cpus, sizeof(*b->workers), GFP_KERNEL);
	if (!b->workers)
		return -ENOMEM;
	for (u32 i = 0; i < p->cpus; i++) {
		struct bench_worker *w = &b->workers[i];

		w->dev = &b->pdev->dev;
		w->params = &b->worker_params;
		w->ready = &b->ready;
		init_completion(&w->done);
		err = err ?: bench_worker_init(w);
	}
	if (err)
		bench_free_workers(b);
	return err;
}

/* ---- Live maps ---- */

static void bench_unmap_live(struct bench *b, struct bench_live *live,
			     u32 count)
{
	struct device *dev = &b->pdev->dev;

	while (count--) {
		if (live[count].map.dev)
			dma_phys_unmap(&live[count].map);
		else
			dma_unmap_page(dev, live[count].addr, PAGE_SIZE,
				       DMA_TO_DEVICE);
		__free_page(live[count].page);
	}
	kvfree(live);
}

static int bench_map_one_live(struct device *dev, struct bench_live *live,
			      bool typed)
{
	struct cpu_phys range;
	int err;

	live->page = alloc_page(GFP_KERNEL);
	if (!live->page)
		return -ENOMEM;
	if (typed) {
		err = cpu_phys_from_page(live->page, 0, PAGE_SIZE, &range);
		err = err ?: dma_phys_map_cpu(dev, &range, DMA_TO_DEVICE, 0,
					      &live->map);
	} else {
		live->addr = dma_map_page(dev, live->page, 0, PAGE_SIZE,
					  DMA_TO_DEVICE);
		err = dma_mapping_error(dev, live->addr);
	}
	if (err)
		__free_page(live->page);
	return err;
}

static struct bench_live *bench_map_live(struct bench *b,
					 const struct bench_params *p)
{
	struct bench_live *live = kvcalloc(p->live ?: 1, sizeof(*live),
					   GFP_KERNEL);
	int err;

	if (!live)
		return ERR_PTR(-ENOMEM);
	for (u32 i = 0; i < p->live; i++) {
		err = bench_map_one_live(&b->pdev->dev, &live[i],
					 bench_methods[p->method].typed);
		if (err) {
			bench_unmap_live(b, live, i);
			return ERR_PTR(err);
		}
	}
	return live;
}

/* ---- Run ---- */

static int bench_thread(void *data)
{
	struct bench_worker *w = data;
	const struct bench_params *p = w->params;

	w->err = bench_methods[p->method].run[p->memory](w);
	kthread_complete_and_exit(&w->done, 0);
}

static int bench_run_threads(struct bench *b)
{
	u32 cpus = b->worker_params.cpus, started;
	int err = 0;

	for (started = 0; started < cpus; started++) {
		struct bench_worker *w = &b->workers[started];
		struct task_struct *task;

		task = kthread_create_on_cpu(bench_thread, w, started,
					     "dma-bench/%u");
		if (IS_ERR(task)) {
			err = PTR_ERR(task);
			break;
		}
		reinit_completion(&w->done);
		wake_up_process(task);
	}
	/* The others must not wait for those that could not be started. */
	atomic_add(cpus - started, &b->ready);
	for (u32 i = 0; i < started; i++) {
		wait_for_completion(&b->workers[i].done);
		err = err ?: b->workers[i].err;
	}
	return err;
}

/* The route of the first range. */
static int bench_find_route(struct bench *b)
{
	struct bench_worker *w = &b->workers[0];
	const struct bench_params *p = w->params;
	int err;

	if (p->memory == BENCH_CPU)
		err = dma_phys_map_cpu(w->dev, w->ranges, p->dir, 0, w->maps);
	else
		err = dma_phys_map_mmio(w->dev, w->mmio, p->dir, 0, w->maps);
	if (err)
		return err;
	b->route = w->maps->route;
	dma_phys_unmap(w->maps);
	return 0;
}

static void bench_set_result(struct bench *b)
{
	struct bench_worker *w = b->workers;
	u64 start = w->start, end = w->end;

	b->segments = w->segment_count;
	b->cycles = 0;
	for (u32 i = 0; i < b->worker_params.cpus; i++) {
		start = min(start, w[i].start);
		end = max(end, w[i].end);
		b->cycles = max(b->cycles, w[i].cycles);
	}
	b->ns = end - start;
}

static int bench_run_method(struct bench *b, const struct bench_params *p)
{
	struct bench_live *live = bench_map_live(b, p);
	int err;

	if (IS_ERR(live))
		return PTR_ERR(live);

	atomic_set(&b->ready, 0);
	if (p->cpus == 1)
		err = bench_methods[p->method].run[p->memory](b->workers);
	else
		err = bench_run_threads(b);
	bench_unmap_live(b, live, p->live);
	return err;
}

static int bench_run(struct bench *b, const struct bench_params *p)
{
	int err;

	b->has_result = false;
	if (p->cpus > num_online_cpus())
		return -EINVAL;
	if (!bench_methods[p->method].run[p->memory])
		return -EOPNOTSUPP;

	err = bench_get_workers(b, p);
	err = err ?: bench_find_route(b);
	err = err ?: bench_run_method(b, p);
	if (!err) {
		bench_set_result(b);
		b->params = *p;
		b->has_result = true;
	}
	/* Memory of the peer would delay its removal. */
	if (p->memory == BENCH_PEER)
		bench_free_workers(b);
	return err;
}

/* ---- Commands ---- */

static const char *bench_layout_name(u8 layout)
{
	return layout ? "scattered" : "contiguous";
}

static const char *bench_memory_name(u8 memory)
{
	static const char * const names[BENCH_MEMORIES] = {
		[BENCH_CPU] = "cpu",
		[BENCH_MMIO] = "mmio",
		[BENCH_PEER] = "peer",
	};

	return names[memory];
}

static const struct bench_params bench_defaults = {
	.ranges = 1,
	.size = SZ_4K,
	.dir = DMA_TO_DEVICE,
	.loops = 1000,
	.cpus = 1,
};

/* Keys: a number from @min to @max, or a word, which names one of 0 to @max. */
static const struct bench_key {
	const char *name;
	size_t offset;
	u32 min;
	u32 max;
	const char *(*word)(u8 value);
} bench_keys[] = {
	{ "ranges", offsetof(struct bench_params, ranges), 1, 1024 },
	{ "size", offsetof(struct bench_params, size), 1, SZ_4M },
	{ "layout", offsetof(struct bench_params, scattered), 0, 1,
	  bench_layout_name },
	{ "direction", offsetof(struct bench_params, dir), 0, DMA_FROM_DEVICE,
	  dma_phys_dir_name },
	{ "sync", offsetof(struct bench_params, sync), 0, 1 },
	{ "loops", offsetof(struct bench_params, loops), 1, 10000000 },
	{ "live", offsetof(struct bench_params, live), 0, 1000000 },
	{ "cpus", offsetof(struct bench_params, cpus), 1, 1024 },
	{ "memory", offsetof(struct bench_params, memory), 0,
	  BENCH_MEMORIES - 1, bench_memory_name },
};

static int bench_parse_value(const struct bench_key *key, const char *text,
			     u32 *value)
{
	if (key->word) {
		for (*value = 0; *value <= key->max; ++*value)
			if (!strcmp(text, key->word(*value)))
				return 0;
		return -EINVAL;
	}
	return kstrtou32(text, 10, value) || *value < key->min ||
	       *value > key->max ? -EINVAL : 0;
}

static int bench_parse_key(struct bench_params *p, char *word)
{
	char *value = word;
	const char *name = strsep(&value, "=");

	for (int i = 0; value && i < ARRAY_SIZE(bench_keys); i++)
		if (!strcmp(name, bench_keys[i].name))
			return bench_parse_value(&bench_keys[i], value,
						 (void *)p +
						 bench_keys[i].offset);
	return -EINVAL;
}

static int bench_parse(struct bench_params *p, char *line)
{
	char *rest = strim(line), *word = strsep(&rest, " ");
	int err = 0;

	*p = bench_defaults;
	while (p->method < bench_method_count &&
	       strcmp(word, bench_methods[p->method].name))
		p->method++;
	if (p->method == bench_method_count)
		return -EINVAL;
	while (!err && (word = strsep(&rest, " ")))
		err = *word ? bench_parse_key(p, word) : 0;
	return err;
}

static ssize_t bench_run_write(struct file *file, const char __user *from,
			       size_t len, loff_t *pos)
{
	struct seq_file *seq = file->private_data;
	struct bench *b = seq->private;
	struct bench_params params;
	char line[256];
	int err;

	if (len >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, from, len))
		return -EFAULT;
	line[len] = 0;

	err = bench_parse(&params, line);
	if (err)
		return err;
	guard(mutex)(&b->lock);
	err = bench_run(b, &params);
	return err ?: len;
}

static int bench_run_show(struct seq_file *seq, void *unused)
{
	struct bench *b = seq->private;

	guard(mutex)(&b->lock);
	if (!b->has_result)
		return 0;

	seq_printf(seq, "method=%s", bench_methods[b->params.method].name);
	for (int i = 0; i < ARRAY_SIZE(bench_keys); i++) {
		const struct bench_key *key = &bench_keys[i];
		u32 *value = (void *)&b->params + key->offset;

		if (key->word)
			seq_printf(seq, " %s=%s", key->name, key->word(*value));
		else
			seq_printf(seq, " %s=%u", key->name, *value);
	}
	seq_printf(seq, " ns=%llu cycles=%llu segments=%u route=%s\n", b->ns,
		   b->cycles, b->segments, dma_phys_route_name(b->route));
	return 0;
}

static int bench_run_open(struct inode *inode, struct file *file)
{
	return single_open(file, bench_run_show, inode->i_private);
}

static const struct file_operations bench_run_fops = {
	.owner = THIS_MODULE,
	.open = bench_run_open,
	.read = seq_read,
	.write = bench_run_write,
	.llseek = seq_lseek,
	.release = single_release,
};

/* ---- Driver ---- */

static int bench_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct bench *b = devm_kzalloc(&pdev->dev, sizeof(*b), GFP_KERNEL);
	int err;

	if (!b)
		return -ENOMEM;
	err = pcim_enable_device(pdev);
	err = err ?: dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	/* dma_map_sgtable() splits no segments: neither may the others. */
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);

	b->pdev = pdev;
	mutex_init(&b->lock);
	pci_set_drvdata(pdev, b);

	/* The name of the directory allows one device at a time. */
	b->debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	if (IS_ERR(b->debugfs))
		return PTR_ERR(b->debugfs);
	debugfs_create_file("run", 0600, b->debugfs, b, &bench_run_fops);
	return 0;
}

static void bench_remove(struct pci_dev *pdev)
{
	struct bench *b = pci_get_drvdata(pdev);

	/* Waits for a command that is running. */
	debugfs_remove(b->debugfs);
	bench_free_workers(b);
}

static struct pci_driver bench_driver = {
	.name = KBUILD_MODNAME,
	.probe = bench_probe,
	.remove = bench_remove,
};
module_pci_driver(bench_driver);

MODULE_DESCRIPTION("Benchmark of typed maps of physical addresses");
MODULE_LICENSE("GPL");

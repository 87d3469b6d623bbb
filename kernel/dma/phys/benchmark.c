// SPDX-License-Identifier: GPL-2.0
/*
 * What mapping costs: typed maps beside the raw DMA API, for the same device and
 * the same memory. A driver that is bound through driver_override alone, to any
 * PCI device; nothing is ever transferred.
 *
 *	cd /sys/kernel/debug/dma_phys_benchmark
 *	echo typed_vec ranges=32 layout=scattered loops=20000 > run; cat run
 *
 * One loop is: map all ranges, sync them for the CPU and for the device if that is
 * asked for, unmap all. Memory and handles, and for dma_map_sgtable() the filled
 * table, are there before. samples/rust/rust_dma_phys_benchmark.rs is the same for
 * what there is in Rust.
 *
 * A line is a method, any of
 *	empty		nothing: what a loop takes itself
 *	dma_map_phys, dma_map_page, dma_map_resource, dma_map_sgtable
 *	dma_iova_link	all ranges at one IOVA, with one sync
 *	typed_map	each range by itself
 *	typed_virt	the same from an address, with the range made each time
 *	typed_locked	as typed_map, under a lock that all CPUs share
 *	typed_vec	all ranges together
 * and keys, any of
 *	ranges=		how many there are
 *	size=		of each, in bytes
 *	layout=		contiguous: each follows the last one; scattered: none does
 *	direction=	to, from, both
 *	sync=		0, 1
 *	loops=		how many are measured, after one that is not
 *	live=		maps of one page each that exist meanwhile, of the same API
 *	cpus=		that do it at the same time, each with ranges of its own
 *	memory=		cpu; mmio: the device's own BAR; peer: lent by another device
 */
#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
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

struct live {
	struct page *page;
	dma_addr_t addr;
	struct dma_phys_map map;
};

struct bench {
	struct pci_dev *pdev;
	struct mutex lock;			/* all that follows */
	struct bench_order shape;		/* that the workers were made for */
	struct bench_worker *workers;
	struct bench_order order;		/* the last one */
	atomic_t ready;
	u64 ns;
	u64 cycles;
	u32 segments;
	u32 route;
	bool has_result;
	struct dentry *debugfs;
};

static void free_workers(struct bench *b)
{
	if (b->workers)
		for (u32 i = 0; i < b->shape.cpus; i++)
			bench_worker_free(&b->workers[i]);
	kvfree(b->workers);
	b->workers = NULL;
}

static bool has_shape(const struct bench_order *o,
		      const struct bench_order *shape)
{
	return o->ranges == shape->ranges && o->size == shape->size &&
	       o->scattered == shape->scattered && o->cpus == shape->cpus &&
	       o->memory == shape->memory;
}

/* All methods of one shape are measured with the same workers. */
static int make_workers(struct bench *b, const struct bench_order *o)
{
	int err = 0;

	if (b->workers && has_shape(o, &b->shape)) {
		b->shape = *o;
		return 0;
	}

	free_workers(b);
	b->shape = *o;
	b->workers = kvcalloc(o->cpus, sizeof(*b->workers), GFP_KERNEL);
	if (!b->workers)
		return -ENOMEM;
	for (u32 i = 0; i < o->cpus; i++) {
		struct bench_worker *w = &b->workers[i];

		w->dev = &b->pdev->dev;
		w->order = &b->shape;
		w->ready = &b->ready;
		init_completion(&w->done);
		err = err ?: bench_worker_init(w);
	}
	if (err)
		free_workers(b);
	return err;
}

/* ---- maps that are there meanwhile ---- */

static void let_go(struct bench *b, struct live *live, u32 count)
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

static int hold_one(struct device *dev, struct live *one, bool typed)
{
	struct cpu_phys range;
	int err;

	one->page = alloc_page(GFP_KERNEL);
	if (!one->page)
		return -ENOMEM;
	if (typed) {
		err = cpu_phys_from_page(one->page, 0, PAGE_SIZE, &range);
		err = err ?: dma_phys_map_cpu(dev, &range, DMA_TO_DEVICE, 0,
					      &one->map);
	} else {
		one->addr = dma_map_page(dev, one->page, 0, PAGE_SIZE,
					 DMA_TO_DEVICE);
		err = dma_mapping_error(dev, one->addr);
	}
	if (err)
		__free_page(one->page);
	return err;
}

static struct live *hold(struct bench *b, const struct bench_order *o)
{
	struct live *live = kvcalloc(o->live ?: 1, sizeof(*live), GFP_KERNEL);
	int err;

	if (!live)
		return ERR_PTR(-ENOMEM);
	for (u32 i = 0; i < o->live; i++) {
		err = hold_one(&b->pdev->dev, &live[i],
			       bench_methods[o->method].typed);
		if (err) {
			let_go(b, live, i);
			return ERR_PTR(err);
		}
	}
	return live;
}

/* ---- a run ---- */

static int work(void *data)
{
	struct bench_worker *w = data;
	const struct bench_order *o = w->order;

	w->err = bench_methods[o->method].run[o->memory](w);
	kthread_complete_and_exit(&w->done, 0);
}

static int run_threads(struct bench *b)
{
	u32 cpus = b->shape.cpus, started;
	int err = 0;

	for (started = 0; started < cpus; started++) {
		struct bench_worker *w = &b->workers[started];
		struct task_struct *task;

		task = kthread_create_on_cpu(work, w, started, "dma-bench/%u");
		if (IS_ERR(task)) {
			err = PTR_ERR(task);
			break;
		}
		reinit_completion(&w->done);
		wake_up_process(task);
	}
	/* Nobody waits for those that do not come. */
	atomic_add(cpus - started, &b->ready);
	for (u32 i = 0; i < started; i++) {
		wait_for_completion(&b->workers[i].done);
		err = err ?: b->workers[i].err;
	}
	return err;
}

/* By which route: as a typed map of one range says. */
static int find_route(struct bench *b)
{
	struct bench_worker *w = &b->workers[0];
	const struct bench_order *o = w->order;
	int err;

	if (o->memory == BENCH_CPU)
		err = dma_phys_map_cpu(w->dev, w->ranges, o->dir, 0, w->maps);
	else
		err = dma_phys_map_mmio(w->dev, w->mmio, o->dir, 0, w->maps);
	if (err)
		return err;
	b->route = w->maps->route;
	dma_phys_unmap(w->maps);
	return 0;
}

static void sum_up(struct bench *b)
{
	struct bench_worker *w = b->workers;
	u64 start = w->start, end = w->end;

	b->segments = w->segments;
	b->cycles = 0;
	for (u32 i = 0; i < b->shape.cpus; i++) {
		start = min(start, w[i].start);
		end = max(end, w[i].end);
		b->cycles = max(b->cycles, w[i].cycles);
	}
	b->ns = end - start;
}

/* While there are others. */
static int run_among(struct bench *b, const struct bench_order *o)
{
	struct live *live = hold(b, o);
	int err;

	if (IS_ERR(live))
		return PTR_ERR(live);

	atomic_set(&b->ready, 0);
	if (o->cpus == 1)
		err = bench_methods[o->method].run[o->memory](b->workers);
	else
		err = run_threads(b);
	let_go(b, live, o->live);
	return err;
}

static int run(struct bench *b, const struct bench_order *o)
{
	int err;

	b->has_result = false;
	if (o->cpus > num_online_cpus())
		return -EINVAL;
	if (!bench_methods[o->method].run[o->memory])
		return -EOPNOTSUPP;

	err = make_workers(b, o);
	err = err ?: find_route(b);
	err = err ?: run_among(b, o);
	if (!err) {
		sum_up(b);
		b->order = *o;
		b->has_result = true;
	}
	/* The peer may leave. */
	if (o->memory == BENCH_PEER)
		free_workers(b);
	return err;
}

/* ---- lines ---- */

static const char * const layouts[] = { "contiguous", "scattered", NULL };
static const char * const directions[] = {
	[DMA_BIDIRECTIONAL] = "both",
	[DMA_TO_DEVICE] = "to",
	[DMA_FROM_DEVICE] = "from",
	NULL
};

static const char * const memories[] = {
	[BENCH_CPU] = "cpu",
	[BENCH_MMIO] = "mmio",
	[BENCH_PEER] = "peer",
	NULL
};

static const char * const routes[] = {
	[DMA_PHYS_NONE] = "none",
	[DMA_PHYS_DIRECT] = "direct",
	[DMA_PHYS_BOUNCE] = "bounce",
	[DMA_PHYS_IOMMU] = "iommu",
	[DMA_PHYS_OPS] = "ops",
	[DMA_PHYS_BUS] = "bus",
};

static const struct bench_order usual = {
	.ranges = 1,
	.size = SZ_4K,
	.dir = DMA_TO_DEVICE,
	.loops = 1000,
	.cpus = 1,
};

static const struct key {
	const char *name;
	size_t offset;
	const char * const *words;	/* or a number from @min to @max */
	u32 min;
	u32 max;
} keys[] = {
	{ "ranges", offsetof(struct bench_order, ranges), NULL, 1, 1024 },
	{ "size", offsetof(struct bench_order, size), NULL, 1, SZ_4M },
	{ "layout", offsetof(struct bench_order, scattered), layouts },
	{ "direction", offsetof(struct bench_order, dir), directions },
	{ "sync", offsetof(struct bench_order, sync), NULL, 0, 1 },
	{ "loops", offsetof(struct bench_order, loops), NULL, 1, 10000000 },
	{ "live", offsetof(struct bench_order, live), NULL, 0, 1000000 },
	{ "cpus", offsetof(struct bench_order, cpus), NULL, 1, 1024 },
	{ "memory", offsetof(struct bench_order, memory), memories },
};

static int set_key(struct bench_order *o, const struct key *key, const char *value)
{
	u32 *field = (void *)o + key->offset;
	int word;

	if (key->words) {
		word = match_string(key->words, -1, value);
		if (word < 0)
			return -EINVAL;
		*field = word;
		return 0;
	}
	if (kstrtou32(value, 10, field) || *field < key->min ||
	    *field > key->max)
		return -EINVAL;
	return 0;
}

static int parse_key(struct bench_order *o, char *word)
{
	char *value = word;
	const char *name = strsep(&value, "=");

	for (int i = 0; value && i < ARRAY_SIZE(keys); i++)
		if (!strcmp(name, keys[i].name))
			return set_key(o, &keys[i], value);
	return -EINVAL;
}

static int parse(struct bench_order *o, char *line)
{
	char *rest = strim(line), *word = strsep(&rest, " ");
	int err = 0;

	*o = usual;
	while (o->method < bench_method_count &&
	       strcmp(word, bench_methods[o->method].name))
		o->method++;
	if (o->method == bench_method_count)
		return -EINVAL;
	while (!err && (word = strsep(&rest, " ")))
		err = *word ? parse_key(o, word) : 0;
	return err;
}

static ssize_t run_write(struct file *file, const char __user *from, size_t len,
			 loff_t *pos)
{
	struct seq_file *seq = file->private_data;
	struct bench *b = seq->private;
	struct bench_order order;
	char line[256];
	int err;

	if (len >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, from, len))
		return -EFAULT;
	line[len] = 0;

	err = parse(&order, line);
	if (err)
		return err;
	guard(mutex)(&b->lock);
	err = run(b, &order);
	return err ?: len;
}

static int run_show(struct seq_file *seq, void *unused)
{
	struct bench *b = seq->private;

	guard(mutex)(&b->lock);
	if (!b->has_result)
		return 0;

	seq_printf(seq, "method=%s", bench_methods[b->order.method].name);
	for (int i = 0; i < ARRAY_SIZE(keys); i++) {
		u32 *field = (void *)&b->order + keys[i].offset;

		if (keys[i].words)
			seq_printf(seq, " %s=%s", keys[i].name,
				   keys[i].words[*field]);
		else
			seq_printf(seq, " %s=%u", keys[i].name, *field);
	}
	seq_printf(seq, " ns=%llu cycles=%llu segments=%u route=%s\n", b->ns,
		   b->cycles, b->segments, routes[b->route]);
	return 0;
}

static int run_open(struct inode *inode, struct file *file)
{
	return single_open(file, run_show, inode->i_private);
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.open = run_open,
	.read = seq_read,
	.write = run_write,
	.llseek = seq_lseek,
	.release = single_release,
};

/* ---- the driver ---- */

static int benchmark_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct bench *b = devm_kzalloc(&pdev->dev, sizeof(*b), GFP_KERNEL);
	int err;

	if (!b)
		return -ENOMEM;
	err = pcim_enable_device(pdev);
	err = err ?: dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	/* No method splits what another one does not. */
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);

	b->pdev = pdev;
	mutex_init(&b->lock);
	pci_set_drvdata(pdev, b);

	/* There is one such directory: one device at a time. */
	b->debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	if (IS_ERR(b->debugfs))
		return PTR_ERR(b->debugfs);
	debugfs_create_file("run", 0600, b->debugfs, b, &run_fops);
	return 0;
}

static void benchmark_remove(struct pci_dev *pdev)
{
	struct bench *b = pci_get_drvdata(pdev);

	/* Waits for a run. */
	debugfs_remove(b->debugfs);
	free_workers(b);
}

static struct pci_driver benchmark_driver = {
	.name = KBUILD_MODNAME,
	.probe = benchmark_probe,
	.remove = benchmark_remove,
};
module_pci_driver(benchmark_driver);

MODULE_DESCRIPTION("Benchmark of typed maps of physical addresses");
MODULE_LICENSE("GPL");

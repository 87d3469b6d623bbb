// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer: random operations with random arguments, each compared with the
 * prediction of fuzz_model.c. In debugfs:
 *
 *	echo "<seed> <operations> [<lie>]" >dma_phys_fuzz/run
 *	cat dma_phys_fuzz/run
 *
 * A seed reproduces a run: nothing depends on IOVAs, on addresses of bounce
 * buffers, or on how many segments these make.
 */
#include <linux/debugfs.h>
#include <linux/dma-phys-names.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/swiotlb.h>
#include <linux/uaccess.h>

#include "fuzz.h"

static const char *const fuzz_lies[FUZZ_LIES] = {
	[FUZZ_TRUTH] = "truth",
	[FUZZ_LIE_ERRNO] = "errno",
	[FUZZ_LIE_ADDRESS] = "address",
	[FUZZ_LIE_SEGMENT] = "segment",
	[FUZZ_LIE_DATA] = "data",
	[FUZZ_LIE_LEAK] = "leak",
};

const char *const fuzz_op_names[FUZZ_OPS] = {
	[FUZZ_FROM_PAGE] = "from_page",
	[FUZZ_FROM_VIRT] = "from_virt",
	[FUZZ_FROM_ADDR] = "from_addr",
	[FUZZ_FROM_RAW] = "from_raw",
	[FUZZ_FROM_RESOURCE] = "from_resource",
	[FUZZ_FROM_BAR] = "from_bar",
	[FUZZ_MAP_CPU] = "map_cpu",
	[FUZZ_MAP_MMIO] = "map_mmio",
	[FUZZ_SYNC_FOR_CPU] = "sync_for_cpu",
	[FUZZ_SYNC_FOR_DEVICE] = "sync_for_device",
	[FUZZ_UNMAP] = "unmap",
	[FUZZ_UNMAP_NOSYNC] = "unmap_nosync",
	[FUZZ_SG_MAX_SEGMENTS] = "sg_max_segments",
	[FUZZ_SG_MAP_CPU] = "sg_map_cpu",
	[FUZZ_SG_MAP_MMIO] = "sg_map_mmio",
	[FUZZ_SG_MAP_RANGES] = "sg_map_ranges",
	[FUZZ_SG_ITERATE] = "sg_iterate",
	[FUZZ_SG_STOP] = "sg_stop",
	[FUZZ_RQ_MAP] = "rq_map",
	[FUZZ_RQ_ITERATE] = "rq_iterate",
	[FUZZ_RQ_STOP] = "rq_stop",
	[FUZZ_SG_SYNC_FOR_CPU] = "sg_sync_for_cpu",
	[FUZZ_SG_SYNC_FOR_DEVICE] = "sg_sync_for_device",
	[FUZZ_SG_UNMAP] = "sg_unmap",
	[FUZZ_SG_UNMAP_NOSYNC] = "sg_unmap_nosync",
	[FUZZ_POOL_CREATE] = "pool_create",
	[FUZZ_REGISTER] = "register",
	[FUZZ_UNREGISTER] = "unregister",
	[FUZZ_SUSPEND] = "suspend",
	[FUZZ_RESUME] = "resume",
	[FUZZ_ATTACH] = "attach",
	[FUZZ_DETACH] = "detach",
	[FUZZ_REVOKED] = "revoked",
	[FUZZ_CPU_WRITES] = "cpu_writes",
	[FUZZ_DEVICE_READS] = "device_reads",
	[FUZZ_DEVICE_WRITES] = "device_writes",
	[FUZZ_EDU_READS] = "edu_reads",
	[FUZZ_EDU_WRITES] = "edu_writes",
	[FUZZ_CONFIGURE] = "configure",
	[FUZZ_EXHAUST] = "exhaust",
};

static const struct {
	int err;
	const char *name;
} fuzz_errnos[] = {
	{ 0, "0" }, { -EINVAL, "EINVAL" }, { -ENODEV, "ENODEV" },
	{ -ERANGE, "ERANGE" }, { -E2BIG, "E2BIG" }, { -EAGAIN, "EAGAIN" },
	{ -ENOMEM, "ENOMEM" }, { -EREMOTEIO, "EREMOTEIO" },
	{ -EOPNOTSUPP, "EOPNOTSUPP" }, { -ENOSPC, "ENOSPC" },
	{ -EEXIST, "EEXIST" }, { -ETIMEDOUT, "ETIMEDOUT" }, { -EIO, "EIO" },
	{ 1, "other" },
	/* For the tally only: success was not certain. */
	{ 2, "undetermined" },
};

static_assert(ARRAY_SIZE(fuzz_errnos) == FUZZ_ERRNOS);

#define FUZZ_OTHER		(FUZZ_ERRNOS - 2)
#define FUZZ_UNDETERMINED	(FUZZ_ERRNOS - 1)

/* ---- Random numbers ---- */

/* splitmix64 */
u64 fuzz_random(struct fuzz *fuzz)
{
	u64 z = fuzz->random += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

void fuzz_fill(struct fuzz *fuzz, u8 *data, size_t len)
{
	u64 word;

	for (size_t i = 0; i < len; i += sizeof(word)) {
		word = fuzz_random(fuzz);
		memcpy(data + i, &word, min(sizeof(word), len - i));
	}
}

u64 fuzz_odd(struct fuzz *fuzz)
{
	static const u64 odd[] = {
		0, 1, 2, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, SZ_1M, SZ_1G,
		U32_MAX, 1ULL << 32, 1ULL << 43, (1ULL << 43) + IO_TLB_SIZE,
		S64_MAX, 1ULL << 63, U64_MAX - PAGE_SIZE, U64_MAX - 1, U64_MAX,
	};

	return fuzz_one_in(fuzz, 4) ? fuzz_random(fuzz) : fuzz_any(fuzz, odd);
}

struct fuzz_dev *fuzz_any_dev(struct fuzz *fuzz)
{
	return &fuzz->dev[fuzz_one_in(fuzz, 4) ? FUZZ_IVSHMEM : FUZZ_EDU];
}

/* ---- Results ---- */

static unsigned int fuzz_errno_index(int err)
{
	unsigned int i = 0;

	while (i < FUZZ_OTHER && fuzz_errnos[i].err != err)
		i++;
	return i;
}

u32 fuzz_bit(int err)
{
	return BIT(fuzz_errno_index(err));
}

void fuzz_append(struct fuzz *fuzz, const char *fmt, ...)
{
	size_t n = strlen(fuzz->error);
	va_list args;

	va_start(args, fmt);
	vscnprintf(fuzz->error + n, sizeof(fuzz->error) - n, fmt, args);
	va_end(args);
}

void fuzz_error(struct fuzz *fuzz, const char *fmt, ...)
{
	va_list args;
	int n;

	if (!fuzz_good(fuzz))
		return;
	n = scnprintf(fuzz->error, sizeof(fuzz->error), "%llu: ", fuzz->ops);
	va_start(args, fmt);
	vscnprintf(fuzz->error + n, sizeof(fuzz->error) - n, fmt, args);
	va_end(args);
}

/* If success is not certain, the result depends on more than the seed. */
void fuzz_done(struct fuzz *fuzz, enum fuzz_op op, int err, u32 allowed)
{
	unsigned int index = fuzz_errno_index(err);
	bool determined = !(allowed & FUZZ_OK) || allowed == FUZZ_OK;

	fuzz->ops++;
	fuzz->tally[op][determined ? index : FUZZ_UNDETERMINED]++;
	if (allowed & BIT(index) || !fuzz_good(fuzz))
		return;

	fuzz_error(fuzz, "%s returned %d (%s), expected", fuzz_op_names[op],
		   err, fuzz_errnos[index].name);
	for (unsigned int i = 0; i < FUZZ_ERRNOS; i++)
		if (allowed & BIT(i))
			fuzz_append(fuzz, " %s", fuzz_errnos[i].name);
}

/* ---- A run ---- */

static void fuzz_step(struct fuzz *fuzz)
{
	switch (fuzz_below(fuzz, 256)) {
	case 0 ... 39:
		fuzz_step_range(fuzz);
		break;
	case 40 ... 47:
		fuzz_step_peer(fuzz);
		break;
	case 48:
		fuzz_step_configure(fuzz);
		break;
	case 49:
		fuzz_step_null(fuzz);
		break;
	case 50 ... 59:
		fuzz_step_edu(fuzz);
		break;
	case 60:
		if (fuzz_one_in(fuzz, 8))
			fuzz_step_exhaust(fuzz);
		break;
	default:
		fuzz_step_handle(fuzz);
	}
}

static void fuzz_configure_defaults(struct fuzz *fuzz)
{
	for (unsigned int i = FUZZ_EDU; i <= FUZZ_IVSHMEM; i++) {
		struct fuzz_dev *dev = &fuzz->dev[i];

		fuzz_configure(dev, DMA_BIT_MASK(dev->iommu ? 28 : 64),
			       &FUZZ_LIMITS, false, false);
	}
}

static void fuzz_begin(struct fuzz *fuzz)
{
	fuzz_configure_defaults(fuzz);
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++) {
		struct fuzz_area *cpu = &fuzz->handle[i].own[DMA_PHYS_CPU];
		struct fuzz_area *mmio = &fuzz->handle[i].own[DMA_PHYS_MMIO];

		fuzz_fill(fuzz, cpu->shadow, cpu->len);
		memcpy(cpu->mem, cpu->shadow, cpu->len);
		fuzz_fill(fuzz, mmio->shadow, mmio->len);
		memcpy_toio(mmio->io, mmio->shadow, mmio->len);
	}
	fuzz_fill(fuzz, fuzz->shared.shadow, fuzz->shared.len);
	memcpy(fuzz->shared.mem, fuzz->shared.shadow, fuzz->shared.len);
}

static void fuzz_end(struct fuzz *fuzz)
{
	fuzz_drain(fuzz, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(fuzz->peer); i++) {
		fuzz_unregister(fuzz, &fuzz->peer[i]);
		dma_phys_peer_detach(&fuzz->peer[i].client);
	}
	fuzz_configure_defaults(fuzz);
}

/* Leak a whole unit: fuzz_free_units() can miss less. */
static void fuzz_leak(struct fuzz *fuzz)
{
	struct cpu_phys range = { fuzz->shared.phys, FUZZ_BOUNCE };
	struct fuzz_dev *edu = &fuzz->dev[FUZZ_EDU];

	fuzz_configure(edu, edu->reach, &FUZZ_LIMITS,
		       !edu->iommu && edu->pool_end, false);
	dma_phys_map_cpu(edu->dev, &range, DMA_TO_DEVICE, 0,
			 &fuzz->handle[0].map);
}

static void fuzz_run(struct fuzz *fuzz, u64 ops)
{
	unsigned int before, after;

	before = fuzz_free_units(fuzz);
	fuzz_begin(fuzz);
	while (fuzz->ops < ops && fuzz_good(fuzz)) {
		fuzz_step(fuzz);
		cond_resched();
		if (fatal_signal_pending(current))
			fuzz_error(fuzz, "interrupted");
	}
	fuzz_end(fuzz);
	if (fuzz->lie == FUZZ_LIE_LEAK)
		fuzz_leak(fuzz);
	after = fuzz_free_units(fuzz);
	dma_phys_unmap(&fuzz->handle[0].map);
	if (after != before)
		fuzz_error(fuzz, "%u units of bounce buffers and IOVA space are free, expected %u",
			   after, before);
}

/* ---- debugfs ---- */

static DEFINE_MUTEX(fuzz_lock);
static char fuzz_result[SZ_8K];

static void fuzz_print_result(const struct fuzz *fuzz)
{
	size_t n = 0;

#define PRINT(...)	(n += scnprintf(fuzz_result + n,		\
					sizeof(fuzz_result) - n, __VA_ARGS__))
	PRINT("ops %llu\n", fuzz->ops);
	for (u8 route = 0; route < ARRAY_SIZE(fuzz->routes); route++)
		if (fuzz->routes[route])
			PRINT("route %s %u\n", dma_phys_route_name(route),
			      fuzz->routes[route]);
	for (unsigned int i = 0; i < FUZZ_OPS; i++)
		for (unsigned int j = 0; j < FUZZ_ERRNOS; j++)
			if (fuzz->tally[i][j])
				PRINT("%s %s %u\n", fuzz_op_names[i],
				      fuzz_errnos[j].name, fuzz->tally[i][j]);
	PRINT("%s%s\n", fuzz_good(fuzz) ? "ok" : "diverged at ", fuzz->error);
#undef PRINT
}

static int fuzz_start(u64 seed, u64 ops, enum fuzz_lie lie)
{
	struct fuzz *fuzz = kvzalloc(sizeof(*fuzz), GFP_KERNEL);
	int err;

	if (!fuzz)
		return -ENOMEM;
	fuzz->random = seed;
	fuzz->lie = lie;
	err = fuzz_devices_start(fuzz);
	if (IS_ENABLED(CONFIG_BLOCK) && !err)
		err = fuzz_queue_start();
	if (!err) {
		fuzz_run(fuzz, ops);
		fuzz_print_result(fuzz);
	}
	if (IS_ENABLED(CONFIG_BLOCK))
		fuzz_queue_end();
	fuzz_devices_end(fuzz);
	kvfree(fuzz);
	return err;
}

static ssize_t fuzz_file_write(struct file *file, const char __user *user,
			       size_t count, loff_t *pos)
{
	char line[80], lie[16] = "truth";
	unsigned long long seed, ops;
	int index, err;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, user, count))
		return -EFAULT;
	line[count] = '\0';
	if (sscanf(line, "%llu %llu %15s", &seed, &ops, lie) < 2)
		return -EINVAL;
	index = match_string(fuzz_lies, FUZZ_LIES, lie);
	if (index < 0)
		return -EINVAL;

	guard(mutex)(&fuzz_lock);
	err = fuzz_start(seed, ops, index);
	return err ?: count;
}

static ssize_t fuzz_file_read(struct file *file, char __user *user,
			      size_t count, loff_t *pos)
{
	guard(mutex)(&fuzz_lock);
	return simple_read_from_buffer(user, count, pos, fuzz_result,
				       strlen(fuzz_result));
}

static const struct file_operations fuzz_fops = {
	.owner = THIS_MODULE,
	.read = fuzz_file_read,
	.write = fuzz_file_write,
};

static int __init fuzz_init(void)
{
	struct dentry *dir = debugfs_create_dir("dma_phys_fuzz", NULL);

	debugfs_create_file("run", 0600, dir, NULL, &fuzz_fops);
	return 0;
}
late_initcall(fuzz_init);

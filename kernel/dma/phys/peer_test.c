// SPDX-License-Identifier: GPL-2.0
/*
 * Two drivers for tests/test_peers.py, bound through driver_override alone. The
 * lender lends the memory of QEMU's "ivshmem-plain", and may be taken away at any
 * time. The borrower maps it for QEMU's "edu":
 *
 *	cd /sys/kernel/debug/dma_phys_peer_test/0000:00:08.0
 *	echo map hold > mode; cat counts
 *
 * A mode is any of
 *	map	map a range of the peer and unmap it, in a tight loop
 *	move	the same, and let the bytes go from the peer to the device, to
 *		another place of the peer, and by the device to memory
 *	hold	map a range, and give it up only when told that the peer leaves
 * All begin anew with a peer that is lent again.
 */
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/err.h>
#include <linux/iopoll.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#define LENDER_DEVICE	0x1110		/* of PCI_VENDOR_ID_REDHAT_QUMRANET */
#define LENDER_BAR	2

#define EDU_BAR		0
#define EDU_ID		0x00
#define EDU_ID_LOW	0x00ed
#define EDU_DMA_SRC	0x80
#define EDU_DMA_DST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_CMD	0x98
#define EDU_CMD_RUN	BIT(0)
#define EDU_CMD_OUT	BIT(1)		/* out of the device's buffer */
#define EDU_BUF		0x40000		/* its buffer, as it addresses it */

/* edu takes 100 ms for any transfer; a busy host takes longer. */
#define EDU_TIMEOUT_US	(20 * USEC_PER_SEC)

/* Parts of the peer: holds the pattern, is moved to, is held. */
#define PART		SZ_4K
#define PART_PATTERN	0
#define PART_MOVED	PART
#define PART_HELD	(2 * PART)

static bool forget;
module_param(forget, bool, 0644);
MODULE_PARM_DESC(forget, "the lender's remove() leaves it to devres to take the BAR back");

static u8 pattern(size_t i)
{
	return i * 7 + (i >> 8) + 1;
}

/* ---- the lender ---- */

static int lender_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	u8 __iomem *memory;
	int err;

	err = pcim_enable_device(pdev);
	if (err)
		return err;

	memory = pcim_iomap(pdev, LENDER_BAR, 0);
	if (!memory)
		return -ENOMEM;
	for (size_t i = 0; i < PART; i++)
		writeb(pattern(i), memory + PART_PATTERN + i);
	memset_io(memory + PART_MOVED, 0, PART);

	return dma_phys_peer_register(pdev, LENDER_BAR);
}

static void lender_remove(struct pci_dev *pdev)
{
	if (!forget)
		dma_phys_peer_unregister(pdev, LENDER_BAR);
}

static struct pci_driver lender_driver = {
	.name = "dma_phys_lender_test",
	.probe = lender_probe,
	.remove = lender_remove,
};

/* ---- the borrower ---- */

enum count { MAPS, GONE, REFUSED, MOVES, SPOILT, HOLDS, REVOKES, COUNTS };

static const char * const count_names[COUNTS] = {
	[MAPS] = "maps",		/* made by "map" and "hold" */
	[GONE] = "gone",		/* failed with -ENODEV */
	[REFUSED] = "refused",		/* failed with another errno */
	[MOVES] = "moves",		/* bytes went all the way */
	[SPOILT] = "spoilt",		/* ...and were others */
	[HOLDS] = "holds",		/* maps made to be held */
	[REVOKES] = "revokes",		/* of those, given up when told */
};

enum mode { MAP, MOVE, HOLD, MODES };

struct borrower {
	struct pci_dev *pdev;
	u8 __iomem *regs;
	u8 *memory;			/* PART bytes */
	struct mutex mode_lock;		/* tasks */
	struct task_struct *tasks[MODES];
	struct dma_phys_peer_user user;
	struct mutex held_lock;		/* held */
	struct dma_phys_map held;
	struct wait_queue_head told_wait;
	bool told;
	atomic_t counts[COUNTS];
	int refusal;			/* the last errno but -ENODEV */
	struct dentry *debugfs;
};

static struct dentry *borrowers;

static void count(struct borrower *b, enum count what)
{
	atomic_inc(&b->counts[what]);
}

static int note(struct borrower *b, int err)
{
	if (!err) {
		count(b, MAPS);
	} else if (err == -ENODEV) {
		count(b, GONE);
	} else {
		count(b, REFUSED);
		b->refusal = err;
	}
	return err;
}

static int find(u64 part, struct mmio_phys *range)
{
	struct pci_dev *owner __free(pci_dev_put) =
		pci_get_device(PCI_VENDOR_ID_REDHAT_QUMRANET, LENDER_DEVICE,
			       NULL);

	if (!owner)
		return -ENODEV;
	return mmio_phys_from_bar(owner, LENDER_BAR, part, PART, range);
}

/* The device lets go of a map that it does not finish with. */
static int edu_run(struct borrower *b, u64 src, u64 dst, u64 cmd)
{
	u64 busy;
	int err;

	writeq(src, b->regs + EDU_DMA_SRC);
	writeq(dst, b->regs + EDU_DMA_DST);
	writeq(PART, b->regs + EDU_DMA_COUNT);
	writeq(cmd | EDU_CMD_RUN, b->regs + EDU_DMA_CMD);
	err = readq_poll_timeout(b->regs + EDU_DMA_CMD, busy,
				 !(busy & EDU_CMD_RUN), 1000, EDU_TIMEOUT_US);
	if (err)
		pci_clear_master(b->pdev);
	return err;
}

static int edu_move(struct borrower *b, const struct dma_phys_map *map)
{
	if (map->dir == DMA_TO_DEVICE)
		return edu_run(b, map->addr, EDU_BUF, 0);
	return edu_run(b, EDU_BUF, map->addr, EDU_CMD_OUT);
}

/* Mode "map": where the peer is gone, look for the next one. */
static int map_once(struct borrower *b, struct mmio_phys *range)
{
	struct dma_phys_map map = {};
	int err;

	err = range->len ? 0 : find(PART_PATTERN, range);
	err = err ?: dma_phys_map_mmio(&b->pdev->dev, range, DMA_TO_DEVICE, 0,
				       &map);
	if (note(b, err))
		range->len = 0;
	dma_phys_unmap(&map);
	return err;
}

static int map_loop(void *data)
{
	struct mmio_phys range = {};

	while (!kthread_should_stop()) {
		if (map_once(data, &range))
			usleep_range(500, 1000);
		cond_resched();
	}
	return 0;
}

/* Mode "move". */
static int move_part(struct borrower *b, u64 part, enum dma_data_direction dir)
{
	struct dma_phys_map map = {};
	struct mmio_phys range;
	int err;

	err = find(part, &range);
	err = err ?: dma_phys_map_mmio(&b->pdev->dev, &range, dir, 0, &map);
	err = err ?: edu_move(b, &map);
	dma_phys_unmap(&map);
	return err;
}

static int move_to_memory(struct borrower *b)
{
	struct dma_phys_map map = {};
	struct cpu_phys range;
	int err;

	memset(b->memory, 0, PART);
	err = cpu_phys_from_virt(b->memory, PART, &range);
	err = err ?: dma_phys_map_cpu(&b->pdev->dev, &range, DMA_FROM_DEVICE, 0,
				      &map);
	err = err ?: edu_move(b, &map);
	dma_phys_unmap(&map);
	return err;
}

static bool memory_is_right(struct borrower *b)
{
	for (size_t i = 0; i < PART; i++)
		if (b->memory[i] != pattern(i))
			return false;
	return true;
}

static int move_once(struct borrower *b)
{
	int err;

	err = move_part(b, PART_PATTERN, DMA_TO_DEVICE);
	err = err ?: move_part(b, PART_MOVED, DMA_FROM_DEVICE);
	err = err ?: move_part(b, PART_MOVED, DMA_TO_DEVICE);
	err = err ?: move_to_memory(b);
	if (err)
		return note(b, err);
	count(b, memory_is_right(b) ? MOVES : SPOILT);
	return 0;
}

static int move_loop(void *data)
{
	while (!kthread_should_stop())
		if (move_once(data))
			usleep_range(500, 1000);
	return 0;
}

/* Mode "hold": maps and gives up under one lock, as a user must. */
static void give_up(struct dma_phys_peer_user *user)
{
	struct borrower *b = container_of(user, struct borrower, user);

	scoped_guard(mutex, &b->held_lock) {
		if (b->held.dev)
			count(b, REVOKES);
		dma_phys_unmap(&b->held);
	}
	WRITE_ONCE(b->told, true);
	wake_up(&b->told_wait);
}

static int hold(struct borrower *b)
{
	struct mmio_phys range;
	int err;

	WRITE_ONCE(b->told, false);
	err = find(PART_HELD, &range);
	err = err ?: dma_phys_peer_attach(&range, &b->user);
	if (err)
		return note(b, err);

	guard(mutex)(&b->held_lock);
	err = dma_phys_map_mmio(&b->pdev->dev, &range, DMA_BIDIRECTIONAL, 0,
				&b->held);
	if (!note(b, err))
		count(b, HOLDS);
	return err;
}

static int hold_loop(void *data)
{
	struct borrower *b = data;

	while (!kthread_should_stop()) {
		if (hold(b))
			usleep_range(500, 1000);
		else
			wait_event_idle(b->told_wait, READ_ONCE(b->told) ||
					kthread_should_stop());
		dma_phys_peer_detach(&b->user);
	}
	dma_phys_unmap(&b->held);
	return 0;
}

/* ---- its debugfs ---- */

static const struct {
	const char *name;
	int (*loop)(void *borrower);
} modes[MODES] = {
	[MAP] = { "map", map_loop },
	[MOVE] = { "move", move_loop },
	[HOLD] = { "hold", hold_loop },
};

static void stop(struct borrower *b)
{
	for (int mode = 0; mode < MODES; mode++) {
		if (b->tasks[mode])
			kthread_stop(b->tasks[mode]);
		b->tasks[mode] = NULL;
	}
}

static int start(struct borrower *b, enum mode mode)
{
	struct task_struct *task;

	if (b->tasks[mode])
		return -EINVAL;
	task = kthread_run(modes[mode].loop, b, "peer-%s", modes[mode].name);
	if (IS_ERR(task))
		return PTR_ERR(task);
	b->tasks[mode] = task;
	return 0;
}

static int start_named(struct borrower *b, const char *name)
{
	for (int mode = 0; mode < MODES; mode++)
		if (!strcmp(name, modes[mode].name))
			return start(b, mode);
	return -EINVAL;
}

static ssize_t mode_write(struct file *file, const char __user *from,
			  size_t len, loff_t *pos)
{
	struct borrower *b = file->private_data;
	char line[32], *rest = line, *word;
	int err = 0;

	if (len >= sizeof(line) || copy_from_user(line, from, len))
		return -EINVAL;
	line[len] = 0;

	guard(mutex)(&b->mode_lock);
	stop(b);
	while (!err && (word = strsep(&rest, "\n ")))
		if (*word)
			err = start_named(b, word);
	return err ?: len;
}

static const struct file_operations mode_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = mode_write,
};

static int counts_show(struct seq_file *seq, void *unused)
{
	struct borrower *b = seq->private;

	for (int i = 0; i < COUNTS; i++)
		seq_printf(seq, "%s %d\n", count_names[i],
			   atomic_read(&b->counts[i]));
	seq_printf(seq, "refusal %d\n", b->refusal);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counts);

static int borrower_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct borrower *b = devm_kzalloc(&pdev->dev, sizeof(*b), GFP_KERNEL);
	int err;

	if (!b)
		return -ENOMEM;
	b->memory = (u8 *)devm_get_free_pages(&pdev->dev, GFP_KERNEL, 0);
	if (!b->memory)
		return -ENOMEM;

	err = pcim_enable_device(pdev);
	err = err ?: dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	b->regs = pcim_iomap(pdev, EDU_BAR, 0);
	if (!b->regs)
		return -ENOMEM;
	if ((readl(b->regs + EDU_ID) & 0xffff) != EDU_ID_LOW)
		return -ENODEV;

	b->pdev = pdev;
	b->user.revoke = give_up;
	mutex_init(&b->mode_lock);
	mutex_init(&b->held_lock);
	init_waitqueue_head(&b->told_wait);
	pci_set_drvdata(pdev, b);
	pci_set_master(pdev);

	b->debugfs = debugfs_create_dir(pci_name(pdev), borrowers);
	debugfs_create_file("mode", 0200, b->debugfs, b, &mode_fops);
	debugfs_create_file("counts", 0400, b->debugfs, b, &counts_fops);
	return 0;
}

static void borrower_remove(struct pci_dev *pdev)
{
	struct borrower *b = pci_get_drvdata(pdev);

	/* Afterwards nobody writes a mode any more. */
	debugfs_remove(b->debugfs);
	stop(b);
	pci_clear_master(pdev);
}

static struct pci_driver borrower_driver = {
	.name = "dma_phys_borrower_test",
	.probe = borrower_probe,
	.remove = borrower_remove,
};

static int __init peer_test_init(void)
{
	int err;

	borrowers = debugfs_create_dir("dma_phys_peer_test", NULL);
	err = pci_register_driver(&lender_driver);
	if (err)
		goto err_dir;
	err = pci_register_driver(&borrower_driver);
	if (err)
		goto err_lender;
	return 0;

err_lender:
	pci_unregister_driver(&lender_driver);
err_dir:
	debugfs_remove(borrowers);
	return err;
}
module_init(peer_test_init);

static void __exit peer_test_exit(void)
{
	pci_unregister_driver(&lender_driver);
	pci_unregister_driver(&borrower_driver);
	debugfs_remove(borrowers);
}
module_exit(peer_test_exit);

MODULE_DESCRIPTION("Test drivers for peers that leave");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * Two drivers for tests/test_peers.py, bound through driver_override only. The
 * owner shares the memory of QEMU's "ivshmem-plain", and may be unbound, unplugged
 * or reset at any time. The client maps it for QEMU's "edu":
 *
 *	cd /sys/kernel/debug/dma_phys_peer_test/0000:00:08.0
 *	echo map hold > mode; cat counts
 *
 * A mode is any of
 *	map	map a range of the peer and unmap it, in a tight loop
 *	move	the same, and move bytes from the peer to the device, back to
 *		another range of the peer, and from there to memory
 *	hold	map a range, and unmap it when revoked
 *	keep	map a range without being a client, and unmap it when the mode
 *		changes
 * All continue after a reset of the owner and with the next peer.
 */
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-peer.h>
#include <linux/dma-phys.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "edu.h"

/* Ranges of the peer: holds the pattern, gets a copy of it, is held. */
#define RANGE_SIZE	SZ_4K
#define RANGE_PATTERN	0
#define RANGE_COPY	RANGE_SIZE
#define RANGE_HELD	(2 * RANGE_SIZE)

/* Longer than any map of the mode "move" is held: see EDU_TIMEOUT_US. */
#define SUSPEND_MS	(30 * MSEC_PER_SEC)

static bool skip_unregister;
module_param(skip_unregister, bool, 0644);
MODULE_PARM_DESC(skip_unregister, "The remove() of the owner lets devres unregister the peer");

static u8 peer_test_pattern(size_t i)
{
	return i * 7 + (i >> 8) + 1;
}

/* ---- the owner ---- */

static atomic_t owner_resets;
static atomic_t owner_suspend_errors;

static void owner_test_fill(u8 __iomem *memory)
{
	for (size_t i = 0; i < RANGE_SIZE; i++)
		writeb(peer_test_pattern(i), memory + RANGE_PATTERN + i);
}

static int owner_test_probe(struct pci_dev *pdev,
			    const struct pci_device_id *id)
{
	u8 __iomem *memory;
	int err;

	err = pcim_enable_device(pdev);
	if (err)
		return err;

	memory = pcim_iomap(pdev, IVSHMEM_BAR, 0);
	if (!memory)
		return -ENOMEM;
	owner_test_fill(memory);
	memset_io(memory + RANGE_COPY, 0, RANGE_SIZE);
	pci_set_drvdata(pdev, (void __force *)memory);

	return dma_phys_peer_register(pdev, IVSHMEM_BAR);
}

static void owner_test_remove(struct pci_dev *pdev)
{
	if (!skip_unregister)
		dma_phys_peer_unregister(pdev, IVSHMEM_BAR);
}

/* During the reset the pattern is gone: a client that reads would notice. */
static void owner_test_reset_prepare(struct pci_dev *pdev)
{
	u8 __iomem *memory = (void __iomem __force *)pci_get_drvdata(pdev);

	if (dma_phys_peer_suspend(pdev, IVSHMEM_BAR, SUSPEND_MS))
		atomic_inc(&owner_suspend_errors);
	memset_io(memory + RANGE_PATTERN, 0xff, RANGE_SIZE);
}

static void owner_test_reset_done(struct pci_dev *pdev)
{
	u8 __iomem *memory = (void __iomem __force *)pci_get_drvdata(pdev);

	owner_test_fill(memory);
	dma_phys_peer_resume(pdev, IVSHMEM_BAR);
	atomic_inc(&owner_resets);
}

static const struct pci_error_handlers owner_test_err_handler = {
	.reset_prepare = owner_test_reset_prepare,
	.reset_done = owner_test_reset_done,
};

static struct pci_driver owner_test_driver = {
	.name = "dma_phys_owner_test",
	.probe = owner_test_probe,
	.remove = owner_test_remove,
	.err_handler = &owner_test_err_handler,
};

/* ---- the client ---- */

enum count {
	MAPS, GONE, SUSPENDED, FAILED, MOVES, CORRUPT, HOLDS, REVOKES, COUNTS,
};

static const char * const client_test_count_names[COUNTS] = {
	[MAPS] = "maps",		/* of all modes but "move" */
	[GONE] = "gone",		/* failed with -ENODEV */
	[SUSPENDED] = "suspended",	/* failed with -EAGAIN */
	[FAILED] = "failed",		/* failed with another errno */
	[MOVES] = "moves",		/* complete rounds of "move" */
	[CORRUPT] = "corrupt",		/* the same, with wrong bytes */
	[HOLDS] = "holds",		/* maps of "hold" */
	[REVOKES] = "revokes",		/* of these, unmapped when revoked */
};

enum mode { MAP, MOVE, HOLD, KEEP, MODES };

struct client_test {
	struct pci_dev *pdev;
	u8 __iomem *regs;
	u8 *memory;			/* RANGE_SIZE bytes */
	struct mutex mode_lock;		/* tasks */
	struct task_struct *tasks[MODES];
	struct dma_phys_peer_client client;
	struct mutex held_lock;		/* held */
	struct dma_phys_map held;
	struct wait_queue_head revoked_wait;
	bool revoked;
	atomic_t counts[COUNTS];
	int last_error;			/* of those in FAILED */
	struct dentry *debugfs;
};

static struct dentry *peer_test_dir;

static void client_test_count(struct client_test *c, enum count what)
{
	atomic_inc(&c->counts[what]);
}

static int client_test_count_map(struct client_test *c, int err)
{
	switch (err) {
	case 0:
		client_test_count(c, MAPS);
		break;
	case -ENODEV:
		client_test_count(c, GONE);
		break;
	case -EAGAIN:
		client_test_count(c, SUSPENDED);
		break;
	default:
		client_test_count(c, FAILED);
		c->last_error = err;
	}
	return err;
}

static int client_test_find(u64 offset, struct mmio_phys *range)
{
	struct pci_dev *owner __free(pci_dev_put) =
		pci_get_device(PCI_VENDOR_ID_REDHAT_QUMRANET, IVSHMEM_DEVICE_ID,
			       NULL);

	if (!owner)
		return -ENODEV;
	return mmio_phys_from_bar(owner, IVSHMEM_BAR, offset, RANGE_SIZE, range);
}

/* After a timeout, the device must not access what is unmapped next. */
static int client_test_transfer(struct client_test *c,
				const struct dma_phys_map *map)
{
	int err = edu_transfer(c->regs, map->addr, RANGE_SIZE,
			       map->dir == DMA_FROM_DEVICE);

	if (err)
		pci_clear_master(c->pdev);
	return err;
}

/* Mode "map". A range stays valid until the peer is unregistered. */
static int client_test_map(struct client_test *c, struct mmio_phys *range)
{
	struct dma_phys_map map = {};
	int err;

	err = range->len ? 0 : client_test_find(RANGE_PATTERN, range);
	err = err ?: dma_phys_map_mmio(&c->pdev->dev, range, DMA_TO_DEVICE, 0,
				       &map);
	if (client_test_count_map(c, err) == -ENODEV)
		range->len = 0;
	dma_phys_unmap(&map);
	return err;
}

static int client_test_map_loop(void *data)
{
	struct mmio_phys range = {};

	while (!kthread_should_stop()) {
		if (client_test_map(data, &range))
			usleep_range(500, 1000);
		cond_resched();
	}
	return 0;
}

/* Mode "move". */
static int client_test_move_range(struct client_test *c, u64 offset,
				  enum dma_data_direction dir)
{
	struct dma_phys_map map = {};
	struct mmio_phys range;
	int err;

	err = client_test_find(offset, &range);
	err = err ?: dma_phys_map_mmio(&c->pdev->dev, &range, dir, 0, &map);
	err = err ?: client_test_transfer(c, &map);
	dma_phys_unmap(&map);
	return err;
}

static int client_test_move_to_memory(struct client_test *c)
{
	struct dma_phys_map map = {};
	struct cpu_phys range;
	int err;

	memset(c->memory, 0, RANGE_SIZE);
	err = cpu_phys_from_virt(c->memory, RANGE_SIZE, &range);
	err = err ?: dma_phys_map_cpu(&c->pdev->dev, &range, DMA_FROM_DEVICE, 0,
				      &map);
	err = err ?: client_test_transfer(c, &map);
	dma_phys_unmap(&map);
	return err;
}

static bool client_test_is_corrupt(struct client_test *c)
{
	for (size_t i = 0; i < RANGE_SIZE; i++)
		if (c->memory[i] != peer_test_pattern(i))
			return true;
	return false;
}

static int client_test_move(struct client_test *c)
{
	int err;

	err = client_test_move_range(c, RANGE_PATTERN, DMA_TO_DEVICE);
	err = err ?: client_test_move_range(c, RANGE_COPY, DMA_FROM_DEVICE);
	err = err ?: client_test_move_range(c, RANGE_COPY, DMA_TO_DEVICE);
	err = err ?: client_test_move_to_memory(c);
	if (err)
		return client_test_count_map(c, err);
	client_test_count(c, client_test_is_corrupt(c) ? CORRUPT : MOVES);
	return 0;
}

static int client_test_move_loop(void *data)
{
	while (!kthread_should_stop())
		if (client_test_move(data))
			usleep_range(500, 1000);
	return 0;
}

/* Mode "hold": maps, and unmaps when revoked, under one lock. */
static void client_test_revoke(struct dma_phys_peer_client *client)
{
	struct client_test *c = container_of(client, struct client_test, client);

	scoped_guard(mutex, &c->held_lock) {
		if (c->held.dev)
			client_test_count(c, REVOKES);
		dma_phys_unmap(&c->held);
	}
	WRITE_ONCE(c->revoked, true);
	wake_up(&c->revoked_wait);
}

static int client_test_hold(struct client_test *c)
{
	struct mmio_phys range;
	int err;

	WRITE_ONCE(c->revoked, false);
	err = client_test_find(RANGE_HELD, &range);
	err = err ?: dma_phys_peer_attach(&range, &c->client);
	if (err)
		return client_test_count_map(c, err);

	guard(mutex)(&c->held_lock);
	/* Revoked already, and no longer attached. */
	if (c->revoked)
		return client_test_count_map(c, -EAGAIN);
	err = dma_phys_map_mmio(&c->pdev->dev, &range, DMA_BIDIRECTIONAL, 0,
				&c->held);
	if (!client_test_count_map(c, err))
		client_test_count(c, HOLDS);
	return err;
}

static int client_test_hold_loop(void *data)
{
	struct client_test *c = data;

	while (!kthread_should_stop()) {
		if (client_test_hold(c))
			usleep_range(500, 1000);
		else
			wait_event_idle(c->revoked_wait,
					READ_ONCE(c->revoked) ||
					kthread_should_stop());
		dma_phys_peer_detach(&c->client);
	}
	dma_phys_unmap(&c->held);
	return 0;
}

/* Mode "keep". */
static int client_test_keep_loop(void *data)
{
	struct mmio_phys range = {};
	struct dma_phys_map map = {};
	struct client_test *c = data;
	int err;

	err = client_test_find(RANGE_HELD, &range);
	err = err ?: dma_phys_map_mmio(&c->pdev->dev, &range, DMA_BIDIRECTIONAL,
				       0, &map);
	client_test_count_map(c, err);
	wait_event_idle(c->revoked_wait, kthread_should_stop());
	dma_phys_unmap(&map);
	return 0;
}

/* ---- debugfs of the client ---- */

static const struct {
	const char *name;
	int (*loop)(void *client);
} client_test_modes[MODES] = {
	[MAP] = { "map", client_test_map_loop },
	[MOVE] = { "move", client_test_move_loop },
	[HOLD] = { "hold", client_test_hold_loop },
	[KEEP] = { "keep", client_test_keep_loop },
};

static void client_test_stop(struct client_test *c)
{
	for (int mode = 0; mode < MODES; mode++) {
		if (c->tasks[mode])
			kthread_stop(c->tasks[mode]);
		c->tasks[mode] = NULL;
	}
}

static int client_test_start(struct client_test *c, enum mode mode)
{
	struct task_struct *task;

	if (c->tasks[mode])
		return -EINVAL;
	task = kthread_run(client_test_modes[mode].loop, c, "peer-%s",
			   client_test_modes[mode].name);
	if (IS_ERR(task))
		return PTR_ERR(task);
	c->tasks[mode] = task;
	return 0;
}

static int client_test_start_named(struct client_test *c, const char *name)
{
	for (int mode = 0; mode < MODES; mode++)
		if (!strcmp(name, client_test_modes[mode].name))
			return client_test_start(c, mode);
	return -EINVAL;
}

static ssize_t client_test_mode_write(struct file *file,
				      const char __user *from, size_t len,
				      loff_t *pos)
{
	struct client_test *c = file->private_data;
	char line[32], *rest = line, *word;
	int err = 0;

	if (len >= sizeof(line) || copy_from_user(line, from, len))
		return -EINVAL;
	line[len] = 0;

	guard(mutex)(&c->mode_lock);
	client_test_stop(c);
	while (!err && (word = strsep(&rest, "\n ")))
		if (*word)
			err = client_test_start_named(c, word);
	return err ?: len;
}

static const struct file_operations client_test_mode_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = client_test_mode_write,
};

static int client_test_counts_show(struct seq_file *seq, void *unused)
{
	struct client_test *c = seq->private;

	for (int i = 0; i < COUNTS; i++)
		seq_printf(seq, "%s %d\n", client_test_count_names[i],
			   atomic_read(&c->counts[i]));
	seq_printf(seq, "last_error %d\n", c->last_error);
	seq_printf(seq, "resets %d\n", atomic_read(&owner_resets));
	seq_printf(seq, "suspend_errors %d\n",
		   atomic_read(&owner_suspend_errors));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(client_test_counts);

static int client_test_probe(struct pci_dev *pdev,
			     const struct pci_device_id *id)
{
	struct client_test *c;
	int err;

	c = devm_kzalloc(&pdev->dev, sizeof(*c), GFP_KERNEL);
	if (!c)
		return -ENOMEM;
	c->memory = (u8 *)devm_get_free_pages(&pdev->dev, GFP_KERNEL, 0);
	if (!c->memory)
		return -ENOMEM;

	err = pcim_enable_device(pdev);
	err = err ?: dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	c->regs = pcim_iomap(pdev, EDU_BAR, 0);
	if (!c->regs)
		return -ENOMEM;
	if (!edu_present(c->regs))
		return -ENODEV;

	c->pdev = pdev;
	c->client.revoke = client_test_revoke;
	mutex_init(&c->mode_lock);
	mutex_init(&c->held_lock);
	init_waitqueue_head(&c->revoked_wait);
	pci_set_drvdata(pdev, c);
	pci_set_master(pdev);

	c->debugfs = debugfs_create_dir(pci_name(pdev), peer_test_dir);
	debugfs_create_file("mode", 0200, c->debugfs, c,
			    &client_test_mode_fops);
	debugfs_create_file("counts", 0400, c->debugfs, c,
			    &client_test_counts_fops);
	return 0;
}

static void client_test_remove(struct pci_dev *pdev)
{
	struct client_test *c = pci_get_drvdata(pdev);

	/* First, so that no write starts a thread after they are stopped. */
	debugfs_remove(c->debugfs);
	client_test_stop(c);
	pci_clear_master(pdev);
}

static struct pci_driver client_test_driver = {
	.name = "dma_phys_client_test",
	.probe = client_test_probe,
	.remove = client_test_remove,
};

static int __init peer_test_init(void)
{
	int err;

	peer_test_dir = debugfs_create_dir("dma_phys_peer_test", NULL);
	err = pci_register_driver(&owner_test_driver);
	if (err)
		goto err_dir;
	err = pci_register_driver(&client_test_driver);
	if (err)
		goto err_owner;
	return 0;

err_owner:
	pci_unregister_driver(&owner_test_driver);
err_dir:
	debugfs_remove(peer_test_dir);
	return err;
}
module_init(peer_test_init);

static void __exit peer_test_exit(void)
{
	pci_unregister_driver(&owner_test_driver);
	pci_unregister_driver(&client_test_driver);
	debugfs_remove(peer_test_dir);
}
module_exit(peer_test_exit);

MODULE_DESCRIPTION("Test drivers for peers that are removed or reset");
MODULE_LICENSE("GPL");

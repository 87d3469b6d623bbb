// SPDX-License-Identifier: GPL-2.0
/*
 * An NVMe driver that uses typed DMA mapping: nvme_phys.h says what to read
 * first, and what to skip.
 *
 * Each namespace of a controller is a disk, /dev/cnvme<controller>n<namespace>.
 * This file is the PCI driver, which sets up and removes a controller.
 */
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "nvme_phys.h"

bool nvme_phys_sgl = true;
module_param_named(sgl, nvme_phys_sgl, bool, 0444);
MODULE_PARM_DESC(sgl, "use SGL descriptors if the controller supports them (else PRP entries)");

unsigned int nvme_phys_depth = 1024;
module_param_named(depth, nvme_phys_depth, uint, 0444);
MODULE_PARM_DESC(depth, "entries of each I/O queue, limited by the controller");

unsigned int nvme_phys_admin_timeout = 60;
module_param_named(admin_timeout, nvme_phys_admin_timeout, uint, 0444);
MODULE_PARM_DESC(admin_timeout, "time limit of an admin command in seconds");

static DEFINE_IDA(nvme_phys_indices);

static void nvme_phys_failed_work(struct work_struct *work)
{
	nvme_phys_mark_disks_dead(container_of(work, struct nvme_phys,
					       failed_work));
}

/* ---- Setup ---- */

static struct nvme_phys *nvme_phys_alloc_ctrl(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl;
	int index;

	ctrl = kzalloc_obj(*ctrl);
	if (!ctrl)
		return ERR_PTR(-ENOMEM);
	index = ida_alloc(&nvme_phys_indices, GFP_KERNEL);
	if (index < 0) {
		kfree(ctrl);
		return ERR_PTR(index);
	}

	kref_init(&ctrl->ref);
	ctrl->pdev = pdev;
	ctrl->index = index;
	INIT_LIST_HEAD(&ctrl->namespaces);
	INIT_WORK(&ctrl->failed_work, nvme_phys_failed_work);
	mutex_init(&ctrl->admin_lock);
	mutex_init(&ctrl->lock);
	for (int i = 0; i < NVME_PHYS_SLOTS; i++)
		init_completion(&ctrl->slots[i].done);
	return ctrl;
}

static void nvme_phys_disable_device(void *pdev)
{
	pci_disable_device(pdev);
}

static int nvme_phys_enable_device(struct nvme_phys *ctrl)
{
	struct pci_dev *pdev = ctrl->pdev;
	int err;

	/* A controller may have an I/O BAR, which needs no address. */
	err = pci_enable_device_mem(pdev);
	err = err ?: devm_add_action_or_reset(&pdev->dev,
					      nvme_phys_disable_device, pdev);
	err = err ?: dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	/* PRP lists and SGL descriptors take segments of any length. */
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	ctrl->regs = pcim_iomap_region(pdev, 0, KBUILD_MODNAME);
	if (IS_ERR(ctrl->regs))
		return PTR_ERR(ctrl->regs);
	return nvme_phys_read_cap(ctrl);
}

/*
 * MSI-X, MSI or INTx. The first vector is for the admin queue, the others are
 * spread over CPUs. One is enough: then all queues share it.
 */
static int nvme_phys_alloc_vectors(struct nvme_phys *ctrl, unsigned int queues)
{
	struct irq_affinity affinity = { .pre_vectors = 1 };
	int count;

	count = pci_alloc_irq_vectors_affinity(ctrl->pdev, 1, 1 + queues,
					       PCI_IRQ_ALL_TYPES |
					       PCI_IRQ_AFFINITY, &affinity);
	if (count < 0)
		return count;
	ctrl->vectors = count;
	return nvme_phys_queue_request_irq(&ctrl->admin);
}

static void nvme_phys_free_vectors(struct nvme_phys *ctrl)
{
	for (unsigned int i = 0; ctrl->io && i < ctrl->queues; i++)
		nvme_phys_queue_free_irq(&ctrl->io[i]);
	nvme_phys_queue_free_irq(&ctrl->admin);
	if (ctrl->vectors)
		pci_free_irq_vectors(ctrl->pdev);
	ctrl->vectors = 0;
}

static int nvme_phys_start_admin(struct nvme_phys *ctrl, void *data,
				 unsigned int want, unsigned int *queues)
{
	int err;

	guard(mutex)(&ctrl->lock);
	err = nvme_phys_disable(ctrl);
	/* Only now: firmware or an old kernel may have left INTx asserted. */
	err = err ?: nvme_phys_alloc_vectors(ctrl, 0);
	err = err ?: nvme_phys_enable(ctrl);
	err = err ?: nvme_phys_identify_ctrl(ctrl, data);
	err = err ?: nvme_phys_set_host_behavior(ctrl);
	return err ?: nvme_phys_set_queue_count(ctrl, want, queues);
}

/* One I/O queue for each CPU, as far as there are doorbells and vectors. */
static int nvme_phys_setup_admin(struct nvme_phys *ctrl)
{
	void *data __free(kfree) = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
	size_t pair = 2 * (4 << NVME_CAP_STRIDE(ctrl->cap));
	u64 bytes = pci_resource_len(ctrl->pdev, 0);
	unsigned int queues = num_possible_cpus();
	int err;

	if (!data)
		return -ENOMEM;
	if (bytes < NVME_REG_DBS + 2 * pair)
		return dev_err_probe(&ctrl->pdev->dev, -ENODEV,
				     "doorbells outside BAR 0\n");
	queues = min_t(u64, queues, (bytes - NVME_REG_DBS) / pair - 1);

	err = nvme_phys_alloc_admin_data(ctrl);
	err = err ?: nvme_phys_queue_alloc(ctrl, &ctrl->admin, 0,
					   NVME_PHYS_ADMIN_DEPTH);
	if (err)
		return err;
	/* Before the interrupt: with phase 0, zeroes would be completions. */
	nvme_phys_queue_reset(&ctrl->admin);
	err = nvme_phys_start_admin(ctrl, data, queues, &queues);
	if (err)
		return err;

	/* The number of queues is known now: allocate and spread vectors. */
	nvme_phys_free_vectors(ctrl);
	err = nvme_phys_alloc_vectors(ctrl, queues);
	ctrl->queues = err ? 0 : clamp(ctrl->vectors - 1, 1U, queues);
	return err;
}

static int nvme_phys_setup_queue(struct nvme_phys *ctrl, unsigned int i,
				 u32 depth)
{
	struct nvme_phys_queue *q = &ctrl->io[i];
	int err;

	err = nvme_phys_queue_alloc(ctrl, q, i + 1, depth);
	err = err ?: nvme_phys_alloc_lists(q);
	if (err)
		return err;
	nvme_phys_queue_reset(q);
	return nvme_phys_queue_request_irq(q);
}

/*
 * Go on with the first I/O queues only. Vectors are allocated again, so that
 * those of these queues are spread over all CPUs.
 */
static int nvme_phys_keep_queues(struct nvme_phys *ctrl, unsigned int count)
{
	int err;

	dev_warn(&ctrl->pdev->dev, "going on with %u of %u I/O queues\n", count,
		 ctrl->queues);
	nvme_phys_free_vectors(ctrl);
	for (unsigned int i = count; i < ctrl->queues; i++)
		nvme_phys_queue_free(&ctrl->io[i]);
	ctrl->queues = count;
	err = nvme_phys_alloc_vectors(ctrl, count);
	for (unsigned int i = 0; i < count && !err; i++)
		err = nvme_phys_queue_request_irq(&ctrl->io[i]);
	return err;
}

static int nvme_phys_alloc_queues(struct nvme_phys *ctrl)
{
	u32 max = min(NVME_CAP_MQES(ctrl->cap) + 1, NVME_PHYS_MAX_DEPTH);
	u32 depth = clamp(nvme_phys_depth, 2U, max);
	int err;

	ctrl->io = kvzalloc_objs(*ctrl->io, ctrl->queues);
	if (!ctrl->io)
		return -ENOMEM;

	for (unsigned int i = 0; i < ctrl->queues; i++) {
		err = nvme_phys_setup_queue(ctrl, i, depth);
		if (err)
			return i ? nvme_phys_keep_queues(ctrl, i) : err;
	}
	return 0;
}

/* A queue that is refused may exist in part: start again without it. */
static int nvme_phys_start_queues(struct nvme_phys *ctrl)
{
	unsigned int count;
	int err;

	scoped_guard(mutex, &ctrl->lock) {
		err = nvme_phys_create_queues(ctrl, &count);
		if (err <= 0 || !count)
			return err;
		err = nvme_phys_disable(ctrl);
	}
	err = err ?: nvme_phys_keep_queues(ctrl, count);
	if (err)
		return err;
	guard(mutex)(&ctrl->lock);
	return nvme_phys_restart(ctrl);
}

static int nvme_phys_setup(struct nvme_phys *ctrl)
{
	int err;

	err = nvme_phys_setup_admin(ctrl);
	err = err ?: nvme_phys_alloc_queues(ctrl);
	err = err ?: nvme_phys_start_queues(ctrl);
	err = err ?: nvme_phys_alloc_tags(ctrl);
	if (err)
		return err;

	nvme_phys_share_cmb(ctrl);
	err = nvme_phys_add_disks(ctrl);
	if (err)
		return err;

	/* If it has failed meanwhile, the disks are not marked dead yet. */
	guard(mutex)(&ctrl->lock);
	ctrl->disks_added = true;
	if (ctrl->failed)
		schedule_work(&ctrl->failed_work);
	return 0;
}

/* ---- Removal ---- */

/* A device that is gone or suspended cannot complete requests: fail it first. */
static void nvme_phys_fail_if_stopped(struct nvme_phys *ctrl)
{
	disable_work_sync(&ctrl->failed_work);
	scoped_guard(mutex, &ctrl->lock)
		if (ctrl->quiesced || nvme_phys_is_gone(ctrl))
			nvme_phys_fail(ctrl);
	if (nvme_phys_has_failed(ctrl))
		nvme_phys_mark_disks_dead(ctrl);
}

static void nvme_phys_free_queues(struct nvme_phys *ctrl)
{
	for (unsigned int i = 0; ctrl->io && i < ctrl->queues; i++)
		nvme_phys_queue_free(&ctrl->io[i]);
	kvfree(ctrl->io);
	nvme_phys_queue_free(&ctrl->admin);
	nvme_phys_free_admin_data(ctrl);
}

/*
 * The order matters. First the disks are removed, which completes all requests;
 * then the CMB is unregistered, while it can still be accessed; then the
 * controller is disabled, and its memory freed. A disk that is still open finds
 * that the controller has failed.
 */
static void nvme_phys_teardown(struct nvme_phys *ctrl)
{
	nvme_phys_fail_if_stopped(ctrl);
	if (ctrl->frozen)
		nvme_phys_unfreeze(ctrl);
	nvme_phys_remove_disks(ctrl);
	nvme_phys_unshare_cmb(ctrl);
	scoped_guard(mutex, &ctrl->lock) {
		if (!ctrl->failed)
			nvme_phys_stop(ctrl, true);
		WRITE_ONCE(ctrl->failed, true);
	}
	/* Wait for the program whose admin command this has cancelled. */
	mutex_lock(&ctrl->admin_lock);
	mutex_unlock(&ctrl->admin_lock);
	nvme_phys_free_vectors(ctrl);
	if (ctrl->tags.tags)
		blk_mq_free_tag_set(&ctrl->tags);
	nvme_phys_free_queues(ctrl);
}

static void nvme_phys_free_ctrl(struct nvme_phys *ctrl)
{
	ida_free(&nvme_phys_indices, ctrl->index);
	nvme_phys_put(ctrl);
}

/* ---- Sysfs ---- */

/*
 * Memory of one I/O queue at rest, in bytes; all are alike. The reserve of the
 * dma_phys_pool comes on top, and in the file "pools" what descriptor lists have
 * taken since.
 */
static ssize_t io_queue_bytes_show(struct device *dev,
				   struct device_attribute *attr, char *buf)
{
	struct nvme_phys *ctrl = dev_get_drvdata(dev);
	const struct nvme_phys_queue *q = &ctrl->io[0];

	return sysfs_emit(buf, "%zu\n", sizeof(*q) + q->bytes +
			  (size_t)ctrl->tags.queue_depth * ctrl->tags.cmd_size);
}
static DEVICE_ATTR_RO(io_queue_bytes);

static struct attribute *nvme_phys_attrs[] = {
	&dev_attr_io_queue_bytes.attr,
	NULL
};
ATTRIBUTE_GROUPS(nvme_phys);

/* ---- Driver ---- */

static int nvme_phys_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct nvme_phys *ctrl = nvme_phys_alloc_ctrl(pdev);
	int err;

	if (IS_ERR(ctrl))
		return PTR_ERR(ctrl);
	err = nvme_phys_enable_device(ctrl);
	if (err)
		goto err_free;
	err = nvme_phys_setup(ctrl);
	if (err)
		goto err_teardown;
	/* For error recovery: now memory decoding and vectors are enabled. */
	pci_save_state(pdev);
	pci_set_drvdata(pdev, ctrl);
	return 0;

err_teardown:
	nvme_phys_teardown(ctrl);
	/* A positive error is the status of a command. */
	if (err > 0)
		err = -EIO;
	dev_err_probe(&pdev->dev, err, "setup failed\n");
err_free:
	nvme_phys_free_ctrl(ctrl);
	return err;
}

static void nvme_phys_remove(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl = pci_get_drvdata(pdev);

	nvme_phys_teardown(ctrl);
	nvme_phys_free_ctrl(ctrl);
}

static const struct pci_device_id nvme_phys_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT, 0x0010) },	/* QEMU */
	{ }
};
MODULE_DEVICE_TABLE(pci, nvme_phys_ids);

static struct pci_driver nvme_phys_driver = {
	.name = KBUILD_MODNAME,
	.id_table = nvme_phys_ids,
	.probe = nvme_phys_probe,
	.remove = nvme_phys_remove,
	.shutdown = nvme_phys_shutdown,
	.dev_groups = nvme_phys_groups,
	.driver.pm = pm_sleep_ptr(&nvme_phys_pm),
	.err_handler = &nvme_phys_error_handlers,
};
module_pci_driver(nvme_phys_driver);

MODULE_DESCRIPTION("NVMe on typed physical-address mapping");
MODULE_LICENSE("GPL");

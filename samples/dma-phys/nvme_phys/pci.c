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

unsigned int nvme_phys_poll_queues;
module_param_named(poll_queues, nvme_phys_poll_queues, uint, 0444);
MODULE_PARM_DESC(poll_queues, "I/O queues without an interrupt, for polled requests, limited by the controller");

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

/*
 * A device that is gone or suspended cannot complete requests: fail it first.
 * If PCI error recovery has restarted it but has not ended, allow requests.
 */
static void nvme_phys_fail_if_stopped(struct nvme_phys *ctrl)
{
	disable_work_sync(&ctrl->failed_work);
	scoped_guard(mutex, &ctrl->lock) {
		ctrl->disks_added = false;
		if (nvme_phys_is_gone(ctrl) ||
		    (ctrl->quiesced && !ctrl->running))
			nvme_phys_fail(ctrl);
		nvme_phys_unquiesce(ctrl);
	}
	if (nvme_phys_has_failed(ctrl))
		nvme_phys_mark_disks_dead(ctrl);
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
	/* In case it was not disabled. pci_enable_device() enables INTx again. */
	pci_intx(ctrl->pdev, 0);
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
	struct nvme_phys *ctrl;
	int err;

	/* It cannot be accessed. Recovery waits for the lock that probe holds. */
	if (pci_channel_offline(pdev))
		return dev_err_probe(&pdev->dev, -EIO,
				     "PCI error recovery has not ended\n");
	ctrl = nvme_phys_alloc_ctrl(pdev);
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

// SPDX-License-Identifier: GPL-2.0
/*
 * NVMe on typed physical-address mapping, in C: a block driver.
 *
 * Each namespace of a controller is a disk, /dev/cnvme<controller>n<namespace>.
 * Requests are mapped by <linux/dma-phys.h> and described to the controller by
 * PRP entries or SGL descriptors, straight from the segments.
 *
 * This room: the PCI driver, which brings a controller up and down.
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
MODULE_PARM_DESC(sgl, "use SGL descriptors where the controller has them (else PRP lists alone)");

unsigned int nvme_phys_depth = 1024;
module_param_named(depth, nvme_phys_depth, uint, 0444);
MODULE_PARM_DESC(depth, "entries in each I/O queue, at most what the controller takes");

static DEFINE_IDA(indices);

static void dead_work(struct work_struct *work)
{
	nvme_phys_mark_dead(container_of(work, struct nvme_phys, dead_work));
}

/* ---- Up ---- */

static struct nvme_phys *alloc(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl;
	int index;

	ctrl = kzalloc_obj(*ctrl);
	if (!ctrl)
		return ERR_PTR(-ENOMEM);
	index = ida_alloc(&indices, GFP_KERNEL);
	if (index < 0) {
		kfree(ctrl);
		return ERR_PTR(index);
	}

	kref_init(&ctrl->ref);
	ctrl->pdev = pdev;
	ctrl->index = index;
	INIT_LIST_HEAD(&ctrl->namespaces);
	INIT_WORK(&ctrl->dead_work, dead_work);
	mutex_init(&ctrl->life);
	init_completion(&ctrl->admin_done);
	return ctrl;
}

static int open_device(struct nvme_phys *ctrl)
{
	struct pci_dev *pdev = ctrl->pdev;
	int err;

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	/* A PRP list or an SGL descriptor takes any segment. */
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	ctrl->regs = pcim_iomap_region(pdev, 0, KBUILD_MODNAME);
	if (IS_ERR(ctrl->regs))
		return PTR_ERR(ctrl->regs);
	return nvme_phys_read_cap(ctrl);
}

/* The first vector is the admin queue's, the others follow the CPUs. */
static int alloc_vectors(struct nvme_phys *ctrl, unsigned int queues)
{
	struct irq_affinity affinity = { .pre_vectors = 1 };
	int count;

	count = pci_alloc_irq_vectors_affinity(ctrl->pdev, 1, 1 + queues,
					       PCI_IRQ_MSIX | PCI_IRQ_AFFINITY,
					       &affinity);
	if (count < 0)
		return count;
	ctrl->vectors = count;
	return nvme_phys_queue_irq(&ctrl->admin);
}

static void free_vectors(struct nvme_phys *ctrl)
{
	for (unsigned int i = 0; ctrl->io && i < ctrl->queues; i++)
		nvme_phys_queue_free_irq(&ctrl->io[i]);
	nvme_phys_queue_free_irq(&ctrl->admin);
	if (ctrl->vectors)
		pci_free_irq_vectors(ctrl->pdev);
	ctrl->vectors = 0;
}

static int start_admin(struct nvme_phys *ctrl, struct nvme_id_ctrl *id,
		       unsigned int want, unsigned int *queues)
{
	int err;

	guard(mutex)(&ctrl->life);
	err = nvme_phys_disable(ctrl);
	err = err ?: nvme_phys_enable(ctrl);
	err = err ?: nvme_phys_identify_ctrl(ctrl, id);
	return err ?: nvme_phys_count_queues(ctrl, want, queues);
}

/* One queue for each CPU, if there are doorbells and vectors for them. */
static int bring_up_admin(struct nvme_phys *ctrl)
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

	err = nvme_phys_queue_alloc(ctrl, &ctrl->admin, 0,
				    NVME_PHYS_ADMIN_DEPTH);
	if (err)
		return err;
	/* Before its interrupt: an entry of zeroes would be a completion. */
	nvme_phys_queue_reset(&ctrl->admin);
	err = alloc_vectors(ctrl, 0);
	err = err ?: start_admin(ctrl, data, queues, &queues);
	if (err)
		return err;

	/* Only now it is known how many are needed, and how they are spread. */
	free_vectors(ctrl);
	err = alloc_vectors(ctrl, queues);
	ctrl->queues = err ? 0 : clamp(ctrl->vectors - 1, 1U, queues);
	return err;
}

static int bring_up_queues(struct nvme_phys *ctrl)
{
	u32 depth = clamp(nvme_phys_depth, 2U,
			  (u32)NVME_CAP_MQES(ctrl->cap) + 1);
	int err = 0;

	/* The block layer's limit; one entry always stays empty. */
	depth = min(depth, BLK_MQ_MAX_DEPTH + 1U);
	ctrl->io = kvzalloc_objs(*ctrl->io, ctrl->queues);
	if (!ctrl->io)
		return -ENOMEM;

	for (unsigned int i = 0; i < ctrl->queues && !err; i++) {
		struct nvme_phys_queue *q = &ctrl->io[i];

		err = nvme_phys_queue_alloc(ctrl, q, i + 1, depth);
		err = err ?: nvme_phys_queue_alloc_tags(q);
		if (!err) {
			nvme_phys_queue_reset(q);
			err = nvme_phys_queue_irq(q);
		}
	}
	err = err ?: nvme_phys_alloc_tags(ctrl);
	if (err)
		return err;

	guard(mutex)(&ctrl->life);
	return nvme_phys_create_queues(ctrl);
}

static int bring_up(struct nvme_phys *ctrl)
{
	int err;

	err = bring_up_admin(ctrl);
	err = err ?: bring_up_queues(ctrl);
	if (err)
		return err;

	nvme_phys_lend_cmb(ctrl);
	err = nvme_phys_add_disks(ctrl);
	if (err)
		return err;

	/* From here on it is told to the disks that it died, or was. */
	guard(mutex)(&ctrl->life);
	ctrl->live = true;
	if (ctrl->dead)
		schedule_work(&ctrl->dead_work);
	return 0;
}

/* ---- Down ---- */

/* A device that was pulled out, or sleeps, is not waited for. */
static void look_after_death(struct nvme_phys *ctrl)
{
	disable_work_sync(&ctrl->dead_work);
	scoped_guard(mutex, &ctrl->life)
		if (ctrl->quiesced || nvme_phys_is_gone(ctrl))
			nvme_phys_die(ctrl);
	if (nvme_phys_is_dead(ctrl))
		nvme_phys_mark_dead(ctrl);
}

static void free_memory(struct nvme_phys *ctrl)
{
	for (unsigned int i = 0; ctrl->io && i < ctrl->queues; i++)
		nvme_phys_queue_free(&ctrl->io[i]);
	kvfree(ctrl->io);
	nvme_phys_queue_free(&ctrl->admin);
}

/*
 * In this order: no disks, so that no request is under way or comes; nobody in
 * the CMB; the controller stopped; its memory freed. Whoever still has a disk
 * open finds the controller dead.
 */
static void bring_down(struct nvme_phys *ctrl)
{
	look_after_death(ctrl);
	nvme_phys_remove_disks(ctrl);
	nvme_phys_take_back_cmb(ctrl);
	scoped_guard(mutex, &ctrl->life) {
		if (!ctrl->dead)
			nvme_phys_stop(ctrl, true);
		WRITE_ONCE(ctrl->dead, true);
	}
	free_vectors(ctrl);
	if (ctrl->tags.tags)
		blk_mq_free_tag_set(&ctrl->tags);
	free_memory(ctrl);
}

static void let_go(struct nvme_phys *ctrl)
{
	ida_free(&indices, ctrl->index);
	nvme_phys_put(ctrl);
}

/* ---- Driver ---- */

static int nvme_phys_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct nvme_phys *ctrl = alloc(pdev);
	int err;

	if (IS_ERR(ctrl))
		return PTR_ERR(ctrl);
	err = open_device(ctrl);
	if (err)
		goto err_open;
	err = bring_up(ctrl);
	if (err)
		goto err_up;
	pci_set_drvdata(pdev, ctrl);
	return 0;

err_up:
	bring_down(ctrl);
	/* A command's status is not what a probe returns. */
	if (err > 0)
		err = -EIO;
	dev_err_probe(&pdev->dev, err, "cannot be started\n");
err_open:
	let_go(ctrl);
	return err;
}

static void nvme_phys_remove(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl = pci_get_drvdata(pdev);

	bring_down(ctrl);
	let_go(ctrl);
}

/* Requests that come later fail: nobody is there to do them. */
static void nvme_phys_shutdown(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl = pci_get_drvdata(pdev);

	guard(mutex)(&ctrl->life);
	if (ctrl->dead)
		return;
	nvme_phys_stop(ctrl, true);
	WRITE_ONCE(ctrl->dead, true);
	nvme_phys_unquiesce(ctrl);
}

/* Requests that come meanwhile wait. */
static void pause(struct nvme_phys *ctrl, bool in_order)
{
	guard(mutex)(&ctrl->life);
	if (!ctrl->dead)
		nvme_phys_stop(ctrl, in_order);
}

static void go_on(struct nvme_phys *ctrl)
{
	guard(mutex)(&ctrl->life);
	if (ctrl->dead)
		return;
	if (nvme_phys_restart(ctrl))
		nvme_phys_die(ctrl);
	nvme_phys_unquiesce(ctrl);
}

static int nvme_phys_suspend(struct device *dev)
{
	struct nvme_phys *ctrl = dev_get_drvdata(dev);
	int err;

	err = nvme_phys_freeze(ctrl);
	if (!err)
		pause(ctrl, true);
	return err;
}

static int nvme_phys_resume(struct device *dev)
{
	struct nvme_phys *ctrl = dev_get_drvdata(dev);

	go_on(ctrl);
	nvme_phys_unfreeze(ctrl);
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(nvme_phys_pm, nvme_phys_suspend,
				nvme_phys_resume);

/* Someone else resets the device: through sysfs, or with its slot. */
static void nvme_phys_reset_prepare(struct pci_dev *pdev)
{
	pause(pci_get_drvdata(pdev), false);
}

static void nvme_phys_reset_done(struct pci_dev *pdev)
{
	go_on(pci_get_drvdata(pdev));
}

static const struct pci_error_handlers nvme_phys_errors = {
	.reset_prepare = nvme_phys_reset_prepare,
	.reset_done = nvme_phys_reset_done,
};

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
	.driver.pm = pm_sleep_ptr(&nvme_phys_pm),
	.err_handler = &nvme_phys_errors,
};
module_pci_driver(nvme_phys_driver);

MODULE_DESCRIPTION("NVMe on typed physical-address mapping");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupt vectors and queues of a controller, when it is set up and removed.
 */
#include <linux/cleanup.h>
#include <linux/interrupt.h>
#include <linux/slab.h>

#include "nvme_phys.h"

/* ---- Vectors ---- */

/* A CPU is mapped to one polled queue, so more of them would not be used. */
static unsigned int nvme_phys_max_polled(void)
{
	return min(nvme_phys_poll_queues, num_possible_cpus());
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

/**
 * nvme_phys_free_vectors() - free all interrupts and vectors
 * @ctrl: the controller, disabled, or without commands
 */
void nvme_phys_free_vectors(struct nvme_phys *ctrl)
{
	for (unsigned int i = 0; ctrl->io && i < ctrl->queues; i++)
		nvme_phys_queue_free_irq(&ctrl->io[i]);
	nvme_phys_queue_free_irq(&ctrl->admin);
	if (ctrl->vectors)
		pci_free_irq_vectors(ctrl->pdev);
	ctrl->vectors = 0;
}

/* ---- Queues ---- */

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

/* The number of queues is known now: allocate and spread vectors. */
static int nvme_phys_spread_vectors(struct nvme_phys *ctrl, unsigned int queues)
{
	int err;

	/* At least one queue has an interrupt. */
	ctrl->polled = min(nvme_phys_max_polled(), queues - 1);
	queues -= ctrl->polled;
	nvme_phys_free_vectors(ctrl);
	err = nvme_phys_alloc_vectors(ctrl, queues);
	if (!err)
		ctrl->queues = clamp(ctrl->vectors - 1, 1U, queues) +
			       ctrl->polled;
	return err;
}

/**
 * nvme_phys_setup_admin() - enable a controller, and choose the number of queues
 * @ctrl: the controller, with its capabilities read
 *
 * There is one I/O queue for each CPU, and the polled ones. Doorbells, vectors
 * and the controller may limit their number.
 *
 * Return: 0, -ENODEV, -ENOMEM, or an error of pci_request_irq(),
 * nvme_phys_identify_ctrl(), or pci_alloc_irq_vectors_affinity().
 */
int nvme_phys_setup_admin(struct nvme_phys *ctrl)
{
	void *data __free(kfree) = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
	size_t pair = 2 * (4 << NVME_CAP_STRIDE(ctrl->cap));
	u64 bytes = pci_resource_len(ctrl->pdev, 0);
	unsigned int queues = num_possible_cpus() + nvme_phys_max_polled();
	int err;

	if (!data)
		return -ENOMEM;
	if (bytes < NVME_REG_DBS + 2 * pair)
		return dev_err_probe(&ctrl->pdev->dev, -ENODEV,
				     "doorbells outside BAR 0\n");
	queues = min3((u64)queues, (bytes - NVME_REG_DBS) / pair - 1,
		      (u64)U16_MAX);

	err = nvme_phys_alloc_admin_data(ctrl);
	err = err ?: nvme_phys_queue_alloc(ctrl, &ctrl->admin, 0,
					   NVME_PHYS_ADMIN_DEPTH);
	if (err)
		return err;
	/* Before the interrupt: with phase 0, zeroes would be completions. */
	nvme_phys_queue_reset(&ctrl->admin);
	err = nvme_phys_start_admin(ctrl, data, queues, &queues);
	return err ?: nvme_phys_spread_vectors(ctrl, queues);
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
	q->polled = i >= ctrl->queues - ctrl->polled;
	return nvme_phys_queue_request_irq(q);
}

/*
 * Go on with the first I/O queues only. Queues with an interrupt precede polled
 * ones. Vectors are allocated again, so that the remaining ones are spread over
 * all CPUs.
 */
static int nvme_phys_keep_queues(struct nvme_phys *ctrl, unsigned int count)
{
	unsigned int irqs = min(count, ctrl->queues - ctrl->polled);
	int err;

	dev_warn(&ctrl->pdev->dev, "going on with %u of %u I/O queues\n", count,
		 ctrl->queues);
	nvme_phys_free_vectors(ctrl);
	for (unsigned int i = count; i < ctrl->queues; i++)
		nvme_phys_queue_free(&ctrl->io[i]);
	ctrl->queues = count;
	ctrl->polled = count - irqs;
	err = nvme_phys_alloc_vectors(ctrl, irqs);
	for (unsigned int i = 0; i < count && !err; i++) {
		err = nvme_phys_queue_request_irq(&ctrl->io[i]);
		if (err && i)
			return nvme_phys_keep_queues(ctrl, i);
	}
	return err;
}

/**
 * nvme_phys_alloc_queues() - allocate I/O queues, and request their interrupts
 * @ctrl: the controller, with its number of queues known
 *
 * Return: 0, -ENOMEM, or an error of pci_request_irq().
 */
int nvme_phys_alloc_queues(struct nvme_phys *ctrl)
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

/**
 * nvme_phys_start_queues() - create the I/O queues in the controller
 * @ctrl: the controller, with its I/O queues allocated
 *
 * A queue that is refused may exist in part: start again without it.
 *
 * Return: see nvme_phys_restart().
 */
int nvme_phys_start_queues(struct nvme_phys *ctrl)
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

/**
 * nvme_phys_free_queues() - free all queues, and the data of admin commands
 * @ctrl: the controller, disabled, without vectors
 */
void nvme_phys_free_queues(struct nvme_phys *ctrl)
{
	for (unsigned int i = 0; ctrl->io && i < ctrl->queues; i++)
		nvme_phys_queue_free(&ctrl->io[i]);
	kvfree(ctrl->io);
	nvme_phys_queue_free(&ctrl->admin);
	nvme_phys_free_admin_data(ctrl);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Admin commands, and their data.
 *
 * The driver executes one at a time, under the lock of the controller. A
 * program executes another one meanwhile: see nvme_phys_admin_user().
 *
 * Data stays mapped. The zeroes that the CPU writes before each command reach
 * the device, so that it leaves no data of another command: DMA_BIDIRECTIONAL.
 */
#include <linux/cleanup.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "nvme_phys.h"

/* ---- Data ---- */

static int nvme_phys_map_slot(struct nvme_phys *ctrl,
			      struct nvme_phys_slot *slot)
{
	struct cpu_phys range;
	int err;

	err = cpu_phys_from_virt(slot->data, NVME_PHYS_ADMIN_BYTES, &range);
	return err ?: dma_phys_map_cpu(&ctrl->pdev->dev, &range,
				       DMA_BIDIRECTIONAL,
				       DMA_PHYS_SKIP_CPU_SYNC, &slot->map);
}

static int nvme_phys_map_admin_data(struct nvme_phys *ctrl)
{
	int err = 0;

	for (int i = 0; i < NVME_PHYS_SLOTS && !err; i++)
		err = nvme_phys_map_slot(ctrl, &ctrl->slots[i]);
	return err;
}

static void nvme_phys_unmap_admin_data(struct nvme_phys *ctrl)
{
	for (int i = 0; i < NVME_PHYS_SLOTS; i++)
		dma_phys_unmap_nosync(&ctrl->slots[i].map);
}

/**
 * nvme_phys_alloc_admin_data() - allocate and map the data of admin commands
 * @ctrl: the controller
 *
 * What was allocated before a failure is freed by nvme_phys_free_admin_data().
 *
 * Return: 0, -ENOMEM, or an error of dma_phys_map_cpu().
 */
int nvme_phys_alloc_admin_data(struct nvme_phys *ctrl)
{
	for (int i = 0; i < NVME_PHYS_SLOTS; i++) {
		ctrl->slots[i].data = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
		if (!ctrl->slots[i].data)
			return -ENOMEM;
	}
	return nvme_phys_map_admin_data(ctrl);
}

/**
 * nvme_phys_free_admin_data() - unmap and free the data of admin commands
 * @ctrl: the controller, disabled; no program has an admin command
 */
void nvme_phys_free_admin_data(struct nvme_phys *ctrl)
{
	nvme_phys_unmap_admin_data(ctrl);
	for (int i = 0; i < NVME_PHYS_SLOTS; i++)
		kfree(ctrl->slots[i].data);
}

/**
 * nvme_phys_set_align_mask() - set the address bits that bounce buffers keep
 * @ctrl: the controller; it has no command with data
 * @mask: see dma_set_min_align_mask()
 *
 * Nothing may be mapped when the mask changes, so the data of admin commands is
 * mapped again.
 *
 * Return: 0 or an error of dma_phys_map_cpu().
 */
int nvme_phys_set_align_mask(struct nvme_phys *ctrl, u32 mask)
{
	nvme_phys_unmap_admin_data(ctrl);
	dma_set_min_align_mask(&ctrl->pdev->dev, mask);
	return nvme_phys_map_admin_data(ctrl);
}

static void nvme_phys_set_admin_prps(const struct nvme_phys *ctrl,
				     const struct dma_phys_map *map,
				     union nvme_data_ptr *dptr)
{
	u64 next = ALIGN(map->addr + 1, ctrl->page_size);

	dptr->prp1 = cpu_to_le64(map->addr);
	if (next < map->addr + map->size)
		dptr->prp2 = cpu_to_le64(next);
}

/* Zeroes follow the first bytes. */
static int nvme_phys_put_data(struct nvme_phys *ctrl,
			      struct nvme_phys_slot *slot,
			      struct nvme_command *cmd, const void *data,
			      size_t size)
{
	if (size)
		memcpy(slot->data, data, size);
	memset(slot->data + size, 0, NVME_PHYS_ADMIN_BYTES - size);
	nvme_phys_set_admin_prps(ctrl, &slot->map, &cmd->common.dptr);
	return dma_phys_sync_for_device(&slot->map, 0, slot->map.size);
}

static int nvme_phys_get_data(struct nvme_phys_slot *slot, void *data)
{
	int err = dma_phys_sync_for_cpu(&slot->map, 0, slot->map.size);

	if (!err)
		memcpy(data, slot->data, NVME_PHYS_ADMIN_BYTES);
	return err;
}

/* ---- Commands ---- */

/* A command that the slot has already is given up: its id is unknown now. */
static void nvme_phys_submit_admin(struct nvme_phys *ctrl,
				   struct nvme_phys_slot *slot,
				   struct nvme_command *cmd)
{
	scoped_guard(spinlock_irq, &ctrl->admin.cq_lock) {
		slot->id = nvme_phys_queue_next_id(&ctrl->admin,
						   slot - ctrl->slots);
		slot->error = 0;
		slot->pending = true;
		reinit_completion(&slot->done);
	}
	cmd->common.command_id = slot->id;
	nvme_phys_queue_submit(&ctrl->admin, cmd, true);
}

/* The registers say why a command may not complete. */
static int nvme_phys_check_csts(struct nvme_phys *ctrl)
{
	u32 csts = readl(ctrl->regs + NVME_REG_CSTS);

	if (csts == U32_MAX)
		return -ENODEV;
	if (csts & NVME_CSTS_CFS || !(csts & NVME_CSTS_RDY))
		return -EIO;
	return 0;
}

/* Poll once a second, to detect a removed or failed controller early. */
static int nvme_phys_poll_admin(struct nvme_phys *ctrl,
				struct nvme_phys_slot *slot, u32 ms)
{
	u32 step;
	bool found;
	int err;

	for (; ms; ms -= step) {
		step = min(ms, MSEC_PER_SEC);
		if (wait_for_completion_timeout(&slot->done,
						msecs_to_jiffies(step)))
			return 0;
		found = nvme_phys_queue_poll(&ctrl->admin);
		if (try_wait_for_completion(&slot->done)) {
			if (found)
				dev_warn(&ctrl->pdev->dev,
					 "admin: completion without interrupt\n");
			return 0;
		}
		err = nvme_phys_check_csts(ctrl);
		if (err)
			return err;
	}
	return -ETIMEDOUT;
}

/* The time limit is that of the module parameter if @ms is 0. */
static int nvme_phys_wait_admin(struct nvme_phys *ctrl,
				struct nvme_phys_slot *slot,
				const struct nvme_command *cmd, u32 ms)
{
	u64 usual = (u64)max(nvme_phys_admin_timeout, 1U) * MSEC_PER_SEC;
	int err;

	err = nvme_phys_poll_admin(ctrl, slot, ms ?: min(usual, U32_MAX));
	if (err)
		dev_err(&ctrl->pdev->dev, "admin command %#x failed: %d\n",
			cmd->common.opcode, err);
	return err;
}

static int nvme_phys_admin_result(const struct nvme_phys_slot *slot,
				  u32 *result)
{
	if (slot->error)
		return slot->error;
	if (result)
		*result = slot->result;
	return slot->status;
}

/**
 * nvme_phys_admin() - execute an admin command of the driver
 * @ctrl: the controller
 * @cmd: the command; its id is assigned here
 * @ms: time limit in milliseconds, 0 for the usual one
 * @result: dword 0 of the completion, or NULL
 *
 * After a negative errno the controller may still execute the command: disable
 * or reset it before unmapping memory that the command points to.
 *
 * Context: Process, sleeps. The caller holds the lock of the controller.
 * Return: 0, the status of the command, which is positive, -ENODEV if the
 * controller does not run or is gone, -EIO on a fatal status, -ETIMEDOUT if the
 * command does not complete.
 */
int nvme_phys_admin(struct nvme_phys *ctrl, struct nvme_command *cmd, u32 ms,
		    u32 *result)
{
	struct nvme_phys_slot *slot = &ctrl->slots[NVME_PHYS_SLOT_DRIVER];
	int err;

	lockdep_assert_held(&ctrl->lock);
	if (!ctrl->running)
		return -ENODEV;

	nvme_phys_submit_admin(ctrl, slot, cmd);
	err = nvme_phys_wait_admin(ctrl, slot, cmd, ms);
	return err ?: nvme_phys_admin_result(slot, result);
}

/* The data belongs to the next command: it must not be accessed after this. */
static int nvme_phys_admin_with_data(struct nvme_phys *ctrl,
				     struct nvme_command *cmd)
{
	int err = nvme_phys_admin(ctrl, cmd, 0, NULL);

	if (err < 0 && ctrl->running)
		nvme_phys_disable(ctrl);
	return err;
}

/**
 * nvme_phys_admin_read() - execute an admin command of the driver, read data
 * @ctrl: the controller
 * @cmd: the command, without its data pointer
 * @data: NVME_PHYS_ADMIN_BYTES, where the data is copied on success
 *
 * After a failure other than a status the controller is disabled.
 *
 * Return: as nvme_phys_admin(), or an error of dma_phys_sync_for_device().
 */
int nvme_phys_admin_read(struct nvme_phys *ctrl, struct nvme_command *cmd,
			 void *data)
{
	struct nvme_phys_slot *slot = &ctrl->slots[NVME_PHYS_SLOT_DRIVER];
	int err;

	lockdep_assert_held(&ctrl->lock);
	err = nvme_phys_put_data(ctrl, slot, cmd, NULL, 0);
	err = err ?: nvme_phys_admin_with_data(ctrl, cmd);
	return err ?: nvme_phys_get_data(slot, data);
}

/**
 * nvme_phys_admin_write() - execute an admin command of the driver with data
 * @ctrl: the controller
 * @cmd: the command, without its data pointer
 * @data: the data
 * @size: its length in bytes, up to NVME_PHYS_ADMIN_BYTES
 *
 * After a failure other than a status the controller is disabled.
 *
 * Return: as nvme_phys_admin_read().
 */
int nvme_phys_admin_write(struct nvme_phys *ctrl, struct nvme_command *cmd,
			  const void *data, size_t size)
{
	struct nvme_phys_slot *slot = &ctrl->slots[NVME_PHYS_SLOT_DRIVER];
	int err;

	lockdep_assert_held(&ctrl->lock);
	err = nvme_phys_put_data(ctrl, slot, cmd, data, size);
	return err ?: nvme_phys_admin_with_data(ctrl, cmd);
}

/* ---- Commands of programs ---- */

/**
 * nvme_phys_cancel_admin_user() - end the admin command of a program with -EIO
 * @ctrl: the controller, disabled
 */
void nvme_phys_cancel_admin_user(struct nvme_phys *ctrl)
{
	struct nvme_phys_slot *slot = &ctrl->slots[NVME_PHYS_SLOT_USER];

	/* It may have written the completion. */
	nvme_phys_queue_poll(&ctrl->admin);
	guard(spinlock_irq)(&ctrl->admin.cq_lock);
	if (!slot->pending)
		return;
	slot->pending = false;
	slot->error = -EIO;
	complete(&slot->done);
}

static int nvme_phys_start_admin_user(struct nvme_phys *ctrl,
				      struct nvme_phys_slot *slot,
				      struct nvme_command *cmd)
{
	int err;

	guard(mutex)(&ctrl->lock);
	if (!ctrl->running)
		return -ENODEV;
	err = nvme_phys_put_data(ctrl, slot, cmd, NULL, 0);
	if (!err)
		nvme_phys_submit_admin(ctrl, slot, cmd);
	return err;
}

/*
 * Reset the controller to end the command, unless it was stopped meanwhile. PCI
 * error recovery may stop the controller or let the command go on: check again.
 */
static void nvme_phys_end_admin_user(struct nvme_phys *ctrl,
				     struct nvme_phys_slot *slot)
{
	do {
		scoped_guard(mutex, &ctrl->lock)
			if (READ_ONCE(slot->pending) &&
			    !nvme_phys_in_recovery(ctrl))
				nvme_phys_reset(ctrl);
	} while (!wait_for_completion_timeout(&slot->done, HZ));
}

/**
 * nvme_phys_admin_user() - execute an admin command of a program
 * @ctrl: the controller
 * @cmd: the command, without its data pointer; its id is assigned here
 * @data: NVME_PHYS_ADMIN_BYTES, where the data is copied on success
 * @ms: time limit in milliseconds, 0 for the usual one
 * @result: dword 0 of the completion
 *
 * A command that does not complete resets the controller, for the sake of its
 * requests. When this returns, the controller does not have the command.
 *
 * Context: Process, sleeps. The caller holds the admin_lock of the controller.
 * Return: as nvme_phys_admin_read(); also -EIO if the controller was stopped.
 */
int nvme_phys_admin_user(struct nvme_phys *ctrl, struct nvme_command *cmd,
			 void *data, u32 ms, u32 *result)
{
	struct nvme_phys_slot *slot = &ctrl->slots[NVME_PHYS_SLOT_USER];
	int err, status;

	lockdep_assert_held(&ctrl->admin_lock);
	err = nvme_phys_start_admin_user(ctrl, slot, cmd);
	if (err)
		return err;

	err = nvme_phys_wait_admin(ctrl, slot, cmd, ms);
	if (err)
		nvme_phys_end_admin_user(ctrl, slot);
	status = nvme_phys_admin_result(slot, result);
	if (status < 0)
		return err ?: status;
	return status ?: nvme_phys_get_data(slot, data);
}

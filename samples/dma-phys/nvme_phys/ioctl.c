// SPDX-License-Identifier: GPL-2.0
/*
 * ioctl(2) on a disk: what nvme-cli asks a controller.
 *
 * Only commands that read, and whose length of data is known: it must be the
 * caller's. The controller gets a whole buffer of the kernel's in any case.
 */
#include <linux/capability.h>
#include <linux/cleanup.h>
#include <linux/nvme_ioctl.h>
#include <linux/ptrace.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "nvme_phys.h"

/* Features with data [5.14]; others have none, or are not for us. */
static int feature_bytes(u32 cdw10)
{
	u8 fid = cdw10 & 0xff;

	/* What can be done with a feature is told without data. */
	if (((cdw10 >> 8) & 7) == 3)
		return 0;
	switch (fid) {
	case NVME_FEAT_LBA_RANGE:
	case NVME_FEAT_HOST_MEM_BUF:
		return 4096;
	case NVME_FEAT_AUTO_PST:
		return 256;
	case NVME_FEAT_TIMESTAMP:
		return 8;
	case NVME_FEAT_HOST_BEHAVIOR:
		return 512;
	case NVME_FEAT_ARBITRATION:
	case NVME_FEAT_POWER_MGMT:
	case NVME_FEAT_TEMP_THRESH:
	case NVME_FEAT_ERR_RECOVERY:
	case NVME_FEAT_VOLATILE_WC:
	case NVME_FEAT_NUM_QUEUES:
	case NVME_FEAT_IRQ_COALESCE:
	case NVME_FEAT_IRQ_CONFIG:
	case NVME_FEAT_WRITE_ATOMIC:
	case NVME_FEAT_ASYNC_EVENT:
	case NVME_FEAT_KATO:
	case NVME_FEAT_HCTM:
	case NVME_FEAT_NOPSC:
	case NVME_FEAT_RRL:
	case NVME_FEAT_SANITIZE:
	case NVME_FEAT_SW_PROGRESS:
		return 0;
	default:
		return -EPERM;
	}
}

/* How much data a command returns, or why it is not done. */
static int data_bytes(const struct nvme_passthru_cmd64 *user)
{
	u64 dwords;

	switch (user->opcode) {
	case nvme_admin_identify:
		return NVME_IDENTIFY_DATA_SIZE;
	case nvme_admin_get_log_page:
		dwords = ((u64)(user->cdw11 & 0xffff) << 16 |
			  user->cdw10 >> 16) + 1;
		return dwords <= NVME_PHYS_ADMIN_BYTES / 4 ? dwords * 4 :
							     -EINVAL;
	case nvme_admin_get_features:
		return feature_bytes(user->cdw10);
	default:
		return -EPERM;
	}
}

static int check(const struct nvme_passthru_cmd64 *user)
{
	int bytes = data_bytes(user);

	if (bytes < 0)
		return bytes;
	if (user->flags || user->cdw2 || user->cdw3 || user->metadata ||
	    user->metadata_len || user->data_len != bytes)
		return -EINVAL;
	return 0;
}

/* A controller that does not answer is reset, as its requests need it. */
static int run(struct nvme_phys *ctrl, struct nvme_command *cmd, void *data,
	       u32 *result)
{
	int err;

	err = mutex_lock_interruptible(&ctrl->life);
	if (err)
		return err;
	if (ctrl->running) {
		err = nvme_phys_admin_read(ctrl, cmd, data, result);
		if (!ctrl->running)
			nvme_phys_reset(ctrl);
	} else {
		err = -ENODEV;
	}
	mutex_unlock(&ctrl->life);
	return err;
}

static int admin(struct nvme_phys *ctrl, struct nvme_passthru_cmd64 *user)
{
	void *data __free(kfree) = NULL;
	struct nvme_command cmd = {};
	u32 result = 0;
	int err;

	if (!capable(CAP_SYS_ADMIN))
		return -EACCES;
	err = check(user);
	if (err)
		return err;
	data = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
	if (!data)
		return -ENOMEM;

	cmd.common.opcode = user->opcode;
	cmd.common.nsid = cpu_to_le32(user->nsid);
	cmd.common.cdw10 = cpu_to_le32(user->cdw10);
	cmd.common.cdw11 = cpu_to_le32(user->cdw11);
	cmd.common.cdw12 = cpu_to_le32(user->cdw12);
	cmd.common.cdw13 = cpu_to_le32(user->cdw13);
	cmd.common.cdw14 = cpu_to_le32(user->cdw14);
	cmd.common.cdw15 = cpu_to_le32(user->cdw15);
	err = run(ctrl, &cmd, data, &result);
	if (err >= 0)
		user->result = result;
	if (!err && copy_to_user(u64_to_user_ptr(user->addr), data,
				 user->data_len))
		return -EFAULT;
	return err;
}

/* The two commands differ in what comes after timeout_ms. */
static int admin32(struct nvme_phys *ctrl, struct nvme_passthru_cmd __user *arg)
{
	struct nvme_passthru_cmd64 user = {};
	int err;

	static_assert(offsetofend(struct nvme_passthru_cmd, timeout_ms) ==
		      offsetofend(struct nvme_passthru_cmd64, timeout_ms));
	if (copy_from_user(&user, arg,
			   offsetofend(struct nvme_passthru_cmd, timeout_ms)))
		return -EFAULT;
	err = admin(ctrl, &user);
	if (err >= 0 && put_user((u32)user.result, &arg->result))
		return -EFAULT;
	return err;
}

static int admin64(struct nvme_phys *ctrl,
		   struct nvme_passthru_cmd64 __user *arg)
{
	struct nvme_passthru_cmd64 user;
	int err;

	if (copy_from_user(&user, arg, sizeof(user)))
		return -EFAULT;
	err = admin(ctrl, &user);
	if (err >= 0 && put_user(user.result, &arg->result))
		return -EFAULT;
	return err;
}

/**
 * nvme_phys_ioctl() - answer ioctl(2) on a disk
 * @bdev: the disk, or a partition of it; its device may be gone
 * @mode: how it was opened
 * @cmd: NVME_IOCTL_ID, NVME_IOCTL_ADMIN_CMD or NVME_IOCTL_ADMIN64_CMD
 * @arg: as the command wants it
 *
 * Return: what the command returns: 0, the id or an NVMe status; or
 * * -ENOTTY - no such command
 * * -EACCES - the caller is not privileged
 * * -EPERM - an opcode or a feature that is not offered
 * * -EINVAL - a length that is not the command's, or other fields that are not 0
 * * -EFAULT - bad memory of the caller's
 * * -ENODEV - the device is gone, or does not run
 * * -EIO, -ETIMEDOUT - it failed; it was reset since, or is dead
 */
int nvme_phys_ioctl(struct block_device *bdev, blk_mode_t mode,
		    unsigned int cmd, unsigned long arg)
{
	struct nvme_phys_ns *ns = bdev->bd_disk->private_data;
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case NVME_IOCTL_ID:
		if (nvme_phys_is_dead(ns->ctrl))
			return -ENODEV;
		force_successful_syscall_return();
		return ns->id;
	case NVME_IOCTL_ADMIN_CMD:
		return admin32(ns->ctrl, argp);
	case NVME_IOCTL_ADMIN64_CMD:
		return admin64(ns->ctrl, argp);
	default:
		return -ENOTTY;
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * ioctl(2) on a disk, for nvme-cli: admin commands that return data, and the
 * I/O commands of passthru.c.
 *
 * Only commands whose data length is known are allowed, and the caller must pass
 * that length. For admin commands, the controller writes to a buffer of the
 * kernel that is always large enough.
 */
#include <linux/capability.h>
#include <linux/cleanup.h>
#include <linux/ptrace.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "nvme_phys.h"

/* Length of the data of Get Features [5.14], -EPERM if not allowed. */
static int nvme_phys_feature_bytes(u32 cdw10)
{
	u8 fid = cdw10 & 0xff;

	/* Supported capabilities (SEL is 3) are returned in dword 0. */
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

/* Length of the data that a command returns, or -errno if it is not allowed. */
static int nvme_phys_data_bytes(const struct nvme_passthru_cmd64 *user)
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
		return nvme_phys_feature_bytes(user->cdw10);
	default:
		return -EPERM;
	}
}

static int nvme_phys_check_passthru(const struct nvme_passthru_cmd64 *user)
{
	int bytes = nvme_phys_data_bytes(user);

	if (bytes < 0)
		return bytes;
	if (nvme_phys_user_cmd_has_reserved(user) || user->data_len != bytes)
		return -EINVAL;
	return 0;
}

static int nvme_phys_run_passthru(struct nvme_phys *ctrl,
				  struct nvme_command *cmd, void *data, u32 ms,
				  u32 *result)
{
	int err;

	err = mutex_lock_interruptible(&ctrl->admin_lock);
	if (err)
		return err;
	err = nvme_phys_admin_user(ctrl, cmd, data, ms, result);
	mutex_unlock(&ctrl->admin_lock);
	return err;
}

static int nvme_phys_passthru(struct nvme_phys *ctrl,
			      struct nvme_passthru_cmd64 *user)
{
	void *data __free(kfree) = NULL;
	struct nvme_command cmd;
	u32 result = 0;
	int err;

	if (!capable(CAP_SYS_ADMIN))
		return -EACCES;
	err = nvme_phys_check_passthru(user);
	if (err)
		return err;
	data = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
	if (!data)
		return -ENOMEM;

	cmd = nvme_phys_user_cmd(user);
	err = nvme_phys_run_passthru(ctrl, &cmd, data, user->timeout_ms,
				     &result);
	if (err >= 0)
		user->result = result;
	if (!err && copy_to_user(u64_to_user_ptr(user->addr), data,
				 user->data_len))
		return -EFAULT;
	return err;
}

/* ---- ioctl(2) ---- */

static int nvme_phys_run_user_cmd(struct nvme_phys_ns *ns, bool admin,
				  struct nvme_passthru_cmd64 *user)
{
	return admin ? nvme_phys_passthru(ns->ctrl, user) :
		       nvme_phys_io_cmd(ns, user);
}

/* The two structures differ after timeout_ms only. */
static int nvme_phys_user_cmd32(struct nvme_phys_ns *ns, bool admin,
				struct nvme_passthru_cmd __user *arg)
{
	struct nvme_passthru_cmd64 user = {};
	int err;

	static_assert(offsetofend(struct nvme_passthru_cmd, timeout_ms) ==
		      offsetofend(struct nvme_passthru_cmd64, timeout_ms));
	if (copy_from_user(&user, arg,
			   offsetofend(struct nvme_passthru_cmd, timeout_ms)))
		return -EFAULT;
	err = nvme_phys_run_user_cmd(ns, admin, &user);
	if (err >= 0 && put_user((u32)user.result, &arg->result))
		return -EFAULT;
	return err;
}

static int nvme_phys_user_cmd64(struct nvme_phys_ns *ns, bool admin,
				struct nvme_passthru_cmd64 __user *arg)
{
	struct nvme_passthru_cmd64 user;
	int err;

	if (copy_from_user(&user, arg, sizeof(user)))
		return -EFAULT;
	err = nvme_phys_run_user_cmd(ns, admin, &user);
	if (err >= 0 && put_user(user.result, &arg->result))
		return -EFAULT;
	return err;
}

/* struct nvme_user_io has no length and no result. */
static int nvme_phys_submit_io(struct nvme_phys_ns *ns,
			       struct nvme_user_io __user *arg)
{
	struct nvme_passthru_cmd64 user = {};
	struct nvme_user_io io;

	if (copy_from_user(&io, arg, sizeof(io)))
		return -EFAULT;
	if (io.opcode != nvme_cmd_read && io.opcode != nvme_cmd_write &&
	    io.opcode != nvme_cmd_compare)
		return -EINVAL;

	user.opcode = io.opcode;
	user.flags = io.flags;
	user.nsid = ns->id;
	user.metadata = io.metadata;
	user.addr = io.addr;
	/* 4 GiB is truncated to 0, which nvme_phys_io_cmd() refuses. */
	user.data_len = ((u64)io.nblocks + 1) << ns->shift;
	user.cdw10 = lower_32_bits(io.slba);
	user.cdw11 = upper_32_bits(io.slba);
	user.cdw12 = io.nblocks | (u32)io.control << 16;
	user.cdw13 = io.dsmgmt;
	user.cdw14 = io.reftag;
	user.cdw15 = io.apptag | (u32)io.appmask << 16;
	return nvme_phys_io_cmd(ns, &user);
}

/**
 * nvme_phys_ioctl() - handle ioctl(2) on a disk
 * @bdev: the disk or a partition of it; the controller may be gone
 * @mode: how it was opened; not checked, same as in the kernel's driver
 * @cmd: NVME_IOCTL_ID, or one that executes an admin command or an I/O command
 * @arg: user pointer of the command
 *
 * Commands address blocks of the whole namespace, also on a partition.
 *
 * Return: 0, the namespace id, an NVMe status, an error of nvme_phys_io_cmd(), or
 * * -ENOTTY - no such ioctl
 * * -EACCES - the caller lacks CAP_SYS_ADMIN
 * * -EPERM - the opcode or the feature is not allowed
 * * -EINVAL - wrong data length, or another field that is not 0
 * * -EFAULT - bad user pointer
 * * -ENOMEM - no memory for the data
 * * -EINTR - interrupted while waiting for another command
 * * -ENODEV - the controller is gone, or does not run
 * * -EIO, -ETIMEDOUT - the controller failed and was reset, or it was stopped
 */
int nvme_phys_ioctl(struct block_device *bdev, blk_mode_t mode,
		    unsigned int cmd, unsigned long arg)
{
	struct nvme_phys_ns *ns = bdev->bd_disk->private_data;
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case NVME_IOCTL_ID:
		if (nvme_phys_has_failed(ns->ctrl))
			return -ENODEV;
		force_successful_syscall_return();
		return ns->id;
	case NVME_IOCTL_ADMIN_CMD:
	case NVME_IOCTL_IO_CMD:
		return nvme_phys_user_cmd32(ns, cmd == NVME_IOCTL_ADMIN_CMD, argp);
	case NVME_IOCTL_ADMIN64_CMD:
	case NVME_IOCTL_IO64_CMD:
		return nvme_phys_user_cmd64(ns, cmd == NVME_IOCTL_ADMIN64_CMD,
					    argp);
	case NVME_IOCTL_SUBMIT_IO:
		return nvme_phys_submit_io(ns, argp);
	default:
		return -ENOTTY;
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * I/O commands of programs, with the memory of the program as their data.
 *
 * A command is a request of the disk, and its data is mapped like that of any
 * other request. The controller must access no more than what is mapped: only
 * commands whose data length is known are allowed, and the caller must pass
 * that length.
 */
#include <linux/capability.h>

#include "nvme_phys.h"

/*
 * Length of the data of a command, or -errno if it is not allowed. Metadata of
 * programs is not supported, and blocks with metadata need some.
 */
static s64 nvme_phys_io_cmd_bytes(const struct nvme_phys_ns *ns,
				  const struct nvme_passthru_cmd64 *user)
{
	switch (user->opcode) {
	case nvme_cmd_read:
	case nvme_cmd_write:
	case nvme_cmd_compare:
		if (ns->metadata)
			return -EINVAL;
		return ((s64)(user->cdw12 & 0xffff) + 1) << ns->shift;
	case nvme_cmd_dsm:
		return ((user->cdw10 & 0xff) + 1) *
		       sizeof(struct nvme_dsm_range);
	case nvme_cmd_flush:
	case nvme_cmd_verify:
	case nvme_cmd_write_uncor:
	case nvme_cmd_write_zeroes:
		return 0;
	default:
		return -EPERM;
	}
}

static int nvme_phys_check_io_cmd(const struct nvme_phys_ns *ns,
				  const struct nvme_passthru_cmd64 *user)
{
	s64 bytes = nvme_phys_io_cmd_bytes(ns, user);

	if (bytes < 0)
		return bytes;
	if (nvme_phys_user_cmd_has_reserved(user) || user->data_len != bytes ||
	    user->nsid != ns->id)
		return -EINVAL;
	return 0;
}

/* The status of the controller, or -errno if it has not completed the command. */
static int nvme_phys_io_cmd_result(struct request *rq, blk_status_t status)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);

	if (nreq->status == NVME_SC_HOST_ABORTED_CMD)
		return -EIO;
	return nreq->status ?: blk_status_to_errno(status);
}

static int nvme_phys_execute_io_cmd(struct request *rq,
				    const struct nvme_passthru_cmd64 *user)
{
	struct bio *bio;
	int err = 0, status;

	if (user->data_len)
		err = blk_rq_map_user(rq->q, rq, NULL,
				      u64_to_user_ptr(user->addr),
				      user->data_len, GFP_KERNEL);
	if (err)
		return err;

	/* Completion takes the bio from the request. */
	bio = rq->bio;
	status = nvme_phys_io_cmd_result(rq, blk_execute_rq(rq, false));
	if (bio)
		err = blk_rq_unmap_user(bio);
	return status ?: err;
}

/**
 * nvme_phys_io_cmd() - execute an I/O command of a program
 * @ns: the namespace; its controller may be gone
 * @user: the command; its result is set
 *
 * It is not retried. If it exceeds its time limit, it is aborted like any other
 * request.
 *
 * Context: Process, sleeps.
 * Return: 0, the status of the command, which is positive, or
 * * -EACCES - the caller lacks CAP_SYS_ADMIN
 * * -EPERM - the opcode is not allowed
 * * -EINVAL - wrong or too large data length, another namespace, metadata, or
 *   another field that is not 0
 * * -EFAULT - bad user pointer
 * * -ENOMEM - no memory for the request
 * * -ENODEV - the controller or the disk is gone
 * * -EIO - the controller failed or was reset, or it was stopped
 */
int nvme_phys_io_cmd(struct nvme_phys_ns *ns, struct nvme_passthru_cmd64 *user)
{
	struct nvme_phys_request *nreq;
	struct request *rq;
	blk_opf_t op;
	int err;

	if (!capable(CAP_SYS_ADMIN))
		return -EACCES;
	if (nvme_phys_has_failed(ns->ctrl))
		return -ENODEV;
	err = nvme_phys_check_io_cmd(ns, user);
	if (err)
		return err;

	/* Bit 0 of an opcode: data is transferred to the controller. */
	op = user->opcode & 1 ? REQ_OP_DRV_OUT : REQ_OP_DRV_IN;
	rq = blk_mq_alloc_request(ns->disk->queue, op | REQ_FAILFAST_DRIVER, 0);
	if (IS_ERR(rq))
		return PTR_ERR(rq);
	rq->timeout = msecs_to_jiffies(user->timeout_ms);
	nreq = blk_mq_rq_to_pdu(rq);
	nreq->status = 0;
	nreq->cmd = nvme_phys_user_cmd(user);
	user->result = 0;
	err = nvme_phys_execute_io_cmd(rq, user);
	blk_mq_free_request(rq);
	return err;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Registers and admin commands of a controller.
 *
 * Memory is unmapped or freed only when the controller no longer accesses it:
 * after the command has completed, or after the controller was disabled.
 */
#include <linux/cleanup.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iopoll.h>
#include <linux/jiffies.h>
#include <linux/slab.h>

#include "nvme_phys.h"

/* ---- Reset and enable [3.1, 7.6] ---- */

/**
 * nvme_phys_is_gone() - check whether the device was removed
 * @ctrl: the controller
 *
 * Return: true if its registers read as all ones.
 */
bool nvme_phys_is_gone(struct nvme_phys *ctrl)
{
	return readl(ctrl->regs + NVME_REG_CSTS) == U32_MAX;
}

/*
 * Wait until the bits of CSTS in @mask are @want. A fatal status (CFS) ends the
 * wait, unless it is for bits to clear: disabling recovers the controller.
 */
static int nvme_phys_wait_csts(struct nvme_phys *ctrl, u32 mask, u32 want,
			       u32 ms)
{
	u32 csts;
	int err;

	err = readl_poll_timeout(ctrl->regs + NVME_REG_CSTS, csts,
				 csts == U32_MAX || (csts & mask) == want ||
				 (want && (csts & NVME_CSTS_CFS)),
				 1000, ms * 1000ULL);
	if (csts == U32_MAX)
		return -ENODEV;
	if (!err && (csts & mask) != want)
		return -EIO;
	return err;
}

/**
 * nvme_phys_disable() - disable a controller, and its bus mastering
 * @ctrl: the controller
 *
 * Afterwards the controller accesses no memory, even if this fails: it is not a
 * bus master.
 *
 * Return: 0, -ENODEV if it is gone, -ETIMEDOUT if it does not clear RDY.
 */
int nvme_phys_disable(struct nvme_phys *ctrl)
{
	u32 cc = readl(ctrl->regs + NVME_REG_CC);
	int err;

	ctrl->running = false;
	if (cc & NVME_CC_ENABLE) {
		/* EN may be cleared only after RDY is set, or on failure. */
		nvme_phys_wait_csts(ctrl, NVME_CSTS_RDY, NVME_CSTS_RDY,
				    ctrl->ready_ms);
		cc &= ~(NVME_CC_ENABLE | NVME_CC_SHN_MASK);
		writel(cc, ctrl->regs + NVME_REG_CC);
	}
	err = nvme_phys_wait_csts(ctrl, NVME_CSTS_RDY, 0, ctrl->ready_ms);
	if (err)
		dev_err(&ctrl->pdev->dev, "disable failed: %d\n", err);

	pci_clear_master(ctrl->pdev);
	if (pci_device_is_present(ctrl->pdev))
		pci_wait_for_pending_transaction(ctrl->pdev);
	return err;
}

/**
 * nvme_phys_read_cap() - read the capabilities of a controller
 * @ctrl: the controller, with its registers mapped
 *
 * Return: 0, -ENODEV if it is gone, -EOPNOTSUPP if it is not supported.
 */
int nvme_phys_read_cap(struct nvme_phys *ctrl)
{
	struct device *dev = &ctrl->pdev->dev;

	ctrl->cap = lo_hi_readq(ctrl->regs + NVME_REG_CAP);
	if (ctrl->cap == U64_MAX)
		return -ENODEV;

	/* TO is in units of 500 ms, and may be 0. */
	ctrl->ready_ms = (NVME_CAP_TIMEOUT(ctrl->cap) + 1) * 500;
	ctrl->shutdown_ms = 5000;	/* until RTD3E is known */
	ctrl->page_size = SZ_4K << NVME_CAP_MPSMIN(ctrl->cap);
	if (ctrl->page_size > PAGE_SIZE)
		return dev_err_probe(dev, -EOPNOTSUPP, "minimum page size is %u\n",
				     ctrl->page_size);
	if (!(NVME_CAP_CSS(ctrl->cap) & NVME_CAP_CSS_NVM))
		return dev_err_probe(dev, -EOPNOTSUPP, "no NVM command set\n");
	if (!NVME_CAP_MQES(ctrl->cap))	/* 0's based: one entry, need two */
		return dev_err_probe(dev, -EOPNOTSUPP, "queues too short\n");
	return 0;
}

/**
 * nvme_phys_enable() - enable a controller for admin commands
 * @ctrl: the controller, disabled
 *
 * Return: 0, -ENODEV if it is gone, -EIO on a fatal status, -ETIMEDOUT if it
 * does not become ready.
 */
int nvme_phys_enable(struct nvme_phys *ctrl)
{
	u32 cc = NVME_CC_CSS_NVM | NVME_CC_AMS_RR | NVME_CC_SHN_NONE |
		 NVME_CC_IOSQES | NVME_CC_IOCQES;
	u32 aqa = NVME_PHYS_ADMIN_DEPTH - 1;
	int err;

	nvme_phys_queue_reset(&ctrl->admin);
	pci_set_master(ctrl->pdev);
	cc |= NVME_CAP_MPSMIN(ctrl->cap) << NVME_CC_MPS_SHIFT;
	writel(aqa << 16 | aqa, ctrl->regs + NVME_REG_AQA);
	lo_hi_writeq(ctrl->admin.sq_dma, ctrl->regs + NVME_REG_ASQ);
	lo_hi_writeq(ctrl->admin.cq_dma, ctrl->regs + NVME_REG_ACQ);
	writel(cc, ctrl->regs + NVME_REG_CC);
	writel(cc | NVME_CC_ENABLE, ctrl->regs + NVME_REG_CC);
	err = nvme_phys_wait_csts(ctrl, NVME_CSTS_RDY, NVME_CSTS_RDY,
				  ctrl->ready_ms);
	ctrl->running = !err;
	return err;
}

/**
 * nvme_phys_notify_shutdown() - shut down a controller [7.6.2]
 * @ctrl: the controller, which gets no more commands
 *
 * It flushes its volatile write cache.
 */
void nvme_phys_notify_shutdown(struct nvme_phys *ctrl)
{
	u32 cc = readl(ctrl->regs + NVME_REG_CC) & ~NVME_CC_SHN_MASK;

	writel(cc | NVME_CC_SHN_NORMAL, ctrl->regs + NVME_REG_CC);
	if (nvme_phys_wait_csts(ctrl, NVME_CSTS_SHST_MASK,
				NVME_CSTS_SHST_CMPLT, ctrl->shutdown_ms))
		dev_warn(&ctrl->pdev->dev, "shutdown timed out\n");
}

/* ---- Admin commands ---- */

/* Poll once a second, to detect a removed or failed controller early. */
static int nvme_phys_wait_admin(struct nvme_phys *ctrl)
{
	bool found;
	u32 csts;

	for (int i = 0; i < NVME_PHYS_ADMIN_SECONDS; i++) {
		if (wait_for_completion_timeout(&ctrl->admin_done, HZ))
			return 0;
		found = nvme_phys_queue_poll(&ctrl->admin);
		if (try_wait_for_completion(&ctrl->admin_done)) {
			if (found)
				dev_warn(&ctrl->pdev->dev,
					 "admin: completion without interrupt\n");
			return 0;
		}
		csts = readl(ctrl->regs + NVME_REG_CSTS);
		if (csts == U32_MAX)
			return -ENODEV;
		if (csts & NVME_CSTS_CFS || !(csts & NVME_CSTS_RDY))
			return -EIO;
	}
	return -ETIMEDOUT;
}

/**
 * nvme_phys_admin() - execute an admin command
 * @ctrl: the controller
 * @cmd: the command; its id is assigned here
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
int nvme_phys_admin(struct nvme_phys *ctrl, struct nvme_command *cmd,
		    u32 *result)
{
	int err;

	lockdep_assert_held(&ctrl->lock);
	if (!ctrl->running)
		return -ENODEV;

	reinit_completion(&ctrl->admin_done);
	cmd->common.command_id = ctrl->admin_id + 1;
	WRITE_ONCE(ctrl->admin_id, cmd->common.command_id);
	nvme_phys_queue_submit(&ctrl->admin, cmd, true);
	err = nvme_phys_wait_admin(ctrl);
	if (err) {
		dev_err(&ctrl->pdev->dev, "admin command %#x failed: %d\n",
			cmd->common.opcode, err);
		return err;
	}
	if (result)
		*result = ctrl->admin_result;
	return ctrl->admin_status;
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

/**
 * nvme_phys_admin_read() - execute an admin command that returns data
 * @ctrl: the controller
 * @cmd: the command, without its data pointer
 * @data: NVME_PHYS_ADMIN_BYTES of kmalloc(); the controller may write all of
 *	  them, whatever the command says
 * @result: dword 0 of the completion, or NULL
 *
 * After a failure other than a status the controller is disabled.
 *
 * Return: as nvme_phys_admin(), or an error of dma_phys_map_cpu().
 */
int nvme_phys_admin_read(struct nvme_phys *ctrl, struct nvme_command *cmd,
			 void *data, u32 *result)
{
	struct dma_phys_map map = {};
	struct cpu_phys range;
	int err;

	memset(data, 0, NVME_PHYS_ADMIN_BYTES);
	err = cpu_phys_from_virt(data, NVME_PHYS_ADMIN_BYTES, &range);
	err = err ?: dma_phys_map_cpu(&ctrl->pdev->dev, &range, DMA_FROM_DEVICE,
				      0, &map);
	if (err)
		return err;

	nvme_phys_set_admin_prps(ctrl, &map, &cmd->common.dptr);
	err = nvme_phys_admin(ctrl, cmd, result);
	if (err < 0 && ctrl->running)
		nvme_phys_disable(ctrl);
	dma_phys_unmap(&map);
	return err;
}

/**
 * nvme_phys_identify() - execute an Identify command [5.15]
 * @ctrl: the controller
 * @cns: data structure to return
 * @nsid: namespace id; for a list, the id that it starts after
 * @data: see nvme_phys_admin_read()
 *
 * Return: as nvme_phys_admin_read().
 */
int nvme_phys_identify(struct nvme_phys *ctrl, u8 cns, u32 nsid, void *data)
{
	struct nvme_command cmd = {};

	static_assert(NVME_PHYS_ADMIN_BYTES >= NVME_IDENTIFY_DATA_SIZE);
	cmd.identify.opcode = nvme_admin_identify;
	cmd.identify.nsid = cpu_to_le32(nsid);
	cmd.identify.cns = cns;
	return nvme_phys_admin_read(ctrl, &cmd, data, NULL);
}

/**
 * nvme_phys_identify_ctrl() - identify a controller, and derive its limits
 * @ctrl: the controller
 * @id: see @data of nvme_phys_admin_read()
 *
 * Return: as nvme_phys_admin_read().
 */
int nvme_phys_identify_ctrl(struct nvme_phys *ctrl, struct nvme_id_ctrl *id)
{
	struct device *dev = &ctrl->pdev->dev;
	u32 sgls, oncs;
	u32 shift;
	int err;

	err = nvme_phys_identify(ctrl, NVME_ID_CNS_CTRL, 0, id);
	if (err)
		return err;

	/* Data is aligned to 4 bytes: either kind of support will do. */
	sgls = le32_to_cpu(id->sgls) & (NVME_CTRL_SGLS_BYTE_ALIGNED |
					NVME_CTRL_SGLS_DWORD_ALIGNED);
	ctrl->sgl = nvme_phys_sgl && sgls;
	oncs = le16_to_cpu(id->oncs);
	ctrl->discard = oncs & NVME_CTRL_ONCS_DSM;
	ctrl->write_zeroes = oncs & NVME_CTRL_ONCS_WRITE_ZEROES;
	ctrl->write_cache = id->vwc & NVME_CTRL_VWC_PRESENT;

	/* RTD3E is in microseconds, 0 if not reported. */
	ctrl->shutdown_ms = clamp(le32_to_cpu(id->rtd3e) / 1000, 5000, 60000);

	/* With PRP entries a bounce buffer must keep the offset in the page. */
	dma_set_min_align_mask(dev, ctrl->sgl ? 0 : ctrl->page_size - 1);
	ctrl->max_transfer = min(NVME_PHYS_MAX_TRANSFER,
				 dma_opt_mapping_size(dev));
	/* MDTS is a power of two in units of the minimum page; 0: no limit. */
	shift = 12 + NVME_CAP_MPSMIN(ctrl->cap) + id->mdts;
	if (id->mdts && shift < ilog2(NVME_PHYS_MAX_TRANSFER))
		ctrl->max_transfer = min(ctrl->max_transfer, 1U << shift);
	return 0;
}

/* ---- I/O queues [5.3, 5.4, 5.21.1.7] ---- */

/**
 * nvme_phys_set_queue_count() - set the number of I/O queues
 * @ctrl: the controller, without I/O queues
 * @want: requested number
 * @count: number that the controller grants, at most @want
 *
 * Return: as nvme_phys_admin().
 */
int nvme_phys_set_queue_count(struct nvme_phys *ctrl, unsigned int want,
			      unsigned int *count)
{
	struct nvme_command cmd = {};
	u32 result = 0;
	int err;

	cmd.features.opcode = nvme_admin_set_features;
	cmd.features.fid = cpu_to_le32(NVME_FEAT_NUM_QUEUES);
	/* All four numbers are 0's based. */
	cmd.features.dword11 = cpu_to_le32((want - 1) << 16 | (want - 1));
	err = nvme_phys_admin(ctrl, &cmd, &result);
	*count = min3(result & 0xffff, result >> 16, want - 1) + 1;
	return err;
}

static int nvme_phys_create_queue(struct nvme_phys *ctrl,
				  struct nvme_phys_queue *q)
{
	struct nvme_command cq = {}, sq = {};
	int err;

	nvme_phys_queue_reset(q);
	cq.create_cq.opcode = nvme_admin_create_cq;
	cq.create_cq.prp1 = cpu_to_le64(q->cq_dma);
	cq.create_cq.cqid = cpu_to_le16(q->id);
	cq.create_cq.qsize = cpu_to_le16(q->depth - 1);
	cq.create_cq.cq_flags = cpu_to_le16(NVME_QUEUE_PHYS_CONTIG |
					    NVME_CQ_IRQ_ENABLED);
	cq.create_cq.irq_vector = cpu_to_le16(q->vector);
	err = nvme_phys_admin(ctrl, &cq, NULL);
	if (err)
		return err;

	sq.create_sq.opcode = nvme_admin_create_sq;
	sq.create_sq.prp1 = cpu_to_le64(q->sq_dma);
	sq.create_sq.sqid = cpu_to_le16(q->id);
	sq.create_sq.qsize = cpu_to_le16(q->depth - 1);
	sq.create_sq.sq_flags = cpu_to_le16(NVME_QUEUE_PHYS_CONTIG);
	sq.create_sq.cqid = cpu_to_le16(q->id);
	return nvme_phys_admin(ctrl, &sq, NULL);
}

/**
 * nvme_phys_create_queues() - create all I/O queues in a controller
 * @ctrl: the controller, with its number of queues set
 *
 * Return: as nvme_phys_admin().
 */
int nvme_phys_create_queues(struct nvme_phys *ctrl)
{
	int err = 0;

	for (unsigned int i = 0; i < ctrl->queues && !err; i++)
		err = nvme_phys_create_queue(ctrl, &ctrl->io[i]);
	return err;
}

/* ---- Lifetime ---- */

static void nvme_phys_release(struct kref *ref)
{
	struct nvme_phys *ctrl = container_of(ref, struct nvme_phys, ref);

	mutex_destroy(&ctrl->lock);
	kfree(ctrl);
}

/**
 * nvme_phys_put() - drop a reference of a controller
 * @ctrl: the controller
 */
void nvme_phys_put(struct nvme_phys *ctrl)
{
	kref_put(&ctrl->ref, nvme_phys_release);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Registers of a controller, its identification, and its I/O queues.
 *
 * Memory is unmapped or freed only when the controller no longer accesses it:
 * after the command has completed, or after the controller was disabled.
 */
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iopoll.h>

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
 * bus master. Nor does it assert INTx, which may be shared.
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

	if (!pci_dev_msi_enabled(ctrl->pdev))
		pci_intx(ctrl->pdev, !err);
	pci_clear_master(ctrl->pdev);
	if (pci_device_is_present(ctrl->pdev))
		pci_wait_for_pending_transaction(ctrl->pdev);
	return err;
}

/*
 * Time limit for CSTS.RDY to follow CC.EN, in units of 500 ms. TO may be 0. CRTO
 * has more bits. It is limited to the maximum of TO: the lock is held then.
 */
static u32 nvme_phys_ready_ms(struct nvme_phys *ctrl)
{
	u64 cap = lo_hi_readq(ctrl->regs + NVME_REG_CAP);
	u32 units = NVME_CAP_TIMEOUT(cap);

	if (cap == U64_MAX)	/* gone */
		return ctrl->ready_ms;
	if (cap & NVME_CAP_CRMS_CRWMS)
		units = max(units, NVME_CRTO_CRWMT(readl(ctrl->regs +
							 NVME_REG_CRTO)));
	return (min(units, U8_MAX) + 1) * 500;
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

	ctrl->version = readl(ctrl->regs + NVME_REG_VS);
	ctrl->ready_ms = nvme_phys_ready_ms(ctrl);
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
	/* It may depend on the command set in CC. */
	ctrl->ready_ms = nvme_phys_ready_ms(ctrl);
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

/* ---- Identify [5.15] ---- */

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
	return nvme_phys_admin_read(ctrl, &cmd, data);
}

/* CRDT is in units of 100 ms. Limit it: removal of a disk waits for retries. */
static u32 nvme_phys_retry_ms(__le16 crdt)
{
	return min(le16_to_cpu(crdt) * 100, NVME_PHYS_MAX_RETRY_MS);
}

static void nvme_phys_read_features(struct nvme_phys *ctrl,
				    const struct nvme_id_ctrl *id)
{
	u32 sgls = le32_to_cpu(id->sgls);
	u32 oncs = le16_to_cpu(id->oncs);

	/* Data is aligned to 4 bytes: either kind of support will do. */
	ctrl->sgl = nvme_phys_sgl && sgls & (NVME_CTRL_SGLS_BYTE_ALIGNED |
					     NVME_CTRL_SGLS_DWORD_ALIGNED);
	ctrl->meta_sgl = ctrl->sgl && sgls & NVME_CTRL_SGLS_MSDS;
	ctrl->elbas = le32_to_cpu(id->ctratt) & NVME_CTRL_ATTR_ELBAS;
	ctrl->discard = oncs & NVME_CTRL_ONCS_DSM;
	ctrl->write_zeroes = oncs & NVME_CTRL_ONCS_WRITE_ZEROES;
	ctrl->write_cache = id->vwc & NVME_CTRL_VWC_PRESENT;
	ctrl->max_nsid = le32_to_cpu(id->nn);

	/* CRD is 0 if there is no delay. */
	ctrl->retry_ms[1] = nvme_phys_retry_ms(id->crdt1);
	ctrl->retry_ms[2] = nvme_phys_retry_ms(id->crdt2);
	ctrl->retry_ms[3] = nvme_phys_retry_ms(id->crdt3);
	/* RTD3E is in microseconds, 0 if not reported. */
	ctrl->shutdown_ms = clamp(le32_to_cpu(id->rtd3e) / 1000, 5000, 60000);
}

/* A power of two in units of the minimum page, in bytes. */
static u32 nvme_phys_page_units(const struct nvme_phys *ctrl, u8 exponent)
{
	return 1U << min(12 + NVME_CAP_MPSMIN(ctrl->cap) + exponent, 31);
}

static int nvme_phys_set_max_transfer(struct nvme_phys *ctrl, u8 mdts)
{
	struct device *dev = &ctrl->pdev->dev;

	ctrl->max_transfer = min(NVME_PHYS_MAX_TRANSFER,
				 dma_opt_mapping_size(dev));
	if (mdts)	/* 0: no limit */
		ctrl->max_transfer = min(ctrl->max_transfer,
					 nvme_phys_page_units(ctrl, mdts));
	/* The block layer transfers whole pages of the CPU. */
	if (ctrl->max_transfer < PAGE_SIZE)
		return dev_err_probe(dev, -EOPNOTSUPP,
				     "commands transfer less than a page\n");
	return 0;
}

/*
 * Limits of the NVM command set, whose identifier (CSI) is 0. The limit of the
 * number of ranges (DMRL) does not matter: a command has one range.
 */
static int nvme_phys_identify_nvm(struct nvme_phys *ctrl,
				  struct nvme_id_ctrl_nvm *id)
{
	int err;

	/* Until version 1.2 CNS was a smaller field. */
	if (ctrl->version < NVME_VS(1, 2, 0))
		return 0;
	err = nvme_phys_identify(ctrl, NVME_ID_CNS_CS_CTRL, 0, id);
	if (err > 0)	/* older than this data structure: no limits */
		return 0;
	if (err)
		return err;
	ctrl->max_discard = le32_to_cpu(id->dmrsl);
	if (id->wzsl)
		ctrl->max_zeroes = nvme_phys_page_units(ctrl, id->wzsl);
	return 0;
}

/**
 * nvme_phys_identify_ctrl() - identify a controller, and derive its limits
 * @ctrl: the controller
 * @data: NVME_PHYS_ADMIN_BYTES of memory
 *
 * Return: as nvme_phys_admin_read(), -EOPNOTSUPP if the controller is not
 * supported, or an error of dma_phys_map_cpu().
 */
int nvme_phys_identify_ctrl(struct nvme_phys *ctrl, void *data)
{
	const struct nvme_id_ctrl *id = data;
	int err;

	err = nvme_phys_identify(ctrl, NVME_ID_CNS_CTRL, 0, data);
	if (err)
		return err;
	nvme_phys_read_features(ctrl, id);
	/* With PRP entries a bounce buffer must keep the offset in the page. */
	err = nvme_phys_set_align_mask(ctrl, ctrl->sgl ? 0 :
					     ctrl->page_size - 1);
	err = err ?: nvme_phys_set_max_transfer(ctrl, id->mdts);
	return err ?: nvme_phys_identify_nvm(ctrl, data);
}

/**
 * nvme_phys_set_host_behavior() - enable delays of retries [5.21.1.22]
 * @ctrl: the controller, which does not keep this over a reset
 *
 * A controller that reports delays uses them only then.
 *
 * Return: 0 or a negative errno of nvme_phys_admin_write().
 */
int nvme_phys_set_host_behavior(struct nvme_phys *ctrl)
{
	struct nvme_feat_host_behavior host = { .acre = NVME_ENABLE_ACRE };
	struct nvme_command cmd = {};
	int err;

	if (!ctrl->retry_ms[1] && !ctrl->retry_ms[2] && !ctrl->retry_ms[3])
		return 0;
	cmd.features.opcode = nvme_admin_set_features;
	cmd.features.fid = cpu_to_le32(NVME_FEAT_HOST_BEHAVIOR);
	err = nvme_phys_admin_write(ctrl, &cmd, &host, sizeof(host));
	if (err > 0)	/* refused: CRD is not valid */
		memset(ctrl->retry_ms, 0, sizeof(ctrl->retry_ms));
	return min(err, 0);
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
	err = nvme_phys_admin(ctrl, &cmd, 0, &result);
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
	cq.create_cq.cq_flags = cpu_to_le16(NVME_QUEUE_PHYS_CONTIG);
	if (!q->polled) {
		cq.create_cq.cq_flags |= cpu_to_le16(NVME_CQ_IRQ_ENABLED);
		cq.create_cq.irq_vector = cpu_to_le16(q->vector);
	}
	err = nvme_phys_admin(ctrl, &cq, 0, NULL);
	if (err)
		return err;

	sq.create_sq.opcode = nvme_admin_create_sq;
	sq.create_sq.prp1 = cpu_to_le64(q->sq_dma);
	sq.create_sq.sqid = cpu_to_le16(q->id);
	sq.create_sq.qsize = cpu_to_le16(q->depth - 1);
	sq.create_sq.sq_flags = cpu_to_le16(NVME_QUEUE_PHYS_CONTIG);
	sq.create_sq.cqid = cpu_to_le16(q->id);
	return nvme_phys_admin(ctrl, &sq, 0, NULL);
}

/**
 * nvme_phys_create_queues() - create all I/O queues in a controller
 * @ctrl: the controller, with its number of queues set
 * @count: number of queues that were created
 *
 * Return: as nvme_phys_admin().
 */
int nvme_phys_create_queues(struct nvme_phys *ctrl, unsigned int *count)
{
	int err;

	for (*count = 0; *count < ctrl->queues; ++*count) {
		err = nvme_phys_create_queue(ctrl, &ctrl->io[*count]);
		if (err)
			return err;
	}
	return 0;
}

/* ---- Lifetime ---- */

static void nvme_phys_release(struct kref *ref)
{
	struct nvme_phys *ctrl = container_of(ref, struct nvme_phys, ref);

	mutex_destroy(&ctrl->lock);
	mutex_destroy(&ctrl->admin_lock);
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

// SPDX-License-Identifier: GPL-2.0
/*
 * NVMe on typed physical-address mapping, in C.
 *
 * Twin of samples/rust/rust_nvme_phys: the same steps in the same order.
 * probe: reset, admin queue, identify, I/O queue, lend the controller memory
 * buffer (CMB), debugfs. One command at a time, given as a line in debugfs:
 *
 *	cd /sys/kernel/debug/nvme_phys/0000:00:04.0
 *	echo write 0 8 42 > command; cat result
 *	echo peer-read 0000:00:05.0 0 0 8 > command; cat result
 *
 * Numbers in brackets are sections of the NVM Express base specification 1.4.
 *
 * The rule that keeps memory safe: no buffer is unmapped or freed while the
 * controller may still reach it. A command either completes, or the controller
 * is disabled before nvme_phys_submit() returns, and stays so.
 */
#include <linux/cleanup.h>
#include <linux/ctype.h>
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/interrupt.h>
#include <linux/io-64-nonatomic-hi-lo.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nvme.h>
#include <linux/pci.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/wait.h>

#define NVME_PHYS_DEPTH		16		/* entries in each queue */
#define NVME_PHYS_NSID		1
#define NVME_PHYS_MAX_TRANSFER	SZ_1M		/* its PRP list fits in one page */
#define NVME_PHYS_IO_SECONDS	30
#define NVME_PHYS_LINE		128		/* longest command line */

struct nvme_phys_queue {
	struct nvme_command *sq;
	struct nvme_completion *cq;
	dma_addr_t sq_dma;
	dma_addr_t cq_dma;
	u32 __iomem *sq_doorbell;
	u32 __iomem *cq_doorbell;
	u16 sq_tail;
	u16 cq_head;
	u16 phase;				/* of the next new completion */
	u16 next_id;
};

struct nvme_phys {
	struct pci_dev *pdev;
	void __iomem *regs;
	u64 cap;
	u32 page_size;				/* as the controller is set to */
	u32 timeout_ms;				/* to become ready, or not */
	u32 shutdown_ms;
	wait_queue_head_t irq;			/* one for both queues */
	struct mutex lock;			/* queues, prps, dead, result */
	struct nvme_phys_queue admin;
	struct nvme_phys_queue io;
	__le64 *prps;				/* one page, for a PRP list */
	dma_addr_t prps_dma;
	bool dead;				/* disabled: reaches no memory */
	u8 block_shift;
	u64 blocks;
	u32 max_transfer;			/* bytes in one command */
	int cmb_bar;
	u64 cmb_size;				/* 0 where none is lent */
	char model[41];
	char serial[21];
	struct dentry *debugfs;
	char result[64];			/* of the last command */
};

static struct dentry *nvme_phys_root;

/* ---- Reset and enable [3.1, 7.6] ---- */

/*
 * Wait until the bits of CSTS in @mask are @want. A device that is gone reads
 * as all ones. A fatal status ends every wait but the one for a disabled
 * controller, which is its cure.
 */
static int nvme_phys_wait_csts(struct nvme_phys *ctrl, u32 mask, u32 want,
			       u32 timeout_ms)
{
	u32 csts;
	int err;

	err = readl_poll_timeout(ctrl->regs + NVME_REG_CSTS, csts,
				 csts == U32_MAX || (csts & mask) == want ||
				 (want && (csts & NVME_CSTS_CFS)),
				 1000, timeout_ms * 1000ULL);
	if (csts == U32_MAX)
		return -ENODEV;
	if (!err && (csts & mask) != want)
		return -EIO;
	return err;
}

/*
 * Afterwards the controller reaches no memory: it says that it is disabled, or
 * it may not master the bus any more.
 */
static int nvme_phys_disable(struct nvme_phys *ctrl)
{
	u32 cc = readl(ctrl->regs + NVME_REG_CC);
	int err;

	if (cc & NVME_CC_ENABLE) {
		/* EN may fall only after RDY rose; a failed one never rises. */
		nvme_phys_wait_csts(ctrl, NVME_CSTS_RDY, NVME_CSTS_RDY,
				    ctrl->timeout_ms);
		cc &= ~(NVME_CC_ENABLE | NVME_CC_SHN_MASK);
		writel(cc, ctrl->regs + NVME_REG_CC);
	}
	err = nvme_phys_wait_csts(ctrl, NVME_CSTS_RDY, 0, ctrl->timeout_ms);
	if (err) {
		dev_err(&ctrl->pdev->dev, "cannot be disabled: %d\n", err);
		pci_clear_master(ctrl->pdev);
		pci_wait_for_pending_transaction(ctrl->pdev);
	}
	return err;
}

static void nvme_phys_kill(struct nvme_phys *ctrl)
{
	nvme_phys_disable(ctrl);
	ctrl->dead = true;
}

/* Read what the controller can do, and bring it to a known state: disabled. */
static int nvme_phys_reset(struct nvme_phys *ctrl)
{
	struct device *dev = &ctrl->pdev->dev;
	u64 doorbells;

	ctrl->cap = lo_hi_readq(ctrl->regs + NVME_REG_CAP);
	if (ctrl->cap == U64_MAX)
		return -ENODEV;

	/* TO counts half seconds; 0 would leave no time at all. */
	ctrl->timeout_ms = (NVME_CAP_TIMEOUT(ctrl->cap) + 1) * 500;
	ctrl->page_size = SZ_4K << NVME_CAP_MPSMIN(ctrl->cap);
	if (ctrl->page_size > PAGE_SIZE)
		return dev_err_probe(dev, -EOPNOTSUPP, "wants pages of %u\n",
				     ctrl->page_size);
	if (!(NVME_CAP_CSS(ctrl->cap) & NVME_CAP_CSS_NVM))
		return dev_err_probe(dev, -EOPNOTSUPP, "no NVM command set\n");
	if (NVME_CAP_MQES(ctrl->cap) + 1 < NVME_PHYS_DEPTH)
		return dev_err_probe(dev, -EOPNOTSUPP, "queues too short\n");

	/* Two queue pairs, so four doorbells. */
	doorbells = 4ULL * (4 << NVME_CAP_STRIDE(ctrl->cap));
	if (pci_resource_len(ctrl->pdev, 0) < NVME_REG_DBS + doorbells)
		return dev_err_probe(dev, -ENODEV, "doorbells outside BAR 0\n");

	return nvme_phys_disable(ctrl);
}

static int nvme_phys_enable(struct nvme_phys *ctrl)
{
	u32 cc = NVME_CC_CSS_NVM | NVME_CC_AMS_RR | NVME_CC_SHN_NONE |
		 NVME_CC_IOSQES | NVME_CC_IOCQES;
	u32 aqa = NVME_PHYS_DEPTH - 1;

	cc |= NVME_CAP_MPSMIN(ctrl->cap) << NVME_CC_MPS_SHIFT;
	writel(aqa << 16 | aqa, ctrl->regs + NVME_REG_AQA);
	lo_hi_writeq(ctrl->admin.sq_dma, ctrl->regs + NVME_REG_ASQ);
	lo_hi_writeq(ctrl->admin.cq_dma, ctrl->regs + NVME_REG_ACQ);
	writel(cc, ctrl->regs + NVME_REG_CC);
	writel(cc | NVME_CC_ENABLE, ctrl->regs + NVME_REG_CC);
	return nvme_phys_wait_csts(ctrl, NVME_CSTS_RDY, NVME_CSTS_RDY,
				   ctrl->timeout_ms);
}

/* ---- Queues [4.1] ---- */

static int nvme_phys_queue_init(struct nvme_phys *ctrl,
				struct nvme_phys_queue *q, unsigned int qid)
{
	struct device *dev = &ctrl->pdev->dev;
	size_t stride = 4 << NVME_CAP_STRIDE(ctrl->cap);

	/* Coherent memory is zeroed and aligned to a page, as queues must be. */
	q->sq = dmam_alloc_coherent(dev, NVME_PHYS_DEPTH * sizeof(*q->sq),
				    &q->sq_dma, GFP_KERNEL);
	q->cq = dmam_alloc_coherent(dev, NVME_PHYS_DEPTH * sizeof(*q->cq),
				    &q->cq_dma, GFP_KERNEL);
	if (!q->sq || !q->cq)
		return -ENOMEM;
	q->sq_doorbell = ctrl->regs + NVME_REG_DBS + 2 * qid * stride;
	q->cq_doorbell = ctrl->regs + NVME_REG_DBS + (2 * qid + 1) * stride;
	q->phase = 1;
	return 0;
}

static irqreturn_t nvme_phys_irq(int irq, void *data)
{
	struct nvme_phys *ctrl = data;

	wake_up(&ctrl->irq);
	return IRQ_HANDLED;
}

static bool nvme_phys_completed(struct nvme_phys_queue *q)
{
	u16 status = le16_to_cpu(READ_ONCE(q->cq[q->cq_head].status));

	return (status & 1) == q->phase;
}

/*
 * In slices of a second, so that a controller that is gone, has failed or was
 * reset by someone else is noticed soon.
 */
static int nvme_phys_wait(struct nvme_phys *ctrl, struct nvme_phys_queue *q)
{
	int seconds;
	u32 csts;

	for (seconds = 0; seconds < NVME_PHYS_IO_SECONDS; seconds++) {
		if (wait_event_timeout(ctrl->irq, nvme_phys_completed(q), HZ))
			return 0;
		csts = readl(ctrl->regs + NVME_REG_CSTS);
		if (csts == U32_MAX)
			return -ENODEV;
		if (csts & NVME_CSTS_CFS || !(csts & NVME_CSTS_RDY))
			return -EIO;
	}
	return -ETIMEDOUT;
}

/*
 * Take the completion of command @id. One command is under way, so a new entry
 * is either its own or a fault of the controller.
 */
static int nvme_phys_reap(struct nvme_phys *ctrl, struct nvme_phys_queue *q,
			  u16 id, u16 *status)
{
	struct nvme_completion cqe;
	int err;

	err = nvme_phys_wait(ctrl, q);
	if (err)
		return err;

	dma_rmb();	/* the entry is as new as its phase bit */
	cqe = q->cq[q->cq_head];
	if (++q->cq_head == NVME_PHYS_DEPTH) {
		q->cq_head = 0;
		q->phase ^= 1;
	}
	writel(q->cq_head, q->cq_doorbell);
	*status = le16_to_cpu(cqe.status) >> 1;
	return cqe.command_id == id ? 0 : -EPROTO;
}

/* Afterwards the controller is done with @cmd and its data, whatever came. */
static int nvme_phys_submit(struct nvme_phys *ctrl, struct nvme_phys_queue *q,
			    struct nvme_command *cmd)
{
	u16 id = q->next_id++;
	u16 status;
	int err;

	if (ctrl->dead)
		return -ENODEV;

	cmd->common.command_id = id;
	q->sq[q->sq_tail] = *cmd;
	q->sq_tail = (q->sq_tail + 1) % NVME_PHYS_DEPTH;
	writel(q->sq_tail, q->sq_doorbell);

	err = nvme_phys_reap(ctrl, q, id, &status);
	if (err) {
		dev_err(&ctrl->pdev->dev, "command %#x failed: %d, disabling\n",
			cmd->common.opcode, err);
		nvme_phys_kill(ctrl);
		return err;
	}
	if (status) {
		dev_dbg(&ctrl->pdev->dev, "command %#x: status %#x\n",
			cmd->common.opcode, status);
		return -EIO;
	}
	return 0;
}

/* ---- Identify [5.15] ---- */

static int nvme_phys_identify(struct nvme_phys *ctrl, u8 cns, u32 nsid,
			      void *data, dma_addr_t data_dma)
{
	struct nvme_command cmd = {};

	memset(data, 0, NVME_IDENTIFY_DATA_SIZE);
	cmd.identify.opcode = nvme_admin_identify;
	cmd.identify.nsid = cpu_to_le32(nsid);
	cmd.identify.dptr.prp1 = cpu_to_le64(data_dma);
	cmd.identify.cns = cns;
	return nvme_phys_submit(ctrl, &ctrl->admin, &cmd);
}

static void nvme_phys_use_ctrl(struct nvme_phys *ctrl,
			       const struct nvme_id_ctrl *id)
{
	u32 shift = 12 + NVME_CAP_MPSMIN(ctrl->cap) + id->mdts;

	/* MDTS counts in the smallest page, 0 is no limit. */
	ctrl->max_transfer = NVME_PHYS_MAX_TRANSFER;
	if (id->mdts && shift < ilog2(NVME_PHYS_MAX_TRANSFER))
		ctrl->max_transfer = 1U << shift;

	/* RTD3E is in microseconds, 0 where it is not told. */
	ctrl->shutdown_ms = clamp(le32_to_cpu(id->rtd3e) / 1000, 5000, 60000);

	memcpy(ctrl->model, id->mn, sizeof(id->mn));
	memcpy(ctrl->serial, id->sn, sizeof(id->sn));
	strim(ctrl->model);
	strim(ctrl->serial);
}

static int nvme_phys_use_ns(struct nvme_phys *ctrl, const struct nvme_id_ns *id)
{
	struct device *dev = &ctrl->pdev->dev;
	const struct nvme_lbaf *lbaf;

	lbaf = &id->lbaf[nvme_lbaf_index(id->flbas)];
	ctrl->blocks = le64_to_cpu(id->nsze);
	ctrl->block_shift = lbaf->ds;
	if (!ctrl->blocks)
		return dev_err_probe(dev, -ENODEV, "no namespace %d\n",
				     NVME_PHYS_NSID);
	if (lbaf->ds < 9 || lbaf->ds > ilog2(ctrl->max_transfer) || lbaf->ms)
		return dev_err_probe(dev, -EOPNOTSUPP,
				     "blocks of 2^%u bytes and %u of metadata\n",
				     lbaf->ds, le16_to_cpu(lbaf->ms));
	return 0;
}

static int nvme_phys_identify_all(struct nvme_phys *ctrl)
{
	struct device *dev = &ctrl->pdev->dev;
	dma_addr_t data_dma;
	void *data;
	int err;

	data = dma_alloc_coherent(dev, NVME_IDENTIFY_DATA_SIZE, &data_dma,
				  GFP_KERNEL);
	if (!data)
		return -ENOMEM;

	err = nvme_phys_identify(ctrl, NVME_ID_CNS_CTRL, 0, data, data_dma);
	if (err)
		goto out;
	nvme_phys_use_ctrl(ctrl, data);

	err = nvme_phys_identify(ctrl, NVME_ID_CNS_NS, NVME_PHYS_NSID, data,
				 data_dma);
	if (err)
		goto out;
	err = nvme_phys_use_ns(ctrl, data);
out:
	dma_free_coherent(dev, NVME_IDENTIFY_DATA_SIZE, data, data_dma);
	return err;
}

/* ---- I/O queue [5.3, 5.4, 5.21.1.7] ---- */

static int nvme_phys_create_io_queue(struct nvme_phys *ctrl)
{
	struct nvme_command features = {}, cq = {}, sq = {};
	int err;

	/* Both counts start at 0, so all zero asks for one queue pair. */
	features.features.opcode = nvme_admin_set_features;
	features.features.fid = cpu_to_le32(NVME_FEAT_NUM_QUEUES);
	err = nvme_phys_submit(ctrl, &ctrl->admin, &features);
	if (err)
		return err;

	cq.create_cq.opcode = nvme_admin_create_cq;
	cq.create_cq.prp1 = cpu_to_le64(ctrl->io.cq_dma);
	cq.create_cq.cqid = cpu_to_le16(1);
	cq.create_cq.qsize = cpu_to_le16(NVME_PHYS_DEPTH - 1);
	cq.create_cq.cq_flags = cpu_to_le16(NVME_QUEUE_PHYS_CONTIG |
					    NVME_CQ_IRQ_ENABLED);
	err = nvme_phys_submit(ctrl, &ctrl->admin, &cq);
	if (err)
		return err;

	sq.create_sq.opcode = nvme_admin_create_sq;
	sq.create_sq.prp1 = cpu_to_le64(ctrl->io.sq_dma);
	sq.create_sq.sqid = cpu_to_le16(1);
	sq.create_sq.qsize = cpu_to_le16(NVME_PHYS_DEPTH - 1);
	sq.create_sq.sq_flags = cpu_to_le16(NVME_QUEUE_PHYS_CONTIG);
	sq.create_sq.cqid = cpu_to_le16(1);
	return nvme_phys_submit(ctrl, &ctrl->admin, &sq);
}

/* ---- Shutdown [7.6.2] ---- */

static void nvme_phys_delete_queue(struct nvme_phys *ctrl, u8 opcode)
{
	struct nvme_command cmd = {};

	cmd.delete_queue.opcode = opcode;
	cmd.delete_queue.qid = cpu_to_le16(1);
	nvme_phys_submit(ctrl, &ctrl->admin, &cmd);
}

static void nvme_phys_stop(struct nvme_phys *ctrl)
{
	u32 cc;

	guard(mutex)(&ctrl->lock);
	nvme_phys_delete_queue(ctrl, nvme_admin_delete_sq);
	nvme_phys_delete_queue(ctrl, nvme_admin_delete_cq);
	if (ctrl->dead)
		return;

	cc = readl(ctrl->regs + NVME_REG_CC) & ~NVME_CC_SHN_MASK;
	writel(cc | NVME_CC_SHN_NORMAL, ctrl->regs + NVME_REG_CC);
	if (nvme_phys_wait_csts(ctrl, NVME_CSTS_SHST_MASK,
				NVME_CSTS_SHST_CMPLT, ctrl->shutdown_ms))
		dev_warn(&ctrl->pdev->dev, "did not shut down\n");
	nvme_phys_kill(ctrl);
}

/* ---- Controller memory buffer [3.1.11, 3.1.12, 3.1.19, 4.7] ---- */

/*
 * A peer lends a whole BAR. So the CMB is lent only where it fills one: others
 * have no business with registers that share a BAR with it.
 */
static bool nvme_phys_find_cmb(struct nvme_phys *ctrl)
{
	u32 size = readl(ctrl->regs + NVME_REG_CMBSZ);
	u32 loc = readl(ctrl->regs + NVME_REG_CMBLOC);
	u32 unit = (size >> NVME_CMBSZ_SZU_SHIFT) & NVME_CMBSZ_SZU_MASK;
	u64 bytes;

	if (size == U32_MAX || unit > 6)	/* 7 and above are reserved */
		return false;
	if (!(size & NVME_CMBSZ_RDS) || !(size & NVME_CMBSZ_WDS))
		return false;
	bytes = (u64)(size >> NVME_CMBSZ_SZ_SHIFT) << (12 + 4 * unit);
	ctrl->cmb_bar = NVME_CMB_BIR(loc);
	if (!ctrl->cmb_bar || ctrl->cmb_bar >= PCI_STD_NUM_BARS ||
	    NVME_CMB_OFST(loc))
		return false;
	ctrl->cmb_size = pci_resource_len(ctrl->pdev, ctrl->cmb_bar);
	return ctrl->cmb_size && bytes >= ctrl->cmb_size;
}

/* Not every controller has a CMB, and none is needed: no failure here. */
static void nvme_phys_lend_cmb(struct nvme_phys *ctrl)
{
	struct pci_dev *pdev = ctrl->pdev;
	int err;

	/* Since 1.4 the registers read as 0 until asked for. */
	if (NVME_CAP_CMBS(ctrl->cap))
		hi_lo_writeq(NVME_CMBMSC_CRE, ctrl->regs + NVME_REG_CMBMSC);
	if (!nvme_phys_find_cmb(ctrl)) {
		ctrl->cmb_size = 0;
		return;
	}

	/* The controller knows its own CMB by the bus address of the BAR. */
	if (NVME_CAP_CMBS(ctrl->cap))
		hi_lo_writeq(pci_bus_address(pdev, ctrl->cmb_bar) |
			     NVME_CMBMSC_CRE | NVME_CMBMSC_CMSE,
			     ctrl->regs + NVME_REG_CMBMSC);
	err = pcim_request_region(pdev, ctrl->cmb_bar, KBUILD_MODNAME);
	if (!err)
		err = dma_phys_peer_register(pdev, ctrl->cmb_bar);
	if (err) {
		dev_warn(&pdev->dev, "CMB is not lent: %d\n", err);
		ctrl->cmb_size = 0;
	}
}

/* Waits until the last map of the CMB is gone, then switches it off. */
static void nvme_phys_take_back_cmb(struct nvme_phys *ctrl)
{
	if (ctrl->cmb_size)
		dma_phys_peer_unregister(ctrl->pdev, ctrl->cmb_bar);
	if (NVME_CAP_CMBS(ctrl->cap))
		hi_lo_writeq(0, ctrl->regs + NVME_REG_CMBMSC);
}

/* ---- Commands ---- */

struct nvme_phys_cmd {
	const char *peer;
	u64 offset;		/* in the peer's CMB */
	u64 lba;
	u64 blocks;
	u64 seed;
	size_t len;		/* of the blocks, in bytes */
	u8 route;
	char sum[17];		/* of the buffer, "-" where there is none */
};

static u64 nvme_phys_fnv1a(const u8 *data, size_t len)
{
	u64 hash = 0xcbf29ce484222325ULL;

	while (len--)
		hash = (hash ^ *data++) * 0x100000001b3ULL;
	return hash;
}

static void nvme_phys_fill(struct nvme_phys *ctrl, struct nvme_phys_cmd *cmd,
			   __le64 *words)
{
	u64 first = cmd->seed + (cmd->lba << (ctrl->block_shift - 3));
	size_t k;

	for (k = 0; k < cmd->len / sizeof(*words); k++)
		words[k] = cpu_to_le64((first + k) * 0x9e3779b97f4a7c15ULL);
}

/*
 * PRP entries [4.3]: the first may start inside a page, the rest are whole
 * pages. The second entry is a page, or where more are needed a list of them.
 */
static void nvme_phys_set_prps(struct nvme_phys *ctrl,
			       const struct dma_phys_map *map,
			       union nvme_data_ptr *dptr)
{
	u32 page = ctrl->page_size;
	u64 addr = map->addr;
	size_t left = map->size;
	size_t part = page - (addr & (page - 1));
	size_t i;

	dptr->prp1 = cpu_to_le64(addr);
	if (left <= part)
		return;
	addr += part;
	left -= part;
	if (left <= page) {
		dptr->prp2 = cpu_to_le64(addr);
		return;
	}
	for (i = 0; i < DIV_ROUND_UP(left, page); i++)
		ctrl->prps[i] = cpu_to_le64(addr + i * page);
	dptr->prp2 = cpu_to_le64(ctrl->prps_dma);
}

static int nvme_phys_rw(struct nvme_phys *ctrl, u8 opcode,
			struct nvme_phys_cmd *cmd,
			const struct dma_phys_map *map)
{
	struct nvme_command c = {};

	if (map->addr & 3)		/* a PRP's last two bits are not address */
		return -EINVAL;
	cmd->route = map->route;
	c.rw.opcode = opcode;
	c.rw.nsid = cpu_to_le32(NVME_PHYS_NSID);
	c.rw.slba = cpu_to_le64(cmd->lba);
	c.rw.length = cpu_to_le16(cmd->blocks - 1);
	nvme_phys_set_prps(ctrl, map, &c.rw.dptr);
	return nvme_phys_submit(ctrl, &ctrl->io, &c);
}

/* The controller gets the buffer until it is unmapped or synced. */
static int nvme_phys_map(struct nvme_phys *ctrl, const void *buf, size_t len,
			 enum dma_data_direction dir, struct dma_phys_map *map)
{
	struct cpu_phys range;
	int err;

	err = cpu_phys_from_virt(buf, len, &range);
	if (err)
		return err;
	return dma_phys_map_cpu(&ctrl->pdev->dev, &range, dir, 0, map);
}

static int nvme_phys_read(struct nvme_phys *ctrl, struct nvme_phys_cmd *cmd,
			  void *buf)
{
	struct dma_phys_map map = {};
	int err;

	err = nvme_phys_map(ctrl, buf, cmd->len, DMA_FROM_DEVICE, &map);
	if (err)
		return err;
	err = nvme_phys_rw(ctrl, nvme_cmd_read, cmd, &map);
	dma_phys_unmap(&map);
	return err;
}

static int nvme_phys_write(struct nvme_phys *ctrl, struct nvme_phys_cmd *cmd,
			   void *buf)
{
	struct dma_phys_map map = {};
	int err;

	nvme_phys_fill(ctrl, cmd, buf);
	err = nvme_phys_map(ctrl, buf, cmd->len, DMA_TO_DEVICE, &map);
	if (err)
		return err;
	err = nvme_phys_rw(ctrl, nvme_cmd_write, cmd, &map);
	dma_phys_unmap(&map);
	return err;
}

/* Out and back in through one mapping; between them the CPU wipes the buffer. */
static int nvme_phys_verify(struct nvme_phys *ctrl, struct nvme_phys_cmd *cmd,
			    void *buf)
{
	struct dma_phys_map map = {};
	int err;

	nvme_phys_fill(ctrl, cmd, buf);
	err = nvme_phys_map(ctrl, buf, cmd->len, DMA_BIDIRECTIONAL, &map);
	if (err)
		return err;
	err = nvme_phys_rw(ctrl, nvme_cmd_write, cmd, &map);
	if (err)
		goto out;
	err = dma_phys_sync_for_cpu(&map, 0, cmd->len);
	if (err)
		goto out;
	memset(buf, 0, cmd->len);
	err = dma_phys_sync_for_device(&map, 0, cmd->len);
	if (err)
		goto out;
	err = nvme_phys_rw(ctrl, nvme_cmd_read, cmd, &map);
out:
	dma_phys_unmap(&map);
	return err;
}

/*
 * Part of the BAR that device @name lends. The reference on the device ends
 * here: should its driver leave before the range is mapped, the map fails.
 */
static int nvme_phys_peer_range(const char *name, u64 offset, size_t len,
				struct mmio_phys *range)
{
	struct device *dev __free(put_device) =
		bus_find_device_by_name(&pci_bus_type, NULL, name);
	int bar;

	if (!dev)
		return -ENODEV;
	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		if (!mmio_phys_from_bar(to_pci_dev(dev), bar, 0, 1, range))
			return mmio_phys_from_bar(to_pci_dev(dev), bar, offset,
						  len, range);
	return -ENODEV;
}

static int nvme_phys_peer(struct nvme_phys *ctrl, struct nvme_phys_cmd *cmd,
			  u8 opcode, enum dma_data_direction dir)
{
	struct dma_phys_map map = {};
	struct mmio_phys range;
	int err;

	err = nvme_phys_peer_range(cmd->peer, cmd->offset, cmd->len, &range);
	if (err)
		return err;
	err = dma_phys_map_mmio(&ctrl->pdev->dev, &range, dir, 0, &map);
	if (err)
		return err;
	err = nvme_phys_rw(ctrl, opcode, cmd, &map);
	dma_phys_unmap(&map);
	return err;
}

static int nvme_phys_peer_read(struct nvme_phys *ctrl,
			       struct nvme_phys_cmd *cmd, void *unused)
{
	return nvme_phys_peer(ctrl, cmd, nvme_cmd_read, DMA_FROM_DEVICE);
}

static int nvme_phys_peer_write(struct nvme_phys *ctrl,
				struct nvme_phys_cmd *cmd, void *unused)
{
	return nvme_phys_peer(ctrl, cmd, nvme_cmd_write, DMA_TO_DEVICE);
}

/* ---- debugfs ---- */

/*
 * @args: a letter for each argument: (p)eer, (o)ffset, (l)ba, (n)umber of
 * blocks, (s)eed. Without a peer the data is in memory, and has a checksum.
 */
static const struct nvme_phys_op {
	const char *name;
	const char *args;
	int (*run)(struct nvme_phys *ctrl, struct nvme_phys_cmd *cmd, void *buf);
} nvme_phys_ops[] = {
	{ "read", "ln", nvme_phys_read },
	{ "write", "lns", nvme_phys_write },
	{ "verify", "lns", nvme_phys_verify },
	{ "peer-read", "poln", nvme_phys_peer_read },
	{ "peer-write", "poln", nvme_phys_peer_write },
};

static const char * const nvme_phys_routes[] = {
	[DMA_PHYS_NONE] = "none",
	[DMA_PHYS_DIRECT] = "direct",
	[DMA_PHYS_BOUNCE] = "bounce",
	[DMA_PHYS_IOMMU] = "iommu",
	[DMA_PHYS_OPS] = "ops",
	[DMA_PHYS_BUS] = "bus",
};

static int nvme_phys_parse_number(const char *word, u64 *number)
{
	bool hex = !strncmp(word, "0x", 2);

	if (hex)
		word += 2;
	if (!isxdigit(*word))		/* kstrtou64() would take a sign */
		return -EINVAL;
	return kstrtou64(word, hex ? 16 : 10, number) ? -EINVAL : 0;
}

static const struct nvme_phys_op *nvme_phys_parse(char *line,
						  struct nvme_phys_cmd *cmd)
{
	u64 *numbers[] = {
		['o' - 'a'] = &cmd->offset,
		['l' - 'a'] = &cmd->lba,
		['n' - 'a'] = &cmd->blocks,
		['s' - 'a'] = &cmd->seed,
	};
	const struct nvme_phys_op *op = nvme_phys_ops;
	char *word = strsep(&line, " ");
	const char *arg;

	while (strcmp(op->name, word))
		if (++op == nvme_phys_ops + ARRAY_SIZE(nvme_phys_ops))
			return NULL;

	for (arg = op->args; *arg; arg++) {
		word = strsep(&line, " ");
		if (!word)
			return NULL;
		if (*arg == 'p')
			cmd->peer = word;
		else if (nvme_phys_parse_number(word, numbers[*arg - 'a']))
			return NULL;
	}
	return line ? NULL : op;
}

static int nvme_phys_run(struct nvme_phys *ctrl, char *line,
			 struct nvme_phys_cmd *cmd)
{
	const struct nvme_phys_op *op = nvme_phys_parse(line, cmd);
	void *buf = NULL;
	int err;

	if (!op || !cmd->blocks || cmd->lba >= ctrl->blocks ||
	    cmd->blocks > ctrl->blocks - cmd->lba ||
	    cmd->blocks > ctrl->max_transfer >> ctrl->block_shift)
		return -EINVAL;
	if (ctrl->dead)
		return -ENODEV;

	cmd->len = cmd->blocks << ctrl->block_shift;
	if (!cmd->peer) {
		/* One mapping is one range: physically contiguous. */
		buf = kzalloc(cmd->len, GFP_KERNEL | __GFP_NOWARN);
		if (!buf)
			return -ENOMEM;
	}
	err = op->run(ctrl, cmd, buf);
	if (!err && buf)
		snprintf(cmd->sum, sizeof(cmd->sum), "%016llx",
			 nvme_phys_fnv1a(buf, cmd->len));
	kfree(buf);
	return err;
}

static ssize_t nvme_phys_command_write(struct file *file,
				       const char __user *user, size_t count,
				       loff_t *ppos)
{
	struct nvme_phys *ctrl = file->private_data;
	struct nvme_phys_cmd cmd = { .sum = "-" };
	char line[NVME_PHYS_LINE];
	int err;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, user, count))
		return -EFAULT;
	line[count] = '\0';
	if (strlen(line) != count)
		return -EINVAL;
	if (count && line[count - 1] == '\n')
		line[count - 1] = '\0';

	err = mutex_lock_interruptible(&ctrl->lock);
	if (err)
		return err;
	err = nvme_phys_run(ctrl, line, &cmd);
	if (err)
		snprintf(ctrl->result, sizeof(ctrl->result), "error %d", err);
	else
		snprintf(ctrl->result, sizeof(ctrl->result), "ok %zu %s %s",
			 cmd.len, cmd.sum, nvme_phys_routes[cmd.route]);
	mutex_unlock(&ctrl->lock);
	return err ?: count;
}

static const struct file_operations nvme_phys_command_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = nvme_phys_command_write,
};

static int nvme_phys_result_show(struct seq_file *s, void *unused)
{
	struct nvme_phys *ctrl = s->private;

	guard(mutex)(&ctrl->lock);
	seq_printf(s, "%s\n", ctrl->result);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(nvme_phys_result);

/* Everything told here is set before the file is made. */
static int nvme_phys_info_show(struct seq_file *s, void *unused)
{
	struct nvme_phys *ctrl = s->private;

	/* What the device calls itself may be anything: escaped. */
	seq_printf(s, "model %*pE\n", (int)strlen(ctrl->model), ctrl->model);
	seq_printf(s, "serial %*pE\n", (int)strlen(ctrl->serial), ctrl->serial);
	seq_printf(s, "nsid %d\n", NVME_PHYS_NSID);
	seq_printf(s, "blocks %llu\n", ctrl->blocks);
	seq_printf(s, "block_size %u\n", 1U << ctrl->block_shift);
	seq_printf(s, "max_transfer %u\n", ctrl->max_transfer);
	seq_printf(s, "cmb %llu\n", ctrl->cmb_size);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(nvme_phys_info);

static void nvme_phys_debugfs(struct nvme_phys *ctrl)
{
	struct dentry *dir;

	dir = debugfs_create_dir(pci_name(ctrl->pdev), nvme_phys_root);
	debugfs_create_file("command", 0200, dir, ctrl, &nvme_phys_command_fops);
	debugfs_create_file("result", 0400, dir, ctrl, &nvme_phys_result_fops);
	debugfs_create_file("info", 0400, dir, ctrl, &nvme_phys_info_fops);
	ctrl->debugfs = dir;
}

/* ---- Driver ---- */

static int nvme_phys_setup(struct nvme_phys *ctrl)
{
	struct pci_dev *pdev = ctrl->pdev;
	int err;

	err = nvme_phys_queue_init(ctrl, &ctrl->admin, 0);
	if (err)
		return err;
	err = nvme_phys_queue_init(ctrl, &ctrl->io, 1);
	if (err)
		return err;
	ctrl->prps = dmam_alloc_coherent(&pdev->dev, ctrl->page_size,
					 &ctrl->prps_dma, GFP_KERNEL);
	if (!ctrl->prps)
		return -ENOMEM;

	/* One vector, freed by the managed device, serves both queues. */
	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX);
	if (err < 0)
		return err;
	return devm_request_irq(&pdev->dev, pci_irq_vector(pdev, 0),
				nvme_phys_irq, 0, KBUILD_MODNAME, ctrl);
}

static int nvme_phys_start(struct nvme_phys *ctrl)
{
	int err;

	pci_set_master(ctrl->pdev);
	err = nvme_phys_enable(ctrl);
	if (!err)
		err = nvme_phys_identify_all(ctrl);
	if (!err)
		err = nvme_phys_create_io_queue(ctrl);
	if (err && !ctrl->dead)
		nvme_phys_kill(ctrl);
	return err;
}

static int nvme_phys_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct device *dev = &pdev->dev;
	struct nvme_phys *ctrl;
	int err;

	ctrl = devm_kzalloc(dev, sizeof(*ctrl), GFP_KERNEL);
	if (!ctrl)
		return -ENOMEM;
	ctrl->pdev = pdev;
	init_waitqueue_head(&ctrl->irq);
	strscpy(ctrl->result, "none");
	err = devm_mutex_init(dev, &ctrl->lock);
	if (err)
		return err;
	pci_set_drvdata(pdev, ctrl);

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	/*
	 * No min_align_mask: PRPs need none, and with it a bounced transfer of
	 * 256 KiB would not fit into its slots.
	 */
	err = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (err)
		return err;
	ctrl->regs = pcim_iomap_region(pdev, 0, KBUILD_MODNAME);
	if (IS_ERR(ctrl->regs))
		return PTR_ERR(ctrl->regs);

	err = nvme_phys_reset(ctrl);
	if (err)
		return err;
	err = nvme_phys_setup(ctrl);
	if (err)
		return err;
	err = nvme_phys_start(ctrl);
	if (err)
		return dev_err_probe(dev, err, "cannot be started\n");

	nvme_phys_lend_cmb(ctrl);
	nvme_phys_debugfs(ctrl);
	return 0;
}

/*
 * In this order: no new command (waits for one under way), nobody in the CMB,
 * the controller stopped. Its memory goes with the device's managed resources.
 */
static void nvme_phys_remove(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl = pci_get_drvdata(pdev);

	debugfs_remove(ctrl->debugfs);
	nvme_phys_take_back_cmb(ctrl);
	nvme_phys_stop(ctrl);
	pci_clear_master(pdev);
}

static void nvme_phys_shutdown(struct pci_dev *pdev)
{
	nvme_phys_stop(pci_get_drvdata(pdev));
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
};

static int __init nvme_phys_init(void)
{
	int err;

	nvme_phys_root = debugfs_create_dir(KBUILD_MODNAME, NULL);
	err = pci_register_driver(&nvme_phys_driver);
	if (err)
		debugfs_remove(nvme_phys_root);
	return err;
}
module_init(nvme_phys_init);

static void __exit nvme_phys_exit(void)
{
	pci_unregister_driver(&nvme_phys_driver);
	debugfs_remove(nvme_phys_root);
}
module_exit(nvme_phys_exit);

MODULE_DESCRIPTION("NVMe on typed physical-address mapping");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * The controller memory buffer (CMB) [3.1.11, 3.1.12, 3.1.19, 4.7], lent to other
 * devices: as ranges to drivers that ask for them, and as pages to programs that
 * map /sys/bus/pci/devices/<device>/p2pmem/allocate.
 */
#include <linux/device/devres.h>
#include <linux/dma-phys.h>
#include <linux/io-64-nonatomic-hi-lo.h>
#include <linux/pci-p2pdma.h>

#include "nvme_phys.h"

/*
 * A peer lends a whole BAR. So the CMB is lent only where it fills one: others
 * have no business with registers that share a BAR with it.
 */
static bool find(struct nvme_phys *ctrl)
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

static bool has_control(const struct nvme_phys *ctrl)
{
	return NVME_CAP_CMBS(ctrl->cap);
}

/**
 * nvme_phys_enable_cmb() - have a controller know its own CMB
 * @ctrl: the controller, which has lost that when it lost its power
 *
 * By the bus address of the BAR.
 */
void nvme_phys_enable_cmb(struct nvme_phys *ctrl)
{
	if (has_control(ctrl) && ctrl->cmb_size)
		hi_lo_writeq(pci_bus_address(ctrl->pdev, ctrl->cmb_bar) |
			     NVME_CMBMSC_CRE | NVME_CMBMSC_CMSE,
			     ctrl->regs + NVME_REG_CMBMSC);
}

/* Pages are an extra: not every BAR can have them. */
static int lend(struct nvme_phys *ctrl)
{
	struct pci_dev *pdev = ctrl->pdev;
	int err;

	err = pcim_request_region(pdev, ctrl->cmb_bar, KBUILD_MODNAME);
	err = err ?: dma_phys_peer_register(pdev, ctrl->cmb_bar);
	if (err)
		return err;

	err = pci_p2pdma_add_resource(pdev, ctrl->cmb_bar, 0, 0);
	if (err)
		dev_warn(&pdev->dev, "CMB has no pages: %d\n", err);
	else
		pci_p2pmem_publish(pdev, true);
	return 0;
}

/**
 * nvme_phys_lend_cmb() - lend the CMB, where there is one
 * @ctrl: the controller
 *
 * Not every controller has one, and none is needed: no failure here.
 */
void nvme_phys_lend_cmb(struct nvme_phys *ctrl)
{
	struct device *dev = &ctrl->pdev->dev;
	int err;

	/* Since 1.4 the registers read as 0 until asked for. */
	if (has_control(ctrl))
		hi_lo_writeq(NVME_CMBMSC_CRE, ctrl->regs + NVME_REG_CMBMSC);
	if (!find(ctrl)) {
		ctrl->cmb_size = 0;
		return;
	}

	nvme_phys_enable_cmb(ctrl);
	ctrl->cmb_group = devres_open_group(dev, NULL, GFP_KERNEL);
	err = ctrl->cmb_group ? lend(ctrl) : -ENOMEM;
	if (ctrl->cmb_group)
		devres_close_group(dev, ctrl->cmb_group);
	if (err) {
		dev_warn(dev, "CMB is not lent: %d\n", err);
		nvme_phys_take_back_cmb(ctrl);
	}
}

/**
 * nvme_phys_take_back_cmb() - take the CMB back
 * @ctrl: the controller, which still answers those who use the CMB, or is gone
 *
 * Waits until the last map of it, and the last use of its pages, is gone.
 */
void nvme_phys_take_back_cmb(struct nvme_phys *ctrl)
{
	if (ctrl->cmb_group)
		devres_release_group(&ctrl->pdev->dev, ctrl->cmb_group);
	ctrl->cmb_group = NULL;
	ctrl->cmb_size = 0;
	if (has_control(ctrl))
		hi_lo_writeq(0, ctrl->regs + NVME_REG_CMBMSC);
}

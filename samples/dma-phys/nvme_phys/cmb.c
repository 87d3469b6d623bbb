// SPDX-License-Identifier: GPL-2.0
/*
 * The controller memory buffer (CMB) [3.1.11, 3.1.12, 3.1.19, 4.7], shared with
 * other devices: as ranges for drivers, and as pages for programs that map
 * /sys/bus/pci/devices/<device>/p2pmem/allocate.
 */
#include <linux/device/devres.h>
#include <linux/dma-phys-peer.h>
#include <linux/io-64-nonatomic-hi-lo.h>
#include <linux/memremap.h>
#include <linux/pci-p2pdma.h>

#include "nvme_phys.h"

/*
 * A peer shares a whole BAR. So the CMB is shared only if it fills its BAR: no
 * other device may access registers.
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

static bool nvme_phys_has_cmbmsc(const struct nvme_phys *ctrl)
{
	return NVME_CAP_CMBS(ctrl->cap);
}

/**
 * nvme_phys_enable_cmb() - set the bus address of the CMB in its controller
 * @ctrl: the controller, which has lost the address if it was reset
 */
void nvme_phys_enable_cmb(struct nvme_phys *ctrl)
{
	if (nvme_phys_has_cmbmsc(ctrl) && ctrl->cmb_size)
		hi_lo_writeq(pci_bus_address(ctrl->pdev, ctrl->cmb_bar) |
			     NVME_CMBMSC_CRE | NVME_CMBMSC_CMSE,
			     ctrl->regs + NVME_REG_CMBMSC);
}

/* Memory hotplug warns about a range that is not aligned, and refuses it. */
static int nvme_phys_add_cmb_pages(struct nvme_phys *ctrl)
{
	u64 start = pci_resource_start(ctrl->pdev, ctrl->cmb_bar);

	if (!IS_ALIGNED(start | ctrl->cmb_size, memremap_compat_align()))
		return -EINVAL;
	return pci_p2pdma_add_resource(ctrl->pdev, ctrl->cmb_bar, 0, 0);
}

/* A CMB without pages is shared with drivers only. */
static int nvme_phys_register_cmb(struct nvme_phys *ctrl)
{
	struct pci_dev *pdev = ctrl->pdev;
	int err;

	err = pcim_request_region(pdev, ctrl->cmb_bar, KBUILD_MODNAME);
	err = err ?: dma_phys_peer_register(pdev, ctrl->cmb_bar);
	if (err)
		return err;

	err = nvme_phys_add_cmb_pages(ctrl);
	if (err)
		dev_warn(&pdev->dev, "no pages for the CMB: %d\n", err);
	else
		pci_p2pmem_publish(pdev, true);
	return 0;
}

/**
 * nvme_phys_share_cmb() - share the CMB, if there is one
 * @ctrl: the controller
 *
 * A CMB is optional, and so is sharing it: failures are only logged.
 */
void nvme_phys_share_cmb(struct nvme_phys *ctrl)
{
	struct device *dev = &ctrl->pdev->dev;
	int err;

	/* Since version 1.4 CMBSZ and CMBLOC read as 0 until CRE is set. */
	if (nvme_phys_has_cmbmsc(ctrl))
		hi_lo_writeq(NVME_CMBMSC_CRE, ctrl->regs + NVME_REG_CMBMSC);
	if (!nvme_phys_find_cmb(ctrl)) {
		ctrl->cmb_size = 0;
		return;
	}

	nvme_phys_enable_cmb(ctrl);
	ctrl->cmb_group = devres_open_group(dev, NULL, GFP_KERNEL);
	err = ctrl->cmb_group ? nvme_phys_register_cmb(ctrl) : -ENOMEM;
	if (ctrl->cmb_group)
		devres_close_group(dev, ctrl->cmb_group);
	if (err) {
		dev_warn(dev, "CMB is not shared: %d\n", err);
		nvme_phys_unshare_cmb(ctrl);
	}
}

/**
 * nvme_phys_suspend_cmb() - revoke the clients of the CMB before the controller
 *	stops
 * @ctrl: the controller
 *
 * New maps fail until nvme_phys_resume_cmb(). Programs keep their pages: those
 * cannot be revoked without removing them.
 */
void nvme_phys_suspend_cmb(struct nvme_phys *ctrl)
{
	int err = 0;

	if (ctrl->cmb_size)
		err = dma_phys_peer_suspend(ctrl->pdev, ctrl->cmb_bar,
					    NVME_PHYS_DRAIN_MS);
	if (err)
		dev_warn(&ctrl->pdev->dev, "CMB is still mapped: %d\n", err);
}

/**
 * nvme_phys_resume_cmb() - the reverse of nvme_phys_suspend_cmb()
 * @ctrl: the controller, which runs
 */
void nvme_phys_resume_cmb(struct nvme_phys *ctrl)
{
	if (ctrl->cmb_size)
		dma_phys_peer_resume(ctrl->pdev, ctrl->cmb_bar);
}

/**
 * nvme_phys_unshare_cmb() - unregister the CMB
 * @ctrl: the controller; it runs, so that the CMB can be accessed, or is gone
 *
 * Waits until nobody maps the CMB or uses its pages.
 */
void nvme_phys_unshare_cmb(struct nvme_phys *ctrl)
{
	if (ctrl->cmb_group)
		devres_release_group(&ctrl->pdev->dev, ctrl->cmb_group);
	ctrl->cmb_group = NULL;
	ctrl->cmb_size = 0;
	if (nvme_phys_has_cmbmsc(ctrl))
		hi_lo_writeq(0, ctrl->regs + NVME_REG_CMBMSC);
}

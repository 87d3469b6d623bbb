// SPDX-License-Identifier: GPL-2.0
/*
 * Shutdown, suspend, resets of the function, and PCI errors.
 *
 * The device lock is held in all of them, so that they follow each other.
 */
#include <linux/cleanup.h>
#include <linux/pm.h>

#include "nvme_phys.h"

/**
 * nvme_phys_shutdown() - shut down a controller with the machine
 * @pdev: its device
 *
 * Requests complete first, and later ones wait. A request fails only if it
 * takes longer than its time limit.
 */
void nvme_phys_shutdown(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl = pci_get_drvdata(pdev);

	if (nvme_phys_has_failed(ctrl))
		return;
	ctrl->frozen = true;
	nvme_phys_freeze(ctrl, NVME_PHYS_IO_SECONDS * MSEC_PER_SEC);

	guard(mutex)(&ctrl->lock);
	if (ctrl->failed)
		return;
	nvme_phys_stop(ctrl, true);
	WRITE_ONCE(ctrl->failed, true);
	nvme_phys_unquiesce(ctrl);
}

/* ---- Suspend ---- */

/* New requests wait until nvme_phys_resume_ctrl(). */
static void nvme_phys_suspend_ctrl(struct nvme_phys *ctrl, bool shutdown)
{
	guard(mutex)(&ctrl->lock);
	if (ctrl->failed)
		return;
	nvme_phys_suspend_cmb(ctrl);
	nvme_phys_stop(ctrl, shutdown);
}

static void nvme_phys_restart_ctrl(struct nvme_phys *ctrl)
{
	lockdep_assert_held(&ctrl->lock);
	if (!ctrl->failed && nvme_phys_restart(ctrl))
		nvme_phys_fail(ctrl);
}

static void nvme_phys_resume_ctrl(struct nvme_phys *ctrl)
{
	guard(mutex)(&ctrl->lock);
	nvme_phys_restart_ctrl(ctrl);
	nvme_phys_unquiesce(ctrl);
}

static int nvme_phys_pm_suspend(struct device *dev)
{
	struct nvme_phys *ctrl = dev_get_drvdata(dev);
	int err;

	err = nvme_phys_freeze(ctrl, NVME_PHYS_DRAIN_MS);
	if (err)
		nvme_phys_unfreeze(ctrl);
	else
		nvme_phys_suspend_ctrl(ctrl, true);
	return err;
}

static int nvme_phys_pm_resume(struct device *dev)
{
	struct nvme_phys *ctrl = dev_get_drvdata(dev);

	nvme_phys_resume_ctrl(ctrl);
	nvme_phys_unfreeze(ctrl);
	return 0;
}

DEFINE_SIMPLE_DEV_PM_OPS(nvme_phys_pm, nvme_phys_pm_suspend,
			 nvme_phys_pm_resume);

/* ---- Resets and PCI errors ---- */

/* A function, slot or bus reset, for example through sysfs. */
static void nvme_phys_reset_prepare(struct pci_dev *pdev)
{
	nvme_phys_suspend_ctrl(pci_get_drvdata(pdev), false);
}

static void nvme_phys_reset_done(struct pci_dev *pdev)
{
	nvme_phys_resume_ctrl(pci_get_drvdata(pdev));
}

/*
 * A PCI error (AER, DPC, EEH). After a fatal error the device is reset. After
 * another error it is reset only if a device below the same port needs that.
 * Recovery ends with resume() or with a permanent failure. s390 does not report
 * the latter: there, requests wait until the driver is unbound.
 */
static pci_ers_result_t nvme_phys_error_detected(struct pci_dev *pdev,
						 pci_channel_state_t state)
{
	struct nvme_phys *ctrl = pci_get_drvdata(pdev);

	scoped_guard(mutex, &ctrl->lock)
		ctrl->in_recovery = !ctrl->failed;
	switch (state) {
	case pci_channel_io_normal:
		return PCI_ERS_RESULT_CAN_RECOVER;
	case pci_channel_io_frozen:
		nvme_phys_suspend_ctrl(ctrl, false);
		return nvme_phys_has_failed(ctrl) ? PCI_ERS_RESULT_DISCONNECT :
						    PCI_ERS_RESULT_NEED_RESET;
	default:
		scoped_guard(mutex, &ctrl->lock)
			nvme_phys_fail(ctrl);
		return PCI_ERS_RESULT_DISCONNECT;
	}
}

static pci_ers_result_t nvme_phys_slot_reset(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl = pci_get_drvdata(pdev);

	/* Also enables bus mastering: stopping the controller disables it. */
	pci_restore_state(pdev);
	/* It still runs if the reset is due to the error of another device. */
	nvme_phys_suspend_ctrl(ctrl, false);
	scoped_guard(mutex, &ctrl->lock)
		nvme_phys_restart_ctrl(ctrl);
	return nvme_phys_has_failed(ctrl) ? PCI_ERS_RESULT_DISCONNECT :
					    PCI_ERS_RESULT_RECOVERED;
}

/* Not before: recovery fails if that of another device below the port does. */
static void nvme_phys_error_resume(struct pci_dev *pdev)
{
	struct nvme_phys *ctrl = pci_get_drvdata(pdev);

	guard(mutex)(&ctrl->lock);
	ctrl->in_recovery = false;
	if (ctrl->running)
		nvme_phys_unquiesce(ctrl);
}

const struct pci_error_handlers nvme_phys_error_handlers = {
	.error_detected = nvme_phys_error_detected,
	.slot_reset = nvme_phys_slot_reset,
	.resume = nvme_phys_error_resume,
	.reset_prepare = nvme_phys_reset_prepare,
	.reset_done = nvme_phys_reset_done,
};

// SPDX-License-Identifier: GPL-2.0
/*
 * Reports what a driver leaves mapped when it is unbound.
 *
 * Nothing is unmapped: the device may still access it. The handle stays valid,
 * so that a late owner can unmap it, until the device is removed.
 */
#include <linux/device.h>
#include <linux/device/bus.h>
#include <linux/dma-phys-names.h>
#include <linux/dma-phys.h>
#include <linux/init.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/platform_device.h>

#include "debug.h"

/* Lines of a report. */
#define LEAK_MAX_LINES	16

/* The device that has a BAR at @phys, held until the put, or NULL. */
static struct pci_dev *leak_find_owner(phys_addr_t phys)
{
	struct pci_dev *owner = NULL;

	for_each_pci_dev(owner)
		for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
			if (pci_resource_flags(owner, bar) & IORESOURCE_MEM &&
			    phys >= pci_resource_start(owner, bar) &&
			    phys <= pci_resource_end(owner, bar))
				return owner;
	return NULL;
}

static void leak_report(struct device *dev,
			const struct dma_phys_debug_record *leak)
{
	struct pci_dev *owner = leak->kind == DMA_PHYS_MMIO ?
				leak_find_owner(leak->phys) : NULL;

	dev_err(dev, "dma-phys: leaked: %s %s %s, %zu bytes%s%s, mapped %llu ms ago by %pS%s\n",
		dma_phys_kind_name(leak->kind),
		dma_phys_route_name(leak->route), dma_phys_dir_name(leak->dir),
		leak->size, owner ? " of " : "", owner ? pci_name(owner) : "",
		dma_phys_debug_age_ms(leak), (void *)leak->caller,
		leak->stale ? ", stale" : "");
	pci_dev_put(owner);
}

static void leak_check(struct device *dev)
{
	struct dma_phys_debug_record leak;
	unsigned int leaks = 0;
	unsigned long id = 0;

	while (dma_phys_debug_next_leak(dev, &id, &leak))
		if (leaks++ < LEAK_MAX_LINES)
			leak_report(dev, &leak);
	if (leaks > LEAK_MAX_LINES)
		dev_err(dev, "dma-phys: leaked: %u more\n",
			leaks - LEAK_MAX_LINES);
}

/*
 * A driver is unbound after devres, which may unmap. If a probe fails, there is
 * no notification after devres: check before the next driver is bound, and when
 * the device is removed.
 */
static int leak_notify(struct notifier_block *nb, unsigned long event,
		       void *dev)
{
	switch (event) {
	case BUS_NOTIFY_BIND_DRIVER:
	case BUS_NOTIFY_UNBOUND_DRIVER:
		leak_check(dev);
		break;
	case BUS_NOTIFY_REMOVED_DEVICE:
		leak_check(dev);
		dma_phys_debug_forget(dev);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block leak_platform_notifier = {
	.notifier_call = leak_notify,
};

#ifdef CONFIG_PCI
static struct notifier_block leak_pci_notifier = {
	.notifier_call = leak_notify,
};
#endif

static int __init leak_init(void)
{
	int err = bus_register_notifier(&platform_bus_type,
					&leak_platform_notifier);

#ifdef CONFIG_PCI
	err = err ?: bus_register_notifier(&pci_bus_type, &leak_pci_notifier);
#endif
	return err;
}
subsys_initcall(leak_init);

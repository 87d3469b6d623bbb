// SPDX-License-Identifier: GPL-2.0

#include <linux/pci.h>
#include <xen/xen.h>

/* Whether drivers/pci/xen-pcifront.c may call the error handlers of a driver. */
__rust_helper bool rust_helper_xen_pci_frontend(void)
{
	return xen_pv_domain() && !xen_initial_domain();
}

__rust_helper u64 rust_helper_pci_bus_address(struct pci_dev *pdev, int bar)
{
	return pci_bus_address(pdev, bar);
}

#ifndef CONFIG_PCI_MSI
__rust_helper int
rust_helper_pci_alloc_irq_vectors_affinity(struct pci_dev *dev,
					   unsigned int min_vecs,
					   unsigned int max_vecs,
					   unsigned int flags,
					   struct irq_affinity *affd)
{
	return pci_alloc_irq_vectors_affinity(dev, min_vecs, max_vecs, flags,
					      affd);
}
#endif

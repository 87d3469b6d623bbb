// SPDX-License-Identifier: GPL-2.0

#include <linux/pci.h>

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

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sharing a PCI BAR with other devices, see
 * Documentation/core-api/dma-phys.rst.
 */
#ifndef _LINUX_DMA_PHYS_PEER_H
#define _LINUX_DMA_PHYS_PEER_H

#include <linux/errno.h>
#include <linux/types.h>

struct mmio_phys;
struct pci_dev;
struct task_struct;

/**
 * struct dma_phys_peer_client - a user of a peer that can be revoked
 * @revoke: unmaps all maps of the peer, see dma_phys_peer_attach()
 * @node: for the core
 * @revoking_task: for the core
 *
 * Zeroed memory with a callback is a client that is not attached.
 */
struct dma_phys_peer_client {
	void (*revoke)(struct dma_phys_peer_client *client);
	struct list_head node;
	struct task_struct *revoking_task;
};

#ifdef CONFIG_PCI_P2PDMA
int dma_phys_peer_register(struct pci_dev *owner, int bar);
void dma_phys_peer_unregister(struct pci_dev *owner, int bar);
int dma_phys_peer_suspend(struct pci_dev *owner, int bar,
			  unsigned int timeout_ms);
void dma_phys_peer_resume(struct pci_dev *owner, int bar);
int dma_phys_peer_attach(const struct mmio_phys *range,
			 struct dma_phys_peer_client *client);
void dma_phys_peer_detach(struct dma_phys_peer_client *client);
#else
static inline int dma_phys_peer_register(struct pci_dev *owner, int bar)
{
	return -EOPNOTSUPP;
}

static inline void dma_phys_peer_unregister(struct pci_dev *owner, int bar) { }

static inline int dma_phys_peer_suspend(struct pci_dev *owner, int bar,
					unsigned int timeout_ms)
{
	return -ENODEV;
}

static inline void dma_phys_peer_resume(struct pci_dev *owner, int bar) { }

static inline int dma_phys_peer_attach(const struct mmio_phys *range,
				       struct dma_phys_peer_client *client)
{
	return -ENODEV;
}

static inline void dma_phys_peer_detach(struct dma_phys_peer_client *client) { }
#endif

#endif /* _LINUX_DMA_PHYS_PEER_H */

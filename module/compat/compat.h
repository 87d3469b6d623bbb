/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the core calls and this kernel does not offer to modules. Included
 * before each file. probe.sh defines HAVE_<name> for what is declared, and
 * EXPORTED_<name> for what modules may call. Nothing that the kernel has is
 * changed.
 */
#ifndef _DMA_PHYS_COMPAT_H
#define _DMA_PHYS_COMPAT_H

#include <linux/bits.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/memremap.h>
#include <linux/pci-p2pdma.h>
#include <linux/types.h>
#include <trace/events/dma.h>

/* Not known to modules: the event misses what the direct fast path maps. */
#ifndef EXPORTED_dma_map_phys_event
#define trace_dma_map_phys_enabled()	false
#endif

/* ---- dma_map_phys() ---- */

/* Bits that no kernel uses: one that lacks the attribute ignores it. */
#ifndef DMA_ATTR_MMIO
#define DMA_ATTR_MMIO			BIT(30)
#endif
#ifndef DMA_ATTR_REQUIRE_COHERENT
#define DMA_ATTR_REQUIRE_COHERENT	BIT(31)
#endif

#ifndef HAVE_dma_map_phys
dma_addr_t dma_map_phys(struct device *dev, phys_addr_t phys, size_t size,
			enum dma_data_direction dir, unsigned long attrs);
void dma_unmap_phys(struct device *dev, dma_addr_t addr, size_t size,
		    enum dma_data_direction dir, unsigned long attrs);
struct dma_phys_map;
int dma_phys_compat_precheck(const struct dma_phys_map *map, phys_addr_t phys,
			     bool raw);
#endif
#if !defined(HAVE_arch_dma_map_phys_direct) && !defined(arch_dma_map_phys_direct)
#define arch_dma_map_phys_direct	arch_dma_map_page_direct
#endif
#ifndef HAVE_dev_dma_ops_bypass
static inline bool dev_dma_ops_bypass(const struct device *dev)
{
#ifdef CONFIG_DMA_OPS_BYPASS
	return dev->dma_ops_bypass;
#else
	return false;
#endif
}
#endif

/* ---- One IOVA for many ranges ---- */

#ifndef HAVE_phys_vec
struct phys_vec {
	phys_addr_t paddr;
	size_t len;
};
#endif

#ifndef HAVE_dma_iova_try_alloc
struct dma_iova_state {
	dma_addr_t addr;
	u64 __size;
};

#define DMA_IOVA_USE_SWIOTLB		BIT_ULL(63)

/* No range is linked: each has an IOVA of its own. */
static inline bool dma_iova_try_alloc(struct device *dev,
				      struct dma_iova_state *state,
				      phys_addr_t phys, size_t size)
{
	*state = (struct dma_iova_state){};
	return false;
}

static inline int dma_iova_sync(struct device *dev,
				struct dma_iova_state *state, size_t offset,
				size_t size)
{
	return -EOPNOTSUPP;
}

static inline void dma_iova_destroy(struct device *dev,
				    struct dma_iova_state *state, size_t mapped,
				    enum dma_data_direction dir,
				    unsigned long attrs)
{
}
#endif

#ifndef HAVE_dma_iova_link_vecs
int dma_iova_link_vecs(struct device *dev, struct dma_iova_state *state,
		       struct phys_vec *vecs, unsigned int count, size_t offset,
		       enum dma_data_direction dir, unsigned long attrs);
dma_addr_t dma_iova_map_vecs(struct device *dev, struct phys_vec *vecs,
			     unsigned int count, size_t size,
			     enum dma_data_direction dir);
#endif

/* ---- Pages and requests ---- */

#ifndef HAVE_page_pgmap
#define page_pgmap(page)		((page)->pgmap)
#endif
#ifndef HAVE_get_dev_pagemap_of_pfn
#define get_dev_pagemap(pfn)		get_dev_pagemap(pfn, NULL)
#endif

#ifndef HAVE_req_phys_gap_mask
struct request;
unsigned long dma_phys_compat_gaps(const struct request *rq);
#define req_phys_gap_mask(rq)		dma_phys_compat_gaps(rq)
#endif

/* ---- P2P ---- */

/* Without providers there are no peers, see dma-phys-peer.h. */
#ifndef HAVE_pcim_p2pdma_provider
#undef CONFIG_PCI_P2PDMA
#endif

#ifndef EXPORTED_pci_p2pdma_map_type
/**
 * struct dma_phys_compat_p2p - how a device reaches a page of another device
 * @mem: this struct, if the page is reached at its bus address
 * @bus_offset: bus address minus physical address
 */
struct dma_phys_compat_p2p {
	struct dma_phys_compat_p2p *mem;
	u64 bus_offset;
};

enum pci_p2pdma_map_type
dma_phys_compat_p2p_page(struct dma_phys_compat_p2p *state, struct device *dev,
			 struct page *page);
#define pci_p2pdma_map_state		dma_phys_compat_p2p
#define pci_p2pdma_state		dma_phys_compat_p2p_page
#define pci_p2pdma_bus_addr_map(mem, phys)	((phys) + (mem)->bus_offset)

struct p2pdma_provider;
enum pci_p2pdma_map_type
dma_phys_compat_p2p_type(struct p2pdma_provider *provider, struct device *dev);
#define pci_p2pdma_map_type(provider, dev) \
	dma_phys_compat_p2p_type(provider, dev)
#endif

/* ---- The samples ---- */

#ifndef HAVE_NVME_CTRL_SGLS_BYTE_ALIGNED
#define NVME_CTRL_SGLS_BYTE_ALIGNED	1
#define NVME_CTRL_SGLS_DWORD_ALIGNED	2
#endif

#endif /* _DMA_PHYS_COMPAT_H */

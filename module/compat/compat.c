// SPDX-License-Identifier: GPL-2.0
/*
 * Functions of the kernel that modules cannot call, or that this kernel does
 * not have, made of those that it exports.
 */
#include <linux/blk-mq.h>
#include <linux/dma-direct.h>
#include <linux/iommu-dma.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/rcupdate.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "../kernel/dma/phys/internal.h"

/* ---- The module ---- */

/* All users of the module are gone, but not what they freed with RCU. */
static void __exit dma_phys_exit(void)
{
	rcu_barrier();
}
module_exit(dma_phys_exit);

MODULE_DESCRIPTION("Typed mapping of physical addresses for DMA");
MODULE_LICENSE("GPL");

/* ---- dma_map_phys() ---- */

#ifndef HAVE_dma_map_phys
#define OUR_ATTRS	(DMA_ATTR_MMIO | DMA_ATTR_REQUIRE_COHERENT)

static bool compat_has_pages(phys_addr_t phys, size_t size)
{
	return pfn_valid(PHYS_PFN(phys)) && pfn_valid(PHYS_PFN(phys + size - 1));
}

/* Nothing reads the struct page of such memory. */
static bool compat_needs_no_page(struct device *dev)
{
	return !use_dma_iommu(dev) && !get_dma_ops(dev) &&
	       dev_is_dma_coherent(dev) && !is_swiotlb_force_bounce(dev);
}

dma_addr_t dma_map_phys(struct device *dev, phys_addr_t phys, size_t size,
			enum dma_data_direction dir, unsigned long attrs)
{
	if (attrs & DMA_ATTR_MMIO)
		return dma_map_resource(dev, phys, size, dir,
					attrs & ~OUR_ATTRS);
	if (attrs & DMA_ATTR_REQUIRE_COHERENT && !dev_is_dma_coherent(dev))
		return DMA_MAPPING_ERROR;
	if (!compat_has_pages(phys, size))
		return compat_needs_no_page(dev) ? phys_to_dma(dev, phys) :
						   DMA_MAPPING_ERROR;
	return dma_map_page_attrs(dev, pfn_to_page(PHYS_PFN(phys)),
				  offset_in_page(phys), size, dir,
				  attrs & ~OUR_ATTRS);
}

void dma_unmap_phys(struct device *dev, dma_addr_t addr, size_t size,
		    enum dma_data_direction dir, unsigned long attrs)
{
	if (attrs & DMA_ATTR_MMIO)
		dma_unmap_resource(dev, addr, size, dir, attrs & ~OUR_ATTRS);
	else
		dma_unmap_page_attrs(dev, addr, size, dir, attrs & ~OUR_ATTRS);
}

/* map.c calls this. Behind an IOMMU or legacy ops memory needs a struct page. */
int dma_phys_compat_precheck(const struct dma_phys_map *map, phys_addr_t phys,
			     bool raw)
{
	if (raw && !compat_has_pages(phys, map->size) &&
	    !compat_needs_no_page(map->dev))
		return -EOPNOTSUPP;
	return dma_phys_precheck(map, phys, raw);
}
#endif

/* ---- One IOVA for many ranges ---- */

#ifndef HAVE_dma_iova_link_vecs
/* The kernel bounces nothing, and one unmap of all is enough. */
static bool compat_maps_vecs(struct device *dev)
{
	return use_dma_iommu(dev) && dev_is_dma_coherent(dev) &&
	       !dma_phys_untrusted(dev);
}

static dma_addr_t compat_map_vec(struct device *dev, const struct phys_vec *vec,
				 enum dma_data_direction dir)
{
	return dma_map_phys(dev, vec->paddr, vec->len, dir,
			    DMA_ATTR_REQUIRE_COHERENT | DMA_ATTR_NO_WARN);
}
#endif

#if !defined(HAVE_dma_iova_link_vecs) && defined(HAVE_dma_iova_try_alloc)
int dma_iova_link_vecs(struct device *dev, struct dma_iova_state *state,
		       struct phys_vec *vecs, unsigned int count, size_t offset,
		       enum dma_data_direction dir, unsigned long attrs)
{
	u64 mask = dma_get_merge_boundary(dev);
	size_t linked = 0;
	int err = 0;

	for (unsigned int i = 0; i < count && !err; i++) {
		phys_addr_t phys = vecs[i].paddr;
		size_t len = vecs[i].len;

		/* dma_iova_link() would warn. */
		if (!dma_phys_range_ok(phys, len) ||
		    ((offset || i) && phys & mask) ||
		    (i + 1 < count && (phys + len) & mask))
			err = -EINVAL;
		else
			err = dma_iova_link(dev, state, phys, offset + linked,
					    len, dir, attrs);
		if (!err)
			linked += len;
	}
	if (err && linked)
		dma_iova_unlink(dev, state, offset, linked, dir,
				attrs | DMA_ATTR_SKIP_CPU_SYNC);
	return err;
}

dma_addr_t dma_iova_map_vecs(struct device *dev, struct phys_vec *vecs,
			     unsigned int count, size_t size,
			     enum dma_data_direction dir)
{
	struct dma_iova_state state = {};

	if (!compat_maps_vecs(dev))
		return DMA_MAPPING_ERROR;
	if (count == 1)
		return compat_map_vec(dev, vecs, dir);
	if (!dma_iova_try_alloc(dev, &state, vecs->paddr, size))
		return DMA_MAPPING_ERROR;
	if (dma_iova_link_vecs(dev, &state, vecs, count, 0, dir, 0)) {
		dma_iova_free(dev, &state);
		return DMA_MAPPING_ERROR;
	}
	if (dma_iova_sync(dev, &state, 0, size)) {
		dma_iova_destroy(dev, &state, size, dir, 0);
		return DMA_MAPPING_ERROR;
	}
	return state.addr;
}
#elif !defined(HAVE_dma_iova_link_vecs)
int dma_iova_link_vecs(struct device *dev, struct dma_iova_state *state,
		       struct phys_vec *vecs, unsigned int count, size_t offset,
		       enum dma_data_direction dir, unsigned long attrs)
{
	return -EOPNOTSUPP;
}

/* The kernel gives all of a scatterlist one IOVA. False: segments have gaps. */
static bool compat_is_one_iova(struct sg_table *table, size_t size)
{
	dma_addr_t next = sg_dma_address(table->sgl);
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_dma_sg(table, sg, i) {
		if (sg_dma_address(sg) != next)
			return false;
		next += sg_dma_len(sg);
	}
	return next - sg_dma_address(table->sgl) == size;
}

dma_addr_t dma_iova_map_vecs(struct device *dev, struct phys_vec *vecs,
			     unsigned int count, size_t size,
			     enum dma_data_direction dir)
{
	dma_addr_t addr = DMA_MAPPING_ERROR;
	struct sg_table table;
	struct scatterlist *sg;
	unsigned int i;

	if (!compat_maps_vecs(dev))
		return DMA_MAPPING_ERROR;
	for (i = 0; i < count; i++)
		if (!dma_phys_range_ok(vecs[i].paddr, vecs[i].len) ||
		    vecs[i].len > UINT_MAX ||
		    !compat_has_pages(vecs[i].paddr, vecs[i].len))
			return DMA_MAPPING_ERROR;
	if (count == 1)
		return compat_map_vec(dev, vecs, dir);

	if (sg_alloc_table(&table, count, GFP_ATOMIC | __GFP_NOWARN))
		return DMA_MAPPING_ERROR;
	for_each_sgtable_sg(&table, sg, i)
		sg_set_page(sg, pfn_to_page(PHYS_PFN(vecs[i].paddr)),
			    vecs[i].len, offset_in_page(vecs[i].paddr));
	if (!dma_map_sgtable(dev, &table, dir, DMA_ATTR_NO_WARN)) {
		if (compat_is_one_iova(&table, size))
			addr = sg_dma_address(table.sgl);
		else
			dma_unmap_sgtable(dev, &table, dir,
					  DMA_ATTR_SKIP_CPU_SYNC);
	}
	sg_free_table(&table);
	return addr;
}
#endif

/* ---- Requests ---- */

#ifndef HAVE_req_phys_gap_mask
/* All bits that one of the gaps between bio vectors has, and those above. */
unsigned long dma_phys_compat_gaps(const struct request *rq)
{
	unsigned long gaps = 0;
	phys_addr_t end = 0;
	bool first = true;

	for (struct bio *bio = rq->bio; bio; bio = bio->bi_next) {
		struct bvec_iter at = bio->bi_iter;

		while (at.bi_size) {
			struct bio_vec bv = mp_bvec_iter_bvec(bio->bi_io_vec, at);

			if (!first && bvec_phys(&bv) != end)
				gaps |= bvec_phys(&bv) | end;
			first = false;
			end = bvec_phys(&bv) + bv.bv_len;
			bvec_iter_advance_single(bio->bi_io_vec, &at, bv.bv_len);
		}
	}
	return gaps;
}
#endif

/* ---- P2P ---- */

#if !defined(EXPORTED_pci_p2pdma_map_type) && defined(CONFIG_PCI_P2PDMA)
/* The kernel maps the page in a scatterlist, and marks a bus address as such. */
enum pci_p2pdma_map_type
dma_phys_compat_p2p_page(struct dma_phys_compat_p2p *state, struct device *dev,
			 struct page *page)
{
	enum pci_p2pdma_map_type type = PCI_P2PDMA_MAP_THRU_HOST_BRIDGE;
	struct scatterlist sg;
	struct sg_table table = { .sgl = &sg, .nents = 1, .orig_nents = 1 };

	sg_init_table(&sg, 1);
	sg_set_page(&sg, page, PAGE_SIZE, 0);
	if (dma_map_sgtable(dev, &table, DMA_BIDIRECTIONAL, DMA_ATTR_NO_WARN))
		return PCI_P2PDMA_MAP_NOT_SUPPORTED;
	if (sg_dma_is_bus_address(&sg)) {
		type = PCI_P2PDMA_MAP_BUS_ADDR;
		state->bus_offset = sg_dma_address(&sg) - page_to_phys(page);
		state->mem = state;
	}
	dma_unmap_sgtable(dev, &table, DMA_BIDIRECTIONAL, 0);
	return type;
}

static bool compat_acs_redirects(struct pci_dev *bridge)
{
	u16 ctrl = 0;

	if (bridge->acs_cap)
		pci_read_config_word(bridge, bridge->acs_cap + PCI_ACS_CTRL,
				     &ctrl);
	return ctrl & (PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_EC);
}

/* drivers/pci/p2pdma.c, calc_map_type_and_dist(): bus, if no ACS redirects. */
enum pci_p2pdma_map_type
dma_phys_compat_p2p_type(struct p2pdma_provider *provider, struct device *dev)
{
	struct pci_dev *owner = to_pci_dev(provider->owner), *a, *b;
	bool redirects = false;

	if (!dev_is_pci(dev) ||
	    pci_p2pdma_distance_many(owner, &dev, 1, false) < 0)
		return PCI_P2PDMA_MAP_NOT_SUPPORTED;

	for (a = owner; a; a = pci_upstream_bridge(a)) {
		redirects |= compat_acs_redirects(a);
		for (b = to_pci_dev(dev); b && b != a; b = pci_upstream_bridge(b))
			;
		if (b)
			break;
	}
	for (b = to_pci_dev(dev); b && b != a; b = pci_upstream_bridge(b))
		redirects |= compat_acs_redirects(b);
	return a && !redirects ? PCI_P2PDMA_MAP_BUS_ADDR :
				 PCI_P2PDMA_MAP_THRU_HOST_BRIDGE;
}
#elif !defined(EXPORTED_pci_p2pdma_map_type)
enum pci_p2pdma_map_type
dma_phys_compat_p2p_page(struct dma_phys_compat_p2p *state, struct device *dev,
			 struct page *page)
{
	return PCI_P2PDMA_MAP_NOT_SUPPORTED;
}
#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Map an array of physical ranges at one range of IOVA.
 */
#include <linux/generic_pt/iommu.h>
#include <linux/iommu.h>
#include <trace/events/iommu.h>

#include "iommu-priv.h"

static int iommu_map_vecs_each(struct iommu_domain *domain, unsigned long iova,
			       const struct phys_vec *vecs, unsigned int count,
			       int prot, gfp_t gfp, size_t *mapped)
{
	unsigned long align = (1UL << __ffs(domain->pgsize_bitmap)) - 1;
	int ret;

	for (unsigned int i = 0; i < count; i++) {
		phys_addr_t last = vecs[i].paddr + vecs[i].len - 1;

		if (!vecs[i].len || last < vecs[i].paddr ||
		    (iova | vecs[i].paddr | vecs[i].len) & align)
			return -EINVAL;
		ret = iommu_map_nosync(domain, iova + *mapped, vecs[i].paddr,
				       vecs[i].len, prot, gfp);
		if (ret)
			return ret;
		*mapped += vecs[i].len;
	}
	return 0;
}

/* Report @mapped bytes. */
static void iommu_map_vecs_report(struct iommu_domain *domain,
				  unsigned long iova,
				  const struct phys_vec *vecs, size_t mapped)
{
	for (; mapped; vecs++) {
		size_t len = min(mapped, vecs->len);

		trace_map(iova, vecs->paddr, len);
		iommu_debug_map(domain, vecs->paddr, len);
		iova += len;
		mapped -= len;
	}
}

/**
 * iommu_map_vecs_nosync() - Map physical ranges at one range of IOVA, no sync
 * @domain: Domain to manipulate
 * @iova: IO virtual address of the first range; each follows the one before
 * @vecs: Physical ranges, multiples of the smallest page size of @domain
 * @count: Number of ranges, not 0
 * @prot: Protection of all ranges, see iommu_map()
 * @gfp: For page tables
 *
 * Like iommu_map_nosync() for each range, but if the page table allows it
 * all ranges take one walk. Adjacent ranges are not merged. The caller calls
 * iommu_sync_map().
 *
 * Context: Sleeps if @gfp allows it.
 * Return: 0, or an errno as iommu_map(); then nothing is mapped.
 */
int iommu_map_vecs_nosync(struct iommu_domain *domain, unsigned long iova,
			  const struct phys_vec *vecs, unsigned int count,
			  int prot, gfp_t gfp)
{
	struct pt_iommu *pt = iommupt_from_domain(domain);
	size_t mapped = 0;
	int ret;

	if (!pt) {
		ret = iommu_map_vecs_each(domain, iova, vecs, count, prot, gfp,
					  &mapped);
	} else {
		might_sleep_if(gfpflags_allow_blocking(gfp));
		if (WARN_ON_ONCE(!(domain->type & __IOMMU_DOMAIN_PAGING) ||
				 (gfp & (__GFP_COMP | __GFP_DMA | __GFP_DMA32 |
					 __GFP_HIGHMEM))))
			return -EINVAL;
		ret = pt->ops->map_vecs(pt, iova, vecs, count, prot, gfp,
					&mapped);
		if (trace_map_enabled() || IS_ENABLED(CONFIG_IOMMU_DEBUG_PAGEALLOC))
			iommu_map_vecs_report(domain, iova, vecs, mapped);
	}
	if (ret)
		iommu_unmap(domain, iova, mapped);
	return ret;
}

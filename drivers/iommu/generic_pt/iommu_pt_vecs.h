/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Map an array of physical ranges at one range of IOVA, with one walk for each leaf
 * table. Included by iommu_pt.h, for each format.
 */
#ifndef __GENERIC_PT_IOMMU_PT_VECS_H
#define __GENERIC_PT_IOMMU_PT_VECS_H

/**
 * struct pt_iommu_map_vecs_args - ranges that are being mapped
 * @iommu_table: the table
 * @attrs: of all leaves
 * @next: the range after that of @oa
 * @stop: the end of the ranges
 * @oa: address of the next leaf; @end if it is that of @next
 * @end: end of the range of @oa
 * @not_page: address bits that the leaf of a page cannot have
 * @iova: IOVA of the next leaf
 * @leaves: leaves of @pgsize_lg2 that are left, before the size changes
 * @pgsize_lg2: their size
 */
struct pt_iommu_map_vecs_args {
	struct pt_iommu *iommu_table;
	struct pt_write_attrs attrs;
	const struct phys_vec *next;
	const struct phys_vec *stop;
	pt_oaddr_t oa;
	pt_oaddr_t end;
	phys_addr_t not_page;
	dma_addr_t iova;
	pt_vaddr_t leaves;
	unsigned int pgsize_lg2;
};

static int map_vecs_check(const struct pt_iommu *iommu_table, dma_addr_t iova,
			  const struct phys_vec *vec)
{
	unsigned int max_oasz_lg2 =
		common_from_iommu((struct pt_iommu *)iommu_table)->max_oasz_lg2;
	pt_vaddr_t pgsizes = iommu_table->domain.pgsize_bitmap;
	phys_addr_t last = vec->paddr + vec->len - 1;

	if (!vec->len || (iova | vec->paddr | vec->len) & ((pgsizes & -pgsizes) - 1))
		return -EINVAL;
	if (last < vec->paddr || (pt_oaddr_t)last != last ||
	    (max_oasz_lg2 != PT_VADDR_MAX_LG2 && oalog2_div(last, max_oasz_lg2)))
		return -ERANGE;
	return 0;
}

/* The size of the next leaves of the range. False if it is not one of level 0. */
static bool map_vecs_pgsize(const struct pt_state *pts,
			    struct pt_iommu_map_vecs_args *map)
{
	pt_vaddr_t pgsizes = map->iommu_table->domain.pgsize_bitmap;
	pt_vaddr_t va = map->iova, last_va = va + (map->end - map->oa) - 1;

	if (last_va <= va)
		return false;
	map->pgsize_lg2 = pt_compute_best_pgsize(pgsizes, va, last_va, map->oa);
	if (map->pgsize_lg2 < PAGE_SHIFT ||
	    map->pgsize_lg2 >= pt_table_oa_lg2sz(pts))
		return false;
	map->leaves = pt_pgsz_count(pgsizes, va, last_va, map->oa,
				    map->pgsize_lg2);
	return true;
}

static void map_vecs_take(struct pt_iommu_map_vecs_args *map)
{
	map->oa = map->next->paddr;
	map->end = map->oa + map->next->len;
	map->next++;
}

/* Ranges of one page, which are common. */
static __always_inline int map_vecs_pages(struct pt_state *pts,
					  struct pt_iommu_map_vecs_args *map)
{
	const struct phys_vec *vec = map->next, *stop = map->stop;
	struct pt_write_attrs attrs = map->attrs;
	phys_addr_t not_page = map->not_page;
	int ret = 0;

	stop = vec + min_t(size_t, stop - vec, pts->end_index - pts->index);
	while (vec != stop && vec->len == PAGE_SIZE && !(vec->paddr & not_page)) {
		pts->type = pt_load_entry_raw(pts);
		if (pts->type != PT_ENTRY_EMPTY) {
			ret = -EADDRINUSE;
			break;
		}
		pt_install_leaf_entry(pts, (vec++)->paddr, PAGE_SHIFT, &attrs);
		pts->index++;
	}
	map->next = vec;
	return ret;
}

static __always_inline bool map_vecs_is_empty(struct pt_state *pts,
					      unsigned int entries)
{
	unsigned int start_index = pts->index;

	for (;;) {
		pts->type = pt_load_entry_raw(pts);
		if (pts->type != PT_ENTRY_EMPTY || !--entries)
			break;
		pts->index++;
	}
	pts->index = start_index;
	return pts->type == PT_ENTRY_EMPTY;
}

/* Leaves of one size, each of one entry or of entries that are contiguous. */
static __always_inline int map_vecs_run(struct pt_state *pts,
					struct pt_iommu_map_vecs_args *map,
					unsigned int pgsize_lg2)
{
	unsigned int entries_lg2 = pgsize_lg2 - PAGE_SHIFT;
	unsigned int entries = log2_to_int_t(unsigned int, entries_lg2);
	unsigned int left = log2_div_t(unsigned int, pts->end_index - pts->index,
				       entries_lg2);
	pt_vaddr_t run = min_t(pt_vaddr_t, map->leaves, left), leaves = run;
	struct pt_write_attrs attrs = map->attrs;
	pt_oaddr_t oa = map->oa;

	do {
		if (!map_vecs_is_empty(pts, entries))
			break;
		pt_install_leaf_entry(pts, oa, pgsize_lg2, &attrs);
		oa += oalog2_to_int(pgsize_lg2);
		pts->index += entries;
	} while (--leaves);
	map->oa = oa;
	map->leaves -= run - leaves;
	return leaves ? -EADDRINUSE : 0;
}

/* -EAGAIN at a range that is not valid, or whose leaves are of a higher level. */
static __always_inline int map_vecs_leaves(struct pt_state *pts,
					   struct pt_iommu_map_vecs_args *map)
{
	unsigned int start_index = pts->index;
	dma_addr_t start = map->iova;
	int ret = 0;

	while (!ret && pts->index < pts->end_index) {
		if (map->leaves) {
			ret = map->pgsize_lg2 == PAGE_SHIFT ?
				      map_vecs_run(pts, map, PAGE_SHIFT) :
				      map_vecs_run(pts, map, map->pgsize_lg2);
			continue;
		}
		if (map->oa == map->end)
			ret = map_vecs_pages(pts, map);
		map->iova = start + ((dma_addr_t)(pts->index - start_index) <<
				     PAGE_SHIFT);
		if (ret || pts->index == pts->end_index)
			break;
		if (map->oa == map->end) {
			if (map->next == map->stop)
				break;
			ret = map_vecs_check(map->iommu_table, map->iova,
					     map->next);
			if (ret)
				break;
			map_vecs_take(map);
		}
		if (!map_vecs_pgsize(pts, map))
			ret = -EAGAIN;
	}

	flush_writes_range(pts, start_index, pts->index);
	map->iova = start + ((dma_addr_t)(pts->index - start_index) << PAGE_SHIFT);
	return ret;
}

/* -EAGAIN if there is no leaf table, or if another thread still flushes it. */
static __always_inline int __do_map_vecs(struct pt_range *range, void *arg,
					 unsigned int level,
					 struct pt_table_p *table,
					 pt_level_fn_t descend_fn)
{
	struct pt_state pts = pt_init(range, level, table);

	if (level == 0) {
		_pt_iter_first(&pts);
		return map_vecs_leaves(&pts, arg);
	}

	pts.index = pt_range_to_index(&pts);
	pts.type = pt_load_entry_raw(&pts);
	if (pts.type != PT_ENTRY_TABLE ||
	    (pts_feature(&pts, PT_FEAT_DMA_INCOHERENT) &&
	     !pt_test_sw_bit_acquire(&pts, SW_BIT_CACHE_FLUSH_DONE)))
		return -EAGAIN;
	pts.table_lower = pt_table_ptr(&pts);
	return pt_descend(&pts, arg, descend_fn);
}

PT_MAKE_LEVELS(__map_vecs, __do_map_vecs);

/* As many ranges as fit into the leaf table of the next IOVA. */
static int map_vecs_table(struct pt_common *common,
			  struct pt_iommu_map_vecs_args *map)
{
	struct pt_state pts = { .level = 0 };
	struct pt_range range;

	if (!pt_has_system_page_size(common) ||
	    !(map->iommu_table->domain.pgsize_bitmap & PAGE_SIZE) ||
	    map->iova & ~PAGE_MASK)
		return -EAGAIN;
	pts.range = &range;
	range = pt_make_range(common, map->iova, map->iova);
	range.last_va = log2_set_mod_max(range.va, pt_table_oa_lg2sz(&pts));
	/* map_range() adds a table to the top. */
	if (range.va != map->iova || pt_check_range(&range))
		return -EAGAIN;
	return pt_walk_range(&range, __map_vecs, map);
}

/* What is left of the range, or the next one, as map_range() does. */
static int map_vecs_range(struct pt_iommu_map_vecs_args *map, unsigned int prot)
{
	size_t mapped = 0;
	int ret;

	if (map->oa == map->end) {
		ret = map_vecs_check(map->iommu_table, map->iova, map->next);
		if (ret)
			return ret;
		map_vecs_take(map);
	}
	ret = NS(map_range)(map->iommu_table, map->iova, map->oa,
			    map->end - map->oa, prot, map->attrs.gfp, &mapped);
	map->oa = map->end;
	map->leaves = 0;
	map->iova += mapped;
	return ret;
}

static phys_addr_t map_vecs_not_page(const struct pt_common *common)
{
	phys_addr_t max = (pt_oaddr_t)-1;

	if (common->max_oasz_lg2 != PT_VADDR_MAX_LG2)
		max = oalog2_to_max_int(common->max_oasz_lg2);
	return ~(max & PAGE_MASK);
}

/* See struct pt_iommu_ops. */
static int NS(map_vecs)(struct pt_iommu *iommu_table, dma_addr_t iova,
			const struct phys_vec *vecs, unsigned int count,
			unsigned int prot, gfp_t gfp, size_t *mapped)
{
	struct pt_common *common = common_from_iommu(iommu_table);
	struct pt_iommu_map_vecs_args map = {
		.iommu_table = iommu_table,
		.next = vecs,
		.stop = vecs + count,
		.not_page = map_vecs_not_page(common),
		.iova = iova,
	};
	int ret;

	if (WARN_ON(!(prot & (IOMMU_READ | IOMMU_WRITE))))
		return -EINVAL;
	ret = pt_iommu_set_prot(common, &map.attrs, prot);
	if (ret)
		return ret;
	map.attrs.gfp = gfp;

	while (!ret && (map.oa != map.end || map.next != map.stop)) {
		if (unlikely(map.iova < iova)) {
			ret = -EOVERFLOW;
			break;
		}
		ret = map_vecs_table(common, &map);
		if (ret == -EAGAIN)
			ret = map_vecs_range(&map, prot);
	}
	*mapped += map.iova - iova;
	return ret;
}

/*
 * Clear the entries at the start that are pages: how many. At the end, or at an
 * entry that is something else, @pts->index is that of the next.
 */
static __always_inline unsigned int unmap_pages(struct pt_state *pts)
{
	unsigned int start_index = pts->index;

	do {
		pts->type = pt_load_entry_raw(pts);
		if (pts->type != PT_ENTRY_OA || pt_entry_num_contig_lg2(pts))
			break;
		pt_clear_entries(pts, ilog2(1));
		pts->index++;
	} while (pts->index < pts->end_index);
	return pts->index - start_index;
}

#endif /* __GENERIC_PT_IOMMU_PT_VECS_H */

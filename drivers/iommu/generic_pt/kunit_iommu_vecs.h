/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KUnit tests of map_vecs(): which leaves it installs, what it leaves behind on
 * an error, and two threads that share tables. Included by iommu_template.h,
 * for each format, after kunit_iommu_pt.h.
 */
#ifndef __GENERIC_PT_KUNIT_IOMMU_VECS_H
#define __GENERIC_PT_KUNIT_IOMMU_VECS_H

#include "kunit_iommu.h"
#include "pt_iter.h"
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/moduleparam.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/string.h>

/* All formats have this IOVA and some GiB after it, also in 32 bits. */
#define VECS_IOVA ((pt_vaddr_t)SZ_1G)

/* The pages of a leaf table */
#define VECS_TABLE_PAGES (1U << (PT_TABLEMEM_LG2SZ - ilog2(PT_ITEM_WORD_SIZE)))

static int vecs_map_gfp(struct kunit_iommu_priv *priv, pt_vaddr_t iova,
			const struct phys_vec *vecs, unsigned int count,
			gfp_t gfp, size_t *mapped)
{
	return priv->iommu->ops->map_vecs(priv->iommu, iova, vecs, count,
					  IOMMU_READ | IOMMU_WRITE, gfp,
					  mapped);
}

static int vecs_map(struct kunit_iommu_priv *priv, pt_vaddr_t iova,
		    const struct phys_vec *vecs, unsigned int count,
		    size_t *mapped)
{
	return vecs_map_gfp(priv, iova, vecs, count, GFP_KERNEL, mapped);
}

static u32 vecs_below(struct rnd_state *rnd, u32 ceil)
{
	return prandom_u32_state(rnd) % ceil;
}

/*
 * A random address whose low @alike_lg2 bits are those of @iova. It is in the
 * second quarter of the addresses that the table can store: not 0, which
 * iova_to_phys() returns for what is not mapped, not the address of memory if
 * phys_addr_t is large, and no range of the tests reaches the end.
 */
static phys_addr_t vecs_paddr(struct kunit_iommu_priv *priv,
			      struct rnd_state *rnd, pt_vaddr_t iova,
			      unsigned int alike_lg2)
{
	unsigned int bits = min_t(unsigned int, priv->common->max_oasz_lg2,
				  BITS_PER_BYTE * sizeof(phys_addr_t));
	pt_oaddr_t oa;

	prandom_bytes_state(rnd, &oa, sizeof(oa));
	oa = oalog2_mod(oa, bits - 2) | oalog2_to_int(bits - 2);
	return oalog2_set_mod(oa, log2_mod(iova, alike_lg2), alike_lg2);
}

/* As vecs_paddr(), but no leaf at @iova can be larger than a page. */
static phys_addr_t vecs_unlike(struct kunit_iommu_priv *priv,
			       struct rnd_state *rnd, pt_vaddr_t iova)
{
	return vecs_paddr(priv, rnd, iova ^ priv->smallest_pgsz,
			  priv->smallest_pgsz_lg2 + 1);
}

/*
 * Ranges of 1 page and of @pages pages in turn. At @iova all leaves are pages.
 * Returns the length of all.
 */
static size_t vecs_fill(struct kunit_iommu_priv *priv, struct rnd_state *rnd,
			pt_vaddr_t iova, struct phys_vec *vecs,
			unsigned int count, unsigned int pages)
{
	size_t len = 0;
	unsigned int i;

	for (i = 0; i < count; i++) {
		vecs[i].paddr = vecs_unlike(priv, rnd, iova + len);
		vecs[i].len = (i % 2 ? pages : 1) * priv->smallest_pgsz;
		len += vecs[i].len;
	}
	return len;
}

static void vecs_check(struct kunit *test, pt_vaddr_t iova,
		       const struct phys_vec *vecs, unsigned int count)
{
	for (; count; count--, vecs++) {
		check_iova(test, iova, vecs->paddr, vecs->len);
		iova += vecs->len;
	}
}

/* The expected address of each page, from the ranges alone */
static void vecs_to_model(struct kunit_iommu_priv *priv, phys_addr_t *model,
			  const struct phys_vec *vecs, unsigned int count)
{
	size_t off;

	for (; count; count--, vecs++)
		for (off = 0; off < vecs->len; off += priv->smallest_pgsz)
			*model++ = vecs->paddr + off;
}

/* Pages that must not be mapped are 0 in the model. */
static void vecs_check_model(struct kunit *test, pt_vaddr_t iova,
			     const phys_addr_t *model, unsigned int pages)
{
	struct kunit_iommu_priv *priv = test->priv;
	unsigned int i;

	for (i = 0; i < pages; i++) {
		phys_addr_t res = iommu_iova_to_phys(&priv->domain, iova);

		KUNIT_ASSERT_EQ_MSG(test, res, model[i], "page %u", i);
		iova += priv->smallest_pgsz;
	}
}

static void test_vecs_pages(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	/* Not the start of a leaf table; the ranges continue in the next one */
	pt_vaddr_t iova = VECS_IOVA + 300 * priv->smallest_pgsz;
	const unsigned int count = 600;
	struct phys_vec *vecs;
	struct rnd_state rnd;
	size_t mapped = 0;
	unsigned int i;
	size_t len;
	int ret;

	vecs = kunit_kcalloc(test, count, sizeof(*vecs), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, vecs);
	prandom_seed_state(&rnd, 0x10001);
	len = vecs_fill(priv, &rnd, iova, vecs, count, 1);
	KUNIT_ASSERT_EQ(test, len, count * priv->smallest_pgsz);

	/* There are no tables the first time. They remain for the second. */
	for (i = 1; i <= 2; i++) {
		ret = vecs_map(priv, iova, vecs, count, &mapped);
		KUNIT_ASSERT_NO_ERRNO_FN(test, "map_vecs", ret);
		/* What was mapped is added to what the caller passes. */
		KUNIT_ASSERT_EQ(test, mapped, i * len);
		vecs_check(test, iova, vecs, count);
		KUNIT_ASSERT_EQ(test,
				count_valids_single(test, priv->smallest_pgsz),
				count);
		do_unmap(test, iova, len);
		KUNIT_ASSERT_EQ(test, count_valids(test), 0);
	}
}

/*
 * The ranges of test_vecs_mixed_sizes(). The IOVA of the first one that is not
 * small is a multiple of 2 MiB.
 */
#define VECS_SMALL_PAGES 44
static const struct {
	u8 large; /* times 2 MiB */
	u8 small; /* and so many pages */
	bool alike; /* paddr and IOVA are equal modulo 2 MiB */
} vecs_mixed[] = {
	{ 0, 1, false }, { 0, 2, false }, { 0, 3, false }, { 0, 16, false },
	{ 0, 1, true }, { 0, 2, true }, { 0, 3, true }, { 0, 16, true },
	{ 1, 0, true }, { 1, 0, false }, { 1, 1, true },
	/* From here on, the IOVA is a page after a multiple of 2 MiB. */
	{ 1, 0, true }, { 2, 0, true }, { 1, 1, false }, { 0, 1, false },
};

static void test_vecs_mixed_sizes(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	size_t pgsz = priv->smallest_pgsz;
	pt_vaddr_t iova = VECS_IOVA + SZ_2M - VECS_SMALL_PAGES * pgsz;
	/* Of equal alignment for all leaves that fit in the ranges */
	pt_vaddr_t other = iova + SZ_1G;
	struct phys_vec vecs[ARRAY_SIZE(vecs_mixed)];
	unsigned int large = 0;
	struct rnd_state rnd;
	phys_addr_t *model;
	unsigned int pages;
	size_t mapped = 0;
	size_t len = 0;
	unsigned int i;
	size_t size;
	size_t pos;
	int ret;

	prandom_seed_state(&rnd, 0x10002);
	for (i = 0; i < ARRAY_SIZE(vecs); i++) {
		if (vecs_mixed[i].alike)
			vecs[i].paddr = vecs_paddr(priv, &rnd, iova + len,
						   ilog2(SZ_2M));
		else
			vecs[i].paddr = vecs_unlike(priv, &rnd, iova + len);
		vecs[i].len = vecs_mixed[i].large * SZ_2M +
			      vecs_mixed[i].small * pgsz;
		len += vecs[i].len;
	}

	pages = len >> priv->smallest_pgsz_lg2;
	model = kunit_kcalloc(test, pages, sizeof(*model), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, model);
	vecs_to_model(priv, model, vecs, ARRAY_SIZE(vecs));

	ret = vecs_map(priv, iova, vecs, ARRAY_SIZE(vecs), &mapped);
	KUNIT_ASSERT_NO_ERRNO_FN(test, "map_vecs", ret);
	KUNIT_ASSERT_EQ(test, mapped, len);
	vecs_check_model(test, iova, model, pages);

	for (i = 0, pos = 0; i < ARRAY_SIZE(vecs); pos += vecs[i++].len)
		do_map(test, other + pos, vecs[i].paddr, vecs[i].len);

	/* Unmapping the first page of a leaf removes the leaf. */
	for (pos = 0; pos < len; pos += size) {
		size_t expected = iommu_unmap(&priv->domain, other + pos, pgsz);

		size = iommu_unmap(&priv->domain, iova + pos, pgsz);
		KUNIT_ASSERT_EQ_MSG(test, size, expected, "at 0x%zx", pos);
		KUNIT_ASSERT_GE(test, size, pgsz);
		large += size == SZ_2M;
	}
	KUNIT_ASSERT_EQ(test, pos, len);
	KUNIT_ASSERT_EQ(test, count_valids(test), 0);

	/* The two alike at a multiple, and one in the middle of 4 MiB */
	if (priv->safe_pgsize_bitmap & SZ_2M)
		KUNIT_ASSERT_EQ(test, large, 3);
}

/* State of test_vecs_random() */
struct vecs_random {
	phys_addr_t *model; /* of each page of the window */
	unsigned int pages; /* of the window, which starts at VECS_IOVA */
	struct rnd_state rnd;
	struct phys_vec vecs[32];
	unsigned int count; /* of @vecs */
	/* Maps of map_range(), in window pages */
	struct {
		unsigned int page;
		unsigned int pages;
	} stays[4];
};

static void vecs_random_unmap(struct kunit *test, struct vecs_random *r,
			      unsigned int page, unsigned int pages)
{
	struct kunit_iommu_priv *priv = test->priv;

	do_unmap(test, VECS_IOVA + page * priv->smallest_pgsz,
		 pages * priv->smallest_pgsz);
	memset(r->model + page, 0, pages * sizeof(*r->model));
}

/* The number of pages at @page that are not mapped */
static unsigned int vecs_random_free(const struct vecs_random *r,
				     unsigned int page)
{
	unsigned int end = page;

	while (end < r->pages && !r->model[end])
		end++;
	return end - page;
}

/* A random range at @iova, of at most @pages pages */
static void vecs_random_vec(struct kunit_iommu_priv *priv,
			    struct vecs_random *r, struct phys_vec *vec,
			    pt_vaddr_t iova, unsigned int pages)
{
	/* From alike modulo a page to alike modulo 8 MiB, if pages are 4 KiB */
	unsigned int lg2 = priv->smallest_pgsz_lg2 + vecs_below(&r->rnd, 12);

	vec->paddr = vecs_paddr(priv, &r->rnd, iova, lg2);
	vec->len = (1 + vecs_below(&r->rnd, pages)) * priv->smallest_pgsz;
}

/* Replace one of the maps of map_range(), so that there is always some room. */
static void vecs_random_stay(struct kunit *test, struct vecs_random *r,
			     unsigned int slot)
{
	unsigned int page = vecs_below(&r->rnd, r->pages);
	struct kunit_iommu_priv *priv = test->priv;
	pt_vaddr_t iova = VECS_IOVA + page * priv->smallest_pgsz;
	struct phys_vec vec;
	unsigned int room;

	if (r->stays[slot].pages)
		vecs_random_unmap(test, r, r->stays[slot].page,
				  r->stays[slot].pages);
	r->stays[slot].pages = 0;

	room = vecs_random_free(r, page);
	if (!room)
		return;
	vecs_random_vec(priv, r, &vec, iova, min(room, 8U));
	do_map(test, iova, vec.paddr, vec.len);
	vecs_to_model(priv, r->model + page, &vec, 1);
	r->stays[slot].page = page;
	r->stays[slot].pages = vec.len >> priv->smallest_pgsz_lg2;
}

/* Map a random array where there is room, look at all pages, and unmap it. */
static void vecs_random_round(struct kunit *test, struct vecs_random *r)
{
	unsigned int page = vecs_below(&r->rnd, r->pages);
	unsigned int max = 1 + vecs_below(&r->rnd, ARRAY_SIZE(r->vecs));
	struct kunit_iommu_priv *priv = test->priv;
	pt_vaddr_t iova = VECS_IOVA + page * priv->smallest_pgsz;
	unsigned int room = vecs_random_free(r, page);
	unsigned int pages = 0;
	size_t mapped = 0;
	int ret;

	for (r->count = 0; r->count < max && pages < room; r->count++) {
		struct phys_vec *vec = &r->vecs[r->count];
		/* Few may be long, as these take most of the room. */
		unsigned int most = vecs_below(&r->rnd, 4) ? 4 : 1200;

		vecs_random_vec(priv, r, vec,
				iova + pages * priv->smallest_pgsz,
				min(most, room - pages));
		pages += vec->len >> priv->smallest_pgsz_lg2;
	}
	if (!pages)
		return;

	ret = vecs_map(priv, iova, r->vecs, r->count, &mapped);
	KUNIT_ASSERT_NO_ERRNO_FN(test, "map_vecs", ret);
	KUNIT_ASSERT_EQ(test, mapped, pages * priv->smallest_pgsz);
	vecs_to_model(priv, r->model + page, r->vecs, r->count);
	vecs_check_model(test, VECS_IOVA, r->model, r->pages);
	vecs_random_unmap(test, r, page, pages);
}

static void test_vecs_random(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	struct vecs_random *r;
	unsigned int i;

	r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r);
	r->pages = SZ_8M >> priv->smallest_pgsz_lg2;
	r->model = kunit_kcalloc(test, r->pages, sizeof(*r->model), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r->model);
	prandom_seed_state(&r->rnd, 0x10003);

	for (i = 0; i < 320; i++) {
		if (i % 16 == 0)
			vecs_random_stay(test, r,
					 i / 16 % ARRAY_SIZE(r->stays));
		vecs_random_round(test, r);
		cond_resched();
	}

	for (i = 0; i < ARRAY_SIZE(r->stays); i++)
		if (r->stays[i].pages)
			vecs_random_unmap(test, r, r->stays[i].page,
					  r->stays[i].pages);
	vecs_check_model(test, VECS_IOVA, r->model, r->pages);
	KUNIT_ASSERT_EQ(test, count_valids(test), 0);
}

#define VECS_BUSY_PAGES 20

/* Map 20 pages at @iova; a leaf of @busy_len is in the way of page @k. */
static void vecs_busy_at(struct kunit *test, pt_vaddr_t iova, unsigned int k,
			 size_t busy_len)
{
	struct kunit_iommu_priv *priv = test->priv;
	pt_vaddr_t busy = iova + k * priv->smallest_pgsz;
	phys_addr_t model[VECS_BUSY_PAGES];
	/* Of 1 and 3 pages, so that some fail in the middle of a range */
	struct phys_vec vecs[VECS_BUSY_PAGES / 2];
	struct rnd_state rnd;
	phys_addr_t busy_pa;
	size_t mapped = 0;
	size_t len;
	int ret;

	prandom_seed_state(&rnd, 0x10004 + k);
	len = vecs_fill(priv, &rnd, iova, vecs, ARRAY_SIZE(vecs), 3);
	KUNIT_ASSERT_EQ(test, len, VECS_BUSY_PAGES * priv->smallest_pgsz);
	vecs_to_model(priv, model, vecs, ARRAY_SIZE(vecs));
	busy_pa = vecs_paddr(priv, &rnd, busy, ilog2(busy_len));
	do_map(test, busy, busy_pa, busy_len);

	ret = vecs_map(priv, iova, vecs, ARRAY_SIZE(vecs), &mapped);
	KUNIT_ASSERT_EQ(test, ret, -EADDRINUSE);
	KUNIT_ASSERT_EQ(test, mapped, k * priv->smallest_pgsz);
	KUNIT_ASSERT_EQ(test, count_valids(test), k + 1);
	vecs_check_model(test, iova, model, k);

	/* As a caller does after an error */
	if (mapped)
		do_unmap(test, iova, mapped);
	KUNIT_ASSERT_EQ(test, count_valids(test), 1);
	check_iova(test, busy, busy_pa, busy_len);
	do_unmap(test, busy, busy_len);
}

/*
 * One leaf, if the format has leaves of 16 pages, and page @k of it is in the way:
 * map_range() maps as much.
 */
static void vecs_busy_contiguous(struct kunit *test, unsigned int k)
{
	struct kunit_iommu_priv *priv = test->priv;
	pt_vaddr_t iova = VECS_IOVA + 304 * priv->smallest_pgsz;
	pt_vaddr_t other = iova + SZ_1G, page = k * priv->smallest_pgsz;
	size_t mapped = 0, expected = 0;
	struct rnd_state rnd;
	phys_addr_t busy_pa;
	struct phys_vec vec;
	int ret;

	prandom_seed_state(&rnd, 0x10008 + k);
	busy_pa = vecs_unlike(priv, &rnd, iova + page);
	do_map(test, iova + page, busy_pa, priv->smallest_pgsz);
	do_map(test, other + page, busy_pa, priv->smallest_pgsz);
	vec.paddr = vecs_paddr(priv, &rnd, iova, ilog2(SZ_2M));
	vec.len = 16 * priv->smallest_pgsz;

	ret = priv->iommu->ops->map_range(priv->iommu, other, vec.paddr, vec.len,
					  IOMMU_READ | IOMMU_WRITE, GFP_KERNEL,
					  &expected);
	KUNIT_ASSERT_EQ(test, ret, -EADDRINUSE);
	ret = vecs_map(priv, iova, &vec, 1, &mapped);
	KUNIT_ASSERT_EQ(test, ret, -EADDRINUSE);
	KUNIT_ASSERT_EQ(test, mapped, expected);

	if (mapped) {
		do_unmap(test, iova, mapped);
		do_unmap(test, other, mapped);
	}
	KUNIT_ASSERT_EQ(test, count_valids(test), 2);
	do_unmap(test, iova + page, priv->smallest_pgsz);
	do_unmap(test, other + page, priv->smallest_pgsz);
}

static void test_vecs_busy(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	pt_vaddr_t pgsz = priv->smallest_pgsz;
	unsigned int k;

	for (k = 0; k < VECS_BUSY_PAGES; k++) {
		/* In one leaf table, and half of the pages in each of two */
		vecs_busy_at(test, VECS_IOVA + 300 * pgsz, k, pgsz);
		vecs_busy_at(test, VECS_IOVA + (VECS_TABLE_PAGES - 10) * pgsz,
			     k, pgsz);
		/* Where the walk expects a table, there is a leaf. */
		if (priv->safe_pgsize_bitmap & SZ_2M)
			vecs_busy_at(test, VECS_IOVA + 8 * SZ_2M - k * pgsz, k,
				     SZ_2M);
	}
	for (k = 0; k < 16; k++)
		vecs_busy_contiguous(test, k);
}

static void test_vecs_no_memory(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	/* The pages before the next leaf table, which must be allocated */
	const unsigned int before = 7;
	pt_vaddr_t iova = VECS_IOVA +
			  (VECS_TABLE_PAGES - before) * priv->smallest_pgsz;
	struct phys_vec vecs[20];
	struct rnd_state rnd;
	size_t mapped = 0;
	size_t len;
	int ret = 0;

	prandom_seed_state(&rnd, 0x10005);
	len = vecs_fill(priv, &rnd, iova, vecs, ARRAY_SIZE(vecs), 1);
	/* The first table is there. */
	do_map(test, VECS_IOVA, vecs[0].paddr, priv->smallest_pgsz);

	/* iommu_alloc_pages_node_sz() warns about the flag, and returns NULL */
	kunit_warning_suppress(test) {
		ret = vecs_map_gfp(priv, iova, vecs, ARRAY_SIZE(vecs),
				   GFP_KERNEL | __GFP_HIGHMEM, &mapped);
	}
	KUNIT_ASSERT_EQ(test, ret, -ENOMEM);
	KUNIT_ASSERT_EQ(test, mapped, before * priv->smallest_pgsz);
	vecs_check(test, iova, vecs, before);
	KUNIT_ASSERT_EQ(test, count_valids(test), before + 1);
	do_unmap(test, iova, mapped);

	mapped = 0;
	ret = vecs_map(priv, iova, vecs, ARRAY_SIZE(vecs), &mapped);
	KUNIT_ASSERT_NO_ERRNO_FN(test, "map_vecs", ret);
	KUNIT_ASSERT_EQ(test, mapped, len);
	vecs_check(test, iova, vecs, ARRAY_SIZE(vecs));
	do_unmap(test, iova, len);
	do_unmap(test, VECS_IOVA, priv->smallest_pgsz);
	KUNIT_ASSERT_EQ(test, count_valids(test), 0);
}

/* A range of @len at @paddr gets @err, also after another range. */
static void vecs_refuse(struct kunit *test, phys_addr_t paddr, size_t len,
			int err)
{
	struct kunit_iommu_priv *priv = test->priv;
	struct phys_vec vecs[3];
	struct rnd_state rnd;
	size_t mapped = 0;
	int ret;

	prandom_seed_state(&rnd, 0x10006);
	vecs_fill(priv, &rnd, VECS_IOVA, vecs, ARRAY_SIZE(vecs), 1);
	vecs[1].paddr = paddr;
	vecs[1].len = len;

	ret = vecs_map(priv, VECS_IOVA, vecs, 3, &mapped);
	KUNIT_ASSERT_EQ(test, ret, err);
	KUNIT_ASSERT_EQ(test, mapped, priv->smallest_pgsz);
	KUNIT_ASSERT_EQ(test, count_valids(test), 1);
	vecs_check(test, VECS_IOVA, vecs, 1);
	do_unmap(test, VECS_IOVA, mapped);

	mapped = 0;
	ret = vecs_map(priv, VECS_IOVA, vecs + 1, 2, &mapped);
	KUNIT_ASSERT_EQ(test, ret, err);
	KUNIT_ASSERT_EQ(test, mapped, 0);
	KUNIT_ASSERT_EQ(test, count_valids(test), 0);
}

static void test_vecs_refuses(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	u64 oa_end = 1ULL << priv->common->max_oasz_lg2;
	pt_vaddr_t pgsz = priv->smallest_pgsz;
	struct rnd_state rnd;
	struct phys_vec vec;
	size_t mapped = 0;
	int ret;

	prandom_seed_state(&rnd, 0x10007);
	vec.paddr = vecs_unlike(priv, &rnd, VECS_IOVA);

	/* Empty, and misaligned */
	vecs_refuse(test, vec.paddr, 0, -EINVAL);
	vecs_refuse(test, vec.paddr, pgsz + pgsz / 2, -EINVAL);
	vecs_refuse(test, vec.paddr + pgsz / 2, pgsz, -EINVAL);

	/* The range wraps, starts or ends beyond what the table can store. */
	vecs_refuse(test, -pgsz, 2 * pgsz, -ERANGE);
	if (oa_end - 1 < PHYS_ADDR_MAX) {
		vecs_refuse(test, oa_end, pgsz, -ERANGE);
		vecs_refuse(test, oa_end - pgsz, 2 * pgsz, -ERANGE);
	}

	/* The IOVA is misaligned, or wraps. */
	vec.len = pgsz;
	ret = vecs_map(priv, VECS_IOVA + pgsz / 2, &vec, 1, &mapped);
	KUNIT_ASSERT_EQ(test, ret, -EINVAL);
	vec.len = 2 * pgsz;
	ret = vecs_map(priv, (unsigned long)-pgsz, &vec, 1, &mapped);
	KUNIT_ASSERT_EQ(test, ret, -EOVERFLOW);
	KUNIT_ASSERT_EQ(test, mapped, 0);
	KUNIT_ASSERT_EQ(test, count_valids(test), 0);
}

/* unmap_range() clears pages as fast as map_vecs() installs them. */
static void test_vecs_unmap_misaligned(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	pt_vaddr_t pgsz = priv->smallest_pgsz;
	struct phys_vec vecs[3];
	struct rnd_state rnd;
	size_t mapped = 0;
	size_t len;
	int ret;

	prandom_seed_state(&rnd, 0x1000a);
	len = vecs_fill(priv, &rnd, VECS_IOVA, vecs, ARRAY_SIZE(vecs), 1);
	ret = vecs_map(priv, VECS_IOVA, vecs, ARRAY_SIZE(vecs), &mapped);
	KUNIT_ASSERT_NO_ERRNO_FN(test, "map_vecs", ret);
	KUNIT_ASSERT_EQ(test, iommu_unmap(&priv->domain, VECS_IOVA + pgsz / 2,
					  pgsz), 0);
	vecs_check(test, VECS_IOVA, vecs, ARRAY_SIZE(vecs));
	do_unmap(test, VECS_IOVA, len);
	KUNIT_ASSERT_EQ(test, count_valids(test), 0);
}

static void test_vecs_grows_top(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	struct pt_common *common = priv->common;
	/* The pages before the end of the top table, in turn some and none */
	unsigned int before = 3;
	struct phys_vec vecs[8];
	struct rnd_state rnd;

	if (!pt_feature(common, PT_FEAT_DYNAMIC_TOP))
		kunit_skip(test, "PT_FEAT_DYNAMIC_TOP not set for this format");
	if (IS_32BIT)
		kunit_skip(test, "Unable to test on 32bit");
	if (common->max_vasz_lg2 <= pt_top_range(common).max_vasz_lg2)
		kunit_skip(test, "The starting level is the highest");

	prandom_seed_state(&rnd, 0x10008);
	while (common->max_vasz_lg2 != pt_top_range(common).max_vasz_lg2) {
		struct pt_range top = pt_top_range(common);
		pt_vaddr_t iova =
			top.last_va + 1 - before * priv->smallest_pgsz;
		size_t mapped = 0;
		size_t len;
		int ret;

		len = vecs_fill(priv, &rnd, iova, vecs, ARRAY_SIZE(vecs), 1);
		ret = vecs_map(priv, iova, vecs, ARRAY_SIZE(vecs), &mapped);
		KUNIT_ASSERT_NO_ERRNO_FN(test, "map_vecs", ret);
		KUNIT_ASSERT_EQ(test, mapped, len);
		KUNIT_ASSERT_EQ(test, pt_top_range(common).top_level,
				top.top_level + 1);
		vecs_check(test, iova, vecs, ARRAY_SIZE(vecs));
		do_unmap(test, iova, len);
		before = 3 - before;
	}
	KUNIT_ASSERT_EQ(test, count_valids(test), 0);
}

/* Seconds that test_vecs_shared_table() takes at least */
static unsigned int vecs_seconds;
module_param(vecs_seconds, uint, 0444);

#define VECS_ROUNDS 2000
/* The rounds with one leaf table, after which both threads need another one */
#define VECS_TABLE_ROUNDS 16
/* Leaf tables after VECS_IOVA that each format has. After that they are reused. */
#define VECS_TABLES 512

/* A thread of test_vecs_shared_table() */
struct vecs_thread {
	struct kunit_iommu_priv *priv;
	struct vecs_thread *peer;
	unsigned int nr;
	/* The last one with a new table that this thread came to */
	unsigned int round;
	unsigned long end;
	const char *failed;
	struct completion done;
	struct rnd_state rnd;
	struct phys_vec vecs[32];
	/* Of @vecs, which are of 1 and 3 pages in turn */
	phys_addr_t model[64];
};

/* Returns what failed. */
static const char *vecs_thread_round(struct vecs_thread *t, unsigned int round)
{
	unsigned int count = 1 + vecs_below(&t->rnd, ARRAY_SIZE(t->vecs));
	unsigned int table = round / VECS_TABLE_ROUNDS % VECS_TABLES;
	struct kunit_iommu_priv *priv = t->priv;
	size_t pgsz = priv->smallest_pgsz;
	size_t mapped = 0;
	pt_vaddr_t iova;
	unsigned int i;
	size_t len;

	/* One thread ends in the middle of the table, the other starts there */
	iova = VECS_IOVA + table * VECS_TABLE_PAGES * pgsz;
	iova += VECS_TABLE_PAGES / 2 * pgsz;
	len = vecs_fill(priv, &t->rnd, iova, t->vecs, count, 3);
	if (t->nr == 0)
		iova -= len;
	vecs_to_model(priv, t->model, t->vecs, count);

	if (vecs_map(priv, iova, t->vecs, count, &mapped))
		return "map_vecs";
	if (mapped != len)
		return "mapped";
	for (i = 0; i < len >> priv->smallest_pgsz_lg2; i++)
		if (iommu_iova_to_phys(&priv->domain, iova + i * pgsz) !=
		    t->model[i])
			return "iova_to_phys";
	if (iommu_unmap(&priv->domain, iova, len) != len)
		return "unmap";
	if (iommu_iova_to_phys(&priv->domain, iova))
		return "iova_to_phys after unmap";
	return NULL;
}

/* An assertion would end the thread, so report to the test. */
static int vecs_thread(void *arg)
{
	struct vecs_thread *t = arg;
	unsigned int round;

	for (round = 0; !t->failed; round++) {
		if (round >= VECS_ROUNDS && !time_before(jiffies, t->end))
			break;
		/* Be the two first users of a new table at the same time. */
		if (round % VECS_TABLE_ROUNDS == 0) {
			WRITE_ONCE(t->round, round);
			while (READ_ONCE(t->peer->round) < round)
				cond_resched();
		}
		t->failed = vecs_thread_round(t, round);
	}

	/* The peer never waits for a thread that has ended. */
	WRITE_ONCE(t->round, UINT_MAX);
	kthread_complete_and_exit(&t->done, 0);
}

static void test_vecs_shared_table(struct kunit *test)
{
	struct kunit_iommu_priv *priv = test->priv;
	struct vecs_thread *threads;
	unsigned int i;

	threads = kunit_kcalloc(test, 2, sizeof(*threads), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, threads);
	for (i = 0; i < 2; i++) {
		threads[i].priv = priv;
		threads[i].peer = &threads[!i];
		threads[i].nr = i;
		threads[i].end = jiffies + vecs_seconds * HZ;
		init_completion(&threads[i].done);
		prandom_seed_state(&threads[i].rnd, 0x10009 + i);
	}

	/* No assertion until both have ended: they use what the test frees. */
	for (i = 0; i < 2; i++) {
		struct task_struct *task;

		task = kthread_run(vecs_thread, &threads[i], "vecs/%u", i);
		if (IS_ERR(task)) {
			threads[i].failed = "kthread_run";
			WRITE_ONCE(threads[i].round, UINT_MAX);
			complete(&threads[i].done);
		}
	}
	for (i = 0; i < 2; i++)
		wait_for_completion(&threads[i].done);

	for (i = 0; i < 2; i++)
		KUNIT_EXPECT_NULL_MSG(test, threads[i].failed, "thread %u: %s",
				      i, threads[i].failed);
	KUNIT_EXPECT_EQ(test, count_valids(test), 0);
}

static struct kunit_case vecs_test_cases[] = {
	KUNIT_CASE_FMT(test_vecs_pages),
	KUNIT_CASE_FMT(test_vecs_mixed_sizes),
	KUNIT_CASE_FMT(test_vecs_random),
	KUNIT_CASE_FMT(test_vecs_busy),
	KUNIT_CASE_FMT(test_vecs_no_memory),
	KUNIT_CASE_FMT(test_vecs_refuses),
	KUNIT_CASE_FMT(test_vecs_unmap_misaligned),
	KUNIT_CASE_FMT(test_vecs_grows_top),
	KUNIT_CASE_FMT(test_vecs_shared_table),
	{},
};

/*
 * The fixture without a check for leaks: NR_SECONDARY_PAGETABLE lacks what each
 * CPU has not added yet, and these tests allocate on more than one CPU.
 */
static struct kunit_suite NS(vecs_suite) = {
	.name = __stringify(NS(vecs_test)),
	.init = pt_kunit_generic_pt_init,
	.exit = pt_kunit_generic_pt_exit,
	.test_cases = vecs_test_cases,
};

kunit_test_suites(&NS(vecs_suite));

#endif /* __GENERIC_PT_KUNIT_IOMMU_VECS_H */

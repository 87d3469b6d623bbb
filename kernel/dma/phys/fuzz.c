// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer: random operations with random arguments, each compared with what
 * fuzz_model.c says must come of it. In debugfs:
 *
 *	echo "<seed> <operations> [<lie>]" >dma_phys_fuzz/run
 *	cat dma_phys_fuzz/run
 *
 * A seed repeats a run. What it depends on beside the seed is kept out of it:
 * which IOVA, which slot, and so which segments happen to meet.
 */
#include <linux/debugfs.h>
#include <linux/dma-direct.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/swiotlb.h>
#include <linux/uaccess.h>

#include "fuzz.h"

#define OK	BIT(0)
#define BAD	fuzz_bit(-EINVAL)

/* Maps with which one exhausts what there is. */
#define HOGS	512

/* Operations for which edu is left alone with a transfer. */
#define EDU_PATIENCE	256

static const char *const lies[FUZZ_LIES] = {
	[FUZZ_TRUTH] = "truth",
	[FUZZ_LIE_ERRNO] = "errno",
	[FUZZ_LIE_ADDRESS] = "address",
	[FUZZ_LIE_SEGMENT] = "segment",
	[FUZZ_LIE_DATA] = "data",
	[FUZZ_LIE_LEAK] = "leak",
};

/* splitmix64 */
static u64 random(struct fuzz *fuzz)
{
	u64 z = fuzz->random += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static u64 below(struct fuzz *fuzz, u64 n)
{
	return random(fuzz) % n;
}

static bool one_in(struct fuzz *fuzz, u64 n)
{
	return !below(fuzz, n);
}

/* A number that somebody has computed wrongly. */
static u64 odd(struct fuzz *fuzz)
{
	static const u64 some[] = {
		0, 1, 2, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, SZ_1M, SZ_1G,
		U32_MAX, 1ULL << 32, 1ULL << 43, (1ULL << 43) + IO_TLB_SIZE,
		S64_MAX, 1ULL << 63, U64_MAX - PAGE_SIZE, U64_MAX - 1, U64_MAX,
	};

	if (one_in(fuzz, 4))
		return random(fuzz);
	return some[below(fuzz, ARRAY_SIZE(some))];
}

static struct fuzz_dev *any_dev(struct fuzz *fuzz)
{
	return &fuzz->dev[one_in(fuzz, 4) ? FUZZ_LENDER : FUZZ_EDU];
}

/* What a range must be where it was refused: not written. */
#define UNWRITTEN	0xfeedULL

static void check_cpu_range(struct fuzz *fuzz, enum fuzz_op op, int err,
			    u32 allowed, const struct cpu_phys *range,
			    phys_addr_t addr, size_t len)
{
	if (err) {
		addr = UNWRITTEN;
		len = UNWRITTEN;
	}
	fuzz_done(fuzz, op, err, allowed);
	if (range->addr != addr || range->len != len)
		fuzz_wrong(fuzz, "%s made %pa+%zx, expected %pa+%zx",
			   fuzz_op_names[op], &range->addr, range->len, &addr,
			   len);
}

static void check_mmio_range(struct fuzz *fuzz, enum fuzz_op op, int err,
			     u32 allowed, const struct mmio_phys *range,
			     phys_addr_t addr, size_t len, u32 peer)
{
	if (err) {
		addr = UNWRITTEN;
		len = UNWRITTEN;
		peer = 0;
	}
	fuzz_done(fuzz, op, err, allowed);
	if (range->addr != addr || range->len != len || range->peer != peer)
		fuzz_wrong(fuzz, "%s made %pa+%zx of %u, expected %pa+%zx of %u",
			   fuzz_op_names[op], &range->addr, range->len,
			   range->peer, &addr, len, peer);
}

static void try_page(struct fuzz *fuzz, struct page *page, u64 offset, u64 len,
		     struct cpu_phys *range)
{
	u64 phys = page ? page_to_phys(page) : 0;
	u32 allowed = BAD;
	int err;

	*range = (struct cpu_phys){ UNWRITTEN, UNWRITTEN };
	if (page && offset <= U64_MAX - phys)
		allowed = fuzz_expect_cpu(fuzz, phys + offset, len);
	err = cpu_phys_from_page(page, offset, len, range);
	check_cpu_range(fuzz, FUZZ_FROM_PAGE, err, allowed, range,
			phys + offset, len);
}

static void try_virt(struct fuzz *fuzz, const void *virt, u64 len, bool bad,
		     struct cpu_phys *range)
{
	u64 phys = bad ? 0 : virt_to_phys((void *)virt);
	int err;

	*range = (struct cpu_phys){ UNWRITTEN, UNWRITTEN };
	err = cpu_phys_from_virt(virt, len, range);
	check_cpu_range(fuzz, FUZZ_FROM_VIRT, err,
			bad ? BAD : fuzz_expect_cpu(fuzz, phys, len), range,
			phys, len);
}

static void try_addr(struct fuzz *fuzz, u64 addr, u64 len,
		     struct cpu_phys *range)
{
	int err;

	*range = (struct cpu_phys){ UNWRITTEN, UNWRITTEN };
	err = cpu_phys_from_addr(addr, len, range);
	check_cpu_range(fuzz, FUZZ_FROM_ADDR, err,
			fuzz_expect_cpu(fuzz, addr, len), range, addr, len);
}

static void try_resource(struct fuzz *fuzz, const struct resource *res,
			 u64 offset, u64 len, bool bad,
			 struct mmio_phys *range)
{
	u64 start = res ? res->start : 0;
	u64 size = res ? min(res->end - res->start, U64_MAX - 1) + 1 : 0;
	int err;

	*range = (struct mmio_phys){ UNWRITTEN, UNWRITTEN, 0 };
	err = mmio_phys_from_resource(res, offset, len, range);
	check_mmio_range(fuzz, FUZZ_FROM_RESOURCE, err,
			 bad ? BAD : fuzz_expect_mmio(fuzz, start, size, offset,
						      len),
			 range, start + offset, len, 0);
}

static struct fuzz_peer *peer_of(struct fuzz *fuzz, struct pci_dev *owner,
				 int bar)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(fuzz->peer); i++)
		if (fuzz->peer[i].owner == owner && fuzz->peer[i].bar == bar)
			return &fuzz->peer[i];
	return NULL;
}

static bool is_memory(struct pci_dev *owner, int bar)
{
	return owner && bar >= 0 && bar < PCI_STD_NUM_BARS &&
	       pci_resource_flags(owner, bar) & IORESOURCE_MEM;
}

static void try_bar(struct fuzz *fuzz, struct pci_dev *owner, int bar,
		    u64 offset, u64 len, struct mmio_phys *range)
{
	struct fuzz_peer *peer = peer_of(fuzz, owner, bar);
	bool lent = peer && peer->lent;
	u64 start = 0;
	u32 allowed;
	int err;

	if (!is_memory(owner, bar)) {
		allowed = BAD;
	} else {
		start = pci_resource_start(owner, bar);
		allowed = fuzz_expect_mmio(fuzz, start,
					   pci_resource_len(owner, bar), offset,
					   len);
		if (!lent)
			allowed = (allowed & ~OK) | fuzz_bit(-ENODEV);
	}

	*range = (struct mmio_phys){ UNWRITTEN, UNWRITTEN, 0 };
	err = mmio_phys_from_bar(owner, bar, offset, len, range);
	check_mmio_range(fuzz, FUZZ_FROM_BAR, err, allowed, range,
			 start + offset, len, peer ? peer->id : 0);
}

/* Ranges that nobody maps. */

static void step_page(struct fuzz *fuzz)
{
	struct page *page = fuzz->memory + below(fuzz, 1024);
	u64 offset = one_in(fuzz, 6) ? odd(fuzz) : below(fuzz, 4 * PAGE_SIZE);
	u64 len = one_in(fuzz, 6) ? odd(fuzz) : below(fuzz, SZ_64K);
	struct cpu_phys range;

	if (one_in(fuzz, 16))
		page = one_in(fuzz, 2) ? NULL : pfn_to_page(0);
	try_page(fuzz, page, offset, len, &range);
}

static void step_virt(struct fuzz *fuzz)
{
	static u8 image;
	u8 stack;
	const void *const bad[] = {
		NULL, &image, &stack, fuzz->shadows, (void *)ULONG_MAX,
		(void *)PAGE_SIZE, (void *)step_page, fuzz_op_names[0],
		(void __force *)fuzz->edu.regs,
		phys_to_virt(fuzz->rams[fuzz->ram_count - 1].end + 1),
	};
	u64 len = one_in(fuzz, 6) ? odd(fuzz) : below(fuzz, SZ_64K);
	u8 *mem = page_address(fuzz->memory);
	struct cpu_phys range;

	if (one_in(fuzz, 4))
		try_virt(fuzz, bad[below(fuzz, ARRAY_SIZE(bad))], len, true,
			 &range);
	else
		try_virt(fuzz, mem + below(fuzz, SZ_4M), len, false, &range);
}

static void step_addr(struct fuzz *fuzz)
{
	unsigned int ram = below(fuzz, fuzz->ram_count);
	const u64 addrs[] = {
		page_to_phys(fuzz->memory) + below(fuzz, SZ_4M),
		fuzz->rams[ram].end - below(fuzz, 2 * PAGE_SIZE),
		fuzz->rams[ram].end + below(fuzz, 2),
		fuzz->rams[ram].start - below(fuzz, 2),
		fuzz->handle[0].own[DMA_PHYS_MMIO].phys, odd(fuzz),
	};
	u64 len = one_in(fuzz, 4) ? odd(fuzz) : below(fuzz, SZ_16K);
	struct cpu_phys range;

	try_addr(fuzz, addrs[below(fuzz, ARRAY_SIZE(addrs))], len, &range);
}

static void step_resource(struct fuzz *fuzz)
{
	struct fuzz_peer *lender = &fuzz->peer[FUZZ_LENDER];
	u64 offset = one_in(fuzz, 4) ? odd(fuzz) : below(fuzz, SZ_8M);
	u64 len = one_in(fuzz, 4) ? odd(fuzz) : below(fuzz, SZ_4M);
	struct resource res = lender->owner->resource[lender->bar];
	struct mmio_phys range;
	bool bad = false;

	switch (below(fuzz, 8)) {
	case 0:
		res = DEFINE_RES_MEM(page_to_phys(fuzz->memory), SZ_4M);
		break;
	case 1:
		res = DEFINE_RES_MEM(0, 0);
		res.end = U64_MAX;
		break;
	case 2:
		res.flags |= one_in(fuzz, 2) ? IORESOURCE_UNSET :
					       IORESOURCE_DISABLED;
		bad = true;
		break;
	case 3:
		if (one_in(fuzz, 2))
			res = DEFINE_RES_IO(0x60, 8);
		else
			swap(res.start, res.end);
		bad = true;
		break;
	}
	try_resource(fuzz, one_in(fuzz, 32) ? NULL : &res, offset, len, bad,
		     &range);
}

static void step_bar(struct fuzz *fuzz)
{
	static const int bars[] = { -1, 1, 5, 6, 7, 1000, INT_MIN, INT_MAX };
	struct fuzz_peer *peer = &fuzz->peer[below(fuzz, 2)];
	int bad = bars[below(fuzz, ARRAY_SIZE(bars))];
	int bar = one_in(fuzz, 4) ? bad : peer->bar;
	u64 offset = one_in(fuzz, 4) ? odd(fuzz) : below(fuzz, SZ_8M);
	u64 len = one_in(fuzz, 4) ? odd(fuzz) : below(fuzz, SZ_2M);
	struct mmio_phys range;

	try_bar(fuzz, one_in(fuzz, 32) ? NULL : peer->owner, bar, offset, len,
		&range);
}

/* Ranges that a handle maps. */

static void make_cpu(struct fuzz *fuzz, const struct fuzz_area *area,
		     size_t offset, size_t len, struct cpu_phys *range)
{
	u8 *mem = area->mem + offset;

	switch (below(fuzz, 4)) {
	case 0:
		try_addr(fuzz, area->phys + offset, len, range);
		break;
	case 1:
		try_page(fuzz, virt_to_page(mem), offset_in_page(mem), len,
			 range);
		break;
	default:
		try_virt(fuzz, mem, len, false, range);
	}
}

static void make_mmio(struct fuzz *fuzz, const struct fuzz_call *call,
		      const struct fuzz_area *area, size_t offset, size_t len,
		      struct mmio_phys *range)
{
	struct fuzz_peer *lender = &fuzz->peer[FUZZ_LENDER];
	struct resource *res = &lender->owner->resource[lender->bar];

	offset += area->phys - res->start;
	if (call->peer)
		try_bar(fuzz, lender->owner, lender->bar, offset, len, range);
	else
		try_resource(fuzz, res, offset, len, false, range);
}

/* Where the parts of an area lie in it; they do not overlap. */
struct layout {
	enum { IN_A_ROW, WHOLE_PAGES, ANYWHERE, LAYOUTS } style;
	size_t cell;
	size_t first;
	size_t at;
};

static void choose_part(struct fuzz *fuzz, struct layout *layout, size_t i,
			size_t count, size_t *offset, size_t *len)
{
	*offset = (layout->first + i) % count * layout->cell;
	switch (layout->style) {
	case IN_A_ROW:
		*offset = layout->at;
		*len = 1 + below(fuzz, layout->cell - 256);
		layout->at += *len;
		break;
	case WHOLE_PAGES:
		*len = PAGE_SIZE * (1 + below(fuzz, layout->cell / PAGE_SIZE));
		break;
	default:
		*len = below(fuzz, layout->cell);
		*offset += *len;
		*len = 1 + below(fuzz, layout->cell - *len);
	}
}

static void choose_parts(struct fuzz *fuzz, struct fuzz_call *call,
			 struct fuzz_area *area)
{
	struct layout layout = {
		.style = below(fuzz, LAYOUTS),
		.first = below(fuzz, FUZZ_RANGES),
		.at = below(fuzz, 256),
	};
	size_t offset, len;

	if (layout.style == WHOLE_PAGES)
		call->count = min(call->count, area->len / PAGE_SIZE);
	layout.cell = area->len / call->count;
	if (layout.style == WHOLE_PAGES)
		layout.cell = round_down(layout.cell, PAGE_SIZE);

	for (size_t i = 0; i < call->count; i++) {
		choose_part(fuzz, &layout, i, call->count, &offset, &len);
		if (call->kind == DMA_PHYS_CPU)
			make_cpu(fuzz, area, offset, len, &call->cpu[i]);
		else
			make_mmio(fuzz, call, area, offset, len,
				  &call->mmio[i]);
	}
	call->area = area;
}

/* Device memory that nobody looks at: edu's registers, or no one's at all. */
static void choose_blind(struct fuzz *fuzz, struct fuzz_call *call)
{
	struct fuzz_peer *edu = &fuzz->peer[FUZZ_EDU];

	for (size_t i = 0; i < call->count; i++) {
		u64 at = (2 * i + 1) * SZ_64K + below(fuzz, PAGE_SIZE);
		size_t len = 1 + below(fuzz, SZ_16K);

		if (call->peer) {
			call->peer = edu;
			try_bar(fuzz, edu->owner, edu->bar, at % SZ_512K, len,
				&call->mmio[i]);
		} else {
			call->mmio[i] = (struct mmio_phys){ BIT_ULL(39) + at,
							    len, 0 };
		}
	}
}

static void set_peer(struct fuzz_call *call, u32 id)
{
	call->peer = NULL;
	for (size_t i = 0; i < call->count; i++)
		call->mmio[i].peer = id;
}

static void choose_mmio(struct fuzz *fuzz, struct fuzz_call *call,
			struct fuzz_handle *handle)
{
	bool of_edu = one_in(fuzz, 4);
	struct fuzz_peer *peer = &fuzz->peer[of_edu ? FUZZ_EDU : FUZZ_LENDER];

	call->peer = peer->lent && one_in(fuzz, 2) ? peer : NULL;
	if (of_edu)
		choose_blind(fuzz, call);
	else
		choose_parts(fuzz, call, &handle->own[DMA_PHYS_MMIO]);

	/* One of none, and all of one that never was or that has left. */
	if (one_in(fuzz, 12))
		call->mmio[0].peer = 0;
	else if (one_in(fuzz, 12))
		set_peer(call, peer->id + 1000);
	else if (!peer->lent && one_in(fuzz, 2))
		set_peer(call, peer->id);
	if (!call->mmio[0].peer)
		call->peer = NULL;
}

/* One range is none, or longer than anything. */
static void spoil_range(struct fuzz *fuzz, struct fuzz_call *call)
{
	size_t i = below(fuzz, call->count);
	bool cpu = call->kind == DMA_PHYS_CPU;
	phys_addr_t *addr = cpu ? &call->cpu[i].addr : &call->mmio[i].addr;
	size_t *len = cpu ? &call->cpu[i].len : &call->mmio[i].len;

	call->area = NULL;
	switch (below(fuzz, 4)) {
	case 0:
		*len = 0;
		break;
	case 1:
		*len = U64_MAX - *addr + 2 + below(fuzz, 100);
		break;
	case 2:
		/* Without an IOMMU it is an address as any other. */
		if (call->dev && call->dev->iommu)
			*addr = 0;
		else
			*len = 0;
		break;
	default:
		*len = 1ULL << (one_in(fuzz, 2) ? 43 : 32 + below(fuzz, 11));
		/*
		 * Where there is nothing, and no other range: of two maps at
		 * one address dma-debug takes one for the other.
		 */
		*addr = (1ULL << 44) + (below(fuzz, SZ_16M) << PAGE_SHIFT);
		/* More than any IOVA: page tables for so much have no end. */
		if (call->dev && call->dev->iommu)
			*len = 1ULL << 63;
		/* Nobody may write there, were it mapped. */
		if (valid_dma_direction(call->dir))
			call->dir = DMA_TO_DEVICE;
	}
}

static void choose_ranges(struct fuzz *fuzz, struct fuzz_call *call,
			  struct fuzz_handle *handle)
{
	call->kind = one_in(fuzz, 3) ? DMA_PHYS_MMIO : DMA_PHYS_CPU;
	call->count = call->vec ? 1 + below(fuzz, FUZZ_RANGES) : 1;

	if (call->kind == DMA_PHYS_MMIO) {
		choose_mmio(fuzz, call, handle);
	} else if (one_in(fuzz, 24) && valid_dma_direction(call->dir)) {
		call->dir = DMA_TO_DEVICE;
		choose_parts(fuzz, call, &fuzz->shared);
	} else {
		choose_parts(fuzz, call, &handle->own[DMA_PHYS_CPU]);
	}
	if (one_in(fuzz, 16))
		spoil_range(fuzz, call);
	if (one_in(fuzz, 64))
		call->no_ranges = true;
	if (call->vec && one_in(fuzz, 64))
		call->count = 0;
}

static void choose_call(struct fuzz *fuzz, struct fuzz_call *call,
			struct fuzz_handle *handle)
{
	static const int dirs[] = {
		DMA_BIDIRECTIONAL, DMA_TO_DEVICE, DMA_FROM_DEVICE,
	};
	static const int bad_dirs[] = {
		DMA_NONE, -1, 4, 255, 256, 257, INT_MAX, INT_MIN,
	};

	*call = (struct fuzz_call){
		.dev = any_dev(fuzz),
		.vec = handle->is_vec,
		.dir = dirs[below(fuzz, ARRAY_SIZE(dirs))],
		.flags = one_in(fuzz, 3) ? DMA_PHYS_MANUAL_SYNC : 0,
		.live = handle->dev,
		.room = FUZZ_ROOM,
	};
	if (one_in(fuzz, 32))
		call->dev = one_in(fuzz, 4) ? NULL :
			    &fuzz->dev[FUZZ_NO_MASK + below(fuzz, 2)];
	if (one_in(fuzz, 32))
		call->dir = bad_dirs[below(fuzz, ARRAY_SIZE(bad_dirs))];
	if (one_in(fuzz, 32))
		call->flags = one_in(fuzz, 2) ? BIT(1 + below(fuzz, 31)) :
						random(fuzz);
	call->no_handle = one_in(fuzz, 64);
	choose_ranges(fuzz, call, handle);
}

static int do_call(struct fuzz_call *call, struct fuzz_handle *handle)
{
	struct device *dev = call->dev ? call->dev->dev : NULL;
	struct dma_phys_vec *vec = call->no_handle ? NULL : &handle->vec;
	struct dma_phys_map *map = call->no_handle ? NULL : &handle->map;
	const struct mmio_phys *mmio = call->no_ranges ? NULL : call->mmio;
	const struct cpu_phys *cpu = call->no_ranges ? NULL : call->cpu;

	if (call->vec && call->kind == DMA_PHYS_CPU)
		return dma_phys_vec_map_cpu(dev, cpu, call->count, call->dir,
					    call->flags, vec);
	if (call->vec)
		return dma_phys_vec_map_mmio(dev, mmio, call->count, call->dir,
					     call->flags, vec);
	if (call->kind == DMA_PHYS_CPU)
		return dma_phys_map_cpu(dev, cpu, call->dir, call->flags, map);
	return dma_phys_map_mmio(dev, mmio, call->dir, call->flags, map);
}

/* In any context: device memory of a peer not in interrupts. */
static int do_call_somewhere(struct fuzz *fuzz, struct fuzz_call *call,
			     struct fuzz_handle *handle)
{
	unsigned long flags;
	int err;

	if (!one_in(fuzz, 8))
		return do_call(call, handle);
	if (call->kind == DMA_PHYS_MMIO) {
		preempt_disable();
		err = do_call(call, handle);
		preempt_enable();
		return err;
	}
	local_irq_save(flags);
	err = do_call(call, handle);
	local_irq_restore(flags);
	return err;
}

/* What went wrong, with all that it may have depended on. */
static void explain(struct fuzz *fuzz, const struct fuzz_call *call)
{
	const struct fuzz_dev *dev = call->dev;
	bool cpu = call->kind == DMA_PHYS_CPU;
	size_t n = strlen(fuzz->wrong), most = sizeof(fuzz->wrong);

	n += scnprintf(fuzz->wrong + n, most - n,
		       "; %s of %zu ranges of kind %d, dir %d, flags %x, room %zu%s%s%s, dev %d",
		       call->vec ? "vec" : "map", call->count, call->kind,
		       call->dir, call->flags, call->room,
		       call->live ? ", live" : "",
		       call->no_handle ? ", no handle" : "",
		       call->no_ranges ? ", no ranges" : "",
		       dev ? (int)(dev - fuzz->dev) : -1);
	for (size_t i = 0; i < call->count; i++)
		n += scnprintf(fuzz->wrong + n, most - n, ", %llx+%zx",
			       cpu ? call->cpu[i].addr : call->mmio[i].addr,
			       cpu ? call->cpu[i].len : call->mmio[i].len);
	if (dev && dev->pdev)
		scnprintf(fuzz->wrong + n, most - n,
			  "; reach %llx, segments %llx %llx %llx%s%s%s",
			  dev->reach, dev->max, dev->boundary, dev->align,
			  dev->forced ? ", forced" : "",
			  dev->untrusted ? ", untrusted" : "",
			  dev->iommu ? ", iommu" : "");
}

static void take_back(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	bool iommu = handle->dev && handle->route == DMA_PHYS_IOMMU;
	struct iommu_domain *domain = iommu ? handle->dev->domain : NULL;
	size_t left;
	dma_addr_t first = iommu ? fuzz_dma_addr(handle, 0, &left) : 0;

	if (handle->is_vec)
		dma_phys_vec_unmap(&handle->vec);
	else
		dma_phys_unmap(&handle->map);
	if (handle->dev)
		fuzz_unmapped(fuzz, handle);
	fuzz_check_empty(fuzz, handle);
	if (iommu && iommu_iova_to_phys(domain, first))
		fuzz_wrong(fuzz, "%pad still leads somewhere", &first);
}

static void unmap(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	take_back(fuzz, handle);
	fuzz_done(fuzz, handle->is_vec ? FUZZ_VEC_UNMAP : FUZZ_UNMAP, 0, OK);
}

static void read_some(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	size_t at = below(fuzz, handle->size);

	fuzz_device_reads(fuzz, handle, at, min(128, handle->size - at));
	fuzz_done(fuzz, FUZZ_DEVICE_READS, 0, OK);
}

static void call_and_check(struct fuzz *fuzz, struct fuzz_call *call,
			   struct fuzz_handle *handle)
{
	static const enum fuzz_op ops[2][2] = {
		{ FUZZ_MAP_CPU, FUZZ_MAP_MMIO },
		{ FUZZ_VEC_MAP_CPU, FUZZ_VEC_MAP_MMIO },
	};
	struct dma_phys_map map = handle->map;
	struct dma_phys_vec vec;
	u32 allowed;
	int err;

	if (!call->live && call->vec)
		handle->vec.room = call->room;
	vec = handle->vec;
	allowed = fuzz_expect_map(fuzz, call);
	err = do_call_somewhere(fuzz, call, handle);
	fuzz_done(fuzz, ops[call->vec][call->kind], err, allowed);
	if (fuzz_right(fuzz) && err &&
	    (memcmp(&map, &handle->map, sizeof(map)) ||
	     memcmp(&vec, &handle->vec, sizeof(vec))))
		fuzz_wrong(fuzz, "the call failed and wrote to its handle");
	if (fuzz_right(fuzz) && !err) {
		fuzz_mapped(fuzz, handle, call);
		if (call->tight && fuzz_right(fuzz))
			take_back(fuzz, handle);
		else if (fuzz_right(fuzz))
			read_some(fuzz, handle);
	}
	if (!fuzz_right(fuzz))
		explain(fuzz, call);
}

/* Storage as it is asked for, or as somebody hoped that it would do. */
static void choose_room(struct fuzz *fuzz, struct fuzz_call *call)
{
	size_t size = 0, room;

	if (!call->vec || !call->dev || call->live)
		return;
	for (size_t i = 0; i < call->count; i++)
		size += call->kind == DMA_PHYS_CPU ? call->cpu[i].len :
						     call->mmio[i].len;
	room = dma_phys_vec_room(call->dev->dev, call->count, size);
	if (one_in(fuzz, 4)) {
		fuzz_done(fuzz, FUZZ_VEC_ROOM,
			  size && room < call->count ? -EINVAL : 0, OK);
		call->room = below(fuzz, 8);
		if (one_in(fuzz, 2) && room <= FUZZ_ROOM)
			call->room = room;
	}
	call->tight = call->room < room;
}

static void step_map(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	struct fuzz_call call;

	choose_call(fuzz, &call, handle);
	if (!fuzz_right(fuzz))
		return;
	choose_room(fuzz, &call);
	call_and_check(fuzz, &call, handle);
}

/* What is done with a handle. */

static void step_sync(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	size_t size = handle->dev ? handle->size : 0, offset, len;
	bool for_cpu = one_in(fuzz, 2), good;
	enum fuzz_op op;
	int err;

	offset = size ? below(fuzz, size) : 0;
	len = size ? 1 + below(fuzz, size - offset) : 1;
	if (one_in(fuzz, 4))
		len = one_in(fuzz, 2) ? size - offset + 1 : odd(fuzz);
	if (one_in(fuzz, 8))
		offset = one_in(fuzz, 2) ? size : odd(fuzz);
	good = handle->dev && len && offset < size && len <= size - offset;
	/* dma-debug knows no sync of memory that is mapped more than once. */
	if (good && !handle->is_vec &&
	    (!handle->area || handle->area->constant))
		return;

	op = for_cpu ? FUZZ_SYNC_FOR_CPU : FUZZ_SYNC_FOR_DEVICE;
	if (handle->is_vec) {
		err = for_cpu ?
		      dma_phys_vec_sync_for_cpu(&handle->vec, offset, len) :
		      dma_phys_vec_sync_for_device(&handle->vec, offset, len);
		op += FUZZ_VEC_SYNC_FOR_CPU - FUZZ_SYNC_FOR_CPU;
	} else {
		err = for_cpu ?
		      dma_phys_sync_for_cpu(&handle->map, offset, len) :
		      dma_phys_sync_for_device(&handle->map, offset, len);
	}
	fuzz_done(fuzz, op, err, good ? OK : BAD);
	if (!good)
		return;
	fuzz_synced(handle, offset, len, for_cpu);
	if (for_cpu)
		fuzz_cpu_reads(fuzz, handle, offset, min(len, 128));
	else
		fuzz_device_reads(fuzz, handle, offset, min(len, 128));
}

static void fill(struct fuzz *fuzz, u8 *data, size_t len)
{
	u64 word;

	for (size_t i = 0; i < len; i += sizeof(word)) {
		word = random(fuzz);
		memcpy(data + i, &word, min(sizeof(word), len - i));
	}
}

/* Allowed or not: what the device sees of it, the model knows. */
static void step_cpu_writes(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	struct fuzz_area *area = &handle->own[below(fuzz, 2)];
	size_t at = below(fuzz, area->len);
	size_t len = 1 + below(fuzz, min(64, area->len - at));

	fill(fuzz, area->shadow + at, len);
	if (area->mem)
		memcpy(area->mem + at, area->shadow + at, len);
	else
		memcpy_toio(area->io + at, area->shadow + at, len);
	fuzz_done(fuzz, FUZZ_CPU_WRITES, 0, OK);
}

static bool device_may_write(const struct fuzz_handle *handle)
{
	return handle->dir != DMA_TO_DEVICE && handle->area &&
	       !handle->area->constant;
}

static void step_device(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	size_t at = below(fuzz, handle->size), len;
	u8 data[64];

	if (one_in(fuzz, 2) || !device_may_write(handle)) {
		read_some(fuzz, handle);
		return;
	}
	len = 1 + below(fuzz, min(sizeof(data), handle->size - at));
	fill(fuzz, data, len);
	fuzz_device_writes(fuzz, handle, at, data, len);
	fuzz_done(fuzz, FUZZ_DEVICE_WRITES, 0, OK);
}

static void step_live(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	switch (below(fuzz, 12)) {
	case 0 ... 4:
		step_sync(fuzz, handle);
		break;
	case 5 ... 7:
		step_device(fuzz, handle);
		break;
	case 8:
		step_cpu_writes(fuzz, handle);
		break;
	case 9:
		if (one_in(fuzz, 4))
			step_map(fuzz, handle);
		break;
	default:
		unmap(fuzz, handle);
		if (one_in(fuzz, 4))
			unmap(fuzz, handle);
	}
}

static void step_empty(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	switch (below(fuzz, 8)) {
	case 0:
		step_sync(fuzz, handle);
		break;
	case 1:
		unmap(fuzz, handle);
		break;
	case 2:
		step_cpu_writes(fuzz, handle);
		break;
	default:
		step_map(fuzz, handle);
	}
}

/* Which handle it was, and what it mapped. */
static void explain_handle(struct fuzz *fuzz, const struct fuzz_handle *handle)
{
	size_t n = strlen(fuzz->wrong), most = sizeof(fuzz->wrong);

	n += scnprintf(fuzz->wrong + n, most - n,
		       "; handle %zu of kind %d, route %d, dir %d, flags %x",
		       (size_t)(handle - fuzz->handle), handle->kind,
		       handle->route, handle->dir, handle->flags);
	for (size_t i = 0; i < handle->count; i++)
		n += scnprintf(fuzz->wrong + n, most - n, ", %pa+%zx%s",
			       &handle->runs[i].phys, handle->runs[i].len,
			       handle->runs[i].bounced ? " bounced" : "");
}

static void step_handle(struct fuzz *fuzz)
{
	struct fuzz_handle *handle = &fuzz->handle[below(fuzz, FUZZ_HANDLES)];

	if (fuzz->edu.busy == handle)
		fuzz_edu_finish(fuzz);
	if (handle->dev)
		step_live(fuzz, handle);
	else
		step_empty(fuzz, handle);
	if (!fuzz_right(fuzz))
		explain_handle(fuzz, handle);
}

static void step_nothing(struct fuzz *fuzz)
{
	fuzz_done(fuzz, FUZZ_SYNC_FOR_CPU, dma_phys_sync_for_cpu(NULL, 0, 1),
		  BAD);
	fuzz_done(fuzz, FUZZ_VEC_SYNC_FOR_DEVICE,
		  dma_phys_vec_sync_for_device(NULL, 0, 1), BAD);
	dma_phys_unmap(NULL);
	fuzz_done(fuzz, FUZZ_UNMAP, 0, OK);
	dma_phys_vec_unmap(NULL);
	fuzz_done(fuzz, FUZZ_VEC_UNMAP, 0, OK);
	fuzz_done(fuzz, FUZZ_VEC_ROOM,
		  dma_phys_vec_room(NULL, 1, 1) ? -EINVAL : 0, OK);
}

/* Peers. */

static bool is_held(struct fuzz *fuzz, const struct fuzz_peer *peer)
{
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++)
		if (fuzz->handle[i].peer == peer)
			return true;
	return false;
}

/* The peer leaves: what is mapped of it is given up. */
static void revoke(struct dma_phys_peer_user *user)
{
	struct fuzz_peer *peer = container_of(user, struct fuzz_peer, user);
	struct fuzz *fuzz = peer->fuzz;

	peer->told++;
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++)
		if (fuzz->handle[i].peer == peer)
			unmap(fuzz, &fuzz->handle[i]);
	fuzz_done(fuzz, FUZZ_REVOKED, 0, peer->attached ? OK : 0);
}

static void step_register(struct fuzz *fuzz)
{
	static const int bars[] = { -1, 1, 5, 6, 1000, INT_MIN };
	struct fuzz_peer *peer = &fuzz->peer[below(fuzz, 2)];
	bool bad = one_in(fuzz, 4);
	int bar = bad ? bars[below(fuzz, ARRAY_SIZE(bars))] : peer->bar, err;
	struct pci_dev *owner = one_in(fuzz, 16) ? NULL : peer->owner;
	struct mmio_phys range = {};
	u32 allowed = OK;

	if (peer->lent)
		allowed = fuzz_bit(-EEXIST);
	if (!is_memory(owner, bar))
		allowed = BAD;
	err = dma_phys_peer_register(owner, bar);
	fuzz_done(fuzz, FUZZ_REGISTER, err, allowed);
	if (err || !fuzz_right(fuzz))
		return;

	err = mmio_phys_from_bar(owner, bar, 0, PAGE_SIZE, &range);
	fuzz_done(fuzz, FUZZ_FROM_BAR, err, OK);
	if (!range.peer || range.peer == peer->id)
		fuzz_wrong(fuzz, "the peer is %u, and was %u", range.peer,
			   peer->id);
	peer->lent = true;
	peer->id = range.peer;
}

static void unregister(struct fuzz *fuzz, struct fuzz_peer *peer)
{
	unsigned int told = peer->attached;

	if (is_held(fuzz, peer) && !peer->attached)
		return;		/* would wait for ever */

	fuzz_edu_finish(fuzz);
	peer->told = 0;
	peer->lent = false;
	dma_phys_peer_unregister(peer->owner, peer->bar);
	fuzz_done(fuzz, FUZZ_UNREGISTER, 0, OK);
	if (peer->told != told || is_held(fuzz, peer))
		fuzz_wrong(fuzz, "its user was told %u times, expected %u",
			   peer->told, told);
	peer->attached = false;
}

static void step_unregister(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[below(fuzz, 2)];

	if (one_in(fuzz, 4)) {
		dma_phys_peer_unregister(one_in(fuzz, 2) ? NULL : peer->owner,
					 one_in(fuzz, 2) ? -1 : 6);
		fuzz_done(fuzz, FUZZ_UNREGISTER, 0, OK);
		return;
	}
	unregister(fuzz, peer);
}

static void step_attach(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[below(fuzz, 2)];
	struct mmio_phys range = { .peer = one_in(fuzz, 8) ? 0 : peer->id };
	bool no_range = one_in(fuzz, 16), no_user = one_in(fuzz, 16);
	u32 allowed = 0;
	int err;

	if (no_range || no_user || !range.peer || peer->attached)
		allowed |= BAD;
	if (range.peer && !peer->lent)
		allowed |= fuzz_bit(-ENODEV);
	peer->user.revoke = revoke;
	err = dma_phys_peer_attach(no_range ? NULL : &range,
				   no_user ? NULL : &peer->user);
	fuzz_done(fuzz, FUZZ_ATTACH, err, allowed ?: OK);
	if (!err)
		peer->attached = true;
}

static void step_detach(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[below(fuzz, 2)];

	if (one_in(fuzz, 8)) {
		dma_phys_peer_detach(NULL);
	} else {
		dma_phys_peer_detach(&peer->user);
		peer->attached = false;
	}
	fuzz_done(fuzz, FUZZ_DETACH, 0, OK);
}

static void step_peer(struct fuzz *fuzz)
{
	switch (below(fuzz, 8)) {
	case 0 ... 2:
		step_register(fuzz);
		break;
	case 3:
		step_unregister(fuzz);
		break;
	case 4 ... 6:
		step_attach(fuzz);
		break;
	default:
		step_detach(fuzz);
	}
}

/* Devices. */

static void drain(struct fuzz *fuzz, const struct fuzz_dev *dev)
{
	fuzz_edu_finish(fuzz);
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++)
		if (!dev || fuzz->handle[i].dev == dev)
			unmap(fuzz, &fuzz->handle[i]);
}

/*
 * How far it reaches: without an IOMMU relative to our memory and the slots,
 * so that a seed means the same wherever those lie.
 */
static u64 choose_reach(struct fuzz *fuzz, const struct fuzz_dev *dev)
{
	u64 memory = phys_to_dma(dev->dev, page_to_phys(fuzz->memory));
	const u64 under_iommu[] = {
		DMA_BIT_MASK(28), DMA_BIT_MASK(28), DMA_BIT_MASK(28),
		DMA_BIT_MASK(32), DMA_BIT_MASK(64),
	};
	const u64 without[] = {
		DMA_BIT_MASK(64), DMA_BIT_MASK(64), DMA_BIT_MASK(48),
		DMA_BIT_MASK(16), memory - 1,
		memory + below(fuzz, FUZZ_HANDLES * FUZZ_OWN),
		dev->pool_end ? dev->pool_end - 1 : DMA_BIT_MASK(64),
		dev->pool_end ? dev->pool_start - 1 : DMA_BIT_MASK(64),
	};

	if (dev->iommu)
		return under_iommu[below(fuzz, ARRAY_SIZE(under_iommu))];
	return without[below(fuzz, ARRAY_SIZE(without))];
}

static void step_configure(struct fuzz *fuzz)
{
	static const u64 maxes[] = {
		SZ_64K, SZ_64K, 512, 1000, SZ_4K, SZ_1M, SZ_2G, U32_MAX,
	};
	static const u64 boundaries[] = {
		U32_MAX, U32_MAX, SZ_64K - 1, SZ_4K - 1, SZ_1K - 1, U64_MAX,
	};
	static const u64 aligns[] = {
		0, 0, 0, 511, 2047, SZ_4K - 1, SZ_64K - 1, SZ_256K - 1,
		SZ_1M - 1,
	};
	struct fuzz_dev *dev = any_dev(fuzz);
	u64 reach = choose_reach(fuzz, dev);
	u64 max = maxes[below(fuzz, ARRAY_SIZE(maxes))];
	u64 boundary = boundaries[below(fuzz, ARRAY_SIZE(boundaries))];
	u64 align = aligns[below(fuzz, ARRAY_SIZE(aligns))];
	bool forced = one_in(fuzz, 4), untrusted = one_in(fuzz, 3);

	/*
	 * Of a run that is cut for its slots, whole granules need none. How it
	 * is cut, no contract says: leave it in one slot.
	 */
	if (dev->iommu && untrusted)
		boundary = max(boundary, SZ_64K - 1);
	if (!one_in(fuzz, 4))
		align = dev->align;
	/* The kernel itself looks at this one when it unmaps. */
	if (align != dev->align)
		drain(fuzz, dev);
	fuzz_configure(dev, reach, max, boundary, align,
		       forced && dev->pool_end && !dev->iommu, untrusted);
	fuzz_done(fuzz, FUZZ_CONFIGURE, 0, OK);
}

/* Map until nothing is left. How often, does not count. */
static unsigned int hog(struct fuzz_dev *dev, const struct cpu_phys *range,
			struct dma_phys_map *maps, int *err)
{
	unsigned int n = 0;

	do {
		*err = dma_phys_map_cpu(dev->dev, range, DMA_TO_DEVICE, 0,
					&maps[n]);
	} while (!*err && ++n < HOGS);
	return n;
}

static void exhaust(struct fuzz *fuzz, struct fuzz_dev *dev,
		    struct dma_phys_map *maps, struct dma_phys_vec *vec)
{
	struct cpu_phys ranges[] = {
		{ fuzz->shared.phys + SZ_512K + 100, 1000 },
		{ fuzz->shared.phys, FUZZ_SLOT },
	};
	struct dma_phys_vec before = *vec;
	unsigned int n;
	int err;

	n = hog(dev, &ranges[1], maps, &err);
	fuzz_done(fuzz, FUZZ_EXHAUST, err, fuzz_bit(-EAGAIN));
	if (n < HOGS && memchr_inv(&maps[n], 0, sizeof(maps[n])))
		fuzz_wrong(fuzz, "nothing was left, yet the handle is written");

	/* The first may work, and is undone. */
	err = dma_phys_vec_map_cpu(dev->dev, ranges, 2, DMA_TO_DEVICE, 0, vec);
	fuzz_done(fuzz, FUZZ_VEC_MAP_CPU, err, fuzz_bit(-EAGAIN));
	if (memcmp(&before, vec, sizeof(before)))
		fuzz_wrong(fuzz, "nothing was left, yet the vec is written");
	while (n)
		dma_phys_unmap(&maps[--n]);
}

static void step_exhaust(struct fuzz *fuzz)
{
	struct fuzz_dev *dev = any_dev(fuzz), was = *dev;
	struct fuzz_handle *handle = &fuzz->handle[FUZZ_MAPS];
	struct dma_phys_map *maps;

	if (!dev->iommu && !dev->pool_end)
		return;
	maps = kvcalloc(HOGS, sizeof(*maps), GFP_KERNEL);
	if (!maps)
		return;
	if (was.align)
		drain(fuzz, dev);
	if (fuzz->edu.busy == handle)
		fuzz_edu_finish(fuzz);
	unmap(fuzz, handle);
	handle->vec.room = FUZZ_ROOM;

	fuzz_configure(dev, dev->iommu ? DMA_BIT_MASK(24) : DMA_BIT_MASK(64),
		       SZ_64K, U32_MAX, 0, !dev->iommu, false);
	exhaust(fuzz, dev, maps, &handle->vec);
	fuzz_configure(dev, was.reach, was.max, was.boundary, 0,
		       was.forced, was.untrusted);
	kvfree(maps);
}

static void step_edu(struct fuzz *fuzz)
{
	struct fuzz_handle *handle = &fuzz->handle[below(fuzz, FUZZ_HANDLES)];
	size_t at, len = 1 + below(fuzz, FUZZ_EDU_BUF);
	bool push = one_in(fuzz, 2);

	if (fuzz->edu.busy) {
		if (fuzz->ops - fuzz->edu.since >= EDU_PATIENCE)
			fuzz_edu_finish(fuzz);
		return;
	}
	if (handle->dev != &fuzz->dev[FUZZ_EDU] || !handle->area)
		return;
	push = push && device_may_write(handle) && fuzz->edu.known;
	if (!push && handle->dir == DMA_FROM_DEVICE)
		return;
	at = below(fuzz, handle->size);
	len = min3(len, handle->size - at, push ? fuzz->edu.known : len);
	fuzz_edu_start(fuzz, handle, at, len, push);
}

static void step(struct fuzz *fuzz)
{
	static void (*const ranges[])(struct fuzz *fuzz) = {
		step_page, step_virt, step_addr, step_resource, step_bar,
	};

	switch (below(fuzz, 256)) {
	case 0 ... 39:
		ranges[below(fuzz, ARRAY_SIZE(ranges))](fuzz);
		break;
	case 40 ... 47:
		step_peer(fuzz);
		break;
	case 48:
		step_configure(fuzz);
		break;
	case 49:
		step_nothing(fuzz);
		break;
	case 50 ... 59:
		step_edu(fuzz);
		break;
	case 60:
		if (one_in(fuzz, 8))
			step_exhaust(fuzz);
		break;
	default:
		step_handle(fuzz);
	}
}

static void configure_plainly(struct fuzz *fuzz)
{
	for (unsigned int i = FUZZ_EDU; i <= FUZZ_LENDER; i++) {
		struct fuzz_dev *dev = &fuzz->dev[i];

		fuzz_configure(dev, DMA_BIT_MASK(dev->iommu ? 28 : 64), SZ_64K,
			       U32_MAX, 0, false, false);
	}
}

static void begin(struct fuzz *fuzz)
{
	configure_plainly(fuzz);
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++) {
		struct fuzz_area *cpu = &fuzz->handle[i].own[DMA_PHYS_CPU];
		struct fuzz_area *mmio = &fuzz->handle[i].own[DMA_PHYS_MMIO];

		fill(fuzz, cpu->shadow, cpu->len);
		memcpy(cpu->mem, cpu->shadow, cpu->len);
		fill(fuzz, mmio->shadow, mmio->len);
		memcpy_toio(mmio->io, mmio->shadow, mmio->len);
	}
	fill(fuzz, fuzz->shared.shadow, fuzz->shared.len);
	memcpy(fuzz->shared.mem, fuzz->shared.shadow, fuzz->shared.len);
}

static void end(struct fuzz *fuzz)
{
	drain(fuzz, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(fuzz->peer); i++) {
		unregister(fuzz, &fuzz->peer[i]);
		dma_phys_peer_detach(&fuzz->peer[i].user);
	}
	configure_plainly(fuzz);
}

/* A whole unit: less may lie where no unit fits. */
static void leak(struct fuzz *fuzz)
{
	struct cpu_phys range = { fuzz->shared.phys, FUZZ_SLOT };
	struct fuzz_dev *edu = &fuzz->dev[FUZZ_EDU];

	fuzz_configure(edu, edu->reach, SZ_64K, U32_MAX, 0,
		       !edu->iommu && edu->pool_end, false);
	dma_phys_map_cpu(edu->dev, &range, DMA_TO_DEVICE, 0,
			 &fuzz->handle[0].map);
}

static void fuzz_run(struct fuzz *fuzz, u64 ops)
{
	unsigned int before, after;

	before = fuzz_free_units(fuzz);
	begin(fuzz);
	while (fuzz->ops < ops && fuzz_right(fuzz)) {
		step(fuzz);
		cond_resched();
		if (fatal_signal_pending(current))
			fuzz_wrong(fuzz, "interrupted");
	}
	end(fuzz);
	if (fuzz->lie == FUZZ_LIE_LEAK)
		leak(fuzz);
	after = fuzz_free_units(fuzz);
	dma_phys_unmap(&fuzz->handle[0].map);
	if (after != before)
		fuzz_wrong(fuzz, "%u units of slots and IOVA space are free, expected %u",
			   after, before);
}

/* debugfs. */

static DEFINE_MUTEX(run_lock);
static char result[SZ_8K];

static void report(const struct fuzz *fuzz)
{
	static const char *const routes[] = {
		"none", "direct", "bounce", "iommu", "ops", "bus",
	};
	size_t n = scnprintf(result, sizeof(result), "ops %llu\n", fuzz->ops);

	for (unsigned int i = 0; i < ARRAY_SIZE(routes); i++)
		if (fuzz->routes[i])
			n += scnprintf(result + n, sizeof(result) - n,
				       "route %s %u\n", routes[i],
				       fuzz->routes[i]);
	for (unsigned int i = 0; i < FUZZ_OPS; i++)
		for (unsigned int j = 0; j < FUZZ_ERRNOS; j++)
			if (fuzz->tally[i][j])
				n += scnprintf(result + n, sizeof(result) - n,
					       "%s %s %u\n", fuzz_op_names[i],
					       fuzz_errno_name(j),
					       fuzz->tally[i][j]);
	scnprintf(result + n, sizeof(result) - n, "%s%s\n",
		  fuzz_right(fuzz) ? "ok" : "diverged at ", fuzz->wrong);
}

static int run(u64 seed, u64 ops, enum fuzz_lie lie)
{
	struct fuzz *fuzz = kvzalloc(sizeof(*fuzz), GFP_KERNEL);
	int err;

	if (!fuzz)
		return -ENOMEM;
	fuzz->random = seed;
	fuzz->lie = lie;
	err = fuzz_devices_start(fuzz);
	if (!err) {
		fuzz_run(fuzz, ops);
		report(fuzz);
	}
	fuzz_devices_end(fuzz);
	kvfree(fuzz);
	return err;
}

static ssize_t run_write(struct file *file, const char __user *user,
			 size_t count, loff_t *pos)
{
	char line[80], lie[16] = "truth";
	unsigned long long seed, ops;
	int which, err;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, user, count))
		return -EFAULT;
	line[count] = '\0';
	if (sscanf(line, "%llu %llu %15s", &seed, &ops, lie) < 2)
		return -EINVAL;
	which = match_string(lies, FUZZ_LIES, lie);
	if (which < 0)
		return -EINVAL;

	guard(mutex)(&run_lock);
	err = run(seed, ops, which);
	return err ?: count;
}

static ssize_t run_read(struct file *file, char __user *user, size_t count,
			loff_t *pos)
{
	guard(mutex)(&run_lock);
	return simple_read_from_buffer(user, count, pos, result,
				       strlen(result));
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.read = run_read,
	.write = run_write,
};

static int __init fuzz_init(void)
{
	struct dentry *dir = debugfs_create_dir("dma_phys_fuzz", NULL);

	debugfs_create_file("run", 0600, dir, NULL, &run_fops);
	return 0;
}
late_initcall(fuzz_init);

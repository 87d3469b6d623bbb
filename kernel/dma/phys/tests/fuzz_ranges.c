// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer makes ranges of pages, pointers, addresses, resources and BARs,
 * valid or not.
 */
#include <linux/ioport.h>
#include <linux/mm.h>

#include "fuzz.h"

/* A range that was not written. */
#define FUZZ_UNWRITTEN	0xfeedULL

static void fuzz_check_cpu_range(struct fuzz *fuzz, enum fuzz_op op, int err,
				 u32 allowed, const struct cpu_phys *range,
				 phys_addr_t addr, size_t len)
{
	bool raw = !err && op == FUZZ_FROM_RAW;

	if (err) {
		addr = FUZZ_UNWRITTEN;
		len = FUZZ_UNWRITTEN;
	}
	fuzz_done(fuzz, op, err, allowed);
	if (range->addr != addr || range->len != len || range->raw != raw)
		fuzz_error(fuzz, "%s made %pa+%zx, expected %pa+%zx",
			   fuzz_op_names[op], &range->addr, range->len, &addr,
			   len);
}

static void fuzz_check_mmio_range(struct fuzz *fuzz, enum fuzz_op op, int err,
				  u32 allowed, const struct mmio_phys *range,
				  phys_addr_t addr, size_t len, u32 peer)
{
	if (err) {
		addr = FUZZ_UNWRITTEN;
		len = FUZZ_UNWRITTEN;
		peer = 0;
	}
	fuzz_done(fuzz, op, err, allowed);
	if (range->addr != addr || range->len != len || range->peer != peer)
		fuzz_error(fuzz, "%s made %pa+%zx of %u, expected %pa+%zx of %u",
			   fuzz_op_names[op], &range->addr, range->len,
			   range->peer, &addr, len, peer);
}

static void fuzz_try_page(struct fuzz *fuzz, struct page *page, u64 offset,
			  u64 len, struct cpu_phys *range)
{
	u64 phys = page ? page_to_phys(page) : 0;
	u32 allowed = FUZZ_EINVAL;
	int err;

	*range = (struct cpu_phys){ FUZZ_UNWRITTEN, FUZZ_UNWRITTEN };
	if (page && offset <= U64_MAX - phys)
		allowed = fuzz_expect_cpu(fuzz, phys + offset, len);
	err = cpu_phys_from_page(page, offset, len, range);
	fuzz_check_cpu_range(fuzz, FUZZ_FROM_PAGE, err, allowed, range,
			     phys + offset, len);
}

/* @linear: it is an address of the linear map. */
static void fuzz_try_virt(struct fuzz *fuzz, const void *virt, u64 len,
			  bool linear, struct cpu_phys *range)
{
	u64 phys = linear ? virt_to_phys((void *)virt) : 0;
	int err;

	*range = (struct cpu_phys){ FUZZ_UNWRITTEN, FUZZ_UNWRITTEN };
	err = cpu_phys_from_virt(virt, len, range);
	fuzz_check_cpu_range(fuzz, FUZZ_FROM_VIRT, err,
			     linear ? fuzz_expect_cpu(fuzz, phys, len) :
				      FUZZ_EINVAL,
			     range, phys, len);
}

static void fuzz_try_addr(struct fuzz *fuzz, u64 addr, u64 len,
			  struct cpu_phys *range)
{
	int err;

	*range = (struct cpu_phys){ FUZZ_UNWRITTEN, FUZZ_UNWRITTEN };
	err = cpu_phys_from_addr(addr, len, range);
	fuzz_check_cpu_range(fuzz, FUZZ_FROM_ADDR, err,
			     fuzz_expect_cpu(fuzz, addr, len), range, addr,
			     len);
}

static void fuzz_try_raw(struct fuzz *fuzz, u64 addr, u64 len,
			 struct cpu_phys *range)
{
	bool valid = len && len - 1 <= U64_MAX - addr;
	int err;

	*range = (struct cpu_phys){ FUZZ_UNWRITTEN, FUZZ_UNWRITTEN };
	err = cpu_phys_from_raw(addr, len, range);
	fuzz_check_cpu_range(fuzz, FUZZ_FROM_RAW, err,
			     valid ? FUZZ_OK : FUZZ_EINVAL, range, addr, len);
}

static void fuzz_try_resource(struct fuzz *fuzz, const struct resource *res,
			      u64 offset, u64 len, bool valid,
			      struct mmio_phys *range)
{
	u64 start = res ? res->start : 0;
	u64 last = res ? res->end - res->start : 0;
	int err;

	*range = (struct mmio_phys){ FUZZ_UNWRITTEN, FUZZ_UNWRITTEN };
	err = mmio_phys_from_resource(res, offset, len, range);
	fuzz_check_mmio_range(fuzz, FUZZ_FROM_RESOURCE, err,
			      res && valid ?
			      fuzz_expect_mmio(fuzz, start, last, offset, len) :
			      FUZZ_EINVAL,
			      range, start + offset, len, 0);
}

static struct fuzz_peer *fuzz_find_peer(struct fuzz *fuzz,
					struct pci_dev *owner, int bar)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(fuzz->peer); i++)
		if (fuzz->peer[i].owner == owner && fuzz->peer[i].bar == bar)
			return &fuzz->peer[i];
	return NULL;
}

bool fuzz_is_memory_bar(struct pci_dev *owner, int bar)
{
	return owner && bar >= 0 && bar < PCI_STD_NUM_BARS &&
	       pci_resource_flags(owner, bar) & IORESOURCE_MEM;
}

void fuzz_try_bar(struct fuzz *fuzz, struct pci_dev *owner, int bar,
		  u64 offset, u64 len, struct mmio_phys *range)
{
	struct fuzz_peer *peer = fuzz_find_peer(fuzz, owner, bar);
	bool shared = peer && peer->shared;
	u32 allowed = FUZZ_EINVAL;
	u64 start = 0;
	int err;

	if (fuzz_is_memory_bar(owner, bar)) {
		start = pci_resource_start(owner, bar);
		allowed = fuzz_expect_mmio(fuzz, start,
					   pci_resource_len(owner, bar) - 1,
					   offset, len);
		if (!shared)
			allowed = (allowed & ~FUZZ_OK) | fuzz_bit(-ENODEV);
	}

	*range = (struct mmio_phys){ FUZZ_UNWRITTEN, FUZZ_UNWRITTEN };
	err = mmio_phys_from_bar(owner, bar, offset, len, range);
	fuzz_check_mmio_range(fuzz, FUZZ_FROM_BAR, err, allowed, range,
			      start + offset, len, peer ? peer->id : 0);
}

/* ---- Ranges of areas ---- */

void fuzz_make_cpu(struct fuzz *fuzz, const struct fuzz_area *area,
		   size_t offset, size_t len, struct dma_phys_range *range)
{
	u8 *mem = area->mem + offset;
	struct cpu_phys cpu;

	switch (fuzz_below(fuzz, 16)) {
	case 0:
		fuzz_try_raw(fuzz, area->phys + offset, len, &cpu);
		break;
	case 1 ... 4:
		fuzz_try_addr(fuzz, area->phys + offset, len, &cpu);
		break;
	case 5 ... 8:
		fuzz_try_page(fuzz, virt_to_page(mem), offset_in_page(mem), len,
			      &cpu);
		break;
	default:
		fuzz_try_virt(fuzz, mem, len, true, &cpu);
	}
	*range = (struct dma_phys_range){
		.addr = cpu.addr,
		.len = cpu.len,
		.kind = DMA_PHYS_CPU,
		.raw = cpu.raw,
	};
}

void fuzz_make_mmio(struct fuzz *fuzz, bool of_peer,
		    const struct fuzz_area *area, size_t offset, size_t len,
		    struct dma_phys_range *range)
{
	struct fuzz_peer *peer = &fuzz->peer[FUZZ_IVSHMEM];
	struct resource *res = &peer->owner->resource[peer->bar];
	struct mmio_phys mmio;

	offset += area->phys - res->start;
	if (of_peer)
		fuzz_try_bar(fuzz, peer->owner, peer->bar, offset, len, &mmio);
	else
		fuzz_try_resource(fuzz, res, offset, len, true, &mmio);
	*range = (struct dma_phys_range){
		.addr = mmio.addr,
		.len = mmio.len,
		.peer = mmio.peer,
		.kind = DMA_PHYS_MMIO,
	};
}

/* ---- Ranges that are not mapped ---- */

static void fuzz_step_page(struct fuzz *fuzz)
{
	struct page *page = fuzz->memory + fuzz_below(fuzz, 1024);
	u64 offset = fuzz_one_in(fuzz, 6) ? fuzz_odd(fuzz) :
					    fuzz_below(fuzz, 4 * PAGE_SIZE);
	u64 len = fuzz_one_in(fuzz, 6) ? fuzz_odd(fuzz) :
					 fuzz_below(fuzz, SZ_64K);
	struct cpu_phys range;

	if (fuzz_one_in(fuzz, 16))
		page = fuzz_one_in(fuzz, 2) || !pfn_valid(0) ? NULL :
							       pfn_to_page(0);
	fuzz_try_page(fuzz, page, offset, len, &range);
}

static void fuzz_step_virt(struct fuzz *fuzz)
{
	static u8 image;
	u8 stack;
	const void *const bad[] = {
		NULL, &image, &stack, fuzz->shadows, (void *)ULONG_MAX,
		(void *)PAGE_SIZE, (void *)fuzz_step_page, fuzz_op_names[0],
		(void __force *)fuzz->edu.regs,
		phys_to_virt(fuzz->rams[fuzz->ram_count - 1].end + 1),
	};
	u64 len = fuzz_one_in(fuzz, 6) ? fuzz_odd(fuzz) :
					 fuzz_below(fuzz, SZ_64K);
	u8 *mem = page_address(fuzz->memory);
	struct cpu_phys range;

	if (fuzz_one_in(fuzz, 4))
		fuzz_try_virt(fuzz, fuzz_any(fuzz, bad), len, false, &range);
	else
		fuzz_try_virt(fuzz, mem + fuzz_below(fuzz, SZ_4M), len, true,
			      &range);
}

static void fuzz_step_addr(struct fuzz *fuzz)
{
	unsigned int ram = fuzz_below(fuzz, fuzz->ram_count);
	const u64 addrs[] = {
		page_to_phys(fuzz->memory) + fuzz_below(fuzz, SZ_4M),
		fuzz->rams[ram].end - fuzz_below(fuzz, 2 * PAGE_SIZE),
		fuzz->rams[ram].end + fuzz_below(fuzz, 2),
		fuzz->rams[ram].start - fuzz_below(fuzz, 2),
		fuzz->handle[0].own[DMA_PHYS_MMIO].phys, fuzz_odd(fuzz),
	};
	u64 len = fuzz_one_in(fuzz, 4) ? fuzz_odd(fuzz) :
					 fuzz_below(fuzz, SZ_16K);
	struct cpu_phys range;

	if (fuzz_one_in(fuzz, 4))
		fuzz_try_raw(fuzz, fuzz_any(fuzz, addrs), len, &range);
	else
		fuzz_try_addr(fuzz, fuzz_any(fuzz, addrs), len, &range);
}

static void fuzz_step_resource(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[FUZZ_IVSHMEM];
	u64 offset = fuzz_one_in(fuzz, 4) ? fuzz_odd(fuzz) :
					    fuzz_below(fuzz, SZ_8M);
	u64 len = fuzz_one_in(fuzz, 4) ? fuzz_odd(fuzz) :
					 fuzz_below(fuzz, SZ_4M);
	struct resource res = peer->owner->resource[peer->bar];
	struct mmio_phys range;
	bool valid = true;

	switch (fuzz_below(fuzz, 8)) {
	case 0:
		res = DEFINE_RES_MEM(page_to_phys(fuzz->memory), SZ_4M);
		break;
	case 1:
		res = DEFINE_RES_MEM(0, 0);
		res.end = U64_MAX;
		break;
	case 2:
		res.flags |= fuzz_one_in(fuzz, 2) ? IORESOURCE_UNSET :
						    IORESOURCE_DISABLED;
		valid = false;
		break;
	case 3:
		if (fuzz_one_in(fuzz, 2))
			res = DEFINE_RES_IO(0x60, 8);
		else
			swap(res.start, res.end);
		valid = false;
		break;
	}
	fuzz_try_resource(fuzz, fuzz_one_in(fuzz, 32) ? NULL : &res, offset,
			  len, valid, &range);
}

static void fuzz_step_bar(struct fuzz *fuzz)
{
	static const int bad[] = { -1, 1, 5, 6, 7, 1000, INT_MIN, INT_MAX };
	struct fuzz_peer *peer = &fuzz->peer[fuzz_below(fuzz, 2)];
	int bar = fuzz_one_in(fuzz, 4) ? fuzz_any(fuzz, bad) : peer->bar;
	u64 offset = fuzz_one_in(fuzz, 4) ? fuzz_odd(fuzz) :
					    fuzz_below(fuzz, SZ_8M);
	u64 len = fuzz_one_in(fuzz, 4) ? fuzz_odd(fuzz) :
					 fuzz_below(fuzz, SZ_2M);
	struct mmio_phys range;

	fuzz_try_bar(fuzz, fuzz_one_in(fuzz, 32) ? NULL : peer->owner, bar,
		     offset, len, &range);
}

void fuzz_step_range(struct fuzz *fuzz)
{
	static void (*const steps[])(struct fuzz *fuzz) = {
		fuzz_step_page, fuzz_step_virt, fuzz_step_addr,
		fuzz_step_resource, fuzz_step_bar,
	};

	fuzz_any(fuzz, steps)(fuzz);
}

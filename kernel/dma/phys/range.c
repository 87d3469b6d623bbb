// SPDX-License-Identifier: GPL-2.0
/*
 * Physical ranges of one kind, validated when they are made.
 *
 * Validation looks at struct pages and at the resource tree, never at the memory
 * itself: a read could bring a cache line back that a device is writing.
 */
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/kasan.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pci.h>
#include <linux/sched/task_stack.h>

#include "internal.h"

static int system_ram_add(struct resource *res, void *bytes)
{
	*(u64 *)bytes += resource_size(res);
	return 0;
}

/*
 * Are all pages of a range System RAM, from end to end? Bytes are counted, as
 * region_intersects() ignores holes. Whole pages are counted, as the walk finds
 * nothing in a single byte, and as a page that is System RAM in part has no
 * place in the linear map. RAM above the limit of the kernel has no struct page.
 */
static bool range_is_system_ram(phys_addr_t addr, phys_addr_t last)
{
	phys_addr_t start = round_down(addr, PAGE_SIZE);
	phys_addr_t end = last | (PAGE_SIZE - 1);
	u64 ram = 0;

	/* The walk would start again at 0. */
	if (end == PHYS_ADDR_MAX)
		return false;

	walk_iomem_res_desc(IORES_DESC_NONE,
			    IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY, start, end,
			    &ram, system_ram_add);
	return ram == (u64)end - start + 1 && pfn_valid(PHYS_PFN(end));
}

/*
 * Memory of a DAX device, or device memory that is coherent, is cached and has a
 * linear map, though it is not System RAM. Of the other types one is a PCI BAR,
 * and one cannot be accessed by the CPU.
 */
static bool pgmap_is_memory(const struct dev_pagemap *pgmap)
{
	return pgmap->type == MEMORY_DEVICE_COHERENT ||
	       pgmap->type == MEMORY_DEVICE_FS_DAX ||
	       pgmap->type == MEMORY_DEVICE_GENERIC;
}

/* The reference of the caller on a page keeps @pgmap alive. */
static bool pgmap_holds(const struct dev_pagemap *pgmap, phys_addr_t addr,
			phys_addr_t last)
{
	if (!pgmap_is_memory(pgmap))
		return false;

	for (int i = 0; i < pgmap->nr_range; i++)
		if (addr >= pgmap->ranges[i].start &&
		    last <= pgmap->ranges[i].end)
			return true;
	return false;
}

/* The page allocator handed out @page and all up to @last in one folio. */
static bool folio_holds(struct page *page, phys_addr_t last)
{
	struct folio *folio = page_folio(page);

	return !PageReserved(page) &&
	       last - PFN_PHYS(folio_pfn(folio)) < folio_size(folio);
}

/* Is a range that starts in @page cached memory with struct pages? */
static bool page_range_is_memory(struct page *page, phys_addr_t addr,
				 size_t len)
{
	phys_addr_t last = addr + len - 1;

	if (!dma_phys_range_ok(addr, len))
		return false;
	if (is_zone_device_page(page))
		return pgmap_holds(page_pgmap(page), addr, last);
	return folio_holds(page, last) || range_is_system_ram(addr, last);
}

/**
 * cpu_phys_from_page() - make a range of memory from a page
 * @page: page in which the range starts; the caller holds a reference
 * @offset: bytes from the start of @page to the first byte
 * @len: length in bytes
 * @range: the range, written on success only
 *
 * Context: Any context if one folio or ZONE_DEVICE memory holds the range, else
 * see cpu_phys_from_addr().
 * Return: 0, or -EINVAL if a pointer is NULL, @len is 0, the range wraps around,
 * @page is a P2PDMA page or device private, or not all of the range is memory.
 */
int cpu_phys_from_page(struct page *page, size_t offset, size_t len,
		       struct cpu_phys *range)
{
	phys_addr_t addr;

	if (!page || !range ||
	    check_add_overflow(page_to_phys(page), (phys_addr_t)offset, &addr) ||
	    !page_range_is_memory(page, addr, len))
		return -EINVAL;

	*range = (struct cpu_phys){ .addr = addr, .len = len };
	return 0;
}
EXPORT_SYMBOL_GPL(cpu_phys_from_page);

/**
 * cpu_phys_from_virt() - make a range of memory from a linear-map address
 * @addr: first byte, an address of kmalloc() or of the page allocator; it may
 *	carry a KASAN tag
 * @len: length in bytes
 * @range: the range, written on success only
 *
 * Context: See cpu_phys_from_page().
 * Return: 0, or -EINVAL if a pointer is NULL, @len is 0, @addr is outside the
 * linear map (vmalloc, modules, on most architectures the kernel image) or on
 * the stack of the current task, or the range leaves memory or the linear map.
 */
int cpu_phys_from_virt(const void *addr, size_t len, struct cpu_phys *range)
{
	const void *virt = kasan_reset_tag(addr);
	phys_addr_t phys;

	if (!addr || !range || is_vmalloc_addr(virt) || !virt_addr_valid(virt))
		return -EINVAL;

	/* The kernel image, and uncached windows, are aliases of the linear map. */
	phys = __pa(virt);
	if (__va(phys) != virt || object_is_on_stack(virt))
		return -EINVAL;
	if (!page_range_is_memory(virt_to_page(virt), phys, len))
		return -EINVAL;

	/* The linear map ends where highmem starts. */
	if (PageHighMem(pfn_to_page(PHYS_PFN(phys + len - 1))))
		return -EINVAL;

	*range = (struct cpu_phys){ .addr = phys, .len = len };
	return 0;
}
EXPORT_SYMBOL_GPL(cpu_phys_from_virt);

/**
 * cpu_phys_from_addr() - make a range of memory from a physical address
 * @addr: physical address of the first byte
 * @len: length in bytes
 * @range: the range, written on success only
 *
 * Takes longer than cpu_phys_from_page() and cpu_phys_from_virt().
 *
 * Context: Process context, may be atomic: takes the lock of the resource tree,
 * which is not safe in interrupts.
 * Return: 0, or -EINVAL if @range is NULL, @len is 0, the range wraps around, or
 * not all of it is System RAM.
 */
int cpu_phys_from_addr(phys_addr_t addr, size_t len, struct cpu_phys *range)
{
	if (!range || !dma_phys_range_ok(addr, len) ||
	    !range_is_system_ram(addr, addr + len - 1))
		return -EINVAL;

	*range = (struct cpu_phys){ .addr = addr, .len = len };
	return 0;
}
EXPORT_SYMBOL_GPL(cpu_phys_from_addr);

/* Does ZONE_DEVICE say that this is a PCI BAR, or out of reach of the CPU? */
static bool pfn_is_device_memory(unsigned long pfn)
{
	struct dev_pagemap *pgmap = get_dev_pagemap(pfn);
	bool device = pgmap && !pgmap_is_memory(pgmap);

	put_dev_pagemap(pgmap);
	return device;
}

/**
 * cpu_phys_from_raw() - make a range of memory that the caller vouches for
 * @addr: physical address of the first byte
 * @len: length in bytes
 * @range: the range, written on success only
 *
 * The caller vouches that all of it is memory that the CPU may cache, and that
 * it stays so while it is mapped. A raw range, of System RAM too, is mapped only
 * where nothing needs the linear map; otherwise mapping returns -EOPNOTSUPP.
 *
 * Context: Any context.
 * Return: 0, or -EINVAL if @range is NULL, @len is 0, the range wraps around, or
 * it starts in a P2PDMA or device private page.
 */
int cpu_phys_from_raw(phys_addr_t addr, size_t len, struct cpu_phys *range)
{
	if (!range || !dma_phys_range_ok(addr, len) ||
	    pfn_is_device_memory(PHYS_PFN(addr)))
		return -EINVAL;

	*range = (struct cpu_phys){ .addr = addr, .len = len, .raw = true };
	return 0;
}
EXPORT_SYMBOL_GPL(cpu_phys_from_raw);

/* Is @res a memory resource that has an address, and holds the range? */
static bool mmio_resource_holds(const struct resource *res, u64 offset,
				size_t len)
{
	u64 last;

	if (resource_type(res) != IORESOURCE_MEM ||
	    res->flags & (IORESOURCE_UNSET | IORESOURCE_DISABLED) ||
	    res->end < res->start)
		return false;

	/* A resource may span all addresses: its size does not fit in 64 bits. */
	last = res->end - res->start;
	return len && offset <= last && len - 1 <= last - offset;
}

/**
 * mmio_phys_from_resource() - make a range of device memory from a resource
 * @res: a memory resource, such as the registers of a platform device
 * @offset: bytes from the start of the resource to the first byte
 * @len: length in bytes
 * @range: the range, written on success only
 *
 * For device memory that every bus master reaches at its physical address, such
 * as the FIFO that a DMA engine feeds. Not for a PCI BAR: no P2P path is
 * checked and the owner is not held.
 *
 * Context: See cpu_phys_from_addr().
 * Return: 0, or -EINVAL if a pointer is NULL, @res is not memory or has no
 * address, the range is empty or leaves @res, or System RAM is in it.
 */
noinline int mmio_phys_from_resource(const struct resource *res, u64 offset,
				     size_t len, struct mmio_phys *range)
{
	phys_addr_t addr;

	if (!res || !range || !mmio_resource_holds(res, offset, len))
		return -EINVAL;

	/* A driver may have filled in @res with the address of RAM. */
	addr = res->start + offset;
	if (region_intersects(addr, len, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT)
		return -EINVAL;

	*range = (struct mmio_phys){ .addr = addr, .len = len };
	return 0;
}
EXPORT_SYMBOL_GPL(mmio_phys_from_resource);

/**
 * mmio_phys_from_bar() - make a range of device memory from a PCI BAR
 * @owner: device whose driver shares the BAR, see dma_phys_peer_register()
 * @bar: index of the BAR, 0 to 5
 * @offset: bytes from the start of the BAR to the first byte
 * @len: length in bytes
 * @range: the range, written on success only
 *
 * Context: See cpu_phys_from_addr().
 * Return:
 * * 0 - success
 * * -EINVAL - a pointer is NULL, there is no such BAR, it is not memory, the
 *   range is empty or leaves the BAR, or System RAM is in it
 * * -ENODEV - the BAR is not registered as a peer, or the kernel has no
 *   CONFIG_PCI_P2PDMA
 */
int mmio_phys_from_bar(struct pci_dev *owner, int bar, u64 offset, size_t len,
		       struct mmio_phys *range)
{
	u32 peer;
	int err;

	if (!owner || bar < 0 || bar >= PCI_STD_NUM_BARS ||
	    !(pci_resource_flags(owner, bar) & IORESOURCE_MEM))
		return -EINVAL;

	err = dma_phys_peer_find(owner, bar, &peer);
	if (err)
		return err;

	err = mmio_phys_from_resource(pci_resource_n(owner, bar), offset, len,
				      range);
	if (!err)
		range->peer = peer;
	return err;
}
EXPORT_SYMBOL_GPL(mmio_phys_from_bar);

// SPDX-License-Identifier: GPL-2.0
/*
 * What is this address? Ranges of one kind, proved before they exist.
 */
#include <linux/dma-phys.h>
#include <linux/efi.h>
#include <linux/export.h>
#include <linux/highmem.h>
#include <linux/ioport.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pci.h>
#include <linux/sched/task_stack.h>
#include <linux/uaccess.h>

#ifdef CONFIG_X86
#include <asm/e820/api.h>
#endif

#include "internal.h"

struct ram_count {
	phys_addr_t last;
	u64 bytes;
};

static int count_ram(struct resource *res, void *data)
{
	struct ram_count *count = data;

	count->bytes += min_t(u64, res->end, count->last) - res->start + 1;
	return 0;
}

/*
 * Bytes that are RAM of the kernel's: region_intersects() says yes to a range
 * that ends where nothing is. The walk finds nothing in a single byte: it goes
 * one beyond the last.
 */
static u64 system_ram(phys_addr_t addr, size_t len)
{
	struct ram_count count = { .last = addr + len - 1 };

	if (count.last == PHYS_ADDR_MAX)
		return 0;

	walk_system_ram_res(addr, count.last + 1, &count, count_ram);
	return count.bytes;
}

#ifdef CONFIG_X86
static u64 common(u64 addr, u64 len, u64 start, u64 size)
{
	u64 first = max(addr, start);
	u64 last = min(addr + (len - 1), start + (size - 1));

	return size && first <= last ? last - first + 1 : 0;
}

/* Tables that EFI left in memory, and the kernel keeps for it. */
static bool efi_owns(phys_addr_t addr, size_t len)
{
	efi_memory_desc_t *md;

	if (!efi_enabled(EFI_BOOT))
		return false;
	if (!efi_enabled(EFI_MEMMAP))
		return true;

	for_each_efi_memory_desc(md)
		if (md->attribute & EFI_MEMORY_RUNTIME &&
		    common(addr, len, md->phys_addr,
			   md->num_pages << EFI_PAGE_SHIFT))
			return true;
	return false;
}

static u64 table_ram(const struct e820_table *table, u64 addr, u64 len)
{
	u64 ram = 0;

	for (u32 i = 0; i < table->nr_entries; i++)
		if (table->entries[i].type == E820_TYPE_RAM)
			ram += common(addr, len, table->entries[i].addr,
				      table->entries[i].size);
	return ram;
}

/* Bytes that the firmware says are RAM, whatever the command line says. */
static u64 firmware_ram(phys_addr_t addr, size_t len)
{
	return table_ram(e820_table_firmware, addr, len);
}

/* Where it is not the kernel's it is reserved or left out, for no known use. */
static bool kept_ram(phys_addr_t addr, size_t len)
{
	const struct e820_table *table = e820_table;

	/* The first megabyte is the BIOS's, which seldom says so. */
	if (addr < SZ_1M || firmware_ram(addr, len) != len ||
	    efi_owns(addr, len))
		return false;

	for (u32 i = 0; i < table->nr_entries; i++)
		if (table->entries[i].type != E820_TYPE_RAM &&
		    table->entries[i].type != E820_TYPE_RESERVED &&
		    common(addr, len, table->entries[i].addr,
			   table->entries[i].size))
			return false;

	/* The kernel's own may have been unplugged. */
	return table_ram(table, addr, len) == system_ram(addr, len);
}
#else
/* Who keeps a memory map that the command line has not changed? */
static u64 firmware_ram(phys_addr_t addr, size_t len)
{
	return 0;
}

static bool kept_ram(phys_addr_t addr, size_t len)
{
	return false;
}
#endif

/* A claim is busy; a device's window, or its BAR, is not. */
static int is_device(struct resource *res, void *last)
{
	return res->start <= *(phys_addr_t *)last &&
	       !(res->flags & IORESOURCE_BUSY) &&
	       res->desc != IORES_DESC_RESERVED;
}

/* Where the kernel was told of no RAM, it may have put a device. */
static bool holds_device(phys_addr_t addr, size_t len)
{
	phys_addr_t last = addr + len - 1;

	return walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_MEM, addr,
				   last + 1, &last, is_device) > 0;
}

static bool all_ram(phys_addr_t addr, size_t len)
{
	return system_ram(addr, len) == len ||
	       (kept_ram(addr, len) && !holds_device(addr, len));
}

/* As copy_from_kernel_nofault(), for a byte whose address is a kernel's. */
static bool readable(const void *addr)
{
	u8 byte;

	pagefault_disable();
	__get_kernel_nofault(&byte, addr, u8, fault);
	pagefault_enable();
	return true;
fault:
	pagefault_enable();
	return false;
}

/*
 * Memory that was kept from the kernel, as with memmap= or mem=, has no place
 * in its direct map, though it may have pages.
 */
bool dma_phys_in_direct_map(phys_addr_t phys, size_t len)
{
	unsigned long last = PHYS_PFN(phys + len - 1);

	for (unsigned long pfn = PHYS_PFN(phys); pfn <= last; pfn++)
		if (!pfn_valid(pfn) ||
		    (!PageHighMem(pfn_to_page(pfn)) &&
		     !readable(__va(PFN_PHYS(pfn)))))
			return false;
	return true;
}

/*
 * Device memory may have a struct page too. Pages of another device's BAR, and
 * pages that the CPU cannot reach, are never cacheable memory.
 */
static bool page_is_device_memory(struct page *page)
{
	return is_pci_p2pdma_page(page) || is_device_private_page(page);
}

/**
 * cpu_phys_from_addr() - range of memory from a physical address, with proof
 * @addr: physical address of the first byte
 * @len: length in bytes
 * @range: where the range is stored
 *
 * Proves that every byte is RAM in the system's memory map, and none of it
 * device memory with struct pages. The proof walks the resource tree: use
 * cpu_phys_from_page() or cpu_phys_from_virt() where a page or a pointer is
 * at hand.
 *
 * RAM that was kept from the kernel with memmap= or mem= is RAM as well, where
 * the firmware's own map says so: on x86, beyond the first megabyte, and
 * neither persistent nor put to another use. Where the device does not reach
 * it by itself or through an IOMMU, it cannot be mapped: nothing that is not
 * in the kernel's direct map can be bounced.
 *
 * Context: Process, atomic or not: the resource lock is no interrupt's.
 * Return: 0, or -EINVAL where @len is 0, the range wraps around, any byte is
 * not RAM, or @range is NULL. @range is written on success only.
 */
int cpu_phys_from_addr(phys_addr_t addr, size_t len, struct cpu_phys *range)
{
	if (!range || !dma_phys_range_ok(addr, len) || !all_ram(addr, len))
		return -EINVAL;

	*range = (struct cpu_phys){ .addr = addr, .len = len };
	return 0;
}
EXPORT_SYMBOL_GPL(cpu_phys_from_addr);

/* The page allocator has handed out all of it, as one. */
static bool in_folio(struct page *page, size_t offset, size_t len)
{
	size_t start = folio_page_idx(page_folio(page), page) << PAGE_SHIFT;

	return !PageReserved(page) && offset <= SIZE_MAX - start &&
	       dma_phys_within(start + offset, len,
			       folio_size(page_folio(page)));
}

/**
 * cpu_phys_from_page() - range of memory from a page
 * @page: the page in which the range starts
 * @offset: bytes from the start of @page to the first byte
 * @len: length in bytes
 * @range: where the range is stored
 *
 * Cheap for memory that the page allocator handed out, up to the end of its
 * folio. Anything else (reserved pages, several folios in a row) is proved as
 * by cpu_phys_from_addr().
 *
 * Context: Any for memory of one folio, else as cpu_phys_from_addr().
 * Return: 0, or -EINVAL where @len is 0, the range wraps around or leaves RAM,
 * @page is device memory, or a pointer is NULL. @range is written on success
 * only.
 */
int cpu_phys_from_page(struct page *page, size_t offset, size_t len,
		       struct cpu_phys *range)
{
	phys_addr_t addr;

	if (!page || !range || !len || page_is_device_memory(page))
		return -EINVAL;

	if (check_add_overflow(page_to_phys(page), (phys_addr_t)offset, &addr))
		return -EINVAL;

	if (!in_folio(page, offset, len))
		return cpu_phys_from_addr(addr, len, range);

	*range = (struct cpu_phys){ .addr = addr, .len = len };
	return 0;
}
EXPORT_SYMBOL_GPL(cpu_phys_from_page);

/**
 * cpu_phys_from_virt() - range of memory from a kernel virtual address
 * @addr: first byte, in the kernel's linear map
 * @len: length in bytes
 * @range: where the range is stored
 *
 * For memory of kmalloc() and of the page allocator. An address of vmalloc(),
 * of a stack, of a module or of the kernel image is refused: its pages need
 * not be adjacent, or must not be shared with a device.
 *
 * Context: Any for memory of one folio, else as cpu_phys_from_addr().
 * Return: 0, or -EINVAL where @len is 0, @addr is not in the linear map or the
 * range leaves RAM, or a pointer is NULL. @range is written on success only.
 */
int cpu_phys_from_virt(const void *addr, size_t len, struct cpu_phys *range)
{
	struct page *page;

	if (!addr || is_vmalloc_addr(addr) || !virt_addr_valid(addr))
		return -EINVAL;

	/* The kernel image has a second address, which is not this one. */
	if (__va(__pa(addr)) != addr || object_is_on_stack(addr))
		return -EINVAL;

	page = virt_to_page(addr);
	if (!in_folio(page, offset_in_page(addr), len) &&
	    !dma_phys_in_direct_map(__pa(addr), len))
		return -EINVAL;

	return cpu_phys_from_page(page, offset_in_page(addr), len, range);
}
EXPORT_SYMBOL_GPL(cpu_phys_from_virt);

/* Device memory at @offset of a resource that spans [@start, @start + @size). */
static int mmio_range(phys_addr_t start, u64 size, u64 offset, size_t len,
		      u32 peer, struct mmio_phys *range)
{
	if (!range || !len || !dma_phys_within(offset, len, size) ||
	    !dma_phys_range_ok(start + offset, len))
		return -EINVAL;

	/* No struct resource is proof against a driver that filled it wrong. */
	if (region_intersects(start + offset, len, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT ||
	    firmware_ram(start + offset, len))
		return -EINVAL;

	*range = (struct mmio_phys){
		.addr = start + offset,
		.len = len,
		.peer = peer,
	};
	return 0;
}

/**
 * mmio_phys_from_bar() - range of device memory from a PCI BAR
 * @owner: the device that owns the BAR, and lends it as a peer
 * @bar: index of the BAR, 0 to 5
 * @offset: bytes from the start of the BAR to the first byte
 * @len: length in bytes
 * @range: where the range is stored
 *
 * The range may be kept after the peer has gone: maps of it then fail.
 *
 * Context: Process, atomic or not.
 * Return:
 * * 0 - @range is written, as it is on success only
 * * -EINVAL - no such BAR, it is not memory, the range is empty or leaves it,
 *   or a pointer is NULL
 * * -ENODEV - @owner has not registered the BAR with dma_phys_peer_register(),
 *   or has gone
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

	return mmio_range(pci_resource_start(owner, bar),
			  pci_resource_len(owner, bar), offset, len, peer,
			  range);
}
EXPORT_SYMBOL_GPL(mmio_phys_from_bar);

/**
 * mmio_phys_from_resource() - range of device memory from a resource
 * @res: a memory resource, such as a platform device's registers
 * @offset: bytes from the start of the resource to the first byte
 * @len: length in bytes
 * @range: where the range is stored
 *
 * For what dma_map_resource() is used for: a device memory that every bus
 * master reaches at its physical address, such as the FIFO that a DMA engine
 * feeds. Not for a PCI BAR, which is lent as a peer: nothing here asks whether
 * it can be reached, or holds its owner. See mmio_phys_from_bar().
 *
 * Context: Process, atomic or not.
 * Return: 0, or -EINVAL where @res is not memory with an address, the range is
 * empty, leaves it or holds RAM, or a pointer is NULL. @range is written on
 * success only.
 */
int mmio_phys_from_resource(const struct resource *res, u64 offset, size_t len,
			    struct mmio_phys *range)
{
	if (!res || resource_type(res) != IORESOURCE_MEM ||
	    res->flags & (IORESOURCE_UNSET | IORESOURCE_DISABLED) ||
	    res->end < res->start)
		return -EINVAL;

	/* All of a 64-bit address space has no length: leave its last byte. */
	return mmio_range(res->start,
			  min_t(u64, res->end - res->start, U64_MAX - 1) + 1,
			  offset, len, 0, range);
}
EXPORT_SYMBOL_GPL(mmio_phys_from_resource);

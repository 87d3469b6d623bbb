// SPDX-License-Identifier: GPL-2.0
/*
 * Misuse of the raw DMA API, and the same with typed maps.
 *
 * Each entry of the table at the end is a mistake that a driver can make, once
 * with the raw API and once with <linux/dma-phys.h>. A command in debugfs makes
 * it and reports the outcome:
 *
 *	echo "raw h01" >raw_hazards/0000:00:08.0/command
 *	cat raw_hazards/0000:00:08.0/result
 *
 * The raw half does what a driver with that mistake would do, and no more. It
 * can crash the kernel and corrupt memory: use it in a virtual machine that can
 * be thrown away.
 *
 * It binds by driver_override only, to QEMU's "edu", which copies bytes between
 * memory and a buffer of its own, and to "ivshmem-plain", whose BAR 2 is device
 * memory.
 */
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-peer.h>
#include <linux/dma-phys.h>
#include <linux/iommu-dma.h>
#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "../../kernel/dma/phys/tests/edu.h"

/* Bytes of a transfer. */
#define LEN			512
#define BUF_ORDER		4
#define BUF_BYTES		(PAGE_SIZE << BUF_ORDER)

/* The largest bounce buffer, and the maximum number of chunks. */
#define BOUNCE_MAX		(IO_TLB_SIZE * IO_TLB_SEGSIZE)
#define MAX_CHUNKS		2048

/* Entries of an array of segments. */
#define MAX_SEGMENTS		32

static ulong reserved;
module_param(reserved, ulong, 0444);
MODULE_PARM_DESC(reserved, "address of a page of memory that memmap= has reserved");

/* A bounce buffer or IOVA that is mapped in order to count the free ones. */
struct chunk {
	dma_addr_t addr;
	size_t len;
};

/**
 * struct hazards - the devices, and what one command leaves for the next
 * @pdev: edu, NULL if it is not bound
 * @dev: the same
 * @regs: its registers
 * @exchange: memory through which the CPU accesses the buffer of edu
 * @exchange_addr: its DMA address
 * @peer: ivshmem, NULL if it is not bound
 * @peer_memory: its BAR
 * @debugfs: directory of edu
 * @lock: serializes commands
 * @result: outcome of the last command
 * @buf: the memory that is mapped
 * @chunks: see hz_map_all()
 * @raw_addr: DMA address of a raw map that a command has left
 * @map: a typed map
 */
struct hazards {
	struct pci_dev *pdev;
	struct device *dev;
	u8 __iomem *regs;
	u8 *exchange;
	dma_addr_t exchange_addr;
	struct pci_dev *peer;
	u8 __iomem *peer_memory;
	struct dentry *debugfs;
	struct mutex lock;	/* see above */
	char result[256];
	u8 *buf;
	struct chunk *chunks;
	dma_addr_t raw_addr;
	struct dma_phys_map map;
};

static struct hazards hz = {
	.lock = __MUTEX_INITIALIZER(hz.lock),
};

static struct dentry *hz_root;

/* Append to the outcome. */
static __printf(1, 2) void hz_add(const char *format, ...)
{
	size_t len = strlen(hz.result);
	va_list args;

	if (len)
		len += scnprintf(hz.result + len, sizeof(hz.result) - len,
				 "; ");
	va_start(args, format);
	vscnprintf(hz.result + len, sizeof(hz.result) - len, format, args);
	va_end(args);
}

/* ---- Transfers ---- */

static u8 hz_pattern(size_t at)
{
	return 1 + at % 251;
}

static void hz_fill(u8 *to)
{
	for (size_t i = 0; i < LEN; i++)
		to[i] = hz_pattern(i);
}

static unsigned int hz_count_pattern(const u8 *from)
{
	unsigned int n = 0;

	for (size_t i = 0; i < LEN; i++)
		n += from[i] == hz_pattern(i);
	return n;
}

static void hz_transfer(dma_addr_t addr, bool to_memory)
{
	if (edu_transfer(hz.regs, addr, LEN, to_memory))
		hz_add("the device does not finish");
}

/* The device writes the pattern to @addr. */
static void hz_device_writes(dma_addr_t addr)
{
	hz_fill(hz.exchange);
	hz_transfer(hz.exchange_addr, false);
	hz_transfer(addr, true);
}

/* The number of bytes of the pattern that the device reads at @addr. */
static unsigned int hz_device_reads(dma_addr_t addr)
{
	hz_transfer(addr, false);
	memset(hz.exchange, 0, LEN);
	hz_transfer(hz.exchange_addr, true);
	return hz_count_pattern(hz.exchange);
}

static void hz_add_arrived(void)
{
	hz_add("%u of %u bytes arrived", hz_count_pattern(hz.buf), LEN);
}

/* ---- Leaks ---- */

static bool hz_map_chunk(struct chunk *chunk, size_t len)
{
	chunk->len = len;
	chunk->addr = dma_map_phys(hz.dev, virt_to_phys(hz.chunks), len,
				   DMA_TO_DEVICE, DMA_ATTR_NO_WARN);
	return !dma_mapping_error(hz.dev, chunk->addr);
}

/* Take all bounce buffers or all IOVA space, large chunks first. */
static unsigned int hz_map_all(void)
{
	unsigned int n = 0;

	msleep(50);	/* for IOVAs that are flushed later */
	for (size_t len = BOUNCE_MAX; len >= IO_TLB_SIZE; len /= 2)
		while (n < MAX_CHUNKS && hz_map_chunk(&hz.chunks[n], len))
			n++;
	return n;
}

static size_t hz_unmap_all(unsigned int n)
{
	size_t bytes = 0;

	while (n--) {
		dma_unmap_phys(hz.dev, hz.chunks[n].addr, hz.chunks[n].len,
			       DMA_TO_DEVICE, 0);
		bytes += hz.chunks[n].len;
	}
	return bytes;
}

/* ---- Shared by many cases ---- */

static phys_addr_t hz_phys(void)
{
	return virt_to_phys(hz.buf);
}

static struct cpu_phys hz_range(size_t len)
{
	return (struct cpu_phys){ .addr = hz_phys(), .len = len };
}

static struct resource *hz_bar(void)
{
	return &hz.peer->resource[IVSHMEM_BAR];
}

static bool raw_map(dma_addr_t *addr, phys_addr_t phys, size_t len,
		    enum dma_data_direction dir, unsigned long attrs)
{
	*addr = dma_map_phys(hz.dev, phys, len, dir, attrs);
	if (!dma_mapping_error(hz.dev, *addr))
		return true;
	hz_add("DMA_MAPPING_ERROR");
	return false;
}

static bool typed_map(struct dma_phys_map *map, struct cpu_phys range,
		      enum dma_data_direction dir, u32 flags)
{
	int err = dma_phys_map_cpu(hz.dev, &range, dir, flags, map);

	if (err)
		hz_add("error %d", err);
	return !err;
}

/* Map and unmap: nothing is transferred. */
static void raw_try(phys_addr_t phys, size_t len, enum dma_data_direction dir)
{
	dma_addr_t addr;

	if (!raw_map(&addr, phys, len, dir, 0))
		return;
	hz_add("mapped");
	dma_unmap_phys(hz.dev, addr, len, dir, 0);
}

static void typed_try(struct cpu_phys range, enum dma_data_direction dir)
{
	struct dma_phys_map map = {};

	if (!typed_map(&map, range, dir, 0))
		return;
	hz_add("mapped");
	dma_phys_unmap(&map);
}

/* The device writes a buffer. Only @dir and @attrs of the unmap are wrong. */
static void raw_receive(enum dma_data_direction dir, unsigned long attrs)
{
	dma_addr_t addr;

	if (!raw_map(&addr, hz_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	hz_device_writes(addr);
	dma_unmap_phys(hz.dev, addr, LEN, dir, attrs);
	hz_add_arrived();
}

static void typed_receive(void)
{
	struct dma_phys_map map = {};

	if (!typed_map(&map, hz_range(LEN), DMA_FROM_DEVICE, 0))
		return;
	hz_device_writes(map.addr);
	dma_phys_unmap(&map);
	hz_add_arrived();
}

/* ---- Arguments ---- */

static void h01_raw(void)
{
	raw_try(hz_phys(), LEN, DMA_NONE);
}

static void h01_typed(void)
{
	typed_try(hz_range(LEN), DMA_NONE);
}

static void h02_raw(void)
{
	raw_try(hz_phys(), 0, DMA_TO_DEVICE);
}

static void h02_typed(void)
{
	typed_try(hz_range(0), DMA_TO_DEVICE);
}

/* The range ends in the first page of memory. */
static size_t hz_wrapping_len(void)
{
	return PAGE_SIZE - hz_phys();
}

static void h03_raw(void)
{
	raw_try(hz_phys(), hz_wrapping_len(), DMA_TO_DEVICE);
}

static void h03_typed(void)
{
	typed_try(hz_range(hz_wrapping_len()), DMA_TO_DEVICE);
}

/* A length that is not checked: the number of slots, in 32 bits, is 0 or 1. */
static void h04_raw(void)
{
	raw_try(hz_phys(), SZ_8T, DMA_TO_DEVICE);
}

static void h04_typed(void)
{
	typed_try(hz_range(SZ_8T), DMA_TO_DEVICE);
}

static void h04_more_raw(void)
{
	raw_try(hz_phys(), SZ_8T + IO_TLB_SIZE, DMA_TO_DEVICE);
}

static void h04_more_typed(void)
{
	typed_try(hz_range(SZ_8T + IO_TLB_SIZE), DMA_TO_DEVICE);
}

/* Like a device that was not initialized completely. */
static void hz_without_mask(void (*try)(void))
{
	u64 *mask = hz.dev->dma_mask;

	hz.dev->dma_mask = NULL;
	try();
	hz.dev->dma_mask = mask;
}

static void raw_try_buf(void)
{
	raw_try(hz_phys(), LEN, DMA_TO_DEVICE);
}

static void typed_try_buf(void)
{
	typed_try(hz_range(LEN), DMA_TO_DEVICE);
}

static void h05_raw(void)
{
	hz_without_mask(raw_try_buf);
}

static void h05_typed(void)
{
	hz_without_mask(typed_try_buf);
}

/* The device addresses 32 bits, and the memory is beyond. */
static bool hz_out_of_reach(void)
{
	if (dma_set_mask(hz.dev, DMA_BIT_MASK(32)) ||
	    hz_phys() <= DMA_BIT_MASK(32)) {
		hz_add("the memory is within 32 bits");
		return false;
	}
	return true;
}

static void h06_raw(void)
{
	if (hz_out_of_reach())
		raw_try_buf();
}

static void h06_typed(void)
{
	if (hz_out_of_reach())
		typed_try_buf();
}

/* ---- Kinds ---- */

/* Like a device behind an external port. Other data is in the same page. */
static void h07_raw(void)
{
	dma_addr_t addr;

	hz.pdev->untrusted = true;
	hz_fill(hz.buf + LEN);
	if (!raw_map(&addr, hz_phys(), LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO))
		return;
	hz_add("the device reads %u of %u bytes beside the range",
	       hz_device_reads(addr + LEN), LEN);
	dma_unmap_phys(hz.dev, addr, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

static void h07_typed(void)
{
	struct resource res = DEFINE_RES_MEM(hz_phys(), LEN);
	struct mmio_phys range;

	hz.pdev->untrusted = true;
	hz_add("error %d", mmio_phys_from_resource(&res, 0, LEN, &range));
}

static void h08_raw(void)
{
	raw_try(hz_bar()->start, LEN, DMA_TO_DEVICE);
}

static void h08_typed(void)
{
	struct cpu_phys range;

	hz_add("error %d", cpu_phys_from_addr(hz_bar()->start, LEN, &range));
}

/* ---- Unmap and sync ---- */

static void h09_raw(void)
{
	raw_receive(DMA_FROM_DEVICE, DMA_ATTR_MMIO);
}

static void h10_direction_raw(void)
{
	raw_receive(DMA_TO_DEVICE, 0);
}

static void h10_swapped_raw(void)
{
	dma_addr_t addr;

	if (!raw_map(&addr, hz_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	dma_unmap_phys(hz.dev, LEN, addr, DMA_FROM_DEVICE, 0);
	hz_add("unmapped");
}

/*
 * The first command maps. Then sysfs changes the IOMMU domain of the device,
 * while no driver is bound. The second command unmaps.
 */
static void h11_raw(void)
{
	if (!hz.raw_addr) {
		raw_map(&hz.raw_addr, hz_phys(), LEN, DMA_FROM_DEVICE, 0);
		return;
	}
	dma_unmap_phys(hz.dev, hz.raw_addr, LEN, DMA_FROM_DEVICE, 0);
	hz.raw_addr = 0;
	hz_add("unmapped");
}

static void h11_typed(void)
{
	if (!hz.map.dev) {
		typed_map(&hz.map, hz_range(LEN), DMA_FROM_DEVICE, 0);
		return;
	}
	dma_phys_unmap(&hz.map);
	hz_add("unmapped");
}

static void h12_raw(void)
{
	raw_receive(DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
}

static void h12_typed(void)
{
	struct dma_phys_map map = {};

	if (!typed_map(&map, hz_range(LEN), DMA_FROM_DEVICE,
		       DMA_PHYS_SKIP_CPU_SYNC))
		return;
	hz_device_writes(map.addr);
	if (dma_phys_sync_for_cpu(&map, 0, LEN))
		hz_add("not synced");
	dma_phys_unmap(&map);
	hz_add_arrived();
}

/* The device writes a buffer. Only @len and @dir of the sync are wrong. */
static void raw_sync(size_t len, enum dma_data_direction dir)
{
	dma_addr_t addr;

	if (!raw_map(&addr, hz_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	hz_device_writes(addr);
	dma_sync_single_for_cpu(hz.dev, addr, len, dir);
	hz_add_arrived();
	dma_unmap_phys(hz.dev, addr, LEN, DMA_FROM_DEVICE, 0);
}

static void typed_sync(size_t len)
{
	struct dma_phys_map map = {};
	int err;

	if (!typed_map(&map, hz_range(LEN), DMA_FROM_DEVICE, 0))
		return;
	hz_device_writes(map.addr);
	err = dma_phys_sync_for_cpu(&map, 0, len);
	if (err)
		hz_add("error %d", err);
	else
		hz_add_arrived();
	dma_phys_unmap(&map);
}

static void h14_raw(void)
{
	raw_sync(PAGE_SIZE, DMA_FROM_DEVICE);
}

static void h14_typed(void)
{
	typed_sync(PAGE_SIZE);
}

static void h14_direction_raw(void)
{
	raw_sync(LEN, DMA_TO_DEVICE);
}

static void h14_direction_typed(void)
{
	typed_sync(LEN);
}

/* Two causes have one value, and the driver checks for neither. */
static void h15_raw(void)
{
	dma_addr_t large, full;
	unsigned int n;

	large = dma_map_phys(hz.dev, hz_phys(), 2 * BOUNCE_MAX, DMA_FROM_DEVICE,
			     0);
	n = hz_map_all();
	full = dma_map_phys(hz.dev, hz_phys(), BOUNCE_MAX, DMA_FROM_DEVICE, 0);
	hz_unmap_all(n);

	hz_add("%s for a range that is too large and for no free bounce buffer",
	       large == full ? "one value" : "two values");
	hz_device_writes(full);
	hz_add_arrived();
}

static void h15_typed(void)
{
	unsigned int n;

	typed_try(hz_range(2 * BOUNCE_MAX), DMA_FROM_DEVICE);
	n = hz_map_all();
	typed_try(hz_range(BOUNCE_MAX), DMA_FROM_DEVICE);
	hz_unmap_all(n);
}

/* ---- IOMMU ---- */

static void h16_raw(void)
{
	raw_try(0, PAGE_SIZE, DMA_TO_DEVICE);
}

static void h16_typed(void)
{
	typed_try((struct cpu_phys){ .addr = 0, .len = PAGE_SIZE },
		  DMA_TO_DEVICE);
}

static void h17_raw(void)
{
	dma_addr_t addr;

	hz.pdev->untrusted = true;
	if (!raw_map(&addr, hz_bar()->start + LEN, LEN, DMA_TO_DEVICE,
		     DMA_ATTR_MMIO))
		return;
	hz_add("the device reads %u of %u bytes beside the range",
	       hz_device_reads(addr - LEN), LEN);
	dma_unmap_phys(hz.dev, addr, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

static void h17_typed(void)
{
	struct dma_phys_map map = {};
	struct mmio_phys range;
	int err;

	hz.pdev->untrusted = true;
	err = mmio_phys_from_resource(hz_bar(), LEN, LEN, &range);
	err = err ?: dma_phys_map_mmio(hz.dev, &range, DMA_TO_DEVICE, 0, &map);
	hz_add("error %d", err);
	dma_phys_unmap(&map);
}

static bool raw_iova(struct dma_iova_state *state, size_t len)
{
	if (!dma_iova_try_alloc(hz.dev, state, hz_phys(), len)) {
		hz_add("no IOVA");
		return false;
	}
	if (dma_iova_link(hz.dev, state, hz_phys(), 0, len, DMA_TO_DEVICE, 0) ||
	    dma_iova_sync(hz.dev, state, 0, len))
		hz_add("not linked");
	return true;
}

/* Four pages are linked at an IOVA of three. */
static void h18_raw(void)
{
	size_t len = 3 * PAGE_SIZE;
	struct dma_iova_state state;

	if (!raw_iova(&state, len))
		return;
	hz_fill(hz.buf + len);
	hz_add("linked beyond the end: error %d",
	       dma_iova_link(hz.dev, &state, hz_phys() + len, len, PAGE_SIZE,
			     DMA_TO_DEVICE, 0));
	dma_iova_destroy(hz.dev, &state, len, DMA_TO_DEVICE, 0);
	hz_add("the device reads %u of %u bytes of it after unmap",
	       hz_device_reads(state.addr + len), LEN);
}

/*
 * Map two pages that are not adjacent. Returns the DMA address of the second
 * one, or 0.
 */
static dma_addr_t typed_map_pages(struct dma_phys_sg *sg)
{
	struct cpu_phys ranges[2] = {
		hz_range(PAGE_SIZE), hz_range(PAGE_SIZE)
	};
	struct dma_phys_segment segments[MAX_SEGMENTS];
	int count;

	ranges[1].addr += 2 * PAGE_SIZE;
	count = dma_phys_sg_map_cpu(hz.dev, ranges, 2, DMA_TO_DEVICE, 0,
				    segments, MAX_SEGMENTS, sg);
	if (count < 0) {
		hz_add("error %d", count);
		return 0;
	}
	return count == 1 ? segments[0].addr + PAGE_SIZE : segments[1].addr;
}

static void h18_typed(void)
{
	struct dma_phys_sg sg = {};
	dma_addr_t second = typed_map_pages(&sg);

	if (!second)
		return;
	hz_fill(hz.buf + 2 * PAGE_SIZE);
	hz_add("the device reads %u of %u bytes of the second page",
	       hz_device_reads(second), LEN);
	dma_phys_sg_unmap(&sg);
}

static void h18_twice_raw(void)
{
	struct dma_iova_state state;

	if (!raw_iova(&state, PAGE_SIZE))
		return;
	dma_iova_destroy(hz.dev, &state, PAGE_SIZE, DMA_TO_DEVICE, 0);
	dma_iova_destroy(hz.dev, &state, PAGE_SIZE, DMA_TO_DEVICE, 0);
	hz_add("unmapped twice");
}

static void h18_twice_typed(void)
{
	struct dma_phys_sg sg = {};

	typed_map_pages(&sg);
	dma_phys_sg_unmap(&sg);
	dma_phys_sg_unmap(&sg);
	hz_add("unmapped once");
}

/*
 * The state is part of a request. It is not cleared for the next request, which
 * is mapped without an IOVA, and is evaluated when that request ends.
 */
static void h19_raw(void)
{
	struct dma_iova_state state;
	dma_addr_t addr;

	if (!raw_iova(&state, PAGE_SIZE))
		return;
	dma_iova_destroy(hz.dev, &state, PAGE_SIZE, DMA_TO_DEVICE, 0);

	if (!raw_map(&addr, hz_phys(), 2 * PAGE_SIZE, DMA_TO_DEVICE, 0))
		return;
	if (dma_use_iova(&state))
		dma_iova_destroy(hz.dev, &state, PAGE_SIZE, DMA_TO_DEVICE, 0);
	else
		dma_unmap_phys(hz.dev, addr, 2 * PAGE_SIZE, DMA_TO_DEVICE, 0);
	hz_add("the second request has ended");
}

static void h19_typed(void)
{
	struct cpu_phys range = hz_range(2 * PAGE_SIZE);
	struct dma_phys_segment segments[MAX_SEGMENTS];
	struct dma_phys_sg sg = {};
	int count;

	typed_map_pages(&sg);
	dma_phys_sg_unmap(&sg);
	count = dma_phys_sg_map_cpu(hz.dev, &range, 1, DMA_TO_DEVICE, 0,
				    segments, MAX_SEGMENTS, &sg);
	if (count < 0)
		hz_add("error %d", count);
	dma_phys_sg_unmap(&sg);
	hz_add("the second request has ended");
}

/* Called once, after dma_set_mask(), as if the result could not change. */
static void h20_raw(void)
{
	dma_addr_t addr;
	bool unmap;

	if (!hz_out_of_reach())
		return;
	unmap = dma_need_unmap(hz.dev);
	if (!raw_map(&addr, hz_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	hz_device_writes(addr);
	if (unmap)
		dma_unmap_phys(hz.dev, addr, LEN, DMA_FROM_DEVICE, 0);
	hz_add_arrived();
}

static void h20_typed(void)
{
	if (hz_out_of_reach())
		typed_receive();
}

/* Offset of the second range in the BAR. */
#define SECOND			SZ_64K

/* The calls of dma_buf_phys_vec_to_sgt(), with two ranges. */
static void h21_raw(void)
{
	struct dma_iova_state state;
	size_t mapped = 0;
	int err = 0;

	if (!dma_iova_try_alloc(hz.dev, &state, 0, 2 * PAGE_SIZE)) {
		hz_add("no IOVA");
		return;
	}
	for (int i = 0; i < 2 && !err; i++) {
		err = dma_iova_link(hz.dev, &state,
				    hz_bar()->start + i * SECOND, 0, PAGE_SIZE,
				    DMA_TO_DEVICE, DMA_ATTR_MMIO);
		if (!err)
			mapped += PAGE_SIZE;
	}
	if (!err)
		err = dma_iova_sync(hz.dev, &state, 0, mapped);
	if (err)
		hz_add("error %d", err);
	else
		hz_add("the device reads %u of %u bytes of the second range",
		       hz_device_reads(state.addr + PAGE_SIZE), LEN);
	dma_iova_destroy(hz.dev, &state, mapped, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

static void h21_typed(void)
{
	struct dma_phys_segment segments[MAX_SEGMENTS];
	struct dma_phys_sg sg = {};
	struct mmio_phys ranges[2];
	dma_addr_t second;
	int err;

	err = mmio_phys_from_resource(hz_bar(), 0, PAGE_SIZE, &ranges[0]);
	err = err ?: mmio_phys_from_resource(hz_bar(), SECOND, PAGE_SIZE,
					     &ranges[1]);
	err = err ?: dma_phys_sg_map_mmio(hz.dev, ranges, 2, DMA_TO_DEVICE, 0,
					  segments, MAX_SEGMENTS, &sg);
	if (err < 0) {
		hz_add("error %d", err);
		return;
	}
	second = err == 1 ? segments[0].addr + PAGE_SIZE : segments[1].addr;
	hz_add("the device reads %u of %u bytes of the second range",
	       hz_device_reads(second), LEN);
	dma_phys_sg_unmap(&sg);
}

/* Nothing is transferred, so the memory need not exist. */
static void h22_raw(void)
{
	size_t len = SZ_4G;
	struct scatterlist sg;

	sg_init_table(&sg, 1);
	sg_set_page(&sg, virt_to_page(hz.buf), len, 0);
	if (!dma_map_sg(hz.dev, &sg, 1, DMA_TO_DEVICE)) {
		hz_add("not mapped");
		return;
	}
	hz_add("%u of %zu bytes mapped", sg_dma_len(&sg), len);
	dma_unmap_sg(hz.dev, &sg, 1, DMA_TO_DEVICE);
}

static void h22_typed(void)
{
	struct dma_phys_map map = {};

	if (!typed_map(&map, hz_range(SZ_4G), DMA_TO_DEVICE, 0))
		return;
	hz_add("%zu of %llu bytes mapped", map.size, SZ_4G);
	dma_phys_unmap(&map);
}

/* ---- Peers ---- */

static void h23_raw(void)
{
	struct p2pdma_provider *first, *found;

	if (pcim_p2pdma_init(hz.peer)) {
		hz_add("no provider");
		return;
	}
	first = pcim_p2pdma_provider(hz.peer, IVSHMEM_BAR) - IVSHMEM_BAR;
	found = pcim_p2pdma_provider(hz.peer, PCI_ROM_RESOURCE);
	if (found)
		hz_add("provider %td, where %d is the last; its owner is %s",
		       found - first, PCI_STD_NUM_BARS - 1,
		       found->owner == &hz.peer->dev ? "the device" :
		       "not the device");
	else
		hz_add("no provider");
}

static void h23_typed(void)
{
	hz_add("error %d", dma_phys_peer_register(hz.peer, PCI_ROM_RESOURCE));
}

static void h24_raw(void)
{
	dma_addr_t addr;

	if (!raw_map(&addr, hz_bar()->end + 1 - LEN, 2 * LEN, DMA_TO_DEVICE,
		     DMA_ATTR_MMIO))
		return;
	hz_add("mapped, with %u bytes beyond the BAR", LEN);
	dma_unmap_phys(hz.dev, addr, 2 * LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

static void h24_typed(void)
{
	u64 offset = resource_size(hz_bar()) - LEN;
	struct mmio_phys range;

	hz_add("error %d", mmio_phys_from_bar(hz.peer, IVSHMEM_BAR, offset,
					      2 * LEN, &range));
}

/* As through "unbind" in sysfs. */
static void hz_unbind_peer(struct pci_dev *peer)
{
	device_release_driver(&peer->dev);
	hz_add("the owner's driver was unbound");
}

static void hz_bind_peer(struct pci_dev *peer)
{
	if (device_attach(&peer->dev) != 1)
		hz_add("the owner's driver cannot be bound");
}

static void h25_raw(void)
{
	struct pci_dev *peer = hz.peer;
	dma_addr_t addr;

	if (!raw_map(&addr, hz_bar()->start, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO))
		return;
	hz_unbind_peer(peer);
	hz_add("the device reads %u of %u bytes of its BAR",
	       hz_device_reads(addr), LEN);
	dma_unmap_phys(hz.dev, addr, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
	hz_bind_peer(peer);
}

static void hz_revoke(struct dma_phys_peer_client *client)
{
	hz_add("revoked");
	dma_phys_unmap(&hz.map);
}

/* Attach to the peer, then map its memory as hz.map. */
static int typed_map_peer(struct dma_phys_peer_client *client,
			  struct mmio_phys *range)
{
	int err;

	err = mmio_phys_from_bar(hz.peer, IVSHMEM_BAR, 0, LEN, range);
	err = err ?: dma_phys_peer_attach(range, client);
	err = err ?: dma_phys_map_mmio(hz.dev, range, DMA_TO_DEVICE, 0,
				       &hz.map);
	if (err)
		hz_add("error %d", err);
	return err;
}

static void h25_typed(void)
{
	struct dma_phys_peer_client client = { .revoke = hz_revoke };
	struct pci_dev *peer = hz.peer;
	struct mmio_phys range;

	if (!typed_map_peer(&client, &range)) {
		hz_unbind_peer(peer);
		hz_add("a new map: error %d",
		       dma_phys_map_mmio(hz.dev, &range, DMA_TO_DEVICE, 0,
					 &hz.map));
	}
	dma_phys_peer_detach(&client);
	dma_phys_unmap(&hz.map);
	hz_bind_peer(peer);
}

/* The first command maps. Then the driver is unbound and bound again. */
static void h26_raw(void)
{
	if (!hz.raw_addr) {
		raw_map(&hz.raw_addr, hz_phys(), LEN, DMA_FROM_DEVICE, 0);
		return;
	}
	hz_device_writes(hz.raw_addr);
	hz_add("the device writes %u of %u bytes after its driver was unbound",
	       hz_count_pattern(hz.buf), LEN);
	hz.raw_addr = 0;
}

/* The device's own BAR is accessed at its bus address. */
static void h27_raw(void)
{
	struct p2pdma_provider *provider;
	dma_addr_t addr;

	if (dma_set_mask(hz.dev, DMA_BIT_MASK(64)) ||
	    pcim_p2pdma_init(hz.pdev)) {
		hz_add("no provider");
		return;
	}
	provider = pcim_p2pdma_provider(hz.pdev, EDU_BAR);
	addr = pci_p2pdma_bus_addr_map(provider,
				       pci_resource_start(hz.pdev, EDU_BAR));
	/* Unmapped like any other map. */
	dma_unmap_phys(hz.dev, addr, PAGE_SIZE, DMA_TO_DEVICE, DMA_ATTR_MMIO);
	hz_add("unmapped");
}

static void h27_typed(void)
{
	struct dma_phys_map map = {};
	struct mmio_phys range;
	int err;

	err = dma_set_mask(hz.dev, DMA_BIT_MASK(64));
	err = err ?: dma_phys_peer_register(hz.pdev, EDU_BAR);
	err = err ?: mmio_phys_from_bar(hz.pdev, EDU_BAR, 0, PAGE_SIZE, &range);
	err = err ?: dma_phys_map_mmio(hz.dev, &range, DMA_TO_DEVICE, 0, &map);
	if (err)
		hz_add("error %d", err);
	else
		hz_add("route %s", map.route == DMA_PHYS_BUS ? "bus" : "other");
	dma_phys_unmap(&map);
	dma_phys_peer_unregister(hz.pdev, EDU_BAR);
	hz_add("unmapped");
}

/*
 * The first and the last step of pci_reset_function(). In between the BARs do
 * not respond, as during any reset.
 */
static void hz_begin_reset(struct pci_dev *peer)
{
	pci_save_state(peer);
	pci_write_config_word(peer, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE);
}

static void hz_end_reset(struct pci_dev *peer)
{
	pci_restore_state(peer);
}

static void h34_raw(void)
{
	dma_addr_t addr;

	if (!raw_map(&addr, hz_bar()->start, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO))
		return;
	hz_begin_reset(hz.peer);
	hz_add("a transfer during the reset: %u of %u bytes are right",
	       hz_device_reads(addr), LEN);
	hz_end_reset(hz.peer);
	dma_unmap_phys(hz.dev, addr, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

/* Milliseconds that the owner waits for maps that are not revoked. */
#define SUSPEND_MS		1000

static void h34_typed_reset(const struct mmio_phys *range)
{
	int err;

	err = dma_phys_peer_suspend(hz.peer, IVSHMEM_BAR, SUSPEND_MS);
	if (err)
		hz_add("suspend: error %d", err);
	hz_begin_reset(hz.peer);
	hz_add("a new map during the reset: error %d",
	       dma_phys_map_mmio(hz.dev, range, DMA_TO_DEVICE, 0, &hz.map));
	hz_end_reset(hz.peer);
	dma_phys_peer_resume(hz.peer, IVSHMEM_BAR);

	err = dma_phys_map_mmio(hz.dev, range, DMA_TO_DEVICE, 0, &hz.map);
	if (err)
		hz_add("after it: error %d", err);
	else
		hz_add("a transfer after it: %u of %u bytes are right",
		       hz_device_reads(hz.map.addr), LEN);
}

static void h34_typed(void)
{
	struct dma_phys_peer_client client = { .revoke = hz_revoke };
	struct mmio_phys range;

	if (!typed_map_peer(&client, &range))
		h34_typed_reset(&range);
	dma_phys_peer_detach(&client);
	dma_phys_unmap(&hz.map);
}

/* ---- Limits ---- */

static void h29_raw(void)
{
	dma_addr_t addr;

	dma_set_max_seg_size(hz.dev, PAGE_SIZE);
	if (!raw_map(&addr, hz_phys(), BUF_BYTES, DMA_TO_DEVICE, 0))
		return;
	hz_add("1 segment of %lu bytes, the device supports %lu", BUF_BYTES,
	       PAGE_SIZE);
	dma_unmap_phys(hz.dev, addr, BUF_BYTES, DMA_TO_DEVICE, 0);
}

static void h29_typed(void)
{
	struct dma_phys_segment segments[MAX_SEGMENTS];
	struct cpu_phys range = hz_range(BUF_BYTES);
	struct dma_phys_sg sg = {};
	size_t longest = 0;
	int count;

	dma_set_max_seg_size(hz.dev, PAGE_SIZE);
	count = dma_phys_sg_map_cpu(hz.dev, &range, 1, DMA_TO_DEVICE, 0,
				    segments, MAX_SEGMENTS, &sg);
	if (count < 0) {
		hz_add("error %d", count);
		return;
	}
	for (int i = 0; i < count; i++)
		longest = max(longest, segments[i].len);
	hz_add("%d segments of at most %zu bytes, the device supports %lu",
	       count, longest, PAGE_SIZE);
	dma_phys_sg_unmap(&sg);
}

static void h30_raw(void)
{
	dma_set_min_align_mask(hz.dev, SZ_8K - 1);
	raw_try_buf();
}

static void h30_typed(void)
{
	dma_set_min_align_mask(hz.dev, SZ_8K - 1);
	typed_try_buf();
}

/* ---- Ownership ---- */

/*
 * The first map is unmapped twice. In between another buffer is mapped, at the
 * IOVA that has become free.
 */
static void h33_raw(void)
{
	dma_addr_t first, second;

	if (!raw_map(&first, hz_phys() + PAGE_SIZE, LEN, DMA_FROM_DEVICE, 0))
		return;
	dma_unmap_phys(hz.dev, first, LEN, DMA_FROM_DEVICE, 0);

	if (!raw_map(&second, hz_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	dma_unmap_phys(hz.dev, first, LEN, DMA_FROM_DEVICE, 0);
	hz_device_writes(second);
	dma_unmap_phys(hz.dev, second, LEN, DMA_FROM_DEVICE, 0);
	hz_add_arrived();
}

/* Like a carveout: it has no linear map. */
static void h35_raw(void)
{
	raw_try(reserved, LEN, DMA_TO_DEVICE);
}

static void h35_typed(void)
{
	struct cpu_phys range;
	int err = cpu_phys_from_raw(reserved, LEN, &range);

	if (err)
		hz_add("no range: error %d", err);
	else
		typed_try(range, DMA_TO_DEVICE);
}

static void hz_add_kept(void)
{
	hz_add("%u of %u bytes that the CPU has written are kept",
	       hz_count_pattern(hz.buf), LEN);
}

/* The CPU owns the buffer and writes to it, before it is unmapped. */
static void h36_raw(void)
{
	dma_addr_t addr;

	if (!raw_map(&addr, hz_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	dma_sync_single_for_cpu(hz.dev, addr, LEN, DMA_FROM_DEVICE);
	hz_fill(hz.buf);
	dma_unmap_phys(hz.dev, addr, LEN, DMA_FROM_DEVICE, 0);
	hz_add_kept();
}

static void h36_typed(void)
{
	struct dma_phys_map map = {};

	if (!typed_map(&map, hz_range(LEN), DMA_FROM_DEVICE, 0))
		return;
	if (dma_phys_sync_for_cpu(&map, 0, LEN))
		hz_add("not synced");
	hz_fill(hz.buf);
	dma_phys_unmap_nosync(&map);
	hz_add_kept();
}

/* ---- Commands ---- */

/* The two halves of a case; NULL if there is nothing to show. */
static const struct hz_case {
	const char *name;
	void (*raw)(void);
	void (*typed)(void);
} hz_cases[] = {
	{ "h01", h01_raw, h01_typed },
	{ "h02", h02_raw, h02_typed },
	{ "h03", h03_raw, h03_typed },
	{ "h04", h04_raw, h04_typed },
	{ "h04_more", h04_more_raw, h04_more_typed },
	{ "h05", h05_raw, h05_typed },
	{ "h06", h06_raw, h06_typed },
	{ "h07", h07_raw, h07_typed },
	{ "h08", h08_raw, h08_typed },
	{ "h09", h09_raw, typed_receive },
	{ "h10_direction", h10_direction_raw, typed_receive },
	{ "h10_swapped", h10_swapped_raw, typed_receive },
	{ "h11", h11_raw, h11_typed },
	{ "h12", h12_raw, h12_typed },
	{ "h14", h14_raw, h14_typed },
	{ "h14_direction", h14_direction_raw, h14_direction_typed },
	{ "h15", h15_raw, h15_typed },
	{ "h16", h16_raw, h16_typed },
	{ "h17", h17_raw, h17_typed },
	{ "h18", h18_raw, h18_typed },
	{ "h18_twice", h18_twice_raw, h18_twice_typed },
	{ "h19", h19_raw, h19_typed },
	{ "h20", h20_raw, h20_typed },
	{ "h21", h21_raw, h21_typed },
	{ "h22", h22_raw, h22_typed },
	{ "h23", h23_raw, h23_typed },
	{ "h24", h24_raw, h24_typed },
	{ "h25", h25_raw, h25_typed },
	{ "h26", h26_raw, NULL },
	{ "h27", h27_raw, h27_typed },
	{ "h29", h29_raw, h29_typed },
	{ "h30", h30_raw, h30_typed },
	{ "h33", h33_raw, NULL },
	{ "h34", h34_raw, h34_typed },
	{ "h35", h35_raw, h35_typed },
	{ "h36", h36_raw, h36_typed },
};

/* Behind an IOMMU few bits: IOVA space that can be exhausted. */
static int hz_set_mask(void)
{
	u64 mask = use_dma_iommu(hz.dev) ? DMA_BIT_MASK(EDU_DEFAULT_BITS) :
					   DMA_BIT_MASK(64);

	return dma_set_mask_and_coherent(hz.dev, mask);
}

/* Revert the changes of a case to the device, and clear the buffer. */
static int hz_prepare(void)
{
	hz.pdev->untrusted = false;
	dma_set_min_align_mask(hz.dev, 0);
	dma_set_max_seg_size(hz.dev, SZ_64K);
	memset(hz.buf, 0, BUF_BYTES);
	return hz_set_mask();
}

/* On the direct route a mask of 32 bits makes high memory bounce, if it can. */
static size_t hz_count_free(void)
{
	size_t bytes = 0;

	if (hz_prepare() || (!use_dma_iommu(hz.dev) &&
			     dma_set_mask(hz.dev, DMA_BIT_MASK(32))))
		hz_add("the mask cannot be set");
	if (use_dma_iommu(hz.dev) || dma_max_mapping_size(hz.dev) != SIZE_MAX)
		bytes = hz_unmap_all(hz_map_all());
	if (hz_prepare())
		hz_add("the mask cannot be set");
	return bytes;
}

static void hz_run_half(void (*half)(void))
{
	size_t before = hz_count_free(), after;

	half();
	after = hz_count_free();
	if (after < before)
		hz_add("%zu bytes of %s leaked", before - after,
		       use_dma_iommu(hz.dev) ? "IOVA" : "bounce buffers");
}

/* A command is "raw" or "typed", and the name of a case. */
static int hz_run(char *line)
{
	char *side = strsep(&line, " ");
	bool typed = !strcmp(side, "typed");
	void (*half)(void) = NULL;

	if (!line || (!typed && strcmp(side, "raw")))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(hz_cases); i++)
		if (!strcmp(hz_cases[i].name, line))
			half = typed ? hz_cases[i].typed : hz_cases[i].raw;
	if (!half)
		return -EINVAL;
	if (!hz.pdev || !hz.peer)
		return -ENODEV;

	/* Marks the start of the case in the log. */
	dev_info(hz.dev, "%s %s\n", side, line);
	hz.result[0] = '\0';
	hz_run_half(half);
	return 0;
}

static ssize_t hz_command_write(struct file *file, const char __user *user,
				size_t count, loff_t *ppos)
{
	char line[32];
	int err;

	if (count >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, user, count))
		return -EFAULT;
	line[count] = '\0';

	guard(mutex)(&hz.lock);
	err = hz_run(strim(line));
	return err ?: count;
}

static const struct file_operations hz_command_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = hz_command_write,
};

static int hz_result_show(struct seq_file *s, void *unused)
{
	guard(mutex)(&hz.lock);
	seq_printf(s, "%s\n", hz.result);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(hz_result);

/* ---- Driver ---- */

static int hz_edu_probe(struct pci_dev *pdev)
{
	hz.regs = pcim_iomap(pdev, EDU_BAR, 0);
	if (!hz.regs)
		return -ENOMEM;

	hz.dev = &pdev->dev;
	if (hz_set_mask())
		return -EIO;
	pci_set_master(pdev);
	hz.exchange = dmam_alloc_coherent(hz.dev, PAGE_SIZE, &hz.exchange_addr,
					  GFP_KERNEL);
	if (!hz.exchange)
		return -ENOMEM;

	hz.pdev = pdev;
	if (hz_prepare())
		return -EIO;
	hz.debugfs = debugfs_create_dir(pci_name(pdev), hz_root);
	debugfs_create_file("command", 0200, hz.debugfs, NULL,
			    &hz_command_fops);
	debugfs_create_file("result", 0400, hz.debugfs, NULL, &hz_result_fops);
	return 0;
}

/* h17 and h21 expect the pattern here. */
static void hz_fill_peer(void)
{
	for (size_t i = 0; i < LEN; i++) {
		writeb(hz_pattern(i), hz.peer_memory + i);
		writeb(hz_pattern(i), hz.peer_memory + SECOND + i);
	}
}

static int hz_peer_probe(struct pci_dev *pdev)
{
	int err;

	hz.peer_memory = pcim_iomap(pdev, IVSHMEM_BAR, 0);
	if (!hz.peer_memory)
		return -ENOMEM;

	hz_fill_peer();
	err = dma_phys_peer_register(pdev, IVSHMEM_BAR);
	if (err)
		return err;

	hz.peer = pdev;
	return 0;
}

static int hz_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	bool is_peer = pdev->vendor == PCI_VENDOR_ID_REDHAT_QUMRANET &&
		       pdev->device == IVSHMEM_DEVICE_ID;
	int err;

	if (is_peer ? hz.peer : hz.pdev)
		return -EBUSY;

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	return is_peer ? hz_peer_probe(pdev) : hz_edu_probe(pdev);
}

/* Raw maps stay mapped: that is one of the mistakes. */
static void hz_remove(struct pci_dev *pdev)
{
	if (pdev == hz.peer) {
		hz.peer = NULL;
		return;
	}
	debugfs_remove(hz.debugfs);
	hz.pdev = NULL;
}

/* Without a table of ids it binds by driver_override only. */
static struct pci_driver hz_driver = {
	.name = KBUILD_MODNAME,
	.probe = hz_probe,
	.remove = hz_remove,
};

static void hz_free(void)
{
	free_pages((unsigned long)hz.chunks, get_order(BOUNCE_MAX));
	free_pages((unsigned long)hz.buf, BUF_ORDER);
}

static int __init hz_init(void)
{
	int err = -ENOMEM;

	hz.buf = (u8 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, BUF_ORDER);
	/* It is also what the chunks map. */
	hz.chunks = (struct chunk *)__get_free_pages(GFP_KERNEL,
						     get_order(BOUNCE_MAX));
	if (!hz.buf || !hz.chunks)
		goto err_free;

	hz_root = debugfs_create_dir(KBUILD_MODNAME, NULL);
	err = pci_register_driver(&hz_driver);
	if (!err)
		return 0;

	debugfs_remove(hz_root);
err_free:
	hz_free();
	return err;
}
module_init(hz_init);

static void __exit hz_exit(void)
{
	pci_unregister_driver(&hz_driver);
	debugfs_remove(hz_root);
	hz_free();
}
module_exit(hz_exit);

MODULE_DESCRIPTION("Misuse of the raw DMA API, and the same with typed maps");
MODULE_LICENSE("GPL");

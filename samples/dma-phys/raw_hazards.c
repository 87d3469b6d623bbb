// SPDX-License-Identifier: GPL-2.0
/*
 * What the raw DMA API does when held wrong, and what typed maps do.
 *
 * Each entry of the table at the end is a mistake that a driver can make, once
 * with the raw API and once with <linux/dma-phys.h>. In debugfs
 *
 *	echo "raw h01" >raw_hazards/0000:00:08.0/command
 *	cat raw_hazards/0000:00:08.0/result
 *
 * makes it, and tells what came of it. The raw half does what a driver with
 * that mistake would do, and nothing to make it worse: it crashes the kernel or
 * corrupts memory by itself. For a virtual machine that nobody needs any more.
 *
 * It takes QEMU's "edu", which moves bytes between memory and a buffer of its
 * own, and "ivshmem-plain", whose BAR 2 is device memory; both by
 * driver_override alone.
 */
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/iommu-dma.h>
#include <linux/iopoll.h>
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

#define EDU_BAR			0
#define EDU_DMA_SRC		0x80
#define EDU_DMA_DST		0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_CMD		0x98
#define EDU_CMD_RUN		BIT(0)
#define EDU_CMD_TO_MEMORY	BIT(1)
#define EDU_BUF			0x40000
/* edu takes 100 ms for any transfer; a busy host takes longer. */
#define EDU_TIMEOUT_US		(20 * USEC_PER_SEC)

#define LENDER_ID		0x1110
#define LENDER_BAR		2

/* Bytes of a transfer. */
#define LEN			512
#define BUF_ORDER		4
#define BUF_BYTES		(PAGE_SIZE << BUF_ORDER)

/* The most that bounces at once, and how often it can be had at most. */
#define UNIT			(IO_TLB_SIZE * IO_TLB_SEGSIZE)
#define MAX_PARTS		2048

/* Bounce slots, or IOVA space, that were taken to be counted. */
struct part {
	dma_addr_t addr;
	size_t len;
};

/* The devices, and what is left from one order to the next. */
struct hazards {
	struct pci_dev *pdev;		/* edu, NULL while it is not bound */
	struct device *dev;
	u8 __iomem *regs;
	u8 *shown;			/* where edu shows what it has */
	dma_addr_t shown_addr;
	struct pci_dev *lender;		/* ivshmem, NULL while it is not bound */
	u8 __iomem *shmem;
	struct dentry *debugfs;
	struct mutex lock;		/* one order at a time */
	char result[256];
	u8 *buf;			/* what is mapped */
	struct part *parts;		/* see take_all() */
	dma_addr_t kept;		/* mapped raw in the order before */
	struct dma_phys_map map;
};

static struct hazards hz = {
	.lock = __MUTEX_INITIALIZER(hz.lock),
};

static struct dentry *hz_root;

static __printf(1, 2) void say(const char *format, ...)
{
	size_t at = strlen(hz.result);
	va_list args;

	if (at)
		at += scnprintf(hz.result + at, sizeof(hz.result) - at, "; ");
	va_start(args, format);
	vscnprintf(hz.result + at, sizeof(hz.result) - at, format, args);
	va_end(args);
}

/* ---- Bytes ---- */

static u8 pattern(size_t at)
{
	return 1 + at % 251;
}

static void fill(u8 *to)
{
	for (size_t i = 0; i < LEN; i++)
		to[i] = pattern(i);
}

static unsigned int count_pattern(const u8 *from)
{
	unsigned int n = 0;

	for (size_t i = 0; i < LEN; i++)
		n += from[i] == pattern(i);
	return n;
}

static void edu_run(u64 src, u64 dst, u64 cmd)
{
	u64 busy;

	writeq(src, hz.regs + EDU_DMA_SRC);
	writeq(dst, hz.regs + EDU_DMA_DST);
	writeq(LEN, hz.regs + EDU_DMA_COUNT);
	writeq(cmd | EDU_CMD_RUN, hz.regs + EDU_DMA_CMD);
	if (readq_poll_timeout(hz.regs + EDU_DMA_CMD, busy,
			       !(busy & EDU_CMD_RUN), 1000, EDU_TIMEOUT_US))
		say("the device does not finish");
}

/* The device writes the pattern to @addr. */
static void device_writes(dma_addr_t addr)
{
	fill(hz.shown);
	edu_run(hz.shown_addr, EDU_BUF, 0);
	edu_run(EDU_BUF, addr, EDU_CMD_TO_MEMORY);
}

/* How much of the pattern the device finds at @addr. */
static unsigned int device_reads(dma_addr_t addr)
{
	edu_run(addr, EDU_BUF, 0);
	memset(hz.shown, 0, LEN);
	edu_run(EDU_BUF, hz.shown_addr, EDU_CMD_TO_MEMORY);
	return count_pattern(hz.shown);
}

static void say_arrived(void)
{
	say("%u of %u bytes arrived", count_pattern(hz.buf), LEN);
}

/* ---- Leaks ---- */

static bool take(struct part *part, size_t len)
{
	part->len = len;
	part->addr = dma_map_phys(hz.dev, virt_to_phys(hz.parts), len,
				  DMA_TO_DEVICE, DMA_ATTR_NO_WARN);
	return !dma_mapping_error(hz.dev, part->addr);
}

/* All bounce slots, or all IOVA space: large parts first, then what is left. */
static unsigned int take_all(void)
{
	unsigned int n = 0;

	msleep(50);	/* what waits to be flushed comes back first */
	for (size_t len = UNIT; len >= IO_TLB_SIZE; len /= 2)
		while (n < MAX_PARTS && take(&hz.parts[n], len))
			n++;
	return n;
}

static size_t give_all(unsigned int n)
{
	size_t bytes = 0;

	while (n--) {
		dma_unmap_phys(hz.dev, hz.parts[n].addr, hz.parts[n].len,
			       DMA_TO_DEVICE, 0);
		bytes += hz.parts[n].len;
	}
	return bytes;
}

/* ---- What many have in common ---- */

static phys_addr_t buf_phys(void)
{
	return virt_to_phys(hz.buf);
}

static struct cpu_phys buf_range(size_t len)
{
	return (struct cpu_phys){ .addr = buf_phys(), .len = len };
}

static struct resource *bar(void)
{
	return &hz.lender->resource[LENDER_BAR];
}

static bool raw_map(dma_addr_t *addr, phys_addr_t phys, size_t len,
		    enum dma_data_direction dir, unsigned long attrs)
{
	*addr = dma_map_phys(hz.dev, phys, len, dir, attrs);
	if (!dma_mapping_error(hz.dev, *addr))
		return true;
	say("DMA_MAPPING_ERROR");
	return false;
}

/* Map, and say so: what is refused is refused here. */
static void raw_try(phys_addr_t phys, size_t len, enum dma_data_direction dir)
{
	dma_addr_t addr;

	if (!raw_map(&addr, phys, len, dir, 0))
		return;
	say("mapped");
	dma_unmap_phys(hz.dev, addr, len, dir, 0);
}

static void ours_try(struct cpu_phys range, enum dma_data_direction dir)
{
	struct dma_phys_map map = {};
	int err = dma_phys_map_cpu(hz.dev, &range, dir, 0, &map);

	if (err)
		say("error %d", err);
	else
		say("mapped");
	dma_phys_unmap(&map);
}

/* The device writes a buffer. Only the driver's unmap is wrong. */
static void raw_receive(enum dma_data_direction dir, unsigned long attrs)
{
	dma_addr_t addr;

	if (!raw_map(&addr, buf_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	device_writes(addr);
	dma_unmap_phys(hz.dev, addr, LEN, dir, attrs);
	say_arrived();
}

static void ours_receive(void)
{
	struct cpu_phys range = buf_range(LEN);
	struct dma_phys_map map = {};
	int err = dma_phys_map_cpu(hz.dev, &range, DMA_FROM_DEVICE, 0, &map);

	if (err) {
		say("error %d", err);
		return;
	}
	device_writes(map.addr);
	dma_phys_unmap(&map);
	say_arrived();
}

/* ---- Arguments ---- */

static void h01_raw(void)
{
	raw_try(buf_phys(), LEN, DMA_NONE);
}

static void h01_ours(void)
{
	ours_try(buf_range(LEN), DMA_NONE);
}

static void h02_raw(void)
{
	raw_try(buf_phys(), 0, DMA_TO_DEVICE);
}

static void h02_ours(void)
{
	ours_try(buf_range(0), DMA_TO_DEVICE);
}

/* The last byte is in the first page of memory. */
static size_t wrapping_len(void)
{
	return PAGE_SIZE - buf_phys();
}

static void h03_raw(void)
{
	raw_try(buf_phys(), wrapping_len(), DMA_TO_DEVICE);
}

static void h03_ours(void)
{
	ours_try(buf_range(wrapping_len()), DMA_TO_DEVICE);
}

/* A length that nobody checked: in 32 bits this many slots are none, or one. */
static void h04_raw(void)
{
	raw_try(buf_phys(), SZ_8T, DMA_TO_DEVICE);
}

static void h04_ours(void)
{
	ours_try(buf_range(SZ_8T), DMA_TO_DEVICE);
}

static void h04_more_raw(void)
{
	raw_try(buf_phys(), SZ_8T + IO_TLB_SIZE, DMA_TO_DEVICE);
}

static void h04_more_ours(void)
{
	ours_try(buf_range(SZ_8T + IO_TLB_SIZE), DMA_TO_DEVICE);
}

/* As on a device that was made by hand. */
static void without_mask(void (*try)(void))
{
	u64 *mask = hz.dev->dma_mask;

	hz.dev->dma_mask = NULL;
	try();
	hz.dev->dma_mask = mask;
}

static void try_raw(void)
{
	raw_try(buf_phys(), LEN, DMA_TO_DEVICE);
}

static void try_ours(void)
{
	ours_try(buf_range(LEN), DMA_TO_DEVICE);
}

static void h05_raw(void)
{
	without_mask(try_raw);
}

static void h05_ours(void)
{
	without_mask(try_ours);
}

/* A device of 32 bits, and memory that is not within them. */
static bool out_of_reach(void)
{
	if (dma_set_mask(hz.dev, DMA_BIT_MASK(32)) ||
	    buf_phys() <= DMA_BIT_MASK(32)) {
		say("all memory is within 32 bits");
		return false;
	}
	return true;
}

static void h06_raw(void)
{
	if (out_of_reach())
		try_raw();
}

static void h06_ours(void)
{
	if (out_of_reach())
		try_ours();
}

/* ---- Kinds ---- */

/* A device behind a port that leaves the box. Its buffer shares the page. */
static void h07_raw(void)
{
	dma_addr_t addr;

	hz.pdev->untrusted = true;
	fill(hz.buf + LEN);
	if (!raw_map(&addr, buf_phys(), LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO))
		return;
	say("the device reads %u of %u bytes beside the range",
	    device_reads(addr + LEN), LEN);
	dma_unmap_phys(hz.dev, addr, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

static void h07_ours(void)
{
	struct resource res = DEFINE_RES_MEM(buf_phys(), LEN);
	struct mmio_phys range;

	hz.pdev->untrusted = true;
	say("error %d", mmio_phys_from_resource(&res, 0, LEN, &range));
}

static void h08_raw(void)
{
	raw_try(bar()->start, LEN, DMA_TO_DEVICE);
}

static void h08_ours(void)
{
	struct cpu_phys range;

	say("error %d", cpu_phys_from_addr(bar()->start, LEN, &range));
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

	if (!raw_map(&addr, buf_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	dma_unmap_phys(hz.dev, LEN, addr, DMA_FROM_DEVICE, 0);
	say("unmapped");
}

/*
 * First order: map. Then the device's domain is changed, as sysfs offers to
 * while no driver is bound. Second order: unmap what was kept.
 */
static void h11_raw(void)
{
	if (!hz.kept) {
		raw_map(&hz.kept, buf_phys(), LEN, DMA_FROM_DEVICE, 0);
		return;
	}
	dma_unmap_phys(hz.dev, hz.kept, LEN, DMA_FROM_DEVICE, 0);
	hz.kept = 0;
	say("unmapped");
}

static void h11_ours(void)
{
	struct cpu_phys range = buf_range(LEN);

	if (!hz.map.dev) {
		say("error %d", dma_phys_map_cpu(hz.dev, &range,
						 DMA_FROM_DEVICE, 0, &hz.map));
		return;
	}
	dma_phys_unmap(&hz.map);
	say("unmapped");
}

static void h12_raw(void)
{
	raw_receive(DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
}

static void h12_ours(void)
{
	struct cpu_phys range = buf_range(LEN);
	struct dma_phys_map map = {};
	int err = dma_phys_map_cpu(hz.dev, &range, DMA_FROM_DEVICE,
				   DMA_PHYS_MANUAL_SYNC, &map);

	if (err) {
		say("error %d", err);
		return;
	}
	device_writes(map.addr);
	if (dma_phys_sync_for_cpu(&map, 0, LEN))
		say("not synced");
	dma_phys_unmap(&map);
	say_arrived();
}

/* @len and @dir are what the driver syncs with. */
static void raw_sync(size_t len, enum dma_data_direction dir)
{
	dma_addr_t addr;

	if (!raw_map(&addr, buf_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	device_writes(addr);
	dma_sync_single_for_cpu(hz.dev, addr, len, dir);
	say_arrived();
	dma_unmap_phys(hz.dev, addr, LEN, DMA_FROM_DEVICE, 0);
}

static void ours_sync(size_t len)
{
	struct cpu_phys range = buf_range(LEN);
	struct dma_phys_map map = {};
	int err = dma_phys_map_cpu(hz.dev, &range, DMA_FROM_DEVICE, 0, &map);

	if (!err) {
		device_writes(map.addr);
		err = dma_phys_sync_for_cpu(&map, 0, len);
	}
	if (err)
		say("error %d", err);
	else
		say_arrived();
	dma_phys_unmap(&map);
}

static void h14_raw(void)
{
	raw_sync(PAGE_SIZE, DMA_FROM_DEVICE);
}

static void h14_ours(void)
{
	ours_sync(PAGE_SIZE);
}

static void h14_direction_raw(void)
{
	raw_sync(LEN, DMA_TO_DEVICE);
}

static void h14_direction_ours(void)
{
	ours_sync(LEN);
}

/* Two causes, and a driver that asks for neither. */
static void h15_raw(void)
{
	dma_addr_t large, full;
	unsigned int n;

	large = dma_map_phys(hz.dev, buf_phys(), 2 * UNIT, DMA_FROM_DEVICE, 0);
	n = take_all();
	full = dma_map_phys(hz.dev, buf_phys(), UNIT, DMA_FROM_DEVICE, 0);
	give_all(n);

	say("%s for too large and for used up",
	    large == full ? "one value" : "two values");
	device_writes(full);
	say_arrived();
}

static void h15_ours(void)
{
	unsigned int n;

	ours_try(buf_range(2 * UNIT), DMA_FROM_DEVICE);
	n = take_all();
	ours_try(buf_range(UNIT), DMA_FROM_DEVICE);
	give_all(n);
}

/* ---- IOMMU ---- */

static void h16_raw(void)
{
	raw_try(0, PAGE_SIZE, DMA_TO_DEVICE);
}

static void h16_ours(void)
{
	ours_try((struct cpu_phys){ .addr = 0, .len = PAGE_SIZE },
		 DMA_TO_DEVICE);
}

static void h17_raw(void)
{
	dma_addr_t addr;

	hz.pdev->untrusted = true;
	if (!raw_map(&addr, bar()->start + LEN, LEN, DMA_TO_DEVICE,
		     DMA_ATTR_MMIO))
		return;
	say("the device reads %u of %u bytes beside the range",
	    device_reads(addr - LEN), LEN);
	dma_unmap_phys(hz.dev, addr, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

static void h17_ours(void)
{
	struct dma_phys_map map = {};
	struct mmio_phys range;

	hz.pdev->untrusted = true;
	if (mmio_phys_from_resource(bar(), LEN, LEN, &range))
		say("no range");
	else
		say("error %d", dma_phys_map_mmio(hz.dev, &range, DMA_TO_DEVICE,
						  0, &map));
	dma_phys_unmap(&map);
}

static bool raw_iova(struct dma_iova_state *state, size_t len)
{
	if (!dma_iova_try_alloc(hz.dev, state, buf_phys(), len)) {
		say("no IOVA");
		return false;
	}
	if (dma_iova_link(hz.dev, state, buf_phys(), 0, len, DMA_TO_DEVICE, 0) ||
	    dma_iova_sync(hz.dev, state, 0, len))
		say("not linked");
	return true;
}

/* Room for three pages, and four are linked. */
static void h18_raw(void)
{
	size_t len = 3 * PAGE_SIZE;
	struct dma_iova_state state;

	if (!raw_iova(&state, len))
		return;
	fill(hz.buf + len);
	say("linked beyond the end: error %d",
	    dma_iova_link(hz.dev, &state, buf_phys() + len, len, PAGE_SIZE,
			  DMA_TO_DEVICE, 0));
	dma_iova_destroy(hz.dev, &state, len, DMA_TO_DEVICE, 0);
	say("the device reads %u of %u bytes of it after unmap",
	    device_reads(state.addr + len), LEN);
}

/* Two pages that are not adjacent, as one vec. */
static int ours_vec(struct dma_phys_vec *vec, struct dma_phys_segment *segments)
{
	struct cpu_phys ranges[2] = { buf_range(PAGE_SIZE), buf_range(PAGE_SIZE) };

	ranges[1].addr += 2 * PAGE_SIZE;
	*vec = (struct dma_phys_vec){ .segments = segments, .room = 4 };
	return dma_phys_vec_map_cpu(hz.dev, ranges, 2, DMA_TO_DEVICE, 0, vec);
}

/* Where the device finds the second page, or the second range, of a vec. */
static dma_addr_t second_of(const struct dma_phys_vec *vec)
{
	return vec->count == 1 ? vec->segments[0].addr + PAGE_SIZE :
				 vec->segments[1].addr;
}

static void h18_ours(void)
{
	struct dma_phys_segment segments[4];
	struct dma_phys_vec vec;
	int err = ours_vec(&vec, segments);

	if (err) {
		say("error %d", err);
		return;
	}
	fill(hz.buf + 2 * PAGE_SIZE);
	say("the device reads %u of %u bytes of the second page",
	    device_reads(second_of(&vec)), LEN);
	dma_phys_vec_unmap(&vec);
}

static void h18_twice_raw(void)
{
	struct dma_iova_state state;

	if (!raw_iova(&state, PAGE_SIZE))
		return;
	dma_iova_destroy(hz.dev, &state, PAGE_SIZE, DMA_TO_DEVICE, 0);
	dma_iova_destroy(hz.dev, &state, PAGE_SIZE, DMA_TO_DEVICE, 0);
	say("unmapped twice");
}

static void h18_twice_ours(void)
{
	struct dma_phys_segment segments[4];
	struct dma_phys_vec vec;
	int err = ours_vec(&vec, segments);

	if (err)
		say("error %d", err);
	dma_phys_vec_unmap(&vec);
	dma_phys_vec_unmap(&vec);
	say("unmapped once");
}

/*
 * The state belongs to a request, and is used again with the next one. That
 * one is mapped without it, but at its end it is asked.
 */
static void h19_raw(void)
{
	struct dma_iova_state state;
	dma_addr_t addr;

	if (!raw_iova(&state, PAGE_SIZE))
		return;
	dma_iova_destroy(hz.dev, &state, PAGE_SIZE, DMA_TO_DEVICE, 0);

	if (!raw_map(&addr, buf_phys(), 2 * PAGE_SIZE, DMA_TO_DEVICE, 0))
		return;
	if (dma_use_iova(&state))
		dma_iova_destroy(hz.dev, &state, PAGE_SIZE, DMA_TO_DEVICE, 0);
	else
		dma_unmap_phys(hz.dev, addr, 2 * PAGE_SIZE, DMA_TO_DEVICE, 0);
	say("the second request has ended");
}

static void h19_ours(void)
{
	struct dma_phys_segment segments[4];
	struct dma_phys_vec vec;
	struct cpu_phys range = buf_range(2 * PAGE_SIZE);
	int err = ours_vec(&vec, segments);

	dma_phys_vec_unmap(&vec);
	err = err ?: dma_phys_vec_map_cpu(hz.dev, &range, 1, DMA_TO_DEVICE, 0,
					  &vec);
	if (err)
		say("error %d", err);
	dma_phys_vec_unmap(&vec);
	say("the second request has ended");
}

/* Asked once, when the driver has set its mask, as the answer cannot change. */
static void h20_raw(void)
{
	dma_addr_t addr;
	bool unmap;

	if (!out_of_reach())
		return;
	unmap = dma_need_unmap(hz.dev);
	if (!raw_map(&addr, buf_phys(), LEN, DMA_FROM_DEVICE, 0))
		return;
	device_writes(addr);
	if (unmap)
		dma_unmap_phys(hz.dev, addr, LEN, DMA_FROM_DEVICE, 0);
	say_arrived();
}

static void h20_ours(void)
{
	if (out_of_reach())
		ours_receive();
}

/* Where in the BAR the second range is. */
#define SECOND			SZ_64K

/* The calls of dma_buf_phys_vec_to_sgt(), with two ranges. */
static void h21_raw(void)
{
	struct dma_iova_state state;
	size_t mapped = 0;
	int err = 0;

	if (!dma_iova_try_alloc(hz.dev, &state, 0, 2 * PAGE_SIZE)) {
		say("no IOVA");
		return;
	}
	for (int i = 0; i < 2 && !err; i++) {
		err = dma_iova_link(hz.dev, &state, bar()->start + i * SECOND,
				    0, PAGE_SIZE, DMA_TO_DEVICE, DMA_ATTR_MMIO);
		if (!err)
			mapped += PAGE_SIZE;
	}
	if (!err)
		err = dma_iova_sync(hz.dev, &state, 0, mapped);
	if (err)
		say("error %d", err);
	else
		say("the device reads %u of %u bytes of the second range",
		    device_reads(state.addr + PAGE_SIZE), LEN);
	dma_iova_destroy(hz.dev, &state, mapped, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

static void h21_ours(void)
{
	struct dma_phys_segment segments[4];
	struct dma_phys_vec vec = { .segments = segments, .room = 4 };
	struct mmio_phys ranges[2];
	int err;

	err = mmio_phys_from_resource(bar(), 0, PAGE_SIZE, &ranges[0]);
	err = err ?: mmio_phys_from_resource(bar(), SECOND, PAGE_SIZE,
					     &ranges[1]);
	err = err ?: dma_phys_vec_map_mmio(hz.dev, ranges, 2, DMA_TO_DEVICE, 0,
					   &vec);
	if (err) {
		say("error %d", err);
		return;
	}
	say("the device reads %u of %u bytes of the second range",
	    device_reads(second_of(&vec)), LEN);
	dma_phys_vec_unmap(&vec);
}

/* Of so much memory only the address counts here: nothing is moved. */
static void h22_raw(void)
{
	size_t len = SZ_4G;
	struct scatterlist sg;

	sg_init_table(&sg, 1);
	sg_set_page(&sg, virt_to_page(hz.buf), len, 0);
	if (!dma_map_sg(hz.dev, &sg, 1, DMA_TO_DEVICE)) {
		say("not mapped");
		return;
	}
	say("%u of %zu bytes mapped", sg_dma_len(&sg), len);
	dma_unmap_sg(hz.dev, &sg, 1, DMA_TO_DEVICE);
}

static void h22_ours(void)
{
	struct cpu_phys range = buf_range(SZ_4G);
	struct dma_phys_map map = {};
	int err = dma_phys_map_cpu(hz.dev, &range, DMA_TO_DEVICE, 0, &map);

	if (err)
		say("error %d", err);
	else
		say("%zu of %zu bytes mapped", map.size, range.len);
	dma_phys_unmap(&map);
}

/* ---- Peers ---- */

static void h23_raw(void)
{
	struct p2pdma_provider *first, *found;

	if (pcim_p2pdma_init(hz.lender)) {
		say("no provider");
		return;
	}
	first = pcim_p2pdma_provider(hz.lender, LENDER_BAR) - LENDER_BAR;
	found = pcim_p2pdma_provider(hz.lender, PCI_ROM_RESOURCE);
	if (found)
		say("provider %td, where %d is the last; its owner is %s",
		    found - first, PCI_STD_NUM_BARS - 1,
		    found->owner == &hz.lender->dev ? "the device" :
						      "not the device");
	else
		say("no provider");
}

static void h23_ours(void)
{
	say("error %d", dma_phys_peer_register(hz.lender, PCI_ROM_RESOURCE));
}

static void h24_raw(void)
{
	dma_addr_t addr;

	if (!raw_map(&addr, bar()->end + 1 - LEN, 2 * LEN, DMA_TO_DEVICE,
		     DMA_ATTR_MMIO))
		return;
	say("mapped, with %u bytes behind the BAR", LEN);
	dma_unmap_phys(hz.dev, addr, 2 * LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
}

static void h24_ours(void)
{
	struct mmio_phys range;

	say("error %d", mmio_phys_from_bar(hz.lender, LENDER_BAR,
					   resource_size(bar()) - LEN, 2 * LEN,
					   &range));
}

/* The lender's driver is detached, as by unbind in sysfs, and attached again. */
static void lender_leaves(struct pci_dev *lender)
{
	device_release_driver(&lender->dev);
	say("the owner has left");
}

static void lender_comes(struct pci_dev *lender)
{
	if (device_attach(&lender->dev) != 1)
		say("the owner does not come back");
}

static void h25_raw(void)
{
	struct pci_dev *lender = hz.lender;
	dma_addr_t addr;

	if (!raw_map(&addr, bar()->start, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO))
		return;
	lender_leaves(lender);
	say("the device reads %u of %u bytes of its BAR", device_reads(addr),
	    LEN);
	dma_unmap_phys(hz.dev, addr, LEN, DMA_TO_DEVICE, DMA_ATTR_MMIO);
	lender_comes(lender);
}

static void h25_revoke(struct dma_phys_peer_user *user)
{
	say("told to give it up");
	dma_phys_unmap(&hz.map);
}

static void h25_ours(void)
{
	struct dma_phys_peer_user user = { .revoke = h25_revoke };
	struct pci_dev *lender = hz.lender;
	struct mmio_phys range;
	int err;

	err = mmio_phys_from_bar(lender, LENDER_BAR, 0, LEN, &range);
	err = err ?: dma_phys_peer_attach(&range, &user);
	err = err ?: dma_phys_map_mmio(hz.dev, &range, DMA_TO_DEVICE, 0,
				       &hz.map);
	if (err)
		say("error %d", err);
	else
		lender_leaves(lender);
	dma_phys_peer_detach(&user);
	say("a new map: error %d", dma_phys_map_mmio(hz.dev, &range,
						     DMA_TO_DEVICE, 0,
						     &hz.map));
	dma_phys_unmap(&hz.map);
	lender_comes(lender);
}

/* First order: map. Then the driver is unbound, and bound again. */
static void h26_raw(void)
{
	if (!hz.kept) {
		raw_map(&hz.kept, buf_phys(), LEN, DMA_FROM_DEVICE, 0);
		return;
	}
	device_writes(hz.kept);
	say("the device writes %u of %u bytes after its driver has left",
	    count_pattern(hz.buf), LEN);
	hz.kept = 0;
}

/* The device's own BAR: it is reached at its bus address. */
static void h27_raw(void)
{
	struct p2pdma_provider *provider;
	dma_addr_t addr;

	if (dma_set_mask(hz.dev, DMA_BIT_MASK(64)) ||
	    pcim_p2pdma_init(hz.pdev)) {
		say("no provider");
		return;
	}
	provider = pcim_p2pdma_provider(hz.pdev, EDU_BAR);
	addr = pci_p2pdma_bus_addr_map(provider,
				       pci_resource_start(hz.pdev, EDU_BAR));
	/* And is undone as all others are. */
	dma_unmap_phys(hz.dev, addr, PAGE_SIZE, DMA_TO_DEVICE, DMA_ATTR_MMIO);
	say("unmapped");
}

static void h27_ours(void)
{
	struct dma_phys_map map = {};
	struct mmio_phys range;
	int err;

	err = dma_set_mask(hz.dev, DMA_BIT_MASK(64));
	err = err ?: dma_phys_peer_register(hz.pdev, EDU_BAR);
	err = err ?: mmio_phys_from_bar(hz.pdev, EDU_BAR, 0, PAGE_SIZE, &range);
	err = err ?: dma_phys_map_mmio(hz.dev, &range, DMA_TO_DEVICE, 0, &map);
	if (err)
		say("error %d", err);
	else
		say("route %s", map.route == DMA_PHYS_BUS ? "bus" : "other");
	dma_phys_unmap(&map);
	dma_phys_peer_unregister(hz.pdev, EDU_BAR);
	say("unmapped");
}

/* ---- Limits ---- */

static void h29_raw(void)
{
	dma_addr_t addr;

	dma_set_max_seg_size(hz.dev, PAGE_SIZE);
	if (!raw_map(&addr, buf_phys(), BUF_BYTES, DMA_TO_DEVICE, 0))
		return;
	say("1 run of %lu bytes, the device takes %lu", BUF_BYTES, PAGE_SIZE);
	dma_unmap_phys(hz.dev, addr, BUF_BYTES, DMA_TO_DEVICE, 0);
}

static void h29_ours(void)
{
	struct dma_phys_segment segments[32];
	struct dma_phys_vec vec = { .segments = segments, .room = 32 };
	struct cpu_phys range = buf_range(BUF_BYTES);
	size_t longest = 0;
	int err;

	dma_set_max_seg_size(hz.dev, PAGE_SIZE);
	err = dma_phys_vec_map_cpu(hz.dev, &range, 1, DMA_TO_DEVICE, 0, &vec);
	if (err) {
		say("error %d", err);
		return;
	}
	for (size_t i = 0; i < vec.count; i++)
		longest = max(longest, segments[i].len);
	say("%zu runs of at most %zu bytes, the device takes %lu", vec.count,
	    longest, PAGE_SIZE);
	dma_phys_vec_unmap(&vec);
}

static void h30_raw(void)
{
	dma_set_min_align_mask(hz.dev, SZ_8K - 1);
	try_raw();
}

static void h30_ours(void)
{
	dma_set_min_align_mask(hz.dev, SZ_8K - 1);
	try_ours();
}

/* ---- Orders ---- */

static const struct hazard {
	const char *name;
	void (*raw)(void);
	void (*ours)(void);
} hazards[] = {
	{ "h01", h01_raw, h01_ours },
	{ "h02", h02_raw, h02_ours },
	{ "h03", h03_raw, h03_ours },
	{ "h04", h04_raw, h04_ours },
	{ "h04_more", h04_more_raw, h04_more_ours },
	{ "h05", h05_raw, h05_ours },
	{ "h06", h06_raw, h06_ours },
	{ "h07", h07_raw, h07_ours },
	{ "h08", h08_raw, h08_ours },
	{ "h09", h09_raw, ours_receive },
	{ "h10_direction", h10_direction_raw, ours_receive },
	{ "h10_swapped", h10_swapped_raw, ours_receive },
	{ "h11", h11_raw, h11_ours },
	{ "h12", h12_raw, h12_ours },
	{ "h14", h14_raw, h14_ours },
	{ "h14_direction", h14_direction_raw, h14_direction_ours },
	{ "h15", h15_raw, h15_ours },
	{ "h16", h16_raw, h16_ours },
	{ "h17", h17_raw, h17_ours },
	{ "h18", h18_raw, h18_ours },
	{ "h18_twice", h18_twice_raw, h18_twice_ours },
	{ "h19", h19_raw, h19_ours },
	{ "h20", h20_raw, h20_ours },
	{ "h21", h21_raw, h21_ours },
	{ "h22", h22_raw, h22_ours },
	{ "h23", h23_raw, h23_ours },
	{ "h24", h24_raw, h24_ours },
	{ "h25", h25_raw, h25_ours },
	{ "h26", h26_raw, NULL },	/* a driver of ours would not do it */
	{ "h27", h27_raw, h27_ours },
	{ "h29", h29_raw, h29_ours },
	{ "h30", h30_raw, h30_ours },
};

/* 28 bits are what edu has by default, and IOVA space that can be used up. */
static int set_mask(void)
{
	u64 mask = use_dma_iommu(hz.dev) ? DMA_BIT_MASK(28) : DMA_BIT_MASK(64);

	return dma_set_mask_and_coherent(hz.dev, mask);
}

/* The device as it was, and memory in which the pattern is not. */
static int prepare(void)
{
	hz.pdev->untrusted = false;
	dma_set_min_align_mask(hz.dev, 0);
	dma_set_max_seg_size(hz.dev, SZ_64K);
	memset(hz.buf, 0, BUF_BYTES);
	return set_mask();
}

/* Where no IOMMU is, 32 bits make what is beyond them bounce, if it can. */
static size_t count_free(void)
{
	size_t bytes = 0;

	if (prepare() || (!use_dma_iommu(hz.dev) &&
			  dma_set_mask(hz.dev, DMA_BIT_MASK(32))))
		say("the mask is lost");
	if (use_dma_iommu(hz.dev) || dma_max_mapping_size(hz.dev) != SIZE_MAX)
		bytes = give_all(take_all());
	if (prepare())
		say("the mask is lost");
	return bytes;
}

static void obey(void (*order)(void))
{
	size_t before = count_free(), after;

	order();
	after = count_free();
	if (after < before)
		say("%zu bytes of %s leaked", before - after,
		    use_dma_iommu(hz.dev) ? "IOVA" : "bounce slots");
}

static int run(char *line)
{
	char *side = strsep(&line, " ");
	void (*order)(void) = NULL;

	for (size_t i = 0; line && i < ARRAY_SIZE(hazards); i++)
		if (!strcmp(hazards[i].name, line))
			order = strcmp(side, "raw") ? hazards[i].ours :
						      hazards[i].raw;
	if (!order || (strcmp(side, "raw") && strcmp(side, "ours")))
		return -EINVAL;
	if (!hz.pdev || !hz.lender)
		return -ENODEV;

	/* What follows in the log belongs to this. */
	dev_info(hz.dev, "%s %s\n", side, line);
	hz.result[0] = '\0';
	obey(order);
	return 0;
}

static ssize_t command_write(struct file *file, const char __user *user,
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
	err = run(strim(line));
	return err ?: count;
}

static const struct file_operations command_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = command_write,
};

static int result_show(struct seq_file *s, void *unused)
{
	guard(mutex)(&hz.lock);
	seq_printf(s, "%s\n", hz.result);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(result);

/* ---- Driver ---- */

static int edu_probe(struct pci_dev *pdev)
{
	hz.regs = pcim_iomap(pdev, EDU_BAR, 0);
	if (!hz.regs)
		return -ENOMEM;

	hz.dev = &pdev->dev;
	if (set_mask())
		return -EIO;
	pci_set_master(pdev);
	hz.shown = dmam_alloc_coherent(hz.dev, PAGE_SIZE, &hz.shown_addr,
				       GFP_KERNEL);
	if (!hz.shown)
		return -ENOMEM;

	hz.pdev = pdev;
	if (prepare())
		return -EIO;
	hz.debugfs = debugfs_create_dir(pci_name(pdev), hz_root);
	debugfs_create_file("command", 0200, hz.debugfs, NULL, &command_fops);
	debugfs_create_file("result", 0400, hz.debugfs, NULL, &result_fops);
	return 0;
}

/* The pattern is where h17 and h21 look for it. */
static int lender_probe(struct pci_dev *pdev)
{
	int err;

	hz.shmem = pcim_iomap(pdev, LENDER_BAR, 0);
	if (!hz.shmem)
		return -ENOMEM;

	for (size_t i = 0; i < LEN; i++) {
		writeb(pattern(i), hz.shmem + i);
		writeb(pattern(i), hz.shmem + SECOND + i);
	}
	err = dma_phys_peer_register(pdev, LENDER_BAR);
	if (err)
		return err;

	hz.lender = pdev;
	return 0;
}

static int hazards_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	bool lender = pdev->vendor == PCI_VENDOR_ID_REDHAT_QUMRANET &&
		      pdev->device == LENDER_ID;
	int err;

	if (lender ? hz.lender : hz.pdev)
		return -EBUSY;

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	return lender ? lender_probe(pdev) : edu_probe(pdev);
}

/* What it has mapped raw it leaves mapped: that is one of the mistakes. */
static void hazards_remove(struct pci_dev *pdev)
{
	if (pdev == hz.lender) {
		hz.lender = NULL;
		return;
	}
	debugfs_remove(hz.debugfs);
	hz.pdev = NULL;
}

/* Without a table of ids: nothing is taken that was not offered. */
static struct pci_driver hazards_driver = {
	.name = KBUILD_MODNAME,
	.probe = hazards_probe,
	.remove = hazards_remove,
};

static int __init hazards_init(void)
{
	int err;

	hz.buf = (u8 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, BUF_ORDER);
	hz.parts = (struct part *)__get_free_pages(GFP_KERNEL, get_order(UNIT));
	if (!hz.buf || !hz.parts) {
		err = -ENOMEM;
		goto err_free;
	}

	hz_root = debugfs_create_dir(KBUILD_MODNAME, NULL);
	err = pci_register_driver(&hazards_driver);
	if (!err)
		return 0;

	debugfs_remove(hz_root);
err_free:
	free_pages((unsigned long)hz.parts, get_order(UNIT));
	free_pages((unsigned long)hz.buf, BUF_ORDER);
	return err;
}
module_init(hazards_init);

static void __exit hazards_exit(void)
{
	pci_unregister_driver(&hazards_driver);
	debugfs_remove(hz_root);
	free_pages((unsigned long)hz.parts, get_order(UNIT));
	free_pages((unsigned long)hz.buf, BUF_ORDER);
}
module_exit(hazards_exit);

MODULE_DESCRIPTION("What the raw DMA API does when held wrong");
MODULE_LICENSE("GPL");

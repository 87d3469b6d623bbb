// SPDX-License-Identifier: GPL-2.0
/*
 * Test devices: a driver for QEMU's "edu", one for "ivshmem-plain", and what
 * the tests of all rooms share.
 *
 * Where the machine has no IOMMU for it and needs more than 28 bits to reach
 * its memory and its bounce slots, edu must be given dma_mask=0xffffffffffffffff
 * on QEMU's command line; otherwise its default of 28 bits is enough.
 */
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/iopoll.h>
#include <linux/memblock.h>
#include <linux/moduleparam.h>
#include <linux/panic.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>

#include "edu_kunit.h"

#define EDU_BAR			0
#define EDU_DMA_SRC		0x80
#define EDU_DMA_DST		0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_CMD		0x98
#define EDU_CMD_RUN		BIT(0)
#define EDU_CMD_TO_MEMORY	BIT(1)
#define EDU_BUF_ADDR		0x40000
#define EDU_MASK		DMA_BIT_MASK(28)

/* edu takes 100 ms for any transfer; a busy host takes longer. */
#define EDU_TIMEOUT_US		(20 * USEC_PER_SEC)

/* A leak of one slot, or one page of IOVA space, costs a whole unit. */
#define UNIT			(IO_TLB_SIZE * IO_TLB_SEGSIZE)
#define MAX_UNITS		1024

struct edu edu;

#undef MODULE_PARAM_PREFIX
#define MODULE_PARAM_PREFIX "dma_phys_kunit."
u64 edu_kept[EDU_KEPT_MOST];
unsigned int edu_kept_count;
module_param_array_named(kept, edu_kept, ullong, &edu_kept_count, 0);
MODULE_PARM_DESC(kept, "Where 4 MiB of RAM each are kept from the kernel");

/* What a test may change, as it was before. */
static struct {
	u64 *dma_mask;
	u64 bus_dma_limit;
	struct io_tlb_mem *tlb;
	const struct dma_map_ops *ops;
	bool iommu;
	bool coherent;
	bool untrusted;
	bool warned;
} saved;

/* A view of the machine's bounce slots that is forced for this device only. */
static struct io_tlb_mem edu_tlb;

/* Units of bounce slots and of IOVA space that are free, 0 of what is not. */
static struct free_units {
	unsigned int slots;
	unsigned int iova;
} units_before;

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int err;

	if (edu.pdev && edu.pdev != pdev)
		return -EBUSY;

	err = pcim_enable_device(pdev);
	if (err)
		return err;

	edu.regs = pcim_iomap(pdev, EDU_BAR, 0);
	if (!edu.regs)
		return -ENOMEM;

	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;

	pci_set_master(pdev);
	edu.pdev = pdev;
	edu.dev = &pdev->dev;
	return 0;
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

static struct pci_driver edu_driver = {
	.name = "dma_phys_edu",
	.id_table = edu_ids,
	.probe = edu_probe,
};

static int lender_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int err;

	if (edu.lender && edu.lender != pdev)
		return -EBUSY;

	err = pcim_enable_device(pdev);
	if (err)
		return err;

	edu.shmem = pcim_iomap(pdev, EDU_LENDER_BAR, 0);
	if (!edu.shmem)
		return -ENOMEM;

	edu.lender = pdev;
	return 0;
}

static const struct pci_device_id lender_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) },
	{ }
};

static struct pci_driver lender_driver = {
	.name = "dma_phys_lender",
	.id_table = lender_ids,
	.probe = lender_probe,
};

/*
 * 28 bits where they are enough: they are what edu has by default, and they
 * make the IOVA space small enough to be used up.
 */
static u64 default_mask(void)
{
	struct io_tlb_mem *tlb = edu.dev->dma_io_tlb_mem;

	if (use_dma_iommu(edu.dev))
		return EDU_MASK;

	if (is_swiotlb_active(edu.dev))
		return tlb->defpool.end - 1 <= EDU_MASK ? EDU_MASK :
							   DMA_BIT_MASK(64);

	return PFN_PHYS(max_pfn) - 1 <= EDU_MASK ? EDU_MASK : DMA_BIT_MASK(64);
}

/*
 * How many units the device can have at once, by the kernel's own calls, 0
 * where there are none: @get and @put one at the physical address @phys.
 */
static unsigned int count_units(u64 (*get)(phys_addr_t phys),
				void (*put)(u64 unit))
{
	struct page *page = alloc_pages(GFP_KERNEL, get_order(UNIT));
	u64 *units = kvmalloc_array(MAX_UNITS, sizeof(*units), GFP_KERNEL);
	unsigned int n = 0;

	if (page && units) {
		/* Let what is waiting in a flush queue come back first. */
		msleep(50);
		for (; n < MAX_UNITS; n++) {
			units[n] = get(page_to_phys(page));
			if (units[n] == DMA_MAPPING_ERROR)
				break;
		}
		for (unsigned int i = 0; i < n; i++)
			put(units[i]);
	}

	kvfree(units);
	if (page)
		__free_pages(page, get_order(UNIT));
	return n;
}

static u64 get_slots(phys_addr_t phys)
{
	unsigned long attrs = DMA_ATTR_NO_WARN;

	return swiotlb_tbl_map_single(edu.dev, phys, UNIT, 0, DMA_TO_DEVICE,
				      &attrs);
}

static void put_slots(u64 unit)
{
	swiotlb_tbl_unmap_single(edu.dev, unit, UNIT, DMA_TO_DEVICE,
				 DMA_ATTR_SKIP_CPU_SYNC);
}

static u64 get_iova(phys_addr_t phys)
{
	dma_addr_t addr = dma_map_phys(edu.dev, phys, UNIT, DMA_TO_DEVICE,
				       DMA_ATTR_NO_WARN);

	/* dma-debug wants to see the question asked. */
	return dma_mapping_error(edu.dev, addr) ? DMA_MAPPING_ERROR : addr;
}

static void put_iova(u64 unit)
{
	dma_unmap_phys(edu.dev, unit, UNIT, DMA_TO_DEVICE, 0);
}

static struct free_units free_units(void)
{
	return (struct free_units){
		.slots = is_swiotlb_active(edu.dev) ?
			 count_units(get_slots, put_slots) : 0,
		.iova = use_dma_iommu(edu.dev) ?
			count_units(get_iova, put_iova) : 0,
	};
}

void nothing_leaked(struct kunit *test)
{
	struct free_units units = free_units();

	KUNIT_EXPECT_EQ(test, units.slots, units_before.slots);
	KUNIT_EXPECT_EQ(test, units.iova, units_before.iova);
	if (!units_before.slots && !units_before.iova)
		kunit_skip(test, "neither bounce slots nor an IOMMU on this boot");
}

int edu_suite_init(struct kunit_suite *suite)
{
	int err;

	memset(&edu, 0, sizeof(edu));

	err = pci_register_driver(&lender_driver);
	if (err)
		return err;

	err = pci_register_driver(&edu_driver);
	if (err) {
		pci_unregister_driver(&lender_driver);
		return err;
	}

	units_before = (struct free_units){};
	if (edu.pdev) {
		edu_set_mask(default_mask());
		units_before = free_units();
	}

	return 0;
}

void edu_suite_exit(struct kunit_suite *suite)
{
	pci_unregister_driver(&edu_driver);
	pci_unregister_driver(&lender_driver);
}

int edu_test_init(struct kunit *test)
{
	struct device *dev = edu.dev;

	saved.warned = test_taint(TAINT_WARN);
	if (saved.warned)
		kunit_warn(test, "the kernel has warned before: whether this test warns cannot be told");

	if (!edu.pdev)
		return 0;

	edu_set_mask(default_mask());
	saved.dma_mask = dev->dma_mask;
	saved.bus_dma_limit = dev->bus_dma_limit;
	saved.tlb = dev->dma_io_tlb_mem;
#ifdef CONFIG_ARCH_HAS_DMA_OPS
	saved.ops = dev->dma_ops;
#endif
	saved.iommu = use_dma_iommu(dev);
	saved.coherent = dev_dma_coherent(dev);
	saved.untrusted = edu.pdev->untrusted;
	return 0;
}

int edu_device_init(struct kunit *test)
{
	edu_test_init(test);
	if (!edu.pdev)
		kunit_skip(test, "no edu device (1234:11e8) in this machine");
	return 0;
}

static void bind(struct kunit *test, struct pci_dev *pdev)
{
	if (!pdev->dev.driver)
		KUNIT_EXPECT_EQ(test, device_attach(&pdev->dev), 1);
}

static void put_back(struct kunit *test)
{
	struct device *dev = edu.dev;

	dev->dma_mask = saved.dma_mask;
	dev->bus_dma_limit = saved.bus_dma_limit;
	dev->dma_io_tlb_mem = saved.tlb;
	set_dma_ops(dev, saved.ops);
	dev_assign_dma_iommu(dev, saved.iommu);
	dev_assign_dma_coherent(dev, saved.coherent);
	dma_set_min_align_mask(dev, 0);
	edu.pdev->untrusted = saved.untrusted;
	bind(test, edu.pdev);
	edu_set_mask(default_mask());
}

void edu_test_exit(struct kunit *test)
{
	if (edu.pdev)
		put_back(test);
	if (edu.lender)
		bind(test, edu.lender);

	KUNIT_EXPECT_EQ_MSG(test, test_taint(TAINT_WARN), saved.warned,
			    "the kernel warned");
}

static void put_pages(void *page)
{
	__free_pages(page, compound_order(page));
}

static u8 *get_pages(struct kunit *test, gfp_t gfp, unsigned int order)
{
	struct page *page;
	int err;

	page = alloc_pages(gfp | __GFP_ZERO | __GFP_COMP, order);
	KUNIT_ASSERT_NOT_NULL(test, page);
	err = kunit_add_action_or_reset(test, put_pages, page);
	KUNIT_ASSERT_EQ(test, err, 0);
	return page_address(page);
}

u8 *edu_pages(struct kunit *test, unsigned int order)
{
	return get_pages(test, GFP_KERNEL, order);
}

u8 *edu_low_page(struct kunit *test)
{
	return get_pages(test, GFP_KERNEL | GFP_DMA32, 0);
}

static void put_handle(void *map)
{
	dma_phys_unmap(map);
}

struct dma_phys_map *edu_handle(struct kunit *test)
{
	struct dma_phys_map *map = kunit_kzalloc(test, sizeof(*map), GFP_KERNEL);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, map);
	err = kunit_add_action(test, put_handle, map);
	KUNIT_ASSERT_EQ(test, err, 0);
	return map;
}

struct cpu_phys edu_range(struct kunit *test, const void *virt, size_t len)
{
	struct cpu_phys range = {};

	KUNIT_ASSERT_EQ(test, cpu_phys_from_virt(virt, len, &range), 0);
	return range;
}

struct mmio_phys edu_mmio(struct kunit *test, u64 offset, size_t len)
{
	struct mmio_phys range = {};
	int err;

	edu_need_lender(test);
	err = mmio_phys_from_resource(&edu.lender->resource[EDU_LENDER_BAR],
				      offset, len, &range);
	KUNIT_ASSERT_EQ(test, err, 0);
	return range;
}

static void take_back(void *owner)
{
	for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		dma_phys_peer_unregister(owner, bar);
}

int edu_lend(struct kunit *test, struct pci_dev *owner, int bar)
{
	int err = dma_phys_peer_register(owner, bar);

	return err ?: kunit_add_action_or_reset(test, take_back, owner);
}

/* The last byte is on this side of the mask and of the bus's limit. */
static bool reached(phys_addr_t phys, size_t len)
{
	u64 limit = min_not_zero(dma_get_mask(edu.dev), edu.dev->bus_dma_limit);

	return phys_to_dma(edu.dev, phys) + len - 1 <= limit;
}

enum dma_phys_route edu_route(phys_addr_t phys, size_t len)
{
	if (use_dma_iommu(edu.dev))
		return DMA_PHYS_IOMMU;
	if (get_dma_ops(edu.dev))
		return DMA_PHYS_OPS;
	if (is_swiotlb_force_bounce(edu.dev) || !reached(phys, len))
		return DMA_PHYS_BOUNCE;
	return DMA_PHYS_DIRECT;
}

int edu_mmio_route(phys_addr_t phys, size_t len)
{
	if (use_dma_iommu(edu.dev))
		return DMA_PHYS_IOMMU;
	if (get_dma_ops(edu.dev))
		return DMA_PHYS_OPS;
	if (is_swiotlb_force_bounce(edu.dev))
		return -EOPNOTSUPP;
	return reached(phys, len) ? DMA_PHYS_DIRECT : -ERANGE;
}

struct dma_phys_map *edu_map(struct kunit *test, const void *virt, size_t len,
			     enum dma_data_direction dir, u32 flags)
{
	struct dma_phys_map *map = edu_handle(test);
	struct cpu_phys range = edu_range(test, virt, len);
	int err;

	err = dma_phys_map_cpu(edu.dev, &range, dir, flags, map);
	KUNIT_ASSERT_EQ(test, err, 0);
	KUNIT_EXPECT_PTR_EQ(test, map->dev, edu.dev);
	KUNIT_EXPECT_NE(test, map->addr, DMA_MAPPING_ERROR);
	KUNIT_EXPECT_EQ(test, map->size, len);
	KUNIT_EXPECT_EQ(test, map->dir, dir);
	KUNIT_EXPECT_EQ(test, map->kind, DMA_PHYS_CPU);
	KUNIT_EXPECT_EQ(test, map->flags & DMA_PHYS_MANUAL_SYNC, flags);
	KUNIT_EXPECT_EQ(test, map->route, edu_route(range.addr, len));
	return map;
}

/* A handle as it was before, with all of its bytes. */
static void expect_untouched(struct kunit *test, const struct dma_phys_map *map)
{
	static const struct dma_phys_map nothing;

	KUNIT_EXPECT_MEMEQ(test, map, &nothing, sizeof(nothing));
}

void edu_refuses(struct kunit *test, const struct cpu_phys *range,
		 enum dma_data_direction dir, u32 flags, int err)
{
	struct dma_phys_map *map = edu_handle(test);

	KUNIT_EXPECT_EQ_MSG(test,
			    dma_phys_map_cpu(edu.dev, range, dir, flags, map),
			    err, "%pa+%zu dir %d flags %x", &range->addr,
			    range->len, dir, flags);
	expect_untouched(test, map);
	dma_phys_unmap(map);
}

void edu_refuses_mmio(struct kunit *test, const struct mmio_phys *range,
		      enum dma_data_direction dir, int err)
{
	struct dma_phys_map *map = edu_handle(test);

	KUNIT_EXPECT_EQ_MSG(test,
			    dma_phys_map_mmio(edu.dev, range, dir, 0, map),
			    err, "%pa+%zu dir %d", &range->addr, range->len,
			    dir);
	expect_untouched(test, map);
	dma_phys_unmap(map);
}

bool edu_empty(const struct dma_phys_map *map)
{
	return !map->dev && map->route == DMA_PHYS_NONE;
}

phys_addr_t edu_translate(dma_addr_t addr)
{
#ifdef CONFIG_IOMMU_DMA
	return iommu_iova_to_phys(iommu_get_dma_domain(edu.dev), addr);
#else
	return 0;
#endif
}

void edu_expect_warning(void)
{
	saved.warned = true;
}

static void edu_run(struct kunit *test, u64 src, u64 dst, size_t len, u64 cmd)
{
	u64 busy;
	int err;

	KUNIT_ASSERT_LE(test, len, EDU_BUF);
	writeq(src, edu.regs + EDU_DMA_SRC);
	writeq(dst, edu.regs + EDU_DMA_DST);
	writeq(len, edu.regs + EDU_DMA_COUNT);
	writeq(cmd | EDU_CMD_RUN, edu.regs + EDU_DMA_CMD);
	err = readq_poll_timeout(edu.regs + EDU_DMA_CMD, busy,
				 !(busy & EDU_CMD_RUN), 1000, EDU_TIMEOUT_US);
	KUNIT_ASSERT_EQ_MSG(test, err, 0, "edu does not finish");
}

void edu_pull(struct kunit *test, dma_addr_t addr, size_t len)
{
	edu_run(test, addr, EDU_BUF_ADDR, len, 0);
}

void edu_push(struct kunit *test, dma_addr_t addr, size_t len)
{
	edu_run(test, EDU_BUF_ADDR, addr, len, EDU_CMD_TO_MEMORY);
}

/*
 * dma_set_mask() refuses a mask that cannot reach all memory where there is no
 * ZONE_DMA. Masks change under a live device all the same: that is the point.
 */
void edu_set_mask(u64 mask)
{
	*edu.dev->dma_mask = mask;
}

void edu_force_bounce(struct kunit *test)
{
	if (use_dma_iommu(edu.dev))
		kunit_skip(test, "an IOMMU serves the device: nothing bounces");
	if (!is_swiotlb_active(edu.dev))
		kunit_skip(test, "no bounce slots on this boot");
	if (IS_ENABLED(CONFIG_SWIOTLB_DYNAMIC))
		kunit_skip(test, "dynamic bounce slots cannot be forced for one device");

	edu_tlb = *edu.dev->dma_io_tlb_mem;
	edu_tlb.force_bounce = true;
	edu.dev->dma_io_tlb_mem = &edu_tlb;
}

void edu_forbid_bounce(void)
{
	edu.dev->dma_io_tlb_mem = NULL;
}

void edu_need_iommu(struct kunit *test)
{
	if (!use_dma_iommu(edu.dev))
		kunit_skip(test, "no IOMMU serves the device on this boot");
}

void edu_need_lender(struct kunit *test)
{
	if (!edu.lender)
		kunit_skip(test, "no ivshmem-plain device (1af4:1110) in this machine");
}

void edu_unbind(void)
{
	device_release_driver(edu.dev);
}

void edu_bind(struct kunit *test)
{
	bind(test, edu.pdev);
}

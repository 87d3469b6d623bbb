// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer's devices: QEMU's "edu" moves bytes, "ivshmem-plain" lends memory
 * and maps like any device, and two may not map at all.
 */
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/ioport.h>
#include <linux/iopoll.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>
#include <linux/vmalloc.h>

#include "fuzz.h"

#define EDU_BAR			0
#define EDU_DMA_SRC		0x80
#define EDU_DMA_DST		0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_CMD		0x98
#define EDU_CMD_RUN		BIT(0)
#define EDU_CMD_TO_MEMORY	BIT(1)
#define EDU_BUF_ADDR		0x40000
/* edu takes 100 ms for any transfer; a busy host takes longer. */
#define EDU_TIMEOUT_US		(20 * USEC_PER_SEC)

/* BAR of ivshmem-plain that is memory. */
#define LENDER_BAR		2

/* All memory of a run lies in a row. */
#define MEMORY_ORDER		10
static_assert(FUZZ_HANDLES * FUZZ_OWN + FUZZ_SHARED <=
	      PAGE_SIZE << MEMORY_ORDER);

/* Free space is counted in units of the longest slot, up to so many. */
#define MAX_UNITS		1024

/* The drivers are registered for one run at a time. */
static struct fuzz *running;

static int probe(struct pci_dev *pdev, unsigned int which, int bar,
		 u8 __iomem **mem)
{
	struct fuzz_dev *dev = &running->dev[which];
	int err;

	if (dev->pdev)
		return -EBUSY;

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	*mem = pcim_iomap(pdev, bar, 0);
	if (!*mem)
		return -ENOMEM;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		return err;

	pci_set_master(pdev);
	dev->pdev = pdev;
	dev->dev = &pdev->dev;
	running->peer[which] = (struct fuzz_peer){ .owner = pdev, .bar = bar,
						   .fuzz = running };
	return 0;
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return probe(pdev, FUZZ_EDU, EDU_BAR, &running->edu.regs);
}

static int lender_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	u8 __iomem *mem;
	int err = probe(pdev, FUZZ_LENDER, LENDER_BAR, &mem);

	if (err)
		return err;
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++) {
		struct fuzz_area *area = &running->handle[i].own[DMA_PHYS_MMIO];

		area->phys = pci_resource_start(pdev, LENDER_BAR) +
			     i * FUZZ_OWN;
		area->io = mem + i * FUZZ_OWN;
	}
	return 0;
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

static const struct pci_device_id lender_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) },
	{ }
};

static struct pci_driver edu_driver = {
	.name = "dma_phys_fuzz_edu",
	.id_table = edu_ids,
	.probe = edu_probe,
};

static struct pci_driver lender_driver = {
	.name = "dma_phys_fuzz_lender",
	.id_table = lender_ids,
	.probe = lender_probe,
};

/* How the device is set up. */

void fuzz_configure(struct fuzz_dev *dev, u64 reach, u64 max, u64 boundary,
		    u64 align, bool forced, bool untrusted)
{
	bool is_mask = !(reach & (reach + 1));

	/* A mask is all ones; any address can be where a bus ends. */
	*dev->dev->dma_mask = is_mask ? reach : DMA_BIT_MASK(64);
	dev->dev->bus_dma_limit = is_mask ? 0 : reach;
	dma_set_max_seg_size(dev->dev, max);
	dma_set_seg_boundary(dev->dev, boundary);
	dma_set_min_align_mask(dev->dev, align);
	dev->dev->dma_io_tlb_mem = forced ? dev->view : dev->saved.tlb;
	dev->pdev->untrusted = untrusted;

	dev->reach = reach;
	dev->max = max;
	dev->boundary = boundary;
	dev->align = align;
	dev->forced = is_swiotlb_force_bounce(dev->dev);
	dev->untrusted = untrusted;
}

static int save(struct fuzz_dev *dev)
{
	struct io_tlb_mem *tlb = dev->dev->dma_io_tlb_mem;

	dev->view = kmemdup(tlb, sizeof(*tlb), GFP_KERNEL);
	if (!dev->view)
		return -ENOMEM;
	dev->view->force_bounce = true;

	dev->saved.tlb = tlb;
	dev->saved.mask = *dev->dev->dma_mask;
	dev->saved.limit = dev->dev->bus_dma_limit;
	dev->saved.max = dma_get_max_seg_size(dev->dev);
	dev->saved.boundary = dma_get_seg_boundary(dev->dev);
	dev->saved.untrusted = dev->pdev->untrusted;

	if (is_swiotlb_active(dev->dev)) {
		dev->pool_start = tlb->defpool.start;
		dev->pool_end = tlb->defpool.end;
	}
	dev->iommu = use_dma_iommu(dev->dev);
	if (dev->iommu) {
		dev->domain = iommu_get_dma_domain(dev->dev);
		dev->granule = 1UL << __ffs(dev->domain->pgsize_bitmap);
		dev->aperture = dev->domain->geometry.force_aperture ?
				dev->domain->geometry.aperture_end : U64_MAX;
	}
	return 0;
}

static void restore(struct fuzz_dev *dev)
{
	if (!dev->view)
		return;
	dev->dev->dma_io_tlb_mem = dev->saved.tlb;
	*dev->dev->dma_mask = dev->saved.mask;
	dev->dev->bus_dma_limit = dev->saved.limit;
	dma_set_max_seg_size(dev->dev, dev->saved.max);
	dma_set_seg_boundary(dev->dev, dev->saved.boundary);
	dma_set_min_align_mask(dev->dev, 0);
	dev->pdev->untrusted = dev->saved.untrusted;
	kfree(dev->view);
}

/* What is free. */

static u64 get_slot(struct fuzz_dev *dev, phys_addr_t phys)
{
	unsigned long attrs = DMA_ATTR_NO_WARN;

	return swiotlb_tbl_map_single(dev->dev, phys, FUZZ_SLOT, 0,
				      DMA_TO_DEVICE, &attrs);
}

static void put_slot(struct fuzz_dev *dev, u64 unit)
{
	swiotlb_tbl_unmap_single(dev->dev, unit, FUZZ_SLOT, DMA_TO_DEVICE,
				 DMA_ATTR_SKIP_CPU_SYNC);
}

static u64 get_iova(struct fuzz_dev *dev, phys_addr_t phys)
{
	dma_addr_t addr = dma_map_phys(dev->dev, phys, FUZZ_SLOT, DMA_TO_DEVICE,
				       DMA_ATTR_NO_WARN);

	/* dma-debug wants to see the question asked. */
	return dma_mapping_error(dev->dev, addr) ? DMA_MAPPING_ERROR : addr;
}

static void put_iova(struct fuzz_dev *dev, u64 unit)
{
	dma_unmap_phys(dev->dev, unit, FUZZ_SLOT, DMA_TO_DEVICE, 0);
}

static unsigned int count_units(struct fuzz_dev *dev, phys_addr_t phys,
				u64 (*get)(struct fuzz_dev *dev,
					   phys_addr_t phys),
				void (*put)(struct fuzz_dev *dev, u64 unit))
{
	u64 *units = kvmalloc_array(MAX_UNITS, sizeof(*units), GFP_KERNEL);
	unsigned int n = 0;

	for (; units && n < MAX_UNITS; n++) {
		units[n] = get(dev, phys);
		if (units[n] == DMA_MAPPING_ERROR)
			break;
	}
	for (unsigned int i = 0; i < n; i++)
		put(dev, units[i]);
	kvfree(units);
	return n;
}

/* Of the slots, which all devices share, and of what 28 bits of IOVA hold. */
unsigned int fuzz_free_units(struct fuzz *fuzz)
{
	phys_addr_t phys = fuzz->shared.phys;
	unsigned int n = 0;

	/* Let what is waiting in a flush queue come back first. */
	msleep(50);
	for (unsigned int i = FUZZ_EDU; i <= FUZZ_LENDER; i++) {
		struct fuzz_dev *dev = &fuzz->dev[i];

		if (!dev->iommu)
			continue;
		fuzz_configure(dev, DMA_BIT_MASK(28), SZ_64K, U32_MAX, 0, false,
			       false);
		n += count_units(dev, phys, get_iova, put_iova);
	}
	if (fuzz->dev[FUZZ_EDU].pool_end)
		n += count_units(&fuzz->dev[FUZZ_EDU], phys, get_slot, put_slot);
	return n;
}

/* Memory. */

static int add_ram(struct resource *res, void *data)
{
	struct fuzz *fuzz = data;

	if (fuzz->ram_count == FUZZ_RAMS)
		return -ENOSPC;
	fuzz->rams[fuzz->ram_count].start = res->start;
	fuzz->rams[fuzz->ram_count].end = res->end;
	fuzz->ram_count++;
	return 0;
}

static void cut(struct fuzz_area *area, size_t len, u8 **mem, u8 **shadow)
{
	area->len = len;
	area->shadow = *shadow;
	*shadow += len;
	if (!mem)
		return;
	area->mem = *mem;
	area->phys = virt_to_phys(*mem);
	*mem += len;
}

static int get_memory(struct fuzz *fuzz)
{
	u8 *mem, *shadow;

	fuzz->memory = alloc_pages(GFP_KERNEL | __GFP_COMP | __GFP_ZERO,
				   MEMORY_ORDER);
	fuzz->shadows = vzalloc(3 * FUZZ_HANDLES * FUZZ_OWN + FUZZ_SHARED +
				FUZZ_EDU_BUF);
	if (!fuzz->memory || !fuzz->shadows)
		return -ENOMEM;

	mem = page_address(fuzz->memory);
	shadow = fuzz->shadows;
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++) {
		struct fuzz_handle *handle = &fuzz->handle[i];

		cut(&handle->own[DMA_PHYS_CPU], FUZZ_OWN, &mem, &shadow);
		cut(&handle->own[DMA_PHYS_MMIO], FUZZ_OWN, NULL, &shadow);
		handle->seen = shadow;
		shadow += FUZZ_OWN;
		handle->is_vec = i >= FUZZ_MAPS;
		if (!handle->is_vec)
			continue;
		handle->vec.segments = kcalloc(FUZZ_ROOM,
					       sizeof(*handle->vec.segments),
					       GFP_KERNEL);
		if (!handle->vec.segments)
			return -ENOMEM;
	}
	cut(&fuzz->shared, FUZZ_SHARED, &mem, &shadow);
	fuzz->shared.constant = true;
	fuzz->edu.buf = shadow;
	return walk_system_ram_res(0, PHYS_ADDR_MAX, fuzz, add_ram);
}

static void put_memory(struct fuzz *fuzz)
{
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++)
		kfree(fuzz->handle[i].vec.segments);
	vfree(fuzz->shadows);
	if (fuzz->memory)
		__free_pages(fuzz->memory, MEMORY_ORDER);
}

/* All of them. */

static int register_devices(struct fuzz *fuzz)
{
	struct platform_device *idle;
	struct device *bare;
	int err;

	err = pci_register_driver(&edu_driver);
	if (err)
		return err;
	err = pci_register_driver(&lender_driver);
	if (err)
		goto err_edu;

	idle = platform_device_register_simple("dma_phys_fuzz_idle", 0, NULL, 0);
	if (IS_ERR(idle)) {
		err = PTR_ERR(idle);
		goto err_lender;
	}
	bare = root_device_register("dma_phys_fuzz_bare");
	if (IS_ERR(bare)) {
		err = PTR_ERR(bare);
		goto err_idle;
	}

	fuzz->dev[FUZZ_NO_DRIVER].dev = &idle->dev;
	fuzz->dev[FUZZ_NO_DRIVER].refusal = fuzz_bit(-ENODEV);
	fuzz->dev[FUZZ_NO_MASK].dev = bare;
	fuzz->dev[FUZZ_NO_MASK].refusal = fuzz_bit(-EINVAL) | fuzz_bit(-ENODEV);
	return 0;

err_idle:
	platform_device_unregister(idle);
err_lender:
	pci_unregister_driver(&lender_driver);
err_edu:
	pci_unregister_driver(&edu_driver);
	return err;
}

int fuzz_devices_start(struct fuzz *fuzz)
{
	int err;

	running = fuzz;
	err = get_memory(fuzz) ?: register_devices(fuzz);
	if (err)
		return err;
	if (!fuzz->dev[FUZZ_EDU].pdev || !fuzz->dev[FUZZ_LENDER].pdev)
		return -ENODEV;
	return save(&fuzz->dev[FUZZ_EDU]) ?: save(&fuzz->dev[FUZZ_LENDER]);
}

void fuzz_devices_end(struct fuzz *fuzz)
{
	struct device *bare = fuzz->dev[FUZZ_NO_MASK].dev;

	for (unsigned int i = FUZZ_EDU; i <= FUZZ_LENDER; i++)
		restore(&fuzz->dev[i]);
	if (bare) {
		root_device_unregister(bare);
		platform_device_unregister(to_platform_device(fuzz->dev[FUZZ_NO_DRIVER].dev));
		pci_unregister_driver(&lender_driver);
		pci_unregister_driver(&edu_driver);
	}
	put_memory(fuzz);
	running = NULL;
}

/* The device itself moves bytes, while other operations go on. */

void fuzz_edu_start(struct fuzz *fuzz, struct fuzz_handle *handle, size_t at,
		    size_t len, bool push)
{
	size_t left;
	dma_addr_t addr = fuzz_dma_addr(handle, at, &left);
	u8 __iomem *regs = fuzz->edu.regs;

	fuzz->edu.busy = handle;
	fuzz->edu.at = at;
	fuzz->edu.len = min(len, left);
	fuzz->edu.push = push;
	fuzz->edu.since = fuzz->ops;

	writeq(push ? EDU_BUF_ADDR : addr, regs + EDU_DMA_SRC);
	writeq(push ? addr : EDU_BUF_ADDR, regs + EDU_DMA_DST);
	writeq(fuzz->edu.len, regs + EDU_DMA_COUNT);
	writeq(EDU_CMD_RUN | (push ? EDU_CMD_TO_MEMORY : 0),
	       regs + EDU_DMA_CMD);
}

void fuzz_edu_finish(struct fuzz *fuzz)
{
	struct fuzz_handle *handle = fuzz->edu.busy;
	size_t at = fuzz->edu.at, len = fuzz->edu.len;
	u64 busy;

	if (!handle)
		return;
	fuzz->edu.busy = NULL;
	if (readq_poll_timeout(fuzz->edu.regs + EDU_DMA_CMD, busy,
			       !(busy & EDU_CMD_RUN), 1000, EDU_TIMEOUT_US))
		fuzz_wrong(fuzz, "edu does not finish");

	fuzz_done(fuzz, fuzz->edu.push ? FUZZ_EDU_WRITES : FUZZ_EDU_READS, 0,
		  fuzz_bit(0));
	fuzz_device_bytes(handle, at, fuzz->edu.buf, len, fuzz->edu.push);
	if (fuzz->edu.push)
		fuzz_device_reads(fuzz, handle, at, len);
	else
		fuzz->edu.known = max(fuzz->edu.known, len);
}

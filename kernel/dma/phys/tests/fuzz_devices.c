// SPDX-License-Identifier: GPL-2.0
/*
 * The devices and the memory of the fuzzer: QEMU's "edu" and "ivshmem-plain",
 * and a device without a DMA mask.
 */
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/swiotlb.h>
#include <linux/vmalloc.h>

#include "edu.h"
#include "fuzz.h"

/* All areas of memory are contiguous. */
#define FUZZ_MEMORY_ORDER	10
static_assert(FUZZ_HANDLES * FUZZ_OWN + FUZZ_SHARED <=
	      PAGE_SIZE << FUZZ_MEMORY_ORDER);

/* Maximum number of units that fuzz_free_units() counts of each kind. */
#define FUZZ_MAX_UNITS		1024

/* The drivers are registered for one run at a time. */
static struct fuzz *fuzz_running;

/* ---- Drivers ---- */

static int fuzz_probe(struct pci_dev *pdev, unsigned int index, int bar,
		      u8 __iomem **mem)
{
	struct fuzz_dev *dev = &fuzz_running->dev[index];
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
	fuzz_running->peer[index] = (struct fuzz_peer){
		.owner = pdev,
		.bar = bar,
		.fuzz = fuzz_running,
	};
	return 0;
}

static int fuzz_edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	return fuzz_probe(pdev, FUZZ_EDU, EDU_BAR, &fuzz_running->edu.regs);
}

static int fuzz_ivshmem_probe(struct pci_dev *pdev,
			      const struct pci_device_id *id)
{
	u8 __iomem *mem;
	int err = fuzz_probe(pdev, FUZZ_IVSHMEM, IVSHMEM_BAR, &mem);

	if (err)
		return err;
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++) {
		struct fuzz_area *area =
			&fuzz_running->handle[i].own[DMA_PHYS_MMIO];

		area->phys = pci_resource_start(pdev, IVSHMEM_BAR) +
			     i * FUZZ_OWN;
		area->io = mem + i * FUZZ_OWN;
	}
	return 0;
}

static const struct pci_device_id fuzz_edu_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR_ID, EDU_DEVICE_ID) },
	{ }
};

static const struct pci_device_id fuzz_ivshmem_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, IVSHMEM_DEVICE_ID) },
	{ }
};

static struct pci_driver fuzz_edu_driver = {
	.name = "dma_phys_fuzz_edu",
	.id_table = fuzz_edu_ids,
	.probe = fuzz_edu_probe,
};

static struct pci_driver fuzz_ivshmem_driver = {
	.name = "dma_phys_fuzz_ivshmem",
	.id_table = fuzz_ivshmem_ids,
	.probe = fuzz_ivshmem_probe,
};

/* ---- Configuration ---- */

void fuzz_configure(struct fuzz_dev *dev, u64 reach,
		    const struct dma_phys_limits *limits, bool forced,
		    bool untrusted)
{
	bool is_mask = !(reach & (reach + 1));

	/* Any address can be the end of a bus, but not a mask. */
	*dev->dev->dma_mask = is_mask ? reach : DMA_BIT_MASK(64);
	dev->dev->bus_dma_limit = is_mask ? 0 : reach;
	dma_set_max_seg_size(dev->dev, limits->max);
	dma_set_seg_boundary(dev->dev, limits->boundary);
	dma_set_min_align_mask(dev->dev, limits->align);
	dev->dev->dma_io_tlb_mem = forced ? dev->view : dev->saved.tlb;
	dev->pdev->untrusted = untrusted;

	dev->reach = reach;
	dev->limits = *limits;
	dev->forced = is_swiotlb_force_bounce(dev->dev);
	dev->untrusted = untrusted;
}

static int fuzz_save(struct fuzz_dev *dev)
{
	struct io_tlb_mem *tlb = dev->dev->dma_io_tlb_mem;

	dev->view = kmemdup(tlb, sizeof(*tlb), GFP_KERNEL);
	if (!dev->view)
		return -ENOMEM;
	dev->view->force_bounce = true;

	dev->saved.tlb = tlb;
	dev->saved.mask = *dev->dev->dma_mask;
	dev->saved.bus_limit = dev->dev->bus_dma_limit;
	dev->saved.max = dma_get_max_seg_size(dev->dev);
	dev->saved.boundary = dma_get_seg_boundary(dev->dev);
	dev->saved.untrusted = dev->pdev->untrusted;

	if (is_swiotlb_active(dev->dev)) {
		dev->pool_start = tlb->defpool.start;
		dev->pool_end = tlb->defpool.end;
	}
	dev->iommu = use_dma_iommu(dev->dev);
	dev->granule = 1;
	if (dev->iommu) {
		dev->domain = iommu_get_domain_for_dev(dev->dev);
		dev->granule = dma_get_merge_boundary(dev->dev) + 1;
		dev->aperture = dev->domain->geometry.force_aperture ?
				dev->domain->geometry.aperture_end : U64_MAX;
	}
	return 0;
}

static void fuzz_restore(struct fuzz_dev *dev)
{
	if (!dev->view)
		return;
	dev->dev->dma_io_tlb_mem = dev->saved.tlb;
	*dev->dev->dma_mask = dev->saved.mask;
	dev->dev->bus_dma_limit = dev->saved.bus_limit;
	dma_set_max_seg_size(dev->dev, dev->saved.max);
	dma_set_seg_boundary(dev->dev, dev->saved.boundary);
	dma_set_min_align_mask(dev->dev, 0);
	dev->pdev->untrusted = dev->saved.untrusted;
	kfree(dev->view);
}

/* ---- Leaks ---- */

static u64 fuzz_get_buffer(struct fuzz_dev *dev, phys_addr_t phys)
{
	unsigned long attrs = DMA_ATTR_NO_WARN;

	return swiotlb_tbl_map_single(dev->dev, phys, FUZZ_BOUNCE, 0,
				      DMA_TO_DEVICE, &attrs);
}

static void fuzz_put_buffer(struct fuzz_dev *dev, u64 unit)
{
	swiotlb_tbl_unmap_single(dev->dev, unit, FUZZ_BOUNCE, DMA_TO_DEVICE,
				 DMA_ATTR_SKIP_CPU_SYNC);
}

static u64 fuzz_get_iova(struct fuzz_dev *dev, phys_addr_t phys)
{
	dma_addr_t addr = dma_map_phys(dev->dev, phys, FUZZ_BOUNCE,
				       DMA_TO_DEVICE, DMA_ATTR_NO_WARN);

	/* dma-debug reports an address that was not checked. */
	return dma_mapping_error(dev->dev, addr) ? DMA_MAPPING_ERROR : addr;
}

static void fuzz_put_iova(struct fuzz_dev *dev, u64 unit)
{
	dma_unmap_phys(dev->dev, unit, FUZZ_BOUNCE, DMA_TO_DEVICE, 0);
}

static unsigned int fuzz_count_units(struct fuzz_dev *dev, phys_addr_t phys,
				     u64 (*get)(struct fuzz_dev *dev,
						phys_addr_t phys),
				     void (*put)(struct fuzz_dev *dev,
						 u64 unit))
{
	u64 *units = kvmalloc_array(FUZZ_MAX_UNITS, sizeof(*units), GFP_KERNEL);
	unsigned int n = 0;

	for (; units && n < FUZZ_MAX_UNITS; n++) {
		units[n] = get(dev, phys);
		if (units[n] == DMA_MAPPING_ERROR)
			break;
	}
	for (unsigned int i = 0; i < n; i++)
		put(dev, units[i]);
	kvfree(units);
	return n;
}

/* Of the bounce buffers of all devices, and of 28 bits of IOVA of each. */
unsigned int fuzz_free_units(struct fuzz *fuzz)
{
	phys_addr_t phys = fuzz->shared.phys;
	unsigned int n = 0;

	/* Wait until the flush queue has freed its IOVAs. */
	msleep(50);
	for (unsigned int i = FUZZ_EDU; i <= FUZZ_IVSHMEM; i++) {
		struct fuzz_dev *dev = &fuzz->dev[i];

		if (!dev->iommu)
			continue;
		fuzz_configure(dev, DMA_BIT_MASK(28), &FUZZ_LIMITS, false,
			       false);
		n += fuzz_count_units(dev, phys, fuzz_get_iova, fuzz_put_iova);
	}
	if (fuzz->dev[FUZZ_EDU].pool_end)
		n += fuzz_count_units(&fuzz->dev[FUZZ_EDU], phys,
				      fuzz_get_buffer, fuzz_put_buffer);
	return n;
}

/* ---- Memory ---- */

static int fuzz_add_ram(struct resource *res, void *data)
{
	struct fuzz *fuzz = data;

	if (fuzz->ram_count == FUZZ_RAMS)
		return -ENOSPC;
	fuzz->rams[fuzz->ram_count].start = res->start;
	fuzz->rams[fuzz->ram_count].end = res->end;
	fuzz->ram_count++;
	return 0;
}

/* @mem is NULL for device memory. */
static void fuzz_init_area(struct fuzz_area *area, size_t len, u8 **mem,
			   u8 **shadow)
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

static int fuzz_init_handle(struct fuzz_handle *handle, u8 **mem, u8 **shadow)
{
	fuzz_init_area(&handle->own[DMA_PHYS_CPU], FUZZ_OWN, mem, shadow);
	fuzz_init_area(&handle->own[DMA_PHYS_MMIO], FUZZ_OWN, NULL, shadow);
	handle->device_view = *shadow;
	*shadow += 2 * FUZZ_OWN;
	handle->bounced = bitmap_zalloc(2 * FUZZ_OWN, GFP_KERNEL);
	handle->segments = kcalloc(FUZZ_SEGMENTS, sizeof(*handle->segments),
				   GFP_KERNEL);
	return handle->bounced && handle->segments ? 0 : -ENOMEM;
}

static int fuzz_get_memory(struct fuzz *fuzz)
{
	u8 *mem, *shadow;
	int err = 0;

	fuzz->memory = alloc_pages(GFP_KERNEL | __GFP_COMP | __GFP_ZERO,
				   FUZZ_MEMORY_ORDER);
	fuzz->shadows = vzalloc(4 * FUZZ_HANDLES * FUZZ_OWN + FUZZ_SHARED +
				EDU_BUF_SIZE);
	if (!fuzz->memory || !fuzz->shadows)
		return -ENOMEM;

	mem = page_address(fuzz->memory);
	shadow = fuzz->shadows;
	for (unsigned int i = 0; i < FUZZ_HANDLES && !err; i++) {
		fuzz->handle[i].is_sg = i >= FUZZ_MAPS;
		err = fuzz_init_handle(&fuzz->handle[i], &mem, &shadow);
	}
	if (err)
		return err;
	fuzz_init_area(&fuzz->shared, FUZZ_SHARED, &mem, &shadow);
	fuzz->shared.constant = true;
	fuzz->edu.buf = shadow;
	return walk_system_ram_res(0, PHYS_ADDR_MAX, fuzz, fuzz_add_ram);
}

static void fuzz_put_memory(struct fuzz *fuzz)
{
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++) {
		kfree(fuzz->handle[i].segments);
		bitmap_free(fuzz->handle[i].bounced);
	}
	vfree(fuzz->shadows);
	if (fuzz->memory)
		__free_pages(fuzz->memory, FUZZ_MEMORY_ORDER);
}

/* ---- Start and end ---- */

static int fuzz_register_devices(struct fuzz *fuzz)
{
	struct device *bare;
	int err;

	err = pci_register_driver(&fuzz_edu_driver);
	if (err)
		return err;
	err = pci_register_driver(&fuzz_ivshmem_driver);
	if (err)
		goto err_edu;
	bare = root_device_register("dma_phys_fuzz_bare");
	if (IS_ERR(bare)) {
		err = PTR_ERR(bare);
		goto err_ivshmem;
	}
	fuzz->dev[FUZZ_NO_MASK].dev = bare;
	return 0;

err_ivshmem:
	pci_unregister_driver(&fuzz_ivshmem_driver);
err_edu:
	pci_unregister_driver(&fuzz_edu_driver);
	return err;
}

int fuzz_devices_start(struct fuzz *fuzz)
{
	int err;

	fuzz_running = fuzz;
	err = fuzz_get_memory(fuzz) ?: fuzz_register_devices(fuzz);
	if (err)
		return err;
	if (!fuzz->dev[FUZZ_EDU].pdev || !fuzz->dev[FUZZ_IVSHMEM].pdev)
		return -ENODEV;
	return fuzz_save(&fuzz->dev[FUZZ_EDU]) ?:
	       fuzz_save(&fuzz->dev[FUZZ_IVSHMEM]);
}

void fuzz_devices_end(struct fuzz *fuzz)
{
	struct device *bare = fuzz->dev[FUZZ_NO_MASK].dev;

	for (unsigned int i = FUZZ_EDU; i <= FUZZ_IVSHMEM; i++)
		fuzz_restore(&fuzz->dev[i]);
	if (bare) {
		root_device_unregister(bare);
		pci_unregister_driver(&fuzz_ivshmem_driver);
		pci_unregister_driver(&fuzz_edu_driver);
	}
	fuzz_put_memory(fuzz);
	fuzz_running = NULL;
}

/* ---- Transfers of edu, during other operations ---- */

void fuzz_edu_start(struct fuzz *fuzz, struct fuzz_handle *handle, size_t at,
		    size_t len, bool to_memory)
{
	size_t rest;
	dma_addr_t addr = fuzz_dma_addr(handle, at, &rest);

	fuzz->edu.busy = handle;
	fuzz->edu.at = at;
	fuzz->edu.len = min(len, rest);
	fuzz->edu.to_memory = to_memory;
	fuzz->edu.since = fuzz->ops;
	edu_start(fuzz->edu.regs, addr, fuzz->edu.len, to_memory);
}

void fuzz_edu_finish(struct fuzz *fuzz)
{
	struct fuzz_handle *handle = fuzz->edu.busy;
	size_t at = fuzz->edu.at, len = fuzz->edu.len;
	bool to_memory = fuzz->edu.to_memory;

	if (!handle)
		return;
	fuzz->edu.busy = NULL;
	if (edu_wait(fuzz->edu.regs))
		fuzz_error(fuzz, "edu does not finish");

	fuzz_done(fuzz, to_memory ? FUZZ_EDU_WRITES : FUZZ_EDU_READS, 0,
		  FUZZ_OK);
	fuzz_device_bytes(handle, at, fuzz->edu.buf, len, to_memory);
	if (to_memory)
		fuzz_device_reads(fuzz, handle, at, len);
	else
		fuzz->edu.known = max(fuzz->edu.known, len);
}

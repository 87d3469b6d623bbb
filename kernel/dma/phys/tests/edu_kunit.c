// SPDX-License-Identifier: GPL-2.0
/*
 * Fixtures: drivers for the devices of the tests, and what a test may change.
 *
 * edu needs dma_mask=0xffffffffffffffff on QEMU's command line if no IOMMU
 * translates for it and 28 bits do not reach memory and bounce buffers.
 */
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/iommu-dma.h>
#include <linux/memblock.h>
#include <linux/panic.h>
#include <linux/swiotlb.h>

#include "edu_kunit.h"

struct edu edu;

/* State of the device before a test. */
static struct {
	u64 *dma_mask;
	u64 bus_dma_limit;
	const struct bus_dma_region *dma_range_map;
	struct io_tlb_mem *tlb;
	const struct dma_map_ops *ops;
	unsigned long boundary;
	unsigned int max_seg_size;
	bool iommu;
	bool coherent;
	bool skip_sync;
	bool untrusted;
	bool bypass;
	bool warned;
} saved;

/* ---- Drivers ---- */

static int edu_kunit_probe(struct pci_dev *pdev,
			   const struct pci_device_id *id)
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

static const struct pci_device_id edu_kunit_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR_ID, EDU_DEVICE_ID) },
	{ }
};

static struct pci_driver edu_kunit_driver = {
	.name = "dma_phys_edu",
	.id_table = edu_kunit_ids,
	.probe = edu_kunit_probe,
};

static int ivshmem_kunit_probe(struct pci_dev *pdev,
			       const struct pci_device_id *id)
{
	int err;

	if (edu.owner && edu.owner != pdev)
		return -EBUSY;

	err = pcim_enable_device(pdev);
	if (err)
		return err;

	edu.shmem = pcim_iomap(pdev, IVSHMEM_BAR, 0);
	if (!edu.shmem)
		return -ENOMEM;

	edu.owner = pdev;
	return 0;
}

static const struct pci_device_id ivshmem_kunit_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, IVSHMEM_DEVICE_ID) },
	{ }
};

static struct pci_driver ivshmem_kunit_driver = {
	.name = "dma_phys_ivshmem",
	.id_table = ivshmem_kunit_ids,
	.probe = ivshmem_kunit_probe,
};

/* ---- Suites and tests ---- */

/*
 * The mask that edu has by default, if that is enough: the IOVA space is then
 * small enough to be used up. The registers are written 32 bits at a time by a
 * 32-bit CPU, and the upper half is lost.
 */
static u64 edu_default_mask(void)
{
	u64 small = DMA_BIT_MASK(EDU_DEFAULT_BITS);
	u64 large = IS_ENABLED(CONFIG_64BIT) ? DMA_BIT_MASK(64) :
					       DMA_BIT_MASK(32);
	phys_addr_t start, end;

	if (use_dma_iommu(edu.dev))
		return small;
	/* Legacy ops are bypassed if all memory is within reach. */
	if (dev_dma_ops_bypass(edu.dev))
		return large;
	if (edu_get_pool(&start, &end))
		return end - 1 <= small ? small : large;
	if (is_swiotlb_active(edu.dev))
		return large;
	return PFN_PHYS(max_pfn) - 1 <= small ? small : large;
}

int edu_suite_init(struct kunit_suite *suite)
{
	int err;

	memset(&edu, 0, sizeof(edu));

	err = pci_register_driver(&ivshmem_kunit_driver);
	if (err)
		return err;

	err = pci_register_driver(&edu_kunit_driver);
	if (err) {
		pci_unregister_driver(&ivshmem_kunit_driver);
		return err;
	}

	if (edu.pdev)
		edu_set_mask(edu_default_mask());
	edu_units_init();
	edu_log_init();
	return 0;
}

void edu_suite_exit(struct kunit_suite *suite)
{
	edu_log_exit();
	pci_unregister_driver(&edu_kunit_driver);
	pci_unregister_driver(&ivshmem_kunit_driver);
}

int edu_test_init(struct kunit *test)
{
	struct device *dev = edu.dev;

	saved.warned = test_taint(TAINT_WARN);
	if (saved.warned)
		kunit_warn(test, "the kernel has warned before: warnings of this test are not noticed");

	if (!edu.pdev)
		return 0;

	edu_set_mask(edu_default_mask());
	saved.dma_mask = dev->dma_mask;
	saved.bus_dma_limit = dev->bus_dma_limit;
	saved.dma_range_map = dev->dma_range_map;
#ifdef CONFIG_SWIOTLB
	saved.tlb = dev->dma_io_tlb_mem;
#endif
#ifdef CONFIG_ARCH_HAS_DMA_OPS
	saved.ops = dev->dma_ops;
#endif
	saved.bypass = dev_dma_ops_bypass(dev);
	saved.boundary = dma_get_seg_boundary(dev);
	saved.max_seg_size = dma_get_max_seg_size(dev);
	saved.iommu = use_dma_iommu(dev);
	saved.coherent = dev_dma_coherent(dev);
	saved.skip_sync = dev_dma_skip_sync(dev);
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

static void edu_attach_driver(struct kunit *test, struct pci_dev *pdev)
{
	if (!pdev->dev.driver)
		KUNIT_EXPECT_EQ(test, device_attach(&pdev->dev), 1);
}

static void edu_restore(struct kunit *test)
{
	struct device *dev = edu.dev;

	dev->dma_mask = saved.dma_mask;
	dev->bus_dma_limit = saved.bus_dma_limit;
	dev->dma_range_map = saved.dma_range_map;
#ifdef CONFIG_SWIOTLB
	dev->dma_io_tlb_mem = saved.tlb;
#endif
	dev_assign_dma_iommu(dev, saved.iommu);
	set_dma_ops(dev, saved.ops);
	dev_assign_dma_ops_bypass(dev, saved.bypass);
	dev_assign_dma_coherent(dev, saved.coherent);
	dev_assign_dma_skip_sync(dev, saved.skip_sync);
	dma_set_min_align_mask(dev, 0);
	dma_set_seg_boundary(dev, saved.boundary);
	dma_set_max_seg_size(dev, saved.max_seg_size);
	edu.pdev->untrusted = saved.untrusted;
	edu_attach_driver(test, edu.pdev);
	edu_set_mask(edu_default_mask());
}

void edu_test_exit(struct kunit *test)
{
	if (edu.pdev)
		edu_restore(test);
	if (edu.owner)
		edu_attach_driver(test, edu.owner);

	KUNIT_EXPECT_EQ_MSG(test, test_taint(TAINT_WARN), saved.warned,
			    "the kernel warned");
}

void edu_expect_warning(void)
{
	saved.warned = true;
}

/* ---- Changes of the device ---- */

/*
 * Not dma_set_mask(): it refuses masks that do not reach all memory if there is
 * no ZONE_DMA, and tests change the mask under live maps.
 */
void edu_set_mask(u64 mask)
{
	*edu.dev->dma_mask = mask;
}

void edu_set_ops(const struct dma_map_ops *ops)
{
	set_dma_ops(edu.dev, ops);
	/* No map bypasses them. */
	edu.dev->bus_dma_limit = 0;
	dev_clear_dma_ops_bypass(edu.dev);
}

bool edu_make_incoherent(void)
{
	dev_assign_dma_coherent(edu.dev, false);
	if (dev_is_dma_coherent(edu.dev))
		return false;
	dev_assign_dma_skip_sync(edu.dev, false);
	return true;
}

#ifdef CONFIG_SWIOTLB
/* The bounce buffers of the machine, but forced for this device only. */
static struct io_tlb_mem edu_tlb;

void edu_force_bounce(struct kunit *test)
{
	if (use_dma_iommu(edu.dev))
		kunit_skip(test, "an IOMMU translates for the device: it is not forced to bounce");
	if (!is_swiotlb_active(edu.dev))
		kunit_skip(test, "no bounce buffers on this boot");
	if (IS_ENABLED(CONFIG_SWIOTLB_DYNAMIC))
		kunit_skip(test, "a dynamic pool cannot be forced for one device");

	edu_tlb = *edu.dev->dma_io_tlb_mem;
	edu_tlb.force_bounce = true;
	edu.dev->dma_io_tlb_mem = &edu_tlb;
}

void edu_end_force_bounce(void)
{
	edu_tlb.force_bounce = false;
}

void edu_forbid_bounce(void)
{
	edu.dev->dma_io_tlb_mem = NULL;
}

/*
 * Only for maps that the kernel refuses: it would take a larger number of slots
 * that are in use for a negative one, and could find a buffer after all.
 */
void edu_set_pool(struct kunit *test, size_t area_bytes)
{
	edu_force_bounce(test);
	if (edu_slots_used())
		kunit_skip(test, "bounce buffers are in use, or their number is not known");

	edu_tlb.defpool.nareas = 1;
	edu_tlb.defpool.area_nslabs = area_bytes >> IO_TLB_SHIFT;
	edu_tlb.defpool.nslabs = area_bytes >> IO_TLB_SHIFT;
	edu_tlb.nslabs = area_bytes >> IO_TLB_SHIFT;
}

bool edu_get_pool(phys_addr_t *start, phys_addr_t *end)
{
	if (IS_ENABLED(CONFIG_SWIOTLB_DYNAMIC) || !is_swiotlb_active(edu.dev))
		return false;
	*start = edu.dev->dma_io_tlb_mem->defpool.start;
	*end = edu.dev->dma_io_tlb_mem->defpool.end;
	return true;
}
#else
void edu_force_bounce(struct kunit *test)
{
	kunit_skip(test, "built without CONFIG_SWIOTLB");
}

void edu_end_force_bounce(void)
{
}

void edu_forbid_bounce(void)
{
}

void edu_set_pool(struct kunit *test, size_t area_bytes)
{
	kunit_skip(test, "built without CONFIG_SWIOTLB");
}

bool edu_get_pool(phys_addr_t *start, phys_addr_t *end)
{
	return false;
}
#endif

void edu_unbind(void)
{
	device_release_driver(edu.dev);
}

/* Its probe function has set another mask. */
void edu_bind(struct kunit *test)
{
	edu_attach_driver(test, edu.pdev);
	edu_set_mask(edu_default_mask());
}

void edu_need_iommu(struct kunit *test)
{
	if (!use_dma_iommu(edu.dev))
		kunit_skip(test, "no IOMMU translates for the device on this boot");
}

bool edu_links(void)
{
	return use_dma_iommu(edu.dev) && (dev_is_dma_coherent(edu.dev) ||
					  !IS_ENABLED(CONFIG_DMA_API_DEBUG));
}

void edu_need_links(struct kunit *test)
{
	edu_need_iommu(test);
	if (!edu_links())
		kunit_skip(test, "dma-debug must not see linked ranges synced");
}

void edu_need_owner(struct kunit *test)
{
	if (!edu.owner)
		kunit_skip(test, "no ivshmem-plain device (1af4:1110) in this machine");
}

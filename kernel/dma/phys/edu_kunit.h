/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The devices of the tests: QEMU's "edu", which moves bytes between memory and
 * a buffer of its own, and "ivshmem-plain", whose BAR 2 is plain memory that
 * can be lent.
 */
#ifndef _KERNEL_DMA_PHYS_EDU_KUNIT_H
#define _KERNEL_DMA_PHYS_EDU_KUNIT_H

#include <kunit/test.h>
#include <linux/dma-phys.h>
#include <linux/pci.h>
#include <linux/sizes.h>

/* Bytes in the device's own buffer: the most that it moves at once. */
#define EDU_BUF		SZ_4K

/* BAR of ivshmem-plain that is memory. */
#define EDU_LENDER_BAR	2

/**
 * struct edu - the devices that the tests work with
 * @pdev: the edu device, NULL where the machine has none
 * @dev: its struct device
 * @regs: its registers
 * @lender: the ivshmem device, NULL where the machine has none
 * @shmem: the CPU's view of the lender's memory
 */
struct edu {
	struct pci_dev *pdev;
	struct device *dev;
	u8 __iomem *regs;
	struct pci_dev *lender;
	u8 __iomem *shmem;
};

extern struct edu edu;

/* RAM that the command line keeps from the kernel: dma_phys_kunit.kept=... */
#define EDU_KEPT_MOST	4
#define EDU_KEPT_BYTES	SZ_4M
extern u64 edu_kept[EDU_KEPT_MOST];
extern unsigned int edu_kept_count;

/*
 * For struct kunit_suite. Between init and exit of a test the device may be
 * changed at will: exit puts mask, limits, trust, ops and drivers back, and
 * fails the test where the kernel warned during it. edu_device_init() is for
 * suites of which every test needs the device.
 */
int edu_suite_init(struct kunit_suite *suite);
void edu_suite_exit(struct kunit_suite *suite);
int edu_test_init(struct kunit *test);
int edu_device_init(struct kunit *test);
void edu_test_exit(struct kunit *test);

/* The last case of a suite: no bounce slot and no IOVA is missing. */
void nothing_leaked(struct kunit *test);

/* Zeroed pages, a handle that maps nothing: given back after the test. */
u8 *edu_pages(struct kunit *test, unsigned int order);
struct dma_phys_map *edu_handle(struct kunit *test);

/* One from below 4 GiB: direct, where anything is direct. */
u8 *edu_low_page(struct kunit *test);

/* The range of @len bytes at @virt. */
struct cpu_phys edu_range(struct kunit *test, const void *virt, size_t len);

/* @len bytes at @offset of the lender's BAR, as a range of no peer. */
struct mmio_phys edu_mmio(struct kunit *test, u64 offset, size_t len);

/* Lend a BAR, and take it back after the test. */
int edu_lend(struct kunit *test, struct pci_dev *owner, int bar);

/* The route that these facts about the device leave for a range. */
enum dma_phys_route edu_route(phys_addr_t phys, size_t len);

/* The same for device memory that is not a peer's: route or negative errno. */
int edu_mmio_route(phys_addr_t phys, size_t len);

/* Map and check all that a successful map says of itself. */
struct dma_phys_map *edu_map(struct kunit *test, const void *virt, size_t len,
			     enum dma_data_direction dir, u32 flags);

/* Nothing but @err comes of mapping @range, and the handle is not touched. */
void edu_refuses(struct kunit *test, const struct cpu_phys *range,
		 enum dma_data_direction dir, u32 flags, int err);
void edu_refuses_mmio(struct kunit *test, const struct mmio_phys *range,
		      enum dma_data_direction dir, int err);

/* The handle maps nothing. */
bool edu_empty(const struct dma_phys_map *map);

/* The device reads @len bytes from @addr into its buffer, or writes them. */
void edu_pull(struct kunit *test, dma_addr_t addr, size_t len);
void edu_push(struct kunit *test, dma_addr_t addr, size_t len);

/* Where the IOMMU's page table leads, 0 for nowhere. */
phys_addr_t edu_translate(dma_addr_t addr);

/* This test has made the kernel warn, and meant to. */
void edu_expect_warning(void);

/* Change the device, for the rest of the test. */
void edu_set_mask(u64 mask);
void edu_force_bounce(struct kunit *test);
void edu_forbid_bounce(void);
void edu_need_iommu(struct kunit *test);
void edu_need_lender(struct kunit *test);
void edu_unbind(void);
void edu_bind(struct kunit *test);

#endif /* _KERNEL_DMA_PHYS_EDU_KUNIT_H */

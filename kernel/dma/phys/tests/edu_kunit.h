/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fixtures and helpers of the tests that need QEMU's devices, see edu.h. On a
 * machine without a device the tests that need it are skipped.
 */
#ifndef _KERNEL_DMA_PHYS_TESTS_EDU_KUNIT_H
#define _KERNEL_DMA_PHYS_TESTS_EDU_KUNIT_H

#include <kunit/test.h>
#include <linux/dma-phys.h>
#include <linux/pci.h>
#include <linux/ptrace.h>
#include <linux/sizes.h>

#include "edu.h"

/* Symbols have the prefix dma_phys_test_; tests use the short names. */
#define edu			dma_phys_test_edu
#define edu_suite_init		dma_phys_test_suite_init
#define edu_suite_exit		dma_phys_test_suite_exit
#define edu_test_init		dma_phys_test_init
#define edu_device_init		dma_phys_test_device_init
#define edu_test_exit		dma_phys_test_exit
#define nothing_leaked		dma_phys_test_nothing_leaked
#define edu_units_init		dma_phys_test_units_init
#define edu_slots_used		dma_phys_test_slots_used
#define edu_log_init		dma_phys_test_log_init
#define edu_log_exit		dma_phys_test_log_exit
#define edu_log_start		dma_phys_test_log_start
#define edu_log_end		dma_phys_test_log_end
#define edu_log_text		dma_phys_test_log_text
#define edu_stale_reports	dma_phys_test_stale_reports
#define edu_stale_text		dma_phys_test_stale_text
#define edu_pages		dma_phys_test_pages
#define edu_low_page		dma_phys_test_low_page
#define edu_high_pages		dma_phys_test_high_pages
#define edu_handle		dma_phys_test_handle
#define edu_range		dma_phys_test_range
#define edu_mmio		dma_phys_test_mmio
#define edu_own_mmio		dma_phys_test_own_mmio
#define edu_share		dma_phys_test_share
#define edu_route		dma_phys_test_route
#define edu_mmio_route		dma_phys_test_mmio_route
#define edu_map			dma_phys_test_map
#define edu_refuses		dma_phys_test_refuses
#define edu_refuses_mmio	dma_phys_test_refuses_mmio
#define edu_empty		dma_phys_test_empty
#define edu_unmap_stale		dma_phys_test_unmap_stale
#define edu_expect_addr		dma_phys_test_expect_addr
#define edu_expect_arrives	dma_phys_test_expect_arrives
#define edu_use_up		dma_phys_test_use_up
#define edu_load		dma_phys_test_load
#define edu_untouched		dma_phys_test_untouched
#define edu_pull		dma_phys_test_pull
#define edu_push		dma_phys_test_push
#define edu_translate		dma_phys_test_translate
#define edu_in_pool		dma_phys_test_in_pool
#define edu_expect_warning	dma_phys_test_expect_warning
#define edu_set_mask		dma_phys_test_set_mask
#define edu_set_ops		dma_phys_test_set_ops
#define edu_make_incoherent	dma_phys_test_make_incoherent
#define edu_force_bounce	dma_phys_test_force_bounce
#define edu_end_force_bounce	dma_phys_test_end_force_bounce
#define edu_forbid_bounce	dma_phys_test_forbid_bounce
#define edu_set_pool		dma_phys_test_set_pool
#define edu_get_pool		dma_phys_test_get_pool
#define edu_need_iommu		dma_phys_test_need_iommu
#define edu_links		dma_phys_test_links
#define edu_need_links		dma_phys_test_need_links
#define edu_need_owner		dma_phys_test_need_owner
#define edu_unbind		dma_phys_test_unbind
#define edu_bind		dma_phys_test_bind

/* The largest transfer of the edu device, in bytes. */
#define EDU_BUF		EDU_BUF_SIZE

/* Fill byte of memory that nothing has written yet. */
#define POISON		0x5a

/**
 * struct edu - the devices of a suite
 * @pdev: the edu device, NULL if the machine has none
 * @dev: its struct device
 * @regs: its registers
 * @owner: the ivshmem device, NULL if the machine has none
 * @shmem: the memory in the BAR of @owner, as the CPU sees it
 */
struct edu {
	struct pci_dev *pdev;
	struct device *dev;
	u8 __iomem *regs;
	struct pci_dev *owner;
	u8 __iomem *shmem;
};

extern struct edu edu;

struct dma_map_ops;

/* ---- Fixtures, edu_kunit.c ---- */

/*
 * For struct kunit_suite. A test may change the device at will: the exit
 * function restores mask, limits, trust, coherence, ops and drivers, and fails
 * the test if the kernel warned. edu_device_init() is for suites whose tests all
 * need the device.
 */
int edu_suite_init(struct kunit_suite *suite);
void edu_suite_exit(struct kunit_suite *suite);
int edu_test_init(struct kunit *test);
int edu_device_init(struct kunit *test);
void edu_test_exit(struct kunit *test);

/* This test makes the kernel warn on purpose. */
void edu_expect_warning(void);

/* Change the device until the test ends. */
void edu_set_mask(u64 mask);
/* Legacy ops that all maps of the device take. */
void edu_set_ops(const struct dma_map_ops *ops);
/* False if all devices of this architecture are coherent. */
bool edu_make_incoherent(void);
void edu_force_bounce(struct kunit *test);
void edu_end_force_bounce(void);
void edu_forbid_bounce(void);
/* Force bouncing through a pool with areas of this size, 0: an empty pool. */
void edu_set_pool(struct kunit *test, size_t area_bytes);
void edu_unbind(void);
void edu_bind(struct kunit *test);

/* Lists of whole pages are linked at one IOVA. */
bool edu_links(void);
/* Skip the test unless this is so. */
void edu_need_iommu(struct kunit *test);
void edu_need_links(struct kunit *test);
void edu_need_owner(struct kunit *test);

/* ---- Helpers, edu_helpers.c ---- */

/* Zeroed pages, an empty handle: freed and unmapped after the test. */
u8 *edu_pages(struct kunit *test, unsigned int order);
struct dma_phys_map *edu_handle(struct kunit *test);
/* Below 4 GiB: on the direct route a device reaches it without a bounce. */
u8 *edu_low_page(struct kunit *test);
/* Two pages without a kernel address, with CONFIG_HIGHMEM. */
struct page *edu_high_pages(struct kunit *test);

struct cpu_phys edu_range(struct kunit *test, const void *virt, size_t len);
/* Bytes of the BAR of edu.owner, or of edu itself, as a range of no peer. */
struct mmio_phys edu_mmio(struct kunit *test, u64 offset, size_t len);
struct mmio_phys edu_own_mmio(struct kunit *test, u64 offset, size_t len);
/* Register a peer until the test ends: 0 or -errno. */
int edu_share(struct kunit *test, struct pci_dev *owner, int bar);

/* The route that follows from the state of the device. */
enum dma_phys_route edu_route(phys_addr_t phys, size_t len);
/* The same for device memory of no peer: a route or -errno. */
int edu_mmio_route(phys_addr_t phys, size_t len);

/* Map, and check all fields of the handle. */
struct dma_phys_map *edu_map(struct kunit *test, const void *virt, size_t len,
			     enum dma_data_direction dir, u32 flags);
/* Mapping fails with @err, logs nothing and does not touch the handle. */
void edu_refuses(struct kunit *test, const struct cpu_phys *range,
		 enum dma_data_direction dir, u32 flags, int err);
void edu_refuses_mmio(struct kunit *test, const struct mmio_phys *range,
		      enum dma_data_direction dir, int err);
bool edu_empty(const struct dma_phys_map *map);
/*
 * The device no longer maps through what @map was mapped through: sync and unmap
 * of a copy of @map touch nothing, which is reported once.
 */
void edu_unmap_stale(struct kunit *test, const struct dma_phys_map *map);
/* The address in the handle leads to @phys by the route in the handle. */
void edu_expect_addr(struct kunit *test, const struct dma_phys_map *map,
		     phys_addr_t phys);

/*
 * Map @range up to @max times, until mapping fails with @err. It works again once
 * all are unmapped.
 */
void edu_use_up(struct kunit *test, const struct cpu_phys *range,
		unsigned int max, int err);

/* The device reads @len bytes at @addr into its buffer, or writes them. */
void edu_pull(struct kunit *test, dma_addr_t addr, size_t len);
void edu_push(struct kunit *test, dma_addr_t addr, size_t len);
/* Random bytes at @p and in the buffer of the device. */
void edu_load(struct kunit *test, u8 *p, size_t len);
/* The device writes its buffer, as @out, through @map: it arrives at @in. */
void edu_expect_arrives(struct kunit *test, struct dma_phys_map *map,
			const u8 *in, const u8 *out);
/* All bytes are POISON. */
bool edu_untouched(const u8 *p, size_t len);

/* What the IOMMU translates @addr to, 0 if it is not mapped. */
phys_addr_t edu_translate(dma_addr_t addr);
/* A DMA address of the direct route is that of a bounce buffer. */
bool edu_in_pool(dma_addr_t addr);
/* Physical addresses of all bounce buffers; false if they are not constant. */
bool edu_get_pool(phys_addr_t *start, phys_addr_t *end);

/* For kprobes: word @n of the arguments of the function. */
static inline unsigned long edu_argument(struct pt_regs *regs, unsigned int n)
{
#ifdef CONFIG_HAVE_FUNCTION_ARG_ACCESS_API
	return regs_get_kernel_argument(regs, n);
#elif defined(CONFIG_ARM)
	return regs->uregs[n];
#else
	return 0;
#endif
}

/* ---- Leaks and log, edu_checks.c ---- */

/* The last case of a suite: all bounce buffers and IOVAs are free again. */
void nothing_leaked(struct kunit *test);

/* Slots in use in the pool of the device, -1 if it is not known. */
long edu_slots_used(void);

/* Count the lines that this task logs; 0 if the kernel has no tracepoints. */
void edu_log_start(void);
unsigned int edu_log_end(void);
/* The first of these lines. */
const char *edu_log_text(void);
/*
 * Reports of refused unmaps since boot that were logged during a suite, -1 if
 * they cannot be counted; and the last one.
 */
int edu_stale_reports(void);
const char *edu_stale_text(void);

/* For edu_kunit.c. */
void edu_units_init(void);
void edu_log_init(void);
void edu_log_exit(void);

#endif /* _KERNEL_DMA_PHYS_TESTS_EDU_KUNIT_H */

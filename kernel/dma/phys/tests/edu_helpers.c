// SPDX-License-Identifier: GPL-2.0
/* Helpers of tests: memory, ranges, maps, transfers, expectations. */
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-phys-peer.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "edu_kunit.h"
#include "internal.h"

/* ---- Memory and ranges ---- */

static void edu_free_pages(void *page)
{
	__free_pages(page, compound_order(page));
}

static struct page *edu_alloc_pages(struct kunit *test, gfp_t gfp,
				    unsigned int order)
{
	struct page *page;
	int err;

	page = alloc_pages(gfp | __GFP_ZERO | __GFP_COMP, order);
	KUNIT_ASSERT_NOT_NULL(test, page);
	err = kunit_add_action_or_reset(test, edu_free_pages, page);
	KUNIT_ASSERT_EQ(test, err, 0);
	return page;
}

u8 *edu_pages(struct kunit *test, unsigned int order)
{
	return page_address(edu_alloc_pages(test, GFP_KERNEL, order));
}

u8 *edu_low_page(struct kunit *test)
{
	return page_address(edu_alloc_pages(test, GFP_KERNEL | GFP_DMA32, 0));
}

struct page *edu_high_pages(struct kunit *test)
{
	struct page *page = edu_alloc_pages(test, GFP_HIGHUSER, 1);

	KUNIT_ASSERT_TRUE(test, PageHighMem(page));
	return page;
}

static void edu_unmap_handle(void *map)
{
	dma_phys_unmap(map);
}

struct dma_phys_map *edu_handle(struct kunit *test)
{
	struct dma_phys_map *map = kunit_kzalloc(test, sizeof(*map), GFP_KERNEL);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, map);
	err = kunit_add_action(test, edu_unmap_handle, map);
	KUNIT_ASSERT_EQ(test, err, 0);
	return map;
}

struct cpu_phys edu_range(struct kunit *test, const void *virt, size_t len)
{
	struct cpu_phys range = {};

	KUNIT_ASSERT_EQ(test, cpu_phys_from_virt(virt, len, &range), 0);
	return range;
}

static struct mmio_phys edu_bar_range(struct kunit *test, struct pci_dev *pdev,
				      int bar, u64 offset, size_t len)
{
	struct mmio_phys range = {};
	int err;

	err = mmio_phys_from_resource(&pdev->resource[bar], offset, len,
				      &range);
	KUNIT_ASSERT_EQ(test, err, 0);
	return range;
}

struct mmio_phys edu_mmio(struct kunit *test, u64 offset, size_t len)
{
	edu_need_owner(test);
	return edu_bar_range(test, edu.owner, IVSHMEM_BAR, offset, len);
}

struct mmio_phys edu_own_mmio(struct kunit *test, u64 offset, size_t len)
{
	return edu_bar_range(test, edu.pdev, EDU_BAR, offset, len);
}

#ifdef CONFIG_PCI_P2PDMA
static void edu_unregister_peers(void *owner)
{
	for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
		dma_phys_peer_unregister(owner, bar);
}

int edu_share(struct kunit *test, struct pci_dev *owner, int bar)
{
	int err = dma_phys_peer_register(owner, bar);

	return err ?: kunit_add_action_or_reset(test, edu_unregister_peers,
						owner);
}
#else
int edu_share(struct kunit *test, struct pci_dev *owner, int bar)
{
	kunit_skip(test, "built without CONFIG_PCI_P2PDMA");
	return -EOPNOTSUPP;
}
#endif

/* ---- Routes ---- */

/* Legacy ops, unless they leave a device with a large mask to the direct route. */
static bool edu_has_ops(void)
{
	if (IS_ENABLED(CONFIG_DMA_OPS_BYPASS) && dev_dma_ops_bypass(edu.dev) &&
	    min_not_zero(dma_get_mask(edu.dev), edu.dev->bus_dma_limit) >=
	    dma_direct_get_required_mask(edu.dev))
		return false;
	return get_dma_ops(edu.dev);
}

/* The last byte is within the mask and the limit of the bus. */
static bool edu_reaches(phys_addr_t phys, size_t len)
{
	u64 limit = min_not_zero(dma_get_mask(edu.dev), edu.dev->bus_dma_limit);
	dma_addr_t addr = phys_to_dma(edu.dev, phys);

	return addr != DMA_MAPPING_ERROR && (u64)addr + len - 1 <= limit;
}

enum dma_phys_route edu_route(phys_addr_t phys, size_t len)
{
	if (use_dma_iommu(edu.dev))
		return DMA_PHYS_IOMMU;
	if (edu_has_ops() && !arch_dma_map_phys_direct(edu.dev, phys + len))
		return DMA_PHYS_OPS;
	if (is_swiotlb_force_bounce(edu.dev) || !edu_reaches(phys, len))
		return DMA_PHYS_BOUNCE;
	return DMA_PHYS_DIRECT;
}

int edu_mmio_route(phys_addr_t phys, size_t len)
{
	enum dma_phys_route route = edu_route(phys, len);

	/* For one range of memory they may be bypassed, for device memory not. */
	if (edu_has_ops())
		return DMA_PHYS_OPS;
	if (route != DMA_PHYS_BOUNCE)
		return route;
	return is_swiotlb_force_bounce(edu.dev) ? -EOPNOTSUPP : -ERANGE;
}

phys_addr_t edu_translate(dma_addr_t addr)
{
#ifdef CONFIG_IOMMU_DMA
	return iommu_iova_to_phys(iommu_get_dma_domain(edu.dev), addr);
#else
	return 0;
#endif
}

bool edu_in_pool(dma_addr_t addr)
{
	return swiotlb_find_pool(edu.dev, dma_to_phys(edu.dev, addr));
}

/* ---- Maps ---- */

/* It is not recorded whether a device that is not coherent bounces. */
static bool edu_route_may_be(enum dma_phys_route route,
			     enum dma_phys_route expected)
{
	if (dev_is_dma_coherent(edu.dev))
		return route == expected;
	return route == expected ||
	       (route == DMA_PHYS_DIRECT && expected == DMA_PHYS_BOUNCE) ||
	       (route == DMA_PHYS_BOUNCE && expected == DMA_PHYS_DIRECT);
}

struct dma_phys_map *edu_map(struct kunit *test, const void *virt, size_t len,
			     enum dma_data_direction dir, u32 flags)
{
	struct dma_phys_map *map = edu_handle(test);
	struct cpu_phys range = edu_range(test, virt, len);
	enum dma_phys_route route = edu_route(range.addr, len);
	int err;

	err = dma_phys_map_cpu(edu.dev, &range, dir, flags, map);
	KUNIT_ASSERT_EQ(test, err, 0);
	KUNIT_EXPECT_PTR_EQ(test, map->dev, edu.dev);
	KUNIT_EXPECT_NE(test, map->addr, DMA_MAPPING_ERROR);
	KUNIT_EXPECT_EQ(test, map->size, len);
	KUNIT_EXPECT_EQ(test, map->dir, dir);
	KUNIT_EXPECT_EQ(test, map->kind, DMA_PHYS_CPU);
	KUNIT_EXPECT_EQ(test, map->flags & DMA_PHYS_SKIP_CPU_SYNC, flags);
	KUNIT_EXPECT_TRUE_MSG(test, edu_route_may_be(map->route, route),
			      "route %u instead of %u", map->route, route);
	return map;
}

/* A refused map did not change a byte of the handle and logged nothing. */
static void edu_expect_refused(struct kunit *test,
			       const struct dma_phys_map *map,
			       unsigned int lines)
{
	static const struct dma_phys_map empty;

	KUNIT_EXPECT_MEMEQ(test, map, &empty, sizeof(empty));
	/* CONFIG_DMA_PHYS_DEBUG may report. */
	if (!dma_phys_debug_on())
		KUNIT_EXPECT_EQ_MSG(test, lines, 0, "logged: %s",
				    edu_log_text());
}

void edu_refuses(struct kunit *test, const struct cpu_phys *range,
		 enum dma_data_direction dir, u32 flags, int err)
{
	struct dma_phys_map *map = edu_handle(test);
	unsigned int lines;
	int ret;

	edu_log_start();
	ret = dma_phys_map_cpu(edu.dev, range, dir, flags, map);
	lines = edu_log_end();
	KUNIT_EXPECT_EQ_MSG(test, ret, err, "%pa+%zu dir %d flags %x",
			    &range->addr, range->len, dir, flags);
	edu_expect_refused(test, map, lines);
	dma_phys_unmap(map);
}

void edu_refuses_mmio(struct kunit *test, const struct mmio_phys *range,
		      enum dma_data_direction dir, int err)
{
	struct dma_phys_map *map = edu_handle(test);
	unsigned int lines;
	int ret;

	edu_log_start();
	ret = dma_phys_map_mmio(edu.dev, range, dir, 0, map);
	lines = edu_log_end();
	KUNIT_EXPECT_EQ_MSG(test, ret, err, "%pa+%zu dir %d", &range->addr,
			    range->len, dir);
	edu_expect_refused(test, map, lines);
	dma_phys_unmap(map);
}

bool edu_empty(const struct dma_phys_map *map)
{
	return !map->dev && map->route == DMA_PHYS_NONE;
}

void edu_unmap_stale(struct kunit *test, const struct dma_phys_map *map)
{
	/* The fast path has nothing to unmap and remembers no target. */
	int err = map->flags & DMA_PHYS_FAST ? 0 : -EINVAL;
	struct dma_phys_map copy = *map;

	/* The record of CONFIG_DMA_PHYS_DEBUG is that of @map. */
	copy.id = 0;
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(&copy, 0, 1), err);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(&copy, 0, 1), err);
	dma_phys_unmap(&copy);
	KUNIT_EXPECT_TRUE(test, edu_empty(&copy));
	if (!err || edu_stale_reports() < 0)
		return;
	KUNIT_EXPECT_EQ(test, edu_stale_reports(), 1);
	KUNIT_EXPECT_NOT_NULL_MSG(test, strstr(edu_stale_text(),
					       dev_driver_string(edu.dev)),
				  "%s", edu_stale_text());
}

void edu_expect_addr(struct kunit *test, const struct dma_phys_map *map,
		     phys_addr_t phys)
{
	switch (map->route) {
	case DMA_PHYS_DIRECT:
		KUNIT_EXPECT_EQ(test, dma_to_phys(map->dev, map->addr), phys);
		break;
	case DMA_PHYS_BOUNCE:
		KUNIT_EXPECT_NE(test, dma_to_phys(map->dev, map->addr), phys);
		KUNIT_EXPECT_TRUE(test, edu_in_pool(map->addr));
		break;
	case DMA_PHYS_IOMMU:
		KUNIT_EXPECT_EQ(test, edu_translate(map->addr), phys);
		KUNIT_EXPECT_EQ(test, edu_translate(map->addr + map->size - 1),
				phys + map->size - 1);
		KUNIT_EXPECT_LE(test, map->addr + map->size - 1,
				dma_get_mask(map->dev));
		break;
	case DMA_PHYS_OPS:
		break;
	default:
		KUNIT_FAIL(test, "route %d", map->route);
	}
}

void edu_use_up(struct kunit *test, const struct cpu_phys *range,
		unsigned int max, int err)
{
	struct dma_phys_map *map, *maps;
	unsigned int n;
	int ret = 0;

	maps = kunit_kcalloc(test, max, sizeof(*maps), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, maps);
	for (n = 0; n < max; n++) {
		ret = dma_phys_map_cpu(edu.dev, range, DMA_TO_DEVICE, 0,
				       &maps[n]);
		if (ret)
			break;
	}
	KUNIT_EXPECT_EQ(test, ret, err);
	KUNIT_EXPECT_GT(test, n, 1);
	edu_refuses(test, range, DMA_TO_DEVICE, 0, err);

	while (n)
		dma_phys_unmap(&maps[--n]);
	/* Until the flush queue has freed its IOVAs. */
	msleep(50);
	map = edu_handle(test);
	KUNIT_EXPECT_EQ(test, dma_phys_map_cpu(edu.dev, range, DMA_TO_DEVICE, 0,
					       map), 0);
	dma_phys_unmap(map);
}

/* ---- Transfers ---- */

static void edu_copy(struct kunit *test, dma_addr_t addr, size_t len,
		     bool to_memory)
{
	KUNIT_ASSERT_LE(test, len, EDU_BUF);
	KUNIT_ASSERT_EQ_MSG(test, edu_transfer(edu.regs, addr, len, to_memory),
			    0, "edu does not finish");
}

void edu_pull(struct kunit *test, dma_addr_t addr, size_t len)
{
	edu_copy(test, addr, len, false);
}

void edu_push(struct kunit *test, dma_addr_t addr, size_t len)
{
	edu_copy(test, addr, len, true);
}

void edu_load(struct kunit *test, u8 *p, size_t len)
{
	struct dma_phys_map *map;

	get_random_bytes(p, len);
	map = edu_map(test, p, len, DMA_TO_DEVICE, 0);
	edu_pull(test, map->addr, len);
	dma_phys_unmap(map);
}

void edu_expect_arrives(struct kunit *test, struct dma_phys_map *map,
			const u8 *in, const u8 *out)
{
	size_t len = map->size;

	edu_push(test, map->addr, len);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
	KUNIT_EXPECT_MEMEQ_MSG(test, in, out, len,
			       "does edu reach all memory, see edu_kunit.c?");
}

bool edu_untouched(const u8 *p, size_t len)
{
	return !memchr_inv(p, POISON, len);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of peer.c: a BAR lent, reached on the route that the machine has for
 * it, and taken back.
 */
#include <kunit/device.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/pci-p2pdma.h>
#include <linux/random.h>
#include <linux/workqueue.h>

#include "edu_kunit.h"

#define BAR	EDU_LENDER_BAR

/* @len bytes at @offset of the lender's memory, lent for the test. */
static struct mmio_phys lent(struct kunit *test, u64 offset, size_t len)
{
	struct mmio_phys range = {};
	int err;

	edu_need_lender(test);
	err = mmio_phys_from_bar(edu.lender, BAR, offset, len, &range);
	if (err == -ENODEV) {
		KUNIT_ASSERT_EQ(test, edu_lend(test, edu.lender, BAR), 0);
		err = mmio_phys_from_bar(edu.lender, BAR, offset, len, &range);
	}
	KUNIT_ASSERT_EQ(test, err, 0);
	KUNIT_ASSERT_NE(test, range.peer, 0);
	return range;
}

/* Where the peer's memory is on its own bus. */
static dma_addr_t bus_address(struct pci_dev *owner, int bar, phys_addr_t phys)
{
	return phys - pci_resource_start(owner, bar) +
	       pci_bus_address(owner, bar);
}

/* The route that the PCI core and the device leave, or a negative errno. */
static int peer_route(const struct mmio_phys *range)
{
	struct p2pdma_provider *provider = pcim_p2pdma_provider(edu.lender, BAR);
	dma_addr_t last;

	switch (pci_p2pdma_map_type(provider, edu.dev)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		last = bus_address(edu.lender, BAR, range->addr) +
		       range->len - 1;
		return last <= min_not_zero(dma_get_mask(edu.dev),
					    edu.dev->bus_dma_limit) ?
		       DMA_PHYS_BUS : -ERANGE;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		return edu_mmio_route(range->addr, range->len);
	default:
		return -EREMOTEIO;
	}
}

/* A live map of @range; the test is over where the machine has no route. */
static struct dma_phys_map *map_lent(struct kunit *test,
				     const struct mmio_phys *range,
				     enum dma_data_direction dir)
{
	struct dma_phys_map *map = edu_handle(test);
	int route = peer_route(range);

	if (route < 0)
		kunit_skip(test, "no route to the peer on this boot (%d)", route);

	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, range, dir, 0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, route);
	KUNIT_EXPECT_EQ(test, map->kind, DMA_PHYS_MMIO);
	KUNIT_EXPECT_EQ(test, map->size, range->len);
	return map;
}

static void route_is_the_pci_cores(struct kunit *test)
{
	struct mmio_phys range = lent(test, 0x1000, EDU_BUF);
	struct dma_phys_map *map;
	int route = peer_route(&range);

	if (route < 0) {
		edu_refuses_mmio(test, &range, DMA_TO_DEVICE, route);
		edu_refuses_mmio(test, &range, DMA_FROM_DEVICE, route);
		return;
	}

	map = map_lent(test, &range, DMA_TO_DEVICE);
	if (map->route == DMA_PHYS_BUS)
		KUNIT_EXPECT_EQ(test, map->addr,
				bus_address(edu.lender, BAR, range.addr));
	if (map->route == DMA_PHYS_DIRECT)
		KUNIT_EXPECT_EQ(test, map->addr, range.addr);
	if (map->route == DMA_PHYS_IOMMU)
		KUNIT_EXPECT_EQ(test, edu_translate(map->addr), range.addr);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
}

static void bytes_move_between_peers(struct kunit *test)
{
	struct mmio_phys range = lent(test, 0x1000, EDU_BUF);
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map, *ram;

	/* Out of the peer, into the device... */
	get_random_bytes(out, EDU_BUF);
	memcpy_toio(edu.shmem + 0x1000, out, EDU_BUF);
	map = map_lent(test, &range, DMA_TO_DEVICE);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);

	ram = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, ram->addr, EDU_BUF);
	dma_phys_unmap(ram);
	KUNIT_EXPECT_MEMEQ(test, in, out, EDU_BUF);

	/* ...and back, to another place. */
	range = lent(test, 0x4321, 1000);
	memset_io(edu.shmem + 0x4000, 0, 0x1000);
	map = map_lent(test, &range, DMA_FROM_DEVICE);
	edu_push(test, map->addr, 1000);
	dma_phys_unmap(map);
	memcpy_fromio(in, edu.shmem + 0x4000, 0x1000);
	KUNIT_EXPECT_MEMEQ(test, in + 0x321, out, 1000);
	KUNIT_EXPECT_NULL(test, memchr_inv(in, 0, 0x321));
	KUNIT_EXPECT_NULL(test, memchr_inv(in + 0x321 + 1000, 0,
					   0x1000 - 0x321 - 1000));
}

/*
 * A function reaches its own BAR without leaving its bus: the bus route on
 * every machine. Only the address is looked at.
 */
static void own_bar_is_on_the_bus(struct kunit *test)
{
	struct dma_phys_map *map = edu_handle(test);
	struct mmio_phys range;

	edu_set_mask(DMA_BIT_MASK(64));
	KUNIT_ASSERT_EQ(test, edu_lend(test, edu.pdev, 0), 0);
	KUNIT_ASSERT_EQ(test, mmio_phys_from_bar(edu.pdev, 0, 0x100, 0x200,
						 &range), 0);
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &range, DMA_TO_DEVICE,
						0, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_BUS);
	KUNIT_EXPECT_EQ(test, map->addr, bus_address(edu.pdev, 0, range.addr));
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 0x200), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, 0x201), -EINVAL);
	dma_phys_unmap(map);

	/* A bus address is an address: the device must be able to say it. */
	edu_set_mask(SZ_64K - 1);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ERANGE);
}

static void no_route_from_other_buses(struct kunit *test)
{
	struct mmio_phys range = lent(test, 0, PAGE_SIZE);
	struct dma_phys_map map = {};
	struct device *dev = kunit_device_register(test, "dma-phys-alien");
	u64 mask = DMA_BIT_MASK(64);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	dev->dma_mask = &mask;
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(dev, &range, DMA_TO_DEVICE, 0,
						&map), -EREMOTEIO);
	KUNIT_EXPECT_TRUE(test, edu_empty(&map));
	dev->dma_mask = NULL;
}

static void lend_arguments(struct kunit *test)
{
	edu_need_lender(test);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(NULL, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, edu_lend(test, edu.lender, BAR), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.lender, BAR), -EEXIST);

	/* The other BAR is a peer of its own. */
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.lender, 0), 0);
	dma_phys_peer_unregister(edu.lender, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.lender, BAR), -EEXIST);

	dma_phys_peer_unregister(edu.lender, BAR);
	dma_phys_peer_unregister(edu.lender, BAR);
	dma_phys_peer_unregister(edu.lender, -1);
	dma_phys_peer_unregister(edu.lender, INT_MAX);
	dma_phys_peer_unregister(NULL, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.lender, BAR), 0);
}

static void lend_without_driver(struct kunit *test)
{
	edu_unbind();
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.pdev, 0), -ENODEV);
	dma_phys_peer_unregister(edu.pdev, 0);
}

static void h23_no_such_bar(struct kunit *test)
{
	static const int bars[] = {
		-1, PCI_ROM_RESOURCE, PCI_ROM_RESOURCE + 1, PCI_NUM_RESOURCES,
		1000, INT_MIN, INT_MAX,
	};
	struct pci_dev *pdev = NULL;

	edu_need_lender(test);
	for (int i = 0; i < ARRAY_SIZE(bars); i++)
		KUNIT_EXPECT_EQ_MSG(test,
				    dma_phys_peer_register(edu.lender, bars[i]),
				    -EINVAL, "BAR %d", bars[i]);

	/* All that is no memory, in all devices there are. */
	for_each_pci_dev(pdev)
		for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
			if (!(pci_resource_flags(pdev, bar) & IORESOURCE_MEM))
				KUNIT_EXPECT_EQ(test,
						dma_phys_peer_register(pdev, bar),
						-EINVAL);
}

/* A range outlives its peer, and maps nothing any more, for ever. */
static void stale_range(struct kunit *test)
{
	struct mmio_phys range = lent(test, 0, PAGE_SIZE), fresh;

	dma_phys_peer_unregister(edu.lender, BAR);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(edu.lender, BAR, 0, 1, &fresh),
			-ENODEV);

	fresh = lent(test, 0, PAGE_SIZE);
	KUNIT_EXPECT_NE(test, fresh.peer, range.peer);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);

	range.peer = U32_MAX;
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
	range.peer = fresh.peer + 1;
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
}

/* The owner's driver detaches: devres takes the BAR back. */
static void owner_leaves(struct kunit *test)
{
	struct mmio_phys range = lent(test, 0, PAGE_SIZE), fresh;

	device_release_driver(&edu.lender->dev);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(edu.lender, BAR, 0, 1, &fresh),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.lender, BAR), -ENODEV);
}

static void take_own_back(struct work_struct *work)
{
	dma_phys_peer_unregister(edu.pdev, 0);
}

static void release_lender(struct work_struct *work)
{
	device_release_driver(&edu.lender->dev);
}

/* @end waits for the last of two maps; no new map comes while it does. */
static void waits_for_maps(struct kunit *test, const struct mmio_phys *range,
			   struct dma_phys_map *first,
			   struct dma_phys_map *second, work_func_t end)
{
	struct work_struct work;

	INIT_WORK_ONSTACK(&work, end);
	queue_work(system_dfl_wq, &work);
	msleep(200);
	KUNIT_EXPECT_TRUE(test, work_busy(&work));
	edu_refuses_mmio(test, range, DMA_TO_DEVICE, -ENODEV);

	dma_phys_unmap(first);
	msleep(200);
	KUNIT_EXPECT_TRUE(test, work_busy(&work));

	dma_phys_unmap(second);
	flush_work(&work);
	destroy_work_on_stack(&work);
	edu_refuses_mmio(test, range, DMA_TO_DEVICE, -ENODEV);
}

static void taking_back_waits(struct kunit *test)
{
	struct dma_phys_map *maps[] = { edu_handle(test), edu_handle(test) };
	struct mmio_phys range;

	edu_set_mask(DMA_BIT_MASK(64));
	KUNIT_ASSERT_EQ(test, edu_lend(test, edu.pdev, 0), 0);
	KUNIT_ASSERT_EQ(test, mmio_phys_from_bar(edu.pdev, 0, 0, PAGE_SIZE,
						 &range), 0);
	for (int i = 0; i < ARRAY_SIZE(maps); i++)
		KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, &range,
							DMA_TO_DEVICE, 0,
							maps[i]), 0);
	waits_for_maps(test, &range, maps[0], maps[1], take_own_back);
}

static void h25_owner_waits(struct kunit *test)
{
	struct mmio_phys range = lent(test, 0, PAGE_SIZE);
	struct dma_phys_map *first = map_lent(test, &range, DMA_TO_DEVICE);
	struct dma_phys_map *second = map_lent(test, &range, DMA_TO_DEVICE);

	waits_for_maps(test, &range, first, second, release_lender);
}

/* Untold numbers of maps, and failures, hold no peer back. */
static void references_are_dropped(struct kunit *test)
{
	struct mmio_phys range = lent(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);

	for (int i = 0; i < 1000; i++) {
		dma_phys_map_mmio(edu.dev, &range, DMA_TO_DEVICE, 0, map);
		dma_phys_unmap(map);
		edu_refuses_mmio(test, &range, DMA_NONE, -EINVAL);
	}
	edu.dev->bus_dma_limit = 1;
	edu_set_mask(1);
	for (int i = 0; i < 1000; i++)
		if (!dma_phys_map_mmio(edu.dev, &range, DMA_TO_DEVICE, 0, map))
			KUNIT_FAIL_AND_ABORT(test, "mapped beyond the mask");

	/* Would wait for ever. */
	dma_phys_peer_unregister(edu.lender, BAR);
}

static struct kunit_case peer_cases[] = {
	KUNIT_CASE(route_is_the_pci_cores),
	KUNIT_CASE(bytes_move_between_peers),
	KUNIT_CASE(own_bar_is_on_the_bus),
	KUNIT_CASE(no_route_from_other_buses),
	KUNIT_CASE(lend_arguments),
	KUNIT_CASE(lend_without_driver),
	KUNIT_CASE(h23_no_such_bar),
	KUNIT_CASE(stale_range),
	KUNIT_CASE(owner_leaves),
	KUNIT_CASE(taking_back_waits),
	KUNIT_CASE(h25_owner_waits),
	KUNIT_CASE(references_are_dropped),
	KUNIT_CASE(nothing_leaked),
	{ }
};

static struct kunit_suite peer_suite = {
	.name = "dma_phys_peer",
	.suite_init = edu_suite_init,
	.suite_exit = edu_suite_exit,
	.init = edu_device_init,
	.exit = edu_test_exit,
	.test_cases = peer_cases,
};

kunit_test_suite(peer_suite);

// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of peer.c: BARs are shared, mapped on the route that the machine has for
 * them, suspended and resumed around resets, and unregistered.
 */
#include <kunit/device.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-peer.h>
#include <linux/pci-p2pdma.h>
#include <linux/random.h>
#include <linux/workqueue.h>

#include "edu_kunit.h"
#include "internal.h"
#include "sg_kunit.h"

#define BAR		IVSHMEM_BAR

/* No suspend of these tests needs as long, on a busy host either. */
#define LONG_MS		(60 * MSEC_PER_SEC)

/* Two peers: the memory of another device, and a BAR of the edu device itself. */

/* @len bytes at @offset of the other device's memory, shared until test exit. */
static struct mmio_phys peer_test_shared(struct kunit *test, u64 offset,
					 size_t len)
{
	struct mmio_phys range = {};
	int err;

	edu_need_owner(test);
	err = mmio_phys_from_bar(edu.owner, BAR, offset, len, &range);
	if (err == -ENODEV) {
		KUNIT_ASSERT_EQ(test, edu_share(test, edu.owner, BAR), 0);
		err = mmio_phys_from_bar(edu.owner, BAR, offset, len, &range);
	}
	KUNIT_ASSERT_EQ(test, err, 0);
	KUNIT_ASSERT_NE(test, range.peer, 0);
	return range;
}

/* The same of the edu device's registers: a P2P path that all machines have. */
static struct mmio_phys peer_test_own(struct kunit *test, u64 offset,
				      size_t len)
{
	struct mmio_phys range = {};

	edu_set_mask(DMA_BIT_MASK(64));
	if (mmio_phys_from_bar(edu.pdev, 0, offset, len, &range)) {
		KUNIT_ASSERT_EQ(test, edu_share(test, edu.pdev, 0), 0);
		KUNIT_ASSERT_EQ(test, mmio_phys_from_bar(edu.pdev, 0, offset,
							 len, &range), 0);
	}
	return range;
}

static dma_addr_t peer_test_bus_address(struct pci_dev *owner, int bar,
					phys_addr_t phys)
{
	return phys - pci_resource_start(owner, bar) +
	       pci_bus_address(owner, bar);
}

/* The route that PCI core and device mask allow, or -errno. */
static int peer_test_route(const struct mmio_phys *range)
{
	struct p2pdma_provider *provider = pcim_p2pdma_provider(edu.owner, BAR);
	dma_addr_t last;

	switch (pci_p2pdma_map_type(provider, edu.dev)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		last = peer_test_bus_address(edu.owner, BAR, range->addr) +
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

static int peer_test_map(const struct mmio_phys *range,
			 enum dma_data_direction dir, struct dma_phys_map *map)
{
	return dma_phys_map_mmio(edu.dev, range, dir, 0, map);
}

/* A map of the other device's memory. Skips the test if there is no route. */
static struct dma_phys_map *peer_test_map_shared(struct kunit *test,
						 const struct mmio_phys *range,
						 enum dma_data_direction dir)
{
	struct dma_phys_map *map = edu_handle(test);
	int route = peer_test_route(range);

	if (route < 0)
		kunit_skip(test, "no route to the peer on this boot (%d)", route);

	KUNIT_ASSERT_EQ(test, peer_test_map(range, dir, map), 0);
	KUNIT_EXPECT_EQ(test, map->route, route);
	KUNIT_EXPECT_EQ(test, map->kind, DMA_PHYS_MMIO);
	KUNIT_EXPECT_EQ(test, map->size, range->len);
	return map;
}

static struct dma_phys_map *peer_test_map_own(struct kunit *test,
					      const struct mmio_phys *range)
{
	struct dma_phys_map *map = edu_handle(test);

	KUNIT_ASSERT_EQ(test, peer_test_map(range, DMA_TO_DEVICE, map), 0);
	return map;
}

/* ---- routes ---- */

static void peer_route_matches_pci_core(struct kunit *test)
{
	struct mmio_phys range = peer_test_shared(test, 0x1000, EDU_BUF);
	struct dma_phys_map *map;
	int route = peer_test_route(&range);

	if (route < 0) {
		edu_refuses_mmio(test, &range, DMA_TO_DEVICE, route);
		edu_refuses_mmio(test, &range, DMA_FROM_DEVICE, route);
		return;
	}

	map = peer_test_map_shared(test, &range, DMA_TO_DEVICE);
	if (map->route == DMA_PHYS_BUS)
		KUNIT_EXPECT_EQ(test, map->addr,
				peer_test_bus_address(edu.owner, BAR,
						      range.addr));
	if (map->route == DMA_PHYS_DIRECT)
		KUNIT_EXPECT_EQ(test, map->addr, range.addr);
	if (map->route == DMA_PHYS_IOMMU)
		KUNIT_EXPECT_EQ(test, edu_translate(map->addr), range.addr);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));
}

/* The device reads EDU_BUF bytes at 0x1000 of the peer, and writes them to @in. */
static void peer_test_read(struct kunit *test, u8 *in)
{
	struct mmio_phys range = peer_test_shared(test, 0x1000, EDU_BUF);
	struct dma_phys_map *map;

	map = peer_test_map_shared(test, &range, DMA_TO_DEVICE);
	edu_pull(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);

	map = edu_map(test, in, EDU_BUF, DMA_FROM_DEVICE, 0);
	edu_push(test, map->addr, EDU_BUF);
	dma_phys_unmap(map);
}

static void peer_bytes_move(struct kunit *test)
{
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);
	struct dma_phys_map *map;
	struct mmio_phys range;

	peer_test_shared(test, 0, 1);
	get_random_bytes(out, EDU_BUF);
	memcpy_toio(edu.shmem + 0x1000, out, EDU_BUF);
	peer_test_read(test, in);
	KUNIT_EXPECT_MEMEQ(test, in, out, EDU_BUF);

	/* From the buffer of the device back to the peer, unaligned. */
	range = peer_test_shared(test, 0x4321, 1000);
	memset_io(edu.shmem + 0x4000, 0, 0x1000);
	map = peer_test_map_shared(test, &range, DMA_FROM_DEVICE);
	edu_push(test, map->addr, 1000);
	dma_phys_unmap(map);
	memcpy_fromio(in, edu.shmem + 0x4000, 0x1000);
	KUNIT_EXPECT_MEMEQ(test, in + 0x321, out, 1000);
	KUNIT_EXPECT_NULL(test, memchr_inv(in, 0, 0x321));
	KUNIT_EXPECT_NULL(test, memchr_inv(in + 0x321 + 1000, 0,
					   0x1000 - 0x321 - 1000));
}

/*
 * A device reaches its own BAR without leaving its bus: the bus route on every
 * machine. Only the address is checked.
 */
static void h27_own_bar_takes_bus_route(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0x100, 0x200);
	struct dma_phys_map *map = peer_test_map_own(test, &range);

	KUNIT_EXPECT_EQ(test, map->route, DMA_PHYS_BUS);
	KUNIT_EXPECT_EQ(test, map->addr,
			peer_test_bus_address(edu.pdev, 0, range.addr));
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_cpu(map, 0, 0x200), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_sync_for_device(map, 0, 0x201), -EINVAL);
	dma_phys_unmap(map);

	/* The mask limits bus addresses too. */
	edu_set_mask(SZ_64K - 1);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ERANGE);
}

static void no_p2p_path_from_other_buses(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map map = {};
	struct device *dev = kunit_device_register(test, "dma-phys-no-pci");
	u64 mask = DMA_BIT_MASK(64);

	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dev);
	dev->dma_mask = &mask;
	KUNIT_EXPECT_EQ(test, dma_phys_map_mmio(dev, &range, DMA_TO_DEVICE, 0,
						&map), -EREMOTEIO);
	KUNIT_EXPECT_TRUE(test, edu_empty(&map));
	dev->dma_mask = NULL;
}

/* ---- register and unregister ---- */

static void register_arguments(struct kunit *test)
{
	edu_need_owner(test);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(NULL, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, edu_share(test, edu.owner, BAR), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.owner, BAR), -EEXIST);

	/* The other BAR is a peer of its own. */
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.owner, 0), 0);
	dma_phys_peer_unregister(edu.owner, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.owner, BAR), -EEXIST);

	dma_phys_peer_unregister(edu.owner, BAR);
	dma_phys_peer_unregister(edu.owner, BAR);
	dma_phys_peer_unregister(edu.owner, -1);
	dma_phys_peer_unregister(edu.owner, INT_MAX);
	dma_phys_peer_unregister(NULL, 0);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.owner, BAR), 0);
}

static void register_without_driver(struct kunit *test)
{
	edu_unbind();
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.pdev, 0), -ENODEV);
	dma_phys_peer_unregister(edu.pdev, 0);
}

static void h23_register_no_such_bar(struct kunit *test)
{
	static const int bars[] = {
		-1, PCI_ROM_RESOURCE, PCI_ROM_RESOURCE + 1, PCI_NUM_RESOURCES,
		1000, INT_MIN, INT_MAX,
	};
	struct pci_dev *pdev = NULL;

	for (int i = 0; i < ARRAY_SIZE(bars); i++)
		KUNIT_EXPECT_EQ_MSG(test,
				    dma_phys_peer_register(edu.pdev, bars[i]),
				    -EINVAL, "BAR %d", bars[i]);

	/* Each BAR of each device that is not memory. */
	for_each_pci_dev(pdev)
		for (int bar = 0; bar < PCI_STD_NUM_BARS; bar++)
			if (!(pci_resource_flags(pdev, bar) & IORESOURCE_MEM))
				KUNIT_EXPECT_EQ(test,
						dma_phys_peer_register(pdev, bar),
						-EINVAL);
}

/* A range can outlive its peer. It is never valid again. */
static void range_outlives_peer(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE), fresh;

	dma_phys_peer_unregister(edu.pdev, 0);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(edu.pdev, 0, 0, 1, &fresh),
			-ENODEV);

	fresh = peer_test_own(test, 0, PAGE_SIZE);
	KUNIT_EXPECT_NE(test, fresh.peer, range.peer);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);

	range.peer = U32_MAX;
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
	range.peer = fresh.peer + 1;
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
}

/* The driver of the owner is unbound and does not unregister the BAR. */
static void devres_unregisters(struct kunit *test)
{
	struct mmio_phys range = peer_test_shared(test, 0, PAGE_SIZE), fresh;

	device_release_driver(&edu.owner->dev);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(edu.owner, BAR, 0, 1, &fresh),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.owner, BAR), -ENODEV);
}

static void peer_test_unregister_own(struct work_struct *work)
{
	dma_phys_peer_unregister(edu.pdev, 0);
}

static void peer_test_unbind_owner(struct work_struct *work)
{
	device_release_driver(&edu.owner->dev);
}

/* Polls: a hang fails the test at the caller, and does not end it there. */
static bool peer_test_ends(struct work_struct *work)
{
	for (int i = 0; i < 1000 && work_busy(work); i++)
		msleep(20);
	return !work_busy(work);
}

/* @end waits for the unmap of both maps, and no new map is made meanwhile. */
static void peer_test_waits(struct kunit *test, const struct mmio_phys *range,
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

static void h25_unregister_waits_for_maps(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map *first = peer_test_map_own(test, &range);
	struct dma_phys_map *second = peer_test_map_own(test, &range);

	peer_test_waits(test, &range, first, second, peer_test_unregister_own);
}

static void h25_unbind_waits_for_maps(struct kunit *test)
{
	struct mmio_phys range = peer_test_shared(test, 0, PAGE_SIZE);
	struct dma_phys_map *first, *second;

	first = peer_test_map_shared(test, &range, DMA_TO_DEVICE);
	second = peer_test_map_shared(test, &range, DMA_TO_DEVICE);
	peer_test_waits(test, &range, first, second, peer_test_unbind_owner);
}

static void unmap_and_failure_hold_no_reference(struct kunit *test)
{
	struct mmio_phys range = peer_test_shared(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);

	for (int i = 0; i < 1000; i++) {
		peer_test_map(&range, DMA_TO_DEVICE, map);
		dma_phys_unmap(map);
		edu_refuses_mmio(test, &range, DMA_NONE, -EINVAL);
	}
	edu.dev->bus_dma_limit = 1;
	edu_set_mask(1);
	for (int i = 0; i < 1000; i++)
		if (!peer_test_map(&range, DMA_TO_DEVICE, map))
			KUNIT_FAIL_AND_ABORT(test, "mapped beyond the mask");

	/* A reference that is still held would block this. */
	dma_phys_peer_unregister(edu.owner, BAR);
}

#ifdef CONFIG_DMA_PHYS_DEBUG
static void peer_test_debug_off(void *unused)
{
	dma_phys_debug_enable(false);
}

/* The copy puts no reference: the other map still holds the peer. */
static void h33_copied_mmio_handle(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map *map, *other, copy;

	if (!dma_phys_debug_on()) {
		dma_phys_debug_enable(true);
		KUNIT_ASSERT_EQ(test, kunit_add_action(test, peer_test_debug_off,
						       NULL), 0);
	}
	map = peer_test_map_own(test, &range);
	other = peer_test_map_own(test, &range);

	copy = *map;
	dma_phys_unmap(map);
	dma_phys_unmap(&copy);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(edu.pdev, 0, 100),
			-ETIMEDOUT);
	dma_phys_unmap(other);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(edu.pdev, 0, LONG_MS), 0);
}
#else
static void h33_copied_mmio_handle(struct kunit *test)
{
	kunit_skip(test, "built without CONFIG_DMA_PHYS_DEBUG");
}
#endif

/* ---- clients ---- */

/**
 * struct peer_test_client - a client, and what its callback saw
 * @client: as it is attached
 * @lock: held while @map and @list are mapped and unmapped
 * @range: what is mapped
 * @map: unmapped by the callback
 * @list: unmapped by the callback, if there is one
 * @detach: for tests that detach in another thread
 * @other: for tests that attach another client meanwhile
 * @entered: completed by the callback
 * @proceed: the callback waits for it
 * @revoked: number of times that the callback ran
 * @turn: number of callbacks that ran before
 * @returning: the callback is about to return
 * @returning_before: @returning when dma_phys_peer_detach() returned
 * @err: results of a map, of attaching itself and of attaching @other
 */
struct peer_test_client {
	struct dma_phys_peer_client client;
	struct mutex lock;			/* map, list */
	struct mmio_phys range;
	struct dma_phys_map *map;
	struct dma_phys_test_list *list;
	struct work_struct detach;
	struct peer_test_client *other;
	struct completion entered;
	struct completion proceed;
	int revoked;
	int turn;
	bool returning;
	bool returning_before;
	int err[3];
};

static atomic_t peer_test_turns;

static struct peer_test_client *
peer_test_revoked(struct dma_phys_peer_client *client)
{
	struct peer_test_client *self;

	self = container_of(client, struct peer_test_client, client);
	self->revoked++;
	self->turn = atomic_fetch_inc(&peer_test_turns);
	return self;
}

static void peer_test_unmap_all(struct peer_test_client *self)
{
	guard(mutex)(&self->lock);
	dma_phys_unmap(self->map);
	if (self->list)
		dma_phys_sg_unmap(&self->list->sg);
}

static void peer_test_revoke(struct dma_phys_peer_client *client)
{
	struct peer_test_client *self = peer_test_revoked(client);

	peer_test_unmap_all(self);
	complete(&self->entered);
}

static void peer_test_revoke_slowly(struct dma_phys_peer_client *client)
{
	struct peer_test_client *self = peer_test_revoked(client);

	complete(&self->entered);
	wait_for_completion(&self->proceed);
	msleep(100);
	WRITE_ONCE(self->returning, true);
}

static void peer_test_revoke_detach(struct dma_phys_peer_client *client)
{
	dma_phys_peer_detach(&peer_test_revoked(client)->client);
}

static void peer_test_revoke_retry(struct dma_phys_peer_client *client)
{
	struct peer_test_client *self = peer_test_revoked(client);

	self->err[0] = peer_test_map(&self->range, DMA_TO_DEVICE, self->map);
	self->err[1] = dma_phys_peer_attach(&self->range, client);
	self->err[2] = dma_phys_peer_attach(&self->range, &self->other->client);
}

static void peer_test_detach_work(struct work_struct *work)
{
	struct peer_test_client *self;

	self = container_of(work, struct peer_test_client, detach);
	dma_phys_peer_detach(&self->client);
	self->returning_before = READ_ONCE(self->returning);
}

static void peer_test_detach_action(void *client)
{
	dma_phys_peer_detach(client);
}

static struct peer_test_client *
peer_test_client(struct kunit *test,
		 void (*revoke)(struct dma_phys_peer_client *client))
{
	struct peer_test_client *self;
	int err;

	self = kunit_kzalloc(test, sizeof(*self), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, self);
	self->client.revoke = revoke;
	self->map = edu_handle(test);
	mutex_init(&self->lock);
	init_completion(&self->entered);
	init_completion(&self->proceed);
	INIT_WORK(&self->detach, peer_test_detach_work);
	err = kunit_add_action(test, peer_test_detach_action, &self->client);
	KUNIT_ASSERT_EQ(test, err, 0);
	return self;
}

static struct peer_test_client *
peer_test_attached(struct kunit *test,
		   void (*revoke)(struct dma_phys_peer_client *client),
		   const struct mmio_phys *range)
{
	struct peer_test_client *self = peer_test_client(test, revoke);

	self->range = *range;
	KUNIT_ASSERT_EQ(test, dma_phys_peer_attach(range, &self->client), 0);
	return self;
}

static void peer_test_wait_entered(struct kunit *test,
				   struct peer_test_client *self)
{
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&self->entered,
							  10 * HZ), 0);
}

/* @end does not hang: the callback of @self unmaps what it waits for. */
static void peer_test_revokes(struct kunit *test, work_func_t end,
			      struct peer_test_client *self)
{
	struct work_struct work;

	INIT_WORK_ONSTACK(&work, end);
	queue_work(system_dfl_wq, &work);
	KUNIT_EXPECT_TRUE(test, peer_test_ends(&work));
	KUNIT_EXPECT_EQ(test, self->revoked, 1);

	scoped_guard(mutex, &self->lock)
		KUNIT_EXPECT_TRUE(test, edu_empty(self->map));
	peer_test_unmap_all(self);
	flush_work(&work);
	destroy_work_on_stack(&work);
}

static void h25_clients_revoked_once_in_order(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *clients[5];

	for (int i = 0; i < ARRAY_SIZE(clients); i++)
		clients[i] = peer_test_attached(test, peer_test_revoke, &range);
	atomic_set(&peer_test_turns, 0);
	dma_phys_peer_unregister(edu.pdev, 0);
	for (int i = 0; i < ARRAY_SIZE(clients); i++) {
		KUNIT_EXPECT_EQ(test, clients[i]->revoked, 1);
		KUNIT_EXPECT_EQ(test, clients[i]->turn, i);
	}

	/* The next peer of this BAR revokes only the client that attached to it. */
	range = peer_test_own(test, 0, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &clients[2]->client),
			0);
	dma_phys_peer_unregister(edu.pdev, 0);
	dma_phys_peer_unregister(edu.pdev, 0);
	for (int i = 0; i < ARRAY_SIZE(clients); i++)
		KUNIT_EXPECT_EQ(test, clients[i]->revoked, i == 2 ? 2 : 1);
}

static void h25_clients_of_other_peers_not_revoked(struct kunit *test)
{
	struct mmio_phys own = peer_test_own(test, 0, PAGE_SIZE);
	struct mmio_phys shared = peer_test_shared(test, 0, PAGE_SIZE);
	struct peer_test_client *first, *second;

	first = peer_test_attached(test, peer_test_revoke, &own);
	second = peer_test_attached(test, peer_test_revoke, &shared);
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, first->revoked, 1);
	KUNIT_EXPECT_EQ(test, second->revoked, 0);
	dma_phys_peer_unregister(edu.owner, BAR);
	KUNIT_EXPECT_EQ(test, first->revoked, 1);
	KUNIT_EXPECT_EQ(test, second->revoked, 1);
}

static void h25_client_unmaps_map(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *self;

	self = peer_test_attached(test, peer_test_revoke, &range);
	self->map = peer_test_map_own(test, &range);
	peer_test_revokes(test, peer_test_unregister_own, self);
}

static int peer_test_map_list(struct dma_phys_test_list *list,
			      const struct mmio_phys *ranges, size_t count)
{
	return dma_phys_sg_map_mmio(edu.dev, ranges, count, DMA_TO_DEVICE, 0,
				    list->segments, list->max_segments,
				    &list->sg);
}

static void h25_client_unmaps_list(struct kunit *test)
{
	struct mmio_phys ranges[] = {
		peer_test_own(test, 0x1000, 0x200),
		peer_test_own(test, 0x3000, 0x400),
	};
	struct peer_test_client *self;

	self = peer_test_attached(test, peer_test_revoke, &ranges[0]);
	self->list = dma_phys_test_list(test, MAX_SEGMENTS);
	KUNIT_ASSERT_EQ(test, peer_test_map_list(self->list, ranges, 2), 2);
	peer_test_revokes(test, peer_test_unregister_own, self);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&self->list->sg));
	KUNIT_EXPECT_EQ(test, peer_test_map_list(self->list, ranges, 2),
			-ENODEV);
	KUNIT_EXPECT_TRUE(test, dma_phys_test_sg_is_empty(&self->list->sg));
}

static void h25_unbind_revokes(struct kunit *test)
{
	struct mmio_phys range = peer_test_shared(test, 0, PAGE_SIZE);
	struct peer_test_client *self;
	struct dma_phys_map *map;

	map = peer_test_map_shared(test, &range, DMA_TO_DEVICE);
	self = peer_test_attached(test, peer_test_revoke, &range);
	self->map = map;
	peer_test_revokes(test, peer_test_unbind_owner, self);
}

static void h25_no_map_during_revoke(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *self;

	self = peer_test_attached(test, peer_test_revoke_retry, &range);
	self->other = peer_test_client(test, peer_test_revoke);
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, self->revoked, 1);
	for (int i = 0; i < ARRAY_SIZE(self->err); i++)
		KUNIT_EXPECT_EQ(test, self->err[i], -ENODEV);
	KUNIT_EXPECT_EQ(test, self->other->revoked, 0);
}

static void attach_arguments(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE), none = range;
	struct peer_test_client *self, *no_callback;

	self = peer_test_client(test, peer_test_revoke);
	no_callback = peer_test_client(test, NULL);
	none.peer = 0;
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(NULL, &self->client),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&none, &self->client),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &no_callback->client),
			-EINVAL);
	none.peer = range.peer + 1;
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&none, &self->client),
			-ENODEV);

	/* None of these attached a client. */
	dma_phys_peer_detach(NULL);
	dma_phys_peer_detach(&self->client);
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, self->revoked, 0);
}

static void h25_attached_twice(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *first, *last;

	first = peer_test_attached(test, peer_test_revoke, &range);
	last = peer_test_attached(test, peer_test_revoke, &range);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &first->client),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &last->client),
			-EINVAL);

	dma_phys_peer_detach(&last->client);
	dma_phys_peer_detach(&last->client);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &last->client), 0);
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, first->revoked, 1);
	KUNIT_EXPECT_EQ(test, last->revoked, 1);
}

static void h25_attach_during_unregister(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = peer_test_map_own(test, &range);
	struct peer_test_client *self;
	struct work_struct work;

	self = peer_test_client(test, peer_test_revoke);
	INIT_WORK_ONSTACK(&work, peer_test_unregister_own);
	queue_work(system_dfl_wq, &work);
	msleep(200);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &self->client),
			-ENODEV);
	dma_phys_unmap(map);
	flush_work(&work);
	destroy_work_on_stack(&work);

	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &self->client),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, self->revoked, 0);
}

static void h25_detach_waits_for_callback(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *self;
	struct work_struct work;

	self = peer_test_attached(test, peer_test_revoke_slowly, &range);
	INIT_WORK_ONSTACK(&work, peer_test_unregister_own);
	queue_work(system_dfl_wq, &work);
	peer_test_wait_entered(test, self);

	/* The BAR is shared again, but the client is still being revoked. */
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.pdev, 0), 0);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(edu.pdev, 0, 0, 1, &range), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &self->client),
			-EINVAL);

	queue_work(system_dfl_wq, &self->detach);
	msleep(200);
	KUNIT_EXPECT_TRUE(test, work_busy(&self->detach));

	complete(&self->proceed);
	KUNIT_EXPECT_TRUE(test, peer_test_ends(&self->detach));
	KUNIT_EXPECT_TRUE(test, self->returning_before);
	KUNIT_EXPECT_TRUE(test, peer_test_ends(&work));
	destroy_work_on_stack(&work);
	KUNIT_EXPECT_EQ(test, self->revoked, 1);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &self->client), 0);
}

/* The memory of a client that is detached in time is not accessed. */
static void h25_detached_before_callback(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *first, *second, *third;
	struct work_struct work;

	first = peer_test_attached(test, peer_test_revoke_slowly, &range);
	second = peer_test_attached(test, peer_test_revoke, &range);
	third = peer_test_attached(test, peer_test_revoke, &range);

	INIT_WORK_ONSTACK(&work, peer_test_unregister_own);
	queue_work(system_dfl_wq, &work);
	peer_test_wait_entered(test, first);
	dma_phys_peer_detach(&second->client);
	KUNIT_EXPECT_EQ(test, second->revoked, 0);
	memset(&second->client, POISON, sizeof(second->client));

	complete(&first->proceed);
	KUNIT_EXPECT_TRUE(test, peer_test_ends(&work));
	destroy_work_on_stack(&work);
	KUNIT_EXPECT_NULL(test, memchr_inv(&second->client, POISON,
					   sizeof(second->client)));
	memset(&second->client, 0, sizeof(second->client));
	KUNIT_EXPECT_EQ(test, second->revoked, 0);
	KUNIT_EXPECT_EQ(test, third->revoked, 1);
}

static void h25_callback_detaches(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *self;

	self = peer_test_attached(test, peer_test_revoke_detach, &range);
	peer_test_revokes(test, peer_test_unregister_own, self);
}

/* Attach and map; unmap if revoked (@stay), or at once. */
static int peer_test_use_own(struct peer_test_client *self, bool stay)
{
	int err;

	err = mmio_phys_from_bar(edu.pdev, 0, 0, PAGE_SIZE, &self->range);
	if (err)
		return err;
	reinit_completion(&self->entered);
	err = dma_phys_peer_attach(&self->range, &self->client);
	if (err)
		return err;

	scoped_guard(mutex, &self->lock)
		err = peer_test_map(&self->range, DMA_TO_DEVICE, self->map);
	if (!err && stay)
		wait_for_completion(&self->entered);
	dma_phys_peer_detach(&self->client);
	dma_phys_unmap(self->map);
	return err;
}

#define RACES	60

/* Nothing orders the owner and the client on two CPUs. */
static void h25_attach_races_with_unregister(struct kunit *test)
{
	struct peer_test_client *self = peer_test_client(test, peer_test_revoke);
	struct work_struct work;
	int mapped = 0;

	peer_test_own(test, 0, PAGE_SIZE);
	for (int i = 0; i < RACES; i++) {
		INIT_WORK_ONSTACK(&work, peer_test_unregister_own);
		queue_work(system_dfl_wq, &work);
		do {
			int err = peer_test_use_own(self, i & 1);

			if (err && err != -ENODEV)
				KUNIT_FAIL(test, "round %d: %d", i, err);
			mapped += !err;
		} while (work_busy(&work));
		destroy_work_on_stack(&work);
		KUNIT_ASSERT_EQ(test, dma_phys_peer_register(edu.pdev, 0), 0);
	}
	kunit_info(test, "%d maps, revoked %d times, in %d rounds", mapped,
		   self->revoked, RACES);
	KUNIT_EXPECT_GT(test, mapped, 0);
	KUNIT_EXPECT_GT(test, self->revoked, 0);
}

/* ---- suspend and resume ---- */

static int peer_test_suspend_own(unsigned int timeout_ms)
{
	return dma_phys_peer_suspend(edu.pdev, 0, timeout_ms);
}

static void peer_test_resume_own(void)
{
	dma_phys_peer_resume(edu.pdev, 0);
}

/**
 * struct peer_test_suspend - a suspend of the own BAR in another thread
 * @work: queued by peer_test_start_suspend()
 * @err: what it returned
 */
struct peer_test_suspend {
	struct work_struct work;
	int err;
};

static void peer_test_suspend_work(struct work_struct *work)
{
	struct peer_test_suspend *suspend;

	suspend = container_of(work, struct peer_test_suspend, work);
	suspend->err = peer_test_suspend_own(LONG_MS);
}

static struct peer_test_suspend *peer_test_start_suspend(struct kunit *test)
{
	struct peer_test_suspend *suspend;

	suspend = kunit_kzalloc(test, sizeof(*suspend), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, suspend);
	INIT_WORK(&suspend->work, peer_test_suspend_work);
	queue_work(system_dfl_wq, &suspend->work);
	return suspend;
}

static void h34_suspend_arguments(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(NULL, 0, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(edu.pdev, -1, 0), -ENODEV);
	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(0), -ENODEV);
	dma_phys_peer_resume(NULL, 0);
	dma_phys_peer_resume(edu.pdev, -1);
	peer_test_resume_own();
}

/* Clients are revoked before the reset, and no map is made until resume. */
static void h34_no_map_while_suspended(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE), again;
	struct dma_phys_test_list *list = dma_phys_test_list(test, MAX_SEGMENTS);
	struct peer_test_client *first, *second;

	first = peer_test_attached(test, peer_test_revoke, &range);
	first->map = peer_test_map_own(test, &range);
	second = peer_test_attached(test, peer_test_revoke_retry, &range);
	second->other = peer_test_client(test, peer_test_revoke);

	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(LONG_MS), 0);
	KUNIT_EXPECT_EQ(test, first->revoked, 1);
	KUNIT_EXPECT_EQ(test, second->revoked, 1);
	KUNIT_EXPECT_TRUE(test, edu_empty(first->map));
	for (int i = 0; i < ARRAY_SIZE(second->err); i++)
		KUNIT_EXPECT_EQ(test, second->err[i], -EAGAIN);

	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -EAGAIN);
	KUNIT_EXPECT_EQ(test, peer_test_map_list(list, &range, 1), -EAGAIN);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &first->client),
			-EAGAIN);
	again = peer_test_own(test, 0, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, again.peer, range.peer);

	peer_test_resume_own();
	peer_test_map_own(test, &range);
	KUNIT_EXPECT_EQ(test, peer_test_map_list(list, &range, 1), 1);
	KUNIT_EXPECT_EQ(test, first->revoked, 1);
	KUNIT_EXPECT_EQ(test, second->other->revoked, 0);
}

static void h34_suspend_waits_for_maps(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = peer_test_map_own(test, &range);
	struct peer_test_suspend *suspend = peer_test_start_suspend(test);

	msleep(200);
	KUNIT_EXPECT_TRUE(test, work_busy(&suspend->work));
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -EAGAIN);
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, peer_test_ends(&suspend->work));
	KUNIT_EXPECT_EQ(test, suspend->err, 0);
}

static void h34_suspend_times_out(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = peer_test_map_own(test, &range);
	ktime_t start = ktime_get();

	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(300), -ETIMEDOUT);
	KUNIT_EXPECT_GE(test, ktime_ms_delta(ktime_get(), start), 290);
	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(0), -ETIMEDOUT);

	/* Still suspended; the map is intact. */
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -EAGAIN);
	KUNIT_EXPECT_EQ(test, map->addr,
			peer_test_bus_address(edu.pdev, 0, range.addr));
	dma_phys_unmap(map);
	KUNIT_EXPECT_TRUE(test, edu_empty(map));

	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(LONG_MS), 0);
	peer_test_resume_own();
	peer_test_map_own(test, &range);
}

/* The owner resumes although a map is held: it holds the peer as before. */
static void h34_resume_with_map(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map *first = peer_test_map_own(test, &range);
	struct dma_phys_map *second;

	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(10), -ETIMEDOUT);
	peer_test_resume_own();
	second = peer_test_map_own(test, &range);
	peer_test_waits(test, &range, first, second, peer_test_unregister_own);
}

/* Without a map, a suspend succeeds however short its timeout is. */
static void h34_suspend_twice(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);

	for (int i = 0; i < 20; i++) {
		KUNIT_EXPECT_EQ(test, peer_test_suspend_own(0), 0);
		KUNIT_EXPECT_EQ(test, peer_test_suspend_own(0), 0);
		edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -EAGAIN);

		peer_test_resume_own();
		peer_test_resume_own();
		dma_phys_unmap(peer_test_map_own(test, &range));
	}
}

static void h34_bytes_move_after_resume(struct kunit *test)
{
	struct mmio_phys range = peer_test_shared(test, 0, PAGE_SIZE);
	u8 *out = edu_pages(test, 0), *in = edu_pages(test, 0);

	memset_io(edu.shmem + 0x1000, POISON, EDU_BUF);
	peer_test_read(test, in);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(edu.owner, BAR, LONG_MS),
			0);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -EAGAIN);

	/* The reset: the peer has other bytes afterwards. */
	get_random_bytes(out, EDU_BUF);
	memcpy_toio(edu.shmem + 0x1000, out, EDU_BUF);

	dma_phys_peer_resume(edu.owner, BAR);
	peer_test_read(test, in);
	KUNIT_EXPECT_MEMEQ(test, in, out, EDU_BUF);
}

static void h34_client_attaches_again(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *self;

	self = peer_test_attached(test, peer_test_revoke, &range);
	for (int i = 1; i <= 3; i++) {
		KUNIT_EXPECT_EQ(test, peer_test_suspend_own(LONG_MS), 0);
		KUNIT_EXPECT_EQ(test, self->revoked, i);
		peer_test_resume_own();

		/* Not attached: the next suspend does not revoke it. */
		KUNIT_EXPECT_EQ(test, peer_test_suspend_own(LONG_MS), 0);
		KUNIT_EXPECT_EQ(test, self->revoked, i);
		peer_test_resume_own();

		KUNIT_ASSERT_EQ(test, dma_phys_peer_attach(&range,
							   &self->client), 0);
		self->map = peer_test_map_own(test, &range);
	}
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, self->revoked, 4);
}

static void h34_other_peers_not_suspended(struct kunit *test)
{
	struct mmio_phys own = peer_test_own(test, 0, PAGE_SIZE);
	struct mmio_phys shared = peer_test_shared(test, 0, PAGE_SIZE);
	struct peer_test_client *self;

	self = peer_test_attached(test, peer_test_revoke, &own);
	self->map = peer_test_map_own(test, &own);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(edu.owner, BAR, LONG_MS),
			0);
	KUNIT_EXPECT_EQ(test, self->revoked, 0);
	edu_refuses_mmio(test, &shared, DMA_TO_DEVICE, -EAGAIN);
	dma_phys_unmap(peer_test_map_own(test, &own));
}

static void h34_unregister_while_suspended(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map *first, *second;
	struct peer_test_client *self;

	self = peer_test_attached(test, peer_test_revoke, &range);
	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(LONG_MS), 0);
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, self->revoked, 1);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(0), -ENODEV);

	/* The next peer of this BAR is not suspended. */
	range = peer_test_own(test, 0, PAGE_SIZE);
	first = peer_test_map_own(test, &range);
	second = peer_test_map_own(test, &range);
	KUNIT_EXPECT_EQ(test, peer_test_suspend_own(10), -ETIMEDOUT);
	peer_test_waits(test, &range, first, second, peer_test_unregister_own);
}

static void h34_unbind_while_suspended(struct kunit *test)
{
	struct mmio_phys range = peer_test_shared(test, 0, PAGE_SIZE);

	KUNIT_EXPECT_EQ(test, dma_phys_peer_suspend(edu.owner, BAR, LONG_MS),
			0);
	device_release_driver(&edu.owner->dev);
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);
}

static void h34_unregister_ends_suspend(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = peer_test_map_own(test, &range);
	struct peer_test_suspend *suspend = peer_test_start_suspend(test);
	struct work_struct work;

	msleep(200);
	KUNIT_EXPECT_TRUE(test, work_busy(&suspend->work));

	INIT_WORK_ONSTACK(&work, peer_test_unregister_own);
	queue_work(system_dfl_wq, &work);
	KUNIT_EXPECT_TRUE(test, peer_test_ends(&suspend->work));
	KUNIT_EXPECT_EQ(test, suspend->err, -ENODEV);
	KUNIT_EXPECT_TRUE(test, work_busy(&work));
	edu_refuses_mmio(test, &range, DMA_TO_DEVICE, -ENODEV);

	dma_phys_unmap(map);
	flush_work(&work);
	destroy_work_on_stack(&work);
}

/* The suspend runs the callback, and the unregister must not overtake it. */
static void h34_unregister_waits_for_callback(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_suspend *suspend;
	struct peer_test_client *self;
	struct work_struct work;

	self = peer_test_attached(test, peer_test_revoke_slowly, &range);
	suspend = peer_test_start_suspend(test);
	peer_test_wait_entered(test, self);

	INIT_WORK_ONSTACK(&work, peer_test_unregister_own);
	queue_work(system_dfl_wq, &work);
	msleep(200);
	KUNIT_EXPECT_TRUE(test, work_busy(&work));
	KUNIT_EXPECT_TRUE(test, work_busy(&suspend->work));

	complete(&self->proceed);
	flush_work(&work);
	destroy_work_on_stack(&work);
	KUNIT_EXPECT_TRUE(test, self->returning);
	KUNIT_EXPECT_EQ(test, self->revoked, 1);
	KUNIT_EXPECT_TRUE(test, peer_test_ends(&suspend->work));
	KUNIT_EXPECT_EQ(test, suspend->err, -ENODEV);
}

static void peer_test_reset_locked(struct work_struct *work)
{
	struct peer_test_suspend *suspend;

	suspend = container_of(work, struct peer_test_suspend, work);
	guard(device)(edu.dev);
	suspend->err = peer_test_suspend_own(LONG_MS);
	peer_test_resume_own();
}

/* A bus reset holds the device locks of the owner and of the client. */
static void h34_reset_under_device_lock(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_suspend suspend = { .err = 1 };
	struct peer_test_client *self;

	self = peer_test_attached(test, peer_test_revoke, &range);
	self->map = peer_test_map_own(test, &range);
	INIT_WORK_ONSTACK(&suspend.work, peer_test_reset_locked);
	queue_work(system_dfl_wq, &suspend.work);
	KUNIT_EXPECT_TRUE(test, peer_test_ends(&suspend.work));
	flush_work(&suspend.work);
	destroy_work_on_stack(&suspend.work);
	KUNIT_EXPECT_EQ(test, suspend.err, 0);
	KUNIT_EXPECT_EQ(test, self->revoked, 1);
}

/**
 * struct peer_test_mapper - maps and unmaps in a loop
 * @work: the loop
 * @range: what is mapped
 * @stop: ends the loop
 * @live: maps that are held
 * @maps: maps that were made
 * @again: maps that failed with -EAGAIN
 * @err: any other error
 */
struct peer_test_mapper {
	struct work_struct work;
	struct mmio_phys range;
	bool stop;
	atomic_t live;
	atomic_t maps;
	atomic_t again;
	int err;
};

static void peer_test_map_loop(struct work_struct *work)
{
	struct peer_test_mapper *mapper;
	struct dma_phys_map map = {};
	int err;

	mapper = container_of(work, struct peer_test_mapper, work);
	while (!READ_ONCE(mapper->stop)) {
		err = peer_test_map(&mapper->range, DMA_TO_DEVICE, &map);
		if (!err) {
			atomic_inc(&mapper->live);
			atomic_inc(&mapper->maps);
			udelay(1);
			atomic_dec(&mapper->live);
		} else if (err == -EAGAIN) {
			atomic_inc(&mapper->again);
		} else {
			mapper->err = err;
		}
		dma_phys_unmap(&map);
		cond_resched();
	}
}

static bool peer_test_grows(atomic_t *count)
{
	int before = atomic_read(count);

	for (int i = 0; i < 10000 && atomic_read(count) == before; i++)
		usleep_range(500, 1000);
	return atomic_read(count) != before;
}

#define RESETS	30

/* Between suspend and resume no map is held, however they interleave. */
static void h34_maps_race_with_suspend(struct kunit *test)
{
	struct peer_test_mapper mapper = {
		.range = peer_test_own(test, 0, PAGE_SIZE),
	};

	INIT_WORK_ONSTACK(&mapper.work, peer_test_map_loop);
	queue_work(system_dfl_wq, &mapper.work);
	for (int i = 0; i < RESETS; i++) {
		KUNIT_EXPECT_TRUE(test, peer_test_grows(&mapper.maps));
		KUNIT_EXPECT_EQ(test, peer_test_suspend_own(LONG_MS), 0);
		KUNIT_EXPECT_EQ(test, atomic_read(&mapper.live), 0);
		KUNIT_EXPECT_TRUE(test, peer_test_grows(&mapper.again));
		KUNIT_EXPECT_EQ(test, atomic_read(&mapper.live), 0);
		peer_test_resume_own();
	}
	WRITE_ONCE(mapper.stop, true);
	flush_work(&mapper.work);
	destroy_work_on_stack(&mapper.work);
	KUNIT_EXPECT_EQ(test, mapper.err, 0);
}

/* Whatever comes first, a client is revoked once and nothing hangs. */
static void h34_suspend_races_with_unregister(struct kunit *test)
{
	struct mmio_phys range = peer_test_own(test, 0, PAGE_SIZE);
	struct peer_test_client *self;

	self = peer_test_client(test, peer_test_revoke);
	for (int i = 1; i <= RESETS; i++) {
		struct peer_test_suspend *suspend;
		struct work_struct work;

		range = peer_test_own(test, 0, PAGE_SIZE);
		KUNIT_ASSERT_EQ(test, dma_phys_peer_attach(&range,
							   &self->client), 0);
		scoped_guard(mutex, &self->lock)
			KUNIT_EXPECT_EQ(test, peer_test_map(&range,
							    DMA_TO_DEVICE,
							    self->map), 0);

		suspend = peer_test_start_suspend(test);
		INIT_WORK_ONSTACK(&work, peer_test_unregister_own);
		udelay(10 * i);
		queue_work(system_dfl_wq, &work);
		if (i & 1)
			peer_test_resume_own();
		KUNIT_EXPECT_TRUE(test, peer_test_ends(&work));
		flush_work(&work);
		destroy_work_on_stack(&work);

		KUNIT_EXPECT_TRUE(test, peer_test_ends(&suspend->work));
		if (suspend->err)
			KUNIT_EXPECT_EQ(test, suspend->err, -ENODEV);
		KUNIT_EXPECT_EQ(test, self->revoked, i);
	}
}

static struct kunit_case peer_cases[] = {
	KUNIT_CASE(peer_route_matches_pci_core),
	KUNIT_CASE(peer_bytes_move),
	KUNIT_CASE(h27_own_bar_takes_bus_route),
	KUNIT_CASE(no_p2p_path_from_other_buses),
	KUNIT_CASE(register_arguments),
	KUNIT_CASE(register_without_driver),
	KUNIT_CASE(h23_register_no_such_bar),
	KUNIT_CASE(range_outlives_peer),
	KUNIT_CASE(devres_unregisters),
	KUNIT_CASE(h25_unregister_waits_for_maps),
	KUNIT_CASE(h25_unbind_waits_for_maps),
	KUNIT_CASE(unmap_and_failure_hold_no_reference),
	KUNIT_CASE(h33_copied_mmio_handle),
	KUNIT_CASE(h25_clients_revoked_once_in_order),
	KUNIT_CASE(h25_clients_of_other_peers_not_revoked),
	KUNIT_CASE(h25_client_unmaps_map),
	KUNIT_CASE(h25_client_unmaps_list),
	KUNIT_CASE(h25_unbind_revokes),
	KUNIT_CASE(h25_no_map_during_revoke),
	KUNIT_CASE(attach_arguments),
	KUNIT_CASE(h25_attached_twice),
	KUNIT_CASE(h25_attach_during_unregister),
	KUNIT_CASE(h25_detach_waits_for_callback),
	KUNIT_CASE(h25_detached_before_callback),
	KUNIT_CASE(h25_callback_detaches),
	KUNIT_CASE(h25_attach_races_with_unregister),
	KUNIT_CASE(h34_suspend_arguments),
	KUNIT_CASE(h34_no_map_while_suspended),
	KUNIT_CASE(h34_suspend_waits_for_maps),
	KUNIT_CASE(h34_suspend_times_out),
	KUNIT_CASE(h34_resume_with_map),
	KUNIT_CASE(h34_suspend_twice),
	KUNIT_CASE(h34_bytes_move_after_resume),
	KUNIT_CASE(h34_client_attaches_again),
	KUNIT_CASE(h34_other_peers_not_suspended),
	KUNIT_CASE(h34_unregister_while_suspended),
	KUNIT_CASE(h34_unbind_while_suspended),
	KUNIT_CASE(h34_unregister_ends_suspend),
	KUNIT_CASE(h34_unregister_waits_for_callback),
	KUNIT_CASE(h34_reset_under_device_lock),
	KUNIT_CASE(h34_maps_race_with_suspend),
	KUNIT_CASE(h34_suspend_races_with_unregister),
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

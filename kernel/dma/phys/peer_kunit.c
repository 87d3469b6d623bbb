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
#include "vec_kunit.h"

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
static void h27_own_bar_is_on_the_bus(struct kunit *test)
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

/* A peer that every machine has a route to: the device's own BAR, lent. */
static struct mmio_phys own(struct kunit *test, u64 offset, size_t len)
{
	struct mmio_phys range = {};

	edu_set_mask(DMA_BIT_MASK(64));
	if (mmio_phys_from_bar(edu.pdev, 0, offset, len, &range)) {
		KUNIT_ASSERT_EQ(test, edu_lend(test, edu.pdev, 0), 0);
		KUNIT_ASSERT_EQ(test, mmio_phys_from_bar(edu.pdev, 0, offset,
							 len, &range), 0);
	}
	return range;
}

static void map_own(struct kunit *test, const struct mmio_phys *range,
		    struct dma_phys_map *map)
{
	KUNIT_ASSERT_EQ(test, dma_phys_map_mmio(edu.dev, range, DMA_TO_DEVICE,
						0, map), 0);
}

static void taking_back_waits(struct kunit *test)
{
	struct dma_phys_map *maps[] = { edu_handle(test), edu_handle(test) };
	struct mmio_phys range = own(test, 0, PAGE_SIZE);

	for (int i = 0; i < ARRAY_SIZE(maps); i++)
		map_own(test, &range, maps[i]);
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

/**
 * struct listener - somebody who is told when a peer leaves
 * @user: as it is attached
 * @lock: held while @map is made and undone
 * @range: what is mapped
 * @map: given up when told
 * @vec: given up when told
 * @detach: for the test that detaches in another thread
 * @other: for the test that attaches another one meanwhile
 * @entered: completed by the callback, ...
 * @proceed: ...which then waits for this
 * @told: how often it was told
 * @turn: after how many others
 * @left: the callback is about to return, ...
 * @left_before: ...and had when dma_phys_peer_detach() returned
 * @err: what mapping, attaching itself and attaching another said meanwhile
 */
struct listener {
	struct dma_phys_peer_user user;
	struct mutex lock;			/* map, vec */
	struct mmio_phys range;
	struct dma_phys_map *map;
	struct dma_phys_vec *vec;
	struct work_struct detach;
	struct listener *other;
	struct completion entered;
	struct completion proceed;
	int told;
	int turn;
	bool left;
	bool left_before;
	int err[3];
};

static atomic_t turns;

static struct listener *told(struct dma_phys_peer_user *user)
{
	struct listener *self = container_of(user, struct listener, user);

	self->told++;
	self->turn = atomic_fetch_inc(&turns);
	return self;
}

static void gives_up(struct dma_phys_peer_user *user)
{
	struct listener *self = told(user);

	scoped_guard(mutex, &self->lock) {
		dma_phys_unmap(self->map);
		dma_phys_vec_unmap(self->vec);
	}
	complete(&self->entered);
}

static void lingers(struct dma_phys_peer_user *user)
{
	struct listener *self = told(user);

	complete(&self->entered);
	wait_for_completion(&self->proceed);
	msleep(100);
	WRITE_ONCE(self->left, true);
}

static void detaches_itself(struct dma_phys_peer_user *user)
{
	dma_phys_peer_detach(&told(user)->user);
}

static void tries_again(struct dma_phys_peer_user *user)
{
	struct listener *self = told(user);

	self->err[0] = dma_phys_map_mmio(edu.dev, &self->range, DMA_TO_DEVICE, 0,
					 self->map);
	self->err[1] = dma_phys_peer_attach(&self->range, user);
	self->err[2] = dma_phys_peer_attach(&self->range, &self->other->user);
}

static void detach_it(struct work_struct *work)
{
	struct listener *self = container_of(work, struct listener, detach);

	dma_phys_peer_detach(&self->user);
	self->left_before = READ_ONCE(self->left);
}

static void stop_listening(void *user)
{
	dma_phys_peer_detach(user);
}

static struct listener *listener(struct kunit *test,
				 void (*revoke)(struct dma_phys_peer_user *user))
{
	struct listener *self = kunit_kzalloc(test, sizeof(*self), GFP_KERNEL);
	int err;

	KUNIT_ASSERT_NOT_NULL(test, self);
	self->user.revoke = revoke;
	self->map = edu_handle(test);
	mutex_init(&self->lock);
	init_completion(&self->entered);
	init_completion(&self->proceed);
	INIT_WORK(&self->detach, detach_it);
	err = kunit_add_action(test, stop_listening, &self->user);
	KUNIT_ASSERT_EQ(test, err, 0);
	return self;
}

static struct listener *attached(struct kunit *test,
				 void (*revoke)(struct dma_phys_peer_user *user),
				 const struct mmio_phys *range)
{
	struct listener *self = listener(test, revoke);

	self->range = *range;
	KUNIT_ASSERT_EQ(test, dma_phys_peer_attach(range, &self->user), 0);
	return self;
}

/* A hang is a failure, and not yet the end. */
static bool ends(struct work_struct *work)
{
	for (int i = 0; i < 1000 && work_busy(work); i++)
		msleep(20);
	return !work_busy(work);
}

/* @end comes to its end: @self has given up what it waits for. */
static void leaves(struct kunit *test, work_func_t end, struct listener *self)
{
	struct work_struct work;

	INIT_WORK_ONSTACK(&work, end);
	queue_work(system_dfl_wq, &work);
	KUNIT_EXPECT_TRUE(test, ends(&work));
	KUNIT_EXPECT_EQ(test, self->told, 1);

	scoped_guard(mutex, &self->lock) {
		KUNIT_EXPECT_TRUE(test, edu_empty(self->map));
		dma_phys_unmap(self->map);
		dma_phys_vec_unmap(self->vec);
	}
	flush_work(&work);
	destroy_work_on_stack(&work);
}

static void h25_told_once_in_order(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE);
	struct listener *them[5];

	for (int i = 0; i < ARRAY_SIZE(them); i++)
		them[i] = attached(test, gives_up, &range);
	atomic_set(&turns, 0);
	dma_phys_peer_unregister(edu.pdev, 0);
	for (int i = 0; i < ARRAY_SIZE(them); i++) {
		KUNIT_EXPECT_EQ(test, them[i]->told, 1);
		KUNIT_EXPECT_EQ(test, them[i]->turn, i);
	}

	/* The next peer at this BAR is none of theirs... */
	range = own(test, 0, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &them[2]->user), 0);
	dma_phys_peer_unregister(edu.pdev, 0);
	dma_phys_peer_unregister(edu.pdev, 0);

	/* ...but of who has attached again. */
	for (int i = 0; i < ARRAY_SIZE(them); i++)
		KUNIT_EXPECT_EQ(test, them[i]->told, i == 2 ? 2 : 1);
}

/* Two peers: one leaves, and only its users are told. */
static void h25_others_are_not_told(struct kunit *test)
{
	struct mmio_phys mine = own(test, 0, PAGE_SIZE);
	struct mmio_phys its = lent(test, 0, PAGE_SIZE);
	struct listener *one = attached(test, gives_up, &mine);
	struct listener *two = attached(test, gives_up, &its);

	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, one->told, 1);
	KUNIT_EXPECT_EQ(test, two->told, 0);
	dma_phys_peer_unregister(edu.lender, BAR);
	KUNIT_EXPECT_EQ(test, one->told, 1);
	KUNIT_EXPECT_EQ(test, two->told, 1);
}

static void h25_map_given_up(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE);
	struct listener *self = attached(test, gives_up, &range);

	map_own(test, &range, self->map);
	leaves(test, take_own_back, self);
}

static void h25_vec_given_up(struct kunit *test)
{
	struct mmio_phys ranges[] = {
		own(test, 0x1000, 0x200), own(test, 0x3000, 0x400),
	};
	struct listener *self = attached(test, gives_up, &ranges[0]);

	self->vec = vec_empty(test, ROOM);
	KUNIT_ASSERT_EQ(test, dma_phys_vec_map_mmio(edu.dev, ranges,
						    ARRAY_SIZE(ranges),
						    DMA_TO_DEVICE, 0,
						    self->vec), 0);
	leaves(test, take_own_back, self);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(self->vec));
	KUNIT_EXPECT_EQ(test, dma_phys_vec_map_mmio(edu.dev, ranges,
						    ARRAY_SIZE(ranges),
						    DMA_TO_DEVICE, 0,
						    self->vec), -ENODEV);
	KUNIT_EXPECT_TRUE(test, vec_is_empty(self->vec));
}

/* The owner's driver detaches: devres tells. */
static void h25_owner_need_not_ask(struct kunit *test)
{
	struct mmio_phys range = lent(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = map_lent(test, &range, DMA_TO_DEVICE);
	struct listener *self = attached(test, gives_up, &range);

	self->map = map;
	leaves(test, release_lender, self);
}

static void h25_no_map_while_told(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE);
	struct listener *self = attached(test, tries_again, &range);

	self->other = listener(test, gives_up);
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, self->told, 1);
	KUNIT_EXPECT_EQ(test, self->err[0], -ENODEV);
	KUNIT_EXPECT_EQ(test, self->err[1], -ENODEV);
	KUNIT_EXPECT_EQ(test, self->err[2], -ENODEV);
	KUNIT_EXPECT_EQ(test, self->other->told, 0);
}

static void attach_arguments(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE), none = range;
	struct listener *self = listener(test, gives_up);
	struct listener *deaf = listener(test, NULL);

	none.peer = 0;
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(NULL, &self->user), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&none, &self->user), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &deaf->user),
			-EINVAL);
	none.peer = range.peer + 1;
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&none, &self->user), -ENODEV);

	/* Nothing of that attached anybody. */
	dma_phys_peer_detach(NULL);
	dma_phys_peer_detach(&self->user);
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, self->told, 0);
}

static void h25_attached_twice(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE);
	struct listener *first = attached(test, gives_up, &range);
	struct listener *last = attached(test, gives_up, &range);

	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &first->user),
			-EINVAL);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &last->user),
			-EINVAL);

	dma_phys_peer_detach(&last->user);
	dma_phys_peer_detach(&last->user);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &last->user), 0);
	dma_phys_peer_unregister(edu.pdev, 0);
	KUNIT_EXPECT_EQ(test, first->told, 1);
	KUNIT_EXPECT_EQ(test, last->told, 1);
}

static void h25_attach_to_who_leaves(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE);
	struct dma_phys_map *map = edu_handle(test);
	struct listener *self = listener(test, gives_up);
	struct work_struct work;

	map_own(test, &range, map);
	INIT_WORK_ONSTACK(&work, take_own_back);
	queue_work(system_dfl_wq, &work);
	msleep(200);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &self->user),
			-ENODEV);
	dma_phys_unmap(map);
	flush_work(&work);
	destroy_work_on_stack(&work);

	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &self->user),
			-ENODEV);
	KUNIT_EXPECT_EQ(test, self->told, 0);
}

static void h25_detach_waits(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE);
	struct listener *self = attached(test, lingers, &range);
	struct work_struct work;

	INIT_WORK_ONSTACK(&work, take_own_back);
	queue_work(system_dfl_wq, &work);
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&self->entered,
							  10 * HZ), 0);

	/* The next peer is there already, and has to wait for its user. */
	KUNIT_EXPECT_EQ(test, dma_phys_peer_register(edu.pdev, 0), 0);
	KUNIT_EXPECT_EQ(test, mmio_phys_from_bar(edu.pdev, 0, 0, 1, &range), 0);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &self->user),
			-EINVAL);

	queue_work(system_dfl_wq, &self->detach);
	msleep(200);
	KUNIT_EXPECT_TRUE(test, work_busy(&self->detach));

	complete(&self->proceed);
	KUNIT_EXPECT_TRUE(test, ends(&self->detach));
	KUNIT_EXPECT_TRUE(test, self->left_before);
	KUNIT_EXPECT_TRUE(test, ends(&work));
	destroy_work_on_stack(&work);
	KUNIT_EXPECT_EQ(test, self->told, 1);
	KUNIT_EXPECT_EQ(test, dma_phys_peer_attach(&range, &self->user), 0);
}

/* Who detaches before its turn is gone, and its memory may be too. */
static void h25_detached_before_its_turn(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE);
	struct listener *first = attached(test, lingers, &range);
	struct listener *second = attached(test, gives_up, &range);
	struct listener *third = attached(test, gives_up, &range);
	struct work_struct work;

	INIT_WORK_ONSTACK(&work, take_own_back);
	queue_work(system_dfl_wq, &work);
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&first->entered,
							  10 * HZ), 0);
	dma_phys_peer_detach(&second->user);
	KUNIT_EXPECT_EQ(test, second->told, 0);
	memset(&second->user, POISON, sizeof(second->user));

	complete(&first->proceed);
	KUNIT_EXPECT_TRUE(test, ends(&work));
	destroy_work_on_stack(&work);
	memset(&second->user, 0, sizeof(second->user));
	KUNIT_EXPECT_EQ(test, second->told, 0);
	KUNIT_EXPECT_EQ(test, third->told, 1);
}

static void h25_detach_when_told(struct kunit *test)
{
	struct mmio_phys range = own(test, 0, PAGE_SIZE);
	struct listener *self = attached(test, detaches_itself, &range);

	leaves(test, take_own_back, self);
}

/* Attach, map, and give up when told or before: each second time. */
static int come_and_go(struct listener *self, bool stay)
{
	int err;

	err = mmio_phys_from_bar(edu.pdev, 0, 0, PAGE_SIZE, &self->range);
	if (err)
		return err;
	reinit_completion(&self->entered);
	err = dma_phys_peer_attach(&self->range, &self->user);
	if (err)
		return err;

	scoped_guard(mutex, &self->lock)
		err = dma_phys_map_mmio(edu.dev, &self->range, DMA_TO_DEVICE, 0,
					self->map);
	if (!err && stay)
		wait_for_completion(&self->entered);
	dma_phys_peer_detach(&self->user);
	dma_phys_unmap(self->map);
	return err;
}

#define COMINGS	60

/* Owner and user on two CPUs, and no order between them but the core's. */
static void h25_attach_races_with_leaving(struct kunit *test)
{
	struct listener *self = listener(test, gives_up);
	struct work_struct work;
	int mapped = 0;

	own(test, 0, PAGE_SIZE);
	for (int i = 0; i < COMINGS; i++) {
		INIT_WORK_ONSTACK(&work, take_own_back);
		queue_work(system_dfl_wq, &work);
		do {
			int err = come_and_go(self, i & 1);

			if (err && err != -ENODEV)
				KUNIT_FAIL(test, "round %d: %d", i, err);
			mapped += !err;
		} while (work_busy(&work));
		destroy_work_on_stack(&work);
		KUNIT_ASSERT_EQ(test, dma_phys_peer_register(edu.pdev, 0), 0);
	}
	kunit_info(test, "%d maps, told %d times, in %d rounds", mapped,
		   self->told, COMINGS);
	KUNIT_EXPECT_GT(test, mapped, 0);
	KUNIT_EXPECT_GT(test, self->told, 0);
}

static struct kunit_case peer_cases[] = {
	KUNIT_CASE(route_is_the_pci_cores),
	KUNIT_CASE(bytes_move_between_peers),
	KUNIT_CASE(h27_own_bar_is_on_the_bus),
	KUNIT_CASE(no_route_from_other_buses),
	KUNIT_CASE(lend_arguments),
	KUNIT_CASE(lend_without_driver),
	KUNIT_CASE(h23_no_such_bar),
	KUNIT_CASE(stale_range),
	KUNIT_CASE(owner_leaves),
	KUNIT_CASE(taking_back_waits),
	KUNIT_CASE(h25_owner_waits),
	KUNIT_CASE(references_are_dropped),
	KUNIT_CASE(h25_told_once_in_order),
	KUNIT_CASE(h25_others_are_not_told),
	KUNIT_CASE(h25_map_given_up),
	KUNIT_CASE(h25_vec_given_up),
	KUNIT_CASE(h25_owner_need_not_ask),
	KUNIT_CASE(h25_no_map_while_told),
	KUNIT_CASE(attach_arguments),
	KUNIT_CASE(h25_attached_twice),
	KUNIT_CASE(h25_attach_to_who_leaves),
	KUNIT_CASE(h25_detach_waits),
	KUNIT_CASE(h25_detached_before_its_turn),
	KUNIT_CASE(h25_detach_when_told),
	KUNIT_CASE(h25_attach_races_with_leaving),
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

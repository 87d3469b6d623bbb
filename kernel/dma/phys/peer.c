// SPDX-License-Identifier: GPL-2.0
/*
 * BARs lent to other devices, and taken back.
 *
 * Ranges name a peer by an id, maps hold a reference on it. So a range may
 * outlive its peer, and only fails to map; a map cannot: the owner's driver
 * does not finish detaching before the last map is gone. Users who hold maps for
 * long attach to the peer, and are told to give them up.
 */
#include <linux/completion.h>
#include <linux/device/devres.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/percpu-refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "internal.h"

/**
 * struct dma_phys_peer - a BAR that its owner lends to other devices
 * @ref: one for the registration, one for each map
 * @gone: completed when @ref is
 * @owner: whose BAR it is
 * @provider: the BAR as peer-to-peer DMA knows it, valid while @ref lives
 * @users: who is told when it leaves, under users_lock
 * @leaving: nobody attaches any more, under users_lock
 * @rcu: for those who looked it up without a reference
 * @id: what ranges know it by, not used again soon
 * @bar: index of the BAR
 */
struct dma_phys_peer {
	struct percpu_ref ref;
	struct completion gone;
	struct pci_dev *owner;
	struct p2pdma_provider *provider;
	struct list_head users;
	bool leaving;
	struct rcu_head rcu;
	u32 id;
	int bar;
};

/* Peers come and go under the mutex; it is not held while one is waited for. */
static DEFINE_XARRAY_ALLOC1(peers);
static DEFINE_MUTEX(peers_lock);
static u32 peers_next;

/* Of all peers: a user may outlive the peer that it attached to. */
static DEFINE_SPINLOCK(users_lock);
static DECLARE_WAIT_QUEUE_HEAD(users_told);

struct dma_phys_peer *dma_phys_peer_get(u32 id)
{
	struct dma_phys_peer *peer;

	guard(rcu)();
	peer = dma_phys_fail() ? NULL : xa_load(&peers, id);
	return peer && percpu_ref_tryget_live(&peer->ref) ? peer : NULL;
}

void dma_phys_peer_put(struct dma_phys_peer *peer)
{
	percpu_ref_put(&peer->ref);
}

/* The result is good for comparing, and for more under RCU or the mutex. */
static struct dma_phys_peer *peer_of(struct pci_dev *owner, int bar)
{
	struct dma_phys_peer *peer;
	unsigned long id;

	xa_for_each(&peers, id, peer)
		if (peer->owner == owner && peer->bar == bar)
			return peer;
	return NULL;
}

int dma_phys_peer_find(struct pci_dev *owner, int bar, u32 *id)
{
	struct dma_phys_peer *peer;

	guard(rcu)();
	peer = peer_of(owner, bar);
	if (!peer)
		return -ENODEV;
	*id = peer->id;
	return 0;
}

static int way_of(enum pci_p2pdma_map_type type,
		  struct p2pdma_provider *provider, struct dma_phys_way *way)
{
	way->peer = true;
	if (dma_phys_fail())
		return -EREMOTEIO;
	switch (type) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		way->route = DMA_PHYS_BUS;
		way->bus_offset = pci_p2pdma_bus_addr_map(provider, 0);
		return 0;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		way->route = DMA_PHYS_DIRECT;
		return 0;
	default:
		return -EREMOTEIO;
	}
}

int dma_phys_peer_way(struct dma_phys_peer *peer, struct device *dev,
		      struct dma_phys_way *way)
{
	return way_of(pci_p2pdma_map_type(peer->provider, dev), peer->provider,
		      way);
}

/* Who holds the page holds what it belongs to. */
int dma_phys_page_way(struct page *page, struct device *dev,
		      struct dma_phys_way *way)
{
	struct pci_p2pdma_map_state state = {};
	enum pci_p2pdma_map_type type = pci_p2pdma_state(&state, dev, page);

	return way_of(type, state.mem, way);
}

static void peer_released(struct percpu_ref *ref)
{
	struct dma_phys_peer *peer = container_of(ref, struct dma_phys_peer,
						  ref);

	complete(&peer->gone);
}

static bool user_attached(const struct dma_phys_peer_user *user)
{
	return user->node.next;
}

/* As it was before: it may be attached again, elsewhere in memory too. */
static void user_remove(struct dma_phys_peer_user *user)
{
	list_del(&user->node);
	user->node = (struct list_head){};
}

/*
 * Tell each user once. A user belongs to the core until its callback has
 * returned: dma_phys_peer_detach() waits for that.
 */
static void peer_revoke(struct dma_phys_peer *peer)
{
	struct dma_phys_peer_user *user;

	spin_lock_irq(&users_lock);
	peer->leaving = true;
	while ((user = list_first_entry_or_null(&peer->users, typeof(*user),
						node))) {
		user_remove(user);
		user->told_by = current;
		spin_unlock_irq(&users_lock);

		user->revoke(user);

		spin_lock_irq(&users_lock);
		user->told_by = NULL;
		wake_up_all(&users_told);
	}
	spin_unlock_irq(&users_lock);
}

/* devres runs this before it takes the provider away: that came first. */
static void peer_leave(void *data)
{
	struct dma_phys_peer *peer = data;

	scoped_guard(mutex, &peers_lock)
		xa_erase(&peers, peer->id);
	percpu_ref_kill(&peer->ref);
	peer_revoke(peer);
	wait_for_completion(&peer->gone);
	percpu_ref_exit(&peer->ref);
	kfree_rcu(peer, rcu);
}

static int peer_enter(struct pci_dev *owner, int bar,
		      struct p2pdma_provider *provider)
{
	struct dma_phys_peer *peer;
	int err;

	peer = dma_phys_fail() ? NULL : kzalloc_obj(*peer);
	if (!peer)
		return -ENOMEM;

	init_completion(&peer->gone);
	INIT_LIST_HEAD(&peer->users);
	peer->owner = owner;
	peer->provider = provider;
	peer->bar = bar;

	err = dma_phys_fail() ? -ENOMEM :
	      percpu_ref_init(&peer->ref, peer_released, 0, GFP_KERNEL);
	if (err)
		goto err_free;

	/* 1 says that ids began anew: one that is in use is still skipped. */
	err = dma_phys_fail() ? -ENOMEM :
	      xa_alloc_cyclic(&peers, &peer->id, NULL, xa_limit_32b,
			      &peers_next, GFP_KERNEL);
	if (err < 0)
		goto err_ref;

	err = devm_add_action(&owner->dev, peer_leave, peer);
	if (err)
		goto err_id;

	/* Found by others only now that all is set, in the place kept for it. */
	xa_store(&peers, peer->id, peer, GFP_KERNEL);
	return 0;

err_id:
	xa_erase(&peers, peer->id);
err_ref:
	percpu_ref_exit(&peer->ref);
err_free:
	kfree(peer);
	return err;
}

/**
 * dma_phys_peer_register() - lend a BAR to other devices
 * @owner: the device that owns the BAR; the caller is its driver
 * @bar: index of the BAR, 0 to 5
 *
 * Until dma_phys_peer_unregister(), mmio_phys_from_bar() gives ranges of the BAR,
 * and other devices may map them. A driver that forgets to take the BAR back
 * does so when it has detached, after its remove(); both wait until the last map
 * is gone.
 *
 * Context: Process, may sleep, with a driver bound to @owner, in its probe or
 * later.
 * Return:
 * * 0 - the BAR is lent
 * * -EINVAL - no such BAR, or it is not memory with an address
 * * -ENODEV - no driver is bound to @owner
 * * -EEXIST - the BAR is lent already
 * * -EOPNOTSUPP - the device's BARs cannot be mapped
 * * -ENOMEM - no memory for the peer
 */
int dma_phys_peer_register(struct pci_dev *owner, int bar)
{
	struct p2pdma_provider *provider;
	int err;

	if (!owner || bar < 0 || bar >= PCI_STD_NUM_BARS)
		return -EINVAL;
	if (!(pci_resource_flags(owner, bar) & IORESOURCE_MEM) ||
	    pci_resource_flags(owner, bar) & IORESOURCE_UNSET ||
	    !pci_resource_len(owner, bar))
		return -EINVAL;
	if (!owner->dev.driver)
		return -ENODEV;

	guard(mutex)(&peers_lock);
	if (peer_of(owner, bar))
		return -EEXIST;

	err = pcim_p2pdma_init(owner);
	if (err)
		return err;

	provider = pcim_p2pdma_provider(owner, bar);
	if (!provider)
		return -EOPNOTSUPP;

	return peer_enter(owner, bar, provider);
}
EXPORT_SYMBOL_GPL(dma_phys_peer_register);

/**
 * dma_phys_peer_unregister() - take a lent BAR back
 * @owner: the device that owns the BAR
 * @bar: index of the BAR
 *
 * New maps fail with -ENODEV from here on. Tells who attached to the peer, one
 * after the other, and waits until the last map is gone.
 * Does nothing for a BAR that is not lent, or that is being taken back already.
 * Call it first in remove(), while the device still answers its users.
 *
 * Context: Process, may sleep for as long as a map is held.
 */
void dma_phys_peer_unregister(struct pci_dev *owner, int bar)
{
	struct dma_phys_peer *peer;

	if (!owner)
		return;

	/* Of two who try at once, one finds the action, and runs it. */
	scoped_guard(mutex, &peers_lock) {
		peer = peer_of(owner, bar);
		if (!peer || devm_remove_action_nowarn(&owner->dev, peer_leave,
						       peer))
			return;
	}
	peer_leave(peer);
}
EXPORT_SYMBOL_GPL(dma_phys_peer_unregister);

/**
 * dma_phys_peer_attach() - ask to be told when a peer leaves
 * @range: a range of the peer
 * @user: who is told; zeroed memory but for its callback
 *
 * For who holds maps of a peer's ranges for longer than a transfer: without it
 * the owner's removal waits for as long as they are held. Attach first, then
 * map. When the peer leaves, the callback runs once, in process context, after
 * those of users that attached earlier. It undoes all maps of the peer that
 * @user stands for, or sees to it that they are undone soon, and may sleep. A map
 * that begins after the callback fails with -ENODEV; one that is being made
 * meanwhile may succeed, so the callback takes the lock under which @user maps.
 * It may run before this returns, and holds the owner's device lock where the
 * owner's driver detaches.
 *
 * @user stays in place until dma_phys_peer_detach() has returned, and may then
 * be attached again.
 *
 * Context: Any.
 * Return:
 * * 0 - @user will be told
 * * -EINVAL - the range belongs to no peer, @user has no callback, is attached
 *   already or is being told, or a pointer is NULL
 * * -ENODEV - the peer is gone, or is leaving
 */
int dma_phys_peer_attach(const struct mmio_phys *range,
			 struct dma_phys_peer_user *user)
{
	struct dma_phys_peer *peer;
	int err = 0;

	if (!range || !range->peer || !user || !user->revoke)
		return -EINVAL;

	peer = dma_phys_peer_get(range->peer);
	if (!peer)
		return -ENODEV;

	scoped_guard(spinlock_irqsave, &users_lock) {
		if (user_attached(user) || user->told_by)
			err = -EINVAL;
		else if (peer->leaving)
			err = -ENODEV;
		else
			list_add_tail(&user->node, &peer->users);
	}
	dma_phys_peer_put(peer);
	return err;
}
EXPORT_SYMBOL_GPL(dma_phys_peer_attach);

/* Whether its callback has returned, or is what asks. */
static bool user_is_told(struct dma_phys_peer_user *user)
{
	guard(spinlock_irq)(&users_lock);
	return !user->told_by || user->told_by == current;
}

/**
 * dma_phys_peer_detach() - be told no more
 * @user: as given to dma_phys_peer_attach()
 *
 * When this returns the callback will not run, and does not run on another CPU;
 * @user may be freed, unless this was called by its own callback. Does nothing
 * where @user is NULL, is not attached, or was told already. The caller holds no
 * lock that the callback takes.
 *
 * Context: Process, may sleep for as long as the callback runs.
 */
void dma_phys_peer_detach(struct dma_phys_peer_user *user)
{
	if (!user)
		return;

	scoped_guard(spinlock_irq, &users_lock)
		if (user_attached(user))
			user_remove(user);
	wait_event(users_told, user_is_told(user));
}
EXPORT_SYMBOL_GPL(dma_phys_peer_detach);

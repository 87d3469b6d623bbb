// SPDX-License-Identifier: GPL-2.0
/*
 * BARs that are shared with other devices.
 *
 * A range names its peer by an id, a map holds a reference on the peer. A peer
 * that is found in the xarray is registered. If its reference counter is dying
 * as well, the peer is suspended.
 */
#include <linux/array_size.h>
#include <linux/device/devres.h>
#include <linux/dma-phys-peer.h>
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/jiffies.h>
#include <linux/mutex.h>
#include <linux/pci-p2pdma.h>
#include <linux/pci.h>
#include <linux/percpu-refcount.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "internal.h"

/**
 * struct dma_phys_peer - a BAR that its owner shares with other devices
 * @ref: held by each map, by each suspend that revokes clients, and by the
 *	registration unless the peer is suspended
 * @owner: the device that owns the BAR
 * @provider: the BAR in the PCI P2PDMA core, valid while @ref is held
 * @clients: attached clients, under clients_lock
 * @id: names the peer in ranges; not reused before the ids wrap around
 * @bar: index of the BAR
 */
struct dma_phys_peer {
	struct percpu_ref ref;
	struct pci_dev *owner;
	struct p2pdma_provider *provider;
	struct list_head clients;
	u32 id;
	int bar;
};

/*
 * Peers are registered, suspended, resumed and unregistered under the mutex. It
 * is not held while a callback runs or maps are waited for.
 */
static DEFINE_MUTEX(peers_lock);
static DEFINE_XARRAY_ALLOC1(peers);
static u32 peers_next;
/* The newest peer of those whose ids end alike: most lookups need no more. */
static struct dma_phys_peer __rcu *peers_newest[16];

static struct dma_phys_peer __rcu **peer_newest(u32 id)
{
	return &peers_newest[id % ARRAY_SIZE(peers_newest)];
}

/* Woken if the last reference of a peer is put, and if one is unregistered. */
static DECLARE_WAIT_QUEUE_HEAD(peers_wait);

/* One lock for the clients of all peers: a client can outlive its peer. */
static DEFINE_SPINLOCK(clients_lock);
static DECLARE_WAIT_QUEUE_HEAD(clients_wait);

noinline struct dma_phys_peer *dma_phys_peer_get(u32 id)
{
	struct dma_phys_peer *peer;

	guard(rcu)();
	peer = rcu_dereference(*peer_newest(id));
	if (unlikely(!peer) || unlikely(peer->id != id))
		peer = xa_load(&peers, id);
	if (!peer || dma_phys_fail())
		return ERR_PTR(-ENODEV);
	/* Suspended, or unregistered meanwhile. */
	if (unlikely(!percpu_ref_tryget_live_rcu(&peer->ref)))
		return ERR_PTR(xa_load(&peers, id) ? -EAGAIN : -ENODEV);
	return peer;
}

noinline void dma_phys_peer_put(struct dma_phys_peer *peer)
{
	percpu_ref_put(&peer->ref);
}

/* The caller holds peers_lock, or uses the result under RCU only. */
static noinline struct dma_phys_peer *peer_lookup(struct pci_dev *owner,
						  int bar)
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
	peer = peer_lookup(owner, bar);
	if (!peer)
		return -ENODEV;
	*id = peer->id;
	return 0;
}

/* The only use of pci_p2pdma_map_type(), which is not exported to modules. */
int dma_phys_peer_path(struct dma_phys_peer *peer, struct device *dev,
		       struct dma_phys_p2p_path *path)
{
	if (dma_phys_fail())
		return -EREMOTEIO;

	switch (pci_p2pdma_map_type(peer->provider, dev)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		path->route = DMA_PHYS_BUS;
		path->bus_offset = pci_p2pdma_bus_addr_map(peer->provider, 0);
		return 0;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		path->route = DMA_PHYS_DIRECT;
		path->bus_offset = 0;
		return 0;
	default:
		return -EREMOTEIO;
	}
}

static void peer_released(struct percpu_ref *ref)
{
	wake_up_all(&peers_wait);
}

/* A detached client has a zeroed node: it may be moved and attached again. */
static void client_remove(struct dma_phys_peer_client *client)
{
	list_del(&client->node);
	client->node = (struct list_head){};
}

/*
 * Revoke all clients that are attached now. The core uses a client until its
 * callback has returned: dma_phys_peer_detach() waits for that. Clients that
 * attach after a resume are not among these.
 */
static void peer_revoke(struct dma_phys_peer *peer)
{
	struct dma_phys_peer_client *client;
	LIST_HEAD(clients);

	spin_lock_irq(&clients_lock);
	list_splice_init(&peer->clients, &clients);
	while ((client = list_first_entry_or_null(&clients, typeof(*client),
						  node))) {
		client_remove(client);
		client->revoking_task = current;
		spin_unlock_irq(&clients_lock);

		client->revoke(client);

		spin_lock_irq(&clients_lock);
		client->revoking_task = NULL;
		wake_up_all(&clients_wait);
	}
	spin_unlock_irq(&clients_lock);
}

/* If @peer may be freed meanwhile, it is NULL and @id is looked up. */
static noinline bool peer_is_idle(struct dma_phys_peer *peer, u32 id)
{
	guard(rcu)();
	peer = peer ?: xa_load(&peers, id);
	return !peer || percpu_ref_is_zero(&peer->ref);
}

/* Idle sleep: a leaked map is logged by peer_remove(), not as a hung task. */
static noinline bool peer_wait_idle(struct dma_phys_peer *peer, u32 id,
				    long timeout)
{
	return wait_event_idle_timeout(peers_wait, peer_is_idle(peer, id),
				       timeout);
}

/* A devres action: it runs before devres frees @provider, which is older. */
static void peer_remove(void *data)
{
	struct dma_phys_peer *peer = data;
	long timeout = 10 * HZ;

	scoped_guard(mutex, &peers_lock) {
		if (rcu_access_pointer(*peer_newest(peer->id)) == peer)
			RCU_INIT_POINTER(*peer_newest(peer->id), NULL);
		xa_erase(&peers, peer->id);
		if (!percpu_ref_is_dying(&peer->ref))
			percpu_ref_kill(&peer->ref);
	}
	wake_up_all(&peers_wait);

	peer_revoke(peer);
	while (!peer_wait_idle(peer, peer->id, timeout)) {
		pci_warn(peer->owner, "dma-phys: removal waits: BAR %d is still mapped by other devices\n",
			 peer->bar);
		timeout = 600 * HZ;
	}

	/* Lookups and the last put may still use the peer under RCU. */
	synchronize_rcu();
	percpu_ref_exit(&peer->ref);
	kfree(peer);
}

static int peer_add(struct pci_dev *owner, int bar,
		    struct p2pdma_provider *provider)
{
	struct dma_phys_peer *peer;
	int err;

	peer = dma_phys_fail() ? NULL : kzalloc_obj(*peer);
	if (!peer)
		return -ENOMEM;

	INIT_LIST_HEAD(&peer->clients);
	peer->owner = owner;
	peer->provider = provider;
	peer->bar = bar;

	err = dma_phys_fail() ? -ENOMEM :
	      percpu_ref_init(&peer->ref, peer_released,
			      PERCPU_REF_ALLOW_REINIT, GFP_KERNEL);
	if (err)
		goto err_free;

	err = devm_add_action(&owner->dev, peer_remove, peer);
	if (err)
		goto err_ref;

	/* Makes the peer visible. 1 means that the ids wrapped around. */
	err = dma_phys_fail() ? -ENOMEM :
	      xa_alloc_cyclic(&peers, &peer->id, peer, xa_limit_32b,
			      &peers_next, GFP_KERNEL);
	if (err >= 0) {
		rcu_assign_pointer(*peer_newest(peer->id), peer);
		return 0;
	}

	/* If devres is being released, peer_remove() frees the peer. */
	if (devm_remove_action_nowarn(&owner->dev, peer_remove, peer))
		return err;
err_ref:
	percpu_ref_exit(&peer->ref);
err_free:
	kfree(peer);
	return err;
}

/**
 * dma_phys_peer_register() - share a BAR with other devices
 * @owner: the device that owns the BAR; the caller is its driver
 * @bar: index of the BAR, 0 to 5
 *
 * If the driver does not unregister the BAR, devres does, after remove().
 *
 * Context: Process, may sleep. A driver is bound to @owner: in its probe() or
 * later.
 * Return:
 * * 0 - the BAR is shared
 * * -EINVAL - no such BAR, or it is not memory with an address
 * * -ENODEV - no driver is bound to @owner
 * * -EEXIST - the BAR is already shared
 * * -EOPNOTSUPP - the BARs of the device cannot be mapped, or the kernel has no
 *   CONFIG_PCI_P2PDMA
 * * -ENOMEM - no memory for the peer
 */
int dma_phys_peer_register(struct pci_dev *owner, int bar)
{
	struct p2pdma_provider *provider;
	int err;

	if (!owner || bar < 0 || bar >= PCI_STD_NUM_BARS ||
	    !(pci_resource_flags(owner, bar) & IORESOURCE_MEM) ||
	    pci_resource_flags(owner, bar) & IORESOURCE_UNSET ||
	    !pci_resource_len(owner, bar))
		return -EINVAL;
	if (!owner->dev.driver)
		return -ENODEV;

	guard(mutex)(&peers_lock);
	if (peer_lookup(owner, bar))
		return -EEXIST;

	err = pcim_p2pdma_init(owner);
	if (err)
		return err;

	provider = pcim_p2pdma_provider(owner, bar);
	if (!provider)
		return -EOPNOTSUPP;

	return peer_add(owner, bar, provider);
}
EXPORT_SYMBOL_GPL(dma_phys_peer_register);

/**
 * dma_phys_peer_unregister() - stop sharing a BAR
 * @owner: the device that owns the BAR
 * @bar: index of the BAR
 *
 * Revokes the attached clients, and waits for the last unmap. Does nothing if
 * the BAR is not shared or is already being unregistered. A suspended peer need
 * not be resumed before.
 *
 * Context: Process, may sleep for as long as a map is held. The caller holds no
 * lock that a callback takes.
 */
void dma_phys_peer_unregister(struct pci_dev *owner, int bar)
{
	struct dma_phys_peer *peer;

	/* Only one of two callers can remove the action, and runs it. */
	scoped_guard(mutex, &peers_lock) {
		peer = peer_lookup(owner, bar);
		if (!peer || devm_remove_action_nowarn(&owner->dev, peer_remove,
						       peer))
			return;
	}
	peer_remove(peer);
}
EXPORT_SYMBOL_GPL(dma_phys_peer_unregister);

/**
 * dma_phys_peer_suspend() - stop the use of a shared BAR, before a reset
 * @owner: the device that owns the BAR
 * @bar: index of the BAR
 * @timeout_ms: how long to wait for the last unmap, in milliseconds; less than
 *	100 is taken as 100
 *
 * Until dma_phys_peer_resume(), maps of the BAR and dma_phys_peer_attach()
 * return -EAGAIN. Revokes the attached clients, and waits for the last unmap.
 * After -ETIMEDOUT the peer is suspended too. A second call waits again.
 *
 * Context: Process, may sleep: for the callbacks and an RCU grace period, then
 * for at most @timeout_ms. The caller holds no lock that a callback takes.
 * Return:
 * * 0 - no map is held, and none is made before dma_phys_peer_resume()
 * * -ENODEV - the BAR is not shared, or was unregistered meanwhile
 * * -ETIMEDOUT - a map is still held
 */
int dma_phys_peer_suspend(struct pci_dev *owner, int bar,
			  unsigned int timeout_ms)
{
	struct dma_phys_peer *peer;
	long timeout;
	u32 id;

	scoped_guard(mutex, &peers_lock) {
		peer = peer_lookup(owner, bar);
		if (!peer)
			return -ENODEV;
		percpu_ref_get(&peer->ref);
		if (!percpu_ref_is_dying(&peer->ref)) {
			percpu_ref_kill(&peer->ref);
			/* After this no CPU takes a new reference. */
			percpu_ref_switch_to_atomic_sync(&peer->ref);
		}
	}

	id = peer->id;
	peer_revoke(peer);
	/* Unregistering may free the peer from here on. */
	dma_phys_peer_put(peer);

	/* percpu_ref puts a reference of its own a moment after the switch. */
	timeout = max_t(long, msecs_to_jiffies(timeout_ms), HZ / 10);
	if (!peer_wait_idle(NULL, id, timeout))
		return -ETIMEDOUT;
	return xa_load(&peers, id) ? 0 : -ENODEV;
}
EXPORT_SYMBOL_GPL(dma_phys_peer_suspend);

/**
 * dma_phys_peer_resume() - allow the use of a shared BAR again
 * @owner: the device that owns the BAR
 * @bar: index of the BAR
 *
 * Clients that were revoked are not notified. Does nothing if the BAR is not
 * shared or not suspended.
 *
 * Context: Process, may sleep. Takes no device lock.
 */
void dma_phys_peer_resume(struct pci_dev *owner, int bar)
{
	struct dma_phys_peer *peer;

	guard(mutex)(&peers_lock);
	peer = peer_lookup(owner, bar);
	if (peer && percpu_ref_is_dying(&peer->ref)) {
		percpu_ref_switch_to_percpu(&peer->ref);
		percpu_ref_resurrect(&peer->ref);
	}
}
EXPORT_SYMBOL_GPL(dma_phys_peer_resume);

/**
 * dma_phys_peer_attach() - ask to be revoked before a peer goes away
 * @range: a range of the peer
 * @client: the client; zeroed memory except for its callback
 *
 * Attach first, then map. When the peer is unregistered or suspended, the
 * callback runs once, in process context, and may sleep. It unmaps all maps of
 * the peer that @client stands for, or causes them to be unmapped soon. It
 * takes the lock under which the driver maps, and no device lock. It may run
 * before this function returns. @client must not move until
 * dma_phys_peer_detach() has returned. After its callback, @client is detached
 * and may be attached again.
 *
 * Context: Any.
 * Return:
 * * 0 - @client will be revoked
 * * -EINVAL - the range belongs to no peer; @client has no callback, is already
 *   attached or is being revoked; or a pointer is NULL
 * * -ENODEV - the peer is gone, or is being unregistered
 * * -EAGAIN - the peer is suspended
 */
int dma_phys_peer_attach(const struct mmio_phys *range,
			 struct dma_phys_peer_client *client)
{
	struct dma_phys_peer *peer;
	int err = 0;

	if (!range || !range->peer || !client || !client->revoke)
		return -EINVAL;

	/* Live under the lock: peer_revoke() comes later, and finds @client. */
	guard(spinlock_irqsave)(&clients_lock);
	peer = dma_phys_peer_get(range->peer);
	if (IS_ERR(peer))
		return PTR_ERR(peer);

	if (client->node.next || client->revoking_task)
		err = -EINVAL;
	else
		list_add_tail(&client->node, &peer->clients);
	dma_phys_peer_put(peer);
	return err;
}
EXPORT_SYMBOL_GPL(dma_phys_peer_attach);

/**
 * dma_phys_peer_detach() - no longer be revoked
 * @client: as given to dma_phys_peer_attach()
 *
 * After this the callback does not run on any CPU and will not run, and @client
 * may be freed. A call from the callback does not wait: the core still uses
 * @client when the callback returns, so it may be freed only after another call
 * from elsewhere. Does nothing if @client is NULL, not attached, or already
 * revoked.
 *
 * Context: Process, may sleep for as long as the callback runs. The caller holds
 * no lock that the callback takes.
 */
void dma_phys_peer_detach(struct dma_phys_peer_client *client)
{
	if (!client)
		return;

	guard(spinlock_irq)(&clients_lock);
	if (client->node.next)
		client_remove(client);
	/* Until the callback has returned, unless it is the caller. */
	wait_event_lock_irq(clients_wait,
			    !client->revoking_task ||
			    client->revoking_task == current,
			    clients_lock);
}
EXPORT_SYMBOL_GPL(dma_phys_peer_detach);

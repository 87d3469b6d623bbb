// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer registers, suspends and unregisters peers, and attaches to them.
 */
#include <linux/time64.h>

#include "fuzz.h"

static bool fuzz_is_held(struct fuzz *fuzz, const struct fuzz_peer *peer)
{
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++)
		if (fuzz->handle[i].peer == peer)
			return true;
	return false;
}

/* The callback of the client unmaps all maps of the peer. */
static void fuzz_revoke(struct dma_phys_peer_client *client)
{
	struct fuzz_peer *peer = container_of(client, struct fuzz_peer, client);
	struct fuzz *fuzz = peer->fuzz;

	peer->revoked++;
	for (unsigned int i = 0; i < FUZZ_HANDLES; i++)
		if (fuzz->handle[i].peer == peer)
			fuzz_unmap(fuzz, &fuzz->handle[i]);
	fuzz_done(fuzz, FUZZ_REVOKED, 0, peer->attached ? FUZZ_OK : 0);
}

/* A client that was attached was revoked once, and has unmapped all. */
static void fuzz_check_revoked(struct fuzz *fuzz, struct fuzz_peer *peer)
{
	if (peer->revoked != peer->attached)
		fuzz_error(fuzz, "the client was revoked %u times, expected %u",
			   peer->revoked, peer->attached);
	if (peer->attached && fuzz_is_held(fuzz, peer))
		fuzz_error(fuzz, "the client has not unmapped");
	peer->attached = false;
}

static void fuzz_step_register(struct fuzz *fuzz)
{
	static const int bad[] = { -1, 1, 5, 6, 1000, INT_MIN };
	struct fuzz_peer *peer = &fuzz->peer[fuzz_below(fuzz, 2)];
	int bar = fuzz_one_in(fuzz, 4) ? fuzz_any(fuzz, bad) : peer->bar, err;
	struct pci_dev *owner = fuzz_one_in(fuzz, 16) ? NULL : peer->owner;
	struct mmio_phys range = {};
	u32 allowed = FUZZ_OK;

	if (peer->shared)
		allowed = fuzz_bit(-EEXIST);
	if (!fuzz_is_memory_bar(owner, bar))
		allowed = FUZZ_EINVAL;
	err = dma_phys_peer_register(owner, bar);
	fuzz_done(fuzz, FUZZ_REGISTER, err, allowed);
	if (err || !fuzz_good(fuzz))
		return;

	err = mmio_phys_from_bar(owner, bar, 0, PAGE_SIZE, &range);
	fuzz_done(fuzz, FUZZ_FROM_BAR, err, FUZZ_OK);
	if (!range.peer || range.peer == peer->id)
		fuzz_error(fuzz, "the id of the peer is %u, and was %u",
			   range.peer, peer->id);
	peer->shared = true;
	peer->suspended = false;
	peer->id = range.peer;
}

void fuzz_unregister(struct fuzz *fuzz, struct fuzz_peer *peer)
{
	/* It would wait for the maps. */
	if (fuzz_is_held(fuzz, peer) && !peer->attached)
		return;

	fuzz_edu_finish(fuzz);
	peer->revoked = 0;
	peer->shared = false;
	peer->suspended = false;
	dma_phys_peer_unregister(peer->owner, peer->bar);
	fuzz_done(fuzz, FUZZ_UNREGISTER, 0, FUZZ_OK);
	fuzz_check_revoked(fuzz, peer);
}

static void fuzz_step_unregister(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[fuzz_below(fuzz, 2)];

	if (fuzz_one_in(fuzz, 4)) {
		dma_phys_peer_unregister(fuzz_one_in(fuzz, 2) ? NULL :
								peer->owner,
					 fuzz_one_in(fuzz, 2) ? -1 : 6);
		fuzz_done(fuzz, FUZZ_UNREGISTER, 0, FUZZ_OK);
		return;
	}
	fuzz_unregister(fuzz, peer);
}

/* If a map is held that no client unmaps, suspend times out. */
static void fuzz_step_suspend(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[fuzz_below(fuzz, 2)];
	unsigned int timeout_ms = fuzz_below(fuzz, 3);
	u32 allowed = FUZZ_OK;
	int err;

	if (fuzz_one_in(fuzz, 8)) {
		err = dma_phys_peer_suspend(fuzz_one_in(fuzz, 2) ? NULL :
								   peer->owner,
					    -1, timeout_ms);
		fuzz_done(fuzz, FUZZ_SUSPEND, err, fuzz_bit(-ENODEV));
		return;
	}
	if (!peer->shared)
		allowed = fuzz_bit(-ENODEV);
	else if (fuzz_is_held(fuzz, peer) && !peer->attached)
		allowed = fuzz_bit(-ETIMEDOUT);
	else
		timeout_ms = 10 * MSEC_PER_SEC;

	fuzz_edu_finish(fuzz);
	peer->revoked = 0;
	peer->suspended = peer->shared;
	err = dma_phys_peer_suspend(peer->owner, peer->bar, timeout_ms);
	fuzz_done(fuzz, FUZZ_SUSPEND, err, allowed);
	if (peer->shared)
		fuzz_check_revoked(fuzz, peer);
}

static void fuzz_step_resume(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[fuzz_below(fuzz, 2)];

	if (fuzz_one_in(fuzz, 8)) {
		dma_phys_peer_resume(NULL, 0);
	} else {
		dma_phys_peer_resume(peer->owner, peer->bar);
		peer->suspended = false;
	}
	fuzz_done(fuzz, FUZZ_RESUME, 0, FUZZ_OK);
}

static void fuzz_step_attach(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[fuzz_below(fuzz, 2)];
	struct mmio_phys range = { .peer = fuzz_one_in(fuzz, 8) ? 0 : peer->id };
	bool no_range = fuzz_one_in(fuzz, 16), no_client = fuzz_one_in(fuzz, 16);
	u32 allowed = 0;
	int err;

	if (no_range || no_client || !range.peer || peer->attached)
		allowed |= FUZZ_EINVAL;
	if (range.peer && !peer->shared)
		allowed |= fuzz_bit(-ENODEV);
	if (range.peer && peer->suspended)
		allowed |= fuzz_bit(-EAGAIN);
	peer->client.revoke = fuzz_revoke;
	err = dma_phys_peer_attach(no_range ? NULL : &range,
				   no_client ? NULL : &peer->client);
	fuzz_done(fuzz, FUZZ_ATTACH, err, allowed ?: FUZZ_OK);
	if (!err)
		peer->attached = true;
}

static void fuzz_step_detach(struct fuzz *fuzz)
{
	struct fuzz_peer *peer = &fuzz->peer[fuzz_below(fuzz, 2)];

	if (fuzz_one_in(fuzz, 8)) {
		dma_phys_peer_detach(NULL);
	} else {
		dma_phys_peer_detach(&peer->client);
		peer->attached = false;
	}
	fuzz_done(fuzz, FUZZ_DETACH, 0, FUZZ_OK);
}

void fuzz_step_peer(struct fuzz *fuzz)
{
	switch (fuzz_below(fuzz, 16)) {
	case 0 ... 4:
		fuzz_step_register(fuzz);
		break;
	case 5:
		fuzz_step_unregister(fuzz);
		break;
	case 6:
		fuzz_step_suspend(fuzz);
		break;
	case 7 ... 8:
		fuzz_step_resume(fuzz);
		break;
	case 9 ... 13:
		fuzz_step_attach(fuzz);
		break;
	default:
		fuzz_step_detach(fuzz);
	}
}

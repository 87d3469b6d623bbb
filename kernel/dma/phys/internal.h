/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the rooms of the core tell each other. Arrows go one way:
 * map -> route -> peer -> range.
 */
#ifndef _KERNEL_DMA_PHYS_INTERNAL_H
#define _KERNEL_DMA_PHYS_INTERNAL_H

#include <linux/dma-phys.h>
#include <linux/errno.h>

struct dma_phys_peer;

/* In dma_phys_map.flags, beside the caller's: @undo is a bounce slot. */
#define DMA_PHYS_BOUNCED	BIT(7)

/* Attributes that dma-debug, tracing and legacy ops know a map by. */
unsigned long dma_phys_attrs(const struct dma_phys_map *map);

/*
 * Reach a range of map->size bytes at @phys: choose the route, do what it
 * takes, and fill in addr, undo, route and flags. All else in @map is set.
 */
int dma_phys_route_cpu(struct dma_phys_map *map, phys_addr_t phys);
int dma_phys_route_mmio(struct dma_phys_map *map, phys_addr_t phys, u32 peer);

/*
 * Undo what the map's record says was done, whatever the device is now. False
 * where the device has lost what was done: then nothing is touched.
 */
bool dma_phys_route_undo(struct dma_phys_map *map);

/* Give @len bytes at @offset to one side. The bounds are checked. */
void dma_phys_route_sync_for_cpu(const struct dma_phys_map *map, size_t offset,
				 size_t len);
void dma_phys_route_sync_for_device(const struct dma_phys_map *map,
				    size_t offset, size_t len);

/* Peer with @id, held until dma_phys_peer_put(), NULL where it is gone. */
struct dma_phys_peer *dma_phys_peer_get(u32 id);
void dma_phys_peer_put(struct dma_phys_peer *peer);
int dma_phys_peer_find(struct pci_dev *owner, int bar, u32 *id);

/*
 * How @dev reaches @peer: DMA_PHYS_BUS with the bus address of @phys in @addr,
 * DMA_PHYS_DIRECT where the host bridge forwards it as any other address,
 * -EREMOTEIO where nothing does.
 */
int dma_phys_peer_route(struct dma_phys_peer *peer, struct device *dev,
			phys_addr_t phys, dma_addr_t *addr);

#endif /* _KERNEL_DMA_PHYS_INTERNAL_H */

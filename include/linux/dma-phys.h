/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Give a device a physical address: typed ranges in, one handle out.
 *
 *	struct cpu_phys range;
 *	struct dma_phys_map map = {};
 *
 *	err = cpu_phys_from_virt(buf, len, &range);
 *	err = err ?: dma_phys_map_cpu(dev, &range, DMA_FROM_DEVICE, 0, &map);
 *	...				the device works on map.addr
 *	dma_phys_unmap(&map);
 *
 * Everything here is a real function returning 0 or a negative errno; the
 * table of errors is in Documentation/core-api/dma-phys.rst.
 */
#ifndef _LINUX_DMA_PHYS_H
#define _LINUX_DMA_PHYS_H

#include <linux/bits.h>
#include <linux/dma-direction.h>
#include <linux/types.h>

struct device;
struct page;
struct pci_dev;
struct request;
struct resource;
struct task_struct;

/**
 * struct cpu_phys - a range of memory that the CPU caches
 * @addr: physical address of the first byte
 * @len: length in bytes, never 0
 *
 * Made by cpu_phys_from_page(), cpu_phys_from_virt(), cpu_phys_from_addr().
 */
struct cpu_phys {
	phys_addr_t addr;
	size_t len;
};

/**
 * struct mmio_phys - a range of device memory
 * @addr: physical address of the first byte, as the CPU sees it
 * @len: length in bytes, never 0
 * @peer: the peer that lends it, 0 where it belongs to none
 *
 * Made by mmio_phys_from_bar() and mmio_phys_from_resource().
 */
struct mmio_phys {
	phys_addr_t addr;
	size_t len;
	u32 peer;
};

/**
 * enum dma_phys_kind - what a map's range is made of
 * @DMA_PHYS_CPU: cacheable memory
 * @DMA_PHYS_MMIO: device memory: no kmap, no cache maintenance
 */
enum dma_phys_kind {
	DMA_PHYS_CPU,
	DMA_PHYS_MMIO,
};

/**
 * enum dma_phys_route - how the device reaches a map's range
 * @DMA_PHYS_NONE: it does not, the handle maps nothing
 * @DMA_PHYS_DIRECT: at its physical address, translated by arithmetic
 * @DMA_PHYS_BOUNCE: through a copy in a bounce slot (swiotlb)
 * @DMA_PHYS_IOMMU: through an IOVA
 * @DMA_PHYS_OPS: through the device's legacy dma_map_ops
 * @DMA_PHYS_BUS: at the peer's PCI bus address, below the host bridge
 */
enum dma_phys_route {
	DMA_PHYS_NONE,
	DMA_PHYS_DIRECT,
	DMA_PHYS_BOUNCE,
	DMA_PHYS_IOMMU,
	DMA_PHYS_OPS,
	DMA_PHYS_BUS,
};

/*
 * The only flag: map and unmap do not move ownership between CPU and device.
 * Who sets it must call dma_phys_sync_for_device() before the device reads and
 * dma_phys_sync_for_cpu() before the CPU reads; on a bounce route data that is
 * not synced is lost.
 */
#define DMA_PHYS_MANUAL_SYNC	BIT(0)

/**
 * struct dma_phys_map - one range made reachable for one device
 * @dev: the device, NULL where the handle maps nothing
 * @addr: where the device finds the first byte
 * @size: length in bytes
 * @undo: for the core: physical address (CPU), where unmap needs it, or peer
 *	(MMIO)
 * @dir: enum dma_data_direction
 * @kind: enum dma_phys_kind
 * @route: enum dma_phys_route
 * @flags: DMA_PHYS_MANUAL_SYNC, and what the core adds
 * @id: for the core: what CONFIG_DMA_PHYS_DEBUG knows it by, else 0
 *
 * Zeroed memory is a handle that maps nothing. Read @addr and @size; the core
 * alone writes.
 */
struct dma_phys_map {
	struct device *dev;
	dma_addr_t addr;
	size_t size;
	u64 undo;
	u8 dir;
	u8 kind;
	u8 route;
	u8 flags;
	u32 id;
};

/**
 * struct dma_phys_segment - one run of DMA addresses
 * @addr: where the device finds the first byte
 * @len: length in bytes
 */
struct dma_phys_segment {
	dma_addr_t addr;
	size_t len;
};

/**
 * struct dma_phys_vec - many ranges made reachable for one device
 * @dev: the device, NULL where the vec maps nothing
 * @segments: storage, given by the caller: where the device finds the bytes
 * @room: segments that the storage holds, see dma_phys_vec_room()
 * @count: segments in use
 * @size: length of all segments in bytes
 * @pieces: for the core: records that it keeps at the end of the storage
 * @undo: for the core: the peer
 * @dir: enum dma_data_direction
 * @kind: enum dma_phys_kind
 * @route: enum dma_phys_route; where some of the ranges bounce, DMA_PHYS_BOUNCE
 * @flags: DMA_PHYS_MANUAL_SYNC, and what the core adds
 * @id: for the core: what CONFIG_DMA_PHYS_DEBUG knows it by, else 0
 *
 * With nothing but @segments and @room set it is a vec that maps nothing. They
 * stay when it is unmapped, all else is cleared.
 */
struct dma_phys_vec {
	struct device *dev;
	struct dma_phys_segment *segments;
	size_t room;
	size_t count;
	size_t size;
	size_t pieces;
	u64 undo;
	u8 dir;
	u8 kind;
	u8 route;
	u8 flags;
	u32 id;
};

/**
 * struct dma_phys_peer_user - who is told when a peer leaves
 * @revoke: gives up all maps of the peer, see dma_phys_peer_attach()
 * @node: for the core
 * @told_by: for the core
 *
 * Zeroed memory with a callback is a user that is not attached.
 */
struct dma_phys_peer_user {
	void (*revoke)(struct dma_phys_peer_user *user);
	struct list_head node;
	struct task_struct *told_by;
};

/* What is this address? (range.c) */
int cpu_phys_from_page(struct page *page, size_t offset, size_t len,
		       struct cpu_phys *range);
int cpu_phys_from_virt(const void *addr, size_t len, struct cpu_phys *range);
int cpu_phys_from_addr(phys_addr_t addr, size_t len, struct cpu_phys *range);
int mmio_phys_from_bar(struct pci_dev *owner, int bar, u64 offset, size_t len,
		       struct mmio_phys *range);
int mmio_phys_from_resource(const struct resource *res, u64 offset, size_t len,
			    struct mmio_phys *range);

/* BARs lent to other devices (peer.c) */
int dma_phys_peer_register(struct pci_dev *owner, int bar);
void dma_phys_peer_unregister(struct pci_dev *owner, int bar);
int dma_phys_peer_attach(const struct mmio_phys *range,
			 struct dma_phys_peer_user *user);
void dma_phys_peer_detach(struct dma_phys_peer_user *user);

/* One range (map.c) */
int dma_phys_map_cpu(struct device *dev, const struct cpu_phys *range,
		     enum dma_data_direction dir, u32 flags,
		     struct dma_phys_map *map);
int dma_phys_map_mmio(struct device *dev, const struct mmio_phys *range,
		      enum dma_data_direction dir, u32 flags,
		      struct dma_phys_map *map);
int dma_phys_sync_for_cpu(struct dma_phys_map *map, size_t offset, size_t len);
int dma_phys_sync_for_device(struct dma_phys_map *map, size_t offset,
			     size_t len);
void dma_phys_unmap(struct dma_phys_map *map);

/* Many ranges, and block requests (vec.c) */
size_t dma_phys_vec_room(struct device *dev, size_t count, size_t size);
int dma_phys_vec_map_cpu(struct device *dev, const struct cpu_phys *ranges,
			 size_t count, enum dma_data_direction dir, u32 flags,
			 struct dma_phys_vec *vec);
int dma_phys_vec_map_mmio(struct device *dev, const struct mmio_phys *ranges,
			  size_t count, enum dma_data_direction dir, u32 flags,
			  struct dma_phys_vec *vec);
int dma_phys_vec_map_request(struct device *dev, struct request *rq, u32 flags,
			     struct dma_phys_vec *vec);
int dma_phys_vec_map_integrity(struct device *dev, struct request *rq,
			       u32 flags, struct dma_phys_vec *vec);
int dma_phys_vec_sync_for_cpu(struct dma_phys_vec *vec, size_t offset,
			      size_t len);
int dma_phys_vec_sync_for_device(struct dma_phys_vec *vec, size_t offset,
				 size_t len);
void dma_phys_vec_unmap(struct dma_phys_vec *vec);

#endif /* _LINUX_DMA_PHYS_H */

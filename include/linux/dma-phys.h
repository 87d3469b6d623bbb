/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Typed mapping of physical addresses for DMA.
 *
 *	struct cpu_phys range;
 *	struct dma_phys_map map = {};
 *
 *	err = cpu_phys_from_virt(buf, len, &range);
 *	err = err ?: dma_phys_map_cpu(dev, &range, DMA_FROM_DEVICE, 0, &map);
 *	...				the device accesses map.addr
 *	dma_phys_unmap(&map);
 *
 * Every entry point is a function with external linkage. Those that make a
 * range, map or sync return 0, a count or a negative errno.
 * Documentation/core-api/dma-phys.rst lists the errors. Peers are in
 * dma-phys-peer.h, block requests in blk-mq-dma-phys.h.
 */
#ifndef _LINUX_DMA_PHYS_H
#define _LINUX_DMA_PHYS_H

#include <linux/bits.h>
#include <linux/dma-direction.h>
#include <linux/types.h>

struct device;
struct dma_phys_peer;
struct dma_phys_pool;
struct dma_phys_records;
struct page;
struct pci_dev;
struct resource;

/**
 * struct cpu_phys - a range of memory that the CPU caches
 * @addr: physical address of the first byte
 * @len: length in bytes, never 0
 * @raw: made by cpu_phys_from_raw(): it may have no place in the linear map
 *
 * A plain value that holds no reference.
 */
struct cpu_phys {
	phys_addr_t addr;
	size_t len;
	bool raw;
};

/**
 * struct mmio_phys - a range of device memory
 * @addr: physical address of the first byte, as the CPU sees it
 * @len: length in bytes, never 0
 * @peer: id of the peer that shares it, 0 if it belongs to no peer
 *
 * A plain value that holds no reference.
 */
struct mmio_phys {
	phys_addr_t addr;
	size_t len;
	u32 peer;
};

/**
 * enum dma_phys_kind - what a range consists of
 * @DMA_PHYS_CPU: memory that the CPU caches
 * @DMA_PHYS_MMIO: device memory: no kmap, no cache maintenance
 */
enum dma_phys_kind {
	DMA_PHYS_CPU,
	DMA_PHYS_MMIO,
};

/**
 * enum dma_phys_route - how the device reaches a range
 * @DMA_PHYS_NONE: nothing is mapped
 * @DMA_PHYS_DIRECT: at its physical address, translated by arithmetic
 * @DMA_PHYS_BOUNCE: through a bounce buffer (swiotlb)
 * @DMA_PHYS_IOMMU: through an IOVA
 * @DMA_PHYS_OPS: through the legacy dma_map_ops of the device
 * @DMA_PHYS_BUS: at the PCI bus address of the peer, below the host bridge
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
 * The only flag: map and unmap do not transfer ownership between CPU and
 * device. The caller calls dma_phys_sync_for_device() before the device
 * accesses the memory, and dma_phys_sync_for_cpu() before the CPU reads. Data
 * in a bounce buffer that is not synced is lost.
 */
#define DMA_PHYS_SKIP_CPU_SYNC	BIT(0)

/*
 * Flags of the core. With DMA_PHYS_NO_UNMAP unmapping a handle does nothing but
 * its trace event. With one of DMA_PHYS_NO_SYNC its syncs do nothing, and unmapping
 * it with or without sync is the same.
 */
#define DMA_PHYS_NO_UNMAP	BIT(1)
#define DMA_PHYS_NO_SYNC	(DMA_PHYS_NO_UNMAP | BIT(2))

/**
 * struct dma_phys_map - one range mapped for one device
 * @dev: the device, NULL if the handle is empty
 * @addr: DMA address of the first byte
 * @size: length in bytes
 * @target: for the core: IOMMU domain or legacy ops at the time of the map
 * @peer: for the core: the peer that the map holds
 * @dir: enum dma_data_direction
 * @kind: enum dma_phys_kind
 * @route: enum dma_phys_route
 * @flags: DMA_PHYS_SKIP_CPU_SYNC, and flags of the core
 * @id: for the core: record of CONFIG_DMA_PHYS_DEBUG, else 0
 *
 * Zeroed memory is an empty handle. Drivers read @addr and @size; only the core
 * writes.
 */
struct dma_phys_map {
	struct device *dev;
	dma_addr_t addr;
	size_t size;
	const void *target;
	struct dma_phys_peer *peer;
	u8 dir;
	u8 kind;
	u8 route;
	u8 flags;
	u32 id;
};

/**
 * struct dma_phys_range - one range of a list that may mix both kinds
 * @addr: physical address of the first byte
 * @len: length in bytes
 * @peer: as in struct mmio_phys
 * @kind: enum dma_phys_kind
 * @raw: as in struct cpu_phys
 */
struct dma_phys_range {
	phys_addr_t addr;
	size_t len;
	u32 peer;
	u8 kind;
	bool raw;
};

/**
 * struct dma_phys_segment - contiguous DMA addresses
 * @addr: DMA address of the first byte
 * @len: length in bytes
 */
struct dma_phys_segment {
	dma_addr_t addr;
	size_t len;
};

/**
 * struct dma_phys_sg - many ranges mapped for one device
 * @dev: the device, NULL if nothing is mapped
 * @pool: for unmap records, see dma_phys_pool_create(); NULL: kmalloc(GFP_ATOMIC)
 * @size: length of all ranges in bytes
 * @addr: for the core: DMA address if a single unmap covers all ranges, else 0
 * @records: for the core: unmap records, if the route needs them
 * @target: for the core: as in struct dma_phys_map
 * @peer: for the core: the peer that the list holds
 * @dir: enum dma_data_direction
 * @kind: DMA_PHYS_MMIO if all ranges are device memory, else DMA_PHYS_CPU
 * @route: enum dma_phys_route; DMA_PHYS_BOUNCE if any range bounces
 * @flags: DMA_PHYS_SKIP_CPU_SYNC, and flags of the core
 * @id: for the core: record of CONFIG_DMA_PHYS_DEBUG, else 0
 *
 * All that is kept from map to unmap: 64 bytes, and records where a route needs
 * them. Zeroed memory, with or without @pool, is an empty list. The core clears
 * all but @pool at unmap.
 */
struct dma_phys_sg {
	struct device *dev;
	struct dma_phys_pool *pool;
	size_t size;
	dma_addr_t addr;
	struct dma_phys_records *records;
	const void *target;
	struct dma_phys_peer *peer;
	u8 dir;
	u8 kind;
	u8 route;
	u8 flags;
	u32 id;
};

/**
 * struct dma_phys_limits - constraints on segments
 * @max: maximum length in bytes, not 0
 * @boundary: no segment crosses a multiple of this plus 1, which is a power of 2
 * @align: a split leaves these low address bits clear if @max allows it
 */
struct dma_phys_limits {
	u64 max;
	u64 boundary;
	u64 align;
};

/**
 * struct dma_phys_p2p_path - how a device reaches the memory of a peer
 * @route: DMA_PHYS_BUS, or DMA_PHYS_DIRECT if the host bridge forwards it like
 *	any other address
 * @bus_offset: for DMA_PHYS_BUS: bus address minus physical address
 */
struct dma_phys_p2p_path {
	u8 route;
	u64 bus_offset;
};

/**
 * struct dma_phys_source - where a list gets its ranges from
 * @next: writes all members of the next range, which is not empty; false at the
 *	end, and each time after that
 * @size: length of all ranges in bytes
 * @count: maximum number of ranges
 * @min_len: length of the shortest range of memory in bytes, 0 if it is not known.
 *	If it is short or not known, adjacent ranges that a device writes to which
 *	is not coherent may be mapped one by one
 * @gaps: bitwise or of each end and each start where two successive ranges are
 *	not adjacent, or differ in more than address and length
 * @limits: constraints beside those of the device, {} if there are none
 * @path: how the device reaches MMIO ranges without a peer, NULL if like any
 *	other address
 * @peer: id of the peer that all MMIO ranges belong to, 0 if there is none
 * @kinds: BIT() of each enum dma_phys_kind that occurs
 * @caller: address that debugging reports, 0 for the caller of the core
 *
 * Implemented by the sources of arrays and block requests; a subsystem with
 * ranges of its own implements another.
 */
struct dma_phys_source {
	bool (*next)(struct dma_phys_source *source,
		     struct dma_phys_range *range);
	size_t size;
	size_t count;
	size_t min_len;
	u64 gaps;
	struct dma_phys_limits limits;
	const struct dma_phys_p2p_path *path;
	u32 peer;
	u8 kinds;
	unsigned long caller;
};

/**
 * struct dma_phys_sg_iter - iterator over the segments of a list being mapped
 * @addr: DMA address of the segment
 * @len: its length in bytes
 * @source: for the core, as all that follows: ranges not yet mapped
 * @limits: of the device and the source
 * @path: how the device reaches MMIO ranges, NULL if like any other address
 * @peer_path: storage for @path
 * @run: what is left to map of the present run of adjacent ranges
 * @ahead: a range after that run
 * @rest: mapped bytes that are not yet part of a segment
 * @mapped: bytes mapped so far
 * @phys: physical address of the first byte
 * @fast_end: the fast path maps runs that end below this DMA address; 0: none
 * @fast_offset: DMA address minus physical address of such a run
 * @fast_peer: peer of such a run, 0 if it belongs to no peer
 * @fast_kind: enum dma_phys_kind of such a run
 * @caller: address that debugging reports
 *
 * Needed while mapping only.
 */
struct dma_phys_sg_iter {
	dma_addr_t addr;
	size_t len;
	struct dma_phys_source *source;
	struct dma_phys_limits limits;
	const struct dma_phys_p2p_path *path;
	struct dma_phys_p2p_path peer_path;
	struct dma_phys_range run;
	struct dma_phys_range ahead;
	struct dma_phys_segment rest;
	size_t mapped;
	phys_addr_t phys;
	u64 fast_end;
	u64 fast_offset;
	u32 fast_peer;
	u8 fast_kind;
	unsigned long caller;
};

/* Ranges (range.c) */
int cpu_phys_from_page(struct page *page, size_t offset, size_t len,
		       struct cpu_phys *range);
int cpu_phys_from_virt(const void *addr, size_t len, struct cpu_phys *range);
int cpu_phys_from_addr(phys_addr_t addr, size_t len, struct cpu_phys *range);
int cpu_phys_from_raw(phys_addr_t addr, size_t len, struct cpu_phys *range);
int mmio_phys_from_bar(struct pci_dev *owner, int bar, u64 offset, size_t len,
		       struct mmio_phys *range);
int mmio_phys_from_resource(const struct resource *res, u64 offset, size_t len,
			    struct mmio_phys *range);

/* One range (map.c, unmap.c) */
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
void dma_phys_unmap_nosync(struct dma_phys_map *map);
void dma_phys_leak(struct device *dev, size_t size);

/* Many ranges: arrays (sg_array.c), sync and unmap (sg_unmap.c) */
size_t dma_phys_sg_max_segments(struct device *dev, size_t count, size_t size);
int dma_phys_sg_map_cpu(struct device *dev, const struct cpu_phys *ranges,
			size_t count, enum dma_data_direction dir, u32 flags,
			struct dma_phys_segment *segments, size_t max_segments,
			struct dma_phys_sg *sg);
int dma_phys_sg_map_mmio(struct device *dev, const struct mmio_phys *ranges,
			 size_t count, enum dma_data_direction dir, u32 flags,
			 struct dma_phys_segment *segments, size_t max_segments,
			 struct dma_phys_sg *sg);
int dma_phys_sg_map_ranges(struct device *dev,
			   const struct dma_phys_range *ranges, size_t count,
			   enum dma_data_direction dir, u32 flags,
			   struct dma_phys_segment *segments,
			   size_t max_segments, struct dma_phys_sg *sg);
int dma_phys_sg_sync_for_cpu(struct dma_phys_sg *sg, size_t offset, size_t len);
int dma_phys_sg_sync_for_device(struct dma_phys_sg *sg, size_t offset,
				size_t len);
void dma_phys_sg_unmap(struct dma_phys_sg *sg);
void dma_phys_sg_unmap_nosync(struct dma_phys_sg *sg);

/* Many ranges: iterator (sg.c, sg_array.c), memory for records (pool.c) */
int dma_phys_sg_map_start(struct device *dev, struct dma_phys_source *source,
			  enum dma_data_direction dir, u32 flags,
			  struct dma_phys_sg *sg,
			  struct dma_phys_sg_iter *iter);
int dma_phys_sg_map_next(struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter);
int dma_phys_sg_map_rest(struct dma_phys_sg *sg, struct dma_phys_sg_iter *iter,
			 int more, struct dma_phys_segment *segments,
			 size_t max_segments);
struct dma_phys_pool *dma_phys_pool_create(struct device *dev, size_t count,
					   size_t size);
void dma_phys_pool_destroy(struct dma_phys_pool *pool);

#endif /* _LINUX_DMA_PHYS_H */

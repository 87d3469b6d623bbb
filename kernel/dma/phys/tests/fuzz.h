/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The fuzzer. fuzz.c runs operations: on ranges (fuzz_ranges.c), calls that map
 * and unmap (fuzz_choose.c, fuzz_call.c), also block requests (fuzz_request.c),
 * on handles (fuzz_handle.c), on peers (fuzz_peer.c), and changes of the devices
 * (fuzz_configure.c). fuzz_model.c predicts the result of a call, fuzz_check.c
 * checks a live map.
 *
 * The model is written from the contract in the kernel-doc, not from the core.
 */
#ifndef _KERNEL_DMA_PHYS_TESTS_FUZZ_H
#define _KERNEL_DMA_PHYS_TESTS_FUZZ_H

#include <linux/bits.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys-peer.h>
#include <linux/dma-phys.h>
#include <linux/errno.h>
#include <linux/kconfig.h>
#include <linux/pci.h>
#include <linux/sizes.h>

struct request;

/* Symbols have the prefix dma_phys_fuzz_; the fuzzer uses the short names. */
#define fuzz_random		dma_phys_fuzz_random
#define fuzz_fill		dma_phys_fuzz_fill
#define fuzz_odd		dma_phys_fuzz_odd
#define fuzz_any_dev		dma_phys_fuzz_any_dev
#define fuzz_error		dma_phys_fuzz_error
#define fuzz_append		dma_phys_fuzz_append
#define fuzz_done		dma_phys_fuzz_done
#define fuzz_bit		dma_phys_fuzz_bit
#define fuzz_op_names		dma_phys_fuzz_op_names
#define fuzz_make_cpu		dma_phys_fuzz_make_cpu
#define fuzz_make_mmio		dma_phys_fuzz_make_mmio
#define fuzz_try_bar		dma_phys_fuzz_try_bar
#define fuzz_is_memory_bar	dma_phys_fuzz_is_memory_bar
#define fuzz_step_range		dma_phys_fuzz_step_range
#define fuzz_choose_call	dma_phys_fuzz_choose_call
#define fuzz_queue_start	dma_phys_fuzz_queue_start
#define fuzz_queue_end		dma_phys_fuzz_queue_end
#define fuzz_choose_request	dma_phys_fuzz_choose_request
#define fuzz_map_request	dma_phys_fuzz_map_request
#define fuzz_put_request	dma_phys_fuzz_put_request
#define fuzz_step_map		dma_phys_fuzz_step_map
#define fuzz_unmap		dma_phys_fuzz_unmap
#define fuzz_drain		dma_phys_fuzz_drain
#define fuzz_read_some		dma_phys_fuzz_read_some
#define fuzz_step_handle	dma_phys_fuzz_step_handle
#define fuzz_step_null		dma_phys_fuzz_step_null
#define fuzz_step_edu		dma_phys_fuzz_step_edu
#define fuzz_step_configure	dma_phys_fuzz_step_configure
#define fuzz_step_exhaust	dma_phys_fuzz_step_exhaust
#define fuzz_step_peer		dma_phys_fuzz_step_peer
#define fuzz_unregister		dma_phys_fuzz_unregister
#define fuzz_expect_cpu		dma_phys_fuzz_expect_cpu
#define fuzz_expect_mmio	dma_phys_fuzz_expect_mmio
#define fuzz_expect_map		dma_phys_fuzz_expect_map
#define fuzz_limits		dma_phys_fuzz_limits
#define fuzz_make_runs		dma_phys_fuzz_make_runs
#define fuzz_size		dma_phys_fuzz_size
#define fuzz_mapped		dma_phys_fuzz_mapped
#define fuzz_unmapped		dma_phys_fuzz_unmapped
#define fuzz_check_empty	dma_phys_fuzz_check_empty
#define fuzz_check_own		dma_phys_fuzz_check_own
#define fuzz_synced		dma_phys_fuzz_synced
#define fuzz_dma_addr		dma_phys_fuzz_dma_addr
#define fuzz_cpu_reads		dma_phys_fuzz_cpu_reads
#define fuzz_device_reads	dma_phys_fuzz_device_reads
#define fuzz_device_writes	dma_phys_fuzz_device_writes
#define fuzz_device_bytes	dma_phys_fuzz_device_bytes
#define fuzz_devices_start	dma_phys_fuzz_devices_start
#define fuzz_devices_end	dma_phys_fuzz_devices_end
#define fuzz_configure		dma_phys_fuzz_configure
#define fuzz_free_units		dma_phys_fuzz_free_units
#define fuzz_edu_start		dma_phys_fuzz_edu_start
#define fuzz_edu_finish		dma_phys_fuzz_edu_finish

/* Handles: the first are single maps, the others lists. */
#define FUZZ_MAPS	64
#define FUZZ_HANDLES	80
/* Bytes of memory, and of device memory, that a handle has for itself. */
#define FUZZ_OWN	SZ_16K
/* Bytes that all handles may map, for the device to read. */
#define FUZZ_SHARED	SZ_1M
/* Maximum number of ranges of a list, and of its segments. */
#define FUZZ_RANGES	8
#define FUZZ_SEGMENTS	320
/* Maximum size of a bounce buffer: a group of slots. */
#define FUZZ_BOUNCE	SZ_256K
/* A list that is longer is mapped only by a device that needs no IOVA. */
#define FUZZ_HUGE	SZ_1G
/* Limits of a device that asks for nothing special. */
#define FUZZ_LIMITS \
	((struct dma_phys_limits){ .max = SZ_64K, .boundary = U32_MAX })

enum fuzz_op {
	FUZZ_FROM_PAGE,
	FUZZ_FROM_VIRT,
	FUZZ_FROM_ADDR,
	FUZZ_FROM_RAW,
	FUZZ_FROM_RESOURCE,
	FUZZ_FROM_BAR,
	FUZZ_MAP_CPU,
	FUZZ_MAP_MMIO,
	FUZZ_SYNC_FOR_CPU,
	FUZZ_SYNC_FOR_DEVICE,
	FUZZ_UNMAP,
	FUZZ_UNMAP_NOSYNC,
	FUZZ_SG_MAX_SEGMENTS,
	FUZZ_SG_MAP_CPU,
	FUZZ_SG_MAP_MMIO,
	FUZZ_SG_MAP_RANGES,
	FUZZ_SG_ITERATE,
	FUZZ_SG_STOP,
	FUZZ_RQ_MAP,
	FUZZ_RQ_ITERATE,
	FUZZ_RQ_STOP,
	FUZZ_SG_SYNC_FOR_CPU,
	FUZZ_SG_SYNC_FOR_DEVICE,
	FUZZ_SG_UNMAP,
	FUZZ_SG_UNMAP_NOSYNC,
	FUZZ_POOL_CREATE,
	FUZZ_REGISTER,
	FUZZ_UNREGISTER,
	FUZZ_SUSPEND,
	FUZZ_RESUME,
	FUZZ_ATTACH,
	FUZZ_DETACH,
	/* No calls of the core, but what happens to its maps: */
	FUZZ_REVOKED,
	FUZZ_CPU_WRITES,
	FUZZ_DEVICE_READS,
	FUZZ_DEVICE_WRITES,
	FUZZ_EDU_READS,
	FUZZ_EDU_WRITES,
	FUZZ_CONFIGURE,
	FUZZ_EXHAUST,
	FUZZ_OPS,
};

/* For tests of the fuzzer: a part of the model is wrong and must be noticed. */
enum fuzz_lie {
	FUZZ_TRUTH,
	FUZZ_LIE_ERRNO,
	FUZZ_LIE_ADDRESS,
	FUZZ_LIE_SEGMENT,
	FUZZ_LIE_DATA,
	FUZZ_LIE_LEAK,
	FUZZ_LIES,
};

/* The result 0 in a set of results; the other bits are fuzz_bit(-errno). */
#define FUZZ_OK		BIT(0)
#define FUZZ_EINVAL	fuzz_bit(-EINVAL)
#define FUZZ_ERRNOS	15

/**
 * struct fuzz_dev - a device and its configuration
 * @dev: the device
 * @pdev: the same, NULL for the device without a DMA mask
 * @iommu: an IOMMU translates for it
 * @domain: the IOMMU domain
 * @granule: smallest page size of the IOMMU
 * @aperture: last address that the IOMMU translates
 * @pool_start: address of the bounce buffers, 0 if there are none
 * @pool_end: their end
 * @reach: last address that the device can access
 * @limits: limits of its segments
 * @forced: all memory is bounced
 * @untrusted: it must access nothing but what is mapped
 * @saved: configuration before the run
 * @view: the pool of bounce buffers, but forced for this device
 */
struct fuzz_dev {
	struct device *dev;
	struct pci_dev *pdev;
	bool iommu;
	struct iommu_domain *domain;
	u64 granule;
	u64 aperture;
	u64 pool_start;
	u64 pool_end;
	u64 reach;
	struct dma_phys_limits limits;
	bool forced;
	bool untrusted;
	struct {
		struct io_tlb_mem *tlb;
		u64 mask;
		u64 bus_limit;
		u32 max;
		unsigned long boundary;
		bool untrusted;
	} saved;
	struct io_tlb_mem *view;
};

/**
 * struct fuzz_area - bytes whose content is checked
 * @phys: physical address
 * @len: length in bytes
 * @mem: where the CPU accesses memory, NULL for device memory
 * @io: where it accesses device memory
 * @shadow: the content that the CPU must find
 * @constant: never written during a run
 */
struct fuzz_area {
	phys_addr_t phys;
	size_t len;
	u8 *mem;
	u8 __iomem *io;
	u8 *shadow;
	bool constant;
};

/**
 * struct fuzz_peer - a BAR that can be shared
 * @owner: the device that owns the BAR
 * @bar: index of the BAR
 * @shared: it is registered
 * @suspended: it is suspended as well
 * @id: id of the peer when it was last registered
 * @client: a client of the peer
 * @attached: the client is attached
 * @revoked: how often it was revoked by the present call
 * @fuzz: for the callback
 */
struct fuzz_peer {
	struct pci_dev *owner;
	int bar;
	bool shared;
	bool suspended;
	u32 id;
	struct dma_phys_peer_client client;
	bool attached;
	unsigned int revoked;
	struct fuzz *fuzz;
};

enum fuzz_bounce { FUZZ_NEVER_BOUNCES, FUZZ_MAY_BOUNCE, FUZZ_BOUNCES };

/**
 * struct fuzz_run - adjacent ranges of a call
 * @phys: physical address
 * @len: length in bytes
 * @kind: enum dma_phys_kind
 * @raw: made by cpu_phys_from_raw()
 * @bus: the device accesses it at its PCI bus address
 * @bounce: whether the device finds a copy of it in a bounce buffer
 * @area: the area that it lies in, NULL if its content is not checked
 */
struct fuzz_run {
	phys_addr_t phys;
	size_t len;
	u8 kind;
	bool raw;
	bool bus;
	enum fuzz_bounce bounce;
	struct fuzz_area *area;
};

/**
 * struct fuzz_call - the arguments of a call that maps
 * @op: the call
 * @dev: the device, or NULL
 * @dir: direction, valid or not
 * @flags: flags, valid or not
 * @no_handle: the handle is NULL
 * @no_ranges: the ranges are NULL
 * @live: the handle is not empty
 * @ranges: the ranges
 * @areas: the areas that they lie in, NULL if their content is not checked
 * @count: number of ranges
 * @max_ranges: the number that the core is given: of segments, for a request
 * @max_segments: capacity of the array
 * @limits: of the source, or of the queue of a request
 * @rq: the request whose bio vectors are the ranges, or NULL
 * @stop: the iterator is stopped after so many segments, 0: at the end
 * @peer: the peer that the device memory belongs to, if it was registered
 */
struct fuzz_call {
	enum fuzz_op op;
	struct fuzz_dev *dev;
	int dir;
	u32 flags;
	bool no_handle;
	bool no_ranges;
	bool live;
	struct dma_phys_range ranges[FUZZ_RANGES];
	struct fuzz_area *areas[FUZZ_RANGES];
	size_t count;
	size_t max_ranges;
	size_t max_segments;
	struct dma_phys_limits limits;
	struct request *rq;
	int stop;
	struct fuzz_peer *peer;
};

/**
 * struct fuzz_handle - a map or a list, and what the model knows of it
 * @map: the map
 * @sg: or the list
 * @segments: segments of the list
 * @segment_count: number of segments
 * @rq: the request that the list maps, or NULL
 * @own: memory, and device memory, that no other handle maps
 * @device_view: the content that the device must find in bounce buffers, by byte
 *	of the handle
 * @bounced: which bytes are in bounce buffers
 * @any_bounced: whether there are any
 * @is_sg: it is a list
 * @dev: the device, NULL if the handle is empty
 * @kind: enum dma_phys_kind
 * @dir: direction
 * @flags: flags
 * @size: length in bytes
 * @bus_offset: from physical address to PCI bus address
 * @limits: limits of the segments
 * @runs: the ranges, adjacent ones merged
 * @count: number of runs
 * @checked: the content is checked
 * @constant: it is never written
 * @peer: the peer that the handle holds, or NULL
 */
struct fuzz_handle {
	struct dma_phys_map map;
	struct dma_phys_sg sg;
	struct dma_phys_segment *segments;
	int segment_count;
	struct request *rq;
	struct fuzz_area own[2];
	u8 *device_view;
	unsigned long *bounced;
	bool any_bounced;
	bool is_sg;
	struct fuzz_dev *dev;
	u8 kind;
	int dir;
	u32 flags;
	size_t size;
	u64 bus_offset;
	struct dma_phys_limits limits;
	struct fuzz_run runs[FUZZ_RANGES];
	size_t count;
	bool checked;
	bool constant;
	struct fuzz_peer *peer;
};

enum { FUZZ_EDU, FUZZ_IVSHMEM, FUZZ_NO_MASK, FUZZ_DEVS };

#define FUZZ_RAMS	16

/**
 * struct fuzz - one run
 * @random: state of the random numbers
 * @ops: number of operations so far
 * @lie: which part of the model is wrong
 * @tally: number of operations by kind and result
 * @routes: number of maps by route
 * @error: the first divergence, empty if there is none
 * @dev: the devices
 * @peer: BAR 0 of edu, BAR 2 of ivshmem
 * @handle: the handles
 * @rams: System RAM
 * @ram_count: number of entries in @rams
 * @memory: pages of all areas of memory
 * @shared: memory that all devices may read at the same time
 * @shadows: memory of all shadows
 * @edu: registers of edu, content of its buffer, and its present transfer
 */
struct fuzz {
	u64 random;
	u64 ops;
	enum fuzz_lie lie;
	u32 tally[FUZZ_OPS][FUZZ_ERRNOS];
	u32 routes[DMA_PHYS_BUS + 1];
	char error[640];
	struct fuzz_dev dev[FUZZ_DEVS];
	struct fuzz_peer peer[2];
	struct fuzz_handle handle[FUZZ_HANDLES];
	struct { u64 start, end; } rams[FUZZ_RAMS];
	unsigned int ram_count;
	struct page *memory;
	struct fuzz_area shared;
	u8 *shadows;
	struct {
		u8 __iomem *regs;
		u8 *buf;
		size_t known;
		struct fuzz_handle *busy;
		size_t at;
		size_t len;
		bool to_memory;
		u64 since;
	} edu;
};

/* ---- fuzz.c ---- */

u64 fuzz_random(struct fuzz *fuzz);
void fuzz_fill(struct fuzz *fuzz, u8 *data, size_t len);

static inline u64 fuzz_below(struct fuzz *fuzz, u64 n)
{
	return fuzz_random(fuzz) % n;
}

static inline bool fuzz_one_in(struct fuzz *fuzz, u64 n)
{
	return !fuzz_below(fuzz, n);
}

/* An element of a non-empty array. */
#define fuzz_any(fuzz, array) \
	(*((array) + fuzz_below(fuzz, sizeof(array) / sizeof((array)[0]))))

/* A number that a driver has computed wrongly. */
u64 fuzz_odd(struct fuzz *fuzz);
struct fuzz_dev *fuzz_any_dev(struct fuzz *fuzz);

/* The first divergence ends the run; text can be appended to it. */
__printf(2, 3) void fuzz_error(struct fuzz *fuzz, const char *fmt, ...);
__printf(2, 3) void fuzz_append(struct fuzz *fuzz, const char *fmt, ...);

static inline bool fuzz_good(const struct fuzz *fuzz)
{
	return !fuzz->error[0];
}

/* Count an operation, and check that its result is in the set @allowed. */
void fuzz_done(struct fuzz *fuzz, enum fuzz_op op, int err, u32 allowed);
u32 fuzz_bit(int err);
extern const char *const fuzz_op_names[FUZZ_OPS];

/* An iterator over a source. */
static inline bool fuzz_is_source(enum fuzz_op op)
{
	return op == FUZZ_SG_ITERATE || op == FUZZ_SG_STOP;
}

static inline bool fuzz_is_request(enum fuzz_op op)
{
	return IS_ENABLED(CONFIG_BLOCK) && op >= FUZZ_RQ_MAP &&
	       op <= FUZZ_RQ_STOP;
}

/* The segments are written to an array of a given capacity. */
static inline bool fuzz_has_array(enum fuzz_op op)
{
	return op == FUZZ_SG_MAP_CPU || op == FUZZ_SG_MAP_MMIO ||
	       op == FUZZ_SG_MAP_RANGES || op == FUZZ_RQ_MAP;
}

/* ---- fuzz_ranges.c ---- */

/* Make a range of an area: @range, or unchanged if that fails. */
void fuzz_make_cpu(struct fuzz *fuzz, const struct fuzz_area *area,
		   size_t offset, size_t len, struct dma_phys_range *range);
void fuzz_make_mmio(struct fuzz *fuzz, bool of_peer,
		    const struct fuzz_area *area, size_t offset, size_t len,
		    struct dma_phys_range *range);
void fuzz_try_bar(struct fuzz *fuzz, struct pci_dev *owner, int bar,
		  u64 offset, u64 len, struct mmio_phys *range);
bool fuzz_is_memory_bar(struct pci_dev *owner, int bar);
/* Make a range that is not mapped. */
void fuzz_step_range(struct fuzz *fuzz);

/* ---- fuzz_choose.c ---- */

void fuzz_choose_call(struct fuzz *fuzz, struct fuzz_call *call,
		      struct fuzz_handle *handle);

/* ---- fuzz_request.c, with CONFIG_BLOCK ---- */

int fuzz_queue_start(void);
void fuzz_queue_end(void);
/* Change the limits of the queue, and make a request of the ranges. */
void fuzz_choose_request(struct fuzz *fuzz, struct fuzz_call *call);
/* The count of segments or -errno; on a stop the list is unmapped again. */
int fuzz_map_request(const struct fuzz_call *call, struct fuzz_handle *handle);
void fuzz_put_request(struct request *rq);

/* ---- fuzz_call.c ---- */

void fuzz_step_map(struct fuzz *fuzz, struct fuzz_handle *handle);
void fuzz_unmap(struct fuzz *fuzz, struct fuzz_handle *handle);
/* Unmap all handles of a device, or of all devices. */
void fuzz_drain(struct fuzz *fuzz, const struct fuzz_dev *dev);

/* ---- fuzz_handle.c ---- */

void fuzz_read_some(struct fuzz *fuzz, struct fuzz_handle *handle);
void fuzz_step_handle(struct fuzz *fuzz);
void fuzz_step_null(struct fuzz *fuzz);
void fuzz_step_edu(struct fuzz *fuzz);

/* ---- fuzz_configure.c ---- */

void fuzz_step_configure(struct fuzz *fuzz);
void fuzz_step_exhaust(struct fuzz *fuzz);

/* ---- fuzz_peer.c ---- */

void fuzz_step_peer(struct fuzz *fuzz);
void fuzz_unregister(struct fuzz *fuzz, struct fuzz_peer *peer);

/* ---- fuzz_model.c ---- */

/* Sets of results that are right. */
u32 fuzz_expect_cpu(const struct fuzz *fuzz, phys_addr_t addr, u64 len);
u32 fuzz_expect_mmio(const struct fuzz *fuzz, u64 start, u64 last_offset,
		     u64 offset, u64 len);
u32 fuzz_expect_map(const struct fuzz *fuzz, const struct fuzz_call *call);

/* Limits of the device, and those of the source or the queue. */
struct dma_phys_limits fuzz_limits(const struct fuzz_call *call);
/* The runs of a call whose ranges are valid, and how many there are. */
size_t fuzz_make_runs(const struct fuzz *fuzz, const struct fuzz_call *call,
		      struct fuzz_run *runs, u64 *bus_offset);
size_t fuzz_size(const struct fuzz_call *call);

/* ---- fuzz_check.c ---- */

/* The call succeeded: check the map, and what the model knows of it now. */
void fuzz_mapped(struct fuzz *fuzz, struct fuzz_handle *handle,
		 const struct fuzz_call *call);
void fuzz_unmapped(struct fuzz *fuzz, struct fuzz_handle *handle, bool sync);
/* Nothing but the device wrote to the memory of the handle. */
void fuzz_check_own(struct fuzz *fuzz, const struct fuzz_handle *handle);
void fuzz_check_empty(struct fuzz *fuzz, const struct fuzz_handle *handle);

/* Bytes [@at, @at + @len) were synced. */
void fuzz_synced(struct fuzz_handle *handle, size_t at, size_t len,
		 bool for_cpu);

/* DMA address of byte @at, and how many bytes follow in its segment. */
dma_addr_t fuzz_dma_addr(const struct fuzz_handle *handle, size_t at,
			 size_t *rest);

/* Check what the CPU, or the device, finds; or let the device write. */
void fuzz_cpu_reads(struct fuzz *fuzz, const struct fuzz_handle *handle,
		    size_t at, size_t len);
void fuzz_device_reads(struct fuzz *fuzz, struct fuzz_handle *handle,
		       size_t at, size_t len);
void fuzz_device_writes(struct fuzz *fuzz, struct fuzz_handle *handle,
			size_t at, const u8 *data, size_t len);
/* What the device must find there, or will find from now on. */
void fuzz_device_bytes(const struct fuzz_handle *handle, size_t at, u8 *data,
		       size_t len, bool write);

/* ---- fuzz_devices.c ---- */

int fuzz_devices_start(struct fuzz *fuzz);
void fuzz_devices_end(struct fuzz *fuzz);
void fuzz_configure(struct fuzz_dev *dev, u64 reach,
		    const struct dma_phys_limits *limits, bool forced,
		    bool untrusted);
/* Free bounce buffers and IOVA space, in units of which a leak costs one. */
unsigned int fuzz_free_units(struct fuzz *fuzz);
void fuzz_edu_start(struct fuzz *fuzz, struct fuzz_handle *handle, size_t at,
		    size_t len, bool to_memory);
void fuzz_edu_finish(struct fuzz *fuzz);

#endif /* _KERNEL_DMA_PHYS_TESTS_FUZZ_H */

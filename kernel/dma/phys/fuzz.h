/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The fuzzer: fuzz.c chooses what to do, fuzz_model.c knows what must come of
 * it, fuzz_devices.c has the devices that it is done to.
 *
 * The model is written from the contract in the kernel-doc, not from the core.
 */
#ifndef _KERNEL_DMA_PHYS_FUZZ_H
#define _KERNEL_DMA_PHYS_FUZZ_H

#include <linux/bits.h>
#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>
#include <linux/errno.h>
#include <linux/pci.h>
#include <linux/sizes.h>

/* Handles: so many maps, the rest vecs. */
#define FUZZ_MAPS	64
#define FUZZ_HANDLES	80
/* Bytes of memory, and of device memory, that are a handle's own. */
#define FUZZ_OWN	SZ_16K
/* Bytes that any handle may map for the device to read. */
#define FUZZ_SHARED	SZ_1M
/* Most ranges of a vec, and segments of its storage. */
#define FUZZ_RANGES	8
#define FUZZ_ROOM	320
/* Most bytes of a bounce slot. */
#define FUZZ_SLOT	SZ_256K
/* edu's own buffer: the most that it moves at once. */
#define FUZZ_EDU_BUF	SZ_4K
/* No range of ours is as long: one that is must be refused, or is not used. */
#define FUZZ_HUGE	SZ_1G

enum fuzz_op {
	FUZZ_FROM_PAGE,
	FUZZ_FROM_VIRT,
	FUZZ_FROM_ADDR,
	FUZZ_FROM_RESOURCE,
	FUZZ_FROM_BAR,
	FUZZ_MAP_CPU,
	FUZZ_MAP_MMIO,
	FUZZ_SYNC_FOR_CPU,
	FUZZ_SYNC_FOR_DEVICE,
	FUZZ_UNMAP,
	FUZZ_VEC_ROOM,
	FUZZ_VEC_MAP_CPU,
	FUZZ_VEC_MAP_MMIO,
	FUZZ_VEC_SYNC_FOR_CPU,
	FUZZ_VEC_SYNC_FOR_DEVICE,
	FUZZ_VEC_UNMAP,
	FUZZ_REGISTER,
	FUZZ_UNREGISTER,
	FUZZ_ATTACH,
	FUZZ_DETACH,
	/* Not calls of the core, but what they are tested with. */
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

/* What the model is made to believe wrongly, so that it must complain. */
enum fuzz_lie {
	FUZZ_TRUTH,
	FUZZ_LIE_ERRNO,
	FUZZ_LIE_ADDRESS,
	FUZZ_LIE_SEGMENT,
	FUZZ_LIE_DATA,
	FUZZ_LIE_LEAK,
	FUZZ_LIES,
};

/**
 * struct fuzz_dev - a device, and how it is set up
 * @dev: the device
 * @pdev: the same, NULL for one that may not map
 * @refusal: bits of the errnos of one that may not map
 * @iommu: an IOMMU translates for it
 * @domain: and this is the translation
 * @granule: smallest page of it
 * @aperture: last address that it translates
 * @pool_start: first bounce slot, 0 where there are none
 * @pool_end: end of the bounce slots
 * @reach: last address that the device reaches
 * @max: most bytes in a segment
 * @boundary: no segment crosses a multiple of this plus 1
 * @align: address bits that stay as they are
 * @forced: all memory is bounced
 * @untrusted: no more than the range may be shown
 * @saved: what we change, as it was
 * @view: the bounce slots, forced for this device
 */
struct fuzz_dev {
	struct device *dev;
	struct pci_dev *pdev;
	u32 refusal;
	bool iommu;
	struct iommu_domain *domain;
	u64 granule;
	u64 aperture;
	u64 pool_start;
	u64 pool_end;
	u64 reach;
	u64 max;
	u64 boundary;
	u64 align;
	bool forced;
	bool untrusted;
	struct {
		struct io_tlb_mem *tlb;
		u64 mask;
		u64 limit;
		u32 max;
		unsigned long boundary;
		bool untrusted;
	} saved;
	struct io_tlb_mem *view;
};

/**
 * struct fuzz_area - bytes that are looked at
 * @phys: physical address
 * @len: length in bytes
 * @mem: where the CPU finds them, NULL for device memory
 * @io: where it finds device memory
 * @shadow: what the CPU must find there
 * @constant: nobody ever writes here
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
 * struct fuzz_peer - a BAR that can be lent
 * @owner: whose it is
 * @bar: index
 * @lent: it is
 * @id: what ranges knew it by when it was last lent
 * @user: who wants to be told when it leaves
 * @attached: the user is attached
 * @told: how often it was told since
 * @fuzz: for @user's callback
 */
struct fuzz_peer {
	struct pci_dev *owner;
	int bar;
	bool lent;
	u32 id;
	struct dma_phys_peer_user user;
	bool attached;
	unsigned int told;
	struct fuzz *fuzz;
};

/* Ranges that follow each other. @bounced: the device finds a copy of them. */
struct fuzz_run {
	phys_addr_t phys;
	size_t len;
	bool bounced;
};

/**
 * struct fuzz_call - the arguments of one call that maps
 * @dev: for whom, NULL for nobody
 * @vec: many ranges
 * @kind: of the ranges
 * @dir: direction, good or bad
 * @flags: flags, good or bad
 * @no_handle: the handle is NULL
 * @no_ranges: the ranges are NULL
 * @live: the handle maps something
 * @cpu: ranges of memory
 * @mmio: ranges of device memory
 * @count: number of ranges
 * @room: segments of storage
 * @tight: which may be too few, as slots or IOVAs happen to meet: what comes of
 *	it must not change what follows
 * @area: where the bytes lie, NULL where they are not looked at
 * @peer: whose the ranges are
 */
struct fuzz_call {
	struct fuzz_dev *dev;
	bool vec;
	enum dma_phys_kind kind;
	int dir;
	u32 flags;
	bool no_handle;
	bool no_ranges;
	bool live;
	struct cpu_phys cpu[FUZZ_RANGES];
	struct mmio_phys mmio[FUZZ_RANGES];
	size_t count;
	size_t room;
	bool tight;
	struct fuzz_area *area;
	struct fuzz_peer *peer;
};

/**
 * struct fuzz_handle - a map or a vec, and what the model knows of it
 * @map: the map
 * @vec: or the vec
 * @own: memory, and device memory, that is this handle's
 * @seen: what the device must find in the slots, by byte of the handle
 * @dev: for whom it is mapped, NULL where it maps nothing
 * @is_vec: it is a vec
 * @kind: of its ranges
 * @route: which way
 * @dir: direction
 * @flags: flags
 * @size: length in bytes
 * @bus_offset: from physical to bus address
 * @runs: its ranges, those that follow each other being one
 * @count: number of runs
 * @area: where the bytes lie, NULL where they are not looked at
 * @peer: whose the ranges are, NULL for nobody
 */
struct fuzz_handle {
	struct dma_phys_map map;
	struct dma_phys_vec vec;
	struct fuzz_area own[2];
	u8 *seen;
	struct fuzz_dev *dev;
	bool is_vec;
	enum dma_phys_kind kind;
	enum dma_phys_route route;
	int dir;
	u32 flags;
	size_t size;
	u64 bus_offset;
	struct fuzz_run runs[FUZZ_RANGES];
	size_t count;
	struct fuzz_area *area;
	struct fuzz_peer *peer;
};

enum { FUZZ_EDU, FUZZ_LENDER, FUZZ_NO_MASK, FUZZ_NO_DRIVER, FUZZ_DEVS };

#define FUZZ_ERRNOS	12
#define FUZZ_RAMS	16

/**
 * struct fuzz - one run
 * @random: state of the random numbers
 * @ops: operations done
 * @lie: what the model believes wrongly
 * @tally: operations by kind and errno
 * @routes: maps by route
 * @wrong: what was wrong first, empty if nothing was
 * @dev: the devices
 * @peer: BAR 0 of edu, BAR 2 of the lender
 * @handle: the handles
 * @rams: all memory of the machine
 * @ram_count: entries in use there
 * @memory: what the areas of memory are cut from
 * @shared: memory that all devices may read at once
 * @shadows: what the shadows are cut from
 * @edu: edu's registers, what it has in its buffer, what it is doing for whom
 */
struct fuzz {
	u64 random;
	u64 ops;
	enum fuzz_lie lie;
	u32 tally[FUZZ_OPS][FUZZ_ERRNOS];
	u32 routes[DMA_PHYS_BUS + 1];
	char wrong[640];
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
		bool push;
		u64 since;
	} edu;
};

/* The first thing that is wrong is kept, and ends the run. */
__printf(2, 3) void fuzz_wrong(struct fuzz *fuzz, const char *fmt, ...);
bool fuzz_right(const struct fuzz *fuzz);

/* One operation was done: count it, and look whether it may end like that. */
void fuzz_done(struct fuzz *fuzz, enum fuzz_op op, int err, u32 allowed);
u32 fuzz_bit(int err);
const char *fuzz_errno_name(unsigned int index);
extern const char *const fuzz_op_names[FUZZ_OPS];

/* What may come of it: bits of 0 and of negative errnos. */
u32 fuzz_expect_cpu(const struct fuzz *fuzz, phys_addr_t addr, u64 len);
u32 fuzz_expect_mmio(const struct fuzz *fuzz, u64 start, u64 size, u64 offset,
		     u64 len);
u32 fuzz_expect_map(const struct fuzz *fuzz, const struct fuzz_call *call);

/* A call has mapped: what the model knows from now on; and all is as it must. */
void fuzz_mapped(struct fuzz *fuzz, struct fuzz_handle *handle,
		 const struct fuzz_call *call);
void fuzz_unmapped(struct fuzz *fuzz, struct fuzz_handle *handle);
/* Nothing is left in the handle, and nothing was put there. */
void fuzz_check_empty(struct fuzz *fuzz, const struct fuzz_handle *handle);

/* Bytes [@at, @at + @len) go from one side to the other. */
void fuzz_synced(struct fuzz_handle *handle, size_t at, size_t len,
		 bool for_cpu);

/* Where the device finds byte @at, and how many more are in a row there. */
dma_addr_t fuzz_dma_addr(const struct fuzz_handle *handle, size_t at,
			 size_t *left);

/* The CPU reads and must find what it must. */
void fuzz_cpu_reads(struct fuzz *fuzz, const struct fuzz_handle *handle,
		    size_t at, size_t len);

/* The device reads and must find what it must, or writes. */
void fuzz_device_reads(struct fuzz *fuzz, struct fuzz_handle *handle,
		       size_t at, size_t len);
void fuzz_device_writes(struct fuzz *fuzz, struct fuzz_handle *handle,
			size_t at, const u8 *data, size_t len);
/* What the device must find there, or will from now on. */
void fuzz_device_bytes(const struct fuzz_handle *handle, size_t at, u8 *data,
		       size_t len, bool write);

/* Devices. */
int fuzz_devices_start(struct fuzz *fuzz);
void fuzz_devices_end(struct fuzz *fuzz);
void fuzz_configure(struct fuzz_dev *dev, u64 reach, u64 max, u64 boundary,
		    u64 align, bool forced, bool untrusted);
/* Bounce slots and IOVA space that are free, in units; one missing is a leak. */
unsigned int fuzz_free_units(struct fuzz *fuzz);
void fuzz_edu_start(struct fuzz *fuzz, struct fuzz_handle *handle, size_t at,
		    size_t len, bool push);
void fuzz_edu_finish(struct fuzz *fuzz);

#endif /* _KERNEL_DMA_PHYS_FUZZ_H */

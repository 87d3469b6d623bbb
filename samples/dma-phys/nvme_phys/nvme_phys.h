/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An NVMe driver that uses typed DMA mapping: shared by its files.
 *
 * This is the second lesson. The first is samples/dma-phys/edu_phys.c.
 *
 * Read the 250 lines that map requests: data.c from "SGL descriptors" to its
 * end, and nvme_phys_unmap_rq() in request.c. nvme_phys_map_data() maps a
 * request segment by segment, and writes PRP entries or SGL descriptors
 * meanwhile. nvme_phys_complete_rq() unmaps it, once the controller has finished
 * or was disabled. Also of interest are nvme_phys_alloc_lists(), for the pool of
 * unmap records; nvme_phys_admin_read(), for maps of one range that are kept; and
 * cmb.c, for a BAR that is shared with other devices.
 *
 * Skip the rest, which is what any NVMe driver does: queue.c submits commands
 * and handles completions, controller.c and admin.c have registers and admin
 * commands, block.c and ioctl.c serve users, recovery.c stops and restarts the
 * controller, power.c handles suspend and PCI errors, and pci.c sets all of it
 * up and removes it.
 *
 * Numbers in brackets are sections of the NVM Express base specification 1.4.
 * samples/rust/rust_nvme_phys is the same driver in Rust, with the same steps in
 * the same order. It does not suspend the sharing of its CMB around a reset.
 */
#ifndef NVME_PHYS_H
#define NVME_PHYS_H

#include <linux/atomic.h>
#include <linux/blk-mq.h>
#include <linux/completion.h>
#include <linux/dma-phys.h>
#include <linux/dmapool.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/nvme.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#define NVME_PHYS_ADMIN_DEPTH	32
#define NVME_PHYS_ADMIN_BYTES	SZ_4K		/* data buffer of a command */
#define NVME_PHYS_IO_SECONDS	30		/* time limit of a request */
#define NVME_PHYS_DRAIN_MS	5000
#define NVME_PHYS_MAX_TRANSFER	SZ_1M
#define NVME_PHYS_MAX_SEGMENTS	128
#define NVME_PHYS_MAX_RETRIES	3		/* after an error or an abort */

/*
 * The id of a command is its tag, and a generation that counts the commands
 * with this tag. A completion that is late or doubled has another generation.
 */
#define NVME_PHYS_TAG_BITS	12
#define NVME_PHYS_MAX_DEPTH	BIT(NVME_PHYS_TAG_BITS)
#define NVME_PHYS_GENERATIONS	16

/*
 * Two sizes of descriptor lists: 32 or 512 PRP entries, 16 or 256 SGL
 * descriptors. The large one holds any request, so that no list is chained.
 */
#define NVME_PHYS_SMALL_LIST	256
#define NVME_PHYS_LARGE_LIST	SZ_4K

/**
 * struct nvme_phys_list - memory that a command points to
 * @addr: PRP list, SGL segment or DSM range, NULL if the command needs none
 * @dma: its DMA address
 * @size: length in bytes
 */
struct nvme_phys_list {
	void *addr;
	dma_addr_t dma;
	u32 size;
};

/* Bit in nvme_phys_queue.flags: a request uses the reserved list. */
#define NVME_PHYS_RESERVE_BUSY	0

/**
 * struct nvme_phys_queue - a submission queue and its completion queue
 * @ctrl: the controller
 * @id: 0 is the admin queue
 * @vector: interrupt vector
 * @depth: entries in each of the two
 * @has_irq: the interrupt is requested
 * @bytes: memory of @sq, @cq, @generations and @reserve: what the queue has at
 *	rest, beside the driver data of requests
 * @generations: of each tag, see NVME_PHYS_TAG_BITS; written by its owner
 * @sq: submission queue
 * @sq_dma: its DMA address
 * @sq_db: its doorbell
 * @sq_lock: protects @sq_tail and @last_sq_tail, and the entries of @sq
 * @sq_tail: next entry to fill
 * @last_sq_tail: value last written to the doorbell
 * @cq_lock: protects @cq_head, @phase and @ignored; taken by the interrupt and
 *	by polling
 * @cq: completion queue
 * @cq_dma: its DMA address
 * @cq_db: its doorbell
 * @cq_head: next entry to check
 * @phase: phase bit of the next new entry
 * @ignored: completions of unknown commands so far
 * @pool: unmap records of the requests
 * @small_lists: descriptor lists of NVME_PHYS_SMALL_LIST bytes
 * @large_lists: descriptor lists of NVME_PHYS_LARGE_LIST bytes
 * @reserve: a large list for one request if the pools are out of memory
 * @flags: NVME_PHYS_RESERVE_BUSY
 */
struct nvme_phys_queue {
	struct nvme_phys *ctrl;
	u16 id;
	u16 vector;
	u32 depth;
	bool has_irq;
	size_t bytes;
	u8 *generations;

	struct nvme_command *sq;
	dma_addr_t sq_dma;
	u32 __iomem *sq_db;
	spinlock_t sq_lock ____cacheline_aligned_in_smp;
	u32 sq_tail;
	u32 last_sq_tail;

	spinlock_t cq_lock ____cacheline_aligned_in_smp;
	struct nvme_completion *cq;
	dma_addr_t cq_dma;
	u32 __iomem *cq_db;
	u32 cq_head;
	u16 phase;
	u32 ignored;

	struct dma_phys_pool *pool;
	struct dma_pool *small_lists;
	struct dma_pool *large_lists;
	struct nvme_phys_list reserve;
	unsigned long flags;
};

/**
 * struct nvme_phys_request - driver data of a block request
 * @cmd: the command for the controller
 * @sg: mapping of the data, while the controller has the command
 * @list: descriptor list of the command
 * @status: status field of the completion, without the phase bit
 * @attempts: failed attempts so far, aborted ones as well
 * @aborted: the controller was asked to abort the command
 */
struct nvme_phys_request {
	struct nvme_command cmd;
	struct dma_phys_sg sg;
	struct nvme_phys_list list;
	u16 status;
	u8 attempts;
	bool aborted;
};

/**
 * struct nvme_phys_ns - a namespace and its disk
 * @ctrl: the controller, of which this holds a reference
 * @node: entry in the list of the controller
 * @disk: the disk; this is freed with it
 * @id: namespace id
 * @shift: log2 of the block size in bytes
 * @deallocate: Write Zeroes may deallocate blocks
 */
struct nvme_phys_ns {
	struct nvme_phys *ctrl;
	struct list_head node;
	struct gendisk *disk;
	u32 id;
	u8 shift;
	bool deallocate;
};

/*
 * The admin queue has two commands at most: one of the driver, under the lock
 * of the controller, and one of a program, which may take long. Their tags:
 */
enum {
	NVME_PHYS_SLOT_DRIVER,
	NVME_PHYS_SLOT_USER,
	NVME_PHYS_SLOTS
};

/**
 * struct nvme_phys_slot - the one admin command with a tag
 * @data: its data, NVME_PHYS_ADMIN_BYTES
 * @map: map of @data, which is kept
 * @done: completed by the completion of the command, or when it is cancelled
 * @id: id of the last command
 * @pending: the controller has it; this, @id and what follows are protected by
 *	the cq_lock of the admin queue
 * @error: 0, or -EIO if the command was cancelled
 * @status: status field of the completion, without the phase bit
 * @result: result of the completion
 */
struct nvme_phys_slot {
	void *data;
	struct dma_phys_map map;
	struct completion done;
	u16 id;
	bool pending;
	int error;
	u16 status;
	u32 result;
};

/**
 * struct nvme_phys - a controller
 * @ref: of the driver and of each namespace: open files outlive the driver
 * @pdev: the device; not used after remove()
 * @index: number in the names of the disks
 * @regs: registers (BAR 0)
 * @cap: value of the CAP register
 * @version: value of the VS register
 * @page_size: memory page size that the controller is set to, in bytes
 * @ready_ms: time limit for enabling and disabling
 * @shutdown_ms: time limit for a shutdown
 * @max_transfer: bytes in one command
 * @max_discard: blocks that one Dataset Management command deallocates, 0 if
 *	not limited
 * @max_zeroes: bytes in one Write Zeroes command, 0 if not reported
 * @retry_ms: delay of a retry, for each value of the CRD field of a status
 * @max_nsid: largest namespace id
 * @sgl: SGL descriptors are used
 * @write_cache: there is a volatile write cache
 * @discard: Dataset Management is supported
 * @write_zeroes: Write Zeroes is supported
 * @vectors: number of interrupt vectors
 * @queues: number of I/O queues
 * @admin: the admin queue
 * @io: the I/O queues
 * @tags: of all namespaces
 * @namespaces: does not change between the end of probe() and remove()
 * @failed_work: marks the disks of a failed controller dead
 * @admin_lock: held by a program for its admin command; taken before @lock.
 *	While it waits for the command it does not hold @lock, so that requests
 *	that time out are aborted, and the controller is reset or removed.
 * @lock: serializes admin commands of the driver and changes of state; protects
 *	@running, @quiesced and @disks_added
 * @running: the controller is enabled
 * @quiesced: no request reaches the I/O queues
 * @disks_added: @namespaces is complete
 * @slots: the admin commands
 * @failed: the controller will not run again and requests fail; written under
 *	@lock, read without
 * @frozen: the machine shuts down, and the queues of the disks stay frozen;
 *	protected by the device lock
 * @path_warned: it was logged that a peer cannot be reached
 * @cmb_bar: BAR of the controller memory buffer
 * @cmb_size: its length in bytes, 0 if it is not shared
 * @cmb_group: devres group of the resources that share it
 */
struct nvme_phys {
	struct kref ref;
	struct pci_dev *pdev;
	int index;

	void __iomem *regs;
	u64 cap;
	u32 version;
	u32 page_size;
	u32 ready_ms;
	u32 shutdown_ms;

	u32 max_transfer;
	u32 max_discard;
	u32 max_zeroes;
	u32 retry_ms[4];
	u32 max_nsid;
	bool sgl;
	bool write_cache;
	bool discard;
	bool write_zeroes;

	unsigned int vectors;
	unsigned int queues;
	struct nvme_phys_queue admin;
	struct nvme_phys_queue *io;
	struct blk_mq_tag_set tags;
	struct list_head namespaces;
	struct work_struct failed_work;

	struct mutex admin_lock;	/* see above */
	struct mutex lock;		/* see above */
	bool running;
	bool quiesced;
	bool disks_added;
	struct nvme_phys_slot slots[NVME_PHYS_SLOTS];

	bool failed;
	bool frozen;
	atomic_t path_warned;

	int cmb_bar;
	u64 cmb_size;
	void *cmb_group;
};

static inline bool nvme_phys_has_failed(const struct nvme_phys *ctrl)
{
	return READ_ONCE(ctrl->failed);
}

/*
 * PCI error recovery restarts or fails the controller. Not so if the device is
 * disconnected: then nobody does, and pci_channel_offline() is true as well.
 */
static inline bool nvme_phys_in_recovery(const struct nvme_phys *ctrl)
{
	return READ_ONCE(ctrl->pdev->error_state) == pci_channel_io_frozen;
}

/* Submission and completion queues (queue.c) */
int nvme_phys_queue_alloc(struct nvme_phys *ctrl, struct nvme_phys_queue *q,
			  unsigned int id, u32 depth);
void nvme_phys_queue_free(struct nvme_phys_queue *q);
void nvme_phys_queue_reset(struct nvme_phys_queue *q);
int nvme_phys_queue_request_irq(struct nvme_phys_queue *q);
void nvme_phys_queue_free_irq(struct nvme_phys_queue *q);
u16 nvme_phys_queue_next_id(struct nvme_phys_queue *q, u32 tag);
void nvme_phys_queue_submit(struct nvme_phys_queue *q,
			    const struct nvme_command *cmd, bool last);
void nvme_phys_queue_submit_list(struct nvme_phys_queue *q,
				 struct rq_list *list);
void nvme_phys_queue_ring(struct nvme_phys_queue *q);
bool nvme_phys_queue_poll(struct nvme_phys_queue *q);

/* Mapping of data, and descriptor lists (data.c) */
int nvme_phys_alloc_lists(struct nvme_phys_queue *q);
void nvme_phys_free_lists(struct nvme_phys_queue *q);
int nvme_phys_get_list(struct nvme_phys_queue *q, struct nvme_phys_list *list,
		       size_t size);
void nvme_phys_put_list(struct nvme_phys_queue *q, struct nvme_phys_list *list);
blk_status_t nvme_phys_map_data(struct nvme_phys_queue *q, struct request *rq);

/* Registers, identification, I/O queues of the controller (controller.c) */
bool nvme_phys_is_gone(struct nvme_phys *ctrl);
int nvme_phys_read_cap(struct nvme_phys *ctrl);
int nvme_phys_enable(struct nvme_phys *ctrl);
int nvme_phys_disable(struct nvme_phys *ctrl);
void nvme_phys_notify_shutdown(struct nvme_phys *ctrl);
int nvme_phys_identify(struct nvme_phys *ctrl, u8 cns, u32 nsid, void *data);
int nvme_phys_identify_ctrl(struct nvme_phys *ctrl, void *data);
int nvme_phys_set_host_behavior(struct nvme_phys *ctrl);
int nvme_phys_set_queue_count(struct nvme_phys *ctrl, unsigned int want,
			      unsigned int *count);
int nvme_phys_create_queues(struct nvme_phys *ctrl, unsigned int *count);
void nvme_phys_put(struct nvme_phys *ctrl);

/* Admin commands (admin.c) */
int nvme_phys_admin(struct nvme_phys *ctrl, struct nvme_command *cmd, u32 ms,
		    u32 *result);
int nvme_phys_admin_read(struct nvme_phys *ctrl, struct nvme_command *cmd,
			 void *data);
int nvme_phys_admin_write(struct nvme_phys *ctrl, struct nvme_command *cmd,
			  const void *data, size_t size);
int nvme_phys_admin_user(struct nvme_phys *ctrl, struct nvme_command *cmd,
			 void *data, u32 ms, u32 *result);
void nvme_phys_cancel_admin_user(struct nvme_phys *ctrl);
int nvme_phys_alloc_admin_data(struct nvme_phys *ctrl);
void nvme_phys_free_admin_data(struct nvme_phys *ctrl);
int nvme_phys_set_align_mask(struct nvme_phys *ctrl, u32 mask);

/* Disks (block.c) */
int nvme_phys_add_disks(struct nvme_phys *ctrl);
void nvme_phys_remove_disks(struct nvme_phys *ctrl);

/* Requests of disks (request.c) */
int nvme_phys_alloc_tags(struct nvme_phys *ctrl);
void nvme_phys_complete_rq(struct request *rq);
void nvme_phys_complete_batch(struct io_comp_batch *batch);

/* ioctl(2) on a disk (ioctl.c) */
int nvme_phys_ioctl(struct block_device *bdev, blk_mode_t mode,
		    unsigned int cmd, unsigned long arg);

/* Timeout, reset, failure, suspend (recovery.c) */
enum blk_eh_timer_return nvme_phys_timeout(struct request *rq);
int nvme_phys_restart(struct nvme_phys *ctrl);
void nvme_phys_reset(struct nvme_phys *ctrl);
int nvme_phys_freeze(struct nvme_phys *ctrl, unsigned int ms);
void nvme_phys_unfreeze(struct nvme_phys *ctrl);
void nvme_phys_stop(struct nvme_phys *ctrl, bool shutdown);
void nvme_phys_fail(struct nvme_phys *ctrl);
void nvme_phys_mark_disks_dead(struct nvme_phys *ctrl);
void nvme_phys_quiesce(struct nvme_phys *ctrl);
void nvme_phys_unquiesce(struct nvme_phys *ctrl);

/* The controller memory buffer (cmb.c) */
void nvme_phys_share_cmb(struct nvme_phys *ctrl);
void nvme_phys_enable_cmb(struct nvme_phys *ctrl);
void nvme_phys_suspend_cmb(struct nvme_phys *ctrl);
void nvme_phys_resume_cmb(struct nvme_phys *ctrl);
void nvme_phys_unshare_cmb(struct nvme_phys *ctrl);

/* Power, resets and PCI errors (power.c) */
extern const struct dev_pm_ops nvme_phys_pm;
extern const struct pci_error_handlers nvme_phys_error_handlers;
void nvme_phys_shutdown(struct pci_dev *pdev);

/* Module parameters (pci.c) */
extern bool nvme_phys_sgl;
extern unsigned int nvme_phys_depth;
extern unsigned int nvme_phys_admin_timeout;

#endif /* NVME_PHYS_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * NVMe on typed physical-address mapping: what the rooms share.
 *
 * pci brings up and down what block, cmb and controller make; life stops and
 * starts it; block and ioctl take what users want; queue is below all. Numbers in
 * brackets are sections of the NVM Express base specification 1.4.
 *
 * Twin of samples/rust/rust_nvme_phys: the same steps in the same order.
 */
#ifndef NVME_PHYS_H
#define NVME_PHYS_H

#include <linux/blk-mq.h>
#include <linux/completion.h>
#include <linux/dma-phys.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/nvme.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#define NVME_PHYS_ADMIN_DEPTH	16
#define NVME_PHYS_ADMIN_SECONDS	5		/* for one admin command */
#define NVME_PHYS_ADMIN_BYTES	SZ_4K		/* most data of one */
#define NVME_PHYS_IO_SECONDS	30
#define NVME_PHYS_DRAIN_MS	5000
#define NVME_PHYS_MAX_TRANSFER	SZ_1M
#define NVME_PHYS_MAX_SEGMENTS	128
#define NVME_PHYS_RETRIES	3		/* of a request that fails */
#define NVME_PHYS_TRIES		3		/* of one that is not answered */

/* A list of descriptors: 512 PRP entries or 256 SGL descriptors. */
#define NVME_PHYS_LIST_BYTES	SZ_4K
#define NVME_PHYS_LISTS		8		/* allocated together */

/**
 * struct nvme_phys_list - memory for what a command points at
 * @addr: PRP list, SGL segment or DSM range
 * @dma: where the controller finds it
 */
struct nvme_phys_list {
	void *addr;
	dma_addr_t dma;
};

/**
 * struct nvme_phys_queue - a submission queue and its completion queue
 * @ctrl: the controller
 * @id: 0 is the admin queue
 * @vector: interrupt vector
 * @depth: entries in each of the two
 * @has_irq: the interrupt is requested
 * @sq: submission queue
 * @sq_dma: where the controller finds it
 * @sq_db: its doorbell
 * @sq_lock: where several CPUs or tasks share the queue; what follows
 * @sq_tail: next entry to fill
 * @sq_rung: what the doorbell was told last
 * @cq_lock: interrupt against who looks without one; what follows
 * @cq: completion queue
 * @cq_dma: where the controller finds it
 * @cq_db: its doorbell
 * @cq_head: next entry to look at
 * @phase: of the next new entry
 * @lists: one for each tag
 * @segments: room for the segments of each tag
 * @room: segments in it for one tag
 */
struct nvme_phys_queue {
	struct nvme_phys *ctrl;
	u16 id;
	u16 vector;
	u32 depth;
	bool has_irq;

	struct nvme_command *sq;
	dma_addr_t sq_dma;
	u32 __iomem *sq_db;
	spinlock_t sq_lock ____cacheline_aligned_in_smp;
	u32 sq_tail;
	u32 sq_rung;

	spinlock_t cq_lock ____cacheline_aligned_in_smp;
	struct nvme_completion *cq;
	dma_addr_t cq_dma;
	u32 __iomem *cq_db;
	u32 cq_head;
	u16 phase;

	struct nvme_phys_list *lists;
	struct dma_phys_segment *segments;
	size_t room;
};

/**
 * struct nvme_phys_request - what the driver knows of a block request
 * @cmd: the command that it became
 * @vec: its data, mapped while the controller has it
 * @status: of its completion, as the controller gives it
 * @tries: how often it was done in vain
 * @aborted: the controller was asked to abort it
 */
struct nvme_phys_request {
	struct nvme_command cmd;
	struct dma_phys_vec vec;
	u16 status;
	u8 tries;
	bool aborted;
};

/**
 * struct nvme_phys_ns - a namespace and its disk
 * @ctrl: the controller, of which this holds a reference
 * @node: in the controller's list
 * @disk: the disk; this is freed with it
 * @id: number of the namespace
 * @shift: a block has so many bits of bytes
 * @deallocate: blocks that are zeroed may be deallocated
 */
struct nvme_phys_ns {
	struct nvme_phys *ctrl;
	struct list_head node;
	struct gendisk *disk;
	u32 id;
	u8 shift;
	bool deallocate;
};

/**
 * struct nvme_phys - a controller
 * @ref: the driver's and that of each namespace: open files outlive the driver
 * @pdev: the device; not used after remove()
 * @index: number in the names of its disks
 * @regs: its registers
 * @cap: what they say it can do
 * @page_size: as the controller is set to
 * @ready_ms: time it may take to become ready, or not
 * @shutdown_ms: time it may take to shut down
 * @max_transfer: bytes in one command
 * @sgl: SGL descriptors are used
 * @write_cache: it has one that may be lost
 * @discard: it knows Dataset Management
 * @write_zeroes: it knows Write Zeroes
 * @vectors: interrupt vectors
 * @queues: number of I/O queues
 * @admin: the admin queue
 * @io: the I/O queues
 * @tags: of all its namespaces
 * @namespaces: fixed between the end of probe() and remove()
 * @dead_work: tells disks that they are dead
 * @life: admin commands one at a time, and whether it lives; what follows
 * @running: it is enabled
 * @quiesced: no request reaches the I/O queues
 * @live: @namespaces is complete
 * @admin_done: an admin command was completed
 * @admin_id: the command that is waited for
 * @admin_status: how it ended
 * @admin_result: and what it returned
 * @dead: it will not run again: requests fail. Read without @life.
 * @cmb_bar: BAR of the controller memory buffer
 * @cmb_size: 0 where none is lent
 * @cmb_group: to give back what lending it took
 */
struct nvme_phys {
	struct kref ref;
	struct pci_dev *pdev;
	int index;

	void __iomem *regs;
	u64 cap;
	u32 page_size;
	u32 ready_ms;
	u32 shutdown_ms;

	u32 max_transfer;
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
	struct work_struct dead_work;

	struct mutex life;	/* guards what follows, to @dead */
	bool running;
	bool quiesced;
	bool live;
	struct completion admin_done;
	u16 admin_id;
	u16 admin_status;
	u32 admin_result;

	bool dead;

	int cmb_bar;
	u64 cmb_size;
	void *cmb_group;
};

static inline bool nvme_phys_is_dead(const struct nvme_phys *ctrl)
{
	return READ_ONCE(ctrl->dead);
}

/* Two submission and completion queues and their memory (queue.c) */
int nvme_phys_queue_alloc(struct nvme_phys *ctrl, struct nvme_phys_queue *q,
			  unsigned int id, u32 depth);
int nvme_phys_queue_alloc_tags(struct nvme_phys_queue *q);
void nvme_phys_queue_free(struct nvme_phys_queue *q);
void nvme_phys_queue_reset(struct nvme_phys_queue *q);
int nvme_phys_queue_irq(struct nvme_phys_queue *q);
void nvme_phys_queue_free_irq(struct nvme_phys_queue *q);
void nvme_phys_queue_submit(struct nvme_phys_queue *q,
			    const struct nvme_command *cmd, bool now);
void nvme_phys_queue_submit_all(struct nvme_phys_queue *q,
				struct rq_list *list);
void nvme_phys_queue_ring(struct nvme_phys_queue *q);
bool nvme_phys_queue_poll(struct nvme_phys_queue *q);

/* Registers and admin commands (controller.c) */
bool nvme_phys_is_gone(struct nvme_phys *ctrl);
int nvme_phys_read_cap(struct nvme_phys *ctrl);
int nvme_phys_enable(struct nvme_phys *ctrl);
int nvme_phys_disable(struct nvme_phys *ctrl);
void nvme_phys_notify_shutdown(struct nvme_phys *ctrl);
int nvme_phys_admin(struct nvme_phys *ctrl, struct nvme_command *cmd,
		    u32 *result);
int nvme_phys_admin_read(struct nvme_phys *ctrl, struct nvme_command *cmd,
			 void *data, u32 *result);
int nvme_phys_identify(struct nvme_phys *ctrl, u8 cns, u32 nsid, void *data);
int nvme_phys_identify_ctrl(struct nvme_phys *ctrl, struct nvme_id_ctrl *id);
int nvme_phys_count_queues(struct nvme_phys *ctrl, unsigned int want,
			   unsigned int *count);
int nvme_phys_create_queues(struct nvme_phys *ctrl);
void nvme_phys_put(struct nvme_phys *ctrl);

/* Disks and their requests (block.c) */
int nvme_phys_alloc_tags(struct nvme_phys *ctrl);
int nvme_phys_add_disks(struct nvme_phys *ctrl);
void nvme_phys_remove_disks(struct nvme_phys *ctrl);
void nvme_phys_completed(struct request *rq);
void nvme_phys_completed_batch(struct io_comp_batch *batch);

/* ioctl(2) on a disk (ioctl.c) */
int nvme_phys_ioctl(struct block_device *bdev, blk_mode_t mode,
		    unsigned int cmd, unsigned long arg);

/* Timeout, reset, death, sleep (life.c) */
enum blk_eh_timer_return nvme_phys_timeout(struct request *rq);
int nvme_phys_restart(struct nvme_phys *ctrl);
void nvme_phys_reset(struct nvme_phys *ctrl);
int nvme_phys_freeze(struct nvme_phys *ctrl);
void nvme_phys_unfreeze(struct nvme_phys *ctrl);
void nvme_phys_stop(struct nvme_phys *ctrl, bool in_order);
void nvme_phys_die(struct nvme_phys *ctrl);
void nvme_phys_mark_dead(struct nvme_phys *ctrl);
void nvme_phys_quiesce(struct nvme_phys *ctrl);
void nvme_phys_unquiesce(struct nvme_phys *ctrl);

/* The controller memory buffer (cmb.c) */
void nvme_phys_lend_cmb(struct nvme_phys *ctrl);
void nvme_phys_enable_cmb(struct nvme_phys *ctrl);
void nvme_phys_take_back_cmb(struct nvme_phys *ctrl);

/* Module parameters (pci.c) */
extern bool nvme_phys_sgl;
extern unsigned int nvme_phys_depth;

#endif /* NVME_PHYS_H */

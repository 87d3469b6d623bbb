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
 * commands, block.c, ioctl.c and passthru.c serve users, metadata.c is for blocks
 * with metadata, recovery.c stops and restarts the controller, power.c handles
 * suspend and PCI errors, setup.c allocates vectors and queues, and pci.c sets all
 * of it up and removes it. queue.h has the types of queues and requests.
 *
 * Documentation/core-api/dma-phys-nvme.rst lists what the driver supports.
 *
 * Numbers in brackets are sections of the NVM Express base specification 1.4.
 * samples/rust/rust_nvme_phys is the same driver in Rust, with the same steps in
 * the same order.
 */
#ifndef NVME_PHYS_H
#define NVME_PHYS_H

#include <linux/atomic.h>
#include <linux/blk-mq.h>
#include <linux/completion.h>
#include <linux/dma-phys.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/nvme.h>
#include <linux/nvme_ioctl.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/workqueue.h>

#include "queue.h"

#define NVME_PHYS_ADMIN_DEPTH	32
#define NVME_PHYS_ADMIN_BYTES	SZ_4K		/* data buffer of a command */
#define NVME_PHYS_IO_SECONDS	30		/* time limit of a request */
#define NVME_PHYS_DRAIN_MS	5000
#define NVME_PHYS_MAX_TRANSFER	SZ_1M
#define NVME_PHYS_MAX_SEGMENTS	128
#define NVME_PHYS_MAX_RETRIES	3		/* after an error or an abort */
#define NVME_PHYS_META_SEGMENTS	8		/* of the metadata of a request */
#define NVME_PHYS_MAX_SCAN	1024U		/* namespace ids that are tried */
#define NVME_PHYS_MAX_RETRY_MS	10000U		/* delay of a retry */

/**
 * struct nvme_phys_ns - a namespace and its disk
 * @ctrl: the controller, of which this holds a reference
 * @node: entry in the list of the controller
 * @disk: the disk; this is freed with it
 * @id: namespace id
 * @shift: log2 of the block size in bytes
 * @deallocate: Write Zeroes may deallocate blocks
 * @extended: metadata follows each block, and is not in memory of its own
 * @pi_type: type of protection information, 0 if there is none
 * @pi_size: its length in bytes
 * @pi_offset: its offset in the metadata
 * @guard: NVME_NVM_NS_16B_GUARD or NVME_NVM_NS_64B_GUARD
 * @metadata: bytes of metadata of each block
 */
struct nvme_phys_ns {
	struct nvme_phys *ctrl;
	struct list_head node;
	struct gendisk *disk;
	u32 id;
	u8 shift;
	bool deallocate;
	bool extended;
	u8 pi_type;
	u8 pi_size;
	u8 guard;
	u16 pi_offset;
	u16 metadata;
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
 * @meta_sgl: an SGL may describe metadata
 * @elbas: the controller reports the format of protection information
 * @write_cache: there is a volatile write cache
 * @discard: Dataset Management is supported
 * @write_zeroes: Write Zeroes is supported
 * @vectors: number of interrupt vectors
 * @queues: number of I/O queues
 * @polled: number of I/O queues without an interrupt, the last ones
 * @admin: the admin queue
 * @io: the I/O queues
 * @tags: of all namespaces
 * @namespaces: does not change between the end of probe() and remove()
 * @failed_work: marks the disks of a failed controller dead
 * @admin_lock: held by a program for its admin command; taken before @lock.
 *	While it waits for the command it does not hold @lock, so that requests
 *	that time out are aborted, and the controller is reset or removed.
 * @lock: serializes admin commands of the driver and changes of state; protects
 *	@running, @quiesced, @in_recovery and @disks_added
 * @running: the controller is enabled
 * @quiesced: no request reaches the I/O queues
 * @in_recovery: between error_detected() and the end of PCI error recovery
 * @disks_added: @namespaces is complete, and is not being removed
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
	bool meta_sgl;
	bool elbas;
	bool write_cache;
	bool discard;
	bool write_zeroes;

	unsigned int vectors;
	unsigned int queues;
	unsigned int polled;
	struct nvme_phys_queue admin;
	struct nvme_phys_queue *io;
	struct blk_mq_tag_set tags;
	struct list_head namespaces;
	struct work_struct failed_work;

	struct mutex admin_lock;	/* see above */
	struct mutex lock;		/* see above */
	bool running;
	bool quiesced;
	bool in_recovery;
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

/* Vectors and queues (setup.c) */
int nvme_phys_setup_admin(struct nvme_phys *ctrl);
int nvme_phys_alloc_queues(struct nvme_phys *ctrl);
int nvme_phys_start_queues(struct nvme_phys *ctrl);
void nvme_phys_free_vectors(struct nvme_phys *ctrl);
void nvme_phys_free_queues(struct nvme_phys *ctrl);

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

/* I/O commands of programs (passthru.c) */
int nvme_phys_io_cmd(struct nvme_phys_ns *ns, struct nvme_passthru_cmd64 *user);

/* A field is set that is reserved, or not supported. */
static inline bool
nvme_phys_user_cmd_has_reserved(const struct nvme_passthru_cmd64 *user)
{
	return user->flags || user->cdw2 || user->cdw3 || user->metadata ||
	       user->metadata_len;
}

/* The command of a program, without its data. */
static inline struct nvme_command
nvme_phys_user_cmd(const struct nvme_passthru_cmd64 *user)
{
	return (struct nvme_command){
		.common = {
			.opcode = user->opcode,
			.nsid = cpu_to_le32(user->nsid),
			.cdw10 = cpu_to_le32(user->cdw10),
			.cdw11 = cpu_to_le32(user->cdw11),
			.cdw12 = cpu_to_le32(user->cdw12),
			.cdw13 = cpu_to_le32(user->cdw13),
			.cdw14 = cpu_to_le32(user->cdw14),
			.cdw15 = cpu_to_le32(user->cdw15),
		},
	};
}

/* Timeout, reset, failure, suspend (recovery.c) */
bool nvme_phys_in_recovery(const struct nvme_phys *ctrl);
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
extern unsigned int nvme_phys_poll_queues;

#endif /* NVME_PHYS_H */

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Queues, requests, and the mapping of their data. Included by nvme_phys.h.
 */
#ifndef NVME_PHYS_QUEUE_H
#define NVME_PHYS_QUEUE_H

#include <linux/blk-integrity.h>
#include <linux/blk-mq.h>
#include <linux/dma-phys.h>
#include <linux/dmapool.h>
#include <linux/nvme.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>

struct nvme_phys;
struct nvme_phys_ns;

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

/**
 * struct nvme_phys_meta - the metadata of a request, in memory of its own
 * @sg: its mapping, while the controller has the command
 * @list: SGL segment that describes it, if it has more than one segment
 */
struct nvme_phys_meta {
	struct dma_phys_sg sg;
	struct nvme_phys_list list;
};

/* Bits in nvme_phys_queue.flags: a request uses the reserved list. */
#define NVME_PHYS_RESERVE_BUSY	0
#define NVME_PHYS_META_BUSY	1

/**
 * struct nvme_phys_queue - a submission queue and its completion queue
 * @ctrl: the controller
 * @id: 0 is the admin queue
 * @vector: interrupt vector, unless it is @polled
 * @depth: entries in each of the two
 * @polled: it has no interrupt
 * @has_irq: the interrupt is requested
 * @bytes: memory of @sq, @cq, @generations, @reserve and @meta: what the queue has
 *	at rest, beside the driver data of requests
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
 * @meta: metadata of the request with each tag. This and the next two members
 *	are allocated only if a disk has an integrity profile.
 * @meta_pool: unmap records of the metadata
 * @meta_reserve: a small list for the metadata of one request
 * @flags: NVME_PHYS_RESERVE_BUSY, NVME_PHYS_META_BUSY
 */
struct nvme_phys_queue {
	struct nvme_phys *ctrl;
	u16 id;
	u16 vector;
	u32 depth;
	bool polled;
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
	struct nvme_phys_meta *meta;
	struct dma_phys_pool *meta_pool;
	struct nvme_phys_list meta_reserve;
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

/* SGL descriptors [4.4] */
static inline struct nvme_sgl_desc nvme_phys_sgl_desc(u64 addr, u32 len,
						      u8 type)
{
	return (struct nvme_sgl_desc){
		.addr = cpu_to_le64(addr),
		.length = cpu_to_le32(len),
		.type = type << 4,
	};
}

static inline struct nvme_sgl_desc nvme_phys_sgl_data(u64 addr, u32 len)
{
	return nvme_phys_sgl_desc(addr, len, NVME_SGL_FMT_DATA_DESC);
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
blk_status_t nvme_phys_map_data_sgl(struct nvme_phys_queue *q,
				    struct request *rq);
void nvme_phys_unmap_data(struct nvme_phys_queue *q,
			  struct nvme_phys_request *nreq);
blk_status_t nvme_phys_map_status(struct nvme_phys *ctrl, int err);

/* Metadata and protection information (metadata.c) */
int nvme_phys_read_metadata(struct nvme_phys_ns *ns,
			    const struct nvme_id_ns *id);
bool nvme_phys_metadata_is_supported(const struct nvme_phys_ns *ns);
void nvme_phys_set_integrity(const struct nvme_phys_ns *ns,
			     struct queue_limits *lim);
int nvme_phys_alloc_metadata(struct nvme_phys_ns *ns);
void nvme_phys_free_metadata(struct nvme_phys_queue *q);
void nvme_phys_set_pi_zeroes(const struct nvme_phys_ns *ns, struct request *rq,
			     struct nvme_command *cmd);
blk_status_t nvme_phys_map_with_metadata(const struct nvme_phys_ns *ns,
					 struct nvme_phys_queue *q,
					 struct request *rq);
void nvme_phys_sync_metadata(struct nvme_phys_queue *q, struct request *rq);
void nvme_phys_unmap_metadata(struct nvme_phys_queue *q, struct request *rq);

/* Start a request that is mapped. From then on a completion may end it. */
static inline void nvme_phys_start_rq(struct nvme_phys_queue *q,
				      struct request *rq)
{
	blk_mq_start_request(rq);
	if (unlikely(blk_integrity_rq(rq)))
		nvme_phys_sync_metadata(q, rq);
}

#endif /* NVME_PHYS_QUEUE_H */

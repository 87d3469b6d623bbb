// SPDX-License-Identifier: GPL-2.0
/*
 * Metadata of blocks, and protection information (PI) in it [8.3].
 *
 * Metadata in memory of its own is a second list of a request. Metadata that
 * follows each block is not supported, except for PI that is all of it: the
 * controller inserts and strips that (PRACT).
 */
#include <linux/blk-mq-dma-phys.h>
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/slab.h>
#include <linux/t10-pi.h>

#include "nvme_phys.h"

/* ---- Formats ---- */

/* The controller can insert and strip PI, but no other metadata. */
static bool nvme_phys_is_only_pi(const struct nvme_phys_ns *ns)
{
	return ns->pi_type && ns->metadata == ns->pi_size;
}

/* The disk has an integrity profile: requests carry metadata. */
static bool nvme_phys_has_profile(const struct nvme_phys_ns *ns)
{
	return IS_ENABLED(CONFIG_BLK_DEV_INTEGRITY) && ns->metadata &&
	       !ns->extended;
}

/* Guards of 32 bits and storage tags are not supported: no PI then. */
static u8 nvme_phys_guard_pi_size(u8 guard)
{
	switch (guard) {
	case NVME_NVM_NS_16B_GUARD:
		return sizeof(struct t10_pi_tuple);
	case NVME_NVM_NS_64B_GUARD:
		return sizeof(struct crc64_pi_tuple);
	default:
		return 0;
	}
}

static void nvme_phys_set_guard(struct nvme_phys_ns *ns,
				const struct nvme_id_ns_nvm *nvm, u8 format)
{
	u32 elbaf = le32_to_cpu(nvm->elbaf[format]);

	ns->guard = nvme_elbaf_guard_type(elbaf);
	if (nvm->pic & NVME_ID_NS_NVM_QPIFS &&
	    ns->guard == NVME_NVM_NS_QTYPE_GUARD)
		ns->guard = nvme_elbaf_qualified_guard_type(elbaf);
	ns->pi_size = nvme_elbaf_sts(elbaf) ? 0 :
					      nvme_phys_guard_pi_size(ns->guard);
}

/* A controller that reports no format of PI has 16-bit guards. */
static int nvme_phys_read_guard(struct nvme_phys_ns *ns, u8 format)
{
	struct nvme_id_ns_nvm *nvm __free(kfree) = NULL;
	int err;

	ns->guard = NVME_NVM_NS_16B_GUARD;
	ns->pi_size = sizeof(struct t10_pi_tuple);
	if (!ns->ctrl->elbas)
		return 0;
	nvm = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
	if (!nvm)
		return -ENOMEM;
	scoped_guard(mutex, &ns->ctrl->lock)
		err = nvme_phys_identify(ns->ctrl, NVME_ID_CNS_CS_NS, ns->id,
					 nvm);
	if (!err)
		nvme_phys_set_guard(ns, nvm, format);
	return min(err, 0);
}

/**
 * nvme_phys_read_metadata() - read the format of the metadata of a namespace
 * @ns: the namespace, with its id
 * @id: its identification
 *
 * Return: 0, -ENOMEM, or a negative errno of nvme_phys_admin_read().
 */
int nvme_phys_read_metadata(struct nvme_phys_ns *ns,
			    const struct nvme_id_ns *id)
{
	u8 format = nvme_lbaf_index(id->flbas);
	int err;

	ns->metadata = le16_to_cpu(id->lbaf[format].ms);
	if (!ns->metadata)
		return 0;
	ns->extended = id->flbas & NVME_NS_FLBAS_META_EXT;
	err = nvme_phys_read_guard(ns, format);
	if (err || !ns->pi_size || ns->metadata < ns->pi_size)
		return err;
	ns->pi_type = id->dps & NVME_NS_DPS_PI_MASK;
	if (ns->pi_type > NVME_NS_DPS_PI_TYPE3)	/* reserved */
		ns->pi_type = 0;
	if (!(id->dps & NVME_NS_DPS_PI_FIRST))
		ns->pi_offset = ns->metadata - ns->pi_size;
	return 0;
}

/**
 * nvme_phys_metadata_is_supported() - check whether a disk may have metadata
 * @ns: the namespace, see nvme_phys_read_metadata()
 *
 * Metadata must be aligned to 4 bytes, also that of a request that starts with
 * a later block. The size in a profile has 8 bits: if it were truncated, the
 * controller would access memory that is not mapped.
 *
 * Return: true if there is no metadata, or if it is supported.
 */
bool nvme_phys_metadata_is_supported(const struct nvme_phys_ns *ns)
{
	return !ns->metadata || nvme_phys_is_only_pi(ns) ||
	       (nvme_phys_has_profile(ns) && !(ns->metadata & 3) &&
		ns->metadata <= U8_MAX);
}

static void nvme_phys_set_pi_profile(const struct nvme_phys_ns *ns,
				     struct blk_integrity *profile)
{
	bool crc64 = ns->guard == NVME_NVM_NS_64B_GUARD;
	size_t ref_tag = crc64 ? 6 : sizeof(u32);

	profile->csum_type = crc64 ? BLK_INTEGRITY_CSUM_CRC64 :
				     BLK_INTEGRITY_CSUM_CRC;
	profile->flags |= BLK_INTEGRITY_DEVICE_CAPABLE;
	profile->pi_tuple_size = ns->pi_size;
	profile->pi_offset = ns->pi_offset;
	/* The application tag. With type 3 the reference tag belongs to it. */
	profile->tag_size = sizeof(u16);
	if (ns->pi_type == NVME_NS_DPS_PI_TYPE3)
		profile->tag_size += ref_tag;
	else
		profile->flags |= BLK_INTEGRITY_REF_TAG;
}

/**
 * nvme_phys_set_integrity() - set the integrity profile of a disk
 * @ns: its namespace
 * @lim: the limits of the disk
 *
 * Without PI, the block layer writes zeroes as metadata, and checks nothing.
 */
void nvme_phys_set_integrity(const struct nvme_phys_ns *ns,
			     struct queue_limits *lim)
{
	struct blk_integrity *profile = &lim->integrity;

	if (!nvme_phys_has_profile(ns))
		return;
	lim->max_integrity_segments = ns->ctrl->meta_sgl ?
				      NVME_PHYS_META_SEGMENTS : 1;
	profile->metadata_size = ns->metadata;
	profile->flags = BLK_SPLIT_INTERVAL_CAPABLE;
	if (ns->pi_type)
		nvme_phys_set_pi_profile(ns, profile);
}

/* ---- Memory ---- */

static int nvme_phys_alloc_queue_metadata(struct nvme_phys_queue *q)
{
	q->meta = kvzalloc_objs(*q->meta, q->depth);
	/* Not the pool of the data: a request has a list in each of the two. */
	q->meta_pool = dma_phys_pool_create(&q->ctrl->pdev->dev,
					    NVME_PHYS_META_SEGMENTS,
					    BLK_INTEGRITY_MAX_SIZE);
	if (!q->meta || !q->meta_pool)
		return -ENOMEM;
	for (u32 i = 0; i < q->depth; i++)
		q->meta[i].sg.pool = q->meta_pool;

	q->meta_reserve.size = NVME_PHYS_SMALL_LIST;
	q->meta_reserve.addr = dma_pool_alloc(q->small_lists, GFP_KERNEL,
					      &q->meta_reserve.dma);
	if (!q->meta_reserve.addr)
		return -ENOMEM;
	q->bytes += q->depth * sizeof(*q->meta) + PAGE_SIZE;
	return 0;
}

/**
 * nvme_phys_alloc_metadata() - prepare all I/O queues for requests with metadata
 * @ns: a namespace that is supported; no disk was added yet
 *
 * Nothing is allocated if the disk has no integrity profile. After a failure,
 * nvme_phys_free_metadata() frees what was allocated.
 *
 * Return: 0 or -ENOMEM.
 */
int nvme_phys_alloc_metadata(struct nvme_phys_ns *ns)
{
	struct nvme_phys *ctrl = ns->ctrl;
	int err = 0;

	if (!nvme_phys_has_profile(ns) || ctrl->io[0].meta)
		return 0;
	for (unsigned int i = 0; i < ctrl->queues && !err; i++)
		err = nvme_phys_alloc_queue_metadata(&ctrl->io[i]);
	return err;
}

/**
 * nvme_phys_free_metadata() - the reverse of nvme_phys_alloc_metadata()
 * @q: a queue; all its requests are completed
 */
void nvme_phys_free_metadata(struct nvme_phys_queue *q)
{
	if (q->meta_reserve.addr)
		dma_pool_free(q->small_lists, q->meta_reserve.addr,
			      q->meta_reserve.dma);
	dma_phys_pool_destroy(q->meta_pool);
	kvfree(q->meta);
}

static int nvme_phys_get_meta_list(struct nvme_phys_queue *q,
				   struct nvme_phys_list *list)
{
	list->size = NVME_PHYS_SMALL_LIST;
	list->addr = dma_pool_alloc(q->small_lists, GFP_ATOMIC | __GFP_NOWARN,
				    &list->dma);
	if (list->addr)
		return 0;
	if (test_and_set_bit_lock(NVME_PHYS_META_BUSY, &q->flags))
		return -ENOMEM;
	*list = q->meta_reserve;
	return 0;
}

static void nvme_phys_put_meta_list(struct nvme_phys_queue *q,
				    struct nvme_phys_list *list)
{
	if (list->addr == q->meta_reserve.addr)
		clear_bit_unlock(NVME_PHYS_META_BUSY, &q->flags);
	else
		dma_pool_free(q->small_lists, list->addr, list->dma);
	list->addr = NULL;
}

/* ---- Commands ---- */

static void nvme_phys_set_ref_tag(const struct nvme_phys_ns *ns,
				  struct request *rq, struct nvme_command *cmd)
{
	u64 tag = ext_pi_ref_tag(rq);

	if (ns->pi_type == NVME_NS_DPS_PI_TYPE3)
		return;
	cmd->rw.reftag = cpu_to_le32(lower_32_bits(tag));
	if (ns->guard == NVME_NVM_NS_64B_GUARD)
		cmd->rw.cdw3 = cpu_to_le32(upper_32_bits(tag));
}

/* The controller inserts or strips PI. */
static void nvme_phys_set_pract(const struct nvme_phys_ns *ns,
				struct request *rq, struct nvme_command *cmd)
{
	cmd->rw.control |= cpu_to_le16(NVME_RW_PRINFO_PRACT);
	nvme_phys_set_ref_tag(ns, rq, cmd);
}

/**
 * nvme_phys_set_pi_zeroes() - let Write Zeroes write valid PI
 * @ns: the namespace
 * @rq: the request
 * @cmd: its command
 */
void nvme_phys_set_pi_zeroes(const struct nvme_phys_ns *ns, struct request *rq,
			     struct nvme_command *cmd)
{
	if (nvme_phys_is_only_pi(ns))
		nvme_phys_set_pract(ns, rq, cmd);
}

/* The controller checks what the block layer asks for. */
static void nvme_phys_set_prchk(const struct nvme_phys_ns *ns,
				struct request *rq, struct nvme_command *cmd)
{
	u16 control = 0;

	if (bio_integrity_flagged(rq->bio, BIP_CHECK_GUARD))
		control |= NVME_RW_PRINFO_PRCHK_GUARD;
	if (bio_integrity_flagged(rq->bio, BIP_CHECK_REFTAG)) {
		control |= NVME_RW_PRINFO_PRCHK_REF;
		nvme_phys_set_ref_tag(ns, rq, cmd);
	}
	if (bio_integrity_flagged(rq->bio, BIP_CHECK_APPTAG)) {
		control |= NVME_RW_PRINFO_PRCHK_APP;
		cmd->rw.lbat = cpu_to_le16(bio_integrity(rq->bio)->app_tag);
		cmd->rw.lbatm = cpu_to_le16(U16_MAX);
	}
	cmd->rw.control |= cpu_to_le16(control);
}

/* ---- Mapping ---- */

/* The first descriptor describes the SGL segment, which has the others. */
static int nvme_phys_set_meta_sgl(struct nvme_phys_queue *q,
				  struct nvme_command *cmd,
				  struct nvme_phys_meta *meta,
				  struct blk_dma_phys_iter *iter)
{
	struct nvme_sgl_desc *descs;
	size_t count = 0;
	int more;

	if (!q->ctrl->meta_sgl)
		return -E2BIG;
	more = nvme_phys_get_meta_list(q, &meta->list);
	if (more)
		return more;
	descs = meta->list.addr;
	do {
		if (++count == meta->list.size / sizeof(*descs))
			return -E2BIG;
		descs[count] = nvme_phys_sgl_data(iter->sg.addr, iter->sg.len);
		more = blk_rq_dma_phys_map_next(&meta->sg, iter);
	} while (more > 0);
	descs[0] = nvme_phys_sgl_desc(meta->list.dma + sizeof(*descs),
				      count * sizeof(*descs),
				      NVME_SGL_FMT_LAST_SEG_DESC);
	cmd->common.flags = NVME_CMD_SGL_METASEG;
	cmd->common.metadata = cpu_to_le64(meta->list.dma);
	return more;
}

static int nvme_phys_map_metadata(struct nvme_phys_queue *q,
				  struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	struct nvme_phys_meta *meta = &q->meta[rq->tag];
	struct blk_dma_phys_iter iter __uninitialized;
	int err;

	err = blk_rq_integrity_dma_phys_map_start(&q->ctrl->pdev->dev, rq, 0,
						  &meta->sg, &iter);
	if (err < 0)
		return err;
	nreq->cmd.common.metadata = cpu_to_le64(iter.sg.addr);
	err = 0;
	if (iter.sg.addr & 3)
		err = -EINVAL;
	else if (iter.sg.len < meta->sg.size)
		err = nvme_phys_set_meta_sgl(q, &nreq->cmd, meta, &iter);
	if (!err)
		return 0;
	if (meta->list.addr)
		nvme_phys_put_meta_list(q, &meta->list);
	/* The controller has not got the command. */
	dma_phys_sg_unmap_nosync(&meta->sg);
	return err;
}

/**
 * nvme_phys_map_with_metadata() - map data and metadata, and describe them
 * @ns: the namespace, which has metadata
 * @q: the I/O queue
 * @rq: the request; its command is set but for flags, pointers and PI fields
 *
 * On failure nothing is mapped, and the request has no list.
 *
 * Return: see nvme_phys_map_data(), or BLK_STS_NOTSUPP if the request has no
 * metadata and the controller cannot insert it.
 */
blk_status_t nvme_phys_map_with_metadata(const struct nvme_phys_ns *ns,
					 struct nvme_phys_queue *q,
					 struct request *rq)
{
	struct nvme_phys_request *nreq = blk_mq_rq_to_pdu(rq);
	blk_status_t status;
	int err;

	if (!blk_integrity_rq(rq)) {
		if (!nvme_phys_is_only_pi(ns))
			return BLK_STS_NOTSUPP;
		nvme_phys_set_pract(ns, rq, &nreq->cmd);
		return nvme_phys_map_data(q, rq);
	}

	nvme_phys_set_prchk(ns, rq, &nreq->cmd);
	/* An SGL of metadata is for commands whose data has an SGL as well. */
	status = q->ctrl->meta_sgl ? nvme_phys_map_data_sgl(q, rq) :
				     nvme_phys_map_data(q, rq);
	if (status)
		return status;
	err = nvme_phys_map_metadata(q, rq);
	if (err)
		nvme_phys_unmap_data(q, nreq);
	return nvme_phys_map_status(q->ctrl, err);
}

/**
 * nvme_phys_sync_metadata() - let the device see the final reference tags
 * @q: the I/O queue
 * @rq: a request with metadata, which is mapped
 *
 * The block layer sets them when a write is started. If metadata bounces, it
 * was copied to the bounce buffer before that.
 */
void nvme_phys_sync_metadata(struct nvme_phys_queue *q, struct request *rq)
{
	struct nvme_phys_meta *meta = &q->meta[rq->tag];

	if (q->meta && meta->sg.dev && rq_data_dir(rq) == WRITE)
		dma_phys_sg_sync_for_device(&meta->sg, 0, meta->sg.size);
}

/**
 * nvme_phys_unmap_metadata() - unmap the metadata of a request
 * @q: the I/O queue
 * @rq: the request; the controller no longer has the command
 */
void nvme_phys_unmap_metadata(struct nvme_phys_queue *q, struct request *rq)
{
	struct nvme_phys_meta *meta = &q->meta[rq->tag];

	if (!q->meta)
		return;
	dma_phys_sg_unmap(&meta->sg);
	if (meta->list.addr)
		nvme_phys_put_meta_list(q, &meta->list);
}

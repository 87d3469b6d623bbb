// SPDX-License-Identifier: GPL-2.0
/*
 * Namespaces, and their disks.
 */
#include <linux/blkdev.h>
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/pci-p2pdma.h>
#include <linux/slab.h>

#include "nvme_phys.h"

/* ---- Disks ---- */

static void nvme_phys_free_disk(struct gendisk *disk)
{
	struct nvme_phys_ns *ns = disk->private_data;

	nvme_phys_put(ns->ctrl);
	kfree(ns);
}

static const struct block_device_operations nvme_phys_disk_ops = {
	.owner = THIS_MODULE,
	.ioctl = nvme_phys_ioctl,
	.compat_ioctl = blkdev_compat_ptr_ioctl,
	.free_disk = nvme_phys_free_disk,
};

/* A discard of the block layer has less than 4 GiB. */
static u32 nvme_phys_discard_sectors(const struct nvme_phys *ctrl, u8 shift)
{
	u64 sectors = (u64)ctrl->max_discard << (shift - SECTOR_SHIFT);

	return min_not_zero(sectors, (u64)UINT_MAX >> SECTOR_SHIFT);
}

/*
 * Write Zeroes has its own limit (WZSL), and 16 bits for the number of blocks.
 * Without that limit MDTS does not apply, but a command should not take long.
 */
static u32 nvme_phys_zeroes_sectors(const struct nvme_phys *ctrl, u8 shift)
{
	u64 bytes = ctrl->max_zeroes ?: ctrl->max_transfer;

	bytes = min(bytes, (u64)SZ_64K << shift);
	return round_down(bytes, 1U << shift) >> SECTOR_SHIFT;
}

static struct queue_limits nvme_phys_limits(const struct nvme_phys_ns *ns)
{
	const struct nvme_phys *ctrl = ns->ctrl;
	u8 shift = ns->shift;
	struct queue_limits lim = {
		.logical_block_size = 1U << shift,
		.dma_alignment = 3,
		.max_hw_sectors = round_down(ctrl->max_transfer, 1U << shift) >>
				  SECTOR_SHIFT,
		.max_segments = NVME_PHYS_MAX_SEGMENTS,
		.max_segment_size = UINT_MAX,
		.virt_boundary_mask = ctrl->sgl ? 0 : ctrl->page_size - 1,
	};

	if (ctrl->write_cache)
		lim.features |= BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA;
	if (dma_pci_p2pdma_supported(&ctrl->pdev->dev))
		lim.features |= BLK_FEAT_PCI_P2PDMA;
	if (ctrl->discard) {
		lim.max_hw_discard_sectors =
			nvme_phys_discard_sectors(ctrl, shift);
		lim.max_discard_segments = 1;
		lim.discard_granularity = 1U << shift;
	}
	if (ctrl->write_zeroes)
		lim.max_write_zeroes_sectors =
			nvme_phys_zeroes_sectors(ctrl, shift);
	nvme_phys_set_integrity(ns, &lim);
	return lim;
}

static bool nvme_phys_ns_is_supported(const struct nvme_phys_ns *ns,
				      const struct nvme_id_ns *id)
{
	u64 size = le64_to_cpu(id->nsze);

	if (ns->shift <= ilog2(ns->ctrl->max_transfer) &&
	    !blk_validate_block_size(1UL << ns->shift) &&
	    nvme_phys_metadata_is_supported(ns) &&
	    size <= LLONG_MAX >> ns->shift)
		return true;
	dev_warn_ratelimited(&ns->ctrl->pdev->dev,
			     "namespace %u: %llu blocks of 2^%u bytes and %u of metadata\n",
			     ns->id, size, ns->shift, ns->metadata);
	return false;
}

static void nvme_phys_init_disk(struct nvme_phys_ns *ns,
				const struct nvme_id_ns *id)
{
	struct gendisk *disk = ns->disk;

	/* Deallocated blocks read as 0, and Write Zeroes may deallocate. */
	ns->deallocate = (id->dlfeat & 7) == 1 && id->dlfeat & BIT(3);
	snprintf(disk->disk_name, sizeof(disk->disk_name), "cnvme%dn%u",
		 ns->ctrl->index, ns->id);
	disk->fops = &nvme_phys_disk_ops;
	disk->private_data = ns;
	set_capacity(disk, le64_to_cpu(id->nsze) <<
			   (ns->shift - SECTOR_SHIFT));
	if (id->nsattr & NVME_NS_ATTR_RO)
		set_disk_ro(disk, true);
}

/* A namespace that is not supported is skipped. */
static int nvme_phys_alloc_ns(struct nvme_phys *ctrl, u32 nsid,
			      const struct nvme_id_ns *id)
{
	struct nvme_phys_ns *ns __free(kfree) = kzalloc_obj(*ns);
	struct queue_limits lim;
	int err;

	if (!ns)
		return -ENOMEM;
	ns->ctrl = ctrl;
	ns->id = nsid;
	ns->shift = id->lbaf[nvme_lbaf_index(id->flbas)].ds;
	err = nvme_phys_read_metadata(ns, id);
	if (err || !nvme_phys_ns_is_supported(ns, id))
		return err;
	err = nvme_phys_alloc_metadata(ns);
	if (err)
		return err;

	lim = nvme_phys_limits(ns);
	ns->disk = blk_mq_alloc_disk(&ctrl->tags, &lim, ns);
	if (IS_ERR(ns->disk))
		return PTR_ERR(ns->disk);
	kref_get(&ctrl->ref);
	nvme_phys_init_disk(ns, id);
	list_add_tail(&ns->node, &ctrl->namespaces);
	retain_and_null_ptr(ns);
	return 0;
}

static int nvme_phys_scan_ns(struct nvme_phys *ctrl, u32 nsid)
{
	struct nvme_id_ns *id __free(kfree) = kmalloc(NVME_PHYS_ADMIN_BYTES,
						      GFP_KERNEL);
	int err;

	if (!id)
		return -ENOMEM;
	scoped_guard(mutex, &ctrl->lock)
		err = nvme_phys_identify(ctrl, NVME_ID_CNS_NS, nsid, id);
	if (err > 0) {
		dev_warn_ratelimited(&ctrl->pdev->dev,
				     "namespace %u: status %#x\n", nsid, err);
		return 0;
	}
	if (!err && !id->nsze)	/* not attached to this controller */
		return 0;
	return err ?: nvme_phys_alloc_ns(ctrl, nsid, id);
}

/*
 * Namespace ids that are not in use have no blocks. There may be 2^32 of them,
 * and each needs an Identify command: check only the first ones.
 */
static int nvme_phys_scan_all(struct nvme_phys *ctrl)
{
	u32 max = min(ctrl->max_nsid, NVME_PHYS_MAX_SCAN);
	int err = 0;

	if (max < ctrl->max_nsid)
		dev_warn(&ctrl->pdev->dev,
			 "no list of namespaces, only the first %u of %u are scanned\n",
			 max, ctrl->max_nsid);
	for (u32 nsid = 1; !err && nsid <= max; nsid++)
		err = nvme_phys_scan_ns(ctrl, nsid);
	return err;
}

/*
 * A list has ids in order, and ends with 0. Version 1.0 and some controllers
 * since have no list. Only the first list is read. It has up to
 * NVME_PHYS_MAX_SCAN ids.
 */
static int nvme_phys_scan(struct nvme_phys *ctrl)
{
	__le32 *list __free(kfree) = kmalloc(NVME_PHYS_ADMIN_BYTES, GFP_KERNEL);
	u32 nsid = 0, i;
	int err;

	static_assert(NVME_PHYS_MAX_SCAN * sizeof(*list) ==
		      NVME_IDENTIFY_DATA_SIZE);
	if (!list)
		return -ENOMEM;
	if (ctrl->version < NVME_VS(1, 1, 0))
		return nvme_phys_scan_all(ctrl);
	scoped_guard(mutex, &ctrl->lock)
		err = nvme_phys_identify(ctrl, NVME_ID_CNS_NS_ACTIVE_LIST, 0,
					 list);
	if (err > 0)
		return nvme_phys_scan_all(ctrl);
	for (i = 0; !err && i < NVME_PHYS_MAX_SCAN && list[i]; i++) {
		if (le32_to_cpu(list[i]) <= nsid)
			return -EPROTO;
		nsid = le32_to_cpu(list[i]);
		err = nvme_phys_scan_ns(ctrl, nsid);
	}
	if (!err && i == NVME_PHYS_MAX_SCAN)
		dev_warn(&ctrl->pdev->dev, "no more than %u namespaces are scanned\n",
			 i);
	return err;
}

/**
 * nvme_phys_add_disks() - add a disk for each namespace
 * @ctrl: the controller, with its queues
 *
 * All disks are allocated before the first one is added. The requests of a disk
 * may cause a reset, and a reset walks the list of namespaces.
 *
 * Return: 0, or an error of nvme_phys_admin_read() or device_add_disk(): then
 * remove the disks.
 */
int nvme_phys_add_disks(struct nvme_phys *ctrl)
{
	struct nvme_phys_ns *ns;
	int err;

	err = nvme_phys_scan(ctrl);
	list_for_each_entry(ns, &ctrl->namespaces, node)
		err = err ?: device_add_disk(&ctrl->pdev->dev, ns->disk, NULL);
	return err;
}

/**
 * nvme_phys_remove_disks() - remove all disks of a controller
 * @ctrl: the controller; it runs, so that requests complete, or has failed
 */
void nvme_phys_remove_disks(struct nvme_phys *ctrl)
{
	struct nvme_phys_ns *ns, *next;

	list_for_each_entry_safe(ns, next, &ctrl->namespaces, node) {
		struct gendisk *disk = ns->disk;
		bool added = disk_live(disk);

		list_del(&ns->node);
		if (added)
			del_gendisk(disk);
		put_disk(disk);
		/* free_disk() is not called for a disk that was not added. */
		if (!added) {
			nvme_phys_put(ns->ctrl);
			kfree(ns);
		}
	}
}

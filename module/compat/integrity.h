/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Names for the metadata of blocks that this kernel lacks. Included before
 * metadata.c of the NVMe sample only: some are names of fields.
 */
#ifndef _DMA_PHYS_COMPAT_INTEGRITY_H
#define _DMA_PHYS_COMPAT_INTEGRITY_H

#include <linux/blk-integrity.h>
#include <linux/blkdev.h>
#include <linux/sizes.h>
#include <linux/t10-pi.h>

#ifndef HAVE_pi_tuple_size
#define metadata_size		tuple_size
/* The kernel derives it from csum_type. The sample sets tag_size after it. */
#define pi_tuple_size		tag_size
#endif

/* Without it, all metadata is in buffers of the kernel, which split no tuple. */
#ifndef HAVE_BLK_SPLIT_INTERVAL_CAPABLE
#define BLK_SPLIT_INTERVAL_CAPABLE	0
#endif

/* The block layer has no limit: more than a request of the sample has. */
#ifndef BLK_INTEGRITY_MAX_SIZE
#define BLK_INTEGRITY_MAX_SIZE	SZ_2M
#endif

#ifndef HAVE_BIP_CHECK_GUARD
enum dma_phys_compat_check {
	BIP_CHECK_GUARD,
	BIP_CHECK_REFTAG,
	BIP_CHECK_APPTAG,
};

/* All requests of a disk have the same checks, and none has a tag to check. */
static inline bool dma_phys_compat_checks(const struct bio *bio,
					  enum dma_phys_compat_check check)
{
	struct blk_integrity *profile = bdev_get_integrity(bio->bi_bdev);

	switch (check) {
	case BIP_CHECK_GUARD:
		return profile && profile->csum_type;
	case BIP_CHECK_REFTAG:
		return profile && profile->flags & BLK_INTEGRITY_REF_TAG;
	default:
		return false;
	}
}

#define bio_integrity_flagged(bio, check)	dma_phys_compat_checks(bio, check)
#define app_tag			bip_vcnt
#endif

#endif /* _DMA_PHYS_COMPAT_INTEGRITY_H */

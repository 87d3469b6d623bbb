// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer changes the limits of its devices, and exhausts bounce buffers and
 * IOVA space.
 */
#include <linux/delay.h>
#include <linux/dma-direct.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "fuzz.h"

/* Maps that exhaust any pool of bounce buffers and a small IOVA space. */
#define FUZZ_MAX_HOGS	512

/*
 * Without an IOMMU relative to the memory of the fuzzer and to the bounce
 * buffers, so that a seed means the same wherever these are.
 */
static u64 fuzz_choose_reach(struct fuzz *fuzz, const struct fuzz_dev *dev)
{
	u64 memory = phys_to_dma(dev->dev, page_to_phys(fuzz->memory));
	const u64 iommu[] = {
		DMA_BIT_MASK(28), DMA_BIT_MASK(28), DMA_BIT_MASK(28),
		DMA_BIT_MASK(32), DMA_BIT_MASK(64),
	};
	const u64 direct[] = {
		DMA_BIT_MASK(64), DMA_BIT_MASK(64), DMA_BIT_MASK(48),
		DMA_BIT_MASK(16), memory - 1,
		memory + fuzz_below(fuzz, FUZZ_HANDLES * FUZZ_OWN),
		dev->pool_end ? dev->pool_end - 1 : DMA_BIT_MASK(64),
		dev->pool_end ? dev->pool_start - 1 : DMA_BIT_MASK(64),
	};

	return dev->iommu ? fuzz_any(fuzz, iommu) : fuzz_any(fuzz, direct);
}

void fuzz_step_configure(struct fuzz *fuzz)
{
	static const u64 maxes[] = {
		SZ_64K, SZ_64K, 512, 1000, SZ_4K, SZ_1M, SZ_2G, U32_MAX,
	};
	static const u64 boundaries[] = {
		U32_MAX, U32_MAX, SZ_64K - 1, SZ_4K - 1, SZ_1K - 1, U64_MAX,
	};
	static const u64 aligns[] = {
		0, 0, 0, 511, 2047, SZ_4K - 1, SZ_64K - 1, SZ_256K - 1,
		SZ_1M - 1,
	};
	struct fuzz_dev *dev = fuzz_any_dev(fuzz);
	u64 reach = fuzz_choose_reach(fuzz, dev);
	struct dma_phys_limits limits = {
		.max = fuzz_any(fuzz, maxes),
		.boundary = fuzz_any(fuzz, boundaries),
		.align = fuzz_any(fuzz, aligns),
	};
	bool forced = fuzz_one_in(fuzz, 4), untrusted = fuzz_one_in(fuzz, 3);

	if (!fuzz_one_in(fuzz, 4))
		limits.align = dev->limits.align;
	/* The kernel uses these at sync and unmap too. */
	if (limits.align != dev->limits.align || untrusted != dev->untrusted)
		fuzz_drain(fuzz, dev);
	fuzz_configure(dev, reach, &limits,
		       forced && dev->pool_end && !dev->iommu, untrusted);
	fuzz_done(fuzz, FUZZ_CONFIGURE, 0, FUZZ_OK);
}

/* Map until it fails. The count depends on more than the seed. */
static unsigned int fuzz_hog(struct fuzz_dev *dev,
			     const struct cpu_phys *range,
			     struct dma_phys_map *maps, int *err)
{
	unsigned int n = 0;

	do {
		*err = dma_phys_map_cpu(dev->dev, range, DMA_TO_DEVICE, 0,
					&maps[n]);
	} while (!*err && ++n < FUZZ_MAX_HOGS);
	return n;
}

static void fuzz_exhaust(struct fuzz *fuzz, struct fuzz_dev *dev,
			 struct dma_phys_map *maps, struct fuzz_handle *list)
{
	struct cpu_phys ranges[] = {
		{ fuzz->shared.phys + SZ_512K + 100, 1000 },
		{ fuzz->shared.phys, FUZZ_BOUNCE },
	};
	/* Behind an IOMMU the core does not know what is exhausted. */
	u32 expected = fuzz_bit(dev->iommu ? -ENOMEM : -EAGAIN);
	unsigned int n;
	int err;

	n = fuzz_hog(dev, &ranges[1], maps, &err);
	fuzz_done(fuzz, FUZZ_EXHAUST, err, expected);
	if (n < FUZZ_MAX_HOGS && memchr_inv(&maps[n], 0, sizeof(maps[n])))
		fuzz_error(fuzz, "mapping failed, but the handle was written");

	/* The first range may succeed, and is unmapped again. */
	err = dma_phys_sg_map_cpu(dev->dev, ranges, 2, DMA_TO_DEVICE, 0,
				  list->segments, FUZZ_SEGMENTS, &list->sg);
	fuzz_done(fuzz, FUZZ_SG_MAP_CPU, min(err, 0), expected);
	fuzz_check_empty(fuzz, list);
	while (n)
		dma_phys_unmap(&maps[--n]);
}

void fuzz_step_exhaust(struct fuzz *fuzz)
{
	struct fuzz_dev *dev = fuzz_any_dev(fuzz), saved = *dev;
	struct fuzz_handle *list = &fuzz->handle[FUZZ_MAPS];
	struct dma_phys_map *maps;

	if (!dev->iommu && !dev->pool_end)
		return;
	maps = kvcalloc(FUZZ_MAX_HOGS, sizeof(*maps), GFP_KERNEL);
	if (!maps)
		return;
	if (dev->limits.align)
		fuzz_drain(fuzz, dev);
	if (fuzz->edu.busy == list)
		fuzz_edu_finish(fuzz);
	fuzz_unmap(fuzz, list);

	fuzz_configure(dev, DMA_BIT_MASK(dev->iommu ? 24 : 64), &FUZZ_LIMITS,
		       !dev->iommu, false);
	fuzz_exhaust(fuzz, dev, maps, list);
	/* Until the flush queue has freed the IOVAs. */
	if (dev->iommu)
		msleep(50);
	saved.limits.align = 0;
	fuzz_configure(dev, saved.reach, &saved.limits, saved.forced,
		       saved.untrusted);
	kvfree(maps);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Memory for unmap records, with a reserve.
 */
#include <linux/dma-phys.h>
#include <linux/export.h>
#include <linux/mempool.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "internal.h"

/**
 * struct dma_phys_pool - records for one list at a time, and more from kmalloc
 * @records: elements of @max records; one is the reserve
 * @max: records that a list can need
 */
struct dma_phys_pool {
	mempool_t records;
	size_t max;
};

/* No more can bounce than there are bounce buffers. */
noinline size_t dma_phys_max_records(struct device *dev, size_t count,
				     size_t size)
{
	struct dma_phys_limits limits = dma_phys_part_limits(dev);
	u64 split = min(size, get_dma_ops(dev) ? size : dma_phys_bounce_total(dev));
	u64 max = count;

	if (limits.max)
		max = dma_phys_max_segments(&limits, count, split);
	return min_t(u64, max, SIZE_MAX);
}

/**
 * dma_phys_pool_create() - make a pool of unmap records
 * @dev: the device that lists are mapped for, with its limits set
 * @count: maximum number of ranges of a list
 * @size: maximum length of a list in bytes
 *
 * Lists whose &dma_phys_sg.pool is this pool take their records from kmalloc(),
 * and from a reserve for one list if that fails. So after -ENOMEM, mapping
 * works again when another list of the pool was unmapped. A driver that holds
 * two lists at a time, such as data and integrity data of a request, has two
 * pools.
 *
 * Context: Process, may sleep.
 * Return: the pool, or NULL if there is no memory, @count or @size is 0, or @dev
 * is NULL.
 */
struct dma_phys_pool *dma_phys_pool_create(struct device *dev, size_t count,
					   size_t size)
{
	struct dma_phys_pool *pool;
	size_t max, bytes;

	if (!dev || !count || !size)
		return NULL;
	max = dma_phys_max_records(dev, count, size);
	bytes = struct_size_t(struct dma_phys_records, record, max);
	if (bytes > KMALLOC_MAX_SIZE)
		return NULL;

	pool = kzalloc_obj(*pool);
	if (!pool)
		return NULL;
	if (mempool_init_kmalloc_pool(&pool->records, 1, bytes)) {
		kfree(pool);
		return NULL;
	}
	pool->max = max;
	return pool;
}
EXPORT_SYMBOL_GPL(dma_phys_pool_create);

/**
 * dma_phys_pool_destroy() - free a pool of unmap records
 * @pool: the pool; all lists that use it are unmapped; NULL is a no-op
 *
 * Context: Process, may sleep.
 */
void dma_phys_pool_destroy(struct dma_phys_pool *pool)
{
	if (!pool)
		return;
	mempool_exit(&pool->records);
	kfree(pool);
}
EXPORT_SYMBOL_GPL(dma_phys_pool_destroy);

struct dma_phys_records *dma_phys_records_alloc(struct device *dev,
						struct dma_phys_pool *pool,
						size_t count, size_t size)
{
	size_t max = pool ? pool->max : dma_phys_max_records(dev, count, size);
	struct dma_phys_records *records;

	if (dma_phys_fail())
		return NULL;
	if (pool)
		records = mempool_alloc(&pool->records,
					GFP_ATOMIC | __GFP_NOWARN);
	else
		records = kmalloc(struct_size(records, record, max),
				  GFP_ATOMIC | __GFP_NOWARN);
	if (records) {
		records->count = 0;
		records->max = max;
	}
	return records;
}

void dma_phys_records_free(struct dma_phys_pool *pool,
			   struct dma_phys_records *records)
{
	if (pool)
		mempool_free(records, &pool->records);
	else
		kfree(records);
}

// SPDX-License-Identifier: GPL-2.0

/* Syncing takes the direction from the handle. */

#include <linux/dma-direction.h>
#include <linux/dma-phys.h>

int sync(struct device *dev, struct dma_phys_map *map);

int sync(struct device *dev, struct dma_phys_map *map)
{
	return dma_phys_sync_for_cpu(dev, map->addr, map->size, DMA_FROM_DEVICE);
	//~^ ERROR too many arguments to function call, expected 3, have 4
}

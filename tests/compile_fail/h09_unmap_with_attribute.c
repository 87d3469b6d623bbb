// SPDX-License-Identifier: GPL-2.0

/* Unmapping takes no attribute that could differ from the one of mapping. */

#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>

void unmap(struct dma_phys_map *map);

void unmap(struct dma_phys_map *map)
{
	dma_phys_unmap(map, DMA_ATTR_MMIO);
	//~^ ERROR too many arguments to function call, expected single argument
}

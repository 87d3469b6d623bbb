// SPDX-License-Identifier: GPL-2.0

/* Unmapping takes the handle, not a number out of it. */

#include <linux/dma-phys.h>

void unmap(struct dma_phys_map *map);

void unmap(struct dma_phys_map *map)
{
	dma_phys_unmap(map->addr);
	//~^ ERROR incompatible integer to pointer conversion passing 'dma_addr_t'
}

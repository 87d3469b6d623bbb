// SPDX-License-Identifier: GPL-2.0

/* Device memory is not mapped as memory that the CPU caches. */

#include <linux/dma-phys.h>

int map(struct device *dev, struct mmio_phys *range, struct dma_phys_map *map);

int map(struct device *dev, struct mmio_phys *range, struct dma_phys_map *map)
{
	return dma_phys_map_cpu(dev, range, DMA_TO_DEVICE, 0, map);
	//~^ ERROR passing 'struct mmio_phys *' to parameter of type 'const struct cpu_phys *'
}

// SPDX-License-Identifier: GPL-2.0

/* Memory that the CPU caches is not mapped as device memory. */

#include <linux/dma-phys.h>

int map(struct device *dev, struct cpu_phys *range, struct dma_phys_map *map);

int map(struct device *dev, struct cpu_phys *range, struct dma_phys_map *map)
{
	return dma_phys_map_mmio(dev, range, DMA_TO_DEVICE, 0, map);
	//~^ ERROR passing 'struct cpu_phys *' to parameter of type 'const struct mmio_phys *'
}

// SPDX-License-Identifier: GPL-2.0

/* Nor the range that was mapped. */

#include <linux/dma-phys.h>

void unmap(struct cpu_phys *range);

void unmap(struct cpu_phys *range)
{
	dma_phys_unmap(range);
	//~^ ERROR passing 'struct cpu_phys *' to parameter of type 'struct dma_phys_map *'
}

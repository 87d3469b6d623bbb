// SPDX-License-Identifier: GPL-2.0

/* A pointer into a mapped BAR does not become a range of device memory. */

#include <linux/dma-phys.h>

int map(void __iomem *bar, struct mmio_phys *range);

int map(void __iomem *bar, struct mmio_phys *range)
{
	return cpu_phys_from_virt((const void __force *)bar, 4096, range);
	//~^ ERROR passing 'struct mmio_phys *' to parameter of type 'struct cpu_phys *'
}

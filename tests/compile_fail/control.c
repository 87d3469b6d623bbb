// SPDX-License-Identifier: GPL-2.0

/* What the other programs do, done right. */

#include <linux/dma-mapping.h>
#include <linux/dma-phys.h>

int both_kinds(struct device *dev, const struct cpu_phys *memory,
	       const struct mmio_phys *device_memory);

int both_kinds(struct device *dev, const struct cpu_phys *memory,
	       const struct mmio_phys *device_memory)
{
	struct dma_phys_map cpu = {}, mmio = {};
	int err;

	err = dma_phys_map_cpu(dev, memory, DMA_TO_DEVICE, 0, &cpu);
	if (err)
		return err;
	err = dma_phys_map_mmio(dev, device_memory, DMA_FROM_DEVICE, 0, &mmio);
	if (!err)
		err = dma_phys_sync_for_cpu(&cpu, 0, cpu.size);
	dma_phys_unmap(&mmio);
	dma_phys_unmap(&cpu);
	return err;
}

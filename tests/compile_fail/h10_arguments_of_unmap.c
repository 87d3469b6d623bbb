// SPDX-License-Identifier: GPL-2.0

/*
 * What drivers have passed wrongly at unmap: unmapping takes none of it. The page
 * Documentation/core-api/dma-phys-bugs.rst names the drivers.
 */

#include <linux/dma-direction.h>
#include <linux/dma-phys.h>

void swapped(struct dma_phys_sg *sg, struct dma_phys_segment *segments);
void count(struct dma_phys_sg *sg, int segments);
void direction(struct dma_phys_sg *sg);
void size(struct dma_phys_map *map);

/* One thing in the place of another: they have different types. */
void swapped(struct dma_phys_sg *sg, struct dma_phys_segment *segments)
{
	dma_phys_sg_unmap(segments, sg);
	//~^ ERROR too many arguments to function call, expected single argument
	dma_phys_sg_unmap(segments);
	//~^ ERROR passing 'struct dma_phys_segment *' to parameter of type 'struct dma_phys_sg *'
}

/* The number of segments instead of the number of ranges. */
void count(struct dma_phys_sg *sg, int segments)
{
	dma_phys_sg_unmap(sg, segments);
	//~^ ERROR too many arguments to function call, expected single argument
}

/* The direction of another buffer. */
void direction(struct dma_phys_sg *sg)
{
	dma_phys_sg_unmap(sg, DMA_TO_DEVICE);
	//~^ ERROR too many arguments to function call, expected single argument
}

/* A length of 0. */
void size(struct dma_phys_map *map)
{
	dma_phys_unmap(map, 0);
	//~^ ERROR too many arguments to function call, expected single argument
}

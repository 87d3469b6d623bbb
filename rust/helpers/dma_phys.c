// SPDX-License-Identifier: GPL-2.0

#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/mm.h>

__rust_helper void *rust_helper_lowmem_page_address(const struct page *page)
{
	return lowmem_page_address(page);
}

__rust_helper phys_addr_t rust_helper_virt_to_phys(void *addr)
{
	return virt_to_phys(addr);
}

__rust_helper void rust_helper_dma_set_min_align_mask(struct device *dev,
						      unsigned int min_align_mask)
{
	dma_set_min_align_mask(dev, min_align_mask);
}

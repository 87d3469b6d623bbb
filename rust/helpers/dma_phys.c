// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>

__rust_helper void *rust_helper_lowmem_page_address(const struct page *page)
{
	return lowmem_page_address(page);
}

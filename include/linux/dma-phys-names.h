/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Names of kinds, routes and directions, as tracing, debugfs and tests show
 * them.
 */
#ifndef _LINUX_DMA_PHYS_NAMES_H
#define _LINUX_DMA_PHYS_NAMES_H

#include <linux/types.h>

/*
 * Each table is passed to @user, a function-like macro such as
 * __print_symbolic(), after its first argument: one { value, name } an argument.
 */
#define DMA_PHYS_KINDS(user, first)			\
	user(first,					\
	     { DMA_PHYS_CPU, "cpu" },			\
	     { DMA_PHYS_MMIO, "mmio" })

#define DMA_PHYS_ROUTES(user, first)			\
	user(first,					\
	     { DMA_PHYS_NONE, "none" },			\
	     { DMA_PHYS_DIRECT, "direct" },		\
	     { DMA_PHYS_BOUNCE, "bounce" },		\
	     { DMA_PHYS_IOMMU, "iommu" },		\
	     { DMA_PHYS_OPS, "ops" },			\
	     { DMA_PHYS_BUS, "bus" })

#define DMA_PHYS_DIRS(user, first)			\
	user(first,					\
	     { DMA_BIDIRECTIONAL, "bidirectional" },	\
	     { DMA_TO_DEVICE, "to-device" },		\
	     { DMA_FROM_DEVICE, "from-device" })

const char *dma_phys_kind_name(u8 kind);
const char *dma_phys_route_name(u8 route);
const char *dma_phys_dir_name(u8 dir);

#endif /* _LINUX_DMA_PHYS_NAMES_H */

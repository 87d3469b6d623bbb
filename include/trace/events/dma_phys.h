/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dma_phys

#if !defined(_TRACE_DMA_PHYS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DMA_PHYS_H

#include <linux/device.h>
#include <linux/dma-phys-names.h>
#include <linux/dma-phys.h>
#include <linux/tracepoint.h>

TRACE_DEFINE_ENUM(DMA_BIDIRECTIONAL);
TRACE_DEFINE_ENUM(DMA_TO_DEVICE);
TRACE_DEFINE_ENUM(DMA_FROM_DEVICE);
TRACE_DEFINE_ENUM(DMA_PHYS_CPU);
TRACE_DEFINE_ENUM(DMA_PHYS_MMIO);
TRACE_DEFINE_ENUM(DMA_PHYS_NONE);
TRACE_DEFINE_ENUM(DMA_PHYS_DIRECT);
TRACE_DEFINE_ENUM(DMA_PHYS_BOUNCE);
TRACE_DEFINE_ENUM(DMA_PHYS_IOMMU);
TRACE_DEFINE_ENUM(DMA_PHYS_OPS);
TRACE_DEFINE_ENUM(DMA_PHYS_BUS);

#define show_dma_phys_kind(kind)	DMA_PHYS_KINDS(__print_symbolic, kind)
#define show_dma_phys_route(route)	DMA_PHYS_ROUTES(__print_symbolic, route)
#define show_dma_phys_dir(dir)		DMA_PHYS_DIRS(__print_symbolic, dir)

/*
 * Handles and lists, which are passed as a handle. What they do not hold is 0: the
 * physical address of all but maps of one range, the DMA address of most lists.
 */
DECLARE_EVENT_CLASS(dma_phys,
	TP_PROTO(const struct dma_phys_map *map, phys_addr_t phys, int err),
	TP_ARGS(map, phys, err),

	TP_STRUCT__entry(
		__string(device, dev_name(map->dev))
		__field(u64, phys)
		__field(u64, addr)
		__field(u64, size)
		__field(u8, dir)
		__field(u8, kind)
		__field(u8, route)
		__field(u8, flags)
		__field(int, err)
	),

	TP_fast_assign(
		__assign_str(device);
		__entry->phys = phys;
		__entry->addr = map->addr;
		__entry->size = map->size;
		__entry->dir = map->dir;
		__entry->kind = map->kind;
		__entry->route = map->route;
		__entry->flags = map->flags;
		__entry->err = err;
	),

	TP_printk("%s %s %s phys=%llx size=%llu route=%s addr=%llx flags=%x err=%d",
		  __get_str(device), show_dma_phys_kind(__entry->kind),
		  show_dma_phys_dir(__entry->dir), __entry->phys,
		  __entry->size, show_dma_phys_route(__entry->route),
		  __entry->addr, __entry->flags, __entry->err)
);

#define DMA_PHYS_EVENT(name)						\
DEFINE_EVENT(dma_phys, name,						\
	TP_PROTO(const struct dma_phys_map *map, phys_addr_t phys,	\
		 int err),						\
	TP_ARGS(map, phys, err))

DMA_PHYS_EVENT(dma_phys_map);
DMA_PHYS_EVENT(dma_phys_unmap);
DMA_PHYS_EVENT(dma_phys_sg_map);
DMA_PHYS_EVENT(dma_phys_sg_unmap);

#endif /* _TRACE_DMA_PHYS_H */

#include <trace/define_trace.h>

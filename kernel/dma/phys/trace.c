// SPDX-License-Identifier: GPL-2.0
/*
 * Trace events, and the names that they and debugfs show.
 */
#include <linux/array_size.h>
#include <linux/dma-phys-names.h>
#include <linux/dma-phys.h>
#include <linux/export.h>

#define CREATE_TRACE_POINTS
#include <trace/events/dma_phys.h>

/* Rust looks whether it is on before it calls dma_phys_unmap(). */
EXPORT_TRACEPOINT_SYMBOL_GPL(dma_phys_unmap);

struct dma_phys_name {
	u8 value;
	const char *name;
};

static const char *dma_phys_find_name(const struct dma_phys_name *names,
				      size_t count, u8 value)
{
	for (size_t i = 0; i < count; i++)
		if (names[i].value == value)
			return names[i].name;
	return "?";
}

#define DMA_PHYS_NAME_OF(of, names...)					\
({									\
	static const struct dma_phys_name table[] = { names };		\
									\
	dma_phys_find_name(table, ARRAY_SIZE(table), of);		\
})

/**
 * dma_phys_kind_name() - name of a kind of range
 * @kind: enum dma_phys_kind
 *
 * Context: Any.
 * Return: "cpu", "mmio", or "?" if there is no such kind.
 */
const char *dma_phys_kind_name(u8 kind)
{
	return DMA_PHYS_KINDS(DMA_PHYS_NAME_OF, kind);
}
EXPORT_SYMBOL_GPL(dma_phys_kind_name);

/**
 * dma_phys_route_name() - name of a route
 * @route: enum dma_phys_route
 *
 * Context: Any.
 * Return: "direct", "iommu", ..., or "?" if there is no such route.
 */
const char *dma_phys_route_name(u8 route)
{
	return DMA_PHYS_ROUTES(DMA_PHYS_NAME_OF, route);
}
EXPORT_SYMBOL_GPL(dma_phys_route_name);

/**
 * dma_phys_dir_name() - name of a direction
 * @dir: enum dma_data_direction
 *
 * Context: Any.
 * Return: "bidirectional", "to-device", "from-device", or "?" if nothing can be
 * mapped in this direction.
 */
const char *dma_phys_dir_name(u8 dir)
{
	return DMA_PHYS_DIRS(DMA_PHYS_NAME_OF, dir);
}
EXPORT_SYMBOL_GPL(dma_phys_dir_name);

// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer's model: what may come of each call, and what must be true of a
 * map as long as it lives. It is written from the contract. Where the contract
 * leaves a choice, so does the model; of several faults any one may be named.
 */
#include <linux/dma-direct.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/minmax.h>
#include <linux/pci-p2pdma.h>
#include <linux/string.h>
#include <linux/swiotlb.h>

#include "fuzz.h"

static const struct {
	int err;
	const char *name;
} errnos[FUZZ_ERRNOS] = {
	{ 0, "0" }, { -EINVAL, "EINVAL" }, { -ENODEV, "ENODEV" },
	{ -ERANGE, "ERANGE" }, { -E2BIG, "E2BIG" }, { -EAGAIN, "EAGAIN" },
	{ -ENOMEM, "ENOMEM" }, { -EREMOTEIO, "EREMOTEIO" },
	{ -EOPNOTSUPP, "EOPNOTSUPP" }, { -ENOSPC, "ENOSPC" },
	{ -EEXIST, "EEXIST" }, { 1, "other" },
};

const char *const fuzz_op_names[FUZZ_OPS] = {
	[FUZZ_FROM_PAGE] = "from_page",
	[FUZZ_FROM_VIRT] = "from_virt",
	[FUZZ_FROM_ADDR] = "from_addr",
	[FUZZ_FROM_RESOURCE] = "from_resource",
	[FUZZ_FROM_BAR] = "from_bar",
	[FUZZ_MAP_CPU] = "map_cpu",
	[FUZZ_MAP_MMIO] = "map_mmio",
	[FUZZ_SYNC_FOR_CPU] = "sync_for_cpu",
	[FUZZ_SYNC_FOR_DEVICE] = "sync_for_device",
	[FUZZ_UNMAP] = "unmap",
	[FUZZ_VEC_ROOM] = "vec_room",
	[FUZZ_VEC_MAP_CPU] = "vec_map_cpu",
	[FUZZ_VEC_MAP_MMIO] = "vec_map_mmio",
	[FUZZ_VEC_SYNC_FOR_CPU] = "vec_sync_for_cpu",
	[FUZZ_VEC_SYNC_FOR_DEVICE] = "vec_sync_for_device",
	[FUZZ_VEC_UNMAP] = "vec_unmap",
	[FUZZ_REGISTER] = "register",
	[FUZZ_UNREGISTER] = "unregister",
	[FUZZ_ATTACH] = "attach",
	[FUZZ_DETACH] = "detach",
	[FUZZ_REVOKED] = "revoked",
	[FUZZ_CPU_WRITES] = "cpu_writes",
	[FUZZ_DEVICE_READS] = "device_reads",
	[FUZZ_DEVICE_WRITES] = "device_writes",
	[FUZZ_EDU_READS] = "edu_reads",
	[FUZZ_EDU_WRITES] = "edu_writes",
	[FUZZ_CONFIGURE] = "configure",
	[FUZZ_EXHAUST] = "exhaust",
};

static unsigned int errno_index(int err)
{
	unsigned int i = 0;

	while (i < FUZZ_ERRNOS - 1 && errnos[i].err != err)
		i++;
	return i;
}

const char *fuzz_errno_name(unsigned int index)
{
	return errnos[index].name;
}

u32 fuzz_bit(int err)
{
	return BIT(errno_index(err));
}

#define OK	BIT(0)

bool fuzz_right(const struct fuzz *fuzz)
{
	return !fuzz->wrong[0];
}

void fuzz_wrong(struct fuzz *fuzz, const char *fmt, ...)
{
	va_list args;
	int n;

	if (!fuzz_right(fuzz))
		return;
	n = scnprintf(fuzz->wrong, sizeof(fuzz->wrong), "%llu: ", fuzz->ops);
	va_start(args, fmt);
	vscnprintf(fuzz->wrong + n, sizeof(fuzz->wrong) - n, fmt, args);
	va_end(args);
}

void fuzz_done(struct fuzz *fuzz, enum fuzz_op op, int err, u32 allowed)
{
	unsigned int index = errno_index(err), n = 0;
	char names[80] = "";

	fuzz->ops++;
	fuzz->tally[op][index]++;
	if (allowed & BIT(index))
		return;

	for (unsigned int i = 0; i < FUZZ_ERRNOS; i++)
		if (allowed & BIT(i))
			n += scnprintf(names + n, sizeof(names) - n, " %s",
				       errnos[i].name);
	fuzz_wrong(fuzz, "%s ended with %d (%s), expected%s",
		   fuzz_op_names[op], err, errnos[index].name, names);
}

/* Ranges. */

static bool range_ok(u64 addr, u64 len)
{
	return len && len - 1 <= U64_MAX - addr;
}

/* Bytes of [@addr, @addr + @len) that are memory. */
static u64 ram_bytes(const struct fuzz *fuzz, u64 addr, u64 len)
{
	u64 bytes = 0;

	for (unsigned int i = 0; i < fuzz->ram_count; i++) {
		u64 first = max(addr, fuzz->rams[i].start);
		u64 last = min(addr + len - 1, fuzz->rams[i].end);

		if (first <= last)
			bytes += last - first + 1;
	}
	return bytes;
}

u32 fuzz_expect_cpu(const struct fuzz *fuzz, phys_addr_t addr, u64 len)
{
	if (range_ok(addr, len) && ram_bytes(fuzz, addr, len) == len)
		return OK;
	return fuzz_bit(-EINVAL);
}

u32 fuzz_expect_mmio(const struct fuzz *fuzz, u64 start, u64 size, u64 offset,
		     u64 len)
{
	if (!len || offset >= size || len > size - offset ||
	    !range_ok(start + offset, len) ||
	    ram_bytes(fuzz, start + offset, len))
		return fuzz_bit(-EINVAL);
	/* Memory of the firmware's that the kernel leaves alone. */
	if (start + offset < PAGE_SIZE)
		return fuzz_bit(-EINVAL);
	return OK;
}

/* Maps: what may come of it. */

static bool reached(const struct fuzz_dev *dev, u64 addr, u64 len)
{
	return range_ok(addr, len) && addr + (len - 1) <= dev->reach;
}

static bool parts_of_granules(const struct fuzz_dev *dev, u64 addr, u64 len)
{
	return (addr | len) & (dev->granule - 1);
}

static bool bounces(const struct fuzz_dev *dev, enum dma_phys_kind kind,
		    const struct fuzz_run *run)
{
	if (kind != DMA_PHYS_CPU)
		return false;
	if (dev->iommu)
		return dev->untrusted &&
		       parts_of_granules(dev, run->phys, run->len);
	return dev->forced ||
	       !reached(dev, phys_to_dma(dev->dev, run->phys), run->len);
}

/* Ranges that follow each other are one. */
static size_t runs_of(const struct fuzz_call *call, struct fuzz_run *runs)
{
	size_t n = 0;

	for (size_t i = 0; i < call->count; i++) {
		bool cpu = call->kind == DMA_PHYS_CPU;
		u64 phys = cpu ? call->cpu[i].addr : call->mmio[i].addr;
		u64 len = cpu ? call->cpu[i].len : call->mmio[i].len;

		if (n && phys && runs[n - 1].phys + runs[n - 1].len == phys)
			runs[n - 1].len += len;
		else
			runs[n++] = (struct fuzz_run){ phys, len };
	}
	for (size_t i = 0; i < n; i++)
		runs[i].bounced = bounces(call->dev, call->kind, &runs[i]);
	return n;
}

/* Both must work, and what may happen to either may happen. */
static u32 both(u32 a, u32 b)
{
	u32 all = a | b;

	return a & b & OK ? all : all & ~OK;
}

/* @fail says why it cannot work, @may why it might not. */
static u32 verdict(u32 fail, u32 may)
{
	return fail ?: OK | may;
}

/*
 * In a slot as much fits as the kernel says, less what its start must keep
 * free; under an IOMMU slots are made of whole granules.
 */
static u32 expect_slot(const struct fuzz_dev *dev, const struct fuzz_run *run)
{
	u64 most = FUZZ_SLOT - roundup(dev->align, IO_TLB_SIZE);
	u64 low = run->phys & dev->align;
	u64 spare = dev->iommu ? 2 * dev->granule : 0;
	u32 fail = 0, may = 0;

	if (run->len > most || run->len - 1 > dev->boundary)
		fail |= fuzz_bit(-E2BIG);
	else if (low + run->len - 1 + spare > dev->boundary ||
		 (spare && low + run->len + spare > most))
		may |= fuzz_bit(-E2BIG);
	return verdict(fail, may);
}

static u32 expect_bounce(const struct fuzz_call *call,
			 const struct fuzz_run *run)
{
	const struct fuzz_dev *dev = call->dev;
	u32 fail = 0, may = 0;

	if (!dev->pool_end)
		return fuzz_bit(-ERANGE);
	if (!dev->iommu && dev->pool_start > dev->reach)
		fail |= fuzz_bit(-ERANGE);
	else if (!dev->iommu && dev->pool_end - 1 > dev->reach)
		may |= fuzz_bit(-ERANGE);

	if (dev->align >= FUZZ_SLOT - 1 || dev->align & ~dev->boundary)
		fail |= fuzz_bit(-EOPNOTSUPP);
	else if (!call->vec)
		return both(verdict(fail, may), expect_slot(dev, run));
	else if (run->len >= FUZZ_HUGE)
		fail |= fuzz_bit(-E2BIG) | fuzz_bit(-ENOSPC);
	else if (dev->iommu && dev->boundary < dev->granule - 1)
		may |= fuzz_bit(-E2BIG);
	return verdict(fail, may);
}

static u32 expect_iommu(const struct fuzz_call *call,
			const struct fuzz_run *run)
{
	const struct fuzz_dev *dev = call->dev;
	u32 fail = 0;

	if (!run->phys)
		fail |= fuzz_bit(-EINVAL);
	if (dev->align >= dev->granule)
		fail |= fuzz_bit(-EOPNOTSUPP);
	if (call->kind == DMA_PHYS_MMIO && dev->untrusted &&
	    parts_of_granules(dev, run->phys, run->len))
		fail |= fuzz_bit(-EOPNOTSUPP);
	if (run->len > min(dev->reach, dev->aperture))
		fail |= fuzz_bit(-E2BIG);
	/* So much may fit into the address space and never be free there. */
	if (run->len >= FUZZ_HUGE)
		fail |= fuzz_bit(-E2BIG) | fuzz_bit(-EAGAIN);
	/* A vec tries it in smaller parts, which need storage. */
	if (run->len >= FUZZ_HUGE && call->vec)
		fail |= fuzz_bit(-ENOSPC);
	return verdict(fail, 0);
}

static u32 expect_run(const struct fuzz_call *call, const struct fuzz_run *run,
		      bool on_bus, u64 bus_offset)
{
	const struct fuzz_dev *dev = call->dev;
	u32 fail = 0;

	if (on_bus)
		return reached(dev, run->phys + bus_offset, run->len) ?
		       OK : fuzz_bit(-ERANGE);
	if (dev->iommu && run->bounced)
		return both(expect_iommu(call, run), expect_bounce(call, run));
	if (dev->iommu)
		return expect_iommu(call, run);
	if (run->bounced)
		return expect_bounce(call, run);
	if (call->kind == DMA_PHYS_CPU)
		return OK;

	if (dev->forced)
		fail |= fuzz_bit(-EOPNOTSUPP);
	if (!reached(dev, phys_to_dma(dev->dev, run->phys), run->len))
		fail |= fuzz_bit(-ERANGE);
	return verdict(fail, 0);
}

static const struct fuzz_peer *peer_of(const struct fuzz *fuzz, u32 id)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(fuzz->peer); i++)
		if (fuzz->peer[i].lent && fuzz->peer[i].id == id)
			return &fuzz->peer[i];
	return NULL;
}

/* How the device reaches the peer, by the word of the PCI core. */
static u32 expect_peer(const struct fuzz *fuzz, const struct fuzz_call *call,
		       bool *on_bus, u64 *bus_offset)
{
	const struct fuzz_peer *peer = peer_of(fuzz, call->mmio[0].peer);
	struct p2pdma_provider *provider;

	if (!peer)
		return fuzz_bit(-ENODEV);
	provider = pcim_p2pdma_provider(peer->owner, peer->bar);
	switch (pci_p2pdma_map_type(provider, call->dev->dev)) {
	case PCI_P2PDMA_MAP_BUS_ADDR:
		*on_bus = true;
		*bus_offset = pci_p2pdma_bus_addr_map(provider, 0);
		return OK;
	case PCI_P2PDMA_MAP_THRU_HOST_BRIDGE:
		return OK;
	default:
		return fuzz_bit(-EREMOTEIO);
	}
}

static bool ranges_ok(const struct fuzz_call *call)
{
	u64 size = 0;

	if (call->no_ranges || !call->count)
		return false;
	for (size_t i = 0; i < call->count; i++) {
		bool cpu = call->kind == DMA_PHYS_CPU;
		u64 addr = cpu ? call->cpu[i].addr : call->mmio[i].addr;
		u64 len = cpu ? call->cpu[i].len : call->mmio[i].len;

		if (!range_ok(addr, len) || len > U64_MAX - size)
			return false;
		if (!cpu && call->mmio[i].peer != call->mmio[0].peer)
			return false;
		size += len;
	}
	return true;
}

/* Who asks, and how. */
static u32 expect_asked(const struct fuzz *fuzz, const struct fuzz_call *call)
{
	u32 fail = 0;

	if (!call->dev || call->no_handle || call->live || !ranges_ok(call) ||
	    call->flags & ~DMA_PHYS_MANUAL_SYNC || (call->vec && !call->room))
		fail |= fuzz_bit(-EINVAL);
	if (call->dir != DMA_TO_DEVICE && call->dir != DMA_FROM_DEVICE &&
	    call->dir != DMA_BIDIRECTIONAL && fuzz->lie != FUZZ_LIE_ERRNO)
		fail |= fuzz_bit(-EINVAL);
	if (call->dev && !call->dev->pdev)
		fail |= call->dev->refusal;
	return verdict(fail, 0);
}

/* Storage: never too small where there is as much as was asked for. */
static u32 expect_room(const struct fuzz_call *call,
		       const struct fuzz_run *runs, size_t count)
{
	u64 size = 0, least = 0;
	u32 small = fuzz_bit(-ENOSPC);

	if (!call->vec)
		return OK;
	for (size_t i = 0; i < count; i++) {
		size += runs[i].len;
		least += !call->dev->iommu && !runs[i].bounced;
		/* Several slots take more storage than one that is too large. */
		if (runs[i].bounced)
			small |= fuzz_bit(-E2BIG);
	}
	least = max(least, DIV_ROUND_UP_ULL(size, call->dev->max));
	if (call->room < least)
		return small;
	if (call->room < dma_phys_vec_room(call->dev->dev, call->count, size))
		return OK | small;
	return OK;
}

u32 fuzz_expect_map(const struct fuzz *fuzz, const struct fuzz_call *call)
{
	struct fuzz_run runs[FUZZ_RANGES];
	u32 may = expect_asked(fuzz, call);
	bool on_bus = false;
	u64 bus_offset = 0;
	size_t count;

	if (!call->dev || !call->dev->pdev || !ranges_ok(call))
		return may;
	if (call->kind == DMA_PHYS_MMIO && call->mmio[0].peer)
		may = both(may, expect_peer(fuzz, call, &on_bus, &bus_offset));

	count = runs_of(call, runs);
	for (size_t i = 0; i < count; i++)
		may = both(may, expect_run(call, &runs[i], on_bus, bus_offset));
	return both(may, expect_room(call, runs, count));
}

/* Maps: what must be true of them. */

static struct dma_phys_segment segment(const struct fuzz_handle *handle,
				       size_t i)
{
	if (handle->is_vec)
		return handle->vec.segments[i];
	return (struct dma_phys_segment){ handle->map.addr, handle->map.size };
}

dma_addr_t fuzz_dma_addr(const struct fuzz_handle *handle, size_t at,
			 size_t *left)
{
	struct dma_phys_segment its;

	for (size_t i = 0; ; i++) {
		its = segment(handle, i);
		if (at < its.len)
			break;
		at -= its.len;
	}
	*left = its.len - at;
	return its.addr + at;
}

static phys_addr_t translate(const struct fuzz_handle *handle, dma_addr_t addr)
{
	switch (handle->route) {
	case DMA_PHYS_IOMMU:
		return iommu_iova_to_phys(handle->dev->domain, addr);
	case DMA_PHYS_BUS:
		return addr - handle->bus_offset;
	default:
		return dma_to_phys(handle->dev->dev, addr);
	}
}

static void check_fields(struct fuzz *fuzz, const struct fuzz_handle *handle)
{
	const struct dma_phys_map *map = &handle->map;
	const struct dma_phys_vec *vec = &handle->vec;
	bool same;

	if (handle->is_vec)
		same = vec->dev == handle->dev->dev && vec->dir == handle->dir &&
		       vec->size == handle->size && vec->kind == handle->kind &&
		       vec->count && vec->count <= vec->room &&
		       vec->route == handle->route &&
		       (vec->flags & DMA_PHYS_MANUAL_SYNC) == handle->flags;
	else
		same = map->dev == handle->dev->dev && map->dir == handle->dir &&
		       map->size == handle->size && map->kind == handle->kind &&
		       map->route == handle->route &&
		       (map->flags & DMA_PHYS_MANUAL_SYNC) == handle->flags;
	if (!same)
		fuzz_wrong(fuzz, "the handle has route %d, %zu bytes; not %d, %zu, %d, %x",
			   handle->is_vec ? vec->route : map->route,
			   handle->is_vec ? vec->size : map->size,
			   handle->route, handle->size, handle->dir,
			   handle->flags);
}

/*
 * A segment ends with the last byte, before a gap, or because it may not be
 * longer; and then at an aligned address if there is one in it.
 */
static bool may_end(const struct fuzz_dev *dev,
		    const struct dma_phys_segment *its)
{
	u64 room = dev->boundary - (its->addr & dev->boundary);
	u64 longest = room < dev->max ? room + 1 : dev->max;
	u64 end = its->addr + its->len;
	bool aligned = dev->align < dev->max;

	if (aligned && end & dev->align)
		aligned = (end & ~dev->align) > its->addr;
	else if (aligned)
		return (end | dev->align) + 1 > its->addr + longest;
	return !aligned && its->len == longest;
}

static void check_segments(struct fuzz *fuzz, const struct fuzz_handle *handle)
{
	const struct fuzz_dev *dev = handle->dev;
	u64 longest = fuzz->lie == FUZZ_LIE_SEGMENT ? dev->max / 2 : dev->max;
	size_t sum = 0;

	for (size_t i = 0; i < handle->vec.count; i++) {
		struct dma_phys_segment its = segment(handle, i);
		bool last = i + 1 == handle->vec.count ||
			    segment(handle, i + 1).addr != its.addr + its.len;

		if (!its.len || its.len > longest ||
		    (its.addr & ~dev->boundary) !=
		    ((its.addr + its.len - 1) & ~dev->boundary) ||
		    (!last && !may_end(dev, &its)))
			fuzz_wrong(fuzz, "segment %zu of %zu: %pad+%zu; limits %llx %llx %llx, %s",
				   i, handle->vec.count, &its.addr, its.len,
				   longest, dev->boundary, dev->align,
				   last ? "a gap follows" : "more follows");
		sum += its.len;
	}
	if (sum != handle->size)
		fuzz_wrong(fuzz, "segments of %zu bytes for %zu", sum,
			   handle->size);
}

/* Where the device gets to with @len bytes at @addr: byte @at of @run. */
static void check_place(struct fuzz *fuzz, const struct fuzz_handle *handle,
			const struct fuzz_run *run, size_t at, dma_addr_t addr,
			size_t len)
{
	const struct fuzz_dev *dev = handle->dev;
	phys_addr_t phys = translate(handle, addr);
	phys_addr_t expected = run->phys + at;

	if (fuzz->lie == FUZZ_LIE_ADDRESS)
		expected++;
	if (addr + len - 1 > dev->reach)
		fuzz_wrong(fuzz, "%pad+%zu is beyond %llx", &addr, len,
			   dev->reach);
	/* Of what is longer than a slot, whole granules need none. */
	if (dev->iommu && run->len > SZ_64K && len == dev->granule &&
	    phys == expected)
		return;
	if (run->bounced && (phys < dev->pool_start ||
			     phys + len > dev->pool_end))
		fuzz_wrong(fuzz, "%pad leads to %pa, which is no bounce slot",
			   &addr, &phys);
	if (!run->bounced && phys != expected)
		fuzz_wrong(fuzz, "%pad leads to %pa, expected %pa", &addr,
			   &phys, &expected);
	if (!at && run->bounced && (addr ^ run->phys) & dev->align)
		fuzz_wrong(fuzz, "%pad for %pa: the bits %llx changed", &addr,
			   &run->phys, dev->align);
}

/* The segments, of which the lengths are known, are the ranges, in order. */
static void check_places(struct fuzz *fuzz, const struct fuzz_handle *handle)
{
	size_t granule = handle->dev->granule, i = 0, skip = 0, n;

	for (size_t k = 0; k < handle->count; k++) {
		const struct fuzz_run *run = &handle->runs[k];

		for (size_t at = 0; at < run->len && fuzz_right(fuzz); at += n) {
			struct dma_phys_segment its = segment(handle, i);
			dma_addr_t addr = its.addr + skip;

			n = min(its.len - skip, run->len - at);
			if (handle->route == DMA_PHYS_IOMMU)
				n = min(n, granule - (addr & (granule - 1)));
			check_place(fuzz, handle, run, at, addr, n);
			skip += n;
			if (skip == its.len) {
				i++;
				skip = 0;
			}
		}
	}
}

static enum dma_phys_route route_of(const struct fuzz_handle *handle,
				    bool on_bus)
{
	if (on_bus)
		return DMA_PHYS_BUS;
	if (handle->dev->iommu)
		return DMA_PHYS_IOMMU;
	for (size_t i = 0; i < handle->count; i++)
		if (handle->runs[i].bounced)
			return DMA_PHYS_BOUNCE;
	return DMA_PHYS_DIRECT;
}

/* Bytes. */

static const struct fuzz_run *run_at(const struct fuzz_handle *handle,
				     size_t *at)
{
	const struct fuzz_run *run = handle->runs;

	while (*at >= run->len)
		*at -= run++->len;
	return run;
}

/* Byte @at on the CPU's side, and how many more are in a row. */
static u8 *cpu_side(const struct fuzz_handle *handle, size_t at, size_t *left)
{
	const struct fuzz_run *run = run_at(handle, &at);

	*left = run->len - at;
	return handle->area->shadow + (run->phys + at - handle->area->phys);
}

/* The same on the device's side, which is another where it is bounced. */
static u8 *device_side(const struct fuzz_handle *handle, size_t at,
		       size_t *left)
{
	size_t in_run = at;
	const struct fuzz_run *run = run_at(handle, &in_run);

	if (run->bounced && !handle->area->constant) {
		*left = run->len - in_run;
		return handle->seen + at;
	}
	return cpu_side(handle, at, left);
}

void fuzz_device_bytes(const struct fuzz_handle *handle, size_t at, u8 *data,
		       size_t len, bool write)
{
	size_t n;

	for (; len; len -= n) {
		u8 *its = device_side(handle, at, &n);

		n = min(n, len);
		memcpy(write ? its : data, write ? data : its, n);
		at += n;
		data += n;
	}
}

void fuzz_synced(struct fuzz_handle *handle, size_t at, size_t len,
		 bool for_cpu)
{
	size_t n, left;

	if (!handle->area || handle->area->constant ||
	    handle->dir == (for_cpu ? DMA_TO_DEVICE : DMA_FROM_DEVICE))
		return;
	for (; len; len -= n) {
		u8 *cpu = cpu_side(handle, at, &n);
		u8 *device = device_side(handle, at, &left);

		n = min(n, len);
		if (cpu != device)
			memcpy(for_cpu ? cpu : device, for_cpu ? device : cpu,
			       n);
		at += n;
	}
}

/* What the device would do: go where its address leads. */
static void device_moves(struct fuzz *fuzz, const struct fuzz_handle *handle,
			 size_t at, u8 *data, size_t len, bool write)
{
	const struct fuzz_area *area = handle->area;
	size_t n;

	for (; len; len -= n, at += n, data += n) {
		dma_addr_t addr = fuzz_dma_addr(handle, at, &n);
		phys_addr_t phys = translate(handle, addr);

		n = min3(n, len, PAGE_SIZE - offset_in_page(addr));
		if (!area->io) {
			u8 *mem = phys_to_virt(phys);

			memcpy(write ? mem : data, write ? data : mem, n);
		} else if (phys < area->phys || phys - area->phys > area->len - n) {
			fuzz_wrong(fuzz, "%pad has left its range", &addr);
			return;
		} else if (write) {
			memcpy_toio(area->io + (phys - area->phys), data, n);
		} else {
			memcpy_fromio(data, area->io + (phys - area->phys), n);
		}
	}
}

static void compare(struct fuzz *fuzz, const u8 *found, const u8 *expected,
		    size_t len, const char *who, size_t at)
{
	size_t i = 0;

	if (!memcmp(found, expected, len))
		return;
	while (found[i] == expected[i])
		i++;
	fuzz_wrong(fuzz, "%s finds %02x at byte %zu, expected %02x", who,
		   found[i], at + i, expected[i]);
}

void fuzz_device_reads(struct fuzz *fuzz, struct fuzz_handle *handle,
		       size_t at, size_t len)
{
	u8 found[128], expected[128];
	size_t n;

	if (!handle->area)
		return;
	for (; len && fuzz_right(fuzz); len -= n, at += n) {
		n = min(len, sizeof(found));
		device_moves(fuzz, handle, at, found, n, false);
		fuzz_device_bytes(handle, at, expected, n, false);
		compare(fuzz, found, expected, n, "the device", at);
	}
}

void fuzz_device_writes(struct fuzz *fuzz, struct fuzz_handle *handle,
			size_t at, const u8 *data, size_t len)
{
	device_moves(fuzz, handle, at, (u8 *)data, len, true);
	if (fuzz->lie == FUZZ_LIE_DATA)
		len--;
	fuzz_device_bytes(handle, at, (u8 *)data, len, true);
}

/* @len bytes at @at of an area are on the CPU's side as they must be. */
static void check_area(struct fuzz *fuzz, const struct fuzz_area *area,
		       size_t at, size_t len)
{
	u8 found[128];
	size_t n;

	if (area->mem) {
		compare(fuzz, area->mem + at, area->shadow + at, len, "the CPU",
			at);
		return;
	}
	for (; len; len -= n, at += n) {
		n = min(len, sizeof(found));
		memcpy_fromio(found, area->io + at, n);
		compare(fuzz, found, area->shadow + at, n, "the CPU", at);
	}
}

void fuzz_cpu_reads(struct fuzz *fuzz, const struct fuzz_handle *handle,
		    size_t at, size_t len)
{
	size_t n;

	if (!handle->area)
		return;
	for (; len; len -= n, at += n) {
		u8 *shadow = cpu_side(handle, at, &n);

		n = min(n, len);
		check_area(fuzz, handle->area, shadow - handle->area->shadow,
			   n);
	}
}

/* From nothing to a map, and back. */

void fuzz_mapped(struct fuzz *fuzz, struct fuzz_handle *handle,
		 const struct fuzz_call *call)
{
	bool on_bus = false;

	handle->dev = call->dev;
	handle->kind = call->kind;
	handle->dir = call->dir;
	handle->flags = call->flags;
	handle->area = call->area;
	handle->peer = call->peer;
	if (call->kind == DMA_PHYS_MMIO && call->mmio[0].peer)
		expect_peer(fuzz, call, &on_bus, &handle->bus_offset);
	handle->count = runs_of(call, handle->runs);
	handle->route = route_of(handle, on_bus);
	handle->size = 0;
	for (size_t i = 0; i < handle->count; i++)
		handle->size += handle->runs[i].len;
	fuzz->routes[handle->route]++;

	check_fields(fuzz, handle);
	if (handle->is_vec && fuzz_right(fuzz))
		check_segments(fuzz, handle);
	if (fuzz_right(fuzz))
		check_places(fuzz, handle);
	if (!fuzz_right(fuzz) || !handle->area)
		return;

	/* Mapping shows all of it to the device, whatever the direction. */
	for (size_t at = 0, n; at < handle->size; at += n) {
		size_t left;
		u8 *cpu = cpu_side(handle, at, &n);
		u8 *device = device_side(handle, at, &left);

		if (cpu != device)
			memcpy(device, cpu, n);
	}
}

void fuzz_unmapped(struct fuzz *fuzz, struct fuzz_handle *handle)
{
	if (!(handle->flags & DMA_PHYS_MANUAL_SYNC))
		fuzz_synced(handle, 0, handle->size, true);
	/* With what surrounds the ranges: nobody may have written there. */
	if (handle->area && !handle->area->constant)
		check_area(fuzz, handle->area, 0, handle->area->len);
	handle->dev = NULL;
	handle->peer = NULL;
}

void fuzz_check_empty(struct fuzz *fuzz, const struct fuzz_handle *handle)
{
	static const struct dma_phys_map no_map;
	struct dma_phys_vec no_vec = {
		.segments = handle->vec.segments,
		.room = handle->vec.room,
	};

	if (memcmp(&handle->map, &no_map, sizeof(no_map)))
		fuzz_wrong(fuzz, "the handle of no map is not empty");
	if (memcmp(&handle->vec, &no_vec, sizeof(no_vec)))
		fuzz_wrong(fuzz, "the handle of no vec is not empty");
}

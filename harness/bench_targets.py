# SPDX-License-Identifier: GPL-2.0
"""The targets of typed maps, and whether they are met.

Each target is a constant or a line of a table below.
"""

import dataclasses

from harness import bench_size, vm
from harness.bench_micro import (ARM64, BUS, CONTIGUOUS, CPUS, FULL, LIVE, LOCKED, MMIO,
                                 MMIO_MANY, ONE, SCATTERED, SCATTERED_MANY, SYNCED,
                                 Shape, label,
                                 of_memory)

DIRECT = ("direct", "intel-passthrough")
# Those with generic page tables, and all.
PAGE_TABLES = ("intel-lazy", "intel-strict", "amd")
IOMMU = (*PAGE_TABLES, "virtio-iommu")
PEER, PEER_MANY = of_memory("peer", [ONE, SCATTERED])


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A typed method in C and in Rust, divided by a raw one on the same machine.

    The target is at most max_ratio; None is no target. With c_only it is no target
    for Rust, which has one against C.
    """

    machines: tuple[str, ...]
    shape: Shape
    typed: str
    raw: str
    max_ratio: float | None = None
    c_only: bool = False

    def __str__(self):
        how = {"typed_sg_iter": ", by iterator",
               "iommu_map_sg_vecs": ", iommu_map_sg() with one walk"}
        return f"{self.shape}{how.get(self.typed, '')}"


RATIOS = [
    Ratio(DIRECT, ONE, "typed_map", "dma_map_phys", 0.5, c_only=True),
    Ratio(("bounce",), ONE, "typed_map", "dma_map_phys", 1.02, c_only=True),
    *(Ratio((machine,), ONE, "typed_map", "dma_map_phys", max_ratio, c_only=True)
      for machine, max_ratio in zip(IOMMU, (0.80, 1.0, 1.0, 1.0))),
    Ratio((*DIRECT, "bounce", *IOMMU), SYNCED, "typed_map", "dma_map_phys"),
    Ratio(DIRECT, SCATTERED, "typed_sg", "dma_map_sgtable", 0.25),
    *(Ratio((machine,), SCATTERED, "typed_sg", "dma_map_sgtable", max_ratio,
            c_only=True)
      for machine, max_ratio in zip(("bounce", *IOMMU), (None, 0.11, 0.14, 0.30))),
    Ratio(("virtio-iommu",), SCATTERED, "typed_sg", "dma_map_sgtable"),
    *(Ratio((machine,), SCATTERED_MANY, "typed_sg", "dma_map_sgtable", max_ratio,
            c_only=True)
      for machine, max_ratio in (("intel-lazy", 0.06), ("amd", 0.17))),
    Ratio(PAGE_TABLES, SCATTERED, "iommu_map_sg_vecs", "iommu_map_sg"),
    Ratio((*DIRECT, "bounce", *IOMMU), SCATTERED, "typed_sg_iter",
          "dma_map_sgtable"),
    Ratio((*DIRECT, "bounce", "virtio-iommu"), CONTIGUOUS, "typed_sg",
          "dma_map_sgtable"),
    Ratio(PAGE_TABLES, CONTIGUOUS, "typed_sg", "dma_map_sgtable", 0.55,
          c_only=True),
    Ratio((*DIRECT, "bounce", *IOMMU), CONTIGUOUS, "typed_sg_iter",
          "dma_map_sgtable"),
    Ratio((*DIRECT, *IOMMU), MMIO, "typed_map", "dma_map_phys"),
    Ratio((*DIRECT, *IOMMU), MMIO_MANY, "typed_sg", "dma_map_phys"),
    Ratio((BUS,), PEER, "typed_map", "dma_map_sgtable", 1.0),
    Ratio((BUS,), PEER_MANY, "typed_sg", "dma_map_sgtable", 1.0),
    Ratio((BUS,), PEER_MANY, "typed_sg_iter", "dma_map_sgtable"),
]

# Without targets.
RATIOS_ARM64 = [
    Ratio(tuple(boot.machine for boot in ARM64), shape, method, raw)
    for shape, method, raw in ((ONE, "typed_map", "dma_map_phys"),
                               (SYNCED, "typed_map", "dma_map_phys"),
                               (SCATTERED, "typed_sg", "dma_map_sgtable"),
                               (CONTIGUOUS, "typed_sg", "dma_map_sgtable"),
                               (MMIO, "typed_map", "dma_map_phys"))]

# Ratios of C in the first version of typed maps, which had no iterator.
FIRST_METHODS = ((ONE, "typed_map"), (SYNCED, "typed_map"),
                 (SCATTERED, "typed_sg"), (CONTIGUOUS, "typed_sg"))
FIRST_VERSION = {
    (machine, *method): ratio for machine, ratios in {
        "direct": (0.48, 0.99, 0.25, 0.21),
        "bounce": (1.04, 1.03, 1.07, 0.76),
        "intel-lazy": (1.00, 1.03, 1.02, 0.86),
        "intel-strict": (1.00, 1.02, 1.02, 0.88),
        "intel-passthrough": (0.48, 0.99, 0.25, 0.21),
        "amd": (1.00, 1.02, 1.04, 0.89),
        "virtio-iommu": (1.00, 1.01, 1.01, 0.88),
    }.items() for method, ratio in zip(FIRST_METHODS, ratios)
} | {(BUS, PEER, "typed_map"): 1.51, (BUS, PEER_MANY, "typed_sg"): 2.74}

# Rust on the direct route: the maximum of instructions to submit and complete what is
# kept mapped, and of those that a map of one range takes more than in C; the maximum
# ratio of a map of many ranges to one in C.
MAX_KEPT = 20
MAX_MORE = 12
MAX_MANY = 1.2
# What is kept mapped, against raw map and unmap behind an IOMMU, and against the raw pair
# of syncs of a bounce buffer.
MAX_KEPT_IOMMU = 0.05
MAX_KEPT_BOUNCE = 1.05
# Rust behind an IOMMU, with prepared memory, against C.
MAX_RUST_IOMMU = 1.1
# Instructions for one more page behind an IOMMU: from 32 to 256.
MAX_PAGE = 45
# The cost of one more range: from 16 to 32 ranges and from 128 to 256, and the maximum
# ratio of the second to the first.
FEW, MANY = (16, 32), (128, 256)
MAX_GROWTH = 1.05
# The maximum ratio of a map beside many live maps to one beside none.
MAX_LIVE_RATIO = 1.02
# Bytes. The core is that of the first version, and fast paths behind an IOMMU.
MAX_HANDLE = 48
MAX_LIST = 64
MAX_CORE = 24_369 + 3_200


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A Ratio as measured on one machine. None is not measured.

    met has the languages that have the target, and whether they meet it.
    """

    machine: str
    what: str
    raw: str
    raw_count: float
    best: str
    best_count: float
    empty: float
    c: float
    rust: float | None
    first: float | None
    max_ratio: float | None
    met: dict[str, bool]


@dataclasses.dataclass(frozen=True)
class Finding:
    """A measurement for another target, as text."""

    what: str
    machine: str
    measured: str
    target: str = ""
    is_met: bool | None = None


class Counts:
    """Rows by machine, language, method and shape."""

    def __init__(self, rows):
        self._rows = {row.key: row for row in rows if not row.error}

    def __call__(self, machine, language, method, shape):
        """Instructions, or None if not measured."""
        row = self.row(machine, language, method, shape)
        return row and row.instructions

    def row(self, *key):
        return self._rows.get(key)

    def best_raw(self, machine, shape):
        """(instructions, method) of the raw method with the lowest count."""
        return min((row.instructions, label(row.language, row.method))
                   for row in self._rows.values() if not row.ours
                   and (row.machine, row.shape) == (machine, shape))


def comparisons(rows, ratios=RATIOS):
    """All measured ratios, by machine."""
    counts = Counts(rows)
    return [comparison for name in vm.MACHINES for ratio in ratios
            if name in ratio.machines
            and (comparison := _compare(counts, name, ratio))]


def _compare(counts, machine, ratio):
    raw = counts(machine, "C", ratio.raw, ratio.shape)
    c = counts(machine, "C", ratio.typed, ratio.shape)
    if raw is None or c is None:
        return None
    rust = counts(machine, "Rust", ratio.typed, ratio.shape)
    best_count, best = counts.best_raw(machine, ratio.shape)
    met = {}
    if ratio.max_ratio:
        # As exact as the page shows them: a tick adds a fraction.
        limit = round(ratio.max_ratio * raw, 1)
        met["C"] = round(c, 1) <= limit
        if rust is not None and not ratio.c_only:
            met["Rust"] = round(rust, 1) <= limit
    empty = counts.row(machine, "C", ratio.raw, ratio.shape).empty
    return Comparison(machine, str(ratio), ratio.raw, raw, best, best_count, empty,
                      c, rust,
                      FIRST_VERSION.get((machine, ratio.shape, ratio.typed)),
                      ratio.max_ratio, met)


def findings(rows, kernel):
    """The measurements for all other targets."""
    counts = Counts(rows)
    yield from _rust(counts)
    yield from _page(counts)
    yield from _growth(counts)
    yield from _live_maps(counts)
    yield from parallel(rows)
    for what, name, max_size in (
            ("size of a handle", "struct dma_phys_map", MAX_HANDLE),
            ("size of a list", "struct dma_phys_sg", MAX_LIST)):
        yield _size(what, bench_size.size_of(kernel, name), max_size)
    core, tracing = bench_size.core(kernel), bench_size.tracing(kernel)
    yield _size("code of the core", core, MAX_CORE,
                f", {tracing:,} of them tracepoints")
    yield _size("added to a kernel that does not use it",
                bench_size.unused(kernel), 0)
    yield Finding("beside that, added to IOMMU page tables of three formats", "",
                  f"{bench_size.page_tables(kernel):,} bytes")


def _size(what, size, max_size, note=""):
    return Finding(what, "", f"{size:,} bytes{note}", f"{max_size:,} bytes",
                   size <= max_size)


def _ratios(what, ratios, max_ratio):
    """Findings for the ratios that miss the target, else for the largest.

    ratios are [(ratio, machine, language)].
    """
    ratios = sorted(ratios, reverse=True)
    for ratio, machine, language in \
            [each for each in ratios if each[0] > max_ratio] or ratios[:1]:
        yield Finding(f"{what}, {language}", machine, f"{ratio:.3f}",
                      f"{max_ratio:.2f}", ratio <= max_ratio)


def _limit(what, machine, value, limit, form="{:.1f}"):
    return Finding(what, machine, form.format(value), f"{limit}",
                   round(value, 3) <= limit)


def _rust(counts):
    for machine in vm.MACHINES:
        kept = counts(machine, "Rust", "typed_kept", ONE)
        raw = counts(machine, "C", "dma_map_phys", ONE)
        if kept is None or raw is None:
            continue
        if machine in IOMMU:
            for language in ("C", "Rust"):
                yield _limit(f"kept in {language}, against raw map and unmap",
                             machine,
                             counts(machine, language, "typed_kept", ONE) / raw,
                             MAX_KEPT_IOMMU, "{:.3f}")
            for shape, rust, c in ((ONE, "typed_page", "typed_map"),
                                   (SCATTERED, "typed_sg", "typed_sg")):
                yield _limit(f"Rust, {shape}, prepared, against C", machine,
                             counts(machine, "Rust", rust, shape) /
                             counts(machine, "C", c, shape), MAX_RUST_IOMMU,
                             "{:.3f}")
        elif machine in DIRECT:
            yield _limit("kept in Rust, instructions", machine, kept, MAX_KEPT)
            yield _limit(f"Rust, {ONE}, prepared, instructions more than C", machine,
                         counts(machine, "Rust", "typed_page", ONE) -
                         counts(machine, "C", "typed_map", ONE), MAX_MORE)
            yield _limit(f"Rust, {SCATTERED}, prepared, against C", machine,
                         counts(machine, "Rust", "typed_sg", SCATTERED) /
                         counts(machine, "C", "typed_sg", SCATTERED), MAX_MANY,
                         "{:.3f}")
        elif machine == "bounce":
            pair = counts(machine, "C", "dma_map_phys", SYNCED) - raw
            yield _limit("kept in Rust, against the raw pair of syncs", machine,
                         kept / pair, MAX_KEPT_BOUNCE, "{:.3f}")


def _page(counts):
    for machine in PAGE_TABLES:
        cost = _cost_of_one_more(counts, machine, "C", SCATTERED.ranges,
                                 SCATTERED_MANY.ranges)
        if cost is not None:
            yield _limit("one more page, instructions", machine, cost, MAX_PAGE)


def _growth(counts):
    costs = [(machine, language,
              _cost_of_one_more(counts, machine, language, *FEW),
              _cost_of_one_more(counts, machine, language, *MANY))
             for machine in vm.MACHINES for language in ("C", "Rust")]
    yield from _ratios(
        f"one more range of {MANY[1]}, against one more of {FEW[1]}",
        [(many / few, machine, language)
         for machine, language, few, many in costs if few and many],
        MAX_GROWTH)


def _cost_of_one_more(counts, machine, language, low, high):
    """The cost of one more scattered range, between two numbers of ranges."""
    memory = "peer" if machine == BUS else "cpu"
    ends = [counts(machine, language, "typed_sg",
                   Shape(ranges=ranges, layout="scattered", memory=memory))
            for ranges in (low, high)]
    if None in ends:
        return None
    return (ends[1] - ends[0]) / (high - low)


def parallel(rows, shapes=tuple(CPUS[1:])):
    """Findings for the growth of time with the number of CPUs.

    The target is half of the growth with a lock that all CPUs share.
    """
    times = {(row.method, row.shape.cpus): row.cycles * row.shape.cpus
             for row in rows
             if row.machine == FULL[-1].machine_name and row.cycles}
    for cpus in (shape.cpus for shape in shapes if times):
        typed, locked = (times[method, cpus] / times[method, 1]
                         for method in ("typed_map", LOCKED))
        yield Finding(f"time on {cpus} CPUs in parallel, against one; with a "
                      f"shared lock {locked:.2f}", "direct", f"{typed:.2f}",
                      f"{(1 + locked) / 2:.2f}", typed <= (1 + locked) / 2)


def _live_maps(counts):
    for shape in LIVE:
        yield from _ratios(
            f"beside {shape.live:,} live maps, against none",
            [(beside / alone, machine, language)
             for machine in vm.MACHINES for language in ("C", "Rust")
             if (alone := counts(machine, language, "typed_map", ONE))
             and (beside := counts(machine, language, "typed_map", shape))],
            MAX_LIVE_RATIO)

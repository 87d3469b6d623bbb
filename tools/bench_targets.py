# SPDX-License-Identifier: GPL-2.0
"""What typed maps are to cost at most, and whether they do.

Each target is a line of the tables below; none is anywhere else.
"""

import dataclasses

import bench_size
import vm
from bench_micro import (BUS, CONTIGUOUS, CPUS, FULL, LIVE, LOCKED, ONE, SCATTERED,
                         SYNCED, Shape, label, of_peer)

DIRECT = ("direct", "intel-passthrough")
IOMMU = ("intel-lazy", "intel-strict", "amd", "virtio-iommu")
PEER, PEER_MANY = of_peer([ONE, SCATTERED])


@dataclasses.dataclass(frozen=True)
class Ratio:
    """A typed method in C and in Rust against a raw one on the same machine.

    most is what the ratio may be; None where no target is set. Where Rust has a
    target of its own, against C, alone is true.
    """

    machines: tuple[str, ...]
    shape: Shape
    typed: str
    raw: str
    most: float | None = None
    alone: bool = False


RATIOS = [
    Ratio(DIRECT, ONE, "typed_map", "dma_map_phys", 0.5, alone=True),
    Ratio(("bounce", *IOMMU), ONE, "typed_map", "dma_map_phys", 1.0),
    Ratio((*DIRECT, "bounce", *IOMMU), SYNCED, "typed_map", "dma_map_phys"),
    Ratio(DIRECT, SCATTERED, "typed_vec", "dma_map_sgtable", 0.25),
    Ratio(IOMMU, SCATTERED, "typed_vec", "dma_map_sgtable", 0.75),
    Ratio(("bounce",), SCATTERED, "typed_vec", "dma_map_sgtable"),
    Ratio(IOMMU, CONTIGUOUS, "typed_vec", "dma_map_sgtable", 0.2),
    Ratio((*DIRECT, "bounce"), CONTIGUOUS, "typed_vec", "dma_map_sgtable"),
    Ratio((BUS,), PEER, "typed_map", "dma_map_sgtable"),
    Ratio((BUS,), PEER_MANY, "typed_vec", "dma_map_sgtable"),
]

# Rust against C on these machines. Rust's Mapping is given memory, not a range: in C
# that is typed_virt.
RUST = (DIRECT, ONE, "typed_virt", "typed_map", 1.03)
# A range more, of many, against one of few, each from one count to the next.
FEW, MANY = (16, 32), (128, 256)
LINEAR = 1.05
# Beside many live maps against beside none.
CONSTANT = 1.02
HANDLE = 40
CORE = 24 * 1024


@dataclasses.dataclass(frozen=True)
class Compared:
    """A ratio on one machine, as it was measured; None: it was not."""

    machine: str
    shape: Shape
    raw: str
    raw_count: float
    best: str
    best_count: float
    empty: float
    c: float
    rust: float | None
    most: float | None
    met: bool | None

@dataclasses.dataclass(frozen=True)
class Finding:
    """Any other target: what was measured, as text, and what it may be."""

    what: str
    where: str
    measured: str
    target: str = ""
    met: bool | None = None


class Counts:
    """Rows by what they are a measurement of."""

    def __init__(self, rows):
        self._rows = {row.key: row for row in rows if not row.error}

    def __call__(self, machine, language, method, shape):
        """Instructions, or None where nothing was measured."""
        row = self.row(machine, language, method, shape)
        return row and row.instructions

    def row(self, *key):
        """All of it."""
        return self._rows.get(key)

    def best_raw(self, machine, shape):
        """(instructions, method) of the best raw method."""
        return min((row.instructions, label(row.language, row.method))
                   for row in self._rows.values() if not row.typed
                   and (row.machine, row.shape) == (machine, shape))


def compared(rows):
    """All ratios, machine by machine."""
    counts = Counts(rows)
    return [found for name in vm.MACHINES for ratio in RATIOS
            if name in ratio.machines
            and (found := _compared(counts, name, ratio))]


def _compared(counts, machine, ratio):
    raw = counts(machine, "C", ratio.raw, ratio.shape)
    c = counts(machine, "C", ratio.typed, ratio.shape)
    if raw is None or c is None:
        return None
    rust = counts(machine, "Rust", ratio.typed, ratio.shape)
    best_count, best = counts.best_raw(machine, ratio.shape)
    bound = [c] if ratio.alone or rust is None else [c, rust]
    met = max(bound) <= ratio.most * raw if ratio.most else None
    empty = counts.row(machine, "C", ratio.raw, ratio.shape).empty
    return Compared(machine, ratio.shape, ratio.raw, raw, best, best_count,
                    empty, c, rust, ratio.most, met)


def findings(rows, kernel):
    """Every other target."""
    counts = Counts(rows)
    yield from _rust(counts)
    yield from _linear(counts)
    yield from _constant(counts)
    yield _at_most("size of a handle", bench_size.handle(kernel), HANDLE)
    core, tracing = bench_size.core(kernel), bench_size.tracing(kernel)
    yield _at_most("code of the core", core, CORE,
                   f", {tracing:,} of them tracepoints")
    yield _at_most("added to a kernel that does not use it",
                   bench_size.unused(kernel), 0)


def _at_most(what, size, most, more=""):
    return Finding(what, "", f"{size:,} bytes{more}", f"{most:,} bytes",
                   size <= most)


def _within(what, found, most):
    """Ratios, as (ratio, machine, language): those that are too large, or else
    the largest.
    """
    found = sorted(found, reverse=True)
    for ratio, machine, language in \
            [each for each in found if each[0] > most] or found[:1]:
        yield Finding(f"{what}, {language}", machine, f"{ratio:.3f}",
                      f"{most:.2f}", ratio <= most)


def _rust(counts):
    machines, shape, of_c, of_rust, most = RUST
    for machine in machines:
        c = counts(machine, "C", of_c, shape)
        rust = counts(machine, "Rust", of_rust, shape)
        if c and rust:
            yield Finding(f"Rust against C, {shape}, given its memory", machine,
                          f"{rust / c:.3f}", f"{most:.2f}", rust <= most * c)


def _linear(counts):
    slopes = [(machine, language, _slope(counts, machine, language, *FEW),
               _slope(counts, machine, language, *MANY))
              for machine in vm.MACHINES for language in ("C", "Rust")]
    yield from _within(
        f"one range more of {MANY[1]}, against of {FEW[1]}",
        [(many / few, machine, language)
         for machine, language, few, many in slopes if few and many], LINEAR)


def _slope(counts, machine, language, low, high):
    """What one scattered range more costs between two numbers of them."""
    memory = "peer" if machine == BUS else "cpu"
    ends = [counts(machine, language, "typed_vec",
                   Shape(ranges=ranges, layout="scattered", memory=memory))
            for ranges in (low, high)]
    if None in ends:
        return None
    return (ends[1] - ends[0]) / (high - low)


def _constant(counts):
    for shape in LIVE:
        yield from _beside(counts, shape,
                           f"beside {shape.live:,} live maps, against none")


def apart(rows, shapes=tuple(CPUS[1:])):
    """How the time of a turn grows with the processors, and would with a lock."""
    took = {(row.method, row.shape.cpus): row.cycles * row.shape.cpus
            for row in rows if row.machine == FULL[-1].place and row.cycles}
    for count in (shape.cpus for shape in shapes if took):
        typed, locked = (took[method, count] / took[method, 1]
                         for method in ("typed_map", LOCKED))
        yield Finding(f"time on {count} CPUs at once, against one; with a lock "
                      f"that they share {locked:.2f}", "direct", f"{typed:.2f}",
                      f"{(1 + locked) / 2:.2f}", typed <= (1 + locked) / 2)


def _beside(counts, shape, what):
    yield from _within(what, [
        (now / one, machine, language)
        for machine in vm.MACHINES for language in ("C", "Rust")
        if (one := counts(machine, language, "typed_map", ONE))
        and (now := counts(machine, language, "typed_map", shape))], CONSTANT)

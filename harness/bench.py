# SPDX-License-Identifier: GPL-2.0
"""Measure typed maps beside the raw DMA API, and check the targets.

    ./run bench [micro|drivers]    tables of maps, of block drivers, or of both; CSV
                                   and plots go to the cache; with both also the page
                                   and the baseline of the maps
    ./run bench --rst              print Documentation/core-api/
                                   dma-phys-benchmark.rst; its plot goes to the cache
    ./run bench --check            measure a part, compare it with the baselines
    ./run bench --arch arm64 [--rst]
                                   a table of maps on arm64, or the page of it
    ./run bench --baseline         print a baseline of the maps, for
                                   harness/bench_baseline.csv
"""

import sys
import textwrap

from harness import bench_check as check
from harness import bench_drivers as drivers
from harness import bench_memory
from harness import bench_micro as micro
from harness import bench_targets as targets
from harness import kernel as kernels
from harness import plot, vm
from harness.progress import say

HOME = vm.CACHE / "bench"
PAGE_NAME = "dma-phys-benchmark.rst"
PLOT_NAME = "dma-phys-benchmark.svg"

# Options that change the counts.
OPTIONS = ("SMP", "PREEMPT_NONE", "PREEMPT", "JUMP_LABEL", "TRACEPOINTS",
           "CC_OPTIMIZE_FOR_PERFORMANCE", "CPU_MITIGATIONS",
           "RUST_INLINE_HELPERS", "SWIOTLB_DYNAMIC", "DMA_API_DEBUG",
           "DMA_PHYS_DEBUG", "FAIL_DMA_PHYS", "KASAN")


# --- tables -------------------------------------------------------------------

HEADER = ("machine", "mapped and unmapped", "raw", "best raw", "empty", "C",
          "Rust", "first version", "target", "met")
# The first columns, of the table of arm64: it has no targets.
COLUMNS_ARM64 = HEADER.index("first version")
FINDINGS_HEADER = ("what", "machine", "measured", "at most", "met")


def count(number):
    """A count as text: with a decimal only if it is small."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.1f}"


def yes_or_no(is_met):
    return {None: "", True: "yes", False: "NO"}[is_met]


def met_text(met):
    """Whether a target is met, for {language: is_met}."""
    if len(set(met.values())) < 2:
        return yes_or_no(next(iter(met.values()), None))
    return ", ".join(f"{language} {yes_or_no(is_met)}"
                     for language, is_met in met.items())


def ratio_cells(row):
    """The cells of a row of the first table."""
    def with_ratio(number):
        return "" if number is None else \
            f"{count(number)} ({number / row.raw_count:.2f})"
    best = "" if row.best == row.raw else f"{row.best} {count(row.best_count)}"
    return (vm.MACHINES[row.machine].text, row.what,
            f"{row.raw} {count(row.raw_count)}", best, f"{row.empty:.1f}",
            with_ratio(row.c), with_ratio(row.rust),
            f"{row.first:.2f}" if row.first else "",
            f"{row.max_ratio:.2f}" if row.max_ratio else "",
            met_text(row.met))


def finding_cells(finding):
    """The cells of a row of the second table."""
    machine = vm.MACHINES[finding.machine].text if finding.machine else ""
    return (finding.what, machine, finding.measured, finding.target,
            yes_or_no(finding.is_met))


def columns(rows):
    """Text in columns."""
    widths = [max(map(len, cells)) for cells in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths))
            .rstrip() for row in rows]


def text(rows, kernel):
    """Both tables for a terminal."""
    yield f"{check.versions(kernel)}; instructions, without the empty loop"
    yield ""
    yield from columns([HEADER, *map(ratio_cells, targets.comparisons(rows))])
    yield ""
    yield from columns([FINDINGS_HEADER, *map(
        finding_cells, targets.findings(rows, kernel))])


def cycles(kernel):
    """The first table in cycles, if KVM works."""
    if vm.accelerator(kernel) != "kvm":
        return ["no cycles: KVM does not work here"]
    rows = micro.in_cycles(micro.measure(
        kernel, [boot.with_kvm() for boot in micro.FULL], "counting cycles"))
    return ["cycles, with KVM", "",
            *columns([HEADER, *map(ratio_cells, targets.comparisons(rows))])]


# --- files --------------------------------------------------------------------

# (colour, width): lines of Rust are narrow, so that those of C stay visible below.
STYLES = {
    ("C", "dma_map_phys"): ("#1f77b4", 1.4),
    ("C", "dma_map_page"): ("#17becf", 1.4),
    ("C", "dma_map_sgtable"): ("#2ca02c", 1.4),
    ("C", "dma_iova_link"): ("#9467bd", 1.4),
    ("C", "iommu_map_sg"): ("#98df8a", 1.4),
    ("C", "iommu_map_sg_vecs"): ("#ff9896", 1.4),
    ("C", "typed_virt"): ("#e377c2", 1.4),
    ("C", "typed_map"): ("#ff6b5e", 3),
    ("C", "typed_kept"): ("#c49c94", 1.4),
    ("C", "typed_sg"): ("#ffb04d", 3),
    ("C", "typed_sg_iter"): ("#8c564b", 1.4),
    ("Rust", "sgtable"): ("#146114", 1.4),
    ("Rust", "typed_map"): ("#7a0c0c", 1.4),
    ("Rust", "typed_page"): ("#d62728", 1.4),
    ("Rust", "typed_kept"): ("#bcbd22", 1.4),
    ("Rust", "typed_sg"): ("#8a4500", 1.4),
    ("Rust", "typed_svec"): ("#7f7f7f", 1.4),
}


def lines(rows, shapes, x):
    """A line for each method that has more than one point."""
    for (language, method), (colour, width) in STYLES.items():
        points = sorted(
            (getattr(row.shape, x), row.instructions) for row in rows
            if (row.language, row.method) == (language, method)
            and row.shape in shapes and not row.error)
        if len(points) > 1:
            yield plot.Line(micro.label(language, method), points, colour,
                            "6 4" if language == "Rust" else "", width)


def plots(machine, rows):
    """The plot of a machine as SVG."""
    peer = machine == micro.BUS
    sizes, ranges = (micro.of_memory("peer", shapes) if peer else shapes
                     for shapes in (micro.SIZES, micro.RANGES))
    one = sizes[micro.SIZES.index(micro.ONE)]
    panels = [plot.Panel(
        "one range", "bytes", {
            shape.size: "" if number % 2 else micro.size_text(shape.size)
            for number, shape in enumerate(sizes)}, list(lines(rows, sizes, "size")))]
    for layout in ("contiguous", "scattered"):
        shapes = [one] + [shape for shape in ranges if shape.layout == layout]
        panels.append(plot.Panel(
            f"{layout} ranges of 4 KiB", "ranges",
            {shape.ranges: str(shape.ranges) for shape in shapes},
            list(lines(rows, shapes, "ranges"))))
    memory = "memory of a peer, " if peer else ""
    return plot.svg(f"{memory}{vm.MACHINES[machine].text}: map and unmap",
                    "instructions", panels)


# What a page of the plot of IOMMUs is mapped with: (language, method, name, colour, width)
IOMMU_LINES = (("C", "dma_map_sgtable", "dma_map_sgtable", "#1f77b4", 3),
               ("C", "typed_sg", "C, sg", "#ff6b5e", 3),
               ("Rust", "typed_sg", "Rust, sg", "#7a0c0c", 1.4))


def iommu_plot(rows):
    """Instructions by number of scattered pages, for each IOMMU, as SVG."""
    shapes = [micro.ONE] + [shape for shape in micro.RANGES
                            if shape.layout == "scattered"]
    counts = targets.Counts(rows)
    panels = [plot.Panel(
        vm.MACHINES[machine].text, "pages",
        {shape.ranges: str(shape.ranges) for shape in shapes},
        [plot.Line(name, [(shape.ranges, counts(machine, language, method, shape))
                          for shape in shapes],
                   colour, "6 4" if language == "Rust" else "", width)
         for language, method, name, colour, width in IOMMU_LINES])
        for machine in targets.IOMMU]
    return plot.svg("map and unmap pages that are not adjacent", "instructions",
                    panels)


def write_files(rows):
    """Write CSV and plots: their paths outside the tool root."""
    HOME.mkdir(exist_ok=True)
    paths = [HOME / "micro.csv"]
    with paths[0].open("w") as out:
        micro.write_csv(rows, out)
    paths.append(HOME / PLOT_NAME)
    paths[-1].write_text(iommu_plot(rows))
    for machine in (*micro.MACHINES, micro.BUS):
        paths.append(HOME / f"{machine}.svg")
        paths[-1].write_text(plots(
            machine, [row for row in rows if row.machine == machine]))
    return [kernels.host_path(path) for path in paths]


# --- the page -----------------------------------------------------------------

PAGE = """\
.. SPDX-License-Identifier: GPL-2.0

===================
Costs of typed maps
===================

Costs of mapping and unmapping memory for a device, with typed maps
(Documentation/core-api/dma-phys.rst) and with the raw DMA API. They are counted in
instructions, on virtual machines. The counts do not depend on the host. They repeat
within 1%, or within 4% if a timer flushes unmapped IOVAs later. They do not include
the costs of caches, TLBs and IOMMU hardware.

{setup}

How to read the tables
======================

``kernel/dma/phys/tests/benchmark.c`` and
``samples/rust/rust_dma_phys_benchmark.rs`` map memory for the same device with each
method, sync it if the row says so, and unmap it. Handles and segments are allocated
before. *Raw* is the function of the raw API that a driver would call, and its unmap
function. *Best raw* is the method of the raw API with the lowest count, if that is
another one. *Empty* is an iteration of the loop without a map; it is subtracted from
all counts. In parentheses are ratios to *raw*. *C* is dma_phys_map_cpu() or
dma_phys_map_mmio(), and dma_phys_unmap(). For several ranges it is
dma_phys_sg_map_cpu() or dma_phys_sg_map_mmio(), to an array, and dma_phys_sg_unmap();
*by iterator* it is dma_phys_sg_map_start() and dma_phys_sg_map_next(). *Rust* is
``Mapping`` and ``SgMapping``, which start from memory and make its range. *First
version* is the ratio of C in the first version of typed maps. The target is for both
languages, unless *Rust against C* below is the target for Rust. A cell is empty if
there is no target, or no such map.
"""
PAGE_ARM64 = """\
.. SPDX-License-Identifier: GPL-2.0

============================
Costs of typed maps on arm64
============================

Instructions to map and unmap memory for a device on arm64, with devices that are
coherent and with devices that are not. Documentation/core-api/dma-phys-benchmark.rst
says how they are counted and how to read the table. This table has no targets, and no
column for the first version. Cache maintenance is a loop over cache lines. A barrier,
which waits for it, counts as one instruction: it costs more on hardware. ``./run bench
--arch arm64 --rst`` prints this page.

Typed maps are more expensive than the raw API here in these cases:

* The device is not coherent: the fast paths are for coherent devices. A list that is
  not linked at one IOVA maps each run by itself, with a barrier and an unmap record for
  each. Of a list that is, the kernel's dma_iova_unlink() looks up each page in the page
  table.
* MMIO that belongs to no peer takes the slow path.

{setup}
"""
IOMMU = """
Pages behind an IOMMU
=====================

.. kernel-figure:: {plot}
   :alt: instructions by number of pages, for each IOMMU

A scatterlist costs a walk of the page table for each page, a list of typed maps one for
each leaf table, with the patches that ``series/README.md`` lists first. QEMU's Intel
IOMMU reads page tables that are not coherent, so that each walk flushes caches too: the
AMD IOMMU is the fairer comparison. virtio-iommu has no page table in the guest. *One
walk* in the table above is iommu_map_sg() with dma_iova_link_vecs().
"""
FINDINGS = """
Scaling and size
================

Ratios are those of the machine with the largest ratio, or of each machine that
misses the target. On several CPUs, each with ranges and handles of its own, time is
measured, since a machine that counts instructions runs its CPUs in turn. The time
may grow by half as much as it would with a shared lock. A list is all that is kept
of ranges from map to unmap, unless the route needs an unmap record for each range.
Code is what is executable in the object files of the core, without tests and debug
options; the target is the code of the first version, and 3,200 bytes for fast paths
behind an IOMMU. A kernel that uses neither typed maps nor Rust has no code of them: but
for the series for IOMMU page tables, none of its source files changes, and no Makefile
builds another object.
"""
REPEAT = """
How to repeat the measurements
==============================

``./run bench micro`` prints the first tables, and writes all counts as CSV and a
plot of each machine as SVG. If KVM works, it also prints cycles. ``./run bench
drivers`` prints the tables of block drivers, ``./run bench`` both, ``./run bench
--rst`` this page. ``./run bench --check`` measures a part, compares it with
``harness/bench_baseline.csv`` and ``harness/bench_drivers.csv``, and prints the
counts that grew; ``./run test`` does the same. ``./run bench --baseline`` and
``./run bench drivers --baseline`` print new baselines, to be committed with a change
that is meant to change counts, or with new compilers.

By hand::

	echo typed_sg ranges=32 layout=scattered loops=1000 \\
		>/sys/kernel/debug/dma_phys_benchmark/run
	cat /sys/kernel/debug/dma_phys_benchmark/run
"""


def rst_table(header, rows, widths):
    """A list-table."""
    yield "\n.. list-table::"
    yield "   :header-rows: 1"
    yield f"   :widths: {' '.join(map(str, widths))}"
    yield ""
    for row in [header, *rows]:
        for number, cell in enumerate(row):
            yield from (line.rstrip() for line in textwrap.wrap(
                cell, 79, break_on_hyphens=False,
                initial_indent="     - " if number else "   * - ",
                subsequent_indent=" " * 7) or [
                    "     -" if number else "   * -"])


def setup(kernel):
    """The versions and options of the measurement, as a field list."""
    options = ", ".join(
        f"{name} {'set' if kernel.config(name) else 'not set'}"
        for name in OPTIONS)
    for name, words in (("Versions", check.versions(kernel)),
                        ("Options", options)):
        yield textwrap.fill(words, 80, initial_indent=f":{name}: ",
                            subsequent_indent="  ", break_on_hyphens=False)


def rst(rows, results, memory, kernel):
    """The page, from rows of the microbenchmark, results and memory of drivers."""
    yield PAGE.format(setup="\n".join(setup(kernel))).rstrip()
    yield from rst_table(HEADER, map(ratio_cells, targets.comparisons(rows)),
                         (16, 20, 16, 16, 6, 12, 12, 6, 6, 6))
    yield IOMMU.format(plot=PLOT_NAME).rstrip()
    yield FINDINGS.rstrip()
    yield from rst_table(FINDINGS_HEADER, map(
        finding_cells, targets.findings(rows, kernel)), (34, 24, 16, 16, 10))
    yield from drivers.rst(results, rst_table)
    yield from bench_memory.rst(memory, rst_table)
    yield REPEAT.rstrip()


# --- the command line -----------------------------------------------------------

def print_micro(kernel):
    """Measure the maps and print both tables: the rows."""
    rows = micro.measure(kernel, micro.FULL)
    paths = write_files(rows)
    print("\n".join([*text(rows, kernel), "", *cycles(kernel), "", *paths, ""]))
    return rows


def print_both(kernel):
    """Measure and print maps and drivers. Write the page and the baseline."""
    rows = print_micro(kernel)
    results = drivers.measure(kernel)
    print("\n".join(drivers.text(results, kernel)))
    memory = bench_memory.measure(kernel)
    drivers.print_memory(memory)
    print("\n".join(["", *drivers.write_files(results)]))
    page, baseline = HOME / PAGE_NAME, HOME / check.BASELINE.name
    page.write_text("\n".join([*rst(rows, results, memory, kernel), ""]))
    shapes = {(boot.machine, shape) for boot in micro.SHORT
              for shape in boot.shapes}
    with baseline.open("w") as out:
        check.write([row for row in rows
                     if (row.machine, row.shape) in shapes], kernel, out)
    print("\n".join(map(kernels.host_path, (page, baseline))))


def print_page(kernel):
    rows = micro.measure(kernel, micro.FULL)
    write_files(rows)
    results = drivers.measure(kernel)
    drivers.write_files(results)
    memory = bench_memory.measure(kernel)
    print("\n".join(rst(rows, results, memory, kernel)))


def print_arm64(kernel, rst_page):
    """Measure the maps on arm64, and print a table or the page."""
    rows = micro.measure(kernel, micro.ARM64)
    header, *cells = (
        row[:COLUMNS_ARM64] for row in
        (HEADER, *map(ratio_cells, targets.comparisons(rows, targets.RATIOS_ARM64))))
    if not rst_page:
        print("\n".join([f"{check.versions(kernel)}; instructions", "",
                         *columns([header, *cells])]))
        return
    print(PAGE_ARM64.format(setup="\n".join(setup(kernel))).rstrip())
    print("\n".join(rst_table(header, cells, (18, 22, 18, 18, 8, 14, 14))))


def print_baseline(kernel):
    check.write(micro.measure(kernel, micro.SHORT), kernel, sys.stdout)


def print_check(kernel):
    """1 if a count grew, else 0."""
    return check_micro(kernel) | drivers.print_check(kernel)


def check_micro(kernel):
    """1 if a count of the maps grew, else 0."""
    try:
        baseline = check.read()
    except FileNotFoundError:
        say("there is no baseline: "
            "./run bench --baseline >harness/bench_baseline.csv")
        return 1
    rows = micro.measure(kernel, micro.SHORT)
    verdict = check.compare(rows, baseline, check.versions(kernel))
    print("\n".join([f"note: {note}" for note in verdict.notes] +
                    [f"grew: {line}" for line in verdict.grew] +
                    [f"{len(rows)} counts, {len(verdict.grew)} grew"]))
    return 1 if verdict.grew else 0


ACTIONS = {"--rst": print_page, "--check": print_check,
           "--baseline": print_baseline}


def main(*words):
    kernels.exit_on_signals()
    try:
        if words[:1] == ("arm64",):
            print_arm64(vm.kernel("arm64"), "--rst" in words)
            return 0
        kernel = vm.kernel()
        if words and words[0] in ACTIONS:
            return ACTIONS[words[0]](kernel) or 0
        if words[:1] == ("drivers",):
            return drivers.run(kernel, words[1:])
        if words[:1] == ("micro",):
            print_micro(kernel)
        else:
            print_both(kernel)
    except (vm.MachineError, vm.CommandError) as error:
        say(f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

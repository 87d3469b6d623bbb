#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measure typed maps beside the raw DMA API, and say whether targets are met.

    bench.py [micro|drivers]    tables of maps, of block drivers, or of both; CSV
                                and plots go to the cache, and of both also the
                                page and the baseline of the maps
    bench.py --rst              the same as Documentation/core-api/
                                dma-phys-benchmark.rst
    bench.py --check            a part again, compared with the baselines
    bench.py --baseline         that of the maps: tools/bench_baseline.csv
"""

import sys
import textwrap

import bench_check as check
import bench_drivers as drivers
import bench_micro as micro
import bench_targets as targets
import kernel as kernels
import plot
import vm
from progress import say

HOME = vm.CACHE / "bench"
PAGE_NAME = "dma-phys-benchmark.rst"

# What changes counts.
OPTIONS = ("SMP", "PREEMPT_NONE", "PREEMPT", "JUMP_LABEL", "TRACEPOINTS",
           "CC_OPTIMIZE_FOR_PERFORMANCE", "CPU_MITIGATIONS",
           "RUST_INLINE_HELPERS", "SWIOTLB_DYNAMIC", "DMA_API_DEBUG",
           "DMA_PHYS_DEBUG", "FAIL_DMA_PHYS", "KASAN")


# --- tables -------------------------------------------------------------------

HEADER = ("machine", "mapped and unmapped", "raw", "best raw", "empty", "C",
          "Rust", "target", "met")
OTHERS = ("what", "machine", "measured", "at most", "met")


def count(number):
    """A count with as many digits as mean something."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.1f}"


def met(it):
    return {None: "", True: "yes", False: "NO"}[it]


def ratio_cells(row):
    """A row of the first table, as text."""
    def beside(number):
        return "" if number is None else \
            f"{count(number)} ({number / row.raw_count:.2f})"
    best = "" if row.best == row.raw else f"{row.best} {count(row.best_count)}"
    return (vm.MACHINES[row.machine].text, str(row.shape),
            f"{row.raw} {count(row.raw_count)}", best, f"{row.empty:.1f}",
            beside(row.c), beside(row.rust),
            f"{row.most:.2f}" if row.most else "", met(row.met))


def other_cells(found):
    """A row of the second one."""
    where = vm.MACHINES[found.where].text if found.where else ""
    return found.what, where, found.measured, found.target, met(found.met)


def columns(rows):
    """Rows as lines of text."""
    widths = [max(map(len, cells)) for cells in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths))
            .rstrip() for row in rows]


def text(rows, kernel):
    """All of it for a terminal."""
    yield f"{check.versions(kernel)}; instructions, without the empty loop"
    yield ""
    yield from columns([HEADER, *map(ratio_cells, targets.compared(rows))])
    yield ""
    yield from columns([OTHERS, *map(other_cells,
                                     targets.findings(rows, kernel))])


def cycles(kernel):
    """The same ratios in cycles, where KVM runs."""
    if vm.accelerator(kernel) != "kvm":
        return ["KVM does not run here: no cycles"]
    rows = micro.in_cycles(micro.measure(
        kernel, [boot.with_kvm() for boot in micro.FULL], "counting cycles"))
    return ["cycles, with KVM", "",
            *columns([HEADER, *map(ratio_cells, targets.compared(rows))])]


# --- files --------------------------------------------------------------------

# Where Rust's lines lie on C's both are to be seen.
STYLES = {
    ("C", "dma_map_phys"): ("#1f77b4", 1.4),
    ("C", "dma_map_page"): ("#17becf", 1.4),
    ("C", "dma_map_sgtable"): ("#2ca02c", 1.4),
    ("C", "dma_iova_link"): ("#9467bd", 1.4),
    ("C", "typed_virt"): ("#e377c2", 1.4),
    ("C", "typed_map"): ("#ff6b5e", 3),
    ("C", "typed_vec"): ("#ffb04d", 3),
    ("Rust", "sgtable"): ("#146114", 1.4),
    ("Rust", "typed_map"): ("#7a0c0c", 1.4),
    ("Rust", "typed_vec"): ("#8a4500", 1.4),
}


def lines(rows, shapes, x):
    """A line for each method that was measured on more than one shape."""
    for (language, method), (colour, width) in STYLES.items():
        points = sorted(
            (getattr(row.shape, x), row.instructions) for row in rows
            if (row.language, row.method) == (language, method)
            and row.shape in shapes and not row.error)
        if len(points) > 1:
            yield plot.Line(micro.label(language, method), points, colour,
                            "6 4" if language == "Rust" else "", width)


def plots(machine, rows):
    """The SVG of a machine."""
    peer = machine == micro.BUS
    sizes, ranges = ((micro.of_peer(shapes) if peer else shapes)
                     for shapes in (micro.SIZES, micro.RANGES))
    one = sizes[micro.SIZES.index(micro.ONE)]
    panels = [plot.Panel(
        "one range", "bytes", {
            shape.size: "" if at % 2 else micro.size_text(shape.size)
            for at, shape in enumerate(sizes)}, list(lines(rows, sizes, "size")))]
    for layout in ("contiguous", "scattered"):
        shapes = [one] + [shape for shape in ranges if shape.layout == layout]
        panels.append(plot.Panel(
            f"{layout} ranges of 4 KiB", "ranges",
            {shape.ranges: str(shape.ranges) for shape in shapes},
            list(lines(rows, shapes, "ranges"))))
    whose = "memory of a peer, " if peer else ""
    return plot.svg(f"{whose}{vm.MACHINES[machine].text}: map and unmap",
                    "instructions", panels)


def write_files(rows):
    """CSV and plots; what they are called outside."""
    HOME.mkdir(exist_ok=True)
    written = [HOME / "micro.csv"]
    with written[0].open("w") as out:
        micro.write_csv(rows, out)
    for machine in (*micro.MACHINES, micro.BUS):
        written.append(HOME / f"{machine}.svg")
        written[-1].write_text(plots(
            machine, [row for row in rows if row.machine == machine]))
    return [kernels.host_path(path) for path in written]


# --- the page -----------------------------------------------------------------

PAGE = """\
.. SPDX-License-Identifier: GPL-2.0

====================
What typed maps cost
====================

What it takes to map and unmap memory for a device, with typed maps
(Documentation/core-api/dma-phys.rst) and with the raw DMA API: instructions, on
virtual machines that count them. They do not depend on the host, and repeat
within one in a hundred, or within four where unmapping is put off to a timer.
What caches, TLBs and a real IOMMU cost they do not tell.

{taken}

How to read it
==============

``kernel/dma/phys/benchmark.c`` and ``samples/rust/rust_dma_phys_benchmark.rs``
map memory for the same device in turn, with each method, sync it where the row
says so, and unmap it; handles and segments lie ready. *Raw* is the function of
the raw API that a driver would call there, and its unmapping; *best raw* is the
method of the raw API that took least, where that is another. *Empty* is a turn
of the loop without anything in it, which is subtracted. In parentheses are
ratios to raw. *C* is dma_phys_map_cpu() and dma_phys_unmap(), for several
ranges dma_phys_vec_map_cpu() and dma_phys_vec_unmap(); *Rust* is ``Mapping``
and ``VecMapping``, which are given memory and make its range. The target is for
both, where *Rust against C* below is not one of its own. Cells are empty where
no target is set, and where Rust has no such map.
"""
MEASURED = """
Growth, locks and bytes
=======================

Ratios are of the machine where they are largest, or of each one where they are
too large. On several CPUs, each with ranges and handles of its own, time is
measured, for a machine that counts instructions runs them in turn; it may grow
half as much as it would with a lock that they share, at most. Code is what is
executed of the core's objects. A kernel that does not use typed maps, nor Rust,
has nothing of them: no source that it is made from is another, and no Makefile
has one more object.
"""
AGAIN = """
Measuring it again
==================

``./run bench micro`` prints the first tables, writes all counts as CSV and a
plot of each machine as SVG; where KVM runs, it adds cycles. ``./run bench
drivers`` prints those of block drivers, ``./run bench`` both, ``./run bench
--rst`` this page. ``./run bench --check`` measures a part again, compares it
with ``tools/bench_baseline.csv`` and ``tools/bench_drivers.csv``, and names
what grew; it is a part of ``./run test``. ``./run bench --baseline`` and
``./run bench drivers --baseline`` print new ones, to be kept when counts are
meant to be others, or compilers are.

By hand::

	echo typed_vec ranges=32 layout=scattered loops=1000 \\
		>/sys/kernel/debug/dma_phys_benchmark/run
	cat /sys/kernel/debug/dma_phys_benchmark/run
"""


def rst_table(header, rows, widths):
    """A list-table of cells."""
    yield "\n.. list-table::"
    yield "   :header-rows: 1"
    yield f"   :widths: {' '.join(map(str, widths))}"
    yield ""
    for row in [header, *rows]:
        for at, cell in enumerate(row):
            yield from (line.rstrip() for line in textwrap.wrap(
                cell, 79, break_on_hyphens=False,
                initial_indent="     - " if at else "   * - ",
                subsequent_indent=" " * 7) or ["     -" if at else "   * -"])


def taken(kernel):
    """What the counts were taken with, as a list of fields."""
    options = ", ".join(
        f"{name} {'set' if kernel.config(name) else 'not set'}"
        for name in OPTIONS)
    for name, words in (("Taken with", check.versions(kernel)),
                        ("Options", options)):
        yield textwrap.fill(words, 80, initial_indent=f":{name}: ",
                            subsequent_indent="  ", break_on_hyphens=False)


def rst(rows, found, kernel):
    """The page: rows are of the microbenchmark, found is of the drivers."""
    yield PAGE.format(taken="\n".join(taken(kernel))).rstrip()
    yield from rst_table(HEADER, map(ratio_cells, targets.compared(rows)),
                         (16, 20, 16, 16, 6, 12, 12, 6, 6))
    yield MEASURED.rstrip()
    yield from rst_table(OTHERS, map(other_cells,
                                     targets.findings(rows, kernel)),
                         (34, 24, 16, 16, 10))
    yield from drivers.rst(found, rst_table)
    yield AGAIN.rstrip()


# --- the command line -----------------------------------------------------------

def print_micro(kernel):
    """All of the microbenchmark."""
    rows = micro.measure(kernel, micro.FULL)
    written = write_files(rows)
    print("\n".join([*text(rows, kernel), "", *cycles(kernel), "", *written, ""]))
    return rows


def print_both(kernel):
    """Both; with the page and the baseline of the maps as files, to be kept."""
    rows = print_micro(kernel)
    found = drivers.measure(kernel)
    print("\n".join([*drivers.text(found, kernel), "",
                     *drivers.write_files(found)]))
    page, baseline = HOME / PAGE_NAME, HOME / check.BASELINE.name
    page.write_text("\n".join([*rst(rows, found, kernel), ""]))
    shapes = {(boot.machine, shape) for boot in micro.SHORT
              for shape in boot.shapes}
    with baseline.open("w") as out:
        check.write([row for row in rows
                     if (row.machine, row.shape) in shapes], kernel, out)
    print("\n".join(map(kernels.host_path, (page, baseline))))


def print_page(kernel):
    rows = micro.measure(kernel, micro.FULL)
    write_files(rows)
    found = drivers.measure(kernel)
    drivers.write_files(found)
    print("\n".join(rst(rows, found, kernel)))


def print_baseline(kernel):
    check.write(micro.measure(kernel, micro.SHORT), kernel, sys.stdout)


def print_check(kernel):
    """1 where something grew."""
    return check_micro(kernel) | drivers.print_check(kernel)


def check_micro(kernel):
    """The same, of the maps."""
    try:
        baseline = check.read()
    except FileNotFoundError:
        say("there is no baseline: "
            "./run bench --baseline >tools/bench_baseline.csv")
        return 1
    rows = micro.measure(kernel, micro.SHORT)
    verdict = check.compare(rows, baseline, check.versions(kernel))
    print("\n".join([f"note: {note}" for note in verdict.notes] +
                    [f"grew: {line}" for line in verdict.grew] +
                    [f"{len(rows)} counts, {len(verdict.grew)} grew"]))
    return 1 if verdict.grew else 0


FORMS = {"--rst": print_page, "--check": print_check,
         "--baseline": print_baseline}


def main(*words):
    """See the top of this file."""
    kernels.stop_in_order()
    try:
        kernel = vm.kernel()
        if words and words[0] in FORMS:
            return FORMS[words[0]](kernel) or 0
        if words[:1] == ("drivers",):
            return drivers.run(kernel, words[1:])
        if words[:1] == ("micro",):
            print_micro(kernel)
        else:
            print_both(kernel)
    except (vm.Failure, vm.Refusal) as failure:
        say(f"stopped: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

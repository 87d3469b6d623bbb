# SPDX-License-Identifier: GPL-2.0
"""Costs of an I/O with the kernel's NVMe driver, the C sample and the Rust one.

    ./run bench drivers               tables, also of memory; CSV and a plot go to the
                                      cache
    ./run bench drivers --check       measure some points, compare with the baseline
    ./run bench drivers --baseline    print them, for harness/bench_drivers.csv
    ./run bench drivers --points 4k-randread-32,32k-randwrite-1 --rounds 3
"""

import argparse
import csv
import itertools
import pathlib
import statistics
import sys

from harness import bench_check
from harness import bench_fio as fio
from harness import bench_memory
from harness import kernel as kernels
from harness import plot, vm

HOME = vm.CACHE / "bench"
BASELINE = pathlib.Path(__file__).with_name("bench_drivers.csv")

# The target of ratios to the kernel's driver, after rounding; and of I/Os of many pages
# behind an IOMMU.
MAX_RATIO = 1.00
MAX_RATIO_IOMMU = {"32k": 0.75, "128k": 0.50}

# The points of --check.
SHORT = [fio.Point("512", "randread", 8), fio.Point("4k", "randwrite", 32),
         fio.Point("32k", "randread", 32),
         fio.Point("4k", "randread", 32, "intel-lazy"),
         fio.Point("32k", "randread", 32, "intel-lazy")]
SHORT_ROUNDS = 2
# The relative tolerance of ratios, with the versions of the baseline. They repeat
# within half of it.
RATIO_TOLERANCE = 0.03


# --- numbers ----------------------------------------------------------------

# Results are {(point, driver): Measured}.

def points_of(results):
    return list(dict.fromkeys(point for point, _ in results))


def cost(results, point, name):
    """Instructions per I/O."""
    return statistics.median(results[point, name].instructions)


def ratio(results, point, name):
    """The cost, divided by that of the kernel's driver."""
    return cost(results, point, name) / cost(results, point, "kernel")


def max_ratio(point):
    """The target at a point."""
    return MAX_RATIO if point.machine == fio.DIRECT else \
        MAX_RATIO_IOMMU.get(point.size, MAX_RATIO)


def is_met(results, point, name):
    return round(ratio(results, point, name), 2) <= max_ratio(point)


def spread(numbers):
    """The largest relative distance of a round from the median."""
    median = statistics.median(numbers)
    return max(abs(number / median - 1) for number in numbers)


def targets(results):
    """(what, measured, target, is_met) of each driver at its worst points."""
    limits = sorted(set(map(max_ratio, points_of(results))), reverse=True)
    for limit, name in itertools.product(limits, vm.DRIVERS):
        worst = max((point for point in points_of(results)
                     if max_ratio(point) == limit),
                    key=lambda point, name=name: ratio(results, point, name))
        yield (f"{name} driver against the kernel's, at its worst: {worst}",
               f"{ratio(results, worst, name):.2f}", f"{limit:.2f}",
               is_met(results, worst, name))


# --- tables -----------------------------------------------------------------

HEADER = ("machine", "I/O", "depth", *fio.DRIVERS,
          *(f"{name}/kernel" for name in vm.DRIVERS), "at most", "spread", "met")
IOPS_HEADER = ("I/O", "depth", *fio.DRIVERS, "spread")


def cells(results, point):
    """The cells of a row of the first table."""
    counts = [results[point, name].instructions for name in fio.DRIVERS]
    all_met = all(is_met(results, point, name) for name in vm.DRIVERS)
    return (point.machine, f"{point.pattern} {point.size}", str(point.depth),
            *(f"{statistics.median(each):,.0f}" for each in counts),
            *(f"{ratio(results, point, name):.2f}" for name in vm.DRIVERS),
            f"{max_ratio(point):.2f}", f"{max(map(spread, counts)):.1%}",
            "yes" if all_met else "NO")


def iops_cells(results, point):
    """The cells of a row of the second table."""
    speeds = [results[point, name].iops for name in fio.DRIVERS]
    return (f"{point.pattern} {point.size}", str(point.depth),
            *(f"{statistics.median(each):,.0f}" for each in speeds),
            f"{max(map(spread, speeds)):.0%}")


def tables(results):
    """(header, rows) of instructions, and of I/Os per second if measured."""
    points = points_of(results)
    yield HEADER, [cells(results, point) for point in points]
    points = [point for point in points if results[point, "kernel"].iops]
    if points:
        yield IOPS_HEADER, [iops_cells(results, point) for point in points]


def columns(rows):
    """Text in columns."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths))
            for row in rows]


def text(results, kernel):
    """All tables for a terminal."""
    heads = (f"{bench_check.versions(kernel)}; instructions per I/O, medians",
             f"I/Os per second, {vm.accelerator(kernel).upper()}, by the host's "
             "clock: they depend on its load")
    for head, (header, rows) in zip(heads, tables(results)):
        yield from [head, "", *columns([header, *rows]), ""]
    for what, measured, target, met in targets(results):
        yield f"{what}: {measured}, at most {target}: {'yes' if met else 'NO'}"


# --- files ------------------------------------------------------------------

COLOURS = {"kernel": "#1f77b4", "C": "#ff6b5e", "Rust": "#7a0c0c"}


def plots(results):
    """The plot as SVG: instructions per I/O by depth."""
    points = points_of(results)
    kinds = dict.fromkeys((point.machine, point.pattern, point.size)
                          for point in points)
    panels = [plot.Panel(
        ", ".join(kind), "depth", {depth: str(depth) for depth in fio.DEPTHS},
        [plot.Line(name, [(point.depth, cost(results, point, name))
                          for point in points
                          if (point.machine, point.pattern, point.size) == kind],
                   colour, "6 4" if name == "Rust" else "",
                   3 if name == "C" else 1.4)
         for name, colour in COLOURS.items()])
        for kind in kinds]
    return plot.svg("NVMe drivers", "instructions per I/O", panels)


def write_csv(results, out):
    """Write the numbers of all rounds."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["machine", "size", "pattern", "depth", "driver", "what",
                     "round", "number"])
    for (point, name), measured in results.items():
        for what, numbers in vars(measured).items():
            for number_of_round, number in enumerate(numbers, 1):
                writer.writerow([point.machine, point.size, point.pattern,
                                 point.depth, name, what, number_of_round,
                                 f"{number:.1f}"])


def read_csv(lines):
    """The results that write_csv() has written."""
    results = {}
    for row in csv.DictReader(lines):
        point = fio.Point(row["size"], row["pattern"], int(row["depth"]),
                          row["machine"])
        measured = results.setdefault((point, row["driver"]), fio.Measured())
        getattr(measured, row["what"]).append(float(row["number"]))
    return results


def write_files(results):
    """Write CSV and plot: their paths outside the tool root."""
    HOME.mkdir(exist_ok=True)
    table, drawing = HOME / "drivers.csv", HOME / "drivers.svg"
    with table.open("w") as out:
        write_csv(results, out)
    drawing.write_text(plots(results))
    return [kernels.host_path(table), kernels.host_path(drawing)]


# --- the page ---------------------------------------------------------------

SECTION = """
Two NVMe drivers
================

``samples/dma-phys/nvme_phys`` and ``samples/rust/rust_nvme_phys`` beside the kernel's
own driver: instructions per I/O, including those of fio and the rest of the kernel.
The three take turns at one controller of QEMU, in {rounds} rounds, on one processor,
without an IOMMU (*direct*) and behind several. Each has one queue of 1023 tags with its
own interrupt and no scheduler; the settings of the three disks are compared in each
round. A driver may choose between PRP entries and SGL descriptors. All I/Os of a batch,
*depth* of them, are submitted with one call of io_uring and waited for with one. No
page of a transfer follows the page before it in memory. The disk stores nothing and
takes 50 microseconds.

Fio does {few} I/Os and then {many}. The difference, divided by {more}, is the cost of
one I/O, without costs that occur once. The count is that of executed instructions, and
a halted processor executes none. Numbers are medians of all rounds. *Spread* is the
largest relative distance of a round of any driver from the median.
"""
IOPS = """
I/Os per second are measured on a machine that does not count instructions, in {rounds}
rounds, by the host's clock. They include the work of QEMU and depend on the load of
the host, see their spread.
"""
TARGETS = """
The targets are for all points of the table:
"""


def rst(results, rst_table):
    """The section of the page. rst_table(header, rows, widths) makes a table."""
    rounds, iops = (max(len(getattr(measured, what))
                        for measured in results.values())
                    for what in ("instructions", "iops"))
    jobs = {name: f"{count:,}" for name, count in fio.JOBS.items()}
    heads = (SECTION.format(rounds=rounds, more=f"{fio.MORE:,}", **jobs),
             IOPS.format(rounds=iops))
    for head, (header, rows) in zip(heads, tables(results)):
        yield head.rstrip()
        yield from rst_table(header, rows, [max(map(len, column))
                                            for column in zip(header, *rows)])
    yield TARGETS
    for what, measured, target, met in targets(results):
        yield f"- {what}: {measured}, at most {target}: {'yes' if met else 'NO'}"


# --- the check --------------------------------------------------------------

def grew(results, baseline, tolerance=RATIO_TOLERANCE):
    """Lines for the ratios that are larger than in the baseline."""
    for point in points_of(baseline):
        for name in vm.DRIVERS:
            if (point, name) not in results:
                yield f"{name} driver, {point}: is no longer measured"
                continue
            new, old = (ratio(each, point, name)
                        for each in (results, baseline))
            if new > old * (1 + tolerance):
                yield (f"{name} driver, {point}: {new:.3f} of the kernel's, "
                       f"was {old:.3f} ({new / old - 1:+.1%})")


def measure_short(kernel, traced=False):
    return fio.run(kernel, SHORT, SHORT_ROUNDS, 0, traced)


def read_baseline(versions):
    """The committed baseline, and the tolerance of ratios with these versions."""
    lines = BASELINE.read_text().splitlines()
    results = read_csv([line for line in lines if not line.startswith("#")])
    return results, (RATIO_TOLERANCE if f"# {versions}" in lines
                     else bench_check.RATIO_TOLERANCE)


# --- the command --------------------------------------------------------------

def print_check(kernel):
    """1 if a ratio grew, else 0."""
    baseline = read_baseline(bench_check.versions(kernel))
    lines = list(grew(measure_short(kernel), *baseline))
    for line in lines:
        print(f"grew: {line}")
    print(f"{len(SHORT) * len(vm.DRIVERS)} ratios of drivers, "
          f"{len(lines)} grew")
    return int(bool(lines))


def print_baseline(kernel):
    print("# SPDX-License-Identifier: GPL-2.0")
    print("# The baseline of ./run bench drivers --check; "
          "./run bench drivers --baseline prints a new one.")
    print(f"# {bench_check.versions(kernel)}")
    write_csv(measure_short(kernel), sys.stdout)
    return 0


def print_memory(memory):
    print("\n".join(["", *bench_memory.text(memory, columns)]))


def parse(words):
    """The options after ./run bench drivers."""
    known = {str(point): point for point in fio.POINTS}
    parser = argparse.ArgumentParser(prog="./run bench drivers")
    action = parser.add_mutually_exclusive_group()
    for name in ("check", "baseline"):
        action.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--points", metavar="NAME,...", default=",".join(known))
    parser.add_argument("--rounds", type=int, default=fio.ROUNDS)
    parser.add_argument("--no-iops", action="store_true")
    options = parser.parse_args(words)
    try:
        options.points = [known[name] for name in options.points.split(",")]
    except KeyError as error:
        parser.error(f"there is no point {error}; one is {fio.POINTS[0]}")
    return options


def measure(kernel):
    """The results of all points."""
    return fio.run(kernel, fio.POINTS, fio.ROUNDS, fio.IOPS_ROUNDS)


def run(kernel, words):
    """Run ./run bench drivers with these options: its exit code."""
    options = parse(words)
    if options.check:
        return print_check(kernel)
    if options.baseline:
        return print_baseline(kernel)
    results = fio.run(kernel, options.points, options.rounds,
                      0 if options.no_iops else fio.IOPS_ROUNDS)
    print("\n".join(text(results, kernel)))
    if options.points == fio.POINTS:
        print_memory(bench_memory.measure(kernel))
        print("\n".join(["", *write_files(results)]))
    return 0

# SPDX-License-Identifier: GPL-2.0
"""What an I/O costs: the kernel's NVMe driver, the C sample and the Rust one.

    ./run bench drivers               tables; CSV and a plot go to the cache
    ./run bench drivers --check       some points again, compared with the baseline
    ./run bench drivers --baseline    these, as a baseline: tools/bench_drivers.csv
    ./run bench drivers --points 4k-randread-32,32k-randwrite-1 --rounds 3
"""

import argparse
import csv
import pathlib
import statistics
import sys

import bench_check
import bench_fio as fio
import kernel as kernels
import plot
import vm

HOME = vm.CACHE / "bench"
BASELINE = pathlib.Path(__file__).with_name("bench_drivers.csv")

# Ratios to the kernel's driver, as they are printed.
MOST = 1.00

# What is looked at again each time, and how far ratios may be above the baseline's
# if they are of the same compilers. They repeat within half of that.
SHORT = [fio.Point("512", "randread", 8), fio.Point("4k", "randwrite", 32),
         fio.Point("32k", "randread", 32)]
SHORT_ROUNDS = 2
SAME = 0.03


# --- numbers ----------------------------------------------------------------

def points_of(found):
    return list(dict.fromkeys(point for point, _ in found))


def cost(found, point, name):
    return statistics.median(found[point, name].instructions)


def ratio(found, point, name):
    """To the kernel's driver."""
    return cost(found, point, name) / cost(found, point, "kernel")


def is_met(found, point, name):
    return round(ratio(found, point, name), 2) <= MOST


def spread(numbers):
    """How far the rounds are from their median, at most: 0.01 is 1%."""
    middle = statistics.median(numbers)
    return max(abs(number / middle - 1) for number in numbers)


def targets(found):
    """(what, measured, at most, met) of each driver, at its worst point."""
    for name in vm.DRIVERS:
        worst = max(points_of(found),
                    key=lambda point, name=name: ratio(found, point, name))
        yield (f"{name} driver against the kernel's, at its worst: {worst}",
               f"{ratio(found, worst, name):.2f}", f"{MOST:.2f}",
               is_met(found, worst, name))


# --- tables -----------------------------------------------------------------

HEADER = ("I/O", "depth", *fio.DRIVERS,
          *(f"{name}/kernel" for name in vm.DRIVERS), "at most", "spread", "met")
IOPS_HEADER = ("I/O", "depth", *fio.DRIVERS, "spread")


def cells(found, point):
    """A row of the table, as text."""
    counts = [found[point, name].instructions for name in fio.DRIVERS]
    met = all(is_met(found, point, name) for name in vm.DRIVERS)
    return (f"{point.pattern} {point.size}", str(point.depth),
            *(f"{statistics.median(each):,.0f}" for each in counts),
            *(f"{ratio(found, point, name):.2f}" for name in vm.DRIVERS),
            f"{MOST:.2f}", f"{max(map(spread, counts)):.1%}",
            "yes" if met else "NO")


def iops_cells(found, point):
    """A row of the other one."""
    speeds = [found[point, name].iops for name in fio.DRIVERS]
    return (f"{point.pattern} {point.size}", str(point.depth),
            *(f"{statistics.median(each):,.0f}" for each in speeds),
            f"{max(map(spread, speeds)):.0%}")


def tables(found):
    """(header, rows) of instructions, and of I/Os per second if they are known."""
    points = points_of(found)
    yield HEADER, [cells(found, point) for point in points]
    if all(measured.iops for measured in found.values()):
        yield IOPS_HEADER, [iops_cells(found, point) for point in points]


def columns(rows):
    """Rows as lines of text."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths))
            for row in rows]


def text(found, kernel):
    """All of it for a terminal."""
    heads = (f"{bench_check.versions(kernel)}; instructions per I/O, medians",
             f"I/Os per second, {vm.accelerator(kernel).upper()}, by the host's "
             "clock: they go with its load")
    for head, (header, rows) in zip(heads, tables(found)):
        yield from [head, "", *columns([header, *rows]), ""]
    for what, measured, most, met in targets(found):
        yield f"{what}: {measured}, at most {most}: {'yes' if met else 'NO'}"


# --- files ------------------------------------------------------------------

COLOURS = {"kernel": "#1f77b4", "C": "#ff6b5e", "Rust": "#7a0c0c"}


def plots(found):
    """The SVG: instructions per I/O by depth."""
    points = points_of(found)
    panels = [plot.Panel(
        f"{pattern}, {size}", "depth", {depth: str(depth) for depth in fio.DEPTHS},
        [plot.Line(name, [(point.depth, cost(found, point, name))
                          for point in points
                          if (point.pattern, point.size) == (pattern, size)],
                   colour, "6 4" if name == "Rust" else "",
                   3 if name == "C" else 1.4)
         for name, colour in COLOURS.items()])
        for pattern in fio.PATTERNS for size in fio.SIZES]
    return plot.svg("NVMe drivers", "instructions per I/O", panels)


def write_csv(found, out):
    """All numbers of all rounds."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["size", "pattern", "depth", "driver", "what", "round",
                     "number"])
    for (point, name), measured in found.items():
        for what, numbers in vars(measured).items():
            for at, number in enumerate(numbers, 1):
                writer.writerow([point.size, point.pattern, point.depth, name,
                                 what, at, f"{number:.1f}"])


def read_csv(lines):
    """Its reverse."""
    found = {}
    for row in csv.DictReader(lines):
        point = fio.Point(row["size"], row["pattern"], int(row["depth"]))
        measured = found.setdefault((point, row["driver"]), fio.Measured())
        getattr(measured, row["what"]).append(float(row["number"]))
    return found


def write_files(found):
    """CSV and plot; what they are called outside."""
    HOME.mkdir(exist_ok=True)
    table, drawing = HOME / "drivers.csv", HOME / "drivers.svg"
    with table.open("w") as out:
        write_csv(found, out)
    drawing.write_text(plots(found))
    return [kernels.host_path(table), kernels.host_path(drawing)]


# --- the page ---------------------------------------------------------------

SECTION = """
Two NVMe drivers
================

``samples/dma-phys/nvme_phys`` and ``samples/rust/rust_nvme_phys`` beside the kernel's
own driver: instructions of an I/O, with all that fio and the kernel do for it. The
three take turns at one controller of QEMU's, in {rounds} rounds, on one processor and
without an IOMMU. Each has one queue of 1023 tags with an interrupt of its own and no
scheduler; that the settings of their disks are the same is looked at in each round.
Where a driver may choose between PRP entries and SGL descriptors, it chooses. All
I/Os of a batch, as many as *depth* says, are submitted with one call to io_uring and
waited for with one. No page of 32 KiB lies behind the one before it. The disk stores
nothing, and takes 50 microseconds.

Fio does {few} I/Os and then {many}; the difference, divided by {more}, is what one
took: what is done once does not count. Counted is what the processor executes, and
while it is halted that is nothing. Numbers are medians of all rounds; *spread* is how
far a round of any driver is from its median, at most.
"""
IOPS = """
I/Os per second are of a machine that does not count, in {rounds} rounds, by the
host's clock. What QEMU and the host do is a part of them, and they go with the
host's load, as their spread shows.
"""
TARGETS = """
Targets are for all points of the table:
"""


def rst(found, rst_table):
    """The section of the page; rst_table makes a table of it."""
    rounds, iops = (max(len(getattr(measured, what))
                        for measured in found.values())
                    for what in ("instructions", "iops"))
    jobs = {name: f"{count:,}" for name, count in fio.JOBS.items()}
    heads = (SECTION.format(rounds=rounds, more=f"{fio.MORE:,}", **jobs),
             IOPS.format(rounds=iops))
    for head, (header, rows) in zip(heads, tables(found)):
        yield head.rstrip()
        yield from rst_table(header, rows, [max(map(len, column))
                                            for column in zip(header, *rows)])
    yield TARGETS
    for what, measured, most, met in targets(found):
        yield f"- {what}: {measured}, at most {most}: {'yes' if met else 'NO'}"


# --- the guard --------------------------------------------------------------

def grew(found, baseline, alike=SAME):
    """What costs more, beside the kernel's driver, than in the baseline."""
    for point in points_of(baseline):
        for name in vm.DRIVERS:
            if (point, name) not in found:
                yield f"{name} driver, {point}: is no longer measured"
                continue
            now, was = (ratio(each, point, name) for each in (found, baseline))
            if now > was * (1 + alike):
                yield (f"{name} driver, {point}: {now:.3f} of the kernel's, "
                       f"was {was:.3f} ({now / was - 1:+.1%})")


def measure_short(kernel, traced=False):
    return fio.run(kernel, SHORT, SHORT_ROUNDS, 0, traced)


def read_baseline(versions):
    """The committed one, and how near to it ratios with these compilers are."""
    lines = BASELINE.read_text().splitlines()
    found = read_csv([line for line in lines if not line.startswith("#")])
    return found, SAME if f"# {versions}" in lines else bench_check.ALIKE


# --- all of it --------------------------------------------------------------

def print_check(kernel):
    """1 where something grew."""
    baseline = read_baseline(bench_check.versions(kernel))
    complaints = list(grew(measure_short(kernel), *baseline))
    for line in complaints:
        print(f"grew: {line}")
    print(f"{len(SHORT) * len(vm.DRIVERS)} ratios of drivers, "
          f"{len(complaints)} grew")
    return int(bool(complaints))


def print_baseline(kernel):
    print("# SPDX-License-Identifier: GPL-2.0")
    print("# What ./run bench drivers --check compares with; "
          "./run bench drivers --baseline writes it.")
    print(f"# {bench_check.versions(kernel)}")
    write_csv(measure_short(kernel), sys.stdout)
    return 0


def parse(words):
    """The words after ./run bench drivers."""
    known = {str(point): point for point in fio.POINTS}
    parser = argparse.ArgumentParser(prog="./run bench drivers")
    form = parser.add_mutually_exclusive_group()
    for name in ("check", "baseline"):
        form.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--points", metavar="NAME,...", default=",".join(known))
    parser.add_argument("--rounds", type=int, default=fio.ROUNDS)
    parser.add_argument("--no-iops", action="store_true")
    options = parser.parse_args(words)
    try:
        options.points = [known[name] for name in options.points.split(",")]
    except KeyError as error:
        parser.error(f"no point is called {error}, one is {fio.POINTS[0]}")
    return options


def measure(kernel):
    """All of the table."""
    return fio.run(kernel, fio.POINTS, fio.ROUNDS, fio.IOPS_ROUNDS)


def run(kernel, words):
    """./run bench drivers with these words: its exit code."""
    options = parse(words)
    if options.check:
        return print_check(kernel)
    if options.baseline:
        return print_baseline(kernel)
    found = fio.run(kernel, options.points, options.rounds,
                    0 if options.no_iops else fio.IOPS_ROUNDS)
    print("\n".join(text(found, kernel)))
    if options.points == fio.POINTS:
        print("\n".join(["", *write_files(found)]))
    return 0

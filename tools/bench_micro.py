# SPDX-License-Identifier: GPL-2.0
"""The microbenchmark: what mapping and unmapping cost, in instructions.

    rows = measure(kernel, FULL)

The modules dma_phys_benchmark and rust_dma_phys_benchmark, one after the other
on the same device, map, sync and unmap the same shapes of memory with the raw
DMA API and with typed maps. The guest's clock counts instructions; what the empty
loop takes is subtracted.
"""

import concurrent.futures
import csv
import dataclasses
import errno
import os
import pathlib
import re
import tempfile

import oracle
import vm
from progress import Step

MODULES = {"C": "dma_phys_benchmark", "Rust": "rust_dma_phys_benchmark"}
METHODS = {
    "C": ("dma_map_phys", "dma_map_page", "dma_map_sgtable", "dma_iova_link",
          "typed_map", "typed_virt", "typed_vec"),
    "Rust": ("sgtable", "typed_map", "typed_vec"),
}
TYPED = ("typed_map", "typed_virt", "typed_vec", "typed_locked")
# What a lock that all processors share would look like, beside those that have none.
LOCKED = "typed_locked"
# The device that maps is edu, where peers are measured an NVMe controller, and
# another lends its CMB.
EDU = "0x1234 0x11e8"
LENDER = vm.DRIVERS["C"]

# Ways in which a method may not be able to do what is asked: more than a bounce
# slot holds, not on this route. Any other is a mistake of ours.
CANNOT = ("EOPNOTSUPP", "E2BIG", "EIO", "ENOMEM", "EAGAIN")

# Instructions that one turn may take, about, and the most loops for that.
BUDGET = 500_000
LOOPS = 8192
# The least of so many turns counts: a tick of the timer now and then is not ours.
TURNS = 5


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is mapped: the orders of the modules, in the modules' words."""

    ranges: int = 1
    size: int = 4096
    layout: str = "contiguous"
    sync: int = 0
    live: int = 0
    cpus: int = 1
    memory: str = "cpu"

    def order(self):
        """The words that differ from what the modules take by themselves."""
        return " ".join(f"{field.name}={getattr(self, field.name)}"
                        for field in dataclasses.fields(self)
                        if getattr(self, field.name) != field.default)

    def __str__(self):
        many = f"{self.ranges} {self.layout} ranges" if self.ranges > 1 \
            else "one range"
        return " ".join(filter(None, [
            f"{many} of {size_text(self.size)}",
            self.memory != "cpu" and "of a peer",
            self.sync and "synced",
            self.live and f"beside {self.live:,} live maps",
            self.cpus > 1 and f"on {self.cpus} CPUs"]))


def size_text(size):
    """512 B, 4 KiB, 1 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    raise ValueError("nothing is that large")


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement: instructions are those of one turn of the loop.

    Where the method could not, error is its errno, and the numbers are 0.
    """

    machine: str
    language: str
    method: str
    shape: Shape
    loops: int
    instructions: float = 0
    empty: float = 0
    cycles: float = 0
    segments: int = 0
    route: str = ""
    error: str = ""

    @property
    def key(self):
        """What it is a measurement of."""
        return self.machine, self.language, self.method, self.shape

    @property
    def typed(self):
        return self.method in TYPED


def label(language, method):
    """A method as a person reads it."""
    return {"typed_map": f"{language}, map", "typed_vec": f"{language}, vec",
            "typed_virt": f"{language}, map of an address",
            LOCKED: f"{language}, map with a lock",
            "sgtable": "Rust SGTable"}.get(method, method)


# --- what is measured ---------------------------------------------------------

ONE = Shape()
SYNCED = Shape(sync=1)
CONTIGUOUS = Shape(ranges=32)
SCATTERED = Shape(ranges=32, layout="scattered")

SIZES = [Shape(size=512 << n) for n in range(12)]
RANGES = [Shape(ranges=1 << n, layout=layout)
          for layout in ("contiguous", "scattered") for n in range(1, 9)]
SYNCS = [dataclasses.replace(shape, sync=1)
         for shape in (ONE, CONTIGUOUS, SCATTERED)]
LIVE = [Shape(live=count) for count in (1000, 10000)]
CPUS = [Shape(cpus=count) for count in (1, 2, 4)]


def of_peer(shapes):
    """The same with the memory of a peer."""
    return [dataclasses.replace(shape, memory="peer") for shape in shapes]


@dataclasses.dataclass(frozen=True)
class Boot:
    """A machine, and the shapes that are measured on it.

    It counts instructions, or with another accel only cycles: it then runs its
    processors at the same time and not in turn, so that a lock shows. With traced=True
    the core's tracepoints are on, which makes it slower.
    """

    machine: str
    shapes: tuple[Shape, ...]
    cpus: int = 1
    accel: str = "icount"
    traced: bool = False
    flavour: str = "base"

    def __str__(self):
        more = ["traced"] if self.traced else []
        return "-".join([self.place, self.accel, *more])

    @property
    def place(self):
        """What its rows have for a machine."""
        more = f"-{self.cpus}-cpus" if self.cpus > 1 else ""
        return self.machine + more

    def run(self, kernel):
        """The rows of all shapes and methods."""
        with tempfile.TemporaryDirectory() as directory, \
                vm.VM(kernel, vm.MACHINES[self.machine], cpus=self.cpus,
                      devices=self._devices(directory), accel=self.accel,
                      append=vm.ONE_TIMER if self.cpus == 1 else "",
                      icount=self.accel == "icount",
                      name=f"bench-{self}") as guest:
            rows = list(self._rows(guest))
        if guest.reports():
            raise vm.Failure("\n".join([f"machine '{guest.name}' complains",
                                        *guest.reports(), guest.where()]))
        return rows

    def _devices(self, directory):
        machine = vm.MACHINES[self.machine]
        if self.machine != BUS:
            return vm.edu(machine)
        return vm.nvme(machine, [
            oracle.Image(pathlib.Path(directory, name), name)
            for name in ("user", "lender")])

    def _rows(self, guest):
        if self.traced:
            guest.sh("echo 1 >$TRACING/events/dma_phys/enable")
        if self.machine == BUS:
            user, lender = guest.sh("controllers").split()
            guest.sh(f"load {LENDER} && bind {LENDER} {lender}")
        else:
            user = guest.sh(f"named {EDU}")
        for language, module in MODULES.items():
            guest.sh(f"load {module} && bind {module} {user}")
            for shape in self.shapes:
                yield from self._measured(guest, language, shape)

    def loops(self, shape):
        """So many that it takes about the budget, a power of two."""
        route = vm.MACHINES[self.machine].cpu
        # Of a range, and of a page. What an IOMMU forgets lazily it forgets once
        # in 256 unmaps: a turn has that as often as it has.
        each, per_page, least = {
            "direct": (150, 0, 16), "bounce": (600, 6000, 4),
            "iommu": (2000, 30, 256)}[route]
        pages = max(shape.size, 4096) // 4096
        cost = shape.ranges * (each + pages * per_page)
        loops = min(max(1 << (BUDGET // cost).bit_length(), least), LOOPS)
        # Processors do not begin in the same moment.
        return loops * 16 if self.cpus > 1 else loops

    def _measured(self, guest, language, shape):
        """The rows of one shape and language."""
        loops = self.loops(shape)
        names = METHODS[language]
        if language == "C" and self.cpus > 1:
            names += (LOCKED,)
        orders = [f"{name} {shape.order()} loops={loops}"
                  for name in ("empty", *names)]
        lines = guest.sh(f"measure {MODULES[language]} {TURNS} " + " ".join(
            f"'{order}'" for order in orders)).splitlines()
        if len(lines) != TURNS * len(orders):
            raise vm.Refusal(f"{orders} ended with {lines}")
        empty, *found = (least(orders[at], lines[at * TURNS:][:TURNS])
                         for at in range(len(orders)))
        for name, said in zip(names, found):
            row = Row(self.place, language, name, shape, loops)
            yield self._row(row, said, empty)

    def _row(self, row, said, empty):
        for error in (said, empty):
            if isinstance(error, str):
                return dataclasses.replace(row, error=error)
        turns = row.loops * row.shape.cpus
        icount = self.accel == "icount"
        return dataclasses.replace(
            row, segments=int(said["segments"]), route=said["route"],
            instructions=(int(said["ns"]) - int(empty["ns"])) / turns * icount,
            empty=int(empty["ns"]) / turns * icount,
            cycles=(int(said["cycles"]) - int(empty["cycles"])) / turns)

    def with_kvm(self):
        """The same, in cycles."""
        return dataclasses.replace(self, accel="kvm")


def in_cycles(rows):
    """Rows whose counts are their cycles; Rust tells none."""
    return [dataclasses.replace(row, instructions=row.cycles)
            for row in rows if row.cycles]


def least(order, lines):
    """What the quickest turn said, or the errno of them all."""
    name = errno_named(lines[0])
    if name in CANNOT:
        return name
    if name in errno.errorcode.values():
        raise vm.Refusal(f"'{order}' ended with {lines[0]}")
    return min(map(parse, lines), key=lambda said: int(said["ns"]))


def parse(line):
    """{key: value} of a line of them."""
    found = dict(re.findall(r"(\w+)=(\S+)", line))
    missing = {"ns", "cycles", "segments", "route"} - set(found)
    if missing:
        raise vm.Refusal(f"no {', '.join(sorted(missing))} in '{line}'")
    return found


def errno_named(text):
    """The errno of a message that ends as strerror() says it."""
    for number, name in errno.errorcode.items():
        if text.endswith(os.strerror(number)):
            return {"ENOTSUP": "EOPNOTSUPP"}.get(name, name)
    return text


MACHINES = ("direct", "bounce", "intel-lazy", "intel-strict",
            "intel-passthrough", "amd", "virtio-iommu")
BUS = "p2p-bus"

FULL = [Boot(machine, (*SIZES, *RANGES, *SYNCS, *LIVE))
        for machine in MACHINES]
FULL += [Boot(BUS, (ONE, *of_peer([*SIZES, *RANGES]))),
         Boot("direct", tuple(CPUS), cpus=4, accel="tcg")]

# Those that every test run measures again.
SHORT = [Boot(machine, (ONE, SYNCED, CONTIGUOUS, SCATTERED, LIVE[0]))
         for machine in ("direct", "bounce", "intel-lazy")]
# The core with its tracepoints on: slower, and otherwise the same.
SLOWED = dataclasses.replace(SHORT[0], traced=True)


def measure(kernel, boots, what="counting instructions"):
    """The rows of all boots, in their order."""
    rows = {}
    with Step(what) as step, \
            concurrent.futures.ThreadPoolExecutor(vm.AT_ONCE) as pool:
        futures = {pool.submit(boot.run, kernel): boot for boot in boots}
        try:
            for future in concurrent.futures.as_completed(futures):
                rows[futures[future]] = future.result()
                step.now(f"{len(rows)} of {len(boots)} machines done")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            vm.kill_all()
            raise
    return [row for boot in boots for row in rows[boot]]


# --- rows as a file -----------------------------------------------------------

SHAPE = [field.name for field in dataclasses.fields(Shape)]
REST = [field.name for field in dataclasses.fields(Row)
        if field.name != "shape"]
COLUMNS = [*REST[:3], *SHAPE, *REST[3:]]


def write_csv(rows, out):
    """One line each, with the names of the columns above."""
    table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        cells = {name: getattr(row, name) for name in REST}
        cells |= dataclasses.asdict(row.shape)
        for name in ("instructions", "empty", "cycles"):
            cells[name] = f"{cells[name]:.2f}"
        table.writerow(cells)


def read_csv(lines):
    """The rows of such a file."""
    def typed(cls, cells):
        return {field.name: field.type(cells[field.name])
                for field in dataclasses.fields(cls) if field.name in cells}
    for cells in csv.DictReader(lines):
        shape = Shape(**typed(Shape, cells))
        del cells["layout"]
        yield Row(shape=shape, **{name: value for name, value
                                  in typed(Row, cells).items()})

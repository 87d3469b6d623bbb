# SPDX-License-Identifier: GPL-2.0
"""The microbenchmark: costs of mapping and unmapping, in instructions.

    rows = measure(kernel, FULL)

The modules dma_phys_benchmark and rust_dma_phys_benchmark, one after the other on the
same device, map, sync and unmap the same shapes of memory with the raw DMA API and
with typed maps. The guest's clock counts instructions. The cost of the empty loop is
subtracted.
"""

import concurrent.futures
import csv
import dataclasses
import errno
import os
import pathlib
import re
import tempfile

from harness import oracle, vm
from harness.progress import Step

MODULES = {"C": "dma_phys_benchmark", "Rust": "rust_dma_phys_benchmark"}
METHODS = {
    "C": ("dma_map_phys", "dma_map_page", "dma_map_sgtable", "dma_iova_link",
          "iommu_map_sg", "iommu_map_sg_vecs",
          "typed_map", "typed_virt", "typed_kept", "typed_sg", "typed_sg_iter"),
    "Rust": ("sgtable", "typed_map", "typed_page", "typed_kept",
             "typed_sg", "typed_svec"),
}
# What the kernel does not have without this project.
OURS = ("iommu_map_sg_vecs", "typed_map", "typed_virt", "typed_page", "typed_kept",
        "typed_sg", "typed_sg_iter", "typed_svec", "typed_locked")
# A typed map with a lock that all processors share, for comparison.
LOCKED = "typed_locked"
# The device that maps is edu. On the machine with peers it is an NVMe controller, and
# another one shares its CMB.
EDU = "0x1234 0x11e8"
PEER_DRIVER = vm.DRIVERS["C"]

# Errors of a method that does not support a shape on a route, for example one that is
# larger than a bounce buffer. Others are errors of the test.
UNSUPPORTED = ("EOPNOTSUPP", "E2BIG", "EIO", "ENOMEM", "EAGAIN")

# About the number of instructions of a run, and the maximum number of loops for it.
BUDGET = 500_000
MAX_LOOPS = 8192
# The fastest of so many runs counts, since timer ticks slow some of them down.
RUNS = 5


# In the text of a shape.
MEMORIES = {"cpu": "", "mmio": "of MMIO", "peer": "of a peer"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """The memory that is mapped, with the keywords of the modules."""

    ranges: int = 1
    size: int = 4096
    layout: str = "contiguous"
    sync: int = 0
    live: int = 0
    cpus: int = 1
    memory: str = "cpu"

    def options(self):
        """The keywords for the modules that differ from their defaults."""
        return " ".join(f"{field.name}={getattr(self, field.name)}"
                        for field in dataclasses.fields(self)
                        if getattr(self, field.name) != field.default)

    def __str__(self):
        many = f"{self.ranges} {self.layout} ranges" if self.ranges > 1 \
            else "one range"
        return " ".join(filter(None, [
            f"{many} of {size_text(self.size)}",
            MEMORIES[self.memory],
            self.sync and "synced",
            self.live and f"beside {self.live:,} live maps",
            self.cpus > 1 and f"on {self.cpus} CPUs"]))


def size_text(size):
    """512 B, 4 KiB, 1 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size} {unit}"
        size //= 1024
    raise ValueError(f"{size} GiB are too large")


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement: instructions per iteration of the loop.

    If the method does not support the shape, error is its errno and the numbers are
    0.
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
        """Machine, language, method and shape."""
        return self.machine, self.language, self.method, self.shape

    @property
    def ours(self):
        return self.method in OURS


def label(language, method):
    """A method, for tables and plots."""
    return {"typed_map": f"{language}, map", "typed_sg": f"{language}, sg",
            "typed_sg_iter": f"{language}, sg by iterator",
            "typed_virt": f"{language}, map of an address",
            "typed_page": f"{language}, map of a page",
            "typed_kept": f"{language}, submit and complete what is kept",
            "typed_svec": f"{language}, sg, not prepared",
            "iommu_map_sg_vecs": "iommu_map_sg with one walk",
            LOCKED: f"{language}, map with a lock",
            "sgtable": "Rust SGTable"}.get(method, method)


# --- what is measured ---------------------------------------------------------

ONE = Shape()
SYNCED = Shape(sync=1)
CONTIGUOUS = Shape(ranges=32)
SCATTERED = Shape(ranges=32, layout="scattered")

SCATTERED_MANY = Shape(ranges=256, layout="scattered")

SIZES = [Shape(size=512 << n) for n in range(12)]
RANGES = [Shape(ranges=1 << n, layout=layout)
          for layout in ("contiguous", "scattered") for n in range(1, 9)]
SYNCS = [dataclasses.replace(shape, sync=1)
         for shape in (ONE, CONTIGUOUS, SCATTERED)]
LIVE = [Shape(live=count) for count in (1000, 10000)]
CPUS = [Shape(cpus=count) for count in (1, 2, 4)]


def of_memory(memory, shapes):
    """The same shapes of MMIO, or in the memory of a peer."""
    return [dataclasses.replace(shape, memory=memory) for shape in shapes]


MMIO, MMIO_MANY = of_memory("mmio", [ONE, SCATTERED])


@dataclasses.dataclass(frozen=True)
class Boot:
    """A machine, and the shapes that are measured on it.

    With the accelerator "icount" it counts instructions. With others it counts only
    cycles, but runs its processors in parallel, so that the cost of a lock shows. With
    traced=True the tracepoints of the core are enabled, which makes it slower.
    """

    machine: str
    shapes: tuple[Shape, ...]
    cpus: int = 1
    accel: str = "icount"
    traced: bool = False
    flavour: str = "base"

    def __str__(self):
        more = ["traced"] if self.traced else []
        return "-".join([self.machine_name, self.accel, *more])

    @property
    def machine_name(self):
        """The machine in the rows."""
        more = f"-{self.cpus}-cpus" if self.cpus > 1 else ""
        return self.machine + more

    def run(self, kernel):
        """Measure all shapes and methods: the rows."""
        with tempfile.TemporaryDirectory() as directory, \
                vm.VM(kernel, vm.MACHINES[self.machine], cpus=self.cpus,
                      devices=self._devices(directory), accel=self.accel,
                      append=vm.NO_LAPIC_TIMER if self.cpus == 1 else "",
                      icount=self.accel == "icount",
                      name=f"bench-{self}") as guest:
            rows = list(self._rows(guest))
        if guest.reports():
            raise vm.MachineError("\n".join([
                f"the kernel of machine '{guest.name}' complains",
                *guest.reports(), guest.full_log()]))
        return rows

    def _devices(self, directory):
        machine = vm.MACHINES[self.machine]
        if self.machine != BUS:
            return vm.edu(machine)
        return vm.nvme(machine, [
            oracle.Image(pathlib.Path(directory, name), name)
            for name in ("mapper", "peer")])

    def _rows(self, guest):
        if self.traced:
            guest.sh("echo 1 >$TRACING/events/dma_phys/enable")
        if self.machine == BUS:
            device, peer = guest.sh("controllers").split()
            guest.sh(f"load {PEER_DRIVER} && bind {PEER_DRIVER} {peer}")
        else:
            device = guest.sh(f"find_pci {EDU}")
        for language, module in MODULES.items():
            guest.sh(f"load {module} && bind {module} {device}")
            for shape in self.shapes:
                yield from self._measure(guest, language, shape)

    def loops(self, shape):
        """The number of loops for about the budget, a power of two."""
        route = vm.MACHINES[self.machine].cpu_route
        # Instructions for a range and for a page, and the minimum. A lazy IOMMU
        # flushes once in 256 unmaps: each run must include that.
        per_range, per_page, min_loops = {
            "direct": (150, 0, 16), "bounce": (600, 6000, 4),
            "iommu": (2000, 30, 256)}[route]
        pages = max(shape.size, 4096) // 4096
        cost = shape.ranges * (per_range + pages * per_page)
        loops = min(max(1 << (BUDGET // cost).bit_length(), min_loops),
                    MAX_LOOPS)
        # Processors do not start at the same time.
        return loops * 16 if self.cpus > 1 else loops

    def _measure(self, guest, language, shape):
        """The rows of a shape in a language."""
        loops = self.loops(shape)
        names = METHODS[language]
        if language == "C" and self.cpus > 1:
            names += (LOCKED,)
        commands = [f"{name} {shape.options()} loops={loops}"
                    for name in ("empty", *names)]
        lines = guest.sh(f"measure {MODULES[language]} {RUNS} " + " ".join(
            f"'{command}'" for command in commands)).splitlines()
        if len(lines) != RUNS * len(commands):
            raise vm.CommandError(f"{commands} printed {lines}")
        empty, *results = (
            fastest(command, lines[number * RUNS:][:RUNS])
            for number, command in enumerate(commands))
        for name, result in zip(names, results):
            row = Row(self.machine_name, language, name, shape, loops)
            yield self._row(row, result, empty)

    def _row(self, row, result, empty):
        for error in (result, empty):
            if isinstance(error, str):
                return dataclasses.replace(row, error=error)
        iterations = row.loops * row.shape.cpus
        icount = self.accel == "icount"
        return dataclasses.replace(
            row, segments=int(result["segments"]), route=result["route"],
            instructions=(int(result["ns"]) - int(empty["ns"])) / iterations
            * icount,
            empty=int(empty["ns"]) / iterations * icount,
            cycles=(int(result["cycles"]) - int(empty["cycles"])) / iterations)

    def with_kvm(self):
        """The same boot with KVM, for cycles."""
        return dataclasses.replace(self, accel="kvm")


def in_cycles(rows):
    """Rows with cycles as their counts. The Rust module measures none."""
    return [dataclasses.replace(row, instructions=row.cycles)
            for row in rows if row.cycles]


def fastest(command, lines):
    """The result of the fastest run, or the errno of all runs."""
    name = errno_name(lines[0])
    if name in UNSUPPORTED:
        return name
    if name in errno.errorcode.values():
        raise vm.CommandError(f"'{command}' failed: {lines[0]}")
    return min(map(parse, lines), key=lambda result: int(result["ns"]))


def parse(line):
    """A line of a module as {key: value}."""
    result = dict(re.findall(r"(\w+)=(\S+)", line))
    missing = {"ns", "cycles", "segments", "route"} - set(result)
    if missing:
        raise vm.CommandError(f"no {', '.join(sorted(missing))} in '{line}'")
    return result


def errno_name(text):
    """The name of the errno whose message is the end of a text, else the text."""
    for number, name in errno.errorcode.items():
        if text.endswith(os.strerror(number)):
            return {"ENOTSUP": "EOPNOTSUPP"}.get(name, name)
    return text


MACHINES = ("direct", "bounce", "intel-lazy", "intel-strict",
            "intel-passthrough", "amd", "virtio-iommu")
BUS = "p2p-bus"

FULL = [Boot(machine, (*SIZES, *RANGES, *SYNCS, *LIVE, MMIO, MMIO_MANY))
        for machine in MACHINES]
FULL += [Boot(BUS, (ONE, *of_memory("peer", [*SIZES, *RANGES]))),
         Boot("direct", tuple(CPUS), cpus=4, accel="tcg")]

ARM64 = [Boot(machine, (ONE, SYNCED, CONTIGUOUS, SCATTERED, MMIO), flavour="arm64")
         for machine in ("arm64-direct", "arm64-direct-nc", "arm64-lazy",
                         "arm64-lazy-nc", "arm64-strict-nc")]

# The boots of --check and of each test run.
SHORT = [Boot(machine, (ONE, SYNCED, CONTIGUOUS, SCATTERED, LIVE[0]))
         for machine in ("direct", "bounce", "intel-lazy")]
# The core with its tracepoints enabled, which makes it slower.
SLOWED = dataclasses.replace(SHORT[0], traced=True)


def measure(kernel, boots, what="counting instructions"):
    """The rows of all boots, in the order of the boots."""
    rows = {}
    with Step(what) as step, \
            concurrent.futures.ThreadPoolExecutor(
                vm.PARALLEL_MACHINES) as pool:
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


# --- CSV ------------------------------------------------------------------------

SHAPE_COLUMNS = [field.name for field in dataclasses.fields(Shape)]
OTHER_COLUMNS = [field.name for field in dataclasses.fields(Row)
                 if field.name != "shape"]
COLUMNS = [*OTHER_COLUMNS[:3], *SHAPE_COLUMNS, *OTHER_COLUMNS[3:]]


def write_csv(rows, out):
    """Write rows, with the names of the columns first."""
    table = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        cells = {name: getattr(row, name) for name in OTHER_COLUMNS}
        cells |= dataclasses.asdict(row.shape)
        for name in ("instructions", "empty", "cycles"):
            cells[name] = f"{cells[name]:.2f}"
        table.writerow(cells)


def read_csv(lines):
    """The rows that write_csv() has written."""
    def typed(cls, cells):
        return {field.name: field.type(cells[field.name])
                for field in dataclasses.fields(cls) if field.name in cells}
    for cells in csv.DictReader(lines):
        shape = Shape(**typed(Shape, cells))
        del cells["layout"]
        yield Row(shape=shape, **{name: value for name, value
                                  in typed(Row, cells).items()})

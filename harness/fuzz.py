# SPDX-License-Identifier: GPL-2.0
"""Random operations on each route, on the debug kernel.

    ./run fuzz [--ops N] [--seed S] [--route NAME]

The fuzzer is in the kernel (kernel/dma/phys/tests/fuzz.c). This boots its machines
and runs it in chunks. The first chunk of a route has the given seed, the next ones
the seeds after it. An error is printed with the command that reproduces it.
"""

import collections
import concurrent.futures
import dataclasses
import re
import sys
import threading
import time

from harness import kernel as kernels
from harness import vm
from harness.progress import Step, say

ROUTES = ["direct", "bounce", "bounce-natural", "intel-lazy", "intel-strict",
          "amd", "virtio-iommu", "p2p-bus", "p2p-bridge", "p2p-iommu"]

# Operations between two checks of the kernel log, and seconds for them.
CHUNK = 25_000
CHUNK_TIMEOUT = 900

# 16 MiB of bounce buffers: fast to count and to exhaust.
SWIOTLB = "swiotlb=8192"

RUN = "$DEBUG/dma_phys_fuzz/run"


@dataclasses.dataclass
class Result:
    """The result of one run, or the sum of several."""

    ops: int = 0
    # {(operation, name of its errno or "0"): count}, {route: maps}
    tally: collections.Counter = dataclasses.field(
        default_factory=collections.Counter)
    routes: collections.Counter = dataclasses.field(
        default_factory=collections.Counter)
    error: str = ""

    @classmethod
    def parse(cls, text):
        """The result that the kernel printed."""
        result = cls()
        for line in text.splitlines():
            if match := re.fullmatch(r"ops (\d+)", line):
                result.ops = int(match[1])
            elif match := re.fullmatch(r"route (\w+) (\d+)", line):
                result.routes[match[1]] += int(match[2])
            elif match := re.fullmatch(r"(\w+) (\w+) (\d+)", line):
                result.tally[match[1], match[2]] += int(match[3])
            elif line.startswith("diverged at "):
                result.error = line
            elif line != "ok":
                raise ValueError(f"the fuzzer prints {line!r}")
        return result

    def add(self, other):
        self.ops += other.ops
        self.tally += other.tally
        self.routes += other.routes
        self.error = self.error or other.error


def devices(machine):
    """QEMU arguments: edu that reaches all addresses, and a BAR.

    The fuzzer changes the DMA mask that the kernel knows, not the device.
    """
    return vm.edu(dataclasses.replace(machine, edu_bits=64))


def boot(kernel, route, name="fuzz"):
    """The machine of a route, not started yet."""
    machine = vm.MACHINES[route]
    return vm.VM(kernel, machine, devices=devices(machine), append=SWIOTLB,
                 qmp=True, name=f"{name}-{route}")


def run(guest, seed, ops, lie=""):
    """One run in a machine. A lie makes a part of the model wrong, for tests."""
    return Result.parse(guest.sh(f"echo {seed} {ops} {lie} >{RUN} && cat {RUN}",
                                 timeout=CHUNK_TIMEOUT))


# --- many runs ----------------------------------------------------------------

class Route(Result):
    """All runs of one route."""

    def __init__(self, name, seed, ops):
        super().__init__()
        self.name = name
        self.seed = seed
        self.wanted_ops = ops
        self.seconds = 0.0
        self.complaints = []

    def run(self, kernel, stop):
        """Run all chunks in one machine, or until the event stop is set.

        Set it if there is an error.
        """
        try:
            with boot(kernel, self.name) as guest:
                self._run_chunks(guest, stop)
                if not self.complaints:
                    self.complaints += guest.final_check() + guest.reports()
        except (vm.MachineError, vm.CommandError) as error:
            self._complain(self.seed, CHUNK, [str(error)])
        if self.complaints:
            stop.set()

    def _run_chunks(self, guest, stop):
        start = time.monotonic()
        while self.ops < self.wanted_ops and not stop.is_set():
            ops = min(CHUNK, self.wanted_ops - self.ops)
            result = run(guest, self.seed, ops)
            self.add(result)
            self.seconds = time.monotonic() - start
            lines = [result.error] if result.error else []
            lines += guest.reports()
            if lines:
                self._complain(self.seed, ops, [*lines, guest.full_log()])
                return
            self.seed += 1

    def _complain(self, seed, ops, lines):
        self.complaints += [*lines, "to reproduce: ./run fuzz --route "
                            f"{self.name} --seed {seed} --ops {ops}"]


def run_all(kernel, routes):
    """Run all routes, a few at the same time, until the end or an error."""
    stop = threading.Event()
    total = sum(route.wanted_ops for route in routes)
    with Step("fuzzing") as step, \
            concurrent.futures.ThreadPoolExecutor(
                vm.PARALLEL_MACHINES) as pool:
        futures = [pool.submit(route.run, kernel, stop) for route in routes]
        start = time.monotonic()
        try:
            while not all(future.done() for future in futures):
                done = sum(route.ops for route in routes)
                rate = done / (time.monotonic() - start + 1)
                step.now(f"{done:,} of {total:,} operations, {rate:,.0f} a "
                         "second")
                time.sleep(0.2)
            for future in futures:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            vm.kill_all()
            raise


def columns(lines):
    """Text in columns: the first is left-aligned, the others right-aligned."""
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    return ["  ".join(cell.rjust(width) if number else cell.ljust(width)
                      for number, (cell, width)
                      in enumerate(zip(cells, widths))).rstrip()
            for cells in lines]


def tables(routes):
    """A table of routes, and one of operations and their results."""
    rows = [("route", "operations", "seconds", "a second", "maps")]
    total = Result()
    for route in routes:
        maps = ", ".join(f"{count:,} {name}"
                         for name, count in route.routes.items())
        rows.append((route.name, f"{route.ops:,}", f"{route.seconds:.0f}",
                     f"{route.ops / max(route.seconds, 1):,.0f}", maps))
        total.add(route)
    yield from columns(rows)
    yield ""
    names = sorted({name for _, name in total.tally}, key=lambda name:
                   (name != "0", name))
    ops = dict.fromkeys(op for op, _ in total.tally)
    rows = [("operation", *("ok" if name == "0" else name
                            for name in names))]
    for op in ops:
        counts = [total.tally[op, name] for name in names]
        rows.append((op, *(f"{count:,}" if count else "" for count in counts)))
    yield from columns(rows)


# --- the command line ------------------------------------------------------------

class UsageError(Exception):
    """The command line is wrong; the text says how."""


def parse_options(words):
    """{"ops": ..., "seed": ..., "route": ...}"""
    options = {"ops": 1_000_000, "seed": None, "route": None}
    words = list(words)
    while words:
        name = words.pop(0)
        if name not in ("--ops", "--seed", "--route"):
            raise UsageError(f"fuzz has no option '{name}', "
                             "only --ops, --seed and --route")
        if not words:
            raise UsageError(f"{name} needs a value")
        value = words.pop(0)
        if name == "--route":
            if value not in ROUTES:
                raise UsageError(f"there is no route '{value}', only "
                                 + ", ".join(ROUTES))
        elif not re.fullmatch(r"[0-9]{1,18}", value):
            raise UsageError(f"{name} needs a number, not '{value}'")
        else:
            value = int(value)
        options[name[2:]] = value
    if not options["ops"]:
        raise UsageError("--ops must be at least 1")
    if options["seed"] is None:
        options["seed"] = time.time_ns() // 1_000_000
    return options


def main(*words):
    kernels.exit_on_signals()
    try:
        options = parse_options(words)
    except UsageError as error:
        say(f"run: {error}")
        return 2
    names = [options["route"]] if options["route"] else ROUTES
    ops = -(-options["ops"] // len(names))
    routes = [Route(name, options["seed"], ops) for name in names]
    try:
        run_all(vm.kernel("debug"), routes)
    except kernels.BuildError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(tables(routes)))
    print(f"\nseed {options['seed']}")
    complaints = [f"{route.name}: {line}" for route in routes
                  for line in route.complaints]
    if complaints:
        say("\n".join(["", "errors:", *complaints]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Random operations on every route, on the kernel that reports.

    fuzz.py [--ops N] [--seed S] [--route NAME]

The fuzzer is in the kernel (kernel/dma/phys/fuzz.c), this boots its machines and
gives it work in chunks. The first chunk of a route has the seed itself, each
further one the next number. What is wrong is printed with the command that
shows it again.
"""

import collections
import concurrent.futures
import dataclasses
import re
import sys
import threading
import time

import kernel as kernels
import vm
from progress import Step, say

ROUTES = ["direct", "bounce", "bounce-natural", "intel-lazy", "intel-strict",
          "amd", "virtio-iommu", "p2p-bus", "p2p-bridge", "p2p-iommu"]

# Operations between two looks at the kernel's log, and seconds for them.
CHUNK = 25_000
PATIENCE = 900

# 16 MiB of bounce slots: fewer to count, and to use up.
SLOTS = "swiotlb=8192"

RUN = "$DEBUG/dma_phys_fuzz/run"


@dataclasses.dataclass
class Result:
    """What one run, or several together, came to."""

    ops: int = 0
    # {(operation, errno's name): how often}, {route: maps}
    tally: collections.Counter = dataclasses.field(
        default_factory=collections.Counter)
    routes: collections.Counter = dataclasses.field(
        default_factory=collections.Counter)
    wrong: str = ""

    @classmethod
    def read(cls, text):
        """From what the kernel says."""
        found = cls()
        for line in text.splitlines():
            if match := re.fullmatch(r"ops (\d+)", line):
                found.ops = int(match[1])
            elif match := re.fullmatch(r"route (\w+) (\d+)", line):
                found.routes[match[1]] += int(match[2])
            elif match := re.fullmatch(r"(\w+) (\w+) (\d+)", line):
                found.tally[match[1], match[2]] += int(match[3])
            elif line.startswith("diverged at "):
                found.wrong = line
            elif line != "ok":
                raise ValueError(f"the fuzzer says {line!r}")
        return found

    def add(self, other):
        self.ops += other.ops
        self.tally += other.tally
        self.routes += other.routes
        self.wrong = self.wrong or other.wrong


def devices(machine):
    """QEMU arguments: edu that reaches everything, and a BAR to lend.

    How far the device really reaches is not the subject: the fuzzer sets how
    far the kernel thinks that it does.
    """
    return vm.edu(dataclasses.replace(machine, edu_bits=64))


def boot(kernel, route, name="fuzz"):
    """The machine of a route, not yet started."""
    machine = vm.MACHINES[route]
    return vm.VM(kernel, machine, devices=devices(machine), append=SLOTS,
                 name=f"{name}-{route}")


def run(guest, seed, ops, lie=""):
    """One run in a machine."""
    return Result.read(guest.sh(f"echo {seed} {ops} {lie} >{RUN} && cat {RUN}",
                                timeout=PATIENCE))


# --- many runs ----------------------------------------------------------------

class Route(Result):
    """One route's share of the work."""

    def __init__(self, name, seed, ops):
        super().__init__()
        self.name = name
        self.seed = seed
        self.wanted = ops
        self.seconds = 0.0
        self.complaints = []

    def work(self, kernel, stop):
        """All of it in one machine, or until somebody found something."""
        try:
            with boot(kernel, self.name) as guest:
                self._work(guest, stop)
                if not self.complaints:
                    self.complaints += guest.last_look() + guest.reports()
        except (vm.Failure, vm.Refusal) as failure:
            self._blame(self.seed, CHUNK, [str(failure)])
        if self.complaints:
            stop.set()

    def _work(self, guest, stop):
        began = time.monotonic()
        while self.ops < self.wanted and not stop.is_set():
            ops = min(CHUNK, self.wanted - self.ops)
            found = run(guest, self.seed, ops)
            self.add(found)
            self.seconds = time.monotonic() - began
            lines = [found.wrong] if found.wrong else []
            lines += guest.reports()
            if lines:
                self._blame(self.seed, ops, [*lines, guest.where()])
                return
            self.seed += 1

    def _blame(self, seed, ops, lines):
        self.complaints += [*lines, "to see it again: ./run fuzz --route "
                            f"{self.name} --seed {seed} --ops {ops}"]


def work(kernel, routes):
    """All routes, some at once, until all is done or something is wrong."""
    stop = threading.Event()
    total = sum(route.wanted for route in routes)
    with Step("fuzzing") as step, \
            concurrent.futures.ThreadPoolExecutor(vm.AT_ONCE) as pool:
        futures = [pool.submit(route.work, kernel, stop) for route in routes]
        began = time.monotonic()
        try:
            while not all(future.done() for future in futures):
                done = sum(route.ops for route in routes)
                rate = done / (time.monotonic() - began + 1)
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
    """Cells as text: the first column to the left, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    return ["  ".join(cell.rjust(width) if at else cell.ljust(width)
                      for at, (cell, width) in enumerate(zip(cells, widths)))
            .rstrip() for cells in lines]


def tables(routes):
    """Route by route; then what was done, and how it ended."""
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
    rows = [("operation", *("done" if name == "0" else name
                            for name in names))]
    for op in ops:
        counts = [total.tally[op, name] for name in names]
        rows.append((op, *(f"{count:,}" if count else "" for count in counts)))
    yield from columns(rows)


# --- the command line ------------------------------------------------------------

class Usage(Exception):
    """What is wrong with the command line."""


def options(words):
    """{"ops": ..., "seed": ..., "route": ...}"""
    found = {"ops": 1_000_000, "seed": None, "route": None}
    words = list(words)
    while words:
        name = words.pop(0)
        if name not in ("--ops", "--seed", "--route"):
            raise Usage(f"fuzz has no option '{name}'")
        if not words:
            raise Usage(f"{name} wants a value")
        value = words.pop(0)
        if name == "--route":
            if value not in ROUTES:
                raise Usage(f"no route is called '{value}', only "
                            + ", ".join(ROUTES))
        elif not re.fullmatch(r"[0-9]{1,18}", value):
            raise Usage(f"{name} wants a number, not '{value}'")
        else:
            value = int(value)
        found[name[2:]] = value
    if not found["ops"]:
        raise Usage("--ops wants at least 1")
    if found["seed"] is None:
        found["seed"] = time.time_ns() // 1_000_000
    return found


def main(*words):
    kernels.stop_in_order()
    try:
        wanted = options(words)
    except Usage as usage:
        say(f"run: {usage}")
        return 2
    names = [wanted["route"]] if wanted["route"] else ROUTES
    share = -(-wanted["ops"] // len(names))
    routes = [Route(name, wanted["seed"], share) for name in names]
    try:
        work(vm.kernel("debug"), routes)
    except kernels.BuildError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(tables(routes)))
    print(f"\nseed {wanted['seed']}")
    wrong = [f"{route.name}: {line}" for route in routes
             for line in route.complaints]
    if wrong:
        say("\n".join(["", "not as it must be:", *wrong]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

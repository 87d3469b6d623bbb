#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Instructions per I/O: the kernel's NVMe driver, the C sample and the Rust one.

One machine has one controller, without an IOMMU and with a disk that stores
nothing. The drivers take turns at it, in several rounds. fio does a few I/Os and
then many; what the many took more, divided by how many more they were, is what one
took, with all that the kernel and fio do for it.

Counted is what the processor executes, by QEMU, and while it is halted it executes
nothing. So waiting is not counted, and the host's speed does not matter; but
whether a completion finds the processor halted already is a race with the host, and
so counts spread.
"""

import argparse
import dataclasses
import statistics
import sys
import time

import kernel as kernels
import vm
from progress import Step, say

MACHINE = vm.MACHINES["direct"]
DRIVERS = {"kernel": "nvme"} | vm.DRIVERS

SIZES = {"512": 512, "4k": 4 << 10, "32k": 32 << 10}
DEPTHS = [1, 8, 32, 128]
PATTERNS = ["randread", "randwrite"]
ROUNDS = 5
# The I/Os of a short job, and those that the long one has more; both are whole
# batches of every depth.
FEW = 256
MORE = 2048
JOBS = {"few": FEW, "many": FEW + MORE}

# A disk that stores nothing. It takes its time, so that the processor is halted when
# the first completion of a batch comes, whatever else the host does.
NULL = ["-blockdev", "null-co,node-name=null,size=1073741824,read-zeroes=on,"
                     "latency-ns=50000"]
# All I/Os of a batch are submitted with one call, and waited for with one.
GLOBAL = """\
[global]
filename=${DISK}
direct=1
ioengine=io_uring
thread
norandommap
randseed=4711
gtod_reduce=1
disk_util=0
exec_prerun=sh /tmp/mark
exec_postrun=sh /tmp/mark
stonewall"""


@dataclasses.dataclass(frozen=True)
class Point:
    """One line of the table."""

    size: str
    pattern: str
    depth: int

    def __str__(self):
        return f"{self.size}-{self.pattern}-{self.depth}"

    @property
    def memory(self):
        """The file in the guest's memory that all its I/Os use."""
        return f"/tmp/memory.{self}"

    @property
    def bytes(self):
        return SIZES[self.size]

    def job(self, name, count):
        """A section of fio's job file."""
        return [f"[{self}-{name}]", f"rw={self.pattern}", f"bs={self.bytes}",
                f"iodepth={self.depth}", f"iodepth_batch_submit={self.depth}",
                f"iodepth_batch_complete_min={self.depth}",
                f"number_ios={count}",
                f"iomem=mmapshared:{self.memory}.{name}"]


POINTS = [Point(size, pattern, depth) for size in SIZES
          for pattern in PATTERNS for depth in DEPTHS]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one I/O took: instructions, and seconds of the host's."""

    instructions: float
    seconds: float


# --- in the machine ---------------------------------------------------------

def machine(kernel):
    """One processor that is counted, and one controller."""
    slot = MACHINE.slots[0]
    return vm.VM(kernel, MACHINE, name="bench-drivers", qmp=True, programs=True,
                 icount=True, cpus=1, devices=[
                     *NULL, "-device", f"nvme,id=nvme0,serial=null,{slot}",
                     "-device", "nvme-ns,drive=null,bus=nvme0,nsid=1,"
                                "logical_block_size=512,physical_block_size=512"])


def prepare(guest, points):
    """The jobs for fio, and their memory: the same for all drivers and rounds."""
    jobs = [GLOBAL.splitlines()]
    jobs += [point.job(*job) for point in points for job in JOBS.items()]
    for lines in jobs:
        words = " ".join(f"'{line}'" for line in lines)
        guest.sh(f"printf '%s\\n' {words} >>/tmp/jobs")
    guest.sh("scattered " + " ".join(
        f"{point.memory} {point.depth * point.bytes}" for point in points))


def executed(guest):
    """Instructions that were, once the guest has nothing to do."""
    before = None
    while True:
        # A running processor is asked only now and then how far it is.
        guest.qmp("stop")
        now = guest.qmp("query-replay")["icount"]
        guest.qmp("cont")
        if now == before:
            return now
        before = now
        time.sleep(0.002)


def measured(guest):
    """What a job takes that waits before it begins: (instructions, seconds)."""
    at = executed(guest)
    began = time.monotonic()
    guest.sh("echo >/tmp/go; read -r _ </tmp/marked")
    took = time.monotonic() - began
    count = executed(guest) - at
    return count, took


def one_round(guest, driver, points):
    """{point: Cost} for a driver that has the controller."""
    pci = guest.sh("controllers")
    guest.sh(f"bind {driver} {pci}")
    disk = guest.sh(f"disk {pci}")
    memory = " ".join(point.memory for point in points)
    guest.sh(f"later fio 'points {disk} /tmp/jobs {memory}'")
    guest.sh("until [ -p /tmp/go ]; do usleep 10000; done")
    costs = {}
    for point in points:
        jobs = []
        for _ in range(2):
            guest.sh("read -r _ </tmp/marked")
            jobs.append(measured(guest))
            guest.sh("echo >/tmp/go")
        few, many = jobs
        costs[point] = Cost(*((b - a) / MORE for a, b in zip(few, many)))
    guest.sh("ended fio 60")
    return costs


def run(kernel, points=None, rounds=ROUNDS):
    """{(point, driver): [Cost of each round]}"""
    points = points or POINTS
    found = {(point, name): [] for point in points for name in DRIVERS}
    with Step("drivers") as step, machine(kernel) as guest:
        for driver in DRIVERS.values():
            guest.sh(f"load {driver}")
        prepare(guest, points)
        for number in range(rounds):
            for name, driver in DRIVERS.items():
                step.now(f"round {number + 1} of {rounds}, {driver}")
                for point, cost in one_round(guest, driver, points).items():
                    found[point, name].append(cost)
    return found


# --- what came of it --------------------------------------------------------

def median(costs):
    return statistics.median(cost.instructions for cost in costs)


def spread(costs):
    """How far the rounds are from their median, at most: 0.01 is 1%."""
    middle = median(costs)
    return max(abs(cost.instructions / middle - 1) for cost in costs)


def text(found):
    """The table for a terminal."""
    yield (f"{'':20}" + "".join(f"{name:>10}" for name in DRIVERS) +
           "".join(f"{name + '/kernel':>14}" for name in vm.DRIVERS) +
           "   spread")
    for point in dict.fromkeys(point for point, _ in found):
        mine = {name: found[point, name] for name in DRIVERS}
        base = median(mine["kernel"])
        yield (f"{str(point):20}" +
               "".join(f"{median(costs):10,.0f}" for costs in mine.values()) +
               "".join(f"{median(mine[name]) / base:14.3f}"
                       for name in vm.DRIVERS) + "   " +
               " ".join(f"{spread(costs):5.1%}" for costs in mine.values()))


def main(*arguments):
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="bench_drivers.py")
    parser.add_argument("--points", default="")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    kernels.stop_in_order()
    points = [point for point in POINTS
              if not options.points or str(point) in options.points.split(",")]
    try:
        found = run(vm.kernel(), points, options.rounds)
    except (vm.Failure, vm.Refusal) as failure:
        say(f"stopped: {failure}")
        return 1
    print("\n".join(text(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

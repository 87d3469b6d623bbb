# SPDX-License-Identifier: GPL-2.0
"""Measure the kernel's NVMe driver, the C sample and the Rust one under fio.

A machine has one processor, one controller, no IOMMU and a disk that stores
nothing. The drivers take turns at the controller, in several rounds, and fio does
the same I/Os on each in the same memory: for each point of the table a few, then
many. What the many took more, divided by how many more they were, is what one took,
with all that fio and the kernel do for it.

Instructions are QEMU's own count of those that were executed. None is while the
processor is halted, so waiting does not count and the host's speed does not matter.
I/Os per second are of another machine, whose clock is the host's.
"""

import dataclasses
import time

import vm
from progress import Step

MACHINE = vm.MACHINES["direct"]
DRIVERS = {"kernel": "nvme"} | vm.DRIVERS

SIZES = {"512": 512, "4k": 4 << 10, "32k": 32 << 10}
PATTERNS = ["randread", "randwrite"]
DEPTHS = [1, 8, 32, 128]
ROUNDS = 5
IOPS_ROUNDS = 3

# The I/Os of a short job and of a long one: whole batches of every depth.
JOBS = {"few": 256, "many": 2304}
MORE = JOBS["many"] - JOBS["few"]

# It takes its time, so that the processor is halted when a completion comes,
# whatever else the host does.
DISK = ["-blockdev", "null-co,node-name=null,size=1073741824,read-zeroes=on,"
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
stonewall"""
# Where the host looks how much was executed.
MARKS = """\
exec_prerun=sh /tmp/mark
exec_postrun=sh /tmp/mark"""

# What must be the same for all of them, in /sys/block/<disk>/queue.
SETTINGS = ["nr_requests", "scheduler", "nomerges", "rq_affinity", "iostats",
            "io_poll", "io_timeout", "write_cache", "fua", "add_random",
            "logical_block_size", "max_sectors_kb", "max_segment_size",
            "dma_alignment", "virt_boundary_mask"]


@dataclasses.dataclass(frozen=True)
class Point:
    """One line of the table."""

    size: str
    pattern: str
    depth: int

    def __str__(self):
        return f"{self.size}-{self.pattern}-{self.depth}"

    @property
    def bytes(self):
        return SIZES[self.size]

    @property
    def memory(self):
        """The file in the guest's memory that all its I/Os use."""
        return f"/tmp/memory.{self}"

    def job(self, name):
        """A section of fio's job file."""
        return [f"[{self}-{name}]", f"rw={self.pattern}", f"bs={self.bytes}",
                f"iodepth={self.depth}", f"iodepth_batch_submit={self.depth}",
                f"iodepth_batch_complete_min={self.depth}",
                f"number_ios={JOBS[name]}",
                f"iomem=mmapshared:{self.memory}.{name}"]


POINTS = [Point(size, pattern, depth) for size in SIZES
          for pattern in PATTERNS for depth in DEPTHS]


@dataclasses.dataclass
class Measured:
    """A driver at a point: one number of each round."""

    instructions: list[float] = dataclasses.field(default_factory=list)
    iops: list[float] = dataclasses.field(default_factory=list)


# --- in the machine ---------------------------------------------------------

def machine(kernel, icount, name="drivers"):
    """One processor, one controller."""
    return vm.VM(kernel, MACHINE, name=name, append=vm.ONE_TIMER, qmp=True,
                 programs=True, icount=icount, cpus=1, devices=[
                     *DISK, "-device", "nvme,id=nvme0,serial=null,"
                                       f"{MACHINE.slots[0]}",
                     "-device", "nvme-ns,drive=null,bus=nvme0,nsid=1,"
                                "logical_block_size=512,"
                                "physical_block_size=512"])


def prepare(guest, points, jobs, options):
    """Drivers, fio's jobs, and their memory: the same in all rounds."""
    for driver in DRIVERS.values():
        guest.sh(f"load {driver}")
    sections = [options.splitlines()]
    sections += [point.job(job) for point in points for job in jobs]
    for lines in sections:
        words = " ".join(f"'{line}'" for line in lines)
        guest.sh(f"printf '%s\\n' {words} >>/tmp/jobs")
    guest.sh("scattered " + " ".join(
        f"{point.memory} {point.depth * point.bytes}" for point in points))


def fio(guest, driver, points):
    """The line that has fio do all jobs with that driver."""
    pci = guest.sh("controllers")
    guest.sh(f"bind {driver} {pci}")
    memory = " ".join(point.memory for point in points)
    return f"points {guest.sh(f'disk {pci}')} /tmp/jobs {memory}"


def settings(guest):
    """Of the disk: those that are to be compared."""
    disk = guest.sh("disk $(controllers)").removeprefix("/dev/")
    return guest.sh(f"cd /sys/block/{disk}; ls mq; cd queue; "
                    f"grep -H . {' '.join(SETTINGS)}")


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


def job_cost(guest):
    """The instructions of a job, from its first mark to its second one."""
    guest.sh("read -r _ </tmp/marked")
    before = executed(guest)
    guest.sh("echo >/tmp/go; read -r _ </tmp/marked")
    cost = executed(guest) - before
    guest.sh("echo >/tmp/go")
    return cost


def counted(guest, driver, points):
    """One round: the instructions of an I/O at each point."""
    guest.sh(f"later fio '{fio(guest, driver, points)}'")
    costs = []
    for _ in points:
        few, many = job_cost(guest), job_cost(guest)
        costs.append((many - few) / MORE)
    guest.sh("ended fio 60")
    return costs


def timed(guest, driver, points):
    """One round: I/Os in a second at each point, as fio has it."""
    guest.sh(fio(guest, driver, points))
    # Its brief form; one of the two is 0.
    lines = guest.sh("grep '^3;' /tmp/points/out | cut -d';' -f5,8,49")
    cells = [line.split(";") for line in lines.splitlines()]
    if len(cells) != len(points) or any(error != "0" for error, *_ in cells):
        raise vm.Refusal(f"fio: {guest.sh('cat /tmp/points/out')}")
    return [float(read) + float(write) for _, read, write in cells]


def rounds(kernel, points, number, icount, traced=False):
    """Each driver in turn: (driver's name, numbers of all points), and so on."""
    what = "counting instructions of drivers" if icount else "timing drivers"
    name = "drivers" + "-timed" * (not icount) + "-traced" * traced
    with Step(what) as step, machine(kernel, icount, name) as guest:
        if icount:
            prepare(guest, points, JOBS, f"{GLOBAL}\n{MARKS}")
            guest.sh("marks")
        else:
            prepare(guest, points, ["many"], GLOBAL)
        if traced:
            guest.sh("echo 1 >$TRACING/events/dma_phys/enable")
        known = set()
        for at in range(number):
            for driver_name, driver in DRIVERS.items():
                step.now(f"round {at + 1} of {number}, {driver}")
                yield driver_name, (counted if icount else timed)(
                    guest, driver, points)
                known.add(settings(guest))
        if len(known) != 1:
            raise vm.Refusal("disks differ: " + "\n".join(known))


def run(kernel, points, number, iops, traced=False):
    """{(point, driver's name): Measured}

    With traced the core's tracepoints are on, which makes it slower.
    """
    found = {(point, name): Measured() for point in points for name in DRIVERS}
    for name, costs in rounds(kernel, points, number, True, traced):
        for point, cost in zip(points, costs):
            found[point, name].instructions.append(cost)
    if iops:
        for name, speeds in rounds(kernel, points, iops, False):
            for point, speed in zip(points, speeds):
                found[point, name].iops.append(speed)
    return found

# SPDX-License-Identifier: GPL-2.0
"""Measure the kernel's NVMe driver, the C sample and the Rust one with fio.

A machine has one processor, one controller and a disk that stores nothing, with an
IOMMU or without. The drivers take turns at the controller, in several rounds. With
each, fio does the same I/Os in the same memory: for each point of the table a few,
then many. The difference of their costs, divided by the difference of their numbers,
is the cost of one I/O, including the costs in fio and in the kernel.

QEMU counts the instructions. A halted processor executes none, so that neither waiting
nor the speed of the host counts. I/Os per second are measured on another machine, by
the host's clock.
"""

import dataclasses
import time

from harness import bench_targets, vm
from harness.progress import Step

DRIVERS = {"kernel": "nvme"} | vm.DRIVERS

DIRECT = "direct"
IOMMUS = bench_targets.PAGE_TABLES
SIZES = {"512": 512, "4k": 4 << 10, "32k": 32 << 10, "128k": 128 << 10}
PATTERNS = ["randread", "randwrite"]
DEPTHS = [1, 8, 32, 128]
ROUNDS = 5
IOPS_ROUNDS = 3

# The I/Os of the two jobs of a point: multiples of each depth.
JOBS = {"few": 256, "many": 2304}
MORE = JOBS["many"] - JOBS["few"]

# With this latency the processor is always halted when a completion arrives, even on
# a busy host.
DISK = ["-blockdev", "null-co,node-name=null,size=1073741824,read-zeroes=on,"
                     "latency-ns=50000"]

# All I/Os of a batch are submitted with one system call, and waited for with one.
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
# At the start and at the end of a job the host reads the instruction count.
MARKS = """\
exec_prerun=sh /tmp/mark
exec_postrun=sh /tmp/mark"""

# Files in /sys/block/<disk>/queue that must be the same for all drivers.
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
    machine: str = DIRECT

    def __str__(self):
        machine = "" if self.machine == DIRECT else f"-{self.machine}"
        return f"{self.size}-{self.pattern}-{self.depth}{machine}"

    @property
    def bytes(self):
        return SIZES[self.size]

    @property
    def memory(self):
        """The file in the guest's memory that all I/Os use as their buffer."""
        return f"/tmp/memory.{self}"

    def job(self, name):
        """A section of fio's job file."""
        return [f"[{self}-{name}]", f"rw={self.pattern}", f"bs={self.bytes}",
                f"iodepth={self.depth}", f"iodepth_batch_submit={self.depth}",
                f"iodepth_batch_complete_min={self.depth}",
                f"number_ios={JOBS[name]}",
                f"iomem=mmapshared:{self.memory}.{name}"]


# Behind an IOMMU reads and writes are mapped alike.
POINTS = [Point(size, pattern, depth, machine)
          for machine in (DIRECT, *IOMMUS) for size in SIZES
          for pattern in PATTERNS[:1 if machine in IOMMUS else None]
          for depth in DEPTHS]


@dataclasses.dataclass
class Measured:
    """A driver at a point: a number for each round."""

    instructions: list[float] = dataclasses.field(default_factory=list)
    iops: list[float] = dataclasses.field(default_factory=list)


# --- in the machine ---------------------------------------------------------

def machine(kernel, icount, name="drivers", route=DIRECT):
    """A machine with one processor and one controller."""
    return vm.VM(kernel, vm.MACHINES[route], name=name, append=vm.NO_LAPIC_TIMER,
                 qmp=True, programs=True, icount=icount, cpus=1, devices=[
                     *DISK, "-device", "nvme,id=nvme0,serial=null,"
                                       f"{vm.MACHINES[route].slots[0]}",
                     "-device", "nvme-ns,drive=null,bus=nvme0,nsid=1,"
                                "logical_block_size=512,"
                                "physical_block_size=512"])


def prepare(guest, points, jobs, options):
    """Load the drivers, and write fio's job file and buffers, once for all rounds."""
    for driver in DRIVERS.values():
        guest.sh(f"load {driver}")
    sections = [options.splitlines()]
    sections += [point.job(job) for point in points for job in jobs]
    for lines in sections:
        words = " ".join(f"'{line}'" for line in lines)
        guest.sh(f"printf '%s\\n' {words} >>/tmp/jobs")
    guest.sh("make_scattered " + " ".join(
        f"{point.memory} {point.depth * point.bytes}" for point in points))


def fio_command(guest, driver, points):
    """Bind a driver: the line of shell that runs all jobs."""
    pci = guest.sh("controllers")
    guest.sh(f"bind {driver} {pci}")
    memory = " ".join(point.memory for point in points)
    return f"run_fio_jobs {guest.sh(f'disk {pci}')} /tmp/jobs {memory}"


def settings(guest):
    """The settings of the disk that all drivers must share."""
    disk = guest.sh("disk $(controllers)").removeprefix("/dev/")
    return guest.sh(f"cd /sys/block/{disk}; ls mq; cd queue; "
                    f"grep -H . {' '.join(SETTINGS)}")


def instruction_count(guest):
    """The instructions executed so far, once the guest is idle."""
    last = None
    while True:
        # The count of a running processor is out of date.
        guest.qmp("stop")
        count = guest.qmp("query-replay")["icount"]
        guest.qmp("cont")
        if count == last:
            return count
        last = count
        time.sleep(0.002)


def job_cost(guest):
    """The instructions of the next job, between its two marks."""
    guest.sh("read -r _ </tmp/marked")
    start = instruction_count(guest)
    guest.sh("echo >/tmp/go; read -r _ </tmp/marked")
    cost = instruction_count(guest) - start
    guest.sh("echo >/tmp/go")
    return cost


def measure_instructions(guest, driver, points):
    """One round: the instructions per I/O at each point."""
    guest.sh(f"start_job fio '{fio_command(guest, driver, points)}'")
    costs = []
    for _ in points:
        few, many = job_cost(guest), job_cost(guest)
        costs.append((many - few) / MORE)
    guest.sh("wait_job fio 60")
    return costs


def measure_iops(guest, driver, points):
    """One round: the I/Os per second at each point, as fio prints them."""
    guest.sh(fio_command(guest, driver, points))
    # Fields of the terse format: error, IOPS of reads, IOPS of writes.
    lines = guest.sh("grep '^3;' /tmp/fio_jobs/out | cut -d';' -f5,8,49")
    cells = [line.split(";") for line in lines.splitlines()]
    if len(cells) != len(points) or any(error != "0" for error, *_ in cells):
        raise vm.CommandError(f"fio: {guest.sh('cat /tmp/fio_jobs/out')}")
    return [float(read) + float(write) for _, read, write in cells]


def rounds(kernel, points, number, icount, traced=False):
    """All drivers in turn, so many times: (driver's name, a number per point)

    The points are those of one machine.
    """
    route = points[0].machine
    what = "counting instructions of drivers" if icount else "timing drivers"
    name = f"drivers-{route}" + "-timed" * (not icount) + "-traced" * traced
    with Step(f"{what}, {route}") as step, \
            machine(kernel, icount, name, route) as guest:
        if icount:
            prepare(guest, points, JOBS, f"{GLOBAL}\n{MARKS}")
            guest.sh("make_marks")
        else:
            prepare(guest, points, ["many"], GLOBAL)
        if traced:
            guest.sh("echo 1 >$TRACING/events/dma_phys/enable")
        all_settings = set()
        for done in range(number):
            for driver_name, driver in DRIVERS.items():
                step.now(f"round {done + 1} of {number}, {driver}")
                measure = measure_instructions if icount else measure_iops
                yield driver_name, measure(guest, driver, points)
                all_settings.add(settings(guest))
        if len(all_settings) != 1:
            raise vm.CommandError("the settings of the disks differ: " +
                                  "\n".join(all_settings))


def run(kernel, points, number, iops, traced=False):
    """Measure all drivers: {(point, driver's name): Measured}

    number and iops are the numbers of rounds. I/Os per second are measured without an
    IOMMU. With traced=True the tracepoints of the core are enabled, which makes it
    slower.
    """
    results = {(point, name): Measured()
               for point in points for name in DRIVERS}
    for route in dict.fromkeys(point.machine for point in points):
        mine = [point for point in points if point.machine == route]
        for name, costs in rounds(kernel, mine, number, True, traced):
            for point, cost in zip(mine, costs):
                results[point, name].instructions.append(cost)
        for name, speeds in rounds(kernel, mine, iops, False) \
                if iops and route == DIRECT else ():
            for point, speed in zip(mine, speeds):
                results[point, name].iops.append(speed)
    return results

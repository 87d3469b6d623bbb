# SPDX-License-Identifier: GPL-2.0
"""Memory of an NVMe I/O queue at rest, with the kernel's driver and the samples.

A machine has two controllers, which differ in the number of their I/O queues only.
Each driver is bound to one, then to the other, and the free memory of the machine is
read. Of what the driver takes, the difference is that of the queues: of all that the
driver, the block layer and the interrupt code allocate for them.
"""

import dataclasses
import statistics

from harness import bench_fio as fio
from harness import vm
from harness.progress import Step

# I/O queues of the two controllers.
FEW, MANY = 1, 4
# Entries of a queue, of which blk-mq uses all but one.
ENTRIES = 1024
ROUNDS = 5

# The target for the C driver, in bytes.
MAX_BYTES = 1 << 20

# Free pages, and those in the lists of the processors, after the counters of the
# processors were added up.
FREE = ("cat /proc/sys/vm/stat_refresh && awk '"
        '$1 == "pages" && $2 == "free" { n += $3 } '
        '$1 == "count:" { n += $2 } '
        "END { print n }' /proc/zoneinfo")
PAGE_BYTES = 4096
# Some memory is freed later, after an RCU grace period or by a worker.
SETTLE = "usleep 500000"
READINGS = 5


@dataclasses.dataclass
class Memory:
    """Bytes of a queue: a number for each round, and what the driver's file says."""

    measured: list[float] = dataclasses.field(default_factory=list)
    stated: int | None = None

    @property
    def median(self):
        return statistics.median(self.measured)

    @property
    def spread(self):
        """The largest relative distance of a round from the median."""
        return max(abs(each - self.median) for each in self.measured) / \
            max(abs(self.median), 1)


def devices():
    """QEMU arguments: the two controllers, with disks that store nothing."""
    args = []
    for number, (slot, queues) in enumerate(
            zip(vm.MACHINES[fio.DIRECT].slots, (FEW, MANY))):
        args += ["-blockdev", f"null-co,node-name=null{number},size=1073741824,"
                              "read-zeroes=on",
                 "-device", f"nvme,id=nvme{number},serial=null{number},"
                            f"max_ioqpairs={queues},{slot}",
                 "-device", f"nvme-ns,drive=null{number},bus=nvme{number},nsid=1"]
    return args


def free_bytes(guest):
    """The free memory of a guest that is idle."""
    guest.sh(SETTLE)
    return PAGE_BYTES * statistics.median(
        int(guest.sh(FREE)) for _ in range(READINGS))


def bytes_of_driver(guest, driver, pci, queues):
    """The memory that a driver takes for a controller."""
    before = free_bytes(guest)
    guest.sh(f"bind {driver} {pci}")
    disk = guest.sh(f"disk {pci}").removeprefix("/dev/")
    found = guest.sh(f"cd /sys/block/{disk} && ls mq | wc -l && "
                     "cat queue/nr_requests").split()
    if found != [str(queues), str(ENTRIES - 1)]:
        raise vm.CommandError(f"{driver} has {found} queues and tags")
    used = before - free_bytes(guest)
    guest.sh(f"unbind {pci}")
    return used


def stated_bytes(guest, driver, pci):
    """What the driver's file says, None if it has none."""
    guest.sh(f"bind {driver} {pci}")
    text = guest.try_sh(f"cat $PCI/devices/{pci}/io_queue_bytes").out
    guest.sh(f"unbind {pci}")
    return int(text) if text.isdecimal() else None


def measure_round(guest, driver, pcis):
    """One round: the bytes of one more queue."""
    few, many = (bytes_of_driver(guest, driver, pci, queues)
                 for pci, queues in zip(pcis, (FEW, MANY)))
    return (many - few) / (MANY - FEW)


def measure(kernel, rounds=ROUNDS):
    """Measure all drivers: {driver's name: Memory}"""
    results = {name: Memory() for name in fio.DRIVERS}
    with Step("measuring memory of drivers") as step, \
            vm.VM(kernel, vm.MACHINES[fio.DIRECT], name="bench-memory", devices=devices(),
                  cpus=MANY) as guest:
        pcis = guest.sh("controllers").split()
        for name, driver in fio.DRIVERS.items():
            guest.sh(f"load {driver}")
            results[name].stated = stated_bytes(guest, driver, pcis[0])
            # Not measured: the first time it fills caches of the allocators.
            measure_round(guest, driver, pcis)
        for done in range(rounds):
            step.now(f"round {done + 1} of {rounds}")
            for name, driver in fio.DRIVERS.items():
                results[name].measured.append(
                    measure_round(guest, driver, pcis))
    return results


# --- the table --------------------------------------------------------------

HEADER = ("driver", "measured", "spread", "stated by the driver", "at most",
          "met")


def kib(number):
    return f"{number / 1024:,.0f} KiB"


def table(results):
    """The rows of the table."""
    for name, memory in results.items():
        has_target = name == "C"
        is_met = "yes" if memory.median <= MAX_BYTES else "NO"
        yield (name, kib(memory.median), f"{memory.spread:.0%}",
               "" if memory.stated is None else kib(memory.stated),
               kib(MAX_BYTES) if has_target else "",
               is_met if has_target else "")


SECTION = f"""
Memory of a queue at rest
=========================

The memory of one I/O queue with {ENTRIES:,} entries, while no request is in flight. Two
controllers have {FEW} and {MANY} I/O queues. Of the memory that a driver takes for each
of them, as the free memory of the machine shows, the difference is divided by
{MANY - FEW}. It includes what the block layer allocates for each queue: a struct request
for each tag, for example. What a driver states in its file ``io_queue_bytes`` does not
include that. Numbers are medians.
"""


def text(results, columns):
    """The table for a terminal. columns(rows) aligns its cells."""
    yield f"memory of an I/O queue with {ENTRIES:,} entries, at rest"
    yield ""
    yield from columns([HEADER, *table(results)])


def rst(results, rst_table):
    """The section of the page. rst_table(header, rows, widths) makes a table."""
    yield SECTION.rstrip()
    yield from rst_table(HEADER, table(results), (12, 14, 10, 22, 14, 8))

# SPDX-License-Identifier: GPL-2.0
"""Start the minimal drivers. Move data on each route with both NVMe drivers, and
use file systems on their disks.
"""

import concurrent.futures
import dataclasses
import errno
import os
import pathlib
import re
import sys
import tempfile
import time

from harness import kernel as kernels
from harness import oracle, vm
from harness.progress import Step, say

# One block, one page, two pages (PRP2), three (an SGL), and many.
SIZES = [512, 4096, 8192, 12288, 131072]
PEER_SIZES = [4096, 12288, 131072]
# Files in each file system, and the size of their disk: xfs needs 300 MiB.
FILES = 40
FILESYSTEM_DISK = 448 << 20


@dataclasses.dataclass(frozen=True)
class Part:
    """A machine, and its rows of the table: one text for each kind."""

    machine: str
    cpu: str = ""
    mmio: str = ""


# A machine without IOMMU shows both the direct route and refused peers.
PARTS = [
    Part("p2p-refused", cpu="no IOMMU", mmio="no P2P path between the peers"),
    Part("bounce", cpu="swiotlb=force"),
    Part("intel-lazy", cpu="Intel IOMMU"),
    Part("p2p-bus", mmio="peers behind one switch"),
    Part("p2p-bridge", mmio="peers through the host bridge"),
]
FILESYSTEMS = "intel-strict"

# The minimal drivers, by their language, and the machines that start them: one
# for each route.
EDU_DRIVERS = {"C": "edu_phys", "Rust": "rust_edu_phys"}
EDU_PEER_DRIVERS = {"C": "edu_peer_phys", "Rust": "rust_edu_peer_phys"}
EDU_MACHINES = ["direct", "bounce", "intel-lazy", "p2p-bus"]
# Seconds after which a copy that normally takes one has failed.
EDU_TIMEOUT = 60


@dataclasses.dataclass
class Row:
    """A line of the first table, and its error or nothing."""

    machine: str
    route: str
    driver: str
    kind: str
    direction: str
    bytes: int
    verified: str
    error: str = ""


@dataclasses.dataclass
class FilesystemRow:
    """A line of the second table."""

    driver: str
    partition: str
    filesystem: str
    files: int
    verified: str


class Mover:
    """Moves data with one driver on one machine."""

    def __init__(self, part, language, a, b):
        self.part = part
        self.machine = vm.MACHINES[part.machine]
        self.language = language
        self.a = a
        self.b = b

    def rows(self):
        if self.part.cpu:
            yield self._row("cpu", "from device", SIZES, self.a.read)
            yield self._row("cpu", "to device", SIZES, self.a.write)
        if self.part.mmio:
            yield self._row("mmio", "from device", PEER_SIZES,
                            lambda size: self.a.peer_read(self.b, size))
            yield self._row("mmio", "to device", PEER_SIZES,
                            lambda size: self.a.peer_write(self.b, size))

    def _row(self, kind, direction, sizes, move):
        if kind == "cpu":
            machine, route = self.part.cpu, self.machine.cpu_route
        else:
            machine, route = self.part.mmio, self.machine.mmio_route
        row = Row(machine, route, self.language, kind, direction, 0, "NO")
        for size in sizes:
            routes, is_good, error = move(size)
            if route == "refused":
                return self._refused(row, error)
            if error:
                row.error = f"{size} bytes: {error}"
            elif routes != route:
                row.error = f"{size} bytes: route '{routes}', not {route}"
            elif not is_good:
                row.error = f"{size} bytes differ from the image"
            if row.error:
                return row
            row.bytes += size
        row.verified = "yes"
        return row

    @staticmethod
    def _refused(row, error):
        if error.endswith(os.strerror(errno.EREMOTEIO)):
            row.verified = "EREMOTEIO"
        else:
            row.error = f"'{error}', not EREMOTEIO"
        return row


def run(part, kernel, directory):
    """Boot one machine and move data: (rows, errors of the machine)"""
    machine = vm.MACHINES[part.machine]
    disks = [oracle.Disk(pathlib.Path(directory, f"{part.machine}-{name}"),
                         f"disk-{name}", seed=time.time_ns())
             for name in "ab"]
    rows = []
    with vm.VM(kernel, machine, devices=vm.nvme(machine, disks),
               name=f"demo-{part.machine}", programs=bool(part.mmio)) as guest:
        names = guest.sh("controllers").split()
        for language in vm.languages(kernel.flavour):
            driver = vm.DRIVERS[language]
            guest.sh(f"load {driver} && bind {driver} {' '.join(names)}")
            rows += Mover(part, language, *(
                oracle.Controller(guest, name, disk)
                for name, disk in zip(names, disks))).rows()
        guest.sh(f"load nvme && bind nvme {' '.join(names)}")
        errors = [f"the kernel's own driver reads other data from {name}"
                  for name, disk in zip(names, disks)
                  if guest.sh(f"disk_sum $(disk {name})") !=
                  oracle.sha256(disk.expected)]
    errors += [f"{disk.serial} differs at byte {disk.first_difference()}"
               for disk in disks if disk.first_difference() is not None]
    errors += guest.reports()
    return rows, [f"{part.machine}: {line}" for line in errors]


def run_filesystems(kernel, directory):
    """Boot one machine with file systems on both drivers: (rows, errors)"""
    machine = vm.MACHINES[FILESYSTEMS]
    disks = [oracle.Image(pathlib.Path(directory, f"files-{name}"),
                          f"files-{name}", size=FILESYSTEM_DISK)
             for name in vm.DRIVERS]
    with vm.VM(kernel, machine, devices=vm.nvme(machine, disks),
               name="demo-files", programs=True) as guest:
        names = guest.sh("controllers").split()
        made = {}
        for (language, driver), name in zip(vm.DRIVERS.items(), names):
            guest.sh(f"load {driver} && bind {driver} {name}")
            device = guest.sh(f"disk {name}")
            made[language] = (
                name, device,
                guest.sh(f"make_filesystems {device} {FILES}").split())
        guest.sh(f"load nvme && bind nvme {' '.join(names)}")
        rows, errors = [], []
        for language, (name, device, expected) in made.items():
            sums = guest.sh(f"read_filesystems $(disk {name})").split()
            for number, filesystem in enumerate(("ext4", "xfs")):
                is_good = sums[number] == expected[number]
                rows.append(FilesystemRow(
                    language, f"{device}p{number + 1}", filesystem, FILES,
                    "yes" if is_good else "NO"))
                if not is_good:
                    errors.append(f"files: {filesystem} of the {language} "
                                  "driver has other files")
    errors += [f"files: {line}" for line in guest.reports()]
    return rows, errors


def run_edu(name, kernel):
    """Boot one machine and start the minimal drivers: (log lines, errors)"""
    machine = vm.MACHINES[name]
    if machine.mmio_route:
        drivers, route, parameter = EDU_PEER_DRIVERS, machine.mmio_route, ""
    else:
        drivers, route = EDU_DRIVERS, machine.cpu_route
        parameter = f"dma_bits={machine.edu_bits}"
    lines, errors = [], []
    with vm.VM(kernel, machine, devices=vm.edu(machine),
               name=f"demo-edu-{name}") as guest:
        device = guest.sh("find_pci 0x1234 0x11e8")
        for driver in drivers.values():
            # It binds to the device, which then copies bytes.
            guest.sh(f"load {driver} {parameter}")
            line = wait_log(guest, f"{driver} {device}: copied ")
            lines.append(line)
            if not line.endswith(f"route {route}: verified"):
                errors.append(f"{driver}: '{line}', not verified on route "
                              f"{route}")
            # The next driver binds to its devices.
            guest.sh(f"rmmod {driver}")
    errors += guest.reports()
    return lines, [f"{name}: {line}" for line in errors]


def wait_log(guest, start):
    """The end of the line in the kernel log that has this text, from the text on."""
    end = time.monotonic() + EDU_TIMEOUT
    while time.monotonic() < end:
        found = re.search(rf"\b{re.escape(start)}.*\n", guest.console())
        if found:
            return found[0].strip()
        time.sleep(0.1)
    return f"{start}nothing within {EDU_TIMEOUT} s"


# --- the tables ---------------------------------------------------------------

def table(lines, right):
    """Text in columns, with an empty line before each new first cell."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    last = None
    for cells in lines:
        if cells[0] != last:
            yield ""
        last = cells[0]
        yield "  ".join(
            cell.rjust(width) if number == right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths))).rstrip()


def transfer_table(rows):
    kinds = {"cpu": 0, "mmio": 1}
    lines = [("machine", "route", "driver", "kind", "direction", "bytes",
              "verified")]
    lines += [(row.machine, row.route, row.driver, row.kind, row.direction,
               f"{row.bytes:,}", row.verified)
              for row in sorted(rows, key=lambda row: kinds[row.kind])]
    return table(lines, right=5)


def edu_table(logs):
    """The log lines of each machine."""
    lines = [("machine", "kernel log")]
    lines += [(vm.MACHINES[name].text, line)
              for name, log in logs.items() for line in log]
    return table(lines, right=None)


def filesystem_table(rows):
    lines = [("driver", "partition", "file system", "files", "verified")]
    lines += [(row.driver, row.partition, row.filesystem, f"{row.files:,}",
               row.verified) for row in rows]
    return table(lines, right=3)


# --- the command ----------------------------------------------------------------

def boot_all(kernel):
    """Boot all machines, a few at the same time.

    Return the result of run_edu() for each machine, that of run() for each part, and
    that of run_filesystems().
    """
    with Step("moving data") as step, \
            tempfile.TemporaryDirectory() as directory, \
            concurrent.futures.ThreadPoolExecutor(
                vm.PARALLEL_MACHINES) as pool:
        futures = [pool.submit(run_edu, name, kernel)
                   for name in EDU_MACHINES]
        # Of the others, the longest first.
        futures += [pool.submit(run_filesystems, kernel, directory)]
        futures += [pool.submit(run, part, kernel, directory)
                    for part in PARTS]
        try:
            results = wait_for(futures, step)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            vm.kill_all()
            raise
    filesystems, *parts = results[len(EDU_MACHINES):]
    return dict(zip(EDU_MACHINES, results)), parts, filesystems


def wait_for(futures, step):
    """The results of all futures, or the first exception."""
    while not all(future.done() for future in futures):
        done = [future for future in futures if future.done()]
        for future in done:
            future.result()
        step.now(f"{len(done)} of {len(futures)} machines done")
        time.sleep(0.2)
    return [future.result() for future in futures]


def main():
    kernels.exit_on_signals()
    try:
        kernel = vm.kernel()
        edu, parts, (filesystem_rows, errors) = boot_all(kernel)
    except (vm.MachineError, vm.CommandError, ValueError) as error:
        say(f"the demo stopped: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    rows = [row for part_rows, _ in parts for row in part_rows]
    errors += [line for _, lines in [*edu.values(), *parts] for line in lines]
    errors += [f"{row.machine}, {row.driver}, {row.kind} {row.direction}: "
               f"{row.error}" for row in rows if row.error]
    print(f"Linux {kernel.release}, {vm.accelerator(kernel).upper()}\n\n"
          "The minimal drivers, with QEMU's edu device:")
    print("\n".join(edu_table({name: lines for name, (lines, _) in edu.items()})))
    print("\nThe NVMe drivers, with two controllers in each virtual machine:")
    print("\n".join([*transfer_table(rows),
                     *filesystem_table(filesystem_rows)]))
    if errors:
        say("\n".join(["", "errors:", *errors]))
        return 1
    print("""
route     the route of all maps during the transfers, from the kernel's trace
verified  The checksum of the data was compared with the disk image, outside the
          virtual machine. Then the kernel's own NVMe driver read both disks
          completely and got the data that the images must hold. Files: file
          systems were used on both drivers at the same time, behind an IOMMU.
          Then the kernel's own driver read the same files from them, and fsck
          found no error.""")
    return 0


if __name__ == "__main__":
    sys.exit(main())

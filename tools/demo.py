#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Move data on every route with both drivers, and print what came of it."""

import concurrent.futures
import dataclasses
import hashlib
import pathlib
import sys
import tempfile
import time

import kernel as kernels
import oracle
import vm
from progress import Step, say

# One block, one page, two (PRP2), three (a list), and a long list.
SIZES = [512, 4096, 8192, 12288, 131072]
PEER_SIZES = [4096, 12288, 131072]


@dataclasses.dataclass(frozen=True)
class Part:
    """One machine, and the rows of the table that it fills."""

    machine: str
    cpu: str = ""
    mmio: str = ""


# A machine without IOMMU shows the direct route and the refused peers at once.
PARTS = [
    Part("p2p-refused", cpu="no IOMMU", mmio="peers with no way between"),
    Part("bounce", cpu="swiotlb=force"),
    Part("intel-lazy", cpu="Intel IOMMU"),
    Part("p2p-bus", mmio="peers behind one switch"),
    Part("p2p-bridge", mmio="peers through the host bridge"),
]


@dataclasses.dataclass
class Row:
    """One line of the table; wrong says what is, or nothing."""

    where: str
    route: str
    driver: str
    kind: str
    direction: str
    bytes: int
    verified: str
    wrong: str = ""


class Mover:
    """One driver on one machine, filling rows."""

    def __init__(self, part, language, a, b):
        self.part = part
        self.machine = vm.MACHINES[part.machine]
        self.language = language
        self.a = a
        self.b = b

    def rows(self):
        if self.part.cpu:
            for direction, move in (("from device", self._read),
                                    ("to device", self._write),
                                    ("both ways", self._verify)):
                yield self._cpu(direction, move)
        if self.part.mmio and self.machine.mmio == "refused":
            yield self._refused("from device", "peer-read")
            yield self._refused("to device", "peer-write")
        elif self.part.mmio:
            yield from self._mmio()

    def _row(self, kind, direction):
        where = self.part.cpu if kind == "cpu" else self.part.mmio
        return Row(where, "-", self.language, kind, direction, 0, "NO")

    def _read(self, size):
        return self.a.read(0, size)

    def _write(self, size):
        return self.a.write(self.a.disk.take(size), size, size)

    def _verify(self, size):
        return self.a.verify(self.a.disk.take(size), size, size + 1)

    def _cpu(self, direction, move):
        row = self._row("cpu", direction)
        for size in SIZES:
            result, good = move(size)
            if not self._arrived(row, result, size, self.machine.cpu):
                return row
            if not good:
                row.wrong = f"{size} bytes are not those of the image"
                return row
        row.verified = "yes"
        return row

    def _mmio(self):
        """Into the peer's memory, from there to another place of the disk."""
        rows = [self._row("mmio", "from device"),
                self._row("mmio", "to device")]
        for size in PEER_SIZES:
            result = self.a.peer_read(self.b, 0x200, 0, size)
            if not self._arrived(rows[0], result, size, self.machine.mmio):
                return rows
            data = self.a.disk.region(0, size)
            result, good = self.a.peer_write(
                self.b, 0x200, self.a.disk.take(size), size, data)
            if not self._arrived(rows[1], result, size, self.machine.mmio):
                return rows
            if not good:
                rows[1].wrong = f"{size} bytes did not come back"
                return rows
        for row in rows:
            row.verified = "yes"
        return rows

    def _arrived(self, row, result, size, route):
        row.route = result.route or "-"
        row.bytes += result.bytes
        if result.error:
            row.wrong = f"{size} bytes: {result.error}"
        elif (result.bytes, result.route) != (size, route):
            row.wrong = (f"{result.bytes} bytes by {result.route}, "
                         f"not {size} by {route}")
        return not row.wrong

    def _refused(self, direction, verb):
        row = self._row("mmio", direction)
        result = self.a.order(verb, self.b.pci, 0, 0, 8)
        row.route = "refused" if result.error == "EREMOTEIO" else "-"
        row.bytes = result.bytes
        if row.route == "refused":
            row.verified = "EREMOTEIO"
        else:
            row.wrong = f"{result.error or 'no error'}, not EREMOTEIO"
        return row


def run(part, kernel, directory):
    """Boot one machine: its rows, and what is wrong with it as a whole."""
    machine = vm.MACHINES[part.machine]
    disks = [oracle.Disk(pathlib.Path(directory, f"{part.machine}-{name}"),
                         f"disk-{name}", seed=time.time_ns())
             for name in "ab"]
    rows = []
    with vm.VM(kernel, machine, devices=vm.nvme(machine, disks),
               name=f"demo-{part.machine}") as guest:
        names = guest.sh("controllers").split()
        for language, driver in vm.DRIVERS.items():
            guest.sh(f"load {driver} && bind {driver} {' '.join(names)}")
            rows += Mover(part, language, *(
                oracle.Driver(guest, driver, name, disk)
                for name, disk in zip(names, disks))).rows()
        guest.sh(f"load nvme && bind nvme {' '.join(names)}")
        wrong = [f"the kernel's own driver reads other bytes from {name}"
                 for name, disk in zip(names, disks)
                 if guest.sh(f"disk_sum $(disk {name})") !=
                 hashlib.sha256(disk.expected).hexdigest()]
    wrong += [f"{disk.serial} differs at byte {disk.differs()}"
              for disk in disks if disk.differs() is not None]
    wrong += guest.reports()
    return rows, [f"{part.machine}: {line}" for line in wrong]


def table(rows):
    """The rows as text."""
    lines = [("where", "route", "driver", "kind", "direction", "bytes",
              "verified")]
    lines += [(row.where, row.route, row.driver, row.kind, row.direction,
               f"{row.bytes:,}", row.verified) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    last = None
    for cells in lines:
        if cells[0] != last:
            yield ""
        last = cells[0]
        yield "  ".join(cell.rjust(width) if at == 5 else cell.ljust(width)
                        for at, (cell, width)
                        in enumerate(zip(cells, widths))).rstrip()


def boot_all(kernel):
    """Every part, some at once: rows and complaints in the order of PARTS."""
    with Step("moving data") as step, tempfile.TemporaryDirectory() as where, \
            concurrent.futures.ThreadPoolExecutor(vm.AT_ONCE) as pool:
        futures = [pool.submit(run, part, kernel, where) for part in PARTS]
        try:
            results = wait_for(futures, step)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            vm.kill_all()
            raise
    rows = [row for part_rows, _ in results for row in part_rows]
    return rows, [line for _, wrong in results for line in wrong]


def wait_for(futures, step):
    """The results of all, or the first failure."""
    while not all(future.done() for future in futures):
        done = [future for future in futures if future.done()]
        for future in done:
            future.result()
        step.now(f"{len(done)} of {len(PARTS)} machines done")
        time.sleep(0.2)
    return [future.result() for future in futures]


def main():
    kernels.stop_in_order()
    try:
        kernel = vm.kernel()
        rows, wrong = boot_all(kernel)
    except (vm.Failure, vm.Refusal, ValueError) as failure:
        say(f"the demo stopped: {failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    kinds = {"cpu": 0, "mmio": 1}
    rows.sort(key=lambda row: kinds[row.kind])
    print(f"Linux {kernel.release}, {vm.accelerator(kernel).upper()}; "
          "two NVMe controllers in each virtual machine")
    print("\n".join(table(rows)))
    wrong += [f"{row.where}, {row.driver}, {row.kind} {row.direction}: "
              f"{row.wrong}" for row in rows if row.wrong]
    if wrong:
        say("\n".join(["", "not as it must be:", *wrong]))
        return 1
    print("""
route     as the handle of the mapping recorded it
verified  checksum and bytes compared with the disk image, outside the virtual
          machine; then the kernel's own NVMe driver read both disks whole, and
          found what the images must hold""")
    return 0


if __name__ == "__main__":
    sys.exit(main())

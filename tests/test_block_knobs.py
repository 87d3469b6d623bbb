# SPDX-License-Identifier: GPL-2.0
"""Both block drivers on controllers whose properties are at their limits.

A row of the table is a boot with two equal controllers, one for each driver. A driver
moves data that is compared with the images outside the machine; what it refuses, it
logs in one line. What QEMU itself refuses is not here: MDTS 0, queues of one entry, a
CMB whose size is no power of two, a controller without MSI-X.
"""

import dataclasses
import pathlib
import random
import re
import tempfile

import pytest

from block_guest import (TIMEOUT, VERIFY, Job, check_step, fio_on_host, step,
                         wait_until, write_program)
from harness import oracle, vm

# Each image: its first bytes are known, the program MOVE writes as many after them,
# and fio writes the range at FIO.
IMAGE_BYTES = 4 << 20
LENGTH = 65536
FIO, FIO_BYTES = 1 << 20, 2 << 20

# move <prefix> <count> <bytes>: for each disk of this prefix, read its first bytes and
# write random data after them. Prints how many were moved, and the SHA-256 of both.
MOVE = """
import hashlib, mmap, os, sys
prefix, count, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
memory = mmap.mmap(-1, length)
for number in range(1, count + 1):
    disk = os.open(f"{prefix}{number}", os.O_RDWR | os.O_DIRECT)
    moved = os.preadv(disk, [memory], 0)
    read = hashlib.sha256(memory[:]).hexdigest()
    memory[:] = os.urandom(length)
    moved += os.pwritev(disk, [memory], length)
    os.close(disk)
    print(moved, read, hashlib.sha256(memory[:]).hexdigest())
"""

# Lines with which the PCI core, and a driver that has fewer queues than processors,
# report what is no failure.
QUIET = re.compile("enabling device|added peer-to-peer DMA memory|PCI INT|"
                   "going on with .* I/O queues")


@dataclasses.dataclass(frozen=True)
class Boot:
    """A row: a name and what differs from QEMU's defaults."""

    name: str
    # Properties of the controllers.
    options: tuple = ()
    # The block sizes of their namespaces; and those of further ones, which the drivers
    # skip.
    blocks: tuple = (512,)
    skipped: tuple = ()
    # Parameters of the modules, and of the kernel.
    parameters: str = ""
    append: str = ""
    memory: str = "1G"
    # The number of I/O queues; None if it may be one or two. And the kind of their
    # interrupts in /proc/interrupts.
    queues: int | None = 2
    interrupts: str = "PCI-MSIX"
    # Attributes of the first disk.
    attributes: tuple = ()
    # A pattern for the only line that each driver logs, "" if it logs none.
    line: str = ""
    # Each disk is read into the CMB of the other controller.
    peers: bool = False
    long: bool = True
    flavour: str = "base"

    def __str__(self):
        return f"{self.flavour}-{self.name}"

    def steps(self):
        """The names of the steps for each driver, in order."""
        return ["bind", *["move", "fio"] * bool(self.blocks),
                *["peer"] * self.peers, "log", "unbind"]

    def run(self, kernel):
        """{(language, step) or name: "" or how it failed}"""
        results = {}
        # Through its host bridge there is a P2P path.
        machine = dataclasses.replace(vm.MACHINES["p2p-bridge"],
                                      memory=self.memory)
        with tempfile.TemporaryDirectory() as directory:
            images = [[image(pathlib.Path(directory), f"{name}{nsid}", size)
                       for nsid, size in enumerate(self.blocks + self.skipped, 1)]
                      for name in "ab"]
            guest = vm.VM(kernel, machine, programs=True, append=self.append,
                          devices=self._devices(machine, images),
                          name=f"knobs-{self}")
            with step(results, "boot"), guest:
                self._run_drivers(guest, images, results)
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
        return results

    def _devices(self, machine, images):
        """QEMU arguments."""
        more = "".join(f",{name}={value}" for name, value in self.options)
        args = []
        for number, slot in enumerate(machine.slots):
            args += ["-device", f"nvme,id=nvme{number},serial=nvme{number},"
                                f"{slot}{more}"]
            for nsid, disk in enumerate(images[number], 1):
                name, size = f"disk{number}-{nsid}", disk.block_size
                args += ["-drive", f"if=none,id={name},format=raw,"
                                   f"file={disk.path}",
                         "-device", f"nvme-ns,drive={name},bus=nvme{number},"
                                    f"nsid={nsid},logical_block_size={size},"
                                    f"physical_block_size={size}"]
        return args

    def _run_drivers(self, guest, images, results):
        write_program(guest, "move", MOVE)
        names = guest.sh("controllers").split()
        assert len(names) == len(vm.DRIVERS) == len(images)
        controllers = [Controller(guest, self, driver, pci, row)
                       for driver, pci, row in
                       zip(vm.DRIVERS.values(), names, images)]
        for language, controller in zip(vm.DRIVERS, controllers):
            for name in ("bind", *["move", "fio"] * bool(self.blocks)):
                with step(results, (language, name)):
                    getattr(controller, name)()
        for language, controller, peer in zip(vm.DRIVERS, controllers,
                                              controllers[::-1]):
            if self.peers:
                with step(results, (language, "peer")):
                    controller.read_into(peer)
        for language, controller in zip(vm.DRIVERS, controllers):
            with step(results, (language, "log")):
                controller.check_log()
            with step(results, (language, "unbind")):
                guest.sh(f"unbind {controller.pci}", TIMEOUT)
        with step(results, "final check"):
            assert guest.final_check() == []


def image(directory, name, block_size):
    """A sparse image whose first bytes are random."""
    disk = oracle.Image(directory / name, name, IMAGE_BYTES, block_size)
    with disk.path.open("r+b") as file:
        file.write(random.Random(name).randbytes(LENGTH))
    return disk


class Controller:
    """A controller that is bound to a driver, and the images of its namespaces."""

    def __init__(self, guest, boot, driver, pci, images):
        self.vm = guest
        self.boot = boot
        self.driver = driver
        self.pci = pci
        # Those of the disks: the driver skips the others.
        self.disks = images[:len(boot.blocks)]
        self.device = ""

    def bind(self):
        """There is a disk for each namespace, with the expected attributes."""
        self.vm.sh(f"load {self.driver} {self.boot.parameters} && "
                   f"bind {self.driver} {self.pci}")
        names = self.vm.sh(f"ls $PCI/devices/{self.pci}/block 2>/dev/null; :"
                           ).split()
        assert len(names) == len(self.disks), names
        if not self.disks:
            return
        self.device = self.vm.sh(f"disk {self.pci} 1")
        name = pathlib.Path(self.device).name
        text = self.vm.sh(f"cd /sys/block/{name} && ls mq | wc -l && "
                          f"cat {' '.join(key for key, _ in self.boot.attributes)} "
                          "/dev/null")
        queues, *values = text.splitlines()
        assert self.boot.queues in (None, int(queues))
        assert values == [value for _, value in self.boot.attributes]
        lines = self.vm.sh(f"grep -w {self.driver}0q1 /proc/interrupts").splitlines()
        assert len(lines) == 1 and self.boot.interrupts in lines[0], lines

    def move(self):
        """The first data of all disks is right, and written data is on the image."""
        prefix = self.device.removesuffix("1")
        lines = self.vm.sh(f"python3 /tmp/move.py {prefix} {len(self.disks)} "
                           f"{LENGTH}").splitlines()
        assert len(lines) == len(self.disks), lines
        for disk, line in zip(self.disks, lines):
            assert line.split() == [str(2 * LENGTH)] + [
                oracle.sha256(disk.read(offset, LENGTH))
                for offset in (0, LENGTH)], disk.serial

    def fio(self):
        """On the last disk. The image is verified again, outside."""
        disk = self.disks[-1]
        size = disk.block_size
        options = (f"--rw=randwrite --bsrange={size}-{max(size, 65536)} "
                   f"--offset={FIO} --size={FIO_BYTES} --iodepth=32 "
                   f"--ioengine=libaio {VERIFY}")
        device = self.device.removesuffix("1") + str(len(self.disks))
        result = Job(self, device, options).result()
        assert result.ok and result.written == FIO_BYTES, result
        assert fio_on_host(disk, f"{options} --verify_only").ok

    def read_into(self, peer):
        """The first bytes of the disk, into the CMB of the other controller."""
        digest = self.vm.sh(f"peer_io read {self.device} {peer.pci} 0 {LENGTH}")
        assert digest == oracle.sha256(self.disks[0].read(0, LENGTH))

    def lines(self):
        """What the driver has logged of the controller."""
        return [line for line in self.vm.console().splitlines()
                if f"] {self.driver} {self.pci}: " in line
                and not QUIET.search(line)]

    def check_log(self):
        """Nothing, or the line that is expected; also no missed interrupt."""
        if self.boot.line:
            wait_until(self.lines, message=lambda: f"no '{self.boot.line}'")
            # Loading a driver probes all controllers, and binding one probes it again.
            assert len({line.split("] ")[1] for line in self.lines()}) == 1
            assert re.search(self.boot.line, self.lines()[0])
        else:
            assert self.lines() == []


# --- the table ------------------------------------------------------------------

def megabytes(count):
    return ("device/p2pmem/size", str(count << 20))


# A line of a driver that skips a namespace, with the exponent of its block size.
SKIPPED = r"namespace {}\b.*blocks of 2\^{} bytes"

BOOTS = [
    # A queue of two entries has one request in flight.
    Boot("mqes-1", (("mqes", 1),), long=False,
         attributes=(("queue/nr_requests", "1"),)),
    Boot("one-vector", (("msix_qsize", 1),), queues=1, long=False),
    Boot("no-msi", append="pci=nomsi", queues=1, interrupts="IO-APIC", long=False),
    Boot("blocks", blocks=(512, 1024, 2048, 4096, 8192, 16384), long=False),
    # The drivers have at most 4096 entries, one of which stays empty.
    Boot("mqes-65535", (("mqes", 65535),), parameters="depth=65535",
         attributes=(("queue/nr_requests", "4095"),)),
    Boot("one-queue", (("max_ioqpairs", 1),), queues=1),
    Boot("queues-65535", (("max_ioqpairs", 65535),)),
    # A block must not be larger than a transfer.
    Boot("mdts-1", (("mdts", 1),), blocks=(512, 4096), skipped=(16384,),
         line=SKIPPED.format(3, 14),
         attributes=(("queue/max_hw_sectors_kb", "8"),)),
    # The drivers have a limit of 1 MiB.
    Boot("mdts-9", (("mdts", 9),),
         attributes=(("queue/max_hw_sectors_kb", "1024"),)),
    # Less than a subsection, which is the least that has pages.
    Boot("cmb-64", (("cmb_size_mb", 64),), attributes=(megabytes(64),), peers=True),
    # Registers as before version 1.4.
    Boot("cmb-legacy", (("cmb_size_mb", 16), ("legacy-cmb", "on")),
         attributes=(megabytes(16),), peers=True),
    Boot("namespaces-0", blocks=()),
    Boot("namespaces-256", blocks=(512,) * 256),
    Boot("msix-bar", (("msix-exclusive-bar", "on"),)),
    Boot("intel-id", (("use-intel-id", "on"),)),
    Boot("memory-192", memory="192M", parameters="depth=65535", queues=None),
]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, name, id=f"{boot}-{language}-{name}")
    for boot in BOOTS for language in vm.DRIVERS for name in boot.steps()])
def test_driver(booted, boot, language, name):
    check_step(booted(boot), (language, name))


@pytest.mark.parametrize("name", ["boot", "final check", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, name):
    check_step(booted(boot), name)

# SPDX-License-Identifier: GPL-2.0
"""One controller's disk, another one's memory, and a program between them.

The program maps the memory that a controller lends (p2pmem/allocate in sysfs)
and gives it to O_DIRECT reads and writes of the other controller's disk: no byte
of it passes through RAM. What comes of it is compared with the images, outside.
"""

import dataclasses
import errno
import functools
import os
import pathlib
import tempfile
import traceback

import pytest

import oracle
import vm
from block_guest import PATIENCE, outcome, wait

SIZES = [4096, 12288, 131072, 1 << 20]
ROUNDS = 3

# One request whose first half is for the other's memory, the second for RAM.
MIXED = """
import hashlib, mmap, os, sys
device, peer, offset, half = sys.argv[1:]
half = int(half)
lent = os.open(f"/sys/bus/pci/devices/{peer}/p2pmem/allocate", os.O_RDWR)
parts = [mmap.mmap(lent, half), mmap.mmap(-1, half)]
disk = os.open(device, os.O_DIRECT)
try:
    moved = os.preadv(disk, parts, int(offset))
except OSError as error:
    sys.exit(error.strerror)
print(hashlib.sha256((parts[0][:] + parts[1][:])[:moved]).hexdigest(), moved)
""".strip().replace("\n", "\\n")

# Reads into the other's memory until that is taken away.
UNTIL_GONE = """
import mmap, os, sys
device, peer = sys.argv[1:]
lent = os.open(f"/sys/bus/pci/devices/{peer}/p2pmem/allocate", os.O_RDWR)
memory = mmap.mmap(lent, 65536)
disk = os.open(device, os.O_DIRECT)
reads = 0
try:
    while True:
        reads += os.preadv(disk, [memory], 0) == 65536
        open("/tmp/reads", "w").write(str(reads))
except OSError as error:
    sys.exit(error.strerror)
""".strip().replace("\n", "\\n")


def python(text, *arguments):
    """A line of shell that runs it."""
    words = " ".join(map(str, arguments))
    return f"printf '{text}' >/tmp/program && python3 /tmp/program {words}"


class Pair:
    """Two controllers of a machine, and a driver that holds both."""

    def __init__(self, guest, driver, controllers):
        self.vm = guest
        self.driver = driver
        self.a, self.b = controllers
        self.route = guest.machine.mmio

    def bind(self, *controllers):
        names = " ".join(each.pci for each in controllers)
        self.vm.sh(f"load {self.driver} && bind {self.driver} {names}")
        for each in controllers:
            each.device()

    def both_ways(self):
        return (self.a, self.b), (self.b, self.a)


# --- what is done ---------------------------------------------------------------

def right(result, route):
    assert result == (route, True, "")


def bytes_move_without_memory(pair):
    for each, peer in pair.both_ways():
        for size in SIZES:
            right(each.peer_read(peer, size), pair.route)
            right(each.peer_write(peer, size), pair.route)


def memory_is_used_as_well(pair):
    """Nothing of the way to a peer sticks to the controller."""
    for each, _ in pair.both_ways():
        right(each.read(65536), pair.vm.machine.cpu)
        right(each.write(65536), pair.vm.machine.cpu)


def fio_finds_what_it_wrote(pair):
    lent = f"/sys/bus/pci/devices/{pair.b.pci}/p2pmem/allocate"
    at = pair.a.disk.take(1 << 20)
    pair.vm.sh("fio --name=peer --direct=1 --rw=randwrite --verify=crc32c "
               f"--filename={pair.a.device()} --mem=mmapshared:{lent} "
               "--ioengine=libaio --iodepth=8 --bsrange=4k-64k "
               f"--offset={at} --size=1m")
    pair.a.disk.expect(at, pair.a.disk.read(at, 1 << 20))
    assert pair.vm.sh(f"cat {lent.replace('allocate', 'available')}") == \
        str(vm.CMB_BYTES)


def one_read_into_both_is_right_or_refused(pair):
    half = 65536
    said = pair.vm.ask(python(MIXED, pair.a.device(), pair.b.pci, 0, half)).out
    if said == os.strerror(errno.EINVAL):
        return
    digest, moved = said.split()
    assert int(moved) in (half, 2 * half)
    assert digest == oracle.sha256(pair.a.disk.region(0, int(moved)))


def lender_leaves_while_used(pair):
    """The program is told, and the lender's driver does not wait for it."""
    reads = python(UNTIL_GONE, pair.a.device(), pair.b.pci)
    for _ in range(ROUNDS):
        pair.vm.sh("rm -f /tmp/reads /tmp/ended; "
                   f"({reads}; echo $? >/tmp/ended) >/tmp/said 2>&1 &")
        wait(lambda: not pair.vm.ask("[ -s /tmp/reads ]").code)
        pair.vm.sh(f"unbind {pair.b.pci}", PATIENCE)
        wait(lambda: pair.vm.ask("cat /tmp/ended").out == "1")
        assert pair.vm.sh("cat /tmp/said") == os.strerror(errno.EFAULT)
        pair.bind(pair.b)
    memory_is_used_as_well(pair)
    bytes_move_without_memory(pair)


def peers_are_refused(pair):
    """Each time, and the controller goes on with what it can do."""
    for each, peer in pair.both_ways():
        for move in (each.peer_read, each.peer_write):
            _, good, error = move(peer, 8192)
            assert not good
            assert error.endswith(os.strerror(errno.EREMOTEIO))
    memory_is_used_as_well(pair)


# --- a boot ---------------------------------------------------------------------

ALLOWED = [bytes_move_without_memory, memory_is_used_as_well,
           fio_finds_what_it_wrote, one_read_into_both_is_right_or_refused,
           lender_leaves_while_used]


@dataclasses.dataclass(frozen=True)
class Boot:
    """One kernel on one machine, with both drivers one after the other."""

    flavour: str
    machine: str
    long: bool = False

    def __str__(self):
        return f"{self.flavour}-{self.machine}"

    def steps(self):
        refused = vm.MACHINES[self.machine].mmio == "refused"
        functions = [peers_are_refused] if refused else ALLOWED
        return {f"{language}-{function.__name__}":
                functools.partial(self._step, language, function)
                for language in vm.DRIVERS for function in functions}

    @staticmethod
    def _step(language, function, guest, controllers):
        pair = Pair(guest, vm.DRIVERS[language], controllers)
        if guest.sh(f"driver {pair.a.pci}") != pair.driver:
            pair.bind(pair.a, pair.b)
        function(pair)

    def run(self, kernel):
        """{step, or what else there is: "" or how it failed}"""
        machine = vm.MACHINES[self.machine]
        found = {}
        with tempfile.TemporaryDirectory() as directory:
            disks = [oracle.Disk(pathlib.Path(directory, name), f"disk-{name}",
                                 size=48 << 20, block_size=size)
                     for name, size in (("a", 512), ("b", 4096))]
            guest = vm.VM(kernel, machine, devices=vm.nvme(machine, disks),
                          append="dma_phys.debug=1", programs=True,
                          name=f"block-peers-{self}")
            at = "boot"
            try:
                with guest:
                    controllers = [
                        oracle.Controller(guest, name, disk) for name, disk
                        in zip(guest.sh("controllers").split(), disks)]
                    for step, function in self.steps().items():
                        found[at] = ""
                        at = step
                        guest.sh(f"echo step: {step} >/dev/kmsg")
                        function(guest, controllers)
                    found[at] = ""
                    at = "last look"
                    guest.sh("; ".join(f"unbind {each.pci}"
                                       for each in controllers))
                    assert guest.last_look() == []
                found[at] = ""
            except Exception:  # the test that asks for it fails with it
                found[at] = traceback.format_exc()
            for disk in disks:
                if disk.differs() is not None:
                    found["images"] = \
                        f"{disk.serial} differs at byte {disk.differs()}"
        found.setdefault("images", "")
        found["log"] = "\n".join([*guest.reports(), guest.where()]
                                 if guest.reports() else [])
        return found


# --- the tests ------------------------------------------------------------------

BOOTS = [Boot("base", machine) for machine in
         ("p2p-bus", "p2p-bridge", "p2p-iommu", "amd", "p2p-refused")] \
    + [Boot("debug", "p2p-iommu"), Boot("debug", "p2p-bus", long=True)]


@pytest.mark.parametrize("boot,step", [
    pytest.param(boot, step, id=f"{boot}-{step}") for boot in BOOTS
    for step in ["boot", *boot.steps(), "last look", "images", "log"]])
def test_block_peers(booted, boot, step):
    outcome(booted(boot), step)

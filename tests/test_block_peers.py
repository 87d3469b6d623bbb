# SPDX-License-Identifier: GPL-2.0
"""Data moves between the disk of one controller and the memory of another one.

A program maps the CMB of a controller (p2pmem/allocate in sysfs) and passes it to
O_DIRECT reads and writes of the other controller's disk, so that no byte passes
through RAM. The data is compared with the images, outside the machine.
"""

import dataclasses
import errno
import functools
import os
import pathlib
import tempfile
import traceback

import pytest

from block_guest import TIMEOUT, check_step, wait_until
from harness import oracle, vm

SIZES = [4096, 12288, 131072, 1 << 20]
ROUNDS = 3

# One read, whose first half is for the CMB of the other controller, and whose second
# half is for RAM.
MIXED = """
import hashlib, mmap, os, sys
device, peer, offset, half = sys.argv[1:]
half = int(half)
cmb = os.open(f"/sys/bus/pci/devices/{peer}/p2pmem/allocate", os.O_RDWR)
parts = [mmap.mmap(cmb, half), mmap.mmap(-1, half)]
disk = os.open(device, os.O_DIRECT)
try:
    moved = os.preadv(disk, parts, int(offset))
except OSError as error:
    sys.exit(error.strerror)
print(hashlib.sha256((parts[0][:] + parts[1][:])[:moved]).hexdigest(), moved)
""".strip().replace("\n", "\\n")

# Reads into the CMB of the other controller until that is removed.
UNTIL_REMOVED = """
import mmap, os, sys
device, peer = sys.argv[1:]
cmb = os.open(f"/sys/bus/pci/devices/{peer}/p2pmem/allocate", os.O_RDWR)
memory = mmap.mmap(cmb, 65536)
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
    """A line of shell that runs a program."""
    words = " ".join(map(str, arguments))
    return f"printf '{text}' >/tmp/program && python3 /tmp/program {words}"


class Pair:
    """Two controllers of a machine, bound to one driver."""

    def __init__(self, guest, driver, controllers):
        self.vm = guest
        self.driver = driver
        self.a, self.b = controllers
        self.route = guest.machine.mmio_route

    def bind(self, *controllers):
        names = " ".join(each.pci for each in controllers)
        self.vm.sh(f"load {self.driver} && bind {self.driver} {names}")
        for controller in controllers:
            controller.device()

    def both_orders(self):
        return (self.a, self.b), (self.b, self.a)


# --- steps ----------------------------------------------------------------------

def check_transfer(transfer, route):
    assert transfer == (route, True, "")


def data_moves_between_peers(pair):
    for controller, peer in pair.both_orders():
        for size in SIZES:
            check_transfer(controller.peer_read(peer, size), pair.route)
            check_transfer(controller.peer_write(peer, size), pair.route)


def memory_has_its_own_route(pair):
    """A transfer to a peer does not change the route of memory."""
    for controller, _ in pair.both_orders():
        route = pair.vm.machine.cpu_route
        check_transfer(controller.read(65536), route)
        check_transfer(controller.write(65536), route)


def fio_verifies_through_a_peer(pair):
    cmb = f"/sys/bus/pci/devices/{pair.b.pci}/p2pmem"
    offset = pair.a.disk.allocate(1 << 20)
    pair.vm.sh("fio --name=peer --direct=1 --rw=randwrite --verify=crc32c "
               f"--filename={pair.a.device()} --mem=mmapshared:{cmb}/allocate "
               "--ioengine=libaio --iodepth=8 --bsrange=4k-64k "
               f"--offset={offset} --size=1m")
    pair.a.disk.expect(offset, pair.a.disk.read(offset, 1 << 20))
    assert pair.vm.sh(f"cat {cmb}/available") == str(vm.CMB_BYTES)


def read_into_peer_and_memory_is_right_or_refused(pair):
    half = 65536
    out = pair.vm.try_sh(python(MIXED, pair.a.device(), pair.b.pci, 0, half)).out
    if out == os.strerror(errno.EINVAL):
        return
    digest, moved = out.split()
    assert int(moved) in (half, 2 * half)
    assert digest == oracle.sha256(pair.a.disk.expected_data(0, int(moved)))


def owner_is_unbound_while_used(pair):
    """The unbind does not wait for the program, whose next read fails."""
    program = python(UNTIL_REMOVED, pair.a.device(), pair.b.pci)
    for _ in range(ROUNDS):
        pair.vm.sh("rm -f /tmp/reads /tmp/code; "
                   f"({program}; echo $? >/tmp/code) >/tmp/out 2>&1 &")
        wait_until(lambda: not pair.vm.try_sh("[ -s /tmp/reads ]").code)
        pair.vm.sh(f"unbind {pair.b.pci}", TIMEOUT)
        wait_until(lambda: pair.vm.try_sh("cat /tmp/code").out == "1")
        assert pair.vm.sh("cat /tmp/out") == os.strerror(errno.EFAULT)
        pair.bind(pair.b)
    memory_has_its_own_route(pair)
    data_moves_between_peers(pair)


def peers_are_refused(pair):
    """Each time, and transfers to memory still work."""
    for controller, peer in pair.both_orders():
        for transfer in (controller.peer_read, controller.peer_write):
            _, is_good, error = transfer(peer, 8192)
            assert not is_good
            assert error.endswith(os.strerror(errno.EINVAL))
    # Once for each controller.
    assert pair.vm.sh(f"dmesg | grep -c '] {pair.driver} .*: no P2P path'") == "2"
    memory_has_its_own_route(pair)


# --- a boot ---------------------------------------------------------------------

STEPS = [data_moves_between_peers, memory_has_its_own_route,
         fio_verifies_through_a_peer,
         read_into_peer_and_memory_is_right_or_refused,
         owner_is_unbound_while_used]


@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel on a machine, with both drivers one after the other."""

    flavour: str
    machine: str
    long: bool = False

    def __str__(self):
        return f"{self.flavour}-{self.machine}"

    def steps(self):
        """{name: function}, in order"""
        is_refused = vm.MACHINES[self.machine].mmio_route == "refused"
        return {f"{language}-{function.__name__}":
                functools.partial(self._step, language, function)
                for language in vm.DRIVERS
                for function in ([peers_are_refused] if is_refused else STEPS)}

    @staticmethod
    def _step(language, function, guest, controllers):
        pair = Pair(guest, vm.DRIVERS[language], controllers)
        if guest.sh(f"driver {pair.a.pci}") != pair.driver:
            pair.bind(pair.a, pair.b)
        function(pair)

    def run(self, kernel):
        """{step, "boot", "images" or "log": "" or how it failed}"""
        machine = vm.MACHINES[self.machine]
        results = {}
        with tempfile.TemporaryDirectory() as directory:
            disks = [oracle.Disk(pathlib.Path(directory, name), f"disk-{name}",
                                 size=48 << 20, block_size=size)
                     for name, size in (("a", 512), ("b", 4096))]
            guest = vm.VM(kernel, machine, devices=vm.nvme(machine, disks),
                          append="dma_phys.debug=1", programs=True,
                          name=f"block-peers-{self}")
            step = "boot"
            try:
                with guest:
                    controllers = [
                        oracle.Controller(guest, name, disk) for name, disk
                        in zip(guest.sh("controllers").split(), disks)]
                    for next_step, function in self.steps().items():
                        results[step] = ""
                        step = next_step
                        guest.sh(f"echo step: {step} >/dev/kmsg")
                        function(guest, controllers)
                    results[step] = ""
                    step = "final check"
                    guest.sh("; ".join(f"unbind {controller.pci}"
                                       for controller in controllers))
                    assert guest.final_check() == []
                results[step] = ""
            except Exception:  # the test of this step fails with it
                results[step] = traceback.format_exc()
            results["images"] = "\n".join(
                f"{disk.serial} differs at byte {disk.first_difference()}"
                for disk in disks if disk.first_difference() is not None)
        results["log"] = "\n".join([*guest.reports(), guest.full_log()]
                                   if guest.reports() else [])
        return results


# --- the tests ------------------------------------------------------------------

# amd has the routes of p2p-iommu, with another IOMMU.
BOOTS = [Boot("base", machine) for machine in
         ("p2p-bus", "p2p-bridge", "p2p-iommu", "p2p-refused")] \
    + [Boot("base", "amd", long=True), Boot("debug", "p2p-iommu", long=True),
       Boot("debug", "p2p-bus", long=True)]


@pytest.mark.parametrize("boot,step", [
    pytest.param(boot, step, id=f"{boot}-{step}") for boot in BOOTS
    for step in ["boot", *boot.steps(), "final check", "images", "log"]])
def test_block_peers(booted, boot, step):
    check_step(booted(boot), step)

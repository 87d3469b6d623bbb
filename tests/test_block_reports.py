# SPDX-License-Identifier: GPL-2.0
"""What was reported of other drivers and of the kernel does not happen here.

Memory of a DAX file and odd vectors are buffers for O_DIRECT. With --long, between
peers: a million requests leak no memory, an owner can be unbound after maps of its
memory have failed, and its memory is used while it is reset.
"""

import dataclasses
import json
import pathlib
import tempfile
import time

import pytest

from block_guest import (TIMEOUT, VECTORS, Job, check_moved, check_odd_vectors,
                         check_step, step, wait_until, write_program)
from harness import oracle, vm

# Programs of the guest, as /tmp/<name>.py.
PROGRAMS = {
    "vectors": VECTORS,
    # dax <disk> <verb>:<offset>:<start>:<length>...: move data between the disk and a
    # range of a DAX file. Prints bytes, the SHA-256 of the range as read() returns it,
    # and whether the bytes around it are unchanged.
    "dax": """
import hashlib, mmap, os, sys
disk = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
file = os.open("/tmp/dax/file", os.O_RDWR | os.O_CREAT)
os.posix_fallocate(file, 0, 4 << 20)
memory = memoryview(mmap.mmap(file, 4 << 20))
for word in sys.argv[2:]:
    verb, *numbers = word.split(":")
    offset, start, length = map(int, numbers)
    memory[:] = os.urandom(len(memory))
    around = [memory[:start], memory[start + length:]]
    before = [bytes(each) for each in around]
    part = memory[start:start + length]
    moved = (os.preadv if verb == "read" else os.pwritev)(disk, [part], offset)
    digest = hashlib.sha256(os.pread(file, length, start)).hexdigest()
    print(moved, digest, around == before)
""",
    # owner <disk> <peer> <length> <SHA-256>...: read the first ranges of the disk into
    # the CMB of the peer, again and again until /tmp/stop exists. While the peer is
    # reset, the CPU reads something else there: what is wrong is read again. Each
    # range differs from the one before it, which is what a lost write leaves.
    "owner": """
import collections, errno, hashlib, itertools, json, mmap, os, sys, time
device, peer, length, *digests = sys.argv[1:]
length = int(length)
cmb = os.open(f"/sys/bus/pci/devices/{peer}/p2pmem/allocate", os.O_RDWR)
memory = mmap.mmap(cmb, length)
disk = os.open(device, os.O_DIRECT)
count = collections.Counter(good=0, wrong=0)
def is_good(digest):
    for _ in range(50):
        if hashlib.sha256(memory[:]).hexdigest() == digest:
            return True
        time.sleep(0.1)
    return False
for number, digest in itertools.cycle(enumerate(digests)):
    if os.path.exists("/tmp/stop"):
        break
    try:
        moved = os.preadv(disk, [memory], number * length)
    except OSError as error:
        count[errno.errorcode[error.errno]] += 1
    else:
        is_right = moved == length and is_good(digest)
        count["good" if is_right else "wrong"] += 1
    with open("/tmp/reads", "w") as file:
        print(sum(count.values()), file=file)
print(json.dumps(count))
""",
    # mmap <peer> <failures>: map the CMB of the peer until so many maps have failed,
    # each at another allocation of this task. Prints the numbers of failures and maps.
    "map_peer": """
import mmap, os, sys
peer, wanted = sys.argv[1], int(sys.argv[2])
cmb = os.open(f"/sys/bus/pci/devices/{peer}/p2pmem/allocate", os.O_RDWR)
nth = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
failed = tries = 0
while failed < wanted and tries < 20 * wanted:
    # The first map loads what Python needs for it.
    os.write(nth, str(tries and 1 + tries % 6).encode())
    try:
        mmap.mmap(cmb, 4 << 20).close()
    except OSError:
        failed += 1
    os.write(nth, b"0")
    tries += 1
print(failed, tries)
""",
}

# Persistent memory, within the first 2 GiB: that memory is below the devices.
MEMORY, PERSISTENT = "3G", "memmap=64M!1G"

# Range of a DAX file: in whole pages, and aligned to 4 bytes only.
DAX_RANGES = [(0, 1 << 20), (516, 12288)]

# Requests of 4 KiB; and how much less memory is free after them: 4 bytes for each.
REQUESTS = 1 << 20
MAX_LEAK = 4 * REQUESTS
# Maximum seconds for these requests.
REQUESTS_TIMEOUT = 1800

RESETS = 50
# Number of ranges that are read meanwhile, and their length.
RANGES, RANGE = 16, 16384

FAILURES = 1000
# Maximum seconds of the unbind after them.
UNBIND_SECONDS = 5


class Machine:
    """Two controllers of a machine, both bound to one driver."""

    def __init__(self, guest, driver, controllers):
        self.vm = guest
        self.driver = driver
        self.controllers = controllers
        self.sgl = True

    @property
    def names(self):
        return " ".join(each.pci for each in self.controllers)

    def bind(self):
        self.vm.sh(f"load {self.driver} && bind {self.driver} {self.names}")
        for controller in self.controllers:
            controller.device()

    def unbind(self):
        self.vm.sh(f"for name in {self.names}; do unbind $name; done", TIMEOUT)

    def without_sgl(self):
        """Load the driver again, so that it uses PRP entries."""
        self.unbind()
        self.vm.sh(f"rmmod {self.driver} && load {self.driver} sgl=0")
        self.bind()
        self.sgl = False
        self.vm.read_trace()

    def both_orders(self):
        a, b = self.controllers
        return (a, b), (b, a)

    def check_peers(self):
        """Data still moves between the disk of each and the memory of the other."""
        for controller, peer in self.both_orders():
            for transfer in (controller.peer_read, controller.peer_write):
                assert transfer(peer, 131072) == \
                    (self.vm.machine.mmio_route, True, "")


# --- DAX ------------------------------------------------------------------------

def mount_dax(guest):
    """Mount a file system on persistent memory. Without DAX it is not mounted."""
    guest.sh("load nd_pmem && load nd_e820 && wait_device /dev/pmem0 && "
             "mkfs.ext4 -q -F -b 4096 /dev/pmem0 && mkdir -p /tmp/dax && "
             "mount -t ext4 -o dax /dev/pmem0 /tmp/dax")


def dax_memory_is_a_buffer(m):
    """The disk reads and writes it, by the route of other memory."""
    for controller in m.controllers:
        disk = controller.disk
        moves = [(verb, 0 if verb == "read" else disk.allocate(length),
                  start, length)
                 for verb in ("read", "write") for start, length in DAX_RANGES]
        words = " ".join(":".join(map(str, move)) for move in moves)
        routes, *lines = m.vm.sh("trace_routes python3 /tmp/dax.py "
                                 f"{controller.device()} {words}").splitlines()
        assert routes == f"routes {m.vm.machine.cpu_route}"
        assert len(lines) == len(moves), lines
        for (verb, offset, _, length), line in zip(moves, lines):
            check_moved(disk, verb, offset, length, line)


# --- odd vectors ----------------------------------------------------------------

def odd_vectors_are_right_or_invalid(m):
    m.vm.read_trace()
    for controller in m.controllers:
        check_odd_vectors(m.vm, controller.device(), controller.disk, m.sgl)
    has_sgl = any(event == "pci_nvme_map_sgl" for event, _ in m.vm.read_trace())
    assert has_sgl == m.sgl


def without_sgl_as_well(m):
    m.without_sgl()
    dax_memory_is_a_buffer(m)
    odd_vectors_are_right_or_invalid(m)


# --- peers ----------------------------------------------------------------------

def p2pmem(controller):
    return f"/sys/bus/pci/devices/{controller.pci}/p2pmem"


def check_cmb_is_free(m, controller):
    available = m.vm.sh(f"cat {p2pmem(controller)}/available")
    assert available == str(vm.CMB_BYTES)


def memory(m):
    """{name: bytes} of /proc/meminfo, without caches."""
    text = m.vm.sh("sync; echo 3 >/proc/sys/vm/drop_caches; sleep 2; "
                   "grep ' kB$' /proc/meminfo")
    return {name.rstrip(":"): int(size) << 10 for name, size, _ in
            map(str.split, text.splitlines())}


def million_requests_leak_no_memory(m):
    """Of a fio whose memory is the CMB of the other controller."""
    a, b = m.controllers
    start, size = 32 << 20, 16 << 20
    options = (f"--mem=mmapshared:{p2pmem(b)}/allocate --rw=randrw --bs=4k "
               "--norandommap --ioengine=libaio --iodepth=16 "
               f"--offset={start} --size={size}")

    def run(count):
        result = Job(m, a.device(), f"{options} --io_size={count << 12}").result(
            REQUESTS_TIMEOUT)
        assert result.ok, result
        return (result.read + result.written) >> 12

    run(REQUESTS // 64)
    before = memory(m)
    assert run(REQUESTS) >= REQUESTS
    after = memory(m)
    a.disk.expect(start, a.disk.read(start, size))
    assert after["MemAvailable"] > before["MemAvailable"] - MAX_LEAK, (before, after)
    assert after["Slab"] < before["Slab"] + MAX_LEAK, (before, after)
    check_cmb_is_free(m, b)
    m.check_peers()


def owner_is_reset_under_load(m):
    """Each read into its memory is right, or fails with an errno."""
    a, b = m.controllers
    digests = [oracle.sha256(a.disk.expected_data(number * RANGE, RANGE))
               for number in range(RANGES)]
    m.vm.sh("rm -f /tmp/stop /tmp/reads; start_job owner 'python3 /tmp/owner.py "
            f"{a.device()} {b.pci} {RANGE} {' '.join(digests)}'")
    wait_until(lambda: not m.vm.try_sh("[ -s /tmp/reads ]").code)
    m.vm.read_trace()
    for _ in range(RESETS):
        m.vm.sh(f"echo 1 >/sys/bus/pci/devices/{b.pci}/reset; usleep 200000",
                TIMEOUT)
    end = m.vm.try_sh(f"touch /tmp/stop; wait_job owner {TIMEOUT}", 2 * TIMEOUT)
    assert not end.code, end.out
    resets = [event for event, _ in m.vm.read_trace()
              if event == "pci_nvme_pci_reset"]
    assert len(resets) == RESETS
    count = json.loads(end.out)
    assert count["wrong"] == 0, count
    assert count["good"] >= RESETS, count
    for controller in m.controllers:
        assert controller.read(65536) == (m.vm.machine.cpu_route, True, "")
    m.check_peers()


def failing_maps_hold_nothing(m):
    """Maps of a CMB fail because there is no page table; then its owner is unbound."""
    owner = m.controllers[1]
    m.vm.sh("cd $DEBUG; echo 0 >failslab/verbose; cd fail_page_alloc; "
            "echo 0 >verbose; echo 0 >min-order; echo N >ignore-gfp-wait")
    end = m.vm.try_sh(f"python3 /tmp/map_peer.py {owner.pci} {FAILURES}",
                      REQUESTS_TIMEOUT)
    m.vm.sh("cd $DEBUG/fail_page_alloc; echo 1 >min-order; "
            "echo Y >ignore-gfp-wait")
    assert not end.code, end.out
    failed, tries = map(int, end.out.split())
    assert failed == FAILURES < tries
    check_cmb_is_free(m, owner)
    start = time.monotonic()
    m.vm.sh(f"unbind {owner.pci}", TIMEOUT)
    assert time.monotonic() - start < UNBIND_SECONDS
    m.bind()
    m.check_peers()


# --- a boot ---------------------------------------------------------------------

BUFFERS = (dax_memory_is_a_buffer, odd_vectors_are_right_or_invalid,
           without_sgl_as_well)
PEERS = (owner_is_reset_under_load, million_requests_leak_no_memory)
MMAPS = (failing_maps_hold_nothing,)


@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel on a machine, with both drivers one after the other."""

    flavour: str
    name: str
    functions: tuple
    long: bool = False

    def __str__(self):
        return f"{self.flavour}-{self.name}"

    @property
    def has_dax(self):
        return dax_memory_is_a_buffer in self.functions

    @property
    def machine(self):
        machine = vm.MACHINES[self.name]
        if not self.has_dax:
            return machine
        return dataclasses.replace(machine, memory=MEMORY,
                                   append=f"{machine.append} {PERSISTENT}")

    def run(self, kernel):
        """{step: "" or how it failed}"""
        results = {}
        with tempfile.TemporaryDirectory() as directory:
            disks = [oracle.Disk(pathlib.Path(directory, name), f"disk-{name}",
                                 size=48 << 20, block_size=size)
                     for name, size in (("a", 512), ("b", 4096))]
            guest = vm.VM(kernel, self.machine, programs=True,
                          devices=vm.nvme(self.machine, disks),
                          append="dma_phys.debug=1",
                          trace=["pci_nvme_map_sgl", "pci_nvme_pci_reset"],
                          name=f"block-reports-{self}")
            with step(results, "boot"), guest:
                self._run_all(guest, disks, results)
            with step(results, "images"):
                for disk in disks:
                    assert disk.first_difference() is None, disk.serial
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
        return results

    def _run_all(self, guest, disks, results):
        for name, text in PROGRAMS.items():
            write_program(guest, name, text)
        if self.has_dax:
            mount_dax(guest)
        controllers = [oracle.Controller(guest, name, disk) for name, disk
                       in zip(guest.sh("controllers").split(), disks)]
        assert len(controllers) == len(disks)
        for language, driver in vm.DRIVERS.items():
            m = Machine(guest, driver, controllers)
            with step(results, (language, "bind")):
                m.bind()
            for function in self.functions:
                name = language, function.__name__
                guest.sh(f"echo step: {' '.join(name)} >/dev/kmsg")
                with step(results, name):
                    function(m)
            with step(results, (language, "unbind")):
                m.unbind()
        with step(results, "final check"):
            if self.has_dax:
                guest.sh("umount /tmp/dax")
            assert guest.final_check() == []


# --- the tests ------------------------------------------------------------------

BOOTS = [Boot("base", machine, BUFFERS)
         for machine in ("direct", "bounce", "intel-lazy")] \
    + [Boot("base", "p2p-bus", PEERS, long=True),
       Boot("debug", "p2p-bus", MMAPS, long=True)]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, name, id=f"{boot}-{language}-{name}")
    for boot in BOOTS for language in vm.DRIVERS
    for name in ["bind", *(function.__name__ for function in boot.functions),
                 "unbind"]])
def test_driver(booted, boot, language, name):
    check_step(booted(boot), (language, name))


@pytest.mark.parametrize("name", ["boot", "final check", "images", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, name):
    check_step(booted(boot), name)

# SPDX-License-Identifier: GPL-2.0
"""Both block drivers with a controller that does what QEMU's cannot.

It is a program of the host: see fake_nvme.py. It completes commands twice, late or
never, with any status; it has other limits, and keeps accessing memory after it was
disabled. Its commands are recorded, so a test sees what a driver has sent, and when.
"""

import dataclasses
import errno
import hashlib
import itertools
import pathlib
import tempfile
import time

import pytest

import fake_nvme
from block_guest import (REQUEST_TIMEOUT_MS, TIMEOUT, VERIFY, WRITE, Controller,
                         Guest, check_step, step, wait_until, write_program)
from fake_commands import (CRD_SHIFT, DISK_BYTES, DNR, FEATURE_HOST_BEHAVIOR,
                           INTERNAL, INVALID_FIELD, LOG_BYTE, Properties)
from fake_nvme import Rule
from harness import vm

# Programs of the guest, as /tmp/<name>.py.
PROGRAMS = {
    # move <disk> <verb>:<offset>:<length>...: read or write random data, one after the
    # other, with O_DIRECT. Prints how many bytes were moved or a negative errno, the
    # SHA-256 of the memory, and how many seconds it took. One line if it cannot open
    # the disk.
    "move": """
import hashlib, mmap, os, sys, time
words = [word.split(":") for word in sys.argv[2:]]
mode = os.O_RDWR if any(verb == "write" for verb, *_ in words) else os.O_RDONLY
try:
    disk = os.open(sys.argv[1], mode | os.O_DIRECT)
except OSError as error:
    print(-error.errno, "-", 0)
    sys.exit()
for verb, offset, length in words:
    memory = mmap.mmap(-1, int(length))
    if verb == "write":
        memory[:] = os.urandom(len(memory))
    move = os.preadv if verb == "read" else os.pwritev
    start = time.monotonic()
    try:
        result = move(disk, [memory], int(offset))
    except OSError as error:
        result = -error.errno
    seconds = time.monotonic() - start
    print(result, hashlib.sha256(memory[:]).hexdigest(), seconds)
""",
    # log <disk> <ms>: read a log page with NVME_IOCTL_ADMIN_CMD and this time limit.
    # Prints the status or a negative errno, the SHA-256 of the page, and seconds.
    "log": """
import ctypes, fcntl, hashlib, os, struct, sys, time
disk = os.open(sys.argv[1], os.O_RDONLY)
memory = ctypes.create_string_buffer(512)
command = bytearray(struct.pack(
    "<BBHIIIQQ10I", 2, 0, 0, 0xffffffff, 0, 0, 0, ctypes.addressof(memory), 0, 512,
    127 << 16 | 2, 0, 0, 0, 0, 0, int(sys.argv[2]), 0))
start = time.monotonic()
try:
    result = fcntl.ioctl(disk, 0xc0484e41, command)
except OSError as error:
    result = -error.errno
seconds = time.monotonic() - start
print(result, hashlib.sha256(memory.raw).hexdigest(), seconds)
""",
    # ahead <disk> <offset> <length>: make the kernel read a range ahead.
    "ahead": """
import os, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(disk, int(sys.argv[2]), int(sys.argv[3]), os.POSIX_FADV_WILLNEED)
""",
    # reuse <disk> <offset> <length> <seconds>: after a read that fails, use its memory
    # for something else. Prints the errno, and whether that was changed within some
    # seconds.
    "reuse": """
import mmap, os, sys, time
offset, length, seconds = map(int, sys.argv[2:])
disk = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
memory = mmap.mmap(-1, length)
number = 0
try:
    os.preadv(disk, [memory], offset)
except OSError as error:
    number = error.errno
memory[:] = b"x" * length
end = time.monotonic() + seconds
is_changed = False
while time.monotonic() < end:
    is_changed = is_changed or memory[:] != b"x" * length
    time.sleep(0.001)
print(number, is_changed)
""",
}

# How often a driver retries a request.
RETRIES = 3
# Bytes of a read of these tests, which is one command.
BYTES = 16384
# Seconds of an admin command: longer than the drivers and programs usually wait.
SLOW = 11
# By how much a timer of the guest may be early, in seconds.
EARLY = 0.05

# Registers of PCI configuration space.
COMMAND, MASTER = 4, 1 << 2
BAR0, BAR2 = 16, 24
MSIX = 0x11

_numbers = itertools.count(1)


class Machine(Guest):
    """A guest whose only controller, a, is the fake one."""

    def __init__(self, guest, driver, fake):
        super().__init__(guest, driver)
        self.fake = fake
        self.a = Controller(self, "fake", guest.sh("controllers"), [])

    def configure(self, **properties):
        """Unbind the driver. After this the controller has these properties."""
        self.a.unbind()
        self.fake.configure(Properties(**properties))
        self.fake.clear()
        self.clear_logs()

    def try_bind(self):
        return self.vm.try_sh(f"bind {self.driver} {self.a.pci}")

    def bind(self, **properties):
        """Bind the driver to a controller with these properties."""
        self.configure(**properties)
        self.a.bind()
        for nsid in self.fake.properties.namespaces:
            name = pathlib.Path(self.a.device(nsid)).name
            self.vm.sh(f"echo {REQUEST_TIMEOUT_MS} "
                       f">/sys/block/{name}/queue/io_timeout")

    def attribute(self, name, nsid=1):
        """The value of a sysfs attribute of a disk."""
        disk = pathlib.Path(self.a.device(nsid)).name
        return self.vm.sh(f"cat /sys/block/{disk}/{name}")

    def start(self, name, *words):
        """Start a program on the first disk: its Run."""
        return Run(self.vm, name, self.a.device(), *words)

    def move(self, *words):
        """Run "move" on the first disk: [(result, SHA-256, seconds)]"""
        return self.start("move", *words).results()

    def read(self, *offsets):
        """Read BYTES at each offset: the results. What is read must be right."""
        results = self.move(*(f"read:{offset}:{BYTES}" for offset in offsets))
        for offset, (result, digest, _) in zip(offsets, results, strict=True):
            assert result < 0 or (result, digest) == (BYTES, self.digest(offset))
        return [result for result, *_ in results]

    def check_read(self, *offsets):
        """Reads at these offsets succeed."""
        assert self.read(*offsets) == [BYTES] * len(offsets)

    def digest(self, offset, length=BYTES):
        """The SHA-256 of the data of the disk."""
        return sha256(self.fake.data[offset:offset + length])

    def reads(self, offset=None):
        """The recorded reads of the disk, or those at an offset."""
        return self.fake.commands("READ", lambda command: offset is None
                                  or command.lba == offset >> 9)

    def check_not_recovered(self):
        """Nothing was aborted, and the controller was not reset."""
        assert not self.fake.commands("ABORT")
        assert "resetting" not in self.log()


class Run:
    """One of PROGRAMS that runs in a guest."""

    def __init__(self, guest, name, *words):
        self.vm = guest
        self.name = f"run{next(_numbers)}"
        line = " ".join(map(str, [f"python3 /tmp/{name}.py", *words]))
        self.vm.sh(f"start_job {self.name} '{line}'")

    def output(self, seconds=TIMEOUT):
        """Wait for its end: what it has printed."""
        end = self.vm.try_sh(f"wait_job {self.name} {seconds}", seconds + TIMEOUT)
        assert end.code == 0, end
        return end.out

    def results(self):
        """[(result, SHA-256, seconds)] of move or log."""
        return [(int(result), digest, float(seconds)) for result, digest, seconds
                in map(str.split, self.output().splitlines())]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def at(offset):
    """For rules: whether a command starts at this offset of the disk."""
    return lambda command: command.lba == offset >> 9


def is_host_behavior(command):
    return command.dwords[0] & 0xff == FEATURE_HOST_BEHAVIOR


CHECKS = []


def check(needs=lambda boot: True):
    """Add a function to the list."""
    def add(function):
        function.applies = needs
        CHECKS.append(function)
        return function
    return add


def is_module(boot):
    """Whether the drivers are modules."""
    return boot.flavour == "base"


# --- what a controller reports --------------------------------------------------

@check()
def data_is_moved(m):
    """Without a fault nothing is recovered. Interrupts arrive."""
    m.bind()
    m.check_read(0, BYTES, 1 << 20)
    [(result, digest, _)] = m.move(f"write:{2 << 20}:{BYTES}")
    assert (result, digest) == (BYTES, m.digest(2 << 20))
    assert m.attribute("ro") == "0"
    m.check_not_recovered()
    assert "without interrupt" not in m.log()


@check()
def write_protected_namespace_is_read_only(m):
    m.bind(read_only=True)
    assert m.attribute("ro") == "1"
    m.check_read(0)
    [(result, *_)] = m.move(f"write:0:{BYTES}")
    assert result in (-errno.EPERM, -errno.EACCES)
    assert not m.fake.commands("WRITE")


@check()
def format_index_has_six_bits(m):
    """All other formats have another block size."""
    for index in (17, 34):
        m.bind(format=index, lbads=12)
        assert m.attribute("queue/logical_block_size") == "4096"
        assert int(m.attribute("size")) == DISK_BYTES >> 9
        m.check_read(3 * 4096, DISK_BYTES - BYTES)


@check()
def transfers_without_a_limit_have_the_limit_of_the_driver(m):
    """MDTS is 0. A request has at least 128 pages, which is more than its default."""
    length = 1 << 20
    for properties, kilobytes in (({}, 128), ({"mdts": 0}, 1024)):
        m.bind(**properties)
        assert m.attribute("queue/max_hw_sectors_kb") == str(kilobytes)
        m.fake.clear()
        [(result, digest, _)] = m.move(f"read:0:{length}")
        assert (result, digest) == (length, m.digest(0, length))
        largest = max(command.blocks for command in m.reads()) << 9
        assert min(kilobytes, 512) << 10 <= largest <= kilobytes << 10


@check()
def controller_with_larger_pages_is_refused(m):
    m.configure(mpsmin=1)
    assert m.try_bind().code
    m.wait_log("minimum page size is 8192")
    # It was not enabled.
    assert not m.fake.starts
    m.bind()
    m.check_read(0)


@check()
def limit_of_readiness_is_the_larger_one(m):
    """CRTO, which counts more than 127 s, or CAP.TO."""
    late = {"ready_seconds": 2}
    for units in ({"timeout": 0, "crwmt": 8}, {"timeout": 8, "crwmt": 0}):
        m.bind(**units, **late)
        m.check_read(0)
    m.configure(timeout=0, **late)
    assert m.try_bind().code, "a limit of 0.5 s was not applied"


@check()
def namespaces_are_found_without_a_list(m):
    """Each id is identified. Version 1.0 has neither the list nor other limits."""
    for properties in ({"lists": False}, {"version": 0x10000}):
        m.bind(namespaces=(1, 3), **properties)
        names = m.vm.sh(f"ls $PCI/devices/{m.a.pci}/block").split()
        assert [name[-2:] for name in names] == ["n1", "n3"]
        m.check_read(0, 1 << 20)
        kinds = [command.dwords[0] & 0xff
                 for command in m.fake.commands("IDENTIFY")]
        assert kinds.count(0) >= 3
        assert kinds.count(2) == (properties.get("lists") is False)
        assert kinds.count(6) == ("version" not in properties)


@check()
def discard_has_the_limit_of_the_controller(m):
    """DMRSL. A range that exceeds it is refused."""
    for limit in (1000, 0):
        m.bind(dmrsl=limit)
        m.vm.sh(f"/usr/sbin/blkdiscard -f {m.a.device()}")
        blocks = DISK_BYTES >> 9
        end = 0
        for count, start in sorted(m.fake.ranges, key=lambda range_: range_[1]):
            assert start == end and 0 < count <= (limit or blocks)
            end = start + count
        assert end == blocks
        assert not any(m.fake.data)
        assert limit or len(m.fake.ranges) == 1


@check()
def write_zeroes_has_the_limit_of_the_controller(m):
    """WZSL, which may be less or more than MDTS; without it, MDTS."""
    length = 1 << 20
    for wzsl, kilobytes in ((2, 16), (6, 256), (0, 128)):
        m.bind(wzsl=wzsl)
        m.vm.sh(f"/usr/sbin/blkdiscard -z -o 0 -l {length} {m.a.device()}")
        sizes = [command.blocks << 9 for command in m.fake.commands("WRITE_ZEROES")]
        assert set(sizes) == {kilobytes << 10}
        assert sum(sizes) == length
        assert not any(m.fake.data[:length])
        assert any(m.fake.data[length:length + 4096])


# --- completions that are doubled or late -----------------------------------------

@check()
def doubled_completions_are_counted(m):
    """Those of reads, and those of the commands of a bind."""
    m.bind()
    with m.fake.script(Rule("READ", copies=2)):
        m.check_read(*range(0, 5 * BYTES, BYTES))
        m.wait_log(r"queue 1: completion of unknown command \w+ ignored \(5 so far\)")
    assert "(6 so far)" not in m.log()
    m.check_not_recovered()


@check()
def doubled_admin_completions_are_ignored(m):
    """Each twice; and each again while the next command is executed.

    If one of those ended that command, its data would be zeroes.
    """
    for rule in (Rule(fake_nvme.ADMIN, copies=2),
                 Rule(fake_nvme.ADMIN, late=1, delay=0.05)):
        with m.fake.script(rule):
            m.bind()
            [(result, digest, _)] = m.start("log", 0).results()
        assert (result, digest) == (0, sha256(LOG_BYTE * 512))
        assert int(m.attribute("size")) == DISK_BYTES >> 9
        m.check_read(0)
        assert len(m.fake.starts) == 1
        m.check_not_recovered()
    # Of a bind with the default properties.
    assert len(m.fake.commands("IDENTIFY")) == 4


@check()
def completion_ends_no_later_request(m):
    """It arrives again while the next request, with the same tag, is executed.

    If it ended that request, the memory of the read would be zeroes.
    """
    m.bind()
    with m.fake.script(Rule("READ", late=1, delay=0.02)):
        m.check_read(*range(0, 20 * BYTES, BYTES))
    m.check_not_recovered()


@check()
def completions_of_many_requests_are_ignored(m):
    m.bind()
    for number, rule in enumerate((Rule("READ WRITE", copies=2),
                                   Rule("READ WRITE", late=2, delay=0.005))):
        with m.fake.script(rule):
            result = m.a.fio(f"{WRITE} --offset={4 * number}M --size=2M")
        assert result.ok and result.written == 2 << 20, result
    m.check_not_recovered()


@check()
def completion_from_before_a_reset_is_ignored(m):
    """The first command of the new queue is the same request again.

    If the completion ended it, the memory of the read would be zeroes.
    """
    m.bind()
    m.fake.clear()
    with m.fake.script(
            Rule("READ", times=1, held=True, abortable=False, late=1),
            Rule("READ", delay=0.3)):
        m.check_read(0)
    assert len(m.reads(0)) == 2
    assert len(m.fake.starts) == 1


# --- admin commands ---------------------------------------------------------------

@check()
def slow_admin_command_is_no_failure(m):
    """Meanwhile a request that times out is aborted. Nothing is reset."""
    m.bind()
    m.fake.clear()
    with m.fake.script(Rule("LOG", delay=SLOW), Rule("READ", times=1, held=True)):
        log = m.start("log", 0)
        wait_until(lambda: m.fake.commands("LOG"))
        m.check_read(0)
        [(result, digest, seconds)] = log.results()
    assert (result, digest) == (0, sha256(LOG_BYTE * 512))
    assert seconds > SLOW - EARLY
    [command] = m.fake.commands("LOG")
    [abort] = m.fake.commands("ABORT")
    assert abort.time < command.time + SLOW, "recovery waits for the command"
    assert len(m.reads(0)) == 2
    assert not m.fake.starts
    assert "resetting" not in m.log()


@check()
def admin_command_has_the_time_limit_of_the_program(m):
    m.bind()
    m.fake.clear()
    with m.fake.script(Rule("LOG", times=1, held=True)):
        [(result, _, seconds)] = m.start("log", 2000).results()
        assert result == -errno.ETIMEDOUT
        assert 2 - EARLY < seconds < 2 + SLOW / 2
        m.wait_log("reset done")
        [(result, digest, _)] = m.start("log", 2000).results()
    assert (result, digest) == (0, sha256(LOG_BYTE * 512))
    assert len(m.fake.starts) == 1
    assert m.log().count("resetting") == 1
    m.check_read(0)


@check(needs=is_module)
def time_limit_of_a_program_may_be_longer(m):
    """Longer than that of the module, which applies without one."""
    m.a.unbind()
    m.vm.sh(f"rmmod {m.driver} && load {m.driver} admin_timeout=2")
    try:
        m.bind()
        m.fake.clear()
        with m.fake.script(Rule("LOG", times=1, delay=4),
                           Rule("LOG", times=1, held=True)):
            [(result, digest, seconds)] = m.start("log", 60000).results()
            assert (result, digest) == (0, sha256(LOG_BYTE * 512))
            assert seconds > 4 - EARLY and not m.fake.starts
            [(result, _, seconds)] = m.start("log", 0).results()
            assert result == -errno.ETIMEDOUT
            assert seconds > 2 - EARLY and len(m.fake.starts) == 1
    finally:
        m.a.unbind()
        m.vm.sh(f"rmmod {m.driver} && load {m.driver}")


# --- statuses and retries -----------------------------------------------------------

# The errno that a program gets for each status of a read, as with the kernel's driver.
ERRORS = {
    errno.EOPNOTSUPP: (0x001, 0x002, 0x00b, 0x180),
    errno.EREMOTEIO: (0x021, 0x080, 0x082),
    errno.ENOSPC: (0x081,),
    errno.EBADE: (0x083,),
    errno.EILSEQ: (0x181, 0x282, 0x283, 0x284),
    errno.ENODATA: (0x182, 0x280, 0x281, 0x285, 0x286, 0x287),
    errno.ENOLINK: (0x370,),
    # Internal, aborted, invalid format, errors of the path, vendor specific.
    errno.EIO: (0x006, 0x007, 0x10a, 0x300, 0x371, 0x7c0),
}


@check()
def statuses_have_errnos(m):
    """Each is permanent, so there is one command."""
    m.bind()
    m.fake.clear()
    numbers = {status: number for number, statuses in ERRORS.items()
               for status in statuses}
    offsets = {status: (1 + index) * BYTES for index, status in enumerate(numbers)}
    with m.fake.script(*(Rule("READ", at(offset), status=status | DNR)
                         for status, offset in offsets.items())):
        results = m.read(*offsets.values())
    assert {status: -result for status, result in zip(numbers, results)} == numbers
    assert all(len(m.reads(offset)) == 1 for offset in offsets.values())
    m.check_read(*offsets.values())
    m.check_not_recovered()


@check()
def request_is_retried_three_times(m):
    """Whatever its status, unless the controller reports that it is permanent."""
    m.bind()
    m.fake.clear()
    lasting, medium, short = BYTES, 2 * BYTES, 3 * BYTES
    with m.fake.script(
            Rule("READ", at(lasting), status=INTERNAL),
            Rule("READ", at(medium), status=0x281),
            Rule("READ", at(short), times=RETRIES, status=INTERNAL)):
        assert m.read(lasting, medium, short) == [-errno.EIO, -errno.ENODATA, BYTES]
    for offset in (lasting, medium, short):
        assert len(m.reads(offset)) == 1 + RETRIES
    m.check_not_recovered()


@check()
def request_of_readahead_is_not_retried(m):
    m.bind()
    m.fake.clear()
    with m.fake.script(Rule("READ", at(1 << 20), status=INTERNAL)):
        m.start("ahead", 1 << 20, 4096).output()
        wait_until(lambda: m.reads(1 << 20))
        # A retry without a delay would take some milliseconds.
        time.sleep(0.5)
        assert len(m.reads(1 << 20)) == 1
        # The rule applies to other requests, which are retried.
        assert m.read(1 << 20) == [-errno.EIO]
    assert len(m.reads(1 << 20)) == 1 + 1 + RETRIES


def delay_of_retry(m, crd):
    """Seconds between two commands, the first of which asks for a delay."""
    m.fake.clear()
    with m.fake.script(Rule("READ", at(1 << 20), times=1,
                            status=INTERNAL | crd << CRD_SHIFT)):
        m.check_read(1 << 20)
    first, second = m.reads(1 << 20)
    return second.time - first.time


@check()
def retry_has_the_delay_of_the_controller(m):
    """The driver has enabled it; also after a reset, which disables it."""
    m.bind(crdt=(5, 10, 0))
    assert m.fake.host_behavior == bytes([1]) + bytes(511)
    assert 0.5 - EARLY < delay_of_retry(m, 1) < 1 - EARLY
    assert 1 - EARLY < delay_of_retry(m, 2) < 2
    assert delay_of_retry(m, 3) < 0.5 - EARLY
    m.fake.fail()
    m.check_read(0)
    m.wait_log("reset done")
    assert m.fake.host_behavior == bytes([1]) + bytes(511)
    assert delay_of_retry(m, 1) > 0.5 - EARLY


@check()
def retry_has_no_delay_if_it_is_not_enabled(m):
    """The controller reports no delays, or refuses to enable them."""
    m.bind()
    assert not m.fake.commands("SET_FEATURES", is_host_behavior)
    assert delay_of_retry(m, 1) < 0.5 - EARLY
    with m.fake.script(Rule("SET_FEATURES", is_host_behavior,
                            status=INVALID_FIELD | DNR)):
        m.bind(crdt=(5, 10, 0))
        assert len(m.fake.commands("SET_FEATURES", is_host_behavior)) == 1
    assert delay_of_retry(m, 1) < 0.5 - EARLY


# --- controllers that do not stop or start ----------------------------------------

@check()
def memory_is_accessed_until_the_controller_is_disabled(m):
    """For a second after EN is cleared, the controller writes to the memory of a read.

    The read was retried before, so that the reset ends it with an error. If the driver
    did not wait for RDY, the program would see its memory change.
    """
    m.bind()
    m.fake.clear()
    held = Rule("READ", at(1 << 20), times=1, held=True, abortable=False)
    with m.fake.script(Rule("READ", at(1 << 20), times=RETRIES, status=INTERNAL), held):
        m.fake.linger = 1
        number, is_changed = m.start("reuse", 1 << 20, BYTES, 3).output().split()
        assert m.fake.late_writes
        assert m.fake.ends[0] >= m.fake.stops[0] + 1
        assert (int(number), is_changed) == (errno.EIO, "False")
        m.wait_log("reset done")
    assert len(m.reads(1 << 20)) == 1 + RETRIES
    m.check_read(1 << 20)


@check()
def read_survives_late_writes(m):
    """It is retried after the reset, with the same memory."""
    m.bind()
    m.fake.clear()
    with m.fake.script(Rule("READ", times=1, held=True, abortable=False)):
        m.fake.linger = 0.3
        m.check_read(1 << 20)
        assert m.fake.late_writes
    assert len(m.fake.starts) == 1


@check()
def controller_that_stays_ready_has_failed(m):
    """It may still access memory, so it is no bus master when requests have ended."""
    m.bind(timeout=1)
    assert m.a.config(COMMAND) & MASTER
    with m.fake.script():
        m.fake.ready_sticks = True
        m.fake.fail()
        assert m.read(0) == [-errno.EIO]
        assert not m.a.config(COMMAND) & MASTER
        m.wait_log("controller failed")
        check_fails_at_once(m)
        # The driver can be unbound, and cannot be bound.
        m.a.unbind()
        assert m.try_bind().code
    m.bind()
    m.check_read(0)


def check_fails_at_once(m):
    """A read of a disk that has failed returns an error without a delay."""
    [(result, _, seconds)] = m.move(f"read:{1 << 20}:{BYTES}")
    # The capacity of a dead disk is 0: there is nothing to read.
    assert result in (0, -errno.EIO, -errno.ENODEV, -errno.ENXIO)
    assert seconds < 1


@check()
def controller_that_fails_three_times_is_bound_again(m):
    """At the reset, and at two binds. The next start succeeds."""
    m.bind()
    m.fake.clear()
    with m.fake.script():
        m.fake.fatal_starts = 3
        m.fake.fail()
        assert m.read(0) == [-errno.EIO]
        m.wait_log("controller failed")
        check_fails_at_once(m)
        assert len(m.fake.starts) == 1
        for starts in (2, 3):
            assert m.try_bind().code
            assert len(m.fake.starts) == starts
        m.a.bind()
        assert len(m.fake.starts) == 4
        m.check_read(0)
        assert m.a.fio(f"--rw=randwrite --bs=16k --size=1M --ioengine=libaio "
                       f"--iodepth=8 {VERIFY}").ok


# --- a boot -----------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel, with both drivers one after the other."""

    flavour: str
    long: bool = False

    def __str__(self):
        return f"{self.flavour}-direct"

    def checks(self):
        """Those that apply to the kernel."""
        return [function for function in CHECKS if function.applies(self)]

    def run(self, kernel):
        """{step: "" or how it failed}"""
        results = {}
        # An address is an offset in the memory of the fake controller.
        machine = dataclasses.replace(vm.MACHINES["direct"], memory="1G",
                                      board=fake_nvme.BOARD)
        with tempfile.TemporaryDirectory() as directory:
            fake = fake_nvme.FakeController(pathlib.Path(directory))
            guest = vm.VM(kernel, machine, programs=True, name=f"protocol-{self}",
                          append="dma_phys.debug=1", trace=["pci_nvme_pci_reset"],
                          devices=["-device", f"nvme,serial=fake,{machine.slots[0]}",
                                   *fake.arguments()])
            try:
                with step(results, "boot"), guest:
                    self._run_all(guest, fake, results)
            finally:
                fake.close()
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
        return results

    def _run_all(self, guest, fake, results):
        for name, text in PROGRAMS.items():
            write_program(guest, name, text)
        guest.sh("echo 20 >/proc/sys/kernel/hung_task_timeout_secs")
        cover_registers(guest, fake)
        for language, driver in vm.DRIVERS.items():
            m = Machine(guest, driver, fake)
            with step(results, (language, "bind")):
                m.configure()
                guest.sh(f"load {driver}")
                m.bind()
            for function in self.checks():
                guest.sh(f"echo check: {language} {function.__name__} >/dev/kmsg")
                with step(results, (language, function.__name__)):
                    try:
                        function(m)
                    finally:
                        assert not fake.error, fake.error
                fake.recover()
            with step(results, (language, "unbind")):
                m.a.unbind()
        with step(results, "final check"):
            assert guest.final_check() == []


def cover_registers(guest, fake):
    """Lay the registers of the fake controller over those of QEMU's, and leave them.

    The driver is unbound before: on the debug kernel the drivers are built in. A reset
    of the function would uncover QEMU's registers.
    """
    m = Guest(guest, "")
    nvme = Controller(m, "fake", guest.sh("controllers"), [])
    bar = Controller(m, "bar", guest.sh("find_pci 0x1af4 0x1110"), [])
    nvme.unbind()
    # The second register of the MSI-X capability has the offset of the table. Its
    # lowest bits are the BAR.
    table = nvme.config(nvme.capability(MSIX) + 4, 4)
    assert not table & 7
    fake.msix_table = table
    address = nvme.config(BAR0, 4) & ~15
    bar.set_config(BAR2, address | bar.config(BAR2, 4) & 15, 4)


# --- the tests ----------------------------------------------------------------------

BOOTS = [Boot("base"), Boot("debug", long=True)]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, name, id=f"{boot}-{language}-{name}")
    for boot in BOOTS for language in vm.DRIVERS
    for name in ["bind", *(function.__name__ for function in boot.checks()),
                 "unbind"]])
def test_driver(booted, boot, language, name):
    check_step(booted(boot), (language, name))


@pytest.mark.parametrize("name", ["boot", "final check", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, name):
    check_step(booted(boot), name)

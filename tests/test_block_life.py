# SPDX-License-Identifier: GPL-2.0
"""Both NVMe block drivers while their device or they themselves come and go.

A controller is taken out of the machine, a driver is unbound, a module is to be
unloaded, the machine sleeps: each time while a fio or a file system is at work.
Nothing may hang, what had reached the disk must be there, and a driver that
has left must have left nothing behind.
"""

import contextlib
import dataclasses
import errno
import pathlib
import re
import tempfile
import time

import pytest

import oracle
import vm
from block_guest import (EVENTS, PATIENCE, VERIFY, WRITE, Controller, Guest,
                         fio_here, outcome, step)

LONG = f"{WRITE} --size=12M"
# What a disk that is no longer there says to those who still have it open: that,
# or that it has no bytes.
GONE = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOSPC)
# How often a driver leaves and comes back under load.
ROUNDS = 100
FEW = 10
# Seconds in which a driver has left, whatever its disk was doing.
LEAVES = 20

# The first controller sits below a port, where it can be taken out. The port is
# ACPI's, as QEMU has it: a tenth of a second, where native hotplug takes five.
MACHINE = dataclasses.replace(
    vm.MACHINES["direct"], memory="1G",
    slots=("bus=below", "bus=pcie.0,addr=8"),
    devices=("pcie-root-port,id=below,bus=pcie.0,addr=9,chassis=1",))


def device(number):
    """A controller, in QEMU's words."""
    return {"driver": "nvme", "id": f"nvme{number}", "drive": f"disk{number}",
            "serial": f"nvme{number}",
            **dict(word.split("=") for word in MACHINE.slots[number].split(","))}


def arguments(disks):
    args = []
    for number, disk in enumerate(disks):
        args += ["-drive", f"if=none,id=disk{number},format=raw,"
                           f"file={disk.path}",
                 "-device", ",".join(f"{name}={value}" for name, value
                                     in device(number).items())
                 .removeprefix("driver=")]
    return args


class Machine(Guest):
    """The first controller comes and goes, the second stays."""

    def __init__(self, guest, driver, disks):
        super().__init__(guest, driver)
        # The port's bus comes after the root's.
        b, a = guest.sh("controllers").split()
        self.a = Controller(self, "nvme0", a, disks[:1])
        self.b = Controller(self, "nvme1", b, disks[1:])

    @contextlib.contextmanager
    def at_work(self, job):
        """A fio that must end with the disk gone; another must not see it."""
        self.forget()
        other = self.b.start(LONG)
        job = self.a.at_work(job)
        name = self.a.device()
        yield
        found = job.result()
        assert found.code and found.error in GONE, found
        assert self.vm.ask(f"ls {name}").code, "the disk is still there"
        assert other.result().good

    def unplug(self):
        self.vm.qmp("device_del", id="nvme0")
        self.vm.event("DEVICE_DELETED", PATIENCE, device="nvme0")

    def plug(self):
        self.vm.qmp("device_add", **device(0))
        # The kernel takes a moment to know it, and to let drivers have it.
        self.vm.sh(f"until bind {self.driver} {self.a.pci} >/dev/null 2>&1; do "
                   "usleep 20000; done", PATIENCE)
        self.a.bind()

    def recover(self):
        """After a check that failed, for the next one."""
        if self.vm.ask(f"[ -e $PCI/devices/{self.a.pci} ]").code:
            self.plug()
        for each in (self.a, self.b):
            each.bind()

    def works(self):
        assert self.a.fio(LONG).good
        assert fio_here(self.a.disks[0], f"{LONG} --verify_only").good


CHECKS = []
LAST = []


def check(needs=lambda boot: True, where=CHECKS):
    """Add a function to the list."""
    def add(function):
        function.applies = needs
        where.append(function)
        return function
    return add


def as_module(boot):
    return boot.flavour == "base"


# --- out of the machine -------------------------------------------------------

KEPT = f"--rw=write --bs=64k --size=2M --offset=40M --ioengine=libaio {VERIFY}"


@check()
def unplugged_disk_ends_fio(m):
    """With an error; what was written before is there when it is back."""
    assert m.a.fio(f"{KEPT} --do_verify=0").good
    with m.at_work(f"{LONG} --time_based --runtime=300"):
        m.unplug()
    assert fio_here(m.a.disks[0], f"{KEPT} --verify_only").good
    m.plug()
    assert m.a.fio(f"{KEPT} --verify_only").good
    m.works()


@check(needs=as_module)
def unplugged_ext4_lets_go(m):
    filesystem_lets_go(m, "mkfs.ext4 -q -F", "ext4")


@check(needs=as_module)
def unplugged_xfs_lets_go(m):
    filesystem_lets_go(m, "mkfs.xfs -q -f", "xfs")


def filesystem_lets_go(m, make, kind):
    """It ends with errors; what was synced is there when the disk is back."""
    name = m.a.device()
    mount = f"mkdir -p /tmp/at && mount -t {kind} {name} /tmp/at"
    m.vm.sh(f"{make} {name} && {mount} && head -c 1000000 /dev/urandom "
            ">/tmp/kept && cp /tmp/kept /tmp/at && sync")
    m.vm.sh("later files 'while dd if=/tmp/kept of=/tmp/at/file bs=64k "
            "conv=fsync; do :; done; false'")
    time.sleep(0.5)
    m.unplug()
    answer = m.vm.ask(f"ended files {PATIENCE}", 2 * PATIENCE)
    assert answer.code == 1, answer
    m.vm.sh("umount /tmp/at", PATIENCE)
    m.plug()
    assert m.a.device() == name
    m.vm.sh(f"{mount} && cmp /tmp/kept /tmp/at/kept && umount /tmp/at")
    m.works()


# --- unbound ------------------------------------------------------------------

@check()
def unbound_disk_ends_fio(m):
    with m.at_work(f"{LONG} --time_based --runtime=300"):
        began = time.monotonic()
        m.a.unbind()
        assert time.monotonic() - began < LEAVES
    m.a.bind()
    m.works()


# NVME_IOCTL_ID and, with an Identify, NVME_IOCTL_ADMIN_CMD.
OPENED = """
import ctypes, errno, fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
memory = ctypes.create_string_buffer(4096)
identify = struct.pack("<BBHIIIQQ10I", 6, 0, 0, 0, 0, 0, 0,
                       ctypes.addressof(memory), 0, 4096, 1, *[0] * 7)
calls = {"id": lambda: fcntl.ioctl(disk, 0x4e40),
         "admin": lambda: fcntl.ioctl(disk, 0xc0484e41, identify),
         "read": lambda: len(os.pread(disk, 512, 1 << 20))}
def said():
    for name, call in calls.items():
        try:
            value = call()
            print(name, value if name == "read" else 0)
        except OSError as error:
            print(name, errno.errorcode[error.errno])
said()
with open(f"/sys/bus/pci/devices/{sys.argv[2]}/driver/unbind", "w") as file:
    file.write(sys.argv[2])
said()
print(os.system(f"rmmod {sys.argv[3]} 2>/dev/null") != 0)
said()
"""


@check(needs=as_module)
def open_disk_outlives_its_driver(m):
    """It answers that there is no device; its code cannot be unloaded."""
    script = OPENED.strip().encode().hex()
    said = m.vm.sh(f"python3 -c \"exec(bytes.fromhex('{script}'))\" "
                   f"{m.a.device()} {m.a.pci} {m.driver}").split("\n")
    assert said[:3] == ["id 0", "admin 0", "read 512"], said
    nothing = {"read 0", *(f"read {errno.errorcode[one]}" for one in GONE)}
    for three in (said[3:6], said[7:]):
        assert three[:2] == ["id ENODEV", "admin ENODEV"], said
        assert three[2] in nothing, said
    assert said[6] == "True", "the module is in use, and was unloaded"
    m.b.unbind()
    m.vm.sh(f"rmmod {m.driver} && load {m.driver}")
    m.a.bind()
    m.b.bind()
    m.works()


@check()
def driver_comes_and_goes_under_load(m):
    """As often as the boot says."""
    rounds_under_load(m, m.rounds)


def rounds_under_load(m, count):
    # A job may begin while the disk is on its way out: more of them than rounds.
    m.vm.sh("rm -f /tmp/enough; later fio "
            f"'cd /tmp && one_after_another {m.a.device()} {2 * count}'")
    answer = m.vm.ask(f"rounds {m.driver} {m.a.pci} {count}", 60 + 30 * count)
    assert not answer.code, answer.out + m.vm.ask("cat /tmp/fio.out").out
    assert m.vm.ask("[ -e /tmp/fio.code ]").code, "fio has ended too early"
    m.vm.sh("touch /tmp/enough")
    m.a.unbind()
    answer = m.vm.ask(f"ended fio {PATIENCE}", 2 * PATIENCE)
    assert answer.code not in (0, 124), answer
    said = m.vm.sh("grep '\"error\" :' /tmp/one_after_another.json")
    found = [int(number) for number in re.findall(r"\d+", said)]
    assert len(found) == 2 * count
    assert set(found) <= {*GONE, errno.ENOENT}, set(found)
    assert sum(number != errno.ENOENT for number in found) >= count
    m.a.bind()
    m.works()


# --- asleep -------------------------------------------------------------------

@check(where=LAST)
def suspended_devices_lose_nothing(m):
    """The kernel suspends all devices and resumes them, again and again."""
    m.forget()
    jobs = [m.a.start(LONG), m.b.at_work(LONG)]
    m.vm.sh("echo 0 >/sys/module/suspend/parameters/pm_test_delay; "
            "echo devices >/sys/power/pm_test; "
            "for n in 1 2 3 4 5; do echo freeze >/sys/power/state || exit; "
            "usleep 100000; done; echo none >/sys/power/pm_test")
    for job, each in zip(jobs, (m.a, m.b)):
        assert job.result().good
        assert fio_here(each.disks[0], f"{LONG} --verify_only").good
    assert len(m.told("pci_nvme_mmio_shutdown_set")) == 10


# --- a boot -------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """One kernel, with both drivers one after the other."""

    flavour: str
    rounds: int
    long: bool = False

    def __str__(self):
        return f"{self.flavour}-{self.rounds}"

    def checks(self, where):
        return [each for each in where if each.applies(self)]

    def run(self, kernel):
        """{what: "" or how it failed}"""
        found = {}
        with tempfile.TemporaryDirectory() as directory:
            disks = [oracle.Image(pathlib.Path(directory, name), name,
                                  size=320 << 20) for name in "ab"]
            guest = vm.VM(kernel, MACHINE, name=f"life-{self}", qmp=True,
                          turns=True,
                          programs=True, trace=EVENTS, devices=arguments(disks),
                          append="dma_phys.debug=1",
                          off="reboot -f")
            with step(found, "boot"), guest:
                guest.sh("echo 20 >/proc/sys/kernel/hung_task_timeout_secs")
                self._all(guest, disks, found)
            with step(found, "shutdown"):
                told = [event for event, _ in guest.traced()]
                assert told.count("pci_nvme_mmio_shutdown_set") == 2, told
            with step(found, "log"):
                assert guest.reports() == [], guest.where()
        return found

    def _all(self, guest, disks, found):
        machines = {}
        for language, driver in vm.DRIVERS.items():
            guest.sh(f"load {driver}")
            machines[language] = m = Machine(guest, driver, disks)
            m.rounds = self.rounds
            self._list(m, language, self.checks(CHECKS), found)
        with step(found, "last look"):
            m.a.unbind()
            m.b.unbind()
            assert guest.last_look() == []
        guest.sh("carry /usr/bin/fio")
        for language, m in machines.items():
            self._list(m, language, self.checks(LAST), found)
        # One driver each is told when the machine stops.
        first, *_, last = machines.values()
        first.a.bind()
        last.b.bind()
        guest.traced()

    @staticmethod
    def _list(m, language, checks, found):
        for each in (m.a, m.b):
            each.bind()
        for each in checks:
            m.vm.sh(f"echo check: {language} {each.__name__} >/dev/kmsg")
            what = language, each.__name__
            with step(found, what):
                each(m)
            if found[what]:
                m.recover()


# --- the tests ----------------------------------------------------------------

BOOTS = [Boot("base", FEW), Boot("debug", FEW),
         Boot("debug", ROUNDS, long=True)]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, each.__name__,
                 id=f"{boot}-{language}-{each.__name__}")
    for boot in BOOTS for language in vm.DRIVERS
    for each in boot.checks(CHECKS) + boot.checks(LAST)])
def test_driver(booted, boot, language, name):
    outcome(booted(boot), (language, name))


@pytest.mark.parametrize("what", ["boot", "last look", "shutdown", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, what):
    outcome(booted(boot), what)

# SPDX-License-Identifier: GPL-2.0
"""Both block drivers while their device or their module is removed, or suspended.

A controller is unplugged, a driver is unbound, a module is unloaded, the machine is
suspended: each time while a fio or a file system does I/O. Nothing may hang, data that
was flushed must be on the disk, and after unbind nothing may be mapped.
"""

import contextlib
import dataclasses
import errno
import pathlib
import re
import tempfile
import time

import pytest

from block_guest import (EVENTS, TIMEOUT, VERIFY, WRITE, Controller, Guest,
                         check_step, fio_on_host, step)
from harness import oracle, vm

LONG = f"{WRITE} --size=12M"
# Errors of I/O on a file of a disk that was removed. ENOSPC, as its capacity is 0.
GONE = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOSPC)
# It never ends: the machine shuts down meanwhile.
ENDLESS = ("--rw=randwrite --bs=4k --size=12M --ioengine=libaio --iodepth=256 "
           "--time_based --runtime=3600")
# How often a driver is unbound and bound under load.
ROUNDS = 100
FEW_ROUNDS = 10
# Maximum seconds of an unbind, whatever the disk is doing.
UNBIND_TIMEOUT = 20

# The first controller is below a port, so that it can be unplugged. Hotplug is ACPI's,
# as QEMU has it by default: it takes 0.1 s, native hotplug 5 s.
MACHINE = dataclasses.replace(
    vm.MACHINES["direct"], memory="1G",
    slots=("bus=below", "bus=pcie.0,addr=8"),
    devices=("pcie-root-port,id=below,bus=pcie.0,addr=9,chassis=1,x-speed=2_5",))


def device(number):
    """The properties of a controller in QEMU."""
    return {"driver": "nvme", "id": f"nvme{number}", "drive": f"disk{number}",
            "serial": f"nvme{number}",
            **dict(word.split("=") for word in MACHINE.slots[number].split(","))}


def arguments(disks):
    """QEMU arguments: the controllers and their disks."""
    args = []
    for number, disk in enumerate(disks):
        args += ["-drive", f"if=none,id=disk{number},format=raw,"
                           f"file={disk.path}",
                 "-device", ",".join(f"{name}={value}" for name, value
                                     in device(number).items())
                 .removeprefix("driver=")]
    return args


class Machine(Guest):
    """A guest whose first controller, a, is removed. The second, b, stays."""

    def __init__(self, guest, driver, disks, rounds):
        super().__init__(guest, driver)
        self.rounds = rounds
        # The bus of the port comes after the root bus.
        b, a = guest.sh("controllers").split()
        self.a = Controller(self, "nvme0", a, disks[:1])
        self.b = Controller(self, "nvme1", b, disks[1:])

    @contextlib.contextmanager
    def failing_io(self, options):
        """A fio on a fails, as the block removes a. One on b succeeds."""
        self.clear_logs()
        other = self.b.start(LONG)
        job = self.a.start_busy(options)
        name = self.a.device()
        yield
        result = job.result()
        assert result.code and result.error in GONE, result
        assert self.vm.try_sh(f"ls {name}").code, "the disk still exists"
        assert other.result().ok

    def unplug(self):
        self.vm.qmp("device_del", id="nvme0")
        self.vm.event("DEVICE_DELETED", TIMEOUT, device="nvme0")

    def plug(self):
        self.vm.qmp("device_add", **device(0))
        # The kernel needs a moment until it has added the device.
        self.vm.sh(f"until bind {self.driver} {self.a.pci} >/dev/null 2>&1; do "
                   "usleep 20000; done", TIMEOUT)
        self.a.bind()

    def recover(self):
        """After a check that failed, prepare for the next one."""
        if self.vm.try_sh(f"[ -e $PCI/devices/{self.a.pci} ]").code:
            self.plug()
        for controller in (self.a, self.b):
            controller.bind()

    def check_works(self):
        assert self.a.fio(LONG).ok
        assert fio_on_host(self.a.disks[0], f"{LONG} --verify_only").ok


# A line of the kernel log.
SHUTDOWN = "check: shutdown"

CHECKS = []
# Checks after the programs of the host are unmounted: 9p does not support suspend.
LAST = []


def check(needs=lambda boot: True, checks=CHECKS):
    """Add a function to a list of checks."""
    def add(function):
        function.applies = needs
        checks.append(function)
        return function
    return add


def is_module(boot):
    """Whether the drivers are modules."""
    return boot.flavour == "base"


# --- unplug -------------------------------------------------------------------

FLUSHED = f"--rw=write --bs=64k --size=2M --offset=40M --ioengine=libaio {VERIFY}"


@check()
def fio_fails_when_disk_is_unplugged(m):
    """What was written before is on the disk when it is plugged again."""
    assert m.a.fio(f"{FLUSHED} --do_verify=0").ok
    with m.failing_io(f"{LONG} --time_based --runtime=300"):
        m.unplug()
    assert fio_on_host(m.a.disks[0], f"{FLUSHED} --verify_only").ok
    m.plug()
    assert m.a.fio(f"{FLUSHED} --verify_only").ok
    m.check_works()


@check(needs=is_module)
def ext4_is_unmounted_after_unplug(m):
    check_filesystem(m, "mkfs.ext4 -q -F", "ext4")


@check(needs=is_module)
def xfs_is_unmounted_after_unplug(m):
    check_filesystem(m, "mkfs.xfs -q -f", "xfs")


def check_filesystem(m, mkfs, kind):
    """Writes fail after unplug. Synced data is there when the disk is plugged again."""
    name = m.a.device()
    mount = f"mkdir -p /tmp/mnt && mount -t {kind} {name} /tmp/mnt"
    m.vm.sh(f"{mkfs} {name} && {mount} && head -c 1000000 /dev/urandom "
            ">/tmp/data && cp /tmp/data /tmp/mnt && sync")
    m.vm.sh("start_job files 'while dd if=/tmp/data of=/tmp/mnt/file bs=64k "
            "conv=fsync; do :; done; false'")
    time.sleep(0.5)
    m.unplug()
    end = m.vm.try_sh(f"wait_job files {TIMEOUT}", 2 * TIMEOUT)
    assert end.code == 1, end
    m.vm.sh("umount /tmp/mnt", TIMEOUT)
    m.plug()
    assert m.a.device() == name
    m.vm.sh(f"{mount} && cmp /tmp/data /tmp/mnt/data && umount /tmp/mnt")
    m.check_works()


# --- PCI errors ---------------------------------------------------------------

@check()
def io_continues_after_a_fatal_pci_error(m):
    """Of the port. The kernel resets the bus below it, with the controller (AER).

    QEMU's controllers cannot report errors themselves. Its port has the lowest speed,
    or the kernel would wait for a link that stays inactive after a reset.
    """
    # Without CONFIG_PCIEASPM the kernel does not ask the firmware for it.
    assert re.search(r"_OSC: OS now controls \[.*\bAER\b", m.vm.console())
    m.clear_logs()
    other = m.b.start(LONG)
    job = m.a.start_busy(LONG)
    injected = m.vm.qmp("human-monitor-command",
                        **{"command-line": "pcie_aer_inject_error below DLP"})
    assert injected.startswith("OK"), injected
    m.wait_log("device recovery successful")
    assert job.result().ok and other.result().ok
    assert fio_on_host(m.a.disks[0], f"{LONG} --verify_only").ok
    assert m.events("pci_nvme_pci_reset")
    assert "controller failed" not in m.log()
    m.check_works()


# --- unbind -------------------------------------------------------------------

@check()
def fio_fails_when_driver_is_unbound(m):
    with m.failing_io(f"{LONG} --time_based --runtime=300"):
        start = time.monotonic()
        m.a.unbind()
        assert time.monotonic() - start < UNBIND_TIMEOUT
    m.a.bind()
    m.check_works()


# A program that keeps a disk open while its driver is unbound. It uses NVME_IOCTL_ID,
# NVME_IOCTL_ADMIN_CMD with Identify, and read, and prints the results: before the
# unbind, after it, and after rmmod, whose result it prints as well.
KEEP_OPEN = """
import ctypes, errno, fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
memory = ctypes.create_string_buffer(4096)
identify = struct.pack("<BBHIIIQQ10I", 6, 0, 0, 0, 0, 0, 0,
                       ctypes.addressof(memory), 0, 4096, 1, *[0] * 7)
calls = {"id": lambda: fcntl.ioctl(disk, 0x4e40),
         "admin": lambda: fcntl.ioctl(disk, 0xc0484e41, identify),
         "read": lambda: len(os.pread(disk, 512, 1 << 20))}
def results():
    for name, call in calls.items():
        try:
            value = call()
            print(name, value if name == "read" else 0)
        except OSError as error:
            print(name, errno.errorcode[error.errno])
results()
with open(f"/sys/bus/pci/devices/{sys.argv[2]}/driver/unbind", "w") as file:
    file.write(sys.argv[2])
results()
print(os.system(f"rmmod {sys.argv[3]} 2>/dev/null") != 0)
results()
"""


@check(needs=is_module)
def open_disk_outlives_unbind(m):
    """Its calls fail, and the module cannot be unloaded."""
    program = KEEP_OPEN.strip().encode().hex()
    lines = m.vm.sh(f"python3 -c \"exec(bytes.fromhex('{program}'))\" "
                    f"{m.a.device()} {m.a.pci} {m.driver}").split("\n")
    assert lines[:3] == ["id 0", "admin 0", "read 512"], lines
    no_data = {"read 0", *(f"read {errno.errorcode[number]}" for number in GONE)}
    for ioctls, read in ((lines[3:5], lines[5]), (lines[7:9], lines[9])):
        assert ioctls == ["id ENODEV", "admin ENODEV"], lines
        assert read in no_data, lines
    assert lines[6] == "True", "a module in use was unloaded"
    m.b.unbind()
    m.vm.sh(f"rmmod {m.driver} && load {m.driver}")
    m.a.bind()
    m.b.bind()
    m.check_works()


@check()
def driver_is_unbound_and_bound_under_load(m):
    # A job may start while the disk is being removed: run more jobs than rounds.
    jobs = 2 * m.rounds
    m.vm.sh("rm -f /tmp/fio_series.stop; start_job fio "
            f"'cd /tmp && fio_series {m.a.device()} {jobs}'")
    rounds = m.vm.try_sh(f"rebind_rounds {m.driver} {m.a.pci} {m.rounds}",
                         60 + 30 * m.rounds)
    assert not rounds.code, rounds.out + m.vm.try_sh("cat /tmp/fio.out").out
    assert m.vm.try_sh("[ -e /tmp/fio.code ]").code, "fio has ended too early"
    m.vm.sh("touch /tmp/fio_series.stop")
    m.a.unbind()
    end = m.vm.try_sh(f"wait_job fio {TIMEOUT}", 2 * TIMEOUT)
    assert end.code not in (0, 124), end
    lines = m.vm.sh("grep '\"error\" :' /tmp/fio_series.json")
    errors = [int(number) for number in re.findall(r"\d+", lines)]
    assert len(errors) == jobs
    assert set(errors) <= {*GONE, errno.ENOENT}, set(errors)
    assert sum(number != errno.ENOENT for number in errors) >= m.rounds
    m.a.bind()
    m.check_works()


# --- suspend ------------------------------------------------------------------

@check(checks=LAST)
def io_continues_after_suspend(m):
    """The kernel suspends and resumes all devices, five times."""
    m.clear_logs()
    jobs = [m.a.start(LONG), m.b.start_busy(LONG)]
    m.vm.sh("echo 0 >/sys/module/suspend/parameters/pm_test_delay; "
            "echo devices >/sys/power/pm_test; "
            "for n in 1 2 3 4 5; do echo freeze >/sys/power/state || exit; "
            "usleep 100000; done; echo none >/sys/power/pm_test")
    for job, controller in zip(jobs, (m.a, m.b)):
        assert job.result().ok
        assert fio_on_host(controller.disks[0], f"{LONG} --verify_only").ok
    assert len(m.events("pci_nvme_mmio_shutdown_set")) == 10


# --- a boot -------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel, with both drivers one after the other."""

    flavour: str
    rounds: int
    long: bool = False

    def __str__(self):
        return f"{self.flavour}-{self.rounds}"

    def select(self, checks):
        """The checks that apply to the kernel."""
        return [function for function in checks if function.applies(self)]

    def run(self, kernel):
        """{step: "" or how it failed}"""
        results = {}
        with tempfile.TemporaryDirectory() as directory:
            disks = [oracle.Image(pathlib.Path(directory, name), name,
                                  size=320 << 20) for name in "ab"]
            guest = vm.VM(kernel, MACHINE, name=f"recovery-{self}", qmp=True,
                          single_thread=True, programs=True, trace=EVENTS,
                          devices=arguments(disks),
                          append="dma_phys.debug=1",
                          power_off="reboot -f")
            with step(results, "boot"), guest:
                guest.sh("echo 20 >/proc/sys/kernel/hung_task_timeout_secs")
                self._run_all(guest, disks, results)
            with step(results, "shutdown"):
                events = [event for event, _ in guest.read_trace()]
                assert events.count("pci_nvme_mmio_shutdown_set") == 2
                # Requests of the shutdown have completed, or wait.
                errors = re.findall(r"I/O error, dev [cr]nvme.*",
                                    guest.console().rpartition(SHUTDOWN)[2])
                assert errors == []
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
        return results

    def _run_all(self, guest, disks, results):
        machines = {}
        for language, driver in vm.DRIVERS.items():
            guest.sh(f"load {driver}")
            machines[language] = m = Machine(guest, driver, disks, self.rounds)
            self._run_checks(m, language, self.select(CHECKS), results)
        with step(results, "final check"):
            m.a.unbind()
            m.b.unbind()
            assert guest.final_check() == []
        guest.sh("copy_programs /usr/bin/fio")
        for language, m in machines.items():
            self._run_checks(m, language, self.select(LAST), results)
        # At shutdown each driver has one controller, with a fio that does not end.
        first, *_, last = machines.values()
        for controller in (first.a, last.b):
            controller.bind()
            controller.start_busy(ENDLESS)
        guest.sh(f"echo {SHUTDOWN} >/dev/kmsg")
        guest.read_trace()

    @staticmethod
    def _run_checks(m, language, checks, results):
        for controller in (m.a, m.b):
            controller.bind()
        for function in checks:
            name = language, function.__name__
            m.vm.sh(f"echo check: {' '.join(name)} >/dev/kmsg")
            with step(results, name):
                function(m)
            if results[name]:
                m.recover()


# --- the tests ----------------------------------------------------------------

BOOTS = [Boot("base", FEW_ROUNDS), Boot("debug", FEW_ROUNDS),
         Boot("debug", ROUNDS, long=True)]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, function.__name__,
                 id=f"{boot}-{language}-{function.__name__}")
    for boot in BOOTS for language in vm.DRIVERS
    for function in boot.select(CHECKS) + boot.select(LAST)])
def test_driver(booted, boot, language, name):
    check_step(booted(boot), (language, name))


@pytest.mark.parametrize("name", ["boot", "final check", "shutdown", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, name):
    check_step(booted(boot), name)

# SPDX-License-Identifier: GPL-2.0
"""Controllers that fail, fall silent or are gone, under both block drivers.

QEMU's blkdebug makes errors, and a disk outside of QEMU answers or does not; what
a controller does to itself is done to its configuration space, and to what lies
over its registers, from within the guest. Every time a fio is at work that
verifies what it writes, and another one on a controller that nothing happens to.
What fio wrote is verified once more outside, on the image.
"""

import contextlib
import dataclasses
import errno
import pathlib
import tempfile
import time

import pytest

import nbd
import oracle
import vm
from block_guest import (EVENTS, PATIENCE, VERIFY, WRITE, Controller, Guest,
                         fio_here, outcome, step)

# The namespaces of the first controller: one that is well, one whose image has
# errors at these bytes; and its flushes fail.
WELL, BAD = 1, 2
BAD_READ = (64 << 10) + 512
BAD_WRITE = (3 << 20) + (300 << 10)
BAD_DISCARD = 5 << 20
ERRORS = [{"iotype": "read", "sector": BAD_READ >> 9},
          {"iotype": "write", "sector": BAD_WRITE >> 9},
          {"iotype": "discard", "sector": BAD_DISCARD >> 9},
          {"iotype": "flush"}]

# A write job that lasts for a second or two.
LONG = f"{WRITE} --size=12M"
# How often a command is tried again.
RETRIES = 3

# PCI's registers.
COMMAND, MEMORY, MASTER = 4, 1 << 1, 1 << 2
BAR0, BAR2 = 16, 24
# Where doorbells begin in BAR 0.
DOORBELLS = 4096
MSIX, MSIX_MASK, MSIX_ENABLE = 0x11, 1 << 14, 1 << 15
# Where no device of these machines is; such memory reads as zeroes.
NOWHERE = 0xd0000004


def arguments(machine, disks, ones):
    """Two controllers, memory of ones, and memory for lost doorbells."""
    well, bad, other = disks
    return [*_controller(0, machine), *_namespace(0, 0, 1, well.drive()),
            *_namespace(1, 0, 2, erring(bad)),
            *_controller(1, machine),
            *_namespace(2, 1, 1, f"file.filename={other.path}"),
            "-object", "memory-backend-file,id=ones,size=16384,share=on,"
                       f"mem-path={ones}",
            "-device", "ivshmem-plain,memdev=ones,bus=pcie.0,addr=0xa",
            "-object", "memory-backend-ram,id=deaf,size=4096,share=on",
            "-device", "ivshmem-plain,memdev=deaf,bus=pcie.0,addr=0xb"]


def _controller(number, machine):
    return ["-device", f"nvme,id=nvme{number},serial=nvme{number},"
                       f"{machine.slots[number]}"]


def _namespace(number, controller, nsid, drive):
    return ["-drive", f"if=none,id=disk{number},format=raw,discard=unmap,{drive}",
            "-device", f"nvme-ns,id=ns{number},drive=disk{number},"
                       f"bus=nvme{controller},nsid={nsid}"]


def erring(image):
    """A drive with an image that has errors, each every time."""
    drive = ("file.driver=blkdebug,file.image.driver=file,"
             f"file.image.filename={image.path}")
    for at, error in enumerate(ERRORS):
        rule = {"event": "none", "once": "off", "errno": errno.EIO} | error
        drive += "".join(f",file.inject-error.{at}.{name}={value}"
                         for name, value in rule.items())
    return drive


class Machine(Guest):
    """What is done to the controllers here."""

    def __init__(self, guest, driver, disks):
        super().__init__(guest, driver)
        names = guest.sh("controllers").split()
        self.well = disks[0]
        self.a = Controller(self, "nvme0", names[0],
                            [self.well.image, disks[1]])
        self.b = Controller(self, "nvme1", names[1], disks[2:])
        ones, deaf = guest.sh("named 0x1af4 0x1110").split()
        self.ones = Controller(self, "ones", ones, [])
        self.deaf = Controller(self, "deaf", deaf, [])

    @contextlib.contextmanager
    def other(self):
        """All the while a fio works on the controller that is well."""
        self.forget()
        job = self.b.start(LONG)
        yield
        assert job.result().good
        self.verified(self.b)

    @contextlib.contextmanager
    def busy(self):
        """In the middle of a fio's work; all of it must come to a good end."""
        with self.other():
            job = self.a.at_work(LONG)
            yield
            assert job.result().good
        self.verified(self.a)

    def verified(self, controller):
        """The image has, outside the machine, what the long job wrote."""
        image = controller.disks[0]
        assert fio_here(image, f"{LONG} --verify_only").good
        with image.path.open("r+b") as file:
            file.truncate(0)
            file.truncate(image.size)

    @contextlib.contextmanager
    def covered(self, by, offset=0):
        """Other memory lies over the first controller's registers meanwhile."""
        where = (self.a.config(BAR0, 4) & ~15) + offset
        with self.config(by, BAR2, lambda old: where | old & 15, 4):
            yield

    @contextlib.contextmanager
    def config(self, device, at, change, size=2):
        """A register of the configuration space has another value meanwhile."""
        before = device.config(at, size)
        device.set_config(at, change(before), size)
        try:
            yield
        except vm.Failure:
            raise
        except BaseException:
            device.set_config(at, before, size)
            raise
        device.set_config(at, before, size)

    def works(self):
        """The first controller does its work again."""
        assert self.a.fio(LONG).good
        self.verified(self.a)


CHECKS = []


def check(function):
    """Add a function to the list."""
    CHECKS.append(function)
    return function


# --- errors -------------------------------------------------------------------

@check
def read_error_reaches_fio(m):
    """As EIO, at once, and no other block has one."""
    read = f"--rw=read --bs=4k --size=1M --ioengine=libaio --iodepth=8 {VERIFY}"
    with m.other():
        found = m.a.fio(read, BAD)
        assert (found.code, found.error) == (1, errno.EIO)
        assert len(m.told("pci_nvme_err_aio")) == 1
        found = m.a.fio(f"{read} --continue_on_error=io", BAD)
        assert (found.errors, found.first) == (1, errno.EIO), found
        assert found.read == (1 << 20) - 4096
        assert len(m.told("pci_nvme_err_aio")) == 2


@check
def write_error_reaches_fio(m):
    """As EIO, at once, and all other blocks are written."""
    start = 3 << 20
    write = ("--rw=write --bs=4k --size=1M --ioengine=libaio --iodepth=8 "
             f"--offset={start} --verify=pattern --verify_pattern=0x5a "
             "--do_verify=0")
    with m.other():
        found = m.a.fio(write, BAD)
        assert (found.code, found.error) == (1, errno.EIO)
        assert len(m.told("pci_nvme_err_aio")) == 1
        found = m.a.fio(f"{write} --continue_on_error=io", BAD)
        assert (found.errors, found.first) == (1, errno.EIO), found
        assert len(m.told("pci_nvme_err_aio")) == 2
    data = m.a.disks[1].read(start, 1 << 20)
    bad = (BAD_WRITE - start) & ~4095
    assert not any(data[bad:bad + 4096])
    assert set(data[:bad] + data[bad + 4096:]) == {0x5a}


@check
def flush_error_reaches_fsync(m):
    with m.other():
        answer = m.vm.ask(f"dd if=/init of={m.a.device(BAD)} bs=4096 seek=1536 "
                          "count=1 conv=fsync,notrunc")
        assert answer.code and "Input/output error" in answer.out, answer
        assert len(m.told("pci_nvme_err_aio")) == 1


@check
def other_error_is_tried_again(m):
    """What need not last: QEMU fails to discard with an internal error."""
    with m.other():
        answer = m.vm.ask(f"/usr/sbin/blkdiscard -f -o {BAD_DISCARD} -l 65536 "
                          f"{m.a.device(BAD)}")
        assert answer.code and "Input/output error" in answer.out, answer
        assert len(m.told("pci_nvme_err_aio")) == 1 + RETRIES


# --- silence ------------------------------------------------------------------

@check
def held_request_is_aborted(m):
    """Its controller is told to, and nothing is reset."""
    with m.other():
        m.well.hold()
        job = m.a.start("--rw=read --bs=4k --size=4k --ioengine=psync")
        m.is_told("pci_nvme_admin_cmd", "ABORT")
        m.well.release()
        assert job.result().good
        m.says("aborting")
        assert len(m.told("pci_nvme_admin_cmd", "ABORT")) == 1
        assert "resetting" not in m.log()
    assert not m.told("pci_nvme_mmio_stopped")


@check
def deaf_controller_is_reset(m):
    """It hears no doorbell; all that it should have done it does after that."""
    with m.busy():
        with m.covered(m.deaf, DOORBELLS):
            m.says("aborting")
        m.says("resetting")
        m.says("reset done")
    assert len(m.told("pci_nvme_mmio_stopped")) == 1
    assert not m.told("pci_nvme_admin_cmd", "ABORT")


@check
def lost_interrupts_are_looked_for(m):
    """Requests whose interrupt never comes are complete all the same."""
    with m.other():
        at = m.a.capability(MSIX) + 2
        with m.config(m.a, at, lambda value: value | MSIX_MASK):
            found = m.a.fio("--rw=randwrite --bs=16k --iodepth=8 --size=256k "
                            f"--ioengine=libaio {VERIFY}")
            assert found.good and found.written == 256 << 10, found
        m.says("completion without interrupt")
        assert not m.told("pci_nvme_admin_cmd", "ABORT")
        assert not m.told("pci_nvme_mmio_stopped")
    m.works()


@check
def failed_controller_is_reset(m):
    """Without access to memory it fails, and says so."""
    with m.busy():
        m.a.set_config(COMMAND, m.a.config(COMMAND) & ~MASTER)
        m.says("resetting")
        m.says("reset done")
    assert m.told("pci_nvme_err_cfs")
    assert m.a.config(COMMAND) & MASTER


@check
def controller_reset_by_another_is_reset(m):
    """Through sysfs: it forgets its queues, and all that is in them."""
    with m.busy():
        m.vm.sh(f"echo 1 >/sys/bus/pci/devices/{m.a.pci}/reset")
        m.is_told("pci_nvme_pci_reset")
    assert m.told("pci_nvme_mmio_start_success")


# --- for ever -----------------------------------------------------------------

@contextlib.contextmanager
def given_up(m):
    """A fio fails, all later ones at once, and the driver leaves."""
    with m.other():
        job = m.a.at_work(LONG)
        with contextlib.ExitStack() as stack:
            yield stack
            found = job.result()
            assert (found.code, found.error) == (1, errno.EIO), found
            began = time.monotonic()
            for nsid in (WELL, BAD):
                found = m.a.fio("--rw=read --bs=4k --size=64k",
                                nsid)
                assert found.code and found.error in (
                    0, errno.EIO, errno.ENODEV, errno.ENXIO), found
                assert not found.read
            assert time.monotonic() - began < PATIENCE / 4
            m.a.unbind()
        m.a.bind()
    m.works()


@check
def controller_that_never_recovers_is_given_up(m):
    """Its registers read as zeroes: it never becomes ready."""
    with given_up(m) as stack:
        stack.enter_context(m.config(m.a, BAR0, lambda _: NOWHERE, 4))


@check
def controller_that_refuses_queues_is_given_up(m):
    """It fails; after its reset it knows no interrupts for queues."""
    with given_up(m) as stack:
        at = m.a.capability(MSIX) + 2
        stack.enter_context(m.config(m.a, at, lambda value:
                                     value & ~MSIX_ENABLE))
        m.a.set_config(COMMAND, m.a.config(COMMAND) & ~MASTER)


@check
def controller_that_stays_deaf_is_given_up(m):
    """It becomes ready, and hears nothing."""
    with given_up(m) as stack:
        stack.enter_context(m.covered(m.deaf, DOORBELLS))


@check
def controller_that_is_gone_is_given_up(m):
    """Its registers read as ones."""
    with given_up(m) as stack:
        stack.enter_context(m.covered(m.ones))


# --- a boot -------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """One kernel on one machine, with both drivers one after the other."""

    flavour: str
    machine: str

    def __str__(self):
        return f"{self.flavour}-{self.machine}"

    def run(self, kernel):
        """{what: "" or how it failed}"""
        found = {}
        machine = dataclasses.replace(vm.MACHINES[self.machine], memory="1G")
        with tempfile.TemporaryDirectory() as directory:
            disks = [oracle.Image(pathlib.Path(directory, name), name,
                                  size=size << 20) for name, size in
                     (("well", 64), ("bad", 8), ("other", 64))]
            ones = pathlib.Path(directory, "ones")
            ones.write_bytes(b"\xff" * 16384)
            disks[0] = nbd.Disk(disks[0], pathlib.Path(directory, "nbd"))
            guest = vm.VM(kernel, machine, name=f"faults-{self}", qmp=True,
                          programs=True, trace=EVENTS,
                          devices=arguments(machine, disks, ones))
            with step(found, "boot"), guest:
                guest.sh("echo 20 >/proc/sys/kernel/hung_task_timeout_secs")
                for language, driver in vm.DRIVERS.items():
                    ones.write_bytes(b"\xff" * 16384)
                    assert fio_here(
                        disks[1], "--rw=write --bs=4k --size=1M --do_verify=0 "
                        f"--ioengine=psync {VERIFY}").good
                    self._all(Machine(guest, driver, disks), language, found)
                with step(found, "last look"):
                    assert guest.last_look() == []
            disks[0].close()
            with step(found, "log"):
                assert guest.reports() == [], guest.where()
        return found

    def _all(self, m, language, found):
        with step(found, (language, "bind")):
            m.vm.sh(f"load {m.driver}")
            m.a.bind()
            m.b.bind()
        for each in CHECKS:
            m.vm.sh(f"echo check: {language} {each.__name__} >/dev/kmsg")
            with step(found, (language, each.__name__)):
                each(m)
        with step(found, (language, "unbind")):
            m.a.unbind()
            m.b.unbind()


# --- the tests ----------------------------------------------------------------

BOOTS = [Boot("base", "intel-strict")]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, name, id=f"{boot}-{language}-{name}")
    for boot in BOOTS for language in vm.DRIVERS
    for name in ["bind", *(each.__name__ for each in CHECKS), "unbind"]])
def test_driver(booted, boot, language, name):
    outcome(booted(boot), (language, name))


@pytest.mark.parametrize("what", ["boot", "last look", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, what):
    outcome(booted(boot), what)

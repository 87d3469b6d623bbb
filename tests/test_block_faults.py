# SPDX-License-Identifier: GPL-2.0
"""Both block drivers with controllers that fail, do not respond or are gone.

QEMU's blkdebug injects errors, and an NBD server delays responses. Other faults are
caused through the PCI configuration space, and by mapping other memory over the
registers, from within the guest. A fio that verifies its data runs meanwhile, and
another one on a controller without faults. The images are verified again outside.
"""

import contextlib
import dataclasses
import errno
import pathlib
import tempfile
import time

import pytest

import nbd
from block_guest import (EVENTS, REQUEST_TIMEOUT_MS, TIMEOUT, VERIFY, WRITE,
                         Controller, Guest, check_step, fio_on_host, step)
from harness import oracle, vm

# The namespaces of the first controller: one without errors, and one with errors at
# these bytes and at each flush.
GOOD, BAD = 1, 2
BAD_READ = (64 << 10) + 512
BAD_WRITE = (3 << 20) + (300 << 10)
BAD_DISCARD = 5 << 20
ERRORS = [{"iotype": "read", "sector": BAD_READ >> 9},
          {"iotype": "write", "sector": BAD_WRITE >> 9},
          {"iotype": "discard", "sector": BAD_DISCARD >> 9},
          {"iotype": "flush"}]

# A write job that takes a second or two.
LONG = f"{WRITE} --size=12M"
# How often a command is retried.
RETRIES = 3
# The timeout of a request that no test has changed, in ms.
DEFAULT_TIMEOUT_MS = 30000
# For fio: go on after errors of reads and of writes.
GO_ON = f"--ignore_error={errno.ENODATA},{errno.ENODATA}"

# Registers of PCI configuration space.
COMMAND, MASTER = 4, 1 << 2
BAR0, BAR2 = 16, 24
# Offset of the doorbells in BAR 0.
DOORBELLS = 4096
MSIX, MSIX_MASK, MSIX_ENABLE = 0x11, 1 << 14, 1 << 15
# A BAR value at which no device responds: reads return 0.
UNUSED_ADDRESS = 0xd0000004


def arguments(machine, disks, ones):
    """QEMU arguments: two controllers, memory of ones, and memory for doorbells."""
    good, bad, other = disks
    return [*_controller(0, machine), *_namespace(0, 0, 1, good.drive()),
            *_namespace(1, 0, 2, drive_with_errors(bad)),
            *_controller(1, machine),
            *_namespace(2, 1, 1, f"file.filename={other.path}"),
            "-object", "memory-backend-file,id=ones,size=16384,share=on,"
                       f"mem-path={ones}",
            "-device", "ivshmem-plain,memdev=ones,bus=pcie.0,addr=0xa",
            "-object", "memory-backend-ram,id=sink,size=4096,share=on",
            "-device", "ivshmem-plain,memdev=sink,bus=pcie.0,addr=0xb"]


def _controller(number, machine):
    return ["-device", f"nvme,id=nvme{number},serial=nvme{number},"
                       f"{machine.slots[number]}"]


def _namespace(number, controller, nsid, drive):
    return ["-drive", f"if=none,id=disk{number},format=raw,discard=unmap,{drive}",
            "-device", f"nvme-ns,id=ns{number},drive=disk{number},"
                       f"bus=nvme{controller},nsid={nsid}"]


def drive_with_errors(image):
    """A drive with the errors of ERRORS, each every time."""
    drive = ("file.driver=blkdebug,file.image.driver=file,"
             f"file.image.filename={image.path}")
    for number, error in enumerate(ERRORS):
        rule = {"event": "none", "once": "off", "errno": errno.EIO} | error
        drive += "".join(f",file.inject-error.{number}.{name}={value}"
                         for name, value in rule.items())
    return drive


class Machine(Guest):
    """A guest whose first controller, a, has faults; b has none."""

    def __init__(self, guest, driver, disks):
        super().__init__(guest, driver)
        names = guest.sh("controllers").split()
        self.server = disks[0]
        self.a = Controller(self, "nvme0", names[0],
                            [self.server.image, disks[1]])
        self.b = Controller(self, "nvme1", names[1], disks[2:])
        ones, sink = guest.sh("find_pci 0x1af4 0x1110").split()
        self.ones = Controller(self, "ones", ones, [])
        self.sink = Controller(self, "sink", sink, [])

    @contextlib.contextmanager
    def io_on_b(self):
        """A fio runs on b during the block, and succeeds."""
        self.clear_logs()
        job = self.b.start(LONG)
        yield
        assert job.result().ok
        self.verify_image(self.b)

    @contextlib.contextmanager
    def io_on_both(self):
        """A fio runs on a as well, has begun its I/O, and succeeds."""
        with self.io_on_b():
            job = self.a.start_busy(LONG)
            yield
            assert job.result().ok
        self.verify_image(self.a)

    def verify_image(self, controller):
        """Outside the machine: the image has what the job LONG wrote. Clear it."""
        image = controller.disks[0]
        assert fio_on_host(image, f"{LONG} --verify_only").ok
        with image.path.open("r+b") as file:
            file.truncate(0)
            file.truncate(image.size)

    @contextlib.contextmanager
    def registers_covered(self, by, offset=0):
        """The BAR of another device covers the registers of a during the block."""
        address = (self.a.config(BAR0, 4) & ~15) + offset
        with self.config_changed(by, BAR2, lambda old: address | old & 15, 4):
            yield

    @contextlib.contextmanager
    def config_changed(self, device, offset, change, size=2):
        """A register of configuration space has another value during the block."""
        before = device.config(offset, size)
        device.set_config(offset, change(before), size)
        try:
            yield
        except vm.MachineError:
            raise
        except BaseException:
            device.set_config(offset, before, size)
            raise
        device.set_config(offset, before, size)

    def check_works(self):
        assert self.a.fio(LONG).ok
        self.verify_image(self.a)


CHECKS = []


def check(function):
    """Add a function to the list."""
    CHECKS.append(function)
    return function


# --- errors -------------------------------------------------------------------

@check
def read_error_reaches_fio(m):
    """As ENODATA, after all retries. Other blocks are read."""
    read = f"--rw=read --bs=4k --size=1M --ioengine=libaio --iodepth=8 {VERIFY}"
    with m.io_on_b():
        result = m.a.fio(read, BAD)
        assert (result.code, result.error) == (1, errno.ENODATA)
        assert len(m.events("pci_nvme_err_aio")) == 1 + RETRIES
        result = m.a.fio(f"{read} {GO_ON}", BAD)
        assert (result.error_count, result.first_error) == (1, errno.ENODATA), result
        assert result.read == (1 << 20) - 4096
        assert len(m.events("pci_nvme_err_aio")) == 2 + 2 * RETRIES


@check
def write_error_reaches_fio(m):
    """As ENODATA, after all retries. Other blocks are written."""
    start = 3 << 20
    write = ("--rw=write --bs=4k --size=1M --ioengine=libaio --iodepth=8 "
             f"--offset={start} --verify=pattern --verify_pattern=0x5a "
             "--do_verify=0")
    with m.io_on_b():
        result = m.a.fio(write, BAD)
        assert (result.code, result.error) == (1, errno.ENODATA)
        assert len(m.events("pci_nvme_err_aio")) == 1 + RETRIES
        result = m.a.fio(f"{write} {GO_ON}", BAD)
        assert (result.error_count, result.first_error) == (1, errno.ENODATA), result
        assert len(m.events("pci_nvme_err_aio")) == 2 + 2 * RETRIES
    data = m.a.disks[1].read(start, 1 << 20)
    bad = (BAD_WRITE - start) & ~4095
    assert not any(data[bad:bad + 4096])
    assert set(data[:bad] + data[bad + 4096:]) == {0x5a}


@check
def flush_error_reaches_fsync(m):
    with m.io_on_b():
        dd = m.vm.try_sh(f"dd if=/init of={m.a.device(BAD)} bs=4096 seek=1536 "
                         "count=1 conv=fsync,notrunc")
        assert dd.code and "No data available" in dd.out, dd
        assert len(m.events("pci_nvme_err_aio")) == 1 + RETRIES


@check
def other_error_is_retried(m):
    """QEMU reports a failed discard as an internal error, which may be transient."""
    with m.io_on_b():
        discard = m.vm.try_sh(f"/usr/sbin/blkdiscard -f -o {BAD_DISCARD} "
                              f"-l 65536 {m.a.device(BAD)}")
        assert discard.code and "Input/output error" in discard.out, discard
        assert len(m.events("pci_nvme_err_aio")) == 1 + RETRIES


# --- timeouts -----------------------------------------------------------------

@check
def request_that_times_out_is_aborted(m):
    """The controller gets an Abort and is not reset."""
    with m.io_on_b():
        m.server.hold()
        job = m.a.start("--rw=read --bs=4k --size=4k --ioengine=psync")
        m.wait_event("pci_nvme_admin_cmd", "ABORT")
        m.server.release()
        assert job.result().ok
        m.wait_log("aborting")
        assert len(m.events("pci_nvme_admin_cmd", "ABORT")) == 1
        assert "resetting" not in m.log()
    assert not m.events("pci_nvme_mmio_stopped")


@check
def controller_without_doorbells_is_reset(m):
    """After the reset it completes all requests."""
    with m.io_on_both():
        with m.registers_covered(m.sink, DOORBELLS):
            m.wait_log("aborting")
        m.wait_log("resetting")
        m.wait_log("reset done")
    assert len(m.events("pci_nvme_mmio_stopped")) == 1
    assert not m.events("pci_nvme_admin_cmd", "ABORT")


@check
def completion_without_interrupt_is_found(m):
    with m.io_on_b():
        control = m.a.capability(MSIX) + 2
        with m.config_changed(m.a, control, lambda value: value | MSIX_MASK):
            result = m.a.fio("--rw=randwrite --bs=16k --iodepth=8 --size=256k "
                             f"--ioengine=libaio {VERIFY}")
            assert result.ok and result.written == 256 << 10, result
        m.wait_log("completion without interrupt")
        assert not m.events("pci_nvme_admin_cmd", "ABORT")
        assert not m.events("pci_nvme_mmio_stopped")
    m.check_works()


@check
def controller_with_fatal_status_is_reset(m):
    """It reports a fatal status, as it cannot access memory."""
    with m.io_on_both():
        m.a.set_config(COMMAND, m.a.config(COMMAND) & ~MASTER)
        m.wait_log("resetting")
        m.wait_log("reset done")
    assert m.events("pci_nvme_err_cfs")
    assert m.a.config(COMMAND) & MASTER


@check
def function_reset_is_survived(m):
    """A reset through sysfs: the controller loses its queues and all requests."""
    with m.io_on_both():
        m.vm.sh(f"echo 1 >/sys/bus/pci/devices/{m.a.pci}/reset")
        m.wait_event("pci_nvme_pci_reset")
    assert m.events("pci_nvme_mmio_start_success")


@check
def function_reset_is_short(m):
    """Requests do not wait until they time out, which takes 30 s by default."""
    m.a.set_timeout(DEFAULT_TIMEOUT_MS)
    try:
        # A busy host may delay one of them.
        assert min(seconds_of_reset(m) for _ in range(2)) < 1
    finally:
        m.a.set_timeout(REQUEST_TIMEOUT_MS)


def seconds_of_reset(m):
    """From a reset until 20 more requests have completed."""
    device = m.a.device()
    with m.io_on_both():
        start, end = m.vm.sh(
            f"read -r start _ </proc/uptime; echo 1 >$PCI/devices/{m.a.pci}/reset "
            f"&& wait_busy {device} 20 && read -r end _ </proc/uptime && "
            "echo $start $end").split()
        assert "timed out" not in m.log()
    return float(end) - float(start)


# --- controllers that do not recover ------------------------------------------

@contextlib.contextmanager
def permanent_failure(m):
    """A fio fails, later ones fail at once, and the driver can be unbound.

    The block of code enters contexts with the fault, which lasts until then.
    """
    with m.io_on_b():
        job = m.a.start_busy(LONG)
        with contextlib.ExitStack() as stack:
            yield stack
            result = job.result()
            assert (result.code, result.error) == (1, errno.EIO), result
            start = time.monotonic()
            for nsid in (GOOD, BAD):
                result = m.a.fio("--rw=read --bs=4k --size=64k", nsid)
                assert result.code and result.error in (
                    0, errno.EIO, errno.ENODEV, errno.ENXIO), result
                assert not result.read
            assert time.monotonic() - start < TIMEOUT / 4
            m.a.unbind()
        m.a.bind()
    m.check_works()


@check
def controller_that_is_never_ready_has_failed(m):
    """Its registers read as 0."""
    with permanent_failure(m) as stack:
        stack.enter_context(
            m.config_changed(m.a, BAR0, lambda _: UNUSED_ADDRESS, 4))


@check
def controller_that_refuses_queues_has_failed(m):
    """After its reset it has no MSI-X, so it creates no queue with a vector."""
    with permanent_failure(m) as stack:
        control = m.a.capability(MSIX) + 2
        stack.enter_context(m.config_changed(
            m.a, control, lambda value: value & ~MSIX_ENABLE))
        m.a.set_config(COMMAND, m.a.config(COMMAND) & ~MASTER)


@check
def controller_that_stays_without_doorbells_has_failed(m):
    """It becomes ready, and executes no command."""
    with permanent_failure(m) as stack:
        stack.enter_context(m.registers_covered(m.sink, DOORBELLS))


@check
def controller_that_is_gone_has_failed(m):
    """Its registers read as ones."""
    with permanent_failure(m) as stack:
        stack.enter_context(m.registers_covered(m.ones))


# --- a boot -------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """One kernel on one machine, with both drivers one after the other."""

    flavour: str
    machine: str

    def __str__(self):
        return f"{self.flavour}-{self.machine}"

    def run(self, kernel):
        """{step: "" or how it failed}"""
        results = {}
        machine = dataclasses.replace(vm.MACHINES[self.machine], memory="1G")
        with tempfile.TemporaryDirectory() as directory:
            disks = [oracle.Image(pathlib.Path(directory, name), name,
                                  size=size << 20) for name, size in
                     (("good", 64), ("bad", 8), ("other", 64))]
            ones = pathlib.Path(directory, "ones")
            ones.write_bytes(b"\xff" * 16384)
            disks[0] = nbd.Server(disks[0], pathlib.Path(directory, "nbd"))
            guest = vm.VM(kernel, machine, name=f"faults-{self}", qmp=True,
                          programs=True, trace=EVENTS,
                          devices=arguments(machine, disks, ones))
            with step(results, "boot"), guest:
                guest.sh("echo 20 >/proc/sys/kernel/hung_task_timeout_secs")
                for language, driver in vm.DRIVERS.items():
                    ones.write_bytes(b"\xff" * 16384)
                    assert fio_on_host(
                        disks[1], "--rw=write --bs=4k --size=1M --do_verify=0 "
                        f"--ioengine=psync {VERIFY}").ok
                    self._run_checks(Machine(guest, driver, disks), language,
                                     results)
                with step(results, "final check"):
                    assert guest.final_check() == []
            disks[0].close()
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
        return results

    @staticmethod
    def _run_checks(m, language, results):
        with step(results, (language, "bind")):
            # Some checks wait until an admin command times out.
            m.vm.sh(f"load {m.driver} admin_timeout=5")
            m.a.bind()
            m.b.bind()
        for function in CHECKS:
            m.vm.sh(f"echo check: {language} {function.__name__} >/dev/kmsg")
            with step(results, (language, function.__name__)):
                function(m)
        with step(results, (language, "unbind")):
            m.a.unbind()
            m.b.unbind()


# --- the tests ----------------------------------------------------------------

BOOTS = [Boot("base", "intel-strict")]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, name, id=f"{boot}-{language}-{name}")
    for boot in BOOTS for language in vm.DRIVERS
    for name in ["bind", *(function.__name__ for function in CHECKS), "unbind"]])
def test_driver(booted, boot, language, name):
    check_step(booted(boot), (language, name))


@pytest.mark.parametrize("name", ["boot", "final check", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, name):
    check_step(booted(boot), name)

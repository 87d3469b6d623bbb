# SPDX-License-Identifier: GPL-2.0
"""Both NVMe sample drivers on every route, compared with bytes outside.

One boot per kernel and machine runs the whole list below, first for one driver
then for the other, on two controllers whose disks differ in block size. Each
entry of the list is one test. What a disk image must hold is tracked here, and
in the end all of it is compared: after power-off from outside, before that by
the kernel's own driver.
"""

import dataclasses
import errno
import hashlib
import os
import pathlib
import tempfile
import traceback

import pytest

import oracle
import vm

ROUTES = [name for name in vm.MACHINES if name != "bounce-natural"]
DEBUG_ROUTES = ["direct", "bounce", "intel-lazy", "p2p-bus"]

# PRP1 alone, PRP1 and PRP2, and lists; whole pages and not.
SIZES = [512, 1536, 4096, 8192, 12288, 19968, 131072, 262144]
PEER_SIZES = [4096, 12288, 262144]
# What the kernel's own driver writes, before all others.
KERNEL_WROTE = 65536
KERNEL_WROTE_AT = 1 << 20
# What one map may bounce for certain. The kernel hands out slots for 256 KiB in
# a row, but the kernel's own driver, which had the device before, asked for
# alignment to a page, and that stays with the device.
BOUNCE_MOST = 252 << 10


class Guest:
    """A machine with two controllers, and one driver on both."""

    def __init__(self, guest, driver, a, b):
        self.vm = guest
        self.machine = guest.machine
        self.driver = driver
        self.a = a
        self.b = b
        self.both = [a, b]

    def bind(self, *controllers):
        names = " ".join(each.pci for each in controllers or self.both)
        self.vm.sh(f"bind {self.driver} {names}")

    def unbind(self, controller):
        self.vm.sh(f"unbind {controller.pci}")


@dataclasses.dataclass(frozen=True)
class Check:
    """An entry of the list."""

    name: str
    run: object
    needs: object

    def applies(self, boot):
        return self.needs(boot)


CHECKS = []


def check(values=(None,), needs=lambda boot: True):
    """Add a function to the list, once for each value."""
    def add(function):
        for value in values:
            name = function.__name__
            if value is None:
                CHECKS.append(Check(name, function, needs))
            else:
                CHECKS.append(Check(
                    f"{name}-{value}",
                    lambda guest, value=value: function(guest, value), needs))
        return function
    return add


def as_module(boot):
    return boot.flavour == "base"


def peers(boot):
    return vm.MACHINES[boot.machine].mmio not in (None, "refused")


def refused(boot):
    return vm.MACHINES[boot.machine].mmio == "refused"


# --- the list ---------------------------------------------------------------

@check()
def info_tells_what_is_there(guest):
    for each in guest.both:
        info = each.info()
        assert info["serial"].strip() == each.disk.serial
        assert int(info["nsid"]) == 1
        assert int(info["blocks"]) == each.disk.blocks
        assert int(info["block_size"]) == each.disk.block_size
        assert int(info["max_transfer"]) >= 256 << 10
        assert int(info["cmb"]) == vm.CMB_BYTES


def moved(each, outcome, length, route):
    result, good = outcome
    if result.error == "E2BIG" and route == "bounce" and length > BOUNCE_MOST:
        return
    assert result.error == ""
    assert result.bytes == length
    assert result.route == route
    assert good, f"{each.pci}: {result}: not the bytes of the image"


def both_at(guest, length):
    """The controllers whose blocks divide the length."""
    return [each for each in guest.both if not length % each.disk.block_size]


@check(SIZES)
def read_gets_the_bytes_of_the_disk(guest, length):
    for each in both_at(guest, length):
        # Not at the start, and where nothing writes.
        moved(each, each.read(3 << 12, length), length, guest.machine.cpu)


@check()
def read_gets_what_the_kernel_driver_wrote(guest):
    for each in guest.both:
        moved(each, each.read(KERNEL_WROTE_AT, KERNEL_WROTE), KERNEL_WROTE,
              guest.machine.cpu)


@check(SIZES)
def write_reaches_the_disk(guest, length):
    for each in both_at(guest, length):
        at = each.disk.take(length)
        moved(each, each.write(at, length, length + 1), length,
              guest.machine.cpu)


@check(SIZES)
def verify_goes_there_and_back(guest, length):
    for each in both_at(guest, length):
        at = each.disk.take(length)
        moved(each, each.verify(at, length, length + 2), length,
              guest.machine.cpu)


@check()
def last_block_is_reached(guest):
    for each in guest.both:
        size = each.disk.block_size
        moved(each, each.read(each.disk.size - size, size), size,
              guest.machine.cpu)


@check()
def both_controllers_at_once(guest):
    a, b = guest.both
    at = [each.disk.take(65536) for each in guest.both]
    for each, where in zip(guest.both, at):
        each.disk.expect(where, oracle.pattern(7, where, 65536))
    loop = ("for n in 0 1 2 3 4 5 6 7 8 9; do order {0} {1} '{2}' || exit 1; "
            "done >/tmp/{1} 2>&1")
    tasks = [loop.format(guest.driver, each.pci, "write {} {} 7".format(
        where // each.disk.block_size, 65536 // each.disk.block_size))
        for each, where in zip(guest.both, at)]
    guest.vm.sh(f"({tasks[0]}) & first=$!; ({tasks[1]}) & second=$!; "
                "wait $first && wait $second")
    for each, where in zip(guest.both, at):
        assert each.disk.holds(where, 65536)


MALFORMED = [
    "", " ", "read", "read 0", "read 0 1 2", "read x 1", "read 0 x",
    "read -1 1", "read 0 -1", "read 0 1x", "read 0 18446744073709551616",
    "write 0 1", "write 0 1 2 3", "write 0 1 x", "verify 0 1", "READ 0 1",
    "peer-read", "peer-read 0 0 1", "peer-write 0000:00:00.0 0 0",
    "erase 0 1", "readx 0 1",
]


@check()
def malformed_line_is_refused(guest):
    for line in MALFORMED:
        assert guest.a.order(line).error == "EINVAL", f"'{line}'"


@check()
def long_line_is_refused(guest):
    answer = guest.vm.ask(f"echo 'read 0 {'0' * 3000}1' "
                          f">$DEBUG/{guest.driver}/{guest.a.pci}/command")
    assert os.strerror(errno.EINVAL) in answer.out


@check()
def beyond_the_disk_is_refused(guest):
    for each in guest.both:
        blocks = each.disk.blocks
        for lba, count in [(blocks, 1), (blocks - 1, 2), (0, blocks + 1),
                           ((1 << 64) - 1, 1), ((1 << 64) - 1, 2),
                           (1 << 55, 1), (1 << 63, 1)]:
            for line in (f"read {lba} {count}", f"write {lba} {count} 1",
                         f"verify {lba} {count} 1"):
                assert each.order(line).error == "EINVAL", line


@check()
def too_much_at_once_is_refused(guest):
    for each in guest.both:
        most = int(each.info()["max_transfer"]) // each.disk.block_size
        for count in (0, most + 1, 65537, 1 << 32, 1 << 55, (1 << 64) - 1):
            for line in (f"read 0 {count}", f"write 0 {count} 1"):
                assert each.order(line).error == "EINVAL", line
        length = most * each.disk.block_size
        moved(each, each.read(0, length), length, guest.machine.cpu)


@check(PEER_SIZES, needs=peers)
def peer_memory_holds_what_was_read(guest, length):
    """Disk to the other's memory, and from there to another place."""
    for each, peer in ((guest.a, guest.b), (guest.b, guest.a)):
        for at in (0, 0x200, vm.CMB_BYTES - length):
            there_and_back(guest, each, peer, at, length)


def there_and_back(guest, each, peer, at, length):
    result = each.peer_read(peer, at, 5 << 12, length)
    assert (result.error, result.bytes, result.checksum, result.route) == \
        ("", length, None, guest.machine.mmio)
    data = each.disk.region(5 << 12, length)
    to = each.disk.take(length)
    moved(each, each.peer_write(peer, at, to, length, data), length,
          guest.machine.mmio)


@check(needs=peers)
def outside_of_peer_memory_is_refused(guest):
    size = guest.a.disk.block_size
    for at in (vm.CMB_BYTES, vm.CMB_BYTES - size // 2, 1 << 40, (1 << 64) - 1,
               (1 << 64) - size):
        for verb in ("peer-read", "peer-write"):
            assert guest.a.order(verb, guest.b.pci, at, 0, 1).error == \
                "EINVAL", f"{verb} at {at}"


@check(needs=peers)
def peer_without_driver_is_refused(guest):
    guest.unbind(guest.b)
    try:
        for verb in ("peer-read", "peer-write"):
            assert guest.a.order(verb, guest.b.pci, 0, 0, 8).error == "ENODEV"
    finally:
        guest.bind(guest.b)
    there_and_back(guest, guest.a, guest.b, 0, 4096)


@check(needs=peers)
def peer_may_leave_at_any_time(guest):
    """Its driver goes and comes while the other uses its memory."""
    order = f"order {guest.driver} {guest.a.pci} 'peer-read {guest.b.pci} 0 0 512'"
    guest.vm.sh(
        f"(while [ ! -e /tmp/stop ]; do {order}; done) >/tmp/peer 2>&1 & "
        f"for n in 1 2 3 4 5; do usleep 100000; unbind {guest.b.pci}; "
        f"bind {guest.driver} {guest.b.pci} || failed=1; done; "
        "touch /tmp/stop; wait; rm /tmp/stop; [ -z $failed ]")
    ended = set(guest.vm.sh("grep -v '^ok' /tmp/peer || :").splitlines())
    assert ended <= {f"error -{errno.ENODEV}",
                     f"sh: write error: {os.strerror(errno.ENODEV)}"}, ended
    there_and_back(guest, guest.a, guest.b, 0, 4096)


@check(needs=lambda boot: peers(boot) or refused(boot))
def no_such_peer_is_refused(guest):
    for name in ("0000:ff:1f.7", "nonsense", "0000:00:00.0", "."):
        assert guest.a.order("peer-read", name, 0, 0, 1).error in \
            ("ENODEV", "EINVAL"), name


@check(needs=refused)
def peer_without_a_way_is_refused(guest):
    for each, peer in ((guest.a, guest.b), (guest.b, guest.a)):
        for verb in ("peer-read", "peer-write"):
            assert each.order(verb, peer.pci, 0, 0, 8).error == "EREMOTEIO"


@check()
def bind_again(guest):
    for each in guest.both:
        guest.unbind(each)
        assert guest.vm.ask(f"ls $DEBUG/{guest.driver}/{each.pci}").code
        guest.bind(each)
        moved(each, each.read(0, 8192), 8192, guest.machine.cpu)


@check()
def unbind_while_busy(guest):
    order = f"order {guest.driver} {guest.a.pci} 'read 0 256'"
    guest.vm.sh(f"(while {order}; do :; done) >/tmp/busy 2>&1 & "
                f"usleep 300000; unbind {guest.a.pci}; wait")
    assert guest.vm.sh("grep -c ^ok /tmp/busy") != "0"
    guest.bind(guest.a)
    moved(guest.a, guest.a.read(0, 8192), 8192, guest.machine.cpu)


@check(needs=as_module)
def unload_and_load_again(guest):
    guest.vm.sh(f"rmmod {guest.driver}")
    assert guest.vm.ask(f"ls $DEBUG/{guest.driver}").code
    guest.vm.sh(f"load {guest.driver}")
    guest.bind()
    for each in guest.both:
        moved(each, each.read(0, 8192), 8192, guest.machine.cpu)


# --- a boot -----------------------------------------------------------------

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
        with tempfile.TemporaryDirectory() as directory:
            disks = [oracle.Disk(pathlib.Path(directory, name),
                                 f"disk-{name}", block_size=size)
                     for name, size in (("a", 512), ("b", 4096))]
            machine = vm.MACHINES[self.machine]
            guest = vm.VM(kernel, machine, devices=vm.nvme(machine, disks),
                          append="dma_phys.debug=1", name=f"nvme-{self}")
            with attempt(found, "boot"), guest:
                self._whole_list(guest, disks, found)
            with attempt(found, "image"):
                for disk in disks:
                    assert disk.differs() is None, \
                        f"{disk.serial} differs at byte {disk.differs()}"
            with attempt(found, "log"):
                assert guest.reports() == [], guest.where()
        return found

    def _whole_list(self, guest, disks, found):
        names = guest.sh("load nvme && controllers").split()
        assert len(names) == len(disks)
        kernel_driver_writes(guest, names, disks)
        for language, driver in vm.DRIVERS.items():
            under_test = Guest(guest, driver, *(
                oracle.Driver(guest, driver, name, disk)
                for name, disk in zip(names, disks)))
            with attempt(found, (language, "bind")):
                guest.sh(f"load {driver}")
                under_test.bind()
            for each in CHECKS:
                if each.applies(self):
                    with attempt(found, (language, each.name)):
                        each.run(under_test)
        with attempt(found, "kernel driver"):
            kernel_driver_agrees(guest, names, disks)
        with attempt(found, "last look"):
            guest.sh(f"unbind {names[0]}; unbind {names[1]}")
            assert guest.last_look() == []
            if self.flavour == "debug":
                nothing_left(guest)


class attempt:
    """Note how the block ended; a machine that is gone ends the boot."""

    def __init__(self, found, what):
        self._found = found
        self._what = what

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind and not issubclass(kind, Exception):
            return False
        self._found[self._what] = "" if not kind else "".join(
            traceback.format_exception(kind, value, trace))
        return not kind or not issubclass(kind, vm.Failure) \
            or self._what == "boot"


def kernel_driver_writes(guest, names, disks):
    """Random bytes, which the host then knows from the image."""
    for name, disk in zip(names, disks):
        at = disk.take(KERNEL_WROTE)
        assert at == KERNEL_WROTE_AT
        said = guest.sh(
            f"bind nvme {name} && head -c {KERNEL_WROTE} /dev/urandom >/tmp/r "
            f"&& dd if=/tmp/r of=$(disk {name}) bs=64k seek={at >> 16} "
            "oflag=direct 2>/dev/null && sha256sum </tmp/r")
        with disk.path.open("rb") as image:
            image.seek(at)
            written = image.read(KERNEL_WROTE)
        assert hashlib.sha256(written).hexdigest() == said.split()[0]
        disk.expect(at, written)


def nothing_left(guest):
    """The kernel has watched all maps: they are undone, each once."""
    assert guest.sh("cat $DEBUG/dma_phys/enable") == "1"
    counters = dict(line.rsplit(" ", 1) for line in
                    guest.sh("cat $DEBUG/dma_phys/counters").splitlines())
    assert int(counters["unmaps"]) > 0
    assert [counters[name] for name in ("live", "left", "refused")] == ["0"] * 3
    guest.sh("echo 0 >$DEBUG/dma_phys/enable")
    assert guest.sh("cat $DEBUG/dma_phys/enable") == "0"


def kernel_driver_agrees(guest, names, disks):
    """The kernel's own driver reads all of both disks."""
    guest.sh(f"bind nvme {' '.join(names)}")
    for name, disk in zip(names, disks):
        found = guest.sh(f"disk_sum $(disk {name})")
        assert found == hashlib.sha256(disk.expected).hexdigest()


# --- the tests --------------------------------------------------------------

BOOTS = [Boot("base", route) for route in ROUTES] \
    + [Boot("debug", route) for route in DEBUG_ROUTES]


def outcome(found, what):
    failure = found.get(what, f"not reached\n{found.get('boot', '')}")
    if failure:
        pytest.fail(failure, pytrace=False)


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, name, id=f"{boot}-{language}-{name}")
    for boot in BOOTS for language in vm.DRIVERS
    for name in ["bind", *(each.name for each in CHECKS
                           if each.applies(boot))]])
def test_driver(booted, boot, language, name):
    outcome(booted(boot), (language, name))


@pytest.mark.parametrize("what", ["boot", "kernel driver", "last look",
                                  "image", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, what):
    outcome(booted(boot), what)

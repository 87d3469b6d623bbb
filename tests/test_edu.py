# SPDX-License-Identifier: GPL-2.0
"""The minimal drivers copy the right bytes, and leave nothing behind.

When such a driver is bound, QEMU's edu copies a pattern from a list of ranges to one
range. QEMU reads the copy from the memory of the machine, at the physical address in
the kernel's trace. Then the driver is unbound and unloaded while the device works.

On machines with peers, edu copies the pattern within the memory of ivshmem-plain.
There the driver is also unbound from ivshmem-plain while edu works.
"""

import dataclasses
import errno
import itertools
import os
import pathlib
import re
import tempfile

import pytest

from block_guest import check_step, step, wait_until
from harness import demo, vm
from harness import kernel as kernels

# What the drivers write into their source: four pages.
PATTERN = bytes((i * 7 + i // 256) & 0xff for i in range(4 * 4096))
# Each page is a segment, and the device raises an interrupt for each transfer: of a
# page to its buffer, and of its buffer to the target.
SEGMENTS = 4
INTERRUPTS = 2 * SEGMENTS

ROUNDS = 3
# A copy takes 0.8 s. On a busy host it may end before the driver is unbound.
MAX_ROUNDS = 10


class Driver:
    """A minimal driver, and the device."""

    names = demo.EDU_DRIVERS
    # The bytes of the range that the driver maps, after a copy.
    mapped = PATTERN

    def __init__(self, guest, name):
        self.vm = guest
        self.name = name
        self.pci = guest.sh("find_pci 0x1234 0x11e8")

    @property
    def load(self):
        """A line of shell that loads the module, which binds to a free device."""
        return f"load {self.name} dma_bits={self.vm.machine.edu_bits}"

    @property
    def result(self):
        """What it logs about a copy."""
        return (f"copied {len(PATTERN)} bytes, {SEGMENTS} segments, "
                f"route {self.vm.machine.cpu_route}: verified")

    @property
    def events(self):
        """The maps and unmaps of a copy, see trace(), without addresses."""
        size, route = len(PATTERN), self.vm.machine.cpu_route
        return [("dma_phys_map", "cpu", "from-device", size, route),
                ("dma_phys_sg_map", "cpu", "to-device", size, route),
                ("dma_phys_sg_unmap", "cpu", "to-device", size, route),
                ("dma_phys_unmap", "cpu", "from-device", size, route)]

    # Lines of shell. They start no process, so one of them can follow another while
    # the device works.

    @property
    def bind(self):
        return f"echo {self.pci} >$PCI/drivers/{self.name}/bind"

    @property
    def unbind(self):
        return f"echo {self.pci} >$PCI/drivers/{self.name}/unbind"

    def clear(self):
        """Clear the kernel's log and trace."""
        self.vm.sh("dmesg -c >/dev/null && echo >$TRACING/trace")

    def copied(self):
        """What the driver has logged about copies since clear()."""
        return re.findall(rf"\b{self.name} {self.pci}: (copied .*)$",
                          self.vm.sh("dmesg"), re.M)

    def wait_copied(self):
        """Wait for one copy, and check it."""
        wait_until(self.copied, message=lambda: self.vm.sh("dmesg"))
        assert self.copied() == [self.result]

    def trace(self, error=0):
        """Maps and unmaps since clear(): [(event, kind, direction, phys, size, route)]

        All of them ended with this error.
        """
        events = re.findall(
            r" (dma_phys_\w+): (\S+) (\w+) (\S+) phys=(\w+) size=(\d+) "
            r"route=(\w+) .* err=(\S+)$", self.vm.sh("cat $TRACING/trace"), re.M)
        assert {device for _, device, *_ in events} <= {self.pci}, events
        assert {result for *_, result in events} <= {str(-error)}, events
        return [(event, kind, direction, int(phys, 16), int(size), route) for
                event, _, kind, direction, phys, size, route, _ in events]

    def check_trace(self, copies):
        """Each copy mapped what it needs, and all was unmapped."""
        assert sorted((event, kind, direction, size, route) for
                      event, kind, direction, _, size, route in self.trace()) == \
            sorted(self.events * copies)

    def check_memory(self):
        """QEMU reads the right bytes in the range that was mapped last."""
        phys = [phys for event, _, _, phys, *_ in self.trace()
                if event == "dma_phys_map"][-1]
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "memory")
            self.vm.qmp("pmemsave", val=phys, size=len(self.mapped),
                        filename=str(path))
            assert path.read_bytes() == self.mapped

    def interrupts(self):
        """How many interrupts the driver had since it was bound."""
        words = self.vm.sh(f"grep ' {self.name}$' /proc/interrupts").split()
        return sum(map(int, itertools.takewhile(str.isdigit, words[1:])))

    def interrupt_copy(self, line, end=":"):
        """Run a line that binds the driver and removes it, while the device works.

        All is unmapped after each round. The other line ends a round.
        """
        for _ in range(MAX_ROUNDS):
            self.clear()
            self.vm.sh(line)
            self.check_trace(copies=1)
            self.vm.sh(end)
            if not self.copied():
                return
        pytest.fail("each copy ended before the driver was removed")


class PeerDriver(Driver):
    """A minimal driver for edu and a peer, and these devices."""

    names = demo.EDU_PEER_DRIVERS
    # The copy follows the source.
    mapped = 2 * PATTERN

    def __init__(self, guest, name):
        super().__init__(guest, name)
        self.peer = guest.sh("find_pci 0x1af4 0x1110")

    @property
    def load(self):
        """The same. edu is first, so its probe is deferred until there is a peer."""
        return (f"load {self.name} && until [ -e $PCI/drivers/{self.name}/"
                f"{self.pci} ]; do :; done")

    @property
    def result(self):
        return (f"copied {len(PATTERN)} bytes, "
                f"route {self.vm.machine.mmio_route}: verified")

    @property
    def events(self):
        size, route = len(self.mapped), self.vm.machine.mmio_route
        return [("dma_phys_map", "mmio", "bidirectional", size, route),
                ("dma_phys_unmap", "mmio", "bidirectional", size, route)]

    @property
    def bind_peer(self):
        return f"echo {self.peer} >$PCI/drivers/{self.name}/bind"

    @property
    def unbind_peer(self):
        return f"echo {self.peer} >$PCI/drivers/{self.name}/unbind"


# --- steps of a boot --------------------------------------------------------------

def copies(driver):
    driver.clear()
    driver.vm.sh(driver.load)
    driver.wait_copied()
    driver.check_trace(copies=1)
    driver.check_memory()
    assert driver.interrupts() == INTERRUPTS


def binds_again(driver):
    driver.vm.sh(driver.unbind)
    for _ in range(ROUNDS):
        driver.clear()
        driver.vm.sh(driver.bind)
        driver.wait_copied()
        assert driver.interrupts() == INTERRUPTS
        driver.vm.sh(driver.unbind)
        driver.check_trace(copies=1)


def unbound_in_flight(driver):
    """The next copy starts at once, and from the start."""
    for _ in range(ROUNDS):
        driver.interrupt_copy(f"{driver.bind} && {driver.unbind}")
        driver.clear()
        driver.vm.sh(driver.bind)
        driver.wait_copied()
        driver.check_memory()
        driver.vm.sh(driver.unbind)


def peer_unbound_in_flight(driver):
    """edu is revoked, and stays bound. It copies again when both are bound again."""
    for _ in range(ROUNDS):
        driver.interrupt_copy(
            f"{driver.bind} && {driver.unbind_peer}",
            f"{driver.unbind} && {driver.bind_peer}")
        driver.clear()
        driver.vm.sh(driver.bind)
        driver.wait_copied()
        driver.check_memory()
        driver.vm.sh(driver.unbind)


def peer_unbound_when_idle(driver):
    """edu is still a client of the peer. Without a peer, its probe fails."""
    driver.clear()
    driver.vm.sh(driver.bind)
    driver.wait_copied()
    driver.vm.sh(f"{driver.unbind_peer} && {driver.unbind}")
    driver.check_trace(copies=1)
    driver.clear()
    assert driver.vm.try_sh(driver.bind).code
    driver.vm.sh(f"{driver.bind_peer} && {driver.bind}")
    driver.wait_copied()
    driver.vm.sh(driver.unbind)
    driver.check_trace(copies=1)


def unloaded_in_flight(driver):
    driver.vm.sh(f"rmmod {driver.name}")
    for _ in range(ROUNDS):
        driver.interrupt_copy(f"{driver.load} && rmmod {driver.name}")


def is_refused(driver):
    """The probe of edu fails, each time with the error of the map."""
    error = errno.EREMOTEIO
    report = (f"{driver.name} {driver.pci}: probe with driver {driver.name} "
              f"failed with error {-error}")

    driver.clear()
    driver.vm.sh(f"load {driver.name}")
    wait_until(lambda: report in driver.vm.sh("dmesg"),
               message=lambda: driver.vm.sh("dmesg"))
    bind = driver.vm.try_sh(driver.bind)
    assert bind.code and os.strerror(error) in bind.out
    assert driver.vm.sh("dmesg").count(report) == 2
    assert {event for event, *_ in driver.trace(error)} == {"dma_phys_map"}
    assert not driver.copied()


# With each driver, in this order.
STEPS = [copies, binds_again, unbound_in_flight, unloaded_in_flight]
PEER_STEPS = [copies, binds_again, unbound_in_flight, peer_unbound_in_flight,
              peer_unbound_when_idle, unloaded_in_flight]


def other_driver_is_next(drivers):
    """A driver is bound right after the other one, whose copy has not ended."""
    for driver in drivers:
        driver.vm.sh(driver.load)
    drivers[0].vm.sh(drivers[0].unbind)
    for first, second in (drivers, drivers[::-1]):
        first.clear()
        first.vm.sh(f"{first.bind} && {first.unbind} && {second.bind}")
        second.wait_copied()
        second.check_memory()
        second.vm.sh(second.unbind)


def nothing_is_left(guest):
    assert guest.final_check() == []
    if kernels.has(guest.kernel.flavour, "DMA_PHYS_DEBUG"):
        counters = dict(re.findall(r"^(\w+) (\d+)$",
                                   guest.sh("cat $DEBUG/dma_phys/counters"), re.M))
        assert [counters[name] for name in ("live", "leaked", "lost")] == \
            ["0", "0", "0"], counters


# --- a boot -----------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel on a machine."""

    flavour: str
    machine: str
    long: bool = False

    def __str__(self):
        return f"{self.flavour}-{vm.MACHINES[self.machine].short_name}"

    @property
    def driver(self):
        """The class of the drivers."""
        return PeerDriver if vm.MACHINES[self.machine].mmio_route else Driver

    @property
    def drivers(self):
        """The names of the drivers."""
        return [self.driver.names[language]
                for language in vm.languages(self.flavour)]

    @property
    def steps(self):
        """Functions for each driver."""
        if self.driver is Driver:
            return STEPS
        route = vm.MACHINES[self.machine].mmio_route
        return [is_refused] if route == "refused" else PEER_STEPS

    def names(self):
        """The names of all steps, in order."""
        names = ["boot", *(f"{driver} {function.__name__}"
                           for driver in self.drivers
                           for function in self.steps)]
        if self.driver is Driver and len(self.drivers) > 1:
            names.append("other_driver_is_next")
        return [*names, "nothing_is_left", "log"]

    def run(self, kernel):
        """{step: "" or how it failed}"""
        machine = vm.MACHINES[self.machine]
        guest = vm.VM(kernel, machine, devices=vm.edu(machine), qmp=True,
                      append="dma_phys.debug=1", name=f"edu-{self}")
        results = {}
        with step(results, "boot"), guest:
            self._run_steps(guest, results)
        with step(results, "log"):
            assert guest.reports() == [], guest.full_log()
            # Reports of the core, for example of a leak.
            assert "dma-phys: " not in guest.console(), guest.full_log()
        return results

    def _run_steps(self, guest, results):
        guest.sh("echo 1 >$TRACING/events/dma_phys/enable")
        drivers = [self.driver(guest, name) for name in self.drivers]
        for driver in drivers:
            for function in self.steps:
                with step(results, f"{driver.name} {function.__name__}"):
                    function(driver)
            # If a step has failed, the driver may still be bound.
            guest.try_sh(f"unbind {driver.pci}; rmmod {driver.name}")
        if "other_driver_is_next" in self.names():
            with step(results, "other_driver_is_next"):
                other_driver_is_next(drivers)
        guest.sh(f"unbind {drivers[0].pci}")
        with step(results, "nothing_is_left"):
            nothing_is_left(guest)


# On PowerPC, QEMU's device is big-endian, and these drivers are not for that.
BOOTS = [*(Boot(machine.arch, machine.name) for machine in vm.OTHER_ARCHES
           if machine.arch != "ppc64le"),
         Boot("arm64-tags", "arm64-direct-nc"), Boot("arm64-tags", "arm64-p2p-bus"),
         Boot("base", "direct"), Boot("base", "bounce"),
         Boot("base", "intel-lazy"), Boot("debug", "intel-lazy"),
         Boot("base", "p2p-bus"), Boot("base", "p2p-refused"),
         Boot("debug", "p2p-bus"), Boot("base", "p2p-bridge", long=True),
         Boot("debug", "direct", long=True), Boot("debug", "bounce", long=True)]


@pytest.mark.parametrize("boot, name", [
    pytest.param(boot, name, id=f"{boot}-{name.replace(' ', '-')}")
    for boot in BOOTS for name in boot.names()])
def test_edu(booted, boot, name):
    check_step(booted(boot), name)

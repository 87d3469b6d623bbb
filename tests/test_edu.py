# SPDX-License-Identifier: GPL-2.0
"""The minimal drivers copy the right bytes, and leave nothing behind.

When such a driver is bound, QEMU's edu copies a pattern from a list of ranges to one
range. QEMU reads the copy from the memory of the machine, at the physical address in
the kernel's trace. Then the driver is unbound and unloaded while the device works.
"""

import dataclasses
import itertools
import pathlib
import re
import tempfile

import pytest

from block_guest import check_step, step, wait_until
from harness import demo, vm

# What the drivers write into their source: four pages.
PATTERN = bytes((i * 7 + i // 256) & 0xff for i in range(4 * 4096))
# Each page is a segment, and the device raises an interrupt for each transfer: of a
# segment to its buffer, and of its buffer to the target.
SEGMENTS = 4
INTERRUPTS = 2 * SEGMENTS

ROUNDS = 3
# A copy takes 0.8 s. On a busy host it may end before the driver is unbound.
MAX_ROUNDS = 10


class Driver:
    """A minimal driver, and the device."""

    def __init__(self, guest, name):
        self.vm = guest
        self.name = name
        self.pci = guest.sh("find_pci 0x1234 0x11e8")

    @property
    def load(self):
        """A line of shell that loads the module, which binds to a free device."""
        return f"load {self.name} dma_bits={self.vm.machine.edu_bits}"

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
        assert self.copied() == [
            f"copied {len(PATTERN)} bytes, {SEGMENTS} segments, "
            f"route {self.vm.machine.cpu_route}: verified"]

    def trace(self):
        """Maps and unmaps since clear(): [(event, direction, phys, size, route)]

        All of them succeeded.
        """
        events = re.findall(
            r" (dma_phys_\w+): (\S+) cpu (\S+) phys=(\w+) size=(\d+) route=(\w+) "
            r".* err=(\S+)$", self.vm.sh("cat $TRACING/trace"), re.M)
        assert {device for _, device, *_ in events} <= {self.pci}, events
        assert {error for *_, error in events} <= {"0"}, events
        return [(event, direction, int(phys, 16), int(size), route)
                for event, _, direction, phys, size, route, _ in events]

    def check_trace(self, copies):
        """Each copy mapped a list and a range, and both were unmapped."""
        size, route = len(PATTERN), self.vm.machine.cpu_route
        expected = [("dma_phys_map", "from-device", size, route),
                    ("dma_phys_sg_map", "to-device", size, route),
                    ("dma_phys_sg_unmap", "to-device", size, route),
                    ("dma_phys_unmap", "from-device", size, route)]
        assert sorted((event, direction, size, route)
                      for event, direction, _, size, route in self.trace()) == \
            sorted(expected * copies)

    def read_target(self):
        """The bytes of the range that was mapped last, as QEMU reads them."""
        phys, size = [(phys, size) for event, _, phys, size, _ in self.trace()
                      if event == "dma_phys_map"][-1]
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory, "memory")
            self.vm.qmp("pmemsave", val=phys, size=size, filename=str(path))
            return path.read_bytes()

    def interrupts(self):
        """How many interrupts the driver had since it was bound."""
        words = self.vm.sh(f"grep ' {self.name}$' /proc/interrupts").split()
        return sum(map(int, itertools.takewhile(str.isdigit, words[1:])))

    def interrupt_copy(self, line):
        """Run a line that binds the driver and removes it, while the device works.

        All is unmapped after each round.
        """
        for _ in range(MAX_ROUNDS):
            self.clear()
            self.vm.sh(line)
            self.check_trace(copies=1)
            if not self.copied():
                return
        pytest.fail("each copy ended before the driver was removed")


# --- steps of a boot --------------------------------------------------------------

def copies(driver):
    driver.clear()
    driver.vm.sh(driver.load)
    driver.wait_copied()
    driver.check_trace(copies=1)
    assert driver.read_target() == PATTERN
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
        assert driver.read_target() == PATTERN
        driver.vm.sh(driver.unbind)


def unloaded_in_flight(driver):
    driver.vm.sh(f"rmmod {driver.name}")
    for _ in range(ROUNDS):
        driver.interrupt_copy(f"{driver.load} && rmmod {driver.name}")


# With each driver, in this order.
STEPS = [copies, binds_again, unbound_in_flight, unloaded_in_flight]


def other_driver_is_next(drivers):
    """A driver is bound right after the other one, whose copy has not ended."""
    for driver in drivers:
        driver.vm.sh(driver.load)
    drivers[0].vm.sh(drivers[0].unbind)
    for first, second in (drivers, drivers[::-1]):
        first.clear()
        first.vm.sh(f"{first.bind} && {first.unbind} && {second.bind}")
        second.wait_copied()
        assert second.read_target() == PATTERN
        second.vm.sh(second.unbind)


def nothing_is_left(guest):
    assert guest.final_check() == []
    if guest.kernel.flavour == "debug":
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
        return f"{self.flavour}-{self.machine}"

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

    @staticmethod
    def _run_steps(guest, results):
        guest.sh("echo 1 >$TRACING/events/dma_phys/enable")
        drivers = [Driver(guest, name) for name in demo.EDU_DRIVERS.values()]
        for driver in drivers:
            for function in STEPS:
                with step(results, f"{driver.name} {function.__name__}"):
                    function(driver)
            # If a step has failed, the driver may still be bound.
            guest.try_sh(f"unbind {driver.pci}; rmmod {driver.name}")
        with step(results, "other_driver_is_next"):
            other_driver_is_next(drivers)
        guest.sh(f"unbind {drivers[0].pci}")
        with step(results, "nothing_is_left"):
            nothing_is_left(guest)


BOOTS = [Boot("base", "direct"), Boot("base", "bounce"),
         Boot("base", "intel-lazy"), Boot("debug", "intel-lazy"),
         Boot("debug", "direct", long=True), Boot("debug", "bounce", long=True)]
NAMES = ["boot", *(f"{driver} {function.__name__}"
                   for driver in demo.EDU_DRIVERS.values() for function in STEPS),
         "other_driver_is_next", "nothing_is_left", "log"]


@pytest.mark.parametrize("boot, name", [
    pytest.param(boot, name, id=f"{boot}-{name.replace(' ', '-')}")
    for boot in BOOTS for name in NAMES])
def test_edu(booted, boot, name):
    check_step(booted(boot), name)

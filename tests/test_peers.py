# SPDX-License-Identifier: GPL-2.0
"""A peer leaves, again and again, while its memory is mapped.

kernel/dma/phys/peer_test.c has the two drivers: one lends the memory of QEMU's
ivshmem-plain, one maps it for edu. Each round takes the lender away and brings
it back. Nothing may hang or complain, no map may succeed while it is away, and
maps must succeed in every round.
"""

import dataclasses
import functools
import time
import traceback

import pytest

import vm

LENDER = "dma_phys_lender_test"
BORROWER = "dma_phys_borrower_test"
MODULE = "dma_phys_peer_test"

# How the lender leaves: its driver is unbound, or the device is taken out of the
# machine. When unbound it takes the BAR back itself, or every second time leaves
# that to devres.
WAYS = ["unbind", "unplug"]
# What the borrower does: the driver's modes, and the counters that must grow.
USES = {"map": ["maps"], "hold": ["holds"], "map hold": ["maps", "holds"],
        "move hold": ["moves", "holds"]}

# For each way, over all uses; few with bytes under way, for edu is slow. Many
# for one boot, some for others.
ROUNDS = 200
FEW = 10
MOVING = 3

# Peers by bus address; and through an IOMMU, the lender below a port of its own,
# for nothing is unplugged from the root bus. Both ports are ACPI's, as QEMU has
# it: a tenth of a second, where native hotplug would take five seconds.
THROUGH_IOMMU = vm.MACHINES["p2p-iommu"]
MACHINES = {
    "p2p-bus": vm.MACHINES["p2p-bus"],
    "p2p-iommu": dataclasses.replace(
        THROUGH_IOMMU, edu_bits=64, slots=(THROUGH_IOMMU.slots[0], "bus=below"),
        devices=(*THROUGH_IOMMU.devices,
                 "pcie-root-port,id=below,bus=pcie.0,addr=9,chassis=1")),
}

# Seconds after which something hangs. A map lasts for microseconds, a transfer
# for a tenth of a second.
PATIENCE = 100


class Peers:
    """A lender and a borrower in a machine."""

    def __init__(self, guest):
        self.vm = guest
        self.lender = guest.sh("named 0x1af4 0x1110")
        self.borrower = guest.sh("named 0x1234 0x11e8")
        self._dir = f"$DEBUG/{MODULE}/{self.borrower}"
        self._device = {"driver": "ivshmem-plain", "id": "lender",
                        "memdev": "bar"} | dict(
            word.split("=") for word in guest.machine.slots[1].split(","))
        guest.sh(f"load {MODULE}")
        guest.sh(f"bind {LENDER} {self.lender}")
        guest.sh(f"bind {BORROWER} {self.borrower}")

    def counts(self, after=":"):
        """What the borrower has counted, after a line of shell."""
        words = self.vm.sh(f"{after} && cat {self._dir}/counts",
                           PATIENCE).split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def grown(self, names, than, now=None):
        """The counts, once all of these are larger."""
        end = time.monotonic() + PATIENCE
        while True:
            now = now or self.counts()
            if all(now[name] > than[name] for name in names):
                return now
            assert time.monotonic() < end, f"{names} stand still: {now}"
            now = None

    def use(self, uses):
        """Have the borrower do this and nothing else: the counts then."""
        return self.grown(USES[uses], self.counts(),
                          self.counts(f"echo {uses} >{self._dir}/mode"))

    def leave(self, way, forget=False):
        """The counts when the lender has left; if it does not, it hangs."""
        if way == "unplug":
            self.vm.qmp("device_del", id="lender")
            self.vm.event("DEVICE_DELETED", PATIENCE, device="lender")
            return self.counts()
        return self.counts(
            f"echo {int(forget)} >/sys/module/{MODULE}/parameters/forget "
            f"&& unbind {self.lender}")

    def come_back(self, way):
        """The counts when it has."""
        bind = f"bind {LENDER} {self.lender}"
        if way == "unplug":
            # QEMU does not take the same memory twice.
            self.vm.qmp("object-del", id="bar")
            self.vm.qmp("object-add", **vm.EDU_MEMORY)
            self.vm.qmp("device_add", **self._device)
            # The kernel takes a moment to know it, and to let drivers have it.
            bind = f"until {bind} >/dev/null 2>&1; do usleep 5000; done"
        return self.counts(bind)

    def one_round(self, way, forget, uses, before):
        """The lender leaves and comes back."""
        left = self.leave(way, forget)
        away = self.grown(["gone"], left)
        assert away["maps"] == left["maps"]
        if "holds" in USES[uses]:
            assert left["holds"] == before["holds"]
            assert left["revokes"] == before["revokes"] + 1
        return self.grown(USES[uses], away, self.come_back(way))


# --- a boot -----------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """One kernel on one machine."""

    flavour: str
    machine: str
    rounds: int

    def __str__(self):
        return f"{self.flavour}-{self.machine}"

    def steps(self):
        """{name: what is done with the peers}, in order"""
        steps = {f"{way}-{uses.replace(' ', '-')}":
                 functools.partial(leaves, way, uses, self._rounds(uses))
                 for way in WAYS for uses in USES}
        steps["borrower leaves"] = borrower_leaves
        if self.flavour == "base":
            steps["unload"] = unload
        steps["last look"] = last_look
        return steps

    def _rounds(self, uses):
        if "move" in uses:
            return MOVING
        return -(-(self.rounds - MOVING) // (len(USES) - 1))

    def run(self, kernel):
        """{step, or "boot": "" or how it failed}, and the log's complaints"""
        machine = MACHINES[self.machine]
        guest = vm.VM(kernel, machine, devices=vm.edu(machine), qmp=True,
                      turns=True, name=f"peers-{self}")
        found = {}
        at = "boot"
        try:
            with guest:
                peers = Peers(guest)
                for step, function in self.steps().items():
                    found[at] = ""
                    at = step
                    guest.sh(f"echo step: {step} >/dev/kmsg")
                    function(peers)
            found[at] = ""
        except Exception:  # the test that asks for it fails with it
            found[at] = traceback.format_exc()
        found["log"] = "\n".join([*guest.reports(), guest.where()]
                                 if guest.reports() else [])
        return found


def leaves(way, uses, count, peers):
    now = peers.use(uses)
    for number in range(count):
        now = peers.one_round(way, number % 2, uses, now)
    assert now["refused"] == now["spoilt"] == 0, now


def borrower_leaves(peers):
    """Its maps are gone with it: the lender can leave then."""
    for _ in range(3):
        peers.use("map hold")
        peers.vm.sh(f"unbind {peers.borrower} && unbind {peers.lender}", PATIENCE)
        peers.vm.sh(f"bind {LENDER} {peers.lender} && "
                    f"bind {BORROWER} {peers.borrower}")


def unload(peers):
    """Both drivers go, the lender's first."""
    peers.use("map hold")
    peers.vm.sh(f"rmmod {MODULE}", PATIENCE)
    assert peers.vm.ask(f"ls $DEBUG/{MODULE}").code


def last_look(peers):
    peers.vm.sh(f"unbind {peers.lender}; unbind {peers.borrower}")
    assert peers.vm.last_look() == []


# --- the tests --------------------------------------------------------------

BOOTS = [Boot("base", "p2p-bus", ROUNDS), Boot("base", "p2p-iommu", FEW),
         Boot("debug", "p2p-bus", FEW)]


@pytest.mark.parametrize("boot,step", [
    pytest.param(boot, step, id=f"{boot}-{step}")
    for boot in BOOTS for step in ["boot", *boot.steps(), "log"]])
def test_peers(booted, boot, step):
    found = booted(boot)
    failure = found.get(step, "not reached: another step failed")
    if failure:
        pytest.fail(failure, pytrace=False)

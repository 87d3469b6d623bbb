# SPDX-License-Identifier: GPL-2.0
"""The owner of a peer is removed or reset, many times, while a device maps it.

kernel/dma/phys/tests/peer_test.c has the two drivers: the owner shares the memory
of QEMU's ivshmem-plain, the client maps it for edu. Nothing may hang or complain.
No map may succeed while the owner is absent or in a reset. Maps must succeed after
each round.
"""

import dataclasses
import functools
import time
import traceback

import pytest

from harness import vm

OWNER = "dma_phys_owner_test"
CLIENT = "dma_phys_client_test"
MODULE = "dma_phys_peer_test"

# How the owner is removed: its driver is unbound, or the device is unplugged. If it
# is unbound, devres unregisters the peer in every second round, and the driver in
# the others.
REMOVALS = ["unbind", "unplug"]
# Modes of the client, and the counters that must grow.
MODES = {"map": ["maps"], "hold": ["holds"], "map hold": ["maps", "holds"],
         "move hold": ["moves", "holds"]}

# Rounds of each kind of removal, and of resets, over all modes. edu moves bytes
# slowly, so the mode that does has fewer.
ROUNDS = 200
RESET_ROUNDS = 40
FEW_ROUNDS = 10
MOVE_ROUNDS = 3

# P2P by bus address, and through an IOMMU. There the owner has a port of its own,
# since nothing can be unplugged from the root bus, and a bus reset needs a bridge.
# Hotplug is ACPI's, as QEMU has it by default: it takes 0.1 s, native hotplug 5 s.
P2P_IOMMU = vm.MACHINES["p2p-iommu"]
MACHINES = {
    "p2p-bus": vm.MACHINES["p2p-bus"],
    "p2p-iommu": dataclasses.replace(
        P2P_IOMMU, edu_bits=64, slots=(P2P_IOMMU.slots[0], "bus=below"),
        devices=(*P2P_IOMMU.devices,
                 "pcie-root-port,id=below,bus=pcie.0,addr=9,chassis=1")),
}

# Seconds after which a round counts as hung. A map is held for microseconds, in the
# mode "move" for the 0.1 s of a transfer.
TIMEOUT = 100


class Peers:
    """An owner and a client in a machine."""

    def __init__(self, guest):
        self.vm = guest
        self.owner = guest.sh("find_pci 0x1af4 0x1110")
        self.client = guest.sh("find_pci 0x1234 0x11e8")
        self.dir = f"$DEBUG/{MODULE}/{self.client}"
        self._device = {"driver": "ivshmem-plain", "id": "peer",
                        "memdev": "bar"} | dict(
            word.split("=") for word in guest.machine.slots[1].split(","))
        guest.sh(f"load {MODULE}")
        guest.sh(f"bind {OWNER} {self.owner}")
        guest.sh(f"bind {CLIENT} {self.client}")

    def counts(self, command=":"):
        """The counters of both drivers, after a line of shell."""
        words = self.vm.sh(f"{command} && cat {self.dir}/counts",
                           TIMEOUT).split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def wait_growth(self, names, before, now=None):
        """The counters, once all of these are larger than before."""
        end = time.monotonic() + TIMEOUT
        while True:
            now = now or self.counts()
            if all(now[name] > before[name] for name in names):
                return now
            assert time.monotonic() < end, f"{names} do not grow: {now}"
            now = None

    def set_mode(self, mode):
        """The counters after the client has changed to this mode."""
        return self.wait_growth(MODES[mode], self.counts(),
                                self.counts(f"echo {mode} >{self.dir}/mode"))

    def remove(self, how, skip_unregister=False):
        """The counters after the owner was removed."""
        if how == "unplug":
            self.vm.qmp("device_del", id="peer")
            self.vm.event("DEVICE_DELETED", TIMEOUT, device="peer")
            return self.counts()
        return self.counts(
            f"echo {int(skip_unregister)} "
            f">/sys/module/{MODULE}/parameters/skip_unregister "
            f"&& unbind {self.owner}")

    def add(self, how):
        """The counters after the owner was added again."""
        bind = f"bind {OWNER} {self.owner}"
        if how == "unplug":
            # QEMU does not use a memory object twice.
            self.vm.qmp("object-del", id="bar")
            self.vm.qmp("object-add", **vm.BAR_MEMORY)
            self.vm.qmp("device_add", **self._device)
            # The kernel needs a moment until it has added the device.
            bind = f"until {bind} >/dev/null 2>&1; do usleep 5000; done"
        return self.counts(bind)

    def removal_round(self, how, skip_unregister, mode, before):
        """Remove and add the owner: the counters once the client maps again."""
        removed = self.remove(how, skip_unregister)
        absent = self.wait_growth(["gone"], removed)
        assert absent["maps"] == removed["maps"]
        if "holds" in MODES[mode]:
            assert removed["holds"] == before["holds"]
            assert removed["revokes"] == before["revokes"] + 1
        return self.wait_growth(MODES[mode], absent, self.add(how))

    def reset_round(self, mode, before):
        """Reset the owner: the counters once the client maps again.

        PCI holds the device lock of the owner and of its bridge. The reset itself
        takes 0.1 s; the client tries to map every millisecond.
        """
        after = self.counts(f"echo 1 >$PCI/devices/{self.owner}/reset")
        assert after["resets"] == before["resets"] + 1
        assert after["suspended"] > before["suspended"]
        assert after["gone"] == before["gone"]
        if "holds" in MODES[mode]:
            assert after["revokes"] == before["revokes"] + 1
        # The client may hold a map again before the counters were read.
        return self.wait_growth(MODES[mode],
                                {**after, "holds": before["holds"]})


# --- a boot -----------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel on a machine."""

    flavour: str
    machine: str
    removals: int
    resets: int

    def __str__(self):
        return f"{self.flavour}-{self.machine}"

    def steps(self):
        """{name: function of Peers}, in order"""
        steps = {}
        for mode in MODES:
            name = mode.replace(" ", "-")
            for how in REMOVALS:
                steps[f"{how}-{name}"] = functools.partial(
                    check_removals, how, mode, _rounds(mode, self.removals))
            steps[f"h34_reset-{name}"] = functools.partial(
                check_resets, mode, _rounds(mode, self.resets))
        steps["client is removed"] = check_client_removal
        if self.flavour == "base":
            steps["kept map is reported"] = check_report
            steps["unload"] = check_unload
        steps["final check"] = check_end
        return steps

    def run(self, kernel):
        """{step, "boot" or "log": "" or why it failed}"""
        machine = MACHINES[self.machine]
        guest = vm.VM(kernel, machine, devices=vm.edu(machine), qmp=True,
                      single_thread=True, name=f"peers-{self}")
        results = {}
        step = "boot"
        try:
            with guest:
                peers = Peers(guest)
                for next_step, function in self.steps().items():
                    results[step] = ""
                    step = next_step
                    guest.sh(f"echo step: {step} >/dev/kmsg")
                    function(peers)
            results[step] = ""
        except Exception:  # the test of this step fails with it
            results[step] = traceback.format_exc()
        results["log"] = "\n".join([*guest.reports(), guest.full_log()]
                                   if guest.reports() else [])
        return results


def _rounds(mode, rounds):
    """The share of a mode in all rounds."""
    if "move" in mode:
        return MOVE_ROUNDS
    return -(-(rounds - MOVE_ROUNDS) // (len(MODES) - 1))


def check_no_error(counts):
    for name in ("failed", "corrupt", "suspend_errors"):
        assert counts[name] == 0, counts


def check_removals(how, mode, rounds, peers):
    counts = peers.set_mode(mode)
    for number in range(rounds):
        counts = peers.removal_round(how, number % 2, mode, counts)
    check_no_error(counts)


def check_resets(mode, rounds, peers):
    counts = peers.set_mode(mode)
    for _ in range(rounds):
        counts = peers.reset_round(mode, counts)
    check_no_error(counts)


def check_client_removal(peers):
    """The client unmaps when it is removed, and does not block the owner."""
    for _ in range(3):
        peers.set_mode("map hold")
        peers.vm.sh(f"unbind {peers.client} && unbind {peers.owner}", TIMEOUT)
        peers.vm.sh(f"bind {OWNER} {peers.owner} && "
                    f"bind {CLIENT} {peers.client}")


def check_report(peers):
    """A map that is not unmapped blocks removal, and the log names the BAR."""
    report = (f"{peers.owner}: dma-phys: removal waits: BAR 2 is still mapped "
              "by other devices")
    before = peers.counts()
    peers.wait_growth(["maps"], before,
                      peers.counts(f"echo keep >{peers.dir}/mode"))
    peers.vm.sh(f"start_job removal 'unbind {peers.owner}'")
    end = time.monotonic() + TIMEOUT
    while report not in peers.vm.console():
        assert time.monotonic() < end, "the removal is not reported"
        time.sleep(0.5)
    assert peers.vm.try_sh("wait_job removal 5").code == 124
    peers.vm.sh(f"echo >{peers.dir}/mode && wait_job removal {TIMEOUT}")
    assert peers.vm.console().count(report) == 1
    peers.vm.sh(f"bind {OWNER} {peers.owner}")


def check_unload(peers):
    """rmmod unregisters both drivers, the owner's first."""
    peers.set_mode("map hold")
    peers.vm.sh(f"rmmod {MODULE}", TIMEOUT)
    assert peers.vm.try_sh(f"ls $DEBUG/{MODULE}").code


def check_end(peers):
    peers.vm.sh(f"unbind {peers.owner}; unbind {peers.client}")
    assert peers.vm.final_check() == []


# --- the tests --------------------------------------------------------------

BOOTS = [Boot("base", "p2p-bus", ROUNDS, RESET_ROUNDS),
         Boot("base", "p2p-iommu", FEW_ROUNDS, FEW_ROUNDS),
         Boot("debug", "p2p-bus", FEW_ROUNDS, FEW_ROUNDS)]


@pytest.mark.parametrize("boot,step", [
    pytest.param(boot, step, id=f"{boot}-{step}")
    for boot in BOOTS for step in ["boot", *boot.steps(), "log"]])
def test_peers(booted, boot, step):
    results = booted(boot)
    failure = results.get(step, "not reached: another step failed")
    if failure:
        pytest.fail(failure, pytrace=False)

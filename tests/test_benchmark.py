# SPDX-License-Identifier: GPL-2.0
"""The benchmark's drivers measure what they are asked to, and nothing else.

What mapping costs is no subject here: tools/bench.py asks them that. Here each
line is taken or refused as it must be, what the device is given has the layout
that was asked for, nothing is left mapped or allocated, and a driver that is
taken away waits for what it measures.
"""

import dataclasses

import pytest

import vm

C = "dma_phys_benchmark"
RUST = "rust_dma_phys_benchmark"
DRIVERS = [C, RUST]

WRONG = ["", "nothing", "empty ranges", "empty ranges=", "empty ranges=0",
         "empty ranges=many", "empty range=1", "empty size=0", "empty sync=2",
         "empty layout=loose", "empty direction=none", "empty loops=0",
         "empty loops=-1", "empty live=-1", "empty cpus=0", "empty memory=disk",
         "empty size=4294967296", "empty empty", "empty " + "x" * 300]

TYPED = ["typed_map", "typed_vec"]
METHODS = {C: ["empty", "dma_map_phys", "dma_map_page", "dma_map_sgtable",
               "typed_virt", "typed_locked", *TYPED],
           RUST: ["empty", "sgtable", "typed_vvec", *TYPED]}

# Beside the method: each key once, with a value that is not its own.
ASKED = ["", "ranges=8", "ranges=8 layout=scattered", "direction=from sync=1",
         "direction=both live=20"]


@dataclasses.dataclass(frozen=True)
class Boot:
    """A machine in which both drivers have one device, one after the other."""

    flavour: str
    route: str
    long: bool = False

    def __str__(self):
        return f"{self.flavour}-{self.route}"

    def run(self, kernel):
        machine = vm.MACHINES[self.route]
        found = {}
        with vm.VM(kernel, machine, devices=vm.edu(machine),
                   append="dma_phys.debug=1",
                   name=f"benchmark-{self}") as guest:
            device = guest.sh("named 0x1234 0x11e8")
            for driver in DRIVERS:
                guest.sh(f"load {driver} && bind {driver} {device}")
                found[driver] = self._look(guest, driver, device)
            found["last"] = guest.last_look()
        return found | {"reports": guest.reports()}

    def _look(self, guest, driver, device):
        run = f"$DEBUG/{driver}/run"
        found = {"wrong": {line: guest.ask(f"echo '{line}' >{run}").out
                           for line in WRONG},
                 "after": guest.sh(f"cat {run}")}
        for method in METHODS[driver]:
            for keys in ASKED:
                answer = guest.ask(
                    f"echo {method} loops=10 {keys} >{run} && cat {run}")
                found[method, keys] = answer
        for line in ("typed_map cpus=2", "dma_iova_link ranges=4"):
            found[line] = guest.ask(f"echo {line} >{run} && cat {run}")
        found["held"] = guest.ask("live_maps").out

        # Some seconds, and it is taken away meanwhile. Each of them is one
        # without preemption: not so long that RCU would complain.
        guest.sh(f"echo typed_map loops=1000 >{run}")
        ns = int(result(guest.sh(f"cat {run}"))["ns"])
        loops = min(4 * 10 ** 9 * 1000 // ns, 10 ** 7)
        guest.sh(f"later run 'echo typed_map loops={loops} >{run}'")
        guest.sh("usleep 300000; [ ! -e /tmp/run.code ]")
        found["away"] = guest.sh(f"unbind {device}; driver {device}")
        found["run"] = guest.ask("ended run 1")
        found["left"] = guest.ask("live_maps").out
        return found


def result(line):
    """A line of results as {key: value}."""
    return dict(word.split("=") for word in line.split())


BOOTS = [Boot("base", "direct"), Boot("debug", "intel-lazy", long=True),
         Boot("debug", "bounce", long=True), Boot("debug", "direct", long=True)]
boots = pytest.mark.parametrize("boot", BOOTS, ids=str)
drivers = pytest.mark.parametrize("driver", DRIVERS, ids=["C", "Rust"])


@boots
def test_nothing_complains(booted, boot):
    assert booted(boot)["reports"] == []
    assert booted(boot)["last"] == []


@boots
@drivers
def test_a_wrong_line_is_refused(booted, boot, driver):
    found = booted(boot)[driver]
    assert {out.split(": ")[-1] for out in found["wrong"].values()} == {
        "Invalid argument"}
    assert found["after"] == ""


def unheard_of(method, keys):
    """What there is not: tables of Rust cannot be synced."""
    return method == "sgtable" and "sync" in keys


@boots
@drivers
def test_each_key_is_heeded(booted, boot, driver):
    for method in METHODS[driver]:
        for keys in ASKED:
            answer = booted(boot)[driver][method, keys]
            if unheard_of(method, keys):
                assert answer.out.endswith("Operation not supported")
                continue
            assert answer.code == 0, (method, keys, answer.out)
            got = result(answer.out)
            assert got["method"] == method and got["loops"] == "10"
            assert got["route"] == vm.MACHINES[boot.route].cpu
            assert int(got["ns"]) > 0
            for key, value in result(keys).items():
                assert got[key] == value


@boots
@drivers
def test_the_layout_is_what_was_asked_for(booted, boot, driver):
    def segments(method, keys):
        return int(result(booted(boot)[driver][method, keys].out)["segments"])

    assert segments("empty", "ranges=8") == 0
    assert segments("typed_map", "ranges=8") == 8
    if boot.route != "bounce":
        assert segments("typed_vec", "ranges=8") == 1
    if boot.route == "direct":
        assert segments("typed_vec", "ranges=8 layout=scattered") == 8


@boots
def test_several_processors(booted, boot):
    got = result(booted(boot)[C]["typed_map cpus=2"].out)
    assert got["cpus"] == "2" and int(got["ns"]) > 0
    assert booted(boot)[RUST]["typed_map cpus=2"].out.endswith(
        "Operation not supported")


@boots
def test_links_are_for_an_iommu(booted, boot):
    answer = booted(boot)[C]["dma_iova_link ranges=4"]
    if vm.MACHINES[boot.route].cpu == "iommu":
        assert result(answer.out)["segments"] == "1"
    else:
        assert answer.out.endswith("Operation not supported")


@boots
@drivers
def test_nothing_is_left_mapped(booted, boot, driver):
    assert booted(boot)[driver]["held"] == ""
    assert booted(boot)[driver]["left"] == ""


@boots
@drivers
def test_removal_waits_for_a_run(booted, boot, driver):
    assert booted(boot)[driver]["away"] == ""
    assert booted(boot)[driver]["run"] == vm.Answer(0, "")

# SPDX-License-Identifier: GPL-2.0
"""The modules of the benchmark do what a command says.

test_bench.py is about the counts. Here wrong commands are refused, the segments have
the layout of the command, nothing is left mapped or allocated, and unbinding waits
for a command that is running.
"""

import dataclasses

import pytest

from harness import vm

C = "dma_phys_benchmark"
RUST = "rust_dma_phys_benchmark"
DRIVERS = [C, RUST]

INVALID = ["", "nothing", "empty ranges", "empty ranges=", "empty ranges=0",
           "empty ranges=many", "empty range=1", "empty size=0", "empty sync=2",
           "empty layout=loose", "empty direction=none", "empty loops=0",
           "empty loops=-1", "empty live=-1", "empty cpus=0",
           "empty memory=disk", "empty size=4294967296", "empty empty",
           "empty " + "x" * 300]

TYPED = ["typed_map", "typed_sg"]
METHODS = {C: ["empty", "dma_map_phys", "dma_map_page", "dma_map_sgtable",
               "typed_virt", "typed_locked", "typed_kept", "typed_sg_iter", *TYPED],
           RUST: ["empty", "sgtable", "typed_page", "typed_kept", "typed_svec",
                  *TYPED]}

# Only behind an IOMMU.
LINKS = ["dma_iova_link ranges=4", "iommu_map_sg ranges=4",
         "iommu_map_sg_vecs ranges=40 layout=scattered"]

# With each method: each key once, with a value that is not its default.
KEYS = ["", "ranges=8", "ranges=8 layout=scattered", "direction=from-device sync=1",
        "direction=bidirectional live=20"]


@dataclasses.dataclass(frozen=True)
class Boot:
    """A machine in which both drivers are bound to one device, one after the other."""

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
            device = guest.sh("find_pci 0x1234 0x11e8")
            for driver in DRIVERS:
                guest.sh(f"load {driver} && bind {driver} {device}")
                found[driver] = self._run_commands(guest, driver, device)
            found["final"] = guest.final_check()
        return found | {"reports": guest.reports()}

    def _run_commands(self, guest, driver, device):
        run = f"$DEBUG/{driver}/run"
        found = {"invalid": {line: guest.try_sh(f"echo '{line}' >{run}").out
                             for line in INVALID},
                 "after": guest.sh(f"cat {run}")}
        for method in METHODS[driver]:
            for keys in KEYS:
                found[method, keys] = guest.try_sh(
                    f"echo {method} loops=10 {keys} >{run} && cat {run}")
        for line in ("typed_map cpus=2", *LINKS,
                     "typed_map memory=mmio", "typed_sg ranges=4 memory=mmio",
                     "typed_sg_iter ranges=4 memory=mmio"):
            found[line] = guest.try_sh(f"echo {line} >{run} && cat {run}")
        found["live"] = guest.try_sh("live_maps").out
        return found | self._unbind_while_running(guest, run, device)

    def _unbind_while_running(self, guest, run, device):
        """Unbind a driver during a command of four seconds."""
        guest.sh(f"echo typed_map loops=1000 >{run}")
        ns = int(result(guest.sh(f"cat {run}"))["ns"])
        # The loop runs without preemption: not so long that RCU reports a stall.
        loops = min(4 * 10 ** 9 * 1000 // ns, 10 ** 7)
        guest.sh(f"start_job run 'echo typed_map loops={loops} >{run}'")
        guest.sh("usleep 300000; [ ! -e /tmp/run.code ]")
        return {"driver": guest.sh(f"unbind {device}; driver {device}"),
                "run": guest.try_sh("wait_job run 1"),
                "leaked": guest.try_sh("live_maps").out}


def result(line):
    """A result line as {key: value}."""
    return dict(word.split("=") for word in line.split())


BOOTS = [Boot("base", "direct"), Boot("debug", "intel-lazy", long=True),
         Boot("debug", "bounce", long=True), Boot("debug", "direct", long=True)]
boots = pytest.mark.parametrize("boot", BOOTS, ids=str)
drivers = pytest.mark.parametrize("driver", DRIVERS, ids=["C", "Rust"])


@boots
def test_kernel_reports_nothing(booted, boot):
    assert booted(boot)["reports"] == []
    assert booted(boot)["final"] == []


@boots
@drivers
def test_invalid_command_is_refused(booted, boot, driver):
    found = booted(boot)[driver]
    assert {out.split(": ")[-1] for out in found["invalid"].values()} == {
        "Invalid argument"}
    assert found["after"] == ""


def is_unsupported(driver, method, keys):
    """SGTable of Rust has no sync; one page is one range, and not synced apart."""
    return method == "sgtable" and "sync" in keys or \
        driver == RUST and method in ("typed_page", "typed_kept") and (
            "sync" in keys or "ranges" in keys)


@boots
@drivers
def test_command_is_obeyed(booted, boot, driver):
    for method in METHODS[driver]:
        for keys in KEYS:
            answer = booted(boot)[driver][method, keys]
            if is_unsupported(driver, method, keys):
                assert answer.out.endswith("Operation not supported")
                continue
            assert answer.code == 0, (method, keys, answer.out)
            got = result(answer.out)
            assert got["method"] == method and got["loops"] == "10"
            assert got["route"] == vm.MACHINES[boot.route].cpu_route
            assert int(got["ns"]) > 0
            for key, value in result(keys).items():
                assert got[key] == value


@boots
@drivers
def test_segments_have_the_layout(booted, boot, driver):
    def segments(method, keys):
        return int(result(booted(boot)[driver][method, keys].out)["segments"])

    sg_methods = {"typed_sg", "typed_sg_iter"} & set(METHODS[driver])
    assert segments("empty", "ranges=8") == 0
    assert segments("typed_map", "ranges=8") == 8
    for method in sg_methods:
        if boot.route != "bounce":
            assert segments(method, "ranges=8") == 1
        if boot.route == "direct":
            assert segments(method, "ranges=8 layout=scattered") == 8


@boots
def test_several_cpus(booted, boot):
    got = result(booted(boot)[C]["typed_map cpus=2"].out)
    assert got["cpus"] == "2" and int(got["ns"]) > 0
    assert booted(boot)[RUST]["typed_map cpus=2"].out.endswith(
        "Operation not supported")


@boots
@pytest.mark.parametrize("command", LINKS)
def test_links_need_an_iommu(booted, boot, command):
    answer = booted(boot)[C][command]
    if vm.MACHINES[boot.route].cpu_route == "iommu":
        assert result(answer.out)["segments"] == "1"
    else:
        assert answer.out.endswith("Operation not supported")


@boots
@pytest.mark.parametrize("command", [
    "typed_map memory=mmio", "typed_sg ranges=4 memory=mmio",
    "typed_sg_iter ranges=4 memory=mmio"])
def test_mmio_is_mapped_unless_bouncing_is_forced(booted, boot, command):
    answer = booted(boot)[C][command]
    if vm.MACHINES[boot.route].cpu_route == "bounce":
        assert answer.out.endswith("Operation not supported")
    else:
        assert result(answer.out)["segments"] == "1"
    assert booted(boot)[RUST][command].code != 0


@boots
@drivers
def test_nothing_is_left_mapped(booted, boot, driver):
    assert booted(boot)[driver]["live"] == ""
    assert booted(boot)[driver]["leaked"] == ""


@boots
@drivers
def test_unbind_waits_for_a_command(booted, boot, driver):
    assert booted(boot)[driver]["driver"] == ""
    assert booted(boot)[driver]["run"] == vm.CommandResult(0, "")

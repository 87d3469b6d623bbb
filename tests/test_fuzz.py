# SPDX-License-Identifier: GPL-2.0
"""A short run of the fuzzer on the kernel that reports; `./run fuzz` is longer.

A run that does nothing finds nothing: what was done, and how it ended, must
have been everything. And a model that is wrong must be found out.
"""

import collections
import dataclasses
import pathlib
import re

import pytest

import fuzz

REPO = pathlib.Path(__file__).resolve().parent.parent

SEED = 1
OPS = 10_000
LIES = ["errno", "address", "segment", "data", "leak"]

# Operations that must have been refused, and why.
REFUSED = {
    "from_page": "EINVAL",
    "from_virt": "EINVAL",
    "from_addr": "EINVAL",
    "from_resource": "EINVAL",
    "from_bar": "EINVAL ENODEV",
    "map_cpu": "EINVAL ENODEV ERANGE E2BIG EOPNOTSUPP",
    "map_mmio": "EINVAL ENODEV ERANGE E2BIG EOPNOTSUPP EREMOTEIO",
    "sync_for_cpu": "EINVAL",
    "sync_for_device": "EINVAL",
    "vec_map_cpu": "EINVAL ENODEV ERANGE E2BIG EOPNOTSUPP ENOSPC EAGAIN",
    "vec_map_mmio": "EINVAL ENODEV ERANGE EOPNOTSUPP EREMOTEIO ENOSPC",
    "vec_sync_for_cpu": "EINVAL",
    "vec_sync_for_device": "EINVAL",
    "register": "EINVAL EEXIST",
    "attach": "EINVAL ENODEV",
    "exhaust": "EAGAIN",
}


@dataclasses.dataclass(frozen=True)
class Boot:
    """One boot that runs a seed twice, another one, and each lie."""

    machine: str
    flavour: str = "debug"

    def __str__(self):
        return f"{self.flavour}-{self.machine}"

    def run(self, kernel):
        """([runs], {lie: run}, complaints, where the log is)"""
        with fuzz.boot(kernel, self.machine, "test-fuzz") as guest:
            runs = [fuzz.run(guest, seed, OPS) for seed in
                    (SEED, SEED, SEED + 1)]
            lies = {lie: fuzz.run(guest, SEED, OPS, lie) for lie in LIES}
            complaints = guest.last_look()
        return runs, lies, complaints + guest.reports(), guest.where()


BOOTS = [Boot(machine) for machine in
         ("direct", "intel-strict", "p2p-bus", "p2p-iommu")]


@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_model_and_core_agree(booted, boot):
    runs, _, _, _ = booted(boot)
    assert [run.wrong for run in runs] == [""] * len(runs)
    assert min(run.ops for run in runs) >= OPS


@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_kernel_log_is_clean(booted, boot):
    _, _, complaints, log = booted(boot)
    assert not complaints, "\n".join([*complaints, log])


@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_seed_repeats_a_run(booted, boot):
    first, again, other = (run.tally for run in booted(boot)[0])
    # Whether tight storage was enough depends on IOVAs that happen to meet.
    assert settled(first) == settled(again)
    assert settled(first) != settled(other)


def settled(tally):
    """A tally in which all that became of a vec's storage is one."""
    found = collections.Counter()
    for (op, name), count in tally.items():
        if op.startswith("vec_map") and name in ("0", "ENOSPC"):
            name = "0 or ENOSPC"
        found[op, name] += count
    return found


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_wrong_model_is_found_out(booted, boot, lie):
    if lie == "leak" and boot.machine == "p2p-bus":
        pytest.skip("neither bounce slots nor an IOMMU: nothing to leak")
    assert booted(boot)[1][lie].wrong.startswith("diverged at ")


def everything(booted):
    """All runs of all boots as one."""
    total = fuzz.Result()
    for boot in BOOTS:
        for run in booted(boot)[0]:
            total.add(run)
    return total


def test_everything_was_done(booted):
    text = (REPO / "kernel/dma/phys/fuzz_model.c").read_text()
    names = re.findall(r'\[FUZZ_\w+\] = "(\w+)"', text)
    total = everything(booted)
    assert len(names) > 20
    assert set(names) == {op for op, _ in total.tally}
    assert set(total.routes) == {"direct", "bounce", "iommu", "bus"}
    without = [op for op in names
               if op != "exhaust" and not total.tally[op, "0"]]
    assert without == []


def test_everything_was_refused(booted):
    tally = everything(booted).tally
    never = [(op, name) for op, wanted in REFUSED.items()
             for name in wanted.split() if not tally[op, name]]
    assert never == []


def test_bad_options():
    for words in (["--ops"], ["--ops", "x"], ["--ops", "0"], ["--seed", "-1"],
                  ["--route", "none"], ["--many"], ["7"]):
        with pytest.raises(fuzz.Usage):
            fuzz.options(words)

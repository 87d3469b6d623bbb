# SPDX-License-Identifier: GPL-2.0
"""A short run of the fuzzer on the debug kernel; `./run fuzz` is longer.

All operations must have run, and returned all errors that they can return. The
fuzzer must detect a wrong model.
"""

import dataclasses
import pathlib
import re

import pytest

from harness import fuzz, vm

REPO = pathlib.Path(__file__).resolve().parent.parent

SEED = 1
OPS = 10_000
# Errors of the model, which the fuzzer must detect.
LIES = ["errno", "address", "segment", "data", "leak"]

# Errors that each operation must have returned.
ERRORS = {
    "from_page": "EINVAL",
    "from_virt": "EINVAL",
    "from_addr": "EINVAL",
    "from_raw": "EINVAL",
    "from_resource": "EINVAL",
    "from_bar": "EINVAL ENODEV",
    "map_cpu": "EINVAL ERANGE E2BIG EOPNOTSUPP",
    "map_mmio": "EINVAL ENODEV ERANGE E2BIG EOPNOTSUPP EREMOTEIO EAGAIN",
    "sync_for_cpu": "EINVAL",
    "sync_for_device": "EINVAL",
    "sg_map_cpu": "EINVAL ERANGE E2BIG EOPNOTSUPP ENOSPC EAGAIN ENOMEM",
    "sg_map_mmio": "EINVAL ENODEV ERANGE EOPNOTSUPP EREMOTEIO ENOSPC",
    "sg_map_ranges": "EINVAL ENODEV ERANGE EOPNOTSUPP ENOSPC",
    "sg_iterate": "EINVAL ERANGE EOPNOTSUPP",
    "rq_map": "EINVAL ERANGE ENOSPC",
    "rq_iterate": "EINVAL ERANGE",
    "sg_sync_for_cpu": "EINVAL",
    "sg_sync_for_device": "EINVAL",
    "pool_create": "EINVAL",
    "register": "EINVAL EEXIST",
    "suspend": "ENODEV ETIMEDOUT",
    "attach": "EINVAL ENODEV EAGAIN",
    "exhaust": "EAGAIN ENOMEM",
}


@dataclasses.dataclass(frozen=True)
class Boot:
    """One boot that runs two seeds, and each lie."""

    machine: str
    # Also run the first seed again.
    repeats: bool = False
    long: bool = False
    flavour: str = "debug"

    def __str__(self):
        return f"{self.flavour}-{vm.MACHINES[self.machine].short_name}"

    def run(self, kernel):
        """([result], {lie: result}, complaints, path of the log)"""
        seeds = [SEED, SEED + 1] + [SEED] * self.repeats
        with fuzz.boot(kernel, self.machine, "test-fuzz") as guest:
            runs = [fuzz.run(guest, seed, OPS) for seed in seeds]
            lies = {lie: fuzz.run(guest, SEED, OPS, lie) for lie in LIES}
            complaints = guest.final_check()
        return runs, lies, complaints + guest.reports(), guest.full_log()


# Together the daily ones have all routes.
BOOTS = [Boot("direct", repeats=True), Boot("p2p-bus"), Boot("p2p-iommu"),
         Boot("intel-strict", repeats=True, long=True)]
ALL_BOOTS = BOOTS + [Boot(f"arm64-{name}", flavour="arm64-tags")
                     for name in ("direct-nc", "lazy-nc", "p2p-bus")]


@pytest.mark.parametrize("boot", ALL_BOOTS, ids=str)
def test_model_and_core_agree(booted, boot):
    runs, _, _, _ = booted(boot)
    assert [run.error for run in runs] == [""] * len(runs)
    assert min(run.ops for run in runs) >= OPS


@pytest.mark.parametrize("boot", ALL_BOOTS, ids=str)
def test_kernel_log_is_clean(booted, boot):
    _, _, complaints, log = booted(boot)
    assert not complaints, "\n".join([*complaints, log])


@pytest.mark.parametrize("boot", ALL_BOOTS, ids=str)
def test_seeds_differ(booted, boot):
    first, second, *_ = booted(boot)[0]
    assert first.tally != second.tally


@pytest.mark.parametrize("boot", [boot for boot in BOOTS if boot.repeats],
                         ids=str)
def test_seed_repeats_a_run(booted, boot):
    first, _, again = booted(boot)[0]
    assert first.tally == again.tally


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("boot", ALL_BOOTS, ids=str)
def test_wrong_model_is_detected(booted, boot, lie):
    if lie == "leak" and boot.machine.endswith("p2p-bus"):
        pytest.skip("neither bounce buffers nor an IOMMU: nothing to leak")
    assert booted(boot)[1][lie].error.startswith("diverged at ")


def total_result(booted):
    """The sum of all runs of the daily boots."""
    total = fuzz.Result()
    for boot in BOOTS:
        if not boot.long:
            for run in booted(boot)[0]:
                total.add(run)
    return total


def test_all_operations_have_run(booted):
    text = (REPO / "kernel/dma/phys/tests/fuzz.c").read_text()
    table = re.search(r"fuzz_op_names\[FUZZ_OPS\] = \{(.*?)\n\};", text, re.S)
    names = re.findall(r'\[FUZZ_\w+\] = "(\w+)"', table[1])
    total = total_result(booted)
    assert len(names) > 30
    assert set(names) == {op for op, _ in total.tally}
    assert set(total.routes) == {"direct", "bounce", "iommu", "bus"}
    without = [op for op in names
               if op != "exhaust" and not total.tally[op, "0"]]
    assert without == []


def test_all_errors_were_returned(booted):
    tally = total_result(booted).tally
    never = [(op, name) for op, names in ERRORS.items()
             for name in names.split() if not tally[op, name]]
    assert never == []


def test_bad_options():
    for words in (["--ops"], ["--ops", "x"], ["--ops", "0"], ["--seed", "-1"],
                  ["--route", "none"], ["--many"], ["7"]):
        with pytest.raises(fuzz.UsageError):
            fuzz.parse_options(words)

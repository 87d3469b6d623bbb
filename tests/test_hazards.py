# SPDX-License-Identifier: GPL-2.0
"""The page of hazards is complete and true, and each row has a test of its own.

With typed maps all mistakes are made, on machines that must report nothing. With the
raw API a part of them is made; `./run hazards` makes all.
"""

import pathlib
import re

import pytest

from harness import hazards

REPO = pathlib.Path(__file__).resolve().parent.parent
PAGE = REPO / "Documentation/core-api/dma-phys-hazards.rst"
ROWS = hazards.parse(PAGE.read_text())

# Files with tests that are named after hazards.
NAMED = ["kernel/dma/phys/tests/*_kunit.c", "rust/kernel/dma/phys/*.rs",
         "tests/compile_fail/*", "tests/*.py"]

TYPED = hazards.boots("typed")
# Boots with different outcomes: a BUG, a page fault, warnings, an IOMMU fault, lost
# data, and none.
RAW = [boot for boot in hazards.boots("raw") if str(boot) in (
    "raw-direct-h01", "raw-bounce-h08", "raw-direct-h02", "raw-bounce-h09",
    "raw-intel-strict-h07", "raw-intel-strict-h33", "raw-p2p-bus-h23",
    "raw-reserved-h35")]


def cell(case, side):
    """The outcome of a mistake on the page."""
    machine = hazards.MACHINES[case.machine].text
    cells = [row[3:] for row in ROWS
             if row[:3] == (case.hazard, case.mistake, machine)]
    assert len(cells) == 1, f"{len(cells)} rows for {case}"
    return cells[0][side == "typed"]


@pytest.mark.parametrize("boot,case", [
    pytest.param(boot, case, id=f"{boot}-{case.name}")
    for boot in TYPED + RAW for case in boot.cases])
def test_page_has_the_outcome(booted, boot, case):
    assert booted(boot)[case] == cell(case, boot.side)


@pytest.mark.parametrize("boot", TYPED, ids=str)
def test_kernel_reports_nothing_with_typed_maps(booted, boot):
    assert booted(boot)["log"] == []


def test_all_raw_boots_are_selected():
    assert len(RAW) == 8


def test_every_hazard_has_a_row():
    assert {row[0] for row in ROWS} == {f"H{n:02}" for n in range(1, 38)}


def test_page_has_all_mistakes():
    expected = [(case.hazard, case.mistake,
                 hazards.MACHINES[case.machine].text)
                for case in hazards.CASES]
    expected += [(hazard, mistake, hazards.ELSEWHERE)
                 for hazard, (mistake, *_) in hazards.NOT_COHERENT.items()]
    expected += [(hazard, mistake, hazards.ANY_MACHINE)
                 for hazard, (mistake, *_) in hazards.NO_WRONG_CALL.items()]
    assert sorted(row[:3] for row in ROWS) == sorted(expected)


def test_outcome_names_errors_and_reports():
    log = ("[   2.1] ------------[ cut here ]------------\n"
           "[   2.1] WARNING: drivers/iommu/dma-iommu.c:1240 at "
           "iommu_dma_unmap_phys+0x1/0x2\n")
    assert hazards.outcome("error -22; error 0", "") == "-EINVAL; no error"
    assert hazards.outcome("unmapped", log) == \
        "unmapped; WARNING in iommu_dma_unmap_phys()"
    assert hazards.first_report(
        "[   2.1] DMAR: [DMA Write NO_PASID] Request device [00:08.0] fault "
        "addr 0xffff000 [fault reason 0x05] PTE Write access is not set\n"
    ) == "IOMMU fault, write"


def names_of_tests(hazard):
    """The names of tests of a hazard."""
    name = re.compile(rf"\b{hazard.lower()}_\w+|_{hazard.lower()}_\w+")
    return [found for pattern in NAMED for path in REPO.glob(pattern)
            if path != pathlib.Path(__file__)
            for found in name.findall(f"{path.name}\n{path.read_text()}")]


@pytest.mark.parametrize("hazard", sorted({row[0] for row in ROWS}))
def test_every_row_has_a_test(hazard):
    assert names_of_tests(hazard)

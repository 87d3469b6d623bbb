# SPDX-License-Identifier: GPL-2.0
"""The table of hazards: complete, true, and each row with a test of its own.

Typed maps run all of it, on machines that must stay in good health. The raw API
runs a part, on machines of which some end over it; what the others would do is
what `./run hazards` shows.
"""

import pathlib
import re

import pytest

import hazards

REPO = pathlib.Path(__file__).resolve().parent.parent
PAGE = REPO / "Documentation/core-api/dma-phys-hazards.rst"
ROWS = hazards.parse(PAGE.read_text())

# Where tests are named after hazards.
NAMED = ["kernel/dma/phys/*_kunit.c", "rust/kernel/dma/phys/*.rs",
         "tests/compile_fail/*", "tests/*.py"]

OURS = hazards.boots("ours")
# One of each end: a BUG, a page fault, warnings, lost data, and nothing at all.
RAW = [boot for boot in hazards.boots("raw") if str(boot) in (
    "raw-direct-h01", "raw-bounce-h08", "raw-direct-h02", "raw-bounce-h09",
    "raw-intel-strict-h07", "raw-p2p-bus-h23")]


def promised(case, side):
    """What the page says that came of a mistake."""
    where = hazards.MACHINES[case.machine].text
    cells = [row[3:] for row in ROWS
             if row[:3] == (case.hazard, case.held, where)]
    assert len(cells) == 1, f"{len(cells)} rows for {case}"
    return cells[0][side == "ours"]


@pytest.mark.parametrize("boot,case", [
    pytest.param(boot, case, id=f"{boot}-{case.name}")
    for boot in OURS + RAW for case in boot.cases])
def test_page_tells_what_happens(booted, boot, case):
    assert booted(boot)[case] == promised(case, boot.side)


@pytest.mark.parametrize("boot", OURS, ids=str)
def test_typed_maps_raise_no_complaint(booted, boot):
    assert booted(boot)["log"] == []


def test_raw_boots_are_there():
    assert len(RAW) == 6


def test_every_hazard_has_a_row():
    assert {row[0] for row in ROWS} == {f"H{n:02}" for n in range(1, 31)}


def test_page_is_of_these_mistakes():
    expected = [(case.hazard, case.held, hazards.MACHINES[case.machine].text)
                for case in hazards.CASES]
    expected += [(hazard, held, hazards.ELSEWHERE)
                 for hazard, held in hazards.NOT_SHOWN.items()]
    assert sorted(row[:3] for row in ROWS) == sorted(expected)


def named_after(hazard):
    """Names of tests of a hazard."""
    name = re.compile(rf"\b{hazard.lower()}_\w+|_{hazard.lower()}_\w+")
    return [found for pattern in NAMED for path in REPO.glob(pattern)
            if path != pathlib.Path(__file__)
            for found in name.findall(f"{path.name}\n{path.read_text()}")]


@pytest.mark.parametrize("hazard", sorted({row[0] for row in ROWS}))
def test_every_row_has_a_test(hazard):
    if all("not shown" in row[4] for row in ROWS if row[0] == hazard):
        return
    assert named_after(hazard)

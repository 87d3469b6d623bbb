# SPDX-License-Identifier: GPL-2.0
"""Each row of the page of upstream bugs names a bug, and tests that exist."""

import pathlib
import re

import pytest
import test_hazards
import test_kunit

TESTS = pathlib.Path(__file__).resolve().parent
PAGE = TESTS.parent / "Documentation/core-api/dma-phys-bugs.rst"


def rows(page):
    """[[bug, what happened, here, tests]] of the table, without its header."""
    table = re.sub(r"\n {7}(?=\S)", " ", page.split(":widths:")[1])
    return [re.findall(r"^ {3}[* ] - (.*)$", row, re.M)
            for row in re.split(r"(?m)^(?=   \* - )", table)[2:]]


ROWS = rows(PAGE.read_text())


def existing():
    """The names of all tests that a row may name."""
    cases = test_kunit._c_cases() + test_kunit._rust_cases()
    return {*(path.name for path in (TESTS / "compile_fail").iterdir()),
            *(path.name for path in TESTS.glob("test_*.py")),
            *(row[0] for row in test_hazards.ROWS),
            *(case for _, case in cases)}


def names(cell):
    """The tests that a cell names. There is nothing else in it."""
    assert re.fullmatch(r"``[\w.]+``(, ``[\w.]+``)*", cell), cell
    return re.findall(r"[\w.]+", cell)


def test_page_has_rows():
    assert len(ROWS) == PAGE.read_text().count("   * - ") - 1 > 10
    assert {len(row) for row in ROWS} == {4}


@pytest.mark.parametrize("bug, tests", [(row[0], row[3]) for row in ROWS],
                         ids=lambda cell: cell[:40])
def test_row_names_tests_that_exist(bug, tests):
    # The subject of a commit, a report, or a function of the kernel.
    assert re.match(r"\*\w[^*]+\*|`[^<`]+ <https://\S+>`__|\w+\(\) in Linux", bug)
    assert not set(names(tests)) - existing()


def test_missing_test_is_noticed():
    page = (":widths: 1\n\n   * - bug\n     - happened\n     - here\n     - tests\n"
            "   * - *a: b* (1)\n     - c\n       d\n     - e\n"
            "     - ``H10``,\n       ``no_such_case``\n")
    assert rows(page) == [["*a: b* (1)", "c d", "e", "``H10``, ``no_such_case``"]]
    assert set(names(rows(page)[0][3])) - existing() == {"no_such_case"}

# SPDX-License-Identifier: GPL-2.0
"""The costs of an I/O are those of the baseline, for both drivers.

A slower core fails the check: the same core with its tracepoints enabled.
"""

import dataclasses
import io
from xml.etree import ElementTree

import pytest

from harness import bench
from harness import bench_check as check
from harness import bench_drivers as drivers
from harness import bench_fio as fio
from harness import vm


@dataclasses.dataclass(frozen=True)
class Boot:
    """Some points, measured briefly."""

    traced: bool = False
    flavour: str = "base"

    def __str__(self):
        return "drivers-traced" if self.traced else "drivers"

    def run(self, kernel):
        return drivers.measure_short(kernel, self.traced)


HEALTHY, SLOWED = Boot(), Boot(traced=True)
POINT = fio.Point("4k", "randread", 32)


def measured(**instructions):
    """{(point, driver's name): Measured} of one point."""
    return {(POINT, name): fio.Measured(numbers, [numbers[0]])
            for name, numbers in instructions.items()}


# --- the check ----------------------------------------------------------------

@pytest.mark.parametrize("boot", [HEALTHY], ids=str)
def test_nothing_grew(kernel, booted, boot):
    """Like ./run bench drivers --check."""
    baseline = drivers.read_baseline(check.versions(kernel("base")))
    assert list(drivers.grew(booted(boot), *baseline)) == []


@pytest.mark.parametrize("boot", [HEALTHY], ids=str)
def test_counts_repeat(booted, boot):
    spreads = {key: drivers.spread(measured.instructions)
               for key, measured in booted(boot).items()}
    assert max(spreads.values()) < drivers.RATIO_TOLERANCE, spreads


@pytest.mark.parametrize("boot", [SLOWED], ids=str)
def test_slower_core_is_reported(booted, boot):
    """For both drivers, at all points."""
    assert len(list(drivers.grew(booted(boot), booted(HEALTHY)))) == \
        len(drivers.SHORT) * len(vm.DRIVERS)


@pytest.mark.parametrize("rust, grew", [(120.0, []), (130.0, [
    "Rust driver, 4k-randread-32: 1.300 of the kernel's, "
    "was 1.200 (+8.3%)"])])
def test_growth_is_reported(rust, grew):
    old = measured(kernel=[200.0], C=[180.0], Rust=[240.0])
    new = measured(kernel=[100.0], C=[90.0], Rust=[rust])
    assert list(drivers.grew(new, old)) == grew


def test_missing_driver_is_reported():
    old = measured(kernel=[100.0], C=[90.0], Rust=[95.0])
    new = {key: old[key] for key in old if key[1] != "C"}
    assert list(drivers.grew(new, old)) == [
        "C driver, 4k-randread-32: is no longer measured"]


def test_baseline_is_of_the_short_form():
    baseline, tolerance = drivers.read_baseline("others")
    assert set(baseline) == {
        (point, name) for point in drivers.SHORT for name in fio.DRIVERS}
    assert tolerance == check.RATIO_TOLERANCE > drivers.RATIO_TOLERANCE


def test_csv_is_read_as_written():
    found = measured(kernel=[100.0, 101.5], C=[90.0], Rust=[95.0])
    out = io.StringIO()
    drivers.write_csv(found, out)
    assert drivers.read_csv(out.getvalue().splitlines()) == found


# --- tables and plots ---------------------------------------------------------

def test_all_points():
    assert len(fio.POINTS) == 4 * 4 * (2 + 3) == len(set(map(str, fio.POINTS)))


def test_jobs_are_multiples_of_each_depth():
    assert [count % depth for count in fio.JOBS.values()
            for depth in fio.DEPTHS] == [0] * 8


@pytest.mark.parametrize("rust, met", [(100.4, True), (100.6, False)])
def test_target(rust, met):
    found = measured(kernel=[90.0, 100.0, 101.0], C=[99.0], Rust=[rust])
    assert drivers.cells(found, POINT)[-3:] == (
        "1.00", "10.0%", "yes" if met else "NO")
    assert [each for *_, each in drivers.targets(found)] == [True, met]


def test_section_has_both_tables():
    found = measured(kernel=[100.0], C=[90.0], Rust=[101.0])
    section = "\n".join(drivers.rst(found, bench.rst_table))
    assert section.count(".. list-table::") == 2
    assert "Rust driver against the kernel's, at its worst: 4k-randread-32: " \
        "1.01, at most 1.00: NO" in section


def test_plot_has_all_drivers():
    found = {(point, name): fio.Measured([100.0 + point.depth])
             for point in fio.POINTS for name in fio.DRIVERS}
    svg = ElementTree.fromstring(drivers.plots(found))
    lines = [each for each in svg.iter("{http://www.w3.org/2000/svg}polyline")
             if each.get("stroke") in drivers.COLOURS.values()]
    panels = (len(fio.PATTERNS) + len(fio.IOMMUS)) * len(fio.SIZES)
    # One more of each is in the legend.
    assert len(lines) == len(fio.DRIVERS) * (panels + 1)


@pytest.mark.parametrize("words", [["--points", "4k-randread-2"],
                                   ["--check", "--baseline"], ["--fast"]])
def test_invalid_options(words, capsys):
    with pytest.raises(SystemExit):
        drivers.parse(words)
    assert "usage: ./run bench drivers" in capsys.readouterr().err

# SPDX-License-Identifier: GPL-2.0
"""The benchmark tells the truth, and counts are still those of the baseline.

The guard is seen to catch a core that is slower: the same one with its
tracepoints on.
"""

import dataclasses
import io
import pathlib
import re
from xml.etree import ElementTree

import pytest

import bench
import bench_check as check
import bench_micro as micro
import bench_size
import bench_targets as targets
import vm

REPO = pathlib.Path(__file__).resolve().parent.parent
PAGE = REPO / "Documentation/core-api/dma-phys-benchmark.rst"


@pytest.fixture(scope="module")
def baseline():
    """The committed one."""
    return check.read()


def row(method="typed_map", instructions=100.0, language="C", machine="direct",
        shape=micro.ONE, **more):
    return micro.Row(machine, language, method, shape, 1000, instructions, **more)


# --- the guard ----------------------------------------------------------------

@pytest.mark.parametrize("boot", micro.SHORT, ids=str)
def test_nothing_grew(kernel, booted, boot, baseline):
    """As ./run bench --check, one machine at a time."""
    was = [row for row in baseline.rows if row.machine == boot.machine]
    now = check.versions(kernel("base"))
    verdict = check.compare(booted(boot), dataclasses.replace(
        baseline, rows=was), now)
    assert verdict.grew == []


@pytest.mark.parametrize("boot", [micro.SLOWED], ids=str)
@pytest.mark.parametrize("versions, languages", [
    ("the same", ("C", "Rust")), ("others", ("C",))])
def test_slower_core_is_caught(booted, boot, versions, languages):
    """All that is typed grew, all that is raw did not. Where only ratios can be
    compared, that is seen at least in C, where the core is most of the work.
    """
    healthy = dataclasses.replace(boot, traced=False)
    was = check.Baseline("the same", booted(healthy))
    verdict = check.compare(booted(boot), was, versions)
    grew = {line.split(":")[0] for line in verdict.grew}
    typed = {language: {check.name(row) for row in booted(boot) if row.typed
                        and row.language == language} for language in micro.MODULES}
    assert grew <= typed["C"] | typed["Rust"]
    for language in languages:
        assert typed[language] <= grew


def test_growth_is_named():
    was = [row(), row("dma_map_phys", 200.0), row("typed_vec", 50.0)]
    now = [row(instructions=101.1), row("dma_map_phys", 210.0),
           row("typed_vec", 49.0)]
    verdict = check.compare(now, check.Baseline("x", was), "x")
    assert verdict.grew == ["direct, C, map, one range of 4 KiB: "
                            "101.1 instructions, was 100.0 (+1.1%)"]
    assert len(verdict.notes) == 2
    assert "the ground moved" in verdict.notes[0]
    assert "49.0 instructions, was 50.0 (-2.0%)" in verdict.notes[1]


def test_what_repeats_is_no_growth():
    was = [row(), row("dma_map_phys", 200.0)]
    now = [row(instructions=100.9), row("dma_map_phys", 199.0)]
    assert check.compare(now, check.Baseline("x", was), "x") == check.Verdict()


@pytest.mark.parametrize("factor, grew", [(1.0, 0), (1.3, 0), (1.6, 1)])
def test_other_compilers_are_compared_by_ratio(factor, grew):
    """The raw API moved by 1.3: typed maps may do the same."""
    was = [row(), row("dma_map_phys", 200.0), row("dma_map_page", 220.0)]
    now = [row(instructions=100.0 * factor), row("dma_map_phys", 260.0),
           row("dma_map_page", 300.0)]
    verdict = check.compare(now, check.Baseline("x", was), "y")
    assert len(verdict.grew) == grew
    assert "the baseline is of x; this is y" in verdict.notes[0]


def test_what_is_gone_is_named():
    was = check.Baseline("x", [row(), row("typed_vec")])
    assert check.compare([row()], was, "x").grew == [
        "direct, C, vec, one range of 4 KiB: is no longer measured"]
    failed = row("typed_vec", 0, error="EIO")
    assert check.compare([row(), failed], was, "x").grew == [
        "direct, C, vec, one range of 4 KiB: EIO, was no error"]


def test_baseline_is_read_as_written():
    rows = [row(), row("dma_iova_link", 0, error="EOPNOTSUPP"),
            row("typed_vec", 12.25, "Rust", shape=micro.LIVE[0],
                segments=3, route="iommu")]
    out = io.StringIO()
    micro.write_csv(rows, out)
    assert list(micro.read_csv(out.getvalue().splitlines())) == rows


def test_baseline_is_of_the_short_form(baseline):
    assert {row.key for row in baseline.rows} == {
        (boot.machine, language, method, shape)
        for boot in micro.SHORT for shape in boot.shapes
        for language, methods in micro.METHODS.items() for method in methods}


# --- what the modules say -----------------------------------------------------

def test_order_has_what_differs():
    assert micro.SCATTERED.order() == "ranges=32 layout=scattered"
    assert micro.ONE.order() == ""


def test_least_turn_counts():
    lines = [f"ns={ns} cycles=0 segments=1 route=direct" for ns in (99, 97, 98)]
    assert micro.least("typed_map", lines)["ns"] == "97"
    failed = ["sh: write error: Operation not supported"] * 3
    assert micro.least("typed_map", failed) == "EOPNOTSUPP"
    with pytest.raises(vm.Refusal, match="Invalid argument"):
        micro.least("typed_map", ["sh: write error: Invalid argument"] * 3)


def test_line_of_a_module():
    line = "method=typed_map ranges=1 ns=1200 cycles=7 segments=1 route=direct"
    assert micro.parse(line)["ns"] == "1200"
    with pytest.raises(vm.Refusal, match="no cycles"):
        micro.parse("ns=1 segments=1 route=direct")


@pytest.mark.parametrize("text, name", [
    ("sh: write error: Operation not supported", "EOPNOTSUPP"),
    ("sh: write error: Cannot allocate memory", "ENOMEM"),
    ("sh: write error: Invalid argument", "EINVAL"),
])
def test_error_by_its_name(text, name):
    assert micro.errno_named(text) == name


# --- targets ------------------------------------------------------------------

@pytest.mark.parametrize("c, rust, met", [
    (58.0, 80.0, True), (58.1, 58.1, False)])
def test_target_of_c_alone(c, rust, met):
    rows = [row("dma_map_phys", 116.0), row("dma_map_page", 90.0),
            row(instructions=c), row(instructions=rust, language="Rust")]
    found, = targets.compared(rows)
    assert (found.met, found.best, found.best_count) == \
        (met, "dma_map_page", 90.0)


def test_target_of_both():
    rows = [row("dma_map_phys", 1000.0, machine="bounce"),
            row(instructions=1000.0, machine="bounce"),
            row(instructions=1000.1, machine="bounce", language="Rust")]
    assert [found.met for found in targets.compared(rows)] == [False]


@pytest.mark.parametrize("typed, met", [(100.0, True), (300.0, False)])
def test_shared_lock_is_seen(typed, met):
    """A turn takes 100 cycles; on two CPUs with a lock 400, and typed is that."""
    one, two = (dataclasses.replace(micro.ONE, cpus=cpus) for cpus in (1, 2))
    place = micro.FULL[-1].place
    rows = [row(method, 0, machine=place, shape=shape, cycles=took / shape.cpus)
            for method, shape, took in (
                ("typed_map", one, 100.0), ("typed_locked", one, 100.0),
                ("typed_map", two, typed), ("typed_locked", two, 400.0))]
    found = targets.apart(rows, [two])
    assert [each.met for each in found] == [met]


def test_bytes(kernel):
    """Of a handle, of a kernel that does not use it, and of the core."""
    base = kernel("base")
    assert bench_size.unused(base) == 0
    assert 24 <= bench_size.handle(base) <= targets.HANDLE
    assert 1024 < bench_size.tracing(base) < bench_size.core(base)


def test_one_more_object_is_seen(kernel, tmp_path):
    makefile = tmp_path / "Makefile"
    makefile.write_text("obj-y += a.o\nobj-$(CONFIG_DMA_PHYS) += phys/\n"
                        "obj-$(CONFIG_PCI) += b.o\n")
    assert bench_size.objects(makefile, kernel("base")) == {"a.o", "b.o"}


# --- what a person reads ------------------------------------------------------

def page_rows(columns):
    """The cells of each row of the page's table of so many columns."""
    rows = re.split(r"^   \* - ", PAGE.read_text(), flags=re.M)[1:]
    cells = [re.split(r"\n     -(?: |$)", re.sub(r"\n {7}(?=\S)", " ", row), flags=re.M)
             for row in rows]
    cells = [[cell.split("\n")[0].strip() for cell in row] for row in cells]
    return [row for row in cells if len(row) == columns]


def test_page_has_each_target():
    expected = {(vm.MACHINES[machine].text, str(ratio.shape))
                for ratio in targets.RATIOS for machine in ratio.machines}
    header, *rows = page_rows(len(bench.HEADER))
    assert tuple(header) == bench.HEADER
    assert {tuple(row[:2]) for row in rows} == expected


def test_page_is_of_the_baseline(baseline):
    """Where both have a count, it is the same within what repeats."""
    counts = targets.Counts(baseline.rows)
    compared = 0
    names = {machine.text: name for name, machine in vm.MACHINES.items()}
    shapes = {str(ratio.shape): ratio for ratio in targets.RATIOS}
    for where, what, raw, _, _, c, *_ in page_rows(len(bench.HEADER))[1:]:
        ratio = shapes[what]
        for method, cell in ((ratio.raw, raw.split()[1]),
                             (ratio.typed, c.split()[0])):
            known = counts(names[where], "C", method, ratio.shape)
            if known is not None:
                compared += 1
                assert float(cell.replace(",", "")) == pytest.approx(
                    known, rel=2 * check.SAME), (where, what, method)
    assert compared > 10


def test_plot_has_all_methods():
    rows = [dataclasses.replace(
        row(method, 100.0 * shape.ranges, language), shape=shape)
        for shape in (*micro.SIZES, *micro.RANGES)
        for language, methods in micro.METHODS.items() for method in methods]
    svg = ElementTree.fromstring(bench.plots("direct", rows))
    texts = [each.text for each in svg.iter("{http://www.w3.org/2000/svg}text")]
    for language, methods in micro.METHODS.items():
        for method in methods:
            assert texts.count(micro.label(language, method)) == 1
    width, height = float(svg.get("width")), float(svg.get("height"))
    for line in svg.iter("{http://www.w3.org/2000/svg}polyline"):
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width and 0 <= y <= height

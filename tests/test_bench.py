# SPDX-License-Identifier: GPL-2.0
"""The counts of maps are those of the baseline, and targets are computed rightly.

A slower core fails the check: the same core with its tracepoints enabled.
"""

import dataclasses
import io
import pathlib
import re
from xml.etree import ElementTree

import pytest

from harness import bench
from harness import bench_check as check
from harness import bench_micro as micro
from harness import bench_size
from harness import bench_targets as targets
from harness import vm

REPO = pathlib.Path(__file__).resolve().parent.parent
PAGE = REPO / "Documentation/core-api/dma-phys-benchmark.rst"


@pytest.fixture(scope="module")
def baseline():
    """The committed one."""
    return check.read()


def row(method="typed_map", instructions=100.0, language="C", machine="direct",
        shape=micro.ONE, **more):
    return micro.Row(machine, language, method, shape, 1000, instructions, **more)


# --- the check ----------------------------------------------------------------

@pytest.mark.parametrize("boot", micro.SHORT, ids=str)
def test_nothing_grew(kernel, booted, boot, baseline):
    """Like ./run bench --check, one machine at a time."""
    old = [row for row in baseline.rows if row.machine == boot.machine]
    now = check.versions(kernel("base"))
    verdict = check.compare(booted(boot), dataclasses.replace(
        baseline, rows=old), now)
    assert verdict.grew == []


@pytest.mark.parametrize("boot", micro.SHORT, ids=str)
def test_ratios_to_the_raw_api(booted, boot):
    """The targets of C, in one run with the raw API. Another host may differ a bit."""
    found = [each for each in targets.comparisons(booted(boot)) if each.max_ratio]
    assert found
    assert [each for each in found
            if each.c > 1.01 * each.max_ratio * each.raw_count] == []


@pytest.mark.parametrize("boot", [micro.SLOWED], ids=str)
@pytest.mark.parametrize("versions, languages", [
    ("the same", ("C", "Rust")), ("others", ("C",))])
def test_slower_core_is_reported(booted, boot, versions, languages):
    """All typed methods are reported and no raw one. If only ratios can be compared,
    that holds for C at least, where most of the work is in the core. What is kept mapped
    does not call the core.
    """
    healthy = dataclasses.replace(boot, traced=False)
    old = check.Baseline("the same", booted(healthy))
    verdict = check.compare(booted(boot), old, versions)
    grew = {line.split(":")[0] for line in verdict.grew}
    typed = {language: {check.name(row) for row in booted(boot) if row.ours
                        and row.method != "typed_kept" and not row.error
                        and row.language == language} for language in micro.MODULES}
    assert grew <= typed["C"] | typed["Rust"]
    for language in languages:
        assert typed[language] <= grew


def test_growth_is_reported():
    old = [row(), row("dma_map_phys", 200.0), row("typed_sg", 50.0)]
    new = [row(instructions=101.1), row("dma_map_phys", 210.0),
           row("typed_sg", 49.0)]
    verdict = check.compare(new, check.Baseline("x", old), "x")
    assert verdict.grew == ["direct, C, map, one range of 4 KiB: "
                            "101.1 instructions, was 100.0 (+1.1%)"]
    assert len(verdict.notes) == 2
    assert "the raw API itself has changed" in verdict.notes[0]
    assert "49.0 instructions, was 50.0 (-2.0%)" in verdict.notes[1]


def test_difference_within_tolerance():
    old = [row(), row("dma_map_phys", 200.0)]
    new = [row(instructions=100.9), row("dma_map_phys", 199.0)]
    assert check.compare(new, check.Baseline("x", old), "x") == check.Verdict()


@pytest.mark.parametrize("factor, grew", [(1.0, 0), (1.3, 0), (1.6, 1)])
def test_ratios_are_compared_with_other_compilers(factor, grew):
    """The raw API grew by 1.3: typed maps may do the same."""
    old = [row(), row("dma_map_phys", 200.0), row("dma_map_page", 220.0)]
    new = [row(instructions=100.0 * factor), row("dma_map_phys", 260.0),
           row("dma_map_page", 300.0)]
    verdict = check.compare(new, check.Baseline("x", old), "y")
    assert len(verdict.grew) == grew
    assert "the baseline is of x; this is y" in verdict.notes[0]


def test_missing_row_is_reported():
    old = check.Baseline("x", [row(), row("typed_sg")])
    assert check.compare([row()], old, "x").grew == [
        "direct, C, sg, one range of 4 KiB: is no longer measured"]
    failed = row("typed_sg", 0, error="EIO")
    assert check.compare([row(), failed], old, "x").grew == [
        "direct, C, sg, one range of 4 KiB: EIO, was no error"]


def test_csv_is_read_as_written():
    rows = [row(), row("dma_iova_link", 0, error="EOPNOTSUPP"),
            row("typed_sg", 12.25, "Rust", shape=micro.LIVE[0],
                segments=3, route="iommu")]
    out = io.StringIO()
    micro.write_csv(rows, out)
    assert list(micro.read_csv(out.getvalue().splitlines())) == rows


def test_baseline_is_of_the_short_form(baseline):
    assert {row.key for row in baseline.rows} == {
        (boot.machine, language, method, shape)
        for boot in micro.SHORT for shape in boot.shapes
        for language, methods in micro.METHODS.items() for method in methods}


# --- commands and results of the modules --------------------------------------

def test_options_differ_from_the_defaults():
    assert micro.SCATTERED.options() == "ranges=32 layout=scattered"
    assert micro.ONE.options() == ""


@pytest.mark.parametrize("shape, text", [
    (micro.SYNCED, "one range of 4 KiB synced"),
    (micro.MMIO, "one range of 4 KiB of MMIO"),
    (targets.PEER_MANY, "32 scattered ranges of 4 KiB of a peer"),
    (micro.LIVE[0], "one range of 4 KiB beside 1,000 live maps")])
def test_text_of_a_shape(shape, text):
    assert str(shape) == text


def test_fastest_run_counts():
    lines = [f"ns={ns} cycles=0 segments=1 route=direct" for ns in (99, 97, 98)]
    assert micro.fastest("typed_map", lines)["ns"] == "97"
    failed = ["sh: write error: Operation not supported"] * 3
    assert micro.fastest("typed_map", failed) == "EOPNOTSUPP"
    with pytest.raises(vm.CommandError, match="Invalid argument"):
        micro.fastest("typed_map", ["sh: write error: Invalid argument"] * 3)


def test_result_of_a_module():
    line = "method=typed_map ranges=1 ns=1200 cycles=7 segments=1 route=direct"
    assert micro.parse(line)["ns"] == "1200"
    with pytest.raises(vm.CommandError, match="no cycles"):
        micro.parse("ns=1 segments=1 route=direct")


@pytest.mark.parametrize("text, name", [
    ("sh: write error: Operation not supported", "EOPNOTSUPP"),
    ("sh: write error: Cannot allocate memory", "ENOMEM"),
    ("sh: write error: Invalid argument", "EINVAL"),
])
def test_errno_of_a_message(text, name):
    assert micro.errno_name(text) == name


# --- targets ------------------------------------------------------------------

@pytest.mark.parametrize("c, rust, met", [
    (58.0, 80.0, True), (58.1, 58.1, False)])
def test_target_for_c_only(c, rust, met):
    rows = [row("dma_map_phys", 116.0), row("dma_map_page", 90.0),
            row(instructions=c), row(instructions=rust, language="Rust")]
    found, = targets.comparisons(rows)
    assert (found.met, found.best, found.best_count) == \
        ({"C": met}, "dma_map_page", 90.0)


@pytest.mark.parametrize("c, rust, met, text", [
    (1000.0, 1000.0, {"C": True, "Rust": True}, "yes"),
    (1000.0, 1000.1, {"C": True, "Rust": False}, "C yes, Rust NO"),
    (1000.1, 1000.0, {"C": False, "Rust": True}, "C NO, Rust yes"),
    (1000.1, 1000.1, {"C": False, "Rust": False}, "NO")])
def test_target_for_both_languages(c, rust, met, text):
    rows = [dataclasses.replace(each, shape=micro.SCATTERED) for each in (
        row("dma_map_sgtable", 4000.0), row("typed_sg", c),
        row("typed_sg", rust, language="Rust"))]
    found, = targets.comparisons(rows)
    assert (found.met, bench.met_text(found.met)) == (met, text)


def test_lists_behind_virtio_iommu_have_no_target():
    rows = [row(method, 1000.0, machine="virtio-iommu", shape=micro.SCATTERED)
            for method in ("dma_map_sgtable", "typed_sg", "typed_sg_iter")]
    found = targets.comparisons(rows)
    assert [(each.what, each.first, bench.met_text(each.met))
            for each in found] == [
        ("32 scattered ranges of 4 KiB", 1.01, ""),
        ("32 scattered ranges of 4 KiB, by iterator", None, "")]


@pytest.mark.parametrize("typed, met", [(100.0, True), (300.0, False)])
def test_shared_lock_misses_the_target(typed, met):
    """An iteration takes 100 cycles; on two CPUs with a shared lock 400."""
    one, two = (dataclasses.replace(micro.ONE, cpus=cpus) for cpus in (1, 2))
    machine = micro.FULL[-1].machine_name
    rows = [row(method, 0, machine=machine, shape=shape,
                cycles=time / shape.cpus)
            for method, shape, time in (
                ("typed_map", one, 100.0), ("typed_locked", one, 100.0),
                ("typed_map", two, typed), ("typed_locked", two, 400.0))]
    found = targets.parallel(rows, [two])
    assert [each.is_met for each in found] == [met]


def test_sizes(kernel):
    """Of a handle, a list, the core, and a kernel that does not use it."""
    base = kernel("base")
    assert bench_size.unused(base) == 0
    assert 1024 < bench_size.page_tables(base) < 16_384
    assert bench_size.size_of(base, "struct dma_phys_map") <= targets.MAX_HANDLE
    assert bench_size.size_of(base, "struct dma_phys_sg") <= targets.MAX_LIST
    assert 10_000 < bench_size.core(base) <= targets.MAX_CORE
    assert 1024 < bench_size.tracing(base) < bench_size.core(base)


def test_objects_of_a_makefile(kernel, tmp_path):
    makefile = tmp_path / "Makefile"
    makefile.write_text("obj-y += a.o\nobj-$(CONFIG_DMA_PHYS) += phys/\n"
                        "obj-$(CONFIG_PCI) += b.o\n")
    assert bench_size.objects(makefile, kernel("base")) == {"a.o", "b.o"}


# --- the page -------------------------------------------------------------------

def page_rows(columns, page=PAGE):
    """The cells of each row of a page's first table of so many columns."""
    for table in page.read_text().split(".. list-table::")[1:]:
        rows = re.split(r"^   \* - ", table, flags=re.M)[1:]
        cells = [re.split(r"\n     -(?: |$)",
                          re.sub(r"\n {7}(?=\S)", " ", row), flags=re.M)
                 for row in rows]
        cells = [[cell.split("\n")[0].strip() for cell in row]
                 for row in cells]
        if len(cells[0]) == columns:
            return cells
    return []


@pytest.mark.parametrize("page,ratios,columns", [
    (PAGE, targets.RATIOS, len(bench.HEADER)),
    (PAGE.with_stem(f"{PAGE.stem}-arm64"), targets.RATIOS_ARM64, bench.COLUMNS_ARM64),
], ids=["x86-64", "arm64"])
def test_page_has_all_ratios(page, ratios, columns):
    expected = {(vm.MACHINES[machine].text, str(ratio))
                for ratio in ratios for machine in ratio.machines}
    header, *rows = page_rows(columns, page)
    assert tuple(header) == bench.HEADER[:columns]
    assert {tuple(row[:2]) for row in rows} == expected


def test_page_has_the_counts_of_the_baseline(baseline):
    """If both have a count, it is the same within the tolerance."""
    counts = targets.Counts(baseline.rows)
    compared = 0
    names = {machine.text: name for name, machine in vm.MACHINES.items()}
    ratios = {str(ratio): ratio for ratio in targets.RATIOS}
    for machine, what, raw, _, _, c, *_ in page_rows(len(bench.HEADER))[1:]:
        ratio = ratios[what]
        for method, cell in ((ratio.raw, raw.split()[1]),
                             (ratio.typed, c.split()[0])):
            known = counts(names[machine], "C", method, ratio.shape)
            if known is not None:
                compared += 1
                assert float(cell.replace(",", "")) == pytest.approx(
                    known, rel=2 * check.COUNT_TOLERANCE), (machine, what,
                                                            method)
    assert compared > 10


def test_plot_of_the_page():
    """It has the counts of the page, for each IOMMU."""
    svg = ElementTree.parse(PAGE.with_name(bench.PLOT_NAME)).getroot()
    texts = [each.text for each in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {vm.MACHINES[name].text for name in targets.IOMMU} < set(texts)
    assert bench.PLOT_NAME in PAGE.read_text()


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

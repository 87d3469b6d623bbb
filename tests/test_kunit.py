# SPDX-License-Identifier: GPL-2.0
"""KUnit on each route: the C suites, the Rust suites, the Rust examples.

Suites and cases are read from the sources, so that a case that does not run is
noticed. Results are read with the kernel's own parser.
"""

import dataclasses
import fnmatch
import importlib.util
import io
import pathlib
import re
import sys
import threading

import pytest

from harness import arch as arches
from harness import kernel as kernels
from harness import vm

REPO = pathlib.Path(__file__).resolve().parent.parent

ROUTES = ["direct", "bounce", "bounce-natural", "intel-lazy", "intel-strict",
          "intel-passthrough", "amd", "virtio-iommu", "p2p-bus"]
DEBUG_ROUTES = ["direct", "bounce", "intel-lazy", "p2p-bus"]

# The suite that leaks on purpose, and the parameter without which it skips.
LEAK = "dma_phys_leak"
LEAK_ON = "dma_phys_kunit.leak=1"
# The maps that it leaks, which dma_map_phys() reports to dma-debug.
LEAKED = 3

# The options that suites in C need; those in Rust need RUST.
NEEDS = {"dma_phys_debug": "DMA_PHYS_DEBUG", "dma_phys_fault": "FAIL_DMA_PHYS",
         "dma_phys_highmem": "HIGHMEM", "dma_phys_observe": "KPROBES",
         "dma_phys_peer": "PCI_P2PDMA"}

# The suite with fault injection, and the parameters with which allocations fail as
# well. dma-debug would disable itself if one of its allocations failed.
FAULT = "dma_phys_fault"
FAULT_ON = "dma_phys_kunit.fail_nth=1 dma_debug=off dma_phys.debug=1 " \
    "fail_dma_phys=7,0,0,-1"
FAULT_ROUTES = ["bounce", "intel-strict", "p2p-bus"]


def parameters(machine):
    """Kernel parameters that reserve memory and pass its addresses to the tests.

    It is memory with struct pages, without, beyond mem=, and persistent. Only x86
    has such parameters.
    """
    if machine.arch != arches.DEFAULT:
        # QEMU does nothing for cache maintenance on these.
        return "dma_phys_kunit.emulated=1"
    options = ["memmap=4M$512M memmap=4M!768M",
               f"dma_phys_kunit.persistent={768 << 20}"]
    megabytes = [512]
    if machine.memory == "3G":
        options.append("memmap=128M$4608M mem=5116M")
        megabytes += [4608, 5116]
    addresses = ",".join(str(start << 20) for start in megabytes)
    return " ".join([*options, f"dma_phys_kunit.reserved={addresses}"])


@dataclasses.dataclass(frozen=True)
class Boot:
    """One boot that runs the suites that match a glob."""

    flavour: str
    machine: str
    glob: str
    long: bool = False
    append: str = ""

    def __str__(self):
        kind = {DISKS: "-disks", EXAMPLES: "-examples", LEAK: "-leak",
                VECS: "-page-tables"}
        machine = vm.MACHINES[self.machine].short_name
        return f"{self.flavour}-{machine}{kind.get(self.glob, '')}" \
            + "-long" * bool(self.append)

    def runs(self, suite):
        """Whether the boot runs the suite."""
        needs = "RUST" if suite in RUST else NEEDS.get(suite)
        return fnmatch.fnmatch(suite, self.glob) and \
            (not needs or kernels.has(self.flavour, needs))

    def run(self, kernel):
        """({(suite, case): (status, log)}, complaints, path of the log)"""
        machine = vm.MACHINES[self.machine]
        leak = self.glob == LEAK
        # Only dma-debug reports what the suite LEAK leaks.
        more = LEAK_ON if leak else "dma_phys.debug=1"
        with vm.VM(kernel, machine, devices=vm.edu(machine),
                   append=f"kunit.enable=1 kunit.autorun=1 "
                          f"kunit.filter_glob={self.glob} {more} "
                          f"{parameters(machine)} {self.append}",
                   boot_timeout=1000,
                   name=f"kunit-{self}") as guest:
            complaints = guest.final_check(expected_errors=1 if leak else 0)
        return (_cases(kernel, guest.console()),
                complaints + guest.reports(), guest.full_log())


@dataclasses.dataclass(frozen=True)
class FaultBoot:
    """One boot in which each allocation of the suite FAULT fails in turn.

    Which allocations may fail is set in debugfs, and the suite runs after that.
    """

    flavour: str
    machine: str

    def __str__(self):
        return f"{self.flavour}-{vm.MACHINES[self.machine].short_name}-fault"

    def run(self, kernel):
        """({(suite, case): (status, log)}, complaints, path of the log)"""
        machine = vm.MACHINES[self.machine]
        with vm.VM(kernel, machine, devices=vm.edu(machine),
                   append=f"kunit.enable=1 kunit.filter_glob={FAULT} "
                          f"{FAULT_ON}", name=f"kunit-{self}") as guest:
            guest.sh("cd $DEBUG && echo 0 >failslab/verbose && "
                     "echo 0 >fail_page_alloc/verbose && "
                     "echo 0 >fail_page_alloc/min-order && "
                     "echo N >fail_page_alloc/ignore-gfp-wait && "
                     "echo N >failslab/ignore-gfp-wait")
            guest.sh(f"echo run >$DEBUG/kunit/{FAULT}/run", timeout=900)
            results = guest.sh(f"cat $DEBUG/kunit/{FAULT}/results")
            complaints = guest.final_check()
            if guest.sh("cat $DEBUG/fail_dma_phys/interval") != "7":
                complaints.append("fail_dma_phys= had no effect")
        return (_cases(kernel, results), complaints + guest.reports(),
                guest.full_log())


_kunit_tool_lock = threading.Lock()


def _kunit_tool(kernel, name):
    """A module of the kernel's KUnit tool, loaded once."""
    path = kernel.src / f"tools/testing/kunit/{name}.py"
    with _kunit_tool_lock:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]


def _cases(kernel, console):
    """The results in a log, from the kernel's parser: {(suite, case): (status, log)}"""
    printer = _kunit_tool(kernel, "kunit_printer")
    # It imports the printer.
    parser = _kunit_tool(kernel, "kunit_parser")
    result = parser.parse_run_tests(
        console.splitlines(), printer.Printer(False, io.StringIO()))
    reasons = _skip_reasons(console)
    return {(suite.name, case.name): (
                case.status.name,
                reasons.get((suite.name, case.name)) or "\n".join(case.log))
            for suite in result.subtests for case in suite.subtests}


def _skip_reasons(console):
    """Why cases were skipped, which the parser drops: {(suite, case): reason}"""
    reasons = {}
    # {indentation: the test whose results have it}
    parents = {}
    for line in console.splitlines():
        line = re.sub(r"^(\[[^]]*\])+ ", "", line)
        if subtest := re.fullmatch(r"( *)# Subtest: (\w+)", line):
            parents[subtest[1]] = subtest[2]
        elif skip := re.fullmatch(r"( *)ok \d+ (\w+) # SKIP (.*)", line):
            reasons[parents.get(skip[1]), skip[2]] = skip[3]
    return reasons


# --- suites and cases in the sources -----------------------------------------

def _c_cases():
    """[(suite, case)] of kernel/dma/phys/tests/*_kunit.c"""
    found = []
    for path in sorted((REPO / "kernel/dma/phys/tests").glob("*_kunit.c")):
        text = path.read_text()
        for suite in re.finditer(
                r"struct kunit_suite \w+ = \{(.*?)\n\};", text, re.S):
            name = re.search(r'\.name\s*=\s*"(\w+)"', suite[1])[1]
            array = re.search(r"\.test_cases\s*=\s*(\w+)", suite[1])[1]
            cases = re.search(
                rf"struct kunit_case {array}\[\] = \{{(.*?)\n\}};", text, re.S)
            found += [(name, case) for case in re.findall(
                r"\bKUNIT_CASE\w*\(\s*(\w+)", cases[1])]
    return found


def _page_table_cases():
    """[(suite, case)] of drivers/iommu/generic_pt/kunit_iommu_vecs.h, by format"""
    text = (REPO / "drivers/iommu/generic_pt/kunit_iommu_vecs.h").read_text()
    return [(f"{name}_vecs_test", case) for name in FORMATS
            for case in re.findall(r"\bKUNIT_CASE_FMT\((\w+)\)", text)]


def _rust_cases():
    """[(suite, case)] of the #[kunit_tests(...)] modules"""
    found = []
    for path in _rust_files():
        for suite, body in re.findall(
                r"#\[(?:\w+::)?kunit_tests\((\w+)\)\]\n(?:pub )?mod \w+ \{(.*?)\n\}",
                path.read_text(), re.S):
            found += [(suite, case) for case in re.findall(
                r"#\[test\]\s*(?:#\[[^\n]*\]\s*)*fn (\w+)", body)]
    return found


def _rust_files():
    return sorted((REPO / "rust/kernel").rglob("*.rs"))


def _examples():
    """{file, as in the names of its doctests: number of its examples}"""
    found = {}
    for path in _rust_files():
        fences = re.findall(r"^\s*//[/!] ```(.*)$", path.read_text(), re.M)
        count = sum(1 for kind in fences[::2] if not
                    {"ignore", "text", "compile_fail"} & set(kind.split(",")))
        if count:
            name = str(path.relative_to(REPO / "rust/kernel").with_suffix(""))
            found[name.replace("/", "_")] = count
    return found


# The suites of the block layer map nothing: they run on one route only.
ROUTED, DISKS = "*dma_phys*", "rust_block_mq*"
# The examples of the kernel's files beside ours run as well.
EXAMPLES = "rust_doctests_kernel.rust_doctest_kernel_[bcdips]*"
# Page tables need no device. Two threads share a table, for a minute in the long test.
VECS = "*_vecs_test"
FORMATS = ("amdv1", "vtdss", "x86_64", "riscv_64")
CASES = [case for case in _c_cases() + _rust_cases() + _page_table_cases()
         if case[0] != LEAK]
RUST = {suite for suite, _ in _rust_cases()}
BOOTS = [Boot("base", route, ROUTED) for route in ROUTES] \
    + [Boot("debug", route, ROUTED) for route in DEBUG_ROUTES] \
    + [Boot(flavour, "direct", DISKS) for flavour in ("base", "debug")] \
    + [Boot("debug", "direct", VECS)]
MINUTE = " ".join(f"kunit_iommu_{name}.vecs_seconds=60" for name in ("amdv1", "vtdss"))
ALL_BOOTS = BOOTS \
    + [Boot("debug", "direct", VECS, long=True, append=MINUTE)] \
    + [Boot(machine.arch, machine.name, ROUTED) for machine in vm.OTHER_ARCHES] \
    + [Boot("arm64", "arm64-direct", DISKS)] \
    + [Boot("arm64-tags", f"arm64-{name}", ROUTED)
       for name in ("direct-nc", "bounce-nc", "lazy-nc", "p2p-bus")]
# Cases that need what x86-64 does not have, and a boot in which they run: devices that
# are not coherent, memory without a kernel address, and legacy ops.
ELSEWHERE = {
    Boot("arm64", "arm64-direct-nc", ROUTED): [
        ("dma_phys_sg", "sg_test_h28_short_neighbours_bounce"),
        ("dma_phys_observe", "h08_raw_map_flushes_device_memory"),
        ("dma_phys_observe", "h13_raw_sync_flushes_device_memory"),
        ("dma_phys_observe", "h28_raw_unmap_drops_shared_line")],
    Boot("arm", "arm-direct-nc", ROUTED): [
        ("dma_phys_observe", "highmem_is_mapped_like_raw"),
        *(case for case in CASES if case[0] == "dma_phys_highmem")],
    Boot("ppc64le", "ppc64le-bypass", ROUTED): [
        ("dma_phys_sg_unmap", "sg_unmap_test_direct_and_ops")],
}
EXAMPLE_BOOTS = [Boot("base", "direct", EXAMPLES),
                 Boot("debug", "direct", EXAMPLES, long=True)]
LEAK_BOOTS = [Boot("debug", "direct", LEAK),
              Boot("debug", "intel-lazy", LEAK, long=True)]
FAULT_BOOTS = [FaultBoot("debug", route) for route in FAULT_ROUTES] \
    + [FaultBoot("arm64-tags", f"arm64-{name}") for name in ("bounce-nc", "lazy-nc")]


def check_case(results, suite, case):
    """Skip or fail as the case did."""
    cases, _, log = results
    status, text = cases.get((suite, case), ("DID_NOT_RUN", log))
    if status == "SKIPPED":
        pytest.skip(text)
    if status != "SUCCESS":
        pytest.fail(f"{status}\n{text}", pytrace=False)


@pytest.mark.parametrize("boot,suite,case", [
    pytest.param(boot, suite, case, id=f"{boot}-{suite}-{case}")
    for boot in ALL_BOOTS for suite, case in CASES if boot.runs(suite)])
def test_case(booted, boot, suite, case):
    check_case(booted(boot), suite, case)


@pytest.mark.parametrize("boot", ALL_BOOTS, ids=str)
def test_every_case_is_known(booted, boot):
    """The regular expressions above have found all cases in the sources."""
    cases, _, _ = booted(boot)
    assert cases
    assert {case for case in cases if case[0] != LEAK} <= set(CASES)


@pytest.mark.parametrize("boot", ALL_BOOTS + EXAMPLE_BOOTS, ids=str)
def test_kernel_log_is_clean(booted, boot):
    _, complaints, log = booted(boot)
    assert not complaints, "\n".join([*complaints, log])


@pytest.mark.parametrize("name", _examples())
@pytest.mark.parametrize("boot", EXAMPLE_BOOTS, ids=str)
def test_rust_examples(booted, boot, name):
    cases, _, _ = booted(boot)
    ran = {case: result for (_, case), result in cases.items()
           if re.fullmatch(rf"rust_doctest_kernel_{name}_rs_\d+", case)}
    assert len(ran) == _examples()[name]
    assert {status for status, _ in ran.values()} == {"SUCCESS"}, ran


@pytest.mark.parametrize("suite,case",
                         [case for case in CASES if case not in
                          sum(ELSEWHERE.values(), []) and not (
                              case[1] == "test_vecs_grows_top" and
                              case[0] != "amdv1_vecs_test")])
def test_case_runs_somewhere(booted, suite, case):
    """A case may be skipped on some routes, but not on all."""
    assert any(booted(boot)[0].get((suite, case), ("", ""))[0] == "SUCCESS"
               for boot in BOOTS if boot.runs(suite))


@pytest.mark.parametrize("boot", ELSEWHERE, ids=str)
def test_case_runs_elsewhere(booted, boot):
    assert {case: booted(boot)[0][case][0] for case in ELSEWHERE[boot]} == \
        dict.fromkeys(ELSEWHERE[boot], "SUCCESS")


def test_sources_have_cases():
    assert _c_cases() and _rust_cases() and _examples()


@pytest.mark.parametrize("suite,case",
                         [case for case in CASES if case[0] == FAULT])
@pytest.mark.parametrize("boot", FAULT_BOOTS, ids=str)
def test_every_allocation_fails(booted, boot, suite, case):
    check_case(booted(boot), suite, case)


@pytest.mark.parametrize("boot", FAULT_BOOTS, ids=str)
def test_kernel_log_with_faults_is_clean(booted, boot):
    _, complaints, log = booted(boot)
    assert not complaints, "\n".join([*complaints, log])


@pytest.mark.parametrize("boot", LEAK_BOOTS, ids=str)
def test_leak_is_reported(booted, boot):
    """dma-debug reports the maps that the suite leaks, and nothing else."""
    cases, complaints, log = booted(boot)
    assert {status for status, _ in cases.values()} == {"SUCCESS"}, cases
    kinds = [re.sub(r"^\[.*?\] (DMA-API: |WARNING: |Call Trace:).*", r"\1", line)
             for line in complaints if not line.endswith("Mapped at:")]
    assert sorted(kinds) == ["Call Trace:", "DMA-API: ", "WARNING: "], \
        "\n".join([*complaints, log])
    report = next(line for line in complaints if "DMA-API: " in line)
    assert "device driver has pending DMA allocations while released" in report
    assert f"[count={LEAKED}]" in report

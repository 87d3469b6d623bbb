# SPDX-License-Identifier: GPL-2.0
"""KUnit on each route: the C suites, the Rust suites, the Rust examples.

Suites and cases are read from the sources, so that a case that never ran is
missed; results are read with the kernel's own parser.
"""

import dataclasses
import fnmatch
import importlib
import io
import pathlib
import re
import sys

import pytest

import vm

REPO = pathlib.Path(__file__).resolve().parent.parent

ROUTES = ["direct", "bounce", "bounce-natural", "intel-lazy", "intel-strict",
          "intel-passthrough", "amd", "virtio-iommu", "p2p-bus"]
DEBUG_ROUTES = ["direct", "bounce", "intel-lazy", "p2p-bus"]

# The suite that leaks on purpose, where it is told to.
LEAK = "dma_phys_leak"
LEAK_ON = "dma_phys_kunit.leak=1"
# What it leaks: a map, and a vec of two segments.
LEAKED = 3

# Of what only the kernel that reports has.
DEBUG_ONLY = {"dma_phys_debug", "dma_phys_fault"}

# The suite that lets steps fail, and how it lets allocations fail as well:
# dma-debug gives up for good where one of its own does.
FAULT = "dma_phys_fault"
FAULT_ON = "dma_phys_kunit.fail_nth=1 dma_debug=off dma_phys.debug=1 " \
    "fail_dma_phys=7,0,0,-1"
FAULT_ROUTES = ["bounce", "intel-strict", "p2p-bus"]



def kept(machine):
    """A command line that keeps RAM from the kernel, and tells the tests where:
    reserved, with pages and without; persistent; and beyond mem=."""
    options = ["memmap=4M$512M memmap=4M!768M",
               f"dma_phys_kunit.taken={768 << 20}"]
    where = [512]
    if machine.memory == "3G":
        options.append("memmap=128M$4608M mem=5116M")
        where += [4608, 5116]
    at = ",".join(str(megabytes << 20) for megabytes in where)
    return " ".join([*options, f"dma_phys_kunit.kept={at}"])


@dataclasses.dataclass(frozen=True)
class Boot:
    """One boot that runs the suites that match a glob."""

    flavour: str
    machine: str
    glob: str

    def __str__(self):
        of = {DISKS: "-disks", EXAMPLES: "-examples"}.get(self.glob, "")
        return f"{self.flavour}-{self.machine}{of}"

    def runs(self, suite):
        """Whether the suite is one that this boot is for."""
        return fnmatch.fnmatch(suite, self.glob) and \
            (self.flavour == "debug" or suite not in DEBUG_ONLY)

    def run(self, kernel):
        """({(suite, case): (status, log)}, complaints, where the log is)"""
        machine = vm.MACHINES[self.machine]
        leak = self.glob == LEAK
        # What leaks on purpose is for dma-debug to report.
        more = LEAK_ON if leak else "dma_phys.debug=1"
        with vm.VM(kernel, machine, devices=vm.edu(machine),
                   append=f"kunit.enable=1 kunit.autorun=1 "
                          f"kunit.filter_glob={self.glob} {more} "
                          f"{kept(machine)}",
                   name=f"kunit-{self.glob.strip('*.')}-{self}") as guest:
            complaints = guest.last_look(expected_errors=1 if leak else 0)
        return (_cases(kernel, guest.console()),
                complaints + guest.reports(), guest.where())


@dataclasses.dataclass(frozen=True)
class FaultBoot:
    """One boot that lets every allocation of the suite FAULT fail in turn.

    What may fail is said through debugfs, so the suite does not run before.
    """

    flavour: str
    machine: str

    def __str__(self):
        return f"{self.flavour}-{self.machine}"

    def run(self, kernel):
        """({(suite, case): (status, log)}, complaints, where the log is)"""
        machine = vm.MACHINES[self.machine]
        with vm.VM(kernel, machine, devices=vm.edu(machine),
                   append=f"kunit.enable=1 kunit.filter_glob={FAULT} "
                          f"{FAULT_ON}", name=f"fault-{self}") as guest:
            guest.sh("cd $DEBUG && echo 0 >failslab/verbose && "
                     "echo 0 >fail_page_alloc/verbose && "
                     "echo 0 >fail_page_alloc/min-order && "
                     "echo N >fail_page_alloc/ignore-gfp-wait && "
                     "echo N >failslab/ignore-gfp-wait")
            guest.sh(f"echo run >$DEBUG/kunit/{FAULT}/run", timeout=900)
            results = guest.sh(f"cat $DEBUG/kunit/{FAULT}/results")
            complaints = guest.last_look()
            if guest.sh("cat $DEBUG/fail_dma_phys/interval") != "7":
                complaints.append("fail_dma_phys= was not heeded")
        return (_cases(kernel, results), complaints + guest.reports(),
                guest.where())


def _cases(kernel, console):
    """What the kernel's parser makes of a log: {(suite, case): (status, log)}"""
    tools = str(kernel.src / "tools/testing/kunit")
    if tools not in sys.path:
        sys.path.insert(0, tools)
    parser = importlib.import_module("kunit_parser")
    printer = importlib.import_module("kunit_printer")
    result = parser.parse_run_tests(
        console.splitlines(), printer.Printer(False, io.StringIO()))
    why = _skip_reasons(console)
    return {(suite.name, case.name): (
                case.status.name,
                why.get((suite.name, case.name)) or "\n".join(case.log))
            for suite in result.subtests for case in suite.subtests}


def _skip_reasons(console):
    """What the parser drops: {(suite, case): why it was skipped}"""
    found = {}
    suite = None
    for line in console.splitlines():
        if subtest := re.search(r"# Subtest: (\w+)", line):
            suite = subtest[1]
        elif skip := re.search(r"\bok \d+ (\w+) # SKIP (.*)", line):
            found[suite, skip[1]] = skip[2]
    return found


# --- what the sources promise -----------------------------------------------

def _c_cases():
    """[(suite, case)] of kernel/dma/phys/*_kunit.c"""
    found = []
    for path in sorted((REPO / "kernel/dma/phys").glob("*_kunit.c")):
        text = path.read_text()
        for suite in re.finditer(
                r"struct kunit_suite \w+ = \{(.*?)\n\};", text, re.S):
            name = re.search(r'\.name = "(\w+)"', suite[1])[1]
            array = re.search(r"\.test_cases = (\w+)", suite[1])[1]
            cases = re.search(
                rf"struct kunit_case {array}\[\] = \{{(.*?)\n\}};", text, re.S)
            found += [(name, case) for case in re.findall(
                r"KUNIT_CASE\w*\((\w+)", cases[1])]
    return found


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
    """{file in the names of doctests: how many examples it has}"""
    found = {}
    for path in _rust_files():
        fences = re.findall(r"^\s*//[/!] ```(.*)$", path.read_text(), re.M)
        count = sum(1 for kind in fences[::2] if not
                    {"ignore", "text", "compile_fail"} & set(kind.split(",")))
        if count:
            name = str(path.relative_to(REPO / "rust/kernel").with_suffix(""))
            found[name.replace("/", "_")] = count
    return found


# Suites that map nothing run on one route only.
ROUTED, DISKS = "*dma_phys*", "rust_block_mq*"
CASES = [case for case in _c_cases() + _rust_cases() if case[0] != LEAK]
BOOTS = [Boot("base", route, ROUTED) for route in ROUTES] \
    + [Boot("debug", route, ROUTED) for route in DEBUG_ROUTES] \
    + [Boot(flavour, "direct", DISKS) for flavour in ("base", "debug")]
# Those of the kernel's own files next to ours run as well.
EXAMPLES = "rust_doctests_kernel.rust_doctest_kernel_[bcdps]*"
EXAMPLE_BOOTS = [Boot("base", "direct", EXAMPLES),
                 Boot("debug", "direct", EXAMPLES)]
LEAK_BOOTS = [Boot("debug", "direct", LEAK),
              Boot("debug", "intel-lazy", LEAK)]
FAULT_BOOTS = [FaultBoot("debug", route) for route in FAULT_ROUTES]


def outcome(found, suite, case):
    """A test that is a case of a suite."""
    cases, _, log = found
    status, said = cases.get((suite, case), ("DID_NOT_RUN", log))
    if status == "SKIPPED":
        pytest.skip(said)
    if status != "SUCCESS":
        pytest.fail(f"{status}\n{said}", pytrace=False)


@pytest.mark.parametrize("boot,suite,case", [
    pytest.param(boot, suite, case, id=f"{boot}-{suite}-{case}")
    for boot in BOOTS for suite, case in CASES if boot.runs(suite)])
def test_case(booted, boot, suite, case):
    outcome(booted(boot), suite, case)


@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_every_case_is_known(booted, boot):
    """The sources are read with a regular expression: it must find all."""
    cases, _, _ = booted(boot)
    assert cases
    assert {case for case in cases if case[0] != LEAK} <= set(CASES)


@pytest.mark.parametrize("boot", BOOTS + EXAMPLE_BOOTS, ids=str)
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


@pytest.mark.parametrize("suite,case", CASES)
def test_case_runs_somewhere(booted, suite, case):
    """Each route may skip a case that needs another; not all of them."""
    assert any(booted(boot)[0].get((suite, case), ("", ""))[0] == "SUCCESS"
               for boot in BOOTS if boot.runs(suite))


def test_sources_promise_something():
    assert _c_cases() and _rust_cases() and _examples()


@pytest.mark.parametrize("suite,case",
                         [case for case in CASES if case[0] == FAULT])
@pytest.mark.parametrize("boot", FAULT_BOOTS, ids=lambda boot: f"{boot}-all")
def test_every_allocation_fails(booted, boot, suite, case):
    outcome(booted(boot), suite, case)


@pytest.mark.parametrize("boot", FAULT_BOOTS, ids=lambda boot: f"{boot}-all")
def test_kernel_log_with_faults_is_clean(booted, boot):
    _, complaints, log = booted(boot)
    assert not complaints, "\n".join([*complaints, log])


@pytest.mark.parametrize("boot", LEAK_BOOTS, ids=str)
def test_leak_is_reported(booted, boot):
    """Mappings leaked on purpose: this one report, and no other."""
    cases, complaints, log = booted(boot)
    assert {status for status, _ in cases.values()} == {"SUCCESS"}, cases
    kinds = [re.sub(r"^\[.*?\] (DMA-API: |WARNING: |Call Trace:).*", r"\1", line)
             for line in complaints if not line.endswith("Mapped at:")]
    assert sorted(kinds) == ["Call Trace:", "DMA-API: ", "WARNING: "], \
        "\n".join([*complaints, log])
    said = next(line for line in complaints if "DMA-API: " in line)
    assert "device driver has pending DMA allocations while released" in said
    assert f"[count={LEAKED}]" in said

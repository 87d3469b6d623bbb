# SPDX-License-Identifier: GPL-2.0
"""The module for stock kernels: it builds, its package installs, its samples work."""

import dataclasses
import functools
import pathlib
import re
import subprocess
import tempfile
import textwrap
import threading

import pytest

from harness import demo, kernel as kernels
from harness import module, vm

PAGE = kernels.REPO / "Documentation/core-api/dma-phys-module.rst"
DAILY = "7.3"
# One after the other: they build in the same folder.
_build_lock = threading.Lock()


@functools.cache
def _built(version):
    stock = module.Stock(version)
    return stock, stock.build_module()


def built(version):
    """(the kernel with the module built, warnings of the build)"""
    with _build_lock:
        return _built(version)


def write_driver(directory):
    """The driver of the documentation."""
    found = re.findall(r"^\.\. code-block:: \w+\n   :caption: (\S+)\n\n"
                       r"((?:\t.*\n|\n)+)", PAGE.read_text(), re.M)
    for name, text in found:
        pathlib.Path(directory, name).write_text(textwrap.dedent(text))
    return [name for name, _ in found]


def test_builds_for_a_stock_kernel_without_warnings():
    _, warnings = built(DAILY)
    assert warnings == []


def test_driver_of_documentation_builds_with_the_module(tmp_path):
    stock, _ = built(DAILY)
    assert write_driver(tmp_path) == ["onepage.c", "Kbuild"]
    kbuild = (tmp_path / "Kbuild").read_text()
    installed = f"/usr/src/dma-phys-{module.package_version()}"
    assert installed in kbuild
    (tmp_path / "Kbuild").write_text(kbuild.replace(installed, str(stock.build)))
    out = stock.make(tmp_path,
                     f"KBUILD_EXTRA_SYMBOLS={stock.build / 'Module.symvers'}")
    assert "warning: unused" not in out and "undefined" not in out
    depends = subprocess.run(["modinfo", "-F", "depends", tmp_path / "onepage.ko"],
                             text=True, capture_output=True, check=True).stdout
    assert depends.strip() == "dma_phys"


def test_core_has_no_condition_on_a_version():
    sources = [path for top in ("kernel", "block", "include", "samples", "module")
               for path in (kernels.REPO / top).rglob("*.[ch]")]
    assert sources
    named = [path for path in sources if re.search(
        r"LINUX_VERSION_CODE|KERNEL_VERSION\(", path.read_text())]
    assert named == []


# --- machines ---------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """A machine with Debian's image of a version."""

    version: str
    machine: str
    flavour = "base"
    long = True

    def __str__(self):
        return f"{self.version}-{self.machine}".replace(".", "_")

    def run(self, _kernel):
        stock, _ = built(self.version)
        part = next(part for part in module.PARTS + module.PEER_PARTS
                    if part.machine == self.machine)
        with tempfile.TemporaryDirectory() as directory:
            return module.run(part, stock, directory)


@dataclasses.dataclass(frozen=True)
class Table:
    """The column of a version in the documentation."""

    version: str
    flavour = "base"
    long = True

    def __str__(self):
        return f"{self.version}-table".replace(".", "_")

    def run(self, _kernel):
        stock, warnings = built(self.version)
        return stock.features(), warnings


@dataclasses.dataclass(frozen=True)
class Package:
    """The package, as a user installs and removes it."""

    flavour = "base"
    long = True

    def __str__(self):
        return "package"

    def run(self, _kernel):
        with tempfile.TemporaryDirectory() as directory:
            write_driver(directory)
            module.install_deb(module.make_deb(), directory)


BOOTS = [Boot(version, part.machine) for version in module.SUITES
         for part in module.PARTS + (module.PEER_PARTS if version != "6.12" else ())]


@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_samples_move_bytes_and_unload_on_a_stock_kernel(booted, boot):
    rows, lines, problems = booted(boot)
    assert problems == []
    assert all(line.endswith(": verified") for line in lines)
    moved = [row for row in rows if isinstance(row, demo.Row)]
    assert moved and all(row.verified == "yes" for row in moved)
    machine = vm.MACHINES[boot.machine]
    assert {row.route for row in moved} == {machine.mmio_route or
                                            machine.cpu_route}


@pytest.mark.parametrize("boot", map(Table, module.SUITES), ids=str)
def test_documentation_says_what_a_stock_kernel_has(booted, boot):
    features, warnings = booted(boot)
    assert warnings == []
    rows = re.findall(r"^   \* - (\S.*)\n((?:     - .*\n)+)", PAGE.read_text(), re.M)
    column = list(module.SUITES).index(boot.version)
    documented = {name: cells.splitlines()[column].removeprefix("     - ")
                  for name, cells in rows}
    assert documented == features


@pytest.mark.parametrize("boot", [Package()], ids=str)
def test_package_installs_builds_and_is_removed(booted, boot):
    booted(boot)

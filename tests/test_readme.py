# SPDX-License-Identifier: GPL-2.0
"""README.md is true: its code compiles, and what it refers to exists.

tests/README.md lists what runs daily, and what only --long runs.
"""

import pathlib
import re
import subprocess

import conftest
import pytest
import test_docs
from harness import arch as arches
from harness import variants

TESTS = pathlib.Path(__file__).resolve().parent
README = TESTS / "README.md"
FRONT_PAGE = TESTS.parent / "README.md"

# What the functions of the front page are part of.
DRIVER = {
    "c": """
struct edu {
	struct device *dev;
};

void edu_start(struct edu *edu, dma_addr_t addr, size_t len);
void edu_wait(struct edu *edu);
""",
    "rust": """
use kernel::{
    device::{Bound, Device},
    dma::{phys::{Cpu, FromDevice, InFlight}, DmaAddress},
    prelude::*,
};

struct Edu<'bound> {
    dev: &'bound Device<Bound>,
}

impl Edu<'_> {
    fn start(&self, _: DmaAddress, _: usize) {}
    fn wait(&self) {}
}
""",
}


def code():
    """{language: code} of the front page."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", FRONT_PAGE.read_text(), re.M | re.S)
    assert sorted(language for language, _ in found) == sorted(DRIVER)
    return dict(found)


@pytest.mark.parametrize("language", DRIVER)
def test_code_compiles(kernel, language, tmp_path):
    build = kernel("base").build
    compiler = {"c": test_docs.compile_c, "rust": test_docs.compile_rust}[language]
    env, words = compiler(build, DRIVER[language] + code()[language], tmp_path)
    done = subprocess.run(words, cwd=build, env=env, text=True,
                          capture_output=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("page", [FRONT_PAGE, README], ids=["front", "tests"])
def test_links_exist(page):
    links = re.findall(r"\]\((?!https:)([^)]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
    # The front page refers to many files, in links that are checked.
    assert page != FRONT_PAGE or len(links) > 5


def test_front_page_fits_two_screens():
    assert len(FRONT_PAGE.read_text().splitlines()) <= 120


def listed():
    """The table: {module: {name: whether it needs --long}}"""
    return {f"test_{module}": {name: cell == long for cell in (daily, long)
                               for name in re.findall(r"\w[\w-]*", cell)}
            for module, daily, long in re.findall(
                r"^\| `test_(\w+)` \| (.*) \| (.*) \|$", README.read_text(), re.M)}


def test_readme_lists_long_boots(request):
    """All boots of the modules that have long ones."""
    table = listed()
    collected = request.config.stash[conftest.COLLECTED]
    for module, boots in collected[arches.DEFAULT].items():
        if any(boots.values()):
            assert table[module] == boots, module


@pytest.mark.parametrize("arch", sorted(set(arches.ARCHES) - {arches.DEFAULT}))
def test_readme_lists_architectures(request, arch):
    """All boots of another architecture."""
    table = README.read_text().partition(f"\n## {arch}\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(test_\w+)` \| ([^|]*) \|$", table, re.M))
    assert {module: set(re.findall(r"[\w-]+", cell))
            for module, cell in rows.items()} == \
        {module: set(boots) for module, boots in
         request.config.stash[conftest.COLLECTED][arch].items()}


def test_readme_lists_variants():
    assert listed()["test_builds"] == {
        name: not variant.daily for name, variant in variants.VARIANTS.items()}

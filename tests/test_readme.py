# SPDX-License-Identifier: GPL-2.0
"""README.md lists what runs daily, and what only --long runs."""

import pathlib
import re

import conftest
from harness import variants

README = pathlib.Path(__file__).parent / "README.md"


def listed():
    """The table: {module: {name: whether it needs --long}}"""
    return {f"test_{module}": {name: cell == long for cell in (daily, long)
                               for name in re.findall(r"\w[\w-]*", cell)}
            for module, daily, long in re.findall(
                r"^\| `test_(\w+)` \| (.*) \| (.*) \|$", README.read_text(), re.M)}


def test_readme_lists_long_boots(request):
    """All boots of the modules that have long ones."""
    table = listed()
    for module, boots in request.config.stash[conftest.COLLECTED].items():
        if any(boots.values()):
            assert table[module] == boots, module


def test_readme_lists_variants():
    assert listed()["test_builds"] == {
        name: not variant.daily for name, variant in variants.VARIANTS.items()}

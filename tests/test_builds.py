# SPDX-License-Identifier: GPL-2.0
"""The C files compile without a warning in other configurations.

With --long in each configuration of harness/variants.py, else in the daily ones.
A line before each names its options and the files that these leave out.
"""

from harness import variants


def pytest_generate_tests(metafunc):
    is_long = metafunc.config.option.long
    metafunc.parametrize("name", [
        name for name, variant in variants.VARIANTS.items()
        if is_long or variant.daily])


def test_builds(kernel, name):
    variant = variants.VARIANTS[name]
    build = variants.VariantBuild(variant, kernel("base").src)
    compiled, warnings = build.compile()
    assert not warnings, "\n".join(warnings)
    assert compiled == variant.sources()

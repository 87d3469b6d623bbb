# SPDX-License-Identifier: GPL-2.0
"""The test run: builds the first kernel, runs pytest, prints "N passed, N failed".

    python3 -m harness.suite [pytest arguments]
"""

import argparse
import os
import sys

import pytest

from harness import arch, kernel, progress


class Count:
    """A pytest plugin that counts each test once, by its worst outcome."""

    OUTCOMES = ("passed", "skipped", "failed")

    def __init__(self):
        self._outcomes = {}

    def _add(self, test, outcome):
        known = self._outcomes.get(test, outcome)
        self._outcomes[test] = max(known, outcome, key=self.OUTCOMES.index)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or not report.passed:
            self._add(report.nodeid, report.outcome)

    def pytest_collectreport(self, report):
        if report.failed:
            self._add(report.nodeid, "failed")

    def line(self):
        outcomes = list(self._outcomes.values())
        count = {name: outcomes.count(name) for name in self.OUTCOMES}
        skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
        return f"{count['passed']} passed, {count['failed']} failed{skipped}"


def main(*arguments):
    """Run the tests that the arguments select, by default all."""
    kernel.exit_on_signals()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--arch", default=arch.DEFAULT)
    options, _ = parser.parse_known_args(arguments)
    try:
        first = kernel.build(kernel.FIRST[options.arch])
    except kernel.BuildError as error:
        progress.say(str(error))
        print("0 passed, 1 failed")
        return 1
    os.environ.update(kernel.environment(first))
    sys.stdout = progress.share_stdout()
    count = Count()
    status = pytest.main(list(arguments), plugins=[count])
    print(count.line())
    return int(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

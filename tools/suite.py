#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The test run: builds the kernel, runs pytest, says "N passed, N failed"."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

# Before pytest captures standard error, which progress writes to.
import kernel  # noqa: E402
import progress  # noqa: E402
import pytest  # noqa: E402


class Count:
    """A pytest plugin: each test counts once, by the worst that befell it."""

    ORDER = ("passed", "skipped", "failed")

    def __init__(self):
        self._outcomes = {}

    def _note(self, name, outcome):
        known = self._outcomes.get(name, outcome)
        self._outcomes[name] = max(known, outcome, key=self.ORDER.index)

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or not report.passed:
            self._note(report.nodeid, report.outcome)

    def pytest_collectreport(self, report):
        if report.failed:
            self._note(report.nodeid, "failed")

    def line(self):
        outcomes = list(self._outcomes.values())
        count = {name: outcomes.count(name) for name in self.ORDER}
        skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
        return f"{count['passed']} passed, {count['failed']} failed{skipped}"


def main(*arguments):
    """Run the tests that the arguments select, or all."""
    kernel.stop_in_order()
    try:
        base = kernel.build("base")
    except kernel.BuildError as error:
        progress.say(str(error))
        print("0 passed, 1 failed")
        return 1
    os.environ.update(kernel.environment(base))
    count = Count()
    # The checkout is read only: no cache of pytest's in it.
    status = pytest.main(["-p", "no:cacheprovider", "-o", "testpaths=tests",
                          "-ra", *arguments],
                         plugins=[count])
    sys.stdout.flush()
    print(count.line(), flush=True)
    return int(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

# SPDX-License-Identifier: GPL-2.0
"""What all tests share: kernels, and machines that boot two at a time.

A test that needs a machine takes the argument `boot`, an object of its module
that can be compared and has run(kernel) and a flavour of kernel. Every boot is
run once, in the order in which tests need it, while other tests run; the
fixture `booted` waits for what it found. A boot with a true attribute `long` is
left for `./run test --long`.
"""

import concurrent.futures
import os
import pathlib
import sys
import threading

import pytest

TESTS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS.parent / "tools"))

import kernel as kernels  # noqa: E402
import vm  # noqa: E402


class Kernels:
    """Kernels by flavour, each built at most once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._built = {}

    def __call__(self, flavour):
        with self._lock:
            if flavour not in self._built:
                self._built[flavour] = vm.kernel(flavour)
            return self._built[flavour]


class Boots:
    """Boots under way and done."""

    def __init__(self, kernel):
        self._kernel = kernel
        self._pool = concurrent.futures.ThreadPoolExecutor(vm.AT_ONCE)
        self._found = {}

    def submit(self, boot):
        if boot not in self._found:
            self._found[boot] = self._pool.submit(
                lambda: boot.run(self._kernel(boot.flavour)))

    def __call__(self, boot):
        self.submit(boot)
        return self._found[boot].result()

    def stop(self, now):
        self._pool.shutdown(wait=False, cancel_futures=True)
        if now:
            vm.kill_all()
        self._pool.shutdown(wait=True)


_kernels = Kernels()
_boots = Boots(_kernels)


def pytest_configure(config):
    """Programs that tests start find the base kernel as we do."""
    if not config.option.collectonly:
        os.environ.update(kernels.environment(_kernels("base")))


def _boot(item):
    call = getattr(item, "callspec", None)
    return call and call.params.get("boot")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true",
                     help="also the boots that take too long for every day")


def pytest_collection_modifyitems(config, items):
    """Tests without a machine run while the machines do."""
    if not config.option.long:
        left = {item for item in items if getattr(_boot(item), "long", False)}
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]
    items.sort(key=lambda item: _boot(item) is not None)


def pytest_collection_finish(session):
    """Start the machines that the chosen tests need, the quicker ones first."""
    if session.config.option.collectonly:
        return
    boots = filter(None, map(_boot, session.items))
    for boot in sorted(boots, key=lambda boot: boot.flavour != "base"):
        _boots.submit(boot)


def pytest_sessionfinish(exitstatus):
    ended = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    _boots.stop(now=exitstatus not in ended)


@pytest.fixture(scope="session")
def booted():
    """booted(boot): what a boot found."""
    return _boots


@pytest.fixture(scope="session")
def kernel():
    """kernel(flavour): a kernel that is built."""
    return _kernels

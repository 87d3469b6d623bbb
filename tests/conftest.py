# SPDX-License-Identifier: GPL-2.0
"""Shared by all tests: kernels, and machines that run beside the tests.

A test that needs a machine has the parameter `boot`: an object that can be
compared, with the flavour of its kernel and run(kernel). Each boot runs once, in
the background. The fixture `booted` waits for a boot and returns what its run()
returned. A boot with a true attribute `long` runs only with --long: README.md lists
these.

Tests without a machine run first, then the tests of each boot in the order of
the boots. Tests that compare several boots are the last.
"""

import concurrent.futures
import os
import threading

import pytest

from harness import arch as arches
from harness import kernel as kernels
from harness import progress, vm


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
    """All boots of the test run, a few at the same time."""

    def __init__(self, kernel):
        self._kernel = kernel
        self._pool = concurrent.futures.ThreadPoolExecutor(
            vm.PARALLEL_MACHINES)
        self._results = {}
        # Names of the boots that run, and of those that are done.
        self.running = []
        self.done = []
        # Set at the end of each boot.
        self.boot_ended = threading.Event()

    @property
    def total(self):
        return len(self._results)

    def submit(self, boot):
        if boot not in self._results:
            self._results[boot] = self._pool.submit(self._run, boot)

    def _run(self, boot):
        kernel = self._kernel(boot.flavour)
        name = _boot_name(boot)
        self.running.append(name)
        try:
            return boot.run(kernel)
        finally:
            self.running.remove(name)
            self.done.append(name)
            self.boot_ended.set()

    def __call__(self, boot):
        self.submit(boot)
        return self._results[boot].result()

    def stop(self, now):
        """Start no other boot. End those that run now, or wait for them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if now:
            vm.kill_all()
        self._pool.shutdown(wait=True)


def _boot_name(boot):
    """For example "kunit-base-direct"."""
    module = type(boot).__module__.rpartition(".")[2]
    return f"{module.removeprefix('test_')}-{boot}"


class Reporter:
    """Reports the progress of the test run, from a thread of its own."""

    def __init__(self, boots, stats):
        self._boots = boots
        # pytest's reports: {outcome: [report]}
        self._stats = stats
        self._end = ""
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._thread.start()

    def _report(self):
        step = progress.Step("testing")
        while not self._end:
            boot_ended = self._boots.boot_ended.wait(0.5)
            self._boots.boot_ended.clear()
            step.now(self._state(), at_once=boot_ended)
        step.end(self._end)

    def _state(self):
        boots = self._boots
        passed, failed, errors = (len(self._stats.get(outcome, []))
                                  for outcome in ("passed", "failed", "error"))
        state = f"{passed} tests passed"
        if failed + errors:
            state += f", {failed + errors} failed"
        if boots.total:
            state = f"{len(boots.done)} of {boots.total} machines done, {state}"
        if boots.running:
            state += f", running: {', '.join(boots.running)}"
        return state

    def stop(self, words):
        """Print these words and how long the test run took."""
        self._end = words
        self._boots.boot_ended.set()
        self._thread.join()


_kernels = Kernels()
_boots = Boots(_kernels)
REPORTER = pytest.StashKey()
# All boots of the collected tests: {architecture: {module: {name: whether it is long}}}
COLLECTED = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true",
                     help="also what takes too long for a daily run: see "
                          "tests/README.md")
    parser.addoption("--arch", choices=list(arches.ARCHES), default=arches.DEFAULT,
                     help="the tests with machines of this architecture")


def pytest_configure(config):
    """Programs that tests start find the first kernel in the environment."""
    if not config.option.collectonly:
        os.environ.update(kernels.environment(
            _kernels(kernels.FIRST[config.option.arch])))


def _boot(item):
    call = getattr(item, "callspec", None)
    return call and call.params.get("boot")


def _arch(boot):
    """What needs no machine is tested with the default architecture."""
    return kernels.FLAVOURS[boot.flavour][0] if boot else arches.DEFAULT


def _is_selected(item, option):
    boot = _boot(item)
    return _arch(boot) == option.arch and \
        (option.long or not getattr(boot, "long", False))


def pytest_collection_modifyitems(config, items):
    """Leave out long boots and other architectures, and sort: see above.

    Boots are sorted by kernel: those of one run while the next one is built.
    """
    collected = config.stash[COLLECTED] = {}
    for item in filter(_boot, items):
        boot = _boot(item)
        modules = collected.setdefault(_arch(boot), {})
        modules.setdefault(item.module.__name__, {})[str(boot)] = \
            getattr(boot, "long", False)
    left_out = [item for item in items if not _is_selected(item, config.option)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _is_selected(item, config.option)]
    boots = sorted(filter(None, map(_boot, items)),
                   key=lambda boot: list(kernels.FLAVOURS).index(boot.flavour))
    positions = {boot: number
                 for number, boot in enumerate(dict.fromkeys(boots))}

    def position(item):
        if "booted" not in item.fixturenames:
            return -1
        return positions.get(_boot(item), len(positions))

    items.sort(key=position)


def pytest_collection_finish(session):
    """Start the machines that the selected tests need."""
    if session.config.option.collectonly:
        return
    for boot in filter(None, map(_boot, session.items)):
        _boots.submit(boot)
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    session.config.stash[REPORTER] = Reporter(_boots, terminal.stats)


def pytest_sessionfinish(session, exitstatus):
    is_complete = exitstatus in (pytest.ExitCode.OK,
                                 pytest.ExitCode.TESTS_FAILED)
    reporter = session.config.stash.get(REPORTER, None)
    if reporter:
        reporter.stop("done in" if is_complete else "stopped after")
    _boots.stop(now=not is_complete)


@pytest.fixture(scope="session")
def booted():
    """booted(boot): what the run() of a boot returned."""
    return _boots


@pytest.fixture(scope="session")
def kernel():
    """kernel(flavour): a kernel that is built."""
    return _kernels

# SPDX-License-Identifier: GPL-2.0
"""stress-ng on file systems of both block drivers, which run at the same time.

Each driver has a controller with a disk for ext4 and one for xfs. stress-ng verifies
what it reads. Then the kernel's own driver is bound: fsck finds no error, and files
that were made before are unchanged.
"""

import dataclasses
import pathlib
import re
import tempfile

import pytest

from block_guest import TIMEOUT, check_step, step
from harness import oracle, vm

# The file systems, by their namespaces, and what makes and checks them.
MAKE = {"ext4": "mkfs.ext4 -q -F", "xfs": "mkfs.xfs -q -f"}
CHECK = {"ext4": "e2fsck -fn", "xfs": "xfs_repair -n"}
IMAGE_BYTES = 1 << 30

SECONDS = 60
# On a busy host it takes longer until all of stress-ng has ended.
MAX_SECONDS = 900
# hdd bypasses the page cache: else most of what it writes would be removed before it
# reaches the disk.
STRESS = ("stress-ng --hdd 2 --hdd-bytes 32m --hdd-opts direct --iomix 2 "
          "--iomix-bytes 32m --metamix 1 --dir 1 --dir-dirs 512 --aiol 1 "
          f"--verify --timeout {SECONDS}s")
# Minimum that each disk must have written.
MIN_WRITTEN = 32 << 20

# Lines that a controller that works does not cause.
FAILURES = re.compile(r"nvme_phys \S+: .*(abort|resetting|failed|timed out|"
                      r"without interrupt|unknown command)")


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """A file system on a disk of a driver."""

    language: str
    kind: str
    guest: object
    pci: str
    nsid: int

    @property
    def directory(self):
        return f"/tmp/{self.language}-{self.kind}"

    @property
    def job(self):
        return f"stress-{self.language}-{self.kind}"

    def device(self):
        return self.guest.sh(f"disk {self.pci} {self.nsid}")

    def mount(self, options=""):
        self.guest.sh(f"mkdir -p {self.directory} && mount -t {self.kind} "
                      f"{options} {self.device()} {self.directory}")

    def make(self):
        """Make it, with files, and mount it: the sum of the files."""
        self.guest.sh(f"{MAKE[self.kind]} {self.device()}")
        self.mount()
        return self.guest.sh(f"cd {self.directory} && mkdir kept stress && "
                             "cp -r /modules kept && sync && tree_sum kept")

    def written(self):
        """Bytes that the disk has written."""
        name = pathlib.Path(self.device()).name
        return int(self.guest.sh(f"cat /sys/block/{name}/stat").split()[6]) << 9

    def start(self):
        self.guest.sh(f"start_job {self.job} '{STRESS} --temp-path "
                      f"{self.directory}/stress'")

    def finish(self, written_before):
        """stress-ng has found no error, and the disk was used. Unmount."""
        end = self.guest.try_sh(f"wait_job {self.job} {MAX_SECONDS}",
                                MAX_SECONDS + TIMEOUT)
        written = self.written() - written_before
        self.guest.sh(f"umount {self.directory}", MAX_SECONDS)
        assert end.code == 0, end.out
        assert written >= MIN_WRITTEN

    def check(self, tree):
        """With the driver that is bound now."""
        check = self.guest.try_sh(f"{CHECK[self.kind]} {self.device()}",
                                  MAX_SECONDS)
        assert check.code == 0, check.out
        self.mount("-o ro")
        assert self.guest.sh(f"cd {self.directory} && tree_sum kept") == tree
        self.guest.sh(f"umount {self.directory}")


@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel on a machine, with both drivers at the same time."""

    flavour: str
    name: str
    long: bool = True

    def __str__(self):
        return f"{self.flavour}-{self.name}"

    def run(self, kernel):
        """{step: "" or how it failed}"""
        results = {}
        machine = dataclasses.replace(vm.MACHINES[self.name], memory="3G")
        with tempfile.TemporaryDirectory() as directory:
            images = [[oracle.Image(pathlib.Path(directory, f"{name}-{kind}"),
                                    f"disk-{name}", IMAGE_BYTES, block_size)
                       for kind in MAKE]
                      for name, block_size in (("a", 512), ("b", 4096))]
            guest = vm.VM(kernel, machine, programs=True,
                          devices=vm.nvme(machine, images),
                          trace=["pci_nvme_err_*", "pci_nvme_ub_*"],
                          name=f"block-stress-{self}")
            with step(results, "boot"), guest:
                self._run_all(guest, results)
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
                assert not [line for line in guest.console().splitlines()
                            if FAILURES.search(line)], guest.full_log()
        return results

    @staticmethod
    def _run_all(guest, results):
        names = guest.sh("controllers").split()
        for driver, pci in zip(vm.DRIVERS.values(), names):
            guest.sh(f"load {driver} && bind {driver} {pci}")
        systems = [FileSystem(language, kind, guest, pci, nsid)
                   for language, pci in zip(vm.DRIVERS, names)
                   for nsid, kind in enumerate(MAKE, 1)]
        trees = {each: each.make() for each in systems}
        before = {each: each.written() for each in systems}
        guest.read_trace()
        for each in systems:
            each.start()
        for each in systems:
            with step(results, (each.language, each.kind, "stress")):
                each.finish(before[each])
        with step(results, "no error of QEMU"):
            assert guest.read_trace() == []
        guest.sh("for name in $(controllers); do unbind $name || exit; done",
                 TIMEOUT)
        guest.sh(f"load nvme && bind nvme {' '.join(names)}")
        for each in systems:
            with step(results, (each.language, each.kind, "check")):
                each.check(trees[each])
        with step(results, "final check"):
            assert guest.final_check() == []


BOOTS = [Boot("base", "direct"), Boot("base", "intel-lazy")]


@pytest.mark.parametrize("boot,language,kind,name", [
    pytest.param(boot, language, kind, name, id=f"{boot}-{language}-{kind}-{name}")
    for boot in BOOTS for language in vm.DRIVERS for kind in MAKE
    for name in ("stress", "check")])
def test_driver(booted, boot, language, kind, name):
    check_step(booted(boot), (language, kind, name))


@pytest.mark.parametrize("name", ["boot", "no error of QEMU", "final check",
                                  "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, name):
    check_step(booted(boot), name)

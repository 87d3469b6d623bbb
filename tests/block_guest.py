# SPDX-License-Identifier: GPL-2.0
"""What the tests of the block drivers' lives share.

A Controller is one of QEMU's in a machine, held by a driver; a Job is a fio
that runs on its disk while something happens to it. A Guest also watches: the
kernel's log, and what QEMU's controllers say that they were told, which no driver
of ours has written.
"""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import re
import subprocess
import time
import traceback

import pytest

import vm

# Seconds after which something hangs that takes a few.
PATIENCE = 60
# A request's time limit here, in ms. The block layer looks once a second.
TIME_LIMIT = 1000

# What QEMU's controllers tell of.
EVENTS = ["pci_nvme_admin_cmd", "pci_nvme_io_cmd", "pci_nvme_err_*",
          "pci_nvme_mmio_cfg", "pci_nvme_mmio_start_success",
          "pci_nvme_mmio_stopped", "pci_nvme_mmio_shutdown_set",
          "pci_nvme_pci_reset"]

# All blocks of a region, each once, in any order, and read again.
VERIFY = "--verify=crc32c"
WRITE = ("--rw=randwrite --bsrange=4k-64k --iodepth=32 --ioengine=libaio "
         f"{VERIFY}")


def wait(condition, seconds=PATIENCE, why=lambda: "nothing happens"):
    """Until it holds; if it does not, why() says what is missing."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, why()
        time.sleep(0.05)


def words(options):
    """A fio with one job."""
    return ("fio --direct=1 --randseed=4711 --name=job --output-format=json "
            + options)


def parsed(code, text):
    """What fio found, as its only job."""
    assert "{" in text, f"fio ended with {code}: {text}"
    job = json.loads(text[text.index("{"):])["jobs"][0]
    return Result(code, job["error"], job.get("total_err", 0),
                  job.get("first_error", 0),
                  job["read"]["io_bytes"], job["write"]["io_bytes"])


@dataclasses.dataclass(frozen=True)
class Result:
    """How a fio ended: errors are errnos."""

    code: int
    error: int
    errors: int
    first: int
    read: int
    written: int

    @property
    def good(self):
        return not (self.code or self.error or self.errors)


def fio_here(image, options):
    """fio outside the machines, on an image."""
    done = subprocess.run(
        words(options.replace("libaio", "psync") +
              f" --filename={image.path} --direct=0").split(),
        capture_output=True, text=True, cwd=image.path.parent, check=False)
    return parsed(done.returncode, done.stdout + done.stderr)


_numbers = itertools.count(1)


class Job:
    """A fio that runs in a guest until it ends."""

    def __init__(self, guest, device, options):
        self.vm = guest.vm
        self.name = name = f"job{next(_numbers)}"
        line = words(f"--filename={device} --output=/tmp/{name}.json {options}")
        self.vm.sh(f"cd /tmp && rm -f {name}.json && later {name} '{line}'")

    def result(self, seconds=PATIENCE):
        """Once it has ended; if it does not, it hangs."""
        answer = self.vm.ask(f"ended {self.name} {seconds}", seconds + PATIENCE)
        assert answer.code != 124, f"fio hangs: {answer.out}"
        said = self.vm.ask(f"cat /tmp/{self.name}.json").out
        assert said, answer.out
        return parsed(answer.code, said)

    @property
    def running(self):
        return self.vm.ask(f"[ -e /tmp/{self.name}.code ]").code != 0


class Controller:
    """One of QEMU's controllers, by its name there, with its namespaces."""

    def __init__(self, guest, name, pci, disks):
        self.guest = guest
        self.vm = guest.vm
        self.name = name
        self.pci = pci
        self.disks = disks

    def bind(self, limit=TIME_LIMIT):
        self.vm.sh(f"bind {self.guest.driver} {self.pci}")
        self.set_limit(limit)

    def set_limit(self, limit):
        for nsid in range(1, len(self.disks) + 1):
            name = pathlib.Path(self.device(nsid)).name
            self.vm.sh(f"echo {limit} >/sys/block/{name}/queue/io_timeout")

    def unbind(self):
        self.vm.sh(f"unbind {self.pci}", PATIENCE)

    def device(self, nsid=1):
        """What the driver calls a namespace."""
        return self.vm.sh(f"disk {self.pci} {nsid}")

    def start(self, options, nsid=1):
        """A fio on a namespace."""
        return Job(self.guest, self.device(nsid), options)

    def at_work(self, options):
        """A fio on the first namespace that has begun its work."""
        job = self.start(options)
        self.vm.sh(f"busy {self.device()} 20")
        return job

    def fio(self, options, nsid=1):
        return self.start(options, nsid).result()

    # Its configuration space, behind the driver's back.

    def config(self, at, size=2):
        data = self.vm.sh(f"config_get {self.pci} {at} {size}")
        return int.from_bytes(bytes.fromhex(data), "little")

    def set_config(self, at, value, size=2):
        data = value.to_bytes(size, "little").hex()
        self.vm.sh(f"config_set {self.pci} {at} {data}")
        return value

    def capability(self, number):
        return int(self.vm.sh(f"capability {self.pci} {number:02x}"))


class Guest:
    """A machine with controllers, all held by one driver."""

    def __init__(self, guest, driver):
        self.vm = guest
        self.driver = driver
        self._told = []
        self._from = 0
        self.forget()

    # The kernel's log.

    def forget(self):
        """What was said and told until now does not count."""
        self.vm.traced()
        self._told.clear()
        self._from = len(self.vm.console())

    def log(self):
        return self.vm.console()[self._from:]

    def says(self, pattern, seconds=PATIENCE):
        """Wait until the kernel says it."""
        wait(lambda: re.search(pattern, self.log()), seconds, lambda:
             f"the kernel does not say '{pattern}':\n{self.log()}")

    # The controllers.

    def told(self, event, pattern=""):
        """What they were told of that kind, since forget()."""
        self._told += self.vm.traced()
        return [text for kind, text in self._told
                if kind == event and re.search(pattern, text)]

    def is_told(self, event, pattern="", times=1, seconds=PATIENCE):
        """Wait until they are, so many times."""
        wait(lambda: len(self.told(event, pattern)) >= times, seconds,
             lambda: f"not {times} {event} '{pattern}'")


# --- steps of a boot ----------------------------------------------------------

@contextlib.contextmanager
def step(found, what):
    """Note how the block ended; a machine that is gone ends the boot."""
    try:
        yield
        found[what] = ""
    except Exception as error:  # the test that asks for it fails with it
        found[what] = traceback.format_exc()
        if isinstance(error, vm.Failure) and what != "boot":
            raise


def outcome(found, what):
    """The test passes if that step did."""
    failure = found.get(what, f"not reached\n{found.get('boot', '')}")
    if failure:
        pytest.fail(failure, pytrace=False)

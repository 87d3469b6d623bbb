# SPDX-License-Identifier: GPL-2.0
"""Shared by the tests of the block drivers.

A Guest is a machine with NVMe controllers, all bound to one driver. A Controller is
one of them, a Job is a fio that runs on its disk. A Guest also records the kernel
log and QEMU's trace events, which do not depend on the driver.
"""

import base64
import contextlib
import dataclasses
import itertools
import json
import pathlib
import re
import subprocess
import time
import traceback
import zlib

import pytest

from harness import oracle, vm

# Seconds after which something hangs that normally takes a few.
TIMEOUT = 60
# The timeout of a request here, in ms. The block layer checks once a second.
REQUEST_TIMEOUT_MS = 1000

# QEMU's trace events of controllers.
EVENTS = ["pci_nvme_admin_cmd", "pci_nvme_io_cmd", "pci_nvme_err_*",
          "pci_nvme_mmio_cfg", "pci_nvme_mmio_start_success",
          "pci_nvme_mmio_stopped", "pci_nvme_mmio_shutdown_set",
          "pci_nvme_pci_reset"]

# Write all blocks of a range, each once, in random order, and read them again.
VERIFY = "--verify=crc32c"
WRITE = ("--rw=randwrite --bsrange=4k-64k --iodepth=32 --ioengine=libaio "
         f"{VERIFY}")


def wait_until(condition, seconds=TIMEOUT, message=lambda: "timeout"):
    """Wait until the condition holds. If it does not, fail with message()."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, message()
        time.sleep(0.05)


def fio_command(options):
    """A fio with one job."""
    return ("fio --direct=1 --randseed=4711 --name=job --output-format=json "
            + options)


def parse_fio(code, text):
    """The FioResult of a fio with one job, from its exit code and its output."""
    assert "{" in text, f"fio exited with {code}: {text}"
    job = json.loads(text[text.index("{"):])["jobs"][0]
    return FioResult(code, job["error"], job.get("total_err", 0),
                     job.get("first_error", 0),
                     job["read"]["io_bytes"], job["write"]["io_bytes"])


@dataclasses.dataclass(frozen=True)
class FioResult:
    """The result of a fio. Errors are errnos, read and written are bytes."""

    code: int
    error: int
    error_count: int
    first_error: int
    read: int
    written: int

    @property
    def ok(self):
        return not (self.code or self.error or self.error_count)


def fio_on_host(image, options):
    """Run fio outside the machine, on an image: its FioResult."""
    done = subprocess.run(
        fio_command(options.replace("libaio", "psync") +
                    f" --filename={image.path} --direct=0").split(),
        capture_output=True, text=True, cwd=image.path.parent, check=False)
    return parse_fio(done.returncode, done.stdout + done.stderr)


_numbers = itertools.count(1)


class Job:
    """A fio that runs in a guest."""

    def __init__(self, guest, device, options):
        self.vm = guest.vm
        self.name = name = f"job{next(_numbers)}"
        line = fio_command(
            f"--filename={device} --output=/tmp/{name}.json {options}")
        self.vm.sh(f"cd /tmp && rm -f {name}.json && start_job {name} '{line}'")

    def result(self, seconds=TIMEOUT):
        """Wait for its end: its FioResult."""
        end = self.vm.try_sh(f"wait_job {self.name} {seconds}",
                             seconds + TIMEOUT)
        assert end.code != 124, f"fio hangs: {end.out}"
        text = self.vm.try_sh(f"cat /tmp/{self.name}.json").out
        assert text, end.out
        return parse_fio(end.code, text)


class Controller:
    """A controller: its names in QEMU and of PCI, and the images of its namespaces."""

    def __init__(self, guest, name, pci, disks):
        self.guest = guest
        self.vm = guest.vm
        self.name = name
        self.pci = pci
        self.disks = disks

    def bind(self, timeout_ms=REQUEST_TIMEOUT_MS):
        self.vm.sh(f"bind {self.guest.driver} {self.pci}")
        self.set_timeout(timeout_ms)

    def set_timeout(self, timeout_ms):
        for nsid in range(1, len(self.disks) + 1):
            name = pathlib.Path(self.device(nsid)).name
            self.vm.sh(f"echo {timeout_ms} >/sys/block/{name}/queue/io_timeout")

    def unbind(self):
        self.vm.sh(f"unbind {self.pci}", TIMEOUT)

    def device(self, nsid=1):
        """The block device of a namespace."""
        return self.vm.sh(f"disk {self.pci} {nsid}")

    def start(self, options, nsid=1):
        """Start a fio on a namespace: the Job."""
        return Job(self.guest, self.device(nsid), options)

    def start_busy(self, options):
        """Start a fio on the first namespace, and wait until it does I/O: the Job."""
        job = self.start(options)
        self.vm.sh(f"wait_busy {self.device()} 20")
        return job

    def fio(self, options, nsid=1):
        """Run fio on a namespace: its FioResult."""
        return self.start(options, nsid).result()

    # PCI configuration space, accessed without the driver.

    def config(self, offset, size=2):
        data = self.vm.sh(f"config_get {self.pci} {offset} {size}")
        return int.from_bytes(bytes.fromhex(data), "little")

    def set_config(self, offset, value, size=2):
        data = value.to_bytes(size, "little").hex()
        self.vm.sh(f"config_set {self.pci} {offset} {data}")
        return value

    def capability(self, number):
        return int(self.vm.sh(f"capability {self.pci} {number:02x}"))


class Guest:
    """A machine with controllers, all bound to one driver."""

    def __init__(self, guest, driver):
        self.vm = guest
        self.driver = driver
        self._events = []
        self._log_start = 0
        self.clear_logs()

    def clear_logs(self):
        """Ignore everything that was logged and traced until now."""
        self.vm.read_trace()
        self._events.clear()
        self._log_start = len(self.vm.console())

    def log(self):
        """The kernel log since clear_logs()."""
        return self.vm.console()[self._log_start:]

    def wait_log(self, pattern, seconds=TIMEOUT):
        """Wait until the kernel logs a line with the pattern."""
        wait_until(lambda: re.search(pattern, self.log()), seconds, lambda:
                   f"'{pattern}' is not logged:\n{self.log()}")

    def events(self, event, pattern=""):
        """The texts of an event that match the pattern, since clear_logs()."""
        self._events += self.vm.read_trace()
        return [text for name, text in self._events
                if name == event and re.search(pattern, text)]

    def wait_event(self, event, pattern="", seconds=TIMEOUT):
        """Wait for an event that matches the pattern."""
        wait_until(lambda: self.events(event, pattern), seconds,
                   lambda: f"no {event} '{pattern}'")


# --- programs -----------------------------------------------------------------

def write_program(guest, name, text):
    """Write a program into a guest, as /tmp/<name>.py."""
    text = base64.b64encode(zlib.compress(text.encode())).decode()
    guest.sh("python3 -c \"import base64, zlib; open('/tmp/"
             f"{name}.py', 'wb').write(zlib.decompress(base64.b64decode('{text}')))\"")


# vectors <disk> <verb>:<offset>:<start>.<length>+...: move data between the disk and
# ranges of memory, in one request. Prints bytes, the SHA-256 of the data, and whether
# the bytes around it are unchanged; or the name of an errno.
VECTORS = """
import errno, hashlib, mmap, os, sys
memory = memoryview(mmap.mmap(-1, 1 << 18))
disk = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
for word in sys.argv[2:]:
    verb, offset, text = word.split(":")
    ranges = [list(map(int, each.split("."))) for each in text.split("+")]
    parts = [memory[start:start + length] for start, length in ranges]
    wanted = bytearray(os.urandom(len(memory)))
    memory[:] = wanted
    move = os.preadv if verb == "read" else os.pwritev
    try:
        moved = move(disk, parts, int(offset))
    except OSError as error:
        print(errno.errorcode[error.errno])
        continue
    for start, length in ranges:
        wanted[start:start + length] = memory[start:start + length]
    digest = hashlib.sha256(b"".join(parts)[:moved]).hexdigest()
    print(moved, digest, memory == wanted)
"""


def vectors(verb, offset, ranges):
    """An argument of the program: ranges are (start, length)."""
    return f"{verb}:{offset}:" + "+".join(f"{start}.{length}"
                                          for start, length in ranges)


def check_moved(disk, verb, offset, length, line):
    """A line of a program reports that all data was moved, and no other memory.

    Data that was written becomes what the disk must hold.
    """
    assert line.count(" ") == 2, (verb, offset, line)
    moved, digest, is_rest_unchanged = line.split()
    assert (int(moved), is_rest_unchanged) == (length, "True")
    if verb == "write":
        data = disk.read(offset, length)
        disk.expect(offset, data)
    else:
        data = disk.expected_data(offset, length)
    assert digest == oracle.sha256(data)


def shapes(block):
    """{name: ranges of memory, as (start, length)}. Their sum is whole blocks."""
    odd = [4, 508, 100, 412]
    rest = [block - 1024] if block > 1024 else []
    lengths = odd + rest
    return {
        # One after the other.
        "adjacent": [(sum(lengths[:n]), length)
                     for n, length in enumerate(lengths)],
        # With gaps between them; the fourth is in two pages.
        "apart": list(zip((0, 5120, 10192, 16184, 20516), lengths)),
        # Whole blocks with a gap between them.
        "blocks": [(100, block), (28972, block)],
        # Not aligned to the 4 bytes that the disk requires.
        "byte": [(1, block)],
    }


def check_odd_vectors(guest, device, disk, has_sgl):
    """Vectors of 4, 508, 100 and 412 bytes work with SGLs. An odd start is EINVAL.

    Without SGLs a request cannot have gaps, and only whole blocks can be split.
    """
    moves = []
    for name, ranges in shapes(disk.block_size).items():
        length = sum(length for _, length in ranges)
        moves += [(name, verb, ranges, length,
                   0 if verb == "read" else disk.allocate(length))
                  for verb in ("read", "write")]
    words = " ".join(vectors(verb, offset, ranges)
                     for _, verb, ranges, _, offset in moves)
    lines = guest.sh(f"python3 /tmp/vectors.py {device} {words}").splitlines()
    assert len(lines) == len(moves), lines
    for (name, verb, _, length, offset), line in zip(moves, lines):
        may_fail = not has_sgl and name != "blocks"
        if line == "EINVAL" and (name == "byte" or may_fail):
            continue
        assert name != "byte", (verb, line)
        check_moved(disk, verb, offset, length, line)
    assert disk.first_difference() is None


# --- steps of a boot ----------------------------------------------------------

@contextlib.contextmanager
def step(results, name):
    """Store the result of a block of code: "" or how it failed.

    If the machine has failed, the boot ends.
    """
    try:
        yield
        results[name] = ""
    except Exception as error:  # the test of this step fails with it
        results[name] = traceback.format_exc()
        if isinstance(error, vm.MachineError) and name != "boot":
            raise


def check_step(results, name):
    """Fail if the step has failed."""
    failure = results.get(name, f"not reached\n{results.get('boot', '')}")
    if failure:
        pytest.fail(failure, pytrace=False)

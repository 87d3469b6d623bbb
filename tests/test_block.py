# SPDX-License-Identifier: GPL-2.0
"""Both block drivers do what the kernel's NVMe driver does.

A boot runs the list of checks below for each driver, on two controllers whose block
sizes differ. Each check is a test. Data is compared with the images outside the
machine, commands with QEMU's trace events. The other tools are fio, mkfs, fsck and
nvme-cli. The kernel's driver is bound before the first driver, between the two, and
after the last; one boot shows that the list is right for that driver as well.
"""

import dataclasses
import errno
import json
import os
import pathlib
import re
import struct
import tempfile

import pytest

from block_guest import check_step, step
from harness import oracle, vm

# The namespaces of each controller: one whose data is known, two for file systems made
# by the kernel's driver and by the driver under test, one for fio, and one that is
# larger than what QEMU discards with one command, 2 GiB. xfs needs 300 MiB.
KNOWN, FS_KERNEL, FS_TESTED, FIO, LARGE = 1, 2, 3, 4, 5
SIZES = {KNOWN: 16 << 20, FS_KERNEL: 400 << 20, FS_TESTED: 400 << 20,
         FIO: 64 << 20, LARGE: 5 << 30}
# The debug kernel reads a megabyte in a third of a second.
SMALL_SIZES = SIZES | {KNOWN: 4 << 20}

# The range that the kernel's driver writes before the first check.
KERNEL_OFFSET = 1 << 20
KERNEL_LENGTH = 65536

# One block, one page, two pages, and more, in whole pages or not.
LENGTHS = [512, 1536, 4096, 8192, 12288, 19968, 131072, 524288, 1 << 20,
           (1 << 20) + 4096]
FEW_LENGTHS = [512, 4096, 20480, 262144]


class Controller:
    """A controller of the machine, and its namespaces."""

    def __init__(self, guest, pci, namespaces):
        self.vm = guest
        self.pci = pci
        self.namespaces = dict(enumerate(namespaces, 1))
        self.block_size = namespaces[0].block_size
        # {namespace id: block device}
        self.device = {}

    @property
    def disk(self):
        """The namespace whose data is known."""
        return self.namespaces[KNOWN]

    def find_devices(self):
        """Find the block devices of the driver that is bound."""
        names = self.vm.sh("; ".join(f"disk {self.pci} {nsid}"
                                     for nsid in self.namespaces)).split()
        self.device = dict(zip(self.namespaces, names))
        assert len(self.device) == len(self.namespaces), names

    def attributes(self, *names, nsid=KNOWN):
        """Values of sysfs attributes of a block device."""
        path = f"/sys/block/{pathlib.Path(self.device[nsid]).name}"
        return self.vm.sh(f"cd {path} && cat {' '.join(names)}").split("\n")

    def read(self, *ranges):
        """Read each (offset, length): the first with wrong data, or None."""
        words = " ".join(f"{offset} {length}" for offset, length in ranges)
        sums = self.vm.sh(f"read_ranges {self.device[KNOWN]} {words}").split()
        assert len(sums) == len(ranges)
        return next((range_ for range_, digest in zip(ranges, sums)
                     if digest != oracle.sha256(
                         self.disk.expected_data(*range_))), None)

    def write(self, lengths, flag=",direct", conv=""):
        """Write random data: the first (offset, length) with wrong data, or None."""
        ranges = [(self.disk.allocate(length), length) for length in lengths]
        words = " ".join(f"{offset} {length}" for offset, length in ranges)
        sums = self.vm.sh(f"DD_FLAG={flag}; DD_CONV={conv}; write_ranges "
                          f"{self.device[KNOWN]} {words}").split()
        assert len(sums) == len(ranges)
        wrong = None
        for range_, digest in zip(ranges, sums):
            written = self.disk.read(*range_)
            if digest != oracle.sha256(written):
                wrong = wrong or range_
            self.disk.expect(range_[0], written)
        return wrong


class Guest:
    """A machine with two controllers, both bound to one driver."""

    def __init__(self, guest, boot, controllers):
        self.vm = guest
        self.boot = boot
        self.machine = guest.machine
        self.controllers = controllers
        self.driver = None
        # The expected contents of file systems: {(pci, nsid): sums}.
        self.trees = {}
        # The output of nvme-cli with the kernel's driver.
        self.reference = {}
        # The I/O submission queues of the driver: [(DMA address, entries)].
        self.queues = []
        # QEMU's events since the driver was bound, and those that report errors.
        self.event_names = set()
        self.errors = []

    @property
    def is_slow(self):
        return self.boot.flavour == "debug"

    def bind(self, driver, *parameters):
        """Bind a driver to both controllers, and trace its maps."""
        self.read_events()
        self.event_names.clear()
        self.errors.clear()
        self.vm.sh("cd $TRACING; echo 256 >buffer_size_kb; echo >trace; "
                   "echo 1 >events/dma_phys/dma_phys_sg_map/enable; cd /; "
                   f"load {driver} {' '.join(parameters)} && bind {driver} "
                   + " ".join(each.pci for each in self.controllers))
        self.driver = driver
        for controller in self.controllers:
            controller.find_devices()
        self.queues = [
            (int(addr, 16), int(size) + 1) for addr, size in self.event_fields(
                "pci_nvme_create_sq", r"addr=(0x\w+).* qsize=(\d+)")]

    def unload(self):
        for controller in self.controllers:
            self.vm.sh(f"unbind {controller.pci}")
        self.vm.sh(f"rmmod {self.driver}")

    @property
    def with_filesystems(self):
        """The controllers whose disks get file systems."""
        return self.controllers[self.boot.odd:][:1] if self.is_slow \
            else self.controllers

    def run_parallel(self, line):
        """Run line(controller) for each of with_filesystems: [output]."""
        tasks = [f"({line(controller)}) >/tmp/parallel.{n} 2>&1 & task{n}=$!"
                 for n, controller in enumerate(self.with_filesystems)]
        ends = [f"wait $task{n}; echo $?; cat /tmp/parallel.{n}; echo ======"
                for n in range(len(tasks))]
        out = self.vm.sh("; ".join(tasks + ends))
        results = [part.strip().split("\n", 1)
                   for part in out.split("======")[:-1]]
        assert [code for code, *_ in results] == ["0"] * len(tasks), out
        return [text[0] if text else "" for _, *text in results]

    def fio(self, *jobs):
        """Run jobs of fio on all controllers in parallel: fio's results.

        They verify what they write.
        """
        line = ("fio --output-format=json --output=/tmp/fio --thread "
                "--direct=1 --verify=crc32c --verify_fatal=1 --randseed=4711")
        count = 0
        for controller in self.controllers:
            for job in jobs:
                line += (f" --name={controller.pci} "
                         f"--filename={controller.device[FIO]} "
                         + job.replace("BLOCK", str(controller.block_size)))
                count += 2 if "numjobs=2" in job else 1
        end = self.vm.try_sh(f"{line}; code=$?; cat /tmp/fio; exit $code")
        assert end.code == 0, end.out
        results = json.loads(end.out[end.out.index("{"):])["jobs"]
        assert len(results) == count
        assert all(job["error"] == 0 for job in results), end.out
        return results

    def read_events(self):
        """QEMU's events since the last call: [(event, text)]"""
        events = self.vm.read_trace()
        self.event_names |= {name for name, _ in events}
        self.errors += [" ".join(event) for event in events
                        if event[0].startswith(ERROR_EVENTS)]
        return events

    def event_fields(self, event, pattern):
        """What the pattern finds in such events since the last read_events()."""
        return [field for name, text in self.read_events() if name == event
                for field in re.findall(pattern, text)]

    def commands(self):
        """The I/O commands since the last read_events(), by their NVMe names."""
        return self.event_fields("pci_nvme_io_cmd",
                                 r"opname '(?:NVME_NVM_CMD_)?(\w+)'")


@dataclasses.dataclass(frozen=True)
class Check:
    """An entry of the list. If after is true, it runs with the kernel's driver."""

    name: str
    run: object
    needs: object
    after: bool


CHECKS = []


def check(values=(None,), needs=lambda boot, driver: True, after=False):
    """Add a function to the list, once for each value."""
    def add(function):
        for value in values:
            name = function.__name__
            if value is None:
                CHECKS.append(Check(name, function, needs, after))
            else:
                CHECKS.append(Check(
                    f"{name}-{value}",
                    lambda guest, value=value: function(guest, value), needs,
                    after))
        return function
    return add


def ours(boot, driver):
    return driver in vm.DRIVERS.values()


def base(boot, driver):
    return boot.flavour == "base"


def debug(boot, driver):
    return not base(boot, driver)


def deep(boot, driver):
    return boot.deep


def ours_as_module(boot, driver):
    return base(boot, driver) and ours(boot, driver)


def ours_deep(boot, driver):
    return deep(boot, driver) and ours(boot, driver)


def untranslated(boot, driver):
    """Whether DMA addresses of RAM are those that QEMU has."""
    return vm.MACHINES[boot.machine].cpu_route != "iommu"


# --- disks and queues -------------------------------------------------------

@check()
def disks_have_properties_of_namespaces(guest):
    for controller in guest.controllers:
        for nsid, disk in controller.namespaces.items():
            size, *others, discard, zeroes = controller.attributes(
                "size", "queue/logical_block_size", "queue/write_cache",
                "queue/fua", "queue/discard_max_bytes",
                "queue/write_zeroes_max_bytes", nsid=nsid)
            assert int(size) * 512 == disk.size
            assert others == [str(controller.block_size), "write back", "1"]
            assert int(discard) > 0 and int(zeroes) > 0


@check(needs=ours)
def disks_are_named_after_the_driver(guest):
    letter = {"nvme_phys": "c", "rust_nvme_phys": "r"}[guest.driver]
    names = [controller.device[nsid] for controller in guest.controllers
             for nsid in controller.namespaces]
    assert names == [f"/dev/{letter}nvme{number}n{nsid}"
                     for number, controller in enumerate(guest.controllers)
                     for nsid in controller.namespaces]


@check(needs=ours)
def transfers_have_the_maximum_size(guest):
    for controller in guest.controllers:
        kilobytes, segments = controller.attributes("queue/max_hw_sectors_kb",
                                                    "queue/max_segments")
        assert int(kilobytes) << 10 == guest.boot.max_transfer()
        assert int(segments) == 128


@check()
def each_processor_has_a_queue(guest):
    """If the controller has as many. QEMU traces which queue was used."""
    count = guest.boot.queues()
    for controller in guest.controllers:
        name = pathlib.Path(controller.device[KNOWN]).name
        assert len(guest.vm.sh(f"ls /sys/block/{name}/mq").split()) == count
        guest.read_events()
        guest.vm.sh("for cpu in 1 2; do taskset $cpu dd of=/dev/null bs=64k "
                    "count=4 iflag=direct "
                    f"if={controller.device[KNOWN]} 2>/dev/null || exit; done")
        used = set(guest.event_fields("pci_nvme_io_cmd", r"sqid (\d+)"))
        assert used == {str(number) for number in range(1, count + 1)}


@check(needs=ours)
def interrupts_are_named_after_their_queues(guest):
    """Number 0 is the admin queue."""
    for number, _ in enumerate(guest.controllers):
        names = [f"{guest.driver}{number}q{queue}"
                 for queue in range(guest.boot.queues() + 1)]
        guest.vm.sh("; ".join(f"grep -qw {name} /proc/interrupts || "
                              f"{{ echo no {name}; exit 1; }}" for name in names))


# --- data -------------------------------------------------------------------

def ranges_of(controller, is_slow):
    """Ranges of a disk: at its start, in the middle, at its end."""
    lengths = [length for length in (FEW_LENGTHS if is_slow else LENGTHS)
               if not length % controller.block_size]
    ranges = [(offset, length) for length in lengths
              for offset in (0, 3 * 4096 + controller.block_size)]
    return ranges + [(controller.disk.size - length, length)
                     for length in lengths[:2]]


@check()
def read_gets_the_data_of_the_disk(guest):
    for controller in guest.controllers:
        assert controller.read(*ranges_of(controller, guest.is_slow)) is None


@check(needs=deep)
def read_gets_what_the_kernel_driver_wrote(guest):
    for controller in guest.controllers:
        assert controller.read((KERNEL_OFFSET, KERNEL_LENGTH)) is None


@check()
def write_reaches_the_disk(guest):
    for controller in guest.controllers:
        lengths = [length for _, length in
                   ranges_of(controller, guest.is_slow)[::2]]
        assert controller.write(lengths) is None
        assert controller.disk.first_difference() is None


@check()
def cached_write_reaches_the_disk(guest):
    """The pages are scattered in memory, and fsync() causes a flush."""
    for controller in guest.controllers:
        guest.read_events()
        length = 262144 if guest.is_slow else 1 << 20
        assert controller.write([length], flag="", conv=",fsync") is None
        assert controller.disk.first_difference() is None
        assert guest.commands()[-1] == "FLUSH"


@check(needs=deep)
def access_beyond_the_end_is_refused(guest):
    for controller in guest.controllers:
        disk, device = controller.disk, controller.device[KNOWN]
        last = disk.size - 4096
        digest = guest.vm.sh(f"dd if={device} bs=8192 skip={last} count=1 "
                             "iflag=direct,skip_bytes 2>/dev/null | sha256sum")
        assert digest.split()[0] == oracle.sha256(disk.expected_data(last, 4096))
        count = guest.vm.sh(f"dd if={device} bs=4096 skip={disk.size} count=1 "
                            "iflag=direct,skip_bytes 2>/dev/null | wc -c")
        assert count == "0"
        write = guest.vm.try_sh(f"dd if=/bin/busybox of={device} bs=4096 "
                                f"count=1 seek={disk.size} conv=notrunc "
                                "oflag=direct,seek_bytes")
        assert write.code and "No space left" in write.out, write
        assert disk.first_difference() is None


# --- discard, zeroes, flush -------------------------------------------------

def is_hole(disk, offset, length):
    """Whether a range of the image is a hole."""
    with disk.path.open("rb") as image:
        try:
            data = os.lseek(image.fileno(), offset, os.SEEK_DATA)
        except OSError as error:
            return error.errno == errno.ENXIO
        return data >= offset + length


def zero_ranges(guest, option, opcode):
    """Zero ranges with blkdiscard, and check that no other data changes.

    Yields (controller, offset, length) after each.
    """
    for controller in guest.controllers:
        disk = controller.disk
        for length in ((65536 + controller.block_size,) if guest.is_slow else
                       (controller.block_size, 4096, 65536, 1 << 20)):
            # Data before and after the range must not change.
            offset = disk.allocate(length + 8192) + 4096
            guest.read_events()
            guest.vm.sh(f"/usr/sbin/blkdiscard {option} -o {offset} "
                        f"-l {length} {controller.device[KNOWN]}")
            # blkdiscard also reads, to look for a file system.
            assert set(guest.commands()) - {"READ"} == {opcode}
            disk.expect(offset, bytes(length))
            assert controller.read((offset - 4096, length + 8192)) is None
            yield controller, offset, length
        assert disk.first_difference() is None


@check()
def write_zeroes_writes_zeroes(guest):
    for _ in zero_ranges(guest, "-z", "WRITE_ZEROES"):
        pass


@check()
def discard_makes_holes(guest):
    for controller, offset, length in zero_ranges(guest, "-f", "DSM"):
        if not length % 4096:
            assert is_hole(controller.disk, offset, length)


@check(needs=base)
def whole_disk_is_discarded_and_zeroed(guest):
    """It has more blocks than one command can name."""
    for controller in guest.controllers:
        disk = controller.namespaces[FS_TESTED]
        device = controller.device[FS_TESTED]
        blocks = (0, 1000, 90000)
        for option in ("-z", "-f"):
            guest.vm.sh("head -c 4096 /dev/urandom >/tmp/r; "
                        f"for block in {' '.join(map(str, blocks))}; do "
                        f"dd if=/tmp/r of={device} seek=$block bs=4096 count=1 "
                        "oflag=direct conv=notrunc 2>/dev/null; done")
            assert not is_hole(disk, 0, disk.size)
            guest.vm.sh(f"/usr/sbin/blkdiscard {option} {device}")
            assert all(not any(disk.read(block << 12, 4096))
                       for block in blocks)
        assert is_hole(disk, 0, disk.size)


@check(needs=base)
def large_disk_is_discarded_within_the_limit_of_a_command(guest):
    """QEMU ignores a range that exceeds its limit (DMRSL), and reports success."""
    for controller in guest.controllers:
        disk, device = controller.namespaces[LARGE], controller.device[LARGE]
        offsets = [0, disk.size // 2, disk.size - 4096]
        guest.vm.sh("head -c 4096 /dev/urandom >/tmp/r; "
                    f"for offset in {' '.join(map(str, offsets))}; do "
                    f"/usr/bin/dd if=/tmp/r of={device} seek=$offset bs=4096 count=1 "
                    "oflag=direct,seek_bytes conv=notrunc 2>/dev/null; done")
        assert all(any(disk.read(offset, 4096)) for offset in offsets)
        guest.read_events()
        guest.vm.sh(f"/usr/sbin/blkdiscard -f {device}")
        events = guest.read_events()
        assert is_hole(disk, 0, disk.size)
        assert not [text for name, text in events if name == DSM_LIMIT]
        # The disk has more than two times the limit.
        assert len([text for name, text in events
                    if name == "pci_nvme_io_cmd" and "DSM" in text]) >= 3


@check(needs=untranslated)
def fua_is_set_in_the_command(guest):
    """The bit is read from the submission queues, in the guest's memory."""
    assert guest.queues
    for controller in guest.controllers:
        for flag, bit in ((",direct,dsync", 1), (",direct", 0)):
            offset = controller.disk.allocate(4096)
            guest.read_events()
            guest.vm.sh(
                "head -c 4096 /dev/urandom >/tmp/r && /usr/bin/dd if=/tmp/r of="
                f"{controller.device[KNOWN]} bs=4096 seek={offset} count=1 "
                f"conv=notrunc oflag=seek_bytes{flag} 2>/dev/null")
            controller.disk.expect(offset, controller.disk.read(offset, 4096))
            # Linux also flushes after such a write to a block device.
            assert guest.commands() == ["WRITE", *["FLUSH"] * bit]
            assert fua_bits(guest, offset // controller.block_size) == {bit}


def fua_bits(guest, lba):
    """The FUA bits of writes to an LBA of namespace 1, in all queues."""
    bits = set()
    with tempfile.TemporaryDirectory() as directory:
        for addr, size in guest.queues:
            path = pathlib.Path(directory, "queue")
            guest.vm.qmp("pmemsave", val=addr, size=size * 64,
                         filename=str(path))
            for entry in struct.iter_unpack("<16I", path.read_bytes()):
                if (entry[0] & 0xff, entry[1], entry[10]) == (1, KNOWN, lba):
                    bits.add(entry[12] >> 30 & 1)
    return bits


# --- fio --------------------------------------------------------------------

TWO = "--numjobs=2 --cpus_allowed=0-1 --cpus_allowed_policy=split "
JOBS = {
    "sequential": "--rw=write --bs=128k --ioengine=io_uring --size=4M",
    "single blocks": "--rw=randwrite --bs=BLOCK --ioengine=libaio "
                     "--iodepth=128 --size=1M",
    "all sizes": "--rw=randwrite --bsrange=BLOCK-1M --ioengine=io_uring "
                 "--iodepth=32 --size=4M --offset_increment=4M " + TWO,
    "reads and writes": "--rw=randrw --bssplit=BLOCK/20:4k/30:20k/20:64k/20:"
                        "1M/10 --ioengine=libaio --iodepth=16 --size=4M "
                        "--offset=8M --offset_increment=4M " + TWO,
    "unaligned memory": "--rw=randwrite --bsrange=BLOCK-256k --size=4M "
                        "--ioengine=io_uring --iodepth=8 --iomem_align=20",
    "registered memory": "--rw=randwrite --bsrange=4k-256k --size=4M "
                         "--ioengine=io_uring --iodepth=64 --fixedbufs=1 "
                         "--registerfiles=1",
    "batches": "--rw=randrw --bssplit=BLOCK/50:4k/30:64k/20 --size=4M "
               "--ioengine=io_uring --iodepth=64 --iodepth_batch_submit=16",
    "fua": "--rw=randwrite --bs=4k --size=512k --ioengine=libaio --iodepth=4 "
           "--sync=dsync",
    "cached": "--direct=0 --rw=randwrite --bsrange=BLOCK-256k --size=4M "
              "--ioengine=io_uring --iodepth=8 --fsync=16 --end_fsync=1",
}
# Data for the other driver to read: of the kernel's driver, and of ours.
PERSISTENT = "--rw=write --bs=64k --ioengine=libaio --iodepth=8 --size=1M "
BY_KERNEL = PERSISTENT + "--offset=32M "
BY_OURS = PERSISTENT + "--offset=40M "
WRITE_ONLY = "--do_verify=0"
READ_ONLY = "--verify_only"


@check(JOBS, needs=base)
def fio_verifies(guest, job):
    fio_writes(guest, JOBS[job])


@check(needs=ours_as_module)
def batch_rings_doorbell_once(guest):
    """A doorbell write is an exit of the virtual machine.

    The kernel's driver replaces some of them by writes to memory.
    """
    for controller in guest.controllers:
        guest.read_events()
        guest.vm.sh("fio --name=job --rw=randread --bs=4k --size=256k --direct=1 "
                    "--ioengine=io_uring --iodepth=16 --iodepth_batch_submit=16 "
                    "--iodepth_batch_complete_min=16 "
                    f"--filename={controller.device[FIO]}")
        names = [name for name, _ in guest.read_events()]
        commands = names.count("pci_nvme_io_cmd")
        # Some of the 64 reads are adjacent and are merged.
        assert 48 <= commands <= 64
        assert 0 < names.count("pci_nvme_mmio_doorbell_sq") <= commands // 8


@check(needs=base)
def fio_reads_data_of_the_kernel_driver(guest):
    assert guest.fio(BY_KERNEL + READ_ONLY)


@check(needs=base)
def fio_writes_data_for_the_kernel_driver(guest):
    assert guest.fio(BY_OURS + WRITE_ONLY)


@check(needs=debug)
def fio_runs_once(guest):
    """Some of the jobs in one run: on the debug kernel fio takes seconds to start."""
    jobs = [JOBS[name].replace("4M", "1M")
            for name in ("all sizes", "reads and writes")]
    if guest.boot.deep:
        jobs += [BY_KERNEL + READ_ONLY, BY_OURS + WRITE_ONLY]
    assert guest.fio(*jobs)


def fio_writes(guest, options):
    """fio has written and verified the whole size."""
    unit_bytes = {"k": 1 << 10, "M": 1 << 20}
    size, unit = re.search(r"--size=(\d+)([kM])", options).groups()
    for job in guest.fio(options):
        written = job["write"]["io_bytes"]
        assert job["read"]["io_bytes"] >= written > 0
        if "randrw" not in options:
            assert written == int(size) * unit_bytes[unit]


@check(needs=base)
def all_disks_in_parallel(guest):
    """Both controllers, two namespaces of each, from both processors."""
    for controller in guest.controllers:
        assert controller.disk.first_difference() is None
    names = ":".join(controller.device[nsid] for controller in guest.controllers
                     for nsid in (KNOWN, FIO))
    out = guest.vm.sh(
        "fio --output-format=json --direct=1 --ioengine=io_uring --iodepth=64 "
        "--rw=randread --bsrange=4k-128k --size=16M --io_size=24M "
        f"--name=all --filename={names} {TWO}")
    for job in json.loads(out[out.index("{"):])["jobs"]:
        assert job["error"] == 0
        assert job["read"]["io_bytes"] >= 24 << 20
    for controller in guest.controllers:
        assert controller.disk.first_difference() is None


# --- file systems -----------------------------------------------------------

def make_filesystems(guest, nsid):
    """Make ext4 and xfs, with files, and store their sums."""
    files = 20 if guest.is_slow else 200
    sums = guest.run_parallel(lambda controller: "make_filesystems "
                              f"{controller.device[nsid]} {files}")
    store_sums(guest, nsid, sums)


def store_sums(guest, nsid, sums):
    for controller, text in zip(guest.with_filesystems, sums):
        assert re.fullmatch(r"[0-9a-f]{64}\n[0-9a-f]{64}", text), text
        guest.trees[controller.pci, nsid] = text


def check_filesystems(guest, nsid):
    """The files are those that were stored, and fsck finds no error."""
    sums = guest.run_parallel(
        lambda controller: f"read_filesystems {controller.device[nsid]}")
    assert sums == [guest.trees[controller.pci, nsid]
                    for controller in guest.with_filesystems]


@check(needs=deep)
def filesystems_of_the_kernel_driver_are_read(guest):
    check_filesystems(guest, FS_KERNEL)


@check(needs=deep)
def filesystems_of_the_kernel_driver_are_changed(guest):
    store_sums(guest, FS_KERNEL, guest.run_parallel(
        lambda controller: f"change_filesystems {controller.device[FS_KERNEL]}"))


@check(needs=deep)
def filesystems_are_made(guest):
    """A partition table, ext4 and xfs, and files."""
    make_filesystems(guest, FS_TESTED)


# --- nvme-cli ---------------------------------------------------------------

def identify(controller):
    """What nvme-cli prints of the controller and of each namespace."""
    device = controller.device[KNOWN]
    lines = [f"nvme id-ctrl {device}", f"nvme list-ns {device}",
             f"nvme get-feature -f 6 {device} | grep -o value.*"]
    lines += [f"nvme id-ns {name} | grep -v '^NVME'"
              for name in controller.device.values()]
    return controller.vm.sh(" && echo ---- && ".join(lines))


@check(needs=deep)
def nvme_cli_identifies_the_same(guest):
    for controller in guest.controllers:
        assert identify(controller) == guest.reference[controller.pci]


def smart_log(controller):
    """The SMART log as a dictionary."""
    return json.loads(controller.vm.sh(
        f"nvme smart-log -o json {controller.device[KNOWN]}"))


@check(needs=deep)
def smart_log_counts_commands(guest):
    for controller in guest.controllers:
        before = smart_log(controller)
        assert controller.write([4096] * 3) is None
        assert controller.read((0, 4096), (4096, 8192)) is None
        after = smart_log(controller)
        assert before.keys() == guest.reference[controller.pci, "smart"]
        assert after["host_write_commands"] - \
            before["host_write_commands"] == 3
        assert after["host_read_commands"] - before["host_read_commands"] == 2
        assert after["temperature"] == 323
        assert after["media_errors"] == 0


def admin(opcode, length=0, **words):
    """A line of nvme-cli that sends an admin command."""
    more = f"--data-len={length} --read" if length else ""
    return f"nvme admin-passthru --opcode={opcode:#x} {more} " + " ".join(
        f"--{word}={value:#x}" for word, value in words.items())


# Commands other than Identify, Get Log Page and Get Features; and lengths that differ
# from what the controller would transfer.
REFUSED = [
    admin(0x00, cdw10=1), admin(0x05), admin(0x09, cdw10=6),
    admin(0x0d, cdw10=1), admin(0x10), admin(0x80, **{"namespace-id": 1}),
    admin(0x06, 512, cdw10=1), admin(0x06, 4096 + 512, cdw10=1),
    admin(0x06, 8192, cdw10=1),
    admin(0x02, 256, cdw10=0x7f0002, **{"namespace-id": 0xffffffff}),
    admin(0x02, 1024, cdw10=0x7f0002, **{"namespace-id": 0xffffffff}),
]


@check(needs=ours_deep)
def other_admin_commands_are_refused(guest):
    """No command that changes a disk, no wrong length: none reaches QEMU."""
    for controller in guest.controllers[:1]:
        device = controller.device[KNOWN]
        guest.read_events()
        guest.vm.sh("for line in " + " ".join(f"'{line}'" for line in REFUSED)
                    + f"; do $line {device} && exit 1; done; :")
        assert guest.event_fields("pci_nvme_admin_cmd", "(.*)") == []
        # The same tool sends an allowed command.
        guest.vm.sh(f"{admin(0x06, 4096, cdw10=1)} {device}")
        assert guest.event_fields("pci_nvme_admin_cmd", r"opc (\w+)") == ["0x6"]


# --- after all of the above -------------------------------------------------

@check(needs=ours)
def requests_took_the_route_of_the_machine(guest):
    """All maps in the trace buffer, which keeps the last ones."""
    cpu = guest.machine.cpu_route
    for controller in guest.controllers:
        count, *others = guest.vm.sh(
            f"grep 'dma_phys_sg_map: {controller.pci} ' $TRACING/trace "
            f">/tmp/trace; grep -c ' route={cpu} .* err=0$' /tmp/trace; "
            f"grep -v ' cpu .* route={cpu} .* err=0$' /tmp/trace | head -n 20"
        ).split("\n")
        assert int(count) > 10
        # Bounce buffers may all be in use for a moment.
        assert [line for line in others
                if not line.endswith(f" err=-{errno.EAGAIN}")] == []


def translated(boot, driver):
    return ours(boot, driver) and not untranslated(boot, driver)


def bytes_mapped_by(guest, command):
    """Bytes that the IOMMU gets to map while a command of the shell runs."""
    sizes = guest.vm.sh(
        f"cd $TRACING; echo >trace; echo 1 >events/iommu/map/enable; {command}; "
        "echo 0 >events/iommu/map/enable; sed -n 's/.* map: .* size=//p' trace")
    return sum(map(int, sizes.split()))


@check(needs=translated)
def only_data_of_requests_is_mapped(guest):
    """Queues, descriptor lists and the data of admin commands stay mapped."""
    for controller in guest.controllers:
        device, length = controller.device[KNOWN], 16 * 131072
        read = f"dd if={device} of=/dev/null bs=131072 iflag=direct count=16"
        assert bytes_mapped_by(guest, f"{read} 2>/dev/null") == length
        assert bytes_mapped_by(
            guest, f"for n in 1 2 3; do nvme id-ns {device} >/dev/null; done") == 0


@check(needs=ours)
def descriptors_have_the_right_type(guest):
    """QEMU traces whether it gets SGLs or PRPs."""
    guest.read_events()
    assert ("pci_nvme_map_sgl" in guest.event_names) == guest.boot.sgl
    assert "pci_nvme_map_prp" in guest.event_names


@check(needs=ours)
def controllers_report_no_error(guest):
    """No error, and no undefined behaviour."""
    guest.read_events()
    assert guest.errors == []


# --- without SGLs -----------------------------------------------------------

@check(needs=ours_as_module)
def without_sgl_there_are_prp_lists(guest):
    guest.unload()
    guest.bind(guest.driver, "sgl=0")
    try:
        for controller in guest.controllers:
            ranges = ranges_of(controller, guest.is_slow)
            assert controller.read(*ranges) is None
            assert controller.write([512 << 10], flag="", conv=",fsync") is None
        fio_writes(guest, JOBS["all sizes"])
        fio_writes(guest, JOBS["unaligned memory"])
        requests_took_the_route_of_the_machine(guest)
        controllers_report_no_error(guest)
        assert "pci_nvme_map_sgl" not in guest.event_names
    finally:
        guest.unload()
        guest.bind(guest.driver)
    assert all(controller.read((0, 65536)) is None
               for controller in guest.controllers)


# --- the kernel's driver, after the driver under test -----------------------

@check(after=True)
def kernel_driver_reads_the_data(guest):
    for controller in guest.controllers:
        digest = guest.vm.sh(f"disk_sum {controller.device[KNOWN]}")
        assert digest == oracle.sha256(controller.disk.expected)


@check(needs=deep, after=True)
def kernel_driver_reads_what_fio_wrote(guest):
    assert guest.fio(BY_OURS + READ_ONLY)


@check(needs=deep, after=True)
def kernel_driver_reads_filesystems_that_were_made(guest):
    check_filesystems(guest, FS_TESTED)


@check(needs=deep, after=True)
def kernel_driver_reads_filesystems_that_were_changed(guest):
    check_filesystems(guest, FS_KERNEL)


# --- a boot -----------------------------------------------------------------

# QEMU's trace events. ub is undefined behaviour.
ERROR_EVENTS = ("pci_nvme_err_", "pci_nvme_ub_")
DSM_LIMIT = "pci_nvme_dsm_single_range_limit_exceeded"
EVENTS = ["pci_nvme_io_cmd", "pci_nvme_admin_cmd", "pci_nvme_map_sgl", DSM_LIMIT,
          "pci_nvme_map_prp", "pci_nvme_create_sq", "pci_nvme_mmio_doorbell_sq",
          *(f"{name}*" for name in ERROR_EVENTS)]

# Properties of the controllers of each machine: they differ, so that more is tested.
OPTIONS = {
    "direct": {"mdts": 9},
    "bounce": {},
    "intel-lazy": {"max_ioqpairs": 1},
    "intel-strict": {"mdts": 5},
    "amd": {"mqes": 31},
    "virtio-iommu": {"msix_qsize": 2},
}
# The largest bounce buffer: a page less if it must keep the offset in a page, as with
# PRPs. The key is whether SGLs are used.
MAX_BOUNCE = {True: 256 << 10, False: 252 << 10}
# The largest size for which the kernel caches IOVAs: dma_opt_mapping_size().
MAX_CACHED_IOVA = 128 << 10


@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel on a machine, with the drivers one after the other."""

    flavour: str
    machine: str
    drivers: tuple = tuple(vm.DRIVERS.items())
    # Without SGLs. On the debug kernel the drivers are built in, so that a boot has
    # them with or without.
    odd: bool = False
    # With file systems and nvme-cli.
    deep: bool = True
    long: bool = False

    @property
    def sgl(self):
        return not self.odd

    def __str__(self):
        ours = self.drivers == tuple(vm.DRIVERS.items())
        return f"{self.flavour}-{self.machine}{'' if ours else '-reference'}"

    def queues(self):
        """The number of I/O queues: up to one for each of two processors."""
        options = OPTIONS[self.machine]
        return min(2, options.get("max_ioqpairs", 2),
                   options.get("msix_qsize", 3) - 1)

    def max_transfer(self):
        """The maximum size of a transfer, in bytes."""
        mdts = OPTIONS[self.machine].get("mdts", 7)
        size = min(4096 << mdts, 1 << 20)
        if vm.MACHINES[self.machine].cpu_route == "bounce":
            size = min(size, MAX_BOUNCE[self.sgl])
        if vm.MACHINES[self.machine].cpu_route == "iommu":
            size = min(size, MAX_CACHED_IOVA)
        return size

    def checks(self, driver, after=False):
        return [each for each in CHECKS if each.needs(self, driver)
                and each.after == after]

    def run(self, kernel):
        """{step: "" or how it failed}"""
        results = {}
        with tempfile.TemporaryDirectory() as directory:
            sizes = SIZES if self.flavour == "base" else SMALL_SIZES
            disks = [namespaces(pathlib.Path(directory), sizes, *row)
                     for row in (("a", 512), ("b", 4096))]
            machine = vm.MACHINES[self.machine]
            append = "dma_phys.debug=1"
            if not self.sgl:
                append += "".join(f" {name}.sgl=0" for _, name in self.drivers)
            guest = vm.VM(
                kernel, machine, append=append, name=f"block-{self}",
                devices=vm.nvme(machine, disks, **OPTIONS[self.machine]),
                qmp=True, programs=True, trace=EVENTS)
            with step(results, "boot"), guest:
                self._run_all(guest, disks, results)
            with step(results, "image"):
                for disk, *_ in disks:
                    assert disk.first_difference() is None, \
                        f"{disk.serial} differs at byte {disk.first_difference()}"
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
        return results

    def _run_all(self, vm_guest, disks, results):
        names = vm_guest.sh("controllers").split()
        assert len(names) == len(disks)
        guest = Guest(vm_guest, self, [Controller(vm_guest, name, row)
                                       for name, row in zip(names, disks)])
        guest.bind("nvme")
        prepare_with_kernel_driver(guest)
        for language, driver in self.drivers:
            self._run_driver(guest, language, driver, results)
        with step(results, "final check"):
            vm_guest.sh(f"unbind {names[0]}; unbind {names[1]}")
            assert vm_guest.final_check() == []
            if self.flavour == "debug":
                check_counters(vm_guest)

    def _run_driver(self, guest, language, driver, results):
        for name, bound, after in (("bind", driver, False),
                                   ("bind the kernel's driver", "nvme", True)):
            with step(results, (language, name)):
                guest.bind(bound)
            for each in self.checks(driver, after):
                with step(results, (language, each.name)):
                    each.run(guest)


def namespaces(directory, sizes, name, block_size):
    """The images of the namespaces of a controller, in order."""
    return [(oracle.Disk if nsid == KNOWN else oracle.Image)(
                directory / f"{name}{nsid}", f"disk-{name}", size=size,
                block_size=block_size)
            for nsid, size in sizes.items()]


def prepare_with_kernel_driver(guest):
    """With the kernel's driver, write data for the drivers under test."""
    for controller in guest.controllers:
        assert controller.write([KERNEL_LENGTH]) is None
        if guest.boot.deep:
            guest.reference[controller.pci] = identify(controller)
            guest.reference[controller.pci, "smart"] = \
                smart_log(controller).keys()
    if guest.boot.deep:
        guest.fio(BY_KERNEL + WRITE_ONLY)
        make_filesystems(guest, FS_KERNEL)


def check_counters(guest):
    """DMA_PHYS_DEBUG has counted all maps: each was unmapped once."""
    assert guest.sh("cat $DEBUG/dma_phys/enable") == "1"
    counters = dict(line.rsplit(" ", 1) for line in
                    guest.sh("cat $DEBUG/dma_phys/counters").splitlines())
    assert int(counters["unmaps"]) > 0
    assert [counters[name] for name in ("live", "leaked", "refused")] == ["0"] * 3
    guest.sh("echo 0 >$DEBUG/dma_phys/enable")
    assert guest.sh("cat $DEBUG/dma_phys/enable") == "0"


# --- the tests --------------------------------------------------------------

# The route is a matter of the core: one route of each kind is enough for a daily run.
# The debug kernel is ten times as slow, and runs the whole list on one machine.
DAILY = {("base", "direct"), ("base", "bounce"), ("base", "intel-lazy"),
         ("debug", "bounce")}
DEEP = ["intel-strict"]
BOOTS = [Boot("base", "direct", (("kernel", "nvme"),), long=True)] \
    + [Boot("base", route, long=("base", route) not in DAILY)
       for route in OPTIONS] \
    + [Boot("debug", route, odd=bool(number % 2), deep=route in DEEP,
            long=("debug", route) not in DAILY)
       for number, route in enumerate(OPTIONS)]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, name, id=f"{boot}-{language}-{name}")
    for boot in BOOTS for language, driver in boot.drivers
    for name in ["bind", *(each.name for each in boot.checks(driver)),
                 "bind the kernel's driver",
                 *(each.name for each in boot.checks(driver, after=True))]])
def test_driver(booted, boot, language, name):
    check_step(booted(boot), (language, name))


@pytest.mark.parametrize("name", ["boot", "final check", "image", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, name):
    check_step(booted(boot), name)

# SPDX-License-Identifier: GPL-2.0
"""Both NVMe sample drivers as disks, judged by others.

One boot per kernel and machine runs the list below, first for one driver then
for the other, on two controllers whose blocks differ in size. Each entry of the
list is one test. The judges are the bytes of the image outside the machine,
what QEMU's controllers say that they were told, everyone's tools (fio, mkfs,
fsck, nvme-cli), and the kernel's own driver, which has the disks before the
first driver, between the two and after the last. The list holds for that driver
as well: one boot shows it.
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

import oracle
import vm
from block_guest import outcome, step

# The namespaces of each controller, from 1: one whose bytes are known, two for
# file systems made by the kernel's own driver and by the driver under test, and
# one for fio. xfs wants 300 MiB.
BYTES, THEIRS, OURS, FIO = 1, 2, 3, 4
SIZES = {BYTES: 16 << 20, THEIRS: 400 << 20, OURS: 400 << 20, FIO: 64 << 20}
# The kernel that reports reads a megabyte in a third of a second.
SMALL = SIZES | {BYTES: 4 << 20}

# What the kernel's own driver writes, before all others.
KERNEL_WROTE = 65536
KERNEL_WROTE_AT = 1 << 20

# One block, one page and not, two pages, lists of them, lists of lists.
LENGTHS = [512, 1536, 4096, 8192, 12288, 19968, 131072, 524288, 1 << 20,
           (1 << 20) + 4096]
FEW_LENGTHS = [512, 4096, 20480, 262144]


class Controller:
    """One of the machine's controllers, held by a driver."""

    def __init__(self, guest, pci, spaces):
        self.vm = guest
        self.pci = pci
        self.spaces = dict(enumerate(spaces, 1))
        self.block = spaces[0].block_size
        self.device = {}

    @property
    def disk(self):
        """The namespace of known bytes."""
        return self.spaces[BYTES]

    def find(self):
        """Learn what the driver calls the disks."""
        names = self.vm.sh("; ".join(f"disk {self.pci} {nsid}"
                                     for nsid in self.spaces)).split()
        self.device = dict(zip(self.spaces, names))
        assert len(self.device) == len(self.spaces), names

    def block_layer(self, *names, nsid=BYTES):
        """Files of the block layer's about a disk."""
        where = f"/sys/block/{pathlib.Path(self.device[nsid]).name}"
        return self.vm.sh(f"cd {where} && cat {' '.join(names)}").split("\n")

    def read(self, *runs):
        """Read (offset, length)...: the first that is not as it must be."""
        words = " ".join(f"{at} {length}" for at, length in runs)
        found = self.vm.sh(f"sums {self.device[BYTES]} {words}").split()
        assert len(found) == len(runs)
        return next((run for run, said in zip(runs, found)
                     if said != oracle.sha256(self.disk.region(*run))), None)

    def write(self, lengths, flag=",direct", conv=""):
        """Write random bytes: the first (offset, length) that is wrong."""
        runs = [(self.disk.take(length), length) for length in lengths]
        words = " ".join(f"{at} {length}" for at, length in runs)
        found = self.vm.sh(f"DD_FLAG={flag}; DD_CONV={conv}; scribble "
                           f"{self.device[BYTES]} {words}").split()
        assert len(found) == len(runs)
        wrong = None
        for run, said in zip(runs, found):
            written = self.disk.read(*run)
            if said != oracle.sha256(written):
                wrong = wrong or run
            self.disk.expect(run[0], written)
        return wrong


class Guest:
    """A machine with two controllers, both held by one driver."""

    def __init__(self, guest, boot, controllers):
        self.vm = guest
        self.boot = boot
        self.machine = guest.machine
        self.both = controllers
        self.driver = None
        # What must be found by whoever reads it: {(pci, nsid): sums}.
        self.trees = {}
        # What nvme-cli said with the kernel's driver.
        self.said = {}
        # Where the driver has its submission queues: (DMA address, entries).
        self.queues = []
        # What the controllers were told since the driver has them, and what
        # they say against that.
        self.events = set()
        self.complaints = []

    @property
    def small(self):
        """The kernel that reports is slow."""
        return self.boot.flavour == "debug"

    def bind(self, driver, *parameters):
        self.look()
        self.events.clear()
        self.complaints.clear()
        self.vm.sh("cd $TRACING; echo 256 >buffer_size_kb; echo >trace; "
                   "echo 1 >events/dma_phys/dma_phys_vec_map/enable; cd /; "
                   f"load {driver} {' '.join(parameters)} && bind {driver} "
                   + " ".join(each.pci for each in self.both))
        self.driver = driver
        for each in self.both:
            each.find()
        self.queues = [
            (int(addr, 16), int(size) + 1) for addr, size in self.told(
                "pci_nvme_create_sq", r"addr=(0x\w+).* qsize=(\d+)")]

    def unload(self):
        for each in self.both:
            self.vm.sh(f"unbind {each.pci}")
        self.vm.sh(f"rmmod {self.driver}")

    @property
    def filed(self):
        """The controllers whose disks get file systems."""
        return self.both[self.boot.odd:][:1] if self.small else self.both

    def at_once(self, line):
        """A line for each of filed, all at the same time: what each said."""
        tasks = [f"({line(each)}) >/tmp/at_once.{n} 2>&1 & task{n}=$!"
                 for n, each in enumerate(self.filed)]
        ends = [f"wait $task{n}; echo $?; cat /tmp/at_once.{n}; echo ======"
                for n in range(len(tasks))]
        out = self.vm.sh("; ".join(tasks + ends))
        found = [part.strip().split("\n", 1)
                 for part in out.split("======")[:-1]]
        assert [code for code, *_ in found] == ["0"] * len(self.filed), out
        return [text[0] if text else "" for _, *text in found]

    def fio(self, *jobs):
        """Jobs of fio's on all controllers, all at the same time.

        They verify what they write. Returned is what fio says of each.
        """
        line = ("fio --output-format=json --output=/tmp/fio --thread "
                "--direct=1 --verify=crc32c --verify_fatal=1 --randseed=4711")
        count = 0
        for each in self.both:
            for job in jobs:
                line += (f" --name={each.pci} --filename={each.device[FIO]} "
                         + job.replace("BLOCK", str(each.block)))
                count += 2 if "numjobs=2" in job else 1
        answer = self.vm.ask(f"{line}; code=$?; cat /tmp/fio; exit $code")
        assert answer.code == 0, answer.out
        found = json.loads(answer.out[answer.out.index("{"):])["jobs"]
        assert len(found) == count
        assert all(job["error"] == 0 for job in found), answer.out
        return found

    def look(self):
        """What the controllers were told since the last look."""
        events = self.vm.traced()
        self.events |= {name for name, _ in events}
        self.complaints += [" ".join(event) for event in events
                            if event[0].startswith(COMPLAINTS)]
        return events

    def told(self, event, pattern):
        """A part, or parts, of each such event since the last look."""
        return [found for name, text in self.look() if name == event
                for found in re.findall(pattern, text)]

    def commands(self):
        """The I/O commands since the last look, in the standard's words."""
        return self.told("pci_nvme_io_cmd",
                         r"opname '(?:NVME_NVM_CMD_)?(\w+)'")


@dataclasses.dataclass(frozen=True)
class Check:
    """An entry of the list; after says that the kernel's driver runs it."""

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


def plain_addresses(boot, driver):
    """Does the device know memory by the addresses that QEMU knows?"""
    return vm.MACHINES[boot.machine].cpu != "iommu"


# --- what the disks are -----------------------------------------------------

@check()
def disks_are_what_the_namespaces_are(guest):
    for each in guest.both:
        for nsid, disk in each.spaces.items():
            size, *said, discard, zeroes = each.block_layer(
                "size", "queue/logical_block_size", "queue/write_cache",
                "queue/fua", "queue/discard_max_bytes",
                "queue/write_zeroes_max_bytes", nsid=nsid)
            assert int(size) * 512 == disk.size
            assert said == [str(each.block), "write back", "1"]
            assert int(discard) > 0 and int(zeroes) > 0


@check(needs=ours)
def disks_are_named_after_the_driver(guest):
    letter = {"nvme_phys": "c", "rust_nvme_phys": "r"}[guest.driver]
    names = [each.device[nsid] for each in guest.both for nsid in each.spaces]
    assert names == [f"/dev/{letter}nvme{number}n{nsid}"
                     for number, each in enumerate(guest.both)
                     for nsid in each.spaces]


@check(needs=ours)
def transfers_are_as_large_as_all_allow(guest):
    most = guest.boot.transfer()
    for each in guest.both:
        kilobytes, segments = each.block_layer("queue/max_hw_sectors_kb",
                                               "queue/max_segments")
        assert int(kilobytes) << 10 == most
        assert int(segments) == 128


@check()
def each_processor_has_a_queue(guest):
    """Where the controller has as many; QEMU tells which queue was used."""
    count = guest.boot.queues()
    for each in guest.both:
        name = pathlib.Path(each.device[BYTES]).name
        assert len(guest.vm.sh(f"ls /sys/block/{name}/mq").split()) == count
        guest.look()
        guest.vm.sh("for cpu in 1 2; do taskset $cpu dd of=/dev/null bs=64k "
                    f"count=4 iflag=direct if={each.device[BYTES]} "
                    "2>/dev/null || exit; done")
        used = set(guest.told("pci_nvme_io_cmd", r"sqid (\d+)"))
        assert used == {str(number) for number in range(1, count + 1)}


# --- bytes ------------------------------------------------------------------

def runs(each, small):
    """(offset, length) for a disk: at the start, within, at the very end."""
    lengths = [length for length in (FEW_LENGTHS if small else LENGTHS)
               if not length % each.block]
    found = [(at, length) for length in lengths
             for at in (0, 3 * 4096 + each.block)]
    return found + [(each.disk.size - length, length) for length in lengths[:2]]


@check()
def read_gets_the_bytes_of_the_disk(guest):
    for each in guest.both:
        assert each.read(*runs(each, guest.small)) is None


@check(needs=deep)
def read_gets_what_the_kernel_driver_wrote(guest):
    for each in guest.both:
        assert each.read((KERNEL_WROTE_AT, KERNEL_WROTE)) is None


@check()
def write_reaches_the_disk(guest):
    for each in guest.both:
        lengths = [length for _, length in runs(each, guest.small)[::2]]
        assert each.write(lengths) is None
        assert each.disk.differs() is None


@check()
def cached_write_reaches_the_disk(guest):
    """Many pages from all over memory; and fsync() is a flush."""
    for each in guest.both:
        guest.look()
        length = 262144 if guest.small else 1 << 20
        assert each.write([length], flag="", conv=",fsync") is None
        assert each.disk.differs() is None
        assert guest.commands()[-1] == "FLUSH"


@check(needs=deep)
def beyond_the_end_is_refused(guest):
    for each in guest.both:
        disk, device = each.disk, each.device[BYTES]
        last = disk.size - 4096
        read = guest.vm.sh(f"dd if={device} bs=8192 skip={last} count=1 "
                           "iflag=direct,skip_bytes 2>/dev/null | sha256sum")
        assert read.split()[0] == oracle.sha256(disk.region(last, 4096))
        read = guest.vm.sh(f"dd if={device} bs=4096 skip={disk.size} count=1 "
                           "iflag=direct,skip_bytes 2>/dev/null | wc -c")
        assert read == "0"
        wrote = guest.vm.ask(f"dd if=/bin/busybox of={device} bs=4096 count=1 "
                             f"seek={disk.size} oflag=direct,seek_bytes "
                             "conv=notrunc")
        assert wrote.code and "No space left" in wrote.out, wrote
        assert disk.differs() is None


# --- what is neither read nor write -----------------------------------------

def hole(disk, offset, length):
    """Is that part of the image a hole?"""
    with disk.path.open("rb") as image:
        try:
            data = os.lseek(image.fileno(), offset, os.SEEK_DATA)
        except OSError as error:
            return error.errno == errno.ENXIO
        return data >= offset + length


def zeroed(guest, option, opcode):
    """Make runs of a disk zeroes, and see that nothing else changes."""
    for each in guest.both:
        for length in ((65536 + each.block,) if guest.small else
                       (each.block, 4096, 65536, 1 << 20)):
            # Not at its start: the bytes before it must stay.
            at = each.disk.take(length + 8192) + 4096
            guest.look()
            guest.vm.sh(f"/usr/sbin/blkdiscard {option} -o {at} -l {length} "
                        f"{each.device[BYTES]}")
            # It also reads, to see whether a file system is in the way.
            assert set(guest.commands()) - {"READ"} == {opcode}
            each.disk.expect(at, bytes(length))
            assert each.read((at - 4096, length + 8192)) is None
            yield each, at, length
        assert each.disk.differs() is None


@check()
def write_zeroes_writes_zeroes(guest):
    for _ in zeroed(guest, "-z", "WRITE_ZEROES"):
        pass


@check()
def discard_makes_holes(guest):
    for each, at, length in zeroed(guest, "-f", "DSM"):
        if not length % 4096:
            assert hole(each.disk, at, length)


@check(needs=base)
def discard_and_zeroes_are_as_large_as_a_disk(guest):
    """More blocks than one command has."""
    for each in guest.both:
        disk, device = each.spaces[OURS], each.device[OURS]
        for option in ("-z", "-f"):
            guest.vm.sh(f"head -c 4096 /dev/urandom >/tmp/r; for at in 0 1000 "
                        f"90000; do dd if=/tmp/r of={device} seek=$at bs=4096 "
                        "count=1 oflag=direct conv=notrunc 2>/dev/null; done")
            assert not hole(disk, 0, disk.size)
            guest.vm.sh(f"/usr/sbin/blkdiscard {option} {device}")
            assert all(not any(disk.read(at << 12, 4096))
                       for at in (0, 1000, 90000))
        assert hole(disk, 0, disk.size)


@check(needs=plain_addresses)
def forced_write_is_told_to_the_controller(guest):
    """FUA: the bit is read from the queues in the guest's memory."""
    assert guest.queues
    for each in guest.both:
        for flag, bit in ((",direct,dsync", 1), (",direct", 0)):
            at = each.disk.take(4096)
            guest.look()
            guest.vm.sh(
                "head -c 4096 /dev/urandom >/tmp/r && /usr/bin/dd if=/tmp/r of="
                f"{each.device[BYTES]} bs=4096 seek={at} count=1 conv=notrunc "
                f"oflag=seek_bytes{flag} 2>/dev/null")
            each.disk.expect(at, each.disk.read(at, 4096))
            # Linux flushes such a write to a block device even so.
            assert guest.commands() == ["WRITE", *["FLUSH"] * bit]
            assert forced(guest, at // each.block) == {bit}


def forced(guest, lba):
    """The FUA bits of writes to an LBA of namespace 1, in all queues."""
    found = set()
    with tempfile.TemporaryDirectory() as directory:
        for addr, size in guest.queues:
            path = pathlib.Path(directory, "queue")
            guest.vm.qmp("pmemsave", val=addr, size=size * 64,
                         filename=str(path))
            for entry in struct.iter_unpack("<16I", path.read_bytes()):
                if (entry[0] & 0xff, entry[1], entry[10]) == (1, BYTES, lba):
                    found.add(entry[12] >> 30 & 1)
    return found


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
    "memory at any place": "--rw=randwrite --bsrange=BLOCK-256k --size=4M "
                           "--ioengine=io_uring --iodepth=8 --iomem_align=20",
    "registered memory": "--rw=randwrite --bsrange=4k-256k --size=4M "
                         "--ioengine=io_uring --iodepth=64 --fixedbufs=1 "
                         "--registerfiles=1",
    "batches": "--rw=randrw --bssplit=BLOCK/50:4k/30:64k/20 --size=4M "
               "--ioengine=io_uring --iodepth=64 --iodepth_batch_submit=16",
    "forced": "--rw=randwrite --bs=4k --size=512k --ioengine=libaio "
              "--iodepth=4 --sync=dsync",
    "cached": "--direct=0 --rw=randwrite --bsrange=BLOCK-256k --size=4M "
              "--ioengine=io_uring --iodepth=8 --fsync=16 --end_fsync=1",
}
# What is left for the other driver to read: by the kernel's, and by ours.
LEAVE = "--rw=write --bs=64k --ioengine=libaio --iodepth=8 --size=1M "
BY_KERNEL = LEAVE + "--offset=32M "
BY_OURS = LEAVE + "--offset=40M "
WRITE_ONLY = "--do_verify=0"
READ_ONLY = "--verify_only"


@check(JOBS, needs=base)
def fio_reads_back_what_it_wrote(guest, job):
    written(guest, JOBS[job])


@check(needs=ours_as_module)
def requests_that_come_together_ring_once(guest):
    """A write of a doorbell stops a virtual machine.

    The kernel's driver tells a part of them through memory.
    """
    for each in guest.both:
        guest.look()
        guest.vm.sh("fio --name=job --rw=randread --bs=4k --size=256k --direct=1 "
                    "--ioengine=io_uring --iodepth=16 --iodepth_batch_submit=16 "
                    "--iodepth_batch_complete_min=16 "
                    f"--filename={each.device[FIO]}")
        events = guest.look()
        commands = sum(name == "pci_nvme_io_cmd" for name, _ in events)
        rung = sum(name == "pci_nvme_mmio_doorbell_sq" for name, _ in events)
        # Those that happen to be neighbours are merged.
        assert 48 <= commands <= 64
        assert 0 < rung <= commands // 8


@check(needs=base)
def fio_reads_what_the_kernel_driver_left(guest):
    assert guest.fio(BY_KERNEL + READ_ONLY)


@check(needs=base)
def fio_leaves_something(guest):
    assert guest.fio(BY_OURS + WRITE_ONLY)


@check(needs=debug)
def fio_in_short(guest):
    """The same in one run: there fio alone takes seconds to start."""
    jobs = [JOBS[name].replace("4M", "1M")
            for name in ("all sizes", "reads and writes")]
    if guest.boot.deep:
        jobs += [BY_KERNEL + READ_ONLY, BY_OURS + WRITE_ONLY]
    assert guest.fio(*jobs)


def written(guest, options):
    """All that fio was to write it has written, and read again."""
    size = {"k": 1 << 10, "M": 1 << 20}
    amount, unit = re.search(r"--size=(\d+)([kM])", options).groups()
    for job in guest.fio(options):
        done = job["write"]["io_bytes"]
        assert job["read"]["io_bytes"] >= done > 0
        if "randrw" not in options:
            assert done == int(amount) * size[unit]


@check(needs=base)
def all_disks_at_once(guest):
    """Both controllers, two namespaces of each, from both processors."""
    for each in guest.both:
        assert each.disk.differs() is None
    names = ":".join(each.device[nsid] for each in guest.both
                     for nsid in (BYTES, FIO))
    found = guest.vm.sh(
        "fio --output-format=json --direct=1 --ioengine=io_uring --iodepth=64 "
        "--rw=randread --bsrange=4k-128k --size=16M --io_size=24M "
        f"--name=all --filename={names} {TWO}")
    for job in json.loads(found[found.index("{"):])["jobs"]:
        assert job["error"] == 0
        assert job["read"]["io_bytes"] >= 24 << 20
    for each in guest.both:
        assert each.disk.differs() is None


# --- file systems -----------------------------------------------------------

def files(guest):
    return 20 if guest.small else 200


def made(guest, nsid):
    sums = guest.at_once(lambda each: "make_filesystems "
                         f"{each.device[nsid]} {files(guest)}")
    remember(guest, nsid, sums)


def remember(guest, nsid, sums):
    for each, said in zip(guest.filed, sums):
        assert re.fullmatch(r"[0-9a-f]{64}\n[0-9a-f]{64}", said), said
        guest.trees[each.pci, nsid] = said


def found_again(guest, nsid):
    sums = guest.at_once(lambda each: f"read_filesystems {each.device[nsid]}")
    assert sums == [guest.trees[each.pci, nsid] for each in guest.filed]


@check(needs=deep)
def filesystems_of_the_kernel_driver_are_read(guest):
    found_again(guest, THEIRS)


@check(needs=deep)
def filesystems_of_the_kernel_driver_are_changed(guest):
    remember(guest, THEIRS, guest.at_once(
        lambda each: f"change_filesystems {each.device[THEIRS]}"))


@check(needs=deep)
def filesystems_are_made(guest):
    """A partition table, ext4 and xfs, and files in them."""
    made(guest, OURS)


# --- nvme-cli ---------------------------------------------------------------

def identify(each):
    """What nvme-cli says, of the controller and of each namespace."""
    device = each.device[BYTES]
    lines = [f"nvme id-ctrl {device}", f"nvme list-ns {device}",
             f"nvme get-feature -f 6 {device} | grep -o value.*"]
    lines += [f"nvme id-ns {name} | grep -v '^NVME'"
              for name in each.device.values()]
    return each.vm.sh(" && echo ---- && ".join(lines))


@check(needs=deep)
def nvme_cli_identifies_the_same(guest):
    for each in guest.both:
        assert identify(each) == guest.said[each.pci]


def smart(each):
    """The SMART log, as numbers."""
    return json.loads(
        each.vm.sh(f"nvme smart-log -o json {each.device[BYTES]}"))


@check(needs=deep)
def smart_log_counts_what_we_do(guest):
    for each in guest.both:
        before = smart(each)
        assert each.write([4096] * 3) is None
        assert each.read((0, 4096), (4096, 8192)) is None
        after = smart(each)
        assert before.keys() == guest.said[each.pci, "smart"]
        assert after["host_write_commands"] - \
            before["host_write_commands"] == 3
        assert after["host_read_commands"] - before["host_read_commands"] == 2
        assert after["temperature"] == 323
        assert after["media_errors"] == 0


def admin(opcode, length=0, **words):
    """nvme-cli's way to send any admin command."""
    more = f"--data-len={length} --read" if length else ""
    return f"nvme admin-passthru --opcode={opcode:#x} {more} " + " ".join(
        f"--{word}={value:#x}" for word, value in words.items())


# All but Identify, Get Log Page and Get Features; and lengths that are not what
# the controller would move.
REFUSED = [
    admin(0x00, cdw10=1), admin(0x05), admin(0x09, cdw10=6),
    admin(0x0d, cdw10=1), admin(0x10), admin(0x80, **{"namespace-id": 1}),
    admin(0x06, 512, cdw10=1), admin(0x06, 4096 + 512, cdw10=1),
    admin(0x06, 8192, cdw10=1),
    admin(0x02, 256, cdw10=0x7f0002, **{"namespace-id": 0xffffffff}),
    admin(0x02, 1024, cdw10=0x7f0002, **{"namespace-id": 0xffffffff}),
]


@check(needs=ours_deep)
def other_commands_than_questions_are_refused(guest):
    """Nothing that changes a disk, no false length: QEMU gets to see none."""
    for each in guest.both[:1]:
        guest.look()
        guest.vm.sh("for line in " + " ".join(f"'{line}'" for line in REFUSED)
                    + f"; do $line {each.device[BYTES]} && exit 1; done; :")
        assert guest.told("pci_nvme_admin_cmd", "(.*)") == []
        # The means by which they were refused works.
        guest.vm.sh(f"{admin(0x06, 4096, cdw10=1)} {each.device[BYTES]}")
        assert guest.told("pci_nvme_admin_cmd", r"opc (\w+)") == ["0x6"]


# --- after all of the above -------------------------------------------------

@check(needs=ours)
def requests_took_the_route_of_the_machine(guest):
    """All that the core remembers: the trace's end."""
    cpu = guest.machine.cpu
    for each in guest.both:
        count, *others = guest.vm.sh(
            f"grep 'dma_phys_vec_map: {each.pci} ' $TRACING/trace >/tmp/trace; "
            f"grep -c ' route={cpu} .* err=0$' /tmp/trace; "
            f"grep -v ' cpu .* route={cpu} .* err=0$' /tmp/trace | head -n 20"
        ).split("\n")
        assert int(count) > 10
        # A route may be full for a moment.
        assert [line for line in others
                if not line.endswith(f" err=-{errno.EAGAIN}")] == []


@check(needs=ours)
def descriptors_were_those_asked_for(guest):
    """QEMU says what it was given: SGLs, or PRPs alone."""
    guest.look()
    assert ("pci_nvme_map_sgl" in guest.events) == guest.boot.sgl
    assert "pci_nvme_map_prp" in guest.events


@check(needs=ours)
def controllers_found_no_fault(guest):
    """No error, and nothing that is undefined."""
    guest.look()
    assert guest.complaints == []


# --- without SGLs -----------------------------------------------------------

@check(needs=ours_as_module)
def without_sgl_there_are_prp_lists(guest):
    guest.unload()
    guest.bind(guest.driver, "sgl=0")
    try:
        for each in guest.both:
            assert each.read(*runs(each, guest.small)) is None
            assert each.write([512 << 10], flag="", conv=",fsync") is None
        written(guest, JOBS["all sizes"])
        written(guest, JOBS["memory at any place"])
        requests_took_the_route_of_the_machine(guest)
        controllers_found_no_fault(guest)
        assert "pci_nvme_map_sgl" not in guest.events
    finally:
        guest.unload()
        guest.bind(guest.driver)
    assert all(each.read((0, 65536)) is None for each in guest.both)


# --- the kernel's own driver looks ------------------------------------------

@check(after=True)
def kernel_driver_reads_the_bytes(guest):
    for each in guest.both:
        found = guest.vm.sh(f"disk_sum {each.device[BYTES]}")
        assert found == oracle.sha256(each.disk.expected)


@check(needs=deep, after=True)
def kernel_driver_reads_what_fio_left(guest):
    assert guest.fio(BY_OURS + READ_ONLY)


@check(needs=deep, after=True)
def kernel_driver_reads_the_filesystems_we_made(guest):
    found_again(guest, OURS)


@check(needs=deep, after=True)
def kernel_driver_reads_the_filesystems_we_changed(guest):
    found_again(guest, THEIRS)


# --- a boot -----------------------------------------------------------------

# What QEMU tells: what its controllers are told, and what is wrong with that.
COMPLAINTS = ("pci_nvme_err_", "pci_nvme_ub_")
EVENTS = ["pci_nvme_io_cmd", "pci_nvme_admin_cmd", "pci_nvme_map_sgl",
          "pci_nvme_map_prp", "pci_nvme_create_sq", "pci_nvme_mmio_doorbell_sq",
          *(f"{name}*" for name in COMPLAINTS)]

# Controllers differ in more than the way to memory.
OPTIONS = {
    "direct": {"mdts": 9},
    "bounce": {},
    "intel-lazy": {"max_ioqpairs": 1},
    "intel-strict": {"mdts": 5},
    "amd": {"mqes": 31},
    "virtio-iommu": {"msix_qsize": 2},
}
# What one map may bounce: a page less where memory must keep its place in one.
BOUNCE_MOST = {True: 256 << 10, False: 252 << 10}


@dataclasses.dataclass(frozen=True)
class Boot:
    """One kernel on one machine, with the drivers one after the other."""

    flavour: str
    machine: str
    drivers: tuple = tuple(vm.DRIVERS.items())
    # Every second debug boot: that kernel has the drivers built in, so one boot
    # shows one of the two.
    odd: bool = False
    # Is time taken for file systems and nvme-cli as well?
    deep: bool = True
    long: bool = False

    @property
    def sgl(self):
        return not self.odd

    def __str__(self):
        ours = self.drivers == tuple(vm.DRIVERS.items())
        return f"{self.flavour}-{self.machine}{'' if ours else '-reference'}"

    def queues(self):
        options = OPTIONS[self.machine]
        return min(2, options.get("max_ioqpairs", 2),
                   options.get("msix_qsize", 3) - 1)

    def transfer(self):
        """The largest transfer, in bytes."""
        mdts = OPTIONS[self.machine].get("mdts", 7)
        most = 4096 << mdts if mdts else 1 << 20
        if vm.MACHINES[self.machine].cpu == "bounce":
            most = min(most, BOUNCE_MOST[self.sgl])
        return min(most, 1 << 20)

    def checks(self, driver, after=False):
        return [each for each in CHECKS if each.needs(self, driver)
                and each.after == after]

    def run(self, kernel):
        """{what: "" or how it failed}"""
        found = {}
        with tempfile.TemporaryDirectory() as directory:
            sizes = SIZES if self.flavour == "base" else SMALL
            disks = [spaces(pathlib.Path(directory), sizes, *row)
                     for row in (("a", 512), ("b", 4096))]
            machine = vm.MACHINES[self.machine]
            append = "dma_phys.debug=1"
            if not self.sgl:
                append += "".join(f" {name}.sgl=0" for _, name in self.drivers)
            guest = vm.VM(
                kernel, machine, append=append, name=f"block-{self}",
                devices=vm.nvme(machine, disks, **OPTIONS[self.machine]),
                qmp=True, programs=True, trace=EVENTS)
            with step(found, "boot"), guest:
                self._all(guest, disks, found)
            with step(found, "image"):
                for disk, *_ in disks:
                    assert disk.differs() is None, \
                        f"{disk.serial} differs at byte {disk.differs()}"
            with step(found, "log"):
                assert guest.reports() == [], guest.where()
        return found

    def _all(self, guest, disks, found):
        names = guest.sh("controllers").split()
        assert len(names) == len(disks)
        under_test = Guest(guest, self, [Controller(guest, name, spaces)
                                         for name, spaces in zip(names, disks)])
        under_test.bind("nvme")
        kernel_driver_begins(under_test)
        for language, driver in self.drivers:
            self._one(under_test, language, driver, found)
        with step(found, "last look"):
            guest.sh(f"unbind {names[0]}; unbind {names[1]}")
            assert guest.last_look() == []
            if self.flavour == "debug":
                nothing_left(guest)

    def _one(self, guest, language, driver, found):
        for name, holder, after in (("bind", driver, False),
                                    ("bind kernel's", "nvme", True)):
            with step(found, (language, name)):
                guest.bind(holder)
            for each in self.checks(driver, after):
                with step(found, (language, each.name)):
                    each.run(guest)


def spaces(directory, sizes, name, block_size):
    """The namespaces of a controller, in order."""
    found = []
    for nsid, size in sizes.items():
        kind = oracle.Disk if nsid == BYTES else oracle.Image
        found.append(kind(directory / f"{name}{nsid}", f"disk-{name}",
                          size=size, block_size=block_size))
    return found


def kernel_driver_begins(guest):
    """What the drivers under test will find."""
    for each in guest.both:
        assert each.write([KERNEL_WROTE]) is None
        if guest.boot.deep:
            guest.said[each.pci] = identify(each)
            guest.said[each.pci, "smart"] = smart(each).keys()
    if guest.boot.deep:
        guest.fio(BY_KERNEL + WRITE_ONLY)
        made(guest, THEIRS)


def nothing_left(guest):
    """The kernel has watched all maps: they are undone, each once."""
    assert guest.sh("cat $DEBUG/dma_phys/enable") == "1"
    counters = dict(line.rsplit(" ", 1) for line in
                    guest.sh("cat $DEBUG/dma_phys/counters").splitlines())
    assert int(counters["unmaps"]) > 0
    assert [counters[name] for name in ("live", "left", "refused")] == ["0"] * 3
    guest.sh("echo 0 >$DEBUG/dma_phys/enable")
    assert guest.sh("cat $DEBUG/dma_phys/enable") == "0"


# --- the tests --------------------------------------------------------------

# The kernel that reports is ten times as slow. It runs the whole list on one
# machine; some wait for a long run.
DEEP = ["intel-strict"]
LONG = ["intel-lazy", "amd", "virtio-iommu"]
BOOTS = [Boot("base", "direct", (("kernel", "nvme"),))] \
    + [Boot("base", route) for route in OPTIONS] \
    + [Boot("debug", route, odd=bool(number % 2), deep=route in DEEP,
            long=route in LONG)
       for number, route in enumerate(OPTIONS)]


@pytest.mark.parametrize("boot,language,name", [
    pytest.param(boot, language, name, id=f"{boot}-{language}-{name}")
    for boot in BOOTS for language, driver in boot.drivers
    for name in ["bind", *(each.name for each in boot.checks(driver)),
                 "bind kernel's",
                 *(each.name for each in boot.checks(driver, after=True))]])
def test_driver(booted, boot, language, name):
    outcome(booted(boot), (language, name))


@pytest.mark.parametrize("what", ["boot", "last look", "image", "log"])
@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_machine(booted, boot, what):
    outcome(booted(boot), what)

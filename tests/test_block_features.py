# SPDX-License-Identifier: GPL-2.0
"""Metadata, I/O commands of programs, and polled queues of both block drivers.

A boot has a controller with a namespace for each format of metadata. Data and metadata
are compared with the images outside the machine, where protection information is
computed without the kernel. Each driver is tested with SGLs and with PRP entries. A
second kind of boot has a controller that loses commands.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import struct
import tempfile
import time

import pytest

import nbd
from block_guest import (EVENTS, TIMEOUT, VECTORS, VERIFY, WRITE, Controller, Guest,
                         Job, check_moved, check_odd_vectors, check_step, step,
                         vectors, write_program)
from harness import oracle, vm
from protection import Disk, Format, crc16, crc64

# The namespaces, in the order of their ids.
FORMATS = [
    Format("plain"),
    Format("plain-4k", 4096),
    Format("opaque", ms=8),
    Format("type-1", ms=8, pi=1),
    Format("type-2", ms=8, pi=2),
    Format("type-3", ms=8, pi=3),
    # Reference tags that are not numbers of sectors.
    Format("type-1-4k", 4096, ms=8, pi=1),
    Format("first", ms=16, pi=1, pil=1),
    Format("last", ms=16, pi=1),
    Format("crc64", 4096, ms=16, pi=1, pif=2),
    Format("extended", ms=8, mset=1, pi=1),
    Format("refused", ms=16, mset=1),
]

# The integrity profiles: format, bytes of tags. Others have none.
PROFILES = {
    "opaque": ("nop", "0"),
    "type-1": ("T10-DIF-TYPE1-CRC", "2"),
    "type-2": ("T10-DIF-TYPE1-CRC", "2"),
    "type-3": ("T10-DIF-TYPE3-CRC", "6"),
    "type-1-4k": ("T10-DIF-TYPE1-CRC", "2"),
    "first": ("T10-DIF-TYPE1-CRC", "2"),
    "last": ("T10-DIF-TYPE1-CRC", "2"),
    "crc64": ("EXT-DIF-TYPE1-CRC64", "2"),
}

SIZE, PLAIN_SIZE = 8 << 20, 32 << 20
# The end of each disk is for fio.
FIO_BYTES = 512 << 10

# The module parameter poll_queues: one for each processor.
POLL_QUEUES = 2
# Maximum seconds of an unbind while the controller does not complete a command.
UNBIND_SECONDS = 20

# passthru <disk> <calls>: execute each call of a JSON list. A call is an object:
# "ioctl", and the fields of its structure. "length" bytes of memory at "start" are the
# data, unless there is another address. They are random, or "data" in hex, or with
# "keep" those of the call before. With "mode" "r" the disk is not open for writing;
# "uid" is the user. Prints a list. It has for each call the result or the name of an
# errno, the SHA-256 of the data, and whether the bytes around it are unchanged.
PASSTHRU = """
import ctypes, errno, fcntl, hashlib, json, mmap, os, struct, sys
NUMBERS = {"io": 0xc0484e43, "io64": 0xc0504e48, "submit": 0x40304e42}
disks = {"r": os.open(sys.argv[1], os.O_RDONLY), "w": os.open(sys.argv[1], os.O_RDWR)}
mapped = mmap.mmap(-1, 1 << 20)
memory = memoryview(mapped)
base = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
text = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p).value & ~4095
places = {"unmapped": 4096, "kernel": 0xffff888000000000, "read-only": text}

def structure(call, addr):
    get = lambda *names: [call.get(name, 0) for name in names]
    if call["ioctl"] == "submit":
        return struct.pack("<BBHHHQQQIIHH4x", *get("opcode", "flags", "control",
            "nblocks"), 0, *get("metadata"), addr, *get("slba"), 0, 0, 0, 0)
    words = struct.pack("<BBHIIIQQII6III", *get("opcode", "flags"), 0,
        *get("nsid", "cdw2", "cdw3", "metadata"), addr, *get("metadata_len",
        "data_len", "cdw10", "cdw11", "cdw12", "cdw13", "cdw14", "cdw15",
        "timeout_ms"), 0xbad)
    return words if call["ioctl"] == "io" else words + struct.pack("<Q", 0xbad)

def execute(call):
    start = call.get("start", 0)
    end = start + call.get("length", 0)
    if not call.get("keep"):
        memory[:] = os.urandom(len(memory))
    if "data" in call:
        memory[start:end] = bytes.fromhex(call["data"])
    before = bytes(memory[:start]), bytes(memory[end:])
    addr = places[call["place"]] if "place" in call else base + start
    argument = bytearray(structure(call, addr))
    os.seteuid(call.get("uid", 0))
    try:
        result = fcntl.ioctl(disks[call.get("mode", "w")], NUMBERS[call["ioctl"]],
                             1 if call.get("bad") else argument)
    except OSError as error:
        result = errno.errorcode[error.errno]
    os.seteuid(0)
    digest = hashlib.sha256(memory[start:end]).hexdigest()
    return result, digest, (bytes(memory[:start]), bytes(memory[end:])) == before

print(json.dumps([execute(call) for call in json.loads(sys.argv[2])]))
"""

FLUSH, WRITE_BLOCKS, READ, WRITE_UNCORRECTABLE, COMPARE = 0, 1, 2, 4, 5
WRITE_ZEROES, DSM, VERIFY_BLOCKS = 8, 9, 0xc
DEALLOCATE = 4
# Commands that are not passed through: Reservation Register, Copy, Zone Append, and
# one of a vendor.
OTHER_OPCODES = (0x0d, 0x19, 0x7d, 0x80)
# Status codes of NVMe, without the bits above them.
STATUS = 0x7ff
INVALID_OPCODE, ABORTED, BEYOND_END, COMPARE_FAILED = 0x001, 0x007, 0x080, 0x285


def command(opcode, length=0, ioctl="io64", nsid=1, **fields):
    """A call of the program."""
    return {"ioctl": ioctl, "opcode": opcode, "nsid": nsid, "length": length,
            "data_len": length, **fields}


def transfer(opcode, disk, offset, length, ioctl="io64", **fields):
    """A call that reads, writes or compares blocks, or has no data for them."""
    lba, count = offset // disk.block_size, length // disk.block_size
    if ioctl == "submit":
        return {"ioctl": ioctl, "opcode": opcode, "length": length,
                "nblocks": count - 1, "slba": lba, **fields}
    if opcode not in (READ, WRITE_BLOCKS, COMPARE):
        length = 0
    return command(opcode, length, ioctl, cdw10=lba, cdw12=count - 1, **fields)


def profile(guest, device):
    """The attributes of integrity of a disk: {name: value}"""
    lines = guest.sh(f"cd /sys/block/{pathlib.Path(device).name}/integrity && "
                     "grep . *").splitlines()
    return dict(line.split(":", 1) for line in lines)


class Machine(Guest):
    """A guest with one controller, bound to a driver."""

    def __init__(self, guest, boot, driver, disks):
        super().__init__(guest, driver)
        self.boot = boot
        self.pci, = guest.sh("controllers").split()
        # {namespace id: image}, without those that have no disk.
        self.disks = {nsid: disk for nsid, disk in enumerate(disks, 1)
                      if disk.format.has_disk}
        # Those with metadata, and those without.
        self.protected = {nsid: disk for nsid, disk in self.disks.items()
                          if disk.format.ms}
        self.plain = {nsid: disk for nsid, disk in self.disks.items()
                      if not disk.format.ms}
        self.sgl = True

    def named(self, *names):
        """The (namespace id, image) of these formats."""
        return [(nsid, disk) for nsid, disk in self.disks.items()
                if disk.serial in names]

    def device(self, nsid=1):
        return self.vm.sh(f"disk {self.pci} {nsid}")

    def attribute(self, name, nsid=1):
        return self.vm.sh(f"cat /sys/block/{pathlib.Path(self.device(nsid)).name}/"
                          f"{name}")

    def max_transfer(self):
        return int(self.attribute("queue/max_hw_sectors_kb")) << 10

    def bind(self):
        """Load the driver, unless it is built in, and bind it."""
        sgl = "" if self.sgl else " sgl=0"
        self.vm.sh(f"load {self.driver} poll_queues={POLL_QUEUES}{sgl} && "
                   f"bind {self.driver} {self.pci}")
        self.device()

    def unbind(self):
        self.vm.sh(f"unbind {self.pci}", TIMEOUT)

    def start(self, nsid, options):
        return Job(self, self.device(nsid), options)

    def start_busy(self, options):
        """Start a fio on the first disk, and wait until it does I/O."""
        job = self.start(1, options)
        self.vm.sh(f"wait_busy {self.device()} 20")
        return job

    def fio(self, nsid, options):
        """Run fio on the end of a disk, and expect the data that it leaves there."""
        disk = self.disks[nsid]
        start = disk.size - FIO_BYTES
        job = self.start(nsid, f"{options} --offset={start} --size={FIO_BYTES}")
        result = job.result()
        assert result.ok, result
        disk.expect(start, disk.read(start, FIO_BYTES))
        return result

    @contextlib.contextmanager
    def no_error(self):
        """No command fails during the block."""
        self.clear_logs()
        yield
        errors = [event for event in self.vm.read_trace()
                  if event[0].startswith(("pci_nvme_err_", "pci_nvme_ub_"))]
        assert errors == []

    def move(self, nsid, *moves):
        """Move (verb, offset, length) with memory that has a single range: lines."""
        words = " ".join(vectors(verb, offset, [(0, length)])
                         for verb, offset, length in moves)
        return self.vm.sh(f"python3 /tmp/vectors.py {self.device(nsid)} {words}"
                          ).splitlines()

    def check_moves(self, nsid, *moves):
        lines = self.move(nsid, *moves)
        assert len(lines) == len(moves), lines
        for each, line in zip(moves, lines):
            check_moved(self.disks[nsid], *each, line)

    def call(self, nsid, calls):
        """Execute calls: a list of (result, SHA-256, whether the rest is unchanged)."""
        results = []
        while calls:
            count = next(number for number in range(len(calls), 0, -1)
                         if len(json.dumps(calls[:number])) < 3500)
            out = self.vm.sh(f"python3 /tmp/passthru.py {self.device(nsid)} "
                             f"'{json.dumps(calls[:count])}'")
            results += json.loads(out)
            calls = calls[count:]
        return results


FUNCTIONS = []


def check(function):
    """Add a function to the list."""
    FUNCTIONS.append(function)
    return function


# --- disks ----------------------------------------------------------------------

@check
def profiles_are_those_of_the_kernel_driver(m):
    for nsid, disk in m.disks.items():
        found = profile(m.vm, m.device(nsid))
        assert found == m.boot.profiles[nsid], disk.serial
        assert (found["format"], found["tag_size"]) == PROFILES.get(
            disk.serial, ("none", "0"))


@check
def other_metadata_has_no_disk(m):
    """One line of the log reports the reason."""
    for nsid, format_ in enumerate(FORMATS, 1):
        lines = [line for line in m.vm.console().splitlines()
                 if re.search(rf"\] {m.driver} {m.pci}: namespace {nsid}\b.*blocks "
                              rf"of 2\^\d+ bytes.* {format_.ms} of metadata", line)]
        # The driver is bound more than once.
        assert len({line.split("] ")[1] for line in lines}) == \
            (not format_.has_disk)
        if not format_.has_disk:
            assert m.vm.try_sh(f"disk_now {m.pci} {nsid}").code


@check
def small_cmb_has_no_pages(m):
    """A CMB of 1 MiB is less than a unit of hotplug. The kernel does not warn."""
    assert re.search(rf"\] {m.driver} {m.pci}: no pages for the CMB", m.vm.console())
    m.vm.sh(f"[ ! -e $PCI/devices/{m.pci}/p2pmem ]")


# --- metadata -------------------------------------------------------------------

@check
def data_and_metadata_are_right(m):
    """Reads are verified, and writes have the metadata that was computed here."""
    for nsid, disk in m.protected.items():
        block = disk.block_size
        lengths = [block, 4096, 20480, 131072]
        with m.no_error():
            m.check_moves(nsid, *(("read", offset, length) for length in lengths
                                  for offset in (0, 3 * 4096 + block)))
            m.check_moves(nsid, *(("write", disk.allocate(length), length)
                                  for length in lengths))
        assert disk.first_difference() is None, disk.serial


@check
def large_transfers_are_right(m):
    """They are split into several requests."""
    for nsid, disk in m.protected.items():
        length, offset = 1 << 19, disk.allocate(1 << 19)
        with m.no_error():
            read = m.vm.sh(f"read_ranges {m.device(nsid)} 0 {length}")
            written = m.vm.sh(
                f"write_ranges_direct {m.device(nsid)} {offset} {length}")
        assert read == oracle.sha256(disk.expected_data(0, length))
        assert written == oracle.sha256(disk.read(offset, length))
        disk.expect(offset, disk.read(offset, length))
        m.check_moves(nsid, ("read", offset + length - 65536, 65536))
        assert disk.first_difference() is None, disk.serial


@check
def odd_vectors_are_right_or_invalid(m):
    for nsid, disk in m.protected.items():
        with m.no_error():
            check_odd_vectors(m.vm, m.device(nsid), disk, m.sgl)


@check
def fio_verifies(m):
    for nsid, disk in m.named("type-1", "first", "crc64", "extended"):
        with m.no_error():
            result = m.fio(nsid, "--rw=randwrite --bsrange=4k-64k --iodepth=16 "
                                 f"--ioengine=libaio {VERIFY}")
        assert result.written == FIO_BYTES
        assert disk.first_difference() is None, disk.serial


@check
def merged_requests_are_right(m):
    """Each bio of a merged request has metadata in another place."""
    for nsid, disk in m.named("type-1", "last", "crc64"):
        merges = int(m.attribute("stat", nsid).split()[5])
        with m.no_error():
            result = m.fio(nsid, "--rw=write --bs=4k --iodepth=16 --ioengine=libaio "
                                 "--iodepth_batch_submit=16 --iomem_align=4k "
                                 f"--iodepth_batch_complete_min=16 {VERIFY}")
        assert result.written == FIO_BYTES
        if m.sgl:
            assert int(m.attribute("stat", nsid).split()[5]) > merges, disk.serial
        assert disk.first_difference() is None, disk.serial


@check
def controller_inserts_and_strips_all_of_it(m):
    """If the block layer neither generates nor verifies it (PRACT)."""
    for nsid, disk in m.protected.items():
        if disk.format.has_profile and disk.format.is_only_pi:
            offset = disk.allocate(65536)
            with m.no_error(), attributes(m, nsid, write_generate=0, read_verify=0):
                m.check_moves(nsid, ("write", offset, 65536), ("read", offset, 65536))
            m.check_moves(nsid, ("read", offset, 65536))
            if disk.format.pi == 3:
                disk.expect_without_reference(offset, 65536)
            assert disk.first_difference() is None, disk.serial


@contextlib.contextmanager
def attributes(m, nsid, **values):
    """Attributes of integrity have these values during the block, and 1 afterwards."""
    directory = f"/sys/block/{pathlib.Path(m.device(nsid)).name}/integrity"
    for name, value in values.items():
        m.vm.sh(f"echo {value} >{directory}/{name}")
    try:
        yield
    finally:
        for name in values:
            m.vm.sh(f"echo 1 >{directory}/{name}")


@check
def write_without_protection_cannot_be_read(m):
    """Zeroes are no protection information: only the check of a read finds that."""
    for nsid, disk in m.protected.items():
        if disk.format.pi and disk.format.has_profile and not disk.format.is_only_pi:
            offset = disk.allocate(4096)
            with attributes(m, nsid, write_generate=0):
                m.check_moves(nsid, ("write", offset, 4096))
            # The block layer sets the reference tag of the first block.
            size = disk.block_size
            assert not any(disk.read_metadata(offset + size, 4096 - size))
            assert m.move(nsid, ("read", offset, 4096)) == ["EILSEQ"]
            with attributes(m, nsid, read_verify=0):
                m.check_moves(nsid, ("read", offset, 4096))
            m.check_moves(nsid, ("write", offset, 4096), ("read", offset, 4096))
            assert disk.first_difference() is None, disk.serial


@contextlib.contextmanager
def corrupted(disk, offset):
    """A byte of the image is changed during the block."""
    good = disk.read(offset, 1)
    write_image(disk, offset, bytes([good[0] ^ 0x10]))
    try:
        yield
    finally:
        write_image(disk, offset, good)


def write_image(disk, offset, data):
    with disk.path.open("r+b") as image:
        image.seek(offset)
        image.write(data)


def places(disk, lba):
    """{what: the offset in the image of a byte of it}, for a block."""
    start = disk.size + lba * disk.format.ms + disk.format.tuple_offset
    return {"guard": start + 1, "reference": start + disk.format.tuple_bytes - 1,
            "data": lba * disk.block_size + 7}


@check
def corruption_is_detected(m):
    """The read fails with EILSEQ. Type 3 has no reference tag to check.

    Only disks whose controller or block layer checks: with PRACT alone none does.
    """
    for nsid, disk in m.protected.items():
        if not (disk.format.pi and disk.format.has_profile):
            continue
        for what, place in places(disk, 5).items():
            is_checked = what != "reference" or disk.format.pi != 3
            moves = [("read", 5 * disk.block_size, disk.block_size),
                     ("read", 0, 65536)]
            with corrupted(disk, place):
                if is_checked:
                    lines = m.move(nsid, *moves)
                    assert lines == ["EILSEQ"] * 2, (disk.serial, what)
                else:
                    m.check_moves(nsid, *moves)
                # Other blocks are right.
                m.check_moves(nsid, ("read", 6 * disk.block_size, 4096))
            m.check_moves(nsid, *moves)
        assert disk.first_difference() is None, disk.serial


@check
def discarded_and_zeroed_blocks_are_zeroes(m):
    """Their metadata is what QEMU makes of it.

    Zeroed blocks have valid metadata only if the controller can insert it. QEMU
    inserts a guard of 0, which is wrong if it has 64 bits.
    """
    for nsid, disk in m.disks.items():
        options = ["-f"]
        if not disk.format.pi or disk.format.is_only_pi and not disk.format.pif:
            options += ["-z"]
        for option in options:
            offset, length = disk.allocate(65536 + 8192) + 4096, 65536
            m.vm.sh(f"/usr/sbin/blkdiscard {option} -o {offset} -l {length} "
                    f"{m.device(nsid)}")
            disk.expect(offset, bytes(length))
            disk.expect_metadata(offset, length, disk.read_metadata(offset, length))
            m.check_moves(nsid, ("read", offset, length))
            # They are written like others.
            m.check_moves(nsid, ("write", offset, 8192), ("read", offset, length))
        assert disk.first_difference() is None, disk.serial


# --- I/O commands of programs ---------------------------------------------------

@check
def programs_transfer_blocks(m):
    """With each ioctl, to aligned and unaligned memory, up to the maximum length."""
    for nsid, disk in m.plain.items():
        calls = []
        for ioctl in ("io", "io64", "submit"):
            for start in (0, 4, 1, 4093):
                lengths = [disk.block_size, 65536, 20480]
                if not start:
                    lengths.append(m.max_transfer())
                for length in lengths:
                    calls += [
                        (offset, transfer(opcode, disk, offset, length, ioctl,
                                          start=start, nsid=nsid))
                        for opcode, offset in ((READ, disk.block_size),
                                               (WRITE_BLOCKS, disk.allocate(length)))]
        with m.no_error():
            results = m.call(nsid, [call for _, call in calls])
        for (offset, call), (result, digest, is_unchanged) in zip(calls, results):
            assert (result, is_unchanged) == (0, True), call
            if call["opcode"] == WRITE_BLOCKS:
                disk.expect(offset, disk.read(offset, call["length"]))
            assert digest == oracle.sha256(
                disk.expected_data(offset, call["length"])), call
        assert disk.first_difference() is None, disk.serial


@check
def programs_compare_blocks(m):
    """A comparison that fails returns the status of the controller."""
    disk = m.plain[1]
    start = {"start": 4}
    read, same = (transfer(opcode, disk, 0, 4096, **start)
                  for opcode in (READ, COMPARE))
    results = m.call(1, [read, same | {"keep": 1}, same, same | {"mode": "r"}])
    assert [result & STATUS for result, *_ in results] == \
        [0, 0, COMPARE_FAILED, COMPARE_FAILED]
    assert all(is_unchanged for *_, is_unchanged in results)


@check
def programs_change_blocks(m):
    """Write Zeroes, a discard and a flush, which has no effect that can be seen."""
    for nsid, disk in m.plain.items():
        zeroed, discarded = (disk.allocate(16384) for _ in range(2))
        ranges = struct.pack("<IIQ", 0, 16384 // disk.block_size,
                             discarded // disk.block_size)
        with m.no_error():
            results = m.call(nsid, [
                transfer(WRITE_ZEROES, disk, zeroed, 16384, nsid=nsid),
                command(DSM, len(ranges), nsid=nsid, cdw11=DEALLOCATE,
                        data=ranges.hex()),
                command(FLUSH, nsid=nsid),
                transfer(VERIFY_BLOCKS, disk, 0, 4096, nsid=nsid)])
        assert [result for result, *_ in results] == [0] * 4
        for offset in (zeroed, discarded):
            disk.expect(offset, bytes(16384))
        assert disk.first_difference() is None, disk.serial


@check
def programs_get_the_status(m):
    """Of commands that the controller refuses."""
    disk = m.plain[1]
    results = m.call(1, [transfer(READ, disk, disk.size, 4096),
                         transfer(WRITE_UNCORRECTABLE, disk, 0, 512)])
    assert [result & STATUS for result, *_ in results] == [BEYOND_END, INVALID_OPCODE]
    assert disk.first_difference() is None


def refusals(m):
    """Calls, and the error of each."""
    disk = m.plain[1]
    read = transfer(READ, disk, 0, 4096)
    writes = [transfer(opcode, disk, 0, 4096)
              for opcode in (WRITE_BLOCKS, WRITE_ZEROES, WRITE_UNCORRECTABLE)]
    writes += [command(DSM, 16, cdw11=DEALLOCATE, data=bytes(16).hex()),
               transfer(WRITE_BLOCKS, disk, 0, 4096, "submit")]
    fields = [{"data_len": 0}, {"data_len": 4092}, {"data_len": 4608},
              {"data_len": 0xffffffff}, {"cdw12": 8}, {"nsid": 0}, {"nsid": 2},
              {"nsid": 0xffffffff}, {"flags": 1}, {"flags": 0x40}, {"cdw2": 1},
              {"cdw3": 1}, {"metadata": 4096}, {"metadata_len": 8}]
    yield from ((read | each, "EINVAL") for each in fields)
    yield from ((read | {"ioctl": "io"} | each, "EINVAL") for each in fields[:6])
    yield command(FLUSH) | {"data_len": 4}, "EINVAL"
    yield command(DSM, 32, cdw10=0), "EINVAL"
    yield transfer(READ, disk, 0, m.max_transfer() + 512), "EINVAL"
    for opcode in (DSM, FLUSH, 0x80):
        yield transfer(opcode, disk, 0, 4096, "submit"), "EINVAL"
    for field in ("flags", "metadata"):
        yield transfer(READ, disk, 0, 4096, "submit", **{field: 1}), "EINVAL"
    yield from ((command(opcode, 4096), "EPERM") for opcode in OTHER_OPCODES)
    yield from ((call | {"uid": 1000}, "EACCES") for call in [read, *writes])
    yield from ((read | {"place": place}, "EFAULT")
                for place in ("unmapped", "kernel", "read-only"))
    yield from ((read | {"ioctl": ioctl, "bad": 1}, "EFAULT")
                for ioctl in ("io", "io64", "submit"))


@check
def wrong_commands_of_programs_are_refused(m):
    """None reaches the controller."""
    calls, errors = zip(*refusals(m))
    m.clear_logs()
    results = m.call(1, list(calls))
    for call, wanted, (result, _, is_unchanged) in zip(calls, errors, results):
        assert (result, is_unchanged) == (wanted, True), call
    assert m.events("pci_nvme_io_cmd") == []
    assert m.plain[1].first_difference() is None


@check
def programs_do_not_transfer_metadata(m):
    for nsid, disk in m.protected.items():
        calls = [transfer(opcode, disk, 0, 4096, nsid=nsid)
                 for opcode in (READ, WRITE_BLOCKS, COMPARE)]
        results = m.call(nsid, [*calls, command(FLUSH, nsid=nsid)])
        assert [result for result, *_ in results] == ["EINVAL"] * 3 + [0]
        assert disk.first_difference() is None, disk.serial


@check
def nvme_cli_transfers_blocks(m):
    """It does not open disks for writing."""
    device, blocks = m.device(), "-s 0 -c 15 -z 8192 -d /tmp/blocks"
    m.vm.sh(f"nvme read {device} {blocks} && nvme compare {device} {blocks} && "
            f"nvme flush {device} -n 1")
    assert m.vm.sh("sha256sum </tmp/blocks").split()[0] == \
        oracle.sha256(m.plain[1].expected_data(0, 8192))
    disk = m.plain[1]
    offset = disk.allocate(8192)
    m.vm.sh(f"nvme write {device} -s {offset // disk.block_size} -c 15 -z 8192 "
            "-d /tmp/blocks")
    disk.expect(offset, disk.expected_data(0, 8192))
    assert disk.first_difference() is None


# --- polled queues --------------------------------------------------------------

POLLED = "--ioengine=io_uring --hipri=1 --iodepth=16 --bsrange=4k-64k"


def interrupts(m):
    """The number of interrupts of each I/O queue of the controller: {name: count}"""
    number = re.search(r"nvme(\d+)n\d+$", m.device())[1]
    counts = {}
    for line in m.vm.sh("cat /proc/interrupts").splitlines():
        words = line.split()
        if re.fullmatch(rf"{m.driver}{number}q[1-9]\d*", words[-1]):
            counts[words[-1]] = sum(int(word) for word in words[1:]
                                    if word.isdecimal())
    return counts


@check
def disk_has_polled_queues(m):
    """In addition to those with an interrupt: one for each processor."""
    name = pathlib.Path(m.device()).name
    assert len(m.vm.sh(f"ls /sys/block/{name}/mq").split()) == 2 + POLL_QUEUES
    assert m.attribute("queue/io_poll") == "1"
    assert len(interrupts(m)) == 2


@check
def polled_requests_need_no_interrupt(m):
    for nsid, disk in m.named("plain", "type-1"):
        before = interrupts(m)
        for options in (POLLED, POLLED + " --fixedbufs=1 --registerfiles=1"):
            with m.no_error():
                result = m.fio(nsid, f"{options} --rw=randwrite {VERIFY}")
            assert result.read >= result.written == FIO_BYTES
        assert interrupts(m) == before
        assert disk.first_difference() is None
    # Others do.
    m.fio(1, f"{POLLED.replace('--hipri=1', '')} --rw=randread --bs=4k")
    assert sum(interrupts(m).values()) > sum(before.values())


@check
def polled_requests_survive_a_reset(m):
    job = m.start_busy(f"{POLLED} --rw=randread --size=1M --io_size=32M")
    for _ in range(3):
        m.vm.sh(f"echo 1 >$PCI/devices/{m.pci}/reset; usleep 100000", TIMEOUT)
    result = job.result()
    assert result.ok and result.read >= 32 << 20, result
    m.check_moves(1, ("read", 0, 65536))


@check
def polled_requests_end_with_an_unbind(m):
    """If a request of the program were left, the program could not be killed."""
    job = m.start_busy(f"{POLLED} --rw=randread --size=1M --time_based --runtime=600")
    m.unbind()
    m.vm.sh(f"killall -KILL fio; wait_job {job.name} {TIMEOUT} || [ $? != 124 ]",
            2 * TIMEOUT)
    m.bind()
    m.check_moves(1, ("read", 0, 65536))


# --- a controller that loses commands -------------------------------------------

# Registers of PCI configuration space, and the offset of the doorbells in BAR 0.
BAR0, BAR2 = 16, 24
DOORBELLS = 4096

# The second namespace, whose disk the kernel's driver does not refuse.
LARGE = Format("large", ms=256)

LOSSES = []


class LossyMachine(Guest):
    """A guest whose controller loses commands, or replies late."""

    def __init__(self, guest, driver, server):
        super().__init__(guest, driver)
        self.server = server
        pci, = guest.sh("controllers").split()
        sink, = guest.sh("find_pci 0x1af4 0x1110").split()
        self.a = Controller(self, "nvme0", pci, [server.image])
        self.sink = Controller(self, "sink", sink, [])

    def bind(self):
        self.vm.sh(f"load {self.driver} admin_timeout=60")
        self.a.bind()

    @contextlib.contextmanager
    def without_doorbells(self):
        """During the block, memory of another device covers the doorbells."""
        before = self.sink.config(BAR2, 4)
        address = (self.a.config(BAR0, 4) & ~15) + DOORBELLS
        self.sink.set_config(BAR2, address | before & 15, 4)
        try:
            yield
        finally:
            self.sink.set_config(BAR2, before, 4)

    def start_read(self, job, timeout_ms=0):
        """Start a program that reads a block."""
        call = transfer(READ, self.server.image, 0, 4096, timeout_ms=timeout_ms)
        self.vm.sh(f"echo '{json.dumps([call])}' >/tmp/{job}.json; start_job {job} "
                   f"'python3 /tmp/passthru.py {self.a.device()} "
                   f"\"$(cat /tmp/{job}.json)\"'")

    def result(self, job):
        """The result of the program."""
        end = self.vm.try_sh(f"wait_job {job} {TIMEOUT}", 2 * TIMEOUT)
        assert end.code == 0, end.out
        (result, _, _), = json.loads(end.out)
        return result

    def unbind(self):
        """Unbind. It takes no longer than UNBIND_SECONDS."""
        start = time.monotonic()
        self.a.unbind()
        assert time.monotonic() - start < UNBIND_SECONDS

    def check_works(self):
        assert self.a.fio(f"{WRITE} --size=2M").ok


def loss(function):
    """Add a function to the list."""
    LOSSES.append(function)
    return function


@loss
def large_metadata_has_no_disk(m):
    """The block layer describes up to 255 bytes of it."""
    pattern = rf"\] {m.driver} {m.a.pci}: namespace 2\b.* {LARGE.ms} of metadata"
    assert re.search(pattern, m.vm.console())
    assert m.vm.try_sh(f"disk_now {m.a.pci} 2").code


@loss
def time_limit_of_a_program_is_kept(m):
    """The command is aborted, long before the time limit of the disk."""
    m.a.set_timeout(30000)
    m.clear_logs()
    m.server.hold()
    m.start_read("read", timeout_ms=2000)
    start = time.monotonic()
    m.wait_event("pci_nvme_admin_cmd", "ABORT")
    assert time.monotonic() - start < 15
    m.server.release()
    assert m.result("read") & STATUS in (0, ABORTED)
    m.check_works()


@loss
def lost_command_of_a_program_fails(m):
    """The command is aborted, then the controller is reset."""
    m.clear_logs()
    with m.without_doorbells():
        m.start_read("read", timeout_ms=2000)
        m.wait_log("aborting")
    m.wait_log("reset done")
    assert m.result("read") == "EIO"
    m.check_works()


@loss
def unbind_ends_the_command_of_a_program(m):
    m.a.set_timeout(1000)
    m.clear_logs()
    with m.without_doorbells():
        m.start_read("read")
        m.wait_log("aborting")
    m.unbind()
    assert m.result("read") in (0, "EIO", "ENODEV")
    m.bind()
    m.check_works()


@loss
def unbind_ends_the_admin_command_of_a_program(m):
    """It neither waits for the command, nor resets the controller for it."""
    identify = (f"nvme admin-passthru {m.a.device()} --opcode=6 --cdw10=1 "
                "--data-len=4096 --read --timeout=60000")
    m.clear_logs()
    with m.without_doorbells():
        m.vm.sh(f"start_job admin '{identify}'; sleep 1; "
                # Another program waits for it, and can be killed.
                f"start_job other 'timeout -s TERM 1 {identify}'")
        other = m.vm.try_sh("wait_job other 10", TIMEOUT)
        assert "does not end" not in other.out
    m.unbind()
    end = m.vm.try_sh(f"wait_job admin {UNBIND_SECONDS}", TIMEOUT)
    assert "does not end" not in end.out
    assert "resetting" not in m.log()
    m.bind()
    m.check_works()


# --- boots ----------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boot:
    """A kernel on a machine, with both drivers one after the other."""

    flavour: str
    name: str
    long: bool = False
    # Of the kernel's driver: {namespace id: attributes of integrity}
    profiles: dict = dataclasses.field(default_factory=dict, compare=False)
    machine_steps = ("boot", "final check", "images", "log")

    def __str__(self):
        return f"{self.flavour}-{self.name}"

    @property
    def modes(self):
        """How data is described. Drivers that are built in are loaded once."""
        return ("sgl", "prp") if self.flavour == "base" else ("sgl",)

    @property
    def steps(self):
        return ["bind", *(function.__name__ for function in FUNCTIONS), "unbind"]

    def run(self, kernel):
        """{step: "" or how it failed}"""
        results = {}
        machine = vm.MACHINES[self.name]
        with tempfile.TemporaryDirectory() as directory:
            disks = [Disk(pathlib.Path(directory, format_.name), format_,
                          SIZE if format_.ms else PLAIN_SIZE) for format_ in FORMATS]
            append = " ".join(f"{driver}.poll_queues={POLL_QUEUES}"
                              for driver in vm.DRIVERS.values())
            guest = vm.VM(kernel, machine, programs=True,
                          devices=_controller(machine, disks),
                          append=f"dma_phys.debug=1 {append}",
                          trace=["pci_nvme_io_cmd", "pci_nvme_err_*",
                                 "pci_nvme_ub_*"],
                          name=f"block-features-{self}")
            with step(results, "boot"), guest:
                self._run_all(guest, disks, results)
            with step(results, "images"):
                for disk in disks:
                    assert disk.first_difference() is None, disk.serial
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
        return results

    def _run_all(self, guest, disks, results):
        write_program(guest, "vectors", VECTORS)
        write_program(guest, "passthru", PASSTHRU)
        pci, = guest.sh("controllers").split()
        guest.sh(f"load nvme && bind nvme {pci}")
        for nsid, format_ in enumerate(FORMATS, 1):
            if format_.has_disk:
                self.profiles[nsid] = profile(guest, guest.sh(f"disk {pci} {nsid}"))
        for language, driver in vm.DRIVERS.items():
            m = Machine(guest, self, driver, disks)
            for mode in self.modes:
                m.sgl = mode == "sgl"
                with step(results, (language, mode, "bind")):
                    m.bind()
                for function in FUNCTIONS:
                    name = language, mode, function.__name__
                    guest.sh(f"echo step: {' '.join(name)} >/dev/kmsg")
                    with step(results, name):
                        function(m)
                with step(results, (language, mode, "unbind")):
                    m.unbind()
                    guest.sh(f"rmmod {driver} 2>/dev/null; :")
        with step(results, "final check"):
            assert guest.final_check() == []


def _controller(machine, disks):
    """QEMU arguments: a controller with a small CMB, and its namespaces."""
    args = ["-device", "nvme,id=nvme0,serial=features,cmb_size_mb=1,"
                       f"{machine.slots[0]}"]
    for nsid, disk in enumerate(disks, 1):
        args += ["-drive", f"if=none,id=disk{nsid},format=raw,discard=unmap,"
                           f"file={disk.path}",
                 "-device", f"nvme-ns,drive=disk{nsid},bus=nvme0,nsid={nsid},"
                            f"{disk.format.arguments()}"]
    return args


@dataclasses.dataclass(frozen=True)
class LossyBoot:
    """The same, with a controller that loses commands."""

    flavour: str
    name: str
    long: bool = False
    modes = ("lost",)
    machine_steps = ("boot", "final check", "log")

    def __str__(self):
        return f"{self.flavour}-{self.name}-lost"

    @property
    def steps(self):
        return ["bind", *(function.__name__ for function in LOSSES), "unbind"]

    def run(self, kernel):
        """{step: "" or how it failed}"""
        results = {}
        machine = dataclasses.replace(vm.MACHINES[self.name], memory="1G")
        with tempfile.TemporaryDirectory() as directory:
            image, large = (oracle.Image(pathlib.Path(directory, name), name)
                            for name in ("image", "large"))
            server = nbd.Server(image, pathlib.Path(directory, "nbd"))
            guest = vm.VM(kernel, machine, programs=True, trace=EVENTS,
                          devices=_lossy_controller(machine, server, large),
                          name=f"block-features-{self}")
            with step(results, "boot"), guest:
                self._run_all(guest, server, results)
            server.close()
            with step(results, "log"):
                assert guest.reports() == [], guest.full_log()
        return results

    @staticmethod
    def _run_all(guest, server, results):
        write_program(guest, "passthru", PASSTHRU)
        guest.sh("echo 20 >/proc/sys/kernel/hung_task_timeout_secs")
        for language, driver in vm.DRIVERS.items():
            m = LossyMachine(guest, driver, server)
            with step(results, (language, "lost", "bind")):
                m.bind()
            for function in LOSSES:
                name = language, "lost", function.__name__
                guest.sh(f"echo step: {' '.join(name)} >/dev/kmsg")
                with step(results, name):
                    function(m)
            with step(results, (language, "lost", "unbind")):
                m.unbind()
        with step(results, "final check"):
            assert guest.final_check() == []


def _lossy_controller(machine, server, large):
    """QEMU arguments: a controller with two disks, and memory for its doorbells."""
    return ["-device", f"nvme,id=nvme0,serial=lost,{machine.slots[0]}",
            "-drive", f"if=none,id=disk1,format=raw,{server.drive()}",
            "-device", "nvme-ns,drive=disk1,bus=nvme0,nsid=1",
            "-drive", f"if=none,id=disk2,format=raw,file={large.path}",
            "-device", f"nvme-ns,drive=disk2,bus=nvme0,nsid=2,{LARGE.arguments()}",
            "-object", "memory-backend-ram,id=sink,size=4096,share=on",
            "-device", "ivshmem-plain,memdev=sink,bus=pcie.0,addr=0xb"]


BOOTS = [Boot("base", "bounce"),
         *(Boot("base", machine, long=True) for machine in ("direct", "intel-lazy")),
         Boot("debug", "bounce", long=True),
         LossyBoot("base", "direct")]


# --- the tests ------------------------------------------------------------------

def test_checksums_have_their_check_values():
    assert crc16(b"123456789") == 0xd0db
    assert crc64(b"123456789") == 0xae8b14860a799888


@pytest.mark.parametrize("boot,language,mode,name", [
    pytest.param(boot, language, mode, name, id=f"{boot}-{language}-{mode}-{name}")
    for boot in BOOTS for language in vm.DRIVERS for mode in boot.modes
    for name in boot.steps])
def test_driver(booted, boot, language, mode, name):
    check_step(booted(boot), (language, mode, name))


@pytest.mark.parametrize("boot,name", [
    pytest.param(boot, name, id=f"{boot}-{name}")
    for boot in BOOTS for name in boot.machine_steps])
def test_machine(booted, boot, name):
    check_step(booted(boot), name)

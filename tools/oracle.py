# SPDX-License-Identifier: GPL-2.0
"""What the bytes must be, known outside the guest.

A Disk is an image file and, beside it, the bytes that it must hold. A Driver
gives a sample driver its orders; what it claims is compared with the image,
which the driver cannot reach but through its controller.
"""

import dataclasses
import errno
import os
import pathlib
import random
import re
import struct

MASK = (1 << 64) - 1
# The samples name the error; the guest's shell says it in words.
ERRNO = {os.strerror(number): name for number, name in errno.errorcode.items()}


def fnv1a(data):
    """FNV-1a, 64 bits."""
    value = 0xcbf29ce484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001b3) & MASK
    return value


def pattern(seed, offset, length):
    """What a sample driver writes at a byte offset of its disk."""
    first = seed + offset // 8
    words = ((first + k) * 0x9E3779B97F4A7C15 & MASK
             for k in range(length // 8))
    return struct.pack(f"<{length // 8}Q", *words)


class Disk:
    """An image of random bytes, and what it must hold from now on.

    The first MiB is for reading; writes take(length) a part of their own.
    """

    def __init__(self, path, serial, size=8 << 20, block_size=512, seed=0):
        self._next = 1 << 20
        self.path = pathlib.Path(path)
        self.serial = serial
        self.size = size
        self.block_size = block_size
        self.expected = bytearray(random.Random(f"{serial}{seed}")
                                  .randbytes(size))
        self.path.write_bytes(self.expected)

    @property
    def blocks(self):
        return self.size // self.block_size

    def take(self, length):
        """Where nobody has written yet, aligned to 4 KiB."""
        at = self._next
        self._next += -(-length // 4096) * 4096
        if self._next > self.size:
            raise ValueError("the disk is full")
        return at

    def expect(self, offset, data):
        """From now on the image holds these bytes there."""
        self.expected[offset:offset + len(data)] = data

    def region(self, offset, length):
        """What the image must hold there."""
        return bytes(self.expected[offset:offset + length])

    def holds(self, offset=0, length=None):
        """Does the image hold what it must, there or everywhere?"""
        length = self.size - offset if length is None else length
        with self.path.open("rb") as image:
            image.seek(offset)
            return image.read(length) == self.region(offset, length)

    def differs(self):
        """The first byte at which the image is not as expected, or None."""
        found = self.path.read_bytes()
        if found == self.expected:
            return None
        return next((at for at, (a, b) in enumerate(zip(found, self.expected))
                     if a != b), min(len(found), self.size))


@dataclasses.dataclass(frozen=True)
class Result:
    """How one order ended: an errno's name or "", and what the driver said."""

    error: str
    bytes: int = 0
    checksum: int | None = None
    route: str = ""


class Driver:
    """A sample driver's controller in a guest."""

    def __init__(self, vm, name, pci, disk):
        self.vm = vm
        self.name = name
        self.pci = pci
        self.disk = disk

    def order(self, *words):
        """Give an order, and read what came of it."""
        line = " ".join(str(word) for word in words)
        answer = self.vm.ask(f"order {self.name} {self.pci} '{line}'")
        last = answer.out.splitlines()[-1] if answer.out else ""
        if answer.code:
            return Result(self._error(answer.out, last))
        said = re.fullmatch(r"ok (\d+) ([0-9a-f]{16}|-) (\w+)", last)
        if not said:
            raise ValueError(f"{self.name}: '{line}': {answer.out!r}")
        checksum = None if said[2] == "-" else int(said[2], 16)
        return Result("", int(said[1]), checksum, said[3])

    def _error(self, out, last):
        """The errno of the write, which must be the one that is recorded."""
        words = re.search(r"write error: (.*)", out)
        if not words:
            raise ValueError(f"{self.name}: {out!r}")
        name = ERRNO[words[1]]
        if last != f"error -{getattr(errno, name)}":
            raise ValueError(f"{self.name}: {name} returned, '{last}' recorded")
        return name

    def info(self):
        """The info file, as a dictionary."""
        out = self.vm.sh(f"cat $DEBUG/{self.name}/{self.pci}/info")
        return dict(line.split(None, 1) if " " in line else (line, "")
                    for line in out.splitlines())

    # Orders, with what must come of them outside the guest.

    def read(self, offset, length):
        """Read; true where the checksum is that of the image's bytes."""
        result = self._blocks("read", offset, length)
        return result, self._complete(result, offset, length)

    def write(self, offset, length, seed):
        """Write a pattern; true where the image then holds it."""
        return self._pattern("write", offset, length, seed)

    def verify(self, offset, length, seed):
        """There and back in one mapping; true as for write."""
        return self._pattern("verify", offset, length, seed)

    def peer_read(self, peer, at, offset, length):
        """From this disk into the peer's memory, at a byte of it."""
        return self._blocks("peer-read", offset, length, peer=(peer.pci, at))

    def peer_write(self, peer, at, offset, length, data):
        """From the peer's memory to this disk; true where data got there."""
        result = self._blocks("peer-write", offset, length,
                              peer=(peer.pci, at))
        if not result.error:
            self.disk.expect(offset, data)
        return result, (result.bytes == length
                        and self.disk.holds(offset, length))

    def _pattern(self, verb, offset, length, seed):
        self_check = pattern(seed, offset, length)
        result = self._blocks(verb, offset, length, seed)
        if not result.error:
            self.disk.expect(offset, self_check)
        return result, (self._complete(result, offset, length)
                        and self.disk.holds(offset, length))

    def _complete(self, result, offset, length):
        return (result.bytes == length and
                result.checksum == fnv1a(self.disk.region(offset, length)))

    def _blocks(self, verb, offset, length, *more, peer=()):
        size = self.disk.block_size
        return self.order(verb, *peer, offset // size, length // size, *more)

# SPDX-License-Identifier: GPL-2.0
"""What the bytes must be, known outside the guest.

A Disk is an image file and, beside it, the bytes that it must hold. A Controller
moves bytes between it and a guest, and compares them with the image.
"""

import dataclasses
import hashlib
import pathlib
import random


def sha256(data):
    """As the guest's sha256sum has it."""
    return hashlib.sha256(data).hexdigest()


class Image:
    """An image file for a disk, as long as it claims and full of holes."""

    def __init__(self, path, serial, size=8 << 20, block_size=512):
        self.path = pathlib.Path(path)
        self.serial = serial
        self.size = size
        self.block_size = block_size
        with self.path.open("wb") as image:
            image.truncate(size)

    def read(self, offset, length):
        """What the image holds there."""
        with self.path.open("rb") as image:
            image.seek(offset)
            return image.read(length)


class Disk(Image):
    """An image of random bytes, and what it must hold from now on.

    The first MiB is for reading; writes take(length) a part of their own.
    """

    def __init__(self, path, serial, size=8 << 20, block_size=512, seed=0):
        super().__init__(path, serial, size, block_size)
        self._next = 1 << 20
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
        return self.read(offset, length) == self.region(offset, length)

    def differs(self):
        """The first byte at which the image is not as expected, or None."""
        found = self.path.read_bytes()
        if found == self.expected:
            return None
        return next((at for at, (a, b) in enumerate(zip(found, self.expected))
                     if a != b), min(len(found), self.size))


@dataclasses.dataclass
class Controller:
    """One of a guest's controllers, its disk, and the image behind it.

    What moves bytes returns (routes, good, error): the routes that all maps took
    meanwhile, whether the bytes are those of the image, which no driver reaches
    but through its controller, and "" or what the guest said.
    """

    guest: object
    pci: str
    disk: Disk

    def device(self):
        return self.guest.sh(f"disk {self.pci}")

    def _move(self, words):
        """A command of the guest's that moves bytes: (routes, sum, error)."""
        answer = self.guest.ask(f"traced {words}")
        routes, *said = answer.out.splitlines()
        routes = routes.removeprefix("routes").strip()
        last = said[-1] if said else "nothing said"
        return (routes, "", last) if answer.code else (routes, last, "")

    def _from_disk(self, words, offset, length):
        """True where the guest got the bytes that the image must hold."""
        routes, found, error = self._move(f"{words} {offset} {length}")
        return routes, found == sha256(self.disk.region(offset, length)), error

    def _to_disk(self, words, length):
        """True where the image has what the guest wrote."""
        at = self.disk.take(length)
        routes, written, error = self._move(f"{words} {at} {length}")
        there = self.disk.read(at, length)
        if not error:
            self.disk.expect(at, there)
        return routes, written == sha256(there), error

    def read(self, length):
        return self._from_disk(f"sums {self.device()}", 0, length)

    def write(self, length):
        return self._to_disk(f"scribble_direct {self.device()}", length)

    def peer_read(self, peer, length):
        return self._from_disk(f"peer_io read {self.device()} {peer.pci}", 0,
                               length)

    def peer_write(self, peer, length):
        return self._to_disk(f"peer_io write {self.device()} {peer.pci}",
                             length)

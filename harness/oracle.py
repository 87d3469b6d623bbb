# SPDX-License-Identifier: GPL-2.0
"""The data that a disk must have, known outside the guest.

A Disk is an image file and the data that it must hold. A Controller moves data
between its disk and the memory of a guest, and compares it with the image.
"""

import dataclasses
import hashlib
import pathlib
import random


def sha256(data):
    """The same text as sha256sum prints."""
    return hashlib.sha256(data).hexdigest()


class Image:
    """A sparse image file for a disk."""

    def __init__(self, path, serial, size=8 << 20, block_size=512):
        self.path = pathlib.Path(path)
        self.serial = serial
        self.size = size
        self.block_size = block_size
        with self.path.open("wb") as image:
            image.truncate(size)

    def read(self, offset, length):
        """The data of a range of the image."""
        with self.path.open("rb") as image:
            image.seek(offset)
            return image.read(length)


class Disk(Image):
    """An image of random data, and the data that it must hold.

    Tests read the first MiB. For each write they allocate() a range behind it.
    """

    def __init__(self, path, serial, size=8 << 20, block_size=512, seed=0):
        super().__init__(path, serial, size, block_size)
        self._next = 1 << 20
        self.expected = bytearray(random.Random(f"{serial}{seed}")
                                  .randbytes(size))
        self.path.write_bytes(self.expected)

    def allocate(self, length):
        """The offset of a range that no test has written, aligned to 4 KiB."""
        offset = self._next
        self._next += -(-length // 4096) * 4096
        if self._next > self.size:
            raise ValueError("the disk is full")
        return offset

    def expect(self, offset, data):
        """From now on the image must hold this data at the offset."""
        self.expected[offset:offset + len(data)] = data

    def expected_data(self, offset, length):
        """The data that a range of the image must hold."""
        return bytes(self.expected[offset:offset + length])

    def first_difference(self):
        """The first offset with other data than expected, or None."""
        data = self.path.read_bytes()
        if data == self.expected:
            return None
        return next((offset for offset, (a, b)
                     in enumerate(zip(data, self.expected)) if a != b),
                    min(len(data), self.size))


@dataclasses.dataclass
class Controller:
    """A controller of a guest, its disk, and the image of the disk.

    A transfer returns (routes, is_good, error): the routes of all maps during the
    transfer, whether the data is that of the image, and "" or the error message of
    the guest. A driver reaches the image through its controller only.
    """

    guest: object
    pci: str
    disk: Disk

    def device(self):
        """The name of the block device."""
        return self.guest.sh(f"disk {self.pci}")

    def _transfer(self, command):
        """Run a command of the guest that prints a checksum: (routes, sum, error)"""
        result = self.guest.try_sh(f"trace_routes {command}")
        routes, *output = result.out.splitlines()
        routes = routes.removeprefix("routes").strip()
        last = output[-1] if output else "no output"
        return (routes, "", last) if result.code else (routes, last, "")

    def _from_disk(self, command, offset, length):
        """A transfer with is_good true if the guest got what the image must hold."""
        routes, checksum, error = self._transfer(f"{command} {offset} {length}")
        expected = sha256(self.disk.expected_data(offset, length))
        return routes, checksum == expected, error

    def _to_disk(self, command, length):
        """A transfer with is_good true if the image has what the guest wrote."""
        offset = self.disk.allocate(length)
        routes, checksum, error = self._transfer(f"{command} {offset} {length}")
        data = self.disk.read(offset, length)
        if not error:
            self.disk.expect(offset, data)
        return routes, checksum == sha256(data), error

    def read(self, length):
        return self._from_disk(f"read_ranges {self.device()}", 0, length)

    def write(self, length):
        return self._to_disk(f"write_ranges_direct {self.device()}", length)

    def peer_read(self, peer, length):
        return self._from_disk(f"peer_io read {self.device()} {peer.pci}", 0,
                               length)

    def peer_write(self, peer, length):
        return self._to_disk(f"peer_io write {self.device()} {peer.pci}",
                             length)

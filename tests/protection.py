# SPDX-License-Identifier: GPL-2.0
"""Metadata of blocks and its protection information, computed without the kernel.

In an image, QEMU stores the metadata of all blocks after the data of all blocks.
"""

import dataclasses
import struct

from harness import oracle

# The first bytes of a disk have valid metadata. The metadata of other blocks has
# application tags that disable all checks, until the blocks are written.
VALID_BYTES = 1 << 20

MASK64 = (1 << 64) - 1


def _table16():
    table = []
    for crc in range(0, 1 << 16, 1 << 8):
        for _ in range(8):
            crc = crc << 1 ^ (0x18bb7 if crc & 0x8000 else 0)
        table.append(crc)
    return table


def _table64():
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x9a6c9329ac4bc9b5 if crc & 1 else 0)
        table.append(crc)
    return table


TABLE16, TABLE64 = _table16(), _table64()


def crc16(data):
    """CRC-16/T10-DIF."""
    crc = 0
    for byte in data:
        crc = crc << 8 & 0xff00 ^ TABLE16[crc >> 8 ^ byte]
    return crc


def crc64(data):
    """CRC-64/NVME."""
    crc = MASK64
    for byte in data:
        crc = crc >> 8 ^ TABLE64[crc & 0xff ^ byte]
    return crc ^ MASK64


@dataclasses.dataclass(frozen=True)
class Format:
    """The format of the blocks of a namespace, with the names of QEMU's properties."""

    name: str
    block_size: int = 512
    # Bytes of metadata for each block; whether they follow the block in memory.
    ms: int = 0
    mset: int = 0
    # The type of protection information, 0 if there is none; whether it comes first in
    # the metadata; and the format, 2 if the guard has 64 bits.
    pi: int = 0
    pil: int = 0
    pif: int = 0

    def __str__(self):
        return self.name

    @property
    def tuple_bytes(self):
        """Length of the protection information."""
        return (16 if self.pif else 8) if self.pi else 0

    @property
    def tuple_offset(self):
        return 0 if self.pil else self.ms - self.tuple_bytes

    @property
    def is_only_pi(self):
        """Whether the controller can insert and strip all metadata."""
        return bool(self.pi) and self.ms == self.tuple_bytes

    @property
    def has_disk(self):
        """Whether the drivers support it."""
        return not self.mset or self.is_only_pi

    @property
    def has_profile(self):
        """Whether the block layer provides metadata."""
        return bool(self.ms) and not self.mset

    def arguments(self):
        """Properties of QEMU's nvme-ns."""
        return (f"logical_block_size={self.block_size},"
                f"physical_block_size={self.block_size},ms={self.ms},"
                f"mset={self.mset},pi={self.pi},pil={self.pil},pif={self.pif}")

    def metadata(self, lba, block):
        """The metadata that Linux stores with the data of a block."""
        before = bytes(self.tuple_offset)
        if not self.pi:
            information = b""
        elif self.pif:
            information = struct.pack(">QH", crc64(block + before), 0) \
                + lba.to_bytes(6, "big")
        else:
            information = struct.pack(">HHI", crc16(block + before), 0, lba)
        return (before + information).ljust(self.ms, b"\0")


class Disk(oracle.Disk):
    """An image with metadata. It must hold what expect() has computed."""

    def __init__(self, path, format_, size):
        super().__init__(path, format_.name, size, format_.block_size)
        self.format = format_
        self.metadata = bytearray(b"\xff" * (size // self.block_size * format_.ms))
        self.expect(0, self.expected_data(0, VALID_BYTES))
        with self.path.open("ab") as image:
            image.write(self.metadata)

    def metadata_range(self, offset, length):
        """The slice of metadata of whole blocks."""
        ms = self.format.ms
        return slice(offset // self.block_size * ms,
                     (offset + length) // self.block_size * ms)

    def expect(self, offset, data):
        super().expect(offset, data)
        size = self.block_size
        self.expect_metadata(offset, len(data), b"".join(
            self.format.metadata((offset + start) // size, data[start:start + size])
            for start in range(0, len(data), size)) if self.format.ms else b"")

    def expect_without_reference(self, offset, length):
        """These blocks have metadata of the controller, which got no reference tag."""
        size = self.block_size
        self.expect_metadata(offset, length, b"".join(
            self.format.metadata(0, bytes(self.expected[start:start + size]))
            for start in range(offset, offset + length, size)))

    def expect_metadata(self, offset, length, metadata):
        """From now on these blocks must have this metadata."""
        self.metadata[self.metadata_range(offset, length)] = metadata

    def read_metadata(self, offset, length):
        """The metadata that these blocks have in the image."""
        where = self.metadata_range(offset, length)
        return self.read(self.size + where.start, where.stop - where.start)

    def first_difference(self):
        """The first offset in the image with other bytes than expected, or None."""
        data, wanted = self.path.read_bytes(), bytes(self.expected + self.metadata)
        if data == wanted:
            return None
        return next((offset for offset, (a, b) in enumerate(zip(data, wanted))
                     if a != b), min(len(data), len(wanted)))

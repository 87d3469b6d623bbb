# SPDX-License-Identifier: GPL-2.0
"""The commands of the controller in fake_nvme.py: their data, and what they do.

Each method that is named after a command executes it, and returns its status and
result. None is a success without a result.
"""

import dataclasses
import struct

# Memory without a hole below 4 GiB: QEMU's q35 has none up to 2 GiB.
RAM_BYTES = 1 << 30
DISK_BYTES = 8 << 20

# Statuses, as in a completion without its phase bit.
INVALID_OPCODE, INVALID_FIELD, INTERNAL, ABORTED = 1, 2, 6, 7
LBA_RANGE, SIZE_LIMIT = 0x80, 0x183
DNR = 1 << 14
# CRD: which of the delays of retries applies. It is 1, 2 or 3.
CRD_SHIFT = 11

FEATURE_QUEUES, FEATURE_HOST_BEHAVIOR = 0x07, 0x16
# Each byte of a log page, and of what is written after the controller was disabled.
LOG_BYTE, LATE_BYTE = b"\x5a", b"\xee"


@dataclasses.dataclass(frozen=True)
class Properties:
    """What a controller reports, by names of the specification."""

    version: int = 0x10400
    # Maximum number of entries of a queue, 0's based.
    mqes: int = 63
    # CAP.TO and CRTO.CRWMT, in units of 500 ms. Without crwmt there is no CRTO.
    timeout: int = 4
    crwmt: int = 0
    mpsmin: int = 0
    queues: int = 1
    # The active namespaces, which all have the same data.
    namespaces: tuple = (1,)
    # The index of the LBA format, and log2 of its block size.
    format: int = 0
    lbads: int = 9
    read_only: bool = False
    mdts: int = 5
    crdt: tuple = (0, 0, 0)
    dmrsl: int = 0
    wzsl: int = 0
    # Whether there is a list of namespaces (Identify with CNS 02h).
    lists: bool = True
    # Seconds from EN to RDY.
    ready_seconds: float = 0

    def cap(self):
        """CAP: queues are contiguous, the command set is NVM."""
        return (self.mqes | 1 << 16 | self.timeout << 24 | 1 << 37
                | self.mpsmin << 48 | self.mpsmin << 52
                | bool(self.crwmt) << 59)

    def page_units(self, exponent):
        """Bytes of a field that is a power of two in pages. None: no limit."""
        return 4096 << self.mpsmin + exponent if exponent else None


class Commands:
    """What a controller does on its data and on the memory of the machine."""

    def _parts(self, command, length):
        """The (address, length) of each part of the data, from its PRP entries."""
        address, second = command.prps
        size = min(length, self._page - address % self._page)
        yield address, size
        length -= size
        entries = [second]
        if length > self._page:
            entries = struct.unpack_from(f"<{-(-length // self._page)}Q",
                                         self._ram, second)
        for address in entries:
            if length:
                assert not address % self._page, hex(address)
                yield address, min(length, self._page)
            length -= min(length, self._page)

    def _to_memory(self, command, data):
        offset = 0
        for address, size in self._parts(command, len(data)):
            assert address + size <= RAM_BYTES, hex(address)
            self._ram[address:address + size] = data[offset:offset + size]
            offset += size

    def _from_memory(self, command, length):
        return b"".join(self._ram[address:address + size] for address, size
                        in self._parts(command, length))

    # Each command returns (status, result), or None for (0, 0).

    def _identify(self, command):
        kinds = {0: self._namespace, 1: self._controller, 6: self._limits}
        if self.properties.lists:
            kinds[2] = self._list
        kind = kinds.get(command.dwords[0] & 0xff)
        page = kind(command.nsid) if kind else None
        if page is None:
            return INVALID_FIELD | DNR, 0
        self._to_memory(command, page)
        return None

    def _controller(self, _):
        properties = self.properties
        page = bytearray(4096)
        page[4:72] = b"fake".ljust(20) + b"fake".ljust(40) + b"1".ljust(8)
        page[77] = properties.mdts
        struct.pack_into("<I", page, 80, properties.version)
        page[111] = 1                                   # CNTRLTYPE: I/O
        struct.pack_into("<3H", page, 128, *properties.crdt)
        page[512:514] = b"\x66\x44"                     # SQES, CQES
        struct.pack_into("<I", page, 516, max(properties.namespaces))
        struct.pack_into("<H", page, 520, 1 << 2 | 1 << 3)  # DSM, Write Zeroes
        page[525] = 1                                   # VWC
        return page

    def _namespace(self, nsid):
        """An inactive namespace is all zeroes."""
        properties = self.properties
        page = bytearray(4096)
        if nsid not in properties.namespaces:
            return page
        struct.pack_into("<3Q", page, 0, *[DISK_BYTES >> properties.lbads] * 3)
        page[25] = max(properties.format, 1)            # NLBAF, 0's based
        page[26] = properties.format & 15 | (properties.format >> 4) << 5
        page[99] = properties.read_only                 # NSATTR
        # All other formats have blocks of 512 bytes.
        for number in range(page[25] + 1):
            page[128 + 4 * number + 2] = 9
        page[128 + 4 * properties.format + 2] = properties.lbads
        return page

    def _list(self, nsid):
        ids = [each for each in self.properties.namespaces if each > nsid]
        return struct.pack(f"<{len(ids)}I", *ids).ljust(4096, b"\0")

    def _limits(self, _):
        """The Identify data of the NVM command set."""
        page = bytearray(4096)
        page[1] = self.properties.wzsl
        page[3] = 1                                     # DMRL
        struct.pack_into("<I", page, 4, self.properties.dmrsl)
        return page

    def _log(self, command):
        dwords = (command.dwords[0] >> 16 | (command.dwords[1] & 0xffff) << 16) + 1
        self._to_memory(command, LOG_BYTE * 4 * dwords)

    def _get_features(self, command):
        pass

    def _set_features(self, command):
        feature = command.dwords[0] & 0xff
        if feature == FEATURE_QUEUES:
            return 0, (self.properties.queues - 1) * 0x10001
        if feature == FEATURE_HOST_BEHAVIOR:
            self.host_behavior = self._from_memory(command, 512)
        return None

    def _span(self, lba, blocks):
        """The range of the data, or None beyond its end."""
        start, end = (each << self.properties.lbads for each in (lba, lba + blocks))
        return slice(start, end) if end <= DISK_BYTES else None

    def _refuse(self, span, limit):
        """The result of a command that has no span, or a longer one."""
        if not span:
            return LBA_RANGE | DNR, 0
        if limit and span.stop - span.start > limit:
            return SIZE_LIMIT | DNR, 0
        return None

    def _flush(self, command):
        pass

    def _read(self, command):
        span = self._span(command.lba, command.blocks)
        refused = self._refuse(span, self.properties.page_units(self.properties.mdts))
        if not refused:
            self._to_memory(command, self.data[span])
        return refused

    def _read_late(self, command):
        """Write other data to the memory of a read."""
        length = command.blocks << self.properties.lbads
        self._to_memory(command, LATE_BYTE * length)

    def _write(self, command):
        span = self._span(command.lba, command.blocks)
        refused = self._refuse(span, self.properties.page_units(self.properties.mdts))
        if not refused:
            self.data[span] = self._from_memory(command, span.stop - span.start)
        return refused

    def _write_zeroes(self, command):
        return self._zero(command.lba, command.blocks,
                          self.properties.page_units(self.properties.wzsl))

    def _dsm(self, command):
        count = (command.dwords[0] & 0xff) + 1
        limit = self.properties.dmrsl << self.properties.lbads
        for _, blocks, lba in struct.iter_unpack(
                "<IIQ", self._from_memory(command, 16 * count)):
            self.ranges.append((blocks, lba))
            refused = self._zero(lba, blocks, limit)
            if refused:
                return refused
        return None

    def _zero(self, lba, blocks, limit):
        span = self._span(lba, blocks)
        refused = self._refuse(span, limit)
        if not refused:
            self.data[span] = bytes(span.stop - span.start)
        return refused

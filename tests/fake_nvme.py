# SPDX-License-Identifier: GPL-2.0
"""An NVMe controller in Python, for what QEMU's controller cannot do.

Its registers are a file, the BAR of ivshmem-plain, which a test lays over BAR 0 of a
controller of QEMU. The memory of the machine is another file, in which an address is
an offset. A thread reads the registers once a millisecond, executes commands, and
writes data and completions to memory.

QEMU's test protocol (-qtest) sends the interrupts: a write to the address in the MSI-X
table. Without them, the driver would see the completion of the first read of a disk,
that of the partition table, only after 30 s.

The rules of a test say how commands are executed. All commands are recorded.
"""

import collections
import contextlib
import dataclasses
import math
import mmap
import random
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable

from fake_commands import (ABORTED, DISK_BYTES, DNR, INVALID_OPCODE, RAM_BYTES,
                           Commands, Properties)

# The machine's memory is the file: its board needs this option.
BOARD = "memory-backend=ram"

# Registers, and where the doorbells start.
CAP, VS, CC, CSTS = 0x00, 0x08, 0x14, 0x1c
AQA, ASQ, ACQ, CRTO = 0x24, 0x28, 0x30, 0x68
DOORBELLS = 0x1000
# BAR 0 of QEMU's controller with its default number of queues.
BAR_BYTES = 16384
ENABLE, SHUTDOWN = 1, 3 << 14
READY, FATAL, SHUTDOWN_DONE = 1, 2, 2 << 2

ADMIN_NAMES = {0: "DELETE_SQ", 1: "CREATE_SQ", 2: "LOG", 4: "DELETE_CQ",
               5: "CREATE_CQ", 6: "IDENTIFY", 8: "ABORT", 9: "SET_FEATURES",
               10: "GET_FEATURES"}
IO_NAMES = {0: "FLUSH", 1: "WRITE", 2: "READ", 8: "WRITE_ZEROES", 9: "DSM"}
ADMIN = " ".join(ADMIN_NAMES.values())


@dataclasses.dataclass(frozen=True)
class Command:
    """A command, when it was read from its queue, and the name of its opcode."""

    time: float
    queue: int
    name: str
    cid: int
    nsid: int
    prps: tuple
    dwords: tuple

    @property
    def lba(self):
        return self.dwords[0] | self.dwords[1] << 32

    @property
    def blocks(self):
        return (self.dwords[2] & 0xffff) + 1


@dataclasses.dataclass
class Rule:
    """How commands with one of these names are executed: the first times, None: all.

    A command is completed after delay, in seconds, with this many copies of its
    completion. late more copies are added when the next command of its queue arrives. A
    command that is held is not completed, unless it is abortable and gets an Abort.
    """

    names: str
    when: Callable = lambda command: True
    times: int | None = None
    status: int = 0
    delay: float = 0
    copies: int = 1
    late: int = 0
    held: bool = False
    abortable: bool = True

    def applies(self, command):
        return self.times != 0 and command.name in self.names.split() \
            and self.when(command)


@dataclasses.dataclass
class Pending:
    """A command that is not completed yet, and when it will be."""

    command: Command
    rule: Rule
    due: float


class Queue:
    """A submission queue and its completion queue."""

    def __init__(self, number, sq, sq_entries, cq, cq_entries, vector):
        self.number = number
        self.sq, self.sq_entries, self.head = sq, sq_entries, 0
        self.cq, self.cq_entries, self.tail, self.phase = cq, cq_entries, 0, 1
        self.vector = vector
        # Completions that may have to wait for space: (result, id, status).
        self.waiting = collections.deque()


class FakeController(Commands):
    """The controller. Its thread runs until it is closed."""

    def __init__(self, directory):
        self._first_data = random.Random(4711).randbytes(DISK_BYTES)
        self.data = bytearray(self._first_data)
        self.properties = Properties()
        self.error = None
        # Offset of the MSI-X table in BAR 0.
        self.msix_table = 0x2000
        # For tests: RDY stays set after EN is cleared; this many starts fail; RDY stays
        # set for this many seconds, while the controller continues to write to memory.
        self.ready_sticks = False
        self.fatal_starts = 0
        self.linger = 0
        self._paths = {"ram": directory / "ram", "bar": directory / "bar"}
        self._ram = _shared(self._paths["ram"], RAM_BYTES)
        self._bar = _shared(self._paths["bar"], BAR_BYTES)
        self._lock = threading.Lock()
        self._rules = []
        self._enabled = False
        self._ready_at, self._cleared_at = math.inf, 0
        # Reads that were not completed when it was disabled.
        self._interrupted = []
        self._queues, self._cqs = {}, {}
        self._pending, self._late, self._vectors = [], {}, set()
        self.aqa = self.host_behavior = None
        self.clear()
        self._socket_path = directory / "qtest"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._socket_path))
        self._listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        """Unmap the memory."""
        with self._lock:
            self._listener.close()
            self._ram.close()
            self._bar.close()

    def arguments(self):
        """QEMU arguments, for a machine whose board is BOARD."""
        return ["-object", f"memory-backend-file,id=ram,size={RAM_BYTES},share=on,"
                           f"mem-path={self._paths['ram']}",
                "-object", f"memory-backend-file,id=bar,size={BAR_BYTES},share=on,"
                           f"mem-path={self._paths['bar']}",
                "-device", "ivshmem-plain,memdev=bar,bus=pcie.0,addr=0xa",
                "-qtest", f"unix:{self._socket_path}", "-qtest-log", "none"]

    # For tests.

    def configure(self, properties):
        """Change what the controller reports. Restore its data. No driver has it."""
        with self._lock:
            assert not self._register(CC) & ENABLE
            self.properties = properties
            self.data[:] = self._first_data
            self._bar[:DOORBELLS] = bytes(DOORBELLS)
            struct.pack_into("<Q", self._bar, CAP, properties.cap())
            self._set_register(VS, properties.version)
            self._set_register(CRTO, properties.crwmt)

    def clear(self):
        """Forget what was recorded."""
        with self._lock:
            self._commands = []
            # When EN was set, EN was cleared, and RDY was cleared.
            self.starts, self.stops, self.ends = [], [], []
            # How often memory was written between the last two.
            self.late_writes = 0
            # The (blocks, lba) of each range of DSM.
            self.ranges = []

    def commands(self, names, when=lambda command: True):
        """The recorded commands with these names, in order."""
        with self._lock:
            return [command for command in self._commands
                    if command.name in names.split() and when(command)]

    @contextlib.contextmanager
    def script(self, *rules):
        """The first of these rules that applies to a command is used for it."""
        with self._lock:
            self._rules = [dataclasses.replace(rule) for rule in rules]
        try:
            yield
        finally:
            self.recover()

    def recover(self):
        """Remove rules and faults, and complete commands that are held."""
        with self._lock:
            self._rules = []
            self._late.clear()
            self.ready_sticks = False
            self.fatal_starts = 0
            self.linger = 0
            for pending in self._pending:
                pending.due = 0

    def fail(self):
        """Report a fatal status, and execute nothing until the next start."""
        with self._lock:
            self._set_register(CSTS, self._register(CSTS) | FATAL)

    # Registers. An aligned register is read and written at once.

    def _register(self, offset):
        return struct.unpack_from("<I", self._bar, offset)[0]

    def _register64(self, offset):
        """The driver does not change these while the controller is enabled."""
        return self._register(offset) | self._register(offset + 4) << 32

    def _set_register(self, offset, value):
        struct.pack_into("<I", self._bar, offset, value)

    def _doorbell(self, number, is_completion):
        return self._register(DOORBELLS + 4 * (2 * number + is_completion))

    # The thread.

    def _run(self):
        try:
            self._qtest, _ = self._listener.accept()
            while True:
                with self._lock:
                    if self._listener.fileno() < 0:
                        return
                    self._step(time.monotonic())
                time.sleep(0.001)
        except Exception:  # the check that runs fails with it, or QEMU has exited
            self.error = traceback.format_exc()

    def _step(self, now):
        cc = self._register(CC)
        if bool(cc & ENABLE) != self._enabled:
            self._enabled = bool(cc & ENABLE)
            (self._enable if self._enabled else self._disable)(now)
        if not self._enabled:
            if self._register(CSTS) and not self.ready_sticks:
                self._end(now)
            return
        if now >= self._ready_at:
            self._become_ready()
        if cc & SHUTDOWN:
            self._set_register(CSTS, self._register(CSTS) | SHUTDOWN_DONE)
        if not self._register(CSTS) & FATAL:
            self._work(now)

    def _enable(self, now):
        assert not self._register(CSTS), "enabled before it was disabled"
        self.starts.append(now)
        if self.fatal_starts:
            self.fatal_starts -= 1
            self._set_register(CSTS, FATAL)
        else:
            self._ready_at = now + self.properties.ready_seconds

    def _disable(self, now):
        """Late completions survive it, features do not."""
        self.stops.append(now)
        self._ready_at, self._cleared_at = math.inf, now + self.linger
        self._interrupted = [pending.command for pending in self._pending
                             if pending.command.name == "READ"]
        self.host_behavior = None
        for state in (self._queues, self._cqs, self._pending, self._vectors):
            state.clear()

    def _end(self, now):
        """EN is cleared: clear RDY, now or later."""
        if now < self._cleared_at:
            for command in self._interrupted:
                self._read_late(command)
                self.late_writes += 1
            return
        self.ends.append(now)
        self._bar[DOORBELLS:DOORBELLS + 64] = bytes(64)
        self._set_register(CSTS, 0)

    def _become_ready(self):
        self._ready_at = math.inf
        self._page = 4096 << (self._register(CC) >> 7 & 15)
        self.aqa = self._register(AQA)
        self._queues[0] = Queue(
            0, self._register64(ASQ), (self.aqa & 0xfff) + 1,
            self._register64(ACQ), (self.aqa >> 16 & 0xfff) + 1, 0)
        self._set_register(CSTS, READY)

    def _work(self, now):
        for queue in list(self._queues.values()):
            tail = self._doorbell(queue.number, False)
            assert tail < queue.sq_entries, (queue.number, tail)
            while queue.head != tail:
                self._receive(queue, now)
        for pending in [each for each in self._pending if each.due <= now]:
            # An Abort may have completed it in this loop.
            if pending in self._pending:
                self._pending.remove(pending)
                self._complete(pending)
        for queue in self._queues.values():
            self._write_completions(queue)
        self._send_interrupts()

    # Commands.

    def _receive(self, queue, now):
        """Read a command, and decide when to complete it."""
        opcode, _, cid, nsid, _, prp1, prp2, *dwords = struct.unpack_from(
            "<BBHI8xQQQ6I", self._ram, queue.sq + 64 * queue.head)
        queue.head = (queue.head + 1) % queue.sq_entries
        names = IO_NAMES if queue.number else ADMIN_NAMES
        command = Command(now, queue.number, names.get(opcode, hex(opcode)), cid,
                          nsid, (prp1, prp2), tuple(dwords))
        self._commands.append(command)
        rule = next((rule for rule in self._rules if rule.applies(command)),
                    Rule(command.name))
        if rule.times:
            rule.times -= 1
        queue.waiting.extend(self._late.pop(queue.number, []))
        if rule.held:
            self._add_late(command, rule)
        self._pending.append(Pending(
            command, rule, math.inf if rule.held else now + rule.delay))

    def _complete(self, pending, status=None):
        command, rule = pending.command, pending.rule
        result, status = 0, rule.status if status is None else status
        if not status:
            method = getattr(self, f"_{command.name.lower()}", None)
            status, result = (method(command) or (0, 0)) if method \
                else (INVALID_OPCODE | DNR, 0)
        self._queues[command.queue].waiting.extend(
            [(result, command.cid, status)] * rule.copies)
        if not rule.held:
            self._add_late(command, rule)

    def _add_late(self, command, rule):
        self._late.setdefault(command.queue, []).extend(
            [(0, command.cid, rule.status)] * rule.late)

    def _write_completions(self, queue):
        count = len(queue.waiting)
        while queue.waiting:
            following = (queue.tail + 1) % queue.cq_entries
            if following == self._doorbell(queue.number, True):
                break  # the queue is full
            result, cid, status = queue.waiting.popleft()
            address = queue.cq + 16 * queue.tail
            struct.pack_into("<IIHH", self._ram, address, result, 0, queue.head,
                             queue.number)
            # The phase bit is in the last word.
            struct.pack_into("<I", self._ram, address + 12,
                             cid | (status << 1 | queue.phase) << 16)
            queue.tail = following
            queue.phase ^= not following
        if len(queue.waiting) < count and queue.vector is not None:
            self._vectors.add(queue.vector)

    def _send_interrupts(self):
        """Send those of vectors that are not masked. Others wait."""
        for vector in sorted(self._vectors):
            low, high, data, control = struct.unpack_from(
                "<4I", self._bar, self.msix_table + 16 * vector)
            if control & 1 or not low:
                continue
            self._vectors.remove(vector)
            self._qtest.sendall(
                f"writel {high << 32 | low:#x} {data:#x}\n".encode())
            reply = b""
            while not reply.endswith(b"\n"):
                received = self._qtest.recv(100)
                if not received:
                    raise ConnectionResetError
                reply += received
            assert reply.startswith(b"OK"), reply

    # Commands for queues: see Commands.

    def _create_cq(self, command):
        size, flags, *_ = command.dwords
        self._cqs[size & 0xffff] = (command.prps[0], (size >> 16) + 1,
                                    flags >> 16 if flags & 2 else None)

    def _create_sq(self, command):
        size, flags, *_ = command.dwords
        # Both queues of a pair have the same number.
        assert size & 0xffff == flags >> 16
        number = size & 0xffff
        self._queues[number] = Queue(number, command.prps[0], (size >> 16) + 1,
                                     *self._cqs[number])

    def _delete_sq(self, command):
        self._queues.pop(command.dwords[0] & 0xffff, None)

    def _delete_cq(self, command):
        self._cqs.pop(command.dwords[0] & 0xffff, None)

    def _abort(self, command):
        """Complete the command that is aborted. The result is 1 if none was."""
        queue, cid = command.dwords[0] & 0xffff, command.dwords[0] >> 16
        for pending in self._pending:
            if (pending.command.queue, pending.command.cid) == (queue, cid) \
                    and pending.rule.abortable:
                self._pending.remove(pending)
                self._complete(pending, ABORTED)
                return 0, 0
        return 0, 1


def _shared(path, size):
    """A new file, mapped."""
    with path.open("w+b") as file:
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)

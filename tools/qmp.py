#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""QEMU's control channel (QMP): commands with an answer, and events."""

import json
import socket
import time


class Refused(Exception):
    """QEMU does not do what it was told, and says why."""


class Silent(Exception):
    """What was waited for did not come."""


class Channel:
    """One end is ours, the other is inherited by QEMU."""

    def __init__(self):
        self._ours, self._its = socket.socketpair()
        self.fd = self._its.fileno()
        self._rest = b""
        self._events = []

    def arguments(self):
        """QEMU's, which must inherit fd."""
        return ["-chardev", f"socket,id=qmp,fd={self.fd}",
                "-mon", "chardev=qmp,mode=control"]

    def open(self, timeout):
        """Once QEMU has started."""
        self._its.close()
        end = time.monotonic() + timeout
        while "QMP" not in self._read(end):
            pass
        self.command("qmp_capabilities", timeout)

    def close(self):
        self._ours.close()
        self._its.close()

    def command(self, name, timeout, **arguments):
        """What the command returns."""
        self._ours.sendall(json.dumps(
            {"execute": name, "arguments": arguments}).encode() + b"\n")
        end = time.monotonic() + timeout
        while True:
            said = self._read(end)
            if "error" in said:
                raise Refused(f"{name}: {said['error']['desc']}")
            if "return" in said:
                return said["return"]
            self._keep(said)

    def event(self, name, timeout, **data):
        """The data of the first event of that name with these among them.

        It may have come already; each is returned once.
        """
        end = time.monotonic() + timeout
        while True:
            for number, (its, held) in enumerate(self._events):
                if its == name and data.items() <= held.items():
                    del self._events[number]
                    return held
            self._keep(self._read(end))

    def _keep(self, said):
        if "event" in said:
            self._events.append((said["event"], said.get("data", {})))

    def _read(self, end):
        while b"\n" not in self._rest:
            self._ours.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._ours.recv(65536)
            except TimeoutError:
                raise Silent("QEMU says nothing") from None
            except OSError as error:
                raise Silent(f"QEMU is gone ({error})") from None
            if not data:
                raise Silent("QEMU is gone")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return json.loads(line)

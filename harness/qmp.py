# SPDX-License-Identifier: GPL-2.0
"""QEMU's control channel (QMP): commands and events."""

import json
import socket
import time


class Refused(Exception):
    """QEMU returned an error for a command."""


class NoResponse(Exception):
    """QEMU sent nothing in time, or has exited."""


class Channel:
    """A pair of sockets: one for us, one that QEMU inherits."""

    def __init__(self):
        self._socket, self._qemu_socket = socket.socketpair()
        self.fd = self._qemu_socket.fileno()
        # Data after the last whole message, and events not waited for yet.
        self._data = b""
        self._events = []

    def arguments(self):
        """QEMU arguments. QEMU must inherit fd."""
        return ["-chardev", f"socket,id=qmp,fd={self.fd}",
                "-mon", "chardev=qmp,mode=control"]

    def open(self, timeout):
        """Connect to QEMU, after it has started."""
        self._qemu_socket.close()
        end = time.monotonic() + timeout
        while "QMP" not in self._read(end):
            pass
        self.command("qmp_capabilities", timeout)

    def close(self):
        self._socket.close()
        self._qemu_socket.close()

    def command(self, name, timeout, **arguments):
        """Run a command: its return value."""
        self._socket.sendall(json.dumps(
            {"execute": name, "arguments": arguments}).encode() + b"\n")
        end = time.monotonic() + timeout
        while True:
            message = self._read(end)
            if "error" in message:
                raise Refused(f"{name}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]
            self._keep_event(message)

    def event(self, name, timeout, **data):
        """Wait for an event of that name with these data: all of its data.

        An event that came before the call counts. Each is returned once.
        """
        end = time.monotonic() + timeout
        while True:
            for number, (event, event_data) in enumerate(self._events):
                if event == name and data.items() <= event_data.items():
                    del self._events[number]
                    return event_data
            self._keep_event(self._read(end))

    def _keep_event(self, message):
        if "event" in message:
            self._events.append((message["event"], message.get("data", {})))

    def _read(self, end):
        """The next message."""
        while b"\n" not in self._data:
            self._socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise NoResponse("QEMU sends nothing") from None
            except OSError as error:
                raise NoResponse(f"QEMU has exited ({error})") from None
            if not data:
                raise NoResponse("QEMU has exited")
            self._data += data
        line, self._data = self._data.split(b"\n", 1)
        return json.loads(line)

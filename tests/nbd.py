# SPDX-License-Identifier: GPL-2.0
"""An NBD server (network block device) that can hold requests.

The requests of a controller on such a drive time out. If QEMU itself held them, it
would hang in the reset of the controller. The server implements only the part of the
protocol that QEMU uses.
"""

import socket
import struct
import threading

HELLO = b"NBDMAGICIHAVEOPT"
OPTION_REPLY = 0x3e889045565a9
REQUEST, REPLY = 0x25609513, 0x67446698
# Options, and replies to them.
GO = 7
ACK, INFO, UNSUPPORTED = 1, 3, 1 << 31 | 1
READ, WRITE, DISCONNECT, FLUSH = range(4)
# Newstyle without zeroes, and an export that supports flush.
HANDSHAKE = 3
EXPORT = 1 | 4


class Server:
    """Serves an image to one QEMU at a time."""

    def __init__(self, image, path):
        self.image = image
        self.path = path
        self._lock = threading.Lock()
        self._is_holding = False
        self._held = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.close()

    def drive(self):
        """The properties of a drive of QEMU."""
        return ("file.driver=nbd,file.server.type=unix,"
                f"file.server.path={self.path}")

    # For tests.

    def hold(self):
        """From now on receive requests without replying."""
        with self._lock:
            self._is_holding = True

    def release(self):
        """Reply to the requests that are held, and to later ones at once."""
        with self._lock:
            self._is_holding = False
            held, self._held = self._held, []
            for request in held:
                self._execute(*request)

    # For QEMU.

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
                with client, self.image.path.open("r+b", buffering=0) as file:
                    self._negotiate(client)
                    while self._request(client, file):
                        pass
            except OSError:  # the client is gone, or the server is closed
                if self._listener.fileno() < 0:
                    return
            with self._lock:
                self._held.clear()

    def _negotiate(self, client):
        client.sendall(HELLO + struct.pack(">H", HANDSHAKE))
        _read(client, 4)
        while True:
            _, option, length = struct.unpack(">8sII", _read(client, 16))
            _read(client, length)
            if option != GO:
                self._reply(client, option, UNSUPPORTED)
                continue
            self._reply(client, option, INFO,
                        struct.pack(">HQH", 0, self.image.size, EXPORT))
            self._reply(client, option, ACK)
            return

    @staticmethod
    def _reply(client, option, kind, data=b""):
        client.sendall(struct.pack(">QIII", OPTION_REPLY, option, kind, len(data))
                     + data)

    def _request(self, client, file):
        magic, _, kind, cookie, offset, length = struct.unpack(
            ">IHH8sQI", _read(client, 28))
        assert magic == REQUEST
        data = _read(client, length) if kind == WRITE else b""
        if kind == DISCONNECT:
            return False
        request = (client, file, kind, cookie, offset, length, data)
        with self._lock:
            if self._is_holding:
                self._held.append(request)
            else:
                self._execute(*request)
        return True

    @staticmethod
    def _execute(client, file, kind, cookie, offset, length, data):
        file.seek(offset)
        if kind == WRITE:
            file.write(data)
        result = file.read(length) if kind == READ else b""
        client.sendall(struct.pack(">II8s", REPLY, 0, cookie) + result)


def _read(client, length):
    data = b""
    while len(data) < length:
        more = client.recv(length - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data

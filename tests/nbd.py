# SPDX-License-Identifier: GPL-2.0
"""A disk outside of QEMU, which answers when it is told to.

QEMU reaches it through NBD, the network block device: a controller on it falls
silent, and works again, while QEMU itself stands still because the guest resets
that controller. No more of the protocol is here than QEMU asks for.
"""

import socket
import struct
import threading

HELLO = b"NBDMAGICIHAVEOPT"
OPTION_REPLY = 0x3e889045565a9
REQUEST, REPLY = 0x25609513, 0x67446698
# Options and what is answered to them.
GO = 7
ACK, INFO, UNSUPPORTED = 1, 3, 1 << 31 | 1
READ, WRITE, DISCONNECT, FLUSH = range(4)
# Newstyle without zeroes; and an export that knows flush.
HANDSHAKE = 3
EXPORT = 1 | 4


class Disk:
    """Serves an image to one QEMU at a time."""

    def __init__(self, image, path):
        self.image = image
        self.path = path
        self._lock = threading.Lock()
        self._holds = False
        self._held = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.close()

    def drive(self):
        """Where QEMU finds it, as properties of a drive."""
        return ("file.driver=nbd,file.server.type=unix,"
                f"file.server.path={self.path}")

    # What a test tells it.

    def hold(self):
        """From now on requests are taken, and that is all."""
        with self._lock:
            self._holds = True

    def release(self):
        """Answer those that were taken, and from now on each at once."""
        with self._lock:
            self._holds = False
            held, self._held = self._held, []
            for request in held:
                self._answer(*request)

    # What QEMU does.

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
                with peer, self.image.path.open("r+b", buffering=0) as file:
                    self._greet(peer)
                    while self._request(peer, file):
                        pass
            except OSError:  # the peer is gone, or we are
                if self._listener.fileno() < 0:
                    return
            with self._lock:
                self._held.clear()

    def _greet(self, peer):
        peer.sendall(HELLO + struct.pack(">H", HANDSHAKE))
        _read(peer, 4)
        while True:
            _, option, length = struct.unpack(">8sII", _read(peer, 16))
            _read(peer, length)
            if option != GO:
                self._reply(peer, option, UNSUPPORTED)
                continue
            self._reply(peer, option, INFO,
                        struct.pack(">HQH", 0, self.image.size, EXPORT))
            self._reply(peer, option, ACK)
            return

    @staticmethod
    def _reply(peer, option, kind, data=b""):
        peer.sendall(struct.pack(">QIII", OPTION_REPLY, option, kind, len(data))
                     + data)

    def _request(self, peer, file):
        magic, _, kind, cookie, offset, length = struct.unpack(
            ">IHH8sQI", _read(peer, 28))
        assert magic == REQUEST
        data = _read(peer, length) if kind == WRITE else b""
        if kind == DISCONNECT:
            return False
        request = (peer, file, kind, cookie, offset, length, data)
        with self._lock:
            if self._holds:
                self._held.append(request)
            else:
                self._answer(*request)
        return True

    @staticmethod
    def _answer(peer, file, kind, cookie, offset, length, data):
        file.seek(offset)
        if kind == WRITE:
            file.write(data)
        found = file.read(length) if kind == READ else b""
        peer.sendall(struct.pack(">II8s", REPLY, 0, cookie) + found)


def _read(peer, length):
    data = b""
    while len(data) < length:
        more = peer.recv(length - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data

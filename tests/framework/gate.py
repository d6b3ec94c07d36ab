"""A TCP proxy that stops at a chosen byte of the stream and then does what the test says."""

from __future__ import annotations

import select
import socket

from tests.framework.relay import Barrier


class Gate(Barrier):
    """Forwards one connection to ``port``, both ways, up to ``stop_at`` bytes of the stream (None: all of it).

    There nothing passes any more, in either direction, and ``stopped`` is set, until one of ``go_on``, ``cut`` and
    ``flip`` is called. ``stream`` is what passed towards the destination.
    """

    def __init__(self, port: int, stop_at: int | None = None) -> None:
        self.stream = bytearray()
        self._stop_at = stop_at
        self._flip = False
        super().__init__(port)

    def flip(self) -> None:
        """Let the rest pass, but turn a bit of the next byte round."""
        self._flip = True
        self.go_on()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        there = {client: server, server: client}
        while there and not self._over:
            left = 65536 if self._stop_at is None else min(65536, self._stop_at - len(self.stream))
            if left <= 0:
                self._stop_at = None
                self._stop()
                continue
            for here in select.select(list(there), [], [], 0.02)[0]:
                data = here.recv(left)
                if here is client and self._flip and data:
                    self._flip = False
                    data = bytes([data[0] ^ 0x10]) + data[1:]
                if here is client:
                    self.stream += data
                if data:
                    there[here].sendall(data)
                else:
                    there.pop(here).shutdown(socket.SHUT_WR)
                if here is client:
                    break  # how much may pass must be seen anew

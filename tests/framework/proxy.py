"""A TCP proxy that records a migration stream and can cut it after any byte."""

from __future__ import annotations

import selectors
import socket
import threading

from tests.framework.relay import Relay


class CuttingProxy(Relay):
    """Forwards one connection to ``port``; after ``cut_at`` bytes of the stream both sides are cut.

    Or ``behind`` bytes after the first ``cut_behind`` in the stream (which is then not all forwarded).

    ``reset`` true sends RST (a killed host), false closes in order (a killed process). ``stream`` is
    what passed towards the destination.
    """

    def __init__(self, port: int, cut_at: int | None = None, *, cut_behind: bytes = b"", behind: int = 0,
                 reset: bool = False) -> None:  # fmt: skip
        self.stream = bytearray()
        self._cut_at = cut_at
        self._cut_behind, self._behind = cut_behind, behind
        self.done = threading.Event()
        super().__init__(port, reset=reset)

    def _run(self) -> None:
        try:
            super()._run()
        finally:
            self.done.set()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Copy both ways, in one thread so that closing a socket really ends it, until the cut or both ends."""
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while selector.get_map():
                for key, _ in selector.select():
                    here, there = key.fileobj, key.data
                    assert isinstance(here, socket.socket)
                    data = here.recv(65536)
                    if here is client and self._cut_behind and self._cut_at is None:
                        at = bytes(self.stream[-16:] + data).find(self._cut_behind)
                        if at >= 0:
                            self._cut_at = max(0, len(self.stream) - 16) + at + self._behind
                    if here is client and self._cut_at is not None:
                        data = data[: max(0, self._cut_at - len(self.stream))]
                    if here is client:
                        self.stream += data
                    there.sendall(data)
                    if self._cut_at is not None and len(self.stream) >= self._cut_at:
                        return
                    if not data:
                        selector.unregister(here)
                        there.shutdown(socket.SHUT_WR)

"""A destination of a migration that answers what it likes."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterable, Sequence

Act = tuple[bytes, Iterable[bytes]]
"""What it waits for in the stream (nothing: the first bytes), and what it says then."""


def message(number: int, payload: bytes, length: int | None = None) -> bytes:
    """One message of the return path; ``length``: what it says of its payload."""
    return number.to_bytes(2, "big") + (len(payload) if length is None else length).to_bytes(2, "big") + payload


def word(value: int) -> bytes:
    return value.to_bytes(4, "big")


class Liar:
    """Takes one connection, reads and forgets the stream, plays its ``acts``, and hangs up."""

    def __init__(self, acts: Sequence[Act]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"tcp:127.0.0.1:{self._listener.getsockname()[1]}"
        self._acts = acts
        self._tail = b""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            with self._listener, self._listener.accept()[0] as peer:
                peer.settimeout(20)
                for mark, pieces in self._acts:
                    while not (self._tail and mark in self._tail):
                        self._read(peer)
                    self._tail = self._tail.partition(mark)[2] if mark else self._tail
                    for piece in pieces:
                        self._say(peer, memoryview(piece))
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(1 << 18):
                    pass
        except OSError:
            pass  # the source has had enough of it

    def _read(self, peer: socket.socket) -> None:
        data = peer.recv(1 << 18)
        if not data:
            raise ConnectionError
        self._tail = self._tail[-64:] + data

    def _say(self, peer: socket.socket, rest: memoryview) -> None:
        while rest:
            readable, writable, _ = select.select([peer], [peer], [], 20)
            if readable:
                self._read(peer)
            if writable:
                rest = rest[peer.send(rest[: 1 << 14]) :]

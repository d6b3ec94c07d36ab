"""A TCP proxy that stops at a chosen byte of the stream and then does what the test says."""

from __future__ import annotations

import select
import socket
import struct
import threading
from types import TracebackType


class Gate:
    """Forwards one connection to ``port``, both ways, up to ``stop_at`` bytes of the stream (None: all of it).

    There nothing passes any more, in either direction, and ``stopped`` is set, until one of ``go_on``, ``cut`` and
    ``flip`` is called. ``stream`` is what passed towards the destination. Use it in a with statement, which cuts.
    """

    def __init__(self, port: int, stop_at: int | None = None) -> None:
        self.stream = bytearray()
        self.stopped = threading.Event()
        self._target = port
        self._stop_at = stop_at
        self._decided = threading.Event()
        self._over = False
        self._reset = False
        self._flip = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.uri = f"tcp:127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def go_on(self) -> None:
        """Let the rest pass."""
        self._decided.set()

    def flip(self) -> None:
        """Let the rest pass, but turn a bit of the next byte round."""
        self._flip = True
        self._decided.set()

    def cut(self, *, reset: bool = False) -> None:
        """End both connections: in order, as when a process ends, or by RST, as when a host forgets them."""
        self._reset = reset
        self._over = True
        self._decided.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._listener:
                while not select.select([self._listener], [], [], 0.02)[0]:
                    if self._over:
                        return
                client, _ = self._listener.accept()
            with client, socket.create_connection(("127.0.0.1", self._target)) as server:
                self._forward(client, server)
                if self._reset:
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # one end went away by itself

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        there = {client: server, server: client}
        while there and not self._over:
            left = 65536 if self._stop_at is None else min(65536, self._stop_at - len(self.stream))
            if left <= 0:
                self._stop_at = None
                self.stopped.set()
                self._decided.wait()
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

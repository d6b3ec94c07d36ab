"""A TCP proxy that can be shut at any moment: nothing passes any more, nobody is told."""

from __future__ import annotations

import select
import socket
import threading
from types import TracebackType

from tests.framework.relay import Relay


class Valve(Relay):
    """Forwards one connection to ``port`` while ``open`` is set."""

    def __init__(self, port: int, *, is_open: bool = True) -> None:
        self.open = threading.Event()
        if is_open:
            self.open.set()
        super().__init__(port)

    def go_on(self) -> None:
        self.open.set()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        there = {client: server, server: client}
        while there and not self._over:
            self.open.wait()
            if self._over:
                return
            for here in select.select(list(there), [], [], 0.02)[0]:
                if not self.open.is_set() or self._over:
                    break  # what waits here is lost, as with a host that dies
                data = here.recv(65536)
                if data:
                    there[here].sendall(data)
                else:
                    there.pop(here).shutdown(socket.SHUT_WR)


class FullListener:
    """A port at which somebody listens who never accepts, with no room for another connection: connecting waits."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port = int(self._listener.getsockname()[1])
        self._first = socket.create_connection(("127.0.0.1", self.port))

    def __enter__(self) -> FullListener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._first.close()
        self._listener.close()

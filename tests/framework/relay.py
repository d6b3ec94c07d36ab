"""What the TCP proxies between two emulators have in common: one connection, a thread, and an end."""

from __future__ import annotations

import select
import socket
import struct
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Relay(ABC):
    """Takes one connection to ``port`` of this computer; how it is forwarded is the subclass's.

    A with statement cuts at its end. ``reset``: see ``cut``; for when the forwarding ends by itself.
    """

    def __init__(self, port: int, *, reset: bool = False) -> None:
        self._target = port
        self._over = False
        """No byte passes any more."""
        self._reset = reset
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.uri = f"tcp:127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def cut(self, *, reset: bool = False) -> None:
        """End both connections: in order, as when a process ends, or by RST, as when a host forgets them."""
        self._reset = reset
        self._over = True
        self.go_on()
        self._thread.join()

    def go_on(self) -> None:  # noqa: B027 - most never stop
        """Let everything pass that waits here."""

    @abstractmethod
    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Both ways, until the connections have ended or ``_over`` is set."""

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


class Barrier(Relay):
    """A relay that stops once, where the subclass says: ``stopped`` is set, and it waits for ``go_on`` or ``cut``."""

    def __init__(self, port: int) -> None:
        self.stopped = threading.Event()
        self._decided = threading.Event()
        super().__init__(port)

    def go_on(self) -> None:
        self._decided.set()

    def _stop(self) -> None:
        self.stopped.set()
        self._decided.wait()

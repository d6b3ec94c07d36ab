"""A TCP proxy that records a migration stream and can cut it after any byte."""

from __future__ import annotations

import socket
import struct
import threading


class CuttingProxy:
    """Forwards one connection to ``port``; after ``cut_at`` bytes of the stream both sides are cut.

    ``reset`` true sends RST (a killed host), false closes in order (a killed process). ``stream`` is
    what passed towards the destination.
    """

    def __init__(self, port: int, cut_at: int | None = None, *, reset: bool = False) -> None:
        self.stream = bytearray()
        self._target = port
        self._cut_at = cut_at
        self._reset = reset
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.done = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            client, _ = self._listener.accept()
            self._listener.close()
            with client, socket.create_connection(("127.0.0.1", self._target)) as server:
                back = threading.Thread(target=self._copy_back, args=(server, client), daemon=True)
                back.start()
                self._copy(client, server)
                if self._reset:
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if self._cut_at is None:
                    server.shutdown(socket.SHUT_WR)
                    back.join(30)
        except OSError:
            pass  # one end went away by itself
        finally:
            self.done.set()

    def _copy(self, client: socket.socket, server: socket.socket) -> None:
        while data := client.recv(65536):
            if self._cut_at is not None and len(self.stream) + len(data) > self._cut_at:
                data = data[: self._cut_at - len(self.stream)]
                self.stream += data
                server.sendall(data)
                return
            self.stream += data
            server.sendall(data)

    @staticmethod
    def _copy_back(server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # cut

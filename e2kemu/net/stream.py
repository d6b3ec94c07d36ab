"""``-netdev socket`` and ``-netdev stream``: frames over a stream socket to another emulator.

The format is QEMU's: before each frame its length, 4 bytes, big endian. One peer at a time: a server takes the next
when one has gone, a client of ``stream`` with ``reconnect-ms`` tries again. Without a peer frames are dropped, and so
are they while it does not read. A length that no frame has ends the connection: the place where the next frame begins
is lost.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress

from e2kemu.errors import OptionError
from e2kemu.loop import MainLoop, TimerHandle, report
from e2kemu.net.backend import FRAME_MAX, NetBackend
from e2kemu.net.config import SocketConfig

CHUNK = 256 << 10
OUTPUT = 1 << 20
"""Bytes that wait for a peer; more is dropped, whole frames."""


class StreamBackend(NetBackend):
    """See the module."""

    def __init__(self, ident: str, loop: MainLoop, config: SocketConfig) -> None:
        """Listens or begins to connect. Raises OptionError."""
        super().__init__(ident, loop)
        self.config = config
        self.kind = config.kind  # type: ignore[misc]  # one class, two words of -netdev
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._connecting: socket.socket | None = None
        self._retry: TimerHandle | None = None
        self._name = ""
        self._input = bytearray()
        self._output: deque[memoryview] = deque()
        self._queued = 0
        if config.server:
            self._listen()
        else:
            self._connect()

    @property
    def port(self) -> int:
        """The port a server listens on."""
        return 0 if self._listener is None or self.config.path else int(self._listener.getsockname()[1])

    @property
    def connected(self) -> bool:
        """A peer is there."""
        return self._peer is not None

    # -- connections

    def _make(self) -> tuple[socket.socket, str | tuple[str, int]]:
        if self.config.path:
            return socket.socket(socket.AF_UNIX), self.config.path
        host, port = self.config.address
        try:
            found = socket.getaddrinfo(
                host or ("0.0.0.0" if self.config.server else "127.0.0.1"), port, type=socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            raise OptionError(f"address resolution failed for {self.config.place}: {error}") from None
        family, _, _, _, address = found[0]
        return socket.socket(family, socket.SOCK_STREAM), address[:2]  # type: ignore[return-value]

    def _listen(self) -> None:
        listener, address = self._make()
        try:
            if not self.config.path:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
        except OSError as error:
            listener.close()
            raise OptionError(f"can't bind {self.config.place}: {error.strerror or error}") from error
        listener.setblocking(False)
        self._listener = listener
        self.loop.add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        if self._listener is None or self._peer is not None:
            return
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        self.loop.remove_reader(self._listener.fileno())
        self._adopt(peer, "connection from")

    def _connect(self) -> None:
        self._retry = None
        connection, address = self._make()
        connection.setblocking(False)
        self._connecting = connection
        try:
            connection.connect(address)
        except BlockingIOError:
            pass
        except OSError as error:
            self._failed(error.strerror or str(error))
            return
        self.loop.add_writer(connection.fileno(), self._connected)

    def _connected(self) -> None:
        connection, self._connecting = self._connecting, None
        if connection is None:
            return
        self.loop.remove_writer(connection.fileno())
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._connecting = connection
            self._failed(os.strerror(error))
        else:
            self._adopt(connection, "connect to")

    def _failed(self, reason: str) -> None:
        connection, self._connecting = self._connecting, None
        if connection is not None:
            connection.close()
        if self.config.retry is None:
            report(f"e2kemu: netdev '{self.id}': can't connect to {self.config.place}: {reason}")
        self._try_again()

    def _try_again(self) -> None:
        if self.config.retry is not None and not self._closed:
            self._retry = self.loop.call_later(self.config.retry, self._connect)

    def _adopt(self, peer: socket.socket, how: str) -> None:
        peer.setblocking(False)
        name = self.config.path
        if not name:
            with suppress(OSError):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                host, port = peer.getpeername()[:2]
                name = f"{host}:{port}"
        self._peer, self._name = peer, f"{how} {name}"
        self.loop.add_reader(peer.fileno(), self._readable)

    def _drop(self) -> None:
        peer, self._peer = self._peer, None
        if peer is None:
            return
        self.loop.remove_reader(peer.fileno())
        self.loop.remove_writer(peer.fileno())
        peer.close()
        self._input.clear()
        self._output.clear()
        self._queued, self._name = 0, ""
        if self._closed:
            return
        if self._listener is not None:
            self.loop.add_reader(self._listener.fileno(), self._accept)
        else:
            self._try_again()

    # -- frames

    def _carry(self, frame: bytes) -> None:
        if self._peer is None or self._queued > OUTPUT:
            self.dropped += 1
            return
        data = len(frame).to_bytes(4, "big") + frame
        self._output.append(memoryview(data))
        self._queued += len(data)
        if len(self._output) == 1:
            self._writable()

    def _writable(self) -> None:
        if self._peer is None:
            return
        try:
            while self._output:
                sent = self._peer.send(self._output[0])
                self._queued -= sent
                if sent < len(self._output[0]):
                    self._output[0] = self._output[0][sent:]
                else:
                    self._output.popleft()
        except BlockingIOError:
            self.loop.add_writer(self._peer.fileno(), self._writable)
            return
        except OSError:
            self._drop()
            return
        self.loop.remove_writer(self._peer.fileno())

    def _readable(self) -> None:
        if self._peer is None:
            return
        try:
            data = self._peer.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop()
            return
        self._input += data
        at = 0
        while len(self._input) - at >= 4:
            size = int.from_bytes(self._input[at : at + 4], "big")
            if size > FRAME_MAX:
                report(f"e2kemu: netdev '{self.id}': the peer sends a frame of {size} bytes; connection closed")
                self._drop()
                return
            if len(self._input) - at < 4 + size:
                break
            if size:
                self.deliver(bytes(self._input[at + 4 : at + 4 + size]))
            at += 4 + size
        del self._input[:at]

    def describe(self) -> str:
        if self._name:
            return self._name
        if self.config.server:
            return f"wait from {self.config.place if self.config.path else f'{self.config.address[0]}:{self.port}'}"
        return f"disconnected from {self.config.place}"

    def close(self) -> None:
        super().close()
        self._drop()
        if self._retry is not None:
            self._retry.cancel()
        if self._connecting is not None:
            self.loop.remove_writer(self._connecting.fileno())
            self._connecting.close()
        if self._listener is not None:
            self.loop.remove_reader(self._listener.fileno())
            self._listener.close()
            if self.config.path:
                with suppress(OSError):
                    os.unlink(self.config.path)

"""``unix:`` and ``tcp:`` chardevs, server and client.

A server takes one client at a time; the next waits in the backlog until it has gone. Output while nobody is
connected is discarded. A Unix client may send descriptors (SCM_RIGHTS); they stay with the chardev until
``take_fds``. The path of a Unix server is removed at the end (and before, if nobody listens there).
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from contextlib import suppress
from typing import Any

from e2kemu.chardev import CHUNK, HIGH_WATER, Chardev, Event, OutputQueue, Receive
from e2kemu.errors import OptionError
from e2kemu.loop import MainLoop
from e2kemu.options import Options

PATIENCE = 0.05
"""Seconds between looks whether a peer that does not read has begun to."""
MAX_FDS = 16
"""Descriptors accepted in one message."""


class SocketChardev(Chardev):
    """One connection at a time over a stream socket, accepted from listeners or (a client) made once."""

    kind = "socket"

    def __init__(self, label: str, loop: MainLoop, name: str) -> None:
        super().__init__(label)
        self._loop = loop
        self._name = name
        self._listeners: list[socket.socket] = []
        self._unlink: str | None = None
        self._peer: socket.socket | None = None
        self._peer_name = ""
        self._queue: OutputQueue | None = None
        self._fds: list[int] = []

    # -- setting up

    def listen(self, listeners: list[socket.socket], unlink: str | None, *, wait: bool) -> None:
        """Serve on ``listeners``; with ``wait`` return when the first client is there."""
        self._listeners = listeners
        self._unlink = unlink
        for listener in listeners:
            listener.setblocking(False)
        if wait:
            print(f"e2kemu: info: waiting for connection on: {self.describe()}", file=sys.stderr, flush=True)
            select.select(listeners, [], [])
            self._accept()
        else:
            self._await_client()

    def attach(self, connection: socket.socket) -> None:
        """Use an established connection (a client's)."""
        self._adopt(connection)

    # -- Chardev

    def open_frontend(self, receive: Receive, event: Event | None = None) -> None:
        super().open_frontend(receive, event)
        if self._peer is not None:
            self._loop.call_soon(self._start)

    @property
    def connected(self) -> bool:
        """A peer is there."""
        return self._peer is not None

    def write(self, data: bytes) -> None:
        queue = self._queue
        if queue is not None:
            queue.write(data)

    def flush(self, patience: float = 2.0) -> None:
        queue = self._queue
        if queue is not None:
            queue.flush(patience)

    def close(self) -> None:
        self.flush()
        listeners, self._listeners = self._listeners, []
        self._drop(listen_again=False)
        for listener in listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        if listeners and self._unlink is not None:
            with suppress(OSError):
                os.unlink(self._unlink)

    def take_fds(self) -> list[int]:
        fds, self._fds = self._fds, []
        return fds

    def describe(self) -> str:
        state = f" <-> {self._peer_name}" if self._peer is not None and self._peer_name else ""
        name = self._name
        if self._listeners and self._unlink is None:
            name = f"{name.rpartition(':')[0]}:{self._listeners[0].getsockname()[1]}"
        prefix = "" if self._peer is not None else "disconnected:"
        server = ",server=on" if self._listeners else ""
        return f"{prefix}{name}{server}{state}"

    # -- connection

    def _await_client(self) -> None:
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept)

    def _accept(self) -> None:
        """Take the first client that waits on any listener."""
        for listener in self._listeners:
            try:
                connection, _ = listener.accept()
            except OSError:
                continue  # nobody here, or gone again
            self._adopt(connection)
            self._start()
            return

    def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):
                host, port = connection.getpeername()[:2]
                self._peer_name = f"{host}:{port}"
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        self._peer = connection
        # A dead peer shows as readable too: the reader is who drops the connection.
        self._queue = OutputQueue(self._loop, connection.fileno(), connection.send)

    def _start(self) -> None:
        if self._peer is not None and self.has_frontend:
            self._loop.add_reader(self._peer.fileno(), self._readable)
            self.notify("opened")

    def _readable(self) -> None:
        peer = self._peer
        if peer is None:
            return
        if self.answers and self._queue is not None and self._queue.queued > HIGH_WATER:
            self._loop.remove_reader(peer.fileno())
            self._loop.call_later(PATIENCE, self._listen_again)
            return
        try:
            data = self._read(peer)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.input(data)
        else:
            self._drop(listen_again=True)

    def _listen_again(self) -> None:
        if self._peer is not None:
            self._loop.add_reader(self._peer.fileno(), self._readable)

    def _read(self, peer: socket.socket) -> bytes:
        if peer.family != socket.AF_UNIX:
            return peer.recv(CHUNK)
        data, fds, _, _ = socket.recv_fds(peer, CHUNK, MAX_FDS)
        if fds:
            for fd in self.take_fds():
                os.close(fd)  # only those of the newest message count
            for fd in fds:
                os.set_inheritable(fd, False)
            self._fds = list(fds)
        return data

    def _drop(self, *, listen_again: bool) -> None:
        """Forget the peer and, for a server, wait for the next."""
        peer, self._peer = self._peer, None
        if peer is not None:
            self._loop.remove_reader(peer.fileno())
            if self._queue is not None:
                self._queue.discard()
                self._queue = None
            peer.close()
            for fd in self.take_fds():
                os.close(fd)
            self.notify("closed")
        if listen_again:
            self._await_client()


def open_socket(kind: str, options: Options, label: str, loop: MainLoop) -> SocketChardev:
    """A socket chardev from the rest of ``unix:...`` or ``tcp:...``. Raises OptionError."""
    address = options.require("address")
    server = options.get_bool("server", False)
    wait = options.get_bool("wait", server)
    if "wait" in options and not server:
        raise OptionError("'wait' option is incompatible with socket in client connect mode")
    if kind == "tcp":
        options.get_bool("nodelay", True)  # always on: a console wants its bytes now
    options.finish()
    device = SocketChardev(label, loop, f"{kind}:{address}")
    if kind == "unix":
        _open_unix(device, address, server=server, wait=wait)
    else:
        _open_tcp(device, address, server=server, wait=wait)
    return device


def _open_unix(device: SocketChardev, path: str, *, server: bool, wait: bool) -> None:
    endpoint = socket.socket(socket.AF_UNIX)
    try:
        if not server:
            endpoint.connect(path)
            device.attach(endpoint)
            return
        _remove_stale(path)
        endpoint.bind(path)
        endpoint.listen(1)
    except OSError as error:
        endpoint.close()
        action = "bind" if server else "connect"
        raise OptionError(f"Failed to {action} socket '{path}': {error.strerror or error}") from error
    device.listen([endpoint], path, wait=wait)


def _remove_stale(path: str) -> None:
    """Remove the socket a dead server left behind; anything else is left for bind to refuse."""
    if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            pass


def split_host_port(text: str) -> tuple[str, str]:
    """``host:port`` or ``[v6]:port``; an empty host is every address. Raises OptionError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not port:
        raise OptionError(f"error parsing address '{text}'")
    return host, port


def _open_tcp(device: SocketChardev, address: str, *, server: bool, wait: bool) -> None:
    host, port = split_host_port(address)
    flags = socket.AI_PASSIVE if server else 0
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror as error:
        raise OptionError(f"address resolution failed for {address}: {error.strerror}") from error
    listeners: list[socket.socket] = []
    last: OSError | None = None
    for family, kind, protocol, _, where in found:
        endpoint = socket.socket(family, kind, protocol)
        try:
            if not server:
                endpoint.connect(where)
                device.attach(endpoint)
                return
            _bind(endpoint, where, listeners)
            listeners.append(endpoint)
        except OSError as error:
            endpoint.close()
            last = error
    if listeners:
        device.listen(listeners, None, wait=wait)
        return
    action = "find an available port" if server else "connect to"
    reason = last.strerror if last is not None else "no address"
    raise OptionError(f"Failed to {action} '{address}': {reason}")


def _bind(endpoint: socket.socket, where: Any, others: list[socket.socket]) -> None:
    """Listen on every address of a name; all on one port, also when the system chooses it."""
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if endpoint.family == socket.AF_INET6:
        endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    port = others[0].getsockname()[1] if others else where[1]
    endpoint.bind((where[0], port, *where[2:]))
    endpoint.listen(1)

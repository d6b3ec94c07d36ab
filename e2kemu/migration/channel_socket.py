"""Channels over sockets: tcp and unix, and sockets that came as a file descriptor.

The sockets block; ``shutdown(2)`` is what wakes a blocked read or write. Connecting and accepting poll
together with a ``Waker``, for there is no connection yet that could be shut down.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import struct
import termios
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from e2kemu.errors import ChannelError
from e2kemu.migration.address import InetAddress, UnixAddress
from e2kemu.migration.channel import (
    Buffer,
    Channel,
    DescriptorChannel,
    Listener,
    SocketAddressDict,
    Waker,
    reason,
    write_fully,
)

UNIX_PATH_MAX = 107
"""Bytes of a socket's path: sun_path (108) less its NUL."""

BACKLOG = 16
"""Connections that may wait for accept: a migration opens several at once."""

RETRY_SECONDS = 0.05
"""A unix socket whose backlog is full says so at once and gives no event to wait for."""

DRAIN_LIMIT = 16 << 20
"""Bytes read and thrown away at close, see SocketChannel._release."""

PEER_WRITES = 64 << 10
"""So many of them are no late answer: the peer is sending its stream."""

FAREWELL_SECONDS = 1.0
"""What ``close`` gives the network to carry our last words to such a peer."""

PROMPT_UNSENT = 128 << 10
"""Bytes that may wait to be sent on a prompt connection."""

PROMPT_WINDOW = 1 << 20
"""Bytes that may be under way to us, or wait here to be read, on a prompt connection: a hundred MiB a second over ten
milliseconds of round trip."""

RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER, on, for no time."""


class SocketChannel(DescriptorChannel):
    """A connected stream socket, which the channel owns from now on."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        super().__init__(name)
        sock.setblocking(True)
        self._socket = sock

    def read(self, max_bytes: int) -> bytes:
        with self._using("read from"):
            data = self._socket.recv(max_bytes)
        if not data:
            self._check_open("read from")
        return data

    def readinto(self, view: memoryview) -> int:
        with self._using("read from"):
            size = self._socket.recv_into(view)
        if not size:
            self._check_open("read from")
        return size

    def writev(self, buffers: Sequence[Buffer]) -> None:
        with self._using("write to"):
            write_fully(lambda views: self._socket.sendmsg(views, (), socket.MSG_NOSIGNAL), buffers)

    def abandon(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        except OSError:
            pass  # closed already

    def delivered(self) -> bool:
        unsent = bytearray(4)
        try:
            fcntl.ioctl(self._socket, termios.TIOCOUTQ, unsent)
        except (OSError, ValueError):
            pass  # closed or reset: who reads finds out
        return not any(unsent)

    def be_prompt(self) -> None:
        try:
            if self._socket.family != socket.AF_UNIX:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, PROMPT_UNSENT)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, PROMPT_WINDOW)
        except OSError:
            pass  # closed already, or not TCP

    def _wake(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was faster

    def _release(self) -> None:
        # Bytes that nobody read (a TLS session ticket, a late answer) would make close(2) send a reset, and
        # the reset would destroy what is still on its way to the peer: the end of our stream.
        drained = 0
        try:
            self._socket.setblocking(False)
            while drained < DRAIN_LIMIT and (data := self._socket.recv(1 << 16)):
                drained += len(data)
        except OSError:
            pass  # nothing (more) there, or already reset
        if drained >= PEER_WRITES and self._socket.family != socket.AF_UNIX:
            # The peer is in the middle of its stream and waits for room. After a shutdown the kernel does not
            # announce any, so it would wait for a minute: it gets a reset, once it has what we had to say.
            self._wait_sent()
            self.abandon()
        self._socket.close()

    def _wait_sent(self) -> None:
        """Until the peer's system has all that was written, for a second at most."""
        end = time.monotonic() + FAREWELL_SECONDS
        while not self.delivered() and time.monotonic() < end:
            time.sleep(0.01)


def _poll(waker: Waker | None, sock: socket.socket, events: int, seconds: float | None = None) -> None:
    """Wait until ``sock`` is ready for ``events`` or ``waker`` is set."""
    poller = select.poll()
    poller.register(sock, events)
    if waker is not None:
        poller.register(waker, select.POLLIN)
    poller.poll(None if seconds is None else seconds * 1000)


def _connect_one(family: int, sockaddr: object, cancel: Waker | None) -> socket.socket:
    """A connected socket; raises OSError (ECANCELED when ``cancel`` was set)."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            if cancel is not None and cancel.is_set:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            code = sock.connect_ex(sockaddr)  # type: ignore[arg-type]
            if code == errno.EAGAIN:
                _poll(cancel, sock, 0, RETRY_SECONDS)
                continue
            if code == errno.EINPROGRESS:
                _poll(cancel, sock, select.POLLOUT)
                if cancel is not None and cancel.is_set:
                    continue
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            return sock
    except BaseException:
        sock.close()
        raise


def _resolve(address: InetAddress, *, passive: bool) -> list[tuple[int, tuple[str, int]]]:
    """(family, sockaddr) of ``address``. Raises ChannelError when its names are not known."""
    family = socket.AF_UNSPEC
    if (address.ipv4 and not address.ipv6) or address.ipv6 is False:
        family = socket.AF_INET
    elif (address.ipv6 and not address.ipv4) or address.ipv4 is False:
        family = socket.AF_INET6
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = socket.getaddrinfo(address.host or None, address.port, family, socket.SOCK_STREAM, 0, flags)
    except (OSError, UnicodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "not a host name"
        text = f"address resolution failed for {address.host}:{address.port}: {why}"
        raise ChannelError(text) from error
    return list(dict.fromkeys((entry[0], entry[4]) for entry in found))  # type: ignore[misc]


def connect_inet(address: InetAddress, cancel: Waker | None = None) -> SocketChannel:
    """Connect to the first of the host's addresses that answers. Raises ChannelError."""
    failure: OSError | None = None
    for family, sockaddr in _resolve(address, passive=False):
        try:
            sock = _connect_one(family, sockaddr, cancel)
        except OSError as error:
            failure = error
            if error.errno == errno.ECANCELED:
                break
            continue
        _tune(sock, address)
        return SocketChannel(sock, str(address))
    why = reason(failure) if failure else "the host has no address"
    raise ChannelError(f"Failed to connect to '{address.host}:{address.port}': {why}") from failure


def connect_unix(address: UnixAddress, cancel: Waker | None = None) -> SocketChannel:
    """Connect to a unix socket. Raises ChannelError."""
    _check_unix_path(address.path)
    try:
        sock = _connect_one(socket.AF_UNIX, address.path, cancel)
    except OSError as error:
        raise ChannelError(f"Failed to connect to '{address.path}': {reason(error)}") from error
    return SocketChannel(sock, str(address))


def _tune(sock: socket.socket, address: InetAddress) -> None:
    # Requests on the return path are a few bytes each and somebody waits for every one of them.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.keep_alive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _check_unix_path(path: str) -> None:
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        limit = f"it must be less than {UNIX_PATH_MAX + 1} bytes"
        raise ChannelError(f"UNIX socket path '{path}' is too long: {limit}")


class SocketListener(Listener):
    """Listening sockets: several where a host name has several addresses."""

    def __init__(
        self, name: str, sockets: list[socket.socket], tune: Callable[[socket.socket], None] | None = None
    ) -> None:
        super().__init__(name)
        self._sockets = sockets
        self._tune = tune
        self._waker = Waker()
        self._lock = threading.Lock()
        self._accepting = 0
        self._closed = False
        self._addresses = [_socket_address(sock) for sock in sockets]
        paths = [sock.getsockname() for sock in sockets if sock.family == socket.AF_UNIX]
        self._paths = [(path, _inode(path)) for path in paths]
        for sock in sockets:
            sock.setblocking(False)

    @property
    def socket_addresses(self) -> list[SocketAddressDict]:
        return [dict(address) for address in self._addresses]

    def accept(self) -> Channel:
        with self._lock:
            if self._closed:
                raise ChannelError(f"Unable to accept on {self.name}: the listener is closed")
            self._accepting += 1
        try:
            return self._accept()
        finally:
            with self._lock:
                self._accepting -= 1
                last = self._closed and not self._accepting
            if last:
                self._waker.close()

    def _accept(self) -> Channel:
        poller = select.poll()
        try:
            poller.register(self._waker, select.POLLIN)
            for sock in self._sockets:
                poller.register(sock, select.POLLIN)
            while not self._waker.is_set:
                ready = {fd for fd, _ in poller.poll()}
                for listening in self._sockets:
                    if listening.fileno() not in ready or self._waker.is_set:
                        continue
                    try:
                        sock, peer = listening.accept()
                    except (BlockingIOError, ConnectionAbortedError):
                        continue  # that peer has gone again
                    if self._tune is not None:
                        self._tune(sock)
                    return SocketChannel(sock, self.name + (f" (from {_peer_name(peer)})" if peer else ""))
        except (OSError, ValueError) as error:
            if not self._waker.is_set:
                why = reason(error) if isinstance(error, OSError) else str(error)
                raise ChannelError(f"Unable to accept on {self.name}: {why}") from error
        raise ChannelError(f"Unable to accept on {self.name}: the listener is closed")

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._waker.set()
            idle = not self._accepting
        if idle:
            self._waker.close()
        for path, inode in self._paths:
            if inode is not None and _inode(path) == inode:
                os.unlink(path)
        for sock in self._sockets:
            sock.close()


def _inode(path: str) -> tuple[int, int] | None:
    """Which socket ``path`` is: (device, inode); None when it is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def _peer_name(peer: tuple[str, int] | str) -> str:
    if isinstance(peer, str):
        return peer
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _socket_address(sock: socket.socket) -> SocketAddressDict:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return {"type": "unix", "path": name}
    version = "ipv6" if sock.family == socket.AF_INET6 else "ipv4"
    return {"type": "inet", "host": name[0], "port": str(name[1]), version: True}


def listen_inet(address: InetAddress) -> SocketListener:
    """Listen on every address of the host, at one port: the first of ``port``..``to`` that is free.

    Port 0 is any free one, an empty host every address of this machine. Raises ChannelError.
    """
    targets = _resolve(address, passive=True)
    if not address.host:  # "::" first: bound without V6ONLY it serves IPv4 as well
        targets.sort(key=lambda target: target[0] != socket.AF_INET6)
    dual = not address.host and address.ipv4 is not False and address.ipv6 is not False
    failure: OSError | None = None
    first_port = targets[0][1][1]
    for port in range(first_port, max(first_port, address.to or 0) + 1):
        sockets: list[socket.socket] = []
        for family, sockaddr in targets:
            taken = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(_bind(family, (sockaddr[0], taken, *sockaddr[2:]), dual=dual))
            except OSError as error:
                failure = failure or error
                continue
            if dual and family == socket.AF_INET6:
                break
        if sockets:
            real = replace(address, port=str(sockets[0].getsockname()[1]), to=None)
            return SocketListener(str(real), sockets, lambda sock: _tune(sock, address))
    why = reason(failure) if failure else "the host has no address"
    raise ChannelError(f"Failed to listen on '{address.host}:{address.port}': {why}") from failure


def _bind(family: int, sockaddr: object, *, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        sock.bind(sockaddr)  # type: ignore[arg-type]
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(address: UnixAddress) -> SocketListener:
    """Listen on a path; a socket left there is replaced, nothing else is. Raises ChannelError."""
    _check_unix_path(address.path)
    try:
        if _inode(address.path) is not None:
            os.unlink(address.path)
        sock = _bind(socket.AF_UNIX, address.path)
    except OSError as error:
        raise ChannelError(f"Failed to bind socket to {address.path}: {reason(error)}") from error
    return SocketListener(str(address), [sock])

"""What of a host socket can be made again on another host: for the migration of ``sockets.Socket``.

Sockets that follow: unconnected ones, bound or not, of AF_INET and AF_INET6; listening ones without a connection that
waits; unbound ones of AF_UNIX and AF_NETLINK; both ends of a socketpair, or one whose other end is closed, with the
bytes or messages in them. A connection has a peer that knows nothing of the move: it stays where it is.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from dataclasses import dataclass
from typing import Any

SO_PEEK_OFF = 42
"""recv(MSG_PEEK) goes on where the last one ended."""
TCP_LISTEN, TCP_CLOSE = 10, 7
_PIECE = 1 << 20
_DESCRIPTORS = 253
INTERNET = (int(socket.AF_INET), int(socket.AF_INET6))


@dataclass(frozen=True)
class Waiting:
    """What was sent to a socket and not read: bytes of a stream in one piece, or messages."""

    messages: list[bytes]
    descriptors: bool
    """With descriptors among it."""


def waiting(sock: socket.socket) -> Waiting:
    """Look at what waits in a socket of AF_UNIX; it stays there."""
    stream = sock.type == socket.SOCK_STREAM
    messages: list[bytes] = []
    descriptors = False
    sock.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
    try:
        while True:
            data, control, _, _ = sock.recvmsg(_PIECE, socket.CMSG_SPACE(4 * _DESCRIPTORS), socket.MSG_PEEK)
            for level, kind, content in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors = True
                    for fd in array.array("i", content[: len(content) & ~3]):
                        os.close(fd)
            if not data:
                break                      # the end, or an empty message, behind which none can be looked at
            messages.append(data)
    except BlockingIOError:
        pass
    finally:
        sock.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, -1)
    return Waiting([b"".join(messages)] if stream and messages else messages, descriptors)


def state(sock: socket.socket) -> int:
    """TCP's state of a stream: TCP_CLOSE is neither connected nor listening."""
    if int(sock.family) in INTERNET and sock.type == socket.SOCK_STREAM:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return TCP_LISTEN if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else TCP_CLOSE


def peer(sock: socket.socket) -> str | None:
    """The address of the peer, None without one."""
    try:
        value = sock.getpeername()
    except OSError as error:
        return None if error.errno in (errno.ENOTCONN, errno.EINVAL, errno.EOPNOTSUPP) else "somebody"
    return text(value)


def local(sock: socket.socket) -> Any:
    """The address it is bound to, None for a socket that is not bound."""
    value = sock.getsockname()
    if int(sock.family) in INTERNET:
        return list(value) if value[1] else None
    return value if value and value != (0, 0) else None


def text(address: Any) -> str:
    """An address as people write it."""
    if isinstance(address, bytes):
        return address.decode("utf-8", "replace").replace("\0", "@")
    if isinstance(address, tuple | list):
        host = str(address[0])
        return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    return str(address) or "its other end"


def give_way(sock: socket.socket, *, listening: bool) -> None:
    """Let a socket elsewhere on this very host have the address: nothing is accepted here from now on."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listening:
        sock.shutdown(socket.SHUT_RDWR)


def take_place(sock: socket.socket, address: list[Any], backlog: int | None) -> None:
    """Be bound there, and listen. Raises OSError."""
    reuse = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(tuple(address))
    if backlog is not None:
        sock.listen(backlog)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)


def refill(sender: socket.socket, messages: list[bytes]) -> None:
    """Send what shall wait at the other end. Raises OSError when it does not take it."""
    total = sum(map(len, messages))
    if total > sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 4:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * total)
    for message in messages:
        if sender.send(message) != len(message):
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

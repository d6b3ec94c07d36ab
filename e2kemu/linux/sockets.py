"""Sockets of the host behind a guest's descriptors, and socket addresses of both.

Each host socket is non-blocking; waiting is the calls' business. What can be made again elsewhere follows a migration
(``socket_moves.py``). Names of AF_UNIX sockets are guest paths: they reach
the host as /proc/self/fd/N/name with a directory that the sandbox gave, and are translated back when shown.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from e2kemu import trace
from e2kemu.linux import constants as c
from e2kemu.linux import paths
from e2kemu.linux import socket_moves as moves
from e2kemu.linux.error import POLLHUP, POLLIN, LinuxError
from e2kemu.linux.files import LOADERS, OpenFile, Saved
from e2kemu.linux.hostfile import poll_host
from e2kemu.linux.umask import umask_of

if TYPE_CHECKING:
    from e2kemu.linux.files import FileTable
    from e2kemu.linux.task import Process, Task

UNIX_PATH = 108
"""Bytes of sun_path."""
_guest_names: dict[str, str] = {}
"""Host name of an AF_UNIX socket -> guest path."""


class Socket(OpenFile):
    """An open socket."""

    kind = "socket"

    def __init__(self, sock: socket.socket, flags: int) -> None:
        super().__init__(flags & c.O_NONBLOCK | c.O_RDWR, "", sock.fileno())
        sock.setblocking(False)
        self.sock = sock
        self.message = sock.type != socket.SOCK_STREAM
        self.receive_timeout = 0
        self.send_timeout = 0
        self.bound = b""
        """sun_path as the guest gave it to bind()."""
        self.peer = b""
        """sun_path as the guest gave it to connect()."""
        self.tried = False
        """connect() was called."""
        self.connecting = False
        """An attempt to connect (of AF_INET, AF_INET6) goes on, or its end was not told."""
        self.twin: Socket | None = None
        """The other end of a socketpair."""
        self.backlog = 0
        """As of listen()."""
        self.shut = 0
        """What was shut down: 1 reading, 2 writing."""
        self.options: dict[tuple[int, int], bytes] = {}
        """What the guest has set, in order."""
        self._gave_way: list[Any] | None = None
        """Its state was taken: the address that another one may have now."""
        self._refill: list[bytes] = []

    def read(self, size: int) -> bytes:
        return self.sock.recv(min(size, 1 << 20))

    def ended(self, offset: int | None = None) -> bool:
        try:
            return not self.message and not self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return False

    def write(self, data: bytes) -> int:
        return self.sock.send(data[:1 << 20], socket.MSG_NOSIGNAL)

    def poll(self) -> int:
        return poll_host(self.host_fd)

    def timeout(self, *, write: bool) -> int | None:
        return (self.send_timeout if write else self.receive_timeout) or None

    def available(self) -> int:
        return int(struct.unpack("i", fcntl.ioctl(self.host_fd, c.IOCTLS["FIONREAD"], bytes(4)))[0])

    def ioctl(self, task: Task, request: int, argument: int) -> int:
        if request in (c.IOCTLS["TIOCOUTQ"], c.IOCTLS["SIOCATMARK"]):
            task.memory.write(argument, fcntl.ioctl(self.host_fd, request, bytes(4)))
            return 0
        raise LinuxError(errno.ENOTTY)

    def name(self) -> str:
        return f"socket:[{os.fstat(self.host_fd).st_ino}]"

    def close(self) -> None:
        self.sock.close()
        self.host_fd = -1

    # -- migration

    def blocker(self, table: FileTable) -> str | None:
        sock = self.sock
        if self.twin is not None:
            if not self.twin.references and not poll_host(self.host_fd) & POLLHUP:
                return "socket whose other end is in another process"
            return "socket with descriptors in it" if moves.waiting(sock).descriptors else None
        name = f"socket {moves.text(local)}" if (local := moves.local(sock)) else "socket"
        if (peer := moves.peer(sock)) is not None:
            return f"{name} connected to {peer}"
        state = moves.state(sock)
        if self.tried or self.shut or state not in (moves.TCP_CLOSE, moves.TCP_LISTEN):
            return f"{name} that was connected or is about to be"
        if int(sock.family) not in moves.INTERNET:
            return f"{name} of {sock.family.name}" if local else None
        if self.poll() & POLLIN:
            return f"{name} with {'a connection that was not accepted' if self.backlog else 'unread datagrams'}"
        return None

    def save(self) -> Saved:
        sock = self.sock
        saved: Saved = {
            "family": int(sock.family), "type": int(sock.type), "protocol": sock.proto, "shut": self.shut,
            "timeouts": json.dumps([self.receive_timeout, self.send_timeout]),
            "options": json.dumps([[*key, value.hex()] for key, value in self.options.items()])}
        if self.twin is not None:
            number = min(id(self), id(self.twin))
            return saved | {"pair": number, "end": int(id(self) != number),
                            "data": json.dumps([message.hex() for message in moves.waiting(sock).messages])}
        local = moves.local(sock)
        listening = moves.state(sock) == moves.TCP_LISTEN
        if local:
            moves.give_way(sock, listening=listening)
            self._gave_way = local
        return saved | {"address": json.dumps(local), "backlog": self.backlog if listening else -1}

    def go_on(self) -> None:
        if self._gave_way is None:
            return
        key = socket.SOL_SOCKET, socket.SO_REUSEADDR
        try:
            with suppress(OSError):        # it is still bound, unless the host had chosen the port
                self.sock.bind(tuple(self._gave_way))
            if self.backlog:
                self.sock.listen(self.backlog)
        except OSError as error:
            trace.unimp(f"socket {moves.text(self._gave_way)} does not listen any more: {error.strerror}")
        self.sock.setsockopt(*key, self.options.get(key, bytes(4)))
        self._gave_way = None

    def loaded(self, table: FileTable) -> None:
        twin = self.twin
        if twin is not None:
            for receiver, sender in ((self, twin), (twin, self)):
                moves.refill(sender.sock, receiver._refill)
                receiver._refill = []
        if self.shut:
            self.sock.shutdown(self.shut - 1)


def pair(kind: int, one: socket.socket, two: socket.socket) -> tuple[Socket, Socket]:
    """Both ends of a socketpair."""
    first, second = Socket(one, kind), Socket(two, kind)
    first.twin, second.twin = second, first
    return first, second


def _load(saved: Saved, process: Process, shared: dict[object, object]) -> OpenFile:
    family, kind, protocol = (int(saved[name]) for name in ("family", "type", "protocol"))
    if family not in (c.AF_UNIX, c.AF_INET, c.AF_INET6, c.AF_NETLINK):
        raise ValueError(f"socket family {family}")
    if "pair" in saved:
        ends = [("socket", saved["pair"], end) for end in (0, 1)]
        if ends[0] not in shared:
            shared[ends[0]], shared[ends[1]] = pair(0, *socket.socketpair(family, kind, protocol))
        sock = shared[ends[bool(saved["end"])]]
        assert isinstance(sock, Socket)
        sock._refill = [bytes.fromhex(message) for message in json.loads(str(saved["data"]))]
    else:
        if process.sandbox.deny_net:
            raise LinuxError(errno.EACCES)
        sock = Socket(socket.socket(family, kind, protocol), 0)
    try:
        sock.flags = int(saved["flags"])
        for level, option, value in json.loads(str(saved["options"])):
            sock.options[int(level), int(option)] = bytes.fromhex(value)
            sock.sock.setsockopt(int(level), int(option), bytes.fromhex(value))
        sock.receive_timeout, sock.send_timeout = (int(ns) for ns in json.loads(str(saved["timeouts"])))
        sock.shut = int(saved["shut"])
        if "pair" not in saved and (address := json.loads(str(saved["address"]))):
            backlog = int(saved["backlog"])
            sock.backlog = max(backlog, 0)
            moves.take_place(sock.sock, address, backlog if backlog >= 0 else None)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"{error.strerror} (socket {saved.get('address', '')})") from None
    return sock


LOADERS["socket"] = _load


def get(task: Task, fd: int) -> Socket:
    """The socket ``fd``. Raises EBADF, ENOTSOCK."""
    file = task.files.get(fd)
    if isinstance(file, Socket):
        return file
    if file.kind in ("std", "socketfile") and stat.S_ISSOCK(file.status().st_mode):
        duplicate = Socket(socket.socket(fileno=os.dup(file.host_fd)), file.flags)
        task.files.set(fd, duplicate)
        return duplicate
    raise LinuxError(errno.ENOTSOCK)


def _unix_name(raw: bytes) -> bytes:
    return raw if raw[:1] == b"\0" else raw.partition(b"\0")[0]


class HostAddress:
    """A guest's socket address as the host's ``socket`` module takes it; close it after use (it may hold a
    directory descriptor)."""

    def __init__(self, task: Task, sock: Socket, data: bytes, *, create: bool = False) -> None:
        self.fds: list[int] = []
        self.path = b""
        if len(data) < (3 if sock.sock.family == socket.AF_UNIX and not create else 2):
            raise LinuxError(errno.EINVAL)
        family = int.from_bytes(data[:2], "little")
        self.family = family
        if family != int(sock.sock.family) and family != c.AF_UNSPEC:
            least = {c.AF_INET: 16, c.AF_INET6: 24}.get(int(sock.sock.family))
            raise LinuxError(errno.EINVAL if least is None or len(data) < least else errno.EAFNOSUPPORT)
        self.value: Any = None
        if family == c.AF_UNIX:
            self.path = _unix_name(data[2:])
            self.value = self._unix(task, create)
        elif family == c.AF_INET:
            if len(data) < 16:
                raise LinuxError(errno.EINVAL)
            self.value = (socket.inet_ntop(socket.AF_INET, data[4:8]), int.from_bytes(data[2:4], "big"))
        elif family == c.AF_INET6:
            if len(data) < 24:
                raise LinuxError(errno.EINVAL)
            scope = int.from_bytes(data[24:28], "little") if len(data) >= 28 else 0
            flow = int.from_bytes(data[4:8], "big") & 0xFFFFF
            self.value = (socket.inet_ntop(socket.AF_INET6, data[8:24]), int.from_bytes(data[2:4], "big"), flow, scope)
        elif family == c.AF_NETLINK:
            if len(data) < 12:
                raise LinuxError(errno.EINVAL)
            self.value = struct.unpack("<II", data[4:12])
        elif family != c.AF_UNSPEC:
            raise LinuxError(errno.EAFNOSUPPORT)

    def _unix(self, task: Task, create: bool) -> Any:
        if not self.path:
            if create:
                return ""
            raise LinuxError(errno.ECONNREFUSED)
        if self.path[:1] == b"\0":
            return self.path
        with paths.at(task.process, c.AT_FDCWD, os.fsdecode(self.path), follow=not create) as place:
            place.on_host()
            if create:
                if task.process.sandbox.read_only and place.status is None:
                    raise LinuxError(errno.EROFS)
                if place.status is not None:
                    raise LinuxError(errno.EADDRINUSE)
                self.fds.append(os.dup(place.fd))
                host = f"/proc/self/fd/{self.fds[0]}/{place.name}"
                _guest_names[host] = place.guest
            else:
                if not stat.S_ISSOCK(place.existing().st_mode):
                    raise LinuxError(errno.ECONNREFUSED)
                self.fds.append(place.open_path())
                host = f"/proc/self/fd/{self.fds[0]}"
        if len(os.fsencode(host)) >= UNIX_PATH:
            raise LinuxError(errno.ENAMETOOLONG)
        return host

    def __enter__(self) -> HostAddress:
        return self

    def __exit__(self, *exception: object) -> None:
        for fd in self.fds:
            os.close(fd)


def bind(task: Task, sock: Socket, data: bytes) -> None:
    """bind(2)."""
    with HostAddress(task, sock, data, create=True) as address:
        if address.family == c.AF_UNSPEC:
            raise LinuxError(errno.EAFNOSUPPORT)
        with umask_of(task.process):
            sock.sock.bind(address.value)
        sock.bound = address.path


def to_guest(family: int, value: Any) -> bytes:
    """The bytes of a socket address of the host (what the ``socket`` module gives for ``family``)."""
    head = family.to_bytes(2, "little")
    if family == c.AF_UNIX:
        if isinstance(value, str):
            value = os.fsencode(_guest_names.get(value, value))
        name = bytes(value or b"")
        return head + name + (b"\0" if name and name[:1] != b"\0" else b"")
    if family == c.AF_INET:
        host, port = str(value[0]), int(value[1])
        return head + port.to_bytes(2, "big") + socket.inet_pton(socket.AF_INET, host) + bytes(8)
    if family == c.AF_INET6:
        host, port, flow, scope = str(value[0]), int(value[1]), int(value[2]), int(value[3])
        return (head + port.to_bytes(2, "big") + flow.to_bytes(4, "big")
                + socket.inet_pton(socket.AF_INET6, host.partition("%")[0]) + scope.to_bytes(4, "little"))
    if family == c.AF_NETLINK:
        return head + bytes(2) + struct.pack("<II", *value)
    return head


def local_name(sock: Socket) -> bytes:
    """getsockname(2)."""
    family = int(sock.sock.family)
    if family == c.AF_UNIX and sock.bound:
        return to_guest(family, sock.bound)
    return to_guest(family, sock.sock.getsockname())


def peer_name(sock: Socket) -> bytes:
    """getpeername(2)."""
    family = int(sock.sock.family)
    value = sock.sock.getpeername()
    return to_guest(family, sock.peer if family == c.AF_UNIX and sock.peer else value)

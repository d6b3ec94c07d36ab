"""Sockets. They are the host's, never waited for by the host; ``--deny-net`` leaves only pairs of AF_UNIX sockets."""

from __future__ import annotations

import errno
import socket

from e2kemu.linux import constants as c
from e2kemu.linux import host_calls, sockets
from e2kemu.linux.calls.common import blocking, install, wait_for
from e2kemu.linux.calls.message import given_address, store_address
from e2kemu.linux.error import POLLIN, POLLOUT, LinuxError
from e2kemu.linux.sockets import HostAddress, Socket
from e2kemu.linux.structs import TIMEVAL
from e2kemu.linux.table import CALLS, syscall
from e2kemu.linux.task import Task

FAMILY_BYTES = 2
"""The least that an address has."""
ANY_ADDRESS = {socket.AF_INET: ("127.0.0.1", 1), socket.AF_INET6: ("::1", 1)}
"""Family -> an address that is well formed."""
_REFUSED_OPTIONS = {(c.SOL_SOCKET, c.SOCKET_OPTIONS[n]) for n in (
    "SO_ATTACH_FILTER", "SO_ATTACH_BPF", "SO_ATTACH_REUSEPORT_CBPF", "SO_ATTACH_REUSEPORT_EBPF")} | {(6, 35)}
"""Options whose value holds pointers of the guest."""
NETFILTER_OPTIONS = 64
"""From here on the options of SOL_IP and SOL_IPV6 are netfilter's, with pointers."""


def _families(family: int) -> None:
    if family not in (c.AF_UNIX, c.AF_INET, c.AF_INET6, c.AF_NETLINK):
        raise LinuxError(errno.EAFNOSUPPORT)


def _type(kind: int) -> int:
    if kind & ~(c.SOCK_TYPE_MASK | c.SOCK_NONBLOCK | c.SOCK_CLOEXEC):
        raise LinuxError(errno.EINVAL)
    return kind & c.SOCK_TYPE_MASK


@syscall("socket", "domain:family type:socket_type protocol:int")
def socket_(task: Task, domain: int, kind: int, protocol: int) -> int:
    host = _type(kind)
    if task.process.sandbox.deny_net:
        raise LinuxError(errno.EACCES)
    _families(domain)
    return install(task, Socket(socket.socket(domain, host, protocol), kind), kind)


@syscall("socketpair", "domain:family type:socket_type protocol:int fds:fd_pair")
def socketpair(task: Task, domain: int, kind: int, protocol: int, fds: int) -> int:
    host = _type(kind)
    if domain != c.AF_UNIX:
        raise LinuxError(errno.EACCES if task.process.sandbox.deny_net else errno.EOPNOTSUPP)
    task.memory.check_write(fds, 8)
    one, two = sockets.pair(kind, *socket.socketpair(domain, host, protocol))
    try:
        first = install(task, one, kind)
    except LinuxError:
        two.close()
        raise
    try:
        second = install(task, two, kind)
    except LinuxError:
        task.files.close(first)
        raise
    task.memory.pack("ii", fds, first, second)
    return 0


@syscall("bind", "fd:fd address:sockaddr size:int")
def bind(task: Task, fd: int, address: int, size: int) -> int:
    sockets.bind(task, sockets.get(task, fd), given_address(task, address, size))
    return 0


def _attempt(task: Task, sock: Socket, data: bytes) -> int:
    """Try to connect, or ask how the attempt before has ended: 0 or an error. While there is one nobody looks at the
    address, and its outcome can be asked for once: as in Linux."""
    try:
        host = HostAddress(task, sock, data)
    except LinuxError:
        if sock.connecting and len(data) >= FAMILY_BYTES:
            return sock.sock.connect_ex(ANY_ADDRESS[sock.sock.family])
        raise
    with host:
        if host.family == c.AF_UNSPEC:
            host_calls.dissolve(sock.host_fd)
            sock.tried, sock.peer = False, b""
            return 0
        sock.tried = True
        error = sock.sock.connect_ex(host.value)
        if error in (0, errno.EINPROGRESS):
            sock.peer = host.path
    return error


@syscall("connect", "fd:fd address:sockaddr size:int")
def connect(task: Task, fd: int, address: int, size: int) -> int:
    sock = sockets.get(task, fd)
    error = _attempt(task, sock, given_address(task, address, size))
    sock.connecting = error in (errno.EINPROGRESS, errno.EALREADY)
    begun = error == errno.EINPROGRESS or (error == errno.EALREADY and task.progress < 0)
    if (begun or error == errno.EAGAIN) and not sock.nonblocking:
        task.progress = -1 if begun else 0
        wait_for(task, sock, POLLOUT, write=True)
    if error:
        raise LinuxError(error)
    return 0


@syscall("listen", "fd:fd backlog:int")
def listen(task: Task, fd: int, backlog: int) -> int:
    sock = sockets.get(task, fd)
    sock.sock.listen(max(0, backlog))
    sock.backlog = max(1, min(backlog, 1 << 16))
    return 0


def _accept(task: Task, fd: int, address: int, size: int, flags: int) -> int:
    if flags & ~(c.SOCK_NONBLOCK | c.SOCK_CLOEXEC):
        raise LinuxError(errno.EINVAL)
    sock = sockets.get(task, fd)
    connection, peer = blocking(task, sock, POLLIN, sock.sock.accept)
    new = Socket(connection, flags)
    new.bound = sock.bound
    number = install(task, new, flags)
    try:
        store_address(task, sockets.to_guest(int(sock.sock.family), peer), address, size)
    except LinuxError:
        task.files.close(number)
        raise
    return number


@syscall("accept", "fd:fd address:addr size:addr")
def accept(task: Task, fd: int, address: int, size: int) -> int:
    return _accept(task, fd, address, size, 0)


@syscall("getsockname", "fd:fd address:addr size:addr")
def getsockname(task: Task, fd: int, address: int, size: int) -> int:
    store_address(task, sockets.local_name(sockets.get(task, fd)), address, size)
    return 0


@syscall("getpeername", "fd:fd address:addr size:addr")
def getpeername(task: Task, fd: int, address: int, size: int) -> int:
    store_address(task, sockets.peer_name(sockets.get(task, fd)), address, size)
    return 0


@syscall("shutdown", "fd:fd how:shutdown")
def shutdown(task: Task, fd: int, how: int) -> int:
    sock = sockets.get(task, fd)
    if how not in (0, 1, 2):
        raise LinuxError(errno.EINVAL)
    sock.sock.shutdown(how)
    sock.shut |= how + 1
    return 0


def _check_option(level: int, option: int) -> None:
    if (level, option) in _REFUSED_OPTIONS or (level in (0, 41) and option >= NETFILTER_OPTIONS):
        raise LinuxError(errno.ENOPROTOOPT)


_TIMEOUTS = {c.SOCKET_OPTIONS["SO_RCVTIMEO"]: "receive_timeout", c.SOCKET_OPTIONS["SO_SNDTIMEO"]: "send_timeout"}


@syscall("setsockopt", "fd:fd level:sol option:so value:addr size:int")
def setsockopt(task: Task, fd: int, level: int, option: int, value: int, size: int) -> int:
    sock = sockets.get(task, fd)
    _check_option(level, option)
    if not 0 <= size <= 4096:
        raise LinuxError(errno.EINVAL)
    if level == c.SOL_SOCKET and option in _TIMEOUTS:
        if size < TIMEVAL.size(task.process.pointer_size):
            raise LinuxError(errno.EINVAL)
        given = TIMEVAL.read(task.memory, value)
        if not 0 <= given["usec"] < 10**6:
            raise LinuxError(errno.EDOM)
        setattr(sock, _TIMEOUTS[option], max(0, given["sec"]) * 10**9 + given["usec"] * 1000)
        return 0
    data = task.memory.read(value, size)
    sock.sock.setsockopt(level, option, data)
    sock.options[level, option] = data
    return 0


@syscall("getsockopt", "fd:fd level:sol option:so value:addr size:addr")
def getsockopt(task: Task, fd: int, level: int, option: int, value: int, size: int) -> int:
    sock = sockets.get(task, fd)
    _check_option(level, option)
    space = task.memory.i32(size)
    if space < 0:
        raise LinuxError(errno.EINVAL)
    if level == c.SOL_SOCKET and option in _TIMEOUTS:
        ns = getattr(sock, _TIMEOUTS[option])
        data = TIMEVAL.pack(task.process.pointer_size, sec=ns // 10**9, usec=ns % 10**9 // 1000)[:space]
    else:
        data = sock.sock.getsockopt(level, option, max(1, min(space, 1024)))
        assert isinstance(data, bytes)
        data = data[:space]
    task.memory.write(value, data)
    task.memory.write_u32(size, len(data))
    return 0


SOCKETCALLS = (None, "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair",
               "send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg",
               "accept4", "recvmmsg", "sendmmsg")
"""Names by the number that socketcall takes."""
_ARGUMENTS = (0, 3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 5, 4)


@syscall("socketcall", "call:socketcall arguments:addr")
def socketcall(task: Task, call: int, arguments: int) -> int:
    """The old way: the number of the call and its arguments in memory, each of the program's pointer size."""
    if not 1 <= call < len(SOCKETCALLS):
        raise LinuxError(errno.EINVAL)
    name, pointer = SOCKETCALLS[call], task.process.pointer_size
    values = [task.memory.pointer(arguments + n * pointer) for n in range(_ARGUMENTS[call])]
    if name == "accept4":
        fd, flags = (int.from_bytes((v & 0xFFFFFFFF).to_bytes(4, "little"), "little", signed=True)
                     for v in (values[0], values[3]))
        return _accept(task, fd, values[1], values[2], flags)
    if name in ("send", "recv"):
        name, values = {"send": "sendto", "recv": "recvfrom"}[name], [*values, 0, 0]
    known = next(k for k in CALLS.values() if k.name == name)
    return known.handler(task, *(a.convert(v, pointer) for a, v in zip(known.arguments, values, strict=True)))

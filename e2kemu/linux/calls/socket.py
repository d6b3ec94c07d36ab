"""Sockets. They are the host's, never waited for by the host; ``--deny-net`` leaves only pairs of AF_UNIX sockets."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from typing import Any

from e2kemu.linux import constants as c
from e2kemu.linux import host_calls, sockets
from e2kemu.linux.calls.common import (
    PIECE,
    Vector,
    blocking,
    gather,
    install,
    room,
    scatter,
    vector,
    wait_for,
)
from e2kemu.linux.calls.poll import timespec
from e2kemu.linux.error import POLLIN, POLLOUT, LinuxError
from e2kemu.linux.files import OpenFile
from e2kemu.linux.hostfile import wrap
from e2kemu.linux.sockets import HostAddress, Socket
from e2kemu.linux.structs import CMSGHDR, MMSGHDR, MSGHDR, TIMEVAL
from e2kemu.linux.table import CALLS, syscall
from e2kemu.linux.task import Task

FAMILY_BYTES = 2
"""The least that an address has."""
ANY_ADDRESS = {socket.AF_INET: ("127.0.0.1", 1), socket.AF_INET6: ("::1", 1)}
"""Family -> an address that is well formed."""
ADDRESS_MAX = 128
"""Bytes of the largest socket address (sockaddr_storage)."""
_FLAGS_TO_HOST = ~(c.MESSAGE_FLAGS["MSG_DONTWAIT"] | c.MESSAGE_FLAGS["MSG_CMSG_CLOEXEC"]
                   | c.MESSAGE_FLAGS["MSG_WAITALL"] | c.MESSAGE_FLAGS["MSG_NOSIGNAL"])
_PEEK, _WAITALL, _DONTWAIT = (c.MESSAGE_FLAGS[n] for n in ("MSG_PEEK", "MSG_WAITALL", "MSG_DONTWAIT"))
_TRUNC, _CTRUNC, _NOSIGNAL = (c.MESSAGE_FLAGS[n] for n in ("MSG_TRUNC", "MSG_CTRUNC", "MSG_NOSIGNAL"))
_CMSG_CLOEXEC = c.MESSAGE_FLAGS["MSG_CMSG_CLOEXEC"]
SCM_RIGHTS, SCM_MAX_FD = 1, 253
Control = list[tuple[int, int, bytes]]
"""Ancillary data: (level, type, content)."""
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


def _address(task: Task, address: int, size: int) -> bytes:
    if not 0 <= size <= ADDRESS_MAX:
        raise LinuxError(errno.EINVAL)
    return task.memory.read(address, size)


def _store_address(task: Task, data: bytes, address: int, size_at: int) -> None:
    """Give an address back: cut to the room there is, with its full size."""
    if not address:
        return
    space = task.memory.i32(size_at)
    if space < 0:
        raise LinuxError(errno.EINVAL)
    task.memory.write(address, data[:space])
    task.memory.write_u32(size_at, len(data))


@syscall("bind", "fd:fd address:sockaddr size:int")
def bind(task: Task, fd: int, address: int, size: int) -> int:
    sockets.bind(task, sockets.get(task, fd), _address(task, address, size))
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
    error = _attempt(task, sock, _address(task, address, size))
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
        _store_address(task, sockets.to_guest(int(sock.sock.family), peer), address, size)
    except LinuxError:
        task.files.close(number)
        raise
    return number


@syscall("accept", "fd:fd address:addr size:addr")
def accept(task: Task, fd: int, address: int, size: int) -> int:
    return _accept(task, fd, address, size, 0)


@syscall("getsockname", "fd:fd address:addr size:addr")
def getsockname(task: Task, fd: int, address: int, size: int) -> int:
    _store_address(task, sockets.local_name(sockets.get(task, fd)), address, size)
    return 0


@syscall("getpeername", "fd:fd address:addr size:addr")
def getpeername(task: Task, fd: int, address: int, size: int) -> int:
    _store_address(task, sockets.peer_name(sockets.get(task, fd)), address, size)
    return 0


@syscall("shutdown", "fd:fd how:shutdown")
def shutdown(task: Task, fd: int, how: int) -> int:
    if how not in (0, 1, 2):
        raise LinuxError(errno.EINVAL)
    sock = sockets.get(task, fd)
    sock.sock.shutdown(how)
    sock.shut |= how + 1
    return 0


def _send(task: Task, sock: Socket, pieces: Vector, flags: int, address: bytes, control: Control) -> int:
    """Send the pieces; on a stream everything, however long it takes. ``control`` goes with the first bytes."""
    size = sum(length for _, length in pieces)
    stream = not sock.message
    if not stream and size > PIECE:
        raise LinuxError(errno.EMSGSIZE)
    done = task.progress
    task.no_sigpipe = bool(flags & _NOSIGNAL) or not stream
    wait = not flags & _DONTWAIT
    while True:
        try:
            data = gather(task, pieces, done)
            count = _send_once(task, sock, data, flags, address, control if not done else [])
        except BlockingIOError:
            if done and (sock.nonblocking or not wait):
                return done
            if not wait:
                raise LinuxError(errno.EAGAIN) from None
            task.progress = done
            wait_for(task, sock, POLLOUT, write=True)
        except (LinuxError, OSError):
            if done:
                return done
            raise
        done += count
        if not stream or done >= size:
            return done


def _send_once(task: Task, sock: Socket, data: bytes, flags: int, address: bytes, control: Control) -> int:
    host_flags = flags & _FLAGS_TO_HOST | socket.MSG_NOSIGNAL
    if not address:
        return sock.sock.sendmsg([data], control, host_flags)
    with HostAddress(task, sock, address) as host:
        return sock.sock.sendmsg([data], control, host_flags, host.value)


@syscall("sendto", "fd:fd buf:buf size:size flags:msg_flags address:sockaddr addrlen:int")
def sendto(task: Task, fd: int, buf: int, size: int, flags: int, address: int, addrlen: int) -> int:
    sock = sockets.get(task, fd)
    data = _address(task, address, addrlen) if address else b""
    return _send(task, sock, [(buf, min(size, c.MAX_TRANSFER))], flags, data, [])


def _receive(task: Task, sock: Socket, size: int, flags: int, control_size: int) -> tuple[bytes, list[Any], int, Any]:
    """One message, or what a stream has."""

    def once() -> tuple[bytes, list[Any], int, Any]:
        return sock.sock.recvmsg(min(size, PIECE), control_size, flags & _FLAGS_TO_HOST | _CMSG_CLOEXEC)

    if flags & _DONTWAIT:
        try:
            return once()
        except BlockingIOError:
            raise LinuxError(errno.EAGAIN) from None
    return blocking(task, sock, POLLIN, once)


def _waitall(task: Task, sock: Socket, pieces: Vector, size: int, flags: int) -> int:
    """MSG_WAITALL of a stream: what came so far is stored at once, and counted in ``task.progress``."""
    done = task.progress
    while done < size:
        try:
            data = sock.sock.recv(min(size - done, PIECE), flags & _FLAGS_TO_HOST)
        except BlockingIOError:
            task.progress = done
            if sock.nonblocking or flags & _DONTWAIT:
                if done:
                    return done
                raise LinuxError(errno.EAGAIN) from None
            wait_for(task, sock, POLLIN)
            raise AssertionError from None
        if not data:
            break
        scatter(task, _behind(pieces, done), data)
        done += len(data)
    return done


def _behind(pieces: Vector, skip: int) -> Vector:
    result = []
    for address, size in pieces:
        step = min(skip, size)
        result.append((address + step, size - step))
        skip -= step
    return result


@syscall("recvfrom", "fd:fd buf:received size:size flags:msg_flags address:addr addrlen:addr")
def recvfrom(task: Task, fd: int, buf: int, size: int, flags: int, address: int, addrlen: int) -> int:
    sock = sockets.get(task, fd)
    pieces = [(buf, min(size, c.MAX_TRANSFER))]
    wanted = room(task, pieces)
    if flags & _WAITALL and not flags & _PEEK and sock.sock.type == socket.SOCK_STREAM:
        return _waitall(task, sock, pieces, wanted, flags)
    whole = _whole_size(sock) if flags & _TRUNC and sock.message else 0
    data, _, _, sender = _receive(task, sock, wanted, flags & ~(_WAITALL | (_TRUNC if whole else 0)), 0)
    real = max(whole, len(data))
    scatter(task, pieces, data)
    name = b"" if sender is None else sockets.to_guest(int(sock.sock.family), sender)
    _store_address(task, name, address, addrlen)
    return real


def _whole_size(sock: Socket) -> int:
    """The size of the next message; 0 when there is none."""
    try:
        return sock.sock.recv_into(bytearray(1), 1, _PEEK | _TRUNC)
    except OSError:
        return 0


def _control_messages(task: Task, address: int, size: int) -> Control:
    """The guest's ancillary data, with descriptors as the host's."""
    pointer = task.process.pointer_size
    head = CMSGHDR.size(pointer)
    found: Control = []
    data = task.memory.read(address, size)
    position = 0
    while position + head <= size:
        item = CMSGHDR.unpack(pointer, data[position:position + head])
        if not head <= item["len"] <= size - position:
            raise LinuxError(errno.EINVAL)
        content = data[position + head:position + item["len"]]
        if (item["level"], item["type"]) == (c.SOL_SOCKET, SCM_RIGHTS):
            fds = array.array("i", content[:len(content) & ~3])
            content = array.array("i", [task.files.get(fd).host() for fd in fds]).tobytes()
        elif item["level"] == c.SOL_SOCKET:
            raise LinuxError(errno.EINVAL)
        found.append((item["level"], item["type"], content))
        position += (item["len"] + pointer - 1) // pointer * pointer
    return found


def _wrap_received(host_fd: int) -> OpenFile:
    """An open file for a descriptor that came in a message; its flags are the host's, but for blocking."""
    mode = os.fstat(host_fd).st_mode
    flags = os.get_blocking(host_fd)
    os.set_inheritable(host_fd, False)
    if stat.S_ISSOCK(mode):
        return Socket(socket.socket(fileno=host_fd), 0 if flags else c.O_NONBLOCK)
    return wrap(host_fd, fcntl.fcntl(host_fd, fcntl.F_GETFL) & c.O_ACCMODE, "")


def _store_control(task: Task, messages: Control, address: int, size: int, flags: int) -> tuple[int, int]:
    """Store ancillary data: (bytes used, MSG_CTRUNC when not all fitted)."""
    pointer = task.process.pointer_size
    head = CMSGHDR.size(pointer)
    used, truncated = 0, 0
    for level, kind, content in messages:
        if (level, kind) == (c.SOL_SOCKET, SCM_RIGHTS):
            hosts = array.array("i", content[:len(content) & ~3])
            fit = max(0, min(len(hosts), (size - used - head) // 4))
            truncated |= _CTRUNC if fit < len(hosts) else 0
            for host in hosts[fit:]:
                os.close(host)
            cloexec = c.O_CLOEXEC if flags & _CMSG_CLOEXEC else 0
            content = array.array("i", [install(task, _wrap_received(h), cloexec) for h in hosts[:fit]]).tobytes()
            if not fit:
                continue
        if used + head + len(content) > size:
            truncated |= _CTRUNC
            content = content[:max(0, size - used - head)]
            if not content:
                break
        record = CMSGHDR.pack(pointer, len=head + len(content), level=level, type=kind) + content
        task.memory.write(address + used, record)
        used = min(size, used + (len(record) + pointer - 1) // pointer * pointer)
    return used, truncated


def _header(task: Task, address: int) -> dict[str, int]:
    header = MSGHDR.read(task.memory, address)
    if header["iovlen"] > c.IOV_MAX:
        raise LinuxError(errno.EMSGSIZE)
    return header


def _sendmsg(task: Task, fd: int, message: int, flags: int) -> int:
    sock = sockets.get(task, fd)
    header = _header(task, message)
    name = _address(task, header["name"], header["namelen"]) if header["name"] and header["namelen"] else b""
    control = _control_messages(task, header["control"], header["controllen"]) if header["controllen"] else []
    return _send(task, sock, vector(task, header["iov"], header["iovlen"]), flags, name, control)


@syscall("sendmsg", "fd:fd message:msghdr flags:msg_flags")
def sendmsg(task: Task, fd: int, message: int, flags: int) -> int:
    return _sendmsg(task, fd, message, flags)


def _recvmsg(task: Task, fd: int, message: int, flags: int) -> int:
    sock = sockets.get(task, fd)
    header = _header(task, message)
    pieces = vector(task, header["iov"], header["iovlen"])
    wanted = room(task, pieces)
    space = socket.CMSG_SPACE(SCM_MAX_FD * 4) if header["controllen"] else 0
    data, control, result_flags, sender = _receive(task, sock, wanted, flags, space)
    scatter(task, pieces, data)
    used, truncated = _store_control(task, control, header["control"], header["controllen"], flags)
    name = b"" if sender is None else sockets.to_guest(int(sock.sock.family), sender)
    if header["name"]:
        task.memory.write(header["name"], name[:max(0, header["namelen"])])
    result_flags &= ~_CMSG_CLOEXEC
    MSGHDR.write(task.memory, message, **(header | {
        "namelen": len(name) if header["name"] else header["namelen"], "controllen": used,
        "flags": result_flags | truncated}))
    return len(data)


@syscall("recvmsg", "fd:fd message:msghdr flags:msg_flags")
def recvmsg(task: Task, fd: int, message: int, flags: int) -> int:
    return _recvmsg(task, fd, message, flags)


def _many(task: Task, messages: int, count: int, one: Callable[[int], int]) -> int:
    """sendmmsg and recvmmsg: message after message, until one would have to wait. What is done survives a wait, for
    none happens behind the first."""
    pointer = task.process.pointer_size
    size, length = MMSGHDR.size(pointer), MMSGHDR.offset("len", pointer)
    done = 0
    while done < min(count, c.IOV_MAX):
        try:
            moved = one(messages + done * size)
        except (LinuxError, OSError):
            if done:
                break
            raise
        task.memory.write_u32(messages + done * size + length, moved)
        done += 1
    return done


@syscall("sendmmsg", "fd:fd messages:addr count:uint flags:msg_flags")
def sendmmsg(task: Task, fd: int, messages: int, count: int, flags: int) -> int:
    first = messages

    def one(message: int) -> int:
        return _sendmsg(task, fd, message, flags if message == first else flags | _DONTWAIT)

    return _many(task, messages, count, one)


@syscall("recvmmsg", "fd:fd messages:addr count:uint flags:msg_flags timeout:timespec")
def recvmmsg(task: Task, fd: int, messages: int, count: int, flags: int, timeout: int) -> int:
    timespec(task, timeout)
    first = messages

    def one(message: int) -> int:
        return _recvmsg(task, fd, message, flags if message == first else flags | _DONTWAIT)

    return _many(task, messages, count, one)


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

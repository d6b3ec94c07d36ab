"""Messages of sockets: sending, receiving, what goes beside the bytes."""

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
from e2kemu.linux import sockets
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
from e2kemu.linux.structs import CMSGHDR, MMSGHDR, MSGHDR
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

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


def given_address(task: Task, address: int, size: int) -> bytes:
    """The bytes of a socket address. Raises EINVAL, EFAULT."""
    if not 0 <= size <= ADDRESS_MAX:
        raise LinuxError(errno.EINVAL)
    return task.memory.read(address, size)


def store_address(task: Task, data: bytes, address: int, size_at: int) -> None:
    """Give an address back: cut to the room there is, with its full size."""
    if not address:
        return
    space = task.memory.i32(size_at)
    if space < 0:
        raise LinuxError(errno.EINVAL)
    task.memory.write(address, data[:space])
    task.memory.write_u32(size_at, len(data))


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
    data = given_address(task, address, addrlen) if address else b""
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
    store_address(task, name, address, addrlen)
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
    name = given_address(task, header["name"], header["namelen"]) if header["name"] and header["namelen"] else b""
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

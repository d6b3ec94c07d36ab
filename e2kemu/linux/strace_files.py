"""How ``--strace`` shows the arguments of the calls about files, sockets, waiting, time and settings."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from e2kemu.linux import constants as c
from e2kemu.linux.error import LinuxError
from e2kemu.linux.strace import LONGEST_TEXT, flags_text, quoted
from e2kemu.linux.structs import (
    EPOLL_EVENT,
    IOVEC,
    ITIMERSPEC,
    MSGHDR,
    POLLFD,
    STAT,
    STAT64,
    TIMESPEC,
    TIMEVAL,
    Struct,
)
from e2kemu.linux.table import Call, formatter
from e2kemu.linux.task import Task

SHOWN = 16
"""Items of an array that are shown."""
FILE_KINDS = {c.S_IFREG: "S_IFREG", c.S_IFDIR: "S_IFDIR", c.S_IFLNK: "S_IFLNK", c.S_IFCHR: "S_IFCHR",
              c.S_IFIFO: "S_IFIFO", c.S_IFSOCK: "S_IFSOCK", 0o060000: "S_IFBLK"}
Arguments = tuple[int, ...]


def _enum(kind: str, names: dict[str, int]) -> None:
    """A kind whose values have names."""
    by_value = {names[name]: name for name in reversed(names)}

    @formatter(kind)
    def show(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
        return by_value.get(value) or by_value.get(value & 0xFFFFFFFF, str(value))


def _flags(kind: str, names: Iterable[tuple[str, int]]) -> None:
    """A kind made of bits."""
    known = tuple(names)

    @formatter(kind)
    def show(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
        return flags_text(value & 0xFFFFFFFF, known) if value else "0"


_enum("seek", c.SEEK)
_enum("fcntl", c.FCNTL)
_enum("ioctl", c.IOCTLS)
_enum("family", c.FAMILIES)
_enum("shutdown", c.SHUTDOWN)
_enum("sol", c.SOCKET_LEVELS)
_enum("clock", c.CLOCKS)
_enum("rlimit", c.RESOURCES)
_enum("prctl", c.PRCTL)
_enum("epoll_op", c.EPOLL_OPERATIONS)
_enum("rusage_who", {"RUSAGE_SELF": 0, "RUSAGE_CHILDREN": -1, "RUSAGE_THREAD": 1})
_flags("at_flags", c.AT_FLAGS.items())
_flags("msg_flags", c.MESSAGE_FLAGS.items())
_flags("flock", {"LOCK_SH": 1, "LOCK_EX": 2, "LOCK_NB": 4, "LOCK_UN": 8}.items())
_flags("event_flags", {"EFD_SEMAPHORE": 1, "EFD_NONBLOCK": c.O_NONBLOCK, "EFD_CLOEXEC": c.O_CLOEXEC}.items())


@formatter("fd")
def _fd(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    return "AT_FDCWD" if value == c.AT_FDCWD else str(value)


@formatter("received")
def _received(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    """A buffer with what the call has stored there: as many bytes as its result says."""
    if result < 0:
        return _pointer(value)
    try:
        return quoted(task.memory.read(value, min(result, LONGEST_TEXT + 1)))
    except LinuxError:
        return _pointer(value)


@formatter("open_flags")
def _open_flags(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    rest = flags_text(value & 0xFFFFFFFF & ~c.O_ACCMODE, c.OPEN_FLAGS.items()) if value & ~c.O_ACCMODE else ""
    if not call.name.startswith("open"):
        return rest or "0"
    mode = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[value & c.O_ACCMODE]
    return f"{mode}|{rest}" if rest else mode


@formatter("open_mode")
def _open_mode(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    """Only shown where open(2) uses it."""
    flags = args[[a.kind for a in call.arguments].index("open_flags")]
    return f"0{value & 0xFFFFFFFF:o}" if flags & c.O_CREAT or flags & c.O_TMPFILE == c.O_TMPFILE else ""


@formatter("access")
def _access(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    return flags_text(value, [(n, v) for n, v in c.ACCESS_MODES.items() if v]) if value else "F_OK"


@formatter("fcntl_arg")
def _fcntl_argument(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    command = next((name for name, number in c.FCNTL.items() if number == args[1]), "")
    if command.startswith("F_GET") and "LK" not in command:
        return ""
    if command == "F_SETFD":
        return "FD_CLOEXEC" if value == c.FD_CLOEXEC else str(value)
    if command == "F_SETFL":
        return flags_text(value & ~c.O_ACCMODE, c.OPEN_FLAGS.items()) if value & ~c.O_ACCMODE else "0"
    return hex(value) if "LK" in command else str(value)


_SOCKET_FLAGS = {"SOCK_NONBLOCK": c.SOCK_NONBLOCK, "SOCK_CLOEXEC": c.SOCK_CLOEXEC}


@formatter("socket_type")
def _socket_type(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    names = {number: name for name, number in c.SOCKET_TYPES.items()}
    kind = names.get(value & c.SOCK_TYPE_MASK, hex(value & c.SOCK_TYPE_MASK))
    flags = value & ~c.SOCK_TYPE_MASK
    return "|".join([kind, flags_text(flags, _SOCKET_FLAGS.items())]) if flags else kind


@formatter("so")
def _socket_option(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    names = {number: name for name, number in c.SOCKET_OPTIONS.items()}
    return names.get(value, hex(value)) if args[1] == c.SOL_SOCKET else str(value)


def _pointer(value: int) -> str:
    return hex(value) if value else "NULL"


def address_text(data: bytes) -> str:
    """A socket address: ``{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}``."""
    family = int.from_bytes(data[:2], "little")
    name = next((n for n, number in c.FAMILIES.items() if number == family), str(family))
    text = f"sa_family={name}"
    if family == c.AF_UNIX:
        path = data[2:]
        abstract = path[:1] == b"\0"
        text += ", sun_path=" + ("@" + quoted(path[1:], 108) if abstract else quoted(path.partition(b"\0")[0], 108))
    elif family == c.AF_INET and len(data) >= 8:
        text += (f", sin_port=htons({int.from_bytes(data[2:4], 'big')}), "
                 f'sin_addr=inet_addr("{socket.inet_ntop(socket.AF_INET, data[4:8])}")')
    elif family == c.AF_INET6 and len(data) >= 24:
        text += (f", sin6_port=htons({int.from_bytes(data[2:4], 'big')}), "
                 f'inet_pton(AF_INET6, "{socket.inet_ntop(socket.AF_INET6, data[8:24])}", &sin6_addr)')
    return "{" + text + "}"


@formatter("sockaddr")
def _sockaddr(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    size = args[[a.kind for a in call.arguments].index("sockaddr") + 1]
    try:
        return address_text(task.memory.read(value, size)) if value and 2 <= size <= 128 else _pointer(value)
    except LinuxError:
        return _pointer(value)


def _array(task: Task, address: int, count: int, layout: Struct) -> list[dict[str, int]]:
    size = layout.size(task.process.pointer_size)
    return [layout.read(task.memory, address + n * size) for n in range(min(count, SHOWN))]


def _list(items: list[str], count: int) -> str:
    return "[" + ", ".join(items + (["..."] if count > len(items) else [])) + "]"


@formatter("pollfds")
def _pollfds(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    try:
        items = _array(task, value, args[1], POLLFD)
    except LinuxError:
        return _pointer(value)
    shown = []
    for item in items:
        asked = flags_text(item["events"] & 0xFFFF, c.POLL_EVENTS.items()) if item["events"] else "0"
        text = f"fd={item['fd']}, events={asked}"
        if result > 0 and item["revents"]:
            text += f", revents={flags_text(item['revents'] & 0xFFFF, c.POLL_EVENTS.items())}"
        shown.append("{" + text + "}")
    return _list(shown, args[1])


@formatter("fd_set")
def _fd_set(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    if not value or not 0 <= args[0] <= 1024:
        return _pointer(value)
    try:
        bits = int.from_bytes(task.memory.read(value, (args[0] + 7) // 8), "little")
    except LinuxError:
        return _pointer(value)
    return "[" + " ".join(str(fd) for fd in range(args[0]) if bits >> fd & 1) + "]"


@formatter("epoll_event")
def _epoll_event(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    try:
        event = EPOLL_EVENT.read(task.memory, value)
    except LinuxError:
        return _pointer(value)
    return f"{{events={flags_text(event['events'], c.EPOLL_EVENTS.items())}, data={event['data']:#x}}}"


def _time(kind: str, layout: Struct, text: str) -> None:
    @formatter(kind)
    def show(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
        try:
            return "{" + text.format(**layout.read(task.memory, value)) + "}"
        except LinuxError:
            return _pointer(value)


_time("timespec", TIMESPEC, "tv_sec={sec}, tv_nsec={nsec}")
_time("timeval", TIMEVAL, "tv_sec={sec}, tv_usec={usec}")
_time("itimerspec", ITIMERSPEC, "it_interval={{tv_sec={interval_sec}, tv_nsec={interval_nsec}}}, "
                                "it_value={{tv_sec={value_sec}, tv_nsec={value_nsec}}}")


def _stat(kind: str, layout: Struct) -> None:
    @formatter(kind)
    def show(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
        try:
            found = layout.read(task.memory, value)
        except LinuxError:
            return _pointer(value)
        if result < 0:
            return _pointer(value)
        mode = found["mode"]
        name = FILE_KINDS.get(mode & c.S_IFMT, oct(mode & c.S_IFMT))
        return f"{{st_mode={name}|0{mode & 0o7777:o}, st_size={found['size']}, ...}}"


_stat("stat", STAT)
_stat("stat64", STAT64)


@formatter("fd_pair")
def _fd_pair(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    if result < 0:
        return _pointer(value)
    first, second = task.memory.unpack("ii", value)
    return f"[{first}, {second}]"


def _vector_text(task: Task, address: int, count: int, shown: int | None) -> str:
    """An I/O vector; ``shown``: bytes to show in all (None: all of them)."""
    items = []
    for item in _array(task, address, count, IOVEC):
        size = item["len"] if shown is None else min(item["len"], shown)
        if shown is not None:
            shown -= size
        items.append(f"{{iov_base={quoted(task.memory.read(item['base'], min(size, 33)))}, iov_len={item['len']}}}")
    return _list(items, count)


@formatter("iovec")
@formatter("iovec_out")
def _iovec(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    read = "read" in call.name
    try:
        return _vector_text(task, value, args[2], max(result, 0) if read else None)
    except LinuxError:
        return _pointer(value)


@formatter("msghdr")
def _msghdr(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    try:
        header = MSGHDR.read(task.memory, value)
        vector = _vector_text(task, header["iov"], header["iovlen"], max(result, 0) if call.name == "recvmsg" else None)
        name = task.memory.read(header["name"], header["namelen"]) if header["name"] and header["namelen"] > 1 else b""
    except LinuxError:
        return _pointer(value)
    address = address_text(name) if name else "NULL"
    return (f"{{msg_name={address}, msg_namelen={header['namelen']}, msg_iov={vector}, msg_iovlen={header['iovlen']}, "
            f"msg_controllen={header['controllen']}, msg_flags={header['flags']}}}")


@formatter("high")
def _high(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    """The upper half of an offset: only 32-bit programs have it in a register of its own."""
    return "" if task.process.pointer_size == 8 else hex(value & 0xFFFFFFFF)


@formatter("socketcall")
def _socketcall(task: Task, value: int, call: Call, args: Arguments, result: int) -> str:
    from e2kemu.linux.calls.socket import SOCKETCALLS

    return f"SYS_{(SOCKETCALLS[value] or '').upper()}" if 0 < value < len(SOCKETCALLS) else str(value)


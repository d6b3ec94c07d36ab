"""Structures of Linux/e2k's system calls, declared once as text: ``name:type`` in the order of memory.

Types: ``u8 u16 u32 u64 i16 i32 i64``, ``long ulong`` (of the program's pointer size), ``type[n]`` (bytes for ``u8``;
other arrays are padding or reserved and written as zeros). Each field is aligned to its own size, as the e2k compilers
do in both flavours (64-bit items are 8-byte aligned in 32-bit programs too, unlike i386), and nothing is packed:
``epoll_event`` has 16 bytes. Where the 32-bit flavour is a structure of its own, it is given second.

Source of the layouts: Linux' generic uapi headers and, for stat and the 32-bit forms, arch/e2k's stat.h and compat.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2kemu.linux.memory import Memory

_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "i32": "i", "i64": "q"}
_BITS = {code: 8 * struct.calcsize("<" + code) for code in _CODES.values()}
Value = int | bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """A structure of one flavour."""

    names: tuple[str, ...]
    codes: tuple[str, ...]
    """The codec's letter of each name."""
    codec: struct.Struct
    offsets: dict[str, int]


def _layout(fields: str, pointer_size: int) -> Layout:
    text, names, offsets = "<", [], {}
    position, widest = 0, 1
    for item in fields.split():
        name, kind = item.split(":")
        kind, _, count = kind.rstrip("]").partition("[")
        if kind in ("long", "ulong"):
            kind = kind.replace("long", "") or "i"
            kind = f"{kind}{pointer_size * 8}"
        code = _CODES[kind]
        size = struct.calcsize("<" + code)
        padding = -position % size
        offsets[name] = position + padding
        widest = max(widest, size)
        if not count:
            text += f"{padding}x{code}"
            names.append(name)
        elif kind == "u8":
            text += f"{padding}x{count}s"
            names.append(name)
        else:
            text += f"{padding}x{int(count) * size}x"
        position += padding + size * int(count or 1)
    text += f"{-position % widest}x"
    codes = tuple(letter for letter in text if letter.isalpha() and letter != "x")
    return Layout(tuple(names), codes, struct.Struct(text), offsets)


class Struct:
    """One structure in both flavours."""

    def __init__(self, fields: str, fields32: str | None = None) -> None:
        self._layouts = {8: _layout(fields, 8), 4: _layout(fields32 or fields, 4)}

    def size(self, pointer_size: int) -> int:
        """Bytes."""
        return self._layouts[pointer_size].codec.size

    def offset(self, name: str, pointer_size: int) -> int:
        """Byte offset of the field ``name``."""
        return self._layouts[pointer_size].offsets[name]

    def pack(self, pointer_size: int, **values: Value) -> bytes:
        """The bytes; fields without a value are zero, numbers are cut to the field. A flavour ignores values it has
        no field for."""
        layout = self._layouts[pointer_size]
        out: list[Value] = []
        for name, code in zip(layout.names, layout.codes, strict=True):
            value = values.get(name, b"" if code == "s" else 0)
            out.append(value if isinstance(value, bytes) else _cut(value, code))
        return layout.codec.pack(*out)

    def unpack(self, pointer_size: int, data: bytes) -> dict[str, int]:
        """The numbers in ``data`` by name."""
        layout = self._layouts[pointer_size]
        return {name: value for name, value in zip(layout.names, layout.codec.unpack(data), strict=True)
                if isinstance(value, int)}

    def read(self, memory: Memory, address: int) -> dict[str, int]:
        """The numbers of the structure at ``address`` of a process. Raises LinuxError(EFAULT)."""
        return self.unpack(memory.pointer_size, memory.read(address, self.size(memory.pointer_size)))

    def write(self, memory: Memory, address: int, **values: Value) -> None:
        """Store one at ``address`` of a process. Raises LinuxError(EFAULT)."""
        memory.write(address, self.pack(memory.pointer_size, **values))


def _cut(value: int, code: str) -> int:
    bits = _BITS[code]
    value &= (1 << bits) - 1
    return value - (1 << bits) if code.islower() and value >> bits - 1 else value


_STAT_TIMES = "atime:long atime_nsec:ulong mtime:long mtime_nsec:ulong ctime:long ctime_nsec:ulong"
STAT = Struct(
    "dev:u32 ino:ulong mode:u32 nlink:u32 uid:u32 gid:u32 rdev:u32 size:i64 blksize:i64 blocks:i64 " + _STAT_TIMES,
    "dev:u16 ino:u32 mode:u16 nlink:i16 uid:u16 gid:u16 rdev:u16 size:i32 " + _STAT_TIMES
    + " blksize:i32 blocks:i32 unused:u32[2]")
STAT64 = Struct(
    "dev:u64 ino:u64 mode:u32 nlink:u32 uid:u32 gid:u32 rdev:u64 size:u64 blksize:u32 unused:u32 blocks:u64 "
    "atime:i32 atime_nsec:u32 mtime:i32 mtime_nsec:u32 ctime:i32 ctime_nsec:u32")
STATX = Struct(
    "mask:u32 blksize:u32 attributes:u64 nlink:u32 uid:u32 gid:u32 mode:u16 spare0:u16 ino:u64 size:u64 blocks:u64 "
    "attributes_mask:u64 atime:i64 atime_nsec:u32 pad1:i32 btime:i64 btime_nsec:u32 pad2:i32 ctime:i64 ctime_nsec:u32 "
    "pad3:i32 mtime:i64 mtime_nsec:u32 pad4:i32 rdev_major:u32 rdev_minor:u32 dev_major:u32 dev_minor:u32 mnt_id:u64 "
    "spare:u64[13]")
_STATFS = ("type:{0} bsize:{0} blocks:{1} bfree:{1} bavail:{1} files:{1} ffree:{1} fsid0:i32 fsid1:i32 namelen:{0} "
           "frsize:{0} flags:{0} spare:{0}[4]")
STATFS = Struct(_STATFS.format("long", "ulong"), _STATFS.format("i32", "i32"))
STATFS64 = Struct(_STATFS.format("long", "u64"))
DIRENT = Struct("ino:ulong off:ulong reclen:u16")
DIRENT64 = Struct("ino:u64 off:i64 reclen:u16 type:u8")
FLOCK = Struct("type:i16 whence:i16 start:long len:long pid:i32")
FLOCK64 = Struct("type:i16 whence:i16 start:i64 len:i64 pid:i32")

TIMESPEC = Struct("sec:long nsec:long")
TIMESPEC64 = Struct("sec:i64 nsec:i64")
TIMEVAL = Struct("sec:long usec:long")
TIMEZONE = Struct("minuteswest:i32 dsttime:i32")
ITIMERSPEC = Struct("interval_sec:long interval_nsec:long value_sec:long value_nsec:long")
SIGEVENT = Struct("value:ulong signo:i32 notify:i32 tid:i32")
"""The head of struct sigevent, which has 64 bytes."""
UTIMBUF = Struct("actime:long modtime:long")
TMS = Struct("utime:long stime:long cutime:long cstime:long")
RUSAGE = Struct("utime_sec:long utime_usec:long stime_sec:long stime_usec:long maxrss:long ixrss:long idrss:long "
                "isrss:long minflt:long majflt:long nswap:long inblock:long oublock:long msgsnd:long msgrcv:long "
                "nsignals:long nvcsw:long nivcsw:long")
RLIMIT = Struct("cur:ulong max:ulong")
RLIMIT64 = Struct("cur:u64 max:u64")
UTSNAME = Struct("sysname:u8[65] nodename:u8[65] release:u8[65] version:u8[65] machine:u8[65] domainname:u8[65]")
OLD_UTSNAME = Struct("sysname:u8[65] nodename:u8[65] release:u8[65] version:u8[65] machine:u8[65]")
SYSINFO = Struct("uptime:long loads:ulong[3] totalram:ulong freeram:ulong sharedram:ulong bufferram:ulong "
                 "totalswap:ulong freeswap:ulong procs:u16 pad:u16 totalhigh:ulong freehigh:ulong mem_unit:u32",
                 "uptime:long loads:ulong[3] totalram:ulong freeram:ulong sharedram:ulong bufferram:ulong "
                 "totalswap:ulong freeswap:ulong procs:u16 pad:u16 totalhigh:ulong freehigh:ulong mem_unit:u32 f:u8[8]")
CAP_HEADER = Struct("version:u32 pid:i32")
SCHED_PARAM = Struct("priority:i32")
SCHED_ATTR = Struct("size:u32 policy:i32 flags:u64 nice:i32 priority:u32 runtime:u64 deadline:u64 period:u64")

IOVEC = Struct("base:ulong len:ulong")
MSGHDR = Struct("name:ulong namelen:i32 iov:ulong iovlen:ulong control:ulong controllen:ulong flags:i32")
MMSGHDR = Struct("name:ulong namelen:i32 iov:ulong iovlen:ulong control:ulong controllen:ulong flags:i32 pad:ulong[0] "
                 "len:u32")
CMSGHDR = Struct("len:ulong level:i32 type:i32")
POLLFD = Struct("fd:i32 events:i16 revents:i16")
EPOLL_EVENT = Struct("events:u32 data:u64")
SIGNALFD_SIGINFO = Struct("signo:u32 errno:i32 code:i32 pid:u32 uid:u32 fd:i32 tid:u32 band:u32 overrun:u32 "
                          "trapno:u32 status:i32 int:i32 ptr:u64 utime:u64 stime:u64 addr:u64 pad:u8[48]")
TERMIOS = Struct("iflag:u32 oflag:u32 cflag:u32 lflag:u32 line:u8 cc:u8[19]")
WINSIZE = Struct("row:u16 col:u16 xpixel:u16 ypixel:u16")

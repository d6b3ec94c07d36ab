"""The same system calls on the host's kernel and in a guest, for tests/linux/test_calls_differential.py.

A scenario is a function that makes calls with ``Told``, which keeps the result of each as text: names of errors, "ok"
where only success counts. The host's side runs in a process of its own (this module as a program); the guest's side is
``agent.s``, told over pipes what to call.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

from elftools.elf.elffile import ELFFile

from e2kemu.linux import constants as c
from e2kemu.linux.numbers import NUMBERS

AT = c.AT_FDCWD
PIECE = 2048
"""Bytes that go to the agent at once."""
X86 = {"read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11,
    "rt_sigaction": 13, "rt_sigprocmask": 14, "ioctl": 16, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20,
    "access": 21, "sched_yield": 24, "mremap": 25, "msync": 26, "mincore": 27, "madvise": 28, "dup": 32, "dup2": 33,
    "nanosleep": 35, "getitimer": 36, "alarm": 37, "setitimer": 38, "getpid": 39, "sendfile": 40,
    "socket": 41, "clone": 56,
    "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "shutdown": 48, "bind": 49, "listen": 50,
    "getsockname": 51, "getpeername": 52, "socketpair": 53, "setsockopt": 54, "getsockopt": 55, "wait4": 61,
    "kill": 62, "uname": 63, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77,
    "getcwd": 79, "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87,
    "readlink": 89, "chmod": 90, "fchmod": 91, "chown": 92, "umask": 95, "gettimeofday": 96, "getrlimit": 97,
    "getrusage": 98, "sysinfo": 99, "times": 100, "setpgid": 109, "getpgid": 121, "getsid": 124, "rt_sigpending": 127,
    "rt_sigtimedwait": 128, "rt_sigqueueinfo": 129, "sigaltstack": 131, "mknod": 133, "personality": 135,
    "statfs": 137, "fstatfs": 138, "getpriority": 140, "setpriority": 141, "sched_setparam": 142,
    "sched_getparam": 143, "sched_setscheduler": 144, "sched_getscheduler": 145, "sched_get_priority_max": 146,
    "sched_get_priority_min": 147, "sched_rr_get_interval": 148, "mlock": 149, "munlock": 150, "prctl": 157,
    "setrlimit": 160, "readahead": 187, "setxattr": 188, "getxattr": 191, "listxattr": 194, "removexattr": 197,
    "tkill": 200, "time": 201, "futex": 202, "sched_setaffinity": 203, "sched_getaffinity": 204, "epoll_create": 213,
    "getdents64": 217, "set_tid_address": 218, "fadvise64": 221, "timer_create": 222, "timer_settime": 223,
    "timer_gettime": 224, "timer_getoverrun": 225, "timer_delete": 226, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "epoll_wait": 232, "epoll_ctl": 233, "tgkill": 234, "waitid": 247, "ioprio_set": 251,
    "ioprio_get": 252, "inotify_add_watch": 254, "inotify_rm_watch": 255, "openat": 257, "mkdirat": 258,
    "mknodat": 259, "fchownat": 260, "newfstatat": 262, "unlinkat": 263, "renameat": 264, "linkat": 265,
    "symlinkat": 266, "readlinkat": 267, "fchmodat": 268, "faccessat": 269, "pselect6": 270, "ppoll": 271,
    "set_robust_list": 273, "get_robust_list": 274, "splice": 275, "tee": 276, "sync_file_range": 277,
    "vmsplice": 278, "utimensat": 280, "epoll_pwait": 281, "timerfd_create": 283, "fallocate": 285,
    "timerfd_settime": 286, "timerfd_gettime": 287, "signalfd4": 289, "eventfd2": 290, "epoll_create1": 291,
    "dup3": 292, "pipe2": 293, "inotify_init1": 294, "preadv": 295, "prlimit64": 302, "getcpu": 309,
    "sched_setattr": 314, "sched_getattr": 315, "renameat2": 316, "getrandom": 318, "memfd_create": 319,
    "membarrier": 324, "mlock2": 325, "copy_file_range": 326, "preadv2": 327, "pwritev2": 328, "statx": 332}
"""Numbers of calls on x86_64."""
HOST_CONSTANTS = {name: getattr(os, name) for name in dir(os) if name.startswith("O_")} | {
    "O_TMPFILE": 0o20200000, "MAP_ANONYMOUS": 0x20, "MAP_FIXED": 0x10}
GUEST_CONSTANTS = {"MAP_ANONYMOUS": 0x10, "MAP_FIXED": 0x100}


class Kernel(Protocol):
    """Somebody who makes system calls."""

    name: str

    def put(self, data: bytes) -> int:
        """The address of ``data``."""

    def read(self, address: int, size: int) -> bytes:
        """Memory."""

    def const(self, name: str) -> int:
        """A constant by its name in C."""

    def call(self, name: str, *arguments: int | bytes) -> int:
        """The result, -errno when it failed; bytes are paths."""


class Host:
    """This process."""

    name = "host"

    def __init__(self) -> None:
        self.kept: list[ctypes.Array[ctypes.c_char]] = []
        self.library = ctypes.CDLL(None, use_errno=True)
        self.library.syscall.restype = ctypes.c_long

    def put(self, data: bytes) -> int:
        self.kept.append(ctypes.create_string_buffer(data, len(data)))
        return ctypes.addressof(self.kept[-1])

    def read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)

    def const(self, name: str) -> int:
        return int(HOST_CONSTANTS[name])

    def call(self, name: str, *arguments: int | bytes) -> int:
        values = [self.put(a + b"\0") if isinstance(a, bytes) else a for a in arguments]
        result = int(self.library.syscall(ctypes.c_long(X86[name]), *map(ctypes.c_long, values)))
        return -ctypes.get_errno() if result == -1 else result


class Guest:
    """The agent in the emulator, started in the folder ``cwd``."""

    name = "guest"

    def __init__(self, agent: str, cwd: str) -> None:
        with open(agent, "rb") as stream:
            (area,) = ELFFile(stream).get_section_by_name(".symtab").get_symbol_by_name("area")
        self.next = int(area["st_value"])
        self.process = subprocess.Popen([sys.executable, "-m", "e2kemu.run_cli", agent], cwd=cwd,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin
        assert self.process.stdout
        self.to, self.back = self.process.stdin, self.process.stdout

    def _ask(self, number: int, *arguments: int) -> None:
        padded = (number, *arguments, *[0] * (6 - len(arguments)))
        self.to.write(struct.pack("<7Q", *[value & (1 << 64) - 1 for value in padded]))
        self.to.flush()

    def _result(self) -> int:
        return int.from_bytes(self.back.read(8), "little", signed=True)

    def put(self, data: bytes) -> int:
        address = self.next
        self.next += len(data) + -len(data) % 16
        done = 0
        while done < len(data):
            part = data[done:done + PIECE]
            self._ask(NUMBERS["read"], 0, address + done, len(part))
            self.to.write(part)
            self.to.flush()
            assert self._result() == len(part)
            done += len(part)
        return address

    def read(self, address: int, size: int) -> bytes:
        self._ask(NUMBERS["write"], 1, address, size)
        data = self.back.read(size)
        assert self._result() == size
        return data

    def const(self, name: str) -> int:
        return int(GUEST_CONSTANTS.get(name) or getattr(c, name))

    def call(self, name: str, *arguments: int | bytes) -> int:
        values = [self.put(a + b"\0") if isinstance(a, bytes) else a for a in arguments]
        self._ask(NUMBERS[name], *values)
        return self._result()

    def end(self) -> None:
        """No more calls."""
        self.to.close()
        self.back.close()
        self.process.wait(30)


class Told:
    """Makes calls and keeps what they gave."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.lines: list[tuple[str, str]] = []
        """(the call, its result) in order."""

    def __call__(self, name: str, *arguments: int | bytes, fd: bool = False, any: bool = False,
                 buf: tuple[int, int] | None = None) -> int:
        """Make a call. ``fd``, ``any``: only whether it succeeds counts; ``buf``: what is then there (address, size)
        counts, too."""
        result = self.kernel.call(name, *arguments)
        shown = "ok" if (fd or any) and result >= 0 else errno.errorcode.get(-result, str(result))
        if buf:
            shown += " " + self.kernel.read(*buf).hex()
        asked = ["#" if isinstance(a, int) and abs(a) >> 24 else a for a in arguments]
        self.lines.append((f"{name}{asked}", shown))
        return result


Scenario = Callable[[Kernel], Told]


def on_host(scenario: Scenario, cwd: str) -> list[tuple[str, str]]:
    """What the host's kernel says."""
    command = [sys.executable, "-m", "tests.linux.differential", scenario.__module__, scenario.__name__, cwd]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, timeout=60)
    return [(call, result) for call, result in json.loads(done.stdout)]


def in_guest(scenario: Scenario, agent: str, cwd: str) -> list[tuple[str, str]]:
    """What the emulated one says."""
    guest = Guest(agent, cwd)
    try:
        return scenario(guest).lines
    finally:
        guest.end()


if __name__ == "__main__":
    wanted = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    os.chdir(sys.argv[3])
    told: Told = wanted(Host())
    sys.stdout.write(json.dumps(told.lines))

"""``--strace``: a line for each system call and signal, made from the table's signatures.

    [tid] openat(AT_FDCWD, "/etc/motd", O_RDONLY) = 3
    [tid] --- SIGSEGV {si_code=1, si_addr=0x10} ---
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from e2kemu.linux.error import LinuxError
from e2kemu.linux.siginfo import SigInfo, signal_name
from e2kemu.linux.table import FORMATTERS, Call, formatter
from e2kemu.linux.task import PendingCall, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_TEXT = 32
"""Bytes of a buffer that are shown."""
LONGEST_PATH = 4096

COUNTS = ("count", "size", "len", "length", "nbytes", "n")
"""Names of the arguments that say how long a buffer is."""


def quoted(data: bytes, limit: int = LONGEST_TEXT) -> str:
    """``"text\\n"...``"""
    text = "".join(
        {10: "\\n", 9: "\\t", 13: "\\r", 34: '\\"', 92: "\\\\"}.get(b, chr(b) if 32 <= b < 127 else f"\\{b:o}")
        for b in data[:limit])
    return f'"{text}"' + ("..." if len(data) > limit else "")


def flags_text(value: int, names: Iterable[tuple[str, int]]) -> str:
    """Flags by name, the rest in hexadecimal."""
    found = []
    for name, bits in names:
        if bits and value & bits == bits:
            found.append(name)
            value &= ~bits
    return "|".join(found + ([hex(value)] if value or not found else []))


@formatter("addr")
@formatter("out")
def _address(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return hex(value) if value else "NULL"


@formatter("hex")
@formatter("ulong")
def _hex(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return hex(value)


@formatter("octal")
def _octal(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return f"0{value & 0xFFFFFFFF:o}" if value else "0"


@formatter("path")
def _path(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    try:
        return quoted(task.memory.cstring(value, LONGEST_PATH), LONGEST_PATH)
    except LinuxError:
        return hex(value) if value else "NULL"


@formatter("buf")
def _buffer(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    names = [argument.name for argument in call.arguments]
    size = next((args[names.index(name)] for name in COUNTS if name in names), 0)
    if call.name.startswith(("read", "recv", "pread", "getrandom", "getcwd", "readlink")):
        size = max(result, 0)
    try:
        return quoted(task.memory.read(value, min(size, LONGEST_TEXT + 1)))
    except LinuxError:
        return hex(value) if value else "NULL"


@formatter("signal")
def _signal(task: Task, value: int, call: Call, args: tuple[int, ...], result: int) -> str:
    return signal_name(value) if 0 < value <= 64 else str(value)


class Tracer:
    """Writes the lines of one process by ``write``."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown: str | None = None

    def before(self, task: Task, call: Call, args: tuple[int, ...]) -> None:
        """A call is about to replace the program: its arguments can only be looked at now."""
        self._shown = self._arguments(task, call, args, 0)

    def done(self, task: Task, call: Call, args: tuple[int, ...], result: int | None) -> None:
        """A call has ended; ``result`` None: it does not return."""
        shown, self._shown = self._shown or self._arguments(task, call, args, result or 0), None
        self._line(task, f"{call.name}({shown}) = {self._result(call, result)}")

    @staticmethod
    def _arguments(task: Task, call: Call, args: tuple[int, ...], result: int) -> str:
        shown = []
        for argument, value in zip(call.arguments, args, strict=False):
            known = FORMATTERS.get(argument.kind)
            shown.append(str(value) if known is None else known(task, value, call, args, result))
        return ", ".join(filter(None, shown))

    @staticmethod
    def _result(call: Call, result: int | None) -> str:
        if result is None:
            return "?"
        if -4096 < result < 0:
            return f"-1 {errno.errorcode.get(-result, -result)} ({os.strerror(-result)})"
        return hex(result) if call.name in ("mmap", "mmap2", "mremap", "brk") else str(result)

    def unknown(self, task: Task, name: str, pending: PendingCall) -> None:
        """A call that is not there."""
        arguments = ", ".join(hex(value) for value in pending.registers[:6])
        self._line(task, f"{name}({arguments}) = -1 ENOSYS ({os.strerror(errno.ENOSYS)})")

    def signal(self, task: Task, info: SigInfo) -> None:
        """A signal is delivered."""
        more = f", si_addr={info.values[0]:#x}" if info.kind == "fault" else ""
        self._line(task, f"--- {signal_name(info.signo)} {{si_code={info.code}{more}}} ---")

    def exited(self, task: Task, status: int, signo: int) -> None:
        """The process has ended."""
        self._line(task, f"+++ {'killed by ' + signal_name(signo) if signo else f'exited with {status}'} +++")

    def _line(self, task: Task, text: str) -> None:
        self._write(f"[{task.tid}] {text}\n")

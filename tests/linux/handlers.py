"""System calls made directly, without a guest program: the real handlers, memory and process, and the part of the
kernel that waits. For tests with many calls; whole programs are in the tests that use ``scripts.py``."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Any

import e2kemu.linux.calls  # noqa: F401 - fills the table
from e2kemu.linux.error import LinuxError, WouldBlock
from e2kemu.linux.files import FileTable
from e2kemu.linux.mapping import AddressMap, Area, Ram
from e2kemu.linux.memory import Memory
from e2kemu.linux.numbers import NUMBERS
from e2kemu.linux.sandbox import Sandbox
from e2kemu.linux.table import CALLS, arguments_of
from e2kemu.linux.task import Process, Task
from e2kemu.memory.ram import RAMBlock

SIZE = 0x100000
BASES = {4: 0x100000, 8: 0x7_0010_0000}
"""Where a guest's memory is: in 64-bit programs where no address fits into 32 bits."""


class HostClock:
    """The host's time."""

    def monotonic(self) -> int:
        return time.monotonic_ns()

    def realtime(self) -> int:
        return time.time_ns()

    def cpu(self) -> int:
        return time.process_time_ns()


class Waker:
    """What handlers ask of a kernel."""

    def wake(self, key: object, *_: Any) -> int:
        return 0

    def __init__(self, process: Process) -> None:
        self.processes = [process]

    @property
    def tasks(self) -> list[Task]:
        return self.processes[0].tasks


class Guest:
    """A process with one task. ``call`` gives the result, -errno when it fails."""

    def __init__(self, root: str | None = None, *, pointer_size: int = 8, **rules: bool) -> None:
        self.base = BASES[pointer_size]
        high = Ram(0x7_0000_0000, RAMBlock("high", 8 << 20))
        self.areas = AddressMap([Ram(0, RAMBlock("ram", 8 << 20)), high])
        self.areas.map(Area(self.base, self.base + SIZE, 3, "[heap]"))
        memory = Memory(self.areas, pointer_size)
        self.process = Process(os.getpid(), memory, FileTable(), Sandbox(root, **rules), HostClock())
        self.process.map = self.areas
        self.process.kernel = Waker(self.process)  # type: ignore[assignment]
        self.process.name = "guest"
        self.task = Task(self.process, self.process.pid)
        self.memory = memory
        self._next = self.base

    def put(self, data: bytes | str) -> int:
        """The address of ``data`` in guest memory (text: with its NUL)."""
        raw = os.fsencode(data) + b"\0" if isinstance(data, str) else data
        if self._next + len(raw) > self.base + SIZE:
            self._next = self.base
        address = self._next
        self._next += len(raw) + -len(raw) % 16
        self.memory.write(address, raw)
        return address

    def space(self, size: int) -> int:
        """The address of ``size`` zeros."""
        return self.put(bytes(size))

    def call(self, name: str, *arguments: int | str | bytes, patience: float = 5) -> int:
        """Make a call; text and bytes are put into memory. A wait takes ``patience`` seconds at most."""
        known = CALLS[NUMBERS[name]]
        registers = [a if isinstance(a, int) else self.put(a) for a in arguments]
        registers = [r & (1 << 64) - 1 for r in registers] + [0] * (9 - len(registers))
        values = arguments_of(known, registers, self.process.pointer_size)
        self.task.progress, self.task.timer = 0, None
        end = time.monotonic() + patience
        while True:
            try:
                return known.handler(self.task, *values)
            except WouldBlock as block:
                left = end - time.monotonic()
                if left < 0:
                    raise
                self._wait(block, left)
            except LinuxError as error:
                return -error.number
            except OSError as error:
                return -(error.errno or 5)
            except (ValueError, OverflowError):
                return -22

    @staticmethod
    def _wait(block: WouldBlock, seconds: float) -> None:
        if block.deadline is not None:
            seconds = min(seconds, max(0.0, (block.deadline - time.monotonic_ns()) / 1e9))
        poller = select.poll()
        for fd, events in block.fds:
            poller.register(fd, events)
        poller.poll(seconds * 1000 + 1)

    def open(self, path: str, flags: int = 0, mode: int = 0o644) -> int:
        """openat(AT_FDCWD)."""
        return self.call("openat", -100, path, flags, mode)

    def read(self, fd: int, size: int = 65536) -> bytes:
        """What read(2) gives; an OSError when it fails."""
        buffer = self.space(min(size, 65536))
        return self.memory.read(buffer, check(self.call("read", fd, buffer, size)))

    def close(self) -> None:
        self.process.files.close_all()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def check(result: int) -> int:
    """``result``, when it is no errno."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


Handler = Callable[..., int]

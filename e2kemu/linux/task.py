"""Tasks and processes: what the kernel knows of a running program.

A ``Task`` is a thread: registers, signal mask, TLS. A ``Process`` is what threads share. All tasks run on the one vCPU
thread, one after the other, so nothing here needs a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from e2kemu.linux.files import FileTable
    from e2kemu.linux.memory import Memory
    from e2kemu.linux.sandbox import Sandbox


class Clock(Protocol):
    """Time as the guest sees it, in ns."""

    def monotonic(self) -> int:
        """Since the guest's boot; stands still while the machine is stopped and goes on after a migration."""

    def realtime(self) -> int:
        """Since 1970."""

    def cpu(self) -> int:
        """CPU time the process has used."""


class Process:
    """What the threads of a program share."""

    def __init__(self, pid: int, memory: Memory, files: FileTable, sandbox: Sandbox, clock: Clock) -> None:
        self.pid = pid
        self.ppid = 1
        self.memory = memory
        self.files = files
        self.sandbox = sandbox
        self.clock = clock
        self.cwd = "/"
        """The guest's current directory: absolute, a guest path."""
        self.umask = 0o022
        self.executable = ""
        """Guest path of the program (/proc/self/exe)."""
        self.tasks: list[Task] = []

    @property
    def pointer_size(self) -> int:
        """8, or 4 in a 32-bit program."""
        return self.memory.pointer_size


class Task:
    """A thread."""

    def __init__(self, process: Process, tid: int) -> None:
        self.process = process
        self.tid = tid
        self.progress = 0
        """What a call that raises WouldBlock has done so far, for its next execution; 0 in a first one. Migrates."""
        self.timer: int | None = None
        """Deadline of the call that is being executed, see ``deadline``. Migrates."""
        process.tasks.append(self)

    @property
    def memory(self) -> Memory:
        """The memory of the process."""
        return self.process.memory

    @property
    def files(self) -> FileTable:
        """The descriptors of the process."""
        return self.process.files

    def deadline(self, timeout: int | None) -> int | None:
        """``timeout`` ns from the first execution of this call, as process time: the same in each further
        execution, so that a sleep that is woken, or migrated, ends when it should. None stays None."""
        if timeout is None:
            return None
        if self.timer is None:
            self.timer = self.process.clock.monotonic() + timeout
        return self.timer

    def expired(self) -> bool:
        """Whether the deadline of this call has come."""
        return self.timer is not None and self.process.clock.monotonic() >= self.timer

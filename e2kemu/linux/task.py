"""Tasks and processes: what the kernel knows of a running program.

A ``Task`` is a thread: registers, signal mask, TLS. A ``Process`` is what threads share. All tasks run on the one vCPU
thread, one after the other, so nothing here needs a lock. A child process (fork) is a process of the host: another
emulator, made by forking this one, with one ``Process`` of its own. Only processes that share their memory (clone
with CLONE_VM alone) are together in one emulator (``companions.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from e2kemu.linux.error import WouldBlock
from e2kemu.linux.identity import Identity

if TYPE_CHECKING:
    from e2kemu.linux.companions import Deputy
    from e2kemu.linux.files import FileTable
    from e2kemu.linux.itimer import IntervalTimers
    from e2kemu.linux.kernel import Kernel
    from e2kemu.linux.mapping import AddressMap
    from e2kemu.linux.memory import Memory
    from e2kemu.linux.sandbox import Sandbox
    from e2kemu.linux.siginfo import SigInfo


class Clock(Protocol):
    """Time as the guest sees it, in ns."""

    def monotonic(self) -> int:
        """Since the guest's boot; stands still while the machine is stopped and goes on after a migration."""

    def realtime(self) -> int:
        """Since 1970."""

    def cpu(self) -> int:
        """CPU time the process has used."""


@dataclass(slots=True)
class Action:
    """What a process does about a signal (struct sigaction). ``handler`` 0: the default, 1: ignore."""

    handler: int = 0
    flags: int = 0
    restorer: int = 0
    mask: int = 0


@dataclass(slots=True)
class PendingCall:
    """A system call that is not finished: its task sleeps in it, or a signal handler has interrupted it."""

    number: int
    registers: list[int]
    """The arguments, as they were in the registers."""
    wbs: int
    """Where the result goes: register 2 * wbs of the window."""
    pointer_size: int
    frame: int = 0
    """Address of the signal frame above which it waits for the handler's end; 0: it is the task's present call."""
    progress: int = 0
    timer: int | None = None


@dataclass(slots=True)
class AltStack:
    """sigaltstack: ``size`` 0 means there is none."""

    sp: int = 0
    size: int = 0


@dataclass(slots=True)
class Whereabouts:
    """What CLONE_FS shares."""

    cwd: str = "/"
    """The current directory: absolute, a guest path."""
    umask: int = 0o022


class Process:
    """What the threads of a program share. ``map``, ``memory`` and the break belong to an address space, which other
    processes may have, too; so may ``files``, ``fs`` and ``actions``."""

    def __init__(self, pid: int, memory: Memory, files: FileTable, sandbox: Sandbox, clock: Clock) -> None:
        self.pid = pid
        self.ppid = 1
        self.pgid = pid
        self.memory = memory
        self.files = files
        self.sandbox = sandbox
        self.clock = clock
        self.fs = Whereabouts()
        self.executable = ""
        """Guest path of the program (/proc/self/exe)."""
        self.arguments: list[bytes] = []
        """argv, for /proc/self/cmdline."""
        self.name = ""
        """Up to 15 characters (PR_SET_NAME, /proc/self/comm)."""
        self.tasks: list[Task] = []
        self.identity = Identity()
        """Ids, limits and the settings of prctl. Migrates."""
        self.kernel: Kernel
        self.map: AddressMap
        self.timers: IntervalTimers
        self.deputy: Deputy | None = None
        """The host's process with the pid of this one, when that is not the emulator."""
        self.actions: dict[int, Action] = {}
        self.pending: list[SigInfo] = []
        """Signals for the whole process, not yet taken by a task."""
        self.children: set[int] = set()
        """Host's process ids of children that have not been waited for."""
        self.exit_signals: dict[int, int] = {}
        """Of those of them whose end is not told by SIGCHLD: the signal that tells it, 0: none does."""
        self.told: set[int] = set()
        """Those of them that have ended, and the signal was sent."""
        self.exit_status: int | None = None
        self.stopped = False
        """By SIGSTOP and its like, until SIGCONT."""

    @property
    def cwd(self) -> str:
        """See ``Whereabouts``."""
        return self.fs.cwd

    @cwd.setter
    def cwd(self, path: str) -> None:
        self.fs.cwd = path

    @property
    def umask(self) -> int:
        """See ``Whereabouts``."""
        return self.fs.umask

    @umask.setter
    def umask(self, mask: int) -> None:
        self.fs.umask = mask

    @property
    def pointer_size(self) -> int:
        """8, or 4 in a 32-bit program."""
        return self.memory.pointer_size

    def action(self, signo: int) -> Action:
        """What is done about a signal."""
        return self.actions.setdefault(signo, Action())


class Task:
    """A thread."""

    def __init__(self, process: Process, tid: int) -> None:
        self.process = process
        self.tid = tid
        self.progress = 0
        """What a call that raises WouldBlock has done so far, for its next execution; 0 in a first one. Migrates."""
        self.timer: int | None = None
        """Deadline of the call that is being executed, see ``deadline``. Migrates."""
        self.state: NDArray[np.uint8] | None = None
        """Its registers (``CpuState.buffer``); None while they are in the CPU."""
        self.call: PendingCall | None = None
        """The call it sleeps in."""
        self.suspended: list[PendingCall] = []
        """Calls that signal handlers have interrupted and that go on afterwards, innermost last."""
        self.block: WouldBlock | None = None
        """What it waits for; None: it can run."""
        self.mask = 0
        """Blocked signals: bit N-1 is signal N."""
        self.saved_mask: int | None = None
        """The mask that comes back after the signal handler (rt_sigsuspend, ppoll)."""
        self.pending: list[SigInfo] = []
        self.altstack = AltStack()
        self.clear_tid = 0
        """Address that is zeroed, and woken as a futex, at its end."""
        self.robust_list = 0
        self.requeued = 0
        """Futex it was moved to (FUTEX_CMP_REQUEUE), 0: it waits where its call says."""
        self.dead = False
        self.slept_since = 0
        """Order in which tasks fell asleep: who waits longest is woken first."""
        self.restarting: PendingCall | None = None
        """A call that a signal has broken off and that goes on after the handler, until the frame is made."""
        self.no_sigpipe = False
        """The present call asked for no SIGPIPE (MSG_NOSIGNAL)."""
        self.own_files: FileTable | None = None
        """Its descriptors, when they are not those of the process (a thread made without CLONE_FILES)."""
        process.tasks.append(self)

    @property
    def memory(self) -> Memory:
        """The memory of the process."""
        return self.process.memory

    @property
    def files(self) -> FileTable:
        """The descriptors it uses: those of the process, but for a thread made without CLONE_FILES."""
        return self.process.files if self.own_files is None else self.own_files

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

"""One thread per CPU: it runs guest code whenever the machine lets it, and is parked otherwise.

A thread is *parked* while it is between two wide instructions and will not execute another one before
it has asked the gate again, under the machine lock. A CPU asleep (``idle_until``) is parked as well, so
that pausing a machine whose guest rests costs nothing; so is one that is halted (``run`` returned "halted") until
somebody calls ``VcpuThread.wake``, as its interrupt pins do. Who wants all CPUs still closes the gate, asks
them to leave their loops, and waits on the gate's condition until all are parked.

A CPU that waits for a page of memory which has not arrived yet (postcopy, ``memory/received.py``) is parked
too, although it stands inside of a wide instruction: it executes nothing before the gate lets it, and its
registers show where its block began. A reset makes such a CPU abandon what it does.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from e2kemu.clock import VirtualClock
from e2kemu.errors import E2kError
from e2kemu.memory.received import announce

ASK_AGAIN = 0.005
"""Seconds after which a CPU that has not left its loop is asked again (the request may have come just
before it entered)."""

LONGEST_WAIT = 3600.0
"""Seconds after which a sleeping CPU's thread looks at its time again: a guest may ask for any number."""

SWITCH_INTERVAL = 0.0005
"""Seconds after which Python lets another thread run. A vCPU computes all the time and so always uses
its interval up: with the default of 5 ms every answer of the main loop or a migration thread would wait
that long, several times."""


class VirtualCpu(Protocol):
    """What the machine needs of a CPU, whichever executor is behind it (``cpu/exec.py``)."""

    index: int
    idle_until: int | None
    executed: int
    """Wide instructions executed since the object was made."""

    def reset(self) -> None:
        """Back to the state after power-on."""

    def run(self, limit: int | None = None) -> str:
        """Execute until something happens: "exit", "limit", "idle", "halted", "fatal", "breakpoint", "watchpoint"."""

    def request_exit(self) -> None:
        """Make ``run`` return at the next wide-instruction boundary."""

    def invalidate(self, address: int, size: int) -> None:
        """Code there has changed."""


class AbandonedError(Exception):
    """A CPU that waited for a page shall not go on with its wide instruction."""


class Gate:
    """Decides when CPUs run; shared by the machine and its CPU threads. All under ``condition``."""

    def __init__(self, lock: threading.RLock, clock: VirtualClock) -> None:
        self.condition = threading.Condition(lock)
        self.clock = clock
        self.open = False
        """The machine runs."""
        self.holds = 0
        """Who wants stillness for a moment."""
        self.threads: list[VcpuThread] = []
        self.nap = 0.0
        """Until when (time.monotonic) CPUs sleep although they might run: the throttle's."""

    def nap_until(self, until: float) -> None:
        """CPUs execute nothing before ``until``; a time that is past wakes them."""
        with self.condition:
            self.nap = until
            self.condition.notify_all()
        self.nudge()

    def nudge(self) -> bool:
        """Ask CPUs that ought to sleep to leave their loops; False: there is none."""
        with self.condition:
            moving = [thread for thread in self.threads if not thread.parked]
            if self.nap <= time.monotonic():
                return False
            for thread in moving:
                thread.cpu.request_exit()
            return bool(moving)

    @property
    def may_run(self) -> bool:
        """Whether a CPU may execute."""
        return self.open and not self.holds

    @contextmanager
    def still(self) -> Iterator[None]:
        """All CPUs parked, and the machine lock held, while it is entered."""
        with self.condition:
            self.holds += 1
            try:
                self.wait_parked()
                yield
            finally:
                self.holds -= 1
                for thread in self.threads:     # a CPU's state may be another one now: halted ones ask it again
                    thread.woken = True
                self.condition.notify_all()

    def wait_parked(self) -> None:
        """Wait until all CPUs are parked (but for the one whose thread this is); the lock is held, and
        released while waiting. CPUs that stop the machine at the same time do not wait for each other."""
        me = threading.get_ident()
        stopping = any(thread.stopping for thread in self.threads if thread.ident == me)
        while True:
            moving = [thread for thread in self.threads
                      if not thread.parked and thread.ident != me and not (stopping and thread.stopping)]
            if not moving:
                return
            for thread in moving:
                thread.cpu.request_exit()
            self.condition.wait(ASK_AGAIN)

    def abandon_waits(self) -> None:
        """CPUs that wait for a page leave their wide instruction; called inside of ``still``."""
        for thread in self.threads:
            thread.abandon()
        while any(thread.abandoned for thread in self.threads):
            self.condition.wait(ASK_AGAIN)

    def changed(self) -> None:
        """Let the threads look again."""
        with self.condition:
            self.condition.notify_all()


class VcpuThread:
    """The thread of one CPU. ``on_stop(cpu, reason)`` is called in it for "fatal", "breakpoint", "watchpoint"."""

    def __init__(self, gate: Gate, cpu: VirtualCpu, on_stop: Callable[[VirtualCpu, str], None]) -> None:
        self.gate, self.cpu = gate, cpu
        self.parked = True
        self.abandoned = False
        """It shall leave its wide instruction, and has not done so yet."""
        self.stopping = False
        """It executes nothing more and is about to stop the machine."""
        self.woken = True
        """Whether a CPU that was halted has been woken since it ran."""
        self._wake_wait: Callable[[], None] | None = None
        self._on_stop = on_stop
        self._quit = False
        # a daemon: an emulator that ends for another reason does not wait for its guest
        self._thread = threading.Thread(target=self._main, name=f"CPU {cpu.index}", daemon=True)
        gate.threads.append(self)

    @property
    def ident(self) -> int | None:
        """The thread's identity."""
        return self._thread.ident

    @property
    def native_id(self) -> int | None:
        """The host's thread id (``info cpus``)."""
        return self._thread.native_id

    def start(self) -> None:
        """Start the thread; it parks at once."""
        self._thread.start()

    def wake(self, index: int = 0) -> None:
        """A halted CPU may have something to do (any thread, with or without the machine lock). ``index``: which, of a
        thread that has several."""
        with self.gate.condition:
            self.woken = True
            if self.parked:
                self.gate.condition.notify_all()

    def close(self) -> None:
        """End the thread. The caller does not hold the machine lock."""
        with self.gate.condition:
            self._quit = True
            self.cpu.request_exit()
            if self._wake_wait is not None:
                self._wake_wait()
            self.gate.condition.notify_all()
        while self._thread.is_alive() and self._thread.ident != threading.get_ident():
            self.cpu.request_exit()
            self._thread.join(ASK_AGAIN)

    # -- waiting for a page (memory.received.Waiter); the machine lock is held

    @property
    def index(self) -> int:
        """Number of the CPU."""
        return self.cpu.index

    def begin_wait(self, wake: Callable[[], None]) -> None:
        """Park inside of a wide instruction."""
        self._wake_wait = wake
        self.parked = True
        self.gate.condition.notify_all()

    def check_wait(self) -> None:
        """Raises AbandonedError when the wide instruction is not to be finished."""
        if self._quit or self.abandoned:
            self.parked, self._wake_wait = False, None
            raise AbandonedError

    def end_wait(self) -> None:
        """Go on when the machine lets it."""
        while not self.gate.may_run:
            self.check_wait()
            self.gate.condition.wait()
        self.parked, self._wake_wait = False, None

    def abandon(self) -> None:
        """Make the CPU leave the wide instruction in which it waits, if it does."""
        if self._wake_wait is not None:
            self.abandoned = True
            self._wake_wait()
            self.gate.condition.notify_all()

    # -- the thread

    def _main(self) -> None:
        announce(self)
        halted = False
        while self._wait_for_turn(halted):
            halted = False
            try:
                reason = self.cpu.run()
            except AbandonedError:
                continue
            except E2kError as error:
                reason = f"fatal: {error}"
            except Exception:
                print(f"e2kemu: internal error\n{traceback.format_exc()}", file=sys.stderr, flush=True)
                reason = "fatal: internal error"
            halted = reason == "halted"
            if reason.startswith("fatal") or reason in ("breakpoint", "watchpoint"):
                self._stop(reason)

    def _stop(self, reason: str) -> None:
        with self.gate.condition:
            self.stopping = True
            self.gate.condition.notify_all()
        try:
            self._on_stop(self.cpu, reason)
        finally:
            self.stopping = False

    def _wait_for_turn(self, halted: bool) -> bool:
        """Park until the CPU may execute and is awake (``halted``: and woken); False: the thread shall end."""
        gate, cpu = self.gate, self.cpu
        with gate.condition:
            self.parked, self.abandoned = True, False
            gate.condition.notify_all()
            while not self._quit:
                wait = None
                if gate.may_run and (self.woken or not halted):
                    wait = 0 if cpu.idle_until is None else cpu.idle_until - gate.clock.now()
                    wait = max(wait, int((gate.nap - time.monotonic()) * 1e9))
                    if wait <= 0:
                        cpu.idle_until = None
                        self.parked = self.woken = False
                        return True
                gate.condition.wait(None if wait is None else min(wait / 1e9, LONGEST_WAIT))
        return False

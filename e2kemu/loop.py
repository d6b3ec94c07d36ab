"""The main loop: file descriptors, timers, calls from other threads, signals.

One thread runs ``MainLoop.run()``; it owns the monitors, the character devices and the timers. Other
threads reach it by ``call_soon`` (also ``add_*``/``remove_*``, which hand themselves over). Every callback
runs with the machine lock held, one at a time, in the order: signals, expired timers of the virtual clock,
expired host timers, ready descriptors, ``call_soon``. A callback that raises does not end the loop: the
guest must survive a fault of the machinery around it.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Protocol

from e2kemu.errors import E2kError

Callback = Callable[[], object]
QUIT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def report(text: str) -> None:
    """Say ``text`` on stderr; a stderr that is gone is no reason to lose a guest."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


class Clock(Protocol):
    """What the loop wants of the virtual clock; times in nanoseconds."""

    listeners: list[Callable[[], None]]
    """Called, from any thread, when the next deadline may have come nearer."""

    @property
    def running(self) -> bool: ...
    def now(self) -> int: ...
    def next_deadline(self) -> int | None: ...
    def run_expired(self) -> None: ...


class TimerHandle:
    """A pending ``call_later``; ``cancel()`` is allowed at any time, also after it ran."""

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class MainLoop:
    """See the module. ``lock`` is the machine lock; without one the loop makes its own."""

    def __init__(self, lock: AbstractContextManager[Any] | None = None) -> None:
        self.lock: AbstractContextManager[Any] = lock if lock is not None else threading.RLock()
        self.on_signal: Callable[[int], object] = lambda signum: self.quit(0)
        """Called in the loop for SIGINT, SIGTERM and SIGHUP; an orderly quit unless replaced."""
        self._selector = selectors.PollSelector()  # unlike epoll it takes regular files and /dev/null
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._soon: deque[Callback] = deque()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._sequence = itertools.count()
        self._clock: Clock | None = None
        self._status: int | None = None
        self._thread = threading.get_ident()
        self._signals: deque[int] = deque()
        self._wake_receive, self._wake_send = socket.socketpair()
        for end in (self._wake_receive, self._wake_send):
            end.setblocking(False)
        self._selector.register(self._wake_receive, selectors.EVENT_READ)

    # -- from any thread

    def call_soon(self, callback: Callback) -> None:
        """Run ``callback`` in the loop as soon as possible; calls keep their order."""
        self._soon.append(callback)
        self.wake()

    def wake(self) -> None:
        """Make a waiting loop look at its timers and calls again."""
        try:
            self._wake_send.send(b"w")
        except (BlockingIOError, OSError):
            pass  # full: a wake-up is under way already; closed: nobody waits any more

    def quit(self, status: int) -> None:
        """End ``run()`` with ``status``, after the calls already pending; the first status counts."""
        if self._status is None:
            self._status = status
        self.wake()

    @property
    def quitting(self) -> bool:
        """``quit`` has been called."""
        return self._status is not None

    def in_loop(self) -> bool:
        """True in the thread that runs the loop; before that, in the one that made it."""
        return self._thread == threading.get_ident()

    # -- descriptors (from other threads: handed over)

    def add_reader(self, fd: int, callback: Callback) -> None:
        """Call ``callback`` whenever ``fd`` is readable or at its end; replaces an earlier one."""
        self._change(fd, self._readers, callback)

    def remove_reader(self, fd: int) -> None:
        """Forget the reader of ``fd``; harmless if there is none."""
        self._change(fd, self._readers, None)

    def add_writer(self, fd: int, callback: Callback) -> None:
        """Call ``callback`` whenever ``fd`` is writable; replaces an earlier one."""
        self._change(fd, self._writers, callback)

    def remove_writer(self, fd: int) -> None:
        """Forget the writer of ``fd``; harmless if there is none."""
        self._change(fd, self._writers, None)

    def _change(self, fd: int, table: dict[int, Callback], callback: Callback | None) -> None:
        if not self.in_loop():
            self.call_soon(lambda: self._change(fd, table, callback))
            return
        if callback is None:
            table.pop(fd, None)
        else:
            table[fd] = callback
        events = (selectors.EVENT_READ if fd in self._readers else 0) | (
            selectors.EVENT_WRITE if fd in self._writers else 0
        )
        registered = fd in self._selector.get_map()
        if events and registered:
            self._selector.modify(fd, events)
        elif events:
            self._selector.register(fd, events)
        elif registered:
            self._selector.unregister(fd)

    # -- timers

    def call_later(self, seconds: float, callback: Callback) -> TimerHandle:
        """Run ``callback`` after ``seconds`` of host time."""
        handle = TimerHandle(callback)
        entry = (time.monotonic() + seconds, next(self._sequence), handle)
        if self.in_loop():
            heapq.heappush(self._timers, entry)
        else:
            self.call_soon(lambda: heapq.heappush(self._timers, entry))
        return handle

    def attach_clock(self, clock: Clock) -> None:
        """Run the timers of ``clock`` when they expire."""
        self._clock = clock
        if self.wake not in clock.listeners:
            clock.listeners.append(self.wake)

    # -- running

    def run(self) -> int:
        """Run until ``quit``; returns its status. In the main thread it also handles signals."""
        self._thread = threading.get_ident()
        restore = self._catch_signals()
        try:
            while self._status is None:
                self.run_once(None)
            while self._soon:
                self._run_soon()
        finally:
            restore()
        return self._status

    def run_once(self, timeout: float | None) -> None:
        """Wait at most ``timeout`` seconds (None: for ever) for something to do, and do it."""
        ready = self._selector.select(self._timeout(timeout))
        while self._signals:
            signum = self._signals.popleft()
            self._call(lambda signum=signum: self.on_signal(signum))  # type: ignore[misc]
        if self._clock is not None and self._clock_wait(self._clock) == 0:
            self._call(self._clock.run_expired)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            handle = heapq.heappop(self._timers)[2]
            if handle.callback is not None:
                self._call(handle.callback)
        for key, events in ready:
            if key.fd == self._wake_receive.fileno():
                self._drain_wakeups()
                continue
            # A callback before this one may have removed or replaced it, hence the look-ups.
            if events & selectors.EVENT_READ and key.fd in self._readers:
                self._call(self._readers[key.fd])
            if events & selectors.EVENT_WRITE and key.fd in self._writers:
                self._call(self._writers[key.fd])
        self._run_soon()

    def close(self) -> None:
        """Release the loop's own descriptors."""
        self._selector.close()
        self._wake_receive.close()
        self._wake_send.close()

    def _run_soon(self) -> None:
        for _ in range(len(self._soon)):  # calls added meanwhile wait for the next round
            self._call(self._soon.popleft())

    def _call(self, callback: Callback) -> None:
        with self.lock:
            try:
                callback()
            except E2kError as error:
                report(f"e2kemu: {error}")
            except Exception:
                report(f"e2kemu: internal error\n{traceback.format_exc()}")

    def _timeout(self, timeout: float | None) -> float | None:
        if self._soon or self._signals:
            return 0
        candidates = [] if timeout is None else [timeout]
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if self._timers:
            candidates.append(max(0.0, self._timers[0][0] - time.monotonic()))
        if self._clock is not None:
            wait = self._clock_wait(self._clock)
            if wait is not None:
                candidates.append(wait)
        return min(candidates, default=None)

    @staticmethod
    def _clock_wait(clock: Clock) -> float | None:
        """Seconds until the next timer of ``clock`` expires; None when there is none or it stands."""
        deadline = clock.next_deadline()
        if deadline is None or not clock.running:
            return None
        return max(0, deadline - clock.now()) / 1e9

    def _drain_wakeups(self) -> None:
        try:
            while self._wake_receive.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _catch_signals(self) -> Callback:
        """Install the handlers; returns what puts the old ones back."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def handler(signum: int, frame: FrameType | None) -> None:
            self._signals.append(signum)

        old = {signum: signal.signal(signum, handler) for signum in QUIT_SIGNALS}
        # The handler runs only between byte codes: the wake-up descriptor ends the wait in poll().
        old_fd = signal.set_wakeup_fd(self._wake_send.fileno(), warn_on_full_buffer=False)

        def restore() -> None:
            signal.set_wakeup_fd(old_fd)
            for signum, action in old.items():
                signal.signal(signum, action)

        return restore

"""Virtual time: nanoseconds that pass only while the machine runs, and timers on them.

``now`` may be called by any thread. Everything else (start, stop, arming) is called with the machine
lock held; ``run_expired`` is called by the main loop. ``listeners`` hear of every change that may
bring the next deadline nearer, so that a sleeping loop or an idle vCPU can look again.

The clock is the section "timer" of a migration stream (version 2, as QEMU's): i64 tick count, 8 bytes
unused, i64 nanoseconds (since version 2). One tick is one nanosecond here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from e2kemu.errors import StreamError
from e2kemu.wire import Reader, Writer

_ICOUNT = b"timer/icount"
"""The subsection of a clock that counts instructions."""


class NotExact(Exception):
    """Virtual time is asked for where nobody knows it exactly (``machine/icount.py``): the wide instruction at hand has
    done nothing yet, and shall be executed again on its own."""


class Timer:
    """A one-shot alarm of a VirtualClock; made by ``VirtualClock.timer``."""

    def __init__(self, clock: VirtualClock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self.expire: int | None = None
        """Virtual time in ns at which it fires, None: not armed."""

    def arm(self, expire_ns: int) -> None:
        """Fire once at virtual time ``expire_ns`` (at once when that is past); replaces an earlier time."""
        self.expire = expire_ns
        self._clock._changed()

    def cancel(self) -> None:
        """Do not fire."""
        self.expire = None

    def fire(self) -> None:
        """Disarm and call back."""
        self.expire = None
        self._callback()


class VirtualClock:
    """Stopped at 0 when made. A SaveHandler: section "timer"."""

    idstr = "timer"
    instance_id = 0
    version = 2
    minimum_version = 1

    def __init__(self) -> None:
        # (running, offset): now = offset + host time while running, offset otherwise. One tuple, so that
        # a reader without the lock never sees half a change.
        self._state: tuple[bool, int] = (False, 0)
        self._tick_lead = 0
        self._timers: list[Timer] = []
        self.listeners: list[Callable[[], None]] = []

    def now(self) -> int:
        """Virtual time in ns."""
        running, offset = self._state
        return offset + time.monotonic_ns() if running else offset

    @property
    def running(self) -> bool:
        """Whether time passes."""
        return self._state[0]

    def start(self) -> None:
        """Let time pass; nothing when it does already."""
        running, offset = self._state
        if not running:
            self._state = (True, offset - time.monotonic_ns())
            self._changed()

    def stop(self) -> None:
        """Hold time; nothing when it is held already."""
        if self._state[0]:
            self._state = (False, self.now())
            self._changed()

    def set(self, ns: int) -> None:
        """Make it ``ns`` now, running or not."""
        running = self._state[0]
        self._state = (running, ns - time.monotonic_ns() if running else ns)
        self._changed()

    def timer(self, callback: Callable[[], None]) -> Timer:
        """A new timer, not armed. It lives as long as the clock."""
        timer = Timer(self, callback)
        self._timers.append(timer)
        return timer

    def next_deadline(self) -> int | None:
        """Virtual time of the earliest armed timer, None: none is armed."""
        return min((timer.expire for timer in self._timers if timer.expire is not None), default=None)

    def run_expired(self) -> None:
        """Fire all timers that are due, earliest first; those armed meanwhile too, if they are due.

        Does nothing while time is held: a stopped machine's timers do not go off.
        """
        if not self.running:
            return
        until = self.now()
        while True:
            due = [timer for timer in self._timers if timer.expire is not None and timer.expire <= until]
            if not due:
                return
            min(due, key=lambda timer: timer.expire or 0).fire()

    def _changed(self) -> None:
        for listener in self.listeners:
            listener()

    # -- section "timer" -------------------------------------------------------------------------

    def is_needed(self) -> bool:
        """Always sent."""
        return True

    def save(self, w: Writer) -> None:
        """Write the section's body."""
        now = self.now()
        w.be64(now + self._tick_lead)
        w.be64(0)
        w.be64(now)

    def load(self, r: Reader, version: int) -> None:
        """Read the section's body: sets the time. Version 1 has no nanoseconds: time is then kept.

        Raises StreamError.
        """
        ticks = _signed(r.be64())
        r.skip(8)
        ns = _signed(r.be64()) if version >= 2 else self.now()
        if r.peek(2 + len(_ICOUNT)) == bytes((5, len(_ICOUNT))) + _ICOUNT:
            raise StreamError("virtual time counts instructions in the stream (-icount), but not here",
                              section=self.idstr, offset=r.position)
        if ns < 0:
            raise StreamError(f"virtual time is {ns} ns", section=self.idstr, offset=r.position)
        self._tick_lead = ticks - ns
        self.set(ns)

    def vmdesc(self) -> dict[str, Any]:
        """The section's entry in the vmdescription."""
        return {
            "name": self.idstr,
            "instance_id": self.instance_id,
            "vmsd_name": "timer",
            "version": self.version,
            "fields": [
                {"name": "cpu_ticks_offset", "type": "int64", "size": 8},
                {"name": "unused", "type": "unused_buffer", "size": 8},
                {"name": "cpu_clock_offset", "type": "int64", "size": 8},
            ],
        }


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value

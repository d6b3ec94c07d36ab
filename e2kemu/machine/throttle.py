"""Slowing a guest down: vCPUs sleep a part of the time, so that a migration keeps up with what they write.

At ``percent`` p a vCPU that has run for a time t sleeps t*p/(100-p): with 50 it runs half the time, with 99 a
hundredth. All vCPUs sleep together. They run for 10 ms, as QEMU's do, and from 90 percent on shorter, so that a turn
takes no longer than a tenth of a second while that can be: what a fast guest dirties, it dirties in small portions, and
it goes on answering. What counts is the time for which the busiest vCPU really ran: on a busy host it may get its turn
late, or be asked late to sleep. A sleeping vCPU is parked, so pausing or ending the machine does not wait for it;
virtual time runs on. This is no state of the machine: it does not migrate.

The throttle's thread lives while it is on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from e2kemu.machine.vcpu import ASK_AGAIN, Gate

LONGEST_RUN = 0.010
"""Seconds a vCPU runs between two sleeps, at most (QEMU: CPU_THROTTLE_TIMESLICE_NS)."""

SHORTEST_RUN = 0.0005
"""The same, at least: about what a timer and the interpreter lock can do."""

TURN = 0.1
"""Seconds of a run and a sleep that are aimed at."""

MAX_PERCENT = 99.99

UNTIL_TOLD = 3600.0
"""Seconds of a sleep whose length is not known yet."""


class CpuThrottle:
    """The throttle of one machine. Public methods may be called from any thread."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._percent = 0.0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def percent(self) -> float:
        """Part of the time for which vCPUs sleep; 0: the throttle is off."""
        return self._percent

    def set(self, percent: float) -> None:
        """Change it; acts in the next turn, and 0 at once. Values are cut to 0..99.99."""
        percent = max(0.0, min(percent, MAX_PERCENT))
        with self._changed:
            self._percent = percent
            self._changed.notify_all()
            if percent and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="throttle", daemon=True)
                self._thread.start()
        if not percent:
            self._gate.nap_until(0.0)

    def _run(self) -> None:
        while self._turn():
            pass
        self._gate.nap_until(0.0)  # it may have been switched off just before the last nap began

    def _turn(self) -> bool:
        """CPUs run and sleep once; False: the throttle is off."""
        running = 1 - self._percent / 100
        run = max(SHORTEST_RUN, min(LONGEST_RUN, TURN * running))
        before = self._times()
        if not self._wait(run):
            return False
        self._gate.nap_until(time.monotonic() + UNTIL_TOLD)
        while self._gate.nudge():
            # A CPU that was just entering its loop may not have heard: it is asked again.
            if not self._wait(min(run, ASK_AGAIN)):
                return False
        ran = max([run, *(now - before.get(thread, now) for thread, now in self._times().items())])
        sleep = ran / running - ran
        self._gate.nap_until(time.monotonic() + sleep)
        return self._wait(sleep)

    def _times(self) -> Mapping[int, float]:
        """Seconds for which the thread of each CPU has run, by its number at the host."""
        times = {}
        for thread in list(self._gate.threads):
            try:
                with open(f"/proc/self/task/{thread.native_id}/schedstat", "rb") as file:
                    times[thread.native_id or 0] = int(file.read().split()[0]) / 1e9
            except (OSError, ValueError, IndexError):
                pass  # it has ended, or the kernel does not count
        return times

    def _wait(self, seconds: float) -> bool:
        """Wait; False: the throttle is off and its thread ends."""
        with self._changed:
            if self._percent:
                self._changed.wait(seconds)
            if self._percent:
                return True
            self._thread = None
            return False

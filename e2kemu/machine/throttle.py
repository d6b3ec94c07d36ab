"""Slowing a guest down: vCPUs sleep a part of the time, so that a migration keeps up with what they write.

At ``percent`` p a vCPU that has run for a slice of 10 ms sleeps p/(100-p) slices: with 50 it runs half the time,
with 99 a hundredth. All vCPUs sleep together. A sleeping vCPU is parked, so pausing or ending the machine does not
wait for it; virtual time runs on. This is no state of the machine: it does not migrate.

The throttle's thread lives while it is on. It is paced by deadlines: host scheduling may delay one slice, but
sleeping longer than meant is not made up for.
"""

from __future__ import annotations

import threading
import time

from e2kemu.machine.vcpu import ASK_AGAIN, Gate

SLICE = 0.010
"""Seconds a vCPU runs between two sleeps (QEMU: CPU_THROTTLE_TIMESLICE_NS)."""

MAX_PERCENT = 99


class CpuThrottle:
    """The throttle of one machine. Public methods may be called from any thread."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._percent = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def percent(self) -> int:
        """Part of the time for which vCPUs sleep; 0: the throttle is off."""
        return self._percent

    def set(self, percent: int) -> None:
        """Change it; acts in the next slice, and 0 at once. Values are cut to 0..99."""
        percent = max(0, min(percent, MAX_PERCENT))
        with self._changed:
            self._percent = percent
            self._changed.notify_all()
            if percent and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="throttle", daemon=True)
                self._thread.start()
        if not percent:
            self._gate.nap_until(0.0)

    def _run(self) -> None:
        while self._wait(SLICE):
            percent = self._percent
            until = time.monotonic() + SLICE * percent / (100 - percent)
            self._gate.nap_until(until)
            while (left := until - time.monotonic()) > 0:
                # A CPU that was just entering its loop may not have heard.
                if not self._wait(min(left, ASK_AGAIN) if self._gate.nudge() else left):
                    break
        self._gate.nap_until(0.0)  # it may have been switched off just before the last nap began

    def _wait(self, seconds: float) -> bool:
        """Wait; False: the throttle is off and its thread ends."""
        with self._changed:
            if self._percent:
                self._changed.wait(seconds)
            if self._percent:
                return True
            self._thread = None
            return False

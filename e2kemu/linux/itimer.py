"""Interval timers of a process (setitimer, alarm): alarms of the machine's clock that send signals.

ITIMER_REAL counts process time, which stands still with the machine. ITIMER_VIRTUAL and ITIMER_PROF count CPU time
on Linux; here they count process time as well while the process has a task to run, which for a program that
computes is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2kemu.linux.posix_timers import PosixTimers
from e2kemu.linux.siginfo import SI_KERNEL, SIGALRM, SIGPROF, SIGVTALRM, SigInfo

if TYPE_CHECKING:
    from e2kemu.clock import VirtualClock
    from e2kemu.linux.task import Process

SIGNALS = (SIGALRM, SIGVTALRM, SIGPROF)


class IntervalTimers:
    """ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF. ``set`` and ``get`` are the vCPU thread's."""

    def __init__(self, process: Process, clock: VirtualClock) -> None:
        self._process, self.clock = process, clock
        self._alarm = clock.timer(lambda: process.kernel.post(self.expire))
        self.posix = PosixTimers(process, clock)
        """Those of timer_create."""
        self.intervals = [0, 0, 0]
        self.deadlines: list[int] = [0, 0, 0]
        """Process time in ns, 0: off."""

    def get(self, which: int) -> tuple[int, int]:
        """Interval and time left, in ns."""
        deadline = self.deadlines[which]
        return self.intervals[which], max(deadline - self.clock.now(), 1) if deadline else 0

    def set(self, which: int, interval: int, value: int) -> None:
        """Arm with the first signal after ``value`` ns (0: off)."""
        self.intervals[which] = interval if value else 0
        self.deadlines[which] = self.clock.now() + value if value else 0
        self.arm()
        self._process.kernel.interrupt_self()      # in a child's emulator the vCPU thread watches the time itself

    def arm(self) -> None:
        """Have the clock wake us for the earliest."""
        armed = [deadline for deadline in self.deadlines if deadline]
        if armed:
            self._alarm.arm(min(armed))
        else:
            self._alarm.cancel()

    def clear(self) -> None:
        """All off."""
        self.intervals, self.deadlines = [0, 0, 0], [0, 0, 0]
        self.posix.clear()
        self._alarm.cancel()

    def expire(self) -> None:
        """Send the signals that are due."""
        now = self.clock.now()
        for which, signo in enumerate(SIGNALS):
            deadline = self.deadlines[which]
            if deadline and deadline <= now:
                interval = self.intervals[which]
                self.deadlines[which] = deadline + (now - deadline) // interval * interval + interval if interval else 0
                self._process.kernel.signals.send(SigInfo(signo, SI_KERNEL), process=self._process)
        self.arm()

    def next_deadline(self) -> int | None:
        """The earliest, of those of timer_create, too: for a wait that has no machine around it."""
        posix = (timer.deadline for timer in self.posix.timers.values())
        return min((deadline for deadline in (*self.deadlines, *posix) if deadline), default=None)

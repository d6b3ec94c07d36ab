"""Timers of a process that send signals (timer_create): alarms of the machine's clock, as ``itimer.py``.

They count process time, so they stand still with the machine and migrate. Timers of CPU clocks count it as well.
"""

from __future__ import annotations

import errno
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from e2kemu.linux.error import LinuxError
from e2kemu.linux.siginfo import SI_TIMER, SigInfo

if TYPE_CHECKING:
    from e2kemu.clock import VirtualClock
    from e2kemu.linux.task import Process

MOST = 1024
"""Timers of one process."""


@dataclass
class PosixTimer:
    """One timer. Times are process time in ns."""

    which: int
    """CLOCK_* it was made for."""
    signo: int
    """0: it sends nothing."""
    value: int
    """si_value."""
    tid: int = 0
    """Thread that gets the signal; 0: the process."""
    interval: int = 0
    deadline: int = 0
    """0: off."""
    overrun: int = 0
    """Expirations that the last signal stands for beside its own."""


class PosixTimers:
    """All of them, by id. The vCPU thread's."""

    def __init__(self, process: Process, clock: VirtualClock) -> None:
        self._process, self._clock = process, clock
        self._alarm = clock.timer(lambda: process.kernel.post(self.expire))
        self.timers: dict[int, PosixTimer] = {}

    def get(self, number: int) -> PosixTimer:
        """The timer ``number``. Raises EINVAL."""
        try:
            return self.timers[number]
        except KeyError:
            raise LinuxError(errno.EINVAL) from None

    def create(self, timer: PosixTimer) -> int:
        """A new timer's id. Raises EAGAIN."""
        if len(self.timers) >= MOST:
            raise LinuxError(errno.EAGAIN)
        number = next(n for n in range(MOST) if n not in self.timers)
        self.timers[number] = timer
        return number

    def delete(self, number: int) -> None:
        """No more of it. Raises EINVAL."""
        self.get(number)
        del self.timers[number]
        self.arm()

    def left(self, timer: PosixTimer) -> int:
        """ns until it expires next; 0 when it is off."""
        if not timer.deadline:
            return 0
        late = self._clock.now() - timer.deadline
        return -late if late < 0 else (timer.interval - late % timer.interval if timer.interval else 1)

    def arm(self) -> None:
        """Have the clock wake us for the earliest."""
        armed = [timer.deadline for timer in self.timers.values() if timer.deadline]
        if armed:
            self._alarm.arm(min(armed))
        else:
            self._alarm.cancel()

    def clear(self) -> None:
        """All gone."""
        self.timers.clear()
        self._alarm.cancel()

    def expire(self) -> None:
        """Send the signals that are due."""
        now = self._clock.now()
        for number, timer in self.timers.items():
            if timer.deadline and timer.deadline <= now:
                missed = (now - timer.deadline) // timer.interval if timer.interval else 0
                timer.deadline = timer.deadline + (missed + 1) * timer.interval if timer.interval else 0
                if timer.signo:
                    self._send(number, timer, missed)
        self.arm()

    def _send(self, number: int, timer: PosixTimer, missed: int) -> None:
        process = self._process
        task = next((t for t in process.tasks if t.tid == timer.tid), None)
        if timer.tid and task is None:
            return
        queue = process.pending if task is None else task.pending
        for n, waiting in enumerate(queue):
            if waiting.kind == "timer" and waiting.values[0] == number:
                timer.overrun += missed + 1
                queue[n] = SigInfo(timer.signo, SI_TIMER, "timer", (number, timer.overrun, timer.value))
                return
        timer.overrun = missed
        info = SigInfo(timer.signo, SI_TIMER, "timer", (number, missed, timer.value))
        process.kernel.signals.send(info, task, process)

    def save(self) -> dict[str, dict[str, int]]:
        """As JSON-able data."""
        return {str(number): asdict(timer) for number, timer in self.timers.items()}

    def load(self, saved: dict[str, dict[str, int]]) -> None:
        """Become what ``save`` gave."""
        self.timers = {int(number): PosixTimer(**{k: int(v) for k, v in fields.items()})
                       for number, fields in saved.items()}
        self.arm()

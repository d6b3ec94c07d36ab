"""All CPUs in one thread, one after the other: what ``-icount`` needs to do the same every time.

A CPU's turn lasts ``QUANTUM`` wide instructions, or until it rests; then comes the next one that does not. A turn is
cut into slices: at the time of the next timer, which goes off between two wide instructions, and wherever the machine
is stopped to be looked at, which changes nothing. What comes from outside (a key, a packet, a monitor's command) comes
when it comes: it is the only thing that may differ between two runs.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence

from e2kemu.errors import E2kError
from e2kemu.loop import report
from e2kemu.machine.icount import MAX_SHIFT, IcountClock
from e2kemu.machine.vcpu import LONGEST_WAIT, AbandonedError, Gate, VcpuThread, VirtualCpu
from e2kemu.memory.received import announce

QUANTUM = 20_000
"""Wide instructions of one turn: guests that wait for another CPU in a loop lose it, a change of CPUs costs as much."""

ADJUST_EVERY = 0.1
"""Seconds of host time after which ``shift=auto`` looks whether virtual time keeps up."""

WOBBLE = 100_000_000
"""Nanoseconds by which virtual and real time may differ before it does something about it (as QEMU's)."""

ALIGN_ABOVE = 3_000_000
"""Nanoseconds ahead of real time from which on ``align=on`` waits."""


class _All:
    """All CPUs as one, for who wants them to leave their loops."""

    index = 0

    def __init__(self, cpus: Sequence[VirtualCpu]) -> None:
        self._cpus = cpus
        self.idle_until: int | None = None
        self.executed = 0

    def reset(self) -> None:
        pass

    def run(self, limit: int | None = None) -> str:
        return "exit"

    def request_exit(self) -> None:
        for cpu in self._cpus:
            cpu.request_exit()

    def invalidate(self, address: int, size: int) -> None:
        pass


class TurnsThread(VcpuThread):
    """The thread of all CPUs. ``on_stop`` as of ``VcpuThread``."""

    def __init__(self, gate: Gate, cpus: Sequence[VirtualCpu], clock: IcountClock,
                 on_stop: Callable[[VirtualCpu, str], None]) -> None:
        self._cpus, self._clock = list(cpus), clock
        self._halted = [False] * len(cpus)
        """Which CPUs have said that they are halted, and were not woken since."""
        self._woke = [False] * len(cpus)
        """Which CPUs were woken since they began to execute."""
        self._since: tuple[float, int] | None = None
        """Host time and virtual time since which both are compared."""
        self._next_look = 0.0
        super().__init__(gate, _All(cpus), on_stop)
        clock.listeners.append(self.cpu.request_exit)

    @property
    def woken(self) -> bool:
        """Somebody looked at the CPUs, or changed them: the halted ones are asked again."""
        return True

    @woken.setter
    def woken(self, value: bool) -> None:
        if value:
            self._halted, self._woke = [False] * len(self._cpus), [True] * len(self._cpus)

    def wake(self, index: int = 0) -> None:
        """CPU ``index`` may have something to do."""
        with self.gate.condition:
            self._halted[index], self._woke[index] = False, True
            if self.parked:
                self.gate.condition.notify_all()

    def close(self) -> None:
        """End the thread."""
        super().close()
        self._clock.listeners.remove(self.cpu.request_exit)

    # -- the thread

    def _main(self) -> None:
        announce(self)
        while True:
            slice_ = self._next_slice()
            if slice_ is None:
                return
            number, limit = slice_
            cpu = self._cpus[number]
            before = cpu.executed
            try:
                reason = cpu.run(limit)
            except AbandonedError:
                continue
            except E2kError as error:
                reason = f"fatal: {error}"
            except Exception:
                print(f"e2kemu: internal error\n{traceback.format_exc()}", file=sys.stderr, flush=True)
                reason = "fatal: internal error"
            self._clock.turn_left = max(self._clock.turn_left - (cpu.executed - before), 0)
            if reason in ("halted", "idle"):
                self._clock.turn_left = 0
                self._halted[number] = reason == "halted" and not self._woke[number]
            elif reason.startswith("fatal") or reason in ("breakpoint", "watchpoint"):
                self._on_stop(cpu, reason)

    def _next_slice(self) -> tuple[int, int] | None:
        """Park until a CPU may execute: (its number, how many wide instructions); None: the thread shall end."""
        gate = self.gate
        with gate.condition:
            self.parked, self.abandoned = True, False
            gate.condition.notify_all()
            resting: float | None = None        # since when nobody executes, and the clock has not been told
            while not self._quit:
                wait = None
                if gate.may_run:
                    wait = gate.nap - time.monotonic()
                    if wait <= 0:
                        self._fire()
                        number = self._runnable()
                        if number is not None:
                            if resting is not None:
                                self._rested(resting)
                            wait = self._ahead()
                            if wait <= 0:
                                self.parked = self._woke[number] = False
                                return number, self._limit()
                            resting = None
                        else:
                            wait, resting = self._rest(resting)
                else:
                    resting, self._since = None, None
                if wait is None or wait > 0:
                    gate.condition.wait(None if wait is None else min(wait, LONGEST_WAIT))
        return None

    def _fire(self) -> None:
        """Timers whose time has come."""
        try:
            self._clock.run_expired()
        except E2kError as error:
            report(f"e2kemu: {error}")
        except Exception:
            report(f"e2kemu: internal error\n{traceback.format_exc()}")

    def _runnable(self) -> int | None:
        """Whose turn it is, None: all rest."""
        clock, count = self._clock, len(self._cpus)
        now = clock.now()
        first = clock.turn if clock.turn_left else clock.turn + 1
        for step in range(count):
            number = (first + step) % count
            cpu = self._cpus[number]
            if self._halted[number]:
                continue
            if cpu.idle_until is not None:
                if cpu.idle_until > now:
                    continue
                cpu.idle_until = None
            if not clock.turn_left or number != clock.turn:
                clock.turn, clock.turn_left = number, QUANTUM
            return number
        return None

    def _deadline(self) -> int | None:
        """When the next timer goes off or the next CPU awakes."""
        times = [cpu.idle_until for cpu in self._cpus if cpu.idle_until is not None]
        timer = self._clock.next_deadline()
        return min([*times, timer] if timer is not None else times, default=None)

    def _limit(self) -> int:
        """How many wide instructions of the turn may be executed before something is due."""
        deadline = self._deadline()
        left = self._clock.turn_left
        if deadline is not None:
            left = min(left, max(-(-(deadline - self._clock.now()) >> self._clock.shift), 1))
        return left

    # -- virtual and real time

    def _rest(self, resting: float | None) -> tuple[float | None, float | None]:
        """All CPUs rest: (seconds to wait, None: for somebody; since when they rest)."""
        deadline = self._deadline()
        if deadline is None:
            return None, time.monotonic() if resting is None else resting
        missing = deadline - self._clock.now()
        if not self._clock.icount.sleep:
            self._clock.advance(missing)
            return 0, None
        now = time.monotonic()
        resting = now if resting is None else resting
        left = missing / 1e9 - (now - resting)
        if left > 0:
            return left, resting
        self._clock.advance(missing)
        return 0, None

    def _rested(self, since: float) -> None:
        """Somebody came before the next timer: the time until now has passed."""
        if self._clock.icount.sleep:
            passed = int((time.monotonic() - since) * 1e9)
            deadline = self._deadline()
            if deadline is not None:
                passed = min(passed, max(deadline - self._clock.now(), 0))
            self._clock.advance(passed)

    def _ahead(self) -> float:
        """Seconds to wait because virtual time is ahead of real time; ``shift=auto`` changes its speed."""
        icount = self._clock.icount
        if not (icount.auto or icount.align):
            return 0
        now = time.monotonic()
        if self._since is None:
            self._since, self._next_look = (now, self._clock.now()), now + ADJUST_EVERY
        ahead = self._clock.now() - self._since[1] - int((now - self._since[0]) * 1e9)
        if icount.align:
            return ahead / 1e9 if ahead > ALIGN_ABOVE else 0
        if now >= self._next_look:
            self._next_look = now + ADJUST_EVERY
            if ahead > WOBBLE and self._clock.shift > 0:
                self._clock.set_shift(self._clock.shift - 1)
            elif ahead < -WOBBLE and self._clock.shift < MAX_SHIFT:
                self._clock.set_shift(self._clock.shift + 1)
        return 0

"""The system timer of machines with interrupt controllers: the LT timer, whose line means what kernels expect.

Its registers are those of ``lt_timer.py`` and ``iohub_timer.py``. The counter runs from START_VALUE (1 after power-on)
up to COUNTER_LIMIT and starts again; the limit bit L (31 of COUNTER and COUNTER_LIMIT) is the timer's line:

* without CONTROL.invert L is set at the limit, and cleared by writing COUNTER_LIMIT;
* with CONTROL.invert L changes at every limit, so that its rising edge comes every second time.

Writing CONTROL with start begins the count, with CONTROL.l_ini as L; without start the timer stands and L is 0.
Linux and Embox launch it with 7, half their period as the limit, and take the edge (comments of that driver of
Linux are the source).
"""

from __future__ import annotations

from typing import ClassVar

from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Reg
from e2kemu.devices.iohub_timer import IohubTimer
from e2kemu.devices.lt_timer import (
    CONTROL_INVERT,
    CONTROL_L_INI,
    CONTROL_START,
    COUNT_MASK,
    NS_PER_TICK,
    REACHED,
    SHIFT,
    SHORTEST_NS,
    LtTimer,
)

LONGEST_NS = (1 << 32) * NS_PER_TICK
"""No limit is farther away."""


class SystemTimer(IohubTimer):
    """System timer and watchdog, 10 MHz"""

    name = "system-timer"

    start_value = Reg("u32", 0x04, mask=COUNT_MASK, reset=1 << SHIFT, doc="30:9 where the count begins")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "system-timer", 1,
        [
            LtTimer.counter_limit, start_value, LtTimer.counter, LtTimer.control, LtTimer.wd_counter_low,
            LtTimer.wd_limit, LtTimer.wd_control, LtTimer.counter_start_ns, LtTimer.wd_start_ns, LtTimer.reset_ns,
            LtTimer.power_latch, LtTimer.reset_latch, vm.timer("expiry"), vm.timer("wd_expiry"),
        ],
        post_load="_post_load",
    )  # fmt: skip

    @property
    def _start(self) -> int:
        return (self.start_value & COUNT_MASK) >> SHIFT

    def _period(self) -> int:
        return max(0, ((self.counter_limit & COUNT_MASK) >> SHIFT) - self._start)

    def _set_l(self, level: bool) -> None:
        self.counter_limit = self.counter_limit & ~REACHED | (REACHED if level else 0)
        self._update_line()

    def _update_line(self) -> None:
        self.irq.set(bool(self.counter_limit & REACHED))

    def _read_counter(self) -> int:
        # ticks are counted from where the count begins
        return (self._ticks() + self._start) << SHIFT & COUNT_MASK | self.counter_limit & REACHED

    def _write_counter(self, value: int) -> None:
        self._set_ticks(max(0, ((value & COUNT_MASK) >> SHIFT) - self._start))

    def _reached(self) -> None:
        self._set_l(not (self.control & CONTROL_INVERT and self.counter_limit & REACHED))
        self._arm()

    def _write_limit(self, value: int) -> None:
        level = bool(self.control & CONTROL_INVERT and self.counter_limit & REACHED)
        self.counter_limit = value & COUNT_MASK
        self._set_l(level)
        self._set_ticks(0)

    def _write_control(self, value: int) -> None:
        ticks = self._ticks()
        self.control = value & (CONTROL_START | CONTROL_INVERT)
        start = bool(value & CONTROL_START)
        self._set_l(start and bool(value & CONTROL_L_INI))
        self._set_ticks(0 if start else ticks)

    def _arm_wd(self) -> None:
        super()._arm_wd()
        if self.wd_expiry.expire is not None and self.wd_expiry.expire < 0:
            self.wd_expiry.arm(0)          # before time began: overdue

    def _post_load(self, version: int) -> None:
        now = self._clock.now()
        for started in (self.counter_start_ns, self.wd_start_ns, self.reset_ns):
            if started > now:
                raise ValueError(f"a counter was started in the future, at {started}")
        for alarm, longest in ((self.expiry, COUNT_MASK * NS_PER_TICK + SHORTEST_NS), (self.wd_expiry, LONGEST_NS)):
            if alarm.expire is not None and alarm.expire > now + longest:
                alarm.cancel()
                self.expiry.cancel()
                raise ValueError("an alarm is too far in the future")
        self._update_line()
        self._update_wd_line()

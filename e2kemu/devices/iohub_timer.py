"""The LT timer as IOHUB has it: with a watchdog that does something.

Registers and counter are those of ``lt_timer.py``; WD_CONTROL is that of the public Linux headers for e2k:
0 interrupt mode, 1 run, 2 event (write 1 clears). When WD_COUNTER reaches WD_LIMIT the event is set; in interrupt
mode the watchdog's line goes up until the event is cleared, otherwise the machine is reset, if the reset control
register (``iohub.py``) lets the watchdog do that. A limit of 0 never comes. A driver feeds it by writing 0 to
WD_COUNTER.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Irq
from e2kemu.devices.lt_timer import LtTimer

INTERRUPT_MODE, RUN, EVENT = 1, 2, 4


class IohubTimer(LtTimer):
    """IOHUB system timer and watchdog, 10 MHz"""

    name = "iohub-timer"
    wd_run = RUN
    wd_event = EVENT

    wd_irq = Irq("the watchdog has run out (interrupt mode)")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "iohub-timer", 1,
        [
            LtTimer.counter_limit, LtTimer.start_value, LtTimer.counter, LtTimer.control, LtTimer.wd_counter_low,
            LtTimer.wd_limit, LtTimer.wd_control, LtTimer.counter_start_ns, LtTimer.wd_start_ns, LtTimer.reset_ns,
            LtTimer.power_latch, LtTimer.reset_latch,
        ],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, clock: VirtualClock, on_watchdog: Callable[[], None]) -> None:
        """``on_watchdog()`` is the watchdog's reset output."""
        super().__init__(clock)
        self._on_watchdog = on_watchdog

    def _wd_reached(self) -> None:
        self.wd_control |= EVENT
        self._update_wd_line()
        if not self.wd_control & INTERRUPT_MODE:
            self._on_watchdog()

    def _arm_wd(self) -> None:
        if self.wd_limit:
            super()._arm_wd()
        else:
            self.wd_expiry.cancel()

    def _write_wd_control(self, value: int) -> None:
        ticks = self._wd_ticks()
        event = self.wd_control & EVENT & ~value
        self.wd_control = value & (INTERRUPT_MODE | RUN) | event
        self._set_wd(ticks)
        self._update_wd_line()

    def _update_wd_line(self) -> None:
        self.wd_irq.set(self.wd_control & (INTERRUPT_MODE | EVENT) == INTERRUPT_MODE | EVENT)

    def _post_load(self, version: int) -> None:
        super()._post_load(version)
        self._update_wd_line()

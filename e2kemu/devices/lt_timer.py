"""LT timer: the system timer of Elbrus machines, 10 MHz of virtual time.

The counter runs from 0 up to COUNTER_LIMIT and starts again; reaching the limit sets bit 31 of
COUNTER and COUNTER_LIMIT (until COUNTER_LIMIT is written) and, with CONTROL.start, raises the line.
Limit and counter are bits 30:9: the hardware counts nanosecond fractions below, this one counts whole
ticks of 100 ns, one tick being 1 << 9. POWER_COUNTER counts ticks since power-on and never stops;
reading its low word keeps the high word of the same moment for the next read of that. The same for
RESET_COUNTER (ticks since reset).

The watchdog counts ticks while WD_CONTROL bit 0 is set, up to WD_LIMIT; then it stops there with
WD_CONTROL bit 1 (event) set and says so in the log (-d guest_errors); it does not reset the machine.

| offset | register             | bits                                             |
|--------|----------------------|--------------------------------------------------|
| 0x00   | COUNTER_LIMIT        | 30:9 limit, 31 reached                           |
| 0x04   | START_VALUE          | 30:9 value taken at CONTROL.l_ini                |
| 0x08   | COUNTER              | 30:9 value, 31 reached                           |
| 0x0c   | CONTROL              | 0 start, 1 invert, 2 l_ini (load START_VALUE)    |
| 0x10/14| WD_COUNTER low/high  | ticks                                            |
| 0x18   | WD_LIMIT             | ticks                                            |
| 0x1c/20| POWER_COUNTER        | ticks, 64 bits, read-only                        |
| 0x24   | WD_CONTROL           | 0 run, 1 event (write 1 clears)                  |
| 0x28/2c| RESET_COUNTER        | ticks, 64 bits, read-only                        |
"""

from __future__ import annotations

from typing import ClassVar

from e2kemu import trace
from e2kemu.clock import VirtualClock
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Irq, Reg

FREQUENCY = 10_000_000
"""Ticks per second of virtual time."""

NS_PER_TICK = 1_000_000_000 // FREQUENCY
SHORTEST_NS = 50_000
"""The alarm for the limit goes off no sooner than this."""

SHIFT = 9
"""Position of the tick count in COUNTER_LIMIT, START_VALUE and COUNTER."""

COUNT_MASK = 0x7FFF_FE00
REACHED = 1 << 31
CONTROL_START, CONTROL_INVERT, CONTROL_L_INI = 1, 2, 4
WD_RUN, WD_EVENT = 1, 2


class LtTimer(Device):
    """Elbrus LT timer, 10 MHz"""

    name = "e2k-lt-timer"
    size = 0x40
    wd_run: ClassVar[int] = WD_RUN
    wd_event: ClassVar[int] = WD_EVENT

    counter_limit = Reg("u32", 0x00, write="_write_limit", doc="30:9 limit, 31 reached")
    start_value = Reg("u32", 0x04, mask=COUNT_MASK, doc="30:9 value loaded by CONTROL.l_ini")
    counter = Reg("u32", 0x08, read="_read_counter", write="_write_counter", doc="30:9 value, 31 reached")
    control = Reg("u32", 0x0C, write="_write_control", doc="0 start, 1 invert, 2 l_ini")
    wd_counter_low = Reg("u32", 0x10, read="_read_wd_low", write="_write_wd_low", doc="watchdog ticks")
    wd_counter_high = Reg("u32", 0x14, read="_read_wd_high", readonly=True, doc="watchdog ticks, high word")
    wd_limit = Reg("u32", 0x18, write="_write_wd_limit", doc="watchdog limit in ticks")
    power_counter_low = Reg("u32", 0x1C, read="_read_power_low", readonly=True, doc="ticks since power-on")
    power_counter_high = Reg("u32", 0x20, read="_read_power_high", readonly=True, doc="their high word")
    wd_control = Reg("u32", 0x24, write="_write_wd_control", doc="0 run, 1 event")
    reset_counter_low = Reg("u32", 0x28, read="_read_reset_low", readonly=True, doc="ticks since reset")
    reset_counter_high = Reg("u32", 0x2C, read="_read_reset_high", readonly=True, doc="their high word")

    counter_start_ns = Reg("i64", doc="virtual time at which the running counter was 0")
    wd_start_ns = Reg("i64", doc="virtual time at which the running watchdog was 0")
    reset_ns = Reg("i64", doc="virtual time of the last reset")
    power_latch = Reg("u32", doc="high word of POWER_COUNTER at the last read of its low word")
    reset_latch = Reg("u32", doc="the same for RESET_COUNTER")

    irq = Irq("the counter has reached its limit")

    vmstate: ClassVar[vm.VMState] = vm.VMState(
        "e2k-lt-timer", 1,
        [
            counter_limit, start_value, counter, control, wd_counter_low, wd_limit, wd_control,
            counter_start_ns, wd_start_ns, reset_ns, power_latch, reset_latch,
        ],
        post_load="_post_load",
    )  # fmt: skip

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self.expiry = clock.timer(self._reached)
        self.wd_expiry = clock.timer(self._wd_reached)

    def reset(self) -> None:
        """Everything stops; POWER_COUNTER runs on."""
        super().reset()
        self.expiry.cancel()
        self.wd_expiry.cancel()
        self.reset_ns = self._clock.now()

    def properties(self) -> dict[str, str]:
        """What ``info qtree`` shows."""
        return {"frequency": str(FREQUENCY)}

    # -- the counter

    def _period(self) -> int:
        return (self.counter_limit & COUNT_MASK) >> SHIFT

    def _ticks(self) -> int:
        """The counter's value in ticks."""
        if not self.control & CONTROL_START:
            return (self.counter & COUNT_MASK) >> SHIFT
        ticks = max(0, self._clock.now() - self.counter_start_ns) // NS_PER_TICK
        return ticks % self._period() if self._period() else ticks & (COUNT_MASK >> SHIFT)

    def _read_counter(self) -> int:
        return self._ticks() << SHIFT | self.counter & REACHED

    def _set_ticks(self, ticks: int) -> None:
        """Go on counting (or stand) at ``ticks``, and arm the alarm for the limit."""
        self.counter = ticks << SHIFT & COUNT_MASK | self.counter & REACHED
        self.counter_start_ns = self._clock.now() - ticks * NS_PER_TICK
        self._arm()

    def _arm(self) -> None:
        if not self.control & CONTROL_START or not self._period():
            self.expiry.cancel()
            return
        period = self._period() * NS_PER_TICK
        laps = max(0, self._clock.now() - self.counter_start_ns) // period
        due = self.counter_start_ns + (laps + 1) * period
        # a limit of a few ticks must not keep the main loop busy: late by this much is not seen by a guest
        self.expiry.arm(max(due, self._clock.now() + SHORTEST_NS))

    def _reached(self) -> None:
        self.counter |= REACHED
        self.counter_limit |= REACHED
        self._update_line()
        self._arm()

    def _update_line(self) -> None:
        self.irq.set(bool(self.counter_limit & REACHED) != bool(self.control & CONTROL_INVERT))

    def _write_limit(self, value: int) -> None:
        ticks = self._ticks()
        self.counter_limit = value & COUNT_MASK
        self.counter &= ~REACHED
        self._update_line()
        self._set_ticks(ticks if ticks < self._period() else 0)

    def _write_counter(self, value: int) -> None:
        self._set_ticks((value & COUNT_MASK) >> SHIFT)

    def _write_control(self, value: int) -> None:
        ticks = (self.start_value & COUNT_MASK) >> SHIFT if value & CONTROL_L_INI else self._ticks()
        self.control = value & (CONTROL_START | CONTROL_INVERT)
        self._update_line()
        self._set_ticks(ticks)

    # -- the watchdog

    def _wd_ticks(self) -> int:
        if not self.wd_control & self.wd_run:
            return self.wd_counter_low
        return min((self._clock.now() - self.wd_start_ns) // NS_PER_TICK, self.wd_limit)

    def _read_wd_low(self) -> int:
        return self._wd_ticks() & 0xFFFF_FFFF

    def _read_wd_high(self) -> int:
        return self._wd_ticks() >> 32

    def _set_wd(self, ticks: int) -> None:
        self.wd_counter_low = ticks
        self.wd_start_ns = self._clock.now() - ticks * NS_PER_TICK
        self._arm_wd()

    def _arm_wd(self) -> None:
        if self.wd_control & self.wd_run and not self.wd_control & self.wd_event:
            self.wd_expiry.arm(self.wd_start_ns + self.wd_limit * NS_PER_TICK)
        else:
            self.wd_expiry.cancel()

    def _wd_reached(self) -> None:
        self.wd_control |= self.wd_event
        trace.guest_error(f"{self.name}: the watchdog has run out")

    def _write_wd_low(self, value: int) -> None:
        self._set_wd(value)

    def _write_wd_limit(self, value: int) -> None:
        ticks = self._wd_ticks()
        self.wd_limit = value
        self._set_wd(ticks)

    def _write_wd_control(self, value: int) -> None:
        ticks = self._wd_ticks()
        event = self.wd_control & WD_EVENT & ~value
        self.wd_control = value & WD_RUN | event
        self._set_wd(ticks)

    # -- the free-running counters

    def _read_power_low(self) -> int:
        ticks = self._clock.now() // NS_PER_TICK
        self.power_latch = ticks >> 32
        return ticks & 0xFFFF_FFFF

    def _read_power_high(self) -> int:
        return self.power_latch

    def _read_reset_low(self) -> int:
        ticks = (self._clock.now() - self.reset_ns) // NS_PER_TICK
        self.reset_latch = ticks >> 32
        return ticks & 0xFFFF_FFFF

    def _read_reset_high(self) -> int:
        return self.reset_latch

    def _post_load(self, version: int) -> None:
        now = self._clock.now()
        for reg in (type(self).counter_start_ns, type(self).wd_start_ns, type(self).reset_ns):
            if self.values[reg.name] > now:
                raise ValueError(f"{reg.name} is in the future")
        self._update_line()
        self._arm()
        self._arm_wd()

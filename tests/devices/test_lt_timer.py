"""The LT timer counts virtual time at 10 MHz."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from e2kemu.clock import VirtualClock
from e2kemu.devices import lt_timer as lt
from e2kemu.devices.lt_timer import LtTimer

LIMIT, START, COUNTER, CONTROL, WD_LOW, WD_LIMIT = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x18
POWER_LOW, POWER_HIGH, WD_CONTROL, RESET_LOW = 0x1C, 0x20, 0x24, 0x28


def at(clock: VirtualClock, ns: int) -> None:
    """Let virtual time stand at ``ns``, timers fired."""
    clock.set(ns)
    clock.start()
    clock.run_expired()
    clock.stop()
    clock.set(ns)


@given(st.integers(0, 1 << 62))
def test_the_power_counter_is_virtual_time_in_tenths_of_microseconds(ns: int) -> None:
    clock = VirtualClock()
    timer = LtTimer(clock)
    clock.set(ns)
    low = timer.mmio_read(POWER_LOW, 4)
    clock.set(ns + (1 << 45))
    assert timer.mmio_read(POWER_HIGH, 4) << 32 | low == ns // 100, "the high word is of the same moment"


def test_the_counter_runs_up_to_its_limit_says_so_and_starts_again() -> None:
    clock = VirtualClock()
    timer = LtTimer(clock)
    timer.mmio_write(LIMIT, 4, 100_000 << 9)           # 10 ms
    timer.mmio_write(CONTROL, 4, lt.CONTROL_START | lt.CONTROL_L_INI)
    at(clock, 4_000_000)
    assert timer.mmio_read(COUNTER, 4) == 40_000 << 9
    assert timer.irq.level is False
    at(clock, 12_000_000)
    assert timer.mmio_read(COUNTER, 4) == 20_000 << 9 | lt.REACHED
    assert timer.mmio_read(LIMIT, 4) == 100_000 << 9 | lt.REACHED
    assert timer.irq.level is True
    timer.mmio_write(LIMIT, 4, 100_000 << 9)
    assert timer.irq.level is False
    assert clock.next_deadline() == 20_000_000
    timer.mmio_write(CONTROL, 4, 0)
    at(clock, 50_000_000)
    assert timer.mmio_read(COUNTER, 4) == 20_000 << 9, "a stopped counter stands"
    assert clock.next_deadline() is None


def test_the_counter_starts_from_the_start_value() -> None:
    clock = VirtualClock()
    timer = LtTimer(clock)
    timer.mmio_write(START, 4, 500 << 9)
    timer.mmio_write(LIMIT, 4, 1000 << 9)
    timer.mmio_write(CONTROL, 4, lt.CONTROL_START | lt.CONTROL_L_INI)
    assert timer.mmio_read(COUNTER, 4) == 500 << 9
    at(clock, 10_000)
    assert timer.mmio_read(COUNTER, 4) == 600 << 9


def test_the_watchdog_stops_at_its_limit_with_an_event_that_can_be_cleared() -> None:
    clock = VirtualClock()
    timer = LtTimer(clock)
    timer.mmio_write(WD_LIMIT, 4, 1000)
    timer.mmio_write(WD_CONTROL, 4, lt.WD_RUN)
    at(clock, 50_000)
    assert timer.mmio_read(WD_LOW, 4) == 500
    at(clock, 200_000)
    assert timer.mmio_read(WD_LOW, 4) == 1000
    assert timer.mmio_read(WD_CONTROL, 4) == lt.WD_RUN | lt.WD_EVENT
    timer.mmio_write(WD_CONTROL, 4, lt.WD_EVENT)
    assert timer.mmio_read(WD_CONTROL, 4) == 0


def test_reset_counts_anew_and_power_does_not() -> None:
    clock = VirtualClock()
    timer = LtTimer(clock)
    clock.set(1_000_000)
    timer.reset()
    clock.set(1_500_000)
    assert timer.mmio_read(RESET_LOW, 4) == 5000
    assert timer.mmio_read(POWER_LOW, 4) == 15000


def test_a_tiny_limit_does_not_keep_the_main_loop_busy() -> None:
    clock = VirtualClock()
    timer = LtTimer(clock)
    timer.mmio_write(LIMIT, 4, 1 << 9)
    timer.mmio_write(CONTROL, 4, lt.CONTROL_START)
    deadline = clock.next_deadline()
    assert deadline is not None
    assert deadline >= lt.SHORTEST_NS

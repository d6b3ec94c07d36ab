"""The system timer of machines with interrupt controllers: its line as Linux and Embox use it."""

from __future__ import annotations

from e2kemu.clock import VirtualClock
from e2kemu.devices.system_timer import SystemTimer
from e2kemu.wire import BytesReader, Writer

US = 1000
START, INVERT, INIT = 1, 2, 4


class Rig:
    """A timer, its line watched."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.timer = SystemTimer(self.clock, lambda: None)
        self.rises = 0
        self.timer.irq.sink = self._sink

    def _sink(self, level: bool) -> None:
        self.rises += level

    def write(self, offset: int, value: int) -> None:
        self.timer.mmio_write(offset, 4, value)

    def read(self, offset: int) -> int:
        return self.timer.mmio_read(offset, 4)

    def advance(self, ns: int) -> None:
        end = self.clock.now() + ns
        while (due := self.clock.next_deadline()) is not None and due <= end:
            self.clock.set(max(due, self.clock.now()))
            for timer in list(self.clock._timers):
                if timer.expire is not None and timer.expire <= self.clock.now():
                    timer.fire()
        self.clock.set(end)


def test_launched_with_7_the_line_rises_every_second_time_that_the_limit_is_reached() -> None:
    rig = Rig()
    rig.write(0x0, 5001 << 9)              # Linux: LATCH / 2 + 1, from 1 to the limit
    rig.write(0xC, START | INVERT | INIT)
    assert (rig.timer.irq.level, rig.read(0x8) >> 31, rig.rises) == (True, 1, 1)
    rig.advance(499 * US)
    assert rig.read(0x8) == 1 << 31 | 4991 << 9
    rig.advance(US)
    assert (rig.timer.irq.level, rig.read(0x8), rig.read(0x0)) == (False, 1 << 9, 5001 << 9)
    rig.advance(500 * US)
    assert (rig.timer.irq.level, rig.read(0x0)) == (True, 1 << 31 | 5001 << 9)
    rig.advance(100_000 * US)
    assert rig.rises == 2 + 100
    rig.write(0xC, 0)
    rig.advance(100_000 * US)
    assert (rig.timer.irq.level, rig.rises) == (False, 102)


def test_without_invert_the_line_stays_up_until_the_limit_is_written() -> None:
    rig = Rig()
    rig.write(0x4, 0)
    rig.write(0x0, 10_000 << 9)
    rig.write(0xC, START)
    assert not rig.timer.irq.level
    rig.advance(3500 * US)
    assert (rig.timer.irq.level, rig.rises) == (True, 1)
    assert rig.read(0x8) == 1 << 31 | 5000 << 9
    rig.write(0x0, 10_000 << 9)
    assert (rig.timer.irq.level, rig.read(0x8)) == (False, 0)
    rig.advance(1000 * US)
    assert rig.timer.irq.level


def test_a_limit_that_was_due_and_not_told_is_told_on_the_other_side() -> None:
    rig, there = Rig(), Rig()
    rig.write(0x0, 5001 << 9)
    rig.write(0xC, START | INVERT)
    rig.clock.set(600 * US)                # the main loop did not get to it
    w = Writer()
    section, target = rig.timer.section(), there.timer.section()
    assert section is not None
    assert target is not None
    section.save(w)
    there.clock.set(rig.clock.now())
    target.load(BytesReader(w.getvalue()), 1)
    assert not there.timer.irq.level
    there.advance(1)
    assert there.timer.irq.level
    there.advance(400 * US)
    assert not there.timer.irq.level, "the period goes on"

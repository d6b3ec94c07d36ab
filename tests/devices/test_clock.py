"""Virtual time runs only while the machine does, and travels."""

from __future__ import annotations

import time

import pytest

from e2kemu.clock import VirtualClock
from e2kemu.errors import StreamError
from e2kemu.wire import BytesReader, Writer


def test_time_passes_only_between_start_and_stop() -> None:
    clock = VirtualClock()
    assert clock.now() == 0
    time.sleep(0.002)
    assert clock.now() == 0
    clock.start()
    time.sleep(0.002)
    clock.stop()
    held = clock.now()
    assert held >= 2_000_000
    time.sleep(0.002)
    assert clock.now() == held


def test_timers_fire_in_order_once_and_only_when_due() -> None:
    clock, fired = VirtualClock(), []
    late, soon, never = (clock.timer(lambda n=name: fired.append(n)) for name in ("late", "soon", "never"))
    late.arm(500)
    soon.arm(100)
    never.arm(1 << 60)
    assert clock.next_deadline() == 100
    clock.set(1000)
    clock.run_expired()
    assert fired == [], "a stopped clock's timers do not go off"
    clock.start()
    clock.run_expired()
    clock.run_expired()
    assert fired == ["soon", "late"]
    assert clock.next_deadline() == 1 << 60
    never.cancel()
    assert clock.next_deadline() is None


def test_a_timer_may_arm_itself_again() -> None:
    clock, fired = VirtualClock(), []

    def tick() -> None:
        fired.append(len(fired))
        timer.arm(100 * (len(fired) + 1))

    timer = clock.timer(tick)
    timer.arm(100)
    clock.set(350)
    clock.start()
    clock.run_expired()
    assert fired[:3] == [0, 1, 2]


def test_the_section_is_qemus_timer_section() -> None:
    clock = VirtualClock()
    clock.set(0x0102030405060708)
    w = Writer()
    clock.save(w)
    assert w.getvalue().hex() == "0102030405060708" + "00" * 8 + "0102030405060708"
    assert sum(field["size"] for field in clock.vmdesc()["fields"]) == w.position == 24
    there = VirtualClock()
    there.load(BytesReader(w.getvalue()), 2)
    assert there.now() == clock.now()
    again = Writer()
    there.save(again)
    assert again.getvalue() == w.getvalue()


def test_ticks_of_another_rate_survive_and_version_1_keeps_the_time() -> None:
    body = bytes.fromhex("00000000000000ff" + "00" * 8 + "0000000000000010")
    clock = VirtualClock()
    clock.load(BytesReader(body), 2)
    w = Writer()
    clock.save(w)
    assert w.getvalue() == body
    clock.load(BytesReader(body[:16]), 1)
    assert clock.now() == 0x10
    with pytest.raises(StreamError, match="virtual time is -1 ns in section 'timer'"):
        clock.load(BytesReader(b"\xff" * 24), 2)

"""The main loop: calls from other threads, descriptors, timers, faults that do not end it."""

from __future__ import annotations

import os
import threading

import pytest

from e2kemu.clock import VirtualClock
from e2kemu.errors import OptionError
from e2kemu.loop import MainLoop
from tests.chardev.conftest import RunningLoop, eventually


def test_calls_from_many_threads_all_happen_and_keep_each_threads_order(running: RunningLoop) -> None:
    seen: list[tuple[int, int]] = []
    threads = [
        threading.Thread(
            target=lambda who=who: [
                running.loop.call_soon(lambda i=i: seen.append((who, i))) for i in range(500)
            ]
        )
        for who in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: len(seen) == 2000)
    for who in range(4):
        assert [i for w, i in seen if w == who] == list(range(500))


def test_callbacks_hold_the_machine_lock() -> None:
    lock = threading.RLock()
    loop = MainLoop(lock)
    free: list[bool] = []

    def look() -> None:
        thread = threading.Thread(target=lambda: free.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        loop.quit(7)

    loop.call_soon(look)
    assert loop.run() == 7
    assert free == [False]


def test_descriptors_wake_the_loop_even_regular_files(running: RunningLoop) -> None:
    reading, writing = os.pipe()
    got: list[bytes] = []
    running.loop.add_reader(reading, lambda: got.append(os.read(reading, 10)))
    os.write(writing, b"x")
    eventually(lambda: got == [b"x"])
    running.loop.remove_reader(reading)
    with open(__file__, "rb") as file:
        seen: list[int] = []
        running.loop.add_reader(file.fileno(), lambda: seen.append(1))
        eventually(lambda: bool(seen))
        running.do(lambda: running.loop.remove_reader(file.fileno()))
    os.close(reading)
    os.close(writing)


def test_timers_run_in_their_order_and_can_be_cancelled(running: RunningLoop) -> None:
    seen: list[str] = []
    running.do(
        lambda: (
            running.loop.call_later(0.03, lambda: seen.append("late")),
            running.loop.call_later(0.01, lambda: seen.append("early")),
            running.loop.call_later(0.02, lambda: seen.append("never")).cancel(),
        )
    )
    eventually(lambda: len(seen) == 2)
    assert seen == ["early", "late"]


def test_virtual_timers_run_while_their_clock_runs(running: RunningLoop) -> None:
    clock = VirtualClock()
    seen: list[int] = []
    timer = clock.timer(lambda: seen.append(clock.now()))

    def begin() -> None:
        running.loop.attach_clock(clock)
        timer.arm(5_000_000)

    running.do(begin)
    assert not seen
    running.do(clock.start)
    eventually(lambda: bool(seen))
    assert seen[0] >= 5_000_000


def test_a_fault_in_a_callback_is_said_and_survived(
    running: RunningLoop, capfd: pytest.CaptureFixture[str]
) -> None:
    def wrong() -> None:
        raise OptionError("this is wrong")

    def broken() -> None:
        raise ZeroDivisionError

    running.loop.call_soon(wrong)
    running.loop.call_soon(broken)
    assert running.do(lambda: 5) == 5
    errors = capfd.readouterr().err
    assert errors.startswith("e2kemu: this is wrong\ne2kemu: internal error\n")
    assert "ZeroDivisionError" in errors


def test_the_first_status_counts_and_calls_made_before_the_end_still_happen() -> None:
    loop = MainLoop()
    seen: list[int] = []
    loop.call_soon(lambda: (loop.quit(3), loop.quit(4), loop.call_soon(lambda: seen.append(1))))
    assert loop.run() == 3
    assert seen == [1]

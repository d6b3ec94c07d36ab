"""The throttle slows a guest down by the part of time it was told, and is never in the way of anybody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from e2kemu.loop import MainLoop
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.machine import Machine


class SteppingCpu:
    """Counts its steps."""

    idle_until: int | None = None

    def __init__(self, index: int) -> None:
        self.index = index
        self.steps = 0
        self._exit = False

    def run(self, limit: int | None = None) -> str:
        while not self._exit:
            self.steps += 1
            time.sleep(0.0005)
        self._exit = False
        return "exit"

    def request_exit(self) -> None:
        self._exit = True

    def reset(self) -> None:
        pass

    def invalidate(self, address: int, size: int) -> None:
        pass


@pytest.fixture
def machine() -> Iterator[Machine]:
    lock = threading.RLock()
    made = Machine(MachineConfig(), MainLoop(lock), lock)
    made.cpus += [SteppingCpu(0), SteppingCpu(1)]
    made.start()
    yield made
    made.close()


def steps_in(machine: Machine, seconds: float) -> int:
    before = sum(cpu.steps for cpu in machine.cpus)
    time.sleep(seconds)
    return int(sum(cpu.steps for cpu in machine.cpus)) - before


def throttles(expected: int) -> bool:
    """As many threads of throttles as expected, soon."""
    deadline = time.monotonic() + 10
    while (count := sum(thread.name == "throttle" for thread in threading.enumerate())) != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return count == expected


def test_a_throttled_guest_runs_less_and_all_of_the_time_afterwards(machine: Machine) -> None:
    free = steps_in(machine, 0.4)
    machine.set_throttle(90)
    assert machine.throttle_percentage == 90
    steps_in(machine, 0.1)
    slow = steps_in(machine, 0.4)
    assert 0 < slow < free / 2
    machine.set_throttle(0)
    assert steps_in(machine, 0.4) > 2 * slow
    assert machine.throttle_percentage == 0
    assert machine.is_running()


def test_next_to_nothing_is_left_of_a_guest_behind_99_percent(machine: Machine) -> None:
    free = steps_in(machine, 0.4)
    machine.set_throttle(99.9)
    steps_in(machine, 0.1)
    slow = steps_in(machine, 1.5)
    assert slow < free / 10
    assert machine.throttle_percentage == 99
    machine.set_throttle(0)
    assert steps_in(machine, 0.4) > 2 * slow


def test_a_throttled_guest_is_paused_at_once_and_stands_still(machine: Machine) -> None:
    machine.set_throttle(99)
    for _ in range(20):
        machine.stop()
        assert steps_in(machine, 0.01) == 0
        machine.start()
        with machine.quiesced():
            assert steps_in(machine, 0.005) == 0
    assert machine.throttle_percentage == 99


def test_the_throttles_thread_ends_with_it_and_with_the_machine(machine: Machine) -> None:
    for percent in (50, 0, 99, 20, 0, 99):
        machine.set_throttle(percent)
        assert throttles(int(percent > 0))
    machine.close()
    assert throttles(0)


def test_a_percentage_out_of_range_is_cut(machine: Machine) -> None:
    machine.set_throttle(1000)
    assert machine.throttle_percentage == 99
    machine.set_throttle(-1)
    assert machine.throttle_percentage == 0

"""Run states, stillness, reset and shutdown, with a CPU that only counts: another executor may be
anything with the methods of one, and this one shows at once whether it stood still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from e2kemu.errors import GuestError, StateError
from e2kemu.loop import MainLoop
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.machine import Machine
from e2kemu.machine.runstate import TRANSITIONS, check_transition
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import MmioRegion, RAMRegion

DEVICE = 0x10_0000


class CountingCpu:
    """Each step adds one to the first word of RAM and calls ``act`` (if any)."""

    def __init__(self, index: int, machine: Machine) -> None:
        self.index, self.machine = index, machine
        self.idle_until: int | None = None
        self.act: Callable[[], str | None] | None = None
        self.resets = 0
        self._exit = False

    def run(self, limit: int | None = None) -> str:
        block = self.machine.ram_blocks[0]
        while not self._exit:
            block.write(0, (int.from_bytes(block.read(0, 8), "little") + 1).to_bytes(8, "little"))
            if self.act is not None:
                reason = self.act()
                if reason is not None:
                    return reason
            time.sleep(0)
        self._exit = False
        return "exit"

    def request_exit(self) -> None:
        self._exit = True

    def reset(self) -> None:
        self.resets += 1

    def invalidate(self, address: int, size: int) -> None:
        pass


class Rig:
    """A machine of one block, one counting CPU and its main loop in a thread."""

    def __init__(self, **options: Any) -> None:
        lock = threading.RLock()
        self.loop = MainLoop(lock)
        self.machine = Machine(MachineConfig(**options), self.loop, lock)
        block = RAMBlock("ram", 1 << 20)
        self.machine.ram_blocks.append(block)
        self.machine.space.map(0, RAMRegion(block), "ram")
        self.cpu = CountingCpu(0, self.machine)
        self.machine.cpus.append(self.cpu)
        self.events: list[tuple[str, Mapping[str, Any] | None]] = []
        self.machine.listeners.append(lambda name, data: self.events.append((name, data)))
        self.status: list[int] = []
        self.thread = threading.Thread(target=lambda: self.status.append(self.loop.run()))
        self.thread.start()

    @property
    def count(self) -> int:
        return int.from_bytes(self.machine.ram_blocks[0].read(0, 8), "little")

    def wait(self, condition: Callable[[], bool]) -> None:
        for _ in range(2000):
            if condition():
                return
            time.sleep(0.005)
        raise AssertionError("never happened")

    def runs(self) -> bool:
        before = self.count
        time.sleep(0.03)
        return self.count != before

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@pytest.fixture
def rigs() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(Rig(**options))
        return made[-1]

    yield make
    for rig in made:
        rig.loop.quit(0)
        rig.thread.join()
        rig.machine.close()
        rig.loop.close()


def test_a_machine_starts_stops_and_says_so(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    machine = rig.machine
    assert (machine.run_state, rig.runs()) == ("prelaunch", False)
    machine.start()
    rig.wait(lambda: rig.count > 0)
    machine.start()
    assert machine.clock.running
    machine.stop()
    assert (machine.run_state, rig.runs(), machine.clock.running) == ("paused", False, False)
    machine.stop()
    machine.cont()
    assert rig.runs()
    machine.stop("finish-migrate")
    assert rig.names() == ["RESUME", "STOP", "RESUME", "STOP"]
    with pytest.raises(StateError, match="Migration is not finalized yet"):
        machine.cont()
    machine.set_run_state("postmigrate")
    machine.cont()
    assert rig.runs()


def test_a_stopped_machine_goes_to_another_state_without_an_event(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.machine.stop()
    assert rig.machine.run_state == "prelaunch"
    rig.machine.stop("finish-migrate")
    assert (rig.machine.run_state, rig.events) == ("finish-migrate", [])


def test_only_qemus_transitions_are_possible() -> None:
    assert len(TRANSITIONS) >= 14
    assert all(target in TRANSITIONS for targets in TRANSITIONS.values() for target in targets)
    for old, targets in TRANSITIONS.items():
        for new in TRANSITIONS:
            if new in targets or new == old:
                check_transition(old, new)
            else:
                with pytest.raises(StateError, match=f"invalid runstate transition: '{old}' -> '{new}'"):
                    check_transition(old, new)
    with pytest.raises(StateError, match="unknown run state 'asleep'"):
        check_transition("running", "asleep")


def test_a_refused_transition_leaves_the_guest_running(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.machine.start()
    with pytest.raises(StateError):
        rig.machine.stop("prelaunch")
    assert rig.machine.is_running()
    assert rig.runs()


def test_the_guest_stands_still_while_quiesced_from_any_thread(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.machine.start()
    wrong: list[int] = []

    def look() -> None:
        for _ in range(20):
            with rig.machine.quiesced():
                before = rig.count
                time.sleep(0.001)
                if rig.count != before:
                    wrong.append(before)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        rig.machine.stop()
        rig.machine.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert rig.runs()
    assert rig.events.count(("STOP", None)) == 10


def test_a_pause_from_the_main_loop_does_not_wait_for_a_cpu_that_waits_for_its_lock(
    rigs: Callable[..., Rig],
) -> None:
    rig = rigs()

    class Register:
        def mmio_read(self, offset: int, size: int) -> int:
            return 1

        def mmio_write(self, offset: int, size: int, value: int) -> None:
            pass

    rig.machine.space.map(DEVICE, MmioRegion(Register(), 16), "register")
    rig.cpu.act = lambda: None if rig.machine.space.read(DEVICE, 4) else "fatal"
    rig.machine.start()
    done: list[int] = []
    for number in range(20):
        rig.loop.call_soon(lambda n=number: (rig.machine.stop(), rig.machine.start(), done.append(n)))
    rig.wait(lambda: len(done) == 20)
    assert rig.runs()


def test_a_sleeping_cpu_wakes_at_its_time_and_can_be_paused_meanwhile(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    naps: list[int] = []

    def nap() -> str | None:
        naps.append(rig.machine.clock.now())
        rig.machine.sleeper().idle_until = naps[-1] + (20_000_000 if len(naps) < 3 else 3600 * 10**9)
        return "idle"

    rig.cpu.act = nap
    rig.machine.start()
    rig.wait(lambda: len(naps) == 3)
    assert naps[1] - naps[0] >= 20_000_000
    rig.machine.stop()
    until = rig.cpu.idle_until
    assert until is not None
    rig.machine.start()
    rig.machine.clock.set(until)
    rig.wait(lambda: len(naps) == 4)


def test_the_guests_exit_ends_the_loop_with_its_status_and_it_executes_nothing_more(
    rigs: Callable[..., Rig],
) -> None:
    rig = rigs()

    def leave() -> None:
        rig.machine.shutdown(42, guest=True, reason="guest-shutdown")
        rig.machine.shutdown(1, guest=True, reason="guest-shutdown")

    rig.cpu.act = leave
    rig.machine.start()
    rig.wait(lambda: bool(rig.status))
    assert (rig.status, rig.machine.exit_status, rig.machine.run_state) == ([42], 42, "shutdown")
    assert rig.events == [("RESUME", None), ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})]
    assert rig.count <= 2
    assert not rig.runs()


def test_with_no_shutdown_the_emulator_stays_until_a_reset(rigs: Callable[..., Rig]) -> None:
    rig = rigs(no_shutdown=True)
    rig.cpu.act = lambda: rig.machine.shutdown(0, guest=True, reason="guest-shutdown")
    rig.machine.start()
    rig.wait(lambda: rig.machine.run_state == "shutdown")
    assert rig.names() == ["RESUME", "SHUTDOWN", "STOP"]
    with pytest.raises(StateError, match="Resetting the Virtual Machine is required"):
        rig.machine.cont()
    rig.cpu.act = None
    rig.machine.reset()
    assert rig.machine.run_state == "prelaunch"
    rig.machine.cont()
    assert rig.runs()


def test_a_reset_keeps_a_running_machine_running_and_ram_as_it_is(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.machine.ram_blocks[0].write(4096, b"kept")
    loaded: list[int] = []
    rig.machine.on_reset.append(lambda: loaded.append(1))
    rig.machine.start()
    rig.machine.reset()
    assert rig.machine.is_running()
    assert rig.runs()
    assert (rig.cpu.resets, loaded) == (1, [1])
    assert rig.machine.read_mem(4096, 4) == b"kept"
    assert rig.events[-1] == ("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
    rig.machine.stop()
    rig.machine.reset()
    assert rig.machine.run_state == "prelaunch"


@pytest.mark.parametrize("by_exception", [False, True])
def test_a_cpu_that_cannot_go_on_stops_the_machine_with_one_line(
    rigs: Callable[..., Rig], capfd: pytest.CaptureFixture[str], by_exception: bool
) -> None:
    rig = rigs()

    def die() -> str:
        if by_exception:
            raise GuestError("fell over")
        return "fatal: fell over"

    rig.cpu.act = die
    rig.machine.start()
    rig.wait(lambda: rig.machine.run_state == "internal-error")
    assert capfd.readouterr().err == "e2kemu: CPU 0: fell over\n"
    assert rig.names() == ["RESUME", "STOP"]
    with pytest.raises(StateError, match="Resetting the Virtual Machine is required"):
        rig.machine.cont()


def test_a_breakpoint_stops_in_debug(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    rig.cpu.act = lambda: "breakpoint"
    rig.machine.start()
    rig.wait(lambda: rig.machine.run_state == "debug")


def test_an_incoming_machine_waits_and_remembers_what_it_was_told(rigs: Callable[..., Rig]) -> None:
    rig = rigs(incoming=True, paused=True)
    assert (rig.machine.run_state, rig.machine.autostart) == ("inmigrate", False)
    rig.machine.cont()
    assert (rig.machine.run_state, rig.machine.autostart) == ("inmigrate", True)
    rig.machine.pause()
    assert rig.machine.autostart is False
    rig.machine.start()
    assert rig.runs()


def test_timers_of_devices_fire_in_the_loop_while_the_guest_runs(rigs: Callable[..., Rig]) -> None:
    rig, fired = rigs(), []
    timer = rig.machine.clock.timer(lambda: fired.append(threading.current_thread() is rig.thread))
    timer.arm(1_000_000)
    rig.machine.start()
    rig.wait(lambda: fired == [True])

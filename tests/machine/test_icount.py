"""-icount: virtual time counts wide instructions; the same run is the same, twice and in every tier."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2kemu.api import Machine
from e2kemu.errors import ChannelError, OptionError
from e2kemu.machine.icount import Icount, parse_icount
from e2kemu.machine.interrupts import PIN_TIMER
from tests.interrupts.guest import (
    APIC,
    CONTROLLERS,
    EPIC,
    FLAGS,
    LOCAL,
    LOG,
    Controller,
    log,
    make_guest,
    put,
    wait_flag,
)
from tests.machine.smp_guest import DATA, smp
from tests.machine.test_smp import loop

TIERS = ("reference", "interp", "jit")
TIMER = 0x8130_0000

PARSED = [
    ("3", Icount(3)),
    ("shift=0,sleep=off", Icount(0, sleep=False)),
    ("10,align=on", Icount(10, align=True)),
    ("auto", Icount(3, auto=True)),
]
BAD = [
    ("11", "icount: Invalid shift value"),
    ("fast", "icount: Invalid shift value"),
    ("align=on", "Please specify shift option when using align"),
    ("sleep=off", "Please specify shift option when using sleep"),
    ("auto,sleep=off", "shift=auto and sleep=off are incompatible"),
    ("auto,align=on", "shift=auto and align=on are incompatible"),
    ("4,align=on,sleep=off", "align=on and sleep=off are incompatible"),
    ("4,rr=record", "Invalid parameter 'rr'"),
]


@pytest.mark.parametrize(("text", "meaning"), PARSED)
def test_icount_is_read_as_qemu_reads_it(text: str, meaning: Icount) -> None:
    assert parse_icount(text) == meaning


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_icount_cannot_do_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_icount(text)
    assert str(caught.value) == message


def picture(machine: Machine, end: int = 0x200000) -> tuple[Any, ...]:
    """All that a run is compared by: counts, time, registers, memory."""
    with machine.quiesced():
        memory = hashlib.sha256(machine.space.read_bytes(DATA, end - DATA)).hexdigest()
        registers = [[cpu.state[name] for name in ("pc", "psr", "usd.lo", *(f"g{n}" for n in range(32)))]
                     + [bytes(cpu.state.P)] for cpu in machine.cpus]
        return [cpu.executed for cpu in machine.cpus], machine.clock.now(), registers, memory, machine.console.text


def until_count(machine: Machine, count: int) -> None:
    """Let the CPUs execute until they have executed ``count`` wide instructions together since their first start."""
    clock: Any = machine.clock
    timer = clock.timer(machine.stop)
    timer.arm(count << clock.shift)
    assert machine.run(timeout=60, until=lambda machine: not machine.is_running()) == "until"
    assert clock.now() == count << clock.shift


SPINNING = f"""
        addd,0 0, {DATA:#x}, %dr8
        addd,0 0, {DATA + 0x400:#x}, %dr13
        addd,0 0, 0, %dr12
        addd,0 0, 1, %dr11
""" + loop(400, """
take:
        ldw,0 [ %dr8 + 0 ], %dr9, mas=7
        cmpesb,0 %r9, 0, %pred1
        {
          stw,2 %r11, [ %dr8 + 0 ], mas=2 ? %pred1
          ibranch take ? %MLOCK
        }
        ibranch take ? ~%pred1
        ldd,0 [ %dr13 + 0 ], %dr14
        rrd %clkr, %dr16
        addd,0 %dr14, 1, %dr14
        shld,0 %dr14, 3, %dr17
        addd,0 %dr17, %dr13, %dr17
        std,2 %dr16, [ %dr17 + 8 ]
        std,2 %dr14, [ %dr13 + 0 ]
        wait st_c = 1, ld_c = 1
        stw,2 %r12, [ %dr8 + 0 ]
""")
"""Every CPU writes down when it had the lock."""


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_cpus_that_fight_for_a_lock_get_it_in_the_same_order_in_every_tier(tmp_path: Path, cpus: int) -> None:
    pictures = []
    for tier in (*TIERS, "eager", "reference"):
        with smp(tmp_path, SPINNING, cpus, accel="jit" if tier == "eager" else tier, eager=tier == "eager",
                 icount="shift=2,sleep=off") as guest:
            until_count(guest.machine, 60_000)
            pictures.append(picture(guest.machine))
            times = [guest.word(0x410 + 8 * number) for number in range(20)]
            assert times == sorted(times), "time runs forward"
            assert len(set(times)) == 20
            assert all(time % 4 == 0 for time in times), "2^2 ns for each wide instruction"
    assert all(one == pictures[0] for one in pictures[1:]), pictures


def ticking(controller: Controller) -> tuple[str, str]:
    """Two CPUs with a timer each of their own, and the system timer for the first."""
    def clock(vector: int, count: int) -> str:
        return (put(LOCAL + controller.timer_divide, 0xB) + put(LOCAL + controller.timer_lvt, vector | 1 << 17)
                + put(LOCAL + controller.timer_initial, count))  # fmt: skip

    body = (controller.send(0, 1, controller.startup) + wait_flag(0) + controller.io(PIN_TIMER, 0x62, level=False)
            + put(TIMER, 5_000 << 9) + put(TIMER + 0xC, 7) + clock(0x40, 50_000))  # fmt: skip
    return body, put(FLAGS, 1) + clock(0x41, 30_000)


@pytest.mark.parametrize("controller", [CONTROLLERS[APIC], CONTROLLERS[EPIC]], ids=["apic", "epic"])
def test_interrupts_come_at_the_same_wide_instruction_in_every_tier(controller: Controller, tmp_path: Path) -> None:
    body, second = ticking(controller)
    pictures = []
    for tier in (*TIERS, "jit", "eager"):
        accel = "jit" if tier == "eager" else tier
        with make_guest(tmp_path, controller, body, "", second, smp=2, accel=accel, icount="6,sleep=off") as machine:
            for cpu in machine.cpus:
                if tier == "eager":
                    cpu.translator.eager = True
            until_count(machine, 250_000)
            pictures.append((picture(machine), [machine.read_mem(LOG + 0x10000 * cpu, 0x10000) for cpu in range(2)]))
            assert len(log(machine)) > 10
            assert len(log(machine, 1)) > 5
    assert all(one == pictures[0] for one in pictures[1:])


def test_where_a_run_is_stopped_to_be_looked_at_changes_nothing(tmp_path: Path) -> None:
    body, second = ticking(CONTROLLERS[APIC])
    pictures = []
    for looks in (0, 12):
        with make_guest(tmp_path, CONTROLLERS[APIC], body, "", second, smp=2, icount="6,sleep=off") as machine:
            for _ in range(looks):
                machine.run(timeout=0.003)
                machine.read_mem(0, 8)
            until_count(machine, 30_000_000)
            pictures.append(picture(machine))
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("tier", TIERS)
def test_a_run_that_was_moved_is_the_run_that_was_not(tmp_path: Path, tier: str) -> None:
    """The state goes by a stream twice, in the middle of turns; whose turn it is goes with it."""
    body, second = ticking(CONTROLLERS[APIC])
    options: dict[str, Any] = {"smp": 2, "accel": tier, "icount": "6,sleep=off"}
    with make_guest(tmp_path, CONTROLLERS[APIC], body, "", second, **options) as machine:
        until_count(machine, 150_000)
        logs = [machine.read_mem(LOG + 0x10000 * cpu, 0x10000) for cpu in range(2)]
        straight = picture(machine)[1:4]
    machine = make_guest(tmp_path, CONTROLLERS[APIC], body, "", second, **options)
    for executed in (50_003, 97_001):
        until_count(machine, executed)
        machine.save(str(tmp_path / "state"))
        machine.close()
        machine = make_guest(tmp_path, CONTROLLERS[APIC], body, "", second, incoming=True, **options)
        machine.load(str(tmp_path / "state"))
        assert machine.clock.now() == executed << 6
    until_count(machine, 150_000)
    assert picture(machine)[1:4] == straight
    assert [machine.read_mem(LOG + 0x10000 * cpu, 0x10000) for cpu in range(2)] == logs
    machine.close()


IDLE = f"""
        addd,0 0, {DATA:#x}, %dr8
        rrd %clkr, %dr9
        addd,0 0, 0x10100, %dr10
        shld,0 %dr10, 16, %dr10
        addd,0 %dr10, 0xf8, %dr10
        addd,0 0, 2000000, %dr11
        stw,2 %r11, [ %dr10 + 0 ]
        rrd %clkr, %dr12
        subd,0 %dr12, %dr9, %dr12
        std,2 %dr12, [ %dr8 + 0 ]
"""


@pytest.mark.parametrize("tier", TIERS)
def test_while_all_cpus_rest_time_jumps_to_the_next_timer(tmp_path: Path, tier: str) -> None:
    """Two seconds of rest, and not a nanosecond more: what was executed in between is counted."""
    with smp(tmp_path, IDLE, 1, accel=tier, icount="shift=0,sleep=off") as guest:
        guest.run()
        assert 2_000_000_000 <= guest.word(0) <= 2_000_000_010


@pytest.mark.parametrize(("here", "there", "reason"), [
    ("3", "", "virtual time counts instructions in the stream (-icount), but not here"),
    ("", "3", "virtual time does not count instructions in the stream, but does here (-icount)"),
    ("3", "4", "-icount shift=3 in the stream, shift=4 here"),
])
def test_clocks_of_two_kinds_do_not_mix(tmp_path: Path, here: str, there: str, reason: str) -> None:
    with smp(tmp_path, "", 1, icount=here) as guest:
        file = str(tmp_path / "state")
        guest.machine.save(file)
        other = Machine.build(ram="32M", bios=guest.machine.config.bios, icount=there, incoming=True)
        with pytest.raises(ChannelError) as caught:
            other.load(file)
        other.close()
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_machine_that_is_a_process_has_real_time_only() -> None:
    with pytest.raises(OptionError, match="has real time only"):
        Machine.build(machine="linux-user", icount="3")


@pytest.mark.parametrize("icount", ["auto", "5,align=on", "5"])
def test_time_that_follows_the_host_goes_on(tmp_path: Path, icount: str) -> None:
    """Nothing is known of how fast: but that timers go off and the guest ends."""
    body, second = ticking(CONTROLLERS[APIC])
    seen: list[int] = []
    enough: Callable[[Machine], bool] = lambda machine: len(log(machine)) > 5 and len(log(machine, 1)) > 5  # noqa: E731
    with make_guest(tmp_path, CONTROLLERS[APIC], body, "", second, smp=2, icount=icount) as machine:
        assert machine.run(timeout=60, until=enough) == "until"
        seen.append(machine.clock.now())
        assert machine.run(timeout=60, until=lambda machine: machine.clock.now() > seen[0] + 50_000_000) == "until"

"""Real guests that take interrupts: timer, device, serial line, disk, other CPUs, NMI; with APIC and with EPIC."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2kemu.api import Machine
from e2kemu.machine.interrupts import (
    PIN_TIMER,
    PIN_VIRTIO,
    PINS_SERIAL,
    inject_nmi,
)
from tests.interrupts.guest import (
    APIC,
    CONTROLLERS,
    EPIC,
    FLAGS,
    INTERRUPT,
    LOCAL,
    NON_MASKABLE,
    Controller,
    log,
    make_guest,
    put,
    wait_flag,
)

TIMER = 0x8130_0000
SERIAL = 0x1_0100_03F8
both = pytest.mark.parametrize("controller", [CONTROLLERS[APIC], CONTROLLERS[EPIC]], ids=["apic", "epic"])


def run_until(machine: Machine, condition: Callable[[], bool]) -> None:
    """Run the guest until it has written down what is waited for."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain; log {log(machine)}"
        assert machine.run(timeout=0.05) == "timeout", machine.cpus[0].fatal_message


def has(machine: Machine, address: int, data: bytes) -> bool:
    """Whether the guest has stored ``data`` there."""
    return machine.read_mem(address, len(data)) == data


@both
@pytest.mark.parametrize("accel", ["jit", "interp", "reference"])
def test_the_cpu_s_own_timer_interrupts_again_and_again(controller: Controller, accel: str, tmp_path: Path) -> None:
    body = (put(LOCAL + controller.timer_divide, 0xB) + put(LOCAL + controller.timer_lvt, 0x40 | 1 << 17)
            + put(LOCAL + controller.timer_initial, 200_000))  # fmt: skip
    with make_guest(tmp_path, controller, body, accel=accel) as machine:
        run_until(machine, lambda: len(log(machine)) >= 5)
        assert set(log(machine)) == {(INTERRUPT, 0x40)}


@both
def test_the_system_timer_as_linux_and_embox_start_it_interrupts_by_its_pin(
    controller: Controller, tmp_path: Path
) -> None:
    body = controller.io(PIN_TIMER, 0x22, level=False) + put(TIMER, 10_000 << 9) + put(TIMER + 0xC, 7)
    with make_guest(tmp_path, controller, body) as machine:
        run_until(machine, lambda: len(log(machine)) >= 5)
        assert set(log(machine)) == {(INTERRUPT, 0x22)}
        start = machine.clock.now()
        before = len(log(machine))
        run_until(machine, lambda: len(log(machine)) >= before + 10)
        assert machine.clock.now() - start >= 8 * 2_000_000, "two halves of 1 ms for each interrupt"


@both
@pytest.mark.parametrize("level", [False, True], ids=["edge", "level"])
def test_what_is_typed_arrives_by_interrupt(controller: Controller, level: bool, tmp_path: Path) -> None:
    pin = PINS_SERIAL[0]
    handler = f"""
    addd,0 0, {SERIAL:#x}, %dr4
    {{ nop 4
       ldb,0 [ %dr4 + 0 ], %r5 }}
    addd,0 0, {FLAGS:#x}, %dr6
    {{ nop 2
       addd,0 %dr6, %dg20, %dr6 }}
    stb,2 %r5, [ %dr6 + 0 ]
    addd,0 %dg20, 1, %dg20
    {controller.end_level(pin) if level else ""}
"""
    body = controller.io(pin, 0x44, level=level) + put(SERIAL + 1, 1, "b")
    with make_guest(tmp_path, controller, body, handler) as machine:
        machine.run(timeout=0.05)
        for number, letter in enumerate("abcdef"):
            machine.console.send(letter)
            # a letter that came before the one before was read would be no new edge
            run_until(machine, partial(has, machine, FLAGS + number, letter.encode()))
        assert machine.read_mem(FLAGS, 7) == b"abcdef\0"
        assert log(machine) == [(INTERRUPT, 0x44)] * 6


@both
def test_cpus_start_each_other_and_interrupt_each_other(controller: Controller, tmp_path: Path) -> None:
    """CPU 0 starts CPU 1 at the reset address, waits for it, and interrupts it; that one answers."""
    body = controller.send(0, 1, controller.startup) + wait_flag(0) + controller.send(0x51, 1)
    second = put(FLAGS, 1)
    handler = f"""
    {{ nop 2
       cmpedb,0 %dg19, 0, %pred0 }}
    ibranch answered ? %pred0
    {controller.send(0x52, 0)}
answered:
"""
    with make_guest(tmp_path, controller, body, handler, second, smp=2) as machine:
        run_until(machine, lambda: bool(log(machine)) and bool(log(machine, 1)))
        assert (log(machine), log(machine, 1)) == ([(INTERRUPT, 0x52)], [(INTERRUPT, 0x51)])


@both
def test_an_nmi_comes_from_another_cpu_and_from_the_outside_though_interrupts_are_off(
    controller: Controller, tmp_path: Path
) -> None:
    body = controller.send(0, 1, controller.startup) + wait_flag(0) + controller.send(0, 1, controller.nmi)
    with make_guest(tmp_path, controller, body, "", put(FLAGS, 1), smp=2) as machine:
        run_until(machine, lambda: bool(log(machine, 1)))
        ((tir, reason),) = log(machine, 1)
        assert (tir, reason & 0x400) == (NON_MASKABLE, 0x400)
        assert log(machine) == []
        with machine.quiesced():
            assert inject_nmi(machine)
        run_until(machine, lambda: len(log(machine)) == 1 and len(log(machine, 1)) == 2)
        assert {entry[0] for entry in log(machine) + log(machine, 1)} == {NON_MASKABLE}


@both
def test_a_guest_with_timers_of_two_cpus_goes_on_ticking_wherever_it_is_moved(
    controller: Controller, tmp_path: Path
) -> None:
    """Five moves in the middle of it: every CPU's ticks go on, and no other interrupt ever comes."""
    def clock(vector: int, count: int) -> str:
        return (put(LOCAL + controller.timer_divide, 0xB) + put(LOCAL + controller.timer_lvt, vector | 1 << 17)
                + put(LOCAL + controller.timer_initial, count))  # fmt: skip

    def ticked(machine: Machine, before: list[int]) -> bool:
        news = [log(machine, cpu)[before[cpu] :] for cpu in range(2)]
        return min(map(len, news)) >= 4 and (INTERRUPT, 0x62) in news[0]

    body = (controller.send(0, 1, controller.startup) + wait_flag(0) + controller.io(PIN_TIMER, 0x62, level=False)
            + put(TIMER, 20_000 << 9) + put(TIMER + 0xC, 7) + clock(0x40, 500_000))  # fmt: skip
    second = put(FLAGS, 1) + clock(0x41, 300_000)
    machine = make_guest(tmp_path, controller, body, "", second, smp=2)
    try:
        for move in range(6):
            run_until(machine, partial(ticked, machine, [len(log(machine, cpu)) for cpu in range(2)]))
            if move == 5:
                break
            machine.save(str(tmp_path / "state"))
            there = make_guest(tmp_path, controller, body, "", second, smp=2, incoming=True)
            machine.close()
            machine = there
            machine.load(str(tmp_path / "state"))
        assert set(log(machine)) == {(INTERRUPT, 0x40), (INTERRUPT, 0x62)}
        assert set(log(machine, 1)) == {(INTERRUPT, 0x41)}
    finally:
        machine.close()


class Disk:
    """A queue of a virtio disk in the guest's memory, set up from the outside: the guest only notifies."""

    base, ring = 0x8130_1000, 0x30_0000

    def __init__(self, machine: Machine) -> None:
        def write(offset: int, value: int) -> None:
            machine.space.write(self.base + offset, 4, value)

        for status in (1, 3):
            write(0x70, status)
        write(0x24, 1)
        write(0x20, 1)              # VERSION_1
        write(0x70, 11)
        write(0x30, 0)
        write(0x38, 8)
        for offset, part in ((0x80, 0), (0x90, 0x1000), (0xA0, 0x2000)):
            write(offset, self.ring + part)
            write(offset + 4, 0)
        write(0x44, 1)
        write(0x70, 15)
        header, data, status_at = self.ring + 0x3000, self.ring + 0x4000, self.ring + 0x5000
        for index, (address, size, flags) in enumerate(((header, 16, 1), (data, 512, 3), (status_at, 1, 2))):
            descriptor = (address.to_bytes(8, "little") + size.to_bytes(4, "little") + flags.to_bytes(2, "little")
                          + ((index + 1) % 3).to_bytes(2, "little"))  # fmt: skip
            machine.write_mem(self.ring + 16 * index, descriptor)
        machine.write_mem(header, bytes(16))
        machine.write_mem(self.ring + 0x1000, (0).to_bytes(2, "little") + (1).to_bytes(2, "little"))


@both
def test_a_disk_says_by_interrupt_that_a_request_is_done(controller: Controller, tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(b"sector 0".ljust(4096, b"."))
    pin = PIN_VIRTIO
    body = controller.io(pin, 0x55, level=True) + put(Disk.base + 0x50, 0)
    handler = put(Disk.base + 0x64, 1) + controller.end_level(pin)
    options: dict[str, Any] = {"drives": [f"file={image},format=raw,if=virtio"]}
    with make_guest(tmp_path, controller, body, handler, **options) as machine:
        Disk(machine)
        run_until(machine, lambda: bool(log(machine)))
        machine.run(timeout=0.05)
        assert log(machine) == [(INTERRUPT, 0x55)]
        assert machine.read_mem(Disk.ring + 0x4000, 8) == b"sector 0"
        assert machine.read_mem(Disk.ring + 0x2002, 2) == b"\1\0"

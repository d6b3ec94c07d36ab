"""What the monitors say of interrupt controllers, NMIs from there, and what a watchdog does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from qemu.qmp import ExecuteError

from e2kemu.api import Machine
from e2kemu.machine.watchdog import ACTIONS
from e2kemu.process import Emulator
from tests.interrupts.guest import APIC, CONTROLLERS, EPIC, NON_MASKABLE, log, make_guest, put

WATCHDOG = 0x8130_0010
LIMIT, CONTROL = WATCHDOG + 8, WATCHDOG + 0x14
StartEmulator = Callable[..., Emulator]


def stopped(start: StartEmulator, cpu: str, *options: str) -> Emulator:
    """An emulator with three CPUs that do not run."""
    return start(cpu.replace("+", "p"), "-cpu", cpu, "-smp", "3", "-m", "32M", "-S", "-serial", "null", *options)


def test_info_shows_pins_and_every_cpu_s_controller_with_apic(start: StartEmulator) -> None:
    emulator = stopped(start, "e8c")
    pic = emulator.hmp("info pic").splitlines()
    assert pic[0] == "ioapic0: ver=0x11 id=0x10 sel=0x00"
    assert sum(line.startswith("  pin ") for line in pic) == 24
    assert [line.split(":")[0] for line in pic[-3:]] == ["apic 0", "apic 1", "apic 2"]
    assert emulator.hmp("info lapic").startswith("dumping local APIC state for CPU 0\n")
    assert emulator.hmp("info lapic 2").startswith("dumping local APIC state for CPU 2\n")
    emulator.hmp("cpu 1")
    assert "No CPU with that APIC id" in emulator.hmp("info lapic 3")
    assert emulator.hmp("info irq") == "IRQ statistics for ioapic:\n"
    assert "pin 2 = system-timer" in emulator.hmp("info qtree")
    assert emulator.hmp("nmi") == ""
    assert "NM=0x00400" in emulator.hmp("info pic").splitlines()[-1]


def test_info_shows_pins_and_every_cpu_s_controller_with_epic(start: StartEmulator) -> None:
    emulator = stopped(start, "e16c")
    pic = emulator.hmp("info pic").splitlines()
    assert pic[0] == "ioepic0: ver=2 id=0x0"
    assert sum(line.startswith("  pin ") for line in pic) == 24
    assert emulator.hmp("info lapic 1").startswith("dumping CEPIC state for CPU 1\n")
    emulator.qmp("inject-nmi")
    assert all("PNMIRR=0x00400" in line for line in emulator.hmp("info pic").splitlines()[-3:])


def test_a_machine_without_controllers_says_so(start: StartEmulator) -> None:
    emulator = start("old", "-M", "elbrus-1.1", "-m", "32M", "-S", "-serial", "null")
    for item in ("pic", "lapic", "irq"):
        assert emulator.hmp(f"info {item}") == (
            "Interrupt controller information not available: machine 'elbrus-1.1' has none\n"
        )
    with pytest.raises(ExecuteError, match="machine does not provide NMIs"):
        emulator.qmp("inject-nmi")


def test_the_action_of_watchdogs_is_chosen_by_its_name(start: StartEmulator) -> None:
    emulator = stopped(start, "e8c", "-watchdog-action", "none")
    for action in ACTIONS:
        emulator.qmp("watchdog-set-action", action=action)
        assert emulator.hmp(f"watchdog_action {action}") == ""
    with pytest.raises(ExecuteError, match="Parameter 'action' does not accept value 'bark'"):
        emulator.qmp("watchdog-set-action", action="bark")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_watchdog_that_nobody_feeds_does_what_was_chosen(
    action: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The guest starts the system timer's watchdog, lets it reset the machine, and spins."""
    body = put(0x2_0011_0060, 0x3C) + put(LIMIT, 200_000) + put(CONTROL, 4) + put(CONTROL, 2)
    for model in (APIC, EPIC) if action == "inject-nmi" else (APIC,):
        with make_guest(tmp_path, CONTROLLERS[model], body) as machine:
            machine.watchdog_action = action
            events = watched(machine)
            barks = [data for name, data in events if name == "WATCHDOG"]
            assert barks[0] == {"action": action}
            names = [name for name, _ in events]
            if action == "reset":
                assert "RESET" in names
            elif action == "poweroff":
                assert machine.exit_status == 0
            elif action == "pause":
                assert (machine.run_state, names[-1]) == ("watchdog", "STOP")
            elif action == "inject-nmi":
                machine.run(timeout=0.3)
                assert {entry[0] for entry in log(machine)} == {NON_MASKABLE}
            elif action == "shutdown":
                assert machine.space.read(0x2_0011_1044, 4) & 0x100, "the power button's event"
            else:
                assert set(names) <= {"RESUME", "WATCHDOG", "STOP"}
    assert ("watchdog: timer fired" in capfd.readouterr().err) == (action == "debug")


def watched(machine: Machine) -> list[tuple[str, object]]:
    """The events up to some time after the watchdog has run out."""
    events: list[tuple[str, object]] = []
    machine.listeners.append(lambda name, data: events.append((name, data)))
    for _ in range(600):
        reason = machine.run(timeout=0.1)
        if reason != "timeout" or any(name == "WATCHDOG" for name, _ in events):
            break
    if machine.is_running():
        machine.run(timeout=0.1)
    return events

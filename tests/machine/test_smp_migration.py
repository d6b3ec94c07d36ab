"""A machine with several CPUs is moved while they all work, and while one of them holds a lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2kemu.api import Machine
from e2kemu.cpu.state import Slot
from e2kemu.errors import ChannelError
from tests.machine.smp_guest import DATA, SmpGuest, smp
from tests.machine.test_smp import TIERS, increment, loop, options

ROUNDS = {"reference": 2000, "interp": 2000, "jit": 100_000, "eager": 100_000}


def program(rounds: int) -> str:
    """All CPUs count in one word with locks, each one in a word of its own without."""
    return f"""
        addd,0 0, {DATA:#x}, %dr8
        shld,0 %dr0, 6, %dr10
        addd,0 %dr10, {DATA + 0x100:#x}, %dr10
        addd,0 0, 0, %dr11
""" + loop(rounds, increment("d", "dr", "add") + """
        addd,0 %dr11, 1, %dr11
        std,2 %dr11, [ %dr10 + 0 ]
""")


def twin(guest: SmpGuest, cpus: int) -> Machine:
    """A machine like the guest's, that waits for its state."""
    config = guest.machine.config
    return Machine.build(ram="32M", bios=config.bios, smp=cpus, accel=config.accel, cpu=config.cpu_model, incoming=True)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("cpus", [2, 4])
def test_all_cpus_go_on_where_they_were(tmp_path: Path, tier: str, cpus: int) -> None:
    rounds = ROUNDS[tier] // cpus
    with smp(tmp_path, program(rounds), cpus, **options(tier)) as guest:
        def counts() -> list[int]:
            return [guest.word(0x100 + 64 * cpu) for cpu in range(cpus)]

        for number in range(3):
            wanted = rounds * (number + 1) // 5
            guest.machine.run(timeout=60, until=lambda machine: all(count > wanted for count in counts()))  # noqa: B023
            file = str(tmp_path / f"state{number}")
            guest.machine.save(file)
            other = twin(guest, cpus)
            other.load(file)
            registers = [[[cpu.state[name] for name in ("pc", "r0", "r9", "r11", "r31")] for cpu in machine.cpus]
                         for machine in (guest.machine, other)]
            assert registers[0] == registers[1]
            assert len({row[1] for row in registers[0]}) == cpus, "every CPU is itself"
            guest.machine.close()
            guest.machine = other
        guest.run()
        assert guest.word(0) == rounds * cpus
        assert counts() == [rounds] * cpus


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("broken", [False, True])
def test_a_lock_is_moved_with_its_cpu(tmp_path: Path, tier: str, broken: bool) -> None:
    body = f"        addd,0 0, {DATA:#x}, %dr8\n" + increment("d", "dr", "add")
    with smp(tmp_path, body, 1, **options(tier)) as guest:
        machine = guest.machine
        while not machine.cpus[0].state.X[Slot.LOCK_SIZE]:
            assert machine.step() == "limit"
        file = str(tmp_path / "state")
        machine.save(file)
        other = twin(guest, 1)
        other.load(file)
        state = other.cpus[0].state
        assert (state.X[Slot.LOCK_SIZE], state.X[Slot.LOCK_ADDRESS], state.X[Slot.LOCK_LOW]) == (8, DATA, 0)
        machine.close()
        guest.machine = other
        if broken:
            other.write_mem(DATA, b"\x07")
        other.step(2)
        assert guest.word(0) == (7 if broken else 1)
        guest.run()
        assert guest.word(0) == (8 if broken else 1)


@pytest.mark.parametrize(("here", "there", "reason"), [
    (2, 1, "Unknown savevm section or instance 'cpu' 1. Make sure that your current VM setup matches your"),
    (1, 2, "section 'cpu' instance 1 is missing from the stream"),
])
def test_another_number_of_cpus_is_refused_in_one_line(tmp_path: Path, here: int, there: int, reason: str) -> None:
    with smp(tmp_path, "", here) as guest:
        file = str(tmp_path / "state")
        guest.machine.save(file)
        other = twin(guest, there)
        with pytest.raises(ChannelError) as caught:
            other.load(file)
        other.close()
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)

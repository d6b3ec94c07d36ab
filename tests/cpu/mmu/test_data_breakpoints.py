"""Data breakpoints that a guest sets in the MMU's debug registers, in every tier."""

from __future__ import annotations

import pytest

from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import Guest

TIERS = ("reference", "interp", "jit")
MAS, CONTROL, STATUS, ADDRESSES = 0x6F, 0x87, 0xA7, (0x07, 0x27, 0x47, 0x67)
TRAPS, PROGRAM, SPECULATIVE = 1 << 12, 1 << 7, 1 << 8
SIZES = {1: 1, 2: 2, 4: 3, 8: 4, 16: 5}

LOOP = """
        { setwd wsz=16, nfx=1 }
        { addd 0, 0, %dr0; addd 0, 0x5000, %dr1; disp %ctpr1, 1f }
1:      ldd,0 %dr1, %dr0, %dr2
        { std,2 %dr2, %dr1, %dr0 }
        addd %dr0, 8, %dr0
        cmplsb,0 %r0, 0x800, %pred0
        { ct %ctpr1 ? %pred0 }
        { ldd,0,sm %dr1, 8, %dr3; ldb,2 %dr1, 17, %dr4 }
        { setsft }
"""


def guest_with(tier: str, points: dict[int, tuple[int, int, int]],
               text: str = LOOP) -> tuple[Guest, list[tuple[int, str]]]:
    """A guest with breakpoints: number -> (address, bytes, control); the (pc, exception) of its traps."""
    guest = Guest(text, accel=tier)
    if guest.cpu.translator is not None:
        guest.cpu.translator.eager = tier == "jit"
    control = 0
    for number, (address, size, bits) in points.items():
        guest.cpu.mmu.write_special(MAS, ADDRESSES[number], address)
        control |= (1 | SIZES[size] << 4 | bits) << 14 * number
    guest.cpu.mmu.write_special(MAS, CONTROL, control)
    met: list[tuple[int, str]] = []

    def hook(trap: Trap) -> bool:
        met.append((guest.state.pc, BY_BIT[trap.exc].name))
        if BY_BIT[trap.exc].name == "exc_software_trap":
            guest.cpu.request_exit()
        return True

    guest.cpu.core.trap_hook = hook
    return guest, met


def behind(guest: Guest, index: int) -> int:
    """Address behind the ``index``-th wide instruction."""
    at = 0x10000
    for _ in range(index + 1):
        at += guest.cpu.reference.fetch(at).size
    return at


@pytest.mark.parametrize("tier", TIERS)
def test_a_store_that_meets_one_traps_behind_its_wide_instruction(tier: str) -> None:
    guest, met = guest_with(tier, {1: (0x5104, 4, 4 | PROGRAM | TRAPS)})
    assert guest.cpu.run(10_000) == "exit"
    assert [name for _, name in met] == ["exc_data_debug", "exc_software_trap"]
    assert met[0][0] == behind(guest, 3)
    assert guest.cpu.mmu.read_special(MAS, STATUS) == 1 << 12
    assert guest.state["r0"] == 0x800


@pytest.mark.parametrize("tier", TIERS)
def test_loads_and_stores_of_the_kinds_asked_for(tier: str) -> None:
    points = {0: (0x5100, 8, 8 | PROGRAM | TRAPS), 1: (0x5200, 16, 12 | PROGRAM | TRAPS), 2: (0x5300, 8, 12 | PROGRAM),
              3: (0x5011, 1, 8 | PROGRAM | TRAPS)}
    guest, met = guest_with(tier, points)
    assert guest.cpu.run(10_000) == "exit"
    load, store, last = behind(guest, 2), behind(guest, 3), behind(guest, 7)
    debugged = [pc for pc, name in met if name == "exc_data_debug"]
    assert debugged == [load, load, load, store, load, store, last]
    assert guest.cpu.mmu.read_special(MAS, STATUS) == 1 | 1 << 12 | 1 << 24 | 1 << 36


@pytest.mark.parametrize("tier", TIERS)
def test_speculative_loads_count_apart(tier: str) -> None:
    points = {0: (0x5008, 8, 8 | SPECULATIVE | TRAPS)}
    guest, met = guest_with(tier, points)
    assert guest.cpu.run(10_000) == "exit"
    assert met[0] == (behind(guest, 7), "exc_data_debug")
    assert guest.cpu.mmu.read_special(MAS, STATUS) == 2


@pytest.mark.parametrize("tier", TIERS)
def test_one_set_by_the_program_itself_and_taken_away_again(tier: str) -> None:
    control = 1 | 4 << 4 | 4 | PROGRAM | TRAPS
    guest, met = guest_with(tier, {}, f"""
        {{ setwd wsz=16, nfx=1 }}
        addd 0, 0x5000, %dr0
        std,2 %dr0, %dr0, 0
        mmurw %dr0, %ddbar0
        addd 0, {control}, %dr1
        mmurw %dr1, %ddbcr
        std,2 %dr0, %dr0, 0
        addd 0, 0, %dr1
        mmurw %dr1, %ddbcr
        std,2 %dr0, %dr0, 0
        {{ setsft }}
    """)
    assert guest.cpu.run(10_000) == "exit"
    assert met == [(behind(guest, 6), "exc_data_debug"), (behind(guest, 9), "exc_software_trap")]


@pytest.mark.parametrize("tier", TIERS)
def test_watchpoints_of_the_library_work_beside_them(tier: str) -> None:
    guest, met = guest_with(tier, {0: (0x5100, 8, 4 | PROGRAM | TRAPS)})
    guest.cpu.core.watch(0x5080, 8, 2)
    assert guest.cpu.run(10_000) == "watchpoint"
    assert guest.cpu.core.watch_hit == (0x5080, 8, 2)
    assert not met
    assert guest.cpu.run(10_000) == "exit"
    assert [name for _, name in met] == ["exc_data_debug", "exc_software_trap"]
    guest.cpu.reset()
    assert guest.cpu.core.watches == [(0x5080, 8, 2)]


@pytest.mark.parametrize("tier", TIERS)
def test_an_access_that_faults_meets_none(tier: str) -> None:
    guest, met = guest_with(tier, {0: (0x5000, 8, 12 | PROGRAM | TRAPS)}, """
        { setwd wsz=16, nfx=1 }
        { addd 0, 0x5000, %dr1; addd 0, 0, %dr2 }
        { ldd,0 %dr1, 0, %dr3; sdivd,5 %dr1, %dr2, %dr4 }
    """)

    def stop(trap: Trap) -> bool:
        met.append((guest.state.pc, BY_BIT[trap.exc].name))
        guest.cpu.request_exit()
        return True

    guest.cpu.core.trap_hook = stop
    assert guest.cpu.run(100) == "exit"
    assert [name for _, name in met] == ["exc_div"]
    assert guest.cpu.mmu.read_special(MAS, STATUS) == 0

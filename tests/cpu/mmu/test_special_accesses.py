"""Special and physical accesses of programs, in every tier."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2kemu.cpu import direct
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest

WINDOW = "{ setwd wsz=16, nfx=1; setbn rbs=0, rsz=7, rcur=0 }\n"
TIERS = ("oracle", "reference", "interp", "jit")
Setup = Callable[[Guest], None]


def run(text: str, tier: str, steps: int, setup: Setup | None = None, model: str = "e8c") -> tuple[Guest, str]:
    """``steps`` wide instructions of a program, and the exception that ended them, or ""."""
    guest = Guest(WINDOW + text, model, accel="jit" if tier in ("oracle", "reference") else tier)
    if setup:
        setup(guest)
    if tier == "oracle":
        for _ in range(steps):
            try:
                direct.execute(guest.cpu.core, guest.cpu.reference.fetch(guest.state.pc))
            except Trap as trap:
                return guest, BY_BIT[trap.exc].name
        return guest, ""
    if tier == "reference":
        guest.cpu.translator = None
    if tier == "jit":
        assert guest.cpu.translator is not None
        guest.cpu.translator.eager = True
    result = guest.cpu.run(steps)
    assert result in ("limit", "fatal"), result
    return guest, guest.cpu.fatal_reason.split()[0] if result == "fatal" else ""


def user(guest: Guest) -> None:
    guest.state["psr"] = 0


@pytest.mark.parametrize("tier", TIERS)
def test_mmu_registers_are_written_and_read(tier: str) -> None:
    guest, end = run("""
        addd 0, 0x123456789abcdef0, %dr0
        mmurw %dr0, %root_ptb
        { nop 3; mmurw %dr0, %trap_point }
        mmurw %dr0, %us_cl_b
        mmurr %root_ptb, %dr1
        { mmurr,2 %trap_point, %dr2; addd,0 0, 7, %dr3 }
        mmurr %us_cl_b, %dr4
        mmurr %mmu_cr, %dr5
    """, tier, 10)
    assert not end
    assert [guest.state[f"r{i}"] for i in range(1, 6)] == [0x789ABCD000, 0x789ABCDC00, 7, 0x1234_5678_9ABC_DEF0, 0]
    assert guest.cpu.mmu.read_register(4) == 0x789ABCD000


@pytest.mark.parametrize("tier", TIERS)
def test_a_loop_of_special_accesses_does_each(tier: str) -> None:
    guest, end = run("""
            disp %ctpr1, 1f
            addd 0, 0, %dr0
        1:  { mmurr,2 %cont, %dr1; addd,0 %dr0, 1, %dr0 }
            { mmurw,2 %dr0, %cont; addd,0 %dr2, %dr1, %dr2 }
            { cmplsb,0 %r0, 50, %pred0 }
            { ct %ctpr1 ? %pred0 }
            ibranch . + 0
    """, tier, 3 + 200, lambda guest: guest.state.set("r2", 0))
    assert not end
    assert guest.state["r0"] == 50
    assert guest.cpu.mmu.read_register(1) == 50


@pytest.mark.parametrize("tier", TIERS)
def test_guards_of_special_accesses(tier: str) -> None:
    def setup(guest: Guest) -> None:
        guest.state["pred0"], guest.state["pred1"] = 1, 0
        guest.cpu.mmu.write_register(2, 0x5000)

    guest, end = run("""
        addd 0, 0x9000, %dr0
        addd 0, 1, %dr1
        addd 0, 2, %dr2
        { mmurw,2 %dr0, %root_ptb ? %pred0; mmurr,5 %cr3_rg, %dr1 ? %pred1 }
        { mmurw,2 %dr0, %mpt_b ? %pred1; mmurr,5 %cr3_rg, %dr2 ? %pred0 }
    """, tier, 6, setup)
    assert not end
    assert (guest.state["r1"], guest.state["r2"]) == (1, 0x5000)
    assert (guest.cpu.mmu.read_register(4), guest.cpu.mmu.read_register(7)) == (0x9000, 0)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("text", [
    "mmurr %mmu_cr, %dr0", "mmurw %dr0, %mmu_cr", "mmurr %us_cl_b, %dr0", "ldd,2 0, 1, %dr0, mas=0x37",
    "std,2 %dr1, 0, 0, mas=0x07", "std,2 %dr1, 0, 1, mas=0x27", "std,2 %dr1, 0, 1, mas=0x17", "ldd,0 0, 8, %dr0, mas=1",
    "std,2 %dr0, 0, 8, mas=1"])
def test_user_code_may_not(tier: str, text: str) -> None:
    guest, end = run("addd 0, 0, %dr0\naddd 0, 0, %dr1\n" + text, tier, 4, user)
    assert end == "exc_priv_action"
    assert guest.cpu.mmu.is_reset


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("text", ["std,2 %dr0, 0, 0x5000, mas=0x0f", "std,2 %dr0, 0, 0x5000, mas=0x17",
                                  "std,5 %dr0, 0, 0, mas=0x1f"])
def test_user_code_may_flush_lines(tier: str, text: str) -> None:
    guest, end = run("addd 0, 0, %dr0\n" + text, tier, 3, user)
    assert not end
    assert not guest.ram.dirty[5]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("text", ["ldd,2 0, 0, %dr0, mas=0x07", "std,2 %dr0, 0, 0, mas=0x2f",
                                   "ldd,2 0, 0, %dr0, mas=0x7f"])
def test_special_accesses_that_do_not_exist(tier: str, text: str) -> None:
    _, end = run("addd 0, 0, %dr0\n" + text, tier, 3)
    assert end == "exc_illegal_opcode"


@pytest.mark.parametrize("tier", TIERS)
def test_physical_accesses_of_every_size(tier: str) -> None:
    def setup(guest: Guest) -> None:
        guest.space.write_bytes(0x5000, bytes(range(0x80, 0xA0)))

    guest, end = run("""
        addd 0, 0x1122334455667788, %dr8
        { ldb,0 0, 0x5001, %dr0, mas=1; ldh,2 0, 0x5002, %dr1, mas=1; ldw,3 0, 0x5004, %dr2, mas=1;
          ldd,5 0, 0x5008, %dr3, mas=1 }
        { ldd,0 0, 0x5010, %dr4, mas=1; ldd,2 0, 0x5018, %dr5, mas=0x21 }
        ldw,0 0, 0x5004, %dr6, mas=9
        stb,2 %r8, 0, 0x6000, mas=1
        sth,5 %r8, 0, 0x6002, mas=1
        stw,2 %r8, 0, 0x6004, mas=1
        { std,2 %dr8, 0, 0x6008, mas=1; std,5 %dr8, 0, 0x6010, mas=0x61 }
    """, tier, 9, setup)
    assert not end
    state = guest.state
    assert [state[f"r{i}"] for i in range(7)] == [
        0x81, 0x8382, 0x87868584, 0x8F8E8D8C8B8A8988, 0x9796959493929190, 0x9F9E9D9C9B9A9998, 0x84858687]
    stored = bytes.fromhex("88 00 8877 88776655 8877665544332211 8877665544332211")
    assert guest.space.read_bytes(0x6000, len(stored)) == stored
    assert guest.ram.dirty[6]


@pytest.mark.parametrize("tier", TIERS)
def test_a_physical_store_to_code_is_executed(tier: str) -> None:
    new = Guest("addd 0, 2, %dr1").space.read_bytes(CODE, 16)
    guest, end = run("""
            disp %ctpr1, 1f
            addd 0, 0, %dr2
        1:  addd 0, 1, %dr1
            addd %dr2, %dr1, %dr2
            { std,2 %dr4, %dr3, 0, mas=1; ct %ctpr1 }
    """, tier, 3 + 3 * 20, lambda guest: (guest.state.set("r3", guest.symbols.get("1", 0))))
    assert not end
    assert len(new) == 16
    assert guest.state["r2"]

"""%sclkr and %sclkm1, as Linux for e2k reads and sets them (its sclkr.h and sclkr.c)."""

from __future__ import annotations

import pytest

from e2kemu.cpu.exec import Cpu
from e2kemu.cpu.isa.models import MODELS
from tests.cpu.guest import Guest
from tests.cpu.traps.board import ACCELS, Board, moved

HZ = 100_000_000
MDIV, MODE, TRN, SW = (1 << bit for bit in (32, 33, 34, 35))
READ = """
{ setwd wsz=8, nfx=1 }
{ nop 5; rwd,0 %dg16, %sclkm1 }
{ nop 3; rrd,0 %sclkr, %dr1 }
{ nop 3; rrd,0 %sclkm1, %dr2 }
"""


def after(ns: int, sclkm1: int, accel: str = "interp") -> tuple[int, int, int]:
    """Seconds, ticks and %sclkm1 at that virtual time, when a guest has written %sclkm1."""
    guest = Guest(READ, accel=accel)
    guest.cpu.clock = lambda: ns
    guest.state["g16"] = sclkm1
    assert guest.cpu.run(4) == "limit"
    return guest.state["r1"] >> 32, guest.state["r1"] & 0xFFFF_FFFF, guest.state["r2"]


@pytest.mark.parametrize("accel", ACCELS)
def test_seconds_and_ticks_of_100_mhz(accel: str) -> None:
    """The internal mode of Linux: sw, mdiv, and div as it was found."""
    assert after(12_345_678_901, SW | MDIV | HZ, accel) == (12, 34_567_890, SW | HZ)


def test_after_a_reset_a_second_has_the_ticks_of_the_clock() -> None:
    for name in ("e2s", "e8c", "e8c2", "e16c"):
        cpu = Cpu(0, MODELS[name], Guest().space, accel="reference")
        assert cpu.state["sclkm1"] == HZ
    assert after(5_000_000_000, HZ) == (5, 0, HZ), "without mdiv div stays"


@pytest.mark.parametrize(("written", "read"), [
    (SW | TRN | MODE, SW | MODE | HZ),          # seconds from outside: what was counted between two of them
    (MODE, MODE | HZ), (0, HZ), (MDIV | 1_000_000, 1_000_000)])
def test_what_sclkm1_keeps(written: int, read: int) -> None:
    assert after(0, written)[2] == read


def test_software_chooses_how_many_ticks_a_second_has() -> None:
    assert after(2_500_000_000, MDIV | 1_000_000)[:2] == (250, 0)
    assert after(1_000_000_000, MDIV)[:2] == (0, HZ), "no division: seconds that never come"


def test_it_goes_on_in_another_emulator() -> None:
    board = Board("{ nop 1 }", "{ nop 1 }", accel="interp")
    board.cpu.core.write_sreg(0x70, SW | MDIV | 5000)
    there = moved(board)
    there.clock = lambda: 1_000_000_000
    assert (there.state["sclkm1"], there.core.read_sreg(0x92)) == (SW | 5000, (HZ // 5000) << 32)

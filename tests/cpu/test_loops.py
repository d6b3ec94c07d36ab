"""Loop hardware, recovery points, lock checks and the smaller operations of the control unit."""

from __future__ import annotations

import pytest

from tests.cpu.guest import CODE, Guest
from tests.cpu.tiers import both

OUT = 0x30000


def lsr(lcnt: int = 0, ecnt: int = 0, vlc: int = 0, pcnt: int = 0, strmd: int = 0) -> int:
    return lcnt | ecnt << 32 | vlc << 37 | pcnt << 48 | strmd << 53


def test_the_last_turn_stores_as_often_as_the_remainder_says() -> None:
    """(vlc, pcnt, lcnt, ecnt, strmd) -> stored: the cases seen on hardware."""
    cases = [
        ((0, 0, 0, 0, 0), 1), ((0, 0, 0, 0, 1), 1), ((0, 0, 0, 1, 0), 1), ((0, 0, 1, 0, 0), 1), ((0, 1, 0, 0, 0), 0),
        ((1, 0, 0, 0, 0), 0), ((0, 0, 0, 1, 1), 1), ((0, 0, 1, 0, 1), 1), ((0, 1, 0, 0, 1), 0), ((1, 0, 0, 0, 1), 1),
        ((1, 0, 0, 1, 1), 1), ((1, 0, 1, 0, 1), 1), ((1, 1, 0, 0, 1), 0), ((1, 0, 1, 1, 1), 1), ((1, 1, 0, 1, 1), 0),
        ((1, 1, 1, 0, 1), 0), ((1, 1, 1, 1, 1), 0), ((1, 0, 1, 0, 0), 0), ((1, 0, 2, 0, 0), 1), ((1, 0, 0, 1, 0), 1),
    ]
    for (vlc, pcnt, lcnt, ecnt, strmd), stored in cases:
        def setup(guest: Guest, value: int = lsr(lcnt, ecnt, vlc, pcnt, strmd)) -> None:
            guest.state["lsr"], guest.state["r0"], guest.state["r1"] = value, OUT, 0x55

        guest, _ = both("{ loop_mode\n stb,2 %r1, [ %dr0 + 0 ] }", 1, setup)
        assert guest.space.read(OUT, 1) == (0x55 if stored else 0), (vlc, pcnt, lcnt, ecnt, strmd)
    assert len(cases) == 20


@pytest.mark.parametrize(("strmd", "stored"), [(0, 0), (1, 1), (2, 2), (3, 3), (127, 4)])
def test_every_store_of_the_last_turn_takes_one_of_the_remainder(strmd: int, stored: int) -> None:
    def setup(guest: Guest) -> None:
        guest.state["lsr"], guest.state["r0"], guest.state["r1"] = lsr(1, 0, 1, 0, strmd), OUT, 0x55
        guest.state["pred0"] = 0

    text = """
    { loop_mode
      stb,2 %r1, [ %dr0 + 0 ]
      stb,5 %r1, [ %dr0 + 1 ] }
    { loop_mode
      stb,2 %r1, [ %dr0 + 8 ] ? %pred0
      stb,5 %r1, [ %dr0 + 2 ] }
    { loop_mode
      alc alcf=1, alct=1
      stb,5 %r1, [ %dr0 + 3 ] }
    """
    guest, _ = both(text, 3, setup)
    assert guest.space.read(OUT, 4) == int.from_bytes(b"\x55" * stored, "little")
    assert guest.state["lsr"] >> 53 & 127 == strmd - stored
    assert guest.state["lsr"] & 0xFFFFFFFF == 0


@pytest.mark.parametrize(("op", "condition", "written"), [
    ("srp", "", True), ("slrp", "", True), ("srp", "? %pred0", False), ("srp", "? ~%pred0", True)])
def test_a_recovery_point_is_where_it_was_set(op: str, condition: str, written: bool) -> None:
    text = f"{{ setbn rbs=2, rsz=1, rcur=1 }}\n{{ {op} {condition} }}\n"
    text += "{ rrd,0 %rpr.lo, %dr4 }\n{ rrd,0 %rpr.hi, %dr5 }"
    guest, end = both(text, 4)
    assert end == ""
    assert guest.state["r4"] == (CODE + 8 if written else 0)
    assert guest.state["r5"] == (guest.state["br"] if written else 0)
    text += "\n{ crp }\n{ rrd,0 %rpr.lo, %dr4 }"
    assert both(text, 6)[0].state["r4"] == 0


def test_a_diagnostic_condition_of_a_recovery_point_traps() -> None:
    def setup(guest: Guest) -> None:
        guest.state["pred3"] = 2

    assert both("{ srp ? %pred3 }", 1, setup)[1] == "exc_diag_cond"


@pytest.mark.parametrize(("line", "rotation"), [
    ("abgc 3", 5), ("abgc 7", 1), ("rbgc", 0), ("abgc 1 ? %pred1", 3), ("abgc 1 ? ~%pred1", 2), ("rbgc ? %pred1", 0)])
def test_globals_rotate_by_a_count(line: str, rotation: int) -> None:
    def setup(guest: Guest) -> None:
        guest.state["bgr"], guest.state["pred1"] = 0xFF | 2 << 8, 1
        for number in range(24, 32):
            guest.state[f"g{number}"] = number

    guest, _ = both(f"{{ {line} }}\n{{ addd,0 %dg24, 0, %dr4 }}", 2, setup, model="e16c")
    assert guest.state["bgr"] >> 8 == rotation
    assert guest.state["r4"] == 24 + rotation


@pytest.mark.parametrize(("model", "kept"), [("e2c+", 0x123), ("e8c", 0)])
def test_the_type_register_is_of_the_first_instruction_sets(model: str, kept: int) -> None:
    text = """
    { setwd wsz=8, nfx=1
      settr type=0x123
      disp %ctpr1, callee }
    { call %ctpr1, wbs=4 }
    { nop 1 }
    callee:
    { setwd wsz=4, nfx=1
      settr type=0x77
      return %ctpr3 }
    { ct %ctpr3 }
    """
    guest, end = both(text.replace("    { nop 1 }\n    callee", "    callee"), 2, model=model)
    assert end == ""
    assert guest.state["cr1.lo"] & 0x7FFF == kept
    guest, _ = both(text, 4, model=model)
    assert guest.state.S[0x2E] == kept


def test_vfrpsz_sets_the_window() -> None:
    guest, end = both("{ setwd wsz=12, nfx=1\n vfrpsz rpsz=2 }", 1)
    assert end == ""
    assert guest.state.window_size == 24


@pytest.mark.parametrize(("offset", "size", "locked"), [
    (0, "std", True), (8, "std", False), (-8, "std", False), (-7, "std", True), (7, "stb", True), (8, "stb", False),
    (-1, "stb", False), (-1, "sth", True)])
@pytest.mark.parametrize("channel", [0, 3, 5])
def test_a_lock_check_sees_a_store_of_its_own_wide_instruction(
        channel: int, offset: int, size: str, locked: bool) -> None:
    """Also when the stored bytes are those that are there already."""
    text = f"""
    {{ ldd,0,sm [ %dr0 + 0 ], %dr4, mas=4 }}
    {{ {size},{5 if channel == 3 else 2} %{'dr' if size == 'std' else 'r'}3, [ %dr1 + 0 ]
      ldd,{channel} [ %dr0 + 0 ], %dr4, mas=3
      rbranch fix }}
    {{ addd,0 0, 1, %dr6 }}
    fix:
    {{ nop 1 }}
    """

    def setup(guest: Guest) -> None:
        guest.state["r0"], guest.state["r1"], guest.state["r3"], guest.state["r6"] = OUT, OUT + offset, 0, 0

    guest, end = both(text, 3, setup)
    assert end == ""
    assert guest.state["r6"] == (0 if locked else 1)


def test_a_lock_check_sees_an_earlier_store_and_loads_again() -> None:
    text = """
    { ldd,0,sm [ %dr0 + 0 ], %dr4, mas=4 }
    { std,2 %dr3, [ %dr0 + 0 ] }
    { ldd,2 [ %dr0 + 0 ], %dr4, mas=3
      rbranch fix }
    { addd,0 0, 1, %dr6 }
    fix:
    { nop 1 }
    """

    def setup(guest: Guest) -> None:
        guest.state["r0"], guest.state["r3"], guest.state["r6"] = OUT, 0x1234, 0

    guest, _ = both(text, 4, setup)
    assert (guest.state["r4"], guest.state["r6"]) == (0x1234, 0)


@pytest.mark.parametrize("name", ["hret", "glaunch"])
def test_returns_of_virtual_machines_are_privileged(name: str) -> None:
    def user(guest: Guest) -> None:
        guest.state["psr"] = 0

    assert both(f"{{ {name} }}", 1, user, model="e16c")[1] == "exc_priv_action"
    assert both(f"{{ {name} }}", 1, model="e16c")[1] == "exc_illegal_opcode"

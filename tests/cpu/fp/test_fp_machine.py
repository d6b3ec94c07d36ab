"""What floating point does to a CPU: sticky flags, rounding modes, exceptions, speculation, the unit switched off."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from e2kemu.cpu.direct import execute
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.traps import BY_BIT
from e2kemu.cpu.windows import Trap
from tests.cpu.fp.cases import M64, by_code, cases, described, expected, found, instruction, load, prepare
from tests.cpu.guest import CODE, Guest

ONE, TWO, THIRD = 0x3FF0_0000_0000_0000, 0x4000_0000_0000_0000, 0x3FD5_5555_5555_5555
HUGE, INFINITY = 0x7FEF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000
MASKED, ROUND_UP, ROUND_DOWN = 0x1F80, 2 << 13, 1 << 13

Run = Callable[[Guest], str]


def oracle(guest: Guest) -> str:
    """One wide instruction through the oracle: the name of the exception, "" when there was none."""
    try:
        execute(guest.cpu.core, guest.cpu.reference.fetch(guest.state.pc))
    except Trap as trap:
        return BY_BIT[trap.exc].name
    return ""


def translated(guest: Guest) -> str:
    """One wide instruction through translated code."""
    return guest.cpu.fatal_reason.split()[0] if guest.cpu.step() == "fatal" else ""


tiers = pytest.mark.parametrize("run", [oracle, translated])


def started(text: str, **registers: int) -> Guest:
    guest = Guest(text)
    for name, value in registers.items():
        guest.state[name.replace("_", ".")] = value
    return guest


@tiers
def test_flags_of_all_channels_are_added_at_the_end(run: Run) -> None:
    guest = started("{ faddd,0 %dr1, %dr2, %dr4; fmuld,1 %dr3, %dr3, %dr5; fdivd,5 %dr1, %dr6, %dr7 }",
                    r1=ONE, r2=THIRD, r3=HUGE, r6=0)
    assert run(guest) == ""
    assert guest.state["pfpfr"] == MASKED | 0x20 | 0x28 | 0x04
    assert [guest.state[f"r{n}"] for n in (4, 5, 7)] == [0x3FF5_5555_5555_5555, INFINITY, INFINITY]


@tiers
def test_a_read_of_the_flags_sees_those_from_before(run: Run) -> None:
    guest = started("{ rrd,0 %pfpfr, %dr8; faddd,1 %dr1, %dr2, %dr4 }\n{ rrd,0 %pfpfr, %dr9 }", r1=ONE, r2=THIRD)
    assert (run(guest), run(guest)) == ("", "")
    assert (guest.state["r8"], guest.state["r9"]) == (MASKED, MASKED | 0x20)


@tiers
def test_the_rounding_mode_is_that_of_before_the_wide_instruction(run: Run) -> None:
    guest = started("{ rwd,0 %dr3, %pfpfr; faddd,1 %dr1, %dr2, %dr4 }\n{ faddd,1 %dr1, %dr2, %dr5 }",
                    r1=ONE, r2=THIRD, r3=MASKED | ROUND_UP)
    assert (run(guest), run(guest)) == ("", "")
    assert (guest.state["r4"], guest.state["r5"]) == (0x3FF5_5555_5555_5555, 0x3FF5_5555_5555_5556)
    # what is written explicitly stays
    assert guest.state["pfpfr"] == MASKED | ROUND_UP | 0x20


def test_a_loop_of_translated_code_keeps_flags_and_sums() -> None:
    guest = Guest("""
        { setwd wsz=16, nfx=1; disp %ctpr1, loop }
        { nop 4; addd,0 0, 100, %dr1; addd,1 0, 0, %dr4 }
        loop:
        { faddd,0 %dr4, %dr2, %dr4; subd,1 %dr1, 1, %dr1; cmpesb,3 %r1, 1, %pred0 }
        { nop 3 }
        { ct %ctpr1 ? ~%pred0 }
        { std,2 %dr4, [ %dr5 ] }
    """)
    guest.state["r2"] = 0x3FB9_9999_9999_999A
    assert guest.cpu.run(2 + 3 * 100) == "limit"
    total = 0.0
    for _ in range(100):
        total += 0.1
    assert guest.state["r4"] == int.from_bytes(struct.pack("<d", total), "little")
    assert guest.state["pfpfr"] == MASKED | 0x20


@pytest.mark.parametrize(("text", "registers", "bit"), [
    ("faddd,0 %dr1, %dr2, %dr4", {"r1": INFINITY, "r2": INFINITY | 1 << 63}, 0),
    ("faddd,0 %dr1, %dr2, %dr4", {"r1": 1, "r2": ONE}, 1),
    ("fdivd,5 %dr1, %dr2, %dr4", {"r1": ONE, "r2": 0}, 2),
    ("fmuld,0 %dr1, %dr2, %dr4", {"r1": HUGE, "r2": HUGE}, 3),
    ("fmuld,0 %dr1, %dr2, %dr4", {"r1": 0x0010 << 48, "r2": 0x3FE0 << 48}, 4),
    ("faddd,0 %dr1, %dr2, %dr4", {"r1": ONE, "r2": THIRD}, 5),
    ("pfadds,0 %dr1, %dr2, %dr4", {"r1": 0x7F80_0000 << 32, "r2": 0xFF80_0000 << 32}, 0),
    ("fcmpltdb,0 %dr1, %dr2, %pred3", {"r1": ONE, "r2": 0x7FF8 << 48}, 0),
])
@tiers
def test_an_exception_that_is_not_masked_stops_the_wide_instruction_and_shows_its_flag(
    run: Run, text: str, registers: dict[str, int], bit: int
) -> None:
    guest = started(f"{{ {text}; addd,3 0, 5, %dr9 }}", **registers)
    control = MASKED & ~(0x80 << bit)
    guest.state["pfpfr"], guest.state["r4"], guest.state["r9"] = control, 77, 88
    assert run(guest) == "exc_fp"
    assert (guest.state["r4"], guest.state["r9"], guest.state["pred3"]) == (77, 88, 0)
    assert guest.state["pfpfr"] & 1 << bit
    assert guest.state["pfpfr"] & ~0x3F == control
    assert guest.state.pc == CODE


@tiers
def test_an_operand_that_traps_leaves_no_flags_of_a_result(run: Run) -> None:
    # denormal and inexact; only the first traps
    guest = started("{ faddd,0 %dr1, %dr2, %dr4 }", r1=1, r2=ONE, pfpfr=MASKED & ~0x100)
    assert run(guest) == "exc_fp"
    assert guest.state["pfpfr"] == MASKED & ~0x100 | 2


@tiers
def test_80_bits_raise_through_fpsr(run: Run) -> None:
    # 1.0 + 1e-30 is inexact in any precision
    guest = started("{ fxaddxx,0 %dr1, %dr2, %dr4 }", r1=1 << 63, r1_ext=0x3FFF, r2=1 << 63, r2_ext=0x3F00,
                    r4_ext=7, fpcr=0x37F & ~0x20)
    assert run(guest) == "exc_fp"
    assert (guest.state["fpsr"], guest.state["pfpfr"], guest.state["r4.ext"]) == (0x80A0, MASKED, 7)


@tiers
def test_a_speculative_operation_never_traps_its_result_is_diagnostic(run: Run) -> None:
    guest = started("{ fdivd,5,sm %dr1, %dr2, %dr4; faddd,0 %dr1, %dr3, %dr5 }", r1=ONE, r2=0, r3=THIRD,
                    pfpfr=MASKED & ~0x200)
    assert run(guest) == ""
    assert (guest.state["r4.tag"], guest.state["r4"] & 0x4000_0000_4000_0000) == (5, 0x4000_0000_4000_0000)
    assert (guest.state["r5.tag"], guest.state["r5"]) == (0, 0x3FF5_5555_5555_5555)
    # the flag of the speculative operation stands apart
    assert guest.state["pfpfr"] == MASKED & ~0x200 | 0x20 | 4 << 26


@tiers
def test_a_speculative_compare_makes_a_diagnostic_predicate(run: Run) -> None:
    guest = started("{ fcmpltdb,0,sm %dr1, %dr2, %pred3 }", r1=ONE, r2=0x7FF8 << 48, pfpfr=MASKED & ~0x80)
    assert run(guest) == ""
    assert guest.state["pred3"] & 2


@tiers
def test_masked_exceptions_of_speculative_operations_are_ordinary_flags(run: Run) -> None:
    guest = started("{ faddd,0,sm %dr1, %dr2, %dr4 }", r1=ONE, r2=THIRD)
    assert run(guest) == ""
    assert (guest.state["r4"], guest.state["r4.tag"], guest.state["pfpfr"]) == (0x3FF5_5555_5555_5555, 0, MASKED | 0x20)


@tiers
def test_a_false_guard_leaves_register_and_flags(run: Run) -> None:
    guest = started("{ faddd,0 %dr1, %dr2, %dr4 ? %pred0; fmuld,1 %dr1, %dr1, %dr5 ? ~%pred0 }", r1=ONE, r2=THIRD, r4=9)
    assert run(guest) == ""
    assert (guest.state["r4"], guest.state["r5"], guest.state["pfpfr"]) == (9, ONE, MASKED)


@tiers
def test_floating_point_that_is_switched_off_raises_exc_fp_disabled(run: Run) -> None:
    guest = started("{ faddd,0 %dr1, %dr2, %dr4 }", r1=ONE, r2=ONE, r4=9)
    guest.state["upsr"] &= ~1
    assert run(guest) == "exc_fp_disabled"
    assert guest.state["r4"] == 9


@tiers
def test_a_diagnostic_operand_traps_before_anything_is_computed(run: Run) -> None:
    guest = started("{ faddd,0 %dr1, %dr2, %dr4 }", r1=ONE, r2=THIRD, r2_tag=5)
    assert run(guest) == "exc_diag_operand"
    assert guest.state["pfpfr"] == MASKED


@tiers
def test_a_diagnostic_operand_of_a_speculative_operation_leaves_no_flags(run: Run) -> None:
    guest = started("{ faddd,0,sm %dr1, %dr2, %dr4; fcmpltdb,1,sm %dr1, %dr2, %pred3 }", r1=ONE,
                    r2=0x7FF4 << 48, r2_tag=5, pfpfr=MASKED & ~0x80)
    assert run(guest) == ""
    assert (guest.state["r4.tag"], guest.state["pred3"] & 2, guest.state["pfpfr"]) == (5, 2, MASKED & ~0x80)


def test_every_operation_with_vectors_obeys_a_guard_and_marks_diagnostic_results() -> None:
    tried = set()
    for guest, case, _ in by_code(tuple(case for case in cases()[::5] if case.golden)):
        if case.op in tried:
            continue
        tried.add(case.op)
        load(guest, instruction(case.op, case.alc, sm=True))
        prepare(guest, case)
        guest.state["r1.tag"] = 5
        assert guest.cpu.step() == "limit", guest.cpu.fatal_message
        low, high, predicate, *_ = expected(case)
        marks = 0x4000_0000_4000_0000
        match case.op.sizes[-1]:
            case "B":
                want: tuple[int, ...] = (low, high, predicate | 2)
            case "S":
                want = (low | marks & 0xFFFF_FFFF, high, 0)
            case "P":
                want = (low | marks, high | marks, 0)
            case _:
                want = (low | marks, high, 0)
        assert found(guest)[:3] == want, case
        load(guest, instruction(case.op, case.alc))
        guest.state["r1.tag"] = 0
        prepare(guest, case)
        guest.state["r1.tag"] = 5
        assert guest.cpu.step() == "fatal"
        assert guest.cpu.fatal_reason.startswith("exc_diag_operand")
        guest.state["r1.tag"] = 0
        load(guest, instruction(case.op, case.alc))
    assert len(tried) >= 330
    assert tried <= set(described())


def test_first_steps_and_approximations() -> None:
    """What only documents tell: docs/semantics.md."""
    for name, operand, ext, result, result_ext in (
        ("fsqrtid", ONE | 5, 0, ONE | 5, 0), ("fxsqrtisx", 0x4040_0000, 0, 3 << 62, 0x4000),
        ("fxsqrtidx", 0x4008 << 48, 0, 3 << 62, 0x4000), ("fxsqrtixx", 3 << 62, 0x4000, 3 << 62, 0x4000),
    ):
        guest = Guest()
        (op,) = table.by_name(name)
        load(guest, instruction(op, 5))
        guest.state.pc = CODE
        guest.state["r1"], guest.state["r1.ext"] = operand, ext
        assert guest.cpu.step() == "limit"
        assert (guest.state["r4"], guest.state["r4.ext"]) == (result, result_ext), name
    for name in ("fxsqrtuxx", "fxsqrtusx", "fxsqrtudx"):
        guest = Guest()
        (op,) = table.by_name(name)
        load(guest, instruction(op, 5))
        guest.state.pc = CODE
        guest.state["r1"], guest.state["r2"], guest.state["r2.ext"] = ONE, 3 << 62, 0x4000
        assert guest.cpu.step() == "limit"
        assert (guest.state["r4"], guest.state["r4.ext"]) == (3 << 62, 0x4000), name


@pytest.mark.parametrize(("text", "operands", "result"), [
    ("frcps,5 %r1, %r4", (0x4080_0000, 0), 0x3E80_0000), ("frsqrts,5 %r1, %r4", (0x4080_0000, 0), 0x3F00_0000),
    ("fscales,1 %r1, %r2, %r4", (0x3F80_0000, 3), 0x4100_0000),
    ("fscales,1 %r1, %r2, %r4", (0x4000_0000, 0xFFFF_FF00), 0),
    ("fscaled,1 %dr1, %r2, %dr4", (TWO, M64), ONE), ("fscaled,1 %dr1, %r2, %dr4", (0x0010 << 48, 0x400), 0x4010 << 48),
])
def test_scaling_and_reciprocals_are_exact(text: str, operands: tuple[int, int], result: int) -> None:
    guest = started(f"{{ {text} }}", r1=operands[0], r2=operands[1])
    assert guest.cpu.step() == "limit"
    assert guest.state["r4"] == result


def test_a_number_with_80_bits_scales_by_its_exponent() -> None:
    guest = started("{ fxscalesx,1 %dr1, %r2, %dr4 }", r1=3 << 62, r1_ext=0x3FFF, r2=100)
    assert guest.cpu.step() == "limit"
    assert (guest.state["r4"], guest.state["r4.ext"]) == (3 << 62, 0x3FFF + 100)

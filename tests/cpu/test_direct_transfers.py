"""Transfers without a prepared %ctpr (v6): what they may not be combined with, and where they may not go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e2kemu.cpu import direct
from e2kemu.cpu.decode import decode
from e2kemu.cpu.encode import encode
from e2kemu.cpu.insn import Condition, Cs0
from e2kemu.cpu.isa.traps import EXC_ILLEGAL_OPCODE
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest

ILLEGAL = {
    "a destination": "{ ibranchd,0 %dr2, %dr3 }",
    "speculative": "{ ibranchd,0,sm %dr2, %empty }",
    "a call with a destination": "{ icalld,0 wbs = 4, %dr2, %dr3 }",
}


@pytest.mark.parametrize("what", sorted(ILLEGAL))
def test_what_nobody_describes_is_an_illegal_opcode(what: str) -> None:
    guest = Guest(ILLEGAL[what], model="e16c")
    guest.state["r2"] = CODE
    assert guest.cpu.run(1) == "fatal"
    assert guest.cpu.fatal_reason.startswith("exc_illegal_opcode")


@pytest.mark.parametrize("beside", [{"cs0": Cs0("ibranch", disp=8)}, {"cs0": Cs0("iret")}, {}])
def test_two_transfers_or_none_are_an_illegal_opcode(beside: dict[str, Cs0]) -> None:
    guest = Guest("{ ibranchd,0 %dr2, %empty }", model="e16c")
    wide = decode(guest.space.read_bytes(CODE, 64), 6, CODE)
    wide = replace(wide, **beside) if beside else replace(wide, stub=None)  # type: ignore[arg-type]
    with pytest.raises(Trap) as trap:
        direct.execute(guest.cpu.core, wide)
    assert trap.value.exc == EXC_ILLEGAL_OPCODE


@pytest.mark.parametrize(("text", "exception"), [
    ("{ ibranchd,0 %dr2, %empty }", "exc_illegal_instr_addr"),
    ("{ icalld,0 wbs = 4, %dr2, %empty }", "exc_illegal_instr_addr"),
    ("{ icalld,0 wbs = 100, %dr3, %empty }", "exc_window_bounds"),
    ("{ ibranchd,0 %dr4, %empty }", "exc_diag_operand"),
])
def test_a_bad_target_traps(text: str, exception: str) -> None:
    guest = Guest(text, model="e16c")
    guest.state["r2"], guest.state["r3"] = CODE + 4, CODE
    guest.state["r4"], guest.state["r4.tag"] = CODE, 5
    assert guest.cpu.run(1) == "fatal"
    assert guest.cpu.fatal_reason.startswith(exception)


@pytest.mark.parametrize(("value", "taken"), [(7, True), (8, False)])
def test_ct_by_a_local_condition_of_v7_goes_where_it_was_prepared(value: int, taken: bool) -> None:
    """The condition, the compare of the same wide instruction, is known after the loads."""
    guest = Guest("""
        { disp %ctpr1, there
          nop 5 }
    transfer:
        { cmpesb,0 %r2, 7, %pred1
          ct %ctpr1 ? %pred1 }
        { addd,0 0, 1, %dr3 }
    there:
        { addd,0 0, 2, %dr4 }
    """, model="e48c")
    at = guest.symbols["transfer"]
    wide = decode(guest.space.read_bytes(at, 64), 7, at)
    assert wide.stub is not None
    local = replace(wide, stub=replace(wide.stub, condition=Condition(11, 0)))
    guest.space.write_bytes(at, encode(local))
    guest.state["r2"], guest.state["r3"] = value, 0
    guest.cpu.run(3 if taken else 4)
    assert (guest.state["r3"], guest.state["r4"]) == (0 if taken else 1, 2)

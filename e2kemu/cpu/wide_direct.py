"""Transfers that need no prepared %ctpr (from v6 on): icall, icalld, ibranchd, iret.

icall calls what is at a distance from the wide instruction, icalld and ibranchd call and go to the address in src2,
iret returns as ``return`` and ``ct`` do. Each takes its condition from SS, whose ctop is 0.
Source: the public C emulator of e2k in its latest state. What the destination register of icalld and ibranchd gets is
not public, neither are they as speculative operations or under predicates: then they raise exc_illegal_opcode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2kemu.cpu.insn import Kind, Wide
from e2kemu.cpu.isa import traps
from e2kemu.cpu.state import CR0_HI

if TYPE_CHECKING:
    from e2kemu.cpu.wide_semantics import Staged, WideExecution

V = Any
M48 = (1 << 48) - 1
LABEL, RETURN, NUMERIC = 3 << 54, 2 << 54 | 3 << 57, 4 << 54
"""Tags of the %ctpr values that these transfers would have prepared."""


def name(wide: Wide) -> str:
    """The transfer of this kind in the wide instruction, or ""."""
    if wide.cs0 is not None and wide.cs0.name in ("icall", "iret"):
        return wide.cs0.name
    return next((insn.op.name for insn in wide.alu if insn.op.family == "transfer"), "")


def window(wide: Wide) -> int:
    """Where the callee's window begins (wbs) in a call of this kind."""
    number = next((insn.imm8 for insn in wide.alu if insn.op.family == "transfer"), None)
    return number or next((op.fields["wbs"] for op in wide.cs1 if op.name == "icall"), 0)


def malformed(wide: Wide) -> str:
    """What is wrong with the transfer of this kind, or ""."""
    found, stub = name(wide), wide.stub
    if not found:
        return ""
    if stub is None or stub.condition.type == 0 or stub.ctop:
        return f"{found} without a condition of its own"
    if found == "icall" and not any(op.name == "icall" for op in wide.cs1):
        return "icall without a window"
    if sum(insn.op.family == "transfer" for insn in wide.alu) + (wide.cs0 is not None and not wide.cs0.ctpr
                                                               and wide.cs0.name != "pref") > 1:
        return f"{found} and another transfer"
    return ""


def address(ex: WideExecution, one: Staged) -> None:
    """Phase 1 of ibranchd and icalld: read the address."""
    m, insn = ex.m, one.insn
    if insn.sm or insn.guards or insn.dst is None or insn.dst.kind not in (Kind.EMPTY, Kind.EMPTY_LO):
        m.trap(traps.EXC_ILLEGAL_OPCODE, insn.op.name)
        return
    ex.check(one, one.tag)
    ex.direct = insn.op.meaning(m, one.sources[0][0])  # type: ignore[misc]


def target(ex: WideExecution) -> V:
    """Where the transfer goes, as the value of a %ctpr."""
    m, found = ex.m, name(ex.wide)
    if found == "icall":
        assert ex.wide.cs0 is not None
        return LABEL | ex.wide.address + ex.wide.cs0.disp & M48
    if found == "iret":
        return m.or_(m.and_(m.sreg(CR0_HI), M48), RETURN)
    return m.or_(m.and_(ex.direct, M48), NUMERIC)

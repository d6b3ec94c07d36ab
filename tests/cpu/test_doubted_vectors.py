"""Every golden vector that somebody doubts, and all with tags and with ``dbl`` windows: where we differ, and why.

The vectors were made with the public C emulator, which is no hardware. tests/data has all that its makers marked as
suspect, and all vectors of tags and of ``dbl`` windows, 14,351. Each either says what we do, or its difference is of a
class below, and there are exactly so many of each class. docs/semantics.md has the same table with the evidence.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from e2kemu.cpu import direct
from e2kemu.cpu.insn import AluInsn, Guard, Kind, Operand, Wide
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.isa.table import by_name
from e2kemu.cpu.isa.traps import BY_NAME
from e2kemu.cpu.state import WD
from e2kemu.cpu.windows import Trap
from tests.cpu.guest import CODE, Guest
from tests.cpu.vectors import lines

DOCUMENT = Path(__file__).parents[2] / "docs" / "semantics.md"
M64 = (1 << 64) - 1
MARKS = 0x4000_0000_4000_0000
SOURCES = {"src1": 0, "src2": 2, "src3": 4}
SIGNALS = {BY_NAME[name].bit: "SIGFPE" for name in ("exc_div", "exc_fp")}

COUNTS = {
    "not in the C emulator": 283,
    "denormal operand": 2_483,
    "quiet NaN in a quiet compare": 286,
    "FPCR.pc and loads": 79,
    "scale": 51,
    "square root": 12,
    "32-bit shift by 32 and more": 149,
    "128-bit shift by 0 bytes": 26,
    "carry": 4,
    "32-bit result": 137,
    "quotient": 46,
    "diagnostic operand traps": 219,
    "diagnostic result": 2_438,
}
"""Class of difference -> how many of the vectors."""


@dataclass(frozen=True)
class Vector:
    """One line of the data; see the generator's names in the order of fields of ``of``."""

    op: Op
    cpu: str
    channel: int
    sources: tuple[str, ...]
    before: tuple[str | None, str | None]
    result: tuple[str | None, str | None]
    pred: int | None
    pred_before: int
    signal: str | None
    imm: int | None
    condition: int | None
    speculative: bool
    dbl: bool
    control: tuple[str | None, str | None]
    flags: tuple[str, ...]
    tags: tuple[int, ...]
    tag: int | None


def of(cpu: str, name: str, row: list[Any]) -> Vector:
    """The vector of a line."""
    (channel, sources, dst_before, ext_before, dst, ext, pred, pred_before, signal, imm, condition, speculative, dbl,
     pfpfr, fpcr, flags, tags, tag, _suspect) = row
    op = next(one for one in by_name(name) if one.in_channel(channel, MODELS[cpu].version))
    text = sources.split()
    return Vector(op, cpu, channel, tuple(text), (dst_before, ext_before), (dst, ext), pred, pred_before or 0, signal,
                  imm, condition, bool(speculative), bool(dbl), (pfpfr, fpcr), tuple(flags.split()),
                  tuple(tags or [0] * len(text)), tag)


@cache
def vectors() -> tuple[Vector, ...]:
    return tuple(of(line["cpu"], line["op"], row) for line in lines("doubted.jsonl") for row in line["vectors"])


@cache
def guest(cpu: str) -> Guest:
    return Guest(model=cpu)


Difference = dict[str, int]
"""What differs -> by which bits; "trap": our exception, "executed": 1 when the vector has a signal and we none."""


def difference(v: Vector) -> Difference:
    """How what we do differs from the vector; empty: not at all."""
    machine = guest(v.cpu)
    state, version = machine.state, MODELS[v.cpu].version
    state.reset()
    machine.give_stacks()
    state.pc = CODE
    slots: dict[str, object] = {}
    for slot, text, tag in zip((s for s in v.op.fmt.slots if s in SOURCES), v.sources, v.tags, strict=False):
        register = SOURCES[slot]
        state[f"r{register}"], state[f"r{register}.ext"] = int(text, 16) & M64, int(text, 16) >> 64
        state[f"r{register}.tag"] = tag
    slots = {slot: Operand(Kind.R, number) for slot, number in SOURCES.items() if slot in v.op.fmt.slots}
    if v.op.has_dst:
        slots["dst"] = Operand(Kind.R, 8)
        state["r8"], state["r8.ext"] = (int(text or "0", 16) for text in v.before)
    if "pred" in v.op.fmt.slots:
        slots["pred"], state["pred5"] = 5, v.pred_before
    if v.op.merges:
        slots["merge"], state["pred6"] = (Guard(6),), v.condition or 0
    if v.op.imm8:
        slots["imm8"] = v.imm
    state["pfpfr"], state["fpcr"], state["fpsr"] = int(v.control[0] or "1f80", 16), int(v.control[1] or "37f", 16), 0
    state.S[WD] = state.S[WD] | int(v.dbl) << 49
    wide = Wide(version, 8, CODE, alu=(AluInsn(v.channel, v.op, v.speculative, **slots),))  # type: ignore[arg-type]
    try:
        direct.execute(machine.cpu.core, wide)
    except Trap as trap:
        return {} if SIGNALS.get(trap.exc, "SIGILL") == v.signal else {"trap": trap.exc}
    if v.signal:
        return {"executed": 1}
    found: Difference = {}
    mask = 0xFFFF if v.op.sizes[-1] == "X" else M64
    pairs = []
    if v.op.has_dst:
        pairs += [("value", state["r8"], v.result[0], M64), ("ext", state["r8.ext"], v.result[1], mask)]
    pairs += [(name, state[name], text, M64) for name, text in zip(("pfpfr", "fpsr", "fpcr"), v.flags, strict=False)]
    for name, ours, theirs, bits in pairs:
        if theirs is not None and (ours ^ int(theirs, 16)) & bits:
            found[name] = (ours ^ int(theirs, 16)) & bits
    if "pred" in v.op.fmt.slots and v.pred is not None and state["pred5"] & 1 != v.pred:
        found["pred"] = 1
    if v.op.has_dst and v.tag is not None:
        half = 3 if v.op.sizes[-1] == "S" and not v.dbl else 15
        if state["r8.tag"] & half != v.tag & half:
            found["tag"] = (state["r8.tag"] ^ v.tag) & half
    return found


_SHIFTS = re.compile(r"((shl|shr|sar|scl|scr)_\w+s|shls|shrs|sars)")
_DIVISIONS = re.compile(r"[us](div|mod)[sdx]")


def kind_of(v: Vector, found: Difference) -> str | None:
    """The class of a difference; None: it is of none."""
    name, differing = v.op.name, set(found)
    flags = {found.get("pfpfr", 0), found.get("fpsr", 0)} - {0}
    diagnostic = any(v.tags) and v.speculative
    if differing == {"executed"} and v.signal == "SIGILL" and re.search(r"_f[bhwd]$|^cctop|^movtr", name):
        return "not in the C emulator"
    if differing == {"trap"} and found["trap"] == BY_NAME["exc_diag_operand"].bit and any(v.tags):
        return "diagnostic operand traps"
    if diagnostic and differing <= {"value", "ext", "pfpfr", "fpsr"} and not (found.get("value", 0) & ~MARKS) and not (
            found.get("ext", 0) & ~MARKS):
        return "diagnostic result"
    if _DIVISIONS.fullmatch(name) and (found.get("trap") == BY_NAME["exc_div"].bit or differing <= {"value", "tag"}):
        return "quotient"
    if differing == {"value"} and _SHIFTS.fullmatch(name):
        return "32-bit shift by 32 and more"
    if differing == {"value"} and name in ("psllqh", "psrlql") and v.imm == 0:
        return "128-bit shift by 0 bytes"
    if differing == {"value"} and name in ("addcd_c", "subcd_c"):
        return "carry"
    if differing == {"value"} and name in ("gettagd", "pextrh"):
        return "32-bit result"
    if "fscale" in name or "fxscale" in name:
        return "scale"
    if "sqrt" in name and found.get("fpsr", 0) == 0x20:
        return "square root"
    if differing <= {"pfpfr", "fpsr"} and flags == {2}:
        return "denormal operand"
    if "cmp" in name and differing <= {"pfpfr", "fpsr"} and flags <= {1, 3}:
        return "quiet NaN in a quiet compare"
    if v.control[1] is not None and int(v.control[1], 16) >> 8 & 3 != 3 and differing <= {"value", "fpsr"}:
        return "FPCR.pc and loads"
    return None


@cache
def classified() -> tuple[Counter[str], tuple[str, ...]]:
    """How many differ in which way, and those that do in none of these."""
    counts: Counter[str] = Counter()
    unknown = []
    for v in vectors():
        try:
            found = difference(v)
        except TypeError:                  # made without the third source, which the C emulator never looked at
            found = {"executed": 1}
        if found:
            kind = kind_of(v, found)
            if kind is None:
                unknown.append(f"{v.op.name} {v.cpu} {v.sources} tags {v.tags}{',sm' * v.speculative}: "
                               + ", ".join(f"{name} {bits:#x}" for name, bits in found.items()))
            else:
                counts[kind] += 1
    return counts, tuple(unknown)


def test_every_difference_from_a_golden_vector_is_of_a_known_class() -> None:
    assert classified()[1] == ()
    assert len(vectors()) == 14_351


def test_there_are_as_many_differences_of_each_class_as_we_know_of() -> None:
    assert dict(classified()[0]) == COUNTS


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_the_document_has_every_class_with_its_count_and_evidence(name: str) -> None:
    line = rf"^\| {re.escape(name)} \| ([\d,]+) \| (.+) \| (.+) \| (.+) \|$"
    row = re.search(line, DOCUMENT.read_text(), re.MULTILINE)
    assert row is not None
    assert int(row[1].replace(",", "")) == COUNTS[name]

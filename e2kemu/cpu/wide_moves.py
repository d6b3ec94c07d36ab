"""Operations with rules of their own for tags, extensions or the stack pointer, inside a wide instruction.

One function per ``family`` of ``isa.alc_int``: phase 1 of such an operation, up to its staged result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2kemu.cpu.insn import Kind, Operand
from e2kemu.cpu.isa import traps
from e2kemu.cpu.state import CTPR1, USD_HI, USD_LO
from e2kemu.cpu.wide_control import TAG_DIAGNOSTIC, TAG_NUMERIC

if TYPE_CHECKING:
    from e2kemu.cpu.wide_semantics import Staged, WideExecution

V = Any

M48 = (1 << 48) - 1
SIGN = 0x8000
"""Of an 80-bit number, in the extension."""
NO_SIGN = (1 << 64) - 1 - SIGN
DIAGNOSTIC_BITS = 0x4000_0000_4000_0000
"""Set in a result that becomes diagnostic, per half."""

_REGISTERS = (Kind.R, Kind.B, Kind.G)


def merge(ex: WideExecution, one: Staged) -> None:
    """merges, merged: only the chosen source counts; combined operations with a merge: every source does."""
    m = ex.m
    chosen, diag = ex.guard(one.insn.merge) if one.insn.merge else (0, 0)
    if not one.insn.sm:
        m.trap_if(diag, traps.EXC_DIAG_COND)
        diag = 0
    m.condition = chosen
    tags = [tag for _, tag in one.sources]
    plain = one.insn.op.family == "merge"
    tag = m.select(chosen, tags[1], tags[0]) if plain else ex.any_tag(tags)
    diag = m.or_(diag, ex.check(one, tag))
    values = [value for value, _ in one.sources]
    ex.result(one, one.insn.op.meaning(m, *values), diag)  # type: ignore[misc]


def field(ex: WideExecution, one: Staged) -> None:
    """insf: src2[13] and src2[15] of the D form leave only the low halves of src1 and src3 to be checked."""
    m = ex.m
    (a, tag_a), (b, tag_b), (c, tag_c) = one.sources
    if m.bits == 64:
        tag_a = m.and_(tag_a, m.select(m.and_(m.lshr(b, 13), 1), 3, 15)) if tag_a != 0 else 0
        tag_c = m.and_(tag_c, m.select(m.and_(m.lshr(b, 15), 1), 3, 15)) if tag_c != 0 else 0
    diag = ex.check(one, ex.any_tag([tag_a, tag_b, tag_c]))
    ex.result(one, one.insn.op.meaning(m, a, b, c), diag)  # type: ignore[misc]


def movt(ex: WideExecution, one: Staged) -> None:
    """movt copies the tag; the c forms check it; the r forms and getpl take no descriptors."""
    m, insn = ex.m, one.insn
    variant = insn.op.name[4:] if insn.op.name.startswith("movt") else "pl"
    sources = one.sources
    if "c" in variant and not insn.sm:
        ex.check(one, ex.any_tag([tag for _, tag in sources]))
        sources = [(value, 0) for value, _ in sources]
    elif "r" in variant or variant == "pl":
        for _, tag in sources:
            m.trap_if(m.xor(m.or_(m.eq(tag, 0), _diagnostic(m, tag)), 1), traps.EXC_ILLEGAL_OPERAND)
    dst = insn.dst
    assert dst is not None
    value, tag = sources[0]
    if variant == "pl":
        value, tag = insn.op.meaning(m, value), m.select(m.eq(tag, 0), 0, 5)  # type: ignore[misc]
        m.bits = 64
    if dst.kind is Kind.CTPR:
        kind = m.select(m.eq(tag, 0), TAG_NUMERIC, TAG_DIAGNOSTIC)
        ex.stage_sreg(CTPR1 - 1 + dst.value, m.or_(m.and_(value, M48), m.shl(kind, 54, 64)))
        return
    marks = m.and_(m.select(one.diag, DIAGNOSTIC_BITS, 0), (1 << m.bits) - 1)
    spread = m.select(one.diag, 5, 0)
    if insn.op.sizes[-1] != "Q":
        ex.write(one, m.or_(value, marks), m.or_(tag, spread), keep_high=True)
    elif dst.kind in _REGISTERS:
        for i, (part, its_tag) in enumerate(sources):
            register = ex.cfg.register(Operand(dst.kind, dst.value + i), ex.new_size)
            ex.write_register(register, m.or_(part, marks), m.or_(its_tag, spread), one.condition, low_only=False)


def _diagnostic(m: Any, tag: V) -> V:
    """Whether one of the halves is diagnostic."""
    return m.or_(m.eq(m.and_(tag, 3), 1), m.eq(m.lshr(tag, 2), 1))


def gettag(ex: WideExecution, one: Staged) -> None:
    """gettags, gettagd."""
    ex.result(one, one.sources[0][1], one.diag)


def puttag(ex: WideExecution, one: Staged) -> None:
    """puttags, puttagd, puttagqp: a 128-bit register has the tag of its low half."""
    m, size = ex.m, one.insn.op.sizes[-1]
    (value, _), (tag, tag_of_tag) = one.sources
    diag = ex.check(one, tag_of_tag)
    tag = m.and_(tag, 3 if size == "S" else 15)
    if size == "P":
        register = ex.destination(one)
        if register is not None:
            ex.stage_extension(register, m.lshr(value, 64, 128))
        value = m.trunc(value, 64)
    ex.write(one, value, m.or_(tag, m.select(diag, 5, 0)))


def extension(ex: WideExecution, one: Staged) -> None:
    """movif, movfi, movx, movxa, movxc: the extension half of a register."""
    m, insn, family = ex.m, one.insn, one.insn.op.family
    source = insn.src2
    assert source is not None
    assert insn.dst is not None
    found = m.ext(ex.cfg.register(source, ex.cfg.size)) if source.kind in _REGISTERS else 0
    diag = ex.check(one, one.tag if family == "movif" else ex.any_tag([t for _, t in one.sources]))
    if family == "movfi":
        ex.result(one, m.and_(found, 0xFFFF), diag)
        return
    if family == "movif":
        found = m.and_(one.sources[1][0], 0xFFFF)
    elif insn.op.name == "movxa":
        found = m.and_(found, NO_SIGN)
    elif insn.op.name == "movxc":
        found = m.xor(found, SIGN)
    if insn.dst.kind in _REGISTERS:
        m.bits = 64
        ex.stage_extension(ex.cfg.register(insn.dst, ex.new_size), found)
    ex.result(one, one.sources[0][0], diag)


def getsp(ex: WideExecution, one: Staged) -> None:
    """getsp, getspd: move the user stack pointer."""
    m = ex.m
    ex.check(one, one.tag)
    delta = one.insn.op.meaning(m, one.sources[0][0])  # type: ignore[misc]
    m.bits = 64
    lo, hi = m.sreg(USD_LO), m.sreg(USD_HI)
    base = m.and_(m.add(lo, delta), M48)
    # a register that holds 0 moves it by 0, which counts when another getsp of the wide instruction moves it as well
    source = one.insn.src2
    if delta != 0 or (source is not None and source.kind in (Kind.R, Kind.B, Kind.G)):
        size = m.lshr(hi, 32)
        new_size = m.add(size, delta)
        m.trap_if(m.xor(m.ult(new_size, 1 << 32), 1), traps.EXC_USER_STACK_BOUNDS)
        ex.stage_sreg(USD_LO, m.or_(m.and_(lo, ~M48 & (1 << 64) - 1), base))
        new_hi = m.or_(m.and_(hi, 0xFFFF_FFFF), m.shl(m.and_(new_size, 0xFFFF_FFFF), 32))
        ex.stage_sreg(USD_HI, new_hi)
    ex.result(one, base, one.diag)

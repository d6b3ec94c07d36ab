"""Loads and stores inside a wide instruction: memory access specifiers, alignment, speculation.

What the emulator makes of a memory access specifier (MAS, 7 bits: mod[2:0] be[3] m1[4] dc[6:5]): cache
hints have no effect; a lock always holds, because nobody else runs between two wide instructions; a check
of an earlier speculative load loads again and sets MLOCK when it finds something else. Cache flushes do
nothing. Big-endian and special accesses (MMU and debug registers) raise exc_illegal_opcode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2kemu.cpu.isa import traps
from e2kemu.cpu.state import LSR

if TYPE_CHECKING:
    from e2kemu.cpu.wide_semantics import Staged, WideExecution

V = Any

FAILED_LOAD = 0x4AFAFAFA4AFAFAFA
"""What a speculative load gives when it cannot load, with a diagnostic tag."""

_FLUSHES = range(5)
"""Codes of special stores (MAS bits 6:3) that flush caches and translation buffers."""


def _special(one: Staged) -> bool:
    return one.insn.channel in (2, 5) and one.insn.mas & 7 == 7


def prepare(ex: WideExecution, one: Staged) -> None:
    """Phase 1: everything about the access that can trap."""
    m, insn, op = ex.m, one.insn, one.insn.op
    if _special(one):
        if not (op.store and insn.mas >> 3 in _FLUSHES):
            m.trap(traps.EXC_ILLEGAL_OPCODE, f"{op.name} mas={insn.mas:#x}")
        return
    if insn.mas & 8:
        m.trap(traps.EXC_ILLEGAL_OPCODE, f"{op.name} mas={insn.mas:#x} (big endian)")
        return
    m.bits = 64
    address_tag = ex.any_tag([tag for _, tag in one.sources[:2]])
    value_tag = ex.any_tag([tag for _, tag in one.sources[2:]])
    bad_predicate = one.diag
    one.diag = m.settle(ex.check(one, address_tag))
    if op.store:
        # speculative: nothing is stored at a diagnostic address; a diagnostic value is stored without its
        # tag; under a diagnostic predicate the stored value is marked
        ex.check(one, value_tag)
        one.diag = m.settle(m.xor(m.eq(address_tag, 0), 1)) if insn.sm else 0
        one.mark = m.settle(bad_predicate)
    if ex.cfg.ac and not insn.sm:
        size = min(op.load or op.store, 8)
        address = m.add(one.sources[0][0], one.sources[1][0])
        m.trap_if(m.xor(m.eq(m.and_(address, size - 1), 0), 1), traps.EXC_ADDR_NOT_ALIGNED)


def load(ex: WideExecution, one: Staged) -> None:
    """Phase 2: the load."""
    m, insn = ex.m, one.insn
    if _special(one):
        return
    values = [value for value, _ in one.sources]
    first = m.slot(FAILED_LOAD)
    second = m.slot(FAILED_LOAD)
    fault = m.slot(one.diag)

    def access() -> None:
        m.speculative, m.fault, m.aligned = insn.sm, 0, bool(ex.cfg.ac)
        result = insn.op.meaning(m, *values)  # type: ignore[misc]
        m.speculative = False
        if isinstance(result, tuple):
            m.put(first, result[0])
            m.put(second, result[1])
        else:
            m.put(first, result)
        m.put(fault, m.or_(m.get(fault), m.fault))

    m.if_(m.xor(one.diag, 1), access)
    if insn.mas & 7 in (2, 3) and insn.channel in (0, 3) and insn.dst is not None and not insn.op.pair:
        register = ex.destination(one)
        if register is not None:
            same = m.eq(m.get(first), m.old_reg(register))
            if insn.op.sizes[-1] == "P":
                same = m.and_(same, m.eq(m.get(second), m.old_ext(register)))
            m.put(ex.mlock, m.or_(m.get(ex.mlock), m.xor(same, 1)))
    if insn.op.sizes[-1] == "P":
        ex.result(one, m.or_(m.get(first), m.shl(m.get(second), 64, 128)), m.get(fault))
    elif insn.op.pair:
        ex.pair_result(one, m.get(first), m.get(second), m.get(fault))
    else:
        ex.result(one, m.get(first), m.get(fault))


def _last_turn(m: Any, lsr: V) -> V:
    """LOOP_END: vlc, lcnt below 2, no epilogue left."""
    return m.and_(m.ult(m.and_(lsr, 0xFFFF_FFFF), 2), m.eq(m.and_(m.lshr(lsr, 32), 0x3F), 0x20))


def loop_permits(m: Any, lsr: V) -> V:
    """Whether a store in loop mode happens: not in the prologue (pcnt), and not in the last turn (LOOP_END)
    unless the remainder strmd asks for it."""
    running = m.eq(m.and_(lsr, 31 << 48), 0)
    return m.and_(running, m.xor(m.and_(_last_turn(m, lsr), m.eq(m.and_(lsr, 127 << 53), 0)), 1))


def _loop_store(ex: WideExecution) -> V:
    """``loop_permits`` for the next store of the wide instruction; in the last turn it counts strmd down."""
    m = ex.m
    if ex.remainder is None:
        ex.remainder = m.staged(m.sreg(LSR))
        ex.sregs.append((LSR, ex.remainder))
    lsr = m.pin(m.get(ex.remainder))
    permitted = m.pin(loop_permits(m, lsr))
    m.if_(m.and_(permitted, _last_turn(m, lsr)), lambda: m.put(ex.remainder, m.sub(lsr, 1 << 53)))
    return permitted


def store(ex: WideExecution, one: Staged) -> None:
    """Phase 3: the store."""
    m, insn = ex.m, one.insn
    if _special(one):
        return
    permitted = m.xor(one.diag, 1)
    if ex.wide.loop_mode:
        permitted = m.and_(permitted, _loop_store(ex))
    values = [value for value, _ in one.sources]
    if not (isinstance(one.mark, int) and not one.mark):
        marks = 0x4000_0000_4000_0000 * (1 << 64 | 1) if insn.op.sizes[-1] == "P" else 0x4000_0000_4000_0000
        mark = m.select(one.mark, marks, 0)
        values[2:] = [m.or_(value, mark) for value in values[2:]]

    def access() -> None:
        m.speculative, m.aligned = insn.sm, bool(ex.cfg.ac)
        insn.op.meaning(m, *values)  # type: ignore[misc]
        m.speculative = False

    m.if_(permitted, access)

"""Loads and stores inside a wide instruction: memory access specifiers, alignment, speculation.

What the emulator makes of a memory access specifier (MAS, 7 bits: mod[2:0] be[3] m1[4] dc[6:5]): cache
hints have no effect; locks, conditional stores and orders are the matter of ``locks``; a check
of an earlier speculative load loads again and sets MLOCK when it finds something else, or when a store of the
same wide instruction hits it. (Hardware remembers addresses in a table that may lose them at any time, and then
sets MLOCK as well: software must be right either way.) Big-endian accesses of up to 8 bytes reverse them; larger
ones raise exc_illegal_opcode. An access with mod 1 goes to a physical address. One with mod 7 in ALC2 and ALC5 is
*special*: it reaches no memory but what ``mmu.special`` lists. Both are for privileged code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from e2kemu.cpu import locks
from e2kemu.cpu.isa import traps
from e2kemu.cpu.isa.registers import BY_NAME
from e2kemu.cpu.mmu import special
from e2kemu.cpu.state import LSR

if TYPE_CHECKING:
    from e2kemu.cpu.wide_semantics import Staged, WideExecution

V = Any

M48 = (1 << 48) - 1

_SEGMENT = re.compile("(?:ld|st)(cud|gd|[cdefgs]s)")
"""Name of an access relative to a segment -> the segment."""

AP_LOW, AP_HIGH = 0xF, 0xC
"""Tags of the halves of an array pointer."""

FAILED_LOAD = 0x4AFAFAFA4AFAFAFA
"""What a speculative load gives when it cannot load, with a diagnostic tag."""

_CHECKS = (2, 3)
"""MAS mod of loads that check an earlier speculative load."""

_PHYSICAL = 1
"""MAS mod of an access to a physical address."""


def _special(one: Staged) -> bool:
    return one.insn.channel in (2, 5) and one.insn.mas & 7 == 7


def _is_physical(ex: WideExecution, one: Staged) -> bool:
    """From v6 on mod 1 with bit 4 is another access: one that watches for a modification."""
    return one.insn.mas & 7 == _PHYSICAL and not (ex.cfg.version >= 6 and one.insn.mas & 0x10)


class _Physical:
    """A machine whose loads and stores go to physical addresses: for the meanings of operations."""

    def __init__(self, m: Any) -> None:
        self._m = m
        self.load, self.store = m.physical_load, m.physical_store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._m, name)

    def store_if(self, condition: V, address: V, size: int, value: V) -> None:
        self._m.if_(condition, lambda: self.store(address, size, value))


def _memory(ex: WideExecution, one: Staged) -> Any:
    """The machine whose memory an access means."""
    return _Physical(ex.m) if _is_physical(ex, one) else ex.m


def _big_endian(ex: WideExecution, one: Staged) -> bool:
    """MAS bit 3; from v6 on it is another one in the specifiers that have bit 4 (memory order)."""
    return bool(one.insn.mas & 8) and not (ex.cfg.version >= 6 and one.insn.mas & 0x10)


def _swapped(m: Any, value: V, size: int) -> V:
    """The low ``size`` bytes of ``value`` in reverse order."""
    total: V = 0
    for index in range(size):
        byte = m.and_(m.lshr(value, 8 * index, 64), 0xFF)
        total = m.or_(total, m.shl(byte, 8 * (size - 1 - index), 64))
    return total


def prepare_segment(ex: WideExecution, one: Staged) -> None:
    """Phase 1 of an access relative to a segment, CUD or GD: the offset must be inside."""
    m, op = ex.m, one.insn.op
    found = _SEGMENT.match(op.name)
    assert found is not None
    name, wide = found[1], op.sizes[0] == "D"
    lo, hi = m.sreg(BY_NAME[f"{name}.lo"].number), m.sreg(BY_NAME[f"{name}.hi"].number)
    (first, tag1), (second, tag2) = one.sources[:2]
    masked = "mqp" in op.name     # src2 is the mask of bytes
    m.bits = 64
    offset = first if masked else m.add(first, second, 64 if wide else 32)
    size, limit = op.load or op.store, m.lshr(hi, 32)
    outside = m.or_(m.ult(limit, size), m.ult(m.sub(limit, size, 64), offset))
    refused: V = 0
    if name == "gd":
        refused = m.xor(m.and_(m.lshr(lo, 59 + bool(op.store)), 1), 1)
    tag = tag1 if masked else m.or_(tag1, tag2)
    if one.insn.sm:
        tag = m.or_(tag, m.select(m.or_(outside, refused), 5, 0))
    else:
        ex.check(one, tag)
        m.trap_if(outside, traps.EXC_ARRAY_BOUNDS)
        m.trap_if(refused, traps.EXC_ACCESS_RIGHTS)
    base = m.and_(lo, M48)
    if masked:
        one.sources[:2] = [(m.add(base, offset), tag), (second, tag2)]
    else:
        one.sources[:2] = [(base, 0), (offset, tag)]
    prepare(ex, one)


def prepare_pointer(ex: WideExecution, one: Staged) -> None:
    """Phase 1 of an access through an array pointer (src1, a pair): tags, rights and bounds."""
    m, op = ex.m, one.insn.op
    (lo, tag_lo), (hi, tag_hi), (offset, tag) = one.sources[:3]
    m.bits = 64
    pointer = m.and_(m.and_(m.eq(tag_lo, AP_LOW), m.eq(tag_hi, AP_HIGH)), m.eq(m.lshr(lo, 61), 0))
    masked = "mqp" in op.name
    index = m.and_(hi, 0xFFFF_FFFF)
    index = index if masked else m.add(index, offset, 32)
    size, limit = op.load or op.store, m.lshr(hi, 32)
    outside = m.or_(m.ult(limit, size), m.ult(m.sub(limit, size, 64), index))
    refused = m.xor(m.and_(m.lshr(lo, 59 + bool(op.store)), 1), 1)
    if one.insn.sm:
        tag = m.or_(tag, m.select(m.or_(m.xor(pointer, 1), m.or_(outside, refused)), 5, 0))
    else:
        ex.check(one, tag)
        halves = m.or_(_is_diagnostic(m, tag_lo), _is_diagnostic(m, tag_hi))
        m.trap_if(halves, traps.EXC_DIAG_OPERAND)
        m.trap_if(m.xor(pointer, 1), traps.EXC_ILLEGAL_OPERAND)
        m.trap_if(outside, traps.EXC_ARRAY_BOUNDS)
        m.trap_if(refused, traps.EXC_ACCESS_RIGHTS)
    base = m.and_(lo, M48)
    if masked:
        one.sources[:3] = [(m.add(base, index), tag), (m.zext(offset, 64), tag)]
    else:
        one.sources[:3] = [(base, 0), (index, tag)]
    prepare(ex, one)


def _is_diagnostic(m: Any, tag: V) -> V:
    return m.or_(m.eq(m.and_(tag, 3), 1), m.eq(m.lshr(tag, 2), 1))


def prepare_record(ex: WideExecution, one: Staged) -> None:
    """Phase 1 of ldrd, strd, ldrqp, strqp: src2 has index 31:0, mas 38:32, prot 39, fmt 42:40 of an access."""
    m = ex.m
    (address, tag1), (record, tag2) = one.sources[:2]
    ex.check(one, m.or_(tag1, tag2))
    m.bits = 64
    fmt = m.pin(m.and_(m.lshr(record, 40), 7))
    known = m.eq(fmt, 5) if one.insn.op.sizes[-1] == "P" else m.ult(m.sub(fmt, 1), 4)
    odd = m.and_(record, 1 << 39 | 8 << 32)        # protected mode, big endian
    m.trap_if(m.xor(m.and_(known, m.eq(odd, 0)), 1), traps.EXC_ILLEGAL_OPERAND)
    one.sources[:2] = [(address, tag1), (m.and_(record, 0xFFFF_FFFF), tag2)]
    one.fmt = fmt
    prepare(ex, one)


def _by_format(m: Any, fmt: V, access: Callable[[int], None]) -> None:
    """``access`` with the size that a format (1 byte .. 4 double word) means."""
    for code in range(1, 5):
        m.if_(m.eq(fmt, code), partial(access, 1 << code - 1))


def prepare(ex: WideExecution, one: Staged) -> None:
    """Phase 1: everything about the access that can trap."""
    m, insn, op = ex.m, one.insn, one.insn.op
    if _special(one):
        _prepare_special(ex, one)
        return
    if _is_physical(ex, one) and not ex.cfg.pm:
        m.trap(traps.EXC_PRIV_ACTION, f"{op.name} mas={insn.mas:#x}")
        return
    if _big_endian(ex, one) and (op.load or op.store) > 8:
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
    if "mqp" in op.name:
        # bytes under a mask: the address is aligned, to its whole size in the first instruction set that has it
        low = m.and_(one.sources[0][0], 15 if ex.cfg.version == 5 else 7)
        bad = m.xor(m.eq(low, 0), 1)
        if insn.sm:
            one.diag = m.or_(one.diag, m.settle(bad))
        else:
            m.trap_if(bad, traps.EXC_ADDR_NOT_ALIGNED)
    elif ex.cfg.ac and not insn.sm:
        size = min(op.load or op.store, 8)
        address = m.add(one.sources[0][0], one.sources[1][0])
        m.trap_if(m.xor(m.eq(m.and_(address, size - 1), 0), 1), traps.EXC_ADDR_NOT_ALIGNED)


def _prepare_special(ex: WideExecution, one: Staged) -> None:
    """Phase 1 of a special access."""
    m, op, opc = ex.m, one.insn.op, one.insn.mas >> 3
    name = f"{op.name} mas={one.insn.mas:#x}"
    if opc not in (special.LOADS if op.load else special.STORES) or (op.load or op.store) > 8 or op.family:
        m.trap(traps.EXC_ILLEGAL_OPCODE, name)
        return
    if not ex.cfg.pm and not (op.store and opc in special.USER_STORES):
        m.trap(traps.EXC_PRIV_ACTION, name)
        return
    one.diag = m.settle(ex.check(one, ex.any_tag([tag for _, tag in one.sources])))
    m.bits = 64
    if opc == special.PAGE_FLUSH and not ex.cfg.pm:
        m.trap_if(m.xor(m.eq(m.and_(_address(m, one), 7), 0), 1), traps.EXC_PRIV_ACTION)
    if op.store and opc not in special.NO_EFFECT:
        # at the very end: what is translated may be something else afterwards
        condition, address, value = m.staged(0), m.staged(0), m.staged(0)
        m.put(condition, m.pin(m.xor(one.diag, 1)))
        m.put(address, m.pin(_address(m, one)))
        m.put(value, m.pin(m.trunc(one.sources[2][0], 8 * op.store)))
        channel = one.insn.channel
        ex.late.append(lambda: m.if_(m.get(condition), lambda: m.special_store(
            opc, m.get(address), m.get(value), channel)))


def _check(ex: WideExecution, one: Staged, low: V, high: V) -> None:
    """A check of an earlier speculative load: MLOCK when the register does not hold what is in memory, or when
    a store of this very wide instruction changes it."""
    m = ex.m
    register = ex.destination(one)
    if register is None:
        return
    changed = m.xor(m.eq(low, m.old_reg(register)), 1)
    if one.insn.op.sizes[-1] == "P":
        changed = m.or_(changed, m.xor(m.eq(high, m.old_ext(register)), 1))
    start, size = _address(m, one), one.insn.op.load
    for other in ex.staged:
        width = other.insn.op.store
        if width and other.condition != 0 and len(other.sources) > 2 and not _special(other):
            distance = m.sub(_address(m, other), start, 64)      # -width < distance < size: they overlap
            overlaps = m.ult(m.add(distance, width - 1, 64), size + width - 1)
            changed = m.or_(changed, m.and_(overlaps, other.condition))
    m.put(ex.mlock, m.or_(m.get(ex.mlock), changed))


def _address(m: Any, one: Staged) -> V:
    return m.add(one.sources[0][0], one.sources[1][0], 64)


def load(ex: WideExecution, one: Staged) -> None:
    """Phase 2: the load."""
    m, insn = ex.m, one.insn
    if _special(one):
        got = m.slot(FAILED_LOAD)
        m.if_(m.xor(one.diag, 1), lambda: m.put(got, m.trunc(
            m.special_load(insn.mas >> 3, _address(m, one), insn.channel), 8 * insn.op.load)))
        ex.result(one, m.get(got), one.diag)
        return
    values = [value for value, _ in one.sources]
    memory = _memory(ex, one)
    first = m.slot(FAILED_LOAD)
    second = m.slot(FAILED_LOAD)
    fault, swap = m.slot(one.diag), _big_endian(ex, one)

    def sized(size: int) -> None:
        m.speculative, m.fault, m.aligned = insn.sm, 0, bool(ex.cfg.ac)
        loaded = memory.load(_address(m, one), size)
        m.speculative = False
        m.put(first, m.select(m.fault, loaded, _swapped(m, loaded, size)) if swap else loaded)
        m.put(fault, m.or_(m.get(fault), m.fault))

    def access() -> None:
        if one.fmt is not None and insn.op.sizes[-1] == "D":
            _by_format(m, one.fmt, sized)
            return
        m.speculative, m.fault, m.aligned = insn.sm, 0, bool(ex.cfg.ac)
        m.order = locks.order(insn, ex.cfg.version)
        result = insn.op.meaning(memory, *values)  # type: ignore[misc]
        m.speculative, m.order = False, ""
        locks.loaded(ex, one, _address(m, one), result)
        if isinstance(result, tuple):
            m.put(first, result[0])
            m.put(second, result[1])
        else:
            m.put(first, m.select(m.fault, result, _swapped(m, result, insn.op.load)) if swap else result)
        m.put(fault, m.or_(m.get(fault), m.fault))

    m.if_(m.xor(one.diag, 1), access)
    if insn.mas & 7 in _CHECKS and not locks.order(insn, ex.cfg.version) and insn.dst is not None and not insn.op.pair:
        _check(ex, one, m.get(first), m.get(second))
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
    memory = _memory(ex, one)
    if not (isinstance(one.mark, int) and not one.mark):
        marks = 0x4000_0000_4000_0000 * (1 << 64 | 1) if insn.op.sizes[-1] == "P" else 0x4000_0000_4000_0000
        mark = m.select(one.mark, marks, 0)
        values[2:] = [m.or_(value, mark) for value in values[2:]]

    swap = _big_endian(ex, one)

    def sized(size: int) -> None:
        memory.store(_address(m, one), size, _swapped(m, values[2], size) if swap else values[2])

    def access() -> None:
        m.speculative, m.aligned, m.order = insn.sm, bool(ex.cfg.ac), locks.order(insn, ex.cfg.version)
        if locks.conditional(insn, ex.cfg.version):
            low = _swapped(m, values[2], insn.op.store) if swap else values[2]
            high: V = values[3] if len(values) > 3 else 0
            if insn.op.sizes[-1] == "P":
                low, high = m.trunc(low, 64), m.lshr(low, 64)
            locks.store(ex, _address(m, one), insn.op.store, low, high)
        elif one.fmt is not None and insn.op.sizes[-1] == "D":
            _by_format(m, one.fmt, sized)
        else:
            stored = [_swapped(m, values[2], insn.op.store)] if swap else values[2:]
            insn.op.meaning(memory, *values[:2], *stored)  # type: ignore[misc]
        m.speculative, m.order = False, ""

    m.if_(permitted, access)

"""The array access unit's part of a wide instruction: registers, stores and loads by descriptor, mova.

What ``mova`` cannot give (no program, an element narrower than asked for, bytes beyond those prefetched, a
misaligned element up to v4, no memory) is ``MISSING`` with a diagnostic tag, and traps where it is used. Only
a page that is missing and may yet come traps at once (exc_mova_ch_N: ``traps``).
Registers are items of part A of the CPU state (``isa.aau.Slot``): ``m.aau(index)`` reads
one as it was before the wide instruction, ``m.set_aau`` writes one at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e2kemu.cpu import memory_access
from e2kemu.cpu.insn import AluInsn, Kind, Mova
from e2kemu.cpu.isa import aau, traps
from e2kemu.cpu.isa.aau import MOVA, MOVA_BYTES, Slot
from e2kemu.cpu.isa.formats import AAU, MAS_AAU
from e2kemu.cpu.state import CTPR1, LSR
from e2kemu.cpu.wide_control import TAG_DIAGNOSTIC, TAG_LABEL

if TYPE_CHECKING:
    from e2kemu.cpu.wide_semantics import Staged, WideExecution

V = Any

MISSING = 0xEAED0F70EAED0F70
"""What mova gives when it has nothing to give, with a diagnostic tag."""

M48 = (1 << 48) - 1
_DESCRIPTOR_KEPT = 3 << 57
_READ_WRITE = 3 << 59
_TAG = 7 << 54

_FMT_NEEDED = {1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 7: 5}
"""AAS opc -> narrowest fmt it reads from."""

_FAMILY = {family.code: family for family in aau.FAMILIES}


# --- operations of the channels ---------------------------------------------------------------------

def operation(ex: WideExecution, one: Staged) -> None:
    """Phase 1 of staa, ldaa, aaurw and aaurr."""
    op = one.insn.op
    if op.load or op.store:
        if one.insn.mas == MAS_AAU:
            # narrower than a register: hardware does nothing
            one.condition = 0
            return
        _address(ex, one)
        memory_access.prepare(ex, one)
    elif op.fmt.name == "ALOPF10":
        _write_register(ex, one)
    else:
        _read_register(ex, one)


def _opce1(insn: AluInsn) -> int:
    assert insn.aau is not None
    return insn.aau.opce1


def _index_bits(ex: WideExecution) -> int:
    return 64 if ex.cfg.version >= 5 else 32


def _address(ex: WideExecution, one: Staged) -> None:
    """Put descriptor base and index, with their tags, before the value to store."""
    m, insn = ex.m, one.insn
    assert insn.aau is not None
    opce1, bits = _opce1(insn), _index_bits(ex)
    m.bits = 64
    lo = m.aau(Slot.AAD + 2 * AAU["d"].of(opce1))
    kind = m.and_(m.lshr(lo, 54), 7)
    other = m.select(m.eq(kind, aau.AAD_DIAGNOSTIC), 5, 10)
    tag = m.select(m.eq(kind, aau.AAD_NUMERIC), 0, other)
    number = AAU["ind"].of(opce1)
    index = m.aau(Slot.AASTI + number)
    bad = m.and_(m.lshr(m.aau(Slot.AASTI_TAG), number), 1)
    literal = insn.aau.literal or 0
    if literal:
        literal = literal if bits == 32 else (literal ^ 1 << 31) - (1 << 31) & (1 << 64) - 1
        index = m.add(index, literal, bits)
    one.sources = [(m.and_(lo, M48), tag), (index, m.select(bad, 5, 0)), *one.sources]


def _write_register(ex: WideExecution, one: Staged) -> None:
    """aaurws, aaurwd, aaurwq."""
    m, insn = ex.m, one.insn
    code = AAU["code"].of(_opce1(insn))
    family = _FAMILY.get(code)
    if family is None:
        m.trap(traps.EXC_ILLEGAL_OPCODE, f"{insn.op.name} of array register {code:#x}")
        return
    diag = m.settle(ex.check(one, ex.any_tag([tag for _, tag in one.sources])))
    m.bits = 64
    value, second = one.sources[0][0], insn.channel == 5
    number = AAU[family.index].of(_opce1(insn)) if family.index else 0
    name = family.name
    if name == "%aad":
        ex.stage_array(Slot.AAD + 2 * number, _descriptor(ex, number, value, diag, insn.op.sizes == "S"))
        if insn.op.sizes == "Q":
            ex.stage_array(Slot.AAD + 2 * number + 1, m.and_(one.sources[1][0], 0xFFFF_FFFF_0000_0000))
    elif name == "%aadr":
        for i, (part, _) in enumerate(one.sources):
            ex.stage_array(Slot.AAD + 2 * number + i, part)
    elif name in ("%aasti", "%aaind", "%aaincr"):
        _write_index(ex, name, number, value, diag)
    elif name == "%aaldi":
        ex.stage_array(Slot.AALDI + number + 32 * second, value)
    elif name == "%aalda":
        ex.stage_array(Slot.AALDA + number // 4 + 8 * second, m.and_(value, 0xFFFF_FFFF))
    elif name in ("%aaldv", "%aaldm"):
        at, shift = (Slot.AALDV if name == "%aaldv" else Slot.AALDM), 32 * second
        kept = m.and_(m.get(ex.array(at)), 0xFFFF_FFFF << 32 - shift)
        ex.stage_array(at, m.or_(kept, m.shl(m.and_(value, 0xFFFF_FFFF), shift, 64)))
    elif name == "%aabf":
        # what the compiler ends an array loop with: nothing of the unit is in use any more
        done = m.staged(0)
        m.put(done, 1)
        ex.late.append(lambda: m.if_(m.get(done), m.stop_arrays))
        ex.stage_array(Slot.AASR, 0)
        return
    else:
        ex.stage_array(_SINGLE[name], m.and_(value, 0xFFFF_FFFF))
        return
    if name in ("%aad", "%aaind", "%aaincr", "%aasti"):
        used = aau.AASR_STB if name == "%aasti" else aau.AASR_IAB
        ex.stage_array(Slot.AASR, m.or_(m.get(ex.array(Slot.AASR)), used))


_SINGLE = {"%aasr": Slot.AASR, "%aafstr": Slot.AAFSTR, "%aasti_tag": Slot.AASTI_TAG, "%aaind_tag": Slot.AAIND_TAG,
           "%aaincr_tag": Slot.AAINCR_TAG}


def _descriptor(ex: WideExecution, number: int, value: V, diag: V, single: bool) -> V:
    """The low half of a descriptor made from a plain number."""
    m = ex.m
    fixed = m.or_(m.shl(m.select(diag, aau.AAD_DIAGNOSTIC, aau.AAD_NUMERIC), 54, 64), _READ_WRITE)
    kept = 0 if single else m.and_(value, _DESCRIPTOR_KEPT)
    return m.or_(m.or_(m.and_(value, M48), kept), fixed)


def _write_index(ex: WideExecution, name: str, number: int, value: V, diag: V) -> None:
    m = ex.m
    if name == "%aaincr":
        number &= 7
    if number == 0 and name != "%aasti":
        return      # %aaind0 is 0, %aaincr0 is 1
    at, tags = {"%aasti": (Slot.AASTI, Slot.AASTI_TAG), "%aaind": (Slot.AAIND, Slot.AAIND_TAG),
                "%aaincr": (Slot.AAINCR, Slot.AAINCR_TAG)}[name]
    ex.stage_array(at + number, m.trunc(value, _index_bits(ex)))
    others = m.and_(m.get(ex.array(tags)), 0xFFFF & ~(1 << number))
    ex.stage_array(tags, m.or_(others, m.shl(diag, number, 64)))


def _read_register(ex: WideExecution, one: Staged) -> None:
    """aaurr, aaurrd, aaurrq."""
    m, insn = ex.m, one.insn
    code = AAU["code"].of(_opce1(insn))
    family = _FAMILY.get(code)
    if family is None:
        m.trap(traps.EXC_ILLEGAL_OPCODE, f"{insn.op.name} of array register {code:#x}")
        return
    m.bits = 64
    number = AAU[family.index].of(_opce1(insn)) if family.index else 0
    name, second, high = family.name, insn.channel == 5, 0
    if name in ("%aad", "%aadr"):
        value, high = m.aau(Slot.AAD + 2 * number), m.aau(Slot.AAD + 2 * number + 1)
    elif name in ("%aasti", "%aaind", "%aaincr"):
        base = {"%aasti": Slot.AASTI, "%aaind": Slot.AAIND, "%aaincr": Slot.AAINCR}[name]
        value = m.aau(base + (number & 7 if name == "%aaincr" else number))
    elif name == "%aaldi":
        value = m.aau(Slot.AALDI + number + 32 * second)
    elif name == "%aalda":
        value = m.aau(Slot.AALDA + number // 4 + 8 * second)
    elif name in ("%aaldv", "%aaldm"):
        both = m.aau(Slot.AALDV if name == "%aaldv" else Slot.AALDM)
        value = m.and_(m.lshr(both, 32 * second), 0xFFFF_FFFF)
    elif name == "%aabf":
        value = 0
    else:
        value = m.aau(_SINGLE[name])
    if insn.op.sizes == "Q":
        ex.pair_result(one, value, high, one.diag)
    else:
        ex.result(one, value, one.diag)


def increments(ex: WideExecution) -> None:
    """Phase 3: ``incr`` of the store indices; it does not depend on the condition of the store itself."""
    m = ex.m
    for insn in ex.wide.alu:
        if insn.op.family != "aau" or not (insn.op.load or insn.op.store) or insn.mas == MAS_AAU:
            continue
        opce1 = _opce1(insn)
        if not AAU["am"].of(opce1):
            continue
        condition, diag = ex.guard(insn.increment or ())
        m.trap_if(diag, traps.EXC_DIAG_COND)
        m.bits = 64
        if ex.wide.loop_mode:
            condition = m.and_(condition, memory_access.loop_permits(m, m.sreg(LSR)))
        number, size = AAU["ind"].of(opce1), insn.op.load or insn.op.store
        at = Slot.AASTI + number
        step = m.mul(m.aau(Slot.AAINCR + AAU["incr"].of(opce1)), size, 64)

        def advance(at: int = at, step: V = step) -> None:
            ex.stage_array(at, m.add(m.get(ex.array(at)), step, _index_bits(ex)))

        m.if_(condition, advance)


# --- mova -------------------------------------------------------------------------------------------

def movas(ex: WideExecution) -> None:
    """Phase 2: array reads and the advance of their areas."""
    advanced = set()
    for mova in ex.wide.movas:
        if mova.be:
            ex.m.trap(traps.EXC_ILLEGAL_OPCODE, f"{MOVA[mova.opc]} be=1")
            return
        read(ex, mova)
        area = area_of(mova)
        if mova.am and area not in advanced:
            advanced.add(area)
            m = ex.m
            m.bits = 64
            ex.stage_array(Slot.AALDI + area, m.add(m.aau(Slot.AALDI + area), m.aau(Slot.STEP + area), 64))


def area_of(mova: Mova) -> int:
    """0..31 of the left side, 32..63 of the right one."""
    return mova.area + aau.APB_ENTRIES * (mova.channel >= 2)


def read(ex: WideExecution, mova: Mova) -> None:
    """One array read."""
    m, area, size, strict = ex.m, area_of(mova), MOVA_BYTES[mova.opc], ex.cfg.version <= 4
    m.bits = 64
    info, index = m.aau(Slot.INFO + area), m.aau(Slot.AALDI + area)
    fmt = m.and_(info, 7)
    bad = m.or_(m.ult(fmt, _FMT_NEEDED[mova.opc]), m.ult(m.lshr(info, 8), mova.ind + size))
    element = m.add(m.aau(Slot.BASE + area), index)
    if strict:
        bad = m.or_(bad, m.xor(m.eq(m.lshr(index, 32), 0), 1))
        misaligned = m.and_(element, m.sub(m.lshr(m.shl(1, fmt, 64), 1), 1))
        bad = m.or_(bad, m.xor(m.eq(misaligned, 0), 1))
    bad = m.settle(m.pin(bad))
    address = m.add(element, mova.ind)
    low, high, fault = m.slot(0), m.slot(0), m.slot(bad)

    def access() -> None:
        m.speculative, m.fault, m.aligned = True, 0, False
        m.put(low, m.load(address, min(size, 8)))
        if size == 16:
            m.put(high, m.load(m.add(address, 8), 8))
        m.speculative = False
        m.put(fault, m.or_(m.get(fault), m.fault))

    m.if_(m.xor(bad, 1), access)
    dst = mova.dst
    if dst.kind in (Kind.EMPTY, Kind.EMPTY_LO):
        return
    if dst.kind not in (Kind.R, Kind.B, Kind.G):
        m.trap(traps.EXC_ILLEGAL_OPCODE, f"{MOVA[mova.opc]} to {dst.kind.value}")
        return
    register, failed = ex.cfg.register(dst, ex.new_size), m.get(fault)
    if size == 16:
        ex.stage_extension(register, m.select(failed, MISSING, m.get(high)))
    ex.write_register(register, m.select(failed, MISSING, m.get(low)), m.select(failed, 5, 0), 1, low_only=False)


# --- the program ------------------------------------------------------------------------------------

def prepare_program(ex: WideExecution) -> None:
    """Phase 1: bap needs a program prepared by ldisp; eap ends the one that runs."""
    m, stub = ex.m, ex.wide.stub
    if stub is None:
        return
    if stub.eap:
        ex.late.append(m.stop_arrays)
    if stub.bap:
        ctpr = m.pin(m.sreg(CTPR1 + 1))
        kind = m.and_(m.lshr(ctpr, 54), 0x1F)
        m.trap_if(m.eq(m.and_(kind, 7), TAG_DIAGNOSTIC), traps.EXC_DIAG_INSTR_ADDR)
        m.trap_if(m.xor(m.eq(kind, TAG_LABEL | 1 << 3), 1), traps.EXC_ILLEGAL_INSTR_ADDR)
        ex.late.append(lambda: m.start_arrays(ctpr))

"""Handlers that are not operations: the frame of a wide instruction, its conditions, its end, and transfers.

The text is compiled by ``lowlevel``. What a wide instruction may not do natively goes to ``step`` before anything was
written: the reference tier executes it.
"""

from __future__ import annotations

from e2kemu.cpu.fp.machine import FPSR, PFPFR
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.registers import CHAIN_RESIDENT, WINDOW_DOUBLES
from e2kemu.cpu.native.interp.layout import (
    CALL,
    CHOSEN,
    LOW,
    PREDICATE,
    PREDICATE_MAP,
    PRIVILEGED,
    RECORD,
    ROTATING,
    SIZE,
    SLOTS,
    SOURCES,
    STATE_ACCESS,
    STATE_REGISTER,
    TAKEN,
    TARGET,
    THROUGH,
    WHY,
)
from e2kemu.cpu.native.interp.lowlevel import (
    below,
    fence,
    go,
    handler,
    load8,
    load16,
    load32,
    load64,
    signed,
    store8,
    store64,
)
from e2kemu.cpu.native.layout import Status, Word
from e2kemu.cpu.state import BGR, BR, CR0_HI, CR1_LO, CTPR1, ILCR, LSR, PSR, UPSR, WD, WINDOW_END, CpuState, Slot
from e2kemu.cpu.wide_control import TAG_LABEL, TAG_NUMERIC, TAG_RETURN

_OFFSETS = CpuState(MODELS["e8c"]).offsets
R, E, T, P, S = (_OFFSETS[part] for part in "RETPS")
PC, BASE, BOTTOM, CHAIN = (_OFFSETS["X"] + 8 * slot for slot in (Slot.PC, Slot.BASE, Slot.BOTTOM, Slot.CHAIN))
S_PFPFR, S_FPSR = S + 8 * PFPFR, S + 8 * FPSR
S_WD, S_BR, S_BGR, S_LSR, S_ILCR, S_PSR, S_UPSR, S_CTPR1, S_CR0_HI, S_CR1_LO = (
    S + 8 * number for number in (WD, BR, BGR, LSR, ILCR, PSR, UPSR, CTPR1, CR0_HI, CR1_LO))
LEFT, EXIT_FLAG, KEY = 8 * Word.LEFT, 8 * Word.EXIT, 8 * Word.KEY
STEP, EXIT, LIMIT, MISS, NEXT, IS_HOT, PAGE = (
    int(x) for x in (Status.STEP, Status.EXIT, Status.LIMIT, Status.MISS, Status.NEXT, Status.HOT, Status.PAGE))
PATIENCE = 64
"""Times that no region fits a place that has one, until Python is asked about it."""
M48 = (1 << 48) - 1
NEVER = (1 << 64) - 1

# Bits of the end's record: what it does besides committing.
ADVANCE_BASE, ADVANCE_PREDICATES, COUNT = 1, 2, 4         # each for a false condition; 8 times that for a true one
PREPARE_LABEL, PREPARE_RETURN = 1, 2
SET_BASE, SET_PREDICATES, SET_WINDOW = 1, 2, 4


# --- leaving ---------------------------------------------------------------------------------------------

@handler
def step(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """The wide instruction at hand is for the reference tier."""
    store64(s + PC, load64(h + 8))
    store64(c + LEFT, left + 1)
    return STEP


@handler
def fail(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """A memory access did not succeed: leave with what it says."""
    store64(s + PC, load64(h + 8))
    store64(c + LEFT, left + 1)
    return load64(c + WHY)


@handler
def leave(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Out between two wide instructions: ``u`` is the next address, ``mask`` the status."""
    store64(s + PC, u)
    store64(c + LEFT, left)
    return mask


# --- the frame of a wide instruction ---------------------------------------------------------------------

@handler
def head(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Its first record."""
    if left == 0:
        return leave(s, c, load64(u + 8), w, t, left, LIMIT, h)
    left -= 1
    if load8(u + 16) > load64(c + SIZE) or load8(u + 17) > load64(c + ROTATING):
        return step(s, c, u, w, t, left, mask, u)
    return go(s, c, u + RECORD, w, t, left, 0, u)


def guards(s: int, c: int, u: int) -> int:
    """The condition of GUARD and MERGE: 0 or 1, 2 when a diagnostic predicate is among them."""
    predicates = load8(u + 16)
    counters = load8(u + 17)
    holds = int(predicates == 0)
    i = 0
    while i < predicates:
        code = load8(u + 8 + i)
        value = load8(s + P + load8(c + PREDICATE_MAP + (code & 31)))
        if value > 1:
            return 2
        holds |= value ^ code >> 7
        i += 1
    if counters:
        counter = load64(s + S_LSR) >> 48 & 31
        reached = 0
        while i < predicates + counters:
            code = load8(u + 8 + i)
            reached |= (counter <= (code & 31)) ^ code >> 7
            i += 1
        holds &= reached
    return holds


@handler
def guard(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """The condition of an operation: 18 u8 records are passed over when it does not hold."""
    holds = guards(s, c, u)
    if holds == 2:
        return step(s, c, u, w, t, left, mask, h)
    if holds:
        return go(s, c, u + RECORD, w, t, left, mask, h)
    return go(s, c, u + RECORD * load8(u + 18), w, t, left, mask, h)


@handler
def guard_one(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """``guard`` by a single predicate."""
    code = load8(u + 8)
    value = load8(s + P + load8(c + PREDICATE_MAP + (code & 31)))
    if value > 1:
        return step(s, c, u, w, t, left, mask, h)
    if value ^ code >> 7:
        return go(s, c, u + RECORD, w, t, left, mask, h)
    return go(s, c, u + RECORD * load8(u + 18), w, t, left, mask, h)


@handler
def merge(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """The condition by which the next record's operation chooses."""
    holds = guards(s, c, u)
    if holds == 2:
        return step(s, c, u, w, t, left, mask, h)
    mask &= ~CHOSEN
    if holds:
        mask |= CHOSEN
    return go(s, c, u + RECORD, w, t, left, mask, h)


def loop_end(lsr: int) -> int:
    """LOOP_END."""
    return (lsr & 0xFFFFFFFF) < 2 and (lsr >> 32 & 0x3F) == 0x20


@handler
def guard_loop(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """A store in loop mode, in the middle of the loop: what it does in the prologue and in the last turn is rare."""
    lsr = load64(s + S_LSR)
    if lsr >> 48 & 31 or loop_end(lsr):
        return step(s, c, u, w, t, left, mask, h)
    return go(s, c, u + RECORD, w, t, left, mask, h)


@handler
def logic(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Predicate logic. @p0..@p6 are bits of ``values``."""
    values = 0
    i = 0
    while i < 4:
        source = load8(u + 8 + i)
        if source >= 0x60:
            value = load8(s + P + load8(c + PREDICATE_MAP + (source & 31)))
            if value > 1:
                return step(s, c, u, w, t, left, mask, h)
            values |= value << i
        elif source == 0:
            values |= ((load64(s + S_LSR) & 0xFFFFFFFF) == 0) << i
        i += 1
    count = load8(u + 18)
    i = 0
    while i < count:
        code = load16(u + 12 + 2 * i)
        first = values >> (code >> 10 & 7) & 1 ^ code >> 13 & 1
        second = values >> (code >> 6 & 7) & 1 ^ code >> 9 & 1
        value = first & second
        values |= value << 4 + i
        # movep writes only when its first argument holds
        if code & 0x20 and (code >> 14 != 3 or first):
            slot = c + SLOTS + 32 * (12 + i)
            store64(slot, value)
            store8(slot + 16, code & 31)
            store8(slot + 17, PREDICATE)
            mask |= 1 << 12 + i
        i += 1
    return go(s, c, u + RECORD, w, t, left, mask, h)


@handler
def condition(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Whether the transfer happens, and whether it can."""
    type_ = load8(u + 16)
    taken = 1
    if type_ > 1:
        lsr = load64(s + S_LSR)
        end = loop_end(lsr)
        if type_ == 4 or type_ == 5:
            taken = end ^ type_ & 1
        else:
            value = load8(s + P + load8(c + PREDICATE_MAP + load8(u + 17)))
            if type_ == 2 or type_ == 3:
                if value > 1:
                    return step(s, c, u, w, t, left, mask, h)
                taken = value ^ type_ & 1
            else:
                prologue = (lsr >> 48 & 31) != 0
                if value > 1:
                    return step(s, c, u, w, t, left, mask, h)
                value ^= type_ == 7 or type_ == 14
                if type_ == 6 or type_ == 14:
                    taken = (value & (prologue ^ 1)) | end
                else:
                    taken = (value | prologue) & (end ^ 1)
    if taken:
        mask |= TAKEN
        kind = load8(u + 18)
        if kind >= THROUGH:
            target = load64(s + S_CTPR1 + 8 * load8(u + 19))
            store64(c + TARGET, target)
            tag = target >> 54 & 7
            base = load64(s + BASE)
            if kind == CALL:
                wbs = load8(u + 20)
                if 2 * wbs > load64(c + SIZE) or load64(s + CHAIN) >= CHAIN_RESIDENT:
                    return step(s, c, u, w, t, left, mask, h)
                if base > WINDOW_END - WINDOW_DOUBLES - 2 * wbs:
                    return step(s, c, u, w, t, left, mask, h)
                if (tag != TAG_LABEL and tag != TAG_NUMERIC) or target & 7:
                    return step(s, c, u, w, t, left, mask, h)
            elif tag == TAG_RETURN:
                below_base = base - (load64(s + S_CR1_LO) >> 32 & 254)
                if load64(s + CHAIN) == 0 or load64(s + BOTTOM) > below_base or load64(s + S_CR0_HI) & 7 != 0:
                    return step(s, c, u, w, t, left, mask, h)
            elif (tag != TAG_LABEL and tag != TAG_NUMERIC) or target & 7:
                return step(s, c, u, w, t, left, mask, h)
    return go(s, c, u + RECORD, w, t, left, mask, h)


@handler
def barrier(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """wait: for all memory accesses before it, whatever it asks for."""
    fence()
    return go(s, c, u + RECORD, w, t, left, mask, h)


@handler
def window(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Whether setwd to 16 u8 doubles can be done here."""
    new = load8(u + 16)
    size = load64(c + SIZE)
    if new < (load64(s + S_WD) >> 35 & 255) or new > WINDOW_DOUBLES:
        return step(s, c, u, w, t, left, mask, h)
    if new > size and below(WINDOW_DOUBLES - new, load64(s + BASE) - load64(s + BOTTOM)):
        return step(s, c, u, w, t, left, mask, h)
    return go(s, c, u + RECORD, w, t, left, mask, h)


# --- state registers --------------------------------------------------------------------------------------

@handler
def read_state(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """rrd, rrs (29 u8: 4 bytes only)."""
    number = load8(u + 16)
    access = load8(load64(c + STATE_ACCESS) + number)
    if access & (1 | load64(c + PRIVILEGED) << 1) == 0:
        return step(s, c, u, w, t, left, mask, h)
    value = load64(s + S + 8 * number)
    slot = c + SLOTS + 32 * load8(u + 22)
    store8(slot + 16, load8(u + 19))
    store8(slot + 17, 0)
    if load8(u + 29):
        value &= 0xFFFFFFFF
        store8(slot + 17, LOW)
    store64(slot, value)
    return go(s, c, u + RECORD, w, t, left, mask | load32(u + 24), h)


@handler
def write_state(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """rwd, rws (29 u8: 4 bytes only) to %lsr, or to a register that keeps what is written and does nothing more."""
    number = load8(u + 16)
    access = load8(load64(c + STATE_ACCESS) + number)
    if access & (4 | load64(c + PRIVILEGED) << 3) == 0:
        return step(s, c, u, w, t, left, mask, h)
    distance = signed(load16(c + SOURCES + 2 * load8(u + 17)), 16)
    value = load64(w + 8 * distance)
    tag = load8(t + distance)
    if load8(u + 20):
        value = load64(u + 8)
        tag = 0
    if load8(u + 29):
        value &= 0xFFFFFFFF
        tag &= 3
    if tag:
        return step(s, c, u, w, t, left, mask, h)
    slot = c + SLOTS + 32 * load8(u + 22)
    store64(slot, value)
    store8(slot + 16, number)
    store8(slot + 17, STATE_REGISTER)
    return go(s, c, u + RECORD, w, t, left, mask | 1 << load8(u + 22), h)


HANDLERS = (step, fail, leave, head, guard, guard_one, merge, guard_loop, logic, condition, barrier, window,
            read_state, write_state)
FUNCTIONS = (*HANDLERS, guards, loop_end)

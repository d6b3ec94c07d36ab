"""Bytes of guest code -> records: the decoder, compiled by ``lowlevel``.

It knows what ``decode`` and ``check`` know of the usual; everything strange (reserved bits, pairs that do not agree,
what the handlers leave out) becomes a wide instruction of the record ``step``: the reference tier looks at it then.
Which operation a code means comes from the tables that ``tables`` makes of ``cpu/isa``.
"""

from __future__ import annotations

from e2kemu.cpu.isa import formats as f
from e2kemu.cpu.isa.plu import ELP_PRED
from e2kemu.cpu.native.interp.channels import channels, conditions, operation, probes
from e2kemu.cpu.native.interp.control import (
    M48,
    PREPARE_LABEL,
    PREPARE_RETURN,
    SET_BASE,
    SET_PREDICATES,
    SET_WINDOW,
    barrier,
    condition,
    head,
    logic,
    step,
    window,
)
from e2kemu.cpu.native.interp.finish import end, finish, onward
from e2kemu.cpu.native.interp.layout import (
    ARENA,
    BRANCH,
    CALL,
    CAPACITY,
    CHANNELS,
    CURSOR,
    HOST,
    LIMIT,
    LOADS,
    NEED_B,
    NEED_R,
    NOWHERE,
    RECORD,
    STATE_WRITE,
    STOPS,
    STORES,
    THROUGH,
    VERSION,
)
from e2kemu.cpu.native.interp.lowlevel import address_of, load32, load64, ones, store8, store16, store32, store64
from e2kemu.cpu.native.layout import Status
from e2kemu.cpu.wide_control import TAG_LABEL, TAG_RETURN

LONGEST = 48
"""Records that one wide instruction may need."""
ROW = 64
"""Wide instructions decoded at once."""

CROSSES = 1 << 20
IS_FULL, IS_CROSS = int(Status.FULL), int(Status.CROSS)

CONDITION_TYPES = 0b1100_0000_1111_1111
"""Types of conditions that CONDITION knows."""
WAIT_UNKNOWN = 0x0FFFFFFF & ~f.CS1_WAIT.known | f.CS1_WAIT["trap"].mask | f.CS1_WAIT["int"].mask
WAIT_MEMORY = sum(f.CS1_WAIT[name].mask for name in ("all_c", "st_c", "ld_c", "fl_c", "ma_c"))
SS_UNUSED = 0xFFFFFFFF & ~f.SS1.known
SS_STRANGE = sum(f.SS1[name].mask for name in ("eap", "bap", "srp", "vfdi", "crp", "abgi", "abgd", "type", "aa"))
PLS_UNUSED = 0xFFFFFFFF & ~f.PLS.known
SETR_KNOWN = sum(f.CS1_SETR[name].mask for name in ("setbp", "setbn"))
SETBN, SETBP = (f.CS1_SETR[name].mask for name in ("setbn", "setbp"))
BASE_FIELDS = sum(f.CS1_SETR[name].mask for name in ("rbs", "rsz", "rcur"))
SIZE_FIELD = f.CS1_SETR["psz"].mask
CALL_UNKNOWN = 0x0FFFFFFF & ~f.CS1_CALL["wbs"].mask


def decode_one(c: int, p: int, pc: int, room: int, out: int) -> int:
    """Records of the wide instruction at host address ``p``, without HEAD: how many; 0 when it is strange.

    CROSSES when it is longer than ``room`` bytes. STOPS becomes 1 when nothing follows it.
    """
    hs = load32(p)
    words = 2 * (hs >> 4 & 7) + 2
    if 4 * words > room:
        return CROSSES
    began = out
    version = load64(c + VERSION)
    store64(c + NEED_R, 0)
    store64(c + NEED_B, 0)
    position = 1
    ss = 0
    if hs >> 12 & 1:
        ss = load32(p + 4)
        position = 2
    als_at = position
    position += ones(hs >> 26)
    cs0 = 0
    if hs >> 14 & 1:
        cs0 = load32(p + 4 * position)
        position += 1
    halves = (hs & 15) + 1
    marks = hs >> 20 & 0x3F
    ales25 = f_DEFAULT
    if version >= 4 and marks & 0b100100 and position + 1 + (hs >> 15 & 1) == halves:
        ales25 = load32(p + 4 * position)
        position += 1
    cs1 = 0xFFFFFFFF
    if hs >> 15 & 1:
        cs1 = load32(p + 4 * position)
        position += 1
    parts = (ones(marks & 0b011011) + 1) >> 1
    pls = hs >> 18 & 3
    top = words - pls - (hs >> 16 & 3)
    if position != halves or halves + parts > top or hs & 0x800 or marks & ~(hs >> 26):
        return 0
    count = top - halves - parts
    count = 4 if count > 4 else count
    last = top - 1
    if ss & SS_STRANGE or ss & SS_UNUSED:
        return 0
    if conditions(c, p, hs, words):
        return 0

    # CS1
    new_br = 0
    sets = 0
    wbs = 0
    is_call = 0
    new_size = 0
    wd = 0
    if hs >> 15 & 1:
        kind = cs1 >> 28
        if kind == 0 or kind == 4:
            if kind == 0:
                if count == 0 or cs1 & 1 << 25:
                    return 0
                lts0 = load32(p + 4 * last)
                new_size = 2 * (lts0 >> 5 & 0x7F)
                if new_size == 0:
                    return 0
                wd = (lts0 >> 4 & 1 ^ 1) << 48
                if version >= 3:
                    wd |= (lts0 >> 3 & 1) << 49
                sets = SET_WINDOW
            known = SETR_KNOWN | (1 << 25 if kind == 0 else 0)
            if cs1 & SETBN:
                known |= BASE_FIELDS
                new_br |= cs1 & 0x3FFFF
                sets |= SET_BASE
            if cs1 & SETBP:
                known |= SIZE_FIELD
                new_br |= cs1 & SIZE_FIELD
                sets |= SET_PREDICATES
            if cs1 & 0x0FFFFFFF & ~known:
                return 0
        elif kind == 3:
            if cs1 & WAIT_UNKNOWN:
                return 0
        elif kind == 5:
            if cs1 & CALL_UNKNOWN:
                return 0
            is_call = 1
            wbs = cs1 & 0x7F
        elif kind != 6:
            return 0

    # SS and CS0
    type_ = ss >> 5 & 15
    ctop = ss >> 10 & 3
    prepares = 0
    prepared = 0
    which = 0
    target = 0
    branches = 0
    if hs >> 14 & 1:
        ctpr = cs0 >> 30
        opc = cs0 >> 28 & 3
        distance = 8 * ((cs0 & 0xFFFFFFF ^ 0x8000000) - 0x8000000)
        if ctpr == 0:
            if opc == 0:
                branches = 1
                target = pc + distance & M48
                if type_ == 0 or ctop:
                    return 0
            elif opc != 1:
                return 0
        elif opc == 0:
            prepares = PREPARE_LABEL
            which = ctpr - 1
            prepared = TAG_LABEL << 54 | (ss >> 30) << 59 | (pc + distance & M48)
        elif ctpr == 3 and opc == 3:
            if cs0 & 7:
                return 0
            prepares = PREPARE_RETURN
            which = 2
            prepared = TAG_RETURN << 54 | 3 << 57 | (ss >> 30) << 59
        else:
            return 0
    if CONDITION_TYPES >> type_ & 1 == 0 or type_ == 8 or type_ == 9:
        return 0
    transfer = NOWHERE
    if type_:
        if ctop:
            transfer = CALL if is_call else THROUGH
        elif branches:
            transfer = BRANCH
    if is_call and transfer != CALL:
        return 0

    # the operations
    if channels(c, p, hs, als_at, halves, ales25, cs1) == 0:
        return 0
    classes = 0
    has_memory = 0
    if cs1 >> 28 == 3 and cs1 & WAIT_MEMORY:
        store64(out, address_of(barrier))
        out += RECORD
    if sets & SET_WINDOW:
        store64(out, address_of(window))
        store8(out + 16, new_size)
        out += RECORD
    while classes < 3:
        if classes == 1:
            if pls:
                out = predicate_logic(c, p, out, top, pls)
                if out == 0:
                    return 0
            if transfer:
                store64(out, address_of(condition))
                store8(out + 16, type_)
                store8(out + 17, ss & 31)
                store8(out + 18, transfer)
                store8(out + 19, ctop - 1)
                store8(out + 20, wbs)
                out += RECORD
            if has_memory:
                out = probes(c, p, out, last, count, new_size, hs >> 10 & 1)
                if out == 0:
                    return 0
        channel = 0
        while channel < 6:
            info = load64(c + CHANNELS + 32 * channel)
            if info:
                flags = load64(info + 16)
                class_ = 1 if flags & LOADS else 2 if flags & STORES else 0
                has_memory |= class_
                if class_ == classes:
                    if flags & STATE_WRITE and ss & 3 << 16:
                        return 0
                    out = operation(c, p, out, channel, last, count, new_size, class_ == 2 and hs >> 10 & 1, 0)
                    if out == 0:
                        return 0
            channel += 1
        classes += 1

    # the end
    following_pc = pc + 4 * words
    advances = (ss >> 22 & 1) | (ss >> 19 & 1) << 1 | (ss >> 17 & 1) << 2
    advances |= ((ss >> 21 & 1) | (ss >> 18 & 1) << 1 | (ss >> 16 & 1) << 2) << 3
    if transfer == 0 and advances & 7 == 0 and prepares == 0 and sets == 0:
        store64(out, address_of(end))
        store64(out + 8, following_pc)
        out += RECORD
    else:
        store64(out, address_of(finish))
        store64(out + 8, target)
        store64(out + 16, 0)
        store64(out + 24, 0)
        store8(out + 16, transfer)
        store8(out + 18, advances)
        store8(out + 19, prepares)
        store8(out + 20, which)
        store8(out + 21, wbs)
        store8(out + 22, sets)
        store32(out + 24, new_br)
        store8(out + 28, new_size)
        store64(out + 32, prepared)
        store64(out + 40, wd)
        store64(out + 48, following_pc)
        out += 2 * RECORD
    store64(c + STOPS, transfer != 0 and type_ == 1)
    return (out - began) // RECORD


def predicate_logic(c: int, p: int, out: int, top: int, pls: int) -> int:
    """PLS: LOGIC; where the next record goes, 0 when it is strange."""
    written = 0
    store64(out, address_of(logic))
    store64(out + 8, 0)
    store64(out + 16, 0)
    number = 0
    while number < pls:
        word = load32(p + 4 * (top + pls - 1 - number))
        if number < 2:
            if word & PLS_UNUSED:
                return 0
            first = word >> 24 & 0x7F
            second = word >> 16 & 0x7F
            if (first and first < ELP_PRED) or (second and second < ELP_PRED):
                return 0
            store8(out + 8 + 2 * number, first)
            store8(out + 9 + 2 * number, second)
        elif word >> 16:
            return 0
        highest = 1
        if number == 1:
            highest = 4
        elif number == 2:
            highest = 5
        if word >> 10 & 7 > highest or word >> 6 & 7 > highest or word >> 14 & 3 == 2:
            return 0
        if word & 0x20:
            if written >> (word & 31) & 1:
                return 0
            written |= 1 << (word & 31)
        store16(out + 12 + 2 * number, word & 0xFFFF)
        number += 1
    store8(out + 18, pls)
    return out + RECORD


def decode(c: int, table: int, pc: int) -> int:
    """Decode a row of wide instructions from ``pc`` on into the page's table: 0, or the status of why not."""
    host = load64(table + HOST)
    limit = load64(table + LIMIT)
    arena = load64(c + ARENA)
    at = load64(c + CURSOR)
    offset = pc & 4095
    page = pc - offset
    done = 0
    while 1:
        out = arena + RECORD * at
        address = page + offset
        entry = table + 4 * (offset >> 3)
        if at + 2 * LONGEST > load64(c + CAPACITY):
            if done == 0:
                return IS_FULL
            store64(out, address_of(onward))
            store64(out + 8, address)
            at += 1
            break
        if done == ROW or offset >= 4096 or (done != 0 and load32(entry)):
            store64(out, address_of(onward))
            store64(out + 8, address)
            at += 1
            break
        length = 0 if limit < offset + 8 else limit - offset
        count = CROSSES
        if length:
            count = decode_one(c, host + offset, address, length, out + RECORD)
        if count == CROSSES:
            if done == 0 and limit == 4096:
                return IS_CROSS
            if done != 0:
                store64(out, address_of(onward))
                store64(out + 8, address)
                at += 1
                break
            count = 0
        store64(out, address_of(head))
        store64(out + 8, address)
        store64(out + 16, 0)
        store64(out + 24, 0)
        store32(entry, at)
        done += 1
        if count == 0:
            store64(out + RECORD, address_of(step))
            at += 2
            break
        store8(out + 16, load64(c + NEED_R))
        store8(out + 17, load64(c + NEED_B))
        at += 1 + count
        if load64(c + STOPS):
            break
        offset += 8 * (load32(host + offset) >> 4 & 7) + 8
    store64(c + CURSOR, at)
    return 0


f_DEFAULT = f.ALES_DEFAULT << 16 | f.ALES_DEFAULT
"""The word of ALES2 and ALES5 when it is absent."""

FUNCTIONS = (decode_one, predicate_logic, decode)

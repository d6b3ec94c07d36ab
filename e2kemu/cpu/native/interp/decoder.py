"""Bytes of guest code -> records: the decoder, compiled by ``lowlevel``.

It knows what ``decode`` and ``check`` know of the usual; everything strange (reserved bits, pairs that do not agree,
what the handlers leave out) becomes a wide instruction of the record ``step``: the reference tier looks at it then.
Which operation a code means comes from the tables that ``tables`` makes of ``cpu/isa``.
"""

from __future__ import annotations

from e2kemu.cpu.isa import formats as f
from e2kemu.cpu.isa.plu import ELP_PRED
from e2kemu.cpu.native.interp.control import (
    M48,
    PREPARE_LABEL,
    PREPARE_RETURN,
    SET_BASE,
    SET_PREDICATES,
    SET_WINDOW,
    condition,
    end,
    finish,
    guard,
    guard_loop,
    guard_one,
    head,
    logic,
    merge,
    onward,
    read_state,
    step,
    window,
    write_loop,
)
from e2kemu.cpu.native.interp.layout import (
    ARENA,
    BRANCH,
    CALL,
    CANDIDATES,
    CAPACITY,
    CHANNELS,
    CURSOR,
    DECODED,
    GUARDS,
    HAS_DST,
    HAS_PRED,
    HAS_SRC1,
    HAS_SRC2,
    HAS_SRC3,
    HAS_SRC4,
    HOST,
    INDEX,
    LIMIT,
    LOADS,
    MERGES,
    NEED_B,
    NEED_R,
    NOWHERE,
    OPERATION,
    OPERATIONS,
    PAIR_DST,
    PAIR_SRC2,
    PAIR_SRC4,
    PAIRED_SLOTS,
    PARTNER,
    RECORD,
    SPECULATIVE_APART,
    STATE_ACCESS,
    STATE_READ,
    STATE_WRITE,
    STOPS,
    STORES,
    STRANGE,
    THROUGH,
    TO_CTPR,
    VERSION,
)
from e2kemu.cpu.native.interp.lowlevel import (
    address_of,
    load8,
    load16,
    load32,
    load64,
    ones,
    signed,
    store8,
    store16,
    store32,
    store64,
)
from e2kemu.cpu.native.layout import Status
from e2kemu.cpu.state import CTPR1, LSR
from e2kemu.cpu.wide_control import TAG_LABEL, TAG_RETURN

LONGEST = 48
"""Records that one wide instruction may need."""
ROW = 64
"""Wide instructions decoded at once."""

BAD = 1 << 63
"""An operand that cannot be."""
CROSSES = 1 << 20
IS_FULL, IS_CROSS = int(Status.FULL), int(Status.CROSS)
BITS = 257 * 128
"""Entries of the index for one channel."""

CONDITION_TYPES = 0b1100_0000_1111_1111
"""Types of conditions that CONDITION knows."""
WAIT_UNKNOWN = 0x0FFFFFFF & ~f.CS1_WAIT.known
SS_UNUSED = 0xFFFFFFFF & ~f.SS1.known
SS_STRANGE = sum(f.SS1[name].mask for name in ("eap", "bap", "srp", "vfdi", "crp", "abgi", "abgd", "type", "aa"))
PLS_UNUSED = 0xFFFFFFFF & ~f.PLS.known
SETR_KNOWN = sum(f.CS1_SETR[name].mask for name in ("setbp", "setbn"))
SETBN, SETBP = (f.CS1_SETR[name].mask for name in ("setbn", "setbp"))
BASE_FIELDS = sum(f.CS1_SETR[name].mask for name in ("rbs", "rsz", "rcur"))
SIZE_FIELD = f.CS1_SETR["psz"].mask
CALL_UNKNOWN = 0x0FFFFFFF & ~f.CS1_CALL["wbs"].mask


def need(c: int, code: int, more: int) -> int:
    """Note that a register operand (and the next one when ``more``) must exist; 1 when it cannot."""
    if code < 0x80:
        last = code + more + 1
        if last > 0x80:
            return 1
        if last > load64(c + NEED_B):
            store64(c + NEED_B, last)
    elif code < 0xC0:
        last = code - 0x7F + more
        if last > 64:
            return 1
        if last > load64(c + NEED_R):
            store64(c + NEED_R, last)
    elif code < 0xE0 or code + more > 0xFF:
        return 1
    return 0


def following(code: int) -> int:
    """The operand byte of the second channel of a quad operation."""
    if code < 0x80:
        return code + 1 & 0x7F
    if code == 0xBF or code == 0xFF:
        return BAD
    if code < 0xC0 or code >= 0xE0 or code == 0xDE:
        return code + 1
    return code


def conditions(c: int, p: int, hs: int, words: int) -> int:
    """CDS: the guards of the channels; 1 when there is something strange."""
    i = 0
    while i < 6:
        store64(c + GUARDS + 32 * i, 0)
        store64(c + GUARDS + 32 * i + 8, 0)
        store64(c + GUARDS + 32 * i + 16, 0)
        store64(c + GUARDS + 32 * i + 24, 0)
        i += 1
    named = 0
    number = 0
    while number < 2 * (hs >> 16 & 3):
        half = load16(p + 4 * (words - 1) - 4 * (number >> 1) + 2 * (number & 1))
        number += 1
        if half:
            code = half & 0x7F
            if code < 0x40 or half >> 13 & 1:
                return 1
            i = 0
            while i < 3:
                if half >> 10 + i & 1:
                    channel = 3 * (half >> 14 & 1) + i
                    place = c + GUARDS + 32 * channel + 16 * (half >> 15)
                    counted = code < 0x60
                    count = load8(place + counted)
                    store8(place + counted, count + 1)
                    store8(place + 2 + 7 * counted + count, (code & 31) | (half >> 7 + i & 1) << 7)
                    named |= 1 << channel
                i += 1
    return (named & ~(hs >> 26)) != 0


def same_conditions(a: int, b: int) -> int:
    """The guards of two channels are the same."""
    return load64(a) == load64(b) and load64(a + 8) == load64(b + 8)


def emit_guards(c: int, out: int, place: int) -> int:
    """Fill GUARD or MERGE from the guards at ``place``."""
    predicates = load8(place)
    counters = load8(place + 1)
    store8(out + 16, predicates)
    store8(out + 17, counters)
    i = 0
    while i < predicates:
        store8(out + 8 + i, load8(place + 2 + i))
        i += 1
    j = 0
    while j < counters:
        store8(out + 8 + i, load8(place + 9 + j))
        i += 1
        j += 1
    return predicates + counters > 8


def find(c: int, channel: int, als: int, ales: int, is_long: int, mas: int) -> int:
    """The address of the operation with these codes, 0 when there is none."""
    entry = channel * BITS + (als >> 24 & 0x7F)
    if is_long:
        entry += 128 + (ales >> 8) * 128
    at = load16(load64(c + INDEX) + 2 * entry)
    if at == 0:
        return 0
    while 1:
        one = load64(c + CANDIDATES) + 16 * at
        low = load16(one + 8)
        special = load16(one + 10)
        if (als & load32(one) == load32(one + 4) and (low == 0xFFFF or low == (ales & 0xFF))
                and (special == 0xFFFF or special == mas)):
            return load64(c + OPERATIONS) + OPERATION * load16(one + 12)
        if load16(one + 14):
            return 0
        at += 1
    return 0


def literal(p: int, last: int, count: int, code: int, out: int) -> int:
    """The literal that operand byte 0xd0.. names, to ``out``; 1 when there is none."""
    number = code & 3
    if code < 0xD8:
        if code & 2:
            return 1
        number = code & 1
    elif code == 0xDF:
        return 1
    if number >= count:
        return 1
    word = load32(p + 4 * (last - number))
    if code < 0xD8:
        half = word >> 16 if code & 4 else word & 0xFFFF
        store64(out, signed(half, 16))
    elif code < 0xDC:
        store64(out, signed(word, 32))
    else:
        if number + 1 >= count:
            return 1
        store64(out, word | load32(p + 4 * (last - number - 1)) << 32)
    return 0


def operation(c: int, p: int, out: int, channel: int, last: int, count: int, lengthens: int, looping: int,
              probing: int) -> int:
    """The record (and its guards) of the operation in ``channel``: where the next one goes, 0 when it is strange.

    ``probing`` is 32 for the handlers that only look whether they could, else 0.
    """
    entry = c + CHANNELS + 32 * channel
    info = load64(entry)
    als = load64(entry + 8)
    ales = load64(entry + 16)
    flags = load64(info + 16)
    speculative = als >> 31
    guards_at = c + GUARDS + 32 * channel
    if load16(guards_at):
        if emit_guards(c, out, guards_at):
            return 0
        store64(out, address_of(guard_one) if load16(guards_at) == 1 else address_of(guard))
        store8(out + 18, 2 + looping + ((flags & MERGES) != 0))
        out += RECORD
    if looping:
        store64(out, address_of(guard_loop))
        out += RECORD
    if flags & MERGES:
        if load16(guards_at + 16) == 0:
            # false: an empty list would be true
            return 0
        if emit_guards(c, out, guards_at + 16):
            return 0
        store64(out, address_of(merge))
        out += RECORD
    elif load16(guards_at + 16):
        return 0
    code = load64(info + probing)
    if flags & SPECULATIVE_APART and speculative:
        code = load64(info + 8 + probing)
    src1 = als >> 16 & 0xFF
    src2 = als >> 8 & 0xFF
    src3 = ales & 0xFF
    dst = als & 0xFF
    literals = 0
    store64(out + 8, 0)
    store64(out + 16, 0)
    store64(out + 24, 0)
    store8(out + 16, 0xE0)
    store8(out + 17, 0xE0)
    store8(out + 18, src3)
    store8(out + 22, 2 * channel)
    if flags & HAS_SRC1:
        if src1 >= 0xC0 and src1 < 0xE0:
            literals |= 1
            store8(out + 21, src1 - 0xC0)
        else:
            if need(c, src1, 0):
                return 0
            store8(out + 16, src1)
    if flags & HAS_SRC2:
        if src2 >= 0xC0 and src2 < 0xE0:
            literals |= 2
            if flags & PAIR_SRC2:
                return 0
            if src2 < 0xD0:
                store64(out + 8, src2 - 0xC0)
            elif literal(p, last, count, src2, out + 8):
                return 0
        else:
            if need(c, src2, (flags & PAIR_SRC2) != 0):
                return 0
            store8(out + 17, src2)
    store8(out + 20, literals)
    if flags & HAS_SRC3 and need(c, src3, 0):
        return 0
    if flags & HAS_SRC4:
        if need(c, dst, (flags & PAIR_SRC4) != 0):
            return 0
        store8(out + 19, dst)
    if flags & HAS_PRED:
        store8(out + 19, dst & 31)
        store32(out + 24, 1 << 2 * channel)
    if flags & HAS_DST:
        store32(out + 24, 1 << 2 * channel)
        if dst >= 0xC0 and dst < 0xE0:
            if dst == 0xDE or dst == 0xDF:
                store32(out + 24, 0)
                store8(out + 19, 0xE0)
            elif dst >= 0xD1 and dst <= 0xD3 and flags & TO_CTPR and channel == 0 and not (
                    speculative and load16(guards_at)):
                code = load64(info + 8)
                store8(out + 19, CTPR1 + dst - 0xD1)
            else:
                return 0
        else:
            if lengthens:
                # the window grows with this wide instruction: only a plain register can be looked at here
                more = (flags & PAIR_DST) != 0
                if dst < 0x80 or (dst < 0xC0 and dst - 0x7F + more > lengthens) or dst == 0xBF:
                    return 0
                if dst >= 0xC0 and need(c, dst, more):
                    return 0
            elif need(c, dst, (flags & PAIR_DST) != 0):
                return 0
            store8(out + 19, dst)
    if flags & STATE_READ:
        number = src1
        if load8(load64(c + STATE_ACCESS) + number) == 0:
            return 0
        store8(out + 16, number)
        code = address_of(read_state)
        store8(out + 29, (als >> 24 & 1) == 0)
    if flags & STATE_WRITE:
        if dst != LSR:
            return 0
        code = address_of(write_loop)
        store8(out + 29, (als >> 24 & 1) == 0)
    if code == 0:
        return 0
    store64(out, code)
    return out + RECORD


def channels(c: int, p: int, hs: int, als_at: int, halves: int, ales25: int, cs1: int) -> int:
    """Find the operation of each channel; 0 when one is strange, else 1."""
    marks = hs >> 20 & 0x3F
    swallowed = 0
    loads = 0
    stores = 0
    channel = 0
    position = als_at
    while channel < 6:
        entry = c + CHANNELS + 32 * channel
        store64(entry, 0)
        if hs >> 26 + channel & 1:
            als = load32(p + 4 * position)
            position += 1
            ales = 0
            is_long = marks >> channel & 1
            if is_long:
                if channel == 2:
                    ales = ales25 >> 16
                elif channel == 5:
                    ales = ales25 & 0xFFFF
                else:
                    before = ones(marks & 0b011011 & (1 << channel) - 1)
                    ales = load16(p + 4 * (halves + (before >> 1)) + (2 if before & 1 == 0 else 0))
            mas = 0
            if cs1 >> 28 == 6:
                shift = 21
                if channel == 2:
                    shift = 14
                elif channel == 3:
                    shift = 7
                elif channel == 5:
                    shift = 0
                mas = 0 if channel == 1 or channel == 4 else cs1 >> shift & 0x7F
            if swallowed >> channel & 1:
                # the first channel of the pair has said what this one must be
                if als != load64(entry + 8) or ales != load64(entry + 16) or is_long == 0:
                    return 0
                if not same_conditions(c + GUARDS + 32 * channel, load64(entry + 24)) or load16(
                        c + GUARDS + 32 * channel + 16):
                    return 0
            else:
                info = find(c, channel, als, ales, is_long, mas)
                if info == 0:
                    return 0
                flags = load64(info + 16)
                if als & load32(info + 24) != load32(info + 28):
                    return 0
                store64(entry, info)
                store64(entry + 8, als)
                store64(entry + 16, ales)
                store64(entry + 24, mas)
                distance = flags >> PARTNER & 7
                used = 1 << channel
                if distance:
                    if channel != (2 if distance == 3 else 0) and (channel != 3 or distance == 3):
                        return 0
                    partner = channel + distance
                    used |= 1 << partner
                    if load64(c + VERSION) >= 7:
                        if hs >> 26 + partner & 1:
                            return 0
                    else:
                        if hs >> 26 + partner & 1 == 0:
                            return 0
                        second = als
                        if flags >> PAIRED_SLOTS & 2:
                            code = following(als >> 8 & 0xFF)
                            if code == BAD:
                                return 0
                            second = (second & ~0xFF00) | code << 8
                        if flags >> PAIRED_SLOTS & 1:
                            code = following(als >> 16 & 0xFF)
                            if code == BAD:
                                return 0
                            second = (second & ~0xFF0000) | code << 16
                        if flags >> PAIRED_SLOTS & 4:
                            code = following(als & 0xFF)
                            if code == BAD:
                                return 0
                            second = (second & ~0xFF) | code
                        swallowed |= 1 << partner
                        other = c + CHANNELS + 32 * partner
                        store64(other + 8, second)
                        store64(other + 16, ales)
                        store64(other + 24, c + GUARDS + 32 * channel)
                if flags & LOADS:
                    loads |= used
                if flags & STORES:
                    stores |= used
                if mas:
                    if flags & (LOADS | STORES) == 0:
                        return 0
                    if mas & 8 or ((channel == 2 or channel == 5) and mas & 7 == 7):
                        return 0
                    if flags & LOADS and mas & 6 == 2:
                        return 0
        channel += 1
    # a load in channel 0 excludes a store in 5, one in 3 a store in 2
    if (loads & 1 and stores & 32) or (loads & 8 and stores & 4):
        return 0
    return 1


def probes(c: int, p: int, out: int, last: int, count: int, lengthens: int, looping: int) -> int:
    """Nothing is loaded or stored before it is known that no access asks for the reference tier: records that look at
    all but the first one beforehand. Where the next record goes, 0 when something is strange."""
    seen = 0
    class_ = LOADS
    while class_ <= STORES:
        channel = 0
        while channel < 6:
            info = load64(c + CHANNELS + 32 * channel)
            if info:
                flags = load64(info + 16)
                if flags & class_:
                    if seen:
                        out = operation(c, p, out, channel, last, count, lengthens, class_ == STORES and looping, 32)
                        if out == 0:
                            return 0
                    seen = 1
            channel += 1
        class_ = class_ << 1
    return out


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
        store64(c + DECODED, load64(c + DECODED) + 1)
        done += 1
        if count == 0:
            store64(c + STRANGE, load64(c + STRANGE) + 1)
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

FUNCTIONS = (need, following, conditions, same_conditions, emit_guards, find, literal, operation, channels,
             probes, decode_one, predicate_logic, decode)

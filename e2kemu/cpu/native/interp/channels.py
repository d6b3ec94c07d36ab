"""The decoder's part for the operations of the channels: which they are, their operands, conditions and records.

See ``decoder``. Compiled by ``lowlevel``.
"""

from __future__ import annotations

from e2kemu.cpu.native.interp.control import guard, guard_loop, guard_one, merge, read_state, write_state
from e2kemu.cpu.native.interp.layout import (
    CANDIDATES,
    CHANNELS,
    GUARDS,
    HAS_DST,
    HAS_PRED,
    HAS_SRC1,
    HAS_SRC2,
    HAS_SRC3,
    HAS_SRC4,
    INDEX,
    LOADS,
    MERGES,
    NEED_B,
    NEED_R,
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
    STORES,
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
    store32,
    store64,
)
from e2kemu.cpu.state import CTPR1

BAD = 1 << 63
"""An operand that cannot be."""
BITS = 257 * 128
"""Entries of the index for one channel."""


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
    while True:
        one = load64(c + CANDIDATES) + 16 * at
        low = load16(one + 8)
        special = load16(one + 10)
        if (als & load32(one) == load32(one + 4) and (low == 0xFFFF or low == (ales & 0xFF))
                and (special == 0xFFFF or special == mas)):
            return load64(c + OPERATIONS) + OPERATION * load16(one + 12)
        if load16(one + 14):
            return 0
        at += 1


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
        if load8(load64(c + STATE_ACCESS) + dst) >> 2 == 0:
            return 0
        store8(out + 16, dst)
        code = address_of(write_state)
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
                    # big endian, a special one, a physical address
                    if mas & 8 or ((channel == 2 or channel == 5) and mas & 7 == 7) or mas & 7 == 1:
                        return 0
                    # locks, checks of loads, conditional and ordered stores
                    if flags & LOADS and (mas & 6 == 2 or mas & 5 == 5):
                        return 0
                    if flags & STORES and mas & 6 == 2:
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


FUNCTIONS = (need, following, conditions, same_conditions, emit_guards, find, literal, operation, channels, probes)

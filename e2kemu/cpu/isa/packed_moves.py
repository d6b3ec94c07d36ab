"""Meanings of the packed integer operations that move, pack, shuffle and choose: by their mnemonics.

The arguments of an operation with an 8-bit literal end with that literal, a plain number. See ``packed`` for
what is common to all packed meanings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from e2kemu.cpu.isa import lanes
from e2kemu.cpu.isa.packed import MEANINGS, SIZES, define

V = Any


def _meaning(f: Callable[..., V]) -> Callable[..., V]:
    """Enter ``f`` under its own name."""
    MEANINGS[f.__name__] = f
    return f


# --- logic and choices -------------------------------------------------------------------------------

define("pandd", "Bitwise and.", lambda v, a, b: v.and_(a, b))
define("pandnd", "Bitwise and with the complement of the second source.", lambda v, a, b: v.and_(a, v.not_(b)))
define("pord", "Bitwise or.", lambda v, a, b: v.or_(a, b))
define("pxord", "Bitwise exclusive or.", lambda v, a, b: v.xor(a, b))


@_meaning
def pmrgp(v: V, a: V, b: V) -> V:
    """src2 when the condition of the merge holds, else src1."""
    return v.select(v.merge_condition(), b, a)


@_meaning
def pmerge(v: V, a: V, b: V, c: V) -> V:
    """Per byte: src2 where the byte of src3 is negative, else src1."""
    return lanes.choose(v, lanes.sign_masks(v, c, 8), b, a)


def plog(table: int) -> Callable[..., V]:
    """The logic function of three operands with this truth table, as a sum modulo 2 of products."""
    terms = [table >> index & 1 for index in range(8)]
    for bit in (1, 2, 4):
        terms = [term ^ (terms[index ^ bit] if index & bit else 0) for index, term in enumerate(terms)]

    def meaning(v: V, a: V, b: V, c: V) -> V:
        result = v.const(-terms[0])
        for index in range(1, 8):
            if terms[index]:
                product = v.const(-1)
                for bit, source in ((4, a), (2, b), (1, c)):
                    if index & bit:
                        product = v.and_(product, source)
                result = v.xor(result, product)
        return result

    meaning.__doc__ = f"Bit i is bit (4a + 2b + c) of {table:#04x}; a, b, c are bits i of the sources."
    return meaning


# --- pack and interleave -------------------------------------------------------------------------------

def _pack(size: int, *, signed: bool) -> Callable[..., V]:
    saturate = lanes.saturate_signed if signed else lanes.saturate_unsigned

    def pack(v: V, a: V, b: V) -> V:
        row = lanes.split(v, b, size) + lanes.split(v, a, size)
        return lanes.join(v, [saturate(v, v.sext(x, size, 32), size // 2) for x in row], size // 2)

    return pack


for _from, _to in ("hb", "wh"):
    for _code, _words in (("s", "signed"), ("u", "unsigned")):
        define(f"pack{_code}s{_from}{_to}", f"Signed {SIZES[_from]}-bit elements, saturated to {_words} {SIZES[_to]} bits: the low half "
               "from src2, the high half from src1.", _pack(SIZES[_from], signed=_code == "s"))


def _interleave(size: int, *, high: bool) -> Callable[..., V]:
    def interleave(v: V, a: V, b: V) -> V:
        first, second = lanes.split(v, a, size), lanes.split(v, b, size)
        half = len(first) // 2
        chosen = slice(half, None) if high else slice(None, half)
        row = [lane for both in zip(second[chosen], first[chosen], strict=True) for lane in both]
        return lanes.join(v, row, size)

    return interleave


for _from, _to in ("bh", "hw", "wd"):
    for _code, _words in (("h", "high"), ("l", "low")):
        define(f"punpck{_code}{_from}{_to}", f"Interleave the {SIZES[_from]}-bit elements of the {_words} halves: the even ones "
               "from src2, the odd ones from src1.", _interleave(SIZES[_from], high=_code == "h"))


# --- masks of signs ------------------------------------------------------------------------------------

def _signs(size: int) -> Callable[..., V]:
    def movmsk(v: V, a: V, b: V) -> V:
        high = v.shl(lanes.signs(v, a, size), v.const(v.bits // size))
        return v.or_(lanes.signs(v, b, size), high)

    return movmsk


for _letters, _size in (("b", 8), ("ps", 32), ("pd", 64)):
    define(f"pmovmsk{_letters}", f"The signs of the {_size}-bit elements as a number: the low bits from src2, then src1.", _signs(_size))


@_meaning
def qpsgn2mskb(v: V, b: V) -> V:
    """The signs of the 16 bytes as a number."""
    return v.trunc(lanes.signs(v, b, 8), 32)


@_meaning
def qpmsk2sgnb(v: V, a: V, b: V) -> V:
    """The signs of the 16 bytes of src1 become the bits of src2."""
    sign = v.const(0)
    for index in range(16):
        bit = v.and_(v.zext(b, 128), v.const(1 << index))
        sign = v.or_(sign, v.shl(bit, v.const(8 * index + 7 - index)))
    return v.or_(v.and_(a, v.const(lanes.repeat(0x7F, 8, 128))), sign)


# --- shifts of a pair of registers ----------------------------------------------------------------------

def _byte_shift(*, left: bool, high: bool) -> Callable[..., V]:
    def shift(v: V, a: V, b: V, count: int) -> V:
        if count >= 16:
            return v.const(0)
        both, bits = lanes.pair(v, a, b), v.const(8 * count, 128)
        return lanes.halves(v, v.shl(both, bits, 128) if left else v.lshr(both, bits, 128))[high]

    return shift


for _direction in "lr":
    for _half, _words in (("l", "low"), ("h", "high")):
        define(f"ps{_direction}lq{_half}", f"Shift the 128 bits of src1 (high) and src2 (low) {'left' if _direction == 'l' else 'right'} by the "
               f"literal in bytes: the {_words} half.", _byte_shift(left=_direction == "l", high=_half == "h"))


# --- by literal number -------------------------------------------------------------------------------------

@_meaning
def pshufh(v: V, b: V, order: int) -> V:
    """16-bit element i of the result is element literal[2i+1:2i] of src2."""
    row = lanes.split(v, b, 16)
    return lanes.join(v, [row[order >> 2 * i & 3] for i in range(4)], 16)


@_meaning
def pshufw(v: V, a: V, b: V, order: int) -> V:
    """32-bit element i is element literal[2i+1:2i] of src1 (high) and src2 (low); i = 0, 1."""
    row = lanes.split(v, b, 32) + lanes.split(v, a, 32)
    return lanes.join(v, [row[order >> 2 * i & 3] for i in range(2)], 32)


@_meaning
def pinsh(v: V, a: V, b: V, index: int) -> V:
    """src1 with the low 16 bits of src2 in its 16-bit element ``literal``; from 4 on src1 as it is."""
    row = lanes.split(v, a, 16)
    if index < 4:
        row[index] = v.trunc(b, 16)
    return lanes.join(v, row, 16)


@_meaning
def pextrh(v: V, a: V, b: V, index: int) -> V:
    """16-bit element literal[2:0] of src1 (high) and src2 (low)."""
    return v.zext((lanes.split(v, b, 16) + lanes.split(v, a, 16))[index & 7], 64)


# --- by computed number --------------------------------------------------------------------------------------

def _byte_at(v: V, a: V, selector: V) -> V:
    """The byte of the 128-bit ``a`` that bits 3:0 of the 8-bit selector name."""
    at = v.shl(v.zext(v.and_(selector, v.const(15, 8)), 128), v.const(3, 128), 128)
    return v.trunc(v.lshr(a, at, 128), 8)


def _altered(v: V, chosen: V, selectors: V, invert: int, reverse: int, sign: int) -> V:
    """Bytes, where these bits of the selectors are 1: reversed, replaced by their signs, complemented (in this order)."""
    chosen = lanes.choose(v, lanes.bit_masks(v, selectors, reverse, 8), lanes.reversed_bytes(v, chosen), chosen)
    chosen = lanes.choose(v, lanes.bit_masks(v, selectors, sign, 8), lanes.sign_masks(v, chosen, 8), chosen)
    return v.xor(chosen, lanes.bit_masks(v, selectors, invert, 8))


def _shuffled(v: V, chosen: V, c: V) -> V:
    """What pshufb makes of the bytes that it has chosen."""
    four, five, six, seven = (lanes.bit_masks(v, c, bit, 8) for bit in (4, 5, 6, 7))
    low, high = (v.const(lanes.repeat(part, 8, v.bits)) for part in (0x7F, 0x80))
    constant = v.and_(v.or_(v.and_(five, low), v.and_(six, high)), v.not_(four))
    return lanes.choose(v, seven, constant, _altered(v, chosen, c, 4, 5, 6))


@_meaning
def pshufb(v: V, a: V, b: V, c: V) -> V:
    """Per selector byte of src3: byte [3:0] of src1 (high) and src2 (low), bit 4 inverts, 5 reverses, 6 replicates its sign.

    A selector with bit 7 gives a constant: 0xa0 0x7f, 0xc0 0x80, 0xe0 0xff, else 0.
    """
    both = lanes.pair(v, a, b)
    return _shuffled(v, lanes.join(v, [_byte_at(v, both, d) for d in lanes.split(v, c, 8)], 8), c)


@_meaning
def qpshufb(v: V, a: V, b: V, c: V) -> V:
    """Both halves as pshufb: the low half chooses bytes of src2, the high half of src1."""
    selectors = lanes.split(v, c, 8)
    row = [_byte_at(v, b, d) for d in selectors[:8]] + [_byte_at(v, a, d) for d in selectors[8:]]
    return _shuffled(v, lanes.join(v, row, 8), c)


@_meaning
def qppermb(v: V, a: V, b: V, c: V) -> V:
    """Per selector byte of src3: byte [3:0] of src1 (bit 4 set) or src2, bit 5 inverts, 6 reverses, 7 replicates its sign."""
    first, second = (lanes.join(v, [_byte_at(v, x, d) for d in lanes.split(v, c, 8)], 8) for x in (a, b))
    return _altered(v, lanes.choose(v, lanes.bit_masks(v, c, 4, 8), first, second), c, 5, 6, 7)


# --- 128-bit registers of halves ---------------------------------------------------------------------------

@_meaning
def qppackdl(v: V, a: V, b: V) -> V:
    """src1 in the high half, src2 in the low half."""
    return lanes.pair(v, a, b)


@_meaning
def qpswitchd(v: V, b: V) -> V:
    """The halves exchanged."""
    low, high = lanes.halves(v, b)
    return lanes.pair(v, low, high)


@_meaning
def qpswitchw(v: V, b: V) -> V:
    """The 32-bit halves of each 64 bits exchanged."""
    w0, w1, w2, w3 = lanes.split(v, b, 32)
    return lanes.join(v, (w1, w0, w3, w2), 32)


def _extended(byte: int) -> None:
    define(f"qpcext_{byte:#04x}", f"src2 in the low half, bytes {byte:#04x} in the high half.",
           lambda v, b: lanes.pair(v, v.const(lanes.repeat(byte, 8, 64), 64), b))


for _byte in (0x00, 0x7F, 0x80, 0xFF):
    _extended(_byte)


def meaning_of(name: str) -> Callable[..., Any] | None:
    """The meaning of a packed operation or its 128-bit twin; None when it is not described."""
    twin = name.removeprefix("q")
    return MEANINGS.get(name) or MEANINGS.get({"pand": "pandd", "pandn": "pandnd", "por": "pord", "pxor": "pxord"}.get(twin, twin))

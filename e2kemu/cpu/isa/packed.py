"""Meanings of the packed integer operations that compute: by their mnemonics.

``MEANINGS`` has a 64-bit operation under its own name; its 128-bit twin (``qp...``) is the same function at
``v.bits`` = 128. Meanings of operations that only move, pack or shuffle elements are in ``packed_moves``.
An element is b 8, h 16, w 32, d 64 bits wide. Formulas as the public e2k port of QEMU has them, checked
against its golden vectors (not against hardware).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from e2kemu.cpu.isa import lanes

V = Any
Meaning = Callable[..., Any]

SIZES = {"b": 8, "h": 16, "w": 32, "d": 64}
"""Letter -> bits of an element."""

MEANINGS: dict[str, Meaning] = {}
"""Mnemonic -> meaning."""


def define(name: str, doc: str, meaning: Meaning) -> None:
    """Enter a meaning."""
    meaning.__doc__ = doc
    MEANINGS[name] = meaning


def _by_lane(name: str, doc: str, size: int, f: Callable[..., V]) -> None:
    """A meaning ``f(v, lane, lane)`` of corresponding elements of the sources."""

    def meaning(v: V, a: V, b: V) -> V:
        return lanes.each(v, size, lambda x, y: f(v, x, y), a, b)

    define(name, f"Per {size}-bit element: {doc}.", meaning)


def _whole(name: str, doc: str, size: int, f: Callable[..., V]) -> None:
    """A meaning ``f(v, src1, src2, size)`` on all elements at once."""
    define(name, f"Per {size}-bit element: {doc}.", lambda v, a, b: f(v, a, b, size))


# --- add, subtract, average --------------------------------------------------------------------------

_SUMS = (("", "bhwd", "wrapping", lanes.add, lanes.sub), ("s", "bh", "saturating to signed", lanes.add_signed, lanes.sub_signed),
         ("us", "bh", "saturating to unsigned", lanes.add_unsigned, lanes.sub_unsigned))
"""Part of the name, sizes, in words, addition, subtraction."""

for _code, _letters, _words, _add, _sub in _SUMS:
    for _letter in _letters:
        _whole(f"padd{_code}{_letter}", f"add, {_words}", SIZES[_letter], _add)
        _whole(f"psub{_code}{_letter}", f"subtract, {_words}", SIZES[_letter], _sub)
for _letter in "bh":
    _whole(f"pavgus{_letter}", "(src1 + src2 + 1) / 2, unsigned", SIZES[_letter], lanes.average)
for _letter in "bhw":
    _whole(f"psign{_letter}", "src1 with the sign of src2: negated, 0 or unchanged", SIZES[_letter], lanes.with_sign)


def _horizontal(name: str, doc: str, size: int, f: Callable[..., V]) -> None:
    def meaning(v: V, a: V, b: V) -> V:
        row = lanes.split(v, a, size) + lanes.split(v, b, size)
        return f(v, lanes.join(v, row[::2], size), lanes.join(v, row[1::2], size), size)

    define(name, f"{doc} the odd one of neighbours of {size} bits: the low half from src1, the high half from src2.", meaning)


for _code, _letters, _words, _add, _sub in _SUMS:
    for _letter in {"": "hw", "s": "h", "us": ""}[_code]:
        _horizontal(f"phadd{_code}{_letter}", f"The even one plus, {_words},", SIZES[_letter], _add)
        _horizontal(f"phsub{_code}{_letter}", f"The even one minus, {_words},", SIZES[_letter], _sub)


# --- compare -------------------------------------------------------------------------------------------

for _letter in "bhw":
    for _name, _words, _f in (("minu", "lesser, unsigned", lanes.minimum), ("maxu", "greater, unsigned", lanes.maximum),
                              ("mins", "lesser, signed", lanes.minimum_signed), ("maxs", "greater, signed", lanes.maximum_signed)):
        _whole(f"p{_name}{_letter}", f"the {_words}", SIZES[_letter], _f)


def _greater(v: V, a: V, b: V, size: int) -> V:
    return lanes.less(v, b, a, size)


def _compare(relation: str, words: str, size: int, letter: str, f: Callable[..., V]) -> None:
    name = f"pcmp{relation}{letter}"
    _whole(name, f"all ones when {words}, else 0", size, f)
    define(f"{name}op", f"{words} in any element of {size} bits.",
           lambda v, a, b: v.xor(v.eq(f(v, a, b, size), v.const(0)), v.const(1, 1)))
    define(f"{name}ap", f"{words} in every element of {size} bits.", lambda v, a, b: v.eq(f(v, a, b, size), v.const(-1)))


for _letter, _size in SIZES.items():
    _compare("eq", "src1 = src2", _size, _letter, lanes.equal)
    _compare("gt", "src1 > src2, signed,", _size, _letter, _greater)


def phminposuh(v: V, a: V, b: V) -> V:
    """The least of the unsigned 16-bit elements of src1, then src2, in bits 15:0 and its number in 31:16."""
    row = lanes.split(v, a, 16) + lanes.split(v, b, 16)
    least, index = row[0], v.const(0, 16)
    for number, lane in enumerate(row[1:], 1):
        less = v.ult(lane, least)
        least, index = v.select(less, lane, least), v.select(less, v.const(number, 16), index)
    return lanes.join(v, (least, index), 16, 64)


MEANINGS["phminposuh"] = phminposuh


# --- shift -----------------------------------------------------------------------------------------------

def _shifts(letter: str) -> None:
    size = SIZES[letter]

    def reached(v: V, b: V, beyond: int) -> tuple[V, V]:
        """Whether the 64-bit count b is below the width of an element; the count, or ``beyond``, as wide as the operation."""
        fits = v.ult(b, v.const(size, 64))
        return fits, v.zext(v.select(fits, b, v.const(beyond, 64)), v.bits)

    def left(v: V, a: V, b: V) -> V:
        fits, count = reached(v, b, 0)
        return v.select(fits, lanes.left(v, a, count, size), v.const(0))

    def right(v: V, a: V, b: V) -> V:
        fits, count = reached(v, b, 0)
        return v.select(fits, lanes.right(v, a, count, size)[0], v.const(0))

    def arithmetic(v: V, a: V, b: V) -> V:
        moved, kept = lanes.right(v, a, reached(v, b, size - 1)[1], size)
        return v.or_(moved, v.and_(lanes.sign_masks(v, a, size), v.not_(kept)))

    def rotate(v: V, a: V, b: V) -> V:
        low = v.const(size - 1)
        count = v.and_(v.zext(b, v.bits), low)
        back = v.and_(v.sub(v.const(0), count), low)
        return v.or_(lanes.right(v, a, count, size)[0], lanes.left(v, a, back, size))

    every = f"every {size}-bit element of src1"
    define(f"psll{letter}", f"Shift {every} left by src2; from {size} on: 0.", left)
    define(f"psrl{letter}", f"Shift {every} right by src2, bringing in zeros; from {size} on: 0.", right)
    define(f"psra{letter}", f"Shift {every} right by src2, bringing in signs; from {size} on: the signs.", arithmetic)
    define(f"psrc{letter}", f"Rotate {every} right by src2 modulo {size}.", rotate)


for _letter in "hwd":
    _shifts(_letter)


# --- multiply ----------------------------------------------------------------------------------------------

def _product(v: V, x: V, y: V, size: int, *, signed: bool = True) -> V:
    """The product of two elements in 32 bits."""
    if signed:
        return v.mul(v.sext(x, size, 32), v.sext(y, size, 32), 32)
    return v.mul(v.zext(x, 32), v.zext(y, 32), 32)


def _high(v: V, x: V, y: V, *, signed: bool) -> V:
    return v.trunc(v.lshr(_product(v, x, y, 16, signed=signed), v.const(16, 32), 32), 16)


def _rounded(v: V, x: V, y: V) -> V:
    scaled = v.ashr(_product(v, x, y, 16), v.const(14, 32), 32)
    return v.trunc(v.ashr(v.add(scaled, v.const(1, 32), 32), v.const(1, 32), 32), 16)


_by_lane("pmulhh", "high half of the signed product", 16, lambda v, x, y: _high(v, x, y, signed=True))
_by_lane("pmulhuh", "high half of the unsigned product", 16, lambda v, x, y: _high(v, x, y, signed=False))
_by_lane("pmullh", "low half of the product", 16, lambda v, x, y: v.mul(x, y, 16))
_by_lane("pmullw", "low half of the product", 32, lambda v, x, y: v.mul(x, y, 32))
_by_lane("pmulhrsh", "signed product / 2^15, rounded", 16, _rounded)


def pmaddh(v: V, a: V, b: V) -> V:
    """Multiply signed 16-bit elements and add neighbouring products: 32-bit elements."""
    products = [_product(v, x, y, 16) for x, y in zip(lanes.split(v, a, 16), lanes.split(v, b, 16), strict=True)]
    return lanes.join(v, [v.add(x, y, 32) for x, y in zip(products[::2], products[1::2], strict=True)], 32)


def pmaddubsh(v: V, a: V, b: V) -> V:
    """Multiply signed bytes of src1 by unsigned bytes of src2 and add neighbouring products, saturating to signed 16 bits."""
    products = [v.mul(v.sext(x, 8, 32), v.zext(y, 32), 32)
                for x, y in zip(lanes.split(v, a, 8), lanes.split(v, b, 8), strict=True)]
    sums = [v.add(x, y, 32) for x, y in zip(products[::2], products[1::2], strict=True)]
    return lanes.join(v, [lanes.saturate_signed(v, total, 16) for total in sums], 16)


def _dot(size: int, *, signed: bool) -> Meaning:
    """Dot products of the elements in each 32 bits, added to src3."""

    def dot(v: V, a: V, b: V, c: V) -> V:
        def wide(x: V) -> V:
            return v.sext(x, size, 32) if signed else v.zext(x, 32)

        sums = lanes.split(v, c, 32)
        for at, (x, y) in enumerate(zip(lanes.split(v, a, size), lanes.split(v, b, size), strict=True)):
            lane = at * size // 32
            sums[lane] = v.add(sums[lane], v.mul(wide(x), wide(y), 32), 32)
        return lanes.join(v, sums, 32)

    return dot


for _name, _size, _signed in (("bwss", 8, True), ("bwuu", 8, False), ("hwss", 16, True)):
    define(f"qpidots{_name}", f"Multiply {'signed' if _signed else 'unsigned'} {_size}-bit elements of src1 and src2, add the "
           f"{32 // _size} products in each 32 bits to that element of src3, wrapping.", _dot(_size, signed=_signed))


def _mulubhh(v: V, a: V, b: V, width: int) -> V:
    results = []
    for x, y in zip(lanes.split(v, a, 8, 64), lanes.split(v, b, 16, width), strict=False):
        product = v.mul(v.zext(x, 32), v.sext(y, 16, 32), 32)
        results.append(v.trunc(v.lshr(v.add(product, v.const(0x80, 32), 32), v.const(8, 32), 32), 16))
    return lanes.join(v, results, 16, width)


define("pmulubhh", "Multiply the low four unsigned bytes of src1 by signed 16-bit elements of src2, divide by 256, rounded.",
       lambda v, a, b: _mulubhh(v, a, b, 64))
define("qpmulubhh", "Multiply the eight unsigned bytes of src1 by signed 16-bit elements of src2, divide by 256, rounded.",
       lambda v, a, b: _mulubhh(v, a, b, 128))


# --- sums of differences, counts -----------------------------------------------------------------------------

def psadbw(v: V, a: V, b: V) -> V:
    """Per 64 bits: the sum of the absolute differences of the unsigned bytes."""
    apart = v.or_(lanes.sub_unsigned(v, a, b, 8), lanes.sub_unsigned(v, b, a, 8))
    even = v.const(lanes.repeat(0xFF, 16, v.bits))
    pairs = v.add(v.and_(apart, even), v.and_(v.lshr(apart, v.const(8)), even))
    sums = [v.lshr(v.mul(part, v.const(lanes.repeat(1, 16, 64), 64), 64), v.const(48, 64), 64)
            for part in lanes.split(v, pairs, 64)]
    return lanes.join(v, sums, 64)


def mpsadbh(v: V, a: V, b: V) -> V:
    """Per 64 bits four 16-bit sums of absolute byte differences: element i sums |src1[i+k] - src2[k]| over k = 0..3.

    The four bytes of src2 are its lowest, for both halves.
    """
    first, second = lanes.split(v, a, 8), lanes.split(v, b, 8, 32)
    sums = []
    for lane in range(v.bits // 16):
        total = v.const(0, 16)
        for k in range(4):
            apart = lanes.distance(v, first[lane // 4 * 8 + lane % 4 + k], second[k], 8)
            total = v.add(total, v.zext(apart, 16), 16)
        sums.append(total)
    return lanes.join(v, sums, 16)


MEANINGS["pmaddh"], MEANINGS["pmaddubsh"], MEANINGS["psadbw"] = pmaddh, pmaddubsh, psadbw
MEANINGS["mpsadbh"] = MEANINGS["qpmpsadbh"] = mpsadbh


def popcnt(v: V, b: V) -> V:
    """The number of ones."""
    return v.popcount(b)


MEANINGS["popcnts"] = MEANINGS["popcntd"] = popcnt

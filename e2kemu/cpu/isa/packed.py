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


def _saturating(operation: str, size: int, *, signed: bool) -> Callable[..., V]:
    """src1 op src2, computed in 32 bits and made to fit."""

    def saturating(v: V, x: V, y: V) -> V:
        x, y = (v.sext(x, size, 32), v.sext(y, size, 32)) if signed else (v.zext(x, 32), v.zext(y, 32))
        result = v.add(x, y, 32) if operation == "add" else v.sub(x, y, 32)
        return lanes.saturate_signed(v, result, size) if signed else lanes.saturate_unsigned(v, result, size)

    return saturating


# --- add, subtract, average --------------------------------------------------------------------------

def _wrapping(letter: str, size: int) -> None:
    define(f"padd{letter}", f"Per {size}-bit element: add, wrapping.", lambda v, a, b: lanes.add(v, a, b, size))
    define(f"psub{letter}", f"Per {size}-bit element: subtract, wrapping.", lambda v, a, b: lanes.sub(v, a, b, size))


for _letter, _size in SIZES.items():
    _wrapping(_letter, _size)
for _letter in "bh":
    _size = SIZES[_letter]
    for _operation in ("add", "sub"):
        for _code, _words in (("s", "signed"), ("us", "unsigned")):
            _by_lane(f"p{_operation}{_code}{_letter}", f"{_operation}, saturating to {_words}", _size,
                     _saturating(_operation, _size, signed=_code == "s"))


def _average(size: int) -> Callable[..., V]:
    def average(v: V, x: V, y: V) -> V:
        total = v.add(v.add(v.zext(x, 32), v.zext(y, 32), 32), v.const(1, 32), 32)
        return v.trunc(v.lshr(total, v.const(1, 32), 32), size)

    return average


for _letter in "bh":
    _by_lane(f"pavgus{_letter}", "(src1 + src2 + 1) / 2, unsigned", SIZES[_letter], _average(SIZES[_letter]))


def _horizontal(operation: str, letter: str, *, saturating: bool) -> None:
    size = SIZES[letter[-1]]

    def combine(v: V, x: V, y: V) -> V:
        if saturating:
            return _saturating(operation, size, signed=True)(v, x, y)
        return v.add(x, y, size) if operation == "add" else v.sub(x, y, size)

    def meaning(v: V, a: V, b: V) -> V:
        row = lanes.split(v, a, size) + lanes.split(v, b, size)
        return lanes.join(v, [combine(v, x, y) for x, y in zip(row[::2], row[1::2], strict=True)], size)

    ending = ", saturating to signed" if saturating else ""
    define(f"ph{operation}{letter}", f"{operation.capitalize()} neighbours of {size} bits (the even {'plus' if operation == 'add' else 'minus'} "
           f"the odd one){ending}: the low half from src1, the high half from src2.", meaning)


for _operation in ("add", "sub"):
    for _letter in ("h", "w", "sh"):
        _horizontal(_operation, _letter, saturating=_letter == "sh")


def _sign(size: int) -> Callable[..., V]:
    def sign(v: V, x: V, y: V) -> V:
        zero = v.const(0, size)
        return v.select(v.slt(y, zero, size), v.sub(zero, x, size), v.select(v.eq(y, zero), zero, x))

    return sign


for _letter in "bhw":
    _by_lane(f"psign{_letter}", "src1 with the sign of src2: negated, 0 or unchanged", SIZES[_letter], _sign(SIZES[_letter]))


# --- compare -------------------------------------------------------------------------------------------

def _extreme(size: int, *, signed: bool, largest: bool) -> Callable[..., V]:
    def extreme(v: V, x: V, y: V) -> V:
        less = v.slt(x, y, size) if signed else v.ult(x, y)
        return v.select(less, y, x) if largest else v.select(less, x, y)

    return extreme


for _letter in "bhw":
    for _signed in (False, True):
        for _largest in (False, True):
            _by_lane(f"p{'max' if _largest else 'min'}{'s' if _signed else 'u'}{_letter}",
                     f"the {'greater' if _largest else 'lesser'}, {'signed' if _signed else 'unsigned'}",
                     SIZES[_letter], _extreme(SIZES[_letter], signed=_signed, largest=_largest))

_RELATIONS = {"eq": "src1 = src2", "gt": "src1 > src2, signed"}


def _holds(v: V, relation: str, x: V, y: V, size: int) -> V:
    """A bit."""
    return v.eq(x, y) if relation == "eq" else v.slt(y, x, size)


def _compare(relation: str, letter: str) -> None:
    size = SIZES[letter]
    _by_lane(f"pcmp{relation}{letter}", f"all ones when {_RELATIONS[relation]}, else 0", size,
             lambda v, x, y: lanes.mask(v, _holds(v, relation, x, y, size), size))

    def predicate(v: V, a: V, b: V, *, every: bool) -> V:
        result = v.const(int(every), 1)
        for x, y in zip(lanes.split(v, a, size), lanes.split(v, b, size), strict=True):
            bit = _holds(v, relation, x, y, size)
            result = v.and_(result, bit) if every else v.or_(result, bit)
        return result

    for ending, words in (("op", "any"), ("ap", "every")):
        define(f"pcmp{relation}{letter}{ending}", f"{_RELATIONS[relation]} in {words} element of {size} bits.",
               lambda v, a, b, every=ending == "ap": predicate(v, a, b, every=every))


for _relation in _RELATIONS:
    for _letter in SIZES:
        _compare(_relation, _letter)


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
    ones = (1 << size) - 1

    def count(v: V, b: V, beyond: int) -> V:
        """The 64-bit count b, or ``beyond`` when it reaches the width of an element."""
        fits = v.ult(b, v.const(size, 64))
        return v.zext(v.select(fits, b, v.const(beyond, 64)), v.bits)

    def kept(v: V, b: V, a: V) -> V:
        return v.select(v.ult(b, v.const(size, 64)), a, v.const(0))

    def left(v: V, a: V, b: V) -> V:
        n = count(v, b, 0)
        pattern = v.mul(v.and_(v.shl(v.const(ones), n), v.const(ones)), v.const(lanes.repeat(1, size, v.bits)))
        return kept(v, b, v.and_(v.shl(a, n), pattern))

    def right(v: V, a: V, b: V) -> V:
        n = count(v, b, 0)
        pattern = v.mul(v.lshr(v.const(ones), n), v.const(lanes.repeat(1, size, v.bits)))
        return kept(v, b, v.and_(v.lshr(a, n), pattern))

    def arithmetic(v: V, a: V, b: V) -> V:
        n = v.trunc(count(v, b, size - 1), size)
        return lanes.each(v, size, lambda x: v.ashr(x, n, size), a)

    def rotate(v: V, a: V, b: V) -> V:
        n = v.trunc(v.and_(b, v.const(size - 1, 64)), size)
        back = v.and_(v.sub(v.const(0, size), n, size), v.const(size - 1, size))
        return lanes.each(v, size, lambda x: v.or_(v.lshr(x, n, size), v.shl(x, back, size)), a)

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
    apart = [v.zext(lanes.distance(v, x, y, 8), 64)
             for x, y in zip(lanes.split(v, a, 8), lanes.split(v, b, 8), strict=True)]
    sums = []
    for start in range(0, len(apart), 8):
        total = apart[start]
        for term in apart[start + 1 : start + 8]:
            total = v.add(total, term, 64)
        sums.append(total)
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
